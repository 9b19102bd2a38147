//! Plans of first runs: kept in the store under an id, and approved by it. An approval holds for the very configuration
//! that the plan was made of, and for what would be done: counts that have moved much ask again.

use crate::answers::description::commit;
use crate::rights;
use crate::setup::{Prepared, PreparedSync};
use concord_engine::clock::{Clock, Moment};
use concord_engine::error::{Class, Code, Error, Result};
use concord_engine::link::SyncId;
use concord_engine::mirror::{self, Mode};
use concord_engine::plan::first_run::{FirstRun, first_run};
use concord_engine::plan::remapping;
use concord_engine::record::SyncName;
use concord_engine::store::{Store, Transaction};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A plan as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptPlan {
    /// Its id.
    pub id: String,
    /// When it was made.
    pub made: Moment,
    /// What the first run of each sync would do.
    pub runs: Vec<FirstRun>,
    /// The syncs that have been level since they were approved by it: it speaks of nothing that befalls them later.
    #[serde(default)]
    pub spent: BTreeSet<String>,
}

fn setting(id: &str) -> String {
    format!("plan/{id}")
}

/// Reads both sides of every sync and says what their first runs would do, and what a changed mapping would.
pub async fn make(prepared: &Prepared, store: &dyn Store, clock: &dyn Clock) -> Result<KeptPlan> {
    let mut runs = Vec::new();
    let made = clock.now();
    for sync in &prepared.syncs {
        let remapping = remapping(store, &sync.rules, made).await?;
        runs.push(FirstRun { remapping, ..look(prepared, store, sync, made).await? });
    }
    let content = serde_json::to_vec(&(made, &runs))
        .map_err(|error| Error::new(Code::Internal, "a plan cannot be written").because(error))?;
    // FNV-1a: an id that a person can type, different for plans that differ.
    let hash =
        content.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    Ok(KeptPlan { id: format!("{:08x}", hash >> 32), made, runs, spent: BTreeSet::new() })
}

async fn look(prepared: &Prepared, store: &dyn Store, sync: &PreparedSync, now: Moment) -> Result<FirstRun> {
    // A mirrored sync knows no records.
    let known = (sync.mode != Mode::Mirror).then_some((store, now));
    let found = first_run(&sync.rules, &sync.hash, &prepared.connectors_of(&sync.rules)?, known).await?;
    Ok(FirstRun { begun: has_begun(store, sync).await?, ..found })
}

/// Keeps a plan.
pub async fn keep(store: &dyn Store, plan: &KeptPlan) -> Result<()> {
    let bytes =
        serde_json::to_vec(plan).map_err(|error| Error::new(Code::Internal, "a plan cannot be written").because(error))?;
    commit(store, Transaction { settings: vec![(setting(&plan.id), Some(bytes))], ..Transaction::default() }).await
}

/// The plan of this id.
pub async fn find(store: &dyn Store, id: &str) -> Result<KeptPlan> {
    let bytes =
        store.setting(&setting(id)).await?.ok_or_else(|| Error::new(Code::PlanUnknown, format!("there is no plan `{id}`")))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::new(Code::StoreFailed, format!("the plan `{id}` cannot be read")).because(error))
}

/// Whether the first run of a sync has begun: it needs no approval to go on.
pub async fn has_begun(store: &dyn Store, sync: &PreparedSync) -> Result<bool> {
    Ok(store.setting(&begun_setting(sync.rules.id)).await?.is_some())
}

fn begun_setting(id: SyncId) -> String {
    format!("begun/{}", id.0)
}

/// Whether a run may start. Where a sync that has begun before may go on, now or once it need no longer be left out, it does,
/// whatever is wrong with the others: a restart must not keep it from running. Where nothing has begun, everything that is to
/// begin has to be approved.
///
/// # Errors
/// `PlanNotApproved` names every sync whose first run nobody has approved; `PlanUnknown`; `PlanStale` where the
/// configuration or the records are not what was approved; `PrivilegeMissing` where what it shows may not be written; `SyncMoved`
/// where a sync names other objects than before.
pub async fn may_start(prepared: &Prepared, store: &dyn Store, clock: &dyn Clock, plan: Option<&str>, all: bool) -> Result<()> {
    let (approved, mut held) = judge(prepared, store, clock, plan, all, |_| true).await?;
    // What could not be looked at now is tried again.
    held.retain(|(_, error)| !matches!(error.class(), Class::Transient | Class::Throttled));
    if held.is_empty() {
        return Ok(());
    }
    for sync in prepared.syncs.iter().filter(|sync| approved.contains(&sync.rules.name)) {
        if has_begun(store, sync).await? {
            return Ok(());
        }
    }
    // One that waits for its system, or for a person, goes on once it can.
    for (name, _) in prepared.left_out() {
        let id = store.sync_id(name).await?;
        if store.setting(&begun_setting(id)).await?.is_some() {
            return Ok(());
        }
    }
    let is_asked_for = |(name, error): &&(SyncName, Error)| error.message == not_approved(plan, name.as_str()).message;
    let (missing, other): (Vec<_>, Vec<_>) = held.iter().partition(is_asked_for);
    if let Some((_, error)) = other.first() {
        return Err(error.clone());
    }
    let missing: Vec<&str> = missing.iter().map(|(name, _)| name.as_str()).collect();
    Err(not_approved(plan, &missing.join(", ")))
}

