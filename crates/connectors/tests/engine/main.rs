//! The real engine on real connectors, without the binary around it: the shortest way to see a sync run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected fails"
)]

#[path = "../contract/servers/postgres.rs"]
mod server;

use concord_connectors::postgres;
use concord_connectors::sqlite::{self, SqliteSettings};
use concord_engine::clock::SystemClock;
use concord_engine::connector::Connector;
use concord_engine::link::SyncId;
use concord_engine::map::Mapping;
use concord_engine::record::{FieldName, SystemName};
use concord_engine::rules::*;
use concord_engine::runtime::{Approvals, Options, Setup, engine};
use concord_engine::schema::Selection;
use concord_engine::store::Store;
use concord_engine::store::sqlite::{SqliteStore, StoreOptions};
use concord_engine::transform::MatchKind;
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// One side of a pair, as its user sees it.
#[async_trait::async_trait]
trait Side: Send + Sync {
    fn open(&self) -> Arc<dyn Connector>;
    async fn run(&self, sql: &str);
    async fn contents(&self) -> Vec<(String, String)>;
}

struct File(std::path::PathBuf);

impl File {
    fn connection(&self) -> Connection {
        let connection = Connection::open(&self.0).unwrap();
        connection.busy_timeout(Duration::from_secs(5)).unwrap();
        connection
    }
}

#[async_trait::async_trait]
impl Side for File {
    fn open(&self) -> Arc<dyn Connector> {
        Arc::new(sqlite::open(SqliteSettings::new(&self.0)).unwrap())
    }

    async fn run(&self, sql: &str) {
        self.connection().execute_batch(sql).unwrap();
    }

    async fn contents(&self) -> Vec<(String, String)> {
        let connection = self.connection();
        let mut statement = connection.prepare("SELECT email, name FROM accounts ORDER BY email").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(Result::unwrap).collect()
    }
}

struct Base {
    database: server::Database,
    session: tokio_postgres::Client,
    name: &'static str,
}

#[async_trait::async_trait]
impl Side for Base {
    fn open(&self) -> Arc<dyn Connector> {
        let mut config = postgres::Config::new("127.0.0.1", self.database.name.clone(), "postgres");
        config.port = self.database.server.port();
        config.installation = format!("i{}", self.database.name);
        config.connection = self.name.into();
        Arc::new(postgres::open(config).unwrap())
    }

    async fn run(&self, sql: &str) {
        self.session.batch_execute(sql).await.unwrap();
    }

