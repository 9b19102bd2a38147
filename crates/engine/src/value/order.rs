//! The order of values that have one: numbers by value, days and times by when they are, text by its characters.

use super::{Date, Timestamp, TimestampTz, Value};
use std::cmp::Ordering;

impl Value {
    /// How two values of one kind are ordered; `None` where there is no order, or the kinds differ.
    pub fn compare(&self, other: &Value) -> Option<Ordering> {
        match (self, other) {
            (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            (Value::Date(a), Value::Date(b)) => Some(date(*a).cmp(&date(*b))),
            (Value::Time(a), Value::Time(b)) if a.offset_seconds.is_some() == b.offset_seconds.is_some() => {
                let utc = |nanos: i64, offset: Option<i32>| i128::from(nanos) - i128::from(offset.unwrap_or(0)) * 1_000_000_000;
                Some(utc(a.nanos, a.offset_seconds).cmp(&utc(b.nanos, b.offset_seconds)))
            }
            (Value::Timestamp(a), Value::Timestamp(b)) => Some(timestamp(*a).cmp(&timestamp(*b))),
            (Value::TimestampTz(a), Value::TimestampTz(b)) => Some(point(*a).cmp(&point(*b))),
            _ => Some(self.number()?.cmp(&other.number()?)),
        }
    }
}

fn date(date: Date) -> (i8, i32, u8, u8) {
    match date {
        Date::NegativeInfinity => (-1, 0, 0, 0),
        Date::Day { year, month, day } => (0, year, month, day),
        Date::PositiveInfinity => (1, 0, 0, 0),
    }
}

fn timestamp(timestamp: Timestamp) -> ((i8, i32, u8, u8), i64) {
    match timestamp {
        Timestamp::NegativeInfinity => (date(Date::NegativeInfinity), 0),
        Timestamp::At { date: day, nanos } => (date(day), nanos),
        Timestamp::PositiveInfinity => (date(Date::PositiveInfinity), 0),
    }
}

fn point(point: TimestampTz) -> (i8, i64, u32) {
    match point {
        TimestampTz::NegativeInfinity => (-1, 0, 0),
        TimestampTz::At { seconds, nanos } => (0, seconds, nanos),
        TimestampTz::PositiveInfinity => (1, 0, 0),
    }
}
