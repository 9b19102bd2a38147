//! What a write that happened means for its link: the base takes the planned image, and what the system returned beyond
//! that is an edit by that system (a trigger or workflow at work).

use super::patch::deletion_mark;
use crate::change::{EditTime, Version};
use crate::clock::Moment;
use crate::connector::Operation;
use crate::ledger::{Entry, FieldEntry, LedgerRow, Rule};
use crate::link::{
    Agreed, Cells, FieldIndex, GroupIndex, Life, Link, MemberIndex, NO_LONGER_SHOWN, Pending, Shown, Side, Standing,
};
use crate::map::cell;
use crate::record::{Key, Record};
use crate::rules::{OnDelete, SyncRules};
use crate::value::Value;

/// A write that happened.
#[derive(Clone, Debug)]
pub struct Written<'a> {
    /// What was written.
    pub operation: &'a Operation,
    /// The record's key now.
    pub key: Key,
    /// What the system returned, if it did.
    pub image: Option<Record>,
    /// Since when the record has shown what it returned, field by field, where a read tells; else it is taken for the write's
    /// own doing, now.
    pub times: Vec<Option<EditTime>>,
    /// The version of the write.
    pub version: Version,
    /// How many causal hops the write was deep.
    pub hops: u32,
    /// The link's decision number when the write was planned.
    pub planned: u64,
}

/// Closes a write: the link as it stands after it, what the ledger says, and what the system made of it beyond what we
/// wrote, as an observation newer than the write.
pub fn settle(
    rules: &SyncRules,
    link: &Link,
    member: MemberIndex,
    written: &Written<'_>,
    now: Moment,
) -> (Link, LedgerRow, Option<Pending>) {
    let mut after = link.clone();
    let row = ledger_row(rules, link, member, written, now);
    let Some(side) = after.sides.get_mut(member) else { return (after, row, None) };
    side.version = written.version.clone();
    side.flight = None;
    side.attempts = 0;
    side.misses = 0;
    side.owes_life = false;
    side.owes = left_out(rules, link, member, written.operation);
    // A key change that the feed has already told of is newer than the key under which we wrote.
    let key_written = !matches!(written.operation, Operation::Delete { .. }) && names_key(rules, member, written.operation);
    if side.key.is_none() || key_written {
        side.key = Some(written.key.clone());
    }
    let (set, created) = match written.operation {
        Operation::Delete { .. } => {
            side.standing = Standing::Gone;
            if link.decision > written.planned {
                owe_what_was_decided_since(rules, link, &mut after, member, written);
            }
            return (after, row, None);
        }
        Operation::Update { set, .. } => (set, false),
        Operation::Create { image, .. } => (image, true),
    };
    if created {
        side.standing = Standing::Present;
        side.base = vec![None; rules.fields.len()];
    } else if marks_as_deleted(rules, member, set) {
        side.standing = Standing::Marked;
        if link.decision > written.planned {
            owe_what_was_decided_since(rules, link, &mut after, member, written);
        }
        return (after, row, None);
    } else if side.standing == Standing::Marked {
        // The record lives on, and the mark is off.
        side.standing = Standing::Present;
    }
    let differing = take_planned_image(rules, member, &mut side.base, set, written.image.as_ref());
    let returned = differing.then(|| returned_pending(rules, link, member, written, now)).flatten();
    if link.decision > written.planned {
        owe_what_was_decided_since(rules, link, &mut after, member, written);
    }
    (after, row, returned)
}

/// The groups of which a write left out a reference, for the record that it names was not there yet. Whether it is there by
/// now, or was what the member showed already, tells the next look.
fn left_out(rules: &SyncRules, link: &Link, member: MemberIndex, operation: &Operation) -> Vec<GroupIndex> {
    let (set, created) = match operation {
        Operation::Create { image, .. } => (image, true),
        Operation::Update { set, .. } => (set, false),
        Operation::Delete { .. } => return Vec::new(),
    };
    let owes = |group: GroupIndex| created || link.sides.get(member).is_some_and(|side| side.owes.contains(&group));
    let is_left_out = |field: FieldIndex, group: GroupIndex| {
        let named = rules.agreed(link, field).is_some_and(|value| !value.is_null());
        let at = rules.at(member, field).filter(|at| at.inward && at.updatable);
        named && owes(group) && at.is_some_and(|at| set.get(at.name.as_str()).is_none_or(Value::is_null))
    };
    let groups = rules.references().filter_map(|(field, _)| Some((field, rules.fields.get(field)?.group)));
    let mut left: Vec<GroupIndex> = groups.filter(|(field, group)| is_left_out(*field, *group)).map(|(_, group)| group).collect();
    left.sort_unstable();
    left.dedup();
    left
}

