//! The feed of one object: change events decoded against their own schemas, what they do not tell read in their place.
//! Partial images stay partial; a position moves only behind the last piece of an event.

use super::absence::{self, Sight};
use super::avro::{Odd, Schema as EventSchema};
use super::behind::Behind;
use super::check::topic_schema;
use super::event::{Change, ChangeEvent};
use super::ids;
use super::position::{Place, mark_of};
use super::pubsub::error_of;
use super::records::{Columns, Look, retrieve};
use super::schema::{FieldInfo, ID, LAST_MODIFIED_DATE, Object};
use super::shared::{Shared, ShownSince, topic_of};
use super::stream::{Alive, Arrived, Payload, Subscription};
use super::sweep::{OVERLAP_SECONDS, Pause, Sweep, marked};
use super::tells::{event_size, needs_sweep, time_of, told_of, version_of};
use super::undelivered::Undelivered;
use async_trait::async_trait;
use concord_engine::change::{Image, Mark, Observation};
use concord_engine::connector::{Batch, Changes, Event, Limits};
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::{FeedName, FieldName, ObjectName};
use concord_engine::value::Value;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The longest wait of one call.
const WAIT_MAX: Duration = Duration::from_secs(3_600);
/// What was published so long before nothing was on its way has come.
const QUIET_MARGIN_MS: i64 = 3_600_000;
/// Schemas of events that are remembered.
const SCHEMAS_MAX: usize = 32;

/// Something to hand out, and where the feed is behind it; `None` within an event.
struct Piece {
    event: Option<Event>,
    bytes: usize,
    shown: Vec<(String, i64)>,
    place: Option<Place>,
}

/// The open feed of one object.
pub(super) struct SalesforceChanges {
    pub(super) shared: Arc<Shared>,
    pub(super) object: ObjectName,
    pub(super) feed: FeedName,
    /// How far it has been looked behind the events.
    pub(super) behind: Behind,
    pub(super) subscription: Subscription,
    /// Whether events are delivered.
    pub(super) undelivered: Undelivered,
    pieces: VecDeque<Piece>,
    /// Behind everything that was handed out.
    place: Place,
    /// Behind everything that stands in `pieces`.
    pub(super) ahead: Place,
    pub(super) sweep: Option<(Sweep, Place)>,
    /// Before its next page, where the last one could not be had.
    pause: Pause,
    /// Whether the topic's end must be found first: then what was touched meanwhile is swept.
    pub(super) unplaced: bool,
    /// Whether the stream was last open by long polling.
    pub(super) was_polled: bool,
    schemas: HashMap<String, Arc<EventSchema>>,
    last_schema: Option<String>,
    /// Records of pieces that were handed out since the last place.
    since_place: ShownSince,
    /// The consents that were given when we last looked.
    consents: u64,
}

/// Opens the feed behind a place, on a stream that is open already where there is one.
pub(super) async fn open(
    shared: Arc<Shared>,
    object: ObjectName,
    feed: FeedName,
    place: Place,
    warm: Option<Subscription>,
) -> Result<SalesforceChanges> {
    let starts_nowhere = place.replay.is_empty() && warm.is_none();
    let mut subscription = warm.unwrap_or_else(|| Subscription::new(Arc::clone(&shared), topic_of(&feed)));
    let refused = match subscription.is_open() {
        true => None,
        false => subscription.open(&place).await.err(),
    };
    shared.lives(&feed, true);
    shared.forget_announced(&object);
    // By long polling a stream has begun for certain when it is open.
    let was_polled = subscription.is_polled();
    let unplaced = place.replay.is_empty() && !was_polled && (starts_nowhere || !subscription.has_begun());
    let consents = shared.client.auth.consents();
    let behind = Behind::from(&place, shared.client.org_seconds(), shared.client.settings.look_every);
    let mut changes = SalesforceChanges {
        sweep: starts_nowhere.then(|| (since_the_beginning(&place), place.clone())),
        pause: Pause::default(),
        ahead: place.clone(),
        shared,
        object,
        feed,
        behind,
        subscription,
        undelivered: Undelivered::default(),
        pieces: VecDeque::new(),
        place,
        unplaced,
        was_polled,
        schemas: HashMap::new(),
        last_schema: None,
        since_place: ShownSince::default(),
        consents,
    };
    if let Some(error) = refused {
        changes.not_delivered(error).await?;
    }
    changes.look_at_schema().await?;
    Ok(changes)
}

