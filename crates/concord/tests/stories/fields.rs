//! Fields of which several are one on the other side, and advice about indexes.

use crate::world::World;
use serde_json::json;

fn names(mapping: &serde_json::Value) -> World {
    let world = World::new(&json!({
        "initial_sync": { "authority": "crm" },
        "field_mappings": [{ "source": "email", "target": "mail" }, mapping]
    }));
    world.crm.psql("ALTER TABLE accounts ADD first text, ADD last text");
    world
}

#[test]
fn a_first_and_a_last_name_are_one_name_on_the_other_side_both_ways() {
    let world = names(&json!({
        "source": ["first", "last"], "target": "company", "transformation": { "name": "join", "rest": "first" }
    }));
    world.crm.psql(
        "INSERT INTO accounts (email, first, last) VALUES ('a@x.example', 'Ada', 'King'), ('m@x.example', 'Mary Ann', 'Smith')",
    );
    world.erp.psql("INSERT INTO customers (mail, company) VALUES ('a@x.example', 'Ada King'), ('c@x.example', 'Carla de Vries')");
    let running = world.run(&["--auto-approve"]);
    let crm = "SELECT first, last FROM accounts ORDER BY email";
    let erp = "SELECT company FROM customers ORDER BY mail";
    running.until("both sides have all names", || {
        world.crm.psql(crm) == "Ada|King\nCarla de|Vries\nMary Ann|Smith"
            && world.erp.psql(erp) == "Ada King\nCarla de Vries\nMary Ann Smith"
    });
    world.erp.psql("UPDATE customers SET company = 'Ada Lovelace' WHERE mail = 'a@x.example'");
    world.crm.psql("UPDATE accounts SET first = 'Marianne' WHERE email = 'm@x.example'");
    running.until("both edits are carried", || {
        world.crm.psql(crm) == "Ada|Lovelace\nCarla de|Vries\nMarianne|Smith"
            && world.erp.psql(erp) == "Ada Lovelace\nCarla de Vries\nMarianne Smith"
    });
    assert_eq!(running.status().unwrap()["review"], 0);
    running.stop();
}

#[test]
fn a_name_that_cannot_be_told_apart_waits_for_a_person_unless_it_is_what_the_other_side_has() {
    let world = names(&json!({ "source": ["first", "last"], "target": "company", "transformation": "join" }));
    world.crm.psql("INSERT INTO accounts (email, first, last) VALUES ('m@x.example', 'Mary Ann', 'Smith')");
    world.erp.psql("INSERT INTO customers (mail, company) VALUES ('m@x.example', 'Mary Ann Smith')");
    let running = world.run(&["--auto-approve"]);
    running.until("nothing is left to do", || running.status().is_some_and(|sync| sync["level"] == true && sync["links"] == 1));
    assert_eq!(running.status().unwrap()["review"], 0, "the other side shows what it would be written as");
    world.erp.psql("UPDATE customers SET company = 'Mary Ann Jones'");
    running.until("a person is asked", || running.status().is_some_and(|sync| sync["review"] == 1));
    let said = world.concord(&["review", "list"]);
    assert!(said.out.contains("CON-3113") && said.out.contains("3 parts"), "{said:?}");
    assert_eq!(world.crm.psql("SELECT first, last FROM accounts"), "Mary Ann|Smith");
    running.stop();
}

#[test]
fn one_name_is_two_on_the_other_side_both_ways() {
    let world = World::new(&json!({ "initial_sync": { "authority": "crm" }, "field_mappings": [
        { "source": "email", "target": "mail" },
        { "source": "name", "target": ["company", "town"], "transformation": { "split": " " } }
    ] }));
    world.crm.psql("INSERT INTO accounts (email, name) VALUES ('a@x.example', 'Ada Marie King')");
    let running = world.run(&["--auto-approve"]);
    running.until("the parts are there", || world.erp.psql("SELECT company, town FROM customers") == "Ada|Marie King");
    world.erp.psql("UPDATE customers SET town = 'Lovelace'");
    running.until("the whole is there", || world.crm.psql("SELECT name FROM accounts") == "Ada Lovelace");
    running.stop();
}

#[test]
fn missing_indexes_are_named_with_the_statement_that_makes_each() {
    let advice = json!({ "match_on": ["name", "city"], "performance_settings": { "index_recommendation": true } });
    let world = World::new(&advice);
    let checked = world.concord(&["check", "--connect", "FILE"]);
    let told = world.json(&["plan", "FILE"]);
    let statements: Vec<&str> =
        told["indexes"].as_array().unwrap().iter().map(|index| index["statement"].as_str().unwrap()).collect();
    let expected = [
        r#"CREATE INDEX CONCURRENTLY ON "public"."accounts" ("name", "city");"#,
        r#"CREATE INDEX CONCURRENTLY ON "public"."customers" ("company", "town");"#,
    ];
    assert_eq!(statements, expected);
    for (statement, database) in expected.into_iter().zip([&world.crm, &world.erp]) {
        assert!(checked.err.contains(statement), "{checked:?}");
        database.psql(statement);
    }
    assert_eq!(world.json(&["plan", "FILE"])["indexes"], json!([]));
}

#[test]
fn a_beginning_by_time_is_planned_and_carried_out_for_what_changed_since() {
    let world = World::new(&json!({
        "initial_sync": { "strategy": "since", "since": "2026-01-01", "authority": "crm" },
        "conflict_resolution": { "strategy": "last_write_wins", "timestamp_field": "updated_at" }
    }));
    world.crm.psql(
        "INSERT INTO accounts (name, email, updated_at) SELECT 'Old ' || n, n || '@old.example', '2020-01-01' FROM generate_series(1, 7) n;
         INSERT INTO accounts (name, email, updated_at) SELECT 'New ' || n, n || '@new.example', '2026-03-01' FROM generate_series(1, 3) n",
    );
    let told = world.json(&["plan", "FILE"]);
    let members = &told["plan"]["runs"][0]["members"];
    assert_eq!((&members[0]["left_alone"], &members[1]["creates"]), (&json!(7), &json!(3)), "{told:#}");
    let id = told["plan"]["id"].as_str().unwrap();
    let done = world.concord(&["run", "FILE", "--once", "--approve", id]);
    assert_eq!(done.exit, 0, "{done:?}");
    assert_eq!(world.erp.psql("SELECT count(*), min(company) FROM customers"), "3|New 1");
}
