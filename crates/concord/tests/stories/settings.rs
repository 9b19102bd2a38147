//! What a few words of a configuration decide, from the file to the row that is written, or is not.

use crate::world::World;
use serde_json::{Value, json};

/// Runs until both sides have what the configuration gives them.
fn settle(world: &World) {
    let done = world.concord(&["run", "FILE", "--once", "--auto-approve"]);
    assert_eq!(done.exit, 0, "{done:?}");
}

const ALDER: &str = "INSERT INTO accounts (name, email, phone, city) VALUES ('Alder', 'a@x.example', '7', 'Leeds')";

#[test]
fn an_edit_against_the_flow_is_kept_until_the_source_changes_that_field() {
    let world = World::new(&json!({ "sync_type": "one_way", "target_edits": "keep" }));
    world.crm.psql(ALDER);
    settle(&world);
    world.erp.psql("UPDATE customers SET town = 'Nowhere'");
    settle(&world);
    world.crm.psql("UPDATE accounts SET phone = '8'");
    settle(&world);
    assert_eq!(world.erp.psql("SELECT tel, town FROM customers"), "8|Nowhere");
    world.crm.psql("UPDATE accounts SET city = 'Lyon'");
    settle(&world);
    assert_eq!(world.erp.psql("SELECT tel, town FROM customers"), "8|Lyon");
    assert_eq!(world.crm.psql("SELECT phone, city FROM accounts"), "8|Lyon");
}

#[test]
fn an_edit_against_the_flow_is_asked_about_and_stays_where_a_person_ignores_it() {
    let world = World::new(&json!({ "sync_type": "one_way", "target_edits": "review" }));
    world.crm.psql(ALDER);
    let running = world.run(&["--auto-approve"]);
    running.until_level();
    world.erp.psql("UPDATE customers SET town = 'Nowhere'");
    running.until("a person is asked", || running.status().is_some_and(|sync| sync["review"] == 1));
    let item = world.json(&["review", "list"])[0].clone();
    assert_eq!(item["code"], "CON-3009", "{item:#}");
    world.crm.psql("UPDATE accounts SET phone = '8'");
    running.until("the other field flows", || world.erp.psql("SELECT tel, town FROM customers") == "8|Nowhere");

    let ignored = world.concord(&["review", "ignore", &item["id"].to_string()]);
    assert_eq!(ignored.exit, 0, "{ignored:?}");
    running.until("nothing waits", || running.status().is_some_and(|sync| sync["review"] == 0 && sync["level"] == true));
    assert_eq!(world.json(&["review", "list"]), json!([]));
    let closed = world.json(&["review", "list", "--all"]);
    assert!(closed[0]["closed"].as_str().is_some_and(|how| how.contains("ignored")), "{closed:#}");
    assert_eq!(world.erp.psql("SELECT tel, town FROM customers"), "8|Nowhere");
    world.crm.psql("UPDATE accounts SET city = 'Lyon'");
    running.until("the source's next edit arrives", || world.erp.psql("SELECT town FROM customers") == "Lyon");
    running.stop();
}

#[test]
fn a_refused_record_is_written_by_a_retry_once_it_is_let_in() {
    let world = World::new(&json!({ "error_handling": { "retry_strategy": { "max_attempts": 1 } } }));
    world.erp.psql("ALTER TABLE customers ADD CONSTRAINT somewhere CHECK (town <> 'Nowhere')");
    let running = world.run(&["--auto-approve"]);
    world.crm.psql("INSERT INTO accounts (name, email, city) VALUES ('Bad', 'b@x.example', 'Nowhere')");
    running.until("it waits", || running.status().is_some_and(|sync| sync["review"] == 1));
    let id = world.json(&["review", "list"])[0]["id"].to_string();
    world.erp.psql("ALTER TABLE customers DROP CONSTRAINT somewhere");
    let retried = world.concord(&["review", "retry", &id]);
    assert_eq!(retried.exit, 0, "{retried:?}");
    running.until_level();
    assert_eq!(world.erp.psql("SELECT company, town FROM customers"), "Bad|Nowhere");
    assert_eq!(world.json(&["review", "list"]), json!([]));
    // It is decided; whoever decides it again is told so.
    assert_eq!(world.concord(&["review", "retry", &id]).exit, 2);
    running.stop();
}

