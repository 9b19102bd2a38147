//! The work of ingest jobs: 200 records a transaction, other calls between two of them. Results come in another order
//! than the records, as the vendor's do.

use super::ingest::{Job, Operation, Stage};
use crate::faults::{Action, Happening};
use crate::salesforce::dml::{Fields, Refused, Writer};
use crate::salesforce::errors::RecordError;
use crate::salesforce::ids::Id;
use crate::salesforce::org::Org;
use crate::salesforce::rules::OnDuplicates;
use crate::salesforce::schema::Object;
use crate::salesforce::values::read::Given;
use std::sync::Arc;
use std::time::Duration;

/// Records of one transaction.
const CHUNK: usize = 200;

struct Upload {
    object: Arc<Object>,
    operation: Operation,
    key: Option<String>,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// Processes every job that waits.
pub async fn process(org: Arc<Org>) {
    loop {
        let next = {
            let state = &mut *org.state();
            if state.jobs.held || state.jobs.waiting.is_empty() { None } else { Some(state.jobs.waiting.remove(0)) }
        };
        let Some(id) = next else { return };
        if let Some(upload) = begin(&org, id) {
            let (breaks, rests) = match org.faults.befalls(&Happening::Job { object: &upload.object.name, room: "jobs/ingest" }) {
                Some(Action::JobBreaks { after }) => (Some(after), None),
                Some(Action::JobRests { after, ms }) => (None, Some((after, ms))),
                _ => (None, None),
            };
            let mut done = 0;
            loop {
                let mut end = upload.rows.len().min(done + CHUNK);
                for stop in breaks.into_iter().chain(rests.map(|(after, _)| after)).filter(|stop| *stop > done) {
                    end = end.min(stop);
                }
                let chunk: Vec<&Vec<String>> = upload.rows.iter().take(end).skip(done).collect();
                if breaks == Some(done) {
                    fail(&org, id, &upload, done);
                    break;
                }
                if chunk.is_empty() || !work(&org, id, &upload, &chunk) {
                    break;
                }
                done = end;
                tokio::task::yield_now().await;
                if let Some((_, ms)) = rests.filter(|(after, _)| *after == done) {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                }
            }
            end(&org, id);
        }
    }
}

/// The job breaks: what it has not come to is given back.
fn fail(org: &Org, id: Id, upload: &Upload, done: usize) {
    let state = &mut *org.state();
    let Some(job) = state.jobs.ingest.get_mut(&id).filter(|job| job.stage == Stage::InProgress) else { return };
    job.stage = Stage::Failed;
    job.error = Some("InternalServerError : An unexpected error occurred".to_string());
    job.unprocessed = upload.rows.iter().skip(done).cloned().collect();
}

/// Reads the upload; a job that cannot be read has failed.
fn begin(org: &Org, id: Id) -> Option<Upload> {
    let state = &mut *org.state();
    let job = state.jobs.ingest.get_mut(&id).filter(|job| job.stage == Stage::UploadComplete)?;
    job.stage = Stage::InProgress;
    let object = state.data.schema.object(&job.object)?.clone();
    let bytes = job.upload.take().unwrap_or_default();
    let read = job.format.read(&bytes).map_err(|error| format!("InvalidBatch : Failed to parse CSV: {error}"));
    let checked = read.and_then(|(header, rows)| check(&object, job, &header, &rows).map(|()| (header, rows)));
    match checked {
        Ok((header, rows)) => {
            job.header.clone_from(&header);
            let (operation, key) = (job.operation, job.key.clone());
            Some(Upload { object, operation, key, header, rows })
        }
        Err(error) => {
            job.stage = Stage::Failed;
            job.error = Some(error);
            job.changed_ms = org.clock.now_ms();
            None
        }
    }
}

fn check(object: &Object, job: &Job, header: &[String], rows: &[Vec<String>]) -> Result<(), String> {
    for name in header {
        let known = match name.split_once('.') {
            Some((relationship, _)) => object.relationship(relationship).is_some(),
            None => object.field(name).is_some(),
        };
        if !known {
            return Err(format!("InvalidBatch : Field name not found : {name}"));
        }
    }
    let needs_id = matches!(job.operation, Operation::Update | Operation::Delete | Operation::HardDelete);
    if needs_id && !header.iter().any(|name| name.eq_ignore_ascii_case("Id")) {
        return Err("InvalidBatch : Field name not found : Id".to_string());
    }
    match rows.iter().find(|row| row.len() != header.len()) {
        Some(row) => Err(format!("InvalidBatch : Records not found or malformed: {} columns, not {}", row.len(), header.len())),
        None => Ok(()),
    }
}

/// Works on one chunk; false where the job was aborted meanwhile.
fn work(org: &Org, id: Id, upload: &Upload, rows: &[&Vec<String>]) -> bool {
    let state = &mut *org.state();
    let Some(author) = state.jobs.ingest.get(&id).map(|job| job.author.clone()) else { return false };
    if state.jobs.ingest.get(&id).is_some_and(|job| job.stage == Stage::Aborted) {
        return false;
    }
    let results: Vec<Result<(Id, bool), Refused>> =
        org.write(state, &author, &OnDuplicates::default(), |writer| rows.iter().map(|row| one(writer, upload, row)).collect());
    let Some(job) = state.jobs.ingest.get_mut(&id) else { return false };
    // The last of a chunk stands first in the results.
    for (row, result) in rows.iter().zip(results).rev() {
        match result {
            Ok((id, created)) => job.successful.push((id.to_string(), created, row.to_vec())),
            Err(errors) => {
                let error = errors.first().map(RecordError::bulk).unwrap_or_default();
                let own = cell(upload, row, "Id").unwrap_or_default();
                job.failed.push((own, error, row.to_vec()));
            }
        }
    }
    true
}

fn end(org: &Org, id: Id) {
    let now_ms = org.clock.now_ms();
    let state = &mut *org.state();
    let Some(job) = state.jobs.ingest.get_mut(&id) else { return };
    if job.stage == Stage::InProgress {
        job.stage = Stage::JobComplete;
    }
    job.changed_ms = now_ms;
}

fn cell(upload: &Upload, row: &[String], name: &str) -> Option<String> {
    let at = upload.header.iter().position(|own| own.eq_ignore_ascii_case(name))?;
    row.get(at).cloned()
}

fn one(writer: &mut Writer<'_>, upload: &Upload, row: &[String]) -> Result<(Id, bool), Refused> {
    let object = &upload.object;
    let own_id = || {
        let text = cell(upload, row, "Id").unwrap_or_default();
        Id::parse(text.trim()).ok_or_else(|| vec![RecordError::on("MALFORMED_ID", format!("bad id {text}"), "Id")])
    };
    // An empty cell says nothing; #N/A says null.
    let given = |text: &String| if text == "#N/A" { Given::Null } else { Given::Cell(text.clone()) };
    let filled = upload.header.iter().zip(row).filter(|(_, text)| !text.is_empty());
    let fields: Fields = filled.map(|(name, text)| (name.clone(), given(text))).collect();
    match upload.operation {
        Operation::Insert => writer.insert(object, &fields).map(|id| (id, true)),
        Operation::Update => writer.update(object, own_id()?, &fields).map(|id| (id, false)),
        Operation::Delete => writer.delete(object, own_id()?).map(|id| (id, false)),
        Operation::HardDelete => writer.hard_delete(object, own_id()?).map(|id| (id, false)),
        Operation::Upsert => {
            let key = upload.key.clone().unwrap_or_default();
            let value = cell(upload, row, &key).map_or(Given::Null, |text| given(&text));
            let others: Fields = fields.into_iter().filter(|(name, _)| !name.eq_ignore_ascii_case(&key)).collect();
            writer.upsert(object, &key, &value, &others)
        }
    }
}
