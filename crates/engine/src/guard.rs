//! The mass-change guard: when more records of an object go away within a window than is plausible, nothing is deleted
//! anywhere until a person has looked. The deletes stay pending; everything else flows on.

use crate::capture::Incoming;
use crate::change::{EditTime, Version};
use crate::clock::Moment;
use crate::error::{Code, Result};
use crate::link::{Life, Link, LinkId, MemberIndex, Pending, ReviewId, Shown, Standing};
use crate::record::{ObjectName, SystemName};
use crate::review::{Review, Subject};
use crate::runtime::core::Core;
use crate::runtime::desk::address;
use std::cmp::Ordering;
use std::collections::VecDeque;

/// Percentages mean little of a handful: they count from so many records on.
const PERCENT_FROM: u64 = 20;
/// Links in one step of a truncation.
const TRUNCATE_BATCH: usize = 500;

/// Deletes are counted in so many parts of the window.
const PARTS: u32 = 60;

/// How what a person says about a mass change is kept.
const LET_THROUGH: &[u8] = b"let through";
const UNDO: &[u8] = b"undo";

/// Watches the deletes of one member. What it has counted is durable with the deletes: a crash in the middle of a mass
/// delete lets none of it pass uncounted.
#[derive(Default)]
pub(crate) struct Guard {
    deletes: Window,
    /// Whether the count differs from the durable one.
    counted: bool,
    /// About how many records there were before those that were counted went away.
    known: u64,
    pub tripped: Option<ReviewId>,
    /// What a person said about it, until that has been carried out.
    pub verdict: Option<Verdict>,
    /// How many records went away since then.
    since_verdict: u64,
}

/// Deletes within a window: when a part of it began, and how many fell into it; no more entries than parts, and two.
#[derive(Default)]
pub(crate) struct Window(VecDeque<(Moment, u64)>);

impl Window {
    /// As it was kept.
    pub fn from_counts(counts: &[(i64, u64)]) -> Window {
        Window(counts.iter().map(|(at, count)| (Moment(*at), *count)).collect())
    }

    /// As it is kept.
    pub fn counts(&self) -> Vec<(i64, u64)> {
        self.0.iter().map(|(at, count)| (at.micros(), *count)).collect()
    }

    /// Counts a delete and gives back how many there were within the window.
    pub fn count(&mut self, now: Moment, window: std::time::Duration) -> u64 {
        let part = window / PARTS;
        match self.0.back_mut() {
            Some((begun, count)) if now.since(*begun) < part => *count = count.saturating_add(1),
            _ => self.0.push_back((now, 1)),
        }
        // A part counts for as long as any of its deletes may lie in the window.
        while self.0.front().is_some_and(|(at, _)| now.since(*at) > window.saturating_add(part)) {
            self.0.pop_front();
        }
        self.0.iter().map(|(_, count)| *count).fold(0, u64::saturating_add)
    }

    /// How many of those that were counted lie in the window.
    fn within(&self, now: Moment, window: std::time::Duration) -> u64 {
        let ends = window.saturating_add(window / PARTS);
        let within = self.0.iter().filter(|(at, _)| now.since(*at) <= ends);
        within.map(|(_, count)| *count).fold(0, u64::saturating_add)
    }
}

/// What a person says about a mass change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The deletes are meant.
    LetThrough,
    /// The records are made anew.
    Undo,
}

impl Guard {
    /// Counts a delete and gives back how many there were within the window.
    fn count(&mut self, now: Moment, window: std::time::Duration) -> u64 {
        self.counted = true;
        self.deletes.count(now, window)
    }

    /// So many records are alive. While deletes are counted a share of them is one of what was there before, not of what they have left.
    pub fn know(&mut self, live: u64, now: Moment, window: std::time::Duration) {
        let before = live.saturating_add(self.deletes.within(now, window));
        self.known = self.known.max(live).min(before);
    }
}

fn deletes_setting(sync: u32, member: MemberIndex) -> String {
    format!("deletes/{sync}/{member}")
}

fn tripped_setting(sync: u32, member: MemberIndex) -> String {
    format!("guard/{sync}/{member}")
}

fn verdict_setting(sync: u32, member: MemberIndex) -> String {
    format!("verdict/{sync}/{member}")
}

/// How a verdict is kept, with how many records went away since it was given.
fn verdict_bytes(verdict: Verdict, since: u64) -> Vec<u8> {
    match verdict {
        Verdict::Undo => UNDO.to_vec(),
        Verdict::LetThrough => [LET_THROUGH, &since.to_be_bytes()].concat(),
    }
}

