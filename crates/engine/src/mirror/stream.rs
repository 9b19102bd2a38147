//! What follows the first read of a mirror sync: changes gathered as they arrive, carried out in one transaction of the
//! target with the progress, then acknowledged. While a batch is written the next is gathered; nothing waits for company,
//! and what is gathered is bounded, so that a slow target holds back the feed and nothing else.

use super::batch::Step;
use super::bulk::{Frozen, Helper, Range};
use super::carry::{Carried, SOURCE, TARGET};
use super::deletes::Many;
use super::lanes::Lanes;
use super::portions::Behind;
use super::run::{Mirror, Work};
use super::settle::Settling;
use super::view::Stage;
use crate::capture::drift;
use crate::change::{EditTime, Image, Observation, Position, Version};
use crate::connector::{Batch, Changes, Event, Limits};
use crate::error::{Code, Error, Result};
use crate::failpoint;
use crate::record::Key;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

/// The most of what is gathered while a batch is written: so many steps of the feed, each within [`LIMITS`].
const GATHERED_MAX: usize = 8;
/// Bounds of one step of the feed. A quiet feed is looked at again after the wait.
const LIMITS: Limits = Limits { max_events: 2_000, max_bytes: 2 << 20, max_wait: Duration::from_millis(200) };
/// How often a position that only other traffic has moved is kept.
const IDLE_KEEP_INTERVAL: Duration = Duration::from_secs(10);

/// What the feed is held against while a load that was cut short is brought to a later view.
pub(super) type Drain<'a> = Option<(&'a dyn Frozen, &'a [Range])>;

/// Changes that wait to be carried out together.
#[derive(Default)]
struct Gathered {
    steps: Vec<Step>,
    times: Vec<EditTime>,
    /// Records of which only a part was shown, and all of it must be seen.
    unseen: Vec<Key>,
    /// Records, by their keys at the source, of which a lane that was ahead has carried all out.
    carried: Vec<Key>,
    refused: BTreeMap<Vec<u8>, (Key, Error)>,
    warned: Vec<(Key, String)>,
    /// The last event that is among them, or need not be.
    last: Option<Version>,
    position: Option<Position>,
    /// How it was before the first delete in it that is counted.
    before_deletes: Option<BeforeDeletes>,
    /// How many steps of the feed are in it that brought something.
    taken: usize,
    /// Whether it ends within a transaction.
    is_cut: bool,
    /// Why nothing more can be gathered.
    end: Option<End>,
}

/// What had been gathered when a delete came that may turn out to be one of too many: none of those is carried out then.
struct BeforeDeletes {
    steps: usize,
    unseen: usize,
    carried: usize,
    warned: usize,
    last: Option<Version>,
    position: Option<Position>,
    records: u64,
    deletes: Vec<(i64, u64)>,
}

/// Why gathering ended.
pub(super) enum End {
    /// The feed has passed the view.
    Drained,
    /// So many deletes that a person is asked.
    TooManyDeletes(Many),
    /// What the feed tells does not say all that has happened: everything is carried again.
    Again,
    /// Something that a person must put right.
    Stop(Error),
}

/// What an event is to a sync.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It was carried out before.
    Past,
    /// It is to be carried out.
    Due,
    /// It belongs behind the view that the feed is brought to.
    Beyond,
}

impl Gathered {
    fn has_room(&self) -> bool {
        self.end.is_none() && self.taken < GATHERED_MAX
    }

    /// Adds a step, and counts what becomes of the number of records.
    fn push(&mut self, work: &mut Work, step: Step, time: EditTime) {
        let records = &mut work.progress.records;
        *records = match &step {
            Step::Put { made: true, .. } | Step::Append { .. } => records.saturating_add(1),
            Step::Remove { .. } => records.saturating_sub(1),
            Step::Empty => 0,
            Step::Put { .. } | Step::Change { .. } | Step::Rekey { .. } => *records,
        };
        self.times.push(time);
        self.steps.push(step);
    }

    /// A delete is about to be counted.
    fn may_be_too_many(&mut self, work: &Work) {
        if self.before_deletes.is_none() {
            self.before_deletes = Some(BeforeDeletes {
                steps: self.steps.len(),
                unseen: self.unseen.len(),
                carried: self.carried.len(),
                warned: self.warned.len(),
                last: self.last.clone(),
                position: self.position.clone(),
                records: work.progress.records,
                deletes: work.progress.deletes.clone(),
            });
        }
    }

