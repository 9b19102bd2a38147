//! Records that are read again while a batch is carried out: not known to be few or small, so they are read and carried out in
//! portions that may be held in memory, within the one transaction. Nothing here waits for a person or keeps progress.

use super::batch::Step;
use super::bulk::Helper;
use super::carry::SOURCE;
use super::run::Mirror;
use crate::error::{Error, Result};
use crate::record::Key;
use async_trait::async_trait;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// About the most bytes of records in a portion.
const PORTION_BYTES: usize = 1 << 20;
/// The most records in a portion.
const PORTION_RECORDS_MAX: usize = 1_000;
/// How many records are asked for before anything is known of their size.
const FIRST_RECORDS: usize = 50;

/// How many records are asked for at once: about as many as a portion was found to hold.
pub(super) struct Portions(AtomicUsize);

impl Default for Portions {
    fn default() -> Portions {
        Portions(AtomicUsize::new(FIRST_RECORDS))
    }
}

impl Portions {
    fn records(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// So many were answered of those that were asked for.
    fn answered(&self, asked: usize, answered: usize) {
        let next = match answered < asked {
            true => answered,
            false => self.records().max(asked.saturating_mul(2)),
        };
        self.0.store(next.clamp(1, PORTION_RECORDS_MAX), Ordering::Relaxed);
    }
}

impl Mirror {
    /// A portion of records by their keys at the source, as steps; and how many of the keys were looked for.
    pub(super) async fn read_portion(&self, keys: &[Key]) -> Result<(Vec<Step>, usize)> {
        let asked = keys.get(..self.portions.records().min(keys.len())).unwrap_or_default();
        if asked.is_empty() {
            return Ok((Vec::new(), 0));
        }
        let selection = &self.member(SOURCE)?.selection;
        let presences = self.source.read_within(selection, asked, PORTION_BYTES).await.map_err(self.of(SOURCE))?;
        let answered = presences.len().clamp(1, asked.len());
        self.portions.answered(asked.len(), answered);
        self.reads_may_be_seen().await?;
        Ok((self.whole_steps(asked, presences, false).await?, answered))
    }
}

/// Records that are carried out behind a batch, as they are by then.
pub(super) struct Behind<'a> {
    mirror: &'a Mirror,
    keys: Mutex<Vec<Key>>,
    /// Those that were there, by their keys at the source.
    carried: Mutex<Vec<Key>>,
}

impl<'a> Behind<'a> {
    pub fn new(mirror: &'a Mirror, keys: Vec<Key>) -> Behind<'a> {
        Behind { mirror, keys: Mutex::new(keys), carried: Mutex::default() }
    }

    fn keys(&self) -> MutexGuard<'_, Vec<Key>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that were carried out.
    pub fn carried(self) -> Vec<Key> {
        self.carried.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Helper for Behind<'_> {
    async fn whole(&self, keys: &[Key]) -> Result<(Vec<Step>, usize)> {
        self.mirror.whole(keys).await
    }

    async fn refused(&self, refused: Vec<(Step, Error)>) -> Result<()> {
        self.mirror.refused(refused).await
    }

    fn has_more(&self) -> bool {
        !self.keys().is_empty()
    }

    async fn more(&self) -> Result<Option<Vec<Step>>> {
        let mut keys = std::mem::take(&mut *self.keys());
        if keys.is_empty() {
            return Ok(None);
        }
        let (steps, looked_for) = self.mirror.read_portion(&keys).await?;
        keys.drain(..looked_for.min(keys.len()));
        *self.keys() = keys;
        self.carried.lock().unwrap_or_else(PoisonError::into_inner).extend(self.mirror.source_keys(&steps));
        Ok(Some(steps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_records_are_asked_for_as_a_portion_was_found_to_hold() {
        let portions = Portions::default();
        portions.answered(50, 50);
        portions.answered(100, 100);
        assert_eq!(portions.records(), 200);
        // Larger ones have come.
        portions.answered(200, 3);
        assert_eq!(portions.records(), 3);
        portions.answered(3, 3);
        assert_eq!(portions.records(), 6);
        // Few that were wanted say nothing of how many there is room for.
        portions.answered(1, 1);
        assert_eq!(portions.records(), 6);
        portions.answered(6, 0);
        assert_eq!(portions.records(), 1);
        (0..20).for_each(|_| portions.answered(portions.records(), portions.records()));
        assert_eq!(portions.records(), PORTION_RECORDS_MAX);
    }
}
