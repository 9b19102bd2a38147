//! The feeds of the systems: prepared, opened, read ahead within bounds, lost and begun again. What a feed is said to
//! carry and where it stands is kept here; what it brings is taken in elsewhere.

use super::incoming::Incoming;
use crate::change::Position;
use crate::clock::Moment;
use crate::connector::{Connector, Feed};
use crate::error::{Class, Code, Error, Result};
use crate::identify::Unheard;
use crate::link::LinkId;
use crate::record::{FeedName, FieldName, ObjectName, SystemName};
use crate::rules::MemberRules;
use crate::runtime::Options;
use crate::runtime::core::{Core, Event};
use crate::schema::Selection;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// What became of a feed.
pub(crate) enum FeedReport {
    Prepared(Vec<Feed>),
    /// It is open, and tells whose a change is or does not.
    Open(FeedName, bool),
    Lost(Option<FeedName>, Error),
    /// The system is not read any more.
    Ended,
}

/// A feed while it runs.
pub(crate) struct FeedState {
    /// Everything before this is durable, or on its way to be.
    pub position: Position,
    pub objects: Vec<ObjectName>,
    pub complete_from: Vec<(ObjectName, Position)>,
    /// `connecting`, `reading`, `idle`, or what is wrong.
    pub state: String,
    /// Whether the last look found nothing new.
    pub idle: bool,
    pub failures: u32,
    /// Whether a person has asked for both sides to be read again since it was last read: a gap is accepted by that.
    pub gap_accepted: bool,
    /// Whether it begins anew behind a gap that was accepted: its syncs are being read again already.
    pub is_made_up_for: bool,
    /// Since when it is not read, and why.
    pub lost: Option<(Moment, Error)>,
    pub retry_at: Option<Moment>,
    pub health: crate::connector::FeedHealth,
    pub lag: Option<Duration>,
    /// Whether a fence has been asked for, and where it is once known.
    pub fence: Fence,
    /// Records that a read did not find: deleted, or moved to another key, which the feed will tell.
    pub absences: Vec<Absence>,
    /// Strangers whose match this feed has not told of.
    pub unheard: Vec<Unheard>,
    /// Links whose deletes wait for the end of the source transaction that holds them.
    pub deferred: Vec<LinkId>,
    /// Whether there were more of them than there was room for: all that is pending is then looked at.
    pub deferred_spilled: bool,
    /// Whether the source is being told how far we are, and what it is to be told next: one call at a time.
    pub acknowledging: bool,
    pub acknowledge_next: Option<Position>,
    /// Whether its health is being asked for.
    pub asking_health: bool,
    /// How many captured batches were taken in since the fence for `once` was passed.
    pub fences_passed: u64,
    /// Whether what it told last had a word on who made it, which a feed that only asks what is new does not have.
    pub tells_whose: bool,
}

/// A record that a read did not find. It counts as deleted once the feed has passed a fence set after the read.
pub(crate) struct Absence {
    pub link: LinkId,
    pub sight: Incoming,
    /// Whether the fence that is being waited for was set after the read.
    pub fenced: bool,
}

/// Where a feed stands with its fence.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fence {
    None,
    Asked,
    At(Position),
}

/// What a system's feeds must carry: every object of every sync that runs, with the fields that matter to any.
pub(crate) fn selections<'a>(members: impl Iterator<Item = &'a MemberRules>) -> Vec<Selection> {
    let mut objects: BTreeMap<ObjectName, Vec<FieldName>> = BTreeMap::new();
    for member in members {
        let fields = objects.entry(member.object.clone()).or_default();
        fields.extend(member.selection.fields.iter().cloned());
    }
    objects
        .into_iter()
        .map(|(object, mut fields)| {
            fields.sort_unstable();
            fields.dedup();
            Selection { object, fields }
        })
        .collect()
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
    stop: CancellationToken,
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
    let mut readers: futures_util::stream::FuturesUnordered<_> =
        feeds.iter().map(|feed| read_feed(&system, &connector, feed, &events, &options)).collect();
    loop {
        let lost = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            lost = futures_util::StreamExt::next(&mut readers) => lost,
        };
        let Some((feed, error)) = lost else { break };
        if !report(FeedReport::Lost(Some(feed), error)).await {
            return;
        }
    }
    drop(readers);
    report(FeedReport::Ended).await;
}

