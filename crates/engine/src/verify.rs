//! Whether the members of a sync are equal: every link's records read and compared, every record without a link found.
//! Reads only. What differs while a change is under way is looked at again before it counts.

mod reading;

use crate::clock::Clock;
use crate::connector::{ChunkCursor, Connector, Presence};
use crate::error::{Code, Error, Result};
use crate::link::{FieldIndex, Life, Link, LinkId, MemberIndex, ReviewId, Standing};
use crate::map;
use crate::record::{Key, Record};
use crate::references::{Meaning, Reference, References};
use crate::review::Subject;
use crate::rules::SyncRules;
use crate::store::{self, Address, LinkState, Store};
use crate::value::Value;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// Links, records, or review items, looked at in one step.
const CHUNK: usize = 500;
/// Differences listed one by one; more are only counted.
const LISTED_MAX: usize = 1_000;
/// Differences kept for another look; more stand as they are.
const SUSPECTS_MAX: usize = 20_000;
/// How often what differs is looked at again while a change is under way, and the pause between two looks.
const LOOKS_MAX: usize = 25;
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SyncVerification {
    /// The sync.
    pub name: String,
    /// When it began: both sides were equal as of then, or differ as listed.
    pub through: String,
    /// Links looked at.
    pub links: u64,
    /// Of these, how many are equal in every field.
    pub equal: u64,
    /// How many differ although nothing is under way.
    pub differing: u64,
    /// How many differ because they wait for a person.
    pub in_review: u64,
    /// How many still had a change under way at the end.
    pub under_way: u64,
    /// Records without a link, per member.
    pub unlinked: Vec<u64>,
    /// What differs, the first thousand.
    pub differences: Vec<Difference>,
}

impl SyncVerification {
    /// Whether nothing differs but what waits for a person or is under way.
    pub fn is_equal(&self) -> bool {
        self.differing == 0 && self.differences.is_empty()
    }
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// `differs`, `missing`, `unlinked` or `unreadable`.
    pub kind: String,
    /// The system of the record that differs, has no link, or is missing elsewhere.
    pub system: String,
    /// The record's key there.
    pub key: String,
    /// The system in which it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_in: Option<String>,
    /// The canonical field, what the first member shows and what this one shows.
    pub fields: Vec<(String, Option<String>, Option<String>)>,
}

impl Difference {
    /// Of a record that is where the difference is seen.
    pub fn new(kind: &str, system: String, key: String, fields: Vec<(String, Option<String>, Option<String>)>) -> Difference {
        Difference { kind: kind.to_owned(), system, key, missing_in: None, fields }
    }
}

/// Compares the members of one sync. `connectors` stand in the order of the members.
///
/// # Errors
/// What the store and the connectors say.
pub async fn verify(
    rules: &SyncRules,
    store: &dyn Store,
    connectors: &[Arc<dyn Connector>],
    clock: &dyn Clock,
) -> Result<SyncVerification> {
    if connectors.len() != rules.members.len() {
        return Err(Error::new(Code::Internal, "a verification needs one connector per member"));
    }
    let found = SyncVerification {
        name: rules.name.to_string(),
        through: clock.now().to_string(),
        unlinked: vec![0; rules.members.len()],
        ..SyncVerification::default()
    };
    let mut run = Run { rules, store, connectors, found };
    run.links().await?;
    run.strangers().await?;
    Ok(run.found)
}

struct Run<'a> {
    rules: &'a SyncRules,
    store: &'a dyn Store,
    connectors: &'a [Arc<dyn Connector>],
    found: SyncVerification,
}

/// Records that no link knows.
#[derive(Default)]
struct Strangers {
    /// Those that can be read.
    there: Vec<Key>,
    /// Those that are listed, and cannot be read.
    unreadable: Vec<Key>,
}

/// What one link looks like.
enum Verdict {
    Equal,
    /// Something is to be written, or was seen and not yet taken into account.
    UnderWay,
    /// A person is asked about it.
    InReview,
    Differs(Vec<Difference>),
}

