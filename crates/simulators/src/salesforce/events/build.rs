//! From the changes of a transaction to its change events: which fields changed, which became null, which records can
//! share an event.

use super::platform::Published;
use super::shape::{Shape, ShapeField};
use crate::salesforce::ids::Id;
use crate::salesforce::record::Record;
use crate::salesforce::schema::{Object, Schema, place};
use crate::salesforce::store::Change;
use crate::salesforce::values::Value;
use std::sync::Arc;

/// Who changes something, and by what way: what becomes of it in `changeOrigin`.
#[derive(Clone, Debug)]
pub struct Author {
    pub user: Id,
    pub origin: String,
}

/// Texts of more characters than these are told by what differs.
const LARGE_CHARS: usize = 1_000;

/// What happened to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeType {
    Create,
    Update,
    Delete,
    Undelete,
    GapCreate,
    GapUpdate,
    GapDelete,
    GapUndelete,
    GapOverflow,
}

impl ChangeType {
    /// The symbols of the wire, in their order.
    pub const NAMES: [&'static str; 10] = [
        "CREATE",
        "UPDATE",
        "DELETE",
        "UNDELETE",
        "GAP_CREATE",
        "GAP_UPDATE",
        "GAP_DELETE",
        "GAP_UNDELETE",
        "GAP_OVERFLOW",
        "SNAPSHOT",
    ];

    /// The place among the symbols.
    pub fn symbol(self) -> u8 {
        match self {
            Self::Create => 0,
            Self::Update => 1,
            Self::Delete => 2,
            Self::Undelete => 3,
            Self::GapCreate => 4,
            Self::GapUpdate => 5,
            Self::GapDelete => 6,
            Self::GapUndelete => 7,
            Self::GapOverflow => 8,
        }
    }

    pub fn name(self) -> &'static str {
        Self::NAMES.get(usize::from(self.symbol())).copied().unwrap_or("UPDATE")
    }

    /// The gap event that stands for this one.
    pub fn gap(self) -> Self {
        match self {
            Self::Create => Self::GapCreate,
            Self::Delete => Self::GapDelete,
            Self::Undelete => Self::GapUndelete,
            _ => Self::GapUpdate,
        }
    }
}

/// A field of the shape, and a part of it where it is a compound of which only parts are meant.
pub type Part = (usize, Option<usize>);

/// Values of an event: per field of the shape, a plain value or the parts that it has.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Plain(usize, Value),
    Parts(usize, Vec<(usize, Value)>),
}

/// A change event.
#[derive(Clone, Debug)]
pub struct Event {
    pub replay_id: u64,
    pub event_id: String,
    pub entity: String,
    pub record_ids: Vec<String>,
    pub change: ChangeType,
    pub origin: String,
    pub transaction_key: String,
    pub sequence: i32,
    pub commit_ms: i64,
    pub commit_number: i64,
    pub user: String,
    pub shape: Arc<Shape>,
    pub body: Vec<Body>,
    pub changed: Vec<Part>,
    pub nulled: Vec<Part>,
    /// Large texts of which the body has what differs.
    pub differing: Vec<Part>,
    /// What a client has published; none in a change event.
    pub published: Option<Published>,
}

/// The events of a transaction, in its order, without the numbers that the log gives.
pub fn events(schema: &Schema, shape: &mut dyn FnMut(&Object) -> Arc<Shape>, author: &Author, changes: &[Change]) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    for change in changes {
        let Some(object) = schema.object(&change.object).filter(|object| object.change_events) else { continue };
        let Some(event) = event(object, shape, author, change) else { continue };
        let same = |known: &&mut Event| {
            matches!(event.change, ChangeType::Update | ChangeType::Delete)
                && known.entity == event.entity
                && known.change == event.change
                && known.body == event.body
                && known.changed == event.changed
                && known.nulled == event.nulled
                && known.differing == event.differing
        };
        match events.last_mut().filter(same) {
            Some(known) => known.record_ids.extend(event.record_ids),
            None => events.push(event),
        }
    }
    events
}

