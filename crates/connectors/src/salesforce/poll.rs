//! The feed of an object of which no change events come: what was touched since the last look is asked for, again and
//! again, each look reaching back behind the last, for records become visible a while after their stamp. Deletes come from
//! the bin and from the org's list of what was deleted; what a look does not show is never taken for deleted.

use super::ids;
use super::position::Place;
use super::schema::{ID, Object};
use super::shared::{Shared, ShownSince};
use super::sweep::{OVERLAP_SECONDS, Pause, Sweep};
use async_trait::async_trait;
use concord_engine::connector::{Batch, Changes, Event, Limits};
use concord_engine::error::{Error, Result};
use concord_engine::record::{FeedName, ObjectName};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The longest wait of one call.
const WAIT_MAX: Duration = Duration::from_secs(3_600);
/// How often the org is asked for what was deleted for good, and how the object looks: the bin shows the other deletes.
const LOOK_ROUND: Duration = Duration::from_secs(300);
/// A record's stamp that is younger than this when it is read may be given to another change still.
const STAMP_SETTLES_SECONDS: i64 = 5;

/// The open feed of an object that is polled.
pub(super) struct PolledChanges {
    shared: Arc<Shared>,
    object: ObjectName,
    feed: FeedName,
    /// Behind everything that was handed out.
    place: Place,
    look: Option<Look>,
    /// Before its next page, where the last one could not be had.
    pause: Pause,
    next_at: Instant,
    /// When the next round is, and the org's time when the last one began.
    round_at: Instant,
    rounded: Option<i64>,
    /// Records that earlier looks have given, with their stamps, as far back as the next look reaches.
    given: HashMap<String, i64>,
    pieces: VecDeque<(Event, Option<(String, i64)>)>,
    /// Records of pieces that were handed out since the last place.
    since_place: ShownSince,
    /// The consents that were given when we last looked.
    consents: u64,
}

/// A look under way.
struct Look {
    /// What is still to be asked; `None` once everything has been.
    sweep: Option<Sweep>,
    /// The org's time when it began.
    second: i64,
    began: Instant,
}

/// Opens the feed behind a place.
pub(super) fn open(shared: Arc<Shared>, object: ObjectName, feed: FeedName, place: Place) -> PolledChanges {
    shared.forget_announced(&object);
    let now = Instant::now();
    let consents = shared.client.auth.consents();
    PolledChanges {
        shared,
        object,
        feed,
        place,
        look: None,
        pause: Pause::default(),
        next_at: now,
        round_at: now,
        rounded: None,
        given: HashMap::new(),
        pieces: VecDeque::new(),
        since_place: ShownSince::default(),
        consents,
    }
}

#[async_trait]
impl Changes for PolledChanges {
    async fn next(&mut self, limits: Limits) -> Result<Batch> {
        let now = Instant::now();
        let deadline = now.checked_add(limits.max_wait.min(WAIT_MAX)).unwrap_or(now);
        loop {
            let shared = Arc::clone(&self.shared);
            let fenced = shared.fenced.notified();
            if self.pause.until().is_none() {
                match self.look_on().await {
                    Ok(()) => self.pause.over(),
                    Err(error) => {
                        tracing::warn!(feed = %self.feed, error = error.chain(), "a look at what was touched waits");
                        self.pause.after(error)?;
                    }
                }
            }
            let pause = self.pause.until();
            if !self.pieces.is_empty() || (self.look.is_some() && pause.is_none()) {
                let batch = self.hand_out(limits);
                if !batch.events.is_empty() || batch.position.is_some() {
                    return Ok(batch);
                }
                continue;
            }
            if Instant::now() >= deadline {
                return Ok(Batch { events: Vec::new(), position: Some(self.place.encode()) });
            }
            tokio::select! {
                () = tokio::time::sleep_until(pause.unwrap_or(self.next_at).min(deadline)) => {}
                () = fenced => {}
                taken_up = shared.client.auth.consented_anew(&mut self.consents) => taken_up?,
            }
        }
    }

    fn waits_for(&self) -> Option<Error> {
        self.pause.why()
    }

    fn tells_whose(&self) -> bool {
        false
    }
}

impl PolledChanges {
    /// Whether it is time for a look: by the clock, or because somebody waits for what there is now.
    fn is_due(&self) -> bool {
        let last = self.next_at.checked_sub(self.every()).unwrap_or(self.next_at);
        Instant::now() >= self.next_at || self.shared.fenced_since(&self.feed).is_some_and(|since| since > last)
    }

    fn every(&self) -> Duration {
        self.shared.client.settings.poll_every
    }

