//! What a change event shows that comes as JSON: fields by their names, values as REST writes them. A field that changed and
//! of which no value is shown is read, unless the event says that it is null.

use super::event::{Change, Told, empty, is_part};
use super::schema::{FieldInfo, Kind};
use super::types;
use concord_engine::value::Value;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::{BTreeSet, HashMap};

/// The name under which the header stands among the fields.
const HEADER: &str = "ChangeEventHeader";

/// The header as JSON has it. What older versions leave out is empty.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Header {
    pub record_ids: Vec<String>,
    pub change_type: String,
    pub change_origin: String,
    pub commit_number: u64,
    pub sequence_number: i64,
    pub commit_timestamp: i64,
    changed_fields: Option<BTreeSet<String>>,
    nulled_fields: Option<BTreeSet<String>>,
    diff_fields: Option<BTreeSet<String>>,
}

/// The fields of an event.
#[derive(Clone, Debug)]
pub(super) struct Named {
    changed: BTreeSet<String>,
    nulled: BTreeSet<String>,
    differences: BTreeSet<String>,
    fields: HashMap<String, Box<RawValue>>,
}

/// Reads an event's header; the rest are its fields. `None` for what is no change event.
pub(super) fn read(mut fields: HashMap<String, Box<RawValue>>) -> Option<(Header, Named)> {
    let mut header: Header = serde_json::from_str(fields.remove(HEADER)?.get()).ok()?;
    let names = |list: &mut Option<BTreeSet<String>>| list.take().unwrap_or_default();
    let (changed, nulled) = (names(&mut header.changed_fields), names(&mut header.nulled_fields));
    let differences = names(&mut header.diff_fields);
    Some((header, Named { changed, nulled, differences, fields }))
}

impl Named {
    /// What the event says of a field of the object.
    pub fn tells(&self, change: Change, field: &FieldInfo) -> Told {
        let shows_all = change.shows_all();
        match &field.part_of {
            Some(whole) => self.part(shows_all, whole, field),
            None if field.composed => match shows_all || self.touches(&field.name) {
                true => Told::Read,
                false => Told::Nothing,
            },
            None if shows_all && field.name == "IsDeleted" => Told::Value(Value::Bool(false)),
            None if self.differences.contains(&field.name) => Told::Read,
            None => match self.fields.get(&field.name).map(|shown| (shown, shown.get() == "null")) {
                Some((shown, false)) => value(field, shown),
                Some((_, true)) if self.touches(&field.name) => empty(field),
                _ if shows_all || self.nulled.contains(&field.name) => empty(field),
                // It changed, and nothing says to what.
                None if self.touches(&field.name) => Told::Read,
                _ => Told::Nothing,
            },
        }
    }

    /// Whether a field is named, as a whole or in part.
    fn touches(&self, name: &str) -> bool {
        let is_it = |named: &String| named == name || named.split_once('.').is_some_and(|(whole, _)| whole == name);
        [&self.changed, &self.nulled, &self.differences].iter().any(|names| names.iter().any(is_it))
    }

    /// A part of a compound field, which is shown by its parts.
    fn part(&self, shows_all: bool, whole: &str, field: &FieldInfo) -> Told {
        let is_named = |names: &BTreeSet<String>| {
            names.iter().any(|name| name.split_once('.').is_some_and(|(of, part)| of == whole && is_part(&field.name, part)))
        };
        if self.differences.contains(whole) || is_named(&self.differences) {
            return Told::Read;
        }
        let shown = self.fields.get(whole);
        let parts: HashMap<String, Box<RawValue>> =
            shown.and_then(|shown| serde_json::from_str(shown.get()).ok()).unwrap_or_default();
        let part = parts.iter().find(|(name, _)| is_part(&field.name, name)).map(|(_, part)| part);
        let whole_is_null = self.nulled.contains(whole) || shown.is_some_and(|shown| shown.get() == "null");
        match part {
            Some(part) if part.get() != "null" => value(field, part),
            _ if shows_all || is_named(&self.nulled) => empty(field),
            _ if whole_is_null && self.touches(whole) => empty(field),
            Some(_) if self.touches(whole) => empty(field),
            // It, or what it is a part of, changed, and nothing says to what.
            None if is_named(&self.changed) || self.changed.contains(whole) => Told::Read,
            _ => Told::Nothing,
        }
    }
}

/// A number that may have more digits in the org than it shows is read.
fn value(field: &FieldInfo, shown: &RawValue) -> Told {
    let value = match field.kind {
        Kind::Decimal => types::from_digits(field, shown.get()),
        _ => types::decode(field, shown).ok(),
    };
    value.map_or(Told::Read, Told::Value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> (Header, Named) {
        read(serde_json::from_str(text).unwrap()).unwrap()
    }

    #[test]
    fn a_header_without_its_lists_is_read_and_one_that_is_missing_is_no_event() {
        let (header, named) = of(r#"{"Name": "x", "ChangeEventHeader": {"changeType": "CREATE", "recordIds": ["1"]}}"#);
        assert_eq!((header.change_type.as_str(), header.record_ids.len(), named.changed.len()), ("CREATE", 1, 0));
        assert!(read(serde_json::from_str(r#"{"Name": "x"}"#).unwrap()).is_none());
    }

    #[test]
    fn a_compound_is_touched_by_its_parts() {
        let (_, named) = of(r#"{"ChangeEventHeader": {"changedFields": ["BillingAddress.City", "Names"]}}"#);
        assert!(named.touches("BillingAddress") && named.touches("Names") && !named.touches("Name"));
    }
}
