//! What the parts of one connection share: the API, what objects look like, which fields are wanted, and how far each
//! feed has been handed out. Owns the fences; opens no stream.

use super::client::Client;
use super::cometd::HELD_MAX;
use super::http::Http;
use super::ids::{Short, short};
use super::position::{Fence, Place, later};
use super::pubsub::PubSub;
use super::schema::{Object, describe};
use super::transport::Transport;
use super::writes::Writes;
use concord_engine::clock::{Clock, SystemClock};
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::{FeedName, ObjectName};
use concord_engine::schema::{Schema, Selection};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The most records that are remembered as shown, in each feed: about 60 bytes each, as many as a table of 65,536 places takes.
const SHOWN_MAX: usize = 56_000;
/// What a fence waits for and a feed has not told for so long, though it is open, is read.
const QUIET: Duration = Duration::from_secs(5);
/// The same where the feed goes on telling of other things, and where it tells of nothing.
const OVERDUE: Duration = Duration::from_secs(60);
const UNDELIVERED: Duration = Duration::from_millis(500);
/// How often an object is described again for values that its picklists were not seen to take.
const VALUES_EVERY: Duration = Duration::from_secs(60);
/// The most batches of which it is remembered when they ended.
const UNANSWERED_MAX: usize = 4_096;
/// The most fences that are remembered in each feed: whoever asks for another one has given the oldest up.
const FENCES_MAX: usize = 8;

/// What the parts of one connection share.
pub(super) struct Shared {
    pub client: Arc<Client>,
    pub pubsub: PubSub,
    /// For requests that are held at the vendor.
    pub held: Http,
    /// Which way change events take.
    pub transport: Transport,
    /// Writes under way.
    pub writes: Writes,
    objects: Mutex<HashMap<ObjectName, Arc<Object>>>,
    /// When objects were last described for values that were not known.
    values_looked: tokio::sync::Mutex<HashMap<ObjectName, Instant>>,
    selections: Mutex<HashMap<ObjectName, Selection>>,
    schemas: Mutex<HashMap<ObjectName, Known>>,
    feeds: Mutex<HashMap<FeedName, Progress>>,
    fences: AtomicU64,
    /// Wakes feeds that are polled when a fence is set.
    pub fenced: Notify,
    modes: Mutex<HashMap<FeedName, Mode>>,
    unanswered: Mutex<Unanswered>,
    /// For which store this process writes, once it has.
    store: OnceLock<String>,
    /// Tells the places that this process has handed out from those of others.
    run: u64,
}

/// How a feed is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// By change events.
    Events,
    /// By asking for what was touched.
    Polling,
}

/// How far a feed has been handed out.
#[derive(Default)]
struct Progress {
    place: Place,
    /// The last commit that any stream has shown, and when it was, in milliseconds since 1970.
    committed: (u64, i64),
    /// The last change of each record that was handed out, by its second, with the step of the place behind it.
    shown: HashMap<Short, (i64, u64)>,
    order: VecDeque<Short>,
    /// What was handed out for changes up to this second may have been forgotten.
    remembers_from: i64,
    /// When the stream was opened, or told something, last; `None` while there is none.
    told: Option<Instant>,
    /// How many places were handed out.
    step: u64,
    /// Whether any was since the stream was opened.
    moved: bool,
    fences: BTreeMap<u64, Waiting>,
    /// Why no events are delivered; `None` while they are.
    undelivered: Option<String>,
    /// How many records the last look behind the events found of which none had told.
    untold: usize,
}

/// A fence that is waited for: since when, and for what.
struct Waiting {
    since: Instant,
    needs: Vec<(String, i64)>,
}

/// Batches of which some outcome is unknown.
struct Unanswered {
    /// When the last call of any that is not listed ended at the latest: when the process began, or one was forgotten.
    before: Instant,
    /// By their marks' numbers, when their last call ended.
    batches: BTreeMap<u64, Instant>,
}

