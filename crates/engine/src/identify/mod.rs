//! Stage 2: whose record is this? A key that no link knows is a stranger: its match is looked for at the other members by
//! the sync's match fields; one candidate binds, several are for a person, none makes a new link. Matching is serial per
//! sync and also sees reservations, so that two records with one match value never become two pairs.

mod at_once;
mod bind;
mod creates;
mod made;
mod merge;
mod ours;
mod search;
mod sent;
mod unheard;
mod unmark;
mod unproven;
mod values;

pub(crate) use bind::Join;
pub(crate) use creates::Creates;
pub(crate) use search::{Candidates, FIND_BATCH, FIND_LIMIT, Find};
pub(crate) use sent::{MadeUnseen, gives_key};
pub(crate) use unheard::Unheard;
pub(crate) use values::link_match_value;

use crate::change::Version;
use crate::clock::Moment;
use crate::error::Result;
use crate::link::{FlightId, Life, Link, LinkId, MemberIndex, Standing};
use crate::record::Key;
use crate::rules::SyncRules;
use crate::runtime::core::Core;
use crate::runtime::desk::Desk;
use crate::store::Address;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// How long a stranger is put off at first, and at most, whose identity cannot be told yet.
const PUT_OFF_MIN: Duration = Duration::from_millis(50);
const PUT_OFF_MAX: Duration = Duration::from_secs(10);
/// How many strangers are remembered of which a feed has told while everything is being read.
const TOLD_MAX: usize = 100_000;
/// Links whose doubles a person is no longer asked about are kept on the list up to so many.
const DOUBLES_KEPT: usize = 1_000;

/// Strangers of a sync that wait to be identified.
#[derive(Default)]
pub(crate) struct Unidentified {
    queue: VecDeque<Address>,
    queued: BTreeSet<Address>,
    /// Those that a feed has told of while everything is being read: somebody is at work on them.
    told: BTreeSet<Address>,
    /// Those of which nothing but a reading has told, where a sync begins with what both sides have in common.
    read: BTreeSet<Address>,
    later: BTreeSet<(Moment, Address)>,
    /// How often each of those was put off since it was last told of.
    put_off: BTreeMap<Address, u32>,
    /// Writes in whose way, or in whose place, something may stand, with when to look.
    collided: BTreeSet<(Moment, MemberIndex, LinkId)>,
    /// Strangers that a write under way may have made, with the flights that must be over first.
    perhaps_ours: BTreeMap<Address, BTreeSet<FlightId>>,
    /// Strangers that wait for the feed of their match, which may be a record with another key by now.
    listening: BTreeSet<Address>,
    /// Matches that no feed had told of, and whose feed has had its say since.
    heard: BTreeSet<Address>,
    /// Places of records that were looked at and found free, but for what is marked as deleted.
    free: BTreeSet<(MemberIndex, LinkId)>,
    /// Strangers whose match waits for a person, by its link: they are looked at when that has been decided.
    behind: BTreeMap<LinkId, BTreeSet<Address>>,
    /// Strangers that a person is asked about because a link has their match value, by that link: they are looked at when it
    /// has it no longer.
    doubles: BTreeMap<LinkId, BTreeSet<Address>>,
    /// What we have made and no feed has told of yet.
    made: made::Made,
    running: bool,
    retry_at: Option<Moment>,
    failures: u32,
    /// How often the size of a search is to be halved, after one that failed as a whole.
    halvings: u32,
}

impl Unidentified {
    pub fn len(&self) -> usize {
        let waiting = self.later.len().saturating_add(self.perhaps_ours.len()).saturating_add(self.listening.len());
        self.queue.len().saturating_add(waiting).saturating_add(self.collided.len())
    }

    /// How many strangers wait for a person because their match does.
    pub fn behind(&self) -> usize {
        self.behind.values().map(BTreeSet::len).sum()
    }

