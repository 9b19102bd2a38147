//! Brings a value into the representation of a type, and says what that costs. Limits of the type are not its concern.

use super::Fit;
use crate::schema::Type;
use crate::value::equivalence::read_back;
use crate::value::number::Number;
use crate::value::{Date, Decimal, Float, Json, Time, Timestamp, Value, to_hex};

/// The value in the representation of the type.
pub(super) fn convert(value: &Value, ty: &Type) -> Fit {
    match ty {
        Type::Bool => to_bool(value),
        Type::Int { .. } => to_int(value),
        Type::Decimal { .. } => to_decimal(value),
        Type::Float { .. } => to_float(value),
        Type::Text { .. } => to_text(value),
        Type::Bytes { .. } => to_bytes(value),
        Type::Date => to_date(value),
        Type::Time { zone, .. } => to_time(value, *zone, ty),
        Type::Timestamp { .. } => to_timestamp(value, ty),
        Type::TimestampTz { .. } => to_timestamp_tz(value, ty),
        Type::Interval { .. } => match value {
            Value::Interval(_) => Fit::Exact,
            other => from_text(other, ty, "an interval"),
        },
        Type::Uuid => to_uuid(value),
        Type::Json => to_json(value),
        Type::Enum { .. } => to_enum(value),
        Type::Reference { .. } => to_reference(value),
        Type::Opaque { .. } => to_opaque(value),
        Type::Array(_) => impossible(value, "a list"),
    }
}

fn lossy(value: Value, how: &str) -> Fit {
    Fit::Lossy { value, how: how.to_owned() }
}

fn impossible(value: &Value, wanted: &str) -> Fit {
    Fit::Impossible(format!("{} is not {wanted}", value.kind()))
}

/// Text read as another type: lossless where the text is the value's own spelling, lossy where it can be read at all.
fn from_text(value: &Value, ty: &Type, wanted: &str) -> Fit {
    let Some(text) = value.as_text() else { return impossible(value, wanted) };
    if let (Value::Text(_), Some(read)) = (value, read_back(text, ty)) {
        return Fit::Lossless(read);
    }
    match Value::parse_as(text.trim(), ty) {
        Some(read) => Fit::Lossy { value: read, how: format!("text is read as {wanted}, its spelling is lost") },
        None => Fit::Impossible(format!("the text is not {wanted}")),
    }
}

fn to_bool(value: &Value) -> Fit {
    match value {
        Value::Bool(_) => Fit::Exact,
        Value::Int(number @ 0..=1) => Fit::Lossless(Value::Bool(*number == 1)),
        Value::Int(_) | Value::UInt(_) => Fit::Impossible("only 0 and 1 stand for false and true".to_owned()),
        other => from_text(other, &Type::Bool, "true or false"),
    }
}

fn to_int(value: &Value) -> Fit {
    match value {
        Value::Int(_) | Value::UInt(_) => Fit::Exact,
        Value::Bool(truth) => Fit::Lossless(Value::Int(i64::from(*truth))),
        Value::Decimal(_) | Value::Float(_) => value.number().map_or_else(|| impossible(value, "a number"), |n| whole(&n)),
        // Text such as `12.0` is a decimal first; only then it is asked whether it is whole.
        text => match from_text(text, &Type::Int { bits: 64, unsigned: false }, "a whole number") {
            Fit::Impossible(_) => {
                from_text(text, &UNLIMITED, "a number").then(to_int, text).made_lossy("text is read as a number")
            }
            other => other,
        },
    }
}

const UNLIMITED: Type = Type::Decimal { precision: None, scale: None, special: true };

fn whole(number: &Number) -> Fit {
    if !matches!(number, Number::Finite { .. }) {
        return Fit::Impossible("NaN and the infinities are no whole numbers".to_owned());
    }
    let rounded = number.rounded(0);
    match Value::whole(&Decimal::of_number(&rounded)) {
        None => Fit::Impossible("the number is beyond 64 bits".to_owned()),
        Some(integer) if rounded == *number => Fit::Lossless(integer),
        Some(integer) => lossy(integer, "rounded to a whole number"),
    }
}

impl Fit {
    /// The same fit where the way to it was already a change of spelling that the type does not excuse.
    fn made_lossy(self, how: &str) -> Fit {
        match self {
            Fit::Lossless(value) => lossy(value, how),
            other => other,
        }
    }
}

