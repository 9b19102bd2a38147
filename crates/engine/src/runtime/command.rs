//! What can be asked of a running engine, and what it answers. Each command carries where its answer goes.

use crate::error::Result;
use crate::link::{MemberIndex, ReviewId, SyncId};
use crate::value::Value;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// A request to the running engine.
#[derive(Debug)]
pub struct Command {
    /// What is asked.
    pub request: Request,
    /// Where the answer goes: one sentence for the person who asked. Durable when it arrives.
    pub answer: oneshot::Sender<Result<String>>,
}

/// What can be asked.
#[derive(Clone, Debug)]
pub enum Request {
    /// Stop writing for a sync; its changes go on being recorded.
    Pause(SyncId),
    /// Go on.
    Resume(SyncId),
    /// Decide a review item.
    Resolve(ReviewId, Resolution),
    /// Read everything of a sync again (after a gap, or to repair).
    Reread(SyncId),
}

/// How a person decides a review item. Whatever is chosen is planned from the current state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Resolution {
    /// This member's value (a conflict), this member's view (delete against edit), or for an ambiguous match the
    /// candidate of this number.
    Take(MemberIndex),
    /// These canonical values, in the order of the group's fields.
    Give(Vec<Value>),
    /// Bind to this candidate (ambiguous match), counted from 0.
    Bind(usize),
    /// Treat the record as a new one (ambiguous match, duplicate).
    Create,
    /// Read the record again and try again; for a mass change, let the deletes through.
    Retry,
    /// Leave it as it is: the members may differ here until the record next changes; for a mass change, drop the
    /// deletes and make the records anew.
    Ignore,
    /// For what validation or a system refuses: these values instead, by canonical field, as people write them (`None`: no
    /// value); the rest of the record stays as it is.
    Repair(Vec<(String, Option<String>)>),
}
