//! The engine's view of a [`System`]: the whole of `Connector`, with delays before and after every effect and with the
//! faults of the seed in between. Keeps the contract to the letter and no kindness beyond it.

use crate::feed::{Stream, decode_position, encode_position};
use crate::system::{Gate, Slot, State, System, THROTTLE, compare_versions, encode_version, key_text, project};
use async_trait::async_trait;
use concord_engine::change::{EditTime, Image, Mark, Observation, Position, Version};
use concord_engine::clock::Clock;
use concord_engine::connector::{
    Allowance, Capabilities, Changes, Chunk, ChunkCursor, Connector, Feed, FeedHealth, Finding, Outcome, Presence, Write,
    WriteResult,
};
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::{FeedName, FieldName, Key, ObjectName, Record};
use concord_engine::schema::{Schema, Selection};
use concord_engine::value::Value;
use std::cmp::Ordering;

/// How long a first load is asked to wait while few calls are left.
const SPARED: std::time::Duration = std::time::Duration::from_secs(60);

/// The one feed of a system.
pub(crate) const FEED: &str = "log";

/// How a batch of writes fares.
enum Fate {
    /// Carried out and answered.
    Answered,
    /// So many records carried out, nothing answered.
    Cut(usize),
    /// Carried out when the engine no longer expects it, perhaps.
    Lingers,
}

/// Writes on their way to the system: if the caller goes away before they took effect, they may do so later all the same.
struct Session<'a> {
    system: &'a System,
    mark: &'a Mark,
    writes: &'a [Write],
    open: bool,
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        let mut state = self.system.state();
        if state.random.percent(50) {
            self.system.note("the client is gone; its session lives on");
            self.system.linger(&mut state, self.mark, self.writes);
        }
    }
}

impl System {
    async fn delay(&self) {
        let delay = self.state().random.millis(0, self.profile.call_ms_max);
        tokio::time::sleep(delay).await;
    }

    fn unreachable(&self) -> Error {
        Error::new(Code::Unreachable, "the connection was lost").at(self.name.as_str())
    }

    /// The way into a call: a delay, then whatever keeps it from happening at all.
    async fn enter(&self, call: &str) -> Result<()> {
        self.delay().await;
        let now = self.clock.now();
        let mut state = self.state();
        let State { faults, random, .. } = &mut *state;
        if faults.is_out(now) || faults.strikes(random, now, faults.fail_before) {
            self.note(&format!("{call}: unreachable"));
            return Err(self.unreachable());
        }
        if faults.strikes(random, now, faults.throttled) {
            self.note(&format!("{call}: throttled"));
            let mut error = Error::new(Code::Throttled, "too many calls").at(self.name.as_str());
            error.retry_after = Some(THROTTLE);
            return Err(error);
        }
        Ok(())
    }

    /// The way out of a call whose answer may be lost.
    async fn leave<T>(&self, call: &str, answer: T) -> Result<T> {
        self.delay().await;
        let now = self.clock.now();
        let mut state = self.state();
        let State { faults, random, .. } = &mut *state;
        if faults.strikes(random, now, faults.fail_after) {
            self.note(&format!("{call}: answer lost"));
            return Err(self.unreachable());
        }
        Ok(answer)
    }

    async fn pass_gate(&self, gate: Gate) {
        loop {
            let notified = self.wake.notified();
            if self.state().gate != gate {
                return;
            }
            notified.await;
        }
    }

    pub(crate) fn seen(&self, state: &State, selection: &Selection, key: &Key, record: &Record) -> Observation {
        Observation {
            object: selection.object.clone(),
            key: key.clone(),
            old_key: None,
            image: Image::Full(project(selection, &state.database.key_field, record)),
            made: false,
            version: encode_version(state.database.head(), u32::MAX, true),
            time: EditTime { at: self.clock.now(), granularity_micros: self.profile.granularity_micros, estimated: true },
            mark: None,
        }
    }

