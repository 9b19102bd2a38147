//! The stage of these stories: the example's configuration, compiled as `concord run` does, on an org and a database of
//! their own.

use crate::org::{Org, open_asked};
use crate::support::{LOAD_DEADLINE, Server, Side, wait_until, wait_within};
use concord_connectors::kinds::KINDS;
use concord_connectors::settings::AskedChanges;
use concord_engine::clock::{Clock, Moment, SystemClock};
use concord_engine::config::{self, ChangeDetection, Config, ConfigHash, SecretText};
use concord_engine::connector::Connector;
use concord_engine::error::Result;
use concord_engine::link::{Link, LinkId};
use concord_engine::plan::first_run::{FirstRun, first_run};
use concord_engine::plan::{self, MemberFacts, Referred, Subject};
use concord_engine::record::SystemName;
use concord_engine::review::Review;
use concord_engine::rules::SyncRules;
use concord_engine::runtime::status::Status;
use concord_engine::runtime::{Approvals, Handle, Options, ReviewNumbers, Setup, engine};
use concord_engine::store::Store;
use concord_engine::store::sqlite::{SqliteStore, StoreOptions};
use concord_simulators::salesforce::Limit;
use serde_json::{Map, Value as Json, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long the org may still be at a call that was not answered.
const SETTLE_MS: u64 = 500;
const CONTACTS: &str = "CREATE TABLE accounts (id serial PRIMARY KEY, sf_id varchar(18) UNIQUE, account_name text NOT NULL,
        parent_id integer REFERENCES accounts DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE contacts (id serial PRIMARY KEY, sf_id varchar(18) UNIQUE, last_name text NOT NULL, first_name text, email text,
        account_id integer REFERENCES accounts DEFERRABLE INITIALLY DEFERRED);
    SELECT setval('accounts_id_seq', 1000);";
const TABLE: &str = "CREATE TABLE accounts (id serial PRIMARY KEY, sf_id varchar(18) UNIQUE, account_name text NOT NULL,
    industry_type text, annual_revenue decimal(18,2), last_modified timestamptz, last_sync timestamptz);";

/// The machine's clock, moved on.
struct MovedClock(Arc<AtomicI64>);

impl Clock for MovedClock {
    fn now(&self) -> Moment {
        Moment(SystemClock.now().micros() + self.0.load(Ordering::SeqCst))
    }
}

pub struct Stage {
    pub org: Org,
    server: Server,
    store: Arc<dyn Store>,
    folder: tempfile::TempDir,
    example: &'static str,
    options: Json,
    match_on: Option<&'static str>,
    changes: AskedChanges,
    ahead_micros: Arc<AtomicI64>,
    running: Option<(Handle, CancellationToken, JoinSet<Result<()>>)>,
}

impl Stage {
    /// An org with these rules, and an empty table.
    pub async fn new(rules: Json) -> Stage {
        Stage::of("salesforce-accounts.json", TABLE, rules).await
    }

    /// An org with these rules, and empty tables of accounts and of contacts that name them.
    pub async fn contacts(rules: Json) -> Stage {
        Stage::of("salesforce-contacts.json", CONTACTS, rules).await
    }

    async fn of(example: &'static str, tables: &str, rules: Json) -> Stage {
        let options = concord_simulators::salesforce::Options {
            rules: serde_json::from_value(rules).unwrap(),
            ..concord_simulators::salesforce::Options::default()
        };
        let org = Org::with(options).await;
        let server = Server::make("erp").await;
        server.run(tables).await;
        let folder = tempfile::tempdir().unwrap();
        let store = open_store(&folder);
        Stage {
            org,
            server,
            store,
            folder,
            example,
            options: json!({"settle_ms": SETTLE_MS}),
            match_on: None,
            changes: AskedChanges::default(),
            ahead_micros: Arc::default(),
            running: None,
        }
    }

    /// Time passes, for the org and for the engine.
    pub fn minutes_pass(&self, minutes: i64) {
        self.org.simulator.org.clock.advance(minutes * 60_000);
        self.ahead_micros.fetch_add(minutes * 60_000_000, Ordering::SeqCst);
    }

