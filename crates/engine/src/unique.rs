//! Values that must be unique: looked for at every member before a decision agrees on one, among the records that are
//! there and among those that have just been given the value and do not show it yet. Of two records that claim one value
//! at once, the one that is decided first has it. Decides nothing else, and says nothing of who is right.

use crate::connector::Connector;
use crate::error::{Code, Error, Result};
use crate::identify::FIND_LIMIT;
use crate::link::{FieldIndex, Life, Link, LinkId, MemberIndex};
use crate::map::{canonical_record, wanted};
use crate::reconcile::Uniqueness;
use crate::record::{FieldName, Key};
use crate::rules::SyncRules;
use crate::runtime::bounds::{READING_MAX, UNREADABLE_MAX};
use crate::runtime::core::{Core, Event};
use crate::runtime::desk::{Desk, address};
use crate::schema::Selection;
use crate::store::Address;
use crate::value::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Records in one search.
const LOOK_BATCH: usize = 500;

/// Records of a sync whose unique values are to be looked for.
#[derive(Default)]
pub(crate) struct Looks {
    queue: VecDeque<Look>,
    /// The links that wait for an answer: nothing is decided about them meanwhile.
    waiting: BTreeSet<LinkId>,
    running: bool,
    retry_at: Option<crate::clock::Moment>,
    failures: u32,
    /// How often the batch is halved, since one failed as a whole (invariant 7).
    halvings: u32,
    /// Values for which a member cannot be asked, and that member: a person is.
    refused: BTreeMap<LinkId, (MemberIndex, Vec<(FieldIndex, Value)>)>,
}

/// A record and the values that it is about to have.
#[derive(Clone)]
pub(crate) struct Look {
    link: LinkId,
    values: Vec<(FieldIndex, Value)>,
}

/// For each record, for each value, the records that have it.
pub(crate) type Holders = Vec<Vec<Vec<(MemberIndex, Key)>>>;

/// The answer to a search, or why there is none and of which member.
pub(crate) type Looked = std::result::Result<Holders, (MemberIndex, Error)>;

impl Looks {
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn awaits(&self, link: LinkId) -> bool {
        self.waiting.contains(&link)
    }

    /// Whether a person is asked about a link because these values could not be looked for.
    pub fn is_refused(&self, link: &Link, values: &[(FieldIndex, Value)]) -> bool {
        let is_blocked = |member: MemberIndex| link.sides.get(member).is_some_and(|side| side.blocked.is_some());
        self.refused.get(&link.id).is_some_and(|(member, refused)| refused == values && is_blocked(*member))
    }

    /// The link is decided about: the member that was kept from being written until that.
    pub fn is_over(&mut self, link: LinkId) -> Option<MemberIndex> {
        self.refused.remove(&link).map(|(member, _)| member)
    }
}

impl Core {
    /// Has values looked for. The link waits until then.
    pub(crate) fn want_look(&mut self, sync: usize, link: LinkId, values: Vec<(FieldIndex, Value)>) {
        if self.syncs.get(sync).is_some_and(|state| state.looks.waiting.len() >= READING_MAX) {
            return self.spill(sync);
        }
        if let Some(state) = self.syncs.get_mut(sync)
            && state.looks.waiting.insert(link)
        {
            state.looks.queue.push_back(Look { link, values });
        }
    }

    pub(crate) fn start_looks(&mut self) {
        let now = self.now();
        for sync in 0..self.syncs.len() {
            let Some(state) = self.syncs.get_mut(sync) else { continue };
            let ready = state.active() && !state.looks.running && state.looks.retry_at.is_none_or(|at| at <= now);
            if !ready || state.looks.queue.is_empty() {
                continue;
            }
            state.looks.running = true;
            let most = (LOOK_BATCH >> state.looks.halvings.min(16)).max(1);
            let batch = state.looks.queue.len().min(most);
            let asked: Vec<Look> = state.looks.queue.drain(..batch).collect();
            let rules = Arc::clone(&state.rules);
            let connectors: Vec<Option<Arc<dyn Connector>>> =
                (0..rules.members.len()).map(|member| self.connector(sync, member)).collect();
            let timeout = self.options.read_timeout;
            self.jobs.spawn(async move {
                let result = match tokio::time::timeout(timeout, look(&rules, &connectors, &asked)).await {
                    Ok(result) => result,
                    Err(_) => Err((0, Error::new(Code::Unreachable, "a search was not answered in time"))),
                };
                Event::Looked { sync, asked, result }
            });
        }
    }

