//! First loads of large objects by Bulk API 2.0: one query job, its result in pages. A job that fails, or that the org no
//! longer knows, is no loss: the load begins again by ordinary queries.

use super::client::{Call, Client, Need, read};
use super::http::Answer;
use super::records::{Columns, Look};
use super::soql::select;
use concord_engine::connector::{Chunk, ChunkCursor};
use concord_engine::error::{Code, Error, Result};
use http::Method;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long one call waits for a job; an unfinished one is looked at again by the next call.
const WAIT: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(500);
const FIRST_LOOK: Duration = Duration::from_millis(50);
/// The cursor that says: by ordinary queries, from the beginning.
const ORDINARY: &[u8] = b"ordinary";
/// What a page's header says when there is none behind it.
const NO_MORE: &str = "null";

/// Where a job's result has been read to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Reading {
    job: String,
    locator: Option<String>,
    behind: u64,
    began: i64,
}

#[derive(Deserialize)]
struct Job {
    id: String,
    #[serde(default)]
    state: String,
}

/// Whether a cursor is one of a job.
fn reading(from: &ChunkCursor) -> Option<Reading> {
    from.0.strip_prefix(b"job:").and_then(|bytes| postcard::from_bytes(bytes).ok())
}

/// A chunk of the job that the cursor names; `None` where it names none.
pub(super) async fn go_on(client: &Client, columns: &Columns<'_>, from: &ChunkCursor, limit: usize) -> Option<Result<Chunk>> {
    Some(page(client, columns, reading(from)?, limit).await)
}

/// Makes a job for all of an object; the chunk brings no record yet, only the cursor.
pub(super) async fn begin(client: &Client, columns: &Columns<'_>, behind: u64) -> Result<Chunk> {
    match make(client, columns, behind).await {
        // No job reads such objects, or such fields.
        Err(error) if is_refused(&error) => {
            tracing::info!(
                object = columns.object.name,
                error = error.chain(),
                "no job reads this: it is read by ordinary queries"
            );
            Ok(ordinary())
        }
        made => made,
    }
}

/// A chunk that says: by ordinary queries, from the beginning.
fn ordinary() -> Chunk {
    Chunk { records: Vec::new(), next: Some(ChunkCursor(ORDINARY.to_vec())) }
}

fn is_refused(error: &Error) -> bool {
    matches!(error.code, Code::ObjectMissing | Code::StatementRefused)
}

async fn make(client: &Client, columns: &Columns<'_>, behind: u64) -> Result<Chunk> {
    let object = &columns.object.name;
    let look = Look::new(behind);
    let body = serde_json::json!({"operation": "query", "query": select(&columns.names(), object, ""), "contentType": "CSV"});
    let call = Call::with_body(Method::POST, client.settings.path("jobs/query"), body.to_string()).needed(Need::Backfill);
    let job: Job = client.json(&format!("beginning to read {object}"), call).await?;
    let reading = Reading { job: job.id, locator: None, behind: look.behind, began: look.began };
    Ok(Chunk { records: Vec::new(), next: Some(reading.cursor()?) })
}

impl Reading {
    fn cursor(&self) -> Result<ChunkCursor> {
        let bytes = postcard::to_stdvec(self)
            .map_err(|error| Error::new(Code::Internal, "a cursor could not be written").because(error))?;
        Ok(ChunkCursor([b"job:".as_slice(), &bytes].concat()))
    }
}

async fn page(client: &Client, columns: &Columns<'_>, reading: Reading, limit: usize) -> Result<Chunk> {
    if reading.locator.is_none() {
        match finished(client, &reading.job).await {
            Ok(true) => {}
            Ok(false) => return Ok(Chunk { records: Vec::new(), next: Some(reading.cursor()?) }),
            Err(error) if is_refused(&error) => return Ok(ordinary()),
            Err(error) => return Err(error),
        }
    }
    let at = reading.locator.as_ref().map_or_else(String::new, |locator| format!("&locator={locator}"));
    let path = format!("jobs/query/{}/results?maxRecords={limit}{at}", reading.job);
    let doing = format!("reading {}", columns.object.name);
    // A job was admitted when it began, and its first page goes with it; each further page is asked for by itself.
    let need = if reading.locator.is_none() { Need::Now } else { Need::Backfill };
    let answer = match client.call(&doing, &Call::get(client.settings.path(&path)).needed(need)).await {
        Ok(answer) => answer,
        Err(failure) if failure.error.code == Code::ObjectMissing => return Ok(ordinary()),
        Err(failure) => return Err(failure.error),
    };
    let records = records(columns, &answer, &reading)?;
    let locator = answer.header("sforce-locator").filter(|locator| *locator != NO_MORE).map(str::to_owned);
    let next = locator.map(|locator| Reading { locator: Some(locator), ..reading.clone() }.cursor()).transpose()?;
    if next.is_none() {
        // A job left behind costs nobody anything; the org forgets it after a week.
        let _ = client
            .call(
                "ending a job",
                &Call { method: Method::DELETE, ..Call::get(client.settings.path(&format!("jobs/query/{}", reading.job))) },
            )
            .await;
    }
    Ok(Chunk { records, next })
}

fn records(columns: &Columns<'_>, answer: &Answer, reading: &Reading) -> Result<Vec<concord_engine::change::Observation>> {
    let odd = |error: csv::Error| {
        Error::new(Code::ProtocolViolation, format!("a page of {} is no CSV", columns.object.name)).because(error)
    };
    let mut pages = csv::ReaderBuilder::new().from_reader(answer.body.as_ref());
    let header = pages.headers().map_err(odd)?.clone();
    let look = Look { behind: reading.behind, began: reading.began };
    let mut records = Vec::new();
    for row in pages.records() {
        records.push(look.observe(columns.object, columns.read_cells(&header, &row.map_err(odd)?)?));
    }
    Ok(records)
}

/// Whether the job is done, waiting a while for it; an error where it came to nothing.
async fn finished(client: &Client, job: &str) -> Result<bool> {
    let deadline = tokio::time::Instant::now() + WAIT;
    let mut pause = FIRST_LOOK;
    loop {
        let answer = client.call("looking at a job", &Call::get(client.settings.path(&format!("jobs/query/{job}")))).await?;
        let shown: Job = read("looking at a job", &answer.body)?;
        match shown.state.as_str() {
            "JobComplete" => return Ok(true),
            "Failed" | "Aborted" => return Err(Error::new(Code::StatementRefused, format!("the job {job} came to nothing"))),
            _ if tokio::time::Instant::now() >= deadline => return Ok(false),
            _ => tokio::time::sleep(pause).await,
        }
        pause = pause.saturating_mul(2).min(LOOK_EVERY);
    }
}
