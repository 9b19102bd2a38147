//! Match values: what tells that records of two members are the same one, smoothed out and in one comparable form. Pure.

use crate::change::Observation;
use crate::link::{Cells, Link, MemberIndex};
use crate::map::{canonical_record, cell, member_record, wanted};
use crate::record::Key;
use crate::rules::SyncRules;
use crate::transform::normalise_for_match;
use crate::value::Value;
use std::collections::BTreeSet;

/// The match value of a link, from what is agreed.
pub(crate) fn link_match_value(rules: &SyncRules, link: &Link) -> Option<Vec<u8>> {
    let canonical: Vec<Option<Value>> = rules
        .match_on
        .iter()
        .map(|rule| {
            let group = rules.fields.get(rule.field)?.group;
            let place = rules.group_fields(group).iter().position(|field| *field == rule.field)?;
            link.groups.get(group)?.agreed.as_ref()?.values.get(place).cloned()
        })
        .collect();
    match_bytes(rules, &canonical)
}

/// The match value of what a member shows.
pub(super) fn shown_match_value(rules: &SyncRules, member: MemberIndex, cells: &Cells) -> Option<Vec<u8>> {
    match_bytes(rules, &canonical_match(rules, member, cells))
}

pub(super) fn canonical_match(rules: &SyncRules, member: MemberIndex, cells: &Cells) -> Vec<Option<Value>> {
    rules
        .match_on
        .iter()
        .map(|rule| {
            let at = rules.at(member, rule.field)?;
            at.mapping.to_canonical(cell(cells, rule.field)?, || member_record(rules, member, cells)).ok().flatten()
        })
        .collect()
}

/// Null and blank text match nothing: a record without a match value has no match.
pub(super) fn match_bytes(rules: &SyncRules, canonical: &[Option<Value>]) -> Option<Vec<u8>> {
    if rules.match_on.is_empty() {
        return None;
    }
    let mut values = Vec::new();
    for (rule, value) in rules.match_on.iter().zip(canonical) {
        let value = value.as_ref()?;
        values.push(normalise_for_match(value, &rule.normaliser)?);
    }
    Some(Key(values).encode())
}

/// The rows that find the match of these canonical values at a member: as they are, and smoothed out.
pub(super) fn search_rows(rules: &SyncRules, other: MemberIndex, canonical: &[Option<Value>]) -> Vec<Vec<Value>> {
    let mut rows: Vec<Vec<Value>> = Vec::new();
    for smooth in [false, true] {
        let row: Option<Vec<Value>> = rules
            .match_on
            .iter()
            .zip(canonical)
            .map(|(rule, value)| {
                let value = value.as_ref()?;
                let value = if smooth { normalise_for_match(value, &rule.normaliser)? } else { value.clone() };
                let at = rules.at(other, rule.field)?;
                wanted(at, &value, || canonical_record(rules, &[])).ok().flatten()
            })
            .collect();
        // Always two rows, so that every member's answer has the same shape.
        rows.push(row.unwrap_or_else(|| vec![Value::Null; rules.match_on.len()]));
    }
    rows
}

pub(super) fn distinct(found: Vec<Observation>) -> Vec<Observation> {
    let mut seen = BTreeSet::new();
    found.into_iter().filter(|observation| seen.insert(observation.key.encode())).collect()
}
