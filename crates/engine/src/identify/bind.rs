//! What a search found, judged: one candidate binds, several are for a person, none makes a new link. Sees reservations
//! and whatever else the same answer has bound.

use super::made::Reserved;
use super::ours::Making;
use super::search::{Candidates, Find, FindKind, Stranger};
use super::unheard::Waiter;
use super::unmark::{is_left_over, is_to_be_unmarked};
use super::values::{distinct, link_match_value, shown_match_value};
use crate::capture::{Incoming, Owner};
use crate::change::Observation;
use crate::error::{Code, Error, Result};
use crate::ledger::{Entry, LedgerRow};
use crate::link::{Life, Link, LinkId, MemberIndex, Pending, Shown, Standing};
use crate::record::Key;
use crate::review::{Review, Subject};
use crate::rules::SyncRules;
use crate::runtime::core::Core;
use crate::runtime::desk::{Desk, address};
use crate::settle::SEARCH_PATIENCE;
use crate::store::Address;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How long a create waits at first whose place is taken by a record that is on its way out, or is being made itself.
const MATCH_PAUSE: std::time::Duration = std::time::Duration::from_millis(200);

/// A create that met another record has been counted when it came back; the place of a mark that is to be taken off is looked
/// at without a write, and would be looked at for ever.
fn count_a_look(link: &mut Link, member: MemberIndex) {
    let unmarks = is_to_be_unmarked(link, member) && !crate::mutants::active("looks_uncounted");
    if let Some(side) = link.sides.get_mut(member).filter(|_| unmarks) {
        side.misses = side.misses.saturating_add(1);
    }
}

impl Core {
    pub(crate) async fn on_found(&mut self, find: Find, generation: u64, result: Result<Candidates>) -> Result<()> {
        crate::failpoint::pass("found_before_durable");
        let sync = find.sync;
        if let Some(state) = self.syncs.get_mut(sync) {
            state.unidentified.running = false;
        }
        let stale = find.others.iter().any(|other| self.is_stale(sync, *other, generation));
        let candidates = match result {
            Ok(candidates) if !stale => candidates,
            Ok(_) => {
                self.orphans.end(generation);
                self.search_failed(find, &Error::new(Code::Unreachable, "the system began anew while it was asked"));
                return Ok(());
            }
            Err(error) => {
                self.orphans.end(generation);
                let alone = find.is_of_one() && error.may_be_one_records() && !crate::mutants::active("poison_stops_all");
                if alone {
                    return self.search_refused(find, &error).await;
                }
                self.search_failed(find, &error);
                return Ok(());
            }
        };
        if let Some(state) = self.syncs.get_mut(sync) {
            state.unidentified.halvings = state.unidentified.halvings.saturating_sub(1);
            state.unidentified.failures = 0;
            state.unidentified.retry_at = None;
        }
        let Some(rules) = self.rules(sync) else { return Ok(()) };
        let mut desk = self.desk();
        self.load_candidates(&mut desk, &rules, sync, &find, &candidates).await?;
        match find.kind {
            FindKind::Strangers { member, items } => {
                desk.load(&self.store, items.iter().map(|item| item.address.clone()).collect()).await?;
                let values: Vec<Vec<u8>> = items.iter().filter_map(|item| item.value.clone()).collect();
                let reserved = self.store.reserved(rules.id, values.clone()).await?;
                let mut reservations: BTreeMap<Vec<u8>, LinkId> =
                    values.into_iter().zip(reserved).filter_map(|(value, link)| Some((value, link?))).collect();
                if crate::mutants::active("reservation_ignored") {
                    reservations.clear();
                }
                desk.load_links(&self.store, reservations.values().copied().collect()).await?;
                let making = self.being_made(&rules, sync);
                for item in items {
                    let found: Vec<Vec<Observation>> = candidates
                        .iter()
                        .map(|rows| rows.get(item.rows.clone()).map(|rows| rows.concat()).unwrap_or_default())
                        .collect();
                    self.identify(&mut desk, &rules, sync, member, &find.others, item, found, &mut reservations, &making).await?;
                }
            }
            FindKind::Collided { link } => {
                let member = find.others.first().copied().unwrap_or_default();
                let found: Vec<Observation> = candidates.into_iter().flatten().flatten().collect();
                desk.load_links(&self.store, vec![link]).await?;
                self.load_references(&mut desk, &[link]).await?;
                self.bind_collided(&mut desk, &rules, sync, member, link, found).await?;
            }
        }
        self.decide_touched(&mut desk, false).await?;
        desk.flush(&mut self.transaction);
        self.orphans.end(generation);
        Ok(())
    }

