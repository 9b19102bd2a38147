//! One record at a time: create, read, update, delete, upsert by an external id.

use super::{Call, Result, Sub};
use crate::net::http::Answer;
use crate::salesforce::dml::Fields;
use crate::salesforce::errors::ApiError;
use crate::salesforce::ids::Id;
use crate::salesforce::record::Shared;
use crate::salesforce::schema::{Object, place};
use crate::salesforce::soql::rows::{Plan, Versioned};
use crate::salesforce::state::State;
use crate::salesforce::values::read::Given;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};
use std::sync::Arc;

/// Answers a request under /sobjects/{type}.
pub fn handle(call: &Call<'_>, state: &mut State, sub: &Sub<'_>) -> Result<Answer> {
    let parts: Vec<&str> = sub.path.iter().skip(1).map(String::as_str).collect();
    let name = parts.first().copied().unwrap_or("");
    let object = state.data.schema.object(name).ok_or_else(ApiError::not_found)?.clone();
    match (sub.method, parts.as_slice()) {
        ("GET", [_]) => {
            let describe = super::metadata::summary(call, &object);
            Ok(Answer::json(200, &json!({"objectDescribe": describe, "recentItems": []})))
        }
        ("POST", [_]) => {
            let fields = fields(&sub.json()?)?;
            let id = call.write(state, |writer| writer.insert(&object, &fields))?;
            Ok(Answer::json(201, &json!({"id": id.to_string(), "success": true, "errors": []}))
                .with("Location", call.url(&format!("sobjects/{}/{id}", object.name))))
        }
        (method, [_, id]) => by_id(call, state, sub, &object, method, id),
        (method, [_, key, value]) => by_key(call, state, sub, &object, method, (key, value)),
        _ => Err(ApiError::method()),
    }
}

fn by_id(call: &Call<'_>, state: &mut State, sub: &Sub<'_>, object: &Arc<Object>, method: &str, id: &str) -> Result<Answer> {
    let Some(id) = Id::parse(id) else {
        let message = format!("Provided external ID field does not exist or is not accessible: {id}");
        return Err(ApiError::new(404, "NOT_FOUND", message));
    };
    match method {
        "GET" => read(call, state, sub, object, id),
        "PATCH" => {
            unmodified(state, sub, object, id)?;
            let fields = fields(&sub.json()?)?;
            call.write(state, |writer| writer.update(object, id, &fields))?;
            Ok(Answer::empty(204))
        }
        "DELETE" => {
            // Preconditions are not looked at here: the vendor does not for a delete.
            call.write(state, |writer| writer.delete(object, id))?;
            Ok(Answer::empty(204))
        }
        _ => Err(ApiError::method()),
    }
}

fn by_key(
    call: &Call<'_>,
    state: &mut State,
    sub: &Sub<'_>,
    object: &Arc<Object>,
    method: &str,
    (key, value): (&str, &str),
) -> Result<Answer> {
    let Some((at, field)) = object.field(key).filter(|(_, field)| field.id_lookup()) else {
        let message = format!("Provided external ID field does not exist or is not accessible: {key}");
        return Err(ApiError::new(404, "NOT_FOUND", message));
    };
    let read_key = crate::salesforce::values::read::read(field, &Given::Cell(value.to_string())).map_err(ApiError::from)?;
    let index_key = read_key.index_key(field.case_sensitive).unwrap_or_default();
    let found: Vec<Id> = match read_key.as_id() {
        Some(id) if at == place::ID => vec![id],
        _ => state.data.store.table(&object.name).map_or(Vec::new(), |table| table.find(at, &index_key).to_vec()),
    };
    if found.len() > 1 {
        let urls: Vec<String> = found.iter().map(|id| call.url(&format!("sobjects/{}/{id}", object.name))).collect();
        return Ok(Answer::json(300, &urls));
    }
    match (method, found.first()) {
        ("PATCH", _) => {
            let mut fields = fields(&sub.json()?)?;
            let same = |(name, _): &(String, Given)| name.eq_ignore_ascii_case(&field.name);
            if fields.iter().any(same) {
                let message = format!("The {} field should not be specified in the sobject data.", field.name);
                return Err(ApiError::bad("INVALID_FIELD", message));
            }
            fields.retain(|entry| !same(entry));
            let key = Given::Cell(value.to_string());
            let (id, created) = call.write(state, |writer| writer.upsert(object, &field.name, &key, &fields))?;
            let body = json!({"id": id.to_string(), "success": true, "errors": [], "created": created});
            Ok(Answer::json(if created { 201 } else { 200 }, &body))
        }
        ("GET", Some(id)) => read(call, state, sub, object, *id),
        ("DELETE", Some(id)) => {
            call.write(state, |writer| writer.delete(object, *id))?;
            Ok(Answer::empty(204))
        }
        ("GET" | "DELETE", None) => Err(ApiError::not_found()),
        _ => Err(ApiError::method()),
    }
}