    pub(crate) async fn on_looked(&mut self, sync: usize, asked: Vec<Look>, result: Looked) -> Result<()> {
        let now = self.now();
        let (min, max) = (self.options.reconnect_min, self.options.reconnect_max);
        let Some(state) = self.syncs.get_mut(sync) else { return Ok(()) };
        let rules = Arc::clone(&state.rules);
        state.looks.running = false;
        let holders = match result {
            Ok(holders) => holders,
            Err((member, error)) if error.may_be_one_records() && !crate::mutants::active("poison_stops_all") => {
                if asked.len() <= 1 {
                    return self.look_refused(sync, member, asked, &error).await;
                }
                // Asked again at once, in halves.
                while LOOK_BATCH >> state.looks.halvings.min(16) >= asked.len() {
                    state.looks.halvings = state.looks.halvings.saturating_add(1);
                }
                asked.into_iter().rev().for_each(|look| state.looks.queue.push_front(look));
                return Ok(());
            }
            Err((_, error)) => {
                tracing::warn!(error = error.chain(), "unique values cannot be looked for");
                state.looks.failures = state.looks.failures.saturating_add(1);
                let wait = min.saturating_mul(1 << state.looks.failures.min(16)).min(max);
                state.looks.retry_at = Some(now.plus(error.retry_after.unwrap_or(wait)));
                asked.into_iter().rev().for_each(|look| state.looks.queue.push_front(look));
                return Ok(());
            }
        };
        state.looks.failures = 0;
        state.looks.halvings = state.looks.halvings.saturating_sub(1);
        state.looks.retry_at = None;
        // The store is read: it must know of every claim that was made so far.
        self.commit();
        let keys: Vec<Vec<u8>> = asked.iter().flat_map(|look| claims(&rules, look)).collect();
        let reserved = self.store.reserved(rules.id, keys.clone()).await?;
        let mut claimed: BTreeMap<Vec<u8>, LinkId> =
            keys.into_iter().zip(reserved).filter_map(|(key, link)| Some((key, link?))).collect();
        let mut desk = self.desk();
        let there: Vec<Address> =
            holders.iter().flatten().flatten().map(|(member, key)| address(rules.id, *member, key)).collect();
        desk.load(&self.store, there).await?;
        let links = claimed.values().copied().chain(asked.iter().map(|look| look.link)).collect();
        desk.load_links(&self.store, links).await?;
        for (look, holders) in asked.into_iter().zip(holders) {
            self.decide_looked(&mut desk, &rules, sync, look, holders, &mut claimed).await?;
        }
        self.decide_touched(&mut desk, false).await?;
        desk.flush(&mut self.transaction);
        Ok(())
    }

    /// A record whose values alone cannot be looked for waits for a person; nothing else does.
    async fn look_refused(&mut self, sync: usize, member: MemberIndex, asked: Vec<Look>, error: &Error) -> Result<()> {
        let mut desk = self.desk();
        desk.load_links(&self.store, asked.iter().map(|look| look.link).collect()).await?;
        for look in asked {
            if let Some(state) = self.syncs.get_mut(sync) {
                state.looks.waiting.remove(&look.link);
                if state.looks.refused.len() >= UNREADABLE_MAX {
                    state.looks.refused.pop_first();
                }
                state.looks.refused.insert(look.link, (member, look.values));
            }
            if let Some(mut link) = desk.link(look.link).cloned() {
                let refused = Error::new(Code::TargetRejected, "it cannot be looked whether another record has its values");
                self.block(sync, &mut link, member, &refused.because(error.clone()));
                desk.save(link);
                desk.touch(look.link);
            }
        }
        self.decide_touched(&mut desk, false).await?;
        desk.flush(&mut self.transaction);
        Ok(())
    }

