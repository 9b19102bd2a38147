//! Jobs that read: a query, its result in pages of CSV.

use super::csv::Format;
use crate::faults::{Action, Happening};
use crate::net::http::Answer;
use crate::salesforce::errors::ApiError;
use crate::salesforce::ids::Id;
use crate::salesforce::limits::Limit;
use crate::salesforce::record::Shared;
use crate::salesforce::rest::{Call, Result, Sub, over_limit};
use crate::salesforce::soql::rows::Plan;
use crate::salesforce::soql::run::{Found, run};
use crate::salesforce::state::State;
use crate::salesforce::values::time;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rows of a page where nothing else is asked for.
const PAGE_ROWS: usize = 50_000;

/// A job.
#[derive(Clone, Debug)]
pub struct Job {
    pub id: Id,
    with_deleted: bool,
    user: Id,
    version: String,
    format: Format,
    created_ms: i64,
    aborted: bool,
    /// Whether it has come to nothing.
    failed: bool,
    /// It works until then.
    until: Instant,
    plan: Arc<Plan>,
    records: Arc<Vec<Shared>>,
}

/// Answers a request under /jobs/query.
pub fn handle(call: &Call<'_>, state: &mut State, sub: &Sub<'_>) -> Result<Answer> {
    let parts: Vec<String> = sub.path.iter().skip(2).cloned().collect();
    let Some(id) = parts.first() else {
        return match sub.method {
            "POST" => create(call, state, sub),
            "GET" => {
                let held = state.jobs.held;
                let all = state.jobs.query.values().map(|job| job.shown(held)).collect();
                Ok(Answer::json(200, &state.jobs.listed(call, sub, "query", all)))
            }
            _ => Err(ApiError::method()),
        };
    };
    let id = Id::parse(id).filter(|id| state.jobs.query.contains_key(id)).ok_or_else(ApiError::not_found)?;
    let held = state.jobs.held;
    let job = state.jobs.query.get_mut(&id).ok_or_else(ApiError::not_found)?;
    match (sub.method, parts.get(1).map(|room| room.to_ascii_lowercase()).as_deref()) {
        ("GET", None) => Ok(Answer::json(200, &job.shown(held))),
        ("GET", Some("results")) => {
            let job = job.clone();
            job.results(state, sub)
        }
        ("PATCH", None) => {
            job.aborted = true;
            Ok(Answer::json(200, &job.shown(held)))
        }
        ("DELETE", None) => {
            state.jobs.query.remove(&id);
            Ok(Answer::empty(204))
        }
        _ => Err(ApiError::method()),
    }
}

fn create(call: &Call<'_>, state: &mut State, sub: &Sub<'_>) -> Result<Answer> {
    let body = sub.json()?;
    let text = |key: &str| body.get(key).and_then(Json::as_str).unwrap_or("").to_string();
    let with_deleted = match text("operation").as_str() {
        "query" => false,
        "queryAll" => true,
        _ => return Err(ApiError::bad("INVALIDJOB", "InvalidJob : Unknown operation")),
    };
    let format = Format::asked(&body).ok_or_else(|| ApiError::bad("INVALIDJOB", "InvalidJob : Unknown format"))?;
    let now_ms = call.org.clock.now_ms();
    if !state.limits.take(Limit::DailyBulkV2QueryJobs, 1, now_ms) {
        return Err(over_limit());
    }
    let query = text("query");
    let Found::Records { plan, records } = run(&state.data, now_ms, &query, with_deleted)? else {
        return Err(ApiError::bad("API_ERROR", "Aggregate Relationships not supported in Bulk Query"));
    };
    plan.columns()?;
    let fault = call.org.faults.befalls(&Happening::Job { object: &plan.object.name, room: "jobs/query" });
    let rest = match fault {
        Some(Action::JobRests { ms, .. }) => Duration::from_millis(ms),
        _ => Duration::ZERO,
    };
    let id = state.jobs.new_id();
    let job = Job {
        id,
        with_deleted,
        user: call.user,
        version: call.version.to_string(),
        format,
        created_ms: now_ms,
        aborted: false,
        failed: matches!(fault, Some(Action::JobBreaks { .. })),
        until: Instant::now() + rest,
        plan,
        records: Arc::new(records),
    };
    let mut shown = job.shown(false);
    if let Some(shown) = shown.as_object_mut() {
        shown.insert("state".into(), json!("UploadComplete"));
        shown.remove("numberRecordsProcessed");
    }
    state.jobs.query.insert(id, job);
    Ok(Answer::json(200, &shown))
}

impl Job {
    /// Where it stands; `held`: jobs stay where they are.
    fn stage(&self, held: bool) -> &'static str {
        match (self.aborted, self.failed) {
            (true, _) => "Aborted",
            (_, true) => "Failed",
            _ if held || Instant::now() < self.until => "InProgress",
            _ => "JobComplete",
        }
    }

    fn shown(&self, held: bool) -> Json {
        let stamp = time::datetime(time::whole_seconds(self.created_ms));
        json!({
            "id": self.id.to_string(), "operation": if self.with_deleted { "queryAll" } else { "query" },
            "object": self.plan.object.name, "createdById": self.user.to_string(), "createdDate": stamp,
            "systemModstamp": stamp, "state": self.stage(held),
            "concurrencyMode": "Parallel", "contentType": "CSV", "apiVersion": self.version.parse::<f64>().unwrap_or(0.0),
            "jobType": "V2Query", "lineEnding": self.format.line_end_name(),
            "columnDelimiter": self.format.delimiter_name(), "numberRecordsProcessed": self.records.len(),
            "retries": 0, "totalProcessingTime": 10, "isPkChunkingSupported": true
        })
    }

    fn results(&self, state: &State, sub: &Sub<'_>) -> Result<Answer> {
        if self.stage(state.jobs.held) != "JobComplete" {
            return Err(ApiError::bad("INVALIDJOBSTATE", "Job is not in a state in which results are available"));
        }
        let start = match sub.parameter("locator").filter(|locator| !locator.is_empty()) {
            None => 0,
            Some(locator) => {
                let text =
                    STANDARD_NO_PAD.decode(locator.trim_end_matches('=')).ok().and_then(|text| String::from_utf8(text).ok());
                let start = text.and_then(|text| text.parse().ok());
                start.ok_or_else(|| ApiError::bad("INVALIDLOCATOR", "Invalid locator"))?
            }
        };
        let rows_max = sub.parameter("maxRecords").and_then(|text| text.parse().ok()).unwrap_or(PAGE_ROWS).max(1);
        let mut rows = vec![self.plan.columns()?];
        for record in self.records.iter().skip(start).take(rows_max) {
            let mut cells = Vec::new();
            self.plan.cells(&state.data, record, &mut cells);
            rows.push(cells);
        }
        let count = rows.len() - 1;
        let end = start + count;
        let locator = if end >= self.records.len() { "null".to_string() } else { STANDARD_NO_PAD.encode(end.to_string()) };
        Ok(Answer::of(200, "text/csv", self.format.write(&rows))
            .with("Sforce-Locator", locator)
            .with("Sforce-NumberOfRecords", count.to_string()))
    }
}
