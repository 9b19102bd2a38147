//! What takes long is given its time, and what is much is not held at once.

use crate::support::{Target, World};
use concord_engine::error::{Code, Error, Result};
use concord_engine::mirror::batch::Step;
use concord_engine::mirror::bulk::{Frozen, Helper};
use concord_engine::record::{FieldName, Key, Record};
use concord_engine::runtime::command::Resolution;
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
    async fn whole(&self, _keys: &[Key]) -> Result<Vec<Step>> {
        Ok(Vec::new())
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
