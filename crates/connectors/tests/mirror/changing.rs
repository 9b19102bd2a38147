//! Tables that are changed while nobody reads their log: what was written before the change is told as things were then.

use crate::support::World;
use concord_engine::runtime::command::Request;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, name varchar(10), note text)";
const FILLED: &str = "INSERT INTO t SELECT n, 'name ' || n, 'note' FROM generate_series(1, 300) n";
const FIELDS: &[&str] = &["id", "name", "note"];
const WIDEN: &str = "ALTER TABLE t ALTER name TYPE varchar(40)";

#[tokio::test]
async fn what_was_written_before_a_column_came_is_carried_and_the_column_too() {
    let mut world = World::new(TABLE, FILLED, FIELDS).await.started().await;
    world.stop().await;
    world.left.psql(
        "UPDATE t SET name = 'before' WHERE id = 1; INSERT INTO t VALUES (501, 'before', 'new'); DELETE FROM t WHERE id = 2",
    );
    world.left.psql(&format!("ALTER TABLE t ADD extra text NOT NULL DEFAULT 'extra'; {WIDEN}"));
    world.right.psql(&format!("ALTER TABLE t ADD extra text; {WIDEN}"));
    world.left.psql("UPDATE t SET name = repeat('behind ', 5), extra = 'other' WHERE id = 3; INSERT INTO t VALUES (502, 'behind', 'new', 'own')");
    world.remapped(&["id", "name", "note", "extra"]).await;
    world.start().await;
    world.until_equal().await;
    assert_eq!(world.right.psql("SELECT count(*), count(extra), count(*) FILTER (WHERE extra = 'extra') FROM t"), "301|301|299");
    assert!(world.verify().await.is_equal());
    assert!(world.reviews().await.is_empty());
}

#[tokio::test]
async fn a_column_that_was_widened_meanwhile_has_nothing_read_again() {
    let mut world = World::new(TABLE, FILLED, FIELDS).await.started().await;
    world.stop().await;
    world.left.psql("UPDATE t SET name = 'before' WHERE id = 1");
    world.left.psql(WIDEN);
    world.right.psql(WIDEN);
    world.left.psql("UPDATE t SET name = repeat('behind ', 5) WHERE id = 3");
    // Nothing tells of it, and it stays for as long as nothing is read again.
    world.right.psql("UPDATE t SET note = 'own' WHERE id = 200");
    world.remapped(FIELDS).await;
    world.start().await;
    let names = "SELECT string_agg(trim(name), ', ' ORDER BY id) FROM t WHERE id IN (1, 3)";
    let arrived = async || world.right.psql(names) == "before, behind behind behind behind behind";
    world.until("both are there", arrived).await;
    world.until("it is level", async || world.status().level).await;
    assert_eq!(world.right.psql("SELECT note FROM t WHERE id = 200"), "own");
}

#[tokio::test]
async fn a_column_that_went_and_came_again_is_read_again() {
    let mut world = World::new(TABLE, FILLED, FIELDS).await.started().await;
    world.stop().await;
    world.left.psql("UPDATE t SET note = 'before' WHERE id = 1");
    world.left.psql("ALTER TABLE t DROP note");
    world
        .left
        .psql("UPDATE t SET name = 'between' WHERE id = 2; INSERT INTO t VALUES (501, 'between'); DELETE FROM t WHERE id = 4");
    // What the other records show by now no log tells.
    world.left.psql("ALTER TABLE t ADD note text DEFAULT 'anew'");
    world.left.psql("UPDATE t SET name = 'behind' WHERE id = 3");
    world.start().await;
    world.until_equal().await;
    assert_eq!(world.right.psql("SELECT count(*) FROM t WHERE note = 'anew'"), "300");
    assert!(world.reviews().await.is_empty());
}

// The same while it runs: it stops, the column comes again, and a person lets it go on.
#[tokio::test]
async fn a_column_that_went_and_came_again_under_a_running_sync_is_read_again() {
    let world = World::new(TABLE, FILLED, FIELDS).await.started().await;
    world.left.psql("ALTER TABLE t DROP note; UPDATE t SET name = 'between' WHERE id = 2");
    world.until_stage("stopped: CON-2009").await;
    world.left.psql("ALTER TABLE t ADD note text DEFAULT 'anew'");
    world.ask(Request::Resume(world.rules.id)).await.unwrap();
    world.until_equal().await;
    assert_eq!(world.right.psql("SELECT count(*) FROM t WHERE note = 'anew'"), "300");
    assert!(world.reviews().await.is_empty());
}

