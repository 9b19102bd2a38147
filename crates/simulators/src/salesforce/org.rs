//! The org: its settings, its clock, its faults, its journal and its state; how a request gets at them, and how a
//! transaction becomes events.

use super::auth::{App, Auth};
use super::dml::Writer;
use super::events::Author;
use super::ids::Id;
use super::rules::{OnDuplicates, RuleFile, Rules};
use super::schema::{Schema, SchemaFile};
use super::state::{Data, State};
use super::store::Transaction;
use super::values::read::Given;
use crate::chance::Chance;
use crate::clock::Clock;
use crate::faults::{Action, Faults, Happening};
use crate::journal::Journal;
use crate::salesforce::errors::RecordError;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How an org is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// The host of the org itself.
    pub my_domain: String,
    /// API versions, oldest first.
    pub versions: Vec<String>,
    pub seed: u64,
    pub schema: SchemaFile,
    pub rules: RuleFile,
    pub apps: Vec<App>,
    /// Usernames of active users, besides the one that edits in the browser.
    pub users: Vec<String>,
    /// Whether a stream's head is sent with its first message only, and not when it is opened.
    pub late_heads: bool,
}

/// The user of integrations.
pub const INTEGRATION_USER: &str = "integration@acme.example";
/// The user who edits in the browser.
pub const PERSON: &str = "person@acme.example";

impl Default for Options {
    fn default() -> Self {
        Self {
            my_domain: "acme.my.salesforce.com".to_string(),
            versions: (58..=67).map(|number| format!("{number}.0")).collect(),
            seed: 1,
            schema: SchemaFile::default(),
            rules: RuleFile::default(),
            apps: vec![App {
                client_id: "3MVG9simulated.app".to_string(),
                client_secret: "simulated-secret".to_string(),
                username: INTEGRATION_USER.to_string(),
                public_key: None,
                rotate: true,
                unapproved: false,
                callbacks: Vec::new(),
            }],
            users: vec![INTEGRATION_USER.to_string()],
            late_heads: false,
        }
    }
}

/// The org.
#[derive(Debug)]
pub struct Org {
    pub options: Options,
    pub id: Id,
    pub clock: Clock,
    pub faults: Faults,
    pub journal: Journal,
    /// Rises with every published event and whenever streams should look again.
    pub published: watch::Sender<u64>,
    pub tasks: TaskTracker,
    pub shutdown: CancellationToken,
    state: Mutex<State>,
}

impl Org {
    /// A new org with its users and nothing else.
    pub fn new(options: Options, clock: Clock) -> Result<Self, String> {
        let mut schema = Schema::standard()?;
        schema.load(&options.schema)?;
        let mut rules = Rules::default();
        rules.add(options.rules.clone())?;
        let state = State {
            data: Data { schema, store: Default::default() },
            rules,
            events: Default::default(),
            auth: Auth::new(options.apps.clone()),
            limits: Default::default(),
            cursors: Default::default(),
            jobs: Default::default(),
            streaming: Default::default(),
            managed: Default::default(),
            chance: Chance::new(options.seed),
            bin_looked_at_ms: 0,
        };
        let org = Self {
            id: Id::new("00D", options.seed.wrapping_mul(7_919) + 1),
            faults: Faults::new(options.seed),
            journal: Journal::default(),
            published: watch::Sender::new(0),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            state: Mutex::new(state),
            options,
            clock,
        };
        org.create_users()?;
        Ok(org)
    }

    /// The state, locked.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One transaction: what the step did is written and told, all of it.
    pub fn write<T>(
        &self,
        state: &mut State,
        author: &Author,
        on_duplicates: &OnDuplicates,
        step: impl FnOnce(&mut Writer<'_>) -> T,
    ) -> T {
        let (result, transaction) = self.write_open(state, author, on_duplicates, Transaction::default(), step);
        self.close(state, author, transaction);
        result
    }

    /// A step of a transaction that stays open.
    pub fn write_open<T>(
        &self,
        state: &mut State,
        author: &Author,
        on_duplicates: &OnDuplicates,
        transaction: Transaction,
        step: impl FnOnce(&mut Writer<'_>) -> T,
    ) -> (T, Transaction) {
        let faults = |object: &str, id: Option<Id>| self.record_fault(object, id);
        let mut writer = Writer::new(&mut state.data, &state.rules, author, self.clock.now_ms(), &faults);
        writer.on_duplicates = on_duplicates.clone();
        writer.resume(transaction);
        let result = step(&mut writer);
        (result, writer.into_transaction())
    }

    /// Ends a transaction: tells what it did.
    pub fn close(&self, state: &mut State, author: &Author, transaction: Transaction) {
        let changes = transaction.net();
        let State { data, events, chance, .. } = state;
        events.publish(&data.schema, author, &changes, self.clock.now_ms(), chance, &self.faults);
        self.wake_streams();
    }

    /// Makes every stream look for something to say.
    pub fn wake_streams(&self) {
        self.published.send_modify(|version| *version = version.wrapping_add(1));
    }

    fn record_fault(&self, object: &str, id: Option<Id>) -> Option<RecordError> {
        let text = id.map(|id| id.to_string());
        match self.faults.befalls(&Happening::Record { object, id: text.as_deref() })? {
            Action::LockRow => {
                let records = text.map_or_else(|| "1 records".to_string(), |id| format!("this record or 1 records: {id}"));
                Some(RecordError::new("UNABLE_TO_LOCK_ROW", format!("unable to obtain exclusive access to {records}")))
            }
            Action::RecordError { code, message } => Some(RecordError::new(&code, message)),
            _ => None,
        }
    }

    fn create_users(&self) -> Result<(), String> {
        let state = &mut *self.state();
        let object = state.data.schema.object("User").ok_or("the schema has no users")?.clone();
        let names: Vec<String> = std::iter::once(PERSON.to_string()).chain(self.options.users.clone()).collect();
        for name in names {
            let first = name.split('@').next().unwrap_or("user");
            let fields = [("Username", name.as_str()), ("LastName", first), ("Email", name.as_str()), ("Alias", first)];
            let text = |text: &str| Given::Cell(text.chars().take(80).collect());
            let mut fields: Vec<(String, Given)> = fields.iter().map(|(field, value)| (field.to_string(), text(value))).collect();
            if let Some((_, alias)) = fields.last_mut() {
                *alias = Given::Cell(first.chars().take(8).collect());
            }
            let author = Author { user: Id::new("005", 1), origin: String::new() };
            let made = self.write(state, &author, &OnDuplicates::saved(), |writer| writer.insert(&object, &fields));
            made.map_err(|errors| format!("cannot create {name}: {errors:?}"))?;
        }
        Ok(())
    }
}
