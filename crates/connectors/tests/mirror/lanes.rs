//! Changes that have piled up, carried out in lanes side by side: each once, wherever everything ends.

use crate::server::{Options, Server};
use crate::support::World;
use std::sync::Arc;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, name text, tally int)";
const UNIQUE: &str = "CREATE TABLE t (id int PRIMARY KEY, name text UNIQUE, tally int)";
const FILLED: &str = "INSERT INTO t SELECT n, 'name ' || n, 0 FROM generate_series(1, 6000) n; ANALYZE t";
const FIELDS: &[&str] = &["id", "name", "tally"];
/// How many lanes were used last.
const LANES: &str = "SELECT coalesce(max(lanes), 0) FROM concord.lanes";
/// Every record, and some of them again: more than makes a lane worth while.
const PILED_UP: &str = "UPDATE t SET tally = tally + 1; UPDATE t SET tally = tally + 1 WHERE id % 3 = 0; DELETE FROM t WHERE id % 100 = 7; \
    INSERT INTO t SELECT n, 'new ' || n, 0 FROM generate_series(10001, 10500) n";

async fn away(table: &str, parallelism: usize) -> World {
    let mut world = World::new(table, FILLED, FIELDS).await.with(|rules| rules.parallelism = parallelism).started().await;
    world.stop().await;
    world
}

#[tokio::test]
async fn what_has_piled_up_is_carried_in_lanes_and_what_has_not_is_carried_together() {
    let mut world = away(UNIQUE, 4).await;
    world.left.psql(PILED_UP);
    world.start().await;
    world.until_equal().await;
    assert_eq!(world.right.psql(LANES), "4");
    assert!(world.verify().await.is_equal());

    let before = world.right.psql("SELECT sum(fence) FROM concord.lanes");
    world.left.psql("UPDATE t SET tally = -1 WHERE id < 1500");
    world.until_equal().await;
    assert_eq!(world.right.psql("SELECT sum(fence) FROM concord.lanes"), before);
}

#[tokio::test]
async fn one_applier_is_used_where_parallelism_is_one_and_where_a_trigger_may_look_at_other_records() {
    let mut world = away(TABLE, 1).await;
    world.left.psql(PILED_UP);
    world.start().await;
    world.until_equal().await;
    assert_eq!(world.right.psql(LANES), "0");

    let trigger = "CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$; \
        CREATE TRIGGER look BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION look()";
    let mut world = away(TABLE, 4).await;
    world.right.psql(trigger);
    world.left.psql(PILED_UP);
    world.start().await;
    world.until_equal().await;
    assert_eq!(world.right.psql(LANES), "0");
}

#[tokio::test]
async fn records_without_a_key_have_one_applier() {
    let table = "CREATE TABLE t (line text, tally int)";
    let world = World::new(table, "INSERT INTO t VALUES ('first', 0); ANALYZE t", &["line", "tally"]).await;
    let mut world = world.with(|rules| rules.parallelism = 4).started().await;
    world.stop().await;
    world.left.psql("INSERT INTO t SELECT 'line ' || n % 50, n % 7 FROM generate_series(1, 9000) n");
    world.start().await;
    world.until_equal().await;
    assert_eq!(world.right.psql("SELECT count(*) FROM concord.lanes"), "0");
    assert!(world.verify().await.is_equal());
}

/// What a lane has carried out before everything ended is not carried out again, also with another `parallelism`.
#[tokio::test]
async fn a_lane_that_got_further_than_the_others_carries_nothing_out_twice() {
    for then in [1, 3, 8] {
        let mut world = away(TABLE, 4).await;
        world.left.psql(PILED_UP);
        // One lane waits for this record, and then the progress of all does.
        let holder = world.right.session().await;
        holder.batch_execute("BEGIN; SELECT FROM t WHERE id = 1 FOR UPDATE").await.unwrap();
        world.start().await;
        world.until("three lanes are ahead", async || world.right.psql("SELECT count(*) FROM concord.lanes") == "3").await;
        world.crash().await;
        // The server does not learn by itself that nobody waits any more for what waits for the record.
        let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '%:mirror'";
        world.until("its sessions have ended", async || world.right.psql(ended) == "0").await;
        holder.batch_execute("ROLLBACK").await.unwrap();
        // Edits against the flow stay until the source changes the record, which it did once with these: what is carried out again
        // goes over them.
        let carried = world
            .right
            .psql("WITH against AS (UPDATE t SET name = 'against' WHERE tally > 0 AND id % 3 <> 0 AND id % 100 <> 7 RETURNING 1) SELECT count(*) FROM against");
        let carried: u32 = carried.parse().unwrap();
        assert!((500..1_500).contains(&carried), "{carried}");
        world.rules.parallelism = then;
        world.start().await;
        world.until("it is level", async || world.status().level).await;
        assert_eq!(world.right.psql("SELECT count(*) FROM t WHERE name = 'against'"), carried.to_string(), "then {then}");
        let (left, right) =
            (world.left.psql("SELECT id, tally FROM t ORDER BY 1"), world.right.psql("SELECT id, tally FROM t ORDER BY 1"));
        assert!(left == right, "then {then}");
        // What follows is carried in lanes again.
        world.left.psql("UPDATE t SET name = 'after', tally = tally + 1");
        world.until_equal().await;
        assert!(world.reviews().await.is_empty());
    }
}

