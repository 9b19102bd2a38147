//! The search for a stranger's match, or for what stood in the way of a create, at the other members. What is found is
//! judged elsewhere.

use super::Unidentified;
use super::unmark::is_to_be_unmarked;
use super::values::{canonical_match, match_bytes, search_rows};
use crate::change::Observation;
use crate::clock::Moment;
use crate::connector::{Operation, Presence};
use crate::error::{Class, Code, Error, Result};
use crate::link::{LinkId, MemberIndex, Shown};
use crate::reconcile::{Patch, patch_knowing};
use crate::record::{FieldName, Key, Record};
use crate::rules::SyncRules;
use crate::runtime::bounds::{CHUNK_MAX, PARKED_STRANGERS_MAX};
use crate::runtime::core::{Core, Event};
use crate::runtime::desk::Desk;
use crate::schema::Selection;
use crate::store::Address;
use crate::value::Value;
use std::sync::Arc;

/// Strangers in one search.
pub(crate) const FIND_BATCH: usize = 500;

/// The most candidates asked for: two are already too many.
pub(crate) const FIND_LIMIT: usize = 5;

/// A search at the other members.
pub(crate) struct Find {
    pub sync: usize,
    pub kind: FindKind,
    /// The members searched, in the order of the answer.
    pub others: Vec<MemberIndex>,
}

/// What is searched for.
pub(crate) enum FindKind {
    /// The matches of strangers of a member.
    Strangers { member: MemberIndex, items: Vec<Stranger> },
    /// The record that stood in the way of a create.
    Collided { link: LinkId },
}

pub(crate) struct Stranger {
    pub address: Address,
    /// The rows of the search that are this stranger's.
    pub rows: std::ops::Range<usize>,
    pub value: Option<Vec<u8>>,
    /// Whether a first load has read it, and nobody has touched it since.
    pub of_load: bool,
}

/// Per member searched, per row, the records found.
pub(crate) type Candidates = Vec<Vec<Vec<Observation>>>;

impl Core {
    /// How many are searched for at once, and how many are identified at once where some need no search: what is found to be new
    /// at once is made by one write, so as many as are best for a first load; a search has to be answered in time.
    fn find_batch(&self, sync: usize) -> (usize, usize) {
        let Some(rules) = self.rules(sync) else { return (FIND_BATCH, FIND_BATCH) };
        let load = (0..rules.members.len()).filter_map(|member| self.load_batch(sync, member)).max().unwrap_or(0);
        let searched = FIND_BATCH.max(rules.batch_size.min(CHUNK_MAX));
        (searched, searched.max(load.min(CHUNK_MAX)))
    }

    pub(crate) async fn start_finds(&mut self) -> Result<()> {
        for sync in 0..self.syncs.len() {
            self.start_find(sync).await?;
        }
        Ok(())
    }

    pub(super) async fn start_find(&mut self, sync: usize) -> Result<()> {
        let now = self.now();
        if self.parked.len() >= PARKED_STRANGERS_MAX {
            return Ok(());
        }
        let Some(state) = self.syncs.get_mut(sync) else { return Ok(()) };
        let ready = state.active()
            && state.begun
            && !state.unidentified.running
            && state.unidentified.retry_at.is_none_or(|at| at <= now);
        if !ready {
            return Ok(());
        }
        let waiting = &mut state.unidentified;
        while let Some((at, address)) = waiting.later.first().cloned().filter(|(at, _)| *at <= now) {
            waiting.later.remove(&(at, address.clone()));
            if waiting.queued.insert(address.clone()) {
                waiting.queue.push_back(address);
            }
        }
        if let Some((at, member, link)) = waiting.collided.first().copied().filter(|(at, ..)| *at <= now) {
            waiting.collided.remove(&(at, member, link));
            return self.find_collided(sync, member, link).await;
        }
        let Some(member) = waiting.queue.front().map(|address| address.member) else { return Ok(()) };
        self.find_strangers(sync, member).await
    }

