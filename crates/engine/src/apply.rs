//! Stage 6: writes in batches, each guarded, each durable as an intent before it is made. Which write is owed was decided
//! before; what became of it is for `settle`. At most one plan per link is in flight.

use crate::change::{EditTime, Mark};
use crate::clock::Moment;
use crate::connector::{Connector, Operation, Write};
use crate::error::{Code, Error, Result};
use crate::flight::{Flight, Intent};
use crate::ledger::Rule;
use crate::link::{FlightId, Life, Link, LinkId, MemberIndex};
use crate::record::Record;
use crate::runtime::airborne::Airborne;
use crate::runtime::bounds::CHUNK_MAX;
use crate::runtime::core::{Core, Effect, Event};
use crate::runtime::desk::Desk;
use crate::schema::Selection;
use std::sync::Arc;

/// A flight that may leave, its transaction being durable.
pub(crate) struct Launch {
    pub flight: FlightId,
    pub connector: Arc<dyn Connector>,
    pub selection: Selection,
    pub mark: Mark,
    pub writes: Vec<Write>,
    /// Whether a first load has filled it.
    pub is_load: bool,
}

/// What the writes of one flight have in common: sync, member, how deep they are, and whether they are of a first load.
pub(crate) type Seats = (usize, MemberIndex, u32, bool);

/// The most flights to a member of which its feed is yet to tell, though they have been answered: with a feed that stands
/// still, writing stands still too, for what goes on there is not seen.
const UNTOLD_MAX: usize = 64;

/// The most flights of a first load to a member, where each takes more than the sync's batches do (invariant 10).
const LARGE_LOADS_MAX: usize = 2;

/// The coarsest time of an edit from which it is measured how fast it was carried.
const MEASURED_MICROS_MAX: u32 = 10_000;

/// How long the debt of a link that is busy elsewhere is put off.
const BUSY_PAUSE: std::time::Duration = std::time::Duration::from_millis(200);
/// No debt is put off for longer, but where `max_delay` says so.
pub(crate) const PUT_OFF_MAX: std::time::Duration = std::time::Duration::from_secs(3600);

impl Core {
    /// Whether a write to this member may be put into a flight now; one of a first load leaves room for what people do meanwhile.
    pub(crate) fn can_fly(&self, sync: usize, member: MemberIndex, is_load: bool) -> bool {
        let now = self.now();
        let Some(state) = self.syncs.get(sync) else { return false };
        let Some(target) = state.members.get(member) else { return false };
        let filling = self.loading.range((sync, member, 0, false)..=(sync, member, u32::MAX, true));
        let (mut all, mut loads) = (target.flying, target.loads_flying);
        for ((.., of_load), flights) in filling {
            all = all.saturating_add(flights.len());
            loads = loads.saturating_add(if *of_load { flights.len() } else { 0 });
        }
        let most = state.rules.parallelism.saturating_mul(2).max(1);
        state.active()
            && !self.stopping
            && self.is_told_of(sync, member)
            && target.retry_at.is_none_or(|at| at <= now)
            && ((is_load && !crate::mutants::active("loads_wait_with_edits")) || !self.gathers(sync, member, now))
            && all < most
            && (!is_load || loads < self.loads_max(sync, member))
            && (self.flights.len() < UNTOLD_MAX || self.untold(sync, member) < UNTOLD_MAX)
    }

    /// How many flights a first load may have to a member: they leave room for what people do.
    fn loads_max(&self, sync: usize, member: MemberIndex) -> usize {
        let parallelism = self.syncs.get(sync).map_or(1, |state| state.rules.parallelism);
        match self.load_batch(sync, member) {
            Some(_) => LARGE_LOADS_MAX,
            None => parallelism.saturating_mul(2).saturating_sub(1).max(1),
        }
    }

