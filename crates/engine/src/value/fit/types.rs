//! Whether every value of one type fits into another: the check of a mapping before there is any data.

use super::limit::{int_range, named};
use crate::schema::Type;

/// Whether values of one type fit into a field of another without a declared loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypeFit {
    /// Every value does.
    Always,
    /// Some do not; what they are, in words.
    Sometimes(String),
    /// None but null does, whatever is declared.
    Never(String),
}

/// The longest text of any date, time or interval, and of any 64-bit float.
const LONGEST_PLAIN_TEXT: u32 = 64;

/// Whether values of `from` fit into a field of type `to`.
pub fn type_fit(from: &Type, to: &Type) -> TypeFit {
    if never(from, to) {
        return TypeFit::Never(format!("{} never becomes {}", noun(from), noun(to)));
    }
    if always(from, to) { TypeFit::Always } else { TypeFit::Sometimes(what_may_not_fit(from, to)) }
}

fn always(from: &Type, to: &Type) -> bool {
    match (from, to) {
        (Type::Text { max_chars, nul, .. }, Type::Text { max_chars: most, nul: to_nul, .. }) => {
            within(*max_chars, *most) && (!nul || *to_nul)
        }
        (_, Type::Text { max_chars, .. }) => text_length(from).is_some_and(|length| within(length, *max_chars)),
        (Type::Bool, Type::Bool | Type::Float { .. }) => true,
        (Type::Bool, Type::Int { unsigned, bits }) => *unsigned || *bits > 1,
        (Type::Bool, Type::Decimal { precision, scale, .. }) => holds_whole_digits(*precision, *scale, 1),
        (Type::Int { bits, unsigned }, Type::Int { bits: to_bits, unsigned: to_unsigned }) => {
            let (from, to) = (int_range(*bits, *unsigned), int_range(*to_bits, *to_unsigned));
            from.0 >= to.0 && from.1 <= to.1
        }
        (Type::Int { bits, unsigned }, Type::Decimal { precision, scale, .. }) => {
            holds_whole_digits(*precision, *scale, int_digits(*bits, *unsigned))
        }
        (Type::Int { bits, .. }, Type::Float { bits: to_bits }) => *bits <= if *to_bits == 64 { 53 } else { 24 },
        (Type::Float { bits }, Type::Float { bits: to_bits }) => bits <= to_bits,
        (Type::Decimal { .. }, Type::Decimal { .. }) => decimal_always(from, to),
        (Type::Bytes { max_bytes }, Type::Bytes { max_bytes: most }) => within(*max_bytes, *most),
        (Type::Time { fraction_digits, zone }, Type::Time { fraction_digits: most, zone: to_zone }) => {
            fraction_digits <= most && zone == to_zone
        }
        (Type::Timestamp { fraction_digits }, Type::Timestamp { fraction_digits: most })
        | (Type::TimestampTz { fraction_digits }, Type::TimestampTz { fraction_digits: most })
        | (Type::Interval { fraction_digits }, Type::Interval { fraction_digits: most }) => fraction_digits <= most,
        (Type::Date, Type::Date) | (Type::Uuid, Type::Uuid) | (Type::Json, Type::Json) => true,
        (Type::Enum { labels }, Type::Enum { labels: to_labels }) => labels.iter().all(|label| to_labels.contains(label)),
        (Type::Enum { labels }, Type::Reference { .. }) => !labels.iter().any(|label| label.contains('\0')),
        (Type::Text { nul, .. }, Type::Reference { .. }) => !nul,
        (Type::Reference { .. } | Type::Int { .. } | Type::Uuid | Type::Opaque { .. }, Type::Reference { .. }) => true,
        (Type::Opaque { native }, Type::Opaque { native: to_native }) => native == to_native,
        (Type::Array(element), Type::Array(to_element)) => always(element, to_element),
        _ => false,
    }
}

