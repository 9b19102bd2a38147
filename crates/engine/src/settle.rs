//! Stage 7: what became of a flight, record by record, in one transaction: bases, ledger, review, and what follows.

mod created;
mod unseen;

use crate::apply::PUT_OFF_MAX;
use crate::capture::Incoming;
use crate::clock::Moment;
use crate::connector::{Operation, Outcome, WriteResult};
use crate::error::{Class, Code, Error, Result};
use crate::flight::{Flight, Intent};
use crate::ledger::{Entry, LedgerRow};
use crate::link::{FlightId, Life, Link, LinkId, MemberIndex, Pending, Shown, Standing};
use crate::reconcile::{Folded, Written, cover_pending, fold, refine_times, settle};
use crate::record::Record;
use crate::rules::{Fallback, SyncRules};
use crate::runtime::airborne::Answer;
use crate::runtime::core::Core;
use crate::runtime::desk::{Desk, address};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Guard misses in a row whose re-read showed nothing new, before a person is asked.
const MAX_MISSES: u32 = 5;

/// How long a feed may take to tell of a write that was answered, before it is asked whether it is past it.
const ECHO_PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// How long a write waits for the search for what stands in its way.
pub(crate) const SEARCH_PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

impl Core {
    pub(crate) async fn on_applied(&mut self, id: FlightId, result: Result<Vec<WriteResult>>) -> Result<()> {
        crate::failpoint::pass("applied_before_settle");
        let Some(airborne) = self.flights.get(&id) else { return Ok(()) };
        let (sync, member, is_load) = (airborne.sync, airborne.flight.member, airborne.is_load);
        let flight = Arc::clone(&airborne.flight);
        let intents = &flight.intents;
        if let Some(state) = self.member(sync, member) {
            state.flying = state.flying.saturating_sub(1);
            state.loads_flying = state.loads_flying.saturating_sub(usize::from(is_load));
        }
        let results = match result {
            Ok(results) => {
                self.member_is_up(sync, member);
                let quick = self.options.saturation_patience / 10;
                if self.now().since(flight.opened) < quick {
                    self.saturated_since = None;
                }
                results
            }
            Err(error) if error.class() == Class::UnknownOutcome => {
                intents.iter().map(|intent| WriteResult { id: intent.write.id, outcome: Outcome::Unknown }).collect()
            }
            Err(error) if is_load && error.class() == Class::Throttled => {
                self.hold_loads(sync, member, &error);
                Vec::new()
            }
            Err(error) => {
                self.member_failed(sync, member, error);
                Vec::new()
            }
        };
        if is_load && let Some(error) = results.iter().find_map(refused_for_want_of_calls) {
            self.hold_loads(sync, member, &error);
        }
        let mut outcomes: BTreeMap<u64, Outcome> = results.into_iter().map(|result| (result.id, result.outcome)).collect();
        let mut desk = self.desk();
        desk.load_links(&self.store, intents.iter().map(|intent| intent.link).collect()).await?;
        // Under the keys that were given nothing is known yet, mostly: one look for all of them.
        desk.load(&self.store, outcomes.values().filter_map(|it| written_at(&flight, it)).collect()).await?;
        let (mut in_doubt, mut untold) = (false, false);
        let mut settled = Vec::with_capacity(intents.len());
        for intent in intents {
            let open = desk.link(intent.link).and_then(|link| link.sides.get(member)).is_some_and(|side| side.flight == Some(id));
            if !open {
                // The feed has told of it already.
                continue;
            }
            // No answer for a write of a call that as a whole did not happen: it did not happen either.
            let outcome = match outcomes.remove(&intent.write.id).unwrap_or(Outcome::Locked) {
                // Made in a life of the system that is over: what is left of it, a read tells.
                Outcome::Written { .. } if !self.is_provable(sync, member, id) => Outcome::Unknown,
                Outcome::Written { key, image, version } if self.is_settled_by_its_echo(sync, member, intent) => {
                    let answer = Answer { at: self.now(), key, image, version };
                    self.flights.get_mut(&id).and_then(|airborne| airborne.answers.insert(intent.link, answer));
                    untold = true;
                    continue;
                }
                outcome => outcome,
            };
            if matches!(outcome, Outcome::Written { .. }) {
                settled.push(intent.link);
            }
            in_doubt |= self.settle_intent(&mut desk, sync, &flight, intent, outcome).await?;
        }
        self.decide_touched(&mut desk, false).await?;
        // Only now: what the system gave besides (an id, a stamp) has been taken into account, and its echo shows that too.
        settled.into_iter().for_each(|link| self.expect_echo(&desk, link, member, id));
        desk.flush(&mut self.transaction);
        if in_doubt || untold {
            let until = self.now().plus(ECHO_PATIENCE);
            if let Some(airborne) = self.flights.get_mut(&id) {
                airborne.in_doubt = true;
                airborne.again_at = (!in_doubt).then_some(until);
            }
            self.ask_fence(sync, member);
        } else {
            self.land(id);
        }
        let now = self.now();
        crate::failpoint::pass("settled_before_durable");
        self.pay_debts_of(sync, member, now).await
    }