/// What was decided since a write was planned is owed again where the write did not know of it.
fn owe_what_was_decided_since(rules: &SyncRules, before: &Link, after: &mut Link, member: MemberIndex, written: &Written<'_>) {
    let inward = rules.members.get(member).is_some_and(|member| member.inward);
    let (Some(owed), Some(side)) = (before.sides.get(member), after.sides.get_mut(member)) else { return };
    side.owes_life = match (&before.life, side.standing) {
        (Life::Live, Standing::Gone | Standing::Marked) => inward && before.held.is_none(),
        (Life::Live, _) => false,
        (Life::Deleted { .. } | Life::Detached { .. }, _) => {
            owed.owes_life && !matches!(written.operation, Operation::Delete { .. })
        }
    };
    let set = match written.operation {
        Operation::Update { set, .. } | Operation::Create { image: set, .. } => set,
        Operation::Delete { .. } => return,
    };
    for (group, state) in after.groups.iter_mut().enumerate() {
        let Some(agreed) = state.agreed.as_mut().filter(|agreed| !agreed.rule.is_left()) else { continue };
        let since = agreed.decision > written.planned;
        let fields = || rules.group_fields(group).iter().filter_map(|&field| rules.at(member, field));
        let carried = fields().all(|at| !at.inward || !at.updatable || set.has(at.name.as_str()));
        let touched = fields().any(|at| set.has(at.name.as_str()));
        let owes = owed.owes.contains(&group);
        // A debt of which the write did not carry everything can have come up since, though the value is an old one (an edit
        // against the flow). What the member shows already is not written again.
        let due = if touched { since || (owes && !carried) } else { owes };
        if due {
            if !side.owes.contains(&group) {
                side.owes.push(group);
                side.owes.sort_unstable();
            }
            if since && touched && agreed.from == member {
                // It does not show what it is the source of.
                agreed.from = NO_LONGER_SHOWN;
            }
        }
    }
}

/// What is pending from before a write that went over it unseen, and could not be decided first: the record shows what was
/// written, and the rest of what was pending. Says in the ledger what is gone.
pub fn cover_pending(
    rules: &SyncRules,
    link: &Link,
    mut pending: Pending,
    written: &Written<'_>,
    now: Moment,
) -> (Option<Pending>, Option<LedgerRow>) {
    let member = pending.member;
    let set = match written.operation {
        // A mark of deletion takes everything with it.
        Operation::Update { set, .. } => Some(set).filter(|set| !takes_everything(rules, member, set)),
        Operation::Create { .. } | Operation::Delete { .. } => None,
    };
    let mut lost = Vec::new();
    if let Shown::Present { cells, .. } = &mut pending.shown {
        for (field, cell) in cells.iter_mut().enumerate() {
            let (Some(at), Some(shown)) = (rules.at(member, field), cell.as_ref()) else { continue };
            let base = link.sides.get(member).and_then(|side| self::cell(&side.base, field));
            let new = set.and_then(|set| set.get(at.name.as_str()));
            let edited = !base.is_some_and(|base| base.equivalent_as(shown, &at.ty)) && rules.flows_from(member, field);
            let stands = set.is_some() && new.is_none_or(|new| new.equivalent_as(shown, &at.ty));
            if edited && !stands {
                let agreed = agreed_of(rules, link, field);
                lost.push(FieldEntry {
                    field: rules.fields.get(field).map(|field| field.name.clone()).unwrap_or_default(),
                    old: Some(shown.clone()),
                    new: new.cloned(),
                    from: agreed.map_or(member, |agreed| agreed.from),
                    edited: agreed.map_or(now, |agreed| agreed.time.at),
                    rule: agreed.map_or(Rule::OnlyChange, |agreed| agreed.rule),
                });
            }
            // What the system returned is no older than what was pending.
            let returned = written.image.as_ref().and_then(|image| image.get(at.name.as_str()));
            if let Some(newer) = returned.or(new) {
                *cell = Some(newer.clone());
            }
        }
    }
    let row = (!lost.is_empty()).then(|| LedgerRow {
        at: now,
        sync: link.sync,
        link: Some(link.id),
        member,
        key: written.key.to_string(),
        entry: Entry::Lost,
        fields: lost,
    });
    pending.version = written.version.clone();
    (set.is_some().then_some(pending), row)
}

/// Whether a write is a mark of deletion, which takes with it what it did not know of.
pub(crate) fn takes_everything(rules: &SyncRules, member: MemberIndex, set: &Record) -> bool {
    marks_as_deleted(rules, member, set) && !crate::mutants::active("mark_hides_edit")
}

/// Whether a write says that the record is deleted (`on_delete: soft_delete`).
fn marks_as_deleted(rules: &SyncRules, member: MemberIndex, set: &Record) -> bool {
    let is_set = |mark: &Record| mark.iter().all(|(field, value)| set.get(field.as_str()) == Some(value));
    rules.deletes.on_delete == OnDelete::SoftDelete && deletion_mark(rules, member, true).is_ok_and(|mark| is_set(&mark))
}

