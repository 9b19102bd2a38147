//! The JSON Schema of the language: generated from the types that parse it, and widened by the table of other forms, so
//! that an editor accepts exactly what the parser accepts.

use super::forms::{FORMS, Form};
use super::vocabulary::{CANONICAL, Scope};
use serde_json::{Map, Value, json};

/// The JSON Schema of the whole language, with descriptions.
pub fn json_schema() -> Value {
    let mut schema = CANONICAL.clone();
    // Items before the lists that hold them, lists before the other names that they have.
    let rounds = [is_item_form as fn(&Form) -> bool, is_value_form, is_spread, is_alias];
    for round in rounds {
        for (scope, form) in FORMS.iter().filter(|(_, form)| round(form)) {
            widen(&mut schema, *scope, *form);
        }
    }
    widen_transformations(&mut schema);
    gather(&mut schema, "Connection", "Credentials");
    gather(&mut schema, "Member", "Connection");
    widen_members(&mut schema);
    add_wrappers(&mut schema);
    complete_root(&mut schema);
    schema
}

fn is_item_form(form: &Form) -> bool {
    matches!(form, Form::Items { .. } | Form::Spelling { .. })
}

fn is_value_form(form: &Form) -> bool {
    matches!(form, Form::Short { .. } | Form::One { .. })
}

fn is_spread(form: &Form) -> bool {
    matches!(form, Form::Spread { .. })
}

fn is_alias(form: &Form) -> bool {
    matches!(form, Form::Alias { .. })
}

fn widen(schema: &mut Value, scope: Scope, form: Form) {
    match form {
        Form::Alias { from, to } => {
            let Some(meaning) = at(schema, scope, to).cloned() else { return };
            let key = from.last().copied().unwrap_or_default();
            let around = from.split_last().map_or(&[][..], |(_, around)| around);
            if let Some(owner) = object_at(schema, scope, around) {
                set_property(owner, key, meaning);
            }
        }
        Form::Short { at: path, inner } => {
            let Some(short) = at(schema, scope, &[path, &[inner]].concat()).cloned() else { return };
            replace(schema, scope, path, |canonical| json!({ "anyOf": [canonical, short] }));
        }
        Form::One { at: path } => replace(schema, scope, path, |canonical| {
            let item = canonical.get("items").cloned().unwrap_or(Value::Bool(true));
            json!({ "anyOf": [canonical, item] })
        }),
        Form::Items { at: path, .. } => {
            replace(schema, scope, path, |canonical| with_other_items(canonical, &json!({ "type": "string" })));
        }
        Form::Spelling { at: path, from, .. } => {
            let spelling = json!({ "const": from });
            replace(schema, scope, path, |canonical| match canonical.get("items") {
                Some(_) => with_other_items(canonical, &spelling),
                None => json!({ "anyOf": [canonical, spelling] }),
            });
        }
        Form::Spread { key, own } => {
            let mut spread = Map::new();
            for other in ["include_fields", "exclude_fields"] {
                spread.extend(at(schema, scope, &[other]).map(|meaning| (other.to_owned(), meaning.clone())));
            }
            replace(schema, scope, &[key], |canonical| {
                let mut properties = spread.clone();
                properties.insert(own.to_owned(), canonical.clone());
                json!({ "anyOf": [canonical, { "type": "object", "properties": properties, "additionalProperties": false }] })
            });
        }
        Form::Wrapper { .. } | Form::Gather { .. } => {}
    }
}

/// A list whose items can also be something else.
fn with_other_items(list: &Value, other: &Value) -> Value {
    let mut wider = list.clone();
    if let Some(items) = wider.get_mut("items") {
        *items = json!({ "anyOf": [items.clone(), other] });
    }
    wider
}

fn replace(schema: &mut Value, scope: Scope, path: &[&str], change: impl Fn(&Value) -> Value) {
    if let Some(found) = at_mut(schema, scope, path) {
        let description = found.get("description").cloned();
        let mut wider = change(found);
        if let (Some(description), Some(object)) = (description, wider.as_object_mut()) {
            object.insert("description".to_owned(), description);
        }
        *found = wider;
    }
}

fn named<'a>(schema: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    if name.is_empty() { Some(schema) } else { schema.get_mut("$defs")?.get_mut(name) }
}

