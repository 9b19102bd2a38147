//! Numbers for layouts: links keep their values in the order of the canonical fields and their decisions in the order of
//! the field groups, and a mapping may gain and lose both. A layout keeps its number for the life of the store, and what
//! was kept in an old one is brought into the present one when it is next looked at. What the old one did not know is
//! unknown, never null: it is read, and decided as in a first run. What was decided under a mapping that has changed since
//! is marked so, and decided again before it counts.

use crate::error::{Code, Error, Result};
use crate::ledger::Rule;
use crate::link::{Agreed, Cells, Group, Link, Pending, Shown, SyncId};
use crate::rules::SyncRules;
use crate::store::{Store, Transaction};
use serde::{Deserialize, Serialize};

/// The canonical fields and the field groups of a sync, by name and in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// The fields.
    pub fields: Vec<String>,
    /// The fields of each group.
    pub groups: Vec<Vec<String>>,
    /// What each member calls each field; `None` where it does not have it.
    pub members: Vec<Vec<Option<String>>>,
    /// What each member's mapping of each field does to a value; empty lists in layouts that were kept without.
    #[serde(default)]
    pub mappings: Vec<Vec<String>>,
}

impl Layout {
    /// The layout of a sync.
    pub fn of(rules: &SyncRules) -> Layout {
        let name = |field: &usize| rules.fields.get(*field).map(|field| field.name.clone());
        Layout {
            fields: rules.fields.iter().map(|field| field.name.clone()).collect(),
            groups: rules.groups.iter().map(|group| group.fields.iter().filter_map(name).collect()).collect(),
            members: (0..rules.members.len())
                .map(|member| (0..rules.fields.len()).map(|field| Some(rules.at(member, field)?.name.to_string())).collect())
                .collect(),
            mappings: (0..rules.members.len())
                .map(|member| {
                    let mapping = |field| {
                        let meaning = rules.at(member, field).map(|at| at.mapping.meaning()).unwrap_or_default();
                        match rules.fields.get(field).and_then(|field| field.reference.as_ref()) {
                            Some(reference) => format!("{meaning}reference to {}", reference.name),
                            None => meaning,
                        }
                    };
                    (0..rules.fields.len()).map(mapping).collect()
                })
                .collect(),
        }
    }

    /// Whether a member shows a field that `old` does not know of it.
    pub fn gains(&self, old: &Layout) -> bool {
        (0..self.members.len()).any(|member| {
            (0..self.fields.len()).any(|field| {
                let shown = self.members.get(member).and_then(|names| names.get(field)).is_some_and(Option::is_some);
                shown && self.old_place(old, member, field).is_none()
            })
        })
    }

    /// Whether a value of a field that both know goes another way than in `old`.
    pub fn remaps(&self, old: &Layout) -> bool {
        self.fields.iter().any(|field| self.remaps_field(old, field))
    }

    /// The fields whose values go another way than in `old`.
    pub fn remapped_fields(&self, old: &Layout) -> Vec<String> {
        self.fields.iter().filter(|field| self.remaps_field(old, field)).cloned().collect()
    }

    /// Whether a field goes another way than in `old`, at any of the members that have it in both.
    fn remaps_field(&self, old: &Layout, name: &str) -> bool {
        let Some(field) = self.place(name) else { return false };
        (0..self.members.len()).any(|member| {
            let Some(place) = self.old_place(old, member, field) else { return false };
            let now = self.mappings.get(member).and_then(|mappings| mappings.get(field));
            let then = old.mappings.get(member).and_then(|mappings| mappings.get(place));
            then.is_some() && now != then
        })
    }

    fn place(&self, field: &str) -> Option<usize> {
        self.fields.iter().position(|name| name == field)
    }

    /// The place in `old` of a field as a member has it now; `None` where the member had it under another name or not at all.
    fn old_place(&self, old: &Layout, member: usize, field: usize) -> Option<usize> {
        let place = old.place(self.fields.get(field)?)?;
        let now = self.members.get(member)?.get(field)?;
        let then = old.members.get(member)?.get(place)?;
        (now == then).then_some(place)
    }

    /// Cells of a member that stood in `old`, in this layout.
    fn cells(&self, old: &Layout, member: usize, cells: &Cells) -> Cells {
        (0..self.fields.len()).map(|field| cells.get(self.old_place(old, member, field)?).cloned().flatten()).collect()
    }