/// What the engine knows of how an object looks.
#[derive(Default)]
struct Known {
    schema: Option<Schema>,
    /// The schema of events that goes with it.
    events: Option<String>,
    /// One that was handed out, not yet acknowledged: with the step behind it.
    announced: Option<(u64, Schema)>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number that no other process has.
fn run() -> u64 {
    let mut bytes = [0_u8; 8];
    // Without chance the time will do: positions of two lives a microsecond apart do not meet.
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => u64::from_be_bytes(bytes),
        Err(_) => SystemClock.now().micros().unsigned_abs(),
    }
}

/// The feed that tells of an object's changes; its topic is `/data/` and this name.
pub(super) fn feed_of(object: &ObjectName) -> FeedName {
    FeedName::from(match object.as_str().strip_suffix("__c") {
        Some(custom) => format!("{custom}__ChangeEvent"),
        None => format!("{object}ChangeEvent"),
    })
}

/// The topic of a feed.
pub(super) fn topic_of(feed: &FeedName) -> String {
    format!("/data/{feed}")
}

impl Shared {
    pub fn new(client: Arc<Client>, pubsub: PubSub) -> Result<Shared> {
        Ok(Shared {
            held: Http::new(client.settings.authorities.as_deref(), HELD_MAX)?,
            transport: Transport::new(client.settings.events),
            client,
            pubsub,
            writes: Writes::default(),
            objects: Mutex::default(),
            values_looked: tokio::sync::Mutex::default(),
            selections: Mutex::default(),
            feeds: Mutex::default(),
            schemas: Mutex::default(),
            fences: AtomicU64::new(1),
            fenced: Notify::new(),
            modes: Mutex::default(),
            unanswered: Mutex::new(Unanswered { before: Instant::now(), batches: BTreeMap::new() }),
            store: OnceLock::new(),
            run: run(),
        })
    }

    /// This process writes for this store.
    pub fn write_for(&self, store: &str) {
        self.store.get_or_init(|| store.to_owned());
    }

    /// Whether it does, as far as it has written anything yet.
    pub fn writes_for(&self, store: &str) -> bool {
        self.store.get().is_some_and(|own| own == store)
    }

    /// The calls of a batch are over, and some were not answered.
    pub fn remained_unanswered(&self, intent: u64) {
        let mut unanswered = locked(&self.unanswered);
        unanswered.batches.insert(intent, Instant::now());
        while unanswered.batches.len() > UNANSWERED_MAX {
            unanswered.batches.pop_first();
            unanswered.before = Instant::now();
        }
    }

    /// How long ago the last call of a batch ended; of one of an earlier process no call can have begun since this one did.
    pub fn unanswered_for(&self, intent: u64) -> Duration {
        let unanswered = locked(&self.unanswered);
        unanswered.batches.get(&intent).unwrap_or(&unanswered.before).elapsed()
    }

    /// What an object looks like, as it was last seen.
    pub async fn object(&self, name: &ObjectName) -> Result<Arc<Object>> {
        let Some(known) = self.known(name) else { return self.look_again(name).await };
        Ok(known)
    }

    /// The same, where it has been seen.
    pub fn known(&self, name: &ObjectName) -> Option<Arc<Object>> {
        locked(&self.objects).get(name).cloned()
    }

    /// What an object looks like now.
    pub async fn look_again(&self, name: &ObjectName) -> Result<Arc<Object>> {
        let object = Arc::new(describe(&self.client, name).await?);
        locked(&self.objects).insert(name.clone(), Arc::clone(&object));
        Ok(object)
    }

    /// What an object looks like where a value is not among those that it was seen to take: described again, once in a while.
    /// Whoever asks meanwhile waits for that.
    pub async fn look_for_values(&self, name: &ObjectName) -> Result<Arc<Object>> {
        let mut looked = self.values_looked.lock().await;
        if looked.get(name).is_some_and(|at| at.elapsed() < VALUES_EVERY) {
            return self.object(name).await;
        }
        let object = self.look_again(name).await?;
        looked.insert(name.clone(), Instant::now());
        Ok(object)
    }