    fn leave(&mut self, address: &Address) {
        self.listening.remove(address);
        if !self.behind.is_empty() {
            self.behind.values_mut().for_each(|waiting| {
                waiting.remove(address);
            });
            self.behind.retain(|_, waiting| !waiting.is_empty());
        }
    }

    /// A feed tells of a stranger, of which a reading may have told before. Remembered where the difference matters
    /// (`matters`), and only of so many: one that is forgotten is taken as after a start, which remembers none.
    pub fn tell(&mut self, address: Address, matters: bool) {
        self.read.remove(&address);
        if matters && self.told.len() < TOLD_MAX {
            self.told.insert(address);
        }
    }

    /// The clock was put back: whatever waits for a moment is looked at.
    pub fn wait_no_longer_than(&mut self, now: Moment) {
        self.retry_at = self.retry_at.map(|at| at.min(now));
        self.later = std::mem::take(&mut self.later).into_iter().map(|(at, address)| (at.min(now), address)).collect();
        let collided = std::mem::take(&mut self.collided);
        self.collided = collided.into_iter().map(|(at, member, link)| (at.min(now), member, link)).collect();
    }

    /// A reading tells of a stranger.
    pub fn was_read(&mut self, address: Address) {
        if !self.told.contains(&address) {
            self.read.insert(address);
        }
    }

    /// Whether nothing but a reading has told of a stranger, as far as that is known: a restart has forgotten, and then what
    /// comes while everything is being read is taken for read. It is asked once.
    pub fn was_only_read(&mut self, address: &Address, loading: bool) -> bool {
        self.read.remove(address) || (loading && !self.told.contains(address))
    }

    /// Everything has been read: who told of whom matters no longer.
    pub fn loaded(&mut self) {
        self.told.clear();
    }

    pub fn is_idle(&self) -> bool {
        !self.running && self.len() == 0
    }
}

impl Core {
    /// Puts a stranger on the list.
    pub(crate) fn unidentified(&mut self, sync: usize, address: Address) {
        let Some(state) = self.syncs.get_mut(sync) else { return };
        state.unidentified.perhaps_ours.remove(&address);
        state.unidentified.put_off.remove(&address);
        state.unidentified.leave(&address);
        if let Some(review) = self.parked.remove(&address) {
            let now = self.clock.now();
            self.transaction.closed_reviews.push((review, now, "the record changed".to_owned()));
        }
        if state.unidentified.queued.contains(&address) {
            return;
        }
        if state.unidentified.len() >= self.options.max_unidentified.saturating_mul(2) {
            // What it shows is in the store; it is taken up again when there is room (invariant 10).
            state.spill.any = true;
            return;
        }
        state.unidentified.queued.insert(address.clone());
        state.unidentified.queue.push_back(address);
    }

    /// Puts a stranger on the list that was seen without a word on who made it. A create of ours that is under way may have:
    /// its echo or its answer will say so, and only then is it known for what it is (invariant 4).
    pub(crate) fn unidentified_unless_ours(&mut self, sync: usize, address: Address) {
        let creates: BTreeSet<FlightId> = self
            .flights
            .iter()
            .filter(|(_, airborne)| airborne.sync == sync && airborne.flight.member == address.member)
            .filter(|(_, airborne)| airborne.creates() && !crate::mutants::active("own_create_taken_for_stranger"))
            .map(|(id, _)| *id)
            .collect();
        match creates.is_empty() {
            true => self.unidentified(sync, address),
            false => self.identify_after_flights(sync, address, creates),
        }
    }

    /// Puts a stranger off until these flights are over.
    fn identify_after_flights(&mut self, sync: usize, address: Address, flights: BTreeSet<FlightId>) {
        let Some(state) = self.syncs.get_mut(sync) else { return };
        if state.unidentified.len() >= self.options.max_unidentified.saturating_mul(2) {
            state.spill.any = true;
        } else if !state.unidentified.queued.contains(&address) {
            state.unidentified.perhaps_ours.entry(address).or_insert(flights);
        }
    }

