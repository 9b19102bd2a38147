//! The smallest write that brings one member to the agreed record, with the guard that it believes in.

use crate::connector::Operation;
use crate::error::{Code, Error};
use crate::ledger::Rule;
use crate::link::{Agreed, Cells, FieldIndex, Group, Life, Link, MemberIndex, Side, Standing};
use crate::map::{canonical_record, cell, wanted_at};
use crate::record::Record;
use crate::references::{self, Reference, References, is_given, referred};
use crate::rules::{OnDelete, SyncRules};
use crate::schema::Type;
use crate::value::Value;

/// What a member is to be sent.
#[derive(Clone, Debug)]
pub enum Patch {
    /// Nothing: what was owed turned out to be shown already.
    Nothing,
    /// Nothing until a person has spoken about the link or one of its groups.
    Waits,
    /// Nothing until a record that it refers to is where it is to be written.
    Awaits,
    /// This.
    Write(Operation),
    /// It cannot be written as it is: for review.
    Rejected(Error),
}

/// As [`patch_knowing`], of a link that refers to nothing.
pub fn patch(rules: &SyncRules, link: &Link, member: MemberIndex) -> Patch {
    patch_knowing(rules, link, member, &references::NONE)
}

/// Derives the write that a member is owed, from what is known of the records that the link refers to.
pub fn patch_knowing(rules: &SyncRules, link: &Link, member: MemberIndex, references: &References) -> Patch {
    let Some(side) = link.sides.get(member) else { return Patch::Nothing };
    if link.held.is_some() {
        return Patch::Waits;
    }
    match (&link.life, side.standing) {
        (Life::Deleted { .. }, Standing::Present) if side.owes_life => delete(rules, side, member),
        (Life::Live, Standing::Absent | Standing::Gone) if side.owes_life => create(rules, link, side, member, references),
        (Life::Live, Standing::Present) if !side.owes.is_empty() => update(rules, link, side, member, references, Record::new()),
        (Life::Live, Standing::Marked) if side.owes_life => match deletion_mark(rules, member, false) {
            Ok(unmarked) => update(rules, link, side, member, references, unmarked),
            Err(error) => Patch::Rejected(error),
        },
        _ => Patch::Nothing,
    }
}

/// Every agreed value, in the order of the canonical fields.
fn agreed_cells(rules: &SyncRules, link: &Link) -> Cells {
    let mut cells = vec![None; rules.fields.len()];
    for (group, state) in link.groups.iter().enumerate() {
        let Some(agreed) = &state.agreed else { continue };
        for (&field, value) in rules.group_fields(group).iter().zip(&agreed.values) {
            if let Some(cell) = cells.get_mut(field) {
                *cell = Some(value.clone());
            }
        }
    }
    cells
}

/// What the member is believed to show, over all mapped fields: a narrower guard would let an unseen edit slip into the
/// base.
fn guard(rules: &SyncRules, side: &Side, member: MemberIndex) -> Record {
    rules
        .fields
        .iter()
        .enumerate()
        .filter_map(|(field, rules)| {
            let at = rules.members.get(member)?.as_ref()?;
            Some((at.name.clone(), cell(&side.base, field)?.clone()))
        })
        .collect()
}

/// What is owed of the groups, besides what is to be set in any case. A reference to a record that is not there yet is left
/// out, and stays owed; so is one that leads nowhere, and nothing is said of it while there is something else to be written.
fn update(rules: &SyncRules, link: &Link, side: &Side, member: MemberIndex, references: &References, mut set: Record) -> Patch {
    let Some(key) = side.key.clone() else { return Patch::Nothing };
    let agreed = agreed_cells(rules, link);
    let mut waits = false;
    let mut nowhere = None;
    for &group in &side.owes {
        let Some(state) = link.groups.get(group) else { continue };
        let (Some(decided), None) = (&state.agreed, &state.held) else { continue };
        if decided.rule == Rule::LeftRefused {
            continue;
        }
        for &field in rules.group_fields(group) {
            let (Some(at), Some(value)) = (rules.at(member, field), cell(&agreed, field)) else { continue };
            // The member that a value came from keeps its own form of it unless the mapping brings it back.
            let own = decided.from == member && !at.write_back && rules.flows_from(member, field);
            if !at.inward || !at.updatable || own {
                continue;
            }
            let means = |reference: &Reference| {
                cell(&side.base, field).is_some_and(|base| references.means(reference, member, base, value))
            };
            if rules.fields.get(field).and_then(|field| field.reference.as_ref()).is_some_and(means) {
                continue;
            }
            match wanted_at(rules, references, member, field, value, || canonical_record(rules, &agreed)) {
                Ok(Some(want)) => {
                    let shown = cell(&side.base, field).is_some_and(|base| want.equivalent_as(base, &at.ty));
                    if !shown {
                        set.set(at.name.clone(), want);
                    }
                }
                Ok(None) => {}
                Err(error) if error.code == Code::ReferenceWaits => waits = true,
                Err(error) => {
                    let leads_nowhere = matches!(error.code, Code::ReferenceNotKept | Code::ReferenceKnot);
                    let error = error.at(rules.fields.get(field).map(|field| field.name.clone()).unwrap_or_default());
                    if !leads_nowhere {
                        return Patch::Rejected(error);
                    }
                    nowhere.get_or_insert(error);
                }
            }
        }
    }
    if set.is_empty() {
        return match nowhere {
            Some(error) => Patch::Rejected(error),
            None if waits => Patch::Awaits,
            None => Patch::Nothing,
        };
    }
    Patch::Write(Operation::Update { key, set, guard: guard(rules, side, member) })
}