    /// The flight is over.
    pub(crate) fn land(&mut self, id: FlightId) {
        if let Some(airborne) = self.flights.remove(&id) {
            self.transaction.closed.push(id);
            for intent in &airborne.flight.intents {
                self.flight_is_over(airborne.sync, airborne.flight.member, intent.link);
            }
            self.not_made_by(airborne.sync, id);
        }
    }

    /// Settles one write; says whether it stays in doubt.
    async fn settle_intent(
        &mut self,
        desk: &mut Desk,
        sync: usize,
        flight: &Flight,
        intent: &Intent,
        outcome: Outcome,
    ) -> Result<bool> {
        let member = flight.member;
        match outcome {
            Outcome::Written { key, image, version } => {
                if matches!(intent.write.operation, Operation::Create { .. }) {
                    self.note_made(sync, member, intent.link, &key);
                }
                let (operation, planned) = (&intent.write.operation, intent.decision);
                let written = Written { operation, key, image, times: Vec::new(), version, hops: flight.hops, planned };
                self.settle_written(desk, sync, member, intent, &written).await?;
            }
            Outcome::Unknown => {
                if !crate::mutants::active("unknown_taken_for_failed") {
                    return Ok(true);
                }
                self.try_again(desk, sync, member, intent.link, None);
            }
            Outcome::Missed => self.missed(desk, sync, member, intent.link),
            Outcome::Collision if crate::mutants::active("collision_ignored") => self.forget_debt(desk, member, intent.link),
            Outcome::Collision => self.collided(desk, sync, member, intent),
            Outcome::Locked if crate::mutants::active("debt_forgotten") => self.forget_debt(desk, member, intent.link),
            Outcome::Locked => self.try_again(desk, sync, member, intent.link, None),
            Outcome::Failed(error) => match error.class() {
                Class::Stale => self.missed(desk, sync, member, intent.link),
                Class::UnknownOutcome => return Ok(true),
                Class::Rejected | Class::BadInput => self.reject(desk, sync, member, intent.link, &error),
                Class::Stop => {
                    self.member_failed(sync, member, error);
                    self.try_again(desk, sync, member, intent.link, None);
                }
                Class::Throttled => self.try_again(desk, sync, member, intent.link, error.retry_after),
                Class::Transient => self.attempt_failed(desk, sync, member, intent.link, error),
            },
        }
        Ok(false)
    }