/// Reads one feed until it fails.
pub(super) async fn read_feed(
    system: &SystemName,
    connector: &Arc<dyn Connector>,
    feed: &Feed,
    events: &mpsc::Sender<Event>,
    options: &Options,
) -> (FeedName, Error) {
    let gone = || Error::new(Code::Internal, "the engine has stopped");
    let mut changes = match connector.capture(feed, &feed.position).await {
        Ok(changes) => changes,
        Err(error) => return (feed.name.clone(), error),
    };
    if events
        .send(Event::Feed { system: system.clone(), report: FeedReport::Open(feed.name.clone(), changes.tells_whose()) })
        .await
        .is_err()
    {
        return (feed.name.clone(), gone());
    }
    let ahead = Arc::new(Semaphore::new(options.capture_ahead));
    loop {
        let Ok(permit) = Arc::clone(&ahead).acquire_owned().await else { return (feed.name.clone(), gone()) };
        let batch = match changes.next(options.capture).await {
            Ok(batch) => batch,
            Err(error) => return (feed.name.clone(), error),
        };
        let waits = changes.waits_for();
        let event = Event::Captured { system: system.clone(), feed: feed.name.clone(), batch, waits, permit };
        if events.send(event).await.is_err() {
            return (feed.name.clone(), gone());
        }
    }
}

impl FeedState {
    /// Whether the feed is being read.
    pub fn is_open(&self) -> bool {
        matches!(self.state.as_str(), "reading" | "idle")
    }

    /// Whether it is to be read from a new beginning, and is not yet.
    pub fn begins_anew(&self) -> bool {
        self.is_made_up_for
    }

    /// Whether it was found that changes may be missing from it.
    pub fn has_gap(&self) -> bool {
        self.lost.as_ref().is_some_and(|(_, error)| error.code.is_gap())
    }

    /// Whether it goes on only after somebody has put something right.
    pub fn is_stopped(&self) -> bool {
        !self.is_open() && self.lost.as_ref().is_some_and(|(_, error)| error.class() == Class::Stop)
    }
}

impl Core {
    /// Starts reading every system that a sync needs and that is not being read.
    pub(crate) fn start_feeds(&mut self) {
        let systems: Vec<SystemName> = self.systems.keys().cloned().collect();
        for system in systems {
            self.start_system(&system);
        }
    }

    /// The feeds that the store knows, before any of them is open.
    pub(crate) async fn restore_feeds(&mut self) -> Result<()> {
        let systems: Vec<SystemName> = self.systems.keys().cloned().collect();
        for system in systems {
            for feed in stored_feeds(&*self.store, &system).await? {
                let state = FeedState { position: feed.position, objects: feed.objects, ..unprepared() };
                self.feeds.insert((system.clone(), feed.name), state);
            }
        }
        Ok(())
    }

    /// Begins to follow objects of a sync that their feeds do not carry: their tables were away, and are there again.
    pub(super) fn follow_again(&mut self, sync: usize) {
        let Some(rules) = self.syncs.get(sync).map(|state| Arc::clone(&state.rules)) else { return };
        for member in &rules.members {
            let is_carried = |((of, _), feed): (&(SystemName, FeedName), &FeedState)| {
                *of == member.system && feed.objects.contains(&member.object)
            };
            if !self.feeds.iter().any(is_carried) {
                self.start_system(&member.system);
            }
        }
    }

    /// Begins to read a system. Where it is being read, that ends first: what was read until then is taken in, and the
    /// feeds go on behind it.
    pub(super) fn start_system(&mut self, system: &SystemName) {
        if let Some(reader) = self.readers.get(system) {
            reader.cancel();
            return;
        }
        let Some(connector) = self.systems.get(system).cloned() else { return };
        let members = self
            .syncs
            .iter()
            .filter(|sync| sync.approved)
            .flat_map(|sync| sync.rules.members.iter())
            .filter(|member| member.system == *system);
        let selections = selections(members);
        if selections.is_empty() {
            return;
        }
        let known: Vec<Feed> = self
            .feeds
            .iter()
            .filter(|((of, name), _)| of == system && !name.as_str().is_empty())
            .map(|((_, name), state)| Feed {
                name: name.clone(),
                objects: state.objects.clone(),
                position: state.position.clone(),
                complete_from: Vec::new(),
            })
            .collect();
        let (events, options) = (self.events.clone(), self.options.clone());
        let stop = CancellationToken::new();
        self.readers.insert(system.clone(), stop.clone());
        self.feed_tasks.spawn(read_feeds(system.clone(), connector, selections, known, events, options, stop));
    }

