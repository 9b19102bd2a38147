//! The first read of a mirror sync: ranges of a view that is frozen at a place of the feed, loaded side by side, each with
//! the note that it is loaded in one transaction. A load that was cut short goes on with the ranges that are left, in a
//! later view: first those that are loaded are brought to that view by the feed.

use super::batch::Step;
use super::bulk::{Frozen, Range, RawField};
use super::carry::{Carried, SOURCE, TARGET};
use super::run::{Mirror, Work};
use super::view::{Load, Stage};
use crate::change::Observation;
use crate::error::{Code, Error, Result};
use crate::failpoint;
use crate::record::{FieldName, Record};
use futures_util::stream::{BoxStream, FuturesUnordered, StreamExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// About how many records are in one range.
const RANGE_RECORDS: u64 = 100_000;
/// The most ranges that are loaded at once, whatever `parallelism` says.
const LOADERS_MAX: usize = 8;
/// The most records that are placed together after others had what they need, about how many bytes of them, and how many of them are
/// read at once.
const PLACED_AT_ONCE: usize = 5_000;
const PLACED_BYTES: u64 = 16 << 20;
const READ_AT_ONCE: usize = 500;
/// The most ranges of a load.
const RANGES_MAX: u64 = 10_000;

/// How the records of a load travel.
enum Way {
    /// In the source's bulk format: its fields, and the target's names of them.
    Raw(Vec<RawField>, Vec<FieldName>),
    /// One by one.
    Decoded,
}

/// What of a range has been passed on.
#[derive(Default)]
struct Passed {
    records: AtomicU64,
    bytes: AtomicU64,
}

impl Mirror {
    /// Loads what is not loaded yet.
    pub(super) async fn load(&self, work: &mut Work) -> Result<()> {
        if work.progress.complete {
            return Ok(());
        }
        self.shown.stage(Stage::Loading);
        // Before anything is held open at the source.
        self.may_be_loaded().await?;
        self.may_be_read().await?;
        let source = self.source.bulk_source().ok_or_else(|| Error::new(Code::Unsupported, "the source is not read in bulk"))?;
        let frozen = source.freeze(&self.member(SOURCE)?.selection).await.map_err(self.of(SOURCE))?;
        self.view_may_be_seen(frozen.position()).await?;
        let mut loaded = self.loaded(work).await?;
        if work.progress.ranges.is_empty() {
            loaded.clear();
        }
        let begins = loaded.is_empty();
        let ranges = &work.progress.ranges;
        let there = |place: &u32| usize::try_from(*place).ok().and_then(|place| ranges.get(place)).cloned();
        let done: Vec<Range> = loaded.iter().filter_map(there).collect();
        if begins {
            if !work.session.is_empty().await.map_err(self.of(TARGET))? {
                // What an earlier load was to do without watches over what is there from now on.
                work.session.build_indexes().await.map_err(self.of(TARGET))?;
            }
            // A load that broke off before any range was loaded had a view of its own, to which what is there was brought.
            let broke_off = work.progress.view.is_some() && !work.progress.into_empty;
            if work.progress.again || broke_off {
                work.session.build_key().await.map_err(self.of(TARGET))?;
                // What is there follows the feed to this view, so that what is gone by then goes.
                self.stream(work, Some((frozen.as_ref(), &[Range::default()]))).await?;
            }
            let records = self.source.count(&self.member(SOURCE)?.object).await.map_err(self.of(SOURCE))?;
            let parallelism = u64::try_from(self.rules.parallelism.max(1)).unwrap_or(1);
            let wanted = match self.names_its_own() {
                // A record of one range may name one of another.
                true => 1,
                false => records.div_ceil(RANGE_RECORDS).clamp(parallelism, RANGES_MAX),
            };
            work.progress.ranges = frozen.ranges(usize::try_from(wanted).unwrap_or(1)).await.map_err(self.of(SOURCE))?;
            work.progress.records = records;
            work.progress.into_empty = work.session.is_empty().await.map_err(self.of(TARGET))?;
            work.progress.mapping = self.carrier.print();
            work.progress.again = false;
        } else {
            // What is loaded shows an earlier view: the feed brings it to this one, record by record.
            work.session.build_key().await.map_err(self.of(TARGET))?;
            self.stream(work, Some((frozen.as_ref(), &done))).await?;
        }
        work.progress.view = Some(frozen.version().clone());
        work.progress.view_at = Some(frozen.position().clone());
        work.session.keep(&work.progress.encode(), begins).await.map_err(self.of(TARGET))?;
        failpoint::pass("mirror_view_kept");
        self.desk.begins_to_read(|key| done.iter().any(|range| range.contains(key))).await?;
        let way = self.way(work, &*frozen).await?;
        if begins && work.progress.into_empty && self.rules.initial.rebuild_indexes {
            let unique = self.carrier.set_aside(matches!(way, Way::Raw(..)));
            work.session.set_indexes_aside(&unique).await.map_err(self.of(TARGET))?;
            failpoint::pass("mirror_indexes_aside");
        }
        if matches!(way, Way::Decoded) {
            work.session.build_key().await.map_err(self.of(TARGET))?;
        }
        self.load_ranges(work, &frozen, way, &loaded).await?;
        self.build_indexes(work).await?;
        self.place_those_in_the_way(work, Some(frozen.as_ref())).await?;
        work.progress.complete = true;
        // Of no use any more, and they would be written with every batch.
        work.progress.ranges.clear();
        work.session.keep(&work.progress.encode(), false).await.map_err(self.of(TARGET))?;
        failpoint::pass("mirror_loaded");
        self.shown.lock().loaded = true;
        Ok(())
    }

    /// The ranges that are loaded.
    pub(super) async fn loaded(&self, work: &Work) -> Result<std::collections::BTreeSet<u32>> {
        work.session.loaded().await.map_err(self.of(TARGET))
    }

    async fn load_ranges(
        &self,
        work: &Work,
        frozen: &Arc<dyn Frozen>,
        way: Way,
        loaded: &std::collections::BTreeSet<u32>,
    ) -> Result<()> {
        let places = (0_u32..).zip(&work.progress.ranges).filter(|(place, _)| !loaded.contains(place));
        let waiting: Vec<(u32, &Range)> = places.collect();
        let all = u64::try_from(work.progress.ranges.len()).unwrap_or(u64::MAX).max(1);
        let before = work.progress.records / all * u64::try_from(loaded.len()).unwrap_or(0);
        self.shown.lock().load = Load { begun: Some(self.now()), of: work.progress.records, before, ..Load::default() };
        let left = match way {
            Way::Decoded => waiting,
            Way::Raw(from, to) => {
                self.each_range(waiting, |place, range| self.load_raw(work, frozen, (&from, &to), place, range)).await?
            }
        };
        if !left.is_empty() {
            // One by one, records are found by their key.
            work.session.build_key().await.map_err(self.of(TARGET))?;
            self.each_range(left, |place, range| self.load_decoded(work, frozen, place, range)).await?;
        }
        Ok(())
    }

    /// Loads ranges side by side; gives back those that were not taken.
    async fn each_range<'a, F: Future<Output = Result<bool>>>(
        &self,
        ranges: Vec<(u32, &'a Range)>,
        load: impl Fn(u32, &'a Range) -> F,
    ) -> Result<Vec<(u32, &'a Range)>> {
        let mut waiting = ranges.into_iter();
        let mut running = FuturesUnordered::new();
        let mut left = Vec::new();
        let begin = |(place, range): (u32, &'a Range)| {
            let loading = load(place, range);
            async move { (loading.await, place, range) }
        };
        for next in waiting.by_ref().take(self.rules.parallelism.clamp(1, LOADERS_MAX)) {
            running.push(begin(next));
        }
        while let Some((ended, place, range)) = running.next().await {
            match ended? {
                true => failpoint::pass("mirror_range_loaded"),
                false => left.push((place, range)),
            }
            running.extend(waiting.next().map(&begin));
        }
        Ok(left)
    }

    /// In bulk where nothing happens to a value on its way, the source itself can leave out what takes no part, the target takes the
    /// format, and no record can be there already.
    async fn way(&self, work: &Work, frozen: &dyn Frozen) -> Result<Way> {
        let Some(fields) = self.carrier.as_it_is().filter(|_| work.progress.into_empty) else { return Ok(Way::Decoded) };
        if self.carrier.filter().is_some_and(|filter| !frozen.can_ask(filter)) {
            return Ok(Way::Decoded);
        }
        let kind = self.source.capabilities().kind;
        let typed: Vec<(FieldName, String)> = fields.iter().map(|(_, to, native)| (to.clone(), native.clone())).collect();
        let Some(given) = work.session.takes_raw(kind, &typed).await.map_err(self.of(TARGET))? else { return Ok(Way::Decoded) };
        let fields = fields.into_iter().zip(given);
        let (from, to) = fields.map(|((name, to, _), given_as)| (RawField { name, given_as }, to)).unzip();
        Ok(Way::Raw(from, to))
    }

    /// Loads a range in the source's own format; `false`: the target takes one of its records not, and has none of them.
    async fn load_raw(
        &self,
        work: &Work,
        frozen: &Arc<dyn Frozen>,
        (from, to): (&[RawField], &[FieldName]),
        place: u32,
        range: &Range,
    ) -> Result<bool> {
        self.view_may_be_seen(frozen.position()).await?;
        let passed = Arc::new(Passed::default());
        let (counted, shown) = (Arc::clone(&passed), self.shown.clone());
        let system = self.member(SOURCE)?.system.to_string();
        let rows = frozen.raw(range, from, self.carrier.filter()).await.map_err(self.of(SOURCE))?.map(move |piece| {
            let piece = piece.map_err(|error| if error.at.is_none() { error.at(system.clone()) } else { error })?;
            let bytes = u64::try_from(piece.bytes.len()).unwrap_or(u64::MAX);
            counted.records.fetch_add(piece.records, Ordering::Relaxed);
            counted.bytes.fetch_add(bytes, Ordering::Relaxed);
            shown.lock().load.pass(piece.records, bytes);
            Ok(piece)
        });
        match work.session.load_raw(place, to, rows.boxed()).await {
            Ok(records) => {
                self.shown.lock().meters.loaded(self.now(), records);
                Ok(true)
            }
            // A record that the target refuses is found by carrying them one by one.
            Err(error) if error.may_be_one_records() => {
                tracing::debug!(sync = self.rules.name.as_str(), error = error.chain(), "a range is not taken in bulk");
                let (records, bytes) = (&passed.records, &passed.bytes);
                self.shown.lock().load.take_back(records.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed));
                Ok(false)
            }
            Err(error) => Err(self.of(TARGET)(error)),
        }
    }

    /// Loads a range record by record; what is refused goes to the desk.
    async fn load_decoded(&self, work: &Work, frozen: &Arc<dyn Frozen>, place: u32, range: &Range) -> Result<bool> {
        self.view_may_be_seen(frozen.position()).await?;
        let records = frozen.records(range).await.map_err(self.of(SOURCE))?;
        let steps = self.steps(records, work.progress.into_empty);
        work.session.load(place, steps, self).await.map_err(self.of(TARGET))?;
        Ok(true)
    }

    /// Loads all that a view holds as one range.
    pub(super) async fn load_at_once(&self, work: &Work, frozen: &Arc<dyn Frozen>) -> Result<()> {
        let way = self.way(work, &**frozen).await?;
        self.load_ranges(work, frozen, way, &std::collections::BTreeSet::new()).await
    }

    /// Builds the indexes that were set aside for the load, and shows that it does.
    pub(super) async fn build_indexes(&self, work: &Work) -> Result<()> {
        self.shown.lock().load.indexes = Some(self.now());
        let built = work.session.build_indexes().await.map_err(self.of(TARGET));
        self.shown.lock().load.indexes = None;
        built?;
        failpoint::pass("mirror_indexes_built");
        Ok(())
    }

    /// Carries those records again that were refused because another one had a value of theirs: by now that one may have let
    /// go of it, and those that exchange values do so together. `frozen`: as they are in this view; else as they are now.
    pub(super) async fn place_those_in_the_way(&self, work: &Work, frozen: Option<&dyn Frozen>) -> Result<()> {
        let mut before = usize::MAX;
        loop {
            let waiting = self.desk.taken();
            if waiting.is_empty() || waiting.len() >= before {
                return Ok(());
            }
            before = waiting.len();
            // What was refused until now is told again if it is refused again.
            self.desk.carried_but_refused(&[]).await?;
            let mut rest = waiting.as_slice();
            while !rest.is_empty() {
                let (mut steps, mut bytes) = (Vec::new(), 0_u64);
                while steps.len() < PLACED_AT_ONCE && bytes < PLACED_BYTES && !rest.is_empty() {
                    let (keys, behind) = rest.split_at(rest.len().min(READ_AT_ONCE));
                    let more = match frozen {
                        Some(frozen) => self.steps_of(frozen.read(keys).await.map_err(self.of(SOURCE))?).await?,
                        None => self.read_whole(keys, false).await?,
                    };
                    bytes = more.iter().map(Step::about_bytes).fold(bytes, u64::saturating_add);
                    steps.extend(more);
                    rest = behind;
                }
                work.session.write(&steps, &work.progress.encode(), self).await.map_err(self.of(TARGET))?;
                work.session.settle().await.map_err(self.of(TARGET))?;
                self.desk.carried_but_refused(&self.source_keys(&steps)).await?;
            }
        }
    }

    /// Records as steps, `new` to the target; what is refused goes to the desk.
    fn steps<'a>(&'a self, records: BoxStream<'a, Result<Vec<Observation>>>, new: bool) -> BoxStream<'a, Result<Vec<Step>>> {
        let steps = records.then(move |records| async move {
            let records = records.map_err(self.of(SOURCE))?;
            let count = u64::try_from(records.len()).unwrap_or(u64::MAX);
            let bytes =
                records.iter().filter_map(|record| record.image.record()).map(Record::about_bytes).fold(0, u64::saturating_add);
            let mut steps = self.steps_of(records).await?;
            for step in &mut steps {
                if let Step::Put { made, .. } = step {
                    *made = new;
                }
            }
            {
                let mut view = self.shown.lock();
                view.load.pass(count, bytes);
                view.meters.loaded(self.now(), count);
            }
            Ok(steps)
        });
        steps.boxed()
    }

    async fn steps_of(&self, records: Vec<Observation>) -> Result<Vec<Step>> {
        let mut steps = Vec::with_capacity(records.len());
        let mut refused = Vec::new();
        let mut warned = Vec::new();
        for record in records {
            let key = self.carrier.may_warn().then(|| record.key.clone());
            let (carried, warnings) = self.carrier.carry(record);
            warned.extend(warnings.into_iter().zip(key.iter().cycle()).map(|(warning, key)| (key.clone(), warning.message)));
            match carried {
                Carried::Step(step) => steps.push(step),
                Carried::Dormant { .. } => {}
                Carried::Refused { key, error, .. } => refused.push((key, error)),
                Carried::Unseen { .. } => return Err(Error::new(Code::Internal, "a view showed a part of a record")),
            }
        }
        self.refuse(refused, warned).await?;
        Ok(steps)
    }

    /// Makes durable what was refused or let through with a warning.
    pub(super) async fn refuse(
        &self,
        refused: Vec<(crate::record::Key, Error)>,
        warned: Vec<(crate::record::Key, String)>,
    ) -> Result<()> {
        if !warned.is_empty() {
            self.desk.warn(warned).await?;
        }
        if refused.is_empty() {
            return Ok(());
        }
        for _ in &refused {
            self.shown.lock().meters.failed(self.now());
        }
        self.desk.refuse(refused).await
    }
}
