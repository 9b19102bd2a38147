//! What a system says of an object: fields, types, keys. Read from the system, never guessed from data.

use crate::record::{FieldName, ObjectName};
use serde::{Deserialize, Serialize};

/// The type of a field: what values it can hold, as far as it bears on carrying them exactly.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Type {
    /// True or false.
    Bool,
    /// A whole number of `bits` (8, 16, 24, 32, 64).
    Int {
        /// Width in bits.
        bits: u8,
        /// Whether it starts at zero.
        unsigned: bool,
    },
    /// A decimal number; `None` = no limit. `special`: whether NaN and the infinities can be held.
    Decimal {
        /// Digits in all.
        precision: Option<u32>,
        /// Digits behind the point (may be negative).
        scale: Option<i32>,
        /// Whether NaN (and, without limits, ±Infinity) can be held.
        special: bool,
    },
    /// A binary floating-point number of 32 or 64 bits.
    Float {
        /// Width in bits.
        bits: u8,
    },
    /// Text.
    Text {
        /// The most characters, if there is a limit.
        max_chars: Option<u32>,
        /// CHAR(n): padded with blanks that mean nothing.
        padded: bool,
        /// Whether a NUL character can be held.
        nul: bool,
        /// Whether the system keeps `''` apart from null.
        empty: bool,
    },
    /// Bytes.
    Bytes {
        /// The most bytes, if there is a limit.
        max_bytes: Option<u32>,
    },
    /// A day.
    Date,
    /// A time of day, with an offset from UTC when `zone`.
    Time {
        /// Digits of the second's fraction, 0 to 9.
        fraction_digits: u8,
        /// Whether it carries an offset.
        zone: bool,
    },
    /// A day and time without a zone.
    Timestamp {
        /// Digits of the second's fraction, 0 to 9.
        fraction_digits: u8,
    },
    /// A point in time.
    TimestampTz {
        /// Digits of the second's fraction, 0 to 9.
        fraction_digits: u8,
    },
    /// Months, days and a time.
    Interval {
        /// Digits of the second's fraction, 0 to 9.
        fraction_digits: u8,
    },
    /// A UUID.
    Uuid,
    /// A JSON document.
    Json,
    /// A list of values of one type (any number of dimensions).
    Array(Box<Type>),
    /// One of the labels.
    Enum {
        /// The labels, in the system's order.
        labels: Vec<String>,
    },
    /// The key of a record of another object.
    Reference {
        /// The object referred to.
        object: ObjectName,
    },
    /// A type that Concord does not know: carried as the system's own text form.
    Opaque {
        /// The system's name of the type.
        native: String,
    },
}

/// A field of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// The name, exactly as the system spells it.
    pub name: FieldName,
    /// The type.
    pub ty: Type,
    /// The system's own name of the type (`character varying(40)`), for messages.
    pub native_type: String,
    /// Whether it can be null.
    pub nullable: bool,
    /// Whether a value can be given when a record is created.
    pub creatable: bool,
    /// Whether a value can be changed afterwards.
    pub updatable: bool,
    /// Whether the system fills it when a create leaves it out (default, serial, identity).
    pub has_default: bool,
    /// What tells the field from another one that had, or will have, its name: a field that is dropped and made anew holds
    /// nothing of what the first one did. `None`: the system cannot tell.
    #[serde(default)]
    pub origin: Option<u32>,
}

/// An object's schema at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// The object.
    pub object: ObjectName,
    /// Its fields, in the system's order.
    pub fields: Vec<Field>,
    /// The fields of the primary key, in the key's order. Empty: there is none.
    pub key: Vec<FieldName>,
    /// Sets of fields that are unique (the key left out).
    pub unique: Vec<Vec<FieldName>>,
    /// Leading fields of every index, for index recommendations.
    pub indexes: Vec<Vec<FieldName>>,
}

impl Schema {
    /// The field of this name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name.as_str() == name)
    }

    /// A fingerprint of the schema, equal exactly when nothing about it changed.
    pub fn fingerprint(&self) -> u64 {
        let bytes = postcard::to_stdvec(self).unwrap_or_default();
        xxhash_rust::xxh3::xxh3_64(&bytes)
    }
}

/// A foreign key: fields of an object that name a record, which the system sees to that it is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignKey {
    /// The object of the records that are named; it may be the same one.
    pub object: ObjectName,
    /// Each of its fields, and the field over there whose value it has.
    pub fields: Vec<(FieldName, FieldName)>,
    /// Whether all of the fields have a value or none has; else a record names none where one of them has no value.
    pub all_or_none: bool,
    /// Whether every record has been held against it, and each change is.
    pub kept: bool,
}

/// The foreign keys of an object, and the others that name its records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignKeys {
    /// Its own.
    pub own: Vec<ForeignKey>,
    /// Other objects that have some which name its records.
    pub of: Vec<ObjectName>,
}

impl ForeignKeys {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.of.is_empty()
    }
}

/// An object and the fields of it that matter to somebody. An empty list means all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// The object.
    pub object: ObjectName,
    /// The fields wanted; key fields are shown in any case.
    pub fields: Vec<FieldName>,
}
