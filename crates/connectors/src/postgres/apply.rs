//! Writes a batch: one transaction (see `transaction`), and in it one statement per shape of write.
//! A statement that fails takes its transaction with it; the batch is then halved until the bad record stands alone,
//! so that every other is written once.

use super::batch::{self, Planned};
use super::guarded::{self, Kind, Met, Statement};
use super::read::key_of;
use super::schema::{Column, Table};
use super::{Shared, errors, insert, privileges};
use concord_engine::change::{Mark, Version};
use concord_engine::connector::{Operation, Outcome, Write, WriteResult};
use concord_engine::error::{Class, Code, Error, Result};
use concord_engine::record::Record;
use concord_engine::schema::Selection;
use std::sync::Arc;
use tokio_postgres::Row;

/// How writing sessions are set up: no wait without an end, and statements that are planned once. A server left to itself
/// plans a small batch anew each time, which costs twice what the batch does.
pub const SESSION_SETTINGS: &[(&str, &str)] = &[
    ("lock_timeout", "2s"),
    ("statement_timeout", "120s"),
    ("idle_in_transaction_session_timeout", "60s"),
    ("plan_cache_mode", "force_generic_plan"),
];

/// Everything that stays the same while a batch is halved.
pub(super) struct Job<'a> {
    pub(super) shared: &'a Shared,
    pub(super) table: &'a Table,
    shown: &'a [&'a Column],
    pub(super) mark: &'a str,
    pub(super) writes: &'a [Write],
}

/// What became of one transaction.
pub(super) enum Attempt {
    /// It stands, or nothing was to be written; each write's outcome.
    Settled(Vec<(usize, Outcome)>),
    /// Nothing of it was written.
    Refused(Error),
    /// Some creates must be asked one by one; nothing was written.
    Singly,
    /// Something must be seen before it is committed; nothing was written.
    Stepwise,
    /// It may stand.
    Unsure,
}

/// Writes a batch under one mark.
pub async fn apply(shared: &Shared, selection: &Selection, mark: &Mark, writes: &[Write]) -> Result<Vec<WriteResult>> {
    let _writing = shared.writing.read().await;
    let table: Arc<Table> = shared.table(&selection.object).await?;
    let shown = table.selected(selection)?;
    let mark =
        serde_json::to_string(mark).map_err(|error| Error::new(Code::Internal, "a mark cannot be written").because(error))?;
    let job = Job { shared, table: &table, shown: &shown, mark: &mark, writes };
    let mut outcomes: Vec<Option<Outcome>> = writes.iter().map(|_| None).collect();
    let mut waiting: Vec<(Vec<usize>, bool)> = vec![((0..writes.len()).collect(), false)];
    while let Some((places, singly)) = waiting.pop() {
        match job.attempt(&places, singly).await {
            Attempt::Settled(settled) => settled.into_iter().for_each(|(place, outcome)| set(&mut outcomes, place, outcome)),
            Attempt::Unsure => places.iter().for_each(|place| set(&mut outcomes, *place, Outcome::Unknown)),
            Attempt::Singly | Attempt::Stepwise => waiting.push((places, true)),
            Attempt::Refused(error) if is_of_everything(&error) => {
                shared.forget_if_stale(&selection.object, &error);
                let error = privileges::named(shared, &selection.object, privileges::of_batch(writes), error).await;
                if outcomes.iter().all(Option::is_none) {
                    return Err(error);
                }
                fail_rest(&mut outcomes, &error);
                break;
            }
            Attempt::Refused(error) => match places.as_slice() {
                [] => {}
                [place] => set(&mut outcomes, *place, alone(writes.get(*place), error)),
                many => {
                    let (first, second) = many.split_at(many.len() / 2);
                    waiting.push((second.to_vec(), singly));
                    waiting.push((first.to_vec(), singly));
                }
            },
        }
    }
    let result =
        |(write, outcome): (&Write, Option<Outcome>)| WriteResult { id: write.id, outcome: outcome.unwrap_or(Outcome::Unknown) };
    Ok(writes.iter().zip(outcomes).map(result).collect())
}

fn set(outcomes: &mut [Option<Outcome>], place: usize, outcome: Outcome) {
    if let Some(slot) = outcomes.get_mut(place) {
        *slot = Some(outcome);
    }
}

fn fail_rest(outcomes: &mut [Option<Outcome>], error: &Error) {
    for slot in outcomes.iter_mut().filter(|slot| slot.is_none()) {
        *slot = Some(Outcome::Failed(error.clone()));
    }
}

/// Whether an error is of the session or the table rather than of one record. A function behind a trigger may be called for one
/// record alone. Row level security refuses single records, too, with the code of a missing privilege; but where it applies to us,
/// nothing there can be read, and nobody can tell what became of the others.
fn is_of_everything(error: &Error) -> bool {
    match error.code {
        Code::PrivilegeMissing | Code::ObjectMissing | Code::FieldMissing if errors::is_in_function(error) => false,
        Code::PrivilegeMissing => true,
        Code::Unreachable | Code::ProtocolViolation => true,
        _ => error.class() == Class::Stop,
    }
}

