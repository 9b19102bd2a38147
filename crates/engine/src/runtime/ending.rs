//! An orderly stop: what is durable stays, nothing is begun any more, and what is in flight is settled now or, by its mark, at the
//! next start.

use super::core::{Core, Event};
use crate::error::Result;
use futures_util::StreamExt;
use std::time::Duration;

/// How long flights are waited for.
const FLIGHTS_WAIT_MAX: Duration = Duration::from_secs(3);

impl Core {
    pub(super) async fn stop(mut self) -> Result<()> {
        // What is owed stays owed: a flight that became durable now would not leave any more, and have to be proven at the next start.
        self.stopping = true;
        self.feed_tasks.shutdown().await;
        let deadline = tokio::time::Instant::now() + FLIGHTS_WAIT_MAX;
        // Flights that come back within a moment are settled now rather than verified at the next start.
        while !self.jobs.is_empty() {
            match tokio::time::timeout_at(deadline, self.jobs.join_next()).await {
                Ok(Some(Ok(event @ Event::Applied { .. }))) => self.handle(event).await?,
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
        self.jobs.shutdown().await;
        self.take_positions();
        self.commit();
        while let Some((result, _)) = self.durable.next().await {
            result?;
        }
        self.publish_status().await
    }
}
