//! What is known of a flight once it has left, until it has landed. Plain data in memory: after a crash a flight is in doubt,
//! and what was answered is found out again.

use crate::change::Version;
use crate::clock::Moment;
use crate::connector::Operation;
use crate::flight::Flight;
use crate::link::LinkId;
use crate::record::{Key, Record};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A flight under way.
pub(crate) struct Airborne {
    pub flight: Arc<Flight>,
    pub sync: usize,
    /// Whether a first load has filled it.
    pub is_load: bool,
    /// Whether the call has come back (or belonged to an earlier run) and what is left of it is in doubt.
    pub in_doubt: bool,
    /// Whether the fence that is being waited for was set after the doubt arose.
    pub fenced: bool,
    /// Whether its records are being read, the feed having proven nothing.
    pub verifying: bool,
    /// Since when its records are read, time and again: they may still come to show what was written.
    pub read_since: Option<Moment>,
    /// Not looked at before: what it was to make may still come, or its feed is about to tell of it.
    pub again_at: Option<Moment>,
    /// What was answered for writes that the feed is yet to tell of, and when: see `settle`.
    pub answers: BTreeMap<LinkId, Answer>,
}

/// That a write happened, as the call said it.
#[derive(Clone)]
pub(crate) struct Answer {
    pub at: Moment,
    pub key: Key,
    pub image: Option<Record>,
    pub version: Version,
}

impl Airborne {
    /// A flight that sets out, or one of an earlier run, of which nobody knows what became.
    pub fn new(flight: Arc<Flight>, sync: usize, in_doubt: bool) -> Airborne {
        let (read_since, again_at, answers) = (None, None, BTreeMap::new());
        Airborne { flight, sync, is_load: false, in_doubt, fenced: false, verifying: false, read_since, again_at, answers }
    }

    /// Whether any of its writes makes a record.
    pub fn creates(&self) -> bool {
        self.flight.intents.iter().any(|intent| matches!(intent.write.operation, Operation::Create { .. }))
    }
}
