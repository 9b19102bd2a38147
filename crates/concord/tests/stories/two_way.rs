//! Two-way syncs: both sides edit, insert and delete.

use crate::world::World;
use serde_json::json;

#[test]
fn inserts_edits_and_deletes_flow_both_ways() {
    let world = World::new(&json!({}));
    let running = world.run(&["--auto-approve"]);
    world.crm.psql("INSERT INTO accounts (name, email, city) SELECT 'Name ' || n, n || '@crm.example', 'Leeds' FROM generate_series(1, 40) n");
    world.erp.psql("INSERT INTO customers (company, mail, town) SELECT 'Name ' || n, n || '@erp.example', 'Graz' FROM generate_series(1, 40) n");
    running.until_level();
    assert_eq!(world.crm.psql("SELECT count(*) FROM accounts"), "80");

    world.crm.psql(
        "UPDATE accounts SET phone = '1' WHERE email = '7@erp.example'; DELETE FROM accounts WHERE email = '8@erp.example'",
    );
    world
        .erp
        .psql("UPDATE customers SET tel = '2' WHERE mail = '7@crm.example'; DELETE FROM customers WHERE mail = '8@crm.example'");
    running.until_level();
    assert_eq!(world.erp.psql("SELECT count(*), min(tel), max(tel) FROM customers"), "78|1|2");
    assert_eq!(world.concord(&["verify", "FILE"]).exit, 0);
    running.stop();
}

#[test]
fn different_fields_of_one_record_changed_on_both_sides_both_survive() {
    let world = World::new(&json!({}));
    world.crm.psql("INSERT INTO accounts (name, email, city, phone) VALUES ('Alder', 'a@x.example', 'Leeds', '1')");
    let running = world.run(&["--auto-approve"]);
    running.until_level();
    running.stop();

    // Nobody looks while both sides edit.
    world.crm.psql("UPDATE accounts SET city = 'Lyon'");
    world.erp.psql("UPDATE customers SET tel = '2'");
    let running = world.run(&[]);
    running.until_level();
    assert_eq!(world.sides().0, "Alder|a@x.example|2|Lyon");
    assert_eq!(running.status().unwrap()["review"], 0);
    running.stop();
}

#[test]
fn a_changed_key_is_the_same_record() {
    let world = World::new(&json!({}));
    world.crm.psql("INSERT INTO accounts (name, email) VALUES ('Alder', 'a@x.example')");
    let running = world.run(&["--auto-approve"]);
    running.until_level();
    let key = world.erp.psql("SELECT customer_no FROM customers");
    world.crm.psql("UPDATE accounts SET id = 4711");
    world.erp.psql("UPDATE customers SET company = 'Alder and Sons'");
    running.until_level();
    assert_eq!(world.crm.psql("SELECT id, name FROM accounts"), "4711|Alder and Sons");
    assert_eq!(world.erp.psql("SELECT customer_no FROM customers"), key);
    running.stop();
}
