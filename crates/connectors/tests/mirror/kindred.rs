//! The world of stories about several mirrored syncs between the same two databases: tables bound by foreign keys, their rules, and
//! one fleet for all of them.

use crate::server::{Database, Server};
use crate::support::{connector, one_way};
use concord_engine::clock::SystemClock;
use concord_engine::connector::Connector;
use concord_engine::error::Result;
use concord_engine::mirror::{Candidate, Choice, Mode, Neighbour, choose_all, fleet, verify};
use concord_engine::record::SystemName;
use concord_engine::review::Review;
use concord_engine::rules::SyncRules;
use concord_engine::runtime::command::{Command, Request};
use concord_engine::runtime::status::SyncStatus;
use concord_engine::runtime::{Approvals, Handle, Options, ReviewNumbers, Setup};
use concord_engine::store::Store;
use concord_engine::store::sqlite::{SqliteStore, StoreOptions};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long a condition may take on a machine that has other things to do.
const DEADLINE: Duration = Duration::from_secs(60);

/// A table and its columns.
pub type Table = (&'static str, &'static [&'static str]);

pub struct Family {
    pub left: Database,
    pub right: Database,
    pub rules: Vec<SyncRules>,
    pub options: Options,
    tables: Vec<Table>,
    store: Arc<dyn Store>,
    running: Option<(Handle, CancellationToken, JoinSet<Result<()>>)>,
    // After everything that has files in it.
    _folder: tempfile::TempDir,
}

impl Family {
    /// The same tables in two databases, filled on the left.
    pub async fn new(made: &str, filled: &str, tables: &[Table]) -> Family {
        Family::of((made, made), filled, tables).await
    }

    pub async fn of((left_made, right_made): (&str, &str), filled: &str, tables: &[Table]) -> Family {
        let server = Server::shared();
        Family::between((server.database(), server.database()), (left_made, right_made), filled, tables).await
    }

    pub async fn between(
        (left, right): (Database, Database),
        (left_made, right_made): (&str, &str),
        filled: &str,
        tables: &[Table],
    ) -> Family {
        left.psql(left_made);
        right.psql(right_made);
        if !filled.is_empty() {
            left.psql(filled);
        }
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(folder.path(), &StoreOptions::default()).unwrap());
        let options = Options {
            reconnect_min: Duration::from_millis(20),
            reconnect_max: Duration::from_millis(500),
            health_interval: Duration::from_millis(100),
            ..Options::default()
        };
        let tables = tables.to_vec();
        let mut family = Family { left, right, rules: Vec::new(), options, tables, store, running: None, _folder: folder };
        for (table, fields) in family.tables.clone() {
            let id = family.store.sync_id(table).await.unwrap();
            let mut rules = one_way(id, &family.systems(), table, fields).await;
            rules.guard.max_deletes_percent = 100.0;
            family.rules.push(rules);
        }
        family
    }

    pub fn systems(&self) -> Vec<(SystemName, Arc<dyn Connector>)> {
        vec![("left".into(), connector(&self.left, "left")), ("right".into(), connector(&self.right, "right"))]
    }

    /// How each would run.
    pub async fn choices(&self) -> Vec<Choice> {
        self.chosen(&[]).await.into_iter().map(Result::unwrap).collect()
    }

    /// The same where there are others in the configuration.
    pub async fn chosen(&self, all: &[Neighbour]) -> Vec<Result<Choice>> {
        let systems = self.systems();
        let rules: Vec<Arc<SyncRules>> = self.rules.iter().cloned().map(Arc::new).collect();
        let candidates: Vec<Candidate<'_>> =
            rules.iter().map(|rules| Candidate { rules, ends: (&*systems[0].1, &*systems[1].1) }).collect();
        choose_all(&candidates, all, &*self.store).await
    }

    /// Why each is reconciled, in the order of the tables.
    pub async fn reasons(&self) -> Vec<String> {
        let why = |choice: Choice| match choice.mode {
            Mode::Reconcile(Some(why)) => why,
            other => panic!("{other:?}"),
        };
        self.choices().await.into_iter().map(why).collect()
    }

    pub async fn start(&mut self) {
        assert!(self.running.is_none(), "it runs");
        let choices = self.choices().await;
        for (rules, choice) in self.rules.iter_mut().zip(choices) {
            assert_eq!(choice.mode, Mode::Mirror, "{}", rules.name);
            rules.kin = choice.kin;
        }
        let setup = Setup {
            syncs: Vec::new(),
            systems: self.systems(),
            store: Arc::clone(&self.store),
            clock: Arc::new(SystemClock),
            options: self.options.clone(),
            approvals: Approvals::All,
            reviews: ReviewNumbers::default(),
        };
        let order = self.rules.iter().map(|rules| rules.name.clone()).collect();
        let (handle, fleet) = fleet(setup, self.rules.iter().cloned().map(Arc::new).collect(), order).await.unwrap();
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(fleet.run(stop.clone()));
        self.running = Some((handle, stop, task));
    }

    pub async fn started(mut self) -> Family {
        self.start().await;
        self.until_equal().await;
        self
    }

    /// As a kill does: the future is dropped where it stands.
    pub async fn crash(&mut self) {
        let (.., mut task) = self.running.take().expect("it runs");
        task.shutdown().await;
    }

    pub async fn stop(&mut self) {
        let (_, stop, mut task) = self.running.take().expect("it runs");
        stop.cancel();
        task.join_next().await.unwrap().unwrap().unwrap();
    }

    /// Runs until everything is level, or waits for a person. Gives back how each did at the end.
    pub async fn run_once(&mut self) -> Vec<SyncStatus> {
        self.options.once = true;
        self.start().await;
        let (handle, _, mut task) = self.running.take().unwrap();
        tokio::time::timeout(DEADLINE, task.join_next()).await.expect("it ends").unwrap().unwrap().unwrap();
        self.options.once = false;
        handle.status.borrow().syncs.clone()
    }

    pub fn status(&self, table: &str) -> SyncStatus {
        let (handle, ..) = self.running.as_ref().expect("it runs");
        let status = handle.status.borrow().clone();
        status.syncs.into_iter().find(|sync| sync.name == table).unwrap_or_default()
    }

    pub async fn ask(&self, request: Request) -> Result<String> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let (handle, ..) = self.running.as_ref().expect("it runs");
        handle.commands.send(Command { request, answer }).await.unwrap();
        tokio::time::timeout(DEADLINE, answered).await.expect("an answer").unwrap()
    }

    pub fn id(&self, table: &str) -> concord_engine::link::SyncId {
        self.rules.iter().find(|rules| rules.name.as_str() == table).unwrap().id
    }

    pub async fn reviews(&self) -> Vec<Review> {
        self.store.reviews(None, true, 100).await.unwrap()
    }

    /// Whether both sides show the same in every table, and every sync says so.
    pub fn is_level(&self) -> bool {
        let is_equal = |(table, fields): &Table| {
            let sql = format!("SELECT {} FROM {table} ORDER BY 1, 2", fields.join(", "));
            self.left.psql(&sql) == self.right.psql(&sql)
        };
        self.tables.iter().all(|(table, _)| self.status(table).level) && self.tables.iter().all(is_equal)
    }

    pub async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        while !holds().await {
            if tokio::time::Instant::now() >= deadline {
                let shown: Vec<String> = self.tables.iter().map(|(table, _)| format!("{:#?}", self.status(table))).collect();
                panic!("waited too long until {what}\n{}", shown.join("\n"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn until_equal(&self) {
        self.until("both sides are equal", async || self.is_level()).await;
    }

    /// Both sides are found equal record by record.
    pub async fn verify(&self) {
        let systems: Vec<Arc<dyn Connector>> = self.systems().into_iter().map(|(_, connector)| connector).collect();
        for rules in &self.rules {
            let found = verify(&Arc::new(rules.clone()), &*self.store, &systems, &SystemClock).await.unwrap();
            assert!(found.is_equal(), "{found:?}");
        }
    }
}

/// Looks at the target again and again, while something is done, for what must never be seen there.
pub async fn watching<T>(database: &Database, never: &str, work: impl Future<Output = T>) -> T {
    let session = database.session().await;
    let looking = async {
        loop {
            let row = session.query_one(never, &[]).await.unwrap();
            let found: i64 = row.get(0);
            assert_eq!(found, 0, "seen at the target: {never}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        done = work => done,
        () = looking => unreachable!(),
    }
}
