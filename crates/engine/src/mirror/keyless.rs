//! Mirror syncs of tables without a key. Their records are appended, each once, for the progress is kept in the transaction of the
//! data; nothing tells one from another that shows the same, so nothing is looked up, changed or removed. What is read anew
//! replaces everything that is there.

use super::batch::Step;
use super::bulk::{Frozen, MirrorSession, Range};
use super::carry::{SOURCE, TARGET};
use super::deletes::PERCENT_FROM;
use super::people::Asked;
use super::run::{Mirror, Work};
use super::view::Stage;
use crate::error::{Code, Error, Result};
use crate::failpoint;
use futures_util::StreamExt as _;

impl Mirror {
    /// The first read: all of it in one transaction, for no range of it could be told from another later on. One that was cut short
    /// begins anew.
    pub(super) async fn load_whole(&self, work: &mut Work) -> Result<()> {
        if work.progress.complete {
            return Ok(());
        }
        self.shown.stage(Stage::Loading);
        // Ranges are of an earlier load, when the records still had a key.
        let is_whole = work.progress.ranges == [Range::default()];
        let is_loaded = is_whole && !self.loaded(work).await?.is_empty();
        if !is_loaded {
            self.replace(work).await?;
        }
        self.build_indexes(work).await?;
        let progress = &mut work.progress;
        (progress.complete, progress.again) = (true, false);
        progress.ranges.clear();
        work.session.keep(&work.progress.encode(), false).await.map_err(self.of(TARGET))?;
        failpoint::pass("mirror_loaded");
        self.shown.lock().loaded = true;
        Ok(())
    }

    async fn replace(&self, work: &mut Work) -> Result<()> {
        if !work.progress.again {
            self.require_empty(&*work.session).await?;
        }
        let source = self.source.bulk_source().ok_or_else(|| Error::new(Code::Unsupported, "the source is not read in bulk"))?;
        let frozen = source.freeze(&self.member(SOURCE)?.selection).await.map_err(self.of(SOURCE))?;
        let records = match work.progress.again {
            // What is replaced is compared with what replaces it, to the last record.
            true => self.count_of(&*frozen).await,
            false => self.source.count(&self.member(SOURCE)?.object).await,
        };
        let records = records.map_err(self.of(SOURCE))?;
        self.ask_before_replacing(work, records).await?;
        let progress = &mut work.progress;
        progress.ranges = vec![Range::default()];
        (progress.records, progress.into_empty, progress.mapping) = (records, true, self.carrier.print());
        (progress.view, progress.view_at) = (Some(frozen.version().clone()), Some(frozen.position().clone()));
        work.session.keep(&work.progress.encode(), true).await.map_err(self.of(TARGET))?;
        failpoint::pass("mirror_view_kept");
        if !work.session.is_empty().await.map_err(self.of(TARGET))? {
            work.session.write(&[Step::Empty], &work.progress.encode(), self).await.map_err(self.of(TARGET))?;
            work.session.settle().await.map_err(self.of(TARGET))?;
        }
        self.desk.begins_to_read(|_| false).await?;
        if self.rules.initial.rebuild_indexes {
            work.session.set_indexes_aside(&self.carrier.set_aside(false)).await.map_err(self.of(TARGET))?;
            failpoint::pass("mirror_indexes_aside");
        }
        self.load_at_once(work, &frozen).await
    }

    /// How many records of a view take part, counted one by one.
    async fn count_of(&self, frozen: &dyn Frozen) -> Result<u64> {
        if self.carrier.filter().is_none() {
            return frozen.count().await;
        }
        let mut records = frozen.records(&Range::default()).await?;
        let mut count: u64 = 0;
        while let Some(some) = records.next().await {
            let part = some?.into_iter().filter(|record| self.carrier.takes_part(record)).count();
            count = count.saturating_add(u64::try_from(part).unwrap_or(0));
        }
        Ok(count)
    }

    /// Asks a person where what is read holds many records fewer than what it is to replace.
    async fn ask_before_replacing(&self, work: &Work, records: u64) -> Result<()> {
        let (target, limits) = (self.member(TARGET)?, &self.rules.guard);
        if !work.progress.again {
            return Ok(());
        }
        let there = work.session.count().await.map_err(self.of(TARGET))?;
        let fewer = there.saturating_sub(records);
        #[allow(clippy::cast_precision_loss, reason = "a percentage of a count is compared, nothing is carried")]
        let share = fewer as f64 * 100.0 / there.max(1) as f64;
        let is_much = fewer > limits.max_deletes || there >= PERCENT_FROM && share > limits.max_deletes_percent;
        if !is_much || self.verdict(work).is_some_and(|verdict| verdict.let_through) {
            return Ok(());
        }
        let (source, target) = (self.source_object(), format!("{} {}", target.system, target.object));
        let what = format!("{source} holds {records} records and is to replace the {there} of {target}");
        self.desk.ask_about_source(fewer, &what, &Asked::Replaced).await?;
        Err(Error::new(Code::MassDelete, what))
    }

    /// Refuses a target that holds records which may be anybody's.
    pub(super) async fn require_empty(&self, session: &dyn MirrorSession) -> Result<()> {
        let target = self.member(TARGET)?;
        if session.is_empty().await.map_err(self.of(TARGET))? {
            return Ok(());
        }
        let message =
            format!("{} holds records already, and {} has no key that tells them apart", target.object, self.source_object());
        Err(Error::new(Code::TargetNotEmpty, message).at(target.system.to_string()))
    }

    /// A change that cannot be carried.
    pub(super) fn untold(&self) -> Error {
        let message = format!(
            "a record of {}, which has no key, was changed or deleted: which of the target's records that is cannot be told",
            self.source_object()
        );
        let system = self.member(SOURCE).map(|source| source.system.to_string()).unwrap_or_default();
        Error::new(Code::RecordUntold, message).at(system)
    }
}
