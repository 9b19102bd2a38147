//! What a run would do to the records that are known to be the same from an earlier one: every link's records are read and
//! decided about by the very decision that the engine makes. Writes nothing anywhere, and keeps nothing of a record but a
//! few samples.

use super::{FirstRun, MemberPlan, SAMPLES_MAX, Sample};
use crate::capture::incoming;
use crate::change::Observation;
use crate::clock::Moment;
use crate::connector::{Connector, Operation, Presence};
use crate::error::{Code, Error, Result};
use crate::link::{Life, Link, LinkId, MemberIndex, Pending, Shown, Standing};
use crate::map;
use crate::plan::layout::{Layout, layouts};
use crate::reconcile::{Decision, Known, Need, Outcome, Patch, Uniqueness, decide_knowing, patch_knowing};
use crate::record::{Key, Record};
use crate::references::{References, referred};
use crate::rules::{GuardRules, SyncRules};
use crate::runtime::desk::address;
use crate::store::{self, Address, Store};
use crate::value::Value;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Links looked at in one step.
const STEP: usize = 500;
/// Percentages mean little of a handful: they count from so many records on.
const PERCENT_FROM: u64 = 20;

/// What becomes of the records that are known.
#[derive(Default)]
pub(super) struct Linked {
    links: u64,
    matched: u64,
    equal: u64,
    review: u64,
    differing: BTreeMap<String, u64>,
    /// One per member.
    pub members: Vec<Counted>,
    /// Records that will part from the link that they have: strangers, as it were.
    pub parting: HashSet<Address>,
    pub samples: Vec<Sample>,
}

/// What becomes of one member.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Counted {
    linked: u64,
    gone: u64,
    creates: u64,
    updates: u64,
    deletes: u64,
}

impl Counted {
    /// Adds to what is to be done about records that are not known.
    pub fn add_to(&self, plan: &mut MemberPlan) {
        plan.records += self.linked;
        plan.gone += self.gone;
        plan.creates += self.creates;
        plan.updates += self.updates;
        plan.deletes += self.deletes;
    }
}

impl Linked {
    /// Adds to what was found about records that are not known.
    pub fn add_to(&self, report: &mut FirstRun) {
        report.linked = self.links;
        report.matched += self.matched;
        report.equal += self.equal;
        report.review += self.review;
        for (field, count) in &self.differing {
            *report.differing.entry(field.clone()).or_default() += count;
        }
    }
}

/// Looks at every link of a sync. `connectors` stand in the order of the members.
///
/// # Errors
/// What the store and the connectors say.
pub(super) async fn count(
    rules: &SyncRules,
    store: &dyn Store,
    connectors: &[Arc<dyn Connector>],
    now: Moment,
) -> Result<Linked> {
    let installation = store.identity().await?.store;
    let known = layouts(store, rules.id).await?;
    let present = Layout::of(rules);
    let mut found = Linked { members: vec![Counted::default(); rules.members.len()], ..Linked::default() };
    let mut after = LinkId(0);
    loop {
        let links = store.scan_links(rules.id, after, STEP).await?;
        let Some(last) = links.last().map(|link| link.id) else { break };
        after = last;
        let mut adopted = Vec::with_capacity(links.len());
        for link in &links {
            let old = usize::try_from(link.layout).ok().and_then(|number| known.get(number));
            let old = old.ok_or_else(|| Error::new(Code::StoreDamaged, "a record has an unknown layout"))?;
            adopted.push(present.adopt(old, link, rules.layout));
        }
        let mut seen: Vec<Vec<Option<Pending>>> = adopted.iter().map(|link| vec![None; link.sides.len()]).collect();
        for (member, connector) in connectors.iter().enumerate() {
            let keyed = adopted.iter().enumerate().filter_map(|(at, link)| Some((at, link.sides.get(member)?.key.clone()?)));
            let (places, keys): (Vec<usize>, Vec<Key>) = keyed.unzip();
            let Some(selection) = rules.members.get(member).map(|member| &member.selection).filter(|_| !keys.is_empty()) else {
                continue;
            };
            for ((at, key), presence) in places.into_iter().zip(&keys).zip(connector.read(selection, &keys).await?) {
                let standing = adopted.get(at).and_then(|link| link.sides.get(member)).map(|side| side.standing);
                let slot = seen.get_mut(at).and_then(|seen| seen.get_mut(member));
                let shown = sight(rules, member, key, presence, standing, now);
                if let (Some(slot), Some(shown)) = (slot, shown) {
                    found.saw(member, &shown);
                    *slot = Some(incoming(rules, 0, member, shown, now, &installation, true).pending);
                }
            }
        }
        let references = references_of(rules, store, &adopted, &seen).await?;
        for (link, seen) in adopted.iter().zip(&seen) {
            found.see(rules, link, seen, &references, now);
        }
    }
    found.guard(&rules.guard);
    Ok(found)
}

