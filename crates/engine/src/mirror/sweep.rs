//! Records that only the target has, looked for after everything was read again: they went from the source while nobody
//! read its feed, or were never there. Without a memory of single records the two cannot be told apart, so a person is
//! asked before any of them is removed.

use super::batch::Step;
use super::carry::{SOURCE, TARGET};
use super::run::{Mirror, Work};
use crate::change::Observation;
use crate::connector::{ChunkCursor, Presence};
use crate::error::{Code, Error, Result};
use crate::link::ReviewId;
use crate::record::Key;
use crate::rules::MemberRules;
use crate::schema::Selection;

/// Records looked at in one step.
const CHUNK: usize = 2_000;

impl Mirror {
    /// Asks about records that only the target has, if there are any.
    pub(super) async fn look_for_strangers(&self, work: &mut Work) -> Result<()> {
        if !work.progress.sweep {
            return Ok(());
        }
        let strangers = self.strangers(work, None).await?;
        if strangers > 0 {
            self.desk.ask_about_deletes(TARGET, strangers, &self.question(strangers)).await?;
        }
        work.progress.sweep = false;
        work.session.keep(&work.progress.encode(), false).await.map_err(self.of(TARGET))
    }

    /// What a person is asked about so many of them.
    fn question(&self, strangers: u64) -> String {
        let object = self.member(TARGET).map(|member| format!("{} {}", member.system, member.object)).unwrap_or_default();
        format!(
            "{strangers} records of {object} are not at the source: they were deleted there while its changes could not be read, \
             or never were there"
        )
    }

    /// Removes what only the target has, as a person said who was asked about so many: where there are more by now, none but those
    /// is meant, and the person is asked anew.
    pub(super) async fn remove_strangers(&self, id: ReviewId, approved: u64) -> Result<String> {
        let work = self.begin_to_ask().await?;
        // Where everything is read again, the question has ended with what it was asked of.
        self.desk.review(id).await?;
        if let Some(open) = self.desk.question_about(SOURCE).await? {
            // What the source does not have now, it may have lost by what that question is about.
            let why = format!("deletes at the source wait for a decision: decide review item {} first", open.id.0);
            return Err(Error::new(Code::BadResolution, why));
        }
        let there = self.strangers(&work, None).await?;
        if there > approved {
            return Err(self.ask_about_more(id, (approved, there)).await?);
        }
        let removed = self.strangers(&work, Some(approved)).await?;
        if removed > approved {
            let left = self.strangers(&work, None).await?;
            return Err(self.ask_about_more(id, (approved, left)).await?);
        }
        self.desk.close(id, "removed").await?;
        self.place_if_that_can_be(&work).await?;
        Ok(format!("review item {}: {removed} records that only the target had are removed", id.0))
    }

    /// Asks anew about more than a person was asked about; gives back what the person is answered.
    async fn ask_about_more(&self, id: ReviewId, (approved, there): (u64, u64)) -> Result<Error> {
        let anew = self.desk.ask_anew(id, TARGET, there, &self.question(there)).await?;
        let why = format!(
            "review item {} was about {approved} records, and by now {there} are not at the source: decide review item {} instead",
            id.0, anew.0
        );
        Ok(Error::new(Code::MassDelete, why))
    }

    /// How many records only the target has; `remove`: they are removed, up to so many. Beyond, none of a chunk is, and the count ends.
    async fn strangers(&self, work: &Work, remove: Option<u64>) -> Result<u64> {
        let keys_of = |member: &MemberRules| Selection { object: member.object.clone(), fields: member.schema.key.clone() };
        let (here, there) = (keys_of(self.member(SOURCE)?), keys_of(self.member(TARGET)?));
        let mut cursor = ChunkCursor::default();
        let mut count: u64 = 0;
        loop {
            let chunk = self.target.snapshot(&there, &cursor, CHUNK).await.map_err(self.of(TARGET))?;
            let (mut keys, mut absent) = (Vec::new(), Vec::new());
            for Observation { key, .. } in chunk.records {
                match self.carrier.back(&key) {
                    Some(at_source) => keys.push((at_source, key)),
                    None => absent.push(key),
                }
            }
            let asked: Vec<Key> = keys.iter().map(|(at_source, _)| at_source.clone()).collect();
            let presences = self.source.read(&here, &asked).await.map_err(self.of(SOURCE))?;
            let gone = keys.into_iter().zip(presences).filter(|(_, presence)| matches!(presence, Presence::Absent { .. }));
            absent.extend(gone.map(|((_, key), _)| key));
            let steps: Vec<Step> = absent.into_iter().map(|key| Step::Remove { key }).collect();
            count = count.saturating_add(u64::try_from(steps.len()).unwrap_or(0));
            if remove.is_some_and(|most| count > most) {
                return Ok(count);
            }
            if remove.is_some() && !steps.is_empty() {
                work.session.write(&steps, &work.progress.encode(), self).await.map_err(self.of(TARGET))?;
                work.session.settle().await.map_err(self.of(TARGET))?;
            }
            match chunk.next {
                Some(next) => cursor = next,
                None => return Ok(count),
            }
        }
    }
}
