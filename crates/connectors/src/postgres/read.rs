//! Reads: by key, by the values of fields, and how many there are. Every answer is of one statement and carries that
//! statement's own snapshot as its version, so that it compares with the feed by what it could see.

use super::client::column;
use super::schema::{Column, Table};
use super::types;
use super::version::{RowVersion, Snapshot};
use super::{Shared, errors};

use concord_engine::change::{EditTime, Image, Observation, Version};
use concord_engine::clock::Moment;
use concord_engine::connector::Presence;
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::{FieldName, Key, ObjectName, Record};
use concord_engine::schema::Selection;
use concord_engine::value::Value;
use std::borrow::Borrow;
use std::collections::BTreeMap;
use tokio_postgres::Row;

/// The snapshot and the time of a statement, in front of every read's columns.
pub const SEEN: &str =
    "pg_catalog.pg_current_snapshot()::text, (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::int8";
/// How many columns [`SEEN`] takes.
pub const SEEN_COLUMNS: usize = 2;
/// How reading sessions are set up: no wait without an end, and an error where row level security would hide records. To ask
/// beside each read whether it applies would not do: a statement that was planned while it did goes on hiding records when it
/// no longer does. With this setting no plan ever hides any. <https://www.postgresql.org/docs/current/runtime-config-client.html>
pub const SESSION_SETTINGS: &[(&str, &str)] = &[("lock_timeout", "10s"), ("statement_timeout", "600s"), ("row_security", "off")];
/// Below so many, records are counted instead of estimated.
const COUNTED_BELOW: f32 = 50_000.0;

/// When and under which snapshot a row was read.
pub struct Seen {
    version: Version,
    time: EditTime,
}

impl Seen {
    /// Reads it off a row.
    pub fn from_row(row: &Row) -> Result<Seen> {
        let text: &str = column(row, 0)?;
        let snapshot = Snapshot::parse(text).ok_or_else(|| errors::unexpected(format!("{text} is no snapshot")))?;
        let time = EditTime { at: Moment(column(row, 1)?), granularity_micros: 1, estimated: true };
        Ok(Seen { version: RowVersion::Snapshot(snapshot).encode(), time })
    }
}

/// A record's values out of columns of printed text that begin at `first`.
pub fn record(columns: &[&Column], row: &Row, first: usize) -> Result<Record> {
    let value = |(place, shown): (usize, &&Column)| {
        let text: Option<&str> = column(row, first + place)?;
        Ok((shown.field.name.clone(), text.map_or(Value::Null, |text| types::decode(&shown.field.ty, text))))
    };
    columns.iter().enumerate().map(value).collect()
}

/// The key that a record shows.
pub fn key_of(table: &Table, record: &Record) -> Result<Key> {
    let part = |column: &Column| {
        let value = record.get(column.field.name.as_str()).cloned();
        value.ok_or_else(|| errors::unexpected(format!("a record of {} came without its key", table.schema.object)))
    };
    Ok(Key(table.key_columns()?.into_iter().map(part).collect::<Result<Vec<Value>>>()?))
}

/// What tells a record without a key from others that show the same: what it shows, and where that was seen.
pub fn placed(image: &Image, place: String) -> Key {
    let shown = image.record().into_iter().flat_map(Record::iter).map(|(_, value)| value.clone());
    Key(shown.chain(std::iter::once(Value::Text(place))).collect())
}

/// A record as an observation.
pub fn observation(table: &Table, object: &ObjectName, record: Record, seen: &Seen) -> Result<Observation> {
    Ok(Observation {
        object: object.clone(),
        key: key_of(table, &record)?,
        old_key: None,
        image: Image::Full(record),
        made: false,
        version: seen.version.clone(),
        time: seen.time,
        mark: None,
    })
}

/// Rows of values as one array of texts per column: parameters of an `unnest`.
pub fn columns_of<V: Borrow<Value>>(columns: &[&Column], rows: &[&[V]]) -> Result<Vec<Vec<Option<String>>>> {
    let mut arrays: Vec<Vec<Option<String>>> = columns.iter().map(|_| Vec::with_capacity(rows.len())).collect();
    for row in rows {
        if row.len() != columns.len() {
            return Err(Error::new(Code::Internal, format!("{} values for {} columns", row.len(), columns.len())));
        }
        for ((array, column), value) in arrays.iter_mut().zip(columns).zip(*row) {
            array.push(types::encode(&column.field.ty, value.borrow())?);
        }
    }
    Ok(arrays)
}

