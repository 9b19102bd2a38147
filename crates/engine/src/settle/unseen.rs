//! Writes that were not guarded. A member that cannot guard its writes may have written over what a user did a moment
//! before. Only its feed can tell, which gives both in their order. So a change of such a record is settled by its echo rather
//! than by its answer, and what the feed told of the record before the echo is decided first, as if the write had not happened
//! (invariant 3): what wins over the write is then written again, and what loses is in the ledger.

use crate::connector::Operation;
use crate::error::Result;
use crate::flight::Intent;
use crate::link::{FlightId, Link, MemberIndex, Pending, Shown, Side};
use crate::map::cell;
use crate::reconcile::{Uniqueness, Written, takes_everything};
use crate::record::Record;
use crate::rules::SyncRules;
use crate::runtime::airborne::Answer;
use crate::runtime::core::{Core, SyncState};
use crate::runtime::desk::{Desk, address};
use crate::value::Value;
use std::cmp::Ordering;
use std::sync::Arc;

impl Core {
    /// Whether the feed is to say what a write went over, and so settles it.
    pub(super) fn is_settled_by_its_echo(&self, sync: usize, member: MemberIndex, intent: &Intent) -> bool {
        // Nobody can have worked on a record before it was made.
        let makes = matches!(intent.write.operation, Operation::Create { .. });
        !makes
            && self.connector(sync, member).is_some_and(|connector| !connector.capabilities().guarded_writes)
            && self.tells_whose(sync, member)
            && !crate::mutants::active("unguarded_settled_by_answer")
    }

    /// Whether such a write is under way. What is read of the record meanwhile can be newer than the write, and would hide
    /// what the feed has yet to tell from before it.
    pub(crate) fn is_to_be_settled_by_its_echo(&self, sync: usize, member: MemberIndex, link: &Link) -> bool {
        let flight = link.sides.get(member).and_then(|side| self.flights.get(&side.flight?));
        let intent = flight.and_then(|airborne| airborne.intent(link.id));
        intent.is_some_and(|intent| self.is_settled_by_its_echo(sync, member, intent))
    }

    /// Whether a record is gone that an unguarded delete of ours is under way to, at a member that does not say who wrote: the
    /// answer tells whose delete it was, and that what was seen of the record before is not undone by it.
    pub(crate) fn is_gone_by_our_delete(&self, sync: usize, member: MemberIndex, link: &Link) -> bool {
        let flight = link.sides.get(member).and_then(|side| self.flights.get(&side.flight?));
        let intent = flight.and_then(|airborne| airborne.intent(link.id));
        let deletes = intent.is_some_and(|intent| matches!(intent.write.operation, Operation::Delete { .. }));
        let guards = self.connector(sync, member).is_none_or(|connector| connector.capabilities().guarded_writes);
        deletes && !guards && !self.tells_whose(sync, member)
    }

    /// Whether what is told of a member's records says which writes are ours: the system keeps our marks, and the feed, which
    /// may only ask what is new, gives them back.
    pub(crate) fn tells_whose(&self, sync: usize, member: MemberIndex) -> bool {
        self.connector(sync, member).is_some_and(|connector| connector.capabilities().marks)
            && self.feeds_of(sync, member).any(|feed| feed.tells_whose)
    }

    /// The feed is past the fence, or cannot tell: what was answered settles what is left open.
    pub(crate) async fn settle_answered(&mut self, id: FlightId) -> Result<()> {
        let Some(airborne) = self.flights.get(&id) else { return Ok(()) };
        let answers = airborne.answers.clone();
        let (sync, flight) = (airborne.sync, Arc::clone(&airborne.flight));
        let member = flight.member;
        // What was made in a life of the system that is over, a read tells.
        if answers.is_empty() || !self.is_provable(sync, member, id) {
            return Ok(());
        }
        self.commit();
        let mut desk = self.desk();
        desk.load_links(&self.store, answers.keys().copied().collect()).await?;
        desk.load(&self.store, answers.values().map(|answer| address(flight.sync, member, &answer.key)).collect()).await?;
        for intent in &flight.intents {
            let open = desk.link(intent.link).and_then(|link| link.sides.get(member)).is_some_and(|side| side.flight == Some(id));
            let Some(Answer { key, image, version, .. }) = answers.get(&intent.link).filter(|_| open).cloned() else { continue };
            let (operation, planned) = (&intent.write.operation, intent.decision);
            let written = Written { operation, key, image, times: Vec::new(), version, hops: flight.hops, planned };
            self.settle_written(&mut desk, sync, member, intent, &written).await?;
        }
        self.decide_touched(&mut desk, false).await?;
        if let Some(airborne) = self.flights.get_mut(&id) {
            airborne.answers.clear();
        }
        self.land_if_empty(&mut desk, id).await?;
        desk.flush(&mut self.transaction);
        Ok(())
    }