/// Everything since a feed began that has had no event yet.
pub(super) fn since_the_beginning(place: &Place) -> Sweep {
    let floor = place.floor_ms.div_euclid(1_000);
    let deletes = place.floor_ms.max(place.begun_ms).max(place.deletes_from_ms()).div_euclid(1_000);
    Sweep::since(Some(floor), Some(deletes.saturating_sub(OVERLAP_SECONDS)))
}

/// Waits for the next answer of a stream; for nothing where none is to be expected. Dropping the call loses nothing.
async fn hear(subscription: &mut Subscription, place: &Place, comes: bool) -> Result<()> {
    match comes {
        true => subscription.receive(place).await,
        false => std::future::pending().await,
    }
}

impl Drop for SalesforceChanges {
    fn drop(&mut self) {
        self.shared.lives(&self.feed, false);
    }
}

#[async_trait]
impl Changes for SalesforceChanges {
    async fn next(&mut self, limits: Limits) -> Result<Batch> {
        let now = Instant::now();
        let deadline = now.checked_add(limits.max_wait.min(WAIT_MAX)).unwrap_or(now);
        loop {
            let shared = Arc::clone(&self.shared);
            let fenced = shared.fenced.notified();
            self.fill(limits.max_events.max(1)).await?;
            if !self.pieces.is_empty() {
                let batch = self.hand_out(limits);
                if !batch.events.is_empty() {
                    return Ok(batch);
                }
                continue;
            }
            if let Some(until) = self.pause.until().filter(|_| self.sweep.is_some()) {
                // The stream is left alone meanwhile: what it brings would have to be kept.
                tokio::time::sleep_until(until.min(deadline)).await;
                if Instant::now() >= deadline {
                    return Ok(Batch { events: Vec::new(), position: Some(self.place.encode()) });
                }
                continue;
            }
            if let Some(alive) = self.subscription.alive() {
                self.is_alive(alive);
                continue;
            }
            // A look that is under way comes to its end: else one that takes long would begin anew again and again.
            let again = self.undelivered.until().filter(|_| !self.is_looking());
            if again.is_some_and(|again| again <= Instant::now()) {
                self.deliver_again().await?;
                continue;
            }
            if !self.subscription.is_open() && !self.undelivered.lasts() {
                // Takes as long as a login and a handshake take: cut off at the deadline it would begin anew for ever.
                match self.subscription.receive(&self.ahead).await {
                    Ok(()) => self.shared.lives(&self.feed, true),
                    Err(error) => self.not_delivered(error).await?,
                }
                continue;
            }
            let overdue = self.shared.overdue(&self.feed);
            if !overdue.is_empty() {
                self.read_overdue(overdue).await;
                continue;
            }
            let overdue_at = self.shared.overdue_at(&self.feed).filter(|at| *at > Instant::now());
            let until = overdue_at.map_or(deadline, |at| at.min(deadline)).min(self.behind.at);
            let until = again.map_or(until, |again| again.min(until));
            // While a look goes on its next page is waited for, however long ago the caller wanted an answer.
            let until = if self.is_looking() { overdue_at.map_or(self.behind.at, |at| at.min(self.behind.at)) } else { until };
            let comes = !self.undelivered.lasts();
            let received = tokio::select! {
                received = tokio::time::timeout_at(until, hear(&mut self.subscription, &self.ahead, comes)) => received,
                // Whoever sets a fence while nothing is told waits for a read.
                () = fenced, if !comes => continue,
                taken_up = self.shared.client.auth.consented_anew(&mut self.consents) => {
                    taken_up?;
                    continue;
                }
            };
            match received {
                Ok(Ok(())) => {
                    self.delivered();
                    self.follow_the_way();
                    self.shared.lives(&self.feed, true);
                }
                Ok(Err(error)) => self.not_delivered(error).await?,
                // What has come while nobody asked was taken first: it may tell.
                Err(_) if self.behind.at <= Instant::now() => self.look_behind().await,
                Err(_) if Instant::now() < deadline || self.is_looking() => {}
                Err(_) => return Ok(Batch { events: Vec::new(), position: Some(self.place.encode()) }),
            }
        }
    }

