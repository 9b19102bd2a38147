//! Decimal numbers of any size, kept as the digits that were written; compared by value.
//! Nothing here rounds unless it is asked to ([`Decimal::rounded`]).

use super::number::Number;
use super::scan::Malformed;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;

/// The most digits before or behind the point that a decimal may stand for. PostgreSQL's limit is 131,072 before and
/// 16,383 behind; the bound keeps `1e999999999` from becoming a gigabyte of zeros (invariant 10).
const DIGITS_MAX: i64 = 200_000;

/// The most characters of a number that is taken for what it is without being taken apart.
const PLAIN_DIGITS_MAX: usize = 64;

const EXPECTED: Malformed = Malformed { expected: "a decimal number such as -12.50" };

/// A decimal number as its digits, so that nothing is lost and nothing is computed on the way through.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Decimal(Box<str>);

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Literal)
    }
}

/// Reads a decimal off a text that is not kept.
struct Literal;

impl serde::de::Visitor<'_> for Literal {
    type Value = Decimal;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED.expected)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Decimal, E> {
        Decimal::parse(text).map_err(E::custom)
    }
}

impl Decimal {
    /// Reads `[+-]digits[.digits][e[+-]digits]`, `NaN`, `Infinity` and `-Infinity` (also `inf`; any case).
    pub fn parse(text: &str) -> Result<Decimal, Malformed> {
        if is_plain(text) {
            return Ok(Decimal(text.into()));
        }
        if let Some(special) = Self::parse_special(text) {
            return Ok(special);
        }
        let number = Number::parse(text).ok_or(EXPECTED)?;
        let within = number.whole_digits().abs() <= DIGITS_MAX && number.needed_scale().abs() <= DIGITS_MAX;
        let written = i64::try_from(text.len()).is_ok_and(|length| length <= 2 * DIGITS_MAX);
        let decimal = Decimal(text.into());
        // Trailing zeros of a small exponent (`0e-999999`) count for the written scale as well.
        if within && written && decimal.written_scale().abs() <= 2 * DIGITS_MAX { Ok(decimal) } else { Err(EXPECTED) }
    }

    fn parse_special(text: &str) -> Option<Decimal> {
        let lower = if text.len() <= 9 { text.to_ascii_lowercase() } else { return None };
        match lower.as_str() {
            "nan" => Some(Decimal("NaN".into())),
            "infinity" | "+infinity" | "inf" | "+inf" => Some(Decimal("Infinity".into())),
            "-infinity" | "-inf" => Some(Decimal("-Infinity".into())),
            _ => None,
        }
    }

    /// The digits as they were written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is neither NaN nor an infinity.
    pub fn is_finite(&self) -> bool {
        matches!(self.number(), Number::Finite { .. })
    }

    /// Whether it is NaN.
    pub fn is_nan(&self) -> bool {
        &*self.0 == "NaN"
    }

    /// The number without an exponent, zeros behind the point as written: `1.50e1` is `15.0`.
    pub fn to_plain(&self) -> String {
        if !self.0.contains(['e', 'E']) || !self.is_finite() {
            return self.0.to_string();
        }
        let Some(mut plain) = self.number().plain(DIGITS_MAX) else { return self.0.to_string() };
        let shown = plain.split_once('.').map_or(0, |(_, fraction)| fraction.len());
        let wanted = usize::try_from(self.written_scale()).unwrap_or(0);
        if wanted > shown {
            if shown == 0 {
                plain.push('.');
            }
            plain.extend(std::iter::repeat_n('0', wanted - shown));
        }
        plain
    }

    /// The shortest literal of the value, without an exponent and without needless zeros: `1.500` is `1.5`.
    pub fn to_shortest(&self) -> String {
        self.number().plain(DIGITS_MAX).unwrap_or_else(|| self.0.to_string())
    }

    /// Digits behind the point as written; negative where an exponent moves the point to the right. Zero for NaN.
    pub fn written_scale(&self) -> i64 {
        let (mantissa, exponent) = self.0.split_once(['e', 'E']).unwrap_or((&self.0, "0"));
        let fraction = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len());
        let exponent: i64 = exponent.parse().unwrap_or(0);
        i64::try_from(fraction).unwrap_or(i64::MAX).saturating_sub(exponent)
    }

    /// Digits before the point that the value needs (0 below one).
    pub fn whole_digits(&self) -> u32 {
        u32::try_from(self.number().whole_digits().max(0)).unwrap_or(u32::MAX)
    }

    /// Digits behind the point that the value needs; negative for multiples of powers of ten. Zero for NaN.
    pub fn needed_scale(&self) -> i64 {
        self.number().needed_scale()
    }

    /// Significant digits of the value.
    pub fn significant_digits(&self) -> usize {
        match self.number() {
            Number::Finite { digits, .. } => digits.len(),
            _ => 0,
        }
    }

    /// The value with so many digits behind the point (negative: before it), halves away from zero.
    pub fn rounded(&self, scale: i64) -> Decimal {
        Self::of_number(&self.number().rounded(scale))
    }

    /// The whole number that it is, if it is one that fits.
    pub fn to_i64(&self) -> Option<i64> {
        self.number().to_i128().and_then(|number| i64::try_from(number).ok())
    }

    /// The whole number that it is, if it is one that fits.
    pub fn to_u64(&self) -> Option<u64> {
        self.number().to_i128().and_then(|number| u64::try_from(number).ok())
    }

    /// The order by value; NaN is equal to itself and above everything.
    pub fn compare(&self, other: &Decimal) -> Ordering {
        if self.0 == other.0 {
            return Ordering::Equal;
        }
        self.number().cmp(&other.number())
    }

    pub(crate) fn number(&self) -> Number {
        match &*self.0 {
            "NaN" => Number::Nan,
            "Infinity" => Number::PositiveInfinity,
            "-Infinity" => Number::NegativeInfinity,
            digits => Number::parse(digits).unwrap_or(Number::Nan),
        }
    }

    pub(crate) fn of_number(number: &Number) -> Decimal {
        match number {
            Number::Nan => Decimal("NaN".into()),
            Number::PositiveInfinity => Decimal("Infinity".into()),
            Number::NegativeInfinity => Decimal("-Infinity".into()),
            Number::Finite { .. } => Decimal(number.plain(2 * DIGITS_MAX).unwrap_or_else(|| "NaN".to_owned()).into()),
        }
    }
}

/// Whether a text is a short row of digits with at most a sign before them and a point among them, as most numbers are
/// written: then there is nothing more to check.
fn is_plain(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    digits.len() <= PLAIN_DIGITS_MAX && all_digits(whole) && all_digits(fraction)
}

impl From<i64> for Decimal {
    fn from(number: i64) -> Decimal {
        Decimal(number.to_string().into())
    }
}

impl From<u64> for Decimal {
    fn from(number: u64) -> Decimal {
        Decimal(number.to_string().into())
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
