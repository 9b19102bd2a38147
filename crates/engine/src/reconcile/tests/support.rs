//! Rules made by hand for the tests: members `a`, `b`, `c`, text fields, each in a group of its own unless told otherwise.

use crate::link::SyncId;
use crate::map::Mapping;
use crate::rules::{
    Authority, Carrying, DeleteAgainstEdit, DeleteRules, Fallback, FieldRules, GroupRules, GuardRules, InitialRules,
    InitialStrategy, Kin, LoopRules, MemberField, MemberRules, OnDelete, Policy, RetryRules, SyncRules, TargetEdits,
};
use crate::schema::{Field, Schema, Selection, Type};
use crate::transform::{Context, Pipeline, TransformSpec};
use std::time::Duration;

pub fn text(max_chars: Option<u32>) -> Type {
    Type::Text { max_chars, padded: false, nul: false, empty: true }
}

/// A sync of so many members with these text fields; both ways, the latest edit wins, deletes propagate, the rest as the
/// defaults are.
pub fn rules(members: usize, fields: &[&str]) -> SyncRules {
    SyncRules {
        id: SyncId(1),
        name: "accounts".into(),
        members: (0..members).map(|member| member_rules(member, fields)).collect(),
        fields: fields.iter().enumerate().map(|(group, name)| field_rules(name, group, members)).collect(),
        groups: fields
            .iter()
            .enumerate()
            .map(|(field, name)| GroupRules { name: (*name).to_owned(), fields: vec![field], policy: Policy::LastWriteWins })
            .collect(),
        layout: 1,
        match_on: Vec::new(),
        validation: Vec::new(),
        deletes: DeleteRules { on_delete: OnDelete::Propagate, against_edit: DeleteAgainstEdit::Manual },
        initial: InitialRules { strategy: InitialStrategy::FullLoad, authority: Authority::Review, rebuild_indexes: false },
        loops: LoopRules { enabled: true, window: Duration::from_secs(60), max: 3 },
        guard: GuardRules { max_deletes: 100, max_deletes_percent: 10.0, window: Duration::from_secs(60) },
        retry: RetryRules {
            max_attempts: 3,
            initial_delay: Duration::from_secs(1),
            backoff_factor: 2.0,
            max_delay: Duration::from_secs(60),
        },
        fallback: Fallback::Review,
        target_edits: TargetEdits::Overwrite,
        batch_size: 100,
        parallelism: 1,
        estimate_wait: Duration::from_micros(100),
        tombstones: Duration::from_secs(3600),
        carrying: Carrying::AtOnce,
        filter: None,
        kin: Kin::default(),
    }
}

fn member_rules(member: usize, fields: &[&str]) -> MemberRules {
    let name = ["a", "b", "c"][member];
    let schema = Schema {
        object: "accounts".into(),
        fields: std::iter::once("id").chain(fields.iter().copied()).map(schema_field).collect(),
        key: vec!["id".into()],
        unique: Vec::new(),
        indexes: Vec::new(),
    };
    MemberRules {
        system: name.into(),
        object: "accounts".into(),
        role: None,
        selection: Selection { object: "accounts".into(), fields: fields.iter().map(|field| (*field).into()).collect() },
        schema,
        outward: true,
        inward: true,
        edit_time_field: None,
        soft_delete_field: None,
    }
}

fn schema_field(name: &str) -> Field {
    Field {
        name: name.into(),
        ty: text(None),
        native_type: "text".to_owned(),
        nullable: true,
        creatable: true,
        updatable: true,
        has_default: false,
        origin: None,
    }
}

fn field_rules(name: &str, group: usize, members: usize) -> FieldRules {
    let at = MemberField {
        name: name.into(),
        ty: text(None),
        native_type: "text".to_owned(),
        mapping: Mapping::identity(),
        outward: true,
        inward: true,
        creatable: true,
        updatable: true,
        write_back: false,
        lossy: false,
    };
    FieldRules { name: name.to_owned(), group, owner: None, reference: None, members: vec![Some(at); members] }
}

/// How a member has a field, to be changed by a test.
pub fn at<'a>(rules: &'a mut SyncRules, member: usize, field: &str) -> &'a mut MemberField {
    let field = rules.field(field).unwrap();
    rules.fields[field].members[member].as_mut().unwrap()
}

/// The field flows from member `a` only.
pub fn one_way(mut rules: SyncRules) -> SyncRules {
    for field in &mut rules.fields {
        for (member, at) in field.members.iter_mut().enumerate() {
            let at = at.as_mut().unwrap();
            (at.outward, at.inward) = (member == 0, member != 0);
        }
    }
    for (member, rules) in rules.members.iter_mut().enumerate() {
        (rules.outward, rules.inward) = (member == 0, member != 0);
    }
    rules
}

/// Every field in one group.
pub fn grouped(mut rules: SyncRules, policy: Policy) -> SyncRules {
    let fields = (0..rules.fields.len()).collect();
    for field in &mut rules.fields {
        field.group = 0;
    }
    rules.groups = vec![GroupRules { name: "all".to_owned(), fields, policy }];
    rules
}

/// The same policy for every group.
pub fn by(mut rules: SyncRules, policy: Policy) -> SyncRules {
    for group in &mut rules.groups {
        group.policy = policy.clone();
    }
    rules
}

/// What a delete does, against nothing and against an edit.
pub fn deleting(mut rules: SyncRules, on_delete: OnDelete, against_edit: DeleteAgainstEdit) -> SyncRules {
    rules.deletes = DeleteRules { on_delete, against_edit };
    rules
}

/// Member's field holds this many characters, and what is longer may be cut.
pub fn cut(mut rules: SyncRules, member: usize, field: &str, chars: u32) -> SyncRules {
    let at = at(&mut rules, member, field);
    (at.ty, at.lossy) = (text(Some(chars)), true);
    rules
}

/// A pipeline of one transformation without arguments.
pub fn pipeline(name: &str) -> Pipeline {
    Pipeline::compile(&[TransformSpec::new(name)], &Context::default()).unwrap()
}
