//! Deletes of strangers, remembered for exactly as long as a read is under way that may yet show the record alive.

use crate::change::Version;
use crate::store::Address;
use std::collections::BTreeMap;

/// Deletes of records that nobody knew, kept only while a read is under way that may yet show the record as it was before:
/// without this, the read would bring a deleted record to life.
#[derive(Default)]
pub(crate) struct Orphans {
    deletes: BTreeMap<Address, (Version, u64)>,
    generation: u64,
    open: BTreeMap<u64, ()>,
    /// Reads up to this one are of no use: there was no room for all the deletes told since they began.
    void_to: u64,
}

/// The most deletes remembered at once; where more are told while a read is under way, the read is made again.
const ORPHANS_MAX: usize = 100_000;

impl Orphans {
    /// A read begins; its number is given back to `end` when its answer has been taken in.
    pub fn begin(&mut self) -> u64 {
        self.generation = self.generation.saturating_add(1);
        self.open.insert(self.generation, ());
        self.generation
    }

    /// A read is over.
    pub fn end(&mut self, generation: u64) {
        self.open.remove(&generation);
        match self.open.keys().next().copied() {
            None => self.deletes.clear(),
            // A delete that came before the oldest open read began cannot be news to any of them.
            Some(oldest) => self.deletes.retain(|_, (_, seen)| *seen >= oldest),
        }
    }

    /// Everything went at once, also what nobody knew: reads under way may yet show it, and are made again.
    pub(crate) fn all_went(&mut self) {
        if !self.open.is_empty() {
            self.void_to = self.generation;
        }
    }

    /// Whether an answer can no longer be told from what was deleted since it was asked for.
    pub(super) fn is_void(&self, generation: u64) -> bool {
        generation <= self.void_to
    }

    /// The number of the last read begun.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Forgets the deletes under some addresses.
    pub(super) fn forget(&mut self, which: impl Fn(&Address) -> bool) {
        self.deletes.retain(|address, _| !which(address));
    }

    pub(super) fn remember(&mut self, address: Address, version: Version) {
        if self.deletes.len() >= ORPHANS_MAX {
            self.deletes.clear();
            self.void_to = self.generation;
        }
        if !self.open.is_empty() {
            self.deletes.insert(address, (version, self.generation));
        }
    }

    pub(super) fn version(&self, address: &Address) -> Option<&Version> {
        self.deletes.get(address).map(|(version, _)| version)
    }
}
