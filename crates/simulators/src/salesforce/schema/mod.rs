//! What objects and fields there are: the org's metadata, standard and custom. Owns names, types and attributes; knows
//! no records. Fields are added at run time at the end, so that a record's values keep their places.

mod field;
mod file;

pub use field::{Field, Kind, Picklist};
pub use file::SchemaFile;

use std::collections::HashMap;
use std::sync::Arc;

/// The fields that every object has, in front of its own.
#[cfg(test)]
pub const SYSTEM_FIELDS: [&str; 7] =
    ["Id", "IsDeleted", "CreatedDate", "CreatedById", "LastModifiedDate", "LastModifiedById", "SystemModstamp"];

/// Places of the fields that every object has: see [`SYSTEM_FIELDS`].
pub mod place {
    pub const ID: usize = 0;
    pub const IS_DELETED: usize = 1;
    pub const CREATED_DATE: usize = 2;
    pub const CREATED_BY: usize = 3;
    pub const LAST_MODIFIED_DATE: usize = 4;
    pub const LAST_MODIFIED_BY: usize = 5;
    pub const SYSTEM_MODSTAMP: usize = 6;
}

/// One kind of record.
#[derive(Clone, Debug)]
pub struct Object {
    pub name: String,
    pub label: String,
    pub label_plural: String,
    pub key_prefix: String,
    pub custom: bool,
    /// Change Data Capture is switched on for it.
    pub change_events: bool,
    /// Two records can be merged into one.
    pub mergeable: bool,
    /// When its description last changed.
    pub modified_ms: i64,
    fields: Vec<Arc<Field>>,
    by_name: HashMap<String, usize>,
}

impl Object {
    /// The fields that exist now, each with the place of its value in a record.
    pub fn fields(&self) -> impl Iterator<Item = (usize, &Arc<Field>)> {
        self.fields.iter().enumerate().filter(|(_, field)| !field.removed)
    }

    /// How many values a record has, those of removed fields counted.
    pub fn width(&self) -> usize {
        self.fields.len()
    }

    /// A field by name, in any case.
    pub fn field(&self, name: &str) -> Option<(usize, &Arc<Field>)> {
        let place = *self.by_name.get(&name.to_ascii_lowercase())?;
        self.fields.get(place).filter(|field| !field.removed).map(|field| (place, field))
    }

    /// The field of a reference by the name of its relationship (`Owner`, `Parent__r`), in any case.
    pub fn relationship(&self, name: &str) -> Option<(usize, &Arc<Field>)> {
        self.fields().find(|(_, field)| field.relationship_name.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(name)))
    }

    /// The field at a place.
    pub fn at(&self, place: usize) -> Option<&Arc<Field>> {
        self.fields.get(place)
    }

    /// The parts of a compound field.
    pub fn parts<'a>(&'a self, compound: &'a str) -> impl Iterator<Item = (usize, &'a Arc<Field>)> {
        self.fields().filter(move |(_, field)| field.compound.as_deref() == Some(compound))
    }

    /// Adds a field, or brings a removed one of the same name back in its new form.
    pub fn add_field(&mut self, field: Field) {
        let key = field.name.to_ascii_lowercase();
        match self.by_name.get(&key).and_then(|place| self.fields.get_mut(*place)) {
            Some(slot) => *slot = Arc::new(field),
            None => {
                self.by_name.insert(key, self.fields.len());
                self.fields.push(Arc::new(field));
            }
        }
    }

    /// Hides a field. False where there is none of that name.
    pub fn remove_field(&mut self, name: &str) -> bool {
        let place = self.by_name.get(&name.to_ascii_lowercase());
        match place.and_then(|place| self.fields.get_mut(*place)) {
            Some(slot) if !slot.removed => {
                Arc::make_mut(slot).removed = true;
                true
            }
            _ => false,
        }
    }
}

/// Every object of the org.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    objects: Vec<Arc<Object>>,
    by_name: HashMap<String, usize>,
}

impl Schema {
    /// The objects in the order in which they came.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.iter()
    }

    /// An object by name, in any case.
    pub fn object(&self, name: &str) -> Option<&Arc<Object>> {
        self.objects.get(*self.by_name.get(&name.to_ascii_lowercase())?)
    }

    /// The object whose ids begin so.
    pub fn object_of(&self, id: &super::ids::Id) -> Option<&Arc<Object>> {
        let prefix = id.prefix();
        self.objects.iter().find(|object| object.key_prefix == prefix)
    }

    /// Adds an object or replaces the one of that name.
    pub fn put(&mut self, object: Object) {
        let key = object.name.to_ascii_lowercase();
        match self.by_name.get(&key).and_then(|at| self.objects.get_mut(*at)) {
            Some(slot) => *slot = Arc::new(object),
            None => {
                self.by_name.insert(key, self.objects.len());
                self.objects.push(Arc::new(object));
            }
        }
    }

    /// What refers to `parent`: (child object, its reference field), for those that have a name for their children.
    pub fn children<'a>(&'a self, parent: &'a str) -> impl Iterator<Item = (&'a Arc<Object>, &'a Arc<Field>)> {
        self.objects.iter().flat_map(move |object| {
            let refers = move |field: &&Arc<Field>| field.reference_to.iter().any(|to| to == parent);
            object.fields().map(|(_, field)| field).filter(refers).map(move |field| (object, field))
        })
    }
}