    /// A write happened: bases, ledger, and what the system made of it.
    pub(crate) async fn settle_written(
        &mut self,
        desk: &mut Desk,
        sync: usize,
        member: MemberIndex,
        intent: &Intent,
        written: &Written<'_>,
    ) -> Result<()> {
        self.decide_the_unseen(desk, sync, member, intent, written).await?;
        let (Some(link), Some(rules)) = (desk.shared(intent.link), self.rules(sync)) else { return Ok(()) };
        let now = self.now();
        let (mut after, row, returned) = settle(&rules, &link, member, written, now);
        if let Some(side) = after.sides.get(member)
            && side.queued
        {
            self.strike_debt(&mut after, member);
        }
        self.transaction.ledger.push(row);
        let flight = link.sides.get(member).and_then(|side| side.flight).and_then(|flight| self.flights.get(&flight));
        let answered_at = flight.and_then(|airborne| airborne.answers.get(&intent.link)).map(|answer| answer.at);
        if let Some(state) = self.syncs.get_mut(sync) {
            state.meters.written(answered_at.unwrap_or(now), intent.edited);
        }
        let told = returned.is_some();
        if let Some(key) = after.sides.get(member).and_then(|side| side.key.clone()) {
            let new = address(link.sync, member, &key);
            let old = link.sides.get(member).and_then(|side| side.key.as_ref()).map(|key| address(link.sync, member, key));
            desk.load(&self.store, vec![new.clone()]).await?;
            if old.is_some_and(|old| old != new) {
                self.carry_pending(desk, &link, member, &key);
            }
            if !matches!(written.operation, Operation::Delete { .. }) {
                self.take_key(desk, link.id, &new).await?;
            }
            // Of what a read shows, the feed may have told before since when it is so.
            let told_before = desk.slot(&new).and_then(|slot| slot.pending.clone());
            let returned = returned.map(|mut returned| {
                told_before.iter().for_each(|event| _ = refine_times(&rules, &mut returned, event));
                returned
            });
            self.drop_what_is_older(desk, &rules, &link, sync, &new, written);
            let returned = returned.filter(|_| !crate::mutants::active("returned_value_ignored"));
            if let Some(returned) = returned {
                self.fold_under(desk, &rules, &new, returned);
            }
        }
        if !after.sides.iter().any(|side| side.owes_life) && !self.is_untold(sync, &after) {
            self.end_reservation(&rules, &after);
        }
        self.forget_what_was_sent(&after);
        self.put_debts_down(sync, &mut after);
        // What is pending is looked at, and read where it leaves something out.
        let incomplete = !told && !knows_everything(&rules, &after, member);
        desk.save(after);
        desk.touch(intent.link);
        if incomplete {
            // A create shows more than was given (defaults, fields of the member's own), and not all of it was returned.
            self.want_read_instead(sync, member, intent.link);
        }
        self.flight_is_over(sync, member, intent.link);
        Ok(())
    }

    /// The guard held, so whatever was pending from before the write had come to nothing; where there is no guard, the write
    /// went over it.
    fn drop_what_is_older(
        &mut self,
        desk: &mut Desk,
        rules: &SyncRules,
        link: &Link,
        sync: usize,
        address: &crate::store::Address,
        written: &Written<'_>,
    ) {
        let member = address.member;
        let Some(pending) = desk.slot(address).and_then(|slot| slot.pending.clone()) else { return };
        if crate::mutants::active("pending_cleared_beyond_plan") {
            desk.set_pending(address, None);
            return;
        }
        let Some(connector) = self.connector(sync, member) else { return };
        match connector.compare(&pending.version, &written.version) {
            Some(Ordering::Greater) => {}
            // Nobody can have worked on a record before it was made.
            Some(Ordering::Less | Ordering::Equal)
                if !connector.capabilities().guarded_writes && !matches!(written.operation, Operation::Create { .. }) =>
            {
                let (left, row) = cover_pending(rules, link, pending, written, self.now());
                desk.set_pending(address, left);
                self.transaction.ledger.extend(row);
            }
            Some(Ordering::Less | Ordering::Equal) => desk.set_pending(address, None),
            // A read that may have been before the write shows what the write replaced: only another read can tell.
            None => {
                desk.set_pending(address, None);
                self.want_read_instead(sync, member, link.id);
            }
        }
    }

