//! Several files that share a store: what is said of one does not touch the other, or says that it would.

use crate::gateway::Gateway;
use crate::world::{World, connection};
use serde_json::{Value, json};

/// Two syncs between the same two databases, each in a file of its own; gives back the second file.
pub fn two_files(world: &World) -> String {
    world.crm.psql("CREATE TABLE contacts (LIKE accounts INCLUDING ALL)");
    world.erp.psql("CREATE TABLE people (LIKE customers INCLUDING ALL)");
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(world.file()).unwrap()).unwrap();
    config["name"] = json!("contacts");
    config["source"]["object"] = json!("contacts");
    config["target"]["object"] = json!("people");
    let file = world.folder().join("contacts.json");
    std::fs::write(&file, config.to_string()).unwrap();
    world.crm.psql("INSERT INTO accounts (name, email, city) VALUES ('Alder', 'a@x.example', 'Leeds')");
    world.crm.psql("INSERT INTO contacts (name, email, city) VALUES ('Ada', 'ada@x.example', 'Graz')");
    file.display().to_string()
}

#[test]
fn what_one_file_asks_of_the_process_that_runs_both_leaves_the_other_alone() {
    let world = World::new(&json!({}));
    let other = two_files(&world);
    let running = world.run(&[&other, "--auto-approve"]);
    running.until_level();
    let refused = world.concord(&["release", "FILE"]);
    assert!(refused.exit == 2 && refused.err.contains("CON-5012") && refused.err.contains("contacts"), "{refused:?}");
    let verified = world.json(&["verify", &other]);
    assert_eq!(verified["syncs"].as_array().map(Vec::len), Some(1), "{verified:#}");
    assert_eq!((&verified["syncs"][0]["name"], &verified["syncs"][0]["equal"]), (&json!("contacts"), &json!(1)), "{verified:#}");
    running.stop();

    // With the other file alone, the first one is not looked at, and that is not called equal.
    let file = world.file().display().to_string();
    std::fs::rename(&file, world.folder().join("first.json")).unwrap();
    std::fs::copy(&other, &file).unwrap();
    let running = world.run(&[]);
    let first = world.folder().join("first.json").display().to_string();
    let unlooked = world.concord(&["verify", &first]);
    assert!(unlooked.exit == 2 && unlooked.err.contains("CON-3021"), "{unlooked:?}");
    running.stop();
}

#[test]
fn what_is_released_for_one_file_is_read_again_by_the_other() {
    let world = World::new(&json!({}));
    let other = two_files(&world);
    assert_eq!(world.concord(&["run", "FILE", &other, "--once", "--auto-approve"]).exit, 0);
    assert_eq!(world.concord(&["release", "FILE"]).exit, 0);
    world.crm.psql("UPDATE contacts SET city = 'Lyon'");
    let again = world.concord(&["run", &other, "--once"]);
    assert_eq!(again.exit, 0, "{again:?}");
    assert_eq!(world.erp.psql("SELECT town FROM people"), "Lyon");
}

#[test]
fn a_sync_that_names_another_table_is_refused_and_deletes_nothing() {
    let world = World::new(&json!({}));
    two_files(&world);
    assert_eq!(world.concord(&["run", "FILE", "--once", "--auto-approve"]).exit, 0);
    world.configure(&json!({ "source": { "system": "crm", "object": "contacts" } }));
    for approval in [&["run", "FILE", "--once"][..], &["run", "FILE", "--once", "--auto-approve"]] {
        let refused = world.concord(approval);
        assert!(refused.exit == 2 && refused.err.contains("CON-5013") && refused.err.contains("accounts"), "{refused:?}");
    }
    assert_eq!(world.erp.psql("SELECT count(*) FROM customers"), "1");
    world.configure(&json!({}));
    assert_eq!(world.concord(&["run", "FILE", "--once"]).exit, 0);
}

#[test]
fn a_pause_where_nothing_has_run_says_so_and_makes_no_store() {
    let world = World::new(&json!({}));
    let said = world.concord(&["pause"]);
    assert!(said.exit == 3 && said.err.contains("CON-4008"), "{said:?}");
    assert!(!world.store().exists());
}

#[test]
fn what_is_wrong_with_a_sync_that_had_to_wait_ends_no_other() {
    let world = World::new(&json!({}));
    let other = two_files(&world);
    assert_eq!(world.concord(&["run", "FILE", "--once", "--auto-approve"]).exit, 0);
    let gateway = Gateway::to(world.erp.server.port());
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&other).unwrap()).unwrap();
    config["connections"] = json!({
        "crm": connection(&world.crm, world.crm.server.port()), "far": connection(&world.erp, gateway.port()) });
    config["target"]["system"] = json!("far");
    std::fs::write(&other, config.to_string()).unwrap();
    world.erp.psql("ALTER TABLE people RENAME TO later");

    gateway.close();
    let mut running = world.run(&[&other]);
    let contacts = || {
        let told = world.json(&["status"]);
        let found = told["syncs"].as_array().and_then(|all| all.iter().find(|sync| sync["name"] == "contacts").cloned());
        found.map_or_else(String::new, |sync| sync["stage"].as_str().unwrap_or_default().to_string())
    };
    running.until("its system cannot be reached", || contacts().starts_with("waiting: CON-2001"));
    gateway.open();
    running.until("its table is not there", || contacts().starts_with("waiting: CON-20") && contacts().contains("people"));
    let carried = |city: &str| {
        world.crm.psql(&format!("UPDATE accounts SET city = '{city}'"));
        running.until("the other flows", || world.erp.psql("SELECT town FROM customers") == city);
    };
    carried("Lyon");
    world.erp.psql("ALTER TABLE later RENAME TO people");
    running.until("nobody has approved it", || contacts().starts_with("stopped: CON-5002"));
    carried("Graz");
    assert!(!running.has_ended());
    assert_eq!(world.erp.psql("SELECT count(*) FROM people"), "0");
    running.stop();
}
