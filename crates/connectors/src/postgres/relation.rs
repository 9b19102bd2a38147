//! A table as the feed shows it at one place in the log: how its tuples become keys and images.
//! The queue may be older than the catalogue, so names and types come from the feed's own Relation message; the
//! catalogue only adds what that message does not say.

use super::names::quote;
use super::pgoutput::{Cell, Relation, Tuple};
use super::schema::Table;
use super::types::{self, TypeMap};
use concord_engine::change::Image;
use concord_engine::record::{FieldName, Key, ObjectName, Record};
use concord_engine::schema::{Field, Schema, Type};
use concord_engine::value::Value;
use std::sync::Arc;

/// A table as of a place in the log.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// The object.
    pub object: ObjectName,
    /// Its schema there.
    pub schema: Arc<Schema>,
    columns: Vec<DecodedColumn>,
    /// Places of the selected columns in a tuple, in the order of their names: a record's.
    selected: Vec<usize>,
    /// Places of the key's columns in a tuple, in the key's order.
    key: Vec<usize>,
    /// Selected fields that the feed does not carry (generated columns before PostgreSQL 18), or did not yet.
    not_carried: bool,
    /// Whether all of a row is told as it was before an update.
    tells_old_rows: bool,
    /// Whether an update may be shown by what it has changed alone.
    shows_parts: bool,
}

#[derive(Clone, Debug)]
struct DecodedColumn {
    name: FieldName,
    ty: Type,
}

/// A decoded row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its key.
    pub key: Key,
    /// The key before, if that was another.
    pub old_key: Option<Key>,
    /// What it shows.
    pub image: Image,
}

impl Decoder {
    /// Puts together what the feed and the catalogue say. `selected`: the fields that matter, empty for all.
    pub fn new(
        object: &ObjectName,
        relation: &Relation,
        types: &TypeMap,
        catalogue: Option<&Table>,
        selected: &[FieldName],
    ) -> Decoder {
        let schema = schema_as_of(object, relation, types, catalogue);
        let key: Vec<usize> = schema
            .key
            .iter()
            .filter_map(|name| relation.columns.iter().position(|column| column.name == name.as_str()))
            .collect();
        let matters = |name: &FieldName| selected.is_empty() || selected.contains(name) || schema.key.contains(name);
        let columns: Vec<DecodedColumn> = relation
            .columns
            .iter()
            .map(|column| {
                let name = FieldName::from(column.name.as_str());
                let ty = types::resolve(types, column.type_oid, column.type_modifier);
                DecodedColumn { name, ty }
            })
            .collect();
        let mut selected: Vec<(&FieldName, usize)> = columns
            .iter()
            .enumerate()
            .filter(|(_, column)| matters(&column.name))
            .map(|(at, column)| (&column.name, at))
            .collect();
        selected.sort_unstable();
        let selected = selected.into_iter().map(|(_, place)| place).collect();
        let carried = |field: &Field| columns.iter().any(|column| column.name == field.name);
        let not_carried = schema.fields.iter().any(|field| matters(&field.name) && !carried(field));
        let tells_old_rows = relation.replica_identity == b'f';
        let schema = Arc::new(schema);
        Decoder { object: object.clone(), schema, columns, selected, key, not_carried, tells_old_rows, shows_parts: false }
    }

    /// An update may be shown by the columns that it has changed, and the key, where the feed tells what they were before.
    pub fn showing_parts(mut self, so: bool) -> Decoder {
        self.shows_parts = so && self.tells_old_rows && self.has_key();
        self
    }

    /// Its rows are shown in part where a column of these names is not among theirs: it was made later, or is gone.
    pub fn showing_all_of(mut self, fields: &[FieldName]) -> Decoder {
        self.not_carried |= fields.iter().any(|name| !self.columns.iter().any(|column| column.name == *name));
        self
    }

    /// Whether its rows can be told apart.
    pub fn has_key(&self) -> bool {
        !self.key.is_empty()
    }

    /// Whether a cell shows an enumeration's label that the types known here do not have.
    pub fn meets_unknown_label(&self, tuple: &Tuple) -> bool {
        self.columns.iter().zip(tuple).any(|(column, cell)| match (&column.ty, cell) {
            (Type::Enum { labels }, Cell::Text(text)) => !labels.iter().any(|label| label.as_bytes() == text.as_ref()),
            _ => false,
        })
    }

