//! A world's rules in the engine's words: what a configuration would be compiled into.

use crate::database::KeyKind;
use crate::world::{AgainstFlow, Decide, DeleteRule, EditRule, FieldKind, Flow, GONE, NAMES, OBJECT, Purpose, Start, World};
use concord_engine::link::SyncId;
use concord_engine::map::Mapping;
use concord_engine::record::{FieldName, ObjectName, SyncName, SystemName};
use concord_engine::rules::{
    Authority, Carrying, DeleteAgainstEdit, DeleteRules, FieldRules, GroupRules, GuardRules, InitialRules, InitialStrategy, Kin,
    LoopRules, MatchRule, MemberField, MemberRules, OnDelete, Policy, RetryRules, SyncRules, TargetEdits,
};
use concord_engine::schema::{Field, Schema, Selection, Type};
use concord_engine::transform::MatchKind;
use concord_engine::validate::{OnError, Rule, RuleSpec};
use std::time::Duration;

fn field_type(world: &World, member: usize, field: usize) -> Type {
    let Some(field) = world.fields.get(field) else { return Type::Bool };
    let max_chars = field.short_at.filter(|(at, _)| *at == member).and_then(|(_, most)| u32::try_from(most).ok());
    match field.kind {
        FieldKind::Text => Type::Text { max_chars, padded: false, nul: false, empty: true },
        FieldKind::Number => Type::Int { bits: 64, unsigned: false },
    }
}

/// The schema of a member's object.
pub fn schema(world: &World, member: usize) -> Schema {
    let key = world.key_field(member);
    let serial = world.members.get(member).is_some_and(|member| member.keys == KeyKind::Serial);
    let mut fields = Vec::new();
    if serial {
        fields.push(Field {
            name: key.clone(),
            ty: Type::Int { bits: 64, unsigned: false },
            native_type: "serial".to_owned(),
            nullable: false,
            creatable: false,
            updatable: false,
            has_default: true,
            origin: None,
        });
    }
    for place in 0..world.fields.len() {
        let name = world.native(member, place);
        if name != key || !serial {
            fields.push(Field {
                nullable: name != key,
                name,
                ty: field_type(world, member, place),
                native_type: "simulated".to_owned(),
                creatable: true,
                updatable: true,
                has_default: false,
                origin: None,
            });
        }
    }
    if world.on_delete == DeleteRule::Soft {
        fields.push(Field {
            name: FieldName::from(GONE),
            ty: Type::Int { bits: 64, unsigned: false },
            native_type: "simulated".to_owned(),
            nullable: true,
            creatable: true,
            updatable: true,
            has_default: false,
            origin: None,
        });
    }
    Schema { object: ObjectName::from(OBJECT), fields, key: vec![key], unique: Vec::new(), indexes: Vec::new() }
}

fn member_rules(world: &World, member: usize) -> MemberRules {
    let mut fields: Vec<FieldName> = (0..world.fields.len()).map(|field| world.native(member, field)).collect();
    let key = world.key_field(member);
    if !fields.contains(&key) {
        fields.push(key);
    }
    let soft = (world.on_delete == DeleteRule::Soft).then(|| FieldName::from(GONE));
    fields.extend(soft.clone());
    let one_way = world.further.one_way.is_some();
    MemberRules {
        system: SystemName::from(world.members.get(member).map_or("", |member| member.name)),
        object: ObjectName::from(OBJECT),
        role: None,
        selection: Selection { object: ObjectName::from(OBJECT), fields },
        schema: schema(world, member),
        outward: !one_way || member == 0,
        inward: !one_way || member != 0,
        edit_time_field: None,
        soft_delete_field: soft,
    }
}

fn member_field(world: &World, member: usize, field: usize) -> Option<MemberField> {
    let rules = world.fields.get(field)?;
    let is_its_key = rules.purpose == Purpose::KeyOf(member);
    Some(MemberField {
        name: world.native(member, field),
        ty: field_type(world, member, field),
        native_type: "simulated".to_owned(),
        mapping: Mapping::identity(),
        outward: world.flows_from(member, field),
        inward: match rules.flow {
            Flow::Both => true,
            Flow::From(owner) => owner != member,
        },
        creatable: !is_its_key,
        updatable: !is_its_key,
        write_back: false,
        lossy: rules.short_at.is_some_and(|(at, _)| at == member),
    })
}

