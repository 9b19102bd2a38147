//! Composite: up to 25 requests in one, later ones using what earlier ones answered.

use super::{Call, Result, Sub, refusal, route};
use crate::net::http::{Answer, decode, parameters};
use crate::salesforce::errors::ApiError;
use crate::salesforce::state::State;
use crate::salesforce::store::Transaction;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json, json};

/// Most requests in one.
const REQUESTS_MAX: usize = 25;
/// Most of them that are queries or collections.
const HEAVY_MAX: usize = 5;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct One {
    body: Option<Box<RawValue>>,
    http_headers: Map<String, Json>,
    http_status_code: u16,
    reference_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct All {
    composite_response: Vec<One>,
}

/// A request within another one.
pub(super) struct Within<'a> {
    pub method: &'a str,
    /// Behind the version, with its query.
    pub path: &'a str,
    pub headers: &'a HeaderMap,
    pub body: &'a str,
}

impl Within<'_> {
    /// Leads it to its room. None of these contains another.
    pub fn answer(&self, call: &Call<'_>, state: &mut State) -> Result<Answer> {
        let (path, query) = self.path.split_once('?').unwrap_or((self.path, ""));
        let method = self.method.to_ascii_uppercase();
        let sub = Sub {
            method: &method,
            path: path.split('/').filter(|part| !part.is_empty()).map(|part| decode(part, false)).collect(),
            query: parameters(query),
            headers: self.headers,
            body: self.body.as_bytes(),
        };
        let parts: Vec<&str> = sub.path.iter().map(String::as_str).collect();
        if matches!(parts.as_slice(), ["composite"] | ["composite", "batch" | "tree", ..]) {
            return Err(ApiError::bad("INVALID_INPUT", "a composite request cannot contain another"));
        }
        route(call, state, &sub)
    }
}

/// Answers POST /composite.
pub fn handle(call: &Call<'_>, state: &mut State, sub: &Sub<'_>) -> Result<Answer> {
    if sub.method != "POST" {
        return Err(ApiError::method());
    }
    let body = sub.json()?;
    let all_or_none = body.get("allOrNone").and_then(Json::as_bool).unwrap_or(false);
    let requests = body.get("compositeRequest").and_then(Json::as_array).cloned().unwrap_or_default();
    let heavy = requests.iter().filter(|one| {
        let url = one.get("url").and_then(Json::as_str).unwrap_or("");
        url.contains("/query") || url.contains("/composite/sobjects")
    });
    if requests.is_empty() || requests.len() > REQUESTS_MAX || heavy.count() > HEAVY_MAX {
        let message = format!("between 1 and {REQUESTS_MAX} subrequests, at most {HEAVY_MAX} of them queries or collections");
        return Err(ApiError::bad("INVALID_INPUT", message));
    }
    if all_or_none {
        *call.held.borrow_mut() = Some(Transaction::default());
    }
    let mut answers: Vec<(String, Answer)> = Vec::new();
    for request in &requests {
        let reference = request.get("referenceId").and_then(Json::as_str).unwrap_or("").to_string();
        let answer = one(call, state, request, &answers).unwrap_or_else(|error| refusal(&error));
        let failed = answer.status >= 400;
        answers.push((reference, answer));
        if failed && all_or_none {
            halt(call, state, &requests, &mut answers);
            break;
        }
    }
    if let Some(transaction) = call.held.borrow_mut().take() {
        call.org.close(state, &call.author("rest"), transaction);
    }
    let composite_response = answers.into_iter().map(|(reference_id, answer)| shown(reference_id, answer)).collect();
    Ok(Answer::json(200, &All { composite_response }))
}

/// Takes everything back, and says of each request but the failed one that it was halted.
fn halt(call: &Call<'_>, state: &mut State, requests: &[Json], answers: &mut Vec<(String, Answer)>) {
    if let Some(mut transaction) = call.held.borrow_mut().take() {
        transaction.take_back(&mut state.data.store, &state.data.schema, 0);
    }
    let failed = answers.len() - 1;
    let halted = || {
        let words = "The transaction was rolled back since another operation in the same transaction failed.";
        Answer::json(400, &json!([{"errorCode": "PROCESSING_HALTED", "message": words}]))
    };
    for (_, answer) in answers.iter_mut().take(failed) {
        *answer = halted();
    }
    for request in requests.iter().skip(answers.len()) {
        let reference = request.get("referenceId").and_then(Json::as_str).unwrap_or("").to_string();
        answers.push((reference, halted()));
    }
}

fn one(call: &Call<'_>, state: &mut State, request: &Json, answers: &[(String, Answer)]) -> Result<Answer> {
    let text = |key: &str| request.get(key).and_then(Json::as_str).unwrap_or("").to_string();
    let url = fill(&text("url"), answers)?;
    let prefix = format!("/services/data/v{}", call.version);
    let path = url.strip_prefix(&prefix).ok_or_else(|| ApiError::bad("INVALID_INPUT", format!("not of this version: {url}")))?;
    let body = match request.get("body") {
        Some(body) => fill_json(body, answers)?.to_string(),
        None => String::new(),
    };
    let mut headers = HeaderMap::new();
    for (name, value) in request.get("httpHeaders").and_then(Json::as_object).into_iter().flatten() {
        let value = value.as_str().and_then(|value| HeaderValue::from_str(value).ok());
        if let (Ok(name), Some(value)) = (HeaderName::try_from(name.as_str()), value) {
            headers.insert(name, value);
        }
    }
    Within { method: &text("method"), path, headers: &headers, body: &body }.answer(call, state)
}

/// `@{reference.path}` → what that request answered there.
fn fill(text: &str, answers: &[(String, Answer)]) -> Result<String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("@{") {
        filled.push_str(before);
        let (expression, tail) = after.split_once('}').unwrap_or((after, ""));
        let (reference, path) = expression.split_once('.').unwrap_or((expression, ""));
        let unknown =
            || ApiError::bad("PROCESSING_HALTED", format!("Invalid reference specified. No value for {expression} found"));
        let (_, answer) = answers.iter().find(|(own, _)| own == reference).ok_or_else(unknown)?;
        let body: Json = serde_json::from_slice(&answer.body).map_err(|_| unknown())?;
        let pointer = format!("/{}", path.replace(['.', '['], "/").replace(']', ""));
        match body.pointer(&pointer).ok_or_else(unknown)? {
            Json::String(text) => filled.push_str(text),
            other => filled.push_str(&other.to_string()),
        }
        rest = tail;
    }
    filled.push_str(rest);
    Ok(filled)
}

fn fill_json(body: &Json, answers: &[(String, Answer)]) -> Result<Json> {
    Ok(match body {
        Json::String(text) => Json::String(fill(text, answers)?),
        Json::Array(items) => Json::Array(items.iter().map(|item| fill_json(item, answers)).collect::<Result<_>>()?),
        Json::Object(entries) => {
            let filled = entries.iter().map(|(key, value)| Ok((key.clone(), fill_json(value, answers)?)));
            Json::Object(filled.collect::<Result<_>>()?)
        }
        other => other.clone(),
    })
}

fn shown(reference_id: String, answer: Answer) -> One {
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let headers = answer.headers.iter().filter(|(name, _)| name == "Location");
    One {
        body: if text.is_empty() { None } else { RawValue::from_string(text).ok() },
        http_headers: headers.map(|(name, value)| (name.clone(), json!(value))).collect(),
        http_status_code: answer.status,
        reference_id,
    }
}
