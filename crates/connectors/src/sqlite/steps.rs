//! Steps of a mirror sync as statements: one is prepared for all steps of a shape and run for each of them, in their order.
//! There is no way to the server to be saved here, and a statement for one record that fails undoes itself alone, so what is
//! refused costs the others nothing. Runs inside a transaction that somebody else begins and ends.

use super::asking::Asking;
use super::errors::{classify, classify_write, is_not_understood, is_the_records_own, is_value_taken};
use super::exchange;
use super::schema::{Table, quoted};
use super::shape::{by_key, cell};
use super::types::Cell;
use concord_engine::error::{Code, Error, Result};
use concord_engine::mirror::batch::Step;
use concord_engine::record::{FieldName, Key, Record};
use rusqlite::types::ToSqlOutput;
use rusqlite::{CachedStatement, Connection};
use std::collections::BTreeMap;

/// The most statements that are held at once: steps have few shapes.
const PREPARED_MAX: usize = 16;

/// Why a step was not carried out.
pub(super) enum Trouble {
    /// The record's own: others can be carried out.
    Own(Error),
    /// Nothing can be carried out.
    Whole(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::Whole(error)
    }
}

type Tried<T> = std::result::Result<T, Trouble>;

/// Whether a step has met its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Met {
    Yes,
    No,
}

/// What a statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Put,
    /// A record without a key.
    Append,
    Change,
    Remove,
    Empty,
    /// The whole row, columns that no mapping names as well.
    Read,
    PutBack,
}

/// A statement for the steps of one shape.
struct Prepared<'c> {
    kind: Kind,
    fields: Vec<FieldName>,
    /// Places of the fields' columns.
    columns: Vec<usize>,
    text: String,
    statement: CachedStatement<'c>,
}

/// Carries out steps in one table.
pub(super) struct Writer<'c> {
    connection: &'c Connection,
    table: &'c Table,
    prepared: Vec<Prepared<'c>>,
    nothing: Record,
}

