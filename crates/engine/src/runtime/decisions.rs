//! Between the pure merge and the outside world: which links are looked at, what of a decision is remembered, and what
//! it sends on its way.

use super::core::Core;
use super::desk::{Desk, address};
use crate::clock::Moment;
use crate::error::{Code, Error, Result};
use crate::guard::Verdict;
use crate::link::{Link, LinkId, MemberIndex, Pending, Shown, Standing};
use crate::reconcile::{Decision, Known, Need, Outcome, Patch, Ruling, Uniqueness, decide_knowing, patch_knowing};
use crate::references::{References, frees_what_is_held, names_another};
use crate::review::{Review, Subject};
use crate::rules::SyncRules;
use crate::runtime::bounds::{READING_MAX, STEP, WAITS_MAX};
use std::sync::Arc;

impl Core {
    /// Decides about every link that the event touched. In the middle of a source transaction deletes wait for its end,
    /// so that a mass delete is seen whole; those links are given back.
    pub(crate) async fn decide_touched(&mut self, desk: &mut Desk, middle: bool) -> Result<Vec<LinkId>> {
        let mut deferred = Vec::new();
        loop {
            let touched = desk.take_touched();
            if touched.is_empty() {
                return Ok(deferred);
            }
            self.load_references(desk, &touched).await?;
            for id in touched {
                if middle && self.has_fresh_delete(desk, id) {
                    deferred.push(id);
                    continue;
                }
                self.decide_link(desk, id).await?;
            }
        }
    }

    fn has_fresh_delete(&self, desk: &Desk, id: LinkId) -> bool {
        desk.link(id)
            .is_some_and(|link| desk.pending(link).iter().flatten().any(|pending| matches!(pending.shown, Shown::Gone { .. })))
    }

    /// Decides about one link and sends what follows on its way. A link that is being written or read waits: its
    /// observations stay pending, and what people said about it stays noted.
    pub(crate) async fn decide_link(&mut self, desk: &mut Desk, id: LinkId) -> Result<()> {
        self.decide_link_knowing(desk, id, &Uniqueness::Known(Vec::new())).await
    }

    /// As [`Core::decide_link`], with what was found out about values that must be unique.
    pub(crate) async fn decide_link_knowing(&mut self, desk: &mut Desk, id: LinkId, unique: &Uniqueness) -> Result<()> {
        let Some(sync) = desk.link(id).and_then(|link| self.sync_of(link.sync)) else { return Ok(()) };
        let flies = desk.link(id).is_some_and(Link::in_flight) && !crate::mutants::active("two_flights_per_link");
        let active = self.syncs.get(sync).is_some_and(super::core::SyncState::active);
        let looked_for = self.syncs.get(sync).is_some_and(|state| state.looks.awaits(id));
        if !active || flies || looked_for || self.reading.contains(&id) {
            return Ok(());
        }
        self.load_references(desk, &[id]).await?;
        self.follow_noted(desk, sync, id).await?;
        let decided = !self.reading.contains(&id) && self.decide_by(desk, sync, id, None, unique)?;
        if let Some(rules) = self.rules(sync).filter(|_| decided) {
            self.dispatch(desk, &rules, sync, id);
            self.renew_waits(desk, &rules, sync, id);
        }
        Ok(())
    }

