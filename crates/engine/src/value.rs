//! The one type system that every connector agrees on: values, their canonical form and their equivalence.
//! A value is carried exactly or not at all (invariant 8): constructors check, nothing here rounds or coerces.
//! `==` is identity (the same representation, floats by bits); [`Value::equivalent`] is what the engine compares by.

use serde::{Deserialize, Serialize};
use std::fmt;

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

/// A decimal number as its digits, so that nothing is lost and nothing is computed on the way through.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Decimal(Box<str>);

/// A 64-bit float, kept and compared by its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Float(u64);

/// A day. Years are astronomical: 0 is 1 BC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Date {
    /// Before every day.
    NegativeInfinity,
    /// A day of the proleptic Gregorian calendar. Month and day may be 0 in MySQL's zero dates
    /// (`0000-00-00`, `2024-00-00`), which only systems that allow them can hold.
    Day {
        /// Astronomical year.
        year: i32,
        /// 1 to 12; 0 in a zero date.
        month: u8,
        /// 1 to 31; 0 in a zero date.
        day: u8,
    },
    /// After every day.
    PositiveInfinity,
}

/// A time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Time {
    /// Nanoseconds since midnight: 24:00:00 is 86,400,000,000,000; MySQL's run from -838:59:59 to 838:59:59.
    pub nanos: i64,
    /// Seconds east of UTC, where the type carries an offset.
    pub offset_seconds: Option<i32>,
}

/// A day and time without a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Timestamp {
    /// Before every time.
    NegativeInfinity,
    /// A day and the nanoseconds since its midnight (below 86,400,000,000,000).
    At {
        /// The day; never one of its infinities.
        date: Date,
        /// Nanoseconds since midnight.
        nanos: i64,
    },
    /// After every time.
    PositiveInfinity,
}

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TimestampTz {
    /// Before every time.
    NegativeInfinity,
    /// Seconds since 1970-01-01T00:00:00Z and nanoseconds behind them (0 to 999,999,999).
    At {
        /// Whole seconds, rounded towards negative infinity.
        seconds: i64,
        /// The rest.
        nanos: u32,
    },
    /// After every time.
    PositiveInfinity,
}

/// Months, days and a time, kept apart because none converts to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Interval {
    /// Months.
    pub months: i32,
    /// Days.
    pub days: i32,
    /// Nanoseconds.
    pub nanos: i64,
}

/// A JSON document as the text in which it came; compared by meaning.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Json(Box<str>);

impl Value {
    /// Bytes that are equal exactly for equivalent values of keys: what the store's indexes are made of.
    pub fn canonical_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).unwrap_or_default()
    }

    /// Whether two values mean the same.
    pub fn equivalent(&self, other: &Value) -> bool {
        self == other
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
