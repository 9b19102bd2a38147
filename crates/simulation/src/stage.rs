//! A world set up: its systems with their contents, the store, the clock and the trace; and the engine on it, started
//! and killed at will. What happens on the stage is said by `run` (from a seed) or by a scripted test.

use crate::checker::{Evidence, Violation, check};
use crate::clock::VirtualClock;
use crate::connector::FEED;
use crate::database::{Author, Database, Draft, KeyKind};
use crate::faults::Faults;
use crate::person::Answer;
use crate::random::Random;
use crate::store::{Durable, MemoryStore};
use crate::system::System;
use crate::trace::Trace;
use crate::users::{fresh, identity};
use crate::world::{DeleteRule, Purpose, World};
use concord_engine::change::Position;
use concord_engine::clock::Clock;
use concord_engine::connector::Connector;
use concord_engine::error::{Code, Error, Result};
use concord_engine::ledger::LedgerRow;
use concord_engine::link::{LinkId, SyncId};
use concord_engine::record::{FeedName, Key, Record, SystemName};
use concord_engine::review::Subject;
use concord_engine::runtime::command::{Command, Request};
use concord_engine::runtime::status::Status;
use concord_engine::runtime::{Approvals, Handle, Options, ReviewNumbers, Setup, engine};
use concord_engine::store::LedgerQuery;
use concord_engine::value::Value;
use futures_util::future::join_all;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long the engine may take to become level once nothing goes wrong any more.
const LEVEL_WITHIN: Duration = Duration::from_secs(300);
/// How long it must then stay level, with nothing written.
const LEVEL_FOR: Duration = Duration::from_secs(3);

/// More steps in one life of the engine are a circle.
const STEPS_MAX: u64 = 300_000;
/// A longer trace is a circle.
const LINES_MAX: usize = 20_000;

/// A world set up.
pub struct Stage {
    /// The world.
    pub world: World,
    /// The clock.
    pub clock: VirtualClock,
    /// The trace.
    pub trace: Trace,
    /// The systems, in the order of the members.
    pub systems: Vec<Arc<System>>,
    /// The store.
    pub store: Arc<dyn Durable>,
    /// What a person has said about review items.
    pub answers: RefCell<Vec<Answer>>,
    /// What was found wrong on the way.
    pub(crate) wrong: RefCell<Vec<Violation>>,
    handle: RefCell<Option<Handle>>,
    lives: Cell<u64>,
}

/// When a life of the engine is cut short.
#[derive(Clone, Copy, Debug)]
pub struct Kill {
    /// Not before.
    pub after: Duration,
    /// Not before a write of the engine's has taken effect since then: what it was told of it, it has not yet taken in.
    pub at_write: bool,
    /// So many steps later.
    pub polls: u64,
}

/// How a life of the engine ended.
pub enum End {
    /// It was killed.
    Killed,
    /// It returned on its own.
    Returned(Result<()>),
}

impl Stage {
    /// Sets a world up, with a store in memory. Must be called inside the paused runtime.
    pub fn new(world: World) -> Stage {
        let store = MemoryStore::new(Random::fork(world.seed, "store"), world.fsync_ms_max);
        Stage::with_store(world, Arc::new(store))
    }

    /// Sets a world up on a store. Must be called inside the paused runtime.
    pub fn with_store(world: World, store: Arc<dyn Durable>) -> Stage {
        let clock = VirtualClock::begin();
        let trace = Trace::new(clock);
        for line in crate::describe::world(&world) {
            trace.note("world", &line);
        }
        let systems = (0..world.members.len()).map(|member| system(&world, member, clock, &trace)).collect();
        Stage {
            world,
            clock,
            trace,
            systems,
            store,
            answers: RefCell::default(),
            wrong: RefCell::default(),
            handle: RefCell::new(None),
            lives: Cell::new(0),
        }
    }

    /// Everything that happens by itself: the store's fsyncs, workflows, sessions that outlived their client.
    pub async fn drive(&self) {
        let systems = join_all(self.systems.iter().map(|system| system.drive()));
        tokio::join!(systems, self.store.drive());
    }

    /// The member's system.
    pub fn system(&self, member: usize) -> Option<&Arc<System>> {
        self.systems.get(member)
    }

