//! What people say while nothing runs. A pause is written where the engine looks for it; a decision about a review item is
//! kept in the store and handed to the engine when it next starts, in the order in which it was said, and forgotten once
//! the engine has answered.

use super::description::{Description, commit};
use super::{Answerer, Running};
use crate::control::Decision;
use concord_engine::error::{Code, Error, Result};
use concord_engine::link::SyncId;
use concord_engine::runtime::standstill;
use concord_engine::store::{Store, Transaction};
use serde::{Deserialize, Serialize};

/// Settings of this prefix hold one waiting decision each.
const PREFIX: &str = "queued/";

/// A decision that waits for the engine's start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Queued {
    /// The review item.
    id: u64,
    /// The decision.
    decision: Decision,
}

/// Where the engine keeps that a sync is paused.
fn pause_setting(sync: &Description) -> String {
    format!("paused/{}", sync.id)
}

/// Pauses a sync, or ends its pause, for the next start.
pub async fn pause(answerer: &Answerer, sync: &Description, pause: bool) -> Result<String> {
    let mut settings = vec![(pause_setting(sync), pause.then(|| b"1".to_vec()))];
    if !pause {
        settings.push((standstill::setting(SyncId(sync.id)), None));
    }
    commit(&*answerer.store, Transaction { settings, ..Transaction::default() }).await?;
    Ok(format!(
        "{} {}",
        sync.name,
        if pause { "is paused: it will write nothing until it is resumed" } else { "will go on when it runs" }
    ))
}

/// Whether a sync is paused.
async fn is_paused(answerer: &Answerer, sync: &Description) -> Result<bool> {
    Ok(answerer.store.setting(&pause_setting(sync)).await?.is_some())
}

/// What `status` says of a sync while nothing runs.
pub async fn stage_at_rest(answerer: &Answerer, sync: &Description) -> Result<String> {
    let kept = answerer.store.setting(&standstill::setting(SyncId(sync.id))).await?;
    Ok(match kept.and_then(|bytes| standstill::read(&bytes)) {
        Some(error) => format!("not running (stopped: {error})"),
        None if is_paused(answerer, sync).await? => "not running (paused)".into(),
        None => "not running".into(),
    })
}

/// Keeps a decision about a review item.
pub async fn decide(answerer: &Answerer, id: u64, decision: &Decision) -> Result<String> {
    let queued = Queued { id, decision: decision.clone() };
    let bytes =
        serde_json::to_vec(&queued).map_err(|error| Error::new(Code::Internal, "a decision cannot be written").because(error))?;
    // The moment makes the order.
    let setting = format!("{PREFIX}{:020}/{id}", answerer.clock.now().micros());
    commit(&*answerer.store, Transaction { settings: vec![(setting, Some(bytes))], ..Transaction::default() }).await?;
    Ok(format!("review {id}: the decision is kept and takes effect when `concord run` next starts"))
}

/// Everything that waits, in the order in which it was said.
async fn waiting(store: &dyn Store) -> Result<Vec<(String, Queued)>> {
    let mut settings = store.settings(PREFIX).await?;
    settings.sort_by(|(a, _), (b, _)| a.cmp(b));
    let read = |(name, bytes): (String, Vec<u8>)| match serde_json::from_slice(&bytes) {
        Ok(queued) => Ok((name, queued)),
        Err(error) => Err(Error::new(Code::StoreFailed, format!("the kept decision {name} cannot be read")).because(error)),
    };
    settings.into_iter().map(read).collect()
}

/// Hands everything that waits to the engine. A decision that no longer fits is logged and forgotten: its item is still
/// open, and asks again.
pub async fn deliver(answerer: &Answerer, running: &Running) -> Result<()> {
    for (name, Queued { id, decision }) in waiting(&*answerer.store).await? {
        match answerer.review_request(running, id, &decision).await {
            Ok(said) => tracing::info!(review = id, %said, "a decision made while nothing ran took effect"),
            Err(error) if error.code == Code::ControlFailed => return Err(error),
            // Its sync does not run yet: it waits for a system, or comes with another file.
            Err(error) if error.code == Code::UnknownSync => {
                tracing::info!(review = id, "a decision made while nothing ran waits until its sync runs");
                continue;
            }
            Err(error) => tracing::warn!(review = id, error = %error.chain(), "a decision made while nothing ran no longer fits"),
        }
        commit(&*answerer.store, Transaction { settings: vec![(name, None)], ..Transaction::default() }).await?;
    }
    Ok(())
}
