//! Steps of a mirror sync as statements: few for many records, each planned once, in an order that comes to what the steps
//! one by one do. What fails as a whole is halved until the bad step stands alone; its error is the caller's to judge.

use super::client::Lease;
use super::copy::Copying;
use super::freeze::can_be_said;
use super::mirror::BEGIN;
use super::read::columns_of;
use super::schema::{Column, Table};
use super::transaction::{Answer, Answered, pipelined, pipelined_before, plain, query};
use super::{copy, errors, exchange};
use bytes::Bytes;
use concord_engine::error::{Code, Error, Result};
use concord_engine::mirror::batch::{Step, segments};
use concord_engine::mirror::bulk::Helper;
use concord_engine::record::{FieldName, Key, Record};
use concord_engine::value::Value;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

/// What one statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Before the rest: what a record lets go of, another may take.
    Remove,
    Rekey {
        /// Whether all of the record is known, so that it can be made.
        whole: bool,
    },
    Change,
    Put,
    Append,
    /// Behind what others let go of, for these are hardly in anybody's way.
    Copy,
    Empty,
}

/// One statement for records of one shape.
pub struct Statement {
    kind: Kind,
    sql: String,
    arrays: Vec<Vec<Option<String>>>,
    /// The rows of a COPY.
    pieces: Vec<Bytes>,
    /// The records, where it matters which of them were met.
    keys: Vec<Key>,
    /// What is made where a record to be moved is not there, one for each.
    instead: Vec<Step>,
    /// How many records it writes or removes, where triggers may throw some of that away, and the columns that it speaks of.
    wanted: Option<(usize, Vec<Column>)>,
}

/// For so many batches something is not tried again after it has failed.
const REST_BATCHES: u32 = 16;

/// The batches that are left of a rest.
#[derive(Default)]
pub struct Rest(AtomicU32);

impl Rest {
    /// Whether it is over. To be asked for each batch: the rest is counted by it.
    pub fn is_over(&self) -> bool {
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |rest| rest.checked_sub(1)).is_err()
    }

    /// Begins one.
    pub fn begin(&self) {
        self.0.store(REST_BATCHES, Ordering::SeqCst);
    }
}

/// Takes out the steps that cannot even be put into words.
pub fn sayable<'a>(table: &Table, steps: &'a [Step]) -> (Cow<'a, [Step]>, Vec<(Step, Error)>) {
    let unsayable = |step: &Step| match step {
        Step::Put { record, .. } | Step::Append { record, .. } => can_be_said(table, record).err(),
        Step::Change { set, .. } | Step::Rekey { set, .. } => can_be_said(table, set).err(),
        Step::Remove { .. } | Step::Empty => None,
    };
    let refused = |(place, step): (usize, &Step)| unsayable(step).map(|error| (place, step.clone(), error));
    let refused: Vec<(usize, Step, Error)> = steps.iter().enumerate().filter_map(refused).collect();
    if refused.is_empty() {
        return (Cow::Borrowed(steps), Vec::new());
    }
    // Of one that took another key the old one goes: under that it would stay for ever.
    let said = steps.iter().enumerate().filter_map(|(place, step)| match step {
        step if refused.iter().all(|(refused, ..)| *refused != place) => Some(step.clone()),
        Step::Rekey { from, .. } => Some(Step::Remove { key: from.clone() }),
        _ => None,
    });
    let said = said.collect();
    (Cow::Owned(said), refused.into_iter().map(|(_, step, error)| (step, error)).collect())
}