fn to_decimal(value: &Value) -> Fit {
    match value {
        Value::Decimal(_) => Fit::Exact,
        Value::Int(number) => Fit::Lossless(Value::Decimal(Decimal::from(*number))),
        Value::UInt(number) => Fit::Lossless(Value::Decimal(Decimal::from(*number))),
        Value::Bool(truth) => Fit::Lossless(Value::Decimal(Decimal::from(i64::from(*truth)))),
        Value::Float(float) => decimal_of_float(*float),
        text => from_text(text, &UNLIMITED, "a number"),
    }
}

/// A binary number whose exact value has more digits than its shortest text (0.1) is carried by that text, and that
/// is a loss; 0.5 is the same number in both.
fn decimal_of_float(float: Float) -> Fit {
    let exact = float.number();
    match Decimal::parse(&float.to_string()) {
        Ok(shortest) if shortest.number() == exact => Fit::Lossless(Value::Decimal(shortest)),
        Ok(shortest) => lossy(Value::Decimal(shortest), "a binary number is written as its shortest decimal form"),
        Err(_) => Fit::Impossible("the number has no decimal form".to_owned()),
    }
}

fn to_float(value: &Value) -> Fit {
    let decimal = match value {
        Value::Float(_) => return Fit::Exact,
        Value::Bool(truth) => return Fit::Lossless(Value::float(f64::from(u8::from(*truth)))),
        Value::Int(number) => Decimal::from(*number),
        Value::UInt(number) => Decimal::from(*number),
        Value::Decimal(decimal) => decimal.clone(),
        text => return from_text(text, &Type::Float { bits: 64 }, "a number"),
    };
    match Float::parse(decimal.as_str()) {
        Ok(float) if float.number() == decimal.number() => Fit::Lossless(Value::Float(float)),
        Ok(float) if float.to_f64().is_finite() => lossy(Value::Float(float), "rounded to the nearest binary number"),
        _ => Fit::Impossible("the number is beyond what a float can hold".to_owned()),
    }
}

fn to_text(value: &Value) -> Fit {
    match value {
        Value::Text(_) => Fit::Exact,
        Value::Bytes(bytes) => lossy(Value::text(to_hex(bytes)), "bytes are written as hexadecimal digits"),
        Value::Array(_) => match json_document(value) {
            Some(text) => lossy(Value::Text(text), "a list is written as JSON"),
            None => Fit::Impossible("the list holds what JSON cannot".to_owned()),
        },
        scalar => scalar.to_plain_text().map_or_else(|| impossible(scalar, "text"), |text| Fit::Lossless(Value::Text(text))),
    }
}

fn to_bytes(value: &Value) -> Fit {
    match (value, value.as_text()) {
        (Value::Bytes(_), _) => Fit::Exact,
        (_, Some(text)) => lossy(Value::Bytes(text.as_bytes().to_vec()), "text becomes its UTF-8 bytes"),
        _ => impossible(value, "bytes"),
    }
}

fn to_date(value: &Value) -> Fit {
    const HOW: &str = "the time of day is dropped";
    match value {
        Value::Date(_) => Fit::Exact,
        Value::Timestamp(timestamp) => lossy(Value::Date(day_of(*timestamp)), HOW),
        Value::TimestampTz(timestamp) => match timestamp.local(0) {
            Some(local) => lossy(Value::Date(day_of(local)), "the time of day is dropped; the day is the one of UTC"),
            None => Fit::Impossible("beyond the calendar".to_owned()),
        },
        text => from_text(text, &Type::Date, "a date"),
    }
}

fn day_of(timestamp: Timestamp) -> Date {
    match timestamp {
        Timestamp::NegativeInfinity => Date::NegativeInfinity,
        Timestamp::At { date, .. } => date,
        Timestamp::PositiveInfinity => Date::PositiveInfinity,
    }
}

fn to_time(value: &Value, zone: bool, ty: &Type) -> Fit {
    let with_zone = |nanos, offset| Value::Time(Time { nanos, offset_seconds: offset });
    match value {
        Value::Time(time) if time.offset_seconds.is_some() == zone => Fit::Exact,
        Value::Time(time) if zone => lossy(with_zone(time.nanos, Some(0)), "a time without an offset is taken for UTC"),
        Value::Time(time) => lossy(with_zone(time.nanos, None), "the offset is dropped"),
        Value::Timestamp(Timestamp::At { nanos, .. }) => lossy(with_zone(*nanos, zone.then_some(0)), "the day is dropped"),
        Value::TimestampTz(timestamp) => match timestamp.local(0) {
            Some(Timestamp::At { nanos, .. }) => {
                lossy(with_zone(nanos, zone.then_some(0)), "the day is dropped; the time is the one of UTC")
            }
            _ => Fit::Impossible("an infinity has no time of day".to_owned()),
        },
        Value::Timestamp(_) => Fit::Impossible("an infinity has no time of day".to_owned()),
        text => match from_text(text, ty, "a time") {
            Fit::Lossless(read) => match to_time(&read, zone, ty) {
                Fit::Exact => Fit::Lossless(read),
                other => other,
            },
            other => other.then(|read| to_time(read, zone, ty), text),
        },
    }
}

