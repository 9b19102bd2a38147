//! Normal forms for matching: what makes two spellings of the same e-mail address or phone number meet.
//! Only for comparing; the normal form is never written anywhere.

use super::phone::to_e164;
use crate::value::Value;
use rlibphonenumber::Region;

/// How values of a match field are compared.
#[derive(Clone, Debug, PartialEq)]
pub enum MatchKind {
    /// As they are.
    Exact,
    /// Text without regard to case and to blanks at the ends.
    Case,
    /// E-mail addresses: without regard to case and to blanks at the ends.
    Email,
    /// Phone numbers by what they dial; the region is for numbers without a country code.
    Phone {
        /// The region of numbers without a country code.
        region: Option<Region>,
    },
}

/// The value in the normal form for matching; `None` for what never matches anything: null and blank text.
/// A phone number that cannot be read is compared as text.
pub fn normalise_for_match(value: &Value, kind: &MatchKind) -> Option<Value> {
    let Some(text) = value.as_text() else {
        return match (kind, value) {
            (_, Value::Null) => None,
            (MatchKind::Phone { .. }, Value::Int(_) | Value::UInt(_)) => {
                normalise_for_match(&Value::Text(value.to_plain_text()?), kind)
            }
            _ => Some(value.clone()),
        };
    };
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return None;
    }
    Some(match kind {
        MatchKind::Exact => Value::text(text),
        MatchKind::Case | MatchKind::Email => Value::Text(trimmed.to_lowercase()),
        MatchKind::Phone { region } => match to_e164(trimmed, *region, true) {
            Ok(number) => Value::Text(number),
            Err(_) => Value::text(trimmed),
        },
    })
}
