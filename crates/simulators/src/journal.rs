//! Every request that came, for tests to look at: what was asked, by whom, what was answered. Bounded; the oldest entries
//! go first.

use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Most entries kept.
const ENTRIES_MAX: usize = 100_000;
/// Most characters of a body kept.
const BODY_MAX: usize = 65_536;
/// Most bytes of bodies kept in all.
const BODIES_BYTES_MAX: usize = 256 * 1024 * 1024;

/// One request.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Entry {
    pub number: u64,
    pub at_ms: i64,
    /// `http`, `https` or `grpc`.
    pub transport: &'static str,
    pub host: String,
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// 0: no answer was given.
    pub status: u16,
    /// As they were sent.
    pub answer_bytes: usize,
    /// How they were compressed; empty: not at all.
    pub answer_coding: String,
    /// Counted against the allocation of API calls.
    pub counted: bool,
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    entries: VecDeque<Entry>,
    bodies_bytes: usize,
}

/// The entries.
#[derive(Debug, Default)]
pub struct Journal {
    inner: Mutex<Inner>,
}

impl Journal {
    /// Writes an entry; its number is given by the journal.
    pub fn write(&self, mut entry: Entry) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.last += 1;
        entry.number = inner.last;
        if entry.body.len() > BODY_MAX {
            entry.body = entry.body.chars().take(BODY_MAX).collect();
        }
        inner.bodies_bytes += entry.body.len();
        inner.entries.push_back(entry);
        while inner.entries.len() > ENTRIES_MAX || inner.bodies_bytes > BODIES_BYTES_MAX {
            let Some(oldest) = inner.entries.pop_front() else { return };
            inner.bodies_bytes -= oldest.body.len();
        }
    }

    /// The number of the newest entry; 0 where there is none.
    pub fn last(&self) -> u64 {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).last
    }

    /// Entries with a higher number than this.
    pub fn since(&self, number: u64) -> Vec<Entry> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.entries.iter().filter(|entry| entry.number > number).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_numbered_and_read_from_a_number_on() {
        let journal = Journal::default();
        for path in ["/a", "/b", "/c"] {
            journal.write(Entry { path: path.to_string(), ..Entry::default() });
        }
        let paths: Vec<String> = journal.since(1).into_iter().map(|entry| entry.path).collect();
        assert_eq!(paths, ["/b", "/c"]);
        assert_eq!(journal.last(), 3);
    }
}