    /// The engine's clock is put ahead, or back, of the org's.
    pub fn clock_steps(&self, minutes: i64) {
        self.ahead_micros.fetch_add(minutes * 60_000_000, Ordering::SeqCst);
    }

    /// How the engine does.
    pub fn status(&self) -> Status {
        let (handle, _, _) = self.running.as_ref().expect("the engine runs");
        handle.status.borrow().clone()
    }

    /// Reaches the org with these options besides the usual ones.
    pub fn with_options(mut self, options: Json) -> Stage {
        for (key, value) in options.as_object().unwrap() {
            self.options[key] = value.clone();
        }
        self
    }

    /// Records of both sides with the same value of this field are the same.
    pub fn matching(self, field: &'static str) -> Stage {
        Stage { match_on: Some(field), ..self }
    }

    /// The org is asked for what has changed, this often, though it would tell.
    pub fn polled(self, every: Duration) -> Stage {
        Stage { changes: AskedChanges { how: ChangeDetection::Polling, every: Some(every) }, ..self }
    }

    /// It is looked behind the events this often.
    pub fn looking(self, every: Duration) -> Stage {
        Stage { changes: AskedChanges { how: ChangeDetection::Auto, every: Some(every) }, ..self }
    }

    /// The org delivers so many events within a day, and no more.
    pub fn delivered(self, events: u64) -> Stage {
        self.org.simulator.org.state().limits.set_max(Limit::DailyDeliveredPlatformEvents, events);
        self.org.simulator.org.wake_streams();
        self
    }

    /// No change events come of accounts: they are asked for, this often.
    pub fn without_events(self, every: Duration) -> Stage {
        let silent = json!({"objects": [{"name": "Account", "changeEvents": false}]});
        self.org.simulator.org.add_schema(&serde_json::from_value(silent).unwrap()).unwrap();
        Stage { changes: AskedChanges { how: ChangeDetection::Auto, every: Some(every) }, ..self }
    }

    pub async fn started(rules: Json) -> Stage {
        Stage::new(rules).await.start().await
    }

    pub async fn start(self) -> Stage {
        let stage = self.begin().await;
        stage.wait_for_stage("live").await;
        stage
    }

    /// Starts, and does not wait for the first load.
    pub async fn begin(mut self) -> Stage {
        let systems = self.systems();
        let syncs = self.rules(&systems).await;
        let mut options = Options {
            tick: Duration::from_millis(20),
            reconnect_min: Duration::from_millis(20),
            reconnect_max: Duration::from_millis(500),
            ..Options::default()
        };
        options.capture.max_wait = Duration::from_millis(30);
        let setup = Setup {
            systems,
            syncs,
            store: Arc::clone(&self.store),
            clock: Arc::new(MovedClock(Arc::clone(&self.ahead_micros))),
            options,
            approvals: Approvals::All,
            reviews: ReviewNumbers::default(),
        };
        let (handle, engine) = engine(setup);
        let stop = CancellationToken::new();
        let stopper = stop.clone();
        let mut task = JoinSet::new();
        task.spawn(async move { engine.run(stopper).await });
        self.running = Some((handle, stop, task));
        self
    }

    fn systems(&self) -> Vec<(SystemName, Arc<dyn Connector>)> {
        let secret = self.org.secret("client_secret", "simulated-secret");
        let connection = self.org.connection(json!({"client_secret": secret}), self.options.clone());
        let crm = open_asked(&connection, &|_: &str| Ok(None::<SecretText>), None, self.changes).unwrap();
        vec![("crm".into(), Arc::new(crm)), ("erp".into(), self.server.open())]
    }

    /// What the first run would do, as `concord plan` says it.
    pub async fn planned(&self) -> FirstRun {
        let systems = self.systems();
        let rules = self.rules(&systems).await.remove(0);
        let connectors: Vec<Arc<dyn Connector>> = systems.into_iter().map(|(_, connector)| connector).collect();
        first_run(&rules, &ConfigHash::from("a".to_owned()), &connectors, None).await.unwrap()
    }

