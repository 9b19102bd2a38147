//! What each field group comes to: the value agreed about it, or why a person is to say. What follows from that is elsewhere.

use super::contend::{Contender, Verdict, judge};
use super::verdict::Verification;
use super::work::Work;
use super::{Need, Ruling, Uniqueness};
use crate::change::EditTime;
use crate::error::{Code, Error};
use crate::ledger::Rule;
use crate::link::{Agreed, Cells, GroupIndex, Held, Life, MemberIndex, Standing};
use crate::map::{canonical_record, member_record, wanted_at};
use crate::review::Subject;
use crate::rules::{Authority, Policy, TargetEdits};
use crate::value::Value;

/// How a group came out of a look at it.
pub(super) enum Settled {
    /// Nothing new.
    Unchanged,
    /// This value, by this rule; these lost.
    Agreed { winner: Contender, rule: Rule, losers: Vec<Contender> },
    /// Nothing, and what it was held for is no longer there.
    Freed,
    /// For a person, with the code and sentence of why.
    Held { contenders: Vec<Contender>, code: Code, message: String, subject: Subject },
}

/// By which rule a value stands against which nothing contends any more. What validation refuses does not become sound by it.
fn uncontested(agreed: &Agreed) -> Rule {
    if agreed.rule == Rule::LeftRefused { Rule::LeftRefused } else { Rule::NoLongerInConflict }
}

/// Whether an agreed value contends where no member shows it. One that validation refuses is judged as its member shows it, and
/// goes with that member's record.
fn stands_in(agreed: &Agreed) -> bool {
    agreed.rule != Rule::LeftRefused || crate::mutants::active("refused_contends_unseen")
}