/// What was kept so; earlier versions did not count.
fn verdict_of(bytes: &[u8]) -> (Option<Verdict>, u64) {
    match bytes.strip_prefix(LET_THROUGH) {
        Some(since) => (Some(Verdict::LetThrough), since.try_into().map_or(0, u64::from_be_bytes)),
        None => ((bytes == UNDO).then_some(Verdict::Undo), 0),
    }
}

impl Core {
    pub(crate) async fn restore_guards(&mut self, sync: usize) -> Result<()> {
        let Some(id) = self.rules(sync).map(|rules| rules.id) else { return Ok(()) };
        let live = self.store.counts(id).await?.live;
        for (name, bytes) in self.store.settings(&format!("guard/{}/", id.0)).await? {
            let member = name.rsplit('/').next().and_then(|member| member.parse::<usize>().ok());
            let review = <[u8; 8]>::try_from(bytes.as_slice()).ok().map(|bytes| ReviewId(u64::from_be_bytes(bytes)));
            if let (Some(member), Some(review)) = (member, review)
                && let Some(state) = self.member(sync, member)
            {
                state.guard.tripped = Some(review);
            }
        }
        for member in 0..self.syncs.get(sync).map_or(0, |state| state.members.len()) {
            let kept = self.store.setting(&verdict_setting(id.0, member)).await?;
            let counted = self.store.setting(&deletes_setting(id.0, member)).await?;
            let counted: Vec<(i64, u64)> = counted.and_then(|bytes| postcard::from_bytes(&bytes).ok()).unwrap_or_default();
            if let Some(state) = self.member(sync, member) {
                state.guard.deletes = Window::from_counts(&counted);
                (state.guard.verdict, state.guard.since_verdict) = kept.as_deref().map_or((None, 0), verdict_of);
            }
        }
        let now = self.now();
        if let Some(state) = self.syncs.get_mut(sync) {
            let window = state.rules.guard.window;
            for member in &mut state.members {
                member.guard.known = live.saturating_add(member.guard.deletes.within(now, window));
            }
        }
        Ok(())
    }

    /// Counts a delete that a system's user made, and trips the guard when there are too many.
    pub(crate) fn count_delete(&mut self, sync: usize, member: MemberIndex) {
        let now = self.now();
        let Some(limits) = self.rules(sync).map(|rules| rules.guard) else { return };
        let Some(state) = self.member(sync, member) else { return };
        let guard = &mut state.guard;
        let deletes = guard.count(now, limits.window);
        #[allow(clippy::cast_precision_loss, reason = "a percentage of a count is compared, nothing is carried")]
        let share = deletes as f64 * 100.0 / guard.known.max(1) as f64;
        let too_many = deletes > limits.max_deletes || (guard.known >= PERCENT_FROM && share > limits.max_deletes_percent);
        if too_many {
            self.trip(sync, member, deletes);
        }
        self.outgrow_verdict(sync, member, &limits);
    }

    /// What a person let through were the deletes of then. When as many more have come before it was carried out as trip the guard by
    /// themselves, it is asked anew: nobody has seen those.
    fn outgrow_verdict(&mut self, sync: usize, member: MemberIndex, limits: &crate::rules::GuardRules) {
        let Some(guard) = self.member(sync, member).map(|state| &mut state.guard) else { return };
        let (Some(review), Some(Verdict::LetThrough)) = (guard.tripped, guard.verdict) else { return };
        guard.since_verdict = guard.since_verdict.saturating_add(1);
        let (more, known) = (guard.since_verdict, guard.known);
        #[allow(clippy::cast_precision_loss, reason = "a percentage of a count is compared, nothing is carried")]
        let share = more as f64 * 100.0 / known.max(1) as f64;
        let too_many = more > limits.max_deletes || (known >= PERCENT_FROM && share > limits.max_deletes_percent);
        if !too_many || crate::mutants::active("verdict_without_end") {
            let Some(id) = self.rules(sync).map(|rules| rules.id) else { return };
            self.transaction.settings.push((verdict_setting(id.0, member), Some(verdict_bytes(Verdict::LetThrough, more))));
            return;
        }
        tracing::warn!(review = review.0, more, "more records went away than were let through: the answer no longer holds");
        self.ask_anew(sync, member);
    }

    /// The guard's question has been answered, and not for what has come since: it stays open.
    fn ask_anew(&mut self, sync: usize, member: MemberIndex) {
        let Some(id) = self.rules(sync).map(|rules| rules.id) else { return };
        self.transaction.settings.push((verdict_setting(id.0, member), None));
        if let Some(state) = self.member(sync, member) {
            state.guard.verdict = None;
            state.guard.since_verdict = 0;
        }
    }

