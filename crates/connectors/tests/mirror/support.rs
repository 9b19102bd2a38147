//! The world of a mirror story: two databases, the rules between them, and a fleet that is started, stopped and killed. The
//! target is a database of a server, or a file.

use crate::rules;
use crate::server::{Database, Server};
use concord_connectors::postgres::{Config, open};
use concord_connectors::sqlite::{self, SqliteSettings};
use concord_engine::clock::SystemClock;
use concord_engine::connector::Connector;
use concord_engine::error::Result;
use concord_engine::link::SyncId;
use concord_engine::mirror::{Mode, choose, fleet, verify};
use concord_engine::record::SystemName;
use concord_engine::review::Review;
use concord_engine::rules::SyncRules;
use concord_engine::runtime::command::{Command, Request, Resolution};
use concord_engine::runtime::status::{Status, SyncStatus};
use concord_engine::runtime::{Approvals, Handle, Options, ReviewNumbers, Setup};
use concord_engine::store::Store;
use concord_engine::store::sqlite::{SqliteStore, StoreOptions};
use concord_engine::verify::SyncVerification;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long a condition may take on a machine that has other things to do.
const DEADLINE: Duration = Duration::from_secs(60);

/// Into a database of a server.
pub type World = WorldOf<Database>;

pub struct WorldOf<Right> {
    pub left: Database,
    pub right: Right,
    pub rules: SyncRules,
    /// Syncs that are reconciled in the same process.
    pub beside: Vec<SyncRules>,
    pub options: Options,
    store: Arc<dyn Store>,
    running: Option<Running>,
    // After everything that has files in it.
    _folder: tempfile::TempDir,
}

/// What a story carries records into.
pub trait Target: Send + Sync {
    /// An empty one.
    fn make() -> Self;

    /// A connector of its own for it.
    fn connector(&self) -> Arc<dyn Connector>;

    /// Runs statements; rows come back as `psql` shows them, unaligned.
    fn psql(&self, sql: &str) -> String;

    /// Takes away what Concord keeps there.
    fn forget_us(&self);

    /// Transactions with data that were committed since the sync was last taken over, and those that kept its progress alone.
    fn commits(&self) -> u64;

    /// A table is to be without a constraint from now on, and like this.
    fn lift(&self, table: &str, constraint: &str, without: &str);

    /// The type of a column that fills itself with another number for each record.
    const NUMBER: &'static str;
}

impl Target for Database {
    fn make() -> Database {
        Server::shared().database()
    }

    fn connector(&self) -> Arc<dyn Connector> {
        connector(self, "right")
    }

    fn psql(&self, sql: &str) -> String {
        Database::psql(self, sql)
    }

    fn forget_us(&self) {
        self.psql("DROP SCHEMA concord CASCADE");
    }

    fn commits(&self) -> u64 {
        self.psql("SELECT max(fence & 4294967295) FROM concord.mirrors").parse().unwrap()
    }

    fn lift(&self, table: &str, constraint: &str, _without: &str) {
        self.psql(&format!("ALTER TABLE {table} DROP CONSTRAINT {constraint}"));
    }

    const NUMBER: &'static str = "int GENERATED ALWAYS AS IDENTITY";
}

/// A SQLite file, as somebody made it who knows what other programs need.
pub struct File {
    folder: tempfile::TempDir,
}

impl File {
    /// With a journal of this mode.
    pub fn of(journal: &str) -> File {
        let file = File { folder: tempfile::tempdir().unwrap() };
        file.connect().pragma_update(None, "journal_mode", journal).unwrap();
        file
    }

    pub fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("target.db")
    }

    pub fn connect(&self) -> rusqlite::Connection {
        let connection = rusqlite::Connection::open(self.path()).unwrap();
        connection.busy_timeout(DEADLINE).unwrap();
        connection
    }

    /// Puts another file in its place.
    pub fn replace(&self, bytes: &[u8]) {
        let other = self.folder.path().join("other.db");
        std::fs::write(&other, bytes).unwrap();
        for journal in ["target.db-wal", "target.db-shm"] {
            let _ = std::fs::remove_file(self.folder.path().join(journal));
        }
        std::fs::rename(other, self.path()).unwrap();
    }

    /// Runs statements; of a single one the rows come back.
    pub fn psql(&self, sql: &str) -> String {
        let connection = self.connect();
        if sql.contains(';') {
            connection.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
            return String::new();
        }
        let mut statement = connection.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let width = statement.column_count();
        let mut rows = statement.raw_query();
        let mut lines = Vec::new();
        while let Some(row) = rows.next().unwrap_or_else(|error| panic!("{sql}: {error}")) {
            let shown = |at| match row.get_ref(at).unwrap() {
                rusqlite::types::ValueRef::Null => String::new(),
                rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                rusqlite::types::ValueRef::Real(number) => number.to_string(),
                rusqlite::types::ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                rusqlite::types::ValueRef::Blob(bytes) => format!("{bytes:?}"),
            };
            lines.push((0..width).map(shown).collect::<Vec<_>>().join("|"));
        }
        lines.join("\n")
    }
}

