//! Transformations of text: cases, splitting and joining.

use super::step::failed;
use crate::error::Result;
use crate::record::Record;
use crate::value::Value;

/// Changes a text or a label; every other value has no case and no blanks and stays as it is.
pub(super) fn on_text(value: &Value, change: impl Fn(&str) -> String) -> Value {
    match value {
        Value::Text(text) | Value::Enum(text) => Value::Text(change(text)),
        other => other.clone(),
    }
}

/// Every word begins with a capital. A word goes on behind an apostrophe (`O'neil`) and ends at everything else that
/// is neither letter nor digit. A letter whose capital is two letters (`ß`) keeps the second one small.
pub(super) fn title_case(text: &str) -> String {
    let mut title = String::with_capacity(text.len());
    let mut in_word = false;
    for letter in text.to_lowercase().chars() {
        let word = letter.is_alphanumeric() || (in_word && !letter.is_ascii()) || (in_word && letter == '\'');
        if word && !in_word {
            let mut capitals = letter.to_uppercase();
            title.extend(capitals.next());
            title.extend(capitals.flat_map(char::to_lowercase));
        } else {
            title.push(letter);
        }
        in_word = word;
    }
    title
}

/// The parts of a text as a list, or one of them. An empty text has no parts, so that `join` is the inverse.
pub(super) fn split(value: &Value, separator: &str, index: Option<i64>) -> Result<Value> {
    let text = value.as_text().ok_or_else(|| failed(format!("`split` needs text; this is {}", value.kind())))?;
    let parts: Vec<&str> = if text.is_empty() { Vec::new() } else { text.split(separator).collect() };
    let Some(index) = index else {
        return Ok(Value::Array(parts.into_iter().map(Value::text).collect()));
    };
    let from_end = usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX);
    let place = if index < 0 { parts.len().checked_sub(from_end) } else { Some(from_end) };
    Ok(place.and_then(|place| parts.get(place)).map_or(Value::Null, |part| Value::text(*part)))
}

/// Which of the fields takes what is left over when a text has more parts than there are fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// None: such a text, and one with fewer parts, cannot be told apart.
    Refused,
    /// The first; the parts are counted from the end.
    First,
    /// The last; the parts are counted from the beginning.
    Last,
}

/// The part of a text that goes to the field of this number, of so many fields. Null where there is none.
pub(super) fn split_part(value: &Value, separator: &str, part: usize, of: usize, rest: Rest) -> Result<Value> {
    let text = value.as_text().ok_or_else(|| failed(format!("`split` needs text; this is {}", value.kind())))?;
    if text.is_empty() {
        return Ok(Value::Null);
    }
    let found = match rest {
        Rest::Last => text.splitn(of, separator).nth(part),
        Rest::First => of.checked_sub(part + 1).and_then(|from_end| text.rsplitn(of, separator).nth(from_end)),
        Rest::Refused => {
            let parts: Vec<&str> = text.split(separator).collect();
            if parts.len() != of {
                let said = format!("the text has {} parts and there are {of} fields for them; say with `rest`", parts.len());
                return Err(failed(format!("{said} which of them takes what is left over")));
            }
            parts.get(part).copied()
        }
    };
    Ok(found.map_or(Value::Null, Value::text))
}

/// The parts of a list as one text. Refuses what could not be split again: a null, a part with the separator inside,
/// a list of one empty part.
pub(super) fn join(value: &Value, separator: &str) -> Result<Value> {
    let Value::Array(elements) = value else {
        return Err(failed(format!("`join` needs a list; this is {}", value.kind())));
    };
    let mut parts = Vec::with_capacity(elements.len());
    for element in elements {
        parts.push(element.to_plain_text().ok_or_else(|| failed(format!("`join` cannot write {}", element.kind())))?);
    }
    let joined = parts.join(separator);
    let again: Vec<&str> = if joined.is_empty() { Vec::new() } else { joined.split(separator).collect() };
    if again != parts {
        return Err(failed("`join`: a part holds the separator, or is empty, and could not be split again"));
    }
    Ok(Value::Text(joined))
}

/// Fields of the record as one text; nulls and fields that are not shown are left out; null when nothing is left.
pub(super) fn join_fields(record: &Record, fields: &[String], separator: &str) -> Result<Value> {
    let mut parts = Vec::with_capacity(fields.len());
    for value in fields.iter().filter_map(|field| record.get(field)).filter(|value| !value.is_null()) {
        parts.push(value.to_plain_text().ok_or_else(|| failed(format!("`join` cannot write {}", value.kind())))?);
    }
    if parts.is_empty() { Ok(Value::Null) } else { Ok(Value::Text(parts.join(separator))) }
}
