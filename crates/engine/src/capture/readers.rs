//! The tasks that read systems' feeds ahead within bounds: one task for each system, until all its feeds are lost or until it is
//! told to end. One that is lost leaves the others alone, and is opened again beside them where the core asks for it. Knows
//! nothing of what the feeds bring.

use super::feeds::FeedReport;
use crate::connector::{Connector, Feed};
use crate::error::{Code, Error};
use crate::record::{FeedName, SystemName};
use crate::runtime::Options;
use crate::runtime::core::Event;
use crate::schema::Selection;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// The most feeds of a system that wait to be opened again.
const AGAIN_MAX: usize = 64;

/// The task that reads a system's feeds, as the core knows it.
pub(crate) struct Reader {
    /// Ends it.
    pub stop: CancellationToken,
    /// What it is to open again.
    pub again: mpsc::Sender<LostFeed>,
    /// The feeds that it was asked to open again, and that have not been heard of since.
    pub asked: BTreeSet<FeedName>,
}

/// What such a task listens to.
pub(crate) struct Orders {
    stop: CancellationToken,
    again: mpsc::Receiver<LostFeed>,
}

/// A feed that was lost, where it is to be read from, and what it has to carry.
pub(crate) struct LostFeed {
    pub feed: Feed,
    pub selections: Vec<Selection>,
}

impl Reader {
    /// Of a task that is about to begin.
    pub fn new() -> (Reader, Orders) {
        let (again, asked_for) = mpsc::channel(AGAIN_MAX);
        let stop = CancellationToken::new();
        let orders = Orders { stop: stop.clone(), again: asked_for };
        (Reader { stop, again, asked: BTreeSet::new() }, orders)
    }
}

/// Reads one system's feeds until all are lost, or until it is told to stop: one that is lost leaves the others alone. Ends
/// by telling the engine so, behind everything that it has read.
pub(super) async fn read_feeds(
    system: SystemName,
    connector: Arc<dyn Connector>,
    selections: Vec<Selection>,
    known: Vec<Feed>,
    events: mpsc::Sender<Event>,
    options: Options,
    mut orders: Orders,
) {
    let report = |report| {
        let event = Event::Feed { system: system.clone(), report };
        async { events.send(event).await.is_ok() }
    };
    let feeds = match connector.prepare(&selections, &known).await {
        Ok(feeds) => feeds,
        Err(error) => {
            report(FeedReport::Lost(None, error)).await;
            report(FeedReport::Ended).await;
            return;
        }
    };
    if !report(FeedReport::Prepared(feeds.clone())).await {
        return;
    }
    let mut readers: FuturesUnordered<BoxFuture<'_, (FeedName, Error)>> =
        feeds.iter().map(|feed| read_feed(&system, &connector, feed.clone(), &events, &options).boxed()).collect();
    loop {
        tokio::select! {
            biased;
            () = orders.stop.cancelled() => break,
            lost = readers.next() => {
                let Some((feed, error)) = lost else { break };
                if !report(FeedReport::Lost(Some(feed), error)).await {
                    return;
                }
            }
            Some(lost) = orders.again.recv() => {
                readers.push(read_again(&system, &connector, lost, &events, &options).boxed());
            }
        }
    }
    drop(readers);
    report(FeedReport::Ended).await;
}

/// Prepares a feed that was lost, it alone, and reads it until it fails again.
async fn read_again(
    system: &SystemName,
    connector: &Arc<dyn Connector>,
    lost: LostFeed,
    events: &mpsc::Sender<Event>,
    options: &Options,
) -> (FeedName, Error) {
    let name = lost.feed.name.clone();
    let feeds = match connector.prepare(&lost.selections, std::slice::from_ref(&lost.feed)).await {
        Ok(feeds) => feeds,
        Err(error) => return (name, error),
    };
    let Some(feed) = feeds.into_iter().find(|feed| feed.name == name) else {
        let message = format!("the feed {name} was asked for and is not there");
        return (name, Error::new(Code::Internal, message));
    };
    let report = FeedReport::Prepared(vec![feed.clone()]);
    if events.send(Event::Feed { system: system.clone(), report }).await.is_err() {
        return (name, gone());
    }
    read_feed(system, connector, feed, events, options).await
}

fn gone() -> Error {
    Error::new(Code::Internal, "the engine has stopped")
}

/// Reads one feed until it fails.
async fn read_feed(
    system: &SystemName,
    connector: &Arc<dyn Connector>,
    feed: Feed,
    events: &mpsc::Sender<Event>,
    options: &Options,
) -> (FeedName, Error) {
    let mut changes = match connector.capture(&feed, &feed.position).await {
        Ok(changes) => changes,
        Err(error) => return (feed.name, error),
    };
    let report = FeedReport::Open(feed.name.clone(), changes.tells_whose());
    if events.send(Event::Feed { system: system.clone(), report }).await.is_err() {
        return (feed.name, gone());
    }
    let ahead = Arc::new(Semaphore::new(options.capture_ahead));
    loop {
        let Ok(permit) = Arc::clone(&ahead).acquire_owned().await else { return (feed.name, gone()) };
        let batch = match changes.next(options.capture).await {
            Ok(batch) => batch,
            Err(error) => return (feed.name, error),
        };
        let waits = changes.waits_for();
        let event = Event::Captured { system: system.clone(), feed: feed.name.clone(), batch, waits, permit };
        if events.send(event).await.is_err() {
            return (feed.name, gone());
        }
    }
}
