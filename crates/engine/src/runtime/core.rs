//! The desk at which every change passes: one task takes events in, decides, and hands out transactions and jobs. It
//! waits for nothing but the store; whatever speaks to a system is a job of its own that answers with an event. What a
//! job does to the outside world begins only when the transaction that says so is durable.

use super::airborne::Airborne;
use super::command::Command;
use super::desk::{Desk, Layouts};
use super::jitter::Jitter;
use super::memory::Memory;
use super::reads::Wanted;
use super::status::Status;
use super::{Approvals, Options, Setup};
use crate::apply::Launch;
use crate::capture::{FeedReport, FeedState, Told};
use crate::change::Position;
use crate::clock::{Clock, Moment};
use crate::connector::{Batch, Chunk, Connector, FeedHealth, Presence, WriteResult};
use crate::doubt::LookedUp;
use crate::error::{Code, Error, Result};
use crate::flight::Flight;
use crate::identify::{Candidates, Find, Unidentified};
use crate::link::{FlightId, LinkId, MemberIndex, ReviewId, SyncId};
use crate::monitor::Meters;
use crate::record::{FeedName, Key, SystemName};
use crate::rules::{MemberRules, SyncRules};
use crate::store::{Address, Transaction};
use futures_util::stream::{FuturesOrdered, StreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Something that happened.
pub(crate) enum Event {
    /// A feed was prepared, opened or lost.
    Feed { system: SystemName, report: FeedReport },
    /// A feed brought events.
    Captured { system: SystemName, feed: FeedName, batch: Batch, waits: Option<Error>, permit: OwnedSemaphorePermit },
    /// A flight came back.
    Applied { flight: FlightId, result: Result<Vec<WriteResult>> },
    /// Records were read.
    Read { sync: usize, member: MemberIndex, asked: Vec<Wanted>, generation: u64, result: Result<Vec<Presence>> },
    /// Strangers were looked for at the other members.
    Found { find: Find, generation: u64, result: Result<Candidates> },
    /// A piece of a snapshot.
    Chunked { sync: usize, member: MemberIndex, epoch: u64, generation: u64, result: Result<Chunk> },
    /// What the records show that were written by a flight of which the feed proves nothing.
    Verified { flight: FlightId, result: Result<LookedUp> },
    /// Records of a member that may have gone back in time were read.
    Rewound { sync: usize, member: MemberIndex, asked: Vec<(LinkId, Key)>, result: Result<Vec<Presence>> },
    /// It was looked who has values that must be unique.
    Looked { sync: usize, asked: Vec<crate::unique::Look>, result: crate::unique::Looked },
    /// The next records that were decided under an old mapping.
    Remap { sync: usize },
    /// A fence for flights of unknown outcome.
    Fenced { system: SystemName, feed: FeedName, result: Result<Position> },
    /// How a feed does.
    Health { system: SystemName, feed: FeedName, result: Result<FeedHealth> },
    /// The source was told how far a feed is durable, or could not be told.
    Acknowledged { system: SystemName, feed: FeedName },
}

/// What is to be done once a transaction is durable.
pub(crate) enum Effect {
    /// Tell the source, and let the feed go on.
    Acknowledge { system: SystemName, feed: FeedName, position: Position },
    /// Hand a captured batch's place back to its feed.
    Release(OwnedSemaphorePermit),
    /// Write.
    Launch(Launch),
    /// Answer a person.
    Answer(tokio::sync::oneshot::Sender<Result<String>>, Result<String>),
}

/// A sync while it runs.
pub(crate) struct SyncState {
    pub rules: Arc<SyncRules>,
    pub paused: bool,
    /// Until when changes are only recorded, where they are not carried as they happen.
    pub shut_until: Option<Moment>,
    /// Why it stopped, if it did, and (`standstill`) which failed write stopped it until a person lets it go on.
    pub stopped: Option<Error>,
    pub standstill: Option<Error>,
    /// Whether an object of it had a schema that changes could not be told in: they are read again before it goes on.
    pub drifted: Option<crate::capture::Lost>,
    /// Whether its first load may run (approved, or begun before).
    pub approved: bool,
    pub begun: bool,
    /// When it did, where that was kept.
    pub begun_at: Option<Moment>,
    /// When everything had been read, since it last was to be.
    pub read_at: Option<Moment>,
    pub members: Vec<MemberState>,
    /// Members that may have gone back in time: nothing is decided until that is cleared up.
    pub rewound: BTreeMap<MemberIndex, crate::rewound::Rewound>,
    pub unidentified: Unidentified,
    /// Flights below this one may have been told of while this sync was left out.
    pub proven_from: u64,
    /// Links that wait for a person.
    pub parked: super::bounds::Parked,
    /// What was left in the store for want of room.
    pub spill: super::bounds::Spill,
    pub looks: crate::unique::Looks,
    /// Links that wait for records that they refer to.
    pub waiting: super::referring::Waiting,
    pub meters: Meters,
    /// Fields that came and that no mapping names.
    pub offers: crate::offer::Offers,
    /// The last record that was looked at since the mapping changed; `None` when all have been.
    pub remapping: Option<LinkId>,
    pub remapping_runs: bool,
}

/// A member while its sync runs.
#[derive(Default)]
pub(crate) struct MemberState {
    /// Flights under way.
    pub flying: usize,
    /// Those of them that a first load has filled.
    pub loads_flying: usize,
    /// Failed calls in a row.
    pub failures: u32,
    /// Not to be written before.
    pub retry_at: Option<Moment>,
    /// Since when and why it cannot be reached.
    pub down: Option<(Moment, Error)>,
    /// Whether the list of debts may hold rows.
    pub maybe_owing: bool,
    /// Records to be read.
    pub to_read: BTreeMap<Address, Wanted>,
    /// Whether a read is under way.
    pub reading: bool,
    pub load: crate::backfill::Load,
    pub guard: crate::guard::Guard,
    /// What its feed had told of when the sync began.
    pub before: crate::capture::Before,
}

type DurableFuture = Pin<Box<dyn Future<Output = (Result<()>, Vec<Effect>)> + Send>>;

/// The longest that a busy engine goes without a new status.
const STATUS_DELAY_MAX: Duration = Duration::from_secs(1);

/// The engine's one deciding task.
pub(crate) struct Core {
    pub syncs: Vec<SyncState>,
    pub systems: BTreeMap<SystemName, Arc<dyn Connector>>,
    pub feeds: BTreeMap<(SystemName, FeedName), FeedState>,
    pub store: Memory,
    pub clock: Arc<dyn Clock>,
    pub options: Options,
    approvals: Approvals,
    /// Every layout of every sync.
    pub layouts: Arc<Layouts>,
    /// The store's random id, which our marks carry.
    pub store_id: String,
    pub next_link: u64,
    pub next_flight: u64,
    pub reviews: super::ReviewNumbers,
    pub jitter: Jitter,
    /// In which of its lives each system is; those without an accepted gap are in their first.
    pub lives: BTreeMap<SystemName, crate::capture::Life>,
    /// Flights that have not come back or whose outcome is in doubt.
    pub flights: BTreeMap<FlightId, Airborne>,
    /// Links whose records were pushed off these keys by others, until the feed tells where they went.
    pub displaced: BTreeMap<Address, LinkId>,
    /// Links being read: their observations wait for the answer.
    pub reading: BTreeSet<LinkId>,
    /// Links whose records are to be read, not yet handed to their members.
    pub wanted_links: BTreeMap<(usize, MemberIndex), BTreeSet<LinkId>>,
    /// Records that must be read before anything is believed of them, also after a crash.
    pub unread: BTreeSet<(SyncId, MemberIndex, super::reads::Unread)>,
    /// Creates of which only a person can tell whether they were made.
    pub unproven: crate::identify::Creates,
    /// What creates gave of which it is not known whether they took effect.
    pub sent: crate::identify::Creates,
    /// Links to be read once what is being written to a member is settled.
    pub after_flight: BTreeSet<(LinkId, MemberIndex)>,
    /// Whether the store holds more of these than there was room for.
    pub more_unread: bool,
    /// Links whose record at a member cannot be read: not tried again before the record changes or a person says so. Not
    /// durable: after a start it is tried once more.
    pub unreadable_links: BTreeSet<(LinkId, MemberIndex)>,
    /// What feeds told of records that are being read instead.
    pub told: Told,
    /// Links that wait for a time.
    pub waits: BTreeMap<(Moment, LinkId), usize>,
    /// Strangers that wait for a person, with the review item.
    pub parked: BTreeMap<Address, ReviewId>,
    /// What people decided about links that could not follow it yet.
    pub rulings: super::rulings::Noted,
    /// Deletes of strangers, while a read that may have seen them is under way.
    pub orphans: crate::capture::Orphans,
    /// What links may have waited for that refer to others.
    pub woken: super::referring::Woken,
    /// Echoes that will tell nothing.
    pub echoes: crate::capture::Echoes,
    /// Feeds whose positions have moved since they were last made durable.
    pub advanced: BTreeSet<(SystemName, FeedName)>,
    /// Until when writes to a member are gathered, the calls of its system being short.
    pub gathers_until: BTreeMap<(usize, MemberIndex), Moment>,
    /// What the present event makes durable.
    pub transaction: Transaction,
    /// What follows when it is.
    pub effects: Vec<Effect>,
    /// Flights being filled by the present event.
    pub loading: BTreeMap<crate::apply::Seats, Vec<Flight>>,
    pub jobs: JoinSet<Event>,
    pub feed_tasks: JoinSet<()>,
    /// The task that reads each system that is being read.
    pub readers: BTreeMap<SystemName, crate::capture::Reader>,
    pub events: mpsc::Sender<Event>,
    inbox: mpsc::Receiver<Event>,
    requests: mpsc::Receiver<Command>,
    pub publish: watch::Sender<Status>,
    pub(super) durable: FuturesOrdered<DurableFuture>,
    pub last_health: Option<Moment>,
    pub last_tick: Moment,
    pub last_status: Option<Moment>,
    pub saturated_since: Option<Moment>,
    /// Whether nothing is begun any more.
    pub stopping: bool,
}

impl Core {
    pub fn new(setup: Setup, requests: mpsc::Receiver<Command>, publish: watch::Sender<Status>) -> Core {
        let (events, inbox) = mpsc::channel(256);
        let started = setup.clock.now();
        let syncs = setup.syncs.into_iter().map(|rules| SyncState {
            members: rules.members.iter().map(|_| MemberState { maybe_owing: true, ..MemberState::default() }).collect(),
            rules: Arc::new(rules),
            paused: false,
            shut_until: None,
            stopped: None,
            standstill: None,
            drifted: None,
            approved: false,
            begun: false,
            begun_at: None,
            read_at: None,
            rewound: BTreeMap::new(),
            unidentified: Unidentified::default(),
            proven_from: 0,
            parked: super::bounds::Parked::default(),
            spill: super::bounds::Spill::default(),
            looks: crate::unique::Looks::default(),
            waiting: super::referring::Waiting::default(),
            meters: Meters::new(started),
            offers: crate::offer::Offers::default(),
            remapping: None,
            remapping_runs: false,
        });
        Core {
            syncs: syncs.collect(),
            systems: setup.systems.into_iter().collect(),
            feeds: BTreeMap::new(),
            store: Memory::new(setup.store, setup.options.memory_bytes),
            clock: setup.clock,
            jitter: Jitter::new(setup.options.jitter_seed),
            lives: BTreeMap::new(),
            options: setup.options,
            approvals: setup.approvals,
            layouts: Arc::new(Layouts::new()),
            store_id: String::new(),
            next_link: 1,
            next_flight: 1,
            reviews: setup.reviews,
            flights: BTreeMap::new(),
            displaced: BTreeMap::new(),
            reading: BTreeSet::new(),
            wanted_links: BTreeMap::new(),
            unread: BTreeSet::new(),
            unproven: crate::identify::Creates::new("unproven/"),
            sent: crate::identify::Creates::new("sent/"),
            after_flight: BTreeSet::new(),
            more_unread: false,
            unreadable_links: BTreeSet::new(),
            told: Told::default(),
            waits: BTreeMap::new(),
            parked: BTreeMap::new(),
            rulings: super::rulings::Noted::new(),
            orphans: crate::capture::Orphans::default(),
            woken: super::referring::Woken::default(),
            echoes: crate::capture::Echoes::default(),
            advanced: BTreeSet::new(),
            gathers_until: BTreeMap::new(),
            transaction: Transaction::default(),
            effects: Vec::new(),
            loading: BTreeMap::new(),
            jobs: JoinSet::new(),
            feed_tasks: JoinSet::new(),
            readers: BTreeMap::new(),
            events,
            inbox,
            requests,
            publish,
            durable: FuturesOrdered::new(),
            last_health: None,
            last_tick: started,
            last_status: None,
            saturated_since: None,
            stopping: false,
        }
    }

    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    pub async fn run(mut self, shutdown: CancellationToken) -> Result<()> {
        self.restore().await?;
        self.start_feeds();
        let mut tick = tokio::time::interval(self.options.tick);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let accepting = !self.is_saturated();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some((result, effects)) = self.durable.next(), if !self.durable.is_empty() => {
                    result?;
                    crate::failpoint::pass("settled_durable");
                    self.carry_out(effects);
                }
                Some(joined) = self.jobs.join_next(), if !self.jobs.is_empty() => {
                    let event = joined.map_err(|error| Error::new(Code::Internal, "a task ended abnormally").because(error))?;
                    self.handle(event).await?;
                }
                Some(command) = self.requests.recv() => self.handle_command(command).await?,
                // Before the feeds, which may always have more: housekeeping limits itself.
                _ = tick.tick() => {
                    if self.housekeeping().await? {
                        break;
                    }
                }
                Some(event) = self.inbox.recv(), if accepting => self.handle(event).await?,
            }
        }
        self.stop().await
    }

    /// Whether a healthy target has all the flights that it may have: then capture is held back for a moment, which costs
    /// less than taking every debt to the store and back. A target that is down holds nothing back.
    fn is_saturated(&mut self) -> bool {
        let full = self
            .syncs
            .iter()
            .any(|sync| sync.members.iter().any(|member| member.down.is_none() && member.flying >= sync.rules.parallelism));
        if !full {
            self.saturated_since = None;
            return false;
        }
        let now = self.now();
        // Counted from the last flight that came back soon: a quick target is worth waiting for.
        let since = *self.saturated_since.get_or_insert(now);
        now.since(since) < self.options.saturation_patience
    }

    pub(super) async fn handle(&mut self, event: Event) -> Result<()> {
        self.watch_the_clock(self.now());
        match event {
            Event::Feed { system, report } => self.on_feed(system, report).await?,
            Event::Captured { system, feed, batch, waits, permit } => {
                self.on_captured(system, feed, batch, waits, permit).await?
            }
            Event::Applied { flight, result } => self.on_applied(flight, result).await?,
            Event::Read { sync, member, asked, generation, result } => {
                self.on_read(sync, member, asked, generation, result).await?
            }
            Event::Found { find, generation, result } => self.on_found(find, generation, result).await?,
            Event::Chunked { sync, member, epoch, generation, result } => {
                self.on_chunked(sync, member, epoch, generation, result).await?
            }
            Event::Verified { flight, result } => self.on_verified(flight, result).await?,
            Event::Rewound { sync, member, asked, result } => self.on_rewound(sync, member, asked, result).await?,
            Event::Looked { sync, asked, result } => self.on_looked(sync, asked, result).await?,
            Event::Remap { sync } => self.on_remap(sync).await?,
            Event::Fenced { system, feed, result } => self.on_fenced(system, feed, result).await?,
            Event::Health { system, feed, result } => self.on_health(&system, &feed, result),
            Event::Acknowledged { system, feed } => {
                self.acknowledged(&system, &feed);
                return Ok(());
            }
        }
        self.commit();
        self.start_jobs().await
    }

    /// Makes durable what the present event decided; its effects follow when it is.
    pub fn commit(&mut self) {
        self.take_off();
        self.notice_arrivals();
        self.keep_counts();
        if !self.transaction.is_empty() {
            self.take_positions();
        }
        let transaction = std::mem::take(&mut self.transaction);
        let effects = std::mem::take(&mut self.effects);
        if transaction.is_empty() && effects.is_empty() {
            return;
        }
        // With nothing to make durable, what follows waits for what came before, and not for the disk.
        if transaction.is_empty() {
            self.durable.push_back(Box::pin(async move { (Ok(()), effects) }));
            return;
        }
        if crate::mutants::active("acknowledged_before_durable") {
            let early: Vec<Effect> = effects;
            let receiver = self.store.submit(transaction);
            self.carry_out(early);
            self.durable.push_back(Box::pin(async move { (receiver.await.unwrap_or_else(|_| Err(lost_store())), Vec::new()) }));
            return;
        }
        let receiver = self.store.submit(transaction);
        self.durable.push_back(Box::pin(async move { (receiver.await.unwrap_or_else(|_| Err(lost_store())), effects) }));
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Acknowledge { system, feed, position } => self.acknowledge(system, feed, position),
                Effect::Release(permit) => drop(permit),
                Effect::Launch(launch) => self.launch(launch),
                Effect::Answer(to, answer) => {
                    // Whoever asked may have gone; what was asked is done all the same.
                    let _ = to.send(answer);
                }
            }
        }
    }

    /// Starts whatever jobs have become possible.
    pub async fn start_jobs(&mut self) -> Result<()> {
        if self.stopping {
            return Ok(());
        }
        self.wake_the_waiting().await?;
        self.start_reads().await?;
        self.start_finds().await?;
        self.start_looks();
        self.start_rewound().await?;
        self.start_chunks();
        self.start_remapping();
        Ok(())
    }

    async fn housekeeping(&mut self) -> Result<bool> {
        let now = self.now();
        self.watch_the_clock(now);
        self.restart_feeds(now);
        self.ask_fences();
        self.wake_waiting(now).await?;
        self.take_up_wishes().await?;
        self.take_up_spilled().await?;
        self.look_at_all_waiting().await?;
        self.pay_debts(now).await?;
        self.take_positions();
        self.commit();
        self.start_jobs().await?;
        if self.last_health.is_none_or(|last| now.since(last) >= self.options.health_interval) {
            self.last_health = Some(now);
            self.ask_health();
        }
        // A status looks into the store, and waits while events do, but not for long.
        if !self.inbox.is_empty() && self.last_status.is_some_and(|last| now.since(last) < STATUS_DELAY_MAX) {
            return Ok(false);
        }
        self.last_status = Some(now);
        self.publish_status().await?;
        if self.options.once && self.once_is_over() {
            return Ok(true);
        }
        self.turn_the_hours(now).await?;
        self.commit();
        self.start_jobs().await?;
        Ok(false)
    }

    /// Whether nothing was left to do for a sync when its status was last published.
    pub(crate) fn is_level_now(&self, sync: usize) -> bool {
        self.publish.borrow().syncs.get(sync).is_some_and(|sync| sync.level)
    }

    pub(super) async fn publish_status(&mut self) -> Result<()> {
        let status = self.make_status().await?;
        self.publish.send_replace(status);
        Ok(())
    }

    pub fn rules(&self, sync: usize) -> Option<Arc<SyncRules>> {
        self.syncs.get(sync).map(|sync| Arc::clone(&sync.rules))
    }

    pub fn member_rules(&self, sync: usize, member: MemberIndex) -> Option<&MemberRules> {
        self.syncs.get(sync)?.rules.members.get(member)
    }

    pub fn member(&mut self, sync: usize, member: MemberIndex) -> Option<&mut MemberState> {
        self.syncs.get_mut(sync)?.members.get_mut(member)
    }

    pub fn connector(&self, sync: usize, member: MemberIndex) -> Option<Arc<dyn Connector>> {
        let system = &self.member_rules(sync, member)?.system;
        self.systems.get(system).cloned()
    }

    pub fn sync_of(&self, id: SyncId) -> Option<usize> {
        self.syncs.iter().position(|sync| sync.rules.id == id)
    }

    /// A desk for the present event.
    pub fn desk(&self) -> Desk {
        Desk::new(Arc::clone(&self.layouts))
    }

    async fn restore(&mut self) -> Result<()> {
        let identity = self.store.identity().await?;
        self.store_id = identity.store;
        self.next_link = identity.last_link.saturating_add(1);
        self.next_flight = identity.last_flight.saturating_add(1);
        self.reviews.go_on_behind(identity.last_review);
        self.restore_lives().await?;
        self.restore_layouts().await?;
        self.restore_feeds().await?;
        for sync in 0..self.syncs.len() {
            self.restore_sync(sync).await?;
        }
        self.read_what_was_not_recorded().await?;
        self.restore_flights().await?;
        self.restore_displaced().await?;
        self.unproven.restore(&*self.store).await?;
        self.sent.restore(&*self.store).await?;
        self.restore_rulings().await?;
        self.restore_wishes().await?;
        for sync in 0..self.syncs.len() {
            self.restore_reviews(sync).await?;
            self.catch_up_with_people(sync).await?;
            self.restore_pending(sync).await?;
        }
        self.commit();
        self.start_jobs().await
    }

    async fn restore_sync(&mut self, sync: usize) -> Result<()> {
        let Some(state) = self.syncs.get(sync) else { return Ok(()) };
        let id = state.rules.id.0;
        let approved = self.approvals.includes(&state.rules.name);
        let begun_at = self.store.setting(&format!("begun/{id}")).await?;
        let begun = begun_at.is_some();
        let paused = self.store.setting(&format!("paused/{id}")).await?.is_some();
        if let Some(state) = self.syncs.get_mut(sync) {
            state.begun = begun;
            state.begun_at = begun_at.and_then(|bytes| Some(Moment(i64::from_be_bytes(bytes.try_into().ok()?))));
            state.approved = begun || approved;
            state.paused = paused;
        }
        self.restore_proven(sync).await?;
        self.restore_before_beginning(sync).await?;
        self.forget_versions(sync).await?;
        self.open_or_shut(sync).await?;
        self.restore_loads(sync).await?;
        self.restore_remapping(sync).await?;
        self.restore_standstill(sync).await?;
        self.restore_rewound(sync).await?;
        self.read_new_fields(sync).await?;
        self.restore_drift(sync).await?;
        self.restore_offers(sync).await?;
        self.restore_guards(sync).await
    }
}

fn lost_store() -> Error {
    Error::new(Code::StoreFailed, "the store stopped before it answered")
}
