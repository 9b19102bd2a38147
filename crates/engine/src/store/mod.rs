//! What is durable: behind a narrow trait, so that the engine knows no database.
//!
//! Everything that belongs together is one [`Transaction`]; transactions take effect in the order in which they were
//! submitted, all or nothing, and a reader sees every transaction submitted before its read, durable or not. The
//! engine acts on the outside world (acknowledges, writes) only after the transaction that says so is durable.

pub mod sqlite;

use crate::change::Position;
use crate::clock::Moment;
use crate::error::Result;
use crate::flight::Flight;
use crate::ledger::LedgerRow;
use crate::link::{FlightId, Link, LinkId, MemberIndex, Pending, ReviewId, SyncId};
use crate::record::{FeedName, SystemName};
use crate::references::{Awaited, References};
use crate::review::Review;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The address of a member's record in the store: sync, member and the key's bytes (see `Key::encode`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// The sync.
    pub sync: SyncId,
    /// The member.
    pub member: MemberIndex,
    /// The encoded key.
    pub key: Vec<u8>,
}

/// One durable step. Applied in the order of the fields.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    /// Feeds' new positions (empty position: the gap was accepted, begin anew).
    pub positions: Vec<(SystemName, FeedName, Position)>,
    /// Links to write, new or changed.
    pub links: Vec<Arc<Link>>,
    /// Links to forget (expired tombstones), with the keys that point at them.
    pub forgotten: Vec<LinkId>,
    /// Which link a member's record belongs to; `None` takes the key away.
    pub keys: Vec<(Address, Option<LinkId>)>,
    /// Pending observations; `None` clears.
    pub pending: Vec<(Address, Option<Pending>)>,
    /// Debts to be paid at a time (a write that is owed and not in flight); `None` clears.
    pub owed: Vec<(SyncId, MemberIndex, LinkId, Option<Moment>)>,
    /// What links wait for that refer to others, whole: an empty list when a link waits no longer.
    pub waits: Vec<(SyncId, LinkId, Vec<Awaited>)>,
    /// Match values in the course of being created somewhere; `None` clears.
    pub reservations: Vec<(SyncId, Vec<u8>, Option<LinkId>)>,
    /// Flights opened.
    pub opened: Vec<Arc<Flight>>,
    /// Flights of which every intent is closed.
    pub closed: Vec<FlightId>,
    /// Outcomes.
    pub ledger: Vec<LedgerRow>,
    /// Review items opened or changed (written whole, by id).
    pub reviews: Vec<Review>,
    /// Review items that are over: when, and how. An item that is not there is no error.
    pub closed_reviews: Vec<(ReviewId, Moment, String)>,
    /// Settings by name (snapshot cursors, approvals, pauses, layouts, plans …); `None` clears.
    pub settings: Vec<(String, Option<Vec<u8>>)>,
}

impl Transaction {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
            && self.links.is_empty()
            && self.forgotten.is_empty()
            && self.keys.is_empty()
            && self.pending.is_empty()
            && self.owed.is_empty()
            && self.waits.is_empty()
            && self.reservations.is_empty()
            && self.opened.is_empty()
            && self.closed.is_empty()
            && self.ledger.is_empty()
            && self.reviews.is_empty()
            && self.closed_reviews.is_empty()
            && self.settings.is_empty()
    }
}

/// What the store holds under one address.
#[derive(Clone, Debug, Default)]
pub struct Lookup {
    /// The link that the key belongs to.
    pub link: Option<LinkId>,
    /// What is pending there.
    pub pending: Option<Pending>,
}

/// A link with what is pending at its members.
#[derive(Clone, Debug)]
pub struct LinkState {
    /// The link.
    pub link: Link,
    /// Pending observations under the sides' keys, in the order of the sides.
    pub pending: Vec<Option<Pending>>,
}

/// What the store holds about some records.
#[derive(Clone, Debug, Default)]
pub struct Recalled {
    /// What is known under addresses: those asked for, and those of the links below.
    pub slots: BTreeMap<Address, Lookup>,
    /// The links asked for and those behind the addresses, as far as they are there.
    pub links: BTreeMap<LinkId, Arc<Link>>,
}

/// Numbers to go on from after a start.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The random id of this store, which marks carry.
    pub store: String,
    /// The highest link, flight and review number ever used.
    pub last_link: u64,
    /// See above.
    pub last_flight: u64,
    /// See above.
    pub last_review: u64,
}

/// How much there is, for status and bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Links of the sync, tombstones and detached ones as well.
    pub links: u64,
    /// Those whose record is alive.
    pub live: u64,
    /// Pending observations per member.
    pub pending: Vec<(MemberIndex, u64)>,
    /// Debts per member.
    pub owed: Vec<(MemberIndex, u64)>,
    /// Links that wait for records that they refer to.
    pub waiting: u64,
    /// Open review items.
    pub reviews: u64,
    /// Ledger rows.
    pub ledger: u64,
}

/// What is asked of the ledger.
#[derive(Clone, Debug, Default)]
pub struct LedgerQuery {
    /// The sync.
    pub sync: Option<SyncId>,
    /// One link.
    pub link: Option<LinkId>,
    /// A record by its key as people read it (for records that never got a link).
    pub key: Option<String>,
    /// The newest so many rows, newest first.
    pub limit: usize,
}

