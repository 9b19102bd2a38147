//! Jobs that write: made, filled with one upload, closed, watched, read.

use super::csv::Format;
use crate::net::http::Answer;
use crate::salesforce::errors::ApiError;
use crate::salesforce::events::Author;
use crate::salesforce::ids::Id;
use crate::salesforce::limits::Limit;
use crate::salesforce::rest::{Call, Result, Sub, over_limit};
use crate::salesforce::state::State;
use crate::salesforce::values::time;
use serde_json::{Value as Json, json};

/// Largest upload.
const UPLOAD_BYTES_MAX: usize = 150 * 1024 * 1024;

/// What a job does with its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Insert,
    Update,
    Upsert,
    Delete,
    HardDelete,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Open,
    UploadComplete,
    InProgress,
    JobComplete,
    Failed,
    Aborted,
}

/// A job.
#[derive(Clone, Debug)]
pub struct Job {
    pub id: Id,
    pub object: String,
    pub operation: Operation,
    pub key: Option<String>,
    pub format: Format,
    pub stage: Stage,
    pub author: Author,
    pub version: String,
    pub created_ms: i64,
    pub changed_ms: i64,
    pub upload: Option<Vec<u8>>,
    pub header: Vec<String>,
    /// (id, created, input row).
    pub successful: Vec<(String, bool, Vec<String>)>,
    /// (id, error, input row).
    pub failed: Vec<(String, String, Vec<String>)>,
    pub unprocessed: Vec<Vec<String>>,
    pub error: Option<String>,
}

impl Operation {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "insert" => Self::Insert,
            "update" => Self::Update,
            "upsert" => Self::Upsert,
            "delete" => Self::Delete,
            "hardDelete" => Self::HardDelete,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Upsert => "upsert",
            Self::Delete => "delete",
            Self::HardDelete => "hardDelete",
        }
    }
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Open => "Open",
            Self::UploadComplete => "UploadComplete",
            Self::InProgress => "InProgress",
            Self::JobComplete => "JobComplete",
            Self::Failed => "Failed",
            Self::Aborted => "Aborted",
        }
    }

    fn over(self) -> bool {
        matches!(self, Self::JobComplete | Self::Failed | Self::Aborted)
    }
}

/// Answers a request under /jobs/ingest.
pub fn handle(call: &Call<'_>, state: &mut State, sub: &Sub<'_>) -> Result<Answer> {
    let parts: Vec<String> = sub.path.iter().skip(2).cloned().collect();
    let Some(id) = parts.first() else {
        return match sub.method {
            "POST" => create(call, state, sub),
            "GET" => {
                let all = state.jobs.ingest.values().map(|job| job.shown(false)).collect();
                Ok(Answer::json(200, &state.jobs.listed(call, sub, "ingest", all)))
            }
            _ => Err(ApiError::method()),
        };
    };
    let id = Id::parse(id).filter(|id| state.jobs.ingest.contains_key(id)).ok_or_else(ApiError::not_found)?;
    let room = parts.get(1).map(|room| room.to_ascii_lowercase());
    let now_ms = call.org.clock.now_ms();
    match (sub.method, room.as_deref()) {
        ("PUT", Some("batches")) => upload(state, sub, id, now_ms),
        ("PATCH", None) => advance(call, state, sub, id, now_ms),
        ("DELETE", None) => {
            if state.jobs.ingest.get(&id).is_some_and(|job| !job.stage.over()) {
                return Err(invalid_state("Deletion not allowed for job in this state"));
            }
            state.jobs.ingest.remove(&id);
            Ok(Answer::empty(204))
        }
        ("GET", room) => {
            let job = state.jobs.ingest.get(&id).ok_or_else(ApiError::not_found)?;
            match room {
                None => Ok(Answer::json(200, &job.shown(true))),
                Some(room) => job.results(room),
            }
        }
        _ => Err(ApiError::method()),
    }
}

fn create(call: &Call<'_>, state: &mut State, sub: &Sub<'_>) -> Result<Answer> {
    let body = sub.json()?;
    let text = |key: &str| body.get(key).and_then(Json::as_str).map(String::from);
    let name = text("object").ok_or_else(|| invalid_job("object is required"))?;
    let object = state
        .data
        .schema
        .object(&name)
        .cloned()
        .ok_or_else(|| ApiError::bad("INVALIDENTITY", format!("Entity '{name}' is not supported by the Bulk API.")))?;
    let operation = text("operation").as_deref().and_then(Operation::of).ok_or_else(|| invalid_job("Unknown operation"))?;
    let key = text("externalIdFieldName");
    if operation == Operation::Upsert {
        let known = key.as_deref().and_then(|key| object.field(key)).filter(|(_, field)| field.id_lookup());
        known.ok_or_else(|| {
            invalid_job("External ID was blank or is not an external id. An External ID must be specified for upsert.")
        })?;
    }
    if text("contentType").is_some_and(|kind| kind != "CSV") {
        return Err(invalid_job("Unsupported content type"));
    }
    let format = Format::asked(&body).ok_or_else(|| invalid_job("Unknown lineEnding or columnDelimiter"))?;
    let now_ms = call.org.clock.now_ms();
    if !state.limits.take(Limit::DailyBulkApiBatches, 1, now_ms) {
        return Err(over_limit());
    }
    let id = state.jobs.new_id();
    let job = Job {
        id,
        object: object.name.clone(),
        operation,
        key,
        format,
        stage: Stage::Open,
        author: call.author("bulkapi"),
        version: call.version.to_string(),
        created_ms: now_ms,
        changed_ms: now_ms,
        upload: None,
        header: Vec::new(),
        successful: Vec::new(),
        failed: Vec::new(),
        unprocessed: Vec::new(),
        error: None,
    };
    let shown = job.shown(false);
    state.jobs.ingest.insert(id, job);
    Ok(Answer::json(200, &shown))
}

