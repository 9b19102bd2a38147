//! Chunks of a table in the order of its key. Each chunk is one statement, so it is all of one snapshot, and begins
//! behind the last key of the one before: it can be resumed after a restart, whatever happened to that record.

use super::Shared;
use super::read::{SEEN, SEEN_COLUMNS, Seen, observation, record};
use super::schema::Column;
use super::types;
use concord_engine::connector::{Chunk, ChunkCursor, Since};
use concord_engine::error::{Code, Error, Result};
use concord_engine::schema::{Selection, Type};
use concord_engine::value::Value;

/// The next records behind a cursor; of these, where asked for, the ones that changed since a time.
pub async fn chunk(
    shared: &Shared,
    selection: &Selection,
    from: &ChunkCursor,
    limit: usize,
    since: Option<&Since>,
) -> Result<Chunk> {
    let table = shared.table(&selection.object).await?;
    let shown = table.selected(selection)?;
    let key = table.key_columns()?;
    let behind = read_cursor(from, key.len())?;
    let printed: Vec<String> = shown.iter().map(|column| column.printed("t")).collect();
    let key_sql: Vec<String> = key.iter().map(|column| format!("t.{}", column.sql)).collect();
    let mut conditions = Vec::new();
    if behind.is_some() {
        let given: Vec<String> =
            key.iter().enumerate().map(|(place, column)| column.given(&format!("${}::text", place + 1))).collect();
        conditions.push(format!("({}) > ({})", key_sql.join(", "), given.join(", ")));
    }
    if let Some(since) = since {
        let place = format!("t.{}", table.require(&since.field)?.sql);
        // Compared with a time without a zone, the moment is taken in UTC, as everywhere.
        let moment = format!("('epoch'::timestamptz + interval '1 microsecond' * {})", since.at.micros());
        let moment = match table.require(&since.field)?.field.ty {
            Type::Timestamp { .. } => format!("({moment} AT TIME ZONE 'UTC')"),
            _ => moment,
        };
        conditions.push(format!("({place} IS NULL OR {place} >= {moment})"));
    }
    let condition = if conditions.is_empty() { String::new() } else { format!("WHERE {}", conditions.join(" AND ")) };
    let sql = format!(
        "SELECT {SEEN}, {} FROM {} AS t {condition} ORDER BY {} LIMIT {}",
        printed.join(", "),
        table.name.sql(),
        key_sql.join(", "),
        limit.max(1)
    );
    let behind = behind.unwrap_or_default();
    let parameters: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> = behind.iter().map(|text| text as _).collect();
    let mut lease = shared.readers.lease().await?;
    let rows = lease.query(&sql, &parameters, &format!("reading a chunk of {}", selection.object)).await?;
    lease.done();
    let mut records = Vec::with_capacity(rows.len());
    for row in &rows {
        let seen = Seen::from_row(row)?;
        records.push(observation(&table, &selection.object, record(&shown, row, SEEN_COLUMNS)?, &seen)?);
    }
    let full = records.len() >= limit.max(1);
    let next = match records.last() {
        Some(last) if full => Some(write_cursor(&key, &last.key.0)?),
        _ => None,
    };
    Ok(Chunk { records, next })
}

/// The key's values as the server prints them.
fn write_cursor(key: &[&Column], values: &[Value]) -> Result<ChunkCursor> {
    let text = |(column, value): (&&Column, &Value)| {
        let text = types::encode(&column.field.ty, value)?;
        text.ok_or_else(|| Error::new(Code::KeyMissing, "a key holds null"))
    };
    let texts = key.iter().zip(values).map(text).collect::<Result<Vec<String>>>()?;
    Ok(ChunkCursor(postcard::to_stdvec(&texts).unwrap_or_default()))
}

/// The texts in a cursor; `None`: the beginning.
fn read_cursor(cursor: &ChunkCursor, columns: usize) -> Result<Option<Vec<String>>> {
    if cursor.0.is_empty() {
        return Ok(None);
    }
    let texts: Option<Vec<String>> = postcard::from_bytes(&cursor.0).ok();
    let texts = texts.filter(|texts| texts.len() == columns);
    let changed = || Error::new(Code::SchemaDrift, "the key has other columns than when the reading began; begin it again");
    texts.map(Some).ok_or_else(changed)
}