    /// One value that the system cannot print fails the whole statement that would show it.
    fn printable<'a>(&self, selection: &Selection, state: &State, values: impl Iterator<Item = &'a Value>) -> Result<()> {
        let Some(bad) = self.profile.unreadable.as_deref() else { return Ok(()) };
        let key_alone = selection.fields.iter().all(|field| *field == state.database.key_field);
        let mut texts = values.filter_map(|value| if let Value::Text(text) = value { Some(text) } else { None });
        if !key_alone && texts.any(|text| text == bad) {
            return Err(Error::new(Code::ValueDoesNotFit, "a value cannot be printed").at(self.name.as_str()));
        }
        Ok(())
    }

    fn fate(&self, state: &mut State, writes: usize) -> Fate {
        let now = self.clock.now();
        let State { faults, random, .. } = state;
        if faults.strikes(random, now, faults.linger) {
            return Fate::Lingers;
        }
        if faults.strikes(random, now, faults.fail_after) {
            // A batch that is one transaction has happened as a whole or not at all.
            let part = if self.profile.commit_per_record { random.place(writes + 1) } else { random.place(2) * writes };
            return Fate::Cut(part);
        }
        Fate::Answered
    }

    /// While few calls are left those of a first load are refused.
    fn admit_load(&self) -> Result<()> {
        if !self.state().spares {
            return Ok(());
        }
        let mut error = Error::new(Code::Throttled, "few calls are left").at(self.name.as_str());
        error.retry_after = Some(SPARED);
        Err(error)
    }

    /// Remembers the largest calls.
    fn brings(&self, writes: usize, of_load: bool) {
        let mut state = self.state();
        let of_kind = if of_load { &mut state.largest.0 } else { &mut state.largest.1 };
        *of_kind = writes.max(*of_kind);
    }

    /// Carries out a batch, or what its faults leave of it.
    async fn write(&self, mark: &Mark, writes: &[Write]) -> Result<Vec<WriteResult>> {
        for write in writes {
            self.note(&format!("flight {}: {}", mark.intent, crate::describe::operation(&write.operation)));
        }
        self.enter("apply").await?;
        // Without guards the records are looked at first, in a call of its own.
        let mut unfit = Vec::new();
        if !self.profile.guarded {
            self.delay().await;
            unfit = self.unfit(&self.state(), writes);
            self.pass_gate(Gate::Between).await;
        }
        let asked = writes;
        let fit: Vec<Write> = writes.iter().filter(|write| !unfit.contains(&write.id)).cloned().collect();
        let writes = fit.as_slice();
        let mut session = Session { system: self, mark, writes, open: true };
        self.delay().await;
        self.pass_gate(Gate::Before).await;
        session.open = false;
        let outcomes = {
            let mut state = self.state();
            let locked = self.locked(&mut state, writes);
            match self.fate(&mut state, writes.len()) {
                Fate::Answered => self.execute(&mut state, mark, writes, &locked),
                Fate::Cut(part) => {
                    let done: Vec<Write> = writes.iter().take(part).cloned().collect();
                    self.execute(&mut state, mark, &done, &locked);
                    vec![Outcome::Unknown; writes.len()]
                }
                Fate::Lingers => {
                    self.linger(&mut state, mark, writes);
                    vec![Outcome::Unknown; writes.len()]
                }
            }
        };
        self.pass_gate(Gate::After).await;
        self.delay().await;
        let answered: Vec<String> = outcomes.iter().map(crate::describe::outcome).collect();
        self.note(&format!("flight {}: {}", mark.intent, answered.join(", ")));
        let missed = asked.iter().filter(|write| unfit.contains(&write.id));
        let missed = missed.map(|write| WriteResult { id: write.id, outcome: Outcome::Missed });
        let results = writes.iter().zip(outcomes).map(|(write, outcome)| WriteResult { id: write.id, outcome });
        Ok(results.chain(missed).collect())
    }

    fn locked(&self, state: &mut State, writes: &[Write]) -> Record {
        let now = self.clock.now();
        let State { faults, random, .. } = state;
        let locked = writes.iter().filter(|_| faults.strikes(random, now, faults.locked));
        locked.map(|write| (FieldName::from(write.id.to_string()), Value::Null)).collect()
    }
}

#[async_trait]
impl Connector for System {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn check(&self, _objects: &[ObjectName]) -> Result<Vec<Finding>> {
        self.enter("check").await?;
        Ok(Vec::new())
    }

    async fn objects(&self) -> Result<Vec<ObjectName>> {
        self.enter("objects").await?;
        Ok(vec![self.state().database.schema.object.clone()])
    }

    async fn schema(&self, _object: &ObjectName) -> Result<Schema> {
        self.enter("schema").await?;
        Ok(self.state().database.schema.clone())
    }