    /// One life of the engine: until it returns, or is killed between two of its steps.
    pub async fn live(&self, kill: Option<Kill>) -> End {
        // Rules that name a column which is gone cannot be proven: until it is there again nothing runs.
        while crate::drift::lacks_a_column(self) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let shutdown = CancellationToken::new();
        let setup = match self.setup().await {
            Ok(setup) => setup,
            Err(error) => return End::Returned(Err(error)),
        };
        let (handle, engine) = engine(setup);
        *self.handle.borrow_mut() = Some(handle);
        self.trace.note("engine", "starts");
        let end = {
            let mut running = Box::pin(engine.run(shutdown));
            let mut polls = kill.map_or(0, |kill| kill.polls);
            let mut steps = 0_u64;
            let mut written: Option<u64> = None;
            let mut timer = pin!(tokio::time::sleep(kill.map_or(Duration::MAX, |kill| kill.after)));
            std::future::poll_fn(|context| {
                // The timer says when, a write perhaps, the polls which step.
                if let Some(kill) = kill
                    && (written.is_some() || timer.as_mut().poll(context).is_ready())
                    && (!kill.at_write || self.written() > *written.get_or_insert_with(|| self.written()))
                {
                    if polls == 0 {
                        return Poll::Ready(End::Killed);
                    }
                    polls -= 1;
                }
                steps += 1;
                if steps > STEPS_MAX || self.trace.len() > LINES_MAX {
                    let what = format!("{steps} steps, {} lines of trace: it goes round in circles", self.trace.len());
                    return Poll::Ready(End::Returned(Err(Error::new(Code::Internal, what))));
                }
                running.as_mut().poll(context).map(End::Returned)
            })
            .await
        };
        *self.handle.borrow_mut() = None;
        self.store.crash();
        // Tasks of the engine that were aborted are dropped when the runtime comes by.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        match &end {
            End::Killed => self.trace.note("engine", "KILLED"),
            End::Returned(result) => self.trace.note("engine", &format!("returns {result:?}")),
        }
        end
    }

    async fn setup(&self) -> Result<Setup> {
        let id = self.store.sync_id("people").await?;
        let lives = self.lives.get() + 1;
        self.lives.set(lives);
        let systems = self.systems.iter().map(|system| {
            let connector: Arc<dyn Connector> = Arc::<System>::clone(system);
            (system.name.clone(), connector)
        });
        let store: Arc<dyn Durable> = Arc::clone(&self.store);
        let world = self.world_in_life(lives);
        let mut syncs = match world.further.apart {
            Some(field) => crate::rules::apart(&world, field, (id, self.store.sync_id(field).await?)),
            None => vec![crate::rules::sync_rules(&world, id)],
        };
        if world.further.drifts.is_some() {
            crate::drift::prove(&self.systems, &mut syncs);
        }
        Ok(Setup {
            syncs,
            systems: systems.collect(),
            store,
            clock: Arc::new(self.clock),
            options: Options {
                jitter_seed: self.world.seed.wrapping_add(lives),
                max_unidentified: self.world.max_unidentified,
                chunk: self.world.chunk,
                ..Options::default()
            },
            approvals: Approvals::All,
            reviews: ReviewNumbers::default(),
        })
    }

    /// The world as this life of the engine is told of it: rules may have been changed at a start.
    fn world_in_life(&self, life: u64) -> World {
        let mut world = self.world.clone();
        if let Some(groups) = self.world.further.new_policies.clone().filter(|_| life > 1) {
            world.groups = groups;
        }
        world
    }

    /// The whole ledger, the newest first.
    pub async fn ledger(&self) -> Vec<LedgerRow> {
        self.store.ledger(LedgerQuery { limit: usize::MAX, ..LedgerQuery::default() }).await.unwrap_or_default()
    }

    /// The engine's status, while it lives.
    pub fn status(&self) -> Option<Status> {
        self.handle.borrow().as_ref().map(|handle| handle.status.borrow().clone())
    }

    /// What a person asks of the engine, answered; an error when it does not live, or dies before it has answered.
    pub async fn ask(&self, request: Request) -> Result<String> {
        let gone = || Error::new(Code::ControlFailed, "the engine does not live");
        let handle = self.handle.borrow().clone().ok_or_else(gone)?;
        let (answer, answered) = tokio::sync::oneshot::channel();
        handle.commands.send(Command { request, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| Error::new(Code::OutcomeUnknown, "the engine died before it answered"))?
    }

    /// How many times the engine has committed something anywhere.
    pub(crate) fn written(&self) -> u64 {
        self.systems.iter().map(|system| system.written()).sum()
    }

    fn is_level(&self) -> bool {
        let status = self.status();
        status.is_some_and(|status| !status.syncs.is_empty() && status.syncs.iter().all(|sync| sync.level))
    }

    fn heads(&self) -> Vec<u64> {
        self.systems.iter().map(|system| system.look(Database::head)).collect()
    }

    /// Waits until the engine has been level for a while and nothing is under way anywhere.
    pub async fn level(&self) -> std::result::Result<(), Violation> {
        let begun = self.clock.now();
        let mut since = (self.heads(), self.clock.now());
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = self.clock.now();
            let heads = self.heads();
            if heads != since.0 || !self.is_level() || !self.systems.iter().all(|system| system.is_drained()) {
                since = (heads, now);
            }
            if now.since(since.1) >= LEVEL_FOR {
                return Ok(());
            }
            if now.since(begun) >= LEVEL_WITHIN {
                let drained: Vec<bool> = self.systems.iter().map(|system| system.is_drained()).collect();
                let what = format!(
                    "did not become level; feeds drained: {drained:?}; pending: {}; status: {:?}",
                    self.pending().await,
                    self.status()
                );
                return Err(Violation { invariant: "2 convergence (bounded time)", record: "all".to_owned(), what });
            }
        }
    }

    /// What the store still holds undecided, for whoever has to find out why.
    async fn pending(&self) -> String {
        let Ok(sync) = self.store.sync_id("people").await else { return String::new() };
        let rows = self.store.scan_pending(sync, None, 20).await.unwrap_or_default();
        let one = |pending: &concord_engine::link::Pending| format!("{} at {}", pending.key, pending.member);
        rows.iter().map(|(_, pending)| one(pending)).collect::<Vec<_>>().join(", ")
    }

    /// What the checker judges, as it stands.
    pub async fn judge(&self) -> Vec<Violation> {
        match self.evidence().await {
            Ok(evidence) => {
                let found = check(&evidence);
                if !found.is_empty() {
                    self.note_history(&evidence);
                }
                found
            }
            Err(error) => {
                vec![Violation { invariant: "store", record: "all".to_owned(), what: error.to_string() }]
            }
        }
    }

    /// Puts ledger and reviews at the end of a trace that somebody will have to read.
    fn note_history(&self, evidence: &Evidence<'_>) {
        for row in evidence.ledger.iter().rev() {
            let fields = row.fields.iter().map(|entry| {
                let shown = |value: &Option<Value>| value.as_ref().map_or("?".to_owned(), crate::describe::value);
                format!("{} {}→{} from {} by {:?}", entry.field, shown(&entry.old), shown(&entry.new), entry.from, entry.rule)
            });
            let fields: Vec<String> = fields.collect();
            let link = row.link.map_or(0, |link| link.0);
            let what = format!("{} link {link} member {} {}: {:?} {}", row.at, row.member, row.key, row.entry, fields.join("; "));
            self.trace.note("ledger", &what);
        }
        for review in evidence.reviews.iter().rev() {
            self.trace.note("review", &format!("{review:?}"));
        }
    }

    async fn evidence(&self) -> Result<Evidence<'_>> {
        let sync: SyncId = self.store.sync_id("people").await?;
        let answers = self.answers.borrow().clone();
        Ok(Evidence {
            world: &self.world,
            answers,
            databases: self.systems.iter().map(|system| system.look(Clone::clone)).collect(),
            ledger: self.store.ledger(LedgerQuery { limit: usize::MAX, ..LedgerQuery::default() }).await?,
            reviews: self.store.reviews(None, false, usize::MAX).await?,
            gaps: self.systems.iter().map(|system| system.gaps()).collect(),
            links: self.store.scan_links(sync, LinkId(0), usize::MAX).await?,
        })
    }

    /// A member's feed is let go of while nothing runs, and the store keeps no place in it: as when the system was released for
    /// another sync, or has another name now.
    pub fn forget_feed(&self, member: usize) {
        if let Some(system) = self.system(member) {
            system.lose_feed();
            self.store.rewind(&system.name, &FeedName::from(FEED), &Position::default());
        }
    }

    /// Invariant 6: gives every feed again from its beginning to an engine that starts anew; nothing may be written.
    pub async fn replay(&self) -> Vec<Violation> {
        if self.strangers_wait_behind_a_mass_change().await {
            return Vec::new();
        }
        for system in &self.systems {
            if let Some(position) = system.rewind() {
                self.store.rewind(&system.name, &FeedName::from(FEED), &position);
            }
        }
        self.trace.note("stage", "every feed is given again from its beginning");
        let before = self.heads();
        let levelled = tokio::select! {
            biased;
            end = self.live(None) => Err(returned(&end)),
            levelled = self.level() => levelled,
            () = crate::drift::keep_going(self), if self.world.further.drifts.is_some() => Ok(()),
        };
        *self.handle.borrow_mut() = None;
        let mut found: Vec<Violation> = levelled.err().into_iter().collect();
        for (system, head) in self.systems.iter().zip(before) {
            let written = system.look(|database| {
                database.log().iter().filter(|commit| commit.number > head).map(crate::describe::commit).collect::<Vec<_>>()
            });
            if !written.is_empty() {
                let what = format!("a replay of the feeds made {} write: {}", system.name, written.join("; "));
                found.push(Violation { invariant: "6 idempotence", record: "all".to_owned(), what });
            }
        }
        found
    }
}

