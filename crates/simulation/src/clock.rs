//! The virtual clock: wall time that follows the runtime's paused clock, so that an hour passes when nothing is left to
//! do for an hour. Never reads the machine's clock.

use concord_engine::clock::{Clock, Moment};
use std::time::Duration;
use tokio::time::Instant;

/// Where the simulation's wall clock begins: 2026-01-01T00:00:00Z, in microseconds.
const BEGINNING_MICROS: i64 = 1_767_225_600_000_000;

/// Wall time made of the runtime's paused clock.
#[derive(Clone, Copy, Debug)]
pub struct VirtualClock {
    origin: Instant,
}

impl VirtualClock {
    /// A clock that begins now. Must be called inside the paused runtime.
    pub fn begin() -> VirtualClock {
        VirtualClock { origin: Instant::now() }
    }

    /// Time since the beginning.
    pub fn elapsed(&self) -> Duration {
        Instant::now().saturating_duration_since(self.origin)
    }

    /// The wall time at so long after the beginning.
    pub fn at(&self, elapsed: Duration) -> Moment {
        Moment(BEGINNING_MICROS).plus(elapsed)
    }

    /// Sleeps until a wall time; returns at once when it has passed.
    pub async fn sleep_until(&self, moment: Moment) {
        tokio::time::sleep_until(self.origin + moment.since(Moment(BEGINNING_MICROS))).await;
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Moment {
        self.at(self.elapsed())
    }
}
