//! Fields that several syncs write, as far as the documents name them: what is mapped by equal names is the plan's to say.

use super::Checker;
use crate::config::model::document::Config;
use crate::config::model::member::Member;
use crate::config::model::sync::SyncConfig;
use crate::overlap::{self, Flow, Overlap, Place};
use crate::record::FieldName;

pub(super) fn check(checker: &mut Checker<'_>) {
    for overlap in of_config(checker.config) {
        // It takes the last of them to make it one.
        let last = checker.config.syncs.iter().rposition(|sync| overlap.syncs.contains(&sync.name)).unwrap_or_default();
        checker.say(&format!("/syncs/{last}"), overlap.warning());
    }
}

/// What the documents alone tell.
pub fn of_config(config: &Config) -> Vec<Overlap> {
    let flows: Vec<Flow> = config.syncs.iter().flat_map(flows).collect();
    overlap::find(&flows)
}

fn flows(sync: &SyncConfig) -> Vec<Flow> {
    let Some((source, target)) = sync.pair() else { return Vec::new() };
    let (forth, back) = (
        sync.flows_to_target() && source.direction.to_target() && target.direction.to_target(),
        sync.flows_to_source() && source.direction.to_source() && target.direction.to_source(),
    );
    let mut flows = Vec::new();
    let mut add = |one: &[FieldName], other: &[FieldName], forth: bool, back: bool| {
        for here in one {
            for there in other {
                let (here, there) = (place(source, here), place(target, there));
                if forth {
                    flows.push(Flow { sync: sync.name.clone(), from: here.clone(), to: there.clone() });
                }
                if back {
                    flows.push(Flow { sync: sync.name.clone(), from: there, to: here });
                }
            }
        }
    };
    // A member is called by its system, or by its side where both are in one.
    let is = |owner: &str, member: &Member, side: &str| {
        owner == side || (source.system != target.system && owner == member.system.as_str())
    };
    for mapping in &sync.field_mappings {
        let owned_by = |member: &Member, side: &str| mapping.owner.as_deref().is_none_or(|owner| is(owner, member, side));
        let forth = forth && mapping.direction.to_target() && owned_by(source, "source");
        let back = back && mapping.direction.to_source() && owned_by(target, "target");
        add(&mapping.source, &mapping.target, forth, back);
    }
    for field in &sync.include_fields {
        let field = [FieldName::from(field.as_str())];
        add(&field, &field, forth, back);
    }
    flows
}

fn place(member: &Member, field: &FieldName) -> Place {
    Place { system: member.system.clone(), object: member.object_name(), field: field.clone() }
}
