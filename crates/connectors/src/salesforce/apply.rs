//! Writes by Collections: up to 200 records a call or a part of one (see `parts`), each with an outcome of its own; very many
//! new records by a job. The org has no write that happens only if a record shows something: each record is read right before it is written, and again behind it, so that what
//! rules, triggers and flows made of our write is known. Nothing here retries what the engine would not know of.

use super::client::{Call, Client, Need, read};
use super::errors::{Refusal, duplicated, of_record};
use super::find::{Search, find, rows_a_call};
use super::http::Failure;
use super::ids;
use super::ingest::{Body, Loaded, can_be_a_row, insert};
use super::made::{key_field, key_of};
use super::parts::{PARTS_MAX, READ_PARTS_MAX, refers};
use super::position::{client_name, fingerprint};
use super::records::{Columns, Look, PAGE_MAX, ShownRecord, retrieve};
use super::schema::{FieldInfo, Object};
use super::types;
use concord_engine::change::Mark;
use concord_engine::connector::{Operation, Outcome, Workload, Write, WriteResult};
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::{FieldName, Key, Record};
use concord_engine::schema::Selection;
use concord_engine::value::Value;
use http::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The most records of one call.
pub(super) const CALL_MAX: usize = 200;

/// About the calls of a job: made, filled, closed, looked at, read and forgotten.
const JOB_CALLS: u64 = 10;

/// What a batch is written with.
pub(super) struct Job {
    pub client: Arc<Client>,
    pub object: Arc<Object>,
    pub selection: Selection,
    pub mark: Mark,
    /// What it is for. That is asked before anything is done, and again before each call that writes but the first: what was
    /// read for it was not read in vain.
    pub need: Need,
    /// Whether a call that writes was made for it.
    pub begun: AtomicBool,
    pub behind: Box<dyn Fn() -> u64 + Send + Sync>,
}

/// One record's result within a call.
#[derive(Deserialize)]
struct CallResult {
    id: Option<String>,
    success: bool,
    #[serde(default)]
    errors: Vec<Refusal>,
}

/// What is to be sent for one write.
pub(super) enum Sent {
    /// A record without an id.
    Create(BTreeMap<String, Box<RawValue>>),
    /// Fields of the record of this id.
    Update(String, BTreeMap<String, Box<RawValue>>),
    /// The record of this id goes.
    Delete(String),
}

/// What a call says of one write.
pub(super) enum Answered {
    Done(String),
    Refused(Vec<Refusal>),
    Failed(Error),
    Unknown,
}

/// A write that happened, and what its record showed behind it, where that is known.
struct Done {
    place: usize,
    id: String,
    read: Option<(Look, ShownRecord)>,
}

/// Outcomes by the place of the write in the batch.
type Outcomes = BTreeMap<usize, Outcome>;

/// Writes a batch; see [`Connector::apply`](concord_engine::connector::Connector::apply).
pub(super) async fn apply(job: Job, writes: Vec<Write>) -> Result<Vec<WriteResult>> {
    let mut outcomes = Outcomes::new();
    let mut ready: Vec<(usize, Sent)> = Vec::with_capacity(writes.len());
    for (place, write) in writes.iter().enumerate() {
        match job.prepare(write.id, &write.operation) {
            Ok(sent) => ready.push((place, sent)),
            Err(outcome) => drop(outcomes.insert(place, outcome)),
        }
    }
    if !ready.is_empty()
        && let Err(error) = job.client.admit(job.need)
    {
        outcomes.extend(ready.drain(..).map(|(place, _)| (place, Outcome::Failed(error.clone()))));
    }
    job.hold_guards(&writes, &mut ready, &mut outcomes).await?;
    job.hold_absences(&writes, &mut ready, &mut outcomes).await?;
    let done = job.send(&writes, ready, &mut outcomes).await;
    job.read_back(&writes, done, &mut outcomes).await;
    Ok(writes
        .iter()
        .enumerate()
        .map(|(place, write)| WriteResult { id: write.id, outcome: outcomes.remove(&place).unwrap_or(Outcome::Unknown) })
        .collect())
}

