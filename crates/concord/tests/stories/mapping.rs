//! A mapping that its operator changes: shown and approved where much would be rewritten, carried out where little would.

use crate::world::World;
use serde_json::{Value, json};

fn mappings(transformation: &Value) -> Value {
    json!({ "initial_sync": { "authority": "crm" }, "field_mappings": [
        { "source": "name", "target": "company", "transformation": transformation }, { "source": "email", "target": "mail" },
        { "source": "phone", "target": "tel" }, { "source": "city", "target": "town" }
    ] })
}

#[test]
fn a_changed_transformation_is_planned_approved_and_carried_out() {
    let world = World::new(&mappings(&json!("none")));
    world.crm.psql(
        "INSERT INTO accounts (name, email, city) SELECT 'Name ' || n, n || '@x.example', 'Leeds' FROM generate_series(1, 30) n",
    );
    let done = world.concord(&["run", "FILE", "--once", "--auto-approve"]);
    assert_eq!(done.exit, 0, "{done:?}");

    world.configure(&mappings(&json!("uppercase")));
    let refused = world.concord(&["run", "FILE", "--once"]);
    assert!(refused.exit == 2 && refused.err.contains("CON-5002") && refused.err.contains("30 records in `erp`"), "{refused:?}");
    assert_eq!(world.erp.psql("SELECT count(*) FROM customers WHERE company LIKE 'Name%'"), "30", "nothing is written before");

    let told = world.json(&["plan", "FILE"]);
    let remapping = &told["plan"]["runs"][0]["remapping"];
    assert_eq!(remapping["fields"], json!(["name"]), "{told:#}");
    assert_eq!(remapping["updates"], json!([["crm", 0], ["erp", 30]]));
    assert_eq!(remapping["samples"][0]["fields"], json!([["company", "Name 1", "NAME 1"]]));

    let id = told["plan"]["id"].as_str().unwrap();
    let done = world.concord(&["run", "FILE", "--once", "--approve", id]);
    assert_eq!(done.exit, 0, "{done:?}");
    assert_eq!(world.erp.psql("SELECT count(*) FROM customers WHERE company LIKE 'NAME%'"), "30");
    assert_eq!(world.crm.psql("SELECT count(*) FROM accounts WHERE name LIKE 'Name%'"), "30");
    assert_eq!(world.concord(&["verify", "FILE"]).exit, 0);
    // It is done once.
    assert_eq!(world.json(&["plan", "FILE"])["plan"]["runs"][0]["remapping"], Value::Null);
}
