//! What takes long is given its time, and what is much is not held at once.

use crate::support::{Target, World};
use concord_engine::change::Observation;
use concord_engine::error::{Code, Error, Result};
use concord_engine::mirror::batch::Step;
use concord_engine::mirror::bulk::{Frozen, Helper, Range};
use concord_engine::record::{FieldName, Key, Record};
use concord_engine::runtime::command::Resolution;
use concord_engine::validate::{OnError, Rule, RuleSpec};
use concord_engine::value::Value;
use futures_util::stream::{self, StreamExt};
use std::sync::{Arc, Mutex};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, name text)";
const FILLED: &str = "INSERT INTO t SELECT n, 'name ' || n FROM generate_series(1, 300) n";
const FIELDS: &[&str] = &["id", "name"];

/// A connector of the source by itself, and a view that it has frozen.
async fn frozen(world: &World) -> Arc<dyn Frozen> {
    let source = world.systems()[0].1.for_one_sync("view").unwrap();
    source.bulk_source().unwrap().freeze(&world.rules.members[0].selection).await.unwrap()
}

#[tokio::test]
async fn emptying_a_table_may_take_as_long_as_it_takes() {
    let right = format!(
        "{TABLE}; CREATE TABLE seen (setting text); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN INSERT INTO seen VALUES (current_setting('statement_timeout')); RETURN NULL; END $$; \
         CREATE TRIGGER note BEFORE DELETE ON t FOR EACH STATEMENT EXECUTE FUNCTION note()"
    );
    let world = World::of(TABLE, &right, FILLED, FIELDS).await.started().await;
    world.left.psql("TRUNCATE t; INSERT INTO t VALUES (1, 'anew')");
    let review = world.until_review().await;
    world.until_stage("stopped: CON-3017").await;
    world.decide(&review, Resolution::Retry).await.unwrap();
    world.until_equal().await;
    let seen = "SELECT string_agg(DISTINCT setting, ', ') FROM seen";
    assert_eq!(world.right.psql(seen), "0");
    // Nothing else has for ever.
    world.right.psql("TRUNCATE seen");
    world.left.psql("DELETE FROM t");
    world.until_equal().await;
    assert_eq!(world.right.psql(seen), "10min");
}

/// How many were refused.
#[derive(Default)]
struct Desk(Mutex<usize>);

#[async_trait::async_trait]
impl Helper for Desk {
    async fn whole(&self, keys: &[Key]) -> Result<(Vec<Step>, usize)> {
        Ok((Vec::new(), keys.len()))
    }

    async fn refused(&self, refused: Vec<(Step, Error)>) -> Result<()> {
        *self.0.lock().unwrap() += refused.len();
        Ok(())
    }
}

#[tokio::test]
async fn what_is_refused_in_a_load_is_told_while_it_goes_on() {
    let world = World::of(TABLE, "CREATE TABLE t (id int PRIMARY KEY, name text CHECK (false))", "", FIELDS).await;
    let target = world.right.connector();
    let session = target.mirror_target().unwrap().take_over("one", &"t".into()).await.unwrap().session;
    session.keep(b"begun", true).await.unwrap();
    let (desk, told) = (Desk::default(), Mutex::new(Vec::new()));
    let lots = stream::iter(0..4).map(|lot: i64| {
        told.lock().unwrap().push(*desk.0.lock().unwrap());
        let put = |id: i64| {
            let fields = [("id", Value::Int(id)), ("name", Value::text("refused"))];
            let record: Record = fields.into_iter().map(|(name, value)| (FieldName::from(name), value)).collect();
            Step::Put { key: Key(vec![Value::Int(id)]), record, made: true }
        };
        Ok((0..5).map(|place| put(lot * 5 + place)).collect())
    });
    session.load(0, lots.boxed(), &desk).await.unwrap();
    assert_eq!(*told.lock().unwrap(), [0, 5, 10, 15]);
    assert_eq!(*desk.0.lock().unwrap(), 20);
}

#[tokio::test]
async fn a_view_is_held_longer_than_the_server_lets_others_idle() {
    let world = World::new(TABLE, FILLED, FIELDS).await;
    world.left.psql(&format!("ALTER DATABASE {} SET idle_in_transaction_session_timeout = '100ms'", world.left.name));
    let view = frozen(&world).await;
    let other = world.left.session().await;
    other.batch_execute("BEGIN").await.unwrap();
    world.until("another session that idles is ended", async || other.is_closed()).await;
    assert_eq!(view.count().await.unwrap(), 300);
}

#[tokio::test]
async fn a_view_whose_session_was_ended_is_no_records_fault() {
    let world = World::new(TABLE, FILLED, FIELDS).await;
    let view = frozen(&world).await;
    let holders = "FROM pg_stat_activity WHERE backend_type = 'walsender' AND datname = current_database()";
    assert_eq!(world.left.psql(&format!("SELECT count(pg_terminate_backend(pid)) {holders}")), "1");
    world.until("it is ended", async || world.left.psql(&format!("SELECT count(*) {holders}")) == "0").await;
    assert_eq!(view.count().await.unwrap_err().code, Code::Busy);
}

