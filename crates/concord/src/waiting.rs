//! The syncs that do not run: those whose systems could not be asked, or that cannot run as things are, are looked at again and
//! again beside the engines, which are stopped only where one more can run; those that a person has to approve are held until
//! the next start. Starts and stops nothing itself.

use crate::approval;
use crate::setup::{self, Prepared, PreparedSync, Systems};
use crate::supervise::Supervision;
use concord_engine::clock::SystemClock;
use concord_engine::error::{Class, Error, Result};
use concord_engine::record::SyncName;
use concord_engine::runtime::Approvals;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The wait before systems that could not be asked are asked again, doubled up to the longest.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(30);
/// The longest wait where nothing passes by itself: every try asks every system for every object, and a person takes longer.
const RETRY_REFUSED_LONGEST: Duration = Duration::from_secs(600);
/// How long a sync is let alone whose approved plan could not be looked at anew: each look reads both sides of it.
pub const LET_ALONE: Duration = Duration::from_secs(300);

/// The syncs that do not run, each with the reason.
#[derive(Clone, Debug, Default)]
pub struct Idle {
    /// Those that wait, with the reason as it was when they were last looked at.
    pub waiting: Vec<(String, Error)>,
    /// Those that do not run before the next start.
    pub held: Vec<(String, Error)>,
}

impl Idle {
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &(String, Error)> {
        self.waiting.iter().chain(&self.held)
    }

    /// Has a sync wait for another reason.
    fn wait_for(&mut self, name: &str, why: &Error) {
        self.waiting.iter_mut().filter(|(waiting, _)| waiting == name).for_each(|(_, known)| known.clone_from(why));
    }
}

/// What is remembered from one engine to the next of trying again.
pub struct Again {
    /// The wait before the systems are asked again.
    wait: Duration,
    /// The syncs whose approved plans could not be looked at anew: until when they are let alone, and why.
    put_off: BTreeMap<String, (Instant, Error)>,
    /// For how long.
    let_alone: Duration,
    /// The syncs of which a look beside the last engine said that they may begin.
    found: BTreeSet<SyncName>,
}

impl Again {
    /// Nothing has been tried yet.
    pub fn new(let_alone: Duration) -> Again {
        Again { wait: RETRY_FIRST, put_off: BTreeMap::new(), let_alone, found: BTreeSet::new() }
    }

    /// Lets a sync alone for a while.
    fn put_off(&mut self, name: &str, why: &Error) {
        self.put_off.insert(name.to_owned(), (Instant::now() + self.let_alone, why.clone()));
    }

    /// Why a sync is let alone now.
    fn let_alone(&self, name: &str) -> Option<&Error> {
        self.put_off.get(name).filter(|(until, _)| Instant::now() < *until).map(|(_, error)| error)
    }