    /// Decides about a link that is free, by a person's ruling where there is one. Says whether it came to a decision:
    /// `false` leaves everything pending, for the link must first be read, or waits for a time or a person.
    pub(crate) fn decide_by(
        &mut self,
        desk: &mut Desk,
        sync: usize,
        id: LinkId,
        ruling: Option<&Ruling>,
        unique: &Uniqueness,
    ) -> Result<bool> {
        let (Some(link), Some(rules)) = (desk.shared(id), self.rules(sync)) else { return Ok(false) };
        let pending = desk.lift_pending(&link);
        let known = self.with_what_was_sent(&rules, &link, &pending);
        let link: &Link = &known;
        let seen: Vec<Option<&Pending>> = pending.iter().map(Option::as_ref).collect();
        let references = self.references(desk, &rules, link, &seen);
        let mut ruling = ruling;
        if self.is_guarded(sync, link, &pending) && !matches!(ruling, Some(Ruling::Life { .. })) {
            match self.verdict_on(sync, link, &pending) {
                None => {
                    self.park(desk, sync, link, &pending);
                    desk.lay_back(link, pending);
                    return Ok(false);
                }
                Some(Verdict::LetThrough) => {}
                Some(Verdict::Undo) => ruling = Some(&Ruling::Life { keep: true }),
            }
        }
        let is_freed = rules.refers()
            && (frees_what_is_held(&rules, link, &references)
                || rules.references().any(|(field, _)| names_another(&rules, link, field, &references)));
        if pending.iter().all(Option::is_none) && ruling.is_none() && !link.is_of_old_mapping() && !is_freed {
            return Ok(true);
        }
        let now = self.now();
        let known = Known { unique, references: &references };
        let decided = decide_knowing(&rules, link, &pending, ruling, known, now, &mut self.reviews.lock());
        let need = match decided {
            Outcome::Decided(decision) => {
                self.take_decision(desk, sync, link, &pending, *decision);
                return Ok(true);
            }
            Outcome::Needs(need) => need,
        };
        let mut parts = None;
        match need {
            Need::Read(members) => {
                let unreadable = members.iter().find(|member| self.unreadable_links.contains(&(id, **member)));
                match unreadable.and_then(|member| link.sides.get(*member)).and_then(|side| side.blocked) {
                    Some(_) => self.park(desk, sync, link, &pending),
                    None if self.reading.len() >= READING_MAX => self.spill(sync),
                    None => members.into_iter().for_each(|member| self.want_read(sync, member, id)),
                }
            }
            Need::Look(values) if self.syncs.get(sync).is_some_and(|state| state.looks.is_refused(link, &values)) => {
                self.park(desk, sync, link, &pending);
            }
            Need::Look(values) => self.want_look(sync, id, values),
            Need::Wait(_) if self.waits.len() >= WAITS_MAX => self.spill(sync),
            Need::Wait(until) => {
                self.waits.insert((until, id), sync);
            }
            Need::NewLink(member) => parts = Some(member),
            Need::Referred(unknown) => self.await_records(desk, sync, link, &pending, unknown),
            Need::Person => self.park(desk, sync, link, &pending),
        }
        desk.lay_back(link, pending);
        if let Some(member) = parts {
            self.part_from_tombstone(desk, sync, link, member)?;
        }
        Ok(false)
    }

    pub(crate) fn take_decision(
        &mut self,
        desk: &mut Desk,
        sync: usize,
        before: &Link,
        pending: &[Option<Pending>],
        decision: Decision,
    ) {
        let Decision { mut link, changed, substantive, ledger, reviews, mut closed } = decision;
        self.keep_in_doubt(before, &mut link, &mut closed);
        self.forget_what_was_sent(&link);
        let mut freed = false;
        if let Some(member) = self.syncs.get_mut(sync).and_then(|state| state.looks.is_over(before.id)) {
            let blocked = link.sides.get_mut(member).and_then(|side| side.blocked.take());
            freed = blocked.is_some();
            closed.extend(blocked.map(|review| (review, "decided".to_owned())));
        }
        let addresses = if self.parked.is_empty() { Vec::new() } else { self.addresses(before) };
        for (address, _) in addresses {
            // It was a stranger when a person was asked about it.
            if let Some(review) = self.parked.remove(&address) {
                self.close_review(sync, review, "the record belongs to another one by now".to_owned());
            }
        }
        if let Some(state) = self.syncs.get_mut(sync) {
            state.parked.take(before.id);
        }
        self.look_at_those_behind(sync, before.id);
        self.look_at_doubles(sync, before, &link);
        desk.clear_lifted(before, pending);
        if !crate::mutants::active("loser_not_recorded") {
            self.transaction.ledger.extend(ledger);
        }
        for review in reviews {
            self.open_review(sync, review);
        }
        for (review, how) in closed {
            self.close_review(sync, review, how);
        }
        if crate::mutants::active("base_stays_behind") {
            for (side, old) in link.sides.iter_mut().zip(&before.sides) {
                side.base.clone_from(&old.base);
            }
        }
        // The echo of our own write moves nothing but a version, and need not be written: invariant 5.
        let only_echo = !substantive && pending.iter().flatten().all(|pending| pending.echo);
        if freed || (changed && !only_echo) {
            desk.save(link);
        } else {
            desk.show(link);
        }
    }

    /// Sends what is owed on its way: into a flight where the member can be written now, into the list of debts otherwise.
    pub(crate) fn dispatch(&mut self, desk: &mut Desk, rules: &Arc<SyncRules>, sync: usize, id: LinkId) {
        let now = self.now();
        let Some(link) = desk.link(id) else { return };
        let due: Vec<MemberIndex> = (0..link.sides.len()).filter(|member| is_due(link, *member, now)).collect();
        if due.is_empty() {
            return;
        }
        let references = self.references(desk, rules, link, &[]);
        let Some(mut link) = desk.take(id) else { return };
        let mut changed = false;
        for member in due {
            changed |= self.dispatch_to(rules, sync, &mut link, member, &references, now);
        }
        if changed { desk.save(link) } else { desk.show(link) }
    }

