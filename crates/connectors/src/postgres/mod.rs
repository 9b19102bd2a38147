//! The PostgreSQL connector: changes from the server's own log by `pgoutput`, guarded writes in batches, reads under
//! snapshots. This file holds the connector's state and hands each call to the file that owns it; it decides nothing.
//!
//! [`config`] and [`client`] reach the server, [`schema`] and [`types`] know its tables, [`prepare`], [`capture`] and
//! [`release`] own the feed, [`snapshot`] and [`read`] show records, [`apply`] and [`fence`] write
//! them, each batch in one [`transaction`]. [`freeze`], [`mirror`] and [`steps`] are the bulk path of one-way syncs, [`foreign`] what
//! foreign keys mean for it.

mod apply;
mod batch;
mod capture;
mod carried;
mod check;
mod check_objects;
mod client;
mod condition;
mod config;
mod copy;
mod errors;
mod exchange;
mod fence;
mod foreign;
mod freeze;
mod guarded;
mod indexes;
mod insert;
mod lanes;
mod leftover;
mod mirror;
mod names;
mod pgoutput;
mod position;
mod prepare;
mod privileges;
mod publication;
mod read;
mod relation;
mod release;
mod schema;
mod session;
mod slot;
mod snapshot;
mod steps;
mod stream;
mod tls;
mod transaction;
mod types;
mod version;
mod widen;
mod within;

pub use config::{Config, Password, SslMode};

use async_trait::async_trait;
use client::Pool;
use concord_engine::change::Observation;
use concord_engine::change::{Mark, Position, Version};
use concord_engine::connector::{
    Capabilities, ChangeDetection, Changes, Chunk, ChunkCursor, Connector, Feed, FeedHealth, Finding, Involved, Leftover,
    Presence, Since, Write, WriteResult, Writes,
};
use concord_engine::error::{Code, Error, Result};
use concord_engine::mirror::bulk::{Bonds, BulkSource, Frozen, MirrorTarget, Taken};
use concord_engine::record::{FeedName, FieldName, Key, ObjectName};
use concord_engine::schema::{Field, ForeignKey, Schema, Selection};
use concord_engine::value::Value;
use futures_util::stream::BoxStream;
use names::{OwnNames, TableName};
use schema::Table;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{RwLock, watch};
use tokio_util::task::TaskTracker;
use version::RowVersion;

/// A stored position as the server writes it.
pub fn shown(position: &Position) -> Option<String> {
    let position = position::SlotPosition::decode(position).ok()?;
    Some(version::lsn_text(position.lsn))
}

/// The prefix of the logical message that carries a [`Mark`] in front of our writes.
const MARK_PREFIX: &str = "concord";
/// The prefix of the message that marks a slot's birth.
const MARKER_PREFIX: &str = "concord.marker";
/// The prefix of the message that makes the feed pass a fence.
const FENCE_PREFIX: &str = "concord.fence";

/// The most writes in one call of `apply`.
const BATCH_MAX: usize = 1000;
/// The most sessions that mirror syncs write with at once.
const MIRROR_SESSIONS_MAX: usize = 64;
/// The most sessions that one mirror sync reads with: those of a load, and those that read single records beside it.
const ONE_SYNC_SESSIONS_MAX: usize = 16;

/// A connection to one PostgreSQL database.
pub struct PostgresConnector {
    shared: Arc<Shared>,
    capabilities: Capabilities,
}

/// What the connector and its open feed share.
pub(crate) struct Shared {
    config: Arc<Config>,
    names: OwnNames,
    /// This process's writing sessions end in it.
    process: String,
    readers: Pool,
    writers: Pool,
    /// Sessions of mirror syncs that write here.
    mirrors: Pool,
    /// The same, for tables whose foreign keys are left to the source.
    apart: Pool,
    tasks: TaskTracker,
    tables: Mutex<HashMap<ObjectName, Arc<Table>>>,
    selections: Mutex<HashMap<ObjectName, Vec<FieldName>>>,
    /// What is known of the tables that the feed carries.
    carried: carried::Carried,
    /// What the server may be told is durable; the open feed passes it on.
    acknowledged: watch::Sender<u64>,
    /// Held shared while a batch is written, alone while a fence is raised.
    writing: RwLock<()>,
}

