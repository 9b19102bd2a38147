//! Trees: up to 200 new records in one call, children beneath their parents. All of them are made, or none.

use super::{Call, Result, Sub, record};
use crate::net::http::Answer;
use crate::salesforce::dml::{Fields, Refused, Writer};
use crate::salesforce::errors::{ApiError, RecordError};
use crate::salesforce::ids::Id;
use crate::salesforce::schema::{Field, Object};
use crate::salesforce::state::{Data, State};
use crate::salesforce::values::read::Given;
use serde_json::{Map, Value as Json, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Most records of all trees.
const RECORDS_MAX: usize = 200;
/// Most levels of a tree.
const LEVELS_MAX: usize = 5;
/// Most types of records.
const TYPES_MAX: usize = 5;

/// A record to be made.
struct Node {
    reference: String,
    object: Arc<Object>,
    fields: Fields,
    /// The parent's place in the list, and the field that refers to it.
    parent: Option<(usize, String)>,
    level: usize,
}

/// What of a tree's records is wrong: by their reference ids.
type Wrong = Vec<(String, Refused)>;

/// Answers POST /composite/tree/{type}.
pub fn handle(call: &Call<'_>, state: &mut State, sub: &Sub<'_>, name: &str) -> Result<Answer> {
    if sub.method != "POST" {
        return Err(ApiError::method());
    }
    let object = state.data.schema.object(name).cloned().ok_or_else(ApiError::not_found)?;
    let body = sub.json()?;
    let records = body.get("records").and_then(Json::as_array).filter(|records| !records.is_empty());
    let records = records.ok_or_else(|| ApiError::bad("JSON_PARSER_ERROR", "records is required"))?;
    let mut nodes = Vec::new();
    for entry in records {
        grow(&state.data, &mut nodes, entry, &object, None, 1)?;
    }
    bounded(&nodes)?;
    let wrong = misnamed(&nodes);
    if !wrong.is_empty() {
        return Ok(refused(&wrong));
    }
    let order = order(&nodes);
    Ok(match call.write(state, |writer| make(writer, &nodes, &order)) {
        Ok(ids) => {
            let made = |at: &usize| Some(json!({"referenceId": nodes.get(*at)?.reference, "id": ids.get(at)?.to_string()}));
            let results: Vec<Json> = order.iter().flatten().filter_map(made).collect();
            Answer::json(201, &json!({"hasErrors": false, "results": results}))
        }
        Err(wrong) => refused(&wrong),
    })
}

fn refused(wrong: &[(String, Refused)]) -> Answer {
    let results: Vec<Json> =
        wrong.iter().map(|(reference, errors)| json!({"referenceId": reference, "errors": errors})).collect();
    Answer::json(400, &json!({"hasErrors": true, "results": results}))
}

/// Adds a record and its children.
fn grow(
    data: &Data,
    nodes: &mut Vec<Node>,
    entry: &Json,
    object: &Arc<Object>,
    parent: Option<(usize, String)>,
    level: usize,
) -> Result<()> {
    let kind = entry.pointer("/attributes/type").and_then(Json::as_str).unwrap_or("");
    if !kind.eq_ignore_ascii_case(&object.name) {
        return Err(ApiError::bad(
            "INVALID_INPUT",
            format!("a record of type '{kind}' stands where {} is expected", object.name),
        ));
    }
    let Json::Object(entry) = entry else {
        return Err(ApiError::bad("JSON_PARSER_ERROR", "a record is required to be an object"));
    };
    let (children, own): (Vec<_>, Vec<_>) = entry.iter().partition(|(_, value)| value.get("records").is_some());
    let own: Map<String, Json> = own.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let reference = own.get("attributes").and_then(|all| all.get("referenceId")).and_then(Json::as_str).unwrap_or("");
    let at = nodes.len();
    let (reference, fields) = (reference.to_string(), record::fields(&Json::Object(own.clone()))?);
    nodes.push(Node { reference, object: object.clone(), fields, parent, level });
    for (name, value) in children {
        let named = |field: &Field| field.child_relationship.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(name));
        let (child, field) = data.schema.children(&object.name).find(|(_, field)| named(field)).ok_or_else(|| {
            ApiError::bad("INVALID_FIELD", format!("No such relationship '{name}' on sobject of type {}", object.name))
        })?;
        for entry in value.get("records").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default() {
            grow(data, nodes, entry, child, Some((at, field.name.clone())), level + 1)?;
        }
    }
    Ok(())
}

fn bounded(nodes: &[Node]) -> Result<()> {
    let mut types: Vec<&str> = nodes.iter().map(|node| node.object.name.as_str()).collect();
    types.sort_unstable();
    types.dedup();
    let levels = nodes.iter().map(|node| node.level).max().unwrap_or(0);
    if nodes.len() > RECORDS_MAX || levels > LEVELS_MAX || types.len() > TYPES_MAX {
        let most = format!("at most {RECORDS_MAX} records of {TYPES_MAX} types, {LEVELS_MAX} levels deep");
        return Err(ApiError::bad("INVALID_INPUT", most));
    }
    Ok(())
}

/// Records without a reference id, and each of those that share one.
fn misnamed(nodes: &[Node]) -> Wrong {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for node in nodes {
        *counts.entry(&node.reference).or_default() += 1;
    }
    let wrong = nodes.iter().filter_map(|node| {
        let words = match counts.get(node.reference.as_str()).copied() {
            _ if node.reference.is_empty() => "Include a reference ID for each record in the request.",
            Some(2..) => "Duplicate ReferenceId provided in the request.",
            _ => return None,
        };
        Some((node.reference.clone(), vec![RecordError::new("INVALID_INPUT", words)]))
    });
    wrong.collect()
}

/// Level by level, the records of one type together: so they are made, and so they are told.
fn order(nodes: &[Node]) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
    let mut types: Vec<&str> = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        let name = node.object.name.as_str();
        let kind = types.iter().position(|known| *known == name).unwrap_or(types.len());
        if kind == types.len() {
            types.push(name);
        }
        groups.entry((node.level, kind)).or_default().push(at);
    }
    groups.into_values().collect()
}

/// Makes them group by group; the first group in which any is refused ends it, and takes everything back.
fn make(writer: &mut Writer<'_>, nodes: &[Node], order: &[Vec<usize>]) -> std::result::Result<HashMap<usize, Id>, Wrong> {
    let point = writer.point();
    let mut ids: HashMap<usize, Id> = HashMap::new();
    for group in order {
        let mut wrong = Wrong::new();
        for at in group {
            let Some(node) = nodes.get(*at) else { continue };
            let mut fields = node.fields.clone();
            if let Some((id, field)) = node.parent.as_ref().and_then(|(parent, field)| Some((ids.get(parent)?, field))) {
                fields.retain(|(name, _)| !name.eq_ignore_ascii_case(field));
                fields.push((field.clone(), Given::Json(Json::String(id.to_string()))));
            }
            match writer.insert(&node.object, &fields) {
                Ok(id) => {
                    ids.insert(*at, id);
                }
                Err(errors) => wrong.push((node.reference.clone(), errors)),
            }
        }
        if !wrong.is_empty() {
            writer.take_back(point);
            return Err(wrong);
        }
    }
    Ok(ids)
}
