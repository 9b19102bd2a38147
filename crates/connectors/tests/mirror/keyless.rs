//! Tables without a key: every record that is inserted is there once, whatever happens, and nothing else is believed of them.

use crate::server::{Options, Server};
use crate::support::{File, World, WorldOf};
use concord_engine::error::Code;
use concord_engine::mirror::choose;
use concord_engine::runtime::command::{Request, Resolution};
use concord_engine::transform::NullPolicy;
use std::sync::Arc;
use std::time::Duration;

const TABLE: &str = "CREATE TABLE t (line text, number int)";
/// Of many of them there are several.
const FILLED: &str = "INSERT INTO t SELECT 'line ' || n % 1000, n % 7 FROM generate_series(1, 5000) n; INSERT INTO t VALUES (NULL, NULL), (NULL, NULL)";
const FIELDS: &[&str] = &["line", "number"];
const COUNT: &str = "SELECT count(*), count(*) FILTER (WHERE line IS NULL) FROM t";

#[tokio::test]
async fn what_is_there_is_copied_and_what_is_inserted_is_appended() {
    let mut world = World::new(TABLE, FILLED, FIELDS).await.started().await;
    assert_eq!(world.right.psql(COUNT), "5002|2");
    // The same again is one more.
    world.left.psql("INSERT INTO t VALUES (NULL, NULL), ('line 1', 1), ('line 1', 1)");
    world.until_equal().await;
    world.stop().await;
    world.left.psql("INSERT INTO t SELECT 'more', n % 3 FROM generate_series(1, 4000) n");
    world.start().await;
    world.until_equal().await;
    assert_eq!(world.right.psql(COUNT), "9005|3");
    let found = world.verify().await;
    assert!(found.is_equal() && found.links == 9005 && found.equal == 9005, "{found:?}");
    world.right.psql("UPDATE t SET number = 8 WHERE ctid = (SELECT ctid FROM t WHERE number = 1 LIMIT 1)");
    let found = world.verify().await;
    assert!(!found.is_equal() && found.differing == 1, "{found:?}");
}

#[tokio::test]
async fn the_source_lets_nobody_change_what_could_not_be_told_apart() {
    let world = World::new(TABLE, FILLED, FIELDS).await.started().await;
    let writer = world.left.session().await;
    for sql in ["UPDATE t SET number = 9 WHERE number = 1", "DELETE FROM t WHERE number = 1"] {
        let refused = writer.batch_execute(sql).await.unwrap_err();
        assert!(refused.as_db_error().unwrap().message().contains("replica identity"), "{refused}");
    }
    assert!(world.verify().await.is_equal());
}

#[tokio::test]
async fn a_change_that_comes_all_the_same_stops_the_sync_until_everything_is_read_again() {
    let mut world = World::new(&format!("{TABLE}; ALTER TABLE t REPLICA IDENTITY FULL"), FILLED, FIELDS).await.started().await;
    for change in ["UPDATE t SET number = 9 WHERE number = 1", "DELETE FROM t WHERE number = 2"] {
        world.left.psql(&format!("INSERT INTO t VALUES ('before', 0); {change}; INSERT INTO t VALUES ('behind', 0)"));
        world.until_stage("stopped: CON-2018").await;
        let (left, right) = world.sides();
        assert!(right.lines().count() > 5000 && left != right, "what came before it is there");
        // It is not forgotten by going on, nor by beginning again.
        world.ask(Request::Resume(world.rules.id)).await.unwrap();
        world.until_stage("stopped: CON-2018").await;
        world.stop().await;
        world.start().await;
        world.until_stage("stopped: CON-2018").await;
        world.ask(Request::Reread(world.rules.id)).await.unwrap();
        world.until_equal().await;
        assert!(world.verify().await.is_equal());
    }
}

#[tokio::test]
async fn a_target_that_holds_records_is_refused_before_anything_is_made() {
    let mut world = World::new(TABLE, FILLED, FIELDS).await;
    world.right.psql("INSERT INTO t VALUES ('own', 1)");
    world.start().await;
    world.until_stage("stopped: CON-2019").await;
    assert_eq!(world.left.psql("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"), "0");
    world.left.psql("DELETE FROM t WHERE number = 1");
    world.right.psql("DELETE FROM t");
    world.ask(Request::Resume(world.rules.id)).await.unwrap();
    world.until_equal().await;
}

