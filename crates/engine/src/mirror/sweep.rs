//! Records that only the target has, looked for after everything was read again: they went from the source while nobody
//! read its feed, or were never there. Without a memory of single records the two cannot be told apart, so a person is
//! asked before any of them is removed.

use super::batch::Step;
use super::carry::{SOURCE, TARGET};
use super::run::{Mirror, Work};
use crate::change::Observation;
use crate::connector::{ChunkCursor, Presence};
use crate::error::Result;
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
        let strangers = self.strangers(work, false).await?;
        if strangers > 0 {
            let object = self.member(TARGET).map(|member| format!("{} {}", member.system, member.object))?;
            let what = format!(
                "{strangers} records of {object} are not at the source: they were deleted there while its changes could not be read, \
                 or never were there"
            );
            self.desk.ask_about_deletes(TARGET, strangers, &what).await?;
        }
        work.progress.sweep = false;
        work.session.keep(&work.progress.encode(), false).await.map_err(self.of(TARGET))
    }

    /// How many records only the target has; `remove`: they are removed.
    pub(super) async fn strangers(&self, work: &Work, remove: bool) -> Result<u64> {
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
            if remove && !steps.is_empty() {
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
