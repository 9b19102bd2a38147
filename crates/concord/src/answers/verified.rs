//! Verifications: asked of the process that runs or made by a command alone, and what the last one found, which the status
//! tells. Compares and remembers; what is done about a difference is the engine's.

use super::description::commit;
use super::{Answerer, Running};
use crate::setup::{LeftOut, Prepared, PreparedSync};
use concord_engine::clock::Clock;
use concord_engine::error::{Code, Error, Result};
use concord_engine::mirror::{self, Mode};
use concord_engine::runtime::status::{LastVerified, Status, SyncStatus};
use concord_engine::store::{Store, Transaction};
use concord_engine::verify::{self, SyncVerification};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// Settings of this prefix hold what the last verification of a sync found, by its name.
const PREFIX: &str = "verified/";
/// The longest wait until a repair has been carried out before both sides are compared again.
const REPAIR_WAIT_MAX: Duration = Duration::from_secs(300);

/// What a verification found.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Verified {
    /// One per sync: as it is after the repairs, where there were any.
    pub syncs: Vec<SyncVerification>,
    /// What was done about what differed.
    pub repairs: Vec<String>,
    /// The syncs with changes under way that nothing carries over now, each with the reason: those arrive nowhere.
    #[serde(default)]
    pub not_carried: Vec<(String, String)>,
    /// The syncs that were asked for and could not be compared: nothing is known of them.
    #[serde(default)]
    pub not_compared: Vec<LeftOut>,
}

impl Verified {
    /// Whether nothing differs.
    pub fn is_equal(&self) -> bool {
        self.syncs.iter().all(|sync| self.is_level(sync))
    }

    /// The names of the syncs that differ.
    pub fn differing(&self) -> Vec<String> {
        self.syncs.iter().filter(|sync| !self.is_level(sync)).map(|sync| sync.name.clone()).collect()
    }

    /// Whether the members of a sync are equal, or will be without anybody's doing.
    pub fn is_level(&self, sync: &SyncVerification) -> bool {
        sync.is_equal() && self.why_not_carried(sync).is_none()
    }

    /// How many records of a sync differ, or stand on one side only: what is under way counts where nothing carries it over.
    pub fn differing_of(&self, sync: &SyncVerification) -> u64 {
        let stuck = self.why_not_carried(sync).map_or(0, |_| sync.under_way);
        sync.differing.saturating_add(sync.unlinked.iter().sum()).saturating_add(stuck)
    }

    /// Why nothing carries over what is under way in a sync; `None` where it arrives, or nothing is.
    pub fn why_not_carried(&self, sync: &SyncVerification) -> Option<&str> {
        self.not_carried.iter().find(|(name, _)| *name == sync.name).map(|(_, why)| why.as_str())
    }
}

/// Verifies the syncs of these names, or every one where none is named, and remembers what was found. `idle` says of a sync
/// why nothing is carried over in it now, where that is so.
pub async fn all(
    prepared: &Prepared,
    store: &dyn Store,
    clock: &dyn Clock,
    names: &[String],
    idle: impl Fn(&str) -> Option<String>,
) -> Result<Verified> {
    let mut report = Verified::default();
    let is_wanted = |sync: &&PreparedSync| names.is_empty() || names.iter().any(|name| sync.rules.name.as_str() == name);
    for sync in prepared.syncs.iter().filter(is_wanted) {
        let connectors = prepared.connectors_of(&sync.rules)?;
        report.syncs.push(match sync.mode {
            Mode::Mirror => mirror::verify(&Arc::new(sync.rules.clone()), store, &connectors, clock).await?,
            Mode::Reconcile(_) => verify::verify(&sync.rules, store, &connectors, clock).await?,
        });
        let under_way = report.syncs.last().is_some_and(|sync| sync.under_way > 0);
        if let Some(why) = idle(sync.rules.name.as_str()).filter(|_| under_way) {
            report.not_carried.push((sync.rules.name.to_string(), why));
        }
    }
    remember(store, &report).await?;
    Ok(report)
}

/// Verifies while the engine runs in this process. A repair is waited for, within bounds, and looked at again.
pub(super) async fn while_running(answerer: &Answerer, names: &[String], repair: bool) -> Result<Verified> {
    let Some(running) = &answerer.running else {
        return Err(Error::new(Code::ControlFailed, "the process is starting and has no systems yet; try again"));
    };
    let (mut compared, mut left_out) = (Vec::new(), Vec::new());
    for name in names {
        match why_not(answerer, running, name) {
            None => compared.push(name.clone()),
            Some(error) => left_out.push((name.clone(), error)),
        }
    }
    // Nothing is said of a sync that could not be looked at.
    if let Some((_, error)) = left_out.first().filter(|_| compared.is_empty()) {
        return Err(error.clone());
    }
    let names = compared.as_slice();
    let not_compared: Vec<LeftOut> = left_out.iter().map(LeftOut::of).collect();
    let idle = |name: &str| is_idle(&running.status.borrow(), name);
    let before = all(&running.prepared, &*answerer.store, &*answerer.clock, names, idle).await?;
    // A sync that stopped at a gap goes on by being read again, equal or not.
    let differing: Vec<String> = before
        .syncs
        .iter()
        .filter(|sync| !sync.is_equal() || is_at_a_gap(&running.status.borrow(), &sync.name))
        .map(|sync| sync.name.clone())
        .collect();
    if !repair || differing.is_empty() {
        return Ok(Verified { not_compared, ..before });
    }
    let mut repairs = Vec::new();
    for sync in &differing {
        repairs.push(answerer.read_again(running, sync).await?);
    }
    let mut status = running.status.clone();
    // The status that is there was published before the request.
    status.mark_unchanged();
    let levelled = async {
        while status.changed().await.is_ok() {
            let is_done = |sync: &SyncStatus| sync.level || sync.stage.starts_with("stopped") || !differing.contains(&sync.name);
            if status.borrow_and_update().syncs.iter().all(is_done) {
                return;
            }
        }
    };
    if tokio::time::timeout(REPAIR_WAIT_MAX, levelled).await.is_err() {
        repairs.push("the repair is still under way: verify again later".into());
    }
    let after = all(&running.prepared, &*answerer.store, &*answerer.clock, names, idle).await?;
    Ok(Verified { repairs, not_compared, ..after })
}

