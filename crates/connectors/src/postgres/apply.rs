//! Writes a batch: one transaction, which begins with the mark, and one statement per shape of write.
//! A statement that fails takes its transaction with it; the batch is then halved until the bad record stands alone,
//! so that every other is written once. After a commit without an answer the server is asked what became of it.

use super::batch::{self, Planned};
use super::client::{Lease, column};
use super::guarded::{self, Kind, Met, Parameters, Statement};
use super::read::{columns_of, key_of, unnest};
use super::schema::{Column, Table};
use super::version::{RowVersion, parse_lsn};
use super::{MARK_PREFIX, Shared, errors, insert};
use concord_engine::change::{Mark, Version};
use concord_engine::connector::{Operation, Outcome, Write, WriteResult};
use concord_engine::error::{Class, Code, Error, Result};
use concord_engine::record::Record;
use concord_engine::schema::Selection;
use concord_engine::value::Value;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

/// How writing sessions are set up: no wait without an end.
pub const SESSION_SETTINGS: &[(&str, &str)] =
    &[("lock_timeout", "2s"), ("statement_timeout", "120s"), ("idle_in_transaction_session_timeout", "60s")];
/// The longest wait for the answers to a batch.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(180);
/// How long is asked what became of a commit.
const OUTCOME_WAIT_MAX: Duration = Duration::from_secs(10);
/// How often.
const OUTCOME_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Begins a transaction whose commit is durable, whatever the database's default.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
const EMIT: &str = "SELECT pg_catalog.pg_logical_emit_message(true, $1, $2::text)::text, pg_catalog.pg_current_xact_id()::text, \
    CASE WHEN current_setting('synchronous_commit') = 'off' THEN pg_catalog.set_config('synchronous_commit', 'on', true) END";
/// The end of the log behind our rows, and the name of its segment, which begins with the timeline.
const LOG_END: &str = "SELECT pg_catalog.pg_current_wal_insert_lsn()::text, \
    substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8)";
const STATUS: &str = "SELECT pg_catalog.pg_xact_status($1::text::xid8), \
    substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8)";

/// Everything that stays the same while a batch is halved.
struct Job<'a> {
    shared: &'a Shared,
    table: &'a Table,
    shown: &'a [&'a Column],
    mark: &'a str,
    writes: &'a [Write],
}

/// What became of one transaction.
enum Attempt {
    /// It stands, or nothing was to be written; each write's outcome.
    Settled(Vec<(usize, Outcome)>),
    /// Nothing of it was written.
    Refused(Error),
    /// Some creates must be asked one by one; nothing was written.
    Singly,
    /// It may stand.
    Unsure,
}

/// Writes a batch under one mark.
pub async fn apply(shared: &Shared, selection: &Selection, mark: &Mark, writes: &[Write]) -> Result<Vec<WriteResult>> {
    let _writing = shared.writing.read().await;
    let table: Arc<Table> = shared.table(&selection.object).await?;
    let shown = table.selected(selection)?;
    let mark =
        serde_json::to_string(mark).map_err(|error| Error::new(Code::Internal, "a mark cannot be written").because(error))?;
    let job = Job { shared, table: &table, shown: &shown, mark: &mark, writes };
    let mut outcomes: Vec<Option<Outcome>> = writes.iter().map(|_| None).collect();
    let mut waiting: Vec<(Vec<usize>, bool)> = vec![((0..writes.len()).collect(), false)];
    while let Some((places, singly)) = waiting.pop() {
        match job.attempt(&places, singly).await {
            Attempt::Settled(settled) => settled.into_iter().for_each(|(place, outcome)| set(&mut outcomes, place, outcome)),
            Attempt::Unsure => places.iter().for_each(|place| set(&mut outcomes, *place, Outcome::Unknown)),
            Attempt::Singly => waiting.push((places, true)),
            Attempt::Refused(error) if is_of_everything(&error, &table) => {
                shared.forget_if_stale(&selection.object, &error);
                if outcomes.iter().all(Option::is_none) {
                    return Err(error);
                }
                fail_rest(&mut outcomes, &error);
                break;
            }
            Attempt::Refused(error) => match places.as_slice() {
                [] => {}
                [place] => set(&mut outcomes, *place, alone(writes.get(*place), error)),
                many => {
                    let (first, second) = many.split_at(many.len() / 2);
                    waiting.push((second.to_vec(), singly));
                    waiting.push((first.to_vec(), singly));
                }
            },
        }
    }
    let result =
        |(write, outcome): (&Write, Option<Outcome>)| WriteResult { id: write.id, outcome: outcome.unwrap_or(Outcome::Unknown) };
    Ok(writes.iter().zip(outcomes).map(result).collect())
}