    /// Looks for the matches of those of one member that are at the head of the queue.
    async fn find_strangers(&mut self, sync: usize, member: MemberIndex) -> Result<()> {
        let Some(rules) = self.rules(sync) else { return Ok(()) };
        let (searched_most, most) = self.find_batch(sync);
        let mut desk = self.desk();
        let others: Vec<MemberIndex> = (0..rules.members.len()).filter(|other| *other != member).collect();
        let mut rows: Vec<Vec<Vec<Value>>> = vec![Vec::new(); others.len()];
        let (mut items, mut searched, mut taken) = (Vec::new(), 0_usize, 0_usize);
        loop {
            let Some(waiting) = self.syncs.get_mut(sync).map(|state| &mut state.unidentified) else { return Ok(()) };
            let halvings = waiting.halvings.min(16);
            let (searched_most, most) = ((searched_most >> halvings).max(1), (most >> halvings).max(1));
            // Portions, so that what needs a search beyond what is asked for at once is not brought onto the desk in vain.
            let room = searched_most.saturating_sub(searched).min(most.saturating_sub(taken));
            let portion = if searched.saturating_mul(2) > searched_most { 0 } else { room };
            let batch = waiting.next_of(member, portion);
            if batch.is_empty() {
                break;
            }
            taken = taken.saturating_add(batch.len());
            desk.load(&self.store, batch.clone()).await?;
            for address in batch {
                let stranger = self.looked_for(&desk, &rules, sync, address, &others, &mut rows);
                searched = searched.saturating_add(usize::from(stranger.as_ref().is_some_and(|item| item.value.is_some())));
                items.extend(stranger);
            }
        }
        if items.is_empty() {
            return Box::pin(self.start_find_again(sync)).await;
        }
        let find = Find { sync, kind: FindKind::Strangers { member, items }, others };
        self.search(&rules, find, rows, None);
        Ok(())
    }

    /// A stranger whose match is to be looked for, with the rows of its search behind those of others; none where it is none any
    /// longer, or has to be read first.
    fn looked_for(
        &mut self,
        desk: &Desk,
        rules: &SyncRules,
        sync: usize,
        address: Address,
        others: &[MemberIndex],
        rows: &mut [Vec<Vec<Value>>],
    ) -> Option<Stranger> {
        let member = address.member;
        let pending = desk.slot(&address).filter(|slot| slot.link.is_none()).and_then(|slot| slot.pending.as_ref())?;
        let Shown::Present { cells, times, .. } = &pending.shown else { return None };
        let of_load = times.iter().flatten().all(self.times_of_a_load(sync));
        let complete = rules
            .fields
            .iter()
            .zip(cells)
            .all(|(field, cell)| cell.is_some() || field.members.get(member).is_none_or(Option::is_none));
        if !complete && self.reads_are_full(sync, member) {
            self.spill(sync);
            return None;
        }
        if !complete {
            self.want_stranger(sync, address.clone(), pending.key.clone());
            return None;
        }
        let canonical = canonical_match(rules, member, cells);
        let value = match_bytes(rules, &canonical).filter(|_| !crate::mutants::active("lookup_skipped"));
        // While calls are short what a first load has read is not searched for.
        let now = self.now();
        let held = others.iter().filter_map(|other| self.member(sync, *other)?.load.held_until(now)).max();
        if let Some(until) = held.filter(|_| of_load && value.is_some()) {
            if let Some(state) = self.syncs.get_mut(sync) {
                state.unidentified.later.insert((until, address));
            }
            return None;
        }
        let start = rows.first().map_or(0, Vec::len);
        if value.is_some() {
            for (rows, other) in rows.iter_mut().zip(others) {
                rows.extend(search_rows(rules, *other, &canonical));
            }
        }
        let end = rows.first().map_or(0, Vec::len);
        Some(Stranger { address, rows: start..end, value, of_load })
    }

    pub(super) async fn start_find_again(&mut self, sync: usize) -> Result<()> {
        let more = self.syncs.get(sync).is_some_and(|state| !state.unidentified.queue.is_empty());
        if more { self.start_find(sync).await } else { Ok(()) }
    }

