//! Records that we have made and of which no feed has told yet. That one could be made says that nothing of its match value was
//! there at the time: a stranger of the same value that the feed told of before is gone, or is another one by now, and the
//! feed is yet to say which. Taken for a record of its own it would be made elsewhere, and if its counterpart there is gone as well
//! nothing would ever show that the two are one (invariant 4). So the reservation of a match value outlives the create, until
//! the feed has told of it. It is in the store: a crash forgets only that nobody need ask any more.

use super::values::link_match_value;
use crate::capture::Incoming;
use crate::error::Result;
use crate::link::{Life, Link, LinkId, MemberIndex, Side, Standing};
use crate::record::{Key, SystemName};
use crate::rules::SyncRules;
use crate::runtime::core::Core;
use crate::runtime::desk::{Desk, address};
use crate::store::Address;
use foldhash::fast::RandomState;
use std::collections::HashMap;

/// Records that were made are remembered until their feeds tell of them, up to so many for each sync; the reservations of others
/// end with their creates.
const MADE_MAX: usize = 65_536;

/// What was made for a sync and is yet to be told of.
#[derive(Default)]
pub(super) struct Made {
    untold: HashMap<Address, LinkId, RandomState>,
    /// Match values whose reservations are over. That alone is not worth a durable step: it goes with the next one.
    over: Vec<Vec<u8>>,
}

/// What a reservation says about a stranger of its match value.
pub(super) enum Reserved {
    /// The record is still to be made somewhere, and the stranger may be it.
    Stands,
    /// We have made this one at the stranger's member, and its feed is yet to tell of it.
    Untold(Address),
    /// Nothing any more.
    Over,
}

impl Core {
    /// The answer to a create says under which key it made its record.
    pub(crate) fn note_made(&mut self, sync: usize, member: MemberIndex, link: LinkId, key: &Key) {
        let is_told_of = self.feeds_of(sync, member).next().is_some();
        let Some(state) = self.syncs.get_mut(sync) else { return };
        if !is_told_of || state.rules.match_on.is_empty() || crate::mutants::active("reservation_ends_untold") {
            return;
        }
        let there = address(state.rules.id, member, key);
        let unidentified = &mut state.unidentified;
        // What the feed has said of an earlier record under this key says nothing of this one.
        unidentified.heard.remove(&there);
        if unidentified.made.untold.len() < MADE_MAX {
            unidentified.made.untold.insert(there, link);
        }
    }

    /// Whether a feed is yet to tell of a record that was made for a link.
    pub(crate) fn is_untold(&self, sync: usize, link: &Link) -> bool {
        let Some(untold) = self.syncs.get(sync).map(|state| &state.unidentified.made.untold) else { return false };
        let is_made = |(member, side): (MemberIndex, &Side)| {
            side.key.as_ref().is_some_and(|key| untold.get(&address(link.sync, member, key)) == Some(&link.id))
        };
        !untold.is_empty() && link.sides.iter().enumerate().any(is_made)
    }

    /// What of this the feeds tell of records that we have made.
    fn told_of_made(&self, arrived: &[Incoming]) -> Vec<(usize, LinkId, Address)> {
        let made = |one: &Incoming| {
            let untold = &self.syncs.get(one.sync)?.unidentified.made.untold;
            untold.get(&one.address).copied().filter(|_| !one.read && !one.ahead)
        };
        // Under a key that another record had before us, the mark says which of the two is meant.
        let is_ours = |one: &Incoming| one.echo_of.is_some() || !self.tells_whose(one.sync, one.pending.member);
        let told = arrived.iter().filter_map(|one| Some((one.sync, made(one)?, one))).filter(|(.., one)| is_ours(one));
        told.map(|(sync, link, one)| (sync, link, one.address.clone())).collect()
    }

    /// The feeds tell of records that we have made: what they had to tell from before is taken in with it, or has been.
    pub(crate) async fn hear_of_made(&mut self, desk: &mut Desk, arrived: &[Incoming]) -> Result<()> {
        let told = self.told_of_made(arrived);
        if told.is_empty() {
            return Ok(());
        }
        desk.load_links(&self.store, told.iter().map(|(_, link, _)| *link).collect()).await?;
        for (sync, id, there) in told {
            if let Some(state) = self.syncs.get_mut(sync) {
                state.unidentified.made.untold.remove(&there);
            }
            let (Some(rules), Some(link)) = (self.rules(sync), desk.link(id)) else { continue };
            let is_made_everywhere = link.life == Life::Live && !link.sides.iter().any(|side| side.owes_life);
            let value = link_match_value(&rules, link).filter(|_| is_made_everywhere && !self.is_untold(sync, link));
            if let Some(state) = self.syncs.get_mut(sync) {
                state.unidentified.made.over.extend(value);
            }
        }
        Ok(())
    }

    /// Puts the reservations that are over into the present transaction, before whatever it reserves.
    pub(crate) fn end_reservations(&mut self) {
        for state in &mut self.syncs {
            let (sync, over) = (state.rules.id, std::mem::take(&mut state.unidentified.made.over));
            drop(self.transaction.reservations.splice(0..0, over.into_iter().map(|value| (sync, value, None))));
        }
    }

    /// The feeds of a system begin anew: they will not tell of what was made before.
    pub(crate) fn forget_made(&mut self, system: &SystemName) {
        for state in &mut self.syncs {
            let of_system = |member: MemberIndex| state.rules.members.get(member).is_some_and(|rules| rules.system == *system);
            state.unidentified.made.untold.retain(|there, _| !of_system(there.member));
        }
    }

    /// What a reservation, found in the store, says about a stranger of a member. One that says nothing any more is let go of.
    pub(super) fn reserved(
        &mut self,
        desk: &Desk,
        rules: &SyncRules,
        sync: usize,
        member: MemberIndex,
        (id, value): (LinkId, &[u8]),
    ) -> Reserved {
        let link = desk.link(id).filter(|link| {
            let is_decided = link.decision > 0;
            let is_same = !is_decided || link_match_value(rules, link).is_none_or(|of_link| of_link == value);
            link.life == Life::Live && is_same
        });
        let owed = link.is_some_and(|link| link.sides.iter().any(|side| side.owes_life || side.key.is_none()));
        if let Some(made) = link.and_then(|link| self.untold_at(sync, member, link, owed)) {
            return Reserved::Untold(made);
        }
        if owed {
            return Reserved::Stands;
        }
        if link.is_none_or(|link| !self.is_untold(sync, link)) {
            self.transaction.reservations.push((rules.id, value.to_vec(), None));
        }
        Reserved::Over
    }

    /// The record of a link at a member, if we have made it and its feed has not told of that since.
    fn untold_at(&mut self, sync: usize, member: MemberIndex, link: &Link, owed: bool) -> Option<Address> {
        let is_told_of = self.feeds_of(sync, member).next().is_some();
        let side = link.sides.get(member).filter(|side| is_told_of && side.standing == Standing::Present)?;
        let there = address(link.sync, member, side.key.as_ref()?);
        let unidentified = &mut self.syncs.get_mut(sync)?.unidentified;
        // That nothing is left to be made and the value is reserved still is all that an earlier run leaves to know it by.
        if !unidentified.made.untold.contains_key(&there) && owed {
            return None;
        }
        if unidentified.heard.remove(&there) {
            unidentified.made.untold.remove(&there);
            return None;
        }
        Some(there)
    }
}
