//! Rights that the target's role lacks: said before anything is tried, by the statement that grants them, and by the status of a
//! process that tries all the same.

use crate::world::{World, connection};
use serde_json::{Value, json};

/// A world whose second system is reached as a role that may only read there; its name.
fn world() -> (World, String) {
    let world = World::new(&json!({}));
    let role = format!("reader_{}", world.erp.name);
    // The owner's rights are those of the role: all of them but the writing ones.
    world.erp.psql(&format!(
        "CREATE ROLE {role} LOGIN REPLICATION IN ROLE postgres; REVOKE INSERT, UPDATE, DELETE ON customers FROM postgres"
    ));
    world.configure(&connections(&world, &role));
    world.crm.psql("INSERT INTO accounts (name, email) VALUES ('Alder', 'a@x.example')");
    (world, role)
}

fn connections(world: &World, role: &str) -> Value {
    let crm = connection(&world.crm, world.crm.server.port());
    let mut erp = connection(&world.erp, world.erp.server.port());
    erp["credentials"]["username"] = json!(role);
    json!({ "connections": { "crm": crm, "erp": erp } })
}

#[test]
fn a_role_that_may_not_write_where_the_sync_writes_is_an_error_with_its_grant() {
    let (world, role) = world();
    let grant = format!("GRANT INSERT, UPDATE, DELETE ON \"public\".\"customers\" TO \"{role}\";");
    let said = world.concord(&["check", "--connect", "FILE"]);
    assert!(said.exit == 3 && said.err.contains("error[CON-2003]") && said.err.contains(&grant), "{said:?}");
    let checked = world.json(&["check", "--connect", "FILE"]);
    assert_eq!(checked["ok"], false, "{checked:#}");

    let running = world.start(&["--auto-approve"], &[]);
    let reach = || running.status().map(|sync| sync["members"][1]["reach"].as_str().unwrap_or_default().to_owned());
    let granting = format!("GRANT INSERT ON \"public\".\"customers\" TO \"{role}\";");
    let is_said =
        || reach().is_some_and(|reach| reach.contains("CON-2003") && (reach.contains(&grant) || reach.contains(&granting)));
    running.until("the status names the statement", is_said);
    let said = running.said();
    assert!(said.find("error[CON-2003]").is_some_and(|named| said[named..].contains(&grant)), "said at the start: {said}");
    world.erp.psql(&grant);
    running.until_level();
    assert_eq!(world.erp.psql("SELECT count(*) FROM customers"), "1");
    running.stop();
    let checked = world.concord(&["check", "--connect", "FILE"]);
    assert_eq!(checked.exit, 0, "{checked:?}");
}

#[test]
fn a_role_that_may_not_write_where_the_sync_only_reads_is_fine() {
    let (world, role) = world();
    let mut settings = connections(&world, &role);
    settings["sync_type"] = json!("one_way");
    settings["source"] = json!({ "system": "erp", "object": "customers" });
    settings["target"] = json!({ "system": "crm", "object": "accounts" });
    settings["match_on"] = json!(["mail"]);
    settings["field_mappings"] = json!([
        { "source": "company", "target": "name" }, { "source": "mail", "target": "email" }, { "source": "tel", "target": "phone" },
        { "source": "town", "target": "city" }
    ]);
    world.configure(&settings);
    let checked = world.json(&["check", "--connect", "FILE"]);
    assert_eq!(checked["ok"], true, "{checked:#}");
    let findings = checked["findings"].as_array().unwrap();
    assert!(findings.iter().all(|finding| finding["code"] != "CON-2003"), "{checked:#}");
    // Deletes that do not flow take no right to delete.
    settings["source"] = json!({ "system": "crm", "object": "accounts" });
    settings["target"] = json!({ "system": "erp", "object": "customers" });
    settings["on_delete"] = json!("ignore");
    settings["match_on"] = json!(["email"]);
    settings["field_mappings"] = json!([{ "source": "name", "target": "company" }, { "source": "email", "target": "mail" }]);
    world.configure(&settings);
    let checked = world.concord(&["check", "--connect", "FILE"]);
    let grant = format!("GRANT INSERT, UPDATE ON \"public\".\"customers\" TO \"{role}\";");
    assert!(checked.exit == 3 && checked.err.contains(&grant), "{checked:?}");
}

#[test]
fn a_plan_names_what_may_not_be_written_and_is_not_approved_before_it_may_be() {
    let (world, role) = world();
    let grant = format!("GRANT INSERT, UPDATE, DELETE ON \"public\".\"customers\" TO \"{role}\";");
    let planned = world.concord(&["plan", "FILE"]);
    assert!(planned.exit == 3 && planned.err.contains("error[CON-2003]") && planned.err.contains(&grant), "{planned:?}");
    assert!(planned.out.contains("cannot be carried out as things are"), "{planned:?}");
    let told = world.json(&["plan", "FILE"]);
    let named =
        |finding: &Value| finding["code"] == "CON-2003" && finding["severity"] == "error" && finding["remedy"] == json!(grant);
    assert_eq!(told["findings"].as_array().unwrap().iter().filter(|finding| named(finding)).count(), 1, "{told:#}");
    assert_eq!(told["plan"]["runs"][0]["members"][1]["creates"], 1, "it is planned all the same: {told:#}");

    let id = told["plan"]["id"].as_str().unwrap();
    let refused = world.concord(&["run", "FILE", "--once", "--approve", id]);
    assert!(refused.exit == 3 && refused.err.contains("cannot be carried out") && refused.err.contains(&grant), "{refused:?}");
    let slots = "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()";
    assert_eq!((world.crm.psql(slots), world.erp.psql(slots)), ("0".to_owned(), "0".to_owned()), "nothing was begun");

    world.erp.psql(&grant);
    assert_eq!(world.concord(&["plan", "FILE"]).exit, 0);
    let done = world.concord(&["run", "FILE", "--once", "--approve", id]);
    assert_eq!(done.exit, 0, "{done:?}");
    assert_eq!(world.erp.psql("SELECT count(*) FROM customers"), "1");
}