/// The statements of some steps, in their order. `copies`: those that are new are copied where they are many.
pub fn statements(table: &Table, steps: &[Step], copies: bool) -> Result<Vec<Statement>> {
    let mut all = Vec::new();
    for segment in segments(steps) {
        let mut groups: BTreeMap<(Kind, Vec<&FieldName>), Vec<&Step>> = BTreeMap::new();
        // Most are of one shape: as many as have the same one side by side are grouped together.
        for some in segment.chunk_by(|one, next| is_alike(one, next)) {
            let Some(first) = some.first() else { continue };
            groups.entry(shape(first, copies)).or_default().extend(some.iter().map(Cow::as_ref));
        }
        // Few are put as others are, behind them.
        let few: Vec<_> = groups.extract_if(.., |(kind, _), some| *kind == Kind::Copy && some.len() < copy::ROWS_FROM).collect();
        for ((_, fields), some) in few {
            let is_keyless = matches!(some.first(), Some(Step::Append { .. }));
            groups.entry((if is_keyless { Kind::Append } else { Kind::Put }, fields)).or_default().extend(some);
        }
        for ((kind, fields), steps) in groups {
            all.push(match kind {
                Kind::Put => put(table, &fields, &steps)?,
                Kind::Append => append(table, &fields, &steps)?,
                Kind::Copy => copied(table, &fields, &steps)?,
                Kind::Change | Kind::Rekey { .. } => change(table, kind, &fields, &steps)?,
                Kind::Remove => remove(table, &steps)?,
                Kind::Empty => empty(table),
            });
        }
    }
    all.retain(|statement| !statement.sql.is_empty());
    Ok(all)
}

/// What a step does, and to which fields.
fn shape(step: &Step, copies: bool) -> (Kind, Vec<&FieldName>) {
    match step {
        Step::Put { record, made: true, .. } | Step::Append { record, .. } if copies && !record.is_empty() => {
            (Kind::Copy, record.iter().map(|(name, _)| name).collect())
        }
        Step::Append { record, .. } => (Kind::Append, record.iter().map(|(name, _)| name).collect()),
        Step::Put { record, .. } => (Kind::Put, record.iter().map(|(name, _)| name).collect()),
        Step::Change { set, .. } => (Kind::Change, set.iter().map(|(name, _)| name).collect()),
        Step::Rekey { set, whole, .. } => (Kind::Rekey { whole: *whole }, set.iter().map(|(name, _)| name).collect()),
        Step::Remove { .. } => (Kind::Remove, Vec::new()),
        Step::Empty => (Kind::Empty, Vec::new()),
    }
}

/// Whether two steps do the same to the same fields.
fn is_alike(one: &Step, next: &Step) -> bool {
    let same = |one: &Record, next: &Record| one.iter().map(|(name, _)| name).eq(next.iter().map(|(name, _)| name));
    match (one, next) {
        (Step::Put { record: one, made, .. }, Step::Put { record: next, made: also, .. }) => made == also && same(one, next),
        (Step::Append { record: one, .. }, Step::Append { record: next, .. }) => same(one, next),
        (Step::Change { set: one, .. }, Step::Change { set: next, .. }) => same(one, next),
        (Step::Rekey { set: one, whole, .. }, Step::Rekey { set: next, whole: also, .. }) => whole == also && same(one, next),
        (Step::Remove { .. }, Step::Remove { .. }) | (Step::Empty, Step::Empty) => true,
        _ => false,
    }
}

pub fn given(column: &Column, place: usize) -> String {
    column.given(&format!("v.c{place}"))
}

pub fn unnest(count: usize) -> String {
    super::read::unnest(count, 1, "v")
}

pub fn put(table: &Table, fields: &[&FieldName], steps: &[&Step]) -> Result<Statement> {
    let columns = fields.iter().map(|field| table.require(field)).collect::<Result<Vec<&Column>>>()?;
    let rows = rows(steps);
    let rows: Vec<&[&Value]> = rows.iter().map(Vec::as_slice).collect();
    let key = table.key_columns()?;
    let set: Vec<String> = columns
        .iter()
        .filter(|column| !key.iter().any(|key| key.sql == column.sql))
        .map(|column| format!("{0} = excluded.{0}", column.sql))
        .collect();
    let action = if set.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", set.join(", ")) };
    let conflict = key.iter().map(|column| column.sql.as_str()).collect::<Vec<_>>().join(", ");
    let sql = format!("{} ON CONFLICT ({conflict}) DO {action}{}", inserts(table, &columns), answering(table));
    Ok(Statement {
        arrays: columns_of(&columns, &rows)?,
        wanted: wanted(table, steps.len(), &columns),
        ..Statement::of(Kind::Put, sql)
    })
}

/// What records show that are to be there.
fn rows<'a>(steps: &[&'a Step]) -> Vec<Vec<&'a Value>> {
    let record = |step: &&'a Step| match step {
        Step::Put { record, .. } | Step::Append { record, .. } => Some(record),
        _ => None,
    };
    steps.iter().filter_map(record).map(|record| record.iter().map(|(_, value)| value).collect()).collect()
}

