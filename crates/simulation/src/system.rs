//! An in-memory connected system: a [`Database`] with a replication slot, sessions that may outlive their client, and
//! users and workflows of its own. What the engine sees of it is in `connector` and `feed`.

use crate::clock::VirtualClock;
use crate::database::{Alteration, Author, Database, Draft, Reaction, Refusal, Row};
use crate::faults::Faults;
use crate::random::Random;
use crate::trace::Trace;
use concord_engine::change::{Mark, Version};
use concord_engine::clock::{Clock, Moment};
use concord_engine::connector::{Allowance, Capabilities, ChangeDetection, Operation, Outcome, Write};
use concord_engine::error::{Code, Error};
use concord_engine::record::{FieldName, Key, Record, SystemName};
use concord_engine::schema::Selection;
use concord_engine::value::Value;
use std::cmp::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// How a system behaves, apart from its faults.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Whether writes carry a mark that the feed gives back.
    pub marks: bool,
    /// Whether a guard is looked at in the very moment of the write. Otherwise it is looked at a call before, and what is
    /// done in between is written over.
    pub guarded: bool,
    /// Granularity of the feed's times in microseconds.
    pub granularity_micros: u32,
    /// Whether fields that did not change may be missing in the feed.
    pub partial_images: bool,
    /// Whether a write's version stands before its echo rather than behind it.
    pub echo_is_newer: bool,
    /// Whether a read close to a commit cannot be ordered against its event.
    pub vague_reads: bool,
    /// Whether every record of a batch is a transaction of its own.
    pub commit_per_record: bool,
    /// The longest a commit takes to show in the feed, in milliseconds.
    pub feed_delay_ms_max: u64,
    /// The longest a call takes, in milliseconds, each way.
    pub call_ms_max: u64,
    /// The most events that the feed hands out at once.
    pub feed_batch_max: usize,
    /// Text in any field that makes a record refused.
    pub poison: Option<String>,
    /// Text that makes every read and every search fail which is about it.
    pub unreadable: Option<String>,
    /// How far the system's clock is ahead, in microseconds.
    pub skew_micros: i64,
    /// Whether the feed leaves out of an insert what was not given.
    pub partial_inserts: bool,
    /// How many of a hundred events the feed hands out behind a look of its own at the record, which shows it as of now.
    pub looks_ahead: u64,
    /// How many commits behind a read are too close to be ordered against it, where reads are vague.
    pub vague_by: u64,
    /// What is left of the calls that it lets anybody make, where it counts them.
    pub allowance: Option<Allowance>,
    /// How many writes of a first load are best made by one call, where it says so.
    pub load_batch: Option<usize>,
}

impl Profile {
    /// A quick and well-behaved system.
    pub fn plain() -> Profile {
        Profile {
            marks: true,
            guarded: true,
            granularity_micros: 1,
            partial_images: false,
            echo_is_newer: true,
            vague_reads: false,
            commit_per_record: false,
            feed_delay_ms_max: 2,
            call_ms_max: 3,
            feed_batch_max: 100,
            poison: None,
            unreadable: None,
            skew_micros: 0,
            partial_inserts: false,
            looks_ahead: 0,
            vague_by: 1,
            allowance: None,
            load_batch: None,
        }
    }
}

/// A replication slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    /// Tells this slot from an earlier one of the same name.
    pub incarnation: u64,
    /// Where the slot began.
    pub began: u64,
    /// Everything up to here has been acknowledged and is no longer kept.
    pub confirmed: u64,
}

/// Writes of a session whose client is gone; they take effect when they are due.
pub(crate) struct Lingering {
    due: Moment,
    mark: Mark,
    writes: Vec<Write>,
}

