//! A connector whose keys are the org's own, seen through numbers: the cases give keys, and here none can be given. A number
//! is tied to an id when a record is made under it; a record that nobody numbered gets the next free one.

use async_trait::async_trait;
use concord_engine::change::{Image, Mark, Observation, Position, Version};
use concord_engine::clock::Moment;
use concord_engine::connector::*;
use concord_engine::error::Result;
use concord_engine::record::{FeedName, FieldName, Key, ObjectName, Record};
use concord_engine::schema::{Schema, Selection, Type};
use concord_engine::value::Value;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Which number stands for which id.
#[derive(Debug, Default)]
pub struct Numbers {
    by_id: BTreeMap<String, i64>,
}

impl Numbers {
    /// Ties a number, or the next free one, to an id.
    pub fn tie(&mut self, id: &str, number: Option<i64>) -> i64 {
        if let Some(known) = self.by_id.get(id) {
            return *known;
        }
        let number = number.unwrap_or_else(|| self.by_id.values().max().unwrap_or(&10_000) + 1);
        // A number can be given again when its record is gone: then it stands for the newest.
        self.by_id.insert(id.to_owned(), number);
        number
    }

    pub fn number(&self, id: &str) -> Option<i64> {
        self.by_id.get(id).copied()
    }

    fn id(&self, number: i64) -> Option<String> {
        self.by_id.iter().rev().find(|(_, known)| **known == number).map(|(id, _)| id.clone())
    }
}

pub struct Keyed {
    pub inner: Arc<dyn Connector>,
    pub numbers: Arc<Mutex<Numbers>>,
}

struct KeyedChanges {
    inner: Box<dyn Changes>,
    numbers: Arc<Mutex<Numbers>>,
}

fn shown_key(numbers: &Mutex<Numbers>, key: Key) -> Key {
    let id = key.0[0].as_text().unwrap();
    Key(vec![Value::Int(numbers.lock().unwrap().tie(id, None))])
}

fn shown_record(numbers: &Mutex<Numbers>, record: Record) -> Record {
    let shown = record.into_iter().map(|(name, value)| match (name.as_str(), &value) {
        ("Id", Value::Text(id)) => ("id".into(), Value::Int(numbers.lock().unwrap().tie(id, None))),
        _ => (name, value),
    });
    shown.collect()
}

fn shown(numbers: &Mutex<Numbers>, observation: Observation) -> Observation {
    let image = match observation.image {
        Image::Full(record) => Image::Full(shown_record(numbers, record)),
        Image::Partial(record) => Image::Partial(shown_record(numbers, record)),
        Image::Deleted => Image::Deleted,
    };
    Observation { key: shown_key(numbers, observation.key), image, ..observation }
}

fn inner_name(name: &FieldName) -> FieldName {
    if name.as_str() == "id" { "Id".into() } else { name.clone() }
}

fn inner_selection(selection: &Selection) -> Selection {
    Selection { fields: selection.fields.iter().map(inner_name).collect(), ..selection.clone() }
}

fn shown_schema(mut schema: Schema) -> Schema {
    for field in schema.fields.iter_mut().filter(|field| field.name.as_str() == "Id") {
        field.name = "id".into();
        field.ty = Type::Int { bits: 64, unsigned: false };
    }
    schema.key = vec!["id".into()];
    schema.indexes.retain(|fields| fields[0].as_str() != "Id");
    schema
}

impl Keyed {
    fn inner_key(&self, key: &Key) -> Key {
        let Value::Int(number) = key.0[0] else { panic!("{key:?}") };
        let known = self.numbers.lock().unwrap().id(number);
        Key(vec![Value::text(known.unwrap_or_else(|| "z08000000000zzz".to_owned()))])
    }

