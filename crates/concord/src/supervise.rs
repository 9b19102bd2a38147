//! Runs the engine until it is told to stop, with everything around it: commands, metrics, ageing of what is kept. Syncs
//! whose systems could not be asked at the start, or that cannot run as things are, are tried again; when one of them can
//! run, the engine is stopped in good order and begins anew with all of them. What is wrong with one of them ends none of
//! the others. Every task lives inside the one future.

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
use crate::setup::{self, Prepared, PreparedSync, Systems, Written};
use concord_engine::clock::SystemClock;
use concord_engine::connector::Connector;
use concord_engine::error::{Class, Code, Error, Result};
use concord_engine::mirror::{Mode, fleet};
use concord_engine::record::{SyncName, SystemName};
use concord_engine::runtime::status::{FeedStatus, Status, SyncStatus};
use concord_engine::runtime::{Approvals, Handle, Options, ReviewNumbers, Setup};
use concord_engine::store::Store;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// The wait before systems that could not be asked are asked again, doubled up to the longest.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(30);
/// The longest wait where nothing passes by itself: every try asks every system for every object, and a person takes longer.
const RETRY_REFUSED_LONGEST: Duration = Duration::from_secs(600);
/// How long a sync is let alone whose approved plan could not be looked at anew: each try stops every engine.
const JUDGED_AGAIN_AFTER: Duration = Duration::from_secs(300);
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

/// What is remembered from one engine to the next of trying again.
struct Again {
    /// The wait before the systems are asked again.
    wait: Duration,
    /// The syncs whose approved plans could not be looked at anew: until when they are let alone, and why.
    put_off: BTreeMap<String, (Instant, Error)>,
}

impl Again {
    /// Why a sync is let alone now.
    fn put_off(&self, name: &str) -> Option<&Error> {
        self.put_off.get(name).filter(|(until, _)| Instant::now() < *until).map(|(_, error)| error)
    }

    /// The longest wait while some syncs wait for these reasons.
    fn longest(&self, reasons: &[(String, Error)]) -> Duration {
        let may_pass = |(name, error): &(String, Error)| is_passing(error) && self.put_off(name).is_none();
        if reasons.iter().any(may_pass) {
            return RETRY_LONGEST;
        }
        let now = Instant::now();
        let until = reasons.iter().filter_map(|(name, _)| self.put_off.get(name)).map(|(until, _)| *until);
        let left = until.filter(|until| now < *until).map(|until| until.saturating_duration_since(now));
        left.fold(RETRY_REFUSED_LONGEST, Duration::min).max(RETRY_FIRST)
    }
}

