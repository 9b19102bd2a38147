//! Invariants 2 and 4: one record at a member, once; made and deleted as its users and its rules say.

use super::{Checker, user_steps};
use crate::database::{Author, Row};
use crate::timeline::{Lives, Step};
use crate::world::{DeleteRule, EditRule, Flow};
use concord_engine::ledger::{Entry, Rule};
use concord_engine::value::Value;

impl Checker<'_> {
    /// Invariant 4: at most one live native record per link and member.
    pub(super) fn one_record_once(&mut self, tag: &str) {
        for member in 0..self.members() {
            let rows = self.rows(tag, member).len();
            if rows > 1 && !self.is_doubled(tag) && !self.is_made_again(tag) {
                self.blame("4 one record, once", tag, format!("{rows} records of it at {}", self.name(member)));
            }
        }
    }

    /// Whether a person had a record made again of which it could not be told whether it had been made: it may be there twice.
    pub(super) fn is_made_again(&self, tag: &str) -> bool {
        self.unproven.contains(tag) && self.answered.contains_key(tag)
    }

    /// Records that a person typed in twice: somebody is asked, or they are told apart by now.
    pub(super) fn doubles(&mut self, tag: &str) {
        let twice = (0..self.members()).any(|member| self.rows(tag, member).len() > 1);
        // A second record is known by the first one's counterpart. Where that was deleted, and is to stay so, it is a record of
        // its own.
        let goes_its_own_way = !self.deletes_are_followed() && self.was_deleted(tag);
        if twice && !goes_its_own_way && !self.excused.contains_key(tag) && !self.told_apart.contains(tag) {
            self.blame("one record, once (doubles)", tag, "two records of it at one member, and nobody is asked".to_owned());
        }
    }

    /// Whether users made a record at a member that had one of the same tag already.
    pub(super) fn is_doubled_by_users(&self, tag: &str, member: usize) -> bool {
        let Some(steps) = self.lives.get(tag).and_then(|life| life.get(member)) else { return false };
        let mut rows = 0_usize;
        steps.iter().any(|step| {
            let by_user = matches!(step.author, Author::User(_)) && step.before.is_none();
            rows = (rows + usize::from(step.after.is_some())).saturating_sub(usize::from(step.before.is_some()));
            by_user && rows > 1
        })
    }

    pub(super) fn is_doubled(&self, tag: &str) -> bool {
        self.world().further.doubles && (0..self.members()).any(|member| self.is_doubled_by_users(tag, member))
    }

    /// Invariants 2 and 4: a record that users made and nobody deleted is everywhere; a deleted one follows its rule.
    pub(super) fn existence(&mut self, tag: &str, life: &Lives) {
        if self.is_excused(tag) {
            return;
        }
        let present: Vec<bool> = (0..self.members()).map(|member| !self.rows(tag, member).is_empty()).collect();
        let shown = || {
            let places = (0..self.members()).filter(|member| present.get(*member) == Some(&true));
            places.map(|member| self.name(member)).collect::<Vec<_>>().join(", ")
        };
        let everywhere = present.iter().all(|here| *here);
        let nowhere = present.iter().all(|here| !*here);
        let deletes = user_steps(life).filter(|(_, step)| step.after.is_none()).count();
        if deletes == 0 {
            // A record of which some group waits for a person is made elsewhere when that is decided.
            if !everywhere && !self.excused.contains_key(tag) {
                let what = format!("never deleted, but only at: {}", shown());
                self.blame("2 convergence (existence)", tag, what);
            }
            return;
        }
        if !self.deletes_are_followed() {
            self.deletes_stay_where_they_are(tag, life);
            return;
        }
        if !everywhere && !nowhere {
            if self.excused.contains_key(tag) {
                return;
            }
            let what = format!("deleted at times, and now only at: {}", shown());
            self.blame("2 convergence (existence)", tag, what);
            return;
        }
        if let Some((must_exist, why)) = self.must_exist(tag, life)
            && must_exist != everywhere
        {
            let what = format!("{why}, but it is {}", if everywhere { "everywhere" } else { "nowhere" });
            self.blame("4 one record, once (deletes)", tag, what);
        }
    }

    pub(super) fn deletes_are_followed(&self) -> bool {
        matches!(self.world().on_delete, DeleteRule::Propagate | DeleteRule::Soft)
    }

    /// A delete that is not to be followed is followed nowhere, unless a person said so.
    pub(super) fn deletes_stay_where_they_are(&mut self, tag: &str, life: &Lives) {
        if self.answered.contains_key(tag) {
            return;
        }
        for (member, steps) in life.iter().enumerate() {
            let ours = |step: &&Step| matches!(step.author, Author::Engine(_)) && step.after.is_none();
            if let Some(step) = steps.iter().find(ours) {
                let what = format!("deleted at {} in commit {}, where deletes are not followed", self.name(member), step.commit);
                self.blame("4 one record, once (deletes)", tag, what);
            }
        }
    }

    /// Whether the sequential model can tell that a record, deleted at some time, is to exist.
    pub(super) fn must_exist(&self, tag: &str, life: &Lives) -> Option<(bool, &'static str)> {
        let deletes: Vec<(usize, &Step)> = user_steps(life).filter(|(_, step)| step.after.is_none()).collect();
        let made: Vec<(usize, &Step)> =
            user_steps(life).filter(|(_, step)| step.before.is_none() && step.after.is_some()).collect();
        let (deleter, delete) = deletes.first().copied()?;
        if self.world().further.wipes
            || !self.was_known(life, deleter, delete, made.iter().all(|(member, _)| *member == deleter))
            || self.in_question.contains(tag)
            // A key that changes while no feed tells of it is a delete and a new record to anybody who looks.
            || (self.world().further.gaps && self.is_rekeyed(life))
        {
            return None;
        }
        // Made by a write whose answer was lost, at a member that does not say who wrote, and rewritten there by a trigger: nothing
        // tells it from a record of somebody else's, and to make it again does less harm than to delete what it may not be.
        let rewritten = |step: &Step| {
            let made = step.after.as_ref().filter(|_| step.before.is_none());
            made.is_some_and(|row| step.asked.iter().any(|(field, asked)| row.fields.get(field.as_str()) != Some(asked)))
        };
        let ours = |step: &Step| matches!(step.author, Author::Engine(_)) && rewritten(step);
        let untold = self.world().members.get(deleter).is_some_and(|member| !member.profile.marks);
        let perhaps_ours = life.get(deleter).into_iter().flatten().rfind(|step| step.order() < delete.order()).is_some_and(ours);
        if untold && perhaps_ours && self.world().kills > 0 {
            return None;
        }
        let edits = || user_steps(life).filter(|(_, step)| step.before.is_some() && step.after.is_some());
        let made_anew = made.iter().any(|(_, step)| step.at >= delete.at);
        if deletes.iter().all(|(member, _)| *member == deleter) && made_anew {
            let last = made.iter().filter(|(member, _)| *member == deleter).map(|(_, step)| step.order()).max();
            let last_delete = deletes.iter().map(|(_, step)| step.order()).max();
            let others_made = made.iter().any(|(member, _)| *member != deleter);
            return (!others_made && last > last_delete).then_some((true, "made anew by the user who had deleted it"));
        }
        let quiet = edits().all(|(member, _)| member == deleter) && made.iter().all(|(member, _)| *member == deleter);
        // Values that a person was asked about (a first sight without a base, say) are edits that a delete stands against.
        if quiet && !self.in_question.contains(tag) && !made_anew && !self.has_triggers() && self.world().users_wait {
            return Some((false, "deleted where alone it was ever edited"));
        }
        // An edit that has lost to another edit is none that the delete stands against.
        let beaten =
            |member: usize, step: &Step| self.world().against_edit == EditRule::UpdateWins && self.is_beaten(member, step);
        let after = edits().any(|(member, step)| {
            member != deleter && step.at > delete.at && self.lasting(life, member, step) && !beaten(member, step)
        });
        // Made at several members, they are known to be one record only once the engine has seen them side by side.
        let made_apart = made.iter().any(|(member, _)| made.first().is_some_and(|(first, _)| first != member));
        let there_first = |member: usize, steps: &[Step]| {
            steps.iter().any(|step| step.author == Author::Initial) && made.iter().any(|(maker, _)| *maker != member)
        };
        let made_apart = made_apart || life.iter().enumerate().any(|(member, steps)| there_first(member, steps));
        if deletes.len() == 1 && after && !made_anew && !made_apart && made.iter().all(|(_, step)| step.at < delete.at) {
            return match self.world().against_edit {
                EditRule::UpdateWins => Some((true, "deleted, and edited elsewhere after that, and the edit wins")),
                EditRule::DeleteWins => Some((false, "deleted, and edited elsewhere after that, and the delete wins")),
                EditRule::Person => None,
            };
        }
        None
    }

    /// Whether the engine knew a record that was deleted to be the counterpart of others: one that was gone before the
    /// engine had written it, or written of it, may not have been known.
    pub(super) fn was_known(&self, life: &Lives, deleter: usize, delete: &Step, made_there_alone: bool) -> bool {
        let earlier = |step: &&Step| step.at < delete.at;
        let ours = |step: &Step| matches!(step.author, Author::Engine(_));
        let there = || life.get(deleter).into_iter().flatten().filter(earlier);
        let loaded = self.world().users_wait && there().any(|step| step.author == Author::Initial);
        loaded || there().any(ours) || (made_there_alone && life.iter().flatten().filter(earlier).any(ours))
    }

    /// Whether an edit is one that flows, and is never taken back by the same member.
    pub(super) fn lasting(&self, life: &Lives, member: usize, edit: &Step) -> bool {
        let Some(steps) = life.get(member) else { return false };
        self.world().fields.iter().enumerate().any(|(place, field)| {
            let name = self.world().native(member, place);
            let shown = |row: &Option<Row>| row.as_ref().and_then(|row| row.fields.get(name.as_str())).cloned();
            let (old, new) = (shown(&edit.before), shown(&edit.after));
            let seen_before: Vec<_> =
                steps.iter().filter(|step| step.order() < edit.order()).map(|step| shown(&step.after)).collect();
            let later = steps.iter().filter(|step| step.order() > edit.order());
            // Also by way of other values: what it then shows is nothing that is new to anybody.
            let taken_back = later
                .filter(|step| !matches!(step.author, Author::Engine(_)))
                .map(|step| shown(&step.after))
                .any(|shown| shown == old || seen_before.contains(&shown));
            let reverts = seen_before.contains(&new);
            field.flow == Flow::Both && new != old && !taken_back && !reverts
        })
    }

    /// Whether the ledger says that something which an edit wrote has lost to another edit.
    fn is_beaten(&self, member: usize, edit: &Step) -> bool {
        self.world().fields.iter().enumerate().any(|(place, field)| {
            let name = self.world().native(member, place);
            let of = |row: &Option<Row>| row.as_ref().and_then(|row| row.fields.get(name.as_str()).cloned());
            let written = of(&edit.after).filter(|value| *value != Value::Null && of(&edit.before).as_ref() != Some(value));
            let entries = self.evidence.ledger.iter().filter(|row| row.entry == Entry::Lost).flat_map(|row| &row.fields);
            let mut lost = entries.filter(|entry| entry.field == field.name && entry.rule != Rule::DeleteWins);
            written.is_some() && lost.any(|entry| entry.old == written)
        })
    }
}
