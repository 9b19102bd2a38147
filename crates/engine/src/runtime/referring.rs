//! Records that refer to records of other syncs: what is known of those before a decision, and who waits for whom. What
//! waits is in the store, by what it waits for, and is woken by the very event that brings that; a start, a pause that ends
//! and a load that is done look at all of them again, so that no crash between the event and the waking loses one.

use super::bounds::{STEP, WAITS_MAX};
use super::core::Core;
use super::desk::Desk;
use crate::error::Result;
use crate::link::{Life, Link, LinkId, MemberIndex, Pending, Shown, Side, Standing, SyncId};
use crate::reconcile::{Patch, can_do_without, patch_knowing};
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
/// How far a circle of records that refer to each other is followed.
const CIRCLE_MAX: usize = 64;
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

/// One step on the way along references: a record that is to be made at a member of its sync, and the field that names the
/// next.
#[derive(Clone, Copy)]
struct Step {
    link: LinkId,
    member: MemberIndex,
    field: usize,
}

/// Events that links may have waited for.
#[derive(Default)]
pub(crate) struct Woken {
    /// What has come, and behind which waiting link the waking goes on.
    queue: VecDeque<(Awaited, LinkId)>,
    /// Links that are to be looked at.
    links: BTreeSet<LinkId>,
    /// Records of which it is known that they will get no link.
    refused: BTreeSet<Address>,
}

impl Woken {
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

    /// Follows what a record that is not there yet waits for at a member of its sync: whether the way leads back to `start`.
    /// Gives what is on the way; what of it is not on the desk is added to `missing`.
    fn follow(
        &self,
        desk: &Desk,
        start: LinkId,
        record: LinkId,
        member: MemberIndex,
        missing: &mut BTreeSet<LinkId>,
    ) -> Option<Vec<Step>> {
        if record == start {
            return Some(Vec::new());
        }
        // How each record on the way was come to.
        let mut come: BTreeMap<(LinkId, MemberIndex), Option<Step>> = BTreeMap::from([((record, member), None)]);
        let mut queue = VecDeque::from([(record, member)]);
        while let Some((id, member)) = queue.pop_front() {
            let Some(link) = desk.link(id) else {
                missing.insert(id);
                continue;
            };
            let Some(rules) = self.sync_of(link.sync).and_then(|sync| self.rules(sync)) else { continue };
            if come.len() > CIRCLE_MAX || !is_to_be_made(link, member) {
                continue;
            }
            for (field, reference) in rules.references() {
                let is_given = rules.at(member, field).is_some_and(|at| at.inward && at.creatable);
                let there = reference.members.get(member).and_then(Option::as_ref).filter(|_| is_given);
                let next = rules.agreed(link, field).and_then(referred);
                let (Some(there), Some(next)) = (there, next) else { continue };
                let step = Step { link: id, member, field };
                if next == start {
                    let mut way = vec![step];
                    while let Some(Some(before)) = way.last().and_then(|step| come.get(&(step.link, step.member))) {
                        way.push(*before);
                    }
                    return Some(way);
                }
                if let std::collections::btree_map::Entry::Vacant(new) = come.entry((next, there.member)) {
                    new.insert(Some(step));
                    queue.push_back((next, there.member));
                }
            }
        }
        None
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
                if self.woken.refused.contains(&unknown.address) {
                    known.refuse(unknown.address.clone());
                }
                if let Some(record) = desk.slot(&unknown.address).and_then(|slot| slot.link) {
                    records.insert(record);
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

    /// Whether a link waits for a record that waits for it, and who of them can be made first.
    fn see_circles(
        &self,
        desk: &Desk,
        rules: &SyncRules,
        link: &Link,
        (field, reference): (usize, &crate::references::Reference),
        record: LinkId,
        known: &mut References,
    ) {
        for (member, there) in reference.members.iter().enumerate() {
            let Some(there) = there.as_ref().filter(|_| is_to_be_made(link, member)) else { continue };
            let Some(way) = self.follow(desk, link.id, record, there.member, &mut BTreeSet::new()) else { continue };
            known.close_circle(member, record);
            let others = way.iter().any(|step| self.can_go_first(desk, step));
            if !can_do_without(rules, member, field) && !others {
                known.tie_knot(member, record);
            }
        }
    }

    /// Whether a record on a circle can be made without what it refers to.
    fn can_go_first(&self, desk: &Desk, step: &Step) -> bool {
        let rules = desk.link(step.link).and_then(|link| self.sync_of(link.sync)).and_then(|sync| self.rules(sync));
        rules.is_some_and(|rules| can_do_without(&rules, step.member, step.field))
    }

    /// Those on a circle that can go first are looked at: what closed it may be news to them.
    fn wake_circle(&mut self, desk: &Desk, rules: &SyncRules, link: &Link) {
        let mut others = Vec::new();
        for (field, reference) in rules.references() {
            let Some(record) = rules.agreed(link, field).and_then(referred) else { continue };
            for (member, there) in reference.members.iter().enumerate() {
                let Some(there) = there.as_ref().filter(|_| is_to_be_made(link, member)) else { continue };
                if can_do_without(rules, member, field) {
                    continue;
                }
                let way = self.follow(desk, link.id, record, there.member, &mut BTreeSet::new());
                others.extend(way.into_iter().flatten().filter(|step| self.can_go_first(desk, step)));
            }
        }
        self.woken.links.extend(others.into_iter().map(|step| step.link));
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
        let waits = unknown.iter().map(|record| Awaited::Key(record.address.clone())).collect();
        self.keep_waits(sync, link.sync, link.id, waits);
        let now = self.now();
        let since = pending.iter().flatten().map(|pending| pending.arrived).max().unwrap_or(now);
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
            if until <= now {
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

    /// These records were looked for and will get no link: whoever refers to them need not wait.
    pub(crate) fn will_not_come(&mut self, addresses: impl IntoIterator<Item = Address>) {
        if !self.syncs.iter().any(|state| state.waiting.any()) {
            return;
        }
        for address in addresses {
            self.woken.queue.push_back((Awaited::Key(address.clone()), LinkId(0)));
            self.woken.refused.insert(address);
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
        if self.woken.queue.is_empty() {
            self.woken.refused.clear();
        }
        Ok(())
    }

    /// Goes on looking at what waits in the store, a step at a time.
    pub(crate) async fn look_at_all_waiting(&mut self) -> Result<()> {
        for sync in 0..self.syncs.len() {
            let Some(state) = self.syncs.get(sync).filter(|state| state.active()) else { continue };
            let (Some(after), id) = (state.waiting.look_from, state.rules.id) else { continue };
            let links = self.store.scan_waiting(id, after, STEP).await?;
            if let Some(state) = self.syncs.get_mut(sync) {
                state.waiting.look_from = links.last().copied();
                // Everything in the store has been seen: what is not on the list does not wait.
                if links.is_empty() {
                    state.waiting.more = state.waiting.links.len() >= WAITING_MAX;
                }
            }
            if !links.is_empty() {
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
fn is_about_references(code: &str) -> bool {
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

/// Whether a record is owed to a member, and nothing is under way there.
fn is_to_be_made(link: &Link, member: MemberIndex) -> bool {
    let absent = |side: &Side| matches!(side.standing, Standing::Absent | Standing::Gone);
    let side = link.sides.get(member);
    link.life == Life::Live && side.is_some_and(|side| side.owes_life && absent(side) && side.flight.is_none())
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