    async fn contents(&self) -> Vec<(String, String)> {
        let rows = self.session.query("SELECT email, name FROM accounts ORDER BY email COLLATE \"C\"", &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }
}

const TABLE: &str = "CREATE TABLE accounts (id INTEGER PRIMARY KEY, email TEXT UNIQUE, name TEXT);";

async fn files(folder: &Path) -> (File, File) {
    let (left, right) = (File(folder.join("left.db")), File(folder.join("right.db")));
    for file in [&left, &right] {
        Connection::open(&file.0).unwrap().execute_batch("PRAGMA journal_mode = WAL;").unwrap();
        file.run(TABLE).await;
    }
    (left, right)
}

async fn bases() -> (Base, Base) {
    let server = server::Server::shared();
    let mut sides = Vec::new();
    for name in ["left", "right"] {
        let database = server.database();
        let session = database.session().await;
        let side = Base { database, session, name };
        side.run(&TABLE.replace("INTEGER PRIMARY KEY", "serial PRIMARY KEY")).await;
        sides.push(side);
    }
    let right = sides.pop().unwrap();
    (sides.pop().unwrap(), right)
}

async fn rules(systems: &[(SystemName, Arc<dyn Connector>)]) -> SyncRules {
    let mut members = Vec::new();
    for (system, connector) in systems {
        let schema = connector.schema(&"accounts".into()).await.unwrap();
        members.push(MemberRules {
            system: system.clone(),
            object: schema.object.clone(),
            role: None,
            selection: Selection { object: schema.object.clone(), fields: vec!["email".into(), "name".into()] },
            schema,
            outward: true,
            inward: true,
            edit_time_field: None,
            soft_delete_field: None,
        });
    }
    let field = |index: usize, name: &str| FieldRules {
        name: name.to_owned(),
        group: index,
        owner: None,
        members: members
            .iter()
            .map(|member| {
                let field = member.schema.field(name).unwrap();
                Some(MemberField {
                    name: FieldName::from(name),
                    ty: field.ty.clone(),
                    native_type: field.native_type.clone(),
                    mapping: Mapping::identity(),
                    outward: true,
                    inward: true,
                    creatable: true,
                    updatable: true,
                    write_back: false,
                    lossy: false,
                })
            })
            .collect(),
    };
    let fields = vec![field(0, "email"), field(1, "name")];
    let group =
        |index: usize, name: &str| GroupRules { name: name.to_owned(), fields: vec![index], policy: Policy::LastWriteWins };
    SyncRules {
        id: SyncId(1),
        name: "accounts".into(),
        groups: vec![group(0, "email"), group(1, "name")],
        fields,
        members,
        layout: 1,
        match_on: vec![MatchRule { field: 0, normaliser: MatchKind::Exact }],
        validation: Vec::new(),
        deletes: DeleteRules { on_delete: OnDelete::Propagate, against_edit: DeleteAgainstEdit::Manual },
        initial: InitialRules { strategy: InitialStrategy::FullLoad, authority: Authority::Member(0) },
        loops: LoopRules { enabled: true, window: Duration::from_secs(60), max: 5 },
        guard: GuardRules { max_deletes: 1_000, max_deletes_percent: 50.0, window: Duration::from_secs(60) },
        retry: RetryRules {
            max_attempts: 5,
            initial_delay: Duration::from_secs(1),
            backoff_factor: 2.0,
            max_delay: Duration::from_secs(300),
        },
        fallback: Fallback::Review,
        target_edits: TargetEdits::Overwrite,
        batch_size: 500,
        parallelism: 4,
        estimate_wait: Duration::from_secs(2),
        tombstones: Duration::from_secs(30 * 86_400),
    }
}

async fn wait_until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "waited too long for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The name that a side shows for an address.
async fn name(side: &dyn Side, email: &str) -> Option<String> {
    side.contents().await.into_iter().find(|(other, _)| other == email).map(|(_, name)| name)
}

async fn keeps_equal(folder: &Path, left: &dyn Side, right: &dyn Side) {
    left.run("INSERT INTO accounts (id, email, name) VALUES (101, 'ann@x.org', 'Ann'), (102, 'bob@x.org', 'Bob')").await;
    right.run("INSERT INTO accounts (id, email, name) VALUES (107, 'bob@x.org', 'Robert'), (108, 'cyd@x.org', 'Cyd')").await;
    let systems = vec![(SystemName::from("left"), left.open()), (SystemName::from("right"), right.open())];
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&folder.join("store"), &StoreOptions::default()).unwrap());
    let setup = Setup {
        syncs: vec![rules(&systems).await],
        systems,
        store,
        clock: Arc::new(SystemClock),
        options: Options::default(),
        approvals: Approvals::All,
    };
    let (_handle, engine) = engine(setup);
    let stop = CancellationToken::new();
    let stopper = stop.clone();
    let mut running = tokio::task::JoinSet::new();
    running.spawn(async move { engine.run(stopper).await });

    wait_until("the first load", || async {
        let (on_left, on_right) = (left.contents().await, right.contents().await);
        on_left == on_right && on_left.len() == 3 && on_left[1].1 == "Bob"
    })
    .await;
    left.run("UPDATE accounts SET name = 'Anna' WHERE email = 'ann@x.org'").await;
    wait_until("an edit to the right", || async { name(right, "ann@x.org").await.as_deref() == Some("Anna") }).await;
    right.run("UPDATE accounts SET name = 'Cydney' WHERE email = 'cyd@x.org'").await;
    wait_until("an edit to the left", || async { name(left, "cyd@x.org").await.as_deref() == Some("Cydney") }).await;
    right.run("DELETE FROM accounts WHERE email = 'bob@x.org'").await;
    wait_until("a delete to the left", || async { left.contents().await.len() == 2 }).await;
    left.run("INSERT INTO accounts (email, name) VALUES ('dee@x.org', 'Dee')").await;
    wait_until("an insert to the right", || async { right.contents().await.len() == 3 }).await;
    assert_eq!(left.contents().await, right.contents().await);

    stop.cancel();
    running.join_next().await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn two_files_are_matched_loaded_and_kept_equal_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let (left, right) = files(folder.path()).await;
    keeps_equal(folder.path(), &left, &right).await;
}

#[tokio::test]
async fn two_servers_are_matched_loaded_and_kept_equal_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let (left, right) = bases().await;
    keeps_equal(folder.path(), &left, &right).await;
}

#[tokio::test]
async fn a_file_and_a_server_are_matched_loaded_and_kept_equal_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let (left, _) = files(folder.path()).await;
    let (_, right) = bases().await;
    keeps_equal(folder.path(), &left, &right).await;
}
