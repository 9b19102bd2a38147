//! What goes wrong at a system and when: rates per call and periods out of reach, all from the seed, all ended at a
//! known time, so that a run that does not become level afterwards has no excuse.

use crate::random::Random;
use concord_engine::clock::Moment;
use std::time::Duration;

/// Rates in so many of a thousand calls (or records, where a record is concerned).
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// A call fails before it took effect.
    pub fail_before: u64,
    /// A call's answer is lost: of a write, some part of the batch has taken effect.
    pub fail_after: u64,
    /// A write's session is lost and takes effect later, or never.
    pub linger: u64,
    /// A record is locked by somebody else.
    pub locked: u64,
    /// Every write of a record fails, for a reason that may pass and does not.
    pub stuck: bool,
    /// A call is asked to come back later.
    pub throttled: u64,
    /// An open feed is cut.
    pub cut: u64,
    /// Periods in which nothing can be reached.
    pub outages: Vec<(Moment, Moment)>,
    /// Nothing goes wrong from here on.
    pub until: Moment,
}

impl Faults {
    /// Faults of a seed's taste, between two times.
    pub fn draw(random: &mut Random, from: Moment, until: Moment) -> Faults {
        let mut rate = |most: u64| if random.percent(50) { 0 } else { random.below(most) };
        let (fail_before, fail_after, linger) = (rate(80), rate(80), rate(60));
        let (locked, throttled, cut) = (rate(100), rate(40), rate(60));
        let span = u64::try_from(until.since(from).as_millis()).unwrap_or(0);
        let outages = (0..random.below(3))
            .map(|_| {
                let start = from.plus(Duration::from_millis(random.below(span)));
                (start, start.plus(random.millis(50, 8_000)).min(until))
            })
            .collect();
        Faults { fail_before, fail_after, linger, locked, stuck: false, throttled, cut, outages, until }
    }

    /// Whether nothing can be reached now.
    pub fn is_out(&self, now: Moment) -> bool {
        now < self.until && self.outages.iter().any(|(start, end)| *start <= now && now < *end)
    }

    /// Whether a fault of this rate strikes now.
    pub fn strikes(&self, random: &mut Random, now: Moment, rate: u64) -> bool {
        rate > 0 && now < self.until && random.per_mille(rate)
    }
}