/// The schema of the object at a path, through references.
fn object_at<'a>(schema: &'a mut Value, scope: Scope, path: &[&str]) -> Option<&'a mut Value> {
    let mut name = scope.type_name().to_owned();
    for key in path {
        let property = named(schema, &name)?.get("properties")?.get(*key)?;
        name = reference(property)?;
    }
    named(schema, &name)
}

/// The name of the type that a property refers to, directly or as the first of alternatives.
fn reference(property: &Value) -> Option<String> {
    if let Some(reference) = property.get("$ref").and_then(Value::as_str) {
        return reference.rsplit('/').next().map(str::to_owned);
    }
    let alternatives = property.get("anyOf").or_else(|| property.get("allOf"))?.as_array()?;
    alternatives.iter().find_map(reference)
}

fn at<'a>(schema: &'a mut Value, scope: Scope, path: &[&str]) -> Option<&'a Value> {
    at_mut(schema, scope, path).map(|found| &*found)
}

fn at_mut<'a>(schema: &'a mut Value, scope: Scope, path: &[&str]) -> Option<&'a mut Value> {
    let (last, around) = path.split_last()?;
    object_at(schema, scope, around)?.get_mut("properties")?.get_mut(*last)
}

/// The properties of an object's schema; of anything else, none.
fn properties_of(object: &Value) -> Map<String, Value> {
    object.get("properties").and_then(Value::as_object).cloned().unwrap_or_default()
}

/// Adds a property to an object's schema, or replaces it.
fn set_property(object: &mut Value, key: &str, value: Value) {
    if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert(key.to_owned(), value);
    }
}

/// Whatever stands in `inner` can stand in `outer` as well.
fn gather(schema: &mut Value, outer: &str, inner: &str) {
    let more = named(schema, inner).map(|object| properties_of(object)).unwrap_or_default();
    let Some(object) = named(schema, outer) else { return };
    for (key, value) in more {
        if !properties_of(object).contains_key(&key) {
            set_property(object, &key, value);
        }
    }
}

/// A transformation by name, as a call, as an object with one key, or as a list of these.
fn widen_transformations(schema: &mut Value) {
    let Some(property) = at_mut(schema, Scope::Mapping, &["transformation"]) else { return };
    let description = property.get("description").cloned().unwrap_or_default();
    let step = json!({ "anyOf": [{ "$ref": "#/$defs/Transformation" }, { "type": "string" }, { "type": "object" }] });
    *property = json!({ "description": description, "anyOf": [{ "type": "array", "items": step }, step] });
}

/// A member can be text, need not name a system where it brings a connection, and can be spread over documents.
fn widen_members(schema: &mut Value) {
    for name in ["Member", "Connection", "ConnectedSystem", "SyncConfig"] {
        if let Some(object) = named(schema, name).and_then(Value::as_object_mut) {
            object.shift_remove("required");
        }
    }
    for side in ["source", "target"] {
        replace(schema, Scope::Sync, &[side], |canonical| json!({ "anyOf": [canonical, { "type": "string" }] }));
    }
}

/// Wrappers hold whatever the object around them can hold.
fn add_wrappers(schema: &mut Value) {
    let wrappers = FORMS.iter().filter_map(|(scope, form)| match form {
        Form::Wrapper { key } => Some((*scope, *key)),
        _ => None,
    });
    for (scope, key) in wrappers {
        let Some(object) = named(schema, scope.type_name()) else { continue };
        let inside = properties_of(object);
        let description = "The settings inside mean the same as outside.";
        let wrapper = json!({
            "description": description, "type": "object", "properties": inside, "additionalProperties": false
        });
        set_property(object, key, wrapper);
    }
}

/// A document can be one sync, part of one, or many; settings of the process need no wrapper.
fn complete_root(schema: &mut Value) {
    for name in ["SyncConfig", "ProcessSettings"] {
        gather(schema, "", name);
    }
    let sync = json!({ "$ref": "#/$defs/SyncConfig" });
    set_property(schema, "$schema", json!({ "type": "string" }));
    replace(schema, Scope::Root, &["syncs"], |canonical| json!({ "anyOf": [canonical, sync] }));
    if let Some(object) = schema.as_object_mut() {
        object.insert("title".to_owned(), json!("Concord configuration"));
    }
}
