//! The canonical bytes of a value: equal exactly for equivalent values, whatever their type.
//! One tag per class of values and a length before everything of variable length inside of a list, so that no two
//! values that differ in meaning share bytes. The store's indexes are made of these bytes: the format never changes.

use super::number::Number;
use super::{Date, Timestamp, TimestampTz, Value};

impl Value {
    /// Bytes that are equal exactly for equivalent values: what the store's indexes are made of.
    pub fn canonical_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16);
        self.write_canonical(&mut bytes);
        bytes
    }

    /// Appends what [`Value::canonical_bytes`] gives.
    pub(crate) fn write_canonical(&self, bytes: &mut Vec<u8>) {
        match self {
            Value::Null => bytes.push(0),
            Value::Bool(truth) => bytes.extend_from_slice(&[1, u8::from(*truth)]),
            Value::Int(number) => {
                bytes.push(2);
                Number::write_integer(*number < 0, number.unsigned_abs(), bytes);
            }
            Value::UInt(number) => {
                bytes.push(2);
                Number::write_integer(false, *number, bytes);
            }
            Value::Decimal(_) | Value::Float(_) => {
                bytes.push(2);
                if let Some(number) = self.number() {
                    number.write_canonical(bytes);
                }
            }
            Value::Text(text) => tagged(bytes, 3, text.as_bytes()),
            Value::Bytes(content) => tagged(bytes, 4, content),
            Value::Date(date) => {
                bytes.push(5);
                write_date(bytes, *date);
            }
            Value::Time(time) => {
                bytes.push(6);
                bytes.extend_from_slice(&time.nanos.to_be_bytes());
                if let Some(offset) = time.offset_seconds {
                    bytes.extend_from_slice(&offset.to_be_bytes());
                }
            }
            Value::Timestamp(timestamp) => write_timestamp(bytes, *timestamp),
            Value::TimestampTz(timestamp) => write_timestamp_tz(bytes, *timestamp),
            Value::Interval(interval) => {
                bytes.push(9);
                bytes.extend_from_slice(&interval.months.to_be_bytes());
                bytes.extend_from_slice(&interval.days.to_be_bytes());
                bytes.extend_from_slice(&interval.nanos.to_be_bytes());
            }
            Value::Uuid(uuid) => tagged(bytes, 10, uuid.as_bytes()),
            Value::Json(json) => tagged(bytes, 11, &json.meaning()),
            Value::Array(elements) => {
                bytes.push(12);
                for element in elements {
                    let content = element.canonical_bytes();
                    bytes.extend_from_slice(&u64::try_from(content.len()).unwrap_or(u64::MAX).to_be_bytes());
                    bytes.extend_from_slice(&content);
                }
            }
            Value::Enum(label) => tagged(bytes, 13, label.as_bytes()),
            Value::Reference(key) => tagged(bytes, 14, key.as_bytes()),
        }
    }

    /// The exact number that the value is, if it is one.
    pub(crate) fn number(&self) -> Option<Number> {
        match self {
            Value::Int(number) => Some(Number::of_integer(*number < 0, number.unsigned_abs())),
            Value::UInt(number) => Some(Number::of_integer(false, *number)),
            Value::Decimal(decimal) => Some(decimal.number()),
            Value::Float(float) => Some(float.number()),
            _ => None,
        }
    }
}

fn tagged(bytes: &mut Vec<u8>, tag: u8, content: &[u8]) {
    bytes.push(tag);
    bytes.extend_from_slice(content);
}

fn write_date(bytes: &mut Vec<u8>, date: Date) {
    match date {
        Date::NegativeInfinity => bytes.push(0),
        Date::Day { year, month, day } => {
            bytes.push(1);
            bytes.extend_from_slice(&year.to_be_bytes());
            bytes.extend_from_slice(&[month, day]);
        }
        Date::PositiveInfinity => bytes.push(2),
    }
}

fn write_timestamp(bytes: &mut Vec<u8>, timestamp: Timestamp) {
    bytes.push(7);
    match timestamp {
        Timestamp::NegativeInfinity => write_date(bytes, Date::NegativeInfinity),
        Timestamp::At { date, nanos } => {
            write_date(bytes, date);
            bytes.extend_from_slice(&nanos.to_be_bytes());
        }
        Timestamp::PositiveInfinity => write_date(bytes, Date::PositiveInfinity),
    }
}

fn write_timestamp_tz(bytes: &mut Vec<u8>, timestamp: TimestampTz) {
    bytes.push(8);
    match timestamp {
        TimestampTz::NegativeInfinity => bytes.push(0),
        TimestampTz::At { seconds, nanos } => {
            bytes.push(1);
            bytes.extend_from_slice(&seconds.to_be_bytes());
            bytes.extend_from_slice(&nanos.to_be_bytes());
        }
        TimestampTz::PositiveInfinity => bytes.push(2),
    }
}
