//! The first read: every record once, in bulk or one by one, beside writers that do not stop.

use crate::rules;
use crate::support::World;
use concord_engine::error::Code;
use concord_engine::mirror::Mode;
use concord_engine::mirror::bulk::Range;
use concord_engine::record::{FieldName, Key};
use concord_engine::value::Value;
use futures_util::StreamExt;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, name text NOT NULL, note text, amount numeric(12,2), at timestamptz)";
const FILLED: &str = "INSERT INTO t SELECT n, 'name ' || n, CASE WHEN n % 3 = 0 THEN NULL ELSE repeat('x', n % 50) END, n / 7.0, \
    '2026-01-01'::timestamptz + n * interval '1 minute' FROM generate_series(1, 5000) n; ANALYZE t";
const FIELDS: &[&str] = &["id", "name", "note", "amount", "at"];

#[tokio::test]
async fn an_empty_target_is_filled_and_verifies_equal() {
    let world = World::new(TABLE, FILLED, FIELDS).await.started().await;
    let found = world.verify().await;
    assert!(found.is_equal() && found.links == 5000 && found.equal == 5000, "{found:?}");
    assert_eq!(world.status().mode, "mirror");
    assert_eq!(world.status().members[0].load, "done");
}

#[tokio::test]
async fn writers_who_do_not_stop_while_it_is_loaded_lose_and_double_nothing() {
    let mut world = World::new(TABLE, FILLED, FIELDS).await;
    let writer = world.left.session().await;
    world.start().await;
    for round in 0..40 {
        let sql = format!(
            "UPDATE t SET note = 'round {round}' WHERE id % 40 = {round}; DELETE FROM t WHERE id = 1000 + {round}; \
             INSERT INTO t VALUES (10000 + {round}, 'new', NULL, {round}, now()); \
             UPDATE t SET id = id + 20000 WHERE id = 3000 + {round}"
        );
        writer.batch_execute(&sql).await.unwrap();
    }
    world.until_equal().await;
    assert!(world.verify().await.is_equal());
}

#[tokio::test]
async fn a_table_that_is_rewritten_while_it_is_read_is_not_taken_for_empty() {
    let world = World::new(TABLE, FILLED, FIELDS).await;
    let source = world.systems()[0].1.for_one_sync("rewritten").unwrap();
    let frozen = source.bulk_source().unwrap().freeze(&world.rules.members[0].selection).await.unwrap();
    assert_eq!(frozen.count().await.unwrap(), 5000);
    // Under the view that was frozen before the server shows a table without records now.
    world.left.psql("ALTER TABLE t ADD COLUMN own uuid DEFAULT gen_random_uuid()");
    let names: Vec<FieldName> = FIELDS.iter().map(|name| FieldName::from(*name)).collect();
    let raw: Vec<_> = frozen.raw(&Range::default(), &names, None).await.unwrap().collect().await;
    let records: Vec<_> = frozen.records(&Range::default()).await.unwrap().collect().await;
    let errors = [
        raw.into_iter().find_map(Result::err),
        records.into_iter().find_map(Result::err),
        frozen.read(&[Key(vec![Value::Int(1)])]).await.err(),
        frozen.count().await.err(),
    ];
    assert_eq!(errors.map(|error| error.map(|error| error.code)), [Some(Code::Busy); 4]);
}

#[tokio::test]
async fn a_target_that_holds_records_already_ends_with_the_sources_values() {
    let world = World::new(TABLE, FILLED, FIELDS).await;
    world.right.psql("INSERT INTO t SELECT n, 'other', 'other', 0, NULL FROM generate_series(1, 100) n");
    let world = world.started().await;
    assert_eq!(world.right.psql("SELECT count(*), count(*) FILTER (WHERE name = 'other') FROM t"), "5000|0");
}

#[tokio::test]
async fn a_record_that_only_the_target_has_is_left_alone_and_named_by_verify() {
    let mut world = World::new(TABLE, FILLED, FIELDS).await;
    world.right.psql("INSERT INTO t VALUES (999999, 'own', NULL, 0, NULL)");
    world.start().await;
    world.until_stage("live").await;
    world.until("it is level", async || world.status().level).await;
    let found = world.verify().await;
    assert_eq!((found.equal, found.unlinked[1], found.differences[0].kind.as_str()), (5000, 1, "unlinked"));
}

