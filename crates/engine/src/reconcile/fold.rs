//! Folding: a newer observation added to what is pending. Fields that it carries replace, others stay; a delete replaces
//! all; each field keeps the time at which it took its present value.

use super::work::overlay;
use crate::change::EditTime;
use crate::link::{Cells, Link, Pending, Shown};
use crate::rules::SyncRules;
use std::cmp::Ordering;

/// What became of an observation that was to be folded.
#[derive(Clone, Debug, PartialEq)]
pub enum Folded {
    /// The new pending observation.
    Into(Box<Pending>),
    /// The observation is not newer than what is known and was dropped.
    Dropped,
    /// Which is newer cannot be told: the record must be read again before either counts.
    Unordered,
}

/// Adds `newer` to `older`. `order` is how the version of `newer` stands to that of `older`.
pub fn fold(rules: &SyncRules, older: Option<Pending>, newer: Pending, order: Option<Ordering>) -> Folded {
    let Some(older) = older else { return Folded::Into(Box::new(newer)) };
    match order {
        None => return Folded::Unordered,
        Some(Ordering::Less | Ordering::Equal) => return Folded::Dropped,
        Some(Ordering::Greater) => {}
    }
    let Pending { key, old_key, shown, version, hops, echo, .. } = newer;
    let merged = match (older.shown, shown) {
        (_, gone @ Shown::Gone { .. }) => gone,
        (Shown::Gone { .. }, Shown::Present { cells, times, full, .. }) => {
            Shown::Present { cells, times, full, anew: !crate::mutants::active("delete_forgotten") }
        }
        (
            Shown::Present { cells, times, full, anew },
            Shown::Present { cells: new, times: new_times, full: new_full, anew: new_anew },
        ) => fold_present(rules, older.member, (cells, times, full, anew), (new, new_times, new_full, new_anew)),
    };
    Folded::Into(Box::new(Pending {
        sync: older.sync,
        member: older.member,
        key,
        // The link knows the record under the first of several old keys.
        old_key: older.old_key.or(old_key),
        shown: merged,
        version,
        hops: older.hops.max(hops),
        echo: older.echo && echo,
        arrived: older.arrived,
        layout: older.layout,
    }))
}

type Present = (Cells, Vec<Option<EditTime>>, bool, bool);

fn fold_present(rules: &SyncRules, member: usize, older: Present, newer: Present) -> Shown {
    let (mut cells, mut times, full, anew) = older;
    let (new_cells, new_times, new_full, new_anew) = newer;
    times.resize(new_times.len().max(times.len()), None);
    for (field, new) in new_cells.iter().enumerate() {
        let Some(new) = new else { continue };
        let same = match (cells.get(field).and_then(Option::as_ref), rules.at(member, field)) {
            (Some(old), Some(at)) => old.equivalent_as(new, &at.ty),
            _ => false,
        };
        if !same && let Some(time) = times.get_mut(field) {
            *time = new_times.get(field).copied().flatten();
        }
    }
    overlay(&mut cells, &new_cells);
    Shown::Present { cells, times, full: full || new_full, anew: anew || new_anew }
}

/// Puts the exact time of an event, which is no newer than the base but shows the same values, in the place of the
/// estimated time of what was agreed from a read of that member: the agreed value may yet have to contend.
pub fn refine_agreed(rules: &SyncRules, link: &mut Link, event: &Pending) -> bool {
    let member = event.member;
    let (Some(side), Shown::Present { cells, times, .. }) = (link.sides.get(member), &event.shown) else { return false };
    let mut refined = false;
    for (group, state) in link.groups.iter_mut().enumerate() {
        let Some(agreed) = state.agreed.as_mut().filter(|agreed| agreed.from == member && agreed.time.estimated) else {
            continue;
        };
        let exact = rules
            .group_fields(group)
            .iter()
            .filter(|&&field| {
                let (Some(at), Some(Some(base)), Some(Some(shown))) =
                    (rules.at(member, field), side.base.get(field), cells.get(field))
                else {
                    return false;
                };
                base.equivalent_as(shown, &at.ty)
            })
            .filter_map(|&field| times.get(field).copied().flatten())
            .filter(|time| !time.estimated)
            .max_by_key(|time| time.at);
        if let Some(exact) = exact {
            // Where it contends, it goes on to under its better known time.
            let held = state.held.iter_mut().flat_map(|held| &mut held.contenders);
            for (_, time, _) in held.filter(|it| **it == (agreed.from, agreed.time, agreed.hops)) {
                *time = exact;
            }
            agreed.time = exact;
            refined = true;
        }
    }
    refined
}

/// Puts the exact times of an event, which is no newer than what is pending but shows the same values, in the place of
/// estimated ones: how the feed tells when an edit was made that a read had seen before.
pub fn refine_times(rules: &SyncRules, pending: &mut Pending, event: &Pending) -> bool {
    let member = pending.member;
    let (Shown::Present { cells, times, .. }, Shown::Present { cells: event_cells, times: event_times, .. }) =
        (&mut pending.shown, &event.shown)
    else {
        return false;
    };
    let mut refined = false;
    for (field, time) in times.iter_mut().enumerate() {
        let (Some(known), Some(Some(exact))) = (time.as_mut(), event_times.get(field)) else { continue };
        if !known.estimated || exact.estimated {
            continue;
        }
        let (Some(Some(now)), Some(Some(then)), Some(at)) = (cells.get(field), event_cells.get(field), rules.at(member, field))
        else {
            continue;
        };
        if now.equivalent_as(then, &at.ty) {
            *known = *exact;
            refined = true;
        }
    }
    refined
}
