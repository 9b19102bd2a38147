//! Stage 2: whose record is this? A key that no link knows is a stranger: its match is looked for at the other members by
//! the sync's match fields; one candidate binds, several are for a person, none makes a new link. Matching is serial per
//! sync and also sees reservations, so that two records with one match value never become two pairs.

mod bind;
mod search;
mod unproven;
mod values;

pub(crate) use bind::Join;
pub(crate) use search::{Candidates, Find};
pub(crate) use unproven::Unproven;
pub(crate) use values::link_match_value;

use crate::clock::Moment;
use crate::error::Result;
use crate::link::{LinkId, MemberIndex};
use crate::runtime::core::Core;
use crate::runtime::desk::Desk;
use crate::store::Address;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// Strangers of a sync that wait to be identified.
#[derive(Default)]
pub(crate) struct Unidentified {
    queue: VecDeque<Address>,
    queued: BTreeSet<Address>,
    later: BTreeSet<(Moment, Address)>,
    collided: VecDeque<(MemberIndex, LinkId)>,
    running: bool,
    retry_at: Option<Moment>,
    failures: u32,
    /// How often the size of a search is to be halved, after one that failed as a whole.
    halvings: u32,
}

impl Unidentified {
    pub fn len(&self) -> usize {
        self.queue.len().saturating_add(self.later.len()).saturating_add(self.collided.len())
    }

    pub fn is_idle(&self) -> bool {
        !self.running && self.len() == 0
    }
}

impl Core {
    /// Puts a stranger on the list.
    pub(crate) fn unidentified(&mut self, sync: usize, address: Address) {
        let Some(state) = self.syncs.get_mut(sync) else { return };
        if let Some(review) = self.parked.remove(&address) {
            let now = self.clock.now();
            self.transaction.closed_reviews.push((review, now, "the record changed".to_owned()));
        }
        if state.unidentified.queued.contains(&address) {
            return;
        }
        if state.unidentified.len() >= self.options.max_unidentified.saturating_mul(2) {
            // What it shows is in the store; it is taken up again when there is room (invariant 10).
            state.spill.any = true;
            return;
        }
        state.unidentified.queued.insert(address.clone());
        state.unidentified.queue.push_back(address);
    }

    fn identify_later(&mut self, sync: usize, address: Address) {
        let at = self.now().plus(Duration::from_millis(50));
        if let Some(state) = self.syncs.get_mut(sync) {
            state.unidentified.later.insert((at, address));
        }
    }

    pub(crate) fn rename_unidentified(&mut self, sync: usize, old: &Address, new: &Address) {
        self.parked.remove(old);
        if let Some(state) = self.syncs.get_mut(sync)
            && state.unidentified.queued.remove(old)
        {
            state.unidentified.queue.retain(|address| address != old);
        }
        self.unidentified(sync, new.clone());
    }

    /// A stranger is gone before anybody knew it.
    pub(crate) async fn forget_stranger(&mut self, _desk: &mut Desk, sync: usize, address: &Address) -> Result<()> {
        if let Some(review) = self.parked.remove(address) {
            self.close_review(sync, review, "the record was deleted".to_owned());
        }
        if let Some(state) = self.syncs.get_mut(sync)
            && state.unidentified.queued.remove(address)
        {
            state.unidentified.queue.retain(|other| other != address);
        }
        Ok(())
    }

    /// Looks for the record that stood in the way of a create.
    pub(crate) fn want_match(&mut self, sync: usize, member: MemberIndex, link: LinkId) {
        if let Some(state) = self.syncs.get_mut(sync) {
            state.unidentified.collided.push_back((member, link));
        }
    }
}
