//! Dates and timestamps as text by strftime patterns, and the `timestamp_format` of text fields that hold timestamps.
//! Patterns are jiff's (<https://docs.rs/jiff/latest/jiff/fmt/strtime/>); names of days and months are English.

use super::step::{Step, StepInverse, failed, none};
use crate::error::Result;
use crate::schema::Type;
use crate::value::{Date, Decimal, NANOS_PER_SECOND, Timestamp, TimestampTz, Value};
use jiff::fmt::strtime::{self, BrokenDownTime};

/// No pattern is longer: its output is bounded with it.
const PATTERN_CHARS_MAX: usize = 200;

/// How timestamps stand in text fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimestampFormat {
    /// ISO 8601.
    Iso8601,
    /// Seconds since 1970-01-01T00:00:00Z, with a fraction where there is one.
    EpochSeconds,
    /// Milliseconds since 1970-01-01T00:00:00Z, with a fraction where there is one.
    EpochMillis,
    /// A strftime pattern.
    Pattern(String),
}

impl TimestampFormat {
    /// Reads the setting: `iso8601`, `epoch_seconds`, `epoch_millis`, or a pattern, which has a `%`.
    pub fn parse(setting: &str) -> std::result::Result<TimestampFormat, String> {
        match setting {
            "iso8601" => Ok(TimestampFormat::Iso8601),
            "epoch_seconds" => Ok(TimestampFormat::EpochSeconds),
            "epoch_millis" => Ok(TimestampFormat::EpochMillis),
            pattern if pattern.contains('%') => check_pattern(pattern).map(|()| TimestampFormat::Pattern(pattern.to_owned())),
            _ => Err("write iso8601, epoch_seconds, epoch_millis or a pattern such as %Y-%m-%d".to_owned()),
        }
    }

    /// Writes a date or timestamp as text; every other value stays as it is. A timestamp without a zone is counted
    /// from the epoch as if it were in UTC.
    pub fn write(&self, value: &Value) -> Result<Value> {
        if !matches!(value, Value::Date(_) | Value::Timestamp(_) | Value::TimestampTz(_)) {
            return Ok(value.clone());
        }
        match self {
            TimestampFormat::Iso8601 => Ok(value.to_plain_text().map_or(Value::Null, Value::Text)),
            TimestampFormat::EpochSeconds => Ok(Value::Text(epoch_decimal(value, 9)?)),
            TimestampFormat::EpochMillis => Ok(Value::Text(epoch_decimal(value, 6)?)),
            TimestampFormat::Pattern(pattern) => write_pattern(value, pattern).map(Value::Text),
        }
    }

    /// Reads a text (or, for the epochs, a number) as a point in time or, where a pattern has no offset, as what it
    /// shows. Every other value stays as it is.
    pub fn read(&self, value: &Value) -> Result<Value> {
        let text = match value {
            Value::Text(text) => text.clone(),
            Value::Int(_) | Value::UInt(_) | Value::Decimal(_) => value.to_plain_text().unwrap_or_default(),
            other => return Ok(other.clone()),
        };
        match self {
            TimestampFormat::Iso8601 => read_iso(&text).ok_or_else(|| failed("the text is no timestamp in ISO 8601")),
            TimestampFormat::EpochSeconds => from_epoch(&text, 9),
            TimestampFormat::EpochMillis => from_epoch(&text, 6),
            TimestampFormat::Pattern(pattern) => read_pattern(&text, pattern),
        }
    }
}

/// Nanoseconds since the epoch as a decimal with the point moved by so many digits.
fn epoch_decimal(value: &Value, digits: i64) -> Result<String> {
    let point = match value {
        Value::TimestampTz(point) => Some(*point),
        Value::Timestamp(local) => local.at_offset(0),
        Value::Date(date) => Timestamp::new(*date, 0).and_then(|local| local.at_offset(0)),
        _ => None,
    };
    let Some(TimestampTz::At { seconds, nanos }) = point else {
        return Err(failed("an infinity or a zero date is no point in time"));
    };
    let nanos = i128::from(seconds) * i128::from(NANOS_PER_SECOND) + i128::from(nanos);
    let decimal = Decimal::parse(&format!("{nanos}e-{digits}"))?;
    Ok(decimal.to_shortest())
}

