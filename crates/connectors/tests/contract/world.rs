//! What most cases begin with: a system with a table, an open connector, a prepared feed; and ways to read a feed that
//! wait for what must come and no longer.

use crate::driver::{Driver, Shape};
use concord_engine::change::{Image, Mark, Observation, Position};
use concord_engine::connector::{
    Batch, Changes, Connector, Event, Feed, Limits, Operation, Outcome, Presence, Write, WriteResult,
};
use concord_engine::error::Class;
use concord_engine::record::{Key, ObjectName, Record};
use concord_engine::schema::Selection;
use concord_engine::value::Value;
use std::sync::Arc;
use std::time::Duration;

/// The longest that a change which must come may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct World<D: Driver> {
    pub driver: D,
    pub connector: Arc<dyn Connector>,
    pub selection: Selection,
    pub feed: Feed,
}

impl<D: Driver> World<D> {
    /// A system with an empty table `accounts`, captured.
    pub async fn accounts() -> World<D> {
        World::with(Shape::Accounts, "accounts", &["id", "name", "email", "amount", "note"]).await
    }

    /// A system with one empty table, captured.
    pub async fn with(shape: Shape, name: &str, fields: &[&str]) -> World<D> {
        let driver = D::fresh().await;
        let object = driver.table(shape, name).await;
        World::prepared(driver, selection(&object, fields)).await
    }

    /// A system whose table is there already.
    pub async fn prepared(driver: D, selection: Selection) -> World<D> {
        let connector = driver.open().await;
        let feed = prepare(&*connector, std::slice::from_ref(&selection), &[]).await;
        World { driver, connector, selection, feed }
    }

    pub async fn capture(&self) -> Box<dyn Changes> {
        self.capture_from(&self.feed.position).await
    }

    pub async fn capture_from(&self, position: &Position) -> Box<dyn Changes> {
        capture(&*self.connector, &self.feed, position).await
    }

    /// Everything in the feed from `changes` on up to now.
    pub async fn drain(&self, changes: &mut dyn Changes) -> Vec<Event> {
        let fence = self.connector.fence(&self.feed.name).await.unwrap();
        self.drain_to(changes, &fence).await
    }

    pub async fn drain_to(&self, changes: &mut dyn Changes, goal: &Position) -> Vec<Event> {
        self.drain_batches(changes, goal).await.into_iter().flat_map(|batch| batch.events).collect()
    }

    pub async fn drain_batches(&self, changes: &mut dyn Changes, goal: &Position) -> Vec<Batch> {
        let mut batches = Vec::new();
        loop {
            let batch = next(changes, LIMITS).await;
            let is_there = batch.position.as_ref().is_some_and(|position| self.connector.reached(position, goal));
            batches.push(batch);
            if is_there {
                return batches;
            }
        }
    }

    pub async fn apply_one(&self, operation: Operation) -> Outcome {
        self.apply(vec![operation]).await.remove(0).outcome
    }

    pub async fn apply(&self, operations: Vec<Operation>) -> Vec<WriteResult> {
        let writes: Vec<Write> = operations.into_iter().zip(1..).map(|(operation, id)| Write { id, operation }).collect();
        self.connector.apply(&self.selection, &mark(7), &writes).await.unwrap()
    }

    pub async fn read(&self, key: Key) -> Presence {
        self.connector.read(&self.selection, &[key]).await.unwrap().remove(0)
    }

    pub async fn read_record(&self, key: Key) -> Record {
        match self.read(key).await {
            Presence::Present(observation) => record(&observation).clone(),
            other => panic!("the record is not there: {other:?}"),
        }
    }
}

pub const LIMITS: Limits = Limits { max_events: 1_000, max_bytes: 16 << 20, max_wait: Duration::from_millis(200) };

/// Opens a feed. One that has only just been closed may be held by its old session for a moment: that is transient.
pub async fn capture(connector: &dyn Connector, feed: &Feed, position: &Position) -> Box<dyn Changes> {
    let patience = tokio::time::Instant::now() + PATIENCE;
    loop {
        match connector.capture(feed, position).await {
            Ok(changes) => return changes,
            Err(error) if error.class() == Class::Transient && tokio::time::Instant::now() < patience => {
                tokio::task::yield_now().await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// The next batch, which must come within a bounded time.
pub async fn next(changes: &mut dyn Changes, limits: Limits) -> Batch {
    tokio::time::timeout(PATIENCE, changes.next(limits)).await.expect("next() took far longer than max_wait").unwrap()
}

/// The next `count` observations, waiting for them.
pub async fn observations(changes: &mut dyn Changes, count: usize) -> Vec<Observation> {
    let mut found = Vec::new();
    let wait = async {
        while found.len() < count {
            found.extend(observed(changes.next(LIMITS).await.unwrap().events));
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("a change did not come");
    assert_eq!(found.len(), count, "more changes than were made: {found:?}");
    found
}

pub fn observed(events: impl IntoIterator<Item = Event>) -> Vec<Observation> {
    events
        .into_iter()
        .filter_map(|event| match event {
            Event::Observed(observation) | Event::Read(observation) => Some(observation),
            _ => None,
        })
        .collect()
}

pub async fn prepare(connector: &dyn Connector, selections: &[Selection], known: &[Feed]) -> Feed {
    let feeds = connector.prepare(selections, known).await.unwrap();
    let [feed] = feeds.as_slice() else { panic!("one feed was expected: {feeds:?}") };
    feed.clone()
}

pub fn selection(object: &ObjectName, fields: &[&str]) -> Selection {
    Selection { object: object.clone(), fields: fields.iter().map(|field| (*field).into()).collect() }
}

pub fn mark(intent: u64) -> Mark {
    Mark { store: "a-store".to_owned(), sync: "a sync \"quoted\"".to_owned(), intent, hops: 3 }
}

pub fn key(number: i64) -> Key {
    Key(vec![Value::Int(number)])
}

pub fn fields<const N: usize>(fields: [(&str, Value); N]) -> Record {
    fields.into_iter().map(|(name, value)| (name.into(), value)).collect()
}

/// What was shown: all fields, or those that changed where the system tells no more.
pub fn record(observation: &Observation) -> &Record {
    match &observation.image {
        Image::Full(record) | Image::Partial(record) => record,
        Image::Deleted => panic!("an image was expected: {observation:?}"),
    }
}

pub fn text_of(observation: &Observation, field: &str) -> String {
    match record(observation).get(field) {
        Some(Value::Text(text)) => text.clone(),
        other => panic!("a text was expected in {field}: {other:?}"),
    }
}

/// Two records mean the same, field by field.
pub fn assert_means(shown: &Record, expected: &Record) {
    for (field, value) in expected.iter() {
        let held = shown.get(field.as_str());
        assert!(held.is_some_and(|held| held.equivalent(value)), "{field}: expected {value:?}, got {held:?}");
    }
}
