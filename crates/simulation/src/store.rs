//! A store in memory that keeps what a real one keeps and forgets what a real one forgets: a transaction is durable only
//! after a virtual fsync, and a crash takes back everything submitted since. Decides nothing.

use crate::random::Random;
use async_trait::async_trait;
use concord_engine::change::Position;
use concord_engine::clock::Moment;
use concord_engine::error::{Code, Error, Result};
use concord_engine::flight::Flight;
use concord_engine::ledger::LedgerRow;
use concord_engine::link::{FlightId, Life, Link, LinkId, MemberIndex, Pending, ReviewId, SyncId};
use concord_engine::record::{FeedName, Key, SystemName};
use concord_engine::references::Awaited;
use concord_engine::review::Review;
use concord_engine::store::{Address, Ages, Counts, Identity, LedgerQuery, LinkState, Lookup, Recalled, Store, Transaction};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};

#[derive(Clone, Default)]
struct Tables {
    syncs: Vec<String>,
    positions: BTreeMap<(SystemName, FeedName), Position>,
    links: BTreeMap<LinkId, Arc<Link>>,
    keys: BTreeMap<Address, LinkId>,
    pending: BTreeMap<Address, Pending>,
    owed: BTreeMap<(SyncId, MemberIndex, LinkId), Moment>,
    waits: BTreeMap<(SyncId, LinkId), Vec<Awaited>>,
    reservations: BTreeMap<(SyncId, Vec<u8>), LinkId>,
    flights: BTreeMap<FlightId, Arc<Flight>>,
    ledger: Vec<LedgerRow>,
    reviews: BTreeMap<ReviewId, Review>,
    settings: BTreeMap<String, Vec<u8>>,
    last_link: u64,
    last_flight: u64,
    last_review: u64,
}

impl Tables {
    fn take_in(&mut self, transaction: &Transaction) {
        for (system, feed, position) in &transaction.positions {
            self.positions.insert((system.clone(), feed.clone()), position.clone());
        }
        for link in &transaction.links {
            self.last_link = self.last_link.max(link.id.0);
            self.links.insert(link.id, Arc::clone(link));
        }
        for link in &transaction.forgotten {
            self.links.remove(link);
            self.keys.retain(|_, owner| owner != link);
            self.owed.retain(|(_, _, of), _| of != link);
            self.waits.retain(|(_, of), _| of != link);
        }
        for (address, link) in &transaction.keys {
            set(&mut self.keys, address.clone(), *link);
        }
        for (address, pending) in &transaction.pending {
            set(&mut self.pending, address.clone(), pending.clone());
        }
        for (sync, member, link, due) in &transaction.owed {
            set(&mut self.owed, (*sync, *member, *link), *due);
        }
        for (sync, link, awaited) in &transaction.waits {
            set(&mut self.waits, (*sync, *link), (!awaited.is_empty()).then(|| awaited.clone()));
        }
        for (sync, value, link) in &transaction.reservations {
            set(&mut self.reservations, (*sync, value.clone()), *link);
        }
        for flight in &transaction.opened {
            self.last_flight = self.last_flight.max(flight.id.0);
            self.flights.insert(flight.id, Arc::clone(flight));
        }
        for flight in &transaction.closed {
            self.flights.remove(flight);
        }
        self.ledger.extend(transaction.ledger.iter().cloned());
        for review in &transaction.reviews {
            self.last_review = self.last_review.max(review.id.0);
            self.reviews.insert(review.id, review.clone());
        }
        for (id, at, how) in &transaction.closed_reviews {
            if let Some(review) = self.reviews.get_mut(id) {
                review.closed = Some((*at, how.clone()));
            }
        }
        for (name, value) in &transaction.settings {
            set(&mut self.settings, name.clone(), value.clone());
        }
    }
}

fn set<K: Ord, V>(table: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => table.insert(key, value),
        None => table.remove(&key),
    };
}

/// What has been asked of a store since it was made: rows put, looks taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// Looks for records and their links, of one or of many.
    pub looks: usize,
    /// Links written.
    pub links: usize,
    /// Pending observations written.
    pub pending: usize,
    /// Debts written.
    pub owed: usize,
}

/// What the stage asks of a store beyond what the engine does.
#[async_trait]
pub trait Durable: Store {
    /// What has been asked of it, where that is counted.
    fn effort(&self) -> Effort {
        Effort::default()
    }
    /// Makes transactions durable, group by group. Never ends.
    async fn drive(&self);
    /// What a kill of the process leaves: what was durable.
    fn crash(&self);
    /// Puts a feed back to an earlier position, as if it had never moved on.
    fn rewind(&self, system: &SystemName, feed: &FeedName, position: &Position);
}