fn not_approved(plan: Option<&str>, names: &str) -> Error {
    let message = match plan {
        Some(id) => format!("the plan `{id}` does not speak of: {names}"),
        None => format!("nobody has approved the first run of: {names}"),
    };
    Error::new(Code::PlanNotApproved, message)
}

/// The syncs that may begin, of those that are asked about, and those that may not, each with the reason.
///
/// # Errors
/// `PlanUnknown`; what the store says.
pub async fn judge(
    prepared: &Prepared,
    store: &dyn Store,
    clock: &dyn Clock,
    plan: Option<&str>,
    all: bool,
    is_asked_about: impl Fn(&SyncName) -> bool,
) -> Result<(BTreeSet<SyncName>, Vec<(SyncName, Error)>)> {
    let kept = match plan {
        Some(id) => Some(find(store, id).await?),
        None => None,
    };
    let mut approved = BTreeSet::new();
    let mut held = Vec::new();
    for sync in prepared.syncs.iter().filter(|sync| is_asked_about(&sync.rules.name)) {
        let name = &sync.rules.name;
        let planned = kept.as_ref().and_then(|kept| kept.runs.iter().find(|run| run.sync == name.as_str()));
        let verdict = if let Err(error) = has_not_moved(store, sync).await {
            Err(error)
        } else if all || sync.auto_approve {
            Ok(())
        } else if has_begun(store, sync).await? {
            may_be_remapped(store, sync, planned, clock.now()).await
        } else if let Some(planned) = planned {
            match rights::may_write(prepared, sync).await {
                Ok(()) => still_holds(prepared, store, sync, planned, clock.now()).await,
                refused => refused,
            }
        } else {
            Err(not_approved(plan, name.as_str()))
        };
        match verdict {
            Ok(()) => {
                approved.insert(name.clone());
            }
            Err(error) if error.code == Code::StoreFailed => return Err(error),
            Err(error) => held.push((name.clone(), error)),
        }
    }
    Ok((approved, held))
}

/// Whether an approved plan lets a sync be read again that stopped at a gap: it speaks of the sync, and what it said would
/// be done is what would be done now.
pub async fn accepts_gap(prepared: &Prepared, store: &dyn Store, clock: &dyn Clock, plan: &str, sync: &str) -> Result<bool> {
    let kept = find(store, plan).await?;
    let planned = kept.runs.iter().find(|run| run.sync == sync);
    let running = prepared.syncs.iter().find(|running| running.rules.name.as_str() == sync);
    let (Some(planned), Some(running)) = (planned, running) else { return Ok(false) };
    if kept.spent.contains(sync) {
        return Err(Error::new(Code::PlanStale, format!("the plan `{plan}` of `{sync}` was made before this gap")));
    }
    still_holds(prepared, store, running, planned, clock.now()).await?;
    Ok(true)
}

/// Remembers that a sync has been level under a plan. What the same command line lets through when the process starts anew,
/// or when a gap opens later, is not what a person looked at then.
pub async fn spend(store: &dyn Store, plan: &str, sync: &str) -> Result<()> {
    let mut kept = find(store, plan).await?;
    let is_spoken_of = kept.runs.iter().any(|run| run.sync == sync);
    if is_spoken_of && kept.spent.insert(sync.to_owned()) { keep(store, &kept).await } else { Ok(()) }
}

/// The records of a sync are known by the keys of the objects in which they were linked. In another object those keys are
/// nobody's, or somebody else's: every record would be taken for deleted. The objects are kept for the next time.
pub async fn has_not_moved(store: &dyn Store, sync: &PreparedSync) -> Result<()> {
    if is_where_it_was(store, sync).await? {
        return Ok(());
    }
    let bytes = serde_json::to_vec(&objects_of(sync))
        .map_err(|error| Error::new(Code::Internal, "names cannot be written").because(error))?;
    commit(store, Transaction { settings: vec![(objects_setting(sync), Some(bytes))], ..Transaction::default() }).await
}

fn objects_setting(sync: &PreparedSync) -> String {
    format!("objects-of/{}", sync.rules.id.0)
}

fn objects_of(sync: &PreparedSync) -> Vec<&str> {
    sync.rules.members.iter().map(|member| member.object.as_str()).collect()
}