fn from_epoch(text: &str, digits: i64) -> Result<Value> {
    let wrong = || failed("the text is no number of seconds or milliseconds since 1970");
    let number = Decimal::parse(text.trim()).map_err(|_| wrong())?;
    let nanos = Decimal::parse(&format!("{}e{digits}", number.to_shortest())).map_err(|_| wrong())?;
    let nanos = nanos.number().to_i128().ok_or_else(|| failed("the time is finer than a nanosecond, or beyond the calendar"))?;
    let seconds = i64::try_from(nanos.div_euclid(i128::from(NANOS_PER_SECOND))).map_err(|_| wrong())?;
    let rest = u32::try_from(nanos.rem_euclid(i128::from(NANOS_PER_SECOND))).map_err(|_| wrong())?;
    TimestampTz::new(seconds, rest).map(Value::TimestampTz).ok_or_else(wrong)
}

fn read_iso(text: &str) -> Option<Value> {
    let date = || Date::parse(text).ok().map(Value::Date);
    let local = || Timestamp::parse(text).ok().map(Value::Timestamp);
    date().or_else(local).or_else(|| TimestampTz::parse(text).ok().map(Value::TimestampTz))
}

/// The transformation `date_format`. A pattern is one of strftime's, or `epoch_seconds` or `epoch_millis`, which numbers
/// follow as well as texts.
pub(super) fn date_format(value: &Value, from: Option<&str>, to: Option<&str>) -> Result<Value> {
    let moment = match (value.as_text(), from) {
        (None, Some(pattern)) if matches!(value, Value::Int(_) | Value::UInt(_) | Value::Decimal(_)) => {
            read_pattern(&value.to_plain_text().unwrap_or_default(), pattern)?
        }
        (Some(text), Some(pattern)) => read_pattern(text, pattern)?,
        (Some(text), None) => read_iso(text).ok_or_else(|| failed("`date_format`: the text is no date in ISO 8601"))?,
        (None, _) => value.clone(),
    };
    match (&moment, to) {
        (_, None) => Ok(moment),
        (Value::Date(_) | Value::Timestamp(_) | Value::TimestampTz(_), Some(pattern)) => {
            write_pattern(&moment, pattern).map(Value::Text)
        }
        (other, Some(_)) => Err(failed(format!("`date_format` needs a date or a timestamp; this is {}", other.kind()))),
    }
}

/// Whether a pattern can be read, and is not too long.
pub(super) fn check_pattern(pattern: &str) -> std::result::Result<(), String> {
    if pattern.chars().count() > PATTERN_CHARS_MAX {
        return Err(format!("has a pattern of more than {PATTERN_CHARS_MAX} characters"));
    }
    match probe(&Type::TimestampTz { fraction_digits: 9 }).map(|probe| write_pattern(&probe, pattern)) {
        Some(Ok(_)) => Ok(()),
        _ => Err(format!("cannot use the pattern `{pattern}`; patterns look like `%Y-%m-%d %H:%M:%S`")),
    }
}

fn write_pattern(value: &Value, pattern: &str) -> Result<String> {
    match pattern {
        "epoch_seconds" => return epoch_decimal(value, 9),
        "epoch_millis" => return epoch_decimal(value, 6),
        _ => {}
    }
    let wrong = || failed("`date_format`: the pattern asks for what the value does not have, or the year is beyond 9999");
    let civil = |local: Timestamp| match local {
        Timestamp::At { date: Date::Day { year, month, day }, nanos } => {
            let date =
                jiff::civil::Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
            Some(date.to_datetime(jiff::civil::Time::midnight()).checked_add(jiff::SignedDuration::from_nanos(nanos)).ok()?)
        }
        _ => None,
    };
    let broken = match value {
        Value::Date(date) => {
            let midnight = Timestamp::new(*date, 0).and_then(civil).ok_or_else(wrong)?;
            BrokenDownTime::from(midnight.date())
        }
        Value::Timestamp(local) => BrokenDownTime::from(civil(*local).ok_or_else(wrong)?),
        Value::TimestampTz(TimestampTz::At { seconds, nanos }) => {
            let nanos = i32::try_from(*nanos).map_err(|_| wrong())?;
            let point = jiff::Timestamp::new(*seconds, nanos).map_err(|_| wrong())?;
            BrokenDownTime::from(&point.to_zoned(jiff::tz::TimeZone::UTC))
        }
        _ => return Err(wrong()),
    };
    broken.to_string(pattern).map_err(|_| wrong())
}