pub(crate) struct State {
    pub database: Database,
    pub random: Random,
    pub faults: Faults,
    pub slot: Option<Slot>,
    /// Commits that no feed may have told of, behind the first and up to the second: a slot was dropped meanwhile.
    pub gaps: Vec<(u64, u64)>,
    /// What the engine wants to see of the object.
    pub selection: Option<Selection>,
    pub incarnations: u64,
    /// When each commit shows in the feed, by its place in the log.
    pub shown_at: Vec<Moment>,
    pub lingering: Vec<Lingering>,
    pub reactions: Vec<(Moment, Reaction)>,
    /// Up to which commit the feed has been handed out since it was last opened.
    pub handed_out: u64,
    /// Whether the feed looks at records, where it does so: not while it only gives again what it has given.
    pub looks: bool,
    /// How many times the engine has committed something.
    pub written: u64,
    /// Which calls are held: see [`System::hold`].
    pub gate: Gate,
    /// Whether calls of a first load are refused: see [`System::spare`].
    pub spares: bool,
    /// The most writes that one call of a first load has brought, and any other call.
    pub largest: (usize, usize),
}

/// A place at which a scripted test holds calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Everything passes.
    Open,
    /// Preparing waits: to the engine the system is not there yet.
    Prepares,
    /// Snapshots and searches wait before they look.
    Looks,
    /// Reads wait before they look.
    Reads,
    /// Reads wait once they have looked, before they are answered.
    Answers,
    /// The feed stands still once it has told a part of a commit.
    Middle,
    /// Writes wait before they take effect.
    Before,
    /// Writes without a guard wait between the look at the record and the write.
    Between,
    /// Writes wait after they took effect, before they are answered.
    After,
}

/// One in-memory system.
pub struct System {
    /// Its name.
    pub name: SystemName,
    /// How it behaves.
    pub profile: Profile,
    /// The virtual clock.
    pub clock: VirtualClock,
    pub(crate) trace: Trace,
    pub(crate) capabilities: Capabilities,
    pub(crate) wake: Notify,
    pub(crate) me: Weak<System>,
    state: Mutex<State>,
}

