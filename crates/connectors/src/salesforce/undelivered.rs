//! While the day's allowance of event deliveries is used up. Every delivered event counts, the echo of a write of ours like any
//! other, and the allowance comes back a day after it was used. Meanwhile what was touched is asked for, as of an object of which
//! no events come, and handed on as that is: nobody tells whose a change was. What was looked at need not be told any more, so
//! that the events of that time are not paid for later; nothing of it is passed over (invariant 1).

use super::capture::{SalesforceChanges, since_the_beginning};
use super::schema::SYSTEM_MODSTAMP;
use super::sweep::OVERLAP_SECONDS;
use concord_engine::change::Observation;
use concord_engine::connector::Event;
use concord_engine::error::{Code, Error, Result};
use std::time::Duration;
use tokio::time::Instant;

/// How long to wait before it is tried again whether events are delivered.
pub(super) const TRY_AGAIN: Duration = Duration::from_secs(900);

/// Whether events are delivered.
#[derive(Default)]
pub(super) struct Undelivered {
    /// When it is tried again; `None` while the stream is open, or about to be.
    until: Option<Instant>,
    /// Whether it was said, and nothing has come since.
    said: bool,
    /// Why the last look failed.
    failed: Option<Error>,
}

impl Undelivered {
    /// Whether nothing comes, and what was touched is asked for instead.
    pub fn lasts(&self) -> bool {
        self.until.is_some()
    }

    /// When it is tried again.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Why nothing can be read at all.
    pub fn why(&self) -> Option<Error> {
        self.until.and(self.failed.clone())
    }

    /// What a look or a sweep shows: read beside the events, or all that is told.
    pub fn told(&self, observation: Observation) -> Event {
        if self.lasts() { Event::Observed(observation) } else { Event::Read(observation) }
    }

    /// What came of a look.
    pub fn looked(&mut self, result: Result<()>) {
        self.failed = result.err();
    }
}

impl SalesforceChanges {
    /// The stream has ended, or could not be opened: nothing comes for a while where the allowance of deliveries is used up. Any
    /// other error is given back, and this one as well where it cannot be asked what was touched.
    pub(super) async fn not_delivered(&mut self, error: Error) -> Result<()> {
        if error.code != Code::HostedAllowanceUsed {
            return Err(error);
        }
        let object = self.shared.object(&self.object).await?;
        if !object.field(SYSTEM_MODSTAMP).is_some_and(|stamp| stamp.filterable) {
            return Err(error);
        }
        let (now, settings) = (Instant::now(), &self.shared.client.settings);
        self.undelivered.until = Some(now + settings.deliveries_again);
        self.behind.at = now;
        if !std::mem::replace(&mut self.undelivered.said, true) {
            tracing::warn!(
                feed = %self.feed, error = error.chain(),
                "no change events are delivered for now: what was touched is asked for instead"
            );
        }
        // What a fence waits for no stream will tell.
        self.shared.lives(&self.feed, true);
        self.shared.delivers(&self.feed, Some(error.to_string()));
        Ok(())
    }

    /// Something has come through the stream.
    pub(super) fn delivered(&mut self) {
        if std::mem::take(&mut self.undelivered.said) {
            tracing::info!(feed = %self.feed, "change events are delivered again");
            self.shared.delivers(&self.feed, None);
        }
    }

    /// Tries whether events are delivered again: behind the place, or at the end of the topic where everything behind the place
    /// was looked at. What was touched between the last look and the stream's beginning is then swept, as where a feed has never
    /// had a place.
    pub(super) async fn deliver_again(&mut self) -> Result<()> {
        if let Err(error) = self.subscription.open(&self.ahead).await {
            return self.not_delivered(error).await;
        }
        self.undelivered.until = None;
        self.was_polled = self.subscription.is_polled();
        if self.ahead.replay.is_empty() {
            self.unplaced = !self.was_polled;
            self.sweep = Some((since_the_beginning(&self.ahead), self.ahead.clone()));
        }
        Ok(())
    }

    /// Everything that was touched before this second was looked at: its events need not come any more. The next look, or the
    /// sweep behind it, reaches back as far as records may become visible late.
    pub(super) fn pass_over(&mut self, second: i64) {
        self.ahead.replay = Vec::new();
        let floor_ms = second.saturating_sub(OVERLAP_SECONDS).saturating_mul(1_000);
        self.ahead.floor_ms = self.ahead.floor_ms.max(floor_ms);
    }
}