fn read_pattern(text: &str, pattern: &str) -> Result<Value> {
    match pattern {
        "epoch_seconds" => return from_epoch(text, 9),
        "epoch_millis" => return from_epoch(text, 6),
        _ => {}
    }
    let wrong = || failed("`date_format`: the text does not follow the pattern");
    let broken = strtime::parse(pattern, text).map_err(|_| wrong())?;
    if broken.offset().is_some() || broken.timestamp().is_some() {
        let point = broken.to_timestamp().map_err(|_| wrong())?;
        let nanos = point.as_nanosecond();
        let seconds = i64::try_from(nanos.div_euclid(i128::from(NANOS_PER_SECOND))).map_err(|_| wrong())?;
        let rest = u32::try_from(nanos.rem_euclid(i128::from(NANOS_PER_SECOND))).map_err(|_| wrong())?;
        return TimestampTz::new(seconds, rest).map(Value::TimestampTz).ok_or_else(wrong);
    }
    let day = broken.to_date().map_err(|_| wrong())?;
    let part = |number: i8| u8::try_from(number).ok();
    let date = part(day.month()).zip(part(day.day())).and_then(|(month, day_of)| Date::new(i32::from(day.year()), month, day_of));
    let date = date.ok_or_else(wrong)?;
    if broken.hour().is_none() {
        return Ok(Value::Date(date));
    }
    let time = broken.to_time().map_err(|_| wrong())?;
    let nanos = (i64::from(time.hour()) * 3600 + i64::from(time.minute()) * 60 + i64::from(time.second())) * NANOS_PER_SECOND
        + i64::from(time.subsec_nanosecond());
    Timestamp::new(date, nanos).map(Value::Timestamp).ok_or_else(wrong)
}

/// The way back of `date_format`: the patterns exchanged, if a moment with no part at zero survives there and back.
pub(super) fn inverse(from: Option<&str>, to: Option<&str>, source: Option<&Type>) -> StepInverse {
    let back = |from: Option<&str>, to: Option<&str>| Step::DateFormat {
        from: from.map(str::to_owned),
        to: to.map(str::to_owned),
        source: None,
    };
    let probe = match (from, source.and_then(probe)) {
        // A text source shows what its own pattern writes.
        (Some(pattern), _) => {
            let full = probe(&Type::TimestampTz { fraction_digits: 9 });
            full.and_then(|full| write_pattern(&full, pattern).ok()).map(Value::Text)
        }
        (None, probe) => probe,
    };
    let Some(probe) = probe else {
        return none("`date_format` does not know the type that the value came from");
    };
    let there = date_format(&probe, from, to);
    let again = there.and_then(|there| date_format(&there, to, from));
    match again {
        Ok(again) if again == probe => StepInverse::Exact(back(to, from)),
        _ => none("`date_format` leaves out a part of the date or time"),
    }
}

/// A moment of the type in which no part is zero and none equals another.
fn probe(ty: &Type) -> Option<Value> {
    let date = Date::new(2023, 11, 29)?;
    let local = Timestamp::new(date, (21 * 3600 + 47 * 60 + 38) * NANOS_PER_SECOND + 123_456_789)?;
    match ty {
        Type::Date => Some(Value::Date(date)),
        Type::Timestamp { fraction_digits } => Some(Value::Timestamp(local.truncated(*fraction_digits))),
        Type::TimestampTz { fraction_digits } => {
            local.at_offset(0).map(|point| Value::TimestampTz(point.truncated(*fraction_digits)))
        }
        _ => None,
    }
}