/// What a read showed, as an observation; of a record that is not there only where it was.
fn sight(
    rules: &SyncRules,
    member: MemberIndex,
    key: &Key,
    presence: Presence,
    standing: Option<Standing>,
    now: Moment,
) -> Option<Observation> {
    match presence {
        Presence::Present(observation) => Some(observation),
        Presence::Absent { version } if matches!(standing, Some(Standing::Present | Standing::Marked)) => {
            Some(Observation::absent(rules.members.get(member)?.object.clone(), key.clone(), version, now))
        }
        Presence::Absent { .. } | Presence::Forbidden(_) => None,
    }
}

/// What is known of the records that these links, or what was seen of them, refer to.
async fn references_of(
    rules: &SyncRules,
    store: &dyn Store,
    links: &[Link],
    seen: &[Vec<Option<Pending>>],
) -> Result<References> {
    let (mut addresses, mut records) = (Vec::new(), Vec::new());
    for (field, reference) in rules.references() {
        let mut add = |member: MemberIndex, value: Option<&Value>| {
            let named = value.filter(|value| !value.is_null()).and_then(|value| reference.named(member, value).ok());
            addresses.extend(named.map(|unknown| unknown.address));
        };
        for (link, seen) in links.iter().zip(seen) {
            for (member, side) in link.sides.iter().enumerate() {
                add(member, side.base.get(field).and_then(Option::as_ref));
            }
            for pending in seen.iter().flatten() {
                if let Shown::Present { cells, .. } = &pending.shown {
                    add(pending.member, cells.get(field).and_then(Option::as_ref));
                }
            }
            records.extend(rules.agreed(link, field).and_then(referred));
        }
    }
    store::references(store, addresses, records).await
}

impl Linked {
    fn saw(&mut self, member: MemberIndex, observation: &Observation) {
        if let Some(counted) = self.members.get_mut(member).filter(|_| observation.image.record().is_some()) {
            counted.linked += 1;
        }
    }

