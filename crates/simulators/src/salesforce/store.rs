//! Every record there is, with the indexes of unique fields, and the transaction that can be taken back. Knows no rules:
//! what may be written is decided in `dml`.

use super::ids::Id;
use super::record::Shared;
use super::schema::Object;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The records of all objects.
#[derive(Debug, Default)]
pub struct Store {
    tables: HashMap<String, Table>,
}

/// The records of one object, those in the bin too.
#[derive(Debug, Default)]
pub struct Table {
    records: BTreeMap<Id, Shared>,
    /// Field's place → key of a value → records that have it, those in the bin left out.
    unique: HashMap<usize, HashMap<String, Vec<Id>>>,
    /// Ids handed out so far.
    numbers: u64,
    /// Numbers handed out so far, per automatic field.
    auto_numbers: HashMap<usize, u64>,
    /// Records that are gone for good: (when, id).
    pub purged: Vec<(i64, Id)>,
    /// Deletions before this moment are no longer known.
    pub known_since_ms: i64,
    /// Records that are shared with nobody who comes by the API.
    hidden: BTreeSet<Id>,
}

impl Table {
    /// Every record, those in the bin too, by id.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = &Shared> {
        self.records.values()
    }

    /// A record, in the bin or not.
    pub fn get(&self, id: &Id) -> Option<&Shared> {
        self.records.get(id)
    }

    /// Shares a record with those who come by the API, or no longer.
    pub fn hide(&mut self, id: Id, hidden: bool) {
        if hidden {
            self.hidden.insert(id);
        } else {
            self.hidden.remove(&id);
        }
    }

    /// Whether a record is kept from those who come by the API.
    pub fn hides(&self, id: &Id) -> bool {
        self.hidden.contains(id)
    }

    /// Records, not in the bin, whose unique field has this value.
    pub fn find(&self, place: usize, key: &str) -> &[Id] {
        self.unique.get(&place).and_then(|index| index.get(key)).map_or(&[], Vec::as_slice)
    }

    /// How many are not in the bin.
    pub fn count(&self) -> usize {
        self.records.values().filter(|record| !record.is_deleted()).count()
    }

    fn index(&mut self, object: &Object, record: &Shared, present: bool) {
        if record.is_deleted() {
            return;
        }
        for (place, field) in object.fields().filter(|(_, field)| field.unique || field.external_id) {
            let Some(key) = record.get(place).index_key(field.case_sensitive) else { continue };
            let ids = self.unique.entry(place).or_default().entry(key.clone()).or_default();
            if present {
                ids.push(record.id);
            } else {
                ids.retain(|id| *id != record.id);
                if ids.is_empty()
                    && let Some(index) = self.unique.get_mut(&place)
                {
                    index.remove(&key);
                }
            }
        }
    }

    fn swap(&mut self, object: &Object, id: Id, new: Option<Shared>) -> Option<Shared> {
        let old = match &new {
            Some(record) => self.records.insert(id, record.clone()),
            None => self.records.remove(&id),
        };
        if let Some(old) = &old {
            self.index(object, old, false);
        }
        if let Some(new) = &new {
            self.index(object, new, true);
        }
        old
    }
}

impl Store {
    /// The table of an object, where it has records.
    pub fn table(&self, object: &str) -> Option<&Table> {
        self.tables.get(object)
    }

    /// The table of an object.
    pub fn table_mut(&mut self, object: &str) -> &mut Table {
        self.tables.entry(object.to_string()).or_default()
    }

    /// A record, in the bin or not.
    pub fn get(&self, object: &str, id: &Id) -> Option<&Shared> {
        self.table(object)?.get(id)
    }

    /// A record, in the bin or not, as far as it is shared with those who come by the API.
    pub fn shared(&self, object: &str, id: &Id) -> Option<&Shared> {
        let table = self.table(object)?;
        table.get(id).filter(|_| !table.hides(id))
    }

    /// A new id.
    pub fn new_id(&mut self, object: &Object) -> Id {
        let table = self.table_mut(&object.name);
        table.numbers += 1;
        Id::new(&object.key_prefix, table.numbers)
    }

