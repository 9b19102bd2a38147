//! What the parts of one connection share: the API, what objects look like, which fields are wanted, and how far each
//! feed has been handed out. Owns the fences; opens no stream.

use super::client::Client;
use super::position::{Fence, Place};
use super::pubsub::PubSub;
use super::schema::{Object, describe};
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::{FeedName, ObjectName};
use concord_engine::schema::Selection;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::RwLock;
use tokio::time::Instant;

/// The most records that are remembered as shown, in each feed.
const SHOWN_MAX: usize = 20_000;
/// A feed that has told nothing for so long, though it is open, has nothing more to tell of what a fence waits for.
const QUIET: Duration = Duration::from_secs(5);

/// What the parts of one connection share.
pub(super) struct Shared {
    pub client: Arc<Client>,
    pub pubsub: PubSub,
    /// Held for reading while a write is under way; a fence waits for all of them.
    pub writes: Arc<RwLock<()>>,
    objects: Mutex<HashMap<ObjectName, Arc<Object>>>,
    selections: Mutex<HashMap<ObjectName, Selection>>,
    feeds: Mutex<HashMap<FeedName, Progress>>,
    fences: AtomicU64,
}

/// How far a feed has been handed out.
#[derive(Default)]
struct Progress {
    place: Place,
    shown: HashMap<String, i64>,
    order: VecDeque<String>,
    /// When the stream was opened, or told something, last; `None` while there is none.
    told: Option<Instant>,
    fences: HashMap<u64, Instant>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    pub fn new(client: Arc<Client>, pubsub: PubSub) -> Shared {
        Shared {
            client,
            pubsub,
            writes: Arc::default(),
            objects: Mutex::default(),
            selections: Mutex::default(),
            feeds: Mutex::default(),
            fences: AtomicU64::new(1),
        }
    }

    /// What an object looks like, as it was last seen.
    pub async fn object(&self, name: &ObjectName) -> Result<Arc<Object>> {
        let known = locked(&self.objects).get(name).cloned();
        match known {
            Some(object) => Ok(object),
            None => self.look_again(name).await,
        }
    }

    /// What an object looks like now.
    pub async fn look_again(&self, name: &ObjectName) -> Result<Arc<Object>> {
        let object = Arc::new(describe(&self.client, name).await?);
        locked(&self.objects).insert(name.clone(), Arc::clone(&object));
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
        locked(&self.feeds).get(&feed_of(object)).map_or(0, |progress| progress.place.commit)
    }

    /// A feed begins here; `known` are records whose last change lies before it.
    pub fn begin(&self, feed: &FeedName, place: &Place, known: impl IntoIterator<Item = (String, i64)>) {
        let mut feeds = locked(&self.feeds);
        let progress = feeds.entry(feed.clone()).or_default();
        let commit = progress.place.commit;
        progress.place = place.clone();
        // What any stream has shown was committed: reads that begin now see it.
        progress.place.commit = place.commit.max(commit);
        progress.shown.clear();
        progress.order.clear();
        for (id, second) in known.into_iter().chain(place.recent.iter().cloned()) {
            progress.show(id, second);
        }
    }

    /// The stream of a feed is open and lives, or is not.
    pub fn lives(&self, feed: &FeedName, open: bool) {
        if let Some(progress) = locked(&self.feeds).get_mut(feed) {
            progress.told = open.then(Instant::now);
        }
    }

    /// Records were handed out, and the feed is here now.
    pub fn handed_out(&self, feed: &FeedName, place: &Place, shown: impl IntoIterator<Item = (String, i64)>) {
        let mut feeds = locked(&self.feeds);
        let progress = feeds.entry(feed.clone()).or_default();
        let commit = progress.place.commit;
        progress.place = place.clone();
        progress.place.commit = place.commit.max(commit);
        for (id, second) in shown {
            progress.show(id, second);
        }
    }

    /// Where a feed is.
    pub fn place(&self, feed: &FeedName) -> Option<Place> {
        locked(&self.feeds).get(feed).map(|progress| progress.place.clone())
    }

    /// A new fence over these changes, less what has been shown already.
    pub fn set_fence(&self, feed: &FeedName, mut needs: Vec<(String, i64)>) -> Result<Fence> {
        let number = self.fences.fetch_add(1, Ordering::Relaxed);
        let mut feeds = locked(&self.feeds);
        let unprepared = || Error::new(Code::FeedGap, format!("the feed {feed} has not been prepared"));
        let progress = feeds.get_mut(feed).ok_or_else(unprepared)?;
        needs.retain(|(id, second)| progress.shown.get(id).is_none_or(|shown| shown < second));
        progress.fences.insert(number, Instant::now());
        Ok(Fence { number, feed: feed.to_string(), needs })
    }

    /// Whether a feed that is at this place has passed a fence.
    pub fn has_passed(&self, place: &Place, fence: &Fence) -> bool {
        let mut feeds = locked(&self.feeds);
        let Some(progress) = feeds.get_mut(fence.feed.as_str()) else { return false };
        let was_shown = |(id, second): &(String, i64)| {
            place.is_behind(id, *second) || progress.shown.get(id).is_some_and(|shown| shown >= second)
        };
        let is_quiet = || {
            let quiet_since = progress.fences.get(&fence.number).copied().zip(progress.told);
            quiet_since.is_some_and(|(asked, told)| asked.max(told).elapsed() >= QUIET)
        };
        let passed = fence.needs.iter().all(was_shown) || is_quiet();
        if passed {
            progress.fences.remove(&fence.number);
        }
        passed
    }
}

impl Progress {
    fn show(&mut self, id: String, second: i64) {
        match self.shown.get_mut(&id) {
            Some(shown) => *shown = second.max(*shown),
            None => {
                self.order.push_back(id.clone());
                self.shown.insert(id, second);
            }
        }
        while self.order.len() > SHOWN_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.shown.remove(&oldest);
            }
        }
    }
}