impl Stage {
    /// Whether a mass change waits for a person where users made records twice, or records go their own ways: what waits
    /// behind such a record is told apart from it by the counterpart, and that is gone. An engine that starts anew finds a
    /// record of its own, which it is.
    async fn strangers_wait_behind_a_mass_change(&self) -> bool {
        let alike = self.world.further.doubles || self.world.on_delete == DeleteRule::Detach;
        let open = self.store.reviews(None, true, usize::MAX).await.unwrap_or_default();
        alike && open.iter().any(|review| matches!(review.subject, Subject::MassChange { .. }))
    }
}

/// The violation that an engine is which returned without being asked.
pub fn returned(end: &End) -> Violation {
    let what = match end {
        End::Killed => "killed".to_owned(),
        End::Returned(result) => format!("the engine returned on its own: {result:?}"),
    };
    Violation { invariant: "running", record: "all".to_owned(), what }
}

fn system(world: &World, member: usize, clock: VirtualClock, trace: &Trace) -> Arc<System> {
    let Some(rules) = world.members.get(member).cloned() else {
        let database = Database::new(crate::rules::schema(world, member), world.key_field(member), KeyKind::Serial);
        let profile = crate::system::Profile::plain();
        let random = Random::new(0);
        return System::new(SystemName::from("?"), profile, database, Faults::default(), random, trace.clone(), clock);
    };
    let mut random = Random::fork(world.seed, rules.name);
    let mut database = Database::new(crate::rules::schema(world, member), world.key_field(member), rules.keys);
    fill(world, member, &mut database, clock);
    if world.further.drifts.is_some() {
        crate::drift::number_columns(&mut database);
    }
    database.triggers.clone_from(&rules.triggers);
    let tag = world.fields.iter().position(|field| field.purpose == Purpose::Tag);
    database.unique = tag.filter(|_| rules.unique).map(|field| world.native(member, field));
    let faults = match world.faults {
        true => Faults::draw(&mut random, clock.at(Duration::ZERO), clock.at(world.span)),
        false => Faults::default(),
    };
    System::new(SystemName::from(rules.name), rules.profile, database, faults, random, trace.clone(), clock)
}

fn fill(world: &World, member: usize, database: &mut Database, clock: VirtualClock) {
    let mut draft = Draft::default();
    for seeded in &world.contents {
        let Some(Some(ending)) = seeded.at.get(member) else { continue };
        let mut record = Record::new();
        for (place, field) in world.fields.iter().enumerate().filter(|(_, field)| field.purpose == Purpose::Plain) {
            let most = field.short_at.filter(|(at, _)| *at == member).map(|(_, most)| most);
            let value = match (fresh(field.kind, 0, most), ending.is_empty()) {
                (Value::Text(_), _) => {
                    let text = format!("i{}{ending}", seeded.tag);
                    Value::Text(text.chars().take(most.unwrap_or(usize::MAX)).collect())
                }
                (_, true) => Value::Int(-1),
                (_, false) => Value::Int(-2 - i64::try_from(member).unwrap_or(0)),
            };
            record.set(world.native(member, place), value);
        }
        let key = Key(vec![Value::Text(seeded.tag.clone())]);
        record.overlay(&identity(world, member, &seeded.tag, &key));
        // Tags at the start are distinct: nothing is refused.
        database.insert(&mut draft, &Author::Initial, record).ok();
    }
    database.commit_draft(draft, clock.now(), Author::Initial);
}
