//! The one type system that every connector agrees on: values, their canonical form and their equivalence.
//! A value is carried exactly or not at all (invariant 8): constructors check, nothing here rounds or coerces.
//! `==` is identity (the same representation, floats by bits); [`Value::equivalent`] is what the engine compares by.

mod canonical;
mod date;
mod decimal;
mod equivalence;
mod fit;
mod float;
mod interval;
mod json;
mod json_form;
mod number;
mod order;
mod scan;
#[cfg(test)]
pub(crate) mod tests;
mod text;
mod time;
mod timestamp;

pub use date::{Date, YEAR_MAX};
pub use decimal::Decimal;
pub use fit::{Extent, Fit, TimesOfDay, TypeFit, fit, fit_within, type_fit};
pub use float::Float;
pub use interval::Interval;
pub use json::Json;
pub use scan::Malformed;
pub use text::{from_hex, to_hex};
pub use time::{NANOS_PER_DAY, NANOS_PER_SECOND, Time};
pub use timestamp::{Timestamp, TimestampTz};

use serde::{Deserialize, Serialize};

/// One value of one field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// No value.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number above `i64::MAX`; smaller ones are `Int`.
    UInt(u64),
    /// A decimal number of any size.
    Decimal(Decimal),
    /// A binary floating-point number.
    Float(Float),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A day.
    Date(Date),
    /// A time of day, or MySQL's longer and negative times.
    Time(Time),
    /// A day and time without a zone.
    Timestamp(Timestamp),
    /// A point in time.
    TimestampTz(TimestampTz),
    /// Months, days and a time.
    Interval(Interval),
    /// A UUID.
    Uuid(uuid::Uuid),
    /// A JSON document.
    Json(Json),
    /// A list; a multi-dimensional one nests.
    Array(Vec<Value>),
    /// A label of an enumeration.
    Enum(String),
    /// The key of another record, in the text form of the system that holds it.
    Reference(String),
}

impl Value {
    /// Text.
    pub fn text(text: impl Into<String>) -> Value {
        Value::Text(text.into())
    }

    /// A whole number: [`Value::Int`] where it fits, [`Value::UInt`] above.
    pub fn unsigned(number: u64) -> Value {
        i64::try_from(number).map_or(Value::UInt(number), Value::Int)
    }

    /// A 64-bit float.
    pub fn float(float: f64) -> Value {
        Value::Float(Float::from_f64(float))
    }

    /// A decimal number from its digits.
    pub fn decimal(digits: &str) -> Result<Value, Malformed> {
        Decimal::parse(digits).map(Value::Decimal)
    }

    /// A JSON document from its text.
    pub fn json(text: &str) -> Result<Value, Malformed> {
        Json::parse(text).map(Value::Json)
    }

    /// Whether there is no value.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// About how many bytes of data it is, for counts and bounds.
    pub fn about_bytes(&self) -> u64 {
        let bytes = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        match self {
            Value::Null | Value::Bool(_) => 1,
            Value::Text(text) | Value::Enum(text) | Value::Reference(text) => bytes(text.len()),
            Value::Bytes(held) => bytes(held.len()),
            Value::Decimal(digits) => bytes(digits.as_str().len()),
            Value::Json(document) => bytes(document.as_str().len()),
            Value::Array(elements) => elements.iter().map(Value::about_bytes).fold(0, u64::saturating_add),
            _ => 8,
        }
    }

    /// What kind of value it is, in words for a message.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "true or false",
            Value::Int(_) | Value::UInt(_) => "a whole number",
            Value::Decimal(_) => "a decimal number",
            Value::Float(_) => "a floating-point number",
            Value::Text(_) => "text",
            Value::Bytes(_) => "bytes",
            Value::Date(_) => "a date",
            Value::Time(_) => "a time",
            Value::Timestamp(_) => "a timestamp",
            Value::TimestampTz(_) => "a point in time",
            Value::Interval(_) => "an interval",
            Value::Uuid(_) => "a UUID",
            Value::Json(_) => "JSON",
            Value::Array(_) => "a list",
            Value::Enum(_) => "a label",
            Value::Reference(_) => "a reference",
        }
    }

    /// The text of a text, an enumeration's label or a reference.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) | Value::Enum(text) | Value::Reference(text) => Some(text),
            _ => None,
        }
    }
}
