//! Salesforce as a connected system. Changes are learnt from change events (Pub/Sub API), records are read by queries and
//! retrieves, and written by Collections. What fits this seam least, and how it is met: a write cannot be made to depend on
//! what a record shows (it is read right before), a record's own stamps are whole seconds (versions say more, see
//! [`position`]), an event shows only what changed (images stay partial), and nothing tells where a topic ends (a fence
//! names the changes that must have been seen).
//!
//! Nothing is made in the org, so there is nothing to release. Each object has a feed of its own; one of which no change events
//! come is polled.

mod absence;
mod apply;
mod auth;
mod avro;
mod behind;
mod bulk;
mod capture;
mod check;
mod client;
mod coding;
mod cometd;
mod config;
mod consent;
mod errors;
mod event;
mod find;
mod http;
mod ids;
mod ingest;
mod jwt;
mod made;
mod named;
mod parts;
mod poll;
mod position;
mod pubsub;
mod read;
mod records;
mod schema;
mod shared;
mod soql;
mod stream;
mod sweep;
mod tells;
mod transport;
mod types;
mod undelivered;
mod usage;
mod writes;

pub use config::{Grant, SalesforceSettings};
pub use consent::application as consent;

use async_trait::async_trait;
use client::{Client, Need};
use concord_engine::change::{Mark, Observation, Position, Version};
use concord_engine::clock::Moment;
use concord_engine::config::ChangeDetection;
use concord_engine::connector::{
    Allowance, Capabilities, Changes, Chunk, ChunkCursor, Connector, Feed, FeedHealth, Finding, Made, Outcome, Presence, Since,
    Workload, Write, WriteResult,
};
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::{FeedName, FieldName, Key, ObjectName};
use concord_engine::schema::{Schema, Selection};
use concord_engine::value::Value;
use position::{Fence, Place};
use pubsub::PubSub;
use schema::{Object, SYSTEM_MODSTAMP};
use shared::{Mode, Shared, feed_of, topic_of};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use stream::Subscription;

/// The connector's kind, as `type` in the configuration names it.
pub const KIND: &str = "salesforce";

/// A stored position as the vendor names places of a topic.
pub fn shown(position: &Position) -> Option<String> {
    Some(Place::decode(position).ok()?.shown())
}
/// The most writes of one batch.
const WRITES_MAX: usize = 10_000;
/// Commits are stamped in milliseconds.
const TIME_GRANULARITY_MICROS: u32 = 1_000;
/// The newest changes that a fence names.
const FENCE_MAX: usize = 200;
/// Less than this share of the day's calls left is worth a warning.
const FEW_LEFT_PERCENT: u64 = 10;

/// A Salesforce org.
pub struct SalesforceConnector {
    shared: Arc<Shared>,
    capabilities: Capabilities,
    /// Streams opened by `prepare`, so that nothing is missed until they are read.
    warm: Mutex<HashMap<FeedName, (Place, Subscription)>>,
}

/// A connector for this org. Nothing is reached yet: an org that cannot be reached shows in the first call.
pub fn open(settings: SalesforceSettings) -> Result<SalesforceConnector> {
    let settings = Arc::new(settings);
    let settle = settings.settle;
    let pubsub = PubSub::new(&settings)?;
    let client = Arc::new(Client::new(settings)?);
    Ok(SalesforceConnector {
        shared: Arc::new(Shared::new(client, pubsub)?),
        warm: Mutex::default(),
        capabilities: Capabilities {
            kind: KIND,
            change_detection: concord_engine::connector::ChangeDetection::Log,
            guarded_writes: false,
            marks: true,
            fences_prove: false,
            keys_can_be_given: false,
            max_batch: WRITES_MAX,
            load_batch: Some(WRITES_MAX),
            writes_take: Some(ingest::JOB_MAX),
            writes_settle: Some(settle),
            time_granularity_micros: TIME_GRANULARITY_MICROS,
            feeds_apart: true,
        },
    })
}