fn append(table: &Table, fields: &[&FieldName], steps: &[&Step]) -> Result<Statement> {
    let columns = fields.iter().map(|field| table.require(field)).collect::<Result<Vec<&Column>>>()?;
    let rows = rows(steps);
    let rows: Vec<&[&Value]> = rows.iter().map(Vec::as_slice).collect();
    let into = match columns.is_empty() {
        // Nothing of the records is given: everything of them is the target's.
        true => format!("INSERT INTO {} SELECT FROM pg_catalog.generate_series(1, {})", table.name.sql(), steps.len()),
        false => inserts(table, &columns),
    };
    let sql = format!("{into}{}", answering(table));
    Ok(Statement {
        arrays: columns_of(&columns, &rows)?,
        wanted: wanted(table, steps.len(), &columns),
        ..Statement::of(Kind::Append, sql)
    })
}

fn wanted(table: &Table, records: usize, columns: &[&Column]) -> Option<(usize, Vec<Column>)> {
    table.storage.decides.then(|| (records, columns.iter().map(|column| (*column).clone()).collect()))
}

/// Where triggers may do anything with a row, the server says which were written, or removed.
fn answering(table: &Table) -> &'static str {
    if table.storage.decides { " RETURNING 1" } else { "" }
}

/// Refuses where a trigger has thrown a record, or what is new about it, away, or has kept one that was to go. One whose change
/// it held to be none shows all the same what it is to show, and one that is not there need not go.
async fn is_written(lease: &mut Lease<'_>, table: &Table, statement: &Statement, written: usize, doing: &str) -> Result<()> {
    if statement.kind == Kind::Empty && table.storage.decides {
        let sql = format!("SELECT EXISTS (SELECT FROM {})", table.name.sql());
        let is_there = super::client::column::<bool>(&lease.query_one(&sql, &[], doing).await?, 0)?;
        return if is_there { Err(ignored(table, "delete")) } else { Ok(()) };
    }
    let Some((records, columns)) = statement.wanted.as_ref().filter(|(records, _)| *records != written) else { return Ok(()) };
    let (there, what) = match statement.kind {
        Kind::Put => (Some(*records), "write"),
        Kind::Remove => (Some(0), "delete"),
        _ => (None, "write"),
    };
    if there.is_some() && there == Some(shown(lease, table, statement, columns, doing).await?) {
        return Ok(());
    }
    Err(ignored(table, what))
}

fn ignored(table: &Table, what: &str) -> Error {
    Error::new(Code::TargetRejected, format!("a trigger of {} ignored the {what}", table.schema.object))
}

/// How many of the records that a statement speaks of are there, and show in these columns what it says.
async fn shown(lease: &mut Lease<'_>, table: &Table, statement: &Statement, columns: &[Column], doing: &str) -> Result<usize> {
    // Keys have values, and indexes, of which nothing must be in the way.
    let may_be_null = statement.kind != Kind::Remove;
    let same = |(place, column): (usize, &Column)| {
        let value = format!("v.c{place}");
        match (column.equals("t", &value), may_be_null) {
            (equals, true) => format!("({equals} OR t.{} IS NULL AND {value} IS NULL)", column.sql),
            (equals, false) => equals,
        }
    };
    let same: Vec<String> = columns.iter().enumerate().map(same).collect();
    let sql = format!("SELECT count(*) FROM {} JOIN {} AS t ON {}", unnest(columns.len()), table.name.sql(), same.join(" AND "));
    let parameters: Vec<&(dyn ToSql + Sync)> = statement.arrays.iter().map(|array| array as _).collect();
    let row = lease.query_one(&sql, &parameters, doing).await?;
    usize::try_from(super::client::column::<i64>(&row, 0)?).map_err(|_| errors::unexpected("a count below zero"))
}

fn inserts(table: &Table, columns: &[&Column]) -> String {
    let names: Vec<&str> = columns.iter().map(|column| column.sql.as_str()).collect();
    let values: Vec<String> = columns.iter().enumerate().map(|(place, column)| given(column, place)).collect();
    let (table, names, values) = (table.name.sql(), names.join(", "), values.join(", "));
    format!("INSERT INTO {table} ({names}) SELECT {values} FROM {}", unnest(columns.len()))
}

