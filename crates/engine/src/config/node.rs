//! A document as a tree in which everything knows where it was written.
//! The tree is the same whichever notation it came from; nothing here knows what the keys mean.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Where something was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) file: Arc<str>,
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) place: Place,
}

/// What kind of value.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Node>),
    Table(Table),
}

/// The entries of an object, in the order in which they were written. A key may stand in it twice until
/// [`Table::insert`] has made one of both.
pub(crate) type Table = Vec<Entry>;

/// A key with its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// Where the key stands: what messages about it point at.
    pub(crate) place: Place,
    pub(crate) value: Node,
}

impl Node {
    pub(crate) fn text(text: &str, place: Place) -> Node {
        Node { kind: Kind::Text(text.to_owned()), place }
    }

    pub(crate) fn table(entries: Table, place: Place) -> Node {
        Node { kind: Kind::Table(entries), place }
    }

    pub(crate) fn list(items: Vec<Node>, place: Place) -> Node {
        Node { kind: Kind::List(items), place }
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn as_table(&self) -> Option<&Table> {
        match &self.kind {
            Kind::Table(entries) => Some(entries),
            _ => None,
        }
    }

    pub(crate) fn as_table_mut(&mut self) -> Option<&mut Table> {
        match &mut self.kind {
            Kind::Table(entries) => Some(entries),
            _ => None,
        }
    }

    pub(crate) fn as_list_mut(&mut self) -> Option<&mut Vec<Node>> {
        match &mut self.kind {
            Kind::List(items) => Some(items),
            _ => None,
        }
    }

    /// The value behind a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.as_table()?.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// The kind in words, as messages name it.
    pub(crate) fn kind_in_words(&self) -> &'static str {
        match self.kind {
            Kind::Null => "null",
            Kind::Bool(_) => "true or false",
            Kind::Number(_) => "a number",
            Kind::Text(_) => "text",
            Kind::List(_) => "a list",
            Kind::Table(_) => "an object",
        }
    }

    /// Whether both say the same, wherever they stand; the order of keys does not count.
    pub(crate) fn says_the_same_as(&self, other: &Node) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::List(mine), Kind::List(theirs)) => {
                mine.len() == theirs.len() && mine.iter().zip(theirs).all(|(a, b)| a.says_the_same_as(b))
            }
            (Kind::Table(mine), Kind::Table(theirs)) => {
                mine.len() == theirs.len()
                    && mine.iter().all(|entry| other.get(&entry.key).is_some_and(|value| entry.value.says_the_same_as(value)))
            }
            (Kind::Null, Kind::Null) => true,
            (Kind::Bool(a), Kind::Bool(b)) => a == b,
            (Kind::Number(a), Kind::Number(b)) => a == b || a.as_f64() == b.as_f64(),
            (Kind::Text(a), Kind::Text(b)) => a == b,
            _ => false,
        }
    }

    /// The value without places. The last of two equal keys counts.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match &self.kind {
            Kind::Null => serde_json::Value::Null,
            Kind::Bool(value) => serde_json::Value::Bool(*value),
            Kind::Number(number) => serde_json::Value::Number(number.clone()),
            Kind::Text(text) => serde_json::Value::String(text.clone()),
            Kind::List(items) => serde_json::Value::Array(items.iter().map(Node::to_json).collect()),
            Kind::Table(entries) => {
                serde_json::Value::Object(entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect())
            }
        }
    }
}

/// Takes a key's entry out of a table.
pub(crate) fn take(table: &mut Table, key: &str) -> Option<Entry> {
    let place = table.iter().position(|entry| entry.key == key)?;
    Some(table.remove(place))
}

/// Appends one step to a JSON pointer, escaped as RFC 6901 asks.
pub(crate) fn step(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// Where each setting of the canonical form was written, by its JSON pointer (`/syncs/0/source/object`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Places(BTreeMap<String, Place>);

impl Places {
    /// Notes every place of a canonical tree.
    pub(crate) fn of(root: &Node) -> Places {
        let mut places = Places::default();
        places.note(root, String::new());
        places
    }

    fn note(&mut self, node: &Node, pointer: String) {
        match &node.kind {
            Kind::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.note(item, format!("{pointer}/{index}"));
                }
            }
            Kind::Table(entries) => {
                for entry in entries {
                    self.note(&entry.value, step(&pointer, &entry.key));
                }
            }
            _ => {}
        }
        self.0.insert(pointer, node.place.clone());
    }

    /// Where the setting at this pointer of the canonical form was written (`file:line:column`). For a setting that
    /// was not written (a default), the nearest thing around it that was.
    pub fn at(&self, pointer: &str) -> Option<String> {
        self.nearest(pointer).map(Place::to_string)
    }

    pub(crate) fn nearest(&self, mut pointer: &str) -> Option<&Place> {
        loop {
            if let Some(place) = self.0.get(pointer) {
                return Some(place);
            }
            pointer = pointer.rsplit_once('/')?.0;
        }
    }

    /// Whether the setting was written at all, in whatever form.
    pub fn written(&self, pointer: &str) -> bool {
        self.0.contains_key(pointer)
    }
}