impl SalesforceConnector {
    /// Where a feed that is new begins: behind the newest change that there is. Its stream is opened at once.
    async fn begin(&self, selection: &Selection) -> Result<Place> {
        let feed = feed_of(&selection.object);
        let object = self.shared.object(&selection.object).await?;
        let mut subscription = Subscription::new(Arc::clone(&self.shared), topic_of(&feed));
        // Where no events are delivered today what was touched is asked for, until they are.
        let opened = subscription.open(&Place::default()).await;
        let is_open = match opened {
            Err(error) if error.code != Code::HostedAllowanceUsed => return Err(error),
            opened => opened.is_ok(),
        };
        let newest = self.changes_since(&object, None, 1).await?;
        let second = newest.first().map_or(0, |(_, second)| *second);
        let of_that_second = self.changes_since(&object, Some(second), FENCE_MAX).await?;
        let begun_ms = self.shared.client.org_seconds().saturating_mul(1_000);
        let place = Place { floor_ms: second.saturating_mul(1_000), begun_ms, ..Place::default() };
        let place = self.shared.begin(&feed, place, of_that_second);
        if is_open {
            self.warm.lock().unwrap_or_else(PoisonError::into_inner).insert(feed, (place.clone(), subscription));
        }
        Ok(place)
    }

    /// Where a feed begins that is polled: now.
    fn begin_polling(&self, feed: &FeedName) -> Place {
        let now_ms = self.shared.client.org_seconds().saturating_mul(1_000);
        self.shared.begin(feed, Place { floor_ms: now_ms, begun_ms: now_ms, polled: true, ..Place::default() }, [])
    }

    /// How an object's changes are learnt, and whether its fields are as they should be for a feed to begin.
    async fn shape(&self, selection: &Selection, feed: &FeedName) -> Result<(Mode, Result<()>)> {
        let object = self.shared.look_again(&selection.object).await?;
        let mode = self.mode_for(&object, feed).await?;
        let key = made::key_field(&self.shared.client.settings, &object);
        Ok((mode, object.selected(selection).and(key).map(drop)))
    }

    /// How an object's changes are learnt: by change events where they come, unless a sync wants otherwise.
    async fn mode_for(&self, object: &Object, feed: &FeedName) -> Result<Mode> {
        let asked = self.shared.client.settings.change_detection;
        let pollable = object.field(SYSTEM_MODSTAMP).is_some_and(|stamp| stamp.filterable);
        match asked {
            ChangeDetection::Polling if pollable => return Ok(Mode::Polling),
            ChangeDetection::Polling => {
                let message = format!("{} does not say when its records were changed, and cannot be polled", object.name);
                return Err(Error::new(Code::Unsupported, message));
            }
            _ => {}
        }
        match check::can_capture(&self.shared, &topic_of(feed)).await {
            Err(error) if error.code == Code::HostedEventsOff && asked == ChangeDetection::Auto && pollable => {
                tracing::info!(object = %object.name, every = ?self.shared.client.settings.poll_every, "no change events come: polled");
                Ok(Mode::Polling)
            }
            // By long polling a topic is known by subscribing to it, which is refused where no events are delivered today.
            Err(error) if error.code == Code::HostedAllowanceUsed && pollable => Ok(Mode::Events),
            other => other.map(|()| Mode::Events),
        }
    }

