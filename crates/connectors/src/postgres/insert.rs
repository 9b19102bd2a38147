//! Creates. Records whose keys are given go in as one statement, in which the key ties each row to its write.
//! Where the server makes the key, nothing ties a row of a larger statement to its write, so each goes in by a
//! statement of its own, all of them sent at once.

use super::client::column;
use super::guarded::{self, Kind, Met, Parameters, Statement};
use super::read::{columns_of, matching, record, unnest};
use super::schema::{Column, Table};
use super::types;
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::{FieldName, Record};
use concord_engine::value::Value;
use std::collections::HashMap;
use tokio_postgres::Row;

/// One create.
pub struct Create<'a> {
    /// Its place in the batch.
    pub place: usize,
    /// What it is to show.
    pub image: &'a Record,
    /// The match fields.
    pub absent_by: &'a [FieldName],
}

/// What tells groups apart: the fields given, the match fields, and which of those are null.
pub fn shape(create: &Create<'_>) -> (Vec<FieldName>, Vec<FieldName>, Vec<bool>) {
    let fields = create.image.iter().map(|(name, _)| name.clone()).collect();
    let nulls = create.absent_by.iter().map(|name| is_null(create.image, name)).collect();
    (fields, create.absent_by.to_vec(), nulls)
}

fn is_null(image: &Record, name: &FieldName) -> bool {
    image.get(name.as_str()).is_none_or(|value| *value == Value::Null)
}

/// Whether the image gives the whole key.
pub fn gives_key(table: &Table, image: &Record) -> bool {
    !table.schema.key.is_empty() && table.schema.key.iter().all(|name| !is_null(image, name))
}

/// The columns of a create's fields, all of which can be given.
pub fn given<'a>(table: &'a Table, image: &Record) -> Result<Vec<&'a Column>> {
    let mut columns = Vec::with_capacity(image.len());
    for (name, _) in image.iter() {
        let column = table.require(name)?;
        if !column.field.creatable {
            let message = format!("{}.{name} is filled by the server and cannot be given", table.schema.object);
            return Err(Error::new(Code::TargetRejected, message));
        }
        columns.push(column);
    }
    Ok(columns)
}

/// The condition that a record is already there: the same key, or the same values in all match fields. `prefix` and
/// the place of a field name its parameter.
fn taken(table: &Table, columns: &[&Column], create: &Create<'_>, prefix: impl Fn(usize) -> String) -> Result<Option<String>> {
    let name = table.name.sql();
    let parameter = |column: &Column| columns.iter().position(|given| given.sql == column.sql).map(&prefix);
    let mut conditions = Vec::new();
    if gives_key(table, create.image) {
        let key = table.key_columns()?;
        let same: Vec<String> = key.iter().filter_map(|column| Some(column.equals("t", &parameter(column)?))).collect();
        conditions.push(format!("EXISTS (SELECT FROM {name} AS t WHERE {})", same.join(" AND ")));
    }
    if !create.absent_by.is_empty() {
        let mut same = Vec::with_capacity(create.absent_by.len());
        for field in create.absent_by {
            let column = table.require(field)?;
            same.push(match parameter(column).filter(|_| !is_null(create.image, field)) {
                Some(parameter) => column.equals("t", &parameter),
                None => matching(&[column], &[true], "t", ""),
            });
        }
        conditions.push(format!("EXISTS (SELECT FROM {name} AS t WHERE {})", same.join(" AND ")));
    }
    Ok((!conditions.is_empty()).then(|| conditions.join(" OR ")))
}

fn values(image: &Record) -> Vec<&Value> {
    image.iter().map(|(_, value)| value).collect()
}