    /// A row that was inserted or updated. `None`: its key cannot be told.
    pub fn row(&self, new: &Tuple, old: Option<&Tuple>) -> Option<Row> {
        let key = self.key_of(new, old)?;
        let old_key = old.and_then(|old| self.key_of(old, None)).filter(|old| *old != key);
        Some(Row { key, old_key, image: self.image(new, old)? })
    }

    /// What a row that was inserted or updated shows.
    pub fn image(&self, new: &Tuple, old: Option<&Tuple>) -> Option<Image> {
        // A record that moves is shown whole: a part of it would be put beside whatever is found under its old key.
        let stays = |old: &&Tuple| self.key_of(old, None) == self.key_of(new, Some(old));
        if let Some(old) = old.filter(|_| self.shows_parts).filter(stays) {
            return self.changed(new, old);
        }
        let mut complete = !self.not_carried;
        let mut fields = Vec::with_capacity(self.selected.len());
        for (place, column) in self.selected.iter().filter_map(|&place| Some((place, self.columns.get(place)?))) {
            // A whole old row has the value that the update left alone. An old key shows null for the rest, so it
            // counts only where it shows something.
            let before = old.and_then(|old| old.get(place)).filter(|cell| matches!(cell, Cell::Text(_)));
            match new.get(place) {
                None | Some(Cell::Unchanged) => match before {
                    Some(cell) => fields.push((column.name.clone(), value(&column.ty, cell)?)),
                    None => complete = false,
                },
                Some(cell) => fields.push((column.name.clone(), value(&column.ty, cell)?)),
            }
        }
        let record: Record = fields.into_iter().collect();
        Some(if complete { Image::Full(record) } else { Image::Partial(record) })
    }

    /// What an update of a row has changed, and the key.
    fn changed(&self, new: &Tuple, old: &Tuple) -> Option<Image> {
        let mut fields = Vec::new();
        for (place, column) in self.selected.iter().filter_map(|&place| Some((place, self.columns.get(place)?))) {
            let before = old.get(place)?;
            match new.get(place)? {
                Cell::Unchanged if !self.key.contains(&place) => {}
                Cell::Unchanged => fields.push((column.name.clone(), value(&column.ty, before)?)),
                // What its type prints alike is the same.
                cell if cell == before && !self.key.contains(&place) => {}
                cell => fields.push((column.name.clone(), value(&column.ty, cell)?)),
            }
        }
        Some(Image::Partial(fields.into_iter().collect()))
    }

    /// The key of a deleted row.
    pub fn deleted_key(&self, old: &Tuple) -> Option<Key> {
        self.key_of(old, None)
    }

    fn key_of(&self, tuple: &Tuple, fallback: Option<&Tuple>) -> Option<Key> {
        if self.key.is_empty() {
            return None;
        }
        let part = |place: &usize| {
            let column = self.columns.get(*place)?;
            let cell = match tuple.get(*place)? {
                Cell::Unchanged => fallback?.get(*place)?,
                cell => cell,
            };
            match value(&column.ty, cell)? {
                Value::Null => None,
                value => Some(value),
            }
        };
        self.key.iter().map(part).collect::<Option<Vec<Value>>>().map(Key)
    }
}

/// A cell's value; `None` only where there is none to show.
fn value(ty: &Type, cell: &Cell) -> Option<Value> {
    match cell {
        Cell::Null => Some(Value::Null),
        Cell::Unchanged => None,
        Cell::Text(bytes) => Some(match std::str::from_utf8(bytes) {
            Ok(text) => types::decode(ty, text),
            // The session's encoding is UTF-8, so the server does not send this; bytes are kept if it does.
            Err(_) => Value::Bytes(bytes.to_vec()),
        }),
    }
}

