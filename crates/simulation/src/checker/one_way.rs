//! Worlds in which records flow from the first member alone: what reaches the others, and what becomes of edits there.

use super::Checker;
use crate::database::Author;
use crate::describe;
use crate::timeline::{Lives, Step};
use crate::world::{AgainstFlow, DeleteRule, Purpose};

impl Checker<'_> {
    /// Records that flow from the first member alone.
    pub(super) fn one_way(&mut self, tag: &str, life: &Lives) {
        if life.first().into_iter().flatten().any(|step| matches!(step.author, Author::Engine(_))) {
            self.blame("one way", tag, "the engine wrote where nothing flows to".to_owned());
        }
        if self.is_excused(tag) || (self.unproven.contains(tag) && self.answered.contains_key(tag)) {
            return;
        }
        if self.rows(tag, 0).is_empty() {
            return self.gone_at_its_source(tag, life);
        }
        let rule = self.world().further.one_way;
        let left = rule != Some(AgainstFlow::Overwrite);
        for member in 1..self.members() {
            let edited_here = |step: &Step| matches!(step.author, Author::User(_));
            let touched = life.get(member).into_iter().flatten().any(edited_here);
            let gone = life.get(member).into_iter().flatten().any(|step| edited_here(step) && step.after.is_none());
            if self.rows(tag, member).is_empty() {
                let excused = self.excused.contains_key(tag);
                if !(excused || left && gone) {
                    self.blame("2 convergence (existence)", tag, format!("it does not flow to {}", self.name(member)));
                }
                continue;
            }
            if !(left && touched) {
                self.shows_what_flows(tag, member);
            }
        }
    }

    /// A record that was deleted where it flows from is gone wherever we made it and nobody touched it.
    pub(super) fn gone_at_its_source(&mut self, tag: &str, life: &Lives) {
        let followed = matches!(self.world().on_delete, DeleteRule::Propagate | DeleteRule::Soft);
        let asked = self.excused.contains_key(tag) || self.answered.contains_key(tag) || self.undone.contains(tag);
        let asked = asked || self.unproven.contains(tag);
        if !followed || !self.was_deleted(tag) || asked {
            return;
        }
        for member in 1..self.members() {
            let steps = life.get(member).into_iter().flatten();
            let ours_alone = steps.clone().all(|step| matches!(step.author, Author::Engine(_)));
            if ours_alone && !self.rows(tag, member).is_empty() {
                let what = format!("deleted where it flows from, and still at {}", self.name(member));
                self.blame("2 convergence (existence)", tag, what);
            }
        }
    }

    pub(super) fn shows_what_flows(&mut self, tag: &str, member: usize) {
        for field in 0..self.world().fields.len() {
            let (Some(wanted), Some(shown)) = (self.shown(tag, 0, field), self.shown(tag, member, field)) else { continue };
            let generated = self.world().fields.get(field).is_some_and(|field| field.purpose == Purpose::KeyOf(member));
            if !generated && !self.is_excused_field(tag, field) && shown != self.fitted(member, field, &wanted) {
                let name = self.world().fields.get(field).map_or("?", |field| field.name);
                let what = format!(
                    "{name} is {} at {} where {} flows to it",
                    describe::value(&shown),
                    self.name(member),
                    describe::value(&wanted)
                );
                self.blame("2 convergence", tag, what);
            }
        }
    }
}