#[test]
fn a_deletion_marks_the_other_record_or_leaves_it_as_is_written() {
    for (way, left) in [("soft_delete", "Alder|t"), ("detach", "Alder|f"), ("ignore", "Alder|f")] {
        let mut settings = json!({ "on_delete": way });
        if way == "soft_delete" {
            settings["soft_delete_field"] = json!("gone");
        }
        let world = World::new(&settings);
        world.crm.psql("ALTER TABLE accounts ADD gone boolean NOT NULL DEFAULT false");
        world.erp.psql("ALTER TABLE customers ADD gone boolean NOT NULL DEFAULT false");
        world.crm.psql(ALDER);
        settle(&world);
        world.crm.psql("DELETE FROM accounts");
        settle(&world);
        assert_eq!(world.erp.psql("SELECT company, gone FROM customers"), left, "{way}");
        let told = world.json(&["explain", "accounts", "erp:1"])["history"].to_string();
        assert_eq!(told.contains(&format!("on_delete: {way}")), way != "soft_delete", "{way}: {told}");
        // What is edited where it was left brings nothing back.
        world.erp.psql("UPDATE customers SET town = 'Lyon'");
        if way != "soft_delete" {
            settle(&world);
            assert_eq!(world.crm.psql("SELECT count(*) FROM accounts"), "0", "{way}");
        }
    }
}

#[test]
fn a_null_arrives_as_is_written() {
    for (way, arrives) in [("preserve", "null"), ("skip", "7"), ("default", "none"), ("empty", "")] {
        let mappings = json!([
            { "source": "name", "target": "company" }, { "source": "email", "target": "mail" },
            { "source": "phone", "target": "tel", "default": "none" }, { "source": "city", "target": "town" }
        ]);
        let world = World::new(&json!({
            "sync_type": "one_way", "mapping_options": { "handle_nulls": way }, "field_mappings": without_default(mappings, way)
        }));
        world.crm.psql(ALDER);
        settle(&world);
        world.crm.psql("UPDATE accounts SET phone = NULL, city = 'Lyon'");
        settle(&world);
        assert_eq!(
            world.erp.psql("SELECT '[' || coalesce(tel, 'null') || ']', town FROM customers"),
            format!("[{arrives}]|Lyon"),
            "{way}"
        );
    }
}

/// A default is for the one way of treating nulls that takes it.
fn without_default(mut mappings: Value, way: &str) -> Value {
    if way != "default" {
        mappings[2].as_object_mut().unwrap().remove("default");
    }
    mappings
}

#[test]
fn the_transformed_form_goes_back_to_where_the_value_came_from_if_that_is_written() {
    let world = World::new(&json!({ "field_mappings": [
        { "source": "name", "target": "company", "transformation": "uppercase", "write_back": true },
        { "source": "email", "target": "mail" },
        { "source": "city", "target": "town", "transformation": "uppercase" }
    ] }));
    world.crm.psql(ALDER);
    settle(&world);
    assert_eq!(world.erp.psql("SELECT company, town FROM customers"), "ALDER|LEEDS");
    assert_eq!(world.crm.psql("SELECT name, city FROM accounts"), "ALDER|Leeds");
    world.crm.psql("UPDATE accounts SET name = 'Birch', city = 'Lyon'");
    settle(&world);
    assert_eq!(world.erp.psql("SELECT company, town FROM customers"), "BIRCH|LYON");
    assert_eq!(world.crm.psql("SELECT name, city FROM accounts"), "BIRCH|Lyon");
}

/// Sets one field to one value at one side and to another at the other, again and again: the how manieth edit a person is
/// asked about.
fn edits_until_somebody_is_asked(settings: &Value) -> Option<u32> {
    let world = World::new(&json!({ "loop_prevention": settings }));
    world.crm.psql(ALDER);
    let running = world.run(&["--auto-approve"]);
    running.until_level();
    let is_asked = || running.status().is_some_and(|sync| sync["review"] == 1);
    for edit in 1..=9 {
        match edit % 2 {
            1 => world.erp.psql("UPDATE customers SET town = 'Graz'"),
            _ => world.crm.psql("UPDATE accounts SET city = 'Leeds'"),
        };
        let is_carried = || world.is_equal() && running.status().is_some_and(|sync| sync["level"] == true);
        running.until("it is carried, or asked about", || is_asked() || is_carried());
        if is_asked() {
            let item = world.json(&["review", "list"])[0].clone();
            assert_eq!((&item["kind"], &item["code"]), (&json!("loop"), &json!("CON-3011")), "{item:#}");
            return Some(edit);
        }
    }
    running.stop();
    None
}

#[test]
fn a_value_may_come_back_as_often_as_is_written_before_a_person_is_asked() {
    // The first edit and the third set the same value: one return is let through, the second is not.
    let once = json!({ "max_update_count": 1, "detection_window_seconds": 3600 });
    assert_eq!(edits_until_somebody_is_asked(&once), Some(5));
    assert_eq!(edits_until_somebody_is_asked(&json!({ "enabled": false, "max_update_count": 1 })), None);
}
