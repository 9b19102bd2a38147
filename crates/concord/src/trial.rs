//! For tests of what stands around an engine: two SQLite files with two syncs between them, and connectors to both of which can be
//! told what they were asked for, and whose records can be hidden from whoever reads them.

use crate::answers::description::commit;
use crate::setup::{self, Systems, Written};
use async_trait::async_trait;
use concord_connectors::sqlite::{self, SqliteSettings};
use concord_engine::change::{Mark, Observation, Position, Version};
use concord_engine::connector::{
    Capabilities, Changes, Chunk, ChunkCursor, Connector, Feed, FeedHealth, Finding, Presence, Write, WriteResult,
};
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::{FeedName, FieldName, Key, ObjectName};
use concord_engine::schema::{Schema, Selection};
use concord_engine::store::sqlite::{SqliteStore, StoreOptions};
use concord_engine::store::{Store, Transaction};
use concord_engine::value::Value;
use rusqlite::Connection;
use serde_json::json;
use std::cmp::Ordering as Order;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// The files `one` and `two`, each with the tables `ready` and `late`, and a sync for each table, called like it. The first
/// needs no approval. In the first file each table has one record.
pub struct Trial {
    home: TempDir,
    pub written: Written,
    pub store: Arc<SqliteStore>,
    /// The connector to the first file.
    pub spy: Arc<Spy>,
    /// The connector to the second.
    pub other: Arc<Spy>,
}

impl Trial {
    pub fn new() -> Trial {
        let home = tempfile::tempdir().unwrap();
        for name in ["one", "two"] {
            let tables =
                ["ready", "late"].map(|table| format!("CREATE TABLE {table} (id INTEGER PRIMARY KEY, name TEXT UNIQUE);"));
            let file = Connection::open(home.path().join(name)).unwrap();
            file.execute_batch(&format!("PRAGMA journal_mode = WAL; {}", tables.concat())).unwrap();
        }
        let connection = |name: &str| json!({ "type": "sqlite", "credentials": { "path": home.path().join(name) } });
        let sync = |name: &str| {
            json!({
                "name": name, "auto_approve": name == "ready", "sync_type": "bidirectional", "match_on": ["name"],
                "source": { "system": "one", "object": name }, "target": { "system": "two", "object": name },
                "field_mappings": [{ "source": "name", "target": "name" }]
            })
        };
        let config = json!({
            "connections": { "one": connection("one"), "two": connection("two") }, "syncs": [sync("ready"), sync("late")]
        });
        std::fs::write(home.path().join("syncs.json"), config.to_string()).unwrap();
        let open = |name: &str| Spy::of(sqlite::open(SqliteSettings::new(home.path().join(name))).unwrap());
        let (spy, other) = (open("one"), open("two"));
        let store = Arc::new(SqliteStore::open(&home.path().join("store"), &StoreOptions::default()).unwrap());
        let trial = Trial { written: read(&home), home, store, spy, other };
        ["ready", "late"].iter().for_each(|table| trial.insert(table, 0));
        trial
    }

    /// The configuration once more.
    pub fn written(&self) -> Written {
        read(&self.home)
    }

    pub fn store(&self) -> Arc<dyn Store> {
        Arc::<SqliteStore>::clone(&self.store)
    }

    /// The store's folder.
    pub fn folder(&self) -> PathBuf {
        self.home.path().join("store")
    }

    pub fn systems(&self) -> Systems {
        let of = |spy: &Arc<Spy>| -> Arc<dyn Connector> { Arc::<Spy>::clone(spy) };
        Systems { open: vec![("one".into(), of(&self.spy)), ("two".into(), of(&self.other))], closed: Vec::new() }
    }

    /// Has the store remember that a sync has begun.
    pub async fn begin(&self, sync: &str) {
        let id = self.store.sync_id(sync).await.unwrap();
        let settings = vec![(format!("begun/{}", id.0), Some(vec![1]))];
        commit(&*self.store, Transaction { settings, ..Transaction::default() }).await.unwrap();
    }

    fn file(&self, name: &str) -> Connection {
        let file = Connection::open(self.home.path().join(name)).unwrap();
        file.busy_timeout(Duration::from_secs(10)).unwrap();
        file
    }

