//! Which fields of the two sides correspond: those that a mapping names, those that are included by name, and those of
//! equal name where all are wanted. Says nothing yet of types or directions.

use super::compile::Subject;
use super::notes::Notes;
use crate::config::{FieldMapping, FieldSelection};
use crate::error::Code;
use crate::record::FieldName;
use crate::schema::{Field, Schema};
use std::collections::BTreeSet;

/// Fields that correspond: one on each side, or several on one.
#[derive(Clone, Debug)]
pub(super) struct Pair<'a> {
    /// The source's fields.
    pub source: Vec<&'a Field>,
    /// The target's fields.
    pub target: Vec<&'a Field>,
    /// What was written about them, if anything was.
    pub mapping: Option<&'a FieldMapping>,
    /// The place of that below the sync.
    pub path: String,
}

/// Names are the same when they differ in case and punctuation alone.
pub(super) fn plain(name: &str) -> String {
    name.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Every correspondence, mapped ones first, in the order of the configuration and then of the source's schema.
pub(super) fn pairs<'a>(subject: &Subject<'a>, notes: &mut Notes<'_>) -> Vec<Pair<'a>> {
    let sync = subject.sync;
    let (source, target) = (&subject.facts.0.schema, &subject.facts.1.schema);
    let mut pairs: Vec<Pair<'a>> = Vec::new();
    for (index, mapping) in sync.field_mappings.iter().enumerate() {
        let path = format!("/field_mappings/{index}");
        let sources = named(&mapping.source, source, subject.system_name(0), &format!("{path}/source"), notes);
        let targets = named(&mapping.target, target, subject.system_name(1), &format!("{path}/target"), notes);
        if let (Some(source), Some(target)) = (sources, targets) {
            pairs.push(Pair { source, target, mapping: Some(mapping), path });
        }
    }
    include_named(subject, &mut pairs, notes);
    if sync.field_selection == Some(FieldSelection::All) {
        include_equal_names(subject, &mut pairs);
    }
    for (index, name) in sync.exclude_fields.iter().enumerate() {
        if source.field(name).is_none() && target.field(name).is_none() {
            notes.field_missing(&format!("/exclude_fields/{index}"), name, subject.system_name(0), source);
        }
    }
    if pairs.is_empty() && !notes.has_errors() {
        let message = format!("`{}` and `{}` have no field in common", source.object, target.object);
        notes.error("", Code::PlanNoFields, message, "Name the fields that correspond in `field_mappings`.");
    }
    pairs
}

fn named<'a>(names: &[FieldName], schema: &'a Schema, system: &str, path: &str, notes: &mut Notes<'_>) -> Option<Vec<&'a Field>> {
    let mut found = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        match schema.field(name.as_str()) {
            Some(field) => found.push(field),
            None => notes.field_missing(&format!("{path}/{index}"), name.as_str(), system, schema),
        }
    }
    (found.len() == names.len()).then_some(found)
}

/// Fields that `include_fields` names, each by either side's name.
fn include_named<'a>(subject: &Subject<'a>, pairs: &mut Vec<Pair<'a>>, notes: &mut Notes<'_>) {
    let (source, target) = (&subject.facts.0.schema, &subject.facts.1.schema);
    for (index, name) in subject.sync.include_fields.iter().enumerate() {
        let path = format!("/include_fields/{index}");
        if pairs.iter().any(|pair| pair.source.iter().chain(&pair.target).any(|field| field.name.as_str() == name)) {
            continue;
        }
        match (like(source, name), like(target, name)) {
            (Some(source), Some(target)) => pairs.push(Pair { source: vec![source], target: vec![target], mapping: None, path }),
            (None, _) => notes.field_missing(&path, name, subject.system_name(0), source),
            (_, None) => notes.field_missing(&path, name, subject.system_name(1), target),
        }
    }
}

/// The field of this name, or the only one that differs from it in case and punctuation alone.
fn like<'a>(schema: &'a Schema, name: &str) -> Option<&'a Field> {
    if let Some(exact) = schema.field(name) {
        return Some(exact);
    }
    let mut alike = schema.fields.iter().filter(|field| plain(field.name.as_str()) == plain(name));
    match (alike.next(), alike.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

/// Every field that both sides have under one name and that nothing else has spoken of. A key that a system makes up on
/// its own is left out: equal names do not make two sequences one.
fn include_equal_names<'a>(subject: &Subject<'a>, pairs: &mut Vec<Pair<'a>>) {
    let (source, target) = (&subject.facts.0.schema, &subject.facts.1.schema);
    let excluded: BTreeSet<&str> = subject.sync.exclude_fields.iter().map(String::as_str).collect();
    let is_free = |pairs: &[Pair<'a>], field: &Field, of_source: bool| {
        let taken = |pair: &Pair<'a>| {
            let side = if of_source { &pair.source } else { &pair.target };
            side.iter().any(|taken| taken.name == field.name)
        };
        !excluded.contains(field.name.as_str())
            && subject.sync.soft_delete_field.as_ref() != Some(&field.name)
            && !pairs.iter().any(taken)
    };
    for field in &source.fields {
        let Some(other) = like(target, field.name.as_str()) else { continue };
        let is_made_up = makes_up_key(source, field) || makes_up_key(target, other);
        if is_free(pairs, field, true) && is_free(pairs, other, false) && !is_made_up {
            pairs.push(Pair { source: vec![field], target: vec![other], mapping: None, path: "/field_mappings".into() });
        }
    }
}

/// Whether a field is a key that the system fills on its own.
pub(super) fn makes_up_key(schema: &Schema, field: &Field) -> bool {
    schema.key.contains(&field.name) && (field.has_default || !field.creatable)
}
