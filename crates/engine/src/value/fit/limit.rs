//! The limits of a type: lengths, digits, ranges, labels, and how far a system's calendar reaches.

use super::Fit;
use crate::schema::Type;
use crate::value::number::Number;
use crate::value::{Date, Decimal, Float, NANOS_PER_DAY, Time, Timestamp, Value};

/// How far the days and times of a system reach. It is a property of the system and not of one field's type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Whether there are days and times before and after all others.
    pub infinities: bool,
    /// The first and the last astronomical year.
    pub years: (i32, i32),
    /// Whether months and days may be zero.
    pub zero_dates: bool,
    /// Which times of day there are.
    pub times: TimesOfDay,
}

/// Which times of day a system holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimesOfDay {
    /// Below 24:00:00.
    BelowDay,
    /// Up to 24:00:00.
    WholeDay,
    /// From -838:59:59 to 838:59:59.
    Long,
}

impl Extent {
    /// Infinities, years from 4713 BC to far in the future, 24:00:00; no zero dates.
    pub const WIDE: Extent =
        Extent { infinities: true, years: (-4712, 5_874_897), zero_dates: false, times: TimesOfDay::WholeDay };

    /// The years 1 to 9999 and nothing special: what most systems hold.
    pub const PLAIN: Extent = Extent { infinities: false, years: (1, 9999), zero_dates: false, times: TimesOfDay::BelowDay };

    /// Everything that a value can be.
    pub const EVERYTHING: Extent = Extent {
        infinities: true,
        years: (-crate::value::YEAR_MAX, crate::value::YEAR_MAX),
        zero_dates: true,
        times: TimesOfDay::Long,
    };

    fn refuses(&self, date: Date) -> Option<String> {
        let Date::Day { year, .. } = date else {
            return (!self.infinities).then(|| "an infinite date, which the system cannot hold".to_owned());
        };
        if date.is_zero_date() {
            return (!self.zero_dates).then(|| "a zero date, which the system cannot hold".to_owned());
        }
        let (first, last) = self.years;
        (year < first || year > last).then(|| format!("the year is outside of {first} to {last}, which the system holds"))
    }
}

/// The most labels that a message names.
const LABELS_NAMED: usize = 20;

/// Whether a value in the type's own representation is within its limits.
pub(super) fn limit(value: &Value, ty: &Type, extent: &Extent) -> Fit {
    match (ty, value) {
        (Type::Int { bits, unsigned }, Value::Int(number)) => int(i128::from(*number), *bits, *unsigned),
        (Type::Int { bits, unsigned }, Value::UInt(number)) => int(i128::from(*number), *bits, *unsigned),
        (Type::Decimal { precision, scale, special }, Value::Decimal(number)) => decimal(number, *precision, *scale, *special),
        (Type::Float { bits: 32 }, Value::Float(float)) => float32(*float),
        (Type::Text { max_chars, padded, nul, empty }, Value::Text(text)) => self::text(text, *max_chars, *padded, *nul, *empty),
        (Type::Bytes { max_bytes: Some(most) }, Value::Bytes(bytes)) if bytes.len() > widen(*most) => {
            Fit::Impossible(format!("{} bytes; the field holds {most}", bytes.len()))
        }
        (Type::Date, Value::Date(date)) => extent.refuses(*date).map_or(Fit::Exact, Fit::Impossible),
        (Type::Time { fraction_digits, .. }, Value::Time(time)) => self::time(*time, *fraction_digits, extent.times),
        (Type::Timestamp { fraction_digits }, Value::Timestamp(timestamp)) => {
            let refused = extent.refuses(day(*timestamp));
            fraction(refused, Value::Timestamp(timestamp.truncated(*fraction_digits)), value, *fraction_digits)
        }
        (Type::TimestampTz { fraction_digits }, Value::TimestampTz(point)) => {
            let refused = point.local(0).map_or(Some("beyond the calendar".to_owned()), |local| extent.refuses(day(local)));
            fraction(refused, Value::TimestampTz(point.truncated(*fraction_digits)), value, *fraction_digits)
        }
        (Type::Interval { fraction_digits }, Value::Interval(interval)) => {
            fraction(None, Value::Interval(interval.truncated(*fraction_digits)), value, *fraction_digits)
        }
        (Type::Enum { labels }, Value::Enum(label)) if !labels.contains(label) => {
            Fit::Impossible(format!("the label is none of the {} that the field knows: {}", labels.len(), named(labels)))
        }
        (Type::Reference { .. }, Value::Reference(key)) | (Type::Opaque { .. }, Value::Text(key)) if key.contains('\0') => {
            Fit::Impossible("the text has a NUL character".to_owned())
        }
        _ => Fit::Exact,
    }
}

/// The first labels by name, for messages: there may be a thousand.
pub(super) fn named(labels: &[String]) -> String {
    let shown: Vec<&str> = labels.iter().take(LABELS_NAMED).map(String::as_str).collect();
    let rest = labels.len().saturating_sub(shown.len());
    let more = if rest == 0 { String::new() } else { format!(" and {rest} more") };
    format!("{}{more}", shown.join(", "))
}