fn read(call: &Call<'_>, state: &State, sub: &Sub<'_>, object: &Arc<Object>, id: Id) -> Result<Answer> {
    let record = live(state, object, id)?;
    unmodified(state, sub, object, id)?;
    if let Some(since) = http_date(sub, "if-modified-since")
        && modified_ms(&record) <= since
    {
        return Ok(Answer::empty(304));
    }
    let plan = match sub.parameter("fields") {
        Some(names) => {
            let names: Vec<&str> = names.split(',').map(str::trim).collect();
            let mut plan_names = names;
            if !plan_names.iter().any(|name| name.eq_ignore_ascii_case("Id")) {
                plan_names.push("Id");
            }
            Plan::of_fields(&state.data, object, &plan_names)?
        }
        None => Plan::of_all(object),
    };
    let row = plan.row(&state.data, &record, call.org.clock.now_ms());
    let answer = Answer::json(200, &Versioned(&row, call.version));
    Ok(if tagged(object) { answer.with("ETag", etag(&record)) } else { answer })
}

/// Accounts alone have entity tags.
fn tagged(object: &Object) -> bool {
    object.name == "Account"
}

/// Another one for every other content, within the same second too.
fn etag(record: &Shared) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, format!("{record:?}").as_bytes());
    format!("\"{}\"", STANDARD.encode(digest))
}

fn live(state: &State, object: &Object, id: Id) -> Result<Shared> {
    match state.data.store.shared(&object.name, &id) {
        Some(record) if record.is_deleted() => Err(ApiError::new(404, "ENTITY_IS_DELETED", "entity is deleted")),
        Some(record) => Ok(record.clone()),
        None => Err(ApiError::not_found()),
    }
}

/// `If-Unmodified-Since` and `If-Match`: nothing is done about a record that changed since.
fn unmodified(state: &State, sub: &Sub<'_>, object: &Object, id: Id) -> Result<()> {
    let Some(record) = state.data.store.get(&object.name, &id) else { return Ok(()) };
    let since = http_date(sub, "if-unmodified-since");
    let tags = sub.headers.get("if-match").and_then(|tags| tags.to_str().ok()).filter(|_| tagged(object));
    let other = tags.is_some_and(|tags| !tags.split(',').any(|tag| tag.trim() == etag(record)));
    if other || since.is_some_and(|since| modified_ms(record) > since) {
        return Err(ApiError::new(412, "PRECONDITION_FAILED", "The resource has been modified since it was read"));
    }
    Ok(())
}

fn modified_ms(record: &Shared) -> i64 {
    record.get(place::LAST_MODIFIED_DATE).as_datetime().unwrap_or(0)
}

/// A date in a header.
pub fn http_date(sub: &Sub<'_>, name: &str) -> Option<i64> {
    let text = sub.headers.get(name)?.to_str().ok()?;
    let at = jiff::fmt::rfc2822::parse(&text.replace("GMT", "+0000")).ok()?;
    Some(at.timestamp().as_millisecond())
}

/// A record as it came in JSON.
pub fn fields(body: &Json) -> Result<Fields> {
    let Json::Object(body) = body else {
        return Err(ApiError::bad("JSON_PARSER_ERROR", "The HTTP entity body is required to be an object"));
    };
    Ok(body.iter().map(|(name, value)| (name.clone(), Given::Json(value.clone()))).collect())
}
