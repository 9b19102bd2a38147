//! Tables bound by foreign keys, mirrored together: killed at random moments under a workload while somebody looks at the target, and
//! asked like every other sync.

use crate::postgres::Database;
use crate::users::Chance;
use crate::world::{Home, Sides, World, connection};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often the process is killed at random moments.
const KILLS: usize = 7;
/// The longest that it runs after each of the transactions, in milliseconds.
const RUN_MAX_MS: u64 = 450;

const MADE: &str = "CREATE TABLE buyers (id int PRIMARY KEY, name text, boss int REFERENCES buyers); \
    CREATE TABLE orders (id int PRIMARY KEY, buyer int NOT NULL REFERENCES buyers ON DELETE CASCADE ON UPDATE CASCADE, note text); \
    CREATE TABLE lines (id int PRIMARY KEY, orders int NOT NULL REFERENCES orders ON DELETE CASCADE)";
const FILLED: &str = "INSERT INTO buyers SELECT n, 'buyer ' || n, nullif(n - 1, 0) FROM generate_series(1, 1000) n; \
    INSERT INTO orders SELECT n, 1 + n % 1000, 'order ' || n FROM generate_series(1, 3000) n; \
    INSERT INTO lines SELECT n, 1 + n % 3000 FROM generate_series(1, 6000) n";
/// Looks a hundred times whether a record is there without the one that it names.
const WATCH: &str = "DO $$ BEGIN FOR look IN 1..100 LOOP \
    IF EXISTS (SELECT FROM orders o WHERE NOT EXISTS (SELECT FROM buyers b WHERE b.id = o.buyer)) \
        OR EXISTS (SELECT FROM lines l WHERE NOT EXISTS (SELECT FROM orders o WHERE o.id = l.orders)) \
        OR EXISTS (SELECT FROM buyers a WHERE a.boss IS NOT NULL AND NOT EXISTS (SELECT FROM buyers b WHERE b.id = a.boss)) \
    THEN RAISE EXCEPTION 'a record is seen before the one that it names'; END IF; \
    PERFORM pg_sleep(0.002); END LOOP; END $$";

struct Kindred {
    world: World,
}

impl Kindred {
    fn new() -> Kindred {
        let world = World::new(&json!({}));
        world.crm.psql(&format!("{MADE}; {FILLED}"));
        world.erp.psql(MADE);
        let sync = |table: &str, fields: &[&str]| {
            let fields: Vec<Value> = fields.iter().map(|field| json!({ "source": field, "target": field })).collect();
            json!({
                "name": table, "sync_type": "one_way", "match_on": ["id"], "auto_approve": true, "field_mappings": fields,
                "source": { "system": "crm", "object": table }, "target": { "system": "erp", "object": table }
            })
        };
        let config = json!({
            "connections": {
                "crm": connection(&world.crm, world.crm.server.port()), "erp": connection(&world.erp, world.erp.server.port())
            },
            "syncs": [
                sync("lines", &["id", "orders"]), sync("orders", &["id", "buyer", "note"]), sync("buyers", &["id", "name", "boss"])
            ],
            "process_settings": { "store": { "path": world.store() }, "logging": { "directory": world.logs() } }
        });
        std::fs::write(world.file(), config.to_string()).unwrap();
        Kindred { world }
    }

    fn is_level(&self) -> bool {
        let status = self.world.json(&["status"]);
        let syncs = status["syncs"].as_array().cloned().unwrap_or_default();
        syncs.len() == 3 && syncs.iter().all(|sync| sync["level"] == true) && Sides::is_equal(self)
    }

    /// Buyers, their orders and the lines of these, each in one transaction.
    fn sell(&self, from: usize) {
        self.world.crm.psql(&format!(
            "INSERT INTO buyers SELECT n, 'new', CASE WHEN n > {from} + 39 THEN 1 ELSE n + 1 END FROM generate_series({from}, {from} + 40) n; \
             INSERT INTO orders SELECT {from} * 10 + n, {from} + n % 40, 'new' FROM generate_series(1, 800) n; \
             INSERT INTO lines SELECT {from} * 10 + n, {from} * 10 + 1 + n % 800 FROM generate_series(1, 900) n"
        ));
    }
}