impl Job {
    /// What is to be sent for a write, unless it is clear already what becomes of it.
    fn prepare(&self, id_of_write: u64, operation: &Operation) -> std::result::Result<Sent, Outcome> {
        let id = |key: &Key| {
            ids::of(key).filter(|id| self.object.key_prefix.as_ref().is_none_or(|prefix| id.starts_with(prefix.as_str())))
        };
        match operation {
            Operation::Create { image, .. } => self.creation(id_of_write, image).map(Sent::Create).map_err(Outcome::Failed),
            Operation::Update { key, set, .. } => {
                let id = id(key).ok_or(Outcome::Missed)?;
                let body = self.body(set, |field| field.field.updatable).map_err(Outcome::Failed)?;
                Ok(Sent::Update(id, body))
            }
            Operation::Delete { key, .. } => id(key).map(Sent::Delete).ok_or(Outcome::Missed),
        }
    }

    /// A record to be made, with a key of ours where there is a field for it: a second one would be refused.
    fn creation(&self, link: u64, image: &Record) -> Result<BTreeMap<String, Box<RawValue>>> {
        let mut body = self.body(image, |field| field.field.creatable)?;
        if let Some(field) = key_field(&self.client.settings, &self.object)?.filter(|field| !image.has(&field.name)) {
            body.insert(field.name.clone(), types::encode(field, &key_of(&self.mark, link))?);
        }
        Ok(body)
    }

    fn body(&self, record: &Record, writable: fn(&FieldInfo) -> bool) -> Result<BTreeMap<String, Box<RawValue>>> {
        let mut body = BTreeMap::new();
        for (name, value) in record.iter() {
            let field = self.object.field(name.as_str()).ok_or_else(|| self.no_field(name))?;
            if !writable(field) {
                return Err(Error::new(Code::HostedFieldRefused, format!("{}.{name} cannot be written", self.object.name)));
            }
            body.insert(field.name.clone(), types::encode(field, value)?);
        }
        Ok(body)
    }

    /// What the next call that writes is for: the first goes with what was read for it.
    pub(super) fn need(&self) -> Need {
        if self.begun.swap(true, Ordering::Relaxed) { self.need } else { Need::Now }
    }

    fn no_field(&self, name: &FieldName) -> Error {
        Error::new(Code::FieldMissing, format!("the object {} has no field {name}", self.object.name))
    }

