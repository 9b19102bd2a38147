//! Batch: up to 25 requests in one, each by itself: what one did stays whatever becomes of the next, and none knows what another
//! was answered.

use super::composite::Within;
use super::{Call, Result, Sub, over_limit, refusal};
use crate::net::http::Answer;
use crate::salesforce::errors::ApiError;
use crate::salesforce::limits::Limit;
use crate::salesforce::state::State;
use http::HeaderMap;
use serde::Serialize;
use serde_json::Value as Json;
use serde_json::value::RawValue;
use std::cell::RefCell;

/// Most requests in one.
const REQUESTS_MAX: usize = 25;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct One {
    status_code: u16,
    result: Option<Box<RawValue>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct All {
    has_errors: bool,
    results: Vec<One>,
}

/// A request as it stands in the body.
struct Request<'a> {
    method: &'a str,
    version: &'a str,
    /// Behind the version.
    path: &'a str,
    body: String,
}

/// Answers POST /composite/batch.
pub fn handle(call: &Call<'_>, state: &mut State, sub: &Sub<'_>) -> Result<Answer> {
    if sub.method != "POST" {
        return Err(ApiError::method());
    }
    let body = sub.json()?;
    let halts = body.get("haltOnError").and_then(Json::as_bool).unwrap_or(false);
    let asked = body.get("batchRequests").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
    if asked.is_empty() || asked.len() > REQUESTS_MAX {
        return Err(ApiError::bad("INVALID_INPUT", format!("between 1 and {REQUESTS_MAX} subrequests")));
    }
    // What cannot be read is refused before anything is done, whatever `haltOnError` says.
    let requests = asked.iter().map(read).collect::<Result<Vec<Request<'_>>>>()?;
    let (mut results, mut has_errors) = (Vec::new(), false);
    for (at, request) in requests.iter().enumerate() {
        let answer = match has_errors && halts {
            true => Err(halted()),
            false => one(call, state, request, at),
        };
        let answer = answer.unwrap_or_else(|error| refusal(&error));
        has_errors |= answer.status >= 400;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let result = if text.is_empty() { None } else { RawValue::from_string(text).ok() };
        results.push(One { status_code: answer.status, result });
    }
    Ok(Answer::json(200, &All { has_errors, results }))
}

fn halted() -> ApiError {
    let words = "Batch processing halted because of an error in an earlier request of the batch";
    ApiError::new(412, "BATCH_PROCESSING_HALTED", words)
}

/// Each counts against the allocation of calls; the first one has been counted with the batch.
fn one(call: &Call<'_>, state: &mut State, request: &Request<'_>, at: usize) -> Result<Answer> {
    if at > 0 && !state.limits.take(Limit::DailyApiRequests, 1, call.org.clock.now_ms()) {
        return Err(over_limit());
    }
    if !call.org.options.versions.iter().any(|known| known == request.version) {
        return Err(ApiError::not_found());
    }
    let own = Call {
        org: call.org,
        version: request.version,
        user: call.user,
        client: call.client.clone(),
        on_duplicates: call.on_duplicates.clone(),
        held: RefCell::new(None),
    };
    let headers = HeaderMap::new();
    Within { method: request.method, path: request.path, headers: &headers, body: &request.body }.answer(&own, state)
}

/// `v65.0/sobjects/Account/001…`, or the same behind `/services/data/`.
fn read(asked: &Json) -> Result<Request<'_>> {
    let text = |key: &str| asked.get(key).and_then(Json::as_str).unwrap_or("");
    let wrong = |what: &str| ApiError::bad("JSON_PARSER_ERROR", format!("a subrequest's {what}"));
    let method = text("method");
    if !["GET", "POST", "PATCH", "PUT", "DELETE", "HEAD"].iter().any(|known| method.eq_ignore_ascii_case(known)) {
        return Err(wrong("method is none"));
    }
    let url = text("url").trim_start_matches('/');
    let url = url.strip_prefix("services/data/").unwrap_or(url);
    let (version, path) = url.split_once('/').unwrap_or((url, ""));
    let version = version.strip_prefix('v').ok_or_else(|| wrong("url does not begin with a version"))?;
    let body = asked.get("richInput").filter(|input| !input.is_null()).map(Json::to_string).unwrap_or_default();
    Ok(Request { method, version, path, body })
}