/// Makes a connector. Nothing is reached yet: connections are opened when they are needed and again after a loss.
pub fn open(config: Config) -> Result<PostgresConnector> {
    if config.installation.is_empty() {
        return Err(Error::new(Code::Internal, "a PostgreSQL connection was opened without the installation's id"));
    }
    // Unreadable certificates are a mistake of the configuration: said at once.
    if config.sslmode != SslMode::Disable && !config.is_socket() {
        tls::client(&config)?;
    }
    let names = OwnNames::new(&config.installation, &config.connection);
    let process: String = uuid::Uuid::new_v4().simple().to_string().chars().take(8).collect();
    let many = Arc::new(Config { pool_size: MIRROR_SESSIONS_MAX, ..config.clone() });
    let apart: Vec<(&str, &str)> = mirror::SESSION_SETTINGS.iter().copied().chain([foreign::SESSION_SETTING]).collect();
    let config = Arc::new(config);
    let reader_name = config.application_name.clone().unwrap_or_else(|| names.sessions.clone());
    let shared = Shared {
        readers: Pool::new(Arc::clone(&config), reader_name, read::SESSION_SETTINGS),
        writers: Pool::new(Arc::clone(&config), names.writers(&process), apply::SESSION_SETTINGS),
        mirrors: Pool::new(Arc::clone(&many), format!("{}:mirror", names.sessions), mirror::SESSION_SETTINGS),
        apart: Pool::new(many, format!("{}:mirror", names.sessions), &apart),
        config,
        names,
        process,
        tasks: TaskTracker::new(),
        tables: Mutex::default(),
        selections: Mutex::default(),
        carried: carried::Carried::default(),
        acknowledged: watch::Sender::new(0),
        writing: RwLock::new(()),
    };
    let capabilities = Capabilities {
        kind: "postgres",
        change_detection: ChangeDetection::Log,
        guarded_writes: true,
        marks: true,
        fences_prove: true,
        keys_can_be_given: true,
        max_batch: BATCH_MAX,
        load_batch: None,
        writes_take: None,
        writes_settle: None,
        time_granularity_micros: 1,
        feeds_apart: false,
    };
    Ok(PostgresConnector { shared: Arc::new(shared), capabilities })
}

impl Shared {
    /// The name as the catalogue knows it.
    fn name(&self, object: &ObjectName) -> Result<TableName> {
        TableName::parse(object.as_str(), &self.config.schema)
    }

    /// A table, as it was last read from the catalogue.
    async fn table(&self, object: &ObjectName) -> Result<Arc<Table>> {
        let known = self.tables.lock().unwrap_or_else(PoisonError::into_inner).get(object).cloned();
        match known {
            Some(table) => Ok(table),
            None => self.table_now(object).await,
        }
    }

    /// A table, read from the catalogue now.
    async fn table_now(&self, object: &ObjectName) -> Result<Arc<Table>> {
        let name = self.name(object)?;
        let mut lease = self.readers.lease().await?;
        let table = Arc::new(schema::table(&mut lease, &name).await?);
        lease.done();
        self.tables.lock().unwrap_or_else(PoisonError::into_inner).insert(object.clone(), Arc::clone(&table));
        Ok(table)
    }

    /// Forgets a table whose statement the server refused for its shape: it is read again when next needed.
    fn forget_if_stale(&self, object: &ObjectName, error: &Error) {
        if matches!(error.code, Code::FieldMissing | Code::KeyMissing | Code::ObjectMissing | Code::StatementRefused) {
            self.tables.lock().unwrap_or_else(PoisonError::into_inner).remove(object);
        }
    }

    /// What a read came to: a table whose shape has changed is forgotten, a privilege that is missing is named with what grants it.
    async fn explained<T>(&self, object: &ObjectName, read: Result<T>) -> Result<T> {
        match read {
            Ok(read) => Ok(read),
            Err(error) => {
                self.forget_if_stale(object, &error);
                Err(privileges::named(self, object, Writes::default(), error).await)
            }
        }
    }

    /// The fields of an object that matter to somebody; empty: all.
    fn selected_fields(&self, object: &ObjectName) -> Vec<FieldName> {
        self.selections.lock().unwrap_or_else(PoisonError::into_inner).get(object).cloned().unwrap_or_default()
    }

