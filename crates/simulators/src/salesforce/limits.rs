//! Allocations: API calls of the last 24 hours, events delivered, jobs. Owns the counting; the refusal is the caller's. By
//! default those of the Unlimited Edition without add-ons: 50,000 deliveries, where the Enterprise Edition has 25,000 and a
//! developer's org 10,000. A delivery is one event to one client that subscribes through an API, whoever made the change.

use std::collections::{BTreeMap, VecDeque};

const DAY_MS: i64 = 86_400_000;
const BUCKET_MS: i64 = 60_000;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    DailyApiRequests,
    DailyBulkApiBatches,
    DailyBulkV2QueryJobs,
    DailyDeliveredPlatformEvents,
    DailyStreamingApiEvents,
}

impl Limit {
    /// The names of GET /limits.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::DailyApiRequests, "DailyApiRequests"),
        (Self::DailyBulkApiBatches, "DailyBulkApiBatches"),
        (Self::DailyBulkV2QueryJobs, "DailyBulkV2QueryJobs"),
        (Self::DailyDeliveredPlatformEvents, "DailyDeliveredPlatformEvents"),
        (Self::DailyStreamingApiEvents, "DailyStreamingApiEvents"),
    ];
}

/// Counters over the last 24 hours.
#[derive(Debug)]
pub struct Limits {
    max: BTreeMap<Limit, u64>,
    used: BTreeMap<Limit, VecDeque<(i64, u64)>>,
}

impl Default for Limits {
    fn default() -> Self {
        let max = [
            (Limit::DailyApiRequests, 100_000),
            (Limit::DailyBulkApiBatches, 15_000),
            (Limit::DailyBulkV2QueryJobs, 10_000),
            (Limit::DailyDeliveredPlatformEvents, 50_000),
            (Limit::DailyStreamingApiEvents, 50_000),
        ];
        Self { max: max.into_iter().collect(), used: BTreeMap::new() }
    }
}

impl Limits {
    /// The allocation.
    pub fn max(&self, limit: Limit) -> u64 {
        self.max.get(&limit).copied().unwrap_or(0)
    }

    /// Sets an allocation.
    pub fn set_max(&mut self, limit: Limit, max: u64) {
        self.max.insert(limit, max);
    }

    /// Used within the last 24 hours.
    pub fn used(&mut self, limit: Limit, now_ms: i64) -> u64 {
        let used = self.used.entry(limit).or_default();
        while used.front().is_some_and(|(at, _)| *at <= now_ms - DAY_MS) {
            used.pop_front();
        }
        used.iter().map(|(_, count)| count).sum()
    }

    /// What is left of it.
    pub fn left(&mut self, limit: Limit, now_ms: i64) -> u64 {
        self.max(limit).saturating_sub(self.used(limit, now_ms))
    }

    /// Counts; false where the allocation is used up, and then nothing is counted.
    pub fn take(&mut self, limit: Limit, count: u64, now_ms: i64) -> bool {
        if self.used(limit, now_ms) + count > self.max(limit) {
            return false;
        }
        let used = self.used.entry(limit).or_default();
        match used.back_mut() {
            Some((at, sum)) if now_ms - *at < BUCKET_MS && now_ms >= *at => *sum += count,
            _ => used.push_back((now_ms, count)),
        }
        true
    }

    /// As the header on every answer has it.
    pub fn header(&mut self, now_ms: i64) -> String {
        let used = self.used(Limit::DailyApiRequests, now_ms);
        format!("api-usage={used}/{}", self.max(Limit::DailyApiRequests))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_comes_back_after_a_day() {
        let mut limits = Limits::default();
        limits.set_max(Limit::DailyApiRequests, 2);
        assert!(limits.take(Limit::DailyApiRequests, 1, 0));
        assert!(limits.take(Limit::DailyApiRequests, 1, 3_600_000));
        assert!(!limits.take(Limit::DailyApiRequests, 1, 7_200_000));
        assert_eq!(limits.header(7_200_000), "api-usage=2/2");
        assert!(limits.take(Limit::DailyApiRequests, 1, DAY_MS), "the first one is a day old");
    }
}