/// `unnest($1::text[], …) WITH ORDINALITY AS alias(c0, …, n)`; the first parameter's number is `first`.
pub fn unnest(count: usize, first: usize, alias: &str) -> String {
    let arrays: Vec<String> = (0..count).map(|place| format!("${}::text[]", first + place)).collect();
    let names: Vec<String> = (0..count).map(|place| format!("c{place}")).collect();
    format!("unnest({}) WITH ORDINALITY AS {alias}({}, n)", arrays.join(", "), names.join(", "))
}

/// How records are asked for by their keys.
pub struct Asked<'a> {
    pub sql: String,
    pub parameters: Vec<Vec<Option<String>>>,
    /// The columns that the answers show, behind [`SEEN`] and whether the record is there.
    shown: Vec<&'a Column>,
}

impl<'a> Asked<'a> {
    /// For one answer per key, in the order of the keys. What may not be read is an error of all of them: not to be seen is not
    /// the same as not there.
    pub fn of(table: &'a Table, selection: &Selection, keys: &[Key]) -> Result<Asked<'a>> {
        let (shown, key) = (table.selected(selection)?, table.key_columns()?);
        let rows: Vec<&[Value]> = keys.iter().map(|key| key.0.as_slice()).collect();
        let parameters = columns_of(&key, &rows)?;
        let join: Vec<String> =
            key.iter().enumerate().map(|(place, column)| column.equals("t", &format!("x.c{place}"))).collect();
        let printed: Vec<String> = shown.iter().map(|column| column.printed("t")).collect();
        let present = key.first().map(|column| format!("t.{} IS NOT NULL", column.sql)).unwrap_or_default();
        let sql = format!(
            "SELECT {SEEN}, {present}, {} FROM {} LEFT JOIN {} AS t ON {} ORDER BY x.n",
            printed.join(", "),
            unnest(key.len(), 1, "x"),
            table.name.sql(),
            join.join(" AND ")
        );
        Ok(Asked { sql, parameters, shown })
    }

    /// What one row of the answer says.
    pub fn presence(&self, table: &Table, selection: &Selection, row: &Row) -> Result<Presence> {
        let seen = Seen::from_row(row)?;
        let present: bool = column(row, SEEN_COLUMNS)?;
        if present {
            let record = record(&self.shown, row, SEEN_COLUMNS + 1)?;
            return Ok(Presence::Present(observation(table, &selection.object, record, &seen)?));
        }
        Ok(Presence::Absent { version: seen.version })
    }
}

/// Records by key; one answer per key, in the order asked.
pub async fn by_key(shared: &Shared, selection: &Selection, keys: &[Key]) -> Result<Vec<Presence>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let table = shared.table(&selection.object).await?;
    let asked = Asked::of(&table, selection, keys)?;
    let mut lease = shared.readers.lease().await?;
    let parameters: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> = asked.parameters.iter().map(|array| array as _).collect();
    let rows = lease.query(&asked.sql, &parameters, &format!("reading {}", selection.object)).await?;
    lease.done();
    if rows.len() != keys.len() {
        return Err(errors::unexpected(format!("{} answers for {} keys of {}", rows.len(), keys.len(), selection.object)));
    }
    rows.iter().map(|row| asked.presence(&table, selection, row)).collect()
}

/// Records whose fields equal a row of values, null equal to null. Rows are asked together by which of their values
/// are null: an index serves `=` and `IS NULL`, but no null-safe comparison.
pub async fn by_fields(
    shared: &Shared,
    selection: &Selection,
    by: &[FieldName],
    values: &[Vec<Value>],
    limit: usize,
) -> Result<Vec<Vec<Observation>>> {
    if by.is_empty() {
        return Err(Error::new(Code::Internal, "a search without a field"));
    }
    let mut groups: BTreeMap<Vec<bool>, Vec<usize>> = BTreeMap::new();
    for (place, row) in values.iter().enumerate() {
        groups.entry(row.iter().map(|value| *value == Value::Null).collect()).or_default().push(place);
    }
    let mut found: Vec<Vec<Observation>> = values.iter().map(|_| Vec::new()).collect();
    for (nulls, places) in groups {
        search(shared, selection, by, values, limit, &nulls, &places, &mut found).await?;
    }
    Ok(found)
}

