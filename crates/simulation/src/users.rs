//! Users: seeded people who edit the records of one system, quickly and slowly, back and forth, insert, delete, make
//! anew and rename. They know their own system only, as people do, and stop after a bounded number of operations.

use crate::database::{Author, Database, Draft, KeyKind, Refusal, Row};
use crate::random::Random;
use crate::system::System;
use crate::world::{FieldKind, Flow, GONE, Purpose, World};
use concord_engine::record::{Key, Record};
use concord_engine::value::Value;
use std::cell::Cell;
use std::sync::Arc;

/// Text that validation refuses, where a world validates.
pub const REJECTED: &str = "#";
/// Text that a system refuses, where one does.
pub const POISON: &str = "%";

/// Tags and operation numbers that all users draw from.
#[derive(Default)]
pub struct Numbers {
    operation: Cell<u64>,
    tag: Cell<u64>,
}

impl Numbers {
    /// The number of the next operation.
    pub fn operation(&self) -> u64 {
        self.operation.set(self.operation.get() + 1);
        self.operation.get()
    }

    fn tag(&self) -> String {
        self.tag.set(self.tag.get() + 1);
        format!("n{}", self.tag.get())
    }
}

/// One user of one member.
pub struct User<'a> {
    /// The world.
    pub world: &'a World,
    /// The systems, in the order of the members.
    pub systems: &'a [Arc<System>],
    /// Where the user works.
    pub member: usize,
    /// The user's own choices.
    pub random: Random,
    /// Shared numbers.
    pub numbers: &'a Numbers,
}

/// A value of a field that no other operation writes.
pub fn fresh(kind: FieldKind, operation: u64, most: Option<usize>) -> Value {
    match kind {
        FieldKind::Number => Value::Int(i64::try_from(operation).unwrap_or(i64::MAX)),
        FieldKind::Text => {
            let text = format!("v{operation:03} of some length");
            Value::Text(text.chars().take(most.unwrap_or(usize::MAX)).collect())
        }
    }
}

/// What users do in some worlds only.
#[derive(Clone, Copy)]
enum Further {
    Revert,
    Twin,
    Double,
    Wipe,
    Rejected,
    Poison,
}

