//! What the stories share: sides as their users see them, rules, an engine that is started, stopped and killed, gates in
//! its way, and waiting on conditions. Nothing here knows a particular story, and nothing waits by the clock.
#![allow(dead_code, unused_imports, reason = "not every story uses every helper")]

pub mod gates;
pub mod rules;
pub mod sides;
pub mod story;

pub use gates::Tap;
pub use sides::{File, Server, Side};
pub use story::Story;

use std::time::Duration;

/// How long a condition may take on a machine that has other things to do.
const DEADLINE: Duration = Duration::from_secs(30);

/// How long the load of thousands of records may take there.
pub const LOAD_DEADLINE: Duration = Duration::from_secs(300);

/// Polls a condition until it holds.
pub async fn wait_until<F: Future<Output = bool>>(what: &str, holds: impl FnMut() -> F) {
    wait_within(DEADLINE, what, holds).await;
}

/// Polls a condition that may take so long until it holds.
pub async fn wait_within<F: Future<Output = bool>>(patience: Duration, what: &str, mut holds: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + patience;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "waited too long for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
