//! The identity of one record across the members of a sync, and what each member was last seen to show.
//! Plain data: `reconcile` decides over it, `settle` moves it on, the store keeps it. Values of a member are in that
//! member's own terms and stand in the order of the sync's canonical fields, so that comparing costs no look-up.

use crate::change::{EditTime, Version};
use crate::clock::Moment;
use crate::ledger::Rule;
use crate::record::Key;
use crate::value::Value;
use serde::{Deserialize, Serialize};

/// A sync's number in the store; stable for the life of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SyncId(pub u32);

/// A link's number; sequential, so that new links are written at the end of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LinkId(pub u64);

/// A flight's number: one batch of writes to one member, under one mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FlightId(pub u64);

/// A review item's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReviewId(pub u64);

/// The place of a member in its sync, in the order of the configuration (which is also its rank in a tie).
pub type MemberIndex = usize;
/// In the place of the member that a value came from: a person gave it.
pub const GIVEN: MemberIndex = MemberIndex::MAX;
/// In the place of the member that a value came from: that member no longer shows it (it was restored, or written over).
pub const NO_LONGER_SHOWN: MemberIndex = MemberIndex::MAX - 1;
/// The place of a canonical field in its sync.
pub type FieldIndex = usize;
/// The place of a field group in its sync.
pub type GroupIndex = usize;

/// Values in the order of the sync's canonical fields; `None` = not known, which is not null.
pub type Cells = Vec<Option<Value>>;

/// The identity of one record across the members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// Its number.
    pub id: LinkId,
    /// Its sync.
    pub sync: SyncId,
    /// Which list of canonical fields the cells stand in (a mapping may gain and lose fields).
    pub layout: u32,
    /// Grows by one with every decision that changed something.
    pub decision: u64,
    /// Whether the record is meant to exist.
    pub life: Life,
    /// One per member, in the sync's order.
    pub sides: Vec<Side>,
    /// One per field group, in the sync's order.
    pub groups: Vec<Group>,
    /// The whole link waits for a person.
    pub held: Option<LinkHold>,
}

/// A link that waits for a person as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkHold {
    /// The review item.
    pub review: ReviewId,
    /// Whether only a person ends it (a loop, a mass change). Otherwise (delete against edit) it is decided anew with
    /// every further observation, which may end it too.
    pub sticky: bool,
}

/// Whether the record behind a link is meant to exist.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Life {
    /// It is.
    Live,
    /// It was deleted; kept as a tombstone so that late observations do not bring it back.
    Deleted {
        /// Whose delete was followed.
        by: MemberIndex,
        /// When we decided so.
        at: Moment,
    },
    /// The members' records go their own ways.
    Detached {
        /// When we decided so.
        at: Moment,
    },
}

/// Whether a member holds the record, as far as we have seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Never seen there.
    Absent,
    /// Seen, and not seen to go.
    Present,
    /// Seen to go.
    Gone,
    /// Seen to go, and the sync's rule is to let it be gone there.
    LeftAlone,
    /// Still there, and marked as deleted by us (`on_delete: soft_delete`). Where the record lives on after all, the mark is
    /// to be taken off again.
    Marked,
}

/// What one member has to do with a link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// The record's native key there. Kept after a delete, so that the record can be made anew under it.
    pub key: Option<Key>,
    /// Whether the record is there.
    pub standing: Standing,
    /// The image last seen there and taken into account: what later observations are compared with and what the guard
    /// of our next write is made of.
    pub base: Cells,
    /// The version of the base.
    pub version: Version,
    /// The field groups whose agreed value this member does not show yet. Sorted.
    pub owes: Vec<GroupIndex>,
    /// Whether a create or delete is owed.
    pub owes_life: bool,
    /// The flight that carries a write to this member now.
    pub flight: Option<FlightId>,
    /// Whether the store's list of debts has a row for this side.
    pub queued: bool,
    /// When that row is due; the present debt is not paid before.
    pub due: Moment,
    /// Failed attempts at the present debt.
    pub attempts: u32,
    /// Guard misses in a row whose re-read showed nothing new.
    pub misses: u32,
    /// The review item that keeps this member from being written.
    pub blocked: Option<ReviewId>,
}