fn copied(table: &Table, fields: &[&FieldName], steps: &[&Step]) -> Result<Statement> {
    let columns = fields.iter().map(|field| table.require(field)).collect::<Result<Vec<&Column>>>()?;
    let rows = rows(steps);
    let pieces = copy::rows(&columns, rows.iter().map(Vec::as_slice))?;
    Ok(Statement { pieces, ..Statement::of(Kind::Copy, copy::sql(table, &columns)) })
}

fn change(table: &Table, kind: Kind, fields: &[&FieldName], steps: &[&Step]) -> Result<Statement> {
    let key = table.key_columns()?;
    let columns = fields.iter().map(|field| table.require(field)).collect::<Result<Vec<&Column>>>()?;
    let mut rows: Vec<Vec<&Value>> = Vec::with_capacity(steps.len());
    let (mut keys, mut instead) = (Vec::with_capacity(steps.len()), Vec::new());
    for step in steps {
        let (of, to, set) = match step {
            Step::Change { key, set } => (key, key, set),
            Step::Rekey { from, to, set, whole } => {
                if *whole {
                    instead.push(Step::Put { key: to.clone(), record: set.clone(), made: false });
                }
                (from, to, set)
            }
            _ => continue,
        };
        rows.push(of.0.iter().chain(set.iter().map(|(_, value)| value)).collect());
        keys.push(to.clone());
    }
    let rows: Vec<&[&Value]> = rows.iter().map(Vec::as_slice).collect();
    let all: Vec<&Column> = key.iter().chain(&columns).copied().collect();
    let same: Vec<String> = key.iter().enumerate().map(|(place, column)| column.equals("t", &format!("v.c{place}"))).collect();
    let set: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(place, column)| format!("{} = {}", column.sql, given(column, key.len() + place)))
        .collect();
    let sql = match set.is_empty() {
        // Nothing that is carried has changed.
        true => String::new(),
        false => format!(
            "UPDATE {} AS t SET {} FROM {} WHERE {} RETURNING v.n",
            table.name.sql(),
            set.join(", "),
            unnest(all.len()),
            same.join(" AND ")
        ),
    };
    Ok(Statement { arrays: columns_of(&all, &rows)?, keys, instead, ..Statement::of(kind, sql) })
}

fn remove(table: &Table, steps: &[&Step]) -> Result<Statement> {
    let key = table.key_columns()?;
    let rows: Vec<&[Value]> = steps.iter().filter_map(|step| step.key()).map(|key| key.0.as_slice()).collect();
    let same: Vec<String> = key.iter().enumerate().map(|(place, column)| column.equals("t", &format!("v.c{place}"))).collect();
    let (from, keys, same) = (table.name.sql(), unnest(key.len()), same.join(" AND "));
    let sql = format!("DELETE FROM {from} AS t USING {keys} WHERE {same}{}", answering(table));
    Ok(Statement {
        arrays: columns_of(&key, &rows)?,
        wanted: wanted(table, rows.len(), &key),
        ..Statement::of(Kind::Remove, sql)
    })
}

fn empty(table: &Table) -> Statement {
    Statement::of(Kind::Empty, format!("DELETE FROM {}", table.name.sql()))
}

/// How a transaction begins that carries steps out. Emptying a table takes as long as it takes, and is nothing that would be done
/// by trying again.
pub fn begin(steps: &[Step]) -> &'static str {
    const EMPTIES: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL statement_timeout = 0";
    if steps.contains(&Step::Empty) { EMPTIES } else { BEGIN }
}

/// Whether nothing of what these statements answer must be seen before the commit. Of others the server sees to it by itself that
/// they meet their records, and ends the transaction where one does not: [`is_unmet`].
pub fn need_no_answer(statements: &[Statement]) -> bool {
    statements.iter().all(|statement| !statement.looks_for_records())
}

/// Whether a transaction that was sent without waiting for answers may have ended because a record was not met.
pub fn is_unmet(error: &Error) -> bool {
    error.message.contains("SQLSTATE 22012")
}

impl Statement {
    fn of(kind: Kind, sql: String) -> Statement {
        Statement { kind, sql, arrays: Vec::new(), pieces: Vec::new(), keys: Vec::new(), instead: Vec::new(), wanted: None }
    }

