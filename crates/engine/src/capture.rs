//! Stage 1: read the feeds, make what they bring durable together with the new position, and only then acknowledge.
//! What arrives is folded, record by record, into what is pending; who it belongs to and what follows is for later stages.
//! Never waits for a target: what cannot be written now is remembered in the store, so no source's log is held back.

use crate::change::{EditTime, Image, Mark, Observation, Position, Version};
use crate::clock::Moment;
use crate::connector::{Batch, Connector, Event as FeedEvent, Feed};
use crate::error::{Class, Code, Error, Result};
use crate::link::{Cells, FlightId, Link, LinkId, MemberIndex, Pending, Shown, Side, Standing};
use crate::reconcile::{Folded, fold, refine_agreed, refine_times};
use crate::record::{FeedName, FieldName, Key, ObjectName, Record, SystemName};
use crate::rules::{MemberRules, SyncRules};
use crate::runtime::Options;
use crate::runtime::core::{Core, Effect, Event, FeedReport};
use crate::runtime::desk::{Desk, address};
use crate::schema::{Schema, Selection, Type};
use crate::store::Address;
use crate::value::{TimestampTz, Value};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

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
    pub retry_at: Option<Moment>,
    pub health: crate::connector::FeedHealth,
    pub lag: Option<Duration>,
    /// Whether a fence has been asked for, and where it is once known.
    pub fence: Fence,
    /// Records that a read did not find: deleted, or moved to another key, which the feed will tell.
    pub absences: Vec<Absence>,
    /// Links whose deletes wait for the end of the source transaction that holds them.
    pub deferred: Vec<LinkId>,
    /// How many captured batches were taken in since the fence for `once` was passed.
    pub fences_passed: u64,
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

/// Deletes of records that nobody knew, kept only while a read is under way that may yet show the record as it was before:
/// without this, the read would bring a deleted record to life.
#[derive(Default)]
pub(crate) struct Orphans {
    deletes: BTreeMap<Address, (Version, u64)>,
    generation: u64,
    open: BTreeMap<u64, ()>,
}

impl Orphans {
    /// A read begins; its number is given back to `end` when its answer has been taken in.
    pub fn begin(&mut self) -> u64 {
        self.generation = self.generation.saturating_add(1);
        self.open.insert(self.generation, ());
        self.generation
    }

    /// A read is over.
    pub fn end(&mut self, generation: u64) {
        self.open.remove(&generation);
        match self.open.keys().next().copied() {
            None => self.deletes.clear(),
            // A delete that came before the oldest open read began cannot be news to any of them.
            Some(oldest) => self.deletes.retain(|_, (_, seen)| *seen >= oldest),
        }
    }

    fn remember(&mut self, address: Address, version: Version) {
        if !self.open.is_empty() {
            self.deletes.insert(address, (version, self.generation));
        }
    }

    fn version(&self, address: &Address) -> Option<&Version> {
        self.deletes.get(address).map(|(version, _)| version)
    }
}

/// An observation in the engine's terms.
pub(crate) struct Incoming {
    pub sync: usize,
    pub address: Address,
    pub old_address: Option<Address>,
    pub pending: Pending,
    /// The flight of ours that it is the echo of.
    pub echo_of: Option<FlightId>,
    /// Whether it was read rather than told by a feed.
    pub read: bool,
}

