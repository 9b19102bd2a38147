//! Hubs: a star of systems, of which it is said which objects are the same kind of record.

use super::{mappings, matches, policies, running, words};
use concord_engine::config::*;
use concord_engine::record::SystemName;
use proptest::prelude::*;
use proptest::strategy::Strategy;

/// The system in the middle: a name that is escaped in places, and that no text can be split at.
pub const HUB: &str = "the hub/of ~all.";

fn entities() -> impl Strategy<Value = Entity> {
    let own = prop::option::of((mappings(), mappings()));
    (words(), words(), own, prop::collection::vec(matches(), 0..3), any::<bool>()).prop_map(
        |(name, object, own, match_on, flag)| {
            let members = ["crm", "erp"].map(|system| (system.to_owned(), format!("{object} {system}")));
            let of_systems = own.map(|(crm, erp)| [("crm", crm), ("erp", erp)]);
            let of_systems = of_systems.into_iter().flatten();
            Entity {
                name,
                hub: object,
                members: members.into_iter().filter(|(system, _)| flag || system == "crm").collect(),
                field_mappings: of_systems.map(|(system, mappings)| (system.to_owned(), mappings)).collect(),
                match_on,
            }
        },
    )
}

/// A hub between the usual two systems.
pub fn hubs() -> impl Strategy<Value = SyncConfig> {
    let directions = prop::sample::select(vec![Direction::Both, Direction::ToTarget, Direction::ToSource]);
    let ways = prop::sample::select(vec![(true, true), (true, false), (false, true)]);
    let objects = prop::collection::vec(words(), 0..3);
    let spokes = (directions, objects, any::<bool>());
    (running::runnings(), policies(), prop::collection::vec(entities(), 0..3), spokes, ways).prop_map(
        |(running, conflict_resolution, entities, (direction, objects, flag), (forth, back))| {
            let spoke = |system: &str| ConnectedSystem {
                system: SystemName::from(system),
                objects: objects.clone(),
                role: flag.then(|| format!("{system} role")),
                direction,
                options: serde_json::Map::new(),
            };
            SyncConfig {
                name: "star".into(),
                sync_type: if forth && back { SyncType::Bidirectional } else { SyncType::OneWay },
                source_to_target: Some(forth),
                target_to_source: Some(back),
                sync_hub: Some(SystemName::from(HUB)),
                connected_systems: vec![spoke("crm"), spoke("erp")],
                entities,
                conflict_resolution,
                ..running
            }
        },
    )
}
