//! An empty target that is loaded without its secondary indexes, which are built behind the load: whatever happens, they come back.
//! On several threads: a look at a table that is locked must not keep who has locked it from going on.

use crate::support::World;
use concord_engine::runtime::command::Request;

const LEFT: &str = "CREATE TABLE t (id int PRIMARY KEY, name text NOT NULL UNIQUE, tally int)";
/// Rows behind the first half wait for a lock that the story holds.
const RIGHT: &str = "CREATE TABLE t (id int PRIMARY KEY, name text NOT NULL UNIQUE, tally int); \
    CREATE INDEX plain ON t (tally DESC, name text_pattern_ops) INCLUDE (id) WITH (fillfactor = 70); \
    CREATE INDEX \"Some of them\" ON t (lower(name)) WHERE tally > 3; \
    CREATE INDEX told ON t (tally); COMMENT ON INDEX told IS 'more than its definition'; \
    CREATE UNIQUE INDEX stricter ON t (tally, id); \
    CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS \
    $$ BEGIN IF NEW.id > 5000 THEN PERFORM pg_advisory_xact_lock_shared(1); END IF; RETURN NEW; END $$; \
    CREATE TRIGGER wait BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION wait()";
const FILLED: &str = "INSERT INTO t SELECT n, 'name ' || n, n FROM generate_series(1, 10000) n; ANALYZE t";
const FIELDS: &[&str] = &["id", "name", "tally"];
/// All that there is to say of the indexes and constraints.
const INDEXES: &str = "SELECT indexname || indexdef FROM pg_indexes WHERE tablename = 't' UNION ALL \
    SELECT conname || pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 't'::regclass AND contype <> 'n' ORDER BY 1";
const NAMES: &str = "SELECT string_agg(indexname, ',' ORDER BY indexname) FROM pg_indexes WHERE tablename = 't'";
const KEPT: &str = "SELECT string_agg(name, ',' ORDER BY name) FROM concord.indexes";

/// A load of which a half waits, and the indexes as they were before.
async fn under_way(rebuild: bool) -> (World, tokio_postgres::Client, String) {
    let mut world = World::of(LEFT, RIGHT, FILLED, FIELDS).await.with(|rules| {
        rules.parallelism = 4;
        rules.initial.rebuild_indexes = rebuild;
    });
    let before = world.right.psql(INDEXES);
    let holder = world.right.session().await;
    holder.batch_execute("SELECT pg_advisory_lock(1)").await.unwrap();
    world.start().await;
    let there = "SELECT to_regclass('concord.loaded') IS NOT NULL";
    world.until("it has begun", async || world.right.psql(there) == "t").await;
    let loaded = "SELECT count(*) FROM concord.loaded";
    world.until("something is loaded", async || world.right.psql(loaded) != "0").await;
    (world, holder, before)
}