    /// The longest wait while some syncs wait for these reasons.
    fn longest(&self, reasons: &[(String, Error)]) -> Duration {
        let may_pass = |(name, error): &(String, Error)| is_passing(error) && self.let_alone(name).is_none();
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

/// Takes out the syncs that cannot run: those that are wrong now wait, as a person may put them right in their systems;
/// those that a person has to approve are held until the next start. Where somebody waits for the end of the run, both are.
///
/// # Errors
/// Why the first is held, where none is left that runs or waits; what the store says.
pub async fn admit(
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
        let put_off = again.let_alone(sync.rules.name.as_str());
        waiting.extend(put_off.map(|error| (sync.rules.name.to_string(), error.clone())));
        put_off.is_none()
    });
    // What was found beside the last engine a moment ago is not looked at again while none runs.
    let found = std::mem::take(&mut again.found);
    let is_open = |name: &SyncName| !found.contains(name);
    let judged = approval::judge(prepared, store, &SystemClock, plan, supervision.approve_all, is_open).await?;
    let (mut approved, refused) = judged;
    approved.extend(found);
    prepared.syncs.retain(|sync| approved.contains(&sync.rules.name));
    for (name, error) in refused {
        if is_passing(&error) {
            // What it was approved for could not be looked at now.
            again.put_off(name.as_str(), &error);
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

/// Says that a sync waits, and why.
fn warn(name: &str, error: &Error) {
    tracing::warn!(sync = name, error = %error.chain(), remedy = error.code.remedy(), "the sync does not run yet: its systems are asked again");
}

/// Asks the systems of the waiting syncs again and again, and tells why they still wait; answers when one more sync can run,
/// or when one turns out to be a person's to put right and somebody waits for the end. Never answers where nothing waits.
///
/// # Errors
/// What the store says.
pub async fn more_to_run(
    supervision: &Supervision,
    systems: &Systems,
    idle: &watch::Sender<Idle>,
    held: &mut Vec<(String, Error)>,
    again: &mut Again,
    running: &[SyncName],
) -> Result<Prepared> {
    idle.borrow().waiting.iter().for_each(|(name, error)| warn(name, error));
    let mut systems = systems.clone();
    loop {
        let waiting = idle.borrow().waiting.clone();
        if waiting.is_empty() {
            again.wait = RETRY_FIRST;
            return std::future::pending().await;
        }
        let longest = again.longest(&waiting);
        let wait = again.wait.min(longest);
        tokio::time::sleep(wait).await;
        again.wait = (wait * 2).min(longest);
        let store = Arc::clone(&supervision.store);
        if let Err(error) = systems.try_again(&supervision.written.config, store, &supervision.folder).await {
            tracing::warn!(error = %error.chain(), "systems that could not be opened are not tried again now");
        }
        let prepared = setup::prepare(&supervision.written, &*supervision.store, &systems).await?;
        let can_run = |sync: &PreparedSync| {
            let name = sync.rules.name.as_str();
            is_among(&waiting, name) && !is_among(held, name) && again.let_alone(name).is_none()
        };
        let names: Vec<SyncName> =
            prepared.syncs.iter().filter(|sync| can_run(sync)).map(|sync| sync.rules.name.clone()).collect();
        let is_over = supervision.once && prepared.refused.iter().any(|(name, _)| is_among(&waiting, name));
        // One that runs is not left out because its system does not answer at this moment.
        let has = |name: &SyncName| {
            prepared.syncs.iter().any(|sync| sync.rules.name == *name) || is_among(&prepared.refused, name.as_str())
        };
        if running.iter().all(has) && (is_over || look(supervision, &prepared, &names, idle, held, again).await?) {
            return Ok(prepared);
        }
        // The last one that was waited for is held: nothing is left to run.
        if running.is_empty() && idle.borrow().waiting.is_empty() {
            return Ok(prepared);
        }
        for (name, error) in prepared.left_out() {
            let known = waiting.iter().find(|(waiting, _)| waiting == name);
            if known.is_some_and(|(_, known)| (known.code, &known.message) != (error.code, &error.message)) {
                warn(name, error);
                idle.send_modify(|idle| idle.wait_for(name, error));
            }
        }
    }
}

/// Looks anew, while the engines run, at what some syncs were approved for that could run. Says whether the engines are to begin
/// anew: one of the syncs may begin, or may not and somebody waits for the end.
async fn look(
    supervision: &Supervision,
    prepared: &Prepared,
    names: &[SyncName],
    idle: &watch::Sender<Idle>,
    held: &mut Vec<(String, Error)>,
    again: &mut Again,
) -> Result<bool> {
    if names.is_empty() {
        return Ok(false);
    }
    let (store, plan) = (&*supervision.store, supervision.plan.as_deref());
    let is_named = |name: &SyncName| names.contains(name);
    let judged = approval::judge(prepared, store, &SystemClock, plan, supervision.approve_all, is_named).await?;
    let (approved, refused) = judged;
    let mut begins = !approved.is_empty();
    again.found = approved;
    for (name, error) in refused {
        let name = name.to_string();
        if is_passing(&error) {
            warn(&name, &error);
            again.put_off(&name, &error);
            idle.send_modify(|idle| idle.wait_for(&name, &error));
        } else if supervision.once {
            begins = true;
        } else {
            hold(held, name.clone(), error);
            idle.send_modify(|idle| {
                idle.waiting.retain(|(waiting, _)| *waiting != name);
                idle.held.clone_from(held);
            });
        }
    }
    Ok(begins)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ageing::Retention;
    use crate::supervise;
    use crate::trial::Trial;
    use concord_engine::error::Code;
    use tokio_util::sync::CancellationToken;

    #[test]
    fn what_no_try_puts_right_is_tried_less_often() {
        let mut again = Again::new(LET_ALONE);
        let refused = ("a".to_owned(), Error::new(Code::PlanNotAPair, "x"));
        let away = ("b".to_owned(), Error::new(Code::Unreachable, "x"));
        let both = [refused.clone(), away.clone()];
        assert_eq!(again.longest(std::slice::from_ref(&refused)), RETRY_REFUSED_LONGEST);
        assert_eq!(again.longest(&both), RETRY_LONGEST);
        again.put_off(&away.0, &away.1);
        assert!(again.longest(&both) > RETRY_LONGEST && again.longest(&both) <= LET_ALONE);
        assert!(again.let_alone("b").is_some() && again.let_alone("a").is_none());
    }

    /// What a run of a trial is made of: one of its syncs runs in any case, the other by an approved plan.
    async fn approved(trial: &Trial) -> Supervision {
        let systems = trial.systems();
        let prepared = setup::prepare(&trial.written, &*trial.store, &systems).await.unwrap();
        assert!(prepared.syncs.len() == 2, "{:?}", prepared.notices);
        let plan = approval::make(&prepared, &*trial.store, &SystemClock).await.unwrap();
        approval::keep(&*trial.store, &plan).await.unwrap();
        Supervision {
            written: trial.written(),
            store: trial.store(),
            folder: trial.folder(),
            prepared,
            approve_all: false,
            plan: Some(plan.id),
            once: false,
            patience: Duration::from_secs(60),
            door: None,
            metrics: None,
            retention: Retention::of(&trial.written.config, &*trial.store).await.unwrap(),
            shows_progress: false,
            let_alone: Duration::from_millis(50),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_approved_sync_that_cannot_be_looked_at_is_looked_at_again_without_stopping_the_others() {
        let trial = Trial::new();
        let supervision = approved(&trial).await;
        // Both sides of it tell of themselves, and cannot be read.
        trial.spy.hide("late");
        let stop = CancellationToken::new();
        let story = async {
            trial.until("the other sync carries", || trial.carries("ready", 1)).await;
            trial.until("the late one was looked at", || trial.spy.refused() > 0).await;
            let (opened, looked) = (trial.spy.opened(), trial.spy.refused());
            trial.until("it is looked at again, and again", || trial.spy.refused() > looked + 1).await;
            trial.until("the other goes on", || trial.carries("ready", 2)).await;
            assert_eq!(trial.spy.opened(), opened, "for a look in vain the engine was stopped");
            trial.spy.show();
            trial.until("the late one has come", || trial.has("late", 0)).await;
            assert_eq!(trial.spy.opened(), opened + 1, "the engine began anew once, with both");
            trial.until("both go on", || trial.carries("ready", 3) && trial.carries("late", 3)).await;
            stop.cancel();
        };
        let (ended, ()) = tokio::join!(supervise::run(supervision, stop.clone()), story);
        ended.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_approved_sync_whose_plan_does_not_hold_any_more_is_held_without_stopping_the_others() {
        let trial = Trial::new();
        let supervision = approved(&trial).await;
        trial.spy.hide("late");
        let stop = CancellationToken::new();
        let story = async {
            trial.until("the other sync carries", || trial.carries("ready", 1)).await;
            trial.until("the late one was looked at", || trial.spy.refused() > 0).await;
            let opened = trial.spy.opened();
            // Far more than anybody has approved.
            (1_000..1_400).for_each(|number| trial.insert("late", number));
            let read = trial.spy.read();
            trial.spy.show();
            trial.until("the late one was looked at", || trial.spy.read() > read).await;
            trial.until("the other goes on", || trial.carries("ready", 2)).await;
            tokio::time::sleep(RETRY_FIRST * 3).await;
            assert_eq!(trial.spy.opened(), opened, "for a plan that does not hold the engine was stopped");
            assert!(!trial.carries("late", 1_000), "nobody has approved so many");
            stop.cancel();
        };
        let (ended, ()) = tokio::join!(supervise::run(supervision, stop.clone()), story);
        let status = ended.unwrap();
        let late = status.syncs.iter().find(|sync| sync.name == "late").unwrap();
        assert!(late.stage.starts_with("stopped: CON-5004"), "{}", late.stage);
    }
}
