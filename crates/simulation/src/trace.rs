//! What happened in one run, line by line with its virtual time, and a hash over it: two runs of one seed are the
//! same run exactly when their hashes are equal. Never records what differs between processes (the store's random id).

use crate::clock::VirtualClock;
use std::sync::{Arc, Mutex, PoisonError};

/// The trace of one run, shared by everything that takes part in it.
#[derive(Clone)]
pub struct Trace {
    clock: VirtualClock,
    lines: Arc<Mutex<Lines>>,
}

#[derive(Default)]
struct Lines {
    text: Vec<String>,
    hash: u64,
}

impl Trace {
    /// An empty trace whose lines carry this clock's time.
    pub fn new(clock: VirtualClock) -> Trace {
        Trace { clock, lines: Arc::default() }
    }

    /// Adds a line: who did what.
    pub fn note(&self, who: &str, what: &str) {
        let elapsed = self.clock.elapsed();
        let line = format!("{:>6}.{:03}  {who:<10} {what}", elapsed.as_secs(), elapsed.subsec_millis());
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.hash = xxhash_rust::xxh3::xxh3_64_with_seed(line.as_bytes(), lines.hash);
        lines.text.push(line);
    }

    /// The hash over every line so far.
    pub fn hash(&self) -> u64 {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).hash
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).text.len()
    }

    /// Whether nothing has happened yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every line so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).text.clone()
    }
}