fn create(rules: &SyncRules, link: &Link, side: &Side, member: MemberIndex, references: &References) -> Patch {
    // A conflict over some fields keeps a record from nobody; a record that was rejected is made nowhere, also when a person
    // has left it at that.
    let left = |agreed: &Agreed| agreed.rule == Rule::LeftRefused;
    let refused = |group: &Group| group.held.as_ref().is_some_and(|held| held.rejects) || group.agreed.as_ref().is_some_and(left);
    if link.groups.iter().any(refused) {
        return Patch::Waits;
    }
    let agreed = agreed_cells(rules, link);
    if agreed.iter().all(Option::is_none) {
        // Nobody has said anything about it yet: a record of nothing is no record.
        return Patch::Waits;
    }
    let mut image = Record::new();
    let mut waits = false;
    for (field, value) in agreed.iter().enumerate() {
        let (Some(at), Some(value)) = (rules.at(member, field), value) else { continue };
        // A record that is made anew gets the member's own fields back as well as those that flow to it.
        if !at.creatable || !is_given(at, side) {
            continue;
        }
        match wanted_at(rules, references, member, field, value, || canonical_record(rules, &agreed)) {
            Ok(Some(want)) => {
                image.set(at.name.clone(), want);
            }
            Ok(None) => {}
            // Whoever can do without goes first, and is given the reference when there is something to refer to.
            Err(error) if error.code == Code::ReferenceWaits && goes_first(rules, references, member, field, value) => {
                image.set(at.name.clone(), Value::Null);
            }
            Err(error) if error.code == Code::ReferenceWaits => waits = true,
            Err(error) => {
                return Patch::Rejected(error.at(rules.fields.get(field).map(|field| field.name.clone()).unwrap_or_default()));
            }
        }
    }
    if waits {
        return Patch::Awaits;
    }
    give_old_key(rules, side, member, &mut image);
    if lacks_key(rules, link, member, &image) {
        return Patch::Waits;
    }
    let absent_by = rules
        .match_on
        .iter()
        .filter_map(|rule| Some(rules.at(member, rule.field)?.name.clone()))
        .filter(|name| image.get(name.as_str()).is_some_and(|value| !matches!(value, Value::Null)))
        .collect();
    Patch::Write(Operation::Create { image, absent_by })
}

/// Whether a record may be made without a reference: the record that it refers to waits for it, and the field can be empty at
/// first.
fn goes_first(rules: &SyncRules, references: &References, member: MemberIndex, field: FieldIndex, value: &Value) -> bool {
    referred(value).is_some_and(|record| references.is_in_circle(member, record)) && can_do_without(rules, member, field)
}

/// Whether a member lets a field be empty when a record is made, and be filled afterwards.
pub(crate) fn can_do_without(rules: &SyncRules, member: MemberIndex, field: FieldIndex) -> bool {
    let Some(at) = rules.at(member, field).filter(|at| at.inward && at.updatable) else { return false };
    let schema = rules.members.get(member).map(|member| &member.schema);
    schema.and_then(|schema| schema.field(at.name.as_str())).is_some_and(|field| field.nullable)
}

/// A record that is made anew gets the key that it had, where a create may give one.
fn give_old_key(rules: &SyncRules, side: &Side, member: MemberIndex, image: &mut Record) {
    let (Some(key), Some(rules)) = (&side.key, rules.members.get(member)) else { return };
    for (name, value) in rules.schema.key.iter().zip(&key.0) {
        let creatable = rules.schema.field(name.as_str()).is_some_and(|field| field.creatable);
        if creatable && !image.has(name.as_str()) {
            image.set(name.clone(), value.clone());
        }
    }
}

/// Whether a person is being asked about the very key that a create would have to give.
fn lacks_key(rules: &SyncRules, link: &Link, member: MemberIndex, image: &Record) -> bool {
    let Some(schema) = rules.members.get(member).map(|member| &member.schema) else { return false };
    let in_question = link.groups.iter().enumerate().filter(|(_, state)| state.held.is_some());
    let mut fields = in_question.flat_map(|(group, _)| rules.group_fields(group)).filter_map(|&field| rules.at(member, field));
    fields.any(|at| at.creatable && schema.key.contains(&at.name) && !image.has(at.name.as_str()))
}

fn delete(rules: &SyncRules, side: &Side, member: MemberIndex) -> Patch {
    let Some(key) = side.key.clone() else { return Patch::Nothing };
    let guard = guard(rules, side, member);
    if rules.deletes.on_delete != OnDelete::SoftDelete {
        return Patch::Write(Operation::Delete { key, guard });
    }
    match deletion_mark(rules, member, true) {
        Ok(set) => Patch::Write(Operation::Update { key, set, guard }),
        Err(error) => Patch::Rejected(error),
    }
}

/// The field by which a member's record is marked as deleted, as it is for one that is or is not.
pub(crate) fn deletion_mark(rules: &SyncRules, member: MemberIndex, deleted: bool) -> Result<Record, Error> {
    let rules = rules.members.get(member);
    let object = rules.map(|rules| rules.object.to_string()).unwrap_or_default();
    let field = rules.and_then(|rules| rules.soft_delete_field.as_ref());
    let field = field.ok_or_else(|| Error::new(Code::SoftDeleteFieldMissing, format!("{object} has no soft-delete field")))?;
    let mark = match rules.and_then(|rules| rules.schema.field(field.as_str())).map(|field| &field.ty) {
        Some(Type::Int { .. }) => Value::Int(i64::from(deleted)),
        _ => Value::Bool(deleted),
    };
    Ok([(field.clone(), mark)].into_iter().collect())
}
