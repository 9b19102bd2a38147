//! Records that must be read before anything is decided about them: guard misses, partial images without a base,
//! observations that cannot be ordered. Reads are gathered per member and made in batches.

use super::core::{Core, Event, MemberState};
use crate::capture::{Absence, Incoming};
use crate::change::Observation;
use crate::connector::Presence;
use crate::error::{Code, Error, Result};
use crate::link::{LinkId, MemberIndex, Standing, SyncId};
use crate::record::Key;
use crate::review::Subject;
use crate::runtime::bounds::{READING_MAX, UNREADABLE_MAX};
use crate::runtime::desk::{Desk, address};
use crate::store::Address;

/// Records in one read.
const READ_BATCH: usize = 500;
/// Records kept to be read that are taken out of the store in one step.
const WISHES_STEP: usize = 1_000;

/// Settings of this prefix name one record each that must be read, for what was seen of it was let go of.
const UNREAD: &str = "unread/";

/// A record that must be read because what was seen of it cannot be ordered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unread {
    /// A link's.
    Link(LinkId),
    /// The one under a key, in its encoded form.
    Key(Vec<u8>),
}

impl Unread {
    fn setting(&self, sync: SyncId, member: MemberIndex) -> String {
        match self {
            Unread::Link(link) => format!("{UNREAD}{}/{member}/link/{}", sync.0, link.0),
            Unread::Key(key) => {
                let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("{UNREAD}{}/{member}/key/{hex}", sync.0)
            }
        }
    }
}

/// What the store keeps of such a record.
type Kept = (Option<LinkId>, Option<Key>);

/// A record that is to be read.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub address: Address,
    pub key: Key,
    /// The link that waits for it, if the record has one.
    pub link: Option<LinkId>,
    /// The largest batch it may be read in: smaller after one that failed as a whole (invariant 7).
    pub batch: usize,
}

impl Wanted {
    fn new(address: Address, key: Key, link: Option<LinkId>) -> Wanted {
        Wanted { address, key, link, batch: READ_BATCH }
    }
}

impl MemberState {
    /// Puts back what could not be read. A record that was asked after as a stranger may have got a link since, which waits for
    /// it: the later wish stands.
    fn read_again(&mut self, asked: impl IntoIterator<Item = Wanted>) {
        for wanted in asked {
            let batch = wanted.batch;
            let again = self.to_read.entry(wanted.address.clone()).or_insert(wanted);
            again.batch = again.batch.min(batch);
        }
    }
}

impl Core {
    /// Has a linked record read. The link waits until then.
    pub(crate) fn want_read(&mut self, sync: usize, member: MemberIndex, link: LinkId) {
        self.reading.insert(link);
        self.wanted_links.entry((sync, member)).or_default().insert(link);
    }

    /// Has a linked record read because what was seen of it cannot be ordered, and was therefore let go of. The wish is
    /// durable: the feed will not tell of it again (invariant 1).
    pub(crate) fn want_read_instead(&mut self, sync: usize, member: MemberIndex, link: LinkId) {
        if self.keep_wish(sync, member, Unread::Link(link), (Some(link), None)) {
            self.want_read(sync, member, link);
        }
    }

    /// The same for a key of which it cannot be told whose it is.
    pub(crate) fn want_stranger_instead(&mut self, sync: usize, address: Address, key: Key) {
        let member = address.member;
        if self.keep_wish(sync, member, Unread::Key(key.encode()), (None, Some(key.clone()))) {
            self.want_stranger(sync, address, key);
        }
    }

    /// Says whether there is room to read it now; if not, it is read when the store's wishes are next looked through.
    fn keep_wish(&mut self, sync: usize, member: MemberIndex, what: Unread, kept: Kept) -> bool {
        let Some(id) = self.rules(sync).map(|rules| rules.id) else { return false };
        let full = self.unread.len() >= READING_MAX;
        self.more_unread |= full;
        if full || self.unread.insert((id, member, what.clone())) {
            self.transaction.settings.push((what.setting(id, member), postcard::to_stdvec(&kept).ok()));
        }
        !full
    }

    /// Takes up the wishes that there was no room for, once those before them are met.
    pub(crate) async fn take_up_wishes(&mut self) -> Result<()> {
        if self.more_unread && self.unread.is_empty() {
            self.commit();
            self.restore_wishes().await?;
        }
        Ok(())
    }

