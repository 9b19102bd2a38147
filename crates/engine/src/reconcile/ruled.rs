//! What a person said about a field group, as far as it can be followed now.

use super::Choice;
use super::contend::Contender;
use super::groups::Settled;
use super::verdict::Verification;
use super::work::Work;
use crate::change::EditTime;
use crate::error::Code;
use crate::ledger::Rule;
use crate::link::{GIVEN, GroupIndex, MemberIndex};
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
            Some(winner) => {
                let losers = self
                    .present()
                    .into_iter()
                    .filter(|&member| member != winner.member)
                    .filter_map(|member| {
                        let values = self.canonical(member, group).ok().flatten()?;
                        (!self.same(group, &values, &winner.values)).then_some(Contender { member, values, time: now, hops: 0 })
                    })
                    .collect();
                Settled::Agreed { winner, rule: Rule::Manual, losers }
            }
            None => Settled::Unchanged,
        }
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