// The server rounds every value, and logs none of it.
#[tokio::test]
async fn a_column_that_was_narrowed_meanwhile_is_read_again() {
    let table = "CREATE TABLE t (id int PRIMARY KEY, amount numeric(10, 2))";
    let filled = "INSERT INTO t SELECT n, n + 0.75 FROM generate_series(1, 300) n";
    let mut world = World::new(table, filled, &["id", "amount"]).await.started().await;
    world.stop().await;
    world.left.psql("UPDATE t SET amount = 7.25 WHERE id = 1");
    world.left.psql("ALTER TABLE t ALTER amount TYPE numeric(10, 0)");
    world.left.psql("UPDATE t SET amount = 9 WHERE id = 3");
    world.remapped(&["id", "amount"]).await;
    world.start().await;
    let parts = "SELECT count(*) FROM t WHERE amount <> trunc(amount)";
    world.until("every value is the source's", async || world.right.psql(parts) == "0").await;
    assert_eq!(world.right.psql("SELECT sum(amount) FROM t"), format!("{}.00", world.left.psql("SELECT sum(amount) FROM t")));
}

#[tokio::test]
async fn a_type_that_became_another_one_is_read_again() {
    let table = "CREATE TABLE t (id int PRIMARY KEY, amount int)";
    let filled = "INSERT INTO t SELECT n, n FROM generate_series(1, 300) n";
    let mut world = World::new(table, filled, &["id", "amount"]).await.started().await;
    world.stop().await;
    world.left.psql("UPDATE t SET amount = 7000 WHERE id = 1");
    world.left.psql("ALTER TABLE t ALTER amount TYPE text USING 'n' || amount");
    world.right.psql("ALTER TABLE t ALTER amount TYPE text");
    world.left.psql("UPDATE t SET amount = 'text' WHERE id = 3");
    world.remapped(&["id", "amount"]).await;
    world.start().await;
    world.until_equal().await;
    assert_eq!(world.right.psql("SELECT count(*) FROM t WHERE amount LIKE 'n%'"), "299");
    assert!(world.reviews().await.is_empty());
}

#[tokio::test]
async fn records_that_had_another_key_are_a_gap_and_no_other_records() {
    let table = "CREATE TABLE t (id int PRIMARY KEY, other int NOT NULL UNIQUE)";
    let filled = "INSERT INTO t SELECT n, 1000 - n FROM generate_series(1, 300) n";
    let mut world = World::new(table, filled, &["id", "other"]).await.started().await;
    world.stop().await;
    world.left.psql("DELETE FROM t WHERE id = 7");
    for database in [&world.left, &world.right] {
        database.psql("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (other)");
    }
    world.left.psql("DELETE FROM t WHERE id = 8");
    world.remapped(&["id", "other"]).await;
    world.start().await;
    world.until_stage("stopped: CON-2008").await;
    assert_eq!(world.right.psql("SELECT count(*) FROM t"), "300");
    world.ask(Request::Reread(world.rules.id)).await.unwrap();
    let review = world.until_review().await;
    assert!(review.message.starts_with("2 records"), "{review:?}");
}

#[tokio::test]
async fn a_table_without_a_key_gets_a_column_as_well() {
    let table = "CREATE TABLE t (line text, number int)";
    let filled = "INSERT INTO t SELECT 'line ' || n, n % 7 FROM generate_series(1, 300) n";
    let mut world = World::new(table, filled, &["line", "number"]).await.started().await;
    world.stop().await;
    world.left.psql("INSERT INTO t VALUES ('before', 1)");
    world.left.psql("ALTER TABLE t ADD extra text DEFAULT 'extra'");
    world.right.psql("ALTER TABLE t ADD extra text");
    world.left.psql("INSERT INTO t VALUES ('behind', 2, 'own')");
    world.remapped(&["line", "number", "extra"]).await;
    world.start().await;
    world.until_equal().await;
    assert_eq!(world.right.psql("SELECT count(*), count(*) FILTER (WHERE extra = 'extra') FROM t"), "302|301");
}

#[tokio::test]
async fn a_column_that_comes_while_changes_are_carried_is_offered_with_what_is_to_be_written() {
    let mut world = World::new(TABLE, FILLED, FIELDS).await.started().await;
    assert_eq!(world.status().offers, Vec::<String>::new());
    world.left.psql("ALTER TABLE t ADD extra varchar(30) DEFAULT 'extra'; UPDATE t SET note = 'behind' WHERE id = 1");
    world.until_equal().await;
    world.until("it is offered", async || !world.status().offers.is_empty()).await;
    let offers = world.status().offers;
    assert_eq!(offers.len(), 1);
    assert!(offers[0].contains("new field `extra` (character varying(30))"), "{offers:?}");
    assert!(offers[0].contains(r#"{ "source": "extra", "target": "extra" } to `field_mappings`"#), "{offers:?}");
    let alter = "ALTER TABLE \"public\".\"t\" ADD COLUMN \"extra\" character varying(30);";
    assert!(offers[0].contains(alter), "{offers:?}");
    // What it says is what it takes.
    world.stop().await;
    world.right.psql(alter);
    world.remapped(&["id", "name", "note", "extra"]).await;
    world.start().await;
    world.until_equal().await;
    assert_eq!(world.right.psql("SELECT count(*) FROM t WHERE extra = 'extra'"), "300");
    assert_eq!(world.status().offers, Vec::<String>::new());
}
