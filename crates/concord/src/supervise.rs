//! Runs the engine until it is told to stop, with everything around it: commands, metrics, ageing of what is kept. When one of
//! the syncs that wait can run, the engine is stopped in good order and begins anew with all of them. What is wrong with one
//! of them ends none of the others. Every task lives inside the one future.

use crate::ageing::{self, Retention};
use crate::answers::description;
use crate::answers::{Answerer, Failed, Release, Running, queue};
use crate::approval;
use crate::control::{self, Ask, Door};
use crate::kept_log;
use crate::leftovers;
use crate::metrics;
use crate::patience;
use crate::progress;
use crate::release;
use crate::setup::{self, Prepared, Systems, Written};
use crate::waiting::{self, Again, Idle};
use concord_engine::clock::SystemClock;
use concord_engine::connector::Connector;
use concord_engine::error::{Code, Error, Result};
use concord_engine::mirror::{Mode, fleet};
use concord_engine::record::{SyncName, SystemName};
use concord_engine::runtime::status::{FeedStatus, Status, SyncStatus};
use concord_engine::runtime::{Handle, Options, ReviewNumbers, Setup};
use concord_engine::store::Store;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// How often is looked for feeds that belong to no sync.
const LEFTOVERS_INTERVAL: Duration = Duration::from_secs(60);
/// How often the status is passed on to whoever watches.
const STATUS_INTERVAL: Duration = Duration::from_millis(200);

/// What a run is made of.
pub struct Supervision {
    /// The configuration.
    pub written: Written,
    /// The store, locked for this process.
    pub store: Arc<dyn Store>,
    /// Its folder.
    pub folder: PathBuf,
    /// The syncs, as far as they are proven.
    pub prepared: Prepared,
    /// Whether every first run is approved beforehand.
    pub approve_all: bool,
    /// The approved plan.
    pub plan: Option<String>,
    /// Stop when everything is level.
    pub once: bool,
    /// How long systems that cannot be reached are waited for then.
    pub patience: Duration,
    /// The control socket.
    pub door: Option<Door>,
    /// The port for metrics.
    pub metrics: Option<TcpListener>,
    /// How long ledger rows and closed review items are kept.
    pub retention: Retention,
    /// Whether it is shown how far first reads have got.
    pub shows_progress: bool,
    /// How long a sync is let alone whose approved plan could not be looked at anew.
    pub let_alone: Duration,
}

/// Runs until the token is cancelled, or everything is level and that was asked for.
pub async fn run(mut supervision: Supervision, shutdown: CancellationToken) -> Result<Status> {
    let store = Arc::clone(&supervision.store);
    let idle = Answerer {
        syncs: Arc::new(description::load(&*store).await?),
        store: Arc::clone(&store),
        folder: supervision.folder.clone(),
        running: None,
        clock: Arc::new(SystemClock),
    };
    let (answerers, answerer) = watch::channel(idle);
    let (statuses, status) = watch::channel(Status::default());
    let around = shutdown.child_token();
    let control = serve_control(supervision.door.take(), answerer, around.clone());
    let metrics = serve_metrics(supervision.metrics.take(), answerers.subscribe(), around.clone());
    let ageing = ageing::age(Arc::clone(&store), supervision.retention.clone(), around.clone());
    let shown = show_progress(supervision.shows_progress, statuses.subscribe(), supervision.prepared.systems.clone());
    let given_up = given_up(supervision.once.then_some(supervision.patience), statuses.subscribe());
    let engines = async {
        let engines = run_engines(supervision, &answerers, &statuses, &shutdown);
        tokio::pin!(engines);
        let result = tokio::select! {
            result = &mut engines => result,
            never = shown => never,
            error = given_up => {
                // What is under way is brought to its end.
                shutdown.cancel();
                engines.await.and(Err(error))
            }
        };
        around.cancel();
        result
    };
    let (result, (), (), ()) = tokio::join!(engines, control, metrics, ageing);
    result.map(|()| status.borrow().clone())
}

/// Shows how far first reads have got, if that is wanted. Never ends.
async fn show_progress<T>(is_wanted: bool, status: watch::Receiver<Status>, systems: Vec<(SystemName, Arc<dyn Connector>)>) -> T {
    if is_wanted {
        progress::show(status, systems).await;
    }
    std::future::pending().await
}

