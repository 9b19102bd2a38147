//! Stage 2: whose record is this? A key that no link knows is a stranger: its match is looked for at the other members by
//! the sync's match fields; one candidate binds, several are for a person, none makes a new link. Matching is serial per
//! sync and also sees reservations, so that two records with one match value never become two pairs.

use crate::capture::Owner;
use crate::change::Observation;
use crate::clock::Moment;
use crate::connector::{Operation, Presence};
use crate::error::{Code, Error, Result};
use crate::ledger::{Entry, LedgerRow};
use crate::link::{Cells, Life, Link, LinkId, MemberIndex, Pending, Shown, Standing};
use crate::map::{canonical_record, cell, member_record, wanted};
use crate::reconcile::{Patch, patch};
use crate::record::{FieldName, Key};
use crate::review::{Review, Subject};
use crate::rules::{InitialStrategy, SyncRules};
use crate::runtime::core::{Core, Event};
use crate::runtime::desk::{Desk, address};
use crate::schema::Selection;
use crate::store::Address;
use crate::transform::normalise_for_match;
use crate::value::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Strangers in one search.
const FIND_BATCH: usize = 500;
/// The most candidates asked for: two are already too many.
const FIND_LIMIT: usize = 5;

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
}

impl Unidentified {
    pub fn len(&self) -> usize {
        self.queue.len().saturating_add(self.later.len()).saturating_add(self.collided.len())
    }

    pub fn is_idle(&self) -> bool {
        !self.running && self.len() == 0
    }
}

/// A search at the other members.
pub(crate) struct Find {
    pub sync: usize,
    pub kind: FindKind,
    /// The members searched, in the order of the answer.
    pub others: Vec<MemberIndex>,
}

/// What is searched for.
pub(crate) enum FindKind {
    /// The matches of strangers of a member.
    Strangers { member: MemberIndex, items: Vec<Stranger> },
    /// The record that stood in the way of a create.
    Collided { link: LinkId },
}

pub(crate) struct Stranger {
    pub address: Address,
    /// The rows of the search that are this stranger's.
    pub rows: std::ops::Range<usize>,
    pub value: Option<Vec<u8>>,
}

/// Per member searched, per row, the records found.
pub(crate) type Candidates = Vec<Vec<Vec<Observation>>>;

/// The match value of a link, from what is agreed.
pub(crate) fn link_match_value(rules: &SyncRules, link: &Link) -> Option<Vec<u8>> {
    let canonical: Vec<Option<Value>> = rules
        .match_on
        .iter()
        .map(|rule| {
            let group = rules.fields.get(rule.field)?.group;
            let place = rules.group_fields(group).iter().position(|field| *field == rule.field)?;
            link.groups.get(group)?.agreed.as_ref()?.values.get(place).cloned()
        })
        .collect();
    match_bytes(rules, &canonical)
}

/// The match value of what a member shows.
fn shown_match_value(rules: &SyncRules, member: MemberIndex, cells: &Cells) -> Option<Vec<u8>> {
    match_bytes(rules, &canonical_match(rules, member, cells))
}

fn canonical_match(rules: &SyncRules, member: MemberIndex, cells: &Cells) -> Vec<Option<Value>> {
    rules
        .match_on
        .iter()
        .map(|rule| {
            let at = rules.at(member, rule.field)?;
            at.mapping.to_canonical(cell(cells, rule.field)?, || member_record(rules, member, cells)).ok().flatten()
        })
        .collect()
}

/// Null and blank text match nothing: a record without a match value has no match.
fn match_bytes(rules: &SyncRules, canonical: &[Option<Value>]) -> Option<Vec<u8>> {
    if rules.match_on.is_empty() {
        return None;
    }
    let mut values = Vec::new();
    for (rule, value) in rules.match_on.iter().zip(canonical) {
        let value = value.as_ref()?;
        values.push(normalise_for_match(value, &rule.normaliser)?);
    }
    Some(Key(values).encode())
}

