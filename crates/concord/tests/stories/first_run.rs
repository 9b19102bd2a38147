//! The first run: matched, shown, approved, carried out, and nothing before that.

use crate::world::World;
use serde_json::json;

fn both_sides_filled() -> World {
    let world = World::new(&json!({ "initial_sync": { "authority": "crm" } }));
    world.crm.psql(
        "INSERT INTO accounts (name, email, city) SELECT 'Name ' || n, n || '@x.example', 'Leeds' FROM generate_series(1, 30) n",
    );
    // Ten in common, of which one differs and one lacks a city; five of its own.
    world.erp.psql(
        "INSERT INTO customers (company, mail, town) SELECT 'Name ' || n, n || '@x.example', 'Leeds' FROM generate_series(21, 35) n; \
         UPDATE customers SET company = 'Another' WHERE mail = '21@x.example'; UPDATE customers SET town = NULL WHERE mail = '22@x.example'",
    );
    world
}

#[test]
fn the_plan_counts_what_the_first_run_then_does() {
    let world = both_sides_filled();
    let before = world.sides();
    let refused = world.concord(&["run", "FILE", "--once"]);
    assert_eq!(refused.exit, 2, "{refused:?}");
    assert!(refused.err.contains("CON-5002") && refused.err.contains("concord plan"), "{refused:?}");

    let told = world.json(&["plan", "FILE"]);
    let run = &told["plan"]["runs"][0];
    assert_eq!((run["matched"].as_u64(), run["equal"].as_u64()), (Some(10), Some(8)), "{run:#}");
    assert_eq!(run["differing"], json!({ "name": 1, "city": 1 }));
    let (crm, erp) = (&run["members"][0], &run["members"][1]);
    assert_eq!((crm["creates"].as_u64(), crm["updates"].as_u64()), (Some(5), Some(0)));
    assert_eq!((erp["creates"].as_u64(), erp["updates"].as_u64()), (Some(20), Some(2)));
    assert_eq!(world.sides(), before, "a plan writes nothing");

    let id = told["plan"]["id"].as_str().unwrap();
    let done = world.concord(&["run", "FILE", "--once", "--approve", id, "--json"]);
    assert_eq!(done.exit, 0, "{done:?}");
    assert!(world.is_equal(), "{:?}", world.sides());
    assert_eq!(world.crm.psql("SELECT count(*), count(city) FROM accounts"), "35|35");
    assert_eq!(world.erp.psql("SELECT company FROM customers WHERE mail = '21@x.example'"), "Name 21");
    assert_eq!(world.concord(&["verify", "FILE"]).exit, 0);
}

#[test]
fn an_approval_does_not_hold_for_another_configuration_or_other_records() {
    let world = both_sides_filled();
    let id = world.json(&["plan", "FILE"])["plan"]["id"].as_str().unwrap().to_string();
    world.crm.psql("INSERT INTO accounts (name, email) SELECT 'New ' || n, n || '@new.example' FROM generate_series(1, 200) n");
    let moved = world.concord(&["run", "FILE", "--once", "--approve", &id]);
    assert!(moved.exit == 2 && moved.err.contains("CON-5004"), "{moved:?}");
    world.configure(&json!({ "initial_sync": { "authority": "erp" } }));
    let other = world.concord(&["run", "FILE", "--once", "--approve", &id]);
    assert!(other.exit == 2 && other.err.contains("CON-5004"), "{other:?}");
    let unknown = world.concord(&["run", "FILE", "--once", "--approve", "nonsense"]);
    assert!(unknown.exit == 2 && unknown.err.contains("CON-5003"), "{unknown:?}");
    assert_eq!(world.erp.psql("SELECT count(*) FROM customers"), "15");
}

// Scenario 3: the slot is lost while nothing runs, with changes in the gap; only an approved plan reads over it.
#[test]
fn a_gap_is_accepted_by_the_plan_that_a_person_approves() {
    let world = both_sides_filled();
    let running = world.run(&["--auto-approve"]);
    running.until_level();
    running.stop();
    let slots = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()";
    world.crm.psql(slots);
    world
        .crm
        .psql("UPDATE accounts SET city = 'York' WHERE email = '3@x.example'; DELETE FROM accounts WHERE email = '4@x.example'");

    let stopped = world.start(&[], &[]);
    let stage = |stage: &str| stopped.status().is_some_and(|sync| sync["stage"].as_str().unwrap_or_default().starts_with(stage));
    stopped.until("the gap is noticed", || stage("stopped: CON-2008"));
    assert!(!world.is_equal(), "nothing is carried over a gap");
    stopped.stop();

    let id = world.json(&["plan", "FILE"])["plan"]["id"].as_str().unwrap().to_string();
    let running = world.run(&["--approve", &id]);
    running.until_level();
    assert_eq!(world.erp.psql("SELECT town FROM customers WHERE mail = '3@x.example'"), "York");
    assert_eq!(world.erp.psql("SELECT count(*) FROM customers WHERE mail = '4@x.example'"), "0");
    running.stop();

    // The same command line, started again behind another gap: what it would let through, nobody has looked at.
    world.crm.psql(slots);
    world
        .crm
        .psql("UPDATE accounts SET city = 'Lyon' WHERE email = '3@x.example'; DELETE FROM accounts WHERE email = '5@x.example'");
    let stopped = world.start(&["--approve", &id], &[]);
    stopped.until("the plan is too old", || stopped.said().contains("the gap is not accepted"));
    assert!(stopped.said().contains("was made before this gap"), "{}", stopped.said());
    assert_eq!(world.erp.psql("SELECT count(*) FROM customers WHERE mail = '5@x.example'"), "1");
    stopped.stop();
}
