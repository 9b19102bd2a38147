//! Which indexes are missing that look-ups would need: on the key, on match fields and fields that must be unique, and on
//! the field by which a first run reads only what changed since. Names the fields; the statement that makes the index is
//! the connector's to phrase.

use super::compile::Subject;
use super::notes::Notes;
use crate::config::Diagnostic;
use crate::error::Code;
use crate::record::{FieldName, ObjectName, SystemName};
use crate::rules::{InitialStrategy, SyncRules};
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
    /// The statement that makes it, as the system's connector phrases it.
    pub statement: Option<String>,
}

/// The indexes that a sync would need and its members do not have.
pub(super) fn missing(rules: &SyncRules) -> Vec<MissingIndex> {
    let mut missing: Vec<MissingIndex> = Vec::new();
    for (place, member) in rules.members.iter().enumerate() {
        let names = |fields: &mut dyn Iterator<Item = usize>| -> Vec<FieldName> {
            fields.filter_map(|field| rules.at(place, field)).map(|at| at.name.clone()).collect()
        };
        let matched = names(&mut rules.match_on.iter().map(|rule| rule.field));
        let unique = rules.validation.iter().filter(|rule| rule.needs_lookup());
        let unique = unique.filter_map(|rule| rules.field(rule.field().as_str()));
        let since = matches!(rules.initial.strategy, InitialStrategy::Since(_));
        let cursor: Vec<FieldName> = member.edit_time_field.iter().filter(|_| since).cloned().collect();
        let mut wanted = vec![
            (member.schema.key.clone(), "records are read by it"),
            (matched, "records are matched by it"),
            (cursor, "what changed since is read by it"),
        ];
        wanted.extend(unique.map(|field| (names(&mut std::iter::once(field)), "it must be unique")));
        for (fields, purpose) in wanted {
            let known = missing.iter().any(|index| index.system == member.system && index.fields.first() == fields.first());
            if fields.is_empty() || known || is_indexed(&member.schema, &fields) {
                continue;
            }
            missing.push(MissingIndex {
                system: member.system.clone(),
                object: member.object.clone(),
                fields,
                purpose,
                statement: None,
            });
        }
    }
    missing
}

/// The advice to make an index.
pub fn index_advice(subject: &Subject<'_>, index: &MissingIndex) -> Diagnostic {
    let names: Vec<&str> = index.fields.iter().map(FieldName::as_str).collect();
    let message = format!("`{}` of `{}` has no index on {} ({})", index.object, index.system, names.join(", "), index.purpose);
    let remedy = match &index.statement {
        Some(statement) => format!("Without it every look-up reads the whole table. Make it:\n{statement}"),
        None => "Make an index on these fields; without it every look-up reads the whole table.".to_owned(),
    };
    let mut notes = Notes::new(subject);
    notes.warning("", Code::PlanIndexMissing, message, remedy);
    notes.all.swap_remove(0)
}

/// Whether the first fields of some index, key or unique set are among these: enough to find few records.
fn is_indexed(schema: &Schema, fields: &[FieldName]) -> bool {
    let keys = schema.indexes.iter().chain(&schema.unique).chain(std::iter::once(&schema.key));
    keys.into_iter().any(|index| index.first().is_some_and(|first| fields.contains(first)))
}