#[tokio::test]
async fn other_types_names_and_columns_go_one_by_one() {
    let left = "CREATE TABLE t (id int PRIMARY KEY, name varchar(40), note text)";
    let right = "CREATE TABLE t (id bigint PRIMARY KEY, name text, note text, own text DEFAULT 'mine')";
    let filled = "INSERT INTO t SELECT n, ' name ' || n, 'note' FROM generate_series(1, 3000) n";
    let mut world = World::of(left, right, filled, &["id", "name", "note"]).await;
    rules::transformed(&mut world.rules, 0, "name", "trim");
    world.start().await;
    let arrived = async || world.right.psql("SELECT count(*) FROM t WHERE name = 'name ' || id AND own = 'mine'") == "3000";
    world.until("every record is there, trimmed", arrived).await;
    world.right.psql("UPDATE t SET own = 'changed'");
    world.left.psql("UPDATE t SET note = 'another' WHERE id <= 10");
    let arrived = async || world.right.psql("SELECT count(*) FROM t WHERE note = 'another' AND own = 'changed'") == "10";
    world.until("a change leaves what is not mapped alone", arrived).await;
    assert!(world.verify().await.is_equal());
}

#[tokio::test]
async fn a_key_of_text_or_of_several_columns_is_loaded_in_one_go() {
    let table = "CREATE TABLE t (region text, number int, value jsonb, PRIMARY KEY (region, number))";
    let filled = "INSERT INTO t SELECT 'r' || n % 7, n, jsonb_build_object('n', n) FROM generate_series(1, 2000) n";
    let world = World::new(table, filled, &["region", "number", "value"]).await.started().await;
    world.left.psql(
        "DELETE FROM t WHERE number <= 5; UPDATE t SET value = '{}' WHERE number = 6; UPDATE t SET region = 'z' WHERE number = 7",
    );
    world.until_equal().await;
}

#[tokio::test]
async fn what_mirror_mode_cannot_do_yet_is_said() {
    let why = async |world: &World| match world.mode().await {
        Mode::Reconcile(Some(why)) => why,
        other => panic!("{other:?}"),
    };
    let world = World::of(TABLE, "CREATE TABLE t (own serial PRIMARY KEY, id int, name text)", "", &["id", "name"]).await;
    assert!(why(&world).await.contains("`own`"));
    let parent = "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY, name text, p int REFERENCES p)";
    let world = World::new(parent, "", &["id", "name", "p"]).await;
    assert!(why(&world).await.contains("foreign keys"));
    let referred = "CREATE TABLE t (id int PRIMARY KEY, name text); CREATE TABLE c (id int PRIMARY KEY, t int REFERENCES t)";
    assert!(why(&World::new(referred, "", &["id", "name"]).await).await.contains("foreign keys"));
    let tree = "CREATE TABLE t (id int PRIMARY KEY, name text, parent int REFERENCES t)";
    assert!(why(&World::new(tree, "", &["id", "name", "parent"]).await).await.contains("foreign keys"));
    let late = "CREATE TABLE t (id int PRIMARY KEY, name text UNIQUE DEFERRABLE)";
    assert!(why(&World::new(late, "", &["id", "name"]).await).await.contains("DEFERRABLE"));
    let made = "CREATE TABLE t (id int PRIMARY KEY, name text, long int GENERATED ALWAYS AS (length(name)) STORED)";
    let plain = "CREATE TABLE t (id int PRIMARY KEY, name text, long int)";
    assert!(why(&World::of(made, plain, "", &["id", "name", "long"]).await).await.contains("made by the source"));
    let world = world.with(|rules| rules.deletes.on_delete = concord_engine::rules::OnDelete::Ignore);
    assert!(why(&world).await.contains("deletes"));
    let both_ways = world.with(|rules| rules.members[1].outward = true);
    assert_eq!(both_ways.mode().await, Mode::Reconcile(None));
}

#[tokio::test]
async fn another_mapping_carries_every_record_again() {
    let mut world = World::new(TABLE, FILLED, FIELDS).await.started().await;
    world.stop().await;
    world.left.psql("DELETE FROM t WHERE id <= 3; UPDATE t SET note = 'meanwhile' WHERE id = 4");
    rules::transformed(&mut world.rules, 0, "name", "uppercase");
    world.start().await;
    let arrived = async || world.right.psql("SELECT count(*) FROM t WHERE name = 'NAME ' || id") == "4997";
    world.until("every record is carried as the mapping says now", arrived).await;
    world.until("it is level", async || world.status().level).await;
    assert_eq!(world.right.psql("SELECT count(*), min(id), max(note) FILTER (WHERE id = 4) FROM t"), "4997|4|meanwhile");
    assert!(world.verify().await.is_equal());
}

#[tokio::test]
async fn the_ranges_of_a_load_are_not_kept_any_longer_than_it_lasts() {
    let world = World::new(TABLE, FILLED, FIELDS).await.with(|rules| rules.parallelism = 100).started().await;
    world.left.psql("UPDATE t SET note = 'behind the load' WHERE id = 1");
    world.until_equal().await;
    let bytes: usize = world.right.psql("SELECT length(progress) FROM concord.mirrors").parse().unwrap();
    assert!(bytes < 250, "each transaction writes the progress, and it has {bytes} bytes");
}