/// A transaction that waits for its fsync.
struct Waiting {
    transaction: Transaction,
    answer: oneshot::Sender<Result<()>>,
}

struct State {
    visible: Tables,
    durable: Tables,
    waiting: Vec<Waiting>,
    /// Grows with every crash: an fsync under way then ends without effect.
    life: u64,
    random: Random,
    effort: Effort,
}

/// The store in memory.
pub struct MemoryStore {
    state: Mutex<State>,
    wake: Notify,
    fsync_ms_max: u64,
}

impl MemoryStore {
    /// An empty store whose fsync takes up to so many milliseconds.
    pub fn new(random: Random, fsync_ms_max: u64) -> MemoryStore {
        let (visible, durable) = (Tables::default(), Tables::default());
        let state = State { visible, durable, waiting: Vec::new(), life: 0, random, effort: Effort::default() };
        MemoryStore { state: Mutex::new(state), wake: Notify::new(), fsync_ms_max }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look<T>(&self, look: impl FnOnce(&Tables) -> T) -> Result<T> {
        Ok(look(&self.state().visible))
    }
}

#[async_trait]
impl Durable for MemoryStore {
    fn effort(&self) -> Effort {
        self.state().effort
    }

    async fn drive(&self) {
        loop {
            let notified = self.wake.notified();
            let (group, life, wait) = {
                let mut state = self.state();
                let wait = state.random.millis(0, self.fsync_ms_max);
                (state.waiting.len(), state.life, wait)
            };
            if group == 0 {
                notified.await;
                continue;
            }
            tokio::time::sleep(wait).await;
            let mut state = self.state();
            if state.life != life {
                continue;
            }
            let done: Vec<Waiting> = state.waiting.drain(..group).collect();
            for waiting in done {
                state.durable.take_in(&waiting.transaction);
                // Whoever asked may be gone; the transaction is durable all the same.
                waiting.answer.send(Ok(())).ok();
            }
        }
    }

    fn crash(&self) {
        let mut state = self.state();
        state.life += 1;
        state.visible = state.durable.clone();
        state.waiting.clear();
    }