fn set(outcomes: &mut [Option<Outcome>], place: usize, outcome: Outcome) {
    if let Some(slot) = outcomes.get_mut(place) {
        *slot = Some(outcome);
    }
}

fn fail_rest(outcomes: &mut [Option<Outcome>], error: &Error) {
    for slot in outcomes.iter_mut().filter(|slot| slot.is_none()) {
        *slot = Some(Outcome::Failed(error.clone()));
    }
}

/// Whether an error is of the session or the table rather than of one record. Row level security refuses single
/// records with the same code as a missing privilege.
fn is_of_everything(error: &Error, table: &Table) -> bool {
    match error.code {
        Code::PrivilegeMissing => !table.storage.rows_hidden,
        Code::Unreachable | Code::ProtocolViolation => true,
        _ => error.class() == Class::Stop,
    }
}

/// The outcome of a write that fails by itself.
fn alone(write: Option<&Write>, error: Error) -> Outcome {
    let creates = write.is_some_and(|write| matches!(write.operation, Operation::Create { .. }));
    match error.code {
        Code::Busy => Outcome::Locked,
        Code::AlreadyThere if creates => Outcome::Collision,
        Code::AlreadyThere | Code::PrivilegeMissing => Outcome::Failed(Error { code: Code::TargetRejected, ..error }),
        _ => Outcome::Failed(error),
    }
}

