//! Collections: up to 200 records in one call, each with a result of its own, in the order of the request.

use super::{Call, Result, Sub, record};
use crate::net::http::Answer;
use crate::salesforce::dml::{Fields, Refused, Writer};
use crate::salesforce::errors::{ApiError, RecordError};
use crate::salesforce::ids::Id;
use crate::salesforce::schema::Object;
use crate::salesforce::soql::rows::{Plan, Row, Versioned};
use crate::salesforce::state::State;
use crate::salesforce::values::read::Given;
use serde_json::{Value as Json, json};
use std::collections::HashMap;
use std::sync::Arc;

/// Most records of a call that writes.
const RECORDS_MAX: usize = 200;
/// Most records of a call that reads.
const READ_MAX: usize = 2_000;
/// Most runs of records of one type.
const CHUNKS_MAX: usize = 10;

/// One record's result: its id, and whether it was created where that is told.
type Outcome = std::result::Result<(Id, Option<bool>), Refused>;

/// What is done about one record.
type Step<'a> = Box<dyn Fn(&mut Writer<'_>) -> Outcome + 'a>;

/// Answers a request under /composite/sobjects.
pub fn handle(call: &Call<'_>, state: &mut State, sub: &Sub<'_>) -> Result<Answer> {
    let parts: Vec<&str> = sub.path.iter().skip(2).map(String::as_str).collect();
    match (sub.method, parts.as_slice()) {
        ("POST", []) => write(call, state, sub, None),
        ("PATCH", []) => write(call, state, sub, Some(None)),
        ("PATCH", [object, key]) => write(call, state, sub, Some(Some((object, key)))),
        ("DELETE", []) => delete(call, state, sub),
        ("POST" | "GET", [object]) => read(call, state, sub, object),
        _ => Err(ApiError::method()),
    }
}

/// `key`: none creates, `None` updates, a type and a field upserts.
fn write(call: &Call<'_>, state: &mut State, sub: &Sub<'_>, key: Option<Option<(&str, &str)>>) -> Result<Answer> {
    let body = sub.json()?;
    let all_or_none = body.get("allOrNone").and_then(Json::as_bool).unwrap_or(false);
    let records = body.get("records").and_then(Json::as_array);
    let records = records.ok_or_else(|| ApiError::bad("JSON_PARSER_ERROR", "records is required"))?;
    bounded(records.len(), RECORDS_MAX)?;
    let mut items: Vec<(Arc<Object>, Fields, Json)> = Vec::new();
    let mut chunks = 0;
    for entry in records {
        let name = entry.pointer("/attributes/type").and_then(Json::as_str).unwrap_or("");
        let object = state
            .data
            .schema
            .object(name)
            .cloned()
            .ok_or_else(|| ApiError::bad("INVALID_TYPE", format!("sObject type '{name}' is not supported.")))?;
        if items.last().is_none_or(|(last, ..)| last.name != object.name) {
            chunks += 1;
        }
        items.push((object, record::fields(entry)?, entry.clone()));
    }
    if chunks > CHUNKS_MAX {
        let message = format!("The request has {chunks} chunks of records of one type, at most {CHUNKS_MAX}");
        return Err(ApiError::bad("INVALID_BATCH_SIZE", message));
    }
    let doubled = key.flatten().map(|(_, key)| doubled(&items, key)).unwrap_or_default();
    let steps: Vec<Step<'_>> = items
        .iter()
        .enumerate()
        .map(|(at, (object, fields, entry))| -> Step<'_> {
            match key {
                None => Box::new(move |writer| writer.insert(object, fields).map(|id| (id, None))),
                Some(None) => Box::new(move |writer| {
                    let id = own_id(entry).ok_or_else(|| missing("Id not specified in an update call"))?;
                    writer.update(object, id, fields).map(|id| (id, None))
                }),
                Some(Some((_, key))) => {
                    let doubled = doubled.get(&at).cloned();
                    Box::new(move |writer| upsert(writer, object, key, fields, doubled.as_deref()))
                }
            }
        })
        .collect();
    let results = run(call, state, all_or_none, &steps);
    Ok(Answer::json(200, &results.iter().map(|outcome| shown(outcome, key.flatten().is_some())).collect::<Vec<Json>>()))
}

/// Values of the key that more than one record of the request has.
fn doubled(items: &[(Arc<Object>, Fields, Json)], key: &str) -> HashMap<usize, String> {
    let value = |fields: &Fields| {
        fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).and_then(|(_, given)| match given {
            Given::Json(Json::String(text)) => Some(text.trim().to_lowercase()),
            Given::Json(Json::Null) => None,
            Given::Json(other) => Some(other.to_string()),
            _ => None,
        })
    };
    let values: Vec<Option<String>> = items.iter().map(|(_, fields, _)| value(fields)).collect();
    let mut counts: HashMap<&String, usize> = HashMap::new();
    for value in values.iter().flatten() {
        *counts.entry(value).or_default() += 1;
    }
    let several = |(at, value): (usize, &Option<String>)| {
        let value = value.as_ref()?;
        (counts.get(value).copied().unwrap_or(0) > 1).then(|| (at, value.clone()))
    };
    values.iter().enumerate().filter_map(several).collect()
}