/// Why the process that runs cannot compare a sync.
fn why_not(answerer: &Answerer, running: &Running, name: &str) -> Option<Error> {
    let waits = running.status.borrow().syncs.iter().find(|sync| sync.name == name).and_then(|sync| {
        let why = sync.stage.strip_prefix("waiting: ").or(sync.stage.strip_prefix("stopped: "))?;
        let code = sync.code?;
        let why = why.strip_prefix(&code.to_string()).map_or(why, str::trim_start);
        Some(Error::new(code, why))
    });
    match (running.runs(name), answerer.sync(name)) {
        (true, _) => None,
        (false, Err(unknown)) if !running.knows(name) => Some(waits.unwrap_or(unknown)),
        (false, _) => Some(waits.unwrap_or_else(|| {
            let message = format!("the process that runs with this store does not run the sync `{name}`");
            Error::new(Code::UnknownSync, message)
        })),
    }
}

/// Why nothing is carried over in a sync now, if that is so: it is paused, stopped, or waits for a person or for its hours.
fn is_idle(status: &Status, name: &str) -> Option<String> {
    let stage = &status.syncs.iter().find(|sync| sync.name == name)?.stage;
    let idle = ["paused", "stopped", "waiting", "not running"].iter().any(|idle| stage.starts_with(idle));
    idle.then(|| stage.clone())
}

/// Whether a sync stopped because changes may be missing from one of its feeds.
pub fn is_at_a_gap(status: &Status, name: &str) -> bool {
    let is_at_one = |sync: &SyncStatus| sync.stage.starts_with("stopped") && sync.code.is_some_and(Code::is_gap);
    status.syncs.iter().any(|sync| sync.name == name && is_at_one(sync))
}

async fn remember(store: &dyn Store, report: &Verified) -> Result<()> {
    let mut settings = Vec::new();
    for sync in &report.syncs {
        let last = LastVerified {
            through: sync.through.clone(),
            equal: report.is_level(sync),
            records: sync.links,
            differing: report.differing_of(sync),
        };
        let bytes = serde_json::to_vec(&last)
            .map_err(|error| Error::new(Code::Internal, "a verification cannot be written down").because(error))?;
        settings.push((format!("{PREFIX}{}", sync.name), Some(bytes)));
    }
    commit(store, Transaction { settings, ..Transaction::default() }).await
}

/// Adds what the last verifications found to a status.
pub async fn add_to(status: &mut Status, store: &dyn Store) -> Result<()> {
    for (name, bytes) in store.settings(PREFIX).await? {
        let name = name.strip_prefix(PREFIX).unwrap_or(&name);
        if let Some(sync) = status.syncs.iter_mut().find(|sync| sync.name == name) {
            // What cannot be read is a later version's: it is as if nobody had verified yet.
            sync.verified = serde_json::from_slice(&bytes).ok();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(stage: &str) -> Status {
        let sync = SyncStatus { name: "accounts".into(), stage: stage.into(), ..SyncStatus::default() };
        Status { syncs: vec![sync], ..Status::default() }
    }

    #[test]
    fn what_is_under_way_arrives_only_where_something_carries_it_over() {
        let of = |stage: &str| is_idle(&status(stage), "accounts");
        for stage in ["paused", "stopped: CON-2008 the slot is gone", "waiting for approval", "waiting until 9:00", "waiting: x"]
        {
            assert_eq!(of(stage).as_deref(), Some(stage));
        }
        assert_eq!(["live", "loading", "preparing"].map(of), [const { None }; 3]);

        let sync = SyncVerification { name: "accounts".into(), links: 3, equal: 1, under_way: 2, ..SyncVerification::default() };
        let mut report = Verified { syncs: vec![sync.clone()], ..Verified::default() };
        assert!(report.is_equal() && report.differing_of(&sync) == 0);
        report.not_carried.push(("accounts".into(), "paused".into()));
        assert!(!report.is_equal() && report.differing_of(&sync) == 2);
        assert_eq!(report.differing(), ["accounts"]);
    }
}
