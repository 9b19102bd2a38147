//! What people decide while nothing runs: kept in the store, and handed to the engine when it next starts, in the order
//! in which it was said. Taking it over and forgetting it is one step, so nothing is done twice or lost.

use super::description::{Description, commit};
use super::{Answerer, Running};
use crate::control::Decision;
use concord_engine::error::{Code, Error, Result};
use concord_engine::store::{Store, Transaction};
use serde::{Deserialize, Serialize};

/// Settings of this prefix hold one waiting decision each.
const PREFIX: &str = "queued/";

/// Something that waits for the engine's start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Queued {
    /// A pause, or its end.
    Pause {
        /// The sync's name.
        sync: String,
        /// Pause or go on.
        pause: bool,
    },
    /// A decision about a review item.
    Decide {
        /// The item.
        id: u64,
        /// The decision.
        decision: Decision,
    },
}

/// Keeps something for the next start.
async fn keep(answerer: &Answerer, name: String, queued: &Queued) -> Result<()> {
    let bytes = serde_json::to_vec(queued).map_err(|error| Error::new(Code::Internal, "a decision cannot be written").because(error))?;
    // The moment makes the order; the name makes two decisions about one thing at one moment one.
    let setting = format!("{PREFIX}{:020}/{name}", answerer.clock.now().micros());
    commit(&*answerer.store, Transaction { settings: vec![(setting, Some(bytes))], ..Transaction::default() }).await
}

/// Keeps a pause, or its end.
pub async fn pause(answerer: &Answerer, sync: &Description, pause: bool) -> Result<String> {
    keep(answerer, format!("pause/{}", sync.name), &Queued::Pause { sync: sync.name.clone(), pause }).await?;
    let what = if pause { "will be paused" } else { "will go on" };
    Ok(format!("{}: {what} when `concord run` next starts", sync.name))
}

/// Keeps a decision about a review item.
pub async fn decide(answerer: &Answerer, id: u64, decision: &Decision) -> Result<String> {
    keep(answerer, format!("review/{id}"), &Queued::Decide { id, decision: decision.clone() }).await?;
    Ok(format!("review {id}: the decision is kept and takes effect when `concord run` next starts"))
}

/// Everything that waits, in the order in which it was said.
async fn waiting(store: &dyn Store) -> Result<Vec<(String, Queued)>> {
    let mut settings = store.settings(PREFIX).await?;
    settings.sort_by(|(a, _), (b, _)| a.cmp(b));
    settings
        .into_iter()
        .map(|(name, bytes)| {
            let queued = serde_json::from_slice(&bytes)
                .map_err(|error| Error::new(Code::StoreFailed, format!("the kept decision {name} cannot be read")).because(error))?;
            Ok((name, queued))
        })
        .collect()
}

/// Whether the last thing said about a sync was to pause it.
pub async fn is_paused(answerer: &Answerer, sync: &Description) -> Result<bool> {
    let said = waiting(&*answerer.store).await?.into_iter().rev().find_map(|(_, queued)| match queued {
        Queued::Pause { sync: name, pause } if name == sync.name => Some(pause),
        _ => None,
    });
    Ok(said.unwrap_or(false))
}

/// Hands everything that waits to the engine. A decision that no longer fits is logged and forgotten: its item is still
/// open, and asks again.
pub async fn deliver(answerer: &Answerer, running: &Running) -> Result<()> {
    for (name, queued) in waiting(&*answerer.store).await? {
        let outcome = match &queued {
            Queued::Pause { sync, pause } => answerer.pause(Some(sync.as_str()), *pause).await.map(|_| String::new()),
            Queued::Decide { id, decision } => answerer.review_request(running, *id, decision).await,
        };
        match outcome {
            Ok(said) => tracing::info!(%said, "a decision made while nothing ran took effect"),
            Err(error) if error.code == Code::ControlFailed => return Err(error),
            Err(error) => tracing::warn!(error = %error.chain(), "a decision made while nothing ran no longer fits"),
        }
        commit(&*answerer.store, Transaction { settings: vec![(name, None)], ..Transaction::default() }).await?;
    }
    Ok(())
}
