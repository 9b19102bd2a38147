//! What our own creates that are under way may have made: a search may find such a record before its echo or its answer
//! says whose it is, and must not take it for a stranger's match (invariant 4).

use super::values::shown_match_value;
use crate::connector::Operation;
use crate::link::{Cells, MemberIndex};
use crate::rules::SyncRules;
use crate::runtime::core::Core;
use std::collections::BTreeSet;

/// The match values of records that are being made, by the member at which they are.
pub(super) struct Making(BTreeSet<(MemberIndex, Vec<u8>)>);

impl Making {
    /// Whether a record of this match value is being made at a member.
    pub fn of(&self, member: MemberIndex, value: Option<&Vec<u8>>) -> bool {
        value.is_some_and(|value| self.0.contains(&(member, value.clone())))
    }
}

impl Core {
    /// What is being made for a sync, at any of its members.
    pub(super) fn being_made(&self, rules: &SyncRules, sync: usize) -> Making {
        let mut making = BTreeSet::new();
        if crate::mutants::active("own_create_taken_for_match") {
            return Making(making);
        }
        for airborne in self.flights.values().filter(|airborne| airborne.sync == sync) {
            let member = airborne.flight.member;
            for intent in &airborne.flight.intents {
                let Operation::Create { image, .. } = &intent.write.operation else { continue };
                let cell = |field: usize| image.get(rules.at(member, field)?.name.as_str()).cloned();
                let cells: Cells = (0..rules.fields.len()).map(cell).collect();
                making.extend(shown_match_value(rules, member, &cells).map(|value| (member, value)));
            }
        }
        Making(making)
    }
}
