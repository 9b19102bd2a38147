//! What a person said about a field group, as far as it can be followed now.

use super::contend::Contender;
use super::groups::Settled;
use super::verdict::Verification;
use super::work::Work;
use super::{Choice, Ruling, Uniqueness};
use crate::change::EditTime;
use crate::error::Code;
use crate::ledger::Rule;
use crate::link::{FieldIndex, GIVEN, GroupIndex, MemberIndex};
use crate::review::Subject;
use crate::value::Value;

impl Work<'_> {
    /// What a group comes to by what a person said about it.
    pub(super) fn follow_ruling(&self, group: GroupIndex, choice: &Choice) -> Settled {
        let agreed = self.before.groups.get(group).and_then(|state| state.agreed.clone());
        let prior = agreed.as_ref().map(|agreed| agreed.rule);
        let now = EditTime { at: self.now, granularity_micros: 1, estimated: false };
        let winner = match choice {
            Choice::Take(member) => self.shown_by(*member, group, now),
            Choice::Give(values) => Some(Contender { member: GIVEN, values: values.clone(), time: now, hops: 0 }),
            Choice::Leave => agreed
                .map(|agreed| Contender { member: agreed.from, values: agreed.values, time: agreed.time, hops: agreed.hops })
                .or_else(|| self.present().into_iter().find_map(|member| self.shown_by(member, group, now)))
                .or_else(|| self.untold_by(group, now)),
        };
        match winner {
            Some(winner) if matches!(choice, Choice::Leave) => {
                let held = self.before.groups.get(group).and_then(|state| state.held.as_ref());
                let never_sound = prior.is_none_or(|rule| rule == Rule::LeftRefused);
                let refused = never_sound && held.is_some_and(|held| held.rejects);
                let rule = if refused { Rule::LeftRefused } else { Rule::LeftAsItIs };
                Settled::Agreed { winner, rule, losers: Vec::new() }
            }
            Some(winner) => self.decided_by_a_person(group, winner),
            None => Settled::Unchanged,
        }
    }

    fn decided_by_a_person(&self, group: GroupIndex, winner: Contender) -> Settled {
        let loses = |member: MemberIndex| {
            let values = self.canonical(member, group).ok().flatten()?;
            let differs = !self.same(group, &values, &winner.values);
            differs.then_some(Contender { member, values, time: winner.time, hops: 0 })
        };
        let losers = self.present().into_iter().filter(|&member| member != winner.member).filter_map(loses).collect();
        Settled::Agreed { winner, rule: Rule::Manual, losers }
    }

    /// What a group comes to by what a person gave in place of what was refused; `None` where they gave nothing of it. Where
    /// even that is refused nothing is decided: what is held goes on to be.
    pub(super) fn follow_amendment(&self, group: GroupIndex, verdicts: &[Verification]) -> Option<Settled> {
        let Some(Ruling::Amend { member, given }) = self.ruling else { return None };
        if !self.rules.group_fields(group).iter().any(|field| given.iter().any(|(other, _)| other == field)) {
            return None;
        }
        let verdict = verdicts.get(*member);
        if verdict.is_some_and(|verdict| verdict.reject.is_some()) {
            let is_held = self.before.groups.get(group).is_some_and(|state| state.held.is_some());
            return (!is_held).then_some(Settled::Unchanged);
        }
        let now = EditTime { at: self.now, granularity_micros: 1, estimated: false };
        let values = self.amended(*member, group, given);
        let values = values.map(|values| match verdict {
            Some(verdict) => verdict.repaired(self.rules.group_fields(group), values),
            None => values,
        });
        let winner = values.map(|values| Contender { member: GIVEN, values, time: now, hops: 0 });
        Some(winner.map_or(Settled::Unchanged, |winner| self.decided_by_a_person(group, winner)))
    }

    /// Why what a person gave cannot take the place of what was refused.
    pub(super) fn amendment_refused(&self, unique: &Uniqueness) -> Option<String> {
        let Some(Ruling::Amend { member, given }) = self.ruling else { return None };
        let verdicts = self.validate_changes(unique).ok()?;
        if let Some((message, _)) = verdicts.get(*member).and_then(|verdict| verdict.reject.clone()) {
            return Some(format!("what you give is refused: {message}"));
        }
        let groups = given.iter().filter_map(|(field, _)| Some(self.rules.fields.get(*field)?.group));
        let mut unknown = groups.filter(|group| self.amended(*member, *group, given).is_none());
        unknown.next().map(|group| format!("give all of {}", self.group_names(group).join(", ")))
    }

    /// Why a person cannot have a member's side as it is: that member shows what validation refuses, and that is not what they
    /// were asked about.
    pub(super) fn takes_refused(&self, group: GroupIndex, choice: &Choice, verdicts: &[Verification]) -> Option<Settled> {
        let Choice::Take(member) = *choice else { return None };
        let held = self.before.groups.get(group).and_then(|state| state.held.as_ref())?;
        let asked = held.rejects && held.contenders.iter().any(|(other, ..)| *other == member);
        let (message, fields) = verdicts.get(member).filter(|_| !asked)?.reject.clone()?;
        let time = self.edit_time(member, group);
        let contender = self.shown_by(member, group, time)?;
        let subject = Subject::Rejected { member, fields };
        Some(Settled::Held { contenders: vec![contender], code: Code::ValidationFailed, message, subject })
    }

    /// What is in question of a group, with what a person gave in place of what was refused. `None` where something of it is
    /// neither known nor given.
    fn amended(&self, member: MemberIndex, group: GroupIndex, given: &[(FieldIndex, Value)]) -> Option<Vec<Value>> {
        let state = self.before.groups.get(group)?;
        let known = match (&state.held, &state.agreed) {
            (None, Some(agreed)) => Some(agreed.values.clone()),
            _ => self.canonical(member, group).ok().flatten(),
        };
        let of = |(place, field): (usize, &FieldIndex)| {
            let given = given.iter().find(|(other, _)| other == field).map(|(_, value)| value.clone());
            given.or_else(|| known.as_ref()?.get(place).cloned())
        };
        self.rules.group_fields(group).iter().enumerate().map(of).collect()
    }

    /// What a member shows for a group, as a contender.
    pub(super) fn shown_by(&self, member: MemberIndex, group: GroupIndex, time: EditTime) -> Option<Contender> {
        let values = self.canonical(member, group).ok().flatten()?;
        Some(Contender { member, values, time, hops: 0 })
    }

    /// What cannot be told of a group that nobody ever agreed about: nothing, until it is shown otherwise.
    fn untold_by(&self, group: GroupIndex, time: EditTime) -> Option<Contender> {
        let held = self.before.groups.get(group).and_then(|state| state.held.as_ref()).filter(|held| held.rejects)?;
        let member = self.present().into_iter().find(|member| held.contenders.iter().any(|(other, ..)| other == member))?;
        let values = vec![Value::Null; self.rules.group_fields(group).len()];
        Some(Contender { member, values, time, hops: 0 })
    }
}
