//! Days with a time, and points in time. Text forms: ISO 8601 and PostgreSQL's ISO DateStyle.
//! No zone is ever assumed: a point in time needs an offset in its text, a timestamp must have none.

use super::date::Date;
use super::scan::{Malformed, Scanner};
use super::time::{Clock, NANOS_PER_DAY, NANOS_PER_SECOND, fraction_text, iso_offset, postgres_offset, scan_clock, scan_offset};
use serde::{Deserialize, Serialize};
use std::fmt;

const EXPECTED: Malformed = Malformed { expected: "a timestamp such as 2024-12-31T23:59:59.5" };
const EXPECTED_TZ: Malformed = Malformed { expected: "a timestamp with an offset such as 2024-12-31T23:59:59.5+05:30" };
const SECONDS_PER_DAY: i64 = 86_400;

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

impl Timestamp {
    /// A day (a zero date too) and nanoseconds since its midnight; an infinite date gives the infinity at midnight 0.
    pub fn new(date: Date, nanos: i64) -> Option<Timestamp> {
        match date {
            Date::NegativeInfinity => (nanos == 0).then_some(Timestamp::NegativeInfinity),
            Date::PositiveInfinity => (nanos == 0).then_some(Timestamp::PositiveInfinity),
            Date::Day { year, month, day } => {
                let date = Date::new_or_zero(year, month, day)?;
                (0..NANOS_PER_DAY).contains(&nanos).then_some(Timestamp::At { date, nanos })
            }
        }
    }

    /// Reads `2024-12-31T23:59:59.5` (a blank may stand for `T`; 24:00:00 is the next midnight), the infinities, and
    /// a day alone as its midnight.
    pub fn parse(text: &str) -> Result<Timestamp, Malformed> {
        match scan_date_time(text, false) {
            Some((date, nanos, None)) => Timestamp::new(date, nanos).ok_or(EXPECTED),
            _ => Err(EXPECTED),
        }
    }

    /// Reads what PostgreSQL prints with DateStyle ISO: `0044-03-15 12:00:00 BC`, `infinity`.
    pub fn parse_postgres(text: &str) -> Result<Timestamp, Malformed> {
        match scan_date_time(text, true) {
            Some((date, nanos, None)) => Timestamp::new(date, nanos).ok_or(EXPECTED),
            _ => Err(EXPECTED),
        }
    }

    /// What PostgreSQL prints with DateStyle ISO.
    pub fn to_postgres(self) -> String {
        match self {
            Timestamp::At { date, nanos } => format!("{} {}{}", date.postgres_day(), Clock(nanos), date.postgres_era()),
            infinity => infinity.to_string(),
        }
    }

    /// The point in time at which clocks at this offset show it; `None` for a zero date.
    pub fn at_offset(self, offset_seconds: i32) -> Option<TimestampTz> {
        match self {
            Timestamp::NegativeInfinity => Some(TimestampTz::NegativeInfinity),
            Timestamp::PositiveInfinity => Some(TimestampTz::PositiveInfinity),
            Timestamp::At { date, nanos } => {
                let midnight = date.days_since_epoch()?.checked_mul(SECONDS_PER_DAY)?;
                let seconds = midnight + nanos.div_euclid(NANOS_PER_SECOND) - i64::from(offset_seconds);
                TimestampTz::new(seconds, u32::try_from(nanos.rem_euclid(NANOS_PER_SECOND)).ok()?)
            }
        }
    }

    /// The same with at most so many digits of the second's fraction: the rest is cut off.
    #[must_use]
    pub fn truncated(self, fraction_digits: u8) -> Timestamp {
        match self {
            Timestamp::At { date, nanos } => Timestamp::At { date, nanos: truncate_nanos(nanos, fraction_digits) },
            infinity => infinity,
        }
    }
}

impl fmt::Display for Timestamp {
    /// ISO 8601 without a zone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Timestamp::NegativeInfinity => f.write_str("-infinity"),
            Timestamp::PositiveInfinity => f.write_str("infinity"),
            Timestamp::At { date, nanos } => write!(f, "{date}T{}", Clock(*nanos)),
        }
    }
}

impl TimestampTz {
    /// Seconds since the Unix epoch and nanoseconds behind them; `None` outside of the calendar.
    pub fn new(seconds: i64, nanos: u32) -> Option<TimestampTz> {
        Date::from_days_since_epoch(seconds.div_euclid(SECONDS_PER_DAY))?;
        (i64::from(nanos) < NANOS_PER_SECOND).then_some(TimestampTz::At { seconds, nanos })
    }

    /// Microseconds since the Unix epoch, as [`Moment`](crate::clock::Moment) counts them. Never fails: every
    /// 64-bit count of microseconds lies within the calendar.
    pub fn from_micros(micros: i64) -> TimestampTz {
        let nanos = u32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or(0);
        TimestampTz::At { seconds: micros.div_euclid(1_000_000), nanos }
    }

    /// Microseconds since the Unix epoch, the rest cut off; `None` for the infinities and beyond 64 bits.
    pub fn to_micros(self) -> Option<i64> {
        match self {
            TimestampTz::At { seconds, nanos } => i64::try_from(i128::from(seconds) * 1_000_000 + i128::from(nanos / 1_000)).ok(),
            _ => None,
        }
    }