    /// Whether every other member that is to get what is read of this one has all the flights under way that a first load may
    /// have: more of it would only go to the list of debts, and come back from there.
    pub(crate) fn loads_are_full(&self, sync: usize, member: MemberIndex) -> bool {
        let Some(state) = self.syncs.get(sync) else { return false };
        let mut others =
            state.rules.members.iter().enumerate().filter(|(other, rules)| *other != member && rules.inward).peekable();
        let is_full = |other: MemberIndex| {
            state.members.get(other).is_some_and(|target| target.loads_flying >= self.loads_max(sync, other))
        };
        others.peek().is_some() && others.all(|(other, _)| is_full(other))
    }

    /// Whether what a member is owed is what a first load has read, and nothing that anybody has done since: it was decided
    /// once, and no feed has told of an edit after the sync had begun.
    pub(crate) fn is_of_a_load(&self, sync: usize, link: &Link) -> bool {
        let was_read = self.times_of_a_load(sync);
        let mut agreed = link.groups.iter().filter_map(|group| group.agreed.as_ref());
        link.life == Life::Live && link.decision <= 1 && agreed.all(|agreed| was_read(&agreed.time))
    }

    /// Which times are those of what a first load has read. A feed that only asks what is new knows no times for certain either:
    /// what it tells of after everything had been read is news all the same.
    pub(crate) fn times_of_a_load(&self, sync: usize) -> impl Fn(&EditTime) -> bool + use<> {
        let begun = self.syncs.get(sync).and_then(|state| state.begun_at).unwrap_or_default();
        let read = self.was_read_at(sync);
        move |time| time.at < begun || (time.estimated && read.is_none_or(|read| time.at <= read))
    }

    /// How many writes of a first load a flight takes, where that is more than any batch of the sync.
    pub(crate) fn load_batch(&self, sync: usize, member: MemberIndex) -> Option<usize> {
        let wanted = self.syncs.get(sync)?.rules.batch_size;
        let connector = self.connector(sync, member)?;
        let capabilities = connector.capabilities();
        capabilities.load_batch.map(|batch| batch.min(capabilities.max_batch).min(CHUNK_MAX)).filter(|batch| *batch > wanted)
    }

    /// Whether calls of a member's system are short, so that what is to be written is gathered for now.
    fn gathers(&self, sync: usize, member: MemberIndex, now: Moment) -> bool {
        self.gathers_until.get(&(sync, member)).is_some_and(|at| *at > now)
    }

    /// How many members write to the system of this one, and so share its calls.
    fn sharing(&self, sync: usize, member: MemberIndex) -> u32 {
        let Some(of) = self.member_rules(sync, member).map(|rules| &rules.system) else { return 1 };
        if crate::mutants::active("calls_unshared") {
            return 1;
        }
        let members = self.syncs.iter().flat_map(|state| &state.rules.members);
        u32::try_from(members.filter(|member| member.inward && member.system == *of).count()).unwrap_or(u32::MAX).max(1)
    }

    /// Flights to a member whose answers are in, and of which its feed is yet to tell.
    fn untold(&self, sync: usize, member: MemberIndex) -> usize {
        let of_member = |airborne: &&Airborne| airborne.sync == sync && airborne.flight.member == member;
        self.flights.values().filter(of_member).filter(|airborne| !airborne.answers.is_empty()).count()
    }

    /// Whether a flight that is being filled has room for one more write of this link.
    pub(crate) fn has_seat(&self, sync: usize, link: &Link, member: MemberIndex, is_load: bool) -> bool {
        let size = self.batch_size(sync, member, is_load);
        let filling = self.loading.get(&(sync, member, hops_of(link, member), is_load));
        filling.and_then(|flights| flights.last()).is_some_and(|flight| flight.intents.len() < size)
    }

    /// Whether the feed would tell of a write made now: it has begun (anew, after a gap), and carries the object. Of a write
    /// that no feed tells of, nothing could be proven later.
    fn is_told_of(&self, sync: usize, member: MemberIndex) -> bool {
        self.feeds_of(sync, member).next().is_some()
    }

    /// The feeds that carry a member's object.
    pub(crate) fn feeds_of(&self, sync: usize, member: MemberIndex) -> impl Iterator<Item = &crate::capture::FeedState> {
        let system = self.member_rules(sync, member).map(|rules| &rules.system);
        let of_system = self.feeds.iter().filter(move |((of, _), _)| Some(of) == system);
        of_system.map(|(_, feed)| feed).filter(move |feed| self.carries(sync, member, feed))
    }

