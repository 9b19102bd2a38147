//! The Tooling API, as far as managed event subscriptions need it: made, changed and found by an administrator.

use super::{Call, Result, Sub};
use crate::net::http::Answer;
use crate::salesforce::errors::ApiError;
use crate::salesforce::ids::Id;
use crate::salesforce::pubsub::managed::Managed;
use crate::salesforce::pubsub::replay_preset;
use crate::salesforce::soql::parse::{self, Condition, Literal, Operator};
use crate::salesforce::state::State;
use serde_json::{Value as Json, json};

/// The one object that there is.
const OBJECT: &str = "ManagedEventSubscription";

/// Answers GET /tooling/query.
pub fn query(call: &Call<'_>, state: &State, sub: &Sub<'_>) -> Result<Answer> {
    let malformed = |words: String| ApiError::bad("MALFORMED_QUERY", words);
    let query = parse::query(sub.parameter("q").unwrap_or("")).map_err(malformed)?;
    known(&query.from)?;
    let condition = query.condition.as_ref();
    let mut found = Vec::new();
    for (id, managed) in state.managed.all() {
        if condition.map_or(Ok(true), |condition| meets(condition, *id, managed))? {
            found.push(shown(call, *id, managed));
        }
    }
    found.truncate(query.limit.unwrap_or(usize::MAX));
    Ok(Answer::json(
        200,
        &json!({"size": found.len(), "totalSize": found.len(), "done": true, "queryLocator": null, "entityTypeName": OBJECT,
            "records": found}),
    ))
}

/// Answers a request under /tooling/sobjects.
pub fn sobject(call: &Call<'_>, state: &mut State, sub: &Sub<'_>) -> Result<Answer> {
    let parts: Vec<&str> = sub.path.iter().skip(2).map(String::as_str).collect();
    known(parts.first().copied().unwrap_or(""))?;
    let id = parts.get(1).map(|text| Id::parse(text).ok_or_else(ApiError::not_found)).transpose()?;
    match (sub.method, id) {
        ("POST", None) => {
            let body = sub.json()?;
            let metadata = body.get("Metadata").ok_or_else(|| missing("Metadata"))?;
            let text = |from: &Json, key: &str| from.get(key).and_then(Json::as_str).map(String::from);
            let name = text(&body, "FullName").ok_or_else(|| missing("FullName"))?;
            let topic = text(metadata, "topicName").ok_or_else(|| missing("topicName"))?;
            if state.events.channel(&state.data.schema, &topic).is_none() {
                return Err(ApiError::bad("INVALID_FIELD", format!("topicName: there is no topic {topic}")));
            }
            let label = text(metadata, "label").unwrap_or_else(|| name.clone());
            let mut managed = Managed::new(name.clone(), label, topic);
            change(&mut managed, metadata)?;
            let taken = || ApiError::bad("DUPLICATE_DEVELOPER_NAME", format!("The developer name {name} is taken"));
            let id = state.managed.add(managed).ok_or_else(taken)?;
            Ok(Answer::json(201, &json!({"id": id.to_string(), "success": true, "errors": [], "warnings": [], "infos": []})))
        }
        ("PATCH", Some(id)) => {
            let body = sub.json()?;
            let managed = state.managed.get_mut(&id).ok_or_else(ApiError::not_found)?;
            change(managed, body.get("Metadata").unwrap_or(&Json::Null))?;
            call.org.wake_streams();
            Ok(Answer::empty(204))
        }
        ("GET", Some(id)) => {
            let managed = state.managed.get_mut(&id).ok_or_else(ApiError::not_found)?;
            Ok(Answer::json(200, &shown(call, id, managed)))
        }
        _ => Err(ApiError::method()),
    }
}

fn known(object: &str) -> Result<()> {
    let words = || ApiError::bad("INVALID_TYPE", format!("sObject type '{object}' is not supported."));
    if object.eq_ignore_ascii_case(OBJECT) { Ok(()) } else { Err(words()) }
}

fn missing(name: &str) -> ApiError {
    ApiError::bad("REQUIRED_FIELD_MISSING", format!("Required fields are missing: [{name}]"))
}

/// What an administrator sets.
fn change(managed: &mut Managed, metadata: &Json) -> Result<()> {
    let text = |key: &str| metadata.get(key).and_then(Json::as_str);
    let wrong = |key: &str| {
        ApiError::bad("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", format!("{key}: bad value for a restricted picklist"))
    };
    if let Some(preset) = text("defaultReplay") {
        managed.default_replay = replay_preset(preset).ok_or_else(|| wrong("defaultReplay"))?;
    }
    if let Some(preset) = text("errorRecoveryReplay") {
        managed.error_replay = replay_preset(preset).ok_or_else(|| wrong("errorRecoveryReplay"))?;
    }
    match text("state") {
        None => {}
        Some("RUN") => managed.set_runs(true),
        Some("STOP") => managed.set_runs(false),
        Some(_) => return Err(wrong("state")),
    }
    Ok(())
}

fn shown(call: &Call<'_>, id: Id, managed: &Managed) -> Json {
    json!({
        "attributes": {"type": OBJECT, "url": call.url(&format!("tooling/sobjects/{OBJECT}/{id}"))},
        "Id": id.to_string(), "DeveloperName": managed.name, "FullName": managed.name,
        "Metadata": {
            "label": managed.label, "topicName": managed.topic, "defaultReplay": managed.default_replay.as_str_name(),
            "errorRecoveryReplay": managed.error_replay.as_str_name(), "state": if managed.runs { "RUN" } else { "STOP" },
            "version": call.version.parse::<f64>().unwrap_or(0.0)
        }
    })
}

/// Whether a condition is true of one of them: by id and by name alone.
fn meets(condition: &Condition, id: Id, managed: &Managed) -> Result<bool> {
    let refused = || ApiError::bad("INVALID_FIELD", "only Id and DeveloperName can be compared here");
    match condition {
        Condition::And(all) => all.iter().try_fold(true, |so_far, one| Ok(so_far && meets(one, id, managed)?)),
        Condition::Compare { field, operator: Operator::Equal, value: Literal::Text(text) } => {
            match field.to_ascii_lowercase().as_str() {
                "id" => Ok(Id::parse(text) == Some(id)),
                "developername" => Ok(managed.name.eq_ignore_ascii_case(text)),
                _ => Err(refused()),
            }
        }
        _ => Err(refused()),
    }
}
