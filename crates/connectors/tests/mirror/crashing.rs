//! Killed at any moment, on either side: nothing is lost, nothing doubled, and a load goes on with what is left.

use crate::server::{Options, Server};
use crate::support::World;
use concord_engine::rules::SyncRules;
use concord_engine::runtime::command::{Request, Resolution};
use std::sync::Arc;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, name text, tally int)";
const FIELDS: &[&str] = &["id", "name", "tally"];

#[tokio::test]
async fn sessions_that_are_ended_at_either_side_cost_nothing_but_time() {
    let filled = "INSERT INTO t SELECT n, 'name ' || n, 0 FROM generate_series(1, 2000) n";
    let world = World::new(TABLE, filled, FIELDS).await.started().await;
    let writer = world.left.session().await;
    for round in 0..8 {
        writer
            .batch_execute(&format!(
                "UPDATE t SET tally = tally + 1 WHERE id % 8 = {round}; DELETE FROM t WHERE id = {round} + 100"
            ))
            .await
            .unwrap();
        let database = if round % 2 == 0 { &world.left } else { &world.right };
        database.psql(&format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{}' AND application_name LIKE 'concord%'",
            database.name
        ));
    }
    world.until_equal().await;
}

/// Commits of changes do not wait for the disk: what the server loses, it loses with the progress.
#[tokio::test]
async fn a_target_that_crashes_and_forgets_its_last_commits_gets_them_again() {
    // The server's own writer of the log is slow, so that every crash takes something along.
    let settings =
        vec![("wal_writer_delay".to_owned(), "10s".to_owned()), ("wal_writer_flush_after".to_owned(), "1GB".to_owned())];
    let server = Arc::new(Server::start(&Options { settings, ..Options::default() }));
    let filled = "INSERT INTO t SELECT n, 'name ' || n, 0 FROM generate_series(1, 2000) n";
    let world =
        World::between(Server::shared().database(), server.database(), TABLE, TABLE, filled, FIELDS).await.started().await;
    let writer = world.left.session().await;
    let seen = "SELECT sum(tally) FROM t";
    for round in 0..6_u32 {
        let before = world.right.psql(seen);
        for n in 0..20 {
            writer.batch_execute(&format!("UPDATE t SET tally = tally + 1 WHERE id % 20 = {n}")).await.unwrap();
        }
        writer
            .batch_execute(&format!("DELETE FROM t WHERE id = 100 + {round}; INSERT INTO t VALUES ({round} + 5000, 'new', 0)"))
            .await
            .unwrap();
        world.until("something is carried", async || world.right.psql(seen) != before).await;
        server.crash();
    }
    world.until_equal().await;
    assert!(world.verify().await.is_equal());
    assert!(world.reviews().await.is_empty());
}

/// What was said holds up to a place of the log, and the log of a server that was put back begins before that again.
#[tokio::test]
async fn what_a_person_said_of_deletes_is_not_said_of_a_source_that_was_put_back() {
    let server = Arc::new(Server::start(&Options::default()));
    let filled = "INSERT INTO t SELECT n, 'name ' || n, 0 FROM generate_series(1, 200) n";
    let mut world =
        World::between(server.database(), Server::shared().database(), TABLE, TABLE, filled, FIELDS).await.started().await;
    world.stop().await;
    server.back_up();
    world.start().await;
    world.left.psql("CREATE TABLE other AS SELECT n, n::text AS text FROM generate_series(1, 100000) n");
    world.left.psql("DELETE FROM t WHERE id <= 150");
    let review = world.until_review().await;
    world.until_stage("stopped: CON-3017").await;
    world.decide(&review, Resolution::Ignore).await.unwrap();
    world.left.psql("INSERT INTO t VALUES (500, 'behind', 0)");
    world.until("what came behind is there", async || world.right.psql("SELECT count(*) FROM t WHERE id = 500") == "1").await;
    world.stop().await;
    server.restore();
    world.start().await;
    world.until_stage("stopped: CON-20").await;
    world.ask(Request::Reread(world.rules.id)).await.unwrap();
    // The one record that only the target has by now.
    let review = world.until_review().await;
    world.until_stage("live").await;
    world.decide(&review, Resolution::Retry).await.unwrap();
    world.until_equal().await;
    world.left.psql("DELETE FROM t WHERE id <= 150");
    assert_eq!(world.until_review().await.code, "CON-3017");
}

#[tokio::test]
async fn whoever_took_a_sync_over_last_is_the_only_one_who_writes() {
    let filled = "INSERT INTO t SELECT n, 'name ' || n, 0 FROM generate_series(1, 100) n";
    let mut world = World::new(TABLE, filled, FIELDS).await.started().await;
    // Somebody else takes it over: what is written now must fail, and is written again once it has been taken back.
    world.right.psql("UPDATE concord.mirrors SET fence = fence + 1");
    world.left.psql("UPDATE t SET tally = 7 WHERE id <= 10");
    world.until_equal().await;
    assert!(world.right.psql("SELECT fence >> 32 FROM concord.mirrors").parse::<u32>().unwrap() >= 2, "it was taken back");
    world.stop().await;
}

