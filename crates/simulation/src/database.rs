//! A small transactional database: one object, a log of every commit since the beginning, rows as of any commit, and
//! triggers. It is the ground truth of a run: the log is never cut here, whoever wrote is kept beside what was written.
//! It knows nothing of connectors, feeds or faults.

use concord_engine::change::Mark;
use concord_engine::clock::Moment;
use concord_engine::record::{FieldName, Key, Record};
use concord_engine::schema::{Field, Schema, Type};
use concord_engine::value::Value;
use std::collections::{BTreeMap, BTreeSet};

/// How keys come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// The database counts them; a given one is refused.
    Serial,
    /// Whoever inserts gives them.
    Natural,
}

/// Who committed.
#[derive(Clone, Debug, PartialEq)]
pub enum Author {
    /// The contents before the run.
    Initial,
    /// A user, with the number of the operation.
    User(u64),
    /// The engine, under this mark.
    Engine(Mark),
    /// A workflow of the system's own, in a transaction of its own.
    Workflow,
    /// An administrator, who changes the schema.
    Administrator,
}

/// What an administrator does to the object's columns.
#[derive(Clone, Debug, PartialEq)]
pub enum Alteration {
    /// A column goes, with all that it holds.
    Drop(FieldName),
    /// A column comes, and is empty in every row.
    Add(Field),
    /// A column has another name, and holds what it held.
    Rename(FieldName, FieldName),
    /// A column is of another type, which holds what it held.
    Retype(FieldName, Type),
}

/// What a trigger does to a row as it is written.
#[derive(Clone, Debug, PartialEq)]
pub enum Trigger {
    /// Text of the field is put in capitals.
    Uppercase(FieldName),
    /// Blanks around text of the field are taken away.
    Trim(FieldName),
    /// Text of the field is cut to so many characters.
    Truncate(FieldName, usize),
    /// When the field is written by the engine, something is added to it: once per row.
    RewriteOnce(FieldName),
    /// When `source` changes, `target` follows in the same row change.
    Derive {
        /// The field watched.
        source: FieldName,
        /// The field set.
        target: FieldName,
    },
    /// When `source` changes, a second change of the same transaction sets `target`.
    Follow {
        /// The field watched.
        source: FieldName,
        /// The field set.
        target: FieldName,
    },
    /// When the engine changes `source`, a later transaction sets `target`.
    Workflow {
        /// The field watched.
        source: FieldName,
        /// The field set.
        target: FieldName,
    },
}

/// A row before or after a change.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its key.
    pub key: Key,
    /// Every field, the key's included.
    pub fields: Record,
}

/// One row's change in a commit.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The row before; `None` for an insert.
    pub before: Option<Row>,
    /// The row after; `None` for a delete.
    pub after: Option<Row>,
    /// What the statement asked for; a trigger may have made something else of it.
    pub asked: Record,
    /// Made by a trigger rather than by the statement.
    pub reaction: bool,
    /// The object was emptied at once: the feed tells of it as one event.
    pub truncated: bool,
}

/// One transaction that took effect.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Its number; the first is 1.
    pub number: u64,
    /// When.
    pub at: Moment,
    /// Who.
    pub author: Author,
    /// What, in order.
    pub changes: Vec<Change>,
    /// The schema from here on, where this changed it.
    pub altered: Option<Schema>,
}

/// Why a statement was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The key or a unique field is taken.
    Taken,
    /// There is no such row.
    Missing,
}

/// A workflow that is to run.
#[derive(Clone, Debug)]
pub struct Reaction {
    /// The row.
    pub key: Key,
    /// What it sets.
    pub set: Record,
}

/// The database.
#[derive(Clone, Debug)]
pub struct Database {
    /// The one object's schema.
    pub schema: Schema,
    /// The key's one column.
    pub key_field: FieldName,
    /// How keys come about.
    pub keys: KeyKind,
    /// Triggers, in the order in which they fire.
    pub triggers: Vec<Trigger>,
    /// A field whose values are unique.
    pub unique: Option<FieldName>,
    rows: BTreeMap<Vec<u8>, Row>,
    history: BTreeMap<Vec<u8>, Vec<(u64, Option<Row>)>>,
    log: Vec<Commit>,
    next_serial: i64,
    rewritten: BTreeSet<Vec<u8>>,
    reactions: Vec<Reaction>,
    /// Columns that the object had at first and lacks now.
    absent: BTreeSet<FieldName>,
    /// Where a name last went, or came to stand for another column.
    torn_at: u64,
    /// Columns that were dropped, with what they held, and in which commits.
    drops: Vec<(FieldName, u64)>,
}

/// Changes that have taken place in the rows and are not yet committed.
#[derive(Default)]
pub struct Draft {
    changes: Vec<Change>,
}

