//! What a member was seen to show, and when: observations, their versions, times and marks.
//! Everything here is plain data in the system's own terms; nothing here decides anything.

use crate::clock::Moment;
use crate::record::{Key, ObjectName, Record};
use crate::schema::Type;
use crate::value::{TimestampTz, Value};
use serde::{Deserialize, Serialize};

/// A version of a record: the connector's own bytes, comparable only through
/// [`Connector::compare`](crate::connector::Connector::compare), which may answer "unknown".
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
pub struct Version(pub Vec<u8>);

/// A place in a feed: the connector's own bytes. It carries whatever the connector needs to notice, at the
/// next start, that the feed cannot be resumed there (invariant 1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
pub struct Position(pub Vec<u8>);

/// Our signature on a write, so that its echo can be known.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mark {
    /// The installation: the random id of the store that wrote.
    pub store: String,
    /// The sync that wrote. To another sync the same write is an edit.
    pub sync: String,
    /// The intent that the write belongs to; unique within the store.
    pub intent: u64,
    /// How many causal hops the write is deep: 0 for one that stems from a person's edit.
    pub hops: u32,
}

/// When a value was edited, as well as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditTime {
    /// The moment.
    pub at: Moment,
    /// How fine the stamp is, in microseconds: 1 for a commit time, 1,000,000 for whole seconds.
    pub granularity_micros: u32,
    /// Learnt by a read rather than from the feed: the edit was at some time before `at`.
    pub estimated: bool,
}

/// What a record looked like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Image {
    /// Every selected field.
    Full(Record),
    /// Some fields; the others are unknown, which is not the same as null.
    Partial(Record),
    /// The record is gone.
    Deleted,
}

impl Image {
    /// The fields shown; `None` when the record is gone.
    pub fn record(&self) -> Option<&Record> {
        match self {
            Image::Full(record) | Image::Partial(record) => Some(record),
            Image::Deleted => None,
        }
    }
}

/// What one member was seen to show for one record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// The object that holds the record.
    pub object: ObjectName,
    /// The record's key after the change. Of an object without a key: what the record shows, and the place where it was seen to do
    /// so; that tells two records apart, but finds none.
    pub key: Key,
    /// The key before the change, when the change was one of the key.
    pub old_key: Option<Key>,
    /// What it showed.
    pub image: Image,
    /// Whether the source told that this change made the record. `false` says nothing: it was another change, or it is not told.
    pub made: bool,
    /// The version that it showed.
    pub version: Version,
    /// When the change was made.
    pub time: EditTime,
    /// Whose write it was, if it is ours.
    pub mark: Option<Mark>,
}

impl Observation {
    /// That a read did not find a record: nobody tells when it went.
    pub fn absent(object: ObjectName, key: Key, version: Version, now: Moment) -> Observation {
        let time = EditTime { at: now, granularity_micros: 1, estimated: true };
        Observation { object, key, old_key: None, image: Image::Deleted, made: false, version, time, mark: None }
    }
}

/// The time that a field's value says, and how fine it is in microseconds; `None` for a value that is no time.
pub fn stamp(value: &Value, ty: Option<&Type>) -> Option<(Moment, u32)> {
    let granularity = match ty {
        Some(Type::TimestampTz { fraction_digits } | Type::Timestamp { fraction_digits }) => {
            10_u32.saturating_pow(u32::from(6_u8.saturating_sub((*fraction_digits).min(6))))
        }
        _ => 1,
    };
    let at = match value {
        Value::TimestampTz(stamp) => stamp.to_micros(),
        Value::Timestamp(stamp) => stamp.at_offset(0).and_then(TimestampTz::to_micros),
        _ => None,
    }?;
    Some((Moment(at), granularity))
}
