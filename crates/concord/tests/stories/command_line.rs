//! The commands as people use them: exit codes, JSON, and that they work while `run` runs and while it does not.

use crate::world::World;
use serde_json::json;

#[test]
fn a_mistake_is_shown_at_its_line_and_touches_nothing() {
    let world = World::new(&json!({ "match_on": ["emial"] }));
    let said = world.concord(&["check", "--connect", "FILE"]);
    assert_eq!(said.exit, 2, "{said:?}");
    assert!(said.err.contains("accounts.json:") && said.err.contains('^') && said.err.contains("`email`"), "{said:?}");
    assert!(!world.store().exists());
}

#[test]
fn the_schema_that_is_printed_is_that_of_the_language() {
    let world = World::new(&json!({}));
    for arguments in [&["schema"][..], &["schema", "--json"]] {
        let said = world.concord(arguments);
        let printed: serde_json::Value = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"));
        assert_eq!((said.exit, printed), (0, concord_engine::config::json_schema()));
    }
    assert!(!world.store().exists());
}

#[test]
fn a_pause_holds_writes_back_and_a_resume_lets_them_go() {
    let world = World::new(&json!({}));
    let running = world.run(&["--auto-approve"]);
    assert_eq!(world.concord(&["pause", "accounts"]).exit, 0);
    running.until("the sync is paused", || running.status().is_some_and(|sync| sync["stage"] == "paused"));
    world.crm.psql("INSERT INTO accounts (name, email) VALUES ('Alder', 'a@x.example')");
    running.until("the change has been seen", || running.status().is_some_and(|sync| sync["observed"].as_u64() > Some(0)));
    assert_eq!(world.erp.psql("SELECT count(*) FROM customers"), "0");
    running.stop();

    // It stays paused over a restart, and can be resumed while nothing runs.
    let status = world.json(&["status"]);
    assert_eq!(status["syncs"][0]["stage"], "not running (paused)", "{status:#}");
    assert_eq!(world.concord(&["resume"]).exit, 0);
    let running = world.run(&[]);
    running.until_level();
    assert_eq!(world.erp.psql("SELECT count(*) FROM customers"), "1");
    assert_eq!(world.concord(&["pause", "nobody"]).exit, 2);
    running.stop();
}

#[test]
fn a_release_leaves_nothing_behind_and_a_later_run_asks_again() {
    let world = World::new(&json!({}));
    world.crm.psql("INSERT INTO accounts (name, email) VALUES ('Alder', 'a@x.example')");
    let done = world.concord(&["run", "FILE", "--once", "--auto-approve"]);
    assert_eq!(done.exit, 0, "{done:?}");
    let made = "SELECT (SELECT count(*) FROM pg_replication_slots WHERE database = current_database()) + (SELECT count(*) FROM pg_publication)";
    assert_ne!(world.crm.psql(made), "0");
    let released = world.concord(&["release", "FILE"]);
    assert_eq!(released.exit, 0, "{released:?}");
    assert_eq!((world.crm.psql(made), world.erp.psql(made)), ("0".to_string(), "0".to_string()));
    assert_eq!(world.concord(&["run", "FILE", "--once"]).exit, 2, "a run after a release needs a plan");
    world.crm.psql("UPDATE accounts SET city = 'Lyon'");
    let again = world.concord(&["run", "FILE", "--once", "--auto-approve"]);
    assert_eq!(again.exit, 0, "{again:?}");
    assert_eq!(world.erp.psql("SELECT count(*), min(town) FROM customers"), "1|Lyon");
}

#[test]
fn a_release_while_run_runs_leaves_nothing_behind_and_ends_the_run() {
    let world = World::new(&json!({}));
    world.crm.psql("INSERT INTO accounts (name, email) VALUES ('Alder', 'a@x.example')");
    let running = world.run(&["--auto-approve"]);
    running.until_level();
    let released = world.concord(&["release", "FILE", "--json"]);
    assert_eq!(released.exit, 0, "{released:?}");
    let told: serde_json::Value = serde_json::from_str(&released.out).unwrap();
    assert_eq!(told, json!({ "released": ["crm", "erp"], "failed": [], "leftovers": [], "ok": true }));
    assert_eq!(running.end(), 0);
    let made = "SELECT (SELECT count(*) FROM pg_replication_slots WHERE database = current_database()) + (SELECT count(*) FROM pg_publication)";
    assert_eq!((world.crm.psql(made), world.erp.psql(made)), ("0".to_string(), "0".to_string()));
    let refused = world.concord(&["run", "FILE", "--once"]);
    assert!(refused.exit == 2 && refused.err.contains("CON-5002"), "{refused:?}");
}