impl System {
    /// A system over a database, with the random stream that its delays and faults come from.
    pub fn new(
        name: SystemName,
        profile: Profile,
        database: Database,
        faults: Faults,
        random: Random,
        trace: Trace,
        clock: VirtualClock,
    ) -> Arc<System> {
        let capabilities = Capabilities {
            kind: "simulated",
            change_detection: ChangeDetection::Log,
            guarded_writes: profile.guarded,
            marks: profile.marks,
            fences_prove: true,
            keys_can_be_given: database.keys == crate::database::KeyKind::Natural,
            max_batch: 50,
            load_batch: profile.load_batch,
            writes_take: None,
            writes_settle: None,
            time_granularity_micros: profile.granularity_micros,
            feeds_apart: false,
        };
        let now = clock.now();
        let state = State {
            shown_at: database.log().iter().map(|_| now).collect(),
            database,
            random,
            faults,
            slot: None,
            gaps: Vec::new(),
            selection: None,
            incarnations: 0,
            lingering: Vec::new(),
            reactions: Vec::new(),
            handed_out: 0,
            looks: true,
            written: 0,
            gate: Gate::Open,
            spares: false,
            largest: (0, 0),
        };
        Arc::new_cyclic(|me| {
            let me = Weak::clone(me);
            System { name, profile, clock, trace, capabilities, wake: Notify::new(), me, state: Mutex::new(state) }
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the database.
    pub fn look<T>(&self, look: impl FnOnce(&Database) -> T) -> T {
        look(&self.state().database)
    }

    /// Commits that no feed may have told of: behind the first, up to the second.
    pub fn gaps(&self) -> Vec<(u64, u64)> {
        self.state().gaps.clone()
    }

    /// Runs a transaction of a user (or of a workflow): all or nothing.
    pub fn transact(
        &self,
        author: Author,
        work: impl FnOnce(&mut Database, &mut Draft) -> Result<(), Refusal>,
    ) -> Result<Option<u64>, Refusal> {
        let mut state = self.state();
        let mut draft = Draft::default();
        let worked = work(&mut state.database, &mut draft);
        if let Err(refusal) = worked {
            state.database.roll_back(draft);
            return Err(refusal);
        }
        Ok(self.commit(&mut state, draft, author))
    }

    /// An administrator changes the schema; the feed tells of it in its place.
    pub fn alter(&self, alteration: Alteration) {
        let mut state = self.state();
        let number = state.database.alter(alteration, self.clock.now());
        self.show(&mut state, number);
    }

    /// Holds calls at a gate until it is opened; what waits goes on then.
    pub fn hold(&self, gate: Gate) {
        self.state().gate = gate;
        self.wake.notify_waiters();
    }

    /// Few calls are left from here on, or no longer: those of a first load are refused.
    pub fn spare(&self, spares: bool) {
        self.state().spares = spares;
    }

    /// The most writes that one call of a first load has brought, and any other call.
    pub fn largest_calls(&self) -> (usize, usize) {
        self.state().largest
    }

    /// An administrator drops the slot: what is committed from here on is told by no feed until another one is made.
    pub fn lose_feed(&self) {
        let mut state = self.state();
        if let Some(lost) = state.slot.take() {
            state.gaps.push((lost.confirmed, u64::MAX));
        }
        drop(state);
        self.wake.notify_waiters();
    }

    /// The system is restored from a copy that was taken after this commit: nothing later ever happened.
    pub fn restore(&self, commit: u64) {
        let mut state = self.state();
        state.database.restore(commit);
        let left = state.database.log().len();
        state.shown_at.truncate(left);
        state.lingering.clear();
        state.reactions.clear();
        state.handed_out = 0;
        state.slot = None;
        self.wake.notify_waiters();
    }

    /// How many times the engine has committed something here.
    pub fn written(&self) -> u64 {
        self.state().written
    }

    /// A time as the system's own clock shows it.
    pub(crate) fn stamp(&self, at: Moment) -> Moment {
        Moment(at.micros().saturating_add(self.profile.skew_micros))
    }

    /// Every write of a record fails from here on, until all faults end.
    pub fn stick(&self) {
        self.state().faults = Faults { stuck: true, ..Faults::default() };
    }

    /// Makes every fault end, now and for good.
    pub fn heal(&self) {
        self.state().faults = Faults::default();
    }

    /// Whether the feed has handed out everything and nothing of the system's own is still to come.
    pub fn is_drained(&self) -> bool {
        let state = self.state();
        state.handed_out >= state.database.head() && state.lingering.is_empty() && state.reactions.is_empty()
    }

    /// Lets the slot give everything again that it has given since it was made: nothing of the log counts as
    /// acknowledged any more. Returns where it began.
    pub fn rewind(&self) -> Option<concord_engine::change::Position> {
        let mut state = self.state();
        let slot = state.slot.as_mut()?;
        slot.confirmed = slot.began;
        let position = crate::feed::encode_position(slot.incarnation, slot.began);
        state.handed_out = 0;
        state.looks = false;
        Some(position)
    }

    /// Runs what happens by itself: sessions that outlived their client, and workflows. Never ends.
    pub async fn drive(&self) {
        loop {
            let notified = self.wake.notified();
            let next = {
                let state = self.state();
                let lingering = state.lingering.iter().map(|lingering| lingering.due);
                lingering.chain(state.reactions.iter().map(|(due, _)| *due)).min()
            };
            match next {
                Some(due) if due <= self.clock.now() => self.run_due(self.clock.now()),
                Some(due) => {
                    tokio::select! { biased; () = notified => {}, () = self.clock.sleep_until(due) => {} }
                }
                None => notified.await,
            }
        }
    }

    fn run_due(&self, now: Moment) {
        let mut state = self.state();
        let (due, rest) = std::mem::take(&mut state.lingering).into_iter().partition(|lingering| lingering.due <= now);
        state.lingering = rest;
        let due: Vec<Lingering> = due;
        for lingering in due {
            self.note("a lost session's writes take effect after all");
            self.execute(&mut state, &lingering.mark, &lingering.writes, &Record::new());
        }
        let (due, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut state.reactions).into_iter().partition(|(at, _)| *at <= now);
        state.reactions = rest;
        for (_, reaction) in due {
            let mut draft = Draft::default();
            if state.database.update(&mut draft, &Author::Workflow, &reaction.key, &reaction.set).is_ok() {
                self.commit(&mut state, draft, Author::Workflow);
            }
        }
    }

    /// Ends every session that outlived its client: each takes effect now or never.
    pub(crate) fn end_sessions(&self, state: &mut State) {
        for lingering in std::mem::take(&mut state.lingering) {
            if state.random.percent(50) {
                self.note("fence: a lost session's writes take effect");
                self.execute(state, &lingering.mark, &lingering.writes, &Record::new());
            } else {
                self.note("fence: a lost session is ended");
            }
        }
    }

    pub(crate) fn linger(&self, state: &mut State, mark: &Mark, writes: &[Write]) {
        let due = self.clock.now().plus(state.random.millis(1, 2_000));
        state.lingering.push(Lingering { due, mark: mark.clone(), writes: writes.to_vec() });
        self.wake.notify_waiters();
    }

    pub(crate) fn note(&self, what: &str) {
        self.trace.note(self.name.as_str(), what);
    }

    fn commit(&self, state: &mut State, draft: Draft, author: Author) -> Option<u64> {
        let now = self.clock.now();
        let ours = matches!(author, Author::Engine(_));
        let number = state.database.commit_draft(draft, now, author)?;
        state.written += u64::from(ours);
        self.show(state, number);
        Some(number)
    }

    /// A commit shows in the feed before long.
    fn show(&self, state: &mut State, number: u64) {
        let now = self.clock.now();
        let delay = state.random.millis(0, self.profile.feed_delay_ms_max);
        // Commits show in the feed in their order, however long each one takes.
        let shown = state.shown_at.last().copied().unwrap_or(now).max(now.plus(delay));
        state.shown_at.push(shown);
        for reaction in state.database.take_reactions() {
            let due = now.plus(state.random.millis(1, 300));
            state.reactions.push((due, reaction));
        }
        if let Some(commit) = state.database.commit(number) {
            self.note(&crate::describe::commit(commit));
        }
        self.wake.notify_waiters();
    }

    /// Carries out a batch of the engine's and gives back one outcome per write.
    pub(crate) fn execute(&self, state: &mut State, mark: &Mark, writes: &[Write], locked: &Record) -> Vec<Outcome> {
        if let Err(error) = crate::drift::require_there(&state.database) {
            return vec![Outcome::Failed(error.at(self.name.as_str())); writes.len()];
        }
        let author = Author::Engine(mark.clone());
        let mut outcomes = Vec::new();
        let mut draft = Draft::default();
        for write in writes {
            if state.faults.stuck {
                outcomes.push(Outcome::Failed(Error::new(Code::StatementRefused, "not now").at(self.name.as_str())));
                continue;
            }
            if locked.has(&write.id.to_string()) {
                outcomes.push(Outcome::Locked);
                continue;
            }
            outcomes.push(self.execute_one(state, &mut draft, &author, write));
            if self.profile.commit_per_record {
                self.finish(state, std::mem::take(&mut draft), &author, &mut outcomes);
            }
        }
        self.finish(state, draft, &author, &mut outcomes);
        outcomes
    }

    /// Commits a draft and gives its number to the outcomes that wait for their version.
    fn finish(&self, state: &mut State, draft: Draft, author: &Author, outcomes: &mut [Outcome]) {
        let number = self.commit(state, draft, author.clone()).unwrap_or_else(|| state.database.head());
        let ordinal = if self.profile.echo_is_newer { 0 } else { u32::MAX };
        for outcome in outcomes {
            if let Outcome::Written { version, .. } = outcome
                && version.0.is_empty()
            {
                *version = encode_version(number, ordinal, false);
            }
        }
    }

    fn execute_one(&self, state: &mut State, draft: &mut Draft, author: &Author, write: &Write) -> Outcome {
        let database = &mut state.database;
        let written = |row: Row| Outcome::Written { key: row.key, image: Some(row.fields), version: Version::default() };
        match &write.operation {
            Operation::Create { image, absent_by } => {
                if let Some(refused) = self.poisoned(image) {
                    return Outcome::Failed(refused);
                }
                if !absent_by.is_empty() && database.rows().any(|row| agrees(&row.fields, image, absent_by)) {
                    return Outcome::Collision;
                }
                match database.insert(draft, author, image.clone()) {
                    Ok(row) => written(row),
                    Err(_) => Outcome::Collision,
                }
            }
            Operation::Update { key, set, guard } => {
                if let Some(refused) = self.poisoned(set) {
                    return Outcome::Failed(refused);
                }
                let Some(row) = database.row(key) else { return Outcome::Missed };
                if self.profile.guarded && !shows(&row.fields, guard) {
                    return Outcome::Missed;
                }
                match database.update(draft, author, key, set) {
                    Ok(row) => written(row),
                    Err(_) => Outcome::Failed(Error::new(Code::TargetRejected, "a unique value is taken")),
                }
            }
            Operation::Delete { key, guard } => {
                let Some(row) = database.row(key) else { return Outcome::Missed };
                if self.profile.guarded && !shows(&row.fields, guard) {
                    return Outcome::Missed;
                }
                match database.delete(draft, key) {
                    Ok(()) => Outcome::Written { key: key.clone(), image: None, version: Version::default() },
                    Err(_) => Outcome::Missed,
                }
            }
        }
    }

    /// The writes of which the guard does not hold now.
    pub(crate) fn unfit(&self, state: &State, writes: &[Write]) -> Vec<u64> {
        let fits = |write: &&Write| match &write.operation {
            Operation::Create { .. } => true,
            Operation::Update { key, guard, .. } | Operation::Delete { key, guard } => {
                state.database.row(key).is_some_and(|row| shows(&row.fields, guard))
            }
        };
        writes.iter().filter(|write| !fits(write)).map(|write| write.id).collect()
    }

    fn poisoned(&self, image: &Record) -> Option<Error> {
        let poison = self.profile.poison.as_deref()?;
        let bad = image.iter().any(|(_, value)| matches!(value, Value::Text(text) if text.contains(poison)));
        bad.then(|| Error::new(Code::TargetRejected, "the system refuses this value"))
    }
}

/// Whether a row shows every field of a guard.
fn shows(row: &Record, guard: &Record) -> bool {
    guard.iter().all(|(field, value)| row.get(field.as_str()) == Some(value))
}

/// Whether two records have the same values in all of the fields; what is left out is null.
fn agrees(row: &Record, image: &Record, fields: &[FieldName]) -> bool {
    let of = |record: &Record, field: &FieldName| record.get(field.as_str()).cloned().unwrap_or(Value::Null);
    fields.iter().all(|field| of(row, field) == of(image, field))
}

/// The selected fields of a row, its key in any case.
pub(crate) fn project(selection: &Selection, key_field: &FieldName, row: &Record) -> Record {
    if selection.fields.is_empty() {
        return row.clone();
    }
    row.iter()
        .filter(|(name, _)| *name == key_field || selection.fields.contains(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// A version: commit, place in the commit, and whether it stems from a read.
pub(crate) fn encode_version(commit: u64, ordinal: u32, read: bool) -> Version {
    let mut bytes = commit.to_be_bytes().to_vec();
    bytes.extend_from_slice(&ordinal.to_be_bytes());
    bytes.push(u8::from(read));
    Version(bytes)
}

fn decode_version(version: &Version) -> Option<(u64, u32, bool)> {
    let (commit, rest) = version.0.split_first_chunk::<8>()?;
    let (ordinal, rest) = rest.split_first_chunk::<4>()?;
    Some((u64::from_be_bytes(*commit), u32::from_be_bytes(*ordinal), rest.first() == Some(&1)))
}

/// How two versions stand to each other; a system with vague reads cannot tell for a read and an event close by.
pub(crate) fn compare_versions(profile: &Profile, a: &Version, b: &Version) -> Option<Ordering> {
    let (a, b) = (decode_version(a)?, decode_version(b)?);
    // A commit may be told before reads can see it: of an event just behind a read it is not known whether the read saw
    // it. A later read answers that.
    let (read, event) = if a.2 { (a.0, b.0) } else { (b.0, a.0) };
    if profile.vague_reads && a.2 != b.2 && event > read && event <= read.saturating_add(profile.vague_by) {
        return None;
    }
    Some((a.0, a.1).cmp(&(b.0, b.1)))
}

/// Cuts a time to the system's granularity.
pub(crate) fn coarse(at: Moment, granularity_micros: u32) -> Moment {
    let step = i64::from(granularity_micros.max(1));
    Moment(at.micros().div_euclid(step) * step)
}

/// How long a call may be asked to stay away.
pub(crate) const THROTTLE: Duration = Duration::from_millis(700);

/// The key of a row as text, for the trace.
pub(crate) fn key_text(key: &Key) -> String {
    crate::describe::key(key)
}