    /// Sends what one member is owed on its way; says whether that changed the link.
    fn dispatch_to(
        &mut self,
        rules: &Arc<SyncRules>,
        sync: usize,
        link: &mut Link,
        member: MemberIndex,
        references: &References,
        now: Moment,
    ) -> bool {
        let Some(side) = link.sides.get(member) else { return false };
        let queued = side.queued;
        let is_load = self.is_of_a_load(sync, link);
        let held = self.member(sync, member).and_then(|state| state.load.held_until(now)).filter(|_| is_load);
        let Some(side) = link.sides.get(member) else { return false };
        let displaced = side.standing == Standing::Present && self.is_displaced(sync, member, side);
        if side.blocked.is_some() || displaced {
            self.strike_debt(link, member);
            return queued;
        }
        match patch_knowing(rules, link, member, references) {
            Patch::Nothing => {
                if let Some(side) = link.sides.get_mut(member) {
                    side.owes.clear();
                    side.owes_life = false;
                }
                self.strike_debt(link, member);
            }
            Patch::Waits | Patch::Awaits => {
                self.strike_debt(link, member);
                return queued;
            }
            Patch::Rejected(error) => self.block(sync, link, member, &error),
            Patch::Write(_) if self.looks_before_unmarking(rules, sync, link, member) => {
                self.want_match(sync, member, link.id);
                self.owe_later(sync, link, member, now.plus(crate::settle::SEARCH_PATIENCE));
            }
            // Calls are short, and what people do comes first.
            Patch::Write(_) if held.is_some() => self.owe_later(sync, link, member, held.unwrap_or(now)),
            Patch::Write(mut operation) if self.has_seat(sync, link, member, is_load) || self.can_fly(sync, member, is_load) => {
                self.take_place(rules, sync, link.id, member, &mut operation);
                self.strike_debt(link, member);
                self.board(sync, link, member, operation, is_load);
            }
            // What people did is first on the list, before all that a first load has put there.
            Patch::Write(_) => {
                let is_last = is_load || crate::mutants::active("people_behind_loads");
                let due = if is_last { now } else { Moment::default() };
                if is_on_the_list(link, member, due) {
                    return false;
                }
                self.owe_later(sync, link, member, due);
            }
        }
        true
    }

    /// Takes a side off the list of debts.
    pub(crate) fn strike_debt(&mut self, link: &mut Link, member: MemberIndex) {
        if let Some(side) = link.sides.get_mut(member)
            && side.queued
        {
            side.queued = false;
            self.transaction.owed.push((link.sync, member, link.id, None));
        }
    }

    /// Puts a side on the list of debts, to be paid at `due`.
    pub(crate) fn owe_later(&mut self, sync: usize, link: &mut Link, member: MemberIndex, due: Moment) {
        if let Some(side) = link.sides.get_mut(member) {
            side.queued = true;
            side.due = due;
            side.flight = None;
            self.transaction.owed.push((link.sync, member, link.id, Some(due)));
        }
        if let Some(state) = self.member(sync, member) {
            state.maybe_owing = true;
        }
    }

    /// Keeps a member from being written until a person has looked, or until the record changes.
    pub(crate) fn block(&mut self, sync: usize, link: &mut Link, member: MemberIndex, error: &Error) {
        let fields: Vec<String> = error.at.iter().cloned().collect();
        let subject = match error.code {
            Code::Unreadable => match link.sides.get(member).and_then(|side| side.key.clone()) {
                Some(key) => Subject::Unreadable { member, key },
                None => Subject::Rejected { member, fields },
            },
            Code::RetriesExhausted | Code::CreateUnproven => Subject::Exhausted { member },
            _ => Subject::Rejected { member, fields },
        };
        let known = link.sides.get(member).and_then(|side| side.blocked);
        let id = known.unwrap_or_else(|| self.new_review());
        let review = Review {
            id,
            sync: link.sync,
            link: Some(link.id),
            opened: self.now(),
            closed: None,
            code: error.code.to_string(),
            message: error.to_string(),
            subject,
        };
        self.open_review(sync, review);
        if let Some(side) = link.sides.get_mut(member) {
            side.blocked = Some(id);
            side.flight = None;
        }
        self.strike_debt(link, member);
        let key = link.sides.get(member).and_then(|side| side.key.as_ref()).map(ToString::to_string).unwrap_or_default();
        self.transaction.ledger.push(crate::ledger::LedgerRow {
            at: self.now(),
            sync: link.sync,
            link: Some(link.id),
            member,
            key,
            entry: crate::ledger::Entry::Rejected(error.code.to_string()),
            fields: Vec::new(),
        });
    }

