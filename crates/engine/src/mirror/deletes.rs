//! Deletes that the feed tells of, counted: of too many a person is asked before any of them is carried out. Carries none out itself.

use super::carry::{SOURCE, TARGET};
use super::people::{Asked, Verdict};
use super::run::{Mirror, Work};
use super::stream::End;
use crate::change::Version;
use crate::error::{Code, Error, Result};
use crate::guard::Window;
use crate::link::ReviewId;

/// Percentages of deletes mean little of a handful: they count from so many records on.
pub(super) const PERCENT_FROM: u64 = 20;

/// Deletes of which a person is asked.
pub(super) struct Many {
    /// How many.
    pub deletes: u64,
    /// In words.
    pub what: String,
    /// Whether all records went at once.
    pub empties: bool,
}

impl Mirror {
    /// What a person said about deletes, while it holds.
    pub(super) fn verdict<'a>(&self, work: &'a Work) -> Option<&'a Verdict> {
        work.verdict.as_ref().filter(|verdict| !self.source.reached(&work.progress.position, &verdict.upto))
    }

    /// What a person said about an event of the feed; `None`: nobody was asked about it.
    pub(super) fn verdict_on<'a>(&self, work: &'a Work, version: &Version) -> Option<&'a Verdict> {
        let verdict = self.verdict(work)?;
        // Much is taken in before the progress passes any of it, and some of that may stand behind the place.
        let place = self.source.place_behind(version);
        place.is_none_or(|place| self.source.reached(&verdict.upto, &place)).then_some(verdict)
    }

    /// Asks a person about deletes that the feed tells of; gives back what ends this life.
    pub(super) async fn ask_about(&self, work: &Work, many: Many) -> Result<Error> {
        let Many { mut deletes, mut what, empties } = many;
        if empties {
            // What goes is not what the source had, but what the target has.
            let target = self.member(TARGET)?;
            deletes = self.target.count(&target.object).await.map_err(self.of(TARGET))?;
            let goes =
                format!("then all {deletes} records of {} {} go, those that only it has included", target.system, target.object);
            what = format!("{what}; {goes}");
        }
        let upto = self.source.fence(&work.feed.name).await.map_err(self.of(SOURCE))?;
        let asked = if empties { Asked::Emptied(upto) } else { Asked::Deletes(upto) };
        self.desk.ask_about_source(deletes, &what, &asked).await?;
        Ok(Error::new(Code::MassDelete, what))
    }

    /// Keeps what a person said about deletes at the source: it holds for those that there were when they were asked.
    pub(super) async fn decide(&self, id: ReviewId, let_through: bool) -> Result<String> {
        let (upto, empties) = match self.desk.asked(id).await? {
            Some(Asked::Deletes(upto)) => (upto, false),
            Some(Asked::Emptied(upto)) => (upto, true),
            Some(Asked::Replaced) => {
                let feed = self.source.own_feed().ok_or_else(|| Error::new(Code::Internal, "a source without a feed"))?;
                (self.source.fence(&feed).await.map_err(self.of(SOURCE))?, false)
            }
            None => {
                self.desk.close(id, "asked anew, if there is anything left to ask").await?;
                return Ok(format!("review item {} is closed: what it covers is not known any more, and is asked anew", id.0));
            }
        };
        self.desk.decide(id, &Verdict { let_through, upto, empties }).await?;
        Ok(format!("review item {} is decided", id.0))
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
            return Err(End::TooManyDeletes(Many { deletes, what, empties: false }));
        }
        work.progress.deletes = window.counts();
        Ok(())
    }
}