/// Whether a length that may be unlimited stays below a limit that may be missing.
fn within(length: Option<u32>, most: Option<u32>) -> bool {
    match (length, most) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(length), Some(most)) => length <= most,
    }
}

/// How long the plain text of a value can get; the outer `None` for what has none, the inner one for no limit.
#[allow(clippy::option_option, reason = "having no text and having no limit are two things")]
fn text_length(ty: &Type) -> Option<Option<u32>> {
    match ty {
        Type::Bool => Some(Some(5)),
        Type::Int { bits, unsigned } => Some(Some(int_digits(*bits, *unsigned) + u32::from(!unsigned))),
        Type::Uuid => Some(Some(36)),
        Type::Float { .. } | Type::Date | Type::Time { .. } | Type::Timestamp { .. } | Type::TimestampTz { .. } => {
            Some(Some(LONGEST_PLAIN_TEXT))
        }
        Type::Interval { .. } => Some(Some(LONGEST_PLAIN_TEXT)),
        Type::Enum { labels } if !labels.iter().any(|label| label.contains('\0')) => {
            let longest = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
            Some(u32::try_from(longest).ok())
        }
        Type::Decimal { .. } | Type::Json | Type::Reference { .. } | Type::Opaque { .. } => Some(None),
        Type::Enum { .. } | Type::Text { .. } | Type::Bytes { .. } | Type::Array(_) => None,
    }
}

fn int_digits(bits: u8, unsigned: bool) -> u32 {
    let (_, most) = int_range(bits, unsigned);
    most.checked_ilog10().map_or(1, |log| log + 1)
}

fn holds_whole_digits(precision: Option<u32>, scale: Option<i32>, digits: u32) -> bool {
    let room = precision.map(|precision| i64::from(precision) - i64::from(scale.unwrap_or(0)));
    scale.unwrap_or(0) >= 0 && room.is_none_or(|room| i64::from(digits) <= room)
}

fn decimal_always(from: &Type, to: &Type) -> bool {
    let (
        Type::Decimal { precision, scale, special },
        Type::Decimal { precision: to_precision, scale: to_scale, special: to_special },
    ) = (from, to)
    else {
        return false;
    };
    let infinities = *special && precision.is_none() && scale.is_none();
    let special_fits = (!special || *to_special) && (!infinities || (to_precision.is_none() && to_scale.is_none()));
    let digits_fit = match (precision, scale, to_precision, to_scale) {
        (_, _, None, None) => true,
        (_, Some(scale), None, Some(to_scale)) => scale <= to_scale,
        (Some(precision), Some(scale), Some(to_precision), Some(to_scale)) => {
            let room = |precision: &u32, scale: &i32| i64::from(*precision) - i64::from(*scale);
            scale <= to_scale && room(precision, scale) <= room(to_precision, to_scale)
        }
        (Some(precision), None, Some(to_precision), None) => precision <= to_precision,
        (Some(precision), Some(scale), Some(to_precision), None) => {
            *scale >= 0 && i64::from(*precision).max(i64::from(*scale)) <= i64::from(*to_precision)
        }
        _ => false,
    };
    special_fits && digits_fit
}

