//! Rules as a configuration would be compiled into: both ways, every field in a group of its own, the latest edit wins.
//! A story changes what it is about.

use concord_engine::connector::Connector;
use concord_engine::link::SyncId;
use concord_engine::map::Mapping;
use concord_engine::record::{FieldName, SystemName};
use concord_engine::rules::*;
use concord_engine::schema::{Schema, Selection, Type};
use concord_engine::transform::{Context, MatchKind, Pipeline, TransformSpec};
use std::sync::Arc;
use std::time::Duration;

/// The field that declares a loss: what it cannot hold exactly is cast to the other side's type.
pub const CAST: &str = "cast";

/// Rules for one object that has the same name on both sides. `fields` are pairs of names; the first one is what records
/// are matched by.
pub async fn pair(id: SyncId, systems: &[(SystemName, Arc<dyn Connector>)], object: &str, fields: &[(&str, &str)]) -> SyncRules {
    let mut members = Vec::new();
    for (place, (system, connector)) in systems.iter().enumerate() {
        let schema = connector.schema(&object.into()).await.unwrap();
        let named = |(left, right): &(&str, &str)| FieldName::from(if place == 0 { *left } else { *right });
        let mut selected: Vec<FieldName> = fields.iter().map(named).chain(schema.key.clone()).collect();
        selected.sort_unstable();
        selected.dedup();
        members.push(member(system.clone(), schema, selected));
    }
    let rules = fields.iter().enumerate().map(|(index, (left, right))| FieldRules {
        name: (*left).to_owned(),
        group: index,
        owner: None,
        reference: None,
        members: vec![Some(field(&members[0].schema, left)), Some(field(&members[1].schema, right))],
    });
    SyncRules {
        id,
        name: object.into(),
        fields: rules.collect(),
        groups: fields
            .iter()
            .enumerate()
            .map(|(index, (name, _))| GroupRules { name: (*name).to_owned(), fields: vec![index], policy: Policy::LastWriteWins })
            .collect(),
        members,
        layout: 1,
        match_on: vec![MatchRule { field: 0, normaliser: MatchKind::Exact }],
        validation: Vec::new(),
        deletes: DeleteRules { on_delete: OnDelete::Propagate, against_edit: DeleteAgainstEdit::Manual },
        initial: InitialRules { strategy: InitialStrategy::FullLoad, authority: Authority::Member(0), rebuild_indexes: false },
        loops: LoopRules { enabled: true, window: Duration::from_secs(60), max: 5 },
        guard: GuardRules { max_deletes: 1_000, max_deletes_percent: 50.0, window: Duration::from_secs(60) },
        retry: RetryRules {
            max_attempts: 5,
            initial_delay: Duration::from_millis(50),
            backoff_factor: 2.0,
            max_delay: Duration::from_secs(1),
        },
        fallback: Fallback::Review,
        target_edits: TargetEdits::Overwrite,
        batch_size: 500,
        parallelism: 4,
        estimate_wait: Duration::from_secs(2),
        tombstones: Duration::from_secs(30 * 86_400),
        carrying: Carrying::AtOnce,
        filter: None,
        kin: Kin::default(),
    }
}

fn member(system: SystemName, schema: Schema, fields: Vec<FieldName>) -> MemberRules {
    MemberRules {
        system,
        object: schema.object.clone(),
        role: None,
        selection: Selection { object: schema.object.clone(), fields },
        schema,
        outward: true,
        inward: true,
        edit_time_field: None,
        soft_delete_field: None,
    }
}

fn field(schema: &Schema, name: &str) -> MemberField {
    let field = schema.field(name).unwrap_or_else(|| panic!("{} has no field {name}", schema.object));
    MemberField {
        name: name.into(),
        ty: field.ty.clone(),
        native_type: field.native_type.clone(),
        mapping: Mapping::identity(),
        outward: true,
        inward: true,
        creatable: field.creatable,
        updatable: field.updatable,
        write_back: false,
        lossy: false,
    }
}

/// Puts fields into one group, which changes hands as a whole.
pub fn group(rules: &mut SyncRules, name: &str, fields: &[&str]) {
    let policy = Policy::LastWriteWins;
    let mut groups = vec![GroupRules { name: name.to_owned(), fields: Vec::new(), policy: policy.clone() }];
    for (index, field) in rules.fields.iter_mut().enumerate() {
        if fields.contains(&field.name.as_str()) {
            field.group = 0;
            groups[0].fields.push(index);
        } else {
            field.group = groups.len();
            groups.push(GroupRules { name: field.name.clone(), fields: vec![index], policy: policy.clone() });
        }
    }
    rules.groups = groups;
}

/// Declares that a field may lose what the other side cannot hold.
pub fn lossy(rules: &mut SyncRules, name: &str) {
    let index = rules.field(name).unwrap();
    for at in rules.fields[index].members.iter_mut().flatten() {
        at.lossy = true;
    }
}

/// Has a member's values pass through a transformation on their way to the other.
pub fn transformed(rules: &mut SyncRules, member: usize, name: &str, transformation: &str) {
    let index = rules.field(name).unwrap();
    let at = rules.fields[index].members[member].as_mut().unwrap();
    let context = Context { source: Some(at.ty.clone()), ..Context::default() };
    at.mapping.to = Some(Pipeline::compile(&[TransformSpec::new(transformation)], &context).unwrap());
}

/// Has a member show the others' values through a transformation; none where it is empty.
pub fn written_as(rules: &mut SyncRules, member: usize, name: &str, transformation: &str) {
    let index = rules.field(name).unwrap();
    let at = rules.fields[index].members[member].as_mut().unwrap();
    let steps: Vec<TransformSpec> =
        (!transformation.is_empty()).then(|| TransformSpec::new(transformation)).into_iter().collect();
    at.mapping.from = (!steps.is_empty()).then(|| Pipeline::compile(&steps, &Context::default()).unwrap());
}

/// The type of a field at a member.
pub fn type_of<'a>(rules: &'a SyncRules, member: usize, name: &str) -> &'a Type {
    &rules.at(member, rules.field(name).unwrap()).unwrap().ty
}
