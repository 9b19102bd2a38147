//! Which indexes are missing that look-ups would need: on match fields and on the field that tells the time of an edit.
//! Names the fields; the statement that makes the index is the connector's to phrase.

use crate::record::{FieldName, ObjectName, SystemName};
use crate::rules::SyncRules;
use crate::schema::Schema;
use serde::Serialize;

/// An index that would help.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MissingIndex {
    /// The system.
    pub system: SystemName,
    /// The object.
    pub object: ObjectName,
    /// The fields, in the index's order.
    pub fields: Vec<FieldName>,
    /// What looks records up by them.
    pub purpose: &'static str,
}

/// The indexes that a sync would need and its members do not have.
pub(super) fn missing(rules: &SyncRules) -> Vec<MissingIndex> {
    let mut missing = Vec::new();
    for (place, member) in rules.members.iter().enumerate() {
        let matched: Vec<FieldName> =
            rules.match_on.iter().filter_map(|rule| rules.at(place, rule.field)).map(|at| at.name.clone()).collect();
        if !matched.is_empty() && !is_indexed(&member.schema, &matched) {
            missing.push(MissingIndex {
                system: member.system.clone(),
                object: member.object.clone(),
                fields: matched,
                purpose: "records are matched by it",
            });
        }
    }
    missing
}

/// Whether the first fields of some index, key or unique set are among these: enough to find few records.
fn is_indexed(schema: &Schema, fields: &[FieldName]) -> bool {
    let keys = schema.indexes.iter().chain(&schema.unique).chain(std::iter::once(&schema.key));
    keys.into_iter().any(|index| index.first().is_some_and(|first| fields.contains(first)))
}
