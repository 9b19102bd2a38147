//! Records that are marked as deleted rather than removed. Before the mark is taken off one again, its place is looked at:
//! somebody may have made the record anew there meanwhile, and that one is it (invariant 4). What is left with its mark is no
//! match of anything, and keeps no create from its place unless it has the very key that the create would give.

use crate::change::Observation;
use crate::connector::Operation;
use crate::link::{Life, Link, LinkId, MemberIndex, Standing};
use crate::reconcile::{Patch, patch_knowing};
use crate::record::{FieldName, Key, Record};
use crate::references::References;
use crate::rules::SyncRules;
use crate::runtime::core::{Core, SyncState};
use crate::runtime::desk::{Desk, address};
use crate::value::Value;

/// Places that have been looked at are remembered up to so many; what is forgotten is looked at again.
const FREE_MAX: usize = 10_000;

/// Whether a member's record lives on and is still marked as deleted there.
pub(super) fn is_to_be_unmarked(link: &Link, member: MemberIndex) -> bool {
    link.life == Life::Live && link.sides.get(member).is_some_and(|side| side.standing == Standing::Marked)
}

/// Whether a record is marked as deleted.
fn is_marked(rules: &SyncRules, member: MemberIndex, record: &Observation) -> bool {
    let field = rules.members.get(member).and_then(|member| member.soft_delete_field.as_ref());
    let mark = field.and_then(|field| record.image.record()?.get(field.as_str()));
    matches!(mark, Some(Value::Bool(true))) || matches!(mark, Some(Value::Int(mark)) if *mark != 0)
}

/// Whether a record that was found is only what is left of one: marked as deleted, and of no link that lives on with it.
pub(super) fn is_left_over(desk: &Desk, rules: &SyncRules, member: MemberIndex, record: &Observation) -> bool {
    let there = address(rules.id, member, &record.key);
    let link = desk.slot(&there).and_then(|slot| slot.link).and_then(|id| desk.link(id));
    let lives_on = link.is_some_and(|link| {
        let stands = link.sides.get(member).is_some_and(|side| side.key.as_ref() == Some(&record.key));
        link.life == Life::Live && stands
    });
    is_marked(rules, member, record) && !lives_on && !crate::mutants::active("left_over_is_a_match")
}

/// Has a create look out for records of the same match fields that bear no mark of deletion, instead of for all of them. Where
/// the mark can be null, records without one are taken to have none; one that bears an explicit "not deleted", and came since the
/// place was looked at, is met as a double of ours.
fn beside_what_is_left(rules: &SyncRules, member: MemberIndex, image: &mut Record, absent_by: &mut Vec<FieldName>) {
    let Some(of_member) = rules.members.get(member) else { return };
    let Some(mark) = of_member.soft_delete_field.as_ref().filter(|_| !absent_by.is_empty()) else { return absent_by.clear() };
    let field = of_member.schema.field(mark.as_str());
    if field.is_some_and(|field| field.creatable && !field.nullable)
        && let Ok(unmarked) = crate::reconcile::deletion_mark(rules, member, false)
    {
        image.overlay(&unmarked);
    }
    absent_by.push(mark.clone());
}

/// The key that a create would give, where it gives one.
fn key_to_be(rules: &SyncRules, link: &Link, member: MemberIndex, references: &References) -> Option<Key> {
    let Patch::Write(Operation::Create { image, .. }) = patch_knowing(rules, link, member, references) else { return None };
    let columns = &rules.members.get(member)?.schema.key;
    let values: Option<Vec<Value>> = columns.iter().map(|field| image.get(field.as_str()).cloned()).collect();
    values.filter(|values| !values.is_empty()).map(Key)
}

impl Core {
    /// What stands in the way of a create, or in the place of a record whose mark of deletion is to be taken off, without the
    /// record itself and without what is only left of others. Where nothing is left then, the write may go on.
    pub(super) fn in_the_way(
        &mut self,
        desk: &Desk,
        rules: &SyncRules,
        sync: usize,
        (link, member): (&Link, MemberIndex),
        mut found: Vec<Observation>,
    ) -> Vec<Observation> {
        let before = found.len();
        let unmarks = is_to_be_unmarked(link, member);
        let itself = link.sides.get(member).and_then(|side| side.key.clone()).filter(|_| unmarks);
        let wanted = key_to_be(rules, link, member, &self.references(desk, rules, link, &[]));
        found.retain(|other| {
            let of_the_key = wanted.as_ref() == Some(&other.key);
            Some(&other.key) != itself.as_ref() && (of_the_key || !is_left_over(desk, rules, member, other))
        });
        if found.is_empty() && (unmarks || before > 0) {
            self.place_is_free(sync, link.id, member);
        }
        found
    }

    /// Whether a mark of deletion is to be taken off whose place has yet to be looked at.
    pub(crate) fn looks_before_unmarking(&self, rules: &SyncRules, sync: usize, link: &Link, member: MemberIndex) -> bool {
        let looked_at = |state: &SyncState| state.unidentified.free.contains(&(member, link.id));
        is_to_be_unmarked(link, member)
            && super::link_match_value(rules, link).is_some()
            && !self.syncs.get(sync).is_some_and(looked_at)
            && !crate::mutants::active("unmarked_unseen")
    }

    /// A write goes to a place that was looked at: what is only left of others does not keep a create from it.
    pub(crate) fn take_place(
        &mut self,
        rules: &SyncRules,
        sync: usize,
        link: LinkId,
        member: MemberIndex,
        operation: &mut Operation,
    ) {
        let free = |state: &mut SyncState| state.unidentified.free.remove(&(member, link));
        let free = self.syncs.get_mut(sync).is_some_and(free);
        if let Operation::Create { image, absent_by } = operation
            && free
        {
            beside_what_is_left(rules, member, image, absent_by);
        }
    }

    fn place_is_free(&mut self, sync: usize, link: LinkId, member: MemberIndex) {
        let Some(free) = self.syncs.get_mut(sync).map(|state| &mut state.unidentified.free) else { return };
        if free.len() >= FREE_MAX {
            free.clear();
        }
        free.insert((member, link));
    }
}
