//! Whose record an observation shows, and what a changed key does: the link, and whatever is pending about it, moves
//! along. A key that a record has given up still points at its link, so that an old sight under it is known as one.

use super::incoming::Incoming;
use crate::change::Version;
use crate::error::Result;
use crate::link::{Life, Link, LinkId, MemberIndex, Shown, Side, Standing, SyncId};
use crate::record::Key;
use crate::runtime::core::Core;
use crate::runtime::desk::{Desk, address};
use crate::store::Address;
use crate::value::Value;
use std::cmp::Ordering;

/// Records pushed off their keys that are remembered until the feed tells of their own new keys.
pub(super) const MAX_DISPLACED: usize = 10_000;

/// Settings of this prefix hold one of them each.
const DISPLACED: &str = "displaced/";

fn displaced_setting(there: &Address) -> String {
    let hex: String = there.key.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{DISPLACED}{}/{}/{hex}", there.sync.0, there.member)
}

fn displaced_address(setting: &str) -> Option<Address> {
    let mut parts = setting.strip_prefix(DISPLACED)?.split('/');
    let (sync, member, hex) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?);
    let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at.saturating_add(2))?, 16).ok());
    Some(Address { sync: SyncId(sync), member, key: bytes.collect::<Option<Vec<u8>>>()? })
}

/// Whose record an observation shows.
pub(crate) enum Owner {
    /// This link's.
    Link(LinkId),
    /// A stranger's.
    Nobody,
    /// It is an old sight of a record that has another key by now.
    Past,
    /// That cannot be told: it must be read.
    Unclear,
}

/// The version of the newest that is known of a member's record: what is pending, or the base.
pub(super) fn known_version(desk: &Desk, id: LinkId, member: MemberIndex) -> Version {
    let Some(link) = desk.link(id) else { return Version::default() };
    let Some(side) = link.sides.get(member) else { return Version::default() };
    let pending =
        side.key.as_ref().and_then(|key| desk.slot(&address(link.sync, member, key))).and_then(|slot| slot.pending.as_ref());
    pending.map_or_else(|| side.version.clone(), |pending| pending.version.clone())
}

/// Whether a link's record of that member has this key now.
fn stands_at(link: &Link, there: &Address) -> bool {
    let key = link.sides.get(there.member).and_then(|side| side.key.as_ref());
    key.is_some_and(|key| address(link.sync, there.member, key) == *there)
}

/// Whether a link only remembers that a record of that member went. A record that is made anew while its counterpart still
/// stands is the same one, and goes on under its link.
fn is_tombstone(link: &Link, member: MemberIndex) -> bool {
    let over = match link.life {
        Life::Live => false,
        Life::Deleted { .. } => link.sides.iter().all(|side| side.standing != Standing::Present),
        Life::Detached { .. } => true,
    };
    over && link.sides.get(member).is_some_and(|side| matches!(side.standing, Standing::Gone | Standing::Absent))
}

impl Core {
    /// Whose record an observation shows. A key that a record has given up still points at its link, so that an old
    /// observation under it is known for what it is; a newer one is of another record that has taken the key.
    pub(crate) fn owner(&mut self, desk: &mut Desk, one: &Incoming) -> Owner {
        let Some(id) = desk.slot(&one.address).and_then(|slot| slot.link) else { return Owner::Nobody };
        let member = one.pending.member;
        let Some(link) = desk.link(id) else { return Owner::Link(id) };
        if is_tombstone(link, member) && matches!(one.pending.shown, Shown::Present { .. }) {
            match self.version_order(one, &known_version(desk, id, member)) {
                // A record made after the one that the tombstone remembers went.
                Some(Ordering::Greater) => {
                    self.part_from_key(desk, &one.address, id);
                    return Owner::Nobody;
                }
                // It never went: a person had it ignored as it was read.
                Some(Ordering::Equal) if one.read => {
                    self.part_from_key(desk, &one.address, id);
                    return Owner::Nobody;
                }
                Some(_) => return Owner::Past,
                None => return Owner::Unclear,
            }
        }
        if link.sides.get(member).is_none_or(|side| side.key.is_none()) || stands_at(link, &one.address) {
            return Owner::Link(id);
        }
        match self.version_order(one, &known_version(desk, id, member)) {
            // That nothing is there any more is no news about a record that has moved away.
            Some(Ordering::Greater) if matches!(one.pending.shown, Shown::Present { .. }) => {
                desk.set_link(&one.address, None, &mut self.transaction);
                Owner::Nobody
            }
            Some(_) => Owner::Past,
            None => Owner::Unclear,
        }
    }

