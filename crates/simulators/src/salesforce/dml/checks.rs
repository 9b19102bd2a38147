//! What a record must be before it is written: required fields, references that exist, unique values, validation rules,
//! duplicate rules. In the vendor's order; the first group that fails is what the client hears of.

use super::{Refused, Writer};
use crate::salesforce::errors::RecordError;
use crate::salesforce::record::Record;
use crate::salesforce::schema::{Field, Kind, Object, place};
use crate::salesforce::soql::bind::Binder;
use crate::salesforce::soql::filter::meets;
use crate::salesforce::soql::parse::Condition;
use crate::salesforce::values::Value;
use std::sync::Arc;

impl Writer<'_> {
    pub(super) fn check(&self, object: &Arc<Object>, old: Option<&Record>, record: &Record) -> Result<(), Refused> {
        required(object, record)?;
        self.references(object, old, record)?;
        self.validation(object, record)?;
        self.unique(object, old, record)?;
        self.duplicates(object, old, record)
    }

    fn references(&self, object: &Object, old: Option<&Record>, record: &Record) -> Result<(), Refused> {
        // Who created and changed it is written by the org itself, of its first user by that user.
        let set = |(at, field): &(usize, &Arc<Field>)| field.kind == Kind::Reference && *at > place::SYSTEM_MODSTAMP;
        for (at, field) in object.fields().filter(set) {
            let Some(id) = record.get(at).as_id() else { continue };
            if old.is_some_and(|old| old.get(at) == record.get(at)) {
                continue;
            }
            let target = self.data.schema.object_of(&id).filter(|target| field.reference_to.contains(&target.name));
            let Some(target) = target else {
                let message = format!("{}: id value of incorrect type: {id}", field.label);
                return Err(vec![RecordError::on("MALFORMED_ID", message, &field.name)]);
            };
            match self.data.store.get(&target.name, &id) {
                Some(parent) if parent.is_deleted() => {
                    return Err(vec![RecordError::new("ENTITY_IS_DELETED", "entity is deleted")]);
                }
                Some(_) => {}
                None => {
                    return Err(vec![RecordError::on("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", &field.name)]);
                }
            }
        }
        Ok(())
    }

    fn unique(&self, object: &Object, old: Option<&Record>, record: &Record) -> Result<(), Refused> {
        let Some(table) = self.data.store.table(&object.name) else { return Ok(()) };
        for (at, field) in object.fields().filter(|(_, field)| field.unique) {
            if old.is_some_and(|old| old.get(at) == record.get(at)) {
                continue;
            }
            let Some(key) = record.get(at).index_key(field.case_sensitive) else { continue };
            if let Some(other) = table.find(at, &key).iter().find(|id| **id != record.id) {
                let message =
                    format!("duplicate value found: {} duplicates value on record with id: {}", field.name, other.short());
                return Err(vec![RecordError::on("DUPLICATE_VALUE", message, &field.name)]);
            }
        }
        Ok(())
    }

    fn validation(&self, object: &Arc<Object>, record: &Record) -> Result<(), Refused> {
        let mine = self.rules.validation.iter().filter(|(spec, _)| spec.object.eq_ignore_ascii_case(&object.name));
        let failed = mine.filter(|(_, condition)| self.holds(object, record, condition));
        let errors: Vec<RecordError> = failed
            .map(|(spec, _)| RecordError {
                fields: spec.field.clone().into_iter().collect(),
                ..RecordError::new("FIELD_CUSTOM_VALIDATION_EXCEPTION", spec.message.clone())
            })
            .collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Whether a rule's condition is true of the record. A condition that does not fit the object is false.
    pub(super) fn holds(&self, object: &Arc<Object>, record: &Record, condition: &Condition) -> bool {
        let no_query = |_: &_| Ok(Vec::new());
        let binder = Binder { schema: &self.data.schema, now_ms: self.now_ms, inner: &no_query };
        binder.bind(object, condition).is_ok_and(|bound| meets(&self.data.store, object, record, &bound))
    }
}

fn required(object: &Object, record: &Record) -> Result<(), Refused> {
    let missing: Vec<String> = object
        .fields()
        .filter(|(at, field)| !field.nillable && field.createable && *record.get(*at) == Value::Null)
        .map(|(_, field)| field.name.clone())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!("Required fields are missing: [{}]", missing.join(", "));
    Err(vec![RecordError { fields: missing, ..RecordError::new("REQUIRED_FIELD_MISSING", message) }])
}
