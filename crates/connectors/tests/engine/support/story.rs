//! One story: two sides, the rules between them, and an engine that comes and goes. Beside the object that the story is
//! about, every story has a table whose only row is changed to and fro: when a change of it has come through, everything
//! that either side's feed held before has been seen.

use super::gates::{Gated, Tap};
use super::sides::{Row, Server, Side};
use super::{rules, wait_until};
use concord_engine::clock::SystemClock;
use concord_engine::connector::Connector;
use concord_engine::error::Result;
use concord_engine::ledger::{Entry, LedgerRow};
use concord_engine::link::{Link, LinkId, ReviewId, SyncId};
use concord_engine::record::SystemName;
use concord_engine::review::Review;
use concord_engine::rules::SyncRules;
use concord_engine::runtime::command::{Command, Request, Resolution};
use concord_engine::runtime::status::Status;
use concord_engine::runtime::{Approvals, Handle, Options, ReviewNumbers, Setup, engine};
use concord_engine::store::sqlite::{SqliteStore, StoreOptions};
use concord_engine::store::{Counts, LedgerQuery, Store};
use concord_engine::verify::{SyncVerification, verify};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The object whose changes keep the beat.
pub const BEAT: &str = "beat";
const BEAT_TABLE: &str = "CREATE TABLE beat (id integer PRIMARY KEY, at integer);";

pub struct Story {
    pub left: Box<dyn Side>,
    pub right: Box<dyn Side>,
    /// The syncs that the next start runs; the first one is the story's own, the last one keeps the beat.
    pub syncs: Vec<SyncRules>,
    /// The gates of the left and the right side.
    pub taps: [Arc<Tap>; 2],
    pub options: Options,
    store: Arc<dyn Store>,
    running: Option<Running>,
    beats: AtomicU64,
    // After everything that has files in it.
    folder: tempfile::TempDir,
}

struct Running {
    handle: Handle,
    stop: CancellationToken,
    task: JoinSet<Result<()>>,
}

impl Story {
    /// Two databases of one server with these tables; the first table named is the story's object.
    pub async fn servers(left: &str, right: &str) -> Story {
        let sides: [Box<dyn Side>; 2] = [Box::new(Server::make("left").await), Box::new(Server::make("right").await)];
        Story::between(sides, left, right).await
    }

    /// The same table in two databases.
    pub async fn tables(table: &str) -> Story {
        Story::servers(table, table).await
    }

    pub async fn between([left, right]: [Box<dyn Side>; 2], on_left: &str, on_right: &str) -> Story {
        left.run(&format!("{BEAT_TABLE} {on_left}")).await;
        right.run(&format!("{BEAT_TABLE} {on_right}")).await;
        left.run("INSERT INTO beat VALUES (1, 0)").await;
        let folder = tempfile::tempdir().unwrap();
        let store = open_store(&folder).await;
        let mut options = Options {
            tick: Duration::from_millis(20),
            reconnect_min: Duration::from_millis(20),
            reconnect_max: Duration::from_millis(500),
            ..Options::default()
        };
        options.capture.max_wait = Duration::from_millis(30);
        Story {
            left,
            right,
            syncs: Vec::new(),
            taps: Default::default(),
            options,
            store,
            running: None,
            beats: AtomicU64::new(0),
            folder,
        }
    }

    /// Adds a sync of an object; `fields` as both sides call them, the first one being what records are matched by.
    pub async fn sync(mut self, object: &str, fields: &[&str]) -> Story {
        let pairs: Vec<(&str, &str)> = fields.iter().map(|name| (*name, *name)).collect();
        self.syncs.push(self.rules(object, &pairs).await);
        self
    }

    /// Adds a sync of an object whose fields have two names.
    pub async fn sync_renamed(mut self, object: &str, fields: &[(&str, &str)]) -> Story {
        self.syncs.push(self.rules(object, fields).await);
        self
    }

