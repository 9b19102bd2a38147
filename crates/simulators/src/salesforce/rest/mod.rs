//! The REST API: who calls, by which version, within which allocation, and which room answers. Composite requests come
//! through the same rooms as requests of their own.

pub mod batch;
pub mod collections;
pub mod composite;
pub mod metadata;
pub mod query;
pub mod record;
pub mod replication;
pub mod tooling;
pub mod tree;

use super::bulk;
use super::dml::Writer;
use super::errors::ApiError;
use super::events::Author;
use super::ids::Id;
use super::limits::Limit;
use super::org::Org;
use super::rules::OnDuplicates;
use super::state::State;
use super::store::Transaction;
use super::values::time;
use crate::net::http::{Answer, Request, decode, parameters};
use http::HeaderMap;
use serde_json::{Value as Json, json};
use std::cell::RefCell;

/// Longest path and query.
const URI_BYTES_MAX: usize = 16_384;

/// A call under way.
pub struct Call<'a> {
    pub org: &'a Org,
    /// `65.0`.
    pub version: &'a str,
    pub user: Id,
    /// From Sforce-Call-Options.
    pub client: Option<String>,
    pub on_duplicates: OnDuplicates,
    /// The open transaction of a composite request that is one whole.
    pub held: RefCell<Option<Transaction>>,
}

/// One request to one room.
pub struct Sub<'a> {
    pub method: &'a str,
    /// Behind the version.
    pub path: Vec<String>,
    pub query: Vec<(String, String)>,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
}

pub type Result<T> = std::result::Result<T, ApiError>;

impl Call<'_> {
    /// Who writes, as events will say.
    pub fn author(&self, api: &str) -> Author {
        let client = self.client.as_ref().map(|client| format!(";client={client}")).unwrap_or_default();
        Author { user: self.user, origin: format!("com/salesforce/api/{api}/{}{client}", self.version) }
    }

    /// One transaction of this call; part of the composite request's, where that is one whole.
    pub fn write<T>(&self, state: &mut State, step: impl FnOnce(&mut Writer<'_>) -> T) -> T {
        let author = self.author("rest");
        let held = self.held.borrow_mut().take();
        match held {
            Some(transaction) => {
                let (result, transaction) = self.org.write_open(state, &author, &self.on_duplicates, transaction, step);
                *self.held.borrow_mut() = Some(transaction);
                result
            }
            None => self.org.write(state, &author, &self.on_duplicates, step),
        }
    }

    /// A path under this version.
    pub fn url(&self, path: &str) -> String {
        format!("/services/data/v{}/{path}", self.version)
    }
}

impl Sub<'_> {
    /// A parameter of the query.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<Json> {
        serde_json::from_slice(self.body).map_err(|error| {
            let message = format!("Unexpected character or end of input at [line:{}, column:{}]", error.line(), error.column());
            ApiError::bad("JSON_PARSER_ERROR", message)
        })
    }
}

/// Answers a request under /services/data. The second value: whether it counts against the allocation.
pub fn handle(org: &Org, request: &Request) -> (Answer, bool) {
    let path = request.path.trim_end_matches('/');
    if path == "/services/data" {
        let entry = |version: &String| json!({"label": format!("Release {version}"), "url": format!("/services/data/v{version}"), "version": version});
        return (Answer::json(200, &org.options.versions.iter().map(entry).collect::<Vec<_>>()), false);
    }
    let result = admitted(org, request, path);
    let (answer, counted) = match result {
        Ok((answer, counted)) => (answer, counted),
        Err(error) => (refusal(&error), false),
    };
    let now_ms = org.clock.now_ms();
    let usage = org.state().limits.header(now_ms);
    (answer.with("Sforce-Limit-Info", usage).with("Date", time::http_date(now_ms)), counted)
}

/// The answer that an error is.
pub fn refusal(error: &ApiError) -> Answer {
    if error.status == 304 {
        return Answer::empty(304);
    }
    Answer::json(error.status, &error.json())
}

