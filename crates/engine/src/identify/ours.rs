//! What our own creates that are under way may have made: a search may find such a record before its echo or its answer
//! says whose it is, and must not take it for a stranger's match (invariant 4).

use super::values::shown_match_value;
use crate::connector::Operation;
use crate::link::{Cells, FlightId, MemberIndex};
use crate::rules::SyncRules;
use crate::runtime::core::Core;
use std::collections::{BTreeMap, BTreeSet};

/// The match values of records that are being made, by the member at which they are, with the flights that make them.
pub(super) struct Making(BTreeMap<(MemberIndex, Vec<u8>), BTreeSet<FlightId>>);

impl Making {
    /// For whoever has no match value.
    pub fn none() -> Making {
        Making(BTreeMap::new())
    }

    /// The flights that are making a record of this match value at a member.
    pub fn of(&self, member: MemberIndex, value: Option<&Vec<u8>>) -> Option<&BTreeSet<FlightId>> {
        self.0.get(&(member, value?.clone()))
    }
}

impl Core {
    /// What is being made for a sync, at any of its members.
    pub(super) fn being_made(&self, rules: &SyncRules, sync: usize) -> Making {
        let mut making: BTreeMap<(MemberIndex, Vec<u8>), BTreeSet<FlightId>> = BTreeMap::new();
        if crate::mutants::active("own_create_taken_for_match") {
            return Making(making);
        }
        for (flight, airborne) in self.flights.iter().filter(|(_, airborne)| airborne.sync == sync) {
            let member = airborne.flight.member;
            for intent in &airborne.flight.intents {
                let Operation::Create { image, .. } = &intent.write.operation else { continue };
                let cell = |field: usize| image.get(rules.at(member, field)?.name.as_str()).cloned();
                let cells: Cells = (0..rules.fields.len()).map(cell).collect();
                if let Some(value) = shown_match_value(rules, member, &cells) {
                    making.entry((member, value)).or_default().insert(*flight);
                }
            }
        }
        Making(making)
    }
}