impl Database {
    /// An empty database.
    pub fn new(schema: Schema, key_field: FieldName, keys: KeyKind) -> Database {
        Database {
            schema,
            key_field,
            keys,
            triggers: Vec::new(),
            unique: None,
            rows: BTreeMap::new(),
            history: BTreeMap::new(),
            log: Vec::new(),
            next_serial: 1,
            rewritten: BTreeSet::new(),
            reactions: Vec::new(),
            absent: BTreeSet::new(),
            torn_at: 0,
            drops: Vec::new(),
        }
    }

    /// The number of the newest commit; 0 when there is none.
    pub fn head(&self) -> u64 {
        self.log.last().map_or(0, |commit| commit.number)
    }

    /// Every commit since the beginning.
    pub fn log(&self) -> &[Commit] {
        &self.log
    }

    /// The commit of this number.
    pub fn commit(&self, number: u64) -> Option<&Commit> {
        let place = usize::try_from(number.checked_sub(1)?).ok()?;
        self.log.get(place)
    }

    /// The rows now, in the order of their encoded keys.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    /// A row now.
    pub fn row(&self, key: &Key) -> Option<&Row> {
        self.rows.get(&key.encode())
    }

    /// The rows as of a commit, in the order of their encoded keys, behind `after`.
    pub fn rows_at<'a>(&'a self, commit: u64, after: &'a [u8]) -> impl Iterator<Item = &'a Row> {
        self.history
            .iter()
            .filter(move |(key, _)| key.as_slice() > after)
            .filter_map(move |(_, versions)| version_at(versions, commit))
    }

    /// A row as of a commit.
    pub fn row_at(&self, key: &Key, commit: u64) -> Option<&Row> {
        version_at(self.history.get(&key.encode())?, commit)
    }

    /// The number of the newest commit that touched the key; 0 when none did.
    pub fn touched(&self, key: &Key) -> u64 {
        self.history.get(&key.encode()).and_then(|versions| versions.last()).map_or(0, |(number, _)| *number)
    }

    /// A column that the object had at first and lacks now.
    pub fn absent(&self) -> Option<&FieldName> {
        self.absent.first()
    }

    /// The commit in which a name last went, or came to stand for another column; 0 when none did.
    pub fn torn_at(&self) -> u64 {
        self.torn_at
    }

    /// Columns that were dropped, and in which commits.
    pub fn drops(&self) -> &[(FieldName, u64)] {
        &self.drops
    }

    /// Changes the schema, in a commit of its own, whose number it gives back. Who writes by a column that is not there does
    /// without it.
    pub fn alter(&mut self, alteration: Alteration, at: Moment) -> u64 {
        let number = self.head() + 1;
        match alteration {
            Alteration::Drop(name) => {
                self.torn_at = number;
                self.schema.fields.retain(|field| field.name != name);
                self.change_rows(number, |fields| {
                    fields.remove(name.as_str());
                });
                self.drops.push((name.clone(), number));
                self.absent.insert(name);
            }
            Alteration::Add(field) => {
                self.torn_at = if self.absent.remove(&field.name) { number } else { self.torn_at };
                self.change_rows(number, |fields| {
                    fields.set(field.name.clone(), Value::Null);
                });
                self.schema.fields.push(field);
            }
            Alteration::Rename(from, to) => {
                self.torn_at = number;
                let there = self.schema.fields.iter_mut().filter(|field| field.name == from);
                there.for_each(|field| field.name = to.clone());
                self.change_rows(number, |fields| {
                    let held = fields.remove(from.as_str()).unwrap_or(Value::Null);
                    fields.set(to.clone(), held);
                });
                if !self.absent.remove(&to) {
                    self.absent.insert(from);
                }
            }
            Alteration::Retype(name, ty) => {
                let there = self.schema.fields.iter_mut().filter(|field| field.name == name);
                there.for_each(|field| field.ty = ty.clone());
            }
        }
        let (author, altered) = (Author::Administrator, Some(self.schema.clone()));
        self.log.push(Commit { number, at, author, changes: Vec::new(), altered });
        number
    }

    /// Changes every row without anybody's having written it: no log tells of that.
    fn change_rows(&mut self, number: u64, change: impl Fn(&mut Record)) {
        for (key, row) in &mut self.rows {
            change(&mut row.fields);
            self.history.entry(key.clone()).or_default().push((number, Some(row.clone())));
        }
    }

    fn strip(&self, fields: &mut Record) {
        for name in &self.absent {
            fields.remove(name.as_str());
        }
    }

    /// Takes back every commit after this one, as if none of them had been.
    pub fn restore(&mut self, commit: u64) {
        self.log.retain(|other| other.number <= commit);
        self.rows.clear();
        for (key, versions) in &mut self.history {
            versions.retain(|(number, _)| *number <= commit);
            if let Some((_, Some(row))) = versions.last() {
                self.rows.insert(key.clone(), row.clone());
            }
        }
        self.reactions.clear();
    }