    /// Decides what a member that guards nothing showed before a write which did not know of it, if it can be decided.
    pub(super) async fn decide_the_unseen(
        &mut self,
        desk: &mut Desk,
        sync: usize,
        member: MemberIndex,
        intent: &Intent,
        written: &Written<'_>,
    ) -> Result<()> {
        let Some(connector) = self.connector(sync, member).filter(|it| !it.capabilities().guarded_writes) else {
            return Ok(());
        };
        let Some(key) = desk.link(intent.link).and_then(|link| link.sides.get(member)?.key.clone()) else { return Ok(()) };
        let Some(rules) = self.rules(sync) else { return Ok(()) };
        let there = address(rules.id, member, &key);
        let Some(before) = desk.slot(&there).and_then(|slot| slot.pending.as_ref()) else { return Ok(()) };
        let older = connector.compare(&before.version, &written.version) == Some(Ordering::Less);
        if older && goes_over(&rules, before, written.operation) && !crate::mutants::active("unseen_cleared") {
            self.load_references(desk, &[intent.link]).await?;
            self.decide_by(desk, sync, intent.link, None, &Uniqueness::Known(Vec::new()))?;
        }
        Ok(())
    }

    /// What an echo shows, and beyond it what is known of fields that we wrote and that the echo leaves unsaid: such a field did
    /// not change after all, for a trigger or a flow of the member's own has put it back at once. The answer tells what it is;
    /// where there is none, it is what the record showed before (`side`, and over it what was pending `before`). Says whether
    /// that is not known of some of them either: only a look at the record can tell then.
    pub(super) fn with_what_is_unsaid(
        &self,
        sync: usize,
        flight: FlightId,
        intent: &Intent,
        echo: &Pending,
        side: Option<&Side>,
        before: Option<&Pending>,
    ) -> (Option<Record>, bool) {
        let mut image = self.image_of(sync, echo);
        let (Some(rules), Some(shown)) = (self.rules(sync), &mut image) else { return (image, false) };
        let Operation::Update { set, .. } = &intent.write.operation else { return (image, false) };
        if crate::mutants::active("unsaid_taken_for_written") {
            return (image, false);
        }
        let answer = self.flights.get(&flight).and_then(|airborne| airborne.answers.get(&intent.link));
        let answer = answer.and_then(|answer| answer.image.as_ref());
        let pending = before.and_then(|before| match &before.shown {
            Shown::Present { cells, .. } => Some(cells),
            Shown::Gone { .. } => None,
        });
        let mut unsaid = false;
        for (field, at) in (0..rules.fields.len()).filter_map(|field| Some((field, rules.at(echo.member, field)?))) {
            if !set.has(at.name.as_str()) || shown.has(at.name.as_str()) {
                continue;
            }
            let last = || pending.and_then(|cells| cell(cells, field)).or_else(|| cell(&side?.base, field));
            match answer.and_then(|answer| answer.get(at.name.as_str())).or_else(last) {
                Some(value) => drop(shown.set(at.name.clone(), value.clone())),
                None => unsaid = true,
            }
        }
        (image, unsaid)
    }

    /// What was decided while nothing can be sent on its way is put on the list of debts.
    pub(super) fn put_debts_down(&mut self, sync: usize, link: &mut Link) {
        if self.syncs.get(sync).is_some_and(SyncState::active) {
            return;
        }
        let now = self.now();
        let owing = |side: &Side| side.is_owing() && side.flight.is_none() && !side.queued && side.blocked.is_none();
        let members: Vec<MemberIndex> =
            (0..link.sides.len()).filter(|member| link.sides.get(*member).is_some_and(owing)).collect();
        for member in members {
            self.owe_later(sync, link, member, now);
        }
    }
}

/// Whether a write made anything else of what its record showed before. Where it did not, and the feed cannot say whose a
/// change is, what was shown may as well be the write itself.
fn goes_over(rules: &SyncRules, before: &Pending, operation: &Operation) -> bool {
    let Operation::Update { set, .. } = operation else { return true };
    let Shown::Present { cells, .. } = &before.shown else { return true };
    if takes_everything(rules, before.member, set) {
        return true;
    }
    let differs = |(field, cell): (usize, &Option<Value>)| {
        let (Some(at), Some(shown)) = (rules.at(before.member, field), cell) else { return false };
        set.get(at.name.as_str()).is_some_and(|new| !new.equivalent_as(shown, &at.ty))
    };
    cells.iter().enumerate().any(differs)
}
