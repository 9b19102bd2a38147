//! What people do in the browser: edits that come from no API, with everything that a save brings with it.

use super::dml::{Fields, Refused, Writer};
use super::errors::RecordError;
use super::events::Author;
use super::ids::Id;
use super::org::{Org, PERSON};
use super::rules::OnDuplicates;
use super::schema::Object;
use super::values::read::Given;
use serde_json::{Map, Value as Json};
use std::sync::Arc;

/// What the browser's edits give as their origin.
const BROWSER: &str = "com/salesforce/api/soap/65.0;client=SfdcInternalAPI/";

/// A person at the browser.
#[derive(Clone, Copy, Debug)]
pub struct Person<'a> {
    pub org: &'a Org,
}

impl Person<'_> {
    /// Creates a record.
    pub fn create(&self, object: &str, fields: &Map<String, Json>) -> Result<Id, Refused> {
        self.edit(object, |writer, object| writer.insert(object, &given(fields)))
    }

    /// Creates many records in one transaction; the first refusal takes all of it back.
    pub fn create_all(&self, object: &str, records: &[Map<String, Json>]) -> Result<Vec<Id>, Refused> {
        self.edit(object, |writer, object| {
            let point = writer.point();
            let made: Result<Vec<Id>, Refused> = records.iter().map(|fields| writer.insert(object, &given(fields))).collect();
            if made.is_err() {
                writer.take_back(point);
            }
            made
        })
    }

    /// Changes a record.
    pub fn update(&self, object: &str, id: Id, fields: &Map<String, Json>) -> Result<Id, Refused> {
        self.edit(object, |writer, object| writer.update(object, id, &given(fields)))
    }

    /// Changes many records alike in one transaction; the first refusal takes all of it back.
    pub fn update_all(&self, object: &str, ids: &[Id], fields: &Map<String, Json>) -> Result<Vec<Id>, Refused> {
        self.edit(object, |writer, object| {
            let point = writer.point();
            let made: Result<Vec<Id>, Refused> = ids.iter().map(|id| writer.update(object, *id, &given(fields))).collect();
            if made.is_err() {
                writer.take_back(point);
            }
            made
        })
    }

    /// Puts a record into the bin.
    pub fn delete(&self, object: &str, id: Id) -> Result<Id, Refused> {
        self.edit(object, |writer, object| writer.delete(object, id))
    }

    /// Deletes a record for good.
    pub fn hard_delete(&self, object: &str, id: Id) -> Result<Id, Refused> {
        self.edit(object, |writer, object| writer.hard_delete(object, id))
    }

    /// Takes a record out of the bin.
    pub fn undelete(&self, object: &str, id: Id) -> Result<Id, Refused> {
        self.edit(object, |writer, object| writer.undelete(object, id))
    }

    /// Takes a record out of the sight of those who come by the API, or shares it with them again. That is no edit of the record:
    /// its stamps stay, and no event tells of it. What is written to it by its id is still taken.
    pub fn hide(&self, object: &str, id: Id, hidden: bool) -> Result<Id, Refused> {
        let state = &mut *self.org.state();
        if state.data.store.get(object, &id).is_none() {
            return Err(vec![RecordError::new("NOT_FOUND", format!("no {object} {id}"))]);
        }
        state.data.store.table_mut(object).hide(id, hidden);
        Ok(id)
    }

    /// Merges records into one.
    pub fn merge(&self, object: &str, winner: Id, losers: &[Id], fields: &Map<String, Json>) -> Result<Id, Refused> {
        self.edit(object, |writer, object| writer.merge(object, winner, losers, &given(fields)))
    }

    fn edit<T>(
        &self,
        object: &str,
        step: impl FnOnce(&mut Writer<'_>, &Arc<Object>) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        let state = &mut *self.org.state();
        let unknown = || vec![RecordError::new("INVALID_TYPE", format!("no object {object}"))];
        let object = state.data.schema.object(object).cloned().ok_or_else(unknown)?;
        let users = state.data.schema.object("User").and_then(|users| users.field("Username")).map(|(at, _)| at);
        let user = users.and_then(|at| state.data.store.table("User")?.find(at, PERSON).first().copied());
        let author = Author { user: user.unwrap_or_else(|| Id::new("005", 1)), origin: BROWSER.to_string() };
        self.org.write(state, &author, &OnDuplicates::saved(), |writer| step(writer, &object))
    }
}

fn given(fields: &Map<String, Json>) -> Fields {
    fields.iter().map(|(name, value)| (name.clone(), Given::Json(value.clone()))).collect()
}
