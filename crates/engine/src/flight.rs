//! Intents: writes that are durable before they are made, so that a crash between a write and its settlement can be
//! told from a write that never was. A flight is a batch of them to one member, under one mark.

use crate::clock::Moment;
use crate::connector::Write;
use crate::link::{FlightId, LinkId, MemberIndex, SyncId};
use serde::{Deserialize, Serialize};

/// A batch of writes to one member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flight {
    /// Its number, which the mark of the writes names.
    pub id: FlightId,
    /// The sync.
    pub sync: SyncId,
    /// The member written to.
    pub member: MemberIndex,
    /// How many causal hops the writes are deep (every write of one flight is equally deep).
    pub hops: u32,
    /// When it was made durable.
    pub opened: Moment,
    /// The writes.
    pub intents: Vec<Intent>,
}

/// One write of a flight. Open exactly as long as its link's side names the flight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// The link written for; also the id of the write.
    pub link: LinkId,
    /// The write, with its guard.
    pub write: Write,
    /// The link's decision number when it was planned.
    pub decision: u64,
    /// When the newest edit that it carries was made, for the latency from commit to applied; the zero moment where no
    /// feed has told.
    pub edited: Moment,
}