    /// Where a feed of events stands, for people.
    fn told_position(&self, feed: &FeedName, place: &Place) -> String {
        if let Some(why) = self.shared.undelivered(feed) {
            let (every, upto) = (self.shared.client.settings.poll_every.as_secs(), soql::moment(place.looked_upto()));
            return format!("no change events are delivered ({why}): asked every {every} s, up to {upto}");
        }
        let position = match place.replay.is_empty() {
            true => "at the end of the topic".to_owned(),
            false => format!("replay id {}", place.replay.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        };
        match self.shared.transport.why_polled() {
            Some(why) => format!("{position}, by long polling ({why})"),
            None => position,
        }
    }

    /// Where a feed stands that is polled, and why it is, for people.
    fn polled_position(&self, feed: &FeedName, place: &Place) -> String {
        let settings = &self.shared.client.settings;
        let why = match settings.change_detection {
            ChangeDetection::Polling => "as the configuration wants it".to_owned(),
            _ => format!("no change events come for {}", object_of(feed)),
        };
        let (every, upto) = (settings.poll_every.as_secs(), soql::moment(place.floor_ms.div_euclid(1_000)));
        format!("polled every {every} s, up to {upto}: {why}")
    }

    /// Runs to its end even where nobody waits for it any more: a fence waits for it, and then knows what has happened.
    async fn write(&self, selection: &Selection, mark: &Mark, writes: &[Write], need: Need) -> Result<Vec<WriteResult>> {
        let under_way = self.shared.writes.begin(&selection.object);
        self.shared.write_for(&mark.store);
        let mut object = self.shared.object(&selection.object).await?;
        if writes.iter().any(|write| apply::is_off_list(&object, write)) {
            object = self.shared.look_for_values(&selection.object).await?;
        }
        let (shared, name) = (Arc::clone(&self.shared), selection.object.clone());
        let job = apply::Job {
            client: Arc::clone(&self.shared.client),
            object,
            selection: selection.clone(),
            mark: mark.clone(),
            need,
            begun: AtomicBool::new(false),
            behind: Box::new(move || shared.behind(&name)),
        };
        let (writes, intent, unanswered) = (writes.to_vec(), mark.intent, Arc::clone(&self.shared));
        let task = self.shared.client.writing.spawn(async move {
            let result = apply::apply(job, writes).await;
            if result.iter().flatten().any(|result| matches!(result.outcome, Outcome::Unknown)) {
                unanswered.remained_unanswered(intent);
            }
            drop(under_way);
            result
        });
        let result = task.await.map_err(|error| Error::new(Code::OutcomeUnknown, "a write was broken off").because(error))?;
        self.shared.forget_after(&selection.object, result)
    }

    async fn search(&self, selection: &Selection, search: find::Search<'_>, need: Need) -> Result<Vec<Vec<Observation>>> {
        let object = self.shared.object(&selection.object).await?;
        let behind = self.shared.behind(&selection.object);
        let found = find::find(&self.shared.client, &object, selection, &search, behind, need).await;
        self.shared.forget_after(&selection.object, found)
    }

    /// The newest changes since a second: record and second. Deletes count, with the second of the delete.
    async fn changes_since(&self, object: &Object, second: Option<i64>, limit: usize) -> Result<Vec<(String, i64)>> {
        let condition = second.map_or_else(String::new, |second| format!("WHERE {SYSTEM_MODSTAMP} >= {} ", soql::moment(second)));
        let rest = format!("{condition}ORDER BY {SYSTEM_MODSTAMP} DESC LIMIT {limit}");
        let key: Vec<&schema::FieldInfo> = object.field(schema::ID).into_iter().collect();
        let found = behind::touched(&self.shared.client, object, &key, &rest).await?;
        Ok(found.into_iter().map(|one| (one.shown.id, one.edited)).collect())
    }
}

/// Whether an error is about one object alone, and the others can be read.
fn is_of_one_object(error: &Error) -> bool {
    use Code::{FieldMissing, HostedEventsOff, ObjectMissing, PrivilegeMissing, Unsupported};
    matches!(error.code, ObjectMissing | FieldMissing | HostedEventsOff | PrivilegeMissing | Unsupported)
}

/// The object whose changes a feed tells of.
fn object_of(feed: &FeedName) -> ObjectName {
    let name = feed.as_str();
    ObjectName::from(match name.strip_suffix("__ChangeEvent") {
        Some(custom) => format!("{custom}__c"),
        None => name.strip_suffix("ChangeEvent").unwrap_or(name).to_owned(),
    })
}

#[async_trait]
impl Connector for SalesforceConnector {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn check(&self, objects: &[ObjectName]) -> Result<Vec<Finding>> {
        check::check(&self.shared, objects).await
    }

    async fn objects(&self) -> Result<Vec<ObjectName>> {
        schema::objects(&self.shared.client).await
    }

    async fn schema(&self, object: &ObjectName) -> Result<Schema> {
        let schema = self.shared.look_again(object).await?.schema();
        self.shared.told_schema(object, &schema);
        Ok(schema)
    }

    async fn count(&self, object: &ObjectName) -> Result<u64> {
        let object = self.shared.object(object).await?;
        read::count(&self.shared.client, &object).await
    }