    pub(super) async fn find_collided(&mut self, sync: usize, member: MemberIndex, id: LinkId) -> Result<()> {
        let Some(rules) = self.rules(sync) else { return Ok(()) };
        let mut desk = self.desk();
        desk.load_links(&self.store, vec![id]).await?;
        self.load_references(&mut desk, &[id]).await?;
        let Some(link) = desk.link(id) else { return Ok(()) };
        if link.in_flight() {
            self.want_match_later(sync, member, id);
            return Ok(());
        }
        let references = self.references(&desk, &rules, link, &[]);
        let image = match patch_knowing(&rules, link, member, &references) {
            Patch::Write(Operation::Create { image, .. }) => image,
            // Before a mark of deletion is taken off: another record may have come in the place of the marked one.
            Patch::Write(Operation::Update { .. }) if is_to_be_unmarked(link, member) => Record::new(),
            _ => return Ok(()),
        };
        let key: Option<Vec<Value>> = rules
            .members
            .get(member)
            .map(|rules| rules.schema.key.iter().map(|field| image.get(field.as_str()).cloned()).collect::<Option<Vec<Value>>>())
            .unwrap_or_default()
            .filter(|key| !key.is_empty());
        let canonical: Vec<Option<Value>> = rules
            .match_on
            .iter()
            .map(|rule| {
                let group = rules.fields.get(rule.field)?.group;
                let place = rules.group_fields(group).iter().position(|field| *field == rule.field)?;
                link.groups.get(group)?.agreed.as_ref()?.values.get(place).cloned()
            })
            .collect();
        let rows = if match_bytes(&rules, &canonical).is_some() { search_rows(&rules, member, &canonical) } else { Vec::new() };
        let find = Find { sync, kind: FindKind::Collided { link: id }, others: vec![member] };
        self.search(&rules, find, vec![rows], key.map(Key));
        Ok(())
    }

    /// Asks the members. `key`: a record to be read as well, under the key that a create would have given.
    pub(super) fn search(&mut self, rules: &Arc<SyncRules>, find: Find, rows: Vec<Vec<Vec<Value>>>, key: Option<Key>) {
        if let Some(state) = self.syncs.get_mut(find.sync) {
            state.unidentified.running = true;
        }
        let generation = self.orphans.begin();
        let (timeout, of_load) = (self.options.read_timeout, find.is_of_a_load());
        let mut asked = Vec::new();
        for (other, rows) in find.others.iter().zip(rows) {
            let (Some(connector), Some(selection)) =
                (self.connector(find.sync, *other), rules.members.get(*other).map(|member| member.selection.clone()))
            else {
                continue;
            };
            let by: Vec<FieldName> =
                rules.match_on.iter().filter_map(|rule| Some(rules.at(*other, rule.field)?.name.clone())).collect();
            asked.push((connector, selection, by, rows));
        }
        self.jobs.spawn(async move {
            let answer = async {
                let mut found = Vec::with_capacity(asked.len());
                for (connector, selection, by, rows) in asked {
                    found.push(ask(&*connector, &selection, &by, rows, key.clone(), of_load).await?);
                }
                Ok(found)
            };
            let result = match tokio::time::timeout(timeout, answer).await {
                Ok(result) => result,
                Err(_) => Err(Error::new(Code::Unreachable, "a search was not answered in time")),
            };
            Event::Found { find, generation, result }
        });
    }

    pub(super) fn search_failed(&mut self, find: Find, error: &Error) {
        let now = self.now();
        let (min, max) = (self.options.reconnect_min, self.options.reconnect_max);
        if error.class() == Class::Throttled && find.is_of_a_load() {
            // Said with the members, as whatever else a first load waits for.
            find.others.iter().for_each(|member| self.hold_loads(find.sync, *member, error));
            if let Some(state) = self.syncs.get_mut(find.sync) {
                state.unidentified.leave_loads_until(now.plus(error.retry_after.unwrap_or(max)), find);
            }
            return;
        }
        tracing::warn!(error = error.chain(), "matches cannot be looked for");
        let (_, size) = self.find_batch(find.sync);
        let Some(state) = self.syncs.get_mut(find.sync) else { return };
        let waiting = &mut state.unidentified;
        if error.may_be_one_records() && !crate::mutants::active("poison_stops_all") {
            // Asked again at once, in halves.
            let asked = if let FindKind::Strangers { items, .. } = &find.kind { items.len() } else { 1 };
            while asked > 1 && size >> waiting.halvings.min(16) >= asked {
                waiting.halvings = waiting.halvings.saturating_add(1);
            }
            waiting.put_back(find);
            return;
        }
        waiting.failures = waiting.failures.saturating_add(1);
        let wait = error.retry_after.unwrap_or_else(|| min.saturating_mul(1 << waiting.failures.min(16)).min(max));
        waiting.retry_at = Some(now.plus(wait));
        waiting.put_back(find);
    }