/// Whether what is wrong may pass by itself.
fn is_passing(error: &Error) -> bool {
    matches!(error.class(), Class::Transient | Class::Throttled)
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
    let mut again = Again { wait: RETRY_FIRST, put_off: BTreeMap::new() };
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

/// Takes out the syncs that cannot run: those that are wrong now wait, as a person may put them right in their systems;
/// those that a person has to approve are held until the next start. Where somebody waits for the end of the run, both are.
///
/// # Errors
/// Why the first is held, where none is left that runs or waits; what the store says.
async fn admit(
    supervision: &Supervision,
    prepared: &mut Prepared,
    held: &mut Vec<(String, Error)>,
    again: &mut Again,
) -> Result<Approvals> {
    let (store, plan) = (&*supervision.store, supervision.plan.as_deref());
    let refused = std::mem::take(&mut prepared.refused);
    match supervision.once {
        true => refused.into_iter().for_each(|(name, error)| hold(held, name, error)),
        false => prepared.waiting.extend(refused),
    }
    prepared.waiting.retain(|(name, _)| !is_among(held, name));
    prepared.syncs.retain(|sync| !is_among(held, sync.rules.name.as_str()));
    let Prepared { syncs, waiting, .. } = &mut *prepared;
    syncs.retain(|sync| {
        let put_off = again.put_off(sync.rules.name.as_str());
        waiting.extend(put_off.map(|error| (sync.rules.name.to_string(), error.clone())));
        put_off.is_none()
    });
    let (approved, refused) = approval::judge(prepared, store, &SystemClock, plan, supervision.approve_all).await?;
    prepared.syncs.retain(|sync| approved.contains(&sync.rules.name));
    for (name, error) in refused {
        if is_passing(&error) {
            // What it was approved for could not be looked at now.
            again.put_off.insert(name.to_string(), (Instant::now() + JUDGED_AGAIN_AFTER, error.clone()));
            prepared.waiting.push((name.to_string(), error));
            continue;
        }
        hold(held, name.to_string(), error);
    }
    if let Some((name, error)) = held.first().filter(|_| prepared.syncs.is_empty() && prepared.waiting.is_empty()) {
        return Err(error.clone().at(name.clone()));
    }
    Ok(if supervision.approve_all { Approvals::All } else { Approvals::Only(approved) })
}

/// Whether a list has a sync of this name.
fn is_among(list: &[(String, Error)], name: &str) -> bool {
    list.iter().any(|(known, _)| known == name)
}

/// Leaves a sync out until the next start, and says so.
fn hold(held: &mut Vec<(String, Error)>, name: String, error: Error) {
    if is_among(held, &name) {
        return;
    }
    tracing::error!(sync = %name, error = %error.chain(), remedy = error.code.remedy(), "the sync does not run until the next start");
    held.push((name, error));
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
        approvals = admit(supervision, &mut prepared, held, again) => approvals?,
        // Whether a plan still holds is told by reading both sides as a whole.
        () = shutdown.cancelled() => {
            statuses.send_replace(prepared.not_begun());
            return Ok(Ended::Done);
        }
    };
    let (reasons, waiting) = watch::channel(prepared.waiting.clone());
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
    let named: Vec<String> = waiting.borrow().iter().chain(held.iter()).map(|(name, _)| name.clone()).collect();
    let idle: Vec<&str> = named.iter().map(String::as_str).collect();
    let beside = Beside { waiting, held, modes: &modes, left, unread };
    let around = async {
        let leftovers = look_for_leftovers(supervision, &systems.open, &found);
        let logs = kept_log::watch(&supervision.written.config, &*store, &systems.open, &idle, &read, &seen);
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
        more = more_to_run(supervision, &systems, &reasons, held, again, &order) => {
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
    let (mut status, mut waiting) = (handle.status.clone(), beside.waiting.clone());
    loop {
        let present = status.borrow_and_update().clone();
        waiting.mark_unchanged();
        statuses.send_replace(beside.complete(present));
        let is_over = tokio::select! {
            changed = status.changed() => changed.is_err(),
            changed = waiting.changed() => changed.is_err(),
        };
        if is_over {
            return;
        }
        tokio::time::sleep(STATUS_INTERVAL).await;
    }
}

/// What the engine does not know of.
struct Beside<'a> {
    /// The syncs that wait for their systems, each with the reason as it was when they were last asked.
    waiting: watch::Receiver<Vec<(String, Error)>>,
    /// The syncs that do not run before the next start.
    held: &'a [(String, Error)],
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
        let waiting = self.waiting.borrow();
        let waiting = waiting.iter().map(|(name, error)| (name, format!("waiting: {error}")));
        let held = self.held.iter().map(|(name, error)| (name, format!("stopped: {error}")));
        status.syncs.extend(waiting.chain(held).map(|(name, stage)| SyncStatus {
            name: name.clone(),
            stage,
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

/// Asks the systems of the waiting syncs again and again, and tells why they still wait; answers when one more sync can run,
/// or when one turns out to be a person's to put right and somebody waits for the end. Never answers where nothing waits.
async fn more_to_run(
    supervision: &Supervision,
    systems: &Systems,
    reasons: &watch::Sender<Vec<(String, Error)>>,
    held: &[(String, Error)],
    again: &mut Again,
    running: &[SyncName],
) -> Result<Prepared> {
    if reasons.borrow().is_empty() {
        again.wait = RETRY_FIRST;
        return std::future::pending().await;
    }
    let warn = |name: &str, error: &Error| {
        tracing::warn!(sync = name, error = %error.chain(), remedy = error.code.remedy(), "the sync does not run yet: its systems are asked again");
    };
    reasons.borrow().iter().for_each(|(name, error)| warn(name, error));
    let mut systems = systems.clone();
    loop {
        let longest = again.longest(&reasons.borrow());
        let wait = again.wait.min(longest);
        tokio::time::sleep(wait).await;
        again.wait = (wait * 2).min(longest);
        let store = Arc::clone(&supervision.store);
        if let Err(error) = systems.try_again(&supervision.written.config, store, &supervision.folder).await {
            tracing::warn!(error = %error.chain(), "systems that could not be opened are not tried again now");
        }
        let prepared = setup::prepare(&supervision.written, &*supervision.store, &systems).await?;
        let waiting = reasons.borrow().clone();
        let can_run = |sync: &PreparedSync| {
            let name = sync.rules.name.as_str();
            is_among(&waiting, name) && !is_among(held, name) && again.put_off(name).is_none()
        };
        let is_over = supervision.once && prepared.refused.iter().any(|(name, _)| is_among(&waiting, name));
        // One that runs is not left out because its system does not answer at this moment.
        let has = |name: &SyncName| {
            prepared.syncs.iter().any(|sync| sync.rules.name == *name) || is_among(&prepared.refused, name.as_str())
        };
        if running.iter().all(has) && (is_over || prepared.syncs.iter().any(can_run)) {
            return Ok(prepared);
        }
        for (name, error) in prepared.left_out() {
            let known = waiting.iter().find(|(waiting, _)| waiting == name);
            if known.is_some_and(|(_, known)| (known.code, &known.message) != (error.code, &error.message)) {
                warn(name, error);
                reasons.send_modify(|all| {
                    all.iter_mut().filter(|(waiting, _)| waiting == name).for_each(|(_, known)| *known = error.clone());
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_try_puts_right_is_tried_less_often() {
        let mut again = Again { wait: RETRY_FIRST, put_off: BTreeMap::new() };
        let refused = ("a".to_owned(), Error::new(Code::PlanNotAPair, "x"));
        let away = ("b".to_owned(), Error::new(Code::Unreachable, "x"));
        let both = [refused.clone(), away.clone()];
        assert_eq!(again.longest(std::slice::from_ref(&refused)), RETRY_REFUSED_LONGEST);
        assert_eq!(again.longest(&both), RETRY_LONGEST);
        again.put_off.insert(away.0, (Instant::now() + JUDGED_AGAIN_AFTER, away.1));
        assert!(again.longest(&both) > RETRY_LONGEST && again.longest(&both) <= JUDGED_AGAIN_AFTER);
        assert!(again.put_off("b").is_some() && again.put_off("a").is_none());
    }
}