#[test]
fn a_repair_never_begins_a_sync_that_nobody_approved() {
    let world = World::new(&json!({}));
    world.crm.psql("INSERT INTO accounts (name, email) VALUES ('Alder', 'a@x.example')");
    let refused = world.concord(&["verify", "FILE", "--repair"]);
    assert!(refused.exit == 2 && refused.err.contains("CON-5002"), "{refused:?}");
    assert_eq!(world.erp.psql("SELECT count(*) FROM customers"), "0");
}

#[test]
fn an_edit_that_was_not_carried_over_yet_is_found_by_verify_and_repaired() {
    let world = World::new(&json!({}));
    world.crm.psql(
        "INSERT INTO accounts (name, email, city) VALUES ('Alder', 'a@x.example', 'Leeds'), ('Blue', 'b@x.example', 'Graz')",
    );
    assert_eq!(world.concord(&["run", "FILE", "--once", "--auto-approve"]).exit, 0);
    world.erp.psql("UPDATE customers SET town = 'Porto' WHERE mail = 'a@x.example'");
    let found = world.concord(&["verify", "FILE", "--json"]);
    assert_eq!(found.exit, 1, "{found:?}");
    let report: serde_json::Value = serde_json::from_str(&found.out).unwrap();
    assert_eq!(report["syncs"][0]["differences"][0]["fields"], json!([["city", "Leeds", "Porto"]]), "{report:#}");
    let repaired = world.concord(&["verify", "FILE", "--repair"]);
    assert_eq!(repaired.exit, 0, "{repaired:?}");
    assert!(world.is_equal(), "{:?}", world.sides());
}

#[test]
fn a_key_that_two_records_have_is_told_of_by_system() {
    let world = World::new(&json!({}));
    world.crm.psql("INSERT INTO accounts (id, name, email) VALUES (1, 'Alder', 'a@x.example'), (2, 'Blue', 'b@x.example')");
    world.erp.psql("INSERT INTO customers (customer_no, company, mail) VALUES (1, 'Blue', 'b@x.example')");
    world.erp.psql("SELECT setval('customers_customer_no_seq', 10)");
    assert_eq!(world.concord(&["run", "FILE", "--once", "--auto-approve"]).exit, 0);
    let of = |key: &str| world.json(&["explain", "accounts", key]);
    let (plain, named) = (of("1"), of("erp:1"));
    assert_eq!((&plain["members"][0]["values"][0][1], &plain["others"]), (&json!("Alder"), &json!(["erp:1"])), "{plain:#}");
    assert_eq!((&named["members"][0]["values"][0][1], &named["members"][0]["key"]), (&json!("Blue"), &json!("2")), "{named:#}");
    assert_eq!(of("11")["members"][0]["key"], "1");
    assert_eq!(world.concord(&["explain", "accounts", "crm:11"]).exit, 2);
}

#[test]
fn a_kept_secret_opens_a_connection_and_is_never_printed() {
    let world = World::new(&json!({}));
    let mut set = world.command(&["secret", "set", "crm_password"]);
    set.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = set.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"hunter2\n").unwrap();
    let said = child.wait_with_output().unwrap();
    assert!(said.status.success() && !String::from_utf8_lossy(&said.stdout).contains("hunter2"));
    let text = std::fs::read_to_string(world.file()).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["connections"]["crm"]["credentials"]["password"] = json!({ "secret": "crm_password" });
    std::fs::write(world.file(), config.to_string()).unwrap();
    assert_eq!(world.concord(&["run", "FILE", "--once", "--auto-approve"]).exit, 0);
    config["connections"]["crm"]["credentials"]["password"] = json!({ "secret": "another" });
    std::fs::write(world.file(), config.to_string()).unwrap();
    let missing = world.concord(&["run", "FILE", "--once"]);
    assert_eq!(missing.exit, 3, "{missing:?}");
    assert!(missing.err.contains("concord secret set another"), "{missing:?}");
}
