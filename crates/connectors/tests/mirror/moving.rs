//! Records that take other keys, and records of which a part is told, many at a time: how few statements they are, that nobody
//! waits for the answer of each, and that it all ends as it does at the source.

use crate::support::World;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, name text, doc text)";
const FIELDS: &[&str] = &["id", "name", "doc"];
/// Notes each statement: the transaction, and how many records it wrote of how many bytes. What is written behind a savepoint has
/// another number than the transaction.
const NOTED: &str = "CREATE TABLE how (top text, records bigint, bytes bigint); \
    CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        INSERT INTO how SELECT pg_current_xact_id()::text, count(*), coalesce(sum(length(doc)), 0) FROM changed; RETURN NULL; END $$; \
    CREATE TRIGGER changed AFTER UPDATE ON t REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION noted(); \
    CREATE TRIGGER made AFTER INSERT ON t REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION noted()";
/// Statements that wrote something, and those of them that were carried out behind a savepoint.
const STATEMENTS: &str = "SELECT count(*), count(*) FILTER (WHERE top <> xmin::text) FROM how WHERE records > 0";

/// A sync that is level and away. Documents of the first records are too large to be told again by the log where they stay.
async fn away(records: u32, documents: u32) -> World {
    let left = format!("{TABLE}; ALTER TABLE t ALTER doc SET STORAGE EXTERNAL");
    let filled = format!(
        "INSERT INTO t SELECT n, 'name ' || n, CASE WHEN n <= {documents} THEN repeat('x', 4000) END FROM generate_series(1, {records}) n"
    );
    let mut world = World::of(&left, &format!("{TABLE}; {NOTED}"), &filled, FIELDS).await.started().await;
    world.stop().await;
    world.right.psql("TRUNCATE how");
    world
}

fn statements(world: &World) -> (usize, usize) {
    let shown = world.right.psql(STATEMENTS);
    let (all, behind) = shown.split_once('|').unwrap();
    (all.parse().unwrap(), behind.parse().unwrap())
}

#[tokio::test]
async fn many_records_that_take_other_keys_are_few_statements_that_nobody_waits_for() {
    let mut world = away(5_000, 50).await;
    world.left.psql("UPDATE t SET id = id + 1000000");
    world.start().await;
    world.until_equal().await;
    let (all, behind) = statements(&world);
    // Those whose documents are not told are of another shape. What has arrived together is carried together.
    assert!((1..=40).contains(&all) && behind == 0, "{all}, {behind} of them behind a savepoint");
    assert!(world.reviews().await.is_empty());
    assert!(world.verify().await.is_equal());
}

#[tokio::test]
async fn keys_that_move_on_by_one_arrive() {
    let mut world = away(400, 5).await;
    // From the last one on, for a key must be free before it is taken.
    world.left.psql(
        "DO $$ BEGIN FOR n IN REVERSE 400 .. 1 LOOP UPDATE t SET id = id + 1 WHERE id = n; END LOOP; END $$; \
         UPDATE t SET id = -id WHERE id % 2 = 0; UPDATE t SET id = 1 WHERE id = -2; INSERT INTO t VALUES (2, 'made', NULL)",
    );
    world.start().await;
    world.until_equal().await;
    assert_eq!(statements(&world).1, 0);
    assert!(world.reviews().await.is_empty());
    assert!(world.verify().await.is_equal());
}

#[tokio::test]
async fn parts_of_records_are_carried_without_waiting_for_what_they_meet() {
    let mut world = away(1_000, 1_000).await;
    world.left.psql("UPDATE t SET name = 'part ' || id; INSERT INTO t VALUES (2000, 'behind', NULL)");
    world.start().await;
    world.until_equal().await;
    let (all, behind) = statements(&world);
    assert!((2..=30).contains(&all) && behind == 0, "{all}, {behind} of them behind a savepoint");
    assert_eq!(world.right.psql("SELECT count(*) FROM t WHERE length(doc) = 4000"), "1000");
}

#[tokio::test]
async fn a_part_and_a_new_key_of_a_record_that_is_not_there_bring_all_of_it() {
    let mut world = away(1_000, 500).await;
    world.right.psql("DELETE FROM t WHERE id % 10 = 0; TRUNCATE how");
    world.left.psql("UPDATE t SET name = 'part ' || id WHERE id <= 500; UPDATE t SET id = id + 1000000 WHERE id % 4 = 0");
    world.start().await;
    world.until("it is level", async || world.status().level).await;
    // All but those of which nothing was told.
    assert_eq!(world.right.psql("SELECT count(*) FROM t"), "975");
    let shown = "SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM t WHERE NOT (id BETWEEN 501 AND 1000 AND id % 10 = 0)";
    assert_eq!(world.left.psql(shown), world.right.psql(shown));
    let (_, behind) = statements(&world);
    assert!(behind > 0, "what was not met is seen to one by one");
    assert!(world.reviews().await.is_empty());
    // After a while it is tried again.
    for round in 0..20 {
        world.left.psql(&format!("UPDATE t SET name = 'round {round}' WHERE id <= 20"));
        world
            .until("it has arrived", async || {
                world.right.psql(&format!("SELECT count(*) FROM t WHERE name = 'round {round}'")) == "15"
            })
            .await;
    }
    world.right.psql("TRUNCATE how");
    world.left.psql("UPDATE t SET name = 'at last' WHERE id <= 20");
    world.until("it has arrived", async || world.right.psql("SELECT count(*) FROM t WHERE name = 'at last'") == "15").await;
    assert_eq!(statements(&world).1, 0);
}