    fn see(&mut self, rules: &SyncRules, link: &Link, seen: &[Option<Pending>], references: &References, now: Moment) {
        let is_there = |pending: &Option<Pending>| matches!(pending, Some(Pending { shown: Shown::Present { .. }, .. }));
        let matched = link.life == Life::Live && seen.iter().all(is_there);
        self.links += u64::from(link.life == Life::Live);
        self.matched += u64::from(matched);
        for (counted, (side, pending)) in self.members.iter_mut().zip(link.sides.iter().zip(seen)) {
            let gone = matches!(pending, Some(Pending { shown: Shown::Gone { .. }, .. })) && side.standing == Standing::Present;
            counted.gone += u64::from(gone && link.life == Life::Live);
        }
        let decision = match decided(rules, link, seen, references, now) {
            Ok(decision) => decision,
            Err(Need::NewLink(member)) => {
                let key = link.sides.get(member).and_then(|side| side.key.as_ref());
                self.parting.extend(key.map(|key| address(rules.id, member, key)));
                if let Some(counted) = self.members.get_mut(member) {
                    counted.linked = counted.linked.saturating_sub(1);
                }
                return;
            }
            Err(Need::Person) => {
                self.review += 1;
                return;
            }
            // It waits for a record of another sync, or for what the feed tells.
            Err(_) => return,
        };
        let blocked = decision.link.sides.iter().any(|side| side.blocked.is_some());
        let mut asked = blocked || !decision.reviews.is_empty() || decision.link.held.is_some();
        asked |= decision.link.groups.iter().any(|group| group.held.is_some());
        let mut fields: Vec<String> = Vec::new();
        let mut acts = false;
        for (member, side) in decision.link.sides.iter().enumerate().filter(|(_, side)| side.blocked.is_none()) {
            let operation = match patch_knowing(rules, &decision.link, member, references) {
                Patch::Write(operation) => operation,
                Patch::Rejected(_) => {
                    asked = true;
                    continue;
                }
                Patch::Nothing | Patch::Waits | Patch::Awaits => continue,
            };
            acts = true;
            let shown = map::member_record(rules, member, &side.base);
            self.act(rules, member, &operation, &shown, &mut fields);
        }
        for field in fields {
            *self.differing.entry(field).or_default() += 1;
        }
        self.review += u64::from(asked);
        self.equal += u64::from(matched && !acts && !asked);
    }

    /// Counts one write, and the canonical fields that it sets.
    fn act(&mut self, rules: &SyncRules, member: MemberIndex, operation: &Operation, shown: &Record, fields: &mut Vec<String>) {
        let Some(counted) = self.members.get_mut(member) else { return };
        let system = rules.members.get(member).map(|member| member.system.to_string()).unwrap_or_default();
        match operation {
            Operation::Create { .. } => counted.creates += 1,
            Operation::Delete { key, .. } => {
                counted.deletes += 1;
                self.sample(Sample { kind: "deleted".into(), system, key: key.to_string(), fields: Vec::new() });
            }
            Operation::Update { key, set, .. } => {
                counted.updates += 1;
                let mut changes = Vec::new();
                for (name, value) in set.iter() {
                    let is_named = |field: &usize| rules.at(member, *field).is_some_and(|at| at.name == *name);
                    let field = (0..rules.fields.len()).find(is_named).and_then(|field| rules.fields.get(field));
                    let field = field.map_or_else(|| name.to_string(), |field| field.name.clone());
                    let now = shown.get(name.as_str()).map_or_else(String::new, ToString::to_string);
                    changes.push((field.clone(), now, Some(value.to_string())));
                    if !fields.contains(&field) {
                        fields.push(field);
                    }
                }
                self.sample(Sample { kind: "differs".into(), system, key: key.to_string(), fields: changes });
            }
        }
    }

    fn sample(&mut self, sample: Sample) {
        let of_kind = self.samples.iter().filter(|known| known.kind == sample.kind && known.system == sample.system).count();
        if of_kind < SAMPLES_MAX {
            self.samples.push(sample);
        }
    }

    /// More deletes than the guard lets through wait for a person, all of a member's as one question.
    fn guard(&mut self, limits: &GuardRules) {
        for counted in &self.members {
            #[allow(clippy::cast_precision_loss, reason = "a percentage of a count is compared, nothing is carried")]
            let share = counted.gone as f64 * 100.0 / self.links.max(1) as f64;
            let trips = counted.gone > limits.max_deletes || (self.links >= PERCENT_FROM && share > limits.max_deletes_percent);
            self.review += u64::from(trips);
        }
    }
}

/// The decision about a link, as it will be once the feed has told what it has to tell.
fn decided(
    rules: &SyncRules,
    link: &Link,
    seen: &[Option<Pending>],
    references: &References,
    now: Moment,
) -> std::result::Result<Decision, Need> {
    let known = Known { unique: &Uniqueness::Waived, references };
    match decide_knowing(rules, link, seen, None, known, now, &mut 1) {
        Outcome::Decided(decision) => Ok(*decision),
        Outcome::Needs(Need::Wait(until)) if until > now => decided(rules, link, seen, references, until),
        Outcome::Needs(need) => Err(need),
    }
}