impl Link {
    /// A link of a sync with these numbers of members, fields and groups, of which nothing is known yet.
    pub fn new(id: LinkId, sync: SyncId, layout: u32, members: usize, fields: usize, groups: usize) -> Link {
        Link {
            id,
            sync,
            layout,
            decision: 0,
            life: Life::Live,
            sides: (0..members).map(|_| Side::absent(fields)).collect(),
            groups: vec![Group::default(); groups],
            held: None,
        }
    }

    /// Whether something about this record was decided under a mapping that has changed since, and can be decided again now.
    pub fn is_of_old_mapping(&self) -> bool {
        let mut agreed = self.groups.iter().filter_map(|group| group.agreed.as_ref());
        self.life == Life::Live && self.held.is_none() && agreed.any(|agreed| agreed.rule == Rule::OldMapping)
    }

    /// Whether a write for this link is under way somewhere.
    pub fn in_flight(&self) -> bool {
        self.sides.iter().any(|side| side.flight.is_some())
    }
}

impl Side {
    /// A side that was never seen, in a sync of `fields` canonical fields.
    pub fn absent(fields: usize) -> Side {
        Side {
            key: None,
            standing: Standing::Absent,
            base: vec![None; fields],
            version: Version::default(),
            owes: Vec::new(),
            owes_life: false,
            flight: None,
            queued: false,
            due: Moment::default(),
            attempts: 0,
            misses: 0,
            blocked: None,
        }
    }

    /// The record of this member is another one now, under this key: what was last seen of the one before is of no age to it.
    pub fn passes_to(&mut self, key: Key) {
        if self.key.as_ref() != Some(&key) {
            self.version = Version::default();
        }
        self.key = Some(key);
    }

    /// Whether a write to this member is owed, as far as the link tells.
    pub fn is_owing(&self) -> bool {
        self.owes_life || !self.owes.is_empty()
    }
}

/// What is agreed about one field group.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Group {
    /// The value last decided; `None` before the first decision (and for fields that the mapping has just gained).
    pub agreed: Option<Agreed>,
    /// Waits for a person.
    pub held: Option<Held>,
    /// Values that the group took through our writes lately, for the loop breaker: when, and a fingerprint.
    pub returns: Vec<(Moment, u64)>,
}

/// A decided value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agreed {
    /// Canonical values, in the order of the group's fields.
    pub values: Vec<Value>,
    /// The member that it came from.
    pub from: MemberIndex,
    /// When it was edited there.
    pub time: EditTime,
    /// The link's decision number at the time.
    pub decision: u64,
    /// How many causal hops it is deep.
    pub hops: u32,
    /// What decided for it.
    pub rule: Rule,
}

/// A group that waits for a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// The review item.
    pub review: ReviewId,
    /// The members whose values contend, with the times of their edits and their causal hops.
    pub contenders: Vec<(MemberIndex, EditTime, u32)>,
    /// Whether the record as such is in question (it failed validation), so that it is made nowhere meanwhile.
    pub rejects: bool,
}

/// What a member showed that has not been taken into account yet: observations folded into one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    /// The sync.
    pub sync: SyncId,
    /// The member.
    pub member: MemberIndex,
    /// The record's key now.
    pub key: Key,
    /// The record's key in the link, where a key change is among what was folded.
    pub old_key: Option<Key>,
    /// What it shows.
    pub shown: Shown,
    /// The version of the newest observation folded in.
    pub version: Version,
    /// The hops of the deepest observation folded in: 0 for a person's edit.
    pub hops: u32,
    /// Whether every observation folded in was the echo of a write of ours for this sync.
    pub echo: bool,
    /// When the first observation arrived.
    pub arrived: Moment,
    /// The layout of the cells.
    pub layout: u32,
}

/// What a pending observation shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Shown {
    /// The record is there.
    Present {
        /// What it shows; `None` = not shown.
        cells: Cells,
        /// When each field took its present value; `None` where the field was not shown.
        times: Vec<Option<EditTime>>,
        /// Whether every field was shown.
        full: bool,
        /// Whether a delete was folded in before: the record was made anew.
        anew: bool,
    },
    /// The record is gone.
    Gone {
        /// When.
        time: EditTime,
    },
}