/// The outcome of a write that fails by itself.
fn alone(write: Option<&Write>, error: Error) -> Outcome {
    let creates = write.is_some_and(|write| matches!(write.operation, Operation::Create { .. }));
    let deletes = write.is_some_and(|write| matches!(write.operation, Operation::Delete { .. }));
    match error.code {
        // The record that it refers to is missing.
        Code::StillReferred if !deletes => Outcome::Failed(Error { code: Code::TargetRejected, ..error }),
        Code::Busy => Outcome::Locked,
        Code::AlreadyThere if creates => Outcome::Collision,
        Code::AlreadyThere | Code::PrivilegeMissing => Outcome::Failed(Error { code: Code::TargetRejected, ..error }),
        Code::ObjectMissing | Code::FieldMissing if errors::is_in_function(&error) => {
            Outcome::Failed(Error { code: Code::TargetRejected, ..error })
        }
        _ => Outcome::Failed(error),
    }
}

impl Job<'_> {
    /// One transaction for the writes at `places`.
    async fn attempt(&self, places: &[usize], singly: bool) -> Attempt {
        let Planned { statements, failed } = match batch::plan(self.table, self.shown, self.writes, places, singly) {
            Ok(planned) => planned,
            Err(error) => return Attempt::Refused(error),
        };
        let mut settled: Vec<(usize, Outcome)> =
            failed.into_iter().map(|(place, error)| (place, Outcome::Failed(error))).collect();
        if statements.is_empty() {
            return Attempt::Settled(settled);
        }
        let mut ended = Err(Attempt::Stepwise);
        if let Some(check) = self.may_go_at_once(&statements) {
            ended = self.in_one_go(&statements, check.as_ref()).await;
        }
        if matches!(ended, Err(Attempt::Stepwise)) {
            ended = self.in_two_steps(&statements).await;
        }
        let written = match ended {
            Ok(written) => written,
            Err(attempt) => return attempt,
        };
        let hidden = if written.hides { Some(self.hidden().await) } else { None };
        for (place, met) in written.met {
            if let (Met::Missed, Some(hidden)) = (&met, &hidden) {
                // It may show what it should, and only not to us.
                settled.push((place, Outcome::Failed(hidden.clone())));
                continue;
            }
            match self.outcome(met, place, &written.version) {
                Ok(outcome) => settled.push((place, outcome)),
                // The write stands, only its answer cannot be read.
                Err(_) => settled.push((place, Outcome::Unknown)),
            }
        }
        Attempt::Settled(settled)
    }

    /// That row level security hides records from us.
    async fn hidden(&self) -> Error {
        let object = &self.table.schema.object;
        let error = Error::new(Code::PrivilegeMissing, format!("row level security hides records of {object} from us"));
        privileges::named(self.shared, object, privileges::of_batch(self.writes), error).await
    }

    /// What one statement met: something for each of its writes.
    pub(super) fn met(&self, statement: &Statement, rows: &[Row]) -> Result<Vec<(usize, Met)>> {
        let places = &statement.places;
        let one = |row: &Row| {
            let met = match statement.kind {
                Kind::CreateOne => insert::met_one(self.shown, row)?,
                kind => guarded::met(kind, self.shown, row)?,
            };
            Ok((guarded::place(places, row)?, met))
        };
        let met = match statement.kind {
            Kind::Create => insert::met_many(self.table, self.shown, places, rows)?,
            _ => rows.iter().map(one).collect::<Result<Vec<(usize, Met)>>>()?,
        };
        if met.len() == places.len() {
            return Ok(met);
        }
        Err(errors::unexpected(format!("{} results for {} writes", met.len(), places.len())))
    }

    fn outcome(&self, met: Met, place: usize, version: &Version) -> Result<Outcome> {
        Ok(match met {
            Met::Written(image) => Outcome::Written { key: self.key(place, image.as_ref())?, image, version: version.clone() },
            Met::Missed => Outcome::Missed,
            Met::Locked | Met::Again => Outcome::Locked,
            Met::Collision => Outcome::Collision,
            Met::Suppressed => {
                let message = format!("a trigger or rule of {} let the write vanish", self.table.schema.object);
                Outcome::Failed(Error::new(Code::TargetRejected, message))
            }
        })
    }

    /// The record's key now: as returned, or for a delete as it was asked for.
    fn key(&self, place: usize, image: Option<&Record>) -> Result<concord_engine::record::Key> {
        match (image, self.writes.get(place).map(|write| &write.operation)) {
            (Some(image), _) => key_of(self.table, image),
            (None, Some(Operation::Delete { key, .. } | Operation::Update { key, .. })) => Ok(key.clone()),
            (None, _) => Err(errors::unexpected("a create without an image")),
        }
    }
}