fn never(from: &Type, to: &Type) -> bool {
    let textual = matches!(from, Type::Text { .. } | Type::Enum { .. } | Type::Reference { .. } | Type::Opaque { .. });
    let moment = matches!(from, Type::Timestamp { .. } | Type::TimestampTz { .. });
    let number = matches!(from, Type::Int { .. } | Type::Decimal { .. } | Type::Float { .. });
    let possible = match to {
        Type::Text { .. } | Type::Json => true,
        Type::Bool => textual || matches!(from, Type::Bool | Type::Int { .. }),
        Type::Int { .. } | Type::Decimal { .. } | Type::Float { .. } => textual || number || matches!(from, Type::Bool),
        Type::Bytes { .. } => textual || matches!(from, Type::Bytes { .. }),
        Type::Date => textual || moment || matches!(from, Type::Date),
        Type::Time { .. } => textual || moment || matches!(from, Type::Time { .. }),
        Type::Timestamp { .. } | Type::TimestampTz { .. } => textual || moment || matches!(from, Type::Date),
        Type::Interval { .. } => textual || matches!(from, Type::Interval { .. }),
        Type::Uuid => textual || matches!(from, Type::Uuid | Type::Bytes { .. }),
        Type::Reference { .. } => textual || matches!(from, Type::Int { .. } | Type::Uuid),
        Type::Enum { .. } | Type::Opaque { .. } => !matches!(from, Type::Bytes { .. } | Type::Array(_)),
        // Lists that are empty or hold nulls fit into any list.
        Type::Array(_) => matches!(from, Type::Array(_)),
    };
    !possible
}

fn what_may_not_fit(from: &Type, to: &Type) -> String {
    match (from, to) {
        (Type::Text { .. }, Type::Text { max_chars: Some(most), .. }) => {
            format!("text longer than {most} characters, or with a NUL character where the field holds none")
        }
        (Type::Text { .. }, Type::Text { .. }) => "text with a NUL character".to_owned(),
        (_, Type::Text { max_chars: Some(most), .. }) => format!("values whose text is longer than {most} characters"),
        (Type::Int { .. } | Type::Decimal { .. }, Type::Int { bits, unsigned }) => {
            let (least, most) = int_range(*bits, *unsigned);
            format!("numbers outside of {least} to {most}, or with a fraction")
        }
        (_, Type::Decimal { .. }) => "numbers with more digits than the field holds, or no decimal numbers".to_owned(),
        (_, Type::Float { bits }) => format!("numbers that {bits} binary bits do not hold exactly"),
        (_, Type::Bool) => "values that are neither true nor false".to_owned(),
        (_, Type::Enum { labels }) => format!("values that are none of the {} labels: {}", labels.len(), named(labels)),
        (Type::Time { .. }, Type::Time { .. }) => {
            "times with a finer fraction of the second, or another notion of offset".to_owned()
        }
        (Type::Timestamp { .. }, Type::Timestamp { .. })
        | (Type::TimestampTz { .. }, Type::TimestampTz { .. })
        | (Type::Interval { .. }, Type::Interval { .. }) => "values with a finer fraction of the second".to_owned(),
        (Type::Timestamp { .. } | Type::TimestampTz { .. } | Type::Date, Type::Date | Type::Time { .. }) => {
            "every value loses a part: declare a cast".to_owned()
        }
        (Type::Timestamp { .. } | Type::TimestampTz { .. } | Type::Date, Type::Timestamp { .. } | Type::TimestampTz { .. }) => {
            "every value needs a zone or a time to be assumed: declare a cast".to_owned()
        }
        (Type::Array(from), Type::Array(to)) => format!("lists with {}", what_may_not_fit(from, to)),
        _ => format!("values that are not {} in its own spelling; others need a declared cast", noun(to)),
    }
}

fn noun(ty: &Type) -> &'static str {
    match ty {
        Type::Bool => "true or false",
        Type::Int { .. } => "a whole number",
        Type::Decimal { .. } => "a decimal number",
        Type::Float { .. } => "a floating-point number",
        Type::Text { .. } => "text",
        Type::Bytes { .. } => "bytes",
        Type::Date => "a date",
        Type::Time { .. } => "a time",
        Type::Timestamp { .. } => "a timestamp",
        Type::TimestampTz { .. } => "a point in time",
        Type::Interval { .. } => "an interval",
        Type::Uuid => "a UUID",
        Type::Json => "JSON",
        Type::Array(_) => "a list",
        Type::Enum { .. } => "a label",
        Type::Reference { .. } => "a reference",
        Type::Opaque { .. } => "a value of a type that Concord does not know",
    }
}