fn to_timestamp(value: &Value, ty: &Type) -> Fit {
    match value {
        Value::Timestamp(_) => Fit::Exact,
        Value::Date(date) => match Timestamp::new(*date, 0) {
            Some(midnight) => lossy(Value::Timestamp(midnight), "a day becomes its midnight"),
            None => Fit::Impossible("beyond the calendar".to_owned()),
        },
        Value::TimestampTz(point) => match point.local(0) {
            Some(local) => lossy(Value::Timestamp(local), "a point in time becomes what clocks show in UTC"),
            None => Fit::Impossible("beyond the calendar".to_owned()),
        },
        text => from_text(text, ty, "a timestamp"),
    }
}

fn to_timestamp_tz(value: &Value, ty: &Type) -> Fit {
    let local = match value {
        Value::TimestampTz(_) => return Fit::Exact,
        Value::Timestamp(local) => Some(*local),
        Value::Date(date) => Timestamp::new(*date, 0),
        text => return from_text(text, ty, "a timestamp with an offset"),
    };
    match local.and_then(|local| local.at_offset(0)) {
        Some(point) => lossy(Value::TimestampTz(point), "a time without a zone is taken for UTC"),
        None => Fit::Impossible("a zero date is no point in time".to_owned()),
    }
}

fn to_uuid(value: &Value) -> Fit {
    match value {
        Value::Uuid(_) => Fit::Exact,
        Value::Bytes(bytes) => match uuid::Uuid::from_slice(bytes) {
            Ok(uuid) => lossy(Value::Uuid(uuid), "sixteen bytes are read as a UUID"),
            Err(_) => Fit::Impossible("a UUID has sixteen bytes".to_owned()),
        },
        text => from_text(text, &Type::Uuid, "a UUID"),
    }
}

fn to_json(value: &Value) -> Fit {
    match value {
        Value::Json(_) => return Fit::Exact,
        Value::Text(text) => {
            if let Ok(json) = Json::parse(text) {
                return Fit::Lossless(Value::Json(json));
            }
        }
        _ => {}
    }
    match json_document(value).map(|text| Json::parse(&text)) {
        Some(Ok(json)) => lossy(Value::Json(json), "the value becomes a JSON document"),
        _ => Fit::Impossible("JSON cannot hold it".to_owned()),
    }
}

/// The value as the text of a JSON document; `None` for NaN and the infinities.
fn json_document(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some("null".to_owned()),
        Value::Decimal(decimal) => decimal.is_finite().then(|| decimal.to_shortest()),
        Value::Float(float) => float.to_f64().is_finite().then(|| float.to_string()),
        Value::Bool(_) | Value::Int(_) | Value::UInt(_) | Value::Json(_) => value.to_plain_text(),
        Value::Array(elements) => {
            let elements: Option<Vec<String>> = elements.iter().map(json_document).collect();
            Some(format!("[{}]", elements?.join(",")))
        }
        Value::Bytes(bytes) => serde_json::to_string(&to_hex(bytes)).ok(),
        other => serde_json::to_string(&other.to_plain_text()?).ok(),
    }
}

fn to_enum(value: &Value) -> Fit {
    match (value, value.to_plain_text()) {
        (Value::Enum(_), _) => Fit::Exact,
        (Value::Text(label), _) => Fit::Lossless(Value::Enum(label.clone())),
        (_, Some(text)) => lossy(Value::Enum(text), "the value's text is taken for a label"),
        (_, None) => impossible(value, "a label"),
    }
}

fn to_reference(value: &Value) -> Fit {
    match value {
        Value::Reference(_) => Fit::Exact,
        Value::Int(_) | Value::UInt(_) | Value::Uuid(_) | Value::Text(_) | Value::Enum(_) => {
            value.to_plain_text().map_or_else(|| impossible(value, "a key"), |key| Fit::Lossless(Value::Reference(key)))
        }
        other => impossible(other, "the key of a record"),
    }
}

fn to_opaque(value: &Value) -> Fit {
    match (value, value.to_plain_text()) {
        (Value::Text(_), _) => Fit::Exact,
        (_, Some(text)) => lossy(Value::Text(text), "written in Concord's text form, which the type may not read"),
        (_, None) => impossible(value, "the text of a type that Concord does not know"),
    }
}
