//! Deleting into the bin, out of it again, and for good. Children that cannot live without their parent go with it.

use super::{Refused, Writer, refused};
use crate::salesforce::ids::Id;
use crate::salesforce::record::{Record, Shared};
use crate::salesforce::schema::{Object, place};
use crate::salesforce::state::State;
use crate::salesforce::store::Transaction;
use crate::salesforce::values::Value;
use std::sync::Arc;

/// How long a record stays in the bin.
pub const BIN_DAYS: i64 = 15;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

impl Writer<'_> {
    /// Puts a record, and what hangs on it, into the bin.
    pub fn delete(&mut self, object: &Arc<Object>, id: Id) -> Result<Id, Refused> {
        self.whole(|writer| {
            writer.ask_faults(object, Some(id))?;
            let record = writer.live(object, id)?;
            writer.bin(object, &record, None);
            Ok(id)
        })
    }

    /// Deletes a record past the bin.
    pub fn hard_delete(&mut self, object: &Arc<Object>, id: Id) -> Result<Id, Refused> {
        self.delete(object, id)?;
        self.transaction.put(&mut self.data.store, object, id, None);
        let now_ms = self.now_ms;
        self.data.store.table_mut(&object.name).purged.push((now_ms, id));
        Ok(id)
    }

    /// Takes a record, and what went with it, out of the bin.
    pub fn undelete(&mut self, object: &Arc<Object>, id: Id) -> Result<Id, Refused> {
        self.whole(|writer| {
            let record = writer.data.store.get(&object.name, &id).filter(|record| record.is_deleted()).cloned();
            let record = record.ok_or_else(|| refused("UNDELETE_FAILED", "entity is not in the recycle bin"))?;
            let when = record.stamp_ms();
            let mut along = Vec::new();
            for (child, field) in writer.dependants(object) {
                let hanging = writer.hanging(&child, field, id, true).into_iter();
                along.extend(hanging.filter(|hanging| hanging.stamp_ms() == when).map(|hanging| (child.clone(), hanging)));
            }
            writer.restore(object, &record)?;
            for (child, hanging) in along {
                writer.restore(&child, &hanging)?;
            }
            Ok(id)
        })
    }

    fn restore(&mut self, object: &Arc<Object>, record: &Shared) -> Result<(), Refused> {
        let mut restored = record.as_ref().clone();
        restored.set(place::IS_DELETED, Value::Bool(false));
        if let Some((at, _)) = object.field("MasterRecordId") {
            restored.set(at, Value::Null);
        }
        self.stamp(&mut restored);
        self.check(object, None, &restored)?;
        self.put(object, restored);
        Ok(())
    }

    /// Into the bin; `master`: the record into which this one was merged.
    pub(super) fn bin(&mut self, object: &Arc<Object>, record: &Record, master: Option<Id>) {
        for (child, field) in self.dependants(object) {
            for hanging in self.hanging(&child, field, record.id, false) {
                self.bin(&child, &hanging, None);
            }
        }
        for (child, field) in self.lookups(object) {
            for referring in self.hanging(&child, field, record.id, false) {
                let mut freed = referring.as_ref().clone();
                freed.set(field, Value::Null);
                self.put(&child, freed);
            }
        }
        let mut gone = record.clone();
        gone.set(place::IS_DELETED, Value::Bool(true));
        if let (Some(master), Some((at, _))) = (master, object.field("MasterRecordId")) {
            gone.set(at, Value::Id(master));
        }
        self.stamp(&mut gone);
        self.put(object, gone);
    }

    /// Objects whose records go with their parent, with the place of the reference.
    fn dependants(&self, object: &Object) -> Vec<(Arc<Object>, usize)> {
        self.referring(object, |name, child, cascades| {
            cascades || (name == "AccountId" && matches!(child, "Contact" | "Opportunity"))
        })
    }

    /// Objects whose references to a deleted record are emptied.
    fn lookups(&self, object: &Object) -> Vec<(Arc<Object>, usize)> {
        self.referring(object, |name, _, cascades| {
            !cascades && matches!(name, "ParentId" | "ReportsToId") || { !cascades && name.ends_with("__c") }
        })
    }

    pub(super) fn referring(&self, object: &Object, wanted: impl Fn(&str, &str, bool) -> bool) -> Vec<(Arc<Object>, usize)> {
        let children = self.data.schema.children(&object.name);
        let wanted = children.filter(|(child, field)| wanted(&field.name, &child.name, field.cascades()));
        wanted.filter_map(|(child, field)| Some((child.clone(), child.field(&field.name)?.0))).collect()
    }

    /// Records of `child` whose reference at `field` is this id.
    pub(super) fn hanging(&self, child: &Object, field: usize, id: Id, deleted: bool) -> Vec<Shared> {
        let refers = |record: &&Shared| record.is_deleted() == deleted && *record.get(field) == Value::Id(id);
        self.data.store.table(&child.name).map_or(Vec::new(), |table| table.all().filter(refers).cloned().collect())
    }
}

/// Takes away for good what has been in the bin too long. Looks once in a simulated hour.
pub fn empty_bin(state: &mut State, now_ms: i64) {
    if now_ms < state.bin_looked_at_ms + HOUR_MS && now_ms >= state.bin_looked_at_ms {
        return;
    }
    state.bin_looked_at_ms = now_ms;
    let data = &mut state.data;
    let oldest = now_ms - BIN_DAYS * DAY_MS;
    let objects: Vec<Arc<Object>> = data.schema.objects().cloned().collect();
    for object in objects {
        let old = |record: &&Shared| record.is_deleted() && record.stamp_ms() < oldest;
        let Some(table) = data.store.table(&object.name) else { continue };
        let gone: Vec<(i64, Id)> = table.all().filter(old).map(|record| (record.stamp_ms(), record.id)).collect();
        for (_, id) in &gone {
            Transaction::default().put(&mut data.store, &object, *id, None);
        }
        // What is gone from here is known to nobody: replication cannot begin before it.
        let table = data.store.table_mut(&object.name);
        let forgotten = gone.iter().chain(table.purged.iter().filter(|(when, _)| *when < oldest)).map(|(when, _)| *when).max();
        table.purged.retain(|(when, _)| *when >= oldest);
        table.known_since_ms = table.known_since_ms.max(forgotten.unwrap_or(0));
    }
}