    /// Puts a write into a flight, and the flight's number into the link.
    pub(crate) fn board(&mut self, sync: usize, link: &mut Link, member: MemberIndex, mut operation: Operation, is_load: bool) {
        plant_guard_bugs(&mut operation);
        let hops = hops_of(link, member);
        let intent = Intent {
            link: link.id,
            write: Write { id: link.id.0, operation },
            decision: link.decision,
            edited: if self.is_loading(sync) { Moment::default() } else { edited_at(link, member) },
        };
        let Some(sync_id) = self.syncs.get(sync).map(|state| state.rules.id) else { return };
        let batch_size = self.batch_size(sync, member, is_load);
        let flights = self.loading.entry((sync, member, hops, is_load)).or_default();
        if flights.last().is_none_or(|flight| flight.intents.len() >= batch_size) {
            let id = FlightId(self.next_flight);
            self.next_flight = self.next_flight.saturating_add(1);
            flights.push(Flight { id, sync: sync_id, member, hops, opened: Moment::default(), intents: Vec::new() });
        }
        let Some(flight) = flights.last_mut() else { return };
        flight.intents.push(intent);
        if let Some(side) = link.sides.get_mut(member) {
            side.flight = Some(flight.id);
        }
    }

    /// Whether the members are being read for the first time: how old what they show is tells nothing of how fast edits
    /// are carried.
    fn is_loading(&self, sync: usize) -> bool {
        self.syncs.get(sync).is_some_and(|state| state.members.iter().any(|member| !member.load.is_done()))
    }

    fn batch_size(&self, sync: usize, member: MemberIndex, is_load: bool) -> usize {
        let wanted = self.syncs.get(sync).map_or(1, |state| state.rules.batch_size);
        let wanted = self.load_batch(sync, member).filter(|_| is_load).unwrap_or(wanted);
        let most = self.connector(sync, member).map_or(wanted, |connector| connector.capabilities().max_batch);
        wanted.min(most).max(1)
    }

    /// Makes the flights that the present event has filled durable, and has them leave when they are.
    pub(crate) fn take_off(&mut self) {
        let now = self.now();
        for ((sync, member, hops, is_load), flights) in std::mem::take(&mut self.loading) {
            for mut flight in flights {
                flight.opened = now;
                let (Some(connector), Some(rules)) = (self.connector(sync, member), self.rules(sync)) else { continue };
                let Some(selection) = rules.members.get(member).map(|member| member.selection.clone()) else { continue };
                // A full batch has gathered what it can.
                let is_full = flight.intents.len() >= self.batch_size(sync, member, is_load);
                let spacing = connector
                    .allowance()
                    .map(|calls| calls.spacing())
                    .filter(|spacing| !is_full && !is_load && !spacing.is_zero());
                if let Some(spacing) = spacing {
                    let until = now.plus(spacing.saturating_mul(self.sharing(sync, member)));
                    self.gathers_until.insert((sync, member), until);
                }
                let mark = Mark { store: self.store_id.clone(), sync: rules.name.to_string(), intent: flight.id.0, hops };
                let writes = flight.intents.iter().map(|intent| intent.write.clone()).collect();
                self.effects.push(Effect::Launch(Launch { flight: flight.id, connector, selection, mark, writes, is_load }));
                let flight = Arc::new(flight);
                self.transaction.opened.push(Arc::clone(&flight));
                if let Some(state) = self.member(sync, member) {
                    state.flying = state.flying.saturating_add(1);
                    state.loads_flying = state.loads_flying.saturating_add(usize::from(is_load));
                }
                let (id, mut airborne) = (flight.id, Airborne::new(flight, sync, false));
                airborne.is_load = is_load;
                self.flights.insert(id, airborne);
            }
        }
    }

