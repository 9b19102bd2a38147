//! What follows once it is known what a field group comes to: what is agreed or held, whether our own writes go in circles,
//! and who owes a write. Decides nothing between values.

use super::contend::Contender;
use super::work::Work;
use super::{Choice, Ruling};
use crate::clock::Moment;
use crate::error::Code;
use crate::ledger::{Entry, FieldEntry, Rule};
use crate::link::{Agreed, GroupIndex, Held, MemberIndex, ReviewId, Standing};
use crate::map::wanted_at;
use crate::review::Subject;
use crate::rules::TargetEdits;
use crate::value::Value;

impl Work<'_> {
    /// Says in the ledger which values of a group are given up for another one.
    pub(super) fn note_losers(&mut self, group: GroupIndex, winner: &Contender, rule: Rule, losers: &[Contender]) {
        let names = self.group_names(group);
        for loser in losers {
            let fields = names
                .iter()
                .zip(loser.values.iter().zip(&winner.values))
                .filter(|(_, (lost, won))| !lost.equivalent(won))
                .map(|(name, (lost, won))| FieldEntry {
                    field: name.clone(),
                    old: Some(lost.clone()),
                    new: Some(won.clone()),
                    from: winner.member,
                    edited: winner.time.at,
                    rule,
                })
                .collect();
            self.note(loser.member, Entry::Lost, fields);
        }
    }

    pub(super) fn agree(&mut self, group: GroupIndex, winner: Contender, rule: Rule) {
        let decision = self.before.decision.saturating_add(1);
        if let Some(held) = self.link.groups.get_mut(group).and_then(|state| state.held.take()) {
            self.close(held.review, "decided");
        }
        self.watch_for_loops(group, &winner);
        if let Some(state) = self.link.groups.get_mut(group) {
            state.agreed =
                Some(Agreed { values: winner.values, from: winner.member, time: winner.time, decision, hops: winner.hops, rule });
        }
    }

    pub(super) fn hold_group(
        &mut self,
        group: GroupIndex,
        contenders: &[Contender],
        code: Code,
        message: String,
        subject: Subject,
    ) {
        let known = self.before.groups.get(group).and_then(|state| state.held.as_ref()).map(|held| held.review);
        let known = known.filter(|known| self.before.held.is_none_or(|hold| hold.review != *known));
        let rejects = matches!(subject, Subject::Rejected { .. });
        // The item of a rejected record holds several groups. What comes after it is about one: an answer to it must not be
        // taken for an answer about the others.
        let known = known.filter(|known| rejects || !self.holds_others(group, *known));
        // What a person says of an edit against the flow must not be taken for an answer about a value that is refused.
        let known = known.filter(|_| self.is_held_against_the_flow(group) == (code == Code::EditAgainstFlow));
        // One review item for a rejected record, not one per group of it.
        let shared = self.reviews.iter().find(|review| review.subject == subject).map(|review| review.id);
        let review = self.review(shared.or(known), code, message, subject);
        let contenders = contenders.iter().map(|contender| (contender.member, contender.time, contender.hops)).collect();
        if let Some(state) = self.link.groups.get_mut(group) {
            state.held = Some(Held { review, contenders, rejects });
        }
    }

    /// Whether a group is held for edits that do not flow from where they were made.
    fn is_held_against_the_flow(&self, group: GroupIndex) -> bool {
        let held = self.before.groups.get(group).and_then(|state| state.held.as_ref());
        let flows =
            |member: MemberIndex| self.rules.group_fields(group).iter().any(|&field| self.rules.flows_from(member, field));
        held.is_some_and(|held| held.rejects && held.contenders.iter().all(|(member, ..)| !flows(*member)))
    }

    /// Whether an item holds other groups than this one, as far as they have been looked at.
    fn holds_others(&self, group: GroupIndex, review: ReviewId) -> bool {
        let mut others = self.link.groups.iter().enumerate().filter(|(other, _)| *other != group);
        others.any(|(_, state)| state.held.as_ref().is_some_and(|held| held.review == review))
    }

    /// Counts the returns of a group to values it had through our writes, and its causal hops.
    fn watch_for_loops(&mut self, group: GroupIndex, winner: &Contender) {
        let loops = self.rules.loops;
        if !loops.enabled {
            return;
        }
        let now = self.now;
        let print = fingerprint(&winner.values);
        let bounced = self
            .before
            .groups
            .get(group)
            .and_then(|state| state.agreed.as_ref())
            .is_some_and(|agreed| agreed.from != winner.member);
        let Some(state) = self.link.groups.get_mut(group) else { return };
        state.returns.retain(|(at, _)| now.since(*at) <= loops.window);
        // A value that one person puts back and forth at one member is no loop: only one that comes back from a member
        // that we had written to is.
        let had_before = state.returns.iter().filter(|(_, other)| *other == print).count();
        if bounced {
            state.returns.push((now, print));
        }
        let too_many = u32::try_from(had_before).unwrap_or(u32::MAX) > loops.max;
        if too_many || winner.hops > loops.max {
            let message =
                format!("{} keeps changing through our own writes ({} hops)", self.group_names(group).join(", "), winner.hops);
            self.hold(true, Code::LoopDetected, message, Subject::Loop { group });
        }
    }

    /// Who owes a write: of each group just decided, every member that does not show it; of a group that a member changed
    /// without being followed, that member; of every group, whoever came back, and everybody after a delete was undone.
    pub(super) fn owe(&mut self, decided: &[bool]) {
        // Seen once more, a record is not owed to whom a person let do without it (invariant 6).
        let afresh = |member: MemberIndex| self.any_flowing_change(member) || self.is_looked_at_afresh(member);
        let news = decided.contains(&true) || self.members().any(afresh);
        for member in self.members() {
            for group in 0..self.rules.groups.len() {
                let fresh = decided.get(group).copied().unwrap_or(false);
                let touched = self.group_changed(member, group) || self.changed_against_the_flow(member, group);
                let afresh = self.is_looked_at_afresh(member) && !self.was_left_as_it_is(group);
                if !(fresh || touched || afresh) {
                    continue;
                }
                let owes = self.must_be_written(member, group);
                let Some(side) = self.link.sides.get_mut(member) else { continue };
                side.owes.retain(|&other| other != group);
                if owes {
                    side.owes.push(group);
                    side.owes.sort_unstable();
                    self.attempt_anew(member);
                }
            }
            if news {
                self.owe_life(member);
            }
            // A create carries every group.
            let owes_create =
                self.link.sides.get(member).is_some_and(|side| side.owes_life) && self.standing(member) != Standing::Present;
            if owes_create && decided.contains(&true) {
                self.attempt_anew(member);
            }
        }
    }

    /// New contents are a new attempt, whatever kept the old ones from being written.
    fn attempt_anew(&mut self, member: MemberIndex) {
        let Some(side) = self.link.sides.get_mut(member) else { return };
        side.attempts = 0;
        side.misses = 0;
        side.due = Moment::default();
        if let Some(review) = side.blocked.take() {
            self.close(review, "superseded by a later change");
        }
    }

    /// Whether decisions were made past a member, which so owes nothing of them: it was away, or about to be deleted, or the
    /// link was held while it changed.
    fn is_looked_at_afresh(&self, member: MemberIndex) -> bool {
        self.revived || self.before.held.is_some() || (self.standing(member) == Standing::Present && !self.before_present(member))
    }

    fn was_left_as_it_is(&self, group: GroupIndex) -> bool {
        let agreed = self.link.groups.get(group).and_then(|state| state.agreed.as_ref());
        agreed.is_some_and(|agreed| agreed.rule.is_left())
    }

    fn owe_life(&mut self, member: MemberIndex) {
        let Some(rules) = self.rules.members.get(member) else { return };
        let somebody_else = self
            .present()
            .into_iter()
            .any(|other| other != member && self.rules.members.get(other).is_some_and(|other| other.outward));
        if self.standing(member) == Standing::Absent
            && rules.inward
            && somebody_else
            && let Some(side) = self.link.sides.get_mut(member)
        {
            side.owes_life = true;
        }
    }

    fn must_be_written(&self, member: MemberIndex, group: GroupIndex) -> bool {
        if !self.is_there(member) || self.is_gone(member) {
            return false;
        }
        let Some(state) = self.link.groups.get(group) else { return false };
        let (Some(agreed), None) = (&state.agreed, &state.held) else { return false };
        if agreed.rule == Rule::LeftRefused {
            // Validation refuses it, and a person has left it where it is.
            return false;
        }
        // Edits against the flow stay until the source next changes the field; fields that flow both ways have no such edits.
        let keeps_edits = self.rules.target_edits == TargetEdits::Keep && agreed.decision <= self.before.decision;
        let ruled_to_leave = matches!(self.ruling, Some(Ruling::Group(ruled, Choice::Leave)) if *ruled == group);
        if ruled_to_leave {
            return false;
        }
        let record = std::cell::OnceCell::new();
        self.rules.group_fields(group).iter().zip(&agreed.values).any(|(&field, value)| {
            let Some(at) = self.rules.at(member, field) else { return false };
            if !at.inward || !at.updatable || (member == agreed.from && !at.write_back && self.rules.flows_from(member, field)) {
                return false;
            }
            if keeps_edits && !self.rules.flows_from(member, field) {
                return false;
            }
            let Some(shown) = self.value(member, field) else { return true };
            if self.means(member, field, shown, value) {
                return false;
            }
            let whole = || record.get_or_init(|| self.agreed_record(group, &agreed.values)).clone();
            match wanted_at(self.rules, self.references, member, field, value, whole) {
                Ok(Some(want)) => !want.equivalent_as(shown, &at.ty),
                Ok(None) => false,
                // What does not fit is owed all the same: the attempt to write it says so, in review.
                Err(_) => true,
            }
        })
    }
}

fn fingerprint(values: &[Value]) -> u64 {
    let mut bytes = Vec::new();
    for value in values {
        bytes.extend_from_slice(&value.canonical_bytes());
        bytes.push(0xff);
    }
    xxhash_rust::xxh3::xxh3_64(&bytes)
}
