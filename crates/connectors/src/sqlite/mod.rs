//! A SQLite file as a connected system. Changes are learnt from a change table that triggers fill; writes are guarded
//! in one transaction per batch. Rows come in the order of commits because SQLite has one writer at a time, so one
//! number orders everything: changes, reads and our own writes.
//!
//! It never opens a file that is not there, never changes the file's settings, and leaves nothing behind once released.

mod apply;
mod asking;
mod capture;
mod check;
mod client;
mod config;
mod errors;
mod exchange;
mod indexes;
mod mirror;
mod position;
mod read;
mod schema;
mod shape;
mod steps;
mod storage;
mod types;

pub use config::{BUSY_TIMEOUT_DEFAULT, POLL_INTERVAL_DEFAULT, SqliteSettings};

use async_trait::async_trait;
use client::Client;
use concord_engine::change::{Mark, Observation, Position, Version};
use concord_engine::connector::{
    Capabilities, ChangeDetection, Changes, Chunk, ChunkCursor, Connector, Feed, FeedHealth, Finding, Presence, Write,
    WriteResult,
};
use concord_engine::error::{Code, Error, Result};
use concord_engine::mirror::bulk::{MirrorTarget, Taken};
use concord_engine::record::{FeedName, FieldName, Key, ObjectName};
use concord_engine::schema::{Field, Schema, Selection};
use concord_engine::value::Value;
use errors::classify;
use futures_util::stream::{self, BoxStream, StreamExt};
use position::Place;
use schema::quoted;
use std::cmp::Ordering;
use std::future::ready;
use std::sync::Arc;

/// The connector's kind, as `type` in the configuration names it.
pub const KIND: &str = "sqlite";

/// A stored position: the number of a change, and the change table that it is of.
pub fn shown(position: &Position) -> Option<String> {
    let Place { seq, database, .. } = Place::decode(position).ok()?;
    Some(format!("{seq} of {database}"))
}
/// The most writes in one transaction: the user's own writers wait for no more than that.
const WRITES_MAX: usize = 500;
/// The triggers' clock tells milliseconds.
const TIME_GRANULARITY_MICROS: u32 = 1_000;
/// Lots of records that wait for who reads a table as a whole.
const LOTS_MAX: usize = 2;
/// Changes that wait in the file before a person is told.
const BACKLOG_WARNING: i64 = 1_000_000;

/// A SQLite file.
pub struct SqliteConnector {
    settings: Arc<SqliteSettings>,
    capabilities: Capabilities,
    /// Everything that takes the write lock, in one order.
    writer: Arc<Client>,
    /// Everything that only reads.
    reader: Arc<Client>,
}

/// A connector for this file. Nothing is opened yet: a file that cannot be reached shows in the first call.
pub fn open(settings: SqliteSettings) -> Result<SqliteConnector> {
    let settings = Arc::new(settings);
    Ok(SqliteConnector {
        writer: Arc::new(Client::start(Arc::clone(&settings), "writer")?),
        reader: Arc::new(Client::start(Arc::clone(&settings), "reader")?),
        settings,
        capabilities: Capabilities {
            kind: KIND,
            change_detection: ChangeDetection::Triggers,
            guarded_writes: true,
            marks: true,
            fences_prove: true,
            keys_can_be_given: true,
            max_batch: WRITES_MAX,
            load_batch: None,
            writes_take: None,
            writes_settle: None,
            time_granularity_micros: TIME_GRANULARITY_MICROS,
            feeds_apart: false,
        },
    })
}

#[async_trait]
impl Connector for SqliteConnector {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn check(&self, objects: &[ObjectName]) -> Result<Vec<Finding>> {
        let (settings, objects) = (Arc::clone(&self.settings), objects.to_vec());
        self.reader.run(move |connection| check::check(connection, &settings, &objects)).await
    }

    async fn objects(&self) -> Result<Vec<ObjectName>> {
        self.reader.run(|connection| Ok(schema::tables(connection)?.into_iter().map(ObjectName::from).collect())).await
    }

