//! What a field holds: stored forms, and how they look in JSON and in CSV. Reading what a client sent is in
//! [`read`]; times are in [`time`]. A stored value is already trimmed, rounded and cut to seconds.

pub mod read;
pub mod time;

use super::ids::Id;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use std::cmp::Ordering;
use std::sync::Arc;

/// A stored value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Text(Arc<str>),
    Id(Id),
    Bool(bool),
    Int(i64),
    Double(f64),
    /// Days since 1970.
    Date(i32),
    /// Milliseconds since 1970, whole seconds.
    DateTime(i64),
    /// Milliseconds of the day.
    Time(i64),
}

impl Value {
    /// Text; empty text is null.
    pub fn text(text: &str) -> Self {
        if text.is_empty() { Self::Null } else { Self::Text(Arc::from(text)) }
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The characters of a text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_id(&self) -> Option<Id> {
        match self {
            Self::Id(id) => Some(*id),
            _ => None,
        }
    }

    pub fn as_number(&self) -> Option<f64> {
        match self {
            #[allow(clippy::cast_precision_loss, reason = "an int field has eight digits")]
            Self::Int(number) => Some(*number as f64),
            Self::Double(number) => Some(*number),
            _ => None,
        }
    }

    pub fn as_datetime(&self) -> Option<i64> {
        match self {
            Self::DateTime(ms) => Some(*ms),
            _ => None,
        }
    }

    /// As a cell of a Bulk API result: null is empty.
    pub fn csv(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Text(text) => text.to_string(),
            Self::Id(id) => id.to_string(),
            Self::Bool(flag) => flag.to_string(),
            Self::Int(number) => number.to_string(),
            Self::Double(number) => double(*number),
            Self::Date(days) => time::date(*days),
            Self::DateTime(ms) => time::datetime_z(*ms),
            Self::Time(ms) => time::time_of_day(*ms),
        }
    }

    /// As a key of an index of unique values: equal texts may differ in case unless the field says that case counts.
    pub fn index_key(&self, case_sensitive: bool) -> Option<String> {
        match self {
            Self::Null => None,
            Self::Text(text) if !case_sensitive => Some(text.to_lowercase()),
            other => Some(other.csv()),
        }
    }

    /// The order of ORDER BY and of conditions: nulls first, texts without regard to case.
    pub fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Null, Self::Null) => Ordering::Equal,
            (Self::Null, _) => Ordering::Less,
            (_, Self::Null) => Ordering::Greater,
            (Self::Text(a), Self::Text(b)) => {
                if a.is_ascii() && b.is_ascii() {
                    let lower = |text: &Arc<str>| text.to_ascii_lowercase();
                    lower(a).cmp(&lower(b))
                } else {
                    a.to_lowercase().cmp(&b.to_lowercase())
                }
            }
            (Self::Id(a), Self::Id(b)) => a.cmp(b),
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Date(a), Self::Date(b)) => a.cmp(b),
            (Self::DateTime(a) | Self::Time(a), Self::DateTime(b) | Self::Time(b)) => a.cmp(b),
            (a, b) => match (a.as_number(), b.as_number()) {
                (Some(a), Some(b)) => a.total_cmp(&b),
                _ => a.csv().cmp(&b.csv()),
            },
        }
    }
}

/// A number with a fraction as the vendor writes it: at least one digit behind the point, and an exponent from ten
/// million upwards and below a thousandth.
pub fn double(number: f64) -> String {
    let size = number.abs();
    if size == 0.0 || (1e-3..1e7).contains(&size) {
        return if number.fract() == 0.0 { format!("{number:.1}") } else { format!("{number}") };
    }
    let scientific = format!("{number:E}");
    match scientific.split_once('E') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0E{exponent}"),
        _ => scientific,
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => to.serialize_unit(),
            Self::Text(text) => to.serialize_str(text),
            Self::Id(id) => to.collect_str(id),
            Self::Bool(flag) => to.serialize_bool(*flag),
            Self::Int(number) => to.serialize_i64(*number),
            Self::Double(number) => RawValue::from_string(double(*number)).map_err(serde::ser::Error::custom)?.serialize(to),
            Self::Date(days) => to.serialize_str(&time::date(*days)),
            Self::DateTime(ms) => to.serialize_str(&time::datetime(*ms)),
            Self::Time(ms) => to.serialize_str(&time::time_of_day(*ms)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_vendor_writes_them() {
        let cases = [
            (350_000_000.0, "3.5E8"),
            (10_000_000.0, "1.0E7"),
            (9_999_999.0, "9999999.0"),
            (1.5, "1.5"),
            (0.0, "0.0"),
            (-123_456_789.25, "-1.2345678925E8"),
            (0.0001, "1.0E-4"),
        ];
        for (number, text) in cases {
            assert_eq!(double(number), text);
            assert_eq!(serde_json::to_string(&Value::Double(number)).expect("JSON"), text);
        }
    }

    #[test]
    fn texts_are_ordered_without_regard_to_case_and_nulls_come_first() {
        assert_eq!(Value::text("acme").order(&Value::text("ACME")), Ordering::Equal);
        assert_eq!(Value::Null.order(&Value::text("a")), Ordering::Less);
        assert_eq!(Value::Int(3).order(&Value::Double(2.5)), Ordering::Greater);
    }
}
