//! Reading rows: snapshots in chunks, rows by key, rows by values. Every answer comes from one read transaction and
//! carries the number of the last change that the transaction saw, so that it stands in one order with the feed.

use super::errors::classify;
use super::position::version;
use super::schema::quoted;
use super::shape::{Shape, Shown, any_table};
use super::storage::{NOW_MILLIS, last_seq};
use super::types::Cell;
use concord_engine::change::{EditTime, Image, Observation, Version};
use concord_engine::clock::Moment;
use concord_engine::connector::{Chunk, ChunkCursor, Presence};
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::{FieldName, Key, ObjectName};
use concord_engine::schema::Selection;
use concord_engine::value::Value;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::mpsc::Sender;

/// How many records, and about how many bytes of them, are handed over at once where a table is read as a whole.
const LOT_RECORDS: usize = 1_000;
const LOT_BYTES: usize = 1 << 20;
/// A chunk ends early behind this many bytes.
const CHUNK_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What is common to everything seen in one read transaction.
pub(super) struct Seen {
    object: ObjectName,
    version: Version,
    time: EditTime,
}

impl Seen {
    fn begin(transaction: &Transaction<'_>, object: &ObjectName) -> Result<Seen> {
        let now: i64 = transaction
            .prepare_cached(&format!("SELECT {NOW_MILLIS}"))
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .map_err(|error| classify(error, "reading the time"))?;
        Ok(Seen {
            object: object.clone(),
            version: version(last_seq(transaction)?),
            time: EditTime {
                at: Moment(now.saturating_mul(1000)),
                granularity_micros: super::TIME_GRANULARITY_MICROS,
                estimated: true,
            },
        })
    }

    fn observation(&self, shown: Shown) -> Observation {
        Observation {
            object: self.object.clone(),
            key: shown.key,
            old_key: None,
            image: Image::Full(shown.record),
            made: false,
            version: self.version.clone(),
            time: self.time,
            mark: None,
        }
    }
}

/// A transaction in which everything read is of one moment.
fn reading(connection: &mut Connection) -> Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Deferred).map_err(|error| classify(error, "beginning to read"))
}

/// Up to `limit` rows in the order of the key, behind the cursor. Rows whose key holds a null are no records.
pub(super) fn snapshot(connection: &mut Connection, selection: &Selection, from: &ChunkCursor, limit: usize) -> Result<Chunk> {
    let transaction = reading(connection)?;
    let seen = Seen::begin(&transaction, &selection.object)?;
    let shape = Shape::load(&transaction, selection)?;
    let behind = cursor(from)?;
    if !behind.is_empty() && behind.len() != shape.table.key.len() {
        return Err(Error::new(Code::SchemaDrift, format!("the key of {} changed during a snapshot", selection.object)));
    }
    let keys = shape.key_text();
    let mut conditions: Vec<String> = shape
        .table
        .key_columns()
        .filter(|column| column.nullable)
        .map(|column| format!("{} IS NOT NULL", quoted(&column.name)))
        .collect();
    if !behind.is_empty() {
        conditions.push(format!("({keys}) > ({})", vec!["?"; behind.len()].join(", ")));
    }
    let condition = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    let wanted = i64::try_from(limit.max(1)).unwrap_or(i64::MAX).saturating_add(1);
    let text = format!("{}{condition} ORDER BY {keys} LIMIT {wanted}", shape.select());
    take_chunk(&transaction, &text, &behind, &shape, &seen, limit.max(1))
        .map_err(|error| classify(error, &format!("reading {}", selection.object)))?
}

/// Every row of a table, whether it has a key or not, as they are in one transaction; some at a time, until nobody takes them.
pub(super) fn whole(connection: &mut Connection, selection: &Selection, lots: &Sender<Vec<Observation>>) -> Result<()> {
    let transaction = reading(connection)?;
    let seen = Seen::begin(&transaction, &selection.object)?;
    let shape = Shape::of(any_table(&transaction, &selection.object)?, selection)?;
    let failed = |error| classify(error, &format!("reading {}", selection.object));
    let mut statement = transaction.prepare_cached(&shape.select()).map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let mut some = Vec::new();
    let mut bytes = 0_usize;
    while let Some(row) = rows.next().map_err(failed)? {
        let shown = shape.read(row).map_err(failed)?;
        bytes = bytes.saturating_add(shown.size);
        some.push(seen.observation(shown));
        if some.len() >= LOT_RECORDS || bytes >= LOT_BYTES {
            bytes = 0;
            if lots.blocking_send(std::mem::take(&mut some)).is_err() {
                return Ok(());
            }
        }
    }
    // Whoever listened may have gone.
    let _ = lots.blocking_send(some);
    Ok(())
}

