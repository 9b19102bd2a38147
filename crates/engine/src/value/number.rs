//! The exact value of a number, whatever form it came in: sign, digits and the place of the point.
//! It never rounds and never computes; two numbers are equal exactly when their normal forms are.

use super::scan::Scanner;
use std::cmp::Ordering;

/// A number in normal form. Finite: `0.DIGITS × 10^exponent`, digits (0 to 9, not ASCII) without leading or trailing
/// zeros; zero has no digits, exponent 0 and no sign.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Number {
    NegativeInfinity,
    Finite { negative: bool, digits: Vec<u8>, exponent: i64 },
    PositiveInfinity,
    Nan,
}

impl Number {
    /// Builds the normal form of `digits × 10^(point - digits.len())`.
    pub(crate) fn finite(negative: bool, digits: &[u8], point: i64) -> Number {
        let leading = digits.iter().take_while(|digit| **digit == 0).count();
        let digits: &[u8] = digits.get(leading..).unwrap_or_default();
        let kept = digits.iter().rposition(|digit| *digit != 0).map_or(0, |last| last + 1);
        let digits = digits.get(..kept).unwrap_or_default().to_vec();
        if digits.is_empty() {
            return Number::Finite { negative: false, digits, exponent: 0 };
        }
        let exponent = point.saturating_sub(i64::try_from(leading).unwrap_or(i64::MAX));
        Number::Finite { negative, digits, exponent }
    }

    /// Reads a decimal literal: sign, digits with at most one point, an exponent of at most 18 digits.
    pub(crate) fn parse(text: &str) -> Option<Number> {
        let mut scanner = Scanner::new(text);
        let negative = scanner.eat(b'-');
        if !negative {
            scanner.eat(b'+');
        }
        let whole = scanner.take_while(|byte| byte.is_ascii_digit());
        let fraction = if scanner.eat(b'.') { scanner.take_while(|byte| byte.is_ascii_digit()) } else { &[] };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let exponent = Self::parse_exponent(&mut scanner)?;
        if !scanner.at_end() {
            return None;
        }
        let digits: Vec<u8> = whole.iter().chain(fraction).map(|digit| digit - b'0').collect();
        let point = i64::try_from(whole.len()).ok()?.checked_add(exponent)?;
        Some(Number::finite(negative, &digits, point))
    }

    fn parse_exponent(scanner: &mut Scanner<'_>) -> Option<i64> {
        if !scanner.eat(b'e') && !scanner.eat(b'E') {
            return Some(0);
        }
        let negative = scanner.eat(b'-');
        if !negative {
            scanner.eat(b'+');
        }
        let exponent = scanner.number(1, 18)?;
        Some(if negative { -exponent } else { exponent })
    }

    /// The number of an unsigned magnitude.
    pub(crate) fn of_integer(negative: bool, mut magnitude: u64) -> Number {
        let mut digits = Vec::with_capacity(20);
        while magnitude > 0 {
            digits.push(u8::try_from(magnitude % 10).unwrap_or(0));
            magnitude /= 10;
        }
        digits.reverse();
        let point = i64::try_from(digits.len()).unwrap_or(0);
        Number::finite(negative, &digits, point)
    }

    /// The exact value of a float: at most 767 digits.
    pub(crate) fn of_float(float: f64) -> Number {
        if float.is_nan() {
            return Number::Nan;
        }
        if float.is_infinite() {
            return if float > 0.0 { Number::PositiveInfinity } else { Number::NegativeInfinity };
        }
        // 767 significant digits are enough for every finite double, so this print is exact.
        Number::parse(&format!("{float:.766e}")).unwrap_or(Number::Nan)
    }

    /// Digits before the point that are not leading zeros; 0 or less for numbers below one.
    pub(crate) fn whole_digits(&self) -> i64 {
        match self {
            Number::Finite { exponent, .. } => *exponent,
            _ => 0,
        }
    }

    /// Digits behind the point that are needed to write it; negative for multiples of powers of ten.
    pub(crate) fn needed_scale(&self) -> i64 {
        match self {
            Number::Finite { digits, exponent, .. } if !digits.is_empty() => {
                i64::try_from(digits.len()).unwrap_or(i64::MAX).saturating_sub(*exponent)
            }
            _ => 0,
        }
    }

    /// Rounds to so many digits behind the point, halves away from zero as SQL does.
    pub(crate) fn rounded(&self, scale: i64) -> Number {
        let Number::Finite { negative, digits, exponent } = self else { return self.clone() };
        let Some(kept) = exponent.checked_add(scale) else { return self.clone() };
        let Ok(kept_digits) = usize::try_from(kept) else {
            return Number::finite(false, &[], 0);
        };
        if kept_digits >= digits.len() {
            return self.clone();
        }
        let up = digits.get(kept_digits).is_some_and(|digit| *digit >= 5);
        let mut kept = vec![0];
        kept.extend_from_slice(digits.get(..kept_digits).unwrap_or_default());
        if up {
            Self::increment(&mut kept);
        }
        Number::finite(*negative, &kept, exponent.saturating_add(1))
    }

