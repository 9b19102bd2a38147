//! Invariant 5 and what may never be written: no more writes than the edits call for, and none that changes nothing.

use super::Checker;
use crate::database::Author;
use crate::describe;
use crate::timeline::{Lives, Step};
use crate::users::REJECTED;
use crate::world::Flow;
use concord_engine::value::Value;

impl Checker<'_> {
    /// What validation refuses is written nowhere.
    pub(super) fn refused_is_not_written(&mut self, tag: &str, step: &Step) {
        let refused = |value: &Value| matches!(value, Value::Text(text) if text.starts_with(REJECTED));
        if let Some((field, value)) = step.asked.iter().find(|(_, value)| refused(value)) {
            let what = format!("{field} = {} is refused, and commit {} writes it", describe::value(value), step.commit);
            self.blame("8 fidelity (validation)", tag, what);
        }
    }

    /// Invariant 5: the engine writes no more than the edits call for, and nothing that changes nothing.
    pub(super) fn quiescence(&mut self, tag: &str, life: &Lives) {
        let others = self.members().saturating_sub(1);
        let mut causes = self.answered.get(tag).copied().unwrap_or(0);
        let mut writes = 0_usize;
        // A create brings fields into being that flow out of where it was made, generated keys among them.
        let one_way = self.world().fields.iter().filter(|field| field.flow != Flow::Both).count();
        let guarded: Vec<bool> = self.world().members.iter().map(|member| member.profile.guarded).collect();
        let steps = life.iter().zip(guarded).flat_map(|(steps, guarded)| steps.iter().map(move |step| (step, guarded)));
        for (step, guarded) in steps {
            let ours = matches!(step.author, Author::Engine(_));
            if ours && self.world().further.rejects {
                self.refused_is_not_written(tag, step);
            }
            if ours && !step.reaction {
                writes += 1;
            } else {
                causes += 1;
            }
            // A trigger that changes what we wrote is an edit of its own.
            if ours && !step.reaction && self.has_triggers() {
                causes += 1;
            }
            // A write without a guard may go over an edit, which is then put right.
            if ours && !step.reaction && !guarded {
                causes += 1;
            }
            if ours && !step.reaction && step.before.is_none() {
                causes += one_way;
            }
            let shown = |field: &str| step.before.as_ref().and_then(|row| row.fields.get(field));
            let asked_for_nothing = step.asked.iter().all(|(field, value)| shown(field.as_str()) == Some(value));
            let idle = step.before.is_some() && step.after.is_some() && asked_for_nothing;
            if ours && !step.reaction && idle && guarded {
                self.blame("5 quiescence", tag, format!("the engine's write in commit {} changed nothing", step.commit));
            }
        }
        // A key that changes while no feed tells of it is a delete and a new record to anybody who looks.
        if self.world().further.gaps && self.is_rekeyed(life) {
            causes += 1;
        }
        // A column made anew is filled from the other side.
        causes += self.evidence.databases.iter().map(|database| database.drops().len()).sum::<usize>();
        // What a person gives is shown nowhere yet, so every member is written.
        let most = causes * others.max(1) + self.given.get(tag).copied().unwrap_or(0);
        if writes > most {
            self.blame("5 quiescence", tag, format!("{writes} writes of ours for {causes} causes: at most {most}"));
        }
    }
}