#[tokio::test]
async fn one_that_is_refused_on_its_way_to_another_key_holds_up_no_other() {
    let mut world = away(1_000, 0).await;
    world.right.psql("ALTER TABLE t ADD CHECK (id <> 1000500)");
    world.left.psql("UPDATE t SET id = id + 1000000");
    world.start().await;
    let review = world.until_review().await;
    assert!(review.message.contains("check"), "{review:?}");
    let others = async || world.status().level && world.right.psql("SELECT count(*) FROM t WHERE id > 1000000") == "999";
    world.until("the others are there", others).await;
    assert_eq!(world.right.psql("SELECT count(*) FROM t WHERE id <= 1000000"), "0");
}

#[tokio::test]
async fn killed_again_and_again_while_keys_move_it_ends_equal() {
    let mut world = away(1_500, 100).await;
    for round in 0..10_u64 {
        world.left.psql(&format!(
            "UPDATE t SET id = id + 1000000 * (1 << {round}); UPDATE t SET name = 'round {round}' WHERE id % 7 = {round} % 7; DELETE FROM t WHERE id % 300 = {round}; \
             INSERT INTO t SELECT n, 'made {round}', NULL FROM generate_series({round} * 50 + 1, {round} * 50 + 40) n"
        ));
        world.start().await;
        tokio::time::sleep(std::time::Duration::from_millis(round * 31 % 110)).await;
        world.crash().await;
    }
    world.start().await;
    world.until_equal().await;
    assert!(world.verify().await.is_equal());
    assert!(world.reviews().await.is_empty());
}

const PRICED: &str = "CREATE TABLE t (id int PRIMARY KEY, name text, price int)";
const PRICES: &str = "INSERT INTO t SELECT n, 'name ' || n, n FROM generate_series(1, 100) n";
/// Notes where a statement writes prices.
const REPRICED: &str = "CREATE TABLE repriced (id int); CREATE FUNCTION repriced() RETURNS trigger LANGUAGE plpgsql AS \
    $$ BEGIN INSERT INTO repriced VALUES (NEW.id); RETURN NULL; END $$; \
    CREATE TRIGGER repriced AFTER UPDATE OF price ON t FOR EACH ROW EXECUTE FUNCTION repriced()";

/// Where the source tells what a record was before, only what has changed is written; else all of it is.
#[tokio::test]
async fn with_a_full_replica_identity_changed_columns_alone_are_written() {
    for is_full in [true, false] {
        let left = format!("{PRICED}; {}", if is_full { "ALTER TABLE t REPLICA IDENTITY FULL" } else { "" });
        let world = World::of(&left, &format!("{PRICED}; {REPRICED}"), PRICES, &["id", "name", "price"]).await.started().await;
        // Against the flow: it stays until the source next changes what it is in.
        world.right.psql("UPDATE t SET price = -1 WHERE id = 1; TRUNCATE repriced");
        world.left.psql("UPDATE t SET name = 'renamed' WHERE id <= 50");
        world.until("it is there", async || world.right.psql("SELECT count(*) FROM t WHERE name = 'renamed'") == "50").await;
        let repriced = if is_full { ("0", "-1") } else { ("50", "1") };
        assert_eq!(world.right.psql("SELECT count(*) FROM repriced"), repriced.0, "full: {is_full}");
        assert_eq!(world.right.psql("SELECT price FROM t WHERE id = 1"), repriced.1, "full: {is_full}");
        world.left.psql(
            "UPDATE t SET price = price + 1 WHERE id <= 20; UPDATE t SET id = id + 1000, name = NULL WHERE id = 2; UPDATE t SET name = name; \
             BEGIN; INSERT INTO t VALUES (500, 'made', 5); UPDATE t SET price = 6 WHERE id = 500; COMMIT; DELETE FROM t WHERE id = 3",
        );
        world.until_equal().await;
        assert!(world.reviews().await.is_empty());
        assert!(world.verify().await.is_equal());
    }
}

#[tokio::test]
async fn a_part_of_a_record_that_was_refused_has_all_of_it_tried_again() {
    let left = format!("{PRICED}; ALTER TABLE t REPLICA IDENTITY FULL");
    let right = "CREATE TABLE t (id int PRIMARY KEY, name text, price int CHECK (price < 1000))";
    let world = World::of(&left, right, PRICES, &["id", "name", "price"]).await.started().await;
    world.left.psql("UPDATE t SET name = 'refused', price = 5000 WHERE id = 7");
    world.until_review().await;
    // Puts the price right, and tells nothing of the name.
    world.left.psql("UPDATE t SET price = 8 WHERE id = 7");
    world.until_equal().await;
    world.until("nothing waits", async || world.reviews().await.is_empty()).await;
}