/// Turns an observation into the engine's terms. `store` is the store's id, which tells our own marks.
pub(crate) fn incoming(
    rules: &SyncRules,
    sync: usize,
    member: MemberIndex,
    observation: Observation,
    now: Moment,
    store: &str,
    read: bool,
) -> Incoming {
    let Observation { key, old_key, image, version, time, mark, .. } = observation;
    let ours = mark.as_ref().filter(|mark| mark.store == store && mark.sync == rules.name.as_str());
    let echo_of = ours.map(|mark| FlightId(mark.intent));
    let hops = mark.as_ref().map_or(0, |mark: &Mark| mark.hops.saturating_add(1));
    let full = matches!(image, Image::Full(_));
    let shown = match image {
        Image::Deleted => Shown::Gone { time },
        Image::Full(record) | Image::Partial(record) => {
            let time = edit_time(rules.members.get(member), &record, time, now);
            let cells: Cells =
                (0..rules.fields.len()).map(|field| record.get(rules.at(member, field)?.name.as_str()).cloned()).collect();
            let times = cells.iter().map(|cell| cell.as_ref().map(|_| time)).collect();
            Shown::Present { cells, times, full, anew: false }
        }
    };
    let old_address = old_key.as_ref().map(|old| address(rules.id, member, old));
    Incoming {
        sync,
        address: address(rules.id, member, &key),
        old_address,
        echo_of,
        read,
        pending: Pending {
            sync: rules.id,
            member,
            key,
            old_key,
            shown,
            version,
            hops,
            echo: echo_of.is_some(),
            arrived: now,
            layout: rules.layout,
        },
    }
}

/// The time of an edit: the configured field where the record shows it, the feed's otherwise; never later than now.
fn edit_time(member: Option<&MemberRules>, record: &Record, feed: EditTime, now: Moment) -> EditTime {
    let field = member.and_then(|member| member.edit_time_field.as_ref());
    let stamped = field.and_then(|field| {
        let value = record.get(field.as_str())?;
        let (at, granularity_micros) = stamp(value, member?.schema.field(field.as_str()).map(|field| &field.ty))?;
        Some(EditTime { at, granularity_micros, estimated: false })
    });
    let time = stamped.unwrap_or(feed);
    EditTime { at: time.at.min(now), ..time }
}

fn stamp(value: &Value, ty: Option<&Type>) -> Option<(Moment, u32)> {
    let granularity = match ty {
        Some(Type::TimestampTz { fraction_digits } | Type::Timestamp { fraction_digits }) => {
            10_u32.saturating_pow(u32::from(6_u8.saturating_sub((*fraction_digits).min(6))))
        }
        _ => 1,
    };
    let at = match value {
        Value::TimestampTz(stamp) => stamp.to_micros(),
        Value::Timestamp(stamp) => stamp.at_offset(0).and_then(TimestampTz::to_micros),
        _ => None,
    }?;
    Some((Moment(at), granularity))
}

/// Records pushed off their keys that are remembered until the feed tells of their own new keys.
const MAX_DISPLACED: usize = 10_000;

/// Whose record an observation shows.
pub(crate) enum Owner {
    /// This link's.
    Link(LinkId),
    /// A stranger's.
    Nobody,
    /// It is an old sight of a record that has another key by now.
    Past,
    /// That cannot be told: it must be read.
    Unclear,
}