    /// Folds what a write returned under what is pending, which is newer.
    fn fold_under(&mut self, desk: &mut Desk, rules: &Arc<SyncRules>, address: &crate::store::Address, returned: Pending) {
        let newer = desk.slot(address).and_then(|slot| slot.pending.clone());
        let folded = match newer {
            None => returned,
            Some(newer) => match fold(rules, Some(returned), newer.clone(), Some(Ordering::Greater)) {
                Folded::Into(folded) => *folded,
                Folded::Dropped | Folded::Unordered => newer,
            },
        };
        desk.set_pending(address, Some(folded));
    }

    /// The feed gave our own write back before its answer, or instead of it: that settles it, here and now, in the same
    /// transaction as the position. What the feed tells afterwards is news.
    pub(crate) async fn settle_echo(&mut self, desk: &mut Desk, id: LinkId, flight: FlightId, one: Incoming) -> Result<()> {
        let (sync, member) = (one.sync, one.pending.member);
        let Some(airborne) = self.flights.get(&flight) else { return Ok(()) };
        let (place, airborne) = (airborne.place_of(id), Arc::clone(&airborne.flight));
        let hops = airborne.hops;
        let Some(intent) = place.and_then(|place| airborne.intents.get(place)) else { return Ok(()) };
        let gone = matches!(one.pending.shown, Shown::Gone { .. });
        let deletes = matches!(intent.write.operation, Operation::Delete { .. });
        if gone != deletes {
            // Something else happened to the record inside our transaction (a trigger): the answer will tell the rest.
            desk.set_pending(&one.address, Some(one.pending));
            return Ok(());
        }
        let guards = self.connector(sync, member).is_none_or(|connector| connector.capabilities().guarded_writes);
        if guards || crate::mutants::active("unseen_cleared") {
            // What was pending is older than our write, whose guard held.
            desk.set_pending(&one.address, None);
        }
        let before = desk.slot(&one.address).and_then(|slot| slot.pending.as_ref());
        let side = desk.link(id).and_then(|link| link.sides.get(member));
        let (image, unsaid) = self.with_what_is_unsaid(sync, flight, intent, &one.pending, side, before);
        let written = Written {
            operation: &intent.write.operation,
            key: one.pending.key.clone(),
            image,
            times: Vec::new(),
            version: one.pending.version.clone(),
            hops,
            planned: intent.decision,
        };
        self.settle_written(desk, sync, member, intent, &written).await?;
        if unsaid {
            self.want_read_instead(sync, member, id);
        }
        self.flights.get_mut(&flight).and_then(|airborne| airborne.answers.remove(&id));
        self.land_if_empty(desk, flight).await
    }

    pub(super) fn image_of(&self, sync: usize, pending: &Pending) -> Option<Record> {
        let Shown::Present { cells, .. } = &pending.shown else { return None };
        self.rules(sync).map(|rules| crate::map::member_record(&rules, pending.member, cells))
    }

    /// Lands a flight in doubt of which the feed has settled every write.
    async fn land_if_empty(&mut self, desk: &mut Desk, id: FlightId) -> Result<()> {
        let Some(airborne) = self.flights.get(&id).filter(|airborne| airborne.in_doubt) else { return Ok(()) };
        let member = airborne.flight.member;
        let links: Vec<LinkId> = airborne.flight.intents.iter().map(|intent| intent.link).collect();
        desk.load_links(&self.store, links.clone()).await?;
        let open = links
            .iter()
            .any(|link| desk.link(*link).and_then(|link| link.sides.get(member)).is_some_and(|side| side.flight == Some(id)));
        if !open {
            self.land(id);
        }
        Ok(())
    }

