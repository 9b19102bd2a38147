//! Outages: servers that go and come back, slots that are dropped, settings that are wrong. Nothing ends because of them,
//! nothing is run over silently, and what is to be done is said.

use crate::gateway::Gateway;
use crate::postgres::{Options, Server};
use crate::world::{World, connection};
use serde_json::json;
use std::sync::Arc;

#[test]
fn a_server_that_goes_is_shown_and_what_happened_meanwhile_flows_when_it_is_back() {
    let world = World::new(&json!({}));
    let gateway = Gateway::to(world.erp.server.port());
    let connections = json!({
        "crm": connection(&world.crm, world.crm.server.port()), "erp": connection(&world.erp, gateway.port()) });
    world.configure(&json!({ "connections": connections }));
    let mut running = world.run(&["--auto-approve"]);
    world.crm.psql("INSERT INTO accounts (name, email) VALUES ('Alder', 'a@x.example')");
    running.until_level();

    gateway.close();
    world.crm.psql("UPDATE accounts SET city = 'Lyon'; INSERT INTO accounts (name, email) VALUES ('Blue', 'b@x.example')");
    world.erp.psql("UPDATE customers SET tel = '7'");
    running.until("the outage shows", || {
        let status = running.status().unwrap_or_default();
        let erp = &status["members"][1];
        erp["reach"].as_str().is_some_and(|reach| reach.contains("since")) && status["members"][0]["reach"] == "up"
    });
    let text = world.concord(&["status"]).out;
    assert!(text.contains("trouble erp") && text.contains("CON-2001"), "{text}");
    assert!(!running.has_ended());

    gateway.open();
    running.until_level();
    assert_eq!(world.sides().0, "Alder|a@x.example|7|Lyon\nBlue|b@x.example||");
    // Once for the outage, and at most once more for a slot that the server has not let go of yet.
    assert!((1..=2).contains(&running.said().matches("feed lost").count()), "{}", running.said());
    assert!(running.said().contains("feed found again"), "{}", running.said());
    running.stop();
}

/// The slots of a database, dropped as an administrator does who does not know whose they are.
const DROP_SLOTS: &str = "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE database = current_database() AND active; \
     SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()";

fn gap() -> World {
    let world = World::new(&json!({}));
    world.crm.psql("INSERT INTO accounts (name, email) VALUES ('Alder', 'a@x.example'), ('Blue', 'b@x.example')");
    assert_eq!(world.concord(&["run", "FILE", "--once", "--auto-approve"]).exit, 0);
    world.crm.psql(DROP_SLOTS);
    world.crm.psql(
        "DELETE FROM accounts WHERE email = 'b@x.example'; INSERT INTO accounts (name, email) VALUES ('Crag', 'c@x.example'); \
         UPDATE accounts SET city = 'Lyon' WHERE email = 'a@x.example'",
    );
    world.erp.psql("UPDATE customers SET tel = '7' WHERE mail = 'a@x.example'");
    world
}

const AFTER: &str = "Alder|a@x.example|7|Lyon\nCrag|c@x.example||";

#[test]
fn a_dropped_slot_stops_the_sync_and_the_offered_repair_reads_what_was_missed() {
    let world = gap();
    let running = world.start(&[], &[]);
    running.until("the gap is found", || {
        running.status().is_some_and(|sync| sync["stage"].as_str().is_some_and(|stage| stage.contains("CON-2008")))
    });
    let refused = world.concord(&["resume", "accounts"]);
    assert!(refused.exit == 3 && refused.err.contains("concord verify --repair"), "{refused:?}");
    assert_eq!(world.erp.psql("SELECT count(*) FROM customers WHERE mail IN ('b@x.example', 'c@x.example')"), "1");

    let found = world.concord(&["verify", "FILE"]);
    assert_eq!(found.exit, 1, "{found:?}");
    let repaired = world.concord(&["verify", "FILE", "--repair"]);
    assert_eq!(repaired.exit, 0, "{repaired:?}");
    assert_eq!((world.sides().0.as_str(), world.is_equal()), (AFTER, true));
    world.crm.psql("UPDATE accounts SET phone = '9' WHERE email = 'c@x.example'");
    running.until_level();
    running.stop();
}

#[test]
fn a_run_until_level_ends_at_a_gap_and_a_repair_while_nothing_runs_accepts_it() {
    let world = gap();
    let ended = world.concord(&["run", "FILE", "--once"]);
    assert!(ended.exit == 3 && ended.err.contains("CON-2008"), "{ended:?}");
    let repaired = world.concord(&["verify", "FILE", "--repair"]);
    assert_eq!(repaired.exit, 0, "{repaired:?}");
    assert_eq!((world.sides().0.as_str(), world.is_equal()), (AFTER, true));
    assert_eq!(world.concord(&["run", "FILE", "--once"]).exit, 0);
}

