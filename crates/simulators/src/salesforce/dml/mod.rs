//! Writing: insert, update, upsert, delete, undelete, merge, with everything that happens around a save in the order in
//! which the vendor does it. One `Writer` is one transaction; a record that is refused leaves nothing behind.

mod assign;
mod builtin;
mod checks;
mod duplicates;
mod merge;
mod remove;
mod triggers;

use super::errors::RecordError;
use super::events::Author;
use super::ids::Id;
use super::record::{Record, Shared};
use super::rules::{Event, OnDuplicates, Rules};
use super::schema::{Object, place};
use super::state::Data;
use super::store::Transaction;
use super::values::read::Given;
use super::values::{Value, time};
use std::sync::Arc;

pub use assign::Fields;
pub use remove::empty_bin;

/// Why a record was refused.
pub type Refused = Vec<RecordError>;

/// Asks whether a test wants this record refused: (object, id if it exists).
pub type RecordFaults<'a> = &'a dyn Fn(&str, Option<Id>) -> Option<RecordError>;

/// A transaction under way.
pub struct Writer<'a> {
    pub data: &'a mut Data,
    pub rules: &'a Rules,
    pub author: &'a Author,
    pub now_ms: i64,
    /// How the client takes records that look alike.
    pub on_duplicates: OnDuplicates,
    pub faults: RecordFaults<'a>,
    transaction: Transaction,
}

impl<'a> Writer<'a> {
    pub fn new(data: &'a mut Data, rules: &'a Rules, author: &'a Author, now_ms: i64, faults: RecordFaults<'a>) -> Self {
        let now_ms = time::whole_seconds(now_ms);
        Self { data, rules, author, now_ms, on_duplicates: OnDuplicates::default(), faults, transaction: Transaction::default() }
    }

    /// Creates a record.
    pub fn insert(&mut self, object: &Arc<Object>, fields: &Fields) -> Result<Id, Refused> {
        self.whole(|writer| {
            writer.ask_faults(object, None)?;
            if fields.iter().any(|(name, given)| name.eq_ignore_ascii_case("Id") && !is_nothing(given)) {
                return Err(refused("INVALID_FIELD_FOR_INSERT_UPDATE", "cannot specify Id in an insert call"));
            }
            let id = writer.data.store.new_id(object);
            let mut record = Record::new(id, object.width());
            record.set(place::CREATED_DATE, Value::DateTime(writer.now_ms));
            record.set(place::CREATED_BY, Value::Id(writer.author.user));
            builtin::defaults(object, &mut record, writer.author.user);
            writer.number(object, &mut record);
            writer.save(object, None, record, fields)
        })
    }

    /// Changes a record.
    pub fn update(&mut self, object: &Arc<Object>, id: Id, fields: &Fields) -> Result<Id, Refused> {
        self.whole(|writer| {
            writer.ask_faults(object, Some(id))?;
            let old = writer.live(object, id)?;
            let record = old.as_ref().clone();
            writer.save(object, Some(&old), record, fields)
        })
    }

    /// Creates a record or changes the one that has this value in the field. True: created.
    pub fn upsert(&mut self, object: &Arc<Object>, key: &str, value: &Given, fields: &Fields) -> Result<(Id, bool), Refused> {
        let (at, field) = object.field(key).filter(|(_, field)| field.id_lookup()).ok_or_else(|| {
            let message = format!("Field name provided, {key} is not an External ID or indexed field for {}", object.name);
            refused("INVALID_FIELD", &message)
        })?;
        let read = super::values::read::read(field, value).map_err(|error| vec![error])?;
        if at == place::ID {
            return match read.as_id() {
                Some(id) => self.update(object, id, fields).map(|id| (id, false)),
                None => self.insert(object, fields).map(|id| (id, true)),
            };
        }
        let Some(index_key) = read.index_key(field.case_sensitive) else {
            return Err(refused("MISSING_ARGUMENT", &format!("{} not specified", field.name)));
        };
        let table = self.data.store.table(&object.name);
        match table.map_or(&[][..], |table| table.find(at, &index_key)) {
            [] => {
                let mut fields = fields.clone();
                fields.retain(|(name, _)| !name.eq_ignore_ascii_case(&field.name));
                fields.push((field.name.clone(), value.clone()));
                self.insert(object, &fields).map(|id| (id, true))
            }
            [id] => {
                let id = *id;
                self.update(object, id, fields).map(|id| (id, false))
            }
            several => {
                let list: Vec<String> = several.iter().map(|id| format!("'{id}'")).collect();
                let message = format!("{}: more than one record found for external id field: [{}]", field.name, list.join(", "));
                Err(vec![RecordError::on("DUPLICATE_EXTERNAL_ID", message, &field.name)])
            }
        }
    }