    /// Too many records went away: of those that are gathered none is taken from the target, and what came behind the first of
    /// them comes again. Gives back how many were taken from it before.
    fn withhold(&mut self, work: &mut Work) -> u64 {
        if let Some(before) = self.before_deletes.take() {
            self.steps.truncate(before.steps);
            self.times.truncate(before.steps);
            self.unseen.truncate(before.unseen);
            self.carried.truncate(before.carried);
            self.warned.truncate(before.warned);
            (self.last, self.position) = (before.last, before.position);
            (work.progress.records, work.progress.deletes) = (before.records, before.deletes);
        }
        work.progress.deletes.iter().map(|(_, deletes)| deletes).sum()
    }

    fn is_empty(&self) -> bool {
        self.steps.is_empty()
            && self.unseen.is_empty()
            && self.carried.is_empty()
            && self.refused.is_empty()
            && self.end.is_none()
    }
}

impl Mirror {
    /// Carries changes until something breaks; `once`: until the target is level with the source as it was at the start;
    /// a drain: until the feed has passed the view.
    pub(super) async fn stream(&self, work: &mut Work, drain: Drain<'_>) -> Result<()> {
        let opened = self.source.capture(&work.feed, &work.progress.position).await;
        let mut changes = opened.map_err(self.of(SOURCE))?;
        if self.carrier.takes_parts() {
            changes.may_show_parts();
        }
        if self.relatives.is_waited_for() {
            changes.tell_when_idle();
        }
        // A feed that is opened tells its shapes anew.
        work.unfit = None;
        if drain.is_none() {
            let counted = self.target.count(&self.member(TARGET)?.object).await.map_err(self.of(TARGET))?;
            self.shown.lock().records = counted;
            work.progress.records = counted;
            self.shown.stage(Stage::Live);
            self.tell(work);
        }
        // Before the feed has passed what the source holds now, its silence does not mean that there is nothing to tell.
        let mut goal = match drain.is_none() {
            true => Some(self.source.fence(&work.feed.name).await.map_err(self.of(SOURCE))?),
            false => None,
        };
        let mut gathered = Gathered::default();
        let mut kept = tokio::time::Instant::now();
        let mut settling = Settling::new(&work.session);
        let mut lanes = Lanes::default();
        loop {
            let mut quiet_now = false;
            let mut is_next = gathered.is_empty();
            // Where records name others of their own object, those of one transaction are seen together.
            while is_next || self.names_its_own() && gathered.is_cut && gathered.has_room() {
                is_next = false;
                let batch = loop {
                    tokio::select! {
                        biased;
                        batch = changes.next(LIMITS) => break batch.map_err(self.of(SOURCE))?,
                        safe = settling.safe() => self.safe(work, safe).await?,
                    }
                };
                let quiet = batch.events.is_empty();
                quiet_now = quiet;
                if quiet {
                    settling.begin();
                }
                self.take(work, batch, &mut gathered, drain).await;
                if drain.is_none() && (!quiet || gathered.is_empty()) {
                    self.shown.lock().level = quiet && gathered.is_empty() && goal.is_none();
                }
            }
            let ready = std::mem::take(&mut gathered);
            let passed = ready.position.clone();
            if !ready.is_empty() {
                let end =
                    self.carry_out(work, ready, &mut gathered, changes.as_mut(), drain, (&mut settling, &mut lanes)).await?;
                kept = tokio::time::Instant::now();
                if drain.is_none() {
                    self.tell(work);
                }
                match end {
                    None => {}
                    Some(End::Drained) => return Ok(()),
                    Some(End::Again) => return Err(self.carry_again_from_here(work).await?),
                    Some(End::Stop(error)) => return Err(error),
                    Some(End::TooManyDeletes(many)) => return Err(self.ask_about(work, many).await?),
                }
            } else if let Some(position) = passed {
                work.progress.position = position;
                self.leave_view(work);
                if drain.is_none() {
                    self.tell(work);
                }
                if kept.elapsed() >= IDLE_KEEP_INTERVAL {
                    self.keep_position(work).await?;
                    settling.is_safe();
                    kept = tokio::time::Instant::now();
                }
            }
            if drain.is_some_and(|(frozen, _)| self.source.reached(&work.progress.position, frozen.position())) {
                return Ok(());
            }
            if quiet_now && drain.is_none() && gathered.is_empty() && self.desk.has_met_others_values() {
                // By now those that had the values may have let go of them.
                self.place_if_that_can_be(work).await?;
                self.tell(work);
                // Those that have no place yet wait for another change, or for a person.
                self.desk.has_met_others_values();
            }
            let is_there = goal.as_ref().is_some_and(|goal| self.source.reached(&work.progress.position, goal));
            // Those behind may need what is told behind the goal.
            let is_needed = self.options.once && self.relatives.is_waited_for();
            if is_there && gathered.is_empty() && !is_needed {
                goal = None;
                if self.options.once {
                    if self.desk.has_met_others_values() {
                        self.place_if_that_can_be(work).await?;
                        self.tell(work);
                    }
                    self.keep_position(work).await?;
                    self.shown.lock().level = true;
                    return Ok(());
                }
            }
        }
    }