fn field_rules(world: &World, field: usize) -> FieldRules {
    let rules = world.fields.get(field);
    FieldRules {
        name: rules.map_or("", |field| field.name).to_owned(),
        group: rules.map_or(0, |field| field.group),
        owner: match rules.map(|field| field.flow) {
            Some(Flow::From(owner)) => Some(owner),
            _ => None,
        },
        reference: None,
        members: (0..world.members.len()).map(|member| member_field(world, member, field)).collect(),
    }
}

fn group_rules(world: &World, group: usize) -> GroupRules {
    let fields = world.fields.iter().enumerate().filter(|(_, field)| field.group == group);
    let fields: Vec<usize> = fields.map(|(place, _)| place).collect();
    let name = fields.first().and_then(|field| world.fields.get(*field)).map_or("", |field| field.name);
    let policy = match world.groups.get(group) {
        Some(Decide::Priority(order)) => Policy::Priority(order.clone()),
        Some(Decide::Person) => Policy::Manual,
        _ => Policy::LastWriteWins,
    };
    GroupRules { name: name.to_owned(), fields, policy }
}

/// Where a world validates, names that bear the mark are refused.
fn validation(world: &World) -> Vec<Rule> {
    let arguments = serde_json::json!({ "pattern": format!("^[^{}]*$", crate::users::REJECTED) });
    let spec = RuleSpec { field: "name".to_owned(), rule: "regex".to_owned(), on_error: OnError::RejectRecord, arguments };
    let rule = world.further.rejects.then(|| Rule::compile(&spec, None).ok()).flatten();
    rule.into_iter().collect()
}

/// The rules of the two syncs of a world in which one keeps a field, by its name, and the other all else, with their ids.
pub fn apart(world: &World, field: &'static str, (id, its_id): (SyncId, SyncId)) -> Vec<SyncRules> {
    let others = sync_rules(&world.only(|other| other.name != field), id);
    let its_own = sync_rules(&world.only(|other| other.name == field || other.purpose != Purpose::Plain), its_id);
    vec![others, SyncRules { name: SyncName::from(field), ..its_own }]
}

/// The rules of a world's one sync.
pub fn sync_rules(world: &World, id: SyncId) -> SyncRules {
    let tag = world.field("tag").filter(|_| world.matched);
    SyncRules {
        id,
        name: SyncName::from("people"),
        members: (0..world.members.len().min(NAMES.len())).map(|member| member_rules(world, member)).collect(),
        fields: (0..world.fields.len()).map(|field| field_rules(world, field)).collect(),
        groups: (0..world.groups.len()).map(|group| group_rules(world, group)).collect(),
        layout: 0,
        match_on: tag.map(|field| MatchRule { field, normaliser: MatchKind::Exact }).into_iter().collect(),
        validation: validation(world),
        deletes: DeleteRules {
            on_delete: match world.on_delete {
                DeleteRule::Propagate => OnDelete::Propagate,
                DeleteRule::Detach => OnDelete::Detach,
                DeleteRule::Ignore => OnDelete::Ignore,
                DeleteRule::Soft => OnDelete::SoftDelete,
            },
            against_edit: match world.against_edit {
                EditRule::UpdateWins => DeleteAgainstEdit::UpdateWins,
                EditRule::DeleteWins => DeleteAgainstEdit::DeleteWins,
                EditRule::Person => DeleteAgainstEdit::Manual,
            },
        },
        initial: InitialRules {
            rebuild_indexes: false,
            strategy: InitialStrategy::FullLoad,
            authority: match world.start {
                Start::Member(member) => Authority::Member(member),
                Start::Policy => Authority::Policy,
                Start::Person => Authority::Review,
            },
        },
        loops: LoopRules { enabled: true, window: Duration::from_secs(60), max: 10 },
        guard: GuardRules { max_deletes: world.max_deletes, max_deletes_percent: 1_000.0, window: Duration::from_secs(60) },
        retry: RetryRules {
            max_attempts: world.attempts,
            initial_delay: Duration::from_millis(50),
            backoff_factor: 2.0,
            max_delay: Duration::from_secs(5),
        },
        fallback: world.fallback,
        target_edits: match world.further.one_way {
            Some(AgainstFlow::Keep) => TargetEdits::Keep,
            Some(AgainstFlow::Review) => TargetEdits::Review,
            _ => TargetEdits::Overwrite,
        },
        batch_size: world.batch_size,
        parallelism: world.parallelism,
        estimate_wait: Duration::from_secs(30),
        tombstones: Duration::from_secs(30 * 86_400),
        carrying: Carrying::AtOnce,
        filter: None,
        kin: Kin::default(),
    }
}