    pub async fn rules(&self, object: &str, fields: &[(&str, &str)]) -> SyncRules {
        let id = self.store.sync_id(object).await.unwrap();
        rules::pair(id, &self.systems(), object, fields).await
    }

    /// Gives every sync the number of its layout, as a plan does.
    pub async fn number_layouts(&mut self) {
        for rules in &mut self.syncs {
            rules.layout = concord_engine::plan::layout_of(&*self.store, rules).await.unwrap();
        }
    }

    /// Changes the rules of the story's own sync.
    pub fn with(mut self, change: impl FnOnce(&mut SyncRules)) -> Story {
        change(&mut self.syncs[0]);
        self
    }

    /// Starts, and waits until both sides have been read and are equal.
    pub async fn started(mut self) -> Story {
        self.start().await;
        self.settle().await;
        self
    }

    fn systems(&self) -> Vec<(SystemName, Arc<dyn Connector>)> {
        let gated = |side: &dyn Side, tap: &Arc<Tap>| -> Arc<dyn Connector> {
            Arc::new(Gated { inner: side.open(), tap: Arc::clone(tap) })
        };
        vec![("left".into(), gated(&*self.left, &self.taps[0])), ("right".into(), gated(&*self.right, &self.taps[1]))]
    }

    pub async fn start(&mut self) {
        assert!(self.running.is_none(), "the engine is running");
        let mut syncs = self.syncs.clone();
        syncs.push(self.rules(BEAT, &[("id", "id"), ("at", "at")]).await);
        let setup = Setup {
            systems: self.systems(),
            syncs,
            store: Arc::clone(&self.store),
            clock: Arc::new(SystemClock),
            options: self.options.clone(),
            approvals: Approvals::All,
            reviews: ReviewNumbers::default(),
        };
        let (handle, engine) = engine(setup);
        let stop = CancellationToken::new();
        let stopper = stop.clone();
        let mut task = JoinSet::new();
        task.spawn(async move { engine.run(stopper).await });
        self.running = Some(Running { handle, stop, task });
    }

    /// Stops in good order.
    pub async fn stop(&mut self) {
        let mut running = self.running.take().expect("the engine runs");
        running.stop.cancel();
        running.task.join_next().await.unwrap().unwrap().unwrap();
    }

    /// As a kill does: the future is dropped where it stands. The gates of the dead are open to its successor.
    pub async fn crash(&mut self) {
        let mut running = self.running.take().expect("the engine runs");
        running.task.shutdown().await;
        self.taps = Default::default();
        // What the dead process had handed to the store's thread is either durable by now or lost; the file is opened anew.
        let nothing: Arc<dyn Store> = Arc::new(SqliteStore::in_memory(&StoreOptions::default()).unwrap());
        drop(std::mem::replace(&mut self.store, nothing));
        self.store = open_store(&self.folder).await;
    }

    /// A person kills the engine and starts it again.
    pub async fn crash_and_restart(&mut self) {
        self.crash().await;
        self.start().await;
    }

    pub fn status(&self) -> Status {
        self.running.as_ref().expect("the engine runs").handle.status.borrow().clone()
    }

    /// The stage of the story's own sync.
    pub fn stage(&self) -> String {
        self.status().syncs.first().map(|sync| sync.stage.clone()).unwrap_or_default()
    }

    pub async fn wait_for_stage(&self, begin: &str) {
        wait_until(&format!("stage {begin}"), || async { self.stage().starts_with(begin) }).await;
    }