/// The version of the newest that is known of a member's record: what is pending, or the base.
fn known_version(desk: &Desk, id: LinkId, member: MemberIndex) -> Version {
    let Some(link) = desk.link(id) else { return Version::default() };
    let Some(side) = link.sides.get(member) else { return Version::default() };
    let pending =
        side.key.as_ref().and_then(|key| desk.slot(&address(link.sync, member, key))).and_then(|slot| slot.pending.as_ref());
    pending.map_or_else(|| side.version.clone(), |pending| pending.version.clone())
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

/// Reads one system's feeds until one is lost. Ends by telling the engine why.
async fn read_feeds(
    system: SystemName,
    connector: Arc<dyn Connector>,
    selections: Vec<Selection>,
    known: Vec<Feed>,
    events: mpsc::Sender<Event>,
    options: Options,
) {
    let report = |report| {
        let event = Event::Feed { system: system.clone(), report };
        async { events.send(event).await.is_ok() }
    };
    let feeds = match connector.prepare(&selections, &known).await {
        Ok(feeds) => feeds,
        Err(error) => {
            report(FeedReport::Lost(None, error)).await;
            return;
        }
    };
    if !report(FeedReport::Prepared(feeds.clone())).await {
        return;
    }
    let mut readers: futures_util::stream::FuturesUnordered<_> =
        feeds.iter().map(|feed| read_feed(&system, &connector, feed, &events, &options)).collect();
    if let Some((feed, error)) = futures_util::StreamExt::next(&mut readers).await {
        report(FeedReport::Lost(Some(feed), error)).await;
    }
}

/// Reads one feed until it fails.
async fn read_feed(
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
    if events.send(Event::Feed { system: system.clone(), report: FeedReport::Open(feed.name.clone()) }).await.is_err() {
        return (feed.name.clone(), gone());
    }
    let ahead = Arc::new(Semaphore::new(options.capture_ahead));
    loop {
        let Ok(permit) = Arc::clone(&ahead).acquire_owned().await else { return (feed.name.clone(), gone()) };
        let batch = match changes.next(options.capture).await {
            Ok(batch) => batch,
            Err(error) => return (feed.name.clone(), error),
        };
        let event = Event::Captured { system: system.clone(), feed: feed.name.clone(), batch, permit };
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

    fn start_system(&mut self, system: &SystemName) {
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
        self.feed_tasks.spawn(read_feeds(system.clone(), connector, selections, known, events, options));
    }

    pub(crate) async fn on_feed(&mut self, system: SystemName, report: FeedReport) -> Result<()> {
        match report {
            FeedReport::Prepared(feeds) => {
                for feed in feeds {
                    self.prepared(&system, feed);
                }
                self.mark_begun(&system);
            }
            FeedReport::Open(feed) => {
                if let Some(state) = self.feeds.get_mut(&(system, feed)) {
                    state.state = "reading".to_owned();
                    state.failures = 0;
                    state.retry_at = None;
                }
                self.ask_fences();
            }
            FeedReport::Lost(feed, error) => self.feed_lost(&system, feed, error),
        }
        Ok(())
    }

    fn prepared(&mut self, system: &SystemName, feed: Feed) {
        crate::failpoint::pass("prepared_before_durable");
        let key = (system.clone(), feed.name.clone());
        self.transaction.positions.push((system.clone(), feed.name.clone(), feed.position.clone()));
        let objects: Vec<&str> = feed.objects.iter().map(ObjectName::as_str).collect();
        self.transaction.settings.push((objects_setting(system, &feed.name), postcard::to_stdvec(&objects).ok()));
        let state = self.feeds.entry(key).or_insert_with(|| FeedState {
            position: feed.position.clone(),
            objects: Vec::new(),
            complete_from: Vec::new(),
            state: "connecting".to_owned(),
            idle: false,
            failures: 0,
            retry_at: None,
            health: crate::connector::FeedHealth::default(),
            lag: None,
            fence: Fence::None,
            absences: Vec::new(),
            deferred: Vec::new(),
            fences_passed: 0,
        });
        state.position = feed.position;
        state.objects = feed.objects;
        state.complete_from = feed.complete_from;
        state.idle = false;
        state.retry_at = None;
        // Whatever was asked of the old connection is asked again.
        if state.fence == Fence::Asked {
            state.fence = Fence::None;
        }
    }

    /// A sync has begun once the feeds of all its systems are there: from then on it needs no approval.
    fn mark_begun(&mut self, _system: &SystemName) {
        let prepared = self.feeds.iter().filter(|((_, name), state)| !name.as_str().is_empty() && !state.objects.is_empty());
        let ready: Vec<SystemName> = prepared.map(|((system, _), _)| system.clone()).collect();
        for sync in &mut self.syncs {
            let all = sync.rules.members.iter().all(|member| ready.contains(&member.system));
            if sync.approved && !sync.begun && all {
                sync.begun = true;
                self.transaction.settings.push((format!("begun/{}", sync.rules.id.0), Some(b"1".to_vec())));
            }
        }
    }

    fn feed_lost(&mut self, system: &SystemName, feed: Option<FeedName>, error: Error) {
        let now = self.now();
        self.drop_fences(system);
        tracing::warn!(%system, feed = feed.as_ref().map(FeedName::as_str), error = error.chain(), "feed lost");
        if error.code == Code::FeedGap {
            for sync in &mut self.syncs {
                if sync.rules.members.iter().any(|member| member.system == *system) {
                    sync.stopped = Some(error.clone());
                }
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
            let state = self.feeds.entry((system.clone(), name)).or_insert_with(unprepared);
            state.failures = state.failures.saturating_add(1);
            state.idle = false;
            let longest = min.saturating_mul(1 << state.failures.min(16)).min(max);
            let wait = error.retry_after.unwrap_or(longest / 2 + self.jitter.part_of(longest / 2));
            state.retry_at = (error.code != Code::FeedGap).then(|| now.plus(wait));
            state.state = match error.class() {
                Class::Stop => format!("stopped: {error}"),
                _ => format!("unreachable since {now}: {error}"),
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
            // A feed without a name stands for a system that was never prepared.
            self.feeds.remove(&(system.clone(), FeedName::from("")));
            self.start_system(&system);
        }
    }

    pub(crate) fn acknowledge(&mut self, system: SystemName, feed: FeedName, position: Position) {
        let Some(connector) = self.systems.get(&system).cloned() else { return };
        crate::failpoint::pass("durable_before_acknowledge");
        self.jobs.spawn(async move {
            if let Err(error) = connector.acknowledge(&feed, &position).await {
                // The next acknowledgement covers this one; a source that cannot be told is told later.
                tracing::debug!(%system, %feed, error = error.chain(), "acknowledgement failed");
            }
            Event::Done
        });
    }

    pub(crate) async fn on_captured(
        &mut self,
        system: SystemName,
        feed: FeedName,
        batch: Batch,
        permit: OwnedSemaphorePermit,
    ) -> Result<()> {
        crate::failpoint::pass("captured_before_durable");
        let now = self.now();
        let mut desk = self.desk();
        let Batch { events, position } = batch;
        let quiet = events.is_empty();
        let mut arrived: Vec<Incoming> = Vec::with_capacity(events.len());
        let mut lag = None;
        for event in events {
            match event {
                FeedEvent::Observed(observation) => {
                    lag = Some(now.since(observation.time.at));
                    self.receive(&system, observation, now, false, &mut arrived);
                }
                FeedEvent::Truncated { object, version, time } => {
                    // What came before the emptiness is taken in before it.
                    self.take_in_all(&mut desk, std::mem::take(&mut arrived)).await?;
                    self.decide_touched(&mut desk, false).await?;
                    desk.flush(&mut self.transaction);
                    self.commit();
                    desk = self.desk();
                    self.truncated(&system, &object, &version, time).await?;
                }
                FeedEvent::SchemaChanged(schema) => self.schema_changed(&system, &schema),
            }
        }
        self.take_in_all(&mut desk, arrived).await?;
        let middle = position.is_none() && !quiet;
        let key = (system.clone(), feed.clone());
        let deferred = match self.feeds.get_mut(&key) {
            Some(state) => {
                state.idle = quiet;
                state.state = if quiet { "idle" } else { "reading" }.to_owned();
                state.lag = if quiet { None } else { lag };
                if middle { Vec::new() } else { std::mem::take(&mut state.deferred) }
            }
            None => Vec::new(),
        };
        desk.load_links(&*self.store, deferred.clone()).await?;
        for link in deferred {
            desk.touch(link);
        }
        let left = self.decide_touched(&mut desk, middle).await?;
        if let Some(state) = self.feeds.get_mut(&key) {
            state.deferred.extend(left);
        }
        desk.flush(&mut self.transaction);
        if let Some(position) = position {
            self.advance(&key, position);
        }
        // What follows reads the store, which must know of this batch.
        self.commit();
        self.pass_fence(&system, &feed).await?;
        self.effects.push(Effect::Release(permit));
        Ok(())
    }

    /// Moves a feed's position, in the transaction that makes everything before it durable.
    fn advance(&mut self, key: &(SystemName, FeedName), position: Position) {
        let Some(state) = self.feeds.get_mut(key) else { return };
        if state.position == position {
            return;
        }
        state.position = position.clone();
        let (system, feed) = key.clone();
        self.transaction.positions.push((system.clone(), feed.clone(), position.clone()));
        self.effects.push(Effect::Acknowledge { system, feed, position });
    }

    /// Hands an observation to every sync that it concerns.
    pub(crate) fn receive(
        &mut self,
        system: &SystemName,
        observation: Observation,
        now: Moment,
        read: bool,
        arrived: &mut Vec<Incoming>,
    ) {
        for (index, sync) in self.syncs.iter_mut().enumerate() {
            if !sync.begun {
                continue;
            }
            for (member, rules) in sync.rules.members.iter().enumerate() {
                if rules.system == *system && rules.object == observation.object {
                    sync.meters.observed();
                    arrived.push(incoming(&sync.rules, index, member, observation.clone(), now, &self.store_id, read));
                }
            }
        }
    }

    /// Folds what arrived into what is pending, in the order of arrival.
    pub(crate) async fn take_in_all(&mut self, desk: &mut Desk, arrived: Vec<Incoming>) -> Result<()> {
        let addresses =
            arrived.iter().flat_map(|one| std::iter::once(one.address.clone()).chain(one.old_address.clone())).collect();
        desk.load(&*self.store, addresses).await?;
        for one in arrived {
            self.take_in(desk, one).await?;
        }
        Ok(())
    }

    async fn take_in(&mut self, desk: &mut Desk, one: Incoming) -> Result<()> {
        if !self.follow_key_change(desk, &one).await? || self.was_deleted_meanwhile(&one) {
            return Ok(());
        }
        match self.owner(desk, &one) {
            Owner::Link(link) => self.take_in_known(desk, link, one).await,
            Owner::Nobody => self.take_in_stranger(desk, one).await,
            Owner::Past => Ok(()),
            Owner::Unclear => {
                self.want_stranger(one.sync, one.address, one.pending.key);
                Ok(())
            }
        }
    }

    /// Whose record an observation shows. A key that a record has given up still points at its link, so that an old
    /// observation under it is known for what it is; a newer one is of another record that has taken the key.
    pub(crate) fn owner(&mut self, desk: &mut Desk, one: &Incoming) -> Owner {
        let Some(id) = desk.slot(&one.address).and_then(|slot| slot.link) else { return Owner::Nobody };
        let member = one.pending.member;
        let Some(link) = desk.link(id) else { return Owner::Link(id) };
        let now = link.sides.get(member).and_then(|side| side.key.as_ref()).map(|key| address(link.sync, member, key));
        if now.is_none_or(|now| now == one.address) {
            return Owner::Link(id);
        }
        match self.version_order(one, &known_version(desk, id, member)) {
            Some(Ordering::Greater) => {
                desk.set_link(&one.address, None, &mut self.transaction);
                Owner::Nobody
            }
            Some(_) => Owner::Past,
            None => Owner::Unclear,
        }
    }

    fn was_deleted_meanwhile(&self, one: &Incoming) -> bool {
        one.read && self.is_orphaned(one)
    }

    /// Whether a feed has told of the record's delete since the read that shows it began.
    pub(crate) fn is_orphaned(&self, one: &Incoming) -> bool {
        if crate::mutants::active("orphan_delete_forgotten") {
            return false;
        }
        let Some(connector) = self.connector(one.sync, one.pending.member) else { return false };
        self.orphans
            .version(&one.address)
            .is_some_and(|deleted| connector.compare(&one.pending.version, deleted) != Some(Ordering::Greater))
    }

    /// A changed key is a re-link: the link, and whatever is pending, moves to the new key.
    /// Says whether the observation is still news.
    async fn follow_key_change(&mut self, desk: &mut Desk, one: &Incoming) -> Result<bool> {
        let Some(old) = one.old_address.as_ref().filter(|old| **old != one.address) else { return Ok(true) };
        if crate::mutants::active("key_change_as_insert") {
            return Ok(true);
        }
        let Some(slot) = desk.slot(old).cloned() else { return Ok(true) };
        // A record that was pushed off its key a moment ago (two records that swap keys) is known by where it was.
        let displaced = self.displaced.get(old).copied();
        if let Some(id) = displaced.or(slot.link)
            && let Some(link) = desk.link(id).cloned()
        {
            let member = one.pending.member;
            if self.version_order(one, &known_version(desk, id, member)) != Some(Ordering::Greater) {
                return Ok(false);
            }
            self.displaced.remove(old);
            self.make_room(desk, id, &one.address).await?;
            self.carry_pending(desk, &link, member, &one.pending.key);
            // The old key goes on pointing here: see `owner`.
            desk.set_link(&one.address, Some(id), &mut self.transaction);
            let mut link = desk.link(id).cloned().unwrap_or(link);
            if let Some(side) = link.sides.get_mut(member) {
                side.key = Some(one.pending.key.clone());
            }
            desk.save(link);
            return Ok(true);
        }
        if let Some(mut pending) = slot.pending {
            desk.set_pending(old, None);
            if desk.slot(&one.address).is_some_and(|slot| slot.link.is_some()) {
                // The record is known under its new key by now: what waited under the old one is older than that.
                return self.forget_stranger(desk, one.sync, old).await.map(|()| true);
            }
            pending.key = one.pending.key.clone();
            desk.set_pending(&one.address, Some(pending));
            self.rename_unidentified(one.sync, old, &one.address);
        }
        Ok(true)
    }

    /// The record that held a key until another one took it: what is pending about it is decided now if it can be (it was
    /// deleted), and it is kept under a key that no record can have.
    async fn make_room(&mut self, desk: &mut Desk, newcomer: LinkId, there: &Address) -> Result<()> {
        let Some(holder) = desk.slot(there).and_then(|slot| slot.link).filter(|holder| *holder != newcomer) else {
            return Ok(());
        };
        let holds = |desk: &Desk| {
            let side = desk.link(holder).and_then(|link| link.sides.get(there.member));
            side.and_then(|side| side.key.as_ref()).is_some_and(|key| key.encode() == there.key)
        };
        if !holds(desk) {
            return Ok(());
        }
        self.decide_link(desk, holder, None).await?;
        let Some(mut link) = desk.link(holder).cloned().filter(|_| holds(desk)) else { return Ok(()) };
        let Some(Side { key: Some(key), .. }) = link.sides.get(there.member) else { return Ok(()) };
        let mut elsewhere = key.clone();
        elsewhere.0.push(Value::Text(format!("displaced record {}", holder.0)));
        self.carry_pending(desk, &link, there.member, &elsewhere);
        let hidden = address(link.sync, there.member, &elsewhere);
        desk.set_link(&hidden, Some(holder), &mut self.transaction);
        if let Some(side) = link.sides.get_mut(there.member) {
            side.key = Some(elsewhere);
        }
        desk.save(link);
        desk.touch(holder);
        if self.displaced.len() < MAX_DISPLACED {
            self.displaced.insert(there.clone(), holder);
        }
        Ok(())
    }

    /// What is pending about a side goes with it to its new key.
    pub(crate) fn carry_pending(&self, desk: &mut Desk, link: &Link, member: MemberIndex, to: &Key) {
        let Some(old) = link.sides.get(member).and_then(|side| side.key.as_ref()) else { return };
        let (from, there) = (address(link.sync, member, old), address(link.sync, member, to));
        if from == there {
            return;
        }
        if let Some(mut pending) = desk.slot(&from).and_then(|slot| slot.pending.clone()) {
            desk.set_pending(&from, None);
            pending.old_key.get_or_insert_with(|| old.clone());
            pending.key = to.clone();
            desk.set_pending(&there, Some(pending));
        }
    }

    fn version_order(&self, one: &Incoming, than: &Version) -> Option<Ordering> {
        if than.0.is_empty() {
            return Some(Ordering::Greater);
        }
        let order = self.connector(one.sync, one.pending.member)?.compare(&one.pending.version, than);
        if crate::mutants::active("stale_version_counts") && order == Some(Ordering::Less) {
            return Some(Ordering::Greater);
        }
        if crate::mutants::active("unknown_order_trusted") && order.is_none() {
            return Some(Ordering::Greater);
        }
        order
    }

    async fn take_in_known(&mut self, desk: &mut Desk, id: LinkId, one: Incoming) -> Result<()> {
        let member = one.pending.member;
        let Some(link) = desk.link(id) else { return Ok(()) };
        let Some(side) = link.sides.get(member) else { return Ok(()) };
        if let Some(flight) = one.echo_of.filter(|flight| side.flight == Some(*flight))
            && !crate::mutants::active("echo_not_settled")
        {
            return self.settle_echo(desk, id, flight, one).await;
        }
        let (standing, base_version) = (side.standing, side.version.clone());
        let known = side.base.clone();
        let older = desk.slot(&one.address).and_then(|slot| slot.pending.clone());
        let order = self.version_order(&one, older.as_ref().map_or(&base_version, |older| &older.version));
        let Some(rules) = self.rules(one.sync) else { return Ok(()) };
        if !one.read && !matches!(self.version_order(&one, &base_version), Some(Ordering::Greater) | None) {
            let mut refined = link.clone();
            if refine_agreed(&rules, &mut refined, &one.pending) {
                desk.save(refined);
                desk.touch(id);
            }
        }
        let incomplete = rules
            .fields
            .iter()
            .zip(&known)
            .any(|(field, cell)| cell.is_none() && field.members.get(member).is_some_and(Option::is_some));
        let newly_gone = matches!(one.pending.shown, Shown::Gone { .. })
            && standing == Standing::Present
            && one.echo_of.is_none()
            && !older.as_ref().is_some_and(|older| matches!(older.shown, Shown::Gone { .. }));
        match older {
            None => match order {
                Some(Ordering::Greater) => desk.set_pending(&one.address, Some(one.pending)),
                // The same state, read in full where not all of it was known.
                Some(Ordering::Equal) if one.read && incomplete => desk.set_pending(&one.address, Some(one.pending)),
                Some(_) => return Ok(()),
                None => {
                    self.want_read(one.sync, member, id);
                    return Ok(());
                }
            },
            Some(mut older) => match fold(&rules, Some(older.clone()), one.pending.clone(), order) {
                Folded::Into(folded) => desk.set_pending(&one.address, Some(*folded)),
                Folded::Dropped => {
                    if refine_times(&rules, &mut older, &one.pending) {
                        desk.set_pending(&one.address, Some(older));
                    }
                }
                Folded::Unordered => {
                    self.want_read(one.sync, member, id);
                    return Ok(());
                }
            },
        }
        if newly_gone {
            self.count_delete(one.sync, member);
        }
        desk.touch(id);
        Ok(())
    }

    async fn take_in_stranger(&mut self, desk: &mut Desk, one: Incoming) -> Result<()> {
        if let Some(flight) = one.echo_of
            && let Some(id) = self.created_by(desk, flight, &one).await?
        {
            desk.set_link(&one.address, Some(id), &mut self.transaction);
            return self.settle_echo(desk, id, flight, one).await;
        }
        let older = desk.slot(&one.address).and_then(|slot| slot.pending.clone());
        if matches!(one.pending.shown, Shown::Gone { .. }) {
            let newer = older.as_ref().is_none_or(|older| self.version_order(&one, &older.version) != Some(Ordering::Less));
            if newer {
                self.orphans.remember(one.address.clone(), one.pending.version.clone());
                desk.set_pending(&one.address, None);
                self.forget_stranger(desk, one.sync, &one.address).await?;
            }
            return Ok(());
        }
        let order = older.as_ref().map_or(Some(Ordering::Greater), |older| self.version_order(&one, &older.version));
        let Some(rules) = self.rules(one.sync) else { return Ok(()) };
        let folded = match fold(&rules, older, one.pending.clone(), order) {
            Folded::Into(folded) => *folded,
            Folded::Dropped => return Ok(()),
            // Two sights of a stranger that cannot be ordered: it is read by its key when it is looked for.
            Folded::Unordered => one.pending,
        };
        desk.set_pending(&one.address, Some(folded));
        self.unidentified(one.sync, one.address);
        Ok(())
    }

    /// A new schema of an object: taken over where every mapped field is as it was; otherwise the object's syncs stop,
    /// with their observations kept.
    fn schema_changed(&mut self, system: &SystemName, schema: &Schema) {
        for sync in &mut self.syncs {
            for member in 0..sync.rules.members.len() {
                let concerned =
                    sync.rules.members.get(member).is_some_and(|rules| rules.system == *system && rules.object == schema.object);
                if !concerned {
                    continue;
                }
                match drift(&sync.rules, member, schema) {
                    Some(what) => {
                        let error = Error::new(Code::SchemaDrift, what).at(format!("{system} {}", schema.object));
                        tracing::warn!(sync = sync.rules.name.as_str(), %error, "schema drift");
                        sync.stopped.get_or_insert(error);
                        sync.drifted = true;
                        self.transaction.settings.push((drift_setting(sync.rules.id.0), Some(b"1".to_vec())));
                    }
                    None => adopt_schema(Arc::make_mut(&mut sync.rules), member, schema),
                }
            }
        }
    }
}

/// The setting that says that changes of a sync went by in a schema that could not tell them.
pub(crate) fn drift_setting(sync: u32) -> String {
    format!("drifted/{sync}")
}

async fn stored_feeds(store: &dyn crate::store::Store, system: &SystemName) -> Result<Vec<Feed>> {
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
fn objects_setting(system: &SystemName, feed: &FeedName) -> String {
    format!("feed/{system}/{feed}/objects")
}

/// Stands for a system that was never prepared, so that its state can be shown and its retry timed.
fn unprepared() -> FeedState {
    FeedState {
        position: Position::default(),
        objects: Vec::new(),
        complete_from: Vec::new(),
        state: "connecting".to_owned(),
        idle: false,
        failures: 0,
        retry_at: None,
        health: crate::connector::FeedHealth::default(),
        lag: None,
        fence: Fence::None,
        absences: Vec::new(),
        deferred: Vec::new(),
        fences_passed: 0,
    }
}

/// What about a new schema breaks a member's mapping, if anything does.
fn drift(rules: &SyncRules, member: MemberIndex, schema: &Schema) -> Option<String> {
    let known = &rules.members.get(member)?.schema;
    if known.key != schema.key {
        return Some(format!("the key of {} is now ({})", schema.object, join(&schema.key)));
    }
    rules.fields.iter().filter_map(|field| field.members.get(member)?.as_ref()).find_map(|at| {
        match schema.field(at.name.as_str()) {
            None => Some(format!("the mapped field {} of {} is gone or renamed", at.name, schema.object)),
            Some(field) => match (&at.ty, &field.ty) {
                (Type::Enum { .. }, Type::Enum { .. }) => None,
                (old, new) if old == new => None,
                _ => Some(format!(
                    "the mapped field {} of {} was {} and is now {}",
                    at.name, schema.object, at.native_type, field.native_type
                )),
            },
        }
    })
}

fn adopt_schema(rules: &mut SyncRules, member: MemberIndex, schema: &Schema) {
    for field in &mut rules.fields {
        let Some(Some(at)) = field.members.get_mut(member) else { continue };
        if let Some(new) = schema.field(at.name.as_str()) {
            at.ty = new.ty.clone();
        }
    }
    if let Some(member) = rules.members.get_mut(member) {
        member.schema = schema.clone();
    }
}

fn join(names: &[FieldName]) -> String {
    names.iter().map(FieldName::as_str).collect::<Vec<_>>().join(", ")
}