/// Two processes keep their progress in the same tables: one begins while the other forgets its last sync.
#[tokio::test]
async fn whoever_forgets_a_sync_leaves_another_that_has_just_begun_its_progress() {
    let world = World::new(TABLE, "", FIELDS).await;
    let target = world.target();
    let mirror = target.mirror_target().unwrap();
    mirror.take_over("one", &"t".into()).await.unwrap();
    let beginning = world.right.session().await;
    beginning.batch_execute("BEGIN; INSERT INTO concord.mirrors (sync, object, fence) VALUES ('other', 't', 1)").await.unwrap();
    let forgetting = mirror.forget("one");
    let committing = async {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        world.until("it waits for who begins", async || world.right.psql(waits) != "0").await;
        beginning.batch_execute("COMMIT").await.unwrap();
    };
    let (forgotten, ()) = tokio::join!(forgetting, committing);
    forgotten.unwrap();
    assert_eq!(world.right.psql("SELECT string_agg(sync, ',') FROM concord.mirrors"), "other");
    mirror.forget("other").await.unwrap();
    assert_eq!(world.right.psql("SELECT to_regnamespace('concord') IS NULL"), "t");
}

/// A load of which some ranges wait for a lock in the target, which the session holds, and the others are loaded; then
/// everything died.
async fn cut_short(change: impl FnOnce(&mut SyncRules)) -> (World, tokio_postgres::Client) {
    let filled = "INSERT INTO t SELECT n, 'name ' || n, 0 FROM generate_series(1, 10000) n; ANALYZE t";
    cut_short_of(TABLE, filled, "5000", change).await
}

/// The same of a table of one's own; records whose key is behind `last` wait.
async fn cut_short_of(
    table: &str,
    filled: &str,
    last: &str,
    change: impl FnOnce(&mut SyncRules),
) -> (World, tokio_postgres::Client) {
    let right = format!(
        "{table}; CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN IF NEW.id > {last} THEN PERFORM pg_advisory_xact_lock_shared(1); END IF; RETURN NEW; END $$; \
         CREATE TRIGGER wait BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION wait()"
    );
    let mut world = World::of(table, &right, filled, FIELDS).await.with(|rules| {
        rules.parallelism = 8;
        change(rules);
    });
    let holder = world.right.session().await;
    holder.batch_execute("SELECT pg_advisory_lock(1)").await.unwrap();
    world.start().await;
    let loaded = async || world.right.psql("SELECT count(*) FROM concord.loaded").parse::<u32>().unwrap() >= 3;
    world
        .until("some ranges are loaded", async || world.right.psql("SELECT to_regclass('concord.loaded') IS NOT NULL") == "t")
        .await;
    world.until("some ranges are loaded", loaded).await;
    world.crash().await;
    let before: u32 = world.right.psql("SELECT count(*) FROM t").parse().unwrap();
    assert!((3_000..10_000).contains(&before), "{before}");
    (world, holder)
}

#[tokio::test]
async fn a_load_that_was_cut_short_goes_on_with_what_is_left() {
    let (mut world, holder) = cut_short(|_| {}).await;
    // In what is loaded, in what is not, and from the one into the other.
    world.left.psql(
        "UPDATE t SET tally = 1 WHERE id % 100 = 0; DELETE FROM t WHERE id IN (11, 9011); \
         UPDATE t SET id = 20000 WHERE id = 12; UPDATE t SET id = 0 WHERE id = 9012; INSERT INTO t VALUES (-5, 'new', 0), (30000, 'new', 0)",
    );
    holder.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    world.start().await;
    world.until_equal().await;
    assert!(world.verify().await.is_equal());
    assert!(world.reviews().await.is_empty());
}

#[tokio::test]
async fn a_load_by_uuids_is_made_side_by_side_and_goes_on_with_what_is_left() {
    let table = "CREATE TABLE t (id uuid PRIMARY KEY, name text NOT NULL, tally int)";
    let filled = "INSERT INTO t SELECT md5(n::text)::uuid, 'name ' || n, 0 FROM generate_series(1, 10000) n; ANALYZE t";
    let (mut world, holder) = cut_short_of(table, filled, "'80000000-0000-0000-0000-000000000000'", |_| {}).await;
    world.left.psql(
        "UPDATE t SET tally = 1 WHERE id::text LIKE '%7'; DELETE FROM t WHERE id::text LIKE '%ab'; \
         UPDATE t SET id = 'ffffffff-ffff-ffff-ffff-ffffffffffff' WHERE name = (SELECT name FROM t ORDER BY id LIMIT 1); \
         UPDATE t SET id = '00000000-0000-0000-0000-000000000000' WHERE name = (SELECT name FROM t ORDER BY id DESC OFFSET 1 LIMIT 1); \
         INSERT INTO t VALUES ('00000000-0000-0000-0000-000000000001', 'new', 0), ('ffffffff-0000-0000-0000-000000000001', 'new', 0)",
    );
    holder.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    world.start().await;
    world.until_equal().await;
    assert!(world.verify().await.is_equal());
    assert!(world.reviews().await.is_empty());
}

/// A record that takes a key in what is not loaded yet is no delete, and what is said about deletes is not said of it.
#[tokio::test]
async fn deletes_that_a_person_drops_take_no_record_with_them_that_took_another_key() {
    let (mut world, holder) = cut_short(|rules| rules.guard.max_deletes = 20).await;
    world.left.psql("DELETE FROM t WHERE id <= 30; UPDATE t SET id = 20000 WHERE id = 100");
    world.start().await;
    let review = world.until_review().await;
    world.until_stage("stopped: CON-3017").await;
    world.decide(&review, Resolution::Ignore).await.unwrap();
    holder.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    world.until("it is level", async || world.status().level).await;
    let keys =
        "SELECT count(*) FILTER (WHERE id = 100), count(*) FILTER (WHERE id = 20000), count(*) FILTER (WHERE id = 30) FROM t";
    assert_eq!(world.right.psql(keys), "0|1|1");
}