    /// Reads `2024-12-31T23:59:59.5Z` or with an offset `±HH[:MM[:SS]]`, and the infinities.
    pub fn parse(text: &str) -> Result<TimestampTz, Malformed> {
        Self::from_scanned(scan_date_time(text, false))
    }

    /// Reads what PostgreSQL prints with DateStyle ISO: `0044-03-15 12:00:00+05:30:15 BC`, `infinity`.
    pub fn parse_postgres(text: &str) -> Result<TimestampTz, Malformed> {
        Self::from_scanned(scan_date_time(text, true))
    }

    fn from_scanned(scanned: Option<DateTimeOffset>) -> Result<TimestampTz, Malformed> {
        let (date, nanos, offset) = scanned.ok_or(EXPECTED_TZ)?;
        if date.is_finite() == offset.is_none() {
            return Err(EXPECTED_TZ);
        }
        let local = Timestamp::new(date, nanos).ok_or(EXPECTED_TZ)?;
        local.at_offset(offset.unwrap_or(0)).ok_or(EXPECTED_TZ)
    }

    /// What clocks at this offset show; `None` at the very end of the calendar.
    pub fn local(self, offset_seconds: i32) -> Option<Timestamp> {
        match self {
            TimestampTz::NegativeInfinity => Some(Timestamp::NegativeInfinity),
            TimestampTz::PositiveInfinity => Some(Timestamp::PositiveInfinity),
            TimestampTz::At { seconds, nanos } => {
                let seconds = seconds.checked_add(i64::from(offset_seconds))?;
                let date = Date::from_days_since_epoch(seconds.div_euclid(SECONDS_PER_DAY))?;
                Timestamp::new(date, seconds.rem_euclid(SECONDS_PER_DAY) * NANOS_PER_SECOND + i64::from(nanos))
            }
        }
    }

    /// What PostgreSQL prints with DateStyle ISO and TimeZone UTC.
    pub fn to_postgres(self) -> String {
        self.to_postgres_at(0)
    }

    /// What PostgreSQL prints with DateStyle ISO where the zone has this offset.
    pub fn to_postgres_at(self, offset_seconds: i32) -> String {
        match self.local(offset_seconds) {
            Some(Timestamp::At { date, nanos }) => {
                let offset = postgres_offset(offset_seconds);
                format!("{} {}{offset}{}", date.postgres_day(), Clock(nanos), date.postgres_era())
            }
            _ => self.to_string(),
        }
    }

    /// ISO 8601 at an offset: `2024-12-31T23:59:59+05:30`.
    pub fn to_iso_at(self, offset_seconds: i32) -> String {
        match self.local(offset_seconds) {
            Some(local @ Timestamp::At { .. }) => format!("{local}{}", iso_offset(offset_seconds)),
            _ => self.to_string(),
        }
    }

    /// The same with at most so many digits of the second's fraction: the rest is cut off, towards the past.
    #[must_use]
    pub fn truncated(self, fraction_digits: u8) -> TimestampTz {
        match self {
            TimestampTz::At { seconds, nanos } => {
                let nanos = u32::try_from(truncate_nanos(i64::from(nanos), fraction_digits)).unwrap_or(0);
                TimestampTz::At { seconds, nanos }
            }
            infinity => infinity,
        }
    }
}

impl fmt::Display for TimestampTz {
    /// ISO 8601 in UTC, with `Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.local(0)) {
            (TimestampTz::NegativeInfinity, _) => f.write_str("-infinity"),
            (TimestampTz::PositiveInfinity, _) => f.write_str("infinity"),
            (_, Some(local)) => write!(f, "{local}Z"),
            (TimestampTz::At { seconds, nanos }, None) => write!(f, "{seconds}{}s", fraction_text(u64::from(*nanos))),
        }
    }
}

/// Cuts a second's fraction to so many digits, towards negative infinity.
pub(crate) fn truncate_nanos(nanos: i64, fraction_digits: u8) -> i64 {
    let unit = 10_i64.pow(u32::from(9_u8.saturating_sub(fraction_digits)));
    nanos - nanos.rem_euclid(unit)
}

type DateTimeOffset = (Date, i64, Option<i32>);

fn scan_date_time(text: &str, postgres: bool) -> Option<DateTimeOffset> {
    let stripped = text.strip_suffix(" BC").filter(|_| postgres);
    let mut scanner = Scanner::new(stripped.unwrap_or(text));
    let mut date = Date::scan(&mut scanner, stripped.is_some())?;
    let mut nanos = 0;
    let mut offset = None;
    if date.is_finite() && !scanner.at_end() {
        if !(scanner.eat(b'T') || scanner.eat(b't') || scanner.eat(b' ')) {
            return None;
        }
        nanos = scan_clock(&mut scanner, 2)?;
        offset = scan_offset(&mut scanner)?;
    }
    if nanos == NANOS_PER_DAY {
        date = Date::from_days_since_epoch(date.days_since_epoch()?.checked_add(1)?)?;
        nanos = 0;
    }
    scanner.at_end().then_some((date, nanos, offset))
}