    /// A flight is over: the strangers that it might have made, and has not, are strangers indeed.
    pub(crate) fn not_made_by(&mut self, sync: usize, flight: FlightId) {
        let Some(state) = self.syncs.get_mut(sync) else { return };
        let mut strangers = Vec::new();
        state.unidentified.perhaps_ours.retain(|address, flights| {
            flights.remove(&flight);
            if flights.is_empty() {
                strangers.push(address.clone());
            }
            !flights.is_empty()
        });
        for address in strangers {
            self.unidentified(sync, address);
        }
    }

    /// Puts a stranger off for a moment, for longer each time: every look may be a call to its system.
    fn identify_later(&mut self, sync: usize, address: Address) {
        let now = self.now();
        if let Some(state) = self.syncs.get_mut(sync) {
            let times = state.unidentified.put_off.entry(address.clone()).or_default();
            let pause = PUT_OFF_MIN.saturating_mul(1 << (*times).min(16)).min(PUT_OFF_MAX);
            *times = times.saturating_add(1);
            state.unidentified.later.insert((now.plus(pause), address));
        }
    }

    /// Puts a stranger off whose match cannot be joined now: for a moment, or until a person has decided what that waits for.
    pub(crate) fn identify_after(&mut self, desk: &Desk, sync: usize, id: LinkId, address: Address) {
        let room = self.options.max_unidentified;
        let waits = desk.link(id).is_some_and(|link| self.waits_for_a_person(sync, link));
        let waits = waits && !crate::mutants::active("stranger_asks_on");
        match self.syncs.get_mut(sync).map(|state| &mut state.unidentified) {
            Some(unidentified) if waits && unidentified.behind() < room => {
                unidentified.behind.entry(id).or_default().insert(address);
            }
            _ => self.identify_later(sync, address),
        }
    }

    /// Whether nothing happens to a link before a person has spoken.
    fn waits_for_a_person(&self, sync: usize, link: &Link) -> bool {
        let parked = self.syncs.get(sync).is_some_and(|state| state.parked.holds(link.id));
        parked || link.sides.iter().any(|side| side.owes_life && side.blocked.is_some())
    }

    /// A link has been decided, or what kept it from being written is over: strangers that waited for that are looked at.
    pub(crate) fn look_at_those_behind(&mut self, sync: usize, id: LinkId) {
        let waiting = self.syncs.get_mut(sync).and_then(|state| state.unidentified.behind.remove(&id));
        for address in waiting.into_iter().flatten() {
            self.unidentified(sync, address);
        }
    }

    /// A person is asked about this stranger because of that link.
    pub(crate) fn is_double_of(&mut self, sync: usize, address: Address, link: LinkId) {
        let parked = &self.parked;
        let Some(state) = self.syncs.get_mut(sync) else { return };
        let doubles = &mut state.unidentified.doubles;
        // What was decided otherwise meanwhile is let go when there is more of it than of the rest (invariant 10).
        if doubles.len() > DOUBLES_KEPT.saturating_add(parked.len().saturating_mul(2)) {
            doubles.values_mut().for_each(|addresses| addresses.retain(|address| parked.contains_key(address)));
            doubles.retain(|_, addresses| !addresses.is_empty());
        }
        doubles.entry(link).or_default().insert(address);
    }

    /// A link has another match value by now, or its record is gone: nobody need be asked about its doubles any more.
    pub(crate) fn look_at_doubles(&mut self, sync: usize, before: &Link, after: &Link) {
        let waits = self.syncs.get(sync).is_some_and(|state| state.unidentified.doubles.contains_key(&before.id));
        let Some(rules) = self.rules(sync).filter(|_| waits && !crate::mutants::active("doubles_stay")) else { return };
        let had = link_match_value(&rules, before);
        if before.life == after.life && (had.is_none() || had == link_match_value(&rules, after)) {
            return;
        }
        let doubles = self.syncs.get_mut(sync).and_then(|state| state.unidentified.doubles.remove(&before.id));
        for address in doubles.into_iter().flatten().collect::<Vec<_>>() {
            if self.parked.contains_key(&address) {
                self.unidentified(sync, address);
            }
        }
    }