/// From which moment on what is kept is too young to go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ages {
    /// Ledger rows and closed reviews of these syncs stay from here on.
    pub of_syncs: BTreeMap<SyncId, Moment>,
    /// Those of every other sync, also of one that no configuration has any more.
    pub of_others: Moment,
    /// Settled tombstones stay from here on.
    pub tombstones: Moment,
}

impl Ages {
    /// From when on the rows of a sync stay.
    pub fn of(&self, sync: SyncId) -> Moment {
        self.of_syncs.get(&sync).copied().unwrap_or(self.of_others)
    }

    /// Before when rows of any sync may go.
    pub fn latest(&self) -> Moment {
        self.of_syncs.values().copied().fold(self.of_others, Moment::max)
    }
}

/// What is known of the records under these addresses and of these links, for whoever refers to them.
///
/// # Errors
/// What the store says.
pub async fn references(store: &dyn Store, addresses: Vec<Address>, links: Vec<LinkId>) -> Result<References> {
    let mut known = References::default();
    if addresses.is_empty() && links.is_empty() {
        return Ok(known);
    }
    let recalled = store.recall(addresses, links).await?;
    for (address, lookup) in recalled.slots {
        if let Some(link) = lookup.link {
            known.learn(address, link);
        }
    }
    recalled.links.values().for_each(|link| known.meet(link));
    Ok(known)
}

/// The engine's memory.
#[async_trait]
pub trait Store: Send + Sync {
    /// Submits a transaction. The answer comes when it is durable; transactions become durable in the order submitted.
    /// After a failure every later transaction fails too, until the store is opened anew.
    fn submit(&self, transaction: Transaction) -> oneshot::Receiver<Result<()>>;

    /// The store's identity and counters.
    async fn identity(&self) -> Result<Identity>;
    /// The number of a sync by its name, given out at first sight.
    async fn sync_id(&self, name: &str) -> Result<SyncId>;
    /// Every feed's stored position.
    async fn positions(&self) -> Result<Vec<(SystemName, FeedName, Position)>>;
    /// What is known under each address, in the order asked.
    async fn lookup(&self, addresses: Vec<Address>) -> Result<Vec<Lookup>>;
    /// Links with their pending observations, in the order asked; a link that is not there is left out.
    async fn links(&self, ids: Vec<LinkId>) -> Result<Vec<LinkState>>;
    /// Everything about the records under these addresses and of these links, in one look: the links behind the
    /// addresses, and what is known under every key of every link.
    async fn recall(&self, addresses: Vec<Address>, ids: Vec<LinkId>) -> Result<Recalled>;
    /// Up to `limit` links of a sync with a number above `after`, in the order of the numbers.
    async fn scan_links(&self, sync: SyncId, after: LinkId, limit: usize) -> Result<Vec<Link>>;
    /// Up to `limit` pending observations of a sync behind `after`, in the order of the addresses.
    async fn scan_pending(&self, sync: SyncId, after: Option<Address>, limit: usize) -> Result<Vec<(Address, Pending)>>;
    /// Up to `limit` debts of a member that are due, the longest due first.
    async fn owed(&self, sync: SyncId, member: MemberIndex, due: Moment, limit: usize) -> Result<Vec<LinkId>>;
    /// When the next debt of a member is due.
    async fn next_owed(&self, sync: SyncId, member: MemberIndex) -> Result<Option<Moment>>;
    /// Up to `limit` links above `after` that wait for this, in the order of their numbers.
    async fn waiting(&self, awaited: &Awaited, after: LinkId, limit: usize) -> Result<Vec<LinkId>>;
    /// Up to `limit` links of a sync above `after` that wait for anything, in the order of their numbers.
    async fn scan_waiting(&self, sync: SyncId, after: LinkId, limit: usize) -> Result<Vec<LinkId>>;
    /// What a link waits for.
    async fn waits_of(&self, sync: SyncId, link: LinkId) -> Result<Vec<Awaited>>;
    /// Which links hold these match values, in the order asked.
    async fn reserved(&self, sync: SyncId, values: Vec<Vec<u8>>) -> Result<Vec<Option<LinkId>>>;
    /// Every flight that was opened and not closed.
    async fn flights(&self) -> Result<Vec<Flight>>;
    /// A setting.
    async fn setting(&self, name: &str) -> Result<Option<Vec<u8>>>;
    /// Settings whose names begin so.
    async fn settings(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>>;
    /// Settings whose names begin so, in the order of their names, past this one.
    async fn settings_after(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Vec<u8>)>>;
    /// Review items, open ones or all, newest first.
    async fn reviews(&self, sync: Option<SyncId>, open_only: bool, limit: usize) -> Result<Vec<Review>>;
    /// Open review items of a sync in the order in which they were opened, past this one.
    async fn open_reviews(&self, sync: SyncId, after: ReviewId, limit: usize) -> Result<Vec<Review>>;
    /// One review item.
    async fn review(&self, id: ReviewId) -> Result<Option<Review>>;
    /// Ledger rows, newest first.
    async fn ledger(&self, query: LedgerQuery) -> Result<Vec<LedgerRow>>;
    /// How much there is.
    async fn counts(&self, sync: SyncId) -> Result<Counts>;
    /// Removes ledger rows, closed reviews and tombstones' links that are too old; returns how many rows.
    async fn expire(&self, ages: &Ages) -> Result<u64>;
}
