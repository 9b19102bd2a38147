//! Updates and deletes as one statement for many records: the rows are taken, those that are locked are passed over,
//! and only those that show the whole guard are written. The statement says of each write what it met.

use super::client::column;
use super::read::{columns_of, record, unnest};
use super::schema::{Column, Table};
use super::types;
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::{FieldName, Key, Record};
use concord_engine::value::Value;
use tokio_postgres::Row;

/// A statement with its parameters, and which writes it is for.
pub struct Statement {
    /// The text; the same for every batch of the same shape.
    pub sql: String,
    /// The parameters.
    pub parameters: Parameters,
    /// The writes, by their places in the batch, in the order of the parameters.
    pub places: Vec<usize>,
    /// How its rows are read.
    pub kind: Kind,
}

/// Parameters, all as texts.
pub enum Parameters {
    /// One array per column.
    Arrays(Vec<Vec<Option<String>>>),
    /// One text per column.
    Texts(Vec<Option<String>>),
}

/// How a statement's rows are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// See [`removed`].
    Delete,
    /// See [`changed`].
    Update,
    /// See [`insert`](super::insert).
    Create,
    /// One create by itself.
    CreateOne,
}

/// What a statement met at one write's record.
#[derive(Debug)]
pub enum Met {
    /// Written; what the record shows now, unless it is gone.
    Written(Option<Record>),
    /// Not there, or not as the guard says.
    Missed,
    /// Locked by somebody else.
    Locked,
    /// A create met a record that is already there.
    Collision,
    /// A trigger or rule let the write vanish without an error.
    Suppressed,
    /// Cannot be told from this statement: to be asked one by one.
    Again,
}

/// One update or delete.
pub struct Guarded<'a> {
    /// Its place in the batch.
    pub place: usize,
    /// The record.
    pub key: &'a Key,
    /// What to set; `None` for a delete.
    pub set: Option<&'a Record>,
    /// What it must show.
    pub guard: &'a Record,
}

/// Where a group's columns stand among the parameters.
struct Layout<'a> {
    key: Vec<&'a Column>,
    set: Vec<&'a Column>,
    guard: Vec<&'a Column>,
}

impl Layout<'_> {
    fn keyed(&self, alias: &str) -> String {
        let one = |(place, column): (usize, &&Column)| column.equals(alias, &format!("x.c{place}"));
        self.key.iter().enumerate().map(one).collect::<Vec<_>>().join(" AND ")
    }

    fn guarded(&self) -> String {
        let first = self.key.len() + self.set.len();
        let one = |(place, column): (usize, &&Column)| column.shows("t", &format!("x.c{}", first + place));
        let conditions: Vec<String> = self.guard.iter().enumerate().map(one).collect();
        if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") }
    }

    /// The rows taken, in the order of the key, so that two batches do not wait for each other in a circle.
    fn held(&self, table: &Table, strength: &str) -> String {
        let keys: Vec<String> =
            self.key.iter().enumerate().map(|(place, column)| format!("t.{} AS k{place}", column.sql)).collect();
        let order: Vec<String> = self.key.iter().map(|column| format!("t.{}", column.sql)).collect();
        format!(
            "held AS MATERIALIZED (SELECT x.n, {}, ({}) AS fits FROM x JOIN {} AS t ON {} ORDER BY {} FOR {strength} OF t SKIP LOCKED)",
            keys.join(", "),
            self.guarded(),
            table.name.sql(),
            self.keyed("t"),
            order.join(", ")
        )
    }

    fn rejoined(&self) -> String {
        let one = |(place, column): (usize, &&Column)| format!("t.{} = h.k{place}", column.sql);
        self.key.iter().enumerate().map(one).collect::<Vec<_>>().join(" AND ")
    }

    fn given(&self) -> String {
        let count = self.key.len() + self.set.len() + self.guard.len();
        format!("x AS MATERIALIZED (SELECT * FROM {})", unnest(count, 1, "x"))
    }
}

/// The statement of a group of updates that set the same fields under guards of the same fields, or of deletes.
pub fn statement(table: &Table, shown: &[&Column], group: &[Guarded<'_>]) -> Result<Statement> {
    let first = group.first().ok_or_else(|| Error::new(Code::Internal, "a group of no writes"))?;
    let layout = Layout {
        key: table.key_columns()?,
        set: first.set.map(|set| columns(table, set)).transpose()?.unwrap_or_default(),
        guard: columns(table, first.guard)?,
    };
    if let Some(column) = layout.set.iter().find(|column| !column.field.updatable) {
        let message = format!("{}.{} is filled by the server and cannot be set", table.schema.object, column.field.name);
        return Err(Error::new(Code::TargetRejected, message));
    }
    let sql = match first.set {
        Some(_) => update_sql(table, shown, &layout),
        None => delete_sql(table, &layout),
    };
    let all: Vec<&Column> = layout.key.iter().chain(&layout.set).chain(&layout.guard).copied().collect();
    let rows: Vec<Vec<Value>> = group.iter().map(row).collect();
    let rows: Vec<&[Value]> = rows.iter().map(Vec::as_slice).collect();
    Ok(Statement {
        sql,
        parameters: Parameters::Arrays(columns_of(&all, &rows)?),
        places: group.iter().map(|write| write.place).collect(),
        kind: if first.set.is_some() { Kind::Update } else { Kind::Delete },
    })
}

fn columns<'a>(table: &'a Table, record: &Record) -> Result<Vec<&'a Column>> {
    record.iter().map(|(name, _)| table.require(name)).collect()
}