    /// How long a call that writes may take, and a fence, which may have to wait for those that began before it.
    pub(crate) fn write_limit(&self, connector: &dyn Connector) -> std::time::Duration {
        let usual = self.options.apply_timeout;
        connector.capabilities().writes_take.map_or(usual, |longer| longer.max(usual))
    }

    /// Makes the call.
    pub(crate) fn launch(&mut self, launch: Launch) {
        crate::failpoint::pass("durable_before_apply");
        let timeout = self.write_limit(&*launch.connector);
        self.jobs.spawn(async move {
            let Launch { flight, connector, selection, mark, writes, is_load } = launch;
            let call = match is_load {
                true => connector.load(&selection, &mark, &writes),
                false => connector.apply(&selection, &mark, &writes),
            };
            let result = match tokio::time::timeout(timeout, call).await {
                Ok(result) => result,
                Err(_) => Err(Error::new(Code::OutcomeUnknown, "the system did not answer in time")),
            };
            Event::Applied { flight, result }
        });
    }

    /// Puts debts that are due into flights, as far as the members can take them.
    pub(crate) async fn pay_debts(&mut self, now: Moment) -> Result<()> {
        for sync in 0..self.syncs.len() {
            let members = self.syncs.get(sync).map_or(0, |state| state.members.len());
            for member in 0..members {
                self.pay_debts_of(sync, member, now).await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn pay_debts_of(&mut self, sync: usize, member: MemberIndex, now: Moment) -> Result<()> {
        // The list of debts is read from the store: it must know what this event has decided so far.
        self.commit();
        let Some(state) = self.syncs.get(sync) else { return Ok(()) };
        let (id, batch) = (state.rules.id, self.debts_at_once(sync, member));
        let owing = state.members.get(member).is_some_and(|member| member.maybe_owing);
        let (people_fly, loads_fly) = (self.can_fly(sync, member, false), self.can_fly(sync, member, true));
        if !owing || !(people_fly || loads_fly) {
            return Ok(());
        }
        let mut due: Vec<LinkId> = self.store.owed(id, member, now, batch).await?;
        if due.len() >= batch
            && let Some(more) = self.load_batch(sync, member).filter(|_| loads_fly)
        {
            let mut desk = self.desk();
            desk.load_links(&self.store, due.clone()).await?;
            if due.iter().filter_map(|id| desk.link(*id)).all(|link| self.is_of_a_load(sync, link)) {
                due = self.store.owed(id, member, now, more).await?;
            }
        }
        if due.is_empty() {
            due = self.bring_forward(sync, member, now).await?;
        }
        if due.is_empty() {
            // Debts of the transaction at hand are not in the store yet.
            let mut at_hand = self.transaction.owed.iter();
            let more = at_hand.any(|(sync, to, _, due)| *sync == id && *to == member && due.is_some())
                || self.store.next_owed(id, member).await?.is_some();
            if let Some(state) = self.member(sync, member) {
                state.maybe_owing = more;
            }
            return Ok(());
        }
        let mut desk = self.desk();
        desk.load_links(&self.store, due.clone()).await?;
        if !(people_fly && loads_fly) {
            // What a first load brings stays where it is on the list while what people did goes past it, and the other way round.
            due.retain(|id| desk.link(*id).is_none_or(|link| if self.is_of_a_load(sync, link) { loads_fly } else { people_fly }));
        }
        let free = self.put_off_the_busy(&mut desk, sync, member, due);
        // The store must know of what was put off before it is read again.
        self.commit();
        self.look_again_at(&mut desk, free).await
    }

    /// How many debts to a member are taken up at once: no more than can fly, for the others would only be looked at in vain.
    fn debts_at_once(&self, sync: usize, member: MemberIndex) -> usize {
        let Some(state) = self.syncs.get(sync) else { return 1 };
        let flying = state.members.get(member).map_or(0, |target| target.flying);
        let free = state.rules.parallelism.saturating_mul(2).saturating_sub(flying).max(1);
        state.rules.batch_size.min(self.batch_size(sync, member, false).saturating_mul(free)).max(1)
    }

    /// Debts that are due later than anything is ever put off were dated by a clock that ran ahead: they are due now.
    async fn bring_forward(&mut self, sync: usize, member: MemberIndex, now: Moment) -> Result<Vec<LinkId>> {
        let Some(rules) = self.rules(sync) else { return Ok(Vec::new()) };
        let latest = now.plus(rules.retry.max_delay.max(PUT_OFF_MAX));
        let Some(next) = self.store.next_owed(rules.id, member).await?.filter(|next| *next > latest) else {
            return Ok(Vec::new());
        };
        let links = self.store.owed(rules.id, member, next, rules.batch_size.max(1)).await?;
        tracing::warn!(sync = %rules.name, member, debts = links.len(), until = %next, "debts were dated by a clock that ran ahead: they are due now");
        let mut desk = self.desk();
        desk.load_links(&self.store, links.clone()).await?;
        for id in &links {
            if let Some(mut link) = desk.link(*id).filter(|link| link.sides.get(member).is_some_and(|side| side.queued)).cloned()
            {
                self.owe_later(sync, &mut link, member, now);
                desk.save(link);
            }
        }
        desk.flush(&mut self.transaction);
        self.commit();
        Ok(links)
    }

    /// Debts of links that are being written or read elsewhere are put off, so that they do not stand in the way of those
    /// behind them; gives back the others.
    fn put_off_the_busy(&mut self, desk: &mut Desk, sync: usize, member: MemberIndex, due: Vec<LinkId>) -> Vec<LinkId> {
        let later = self.now().plus(BUSY_PAUSE);
        let mut free = Vec::with_capacity(due.len());
        for id in due {
            let Some(link) = desk.link(id) else { continue };
            if !link.in_flight() && !self.reading.contains(&id) {
                free.push(id);
            } else if link.sides.get(member).and_then(|side| side.flight).is_none()
                && let Some(mut link) = desk.take(id)
            {
                self.owe_later(sync, &mut link, member, later);
                desk.save(link);
            }
        }
        desk.flush(&mut self.transaction);
        free
    }
}

/// When the newest edit that a write carries was made; nothing where that is not known finely enough to measure by (a read
/// has told of it, or a stamp of whole seconds).
fn edited_at(link: &Link, member: MemberIndex) -> Moment {
    if let Life::Deleted { at, .. } = link.life {
        return at;
    }
    let Some(side) = link.sides.get(member) else { return Moment::default() };
    // What a new mapping makes of an old edit, or what waited for a person, tells nothing of how fast edits are carried.
    let newest = |groups: &mut dyn Iterator<Item = usize>| {
        let agreed = groups.filter_map(|group| link.groups.get(group)?.agreed.as_ref());
        let told = agreed.filter(|agreed| {
            !matches!(agreed.rule, Rule::NewMapping | Rule::Manual | Rule::NoLongerInConflict)
                && !agreed.time.estimated
                && agreed.time.granularity_micros <= MEASURED_MICROS_MAX
        });
        told.map(|agreed| agreed.time.at).max().unwrap_or_default()
    };
    if side.owes.is_empty() { newest(&mut (0..link.groups.len())) } else { newest(&mut side.owes.iter().copied()) }
}

fn hops_of(link: &Link, member: MemberIndex) -> u32 {
    let Some(side) = link.sides.get(member) else { return 0 };
    side.owes.iter().filter_map(|group| Some(link.groups.get(*group)?.agreed.as_ref()?.hops)).max().unwrap_or(0)
}

fn plant_guard_bugs(operation: &mut Operation) {
    use crate::mutants::active;
    match operation {
        Operation::Update { guard, .. } if active("guard_dropped") => *guard = Record::new(),
        Operation::Update { guard, set, .. } if active("guard_narrowed") => {
            *guard = guard
                .iter()
                .filter(|(field, _)| set.has(field.as_str()))
                .map(|(field, value)| (field.clone(), value.clone()))
                .collect();
        }
        Operation::Delete { guard, .. } if active("delete_unguarded") => *guard = Record::new(),
        Operation::Create { absent_by, .. } if active("create_unguarded") => absent_by.clear(),
        _ => {}
    }
}
