//! Records that refer to records of other syncs: what is known of those before a decision, and who waits for whom. What
//! waits is in the store, by what it waits for, and is woken by the very event that brings that; a start, a pause that ends
//! and a load that is done look at all of them again, so that no crash between the event and the waking loses one.

use super::bounds::{STEP, WAITS_MAX};
use super::circles::CIRCLE_MAX;
use super::core::Core;
use super::desk::Desk;
use crate::clock::Moment;
use crate::error::Result;
use crate::link::{Life, Link, LinkId, MemberIndex, Pending, Shown, Side, Standing, SyncId};
use crate::reconcile::{Patch, patch_knowing};
use crate::references::{Awaited, References, Unknown, awaited, referred};
use crate::rules::SyncRules;
use crate::store::Address;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

/// How long a record that nobody knows is awaited before its system is asked for it: feeds of several objects run apart.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most links that are known to wait for others; of more it is asked in the store.
const WAITING_MAX: usize = 500_000;
/// How long it is believed that a record which was looked for is not there: whoever refers to several such records, which are
/// read one after the other, is decided about.
const BELIEVED: Duration = Duration::from_secs(60);
/// The most records of which that is believed; of others it is asked again.
const REFUSED_MAX: usize = 10_000;
/// The most links that are woken in one go.
const WAKE_STEP: usize = 2_000;

/// The links of a sync that wait for records of others.
#[derive(Default)]
pub(crate) struct Waiting {
    /// Those that are known, with a fingerprint of what they wait for.
    links: BTreeMap<LinkId, u64>,
    /// Whether there may be others.
    more: bool,
    /// From where on those in the store are still to be looked at.
    look_from: Option<LinkId>,
}

impl Waiting {
    /// Whether any link waits, as far as is known.
    pub fn any(&self) -> bool {
        self.more || !self.links.is_empty()
    }

    /// Whether those in the store are yet to be looked at.
    pub fn is_to_be_looked_at(&self) -> bool {
        self.look_from.is_some()
    }

    /// Has everything that waits looked at again.
    pub fn look_again(&mut self) {
        self.more = true;
        self.look_from = Some(LinkId(0));
    }
}

/// Events that links may have waited for.
#[derive(Default)]
pub(crate) struct Woken {
    /// What has come, and behind which waiting link the waking goes on.
    queue: VecDeque<(Awaited, LinkId)>,
    /// Links that are to be looked at.
    links: BTreeSet<LinkId>,
    /// Records of which it is known that they will get no link: since when, and until when that is believed.
    refused: BTreeMap<Address, (Moment, Moment)>,
}

impl Woken {
    /// Whether a record is known to get no link, as seen from one of which this is pending: what came later is news, and the record
    /// may have come with it.
    fn is_refused(&self, address: &Address, pending: &[Option<&Pending>]) -> bool {
        let since = self.refused.get(address).map(|(since, _)| *since);
        since.is_some_and(|since| pending.iter().flatten().all(|pending| pending.arrived <= since))
    }

    /// Whether nobody is left to be woken.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.links.is_empty()
    }
}