    /// Brings a link from `old` into this layout, which has the number `number`.
    pub fn adopt(&self, old: &Layout, link: &Link, number: u32) -> Link {
        let mut adopted = link.clone();
        adopted.layout = number;
        adopted.groups = self.groups.iter().map(|fields| self.adopt_group(old, fields, link)).collect();
        for (member, side) in adopted.sides.iter_mut().enumerate() {
            side.base = self.cells(old, member, &side.base);
            let owed: Vec<&String> = side.owes.iter().filter_map(|group| old.groups.get(*group)).flatten().collect();
            side.owes = self
                .groups
                .iter()
                .enumerate()
                .filter(|(_, fields)| fields.iter().any(|field| owed.contains(&field)))
                .map(|(group, _)| group)
                .collect();
        }
        adopted
    }

    /// A group as it was; one whose fields were decided apart before is undecided, unless all of them were.
    fn adopt_group(&self, old: &Layout, fields: &[String], link: &Link) -> Group {
        let mut group = self.regroup(old, fields, link);
        if fields.iter().any(|field| self.remaps_field(old, field))
            // What a person left to differ is left so until somebody changes it.
            && let Some(agreed) = group.agreed.as_mut().filter(|agreed| !agreed.rule.is_left())
        {
            agreed.rule = Rule::OldMapping;
        }
        group
    }

    fn regroup(&self, old: &Layout, fields: &[String], link: &Link) -> Group {
        if let Some(same) = old.groups.iter().position(|group| group == fields) {
            return link.groups.get(same).cloned().unwrap_or_default();
        }
        let parts: Option<Vec<(&Agreed, crate::value::Value)>> = fields
            .iter()
            .map(|field| {
                let (group, place) = old
                    .groups
                    .iter()
                    .enumerate()
                    .find_map(|(group, fields)| Some((group, fields.iter().position(|other| other == field)?)))?;
                let agreed = link.groups.get(group)?.agreed.as_ref()?;
                Some((agreed, agreed.values.get(place)?.clone()))
            })
            .collect();
        let agreed = parts.and_then(|parts| {
            let latest = parts.iter().map(|(agreed, _)| *agreed).max_by_key(|agreed| agreed.decision)?;
            Some(Agreed { values: parts.iter().map(|(_, value)| value.clone()).collect(), ..latest.clone() })
        });
        Group { agreed, ..Group::default() }
    }

    /// Brings a pending observation from `old` into this layout. One that was full is partial where a field is new.
    pub fn adopt_pending(&self, old: &Layout, pending: &Pending, number: u32) -> Pending {
        let mut adopted = pending.clone();
        adopted.layout = number;
        if let Shown::Present { cells, times, full, .. } = &mut adopted.shown {
            let member = pending.member;
            let old_times = std::mem::take(times);
            *times = (0..self.fields.len())
                .map(|field| old_times.get(self.old_place(old, member, field)?).copied().flatten())
                .collect();
            *cells = self.cells(old, member, cells);
            *full &= cells
                .iter()
                .zip(self.members.get(member).into_iter().flatten())
                .all(|(cell, name)| cell.is_some() || name.is_none());
        }
        adopted
    }
}

/// Every layout that a sync has had, in the order of their numbers.
///
/// # Errors
/// What the store says.
pub async fn layouts(store: &dyn Store, sync: SyncId) -> Result<Vec<Layout>> {
    let name = setting(sync);
    match store.setting(&name).await? {
        Some(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| Error::new(Code::StoreFailed, format!("the setting {name} cannot be read")).because(error)),
        None => Ok(Vec::new()),
    }
}

/// The setting that holds a sync's layouts, in the order of their numbers.
fn setting(sync: SyncId) -> String {
    format!("layouts/{}", sync.0)
}

/// The number of the sync's present layout, given out at first sight and durable when it returns.
///
/// # Errors
/// What the store says.
pub async fn layout_of(store: &dyn Store, rules: &SyncRules) -> Result<u32> {
    let name = setting(rules.id);
    let present = Layout::of(rules);
    let mut known = layouts(store, rules.id).await?;
    if let Some(number) = known.iter().position(|layout| *layout == present) {
        return Ok(u32::try_from(number).unwrap_or(u32::MAX));
    }
    let number = u32::try_from(known.len()).unwrap_or(u32::MAX);
    known.push(present);
    let bytes =
        serde_json::to_vec(&known).map_err(|error| Error::new(Code::Internal, "a layout cannot be written").because(error))?;
    let transaction = Transaction { settings: vec![(name, Some(bytes))], ..Transaction::default() };
    let stopped = |error| Error::new(Code::StoreFailed, "the store has stopped").because(error);
    match store.submit(transaction).await.map_err(stopped)? {
        // Whoever only looks writes no record in it.
        Err(error) if error.code == Code::StoreReadOnly => Ok(number),
        kept => kept.map(|()| number),
    }
}
