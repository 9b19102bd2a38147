//! Intervals: months, days and a time, never converted into each other.
//! Text forms: ISO 8601 durations with signed parts, and PostgreSQL's own (`IntervalStyle` `iso_8601`, `postgres`).

use super::scan::{Malformed, Scanner};
use super::time::{Clock, NANOS_PER_SECOND, fraction_text, scan_clock};
use serde::{Deserialize, Serialize};
use std::fmt;

const EXPECTED: Malformed = Malformed { expected: "an interval such as P1Y2M3DT4H5M6.7S" };

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

impl Interval {
    /// An interval; every combination is one.
    pub fn new(months: i32, days: i32, nanos: i64) -> Interval {
        Interval { months, days, nanos }
    }

    /// Reads an ISO 8601 duration whose parts may have signs of their own: `P1Y-2M3DT-4H5M6.7S`, `P2W`, `PT0S`.
    pub fn parse(text: &str) -> Result<Interval, Malformed> {
        let mut scanner = Scanner::new(text);
        if !scanner.eat(b'P') || scanner.at_end() {
            return Err(EXPECTED);
        }
        let mut sum = Sum::default();
        let mut in_time = false;
        while !scanner.at_end() {
            if !in_time && scanner.eat(b'T') {
                in_time = true;
                if scanner.at_end() {
                    return Err(EXPECTED);
                }
            }
            sum.add_part(&mut scanner, in_time).ok_or(EXPECTED)?;
        }
        sum.interval().ok_or(EXPECTED)
    }

    /// Reads what PostgreSQL prints with IntervalStyle `postgres`: `-1 years -2 mons +3 days -04:05:06.7`.
    pub fn parse_postgres(text: &str) -> Result<Interval, Malformed> {
        let mut scanner = Scanner::new(text);
        let mut sum = Sum::default();
        if scanner.at_end() {
            return Err(EXPECTED);
        }
        while !scanner.at_end() {
            sum.add_postgres_part(&mut scanner).ok_or(EXPECTED)?;
            scanner.skip_blanks();
        }
        sum.interval().ok_or(EXPECTED)
    }

    /// What PostgreSQL prints with IntervalStyle `postgres`.
    pub fn to_postgres(self) -> String {
        let mut parts: Vec<String> = Vec::new();
        let mut before = false;
        let units = [(self.months / 12, "year"), (self.months % 12, "mon"), (self.days, "day")];
        for (number, unit) in units.into_iter().filter(|(number, _)| *number != 0) {
            let plus = if before && number > 0 { "+" } else { "" };
            let plural = if number == 1 { "" } else { "s" };
            parts.push(format!("{plus}{number} {unit}{plural}"));
            before = number < 0;
        }
        if self.nanos != 0 || parts.is_empty() {
            let plus = if before && self.nanos > 0 { "+" } else { "" };
            parts.push(format!("{plus}{}", Clock(self.nanos)));
        }
        parts.join(" ")
    }

    /// The same with at most so many digits of the second's fraction, cut towards zero.
    #[must_use]
    pub fn truncated(self, fraction_digits: u8) -> Interval {
        let unit = 10_i64.pow(u32::from(9_u8.saturating_sub(fraction_digits)));
        Interval { nanos: self.nanos - self.nanos % unit, ..self }
    }
}

impl fmt::Display for Interval {
    /// ISO 8601 as PostgreSQL prints it: each part with its own sign, `PT0S` for nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Interval::new(0, 0, 0) {
            return f.write_str("PT0S");
        }
        f.write_str("P")?;
        let date_parts = [(self.months / 12, 'Y'), (self.months % 12, 'M'), (self.days, 'D')];
        for (number, unit) in date_parts.into_iter().filter(|(number, _)| *number != 0) {
            write!(f, "{number}{unit}")?;
        }
        if self.nanos == 0 {
            return Ok(());
        }
        f.write_str("T")?;
        let sign = if self.nanos < 0 { "-" } else { "" };
        let nanos = self.nanos.unsigned_abs();
        let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        for (number, unit) in [(seconds / 3600, 'H'), (seconds / 60 % 60, 'M')].into_iter().filter(|(number, _)| *number != 0) {
            write!(f, "{sign}{number}{unit}")?;
        }
        if seconds % 60 != 0 || rest != 0 {
            write!(f, "{sign}{}{}S", seconds % 60, fraction_text(rest))?;
        }
        Ok(())
    }
}

/// Parts added up in wide numbers, so that what does not fit is noticed at the end.
#[derive(Default)]
struct Sum {
    months: i64,
    days: i64,
    nanos: i128,
}

impl Sum {
    fn add_part(&mut self, scanner: &mut Scanner<'_>, in_time: bool) -> Option<()> {
        let negative = scanner.eat(b'-');
        if !negative {
            scanner.eat(b'+');
        }
        let sign = if negative { -1 } else { 1 };
        let number = scanner.number(1, 15)?;
        let fraction = scanner.fraction_nanos()?;
        let unit = scanner.take()?;
        if fraction != 0 && unit != b'S' {
            return None;
        }
        match (unit, in_time) {
            (b'Y', false) => self.months += sign * number * 12,
            (b'M', false) => self.months += sign * number,
            (b'W', false) => self.days += sign * number * 7,
            (b'D', false) => self.days += sign * number,
            (b'H', true) => self.add_seconds(sign * number, 3600, 0),
            (b'M', true) => self.add_seconds(sign * number, 60, 0),
            (b'S', true) => self.add_seconds(sign * number, 1, sign * fraction),
            _ => return None,
        }
        // Fifteen digits of anything are beyond the range: refused before further parts could overflow the sum.
        (self.months.abs() < 1 << 40 && self.days.abs() < 1 << 40).then_some(())
    }

    fn add_postgres_part(&mut self, scanner: &mut Scanner<'_>) -> Option<()> {
        let negative = scanner.eat(b'-');
        if !negative {
            scanner.eat(b'+');
        }
        let sign = if negative { -1 } else { 1 };
        let mut ahead = *scanner;
        let number = ahead.number(1, 12)?;
        if ahead.peek() == Some(b':') {
            self.nanos += i128::from(sign) * i128::from(scan_clock(scanner, 9)?);
            return Some(());
        }
        *scanner = ahead;
        scanner.skip_blanks();
        match scanner.take_while(|byte| byte.is_ascii_lowercase()) {
            b"year" | b"years" => self.months += sign * number * 12,
            b"mon" | b"mons" => self.months += sign * number,
            b"day" | b"days" => self.days += sign * number,
            _ => return None,
        }
        (self.months.abs() < 1 << 40 && self.days.abs() < 1 << 40).then_some(())
    }

    fn add_seconds(&mut self, number: i64, seconds: i64, nanos: i64) {
        self.nanos += i128::from(number) * i128::from(seconds) * i128::from(NANOS_PER_SECOND) + i128::from(nanos);
    }

    fn interval(&self) -> Option<Interval> {
        let (months, days) = (i32::try_from(self.months).ok()?, i32::try_from(self.days).ok()?);
        Some(Interval::new(months, days, i64::try_from(self.nanos).ok()?))
    }
}