    /// We have just written a record under this key: whoever else was known under it has left it, and the feed is yet to
    /// tell where to, or was never there.
    pub(crate) async fn take_key(&mut self, desk: &mut Desk, id: LinkId, there: &Address) -> Result<()> {
        let holder = desk.slot(there).and_then(|slot| slot.link).filter(|holder| *holder != id);
        if let Some(holder) = holder.filter(|_| !crate::mutants::active("key_taken_unnoticed")) {
            let never_seen = |link: &Link| link.sides.get(there.member).is_some_and(|side| side.standing == Standing::Absent);
            if desk.link(holder).is_some_and(never_seen) {
                self.part_from_key(desk, there, holder);
                desk.touch(holder);
            } else {
                self.make_room(desk, id, there).await?;
            }
        }
        desk.set_link(there, Some(id), &mut self.transaction);
        Ok(())
    }

    /// Whether a record of ours stands under a key that no record can have, until the feed tells of it: it cannot be written.
    pub(crate) fn is_displaced(&self, sync: usize, member: MemberIndex, side: &Side) -> bool {
        let columns = self.member_rules(sync, member).map(|rules| rules.schema.key.len());
        columns.is_some_and(|columns| side.key.as_ref().is_some_and(|key| key.0.len() > columns))
    }

    /// A delete that is older than the record which has the key now is of the one that was pushed off it.
    pub(super) async fn of_displaced(&mut self, desk: &mut Desk, mut one: Incoming) -> Result<Incoming> {
        let Some(id) = self.displaced.get(&one.address).copied() else { return Ok(one) };
        let member = one.pending.member;
        desk.load_links(&self.store, vec![id]).await?;
        let newcomer = desk.slot(&one.address).and_then(|slot| slot.link).filter(|newcomer| *newcomer != id);
        let older = newcomer
            .is_some_and(|newcomer| self.version_order(&one, &known_version(desk, newcomer, member)) == Some(Ordering::Less));
        let key = desk.link(id).and_then(|link| link.sides.get(member)).and_then(|side| side.key.clone());
        if let (true, Shown::Gone { .. }, Some(key)) = (older, &one.pending.shown, key) {
            self.found_again(&one.address.clone());
            one.address = address(one.address.sync, member, &key);
            one.pending.key = key;
            desk.load(&self.store, vec![one.address.clone()]).await?;
        }
        Ok(one)
    }

    /// A tombstone lets go of a key that another record has taken.
    fn part_from_key(&mut self, desk: &mut Desk, there: &Address, id: LinkId) {
        desk.set_link(there, None, &mut self.transaction);
        let Some(mut link) = desk.link(id).filter(|link| stands_at(link, there)).cloned() else { return };
        if let Some(side) = link.sides.get_mut(there.member) {
            side.key = None;
        }
        desk.save(link);
    }

    /// Whether a feed has told of the record's delete since the read that shows it began.
    pub(crate) fn is_orphaned(&self, one: &Incoming) -> bool {
        if crate::mutants::active("orphan_delete_forgotten") {
            return false;
        }
        let Some(connector) = self.connector(one.sync, one.pending.member) else { return false };
        self.orphans
            .version(&one.address)
            .is_some_and(|deleted| connector.compare(&one.pending.version, deleted) != Some(Ordering::Greater))
    }

