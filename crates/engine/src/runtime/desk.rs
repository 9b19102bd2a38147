//! The records that one event is about, as the store holds them plus what the event has changed so far. Loaded in one
//! read, written back in one transaction; nothing of it outlives the event.

use crate::error::Result;
use crate::link::{Link, LinkId, MemberIndex, Pending, SyncId};
use crate::plan::Layout;
use crate::record::Key;
use crate::store::{Address, Store, Transaction};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is known under one address.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot {
    pub link: Option<LinkId>,
    pub pending: Option<Pending>,
    /// Whether the pending observation differs from what the store holds.
    changed: bool,
}

/// Every layout of every sync, and which is the present one.
pub(crate) type Layouts = BTreeMap<SyncId, (u32, Vec<Layout>)>;

/// The records that one event is about.
#[derive(Default)]
pub(crate) struct Desk {
    layouts: Arc<Layouts>,
    slots: BTreeMap<Address, Slot>,
    links: BTreeMap<LinkId, Link>,
    dirty: BTreeSet<LinkId>,
    /// Links to look at before the event is over, in the order in which they were touched.
    touched: Vec<LinkId>,
}

/// The address of a key.
pub(crate) fn address(sync: SyncId, member: MemberIndex, key: &Key) -> Address {
    Address { sync, member, key: key.encode() }
}

impl Desk {
    pub fn new(layouts: Arc<Layouts>) -> Desk {
        Desk { layouts, ..Desk::default() }
    }

    /// A link in its sync's present layout.
    fn present(&mut self, link: Link) -> Link {
        let Some((number, known)) = self.layouts.get(&link.sync).filter(|(number, _)| *number != link.layout) else {
            return link;
        };
        let at = |number: u32| known.get(usize::try_from(number).ok()?);
        let (Some(now), Some(then)) = (at(*number), at(link.layout)) else { return link };
        let adopted = now.adopt(then, &link, *number);
        self.dirty.insert(adopted.id);
        adopted
    }

    /// A pending observation in its sync's present layout.
    fn present_pending(&self, pending: Pending) -> Pending {
        let Some((number, known)) = self.layouts.get(&pending.sync).filter(|(number, _)| *number != pending.layout) else {
            return pending;
        };
        let at = |number: u32| known.get(usize::try_from(number).ok()?);
        match (at(*number), at(pending.layout)) {
            (Some(now), Some(then)) => now.adopt_pending(then, &pending, *number),
            _ => pending,
        }
    }

    /// Brings these addresses and the links behind them onto the desk, with everything pending about those links.
    pub async fn load(&mut self, store: &dyn Store, addresses: Vec<Address>) -> Result<()> {
        let mut wanted: Vec<Address> = addresses.into_iter().filter(|address| !self.slots.contains_key(address)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        if wanted.is_empty() {
            return Ok(());
        }
        let found = store.lookup(wanted.clone()).await?;
        let mut ids: BTreeSet<LinkId> = BTreeSet::new();
        for (address, lookup) in wanted.into_iter().zip(found) {
            ids.extend(lookup.link);
            let pending = lookup.pending.map(|pending| self.present_pending(pending));
            self.slots.insert(address, Slot { link: lookup.link, pending, changed: false });
        }
        self.load_links(store, ids.into_iter().collect()).await
    }

    /// Brings these links onto the desk, with everything pending about them.
    pub async fn load_links(&mut self, store: &dyn Store, ids: Vec<LinkId>) -> Result<()> {
        let wanted: Vec<LinkId> = ids.into_iter().filter(|id| !self.links.contains_key(id)).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        for state in store.links(wanted).await? {
            for (member, (side, pending)) in state.link.sides.iter().zip(state.pending).enumerate() {
                let Some(key) = &side.key else { continue };
                let pending = pending.map(|pending| self.present_pending(pending));
                let slot = Slot { link: Some(state.link.id), pending, changed: false };
                self.slots.entry(address(state.link.sync, member, key)).or_insert(slot);
            }
            let link = self.present(state.link);
            self.links.insert(link.id, link);
        }
        Ok(())
    }

    pub fn slot(&self, address: &Address) -> Option<&Slot> {
        self.slots.get(address)
    }

    pub fn link(&self, id: LinkId) -> Option<&Link> {
        self.links.get(&id)
    }

    /// Puts a link back, to be written.
    pub fn save(&mut self, link: Link) {
        self.dirty.insert(link.id);
        self.links.insert(link.id, link);
    }

    /// Shows a link as it is now to whoever looks at it during the event, without having it written.
    pub fn show(&mut self, link: Link) {
        self.links.insert(link.id, link);
    }

    pub fn set_pending(&mut self, address: &Address, pending: Option<Pending>) {
        let slot = self.slots.entry(address.clone()).or_default();
        if slot.pending != pending {
            slot.pending = pending;
            slot.changed = true;
        }
    }

    pub fn set_link(&mut self, address: &Address, link: Option<LinkId>, transaction: &mut Transaction) {
        let slot = self.slots.entry(address.clone()).or_default();
        if slot.link != link {
            slot.link = link;
            transaction.keys.push((address.clone(), link));
        }
    }

    pub fn touch(&mut self, link: LinkId) {
        if !self.touched.contains(&link) || self.touched.len() > 64 {
            self.touched.push(link);
        }
    }

    /// The links to look at, each once, in the order in which they were first touched.
    pub fn take_touched(&mut self) -> Vec<LinkId> {
        let mut seen = BTreeSet::new();
        std::mem::take(&mut self.touched).into_iter().filter(|id| seen.insert(*id)).collect()
    }

    /// What is pending about a link, one per member.
    pub fn pending(&self, link: &Link) -> Vec<Option<Pending>> {
        link.sides
            .iter()
            .enumerate()
            .map(|(member, side)| {
                let key = side.key.as_ref()?;
                let slot = self.slots.get(&address(link.sync, member, key))?;
                (slot.link == Some(link.id)).then(|| slot.pending.clone()).flatten()
            })
            .collect()
    }

    /// Clears what is pending about a link.
    pub fn clear_pending(&mut self, link: &Link) {
        for (member, side) in link.sides.iter().enumerate() {
            if let Some(key) = &side.key {
                let address = address(link.sync, member, key);
                if self.slots.get(&address).is_some_and(|slot| slot.link == Some(link.id)) {
                    self.set_pending(&address, None);
                }
            }
        }
    }

    /// Writes back whatever changed.
    pub fn flush(&mut self, transaction: &mut Transaction) {
        for (address, slot) in &mut self.slots {
            if slot.changed {
                transaction.pending.push((address.clone(), slot.pending.clone()));
                slot.changed = false;
            }
        }
        for id in std::mem::take(&mut self.dirty) {
            transaction.links.extend(self.links.get(&id).cloned());
        }
    }
}
