//! When changes are carried: a sync that does not carry them as they happen is shut when everything has been carried, and
//! opened when it is next due. Changes go on being recorded meanwhile, as in a pause.

use super::core::Core;
use crate::clock::Moment;
use crate::error::Result;
use crate::link::SyncId;
use crate::rules::Carrying;

/// Kept while a sync that has its hours is at work: whatever ends the engine meanwhile, it goes on at the next start.
fn open_setting(sync: SyncId) -> String {
    format!("open/{}", sync.0)
}

impl Core {
    /// What a sync begins with: a schedule is waited for, unless the engine is to end when everything is carried, or ended
    /// while the sync was at work.
    pub(crate) async fn open_or_shut(&mut self, sync: usize) -> Result<()> {
        let (now, once) = (self.now(), self.options.once);
        let Some(id) = self.rules(sync).map(|rules| rules.id) else { return Ok(()) };
        let was_open = self.store.setting(&open_setting(id)).await?.is_some();
        let Some(state) = self.syncs.get_mut(sync) else { return Ok(()) };
        state.shut_until = match &state.rules.carrying {
            Carrying::At(schedule) if !once && !was_open => schedule.next(now).or(Some(Moment(i64::MAX))),
            _ => None,
        };
        Ok(())
    }

    /// Shuts syncs that have carried everything, and opens those that are due.
    pub(crate) async fn turn_the_hours(&mut self, now: Moment) -> Result<()> {
        for sync in 0..self.syncs.len() {
            // What ends when everything is carried waits for no hour.
            let is_level = self.is_level_now(sync) && !self.options.once;
            let Some(state) = self.syncs.get_mut(sync) else { continue };
            if state.rules.carrying == Carrying::AtOnce {
                continue;
            }
            match state.shut_until {
                Some(until) if until <= now => {
                    state.shut_until = None;
                    self.transaction.settings.push((open_setting(state.rules.id), Some(vec![1])));
                    for member in &mut state.members {
                        member.maybe_owing = true;
                    }
                    self.catch_up_with_people(sync).await?;
                    self.restore_pending(sync).await?;
                }
                Some(_) => {}
                None if is_level => {
                    state.shut_until = state.rules.carrying.next(now).or(Some(Moment(i64::MAX)));
                    self.transaction.settings.push((open_setting(state.rules.id), None));
                }
                None => {}
            }
        }
        Ok(())
    }
}