    /// What is there is to be carried again, whatever becomes of this life; gives back what ends it.
    async fn carry_again_from_here(&self, work: &mut Work) -> Result<Error> {
        let progress = &mut work.progress;
        (progress.complete, progress.again) = (false, true);
        progress.ranges.clear();
        work.session.keep(&progress.encode(), false).await.map_err(self.of(TARGET))?;
        let message =
            format!("{} was changed in a way that its feed does not tell: all of it is read again", self.source_object());
        Ok(Error::new(Code::Busy, message))
    }

    async fn keep_position(&self, work: &Work) -> Result<()> {
        work.session.keep(&work.progress.encode(), false).await.map_err(self.of(TARGET))?;
        self.safe(work, Ok(work.progress.position.clone())).await
    }

    /// Everything up to a place is safe in the target: the source may forget it (invariant 1).
    async fn safe(&self, work: &Work, upto: Result<Position>) -> Result<()> {
        let upto = upto.map_err(self.of(TARGET))?;
        self.source.acknowledge(&work.feed.name, &upto).await.map_err(self.of(SOURCE))?;
        failpoint::pass("mirror_acknowledged");
        Ok(())
    }

    /// The view is behind us: what the feed tells from here on is not in it.
    fn leave_view(&self, work: &mut Work) {
        let progress = &mut work.progress;
        if progress.complete && progress.view_at.as_ref().is_some_and(|at| self.source.reached(&progress.position, at)) {
            progress.view = None;
            progress.view_at = None;
        }
    }

    /// Writes what is ready, and gathers what arrives meanwhile.
    async fn carry_out(
        &self,
        work: &mut Work,
        mut ready: Gathered,
        next: &mut Gathered,
        changes: &mut dyn Changes,
        drain: Drain<'_>,
        (settling, lanes): (&mut Settling, &mut Lanes),
    ) -> Result<Option<End>> {
        self.desk.begins_to_write();
        ready.unseen.extend(self.refused_before(&ready.steps));
        if !ready.unseen.is_empty() {
            // As they are now, which is behind everything that is ready. What is too much to be held is read while it is written.
            ready.unseen.dedup();
            let (steps, looked_for) = self.read_portion(&ready.unseen).await?;
            ready.steps.extend(steps);
            ready.unseen.drain(..looked_for.min(ready.unseen.len()));
        }
        self.refuse(ready.refused.into_values().collect(), ready.warned).await?;
        if let Some(last) = ready.last {
            work.progress.applied = Some(last);
        }
        if let Some(position) = ready.position {
            work.progress.position = position;
            self.leave_view(work);
        }
        let mut carried = ready.carried;
        if self.desk.has_refused() {
            carried.extend(self.source_keys(ready.steps.iter().filter(|step| step.is_whole())));
        }
        let session = std::sync::Arc::clone(&work.session);
        let behind = Behind::new(self, ready.unseen);
        failpoint::pass("mirror_before_write");
        {
            let progress = work.progress.clone();
            // What lanes have kept is not written over before the progress has passed it. In a drain a changed key is a record that
            // goes and one that comes: a lane that got further than the rest could not tell them from others when it is resumed.
            // Nor is there a lane where some of it is carried out behind all lanes.
            let lanes = Some(lanes).filter(|_| work.ahead.is_empty() && drain.is_none() && !behind.has_more());
            let steps = ready.steps;
            let write = async {
                if !steps.is_empty() || behind.has_more() {
                    self.may_be_seen(progress.applied.as_ref()).await?;
                }
                self.write(&*session, steps, &progress, lanes, &behind).await
            };
            tokio::pin!(write);
            loop {
                tokio::select! {
                    biased;
                    written = &mut write => {
                        written.map_err(self.of(TARGET))?;
                        break;
                    }
                    safe = settling.safe() => self.safe(work, safe).await?,
                    batch = changes.next(LIMITS), if next.has_room() => {
                        self.take(work, batch.map_err(self.of(SOURCE))?, next, drain).await;
                    }
                }
            }
        }
        failpoint::pass("mirror_written");
        settling.wrote(work.progress.position.clone());
        work.ahead.retain(|lane| self.is_behind(work.progress.applied.as_ref(), &lane.applied));
        self.shown.written(self.now(), &ready.times);
        if drain.is_none() {
            self.shown.lock().records = work.progress.records;
        }
        if self.desk.has_refused() {
            carried.extend(behind.carried());
            self.desk.carried_but_refused(&carried).await?;
        }
        Ok(ready.end)
    }