    pub(super) async fn load_candidates(
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
        desk.load(&self.store, addresses).await
    }

    #[allow(clippy::too_many_arguments, reason = "one stranger with everything that its identity is decided from")]
    pub(super) async fn identify(
        &mut self,
        desk: &mut Desk,
        rules: &Arc<SyncRules>,
        sync: usize,
        member: MemberIndex,
        others: &[MemberIndex],
        item: Stranger,
        found: Vec<Vec<Observation>>,
        reservations: &mut BTreeMap<Vec<u8>, LinkId>,
        making: &Making,
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
        if let Some((value, id)) = reserved {
            match self.reserved(desk, rules, sync, member, (id, &value)) {
                Reserved::Stands => {
                    self.meet_reservation(desk, sync, member, item, &pending, id);
                    return Ok(());
                }
                Reserved::Untold(made) => {
                    self.wait_to_hear_of(sync, Waiter::Stranger(item.address), made);
                    return Ok(());
                }
                Reserved::Over => {}
            }
        }
        if item.value.is_none() && self.may_come_of_doubt(sync, member) {
            self.identify_later(sync, item.address);
            return Ok(());
        }
        // A value that only the record's own system gives (its id) finds nothing of what was made for a create either.
        if (item.value.is_none() || found.iter().all(Vec::is_empty))
            && let Some((other, key)) = self.perhaps_made(desk, rules, member, &pending).await?
        {
            self.ambiguous(sync, member, &item.address, &pending, other, vec![key]);
            return Ok(());
        }
        let mut bound: Vec<(MemberIndex, Observation)> = Vec::new();
        let mut into: Option<LinkId> = None;
        for (&other, found) in others.iter().zip(found) {
            let found = self.standing_candidates(rules, sync, other, found, item.value.as_ref());
            let mut found = distinct(found);
            found.retain(|candidate| !is_left_over(desk, rules, other, candidate));
            if found.len() > 1 {
                let keys = found.iter().map(|observation| observation.key.clone()).collect();
                self.ambiguous(sync, member, &item.address, &pending, other, keys);
                return Ok(());
            }
            let Some(candidate) = found.pop() else { continue };
            let sight = crate::capture::incoming(rules, sync, other, candidate.clone(), self.now(), &self.store_id, true);
            if self.is_another_by_now(desk, rules, &sight, item.value.as_ref()) {
                self.identify_later(sync, item.address);
                return Ok(());
            }
            match self.owner(desk, &sight) {
                // A person is asked which record it belongs to: to bind it from this side would be a guess.
                Owner::Nobody if self.parked.contains_key(&address(rules.id, other, &candidate.key)) => {
                    self.ambiguous(sync, member, &item.address, &pending, other, vec![candidate.key]);
                    return Ok(());
                }
                Owner::Nobody => match making.of(other, item.value.as_ref()) {
                    // A create of ours that is under way may have made it: its echo or its answer will say so (invariant 4).
                    Some(flights) => {
                        self.identify_after_flights(sync, item.address, flights.clone());
                        return Ok(());
                    }
                    None if self.is_unheard_of(desk, sync, &address(rules.id, other, &candidate.key)) => {
                        let found = address(rules.id, other, &candidate.key);
                        self.wait_to_hear_of(sync, Waiter::Stranger(item.address), found);
                        return Ok(());
                    }
                    None => bound.push((other, candidate)),
                },
                // Found under a key that it has given up by now: looked for again when the feed has told.
                Owner::Past | Owner::Unclear => {
                    self.identify_later(sync, item.address);
                    return Ok(());
                }
                Owner::Link(id) => match self.may_join(desk, id, member) {
                    Join::Yes if into.is_none_or(|into| into == id) => into = Some(id),
                    Join::Later => {
                        self.identify_after(desk, sync, id, item.address);
                        return Ok(());
                    }
                    _ => {
                        self.duplicate(sync, member, &item.address, &pending, id);
                        return Ok(());
                    }
                },
            }
        }
        if let Some(id) = into {
            // What was found beside the link's records comes in with the stranger only where it may come in by itself.
            let joins: Vec<Join> = bound.iter().map(|(other, _)| self.may_join(desk, id, *other)).collect();
            if joins.contains(&Join::Later) {
                self.identify_after(desk, sync, id, item.address);
                return Ok(());
            }
            let mut joins = joins.into_iter();
            bound.retain(|_| joins.next() == Some(Join::Yes));
        }
        if into.is_none() && bound.is_empty() && self.is_only_to_be_matched(sync, &item.address) {
            desk.set_pending(&item.address, None);
            self.is_left_out(item.address);
            return Ok(());
        }
        if let Some(state) = self.syncs.get_mut(sync) {
            state.unidentified.was_only_read(&item.address, false);
            state.unidentified.put_off.remove(&item.address);
        }
        let mut link = match into.and_then(|id| desk.link(id).cloned()) {
            Some(link) => link,
            None => self.new_link(rules),
        };
        let joined = into.is_some() || !bound.is_empty();
        if let Some(side) = link.sides.get_mut(member) {
            side.key = Some(pending.key.clone());
        }
        desk.set_link(&item.address, Some(link.id), &mut self.transaction);
        for (other, candidate) in &bound {
            if let Some(side) = link.sides.get_mut(*other) {
                side.passes_to(candidate.key.clone());
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

    /// Whether a stranger without a match is left alone: it was read, nobody is known to work on it, and the sync begins with
    /// what both sides have in common, or with the present.
    fn is_only_to_be_matched(&mut self, sync: usize, address: &Address) -> bool {
        let Some(state) = self.syncs.get_mut(sync) else { return false };
        let loading = state.members.iter().any(|member| !member.load.is_done());
        state.rules.initial.strategy.makes_nothing() && state.unidentified.was_only_read(address, loading)
    }

    /// Candidates that still stand: not deleted since the search, and equal in the match fields after smoothing.
    pub(super) fn standing_candidates(
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

    /// Whether a candidate has been seen with another match value since the search: what was found is no more, and is
    /// looked for again.
    fn is_another_by_now(&self, desk: &Desk, rules: &SyncRules, sight: &Incoming, value: Option<&Vec<u8>>) -> bool {
        let member = sight.pending.member;
        let Some(slot) = desk.slot(&sight.address) else { return false };
        let (version, cells) = match (&slot.pending, slot.link.and_then(|id| desk.link(id)).and_then(|it| it.sides.get(member))) {
            (Some(Pending { version, shown: Shown::Present { cells, full: true, .. }, .. }), _) => (version, cells),
            (None, Some(side)) if side.standing == Standing::Present => (&side.version, &side.base),
            _ => return false,
        };
        self.version_order(sight, version) == Some(Ordering::Less) && shown_match_value(rules, member, cells).as_ref() != value
    }

    /// A record with the same match value is being created, or was found a moment ago.
    pub(super) fn meet_reservation(
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
            Join::Later => self.identify_after(desk, sync, id, item.address),
            Join::No => self.duplicate(sync, member, &item.address, pending, id),
        }
    }

    /// Whether a record of `member` may become part of this link.
    pub(crate) fn may_join(&self, desk: &Desk, id: LinkId, member: MemberIndex) -> Join {
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
            Life::Live if awaits(desk, link, member, |shown| matches!(shown, Shown::Gone { .. })) => Join::Later,
            Life::Live if side.standing == Standing::Absent && side.key.is_none() => Join::Yes,
            // A record that is made anew while its counterpart still stands is the same one.
            Life::Live if matches!(side.standing, Standing::Gone | Standing::LeftAlone) => {
                if awaits(desk, link, member, |_| true) { Join::No } else { Join::Yes }
            }
            Life::Live => Join::No,
        }
    }

    /// A create collided with what is there: one match is it; none is looked for again; another link's is a duplicate.
    pub(super) async fn bind_collided(
        &mut self,
        desk: &mut Desk,
        rules: &Arc<SyncRules>,
        sync: usize,
        member: MemberIndex,
        id: LinkId,
        found: Vec<Observation>,
    ) -> Result<()> {
        let Some(mut link) = desk.link(id).cloned() else { return Ok(()) };
        let is_met = link.sides.get(member).is_none_or(|side| side.standing == Standing::Present);
        if is_met || link.life != Life::Live {
            return Ok(());
        }
        if link.in_flight() {
            self.want_match_later(sync, member, id);
            return Ok(());
        }
        let now = self.now();
        let later = now.plus(match_pause(&link, member));
        self.owe_later(sync, &mut link, member, now);
        desk.save(link.clone());
        desk.touch(id);
        let mut found = self.in_the_way(desk, rules, sync, (&link, member), distinct(found));
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
            Owner::Nobody if self.being_made(rules, sync).of(member, link_match_value(rules, &link).as_ref()).is_some() => {
                self.owe_later(sync, &mut link, member, later);
                desk.save(link);
                return Ok(());
            }
            Owner::Nobody if self.is_unheard_of(desk, sync, &there) => {
                self.wait_to_hear_of(sync, Waiter::Create(id), there);
                self.owe_later(sync, &mut link, member, now.plus(SEARCH_PATIENCE));
                desk.save(link);
                return Ok(());
            }
            Owner::Link(other) => {
                if self.may_join(desk, other, member) == Join::Later {
                    self.owe_later(sync, &mut link, member, later);
                    desk.save(link);
                    return Ok(());
                }
                if self.is_other_half(desk, &link, other) {
                    self.take_other_half(desk, sync, rules, &mut link, other);
                    desk.save(link);
                    desk.touch(id);
                    return Ok(());
                }
                if self.ask_after_the_records(desk, sync, &link, other, member) {
                    count_a_look(&mut link, member);
                    desk.save(link);
                    return Ok(());
                }
                let error =
                    Error::new(Code::MatchDuplicate, format!("the record {} already belongs to another one", candidate.key));
                self.block(sync, &mut link, member, &error);
                desk.save(link);
                return Ok(());
            }
            // The record is back under the key that it had.
            Owner::Nobody if awaits(desk, &link, member, |shown| matches!(shown, Shown::Present { .. })) => return Ok(()),
            Owner::Nobody => {
                if let Some(side) = link.sides.get_mut(member) {
                    if let Some(old) = &side.key {
                        // That it is gone there is no news about the record that takes its place.
                        desk.set_pending(&address(rules.id, member, old), None);
                    }
                    side.passes_to(candidate.key.clone());
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

    /// Before a person hears of a duplicate: a feed that is slow to tell may have lost the record that is to be made, the other
    /// one being it made anew, or the record that the other one was made of. Says whether they have to be read first, which is
    /// done once for every create.
    fn ask_after_the_records(&mut self, desk: &Desk, sync: usize, link: &Link, other: LinkId, member: MemberIndex) -> bool {
        if link.sides.get(member).is_none_or(|side| side.misses > 1) {
            return false;
        }
        let links = std::iter::once(link).chain(desk.link(other));
        let holders = links.flat_map(|link| {
            let there =
                link.sides.iter().enumerate().filter(|(holder, side)| *holder != member && side.standing == Standing::Present);
            there.map(|(holder, _)| (holder, link.id))
        });
        let holders: Vec<(MemberIndex, LinkId)> = holders.collect();
        for (holder, link) in &holders {
            self.want_read(sync, *holder, *link);
        }
        !holders.is_empty()
    }

    pub(super) fn note_linked(&mut self, rules: &SyncRules, link: LinkId, member: MemberIndex, key: &Key) {
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

    pub(super) fn ambiguous(
        &mut self,
        sync: usize,
        member: MemberIndex,
        address: &Address,
        pending: &Pending,
        other: MemberIndex,
        candidates: Vec<Key>,
    ) {
        let message = match candidates.as_slice() {
            [only] => format!("record {} could be the one of the key {only}, which waits for a decision itself", pending.key),
            several => format!("record {} has {} possible matches", pending.key, several.len()),
        };
        let subject = Subject::Ambiguous { member, key: pending.key.clone(), other, candidates };
        self.park_stranger(sync, address, Code::MatchAmbiguous, message, subject);
    }

    pub(super) fn duplicate(&mut self, sync: usize, member: MemberIndex, address: &Address, pending: &Pending, linked: LinkId) {
        let message = format!("record {} has the same match fields as one that is already linked", pending.key);
        let subject = Subject::Duplicate { member, key: pending.key.clone(), linked };
        self.park_stranger(sync, address, Code::MatchDuplicate, message, subject);
        self.is_double_of(sync, address.clone(), linked);
    }

    pub(crate) fn park_stranger(&mut self, sync: usize, address: &Address, code: Code, message: String, subject: Subject) {
        // One item for one stranger: what is asked about it is asked anew.
        let id = self.parked.get(address).copied().unwrap_or_else(|| self.new_review());
        let Some(rules) = self.rules(sync) else { return };
        let review =
            Review { id, sync: rules.id, link: None, opened: self.now(), closed: None, code: code.to_string(), message, subject };
        self.open_review(sync, review);
        self.parked.insert(address.clone(), id);
    }
}

/// How long a create waits for its place, longer each time that it was found taken: every look may be a call.
fn match_pause(link: &Link, member: MemberIndex) -> std::time::Duration {
    let misses = link.sides.get(member).map_or(0, |side| side.misses);
    MATCH_PAUSE.saturating_mul(1 << misses.saturating_sub(1).min(8))
}

/// Whether something of this kind was seen of a member's record and is yet to be decided.
fn awaits(desk: &Desk, link: &Link, member: MemberIndex, kind: impl Fn(&Shown) -> bool) -> bool {
    desk.pending(link).get(member).and_then(Option::as_ref).is_some_and(|pending| kind(&pending.shown))
}

/// Whether a record may become part of a link.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Join {
    Yes,
    No,
    Later,
}