    /// Begins a look when it is time, and asks for its next page when the one before has been handed out.
    async fn look_on(&mut self) -> Result<()> {
        if self.look.is_none() && self.is_due() {
            self.begin().await?;
        }
        if self.pieces.is_empty() && self.look.is_some() {
            self.go_on().await?;
        }
        Ok(())
    }

    async fn begin(&mut self) -> Result<()> {
        let began = Instant::now();
        let is_round = began >= self.round_at;
        if is_round {
            let schema = self.shared.look_again(&self.object).await?.schema();
            if self.shared.is_news(&self.object, &schema) {
                self.pieces.push_back((Event::SchemaChanged(schema), None));
            }
        }
        let second = self.shared.client.org_seconds();
        let floor = self.place.floor_ms.div_euclid(1_000);
        // What was deleted for good since the last round; a process that has just begun does not know when that was.
        let round = i64::try_from(LOOK_ROUND.as_secs()).unwrap_or(0);
        let deleted_since = self.rounded.unwrap_or(floor.saturating_sub(round)).saturating_sub(OVERLAP_SECONDS);
        let sweep = Sweep::since(Some(floor.saturating_sub(OVERLAP_SECONDS)), is_round.then_some(deleted_since));
        if is_round {
            self.round_at = began + LOOK_ROUND;
            self.rounded = Some(second);
        }
        self.next_at = began + self.every();
        self.look = Some(Look { sweep: Some(sweep), second, began });
        Ok(())
    }

    /// Asks for the next page of a look. Where that fails, that page is asked for again after a while.
    async fn go_on(&mut self) -> Result<()> {
        let Some(Look { sweep: Some(sweep), second, .. }) = &self.look else { return Ok(()) };
        let (sweep, second) = (sweep.clone(), *second);
        let object = self.shared.object(&self.object).await?;
        let step = sweep.step(&self.shared.client, &object, &self.wanted(&object), 0).await;
        let (observations, next) = self.shared.forget_after(&self.object, step)?;
        for (observation, stamp) in observations {
            let Some(id) = ids::of(&observation.key) else { continue };
            if self.given.get(&id) == Some(&stamp) {
                continue;
            }
            // No later look reaches further back.
            let oldest = second.saturating_sub(OVERLAP_SECONDS);
            if (oldest..second.saturating_sub(STAMP_SETTLES_SECONDS)).contains(&stamp) {
                self.given.insert(id.clone(), stamp);
            }
            self.pieces.push_back((Event::Observed(observation), Some((id, stamp))));
        }
        if let Some(look) = &mut self.look {
            look.sweep = next;
        }
        Ok(())
    }

    /// The fields that are wanted and that there are.
    fn wanted<'a>(&self, object: &'a Object) -> Vec<&'a super::schema::FieldInfo> {
        let selection = self.shared.selection(&self.object);
        if selection.fields.is_empty() {
            return object.fields.iter().collect();
        }
        let named = selection.fields.iter().filter(|name| name.as_str() != ID).filter_map(|name| object.field(name.as_str()));
        object.field(ID).into_iter().chain(named).collect()
    }

    /// Hands out what a look has shown; the place moves when all of it has been.
    fn hand_out(&mut self, limits: Limits) -> Batch {
        let mut batch = Batch::default();
        let mut bytes = 0_usize;
        while let Some((event, _)) = self.pieces.front() {
            let size = super::tells::event_size(event);
            let is_full = batch.events.len() >= limits.max_events.max(1) || bytes.saturating_add(size) > limits.max_bytes;
            if is_full && !batch.events.is_empty() {
                break;
            }
            bytes = bytes.saturating_add(size);
            let Some((event, record)) = self.pieces.pop_front() else { break };
            if let Event::SchemaChanged(schema) = &event {
                self.shared.announce(&self.object, &self.feed, schema);
            }
            batch.events.push(event);
            self.since_place.add(record);
        }
        let is_over = self.pieces.is_empty() && self.look.as_ref().is_some_and(|look| look.sweep.is_none());
        if is_over && let Some(look) = self.look.take() {
            let place = Place { floor_ms: look.second.saturating_mul(1_000), ..self.place.clone() };
            let oldest = look.second.saturating_sub(OVERLAP_SECONDS);
            self.given.retain(|_, stamp| *stamp >= oldest);
            // Whatever a fence waited for that was asked for before this look, the look would have shown.
            let waited_for = self.shared.waited_for(&self.feed, look.began);
            self.since_place.add(waited_for);
            self.place = self.shared.hand_out(&self.feed, place, std::mem::take(&mut self.since_place));
            batch.position = Some(self.place.encode());
        }
        batch
    }
}