    /// A changed key is a re-link: the link, and whatever is pending, moves to the new key.
    /// Says whether the observation is still news.
    pub(super) async fn follow_key_change(&mut self, desk: &mut Desk, one: &Incoming) -> Result<bool> {
        let Some(old) = one.old_address.as_ref().filter(|old| **old != one.address) else { return Ok(true) };
        if crate::mutants::active("key_change_as_insert") {
            return Ok(true);
        }
        let Some(slot) = desk.slot(old).cloned() else { return Ok(true) };
        // A record that was pushed off its key a moment ago (two records that swap keys) is known by where it was.
        let displaced = self.displaced.get(old).copied();
        if let Some(id) = displaced {
            desk.load_links(&self.store, vec![id]).await?;
        }
        if let Some(id) = displaced.or(slot.link)
            && let Some(link) = desk.link(id).cloned()
        {
            let member = one.pending.member;
            if is_tombstone(&link, member) {
                // Another record had the old key, and where this one is now is for its new key to say.
                return Ok(true);
            }
            let known_there = displaced.is_some() || stands_at(&link, old);
            match self.version_order(one, &known_version(desk, id, member)) {
                Some(Ordering::Greater) => {}
                // A sight of the record under its old key cannot have seen it move: the move is news.
                None if known_there => {}
                None if stands_at(&link, &one.address) => return Ok(true),
                None => {
                    self.want_read_instead(one.sync, member, id);
                    return Ok(false);
                }
                Some(_) => return Ok(false),
            }
            // Told again: the record that went there is known there by now, and whoever is at its old key is another one.
            let there = desk.slot(&one.address).and_then(|slot| slot.link).filter(|there| *there != id);
            if let Some(there) = there.filter(|there| desk.link(*there).is_some_and(|link| stands_at(link, &one.address)))
                && matches!(self.version_order(one, &known_version(desk, there, member)), Some(Ordering::Less | Ordering::Equal))
            {
                return Ok(false);
            }
            self.found_again(old);
            self.make_room(desk, id, &one.address).await?;
            self.carry_pending(desk, &link, member, &one.pending.key);
            // The old key goes on pointing here: see `owner`.
            desk.set_link(&one.address, Some(id), &mut self.transaction);
            let mut link = desk.link(id).cloned().unwrap_or(link);
            if let Some(side) = link.sides.get_mut(member) {
                side.key = Some(one.pending.key.clone());
            }
            desk.save(link);
            return Ok(true);
        }
        // What a reading that is under way finds under the old key is a sight of the past.
        self.orphans.remember(old.clone(), one.pending.version.clone());
        if let Some(mut pending) = slot.pending {
            if matches!(self.version_order(one, &pending.version), Some(Ordering::Less | Ordering::Equal)) {
                // Another record has the old key by now.
                return Ok(true);
            }
            self.bury_stranger(desk, one.sync, old, pending.key, &one.pending.version);
            if desk.slot(&one.address).is_some_and(|slot| slot.link.is_some()) {
                // The record is known under its new key by now: what waited under the old one is older than that.
                return self.forget_stranger(desk, one.sync, old).await.map(|()| true);
            }
            pending.key = one.pending.key.clone();
            desk.set_pending(&one.address, Some(pending));
            self.rename_unidentified(one.sync, old, &one.address);
        }
        Ok(true)
    }