    async fn schema(&self, object: &ObjectName) -> Result<Schema> {
        let object = object.clone();
        self.reader.run(move |connection| shape::any_table(connection, &object).map(|table| table.schema())).await
    }

    async fn count(&self, object: &ObjectName) -> Result<u64> {
        let object = object.clone();
        self.reader
            .run(move |connection| {
                let table = shape::any_table(connection, &object)?;
                connection
                    .query_row(&format!("SELECT count(*) FROM {}", quoted(&table.name)), [], |row| row.get::<_, i64>(0))
                    .map(|rows| u64::try_from(rows).unwrap_or(0))
                    .map_err(|error| classify(error, &format!("counting {object}")))
            })
            .await
    }

    async fn whole(&self, selection: &Selection) -> Result<BoxStream<'static, Result<Vec<Observation>>>> {
        let (lots, waiting) = tokio::sync::mpsc::channel(LOTS_MAX);
        let (reader, selection) = (Arc::clone(&self.reader), selection.clone());
        let reading = async move { reader.run(move |connection| read::whole(connection, &selection, &lots)).await };
        let failed = stream::once(reading).filter_map(|read| ready(read.err().map(Err)));
        let read = stream::unfold(waiting, |mut waiting| async move { Some((waiting.recv().await?, waiting)) });
        Ok(stream::select(read.map(Ok), failed).boxed())
    }

    async fn prepare(&self, selections: &[Selection], known: &[Feed]) -> Result<Vec<Feed>> {
        let (selections, known) = (selections.to_vec(), known.to_vec());
        self.writer.run(move |connection| capture::prepare(connection, &selections, &known)).await
    }

    async fn capture(&self, feed: &Feed, from: &Position) -> Result<Box<dyn Changes>> {
        known_feed(&feed.name)?;
        Ok(Box::new(capture::open(Arc::clone(&self.settings), feed, from).await?))
    }

    async fn acknowledge(&self, feed: &FeedName, upto: &Position) -> Result<()> {
        known_feed(feed)?;
        let place = Place::decode(upto)?;
        self.writer.run(move |connection| capture::acknowledge(connection, place)).await
    }

    fn reached(&self, position: &Position, goal: &Position) -> bool {
        match (Place::decode(position), Place::decode(goal)) {
            (Ok(position), Ok(goal)) => position.database == goal.database && position.seq >= goal.seq,
            _ => false,
        }
    }

    /// The write lock is the fence: whoever takes it knows that no other write is under way, and our own writes wait in
    /// the same queue before it.
    async fn fence(&self, feed: &FeedName) -> Result<Position> {
        known_feed(feed)?;
        self.writer
            .run(|connection| {
                capture::writing(connection, |connection| {
                    let database = storage::database(connection)?
                        .ok_or_else(|| Error::new(Code::FeedGap, "the change table is not in the file"))?;
                    Ok(storage::last_place(connection, database)?.encode())
                })
            })
            .await
    }

    async fn health(&self, feed: &FeedName) -> Result<FeedHealth> {
        known_feed(feed)?;
        self.reader.run(health).await
    }

    async fn snapshot(&self, selection: &Selection, from: &ChunkCursor, limit: usize) -> Result<Chunk> {
        let (selection, from) = (selection.clone(), from.clone());
        self.reader.run(move |connection| read::snapshot(connection, &selection, &from, limit)).await
    }

    async fn read(&self, selection: &Selection, keys: &[Key]) -> Result<Vec<Presence>> {
        let (selection, keys) = (selection.clone(), keys.to_vec());
        self.reader.run(move |connection| read::read(connection, &selection, &keys)).await
    }

    async fn find(
        &self,
        selection: &Selection,
        by: &[FieldName],
        values: &[Vec<Value>],
        limit: usize,
    ) -> Result<Vec<Vec<concord_engine::change::Observation>>> {
        let (selection, by, values) = (selection.clone(), by.to_vec(), values.to_vec());
        self.reader.run(move |connection| read::find(connection, &selection, &by, &values, limit)).await
    }

    async fn apply(&self, selection: &Selection, mark: &Mark, writes: &[Write]) -> Result<Vec<WriteResult>> {
        if writes.len() > WRITES_MAX {
            return Err(Error::new(Code::Unsupported, format!("a batch holds at most {WRITES_MAX} writes")));
        }
        let (selection, mark, writes) = (selection.clone(), mark.clone(), writes.to_vec());
        self.writer.run(move |connection| apply::apply(connection, &selection, &mark, &writes)).await
    }

    fn index_statement(&self, schema: &Schema, fields: &[FieldName]) -> Option<String> {
        let table = schema.object.as_str();
        let names: Vec<&str> = std::iter::once(table).chain(fields.iter().map(FieldName::as_str)).collect();
        let columns: Vec<String> = fields.iter().map(|field| quoted(field.as_str())).collect();
        let index = quoted(&names.join("_"));
        (!columns.is_empty()).then(|| format!("CREATE INDEX {index} ON {} ({});", quoted(table), columns.join(", ")))
    }

    fn field_statement(&self, object: &ObjectName, field: &Field, _kind: &str) -> Option<String> {
        Some(schema::field_statement(object.as_str(), field))
    }

    fn object_statement(&self, wanted: &Schema, _kind: &str) -> Option<String> {
        Some(schema::object_statement(wanted))
    }

    fn mirror_target(&self) -> Option<&dyn MirrorTarget> {
        Some(self)
    }

    async fn release(&self, objects: &[ObjectName]) -> Result<()> {
        let objects = objects.to_vec();
        self.writer.run(move |connection| capture::release(connection, &objects)).await
    }

    fn compare(&self, a: &Version, b: &Version) -> Option<Ordering> {
        Some(position::sequence(a)?.cmp(&position::sequence(b)?))
    }
}