impl Job<'_> {
    /// One transaction for the writes at `places`.
    async fn attempt(&self, places: &[usize], singly: bool) -> Attempt {
        let Planned { statements, failed } = match batch::plan(self.table, self.shown, self.writes, places, singly) {
            Ok(planned) => planned,
            Err(error) => return Attempt::Refused(error),
        };
        let mut settled: Vec<(usize, Outcome)> =
            failed.into_iter().map(|(place, error)| (place, Outcome::Failed(error))).collect();
        if statements.is_empty() {
            return Attempt::Settled(settled);
        }
        let mut lease = match self.shared.writers.lease().await {
            Ok(lease) => lease,
            Err(error) => return Attempt::Refused(error),
        };
        let work = timeout(ANSWER_WAIT_MAX, self.work(&mut lease, &statements)).await;
        let written = match work.unwrap_or_else(|_| late_answer()) {
            Ok(written) => written,
            Err(error) => {
                self.roll_back(lease).await;
                return Attempt::Refused(error);
            }
        };
        if written.met.iter().any(|(_, met)| matches!(met, Met::Again)) {
            self.roll_back(lease).await;
            return Attempt::Singly;
        }
        if self.table.storage.reacts {
            match timeout(ANSWER_WAIT_MAX, self.taken_away(&mut lease, &written)).await.unwrap_or_else(|_| late_answer()) {
                Ok(false) => {}
                Ok(true) => {
                    self.roll_back(lease).await;
                    let message = format!("a trigger of {} took the record away again", self.table.schema.object);
                    return Attempt::Refused(Error::new(Code::TargetRejected, message));
                }
                Err(error) => {
                    self.roll_back(lease).await;
                    return Attempt::Refused(error);
                }
            }
        }
        let any = written.met.iter().any(|(_, met)| matches!(met, Met::Written(_)));
        if !any {
            self.roll_back(lease).await;
        } else {
            match self.commit(lease, &written).await {
                Commit::Stands => {}
                Commit::Refused(error) => return Attempt::Refused(error),
                Commit::Unsure => return Attempt::Unsure,
            }
        }
        for (place, met) in written.met {
            match self.outcome(met, place, &written.version) {
                Ok(outcome) => settled.push((place, outcome)),
                // The write stands, only its answer cannot be read.
                Err(_) => settled.push((place, Outcome::Unknown)),
            }
        }
        Attempt::Settled(settled)
    }

    /// Sends everything but the commit in one go and reads the answers.
    async fn work(&self, lease: &mut Lease<'_>, statements: &[Statement]) -> Result<Written> {
        let doing = format!("writing {}", self.table.schema.object);
        let emit = lease.prepare(EMIT, &doing).await?;
        let log_end = lease.prepare(LOG_END, &doing).await?;
        let mut prepared = Vec::with_capacity(statements.len());
        for statement in statements {
            prepared.push(lease.prepare(&statement.sql, &doing).await?);
        }
        let client = lease.client()?;
        let mut answers: Vec<Answer<'_>> = vec![Box::pin(begin(client))];
        answers.push(Box::pin(query(client, &emit, vec![Box::new(MARK_PREFIX), Box::new(self.mark)])));
        for (statement, prepared) in statements.iter().zip(&prepared) {
            answers.push(Box::pin(query(client, prepared, statement.parameters.boxed())));
        }
        answers.push(Box::pin(query(client, &log_end, Vec::new())));
        let mut answers = pipelined(answers).await.into_iter();
        let mut next = || -> Result<Vec<Row>> {
            let answer = answers.next().ok_or_else(|| errors::unexpected("an answer is missing"))?;
            answer.map_err(|error| errors::statement(&error, &doing))
        };
        next()?;
        let begun = next()?;
        let mut met = Vec::new();
        for statement in statements {
            met.extend(self.met(statement, &next()?)?);
        }
        let ended = next()?;
        Written::new(met, begun.first(), ended.first())
    }

    /// Whether a record that was written is not there under its key any more: a trigger of the same transaction removed it,
    /// or gave it another key. Such a write is refused rather than believed in.
    async fn taken_away(&self, lease: &mut Lease<'_>, written: &Written) -> Result<bool> {
        let images =
            written.met.iter().filter_map(|(_, met)| if let Met::Written(Some(image)) = met { Some(image) } else { None });
        let removed = |key: &concord_engine::record::Key| {
            let ours = written.met.iter().filter(|(_, met)| matches!(met, Met::Written(None)));
            let mut ours = ours.filter_map(|(place, _)| self.writes.get(*place));
            ours.any(|write| matches!(&write.operation, Operation::Delete { key: gone, .. } if gone == key))
        };
        let keys = images.map(|image| key_of(self.table, image)).collect::<Result<Vec<_>>>()?;
        let keys: Vec<_> = keys.into_iter().filter(|key| !removed(key)).collect();
        if keys.is_empty() {
            return Ok(false);
        }
        let key = self.table.key_columns()?;
        let rows: Vec<&[Value]> = keys.iter().map(|key| key.0.as_slice()).collect();
        let parameters = columns_of(&key, &rows)?;
        let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|array| array as _).collect();
        let same: Vec<String> =
            key.iter().enumerate().map(|(place, column)| column.equals("t", &format!("x.c{place}"))).collect();
        let sql = format!(
            "SELECT EXISTS (SELECT FROM {} WHERE NOT EXISTS (SELECT FROM {} AS t WHERE {}))",
            unnest(key.len(), 1, "x"),
            self.table.name.sql(),
            same.join(" AND ")
        );
        let doing = format!("looking at what was written to {}", self.table.schema.object);
        let answer = lease.query_one(&sql, &parameters, &doing).await?;
        column(&answer, 0)
    }

    /// What one statement met: something for each of its writes.
    fn met(&self, statement: &Statement, rows: &[Row]) -> Result<Vec<(usize, Met)>> {
        let places = &statement.places;
        let one = |row: &Row| {
            let met = match statement.kind {
                Kind::CreateOne => insert::met_one(self.shown, row)?,
                kind => guarded::met(kind, self.shown, row)?,
            };
            Ok((guarded::place(places, row)?, met))
        };
        let met = match statement.kind {
            Kind::Create => insert::met_many(self.table, self.shown, places, rows)?,
            _ => rows.iter().map(one).collect::<Result<Vec<(usize, Met)>>>()?,
        };
        if met.len() == places.len() {
            return Ok(met);
        }
        Err(errors::unexpected(format!("{} results for {} writes", met.len(), places.len())))
    }

    fn outcome(&self, met: Met, place: usize, version: &Version) -> Result<Outcome> {
        Ok(match met {
            Met::Written(image) => Outcome::Written { key: self.key(place, image.as_ref())?, image, version: version.clone() },
            Met::Missed => Outcome::Missed,
            Met::Locked | Met::Again => Outcome::Locked,
            Met::Collision => Outcome::Collision,
            Met::Suppressed => {
                let message = format!("a trigger or rule of {} let the write vanish", self.table.schema.object);
                Outcome::Failed(Error::new(Code::TargetRejected, message))
            }
        })
    }

    /// The record's key now: as returned, or for a delete as it was asked for.
    fn key(&self, place: usize, image: Option<&Record>) -> Result<concord_engine::record::Key> {
        match (image, self.writes.get(place).map(|write| &write.operation)) {
            (Some(image), _) => key_of(self.table, image),
            (None, Some(Operation::Delete { key, .. } | Operation::Update { key, .. })) => Ok(key.clone()),
            (None, _) => Err(errors::unexpected("a create without an image")),
        }
    }

    /// Ends a transaction of which nothing shall stand. A session that cannot do that is closed, which does it too.
    async fn roll_back(&self, mut lease: Lease<'_>) {
        let ended = timeout(Duration::from_secs(5), lease.execute("ROLLBACK", "rolling back")).await;
        if matches!(ended, Ok(Ok(()))) {
            lease.done();
        }
    }

    async fn commit(&self, mut lease: Lease<'_>, written: &Written) -> Commit {
        let answer = timeout(ANSWER_WAIT_MAX, lease.execute("COMMIT", "committing a batch")).await;
        match answer {
            Ok(Ok(())) => {
                lease.done();
                Commit::Stands
            }
            // The server's own refusal undoes the transaction. A session that was ended may have committed before.
            Ok(Err(error)) if !matches!(error.code, Code::Unreachable | Code::TlsFailed) => {
                lease.done();
                Commit::Refused(error)
            }
            _ => {
                drop(lease);
                self.ask_outcome(written).await
            }
        }
    }

    /// Asks what became of a commit that got no answer.
    async fn ask_outcome(&self, written: &Written) -> Commit {
        let deadline = Instant::now() + OUTCOME_WAIT_MAX;
        loop {
            match timeout(OUTCOME_WAIT_MAX, self.transaction_status(written)).await {
                Ok(Ok(Some(true))) => return Commit::Stands,
                Ok(Ok(Some(false))) => return Commit::Refused(Error::new(Code::Busy, "the batch was rolled back")),
                Ok(Ok(None)) | Ok(Err(_)) | Err(_) if Instant::now() >= deadline => return Commit::Unsure,
                _ => tokio::time::sleep(OUTCOME_POLL_INTERVAL).await,
            }
        }
    }

    /// Whether a transaction stands; `None`: it is not decided, or this server cannot know (it was promoted since, and
    /// may have given the same number to another).
    async fn transaction_status(&self, written: &Written) -> Result<Option<bool>> {
        let mut lease = self.shared.readers.lease().await?;
        let row = lease.query_one(STATUS, &[&written.xid_text], "asking what became of a commit").await?;
        let (status, timeline): (Option<&str>, &str) = (column(&row, 0)?, column(&row, 1)?);
        let decided = match status {
            Some("committed") => Some(true),
            Some("aborted") => Some(false),
            _ => None,
        };
        let decided = decided.filter(|_| timeline == written.timeline);
        lease.done();
        Ok(decided)
    }
}

