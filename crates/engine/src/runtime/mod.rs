//! Starts, supervises and stops: one future that owns every task of a run. Dropping it is a kill; cancelling its token is
//! an orderly stop. Nothing here decides about records: see the stages.

pub(crate) mod airborne;
pub(crate) mod bounds;
mod carrying;
mod circles;
pub mod command;
pub(crate) mod commands;
pub(crate) mod core;
pub(crate) mod decisions;
pub(crate) mod desk;
mod ending;
pub(crate) mod jitter;
pub(crate) mod memory;
mod put_back;
pub(crate) mod reads;
pub(crate) mod referring;
pub(crate) mod rulings;
pub mod standstill;
pub mod status;

use crate::clock::Clock;
use crate::connector::{Connector, Limits};
use crate::error::Result;
use crate::link::ReviewId;
use crate::record::{SyncName, SystemName};
use crate::rules::SyncRules;
use crate::store::Store;
use command::Command;
use status::Status;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Everything a run needs.
pub struct Setup {
    /// The syncs.
    pub syncs: Vec<SyncRules>,
    /// The connected systems, by the names that the syncs use.
    pub systems: Vec<(SystemName, Arc<dyn Connector>)>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Limits and intervals.
    pub options: Options,
    /// Which syncs may begin their first load.
    pub approvals: Approvals,
    /// The numbers of review items, shared by everything that opens some in this store.
    pub reviews: ReviewNumbers,
}

/// Gives out the numbers of review items.
#[derive(Clone, Debug, Default)]
pub struct ReviewNumbers(Arc<Mutex<u64>>);

impl ReviewNumbers {
    /// The last number given out.
    pub(crate) fn lock(&self) -> MutexGuard<'_, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No number up to this one is given out again.
    pub fn go_on_behind(&self, last: u64) {
        let mut next = self.lock();
        *next = (*next).max(last.saturating_add(1));
    }

    /// The next number.
    pub fn next(&self) -> ReviewId {
        let mut next = self.lock();
        let id = ReviewId(*next);
        *next = next.saturating_add(1);
        id
    }
}

/// Which syncs may begin their first load. One that has begun needs no approval to go on.
#[derive(Clone, Debug)]
pub enum Approvals {
    /// All of them.
    All,
    /// These.
    Only(BTreeSet<SyncName>),
}

impl Approvals {
    /// Whether a sync may begin.
    pub fn includes(&self, sync: &SyncName) -> bool {
        match self {
            Approvals::All => true,
            Approvals::Only(names) => names.contains(sync),
        }
    }
}

/// Limits and intervals of a run. Every wait, queue and batch has its bound here or in the sync's rules.
#[derive(Clone, Debug)]
pub struct Options {
    /// Seed of the jitter between retries.
    pub jitter_seed: u64,
    /// Bounds of one step of a feed.
    pub capture: Limits,
    /// The most batches of one feed that are captured and not yet durable.
    pub capture_ahead: usize,
    /// Records in one chunk of a snapshot.
    pub chunk: usize,
    /// The most records waiting for identification before a snapshot pauses.
    pub max_unidentified: usize,
    /// The longest one call of `apply` may take before its outcome is unknown.
    pub apply_timeout: Duration,
    /// The longest a read, a find or a chunk may take.
    pub read_timeout: Duration,
    /// The wait before a lost system is tried again, doubled up to `reconnect_max`.
    pub reconnect_min: Duration,
    /// See above.
    pub reconnect_max: Duration,
    /// How often housekeeping looks for debts that are due and publishes the status.
    pub tick: Duration,
    /// How often the feeds' health is asked for.
    pub health_interval: Duration,
    /// How long a saturated target may hold back capture before its debts go to the store, counted from the last flight
    /// that came back within a tenth of it.
    pub saturation_patience: Duration,
    /// About the most memory for records that were lately at work, which then cost no look into the store.
    pub memory_bytes: usize,
    /// Stop when everything is level.
    pub once: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            jitter_seed: 0,
            capture: Limits { max_events: 2_000, max_bytes: 8 << 20, max_wait: Duration::from_millis(500) },
            capture_ahead: 2,
            chunk: 1_000,
            max_unidentified: 20_000,
            apply_timeout: Duration::from_secs(60),
            read_timeout: Duration::from_secs(60),
            reconnect_min: Duration::from_millis(200),
            reconnect_max: Duration::from_secs(30),
            tick: Duration::from_millis(100),
            health_interval: Duration::from_secs(5),
            saturation_patience: Duration::from_secs(2),
            memory_bytes: 16 << 20,
            once: false,
        }
    }
}

/// What the outside holds of a running engine.
#[derive(Clone)]
pub struct Handle {
    /// Requests.
    pub commands: mpsc::Sender<Command>,
    /// The status, renewed at every tick.
    pub status: watch::Receiver<Status>,
}

/// An engine that is ready to run.
pub struct Engine {
    core: core::Core,
}

/// Makes an engine. Nothing happens before [`Engine::run`] is awaited.
pub fn engine(setup: Setup) -> (Handle, Engine) {
    let (commands, requests) = mpsc::channel(64);
    let (publish, status) = watch::channel(Status::default());
    let core = core::Core::new(setup, requests, publish);
    (Handle { commands, status }, Engine { core })
}

impl Engine {
    /// Runs until the token is cancelled, until everything is level (`once`), or until the store fails. A lost system is
    /// no reason to return: it is tried again for ever and shown in the status.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        self.core.run(shutdown).await
    }
}