    /// Makes durable what the guards have counted, in the transaction of the deletes.
    pub(crate) fn keep_counts(&mut self) {
        if crate::mutants::active("guard_forgets") {
            return;
        }
        for state in &mut self.syncs {
            for (member, member_state) in state.members.iter_mut().enumerate().filter(|(_, member)| member.guard.counted) {
                member_state.guard.counted = false;
                let counts = member_state.guard.deletes.counts();
                let bytes = if counts.is_empty() { None } else { postcard::to_stdvec(&counts).ok() };
                self.transaction.settings.push((deletes_setting(state.rules.id.0, member), bytes));
            }
        }
    }

    fn trip(&mut self, sync: usize, member: MemberIndex, deletes: u64) {
        let Some(rules) = self.rules(sync) else { return };
        if self.member(sync, member).is_none_or(|state| state.guard.tripped.is_some()) {
            return;
        }
        let id = self.new_review();
        let object = rules.members.get(member).map(|member| format!("{} {}", member.system, member.object)).unwrap_or_default();
        let review = Review {
            id,
            sync: rules.id,
            link: None,
            opened: self.now(),
            closed: None,
            code: Code::MassDelete.to_string(),
            message: format!(
                "at least {deletes} records of {object} went away within {:?}; none is deleted elsewhere before you say so",
                rules.guard.window
            ),
            subject: Subject::MassChange { member, deletes },
        };
        self.open_review(sync, review);
        self.transaction.settings.push((tripped_setting(rules.id.0, member), Some(id.0.to_be_bytes().to_vec())));
        if let Some(state) = self.member(sync, member) {
            state.guard.tripped = Some(id);
        }
    }

    /// Keeps what a person said until it has been carried out.
    pub(crate) fn keep_verdict(&mut self, sync: usize, member: MemberIndex, verdict: Verdict) {
        let Some(id) = self.rules(sync).map(|rules| rules.id.0) else { return };
        self.transaction.settings.push((verdict_setting(id, member), Some(verdict_bytes(verdict, 0))));
        if let Some(state) = self.member(sync, member) {
            state.guard.verdict = Some(verdict);
            state.guard.since_verdict = 0;
        }
    }

    /// What was said about the deletes that a link waits for.
    pub(crate) fn verdict_on(&self, sync: usize, link: &Link, pending: &[Option<Pending>]) -> Option<Verdict> {
        let state = self.syncs.get(sync)?;
        let guarded = |pending: &&Pending| {
            matches!(pending.shown, Shown::Gone { .. })
                && link.sides.get(pending.member).is_some_and(|side| side.standing == Standing::Present)
        };
        let guards = pending.iter().flatten().filter(guarded).filter_map(|pending| state.members.get(pending.member));
        let verdicts: Vec<Option<Verdict>> =
            guards.filter(|member| member.guard.tripped.is_some()).map(|member| member.guard.verdict).collect();
        // Where two members' deletes are in question, both questions must have been answered; to undo one is to keep the record.
        match verdicts.contains(&None) {
            true => None,
            false => verdicts.into_iter().flatten().max_by_key(|verdict| *verdict == Verdict::Undo),
        }
    }

    /// The guard's question has been answered, and the answer carried out.
    pub(crate) fn release_guard(&mut self, sync: usize, member: MemberIndex) {
        let Some(id) = self.rules(sync).map(|rules| rules.id.0) else { return };
        self.transaction.settings.push((tripped_setting(id, member), None));
        self.transaction.settings.push((verdict_setting(id, member), None));
        if let Some(state) = self.member(sync, member) {
            state.guard.tripped = None;
            state.guard.verdict = None;
            state.guard.deletes = Window::default();
            state.guard.counted = true;
        }
    }

    /// Whether a link waits for the guard: a record of it went away at a member whose deletes are in question, and is there
    /// to be deleted elsewhere.
    pub(crate) fn is_guarded(&self, sync: usize, link: &Link, pending: &[Option<Pending>]) -> bool {
        let Some(state) = self.syncs.get(sync) else { return false };
        let gone =
            |member: usize| pending.get(member).and_then(Option::as_ref).is_some_and(|it| matches!(it.shown, Shown::Gone { .. }));
        let left =
            |(member, side): (usize, &crate::link::Side)| side.standing != Standing::Gone && side.key.is_some() && !gone(member);
        link.life == Life::Live
            && link.sides.iter().enumerate().any(left)
            && pending.iter().flatten().any(|pending| {
                matches!(pending.shown, Shown::Gone { .. })
                    && state.members.get(pending.member).is_some_and(|member| member.guard.tripped.is_some())
                    && link.sides.get(pending.member).is_some_and(|side| side.standing == Standing::Present)
            })
    }

