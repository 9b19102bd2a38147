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
    /// Deletes; see [`met`].
    Delete,
    /// Updates; see [`met`].
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
        let keys = self.key.iter().enumerate().map(|(place, column)| format!("t.{} AS k{place}", column.sql));
        let first = self.key.len();
        let set = (0..self.set.len()).map(|place| format!("x.c{}", first + place));
        let carried: Vec<String> = keys.chain(set).collect();
        let order: Vec<String> = self.key.iter().map(|column| format!("t.{}", column.sql)).collect();
        format!(
            "held AS MATERIALIZED (SELECT x.n, {}, ({}) AS fits FROM x JOIN {} AS t ON {} ORDER BY {} FOR {strength} OF t SKIP LOCKED)",
            carried.join(", "),
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
        set: first.set.map(|set| settable(table, set)).transpose()?.unwrap_or_default(),
        guard: columns(table, first.guard)?,
    };
    let sql = match first.set {
        Some(_) => update_sql(table, shown, &layout),
        None => delete_sql(table, &layout),
    };
    let all: Vec<&Column> = layout.key.iter().chain(&layout.set).chain(&layout.guard).copied().collect();
    let rows: Vec<Vec<&Value>> = group.iter().map(row).collect();
    let rows: Vec<&[&Value]> = rows.iter().map(Vec::as_slice).collect();
    Ok(Statement {
        sql,
        parameters: Parameters::Arrays(columns_of(&all, &rows)?),
        places: group.iter().map(|write| write.place).collect(),
        kind: if first.set.is_some() { Kind::Update } else { Kind::Delete },
    })
}

/// The columns of fields to set, all of which can be set. An update that sets nothing is none.
pub fn settable<'a>(table: &'a Table, set: &Record) -> Result<Vec<&'a Column>> {
    let columns = columns(table, set)?;
    let object = &table.schema.object;
    if columns.is_empty() {
        return Err(Error::new(Code::Internal, format!("an update of {object} that sets nothing")));
    }
    match columns.iter().find(|column| !column.field.updatable) {
        Some(column) => {
            let message = format!("{object}.{} is filled by the server and cannot be set", column.field.name);
            Err(Error::new(Code::TargetRejected, message))
        }
        None => Ok(columns),
    }
}

fn columns<'a>(table: &'a Table, record: &Record) -> Result<Vec<&'a Column>> {
    record.iter().map(|(name, _)| table.require(name)).collect()
}

fn row<'a>(write: &Guarded<'a>) -> Vec<&'a Value> {
    let set = write.set.into_iter().flat_map(|set| set.iter());
    let fields = set.chain(write.guard.iter()).map(|(_, value)| value);
    write.key.0.iter().chain(fields).collect()
}

/// What a row of a result says, as a number.
const WRITTEN: i32 = 0;
const SUPPRESSED: i32 = 1;
const MISSED: i32 = 2;
const LOCKED: i32 = 3;

fn update_sql(table: &Table, shown: &[&Column], layout: &Layout<'_>) -> String {
    let first = layout.key.len();
    let set: Vec<String> = layout
        .set
        .iter()
        .enumerate()
        .map(|(place, column)| format!("{} = {}", column.sql, column.given(&format!("h.c{}", first + place))))
        .collect();
    // A key change takes the stronger lock; the weaker one lets records that refer to this one be written meanwhile.
    let changes_key = layout.set.iter().any(|column| layout.key.iter().any(|key| key.sql == column.sql));
    let printed: Vec<String> =
        shown.iter().enumerate().map(|(place, column)| format!("{} AS p{place}", column.printed("t"))).collect();
    let done = format!(
        "UPDATE {} AS t SET {} FROM held AS h WHERE h.fits AND {} RETURNING h.n, {}",
        table.name.sql(),
        set.join(", "),
        layout.rejoined(),
        printed.join(", ")
    );
    whole_sql(table, layout, if changes_key { "UPDATE" } else { "NO KEY UPDATE" }, &done, shown.len())
}

fn delete_sql(table: &Table, layout: &Layout<'_>) -> String {
    let name = table.name.sql();
    let done = format!("DELETE FROM {name} AS t USING held AS h WHERE h.fits AND {} RETURNING h.n", layout.rejoined());
    whole_sql(table, layout, "UPDATE", &done, 0)
}

/// One row for each write: what was written, what was held but not written, what could not be held. The parts are
/// put under one another instead of joined: without knowing how many rows the arrays hold, the server would join them
/// row by row.
fn whole_sql(table: &Table, layout: &Layout<'_>, strength: &str, done: &str, shown: usize) -> String {
    let printed: String = (0..shown).map(|place| format!(", d.p{place}")).collect();
    let nothing = ", NULL::text".repeat(shown);
    format!(
        "WITH {}, {}, done AS ({done}) SELECT d.n, {WRITTEN}{printed} FROM done AS d \
         UNION ALL SELECT h.n, CASE WHEN h.fits THEN {SUPPRESSED} ELSE {MISSED} END{nothing} FROM held AS h \
         WHERE h.n NOT IN (SELECT d.n FROM done AS d) \
         UNION ALL SELECT x.n, CASE WHEN EXISTS (SELECT FROM {} AS t WHERE {}) THEN {LOCKED} ELSE {MISSED} END{nothing} FROM x \
         WHERE x.n NOT IN (SELECT h.n FROM held AS h)",
        layout.given(),
        layout.held(table, strength),
        table.name.sql(),
        layout.keyed("t")
    )
}

/// Which write a row of a statement is about: its ordinal among the parameters, from 1.
pub fn place(places: &[usize], row: &Row) -> Result<usize> {
    let ordinal: i64 = column(row, 0)?;
    let found = usize::try_from(ordinal).ok().and_then(|ordinal| places.get(ordinal.checked_sub(1)?));
    found.copied().ok_or_else(|| super::errors::unexpected(format!("a result for write {ordinal}, which was not asked for")))
}

/// What an update or delete met; a delete shows no columns.
pub fn met(kind: Kind, shown: &[&Column], row: &Row) -> Result<Met> {
    let word: i32 = column(row, 1)?;
    Ok(match word {
        WRITTEN if kind == Kind::Update => Met::Written(Some(record(shown, row, 2)?)),
        WRITTEN => Met::Written(None),
        SUPPRESSED => Met::Suppressed,
        LOCKED => Met::Locked,
        _ => Met::Missed,
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