fn late_answer<T>() -> Result<T> {
    Err(Error::new(Code::Unreachable, "the server did not answer a batch in time"))
}

/// What became of a commit.
enum Commit {
    Stands,
    Refused(Error),
    Unsure,
}

/// A transaction whose rows are written and which is not committed yet.
struct Written {
    met: Vec<(usize, Met)>,
    version: Version,
    xid_text: String,
    timeline: String,
}

impl Written {
    fn new(met: Vec<(usize, Met)>, begun: Option<&Row>, ended: Option<&Row>) -> Result<Written> {
        let missing = || errors::unexpected("a transaction does not tell its number or its place in the log");
        let (begun, ended) = (begun.ok_or_else(missing)?, ended.ok_or_else(missing)?);
        let xid_text: String = column(begun, 1)?;
        let lsn: &str = column(ended, 0)?;
        let version =
            RowVersion::Write { lsn: parse_lsn(lsn).ok_or_else(missing)?, xid: xid_text.parse().map_err(|_| missing())? };
        Ok(Written { met, version: version.encode(), xid_text, timeline: column(ended, 1)? })
    }
}

impl Parameters {
    fn boxed(&self) -> Vec<Box<dyn ToSql + Sync + Send + '_>> {
        match self {
            Parameters::Arrays(arrays) => arrays.iter().map(|array| Box::new(array) as _).collect(),
            Parameters::Texts(texts) => texts.iter().map(|text| Box::new(text) as _).collect(),
        }
    }
}

type Answer<'a> = Pin<Box<dyn Future<Output = std::result::Result<Vec<Row>, tokio_postgres::Error>> + Send + 'a>>;

async fn begin(client: &Client) -> std::result::Result<Vec<Row>, tokio_postgres::Error> {
    client.batch_execute(BEGIN).await.map(|()| Vec::new())
}

async fn query(
    client: &Client,
    statement: &tokio_postgres::Statement,
    parameters: Vec<Box<dyn ToSql + Sync + Send + '_>>,
) -> std::result::Result<Vec<Row>, tokio_postgres::Error> {
    let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|parameter| &**parameter as _).collect();
    client.query(statement, &parameters).await
}

/// Sends all requests in their order before waiting for the first answer: one round trip for all. A request is sent
/// when its future is polled first; answers come in the order of requests.
async fn pipelined(requests: Vec<Answer<'_>>) -> Vec<std::result::Result<Vec<Row>, tokio_postgres::Error>> {
    let mut sent = Vec::with_capacity(requests.len());
    for mut request in requests {
        let early = std::future::poll_fn(|context| Poll::Ready(request.as_mut().poll(context))).await;
        sent.push((early, request));
    }
    let mut answers = Vec::with_capacity(sent.len());
    for (early, request) in sent {
        answers.push(match early {
            Poll::Ready(answer) => answer,
            Poll::Pending => request.await,
        });
    }
    answers
}