    fn increment(digits: &mut [u8]) {
        for digit in digits.iter_mut().rev() {
            if *digit < 9 {
                *digit += 1;
                return;
            }
            *digit = 0;
        }
    }

    /// The literal without an exponent. `None` for NaN and the infinities, and where it would pass `digits_max`.
    pub(crate) fn plain(&self, digits_max: i64) -> Option<String> {
        let Number::Finite { negative, digits, exponent } = self else { return None };
        if exponent.unsigned_abs() > digits_max.unsigned_abs() {
            return None;
        }
        let mut text = String::with_capacity(digits.len() + 3);
        if *negative {
            text.push('-');
        }
        let mut whole = digits.iter();
        if *exponent <= 0 {
            text.push('0');
        }
        for _ in 0..*exponent {
            text.push(char::from(b'0' + whole.next().copied().unwrap_or(0)));
        }
        let fraction = whole.as_slice();
        if !fraction.is_empty() {
            text.push('.');
            text.extend((*exponent..0).map(|_| '0'));
            text.extend(fraction.iter().map(|digit| char::from(b'0' + digit)));
        }
        Some(text)
    }

    /// The number as a signed whole number, if it is one of this size.
    pub(crate) fn to_i128(&self) -> Option<i128> {
        let Number::Finite { negative, digits, exponent } = self else { return None };
        if *exponent > 38 || self.needed_scale() > 0 {
            return None;
        }
        let zeros = usize::try_from(*exponent).ok()?.checked_sub(digits.len())?;
        let mut all = digits.iter().copied().chain(std::iter::repeat_n(0, zeros));
        let magnitude = all.try_fold(0_i128, |sum, digit| sum.checked_mul(10)?.checked_add(i128::from(digit)))?;
        Some(if *negative { -magnitude } else { magnitude })
    }

    /// Appends bytes that are equal exactly for equal numbers.
    pub(crate) fn write_canonical(&self, bytes: &mut Vec<u8>) {
        match self {
            Number::NegativeInfinity => bytes.push(0),
            Number::Finite { negative, digits, exponent } => {
                bytes.push(if *negative { 1 } else { 2 });
                bytes.extend_from_slice(&exponent.to_be_bytes());
                bytes.extend_from_slice(digits);
            }
            Number::PositiveInfinity => bytes.push(3),
            Number::Nan => bytes.push(4),
        }
    }

    /// What [`Number::write_canonical`] writes of an integer, without making a number of it: keys are mostly integers.
    pub(crate) fn write_integer(negative: bool, magnitude: u64, bytes: &mut Vec<u8>) {
        bytes.push(if negative { 1 } else { 2 });
        let mut digits = [0; 20];
        let (mut rest, mut first) = (magnitude, digits.len());
        while rest > 0 {
            first = first.saturating_sub(1);
            if let Some(digit) = digits.get_mut(first) {
                *digit = u8::try_from(rest % 10).unwrap_or(0);
            }
            rest /= 10;
        }
        let digits = digits.get(first..).unwrap_or_default();
        let kept = digits.iter().rposition(|digit| *digit != 0).map_or(0, |last| last.saturating_add(1));
        bytes.extend_from_slice(&i64::try_from(digits.len()).unwrap_or(0).to_be_bytes());
        bytes.extend_from_slice(digits.get(..kept).unwrap_or_default());
    }

    /// -1, 0 or 1 for finite numbers; the infinities and NaN stand outside of them.
    fn rank(&self) -> i8 {
        match self {
            Number::NegativeInfinity => -2,
            Number::Finite { digits, .. } if digits.is_empty() => 0,
            Number::Finite { negative: true, .. } => -1,
            Number::Finite { .. } => 1,
            Number::PositiveInfinity => 2,
            Number::Nan => 3,
        }
    }
}

impl Ord for Number {
    /// By value; NaN is equal to itself and above everything, as PostgreSQL orders its numerics.
    fn cmp(&self, other: &Number) -> Ordering {
        let by_rank = self.rank().cmp(&other.rank());
        if by_rank != Ordering::Equal {
            return by_rank;
        }
        match (self, other) {
            (
                Number::Finite { negative, digits, exponent },
                Number::Finite { digits: other_digits, exponent: other_exponent, .. },
            ) => {
                let magnitude = exponent.cmp(other_exponent).then_with(|| digits.cmp(other_digits));
                if *negative { magnitude.reverse() } else { magnitude }
            }
            _ => Ordering::Equal,
        }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Number) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
