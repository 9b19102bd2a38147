//! The client's fields onto the record: names, rights, types, references by an external id. Every field is read before
//! the first refusal is given.

use super::{Refused, Writer};
use crate::salesforce::errors::RecordError;
use crate::salesforce::record::Record;
use crate::salesforce::rules::Event;
use crate::salesforce::schema::{Field, Object};
use crate::salesforce::values::Value;
use crate::salesforce::values::read::{Given, read};
use serde_json::Value as Json;
use std::sync::Arc;

/// What a client sent about one record, in its order.
pub type Fields = Vec<(String, Given)>;

impl Writer<'_> {
    pub(super) fn assign(&self, object: &Arc<Object>, record: &mut Record, fields: &Fields, event: Event) -> Result<(), Refused> {
        let mut errors = Vec::new();
        let mut read_only = Vec::new();
        for (name, given) in fields {
            if name.eq_ignore_ascii_case("attributes") || name.eq_ignore_ascii_case("Id") {
                continue;
            }
            if let Some((at, field, key, value)) = by_external_id(object, name, given) {
                match self.referred(&field, &key, &value) {
                    Ok(id) => record.set(at, id),
                    Err(error) => errors.push(error),
                }
                continue;
            }
            let Some((at, field)) = object.field(name) else {
                let message = format!("No such column '{name}' on sobject of type {}", object.name);
                errors.push(RecordError::new("INVALID_FIELD", message));
                continue;
            };
            let may = if event == Event::Insert { field.createable } else { field.updateable };
            if !may {
                read_only.push(field.name.clone());
                continue;
            }
            match read(field, given) {
                Ok(value) => record.set(at, value),
                Err(error) => errors.push(error),
            }
        }
        if !read_only.is_empty() {
            let message = format!(
                "Unable to create/update fields: {}. Please check the security settings of this field and verify that it is \
                 read/write for your profile or permission set.",
                read_only.join(", ")
            );
            errors.insert(0, RecordError { fields: read_only, ..RecordError::new("INVALID_FIELD_FOR_INSERT_UPDATE", message) });
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// The id of the record that has this external id.
    fn referred(&self, field: &Field, key: &str, value: &Given) -> Result<Value, RecordError> {
        let target = field.reference_to.first().and_then(|to| self.data.schema.object(to));
        let found = target.and_then(|target| {
            let (at, key) = target.field(key).filter(|(_, key)| key.id_lookup())?;
            let read = read(key, value).ok()?;
            if let Some(id) = read.as_id() {
                return Some(vec![id]);
            }
            let index = read.index_key(key.case_sensitive)?;
            Some(self.data.store.table(&target.name).map_or(Vec::new(), |table| table.find(at, &index).to_vec()))
        });
        match found.as_deref() {
            Some([id]) => Ok(Value::Id(*id)),
            _ => {
                let shown = match value {
                    Given::Cell(text) | Given::Json(Json::String(text)) => text.clone(),
                    Given::Json(other) => other.to_string(),
                    Given::Null => String::new(),
                };
                let entity = field.reference_to.first().cloned().unwrap_or_default();
                let message = format!("Foreign key external ID: {shown} not found for field {key} in entity {entity}");
                Err(RecordError::new("INVALID_FIELD", message))
            }
        }
    }
}

/// `"Account": {"Ext__c": "x"}` in JSON, `Account.Ext__c` in CSV: the reference field, the key's name, its value.
fn by_external_id(object: &Object, name: &str, given: &Given) -> Option<(usize, Arc<Field>, String, Given)> {
    if let Some((relationship, key)) = name.split_once('.') {
        let (at, field) = object.relationship(relationship)?;
        return Some((at, field.clone(), key.to_string(), given.clone()));
    }
    let Given::Json(Json::Object(keys)) = given else { return None };
    let (at, field) = object.relationship(name)?;
    let (key, value) = keys.iter().find(|(key, _)| *key != "attributes")?;
    Some((at, field.clone(), key.clone(), Given::Json(value.clone())))
}