#[test]
fn a_server_without_logical_log_is_named_with_the_statement_and_asked_with_patience() {
    let deaf = Options { settings: vec![("wal_level".into(), "replica".into())], ..Options::default() };
    let deaf = Arc::new(Server::start(&deaf));
    let world = World::between(Server::shared().database(), deaf.database(), &json!({}));
    let statement = "ALTER SYSTEM SET wal_level = logical";
    let checked = world.concord(&["check", "--connect", "FILE"]);
    assert!(checked.exit == 3 && checked.err.contains(statement), "{checked:?}");
    let ended = world.concord(&["run", "FILE", "--once", "--auto-approve"]);
    assert!(ended.exit == 3 && ended.err.contains(statement), "{ended:?}");
    let named = ended.err.find("error[CON-2004]").expect("named before the first attempt");
    assert!(named < ended.err.find("feed lost").unwrap(), "{ended:?}");
    assert_eq!(ended.err.matches("feed lost").count(), 1, "said once, not at every attempt: {ended:?}");
}

#[test]
fn a_missing_privilege_is_named_with_its_grant_by_every_command_that_meets_it() {
    let world = World::new(&json!({}));
    let role = format!("poor_{}", world.crm.name);
    world.crm.psql(&format!("CREATE ROLE {role} LOGIN REPLICATION"));
    let mut crm = connection(&world.crm, world.crm.server.port());
    crm["credentials"]["username"] = json!(role);
    let erp = connection(&world.erp, world.erp.server.port());
    world.configure(&json!({ "connections": { "crm": crm, "erp": erp } }));
    let grant = format!("GRANT SELECT ON \"public\".\"accounts\" TO \"{role}\";");
    for command in [&["check", "--connect", "FILE"][..], &["plan", "FILE"], &["run", "FILE", "--once", "--auto-approve"]] {
        let said = world.concord(command);
        assert!(said.exit == 3 && said.err.contains(&grant), "{command:?}: {said:?}");
    }
    assert_eq!(world.erp.psql("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"), "0");
}

/// Nobody reads a feed whose sync waits for its other system: that is when the log grows until the disk is full.
#[test]
fn the_log_that_is_kept_for_a_sync_is_shown_and_warned_of_while_its_target_is_away_at_the_start() {
    let one_way = json!({ "sync_type": "one_way", "match_on": ["id"], "target": { "system": "erp", "object": "accounts" }, "field_mappings": [
        { "source": "id", "target": "id" }, { "source": "name", "target": "name" } ] });
    for settings in [one_way, json!({})] {
        let options = Options { settings: vec![("max_slot_wal_keep_size".into(), "64MB".into())], ..Options::default() };
        let (server, shared) = (Arc::new(Server::start(&options)), Server::shared());
        let world = World::between(server.database(), shared.database(), &settings);
        world.erp.psql("CREATE TABLE accounts (id int PRIMARY KEY, name text)");
        let gateway = Gateway::to(world.erp.server.port());
        let mut settings = settings.clone();
        settings["connections"] =
            json!({ "crm": connection(&world.crm, world.crm.server.port()), "erp": connection(&world.erp, gateway.port()) });
        world.configure(&settings);
        world.crm.psql("INSERT INTO accounts (name, email) VALUES ('Alder', 'a@x.example')");
        let running = world.run(&["--auto-approve"]);
        let is_level = |running: &crate::world::Running<'_>| running.status().is_some_and(|sync| sync["level"] == true);
        running.until("it is level", || is_level(&running));
        running.stop();
        gateway.close();
        world.crm.psql("SELECT count(pg_logical_emit_message(false, 'other', repeat('x', 1000000))) FROM generate_series(1, 50)");
        let running = world.start(&["--auto-approve", "--metrics-port", "0"], &[]);
        let slot = world.crm.psql("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()");
        running.until("the log is shown and warned of", || {
            let status = world.json(&["status"]);
            let feeds = status["feeds"].as_array().cloned().unwrap_or_default();
            feeds.iter().any(|feed| {
                feed["feed"] == slot.as_str()
                    && feed["retained_bytes"].as_u64().is_some_and(|bytes| bytes > 45_000_000)
                    && feed["warning"].as_str().is_some_and(|warning| warning.contains("max_slot_wal_keep_size"))
            })
        });
        // Until the process answers, the source itself has told of it.
        let waits =
            || running.status().is_some_and(|sync| sync["stage"].as_str().is_some_and(|stage| stage.starts_with("waiting")));
        running.until("the sync waits, and it is said what that holds back", || waits() && running.said().contains("holds back"));
        gateway.open();
        running.until("it goes on", || is_level(&running));
        let feeds = world.json(&["status"])["feeds"].as_array().cloned().unwrap_or_default();
        let of_it: Vec<_> = feeds.iter().filter(|feed| feed["feed"] == slot.as_str()).collect();
        assert!(of_it.len() == 1 && of_it[0]["state"] != "not read", "{feeds:?}");
        running.stop();
    }
}
