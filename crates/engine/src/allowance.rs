//! Calls that a system lets us make, and how writes are spaced so that they last.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How many calls a system lets us make in a window of time (a day, mostly).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowance {
    /// Calls that everybody has made in the window, as the system last said.
    pub used: u64,
    /// Calls that everybody together may make in it.
    pub allowed: u64,
    /// The calls among them that this process has made.
    pub own: u64,
    /// The calls that Concord may make in it by its configuration.
    pub share: u64,
    /// The calls that this process makes in a window if it goes on as in the last hour.
    pub forecast: u64,
}

impl Allowance {
    /// The calls that are left for Concord now.
    pub fn left(&self) -> u64 {
        self.allowed.saturating_sub(self.used).min(self.share.saturating_sub(self.own))
    }

    /// How long to wait between two batches of writes, so that what is left lasts: what is to be written meanwhile goes in one.
    /// Nothing while less than half is used, or while it lasts anyhow.
    pub fn spacing(&self) -> Duration {
        let half_used = self.left() <= self.share.min(self.allowed) / 2;
        if self.forecast <= self.share || !half_used {
            return Duration::ZERO;
        }
        // The window of a day, spread over the batches that the calls suffice for.
        let batches = (self.left() / CALLS_OF_A_BATCH).max(1);
        Duration::from_secs(24 * 3_600)
            .checked_div(u32::try_from(batches).unwrap_or(u32::MAX))
            .unwrap_or_default()
            .min(SPACING_MAX)
    }
}

/// The calls of a batch of writes where a record is read before and behind its write, with what else they bring along.
const CALLS_OF_A_BATCH: u64 = 3;
/// Nobody waits longer for the next batch because calls are short.
const SPACING_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_spaced_so_that_the_calls_that_are_left_last_for_a_day() {
        let calls = |own, forecast| Allowance { used: own, allowed: 15_000, own, share: 15_000, forecast };
        assert_eq!(calls(9_000, 14_000).spacing(), Duration::ZERO, "they last anyhow");
        assert_eq!(calls(7_000, 40_000).spacing(), Duration::ZERO, "less than half is used");
        assert_eq!(calls(9_000, 40_000).spacing(), Duration::from_millis(43_200), "2,000 batches of three calls");
        assert_eq!(calls(14_999, 40_000).spacing(), SPACING_MAX);
        let others = Allowance { used: 14_900, allowed: 15_000, own: 10, share: 7_000, forecast: 8_000 };
        assert_eq!(others.spacing(), SPACING_MAX, "others have used them");
    }
}