    /// Makes a record in the first file, unless it is there.
    pub fn insert(&self, table: &str, number: u32) {
        self.file("one").execute(&format!("INSERT OR IGNORE INTO {table} (name) VALUES ('record {number}')"), []).unwrap();
    }

    /// Whether a record is in the second file.
    pub fn has(&self, table: &str, number: u32) -> bool {
        let sql = format!("SELECT count(*) FROM {table} WHERE name = 'record {number}'");
        self.file("two").query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap() == 1
    }

    /// The same, of one that is made in the first file unless it is there.
    pub fn carries(&self, table: &str, number: u32) -> bool {
        self.insert(table, number);
        self.has(table, number)
    }

    /// Waits until something is so.
    pub async fn until(&self, what: &str, so: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !so() {
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn read(home: &TempDir) -> Written {
    setup::read(&[home.path().join("syncs.json")]).unwrap_or_else(|notices| panic!("{notices:#?}"))
}

/// A connector that tells what it was asked for.
pub struct Spy {
    inner: Arc<dyn Connector>,
    /// The object whose records nobody gets to see.
    hidden: Mutex<Option<String>>,
    /// The feed that it says it has, as a system with one log has it.
    feed: Mutex<Option<FeedName>>,
    opened: AtomicUsize,
    refused: AtomicUsize,
    read: AtomicUsize,
}

impl Spy {
    fn of(inner: impl Connector + 'static) -> Arc<Spy> {
        Arc::new(Spy {
            inner: Arc::new(inner),
            hidden: Mutex::default(),
            feed: Mutex::default(),
            opened: AtomicUsize::default(),
            refused: AtomicUsize::default(),
            read: AtomicUsize::default(),
        })
    }

    /// Nobody sees the records of an object from now on.
    pub fn hide(&self, object: &str) {
        *self.hidden.lock().unwrap() = Some(object.to_owned());
    }

    /// They are seen again.
    pub fn show(&self) {
        *self.hidden.lock().unwrap() = None;
    }

    /// Has one feed of this name.
    pub fn has_feed(&self, name: &str) {
        *self.feed.lock().unwrap() = Some(name.into());
    }

    /// How often its feed was opened.
    pub fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    /// How often hidden records were asked for.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }

    /// How often records were read, a chunk at a time.
    pub fn read(&self) -> usize {
        self.read.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Connector for Spy {
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
        self.inner.schema(object).await
    }

    async fn count(&self, object: &ObjectName) -> Result<u64> {
        self.inner.count(object).await
    }

    async fn prepare(&self, selections: &[Selection], known: &[Feed]) -> Result<Vec<Feed>> {
        self.inner.prepare(selections, known).await
    }

    async fn capture(&self, feed: &Feed, from: &Position) -> Result<Box<dyn Changes>> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        self.inner.capture(feed, from).await
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
        let is_hidden = self.hidden.lock().unwrap().as_deref() == Some(selection.object.as_str());
        if is_hidden {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Err(Error::new(Code::Unreachable, "the records are not shown"));
        }
        self.read.fetch_add(1, Ordering::SeqCst);
        self.inner.snapshot(selection, from, limit).await
    }

    async fn read(&self, selection: &Selection, keys: &[Key]) -> Result<Vec<Presence>> {
        self.inner.read(selection, keys).await
    }

    async fn find(
        &self,
        selection: &Selection,
        by: &[FieldName],
        values: &[Vec<Value>],
        limit: usize,
    ) -> Result<Vec<Vec<Observation>>> {
        self.inner.find(selection, by, values, limit).await
    }

    async fn apply(&self, selection: &Selection, mark: &Mark, writes: &[Write]) -> Result<Vec<WriteResult>> {
        self.inner.apply(selection, mark, writes).await
    }

    fn own_feed(&self) -> Option<FeedName> {
        self.feed.lock().unwrap().clone()
    }

    async fn release(&self, objects: &[ObjectName]) -> Result<()> {
        self.inner.release(objects).await
    }

    fn compare(&self, a: &Version, b: &Version) -> Option<Order> {
        self.inner.compare(a, b)
    }
}
