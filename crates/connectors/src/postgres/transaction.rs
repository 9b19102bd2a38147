//! A batch as one transaction: the mark first, so that every row behind it is known as ours, then the writes, then the
//! place in the log that they reached, then the commit. All of it is sent at once wherever nothing must be seen before
//! the commit. After a commit without an answer the server is asked what became of it. Halves no batch: see `apply`.

use super::apply::{Attempt, Job};
use super::client::{Lease, column};
use super::guarded::{Kind, Met, Parameters, Statement};
use super::read::{columns_of, key_of, unnest};
use super::version::{RowVersion, parse_lsn};
use super::{MARK_PREFIX, errors};
use concord_engine::change::Version;
use concord_engine::connector::Operation;
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::Key;
use concord_engine::value::Value;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

/// The longest wait for the answers to a batch.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(180);
/// How long is asked what became of a commit.
const OUTCOME_WAIT_MAX: Duration = Duration::from_secs(10);
/// How often.
const OUTCOME_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Answers before those to the writes: to the beginning and to the mark.
const CHECK_BEHIND: usize = 2;

/// Begins a transaction whose commit is durable, whatever the database's default.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
const EMIT: &str = "SELECT pg_catalog.pg_logical_emit_message(true, $1, $2::text)::text, pg_catalog.pg_current_xact_id()::text, \
    CASE WHEN current_setting('synchronous_commit') = 'off' THEN pg_catalog.set_config('synchronous_commit', 'on', true) END";
/// The end of the log behind our rows, the name of its segment, which begins with the timeline, and whether row level security
/// hides records of a table from us.
const LOG_END: &str = "SELECT pg_catalog.pg_current_wal_insert_lsn()::text, \
    substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8), row_security_active($1::oid)";
const STATUS: &str = "SELECT pg_catalog.pg_xact_status($1::text::xid8), \
    substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8)";