fn upsert(writer: &mut Writer<'_>, object: &Arc<Object>, key: &str, fields: &Fields, doubled: Option<&str>) -> Outcome {
    if let Some(value) = doubled {
        let message = format!("Duplicate external id specified: {value}");
        return Err(vec![RecordError::on("DUPLICATE_VALUE", message, key)]);
    }
    let by_id = key.eq_ignore_ascii_case("Id");
    if !by_id && fields.iter().any(|(name, given)| name.eq_ignore_ascii_case("Id") && !matches!(given, Given::Json(Json::Null))) {
        return Err(vec![RecordError::new("INVALID_FIELD", "cannot specify Id in an upsert by an external id")]);
    }
    let value = fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, given)| given.clone());
    let value = match value {
        Some(value) => value,
        None if by_id => Given::Null,
        None => return Err(missing(&format!("{key} not specified"))),
    };
    let others: Fields = fields.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(key)).cloned().collect();
    writer.upsert(object, key, &value, &others).map(|(id, created)| (id, Some(created)))
}

fn delete(call: &Call<'_>, state: &mut State, sub: &Sub<'_>) -> Result<Answer> {
    let ids: Vec<&str> = sub.parameter("ids").unwrap_or("").split(',').map(str::trim).filter(|id| !id.is_empty()).collect();
    if ids.is_empty() {
        return Err(ApiError::bad("MISSING_ARGUMENT", "ids is required"));
    }
    bounded(ids.len(), RECORDS_MAX)?;
    let all_or_none = sub.parameter("allOrNone").is_some_and(|text| text.eq_ignore_ascii_case("true"));
    let items: Vec<_> = ids
        .iter()
        .map(|text| {
            let id = Id::parse(text);
            (id.and_then(|id| Some((id, state.data.schema.object_of(&id)?.clone()))), *text)
        })
        .collect();
    let steps: Vec<Step<'_>> = items
        .iter()
        .map(|(found, text)| -> Step<'_> {
            match found {
                Some((id, object)) => Box::new(move |writer| writer.delete(object, *id).map(|id| (id, None))),
                None => Box::new(move |_| Err(vec![RecordError::new("MALFORMED_ID", format!("malformed id {text}"))])),
            }
        })
        .collect();
    let results = run(call, state, all_or_none, &steps);
    Ok(Answer::json(200, &results.iter().map(|outcome| shown(outcome, false)).collect::<Vec<Json>>()))
}

/// Runs every step in one transaction; where all must succeed, a failure takes back the others.
fn run(call: &Call<'_>, state: &mut State, all_or_none: bool, steps: &[Step<'_>]) -> Vec<Outcome> {
    call.write(state, |writer| {
        let point = writer.point();
        let mut results: Vec<Outcome> = steps.iter().map(|step| step(writer)).collect();
        if all_or_none && results.iter().any(std::result::Result::is_err) {
            writer.take_back(point);
            for result in results.iter_mut().filter(|result| result.is_ok()) {
                let message = "Record rolled back because not all records were valid and the request was using AllOrNone header";
                *result = Err(vec![RecordError::new("ALL_OR_NONE_OPERATION_ROLLED_BACK", message)]);
            }
        }
        results
    })
}

fn shown(outcome: &Outcome, upsert: bool) -> Json {
    match outcome {
        Ok((id, Some(created))) if upsert => json!({"id": id.to_string(), "success": true, "errors": [], "created": created}),
        Ok((id, _)) => json!({"id": id.to_string(), "success": true, "errors": []}),
        Err(errors) => json!({"success": false, "errors": errors}),
    }
}

fn read(call: &Call<'_>, state: &State, sub: &Sub<'_>, object: &str) -> Result<Answer> {
    let object = state.data.schema.object(object).cloned().ok_or_else(ApiError::not_found)?;
    let list = |text: &str| text.split(',').map(|part| part.trim().to_string()).collect::<Vec<_>>();
    let (ids, fields) = if sub.method == "POST" {
        let body = sub.json()?;
        let texts = |key: &str| {
            let all = body.get(key).and_then(Json::as_array).cloned().unwrap_or_default();
            all.iter().filter_map(Json::as_str).map(String::from).collect::<Vec<_>>()
        };
        (texts("ids"), texts("fields"))
    } else {
        (list(sub.parameter("ids").unwrap_or("")), list(sub.parameter("fields").unwrap_or("")))
    };
    bounded(ids.len(), READ_MAX)?;
    let names: Vec<&str> = fields.iter().map(String::as_str).collect();
    let plan = Plan::of_fields(&state.data, &object, &names)?;
    let find = |text: &String| Id::parse(text).and_then(|id| state.data.store.shared(&object.name, &id));
    let rows: Vec<Option<Row>> = ids
        .iter()
        .map(|text| find(text).filter(|record| !record.is_deleted()))
        .map(|found| found.map(|record| plan.row(&state.data, record, call.org.clock.now_ms())))
        .collect();
    let shown: Vec<Option<Versioned<'_>>> = rows.iter().map(|row| row.as_ref().map(|row| Versioned(row, call.version))).collect();
    Ok(Answer::json(200, &shown))
}

fn own_id(entry: &Json) -> Option<Id> {
    let entry = entry.as_object()?;
    let (_, id) = entry.iter().find(|(name, _)| name.eq_ignore_ascii_case("id"))?;
    Id::parse(id.as_str()?)
}

fn missing(words: &str) -> Refused {
    vec![RecordError::new("MISSING_ARGUMENT", words)]
}

fn bounded(count: usize, max: usize) -> Result<()> {
    if count > max {
        return Err(ApiError::bad(
            "EXCEEDED_ID_LIMIT",
            format!("record limit reached. cannot submit more than {max} records into this call"),
        ));
    }
    Ok(())
}