    /// The answer to such a wish is in.
    pub(crate) fn wish_is_met(&mut self, sync: usize, member: MemberIndex, what: Unread) {
        if self.unread.is_empty() {
            return;
        }
        let Some(id) = self.rules(sync).map(|rules| rules.id) else { return };
        let name = what.setting(id, member);
        if self.unread.remove(&(id, member, what)) {
            self.transaction.settings.push((name, None));
        }
    }

    /// What an earlier run was to read and did not.
    pub(crate) async fn restore_wishes(&mut self) -> Result<()> {
        if crate::mutants::active("unordered_forgotten") {
            return Ok(());
        }
        self.more_unread = false;
        let mut after: Option<String> = None;
        loop {
            let wishes = self.store.settings_after(UNREAD, after.as_deref(), WISHES_STEP).await?;
            let Some((last, _)) = wishes.last() else { return Ok(()) };
            after = Some(last.clone());
            for (name, bytes) in wishes {
                if self.unread.len() >= READING_MAX {
                    self.more_unread = true;
                    return Ok(());
                }
                self.restore_wish(&name, &bytes);
            }
        }
    }

    fn restore_wish(&mut self, name: &str, bytes: &[u8]) {
        let mut parts = name.strip_prefix(UNREAD).unwrap_or_default().split('/');
        let numbers = (parts.next().and_then(|part| part.parse().ok()), parts.next().and_then(|part| part.parse().ok()));
        let (Some(id), Some(member)) = numbers else { return };
        let Some(sync) = self.sync_of(SyncId(id)) else { return };
        let what = match postcard::from_bytes::<Kept>(bytes) {
            Ok((Some(link), _)) => {
                self.want_read(sync, member, link);
                Unread::Link(link)
            }
            Ok((None, Some(key))) => {
                self.want_stranger(sync, address(SyncId(id), member, &key), key.clone());
                Unread::Key(key.encode())
            }
            _ => return,
        };
        self.unread.insert((SyncId(id), member, what));
    }

    /// Has a stranger read.
    pub(crate) fn want_stranger(&mut self, sync: usize, address: Address, key: Key) {
        let member = address.member;
        if let Some(state) = self.member(sync, member) {
            // Where a link waits for it, it goes on to.
            state.to_read.entry(address.clone()).or_insert_with(|| Wanted::new(address, key, None));
        }
    }

    pub(crate) async fn start_reads(&mut self) -> Result<()> {
        let now = self.now();
        for ((sync, member), links) in std::mem::take(&mut self.wanted_links) {
            let Some(id) = self.rules(sync).map(|rules| rules.id) else { continue };
            let mut desk = self.desk();
            desk.load_links(&self.store, links.iter().copied().collect()).await?;
            for link in links {
                let key = desk.link(link).and_then(|link| link.sides.get(member)).and_then(|side| side.key.clone());
                match (key, self.member(sync, member)) {
                    (Some(key), Some(state)) => {
                        let address = address(id, member, &key);
                        state.to_read.insert(address.clone(), Wanted::new(address, key, Some(link)));
                    }
                    _ => {
                        self.reading.remove(&link);
                        self.wish_is_met(sync, member, Unread::Link(link));
                    }
                }
            }
        }
        for sync in 0..self.syncs.len() {
            for member in 0..self.syncs.get(sync).map_or(0, |state| state.members.len()) {
                self.start_read(sync, member, now);
            }
        }
        Ok(())
    }

    /// What was read of a link is let go of while a write is under way there: it is read once that is over.
    pub(crate) fn read_after_flight(&mut self, sync: usize, member: MemberIndex, link: LinkId) {
        if self.keep_wish(sync, member, Unread::Link(link), (Some(link), None)) {
            self.after_flight.insert((link, member));
        }
    }

    pub(crate) fn flight_is_over(&mut self, sync: usize, member: MemberIndex, link: LinkId) {
        if self.after_flight.remove(&(link, member)) {
            self.want_read(sync, member, link);
        }
    }

    /// Keeps the sight of an absence until the feed has passed what was committed before it.
    fn await_feed(&mut self, sync: usize, member: MemberIndex, link: LinkId, sight: Incoming) {
        let system = self.member_rules(sync, member).map(|rules| (rules.system.clone(), rules.object.clone()));
        let feed = system.and_then(|(system, object)| {
            self.feeds
                .iter_mut()
                .find(|((of, _), state)| *of == system && state.objects.contains(&object))
                .map(|(_, state)| state)
        });
        match feed {
            Some(feed) => feed.absences.push(Absence { link, sight, fenced: false }),
            None => {
                // No feed carries the object yet: looked at again in a while.
                let later = self.now().plus(std::time::Duration::from_secs(1));
                self.reading.remove(&link);
                self.waits.insert((later, link), sync);
            }
        }
        self.ask_fences();
    }

