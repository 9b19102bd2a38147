//! Both sides change the same field.

use crate::world::World;
use serde_json::{Value, json};

/// A world in which both sides hold one account, and nothing runs.
fn one_account(settings: &Value) -> World {
    let world = World::new(settings);
    world.crm.psql("INSERT INTO accounts (name, email, city) VALUES ('Alder', 'a@x.example', 'Leeds')");
    let running = world.run(&["--auto-approve"]);
    running.until_level();
    running.stop();
    world
}

#[test]
fn the_latest_edit_wins_and_the_ledger_keeps_what_lost() {
    let world = one_account(&json!({ "conflict_resolution": "last_write_wins" }));
    world.crm.psql("UPDATE accounts SET city = 'Lyon'");
    world.erp.psql("UPDATE customers SET town = 'Graz'");
    let running = world.run(&[]);
    running.until_level();
    assert_eq!(world.crm.psql("SELECT city FROM accounts"), "Graz");
    let key = world.crm.psql("SELECT id FROM accounts");
    let told = world.json(&["explain", "accounts", &key, "city"]);
    let lost: Vec<&Value> = told["history"].as_array().unwrap().iter().filter(|row| row["what"] == "lost").collect();
    assert_eq!(lost.len(), 1, "{told:#}");
    assert!(lost[0]["fields"][0].to_string().contains("Lyon"), "{told:#}");
    running.stop();
}

#[test]
fn a_conflict_that_a_person_decides_waits_and_the_other_fields_flow_on() {
    let world = one_account(&json!({ "conflict_resolution": "manual" }));
    world.crm.psql("UPDATE accounts SET city = 'Lyon', phone = '7'");
    world.erp.psql("UPDATE customers SET town = 'Graz'");
    let running = world.run(&[]);
    running.until("the conflict waits", || running.status().is_some_and(|sync| sync["review"] == 1));
    running.until("the phone has arrived", || world.erp.psql("SELECT tel FROM customers") == "7");
    assert_eq!(world.sides().0, "Alder|a@x.example|7|Lyon");
    assert_eq!(world.sides().1, "Alder|a@x.example|7|Graz");

    let items = world.json(&["review", "list"]);
    let id = items[0]["id"].to_string();
    assert_eq!(world.concord(&["review", "resolve", &id, "--take", "nobody"]).exit, 2);
    let decided = world.concord(&["review", "resolve", &id, "--take", "erp"]);
    assert_eq!(decided.exit, 0, "{decided:?}");
    running.until_level();
    assert_eq!(world.crm.psql("SELECT city FROM accounts"), "Graz");
    assert_eq!(world.json(&["review", "list"]), json!([]));
    running.stop();
}

#[test]
fn what_differs_beside_what_a_person_is_asked_about_differs() {
    let world = one_account(&json!({ "conflict_resolution": "manual" }));
    world.crm.psql("UPDATE accounts SET city = 'Lyon'");
    world.erp.psql("UPDATE customers SET town = 'Graz'");
    let running = world.run(&[]);
    running.until("the conflict waits", || running.status().is_some_and(|sync| sync["review"] == 1));
    running.stop();
    let asked = world.concord(&["verify", "FILE", "--json"]);
    let told: Value = serde_json::from_str(&asked.out).unwrap();
    assert_eq!((asked.exit, &told["syncs"][0]["in_review"]), (0, &json!(1)), "{asked:?}");
    // Nobody has heard of it, and nobody is asked about it.
    world.erp.psql("UPDATE customers SET tel = '7'");
    let differs = world.concord(&["verify", "FILE", "--json"]);
    let told: Value = serde_json::from_str(&differs.out).unwrap();
    assert_eq!((differs.exit, &told["syncs"][0]["differing"]), (1, &json!(1)), "{differs:?}");
    let fields = &told["syncs"][0]["differences"][0]["fields"];
    assert_eq!(fields.as_array().map(Vec::len), Some(1), "{told:#}");
    assert_eq!(fields[0][0], "phone", "{told:#}");
}

#[test]
fn a_decision_made_while_nothing_runs_takes_effect_at_the_next_start() {
    let world = one_account(&json!({ "conflict_resolution": "manual" }));
    world.crm.psql("UPDATE accounts SET city = 'Lyon'");
    world.erp.psql("UPDATE customers SET town = 'Graz'");
    let running = world.run(&[]);
    running.until("the conflict waits", || running.status().is_some_and(|sync| sync["review"] == 1));
    running.stop();

    let id = world.json(&["review", "list"])[0]["id"].to_string();
    let kept = world.concord(&["review", "resolve", &id, "--set", "city=Porto"]);
    assert_eq!(kept.exit, 0, "{kept:?}");
    let running = world.run(&[]);
    running.until_level();
    assert_eq!(world.erp.psql("SELECT town FROM customers"), "Porto");
    running.stop();
}
