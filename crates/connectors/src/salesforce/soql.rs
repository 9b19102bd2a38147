//! Queries as text: names that the describe gave, values as literals. Knows no answer.

use concord_engine::error::{Code, Error, Result};
use concord_engine::value::Value;

/// A text literal.
pub(super) fn quoted(text: &str) -> String {
    let mut literal = String::with_capacity(text.len().saturating_add(2));
    literal.push('\'');
    for letter in text.chars() {
        match letter {
            '\\' => literal.push_str("\\\\"),
            '\'' => literal.push_str("\\'"),
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            '\t' => literal.push_str("\\t"),
            other => literal.push(other),
        }
    }
    literal.push('\'');
    literal
}

/// A point in time, given in seconds since 1970.
pub(super) fn moment(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| "1970-01-01T00:00:00Z".to_owned(), |moment| moment.to_string())
}

/// A value as a condition compares it.
pub(super) fn literal(value: &Value) -> Result<String> {
    match value {
        Value::Null => Ok("null".to_owned()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Int(number) => Ok(number.to_string()),
        Value::UInt(number) => Ok(number.to_string()),
        Value::Decimal(number) if number.is_finite() => Ok(number.to_plain()),
        Value::Float(number) if number.to_f64().is_finite() => Ok(number.to_f64().to_string()),
        Value::Text(text) | Value::Enum(text) | Value::Reference(text) => Ok(quoted(text)),
        Value::Date(date) => Ok(date.to_string()),
        Value::TimestampTz(stamp) => Ok(stamp.to_string()),
        Value::Time(time) => Ok(format!("{time}Z")),
        Value::Uuid(uuid) => Ok(quoted(&uuid.to_string())),
        other => Err(Error::new(Code::Unsupported, format!("a record cannot be looked for by {}", other.kind()))),
    }
}

/// `SELECT fields FROM object`, with a condition where there is one.
pub(super) fn select(fields: &[&str], object: &str, rest: &str) -> String {
    let gap = if rest.is_empty() { "" } else { " " };
    format!("SELECT {} FROM {object}{gap}{rest}", fields.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_cannot_end_before_its_end() {
        assert_eq!(quoted(r"O'Neil \ Co"), r"'O\'Neil \\ Co'");
        assert_eq!(literal(&Value::Null).unwrap(), "null");
        assert_eq!(literal(&Value::decimal("3.5E8").unwrap()).unwrap(), "350000000");
        assert_eq!(moment(0), "1970-01-01T00:00:00Z");
    }
}