    async fn prepare(&self, selections: &[Selection], known: &[Feed]) -> Result<Vec<Feed>> {
        let mut feeds = Vec::with_capacity(selections.len());
        for selection in selections {
            let name = feed_of(&selection.object);
            let stored = known.iter().find(|feed| feed.name == name).filter(|feed| !feed.position.0.is_empty());
            let differs = |error: &Error| {
                tracing::warn!(object = %selection.object, error = error.chain(), "an object looks otherwise than is wanted");
            };
            let mode = match (self.shape(selection, &name).await, stored) {
                (Ok((mode, Ok(()))), _) => mode,
                // It has been read before. Fields that are not there any more are left out by its feed, which announces how the
                // object looks; the others are read.
                (Ok((mode, Err(error))), Some(_)) if is_of_one_object(&error) => {
                    differs(&error);
                    mode
                }
                // It fails by itself when it is opened.
                (Err(error), Some(feed)) if is_of_one_object(&error) => {
                    differs(&error);
                    if Place::decode(&feed.position)?.polled { Mode::Polling } else { Mode::Events }
                }
                (Ok((_, Err(error))) | Err(error), _) => return Err(error),
            };
            self.shared.set_mode(&name, mode);
            self.shared.select(selection);
            let position = match (stored, mode) {
                (Some(feed), _) => {
                    let place = Place::decode(&feed.position)?.when_read(mode);
                    if self.shared.place(&name).is_none() {
                        self.shared.begin(&name, place, []);
                    }
                    feed.position.clone()
                }
                (None, Mode::Events) => self.begin(selection).await?.encode(),
                (None, Mode::Polling) => self.begin_polling(&name).encode(),
            };
            feeds.push(Feed { name, objects: vec![selection.object.clone()], position, complete_from: Vec::new() });
        }
        Ok(feeds)
    }

    async fn capture(&self, feed: &Feed, from: &Position) -> Result<Box<dyn Changes>> {
        let mode = self.shared.mode(&feed.name).unwrap_or(Mode::Events);
        let place = Place::decode(from)?.when_read(mode);
        let object = match feed.objects.as_slice() {
            [object] => object.clone(),
            _ => return Err(Error::new(Code::Internal, format!("the feed {} is of one object", feed.name))),
        };
        let warm = self.warm.lock().unwrap_or_else(PoisonError::into_inner).remove(&feed.name);
        let warm = warm.filter(|(begun, _)| *begun == place).map(|(_, subscription)| subscription);
        if warm.is_none() {
            self.shared.begin(&feed.name, place.clone(), []);
        }
        if mode == Mode::Polling {
            return Ok(Box::new(poll::open(Arc::clone(&self.shared), object, feed.name.clone(), place)));
        }
        Ok(Box::new(capture::open(Arc::clone(&self.shared), object, feed.name.clone(), place, warm).await?))
    }

    /// Nothing is kept for us at the source: events stay for their 72 hours whether they were read or not.
    async fn acknowledge(&self, feed: &FeedName, upto: &Position) -> Result<()> {
        self.shared.acknowledged(&object_of(feed), &Place::decode(upto)?);
        Ok(())
    }

    fn reached(&self, position: &Position, goal: &Position) -> bool {
        let Ok(place) = Place::decode(position) else { return false };
        match (Fence::decode(goal), Place::decode(goal)) {
            (Some(fence), _) => self.shared.has_passed(&place, &fence),
            (None, Ok(goal)) => place.has_reached(&goal),
            _ => false,
        }
    }

    /// No call tells where a topic ends. So the newest changes are asked for by a query, which sees whatever is committed,
    /// and the feed has passed the fence when it has shown them, by events or, where none come, by reading. That proves
    /// nothing of a call whose answer was lost: the org may still be at it.
    async fn fence(&self, feed: &FeedName) -> Result<Position> {
        self.shared.writes.begun_before_have_ended(&object_of(feed)).await;
        let place = self.shared.place(feed).unwrap_or_default();
        let object = self.shared.object(&object_of(feed)).await?;
        let since = place.commit_ms.max(place.floor_ms).div_euclid(1_000);
        let mut needs = self.changes_since(&object, Some(since), FENCE_MAX).await?;
        // A record that only the org itself has touched (a recalculation) has an old stamp, and no event tells of it.
        needs.retain(|(id, second)| *second >= since && !place.is_behind(id, *second));
        Ok(self.shared.set_fence(feed, needs)?.encode())
    }

