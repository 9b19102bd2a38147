//! What an administrator does to the org while it runs, and a look at every record as it is.

use super::org::Org;
use super::schema::SchemaFile;
use super::soql::rows::{Plan, Versioned};
use super::state::State;

impl Org {
    /// Adds objects and fields.
    pub fn add_schema(&self, file: &SchemaFile) -> Result<(), String> {
        let state = &mut *self.state();
        state.data.schema.load(file)?;
        for spec in &file.objects {
            self.touch(state, &spec.name);
        }
        Ok(())
    }

    /// Takes a field away.
    pub fn remove_field(&self, object: &str, field: &str) -> Result<(), String> {
        let state = &mut *self.state();
        let mut changed = state.data.schema.object(object).ok_or("no such object")?.as_ref().clone();
        if !changed.remove_field(field) {
            return Err("no such field".to_string());
        }
        state.data.schema.put(changed);
        self.touch(state, object);
        Ok(())
    }

    /// Every record of an object with every field, as REST shows it; those in the bin too, if asked.
    pub fn records(&self, object: &str, deleted: bool) -> Result<String, String> {
        let state = self.state();
        let object = state.data.schema.object(object).cloned().ok_or("no such object")?;
        let plan = Plan::of_all(&object);
        let now_ms = self.clock.now_ms();
        let table = state.data.store.table(&object.name);
        let wanted = table.into_iter().flat_map(|table| table.all()).filter(|record| deleted || !record.is_deleted());
        let rows: Vec<_> = wanted.map(|record| plan.row(&state.data, record, now_ms)).collect();
        let shown: Vec<Versioned<'_>> = rows.iter().map(|row| Versioned(row, "65.0")).collect();
        serde_json::to_string(&shown).map_err(|error| error.to_string())
    }

    /// An object whose fields changed: described anew, its events of a new shape, its indexes built again.
    fn touch(&self, state: &mut State, name: &str) {
        let Some(object) = state.data.schema.object(name) else { return };
        let mut object = object.as_ref().clone();
        object.modified_ms = self.clock.now_ms();
        state.events.reshape(&object.name);
        state.data.store.reindex(&object);
        state.data.schema.put(object);
    }
}