    async fn count(&self, _object: &ObjectName) -> Result<u64> {
        self.enter("count").await?;
        Ok(u64::try_from(self.state().database.rows().count()).unwrap_or(u64::MAX))
    }

    async fn prepare(&self, selections: &[Selection], known: &[Feed]) -> Result<Vec<Feed>> {
        self.enter("prepare").await?;
        self.pass_gate(Gate::Prepares).await;
        let objects: Vec<ObjectName> = selections.iter().map(|selection| selection.object.clone()).collect();
        let name = FeedName::from(FEED);
        let stored = known.iter().find(|feed| feed.name == name).map(|feed| feed.position.clone());
        let feed = {
            let mut state = self.state();
            state.selection = selections.first().cloned();
            let resumable = match (&stored, state.slot) {
                (None, slot) => slot,
                (Some(position), _) if position.0.is_empty() => None,
                (Some(position), slot) => match (decode_position(position), slot) {
                    (Some((incarnation, commit)), Some(slot)) if incarnation == slot.incarnation && commit >= slot.confirmed => {
                        Some(slot)
                    }
                    _ => return Err(Error::new(Code::FeedGap, "the log no longer reaches back to the position")),
                },
            };
            let slot = match resumable {
                Some(slot) => slot,
                None => {
                    state.incarnations += 1;
                    let head = state.database.head();
                    let slot = Slot { incarnation: state.incarnations, began: head, confirmed: head };
                    state.slot = Some(slot);
                    state.gaps.iter_mut().for_each(|(_, upto)| *upto = (*upto).min(head));
                    slot
                }
            };
            let position = stored
                .filter(|position| !position.0.is_empty())
                .unwrap_or_else(|| encode_position(slot.incarnation, slot.confirmed));
            Feed { name, objects, position, complete_from: Vec::new() }
        };
        self.leave("prepare", vec![feed]).await
    }

    async fn capture(&self, _feed: &Feed, from: &Position) -> Result<Box<dyn Changes>> {
        self.enter("capture").await?;
        let system = self.me.upgrade().ok_or_else(|| self.unreachable())?;
        let stream = {
            let mut state = self.state();
            let gap = || Error::new(Code::FeedGap, "the log no longer reaches back to the position");
            let slot = state.slot.ok_or_else(gap)?;
            let (incarnation, commit) = decode_position(from).ok_or_else(gap)?;
            if incarnation != slot.incarnation || commit < slot.confirmed {
                return Err(gap());
            }
            // Whatever is not acknowledged may come again: begin somewhere between there and the position.
            let before = commit - slot.confirmed;
            let again = if state.random.percent(50) { state.random.below(before + 1) } else { 0 };
            state.handed_out = commit - again;
            self.note(&format!("feed opened behind {commit}, given from {}", commit - again));
            let selection = state.selection.clone();
            Stream::new(system, selection, slot.incarnation, commit - again)
        };
        Ok(Box::new(stream))
    }

    async fn acknowledge(&self, _feed: &FeedName, upto: &Position) -> Result<()> {
        self.enter("acknowledge").await?;
        if let Some((incarnation, commit)) = decode_position(upto) {
            let mut state = self.state();
            if let Some(slot) = state.slot.as_mut()
                && slot.incarnation == incarnation
                && commit > slot.confirmed
            {
                slot.confirmed = commit;
                self.note(&format!("acknowledged {commit}"));
            }
        }
        self.leave("acknowledge", ()).await
    }

    fn reached(&self, position: &Position, goal: &Position) -> bool {
        match (decode_position(position), decode_position(goal)) {
            (Some(position), Some(goal)) => position >= goal,
            _ => false,
        }
    }

    async fn fence(&self, _feed: &FeedName) -> Result<Position> {
        self.enter("fence").await?;
        let position = {
            let mut state = self.state();
            self.end_sessions(&mut state);
            // The log goes on without the slot: what the next one tells begins behind it.
            let incarnation = state.slot.map_or(state.incarnations + 1, |slot| slot.incarnation);
            encode_position(incarnation, state.database.head())
        };
        self.leave("fence", position).await
    }

    async fn health(&self, _feed: &FeedName) -> Result<FeedHealth> {
        self.enter("health").await?;
        let confirmed = self.state().slot.map_or(0, |slot| slot.confirmed);
        Ok(FeedHealth { position: confirmed.to_string(), ..FeedHealth::default() })
    }