/// The schema at the place of a Relation message.
fn schema_as_of(object: &ObjectName, relation: &Relation, types: &TypeMap, catalogue: Option<&Table>) -> Schema {
    let mut fields: Vec<Field> = relation
        .columns
        .iter()
        .map(|column| {
            let ty = types::resolve(types, column.type_oid, column.type_modifier);
            let now = catalogue.and_then(|table| table.column(&column.name)).map(|column| &column.field);
            match now {
                Some(field) if field.ty == ty => field.clone(),
                _ => Field {
                    name: FieldName::from(column.name.as_str()),
                    native_type: types
                        .get(&column.type_oid)
                        .map_or_else(|| quote("unknown"), |info| types::named(&info.cast, column.type_oid, column.type_modifier)),
                    ty,
                    nullable: !column.in_identity,
                    creatable: true,
                    updatable: true,
                    has_default: false,
                    origin: None,
                },
            }
        })
        .collect();
    if let Some(table) = catalogue {
        let missing = |name: &FieldName| !relation.columns.iter().any(|column| column.name == name.as_str());
        let generated = table.columns.iter().filter(|column| column.generated && missing(&column.field.name));
        fields.extend(generated.map(|column| column.field.clone()));
    }
    let there = |set: &Vec<FieldName>| set.iter().all(|name| fields.iter().any(|field| field.name == *name));
    let sets = |pick: fn(&Schema) -> &Vec<Vec<FieldName>>| -> Vec<Vec<FieldName>> {
        catalogue.map(|table| pick(&table.schema).iter().filter(|set| there(set)).cloned().collect()).unwrap_or_default()
    };
    let (unique, indexes) = (sets(|schema| &schema.unique), sets(|schema| &schema.indexes));
    let key = key_as_of(relation, catalogue);
    Schema { object: object.clone(), fields, key, unique, indexes }
}

/// The key there: the catalogue's, as long as the feed's identity has the same columns (with `REPLICA IDENTITY FULL`
/// every column is flagged, and with an index those of the index, so the catalogue alone knows); else the columns that the
/// feed flags.
fn key_as_of(relation: &Relation, catalogue: Option<&Table>) -> Vec<FieldName> {
    let flagged: Vec<FieldName> =
        relation.columns.iter().filter(|column| column.in_identity).map(|column| FieldName::from(column.name.as_str())).collect();
    let now = catalogue.map(|table| table.schema.key.clone()).unwrap_or_default();
    let carried = now.iter().all(|name| flagged.contains(name));
    let whole_row = relation.replica_identity == b'f';
    // An index that is the identity may show more than the key.
    let is_more = relation.replica_identity == b'i';
    if !now.is_empty() && carried && (whole_row || is_more || now.len() == flagged.len()) {
        return now;
    }
    if whole_row { Vec::new() } else { flagged }
}

#[cfg(test)]
mod tests {
    use super::super::pgoutput::RelationColumn;
    use super::*;
    use bytes::Bytes;

    fn relation() -> Relation {
        let column =
            |name: &str, type_oid, in_identity| RelationColumn { in_identity, name: name.into(), type_oid, type_modifier: -1 };
        Relation {
            oid: 1,
            schema: "public".into(),
            table: "t".into(),
            replica_identity: b'd',
            columns: vec![column("id", 23, true), column("name", 25, false), column("note", 25, false)],
        }
    }

    fn text(value: &'static str) -> Cell {
        Cell::Text(Bytes::from_static(value.as_bytes()))
    }

    fn record(fields: &[(&str, Value)]) -> Record {
        fields.iter().map(|(name, value)| (FieldName::from(*name), value.clone())).collect()
    }

    fn decoder(selected: &[&str]) -> Decoder {
        let selected: Vec<FieldName> = selected.iter().map(|name| FieldName::from(*name)).collect();
        Decoder::new(&ObjectName::from("t"), &relation(), &TypeMap::new(), None, &selected)
    }

    #[test]
    fn a_value_that_an_update_left_alone_is_missing_and_not_null() {
        let row = decoder(&[]).row(&vec![text("7"), Cell::Null, Cell::Unchanged], None).unwrap();
        assert_eq!(row.image, Image::Partial(record(&[("id", Value::Int(7)), ("name", Value::Null)])));
        assert_eq!(row.old_key, None);
    }

    #[test]
    fn a_whole_old_row_fills_in_what_the_update_left_alone() {
        let old = vec![text("7"), text("a"), text("long")];
        let row = decoder(&[]).row(&vec![text("7"), text("b"), Cell::Unchanged], Some(&old)).unwrap();
        let expected = [("id", Value::Int(7)), ("name", Value::Text("b".into())), ("note", Value::Text("long".into()))];
        assert_eq!(row, Row { key: Key(vec![Value::Int(7)]), old_key: None, image: Image::Full(record(&expected)) });
    }