fn admitted(org: &Org, request: &Request, path: &str) -> Result<(Answer, bool)> {
    if request.path.len() + request.query.len() > URI_BYTES_MAX {
        return Err(ApiError::new(414, "URI_TOO_LONG", "URI Too Long"));
    }
    let rest = path.strip_prefix("/services/data/v").ok_or_else(ApiError::not_found)?;
    let (version, rest) = rest.split_once('/').unwrap_or((rest, ""));
    if !org.options.versions.iter().any(|known| known == version) {
        return Err(ApiError::not_found());
    }
    let token = request.header("authorization").and_then(|header| header.split_once(' '));
    let token = token.filter(|(kind, _)| kind.eq_ignore_ascii_case("Bearer") || kind.eq_ignore_ascii_case("OAuth"));
    let now_ms = org.clock.now_ms();
    let state = &mut *org.state();
    let caller = token.and_then(|(_, token)| state.auth.session(token, now_ms)).ok_or_else(ApiError::session)?;
    if !state.limits.take(Limit::DailyApiRequests, 1, now_ms) {
        return Err(over_limit());
    }
    let options = request.header("sforce-call-options").unwrap_or("");
    let client = options.split(',').filter_map(|option| option.trim().split_once('='));
    let client = client.filter(|(key, _)| key.trim() == "client").map(|(_, value)| value.trim().to_string()).next();
    let call = Call {
        org,
        version,
        user: caller.user,
        client,
        on_duplicates: OnDuplicates::of(request.header("sforce-duplicate-rule-header").unwrap_or(""), version),
        held: RefCell::new(None),
    };
    let sub = Sub {
        method: &request.method,
        path: rest.split('/').filter(|part| !part.is_empty()).map(|part| decode(part, false)).collect(),
        query: parameters(&request.query),
        headers: &request.headers,
        body: &request.body,
    };
    super::dml::empty_bin(state, now_ms);
    // A call that is refused has been counted all the same.
    Ok((route(&call, state, &sub).unwrap_or_else(|error| refusal(&error)), true))
}

/// The refusal of a call beyond the allocation.
pub fn over_limit() -> ApiError {
    ApiError::new(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")
}

/// Leads a request to its room.
pub fn route(call: &Call<'_>, state: &mut State, sub: &Sub<'_>) -> Result<Answer> {
    let lower: Vec<String> = sub.path.iter().map(|part| part.to_ascii_lowercase()).collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    match lower.as_slice() {
        [] => Ok(Answer::json(
            200,
            &json!({"sobjects": call.url("sobjects"), "query": call.url("query"),
            "queryAll": call.url("queryAll"), "composite": call.url("composite"), "limits": call.url("limits"),
            "jobs": call.url("jobs"), "identity": format!("https://login.salesforce.com/id/{}/{}", call.org.id, call.user)}),
        )),
        ["limits"] => Ok(limits(call, state)),
        ["query" | "queryall", ..] => query::handle(call, state, sub),
        ["sobjects"] => metadata::global(call, state, sub),
        ["sobjects", _, "describe"] => metadata::describe(call, state, sub),
        ["sobjects", _, "updated" | "deleted"] => replication::handle(call, state, sub),
        ["sobjects", ..] => record::handle(call, state, sub),
        ["composite"] => composite::handle(call, state, sub),
        ["composite", "batch"] => batch::handle(call, state, sub),
        ["composite", "tree", name] => tree::handle(call, state, sub, name),
        ["tooling", "query"] => tooling::query(call, state, sub),
        ["tooling", "sobjects", ..] => tooling::sobject(call, state, sub),
        ["composite", "sobjects", ..] => collections::handle(call, state, sub),
        ["jobs", "ingest", ..] => bulk::ingest::handle(call, state, sub),
        ["jobs", "query", ..] => bulk::query::handle(call, state, sub),
        _ => Err(ApiError::not_found()),
    }
}

fn limits(call: &Call<'_>, state: &mut State) -> Answer {
    let now_ms = call.org.clock.now_ms();
    let entries = Limit::ALL.map(|(limit, name)| {
        let max = state.limits.max(limit);
        let remaining = max.saturating_sub(state.limits.used(limit, now_ms));
        (name.to_string(), json!({"Max": max, "Remaining": remaining}))
    });
    Answer::json(200, &entries.into_iter().collect::<serde_json::Map<String, Json>>())
}