    /// Decides about one record, now that it is known who else has its values, and claims those that it gets.
    async fn decide_looked(
        &mut self,
        desk: &mut Desk,
        rules: &Arc<SyncRules>,
        sync: usize,
        look: Look,
        holders: Vec<Vec<(MemberIndex, Key)>>,
        claimed: &mut BTreeMap<Vec<u8>, LinkId>,
    ) -> Result<()> {
        if let Some(state) = self.syncs.get_mut(sync) {
            state.looks.waiting.remove(&look.link);
        }
        let keys = claims(rules, &look);
        let known = look.values.iter().zip(holders).zip(&keys).map(|(((field, value), holders), key)| {
            let other = claimed.get(key).filter(|claimer| **claimer != look.link);
            let by_claim = other.and_then(|claimer| desk.link(*claimer)).is_some_and(|link| has(rules, link, *field, value));
            let by_record = holders.iter().any(|(member, key)| holds(desk, rules, look.link, (*member, key), (*field, value)));
            (*field, value.clone(), by_claim || by_record)
        });
        let known = Uniqueness::Known(known.collect());
        self.decide_link_knowing(desk, look.link, &known).await?;
        let Some(link) = desk.link(look.link) else { return Ok(()) };
        for ((field, value), key) in look.values.iter().zip(keys) {
            if has(rules, link, *field, value) {
                self.transaction.reservations.push((rules.id, key.clone(), Some(look.link)));
                claimed.insert(key, look.link);
            }
        }
        Ok(())
    }
}

/// Whether it is agreed that a record, which lives, has this value.
fn has(rules: &SyncRules, link: &Link, field: FieldIndex, value: &Value) -> bool {
    let agreed = || {
        let group = rules.fields.get(field)?.group;
        let place = rules.group_fields(group).iter().position(|other| *other == field)?;
        link.groups.get(group)?.agreed.as_ref()?.values.get(place)
    };
    link.life == Life::Live && agreed().is_some_and(|agreed| agreed.equivalent(value))
}

/// Whether a record that was found stands in the way. One that is being identified, or about which nothing is agreed yet,
/// comes later and will find this one; one that shows a value which it no longer is to have does not.
fn holds(
    desk: &Desk,
    rules: &SyncRules,
    asker: LinkId,
    (member, key): (MemberIndex, &Key),
    (field, value): (FieldIndex, &Value),
) -> bool {
    let Some(slot) = desk.slot(&address(rules.id, member, key)) else { return true };
    match slot.link {
        Some(link) if link == asker => false,
        Some(link) => desk.link(link).is_none_or(|link| match link.life {
            Life::Live => has(rules, link, field, value),
            Life::Deleted { .. } => false,
            Life::Detached { .. } => true,
        }),
        None => slot.pending.is_none(),
    }
}

/// The claims that a record makes on its values, as the store keeps them. No match value begins like this: its first part
/// would be longer than any part can be.
fn claims(rules: &SyncRules, look: &Look) -> Vec<Vec<u8>> {
    let claim = |(field, value): &(FieldIndex, Value)| {
        let name = rules.fields.get(*field).map_or("", |field| field.name.as_str());
        let mut key = vec![0xff; 4];
        key.extend(Key(vec![Value::text(name), value.clone()]).encode());
        key
    };
    look.values.iter().map(claim).collect()
}

/// Asks every member that has a field for the records that have its values, each member and field in one call.
async fn look(rules: &SyncRules, connectors: &[Option<Arc<dyn Connector>>], asked: &[Look]) -> Looked {
    let mut holders: Holders = asked.iter().map(|look| vec![Vec::new(); look.values.len()]).collect();
    for (member, connector) in connectors.iter().enumerate() {
        let (Some(connector), Some(of_member)) = (connector, rules.members.get(member)) else { continue };
        for (field, _) in rules.fields.iter().enumerate() {
            let Some(at) = rules.at(member, field) else { continue };
            let (mut places, mut rows) = (Vec::new(), Vec::new());
            for (record, look) in asked.iter().enumerate() {
                for (place, (_, value)) in look.values.iter().enumerate().filter(|(_, (of, _))| *of == field) {
                    // What the member cannot show, none of its records has.
                    if let Ok(Some(shown)) = wanted(at, value, || canonical_record(rules, &[])) {
                        places.push((record, place));
                        rows.push(vec![shown]);
                    }
                }
            }
            if rows.is_empty() {
                continue;
            }
            let selection = Selection { object: of_member.object.clone(), fields: vec![at.name.clone()] };
            let by: [FieldName; 1] = [at.name.clone()];
            let found = connector.find(&selection, &by, &rows, FIND_LIMIT).await.map_err(|error| (member, error))?;
            for ((record, place), found) in places.into_iter().zip(found) {
                let of_value = holders.get_mut(record).and_then(|of_record| of_record.get_mut(place));
                of_value.into_iter().for_each(|known| known.extend(found.iter().map(|seen| (member, seen.key.clone()))));
            }
        }
    }
    Ok(holders)
}
