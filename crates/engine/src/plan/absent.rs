//! What an object would have to look like that a sync names as its target and that is not there, so that its system can say
//! how it is made. Pure. Nothing is made by itself: a person reads the statement, and runs it.

use super::fields::flows;
use crate::config::{CastType, FieldMapping, FieldSelection, SyncConfig, Transformation};
use crate::record::{FieldName, ObjectName};
use crate::schema::{Field, Schema, Type};
use std::collections::BTreeSet;

/// Names for a key of the target's own, the first that is free.
const KEY_NAMES: [&str; 3] = ["id", "record_id", "concord_id"];

/// Text of any length.
const TEXT: Type = Type::Text { max_chars: None, padded: false, nul: false, empty: true };

/// The target of a sync as its mapping wants it, its source being as it is: the mapped fields with the types that arrive there;
/// where all fields take part, the others under their own names; the source's key, or one of the target's own where records
/// are made there whose key only the source can give. A native type is given where a value arrives as the source has it.
pub fn absent_target(sync: &SyncConfig, source: &Schema, object: &ObjectName) -> Schema {
    let mut fields: Vec<Field> = Vec::new();
    let mut mapped: BTreeSet<&str> = BTreeSet::new();
    let mut keys: Vec<(&FieldName, FieldName)> = Vec::new();
    for mapping in &sync.field_mappings {
        mapped.extend(mapping.source.iter().map(FieldName::as_str));
        let from = match mapping.source.as_slice() {
            [one] => source.field(one.as_str()),
            _ => None,
        };
        for name in &mapping.target {
            if !fields.iter().any(|known| known.name == *name) {
                fields.push(arriving(mapping, from, name));
            }
        }
        if let (Some(from), [name]) = (from, mapping.target.as_slice()) {
            keys.extend(source.key.contains(&from.name).then(|| (&from.name, name.clone())));
        }
    }
    for field in source.fields.iter().filter(|field| takes_part(sync, field) && !mapped.contains(field.name.as_str())) {
        if !fields.iter().any(|known| known.name == field.name) {
            fields.push(plain(field.clone()));
            keys.extend(source.key.contains(&field.name).then(|| (&field.name, field.name.clone())));
        }
    }
    if let Some(name) = sync.soft_delete_field.as_ref().filter(|name| !fields.iter().any(|known| known.name == **name)) {
        fields.push(Field { ty: Type::Bool, ..of_type(name.clone(), Type::Bool) });
    }
    let carried: Option<Vec<FieldName>> =
        source.key.iter().map(|key| Some(keys.iter().find(|(of, _)| *of == key)?.1.clone())).collect();
    let carried = carried.unwrap_or_default();
    let is_given_by_source = |name: &FieldName| source.field(name.as_str()).is_some_and(|field| !field.creatable);
    let needs_own = carried.is_empty() || (flows(sync).1 && source.key.iter().any(is_given_by_source));
    let mut schema = Schema { object: object.clone(), fields, key: Vec::new(), unique: Vec::new(), indexes: Vec::new() };
    let free = KEY_NAMES.iter().find(|name| schema.field(name).is_none());
    match free.filter(|_| needs_own && !source.key.is_empty()) {
        Some(own) => {
            let own = FieldName::from(*own);
            let field =
                Field { nullable: false, has_default: true, ..of_type(own.clone(), Type::Int { bits: 64, unsigned: false }) };
            schema.fields.insert(0, field);
            schema.key = vec![own];
            schema.unique.extend((!carried.is_empty()).then_some(carried));
        }
        None => {
            for field in schema.fields.iter_mut().filter(|field| carried.contains(&field.name)) {
                field.nullable = false;
            }
            schema.key = carried;
        }
    }
    schema
}

/// Whether a field that no mapping names takes part.
fn takes_part(sync: &SyncConfig, field: &Field) -> bool {
    let name = field.name.as_str();
    let is_included = sync.include_fields.iter().any(|included| included == name);
    let is_one_of_all = sync.field_selection == Some(FieldSelection::All) && !sync.exclude_fields.iter().any(|left| left == name);
    is_included || is_one_of_all
}

/// A field that holds what a mapping brings.
fn arriving(mapping: &FieldMapping, from: Option<&Field>, name: &FieldName) -> Field {
    let becomes = mapping.transformation.iter().rev().find_map(|step| match step {
        Transformation::None {} => None,
        Transformation::Cast { to } => Some(Some(cast(*to))),
        // Of the same type as what they are given, which is text.
        Transformation::Trim {} | Transformation::Lowercase {} | Transformation::Uppercase {} | Transformation::TitleCase {} => {
            None
        }
        _ => Some(None),
    });
    match (becomes, from) {
        (None, Some(field)) => plain(Field { name: name.clone(), ..field.clone() }),
        (Some(Some(ty)), _) => of_type(name.clone(), ty),
        _ => of_type(name.clone(), TEXT),
    }
}

/// A field as the target has it: nothing fills it but what is written.
fn plain(field: Field) -> Field {
    Field { creatable: true, updatable: true, has_default: false, origin: None, nullable: true, ..field }
}

fn of_type(name: FieldName, ty: Type) -> Field {
    Field {
        name,
        ty,
        native_type: String::new(),
        nullable: true,
        creatable: true,
        updatable: true,
        has_default: false,
        origin: None,
    }
}

fn cast(to: CastType) -> Type {
    match to {
        CastType::Text => TEXT,
        CastType::Integer => Type::Int { bits: 64, unsigned: false },
        CastType::Decimal => Type::Decimal { precision: None, scale: None, special: false },
        CastType::Float => Type::Float { bits: 64 },
        CastType::Boolean => Type::Bool,
        CastType::Date => Type::Date,
        CastType::Time => Type::Time { fraction_digits: 6, zone: false },
        CastType::Timestamp => Type::Timestamp { fraction_digits: 6 },
        CastType::TimestampTz => Type::TimestampTz { fraction_digits: 6 },
        CastType::Uuid => Type::Uuid,
        CastType::Json => Type::Json,
    }
}
