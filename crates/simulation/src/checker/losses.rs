//! Invariant 3: what a user wrote stands, was replaced by somebody who had seen it, or lost to a recorded decision.

use super::Checker;
use crate::database::Author;
use crate::describe;
use crate::timeline::{Lives, Step};
use crate::world::Purpose;
use concord_engine::ledger::Entry;
use concord_engine::review::Subject;
use concord_engine::value::Value;

impl Checker<'_> {
    /// Invariant 3: what a user wrote stands, was replaced by somebody who had seen it, or lost to a recorded decision.
    pub(super) fn no_lost_update(&mut self, tag: &str, life: &Lives) {
        for member in 0..self.members() {
            let guarded = self.shows_what_was_written_over(member);
            for field in 0..self.world().fields.len() {
                let plain =
                    self.world().fields.get(field).is_some_and(|field| matches!(field.purpose, Purpose::Plain | Purpose::Code));
                if guarded && plain && self.world().flows_from(member, field) {
                    self.no_lost_value(tag, life, member, field);
                }
            }
        }
    }

    /// Whether nothing is written over unseen at a member: its writes are guarded, or its feed tells our writes from others', and
    /// its events can be told from what was read a moment before.
    pub(super) fn shows_what_was_written_over(&self, member: usize) -> bool {
        let seen = |profile: &crate::system::Profile| profile.guarded || (profile.marks && !profile.vague_reads);
        self.world().members.get(member).is_some_and(|member| seen(&member.profile))
    }

    pub(super) fn no_lost_value(&mut self, tag: &str, life: &Lives, member: usize, field: usize) {
        let name = self.world().native(member, field);
        let steps = life.get(member).cloned().unwrap_or_default();
        let value_of = |row: &Option<crate::database::Row>| row.as_ref().and_then(|row| row.fields.get(name.as_str()).cloned());
        for (place, step) in steps.iter().enumerate() {
            let written = value_of(&step.after).filter(|value| *value != Value::Null);
            let by_user = matches!(step.author, Author::User(_) | Author::Workflow);
            let Some(value) = written.filter(|value| by_user && value_of(&step.before).as_ref() != Some(value)) else { continue };
            let next = steps.iter().skip(place + 1).find(|next| value_of(&next.after).as_ref() != Some(&value));
            let Some(next) = next else { continue };
            // A record made anew beside one that is marked as deleted takes nothing away from that one.
            if !matches!(next.author, Author::Engine(_)) || next.reaction || next.before.is_none() {
                continue;
            }
            // It went with its column; whoever filled the one that has its name wrote nothing over.
            if self.went_with_its_column(member, field, step.commit, next.commit) {
                continue;
            }
            // What a trigger made of a write of ours that asked for something else is the trigger's doing.
            if next.after.is_some() && next.asked.get(name.as_str()) != value_of(&next.after).as_ref() {
                continue;
            }
            // Written over unseen, and carried on when the feed had told of it, or put down as what was written over.
            let guarded = self.world().members.get(member).is_some_and(|member| member.profile.guarded);
            if !guarded && (self.carried_on(life, member, field, &value, next) || self.written_over(member, field, &value)) {
                continue;
            }
            // Written over unseen, in a gap: what no feed tells of and no guard has met is known to nobody.
            if !guarded && self.is_in_a_gap(member, step.commit) {
                continue;
            }
            if self.seen_elsewhere(life, member, field, &value, next) || self.recorded(member, field, &value) {
                continue;
            }
            // A key that changes while no feed tells of it is a delete and a new record to anybody who looks.
            if next.after.is_none() && self.world().further.gaps && self.is_rekeyed(life) {
                continue;
            }
            let became = value_of(&next.after).map_or_else(|| "a delete".to_owned(), |value| describe::value(&value));
            let what = format!(
                "{} = {} written at {} in commit {} by {} was overwritten with {became} in commit {} without a record of it",
                name,
                describe::value(&value),
                self.name(member),
                step.commit,
                describe::author(&step.author),
                next.commit
            );
            self.blame("3 no lost update", tag, what);
        }
    }

    /// Whether what replaced a value was made where the value had been seen before: by a user, a workflow or a trigger.
    pub(super) fn seen_elsewhere(&self, life: &Lives, member: usize, field: usize, value: &Value, overwritten: &Step) -> bool {
        (0..self.members()).filter(|other| *other != member).any(|other| {
            let name = self.world().native(other, field);
            let fitted = self.fitted(other, field, value);
            let mut seen = false;
            let steps = life.get(other).into_iter().flatten().filter(|step| step.at <= overwritten.at);
            for step in steps {
                let ours = matches!(step.author, Author::Engine(_)) && !step.reaction;
                let shown = step.after.as_ref().and_then(|row| row.fields.get(name.as_str()));
                let asked = step.asked.get(name.as_str());
                // A trigger that makes something else of what was asked for has seen it.
                seen |= ours && asked == Some(&fitted);
                let made = !ours || asked.is_some_and(|asked| Some(asked) != shown) || (asked.is_none() && step.after.is_some());
                if seen && made && shown.is_none_or(|shown| *shown != fitted && self.fitted(member, field, shown) != *value) {
                    return true;
                }
                // A short form says the same as the long one that it was cut from.
                seen |= shown == Some(&fitted) || shown.is_some_and(|shown| self.fitted(member, field, shown) == *value);
            }
            false
        })
    }

    /// Whether no feed may have told of a commit.
    fn is_in_a_gap(&self, member: usize, commit: u64) -> bool {
        let gaps = self.evidence.gaps.get(member).into_iter().flatten();
        gaps.into_iter().any(|(behind, upto)| *behind < commit && commit <= *upto)
    }

    /// Whether the ledger says that a value was written over at a member.
    fn written_over(&self, member: usize, field: usize, value: &Value) -> bool {
        let Some(name) = self.world().fields.get(field).map(|field| field.name) else { return false };
        self.evidence
            .ledger
            .iter()
            .filter(|row| row.entry == Entry::Updated && row.member == member)
            .any(|row| row.fields.iter().any(|entry| entry.field == name && entry.old.as_ref() == Some(value)))
    }

    /// Whether the engine wrote a value anywhere after it had been written over.
    fn carried_on(&self, life: &Lives, member: usize, field: usize, value: &Value, overwritten: &Step) -> bool {
        let later = |step: &&Step| matches!(step.author, Author::Engine(_)) && step.at >= overwritten.at;
        life.iter().enumerate().any(|(other, steps)| {
            let (name, fitted) = (self.world().native(other, field), self.fitted(other, field, value));
            let shows = |step: &Step| {
                let shown = step.after.as_ref().and_then(|row| row.fields.get(name.as_str()));
                shown.is_some_and(|shown| *shown == fitted || self.fitted(member, field, shown) == *value)
            };
            steps.iter().filter(later).any(shows)
        })
    }

    /// Whether users have changed the key of a record.
    pub(super) fn is_rekeyed(&self, life: &Lives) -> bool {
        let changes = |step: &Step| matches!((&step.before, &step.after), (Some(before), Some(after)) if before.key != after.key);
        life.iter().flatten().any(|step| matches!(step.author, Author::User(_)) && changes(step))
    }

    /// Whether the ledger or a review holds a value as one that lost; a short form says the same as the long one that it was
    /// cut from.
    pub(super) fn recorded(&self, member: usize, field: usize, value: &Value) -> bool {
        let is_it = |old: &Value| old == value || self.fitted(member, field, old) == *value;
        let Some(name) = self.world().fields.get(field).map(|field| field.name) else { return false };
        let lost = self.evidence.ledger.iter().any(|row| {
            matches!(row.entry, Entry::Lost | Entry::Deleted | Entry::Held(_))
                && row.fields.iter().any(|entry| entry.field == name && entry.old.as_ref().is_some_and(is_it))
        });
        let held = self.evidence.reviews.iter().any(|review| match &review.subject {
            Subject::Conflict { values, .. } => values.iter().any(|(_, values)| values.iter().any(is_it)),
            _ => false,
        });
        lost || held
    }
}