    /// The feed's name: that of the slot.
    fn feed_name(&self) -> FeedName {
        FeedName::from(self.names.slot.as_str())
    }

    /// Refuses a feed that is not this connection's.
    fn require_feed(&self, feed: &FeedName) -> Result<()> {
        if feed.as_str() == self.names.slot {
            return Ok(());
        }
        Err(position::gap(format!("the feed {feed} does not belong to this connection, whose feed is {}", self.names.slot)))
    }
}

#[async_trait]
impl Connector for PostgresConnector {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn check(&self, objects: &[ObjectName]) -> Result<Vec<Finding>> {
        check::check(&self.shared, objects).await
    }

    async fn check_writes(&self, objects: &[Involved]) -> Result<Vec<Finding>> {
        check::check_writes(&self.shared, objects).await
    }

    async fn objects(&self) -> Result<Vec<ObjectName>> {
        let mut lease = self.shared.readers.lease().await?;
        let objects = schema::objects(&mut lease).await?;
        lease.done();
        Ok(objects)
    }

    async fn schema(&self, object: &ObjectName) -> Result<Schema> {
        Ok(Schema::clone(&self.shared.table_now(object).await?.schema))
    }

    async fn count(&self, object: &ObjectName) -> Result<u64> {
        read::count(&self.shared, object).await
    }

    async fn prepare(&self, selections: &[Selection], known: &[Feed]) -> Result<Vec<Feed>> {
        prepare::prepare(&self.shared, selections, known).await
    }

    async fn capture(&self, feed: &Feed, from: &Position) -> Result<Box<dyn Changes>> {
        capture::open(&self.shared, feed, from).await
    }

    async fn acknowledge(&self, feed: &FeedName, upto: &Position) -> Result<()> {
        self.shared.require_feed(feed)?;
        let lsn = position::SlotPosition::decode(upto)?.lsn;
        self.shared.acknowledged.send_if_modified(|sent| {
            let rises = lsn > *sent;
            *sent = lsn.max(*sent);
            rises
        });
        Ok(())
    }

    fn place_behind(&self, version: &Version) -> Option<Position> {
        let (RowVersion::Stream { commit_lsn, .. } | RowVersion::Logged { commit_lsn, .. }) = RowVersion::decode(version)? else {
            return None;
        };
        // A feed is behind a commit once it is behind where that begins: it is told of commits as a whole.
        Some(slot::place(&self.shared, commit_lsn.saturating_add(1)).encode())
    }

    fn reached(&self, position: &Position, goal: &Position) -> bool {
        let lsn = |position: &Position| position::SlotPosition::decode(position).map_or(0, |position| position.lsn);
        lsn(position) >= lsn(goal)
    }

    async fn fence(&self, feed: &FeedName) -> Result<Position> {
        self.shared.require_feed(feed)?;
        fence::fence(&self.shared).await
    }

    async fn health(&self, feed: &FeedName) -> Result<FeedHealth> {
        self.shared.require_feed(feed)?;
        slot::health(&self.shared).await
    }

    async fn snapshot(&self, selection: &Selection, from: &ChunkCursor, limit: usize) -> Result<Chunk> {
        let chunk = snapshot::chunk(&self.shared, selection, from, limit, None).await;
        self.shared.explained(&selection.object, chunk).await
    }

    async fn snapshot_since(&self, selection: &Selection, from: &ChunkCursor, limit: usize, since: &Since) -> Result<Chunk> {
        let chunk = snapshot::chunk(&self.shared, selection, from, limit, Some(since)).await;
        self.shared.explained(&selection.object, chunk).await
    }

