//! Random waits between retries. Never asks the machine for chance: the same seed gives the same waits.

use std::time::Duration;

/// Random waits between retries, from a seed: a small generator of our own so that the same seed gives the same waits.
pub(crate) struct Jitter(u64);

impl Jitter {
    pub fn new(seed: u64) -> Jitter {
        Jitter(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// A random part of `longest` (full jitter).
    pub fn part_of(&mut self, longest: Duration) -> Duration {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let thousandths = u32::try_from(mixed % 1_000).unwrap_or(0);
        longest.saturating_mul(thousandths) / 1_000
    }
}