impl<'c> Writer<'c> {
    pub fn new(connection: &'c Connection, table: &'c Table) -> Writer<'c> {
        Writer { connection, table, prepared: Vec::new(), nothing: Record::new() }
    }

    /// Carries out some steps, one after the other; gives back those that are refused. The others stand.
    pub fn carefully(&mut self, mut steps: Vec<Step>, asking: &Asking) -> Result<Vec<(Step, Error)>> {
        let mut refused: Vec<(usize, Error)> = Vec::new();
        let mut unmet: BTreeMap<Vec<u8>, Key> = BTreeMap::new();
        for (place, step) in steps.iter().enumerate() {
            match self.carry_out(step) {
                Ok(Met::Yes) => {}
                Ok(Met::No) => unmet.extend(step.key().map(|key| (key.encode(), key.clone()))),
                Err(Trouble::Own(error)) => {
                    self.leave_the_old_key(step)?;
                    refused.push((place, error));
                }
                Err(Trouble::Whole(error)) => return Err(error),
            }
        }
        // Partial changes of records that are not here, because they were refused or removed: all of each is carried, as it is now,
        // which is behind everything that was told.
        let mut unmet: Vec<Key> = unmet.into_values().collect();
        while !unmet.is_empty() {
            let (whole, looked_for) = asking.whole(unmet.clone())?;
            for step in whole {
                match self.carry_out(&step) {
                    // That all of the record was said is all that is kept of it.
                    Ok(_) => steps.extend(step.key().cloned().map(|key| Step::Remove { key })),
                    Err(Trouble::Own(error)) => {
                        refused.push((steps.len(), error));
                        steps.push(step);
                    }
                    Err(Trouble::Whole(error)) => return Err(error),
                }
            }
            unmet.drain(..looked_for.clamp(1, unmet.len()));
        }
        exchange::place(self, &steps, &mut refused, asking)?;
        let of = |(place, error): (usize, Error)| Some((steps.get(place)?.clone(), of_one(error)));
        Ok(refused.into_iter().filter_map(of).collect())
    }

    /// Carries out one step.
    pub fn carry_out(&mut self, step: &Step) -> Tried<Met> {
        match step {
            Step::Put { record, .. } => self.put(record),
            Step::Change { key, set } => self.change(key, set),
            Step::Rekey { from, set, whole, .. } => match self.change(from, set)? {
                Met::No if *whole => self.put(set),
                met => Ok(met),
            },
            Step::Remove { key } => self.remove(key).map(|()| Met::Yes),
            Step::Empty => self.run(Kind::Empty, &Record::new(), &[]).map(|_| Met::Yes),
            Step::Append { record, .. } => match self.run(Kind::Append, record, &[])? {
                0 => Err(self.ignored()),
                _ => Ok(Met::Yes),
            },
        }
    }

    /// Makes that a record shows this, whether it is there or not.
    pub fn put(&mut self, record: &Record) -> Tried<Met> {
        let only_key = record.len() <= self.table.key.len();
        match self.run(Kind::Put, record, &[])? {
            0 if !only_key => Err(self.ignored()),
            _ => Ok(Met::Yes),
        }
    }

    fn change(&mut self, key: &Key, set: &Record) -> Tried<Met> {
        if set.is_empty() {
            // Nothing that is carried has changed.
            return Ok(Met::Yes);
        }
        let Some(key) = self.key_cells(key) else { return Ok(Met::No) };
        let changed = self.run(Kind::Change, set, &key)?;
        Ok(if changed == 0 { Met::No } else { Met::Yes })
    }

    fn remove(&mut self, key: &Key) -> Tried<()> {
        match self.key_cells(key) {
            Some(key) => self.run(Kind::Remove, &Record::new(), &key).map(drop),
            None => Ok(()),
        }
    }

    /// A record that took another key and is refused in what else it shows: it takes the key alone, for under its old one it
    /// would stay for ever. Where that is refused as well, it goes.
    fn leave_the_old_key(&mut self, step: &Step) -> Result<()> {
        let Step::Rekey { from, to, .. } = step else { return Ok(()) };
        let names = self.table.key_columns().map(|column| FieldName::from(column.name.as_str()));
        let moved: Record = names.zip(to.0.iter().cloned()).collect();
        let done = match self.change(from, &moved) {
            Err(Trouble::Own(_)) => self.remove(from),
            done => done.map(drop),
        };
        match done {
            Err(Trouble::Whole(error)) => Err(error),
            Ok(()) | Err(Trouble::Own(_)) => Ok(()),
        }
    }

    /// Takes a record away; gives back what was stored in every column that can be written, if it was there.
    pub fn take_away(&mut self, key: &Key) -> Tried<Option<Vec<Cell>>> {
        let Some(key_cells) = self.key_cells(key) else { return Ok(None) };
        let place = self.prepare(Kind::Read, None)?;
        let Some(prepared) = self.prepared.get_mut(place) else { return Err(lost().into()) };
        let width = prepared.columns.len();
        let read = |statement: &mut CachedStatement<'_>| {
            let mut rows = statement.query(rusqlite::params_from_iter(&key_cells))?;
            let Some(row) = rows.next()? else { return Ok(None) };
            (0..width).map(|at| row.get_ref(at).map(Cell::of)).collect::<rusqlite::Result<Vec<Cell>>>().map(Some)
        };
        let stored = read(&mut prepared.statement).map_err(|error| classify(error, &doing(self.table)))?;
        if stored.is_some() {
            self.run(Kind::Remove, &Record::new(), &key_cells)?;
        }
        Ok(stored)
    }

    /// Puts a record that was taken away in its place, with what it shows now in the fields that are given.
    pub fn put_back(&mut self, mut stored: Vec<Cell>, shown: &Record) -> Tried<()> {
        let place = self.prepare(Kind::PutBack, None)?;
        let columns = self.prepared.get(place).map(|prepared| prepared.columns.clone()).unwrap_or_default();
        for (field, value) in shown.iter() {
            let at = columns.iter().position(|at| self.table.columns.get(*at).is_some_and(|own| own.name == field.as_str()));
            let own = at.and_then(|at| Some((stored.get_mut(at)?, self.table.columns.get(*columns.get(at)?)?)));
            let (slot, column) = own.ok_or_else(|| self.no_column(field))?;
            *slot = cell(self.table, column, value).map_err(Trouble::Own)?;
        }
        match self.run(Kind::PutBack, &Record::new(), &stored)? {
            0 => Err(self.ignored()),
            _ => Ok(()),
        }
    }

    /// Runs a statement that answers nothing.
    pub fn command(&self, text: &str) -> Result<()> {
        self.connection
            .prepare_cached(text)
            .and_then(|mut statement| statement.execute([]))
            .map(drop)
            .map_err(|error| classify(error, &doing(self.table)))
    }

    /// Runs the statement of a shape with the values of these fields and these cells behind them; how many rows it changed.
    fn run(&mut self, kind: Kind, fields: &Record, cells: &[Cell]) -> Tried<usize> {
        let place = self.prepare(kind, Some(fields))?;
        let table = self.table;
        let Some(prepared) = self.prepared.get_mut(place) else { return Err(lost().into()) };
        let mut number: usize = 0;
        for ((_, value), place) in fields.iter().zip(&prepared.columns) {
            let column = table.columns.get(*place).ok_or_else(lost)?;
            number = number.saturating_add(1);
            let bound = match column.ty.as_it_is(value) {
                Some(value) => prepared.statement.raw_bind_parameter(number, ToSqlOutput::Borrowed(value)),
                None => prepared.statement.raw_bind_parameter(number, cell(table, column, value).map_err(Trouble::Own)?),
            };
            bound.map_err(|error| classify(error, &doing(table)))?;
        }
        for cell in cells {
            number = number.saturating_add(1);
            prepared.statement.raw_bind_parameter(number, cell).map_err(|error| classify(error, &doing(table)))?;
        }
        match prepared.statement.raw_execute() {
            Ok(changed) => Ok(changed),
            Err(error) => Err(self.trouble(place, error)),
        }
    }

    /// Whose fault an error is.
    fn trouble(&self, place: usize, error: rusqlite::Error) -> Trouble {
        let doing = doing(self.table);
        if self.connection.is_autocommit() {
            // What a trigger undid is more than one record; what the disk made SQLite undo passes.
            return Trouble::Whole(classify_write(error, &doing));
        }
        let text = self.prepared.get(place).map(|prepared| prepared.text.as_str()).unwrap_or_default();
        if is_not_understood(&error) && self.connection.prepare(text).is_err() {
            return Trouble::Whole(self.not_understood(error));
        }
        let (own, taken) = (is_the_records_own(&error), is_value_taken(&error));
        let error = classify_write(error, &doing);
        match (own, taken) {
            (true, true) => Trouble::Own(Error { code: Code::AlreadyThere, ..error }),
            (true, false) => Trouble::Own(error),
            (false, _) => Trouble::Whole(error),
        }
    }

    /// A statement that names what is not there: the table has been altered, or a trigger needs what only the application has.
    fn not_understood(&self, error: rusqlite::Error) -> Error {
        let name = &self.table.name;
        let now = match Table::load(self.connection, name) {
            Ok(now) => now,
            Err(error) => return error,
        };
        let Some(now) = now else {
            return Error::new(Code::ObjectMissing, format!("there is no table {name} in the file any more"));
        };
        match self.table.columns.iter().find(|column| now.place(&column.name).is_none()) {
            Some(column) => Error::new(Code::FieldMissing, format!("the table {name} has no column {} any more", column.name)),
            None => classify_write(error, &doing(self.table)),
        }
    }

    /// The place of the statement for steps of this kind and these fields.
    fn prepare(&mut self, kind: Kind, fields: Option<&Record>) -> Tried<usize> {
        let fields = fields.unwrap_or(&self.nothing);
        let same = |one: &Prepared<'_>| {
            one.kind == kind && one.fields.len() == fields.len() && one.fields.iter().eq(fields.iter().map(|(name, _)| name))
        };
        if let Some(place) = self.prepared.iter().position(same) {
            return Ok(place);
        }
        let columns = match kind {
            Kind::Read | Kind::PutBack => {
                let own = self.table.columns.iter().enumerate().filter(|(_, column)| !column.generated);
                own.map(|(place, _)| place).collect()
            }
            _ => {
                let place = |(name, _): (&FieldName, _)| self.table.place(name.as_str()).ok_or_else(|| self.no_column(name));
                fields.iter().map(place).collect::<Tried<Vec<usize>>>()?
            }
        };
        let text = text(self.table, kind, &columns);
        let statement = self.connection.prepare_cached(&text).map_err(|error| match is_not_understood(&error) {
            true => self.not_understood(error),
            false => classify(error, &doing(self.table)),
        })?;
        let fields = fields.iter().map(|(name, _)| name.clone()).collect();
        if self.prepared.len() >= PREPARED_MAX {
            self.prepared.remove(0);
        }
        self.prepared.push(Prepared { kind, fields, columns, text, statement });
        Ok(self.prepared.len().saturating_sub(1))
    }

    /// A key as it is stored; none: no row can have it.
    fn key_cells(&self, key: &Key) -> Option<Vec<Cell>> {
        if key.0.len() != self.table.key.len() {
            return None;
        }
        self.table.key_columns().zip(&key.0).map(|(column, value)| column.ty.encode(value).ok()).collect()
    }

    fn no_column(&self, field: &FieldName) -> Trouble {
        Trouble::Whole(Error::new(Code::FieldMissing, format!("the table {} has no column {field}", self.table.name)))
    }

    fn ignored(&self) -> Trouble {
        Trouble::Own(Error::new(Code::TargetRejected, format!("a trigger of {} ignored the write", self.table.name)))
    }
}