    async fn whole(&self, selection: &Selection) -> Result<BoxStream<'static, Result<Vec<Observation>>>> {
        let whole = freeze::whole(&self.shared, selection).await;
        whole.inspect_err(|error| self.shared.forget_if_stale(&selection.object, error))
    }

    async fn read(&self, selection: &Selection, keys: &[Key]) -> Result<Vec<Presence>> {
        let presences = read::by_key(&self.shared, selection, keys).await;
        self.shared.explained(&selection.object, presences).await
    }

    async fn read_within(&self, selection: &Selection, keys: &[Key], max_bytes: usize) -> Result<Vec<Presence>> {
        let presences = within::by_key(&self.shared, selection, keys, max_bytes).await;
        self.shared.explained(&selection.object, presences).await
    }

    async fn find(
        &self,
        selection: &Selection,
        by: &[FieldName],
        values: &[Vec<Value>],
        limit: usize,
    ) -> Result<Vec<Vec<Observation>>> {
        let found = read::by_fields(&self.shared, selection, by, values, limit).await;
        self.shared.explained(&selection.object, found).await
    }

    async fn apply(&self, selection: &Selection, mark: &Mark, writes: &[Write]) -> Result<Vec<WriteResult>> {
        let results = apply::apply(&self.shared, selection, mark, writes).await;
        results.inspect_err(|error| self.shared.forget_if_stale(&selection.object, error))
    }

    fn index_statement(&self, schema: &Schema, fields: &[FieldName]) -> Option<String> {
        schema::index_statement(&self.shared.name(&schema.object).ok()?, schema, fields)
    }

    fn field_statement(&self, object: &ObjectName, field: &Field, kind: &str) -> Option<String> {
        Some(schema::field_statement(&self.shared.name(object).ok()?, field, kind == self.capabilities.kind))
    }

    fn object_statement(&self, wanted: &Schema, kind: &str) -> Option<String> {
        Some(schema::object_statement(&self.shared.name(&wanted.object).ok()?, wanted, kind == self.capabilities.kind))
    }

    fn for_one_sync(&self, feed: &str) -> Option<Arc<dyn Connector>> {
        // Where we may make none, somebody has made one publication, which is that of all syncs.
        if !self.shared.config.allow_ddl {
            return None;
        }
        let connection = format!("{}_{feed}", self.shared.config.connection);
        let config =
            Config { connection, pool_size: ONE_SYNC_SESSIONS_MAX, one_sync: true, ..Config::clone(&self.shared.config) };
        let own = open(config).ok()?;
        Some(Arc::new(own))
    }

    fn own_feed(&self) -> Option<FeedName> {
        Some(self.shared.feed_name())
    }

    async fn leftovers(&self, known: &[FeedName]) -> Result<Vec<Leftover>> {
        leftover::find(&self.shared, known).await
    }

    async fn remove_leftover(&self, leftover: &Leftover) -> Result<()> {
        leftover::remove(&self.shared, &leftover.feed).await
    }

    fn bulk_source(&self) -> Option<&dyn BulkSource> {
        Some(self)
    }

    fn mirror_target(&self) -> Option<&dyn MirrorTarget> {
        Some(self)
    }

    async fn release(&self, objects: &[ObjectName]) -> Result<()> {
        release::release(&self.shared, objects).await
    }

    fn compare(&self, a: &Version, b: &Version) -> Option<Ordering> {
        RowVersion::decode(a)?.compare(&RowVersion::decode(b)?)
    }
}

#[async_trait]
impl BulkSource for PostgresConnector {
    async fn freeze(&self, selection: &Selection) -> Result<Arc<dyn Frozen>> {
        freeze::freeze(&self.shared, selection).await
    }

    async fn keeps(&self, object: &ObjectName) -> Result<Vec<ForeignKey>> {
        foreign::kept(&self.shared, object).await
    }
}

#[async_trait]
impl MirrorTarget for PostgresConnector {
    async fn objection(&self, object: &ObjectName) -> Result<Option<String>> {
        mirror::objection(&self.shared, object).await
    }

    async fn bonds(&self, object: &ObjectName) -> Result<Bonds> {
        foreign::bonds(&self.shared, object).await
    }

    fn appends(&self) -> bool {
        true
    }

    async fn take_over(&self, sync: &str, object: &ObjectName) -> Result<Taken> {
        mirror::take_over(&self.shared, sync, object).await
    }

    async fn spare_indexes(&self, object: &ObjectName, unique: &[Vec<FieldName>]) -> Result<Vec<String>> {
        indexes::names(&self.shared, &*self.shared.table_now(object).await?, unique).await
    }

    async fn kept(&self, prefix: &str) -> Result<Vec<String>> {
        mirror::kept(&self.shared, prefix).await
    }

    async fn forget(&self, sync: &str) -> Result<()> {
        mirror::forget(&self.shared, sync).await
    }
}