fn upload(state: &mut State, sub: &Sub<'_>, id: Id, now_ms: i64) -> Result<Answer> {
    let job = state.jobs.ingest.get_mut(&id).ok_or_else(ApiError::not_found)?;
    if job.stage != Stage::Open || job.upload.is_some() {
        return Err(ApiError::bad(
            "INVALIDJOBSTATE",
            "Found multiple contents for job: one upload is allowed, while the job is Open",
        ));
    }
    if sub.body.len() > UPLOAD_BYTES_MAX {
        return Err(ApiError::new(413, "CLIENT_INPUT_ERROR", "Content size is larger than 150 MB"));
    }
    job.upload = Some(sub.body.to_vec());
    job.changed_ms = now_ms;
    Ok(Answer::empty(201))
}

fn advance(call: &Call<'_>, state: &mut State, sub: &Sub<'_>, id: Id, now_ms: i64) -> Result<Answer> {
    let body = sub.json()?;
    let job = state.jobs.ingest.get_mut(&id).ok_or_else(ApiError::not_found)?;
    match body.get("state").and_then(Json::as_str) {
        Some("UploadComplete") if job.stage == Stage::Open && job.upload.is_some() => {
            job.stage = Stage::UploadComplete;
            state.jobs.waiting.push(id);
        }
        Some("UploadComplete") if job.stage == Stage::Open => {
            return Err(ApiError::bad("INVALIDJOBSTATE", "Job content was not uploaded"));
        }
        Some("Aborted") if !job.stage.over() => {
            job.stage = Stage::Aborted;
            job.upload = None;
        }
        _ => return Err(invalid_state("Job state change is not allowed from here")),
    }
    let job = state.jobs.ingest.get_mut(&id).ok_or_else(ApiError::not_found)?;
    job.changed_ms = now_ms;
    let shown = job.shown(false);
    call.org.wake_streams();
    Ok(Answer::json(200, &shown))
}

impl Job {
    fn shown(&self, whole: bool) -> Json {
        let mut shown = json!({
            "id": self.id.to_string(), "operation": self.operation.name(), "object": self.object,
            "createdById": self.author.user.to_string(), "createdDate": time::datetime(time::whole_seconds(self.created_ms)),
            "systemModstamp": time::datetime(time::whole_seconds(self.changed_ms)), "state": self.stage.name(),
            "concurrencyMode": "Parallel", "contentType": "CSV", "apiVersion": self.version.parse::<f64>().unwrap_or(0.0),
            "contentUrl": format!("services/data/v{}/jobs/ingest/{}/batches", self.version, self.id),
            "lineEnding": self.format.line_end_name(), "columnDelimiter": self.format.delimiter_name(),
            "jobType": "V2Ingest"
        });
        let Some(entries) = shown.as_object_mut() else { return shown };
        if let Some(key) = &self.key {
            entries.insert("externalIdFieldName".into(), json!(key));
        }
        if whole {
            let elapsed = self.changed_ms - self.created_ms;
            entries.insert("numberRecordsProcessed".into(), json!(self.successful.len() + self.failed.len()));
            entries.insert("numberRecordsFailed".into(), json!(self.failed.len()));
            entries.insert("retries".into(), json!(0));
            entries.insert("totalProcessingTime".into(), json!(elapsed));
            entries.insert("apiActiveProcessingTime".into(), json!(elapsed));
            entries.insert("apexProcessingTime".into(), json!(0));
            if let Some(error) = &self.error {
                entries.insert("errorMessage".into(), json!(error));
            }
        }
        shown
    }

    fn results(&self, room: &str) -> Result<Answer> {
        if !self.stage.over() {
            return Err(invalid_state("Job is not in a state in which results are available"));
        }
        let head = |own: &[&str]| own.iter().map(|name| name.to_string()).chain(self.header.clone()).collect::<Vec<_>>();
        let rows: Vec<Vec<String>> = match room {
            "successfulresults" => {
                let row = |(id, created, row): &(String, bool, Vec<String>)| join([id.clone(), created.to_string()], row);
                std::iter::once(head(&["sf__Id", "sf__Created"])).chain(self.successful.iter().map(row)).collect()
            }
            "failedresults" => {
                let row = |(id, error, row): &(String, String, Vec<String>)| join([id.clone(), error.clone()], row);
                std::iter::once(head(&["sf__Id", "sf__Error"])).chain(self.failed.iter().map(row)).collect()
            }
            "unprocessedrecords" => std::iter::once(head(&[])).chain(self.unprocessed.iter().cloned()).collect(),
            _ => return Err(ApiError::not_found()),
        };
        Ok(Answer::of(200, "text/csv", self.format.write(&rows)))
    }
}

fn join(front: [String; 2], row: &[String]) -> Vec<String> {
    front.into_iter().chain(row.iter().cloned()).collect()
}

fn invalid_job(words: &str) -> ApiError {
    ApiError::bad("INVALIDJOB", format!("InvalidJob : {words}"))
}

fn invalid_state(words: &str) -> ApiError {
    ApiError::bad("INVALIDJOBSTATE", words)
}
