//! Days: the proleptic Gregorian calendar, its infinities, and MySQL's zero dates.
//! Two text forms: ISO 8601 (`-0001-12-31`, `+12024-01-01`) and PostgreSQL's ISO DateStyle (`0002-12-31 BC`).

use super::scan::{Malformed, Scanner};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The furthest year on either side; PostgreSQL's dates end in 5874897.
pub const YEAR_MAX: i32 = 9_999_999;

const EXPECTED: Malformed = Malformed { expected: "a date such as 2024-12-31" };

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

impl Date {
    /// A day of the calendar; `None` when there is no such day.
    pub fn new(year: i32, month: u8, day: u8) -> Option<Date> {
        let real = (-YEAR_MAX..=YEAR_MAX).contains(&year) && (1..=12).contains(&month);
        (real && (1..=days_in_month(year, month)).contains(&day)).then_some(Date::Day { year, month, day })
    }

    /// A day of the calendar, or a zero date of the years 0 to 9999.
    pub fn new_or_zero(year: i32, month: u8, day: u8) -> Option<Date> {
        let zero = (month == 0 || day == 0) && (0..=9999).contains(&year) && month <= 12 && day <= 31;
        if zero { Some(Date::Day { year, month, day }) } else { Date::new(year, month, day) }
    }

    /// Whether it is one of MySQL's zero dates.
    pub fn is_zero_date(self) -> bool {
        matches!(self, Date::Day { month: 0, .. } | Date::Day { day: 0, .. })
    }

    /// Whether it is a day, rather than an infinity.
    pub fn is_finite(self) -> bool {
        matches!(self, Date::Day { .. })
    }

    /// Days since 1970-01-01; `None` for infinities and zero dates.
    pub fn days_since_epoch(self) -> Option<i64> {
        match self {
            Date::Day { year, month, day } if Date::new(year, month, day).is_some() => {
                Some(days_from_civil(i64::from(year), i64::from(month), i64::from(day)))
            }
            _ => None,
        }
    }

    /// The day so many days after 1970-01-01; `None` beyond [`YEAR_MAX`].
    pub fn from_days_since_epoch(days: i64) -> Option<Date> {
        let (year, month, day) = civil_from_days(days)?;
        Date::new(i32::try_from(year).ok()?, u8::try_from(month).ok()?, u8::try_from(day).ok()?)
    }

    /// Reads ISO 8601 (`2024-12-31`, `-0043-03-15`, `+12024-01-01`), a zero date, `infinity` or `-infinity`.
    pub fn parse(text: &str) -> Result<Date, Malformed> {
        Date::read(text, false)
    }

    fn read(text: &str, before_christ: bool) -> Result<Date, Malformed> {
        let mut scanner = Scanner::new(text);
        Date::scan(&mut scanner, before_christ).filter(|_| scanner.at_end()).ok_or(EXPECTED)
    }

    /// Reads what PostgreSQL prints with DateStyle ISO: `2024-12-31`, `0044-03-15 BC`, `infinity`.
    pub fn parse_postgres(text: &str) -> Result<Date, Malformed> {
        match text.strip_suffix(" BC") {
            Some(text) => Date::read(text, true),
            None => Date::read(text, false),
        }
    }

    /// What PostgreSQL prints with DateStyle ISO.
    pub fn to_postgres(self) -> String {
        format!("{}{}", self.postgres_day(), self.postgres_era())
    }

    /// The day with its year counted in its era, for the forms that put `BC` behind everything else.
    pub(crate) fn postgres_day(self) -> String {
        match self {
            Date::Day { year, month, day } => {
                let shown = if self.postgres_era().is_empty() { year } else { 1 - year };
                format!("{shown:04}-{month:02}-{day:02}")
            }
            infinity => infinity.to_string(),
        }
    }

    pub(crate) fn postgres_era(self) -> &'static str {
        match self {
            Date::Day { year, month, day } if year <= 0 && month != 0 && day != 0 => " BC",
            _ => "",
        }
    }

    /// Takes a date; with `before_christ`, its year is counted backwards from 1 BC.
    pub(crate) fn scan(scanner: &mut Scanner<'_>, before_christ: bool) -> Option<Date> {
        if !before_christ && scanner.eat_word("infinity") {
            return Some(Date::PositiveInfinity);
        }
        if !before_christ && scanner.eat_word("-infinity") {
            return Some(Date::NegativeInfinity);
        }
        let negative = scanner.eat(b'-');
        if !negative {
            scanner.eat(b'+');
        }
        let year = i32::try_from(scanner.number(4, 7)?).ok()?;
        let month = scanner.eat(b'-').then(|| scanner.exact_digits(2)).flatten()?;
        let day = scanner.eat(b'-').then(|| scanner.exact_digits(2)).flatten()?;
        let (month, day) = (u8::try_from(month).ok()?, u8::try_from(day).ok()?);
        match (negative, before_christ) {
            (false, false) => Date::new_or_zero(year, month, day),
            (true, false) => Date::new(-year, month, day),
            (false, true) if year > 0 => Date::new(1 - year, month, day),
            (_, true) => None,
        }
    }
}

impl fmt::Display for Date {
    /// ISO 8601; years outside of 0 to 9999 carry their sign.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Date::NegativeInfinity => f.write_str("-infinity"),
            Date::PositiveInfinity => f.write_str("infinity"),
            Date::Day { year, month, day } => {
                let sign = match year {
                    ..0 => "-",
                    0..=9999 => "",
                    _ => "+",
                };
                write!(f, "{sign}{:04}-{month:02}-{day:02}", year.unsigned_abs())
            }
        }
    }
}

fn days_in_month(year: i32, month: u8) -> u8 {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar (Hinnant, `days_from_civil`).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`]; `None` far outside of any calendar.
fn civil_from_days(days: i64) -> Option<(i64, i64, i64)> {
    if days.unsigned_abs() > 4_000_000_000_000 {
        return None;
    }
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    Some((year, month, day))
}
