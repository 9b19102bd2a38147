//! Large numbers of new records by a job of Bulk API 2.0: one upload for what would be dozens of calls. A job does nothing
//! before its upload is closed; from then on its rows are told apart by what they hold, for results come in any order.

use super::client::{Call, Client, Need, read};
use super::errors::Refusal;
use super::http::Answer;
use super::ids;
use concord_engine::error::{Code, Error, Result};
use http::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// What a cell says for null; an empty one says nothing at all.
const NULL: &str = "#N/A";
/// The most bytes of one upload; the vendor takes 150 MB in base64.
const UPLOAD_BYTES_MAX: usize = 90 * 1024 * 1024;
const FIRST_LOOK: Duration = Duration::from_millis(50);
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a job is waited for; what becomes of it later is looked up.
pub(super) const JOB_MAX: Duration = Duration::from_secs(1_800);
/// The most pages of the list of jobs (invariant 10), of a thousand jobs each.
const LIST_PAGES_MAX: usize = 50;
/// Looks at a job that may fail in a row before it is given up.
const FAILURES_MAX: u32 = 10;
/// Jobs of this process that are remembered (invariant 10).
const OWN_MAX: usize = 1_000;

/// A record to be made: its fields in JSON.
pub(super) type Body = BTreeMap<String, Box<RawValue>>;

/// What became of a row.
pub(super) enum Loaded {
    Made(String),
    Refused(Refusal),
    /// Nothing was done.
    Failed(Error),
    /// Nothing was done, and no job ever does it: objects that the Bulk API does not support.
    NotTaken,
    Unknown,
}

/// The jobs that this process has made, and that may not have come to their end. Nothing in a job says whose it is: other
/// programs work as the same user. One that an earlier process has left open is closed by nobody, and never begins.
#[derive(Default)]
pub(super) struct OwnJobs(Mutex<VecDeque<String>>);

impl OwnJobs {
    fn made(&self, job: &str) {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.len() >= OWN_MAX {
            jobs.pop_front();
        }
        jobs.push_back(ids::full(job));
    }

    fn ended(&self, job: &str) {
        let job = ids::full(job);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|known| *known != job);
    }

    fn has(&self, job: &str) -> bool {
        let job = ids::full(job);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&job)
    }
}

#[derive(Deserialize)]
struct Job {
    id: String,
    #[serde(default)]
    state: String,
}

/// Whether a record can be a row as it is: nothing in it would be taken for something else.
pub(super) fn can_be_a_row(body: &Body) -> bool {
    body.values().all(|value| cell(value).is_some_and(|text| !text.contains('\r') && (text != NULL || value.get() == "null")))
}

/// A value as a cell.
fn cell(value: &RawValue) -> Option<String> {
    match value.get() {
        "null" => Some(NULL.to_owned()),
        text if text.starts_with('"') => serde_json::from_str(text).ok(),
        other => Some(other.to_owned()),
    }
}

/// Makes records by jobs; one answer for each, in their order.
pub(super) async fn insert(client: &Client, object: &str, name: &str, bodies: &[&Body]) -> Vec<Loaded> {
    let mut loaded = Vec::with_capacity(bodies.len());
    let mut rest = bodies;
    while !rest.is_empty() {
        let (part, upload) = Upload::of(rest);
        loaded.extend(Loading { client, object, name, upload: &upload }.run().await);
        rest = rest.get(part..).unwrap_or_default();
    }
    loaded
}

/// What is uploaded, and which rows it has.
struct Upload {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    bytes: Vec<u8>,
}

impl Upload {
    /// As many of the records as fit; how many those are.
    fn of(bodies: &[&Body]) -> (usize, Upload) {
        let names: BTreeSet<&String> = bodies.iter().flat_map(|body| body.keys()).collect();
        let header: Vec<String> = names.into_iter().cloned().collect();
        let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
        let mut bytes = 0_usize;
        let mut rows: Vec<Vec<String>> = Vec::with_capacity(bodies.len());
        // Into memory: nothing can fail.
        let _ = writer.write_record(&header);
        for body in bodies {
            let row: Vec<String> =
                header.iter().map(|name| body.get(name).and_then(|value| cell(value)).unwrap_or_default()).collect();
            bytes = bytes.saturating_add(row.iter().map(|text| text.len().saturating_add(3)).sum());
            if bytes > UPLOAD_BYTES_MAX && !rows.is_empty() {
                break;
            }
            let _ = writer.write_record(&row);
            rows.push(row);
        }
        (rows.len(), Upload { header, rows, bytes: writer.into_inner().unwrap_or_default() })
    }
}

/// Why a job did nothing.
enum Unbegun {
    /// There is none for such records.
    NoJob(Error),
    Failed(Error),
}

/// One job.
struct Loading<'a> {
    client: &'a Client,
    object: &'a str,
    name: &'a str,
    upload: &'a Upload,
}