    /// Forgets what an object looked like, where an error says that it looks otherwise by now.
    pub fn forget_after<T>(&self, name: &ObjectName, result: Result<T>) -> Result<T> {
        if let Err(error) = &result
            && matches!(error.code, Code::FieldMissing | Code::ObjectMissing | Code::StatementRefused)
        {
            locked(&self.objects).remove(name);
        }
        result
    }

    /// Which fields of an object are wanted.
    pub fn select(&self, selection: &Selection) {
        locked(&self.selections).insert(selection.object.clone(), selection.clone());
    }

    /// Which fields of an object are wanted; all of them where nobody has said.
    pub fn selection(&self, object: &ObjectName) -> Selection {
        let known = locked(&self.selections).get(object).cloned();
        known.unwrap_or_else(|| Selection { object: object.clone(), fields: Vec::new() })
    }

    /// The number of the last commit that the object's feed has shown.
    pub fn behind(&self, object: &ObjectName) -> u64 {
        locked(&self.feeds).get(&feed_of(object)).map_or(0, |progress| progress.committed.0)
    }

    /// Commits are numbered anew: what was shown before says nothing of them.
    pub fn numbered_anew(&self, feed: &FeedName) {
        if let Some(progress) = locked(&self.feeds).get_mut(feed) {
            progress.committed = (0, 0);
        }
    }

    /// A feed begins here; `known` are records whose last change lies before it. The place is given back as handed out.
    pub fn begin(&self, feed: &FeedName, place: Place, known: impl IntoIterator<Item = (String, i64)>) -> Place {
        let mut feeds = locked(&self.feeds);
        let progress = feeds.entry(feed.clone()).or_default();
        match place.run == self.run {
            true => progress.keep_upto(place.step),
            false => progress.forget_upto(place.commit_ms.max(place.looked_ms).div_euclid(1_000)),
        }
        let place = Place { run: self.run, step: progress.step, ..place };
        progress.place = place.clone();
        progress.commits_upto(&place);
        // Whoever waited for a fence in the stream before asks for another one.
        progress.fences.clear();
        progress.moved = false;
        let step = progress.step;
        place.recent.iter().for_each(|(id, second)| progress.show(id, *second, step));
        known.into_iter().for_each(|(id, second)| progress.show(&id, second, step));
        place
    }

    /// The stream of a feed is open and lives, or is not.
    pub fn lives(&self, feed: &FeedName, open: bool) {
        if let Some(progress) = locked(&self.feeds).get_mut(feed) {
            progress.told = open.then(Instant::now);
            progress.undelivered.take_if(|_| !open);
        }
    }

    /// Why no events are delivered to a feed that is open; `None` where they are.
    pub fn delivers(&self, feed: &FeedName, undelivered: Option<String>) {
        locked(&self.feeds).entry(feed.clone()).or_default().undelivered = undelivered;
    }

    /// What was said of that.
    pub fn undelivered(&self, feed: &FeedName) -> Option<String> {
        locked(&self.feeds).get(feed)?.undelivered.clone()
    }

    /// Records are handed out, and the feed stands here behind them: the place as it is to be handed out.
    pub fn hand_out(&self, feed: &FeedName, place: Place, shown: ShownSince) -> Place {
        let mut feeds = locked(&self.feeds);
        let progress = feeds.entry(feed.clone()).or_default();
        progress.step = progress.step.saturating_add(1);
        progress.moved = true;
        let step = progress.step;
        let place = Place { run: self.run, step, ..place };
        progress.place = place.clone();
        progress.commits_upto(&place);
        for (id, second) in shown.records {
            progress.show_short(id, second, step);
        }
        progress.remembers_from = progress.remembers_from.max(shown.forgotten);
        place
    }