impl Core {
    /// Puts a stranger on the list.
    pub(crate) fn unidentified(&mut self, sync: usize, address: Address) {
        let Some(state) = self.syncs.get_mut(sync) else { return };
        if let Some(review) = self.parked.remove(&address) {
            let now = self.clock.now();
            state.meters.review_closed(review);
            self.transaction.closed_reviews.push((review, now, "the record changed".to_owned()));
        }
        if state.unidentified.queued.insert(address.clone()) {
            state.unidentified.queue.push_back(address);
        }
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

    pub(crate) async fn start_finds(&mut self) -> Result<()> {
        for sync in 0..self.syncs.len() {
            self.start_find(sync).await?;
        }
        Ok(())
    }

    async fn start_find(&mut self, sync: usize) -> Result<()> {
        let now = self.now();
        let Some(state) = self.syncs.get_mut(sync) else { return Ok(()) };
        let ready = state.active()
            && state.begun
            && !state.unidentified.running
            && state.unidentified.retry_at.is_none_or(|at| at <= now);
        if !ready {
            return Ok(());
        }
        let waiting = &mut state.unidentified;
        while let Some((at, address)) = waiting.later.first().cloned().filter(|(at, _)| *at <= now) {
            waiting.later.remove(&(at, address.clone()));
            if waiting.queued.insert(address.clone()) {
                waiting.queue.push_back(address);
            }
        }
        if let Some((member, link)) = waiting.collided.pop_front() {
            return self.find_collided(sync, member, link).await;
        }
        let Some(member) = waiting.queue.front().map(|address| address.member) else { return Ok(()) };
        let mut batch = Vec::new();
        while batch.len() < FIND_BATCH && waiting.queue.front().is_some_and(|address| address.member == member) {
            let Some(address) = waiting.queue.pop_front() else { break };
            waiting.queued.remove(&address);
            batch.push(address);
        }
        self.find_strangers(sync, member, batch).await
    }

    async fn find_strangers(&mut self, sync: usize, member: MemberIndex, batch: Vec<Address>) -> Result<()> {
        let Some(rules) = self.rules(sync) else { return Ok(()) };
        let mut desk = self.desk();
        desk.load(&*self.store, batch.clone()).await?;
        let others: Vec<MemberIndex> = (0..rules.members.len()).filter(|other| *other != member).collect();
        let mut rows: Vec<Vec<Vec<Value>>> = vec![Vec::new(); others.len()];
        let mut items = Vec::new();
        for address in batch {
            let Some(pending) = desk.slot(&address).filter(|slot| slot.link.is_none()).and_then(|slot| slot.pending.as_ref())
            else {
                continue;
            };
            let Shown::Present { cells, .. } = &pending.shown else { continue };
            let complete = rules
                .fields
                .iter()
                .zip(cells)
                .all(|(field, cell)| cell.is_some() || field.members.get(member).is_none_or(Option::is_none));
            if !complete {
                self.want_stranger(sync, address.clone(), pending.key.clone());
                continue;
            }
            let canonical = canonical_match(&rules, member, cells);
            let value = match_bytes(&rules, &canonical).filter(|_| !crate::mutants::active("lookup_skipped"));
            let start = rows.first().map_or(0, Vec::len);
            if value.is_some() {
                for (rows, other) in rows.iter_mut().zip(&others) {
                    rows.extend(search_rows(&rules, *other, &canonical));
                }
            }
            let end = rows.first().map_or(0, Vec::len);
            items.push(Stranger { address, rows: start..end, value });
        }
        if items.is_empty() {
            return Box::pin(self.start_find_again(sync)).await;
        }
        let find = Find { sync, kind: FindKind::Strangers { member, items }, others };
        self.search(&rules, find, rows, None);
        Ok(())
    }

    async fn start_find_again(&mut self, sync: usize) -> Result<()> {
        let more = self.syncs.get(sync).is_some_and(|state| !state.unidentified.queue.is_empty());
        if more { self.start_find(sync).await } else { Ok(()) }
    }

    async fn find_collided(&mut self, sync: usize, member: MemberIndex, id: LinkId) -> Result<()> {
        let Some(rules) = self.rules(sync) else { return Ok(()) };
        let mut desk = self.desk();
        desk.load_links(&*self.store, vec![id]).await?;
        let Some(link) = desk.link(id).filter(|link| !link.in_flight()) else { return Ok(()) };
        let Patch::Write(Operation::Create { image, .. }) = patch(&rules, link, member) else { return Ok(()) };
        let key: Option<Vec<Value>> = rules
            .members
            .get(member)
            .map(|rules| rules.schema.key.iter().map(|field| image.get(field.as_str()).cloned()).collect::<Option<Vec<Value>>>())
            .unwrap_or_default()
            .filter(|key| !key.is_empty());
        let canonical: Vec<Option<Value>> = rules
            .match_on
            .iter()
            .map(|rule| {
                let group = rules.fields.get(rule.field)?.group;
                let place = rules.group_fields(group).iter().position(|field| *field == rule.field)?;
                link.groups.get(group)?.agreed.as_ref()?.values.get(place).cloned()
            })
            .collect();
        let rows = if match_bytes(&rules, &canonical).is_some() { search_rows(&rules, member, &canonical) } else { Vec::new() };
        let find = Find { sync, kind: FindKind::Collided { link: id }, others: vec![member] };
        self.search(&rules, find, vec![rows], key.map(Key));
        Ok(())
    }

    /// Asks the members. `key`: a record to be read as well, under the key that a create would have given.
    fn search(&mut self, rules: &Arc<SyncRules>, find: Find, rows: Vec<Vec<Vec<Value>>>, key: Option<Key>) {
        if let Some(state) = self.syncs.get_mut(find.sync) {
            state.unidentified.running = true;
        }
        let generation = self.orphans.begin();
        let timeout = self.options.read_timeout;
        let mut asked = Vec::new();
        for (other, rows) in find.others.iter().zip(rows) {
            let (Some(connector), Some(selection)) =
                (self.connector(find.sync, *other), rules.members.get(*other).map(|member| member.selection.clone()))
            else {
                continue;
            };
            let by: Vec<FieldName> =
                rules.match_on.iter().filter_map(|rule| Some(rules.at(*other, rule.field)?.name.clone())).collect();
            asked.push((connector, selection, by, rows));
        }
        self.jobs.spawn(async move {
            let answer = async {
                let mut found = Vec::with_capacity(asked.len());
                for (connector, selection, by, rows) in asked {
                    found.push(ask(&*connector, &selection, &by, rows, key.clone()).await?);
                }
                Ok(found)
            };
            let result = match tokio::time::timeout(timeout, answer).await {
                Ok(result) => result,
                Err(_) => Err(Error::new(Code::Unreachable, "a search was not answered in time")),
            };
            Event::Found { find, generation, result }
        });
    }

    pub(crate) async fn on_found(&mut self, find: Find, generation: u64, result: Result<Candidates>) -> Result<()> {
        crate::failpoint::pass("found_before_durable");
        let sync = find.sync;
        if let Some(state) = self.syncs.get_mut(sync) {
            state.unidentified.running = false;
        }
        let candidates = match result {
            Ok(candidates) => candidates,
            Err(error) => {
                self.search_failed(find, &error);
                self.orphans.end(generation);
                return Ok(());
            }
        };
        if let Some(state) = self.syncs.get_mut(sync) {
            state.unidentified.failures = 0;
            state.unidentified.retry_at = None;
        }
        let Some(rules) = self.rules(sync) else { return Ok(()) };
        let mut desk = self.desk();
        self.load_candidates(&mut desk, &rules, sync, &find, &candidates).await?;
        match find.kind {
            FindKind::Strangers { member, items } => {
                desk.load(&*self.store, items.iter().map(|item| item.address.clone()).collect()).await?;
                let values: Vec<Vec<u8>> = items.iter().filter_map(|item| item.value.clone()).collect();
                let reserved = self.store.reserved(rules.id, values.clone()).await?;
                let mut reservations: BTreeMap<Vec<u8>, LinkId> =
                    values.into_iter().zip(reserved).filter_map(|(value, link)| Some((value, link?))).collect();
                if crate::mutants::active("reservation_ignored") {
                    reservations.clear();
                }
                desk.load_links(&*self.store, reservations.values().copied().collect()).await?;
                for item in items {
                    let found: Vec<Vec<Observation>> = candidates
                        .iter()
                        .map(|rows| rows.get(item.rows.clone()).map(|rows| rows.concat()).unwrap_or_default())
                        .collect();
                    self.identify(&mut desk, &rules, sync, member, &find.others, item, found, &mut reservations).await?;
                }
            }
            FindKind::Collided { link } => {
                let member = find.others.first().copied().unwrap_or_default();
                let found: Vec<Observation> = candidates.into_iter().flatten().flatten().collect();
                desk.load_links(&*self.store, vec![link]).await?;
                self.bind_collided(&mut desk, &rules, sync, member, link, found).await?;
            }
        }
        self.decide_touched(&mut desk, false).await?;
        desk.flush(&mut self.transaction);
        self.orphans.end(generation);
        Ok(())
    }

    async fn load_candidates(
        &mut self,
        desk: &mut Desk,
        rules: &SyncRules,
        _sync: usize,
        find: &Find,
        candidates: &Candidates,
    ) -> Result<()> {
        let mut addresses = Vec::new();
        for (other, rows) in find.others.iter().zip(candidates) {
            addresses.extend(rows.iter().flatten().map(|observation| address(rules.id, *other, &observation.key)));
        }
        desk.load(&*self.store, addresses).await
    }

    fn search_failed(&mut self, find: Find, error: &Error) {
        let now = self.now();
        let (min, max) = (self.options.reconnect_min, self.options.reconnect_max);
        tracing::warn!(error = error.chain(), "matches cannot be looked for");
        let Some(state) = self.syncs.get_mut(find.sync) else { return };
        let waiting = &mut state.unidentified;
        waiting.failures = waiting.failures.saturating_add(1);
        let wait = error.retry_after.unwrap_or_else(|| min.saturating_mul(1 << waiting.failures.min(16)).min(max));
        waiting.retry_at = Some(now.plus(wait));
        match find.kind {
            FindKind::Strangers { items, .. } => {
                for item in items.into_iter().rev() {
                    if waiting.queued.insert(item.address.clone()) {
                        waiting.queue.push_front(item.address);
                    }
                }
            }
            FindKind::Collided { link } => {
                let member = find.others.first().copied().unwrap_or_default();
                waiting.collided.push_front((member, link));
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "one stranger with everything that its identity is decided from")]
    async fn identify(
        &mut self,
        desk: &mut Desk,
        rules: &Arc<SyncRules>,
        sync: usize,
        member: MemberIndex,
        others: &[MemberIndex],
        item: Stranger,
        found: Vec<Vec<Observation>>,
        reservations: &mut BTreeMap<Vec<u8>, LinkId>,
    ) -> Result<()> {
        let Some(slot) = desk.slot(&item.address) else { return Ok(()) };
        let (None, Some(pending)) = (slot.link, slot.pending.clone()) else { return Ok(()) };
        let Shown::Present { cells, .. } = &pending.shown else { return Ok(()) };
        if shown_match_value(rules, member, cells) != item.value && !crate::mutants::active("lookup_skipped") {
            // It changed while we were looking: the search was for something else.
            self.unidentified(sync, item.address);
            return Ok(());
        }
        let reserved = item.value.as_ref().and_then(|value| Some((value.clone(), *reservations.get(value)?)));
        if let Some((value, id)) = reserved
            && self.still_reserves(desk, rules, id, &value)
        {
            self.meet_reservation(desk, sync, member, item, &pending, id);
            return Ok(());
        }
        let mut bound: Vec<(MemberIndex, Observation)> = Vec::new();
        let mut into: Option<LinkId> = None;
        for (&other, found) in others.iter().zip(found) {
            let found = self.standing_candidates(rules, sync, other, found, item.value.as_ref());
            let mut found = distinct(found);
            if found.len() > 1 {
                let keys = found.iter().map(|observation| observation.key.clone()).collect();
                self.ambiguous(sync, member, &item.address, &pending, other, keys);
                return Ok(());
            }
            let Some(candidate) = found.pop() else { continue };
            let sight = crate::capture::incoming(rules, sync, other, candidate.clone(), self.now(), &self.store_id, true);
            match self.owner(desk, &sight) {
                Owner::Nobody => bound.push((other, candidate)),
                // Found under a key that it has given up by now: looked for again when the feed has told.
                Owner::Past | Owner::Unclear => {
                    self.identify_later(sync, item.address);
                    return Ok(());
                }
                Owner::Link(id) => match self.may_join(desk, id, member) {
                    Join::Yes if into.is_none_or(|into| into == id) => into = Some(id),
                    Join::Later => {
                        self.identify_later(sync, item.address);
                        return Ok(());
                    }
                    _ => {
                        self.duplicate(sync, member, &item.address, &pending, id);
                        return Ok(());
                    }
                },
            }
        }
        let loading = self.syncs.get(sync).is_some_and(|state| state.members.iter().any(|member| !member.load.is_done()));
        if into.is_none() && bound.is_empty() && loading && rules.initial.strategy == InitialStrategy::MatchOnly {
            desk.set_pending(&item.address, None);
            return Ok(());
        }
        let mut link = match into.and_then(|id| desk.link(id).cloned()) {
            Some(link) => link,
            None => {
                let id = LinkId(self.next_link);
                self.next_link = self.next_link.saturating_add(1);
                Link::new(id, rules.id, rules.layout, rules.members.len(), rules.fields.len(), rules.groups.len())
            }
        };
        let joined = into.is_some() || !bound.is_empty();
        if let Some(side) = link.sides.get_mut(member) {
            side.key = Some(pending.key.clone());
        }
        desk.set_link(&item.address, Some(link.id), &mut self.transaction);
        for (other, candidate) in &bound {
            if let Some(side) = link.sides.get_mut(*other) {
                side.key = Some(candidate.key.clone());
            }
            desk.set_link(&address(rules.id, *other, &candidate.key), Some(link.id), &mut self.transaction);
        }
        let id = link.id;
        let creates = link
            .sides
            .iter()
            .enumerate()
            .any(|(other, side)| side.key.is_none() && rules.members.get(other).is_some_and(|other| other.inward))
            && rules.members.get(member).is_some_and(|member| member.outward);
        desk.save(link);
        if let Some(value) = item.value.filter(|_| creates) {
            self.transaction.reservations.push((rules.id, value.clone(), Some(id)));
            reservations.insert(value, id);
        }
        if joined {
            self.note_linked(rules, id, member, &pending.key);
        }
        let now = self.now();
        let arrived = bound
            .into_iter()
            .map(|(other, candidate)| crate::capture::incoming(rules, sync, other, candidate, now, &self.store_id, true))
            .collect();
        self.take_in_all(desk, arrived).await?;
        desk.touch(id);
        Ok(())
    }

    /// Candidates that still stand: not deleted since the search, and equal in the match fields after smoothing.
    fn standing_candidates(
        &self,
        rules: &SyncRules,
        sync: usize,
        other: MemberIndex,
        found: Vec<Observation>,
        value: Option<&Vec<u8>>,
    ) -> Vec<Observation> {
        let now = self.now();
        found
            .into_iter()
            .filter(|observation| {
                let one = crate::capture::incoming(rules, sync, other, observation.clone(), now, &self.store_id, true);
                let Shown::Present { cells, .. } = &one.pending.shown else { return false };
                !self.is_orphaned(&one) && shown_match_value(rules, other, cells).as_ref() == value
            })
            .collect()
    }

    /// A record with the same match value is being created, or was found a moment ago.
    fn meet_reservation(
        &mut self,
        desk: &mut Desk,
        sync: usize,
        member: MemberIndex,
        item: Stranger,
        pending: &Pending,
        id: LinkId,
    ) {
        match self.may_join(desk, id, member) {
            Join::Yes => {
                let Some(mut link) = desk.link(id).cloned() else { return };
                if let Some(side) = link.sides.get_mut(member) {
                    side.key = Some(pending.key.clone());
                }
                desk.set_link(&item.address, Some(id), &mut self.transaction);
                desk.save(link);
                desk.touch(id);
                if let Some(rules) = self.rules(sync) {
                    self.note_linked(&rules, id, member, &pending.key);
                }
            }
            Join::Later => self.identify_later(sync, item.address),
            Join::No => self.duplicate(sync, member, &item.address, pending, id),
        }
    }

    /// Whether a reservation still stands: its link lives, still is to be made somewhere, and has that match value. One
    /// that does not is only forgotten.
    fn still_reserves(&mut self, desk: &Desk, rules: &SyncRules, id: LinkId, value: &[u8]) -> bool {
        let stands = desk.link(id).is_some_and(|link| {
            let undecided = link.decision == 0;
            let owed = link.sides.iter().any(|side| side.owes_life || side.key.is_none());
            link.life == Life::Live && owed && (undecided || link_match_value(rules, link).is_none_or(|of_link| of_link == value))
        });
        if !stands {
            self.transaction.reservations.push((rules.id, value.to_vec(), None));
        }
        stands
    }

    /// Whether a record of `member` may become part of this link.
    fn may_join(&self, desk: &Desk, id: LinkId, member: MemberIndex) -> Join {
        let Some(link) = desk.link(id) else { return Join::Later };
        let Some(side) = link.sides.get(member) else { return Join::No };
        match link.life {
            // Its records are on their way out; what comes after is a new record.
            Life::Deleted { .. } if link.sides.iter().any(|side| side.standing == Standing::Present && side.owes_life) => {
                Join::Later
            }
            Life::Deleted { .. } | Life::Detached { .. } => Join::No,
            Life::Live if side.flight.is_some() => Join::Later,
            // Its record there is gone, which is yet to be decided.
            Life::Live
                if desk.pending(link).get(member).is_some_and(|pending| {
                    pending.as_ref().is_some_and(|pending| matches!(pending.shown, Shown::Gone { .. }))
                }) =>
            {
                Join::Later
            }
            Life::Live if side.standing == Standing::Absent && side.key.is_none() => Join::Yes,
            Life::Live => Join::No,
        }
    }

    /// A create collided with what is there: one match is it; none is looked for again; another link's is a duplicate.
    async fn bind_collided(
        &mut self,
        desk: &mut Desk,
        rules: &Arc<SyncRules>,
        sync: usize,
        member: MemberIndex,
        id: LinkId,
        found: Vec<Observation>,
    ) -> Result<()> {
        let Some(mut link) = desk.link(id).cloned() else { return Ok(()) };
        if link.in_flight() || link.sides.get(member).is_none_or(|side| side.standing == Standing::Present) {
            return Ok(());
        }
        let now = self.now();
        self.owe_later(sync, &mut link, member, now);
        desk.save(link.clone());
        desk.touch(id);
        let mut found = distinct(found);
        if found.len() > 1 {
            let error = Error::new(Code::MatchAmbiguous, "several records could be the one that stands in the way of a create");
            self.block(sync, &mut link, member, &error);
            desk.save(link);
            return Ok(());
        }
        let Some(candidate) = found.pop() else { return Ok(()) };
        let there = address(rules.id, member, &candidate.key);
        let sight = crate::capture::incoming(rules, sync, member, candidate.clone(), self.now(), &self.store_id, true);
        match self.owner(desk, &sight) {
            Owner::Link(other) if other == id => {}
            Owner::Past | Owner::Unclear => return Ok(()),
            Owner::Link(other) => {
                if self.may_join(desk, other, member) == Join::Later {
                    return Ok(());
                }
                let error =
                    Error::new(Code::MatchDuplicate, format!("the record {} already belongs to another one", candidate.key));
                self.block(sync, &mut link, member, &error);
                desk.save(link);
                return Ok(());
            }
            Owner::Nobody => {
                if let Some(side) = link.sides.get_mut(member) {
                    side.key = Some(candidate.key.clone());
                    side.standing = Standing::Absent;
                }
                self.strike_debt(&mut link, member);
                desk.set_link(&there, Some(id), &mut self.transaction);
                desk.save(link);
                self.note_linked(rules, id, member, &candidate.key);
            }
        }
        let now = self.now();
        let arrived = vec![crate::capture::incoming(rules, sync, member, candidate, now, &self.store_id, true)];
        self.take_in_all(desk, arrived).await?;
        desk.touch(id);
        Ok(())
    }

    fn note_linked(&mut self, rules: &SyncRules, link: LinkId, member: MemberIndex, key: &Key) {
        let row = LedgerRow {
            at: self.now(),
            sync: rules.id,
            link: Some(link),
            member,
            key: key.to_string(),
            entry: Entry::Linked,
            fields: Vec::new(),
        };
        self.transaction.ledger.push(row);
    }

    fn ambiguous(
        &mut self,
        sync: usize,
        member: MemberIndex,
        address: &Address,
        pending: &Pending,
        other: MemberIndex,
        candidates: Vec<Key>,
    ) {
        let message = format!("record {} has {} possible matches", pending.key, candidates.len());
        let subject = Subject::Ambiguous { member, key: pending.key.clone(), other, candidates };
        self.park_stranger(sync, address, Code::MatchAmbiguous, message, subject);
    }

    fn duplicate(&mut self, sync: usize, member: MemberIndex, address: &Address, pending: &Pending, linked: LinkId) {
        let message = format!("record {} has the same match fields as one that is already linked", pending.key);
        let subject = Subject::Duplicate { member, key: pending.key.clone(), linked };
        self.park_stranger(sync, address, Code::MatchDuplicate, message, subject);
    }

    fn park_stranger(&mut self, sync: usize, address: &Address, code: Code, message: String, subject: Subject) {
        let id = self.new_review();
        let Some(rules) = self.rules(sync) else { return };
        let review =
            Review { id, sync: rules.id, link: None, opened: self.now(), closed: None, code: code.to_string(), message, subject };
        self.open_review(sync, review);
        self.parked.insert(address.clone(), id);
    }
}

/// Whether a record may become part of a link.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Join {
    Yes,
    No,
    Later,
}

/// The rows that find the match of these canonical values at a member: as they are, and smoothed out.
fn search_rows(rules: &SyncRules, other: MemberIndex, canonical: &[Option<Value>]) -> Vec<Vec<Value>> {
    let mut rows: Vec<Vec<Value>> = Vec::new();
    for smooth in [false, true] {
        let row: Option<Vec<Value>> = rules
            .match_on
            .iter()
            .zip(canonical)
            .map(|(rule, value)| {
                let value = value.as_ref()?;
                let value = if smooth { normalise_for_match(value, &rule.normaliser)? } else { value.clone() };
                let at = rules.at(other, rule.field)?;
                wanted(at, &value, || canonical_record(rules, &[])).ok().flatten()
            })
            .collect();
        // Always two rows, so that every member's answer has the same shape.
        rows.push(row.unwrap_or_else(|| vec![Value::Null; rules.match_on.len()]));
    }
    rows
}

fn distinct(found: Vec<Observation>) -> Vec<Observation> {
    let mut seen = BTreeSet::new();
    found.into_iter().filter(|observation| seen.insert(observation.key.encode())).collect()
}

/// Asks one member for the matches of rows, and for a record by key. Rows with a null are not asked: they match nothing.
async fn ask(
    connector: &dyn crate::connector::Connector,
    selection: &Selection,
    by: &[FieldName],
    rows: Vec<Vec<Value>>,
    key: Option<Key>,
) -> Result<Vec<Vec<Observation>>> {
    let mut found = vec![Vec::new(); rows.len()];
    let asked: Vec<usize> =
        rows.iter().enumerate().filter(|(_, row)| !row.iter().any(Value::is_null)).map(|(place, _)| place).collect();
    if !asked.is_empty() && !by.is_empty() {
        let values: Vec<Vec<Value>> = asked.iter().filter_map(|place| rows.get(*place).cloned()).collect();
        let answers = connector.find(selection, by, &values, FIND_LIMIT).await?;
        for (place, answer) in asked.into_iter().zip(answers) {
            if let Some(found) = found.get_mut(place) {
                *found = answer;
            }
        }
    }
    if let Some(key) = key {
        let read = connector.read(selection, &[key]).await?;
        found.push(
            read.into_iter()
                .filter_map(|presence| if let Presence::Present(observation) = presence { Some(observation) } else { None })
                .collect(),
        );
    }
    Ok(found)
}
