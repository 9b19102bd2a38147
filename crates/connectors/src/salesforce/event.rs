//! A change event: what its header says, which fields it shows, which it leaves unsaid. Positions in the header's bitmaps
//! are those of the event's own schema; what they mean for a record is told by the object's description.
//! <https://developer.salesforce.com/docs/atlas.en-us.change_data_capture.meta/change_data_capture/cdc_event_fields_header.htm>

use super::avro::{Datum, Odd, Schema};
use super::named::{self, Named};
use super::schema::FieldInfo;
use super::types;
use concord_engine::value::Value;
use serde_json::value::RawValue;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Create,
    Update,
    Delete,
    Undelete,
    /// Something changed that the event does not show: the records are to be read.
    Gap,
    /// Records are gone; nothing else is told.
    GapDelete,
    /// So much changed at once that no record is named.
    Overflow,
}

impl Change {
    fn named(name: &str) -> Change {
        match name {
            "CREATE" => Change::Create,
            "UPDATE" => Change::Update,
            "DELETE" => Change::Delete,
            "UNDELETE" => Change::Undelete,
            "GAP_DELETE" => Change::GapDelete,
            "GAP_OVERFLOW" => Change::Overflow,
            // What is not known by name is looked at rather than passed over.
            _ => Change::Gap,
        }
    }

    /// Whether every field that the event can show is shown: the others are null.
    pub fn shows_all(self) -> bool {
        matches!(self, Change::Create | Change::Undelete)
    }
}

/// A change event.
#[derive(Clone, Debug)]
pub(super) struct ChangeEvent {
    pub change: Change,
    pub ids: Vec<String>,
    pub origin: String,
    pub commit: u64,
    pub sequence: i64,
    pub commit_ms: i64,
    fields: Fields,
}

/// The fields, in the form in which they came.
#[derive(Clone, Debug)]
enum Fields {
    Placed(Placed),
    Named(Named),
}

/// Fields by their place in a schema.
#[derive(Clone, Debug)]
struct Placed {
    schema: Arc<Schema>,
    changed: Places,
    nulled: Places,
    differences: Places,
    body: Vec<Datum>,
}

/// Fields by their place: a top-level one, or a part of a compound one.
type Places = BTreeSet<(usize, Option<usize>)>;

/// What an event says of one field.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Told {
    /// This is its value now.
    Value(Value),
    /// It did not change, or the event cannot say.
    Nothing,
    /// It changed; only a read can say to what.
    Read,
}

impl ChangeEvent {
    /// Reads an event whose fields come by their names.
    pub fn read_named(payload: HashMap<String, Box<RawValue>>) -> Result<ChangeEvent, Odd> {
        let (header, fields) = named::read(payload).ok_or(Odd::Malformed)?;
        Ok(ChangeEvent {
            change: Change::named(&header.change_type),
            ids: header.record_ids,
            origin: header.change_origin,
            commit: header.commit_number,
            sequence: header.sequence_number,
            commit_ms: header.commit_timestamp,
            fields: Fields::Named(fields),
        })
    }

    /// Reads an event whose fields come by their places.
    pub fn read(schema: &Arc<Schema>, payload: &[u8]) -> Result<ChangeEvent, Odd> {
        let body = schema.decode(payload)?;
        let Some(Datum::Record(place, header)) = body.first() else { return Err(Odd::Malformed) };
        let names = schema.fields_of(*place).iter().map(|field| field.name.as_str());
        let header: HashMap<&str, &Datum> = names.zip(header).collect();
        let text = |name: &str| match header.get(name) {
            Some(Datum::Text(text)) => text.as_str(),
            _ => "",
        };
        let number = |name: &str| match header.get(name) {
            Some(Datum::Number(number)) => *number,
            _ => 0,
        };
        let list = |name: &str| match header.get(name) {
            Some(Datum::Array(items)) => items.iter().filter_map(as_text).collect(),
            _ => Vec::new(),
        };
        Ok(ChangeEvent {
            change: Change::named(text("changeType")),
            ids: list("recordIds").into_iter().map(str::to_owned).collect(),
            origin: text("changeOrigin").to_owned(),
            commit: u64::try_from(number("commitNumber")).unwrap_or(0),
            sequence: number("sequenceNumber"),
            commit_ms: number("commitTimestamp"),
            fields: Fields::Placed(Placed {
                schema: Arc::clone(schema),
                changed: places(&list("changedFields"))?,
                nulled: places(&list("nulledFields"))?,
                differences: places(&list("diffFields"))?,
                body,
            }),
        })
    }

    /// The name that the writer gave itself, if it did.
    pub fn client(&self) -> Option<&str> {
        self.origin.split(';').find_map(|part| part.trim().strip_prefix("client="))
    }

    /// What the event says of a field of the object.
    pub fn tells(&self, field: &FieldInfo) -> Told {
        match &self.fields {
            Fields::Placed(placed) => placed.tells(self.change, field),
            Fields::Named(named) => named.tells(self.change, field),
        }
    }
}

impl Placed {
    fn tells(&self, change: Change, field: &FieldInfo) -> Told {
        let shows_all = change.shows_all();
        let top = |name: &str| self.schema.fields().iter().position(|one| one.name == name);
        match &field.part_of {
            Some(whole) => match top(whole) {
                Some(place) => self.part(shows_all, place, field),
                None => Told::Nothing,
            },
            None if field.composed => match top(&field.name) {
                Some(place) if shows_all || self.touches(place) => Told::Read,
                _ => Told::Nothing,
            },
            None => match top(&field.name) {
                Some(place) => self.plain(shows_all, place, field),
                None if shows_all && field.name == "IsDeleted" => Told::Value(Value::Bool(false)),
                // The topic never shows it, so that its silence says nothing: somebody may have changed it with the rest.
                None if field.field.updatable => Told::Read,
                None => Told::Nothing,
            },
        }
    }