    /// Whether a change of a record in this second has been handed out; `None` where that may have been forgotten.
    pub fn has_shown(&self, feed: &FeedName, id: &str, second: i64) -> Option<bool> {
        let feeds = locked(&self.feeds);
        let progress = feeds.get(feed)?;
        let shown = progress.shown_of(id).is_some_and(|(shown, _)| shown >= second);
        (shown || second > progress.remembers_from).then_some(shown)
    }

    /// Until when a stream that is open may still bring what was published before it was opened, or before it told
    /// something last.
    pub fn may_tell_until(&self, feed: &FeedName) -> Option<Instant> {
        Some(locked(&self.feeds).get(feed)?.told? + QUIET.min(self.client.settings.look_every))
    }

    /// A look behind the events found so many records of which none had told.
    pub fn found_untold(&self, feed: &FeedName, records: usize) {
        locked(&self.feeds).entry(feed.clone()).or_default().untold = records;
    }

    /// How many the last look found.
    pub fn untold(&self, feed: &FeedName) -> usize {
        locked(&self.feeds).get(feed).map_or(0, |progress| progress.untold)
    }

    /// The topic has got so far without anything to hand out.
    pub fn went_on(&self, feed: &FeedName, replay: &[u8]) {
        if let Some(progress) = locked(&self.feeds).get_mut(feed) {
            progress.place.replay = replay.to_vec();
        }
    }

    /// Where a feed is.
    pub fn place(&self, feed: &FeedName) -> Option<Place> {
        locked(&self.feeds).get(feed).map(|progress| progress.place.clone())
    }

    /// A new fence over these changes and whatever has been handed out.
    pub fn set_fence(&self, feed: &FeedName, needs: Vec<(String, i64)>) -> Result<Fence> {
        let number = self.fences.fetch_add(1, Ordering::Relaxed);
        let mut feeds = locked(&self.feeds);
        let unprepared = || Error::new(Code::FeedGap, format!("the feed {feed} has not been prepared"));
        let progress = feeds.get_mut(feed).ok_or_else(unprepared)?;
        progress.fences.insert(number, Waiting { since: Instant::now(), needs: needs.clone() });
        while progress.fences.len() > FENCES_MAX {
            progress.fences.pop_first();
        }
        let behind = progress.moved.then_some((self.run, progress.step));
        self.fenced.notify_waiters();
        Ok(Fence { number, feed: feed.to_string(), behind, needs })
    }

    /// Whether whoever has taken in everything up to this place has passed a fence. What was handed out and is still on its
    /// way to them does not count.
    pub fn has_passed(&self, place: &Place, fence: &Fence) -> bool {
        let mut feeds = locked(&self.feeds);
        let Some(progress) = feeds.get_mut(fence.feed.as_str()) else { return false };
        let has_taken_in = fence.behind.is_none_or(|(run, step)| place.run == run && place.step >= step);
        let was_shown = |(id, second): &(String, i64)| {
            let handed_out = progress
                .shown_of(id)
                .is_some_and(|(shown, step)| place.run == self.run && shown >= *second && step <= place.step);
            place.is_behind(id, *second) || handed_out
        };
        let passed = has_taken_in && fence.needs.iter().all(was_shown);
        if passed {
            progress.fences.remove(&fence.number);
        }
        passed
    }

    /// What fences wait for, and have waited for so long that it is to be read: the feed may never tell of it.
    pub fn overdue(&self, feed: &FeedName) -> Vec<(String, i64)> {
        let feeds = locked(&self.feeds);
        let Some(progress) = feeds.get(feed) else { return Vec::new() };
        let due = progress.fences.values().filter(|waiting| progress.due(waiting).is_some_and(|at| at <= Instant::now()));
        let mut needs: Vec<(String, i64)> = due
            .flat_map(|waiting| &waiting.needs)
            .filter(|(id, second)| progress.shown_of(id).is_none_or(|(shown, _)| shown < *second))
            .cloned()
            .collect();
        needs.sort();
        needs.dedup();
        needs
    }