    /// Reads what is to be changed or deleted; a record that shows something else than its guard is missed.
    async fn hold_guards(&self, writes: &[Write], ready: &mut Vec<(usize, Sent)>, outcomes: &mut Outcomes) -> Result<()> {
        let mut names: Vec<&FieldName> = Vec::new();
        let mut wanted: Vec<String> = Vec::new();
        for (place, sent) in ready.iter() {
            if let (Sent::Update(id, _) | Sent::Delete(id), Some(guard)) = (sent, writes.get(*place).and_then(guard_of)) {
                names.extend(guard.iter().map(|(name, _)| name));
                wanted.push(id.clone());
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let mut fields: Vec<&FieldInfo> = self.object.field(super::schema::ID).into_iter().collect();
        for name in names {
            let field = self.object.field(name.as_str()).ok_or_else(|| self.no_field(name))?;
            if !fields.iter().any(|known| known.name == field.name) {
                fields.push(field);
            }
        }
        let columns = Columns::new(&self.object, fields);
        let found = retrieve(&self.client, &columns, &wanted).await?;
        let shown: HashMap<String, ShownRecord> = found.into_iter().flatten().map(|shown| (shown.id.clone(), shown)).collect();
        ready.retain(|(place, sent)| {
            let (Sent::Update(id, _) | Sent::Delete(id)) = sent else { return true };
            let guard = writes.get(*place).and_then(guard_of);
            let holds = shown.get(id).is_some_and(|shown| guard.is_none_or(|guard| holds(guard, &shown.record)));
            if !holds {
                outcomes.insert(*place, Outcome::Missed);
            }
            holds
        });
        Ok(())
    }

    /// Looks for records that a create would meet; those are collisions.
    async fn hold_absences(&self, writes: &[Write], ready: &mut Vec<(usize, Sent)>, outcomes: &mut Outcomes) -> Result<()> {
        let mut asked: BTreeMap<Vec<FieldName>, Vec<(usize, Vec<Value>)>> = BTreeMap::new();
        for (place, _) in ready.iter() {
            let Some(Operation::Create { image, absent_by }) = writes.get(*place).map(|write| &write.operation) else { continue };
            let values: Vec<Value> =
                absent_by.iter().map(|name| image.get(name.as_str()).cloned().unwrap_or(Value::Null)).collect();
            if !values.is_empty() {
                asked.entry(absent_by.clone()).or_default().push((*place, values));
            }
        }
        for (by, rows) in asked {
            let values: Vec<Vec<Value>> = rows.iter().map(|(_, values)| values.clone()).collect();
            let key = Selection { object: self.selection.object.clone(), fields: vec![FieldName::from(super::schema::ID)] };
            let search = Search { by: &by, values: &values, limit: 1 };
            let found = find(&self.client, &self.object, &key, &search, 0, Need::Now).await?;
            let mut taken: Vec<&Vec<Value>> = Vec::new();
            for ((place, values), found) in rows.iter().zip(found) {
                // Two creates of one batch can meet each other as well.
                let met = !found.is_empty()
                    || taken.iter().any(|other| other.iter().zip(values).all(|(one, other)| one.equivalent(other)));
                if met {
                    outcomes.insert(*place, Outcome::Collision);
                    ready.retain(|(other, _)| other != place);
                } else {
                    taken.push(values);
                }
            }
        }
        Ok(())
    }

    /// Sends what is ready, 200 records to a call or to a part of one; gives back the writes that happened.
    async fn send(&self, writes: &[Write], ready: Vec<(usize, Sent)>, outcomes: &mut Outcomes) -> Vec<Done> {
        let (updates, others): (Vec<_>, Vec<_>) = ready.into_iter().partition(|(_, sent)| matches!(sent, Sent::Update(..)));
        let (creates, deletes): (Vec<_>, Vec<_>) = others.into_iter().partition(|(_, sent)| matches!(sent, Sent::Create(_)));
        let mut answered = Vec::new();
        let many = u64::try_from(creates.len()).unwrap_or(u64::MAX) > self.client.settings.bulk_above;
        let (rows, mut creates): (Vec<_>, Vec<_>) =
            creates.into_iter().partition(|(_, sent)| many && matches!(sent, Sent::Create(body) if can_be_a_row(body)));
        let (loaded, not_taken) = self.by_job(rows).await;
        answered.extend(loaded);
        creates.extend(not_taken);
        // In a call of several parts `@{` would begin a reference to another part.
        let (plain, odd): (Vec<_>, Vec<_>) = updates.into_iter().partition(|(_, sent)| !refers(sent));
        let (made, odd_made): (Vec<_>, Vec<_>) = creates.into_iter().partition(|(_, sent)| !refers(sent));
        for part in odd.chunks(CALL_MAX).chain(odd_made.chunks(CALL_MAX)) {
            answered.extend(part.iter().zip(self.one_call(part).await).map(|((place, _), answer)| (*place, answer, None)));
        }
        for part in made.chunks(CALL_MAX * PARTS_MAX).chain(deletes.chunks(CALL_MAX * PARTS_MAX)) {
            let answers = if part.len() > CALL_MAX { self.in_parts(part).await } else { self.one_call(part).await };
            answered.extend(part.iter().zip(answers).map(|((place, _), answer)| (*place, answer, None)));
        }
        for part in plain.chunks(CALL_MAX * READ_PARTS_MAX) {
            let (answers, look, mut shown) = self.update_and_read(part).await;
            for ((place, sent), answer) in part.iter().zip(answers) {
                let read = match sent {
                    Sent::Update(id, _) => shown.remove(id).map(|shown| (look, shown)),
                    _ => None,
                };
                answered.push((*place, answer, read));
            }
        }
        let mut done = Vec::new();
        let mut made_before = Vec::new();
        for (place, answer, read) in answered {
            match answer {
                Answered::Done(id) => done.push(Done { place, id, read }),
                Answered::Refused(errors) if self.may_be_ours_already(writes.get(place), &errors) => {
                    made_before.push((place, errors));
                }
                other => drop(outcomes.insert(place, self.refused(writes.get(place), other))),
            }
        }
        self.find_ours(writes, made_before, &mut done, outcomes).await;
        done
    }

    /// Whether a create was refused because a record with our own key is there: an earlier try of the same has made it. Where the
    /// vendor does not say which value was there it may be that one.
    fn may_be_ours_already(&self, write: Option<&Write>, errors: &[Refusal]) -> bool {
        let Some(Operation::Create { image, .. }) = write.map(|write| &write.operation) else { return false };
        let key = key_field(&self.client.settings, &self.object).ok().flatten().filter(|field| !image.has(&field.name));
        let named = duplicated(errors);
        key.is_some_and(|key| named.is_some_and(|named| named.is_empty() || named.contains(&key.name.as_str())))
    }

    /// The records that earlier tries have made.
    async fn find_ours(
        &self,
        writes: &[Write],
        places: Vec<(usize, Vec<Refusal>)>,
        done: &mut Vec<Done>,
        outcomes: &mut Outcomes,
    ) {
        let Ok(Some(key)) = key_field(&self.client.settings, &self.object) else { return };
        let links = places.iter().filter_map(|(place, _)| writes.get(*place)).map(|write| write.id);
        let values: Vec<Vec<Value>> = links.map(|link| vec![key_of(&self.mark, link)]).collect();
        if values.is_empty() {
            return;
        }
        let selection = Selection { object: self.selection.object.clone(), fields: vec![FieldName::from(super::schema::ID)] };
        let by = [FieldName::from(key.name.as_str())];
        let search = Search { by: &by, values: &values, limit: 1 };
        let found = find(&self.client, &self.object, &selection, &search, 0, Need::Now).await;
        let was_asked = found.is_ok();
        let found = found.unwrap_or_default().into_iter().chain(std::iter::repeat(Vec::new()));
        for ((place, errors), found) in places.into_iter().zip(found) {
            match found.first().and_then(|one| ids::of(&one.key)) {
                Some(id) => done.push(Done { place, id, read: None }),
                // Another value was there, of which the vendor did not say which.
                None if was_asked && duplicated(&errors).is_some_and(|named| named.is_empty()) => {
                    outcomes.insert(place, self.refused(writes.get(place), Answered::Refused(errors)));
                }
                None => drop(outcomes.insert(place, Outcome::Unknown)),
            }
        }
    }

    /// Makes very many records at once; and those that no job takes, of which nothing was done.
    async fn by_job(
        &self,
        rows: Vec<(usize, Sent)>,
    ) -> (Vec<(usize, Answered, Option<(Look, ShownRecord)>)>, Vec<(usize, Sent)>) {
        let bodies: Vec<&Body> =
            rows.iter().filter_map(|(_, sent)| if let Sent::Create(body) = sent { Some(body) } else { None }).collect();
        let loaded = insert(&self.client, &self.object.name, &client_name(&self.mark), &bodies).await;
        let (mut answered, mut not_taken) = (Vec::with_capacity(rows.len()), Vec::new());
        for ((place, sent), loaded) in rows.into_iter().zip(loaded) {
            let answer = match loaded {
                Loaded::Made(id) => Answered::Done(id),
                Loaded::Refused(refusal) => Answered::Refused(vec![refusal]),
                Loaded::Failed(error) => Answered::Failed(error),
                Loaded::Unknown => Answered::Unknown,
                Loaded::NotTaken => {
                    not_taken.push((place, sent));
                    continue;
                }
            };
            answered.push((place, answer, None));
        }
        (answered, not_taken)
    }

    async fn one_call(&self, part: &[(usize, Sent)]) -> Vec<Answered> {
        match self.client.call(&format!("writing {}", self.object.name), &self.call_for(part)).await {
            Ok(answer) => self.results(part, &answer.body),
            Err(failure) => unanswered(part, &failure),
        }
    }

    /// What a call says of each record, in the order of the request.
    pub(super) fn results(&self, part: &[(usize, Sent)], body: &[u8]) -> Vec<Answered> {
        let results: Result<Vec<CallResult>> = read("the results of a write", body);
        let mut results = results.unwrap_or_default().into_iter();
        part.iter()
            .map(|(_, sent)| match (results.next(), sent) {
                (Some(CallResult { success: true, id: Some(id), .. }), _) => Answered::Done(ids::full(&id)),
                (Some(CallResult { success: true, .. }), Sent::Update(id, _) | Sent::Delete(id)) => Answered::Done(id.clone()),
                (Some(CallResult { success: false, errors, .. }), _) if !errors.is_empty() => Answered::Refused(errors),
                _ => Answered::Unknown,
            })
            .collect()
    }

    fn call_for(&self, part: &[(usize, Sent)]) -> Call {
        let path = |rest: &str| self.client.settings.path(&format!("composite/sobjects{rest}"));
        let mut records = Vec::with_capacity(part.len());
        let mut gone = Vec::new();
        let mut method = Method::POST;
        for (_, sent) in part {
            match sent {
                Sent::Create(body) => records.push(self.record(None, body)),
                Sent::Update(id, body) => {
                    method = Method::PATCH;
                    records.push(self.record(Some(id), body));
                }
                Sent::Delete(id) => gone.push(id.as_str()),
            }
        }
        let mut call = if gone.is_empty() {
            let body = format!(r#"{{"allOrNone":false,"records":[{}]}}"#, records.join(","));
            Call::with_body(method, path(""), body)
        } else {
            Call { method: Method::DELETE, ..Call::get(path(&format!("?ids={}&allOrNone=false", gone.join(",")))) }
        };
        call.headers.push(("sforce-call-options", format!("client={}", client_name(&self.mark))));
        // Records keep the owner that they are given.
        call.headers.push(("sforce-auto-assign", "FALSE".to_owned()));
        call.needed(self.need())
    }

    pub(super) fn record(&self, id: Option<&str>, body: &BTreeMap<String, Box<RawValue>>) -> String {
        let mut text = format!(r#"{{"attributes":{{"type":"{}"}}"#, self.object.name);
        if let Some(id) = id {
            text.push_str(&format!(r#","id":"{id}""#));
        }
        for (name, value) in body {
            text.push_str(&format!(r#","{name}":{}"#, value.get()));
        }
        text.push('}');
        text
    }

    fn refused(&self, write: Option<&Write>, answered: Answered) -> Outcome {
        let errors = match answered {
            Answered::Refused(errors) => errors,
            Answered::Failed(error) => return Outcome::Failed(error),
            Answered::Done(_) | Answered::Unknown => return Outcome::Unknown,
        };
        let code = errors.first().map_or("", |error| error.code.as_str());
        let operation = write.map(|write| &write.operation);
        match (code, operation) {
            ("UNABLE_TO_LOCK_ROW", _) => Outcome::Locked,
            ("ENTITY_IS_DELETED" | "NOT_FOUND", Some(Operation::Update { .. } | Operation::Delete { .. })) => Outcome::Missed,
            ("INVALID_CROSS_REFERENCE_KEY", Some(Operation::Delete { .. })) => Outcome::Missed,
            ("DUPLICATE_VALUE", Some(Operation::Create { absent_by, .. })) if may_be_of(&errors, absent_by) => Outcome::Collision,
            _ => match of_record(&self.object.name, &errors) {
                error if error.code == Code::OutcomeUnknown => Outcome::Unknown,
                error => Outcome::Failed(error),
            },
        }
    }

    /// Reads what was written, as far as that was not done with the write. A write that cannot be read again has happened all
    /// the same: what it shows is then told by the feed.
    async fn read_back(&self, writes: &[Write], done: Vec<Done>, outcomes: &mut Outcomes) {
        let ours = Some(fingerprint(&client_name(&self.mark)));
        let look = Look::new((self.behind)());
        let is_delete =
            |one: &Done| matches!(writes.get(one.place).map(|write| &write.operation), Some(Operation::Delete { .. }));
        let (deleted, written): (Vec<_>, Vec<_>) = done.into_iter().partition(is_delete);
        for one in deleted {
            let version = look.version(None, ours);
            outcomes.insert(one.place, Outcome::Written { key: ids::key(&one.id), image: None, version });
        }
        let (read, unread): (Vec<_>, Vec<_>) = written.into_iter().partition(|one| one.read.is_some());
        let wanted: Vec<String> = unread.iter().map(|one| one.id.clone()).collect();
        let shown = match self.object.selected(&self.selection) {
            _ if wanted.is_empty() => Ok(Vec::new()),
            Ok(fields) => retrieve(&self.client, &Columns::new(&self.object, fields), &wanted).await,
            Err(error) => Err(error),
        };
        let shown = shown.unwrap_or_else(|error| {
            tracing::warn!(object = %self.object.name, error = error.chain(), "what was written could not be read again");
            Vec::new()
        });
        let found = unread.into_iter().zip(shown.into_iter().chain(std::iter::repeat(None)));
        let found = found.map(|(one, shown)| Done { read: shown.map(|shown| (look, shown)), ..one });
        for one in read.into_iter().chain(found) {
            let (version, image) = match one.read {
                Some((look, shown)) => (look.version(Some(shown.second), ours), Some(shown.record)),
                None => (look.version(None, ours), None),
            };
            outcomes.insert(one.place, Outcome::Written { key: ids::key(&one.id), image, version });
        }
    }
}

/// About how many calls some work takes: a job where there is much of it, else by pages and by calls of several parts. What is
/// looked for, and what is made where others are looked for, takes calls of its own.
pub(super) fn calls_for(work: &Workload, bulk_above: u64) -> u64 {
    let page = u64::try_from(PAGE_MAX).unwrap_or(u64::MAX);
    let (made_at_once, changed_at_once) =
        (u64::try_from(CALL_MAX * PARTS_MAX).unwrap_or(1), u64::try_from(CALL_MAX * READ_PARTS_MAX).unwrap_or(1));
    let read = match work.records > bulk_above {
        true => JOB_CALLS.saturating_add(work.records.div_ceil(work.chunk.max(1))),
        false => 1 + work.records.div_ceil(page.min(work.chunk.max(1))),
    };
    // What is made is read again, what is changed is read before and in the same call again.
    let of_searches = |batch: u64| if work.searched_by == 0 { 0 } else { batch.div_ceil(rows_a_call(work.searched_by)) };
    let of_creates = |batch: u64| {
        let made = if batch > bulk_above { JOB_CALLS } else { batch.div_ceil(made_at_once) };
        made.saturating_add(batch.div_ceil(page)).saturating_add(of_searches(batch))
    };
    let of_updates = |batch: u64| batch.div_ceil(page).saturating_add(batch.div_ceil(changed_at_once));
    let batches = |records: u64, batch: u64, calls: &dyn Fn(u64) -> u64| {
        let batch = batch.max(1);
        let rest = records % batch;
        (records / batch).saturating_mul(calls(batch)).saturating_add(if rest > 0 { calls(rest) } else { 0 })
    };
    let written = batches(work.creates, work.batch, &of_creates).saturating_add(batches(work.updates, work.batch, &of_updates));
    read.saturating_add(written).saturating_add(batches(work.searches, work.search_batch, &of_searches))
}

/// What a failure means for each record of a call: nothing was done, or nobody knows.
pub(super) fn unanswered(part: &[(usize, Sent)], failure: &Failure) -> Vec<Answered> {
    let each = || if failure.sent { Answered::Unknown } else { Answered::Failed(failure.error.clone()) };
    part.iter().map(|_| each()).collect()
}

/// Whether a record was refused for the values that none was to have, or may have been.
fn may_be_of(errors: &[Refusal], absent_by: &[FieldName]) -> bool {
    let named = duplicated(errors).unwrap_or_default();
    !absent_by.is_empty() && (named.is_empty() || absent_by.iter().any(|name| named.contains(&name.as_str())))
}

/// Whether a write brings a value that a restricted picklist was not seen to take.
pub(super) fn is_off_list(object: &Object, write: &Write) -> bool {
    let record = match &write.operation {
        Operation::Create { image, .. } => image,
        Operation::Update { set, .. } => set,
        Operation::Delete { .. } => return false,
    };
    record.iter().any(|(name, value)| object.field(name.as_str()).is_some_and(|field| types::is_off_list(field, value)))
}

fn guard_of(write: &Write) -> Option<&Record> {
    match &write.operation {
        Operation::Update { guard, .. } | Operation::Delete { guard, .. } => Some(guard),
        Operation::Create { .. } => None,
    }
}

fn holds(guard: &Record, shown: &Record) -> bool {
    guard.iter().all(|(name, value)| shown.get(name.as_str()).is_some_and(|held| held.equivalent(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted_in_calls_as_it_is_carried_out() {
        let work =
            |records, creates, updates, batch| Workload { records, chunk: 1_000, creates, updates, batch, ..Workload::default() };
        let calls = |records, creates, updates, batch| calls_for(&work(records, creates, updates, batch), 2_000);
        assert_eq!(calls(0, 0, 0, 500), 1);
        assert_eq!(calls(1_500, 0, 0, 500), 3, "counted, and two pages");
        assert_eq!(calls(50_000, 0, 0, 500), 60, "a job, and its result in pages");
        assert_eq!(calls(0, 1_000, 0, 500), 1 + 2 * (1 + 1), "a call of three parts, read again");
        assert_eq!(calls(0, 0, 1_000, 1_000), 1 + 1 + 2, "read before, and two calls that change and read");
        assert_eq!(calls(0, 50_000, 0, 10_000), 1 + 5 * (10 + 5), "five jobs, read again");
        let searched = |fields| Workload { searches: 3_000, search_batch: 500, searched_by: fields, ..work(0, 1_000, 0, 1_000) };
        assert_eq!(calls_for(&searched(1), 2_000), 1 + (1 + 1 + 1) + 6, "looked for before it is made, and before it is a match");
        assert_eq!(calls_for(&searched(2), 2_000), 1 + (1 + 1 + 4) + 6 * 2, "rows of two fields take more room");
    }
}