    async fn health(&self, feed: &FeedName) -> Result<FeedHealth> {
        let place = self.shared.place(feed).unwrap_or_default();
        let position = match self.shared.mode(feed) {
            Some(Mode::Polling) => self.polled_position(feed, &place),
            _ => self.told_position(feed, &place),
        };
        let usage = self.shared.client.usage();
        let warning = usage
            .told()
            .filter(|(used, all)| all.saturating_sub(*used).saturating_mul(100) < all.saturating_mul(FEW_LEFT_PERCENT));
        let warning = warning
            .map(|(used, all)| format!("{used} of {all} daily API calls of the org are used, {} by this process", usage.own()));
        let untold = Some(self.shared.untold(feed)).filter(|records| *records > 0).map(|records| {
            let object = object_of(feed);
            format!("{records} records had changed and no event told of them: is Change Data Capture on for {object}?")
        });
        let undelivered = self
            .shared
            .undelivered(feed)
            .map(|why| format!("no change events are delivered: what was touched is asked for instead, until they are ({why})"));
        let warning = undelivered.or(untold).or(warning);
        Ok(FeedHealth { retained_bytes: None, retained_bytes_max: None, position, warning })
    }

    async fn snapshot(&self, selection: &Selection, from: &ChunkCursor, limit: usize) -> Result<Chunk> {
        let object = self.shared.object(&selection.object).await?;
        let behind = self.shared.behind(&selection.object);
        let chunk = read::chunk(&self.shared.client, &object, selection, from, limit, None, behind).await;
        self.shared.forget_after(&selection.object, chunk)
    }

    async fn snapshot_since(&self, selection: &Selection, from: &ChunkCursor, limit: usize, since: &Since) -> Result<Chunk> {
        let object = self.shared.object(&selection.object).await?;
        let behind = self.shared.behind(&selection.object);
        let chunk = read::chunk(&self.shared.client, &object, selection, from, limit, Some(since), behind).await;
        let mut chunk = self.shared.forget_after(&selection.object, chunk)?;
        chunk.records.retain(|observation| since.includes(observation));
        Ok(chunk)
    }

    async fn read(&self, selection: &Selection, keys: &[Key]) -> Result<Vec<Presence>> {
        let object = self.shared.object(&selection.object).await?;
        let behind = self.shared.behind(&selection.object);
        let found = read::read(&self.shared.client, &object, selection, keys, behind).await;
        self.shared.forget_after(&selection.object, found)
    }

    async fn find(
        &self,
        selection: &Selection,
        by: &[FieldName],
        values: &[Vec<Value>],
        limit: usize,
    ) -> Result<Vec<Vec<Observation>>> {
        self.search(selection, find::Search { by, values, limit }, Need::Now).await
    }

    async fn find_for_load(
        &self,
        selection: &Selection,
        by: &[FieldName],
        values: &[Vec<Value>],
        limit: usize,
    ) -> Result<Vec<Vec<Observation>>> {
        self.search(selection, find::Search { by, values, limit }, Need::Backfill).await
    }

    async fn apply(&self, selection: &Selection, mark: &Mark, writes: &[Write]) -> Result<Vec<WriteResult>> {
        self.write(selection, mark, writes, Need::Now).await
    }

    async fn load(&self, selection: &Selection, mark: &Mark, writes: &[Write]) -> Result<Vec<WriteResult>> {
        self.write(selection, mark, writes, Need::Backfill).await
    }

    fn allowance(&self) -> Option<Allowance> {
        self.shared.client.usage().allowance()
    }

    fn takes(&self, object: &ObjectName, field: &FieldName, value: &Value) -> bool {
        let known = self.shared.known(object);
        let is_off_list = known.and_then(|object| Some(types::is_off_list(object.field(field.as_str())?, value)));
        is_off_list != Some(true)
    }

    fn calls_for(&self, work: &Workload) -> u64 {
        apply::calls_for(work, self.shared.client.settings.bulk_above)
    }

    async fn made(&self, selection: &Selection, mark: &Mark, since: Moment, creates: &[Write]) -> Result<Vec<Made>> {
        let object = self.shared.object(&selection.object).await?;
        let lost = made::Lost {
            client: &self.shared.client,
            object: &object,
            selection,
            mark,
            since,
            settles_in: self.shared.client.settings.settle.saturating_sub(self.shared.unanswered_for(mark.intent)),
            behind: self.shared.behind(&selection.object),
        };
        let made = made::made(&lost, creates).await;
        self.shared.forget_after(&selection.object, made)
    }

    /// Nothing was made in the org.
    async fn release(&self, _: &[ObjectName]) -> Result<()> {
        Ok(())
    }

    fn compare(&self, a: &Version, b: &Version) -> Option<Ordering> {
        position::compare(a, b)
    }
}