    fn start_read(&mut self, sync: usize, member: MemberIndex, now: crate::clock::Moment) {
        let (Some(connector), Some(selection)) =
            (self.connector(sync, member), self.member_rules(sync, member).map(|rules| rules.selection.clone()))
        else {
            return;
        };
        let Some(state) = self.member(sync, member) else { return };
        if state.reading || state.to_read.is_empty() || state.retry_at.is_some_and(|at| at > now) {
            return;
        }
        state.reading = true;
        let mut asked: Vec<Wanted> = Vec::new();
        let mut most = READ_BATCH;
        while let Some(next) = state.to_read.first_entry() {
            most = most.min(next.get().batch);
            if !asked.is_empty() && asked.len() >= most {
                break;
            }
            asked.push(next.remove());
        }
        let generation = self.orphans.begin();
        let timeout = self.options.read_timeout;
        self.jobs.spawn(async move {
            let keys: Vec<Key> = asked.iter().map(|wanted| wanted.key.clone()).collect();
            let result = match tokio::time::timeout(timeout, connector.read(&selection, &keys)).await {
                Ok(result) => result,
                Err(_) => Err(Error::new(Code::Unreachable, "a read was not answered in time")),
            };
            Event::Read { sync, member, asked, generation, result }
        });
    }

    /// A batch that failed as a whole is read in halves; the record that fails alone waits for a person.
    async fn part_batch(&mut self, sync: usize, member: MemberIndex, asked: Vec<Wanted>, error: &Error) -> Result<()> {
        let half = (asked.len() / 2).max(1);
        if asked.len() > 1 {
            let Some(state) = self.member(sync, member) else { return Ok(()) };
            state.read_again(asked.into_iter().map(|wanted| Wanted { batch: half, ..wanted }));
            return Ok(());
        }
        let mut desk = self.desk();
        desk.load_links(&self.store, asked.iter().filter_map(|wanted| wanted.link).collect()).await?;
        for wanted in asked {
            self.unreadable(&mut desk, sync, member, wanted.key, wanted.link, error);
        }
        self.decide_touched(&mut desk, false).await?;
        desk.flush(&mut self.transaction);
        Ok(())
    }

    /// Whether something more was let go of in favour of a read since this one was asked for: then the answer at hand may be
    /// older than that, and meets no wish.
    fn is_wanted_again(&self, sync: usize, member: MemberIndex, wanted: &Wanted) -> bool {
        let link_again =
            wanted.link.is_some_and(|link| self.wanted_links.get(&(sync, member)).is_some_and(|of| of.contains(&link)));
        let state = self.syncs.get(sync).and_then(|state| state.members.get(member));
        let again = link_again || state.is_some_and(|state| state.to_read.contains_key(&wanted.address));
        again && !crate::mutants::active("older_read_meets_wish")
    }

    fn note_unreadable(&mut self, link: LinkId, member: MemberIndex) {
        if self.unreadable_links.len() >= UNREADABLE_MAX {
            self.unreadable_links.pop_first();
        }
        self.unreadable_links.insert((link, member));
    }

    /// A record that cannot be read, or whose match cannot be looked for, waits for a person; nothing else does.
    pub(crate) fn unreadable(
        &mut self,
        desk: &mut Desk,
        sync: usize,
        member: MemberIndex,
        key: Key,
        link: Option<LinkId>,
        error: &Error,
    ) {
        let system = self.member_rules(sync, member).map(|rules| rules.system.to_string()).unwrap_or_default();
        let message = format!("the record {key} of {system} cannot be read: {error}");
        match link.and_then(|link| desk.link(link).cloned()) {
            Some(mut link) => {
                let id = link.id;
                self.reading.remove(&id);
                self.wish_is_met(sync, member, Unread::Link(id));
                self.note_unreadable(id, member);
                self.block(sync, &mut link, member, &Error::new(Code::Unreadable, message).because(error.clone()));
                desk.save(link);
                desk.touch(id);
            }
            None => {
                self.wish_is_met(sync, member, Unread::Key(key.encode()));
                let Some(id) = self.rules(sync).map(|rules| rules.id) else { return };
                let there = address(id, member, &key);
                self.park_stranger(sync, &there, Code::Unreadable, message, Subject::Unreadable { member, key });
                if desk.slot(&there).is_none_or(|slot| slot.pending.is_none()) {
                    // Nothing of it waits in the store.
                    self.parked.remove(&there);
                }
            }
        }
    }