impl Work<'_> {
    pub fn decide_groups(&mut self, unique: &Uniqueness) -> Result<(), Need> {
        let unknown = self.unknown_records();
        if !unknown.is_empty() {
            return Err(Need::Referred(unknown));
        }
        let verdicts = self.validate_changes(unique)?;
        self.note_warnings(&verdicts);
        let mut decided = vec![false; self.rules.groups.len()];
        for group in 0..self.rules.groups.len() {
            let settled = self.settle_group(group, &verdicts)?;
            match settled {
                Settled::Unchanged => {}
                Settled::Freed => {
                    if let Some(state) = self.link.groups.get_mut(group) {
                        state.held = None;
                    }
                }
                Settled::Agreed { winner, rule, losers } => {
                    // Neither of these contended: the rule says nothing about them.
                    let mut others = self.no_longer_left(group, &winner, rule, &losers);
                    others.extend(self.held_of_the_gone(group, &winner, rule, &losers));
                    self.note_losers(group, &winner, rule, &losers);
                    self.note_losers(group, &winner, Rule::OnlyChange, &others);
                    self.agree(group, winner, rule);
                    if let Some(decided) = decided.get_mut(group) {
                        *decided = true;
                    }
                }
                Settled::Held { contenders, code, message, subject } => {
                    self.hold_group(group, &contenders, code, message, subject)
                }
            }
        }
        self.owe(&decided);
        Ok(())
    }

    /// Keeps the changed groups of these members in mind while the link as a whole is held, and those that a member which
    /// goes was yet to be given, so that their edits contend when it is decided (their bases move on).
    pub fn hold_changed_groups(&mut self, members: &[MemberIndex]) {
        let Some(hold) = self.link.held else { return };
        for group in 0..self.rules.groups.len() {
            for &member in members {
                let entry = if self.group_changed(member, group) {
                    (member, self.edit_time(member, group), self.hops(member))
                } else if let Some(agreed) = self.undelivered(member, group) {
                    (member, agreed.time, agreed.hops)
                } else {
                    continue;
                };
                let Some(state) = self.link.groups.get_mut(group) else { continue };
                let held = state.held.get_or_insert_with(|| Held { review: hold.review, contenders: Vec::new(), rejects: false });
                held.contenders.retain(|(other, ..)| *other != member);
                held.contenders.push(entry);
                held.contenders.sort_by_key(|(member, ..)| *member);
            }
        }
    }

    /// A member's edit that is agreed and that a member which is seen to go now still owes: the debt goes with it, and only
    /// the hold remembers that the edit stands against the delete (invariant 3).
    fn undelivered(&self, member: MemberIndex, group: GroupIndex) -> Option<&Agreed> {
        let agreed = self.before.groups.get(group)?.agreed.as_ref().filter(|agreed| agreed.from == member)?;
        let owed = self
            .members()
            .any(|gone| self.is_gone(gone) && self.before.sides.get(gone).is_some_and(|side| side.owes.contains(&group)));
        (owed && self.can_be_edited(member, group)).then_some(agreed)
    }

    /// Whether a member holds the record, though it may be marked as deleted there until that is undone.
    pub(super) fn is_there(&self, member: MemberIndex) -> bool {
        match self.standing(member) {
            Standing::Present => true,
            Standing::Marked => self.link.life == Life::Live,
            Standing::Absent | Standing::Gone | Standing::LeftAlone => false,
        }
    }

    pub(super) fn present(&self) -> Vec<MemberIndex> {
        self.members().filter(|&member| self.is_there(member) && !self.is_gone(member)).collect()
    }

    /// What a member's group is in canonical terms: the fields that flow from it as it shows them, the others as agreed.
    /// `Ok(None)`: it has nothing to say about it.
    pub(super) fn canonical(&self, member: MemberIndex, group: GroupIndex) -> Result<Option<Vec<Value>>, Error> {
        let agreed = self.before.groups.get(group).and_then(|group| group.agreed.as_ref());
        let nothing = Cells::new();
        let shown = self.shown.get(member).map_or(&nothing, |shown| &**shown);
        let mut values = Vec::new();
        let mut says_something = false;
        for (place, &field) in self.rules.group_fields(group).iter().enumerate() {
            let known = agreed.and_then(|agreed| agreed.values.get(place)).cloned();
            let own = match (self.rules.at(member, field), self.value(member, field)) {
                (Some(at), Some(value)) if self.rules.flows_from(member, field) => {
                    match self.rules.fields.get(field).and_then(|field| field.reference.as_ref()) {
                        Some(reference) if !value.is_null() => self.referred(reference, member, field, value)?,
                        _ => at.mapping.to_canonical(value, || member_record(self.rules, member, shown))?,
                    }
                }
                _ => None,
            };
            says_something |= own.is_some();
            values.push(own.or(known).unwrap_or(Value::Null));
        }
        Ok(says_something.then_some(values))
    }

    /// Whether a member's present image is what it would be made to show for these canonical values.
    fn shows(&self, member: MemberIndex, group: GroupIndex, values: &[Value]) -> bool {
        self.rules.group_fields(group).iter().zip(values).all(|(&field, value)| {
            let Some(at) = self.rules.at(member, field) else { return true };
            let Some(shown) = self.value(member, field) else { return false };
            if self.means(member, field, shown, value) {
                return true;
            }
            match wanted_at(self.rules, self.references, member, field, value, || self.agreed_record(group, values)) {
                Ok(Some(want)) => want.equivalent_as(shown, &at.ty),
                Ok(None) => true,
                Err(_) => false,
            }
        })
    }

    /// The canonical record with these values in a group, for transformations that look at other fields.
    pub(super) fn agreed_record(&self, group: GroupIndex, values: &[Value]) -> crate::record::Record {
        let mut cells = vec![None; self.rules.fields.len()];
        for (index, state) in self.link.groups.iter().enumerate() {
            let Some(agreed) = &state.agreed else { continue };
            for (&field, value) in self.rules.group_fields(index).iter().zip(&agreed.values) {
                if let Some(cell) = cells.get_mut(field) {
                    *cell = Some(value.clone());
                }
            }
        }
        for (&field, value) in self.rules.group_fields(group).iter().zip(values) {
            if let Some(cell) = cells.get_mut(field) {
                *cell = Some(value.clone());
            }
        }
        canonical_record(self.rules, &cells)
    }

    /// The members whose values contend for a group: those that changed it, those whose change is held, and the agreed
    /// value where a member that still owes a write of it has changed it. `Err` holds the group.
    fn contenders(&self, group: GroupIndex, verdicts: &[Verification]) -> Result<Vec<Contender>, Box<Settled>> {
        let state = self.before.groups.get(group);
        let held = state.and_then(|state| state.held.as_ref());
        let agreed = state.and_then(|state| state.agreed.as_ref());
        let mut contenders: Vec<Contender> = Vec::new();
        let mut refusal: Option<(Code, String, Subject)> = None;
        for member in self.present() {
            let changed = self.group_changed(member, group);
            let kept = held.and_then(|held| held.contenders.iter().find(|(other, ..)| *other == member));
            let (time, hops) = match (agreed, changed, kept) {
                (_, true, _) => (self.edit_time(member, group), self.hops(member)),
                (_, false, Some((_, time, hops))) => (*time, *hops),
                // Nothing was ever agreed: everybody who shows something has a say.
                (None, false, None) => (EditTime { at: self.now, granularity_micros: 1, estimated: true }, self.hops(member)),
                // Its last edit was given up for a delete that is itself undone: it stands again.
                (Some(agreed), false, None)
                    if (self.revived || self.is_back) && agreed.from == member && !self.shows(member, group, &agreed.values) =>
                {
                    (EditTime { at: self.now, granularity_micros: 1, estimated: true }, self.hops(member))
                }
                (Some(agreed), false, None)
                    if agreed.from == member && (self.is_asked_again(agreed) || self.names_another(member, group)) =>
                {
                    (agreed.time, agreed.hops)
                }
                (Some(_), false, None) => continue,
            };
            match self.canonical(member, group) {
                Ok(Some(values)) => {
                    let verdict = verdicts.get(member);
                    let values =
                        verdict.map_or(values.clone(), |verdict| verdict.repaired(self.rules.group_fields(group), values));
                    contenders.push(Contender { member, values, time, hops });
                    if let Some((message, fields)) = verdict.and_then(|verdict| verdict.reject.clone()) {
                        refusal.get_or_insert((Code::ValidationFailed, message, Subject::Rejected { member, fields }));
                    }
                }
                Ok(None) => {}
                // It has come to show what another's value is written as, though nobody could tell that value from it.
                Err(_) if (held.is_none() || changed) && self.shows_what_another_has(member, group, agreed) => {}
                Err(error) => {
                    let fields = self.group_names(group);
                    contenders.push(Contender { member, values: vec![Value::Null; fields.len()], time, hops });
                    refusal.get_or_insert((error.code, error.message, Subject::Rejected { member, fields }));
                }
            }
        }
        if let Some(agreed) = agreed.filter(|agreed| stands_in(agreed)) {
            // A member whose record had gone and that shows one again has not seen what was agreed meanwhile either.
            let owed_and_changed = contenders.iter().any(|contender| {
                let side = self.before.sides.get(contender.member);
                side.is_some_and(|side| side.owes.contains(&group) || side.standing != Standing::Present)
            });
            let owed_and_changed = owed_and_changed && !crate::mutants::active("owed_value_no_contender");
            // Once it is held it contends until it is decided, though no member may show it any more (or ever did, where a
            // person gave it).
            let own = (agreed.from, agreed.time, agreed.hops);
            let kept = held.is_some_and(|held| held.contenders.contains(&own));
            if (owed_and_changed || kept) && !contenders.iter().any(|contender| contender.member == agreed.from) {
                contenders.push(Contender {
                    member: agreed.from,
                    values: agreed.values.clone(),
                    time: agreed.time,
                    hops: agreed.hops,
                });
                contenders.sort_by_key(|contender| contender.member);
            }
        }
        match refusal {
            // Every contender is held, the sound ones too: their bases move on, and only the hold remembers them.
            Some((code, message, subject)) => Err(Box::new(Settled::Held { contenders, code, message, subject })),
            None => Ok(contenders),
        }
    }

    /// Whether a value that validation refuses, and that a person left at that, is to be looked at again: something about the
    /// record has changed.
    pub(super) fn is_asked_again(&self, agreed: &Agreed) -> bool {
        agreed.rule == Rule::LeftRefused && self.members().any(|member| self.any_flowing_change(member))
    }

    /// Whether a member shows exactly what it would be made to show for the agreed value, or for what another member shows.
    fn shows_what_another_has(&self, member: MemberIndex, group: GroupIndex, agreed: Option<&Agreed>) -> bool {
        let others = self.present().into_iter().filter(|other| *other != member);
        let mut shown = others.filter_map(|other| self.canonical(other, group).ok().flatten());
        agreed.is_some_and(|agreed| agreed.from != member && self.shows(member, group, &agreed.values))
            || shown.any(|values| self.shows(member, group, &values))
    }

    pub(super) fn group_names(&self, group: GroupIndex) -> Vec<String> {
        self.rules.group_fields(group).iter().filter_map(|&field| Some(self.rules.fields.get(field)?.name.clone())).collect()
    }

    fn settle_group(&self, group: GroupIndex, verdicts: &[Verification]) -> Result<Settled, Need> {
        let refused = match self.ruling {
            Some(Ruling::Group(ruled, choice)) if *ruled == group => match self.takes_refused(group, choice, verdicts) {
                None => return Ok(self.follow_ruling(group, choice)),
                refused => refused,
            },
            _ => match self.follow_amendment(group, verdicts) {
                Some(settled) => return Ok(settled),
                None => None,
            },
        };
        let contenders = match self.contenders(group, verdicts) {
            Ok(contenders) => contenders,
            Err(held) => return Ok(*held),
        };
        if let Some(refused) = refused {
            return Ok(refused);
        }
        let Some(agreed) = self.before.groups.get(group).and_then(|state| state.agreed.clone()) else {
            return self.settle_first(group, contenders);
        };
        if contenders.is_empty() && self.is_of_old_mapping(group) {
            return Ok(self.settle_under_new_mapping(group, agreed, verdicts));
        }
        if contenders.is_empty() && self.contenders_are_gone(group) {
            return self.settle_for_the_gone(group, agreed);
        }
        if contenders.is_empty() {
            return Ok(self.settle_against_the_flow(group));
        }
        if contenders.iter().any(|contender| self.is_shown(contender.member) && self.base_unknown(contender.member, group)) {
            // A record bound to the link after something was agreed has no base either: the same rules as at first sight.
            let contends = stands_in(&agreed);
            let newcomers = contenders.clone();
            let agreed = Contender { member: agreed.from, values: agreed.values, time: agreed.time, hops: agreed.hops };
            let mut contenders: Vec<Contender> = newcomers;
            if contends && !contenders.iter().any(|contender| contender.member == agreed.member) {
                contenders.push(agreed);
                contenders.sort_by_key(|contender| contender.member);
            }
            return self.settle_first(group, contenders);
        }
        if let Some(place) = self.common_value(group, &contenders) {
            let winner = contenders.get(place).cloned();
            // Where the members were left to differ, what is agreed is not what they show: any change is news to the others.
            let same_as_agreed = !(agreed.rule.is_left() || agreed.rule == Rule::OldMapping)
                && winner.as_ref().is_some_and(|winner| self.same(group, &winner.values, &agreed.values));
            return Ok(match winner {
                Some(winner) if !same_as_agreed => Settled::Agreed { winner, rule: Rule::OnlyChange, losers: Vec::new() },
                Some(_) if self.before.groups.get(group).is_some_and(|state| state.held.is_some()) => Settled::Agreed {
                    rule: uncontested(&agreed),
                    winner: Contender { member: agreed.from, values: agreed.values, time: agreed.time, hops: agreed.hops },
                    losers: Vec::new(),
                },
                _ => Settled::Unchanged,
            });
        }
        if self.waits_for_a_person(group) {
            return Ok(self.conflict(group, contenders));
        }
        self.contest(group, contenders)
    }

    /// Whether a group is held for values of members that no longer have the record.
    fn contenders_are_gone(&self, group: GroupIndex) -> bool {
        let held = self.before.groups.get(group).and_then(|state| state.held.as_ref());
        let present = self.present();
        held.is_some_and(|held| !held.contenders.iter().any(|(member, ..)| present.contains(member)))
    }

    /// Those whose values contended have lost the record. What was agreed stands; but where a person wants the record back that a
    /// delete took away everywhere, so does what was edited before, unless nobody has looked whether it is sound.
    fn settle_for_the_gone(&self, group: GroupIndex, agreed: Agreed) -> Result<Settled, Need> {
        let mut kept = self.kept_by_the_gone(group);
        if let Some(settled) = self.settle_kept(group, kept.clone()) {
            return settled;
        }
        let rule = uncontested(&agreed);
        let winner = Contender { member: agreed.from, values: agreed.values, time: agreed.time, hops: agreed.hops };
        kept.retain(|kept| !self.same(group, &kept.values, &winner.values));
        Ok(Settled::Agreed { winner, rule, losers: kept })
    }

    /// The values that contended, as the members showed them that have lost the record; none unless it is to live on.
    fn kept_by_the_gone(&self, group: GroupIndex) -> Vec<Contender> {
        let held = self.before.groups.get(group).and_then(|state| state.held.as_ref()).filter(|_| self.revived);
        let contender = |(member, time, hops): &(MemberIndex, EditTime, u32)| {
            let values = self.canonical(*member, group).ok().flatten()?;
            Some(Contender { member: *member, values, time: *time, hops: *hops })
        };
        held.into_iter().flat_map(|held| held.contenders.iter().filter_map(contender)).collect()
    }

    /// What such values come to, where it is known that they are sound.
    fn settle_kept(&self, group: GroupIndex, mut kept: Vec<Contender>) -> Option<Result<Settled, Need>> {
        let held = self.before.groups.get(group).and_then(|state| state.held.as_ref());
        let is_sound = self.rules.validation.is_empty() && held.is_some_and(|held| !held.rejects);
        match kept.len() {
            1 if is_sound => Some(Ok(Settled::Agreed { winner: kept.remove(0), rule: Rule::Manual, losers: Vec::new() })),
            // Of values that nobody shows any more, nobody is asked: they are in the ledger.
            2.. if is_sound => Some(self.contest(group, kept)).filter(|settled| !matches!(settled, Ok(Settled::Held { .. }))),
            _ => None,
        }
    }

    /// Nobody has changed the group, but its mapping is another one now: what was decided last stands, as the member that it
    /// came from shows it.
    fn settle_under_new_mapping(&self, group: GroupIndex, agreed: Agreed, verdicts: &[Verification]) -> Settled {
        let Agreed { from: member, time, hops, values, .. } = agreed;
        let mut winner = Contender { member, values, time, hops };
        if !self.present().contains(&member) {
            return Settled::Agreed { winner, rule: Rule::NewMapping, losers: Vec::new() };
        }
        let verdict = verdicts.get(member);
        let refused = match (self.canonical(member, group), verdict.and_then(|verdict| verdict.reject.clone())) {
            (Err(error), _) => Some((error.code, error.message, self.group_names(group))),
            (Ok(_), Some((message, fields))) => Some((Code::ValidationFailed, message, fields)),
            (Ok(_), None) => None,
        };
        if let Some((code, message, fields)) = refused {
            return Settled::Held { contenders: vec![winner], code, message, subject: Subject::Rejected { member, fields } };
        }
        if let Some(verdict) = verdict {
            winner.values = verdict.repaired(self.rules.group_fields(group), winner.values);
        }
        Settled::Agreed { winner, rule: Rule::NewMapping, losers: Vec::new() }
    }

    /// Whether the group is held on its own account and nobody has changed it since: it was held for a reason that is not
    /// a conflict's (no base, say), and the conflict rules are not asked behind the person's back.
    fn waits_for_a_person(&self, group: GroupIndex) -> bool {
        let held = self.before.groups.get(group).and_then(|state| state.held.as_ref());
        let with_the_link = |review| self.before.held.is_some_and(|hold| hold.review == review);
        held.is_some_and(|held| !held.rejects && !with_the_link(held.review))
            && !self.members().any(|member| self.group_changed(member, group))
    }

    /// The place of a value that every contender agrees with: equal, or the finer value of which every other contender
    /// shows what its own fields can hold.
    fn common_value(&self, group: GroupIndex, contenders: &[Contender]) -> Option<usize> {
        (0..contenders.len()).find(|&place| {
            contenders.get(place).is_some_and(|candidate| {
                contenders.iter().all(|other| {
                    self.same(group, &other.values, &candidate.values)
                        || (self.is_shown_now(other, group) && self.shows(other.member, group, &candidate.values))
                })
            })
        })
    }

    /// Whether a contender's value is what its member shows now (and not the agreed value standing in for it).
    fn is_shown_now(&self, contender: &Contender, group: GroupIndex) -> bool {
        self.standing(contender.member) == Standing::Present
            && self
                .canonical(contender.member, group)
                .ok()
                .flatten()
                .is_some_and(|values| self.same(group, &values, &contender.values))
    }

    pub(super) fn same(&self, _group: GroupIndex, a: &[Value], b: &[Value]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.equivalent(b))
    }

    fn contest(&self, group: GroupIndex, contenders: Vec<Contender>) -> Result<Settled, Need> {
        let policy = self.rules.groups.get(group).map_or(Policy::Manual, |group| group.policy.clone());
        let oldest =
            contenders.iter().filter_map(|contender| self.pending(contender.member)).map(|pending| pending.arrived).min();
        let until = oldest.map(|arrived| arrived.plus(self.rules.estimate_wait));
        // What arrived later than now was dated by a clock that ran ahead.
        let patient = until.is_some_and(|until| until > self.now && until <= self.now.plus(self.rules.estimate_wait));
        match judge(&policy, &contenders, patient) {
            Verdict::Won(place, rule) => {
                let mut losers = contenders;
                let winner = losers.remove(place);
                losers.retain(|loser| !self.same(group, &loser.values, &winner.values));
                Ok(Settled::Agreed { winner, rule, losers })
            }
            Verdict::Manual => Ok(self.conflict(group, contenders)),
            Verdict::TimesUnknown => Err(Need::Wait(until.unwrap_or(self.now))),
        }
    }

    fn conflict(&self, group: GroupIndex, contenders: Vec<Contender>) -> Settled {
        let base = self.before.groups.get(group).and_then(|state| state.agreed.as_ref()).map(|agreed| agreed.values.clone());
        let fields = self.group_names(group);
        let message = format!("several members changed {}", fields.join(", "));
        let values = contenders.iter().map(|contender| (contender.member, contender.values.clone())).collect();
        Settled::Held { contenders, code: Code::Conflict, message, subject: Subject::Conflict { group, fields, base, values } }
    }

    /// Nothing was ever agreed about the group: equal values are it; a value beats null; the rest is by authority.
    fn settle_first(&self, group: GroupIndex, mut contenders: Vec<Contender>) -> Result<Settled, Need> {
        if contenders.is_empty() {
            let kept =
                if self.contenders_are_gone(group) { self.kept_by_the_gone(group) } else { return Ok(Settled::Unchanged) };
            return self.settle_kept(group, kept).unwrap_or(Ok(Settled::Freed));
        }
        let is_null = |contender: &Contender| contender.values.iter().all(|value| matches!(value, Value::Null));
        if contenders.iter().any(|contender| !is_null(contender)) {
            // A null that somebody has just put in the place of a value is an edit like any other.
            contenders.retain(|contender| !is_null(contender) || self.was_cleared(contender.member, group));
        }
        if let Some(place) = self.common_value(group, &contenders) {
            let winner = contenders.swap_remove(place);
            return Ok(Settled::Agreed { winner, rule: Rule::FirstSeen, losers: Vec::new() });
        }
        if self.waits_for_a_person(group) {
            return Ok(self.conflict(group, contenders));
        }
        match self.rules.initial.authority {
            Authority::Member(authority) => match contenders.iter().position(|contender| contender.member == authority) {
                Some(place) => {
                    let winner = contenders.remove(place);
                    Ok(Settled::Agreed { winner, rule: Rule::Authority, losers: contenders })
                }
                None => self.contest(group, contenders),
            },
            Authority::Policy => self.contest(group, contenders),
            Authority::Review => Ok(self.conflict(group, contenders)),
        }
    }

    fn was_cleared(&self, member: MemberIndex, group: GroupIndex) -> bool {
        let held = self.before.groups.get(group).and_then(|state| state.held.as_ref());
        held.is_some_and(|held| held.contenders.iter().any(|(other, ..)| *other == member))
            || (self.group_changed(member, group) && !self.base_unknown(member, group))
    }

    /// Edits of fields that do not flow from where they were made.
    fn settle_against_the_flow(&self, group: GroupIndex) -> Settled {
        if self.rules.target_edits != TargetEdits::Review {
            return Settled::Unchanged;
        }
        let editors: Vec<MemberIndex> = self.members().filter(|&member| self.changed_against_the_flow(member, group)).collect();
        let Some(&member) = editors.first() else { return Settled::Unchanged };
        let fields = self.group_names(group);
        let time = self.edit_time(member, group);
        let contenders = vec![Contender { member, values: Vec::new(), time, hops: 0 }];
        let message = format!("{} was edited where its edits do not flow from", fields.join(", "));
        Settled::Held { contenders, code: Code::EditAgainstFlow, message, subject: Subject::Rejected { member, fields } }
    }

    pub(super) fn changed_against_the_flow(&self, member: MemberIndex, group: GroupIndex) -> bool {
        self.rules.group_fields(group).iter().any(|&field| {
            self.rules.at(member, field).is_some_and(|at| at.inward)
                && !self.rules.flows_from(member, field)
                && self.field_changed(member, field)
        })
    }

    /// Members that were left to differ until the group should next change, which it does now: what they show is overwritten,
    /// though they did not change it (invariant 3).
    fn no_longer_left(&self, group: GroupIndex, winner: &Contender, rule: Rule, losers: &[Contender]) -> Vec<Contender> {
        let before = self.before.groups.get(group).and_then(|state| state.agreed.as_ref());
        if rule.is_left() || !before.is_some_and(|agreed| agreed.rule.is_left()) {
            return Vec::new();
        }
        // The agreed value may contend in the name of a member that has long shown another.
        let is_said = |shown: &Contender| {
            losers.iter().any(|loser| loser.member == shown.member && self.same(group, &loser.values, &shown.values))
        };
        let others = self.present().into_iter().filter(|member| *member != winner.member);
        others
            .filter_map(|member| self.shown_by(member, group, winner.time))
            .filter(|shown| !self.same(group, &shown.values, &winner.values) && !is_said(shown))
            .collect()
    }

    /// Values that were held for a person, of members that have lost the record since: nobody will show them again (invariant 3).
    fn held_of_the_gone(&self, group: GroupIndex, winner: &Contender, rule: Rule, losers: &[Contender]) -> Vec<Contender> {
        let held = self.before.groups.get(group).and_then(|state| state.held.as_ref());
        if rule.is_left() || crate::mutants::active("held_of_the_gone_unsaid") {
            return Vec::new();
        }
        let present = self.present();
        let gone = held.into_iter().flat_map(|held| &held.contenders).filter(|(member, ..)| !present.contains(member));
        let shown = gone.filter_map(|(member, time, _)| self.shown_by(*member, group, *time));
        let is_said = |shown: &Contender| {
            let same = |other: &Contender| self.same(group, &other.values, &shown.values);
            same(winner) || losers.iter().any(|loser| loser.member == shown.member && same(loser))
        };
        shown.filter(|shown| !is_said(shown)).collect()
    }
}