    fn rewind(&self, system: &SystemName, feed: &FeedName, position: &Position) {
        let mut state = self.state();
        let State { visible, durable, .. } = &mut *state;
        for tables in [visible, durable] {
            tables.positions.insert((system.clone(), feed.clone()), position.clone());
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn submit(&self, transaction: Transaction) -> oneshot::Receiver<Result<()>> {
        let (answer, receiver) = oneshot::channel();
        let mut state = self.state();
        let effort = &mut state.effort;
        effort.links += transaction.links.len();
        effort.pending += transaction.pending.iter().filter(|(_, pending)| pending.is_some()).count();
        effort.owed += transaction.owed.iter().filter(|(.., due)| due.is_some()).count();
        state.visible.take_in(&transaction);
        state.waiting.push(Waiting { transaction, answer });
        self.wake.notify_waiters();
        receiver
    }

    async fn identity(&self) -> Result<Identity> {
        self.look(|tables| Identity {
            store: "simulation".to_owned(),
            last_link: tables.last_link,
            last_flight: tables.last_flight,
            last_review: tables.last_review,
        })
    }

    async fn sync_id(&self, name: &str) -> Result<SyncId> {
        let mut state = self.state();
        let State { visible, durable, .. } = &mut *state;
        let place = visible.syncs.iter().position(|known| known == name).unwrap_or_else(|| {
            visible.syncs.push(name.to_owned());
            durable.syncs.clone_from(&visible.syncs);
            visible.syncs.len() - 1
        });
        let number = u32::try_from(place + 1).map_err(|_| Error::new(Code::StoreFailed, "too many syncs"))?;
        Ok(SyncId(number))
    }

    async fn positions(&self) -> Result<Vec<(SystemName, FeedName, Position)>> {
        self.look(|tables| {
            let rows = tables.positions.iter();
            rows.map(|((system, feed), position)| (system.clone(), feed.clone(), position.clone())).collect()
        })
    }

    async fn lookup(&self, addresses: Vec<Address>) -> Result<Vec<Lookup>> {
        self.look(|tables| addresses.iter().map(|address| lookup(tables, address)).collect())
    }

    async fn links(&self, ids: Vec<LinkId>) -> Result<Vec<LinkState>> {
        self.look(|tables| {
            let links = ids.iter().filter_map(|id| tables.links.get(id));
            links.map(|link| LinkState { link: Link::clone(link), pending: pending_of(tables, link) }).collect()
        })
    }

    async fn recall(&self, addresses: Vec<Address>, ids: Vec<LinkId>) -> Result<Recalled> {
        self.state().effort.looks += 1;
        self.look(|tables| {
            let mut recalled = Recalled::default();
            let (mut addresses, mut ids) = (addresses, ids);
            while !addresses.is_empty() || !ids.is_empty() {
                for address in std::mem::take(&mut addresses) {
                    let lookup = lookup(tables, &address);
                    ids.extend(lookup.link.filter(|id| !recalled.links.contains_key(id)));
                    recalled.slots.insert(address, lookup);
                }
                for id in std::mem::take(&mut ids) {
                    let Some(link) = tables.links.get(&id) else { continue };
                    let of_link = addresses_of(link).into_iter().flatten();
                    addresses.extend(of_link.filter(|address| !recalled.slots.contains_key(address)));
                    recalled.links.insert(id, Arc::clone(link));
                }
            }
            recalled
        })
    }

    async fn scan_links(&self, sync: SyncId, after: LinkId, limit: usize) -> Result<Vec<Link>> {
        self.look(|tables| {
            let links = tables.links.range((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded));
            links.map(|(_, link)| link).filter(|link| link.sync == sync).take(limit).map(|link| Link::clone(link)).collect()
        })
    }

    async fn scan_pending(&self, sync: SyncId, after: Option<Address>, limit: usize) -> Result<Vec<(Address, Pending)>> {
        self.look(|tables| {
            let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
            let rows = tables.pending.range((from, std::ops::Bound::Unbounded));
            let rows = rows.filter(|(address, _)| address.sync == sync).take(limit);
            rows.map(|(address, pending)| (address.clone(), pending.clone())).collect()
        })
    }

    async fn owed(&self, sync: SyncId, member: MemberIndex, due: Moment, limit: usize) -> Result<Vec<LinkId>> {
        self.look(|tables| {
            let mut rows: Vec<(Moment, LinkId)> = debts(tables, sync, member).filter(|(at, _)| *at <= due).collect();
            rows.sort();
            rows.into_iter().take(limit).map(|(_, link)| link).collect()
        })
    }

    async fn next_owed(&self, sync: SyncId, member: MemberIndex) -> Result<Option<Moment>> {
        self.look(|tables| debts(tables, sync, member).map(|(at, _)| at).min())
    }

    async fn waiting(&self, awaited: &Awaited, after: LinkId, limit: usize) -> Result<Vec<LinkId>> {
        self.look(|tables| {
            let mut waiting: Vec<LinkId> =
                tables.waits.iter().filter(|(_, of)| of.contains(awaited)).map(|((_, link), _)| *link).collect();
            waiting.sort_unstable();
            waiting.into_iter().filter(|link| *link > after).take(limit).collect()
        })
    }

    async fn scan_waiting(&self, sync: SyncId, after: LinkId, limit: usize) -> Result<Vec<LinkId>> {
        self.look(|tables| {
            let of_sync = tables.waits.keys().filter(|(of, link)| *of == sync && *link > after);
            of_sync.map(|(_, link)| *link).take(limit).collect()
        })
    }

    async fn waits_of(&self, sync: SyncId, link: LinkId) -> Result<Vec<Awaited>> {
        self.look(|tables| tables.waits.get(&(sync, link)).cloned().unwrap_or_default())
    }

    async fn reserved(&self, sync: SyncId, values: Vec<Vec<u8>>) -> Result<Vec<Option<LinkId>>> {
        self.look(|tables| values.into_iter().map(|value| tables.reservations.get(&(sync, value)).copied()).collect())
    }

    async fn flights(&self) -> Result<Vec<Flight>> {
        self.look(|tables| tables.flights.values().map(|flight| Flight::clone(flight)).collect())
    }

    async fn setting(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.look(|tables| tables.settings.get(name).cloned())
    }

    async fn settings(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>> {
        self.look(|tables| {
            let rows = tables.settings.iter().filter(|(name, _)| name.starts_with(prefix));
            rows.map(|(name, value)| (name.clone(), value.clone())).collect()
        })
    }

    async fn settings_after(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Vec<u8>)>> {
        let mut found = self.settings(prefix).await?;
        found.retain(|(name, _)| after.is_none_or(|after| name.as_str() > after));
        found.truncate(limit);
        Ok(found)
    }

    async fn reviews(&self, sync: Option<SyncId>, open_only: bool, limit: usize) -> Result<Vec<Review>> {
        self.look(|tables| {
            let rows = tables.reviews.values().rev();
            let rows = rows.filter(|review| sync.is_none_or(|sync| review.sync == sync));
            rows.filter(|review| !open_only || review.closed.is_none()).take(limit).cloned().collect()
        })
    }

    async fn open_reviews(&self, sync: SyncId, after: ReviewId, limit: usize) -> Result<Vec<Review>> {
        self.look(|tables| {
            let rows = tables.reviews.values().filter(|review| review.sync == sync && review.closed.is_none());
            rows.filter(|review| review.id > after).take(limit).cloned().collect()
        })
    }

    async fn review(&self, id: ReviewId) -> Result<Option<Review>> {
        self.look(|tables| tables.reviews.get(&id).cloned())
    }

    async fn ledger(&self, query: LedgerQuery) -> Result<Vec<LedgerRow>> {
        self.look(|tables| {
            let rows = tables.ledger.iter().rev();
            let rows = rows.filter(|row| query.sync.is_none_or(|sync| row.sync == sync));
            let rows = rows.filter(|row| query.link.is_none_or(|link| row.link == Some(link)));
            let rows = rows.filter(|row| query.key.as_ref().is_none_or(|key| row.key == *key));
            rows.take(query.limit).cloned().collect()
        })
    }

    async fn counts(&self, sync: SyncId) -> Result<Counts> {
        self.look(|tables| {
            let mut pending: BTreeMap<MemberIndex, u64> = BTreeMap::new();
            for address in tables.pending.keys().filter(|address| address.sync == sync) {
                *pending.entry(address.member).or_default() += 1;
            }
            let mut owed: BTreeMap<MemberIndex, u64> = BTreeMap::new();
            for (_, member, _) in tables.owed.keys().filter(|(of, _, _)| *of == sync) {
                *owed.entry(*member).or_default() += 1;
            }
            let open = |review: &&Review| review.sync == sync && review.closed.is_none();
            Counts {
                links: count(tables.links.values().filter(|link| link.sync == sync)),
                live: count(tables.links.values().filter(|link| link.sync == sync && link.life == Life::Live)),
                pending: pending.into_iter().collect(),
                owed: owed.into_iter().collect(),
                waiting: count(tables.waits.keys().filter(|(of, _)| *of == sync)),
                reviews: count(tables.reviews.values().filter(open)),
                ledger: count(tables.ledger.iter().filter(|row| row.sync == sync)),
            }
        })
    }

    async fn expire(&self, ages: &Ages) -> Result<u64> {
        let expired = {
            let mut state = self.state();
            let State { visible, durable, .. } = &mut *state;
            let mut expired = 0;
            for tables in [durable, visible] {
                let rows = tables.ledger.len() + tables.links.len();
                tables.ledger.retain(|row| row.at >= ages.of(row.sync));
                let old: Vec<LinkId> = tables.links.values().filter(|link| is_old(link, ages.tombstones)).map(|l| l.id).collect();
                tables.take_in(&Transaction { forgotten: old, ..Transaction::default() });
                expired = rows - tables.ledger.len() - tables.links.len();
            }
            expired
        };
        Ok(u64::try_from(expired).unwrap_or(u64::MAX))
    }
}

fn is_old(link: &Link, before: Moment) -> bool {
    matches!(link.life, concord_engine::link::Life::Deleted { at, .. } if at < before)
}

fn debts(tables: &Tables, sync: SyncId, member: MemberIndex) -> impl Iterator<Item = (Moment, LinkId)> {
    let of_member = move |((of, to, _), _): &(&(SyncId, MemberIndex, LinkId), &Moment)| *of == sync && *to == member;
    tables.owed.iter().filter(of_member).map(|((_, _, link), at)| (*at, *link))
}

fn count<T>(items: impl Iterator<Item = T>) -> u64 {
    u64::try_from(items.count()).unwrap_or(u64::MAX)
}

fn pending_of(tables: &Tables, link: &Link) -> Vec<Option<Pending>> {
    addresses_of(link).into_iter().map(|address| tables.pending.get(&address?).cloned()).collect()
}

fn addresses_of(link: &Link) -> Vec<Option<Address>> {
    let address =
        |(member, key): (MemberIndex, &Option<Key>)| Some(Address { sync: link.sync, member, key: key.as_ref()?.encode() });
    link.sides.iter().map(|side| &side.key).enumerate().map(address).collect()
}

fn lookup(tables: &Tables, address: &Address) -> Lookup {
    Lookup { link: tables.keys.get(address).copied(), pending: tables.pending.get(address).cloned() }
}