    #[test]
    fn where_the_old_row_is_told_what_an_update_has_changed_may_be_shown_alone() {
        let mut whole = relation();
        whole.replica_identity = b'f';
        whole.columns.iter_mut().for_each(|column| column.in_identity = true);
        let catalogue = super::super::schema::table_of_key(&["id"]);
        let of = |relation: &Relation| Decoder::new(&ObjectName::from("t"), relation, &TypeMap::new(), Some(&catalogue), &[]);
        let (old, new) = (vec![text("7"), text("a"), text("long")], vec![text("7"), text("b"), Cell::Unchanged]);
        let decoder = of(&whole).showing_parts(true);
        let changed = record(&[("id", Value::Int(7)), ("name", Value::Text("b".into()))]);
        assert_eq!(decoder.row(&new, Some(&old)).unwrap().image, Image::Partial(changed));
        let emptied = record(&[("id", Value::Int(7)), ("note", Value::Null)]);
        assert_eq!(decoder.row(&vec![text("7"), text("a"), Cell::Null], Some(&old)).unwrap().image, Image::Partial(emptied));
        // A record that moves is shown whole: what is found under its old key by now may be another one.
        let moved = decoder.row(&vec![text("8"), text("a"), Cell::Unchanged], Some(&old)).unwrap();
        let all = record(&[("id", Value::Int(8)), ("name", Value::Text("a".into())), ("note", Value::Text("long".into()))]);
        assert_eq!((moved.old_key, moved.image), (Some(Key(vec![Value::Int(7)])), Image::Full(all)));
        // What is new is shown in full, and so is everything where nobody said that parts will do, or an old key is all there is.
        assert!(matches!(decoder.row(&old, None).unwrap().image, Image::Full(_)));
        assert!(matches!(of(&whole).row(&new, Some(&old)).unwrap().image, Image::Full(_)));
        let by_key = vec![text("7"), Cell::Null, Cell::Null];
        assert!(matches!(self::decoder(&[]).showing_parts(true).row(&old, Some(&by_key)).unwrap().image, Image::Full(_)));
    }

    #[test]
    fn a_changed_key_shows_the_old_one_and_an_unselected_field_is_not_shown() {
        let old = vec![text("6"), Cell::Null, Cell::Null];
        let row = decoder(&["name"]).row(&vec![text("7"), text("b"), Cell::Unchanged], Some(&old)).unwrap();
        assert_eq!(row.old_key, Some(Key(vec![Value::Int(6)])));
        assert_eq!(row.image, Image::Full(record(&[("id", Value::Int(7)), ("name", Value::Text("b".into()))])));
    }

    #[test]
    fn an_identity_of_more_than_the_key_leaves_the_key_as_it_is() {
        let mut wide = relation();
        wide.columns[1].in_identity = true;
        let names = |key: Vec<FieldName>| key.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        let catalogue = super::super::schema::table_of_key(&["id"]);
        wide.replica_identity = b'i';
        assert_eq!(names(key_as_of(&wide, Some(&catalogue))), ["id"]);
        // The primary key itself has become another one.
        wide.replica_identity = b'd';
        assert_eq!(names(key_as_of(&wide, Some(&catalogue))), ["id", "name"]);
    }

    #[test]
    fn a_field_that_was_made_later_makes_what_is_shown_a_part() {
        let decoder = decoder(&["name", "later"]);
        let tuple = vec![text("7"), text("a"), text("long")];
        assert!(matches!(decoder.row(&tuple, None).unwrap().image, Image::Full(_)));
        let decoder = decoder.showing_all_of(&["name".into()]);
        assert!(matches!(decoder.row(&tuple, None).unwrap().image, Image::Full(_)));
        let decoder = decoder.showing_all_of(&["later".into()]);
        let shown = record(&[("id", Value::Int(7)), ("name", Value::Text("a".into()))]);
        assert_eq!(decoder.row(&tuple, None).unwrap().image, Image::Partial(shown));
    }

    #[test]
    fn without_a_key_no_row_can_be_told() {
        let mut keyless = relation();
        keyless.replica_identity = b'n';
        keyless.columns[0].in_identity = false;
        let decoder = Decoder::new(&ObjectName::from("t"), &keyless, &TypeMap::new(), None, &[]);
        assert!(!decoder.has_key());
        assert_eq!(decoder.row(&vec![text("7"), Cell::Null, Cell::Null], None), None);
    }
}