#[allow(clippy::too_many_arguments, reason = "one call site; the arguments are those of the search itself")]
async fn search(
    shared: &Shared,
    selection: &Selection,
    by: &[FieldName],
    values: &[Vec<Value>],
    limit: usize,
    nulls: &[bool],
    places: &[usize],
    found: &mut [Vec<Observation>],
) -> Result<()> {
    let table = shared.table(&selection.object).await?;
    let shown = table.selected(selection)?;
    let columns = by.iter().map(|name| table.require(name)).collect::<Result<Vec<&Column>>>()?;
    let rows: Vec<&[Value]> = places.iter().filter_map(|place| values.get(*place)).map(Vec::as_slice).collect();
    let parameters = columns_of(&columns, &rows)?;
    let condition = matching(&columns, nulls, "t", "x.c");
    let printed: Vec<String> = shown.iter().map(|column| column.printed("t")).collect();
    let order: Vec<String> = table.key_columns()?.iter().map(|column| format!("t.{}", column.sql)).collect();
    let sql = format!(
        "SELECT {SEEN}, x.n::int8, {} FROM {} CROSS JOIN LATERAL \
         (SELECT * FROM {} AS t WHERE {condition} ORDER BY {} LIMIT {limit}) AS t ORDER BY x.n",
        printed.join(", "),
        unnest(columns.len(), 1, "x"),
        table.name.sql(),
        order.join(", ")
    );
    let mut lease = shared.readers.lease().await?;
    let parameters: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> = parameters.iter().map(|array| array as _).collect();
    let rows = lease.query(&sql, &parameters, &format!("searching {}", selection.object)).await?;
    lease.done();
    for row in &rows {
        let ordinal: i64 = column(row, SEEN_COLUMNS)?;
        let place = usize::try_from(ordinal).ok().and_then(|ordinal| places.get(ordinal.checked_sub(1)?));
        let hits = place.and_then(|place| found.get_mut(*place));
        let hits = hits.ok_or_else(|| errors::unexpected("an answer to no question"))?;
        let record = record(&shown, row, SEEN_COLUMNS + 1)?;
        hits.push(observation(&table, &selection.object, record, &Seen::from_row(row)?)?);
    }
    Ok(())
}

/// The condition that the row `alias` shows values named `prefix0`, `prefix1`, … of which `nulls` are null.
pub fn matching(columns: &[&Column], nulls: &[bool], alias: &str, prefix: &str) -> String {
    let one = |(place, (column, null)): (usize, (&&Column, &bool))| match null {
        true => format!("{alias}.{} IS NULL", column.sql),
        false => column.equals(alias, &format!("{prefix}{place}")),
    };
    columns.iter().zip(nulls).enumerate().map(one).collect::<Vec<_>>().join(" AND ")
}

/// About how many records there are: the server's estimate for large tables, a count for small or unknown ones.
pub async fn count(shared: &Shared, object: &ObjectName) -> Result<u64> {
    let table = shared.table(object).await?;
    let doing = format!("counting {object}");
    let mut lease = shared.readers.lease().await?;
    // A partitioned table's own estimate is missing until it is analysed: its leaves' are summed up.
    let sql = "SELECT CASE WHEN bool_or(c.reltuples < 0) THEN -1 ELSE sum(c.reltuples) END::float4 \
        FROM pg_catalog.pg_class c WHERE c.oid = $1 AND c.relkind = 'r' \
        OR c.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree($1) WHERE isleaf)";
    let estimate: Option<f32> = column(&lease.query_one(sql, &[&table.oid], &doing).await?, 0)?;
    let estimate = estimate.unwrap_or(-1.0);
    let number: i64 = if estimate < COUNTED_BELOW {
        column(&lease.query_one(&format!("SELECT count(*) FROM {}", table.name.sql()), &[], &doing).await?, 0)?
    } else {
        let sql = "SELECT $1::float4::int8";
        column(&lease.query_one(sql, &[&estimate], &doing).await?, 0)?
    };
    lease.done();
    Ok(u64::try_from(number).unwrap_or(0))
}