    /// When something may be overdue.
    pub fn overdue_at(&self, feed: &FeedName) -> Option<Instant> {
        let feeds = locked(&self.feeds);
        let progress = feeds.get(feed)?;
        progress.fences.values().filter_map(|waiting| progress.due(waiting)).min()
    }

    /// When the newest fence was set that has not been passed.
    pub fn fenced_since(&self, feed: &FeedName) -> Option<Instant> {
        locked(&self.feeds).get(feed)?.fences.values().map(|waiting| waiting.since).max()
    }

    /// What fences wait for that were set before a moment.
    pub fn waited_for(&self, feed: &FeedName, before: Instant) -> Vec<(String, i64)> {
        let feeds = locked(&self.feeds);
        let waiting = feeds.get(feed).into_iter().flat_map(|progress| progress.fences.values());
        waiting.filter(|waiting| waiting.since <= before).flat_map(|waiting| waiting.needs.iter().cloned()).collect()
    }

    /// How a feed is read; `None` before it was prepared.
    pub fn mode(&self, feed: &FeedName) -> Option<Mode> {
        locked(&self.modes).get(feed).copied()
    }

    /// A feed is read so from now on.
    pub fn set_mode(&self, feed: &FeedName, mode: Mode) {
        locked(&self.modes).insert(feed.clone(), mode);
    }

    /// What was overdue has been read, or could not be: looked at again after a while.
    pub fn looked_after(&self, feed: &FeedName) {
        if let Some(progress) = locked(&self.feeds).get_mut(feed) {
            for waiting in progress.fences.values_mut() {
                waiting.since = Instant::now();
            }
        }
    }

    /// The engine has been told how an object looks.
    pub fn told_schema(&self, object: &ObjectName, schema: &Schema) {
        let mut schemas = locked(&self.schemas);
        let known = schemas.entry(object.clone()).or_default();
        if known.schema.as_ref() != Some(schema) {
            *known = Known { schema: Some(schema.clone()), ..Known::default() };
        }
    }

    /// A schema with which events come is the one of the object as the engine knows it.
    pub fn matches_events(&self, object: &ObjectName, events: &str) {
        locked(&self.schemas).entry(object.clone()).or_default().events = Some(events.to_owned());
    }

    /// The schema with which events come, as long as the engine knows what goes with it.
    pub fn known_events(&self, object: &ObjectName) -> Option<String> {
        locked(&self.schemas).get(object).filter(|known| known.announced.is_none()).and_then(|known| known.events.clone())
    }

    /// Whether an object looks otherwise than the engine knows.
    pub fn is_news(&self, object: &ObjectName, schema: &Schema) -> bool {
        let mut schemas = locked(&self.schemas);
        let known = schemas.entry(object.clone()).or_default();
        let last = known.announced.as_ref().map(|(_, schema)| schema).or(known.schema.as_ref());
        let is_news = last.is_some_and(|last| last != schema);
        if last.is_none() {
            known.schema = Some(schema.clone());
        }
        is_news
    }

    /// A schema is handed out in front of this step.
    pub fn announce(&self, object: &ObjectName, feed: &FeedName, schema: &Schema) {
        let step = locked(&self.feeds).get(feed).map_or(0, |progress| progress.step).saturating_add(1);
        locked(&self.schemas).entry(object.clone()).or_default().announced = Some((step, schema.clone()));
    }

    /// Everything up to here is durable: so is a schema that was announced before it.
    pub fn acknowledged(&self, object: &ObjectName, place: &Place) {
        let mut schemas = locked(&self.schemas);
        let Some(known) = schemas.get_mut(object) else { return };
        if place.run == self.run && known.announced.as_ref().is_some_and(|(step, _)| place.step >= *step) {
            known.schema = known.announced.take().map(|(_, schema)| schema);
        }
    }