impl Target for File {
    fn make() -> File {
        File::of("wal")
    }

    fn connector(&self) -> Arc<dyn Connector> {
        let settings = SqliteSettings { busy_timeout: Duration::from_millis(200), ..SqliteSettings::new(self.path()) };
        Arc::new(sqlite::open(settings).unwrap())
    }

    fn psql(&self, sql: &str) -> String {
        File::psql(self, sql)
    }

    fn commits(&self) -> u64 {
        self.psql("SELECT max(fence & 4294967295) FROM _concord_mirrors").parse().unwrap()
    }

    fn forget_us(&self) {
        self.psql("DROP TABLE _concord_mirrors; DROP TABLE _concord_loaded; DROP TABLE _concord_indexes");
    }

    fn lift(&self, table: &str, _constraint: &str, without: &str) {
        let before = format!("ALTER TABLE {table} RENAME TO earlier");
        self.psql(&format!(
            "BEGIN IMMEDIATE; {before}; {without}; INSERT INTO {table} SELECT * FROM earlier; DROP TABLE earlier; COMMIT"
        ));
    }

    const NUMBER: &'static str = "int DEFAULT (random())";
}

struct Running {
    handle: Handle,
    stop: CancellationToken,
    task: JoinSet<Result<()>>,
}

pub fn connector(database: &Database, name: &str) -> Arc<dyn Connector> {
    let mut config = Config::new("127.0.0.1", database.name.clone(), "postgres");
    config.port = database.server.port();
    config.installation = format!("i{}", database.name);
    config.connection = name.into();
    Arc::new(open(config).unwrap())
}

/// Rules as a configuration says them that carries one way.
pub async fn one_way(id: SyncId, systems: &[(SystemName, Arc<dyn Connector>)], table: &str, fields: &[&str]) -> SyncRules {
    let pairs: Vec<(&str, &str)> = fields.iter().map(|name| (*name, *name)).collect();
    let mut rules = rules::pair(id, systems, table, &pairs).await;
    rules.members[0].inward = false;
    rules.members[1].outward = false;
    for field in &mut rules.fields {
        field.members[0].as_mut().unwrap().inward = false;
        field.members[1].as_mut().unwrap().outward = false;
    }
    rules
}

impl<Right: Target> WorldOf<Right> {
    /// The type of a column of the target that fills itself.
    pub const NUMBER: &'static str = Right::NUMBER;

    /// The same table `t` in two databases, filled on the left; every field of `fields` is carried.
    pub async fn new(table: &str, filled: &str, fields: &[&str]) -> WorldOf<Right> {
        WorldOf::of(table, table, filled, fields).await
    }

    pub async fn of(left_table: &str, right_table: &str, filled: &str, fields: &[&str]) -> WorldOf<Right> {
        WorldOf::between(Server::shared().database(), Right::make(), left_table, right_table, filled, fields).await
    }

