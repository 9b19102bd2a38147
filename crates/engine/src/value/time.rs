//! Times of day: with and without an offset, PostgreSQL's `24:00:00`, MySQL's long and negative times.

use super::scan::{Malformed, Scanner};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Nanoseconds of a second.
pub const NANOS_PER_SECOND: i64 = 1_000_000_000;
/// Nanoseconds of a day.
pub const NANOS_PER_DAY: i64 = 86_400 * NANOS_PER_SECOND;
/// The longest time, on either side: MySQL's 838:59:59 with any fraction.
const NANOS_MAX: i64 = (838 * 3600 + 59 * 60 + 60) * NANOS_PER_SECOND - 1;
/// Offsets stay below a day.
const OFFSET_SECONDS_MAX: i32 = 86_399;

const EXPECTED: Malformed = Malformed { expected: "a time such as 23:59:59.5" };

/// A time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Time {
    /// Nanoseconds since midnight: 24:00:00 is 86,400,000,000,000; MySQL's run from -838:59:59 to 838:59:59.
    pub nanos: i64,
    /// Seconds east of UTC, where the type carries an offset.
    pub offset_seconds: Option<i32>,
}

impl Time {
    /// A time; `None` beyond MySQL's range, or with an offset of a day or more.
    pub fn new(nanos: i64, offset_seconds: Option<i32>) -> Option<Time> {
        let near = offset_seconds.is_none_or(|offset| offset.abs() <= OFFSET_SECONDS_MAX);
        ((-NANOS_MAX..=NANOS_MAX).contains(&nanos) && near).then_some(Time { nanos, offset_seconds })
    }

    /// Whether it is a time of one day, 24:00:00 included.
    pub fn is_within_day(self) -> bool {
        (0..=NANOS_PER_DAY).contains(&self.nanos)
    }

    /// The same with at most so many digits of the second's fraction, cut towards zero.
    #[must_use]
    pub fn truncated(self, fraction_digits: u8) -> Time {
        let unit = 10_i64.pow(u32::from(9_u8.saturating_sub(fraction_digits)));
        Time { nanos: self.nanos - self.nanos % unit, ..self }
    }

    /// Reads `[-]HH:MM[:SS[.fraction]]`, with `Z` or `±HH[:MM[:SS]]` where there is an offset. PostgreSQL's and
    /// MySQL's output texts are of this form.
    pub fn parse(text: &str) -> Result<Time, Malformed> {
        let mut scanner = Scanner::new(text);
        Self::scan(&mut scanner).filter(|_| scanner.at_end()).ok_or(EXPECTED)
    }

    fn scan(scanner: &mut Scanner<'_>) -> Option<Time> {
        let negative = scanner.eat(b'-');
        let nanos = scan_clock(scanner, 3)?;
        let offset = scan_offset(scanner)?;
        Time::new(if negative { -nanos } else { nanos }, offset)
    }

    /// What PostgreSQL prints: `04:05:06+05:30:15`, `04:05:06+00`.
    pub fn to_postgres(self) -> String {
        let offset = self.offset_seconds.map(postgres_offset).unwrap_or_default();
        format!("{}{offset}", Clock(self.nanos))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Clock(self.nanos))?;
        match self.offset_seconds {
            None => Ok(()),
            Some(0) => f.write_str("Z"),
            Some(offset) => f.write_str(&iso_offset(offset)),
        }
    }
}

/// Nanoseconds as `[-]HH:MM:SS[.fraction]`, without needless zeros.
pub(crate) struct Clock(pub(crate) i64);

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let nanos = self.0.unsigned_abs();
        let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        write!(f, "{sign}{hours:02}:{minutes:02}:{:02}{}", seconds % 60, fraction_text(rest))
    }
}

/// `.5` for half a second; nothing for none.
pub(crate) fn fraction_text(nanos: u64) -> String {
    if nanos == 0 {
        return String::new();
    }
    let digits = format!("{nanos:09}");
    format!(".{}", digits.trim_end_matches('0'))
}

/// Takes `HH:MM[:SS[.fraction]]`, hours of two to `hour_digits_max` digits, and gives nanoseconds.
pub(crate) fn scan_clock(scanner: &mut Scanner<'_>, hour_digits_max: usize) -> Option<i64> {
    let hours = scanner.number(2, hour_digits_max)?;
    let minutes = scanner.eat(b':').then(|| scanner.exact_digits(2)).flatten()?;
    let mut seconds = 0;
    let mut nanos = 0;
    if scanner.eat(b':') {
        seconds = scanner.exact_digits(2)?;
        nanos = scanner.fraction_nanos()?;
    }
    if minutes > 59 || seconds > 59 {
        return None;
    }
    hours.checked_mul(3600)?.checked_add(minutes * 60 + seconds)?.checked_mul(NANOS_PER_SECOND)?.checked_add(nanos)
}

/// Takes `Z` or `±HH[[:]MM[[:]SS]]`; nothing there is no offset. The outer `None` is a malformed one.
#[allow(clippy::option_option, reason = "the outer one is the parser's failure, the inner one the value's absence")]
pub(crate) fn scan_offset(scanner: &mut Scanner<'_>) -> Option<Option<i32>> {
    if scanner.eat(b'Z') || scanner.eat(b'z') {
        return Some(Some(0));
    }
    let sign = match scanner.peek() {
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => return Some(None),
    };
    scanner.take();
    let mut parts = [scanner.exact_digits(2)?, 0, 0].into_iter().collect::<Vec<_>>();
    for part in parts.iter_mut().skip(1) {
        let colon = scanner.eat(b':');
        let digit_next = scanner.peek().is_some_and(|byte| byte.is_ascii_digit());
        if colon || digit_next {
            *part = scanner.exact_digits(2)?;
        }
    }
    let in_range = parts.iter().zip([23, 59, 59]).all(|(part, most)| *part <= most);
    let seconds = parts.iter().fold(0, |seconds, part| seconds * 60 + part);
    if in_range { i32::try_from(sign * seconds).ok().map(Some) } else { None }
}

/// `+05:30`, `-03:00:15`.
pub(crate) fn iso_offset(offset_seconds: i32) -> String {
    let (sign, seconds) = (if offset_seconds < 0 { '-' } else { '+' }, offset_seconds.unsigned_abs());
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if rest == 0 { format!("{sign}{hours:02}:{minutes:02}") } else { format!("{sign}{hours:02}:{minutes:02}:{rest:02}") }
}

/// `+00`, `+05:30`, `-03:00:15`: parts that are zero are left out from the right.
pub(crate) fn postgres_offset(offset_seconds: i32) -> String {
    let text = iso_offset(offset_seconds);
    match text.strip_suffix(":00") {
        Some(hours) if text.len() == 6 => hours.to_owned(),
        _ => text,
    }
}
