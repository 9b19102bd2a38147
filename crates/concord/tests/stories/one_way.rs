//! One-way syncs: the source owns the mapped fields.

use crate::world::World;
use serde_json::json;

#[test]
fn edits_at_the_source_arrive_and_edits_against_the_flow_are_written_over() {
    let world = World::new(&json!({ "sync_type": "one_way", "target_edits": "overwrite" }));
    world.crm.psql(
        "INSERT INTO accounts (name, email, city) VALUES ('Alder', 'a@x.example', 'Leeds'), ('Blue', 'b@x.example', 'Graz')",
    );
    let running = world.run(&["--auto-approve"]);
    running.until_level();

    world
        .crm
        .psql("UPDATE accounts SET city = 'Lyon' WHERE email = 'a@x.example'; DELETE FROM accounts WHERE email = 'b@x.example'");
    running.until_level();

    world.erp.psql("UPDATE customers SET town = 'Nowhere' WHERE mail = 'a@x.example'");
    running.until_level();
    assert_eq!(world.erp.psql("SELECT town FROM customers"), "Lyon");
    running.stop();
}
