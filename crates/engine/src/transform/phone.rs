//! Phone numbers in E.164, by Google's metadata.

use super::step::failed;
use crate::error::Result;
use crate::value::Value;
use rlibphonenumber::{PhoneNumber, PhoneNumberFormat, Region};

/// No number is longer; libphonenumber itself refuses more than 250 characters.
const CHARS_MAX: usize = 250;

/// Why a text is no phone number that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PhoneProblem {
    /// It is none, or not a valid one of its region.
    Invalid,
    /// It has an extension, which E.164 cannot hold.
    Extension,
}

/// Reads a region's code, in any case.
pub(crate) fn parse_region(code: &str) -> std::result::Result<Region, String> {
    Region::from_code(&code.to_ascii_uppercase()).map_err(|_| format!("knows no region `{code}`; write two letters such as `US`"))
}

/// The number in E.164.
pub(crate) fn to_e164(text: &str, region: Option<Region>, drop_extension: bool) -> std::result::Result<String, PhoneProblem> {
    if text.len() > CHARS_MAX {
        return Err(PhoneProblem::Invalid);
    }
    let number = PhoneNumber::parse(text, region).map_err(|_| PhoneProblem::Invalid)?;
    if !number.is_valid() {
        return Err(PhoneProblem::Invalid);
    }
    let extended = number.extension.as_ref().is_some_and(|extension| !extension.is_empty());
    if extended && !drop_extension {
        return Err(PhoneProblem::Extension);
    }
    Ok(number.format_as(PhoneNumberFormat::E164).into_owned())
}

/// The transformation `format_phone`.
pub(super) fn format(value: &Value, region: Option<Region>, drop_extension: bool) -> Result<Value> {
    let text = match value {
        Value::Text(_) | Value::Enum(_) | Value::Int(_) | Value::UInt(_) => value.to_plain_text(),
        _ => None,
    };
    let text = text.ok_or_else(|| failed(format!("`format_phone` needs text; this is {}", value.kind())))?;
    if text.trim().is_empty() {
        return Ok(value.clone());
    }
    to_e164(&text, region, drop_extension).map(Value::Text).map_err(|problem| match problem {
        PhoneProblem::Invalid => failed("`format_phone`: the text is no valid phone number"),
        PhoneProblem::Extension => failed("`format_phone`: the number has an extension, which E.164 cannot hold"),
    })
}