    /// The member showed something else than we believed: read it, then plan again. Costs no attempt.
    pub(crate) fn missed(&mut self, desk: &mut Desk, sync: usize, member: MemberIndex, id: LinkId) {
        let Some(mut link) = desk.link(id).cloned() else { return };
        let misses = link.sides.get_mut(member).map_or(0, |side| {
            side.misses = side.misses.saturating_add(1);
            side.misses
        });
        if misses > MAX_MISSES {
            let error = Error::new(Code::GuardNeverHolds, "the record does not show what a read of it showed");
            self.block(sync, &mut link, member, &error);
            desk.save(link);
            // What was seen of it while it flew has waited for this.
            desk.touch(id);
            return;
        }
        let now = self.now();
        self.owe_later(sync, &mut link, member, now);
        desk.save(link);
        self.want_read(sync, member, id);
    }

    /// The write did not happen, for a passing reason that is not the record's.
    pub(crate) fn try_again(
        &mut self,
        desk: &mut Desk,
        sync: usize,
        member: MemberIndex,
        id: LinkId,
        wait: Option<std::time::Duration>,
    ) {
        let Some(mut link) = desk.link(id).cloned() else { return };
        let Some(rules) = self.rules(sync) else { return };
        let wait =
            wait.unwrap_or_else(|| self.jitter.part_of(rules.retry.initial_delay.min(std::time::Duration::from_millis(200))));
        let due = self.now().plus(wait.min(PUT_OFF_MAX.max(rules.retry.max_delay)));
        self.owe_later(sync, &mut link, member, due);
        desk.save(link);
        desk.touch(id);
    }

    /// The write failed in a way that may pass: again, with back-off, until the attempts are used up.
    fn attempt_failed(&mut self, desk: &mut Desk, sync: usize, member: MemberIndex, id: LinkId, error: Error) {
        let (Some(mut link), Some(rules)) = (desk.link(id).cloned(), self.rules(sync)) else { return };
        let attempts = link.sides.get_mut(member).map_or(0, |side| {
            side.attempts = side.attempts.saturating_add(1);
            side.attempts
        });
        let now = self.now();
        if let Some(state) = self.syncs.get_mut(sync) {
            state.meters.failed(now);
        }
        if attempts < rules.retry.max_attempts {
            let due = self.now().plus(self.jitter.part_of(rules.retry.delay(attempts)));
            self.owe_later(sync, &mut link, member, due);
            desk.save(link);
            // What came in meanwhile waits for no attempt.
            desk.touch(id);
            return;
        }
        let exhausted =
            Error::new(Code::RetriesExhausted, format!("{attempts} attempts failed, the last with: {error}")).because(error);
        self.fall_back(desk, sync, member, link, &rules, &exhausted);
    }

    fn reject(&mut self, desk: &mut Desk, sync: usize, member: MemberIndex, id: LinkId, error: &Error) {
        let (Some(link), Some(rules)) = (desk.link(id).cloned(), self.rules(sync)) else { return };
        let now = self.now();
        if let Some(state) = self.syncs.get_mut(sync) {
            state.meters.failed(now);
        }
        self.fall_back(desk, sync, member, link, &rules, error);
    }

    fn fall_back(
        &mut self,
        desk: &mut Desk,
        sync: usize,
        member: MemberIndex,
        mut link: Link,
        rules: &Arc<SyncRules>,
        error: &Error,
    ) {
        match rules.fallback {
            Fallback::Skip => {
                let key = link.sides.get(member).and_then(|side| side.key.as_ref()).map(ToString::to_string).unwrap_or_default();
                self.transaction.ledger.push(LedgerRow {
                    at: self.now(),
                    sync: link.sync,
                    link: Some(link.id),
                    member,
                    key,
                    entry: Entry::Failed(error.to_string()),
                    fields: Vec::new(),
                });
                if let Some(side) = link.sides.get_mut(member) {
                    side.flight = None;
                    side.owes.clear();
                    side.owes_life = false;
                }
                self.strike_debt(&mut link, member);
            }
            Fallback::Review | Fallback::Stop => self.block(sync, &mut link, member, error),
        }
        if rules.fallback == Fallback::Stop {
            self.stand_still(sync, error);
        }
        let id = link.id;
        desk.save(link);
        desk.touch(id);
    }