#[tokio::test]
async fn killed_again_and_again_with_another_parallelism_each_time_it_ends_equal() {
    let mut world = away(UNIQUE, 4).await;
    for round in 0..12_u64 {
        world.left.psql(&format!(
            "UPDATE t SET tally = tally + 1; UPDATE t SET name = 'round {round} ' || id WHERE id % 5 = {round} % 5; \
             DELETE FROM t WHERE id % 500 = {round}; INSERT INTO t SELECT n, 'made ' || n, {round} FROM generate_series(20000 + {round} * 100, 20050 + {round} * 100) n"
        ));
        world.rules.parallelism = [2, 8, 1, 4][usize::try_from(round % 4).unwrap()];
        let fences = "SELECT coalesce(sum(fence), 0) FROM concord.lanes";
        let before = world.right.psql(fences);
        world.start().await;
        if world.rules.parallelism > 1 {
            let is_used = async || world.right.psql(fences) != before || world.status().level;
            world.until("lanes are used", is_used).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(round * 37 % 100)).await;
        world.crash().await;
    }
    world.start().await;
    world.until_equal().await;
    assert!(world.verify().await.is_equal());
    assert!(world.reviews().await.is_empty());
}

#[tokio::test]
async fn unique_values_that_pass_from_lane_to_lane_arrive() {
    let mut world = away(UNIQUE, 4).await;
    // Freed by one and taken by another, exchanged, and passed on by records that go.
    world.left.psql(&format!(
        "{PILED_UP}; UPDATE t SET name = 'free ' || id WHERE id <= 200; UPDATE t SET name = 'name ' || (id - 200) WHERE id BETWEEN 201 AND 400; \
         BEGIN; UPDATE t SET name = 'between' WHERE id = 501; UPDATE t SET name = 'name 501' WHERE id = 502; UPDATE t SET name = 'name 502' WHERE id = 501; COMMIT; \
         DELETE FROM t WHERE id = 600; UPDATE t SET name = 'name 600' WHERE id = 601; UPDATE t SET tally = 0 WHERE id > 1000"
    ));
    world.start().await;
    world.until_equal().await;
    assert!(world.verify().await.is_equal());
    assert!(world.reviews().await.is_empty());
}

#[tokio::test]
async fn what_the_target_refuses_in_a_lane_waits_and_everything_else_flows() {
    let mut world = away(TABLE, 4).await;
    world.right.psql("ALTER TABLE t ADD CHECK (tally < 100)");
    world.left.psql(&format!("{PILED_UP}; UPDATE t SET tally = 100 WHERE id = 50"));
    world.start().await;
    let review = world.until_review().await;
    assert!(review.message.contains("check"), "{review:?}");
    let differing = async || {
        let (left, right) = world.sides();
        left.lines().zip(right.lines()).filter(|(left, right)| left != right).count()
    };
    world.until("everything else is there", async || world.status().level && differing().await == 1).await;
    world.left.psql("UPDATE t SET tally = 5 WHERE id = 50");
    world.until_equal().await;
    world.until("nothing waits", async || world.reviews().await.is_empty()).await;
}

/// Commits of lanes do not wait for the disk either.
#[tokio::test]
async fn a_target_that_forgets_commits_of_lanes_gets_them_again() {
    let settings =
        vec![("wal_writer_delay".to_owned(), "10s".to_owned()), ("wal_writer_flush_after".to_owned(), "1GB".to_owned())];
    let server = Arc::new(Server::start(&Options { settings, ..Options::default() }));
    let left = Server::shared().database();
    let mut world = World::between(left, server.database(), TABLE, TABLE, FILLED, FIELDS).await.started().await;
    let seen = "SELECT sum(tally) FROM t";
    for round in 0..5 {
        world.stop().await;
        let before = world.right.psql(seen);
        world
            .left
            .psql(&format!("UPDATE t SET tally = tally + 1; UPDATE t SET tally = tally + 1; DELETE FROM t WHERE id = {round}"));
        world.start().await;
        world.until("something is carried", async || world.right.psql(seen) != before).await;
        server.crash();
        world.until_equal().await;
    }
    assert!(world.right.psql(LANES).parse::<u32>().unwrap() > 1);
    assert!(world.verify().await.is_equal());
    assert!(world.reviews().await.is_empty());
}