    /// Whether it matters which records it meets.
    fn looks_for_records(&self) -> bool {
        matches!(self.kind, Kind::Change | Kind::Rekey { .. })
    }

    /// For a transaction in which nobody waits for answers: divides by zero, and so ends it, where a record was not met.
    fn unattended(&self) -> Cow<'_, str> {
        match self.looks_for_records() {
            false => Cow::Borrowed(self.sql.as_str()),
            true => Cow::Owned(format!(
                "WITH met AS ({}) SELECT 1 / CASE WHEN count(*) = cardinality($1::text[]) THEN 1 ELSE 0 END FROM met",
                self.sql
            )),
        }
    }

    fn parameters(&self) -> Vec<Box<dyn ToSql + Sync + Send + '_>> {
        self.arrays.iter().map(|array| Box::new(array) as _).collect()
    }
}

/// Carries statements out between two others, all in one round trip and one for each COPY: the first error is that of all.
pub async fn in_one_go(
    lease: &mut Lease<'_>,
    begin: &str,
    statements: &[Statement],
    keep: (&str, &[&(dyn ToSql + Sync)]),
    doing: &str,
) -> Result<()> {
    let mut prepared = Vec::with_capacity(statements.len());
    for statement in statements {
        prepared.push(lease.prepare(&statement.unattended(), doing).await?);
    }
    let keeping = lease.prepare(keep.0, doing).await?;
    let client = lease.client()?;
    let mut requests: Vec<Answer<'_>> = vec![Box::pin(plain(client, begin))];
    for (statement, prepared) in statements.iter().zip(&prepared) {
        if statement.kind != Kind::Copy {
            requests.push(Box::pin(query(client, prepared, statement.parameters())));
            continue;
        }
        // Rows are not sent before the server asks for them.
        let (before, sink) = pipelined_before(std::mem::take(&mut requests), client.copy_in(prepared)).await;
        all_went_well(before, doing)?;
        let sink = sink.map_err(|error| errors::statement(&error, doing))?;
        requests.push(Box::pin(copy::send(sink, &statement.pieces)));
    }
    requests.push(Box::pin(async { client.query(&keeping, keep.1).await }));
    requests.push(Box::pin(plain(client, "COMMIT")));
    all_went_well(pipelined(requests).await, doing)
}

fn all_went_well(answers: Vec<Answered>, doing: &str) -> Result<()> {
    answers.into_iter().try_for_each(|answer| answer.map(drop)).map_err(|error| errors::statement(&error, doing))
}

/// Carries steps out inside a transaction, one statement after the other.
pub async fn one_after_the_other(
    lease: &mut Lease<'_>,
    table: &Table,
    (steps, copies): (&[Step], bool),
    helper: &dyn Helper,
    doing: &str,
) -> Result<()> {
    for statement in statements(table, steps, copies)? {
        let rows = run(lease, &statement, doing).await?;
        is_written(lease, table, &statement, rows.len(), doing).await?;
        if !statement.looks_for_records() || rows.len() == statement.keys.len() {
            continue;
        }
        let met = rows.iter().map(|row| super::client::column(row, 0)).collect::<Result<BTreeSet<i64>>>()?;
        if matches!(statement.kind, Kind::Rekey { whole: true }) {
            let unmet = (1_i64..).zip(statement.instead).filter(|(place, _)| !met.contains(place));
            let unmet: Vec<Step> = unmet.map(|(_, step)| step).collect();
            for statement in statements(table, &unmet, false)? {
                let rows = run(lease, &statement, doing).await?;
                is_written(lease, table, &statement, rows.len(), doing).await?;
            }
            continue;
        }
        // Partial changes of records that are not here, because they were refused or removed: all of each is carried.
        let unmet = (1_i64..).zip(&statement.keys).filter(|(place, _)| !met.contains(place)).map(|(_, key)| key.clone());
        let mut unmet: Vec<Key> = unmet.collect();
        while !unmet.is_empty() {
            let (whole, looked_for) = helper.whole(&unmet).await?;
            for statement in statements(table, &whole, false)? {
                let rows = run(lease, &statement, doing).await?;
                is_written(lease, table, &statement, rows.len(), doing).await?;
            }
            unmet.drain(..looked_for.clamp(1, unmet.len()));
        }
    }
    Ok(())
}

