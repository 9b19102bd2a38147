//! A value as JSON for the command line and for what people edit: untagged where JSON has the type itself, else an
//! object of one entry whose name is the type: `{"decimal": "1.50"}`. Never a JSON number with a point: its digits
//! would be at the mercy of every reader.

use super::scan::Malformed;
use super::{Date, Decimal, Float, Interval, Json, Time, Timestamp, TimestampTz, Value, from_hex, to_hex};

const EXPECTED: Malformed =
    Malformed { expected: "null, true, false, a whole number, text, a list, or an object such as {\"decimal\": \"1.50\"}" };

impl Value {
    /// The value as JSON; [`Value::from_json`] reads it back.
    pub fn to_json(&self) -> serde_json::Value {
        let (tag, text) = match self {
            Value::Null => return serde_json::Value::Null,
            Value::Bool(truth) => return (*truth).into(),
            Value::Int(number) => return (*number).into(),
            Value::UInt(number) => return (*number).into(),
            Value::Text(text) => return text.as_str().into(),
            Value::Array(elements) => return elements.iter().map(Value::to_json).collect(),
            Value::Decimal(decimal) => ("decimal", decimal.to_string()),
            Value::Float(float) => ("float", float.to_string()),
            Value::Bytes(bytes) => ("bytes", to_hex(bytes)),
            Value::Date(date) => ("date", date.to_string()),
            Value::Time(time) => ("time", time.to_string()),
            Value::Timestamp(timestamp) => ("timestamp", timestamp.to_string()),
            Value::TimestampTz(timestamp) => ("timestamptz", timestamp.to_string()),
            Value::Interval(interval) => ("interval", interval.to_string()),
            Value::Uuid(uuid) => ("uuid", uuid.to_string()),
            Value::Json(json) => ("json", json.to_string()),
            Value::Enum(label) => ("enum", label.clone()),
            Value::Reference(key) => ("reference", key.clone()),
        };
        serde_json::Value::Object([(tag.to_owned(), text.into())].into_iter().collect())
    }

    /// Reads what [`Value::to_json`] writes.
    pub fn from_json(json: &serde_json::Value) -> Result<Value, Malformed> {
        match json {
            serde_json::Value::Null => Ok(Value::Null),
            serde_json::Value::Bool(truth) => Ok(Value::Bool(*truth)),
            serde_json::Value::Number(number) => {
                let signed = number.as_i64().map(Value::Int);
                signed.or_else(|| number.as_u64().map(Value::unsigned)).ok_or(EXPECTED)
            }
            serde_json::Value::String(text) => Ok(Value::text(text.as_str())),
            serde_json::Value::Array(elements) => {
                elements.iter().map(Value::from_json).collect::<Result<_, _>>().map(Value::Array)
            }
            serde_json::Value::Object(entries) => {
                let mut entries = entries.iter();
                match (entries.next(), entries.next()) {
                    (Some((tag, serde_json::Value::String(text))), None) => from_tagged(tag, text),
                    _ => Err(EXPECTED),
                }
            }
        }
    }
}

fn from_tagged(tag: &str, text: &str) -> Result<Value, Malformed> {
    match tag {
        "decimal" => Decimal::parse(text).map(Value::Decimal),
        "float" => Float::parse(text).map(Value::Float),
        "bytes" => from_hex(text).map(Value::Bytes).ok_or(Malformed { expected: "bytes as hexadecimal digits" }),
        "date" => Date::parse(text).map(Value::Date),
        "time" => Time::parse(text).map(Value::Time),
        "timestamp" => Timestamp::parse(text).map(Value::Timestamp),
        "timestamptz" => TimestampTz::parse(text).map(Value::TimestampTz),
        "interval" => Interval::parse(text).map(Value::Interval),
        "uuid" => uuid::Uuid::try_parse(text).map(Value::Uuid).map_err(|_| Malformed { expected: "a UUID" }),
        "json" => Json::parse(text).map(Value::Json),
        "enum" => Ok(Value::Enum(text.to_owned())),
        "reference" => Ok(Value::Reference(text.to_owned())),
        _ => Err(EXPECTED),
    }
}
