//! Schemas that change while a feed runs: taken over where every mapped field is as it was; otherwise the object's syncs
//! stop, with their observations kept, and are read again before they go on.

use crate::error::{Code, Error};
use crate::link::MemberIndex;
use crate::record::{FieldName, SystemName};
use crate::rules::SyncRules;
use crate::runtime::core::Core;
use crate::schema::{Schema, Type};
use std::sync::Arc;

/// The setting that says that changes of a sync went by in a schema that could not tell them.
pub(crate) fn drift_setting(sync: u32) -> String {
    format!("drifted/{sync}")
}

/// What about a new schema breaks a member's mapping, if anything does.
pub(crate) fn drift(rules: &SyncRules, member: MemberIndex, schema: &Schema) -> Option<String> {
    let known = &rules.members.get(member)?.schema;
    if known.key != schema.key {
        return Some(format!("the key of {} is now ({})", schema.object, join(&schema.key)));
    }
    rules.fields.iter().filter_map(|field| field.members.get(member)?.as_ref()).find_map(|at| {
        match schema.field(at.name.as_str()) {
            None => Some(format!("the mapped field {} of {} is gone or renamed", at.name, schema.object)),
            Some(field) => match (&at.ty, &field.ty) {
                (Type::Enum { .. }, Type::Enum { .. }) => None,
                (old, new) if old == new => None,
                _ => Some(format!(
                    "the mapped field {} of {} was {} and is now {}",
                    at.name, schema.object, at.native_type, field.native_type
                )),
            },
        }
    })
}

pub(super) fn adopt_schema(rules: &mut SyncRules, member: MemberIndex, schema: &Schema) {
    for field in &mut rules.fields {
        let Some(Some(at)) = field.members.get_mut(member) else { continue };
        if let Some(new) = schema.field(at.name.as_str()) {
            at.ty = new.ty.clone();
        }
    }
    if let Some(member) = rules.members.get_mut(member) {
        member.schema = schema.clone();
    }
}

pub(super) fn join(names: &[FieldName]) -> String {
    names.iter().map(FieldName::as_str).collect::<Vec<_>>().join(", ")
}

impl Core {
    /// A new schema of an object: taken over where every mapped field is as it was; otherwise the object's syncs stop,
    /// with their observations kept.
    pub(super) fn schema_changed(&mut self, system: &SystemName, schema: &Schema) {
        for sync in &mut self.syncs {
            for member in 0..sync.rules.members.len() {
                let concerned =
                    sync.rules.members.get(member).is_some_and(|rules| rules.system == *system && rules.object == schema.object);
                if !concerned {
                    continue;
                }
                match drift(&sync.rules, member, schema) {
                    Some(what) => {
                        let error = Error::new(Code::SchemaDrift, what).at(format!("{system} {}", schema.object));
                        tracing::warn!(sync = sync.rules.name.as_str(), %error, "schema drift");
                        sync.stopped.get_or_insert(error);
                        sync.drifted = true;
                        self.transaction.settings.push((drift_setting(sync.rules.id.0), Some(b"1".to_vec())));
                    }
                    None => adopt_schema(Arc::make_mut(&mut sync.rules), member, schema),
                }
            }
        }
    }
}