impl Core {
    /// Brings what these links refer to onto the desk.
    pub(crate) async fn load_references(&mut self, desk: &mut Desk, ids: &[LinkId]) -> Result<()> {
        if !self.syncs.iter().any(|state| state.rules.refers()) {
            return Ok(());
        }
        let mut addresses = Vec::new();
        for id in ids {
            let Some(link) = desk.shared(*id) else { continue };
            let Some(rules) = self.sync_of(link.sync).and_then(|sync| self.rules(sync)).filter(|rules| rules.refers()) else {
                continue;
            };
            let pending = desk.pending(&link);
            addresses.extend(named(&rules, &link, &pending));
        }
        desk.load(&self.store, addresses).await?;
        for id in ids {
            for _ in 0..CIRCLE_MAX {
                let missing = self.missing_records(desk, *id);
                if missing.is_empty() {
                    break;
                }
                let before = missing.len();
                desk.load_links(&self.store, missing.clone()).await?;
                // A link that is no longer known stays missing.
                if missing.iter().filter(|id| desk.link(**id).is_none()).count() == before {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The links that a link refers to, and those that they wait for in turn, as far as they are not on the desk.
    fn missing_records(&self, desk: &Desk, id: LinkId) -> Vec<LinkId> {
        let Some(link) = desk.link(id) else { return Vec::new() };
        let Some(rules) = self.sync_of(link.sync).and_then(|sync| self.rules(sync)) else { return Vec::new() };
        let mut missing = BTreeSet::new();
        for (field, reference) in rules.references() {
            let mut wanted: Vec<LinkId> = rules.agreed(link, field).and_then(referred).into_iter().collect();
            let pending = desk.pending(link);
            for unknown in values(&rules, link, &pending, field).filter_map(|(member, value)| reference.named(member, value).ok())
            {
                wanted.extend(desk.slot(&unknown.address).and_then(|slot| slot.link));
            }
            for record in wanted {
                if desk.link(record).is_none() {
                    missing.insert(record);
                    continue;
                }
                for (member, there) in reference.members.iter().enumerate() {
                    if let Some(there) = there.as_ref().filter(|_| is_owing(link, member)) {
                        self.follow(desk, id, record, there.member, &mut missing);
                    }
                }
            }
        }
        missing.into_iter().collect()
    }

    /// What is known of the records that a link refers to, as they stand on the desk.
    pub(crate) fn references(&self, desk: &Desk, rules: &SyncRules, link: &Link, pending: &[Option<&Pending>]) -> References {
        let mut known = References::default();
        if !rules.refers() {
            return known;
        }
        for (field, reference) in rules.references() {
            let mut records: BTreeSet<LinkId> = rules.agreed(link, field).and_then(referred).into_iter().collect();
            for unknown in values(rules, link, pending, field).filter_map(|(member, value)| reference.named(member, value).ok()) {
                if self.woken.is_refused(&unknown.address, pending) {
                    known.refuse(unknown.address.clone());
                }
                if let Some(record) = desk.slot(&unknown.address).and_then(|slot| slot.link) {
                    records.insert(record);
                    if record != link.id && !desk.link(record).is_some_and(|record| is_known_at(record, &unknown.address)) {
                        known.leave(unknown.address.clone());
                    }
                    known.learn(unknown.address, record);
                }
            }
            for record in records {
                if let Some(record) = desk.link(record) {
                    known.meet(record);
                }
                self.see_circles(desk, rules, link, (field, reference), record, &mut known);
            }
        }
        known
    }

    /// Has these links looked at.
    pub(super) fn wake(&mut self, links: impl IntoIterator<Item = LinkId>) {
        self.woken.links.extend(links);
    }

    /// Keeps in the store what a link waits for, as it stands now.
    pub(crate) fn renew_waits(&mut self, desk: &Desk, rules: &SyncRules, sync: usize, id: LinkId) {
        if !rules.refers() {
            return;
        }
        let Some(link) = desk.shared(id) else { return };
        let known = self.references(desk, rules, &link, &desk.pending(&link));
        let waits = awaited(rules, &link, &known);
        if !waits.is_empty() {
            self.wake_circle(desk, rules, &link);
        }
        self.keep_waits(sync, link.sync, id, waits);
    }

    fn keep_waits(&mut self, sync: usize, of: SyncId, id: LinkId, waits: Vec<Awaited>) {
        let Some(state) = self.syncs.get_mut(sync) else { return };
        let known = state.waiting.links.get(&id).copied();
        let print = print(&waits);
        let is_new = match known {
            Some(known) => known != print,
            None => state.waiting.more || !waits.is_empty(),
        };
        if !is_new {
            return;
        }
        if waits.is_empty() {
            state.waiting.links.remove(&id);
        } else if state.waiting.links.len() < WAITING_MAX {
            state.waiting.links.insert(id, print);
        } else {
            state.waiting.more = true;
        }
        self.transaction.waits.retain(|(_, other, _)| *other != id);
        self.transaction.waits.push((of, id, waits));
    }

    /// A link refers to records that nobody knows. It waits for them; where they are not told of soon, their systems are
    /// asked for them.
    pub(crate) fn await_records(
        &mut self,
        desk: &mut Desk,
        sync: usize,
        link: &Link,
        pending: &[Option<Pending>],
        unknown: Vec<Unknown>,
    ) {
        self.park(desk, sync, link, pending);
        let before = |record: &Unknown| desk.slot(&record.address).and_then(|slot| slot.link).map(Awaited::Record);
        let mut waits: Vec<Awaited> = unknown.iter().filter_map(before).collect();
        waits.extend(unknown.iter().map(|record| Awaited::Key(record.address.clone())));
        self.keep_waits(sync, link.sync, link.id, waits);
        let now = self.now();
        let since = pending.iter().flatten().map(|pending| pending.arrived).max().unwrap_or(now).min(now);
        let until = since.plus(PATIENCE);
        let mut asks = false;
        for record in unknown {
            let is_seen = desk.slot(&record.address).is_some_and(|slot| slot.pending.is_some());
            let Some(other) = self.sync_of(record.address.sync).filter(|_| !is_seen) else { continue };
            // What everything is being read for will come with it.
            let loads = self
                .syncs
                .get(other)
                .is_none_or(|state| !state.active() || !state.begun || state.members.iter().any(|member| !member.load.is_done()));
            if loads {
                continue;
            }
            if until <= now && self.reads_are_full(other, record.address.member) {
                self.spill(sync);
            } else if until <= now {
                self.want_stranger(other, record.address, record.key);
            } else {
                asks = true;
            }
        }
        if asks && self.waits.len() >= WAITS_MAX {
            self.spill(sync);
        } else if asks {
            self.waits.insert((until, link.id), sync);
        }
    }

    /// What of the present transaction others may have waited for.
    pub(crate) fn notice_arrivals(&mut self) {
        self.believe_what_is_there();
        if !self.syncs.iter().any(|state| state.waiting.any()) {
            return;
        }
        let parents: BTreeSet<SyncId> = self
            .syncs
            .iter()
            .filter(|state| state.waiting.any())
            .flat_map(|state| state.rules.references().map(|(_, reference)| reference.sync).collect::<Vec<_>>())
            .collect();
        let keys = self.transaction.keys.iter().filter(|(address, link)| link.is_some() && parents.contains(&address.sync));
        let keys = keys.map(|(address, _)| Awaited::Key(address.clone()));
        // One that is being written is looked at when that is over.
        let links = self.transaction.links.iter().filter(|link| parents.contains(&link.sync) && !link.in_flight());
        let links = links.map(|link| Awaited::Record(link.id));
        let arrived: Vec<Awaited> = keys.chain(links).collect();
        self.woken.queue.extend(arrived.into_iter().map(|awaited| (awaited, LinkId(0))));
    }

    /// A record that was not there when it was looked for has been seen since, or has a link.
    fn believe_what_is_there(&mut self) {
        if self.woken.refused.is_empty() {
            return;
        }
        let is_shown = |pending: &Pending| matches!(pending.shown, Shown::Present { .. });
        let seen = self.transaction.pending.iter().filter(|(_, pending)| pending.as_ref().is_some_and(is_shown));
        // One that a person had ignored has a link of its own as well, which says that it is not to come.
        let dead = self.transaction.links.iter().filter(|link| link.life != Life::Live).map(|link| link.id);
        let dead: BTreeSet<LinkId> = dead.collect();
        let linked = self.transaction.keys.iter().filter(|(_, link)| link.is_some_and(|link| !dead.contains(&link)));
        for address in seen.map(|(address, _)| address).chain(linked.map(|(address, _)| address)) {
            self.woken.refused.remove(address);
        }
    }

    /// These records were looked for and will get no link: whoever refers to them need not wait.
    pub(crate) fn will_not_come(&mut self, addresses: impl IntoIterator<Item = Address>) {
        let until = self.now().plus(BELIEVED);
        self.refuse(addresses, until);
    }

    /// This record is there and gets no link unless somebody asks for it: whoever waits for it now need not, whoever refers to it
    /// later does ask.
    pub(crate) fn is_left_out(&mut self, address: Address) {
        let now = self.now();
        self.refuse([address], now);
    }

    fn refuse(&mut self, addresses: impl IntoIterator<Item = Address>, until: Moment) {
        if !self.syncs.iter().any(|state| state.waiting.any()) {
            return;
        }
        let now = self.now();
        for address in addresses {
            self.woken.queue.push_back((Awaited::Key(address.clone()), LinkId(0)));
            if self.woken.refused.len() >= REFUSED_MAX {
                self.woken.refused.retain(|_, (_, until)| *until > now);
            }
            if self.woken.refused.len() >= REFUSED_MAX {
                self.woken.refused.pop_first();
            }
            self.woken.refused.insert(address, (now, until));
        }
    }

    /// A stranger that somebody may wait for is gone, or has another key: whoever does asks for it anew.
    pub(crate) fn has_left(&mut self, address: &Address) {
        if self.syncs.iter().any(|state| state.waiting.any()) {
            self.woken.queue.push_back((Awaited::Key(address.clone()), LinkId(0)));
        }
    }

    /// Looks at whoever waited for what has come.
    pub(crate) async fn wake_the_waiting(&mut self) -> Result<()> {
        let mut left = WAKE_STEP;
        while !self.woken.is_empty() && left > 0 {
            let links = std::mem::take(&mut self.woken.links);
            if !links.is_empty() {
                left = left.saturating_sub(links.len());
                self.look_at_waiting(links.into_iter().collect()).await?;
            }
            let Some((awaited, after)) = self.woken.queue.pop_front() else { continue };
            let waiting = self.store.waiting(&awaited, after, STEP).await?;
            if waiting.len() >= STEP
                && let Some(last) = waiting.last()
            {
                self.woken.queue.push_front((awaited, *last));
            }
            left = left.saturating_sub(waiting.len());
            if !waiting.is_empty() {
                self.look_at_waiting(waiting).await?;
            }
        }
        if self.woken.queue.is_empty() && !self.woken.refused.is_empty() {
            let now = self.now();
            self.woken.refused.retain(|_, (_, until)| *until > now);
        }
        Ok(())
    }

    /// Goes on looking at what waits in the store, a step at a time.
    pub(crate) async fn look_at_all_waiting(&mut self) -> Result<()> {
        for sync in 0..self.syncs.len() {
            let Some(state) = self.syncs.get(sync).filter(|state| state.active()) else { continue };
            let (Some(after), id, refers) = (state.waiting.look_from, state.rules.id, state.rules.refers()) else { continue };
            let links = self.store.scan_waiting(id, after, STEP).await?;
            if let Some(state) = self.syncs.get_mut(sync) {
                state.waiting.look_from = links.last().copied();
                // Everything in the store has been seen: what is not on the list does not wait.
                if links.is_empty() {
                    state.waiting.more = state.waiting.links.len() >= WAITING_MAX;
                }
            }
            if !refers {
                // Its fields named records before the configuration was changed, and do not any more.
                self.transaction.waits.extend(links.into_iter().map(|link| (id, link, Vec::new())));
            } else if !links.is_empty() {
                self.look_at_waiting(links).await?;
            }
        }
        Ok(())
    }

    /// Whoever refers to records of this sync is looked at again.
    pub(crate) fn look_at_referrers(&mut self, sync: usize) {
        let Some(id) = self.rules(sync).map(|rules| rules.id) else { return };
        for state in &mut self.syncs {
            if state.rules.references().any(|(_, reference)| reference.sync == id) && state.waiting.any() {
                state.waiting.look_again();
            }
        }
    }

    /// Looks at links that waited for others, and lifts what kept them from being written where it was that.
    async fn look_at_waiting(&mut self, ids: Vec<LinkId>) -> Result<()> {
        self.commit();
        let mut desk = self.desk();
        desk.load_links(&self.store, ids.clone()).await?;
        self.load_references(&mut desk, &ids).await?;
        for id in ids {
            let Some(link) = desk.shared(id) else { continue };
            if let Some(sync) = self.sync_of(link.sync) {
                self.lift_blocks(&mut desk, sync, &link).await?;
            }
            desk.touch(id);
        }
        self.decide_touched(&mut desk, false).await?;
        desk.flush(&mut self.transaction);
        self.commit();
        Ok(())
    }

    /// A member was not written because of a record that it was to refer to, which is there by now.
    async fn lift_blocks(&mut self, desk: &mut Desk, sync: usize, link: &Link) -> Result<()> {
        let blocked = |(member, side): (MemberIndex, &Side)| Some((member, side.blocked?));
        let blocks: Vec<_> = link.sides.iter().enumerate().filter_map(blocked).collect();
        let Some(rules) = self.rules(sync).filter(|_| !blocks.is_empty() && link.life == Life::Live) else { return Ok(()) };
        for (member, review) in blocks {
            let code = self.store.review(review).await?.map(|review| review.code);
            if !code.is_some_and(|code| is_about_references(&code)) {
                continue;
            }
            let known = self.references(desk, &rules, link, &desk.pending(link));
            if let Patch::Rejected(error) = patch_knowing(&rules, link, member, &known)
                && is_about_references(&error.code.to_string())
            {
                continue;
            }
            let Some(mut link) = desk.link(link.id).cloned() else { return Ok(()) };
            if let Some(side) = link.sides.get_mut(member) {
                side.blocked = None;
                side.attempts = 0;
            }
            self.close_review(sync, review, "the record that it refers to is there".to_owned());
            desk.save(link);
        }
        Ok(())
    }

    /// Whether a sync's first reading waits for the records that its own refer to, which are read first. In a circle of syncs
    /// the one that stands first in the configuration does not wait.
    pub(crate) fn reads_after_others(&self, sync: usize) -> bool {
        let mut seen = BTreeSet::from([sync]);
        let mut queue = vec![sync];
        let mut waits = false;
        while let Some(next) = queue.pop() {
            let Some(rules) = self.rules(next) else { continue };
            for (_, reference) in rules.references() {
                let Some(other) = self.sync_of(reference.sync).filter(|other| seen.insert(*other)) else { continue };
                queue.push(other);
                let comes_back = self.leads_to(other, sync);
                let is_loading = self.syncs.get(other).is_some_and(|state| {
                    state.active() && state.begun && state.members.iter().any(|member| !member.load.is_done())
                });
                waits |= is_loading && (!comes_back || other < sync);
            }
        }
        waits
    }

    /// Whether references lead from the one sync to the other.
    fn leads_to(&self, from: usize, to: usize) -> bool {
        let mut seen = BTreeSet::from([from]);
        let mut queue = vec![from];
        while let Some(next) = queue.pop() {
            let Some(rules) = self.rules(next) else { continue };
            for (_, reference) in rules.references() {
                let Some(other) = self.sync_of(reference.sync) else { continue };
                if other == to {
                    return true;
                }
                if seen.insert(other) {
                    queue.push(other);
                }
            }
        }
        false
    }
}

/// Whether a review item is about a record that another one refers to.
pub(super) fn is_about_references(code: &str) -> bool {
    use crate::error::Code;
    [Code::ReferenceNotKept, Code::ReferenceKnot, Code::ReferenceUnknown].iter().any(|about| about.to_string() == code)
}

fn print(waits: &[Awaited]) -> u64 {
    let mut bytes = Vec::new();
    for awaited in waits {
        let one = awaited.encode();
        bytes.extend_from_slice(&u64::try_from(one.len()).unwrap_or(u64::MAX).to_be_bytes());
        bytes.extend_from_slice(&one);
    }
    xxh3_64(&bytes)
}

/// Whether a write to a member is owed that may have to refer to something.
fn is_owing(link: &Link, member: MemberIndex) -> bool {
    link.sides.get(member).is_some_and(Side::is_owing)
}

/// Whether the link that is known under an address is that of the record there, or of one that is to come back there: not where
/// its record was deleted, or has left that key. A record deleted at one member is the same one while another still has it.
fn is_known_at(link: &Link, address: &Address) -> bool {
    let Some(side) = link.sides.get(address.member) else { return false };
    let lives = match link.life {
        Life::Live => true,
        Life::Deleted { .. } => {
            side.standing == Standing::Marked || link.sides.iter().any(|side| side.standing == Standing::Present)
        }
        Life::Detached { .. } => side.standing == Standing::Present,
    };
    lives && side.key.as_ref().is_none_or(|key| key.encode() == address.key)
}

/// What the members show for a field: last, and now.
fn values<'a>(
    rules: &'a SyncRules,
    link: &'a Link,
    pending: &'a [Option<&'a Pending>],
    field: usize,
) -> impl Iterator<Item = (MemberIndex, &'a crate::value::Value)> {
    let base = link.sides.iter().enumerate().filter_map(move |(member, side)| Some((member, side.base.get(field)?.as_ref()?)));
    let newer = pending.iter().enumerate().filter_map(move |(member, pending)| match &pending.as_ref()?.shown {
        Shown::Present { cells, .. } => Some((member, cells.get(field)?.as_ref()?)),
        Shown::Gone { .. } => None,
    });
    base.chain(newer).filter(move |(member, value)| !value.is_null() && rules.at(*member, field).is_some())
}

/// The addresses of every record that a link's members name.
fn named(rules: &SyncRules, link: &Link, pending: &[Option<&Pending>]) -> Vec<Address> {
    let mut addresses = Vec::new();
    for (field, reference) in rules.references() {
        let named = values(rules, link, pending, field).filter_map(|(member, value)| reference.named(member, value).ok());
        addresses.extend(named.map(|unknown| unknown.address));
    }
    addresses
}