/// A table of documents that the log does not tell again where they stay, and notes of how much each statement wrote at the target.
const WIDE: &str = "CREATE TABLE t (id int PRIMARY KEY, name text, doc text)";
const NOTED: &str = "CREATE TABLE how (top text, records bigint, bytes bigint); \
    CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        INSERT INTO how SELECT pg_current_xact_id()::text, count(*), coalesce(sum(length(doc)), 0) FROM changed; RETURN NULL; END $$; \
    CREATE TRIGGER changed AFTER UPDATE ON t REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION noted(); \
    CREATE TRIGGER made AFTER INSERT ON t REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION noted()";
/// Records that were written; in how many transactions and statements; the most bytes that one of those wrote.
const WRITTEN: &str = "SELECT sum(records), count(DISTINCT top), count(*), max(bytes) FROM how WHERE records > 0";

/// What was written at the target since it was last asked.
fn written(world: &World) -> Vec<u64> {
    let shown = world.right.psql(WRITTEN);
    world.right.psql("TRUNCATE how");
    shown.split('|').map(|number| number.parse().unwrap_or(0)).collect()
}

#[tokio::test]
async fn wide_records_are_handed_over_few_at_a_time() {
    let filled = "INSERT INTO t SELECT n, repeat('x', 20000) FROM generate_series(1, 500) n";
    let world = World::new(TABLE, filled, FIELDS).await;
    let view = frozen(&world).await;
    let lots: Vec<Vec<Observation>> =
        view.records(&Range::default()).await.unwrap().map(Result::unwrap).collect::<Vec<_>>().await;
    let bytes = |lot: &Vec<Observation>| lot.iter().filter_map(|one| one.image.record()).map(Record::about_bytes).sum::<u64>();
    assert_eq!(lots.iter().map(Vec::len).sum::<usize>(), 500);
    let most = lots.iter().map(bytes).max().unwrap();
    assert!((900_000..1_200_000).contains(&most), "{most}");
    // Narrow ones are many in a lot.
    let world = World::new(TABLE, "INSERT INTO t SELECT n, 'name' FROM generate_series(1, 2500) n", FIELDS).await;
    let view = frozen(&world).await;
    let lots: Vec<usize> = view.records(&Range::default()).await.unwrap().map(|lot| lot.unwrap().len()).collect::<Vec<_>>().await;
    assert_eq!(lots, [1_000, 1_000, 500]);
}

#[tokio::test]
async fn documents_that_have_to_be_seen_whole_are_read_and_written_in_portions_of_one_transaction() {
    let left = format!("{WIDE}; ALTER TABLE t ALTER doc SET STORAGE EXTERNAL");
    let filled = "INSERT INTO t SELECT n, 'name ' || n, repeat('x', 100000) FROM generate_series(1, 150) n";
    let mut world = World::of(&left, &format!("{WIDE}; {NOTED}"), filled, &["id", "name", "doc"]).await;
    // A rule may look at what was not told.
    let spec = RuleSpec {
        field: "name".into(),
        rule: "length".into(),
        on_error: OnError::RejectRecord,
        arguments: serde_json::json!({ "max": 20 }),
    };
    world.rules.validation = vec![Rule::compile(&spec, None).unwrap()];
    let mut world = world.started().await;
    world.stop().await;
    written(&world);
    world.left.psql("UPDATE t SET name = 'whole ' || id; UPDATE t SET id = 1000 + id WHERE id <= 10");
    world.start().await;
    world.until_equal().await;
    let [_, transactions, statements, most] = written(&world)[..] else { panic!("four numbers") };
    assert!(most <= 1_300_000, "{most} bytes in a statement");
    assert!(statements >= 13 && transactions * 2 < statements, "{statements} in {transactions} transactions");
    assert!(world.reviews().await.is_empty());
}

#[tokio::test]
async fn documents_of_records_that_were_not_met_are_read_in_portions() {
    let left = format!("{WIDE}; ALTER TABLE t ALTER doc SET STORAGE EXTERNAL");
    let filled = "INSERT INTO t SELECT n, 'name ' || n, repeat('x', 100000) FROM generate_series(1, 150) n";
    let world = World::of(&left, &format!("{WIDE}; {NOTED}"), filled, &["id", "name", "doc"]).await;
    let mut world = world.started().await;
    world.stop().await;
    world.right.psql("DELETE FROM t");
    written(&world);
    world.left.psql("UPDATE t SET name = 'part ' || id");
    world.start().await;
    world.until_equal().await;
    let [records, transactions, statements, most] = written(&world)[..] else { panic!("four numbers") };
    assert_eq!(records, 150);
    assert!(most <= 1_300_000, "{most} bytes in a statement");
    assert!(statements >= 12 && transactions * 2 < statements, "{statements} in {transactions} transactions");
}