    fn waits_for(&self) -> Option<Error> {
        self.pause.why().or_else(|| self.undelivered.why())
    }

    fn tells_whose(&self) -> bool {
        !self.undelivered.lasts()
    }
}

impl SalesforceChanges {
    /// Begun by long polling, which tells no place before the first event, and opened again by gRPC: without a place that
    /// begins at the end of the topic.
    fn follow_the_way(&mut self) {
        if !self.subscription.is_open() {
            return;
        }
        let is_polled = self.subscription.is_polled();
        self.unplaced |= self.was_polled && !is_polled && self.ahead.replay.is_empty();
        self.was_polled = is_polled;
    }

    /// Turns what has come into pieces, up to about so many.
    async fn fill(&mut self, wanted: usize) -> Result<()> {
        while self.pieces.len() < wanted {
            if self.sweep.is_some() && self.pause.until().is_some() {
                return Ok(());
            } else if let Some((sweep, behind)) = self.sweep.clone() {
                self.sweep_on(sweep, behind).await?;
            } else if self.unplaced && self.subscription.front().is_some() {
                self.placed();
            } else if self.subscription.front().is_some() {
                self.decode().await?;
            } else {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Hands out pieces within the limits.
    fn hand_out(&mut self, limits: Limits) -> Batch {
        let mut batch = Batch::default();
        let (mut bytes, mut is_at_a_place) = (0_usize, false);
        while let Some(piece) = self.pieces.front() {
            let is_event = piece.event.is_some();
            let is_full = batch.events.len() >= limits.max_events.max(1) || bytes.saturating_add(piece.bytes) > limits.max_bytes;
            if is_event && is_full && !batch.events.is_empty() {
                break;
            }
            bytes = bytes.saturating_add(piece.bytes);
            let Some(piece) = self.pieces.pop_front() else { break };
            if let Some(Event::SchemaChanged(schema)) = &piece.event {
                self.shared.announce(&self.object, &self.feed, schema);
            }
            batch.events.extend(piece.event);
            is_at_a_place = false;
            self.since_place.add(piece.shown);
            if let Some(place) = piece.place {
                self.place = self.shared.hand_out(&self.feed, place, std::mem::take(&mut self.since_place));
                is_at_a_place = true;
            }
        }
        batch.position = is_at_a_place.then(|| self.place.encode());
        batch
    }

    /// A sign of life without events: the topic is here, or nothing is on its way.
    fn is_alive(&mut self, alive: Alive) {
        if self.unplaced {
            self.placed();
        }
        match alive {
            Alive::At(latest) => self.ahead.replay = latest,
            Alive::Quiet => {
                let now_ms = self.shared.client.org_seconds().saturating_mul(1_000);
                self.ahead.quiet_ms = self.ahead.quiet_ms.max(now_ms.saturating_sub(QUIET_MARGIN_MS));
                if self.sweep.is_none() {
                    self.place.quiet_ms = self.ahead.quiet_ms;
                }
                return;
            }
        }
        if self.sweep.is_none() {
            self.place.replay = self.ahead.replay.clone();
            self.shared.went_on(&self.feed, &self.place.replay);
        }
    }

    /// The stream has begun for certain: what was touched before that, and after the first sweep, is swept once more.
    fn placed(&mut self) {
        self.unplaced = false;
        self.sweep = Some((since_the_beginning(&self.ahead), self.ahead.clone()));
    }

    /// Reads what a fence waits for and no event has told of. A read that fails is made again after a while: the fence waits,
    /// the feed goes on.
    async fn read_overdue(&mut self, overdue: Vec<(String, i64)>) {
        match self.read_untold(overdue, false).await {
            Ok(()) => self.close(Vec::new()),
            Err(error) => {
                tracing::warn!(feed = %self.feed, error = error.chain(), "what no event told of could not be read");
            }
        }
        self.shared.looked_after(&self.feed);
    }

    /// Reads records of whose change in a second no event has told.
    pub(super) async fn read_untold(&mut self, untold: Vec<(String, i64)>, listed: bool) -> Result<()> {
        let object = self.shared.object(&self.object).await?;
        let columns = Columns::new(&object, self.wanted(&object));
        let look = Look::new(self.shared.behind(&self.object));
        let ids: Vec<String> = untold.iter().map(|(id, _)| id.clone()).collect();
        let found = absence::look(&self.shared.client, &columns, &ids).await;
        let found = self.shared.forget_after(&self.object, found)?;
        for ((id, sight), told) in ids.iter().zip(found).zip(untold) {
            let shown = match sight {
                Sight::Shown(shown) => Some(*shown),
                Sight::Gone => None,
                Sight::Unseen if listed => None,
                // Out of our sight: nothing is told of it, and nothing waits for it.
                Sight::Unseen => {
                    self.pieces.push_back(Piece { event: None, bytes: 0, shown: vec![told], place: None });
                    continue;
                }
            };
            self.push(Event::Read(look.told(&object, id, shown)), vec![told]);
        }
        Ok(())
    }

    /// What a look behind the events has found stands in the pieces, where it found anything; all of it up to this second.
    pub(super) fn looked(&mut self, upto: Option<i64>) {
        let looked_ms = upto.map_or(0, |second| second.saturating_mul(1_000));
        self.ahead.looked_ms = self.ahead.looked_ms.max(looked_ms);
        if let Some(second) = upto.filter(|_| self.undelivered.lasts()) {
            self.pass_over(second);
        }
        match self.pieces.is_empty() && !self.undelivered.lasts() {
            true => self.place.looked_ms = self.ahead.looked_ms,
            false => self.close(Vec::new()),
        }
    }

    /// The next page of a sweep. Where that cannot be had for a while the sweep waits, where it is: the feed stays open.
    async fn sweep_on(&mut self, sweep: Sweep, behind: Place) -> Result<()> {
        match self.sweep_step(sweep, behind).await {
            Ok(()) => self.pause.over(),
            Err(error) => {
                tracing::warn!(feed = %self.feed, error = error.chain(), "a sweep waits");
                self.pause.after(error)?;
            }
        }
        Ok(())
    }

    async fn sweep_step(&mut self, sweep: Sweep, behind: Place) -> Result<()> {
        let object = self.shared.object(&self.object).await?;
        let fields = self.wanted(&object);
        let commit = self.shared.behind(&self.object);
        let step = sweep.step(&self.shared.client, &object, &fields, commit).await;
        let (observations, next) = self.shared.forget_after(&self.object, step)?;
        for (observation, second) in observations {
            // What a read shows need not be told by an event any more.
            let shown = ids::of(&observation.key).map(|id| (id, second));
            let event = self.undelivered.told(observation);
            self.push(event, shown.into_iter().collect());
        }
        self.sweep = next.map(|next| (next, behind.clone()));
        if self.sweep.is_none() {
            self.ahead = Place { replay: std::mem::take(&mut self.ahead.replay), ..behind };
            self.close(Vec::new());
        }
        Ok(())
    }

    pub(super) fn push(&mut self, event: Event, shown: Vec<(String, i64)>) {
        let bytes = event_size(&event);
        self.pieces.push_back(Piece { event: Some(event), bytes, shown, place: None });
    }

    /// Ends an event: the place behind it stands at its last piece.
    fn close(&mut self, shown: Vec<(String, i64)>) {
        let place = self.ahead.clone();
        self.pieces.push_back(Piece { event: None, bytes: 0, shown, place: Some(place) });
    }

    /// Decodes the event in front, and takes it when that is done.
    async fn decode(&mut self) -> Result<()> {
        let Some(Arrived { replay, schema: schema_id, payload }) = self.subscription.front().cloned() else { return Ok(()) };
        let schema = match &payload {
            Payload::Avro(_) => Some(self.schema(&schema_id).await?),
            Payload::Named(_) => None,
        };
        let drift = self.follow_schema(&schema_id).await?;
        let event = match (payload, schema) {
            (Payload::Avro(bytes), Some(schema)) => ChangeEvent::read(&schema, &bytes),
            (Payload::Named(fields), _) => ChangeEvent::read_named(fields),
            (Payload::Avro(_), None) => Err(Odd::Schema),
        };
        let event = event.map_err(|odd| {
            Error::new(Code::ProtocolViolation, format!("an event of {} cannot be read", self.feed)).because(odd)
        })?;
        if self.ahead.is_of_another_numbering(event.commit, event.commit_ms) {
            self.shared.numbered_anew(&self.feed);
            let message = format!("{}: commits are numbered anew: the org was moved, and events may be missing", self.feed);
            return Err(Error::new(Code::FeedGap, message));
        }
        let object = self.shared.object(&self.object).await?;
        let mut told = Vec::new();
        if event.commit_ms >= self.ahead.floor_ms.saturating_sub(OVERLAP_SECONDS * 1_000) {
            told = self.observe(&object, &event).await?;
        }
        // From here on nothing waits: the event is taken and handed on as one.
        self.subscription.take();
        self.last_schema = Some(schema_id);
        if let Some(schema) = drift {
            self.push(Event::SchemaChanged(schema), Vec::new());
        }
        let ids: Vec<String> = event.ids.iter().map(|id| ids::full(id)).collect();
        let second = event.commit_ms.div_euclid(1_000);
        for one in told {
            self.push(one, Vec::new());
        }
        self.ahead.pass(&replay, event.commit, event.commit_ms, &ids);
        if let Some(sweep) = needs_sweep(&event) {
            self.sweep = Some((sweep, self.ahead.clone()));
        } else {
            self.close(ids.into_iter().map(|id| (id, second)).collect());
        }
        Ok(())
    }

    async fn schema(&mut self, id: &str) -> Result<Arc<EventSchema>> {
        if let Some(schema) = self.schemas.get(id) {
            return Ok(Arc::clone(schema));
        }
        let doing = format!("reading the schema of {}", self.feed);
        let session = self.shared.client.auth.session().await?;
        let json = match self.shared.pubsub.schema(&session, id).await {
            Err(status) if super::pubsub::is_session_over(&status) => {
                let session = self.shared.client.auth.renew(&session).await?;
                self.shared.pubsub.schema(&session, id).await
            }
            other => other,
        };
        let json = json.map_err(|status| match error_of(&doing, &status) {
            error if error.code == Code::HostedEventsOff => Error::new(Code::ProtocolViolation, error.message),
            error => error,
        })?;
        let schema = EventSchema::parse(&json).map_err(|odd| Error::new(Code::ProtocolViolation, doing).because(odd))?;
        let schema = Arc::new(schema);
        if self.schemas.len() >= SCHEMAS_MAX {
            self.schemas.clear();
        }
        self.schemas.insert(id.to_owned(), Arc::clone(&schema));
        Ok(schema)
    }

    /// An event of another schema than the one before: the object is looked at again, and a change is announced.
    async fn follow_schema(&mut self, id: &str) -> Result<Option<concord_engine::schema::Schema>> {
        if self.last_schema.as_deref() == Some(id) {
            return Ok(None);
        }
        let now = self.shared.look_again(&self.object).await?.schema();
        let waits = self.pieces.iter().any(|piece| matches!(&piece.event, Some(Event::SchemaChanged(one)) if *one == now));
        if waits || self.shared.is_news(&self.object, &now) {
            return Ok((!waits).then_some(now));
        }
        self.shared.matches_events(&self.object, id);
        Ok(None)
    }

    /// What has changed of the object while no stream was open is announced before anything else.
    async fn look_at_schema(&mut self) -> Result<()> {
        // By long polling no topic tells its schema, and neither does one that is not open: the object itself is looked at.
        let events = match self.subscription.is_polled() || !self.subscription.is_open() {
            true => None,
            false => topic_schema(&self.shared, &topic_of(&self.feed)).await?,
        };
        let is_known = events.is_some() && self.shared.known_events(&self.object) == events;
        if !is_known && let Some(schema) = self.follow_schema(events.as_deref().unwrap_or_default()).await? {
            self.push(Event::SchemaChanged(schema), Vec::new());
            self.close(Vec::new());
        }
        self.last_schema = events;
        Ok(())
    }

    /// The fields that are wanted and that there are.
    pub(super) fn wanted<'a>(&self, object: &'a Object) -> Vec<&'a FieldInfo> {
        let selection = self.shared.selection(&self.object);
        if selection.fields.is_empty() {
            return object.fields.iter().collect();
        }
        let named = selection.fields.iter().filter(|name| name.as_str() != ID).filter_map(|name| object.field(name.as_str()));
        object.field(ID).into_iter().chain(named).collect()
    }

    /// What an event shows of each of its records.
    async fn observe(&self, object: &Object, event: &ChangeEvent) -> Result<Vec<Event>> {
        let mark = event.client().and_then(mark_of);
        let ids: Vec<String> = event.ids.iter().filter(|id| ids::is_id(id)).map(|id| ids::full(id)).collect();
        if matches!(event.change, Change::Overflow) {
            return Ok(Vec::new());
        }
        if matches!(event.change, Change::Delete | Change::GapDelete) {
            let version = version_of(event, event.commit_ms.div_euclid(1_000), mark.as_ref());
            let gone = |id: &String| self.observation(id, Image::Deleted, version.clone(), event, mark.clone());
            return Ok(ids.iter().map(gone).map(Event::Observed).collect());
        }
        let wanted = self.wanted(object);
        let tells = told_of(event, &wanted);
        if event.change == Change::Gap {
            return self.read_instead(object, &wanted, &ids, event, mark).await;
        }
        // Nothing that is wanted has changed. Of a write of ours that says a good deal: what it wrote was put back at once.
        let is_ours = mark.as_ref().is_some_and(|mark| self.shared.writes_for(&mark.store));
        if tells.record.is_empty() && event.change == Change::Update && !is_ours && !tells.must_read {
            return Ok(Vec::new());
        }
        let second = match told_of(event, &object.field(LAST_MODIFIED_DATE).into_iter().collect::<Vec<_>>())
            .record
            .get(LAST_MODIFIED_DATE)
        {
            Some(Value::TimestampTz(stamp)) => stamp.to_micros().map(|micros| micros.div_euclid(1_000_000)),
            _ => None,
        };
        let version = version_of(event, second.unwrap_or_else(|| event.commit_ms.div_euclid(1_000)), mark.as_ref());
        // What the event tells was edited when it says, whatever a read shows besides.
        let says = !(tells.must_read && tells.record.is_empty());
        let told = ids.iter().filter(|_| says).map(|id| {
            let mut record = tells.record.clone();
            record.set(FieldName::from(ID), Value::Text(id.clone()));
            let image = if tells.is_full && !tells.must_read { Image::Full(record) } else { Image::Partial(record) };
            Event::Observed(self.observation(id, image, version.clone(), event, mark.clone()))
        });
        let mut told: Vec<Event> = told.collect();
        if tells.must_read {
            told.extend(self.read_instead(object, &wanted, &ids, event, mark).await?);
        }
        Ok(told)
    }

    fn observation(
        &self,
        id: &str,
        image: Image,
        version: concord_engine::change::Version,
        event: &ChangeEvent,
        mark: Option<Mark>,
    ) -> Observation {
        Observation {
            object: self.object.clone(),
            key: ids::key(id),
            old_key: None,
            image,
            made: false,
            version,
            time: time_of(event),
            mark,
        }
    }

    /// Reads records that an event only says have changed. One that is not there any more is told of by a later event, and so may
    /// be what it shows: when that was edited is an estimate.
    async fn read_instead(
        &self,
        object: &Object,
        wanted: &[&FieldInfo],
        ids: &[String],
        event: &ChangeEvent,
        mark: Option<Mark>,
    ) -> Result<Vec<Event>> {
        let look = Look::new(event.commit.max(self.shared.behind(&self.object)));
        let found = retrieve(&self.shared.client, &Columns::new(object, wanted.to_vec()), ids).await;
        let found = self.shared.forget_after(&self.object, found)?;
        let present = found.into_iter().flatten();
        Ok(present.map(|shown| Event::Read(marked(look.observe(object, shown), mark.clone()))).collect())
    }
}
