//! What is seen of a sync from outside: the log that its source keeps, also while it does not go on, and how far its first read
//! has got.

use crate::server::{Options, Server};
use crate::support::World;
use concord_engine::runtime::command::Request;
use concord_engine::runtime::status::LoadStatus;
use std::sync::Arc;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, name text)";
const FILLED: &str = "INSERT INTO t SELECT n, 'name ' || n FROM generate_series(1, 300) n";
const FIELDS: &[&str] = &["id", "name"];

fn progress(world: &World) -> Option<LoadStatus> {
    world.status().members.first()?.progress.clone()
}

#[tokio::test]
async fn the_log_that_is_kept_for_a_sync_that_was_paused_before_a_restart_is_shown_and_warned_of() {
    let settings = vec![("max_slot_wal_keep_size".to_owned(), "64MB".to_owned())];
    let server = Arc::new(Server::start(&Options { settings, ..Options::default() }));
    let right = Server::shared().database();
    let mut world = World::between(server.database(), right, TABLE, TABLE, FILLED, FIELDS).await.started().await;
    world.ask(Request::Pause(world.rules.id)).await.unwrap();
    world.until_stage("paused").await;
    world.stop().await;
    world.left.psql("SELECT count(pg_logical_emit_message(false, 'other', repeat('x', 1000000))) FROM generate_series(1, 50)");
    world.start().await;
    let is_warned_of = async || {
        let feeds = world.statuses().feeds;
        let feed = feeds.first();
        feed.is_some_and(|feed| {
            feed.retained_bytes.is_some_and(|bytes| bytes > 45_000_000)
                && feed.warning.as_ref().is_some_and(|warning| warning.contains("max_slot_wal_keep_size"))
        })
    };
    world.until("the log that is kept is warned of", is_warned_of).await;
    assert_eq!(world.status().stage, "paused");
    world.ask(Request::Resume(world.rules.id)).await.unwrap();
    world.until_equal().await;
}

/// Its key begins with a text, so that it is one range, and is copied in one go.
#[tokio::test]
async fn a_first_read_in_one_range_tells_how_far_it_has_got_while_it_goes_on() {
    let table = "CREATE TABLE t (id text PRIMARY KEY, name text)";
    let held = "CREATE FUNCTION held(name text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN \
        IF name LIKE 'stop%' THEN PERFORM pg_advisory_xact_lock_shared(4711); END IF; RETURN true; END $$";
    let filled = "INSERT INTO t SELECT gen_random_uuid()::text, CASE WHEN n = 10000 THEN 'stop' ELSE 'go' END || repeat('x', 500) \
        FROM generate_series(1, 60000) n; ANALYZE t";
    let right = format!("{table}; {held}; ALTER TABLE t ADD CHECK (held(name))");
    let mut world = World::of(table, &right, filled, FIELDS).await;
    let holder = world.right.session().await;
    holder.batch_execute("SELECT pg_advisory_lock(4711)").await.unwrap();
    world.start().await;
    let counts = async || progress(&world).is_some_and(|load| load.records > 10_000 && load.bytes > 5_000_000);
    world.until("records are counted while they are copied", counts).await;
    let load = progress(&world).unwrap();
    assert!(load.records < 60_000 && load.phase == "reading", "{load:?}");
    assert!(load.of.is_some_and(|of| (50_000..70_000).contains(&of)), "{load:?}");
    assert!((500..600).contains(&(load.bytes / load.records)), "{load:?}");
    assert!(load.records_per_second > 0 && load.seconds_left.is_some(), "{load:?}");
    let shown = world.status().members[0].load.clone();
    assert!(shown.starts_with("reading: ") && shown.contains(" MB") && shown.contains(" left"), "{shown}");
    holder.batch_execute("SELECT pg_advisory_unlock(4711)").await.unwrap();
    world.until("it is level", async || world.status().level).await;
    assert_eq!(world.right.psql("SELECT count(*) FROM t"), "60000");
    assert_eq!((world.status().members[0].load.as_str(), progress(&world)), ("done", None));
}

#[tokio::test]
async fn what_is_decoded_is_counted_too_and_so_is_what_was_copied_in_vain() {
    // One of the first is refused, which is seen when all of them have been copied.
    let right = "CREATE TABLE t (id int PRIMARY KEY, name text CHECK (name <> 'name 7' AND pg_sleep(0.005) IS NOT NULL))";
    let mut world = World::of(TABLE, right, FILLED, FIELDS).await;
    world.rules.parallelism = 1;
    world.start().await;
    let most = std::sync::atomic::AtomicU64::new(0);
    let is_level = async || {
        most.fetch_max(progress(&world).map_or(0, |load| load.records), std::sync::atomic::Ordering::SeqCst);
        world.status().level
    };
    world.until("it is level", is_level).await;
    let most = most.into_inner();
    assert!((1..=300).contains(&most), "{most}");
    assert_eq!(world.right.psql("SELECT count(*) FROM t"), "299");
}

#[tokio::test]
async fn indexes_that_are_built_behind_a_load_are_shown_as_that() {
    let right = format!(
        "{TABLE}; CREATE FUNCTION slow(id int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS \
         $$ BEGIN PERFORM pg_sleep(0.005); RETURN id; END $$; CREATE INDEX by_slow ON t (slow(id))"
    );
    let mut world = World::of(TABLE, &right, FILLED, FIELDS).await;
    world.rules.initial.rebuild_indexes = true;
    world.start().await;
    let is_building = async || progress(&world).is_some_and(|load| load.phase == "building indexes" && load.records == 300);
    world.until("the index is built", is_building).await;
    assert!(world.status().members[0].load.starts_with("building indexes for "));
    world.until_equal().await;
    assert_eq!(world.status().members[0].load, "done");
}