    /// The record under this key is a new one: it parts from its tombstone and is identified like any stranger.
    fn part_from_tombstone(&mut self, desk: &mut Desk, sync: usize, link: &Link, member: MemberIndex) -> Result<()> {
        let Some(key) = link.sides.get(member).and_then(|side| side.key.clone()) else { return Ok(()) };
        let address = address(link.sync, member, &key);
        let mut link = link.clone();
        if let Some(side) = link.sides.get_mut(member) {
            side.key = None;
        }
        desk.set_link(&address, None, &mut self.transaction);
        desk.touch(link.id);
        desk.save(link);
        self.unidentified(sync, address);
        Ok(())
    }

    /// The addresses of a link's records.
    pub(crate) fn addresses(&self, link: &Link) -> Vec<(crate::store::Address, MemberIndex)> {
        link.sides
            .iter()
            .enumerate()
            .filter_map(|(member, side)| Some((address(link.sync, member, side.key.as_ref()?), member)))
            .collect()
    }

    /// What is pending about this link waits for a person. What is owed of it stays in the link and leaves the list of
    /// debts: it would be taken up again and again, and stand before the debts of others (invariant 7).
    pub(crate) fn park(&mut self, desk: &mut Desk, sync: usize, link: &Link, pending: &[Option<Pending>]) {
        if let Some(state) = self.syncs.get_mut(sync) {
            state.parked.put(link.id, pending.iter().flatten().count());
        }
        if link.sides.iter().any(|side| side.queued) && !crate::mutants::active("debts_of_the_held_stay") {
            let mut link = link.clone();
            (0..link.sides.len()).for_each(|member| self.strike_debt(&mut link, member));
            desk.save(link);
        }
    }

    /// Looks again at links whose wait is over.
    pub(crate) async fn wake_waiting(&mut self, now: Moment) -> Result<()> {
        let due: Vec<(Moment, LinkId)> = self.waits.range(..=(now, LinkId(u64::MAX))).map(|(key, _)| *key).collect();
        if due.is_empty() {
            return Ok(());
        }
        let ids: Vec<LinkId> = due.iter().map(|(_, id)| *id).collect();
        for key in due {
            self.waits.remove(&key);
        }
        for ids in ids.chunks(STEP) {
            self.look_again(ids.to_vec()).await?;
        }
        Ok(())
    }

    /// Looks at these links anew.
    pub(crate) async fn look_again(&mut self, ids: Vec<LinkId>) -> Result<()> {
        // The store is read: it must know what this event has decided so far.
        self.commit();
        let mut desk = self.desk();
        desk.load_links(&self.store, ids.clone()).await?;
        self.look_again_at(&mut desk, ids).await
    }

    /// Looks at these links anew, which lie on the desk as the store knows them.
    pub(crate) async fn look_again_at(&mut self, desk: &mut Desk, ids: Vec<LinkId>) -> Result<()> {
        for id in ids {
            desk.touch(id);
        }
        self.decide_touched(desk, false).await?;
        desk.flush(&mut self.transaction);
        Ok(())
    }

    pub(crate) fn new_review(&mut self) -> crate::link::ReviewId {
        self.reviews.next()
    }

    pub(crate) fn open_review(&mut self, _sync: usize, review: Review) {
        self.transaction.reviews.retain(|other| other.id != review.id);
        self.transaction.closed_reviews.retain(|(other, ..)| *other != review.id);
        self.transaction.reviews.push(review);
    }

    /// Closes a review item. What the item said is kept; only its end is added, when the transaction is written.
    pub(crate) fn close_review(&mut self, _sync: usize, id: crate::link::ReviewId, how: String) {
        self.transaction.reviews.retain(|other| other.id != id);
        let now = self.now();
        self.transaction.closed_reviews.push((id, now, how));
    }
}

/// Whether a side is on the list of debts already, no further behind than it belongs: to put it there again would be two rows for
/// nothing.
fn is_on_the_list(link: &Link, member: MemberIndex, due: Moment) -> bool {
    link.sides.get(member).is_some_and(|side| side.queued && side.flight.is_none() && side.due <= due)
}

/// Whether something owed to a member is to be looked at now.
fn is_due(link: &Link, member: MemberIndex, now: Moment) -> bool {
    link.sides.get(member).is_some_and(|side| {
        let later = side.queued && side.due > now;
        side.flight.is_none() && !later && (side.is_owing() || side.queued)
    })
}
