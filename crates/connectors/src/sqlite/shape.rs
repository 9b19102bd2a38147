//! The part of a table that a selection shows: which columns are asked for and how a row of them becomes a record.
//! Shared by everything that reads or writes rows; it runs no statement of its own.

use super::errors::classify;
use super::schema::{Column, Table, quoted};
use super::types::{Cell, Misfit};
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::{FieldName, Key, ObjectName, Record};
use concord_engine::schema::Selection;
use concord_engine::value::Value;
use rusqlite::{Connection, Row};

/// A table and the columns of it that are shown, key columns always among them.
pub(super) struct Shape {
    pub table: Table,
    shown: Vec<usize>,
}

/// A row as it was read.
pub(super) struct Shown {
    pub key: Key,
    pub record: Record,
    /// The key's columns exactly as stored, for the cursor of a snapshot.
    pub cells: Vec<Cell>,
    pub size: usize,
}

/// The table of this name, whether it has a key or not.
pub(super) fn any_table(connection: &Connection, object: &ObjectName) -> Result<Table> {
    Table::load(connection, object.as_str())?
        .ok_or_else(|| Error::new(Code::ObjectMissing, format!("there is no table {object} in the file")))
}

/// The table of this name, with a key.
pub(super) fn table(connection: &Connection, object: &ObjectName) -> Result<Table> {
    let table = any_table(connection, object)?;
    if table.key.is_empty() {
        return Err(Error::new(Code::KeyMissing, format!("the table {object} has no primary key")));
    }
    Ok(table)
}

impl Shape {
    pub fn load(connection: &Connection, selection: &Selection) -> Result<Shape> {
        Shape::of(table(connection, &selection.object)?, selection)
    }

    /// Of a table that may have no key.
    pub fn of(table: Table, selection: &Selection) -> Result<Shape> {
        let mut shown = table.key.clone();
        for field in &selection.fields {
            let place = table
                .place(field.as_str())
                .ok_or_else(|| Error::new(Code::FieldMissing, format!("the table {} has no column {field}", selection.object)))?;
            shown.push(place);
        }
        shown.sort_unstable();
        shown.dedup();
        Ok(Shape { table, shown })
    }

    /// The same table with these columns shown as well; names that it does not have are left out.
    pub fn with<'a>(&self, fields: impl Iterator<Item = &'a FieldName>) -> Shape {
        let mut shown = self.shown.clone();
        shown.extend(fields.filter_map(|field| self.table.place(field.as_str())));
        shown.sort_unstable();
        shown.dedup();
        Shape { table: self.table.clone(), shown }
    }

    /// `SELECT … FROM …`, to be continued.
    pub fn select(&self) -> String {
        format!("SELECT {} FROM {}", self.columns_text(), quoted(&self.table.name))
    }

    /// The condition that finds one row by its key, its parameters in the key's order.
    pub fn by_key(&self) -> String {
        by_key(&self.table)
    }

    /// The key's columns as a list.
    pub fn key_text(&self) -> String {
        self.table.key_columns().map(|column| quoted(&column.name)).collect::<Vec<_>>().join(", ")
    }

    fn columns_text(&self) -> String {
        self.shown_columns().map(|(_, column)| quoted(&column.name)).collect::<Vec<_>>().join(", ")
    }

    fn shown_columns(&self) -> impl Iterator<Item = (usize, &Column)> {
        self.shown.iter().filter_map(|place| Some((*place, self.table.columns.get(*place)?)))
    }

    /// What a row of [`Shape::select`] shows.
    pub fn read(&self, row: &Row<'_>) -> rusqlite::Result<Shown> {
        let mut record = Vec::with_capacity(self.shown.len());
        let mut keys: Vec<Option<(Value, Cell)>> = vec![None; self.table.key.len()];
        let mut size = 0_usize;
        for (at, (place, column)) in self.shown_columns().enumerate() {
            let cell = Cell::of(row.get_ref(at)?);
            size = size.saturating_add(cell.size()).saturating_add(column.name.len());
            let in_key = self.table.key.iter().position(|key| *key == place);
            let value = if in_key.is_some() { column.ty.decode_key(&cell) } else { column.ty.decode(&cell) };
            if let Some(slot) = in_key.and_then(|position| keys.get_mut(position)) {
                *slot = Some((value.clone(), cell));
            }
            record.push((FieldName::from(column.name.as_str()), value));
        }
        let (key, cells) = keys.into_iter().flatten().unzip();
        Ok(Shown { key: Key(key), record: record.into_iter().collect(), cells, size })
    }

    /// A row read through a wider shape, with only this shape's columns left.
    pub fn narrow(&self, mut shown: Shown) -> Shown {
        shown.record = shown
            .record
            .into_iter()
            .filter(|(field, _)| self.shown_columns().any(|(_, column)| column.name == field.as_str()))
            .collect();
        shown
    }

    /// The row of this key now.
    pub fn find(&self, connection: &Connection, key: &[Cell]) -> Result<Option<Shown>> {
        self.find_row(connection, key).map_err(|error| classify(error, &format!("reading {}", self.table.name)))
    }

    fn find_row(&self, connection: &Connection, key: &[Cell]) -> rusqlite::Result<Option<Shown>> {
        let mut statement = connection.prepare_cached(&format!("{} WHERE {}", self.select(), self.by_key()))?;
        let mut rows = statement.query(rusqlite::params_from_iter(key))?;
        rows.next()?.map(|row| self.read(row)).transpose()
    }

    /// A key as it is stored; a misfit is a key that no row can have.
    pub fn key_cells(&self, key: &Key) -> std::result::Result<Vec<Cell>, Misfit> {
        if key.0.len() != self.table.key.len() {
            return Err(Misfit("the key has another number of columns"));
        }
        self.table.key_columns().zip(&key.0).map(|(column, value)| column.ty.encode(value)).collect()
    }
}

/// What to store in a column for a value; the error names the column, never the value.
pub(super) fn cell(table: &Table, column: &Column, value: &Value) -> Result<Cell> {
    column.ty.encode(value).map_err(|misfit| {
        let message = format!("{}.{} ({}): {}", table.name, column.name, column.ty.declared, misfit.0);
        Error::new(Code::ValueDoesNotFit, message)
    })
}

/// The condition that finds one row of a table by its key, its parameters in the key's order.
pub(super) fn by_key(table: &Table) -> String {
    table.key_columns().map(|column| format!("{} = ?", quoted(&column.name))).collect::<Vec<_>>().join(" AND ")
}