    fn touches(&self, place: usize) -> bool {
        [&self.changed, &self.nulled, &self.differences].iter().any(|set| set.iter().any(|(top, _)| *top == place))
    }

    fn plain(&self, shows_all: bool, place: usize, field: &FieldInfo) -> Told {
        if self.differences.contains(&(place, None)) {
            return Told::Read;
        }
        match self.body.get(place) {
            None | Some(Datum::Null) if shows_all || self.nulled.contains(&(place, None)) => empty(field),
            None | Some(Datum::Null) => Told::Nothing,
            Some(datum) => value(field, datum),
        }
    }

    /// A part of a compound field: the part's own bit counts, and the whole's where the whole is null.
    fn part(&self, shows_all: bool, place: usize, field: &FieldInfo) -> Told {
        let schema = &self.schema;
        let Some(record) = schema.fields().get(place).and_then(|whole| schema.record_in(whole)) else { return Told::Nothing };
        let Some(within) = schema.fields_of(record).iter().position(|part| is_part(&field.name, &part.name)) else {
            return Told::Nothing;
        };
        if self.differences.contains(&(place, Some(within))) {
            return Told::Read;
        }
        let shown = match self.body.get(place) {
            Some(Datum::Record(_, parts)) => parts.get(within).filter(|part| **part != Datum::Null),
            _ => None,
        };
        match shown {
            Some(datum) => value(field, datum),
            None if shows_all || self.nulled.contains(&(place, None)) || self.nulled.contains(&(place, Some(within))) => {
                empty(field)
            }
            None => Told::Nothing,
        }
    }
}

/// `BillingStreet` is the part `Street`, `Spot__Latitude__s` the part `Latitude`, `LastName` itself.
pub(super) fn is_part(field: &str, part: &str) -> bool {
    field.trim_end_matches("__s").ends_with(part)
}

fn as_text(datum: &Datum) -> Option<&str> {
    match datum {
        Datum::Text(text) => Some(text),
        _ => None,
    }
}

/// What a field shows that is null.
pub(super) fn empty(field: &FieldInfo) -> Told {
    Told::Value(match field.kind {
        super::schema::Kind::Bool => Value::Bool(false),
        _ => Value::Null,
    })
}

fn value(field: &FieldInfo, datum: &Datum) -> Told {
    let value = match datum {
        Datum::Bool(flag) => Some(Value::Bool(*flag)),
        Datum::Number(number) => types::from_long(field, *number),
        Datum::Double(number) => types::from_double(field, *number),
        Datum::Text(text) => types::from_event_text(field, text),
        _ => None,
    };
    value.map_or(Told::Read, Told::Value)
}

/// Bitmaps as places: `0x…` for top-level fields, `7-0x…` for the parts of the field at 7. Bit 0 is the last digit's lowest.
fn places(bitmaps: &[&str]) -> Result<Places, Odd> {
    let mut places = Places::new();
    for bitmap in bitmaps {
        let (parent, digits) = match bitmap.split_once('-') {
            Some((parent, digits)) => (Some(parent.parse::<usize>().map_err(|_| Odd::Malformed)?), digits),
            None => (None, *bitmap),
        };
        let digits = digits.strip_prefix("0x").ok_or(Odd::Malformed)?;
        for (from_end, digit) in digits.chars().rev().enumerate() {
            let bits = digit.to_digit(16).ok_or(Odd::Malformed)?;
            for bit in (0..4_usize).filter(|bit| bits >> bit & 1 == 1) {
                let place = from_end * 4 + bit;
                places.insert(match parent {
                    Some(parent) => (parent, Some(place)),
                    None => (place, None),
                });
            }
        }
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitmaps_name_fields_from_the_end() {
        let found = places(&["0xE0", "3-0x04"]).unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [(3, Some(2)), (5, None), (6, None), (7, None)]);
        let documented = places(&["0x650004E0", "4-0x10", "7-0x06"]).unwrap();
        assert!(documented.contains(&(30, None)) && documented.contains(&(4, Some(4))) && documented.contains(&(7, Some(1))));
        assert_eq!(places(&["E0"]), Err(Odd::Malformed));
    }

    #[test]
    fn what_a_topic_never_shows_is_read_where_it_can_be_edited() {
        let json = r#"{"type": "record", "name": "AccountChangeEvent", "fields": [
            {"name": "Name", "type": ["null", "string"], "default": null}]}"#;
        let placed = Placed {
            schema: Arc::new(Schema::parse(json).unwrap()),
            body: vec![Datum::Null],
            changed: BTreeSet::new(),
            nulled: BTreeSet::new(),
            differences: BTreeSet::new(),
        };
        let described = |name: &str, updateable: bool| {
            FieldInfo::described(&format!(r#"{{"name": "{name}", "type": "string", "length": 80, "updateable": {updateable}}}"#))
        };
        for (field, told) in [
            (described("Name", true), Told::Nothing),
            (described("Secret__c", true), Told::Read),
            (described("Formula__c", false), Told::Nothing),
        ] {
            assert_eq!(placed.tells(Change::Update, &field), told, "{}", field.name);
        }
    }

    #[test]
    fn parts_are_known_by_the_end_of_their_names() {
        assert!(
            is_part("BillingStreet", "Street") && is_part("Spot__Latitude__s", "Latitude") && is_part("LastName", "LastName")
        );
        assert!(!is_part("BillingStateCode", "State"));
    }
}