    pub(crate) fn rename_unidentified(&mut self, sync: usize, old: &Address, new: &Address) {
        if let Some(review) = self.parked.remove(old) {
            self.close_review(sync, review, "the record has another key by now".to_owned());
        }
        self.take_off_the_list(sync, old);
        self.has_left(old);
        self.unidentified(sync, new.clone());
    }

    /// A stranger is gone before anybody knew it.
    pub(crate) async fn forget_stranger(&mut self, _desk: &mut Desk, sync: usize, address: &Address) -> Result<()> {
        if let Some(review) = self.parked.remove(address) {
            self.close_review(sync, review, "the record was deleted".to_owned());
        }
        self.take_off_the_list(sync, address);
        self.has_left(address);
        Ok(())
    }

    /// What was seen of a stranger is let go of, for it is about to be read again.
    pub(crate) fn meet_anew(&mut self, sync: usize, address: &Address) {
        if let Some(review) = self.parked.remove(address) {
            self.close_review(sync, review, "the record is read again".to_owned());
        }
        self.take_off_the_list(sync, address);
        // A feed had told of it: somebody was at work on it, which a reading alone would not say.
        if let Some(state) = self.syncs.get_mut(sync) {
            let matters = state.rules.initial.strategy.makes_nothing();
            state.unidentified.tell(address.clone(), matters);
        }
    }

    fn take_off_the_list(&mut self, sync: usize, address: &Address) {
        let Some(state) = self.syncs.get_mut(sync) else { return };
        state.unidentified.perhaps_ours.remove(address);
        state.unidentified.put_off.remove(address);
        state.unidentified.leave(address);
        if state.unidentified.queued.remove(address) {
            state.unidentified.queue.retain(|other| other != address);
        }
    }

    /// A stranger that was seen, and that is gone before it got a link, or that has another key now, leaves a tombstone:
    /// the feed may give its changes again, and they must not bring it to life (invariant 6).
    pub(crate) fn bury_stranger(&mut self, desk: &mut Desk, sync: usize, address: &Address, key: Key, version: &Version) {
        let Some(rules) = self.rules(sync) else { return };
        let mut link = self.new_link(&rules);
        link.life = Life::Deleted { by: address.member, at: self.now() };
        if let Some(side) = link.sides.get_mut(address.member) {
            side.key = Some(key);
            side.standing = Standing::Gone;
            side.version = version.clone();
        }
        desk.set_pending(address, None);
        if !crate::mutants::active("stranger_without_tombstone") {
            desk.set_link(address, Some(link.id), &mut self.transaction);
            desk.save(link);
        }
    }

    /// A link of which nothing is known yet.
    pub(crate) fn new_link(&mut self, rules: &SyncRules) -> Link {
        let id = LinkId(self.next_link);
        self.next_link = self.next_link.saturating_add(1);
        Link::new(id, rules.id, rules.layout, rules.members.len(), rules.fields.len(), rules.groups.len())
    }

    /// Looks for the record that stood in the way of a create.
    pub(crate) fn want_match(&mut self, sync: usize, member: MemberIndex, link: LinkId) {
        if let Some(state) = self.syncs.get_mut(sync) {
            state.unidentified.collided.insert((Moment::default(), member, link));
        }
    }

    /// The same once a link that is being written has been.
    fn want_match_later(&mut self, sync: usize, member: MemberIndex, link: LinkId) {
        let at = self.now().plus(PUT_OFF_MIN);
        if let Some(state) = self.syncs.get_mut(sync) {
            state.unidentified.collided.insert((at, member, link));
        }
    }
}
