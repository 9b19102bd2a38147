//! Values between the API's JSON and the engine: digits are carried as written, times as points in time. What a field
//! cannot hold is refused here, before it is sent; nothing is rounded.

use super::ids;
use super::schema::{FieldInfo, Kind};
use concord_engine::error::{Code, Error, Result};
use concord_engine::value::{Date, Time, TimestampTz, Value};
use serde_json::value::RawValue;

/// The decimal digits that a number of 64 bits holds, whichever they are.
const DOUBLE_DIGITS: usize = 15;
/// The most values of a picklist that a message names.
const ALLOWED_NAMED: usize = 20;

/// A value as the API's JSON shows it.
pub(super) fn decode(field: &FieldInfo, json: &RawValue) -> Result<Value> {
    let text = json.get();
    if text == "null" {
        return Ok(match field.kind {
            // A checkbox is never empty.
            Kind::Bool => Value::Bool(false),
            _ => Value::Null,
        });
    }
    match field.kind {
        Kind::Bool => match text {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err(odd(field)),
        },
        Kind::Int | Kind::Decimal => number(field, text),
        _ => {
            let text: String = serde_json::from_str(text).map_err(|_| odd(field))?;
            from_text(field, text)
        }
    }
}

/// A value as a cell of a Bulk API result shows it: empty for null.
pub(super) fn from_cell(field: &FieldInfo, cell: &str) -> Result<Value> {
    match (field.kind, cell) {
        (Kind::Bool, cell) => Ok(Value::Bool(cell.eq_ignore_ascii_case("true"))),
        (_, "") => Ok(Value::Null),
        (Kind::Int | Kind::Decimal, digits) => number(field, digits),
        (_, text) => from_text(field, text.to_owned()),
    }
}

fn number(field: &FieldInfo, digits: &str) -> Result<Value> {
    let decimal = Value::decimal(digits).map_err(|_| odd(field))?;
    match (&decimal, field.kind) {
        (Value::Decimal(decimal), Kind::Int) => decimal.to_plain().parse().map(Value::Int).map_err(|_| odd(field)),
        _ => Ok(decimal),
    }
}

fn from_text(field: &FieldInfo, text: String) -> Result<Value> {
    match field.kind {
        Kind::Id => Ok(Value::Text(ids::full(&text))),
        Kind::Reference => Ok(Value::Reference(ids::full(&text))),
        Kind::Date => Date::parse(&text).map(Value::Date).map_err(|_| odd(field)),
        Kind::DateTime => moment(&text).map(Value::TimestampTz).ok_or_else(|| odd(field)),
        Kind::Time => Time::parse(text.trim_end_matches('Z')).map(Value::Time).map_err(|_| odd(field)),
        _ => Ok(Value::Text(text)),
    }
}

/// Whether a value is not among those that a restricted picklist was last seen to take.
pub(super) fn is_off_list(field: &FieldInfo, value: &Value) -> bool {
    value.as_text().is_some_and(|text| !text.is_empty() && not_allowed(field, text).is_some())
}

/// Why a restricted picklist does not take a text, which for several values names them between semicolons. It compares without
/// regard to case.
fn not_allowed(field: &FieldInfo, text: &str) -> Option<String> {
    let allowed = field.allowed.as_ref()?;
    let is_known = |piece: &str| allowed.iter().any(|known| known.to_lowercase() == piece.trim().to_lowercase());
    let is_several = field.native.starts_with("multipicklist");
    if text.split(|letter| is_several && letter == ';').all(is_known) {
        return None;
    }
    let named: Vec<&str> = allowed.iter().take(ALLOWED_NAMED).map(String::as_str).collect();
    let rest = allowed.len().saturating_sub(named.len());
    let more = if rest == 0 { String::new() } else { format!(" and {rest} more") };
    Some(format!("the picklist is restricted, and takes {}{more}", named.join(", ")))
}

/// A point in time: REST writes the offset as `+0000`, Bulk API as `Z`.
pub(super) fn moment(text: &str) -> Option<TimestampTz> {
    match text.strip_suffix("+0000") {
        Some(utc) => TimestampTz::parse(&format!("{utc}Z")).ok(),
        None => TimestampTz::parse(text).ok(),
    }
}

fn odd(field: &FieldInfo) -> Error {
    Error::new(Code::ProtocolViolation, format!("{} shows a value that is no {}", field.name, field.native))
}

/// A value as the API takes it.
pub(super) fn encode(field: &FieldInfo, value: &Value) -> Result<Box<RawValue>> {
    let misfit = |why: &str| Error::new(Code::ValueDoesNotFit, format!("{} ({}): {why}", field.name, field.native));
    let text = match (field.kind, value) {
        (Kind::Bool, Value::Null) => return Err(misfit("a checkbox is never empty")),
        (_, Value::Null) => "null".to_owned(),
        (Kind::Bool, Value::Bool(flag)) => flag.to_string(),
        (Kind::Int | Kind::Decimal, number) => digits(field, number).ok_or_else(|| misfit("not a number that it holds"))?,
        (Kind::Date, Value::Date(date)) if date.is_finite() => quoted(&date.to_string()),
        (Kind::DateTime, Value::TimestampTz(stamp)) => match stamp {
            TimestampTz::At { nanos: 0, .. } => quoted(&stamp.to_string()),
            TimestampTz::At { .. } => return Err(misfit("it holds whole seconds only")),
            _ => return Err(misfit("it holds no infinity")),
        },
        (Kind::Time, Value::Time(time)) if time.is_within_day() => quoted(&format!("{time}Z")),
        (Kind::Id | Kind::Reference | Kind::Text, value) => match value {
            Value::Text(text) | Value::Reference(text) | Value::Enum(text) => {
                if field.max_chars.is_some_and(|most| text.chars().count() > usize::try_from(most).unwrap_or(usize::MAX)) {
                    return Err(misfit("longer than the field"));
                }
                if text.is_empty() {
                    return Err(misfit("an empty text would be stored as null"));
                }
                if let Some(why) = not_allowed(field, text) {
                    return Err(misfit(&why));
                }
                quoted(text)
            }
            Value::Uuid(uuid) => quoted(&uuid.to_string()),
            other => return Err(misfit(&format!("it holds no {}", other.kind()))),
        },
        (_, other) => return Err(misfit(&format!("it does not hold {}", other.kind()))),
    };
    RawValue::from_string(text).map_err(|error| Error::new(Code::Internal, "a value could not be written").because(error))
}

