//! A filter's condition as the server asks it itself, where it finds it true of exactly those rows of which the engine does: for
//! types whose order is the engine's, and texts compared by their bytes, whatever their collation. Everything else is asked by the engine.

use super::schema::{Column, Table};
use super::types;
use concord_engine::filter::{Operator, Term, Test};
use concord_engine::schema::Type;
use concord_engine::value::{Timestamp, TimestampTz, Value};

/// The condition over the rows of `t`; `None`: it cannot be told from here that both would answer alike.
pub fn sql(table: &Table, test: &Test) -> Option<String> {
    let joined = |all: &[Test], word: &str| {
        let all = all.iter().map(|one| sql(table, one)).collect::<Option<Vec<_>>>()?;
        Some(format!("({})", all.join(word)))
    };
    match test {
        Test::And(all) => joined(all, " AND "),
        Test::Or(all) => joined(all, " OR "),
        Test::Not(inner) => Some(format!("(NOT {})", sql(table, inner)?)),
        Test::IsNull(Term::Field { name, .. }) => {
            Some(format!("(NOT t.{} IS DISTINCT FROM NULL)", table.require(name).ok()?.sql))
        }
        Test::Holds(Term::Field { name, .. }) => {
            let column = table.require(name).ok().filter(|column| column.field.ty == Type::Bool && is_plain(column))?;
            Some(format!("t.{}", column.sql))
        }
        Test::Like { term: Term::Field { name, .. }, pattern } => {
            let column = table.require(name).ok().filter(|column| is_text(column))?;
            Some(format!("(t.{} COLLATE \"C\" LIKE {} ESCAPE {})", column.sql, literal(pattern.as_str())?, literal("\\")?))
        }
        Test::Compare { left, operator, right } => compared(table, left, *operator, right),
        Test::IsNull(Term::Constant(_)) | Test::Holds(Term::Constant(_)) | Test::Like { term: Term::Constant(_), .. } => None,
    }
}

fn compared(table: &Table, left: &Term, operator: Operator, right: &Term) -> Option<String> {
    let column = |term: &Term| match term {
        Term::Field { name, .. } => table.require(name).ok(),
        Term::Constant(_) => None,
    };
    let one = column(left).or_else(|| column(right))?;
    let side = |term: &Term| match term {
        Term::Field { .. } => value_of(column(term)?),
        Term::Constant(value) => constant(one, value),
    };
    let (left, right) = (side(left)?, side(right)?);
    let is_ordered = !matches!(operator, Operator::Equal | Operator::Unequal);
    Some(match is_ordered && is_text(one) {
        // The engine orders texts as UTF-8 does, whatever the database's own encoding.
        true => format!("({} {} {})", utf8(&left), operator.sign(), utf8(&right)),
        false => format!("({left} {} {right})", operator.sign()),
    })
}

/// The bytes of a text.
fn utf8(text: &str) -> String {
    format!("pg_catalog.convert_to({text}, 'UTF8')")
}

/// A column's value as it is compared.
fn value_of(column: &Column) -> Option<String> {
    match &column.field.ty {
        _ if !is_plain(column) => None,
        Type::Text { .. } => is_text(column).then(|| format!("t.{} COLLATE \"C\"", column.sql)),
        Type::Int { .. }
        | Type::Decimal { .. }
        | Type::Bool
        | Type::Date
        | Type::Timestamp { .. }
        | Type::TimestampTz { .. }
        | Type::Uuid => Some(format!("t.{}", column.sql)),
        // Floats are compared with what their width can hold of a constant, labels by their order, the rest not at all.
        _ => None,
    }
}

/// A constant that a column's value is compared with.
fn constant(column: &Column, value: &Value) -> Option<String> {
    if value.is_null() {
        return Some(format!("NULL::{}", column.cast));
    }
    // The server would round it to what it keeps.
    let is_finer = match value {
        Value::Timestamp(Timestamp::At { nanos, .. }) => nanos % 1_000 != 0,
        Value::TimestampTz(TimestampTz::At { nanos, .. }) => nanos % 1_000 != 0,
        _ => false,
    };
    if is_finer {
        return None;
    }
    let text = literal(&types::encode(&column.field.ty, value).ok()??)?;
    let cast = match &column.field.ty {
        // One with a fraction or more digits than the column has is compared, not cast.
        Type::Int { .. } | Type::Decimal { .. } => "numeric",
        Type::Text { .. } => "text",
        Type::Bool => "bool",
        Type::Date => "date",
        Type::Timestamp { .. } => "timestamp",
        Type::TimestampTz { .. } => "timestamptz",
        Type::Uuid => "uuid",
        _ => return None,
    };
    Some(format!("{text}::pg_catalog.{cast}"))
}

/// Whether a column is of a type of the server's own, with the server's own operators: neither a domain nor an extension's.
fn is_plain(column: &Column) -> bool {
    const NAMES: &[&str] = &[
        "bigint",
        "boolean",
        "character varying",
        "date",
        "integer",
        "numeric",
        "smallint",
        "text",
        "timestamp",
        "timestamp with time zone",
        "timestamp without time zone",
        "uuid",
    ];
    let name = column.field.native_type.as_str();
    // Without the length or the precision, which stands in the middle of some names.
    let bare = match (name.find('('), name.find(')')) {
        (Some(open), Some(close)) => {
            format!("{}{}", name.get(..open).unwrap_or_default(), name.get(close + 1..).unwrap_or_default())
        }
        _ => name.to_owned(),
    };
    NAMES.contains(&bare.trim())
}

fn is_text(column: &Column) -> bool {
    is_plain(column) && matches!(column.field.ty, Type::Text { padded: false, .. })
}

/// A text within a statement, whatever the server's settings; `None`: it cannot hold it.
fn literal(text: &str) -> Option<String> {
    (!text.contains('\0')).then(|| format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")))
}