    /// An object was emptied at once: that is a mass delete whatever its size.
    pub(crate) async fn truncated(
        &mut self,
        system: &SystemName,
        object: &ObjectName,
        version: &Version,
        time: EditTime,
    ) -> Result<()> {
        let concerned: Vec<(usize, MemberIndex)> = self
            .syncs
            .iter()
            .enumerate()
            .filter(|(_, sync)| sync.begun)
            .flat_map(|(index, sync)| {
                let members = sync.rules.members.iter().enumerate();
                members
                    .filter(|(_, member)| member.system == *system && member.object == *object)
                    .map(move |(member, _)| (index, member))
            })
            .collect();
        for (sync, member) in concerned {
            self.empty(sync, member, version, time).await?;
        }
        Ok(())
    }

    async fn empty(&mut self, sync: usize, member: MemberIndex, version: &Version, time: EditTime) -> Result<()> {
        let Some(rules) = self.rules(sync) else { return Ok(()) };
        let now = self.now();
        self.orphans.all_went();
        let mut after = LinkId(0);
        loop {
            let links = self.store.scan_links(rules.id, after, TRUNCATE_BATCH).await?;
            let Some(last) = links.last().map(|link| link.id) else { break };
            after = last;
            let mut desk = self.desk();
            desk.load_links(&self.store, links.iter().map(|link| link.id).collect()).await?;
            let gone: Vec<Incoming> = links
                .iter()
                .filter_map(|link| {
                    let side = link.sides.get(member)?;
                    let pending = desk.pending(link).get(member).cloned().flatten();
                    // What was seen and is yet to be decided went as well.
                    let seen = pending.as_ref().is_some_and(|pending| matches!(pending.shown, Shown::Present { .. }));
                    let known = pending.map_or_else(|| side.version.clone(), |pending| pending.version.clone());
                    (side.standing == Standing::Present || seen).then_some((side.key.clone()?, known))
                })
                .map(|(key, known)| {
                    let pending = Pending {
                        sync: rules.id,
                        member,
                        key,
                        old_key: None,
                        shown: Shown::Gone { time },
                        version: version.clone(),
                        hops: 0,
                        echo: false,
                        arrived: now,
                        layout: rules.layout,
                    };
                    let address = address(rules.id, member, &pending.key);
                    let told = Incoming {
                        sync,
                        address,
                        old_address: None,
                        echo_of: None,
                        read: false,
                        ahead: false,
                        tells_whose: true,
                        pending,
                    };
                    (told, known)
                })
                // Told again, an old emptiness says nothing about records that were made since (invariant 6).
                .filter(|(one, known)| !matches!(self.version_order(one, known), Some(Ordering::Less | Ordering::Equal)))
                .map(|(one, _)| one)
                .collect();
            if !gone.is_empty() {
                self.ask_anew(sync, member);
                self.trip(sync, member, u64::try_from(gone.len()).unwrap_or(u64::MAX));
            }
            self.take_in_all(&mut desk, gone).await?;
            self.decide_touched(&mut desk, false).await?;
            desk.flush(&mut self.transaction);
            // Observations may be durable before the position that follows them; one step's worth of memory is the bound.
            self.commit();
        }
        self.empty_strangers(sync, member, version).await
    }

    /// Records that nobody had identified yet went with the others.
    async fn empty_strangers(&mut self, sync: usize, member: MemberIndex, version: &Version) -> Result<()> {
        let Some(rules) = self.rules(sync) else { return Ok(()) };
        let mut after = None;
        loop {
            let rows = self.store.scan_pending(rules.id, after.clone(), TRUNCATE_BATCH).await?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after = Some(last.clone());
            let mut desk = self.desk();
            desk.load(&self.store, rows.iter().map(|(address, _)| address.clone()).collect()).await?;
            for (address, pending) in rows.into_iter().filter(|(address, _)| address.member == member) {
                if desk.slot(&address).is_some_and(|slot| slot.link.is_none()) {
                    self.forget_stranger(&mut desk, sync, &address).await?;
                    self.bury_stranger(&mut desk, sync, &address, pending.key, version);
                }
            }
            desk.flush(&mut self.transaction);
            self.commit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A share is of what was there when the window began: neither of what is left, nor of what was there long ago.
    #[test]
    fn what_a_share_is_of_follows_steady_deletes_and_outlives_none_of_them() {
        let window = Duration::from_secs(60);
        let at = |second: i64| Moment(second * 1_000_000);
        let mut guard = Guard::default();
        guard.know(100, at(0), window);
        assert_eq!(guard.known, 100);
        for second in 1..=10 {
            guard.count(at(second), window);
        }
        guard.know(90, at(11), window);
        assert_eq!(guard.known, 100, "ten of a hundred");
        for second in (70..=600).step_by(10) {
            guard.count(at(second), window);
        }
        guard.know(36, at(601), window);
        let within = guard.deletes.within(at(601), window);
        assert!((5..=8).contains(&within) && guard.known == 36 + within, "{within} {}", guard.known);
        guard.know(36, at(900), window);
        assert_eq!(guard.known, 36);
    }
}
