//! The simulators' time: the machine's clock moved by an offset, or frozen. Owns every reading of the machine's clock
//! and every wait for a point in simulated time; a test that moves the clock wakes whoever waits.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Longest sleep before the clock is read again: bounds what a suspended machine can hide.
const NAP_MS_MAX: u64 = 60_000;

/// A clock that tests can move. Milliseconds since 1970, UTC.
#[derive(Clone, Debug)]
pub struct Clock {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    setting: Mutex<Setting>,
    moved: watch::Sender<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Setting {
    /// The machine's time plus this many milliseconds.
    Running { offset_ms: i64 },
    /// Always this time.
    Frozen { at_ms: i64 },
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// A clock that shows the machine's time.
    pub fn new() -> Self {
        let setting = Mutex::new(Setting::Running { offset_ms: 0 });
        Self { inner: Arc::new(Inner { setting, moved: watch::Sender::new(0) }) }
    }

    /// The time now.
    pub fn now_ms(&self) -> i64 {
        match self.setting() {
            Setting::Running { offset_ms } => machine_ms().saturating_add(offset_ms),
            Setting::Frozen { at_ms } => at_ms,
        }
    }

    /// Moves the clock, forwards or back; a frozen clock stays frozen at the new time.
    pub fn advance(&self, by_ms: i64) {
        self.change(|setting| match setting {
            Setting::Running { offset_ms } => Setting::Running { offset_ms: offset_ms.saturating_add(by_ms) },
            Setting::Frozen { at_ms } => Setting::Frozen { at_ms: at_ms.saturating_add(by_ms) },
        });
    }

    /// Sets the time; the clock runs on from there if it runs.
    pub fn set(&self, to_ms: i64) {
        self.change(|setting| match setting {
            Setting::Running { .. } => Setting::Running { offset_ms: to_ms.saturating_sub(machine_ms()) },
            Setting::Frozen { .. } => Setting::Frozen { at_ms: to_ms },
        });
    }

    /// Stops the clock at the time it shows.
    pub fn freeze(&self) {
        let at_ms = self.now_ms();
        self.change(|_| Setting::Frozen { at_ms });
    }

    /// Lets the clock run on from the time it shows.
    pub fn resume(&self) {
        let offset_ms = self.now_ms().saturating_sub(machine_ms());
        self.change(|_| Setting::Running { offset_ms });
    }

    /// Waits until the clock shows `at_ms` or later.
    pub async fn sleep_until(&self, at_ms: i64) {
        let mut moved = self.inner.moved.subscribe();
        loop {
            let now = self.now_ms();
            let Ok(left) = u64::try_from(at_ms.saturating_sub(now)) else { return };
            if left == 0 {
                return;
            }
            let nap = match self.setting() {
                Setting::Running { .. } => left.min(NAP_MS_MAX),
                Setting::Frozen { .. } => NAP_MS_MAX,
            };
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(nap)) => {}
                _ = moved.changed() => {}
            }
        }
    }

    fn setting(&self) -> Setting {
        *self.inner.setting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, new: impl FnOnce(Setting) -> Setting) {
        {
            let mut setting = self.inner.setting.lock().unwrap_or_else(PoisonError::into_inner);
            *setting = new(*setting);
        }
        self.inner.moved.send_modify(|version| *version = version.wrapping_add(1));
    }
}

#[allow(clippy::disallowed_methods, reason = "the one reader of the machine's clock in this crate")]
fn machine_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_of_days_ends_when_the_clock_is_moved() {
        let clock = Clock::new();
        clock.freeze();
        let target = clock.now_ms() + 3 * 86_400_000;
        let (other, waiting) = (clock.clone(), clock.clone());
        tokio::join!(waiting.sleep_until(target), async move { other.advance(3 * 86_400_000) });
        assert_eq!(clock.now_ms(), target);
    }

    #[test]
    fn a_frozen_clock_stands_still_until_it_is_moved() {
        let clock = Clock::new();
        clock.freeze();
        clock.set(1_000);
        assert_eq!(clock.now_ms(), 1_000);
        clock.advance(500);
        assert_eq!(clock.now_ms(), 1_500);
        clock.resume();
        assert!(clock.now_ms() >= 1_500);
    }
}