impl Sides for Kindred {
    fn sides(&self) -> (String, String) {
        let sql = "SELECT 'b', id, name, boss FROM buyers UNION ALL SELECT 'o', id, note, buyer FROM orders \
            UNION ALL SELECT 'l', id, '', orders FROM lines ORDER BY 1, 2";
        (self.world.crm.psql(sql), self.world.erp.psql(sql))
    }
}

/// Ends who watches, also where the story fails.
struct Until<'a>(&'a AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Where the kills strike follows from a seed, which is printed.
#[test]
fn tables_bound_by_foreign_keys_killed_at_random_moments_show_no_record_before_the_one_that_it_names() {
    let kindred = Kindred::new();
    let world = &kindred.world;
    let plan = world.json(&["plan", "FILE"]);
    let modes = plan["modes"].as_array().unwrap();
    assert!(modes.len() == 3 && modes.iter().all(|mode| mode["mode"] == "mirror"), "{modes:#?}");
    let mut chance = Chance::new();
    let over = AtomicBool::new(false);
    let target = Database { server: Arc::clone(&world.erp.server), name: world.erp.name.clone() };
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                target.psql(WATCH);
            }
        });
        let until = Until(&over);
        for round in 0..KILLS {
            let running = Home::start(world, &kindred, &[], &[]);
            for step in 0..3 {
                kindred.sell(10_000 + round * 1_000 + step * 100);
                std::thread::sleep(Duration::from_millis(chance.below(RUN_MAX_MS)));
            }
            running.kill();
        }
        let running = Home::start(world, &kindred, &[], &[]);
        running.until("all of them are level", || kindred.is_level());
        drop(until);
        watching.join().unwrap();
        running.stop();
    });
    // The target holds all records against its foreign keys by itself.
    world.erp.psql(
        "ALTER TABLE orders ADD FOREIGN KEY (buyer) REFERENCES buyers; ALTER TABLE lines ADD FOREIGN KEY (orders) REFERENCES orders; \
         ALTER TABLE buyers ADD FOREIGN KEY (boss) REFERENCES buyers",
    );
}

#[test]
fn one_of_several_tables_bound_by_foreign_keys_is_repaired_and_all_are_released() {
    let kindred = Kindred::new();
    let world = &kindred.world;
    assert_eq!(world.concord(&["run", "FILE", "--once"]).exit, 0);
    assert!(Sides::is_equal(&kindred));
    world.erp.psql("UPDATE orders SET note = 'against the flow' WHERE id = 7");
    let repair = || {
        let repaired = world.concord(&["verify", "FILE", "--repair"]);
        assert_eq!(repaired.exit, 0, "{repaired:?}");
        assert!(Sides::is_equal(&kindred));
    };
    repair();
    // All of them, each behind those that its records name.
    kindred.sell(50_000);
    repair();

    let running = Home::start(world, &kindred, &[], &[]);
    running.until("all of them are level", || kindred.is_level());
    assert_eq!(world.concord(&["pause", "buyers"]).exit, 0);
    kindred.sell(60_000);
    let says = || world.concord(&["status"]).out.contains("waits for `buyers`, which is paused");
    running.until("it says for whom it waits", says);
    assert_eq!(world.concord(&["resume", "buyers"]).exit, 0);
    running.until("all of them are level", || kindred.is_level());
    running.stop();
    assert_eq!(world.concord(&["release", "FILE"]).exit, 0);
    assert_eq!(world.crm.psql("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"), "0");
    assert_eq!(world.erp.psql("SELECT to_regnamespace('concord') IS NULL"), "t");
}