    fn inner_operation(&self, operation: &Operation) -> Operation {
        let without = |record: &Record| -> Record {
            record.iter().filter(|(name, _)| name.as_str() != "id").map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        match operation {
            Operation::Create { image, absent_by } => Operation::Create { image: without(image), absent_by: absent_by.clone() },
            Operation::Update { key, set, guard } => {
                Operation::Update { key: self.inner_key(key), set: without(set), guard: without(guard) }
            }
            Operation::Delete { key, guard } => Operation::Delete { key: self.inner_key(key), guard: without(guard) },
        }
    }
}

#[async_trait]
impl Changes for KeyedChanges {
    async fn next(&mut self, limits: Limits) -> Result<Batch> {
        let batch = self.inner.next(limits).await?;
        let events = batch.events.into_iter().map(|event| match event {
            Event::Observed(observation) => Event::Observed(shown(&self.numbers, observation)),
            Event::Read(observation) => Event::Read(shown(&self.numbers, observation)),
            Event::SchemaChanged(schema) => Event::SchemaChanged(shown_schema(schema)),
            other => other,
        });
        Ok(Batch { events: events.collect(), position: batch.position })
    }
}

#[async_trait]
impl Connector for Keyed {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }
    async fn check(&self, objects: &[ObjectName]) -> Result<Vec<Finding>> {
        self.inner.check(objects).await
    }
    async fn objects(&self) -> Result<Vec<ObjectName>> {
        self.inner.objects().await
    }
    async fn schema(&self, object: &ObjectName) -> Result<Schema> {
        Ok(shown_schema(self.inner.schema(object).await?))
    }
    async fn count(&self, object: &ObjectName) -> Result<u64> {
        self.inner.count(object).await
    }
    async fn prepare(&self, selections: &[Selection], known: &[Feed]) -> Result<Vec<Feed>> {
        let selections: Vec<Selection> = selections.iter().map(inner_selection).collect();
        self.inner.prepare(&selections, known).await
    }
    async fn capture(&self, feed: &Feed, from: &Position) -> Result<Box<dyn Changes>> {
        let inner = self.inner.capture(feed, from).await?;
        Ok(Box::new(KeyedChanges { inner, numbers: Arc::clone(&self.numbers) }))
    }
    async fn acknowledge(&self, feed: &FeedName, upto: &Position) -> Result<()> {
        self.inner.acknowledge(feed, upto).await
    }
    fn reached(&self, position: &Position, goal: &Position) -> bool {
        self.inner.reached(position, goal)
    }
    async fn fence(&self, feed: &FeedName) -> Result<Position> {
        self.inner.fence(feed).await
    }
    async fn health(&self, feed: &FeedName) -> Result<FeedHealth> {
        self.inner.health(feed).await
    }
    async fn snapshot(&self, selection: &Selection, from: &ChunkCursor, limit: usize) -> Result<Chunk> {
        let chunk = self.inner.snapshot(&inner_selection(selection), from, limit).await?;
        Ok(Chunk { records: chunk.records.into_iter().map(|one| shown(&self.numbers, one)).collect(), next: chunk.next })
    }
    async fn read(&self, selection: &Selection, keys: &[Key]) -> Result<Vec<Presence>> {
        let keys: Vec<Key> = keys.iter().map(|key| self.inner_key(key)).collect();
        let found = self.inner.read(&inner_selection(selection), &keys).await?;
        let shown = |presence| match presence {
            Presence::Present(observation) => Presence::Present(shown(&self.numbers, observation)),
            other => other,
        };
        Ok(found.into_iter().map(shown).collect())
    }
    async fn find(
        &self,
        selection: &Selection,
        by: &[FieldName],
        values: &[Vec<Value>],
        limit: usize,
    ) -> Result<Vec<Vec<Observation>>> {
        let found = self.inner.find(&inner_selection(selection), by, values, limit).await?;
        Ok(found.into_iter().map(|row| row.into_iter().map(|one| shown(&self.numbers, one)).collect()).collect())
    }
    async fn apply(&self, selection: &Selection, mark: &Mark, writes: &[Write]) -> Result<Vec<WriteResult>> {
        let translated: Vec<Write> =
            writes.iter().map(|write| Write { id: write.id, operation: self.inner_operation(&write.operation) }).collect();
        let mut results = self.inner.apply(&inner_selection(selection), mark, &translated).await?;
        for (write, result) in writes.iter().zip(&mut results) {
            let number = match &write.operation {
                Operation::Create { image, .. } => match image.get("id") {
                    Some(Value::Int(number)) => Some(*number),
                    _ => None,
                },
                _ => None,
            };
            if let Outcome::Written { key, image, .. } = &mut result.outcome {
                self.numbers.lock().unwrap().tie(key.0[0].as_text().unwrap(), number);
                *key = shown_key(&self.numbers, key.clone());
                *image = image.take().map(|record| shown_record(&self.numbers, record));
            }
        }
        Ok(results)
    }
    async fn made(&self, selection: &Selection, mark: &Mark, since: Moment, creates: &[Write]) -> Result<Vec<Made>> {
        let translated: Vec<Write> =
            creates.iter().map(|write| Write { id: write.id, operation: self.inner_operation(&write.operation) }).collect();
        let made = self.inner.made(&inner_selection(selection), mark, since, &translated).await?;
        let shown = |made| match made {
            Made::Yes(record) => Made::Yes(Box::new(shown(&self.numbers, *record))),
            other => other,
        };
        Ok(made.into_iter().map(shown).collect())
    }
    async fn release(&self, objects: &[ObjectName]) -> Result<()> {
        self.inner.release(objects).await
    }
    fn compare(&self, a: &Version, b: &Version) -> Option<Ordering> {
        self.inner.compare(a, b)
    }
}