    async fn snapshot(&self, selection: &Selection, from: &ChunkCursor, limit: usize) -> Result<Chunk> {
        self.enter("snapshot").await?;
        self.pass_gate(Gate::Looks).await;
        let chunk = {
            let state = self.state();
            crate::drift::require_told(&state)?;
            let rows: Vec<_> = state.database.rows_at(state.database.head(), &from.0).take(limit + 1).collect();
            self.printable(selection, &state, rows.iter().take(limit).flat_map(|row| row.fields.iter().map(|(_, value)| value)))?;
            let shown = rows.iter().take(limit);
            let next = rows.get(limit.wrapping_sub(1)).filter(|_| rows.len() > limit).map(|row| ChunkCursor(row.key.encode()));
            let records = shown.map(|row| self.seen(&state, selection, &row.key, &row.fields)).collect();
            Chunk { records, next }
        };
        self.note(&format!("snapshot: {} records", chunk.records.len()));
        self.leave("snapshot", chunk).await
    }

    async fn read(&self, selection: &Selection, keys: &[Key]) -> Result<Vec<Presence>> {
        self.enter("read").await?;
        self.pass_gate(Gate::Reads).await;
        let answers: Vec<Presence> = {
            let state = self.state();
            crate::drift::require_told(&state)?;
            let version = encode_version(state.database.head(), u32::MAX, true);
            let rows = keys.iter().filter_map(|key| state.database.row(key));
            self.printable(selection, &state, rows.flat_map(|row| row.fields.iter().map(|(_, value)| value)))?;
            let answer = |key: &Key| match state.database.row(key) {
                Some(row) => Presence::Present(self.seen(&state, selection, key, &row.fields)),
                None => Presence::Absent { version: version.clone() },
            };
            keys.iter().map(answer).collect()
        };
        self.pass_gate(Gate::Answers).await;
        self.note(&format!("read {}", keys.iter().map(key_text).collect::<Vec<_>>().join(", ")));
        self.leave("read", answers).await
    }

    async fn find(
        &self,
        selection: &Selection,
        by: &[FieldName],
        values: &[Vec<Value>],
        limit: usize,
    ) -> Result<Vec<Vec<Observation>>> {
        self.enter("find").await?;
        self.pass_gate(Gate::Looks).await;
        let found: Vec<Vec<Observation>> = {
            let state = self.state();
            crate::drift::require_told(&state)?;
            self.printable(selection, &state, values.iter().flatten())?;
            let equal = |record: &Record, wanted: &[Value]| {
                by.iter().zip(wanted).all(|(field, value)| *value != Value::Null && record.get(field.as_str()) == Some(value))
            };
            let search = |wanted: &Vec<Value>| {
                let rows = state.database.rows().filter(|row| equal(&row.fields, wanted)).take(limit);
                rows.map(|row| self.seen(&state, selection, &row.key, &row.fields)).collect()
            };
            values.iter().map(search).collect()
        };
        self.note(&format!("find {by:?}: {:?} records", found.iter().map(Vec::len).collect::<Vec<_>>()));
        self.leave("find", found).await
    }

    async fn find_for_load(
        &self,
        selection: &Selection,
        by: &[FieldName],
        values: &[Vec<Value>],
        limit: usize,
    ) -> Result<Vec<Vec<Observation>>> {
        self.admit_load()?;
        self.find(selection, by, values, limit).await
    }

    async fn load(&self, _selection: &Selection, mark: &Mark, writes: &[Write]) -> Result<Vec<WriteResult>> {
        self.admit_load()?;
        self.brings(writes.len(), true);
        self.write(mark, writes).await
    }

    async fn apply(&self, _selection: &Selection, mark: &Mark, writes: &[Write]) -> Result<Vec<WriteResult>> {
        self.brings(writes.len(), false);
        self.write(mark, writes).await
    }

    fn allowance(&self) -> Option<Allowance> {
        self.profile.allowance
    }

    async fn release(&self, _objects: &[ObjectName]) -> Result<()> {
        self.enter("release").await?;
        self.state().slot = None;
        Ok(())
    }

    fn compare(&self, a: &Version, b: &Version) -> Option<Ordering> {
        compare_versions(&self.profile, a, b)
    }
}
