//! Guarded writes: one transaction per batch under one mark, one savepoint per write. A guard is compared inside the
//! transaction that holds the write lock, by meaning and not by spelling, so nothing can come between. Nothing here
//! retries what the engine would not know of.

use super::capture::write_mark;
use super::errors::{classify, classify_write, is_key_taken, is_the_records_own};
use super::position::version;
use super::read::matching;
use super::schema::quoted;
use super::shape::{self, Shape};
use super::storage;
use super::types::Cell;
use concord_engine::change::Mark;
use concord_engine::connector::{Operation, Outcome, Write, WriteResult};
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::{FieldName, Key, Record};
use concord_engine::schema::Selection;
use concord_engine::value::Value;
use rusqlite::{Connection, ErrorCode};

/// How a transaction ended.
enum Ended {
    /// Committed, or what else became of each write.
    Settled(Vec<Outcome>),
    /// One write made the database undo the whole transaction.
    Undone { by: usize, error: Error },
    /// The commit was refused: a deferred constraint does not hold.
    Refused(Error),
}

/// Why a write did not happen.
enum Trouble {
    /// The record's own: others can be written.
    Own(Error),
    /// A record with this key is there already.
    Taken,
    /// The whole batch cannot go on.
    Whole(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::Whole(error)
    }
}

/// What every write of a batch shares.
struct Job<'a> {
    connection: &'a Connection,
    selection: &'a Selection,
    mark: String,
    writes: &'a [Write],
}

/// Writes a batch; see [`Connector::apply`](concord_engine::connector::Connector::apply).
pub(super) fn apply(connection: &Connection, selection: &Selection, mark: &Mark, writes: &[Write]) -> Result<Vec<WriteResult>> {
    let job = Job { connection, selection, mark: write_mark(mark)?, writes };
    let mut outcomes: Vec<Option<Outcome>> = vec![None; writes.len()];
    let mut open: Vec<usize> = (0..writes.len()).collect();
    while !open.is_empty() {
        match job.transaction(&open) {
            Ok(Ended::Settled(settled)) => assign(&mut outcomes, &open, settled),
            Ok(Ended::Undone { by, error }) => {
                assign(&mut outcomes, &[by], vec![Outcome::Failed(error)]);
                open.retain(|place| *place != by);
                continue;
            }
            Ok(Ended::Refused(error)) if open.len() == 1 => assign(&mut outcomes, &open, vec![Outcome::Failed(error)]),
            Ok(Ended::Refused(_)) => job.singly(&open, &mut outcomes),
            Err(error) if error.code == Code::Busy => {
                let locked = open.iter().map(|_| Outcome::Locked).collect();
                assign(&mut outcomes, &open, locked);
            }
            Err(error) => return Err(error),
        }
        open.clear();
    }
    Ok(writes
        .iter()
        .zip(outcomes)
        .map(|(write, outcome)| WriteResult { id: write.id, outcome: of_its_own(write, outcome.unwrap_or(Outcome::Unknown)) })
        .collect())
}

fn assign(outcomes: &mut [Option<Outcome>], places: &[usize], settled: Vec<Outcome>) {
    for (place, outcome) in places.iter().zip(settled) {
        if let Some(slot) = outcomes.get_mut(*place) {
            *slot = Some(outcome);
        }
    }
}

/// A foreign key that forbids anything but a delete is the record's own fault: what it refers to is missing.
fn of_its_own(write: &Write, outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Failed(error) if error.code == Code::StillReferred && !matches!(write.operation, Operation::Delete { .. }) => {
            Outcome::Failed(Error { code: Code::TargetRejected, ..error })
        }
        outcome => outcome,
    }
}