    /// Workflows that commits since the last call have set off.
    pub fn take_reactions(&mut self) -> Vec<Reaction> {
        std::mem::take(&mut self.reactions)
    }

    /// Inserts a row and gives back its key.
    pub fn insert(&mut self, draft: &mut Draft, author: &Author, mut fields: Record) -> Result<Row, Refusal> {
        let key = match (self.keys, fields.get(self.key_field.as_str()).cloned()) {
            (KeyKind::Natural, Some(given)) => Key(vec![given]),
            (KeyKind::Natural, None) => return Err(Refusal::Missing),
            (KeyKind::Serial, _) => {
                let serial = Value::Int(self.next_serial);
                self.next_serial += 1;
                fields.set(self.key_field.clone(), serial.clone());
                Key(vec![serial])
            }
        };
        self.strip(&mut fields);
        for field in &self.schema.fields {
            if !fields.has(field.name.as_str()) {
                fields.set(field.name.clone(), Value::Null);
            }
        }
        let asked = fields.clone();
        let row = Row { key, fields: self.fire(author, None, fields) };
        if self.rows.contains_key(&row.key.encode()) || self.violates(&row, None) {
            return Err(Refusal::Taken);
        }
        self.put(draft, None, Some(row.clone()), asked, false);
        self.follow(draft, author, None, &row);
        Ok(row)
    }

    /// Changes fields of a row, key fields perhaps among them.
    pub fn update(&mut self, draft: &mut Draft, author: &Author, key: &Key, set: &Record) -> Result<Row, Refusal> {
        let before = self.rows.get(&key.encode()).cloned().ok_or(Refusal::Missing)?;
        let mut fields = before.fields.clone();
        fields.overlay(set);
        self.strip(&mut fields);
        let fields = self.fire(author, Some(&before), fields);
        let key = fields.get(self.key_field.as_str()).cloned().map_or_else(|| key.clone(), |value| Key(vec![value]));
        let row = Row { key, fields };
        let moved = row.key != before.key;
        if (moved && self.rows.contains_key(&row.key.encode())) || self.violates(&row, Some(&before.key)) {
            return Err(Refusal::Taken);
        }
        self.put(draft, Some(before.clone()), Some(row.clone()), set.clone(), false);
        self.follow(draft, author, Some(&before), &row);
        Ok(row)
    }

    /// Two rows swap their keys, as a transaction can do where uniqueness is checked at its end.
    pub fn swap(&mut self, draft: &mut Draft, one: &Key, other: &Key) -> Result<(), Refusal> {
        let both = (self.rows.get(&one.encode()).cloned(), self.rows.get(&other.encode()).cloned());
        let (Some(first), Some(second)) = both else { return Err(Refusal::Missing) };
        for (before, key) in [(first, other), (second, one)] {
            let mut after = Row { key: key.clone(), fields: before.fields.clone() };
            if let Some(value) = key.0.first() {
                after.fields.set(self.key_field.clone(), value.clone());
            }
            self.rows.insert(after.key.encode(), after.clone());
            let (before, after) = (Some(before), Some(after));
            draft.changes.push(Change { before, after, asked: Record::new(), reaction: false, truncated: false });
        }
        Ok(())
    }

    /// Removes a row.
    pub fn delete(&mut self, draft: &mut Draft, key: &Key) -> Result<(), Refusal> {
        let before = self.rows.get(&key.encode()).cloned().ok_or(Refusal::Missing)?;
        self.put(draft, Some(before), None, Record::new(), false);
        Ok(())
    }

    /// Empties the object at once.
    pub fn truncate(&mut self, draft: &mut Draft) {
        for row in std::mem::take(&mut self.rows).into_values() {
            draft.changes.push(Change { before: Some(row), after: None, asked: Record::new(), reaction: false, truncated: true });
        }
    }

    /// Takes back what a draft did.
    pub fn roll_back(&mut self, draft: Draft) {
        for change in draft.changes.into_iter().rev() {
            if let Some(after) = &change.after {
                self.rows.remove(&after.key.encode());
            }
            if let Some(before) = change.before {
                self.rows.insert(before.key.encode(), before);
            }
        }
    }