#[tokio::test(flavor = "multi_thread")]
async fn spare_indexes_are_built_behind_the_load_also_when_it_was_killed_in_the_middle() {
    let (mut world, holder, before) = under_way(true).await;
    assert_eq!(world.right.psql(NAMES), "stricter,told", "unique at the target alone, and what is more than its definition");
    assert_eq!(world.right.psql(KEPT), "Some of them,plain,t_name_key,t_pkey");
    world.crash().await;
    world.left.psql("UPDATE t SET name = 'renamed ' || id WHERE id % 100 = 0; DELETE FROM t WHERE id = 7; INSERT INTO t VALUES (-1, 'name 7', 0)");
    holder.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    world.start().await;
    world.until_equal().await;
    assert_eq!(world.right.psql(INDEXES), before);
    assert_eq!(world.right.psql(KEPT), "");
    assert!(world.verify().await.is_equal());
    assert!(world.reviews().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_dropped_where_nobody_allows_it_and_where_the_target_holds_records() {
    let (world, holder, before) = under_way(false).await;
    assert_eq!(world.right.psql(INDEXES), before);
    holder.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    world.until_equal().await;

    let mut world = World::of(LEFT, RIGHT, FILLED, FIELDS).await.with(|rules| rules.initial.rebuild_indexes = true);
    let target = world.target();
    let unique = [vec!["name".into()]];
    let spare = target.mirror_target().unwrap().spare_indexes(&"t".into(), &unique).await.unwrap();
    assert_eq!(spare, ["Some of them", "plain", "t_name_key"]);
    world.right.psql("INSERT INTO t VALUES (1, 'there', 1)");
    assert!(target.mirror_target().unwrap().spare_indexes(&"t".into(), &unique).await.unwrap().is_empty());
    let built = "SELECT string_agg(indexrelid::text, ',' ORDER BY 1) FROM pg_index WHERE indrelid = 't'::regclass";
    let before = world.right.psql(built);
    world.start().await;
    world.until_equal().await;
    assert_eq!(world.right.psql(built), before, "none was built anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_is_let_go_of_in_the_middle_leaves_its_target_the_indexes() {
    let (mut world, holder, before) = under_way(true).await;
    world.crash().await;
    holder.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    let target = world.target();
    let mirror = target.mirror_target().unwrap();
    for sync in mirror.kept("").await.unwrap() {
        mirror.forget(&sync).await.unwrap();
    }
    assert_eq!(world.right.psql(INDEXES), before);
    assert_eq!(world.right.psql("SELECT to_regnamespace('concord') IS NULL"), "t");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_cannot_be_built_stops_the_sync_until_a_person_has_put_it_right() {
    let (world, holder, before) = under_way(true).await;
    // Somebody writes into the target meanwhile.
    world.right.psql("INSERT INTO t VALUES (-7, 'name 1', -7)");
    holder.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
    world.until_stage("stopped: CON-2102").await;
    assert_eq!(world.right.psql(KEPT), "t_name_key", "the others are built");
    world.right.psql("DELETE FROM t WHERE id = -7");
    world.ask(Request::Resume(world.rules.id)).await.unwrap();
    world.until_equal().await;
    assert_eq!(world.right.psql(INDEXES), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_target_refuses_is_found_by_its_key_though_that_was_set_aside() {
    let right = format!("{RIGHT}; ALTER TABLE t ADD CHECK (tally <> 77)");
    let mut world = World::of(LEFT, &right, FILLED, FIELDS).await.with(|rules| {
        rules.parallelism = 4;
        rules.initial.rebuild_indexes = true;
    });
    let before = world.right.psql(INDEXES);
    world.start().await;
    world.until("it is level", async || world.status().level).await;
    assert_eq!(world.right.psql("SELECT count(*), count(*) FILTER (WHERE id = 77) FROM t"), "9999|0");
    assert_eq!(world.reviews().await.len(), 1);
    assert_eq!(world.right.psql(INDEXES), before);
    world.left.psql("UPDATE t SET tally = 78 WHERE id = 77; DELETE FROM t WHERE id = 1");
    world.until_equal().await;
}

/// A key over two fields, in another order than the table's, that somebody else's tables refer to stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_set_aside_and_comes_back_as_it_was_and_one_that_others_need_stays() {
    let left = "CREATE TABLE t (name text NOT NULL, id int NOT NULL, tally int, PRIMARY KEY (id, name))";
    let view = "CREATE VIEW v AS SELECT id, name, tally FROM t GROUP BY id, name";
    for (right, stays) in [(left.to_owned(), false), (format!("{left}; {view}"), true)] {
        let mut world =
            World::of(left, &right, "INSERT INTO t SELECT 'name ' || n, n, n FROM generate_series(1, 3000) n", FIELDS)
                .await
                .with(|rules| {
                    rules.parallelism = 2;
                    rules.initial.rebuild_indexes = true;
                });
        let target = world.target();
        let spare =
            target.mirror_target().unwrap().spare_indexes(&"t".into(), &[vec!["name".into(), "id".into()]]).await.unwrap();
        assert_eq!(spare.is_empty(), stays, "{spare:?}");
        let before = world.right.psql(INDEXES);
        world.start().await;
        world.until_equal().await;
        assert_eq!(world.right.psql(INDEXES), before);
    }
}
