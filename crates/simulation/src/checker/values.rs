//! Invariant 2: fields agree wherever they flow, and the value that stands is the one that the policy tells.

use super::{Checker, user_steps};
use crate::database::Author;
use crate::describe;
use crate::timeline::Lives;
use crate::users::{POISON, REJECTED};
use crate::world::{Decide, DeleteRule, Flow, Purpose};
use concord_engine::value::Value;
use std::collections::BTreeSet;

impl Checker<'_> {
    /// Invariant 2: fields agree wherever they flow.
    pub(super) fn convergence(&mut self, tag: &str) {
        // Among the others the record goes on; records that went their own ways may differ.
        if self.world().on_delete == DeleteRule::Detach && self.was_deleted(tag) {
            return;
        }
        // What a person had made again, not knowing whether it had been made, is a record of its own.
        if self.is_made_again(tag) && (0..self.members()).any(|member| self.rows(tag, member).len() > 1) {
            return;
        }
        for field in 0..self.world().fields.len() {
            if self.is_excused_field(tag, field) {
                continue;
            }
            let shown: Vec<(usize, Value)> =
                (0..self.members()).filter_map(|member| Some((member, self.shown(tag, member, field)?))).collect();
            let wanted = self.reference(&shown, field);
            let Some((_, wanted)) = wanted else { continue };
            for (member, value) in &shown {
                if *value != self.fitted(*member, field, &wanted) {
                    let name = self.world().fields.get(field).map_or("?", |field| field.name);
                    let what = format!(
                        "{name} is {} at {} where {} is wanted (shown: {})",
                        describe::value(value),
                        self.name(*member),
                        describe::value(&wanted),
                        shown
                            .iter()
                            .map(|(m, v)| format!("{}={}", self.name(*m), describe::value(v)))
                            .collect::<Vec<_>>()
                            .join(" ")
                    );
                    self.blame("2 convergence", tag, what);
                    break;
                }
            }
        }
    }

    /// The member whose value the others are to show: the owner, or one that holds the value in full.
    pub(super) fn reference(&self, shown: &[(usize, Value)], field: usize) -> Option<(usize, Value)> {
        let rules = self.world().fields.get(field)?;
        let short = rules.short_at.map(|(member, _)| member);
        match rules.flow {
            Flow::From(owner) => shown.iter().find(|(member, _)| *member == owner).cloned(),
            Flow::Both => shown.iter().find(|(member, _)| Some(*member) != short).cloned(),
        }
    }

    /// Where the policy alone tells the winner, the winner is the one that stands.
    pub(super) fn winners(&mut self, tag: &str, life: &Lives) {
        let simple = self.world().users_wait && !self.is_excused(tag);
        if self.answered.contains_key(tag) {
            return;
        }
        let lifecycle = user_steps(life).any(|(_, step)| step.before.is_none() || step.after.is_none());
        // A key that changes while no feed tells of it is a delete and a new record to anybody who looks.
        let lifecycle = lifecycle || (self.world().further.gaps && self.is_rekeyed(life));
        if !simple || lifecycle {
            return;
        }
        for field in 0..self.world().fields.len() {
            // A column met as at first sight is decided by the rules of a first run.
            if !self.drifts(field)
                && let Some(wanted) = self.winner(life, field)
                && !self.is_excused_field(tag, field)
                && !self.went_unseen(life, field, &wanted)
            {
                for member in 0..self.members() {
                    let Some(shown) = self.shown(tag, member, field) else { continue };
                    if shown != self.fitted(member, field, &wanted) {
                        let name = self.world().fields.get(field).map_or("?", |field| field.name);
                        let what = format!(
                            "{name}: {} should have won, {} shows {}",
                            describe::value(&wanted),
                            self.name(member),
                            describe::value(&shown)
                        );
                        self.blame("policy's winner", tag, what);
                        break;
                    }
                }
            }
        }
    }

    /// Whether a value was written over where nothing can show that: by a write without a guard, at a member that does not say
    /// which writes are ours.
    fn went_unseen(&self, life: &Lives, field: usize, value: &Value) -> bool {
        (0..self.members()).filter(|member| !self.shows_what_was_written_over(*member)).any(|member| {
            let name = self.world().native(member, field);
            let of = |row: &Option<crate::database::Row>| row.as_ref().and_then(|row| row.fields.get(name.as_str()).cloned());
            let ours = |author: &Author| matches!(author, Author::Engine(_));
            let mut steps = life.get(member).into_iter().flatten();
            steps.any(|step| {
                ours(&step.author) && of(&step.before).as_ref() == Some(value) && of(&step.after).as_ref() != Some(value)
            })
        })
    }

    pub(super) fn winner(&self, life: &Lives, field: usize) -> Option<Value> {
        let world = self.world();
        let rules = world.fields.get(field)?;
        let alone = world.fields.iter().filter(|other| other.group == rules.group).count() == 1;
        let latest = world.decides(rules.group).all(|decide| *decide == Decide::Latest);
        if !alone || rules.flow != Flow::Both || rules.purpose != Purpose::Plain || world.is_triggered(field) {
            return None;
        }
        let mut values = Vec::new();
        let mut edits: Vec<(i64, usize, Value)> = Vec::new();
        let mut off = world.further.gaps;
        let coarsest = world.members.iter().map(|member| member.profile.granularity_micros).max().unwrap_or(1).max(1);
        for (member, step) in user_steps(life) {
            let name = world.native(member, field);
            let value = |row: &Option<crate::database::Row>| row.as_ref().and_then(|row| row.fields.get(name.as_str()).cloned());
            let new = value(&step.after)?;
            if value(&step.before).as_ref() != Some(&new) {
                if matches!(&new, Value::Text(text) if text.contains(REJECTED) || text.contains(POISON)) {
                    return None;
                }
                let skew = world.members.get(member).map_or(0, |member| member.profile.skew_micros);
                // By a clock that is off, a later edit may count as an earlier one, but only where both contend, which no log
                // tells.
                off |= skew != 0;
                edits.push(((step.at.micros() + skew).div_euclid(i64::from(coarsest)), member, new.clone()));
                // What the narrowest member can hold of it: a short form that comes back is a revert, too.
                let narrowest = rules.short_at.map_or(member, |(at, _)| at);
                values.push(describe::value(&self.fitted(narrowest, field, &new)));
            }
        }
        // A value that comes again is a revert: whether it counts as an edit depends on what was seen in between.
        let distinct: BTreeSet<&String> = values.iter().collect();
        let initial = || life.iter().flatten().filter(|step| step.author == Author::Initial);
        let reverted = initial().any(|step| {
            step.after.as_ref().is_some_and(|row| row.fields.iter().any(|(_, value)| values.contains(&describe::value(value))))
        });
        if distinct.len() != values.len() || reverted {
            return None;
        }
        // What the members differed in at first contends as well, as long as it has not been decided.
        let mut at_first: Vec<String> = Vec::new();
        for (member, steps) in life.iter().enumerate() {
            let first = steps.iter().find(|step| step.author == Author::Initial).and_then(|step| step.after.as_ref());
            let value = first.and_then(|row| row.fields.get(world.native(member, field).as_str()).cloned());
            at_first.extend(value.map(|value| describe::value(&value)));
        }
        if !latest && at_first.iter().any(|value| Some(value) != at_first.first()) {
            return None;
        }
        let one_editor = edits.iter().map(|(_, member, _)| *member).collect::<BTreeSet<_>>().len() == 1;
        if one_editor {
            return edits.last().map(|(_, _, value)| value.clone());
        }
        if off {
            return None;
        }
        let top = edits.iter().map(|(at, _, _)| *at).max()?;
        let tops: Vec<&(i64, usize, Value)> = edits.iter().filter(|(at, _, _)| *at == top).collect();
        match tops.as_slice() {
            [(_, _, value)] if latest => Some(value.clone()),
            _ => None,
        }
    }
}