/// Why nothing is waited for any longer; never answers where nobody is in a hurry.
async fn given_up(patience: Option<Duration>, status: watch::Receiver<Status>) -> Error {
    match patience {
        Some(longest) => patience::exhausted(status, longest).await,
        None => std::future::pending().await,
    }
}

async fn serve_control(door: Option<Door>, answerer: watch::Receiver<Answerer>, shutdown: CancellationToken) {
    let Some(door) = door else { return };
    let answer = move |ask: Ask| {
        let answerer = answerer.borrow().clone();
        async move { answerer.answer(ask).await }
    };
    control::serve(door, answer, shutdown).await;
}

async fn serve_metrics(listener: Option<TcpListener>, answerer: watch::Receiver<Answerer>, shutdown: CancellationToken) {
    if let Some(listener) = listener {
        metrics::serve(listener, answerer, shutdown).await;
    }
}

/// Why one engine's life ended.
enum Ended {
    /// It was told to, or everything is level.
    Done,
    /// More syncs can run now.
    MoreToRun(Prepared),
    /// Some systems are to be released.
    Release(Release),
}

async fn run_engines(
    mut supervision: Supervision,
    answerers: &watch::Sender<Answerer>,
    statuses: &watch::Sender<Status>,
    shutdown: &CancellationToken,
) -> Result<()> {
    let mut held = Vec::new();
    let mut again = Again::new(supervision.let_alone);
    loop {
        let prepared = std::mem::take(&mut supervision.prepared);
        match run_engine(&supervision, prepared, &mut held, &mut again, answerers, statuses, shutdown).await? {
            Ended::Done => return Ok(()),
            Ended::MoreToRun(prepared) => supervision.prepared = prepared,
            Ended::Release(release) => {
                let prepared = tokio::select! {
                    prepared = let_go(&mut supervision, release) => prepared?,
                    // Systems that do not answer keep nobody: what is left of it is asked for again.
                    () = shutdown.cancelled() => return Ok(()),
                };
                supervision.prepared = prepared;
                let syncs = &supervision.written.config.syncs;
                held.retain(|(name, _)| syncs.iter().any(|sync| sync.name.as_str() == name));
                if supervision.written.config.syncs.is_empty() {
                    tracing::info!("every sync is released: nothing is left to run");
                    return Ok(());
                }
            }
        }
    }
}

/// Removes what was made in the systems asked for, and forgets the syncs that need them. What is left is proven anew.
async fn let_go(supervision: &mut Supervision, asked: Release) -> Result<Prepared> {
    let folder = supervision.folder.clone();
    let store = Arc::clone(&supervision.store);
    let systems = setup::open_each(&supervision.written.config, store.clone(), &folder, setup::Keeping::Renewed).await?;
    let mut released = release::release(&supervision.written, &*store, &systems.open, &asked.systems, asked.leftovers).await;
    if let Ok(released) = &mut released {
        let closed = systems.closed.iter().filter(|(name, _)| asked.systems.contains(name));
        released.failed.extend(closed.map(|(name, error)| Failed {
            system: name.to_string(),
            code: error.code,
            message: error.message.clone(),
        }));
    }
    supervision.written.config.syncs.retain(|sync| !sync.systems().iter().any(|system| asked.systems.contains(system)));
    // Whoever asked may have gone; what was asked is done all the same.
    let _ = asked.answer.send(released);
    setup::prepare(&supervision.written, &*store, &systems).await
}