/// As [`has_not_moved`], and keeps nothing. Says whether these very objects are kept.
pub async fn is_where_it_was(store: &dyn Store, sync: &PreparedSync) -> Result<bool> {
    let (id, name, objects) = (sync.rules.id, &sync.rules.name, objects_of(sync));
    let kept = store.setting(&objects_setting(sync)).await?;
    let kept = kept.and_then(|bytes| serde_json::from_slice::<Vec<String>>(&bytes).ok());
    let knows_records = store.counts(id).await?.links > 0 || mirror::has_begun(store, id).await?;
    let moved = kept.as_ref().and_then(|kept| kept.iter().zip(&objects).find(|(kept, now)| kept.as_str() != **now));
    if let Some((kept, now)) = moved.filter(|_| knows_records) {
        let message = format!("the records of `{name}` were linked in `{kept}`, and now it names `{now}`");
        return Err(Error::new(Code::SyncMoved, message));
    }
    Ok(kept.is_some_and(|kept| kept == objects))
}

/// A changed mapping that writes more than the guard lets through in one go needs the approval of a plan that says so.
pub async fn may_be_remapped(store: &dyn Store, sync: &PreparedSync, planned: Option<&FirstRun>, now: Moment) -> Result<()> {
    let Some(counted) = remapping(store, &sync.rules, now).await? else { return Ok(()) };
    let approved =
        planned.filter(|planned| planned.config == sync.hash.to_string()).and_then(|planned| planned.remapping.as_ref());
    if !counted.exceeds(&sync.rules.guard) || approved.is_some_and(|approved| approved.is_like(&counted)) {
        return Ok(());
    }
    let name = &sync.rules.name;
    let updates: Vec<String> = counted.updates.iter().map(|(system, count)| format!("{count} records in `{system}`")).collect();
    let message = format!(
        "the mapping of `{name}` has changed ({}): it would rewrite {}, and send {} to review",
        counted.fields.join(", "),
        updates.join(" and "),
        counted.review
    );
    Err(Error::new(if planned.is_some() { Code::PlanStale } else { Code::PlanNotApproved }, message))
}

async fn still_holds(prepared: &Prepared, store: &dyn Store, sync: &PreparedSync, planned: &FirstRun, now: Moment) -> Result<()> {
    let name = &sync.rules.name;
    if planned.config != sync.hash.to_string() {
        return Err(Error::new(Code::PlanStale, format!("the configuration of `{name}` is not the one that was approved")));
    }
    let now = look(prepared, store, sync, now).await?;
    if planned.is_like(&now) {
        return Ok(());
    }
    let counts = |run: &FirstRun| {
        let member = |member: &concord_engine::plan::first_run::MemberPlan| {
            let (creates, updates, deletes) = (member.creates, member.updates, member.deletes);
            format!("{}: {creates} to create, {updates} to update, {deletes} to delete", member.system)
        };
        run.members.iter().map(member).collect::<Vec<_>>().join("; ")
    };
    let message = format!("the records of `{name}` have moved since the plan (then {}; now {})", counts(planned), counts(&now));
    Err(Error::new(Code::PlanStale, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup;
    use crate::trial::Trial;
    use concord_engine::clock::SystemClock;

    /// A prepared run without its first sync, which needs no approval.
    async fn of_late(trial: &Trial) -> Prepared {
        let mut prepared = setup::prepare(&trial.written, &*trial.store, &trial.systems()).await.unwrap();
        let first = prepared.syncs.remove(0);
        assert_eq!(first.rules.name.as_str(), "ready");
        prepared
    }

    async fn starts(trial: &Trial, prepared: &Prepared, plan: Option<&str>) -> std::result::Result<(), Code> {
        may_start(prepared, &*trial.store, &SystemClock, plan, false).await.map_err(|error| error.code)
    }

    #[tokio::test]
    async fn a_sync_that_has_begun_and_is_left_out_lets_a_run_start_that_nobody_has_approved() {
        let trial = Trial::new();
        let broken = ("ready".to_owned(), Error::new(Code::KeyMissing, "the key is gone"));
        for waits in [false, true] {
            let mut prepared = of_late(&trial).await;
            let left_out = if waits { &mut prepared.waiting } else { &mut prepared.refused };
            left_out.push(broken.clone());
            let before = if waits { Ok(()) } else { Err(Code::PlanNotApproved) };
            assert_eq!(starts(&trial, &prepared, None).await, before, "waits: {waits}");
            trial.begin("ready").await;
            assert_eq!(starts(&trial, &prepared, None).await, Ok(()), "waits: {waits}");
        }
    }

    #[tokio::test]
    async fn a_plan_that_cannot_be_looked_at_now_lets_a_run_start_and_one_that_is_not_known_does_not() {
        let trial = Trial::new();
        let prepared = of_late(&trial).await;
        let plan = make(&prepared, &*trial.store, &SystemClock).await.unwrap();
        keep(&*trial.store, &plan).await.unwrap();
        assert_eq!(starts(&trial, &prepared, Some(&plan.id)).await, Ok(()));
        trial.spy.hide("late");
        assert_eq!(starts(&trial, &prepared, Some(&plan.id)).await, Ok(()), "it is tried again");
        assert_eq!(starts(&trial, &prepared, Some("nonsense")).await, Err(Code::PlanUnknown));
        assert_eq!(starts(&trial, &prepared, None).await, Err(Code::PlanNotApproved));
    }
}