#[tokio::test]
async fn what_is_read_again_does_not_replace_many_by_few_unasked() {
    let mut world = World::new(TABLE, FILLED, FIELDS).await.started().await;
    world.ask(Request::Pause(world.rules.id)).await.unwrap();
    world.stop().await;
    world.left.psql("TRUNCATE t; INSERT INTO t VALUES ('left', 1)");
    world.start().await;
    world.ask(Request::Reread(world.rules.id)).await.unwrap();
    world.ask(Request::Resume(world.rules.id)).await.unwrap();
    let review = world.until_review().await;
    world.until_stage("stopped: CON-3017").await;
    assert_eq!(world.right.psql(COUNT), "5002|2");
    world.decide(&review, Resolution::Retry).await.unwrap();
    world.until_equal().await;
    assert_eq!(world.right.psql(COUNT), "1|0");
}

#[tokio::test]
async fn what_replaces_much_is_counted_and_not_estimated() {
    let filled = "INSERT INTO t SELECT 'line ' || n, n % 7 FROM generate_series(1, 60000) n; ANALYZE t";
    let table = format!("{TABLE}; ALTER TABLE t REPLICA IDENTITY FULL");
    let mut world = World::new(&table, filled, FIELDS).await.started().await;
    world.ask(Request::Pause(world.rules.id)).await.unwrap();
    world.stop().await;
    // The server's statistics know nothing of it.
    world.left.psql("DELETE FROM t");
    world.start().await;
    world.ask(Request::Reread(world.rules.id)).await.unwrap();
    world.ask(Request::Resume(world.rules.id)).await.unwrap();
    world.until_review().await;
    world.until_stage("stopped: CON-3017").await;
    assert_eq!(world.right.psql("SELECT count(*) FROM t"), "60000");
}

#[tokio::test]
async fn what_is_left_to_the_target_hides_no_difference_in_the_rest() {
    let world = World::new(TABLE, FILLED, FIELDS).await.with(|rules| {
        rules.fields[1].members[0].as_mut().unwrap().mapping.nulls = NullPolicy::Skip;
    });
    let world = world.started().await;
    assert!(world.verify().await.is_equal());
    world.right.psql("UPDATE t SET line = 'other' WHERE ctid = (SELECT ctid FROM t WHERE number = 1 LIMIT 1)");
    let found = world.verify().await;
    assert!(!found.is_equal(), "{found:?}");
}

#[tokio::test]
async fn a_key_that_comes_or_goes_stops_the_sync() {
    let world = World::new(TABLE, FILLED, FIELDS).await.started().await;
    world.left.psql("ALTER TABLE t ADD id serial PRIMARY KEY; INSERT INTO t VALUES ('behind', 1)");
    world.until_stage("stopped: CON-2009").await;

    let keyed = "CREATE TABLE t (line text PRIMARY KEY, number int)";
    let mut world = World::new(keyed, "INSERT INTO t VALUES ('one', 1)", FIELDS).await.started().await;
    world.crash().await;
    world.start().await;
    // While nobody reads the log.
    world.ask(Request::Pause(world.rules.id)).await.unwrap();
    world.left.psql("ALTER TABLE t DROP CONSTRAINT t_pkey; INSERT INTO t VALUES ('one', 2)");
    world.ask(Request::Resume(world.rules.id)).await.unwrap();
    world.until_stage("stopped: CON-2009").await;
    assert_eq!(world.right.psql("TABLE t"), "one|1");
}

#[tokio::test]
async fn a_record_that_the_target_refuses_waits_and_everything_else_flows() {
    let right = format!("{TABLE}; ALTER TABLE t ADD CHECK (number < 100)");
    let mut world =
        World::of(TABLE, &right, &format!("{FILLED}; INSERT INTO t VALUES ('loaded', 100), ('loaded', 100)"), FIELDS).await;
    world.start().await;
    world.until("the rest is loaded", async || world.status().level && world.right.psql(COUNT) == "5002|2").await;
    assert_eq!(world.reviews().await.len(), 2, "each by itself");
    world.left.psql("INSERT INTO t SELECT 'more', CASE WHEN n = 500 THEN 100 ELSE 1 END FROM generate_series(1, 1000) n");
    world.until("the rest is there", async || world.status().level && world.right.psql(COUNT) == "6001|2").await;
    let found = world.verify().await;
    assert!(found.is_equal() && found.in_review == 3 && found.equal == 6001, "{found:?}");
    let review = world.reviews().await.remove(0);
    assert_eq!(world.decide(&review, Resolution::Retry).await.unwrap_err().code, Code::BadResolution);
    world.right.psql("ALTER TABLE t DROP CONSTRAINT t_number_check");
    world.ask(Request::Reread(world.rules.id)).await.unwrap();
    world.until_equal().await;
    assert!(world.reviews().await.is_empty());
}