impl Run<'_> {
    async fn links(&mut self) -> Result<()> {
        let mut after = LinkId(0);
        let mut suspects: Vec<LinkId> = Vec::new();
        loop {
            let links = self.store.scan_links(self.rules.id, after, CHUNK).await?;
            let Some(last) = links.last() else { break };
            after = last.id;
            let live: Vec<LinkId> = links.iter().filter(|link| link.life == Life::Live).map(|link| link.id).collect();
            self.found.links += u64::try_from(live.len()).unwrap_or(u64::MAX);
            for (link, verdict) in self.look(live).await? {
                match verdict {
                    Verdict::Equal => self.found.equal += 1,
                    Verdict::InReview => self.found.in_review += 1,
                    Verdict::Differs(differences) if suspects.len() >= SUSPECTS_MAX => self.differ(differences),
                    Verdict::Differs(_) | Verdict::UnderWay => suspects.push(link),
                }
            }
        }
        self.look_again(suspects).await
    }

    /// A difference counts when two looks in a row show it and nothing is under way.
    async fn look_again(&mut self, mut suspects: Vec<LinkId>) -> Result<()> {
        let mut seen: BTreeMap<LinkId, Vec<Difference>> = BTreeMap::new();
        for _ in 0..LOOKS_MAX {
            if suspects.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(LOOK_PAUSE).await;
            let mut left = Vec::new();
            for some in suspects.chunks(CHUNK) {
                for (link, verdict) in self.look(some.to_vec()).await? {
                    match verdict {
                        Verdict::Equal => self.found.equal += 1,
                        Verdict::InReview => self.found.in_review += 1,
                        Verdict::UnderWay => left.push(link),
                        Verdict::Differs(differences) if seen.get(&link) == Some(&differences) => self.differ(differences),
                        Verdict::Differs(differences) => {
                            seen.insert(link, differences);
                            left.push(link);
                        }
                    }
                }
            }
            suspects = left;
        }
        self.found.under_way += u64::try_from(suspects.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    fn differ(&mut self, differences: Vec<Difference>) {
        self.found.differing += 1;
        let room = LISTED_MAX.saturating_sub(self.found.differences.len());
        self.found.differences.extend(differences.into_iter().take(room));
    }

    /// Reads the records of these links at every member, then the links themselves: what was under way when the records
    /// were read shows in the link. A link that is gone by then, or no longer live, is left out.
    async fn look(&self, ids: Vec<LinkId>) -> Result<Vec<(LinkId, Verdict)>> {
        let before = self.store.links(ids.clone()).await?;
        let mut shown: BTreeMap<(MemberIndex, LinkId), Presence> = BTreeMap::new();
        for (member, connector) in self.connectors.iter().enumerate() {
            let Some(rules) = self.rules.members.get(member) else { continue };
            let keyed: Vec<(LinkId, Key)> =
                before.iter().filter_map(|state| Some((state.link.id, key_at(&state.link, member)?))).collect();
            let keys: Vec<Key> = keyed.iter().map(|(_, key)| key.clone()).collect();
            if keys.is_empty() {
                continue;
            }
            for ((id, _), presence) in keyed.into_iter().zip(reading::read(connector.as_ref(), &rules.selection, &keys).await?) {
                shown.insert((member, id), presence);
            }
        }
        let references = store::references(self.store, self.named(&shown), Vec::new()).await?;
        let after = self.store.links(ids).await?;
        let live = after.into_iter().filter(|state| state.link.life == Life::Live);
        Ok(live.map(|state| (state.link.id, self.verdict(&state, &shown, &references))).collect())
    }

    /// The addresses of the records that these refer to.
    fn named(&self, shown: &BTreeMap<(MemberIndex, LinkId), Presence>) -> Vec<Address> {
        let mut addresses = Vec::new();
        for (field, reference) in self.rules.references() {
            for ((member, _), presence) in shown {
                let Presence::Present(observation) = presence else { continue };
                let (Some(at), Some(record)) = (self.rules.at(*member, field), observation.image.record()) else { continue };
                let value = record.get(at.name.as_str()).filter(|value| !value.is_null());
                let named = value.and_then(|value| reference.named(*member, value).ok());
                addresses.extend(named.map(|unknown| unknown.address));
            }
        }
        addresses
    }

    fn verdict(&self, state: &LinkState, shown: &BTreeMap<(MemberIndex, LinkId), Presence>, references: &References) -> Verdict {
        let link = &state.link;
        let present = |member: MemberIndex| match shown.get(&(member, link.id)) {
            Some(Presence::Present(observation)) => observation.image.record(),
            _ => None,
        };
        let mut differences: Vec<Difference> = Vec::new();
        for (member, side) in link.sides.iter().enumerate() {
            // What cannot be read is not known to be equal.
            if matches!(shown.get(&(member, link.id)), Some(Presence::Forbidden(_))) {
                let key = side.key.as_ref().map_or(String::new(), ToString::to_string);
                differences.push(Difference::new("unreadable", self.system(member), key, Vec::new()));
            }
        }
        let Some(first) = (0..link.sides.len()).find(|member| present(*member).is_some()) else {
            return waiting(self.rules, state, differences);
        };
        for (member, side) in link.sides.iter().enumerate().filter(|(member, _)| *member != first) {
            let is_forbidden = matches!(shown.get(&(member, link.id)), Some(Presence::Forbidden(_)));
            let is_meant = matches!(side.standing, Standing::LeftAlone | Standing::Marked) || is_forbidden;
            match (present(first), present(member)) {
                (Some(ours), Some(theirs)) => {
                    let fields = differing(self.rules, references, first, ours, member, theirs);
                    if !fields.is_empty() {
                        let key = side.key.as_ref().map_or(String::new(), ToString::to_string);
                        differences.push(Difference::new("differs", self.system(member), key, fields));
                    }
                }
                // Also gone at a source without anybody having heard of it: its delete has not been followed.
                (_, None)
                    if !is_meant
                        && (self.flows(first, member) || (side.standing == Standing::Present && self.flows(member, first))) =>
                {
                    let key = link.sides.get(first).and_then(|side| side.key.as_ref()).map_or(String::new(), ToString::to_string);
                    let there = Difference::new("missing", self.system(first), key, Vec::new());
                    differences.push(Difference { missing_in: Some(self.system(member)), ..there });
                }
                _ => {}
            }
        }
        waiting(self.rules, state, differences)
    }

    /// Whether records of the one member are to be at the other.
    fn flows(&self, from: MemberIndex, to: MemberIndex) -> bool {
        let at = |member: MemberIndex| self.rules.members.get(member);
        at(from).is_some_and(|member| member.outward) && at(to).is_some_and(|member| member.inward)
    }

    fn system(&self, member: MemberIndex) -> String {
        self.rules.members.get(member).map_or(String::new(), |member| member.system.to_string())
    }

    /// Records of a member whose creates flow, and that no link knows.
    async fn strangers(&mut self) -> Result<()> {
        for (member, connector) in self.connectors.iter().enumerate() {
            let Some(rules) = self.rules.members.get(member).filter(|rules| rules.outward) else { continue };
            let mut cursor = ChunkCursor::default();
            let mut strangers: Vec<Key> = Vec::new();
            loop {
                let (keys, next) = reading::keys(connector.as_ref(), rules, &cursor, CHUNK).await?;
                let room = SUSPECTS_MAX.saturating_sub(strangers.len());
                strangers.extend(self.without_link(member, keys).await?.into_iter().take(room));
                match next {
                    Some(next) => cursor = next,
                    None => break,
                }
            }
            let Strangers { there, unreadable } = self.still_strangers(member, strangers, connector.as_ref()).await?;
            let there = self.without_those_in_review(member, there).await?;
            let unreadable = self.without_those_in_review(member, unreadable).await?;
            if let Some(count) = self.found.unlinked.get_mut(member) {
                *count = u64::try_from(there.len().saturating_add(unreadable.len())).unwrap_or(u64::MAX);
            }
            // Of a sync that begins with what both sides have in common the others are meant to be alone.
            if self.rules.initial.strategy.makes_nothing() {
                continue;
            }
            self.list_strangers("unlinked", member, there);
            // Whether it is at the other side nobody can tell, and so not that both are equal.
            self.list_strangers("unreadable", member, unreadable);
        }
        Ok(())
    }

    fn list_strangers(&mut self, kind: &str, member: MemberIndex, strangers: Vec<Key>) {
        let system = self.system(member);
        let room = LISTED_MAX.saturating_sub(self.found.differences.len());
        let listed = strangers.into_iter().take(room);
        let listed = listed.map(|key| Difference::new(kind, system.clone(), key.to_string(), Vec::new()));
        self.found.differences.extend(listed);
    }

    /// A record that has just come gets its link in a moment; one that went meanwhile needs none.
    async fn still_strangers(
        &self,
        member: MemberIndex,
        mut strangers: Vec<Key>,
        connector: &dyn Connector,
    ) -> Result<Strangers> {
        for _ in 0..LOOKS_MAX {
            if strangers.is_empty() {
                break;
            }
            tokio::time::sleep(LOOK_PAUSE).await;
            strangers = self.without_link(member, strangers).await?;
        }
        let mut found = Strangers::default();
        let Some(rules) = self.rules.members.get(member) else { return Ok(found) };
        for keys in strangers.chunks(CHUNK) {
            for (key, presence) in keys.iter().zip(reading::read(connector, &rules.selection, keys).await?) {
                match presence {
                    Presence::Present(_) => found.there.push(key.clone()),
                    Presence::Forbidden(_) => found.unreadable.push(key.clone()),
                    Presence::Absent { .. } => {}
                }
            }
        }
        Ok(found)
    }

    /// A person is asked about some of them, as about a link.
    async fn without_those_in_review(&mut self, member: MemberIndex, mut strangers: Vec<Key>) -> Result<Vec<Key>> {
        if strangers.is_empty() {
            return Ok(strangers);
        }
        let encoded: HashSet<Vec<u8>> = strangers.iter().map(Key::encode).collect();
        let mut asked: HashSet<Vec<u8>> = HashSet::new();
        let mut after = ReviewId(0);
        loop {
            let reviews = self.store.open_reviews(self.rules.id, after, CHUNK).await?;
            let Some(last) = reviews.last() else { break };
            after = last.id;
            let keys = reviews.iter().filter_map(|review| stranger_asked_about(&review.subject, member)).map(Key::encode);
            asked.extend(keys.filter(|key| encoded.contains(key)));
        }
        let before = strangers.len();
        strangers.retain(|key| !asked.contains(&key.encode()));
        self.found.in_review += u64::try_from(before.saturating_sub(strangers.len())).unwrap_or(u64::MAX);
        Ok(strangers)
    }

    async fn without_link(&self, member: MemberIndex, keys: Vec<Key>) -> Result<Vec<Key>> {
        let addresses = keys.iter().map(|key| Address { sync: self.rules.id, member, key: key.encode() }).collect();
        let known = self.store.lookup(addresses).await?;
        Ok(keys.into_iter().zip(known).filter(|(_, lookup)| lookup.link.is_none()).map(|(key, _)| key).collect())
    }
}

/// The record without a link that an item is about, if it is this member's.
fn stranger_asked_about(subject: &Subject, member: MemberIndex) -> Option<&Key> {
    match subject {
        Subject::Ambiguous { member: of, key, .. } | Subject::Duplicate { member: of, key, .. } if *of == member => Some(key),
        Subject::Unreadable { member: of, key } if *of == member => Some(key),
        _ => None,
    }
}

fn key_at(link: &Link, member: MemberIndex) -> Option<Key> {
    link.sides.get(member)?.key.clone()
}

/// What differences mean, given what the link waits for. A person is asked about groups of fields, about what a member refuses, or
/// about the whole record: what differs beyond that differs.
fn waiting(rules: &SyncRules, state: &LinkState, mut differences: Vec<Difference>) -> Verdict {
    let link = &state.link;
    if differences.is_empty() {
        return Verdict::Equal;
    }
    let moving = link.sides.iter().any(|side| side.flight.is_some() || (side.is_owing() && side.blocked.is_none()))
        || state.pending.iter().any(Option::is_some);
    let refusing = || link.sides.iter().filter(|side| side.blocked.is_some());
    let all_asked = link.held.is_some() || refusing().any(|side| side.owes_life || side.owes.is_empty());
    let is_asked = |name: &str| {
        let group = rules.fields.iter().find(|field| field.name == name).map(|field| field.group);
        group.is_some_and(|group| {
            let is_held = link.groups.get(group).is_some_and(|group| group.held.is_some());
            is_held || refusing().any(|side| side.owes.contains(&group))
        })
    };
    let mut asked = all_asked;
    differences.retain_mut(|difference| {
        let before = difference.fields.len();
        difference.fields.retain(|(name, ..)| !is_asked(name));
        let is_left = !all_asked && (before == 0 || !difference.fields.is_empty());
        asked |= !is_left;
        is_left
    });
    match (differences.is_empty(), moving) {
        (false, true) => Verdict::UnderWay,
        (false, false) => Verdict::Differs(differences),
        (true, _) if asked => Verdict::InReview,
        (true, _) => Verdict::Equal,
    }
}

/// The canonical fields in which two members' records differ, with what each shows. What a mapping does on the way is no
/// difference: a field is equal if either side shows what the other's value becomes there.
fn differing(
    rules: &SyncRules,
    references: &References,
    a: MemberIndex,
    ours: &Record,
    b: MemberIndex,
    theirs: &Record,
) -> Vec<(String, Option<String>, Option<String>)> {
    let whole = (canonical(rules, a, ours), canonical(rules, b, theirs));
    let mut found = Vec::new();
    for (field, described) in rules.fields.iter().enumerate() {
        let (Some(at_a), Some(at_b)) = (rules.at(a, field), rules.at(b, field)) else { continue };
        let (shown_a, shown_b) = (ours.get(at_a.name.as_str()), theirs.get(at_b.name.as_str()));
        let (Some(shown_a), Some(shown_b)) = (shown_a, shown_b) else { continue };
        let (flows_forth, flows_back) = (at_b.inward && rules.flows_from(a, field), at_a.inward && rules.flows_from(b, field));
        if let Some(reference) = &described.reference {
            let same = names_the_same(references, reference, (a, shown_a), (b, shown_b));
            if (flows_forth || flows_back) && !same {
                found.push((described.name.clone(), Some(shown_a.to_string()), Some(shown_b.to_string())));
            }
            continue;
        }
        let forth = flows_forth.then(|| becomes(rules, b, field, &whole.0, shown_b));
        let back = flows_back.then(|| becomes(rules, a, field, &whole.1, shown_a));
        let is_equal = match (forth, back) {
            (None, None) => true,
            (forth, back) => forth.unwrap_or(false) || back.unwrap_or(false),
        };
        if !is_equal {
            found.push((described.name.clone(), Some(shown_a.to_string()), Some(shown_b.to_string())));
        }
    }
    found
}

/// Whether two members' values name the same record.
fn names_the_same(
    references: &References,
    reference: &Reference,
    (a, ours): (MemberIndex, &Value),
    (b, theirs): (MemberIndex, &Value),
) -> bool {
    match (references.meaning(reference, a, ours), references.meaning(reference, b, theirs)) {
        (Ok(Meaning::Nothing), Ok(Meaning::Nothing)) => true,
        (Ok(Meaning::Record(ours)), Ok(Meaning::Record(theirs))) => ours == theirs,
        _ => false,
    }
}

/// Whether a canonical value becomes, at a member, what it shows.
fn becomes(rules: &SyncRules, member: MemberIndex, field: FieldIndex, canonical: &[Option<Value>], shown: &Value) -> bool {
    let Some(at) = rules.at(member, field) else { return true };
    let Some(value) = canonical.get(field).and_then(Option::as_ref) else { return true };
    match map::wanted(at, value, || map::canonical_record(rules, canonical)) {
        Ok(Some(wanted)) => wanted.equivalent(shown),
        Ok(None) => true,
        Err(_) => false,
    }
}

fn canonical(rules: &SyncRules, member: MemberIndex, record: &Record) -> Vec<Option<Value>> {
    let value = |field: FieldIndex| {
        let at = rules.at(member, field)?;
        at.mapping.to_canonical(record.get(at.name.as_str())?, || record.clone()).ok().flatten()
    };
    (0..rules.fields.len()).map(value).collect()
}