    /// Records, by their keys at the source, that wait because they were refused and of which a part is told now: that says nothing of
    /// the fields for which they were, so all of each is tried again behind it.
    fn refused_before(&self, steps: &[Step]) -> Vec<Key> {
        if !self.desk.has_refused() {
            return Vec::new();
        }
        let waits = |key: &Key| self.carrier.source_key(key).is_some_and(|key| self.desk.waits(&key));
        let is_part_of_one = |step: &&Step| match step {
            Step::Change { key, .. } => waits(key),
            Step::Rekey { from, to, whole: false, .. } => waits(from) || waits(to),
            _ => false,
        };
        self.source_keys(steps.iter().filter(is_part_of_one))
    }

    /// Takes a step of the feed in.
    async fn take(&self, work: &mut Work, batch: Batch, gathered: &mut Gathered, drain: Drain<'_>) {
        gathered.taken = gathered.taken.saturating_add(usize::from(!batch.events.is_empty()));
        gathered.is_cut = batch.position.is_none() && (gathered.is_cut || !batch.events.is_empty());
        for event in batch.events {
            self.shown.lock().meters.observed();
            let version = match &event {
                Event::Observed(observation) | Event::Read(observation) => &observation.version,
                Event::Truncated { version, .. } => version,
                Event::SchemaChanged(shape) => {
                    // What is told in it may all have been carried out already. Without fields nothing is told in it at all.
                    work.unfit = drift(&self.rules, SOURCE, shape).map(|_| shape.clone());
                    if !shape.fields.is_empty() {
                        self.offer(shape);
                    }
                    if shape.fields.is_empty()
                        && let Err(end) = self.judge(work, shape).await
                    {
                        gathered.end = Some(end);
                        return;
                    }
                    continue;
                }
            };
            match self.place(work, version, drain) {
                Place::Past => continue,
                Place::Beyond => {
                    gathered.end = Some(End::Drained);
                    return;
                }
                Place::Due => {}
            }
            let version = version.clone();
            if let Some(shape) = work.unfit.take()
                && let Err(end) = self.judge(work, &shape).await
            {
                gathered.end = Some(end);
                return;
            }
            let taken = match event {
                Event::Observed(observation) | Event::Read(observation) => self.observe(work, observation, gathered, drain),
                Event::Truncated { time, .. } => self.emptied(work, (&version, time), gathered),
                Event::SchemaChanged(_) => Ok(()),
            };
            if let Err(mut end) = taken {
                if let End::TooManyDeletes(Many { what, .. }) = &mut end {
                    what.push_str(&match gathered.withhold(work) {
                        0 => "; none is deleted in the target before you say so".to_owned(),
                        gone => format!("; {gone} are deleted in the target, and no more before you say so"),
                    });
                }
                gathered.end = Some(end);
                return;
            }
            gathered.last = Some(version);
        }
        if batch.position.is_some() {
            gathered.position = batch.position;
        }
    }

    fn place(&self, work: &Work, version: &Version, drain: Drain<'_>) -> Place {
        let is_newer = |than: &Version| self.source.compare(version, than) == Some(Ordering::Greater);
        if work.progress.applied.as_ref().is_some_and(|applied| !is_newer(applied)) {
            return Place::Past;
        }
        if work.progress.view.as_ref().is_some_and(|view| !is_newer(view)) {
            return Place::Past;
        }
        if drain.is_some_and(|(frozen, _)| is_newer(frozen.version())) {
            return Place::Beyond;
        }
        Place::Due
    }

