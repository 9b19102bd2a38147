//! What the engine keeps in memory has limits with names (invariant 10). What is on a list is in the store as well, so a
//! full list loses nothing: what does not fit is left in the store, and taken up again when there is room. Where a list
//! follows a source, the source waits.

use super::core::Core;
use crate::error::Result;
use crate::link::{LinkId, MemberIndex};
use crate::store::Address;
use std::collections::BTreeMap;

/// The most links whose records are being read, or wait for the feed to explain why they were not found.
pub(crate) const READING_MAX: usize = 20_000;
/// The most links that wait for a time.
pub(crate) const WAITS_MAX: usize = 50_000;
/// The most strangers that wait for a person; while so many do, no further match is looked for.
pub(crate) const PARKED_STRANGERS_MAX: usize = 1_000_000;
/// The most links that are known to wait for a person; if more do, `once` does not end of itself.
pub(crate) const PARKED_LINKS_MAX: usize = 2_000_000;
/// The most deletes that wait for the end of their source transaction; further ones are left in the store until then.
pub(crate) const DEFERRED_MAX: usize = 100_000;
/// The most records that are known to be unreadable; others are tried once more.
pub(crate) const UNREADABLE_MAX: usize = 100_000;
/// The most echoes that are known in advance to tell nothing; the records of others are looked at.
pub(crate) const ECHOES_MAX: usize = 65_536;
/// The most records that are read, or looked for, at once, however large a batch is asked for.
pub(crate) const CHUNK_MAX: usize = 10_000;
/// Pending observations, or links, in one step.
pub(crate) const STEP: usize = 500;

/// What of a sync is left in the store because a list was full.
#[derive(Default)]
pub(crate) struct Spill {
    /// Whether there may be any.
    pub any: bool,
    /// Where taking up goes on; `None`: from the beginning.
    after: Option<Address>,
}

/// Links whose pending observations wait for a person, with how many of them each has.
#[derive(Default)]
pub(crate) struct Parked {
    links: BTreeMap<LinkId, u64>,
    observations: u64,
}

impl Parked {
    pub fn put(&mut self, link: LinkId, observations: usize) {
        self.take(link);
        let count = u64::try_from(observations).unwrap_or(u64::MAX);
        if self.links.len() < PARKED_LINKS_MAX {
            self.links.insert(link, count);
            self.observations = self.observations.saturating_add(count);
        }
    }

    pub fn take(&mut self, link: LinkId) {
        if let Some(count) = self.links.remove(&link) {
            self.observations = self.observations.saturating_sub(count);
        }
    }

    /// Whether a link waits for a person.
    pub fn holds(&self, link: LinkId) -> bool {
        self.links.contains_key(&link)
    }

    pub fn observations(&self) -> u64 {
        self.observations
    }
}

impl Core {
    /// Something pending is left in the store.
    pub(crate) fn spill(&mut self, sync: usize) {
        if let Some(state) = self.syncs.get_mut(sync) {
            state.spill.any = true;
        }
    }

    /// Whether there is room again on every list that a pending observation may come to stand on.
    fn has_room(&self, sync: usize) -> bool {
        let reads = |state: &super::core::SyncState| state.members.iter().all(|member| member.to_read.len() < READING_MAX / 2);
        self.reading.len() < READING_MAX / 2
            && self.waits.len() < WAITS_MAX / 2
            && self.syncs.get(sync).is_some_and(|state| {
                let strangers = state.unidentified.len() < self.options.max_unidentified / 2;
                reads(state) && (strangers || state.unidentified.is_idle())
            })
    }

    /// Takes up what was left in the store, where there is room.
    pub(crate) async fn take_up_spilled(&mut self) -> Result<()> {
        if crate::mutants::active("spill_forgotten") {
            return Ok(());
        }
        for sync in 0..self.syncs.len() {
            let wanted = self.syncs.get(sync).is_some_and(|state| state.spill.any && state.active());
            if wanted && self.has_room(sync) {
                self.take_up(sync).await?;
            }
        }
        Ok(())
    }

    /// Whatever is pending is looked at again: what has a link is decided about, what has none is identified.
    pub(crate) async fn restore_pending(&mut self, sync: usize) -> Result<()> {
        if let Some(state) = self.syncs.get_mut(sync) {
            state.spill = Spill { any: true, after: None };
            state.waiting.look_again();
        }
        self.look_at_referrers(sync);
        self.take_up(sync).await
    }

    /// Goes on looking at what is pending, until all has been looked at or a list is full.
    async fn take_up(&mut self, sync: usize) -> Result<()> {
        let Some(id) = self.rules(sync).map(|rules| rules.id) else { return Ok(()) };
        let Some(state) = self.syncs.get_mut(sync) else { return Ok(()) };
        let mut after = state.spill.after.take();
        state.spill.any = false;
        // The store is read: it must know what this event has decided so far.
        self.commit();
        loop {
            let rows = self.store.scan_pending(id, after.clone(), STEP).await?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            let before = after.replace(last.clone());
            self.look_at_pending(sync, rows.into_iter().map(|(address, _)| address).collect()).await?;
            if let Some(state) = self.syncs.get_mut(sync)
                && state.spill.any
            {
                // What of these rows found no room is looked at again.
                state.spill.after = before;
                return Ok(());
            }
        }
    }

    async fn look_at_pending(&mut self, sync: usize, addresses: Vec<Address>) -> Result<()> {
        let mut desk = self.desk();
        desk.load(&self.store, addresses.clone()).await?;
        for address in addresses {
            let link: Option<LinkId> = desk.slot(&address).and_then(|slot| slot.link);
            match link {
                Some(link) => desk.touch(link),
                None if self.parked.contains_key(&address) => {}
                None => self.unidentified_unless_ours(sync, address),
            }
        }
        self.decide_touched(&mut desk, false).await?;
        desk.flush(&mut self.transaction);
        self.commit();
        Ok(())
    }

    /// Whether as many records of a member wait to be read as may.
    pub(crate) fn reads_are_full(&mut self, sync: usize, member: MemberIndex) -> bool {
        self.member(sync, member).is_some_and(|state| state.to_read.len() >= READING_MAX)
    }
}