    pub(crate) async fn on_feed(&mut self, system: SystemName, report: FeedReport) -> Result<()> {
        // What was found before it was told to stop may have been put right since: the next one finds it again.
        let is_stale = self.readers.get(&system).is_some_and(CancellationToken::is_cancelled);
        match report {
            FeedReport::Prepared(_) if is_stale => {}
            FeedReport::Lost(_, error) if is_stale && error.code.is_gap() => {}
            FeedReport::Prepared(feeds) => {
                // A feed without a name stands for a system that was never prepared.
                if let Some(unnamed) = self.feeds.remove(&(system.clone(), FeedName::from("")))
                    && let Some((since, error)) = unnamed.lost
                {
                    tracing::info!(%system, %since, was = error.chain(), "system found again");
                }
                let mut anew = Vec::new();
                for feed in feeds {
                    let known = self.feeds.get(&(system.clone(), feed.name.clone()));
                    if known.is_none_or(|known| known.position.0.is_empty() && !known.is_made_up_for) {
                        anew.extend(feed.objects.iter().cloned());
                    }
                    self.prepared(&system, feed);
                }
                self.begun_before(&system, &anew).await?;
                self.mark_begun(&system);
            }
            FeedReport::Open(feed, tells_whose) => {
                if let Some(state) = self.feeds.get_mut(&(system.clone(), feed.clone())) {
                    if let Some((since, error)) = state.lost.take() {
                        tracing::info!(%system, %feed, %since, was = error.chain(), "feed found again");
                    }
                    state.state = "reading".to_owned();
                    state.tells_whose = tells_whose;
                    state.failures = 0;
                    state.gap_accepted = false;
                    state.retry_at = None;
                }
                self.ask_fences();
                // The next look tells the new position and what the source keeps.
                self.last_health = None;
            }
            FeedReport::Ended => {
                while self.feed_tasks.try_join_next().is_some() {}
                if self.readers.remove(&system).is_some_and(|reader| reader.is_cancelled()) {
                    self.start_system(&system);
                }
            }
            FeedReport::Lost(feed, error) => {
                let is_gap = error.code == Code::FeedGap;
                self.feed_lost(&system, feed, error);
                if is_gap {
                    self.accept_if_asked(&system).await?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn prepared(&mut self, system: &SystemName, feed: Feed) {
        crate::failpoint::pass("prepared_before_durable");
        self.echoes.forget();
        let key = (system.clone(), feed.name.clone());
        self.transaction.positions.push((system.clone(), feed.name.clone(), feed.position.clone()));
        let objects: Vec<&str> = feed.objects.iter().map(ObjectName::as_str).collect();
        self.transaction.settings.push((objects_setting(system, &feed.name), postcard::to_stdvec(&objects).ok()));
        let state = self.feeds.entry(key).or_insert_with(unprepared);
        state.position = feed.position;
        state.objects = feed.objects;
        state.complete_from = feed.complete_from;
        state.idle = false;
        state.is_made_up_for = false;
        state.retry_at = None;
        // Whatever was asked of the old connection is asked again.
        if state.fence == Fence::Asked {
            state.fence = Fence::None;
        }
    }

    /// A sync has begun once the feeds of all its systems are there: from then on it needs no approval.
    pub(super) fn mark_begun(&mut self, _system: &SystemName) {
        let prepared = self.feeds.iter().filter(|((_, name), state)| !name.as_str().is_empty() && !state.objects.is_empty());
        let now = self.clock.now();
        let ready: Vec<SystemName> = prepared.map(|((system, _), _)| system.clone()).collect();
        for sync in &mut self.syncs {
            let all = sync.rules.members.iter().all(|member| ready.contains(&member.system));
            if sync.approved && !sync.begun && all {
                sync.begun = true;
                sync.begun_at = Some(now);
                self.transaction.settings.push((format!("begun/{}", sync.rules.id.0), Some(now.micros().to_be_bytes().to_vec())));
            }
        }
    }

    pub(super) fn feed_lost(&mut self, system: &SystemName, feed: Option<FeedName>, error: Error) {
        let now = self.now();
        self.drop_fences(system, feed.as_ref());
        if error.code.is_gap() {
            let carried =
                feed.as_ref().and_then(|feed| self.feeds.get(&(system.clone(), feed.clone()))).map(|feed| &feed.objects);
            let misses =
                |member: &MemberRules| member.system == *system && carried.is_none_or(|carried| carried.contains(&member.object));
            for sync in self.syncs.iter_mut().filter(|sync| sync.rules.members.iter().any(misses)) {
                sync.stopped = Some(error.clone());
            }
        }
        let names: Vec<FeedName> = match feed {
            Some(feed) => vec![feed],
            None => {
                let known: Vec<FeedName> =
                    self.feeds.keys().filter(|(of, _)| of == system).map(|(_, name)| name.clone()).collect();
                if known.is_empty() { vec![FeedName::from("")] } else { known }
            }
        };
        let (min, max) = (self.options.reconnect_min, self.options.reconnect_max);
        for name in names {
            let state = self.feeds.entry((system.clone(), name.clone())).or_insert_with(unprepared);
            state.failures = state.failures.saturating_add(1);
            state.idle = false;
            // One line when it is lost and one whenever the reason changes; between them the status tells.
            let is_news = state.lost.as_ref().is_none_or(|(_, known)| known.code != error.code);
            if is_news {
                let feed = (!name.as_str().is_empty()).then(|| name.as_str());
                tracing::warn!(%system, feed, error = error.chain(), remedy = error.code.remedy(), "feed lost");
            } else {
                tracing::debug!(%system, feed = name.as_str(), error = error.chain(), "still lost");
            }
            let since = state.lost.as_ref().map_or(now, |(since, _)| *since);
            state.lost = Some((since, error.clone()));
            let longest = min.saturating_mul(1 << state.failures.min(16)).min(max);
            let wait = error.retry_after.unwrap_or(longest / 2 + self.jitter.part_of(longest / 2));
            state.retry_at = (!error.code.is_gap()).then(|| now.plus(wait));
            state.state = match error.class() {
                Class::Stop => format!("stopped: {error}"),
                _ => format!("unreachable since {since}: {error}"),
            };
        }
    }

    /// Starts again the systems whose feeds were lost and whose wait is over.
    pub(crate) fn restart_feeds(&mut self, now: Moment) {
        let due: Vec<SystemName> = self
            .feeds
            .iter()
            .filter(|(_, state)| state.retry_at.is_some_and(|at| at <= now))
            .map(|((system, _), _)| system.clone())
            .collect();
        for system in due {
            for ((of, _), state) in &mut self.feeds {
                if *of == system {
                    state.retry_at = None;
                }
            }
            self.start_system(&system);
        }
    }

    pub(crate) fn acknowledge(&mut self, system: SystemName, feed: FeedName, position: Position) {
        let Some(connector) = self.systems.get(&system).cloned() else { return };
        let Some(state) = self.feeds.get_mut(&(system.clone(), feed.clone())) else { return };
        if state.acknowledging {
            // Cumulative: the newest position is enough.
            state.acknowledge_next = Some(position);
            return;
        }
        state.acknowledging = true;
        crate::failpoint::pass("durable_before_acknowledge");
        self.jobs.spawn(async move {
            if let Err(error) = connector.acknowledge(&feed, &position).await {
                // The next acknowledgement covers this one; a source that cannot be told is told later.
                tracing::debug!(%system, %feed, error = error.chain(), "acknowledgement failed");
            }
            Event::Acknowledged { system, feed }
        });
    }

    pub(crate) fn acknowledged(&mut self, system: &SystemName, feed: &FeedName) {
        let Some(state) = self.feeds.get_mut(&(system.clone(), feed.clone())) else { return };
        state.acknowledging = false;
        if let Some(next) = state.acknowledge_next.take() {
            self.acknowledge(system.clone(), feed.clone(), next);
        }
    }
}

pub(super) async fn stored_feeds(store: &dyn crate::store::Store, system: &SystemName) -> Result<Vec<Feed>> {
    let mut feeds = Vec::new();
    for (_, name, position) in store.positions().await?.into_iter().filter(|(of, ..)| of == system) {
        let stored = store.setting(&objects_setting(system, &name)).await?;
        let objects: Vec<String> = stored.and_then(|bytes| postcard::from_bytes(&bytes).ok()).unwrap_or_default();
        let objects = objects.into_iter().map(ObjectName::from).collect();
        feeds.push(Feed { name, objects, position, complete_from: Vec::new() });
    }
    Ok(feeds)
}

/// The setting that holds which objects a feed carried when it was last prepared.
pub(super) fn objects_setting(system: &SystemName, feed: &FeedName) -> String {
    format!("feed/{system}/{feed}/objects")
}

/// Stands for a system that was never prepared, so that its state can be shown and its retry timed.
pub(super) fn unprepared() -> FeedState {
    FeedState {
        position: Position::default(),
        objects: Vec::new(),
        complete_from: Vec::new(),
        state: "connecting".to_owned(),
        idle: false,
        failures: 0,
        lost: None,
        gap_accepted: false,
        is_made_up_for: false,
        retry_at: None,
        health: crate::connector::FeedHealth::default(),
        lag: None,
        fence: Fence::None,
        absences: Vec::new(),
        unheard: Vec::new(),
        deferred: Vec::new(),
        deferred_spilled: false,
        acknowledging: false,
        acknowledge_next: None,
        asking_health: false,
        fences_passed: 0,
        tells_whose: true,
    }
}