#[tokio::test]
async fn killed_again_and_again_while_loading_and_streaming_each_is_there_once() {
    let filled = "INSERT INTO t SELECT 'line ' || n % 100, n % 7 FROM generate_series(1, 20000) n";
    let mut world = World::new(TABLE, filled, FIELDS).await;
    let writer = world.left.session().await;
    for round in 0..15_u64 {
        world.start().await;
        for n in 0..4_u64 {
            let some = (round * 37 + n * 11) % 300;
            let sql = format!(
                "INSERT INTO t SELECT 'round {round}', n % 3 FROM generate_series(1, {some}) n; INSERT INTO t VALUES (NULL, NULL)"
            );
            writer.batch_execute(&sql).await.unwrap();
            tokio::time::sleep(Duration::from_millis((round * 53 + n * 29) % 60)).await;
        }
        world.crash().await;
    }
    world.start().await;
    world.until_equal().await;
    assert!(world.verify().await.is_equal());
    assert!(world.reviews().await.is_empty());
}

#[tokio::test]
async fn a_load_that_was_cut_short_leaves_nothing_twice() {
    let right = format!(
        "{TABLE}; CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN IF NEW.line = 'line 999' THEN PERFORM pg_advisory_xact_lock_shared(1); END IF; RETURN NEW; END $$; \
         CREATE TRIGGER wait BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION wait()"
    );
    let mut world = World::of(TABLE, &right, FILLED, FIELDS).await;
    let holder = world.right.session().await;
    holder.batch_execute("SELECT pg_advisory_lock(1)").await.unwrap();
    world.start().await;
    let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    world.until("it is in the middle of the load", async || world.right.psql(waits) == "1").await;
    world.left.psql("INSERT INTO t VALUES ('meanwhile', 1)");
    world.crash().await;
    world.left.psql("INSERT INTO t VALUES ('between', 1)");
    holder.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    world.start().await;
    world.until_equal().await;
    assert!(world.verify().await.is_equal());
}

#[tokio::test]
async fn a_target_that_crashes_and_forgets_its_last_commits_gets_them_again_and_nothing_else() {
    let settings =
        vec![("wal_writer_delay".to_owned(), "10s".to_owned()), ("wal_writer_flush_after".to_owned(), "1GB".to_owned())];
    let server = Arc::new(Server::start(&Options { settings, ..Options::default() }));
    let left = Server::shared().database();
    let world = World::between(left, server.database(), TABLE, TABLE, FILLED, FIELDS).await.started().await;
    for round in 0..5 {
        let before = world.right.psql(COUNT);
        for _ in 0..10 {
            world.left.psql(&format!("INSERT INTO t SELECT 'round', {round} FROM generate_series(1, 150)"));
        }
        world.until("something is carried", async || world.right.psql(COUNT) != before).await;
        server.crash();
    }
    world.until_equal().await;
    assert!(world.verify().await.is_equal());
}

#[tokio::test]
async fn a_target_may_give_its_records_keys_of_its_own() {
    let right = "CREATE TABLE t (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, line text, number int)";
    let mut world = World::of(TABLE, right, FILLED, FIELDS).await;
    world.rules.match_on.clear();
    let mut world = world.started().await;
    world.left.psql("INSERT INTO t VALUES ('line 1', 1), ('line 1', 1)");
    world.until_equal().await;
    assert!(world.verify().await.is_equal());
    world.stop().await;
}