fn widen(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// The smallest and the largest whole number of a type.
pub(super) fn int_range(bits: u8, unsigned: bool) -> (i128, i128) {
    let bits = u32::from(bits.min(64));
    if unsigned {
        (0, (1_i128 << bits) - 1)
    } else {
        (-(1_i128 << bits.saturating_sub(1)), (1_i128 << bits.saturating_sub(1)) - 1)
    }
}

fn int(number: i128, bits: u8, unsigned: bool) -> Fit {
    let (least, most) = int_range(bits, unsigned);
    if (least..=most).contains(&number) {
        return Fit::Exact;
    }
    Fit::Impossible(format!("the number is outside of {least} to {most}"))
}

fn decimal(decimal: &Decimal, precision: Option<u32>, scale: Option<i32>, special: bool) -> Fit {
    if !decimal.is_finite() {
        let holds = special && (decimal.is_nan() || (precision.is_none() && scale.is_none()));
        return if holds { Fit::Exact } else { Fit::Impossible("NaN or an infinity, which the field cannot hold".to_owned()) };
    }
    let number = decimal.number();
    let digits = precision.map(i64::from);
    let scale = match (scale.map(i64::from), digits) {
        (Some(scale), _) => Some(scale),
        (None, Some(digits)) => Some(digits.saturating_sub(number.whole_digits().max(0)).max(0)),
        (None, None) => None,
    };
    let Some(scale) = scale else { return Fit::Exact };
    let rounded = if number.needed_scale() > scale { number.rounded(scale) } else { number.clone() };
    let room = digits.map(|digits| digits - scale);
    if room.is_some_and(|room| !is_zero(&rounded) && rounded.whole_digits() > room) {
        let digits = digits.unwrap_or_default();
        return Fit::Impossible(format!("more digits than the field's {digits} with {scale} of them behind the point"));
    }
    if rounded == number {
        return Fit::Exact;
    }
    Fit::Lossy { value: Value::Decimal(Decimal::of_number(&rounded)), how: format!("rounded to {scale} digits behind the point") }
}

fn is_zero(number: &Number) -> bool {
    matches!(number, Number::Finite { digits, .. } if digits.is_empty())
}

fn float32(float: Float) -> Fit {
    if float.fits_f32() {
        return Fit::Exact;
    }
    let nearest = float.nearest_f32();
    if nearest.is_finite() {
        let how = "rounded to a float of 32 bits".to_owned();
        return Fit::Lossy { value: Value::Float(Float::from_f32(nearest)), how };
    }
    Fit::Impossible("the number is beyond what a float of 32 bits can hold".to_owned())
}

fn text(text: &str, max_chars: Option<u32>, padded: bool, nul: bool, empty: bool) -> Fit {
    if !nul && text.contains('\0') {
        return Fit::Impossible("the text has a NUL character".to_owned());
    }
    let content = if padded { text.trim_end_matches(' ') } else { text };
    let or_null = |kept: &str| {
        let blank = if padded { kept.trim_end_matches(' ') } else { kept };
        if blank.is_empty() && !empty { Value::Null } else { Value::text(kept) }
    };
    let most = max_chars.map_or(usize::MAX, widen);
    // A text of at most so many bytes has at most so many characters: most texts are never counted.
    let length = if content.len() <= most { 0 } else { content.chars().count() };
    if length > most {
        let cut: String = content.chars().take(most).collect();
        return Fit::Lossy { value: or_null(&cut), how: format!("{length} characters; cut to the {most} that the field holds") };
    }
    if content.is_empty() && !empty {
        return Fit::Lossless(Value::Null);
    }
    let too_padded = content.len() < text.len() && text.chars().count() > most;
    if too_padded { Fit::Lossless(Value::text(content)) } else { Fit::Exact }
}

fn day(timestamp: Timestamp) -> Date {
    match timestamp {
        Timestamp::NegativeInfinity => Date::NegativeInfinity,
        Timestamp::At { date, .. } => date,
        Timestamp::PositiveInfinity => Date::PositiveInfinity,
    }
}

fn time(time: Time, fraction_digits: u8, times: TimesOfDay) -> Fit {
    let refused = match times {
        TimesOfDay::BelowDay if !(0..NANOS_PER_DAY).contains(&time.nanos) => Some("the time is not below 24:00:00".to_owned()),
        TimesOfDay::WholeDay if !time.is_within_day() => Some("the time is longer than a day, or negative".to_owned()),
        _ => None,
    };
    fraction(refused, Value::Time(time.truncated(fraction_digits)), &Value::Time(time), fraction_digits)
}

fn fraction(refused: Option<String>, cut: Value, value: &Value, digits: u8) -> Fit {
    match refused {
        Some(reason) => Fit::Impossible(reason),
        None if cut == *value => Fit::Exact,
        None => Fit::Lossy { value: cut, how: format!("the second's fraction is cut to {digits} digits") },
    }
}