    /// The next number of an automatic field.
    pub fn next_auto_number(&mut self, object: &Object, place: usize) -> u64 {
        let number = self.table_mut(&object.name).auto_numbers.entry(place).or_default();
        *number += 1;
        *number
    }

    /// Builds the index of a field that became unique or an external id.
    pub fn reindex(&mut self, object: &Object) {
        let table = self.table_mut(&object.name);
        table.unique.clear();
        let records: Vec<Shared> = table.records.values().cloned().collect();
        for record in records {
            table.index(object, &record, true);
        }
    }
}

/// One record as a transaction changed it.
#[derive(Clone, Debug)]
pub struct Change {
    pub object: String,
    pub id: Id,
    pub old: Option<Shared>,
    pub new: Option<Shared>,
}

/// What a transaction did so far; everything can be taken back, whole or to a point.
#[derive(Debug, Default)]
pub struct Transaction {
    changes: Vec<Change>,
}

impl Transaction {
    /// Writes a record, or takes it away for good.
    pub fn put(&mut self, store: &mut Store, object: &Object, id: Id, new: Option<Shared>) {
        let old = store.table_mut(&object.name).swap(object, id, new.clone());
        self.changes.push(Change { object: object.name.clone(), id, old, new });
    }

    /// A point to which the transaction can be taken back.
    pub fn point(&self) -> usize {
        self.changes.len()
    }

    /// Takes back everything since the point.
    pub fn take_back(&mut self, store: &mut Store, schema: &super::schema::Schema, point: usize) {
        while self.changes.len() > point {
            let Some(change) = self.changes.pop() else { return };
            if let Some(object) = schema.object(&change.object) {
                store.table_mut(&change.object).swap(object, change.id, change.old);
            }
        }
    }

    /// What changed in all: one entry per record, from what it was before to what it is now, in the order of the first
    /// change of each.
    pub fn net(self) -> Vec<Change> {
        let mut places: HashMap<(String, Id), usize> = HashMap::new();
        let mut net: Vec<Change> = Vec::new();
        for change in self.changes {
            let at = *places.entry((change.object.clone(), change.id)).or_insert(net.len());
            match net.get_mut(at) {
                Some(known) => known.new = change.new,
                None => net.push(change),
            }
        }
        net
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Record;
    use super::super::schema::Schema;
    use super::super::values::Value;
    use super::*;
    use std::sync::Arc;

    fn user(id: Id, object: &Object, name: &str) -> Shared {
        let mut record = Record::new(id, object.width());
        record.set(object.field("Username").expect("a field").0, Value::text(name));
        Arc::new(record)
    }

    #[test]
    fn a_transaction_taken_back_leaves_records_and_indexes_as_they_were() {
        let schema = Schema::standard().expect("the standard objects");
        let object = schema.object("User").expect("User");
        let place = object.field("Username").expect("a field").0;
        let mut store = Store::default();
        let mut first = Transaction::default();
        let id = store.new_id(object);
        first.put(&mut store, object, id, Some(user(id, object, "Ada")));

        let mut second = Transaction::default();
        second.put(&mut store, object, id, Some(user(id, object, "Grace")));
        assert_eq!(store.table("User").expect("a table").find(place, "grace"), [id]);
        second.take_back(&mut store, &schema, 0);
        assert_eq!(store.table("User").expect("a table").find(place, "ada"), [id]);
        assert!(store.table("User").expect("a table").find(place, "grace").is_empty());
    }

    #[test]
    fn several_changes_of_a_record_are_one_in_the_end() {
        let schema = Schema::standard().expect("the standard objects");
        let object = schema.object("User").expect("User");
        let mut store = Store::default();
        let mut transaction = Transaction::default();
        let id = store.new_id(object);
        transaction.put(&mut store, object, id, Some(user(id, object, "a")));
        transaction.put(&mut store, object, id, Some(user(id, object, "b")));
        let net = transaction.net();
        assert_eq!(net.len(), 1);
        assert!(net[0].old.is_none() && net[0].new.is_some());
    }
}
