//! The records that one event is about, as the store holds them plus what the event has changed so far. Loaded in one
//! read, written back in one transaction; nothing of it outlives the event.

use crate::error::Result;
use crate::link::{Link, LinkId, MemberIndex, Pending, Side, SyncId};
use crate::plan::Layout;
use crate::record::Key;
use crate::runtime::memory::Memory;
use crate::store::{Address, Recalled, Transaction};
use foldhash::fast::RandomState;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// What is known under one address.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot {
    pub link: Option<LinkId>,
    pub pending: Option<Pending>,
    /// Whether the pending observation differs from what the store holds.
    changed: bool,
    /// Whether the store is known to hold nothing pending here.
    is_clear: bool,
}

/// Every layout of every sync, and which is the present one.
pub(crate) type Layouts = BTreeMap<SyncId, (u32, Vec<Layout>)>;

/// The records that one event is about.
#[derive(Default)]
pub(crate) struct Desk {
    layouts: Arc<Layouts>,
    slots: HashMap<Address, Slot, RandomState>,
    links: HashMap<LinkId, Arc<Link>, RandomState>,
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
    fn present(&mut self, link: Arc<Link>) -> Arc<Link> {
        let Some((number, known)) = self.layouts.get(&link.sync).filter(|(number, _)| *number != link.layout) else {
            return link;
        };
        let at = |number: u32| known.get(usize::try_from(number).ok()?);
        let (Some(now), Some(then)) = (at(*number), at(link.layout)) else { return link };
        let adopted = now.adopt(then, &link, *number);
        self.dirty.insert(adopted.id);
        Arc::new(adopted)
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
    pub async fn load(&mut self, memory: &Memory, addresses: Vec<Address>) -> Result<()> {
        let mut wanted: Vec<Address> = addresses.into_iter().filter(|address| !self.slots.contains_key(address)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        if wanted.is_empty() {
            return Ok(());
        }
        self.lay_out(memory.recall(wanted, Vec::new()).await?);
        Ok(())
    }

    /// Brings these links onto the desk, with everything pending about them.
    pub async fn load_links(&mut self, memory: &Memory, ids: Vec<LinkId>) -> Result<()> {
        let wanted: Vec<LinkId> = ids.into_iter().filter(|id| !self.links.contains_key(id)).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        self.lay_out(memory.recall(Vec::new(), wanted).await?);
        Ok(())
    }

    /// What is on the desk already is newer.
    fn lay_out(&mut self, recalled: Recalled) {
        self.slots.reserve(recalled.slots.len());
        self.links.reserve(recalled.links.len());
        for (address, lookup) in recalled.slots {
            if !self.slots.contains_key(&address) {
                let is_clear = lookup.pending.is_none();
                let pending = lookup.pending.map(|pending| self.present_pending(pending));
                self.slots.insert(address, Slot { link: lookup.link, pending, changed: false, is_clear });
            }
        }
        for (id, link) in recalled.links {
            if !self.links.contains_key(&id) {
                let link = self.present(link);
                self.links.insert(id, link);
            }
        }
    }

    pub fn slot(&self, address: &Address) -> Option<&Slot> {
        self.slots.get(address)
    }

    pub fn link(&self, id: LinkId) -> Option<&Link> {
        self.links.get(&id).map(Arc::as_ref)
    }

    /// A link, to be kept while the desk goes on.
    pub fn shared(&self, id: LinkId) -> Option<Arc<Link>> {
        self.links.get(&id).cloned()
    }

    /// Takes a link off the desk, to be changed and put back at once.
    pub fn take(&mut self, id: LinkId) -> Option<Link> {
        self.links.remove(&id).map(Arc::unwrap_or_clone)
    }

    /// Puts a link back, to be written.
    pub fn save(&mut self, link: Link) {
        self.dirty.insert(link.id);
        self.links.insert(link.id, Arc::new(link));
    }

    /// Shows a link as it is now to whoever looks at it during the event, without having it written.
    pub fn show(&mut self, link: Link) {
        self.links.insert(link.id, Arc::new(link));
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
        // A long list is not searched: what it holds twice is looked at once all the same.
        if self.touched.len() > 64 || !self.touched.contains(&link) {
            self.touched.push(link);
        }
    }

    /// The links to look at, each once, in the order in which they were first touched.
    pub fn take_touched(&mut self) -> Vec<LinkId> {
        let mut seen = BTreeSet::new();
        std::mem::take(&mut self.touched).into_iter().filter(|id| seen.insert(*id)).collect()
    }

    /// What is pending about a link, one per member.
    pub fn pending(&self, link: &Link) -> Vec<Option<&Pending>> {
        let of_side = |(member, side): (MemberIndex, &Side)| {
            let slot = self.slots.get(&address(link.sync, member, side.key.as_ref()?))?;
            slot.pending.as_ref().filter(|_| slot.link == Some(link.id))
        };
        link.sides.iter().enumerate().map(of_side).collect()
    }

    /// Takes what is pending about a link, one per member, off the desk, to be decided about: it is cleared or laid back.
    pub fn lift_pending(&mut self, link: &Link) -> Vec<Option<Pending>> {
        (0..link.sides.len()).map(|member| self.slot_of(link, member)?.pending.take()).collect()
    }

    /// Lays back what was lifted.
    pub fn lay_back(&mut self, link: &Link, lifted: Vec<Option<Pending>>) {
        for (member, pending) in lifted.into_iter().enumerate() {
            if let Some(slot) = self.slot_of(link, member) {
                slot.pending = pending;
            }
        }
    }

    /// What was lifted has been taken into account.
    pub fn clear_lifted(&mut self, link: &Link, lifted: &[Option<Pending>]) {
        for (member, _) in lifted.iter().enumerate().filter(|(_, pending)| pending.is_some()) {
            if let Some(slot) = self.slot_of(link, member) {
                slot.changed = true;
            }
        }
    }

    /// The slot under a side's key, if that key is the link's.
    fn slot_of(&mut self, link: &Link, member: MemberIndex) -> Option<&mut Slot> {
        let key = link.sides.get(member)?.key.as_ref()?;
        self.slots.get_mut(&address(link.sync, member, key)).filter(|slot| slot.link == Some(link.id))
    }

    /// Writes back whatever changed.
    pub fn flush(&mut self, transaction: &mut Transaction) {
        let first = transaction.pending.len();
        for (address, slot) in &mut self.slots {
            // What came and was taken into account within one event was never stored, and need not be cleared.
            if slot.changed && !(slot.is_clear && slot.pending.is_none()) {
                transaction.pending.push((address.clone(), slot.pending.clone()));
                slot.is_clear = slot.pending.is_none();
            }
            slot.changed = false;
        }
        // In the order in which they lie in the store.
        if let Some(written) = transaction.pending.get_mut(first..) {
            written.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        }
        for id in std::mem::take(&mut self.dirty) {
            transaction.links.extend(self.links.get(&id).cloned());
        }
    }
}
