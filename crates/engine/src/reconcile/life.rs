//! Whether the record behind a link lives: deletes, deletes against edits, records that come back.

use super::work::Work;
use super::{Need, Ruling};
use crate::error::Code;
use crate::ledger::{Entry, Rule};
use crate::link::{Life, Link, MemberIndex, Standing};
use crate::review::Subject;
use crate::rules::{DeleteAgainstEdit, OnDelete, TargetEdits};

/// What comes after life has been decided.
pub(super) enum Next {
    /// The groups.
    Groups,
    /// Nothing: the decision is complete.
    Done,
    /// Nothing yet.
    Needs(Need),
}

/// Whether a ruling ends a hold that only a person ends: its release, or what is to become of a record that was deleted
/// where deletes do not flow from.
pub(super) fn ends_hold(link: &Link, ruling: Option<&Ruling>) -> bool {
    match ruling {
        Some(Ruling::Release) => true,
        Some(Ruling::Life { .. }) => link.sides.iter().any(|side| side.standing == Standing::LeftAlone),
        _ => false,
    }
}

impl Work<'_> {
    pub fn decide_life(&mut self) -> Next {
        self.link.held = None;
        match self.link.life {
            Life::Live => self.decide_live(),
            Life::Deleted { by, .. } => self.decide_deleted(by),
            Life::Detached { .. } => self.decide_detached(),
        }
    }

    fn decide_live(&mut self) -> Next {
        for member in self.members() {
            match self.standing(member) {
                Standing::Marked if self.is_gone(member) => self.swept_away(member),
                Standing::Present | Standing::Marked => {}
                Standing::Absent | Standing::Gone | Standing::LeftAlone if self.is_shown(member) => self.reappear(member),
                Standing::Absent | Standing::Gone | Standing::LeftAlone => {}
            }
        }
        if self.before.held.is_some_and(|hold| hold.sticky) && matches!(self.ruling, Some(Ruling::Life { keep: true })) {
            self.bring_back();
        }
        let gone: Vec<MemberIndex> =
            self.members().filter(|&member| self.is_gone(member) && self.before_present(member)).collect();
        let followed = self.sort_out_deletes_against_the_flow(&gone);
        self.put_right_what_no_source_held();
        let held_delete = self.held_delete();
        if let Some(&first) = followed.first().or(held_delete.as_ref()) {
            return self.decide_delete(first, &followed);
        }
        if self.link.held.is_some() {
            // Edits seen together with what holds the link are not lost: they contend once it is decided.
            let edited: Vec<MemberIndex> = self.members().filter(|&member| self.any_flowing_change(member)).collect();
            self.hold_changed_groups(&edited);
            return Next::Done;
        }
        self.unmark();
        // Whoever was to go is back: what was given up for the delete stands again.
        self.is_back = self.before.held.is_some_and(|hold| !hold.sticky);
        Next::Groups
    }

    /// The record lives and nobody is asked about that: where it was marked as deleted before, the mark is to be taken off.
    fn unmark(&mut self) {
        for member in self.members().filter(|&member| self.inward(member)).collect::<Vec<_>>() {
            if let Some(side) = self.side(member).filter(|side| side.standing == Standing::Marked) {
                side.owes_life = true;
            }
        }
    }

    /// A person wants the record back where it was deleted against the flow: as a source has it.
    fn bring_back(&mut self) {
        if !self.present().into_iter().any(|member| self.outward(member)) {
            return;
        }
        for member in self.members() {
            if self.standing(member) != Standing::LeftAlone || !self.inward(member) {
                continue;
            }
            if let Some(side) = self.side(member) {
                side.standing = Standing::Gone;
                side.owes_life = true;
                side.owes.clear();
            }
        }
    }

    pub(super) fn before_present(&self, member: MemberIndex) -> bool {
        self.before.sides.get(member).is_some_and(|side| side.standing == Standing::Present)
    }

    /// A delete that an earlier look held against an edit, and that still stands: the member is gone, owed nothing, and
    /// the link was held for it.
    fn held_delete(&self) -> Option<MemberIndex> {
        self.before.held.filter(|hold| !hold.sticky)?;
        self.members().find(|&member| self.standing(member) == Standing::Gone && !self.owes_life(member) && self.outward(member))
    }

    fn owes_life(&self, member: MemberIndex) -> bool {
        self.link.sides.get(member).is_some_and(|side| side.owes_life)
    }

    fn outward(&self, member: MemberIndex) -> bool {
        self.rules.members.get(member).is_some_and(|member| member.outward)
    }

    fn inward(&self, member: MemberIndex) -> bool {
        self.rules.members.get(member).is_some_and(|member| member.inward)
    }

    /// What was marked as deleted has been removed for good, which says nothing against the record that lives on.
    fn swept_away(&mut self, member: MemberIndex) {
        let inward = self.inward(member);
        if let Some(side) = self.side(member) {
            side.standing = Standing::Gone;
            side.owes_life = inward;
        }
    }

    fn reappear(&mut self, member: MemberIndex) {
        if let Some(side) = self.side(member) {
            side.standing = Standing::Present;
            side.owes_life = false;
        }
    }

    /// A delete at a member whose deletes do not flow: put right, left alone, or held. Gives back those that do flow.
    fn sort_out_deletes_against_the_flow(&mut self, gone: &[MemberIndex]) -> Vec<MemberIndex> {
        let mut followed = Vec::new();
        // No source has the record any more either: there is nothing that the delete was made against.
        let with_the_flow = self.rules.deletes.on_delete != OnDelete::Ignore
            && gone.iter().any(|&member| self.outward(member))
            && !self.present().into_iter().any(|member| self.outward(member));
        for &member in gone {
            if self.outward(member) {
                followed.push(member);
                continue;
            }
            if with_the_flow {
                if let Some(side) = self.side(member) {
                    side.standing = Standing::Gone;
                    side.owes.clear();
                }
                continue;
            }
            let edits = self.rules.target_edits;
            // What no source holds is not put right: there is nothing to put right from.
            let inward = self.inward(member) && self.present().into_iter().any(|other| self.outward(other));
            let Some(side) = self.side(member) else { continue };
            side.owes.clear();
            match edits {
                TargetEdits::Overwrite => {
                    side.standing = Standing::Gone;
                    side.owes_life = inward;
                }
                TargetEdits::Keep => side.standing = Standing::LeftAlone,
                TargetEdits::Review => {
                    side.standing = Standing::LeftAlone;
                    self.hold(
                        true,
                        Code::DeleteAgainstFlow,
                        "the record was deleted where deletes do not flow from".to_owned(),
                        Subject::DeleteAgainstEdit { deleted_by: member, edited_by: Vec::new() },
                    );
                }
            }
        }
        followed
    }

    /// A source has the record again: what was deleted against the flow while none had it is put right.
    fn put_right_what_no_source_held(&mut self) {
        let had = |member: MemberIndex| self.before_present(member) && self.outward(member);
        let has = self.present().into_iter().any(|member| self.outward(member));
        if self.rules.target_edits != TargetEdits::Overwrite || !has || self.members().any(had) {
            return;
        }
        for member in self.members().filter(|&member| self.inward(member) && !self.outward(member)).collect::<Vec<_>>() {
            if let Some(side) = self.side(member).filter(|side| side.standing == Standing::Gone) {
                side.owes_life = true;
            }
        }
    }

    fn decide_delete(&mut self, first: MemberIndex, gone: &[MemberIndex]) -> Next {
        let present: Vec<MemberIndex> =
            self.members().filter(|&member| self.standing(member) == Standing::Present && !gone.contains(&member)).collect();
        if present.is_empty() {
            // A person who was asked wants it back, though a delete that was under way has taken it away everywhere.
            let asked = self.before.held.is_some_and(|hold| !hold.sticky);
            if asked && matches!(self.ruling, Some(Ruling::Life { keep: true })) {
                self.live_on();
                return Next::Groups;
            }
            // Nobody holds the record any more: there is nothing left to be lost.
            return self.follow_delete(first);
        }
        let editors = self.editors_against(gone);
        let was_contested = self.before.held.is_some_and(|hold| !hold.sticky);
        let rule = match self.ruled_life() {
            Some(rule) => rule,
            None if editors.is_empty() && !was_contested => DeleteAgainstEdit::DeleteWins,
            // The edit that the delete was held against is no longer there to be lost, but a person has not spoken.
            None if editors.is_empty() && gone.is_empty() => DeleteAgainstEdit::Manual,
            None => self.rules.deletes.against_edit,
        };
        match rule {
            DeleteAgainstEdit::DeleteWins => self.follow_delete(first),
            DeleteAgainstEdit::UpdateWins => {
                self.live_on();
                Next::Groups
            }
            DeleteAgainstEdit::Manual => self.hold_delete(first, if editors.is_empty() { present } else { editors }),
        }
    }

    /// What a person said about whether the record lives.
    fn ruled_life(&self) -> Option<DeleteAgainstEdit> {
        match self.ruling {
            Some(Ruling::Life { keep: true }) => Some(DeleteAgainstEdit::UpdateWins),
            Some(Ruling::Life { keep: false }) => Some(DeleteAgainstEdit::DeleteWins),
            _ => None,
        }
    }

    /// Who edited what a delete would take away: members that changed something or came into being, members whose edit was
    /// still owed to one that deleted, and members whose edit waits for a person.
    fn editors_against(&self, gone: &[MemberIndex]) -> Vec<MemberIndex> {
        let mut editors: Vec<MemberIndex> = self
            .members()
            .filter(|&member| self.is_shown(member) && (!self.before_present(member) || self.any_edit(member)))
            .collect();
        for &member in gone {
            let Some(side) = self.before.sides.get(member) else { continue };
            for &group in &side.owes {
                let from = self.before.groups.get(group).and_then(|group| group.agreed.as_ref()).map(|agreed| agreed.from);
                let from = from.filter(|from| self.can_be_edited(*from, group));
                editors.extend(from.filter(|from| !gone.contains(from) && self.standing(*from) == Standing::Present));
            }
        }
        editors.extend(self.held_editors().filter(|&member| !self.is_gone(member) && self.standing(member) == Standing::Present));
        editors.sort_unstable();
        editors.dedup();
        editors
    }

    /// Members of which a flowing edit waits for a person.
    fn held_editors(&self) -> impl Iterator<Item = MemberIndex> + '_ {
        let held = |group: usize| self.before.groups.get(group).and_then(|state| state.held.as_ref());
        (0..self.before.groups.len()).filter_map(move |group| Some((group, held(group)?))).flat_map(move |(group, held)| {
            let flows = move |member: MemberIndex| {
                self.rules.group_fields(group).iter().any(|&field| self.rules.flows_from(member, field))
            };
            held.contenders.iter().map(|(member, ..)| *member).filter(move |&member| flows(member))
        })
    }

    fn hold_delete(&mut self, first: MemberIndex, editors: Vec<MemberIndex>) -> Next {
        let who = editors.clone();
        self.hold(
            false,
            Code::DeleteAgainstEdit,
            "one member deleted the record, another edited it".to_owned(),
            Subject::DeleteAgainstEdit { deleted_by: first, edited_by: editors },
        );
        self.hold_changed_groups(&who);
        Next::Done
    }

    /// The record lives: whoever lost it gets it again.
    fn live_on(&mut self) {
        self.link.life = Life::Live;
        self.revived = true;
        for member in self.members() {
            let inward = self.inward(member);
            let gone = self.is_gone(member) || self.standing(member) == Standing::Gone;
            let Some(side) = self.side(member) else { continue };
            side.owes_life = (gone || side.standing == Standing::Marked) && inward;
            if gone {
                side.standing = Standing::Gone;
                side.owes.clear();
            }
        }
    }

    fn follow_delete(&mut self, by: MemberIndex) -> Next {
        match self.rules.deletes.on_delete {
            OnDelete::Propagate | OnDelete::SoftDelete => {
                self.bury(by);
                Next::Done
            }
            OnDelete::Detach => {
                self.link.life = Life::Detached { at: self.now };
                self.link.held = None;
                self.forget_debts();
                self.note(by, Entry::Skipped("on_delete: detach".to_owned()), Vec::new());
                Next::Done
            }
            OnDelete::Ignore => {
                self.leave_alone();
                self.note(by, Entry::Skipped("on_delete: ignore".to_owned()), Vec::new());
                // The record goes on among the others, with what they edited meanwhile.
                Next::Groups
            }
        }
    }

    /// Whoever deleted the record does without it; what becomes of a delete against the flow has been sorted out before.
    fn leave_alone(&mut self) {
        for member in self.members().filter(|&member| self.outward(member)).collect::<Vec<_>>() {
            let deleted = self.is_gone(member) || (self.standing(member) == Standing::Gone && !self.owes_life(member));
            if deleted && let Some(side) = self.side(member) {
                side.standing = Standing::LeftAlone;
                side.owes.clear();
                side.owes_life = false;
            }
        }
    }

    fn bury(&mut self, by: MemberIndex) {
        self.link.life = Life::Deleted { by, at: self.now };
        // Whatever was to be asked about a record that goes is asked no more.
        self.link.held = None;
        let rule = if self.ruled_life().is_some() { Rule::Manual } else { Rule::DeleteWins };
        for member in self.members() {
            let stands = self.standing(member) == Standing::Present && !self.is_gone(member);
            // What was edited before a delete that was under way took the record away.
            let asked_about =
                member != by && self.standing(member) == Standing::Gone && self.held_editors().any(|editor| editor == member);
            if stands || asked_about {
                self.note_lost_edits(member, by, rule);
            }
        }
        self.forget_debts();
        for member in self.members() {
            let inward = self.inward(member);
            let gone = self.is_gone(member);
            let Some(side) = self.side(member) else { continue };
            if gone {
                side.standing = Standing::Gone;
            } else if side.standing == Standing::Present {
                side.owes_life = inward;
            }
        }
    }

    fn forget_debts(&mut self) {
        for group in 0..self.link.groups.len() {
            if let Some(held) = self.link.groups.get_mut(group).and_then(|group| group.held.take()) {
                self.close(held.review, "the record was deleted");
            }
        }
        for member in self.members() {
            let Some(side) = self.side(member) else { continue };
            side.owes.clear();
            side.owes_life = false;
            if let Some(review) = side.blocked.take() {
                self.close(review, "the record was deleted");
            }
        }
    }

    /// The record was deleted, and somebody was seen again: a late confirmation, an edit of a record that we are about to
    /// delete, or a record made anew.
    fn decide_deleted(&mut self, by: MemberIndex) -> Next {
        for member in self.members() {
            if !self.is_gone(member) {
                continue;
            }
            let Some(side) = self.side(member) else { continue };
            side.owes_life = false;
            if matches!(side.standing, Standing::Present | Standing::Marked) {
                side.standing = Standing::Gone;
            }
        }
        let is_back = |standing| matches!(standing, Standing::Gone | Standing::Absent);
        let back: Vec<MemberIndex> =
            self.members().filter(|&member| self.is_shown(member) && is_back(self.standing(member))).collect();
        let doomed_edited: Vec<MemberIndex> = self
            .members()
            .filter(|&member| self.is_shown(member) && self.standing(member) == Standing::Present && self.owes_life(member))
            .filter(|&member| self.any_edit(member))
            .collect();
        if let Some(&first) = back.first() {
            let somebody_left = self.members().any(|member| self.standing(member) == Standing::Present);
            if !somebody_left {
                return Next::Needs(Need::NewLink(first));
            }
            // Made anew while its counterpart still stands: the same record goes on.
            for member in self.members() {
                if let Some(side) = self.side(member) {
                    side.owes_life = false;
                }
            }
            for member in back {
                self.reappear(member);
            }
            self.live_on();
            return Next::Groups;
        }
        if doomed_edited.is_empty() {
            return Next::Done;
        }
        match self.ruled_life().unwrap_or(self.rules.deletes.against_edit) {
            DeleteAgainstEdit::DeleteWins => {
                for &member in &doomed_edited {
                    self.note_lost_edits(member, by, Rule::DeleteWins);
                }
                Next::Done
            }
            DeleteAgainstEdit::UpdateWins => {
                self.live_on();
                Next::Groups
            }
            DeleteAgainstEdit::Manual => {
                // Back to the state of a held delete: alive until a person says otherwise, nobody written meanwhile.
                self.link.life = Life::Live;
                for member in self.members() {
                    if let Some(side) = self.side(member) {
                        side.owes_life = false;
                    }
                }
                self.hold_delete(by, doomed_edited)
            }
        }
    }

    fn decide_detached(&mut self) -> Next {
        let back = self.members().find(|&member| self.is_shown(member) && self.standing(member) == Standing::Gone);
        match back {
            Some(member) => Next::Needs(Need::NewLink(member)),
            None => Next::Done,
        }
    }
}
