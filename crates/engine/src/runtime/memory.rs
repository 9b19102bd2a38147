//! The store as the deciding task reads it: what it lately wrote or read about records is kept here too, up to a limit
//! in bytes, and a record that is at work costs no look into the database. Never says anything that the store would not
//! say: whatever is submitted passes through here, and nobody but the deciding task writes links, keys or pending
//! observations. What goes by age alone (tombstones, which the store may forget by itself) is never kept.

use crate::change::EditTime;
use crate::clock::Moment;
use crate::error::Result;
use crate::link::{Group, Life, Link, LinkId, Pending, Shown, Side};
use crate::store::{Address, Lookup, Recalled, Store, Transaction};
use crate::value::Value;
use foldhash::fast::RandomState;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// What an entry costs beside what it holds.
const ENTRY_OVERHEAD: usize = 96;
/// About the bytes of a decimal number's digits.
const DECIMAL_BYTES: usize = 32;

/// The store with what is known of its contents. Everything but records goes straight to the store.
pub(crate) struct Memory {
    store: Arc<dyn Store>,
    hot: Mutex<Hot>,
}

impl Deref for Memory {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        &*self.store
    }
}

impl Memory {
    /// Remembers up to about `bytes` of a store of which nothing is known yet.
    pub fn new(store: Arc<dyn Store>, bytes: usize) -> Memory {
        Memory { store, hot: Mutex::new(Hot::new(bytes)) }
    }

    /// Submits a transaction; from now on it is what is remembered.
    pub fn submit(&self, transaction: Transaction) -> oneshot::Receiver<Result<()>> {
        self.hot().take_in(&transaction);
        self.store.submit(transaction)
    }

    /// What [`Store::recall`] says. Reads the store only for what is not remembered.
    pub async fn recall(&self, addresses: Vec<Address>, ids: Vec<LinkId>) -> Result<Recalled> {
        let mut known = Recalled::default();
        let (addresses, ids) = self.hot().recall(addresses, ids, &mut known);
        if addresses.is_empty() && ids.is_empty() {
            return Ok(known);
        }
        let mut read = self.store.recall(addresses, ids).await?;
        self.hot().learn(&read);
        known.slots.append(&mut read.slots);
        known.links.append(&mut read.links);
        Ok(known)
    }

    fn hot(&self) -> MutexGuard<'_, Hot> {
        self.hot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is remembered. A slot counts only while the link that it names is remembered too.
struct Hot {
    links: Generations<LinkId, Arc<Link>>,
    slots: Generations<Address, (LinkId, Option<Pending>)>,
    bytes_max: usize,
}

impl Hot {
    fn new(bytes_max: usize) -> Hot {
        Hot { links: Generations::new(), slots: Generations::new(), bytes_max }
    }

    /// Adds what is remembered of what is wanted to `known`; gives back what must be read.
    fn recall(&mut self, addresses: Vec<Address>, ids: Vec<LinkId>, known: &mut Recalled) -> (Vec<Address>, Vec<LinkId>) {
        let mut wanted: BTreeSet<LinkId> = ids.into_iter().collect();
        let mut unknown = Vec::new();
        for address in addresses {
            let slot = self.slots.get(&address).cloned();
            match slot.filter(|(link, _)| self.links.get(link).is_some()) {
                Some((link, pending)) => {
                    wanted.insert(link);
                    known.slots.insert(address, Lookup { link: Some(link), pending });
                }
                None => unknown.push(address),
            }
        }
        wanted.retain(|id| !self.copy_link(*id, known));
        (unknown, wanted.into_iter().collect())
    }

    /// Adds a link and what is under its keys to `known`; `false` where not all of that is remembered.
    fn copy_link(&mut self, id: LinkId, known: &mut Recalled) -> bool {
        let Some(link) = self.links.get(&id).cloned() else { return false };
        for (member, side) in link.sides.iter().enumerate() {
            let Some(key) = &side.key else { continue };
            let address = Address { sync: link.sync, member, key: key.encode() };
            // Where a key points at another link, that one is wanted too.
            let Some((_, pending)) = self.slots.get(&address).filter(|(owner, _)| *owner == id) else { return false };
            let lookup = Lookup { link: Some(id), pending: pending.clone() };
            known.slots.entry(address).or_insert(lookup);
        }
        known.links.insert(id, link);
        true
    }

    /// What a transaction makes of what is remembered.
    fn take_in(&mut self, transaction: &Transaction) {
        for link in &transaction.links {
            self.remember(link);
        }
        for id in &transaction.forgotten {
            self.links.remove(id);
        }
        for (address, link) in &transaction.keys {
            match (link, self.slots.get(address).map(|(_, pending)| pending.clone())) {
                (Some(link), Some(pending)) => self.remember_slot(address, *link, pending),
                // What is pending there is not known.
                (Some(_), None) => {}
                (None, _) => self.slots.remove(address),
            }
        }
        for (address, pending) in &transaction.pending {
            if let Some(link) = self.slots.get(address).map(|(link, _)| *link) {
                self.remember_slot(address, link, pending.clone());
            }
        }
        self.make_room();
    }