/// Base := what we wrote and what we believed, in the system's own form where that is equivalent. Says whether the system
/// returned something else anywhere.
fn take_planned_image(rules: &SyncRules, member: MemberIndex, base: &mut Cells, set: &Record, image: Option<&Record>) -> bool {
    let mut differing = false;
    base.resize(rules.fields.len(), None);
    for (field, cell) in base.iter_mut().enumerate() {
        let Some(at) = rules.at(member, field) else { continue };
        if let Some(written) = set.get(at.name.as_str()) {
            *cell = Some(written.clone());
        }
        let Some(returned) = image.and_then(|image| image.get(at.name.as_str())) else { continue };
        match cell {
            Some(believed) if believed.equivalent_as(returned, &at.ty) => *cell = Some(returned.clone()),
            _ if crate::mutants::active("returned_value_trusted") => *cell = Some(returned.clone()),
            _ => differing = true,
        }
    }
    differing
}

fn returned_pending(rules: &SyncRules, link: &Link, member: MemberIndex, written: &Written<'_>, now: Moment) -> Option<Pending> {
    let image = written.image.as_ref()?;
    let cells: Cells = (0..rules.fields.len()).map(|field| image.get(rules.at(member, field)?.name.as_str()).cloned()).collect();
    let own_doing = EditTime { at: now, granularity_micros: 1, estimated: false };
    let since = |field: usize| written.times.get(field).copied().flatten().unwrap_or(own_doing);
    let times = cells.iter().enumerate().map(|(field, cell)| cell.as_ref().map(|_| since(field))).collect();
    Some(Pending {
        sync: link.sync,
        member,
        key: written.key.clone(),
        old_key: None,
        shown: Shown::Present { cells, times, full: true, anew: false },
        version: written.version.clone(),
        hops: written.hops.saturating_add(1),
        echo: false,
        arrived: now,
        layout: link.layout,
    })
}

/// Whether an operation decides the record's key: every create does, and an update that sets a field of the key.
fn names_key(rules: &SyncRules, member: MemberIndex, operation: &Operation) -> bool {
    match operation {
        Operation::Create { .. } => true,
        Operation::Update { set, .. } => {
            rules.members.get(member).is_some_and(|member| member.schema.key.iter().any(|field| set.has(field.as_str())))
        }
        Operation::Delete { .. } => false,
    }
}

fn ledger_row(rules: &SyncRules, link: &Link, member: MemberIndex, written: &Written<'_>, now: Moment) -> LedgerRow {
    let (entry, set) = match written.operation {
        Operation::Create { image, .. } => (Entry::Created, Some(image)),
        Operation::Update { set, .. } => (Entry::Updated, Some(set)),
        Operation::Delete { .. } => (Entry::Deleted, None),
    };
    let base = link.sides.get(member).map(|side| &side.base);
    let fields = (0..rules.fields.len())
        .filter_map(|field| {
            let at = rules.at(member, field)?;
            let old = base.and_then(|base| cell(base, field)).cloned();
            let name = rules.fields.get(field)?.name.clone();
            let Some(set) = set else {
                // What went with the record: it can be read here what it was.
                let (by, at) = deleted_by(link, member, now);
                return Some(FieldEntry {
                    field: name,
                    old: Some(old?),
                    new: None,
                    from: by,
                    edited: at,
                    rule: Rule::DeleteWins,
                });
            };
            let new = set.get(at.name.as_str())?;
            let agreed = agreed_of(rules, link, field);
            Some(FieldEntry {
                field: name,
                old,
                new: Some(new.clone()),
                from: agreed.map_or(member, |agreed| agreed.from),
                edited: agreed.map_or(now, |agreed| agreed.time.at),
                rule: agreed.map_or(Rule::OnlyChange, |agreed| agreed.rule),
            })
        })
        .collect();
    LedgerRow { at: now, sync: link.sync, link: Some(link.id), member, key: written.key.to_string(), entry, fields }
}

/// Who deleted a record of which `member` has been rid now, and when. A delete that went over an edit unseen may have turned
/// into a question by then.
fn deleted_by(link: &Link, member: MemberIndex, now: Moment) -> (MemberIndex, Moment) {
    if let Life::Deleted { by, at } = link.life {
        return (by, at);
    }
    let is_gone = |(other, side): &(MemberIndex, &Side)| *other != member && side.standing == Standing::Gone;
    (link.sides.iter().enumerate().find(is_gone).map_or(member, |(other, _)| other), now)
}

fn agreed_of<'a>(rules: &SyncRules, link: &'a Link, field: FieldIndex) -> Option<&'a Agreed> {
    let group = rules.fields.get(field)?.group;
    link.groups.get(group)?.agreed.as_ref()
}