fn row(write: &Guarded<'_>) -> Vec<Value> {
    let set = write.set.into_iter().flat_map(|set| set.iter());
    let fields = set.chain(write.guard.iter()).map(|(_, value)| value.clone());
    write.key.0.iter().cloned().chain(fields).collect()
}

fn update_sql(table: &Table, shown: &[&Column], layout: &Layout<'_>) -> String {
    let name = table.name.sql();
    let first = layout.key.len();
    let set: Vec<String> = layout
        .set
        .iter()
        .enumerate()
        .map(|(place, column)| format!("{} = {}", column.sql, column.given(&format!("x.c{}", first + place))))
        .collect();
    // A key change takes the stronger lock; the weaker one lets records that refer to this one be written meanwhile.
    let changes_key = layout.set.iter().any(|column| layout.key.iter().any(|key| key.sql == column.sql));
    let held = layout.held(table, if changes_key { "UPDATE" } else { "NO KEY UPDATE" });
    let printed: Vec<String> =
        shown.iter().enumerate().map(|(place, column)| format!("{} AS p{place}", column.printed("t"))).collect();
    let results: Vec<String> = (0..shown.len()).map(|place| format!("d.p{place}")).collect();
    format!(
        "WITH {}, {held}, done AS (UPDATE {name} AS t SET {} FROM held AS h JOIN x ON x.n = h.n WHERE h.fits AND {} RETURNING h.n, {}) \
         SELECT x.n, h.n IS NOT NULL, coalesce(h.fits, false), d.n IS NOT NULL, \
         h.n IS NULL AND EXISTS (SELECT FROM {name} AS t WHERE {}), {} \
         FROM x LEFT JOIN held AS h ON h.n = x.n LEFT JOIN done AS d ON d.n = x.n",
        layout.given(),
        set.join(", "),
        layout.rejoined(),
        printed.join(", "),
        layout.keyed("t"),
        results.join(", ")
    )
}

fn delete_sql(table: &Table, layout: &Layout<'_>) -> String {
    let name = table.name.sql();
    format!(
        "WITH {}, {}, done AS (DELETE FROM {name} AS t USING held AS h WHERE h.fits AND {} RETURNING h.n) \
         SELECT x.n, h.n IS NOT NULL, coalesce(h.fits, false), d.n IS NOT NULL, \
         h.n IS NULL AND EXISTS (SELECT FROM {name} AS t WHERE {}) \
         FROM x LEFT JOIN held AS h ON h.n = x.n LEFT JOIN done AS d ON d.n = x.n",
        layout.given(),
        layout.held(table, "UPDATE"),
        layout.rejoined(),
        layout.keyed("t")
    )
}

/// Which write a row of a statement is about: its ordinal among the parameters, from 1.
pub fn place(places: &[usize], row: &Row) -> Result<usize> {
    let ordinal: i64 = column(row, 0)?;
    let found = usize::try_from(ordinal).ok().and_then(|ordinal| places.get(ordinal.checked_sub(1)?));
    found.copied().ok_or_else(|| super::errors::unexpected(format!("a result for write {ordinal}, which was not asked for")))
}

/// What an update met.
pub fn changed(shown: &[&Column], row: &Row) -> Result<Met> {
    met(row, |row| Ok(Some(record(shown, row, 5)?)))
}

/// What a delete met.
pub fn removed(row: &Row) -> Result<Met> {
    met(row, |_| Ok(None))
}

fn met(row: &Row, image: impl FnOnce(&Row) -> Result<Option<Record>>) -> Result<Met> {
    let (held, fits, done, there): (bool, bool, bool, bool) =
        (column(row, 1)?, column(row, 2)?, column(row, 3)?, column(row, 4)?);
    Ok(match (held, fits, done) {
        (_, _, true) => Met::Written(image(row)?),
        (true, true, false) => Met::Suppressed,
        (true, false, false) => Met::Missed,
        (false, _, false) => {
            if there {
                Met::Locked
            } else {
                Met::Missed
            }
        }
    })
}

/// What tells groups apart: the fields set and the fields guarded.
pub fn shape(write: &Guarded<'_>) -> (Option<Vec<FieldName>>, Vec<FieldName>) {
    let names = |record: &Record| record.iter().map(|(name, _)| name.clone()).collect::<Vec<FieldName>>();
    (write.set.map(names), names(write.guard))
}

/// The texts of values, for telling two writes of one record apart.
pub fn texts(columns: &[&Column], values: &[Value]) -> Result<Vec<Option<String>>> {
    columns.iter().zip(values).map(|(column, value)| types::encode(&column.field.ty, value)).collect()
}
