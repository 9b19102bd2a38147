//! What the tests have in common: a connected system, and short ways to say what is in it.
#![allow(dead_code, reason = "not every story uses every helper")]

use crate::server::{Database, Server};
use concord_connectors::postgres::{Config, PostgresConnector, open};
use concord_engine::change::{Image, Mark, Observation, Position};
use concord_engine::connector::{Batch, Changes, Connector, Event, Feed, Limits, Operation, Outcome, Presence, Write};
use concord_engine::record::{FieldName, Key, ObjectName, Record};
use concord_engine::schema::Selection;
use concord_engine::value::Value;
use std::sync::Arc;
use std::time::Duration;

/// A database with a connector on it.
pub struct System {
    pub database: Database,
    pub connector: PostgresConnector,
}

/// A new database with these tables, and a connector on it.
pub fn system(sql: &str) -> System {
    system_on(&Server::shared(), sql)
}

pub fn system_on(server: &Arc<Server>, sql: &str) -> System {
    let database = server.database();
    database.psql(sql);
    let connector = open(config(&database)).unwrap();
    System { database, connector }
}

pub fn config(database: &Database) -> Config {
    let mut config = Config::new("127.0.0.1", database.name.clone(), "postgres");
    config.port = database.server.port();
    config.installation = format!("i{}", database.name);
    config.connection = "left".into();
    config
}

impl System {
    /// A connector of another process of the same installation.
    pub fn restarted(&self) -> PostgresConnector {
        open(config(&self.database)).unwrap()
    }

    pub async fn prepare(&self, objects: &[&str]) -> Feed {
        prepare(&self.connector, objects, &[]).await
    }

    pub async fn capture(&self, feed: &Feed) -> Reader {
        Reader::open(&self.connector, feed, &feed.position).await
    }

    pub fn psql(&self, sql: &str) -> String {
        self.database.psql(sql)
    }

    pub async fn apply(&self, object: &str, operations: Vec<Operation>) -> Vec<Outcome> {
        apply(&self.connector, object, operations).await
    }

    pub async fn read(&self, object: &str, key: impl Into<Key1>) -> Presence {
        let presences = self.connector.read(&selection(object), &[key.into().0]).await.unwrap();
        presences.into_iter().next().unwrap()
    }
}

pub async fn prepare(connector: &PostgresConnector, objects: &[&str], known: &[Feed]) -> Feed {
    let selections: Vec<Selection> = objects.iter().map(|object| selection(object)).collect();
    connector.prepare(&selections, known).await.unwrap().remove(0)
}

pub async fn apply(connector: &PostgresConnector, object: &str, operations: Vec<Operation>) -> Vec<Outcome> {
    let writes: Vec<Write> = (100..).zip(operations).map(|(id, operation)| Write { id, operation }).collect();
    let results = connector.apply(&selection(object), &mark(), &writes).await.unwrap();
    assert_eq!(
        results.iter().map(|result| result.id).collect::<Vec<_>>(),
        writes.iter().map(|write| write.id).collect::<Vec<_>>()
    );
    results.into_iter().map(|result| result.outcome).collect()
}

pub fn selection(object: &str) -> Selection {
    Selection { object: ObjectName::from(object), fields: vec![] }
}

pub fn mark() -> Mark {
    Mark { store: "store".into(), sync: "sync".into(), intent: 7, hops: 0 }
}

pub const LIMITS: Limits = Limits { max_events: 1000, max_bytes: 1 << 20, max_wait: Duration::from_millis(200) };

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A feed that a test reads.
pub struct Reader {
    pub changes: Box<dyn Changes>,
    pub position: Position,
}

impl Reader {
    pub async fn open(connector: &PostgresConnector, feed: &Feed, from: &Position) -> Reader {
        Reader { changes: connector.capture(feed, from).await.unwrap(), position: from.clone() }
    }

    pub async fn batch(&mut self) -> Batch {
        self.batch_of(LIMITS).await
    }

    pub async fn batch_of(&mut self, limits: Limits) -> Batch {
        let batch = self.changes.next(limits).await.unwrap();
        if let Some(position) = &batch.position {
            self.position = position.clone();
        }
        batch
    }

    /// The next `count` events. Their transaction's commit, and with it the position, may still be on the way.
    pub async fn events(&mut self, count: usize) -> Vec<Event> {
        let deadline = std::time::Instant::now() + PATIENCE;
        let mut events = Vec::new();
        while events.len() < count {
            assert!(std::time::Instant::now() < deadline, "only {} of {count} events: {events:?}", events.len());
            events.extend(self.batch().await.events);
        }
        assert_eq!(events.len(), count, "{events:?}");
        events
    }

    /// The next `count` events, all of which are observations.
    pub async fn observations(&mut self, count: usize) -> Vec<Observation> {
        let observed = |event| match event {
            Event::Observed(observation) => observation,
            other => panic!("not an observation: {other:?}"),
        };
        self.events(count).await.into_iter().map(observed).collect()
    }

    /// Reads until the feed has passed a place; nothing may come on the way.
    pub async fn pass(&mut self, connector: &PostgresConnector, goal: &Position) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while !connector.reached(&self.position, goal) {
            assert!(std::time::Instant::now() < deadline, "the feed does not pass");
            let batch = self.batch().await;
            assert!(batch.events.is_empty(), "{:?}", batch.events);
        }
    }
}

/// A key of one column.
pub struct Key1(pub Key);

impl From<i64> for Key1 {
    fn from(number: i64) -> Key1 {
        Key1(Key(vec![Value::Int(number)]))
    }
}

impl From<&str> for Key1 {
    fn from(text: &str) -> Key1 {
        Key1(Key(vec![Value::Text(text.into())]))
    }
}

pub fn key(key: impl Into<Key1>) -> Key {
    key.into().0
}

pub fn int(number: i64) -> Value {
    Value::Int(number)
}

pub fn text(text: &str) -> Value {
    Value::Text(text.into())
}

pub fn record(fields: &[(&str, Value)]) -> Record {
    fields.iter().map(|(name, value)| (FieldName::from(*name), value.clone())).collect()
}

pub fn full(fields: &[(&str, Value)]) -> Image {
    Image::Full(record(fields))
}

pub fn create(image: &[(&str, Value)], absent_by: &[&str]) -> Operation {
    Operation::Create { image: record(image), absent_by: absent_by.iter().map(|name| FieldName::from(*name)).collect() }
}

pub fn update(of: impl Into<Key1>, set: &[(&str, Value)], guard: &[(&str, Value)]) -> Operation {
    Operation::Update { key: key(of), set: record(set), guard: record(guard) }
}

pub fn delete(of: impl Into<Key1>, guard: &[(&str, Value)]) -> Operation {
    Operation::Delete { key: key(of), guard: record(guard) }
}

/// An outcome in a word, with what it returned.
pub fn said(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Written { key, image, .. } => match image {
            Some(image) => {
                let fields: Vec<String> = image.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("written {key}: {}", fields.join(" "))
            }
            None => format!("written {key}"),
        },
        Outcome::Missed => "missed".into(),
        Outcome::Collision => "collision".into(),
        Outcome::Locked => "locked".into(),
        Outcome::Failed(error) => format!("failed {}", error.code),
        Outcome::Unknown => "unknown".into(),
    }
}

pub fn all_said(outcomes: &[Outcome]) -> Vec<String> {
    outcomes.iter().map(said).collect()
}