    /// The same in databases that the story has made.
    pub async fn between(
        left: Database,
        right: Right,
        left_table: &str,
        right_table: &str,
        filled: &str,
        fields: &[&str],
    ) -> WorldOf<Right> {
        left.psql(&format!("{left_table}; {filled}"));
        right.psql(right_table);
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(folder.path(), &StoreOptions::default()).unwrap());
        let id = store.sync_id("t").await.unwrap();
        let systems = [("left".into(), connector(&left, "left")), ("right".into(), right.connector())];
        let rules = one_way(id, &systems, "t", fields).await;
        let options = Options {
            reconnect_min: Duration::from_millis(20),
            reconnect_max: Duration::from_millis(500),
            health_interval: Duration::from_millis(100),
            ..Options::default()
        };
        WorldOf { left, right, rules, beside: Vec::new(), options, store, running: None, _folder: folder }
    }

    /// Adds a sync of another table, both ways, that is reconciled in the same process.
    pub async fn beside(mut self, (left, right): (&str, &str), object: &str, fields: &[&str]) -> WorldOf<Right> {
        self.left.psql(left);
        self.right.psql(right);
        let id = self.store.sync_id(object).await.unwrap();
        let pairs: Vec<(&str, &str)> = fields.iter().map(|name| (*name, *name)).collect();
        let mut rules = rules::pair(id, &self.systems(), object, &pairs).await;
        rules.layout = concord_engine::plan::layout_of(&*self.store, &rules).await.unwrap();
        self.beside.push(rules);
        self
    }

    pub fn with(mut self, change: impl FnOnce(&mut SyncRules)) -> WorldOf<Right> {
        change(&mut self.rules);
        self
    }

    /// With rules that are made anew, for the tables as they are by now.
    pub async fn remapped(&mut self, fields: &[&str]) {
        self.rules = one_way(self.rules.id, &self.systems(), "t", fields).await;
    }

    pub fn systems(&self) -> Vec<(SystemName, Arc<dyn Connector>)> {
        vec![("left".into(), connector(&self.left, "left")), ("right".into(), self.right.connector())]
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The target by itself.
    pub fn target(&self) -> Arc<dyn Connector> {
        self.right.connector()
    }

    /// How the sync would run.
    pub async fn mode(&self) -> Mode {
        let rules = Arc::new(self.rules.clone());
        let systems = self.systems();
        choose(&rules, &[], &*self.store, (&*systems[0].1, &*systems[1].1)).await.unwrap()
    }

    pub async fn start(&mut self) {
        assert!(self.running.is_none(), "it runs");
        assert_eq!(self.mode().await, Mode::Mirror);
        let setup = Setup {
            syncs: self.beside.clone(),
            systems: self.systems(),
            store: Arc::clone(&self.store),
            clock: Arc::new(SystemClock),
            options: self.options.clone(),
            approvals: Approvals::All,
            reviews: ReviewNumbers::default(),
        };
        let rules = Arc::new(self.rules.clone());
        let order = std::iter::once(&self.rules).chain(&self.beside).map(|rules| rules.name.clone()).collect();
        let (handle, fleet) = fleet(setup, vec![Arc::clone(&rules)], order).await.unwrap();
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(fleet.run(stop.clone()));
        self.running = Some(Running { handle, stop, task });
    }

    pub async fn started(mut self) -> WorldOf<Right> {
        self.start().await;
        self.until_equal().await;
        self
    }

    /// As a kill does: the future is dropped where it stands.
    pub async fn crash(&mut self) {
        let mut running = self.running.take().expect("it runs");
        running.task.shutdown().await;
    }

    pub async fn stop(&mut self) {
        let mut running = self.running.take().expect("it runs");
        running.stop.cancel();
        running.task.join_next().await.unwrap().unwrap().unwrap();
    }

    /// Runs until the target is level with what the source holds now.
    pub async fn run_once(&mut self) {
        let before = self.options.once;
        self.options.once = true;
        self.start().await;
        let mut running = self.running.take().unwrap();
        tokio::time::timeout(DEADLINE, running.task.join_next()).await.expect("it ends").unwrap().unwrap().unwrap();
        self.options.once = before;
    }

    /// The slot goes while nobody reads it, and with it what it kept.
    pub async fn lose_slot(&self, slot: &str) {
        let dropped = format!(
            "SELECT count(pg_drop_replication_slot(slot_name)) FROM pg_replication_slots WHERE slot_name = '{slot}' AND NOT active"
        );
        self.until("nobody reads the slot", async || self.left.psql(&dropped) == "1").await;
    }

    pub fn status(&self) -> SyncStatus {
        self.statuses().syncs.into_iter().next().unwrap_or_default()
    }

    pub fn statuses(&self) -> Status {
        self.running.as_ref().expect("it runs").handle.status.borrow().clone()
    }

    pub async fn ask(&self, request: Request) -> Result<String> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let running = self.running.as_ref().expect("it runs");
        running.handle.commands.send(Command { request, answer }).await.unwrap();
        tokio::time::timeout(DEADLINE, answered).await.expect("an answer").unwrap()
    }

    pub async fn decide(&self, review: &Review, resolution: Resolution) -> Result<String> {
        self.ask(Request::Resolve(review.id, resolution)).await
    }

    pub async fn reviews(&self) -> Vec<Review> {
        self.store.reviews(None, true, 100).await.unwrap()
    }

    /// Those that are closed, too.
    pub async fn all_reviews(&self) -> Vec<Review> {
        self.store.reviews(None, false, 100).await.unwrap()
    }

    /// Both tables, row by row.
    pub fn sides(&self) -> (String, String) {
        let columns: Vec<String> = self.rules.fields.iter().map(|field| format!("CAST({} AS text)", field.name)).collect();
        let sql = format!("SELECT {} FROM t ORDER BY 1, 2", columns.join(", "));
        (self.left.psql(&sql), self.right.psql(&sql))
    }

    pub fn is_equal(&self) -> bool {
        let (left, right) = self.sides();
        left == right
    }

    pub async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        while !holds().await {
            if tokio::time::Instant::now() >= deadline {
                let (left, right) = self.sides();
                let shown = |text: &str| text.chars().take(600).collect::<String>();
                panic!(
                    "waited too long until {what}\n{}\n---\n{}\n{:#?}",
                    shown(&left),
                    shown(&right),
                    self.running.as_ref().map(|running| running.handle.status.borrow().clone())
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn until_equal(&self) {
        self.until("both sides are equal", async || self.status().level && self.is_equal()).await;
    }

    pub async fn until_stage(&self, stage: &str) {
        self.until(&format!("the stage is {stage}"), async || self.status().stage.starts_with(stage)).await;
    }

    pub async fn until_review(&self) -> Review {
        self.until("something waits for a person", async || !self.reviews().await.is_empty()).await;
        self.reviews().await.remove(0)
    }

    pub async fn verify(&self) -> SyncVerification {
        let systems: Vec<Arc<dyn Connector>> = self.systems().into_iter().map(|(_, connector)| connector).collect();
        verify(&Arc::new(self.rules.clone()), &*self.store, &systems, &SystemClock).await.unwrap()
    }
}