    /// A stream begins: what an earlier one announced may have gone with it.
    pub fn forget_announced(&self, object: &ObjectName) {
        if let Some(known) = locked(&self.schemas).get_mut(object)
            && known.announced.take().is_some()
        {
            known.events = None;
        }
    }
}

/// Records that were handed out since the last place, with the second of their change: the last of them, as many as are
/// remembered behind it.
#[derive(Default)]
pub(super) struct ShownSince {
    records: VecDeque<(Short, i64)>,
    /// The last second of those that were dropped.
    forgotten: i64,
}

impl ShownSince {
    pub fn add(&mut self, shown: impl IntoIterator<Item = (String, i64)>) {
        for (id, second) in shown {
            let Some(id) = short(&id) else { continue };
            self.records.push_back((id, second));
            if self.records.len() > SHOWN_MAX {
                let dropped = self.records.pop_front();
                self.forgotten = dropped.map_or(self.forgotten, |(_, second)| second.max(self.forgotten));
            }
        }
    }
}

impl Progress {
    /// What any stream has shown was committed: reads that begin now see it.
    fn commits_upto(&mut self, place: &Place) {
        self.committed = later(self.committed, (place.commit, place.commit_ms));
    }

    /// Whoever stands at a step has taken in what was handed out before it; what came behind it comes again.
    fn keep_upto(&mut self, step: u64) {
        self.shown.retain(|_, (_, shown)| *shown <= step);
        let shown = &self.shown;
        self.order.retain(|id| shown.contains_key(id));
    }

    /// What another process has handed out is not remembered.
    fn forget_upto(&mut self, second: i64) {
        self.shown.clear();
        self.order.clear();
        self.remembers_from = second;
    }

    /// When what a fence waits for is overdue; `None` while no stream is open that could tell of it.
    fn due(&self, waiting: &Waiting) -> Option<Instant> {
        let told = self.told?;
        if self.undelivered.is_some() {
            return Some(waiting.since + UNDELIVERED);
        }
        Some((waiting.since.max(told) + QUIET).min(waiting.since + OVERDUE))
    }

    /// The second of a record's last change that was handed out, and the step of the place behind it.
    fn shown_of(&self, id: &str) -> Option<(i64, u64)> {
        self.shown.get(&short(id)?).copied()
    }

    fn show(&mut self, id: &str, second: i64, step: u64) {
        if let Some(id) = short(id) {
            self.show_short(id, second, step);
        }
    }

    fn show_short(&mut self, id: Short, second: i64, step: u64) {
        match self.shown.get_mut(&id) {
            Some(shown) if shown.0 < second => *shown = (second, step),
            Some(_) => {}
            None => {
                self.order.push_back(id);
                self.shown.insert(id, (second, step));
            }
        }
        while self.order.len() > SHOWN_MAX {
            let oldest = self.order.pop_front().and_then(|oldest| self.shown.remove(&oldest));
            self.remembers_from = oldest.map_or(self.remembers_from, |(second, _)| second.max(self.remembers_from));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_very_many_records_the_last_are_remembered_and_the_others_are_not_said_to_be_untold() {
        let id = |number: usize| format!("001{number:012}");
        let mut since = ShownSince::default();
        since.add((0..SHOWN_MAX + 10).map(|number| (id(number), i64::try_from(number).unwrap_or(0))));
        assert_eq!((since.records.len(), since.forgotten), (SHOWN_MAX, 9));
        assert_eq!(since.records.front().map(|(_, second)| *second), Some(10));
    }

    #[test]
    fn a_stream_that_begins_further_back_does_not_take_back_what_was_shown() {
        let mut progress = Progress::default();
        let at = |commit, commit_ms| Place { commit, commit_ms, ..Place::default() };
        progress.commits_upto(&at(1_000, 1_000_000));
        progress.commits_upto(&at(900, 900_000));
        assert_eq!(progress.committed.0, 1_000);
        progress.commits_upto(&at(5, 1_060_000));
        assert_eq!(progress.committed.0, 5, "numbered anew");
    }
}