    /// Only for planted bugs: the debt is dropped.
    fn forget_debt(&mut self, desk: &mut Desk, member: MemberIndex, id: LinkId) {
        let Some(mut link) = desk.link(id).cloned() else { return };
        if let Some(side) = link.sides.get_mut(member) {
            side.flight = None;
            side.owes.clear();
            side.owes_life = false;
        }
        self.strike_debt(&mut link, member);
        desk.save(link);
    }

    /// A create met a record that is already there: it is looked for, as a stranger's match is.
    fn collided(&mut self, desk: &mut Desk, sync: usize, member: MemberIndex, intent: &Intent) {
        let Some(mut link) = desk.link(intent.link).cloned() else { return };
        let misses = link.sides.get_mut(member).map_or(0, |side| {
            side.misses = side.misses.saturating_add(1);
            side.misses
        });
        if misses > MAX_MISSES {
            let error = Error::new(
                Code::TargetRejected,
                "the record cannot be made: another one stands in its way, and none that matches can be found",
            );
            self.block(sync, &mut link, member, &error);
            desk.save(link);
            desk.touch(intent.link);
            return;
        }
        // The search decides what follows; should it never answer, the create is tried again.
        let due: Moment = self.now().plus(SEARCH_PATIENCE);
        self.owe_later(sync, &mut link, member, due);
        desk.save(link);
        self.want_match(sync, member, intent.link);
    }

    fn member_is_up(&mut self, sync: usize, member: MemberIndex) {
        if let Some(state) = self.member(sync, member) {
            state.failures = 0;
            state.retry_at = None;
            state.down = None;
        }
    }

    /// A whole call failed: the member is left alone for a while; its records' attempts are not touched.
    pub(crate) fn member_failed(&mut self, sync: usize, member: MemberIndex, error: Error) {
        let now = self.now();
        let (min, max) = (self.options.reconnect_min, self.options.reconnect_max);
        let Some(state) = self.syncs.get(sync).and_then(|state| state.members.get(member)) else { return };
        let failures = state.failures.saturating_add(1);
        let longest = min.saturating_mul(1 << failures.min(16)).min(max);
        let wait = error.retry_after.unwrap_or(longest / 2 + self.jitter.part_of(longest / 2));
        tracing::warn!(sync, member, error = error.chain(), "a system cannot be written");
        if let Some(state) = self.member(sync, member) {
            state.failures = failures;
            state.retry_at = Some(now.plus(wait));
            state.down.get_or_insert((now, error));
        }
    }

    /// The match value of a link is no longer in the course of being created anywhere, and no feed has yet to tell that it was.
    pub(crate) fn end_reservation(&mut self, rules: &SyncRules, link: &Link) {
        if matches!(link.life, Life::Detached { .. }) {
            return;
        }
        if let Some(value) = crate::identify::link_match_value(rules, link) {
            self.transaction.reservations.push((link.sync, value, None));
        }
    }
}

/// Where a record stands that was written; nobody has one yet where it was made.
fn written_at(flight: &Flight, outcome: &Outcome) -> Option<crate::store::Address> {
    match outcome {
        Outcome::Written { key, .. } => Some(address(flight.sync, flight.member, key)),
        _ => None,
    }
}

/// Why a write was refused, where the system had no call left for it.
fn refused_for_want_of_calls(result: &WriteResult) -> Option<Error> {
    match &result.outcome {
        Outcome::Failed(error) if error.class() == Class::Throttled => Some(error.clone()),
        _ => None,
    }
}

/// Whether every mapped field of a member's record has been seen.
fn knows_everything(rules: &SyncRules, link: &Link, member: MemberIndex) -> bool {
    let Some(side) = link.sides.get(member).filter(|side| side.standing == Standing::Present) else { return true };
    let mut fields = rules.fields.iter().zip(&side.base);
    fields.all(|(field, cell)| cell.is_some() || field.members.get(member).is_none_or(Option::is_none))
}
