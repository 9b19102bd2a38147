//! The plain text of a value: what people read, and what a text field holds when another type is carried into one.
//! It reads back to the same value where the type is known; see [`Value::parse_as`].

use super::{Date, Decimal, Float, Interval, Json, Time, Timestamp, TimestampTz, Value};
use crate::schema::Type;
use std::fmt;

impl Value {
    /// The plain text of a scalar: numbers without an exponent where they were written without, ISO 8601 for times,
    /// JSON as it came. `None` for null, bytes and lists, which no text stands for without a convention.
    pub fn to_plain_text(&self) -> Option<String> {
        match self {
            Value::Null | Value::Bytes(_) | Value::Array(_) => None,
            Value::Bool(truth) => Some(truth.to_string()),
            Value::Int(number) => Some(number.to_string()),
            Value::UInt(number) => Some(number.to_string()),
            Value::Decimal(decimal) => Some(decimal.to_string()),
            Value::Float(float) => Some(float.to_string()),
            Value::Text(text) | Value::Enum(text) | Value::Reference(text) => Some(text.clone()),
            Value::Date(date) => Some(date.to_string()),
            Value::Time(time) => Some(time.to_string()),
            Value::Timestamp(timestamp) => Some(timestamp.to_string()),
            Value::TimestampTz(timestamp) => Some(timestamp.to_string()),
            Value::Interval(interval) => Some(interval.to_string()),
            Value::Uuid(uuid) => Some(uuid.to_string()),
            Value::Json(json) => Some(json.to_string()),
        }
    }

    /// Reads a text as a value of the type, in any form that the type's parser knows. `None` where it is none, and
    /// for bytes and lists. Limits of the type (length, precision) are not checked: that is what `fit` is for.
    pub fn parse_as(text: &str, ty: &Type) -> Option<Value> {
        match ty {
            Type::Bool => match text {
                "true" => Some(Value::Bool(true)),
                "false" => Some(Value::Bool(false)),
                _ => None,
            },
            Type::Int { .. } => Decimal::parse(text).ok().and_then(|decimal| Value::whole(&decimal)),
            Type::Decimal { .. } => Decimal::parse(text).ok().map(Value::Decimal),
            Type::Float { .. } => Float::parse(text).ok().map(Value::Float),
            Type::Text { .. } | Type::Opaque { .. } => Some(Value::Text(text.to_owned())),
            Type::Date => Date::parse(text).ok().map(Value::Date),
            Type::Time { .. } => Time::parse(text).ok().map(Value::Time),
            Type::Timestamp { .. } => Timestamp::parse(text).ok().map(Value::Timestamp),
            Type::TimestampTz { .. } => TimestampTz::parse(text).ok().map(Value::TimestampTz),
            Type::Interval { .. } => Interval::parse(text).ok().map(Value::Interval),
            Type::Uuid => uuid::Uuid::try_parse(text).ok().map(Value::Uuid),
            Type::Json => Json::parse(text).ok().map(Value::Json),
            Type::Enum { .. } => Some(Value::Enum(text.to_owned())),
            Type::Reference { .. } => Some(Value::Reference(text.to_owned())),
            Type::Bytes { .. } | Type::Array(_) => None,
        }
    }

    /// The whole number that a decimal is, if it is one of 64 bits.
    pub(crate) fn whole(decimal: &Decimal) -> Option<Value> {
        decimal.to_i64().map(Value::Int).or_else(|| decimal.to_u64().map(Value::UInt))
    }
}

impl fmt::Display for Value {
    /// For people: the plain text; `null`; bytes in hexadecimal behind `\x`; lists in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("null"),
            Value::Bytes(bytes) => write!(f, "\\x{}", to_hex(bytes)),
            Value::Array(elements) => {
                f.write_str("[")?;
                for (place, element) in elements.iter().enumerate() {
                    let comma = if place > 0 { ", " } else { "" };
                    write!(f, "{comma}{element}")?;
                }
                f.write_str("]")
            }
            scalar => f.write_str(&scalar.to_plain_text().unwrap_or_default()),
        }
    }
}

/// Bytes as lower-case hexadecimal digits.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes of hexadecimal digits of any case; `None` for an odd count or another character.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}