fn quoted(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}

/// The digits of a number that the field holds exactly.
fn digits(field: &FieldInfo, value: &Value) -> Option<String> {
    let decimal = match value {
        Value::Int(number) => Value::decimal(&number.to_string()).ok()?,
        Value::UInt(number) => Value::decimal(&number.to_string()).ok()?,
        Value::Float(number) => Value::decimal(&number.to_f64().to_string()).ok()?,
        other => other.clone(),
    };
    let Value::Decimal(decimal) = decimal else { return None };
    if !decimal.is_finite() {
        return None;
    }
    let plain = decimal.to_plain();
    let fraction = plain.split_once('.').map_or(0, |(_, fraction)| fraction.trim_end_matches('0').len());
    let scale = usize::try_from(field.scale).unwrap_or(0);
    let whole = field.precision.saturating_sub(field.scale);
    let fits = match field.kind {
        Kind::Int => fraction == 0 && plain.split('.').next()?.parse::<i32>().is_ok(),
        _ => fraction <= scale && decimal.whole_digits() <= whole,
    };
    fits.then_some(plain)
}

/// A value of a change event, as its number on the wire means it by the field's type.
pub(super) fn from_long(field: &FieldInfo, number: i64) -> Option<Value> {
    match field.kind {
        Kind::DateTime => {
            TimestampTz::new(number.div_euclid(1_000), u32::try_from(number.rem_euclid(1_000)).ok()?.checked_mul(1_000_000)?)
                .map(Value::TimestampTz)
        }
        Kind::Date => Date::from_days_since_epoch(number.div_euclid(86_400_000)).map(Value::Date),
        Kind::Time => Time::new(number.checked_mul(1_000_000)?, None).map(Value::Time),
        Kind::Int => Some(Value::Int(number)),
        Kind::Decimal => Value::decimal(&number.to_string()).ok(),
        _ => None,
    }
}

/// A number of a change event that came in 64 bits. `None` where more digits may stand in the org than those hold: read instead.
pub(super) fn from_double(field: &FieldInfo, number: f64) -> Option<Value> {
    if number.is_finite() { from_digits(field, &number.to_string()) } else { None }
}

/// The digits of a number of a change event. `None` where more of them may stand in the org than 64 bits hold, through which they
/// may have gone: 900000000000000001 comes out as 900000000000000000, and looks short.
pub(super) fn from_digits(field: &FieldInfo, digits: &str) -> Option<Value> {
    let value = Value::decimal(digits).ok()?;
    let Value::Decimal(decimal) = &value else { return None };
    let plain = decimal.to_plain();
    let (whole, fraction) = plain.split_once('.').unwrap_or((&plain, ""));
    let whole = whole.trim_start_matches('-').trim_start_matches('0').len();
    let shown = fraction.trim_end_matches('0').len();
    let scale = usize::try_from(field.scale).unwrap_or(usize::MAX);
    if !decimal.is_finite() || whole.saturating_add(scale.max(shown)) > DOUBLE_DIGITS {
        return None;
    }
    match field.kind {
        Kind::Decimal => Some(value),
        Kind::Int => plain.parse().map(Value::Int).ok(),
        _ => None,
    }
}

/// A text of a change event.
pub(super) fn from_event_text(field: &FieldInfo, text: &str) -> Option<Value> {
    from_text(field, text.to_owned()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(precision: u32, scale: u32) -> FieldInfo {
        FieldInfo::described(&format!(r#"{{"name": "N__c", "type": "double", "precision": {precision}, "scale": {scale}}}"#))
    }

    #[test]
    fn a_number_that_may_have_had_more_digits_than_64_bits_hold_is_read() {
        let of = |field: &FieldInfo, number| from_double(field, number).map(|value| value.to_string());
        assert_eq!(of(&number(18, 0), 900_000_000_000_000_001_f64), None, "it looks short");
        assert_eq!(of(&number(18, 0), 900_000_000_000_000_f64).as_deref(), Some("900000000000000"));
        assert_eq!(of(&number(18, 2), 12_345_678_901_234_f64), None, "cents may stand behind it");
        assert_eq!(of(&number(18, 2), -1_234_567_890_123.45).as_deref(), Some("-1234567890123.45"));
        assert_eq!(of(&number(18, 2), 0.1 + 0.2), None, "more digits than the field shows");
        assert_eq!(of(&number(18, 15), 0.000_000_000_000_25).as_deref(), Some("0.00000000000025"));
        assert_eq!(of(&number(18, 2), f64::NAN), None);
        let digits = |digits: &str| from_digits(&number(18, 2), digits).map(|value| value.to_string());
        assert!(
            digits("3.5E8")
                .is_some_and(|value| Value::decimal("350000000").unwrap().equivalent(&Value::decimal(&value).unwrap()))
        );
        assert_eq!(digits("9E17"), None);
    }
}