async fn run_engine(
    supervision: &Supervision,
    mut prepared: Prepared,
    held: &mut Vec<(String, Error)>,
    again: &mut Again,
    answerers: &watch::Sender<Answerer>,
    statuses: &watch::Sender<Status>,
    shutdown: &CancellationToken,
) -> Result<Ended> {
    let store = Arc::clone(&supervision.store);
    let approvals = tokio::select! {
        approvals = waiting::admit(supervision, &mut prepared, held, again) => approvals?,
        // Whether a plan still holds is told by reading both sides as a whole.
        () = shutdown.cancelled() => {
            statuses.send_replace(prepared.not_begun());
            return Ok(Ended::Done);
        }
    };
    let (idle, seen_idle) = watch::channel(Idle { waiting: prepared.waiting.clone(), held: held.clone() });
    let can_end = prepared.waiting.is_empty();
    let (mirrored, reconciled): (Vec<_>, Vec<_>) = prepared.syncs.iter().partition(|sync| sync.mode == Mode::Mirror);
    let members = reconciled.iter().flat_map(|sync| &sync.rules.members);
    let read: BTreeSet<SystemName> = members.map(|member| member.system.clone()).collect();
    let mirrored = mirrored.into_iter().map(|sync| Arc::new(sync.rules.clone())).collect();
    let order: Vec<SyncName> = prepared.syncs.iter().map(|sync| sync.rules.name.clone()).collect();
    let modes: Vec<(String, String)> =
        prepared.syncs.iter().map(|sync| (sync.rules.name.to_string(), sync.mode.describe())).collect();
    let setup = Setup {
        syncs: reconciled.into_iter().map(|sync| sync.rules.clone()).collect(),
        systems: prepared.systems.clone(),
        store: Arc::clone(&store),
        clock: Arc::new(SystemClock),
        options: Options { once: supervision.once && can_end, jitter_seed: std::process::id().into(), ..Options::default() },
        approvals,
        reviews: ReviewNumbers::default(),
    };
    let systems = Systems { open: prepared.systems.clone(), closed: prepared.closed.clone() };
    let (handle, fleet) = fleet(setup, mirrored, order.clone()).await?;
    let (releases, mut release) = mpsc::channel(1);
    let running = Running {
        commands: handle.commands.clone(),
        status: statuses.subscribe(),
        prepared: Arc::new(prepared),
        held: Arc::new(held.iter().map(|(name, _)| name.clone()).collect()),
        releases,
    };
    let answerer = Answerer {
        syncs: Arc::new(description::load(&*store).await?),
        store: Arc::clone(&store),
        folder: supervision.folder.clone(),
        running: Some(running.clone()),
        clock: Arc::new(SystemClock),
    };
    answerers.send_replace(answerer.clone());
    let stop = shutdown.child_token();
    // On a thread of its own kind: what it hands to its systems' tasks, and they to it, then needs no other thread to wake.
    let task = AbortOnDropHandle::new(TaskTracker::new().spawn(fleet.run(stop.clone())));
    let running_engine = async move {
        task.await.unwrap_or_else(|error| Err(Error::new(Code::Internal, "the engine ended abnormally").because(error)))
    };
    tokio::pin!(running_engine);
    let (found, left) = watch::channel(Vec::new());
    let (seen, unread) = watch::channel(Vec::new());
    let named: Vec<String> = idle.borrow().all().map(|(name, _)| name.clone()).collect();
    let unheard: Vec<&str> = named.iter().map(String::as_str).collect();
    let beside = Beside { idle: seen_idle, modes: &modes, left, unread };
    let around = async {
        let leftovers = look_for_leftovers(supervision, &systems.open, &found);
        let logs = kept_log::watch(&supervision.written.config, &*store, &systems.open, &unheard, &read, &seen);
        let gaps = accept_gaps(supervision.plan.as_deref(), &handle, &answerer, &running);
        tokio::select! {
            // The others end with the engine, whose status ends with it.
            ((), (), ()) = async { tokio::join!(pass_on(&handle, statuses, &beside), deliver(&answerer, &running), gaps) } => {}
            never = leftovers => never,
            never = logs => never,
        }
        Ok::<(), Error>(())
    };
    tokio::select! {
        result = &mut running_engine => {
            statuses.send_replace(beside.complete(handle.status.borrow().clone()));
            return result.map(|()| Ended::Done);
        }
        result = around => result?,
        more = waiting::more_to_run(supervision, &systems, &idle, held, again, &order) => {
            let more = more?;
            stop.cancel();
            running_engine.await?;
            return Ok(Ended::MoreToRun(more));
        }
        Some(release) = release.recv() => {
            stop.cancel();
            running_engine.await?;
            return Ok(Ended::Release(release));
        }
    }
    running_engine.await.map(|()| Ended::Done)
}

/// Hands over what was decided while nothing ran.
async fn deliver(answerer: &Answerer, running: &Running) {
    if let Err(error) = queue::deliver(answerer, running).await {
        tracing::warn!(error = %error.chain(), "decisions made while nothing ran could not be handed over");
    }
}

