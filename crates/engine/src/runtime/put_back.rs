//! A clock that was put back while the engine ran. What was to happen after a while is done after that while, and not when
//! the wrong hour comes round again: whatever waits for a moment is looked at now. Being early costs one attempt.
//! What the store dates is brought forward where it is paid (`apply`).

use super::core::Core;
use crate::clock::Moment;
use std::time::Duration;

/// Steps up to this are a clock being kept exact.
const STEP_MIN: Duration = Duration::from_secs(1);

impl Core {
    /// Notices that the clock was put back since the last look.
    pub(crate) fn watch_the_clock(&mut self, now: Moment) {
        let back = std::mem::replace(&mut self.last_tick, now).since(now);
        if back <= STEP_MIN {
            return;
        }
        tracing::warn!(seconds = back.as_secs(), "the clock was put back: what waits is looked at now");
        let earlier = |at: &mut Option<Moment>| *at = at.map(|at| at.min(now));
        self.feeds.values_mut().for_each(|feed| earlier(&mut feed.retry_at));
        self.gathers_until.values_mut().for_each(|until| *until = (*until).min(now));
        self.flights.values_mut().for_each(|airborne| {
            earlier(&mut airborne.again_at);
            earlier(&mut airborne.read_since);
        });
        for state in &mut self.syncs {
            for member in &mut state.members {
                earlier(&mut member.retry_at);
                member.load.wait_no_longer_than(now);
            }
            state.unidentified.wait_no_longer_than(now);
            if state.shut_until.is_some() {
                state.shut_until = state.rules.carrying.next(now).or(Some(Moment(i64::MAX)));
            }
        }
        for ((at, link), sync) in std::mem::take(&mut self.waits) {
            self.waits.insert((at.min(now), link), sync);
        }
        (self.last_health, self.last_status, self.saturated_since) = (None, None, None);
    }
}