fn doing(table: &Table) -> String {
    format!("mirroring into {}", table.name)
}

fn lost() -> Error {
    Error::new(Code::Internal, "a statement was lost")
}

fn text(table: &Table, kind: Kind, columns: &[usize]) -> String {
    let name = quoted(&table.name);
    let names: Vec<String> =
        columns.iter().filter_map(|place| table.columns.get(*place)).map(|column| quoted(&column.name)).collect();
    let list = names.join(", ");
    let values = vec!["?"; names.len()].join(", ");
    match kind {
        Kind::Put => {
            let key: Vec<String> = table.key_columns().map(|column| quoted(&column.name)).collect();
            let set: Vec<String> =
                names.iter().filter(|name| !key.contains(name)).map(|name| format!("{name} = excluded.{name}")).collect();
            let action = if set.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", set.join(", ")) };
            format!("INSERT INTO {name} ({list}) VALUES ({values}) ON CONFLICT ({}) DO {action}", key.join(", "))
        }
        Kind::Change => {
            let set: Vec<String> = names.iter().map(|name| format!("{name} = ?")).collect();
            format!("UPDATE {name} SET {} WHERE {}", set.join(", "), by_key(table))
        }
        Kind::Remove => format!("DELETE FROM {name} WHERE {}", by_key(table)),
        Kind::Empty => format!("DELETE FROM {name}"),
        Kind::Read => format!("SELECT {list} FROM {name} WHERE {}", by_key(table)),
        Kind::Append if names.is_empty() => format!("INSERT INTO {name} DEFAULT VALUES"),
        Kind::Append | Kind::PutBack => format!("INSERT INTO {name} ({list}) VALUES ({values})"),
    }
}

/// The error of a single record, in the code that says so.
fn of_one(error: Error) -> Error {
    match error.code {
        Code::AlreadyThere => Error { code: Code::ValueTaken, ..error },
        Code::StillReferred => Error { code: Code::TargetRejected, ..error },
        _ => error,
    }
}