impl Loading<'_> {
    async fn run(&self) -> Vec<Loaded> {
        let job = match self.begin().await {
            Ok(job) => job,
            Err(Unbegun::NoJob(error)) => {
                tracing::info!(object = self.object, error = error.chain(), "no job takes these records: they are made by calls");
                return self.all(|| Loaded::NotTaken);
            }
            Err(Unbegun::Failed(error)) => return self.all(|| Loaded::Failed(error.clone())),
        };
        let state = match self.wait(&job).await {
            Some(state) => state,
            None => return self.all(|| Loaded::Unknown),
        };
        self.client.jobs.ended(&job);
        let loaded = self.results(&job, &state).await;
        // A job left behind costs nobody anything; the org forgets it after a week.
        let _ = self.call(Method::DELETE, &job, None).await;
        loaded
    }

    fn all(&self, each: impl Fn() -> Loaded) -> Vec<Loaded> {
        self.upload.rows.iter().map(|_| each()).collect()
    }

    fn path(&self, rest: &str) -> String {
        self.client.settings.path(&format!("jobs/ingest{rest}"))
    }

    async fn call(&self, method: Method, job: &str, body: Option<&str>) -> std::result::Result<Answer, super::http::Failure> {
        let call = Call { method, body: body.map(|body| body.to_owned().into()), ..Call::get(self.path(&format!("/{job}"))) };
        self.client.call(&format!("loading {}", self.object), &call).await
    }

    /// A job that has everything and was told so. An error: it does nothing, or has been stopped before it did.
    async fn begin(&self) -> std::result::Result<String, Unbegun> {
        let doing = format!("beginning to load {}", self.object);
        let body = serde_json::json!({"object": self.object, "operation": "insert", "contentType": "CSV", "lineEnding": "LF"});
        let mut call = Call::with_body(Method::POST, self.path(""), body.to_string());
        call.headers.push(("sforce-call-options", format!("client={}", self.name)));
        let job: Job = self.client.json(&doing, call).await.map_err(|error| match error.code {
            Code::ObjectMissing | Code::StatementRefused => Unbegun::NoJob(error),
            _ => Unbegun::Failed(error),
        })?;
        self.client.jobs.made(&job.id);
        let upload = Call {
            content_type: "text/csv",
            ..Call::with_body(Method::PUT, self.path(&format!("/{}/batches", job.id)), self.upload.bytes.clone())
        };
        if let Err(failure) = self.client.call(&doing, &upload).await {
            self.abort(&job.id).await;
            return Err(Unbegun::Failed(failure.error));
        }
        match self.call(Method::PATCH, &job.id, Some(r#"{"state":"UploadComplete"}"#)).await {
            Err(failure) if !failure.sent => {
                self.abort(&job.id).await;
                Err(Unbegun::Failed(failure.error))
            }
            // Whether it has heard, its state tells.
            _ => Ok(job.id),
        }
    }

    async fn abort(&self, job: &str) {
        let _ = self.call(Method::PATCH, job, Some(r#"{"state":"Aborted"}"#)).await;
    }

    /// The state in which the job has ended; `None` where that could not be learnt.
    async fn wait(&self, job: &str) -> Option<String> {
        let deadline = Instant::now() + JOB_MAX;
        let (mut pause, mut failures) = (FIRST_LOOK, 0);
        while Instant::now() < deadline && failures < FAILURES_MAX {
            let shown = self.call(Method::GET, job, None).await.map_err(|failure| failure.error);
            match shown.and_then(|answer| read::<Job>("looking at a job", &answer.body)) {
                Ok(shown) => {
                    failures = 0;
                    match shown.state.as_str() {
                        "JobComplete" | "Failed" | "Aborted" => return Some(shown.state),
                        // It has not heard that everything is there: now it never will.
                        "Open" => self.abort(job).await,
                        _ => {}
                    }
                }
                Err(error) => {
                    failures += 1;
                    tracing::debug!(job, error = error.chain(), "a job could not be looked at");
                }
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(LOOK_EVERY);
        }
        None
    }

    async fn results(&self, job: &str, state: &str) -> Vec<Loaded> {
        let mut places: HashMap<&Vec<String>, VecDeque<usize>> = HashMap::new();
        for (place, row) in self.upload.rows.iter().enumerate() {
            places.entry(row).or_default().push_back(place);
        }
        let mut loaded = self.all(|| Loaded::Unknown);
        let rooms = ["successfulResults", "failedResults", "unprocessedrecords"];
        for room in rooms.into_iter().take(if state == "JobComplete" { 2 } else { 3 }) {
            let answer = match self.call(Method::GET, &format!("{job}/{room}"), None).await {
                Ok(answer) => answer,
                Err(failure) => {
                    tracing::warn!(job, room, error = failure.error.chain(), "what a job has done could not be read");
                    continue;
                }
            };
            for (row, id, error) in self.rows(&answer) {
                // Rows that hold the same are as good as each other.
                let place = places.get_mut(&row).and_then(VecDeque::pop_front);
                let Some(slot) = place.and_then(|place| loaded.get_mut(place)) else { continue };
                *slot = match room {
                    "successfulResults" => Loaded::Made(ids::full(&id)),
                    "failedResults" => Loaded::Refused(refusal(&error)),
                    _ => {
                        Loaded::Failed(Error::new(Code::Unreachable, format!("the job {job} was broken off before this record")))
                    }
                };
            }
        }
        loaded
    }

    /// Rows as they were sent, each with its id and error as far as they are given.
    fn rows(&self, answer: &Answer) -> Vec<(Vec<String>, String, String)> {
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(answer.body.as_ref());
        let Ok(header) = reader.headers().cloned() else { return Vec::new() };
        let place = |name: &str| header.iter().position(|one| one == name);
        let columns: Vec<Option<usize>> = self.upload.header.iter().map(|name| place(name)).collect();
        let (id, error) = (place("sf__Id"), place("sf__Error"));
        let at = |row: &csv::StringRecord, place: Option<usize>| place.and_then(|place| row.get(place)).unwrap_or("").to_owned();
        reader
            .records()
            .flatten()
            .map(|row| (columns.iter().map(|place| at(&row, *place)).collect(), at(&row, id), at(&row, error)))
            .collect()
    }
}

/// `DUPLICATE_VALUE:duplicate value found: …:Ext__c --`: the code, the words, the fields.
fn refusal(text: &str) -> Refusal {
    let (code, rest) = text.split_once(':').unwrap_or((text, ""));
    let rest = rest.trim_end().trim_end_matches("--").trim_end();
    let (message, fields) = rest.rsplit_once(':').unwrap_or((rest, ""));
    let fields = fields.split(',').map(str::trim).filter(|name| super::schema::is_name(name)).map(str::to_owned).collect();
    Refusal { code: code.trim().to_owned(), message: message.trim().to_owned(), fields }
}

/// Whether jobs of our user that make records of an object may still be at it. One that is open makes nothing until whoever made
/// it closes it: it is stopped where that was this process, and left alone elsewhere. Where the org has more jobs than are looked
/// at, one of them may be at it.
pub(super) async fn is_under_way(client: &Client, object: &str, users: &[String]) -> Result<bool> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Jobs {
        records: Vec<Listed>,
        #[serde(default)]
        done: Option<bool>,
        #[serde(default)]
        next_records_url: Option<String>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    #[derive(Default)]
    struct Listed {
        id: String,
        object: String,
        operation: String,
        state: String,
        created_by_id: String,
    }
    let ours =
        |job: &&Listed| job.object == object && job.operation == "insert" && users.contains(&ids::full(&job.created_by_id));
    let mut under_way = false;
    let mut next = Some(client.settings.path("jobs/ingest?jobType=V2Ingest"));
    for _ in 0..LIST_PAGES_MAX {
        let Some(path) = next else { return Ok(under_way) };
        let jobs: Jobs = client.json("looking for jobs of ours", Call::get(path).needed(Need::Now)).await?;
        for job in jobs.records.iter().filter(ours) {
            match job.state.as_str() {
                "Open" if client.jobs.has(&job.id) => {
                    let path = client.settings.path(&format!("jobs/ingest/{}", job.id));
                    let call = Call::with_body(Method::PATCH, path, r#"{"state":"Aborted"}"#);
                    under_way |= client.call("stopping a job", &call).await.is_err();
                }
                "UploadComplete" | "InProgress" => under_way = true,
                _ => {}
            }
        }
        next = jobs.next_records_url.filter(|_| jobs.done != Some(true));
    }
    Ok(under_way || next.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(pairs: &[(&str, &str)]) -> Body {
        pairs.iter().map(|(name, json)| ((*name).to_owned(), RawValue::from_string((*json).to_owned()).unwrap())).collect()
    }

    #[test]
    fn what_a_cell_would_change_is_no_row() {
        assert!(can_be_a_row(&body(&[("Name", r#""a \"quoted\", name""#), ("Phone", "null"), ("Employees", "5")])));
        assert!(!can_be_a_row(&body(&[("Name", "\"#N/A\"")])), "it would be stored as null");
        assert!(!can_be_a_row(&body(&[("Name", r#""two\r\nlines""#)])));
    }

    #[test]
    fn rows_have_a_cell_for_every_field_of_any_record() {
        let (one, other) = (body(&[("Name", "\"a,b\""), ("Phone", "null")]), body(&[("Name", "\"c\""), ("X__c", "1.5")]));
        let (count, upload) = Upload::of(&[&one, &other]);
        assert_eq!((count, String::from_utf8(upload.bytes).unwrap()), (2, "Name,Phone,X__c\n\"a,b\",#N/A,\nc,,1.5\n".to_owned()));
    }

    #[test]
    fn an_error_text_is_taken_apart() {
        let found = refusal("DUPLICATE_VALUE:duplicate value found: Ext__c duplicates value on record with id: 001:Ext__c --");
        assert_eq!((found.code.as_str(), found.fields.as_slice()), ("DUPLICATE_VALUE", ["Ext__c".to_owned()].as_slice()));
        assert_eq!(refusal("UNKNOWN_EXCEPTION:oh --").code, "UNKNOWN_EXCEPTION");
    }
}