    /// A point to which [`Writer::take_back`] goes back.
    pub fn point(&self) -> usize {
        self.transaction.point()
    }

    /// Takes back everything since the point.
    pub fn take_back(&mut self, point: usize) {
        self.transaction.take_back(&mut self.data.store, &self.data.schema, point);
    }

    /// Goes on with a transaction that was begun elsewhere.
    pub fn resume(&mut self, transaction: Transaction) {
        self.transaction = transaction;
    }

    /// The transaction, neither ended nor taken back.
    pub fn into_transaction(self) -> Transaction {
        self.transaction
    }

    /// Runs a step; what it did is taken back when it fails.
    fn whole<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T, Refused>) -> Result<T, Refused> {
        let point = self.point();
        let result = step(self);
        if result.is_err() {
            self.take_back(point);
        }
        result
    }

    fn ask_faults(&self, object: &Object, id: Option<Id>) -> Result<(), Refused> {
        (self.faults)(&object.name, id).map_or(Ok(()), |error| Err(vec![error]))
    }

    /// A record that is not in the bin.
    fn live(&self, object: &Object, id: Id) -> Result<Shared, Refused> {
        let wrong_object = id.prefix() != object.key_prefix;
        match self.data.store.get(&object.name, &id) {
            Some(record) if record.is_deleted() => Err(refused("ENTITY_IS_DELETED", "entity is deleted")),
            Some(record) => Ok(record.clone()),
            None if wrong_object => {
                Err(refused("MALFORMED_ID", &format!("{} ID: id value of incorrect type: {id}", object.label)))
            }
            None => Err(refused("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id")),
        }
    }

    fn put(&mut self, object: &Object, record: Record) {
        let id = record.id;
        self.transaction.put(&mut self.data.store, object, id, Some(Arc::new(record)));
    }

    fn stamp(&self, record: &mut Record) {
        record.set(place::LAST_MODIFIED_DATE, Value::DateTime(self.now_ms));
        record.set(place::LAST_MODIFIED_BY, Value::Id(self.author.user));
        record.set(place::SYSTEM_MODSTAMP, Value::DateTime(self.now_ms));
    }

    fn number(&mut self, object: &Object, record: &mut Record) {
        let numbered: Vec<(usize, String)> =
            object.fields().filter_map(|(at, field)| field.auto_number.clone().map(|pattern| (at, pattern))).collect();
        for (at, pattern) in numbered {
            let number = self.data.store.next_auto_number(object, at);
            record.set(at, Value::text(&builtin::auto_number(&pattern, number)));
        }
    }

    /// The order of a save: the client's fields, what the vendor derives, triggers, checks, the write.
    fn save(&mut self, object: &Arc<Object>, old: Option<&Shared>, mut record: Record, fields: &Fields) -> Result<Id, Refused> {
        let event = if old.is_none() { Event::Insert } else { Event::Update };
        self.assign(object, &mut record, fields, event)?;
        self.stamp(&mut record);
        builtin::derive(object, old.map(Arc::as_ref), &mut record);
        self.run_triggers(object, old.map(Arc::as_ref), &mut record, event)?;
        builtin::derive(object, old.map(Arc::as_ref), &mut record);
        self.check(object, old.map(Arc::as_ref), &record)?;
        let id = record.id;
        self.put(object, record);
        Ok(id)
    }
}

fn refused(code: &str, message: &str) -> Refused {
    vec![RecordError::new(code, message)]
}

fn is_nothing(given: &Given) -> bool {
    match given {
        Given::Null | Given::Json(serde_json::Value::Null) => true,
        Given::Cell(text) | Given::Json(serde_json::Value::String(text)) => text.is_empty(),
        Given::Json(_) => false,
    }
}

#[cfg(test)]
mod tests;
