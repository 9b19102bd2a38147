//! What the types alone cannot make canonical: the many names of a member made one, other spellings of a connector
//! replaced, and the defaults that depend on other settings filled in. Leaves what it cannot resolve for `check`.

use super::kinds::{self, ConnectorKind};
use super::model::conflict::{DeleteVsUpdate, Winner};
use super::model::document::Config;
use super::model::mapping::FieldSelection;
use super::model::running::Authority;
use super::model::sync::{SyncConfig, SyncType, TargetEdits};

/// Makes names and dependent defaults canonical.
pub(crate) fn resolve(config: &mut Config, kinds: &[ConnectorKind]) {
    for connection in config.connections.values_mut() {
        if let Some(kind) = kinds::find(kinds, &connection.kind) {
            kind.name.clone_into(&mut connection.kind);
        }
    }
    for index in 0..config.syncs.len() {
        let names = config.syncs.get(index).map(|sync| member_names(config, sync)).unwrap_or_default();
        if let Some(sync) = config.syncs.get_mut(index) {
            use_canonical_names(sync, &names);
            fill_defaults(sync);
        }
    }
}

/// A name by which rules can call a member, and the canonical one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberName {
    pub(crate) written: String,
    pub(crate) canonical: String,
}

/// Every name of every member: its system, its role, its connector where no other member has the same, and `source`,
/// `target` or `hub`. The canonical one is the system, or `source` and `target` where both are in one system.
pub(crate) fn member_names(config: &Config, sync: &SyncConfig) -> Vec<MemberName> {
    let mut members: Vec<(&str, Option<&str>, Option<&str>)> = Vec::new();
    for (side, member) in [("source", &sync.source), ("target", &sync.target)] {
        members.extend(member.iter().map(|member| (member.system.as_str(), member.role.as_deref(), Some(side))));
    }
    members.extend(sync.sync_hub.iter().map(|hub| (hub.as_str(), None, Some("hub"))));
    members.extend(sync.connected_systems.iter().map(|spoke| (spoke.system.as_str(), spoke.role.as_deref(), None)));
    let kind_of = |system: &str| config.connections.get(system).map(|connection| connection.kind.as_str());
    let mut names: Vec<MemberName> = Vec::new();
    for (system, role, side) in &members {
        let is_alone = members.iter().filter(|(other, _, _)| other == system).count() == 1;
        let canonical = if is_alone { system } else { side.unwrap_or(system) };
        let kind =
            kind_of(system).filter(|kind| members.iter().filter(|(other, _, _)| kind_of(other) == Some(kind)).count() == 1);
        let written = is_alone.then_some(*system).into_iter().chain(*role).chain(*side).chain(kind);
        names.extend(written.map(|written| MemberName { written: written.to_owned(), canonical: (*canonical).to_owned() }));
    }
    names
}

fn use_canonical_names(sync: &mut SyncConfig, names: &[MemberName]) {
    let rename = |text: &mut String| {
        if let Some(name) = names.iter().find(|name| name.written == *text) {
            name.canonical.clone_into(text);
        }
    };
    sync.conflict_resolution.priority.iter_mut().for_each(rename);
    for rule in &mut sync.conflict_resolution.field_rules {
        if let Winner::System(name) = &mut rule.priority_system {
            rename(name);
        }
    }
    if let Authority::System(name) = &mut sync.initial_sync.authority {
        rename(name);
    }
    let of_entities = sync.entities.iter_mut().flat_map(|entity| entity.field_mappings.values_mut().flatten());
    sync.field_mappings.iter_mut().chain(of_entities).filter_map(|mapping| mapping.owner.as_mut()).for_each(rename);
}

fn fill_defaults(sync: &mut SyncConfig) {
    let (forth, back) = (sync.flows_to_target(), sync.flows_to_source());
    sync.source_to_target.get_or_insert(forth);
    sync.target_to_source.get_or_insert(back);
    let names_fields = !sync.field_mappings.is_empty() || !sync.include_fields.is_empty();
    sync.field_selection.get_or_insert(if names_fields { FieldSelection::Explicit } else { FieldSelection::All });
    let is_mirror = sync.sync_type == SyncType::OneWay && sync.target_edits == TargetEdits::Overwrite;
    let default = if is_mirror { DeleteVsUpdate::DeleteWins } else { DeleteVsUpdate::Manual };
    sync.conflict_resolution.delete_vs_update.get_or_insert(default);
}
