//! What a generated schema says of a value: kinds, alternatives, texts out of a list, tags. Only reads schemas; what is
//! wrong with a value is said by `shape`.

use super::node::{Kind, Node};
use super::vocabulary::definition;
use serde_json::Value;

/// Follows a reference, and names the type that it leads to.
pub(super) fn resolve(schema: &'static Value) -> (&'static Value, &'static str) {
    match schema.get("$ref").and_then(Value::as_str).and_then(|reference| reference.rsplit('/').next()) {
        Some(name) => (definition(name), name),
        None => (schema, ""),
    }
}

/// The alternatives of a schema that has some, `null` left out: a setting that is not there is left out, not null.
pub(super) fn alternatives(schema: &'static Value) -> Option<Vec<&'static Value>> {
    let list = schema.get("oneOf").or_else(|| schema.get("anyOf"))?.as_array()?;
    Some(list.iter().filter(|alternative| alternative.get("type").and_then(Value::as_str) != Some("null")).collect())
}

pub(super) fn expected_kinds(schema: &'static Value) -> Vec<&'static str> {
    match schema.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).filter(|kind| *kind != "null").collect(),
        _ => Vec::new(),
    }
}

/// The kinds of value that a schema lets in, looking through references and alternatives.
pub(super) fn kinds_of(schema: &'static Value) -> Vec<&'static str> {
    let (schema, _) = resolve(schema);
    match alternatives(schema) {
        Some(alternatives) => alternatives.into_iter().flat_map(kinds_of).collect(),
        None => expected_kinds(schema),
    }
}

pub(super) fn fits(node: &Node, kind: &str) -> bool {
    match (&node.kind, kind) {
        (Kind::Null, "null")
        | (Kind::Bool(_), "boolean")
        | (Kind::Text(_), "string")
        | (Kind::List(_), "array")
        | (Kind::Table(_), "object")
        | (Kind::Number(_), "number") => true,
        (Kind::Number(number), "integer") => !number.is_f64(),
        _ => false,
    }
}

pub(super) fn in_words(kind: &str) -> &'static str {
    match kind {
        "boolean" => "true or false",
        "string" => "text",
        "array" => "a list",
        "object" => "an object",
        "number" => "a number",
        "integer" => "a whole number",
        _ => "null",
    }
}

pub(super) fn alternatives_in_words(alternatives: &[&'static Value]) -> String {
    let mut words: Vec<String> = Vec::new();
    for alternative in alternatives {
        let (schema, _) = resolve(alternative);
        let kinds = kinds_of(alternative);
        let keys: Vec<&str> = required(schema).collect();
        let word = match (kinds.as_slice(), keys.as_slice()) {
            _ if tag_of(alternative).is_some() => {
                tag_of(alternative).map(|(tag, _)| format!("{{\"{tag}\": …}}")).unwrap_or_default()
            }
            (["object"], [key]) => format!("{{\"{key}\": …}}"),
            (kinds, _) => kinds.iter().map(|kind| in_words(kind)).collect::<Vec<&str>>().join(" or "),
        };
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words.join(" or ")
}

pub(super) fn required(schema: &'static Value) -> impl Iterator<Item = &'static str> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

pub(super) fn enumerated(schema: &'static Value) -> Option<Vec<&'static str>> {
    if let Some(only) = schema.get("const").and_then(Value::as_str) {
        return Some(vec![only]);
    }
    schema.get("enum")?.as_array().map(|values| values.iter().filter_map(Value::as_str).collect())
}

/// The values of alternatives that are all texts out of a list.
pub(super) fn all_enumerated(alternatives: &[&'static Value]) -> Option<Vec<&'static str>> {
    let lists: Option<Vec<Vec<&'static str>>> = alternatives
        .iter()
        .map(|alternative| {
            let (schema, _) = resolve(alternative);
            match self::alternatives(schema) {
                Some(inner) => all_enumerated(&inner),
                None => enumerated(schema),
            }
        })
        .collect();
    lists.map(|lists| lists.into_iter().flatten().collect()).filter(|values: &Vec<&str>| !values.is_empty())
}

/// The key that tells alternatives apart, and the name that it has for this one.
pub(super) fn tag_of(alternative: &'static Value) -> Option<(&'static str, &'static str)> {
    let (schema, _) = resolve(alternative);
    let known = schema.get("properties")?.as_object()?;
    known.iter().find_map(|(key, value)| Some((key.as_str(), value.get("const")?.as_str()?)))
}