    /// The record that held a key until another one took it: what is pending about it is decided now if it can be (it was
    /// deleted), and it is kept under a key that no record can have.
    pub(super) async fn make_room(&mut self, desk: &mut Desk, newcomer: LinkId, there: &Address) -> Result<()> {
        let Some(holder) = desk.slot(there).and_then(|slot| slot.link).filter(|holder| *holder != newcomer) else {
            return Ok(());
        };
        let holds = |desk: &Desk| desk.link(holder).is_some_and(|link| stands_at(link, there));
        if !holds(desk) {
            return Ok(());
        }
        self.decide_link(desk, holder).await?;
        let Some(mut link) = desk.link(holder).cloned().filter(|_| holds(desk)) else { return Ok(()) };
        if is_tombstone(&link, there.member) {
            self.part_from_key(desk, there, holder);
            return Ok(());
        }
        let Some(Side { key: Some(key), standing, .. }) = link.sides.get(there.member) else { return Ok(()) };
        let mut elsewhere = key.clone();
        elsewhere.0.push(Value::Text(format!("displaced record {}", holder.0)));
        // One that was deleted has no new key to be told of: what is told of the key from now on is about the newcomer. What has
        // been seen and is yet to be decided tells best whether it was.
        let is_over = matches!(standing, Standing::Gone | Standing::LeftAlone);
        let pending = desk.slot(there).and_then(|slot| slot.pending.as_ref());
        let moves = pending.map_or(!is_over, |pending| !matches!(pending.shown, Shown::Gone { .. }));
        self.carry_pending(desk, &link, there.member, &elsewhere);
        let hidden = address(link.sync, there.member, &elsewhere);
        desk.set_link(&hidden, Some(holder), &mut self.transaction);
        if let Some(side) = link.sides.get_mut(there.member) {
            side.key = Some(elsewhere);
        }
        desk.save(link);
        desk.touch(holder);
        if moves && self.displaced.len() < MAX_DISPLACED {
            self.displaced.insert(there.clone(), holder);
            self.transaction.settings.push((displaced_setting(there), Some(holder.0.to_be_bytes().to_vec())));
        }
        Ok(())
    }

    /// A displaced record has been told of under its new key, or its key is free again.
    fn found_again(&mut self, old: &Address) {
        if self.displaced.remove(old).is_some() {
            self.transaction.settings.push((displaced_setting(old), None));
        }
    }

    /// Nothing that the feed will tell goes on from where these were.
    pub(super) fn forget_displaced(&mut self, which: impl Fn(&Address) -> bool) {
        let over: Vec<Address> = self.displaced.keys().filter(|address| which(address)).cloned().collect();
        for address in over {
            self.found_again(&address);
        }
    }

    /// Records that were pushed off their keys when an earlier run ended: what the feed tells next may be where they went.
    pub(crate) async fn restore_displaced(&mut self) -> Result<()> {
        if crate::mutants::active("displaced_forgotten") {
            return Ok(());
        }
        for (name, bytes) in self.store.settings(DISPLACED).await? {
            let holder = <[u8; 8]>::try_from(bytes.as_slice()).ok().map(u64::from_be_bytes);
            if let (Some(there), Some(holder)) = (displaced_address(&name), holder) {
                self.displaced.insert(there, LinkId(holder));
            }
        }
        Ok(())
    }

    /// What is pending about a side goes with it to its new key.
    pub(crate) fn carry_pending(&self, desk: &mut Desk, link: &Link, member: MemberIndex, to: &Key) {
        let Some(old) = link.sides.get(member).and_then(|side| side.key.as_ref()) else { return };
        let (from, there) = (address(link.sync, member, old), address(link.sync, member, to));
        if from == there {
            return;
        }
        if let Some(mut pending) = desk.slot(&from).and_then(|slot| slot.pending.clone()) {
            desk.set_pending(&from, None);
            pending.old_key.get_or_insert_with(|| old.clone());
            pending.key = to.clone();
            desk.set_pending(&there, Some(pending));
        }
    }

    pub(crate) fn version_order(&self, one: &Incoming, than: &Version) -> Option<Ordering> {
        if than.0.is_empty() {
            return Some(Ordering::Greater);
        }
        let order = self.connector(one.sync, one.pending.member)?.compare(&one.pending.version, than);
        if crate::mutants::active("stale_version_counts") && order == Some(Ordering::Less) {
            return Some(Ordering::Greater);
        }
        if crate::mutants::active("unknown_order_trusted") && order.is_none() {
            return Some(Ordering::Greater);
        }
        order
    }
}
