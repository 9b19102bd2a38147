//! Two links of one record: a record that was deleted here and made anew there, while the same happened the other way round, is
//! known as two halves, each of which is to be made where the other one stands. Neither can be, for the match value is taken.
//! They are one record (invariant 4).

use super::values::link_match_value;
use crate::link::{Life, Link, LinkId, MemberIndex, Side, Standing};
use crate::rules::SyncRules;
use crate::runtime::core::Core;
use crate::runtime::desk::{Desk, address};

impl Core {
    /// Whether the record that stands in the way of a create belongs to the other half of the same record: no member has both,
    /// and each half is to be made at every member that has the other.
    pub(super) fn is_other_half(&self, desk: &Desk, link: &Link, other: LinkId) -> bool {
        let Some((other, rules)) = desk.link(other).zip(self.sync_of(link.sync).and_then(|sync| self.rules(sync))) else {
            return false;
        };
        // The same key alone does not make two records one.
        let value = link_match_value(&rules, link);
        let is_same = value.is_some() && value == link_match_value(&rules, other);
        let in_doubt =
            [link.id, other.id].iter().any(|id| self.sent.any_of(link.sync, *id) || self.unproven.any_of(link.sync, *id));
        let marked = link.sides.iter().chain(&other.sides).any(|side| side.standing == Standing::Marked);
        let is_free =
            |link: &Link| link.life == Life::Live && link.held.is_none() && !link.in_flight() && !self.reading.contains(&link.id);
        let has = |side: &Side| side.standing == Standing::Present;
        let wants = |side: &Side| side.owes_life && !has(side);
        let fits = link.sides.iter().zip(&other.sides).all(|(a, b)| match (has(a), has(b)) {
            (true, true) => false,
            (true, false) => wants(b),
            (false, true) => wants(a),
            (false, false) => true,
        });
        // Other syncs refer to records by their links: what names the one must not come to name nothing.
        let refers = |rules: &SyncRules| rules.references().any(|(_, reference)| reference.sync == link.sync);
        let is_referred_to = self.syncs.iter().any(|state| refers(&state.rules));
        let is_clear = is_free(link) && is_free(other) && !in_doubt && !marked && !is_referred_to;
        is_same && is_clear && fits && !crate::mutants::active("halves_stay_apart")
    }

    /// Makes one link of both: the records of `other` come to `link` as if they had just been found, to be read before anything is
    /// decided. What they show contends as at first sight, and what loses is in the ledger.
    pub(super) fn take_other_half(&mut self, desk: &mut Desk, sync: usize, rules: &SyncRules, link: &mut Link, other: LinkId) {
        let Some(mut other) = desk.link(other).cloned() else { return };
        if link.sides.iter().all(|side| side.standing != Standing::Present) {
            self.note_given_up(link);
        }
        let (now, mut by) = (self.now(), MemberIndex::default());
        for member in 0..other.sides.len() {
            self.strike_debt(&mut other, member);
            let Some(side) = other.sides.get_mut(member) else { continue };
            if let Some(review) = side.blocked.take() {
                self.close_review(sync, review, "it was one record with another one".to_owned());
            }
            side.owes.clear();
            side.owes_life = false;
            if side.standing != Standing::Present {
                continue;
            }
            side.standing = Standing::Gone;
            let Some(key) = side.key.take() else { continue };
            by = member;
            self.strike_debt(link, member);
            if let Some(side) = link.sides.get_mut(member) {
                let review = side.blocked.take();
                *side = Side { key: Some(key.clone()), ..Side::absent(rules.fields.len()) };
                if let Some(review) = review {
                    self.close_review(sync, review, "the record was found".to_owned());
                }
            }
            desk.set_link(&address(rules.id, member, &key), Some(link.id), &mut self.transaction);
            self.note_linked(rules, link.id, member, &key);
            self.want_read_instead(sync, member, link.id);
        }
        for group in &mut other.groups {
            if let Some(held) = group.held.take() {
                self.close_review(sync, held.review, "it was one record with another one".to_owned());
            }
        }
        other.life = Life::Deleted { by, at: now };
        self.look_at_those_behind(sync, other.id);
        desk.save(other);
    }
}