impl Job<'_> {
    /// Each write in a transaction of its own; those that a deferred constraint still refuses, once more together:
    /// they may hold for each other.
    fn singly(&self, open: &[usize], outcomes: &mut [Option<Outcome>]) {
        let mut refused = Vec::new();
        for place in open {
            let outcome = match self.transaction(&[*place]) {
                Ok(Ended::Settled(settled)) => settled,
                Ok(Ended::Undone { error, .. }) => vec![Outcome::Failed(error)],
                Ok(Ended::Refused(error)) => {
                    refused.push(*place);
                    vec![Outcome::Failed(error)]
                }
                Err(error) if error.code == Code::Busy => vec![Outcome::Locked],
                Err(error) => vec![Outcome::Failed(error)],
            };
            assign(outcomes, &[*place], outcome);
        }
        if refused.len() > 1
            && let Ok(Ended::Settled(settled)) = self.transaction(&refused)
        {
            assign(outcomes, &refused, settled);
        }
    }

    fn transaction(&self, places: &[usize]) -> Result<Ended> {
        self.command("BEGIN IMMEDIATE", "beginning to write")?;
        let ended = self.inside(places);
        if !matches!(ended, Ok(Ended::Settled(_))) && !self.connection.is_autocommit() {
            self.command("ROLLBACK", "rolling back")?;
        }
        ended
    }

    fn inside(&self, places: &[usize]) -> Result<Ended> {
        if storage::database(self.connection)?.is_none() {
            return Err(Error::new(
                Code::FeedGap,
                "the change table is not in the file: it was removed, or the file is another one",
            ));
        }
        let shape = Shape::load(self.connection, self.selection)?;
        self.sign(Some(&self.mark))?;
        let mut settled = Vec::with_capacity(places.len());
        for place in places {
            let Some(write) = self.writes.get(*place) else { continue };
            match self.one(&shape, write) {
                Ok(outcome) => settled.push(outcome),
                Err(trouble) if self.connection.is_autocommit() => {
                    return match trouble {
                        Trouble::Own(error) => Ok(Ended::Undone { by: *place, error }),
                        Trouble::Taken => Ok(Ended::Undone { by: *place, error: taken(&shape) }),
                        Trouble::Whole(error) => Err(error),
                    };
                }
                Err(Trouble::Whole(error)) => return Err(error),
                Err(Trouble::Own(error)) => settled.push(self.step_back(Outcome::Failed(error))?),
                Err(Trouble::Taken) => settled.push(self.step_back(Outcome::Collision)?),
            }
        }
        self.sign(None)?;
        self.commit(settled)
    }

    fn commit(&self, settled: Vec<Outcome>) -> Result<Ended> {
        let Err(failure) = self.connection.execute_batch("COMMIT") else { return Ok(Ended::Settled(settled)) };
        let refused = failure.sqlite_error_code() == Some(ErrorCode::ConstraintViolation);
        let error = classify(failure, &format!("committing writes to {}", self.selection.object));
        if refused {
            return Ok(Ended::Refused(error));
        }
        if !self.connection.is_autocommit() {
            return Err(error);
        }
        // The transaction is over and the failure does not say how: whatever was written is to be verified.
        let unsure = |outcome| if matches!(outcome, Outcome::Written { .. }) { Outcome::Unknown } else { outcome };
        Ok(Ended::Settled(settled.into_iter().map(unsure).collect()))
    }

    /// Puts the mark where the triggers find it.
    fn sign(&self, mark: Option<&str>) -> Result<()> {
        self.connection
            .prepare_cached("UPDATE _concord_mark SET mark = ?1")
            .and_then(|mut statement| statement.execute([mark]))
            .map(|_| ())
            .map_err(|error| classify(error, "marking the transaction"))
    }

    fn command(&self, text: &str, doing: &str) -> Result<()> {
        self.connection
            .prepare_cached(text)
            .and_then(|mut statement| statement.execute([]))
            .map(|_| ())
            .map_err(|error| classify(error, doing))
    }

    fn step_back(&self, outcome: Outcome) -> Result<Outcome> {
        self.command("ROLLBACK TO one_write", "undoing a write")?;
        self.command("RELEASE one_write", "undoing a write")?;
        Ok(outcome)
    }

    fn one(&self, shape: &Shape, write: &Write) -> std::result::Result<Outcome, Trouble> {
        self.command("SAVEPOINT one_write", "beginning a write")?;
        let outcome = match &write.operation {
            Operation::Create { image, absent_by } => self.create(shape, image, absent_by),
            Operation::Update { key, set, guard } => self.update(shape, key, set, guard),
            Operation::Delete { key, guard } => self.delete(shape, key, guard),
        }?;
        self.command("RELEASE one_write", "ending a write")?;
        Ok(outcome)
    }

    fn create(&self, shape: &Shape, image: &Record, absent_by: &[FieldName]) -> std::result::Result<Outcome, Trouble> {
        if self.is_there(shape, image, absent_by)? {
            return Ok(Outcome::Collision);
        }
        let (columns, cells) = self.assignments(shape, image)?;
        let into = quoted(&shape.table.name);
        let keys = shape.key_text();
        let text = if columns.is_empty() {
            format!("INSERT INTO {into} DEFAULT VALUES RETURNING {keys}")
        } else {
            format!("INSERT INTO {into} ({}) VALUES ({}) RETURNING {keys}", columns.join(", "), vec!["?"; cells.len()].join(", "))
        };
        let width = shape.table.key.len();
        let key = self
            .connection
            .prepare_cached(&text)
            .and_then(|mut statement| {
                let mut rows = statement.query(rusqlite::params_from_iter(&cells))?;
                let mut key: Option<Vec<Cell>> = None;
                while let Some(row) = rows.next()? {
                    key = Some((0..width).map(|at| row.get_ref(at).map(Cell::of)).collect::<rusqlite::Result<_>>()?);
                }
                Ok(key)
            })
            .map_err(|error| if is_key_taken(&error) { Trouble::Taken } else { self.trouble(error, "creating a record in") })?
            .ok_or_else(|| self.ignored())?;
        self.written(shape, &key)
    }

    /// Whether a record with the given key, or with equal values in all of `absent_by`, is there.
    fn is_there(&self, shape: &Shape, image: &Record, absent_by: &[FieldName]) -> std::result::Result<bool, Trouble> {
        let given: Option<Vec<Value>> = shape.table.key_columns().map(|column| image.get(&column.name).cloned()).collect();
        if let Some(key) = given
            && let Ok(cells) = shape.key_cells(&Key(key))
            && shape.find(self.connection, &cells)?.is_some()
        {
            return Ok(true);
        }
        let wanted: Vec<Value> =
            absent_by.iter().map(|field| image.get(field.as_str()).cloned().unwrap_or(Value::Null)).collect();
        Ok(!wanted.is_empty() && !matching(self.connection, shape, absent_by, &wanted, 1)?.is_empty())
    }

    fn update(&self, shape: &Shape, key: &Key, set: &Record, guard: &Record) -> std::result::Result<Outcome, Trouble> {
        let Some(stored) = self.guarded(shape, key, guard)? else { return Ok(Outcome::Missed) };
        let (columns, mut cells) = self.assignments(shape, set)?;
        if columns.is_empty() {
            return self.written(shape, &stored);
        }
        let now: Vec<Cell> = shape
            .table
            .key_columns()
            .zip(&stored)
            .map(|(column, cell)| {
                let place = set.iter().position(|(field, _)| field.as_str() == column.name);
                place.and_then(|place| cells.get(place)).unwrap_or(cell).clone()
            })
            .collect();
        let assignments: Vec<String> = columns.iter().map(|column| format!("{column} = ?")).collect();
        let text = format!("UPDATE {} SET {} WHERE {}", quoted(&shape.table.name), assignments.join(", "), shape.by_key());
        cells.extend(stored);
        self.change(&text, &cells, "updating a record of")?;
        self.written(shape, &now)
    }

    fn delete(&self, shape: &Shape, key: &Key, guard: &Record) -> std::result::Result<Outcome, Trouble> {
        let Some(stored) = self.guarded(shape, key, guard)? else { return Ok(Outcome::Missed) };
        let text = format!("DELETE FROM {} WHERE {}", quoted(&shape.table.name), shape.by_key());
        self.change(&text, &stored, "deleting a record of")?;
        Ok(Outcome::Written { key: key.clone(), image: None, version: version(storage::last_seq(self.connection)?) })
    }

    /// The stored key of the record, if it is there and shows the guard.
    fn guarded(&self, shape: &Shape, key: &Key, guard: &Record) -> std::result::Result<Option<Vec<Cell>>, Trouble> {
        if let Some((field, _)) = guard.iter().find(|(field, _)| shape.table.place(field.as_str()).is_none()) {
            return Err(Trouble::Own(no_column(shape, field)));
        }
        let Ok(cells) = shape.key_cells(key) else { return Ok(None) };
        let Some(shown) = shape.with(guard.iter().map(|(field, _)| field)).find(self.connection, &cells)? else {
            return Ok(None);
        };
        let holds =
            guard.iter().all(|(field, value)| shown.record.get(field.as_str()).is_some_and(|held| held.equivalent(value)));
        Ok(holds.then_some(shown.cells))
    }

    /// Columns and what to store in them, in the order of the record's fields.
    fn assignments(&self, shape: &Shape, record: &Record) -> std::result::Result<(Vec<String>, Vec<Cell>), Trouble> {
        let mut columns = Vec::with_capacity(record.len());
        let mut cells = Vec::with_capacity(record.len());
        for (field, value) in record.iter() {
            let column = shape
                .table
                .place(field.as_str())
                .and_then(|place| shape.table.columns.get(place))
                .ok_or_else(|| Trouble::Own(no_column(shape, field)))?;
            let cell = shape::cell(&shape.table, column, value).map_err(Trouble::Own)?;
            columns.push(quoted(&column.name));
            cells.push(cell);
        }
        Ok((columns, cells))
    }

    fn change(&self, text: &str, cells: &[Cell], doing: &str) -> std::result::Result<(), Trouble> {
        let changed = self
            .connection
            .prepare_cached(text)
            .and_then(|mut statement| statement.execute(rusqlite::params_from_iter(cells)))
            .map_err(|error| self.trouble(error, doing))?;
        if changed == 0 { Err(self.ignored()) } else { Ok(()) }
    }

    /// The record as it is now, behind every trigger. One that a trigger took away again, or gave another key, was not
    /// written: what the trigger did is undone with it.
    fn written(&self, shape: &Shape, key: &[Cell]) -> std::result::Result<Outcome, Trouble> {
        let version = version(storage::last_seq(self.connection)?);
        match shape.find(self.connection, key)? {
            Some(shown) => Ok(Outcome::Written { key: shown.key, image: Some(shown.record), version }),
            None => Err(Trouble::Own(Error::new(
                Code::TargetRejected,
                format!("a trigger of {} took the record away again", self.selection.object),
            ))),
        }
    }

    fn trouble(&self, error: rusqlite::Error, doing: &str) -> Trouble {
        let own = is_the_records_own(&error);
        let error = classify_write(error, &format!("{doing} {}", self.selection.object));
        if own { Trouble::Own(error) } else { Trouble::Whole(error) }
    }

    fn ignored(&self) -> Trouble {
        Trouble::Own(Error::new(Code::TargetRejected, format!("a trigger of {} ignored the write", self.selection.object)))
    }
}

fn no_column(shape: &Shape, field: &FieldName) -> Error {
    Error::new(Code::FieldMissing, format!("the table {} has no column {field}", shape.table.name))
}

fn taken(shape: &Shape) -> Error {
    Error::new(Code::AlreadyThere, format!("a record of {} with this key is there already", shape.table.name))
}