impl User<'_> {
    /// Works through the operations, with pauses.
    pub async fn work(mut self) {
        let pause = u64::try_from(self.world.span.as_millis()).unwrap_or(1_000) / self.world.operations.max(1);
        for _ in 0..self.world.operations {
            let quick = self.random.percent(40);
            let wait = if quick { self.random.millis(0, 5) } else { self.random.millis(0, pause * 2) };
            tokio::time::sleep(wait).await;
            self.operate().await;
        }
    }

    fn system(&self) -> Option<&Arc<System>> {
        self.systems.get(self.member)
    }

    async fn operate(&mut self) {
        if !self.world.further.is_plain_for_users() && self.random.percent(40) && self.operate_further().await {
            return;
        }
        match self.random.below(100) {
            0..=11 if self.world.inserts => self.insert_new(),
            12..=21 if self.world.inserts && self.world.matched => self.insert_shared(),
            22..=29 if self.world.deletes => self.delete(),
            30..=34 if self.world.deletes && self.world.inserts && self.world.matched => self.delete_and_insert().await,
            35..=42 if self.world.key_changes => self.rename(),
            43..=50 => self.edit_and_revert().await,
            51..=60 => {
                for _ in 0..3 {
                    self.edit();
                    let wait = self.random.millis(0, 3);
                    tokio::time::sleep(wait).await;
                }
            }
            _ => self.edit(),
        }
    }

    /// What only some worlds have; false: nothing of the kind here.
    async fn operate_further(&mut self) -> bool {
        let further = &self.world.further;
        let kinds = [
            (further.kills_at_writes, Further::Revert),
            (further.twins, Further::Twin),
            (further.doubles, Further::Double),
            (further.wipes, Further::Wipe),
            (further.rejects, Further::Rejected),
            (self.is_poison_elsewhere(), Further::Poison),
        ];
        let kinds: Vec<Further> = kinds.into_iter().filter(|(on, _)| *on).map(|(_, kind)| kind).collect();
        match self.random.pick(&kinds) {
            Some(Further::Revert) => self.edit_and_revert().await,
            Some(Further::Twin) => self.twin().await,
            Some(Further::Double) => self.double(),
            Some(Further::Wipe) => self.wipe(),
            Some(Further::Rejected) => self.spoil(REJECTED, Some("name")),
            Some(Further::Poison) => self.spoil(POISON, None),
            None => return false,
        }
        true
    }

    /// Two people type in the same new record at two members at once; one of them may take it back.
    async fn twin(&mut self) {
        let (tag, home) = (self.numbers.tag(), self.member);
        let others: Vec<usize> = (0..self.systems.len()).filter(|other| *other != home).collect();
        let Some(other) = self.random.pick(&others).copied() else { return };
        self.insert(&tag);
        let wait = self.random.millis(0, 30);
        tokio::time::sleep(wait).await;
        self.member = other;
        if !self.shows(&tag) {
            self.insert(&tag);
            if self.random.percent(50) {
                let wait = self.random.millis(0, 150);
                tokio::time::sleep(wait).await;
                self.delete_tagged(&tag);
            }
        }
        self.member = home;
    }

    /// The same person typed in twice.
    fn double(&mut self) {
        let tag = if self.random.percent(60) { Some(self.numbers.tag()) } else { None };
        let tag = match tag {
            Some(tag) => {
                self.insert(&tag);
                Some(tag)
            }
            None => self.any_row().and_then(|row| tag_of(self.world, self.member, &row.fields)),
        };
        if let Some(tag) = tag {
            self.insert_as(&tag, &format!("{tag}x"));
        }
    }

    /// Many records go at once.
    fn wipe(&mut self) {
        let all = self.random.percent(30);
        let rows: Vec<Row> = self.system().map(|it| it.look(|database| database.rows().cloned().collect())).unwrap_or_default();
        let gone: Vec<Key> = rows.into_iter().filter(|_| self.random.percent(60)).map(|row| row.key).collect();
        let operation = self.numbers.operation();
        self.transact(operation, |database, draft| {
            if all {
                database.truncate(draft);
                return Ok(());
            }
            gone.iter().try_for_each(|key| database.delete(draft, key))
        });
    }

    fn is_poison_elsewhere(&self) -> bool {
        let refuses = |member: usize| self.world.members.get(member).is_some_and(|it| it.profile.poison.is_some());
        !refuses(self.member) && (0..self.world.members.len()).any(refuses)
    }

    /// Somebody types in what is not to be carried on.
    fn spoil(&mut self, with: &str, field: Option<&str>) {
        let is_text = |place: &usize| self.world.fields.get(*place).is_some_and(|field| field.kind == FieldKind::Text);
        let fields: Vec<usize> = self.editable().into_iter().filter(is_text).collect();
        let wanted = field.and_then(|name| self.world.field(name)).filter(|field| fields.contains(field));
        let Some(field) = wanted.or_else(|| self.random.pick(&fields).copied().filter(|_| field.is_none())) else { return };
        let Some(row) = self.any_row() else { return };
        let operation = self.numbers.operation();
        let Value::Text(text) = self.value(field, operation) else { return };
        let most = text.chars().count();
        let text: String = format!("{with}{text}").chars().take(most).collect();
        let set = [(self.world.native(self.member, field), Value::Text(text))].into_iter().collect();
        self.transact(operation, |database, draft| database.update(draft, &Author::User(operation), &row.key, &set).map(|_| ()));
    }

    fn delete_tagged(&mut self, tag: &str) {
        let tagged = |row: &&Row| tag_of(self.world, self.member, &row.fields).as_deref() == Some(tag);
        let Some(system) = self.system() else { return };
        let Some(key) = system.look(|database| database.rows().find(tagged).map(|row| row.key.clone())) else { return };
        let operation = self.numbers.operation();
        self.transact(operation, |database, draft| database.delete(draft, &key));
    }

    fn transact(&self, operation: u64, work: impl FnOnce(&mut Database, &mut Draft) -> Result<(), Refusal>) {
        // A refused operation is what a form would say no to: nothing happened.
        if let Some(system) = self.system() {
            system.transact(Author::User(operation), work).ok();
        }
    }

    fn any_row(&mut self) -> Option<Row> {
        let there = |row: &&Row| !is_marked_gone(&row.fields);
        let rows: Vec<Row> = self.system()?.look(|database| database.rows().filter(there).cloned().collect());
        self.random.pick(&rows).cloned()
    }

    fn editable(&self) -> Vec<usize> {
        let fields = self.world.fields.iter().enumerate();
        // A field that flows one way is edited where it comes from: elsewhere the edit would be written over at once.
        let all = self.world.further.one_way.is_some();
        let mine = |flow: Flow| all || flow == Flow::Both || flow == Flow::From(self.member);
        fields.filter(|(_, field)| field.purpose == Purpose::Plain && mine(field.flow)).map(|(place, _)| place).collect()
    }

    fn value(&self, field: usize, operation: u64) -> Value {
        let Some(rules) = self.world.fields.get(field) else { return Value::Null };
        let most = rules.short_at.filter(|(member, _)| *member == self.member).map(|(_, most)| most);
        fresh(rules.kind, operation, most)
    }

    fn edit(&mut self) {
        let Some(row) = self.any_row() else { return };
        let operation = self.numbers.operation();
        let mut set = Record::new();
        for _ in 0..=self.random.below(2) {
            let Some(field) = self.random.pick(&self.editable()).copied() else { return };
            set.set(self.world.native(self.member, field), self.value(field, operation));
        }
        self.transact(operation, |database, draft| database.update(draft, &Author::User(operation), &row.key, &set).map(|_| ()));
    }

    async fn edit_and_revert(&mut self) {
        let Some(row) = self.any_row() else { return };
        let Some(field) = self.random.pick(&self.editable()).copied() else { return };
        let name = self.world.native(self.member, field);
        let before = row.fields.get(name.as_str()).cloned().unwrap_or(Value::Null);
        let operation = self.numbers.operation();
        let value = self.value(field, operation);
        for (operation, value) in [(operation, value), (self.numbers.operation(), before)] {
            let set = [(name.clone(), value)].into_iter().collect();
            self.transact(operation, |database, draft| {
                database.update(draft, &Author::User(operation), &row.key, &set).map(|_| ())
            });
            let wait = if self.random.percent(50) { self.random.millis(0, 4) } else { self.random.millis(0, 400) };
            tokio::time::sleep(wait).await;
        }
    }

    fn rename(&mut self) {
        let Some(code) = self.world.fields.iter().position(|field| field.purpose == Purpose::Code) else { return };
        let natural = self.world.members.get(self.member).is_some_and(|member| member.keys == KeyKind::Natural);
        let Some(row) = self.any_row().filter(|_| natural) else { return };
        let operation = self.numbers.operation();
        let set = [(self.world.native(self.member, code), Value::Text(format!("c{operation}")))].into_iter().collect();
        self.transact(operation, |database, draft| database.update(draft, &Author::User(operation), &row.key, &set).map(|_| ()));
    }

    fn delete(&mut self) {
        let Some(row) = self.any_row() else { return };
        let operation = self.numbers.operation();
        self.transact(operation, |database, draft| database.delete(draft, &row.key));
    }

    /// Deletes a record and makes one anew with the same tag (and the same key, where keys are natural).
    async fn delete_and_insert(&mut self) {
        let Some(row) = self.any_row() else { return };
        let Some(tag) = tag_of(self.world, self.member, &row.fields) else { return };
        let operation = self.numbers.operation();
        let anew = self.numbers.operation();
        let fields = self.record(&tag, anew, &row.key);
        if self.random.percent(50) {
            self.transact(operation, |database, draft| {
                database.delete(draft, &row.key)?;
                database.insert(draft, &Author::User(operation), fields).map(|_| ())
            });
            return;
        }
        self.transact(operation, |database, draft| database.delete(draft, &row.key));
        let wait = self.random.millis(0, 200);
        tokio::time::sleep(wait).await;
        // The engine may have brought the record back in the meantime: then there is nothing to make.
        if self.shows(&tag) {
            return;
        }
        self.transact(anew, |database, draft| database.insert(draft, &Author::User(anew), fields).map(|_| ()));
    }

    fn insert_new(&mut self) {
        let tag = self.numbers.tag();
        self.insert(&tag);
    }

    /// Inserts a record that another member has and this one does not, yet: two people typed in the same customer.
    fn insert_shared(&mut self) {
        let mut tags: Vec<String> = Vec::new();
        for (place, system) in self.systems.iter().enumerate().filter(|(place, _)| *place != self.member) {
            system.look(|database| tags.extend(database.rows().filter_map(|row| tag_of(self.world, place, &row.fields))));
        }
        tags.retain(|tag| !self.shows(tag));
        if let Some(tag) = self.random.pick(&tags).cloned() {
            self.insert(&tag);
        }
    }

    fn insert(&mut self, tag: &str) {
        self.insert_as(tag, tag);
    }

    fn insert_as(&mut self, tag: &str, code: &str) {
        let operation = self.numbers.operation();
        let key = Key(vec![Value::Text(code.to_owned())]);
        let fields = self.record(tag, operation, &key);
        self.transact(operation, |database, draft| database.insert(draft, &Author::User(operation), fields).map(|_| ()));
    }

    fn shows(&self, tag: &str) -> bool {
        let Some(system) = self.system() else { return false };
        let tagged = |row: &Row| tag_of(self.world, self.member, &row.fields).as_deref() == Some(tag);
        system.look(|database| database.rows().any(|row| tagged(row) && !is_marked_gone(&row.fields)))
    }

    /// A new record: some of its fields are filled in.
    fn record(&mut self, tag: &str, operation: u64, key: &Key) -> Record {
        let mut record = Record::new();
        for field in self.editable() {
            if self.random.percent(70) {
                record.set(self.world.native(self.member, field), self.value(field, operation));
            }
        }
        record.overlay(&identity(self.world, self.member, tag, key));
        record
    }
}

/// The fields that tell which record this is: the tag, and the code where there is one.
pub fn identity(world: &World, member: usize, tag: &str, key: &Key) -> Record {
    let mut record = Record::new();
    for (place, field) in world.fields.iter().enumerate() {
        let natural = world.members.get(member).is_some_and(|member| member.keys == KeyKind::Natural);
        let value = match (field.purpose, key.0.first()) {
            (Purpose::Tag, _) => Value::Text(tag.to_owned()),
            (Purpose::Code, Some(code @ Value::Text(_))) if natural => code.clone(),
            (Purpose::Code, _) => Value::Text(tag.to_owned()),
            _ => continue,
        };
        record.set(world.native(member, place), value);
    }
    record
}

/// Whether a row is marked as gone.
pub fn is_marked_gone(fields: &Record) -> bool {
    fields.get(GONE) == Some(&Value::Int(1))
}

/// The tag of a row.
pub fn tag_of(world: &World, member: usize, fields: &Record) -> Option<String> {
    let place = world.fields.iter().position(|field| field.purpose == Purpose::Tag)?;
    match fields.get(world.native(member, place).as_str()) {
        Some(Value::Text(tag)) => Some(tag.clone()),
        _ => None,
    }
}
