//! Records that refer to records of another sync, as a person sees them: in the plan, while they wait, and where they lead nowhere.

use crate::world::{World, connection};
use serde_json::{Value, json};

/// Accounts of both sides, and contacts that name them by the keys that they have there.
fn contacts() -> World {
    let world = World::new(&json!({}));
    // Nothing forbids a reference that leads nowhere on the one side; numbers begin elsewhere on the other.
    world.crm.psql("CREATE TABLE contacts (id serial PRIMARY KEY, mail text UNIQUE, account_id integer)");
    world.erp.psql(
        "CREATE TABLE contacts (id serial PRIMARY KEY, mail text UNIQUE, customer bigint REFERENCES customers);
         ALTER SEQUENCE customers_customer_no_seq RESTART 500",
    );
    let pair = |name: &str, source: &str, target: &str, match_on: &str, fields: Value| {
        json!({
            "name": name, "sync_type": "bidirectional", "match_on": [match_on], "field_mappings": fields,
            "source": { "system": "crm", "object": source }, "target": { "system": "erp", "object": target }
        })
    };
    let config = json!({
        "connections": {
            "crm": connection(&world.crm, world.crm.server.port()), "erp": connection(&world.erp, world.erp.server.port())
        },
        "syncs": [
            pair("contacts", "contacts", "contacts", "mail", json!([
                { "source": "mail", "target": "mail" },
                { "source": "account_id", "target": "customer", "reference": "accounts" }
            ])),
            pair("accounts", "accounts", "customers", "email", json!([
                { "source": "name", "target": "company" }, { "source": "email", "target": "mail" }
            ]))
        ],
        "process_settings": { "store": { "path": world.store() }, "logging": { "directory": world.logs() } }
    });
    std::fs::write(world.file(), serde_json::to_string_pretty(&config).unwrap()).unwrap();
    world
}

const WHOSE: &str =
    "SELECT c.mail, a.company FROM contacts c LEFT JOIN customers a ON a.customer_no = c.customer ORDER BY c.mail";

#[test]
fn what_waits_says_for_what_and_goes_on_after_a_pause_and_a_kill() {
    let world = contacts();
    world.crm.psql("INSERT INTO accounts (id, name, email) VALUES (1, 'Acme', 'acme@x.example')");
    world.crm.psql("INSERT INTO contacts (mail, account_id) VALUES ('ann@x.example', 1)");
    let plan = world.concord(&["plan", "FILE"]);
    assert!(plan.out.contains("crm: 1 of those that are only here refer to records of accounts, which come first"), "{plan:?}");

    let running = world.run(&["--auto-approve"]);
    running.until("the contact has its account", || world.erp.psql(WHOSE) == "ann@x.example|Acme");
    assert_eq!(world.concord(&["pause", "accounts"]).exit, 0);
    world.crm.psql("INSERT INTO accounts (id, name, email) VALUES (2, 'Bolt', 'bolt@x.example')");
    world.crm.psql("INSERT INTO contacts (id, mail, account_id) VALUES (20, 'bob@x.example', 2)");
    running.until("the contact waits", || running.status().is_some_and(|sync| sync["waiting"] == 1));
    let status = world.concord(&["status"]);
    let expected = "1 wait for records that they refer to, of accounts, which is paused (CON-3025)";
    assert!(status.out.contains(expected), "{status:?}");
    let life = world.concord(&["explain", "contacts", "crm:20"]);
    assert!(life.out.contains("waits for the record 2 of accounts in crm"), "{life:?}");

    running.kill();
    let running = world.run(&["--auto-approve"]);
    assert_eq!(world.concord(&["resume", "accounts"]).exit, 0);
    running.until("the contact has its account", || world.erp.psql(WHOSE) == "ann@x.example|Acme\nbob@x.example|Bolt");
    running.until("nothing waits", || running.status().is_some_and(|sync| sync["waiting"] == 0 && sync["level"] == true));
    let life = world.json(&["explain", "contacts", "crm:20"]);
    let agreed = life["agreed"].as_array().unwrap().iter().find(|field| field["field"] == "account_id").unwrap();
    assert_eq!(agreed["value"], "accounts crm:2 = erp:501", "{life:#}");
    let verified = world.concord(&["verify", "FILE"]);
    assert_eq!(verified.exit, 0, "{verified:?}");
    running.stop();
}

#[test]
fn a_reference_that_leads_nowhere_does_not_keep_a_run_from_its_end_and_is_in_review() {
    let world = contacts();
    world.crm.psql("INSERT INTO contacts (mail, account_id) VALUES ('ann@x.example', 9), ('bob@x.example', NULL)");
    assert_eq!(world.start(&["--auto-approve", "--once"], &[]).end(), 0);
    assert_eq!(world.erp.psql(WHOSE), "bob@x.example|");
    let said = world.concord(&["review", "list"]);
    assert!(said.out.contains("CON-3026") && said.out.contains("the record 9 of accounts"), "{said:?}");
    // The account comes: nobody need say anything.
    world.crm.psql("INSERT INTO accounts (id, name, email) VALUES (9, 'Nine', 'nine@x.example')");
    assert_eq!(world.start(&["--once"], &[]).end(), 0);
    assert_eq!(world.erp.psql(WHOSE), "ann@x.example|Nine\nbob@x.example|");
    assert_eq!(world.json(&["review", "list"]), json!([]));
}