fn take_chunk(
    transaction: &Transaction<'_>,
    text: &str,
    behind: &[Cell],
    shape: &Shape,
    seen: &Seen,
    limit: usize,
) -> rusqlite::Result<Result<Chunk>> {
    let mut statement = transaction.prepare_cached(text)?;
    let mut rows = statement.query(rusqlite::params_from_iter(behind))?;
    let mut records = Vec::new();
    let mut last: Vec<Cell> = Vec::new();
    let mut bytes = 0_usize;
    while let Some(row) = rows.next()? {
        if records.len() >= limit || bytes >= CHUNK_BYTES_MAX {
            return Ok(cursor_behind(&last).map(|next| Chunk { records, next: Some(next) }));
        }
        let shown = shape.read(row)?;
        bytes = bytes.saturating_add(shown.size);
        last.clone_from(&shown.cells);
        records.push(seen.observation(shown));
    }
    Ok(Ok(Chunk { records, next: None }))
}

fn cursor(from: &ChunkCursor) -> Result<Vec<Cell>> {
    if from.0.is_empty() {
        return Ok(Vec::new());
    }
    postcard::from_bytes(&from.0)
        .map_err(|error| Error::new(Code::Internal, "the cursor of a snapshot is not one of a SQLite file").because(error))
}

fn cursor_behind(cells: &[Cell]) -> Result<ChunkCursor> {
    postcard::to_stdvec(cells)
        .map(ChunkCursor)
        .map_err(|error| Error::new(Code::Internal, "the cursor of a snapshot could not be written").because(error))
}

/// Rows by key, in the order asked.
pub(super) fn read(connection: &mut Connection, selection: &Selection, keys: &[Key]) -> Result<Vec<Presence>> {
    let transaction = reading(connection)?;
    let seen = Seen::begin(&transaction, &selection.object)?;
    let shape = Shape::load(&transaction, selection)?;
    keys.iter()
        .map(|key| {
            let found = match shape.key_cells(key) {
                Ok(cells) => shape.find(&transaction, &cells)?,
                Err(_) => None,
            };
            Ok(match found {
                Some(shown) => Presence::Present(seen.observation(shown)),
                None => Presence::Absent { version: seen.version.clone() },
            })
        })
        .collect()
}

/// Rows whose fields equal a row of values, in the order asked; a null equals a null.
pub(super) fn find(
    connection: &mut Connection,
    selection: &Selection,
    by: &[FieldName],
    values: &[Vec<Value>],
    limit: usize,
) -> Result<Vec<Vec<Observation>>> {
    let transaction = reading(connection)?;
    let seen = Seen::begin(&transaction, &selection.object)?;
    let shape = Shape::load(&transaction, selection)?;
    values
        .iter()
        .map(|wanted| {
            let found = matching(&transaction, &shape, by, wanted, limit)?;
            Ok(found.into_iter().map(|shown| seen.observation(shown)).collect())
        })
        .collect()
}

/// Rows of the shape whose fields `by` mean the same as `wanted`, at most `limit`. The column's collation may find more
/// than is meant: equivalence decides.
pub(super) fn matching(
    connection: &Connection,
    shape: &Shape,
    by: &[FieldName],
    wanted: &[Value],
    limit: usize,
) -> Result<Vec<Shown>> {
    let mut cells = Vec::with_capacity(by.len());
    let mut conditions = Vec::with_capacity(by.len());
    for (field, value) in by.iter().zip(wanted) {
        let column = shape
            .table
            .place(field.as_str())
            .and_then(|place| shape.table.columns.get(place))
            .ok_or_else(|| Error::new(Code::FieldMissing, format!("the table {} has no column {field}", shape.table.name)))?;
        match column.ty.encode(value) {
            // A value that the column cannot hold is in no row.
            Err(_) => return Ok(Vec::new()),
            Ok(cell) => cells.push(cell),
        }
        conditions.push(format!("{} IS ?", quoted(&column.name)));
    }
    if cells.is_empty() || by.len() != wanted.len() {
        return Ok(Vec::new());
    }
    let wider = shape.with(by.iter());
    let failed = |error| classify(error, &format!("searching {}", shape.table.name));
    let text = format!("{} WHERE {}", wider.select(), conditions.join(" AND "));
    let mut statement = connection.prepare_cached(&text).map_err(failed)?;
    let mut rows = statement.query(rusqlite::params_from_iter(&cells)).map_err(failed)?;
    let mut found = Vec::new();
    while found.len() < limit {
        let Some(row) = rows.next().map_err(failed)? else { break };
        let shown = wider.read(row).map_err(failed)?;
        let equal =
            |(field, value): (&FieldName, &Value)| shown.record.get(field.as_str()).is_some_and(|held| held.equivalent(value));
        if !shown.key.0.iter().any(|part| matches!(part, Value::Null)) && by.iter().zip(wanted).all(equal) {
            found.push(shape.narrow(shown));
        }
    }
    Ok(found)
}