pub async fn run(lease: &mut Lease<'_>, statement: &Statement, doing: &str) -> Result<Vec<Row>> {
    if statement.kind == Kind::Copy {
        let prepared = lease.prepare(&statement.sql, doing).await?;
        return copy::write(lease, &prepared, &statement.pieces, doing).await.map(|()| Vec::new());
    }
    let parameters = statement.parameters();
    let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|parameter| &**parameter as _).collect();
    lease.query(&statement.sql, &parameters, doing).await
}

/// Carries steps out inside a transaction; those that are refused are given back, the others stand.
pub async fn carefully(
    lease: &mut Lease<'_>,
    table: &Table,
    (steps, copying): (&[Step], &Copying),
    helper: &dyn Helper,
    doing: &str,
) -> Result<Vec<(Step, Error)>> {
    let mut refused: Vec<(usize, Error)> = Vec::new();
    let mut waiting: Vec<std::ops::Range<usize>> = std::iter::once(0..steps.len()).collect();
    let mut copies = copying.may(steps);
    while let Some(part) = waiting.pop() {
        let some = steps.get(part.clone()).unwrap_or_default();
        match attempt(lease, table, (some, copies), helper, doing).await? {
            None => {}
            Some(error) if copies => {
                tracing::debug!(error = error.chain(), "new records are not copied");
                copying.failed();
                copies = false;
                waiting.push(part);
            }
            Some(error) => match some {
                [] => {}
                // That is no one record's: what comes behind it would be carried out among what was to be gone.
                [Step::Empty] => return Err(of_one(error)),
                [step] => {
                    leave_the_old_key(lease, table, step, helper, doing).await?;
                    refused.push((part.start, error));
                }
                many => {
                    let middle = part.start.saturating_add(many.len() / 2);
                    waiting.push(middle..part.end);
                    waiting.push(part.start..middle);
                }
            },
        }
    }
    exchange::place(lease, table, steps, &mut refused, helper, doing).await?;
    let of = |(place, error): (usize, Error)| Some((steps.get(place)?.clone(), of_one(error)));
    Ok(refused.into_iter().filter_map(of).collect())
}

/// Carries steps out, all or none, with copies or without; gives back why not, where it may be one record's fault.
pub async fn attempt(
    lease: &mut Lease<'_>,
    table: &Table,
    steps: (&[Step], bool),
    helper: &dyn Helper,
    doing: &str,
) -> Result<Option<Error>> {
    lease.execute("SAVEPOINT part", doing).await?;
    match one_after_the_other(lease, table, steps, helper, doing).await {
        Ok(()) => lease.execute("RELEASE SAVEPOINT part", doing).await.map(|()| None),
        Err(error) if concerns_records(&error) => {
            lease.execute("ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part", doing).await?;
            Ok(Some(error))
        }
        Err(error) => Err(error),
    }
}

/// A record that took another key and is refused in what else it shows: it takes the key alone, for under its old one it would
/// stay for ever. Where that is refused as well, it goes.
async fn leave_the_old_key(lease: &mut Lease<'_>, table: &Table, step: &Step, helper: &dyn Helper, doing: &str) -> Result<()> {
    let Step::Rekey { from, to, .. } = step else { return Ok(()) };
    let set: Record = table.schema.key.iter().cloned().zip(to.0.iter().cloned()).collect();
    let moved = Step::Rekey { from: from.clone(), to: to.clone(), set, whole: false };
    for instead in [moved, Step::Remove { key: from.clone() }] {
        if attempt(lease, table, (&[instead], false), helper, doing).await?.is_none() {
            break;
        }
    }
    Ok(())
}

/// Whether a refusal may be one record's, so that the others can do without it. There is nobody here to wait for a record to
/// be let go of by those that refer to it.
pub fn concerns_records(error: &Error) -> bool {
    error.may_be_one_records() || error.code == Code::StillReferred
}

/// The error of a single record, in the code that says so.
fn of_one(error: Error) -> Error {
    match error.code {
        Code::AlreadyThere => Error { code: Code::ValueTaken, ..error },
        Code::StatementRefused | Code::StillReferred => Error { code: Code::TargetRejected, ..error },
        _ => error,
    }
}