#[async_trait]
impl MirrorTarget for SqliteConnector {
    async fn objection(&self, object: &ObjectName) -> Result<Option<String>> {
        let object = object.clone();
        self.reader.run(move |connection| mirror::objection(connection, &object)).await
    }

    async fn take_over(&self, sync: &str, object: &ObjectName) -> Result<Taken> {
        mirror::take_over(&self.writer, sync, object).await
    }

    fn appends(&self) -> bool {
        true
    }

    async fn spare_indexes(&self, object: &ObjectName, unique: &[Vec<FieldName>]) -> Result<Vec<String>> {
        let (object, unique) = (object.clone(), unique.to_vec());
        self.reader.run(move |connection| indexes::names(connection, &shape::any_table(connection, &object)?, &unique)).await
    }

    async fn kept(&self, prefix: &str) -> Result<Vec<String>> {
        let prefix = prefix.to_owned();
        self.reader.run(move |connection| mirror::kept(connection, &prefix)).await
    }

    async fn forget(&self, sync: &str) -> Result<()> {
        let sync = sync.to_owned();
        self.writer.run(move |connection| mirror::forget(connection, &sync)).await
    }
}

fn known_feed(feed: &FeedName) -> Result<()> {
    if feed.as_str() == capture::FEED {
        return Ok(());
    }
    Err(Error::new(Code::Unsupported, format!("a SQLite file has one feed, {}, and none of the name {feed}", capture::FEED)))
}

fn health(connection: &mut rusqlite::Connection) -> Result<FeedHealth> {
    let Some(database) = storage::database(connection)? else { return Ok(FeedHealth::default()) };
    let failed = |error| classify(error, "looking at the change table");
    let (first, last): (i64, i64) = connection
        .query_row("SELECT coalesce(min(seq), 0), coalesce(max(seq), 0) FROM _concord_changes", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .map_err(failed)?;
    let bytes: i64 = connection
        .query_row(
            "SELECT coalesce(sum(pgsize), 0) FROM dbstat WHERE name = '_concord_changes' AND aggregate = TRUE",
            [],
            |row| row.get(0),
        )
        .map_err(failed)?;
    let waiting = last.saturating_sub(first);
    Ok(FeedHealth {
        retained_bytes: u64::try_from(bytes).ok(),
        retained_bytes_max: None,
        position: format!("{last} of {database}"),
        warning: (waiting > BACKLOG_WARNING)
            .then(|| format!("{waiting} changes wait in the file: it grows until they are taken over")),
    })
}
