//! Deletes that the feed tells of, counted: of too many a person is asked before any of them is carried out. Carries none out itself.

use super::people::Verdict;
use super::run::{Mirror, Work};
use super::stream::End;
use crate::guard::Window;

/// Percentages of deletes mean little of a handful: they count from so many records on.
pub(super) const PERCENT_FROM: u64 = 20;

impl Mirror {
    /// What a person said about deletes, while it holds.
    pub(super) fn verdict<'a>(&self, work: &'a Work) -> Option<&'a Verdict> {
        work.verdict.as_ref().filter(|verdict| !self.source.reached(&work.progress.position, &verdict.upto))
    }

    /// Counts one; an error where it is one of too many.
    pub(super) fn count_delete(&self, work: &mut Work) -> std::result::Result<(), End> {
        let limits = &self.rules.guard;
        let mut window = Window::from_counts(&work.progress.deletes);
        let deletes = window.count(self.now(), limits.window);
        // As many as there were before the first of them.
        let of = work.progress.records.saturating_add(deletes.saturating_sub(1));
        #[allow(clippy::cast_precision_loss, reason = "a percentage of a count is compared, nothing is carried")]
        let share = deletes as f64 * 100.0 / of.max(1) as f64;
        let too_many = of >= PERCENT_FROM && share > limits.max_deletes_percent;
        if deletes > limits.max_deletes || too_many {
            let what = format!("at least {deletes} records of {} went away within {:?}", self.source_object(), limits.window);
            return Err(End::TooManyDeletes(deletes, what));
        }
        work.progress.deletes = window.counts();
        Ok(())
    }
}