    /// A search for a single record that fails on its own account, and not for want of the system: that one waits for a
    /// person.
    pub(super) async fn search_refused(&mut self, find: Find, error: &Error) -> Result<()> {
        let sync = find.sync;
        let mut desk = self.desk();
        match find.kind {
            FindKind::Strangers { member, items } => {
                desk.load(&self.store, items.iter().map(|item| item.address.clone()).collect()).await?;
                for item in items {
                    let key = desk.slot(&item.address).and_then(|slot| slot.pending.as_ref()).map(|pending| pending.key.clone());
                    if let Some(key) = key {
                        self.unreadable(&mut desk, sync, member, key, None, error);
                    }
                }
            }
            FindKind::Collided { link } => {
                let member = find.others.first().copied().unwrap_or_default();
                desk.load_links(&self.store, vec![link]).await?;
                if let Some(mut link) = desk.link(link).cloned() {
                    let refused = Error::new(Code::TargetRejected, "what stands in the way of the record cannot be looked for");
                    self.block(sync, &mut link, member, &refused.because(error.clone()));
                    desk.save(link);
                }
            }
        }
        desk.flush(&mut self.transaction);
        Ok(())
    }
}

impl Unidentified {
    /// Takes those at the head of the queue that are of this member.
    fn next_of(&mut self, member: MemberIndex, most: usize) -> Vec<Address> {
        let mut batch = Vec::new();
        while batch.len() < most && self.queue.front().is_some_and(|address| address.member == member) {
            let Some(address) = self.queue.pop_front() else { break };
            self.queued.remove(&address);
            batch.push(address);
        }
        batch
    }

    /// While calls are short what a first load has read waits, and holds nobody else back.
    fn leave_loads_until(&mut self, until: Moment, mut find: Find) {
        if let FindKind::Strangers { items, .. } = &mut find.kind {
            let loads = items.extract_if(.., |item| item.of_load);
            self.later.extend(loads.map(|item| (until, item.address)));
        }
        self.put_back(find);
    }

    /// What was searched for is searched for again.
    fn put_back(&mut self, find: Find) {
        match find.kind {
            FindKind::Strangers { items, .. } => {
                for item in items.into_iter().rev() {
                    if self.queued.insert(item.address.clone()) {
                        self.queue.push_front(item.address);
                    }
                }
            }
            FindKind::Collided { link } => {
                let member = find.others.first().copied().unwrap_or_default();
                self.collided.insert((Moment::default(), member, link));
            }
        }
    }
}

impl Find {
    /// Whether it looks for the match of what a first load has read, besides others perhaps.
    fn is_of_a_load(&self) -> bool {
        matches!(&self.kind, FindKind::Strangers { items, .. } if items.iter().any(|item| item.of_load))
    }

    /// Whether it is about one record alone.
    pub(super) fn is_of_one(&self) -> bool {
        match &self.kind {
            FindKind::Strangers { items, .. } => items.len() == 1,
            FindKind::Collided { .. } => true,
        }
    }
}

/// Asks one member for the matches of rows, and for a record by key. Rows with a null are not asked: they match nothing.
pub(super) async fn ask(
    connector: &dyn crate::connector::Connector,
    selection: &Selection,
    by: &[FieldName],
    rows: Vec<Vec<Value>>,
    key: Option<Key>,
    of_load: bool,
) -> Result<Vec<Vec<Observation>>> {
    let mut found = vec![Vec::new(); rows.len()];
    let asked: Vec<usize> =
        rows.iter().enumerate().filter(|(_, row)| !row.iter().any(Value::is_null)).map(|(place, _)| place).collect();
    if !asked.is_empty() && !by.is_empty() {
        let values: Vec<Vec<Value>> = asked.iter().filter_map(|place| rows.get(*place).cloned()).collect();
        let answers = match of_load {
            true => connector.find_for_load(selection, by, &values, FIND_LIMIT).await?,
            false => connector.find(selection, by, &values, FIND_LIMIT).await?,
        };
        for (place, answer) in asked.into_iter().zip(answers) {
            if let Some(found) = found.get_mut(place) {
                *found = answer;
            }
        }
    }
    if let Some(key) = key {
        let read = connector.read(selection, &[key]).await?;
        found.push(
            read.into_iter()
                .filter_map(|presence| if let Presence::Present(observation) = presence { Some(observation) } else { None })
                .collect(),
        );
    }
    Ok(found)
}