#[tokio::test]
async fn a_truncation_waits_for_a_person() {
    let world = World::new(TABLE, FILLED, FIELDS).await.started().await;
    world.left.psql("TRUNCATE t; INSERT INTO t VALUES ('behind', 1)");
    let review = world.until_review().await;
    assert_eq!(world.right.psql(COUNT), "5002|2");
    world.decide(&review, Resolution::Retry).await.unwrap();
    world.until_equal().await;
    assert_eq!(world.right.psql(COUNT), "1|0");
}

#[tokio::test]
async fn nothing_else_is_done_with_a_table_without_a_key() {
    let why = async |world: &World| {
        let ends = world.systems();
        let rules = Arc::new(world.rules.clone());
        choose(&rules, &[], &**world.store(), (&*ends[0].1, &*ends[1].1)).await.unwrap_err()
    };
    let both_ways = World::new(TABLE, "", FIELDS).await.with(|rules| rules.members[1].outward = true);
    assert_eq!(why(&both_ways).await.code, Code::KeyMissing);
    let keyed = "CREATE TABLE t (line text PRIMARY KEY, number int)";
    let into = World::of(keyed, TABLE, "", FIELDS).await;
    assert_eq!(why(&into).await.code, Code::KeyMissing);
    let from = World::of(TABLE, keyed, "", FIELDS).await;
    assert!(why(&from).await.message.contains("the source has no key to give"));
}

/// Into a file, whose records may have keys of its own.
#[tokio::test]
async fn into_a_file_each_is_appended_once_also_when_killed_again_and_again() {
    let filled = "INSERT INTO t SELECT 'line ' || n % 100, n % 7 FROM generate_series(1, 20000) n";
    for right in [TABLE, "CREATE TABLE t (no INTEGER PRIMARY KEY, line text, number int)"] {
        let mut world = WorldOf::<File>::of(TABLE, right, filled, FIELDS).await;
        world.rules.match_on.clear();
        let writer = world.left.session().await;
        for round in 0..8_u64 {
            world.start().await;
            for n in 0..4_u64 {
                let some = (round * 37 + n * 11) % 300;
                let sql = format!("INSERT INTO t SELECT 'round {round}', n % 3 FROM generate_series(1, {some}) n");
                writer.batch_execute(&sql).await.unwrap();
                tokio::time::sleep(Duration::from_millis((round * 53 + n * 29) % 60)).await;
            }
            world.crash().await;
        }
        world.start().await;
        world.until_equal().await;
        world.left.psql("INSERT INTO t VALUES (NULL, NULL), (NULL, NULL), ('line 1', 1), ('line 1', 1)");
        world
            .until("twice the same is there twice", async || world.right.psql("SELECT count(*) FROM t WHERE line IS NULL") == "2")
            .await;
        world.until("it is level", async || world.status().level).await;
        let found = world.verify().await;
        assert!(found.is_equal() && found.equal == found.links, "{found:?}");
        world.right.psql("UPDATE t SET number = 8 WHERE line IS NULL");
        assert!(!world.verify().await.is_equal());
        assert!(world.reviews().await.is_empty());
    }
}

#[tokio::test]
async fn a_file_that_refuses_a_record_or_is_to_be_emptied_asks_for_it() {
    let right = "CREATE TABLE t (line text, number int CHECK (number < 100))";
    let mut world = WorldOf::<File>::of(TABLE, right, &format!("{FILLED}; INSERT INTO t VALUES ('loaded', 100)"), FIELDS).await;
    world.start().await;
    world
        .until("the rest is loaded", async || world.status().level && world.right.psql("SELECT count(*) FROM t") == "5002")
        .await;
    world.left.psql("INSERT INTO t VALUES ('a', 1), ('b', 100), ('c', 1)");
    world.until("the rest is there", async || world.status().level && world.right.psql("SELECT count(*) FROM t") == "5004").await;
    assert_eq!(world.reviews().await.len(), 2);
    let found = world.verify().await;
    assert!(found.is_equal() && found.in_review == 2, "{found:?}");
    world.left.psql("TRUNCATE t; INSERT INTO t VALUES ('behind', 1)");
    world.until("a person is asked", async || world.reviews().await.len() == 3).await;
    let review = world.reviews().await.into_iter().max_by_key(|review| review.id).unwrap();
    world.decide(&review, Resolution::Retry).await.unwrap();
    world.until("nothing else is left", async || world.status().level && world.right.psql("SELECT * FROM t") == "behind|1").await;
}