    fn learn(&mut self, read: &Recalled) {
        for link in read.links.values() {
            self.remember(link);
        }
        for (address, lookup) in &read.slots {
            if let Some(link) = lookup.link {
                self.remember_slot(address, link, lookup.pending.clone());
            }
        }
        self.make_room();
    }

    /// Tombstones are not remembered: the store may forget them by itself.
    fn remember(&mut self, link: &Arc<Link>) {
        match link.life {
            Life::Deleted { .. } => self.links.remove(&link.id),
            Life::Live | Life::Detached { .. } => self.links.insert(link.id, Arc::clone(link), link_weight(link)),
        }
    }

    fn remember_slot(&mut self, address: &Address, link: LinkId, pending: Option<Pending>) {
        let weight = slot_weight(address, pending.as_ref());
        self.slots.insert(address.clone(), (link, pending), weight);
    }

    fn make_room(&mut self) {
        if self.links.young_bytes.saturating_add(self.slots.young_bytes) > self.bytes_max / 2 {
            self.links.grow_old();
            self.slots.grow_old();
        }
    }
}

/// A map of two generations: what is used moves into the young one, and the old one is let go when the young one is
/// full. Costs one look-up more than a map, and keeps what was used last.
struct Generations<K, V> {
    young: HashMap<K, (V, usize), RandomState>,
    old: HashMap<K, (V, usize), RandomState>,
    young_bytes: usize,
}

impl<K: Hash + Eq, V> Generations<K, V> {
    fn new() -> Generations<K, V> {
        Generations { young: HashMap::default(), old: HashMap::default(), young_bytes: 0 }
    }

    fn get(&mut self, key: &K) -> Option<&V> {
        if !self.young.contains_key(key) {
            let (key, (value, weight)) = self.old.remove_entry(key)?;
            self.young_bytes = self.young_bytes.saturating_add(weight);
            self.young.insert(key, (value, weight));
        }
        self.young.get(key).map(|(value, _)| value)
    }

    fn insert(&mut self, key: K, value: V, weight: usize) {
        self.old.remove(&key);
        let before = self.young.insert(key, (value, weight)).map_or(0, |(_, weight)| weight);
        self.young_bytes = self.young_bytes.saturating_sub(before).saturating_add(weight);
    }

    fn remove(&mut self, key: &K) {
        self.old.remove(key);
        if let Some((_, weight)) = self.young.remove(key) {
            self.young_bytes = self.young_bytes.saturating_sub(weight);
        }
    }

    fn grow_old(&mut self) {
        // As many will be young again: the table need not grow step by step.
        let young = HashMap::with_capacity_and_hasher(self.young.len(), RandomState::default());
        self.old = std::mem::replace(&mut self.young, young);
        self.young_bytes = 0;
    }
}

/// About the bytes that a link takes.
fn link_weight(link: &Link) -> usize {
    let sides = link.sides.iter().map(|side| {
        let key = side.key.as_ref().map_or(0, |key| key.0.iter().map(value_weight).sum());
        size_of::<Side>() + cells_weight(&side.base) + side.version.0.len() + key + side.owes.len() * size_of::<usize>()
    });
    let groups = link.groups.iter().map(|group| {
        let agreed = group.agreed.as_ref().map_or(0, |agreed| agreed.values.iter().map(value_weight).sum());
        size_of::<Group>() + agreed + group.returns.len() * size_of::<(Moment, u64)>()
    });
    ENTRY_OVERHEAD + size_of::<Link>() + sides.sum::<usize>() + groups.sum::<usize>()
}

/// About the bytes that what is known under an address takes.
fn slot_weight(address: &Address, pending: Option<&Pending>) -> usize {
    let shown = |pending: &Pending| match &pending.shown {
        Shown::Present { cells, times, .. } => cells_weight(cells) + times.len() * size_of::<Option<EditTime>>(),
        Shown::Gone { .. } => 0,
    };
    let pending = pending.map_or(0, |pending| shown(pending) + pending.version.0.len());
    ENTRY_OVERHEAD + size_of::<Address>() + address.key.len() + size_of::<Pending>() + pending
}

fn cells_weight(cells: &[Option<Value>]) -> usize {
    cells.iter().map(|cell| cell.as_ref().map_or(size_of::<Value>(), value_weight)).sum()
}

fn value_weight(value: &Value) -> usize {
    let beside = match value {
        Value::Text(text) | Value::Enum(text) | Value::Reference(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::Json(json) => json.as_str().len(),
        Value::Array(values) => values.iter().map(value_weight).sum(),
        Value::Decimal(_) => DECIMAL_BYTES,
        _ => 0,
    };
    size_of::<Value>() + beside
}

#[cfg(test)]
mod tests;