/// The statement of a group of creates of one shape that give their keys. Its rows are of two kinds, put under one
/// another instead of joined (the server would join them row by row): each write with its key and whether it was free,
/// and each record inserted with its key and what it shows. [`met_many`] ties them by the key as the server prints it.
pub fn many(table: &Table, shown: &[&Column], group: &[Create<'_>]) -> Result<Statement> {
    let first = group.first().ok_or_else(|| Error::new(Code::Internal, "a group of no writes"))?;
    let columns = given(table, first.image)?;
    let key = table.key_columns()?;
    let place_of = |wanted: &Column| columns.iter().position(|column| column.sql == wanted.sql).unwrap_or_default();
    let names: Vec<&str> = columns.iter().map(|column| column.sql.as_str()).collect();
    let casts: Vec<String> = columns.iter().enumerate().map(|(place, column)| column.given(&format!("f.c{place}"))).collect();
    let taken = taken(table, &columns, first, |place| format!("x.c{place}"))?.unwrap_or_else(|| "false".to_owned());
    let order: Vec<String> = key.iter().map(|column| column.given(&format!("f.c{}", place_of(column)))).collect();
    let asked_keys: String =
        key.iter().map(|column| format!(", {}", column.printed_as_stored(&format!("x.c{}", place_of(column))))).collect();
    let made_keys: String =
        key.iter().enumerate().map(|(place, column)| format!("{} AS k{place}, ", column.printed("t"))).collect();
    let printed: Vec<String> =
        shown.iter().enumerate().map(|(place, column)| format!("{} AS p{place}", column.printed("t"))).collect();
    let results: String = (0..key.len()).map(|place| format!(", d.k{place}")).collect();
    let results: String = (0..shown.len()).fold(results, |results, place| results + &format!(", d.p{place}"));
    let sql = format!(
        "WITH x AS MATERIALIZED (SELECT * FROM {}), free AS MATERIALIZED (SELECT x.* FROM x WHERE NOT ({taken})), \
         done AS (INSERT INTO {} AS t ({}) SELECT {} FROM free AS f ORDER BY {} ON CONFLICT DO NOTHING RETURNING {made_keys}{}) \
         SELECT x.n, x.n IN (SELECT f.n FROM free AS f){asked_keys}{} FROM x UNION ALL SELECT NULL, true{results} FROM done AS d",
        unnest(columns.len(), 1, "x"),
        table.name.sql(),
        names.join(", "),
        casts.join(", "),
        order.join(", "),
        printed.join(", "),
        ", NULL::text".repeat(shown.len())
    );
    let rows: Vec<Vec<&Value>> = group.iter().map(|create| values(create.image)).collect();
    let rows: Vec<&[&Value]> = rows.iter().map(Vec::as_slice).collect();
    Ok(Statement {
        sql,
        parameters: Parameters::Arrays(columns_of(&columns, &rows)?),
        places: group.iter().map(|create| create.place).collect(),
        kind: Kind::Create,
    })
}

/// What the creates of one statement met. Where the rows cannot be tied to their writes (a trigger changed a key, a
/// conflict with another unique column, a trigger that let a row vanish), they are to be asked one by one.
pub fn met_many(table: &Table, shown: &[&Column], places: &[usize], rows: &[Row]) -> Result<Vec<(usize, Met)>> {
    let key = table.schema.key.len();
    let key_of = |row: &Row| (0..key).map(|place| column(row, 2 + place)).collect::<Result<Vec<Option<String>>>>();
    let mut made = HashMap::new();
    let mut asked = Vec::with_capacity(places.len());
    for row in rows {
        let ordinal: Option<i64> = column(row, 0)?;
        match ordinal {
            Some(_) => asked.push(row),
            None => {
                made.insert(key_of(row)?, record(shown, row, 2 + key)?);
            }
        }
    }
    let mut all = Vec::with_capacity(asked.len());
    for row in asked {
        let free: bool = column(row, 1)?;
        let met = match (free, made.remove(&key_of(row)?)) {
            (_, Some(record)) => Met::Written(Some(record)),
            (true, None) => Met::Again,
            (false, None) => Met::Collision,
        };
        all.push((guarded::place(places, row)?, met));
    }
    if !made.is_empty() {
        all.iter_mut().for_each(|(_, met)| *met = Met::Again);
    }
    Ok(all)
}

/// The statement of one create by itself.
pub fn one(table: &Table, shown: &[&Column], create: &Create<'_>) -> Result<Statement> {
    let columns = given(table, create.image)?;
    let parameter = |place: usize| format!("${}::text", place + 1);
    let taken = taken(table, &columns, create, parameter)?.unwrap_or_else(|| "false".to_owned());
    let names: Vec<&str> = columns.iter().map(|column| column.sql.as_str()).collect();
    let casts: Vec<String> = columns.iter().enumerate().map(|(place, column)| column.given(&parameter(place))).collect();
    let rows = match columns.is_empty() {
        true => "DEFAULT VALUES".to_owned(),
        false => format!("({}) SELECT {} WHERE NOT ({taken})", names.join(", "), casts.join(", ")),
    };
    let printed: Vec<String> =
        shown.iter().enumerate().map(|(place, column)| format!("{} AS p{place}", column.printed("t"))).collect();
    let results: Vec<String> = (0..shown.len()).map(|place| format!("d.p{place}")).collect();
    let sql = format!(
        "WITH done AS (INSERT INTO {} AS t {rows} RETURNING true AS is, {}) \
         SELECT 1::int8, ({taken}), d.is IS NOT NULL, {} FROM (SELECT) AS one LEFT JOIN done AS d ON true",
        table.name.sql(),
        printed.join(", "),
        results.join(", ")
    );
    let mut texts = Vec::with_capacity(columns.len());
    for (column, (_, value)) in columns.iter().zip(create.image.iter()) {
        texts.push(types::encode(&column.field.ty, value)?);
    }
    Ok(Statement { sql, parameters: Parameters::Texts(texts), places: vec![create.place], kind: Kind::CreateOne })
}

/// What a single create met.
pub fn met_one(shown: &[&Column], row: &Row) -> Result<Met> {
    let (taken, done): (bool, bool) = (column(row, 1)?, column(row, 2)?);
    Ok(match (done, taken) {
        (true, _) => Met::Written(Some(record(shown, row, 3)?)),
        (false, true) => Met::Collision,
        (false, false) => Met::Suppressed,
    })
}
