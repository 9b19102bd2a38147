//! Plans of first runs: kept in the store under an id, and approved by it. An approval holds for the very configuration
//! that the plan was made of, and for what would be done: counts that have moved much ask again.

use crate::answers::description::commit;
use crate::setup::{Prepared, PreparedSync};
use concord_engine::clock::{Clock, Moment};
use concord_engine::error::{Code, Error, Result};
use concord_engine::plan::first_run::{FirstRun, first_run};
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
}

fn setting(id: &str) -> String {
    format!("plan/{id}")
}

/// Reads both sides of every sync and says what their first runs would do.
pub async fn make(prepared: &Prepared, clock: &dyn Clock) -> Result<KeptPlan> {
    let mut runs = Vec::new();
    for sync in &prepared.syncs {
        runs.push(look(prepared, sync).await?);
    }
    let made = clock.now();
    let content = serde_json::to_vec(&(made, &runs))
        .map_err(|error| Error::new(Code::Internal, "a plan cannot be written").because(error))?;
    // FNV-1a: an id that a person can type, different for plans that differ.
    let hash =
        content.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    Ok(KeptPlan { id: format!("{:08x}", hash >> 32), made, runs })
}

async fn look(prepared: &Prepared, sync: &PreparedSync) -> Result<FirstRun> {
    first_run(&sync.rules, &sync.hash, &prepared.connectors_of(&sync.rules)?).await
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
    Ok(store.setting(&format!("begun/{}", sync.rules.id.0)).await?.is_some())
}

/// The syncs that may begin: those that a person, or the configuration, has approved.
///
/// # Errors
/// `PlanNotApproved` names every sync whose first run nobody has approved; `PlanUnknown`; `PlanStale` where the
/// configuration or the records are not what was approved.
pub async fn approved(prepared: &Prepared, store: &dyn Store, plan: Option<&str>, all: bool) -> Result<BTreeSet<SyncName>> {
    let kept = match plan {
        Some(id) => Some(find(store, id).await?),
        None => None,
    };
    let mut approved = BTreeSet::new();
    let mut missing = Vec::new();
    for sync in &prepared.syncs {
        let name = &sync.rules.name;
        let planned = kept.as_ref().and_then(|kept| kept.runs.iter().find(|run| run.sync == name.as_str()));
        if all || sync.auto_approve || has_begun(store, sync).await? {
            approved.insert(name.clone());
        } else if let Some(planned) = planned {
            still_holds(prepared, sync, planned).await?;
            approved.insert(name.clone());
        } else {
            missing.push(name.to_string());
        }
    }
    if missing.is_empty() {
        return Ok(approved);
    }
    let message = match plan {
        Some(id) => format!("the plan `{id}` does not speak of: {}", missing.join(", ")),
        None => format!("nobody has approved the first run of: {}", missing.join(", ")),
    };
    Err(Error::new(Code::PlanNotApproved, message))
}

/// Whether an approved plan lets a sync be read again that stopped at a gap: it speaks of the sync, and what it said would
/// be done is what would be done now.
pub async fn accepts_gap(prepared: &Prepared, store: &dyn Store, plan: &str, sync: &str) -> Result<bool> {
    let kept = find(store, plan).await?;
    let planned = kept.runs.iter().find(|run| run.sync == sync);
    let running = prepared.syncs.iter().find(|running| running.rules.name.as_str() == sync);
    let (Some(planned), Some(running)) = (planned, running) else { return Ok(false) };
    still_holds(prepared, running, planned).await?;
    Ok(true)
}

async fn still_holds(prepared: &Prepared, sync: &PreparedSync, planned: &FirstRun) -> Result<()> {
    let name = &sync.rules.name;
    if planned.config != sync.hash.to_string() {
        return Err(Error::new(Code::PlanStale, format!("the configuration of `{name}` is not the one that was approved")));
    }
    let now = look(prepared, sync).await?;
    if planned.is_like(&now) {
        return Ok(());
    }
    let counts = |run: &FirstRun| {
        let member = |member: &concord_engine::plan::first_run::MemberPlan| {
            format!("{}: {} to create, {} to update", member.system, member.creates, member.updates)
        };
        run.members.iter().map(member).collect::<Vec<_>>().join("; ")
    };
    let message = format!("the records of `{name}` have moved since the plan (then {}; now {})", counts(planned), counts(&now));
    Err(Error::new(Code::PlanStale, message))
}