    fn observe(
        &self,
        work: &mut Work,
        observation: Observation,
        gathered: &mut Gathered,
        drain: Drain<'_>,
    ) -> std::result::Result<(), End> {
        if self.carrier.is_keyless() && !observation.made {
            return Err(End::Stop(self.untold()));
        }
        let (time, is_delete) = (observation.time, matches!(observation.image, Image::Deleted));
        let verdict = is_delete.then(|| self.verdict_on(work, &observation.version).map(|verdict| verdict.let_through)).flatten();
        let is_ahead = self.is_ahead(&work.ahead, &observation);
        // Copied only where somebody looks at them.
        let looked_at = drain.is_some() || is_ahead || !gathered.refused.is_empty() || self.carrier.may_warn();
        let keys = looked_at.then(|| (observation.key.clone(), observation.old_key.clone()));
        let (carried, warnings) = self.carrier.carry(observation);
        if let Some((key, _)) = &keys {
            gathered.warned.extend(warnings.into_iter().map(|warning| (key.clone(), warning.message)));
        }
        let mut step = match carried {
            Carried::Refused { key, error, moved } => {
                if self.is_in(drain, &key) {
                    gathered.refused.insert(key.encode(), (key, error));
                }
                match moved {
                    Some(step) => step,
                    None => return Ok(()),
                }
            }
            Carried::Dormant { key, moved } => {
                // What it was refused for does not matter any more.
                gathered.refused.remove(&key.encode());
                if self.desk.has_refused() {
                    gathered.carried.push(key);
                }
                match moved {
                    Some(step) => step,
                    None => return Ok(()),
                }
            }
            Carried::Unseen { key, moved } => {
                if !is_ahead && self.is_in(drain, &key) {
                    gathered.unseen.push(key);
                }
                match moved {
                    Some(step) => step,
                    None => return Ok(()),
                }
            }
            Carried::Step(step) => step,
        };
        if let (Some(_), Some((key, old_key))) = (drain, &keys) {
            let old = old_key.as_ref().unwrap_or(key);
            step = match (step, self.is_in(drain, old), self.is_in(drain, key)) {
                (step, true, true) => step,
                // What is to be loaded is brought by the load; what goes may be there from before it.
                (Step::Remove { key }, ..) | (Step::Rekey { from: key, .. }, _, false) => Step::Remove { key },
                // Into what is loaded.
                (Step::Rekey { from, to, set, whole }, false, true) => {
                    gathered.steps.push(Step::Remove { key: from });
                    gathered.times.push(time);
                    match whole {
                        true => Step::Put { key: to, record: set, made: false },
                        false => {
                            gathered.unseen.push(key.clone());
                            return Ok(());
                        }
                    }
                }
                _ => return Ok(()),
            };
        }
        // In a drain a record that takes a key in what is not loaded goes too: it is brought again, and nobody deleted it.
        if is_delete && matches!(step, Step::Remove { .. }) {
            match verdict {
                Some(true) => {}
                Some(false) => return Ok(()),
                None => {
                    gathered.may_be_too_many(work);
                    self.count_delete(work)?;
                }
            }
        }
        // A part of a record says nothing of the fields for which it was refused.
        if let Some((key, _)) = keys.filter(|_| step.is_whole()) {
            gathered.refused.remove(&key.encode());
            if is_ahead {
                gathered.carried.push(key);
            }
        }
        if is_ahead {
            return Ok(());
        }
        gathered.push(work, step, time);
        Ok(())
    }

    fn is_in(&self, drain: Drain<'_>, key: &Key) -> bool {
        drain.is_none_or(|(_, done)| done.iter().any(|range| range.contains(key)))
    }

    fn emptied(
        &self,
        work: &mut Work,
        (version, time): (&Version, EditTime),
        gathered: &mut Gathered,
    ) -> std::result::Result<(), End> {
        // Whoever let some deletes through was not asked about all records.
        match self.verdict_on(work, version).filter(|verdict| verdict.empties) {
            Some(verdict) if verdict.let_through => {
                gathered.push(work, Step::Empty, time);
                Ok(())
            }
            Some(_) => Ok(()),
            None => {
                let what = format!("{} was emptied at once (TRUNCATE)", self.source_object());
                Err(End::TooManyDeletes(Many { deletes: work.progress.records, what, empties: true }))
            }
        }
    }

    pub(super) fn source_object(&self) -> String {
        self.member(SOURCE).map(|member| format!("{} {}", member.system, member.object)).unwrap_or_default()
    }
}
