//! Names, records and keys: what a system holds, in the system's own terms.
//! A [`Record`] says nothing of where it was seen or when; that is an observation (see `change`).

use crate::value::Value;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

macro_rules! names {
    ($( $(#[$doc:meta])* $name:ident )*) => { $(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                $name(Arc::from(text))
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                $name(Arc::from(text))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )* };
}

names! {
    /// The name that the user gave a connected system.
    SystemName
    /// What a system holds records in, spelt as its connector spells it (`public.accounts`).
    ObjectName
    /// A field of an object, exactly as the system spells it.
    FieldName
    /// The name of a sync.
    SyncName
    /// The name of a feed, unique within its system.
    FeedName
}

/// Fields and their values, in the order of the fields' names; no field twice.
/// A missing field is one that was not shown: partial knowledge, never a null.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Record(Vec<(FieldName, Value)>);

impl Record {
    /// A record that shows nothing.
    pub fn new() -> Record {
        Record(Vec::new())
    }

    /// The value of a field, or `None` when the field was not shown.
    pub fn get(&self, field: &str) -> Option<&Value> {
        let place = self.0.binary_search_by(|(name, _)| name.as_str().cmp(field)).ok()?;
        self.0.get(place).map(|(_, value)| value)
    }

    /// The value of a field, to be changed in its place.
    pub fn get_mut(&mut self, field: &str) -> Option<&mut Value> {
        let place = self.0.binary_search_by(|(name, _)| name.as_str().cmp(field)).ok()?;
        self.0.get_mut(place).map(|(_, value)| value)
    }

    /// Sets a field and gives back the value that it replaced.
    pub fn set(&mut self, field: FieldName, value: Value) -> Option<Value> {
        match self.0.binary_search_by(|(name, _)| name.cmp(&field)) {
            Ok(place) => self.0.get_mut(place).map(|(_, old)| std::mem::replace(old, value)),
            Err(place) => {
                self.0.insert(place, (field, value));
                None
            }
        }
    }

    /// Takes a field away.
    pub fn remove(&mut self, field: &str) -> Option<Value> {
        let place = self.0.binary_search_by(|(name, _)| name.as_str().cmp(field)).ok()?;
        Some(self.0.remove(place).1)
    }

    /// Whether the field was shown.
    pub fn has(&self, field: &str) -> bool {
        self.get(field).is_some()
    }

    /// Number of fields shown.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no field was shown.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// About how many bytes of data its values are.
    pub fn about_bytes(&self) -> u64 {
        self.0.iter().map(|(_, value)| value.about_bytes()).fold(0, u64::saturating_add)
    }

    /// Every field shown, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&FieldName, &Value)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// Puts every field of `newer` over this record.
    pub fn overlay(&mut self, newer: &Record) {
        for (field, value) in newer.iter() {
            self.set(field.clone(), value.clone());
        }
    }
}

impl FromIterator<(FieldName, Value)> for Record {
    /// The last of several values of one field counts.
    fn from_iter<I: IntoIterator<Item = (FieldName, Value)>>(fields: I) -> Record {
        let mut fields: Vec<(FieldName, Value)> = fields.into_iter().collect();
        if fields.is_sorted_by(|(a, _), (b, _)| a < b) {
            return Record(fields);
        }
        let mut record = Record(Vec::with_capacity(fields.len()));
        for (field, value) in fields.drain(..) {
            record.set(field, value);
        }
        record
    }
}

impl IntoIterator for Record {
    type Item = (FieldName, Value);
    type IntoIter = std::vec::IntoIter<(FieldName, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// The native primary key of a record: its columns' values in the order of the schema's `key`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Key(pub Vec<Value>);

impl Key {
    /// The key as bytes: each value in canonical form, length-prefixed, so that no two keys collide and
    /// equivalent keys (1 and 1.0 in a numeric key) are one. The store's indexes are made of this.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len().saturating_mul(24));
        for value in &self.0 {
            let prefix = bytes.len();
            bytes.extend_from_slice(&[0; size_of::<u32>()]);
            let begin = bytes.len();
            value.write_canonical(&mut bytes);
            let length = u32::try_from(bytes.len().saturating_sub(begin)).unwrap_or(u32::MAX);
            if let Some(place) = bytes.get_mut(prefix..begin) {
                place.copy_from_slice(&length.to_be_bytes());
            }
        }
        bytes
    }
}

impl fmt::Display for Key {
    /// One column as it is, several in parentheses: what people type to `concord explain`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => write!(f, "{one}"),
            many => {
                f.write_str("(")?;
                for (place, value) in many.iter().enumerate() {
                    if place > 0 {
                        f.write_str(",")?;
                    }
                    write!(f, "{value}")?;
                }
                f.write_str(")")
            }
        }
    }
}