    /// The example's rules, as `concord run` compiles them.
    async fn rules(&self, systems: &[(SystemName, Arc<dyn Connector>)]) -> Vec<SyncRules> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(self.example);
        let loaded = config::load(&[path], KINDS);
        let mut config: Config = loaded.config.unwrap_or_else(|| panic!("{:#?}", loaded.diagnostics));
        for sync in config.syncs.iter_mut().filter(|_| self.match_on.is_some()) {
            sync.match_on = serde_json::from_value(json!([{"field": self.match_on}])).unwrap();
        }
        let mut facts = Vec::new();
        let mut referred = Vec::new();
        for sync in &config.syncs {
            let (source, target) = sync.pair().unwrap();
            let mut of_sync = Vec::new();
            for ((_, connector), object) in systems.iter().zip([source.object_name(), target.object_name()]) {
                let schema = connector.schema(&object).await.unwrap();
                let count = connector.count(&schema.object).await.unwrap();
                of_sync.push(MemberFacts { schema, capabilities: connector.capabilities().clone(), count: Some(count) });
            }
            let members = [&source.system, &target.system].into_iter().zip(&of_sync);
            let members = members.map(|(system, facts)| (system.clone(), facts.schema.clone())).collect();
            let id = self.store.sync_id(sync.name.as_str()).await.unwrap();
            referred.push(Referred { name: sync.name.clone(), id, members });
            facts.push(of_sync);
        }
        let mut all = Vec::new();
        for (place, (sync, facts)) in config.syncs.iter().zip(&facts).enumerate() {
            let (pointer, id) = (format!("/syncs/{place}"), referred[place].id);
            let facts = (&facts[0], &facts[1]);
            let subject = Subject { sync, pointer: &pointer, places: &loaded.places, facts, id, referred: &referred };
            let compiled = plan::compile(&subject);
            let mut rules = compiled.rules.unwrap_or_else(|| panic!("{:#?}", compiled.findings));
            rules.layout = plan::layout_of(&*self.store, &rules).await.unwrap();
            rules.retry.initial_delay = Duration::from_millis(50);
            rules.retry.max_delay = Duration::from_secs(1);
            all.push(rules);
        }
        all
    }

    /// Stops in good order.
    pub async fn stop(mut self) {
        let (_, stop, mut task) = self.running.take().expect("the engine runs");
        stop.cancel();
        task.join_next().await.unwrap().unwrap().unwrap();
    }

    /// As a kill does: the future is dropped where it stands, and the store opened anew.
    pub async fn crash(mut self) -> Stage {
        let (_, _, mut task) = self.running.take().expect("the engine runs");
        task.shutdown().await;
        let nothing: Arc<dyn Store> = Arc::new(SqliteStore::in_memory(&StoreOptions::default()).unwrap());
        drop(std::mem::replace(&mut self.store, nothing));
        // A job of a killed engine holds the store until it has been dropped.
        let mut store = None;
        wait_until("the store", || {
            store = SqliteStore::open(self.folder.path(), &StoreOptions::default()).ok();
            std::future::ready(store.is_some())
        })
        .await;
        self.store = Arc::new(store.unwrap());
        self
    }

    async fn wait_for_stage(&self, begin: &str) {
        let (handle, _, _) = self.running.as_ref().expect("the engine runs");
        // The first load comes before, however large it is.
        wait_within(LOAD_DEADLINE, &format!("stage {begin}"), || async {
            handle.status.borrow().syncs.first().is_some_and(|sync| sync.stage.starts_with(begin))
        })
        .await;
    }

    /// Something a user of the database does.
    pub async fn row(&self, sql: &str) {
        self.server.run(sql).await;
    }

    /// What a query shows.
    pub async fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        let rows = self.server.rows(sql).await;
        rows.into_iter().map(|row| row.into_iter().map(Option::unwrap_or_default).collect()).collect()
    }

    /// The one value that a query shows.
    pub async fn value(&self, sql: &str) -> String {
        self.server.rows(sql).await[0][0].clone().unwrap_or_default()
    }

    /// Waits until a query shows this one value.
    pub async fn shows(&self, sql: &str, value: &str) {
        wait_until(&format!("{sql} shows {value}"), || async {
            self.server.rows(sql).await.first().is_some_and(|row| row[0].as_deref() == Some(value))
        })
        .await;
    }

    /// Waits until everything is carried over, much as it may be, and a query then shows this one value.
    pub async fn is_loaded(&self, sql: &str, value: &str) {
        wait_within(LOAD_DEADLINE, &format!("a load until {sql} shows {value}"), || async {
            self.status().syncs.first().is_some_and(|sync| sync.level) && self.value(sql).await == value
        })
        .await;
    }

    /// Waits until a query shows these texts, one a row.
    pub async fn wait_for_rows(&self, sql: &str, rows: &[&str]) {
        wait_until(&format!("{sql} shows {rows:?}"), || async { self.rows(sql).await.concat() == rows }).await;
    }

    pub async fn wait(&self, what: &str, holds: impl Fn() -> bool) {
        wait_until(what, || async { holds() }).await;
    }

    /// Every account that is not in the bin.
    pub fn accounts(&self) -> Vec<Map<String, Json>> {
        self.org.records("Account")
    }

    /// Every account, the bin's, too.
    pub fn all_accounts(&self) -> Vec<Map<String, Json>> {
        serde_json::from_str(&self.org.simulator.org.records("Account", true).unwrap()).unwrap()
    }

    pub fn account(&self, id: &str) -> Map<String, Json> {
        self.accounts().into_iter().find(|one| one["Id"] == json!(id)).unwrap_or_default()
    }

    pub async fn account_shows(&self, id: &str, field: &str, value: Json) {
        self.wait(&format!("{field} of {id} shows {value}"), || self.account(id).get(field) == Some(&value)).await;
    }

    /// How far the first load of the org has got.
    pub fn load_of_the_org(&self) -> String {
        self.status().syncs.first().map(|sync| sync.members[0].load.clone()).unwrap_or_default()
    }

    /// What the store holds of each record.
    pub async fn links(&self) -> Vec<Link> {
        let id = self.store.sync_id(&self.status().syncs[0].name).await.unwrap();
        self.store.scan_links(id, LinkId(0), 10_000).await.unwrap()
    }

    pub async fn reviews(&self) -> Vec<Review> {
        self.store.reviews(None, true, 1_000).await.unwrap()
    }

    /// How many records of a sync wait for records that they refer to.
    pub async fn waiting(&self, sync: &str) -> u64 {
        let id = self.store.sync_id(sync).await.unwrap();
        self.store.counts(id).await.unwrap().waiting
    }

    pub async fn wait_for_reviews(&self, count: usize) {
        wait_until(&format!("{count} reviews"), || async { self.reviews().await.len() == count }).await;
    }

    pub async fn wait_for_review(&self, code: &str) {
        wait_until(&format!("a review of {code}"), || async { self.reviews().await.iter().any(|one| one.code == code) }).await;
    }

    /// Waits until an edit on each side has come through to the other: what came before it has, too.
    pub async fn passes_a_beat(&self) {
        let made = self.org.create("Account", json!({"Name": "beat"}));
        self.shows(&format!("SELECT count(*) FROM accounts WHERE sf_id = '{made}'"), "1").await;
        self.row(&format!("UPDATE accounts SET account_name = 'beat back' WHERE sf_id = '{made}'")).await;
        self.account_shows(&made, "Name", json!("beat back")).await;
        self.org.delete("Account", &made);
        self.shows(&format!("SELECT count(*) FROM accounts WHERE sf_id = '{made}'"), "0").await;
    }
}

fn open_store(folder: &tempfile::TempDir) -> Arc<dyn Store> {
    Arc::new(SqliteStore::open(folder.path(), &StoreOptions::default()).unwrap())
}