impl Job<'_> {
    /// A session in which everything that the batch asks is prepared; nothing of it is sent yet.
    async fn begin(&self, statements: &[Statement], check: Option<&Check>) -> Result<(Lease<'_>, Prepared)> {
        let mut lease = self.shared.writers.lease().await?;
        match self.prepare(&mut lease, statements, check).await {
            Ok(prepared) => Ok((lease, prepared)),
            Err(error) => {
                self.roll_back(lease, is_hiding(&error)).await;
                Err(error)
            }
        }
    }

    async fn prepare(&self, lease: &mut Lease<'_>, statements: &[Statement], check: Option<&Check>) -> Result<Prepared> {
        let doing = self.doing();
        let (emit, log_end) = (lease.prepare(EMIT, &doing).await?, lease.prepare(LOG_END, &doing).await?);
        let mut writes = Vec::with_capacity(statements.len());
        for statement in statements {
            writes.push(lease.prepare(&statement.sql, &doing).await?);
        }
        let check = match check {
            Some(check) => Some(lease.prepare(&check.sql, &doing).await?),
            None => None,
        };
        Ok(Prepared { emit, writes, check, log_end })
    }

    /// Whether nothing must be seen before the commit, or only that all records are still there, which the server can
    /// see to by itself. Creates are looked at: one that met what is there may have to be asked again.
    pub(super) fn may_go_at_once(&self, statements: &[Statement]) -> Option<Option<Check>> {
        if statements.iter().any(|statement| statement.kind == Kind::Create) {
            return None;
        }
        if !self.table.storage.reacts {
            return Some(None);
        }
        let places = statements.iter().flat_map(|statement| &statement.places);
        let keys = places.map(|place| match self.writes.get(*place).map(|write| &write.operation) {
            Some(Operation::Update { key, set, .. }) if !self.table.schema.key.iter().any(|field| set.has(field.as_str())) => {
                Some(key.clone())
            }
            _ => None,
        });
        let keys = keys.collect::<Option<Vec<Key>>>()?;
        self.absence(&keys, "1 / CASE WHEN EXISTS", "THEN 0 ELSE 1 END").ok().map(Some)
    }

    /// The whole transaction, its commit too, in one round trip. A refused statement makes the server take the commit for
    /// a rollback; where an answer does not come, it stays open whether the commit was met.
    pub(super) async fn in_one_go(
        &self,
        statements: &[Statement],
        check: Option<&Check>,
    ) -> std::result::Result<Written, Attempt> {
        let (mut lease, prepared) = self.begin(statements, check).await.map_err(Attempt::Refused)?;
        let Ok(sent) = timeout(ANSWER_WAIT_MAX, self.send(&mut lease, statements, &prepared, check, true)).await else {
            return Err(Attempt::Unsure);
        };
        let mut answers = sent.map_err(Attempt::Refused)?;
        let commit = answers.pop();
        let failure = answers.iter().enumerate().find_map(|(place, answer)| Some((place, answer.as_ref().err()?)));
        if let Some((place, failure)) = failure {
            let Some(refusal) = failure.as_db_error() else { return Err(Attempt::Unsure) };
            let absent = place == CHECK_BEHIND + statements.len() && *refusal.code() == SqlState::DIVISION_BY_ZERO;
            let attempt = match absent && check.is_some() {
                true => Attempt::Stepwise,
                false => Attempt::Refused(errors::statement(failure, &self.doing())),
            };
            let hides = matches!(&attempt, Attempt::Refused(error) if is_hiding(error));
            self.roll_back(lease, hides).await;
            return Err(attempt);
        }
        if check.is_some() {
            drop(answers.remove(CHECK_BEHIND + statements.len()));
        }
        let written = self.written(statements, answers).map_err(|_| Attempt::Unsure)?;
        let committed = commit.ok_or(Attempt::Unsure)?.map_err(|error| errors::statement(&error, "committing a batch"));
        self.committed(lease, written, committed.map(|_| ())).await
    }

    /// The transaction, and its commit when the answers have been seen.
    pub(super) async fn in_two_steps(&self, statements: &[Statement]) -> std::result::Result<Written, Attempt> {
        let (mut lease, prepared) = self.begin(statements, None).await.map_err(Attempt::Refused)?;
        let sent = timeout(ANSWER_WAIT_MAX, self.send(&mut lease, statements, &prepared, None, false)).await;
        let written = match sent.unwrap_or_else(|_| late_answer()).and_then(|answers| self.written(statements, answers)) {
            Ok(written) => written,
            Err(error) => {
                self.roll_back(lease, is_hiding(&error)).await;
                return Err(Attempt::Refused(error));
            }
        };
        if written.met.iter().any(|(_, met)| matches!(met, Met::Again)) {
            self.roll_back(lease, written.hides).await;
            return Err(Attempt::Singly);
        }
        if !written.met.iter().any(|(_, met)| matches!(met, Met::Written(_))) {
            self.roll_back(lease, written.hides).await;
            return Ok(written);
        }
        if self.table.storage.reacts {
            let taken_away = timeout(ANSWER_WAIT_MAX, self.taken_away(&mut lease, &written)).await;
            if let Err(error) = taken_away.unwrap_or_else(|_| late_answer()).and_then(|taken_away| self.stays(taken_away)) {
                self.roll_back(lease, written.hides).await;
                return Err(Attempt::Refused(error));
            }
        }
        let answer = timeout(ANSWER_WAIT_MAX, lease.execute("COMMIT", "committing a batch")).await;
        self.committed(lease, written, answer.unwrap_or_else(|_| late_answer())).await
    }

    /// Whether a record that was written is not there under its key any more: a trigger of the same transaction removed it,
    /// or gave it another key. Such a write is refused rather than believed in.
    async fn taken_away(&self, lease: &mut Lease<'_>, written: &Written) -> Result<bool> {
        let images =
            written.met.iter().filter_map(|(_, met)| if let Met::Written(Some(image)) = met { Some(image) } else { None });
        let removed = |key: &Key| {
            let ours = written.met.iter().filter(|(_, met)| matches!(met, Met::Written(None)));
            let mut ours = ours.filter_map(|(place, _)| self.writes.get(*place));
            ours.any(|write| matches!(&write.operation, Operation::Delete { key: gone, .. } if gone == key))
        };
        let keys = images.map(|image| key_of(self.table, image)).collect::<Result<Vec<_>>>()?;
        let keys: Vec<Key> = keys.into_iter().filter(|key| !removed(key)).collect();
        if keys.is_empty() {
            return Ok(false);
        }
        let Check { sql, keys } = self.absence(&keys, "EXISTS", "")?;
        let keys: Vec<&(dyn ToSql + Sync)> = keys.iter().map(|array| array as _).collect();
        let doing = format!("looking at what was written to {}", self.table.schema.object);
        let answer = lease.query_one(&sql, &keys, &doing).await?;
        column(&answer, 0)
    }

    /// Asks whether any of these keys has no record, between `before` and `behind`.
    fn absence(&self, keys: &[Key], before: &str, behind: &str) -> Result<Check> {
        let key = self.table.key_columns()?;
        let rows: Vec<&[Value]> = keys.iter().map(|key| key.0.as_slice()).collect();
        let same: Vec<String> =
            key.iter().enumerate().map(|(place, column)| column.equals("t", &format!("x.c{place}"))).collect();
        let sql = format!(
            "SELECT {before} (SELECT FROM {} WHERE NOT EXISTS (SELECT FROM {} AS t WHERE {})) {behind}",
            unnest(key.len(), 1, "x"),
            self.table.name.sql(),
            same.join(" AND ")
        );
        Ok(Check { sql, keys: columns_of(&key, &rows)? })
    }

    /// Sends all requests in one go and reads the answers, in the order of the requests.
    async fn send(
        &self,
        lease: &mut Lease<'_>,
        statements: &[Statement],
        prepared: &Prepared,
        check: Option<&Check>,
        commits: bool,
    ) -> Result<Vec<Answered>> {
        let client = lease.client()?;
        let mut requests: Vec<Answer<'_>> = vec![Box::pin(plain(client, BEGIN))];
        requests.push(Box::pin(query(client, &prepared.emit, vec![Box::new(MARK_PREFIX), Box::new(self.mark)])));
        for (statement, prepared) in statements.iter().zip(&prepared.writes) {
            requests.push(Box::pin(query(client, prepared, statement.parameters.boxed())));
        }
        if let (Some(check), Some(prepared)) = (check, &prepared.check) {
            requests.push(Box::pin(query(client, prepared, check.keys.iter().map(|array| Box::new(array) as _).collect())));
        }
        requests.push(Box::pin(query(client, &prepared.log_end, vec![Box::new(self.table.oid)])));
        if commits {
            requests.push(Box::pin(plain(client, "COMMIT")));
        }
        Ok(pipelined(requests).await)
    }

    /// What the answers to everything but the commit say.
    fn written(&self, statements: &[Statement], answers: Vec<Answered>) -> Result<Written> {
        let mut answers = answers.into_iter();
        let mut next = || -> Result<Vec<Row>> {
            let answer = answers.next().ok_or_else(|| errors::unexpected("an answer is missing"))?;
            answer.map_err(|error| errors::statement(&error, &self.doing()))
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

    fn stays(&self, taken_away: bool) -> Result<()> {
        if !taken_away {
            return Ok(());
        }
        let message = format!("a trigger of {} took the record away again", self.table.schema.object);
        Err(Error::new(Code::TargetRejected, message))
    }

    fn doing(&self) -> String {
        format!("writing {}", self.table.schema.object)
    }

    /// Ends a transaction of which nothing shall stand. A session that cannot do that is closed, which does it too; and so is one
    /// whose plans may hide records: they would go on doing so when row level security no longer applies to us.
    async fn roll_back(&self, mut lease: Lease<'_>, hides: bool) {
        if hides {
            return;
        }
        let ended = timeout(Duration::from_secs(5), lease.execute("ROLLBACK", "rolling back")).await;
        if matches!(ended, Ok(Ok(()))) {
            lease.done();
        }
    }

    /// What became of a transaction whose commit was answered so.
    async fn committed(&self, lease: Lease<'_>, written: Written, answer: Result<()>) -> std::result::Result<Written, Attempt> {
        match answer {
            Ok(()) => {
                give_back(lease, written.hides);
                Ok(written)
            }
            // The server's own refusal undoes the transaction. A session that was ended may have committed before.
            Err(error) if !matches!(error.code, Code::Unreachable | Code::TlsFailed) => {
                give_back(lease, written.hides);
                Err(Attempt::Refused(error))
            }
            Err(_) => {
                drop(lease);
                match self.ask_outcome(&written).await {
                    Commit::Stands => Ok(written),
                    Commit::Refused(error) => Err(Attempt::Refused(error)),
                    Commit::Unsure => Err(Attempt::Unsure),
                }
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

/// Gives a session back, unless its plans may hide records; see [`Job::roll_back`].
fn give_back(lease: Lease<'_>, hides: bool) {
    if !hides {
        lease.done();
    }
}

/// Whether row level security may be what an error is about.
fn is_hiding(error: &Error) -> bool {
    error.code == Code::PrivilegeMissing
}

/// What became of a commit.
enum Commit {
    Stands,
    Refused(Error),
    Unsure,
}

/// A transaction whose rows are written and which is not committed yet.
pub(super) struct Written {
    pub(super) met: Vec<(usize, Met)>,
    pub(super) version: Version,
    /// Whether row level security hides records from us.
    pub(super) hides: bool,
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
        Ok(Written { met, version: version.encode(), hides: column(ended, 2)?, xid_text, timeline: column(ended, 1)? })
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

/// A question about keys.
pub(super) struct Check {
    sql: String,
    keys: Vec<Vec<Option<String>>>,
}

/// What was answered to one request.
pub(super) type Answered = std::result::Result<Vec<Row>, tokio_postgres::Error>;
/// A request and the wait for its answer.
pub(super) type Answer<'a> = Pin<Box<dyn Future<Output = Answered> + Send + 'a>>;

/// The statements of a batch as the session knows them.
struct Prepared {
    emit: tokio_postgres::Statement,
    writes: Vec<tokio_postgres::Statement>,
    check: Option<tokio_postgres::Statement>,
    log_end: tokio_postgres::Statement,
}

pub(super) async fn plain(client: &Client, sql: &str) -> Answered {
    client.batch_execute(sql).await.map(|()| Vec::new())
}

pub(super) async fn query(
    client: &Client,
    statement: &tokio_postgres::Statement,
    parameters: Vec<Box<dyn ToSql + Sync + Send + '_>>,
) -> Answered {
    let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|parameter| &**parameter as _).collect();
    client.query(statement, &parameters).await
}

/// Sends all requests in their order before waiting for the first answer: one round trip for all. A request is sent
/// when its future is polled first; answers come in the order of requests.
pub(super) async fn pipelined(requests: Vec<Answer<'_>>) -> Vec<Answered> {
    pipelined_before(requests, std::future::ready(())).await.0
}

/// The same with a last request of another kind.
pub(super) async fn pipelined_before<L: Future>(requests: Vec<Answer<'_>>, last: L) -> (Vec<Answered>, L::Output) {
    let mut sent = Vec::with_capacity(requests.len());
    for mut request in requests {
        let early = std::future::poll_fn(|context| Poll::Ready(request.as_mut().poll(context))).await;
        sent.push((early, request));
    }
    let mut last = std::pin::pin!(last);
    let early_last = std::future::poll_fn(|context| Poll::Ready(last.as_mut().poll(context))).await;
    let mut answers = Vec::with_capacity(sent.len());
    for (early, request) in sent {
        answers.push(match early {
            Poll::Ready(answer) => answer,
            Poll::Pending => request.await,
        });
    }
    let last = match early_last {
        Poll::Ready(answer) => answer,
        Poll::Pending => last.await,
    };
    (answers, last)
}
