//! The feeds of the systems: prepared, opened, lost and begun again. What a feed is said to carry and where it stands is kept
//! here; it is read, and what it brings is taken in, elsewhere.

use super::incoming::Incoming;
use super::readers::{LostFeed, Reader, read_feeds};
use crate::change::Position;
use crate::clock::Moment;
use crate::connector::Feed;
use crate::error::{Class, Code, Error, Result};
use crate::identify::Unheard;
use crate::link::LinkId;
use crate::record::{FeedName, FieldName, ObjectName, SystemName};
use crate::rules::MemberRules;
use crate::runtime::core::{Core, Event};
use crate::schema::Selection;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;

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
    /// The code of what it waits for, where nothing can be read for a while though it is open.
    pub waits: Option<Code>,
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
            reader.stop.cancel();
            return;
        }
        let Some(connector) = self.systems.get(system).cloned() else { return };
        let selections = self.selections_of(system);
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
        let (reader, orders) = Reader::new();
        self.readers.insert(system.clone(), reader);
        self.feed_tasks.spawn(read_feeds(system.clone(), connector, selections, known, events, options, orders));
    }

    /// What a system's feeds must carry now.
    fn selections_of(&self, system: &SystemName) -> Vec<Selection> {
        let approved = self.syncs.iter().filter(|sync| sync.approved);
        selections(approved.flat_map(|sync| sync.rules.members.iter()).filter(|member| member.system == *system))
    }

    pub(crate) async fn on_feed(&mut self, system: SystemName, report: FeedReport) -> Result<()> {
        // What was found before it was told to stop may have been put right since: the next one finds it again.
        let is_stale = self.readers.get(&system).is_some_and(|reader| reader.stop.is_cancelled());
        if let (FeedReport::Open(feed, _) | FeedReport::Lost(Some(feed), _), Some(reader)) =
            (&report, self.readers.get_mut(&system))
        {
            reader.asked.remove(feed);
        }
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
                // What it was asked for while it ended it has not heard.
                let goes_on = |reader: Reader| reader.stop.is_cancelled() || !reader.asked.is_empty();
                if self.readers.remove(&system).is_some_and(goes_on) {
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

    /// Opens the feeds again that were lost and whose wait is over: each by itself where that leaves the others of its system
    /// alone, else all of them.
    pub(crate) fn restart_feeds(&mut self, now: Moment) {
        let is_due = |(_, state): &(&(SystemName, FeedName), &FeedState)| state.retry_at.is_some_and(|at| at <= now);
        let due: Vec<(SystemName, FeedName)> = self.feeds.iter().filter(is_due).map(|(key, _)| key.clone()).collect();
        let mut whole = BTreeSet::new();
        for (system, feed) in due {
            if !self.opens_by_itself(&system, &feed) {
                whole.insert(system);
            }
        }
        for system in whole {
            for ((of, _), state) in &mut self.feeds {
                if *of == system {
                    state.retry_at = None;
                }
            }
            self.start_system(&system);
        }
    }

    /// Has a lost feed opened again beside the others of its system, which go on undisturbed. `false`: that cannot be, for the
    /// system's feeds are one thing, or none of them is read, or this one begins anew.
    fn opens_by_itself(&mut self, system: &SystemName, name: &FeedName) -> bool {
        if !self.systems.get(system).is_some_and(|connector| connector.capabilities().feeds_apart) {
            return false;
        }
        let mut selections = self.selections_of(system);
        let Some(state) = self.feeds.get_mut(&(system.clone(), name.clone())) else { return false };
        selections.retain(|selection| state.objects.contains(&selection.object));
        if state.lost.is_none() || state.begins_anew() || state.position.0.is_empty() || selections.is_empty() {
            return false;
        }
        let Some(reader) = self.readers.get_mut(system).filter(|reader| !reader.stop.is_cancelled()) else { return false };
        let (objects, position) = (state.objects.clone(), state.position.clone());
        let feed = Feed { name: name.clone(), objects, position, complete_from: Vec::new() };
        match reader.again.try_send(LostFeed { feed, selections }) {
            Ok(()) => {
                reader.asked.insert(name.clone());
                state.retry_at = None;
                true
            }
            // It stays due.
            Err(TrySendError::Full(_)) => true,
            Err(TrySendError::Closed(_)) => false,
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

impl FeedState {
    /// The gap that it stands before, by the code of the error that ended it: what a text quotes decides nothing.
    pub(super) fn gap(&self) -> Option<Code> {
        self.lost.as_ref().map(|(_, error)| error.code).filter(|code| code.is_gap())
    }
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
        waits: None,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_stands_before_a_gap_by_its_code_and_not_by_what_its_state_quotes() {
        let lost = |code: Code, message: &str| {
            let error = Error::new(code, message);
            FeedState { state: format!("unreachable: {error}"), lost: Some((Moment(1), error)), ..unprepared() }
        };
        let quoted = format!("no answer, and before that {}", Code::FeedGap);
        assert_eq!(lost(Code::Unreachable, &quoted).gap(), None);
        assert_eq!(lost(Code::FeedGap, "the slot is gone").gap(), Some(Code::FeedGap));
        assert_eq!(lost(Code::FeedRewound, "restored").gap(), Some(Code::FeedRewound));
        assert_eq!(unprepared().gap(), None);
    }
}