fn event(object: &Object, shape: &mut dyn FnMut(&Object) -> Arc<Shape>, author: &Author, change: &Change) -> Option<Event> {
    let old = change.old.as_deref().filter(|record| !record.is_deleted());
    let new = change.new.as_deref().filter(|record| !record.is_deleted());
    let was_binned = change.old.is_some() && old.is_none();
    let kind = match (old, new) {
        (None, Some(_)) if was_binned => ChangeType::Undelete,
        (None, Some(_)) => ChangeType::Create,
        (Some(_), Some(_)) => ChangeType::Update,
        (Some(_), None) => ChangeType::Delete,
        (None, None) => return None,
    };
    let shape = shape(object);
    let mut event = Event {
        replay_id: 0,
        event_id: String::new(),
        entity: object.name.clone(),
        record_ids: vec![change.id.to_string()],
        change: kind,
        origin: author.origin.clone(),
        transaction_key: String::new(),
        sequence: 0,
        commit_ms: 0,
        commit_number: 0,
        user: author.user.to_string(),
        body: Vec::new(),
        changed: Vec::new(),
        nulled: Vec::new(),
        differing: Vec::new(),
        published: None,
        shape: shape.clone(),
    };
    for (at, field) in shape.fields.iter().enumerate() {
        match (kind, old, new) {
            (ChangeType::Update, Some(old), Some(new)) => event.difference(at, field, old, new),
            (ChangeType::Create | ChangeType::Undelete, _, Some(new)) => event.body.extend(whole(at, field, new)),
            _ => {}
        }
    }
    if kind == ChangeType::Update && !event.changed.is_empty() {
        event.tell_stamp(new);
    }
    // A change of nothing that an event tells (a reference that was emptied beside it) is none.
    if kind == ChangeType::Update && event.changed.is_empty() { None } else { Some(event) }
}

fn is_large(text: &str) -> bool {
    text.chars().nth(LARGE_CHARS).is_some()
}

/// What differs, in the unified form: the lines that both begin and end with are left out.
fn difference(before: &str, after: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let begin = old.iter().zip(&new).take_while(|(one, other)| one == other).count();
    let most = old.len().min(new.len()) - begin;
    let end = old.iter().rev().zip(new.iter().rev()).take(most).take_while(|(one, other)| one == other).count();
    let (gone, come) = (old.get(begin..old.len() - end), new.get(begin..new.len() - end));
    let (gone, come) = (gone.unwrap_or_default(), come.unwrap_or_default());
    let mut text = format!("--- \n+++ \n@@ -{0},{1} +{0},{2} @@", begin + 1, gone.len(), come.len());
    for (sign, lines) in [('-', gone), ('+', come)] {
        for line in lines {
            text.push_str(&format!("\n{sign}{line}"));
        }
    }
    text
}

fn whole(at: usize, field: &ShapeField, record: &Record) -> Option<Body> {
    if field.parts.is_empty() {
        let value = record.get(field.place);
        return (!value.is_null()).then(|| Body::Plain(at, value.clone()));
    }
    let present = field.parts.iter().enumerate().filter_map(|(part, (_, place, _))| {
        let value = record.get((*place)?);
        (!value.is_null()).then(|| (part, value.clone()))
    });
    let parts: Vec<(usize, Value)> = present.collect();
    (!parts.is_empty()).then_some(Body::Parts(at, parts))
}

impl Event {
    /// An update tells its LastModifiedDate, even where two within a second have the same.
    fn tell_stamp(&mut self, new: Option<&Record>) {
        let place_in_shape = self.shape.fields.iter().position(|field| field.place == place::LAST_MODIFIED_DATE);
        let (Some(at), Some(new)) = (place_in_shape, new) else { return };
        if !self.changed.contains(&(at, None)) {
            self.changed.push((at, None));
            self.changed.sort_unstable();
            self.body.push(Body::Plain(at, new.get(place::LAST_MODIFIED_DATE).clone()));
        }
    }

    fn difference(&mut self, at: usize, field: &ShapeField, old: &Record, new: &Record) {
        if field.parts.is_empty() {
            if old.get(field.place) != new.get(field.place) {
                self.changed.push((at, None));
                match (old.get(field.place), new.get(field.place)) {
                    (_, Value::Null) => self.nulled.push((at, None)),
                    (Value::Text(before), Value::Text(after)) if is_large(before) && is_large(after) => {
                        self.differing.push((at, None));
                        self.body.push(Body::Plain(at, Value::text(&difference(before, after))));
                    }
                    (_, value) => self.body.push(Body::Plain(at, value.clone())),
                }
            }
            return;
        }
        let mut parts = Vec::new();
        let mut nulled = Vec::new();
        for (part, (_, place, _)) in field.parts.iter().enumerate() {
            let Some(place) = place else { continue };
            if old.get(*place) == new.get(*place) {
                continue;
            }
            self.changed.push((at, Some(part)));
            match new.get(*place) {
                Value::Null => nulled.push((at, Some(part))),
                value => parts.push((part, value.clone())),
            }
        }
        let empty = field.parts.iter().filter_map(|(_, place, _)| *place).all(|place| new.get(place).is_null());
        if empty && !nulled.is_empty() {
            // A compound that is null as a whole is named as a whole.
            self.changed.retain(|(field, _)| *field != at);
            self.changed.push((at, None));
            self.nulled.push((at, None));
        } else {
            self.nulled.extend(nulled);
        }
        if !parts.is_empty() {
            self.body.push(Body::Parts(at, parts));
        }
    }
}