/// Has the syncs read again that stop at a gap and of which the approved plan speaks, each once in an engine's life, and
/// none that has been level under this plan before. Ends with the engine.
async fn accept_gaps(plan: Option<&str>, handle: &Handle, answerer: &Answerer, running: &Running) {
    let Some(plan) = plan else { return };
    let gap = format!("stopped: {}", Code::FeedGap);
    let mut status = handle.status.clone();
    let (mut looked_at, mut spent): (BTreeSet<String>, BTreeSet<String>) = Default::default();
    loop {
        let present = status.borrow_and_update().clone();
        for sync in present.syncs.iter().filter(|sync| sync.level) {
            if !spent.insert(sync.name.clone()) {
                continue;
            }
            match approval::spend(&*answerer.store, plan, &sync.name).await {
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(sync = %sync.name, error = %error.chain(), "that the plan is spent could not be kept")
                }
            }
        }
        for sync in present.syncs.into_iter().filter(|sync| sync.stage.starts_with(&gap)) {
            if !looked_at.insert(sync.name.clone()) {
                continue;
            }
            let accepted = approval::accepts_gap(&running.prepared, &*answerer.store, &SystemClock, plan, &sync.name).await;
            let said = match accepted {
                Ok(false) => continue,
                Ok(true) => answerer.read_again(running, &sync.name).await,
                Err(error) => Err(error),
            };
            match said {
                Ok(said) => tracing::info!(sync = %sync.name, %said, "the approved plan accepts the gap"),
                Err(error) => tracing::warn!(sync = %sync.name, error = %error.chain(), "the gap is not accepted"),
            }
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}

/// Passes the engine's status on, with the syncs that do not run yet. Ends with the engine.
async fn pass_on(handle: &Handle, statuses: &watch::Sender<Status>, beside: &Beside<'_>) {
    let (mut status, mut idle) = (handle.status.clone(), beside.idle.clone());
    loop {
        let present = status.borrow_and_update().clone();
        idle.mark_unchanged();
        statuses.send_replace(beside.complete(present));
        let is_over = tokio::select! {
            changed = status.changed() => changed.is_err(),
            changed = idle.changed() => changed.is_err(),
        };
        if is_over {
            return;
        }
        tokio::time::sleep(STATUS_INTERVAL).await;
    }
}

/// What the engine does not know of.
struct Beside<'a> {
    /// The syncs that do not run.
    idle: watch::Receiver<Idle>,
    /// How each sync runs.
    modes: &'a [(String, String)],
    /// Feeds that belong to no sync.
    left: watch::Receiver<Vec<FeedStatus>>,
    /// Feeds of syncs that have begun and do not run.
    unread: watch::Receiver<Vec<FeedStatus>>,
}

impl Beside<'_> {
    /// A status with all of it.
    fn complete(&self, mut status: Status) -> Status {
        for sync in &mut status.syncs {
            if let Some((_, mode)) = self.modes.iter().find(|(name, _)| *name == sync.name) {
                sync.mode.clone_from(mode);
            }
        }
        let idle = self.idle.borrow();
        let waiting = idle.waiting.iter().map(|(name, error)| (name, error, format!("waiting: {error}")));
        let held = idle.held.iter().map(|(name, error)| (name, error, format!("stopped: {error}")));
        status.syncs.extend(waiting.chain(held).map(|(name, error, stage)| SyncStatus {
            name: name.clone(),
            stage,
            code: Some(error.code),
            ..SyncStatus::default()
        }));
        for unread in self.unread.borrow().iter() {
            match status.feeds.iter_mut().find(|feed| feed.feed == unread.feed) {
                // An engine that runs no sync of it knows its name alone.
                Some(known) if known.retained_bytes.is_none() => known.clone_from(unread),
                Some(_) => {}
                None => status.feeds.push(unread.clone()),
            }
        }
        status.feeds.extend(self.left.borrow().iter().cloned());
        status
    }
}

/// Looks for feeds that belong to no sync, now and then. Never ends.
async fn look_for_leftovers(
    supervision: &Supervision,
    systems: &[(SystemName, Arc<dyn concord_engine::connector::Connector>)],
    found: &watch::Sender<Vec<FeedStatus>>,
) {
    let known = leftovers::known(&supervision.written.config, &*supervision.store, systems).await;
    loop {
        let left = leftovers::find(systems, &known).await;
        let left: Vec<FeedStatus> = left.iter().map(|(system, leftover)| leftovers::status(system, leftover)).collect();
        for feed in left.iter().filter(|feed| !found.borrow().iter().any(|known| known.feed == feed.feed)) {
            tracing::warn!(system = feed.system, feed = feed.feed, "{}", feed.warning.as_deref().unwrap_or_default());
        }
        found.send_replace(left);
        tokio::time::sleep(LEFTOVERS_INTERVAL).await;
    }
}