    /// Makes a draft durable and gives back the commit's number; a draft without changes makes no commit.
    pub fn commit_draft(&mut self, draft: Draft, at: Moment, author: Author) -> Option<u64> {
        if draft.changes.is_empty() {
            return None;
        }
        let number = self.head() + 1;
        for change in &draft.changes {
            if let Some(before) = &change.before {
                self.history.entry(before.key.encode()).or_default().push((number, None));
            }
            if let Some(after) = &change.after {
                self.history.entry(after.key.encode()).or_default().push((number, Some(after.clone())));
            }
        }
        // A key that one row left and another took within the transaction is taken.
        for after in draft.changes.iter().filter_map(|change| change.after.as_ref()) {
            let key = after.key.encode();
            let gone = self.history.get(&key).and_then(|versions| versions.last()).is_some_and(|(_, row)| row.is_none());
            if gone && let Some(row) = self.rows.get(&key).cloned() {
                self.history.entry(key).or_default().push((number, Some(row)));
            }
        }
        // Workflows are set off by the engine's writes alone: one that answered its own echo would never end.
        if matches!(author, Author::Engine(_)) {
            for change in draft.changes.iter().filter(|change| !change.reaction) {
                self.set_off(change);
            }
        }
        self.log.push(Commit { number, at, author, changes: draft.changes, altered: None });
        Some(number)
    }

    fn set_off(&mut self, change: &Change) {
        let Some(after) = &change.after else { return };
        for trigger in &self.triggers {
            let Trigger::Workflow { source, target } = trigger else { continue };
            let new = after.fields.get(source.as_str());
            let old = change.before.as_ref().and_then(|row| row.fields.get(source.as_str()));
            if let (true, Some(Value::Text(text))) = (new != old, new) {
                let set = [(target.clone(), Value::Text(format!("w:{text}")))].into_iter().collect();
                self.reactions.push(Reaction { key: after.key.clone(), set });
            }
        }
    }

    fn put(&mut self, draft: &mut Draft, before: Option<Row>, after: Option<Row>, asked: Record, reaction: bool) {
        if let Some(row) = &before {
            self.rows.remove(&row.key.encode());
        }
        if let Some(row) = &after {
            self.rows.insert(row.key.encode(), row.clone());
        }
        draft.changes.push(Change { before, after, asked, reaction, truncated: false });
    }

    fn violates(&self, row: &Row, but: Option<&Key>) -> bool {
        let Some(unique) = &self.unique else { return false };
        let value = row.fields.get(unique.as_str());
        value.is_some_and(|value| *value != Value::Null)
            && self.rows.values().any(|other| Some(&other.key) != but && other.fields.get(unique.as_str()) == value)
    }

    /// The triggers that change the row as it is written.
    fn fire(&mut self, author: &Author, before: Option<&Row>, mut fields: Record) -> Record {
        for trigger in &self.triggers {
            match trigger {
                Trigger::Uppercase(field) => rewrite(&mut fields, field, |text| text.to_uppercase()),
                Trigger::Trim(field) => rewrite(&mut fields, field, |text| text.trim().to_owned()),
                Trigger::Truncate(field, most) => rewrite(&mut fields, field, |text| text.chars().take(*most).collect()),
                Trigger::RewriteOnce(field) => {
                    let old = before.and_then(|row| row.fields.get(field.as_str()));
                    let key = fields.get(self.key_field.as_str()).map(Value::canonical_bytes).unwrap_or_default();
                    let ours = matches!(author, Author::Engine(_)) && fields.get(field.as_str()) != old;
                    if ours && matches!(fields.get(field.as_str()), Some(Value::Text(_))) && self.rewritten.insert(key) {
                        rewrite(&mut fields, field, |text| format!("{text}!"));
                    }
                }
                Trigger::Derive { source, target } => {
                    let old = before.and_then(|row| row.fields.get(source.as_str()));
                    if let (true, Some(Value::Text(text))) =
                        (fields.get(source.as_str()) != old, fields.get(source.as_str()).cloned())
                    {
                        fields.set(target.clone(), Value::Text(format!("d:{text}")));
                    }
                }
                Trigger::Follow { .. } | Trigger::Workflow { .. } => {}
            }
        }
        fields
    }

    /// The triggers that make a second change in the same transaction.
    fn follow(&mut self, draft: &mut Draft, _author: &Author, before: Option<&Row>, row: &Row) {
        for trigger in self.triggers.clone() {
            let Trigger::Follow { source, target } = trigger else { continue };
            let new = row.fields.get(source.as_str());
            let old = before.and_then(|row| row.fields.get(source.as_str()));
            let (true, Some(Value::Text(text))) = (new != old, new) else { continue };
            let Some(current) = self.rows.get(&row.key.encode()).cloned() else { continue };
            let mut after = current.clone();
            after.fields.set(target, Value::Text(format!("f:{text}")));
            self.put(draft, Some(current), Some(after), Record::new(), true);
        }
    }
}

fn version_at(versions: &[(u64, Option<Row>)], commit: u64) -> Option<&Row> {
    versions.iter().rev().find(|(number, _)| *number <= commit).and_then(|(_, row)| row.as_ref())
}

fn rewrite(fields: &mut Record, field: &FieldName, how: impl Fn(&str) -> String) {
    if let Some(Value::Text(text)) = fields.get(field.as_str()) {
        let text = how(text);
        fields.set(field.clone(), Value::Text(text));
    }
}