    pub(crate) async fn on_read(
        &mut self,
        sync: usize,
        member: MemberIndex,
        asked: Vec<Wanted>,
        generation: u64,
        result: Result<Vec<Presence>>,
    ) -> Result<()> {
        if let Some(state) = self.member(sync, member) {
            state.reading = false;
        }
        let stale = self.is_stale(sync, member, generation);
        let found = match result {
            Ok(found) if !stale => found,
            Err(error) if error.may_be_one_records() && !crate::mutants::active("poison_stops_all") => {
                self.orphans.end(generation);
                return self.part_batch(sync, member, asked, &error).await;
            }
            result => {
                if let Err(error) = result {
                    self.member_failed(sync, member, error);
                }
                if let Some(state) = self.member(sync, member) {
                    state.read_again(asked);
                }
                self.orphans.end(generation);
                return Ok(());
            }
        };
        if let Some(state) = self.member(sync, member) {
            state.retry_at = None;
            state.failures = 0;
            state.down = None;
        }
        let now = self.now();
        let Some(rules) = self.rules(sync) else { return Ok(()) };
        let mut arrived = Vec::new();
        let mut links = Vec::new();
        let mut forbidden = Vec::new();
        let mut not_there = Vec::new();
        let mut desk = self.desk();
        let missing = asked.iter().zip(&found).filter(|(_, presence)| matches!(presence, Presence::Absent { .. }));
        desk.load(&self.store, missing.map(|(wanted, _)| wanted.address.clone()).collect()).await?;
        for (wanted, presence) in asked.into_iter().zip(found) {
            let holds = |link: &LinkId| {
                let side = desk.link(*link).and_then(|link| link.sides.get(member));
                side.is_some_and(|side| side.standing != Standing::Gone && side.key.as_ref() == Some(&wanted.key))
            };
            let linked_since =
                desk.slot(&wanted.address).and_then(|slot| slot.link).filter(|link| wanted.link.is_none() && holds(link));
            if let (Presence::Absent { .. }, Some(link)) = (&presence, linked_since)
                && !crate::mutants::active("absence_of_a_stranger_trusted")
            {
                // It was a stranger when it was asked after: its absence is looked into like that of any known record.
                self.wish_is_met(sync, member, Unread::Key(wanted.key.encode()));
                self.want_read_instead(sync, member, link);
                continue;
            }
            let is_wanted_again = self.is_wanted_again(sync, member, &wanted);
            let link = wanted.link;
            if !is_wanted_again {
                // Asked for as a stranger's as well, before a link's wish took its place.
                self.wish_is_met(sync, member, Unread::Key(wanted.key.encode()));
            }
            let absent = matches!(presence, Presence::Absent { .. });
            if link.is_none() && !matches!(presence, Presence::Present(_)) {
                not_there.push(wanted.address.clone());
            }
            let observation = match presence {
                Presence::Present(observation) => observation,
                Presence::Absent { version } => {
                    let object = rules.members.get(member).map_or_else(|| "".into(), |member| member.object.clone());
                    Observation::absent(object, wanted.key, version, now)
                }
                Presence::Forbidden(error) => {
                    forbidden.extend(link.map(|link| (link, error)));
                    links.extend(link);
                    continue;
                }
            };
            let link = link.filter(|_| !is_wanted_again || absent);
            let sight = crate::capture::incoming(&rules, sync, member, observation, now, &self.store_id, true);
            match link.filter(|_| absent) {
                // Deleted, or moved to another key: the feed will tell. The link goes on waiting until it has.
                Some(link) => self.await_feed(sync, member, link, sight),
                None => {
                    arrived.push(sight);
                    links.extend(link);
                }
            }
        }
        for link in &links {
            self.reading.remove(link);
            self.wish_is_met(sync, member, Unread::Link(*link));
        }
        desk.load_links(&self.store, links.clone()).await?;
        self.take_in_all(&mut desk, arrived).await?;
        for (link, error) in forbidden {
            self.note_unreadable(link, member);
            if let Some(mut link) = desk.link(link).cloned() {
                let error = Error::new(Code::Forbidden, "the record cannot be read").because(error);
                self.block(sync, &mut link, member, &error);
                desk.save(link);
            }
        }
        for link in links {
            desk.touch(link);
        }
        self.decide_touched(&mut desk, false).await?;
        desk.flush(&mut self.transaction);
        self.orphans.end(generation);
        self.will_not_come(not_there);
        Ok(())
    }
}
