//! What follows: every kind of change, carried in the source's order.

use super::World;
use crate::support::Target;
use concord_engine::runtime::command::Request;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, name text UNIQUE, note text)";
const FILLED: &str = "INSERT INTO t SELECT n, 'name ' || n, 'note' FROM generate_series(1, 100) n";
const FIELDS: &[&str] = &["id", "name", "note"];

async fn world() -> World {
    World::new(TABLE, FILLED, FIELDS).await.started().await
}

#[tokio::test]
async fn inserts_updates_deletes_and_new_keys_arrive() {
    let world = world().await;
    world.left.psql("INSERT INTO t VALUES (200, 'new', NULL); UPDATE t SET note = NULL WHERE id = 1; DELETE FROM t WHERE id = 2; UPDATE t SET id = 300 WHERE id = 3");
    world.until_equal().await;
    // Counted a moment after it can be seen.
    let counted = async || world.status().latency_ms.count >= 4 && world.status().written >= 104;
    world.until("all of it is counted", counted).await;
}

#[tokio::test]
async fn a_large_value_that_an_update_left_alone_stays() {
    let world = world().await;
    world.left.psql("ALTER TABLE t ALTER note SET STORAGE EXTERNAL; UPDATE t SET note = repeat('long ', 20000) WHERE id = 1");
    world.until_equal().await;
    world.left.psql("UPDATE t SET name = 'renamed' WHERE id = 1; UPDATE t SET id = 500 WHERE id = 1");
    world.until_equal().await;
    assert_eq!(world.right.psql("SELECT length(note), name FROM t WHERE id = 500"), "100000|renamed");
}

#[tokio::test]
async fn unique_values_that_change_hands_in_one_transaction_arrive() {
    let world = world().await;
    world.left.psql(
        "BEGIN; UPDATE t SET name = 'between' WHERE id = 1; UPDATE t SET name = 'name 1' WHERE id = 2; \
         UPDATE t SET name = 'name 2' WHERE id = 1; COMMIT; \
         BEGIN; DELETE FROM t WHERE id = 3; INSERT INTO t VALUES (103, 'name 3', NULL); COMMIT",
    );
    world.until_equal().await;
    assert_eq!(world.right.psql("SELECT name FROM t WHERE id <= 2 ORDER BY id"), "name 2\nname 1");
    assert!(world.reviews().await.is_empty());
}

#[tokio::test]
async fn many_small_transactions_are_carried_together_and_each_once() {
    let mut world = world().await;
    let writer = world.left.session().await;
    let mut commits = 0;
    // What is carried together is what has arrived: a busy machine may hand out one after the other, though not every time.
    for _ in 0..5 {
        world.stop().await;
        for n in 0..300 {
            writer.batch_execute(&format!("UPDATE t SET note = note || '{}' WHERE id = {}", n % 10, n % 100 + 1)).await.unwrap();
        }
        world.start().await;
        world.until_equal().await;
        commits = world.right.commits();
        if (1..=20).contains(&commits) {
            return;
        }
    }
    panic!("300 transactions were carried in {commits}");
}

#[tokio::test]
async fn a_pause_holds_changes_in_the_log_and_a_restart_goes_on_behind_them() {
    let mut world = world().await;
    world.ask(Request::Pause(world.rules.id)).await.unwrap();
    world.left.psql("UPDATE t SET note = 'while paused'");
    world.until_stage("paused").await;
    world.stop().await;
    world.start().await;
    world.until_stage("paused").await;
    assert_eq!(world.right.psql("SELECT count(*) FROM t WHERE note = 'while paused'"), "0");
    world.ask(Request::Resume(world.rules.id)).await.unwrap();
    world.until_equal().await;
    world.stop().await;
    world.left.psql("UPDATE t SET note = 'while stopped' WHERE id < 50; TABLE t");
    world.run_once().await;
    assert!(world.is_equal());
}

#[tokio::test]
async fn a_column_that_is_added_changes_nothing_and_one_that_goes_stops_the_sync() {
    let world = world().await;
    world.left.psql("ALTER TABLE t ADD extra text DEFAULT 'x'; UPDATE t SET note = 'after' WHERE id = 1");
    world.until_equal().await;
    world.left.psql(
        "UPDATE t SET note = 'before the drop' WHERE id = 2; ALTER TABLE t DROP note; UPDATE t SET name = 'x' WHERE id = 3",
    );
    let stopped = async || world.status().stage.starts_with("stopped: CON-2009");
    wait("the sync stops", stopped).await;
    assert_eq!(world.right.psql("SELECT note FROM t WHERE id = 2"), "before the drop");
}

/// Waits where the two tables cannot be compared any more.
async fn wait(what: &str, holds: impl AsyncFn() -> bool) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "waited too long until {what}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_retained_log_is_shown() {
    let world = world().await;
    world
        .until("the feed tells how it does", async || {
            world.statuses().feeds.first().is_some_and(|feed| feed.retained_bytes.is_some() && !feed.position.is_empty())
        })
        .await;
}

#[tokio::test]
async fn a_sync_is_not_level_before_it_has_what_happened_while_it_was_away() {
    let mut world = world().await;
    world.stop().await;
    // The log is read through for longer than a quiet feed is waited for, before the feed has anything to tell.
    world.left.psql("CREATE TABLE other AS SELECT n, n::text AS text FROM generate_series(1, 800000) n");
    world.left.psql("UPDATE t SET note = 'while it was away'");
    world.start().await;
    let level = async || {
        let is_level = world.status().level;
        assert!(!is_level || world.is_equal(), "it says that it is level, and is not");
        is_level
    };
    world.until("it is level", level).await;
}
