//! One record: its values in the order of its object's fields. Immutable once shared; a change makes a new one, so that
//! an open query keeps what it saw.

use super::ids::Id;
use super::schema::place;
use super::values::Value;
use std::sync::Arc;

/// A record.
#[derive(Clone, Debug)]
pub struct Record {
    pub id: Id,
    values: Vec<Value>,
}

impl Record {
    /// A record without values.
    pub fn new(id: Id, width: usize) -> Self {
        let mut record = Self { id, values: vec![Value::Null; width] };
        record.set(place::ID, Value::Id(id));
        record.set(place::IS_DELETED, Value::Bool(false));
        record
    }

    /// The value at a place; null where the field is younger than the record.
    pub fn get(&self, place: usize) -> &Value {
        self.values.get(place).unwrap_or(&Value::Null)
    }

    /// Replaces the value at a place.
    pub fn set(&mut self, place: usize, value: Value) {
        if place >= self.values.len() {
            self.values.resize(place + 1, Value::Null);
        }
        if let Some(slot) = self.values.get_mut(place) {
            *slot = value;
        }
    }

    /// Lies in the bin.
    pub fn is_deleted(&self) -> bool {
        *self.get(place::IS_DELETED) == Value::Bool(true)
    }

    /// Its SystemModstamp.
    pub fn stamp_ms(&self) -> i64 {
        self.get(place::SYSTEM_MODSTAMP).as_datetime().unwrap_or(0)
    }
}

/// A record as it is shared.
pub type Shared = Arc<Record>;