    pub async fn ask(&self, request: Request) -> Result<String> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let handle = &self.running.as_ref().expect("the engine runs").handle;
        handle.commands.send(Command { request, answer }).await.unwrap();
        answered.await.unwrap()
    }

    pub async fn pause(&self) {
        self.ask(Request::Pause(self.id())).await.unwrap();
    }

    pub async fn resume(&self) {
        self.ask(Request::Resume(self.id())).await.unwrap();
    }

    pub async fn pause_sync(&self, sync: SyncId) {
        self.ask(Request::Pause(sync)).await.unwrap();
    }

    pub async fn resume_sync(&self, sync: SyncId) {
        self.ask(Request::Resume(sync)).await.unwrap();
    }

    pub async fn try_resolve(&self, review: ReviewId, resolution: Resolution) -> Result<String> {
        self.ask(Request::Resolve(review, resolution)).await
    }

    pub async fn resolve(&self, review: ReviewId, resolution: Resolution) {
        self.ask(Request::Resolve(review, resolution)).await.unwrap();
    }

    /// The number of the story's own sync.
    pub fn id(&self) -> SyncId {
        self.syncs[0].id
    }

    /// What the left side shows.
    pub async fn on_left(&self, sql: &str) -> Vec<Row> {
        self.left.rows(sql).await
    }

    /// What the right side shows.
    pub async fn on_right(&self, sql: &str) -> Vec<Row> {
        self.right.rows(sql).await
    }

    /// Waits until the right side shows one row of this one value.
    pub async fn right_shows(&self, sql: &str, value: &str) {
        shows(&*self.right, sql, value).await;
    }

    /// Waits until the left side shows one row of this one value.
    pub async fn left_shows(&self, sql: &str, value: &str) {
        shows(&*self.left, sql, value).await;
    }

    /// Both sides show the same, which is this, row by row with `|` between columns and `NULL` for null.
    pub async fn both_show(&self, sql: &str, rows: &[&str]) {
        let (left, right) = (lines(self.on_left(sql).await), lines(self.on_right(sql).await));
        assert_eq!(left, right, "left and right differ");
        assert_eq!(left, rows);
    }

    /// Both sides show the same.
    pub async fn are_equal(&self, sql: &str) {
        let (left, right) = (lines(self.on_left(sql).await), lines(self.on_right(sql).await));
        let only = |here: &[String], there: &[String]| -> Vec<String> {
            here.iter().filter(|line| !there.contains(line)).take(5).cloned().collect()
        };
        assert_eq!(only(&left, &right), only(&right, &left), "only on the left, only on the right");
        assert_eq!(left.len(), right.len());
    }

    pub async fn ledger(&self) -> Vec<LedgerRow> {
        self.ledger_of(self.id()).await
    }

    pub async fn ledger_of(&self, sync: SyncId) -> Vec<LedgerRow> {
        let query = LedgerQuery { sync: Some(sync), limit: 10_000, ..LedgerQuery::default() };
        let mut rows = self.store.ledger(query).await.unwrap();
        rows.reverse();
        rows
    }

    /// How many records have been written by now.
    pub async fn writes(&self) -> usize {
        let is_write = |row: &&LedgerRow| matches!(row.entry, Entry::Created | Entry::Updated | Entry::Deleted);
        self.ledger().await.iter().filter(is_write).count()
    }

    /// The values that lost.
    pub async fn lost(&self) -> Vec<LedgerRow> {
        self.ledger().await.into_iter().filter(|row| row.entry == Entry::Lost).collect()
    }

    /// What waits for a person, newest first.
    pub async fn reviews(&self) -> Vec<Review> {
        self.reviews_of(self.id()).await
    }

    pub async fn reviews_of(&self, sync: SyncId) -> Vec<Review> {
        self.store.reviews(Some(sync), true, 1_000).await.unwrap()
    }

    /// How many records of a sync wait for records that they refer to.
    pub async fn waiting(&self, sync: SyncId) -> u64 {
        self.store.counts(sync).await.unwrap().waiting
    }

    /// Waits until something waits for a person.
    pub async fn review(&self) -> Review {
        wait_until("a review item", || async { !self.reviews().await.is_empty() }).await;
        self.reviews().await.remove(0)
    }

    /// What a verification says of the story's own sync.
    pub async fn verified(&self) -> SyncVerification {
        let connectors: Vec<Arc<dyn Connector>> = self.systems().into_iter().map(|(_, connector)| connector).collect();
        verify(&self.syncs[0], &*self.store, &connectors, &SystemClock).await.unwrap()
    }

    pub async fn links(&self) -> Vec<Link> {
        self.store.scan_links(self.id(), LinkId(0), 10_000).await.unwrap()
    }

    /// How much there is of the story's own sync.
    pub async fn counts(&self) -> Counts {
        self.store.counts(self.id()).await.unwrap()
    }

    /// Waits until as many records of a member (0: left) have been observed and wait to be taken into account.
    pub async fn pending(&self, member: usize, wanted: u64) {
        wait_until(&format!("{wanted} pending of member {member}"), || async {
            let counts = self.store.counts(self.id()).await.unwrap();
            counts.pending.iter().any(|(of, count)| *of == member && *count == wanted)
        })
        .await;
    }

    /// Waits until as many writes to a member (0: left) are under way.
    pub async fn in_flight(&self, member: usize, wanted: u64) {
        wait_until(&format!("{wanted} writes under way to member {member}"), || async {
            self.status().syncs.first().is_some_and(|sync| sync.members[member].in_flight == wanted)
        })
        .await;
    }

    /// Waits until both feeds have been read as far as they go now.
    pub async fn fence(&self) {
        for (from, to) in [(&self.left, &self.right), (&self.right, &self.left)] {
            let beat = self.beats.fetch_add(1, Ordering::SeqCst) + 1;
            wait_until("the beat's row", || async { !from.rows("SELECT 1 FROM beat").await.is_empty() }).await;
            from.run(&format!("UPDATE beat SET at = {beat}")).await;
            shows(&**to, "SELECT at FROM beat", &beat.to_string()).await;
        }
    }

    /// Waits until everything has been seen and nothing is left to do, and proves it: what was written stands still while
    /// both feeds are read to their ends twice over.
    pub async fn settle(&self) {
        let deadline = tokio::time::Instant::now() + super::DEADLINE;
        loop {
            self.fence().await;
            self.level().await;
            let before = self.ledger().await.len();
            self.fence().await;
            self.level().await;
            if self.ledger().await.len() == before {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "never comes to rest: {:#?}", self.ledger().await);
        }
    }

    /// Waits until the engine says twice over that nothing is left to do for any sync that runs.
    async fn level(&self) {
        let mut status = self.running.as_ref().expect("the engine runs").handle.status.clone();
        let is_level = |status: &Status| {
            status.syncs.iter().all(|sync| {
                let idle = sync.members.iter().all(|member| member.in_flight == 0);
                (sync.level && idle) || sync.stage.starts_with("stopped") || sync.stage == "paused"
            })
        };
        let level = async {
            let mut times = 0;
            while times < 2 {
                status.changed().await.expect("the engine runs");
                times = if is_level(&status.borrow()) { times + 1 } else { 0 };
            }
        };
        let waited = tokio::time::timeout(super::DEADLINE, level).await;
        assert!(waited.is_ok(), "never level: {:#?}", self.status());
    }
}

async fn open_store(folder: &tempfile::TempDir) -> Arc<dyn Store> {
    let mut store = None;
    // A job of a killed engine holds the store until it has been dropped.
    wait_until("the store", || {
        store = SqliteStore::open(&folder.path().join("store"), &StoreOptions::default()).ok();
        std::future::ready(store.is_some())
    })
    .await;
    Arc::new(store.unwrap())
}

async fn shows(side: &dyn Side, sql: &str, value: &str) {
    wait_until(&format!("{sql} to show {value}"), || async { lines(side.rows(sql).await) == [value] }).await;
}

fn lines(rows: Vec<Row>) -> Vec<String> {
    let line = |row: Row| row.into_iter().map(|cell| cell.unwrap_or_else(|| "NULL".into())).collect::<Vec<_>>().join("|");
    rows.into_iter().map(line).collect()
}
