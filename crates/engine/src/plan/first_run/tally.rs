//! Counts what two sides have in common, record by record, over fingerprints. Pure: whoever reads the sides hands the
//! records in, the held side first.

use super::linked::Linked;
use super::{FirstRun, MemberPlan, SAMPLES_MAX};
use crate::change::Observation;
use crate::config::ConfigHash;
use crate::connector::{Connector, Since, Workload};
use crate::identify::FIND_BATCH;
use crate::link::{FieldIndex, MemberIndex};
use crate::map;
use crate::record::Record;
use crate::rules::{Authority, InitialStrategy, SyncRules};
use crate::transform::normalise_for_match;
use crate::validate::validate;
use crate::value::Value;
use std::collections::HashMap;
use std::sync::Arc;
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

/// A field that nothing flows into, or that is not shown: equal to everything.
const ANYTHING: u32 = 0;
/// No value.
const NULL: u32 = 1;

/// A record of the held side.
struct Held {
    /// How many records of each side have this fingerprint; more than two count as two.
    here: u8,
    there: u8,
    /// Whether one of them is read at first, and not only met.
    recent: bool,
    /// One per field.
    fields: Box<[u32]>,
    /// How each field differs from the other side's; set by the first match.
    differs: Option<Box<[Differs]>>,
    /// Fields whose values the side that they would be written to does not take, and whether they are this side's.
    refused: Box<[(FieldIndex, bool)]>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Differs {
    No,
    BothShow,
    HeldIsNull,
    OtherIsNull,
}

/// A sample before the other side's values are looked up.
pub(super) struct Sampled {
    pub kind: &'static str,
    pub member: MemberIndex,
    pub key: String,
    /// Canonical field and this side's value.
    pub fields: Vec<(FieldIndex, String)>,
    /// This side's values of the match fields, in the other side's terms where those are the same.
    pub match_values: Vec<Value>,
}

pub(super) struct Tally<'a> {
    rules: &'a SyncRules,
    held_member: MemberIndex,
    held: HashMap<u128, Held>,
    pass: u64,
    passes: u64,
    connectors: &'a [Arc<dyn Connector>],
    report: FirstRun,
    pub sampled: Vec<Sampled>,
}

/// What is needed of one record.
struct Looked {
    fingerprint: Option<u128>,
    fields: Box<[u32]>,
    canonical: Vec<Option<Value>>,
    match_values: Vec<Value>,
    is_unfit: bool,
    /// Fields whose values the other side does not take, though their types can hold them.
    refused: Vec<FieldIndex>,
}

impl<'a> Tally<'a> {
    pub fn new(
        rules: &'a SyncRules,
        held_member: MemberIndex,
        config: &ConfigHash,
        connectors: &'a [Arc<dyn Connector>],
    ) -> Tally<'a> {
        let members = rules
            .members
            .iter()
            .map(|member| MemberPlan {
                system: member.system.to_string(),
                object: member.object.to_string(),
                ..MemberPlan::default()
            })
            .collect();
        let report = FirstRun { sync: rules.name.to_string(), config: config.to_string(), members, ..FirstRun::default() };
        Tally { rules, held_member, held: HashMap::new(), pass: 0, passes: 1, connectors, report, sampled: Vec::new() }
    }

    /// Begins a pass; only records whose fingerprints belong to it count.
    pub fn begin(&mut self, pass: u64, passes: u64) {
        (self.pass, self.passes) = (pass, passes);
        self.held.clear();
    }

    /// Takes in one record; those of the held side come first.
    pub fn see(&mut self, member: MemberIndex, observation: &Observation) {
        let Some(record) = observation.image.record() else { return };
        let mut looked = look(self.rules, member, self.held_member, record);
        let turn = looked.fingerprint.map_or(0, |fingerprint| fingerprint % u128::from(self.passes));
        if turn != u128::from(self.pass) {
            return;
        }
        if !looked.is_unfit {
            looked.refused = self.refused(member, &looked.canonical);
        }
        let key = observation.key.to_string();
        let recent = self.is_read(member, observation);
        self.count(member, |plan| plan.records += 1);
        if looked.is_unfit && recent {
            self.count(member, |plan| plan.unfit += 1);
            self.sample("unfit", member, &key, &looked, &[]);
        }
        let Some(fingerprint) = looked.fingerprint else {
            if !recent {
                return self.count(member, |plan| plan.left_alone += 1);
            }
            self.count(member, |plan| {
                plan.unmatchable += 1;
                plan.only_here += 1;
            });
            self.count_referring(member, &looked.fields, 1);
            self.sample("only_here", member, &key, &looked, &[]);
            self.count_refused(member, &key, &looked);
            return;
        };
        if member == self.held_member {
            let refused = looked.refused.iter().map(|field| (*field, true)).collect();
            let fresh = Held { here: 0, there: 0, recent: false, fields: looked.fields, differs: None, refused };
            let held = self.held.entry(fingerprint).or_insert(fresh);
            held.here = held.here.saturating_add(1).min(2);
            held.recent |= recent;
        } else {
            self.meet(member, fingerprint, &key, &looked, recent);
        }
    }

    /// Whether the first run reads a record, or only meets it when it looks for the match of another.
    fn is_read(&self, member: MemberIndex, observation: &Observation) -> bool {
        match self.rules.initial.strategy {
            InitialStrategy::FullLoad | InitialStrategy::MatchOnly => true,
            InitialStrategy::FromNow => false,
            InitialStrategy::Since(at) => {
                let field = self.rules.members.get(member).and_then(|member| member.edit_time_field.clone());
                field.is_some_and(|field| Since { field, at }.includes(observation))
            }
        }
    }

    fn meet(&mut self, member: MemberIndex, fingerprint: u128, key: &str, looked: &Looked, recent: bool) {
        let Some(held) = self.held.get_mut(&fingerprint) else {
            if !recent {
                return self.count(member, |plan| plan.left_alone += 1);
            }
            // The held side is complete by now: this record is alone.
            self.count(member, |plan| plan.only_here += 1);
            self.count_referring(member, &looked.fields, 1);
            self.sample("only_here", member, key, looked, &[]);
            self.count_refused(member, key, looked);
            return;
        };
        held.there = held.there.saturating_add(1).min(2);
        held.recent |= recent;
        let recent = held.recent;
        if held.here != 1 || held.there != 1 {
            if recent {
                self.sample("ambiguous", member, key, looked, &[]);
            }
            return;
        }
        let rules = self.rules;
        let differs = |(field, (held, other)): (FieldIndex, (&u32, &u32))| match refers(rules, field) {
            true => Differs::No,
            false => differ(*held, *other),
        };
        let differs: Box<[Differs]> = held.fields.iter().zip(&looked.fields).enumerate().map(differs).collect();
        let fields: Vec<FieldIndex> =
            differs.iter().enumerate().filter(|(_, differs)| **differs != Differs::No).map(|(field, _)| field).collect();
        held.differs = Some(differs);
        let theirs = looked.refused.iter().map(|field| (*field, false));
        held.refused = held.refused.iter().copied().chain(theirs).filter(|(field, _)| fields.contains(field)).collect();
        if !fields.is_empty() && recent {
            self.sample("differs", member, key, looked, &fields);
        }
    }

    /// Ends a pass: what was held is settled.
    pub fn end(&mut self) {
        let here = self.held_member;
        let held = std::mem::take(&mut self.held);
        for record in held.values() {
            match (record.here, record.there) {
                (ours, theirs) if !record.recent => {
                    self.count(here, |plan| plan.left_alone += u64::from(ours));
                    self.count(1 - here, |plan| plan.left_alone += u64::from(theirs));
                }
                (1, 1) => self.matched(record.differs.as_deref().unwrap_or(&[]), &record.refused),
                (_, 0) => {
                    let unfit = if record.refused.is_empty() || !self.makes(1 - here) { 0 } else { record.here };
                    self.count(here, |plan| {
                        plan.only_here += u64::from(record.here);
                        plan.unfit += u64::from(unfit);
                    });
                    self.count_referring(here, &record.fields, u64::from(record.here));
                }
                _ => {
                    self.report.ambiguous += 1;
                    self.report.review += 1;
                }
            }
        }
    }

    fn matched(&mut self, differs: &[Differs], refused: &[(FieldIndex, bool)]) {
        self.report.matched += 1;
        if differs.iter().all(|differs| *differs == Differs::No) {
            self.report.equal += 1;
            return;
        }
        let (held, other) = (self.held_member, 1 - self.held_member);
        let (mut updated, mut unfit) = ([false, false], [false, false]);
        let (mut by_policy, mut review) = (false, false);
        for (field, differs) in differs.iter().enumerate().filter(|(_, differs)| **differs != Differs::No) {
            let Some(rules) = self.rules.fields.get(field) else { continue };
            *self.report.differing.entry(rules.name.clone()).or_default() += 1;
            let flows = [self.rules.flows_from(0, field), self.rules.flows_from(1, field)];
            let winner = match (flows, differs, self.rules.initial.authority) {
                ([true, false], ..) => Some(0),
                ([false, true], ..) => Some(1),
                ([false, false], ..) => continue,
                (_, Differs::HeldIsNull, _) => Some(other),
                (_, Differs::OtherIsNull, _) => Some(held),
                (_, _, Authority::Member(member)) => Some(member),
                (_, _, Authority::Policy) => {
                    by_policy = true;
                    None
                }
                (_, _, Authority::Review) => {
                    review = true;
                    None
                }
            };
            let loser = winner.map(|winner| 1 - winner);
            if let Some(place) = loser.and_then(|loser| updated.get_mut(loser)) {
                *place = true;
            }
            let is_refused = |winner: &MemberIndex| refused.contains(&(field, *winner == held));
            if let Some(place) = winner.filter(is_refused).and_then(|winner| unfit.get_mut(winner)) {
                *place = true;
            }
        }
        self.report.by_policy += u64::from(by_policy);
        self.report.review += u64::from(review);
        for (member, updated) in updated.into_iter().enumerate() {
            let is_inward = self.rules.members.get(member).is_some_and(|member| member.inward);
            self.count(member, |plan| plan.updates += u64::from(updated && is_inward));
        }
        for (member, unfit) in unfit.into_iter().enumerate() {
            self.count(member, |plan| plan.unfit += u64::from(unfit));
        }
    }

    /// Whether records that are only on the other side are made here.
    fn makes(&self, member: MemberIndex) -> bool {
        let rules = self.rules;
        let makes = matches!(rules.initial.strategy, InitialStrategy::FullLoad | InitialStrategy::Since(_));
        let outward = rules.members.get(1 - member).is_some_and(|other| other.outward);
        makes && outward && rules.members.get(member).is_some_and(|member| member.inward)
    }

    /// Fields of which the other side does not take what a record shows.
    fn refused(&self, member: MemberIndex, canonical: &[Option<Value>]) -> Vec<FieldIndex> {
        let (rules, other) = (self.rules, 1 - member);
        let (Some(connector), Some(object)) = (self.connectors.get(other), rules.members.get(other).map(|it| &it.object)) else {
            return Vec::new();
        };
        let is_refused = |field: &FieldIndex| {
            let (Some(at), Some(Some(value))) = (rules.at(other, *field), canonical.get(*field)) else { return false };
            if !at.inward || value.is_null() || !rules.flows_from(member, *field) || refers(rules, *field) {
                return false;
            }
            let wanted = map::wanted(at, value, || map::canonical_record(rules, canonical));
            matches!(wanted, Ok(Some(wanted)) if !connector.takes(object, &at.name, &wanted))
        };
        (0..rules.fields.len()).filter(is_refused).collect()
    }

    /// Counts a record that would be made on the other side, and cannot be as it is.
    fn count_refused(&mut self, member: MemberIndex, key: &str, looked: &Looked) {
        if !looked.refused.is_empty() && self.makes(1 - member) {
            self.count(member, |plan| plan.unfit += 1);
            self.sample("unfit", member, key, looked, &looked.refused);
        }
    }

    fn count(&mut self, member: MemberIndex, add: impl FnOnce(&mut MemberPlan)) {
        if let Some(plan) = self.report.members.get_mut(member) {
            add(plan);
        }
    }

    /// Counts records that are only on one side and name records of other syncs: they are made after those.
    fn count_referring(&mut self, member: MemberIndex, fields: &[u32], records: u64) {
        let names = |(field, _): &(FieldIndex, _)| fields.get(*field).is_some_and(|shown| !matches!(*shown, ANYTHING | NULL));
        let named: Vec<String> = self.rules.references().filter(names).map(|(_, reference)| reference.name.to_string()).collect();
        self.count(member, |plan| {
            for sync in named {
                *plan.referring.entry(sync).or_default() += records;
            }
        });
    }

    fn sample(&mut self, kind: &'static str, member: MemberIndex, key: &str, looked: &Looked, fields: &[FieldIndex]) {
        let known = self.sampled.iter().filter(|sample| sample.kind == kind && sample.member == member).count();
        if known >= SAMPLES_MAX {
            return;
        }
        let value = |field: &FieldIndex| {
            let value = looked.canonical.get(*field).and_then(Option::as_ref);
            (*field, value.map_or_else(String::new, ToString::to_string))
        };
        let fields = fields.iter().map(value).collect();
        self.sampled.push(Sampled { kind, member, key: key.to_string(), fields, match_values: looked.match_values.clone() });
    }

    /// The report, with what becomes of the records that are known from before, and with what follows from the counts.
    pub fn report(self, connectors: &[Arc<dyn Connector>], linked: Option<&Linked>) -> FirstRun {
        let makes = [self.makes(0), self.makes(1)];
        let mut report = self.report;
        let only: Vec<u64> = report.members.iter().map(|plan| plan.only_here).collect();
        let all: Vec<u64> = report.members.iter().map(|plan| plan.records).collect();
        report.review += report.members.iter().map(|plan| plan.unfit).sum::<u64>();
        for (place, plan) in report.members.iter_mut().enumerate() {
            let other = only.get(1 - place).copied().unwrap_or(0);
            plan.creates = if makes.get(place) == Some(&true) { other } else { 0 };
            if let Some(known) = linked.and_then(|linked| linked.members.get(place)) {
                known.add_to(plan);
            }
            let (most, best) = connectors.get(place).map_or((1, None), |connector| {
                let capabilities = connector.capabilities();
                (capabilities.max_batch, capabilities.load_batch)
            });
            let batch = u64::try_from(most.min(self.rules.batch_size.max(best.unwrap_or(0)))).unwrap_or(1).max(1);
            let chunk = u64::try_from(super::CHUNK).unwrap_or(u64::MAX);
            let searched_by = u64::try_from(self.rules.match_on.len()).unwrap_or(0);
            // About: which side's records look for the other's, the first of each pair to come decides.
            let others = all.iter().enumerate().filter(|(other, _)| *other != place).map(|(_, records)| *records);
            let searches = if searched_by == 0 { 0 } else { others.fold(0, u64::saturating_add) };
            let search_batch = u64::try_from(FIND_BATCH.max(self.rules.batch_size)).unwrap_or(1);
            let (records, updates) = (plan.records, plan.updates + plan.deletes);
            let work = Workload { records, chunk, creates: plan.creates, updates, batch, searches, search_batch, searched_by };
            let connector = connectors.get(place);
            plan.calls = connector.map_or(0, |connector| connector.calls_for(&work));
            plan.allowance = connector.and_then(|connector| connector.allowance());
        }
        if let Some(linked) = linked {
            linked.add_to(&mut report);
        }
        report
    }
}

fn differ(held: u32, other: u32) -> Differs {
    match (held, other) {
        (a, b) if a == b => Differs::No,
        (ANYTHING, _) | (_, ANYTHING) => Differs::No,
        (NULL, _) => Differs::HeldIsNull,
        (_, NULL) => Differs::OtherIsNull,
        _ => Differs::BothShow,
    }
}

fn fingerprint_of(value: &Value) -> u32 {
    if value.is_null() {
        return NULL;
    }
    let hash = xxh3_64(&value.canonical_bytes()) % (u64::from(u32::MAX) - 1);
    u32::try_from(hash).unwrap_or(u32::MAX - 2).saturating_add(2)
}

/// Fingerprints of one record. Each field is compared in the terms of the member that it would be written to, so that
/// what a mapping does on the way is no difference.
fn look(rules: &SyncRules, member: MemberIndex, held: MemberIndex, record: &Record) -> Looked {
    let mut canonical: Vec<Option<Value>> = vec![None; rules.fields.len()];
    let mut is_unfit = false;
    for (field, slot) in canonical.iter_mut().enumerate() {
        let Some(at) = rules.at(member, field) else { continue };
        let Some(value) = record.get(at.name.as_str()) else { continue };
        if refers(rules, field) {
            *slot = Some(value.clone());
            continue;
        }
        match at.mapping.to_canonical(value, || record.clone()) {
            Ok(value) => *slot = value,
            Err(_) => is_unfit |= at.outward,
        }
    }
    let whole = map::canonical_record(rules, &canonical);
    is_unfit |=
        rules.members.get(member).is_some_and(|member| member.outward) && !validate(&rules.validation, &whole).rejects.is_empty();
    let mut fields = Vec::with_capacity(rules.fields.len());
    for (field, value) in canonical.iter().enumerate() {
        let judge = judge_of(rules, held, field);
        let own = rules.at(member, field).and_then(|at| record.get(at.name.as_str()));
        if refers(rules, field) {
            // What it names has another key on each side: whether that is the same is known once it is linked.
            fields.push(own.map_or(ANYTHING, fingerprint_of));
            continue;
        }
        fields.push(match (judge, value) {
            (None, _) => ANYTHING,
            (Some(judge), _) if judge == member => own.map_or(ANYTHING, fingerprint_of),
            (Some(judge), Some(value)) => match rules.at(judge, field).map(|at| map::wanted(at, value, || whole.clone())) {
                Some(Ok(Some(wanted))) => fingerprint_of(&wanted),
                Some(Ok(None)) | None => ANYTHING,
                Some(Err(_)) => {
                    is_unfit = true;
                    ANYTHING
                }
            },
            (Some(_), None) => ANYTHING,
        });
    }
    let (fingerprint, match_values) = match_fingerprint(rules, &canonical);
    Looked { fingerprint, fields: fields.into_boxed_slice(), canonical, match_values, is_unfit, refused: Vec::new() }
}

/// Whether a field names a record of another sync.
fn refers(rules: &SyncRules, field: FieldIndex) -> bool {
    rules.fields.get(field).is_some_and(|field| field.reference.is_some())
}

/// The member in whose terms a field is compared: one that is written to; `None` where the field is not on both sides.
fn judge_of(rules: &SyncRules, held: MemberIndex, field: FieldIndex) -> Option<MemberIndex> {
    let (ours, theirs) = (rules.at(held, field)?, rules.at(1 - held, field)?);
    match (ours.inward, theirs.inward) {
        (_, true) => Some(1 - held),
        (true, false) => Some(held),
        (false, false) => None,
    }
}

/// The fingerprint of the match values, and the values; `None` where one of them is missing or blank.
fn match_fingerprint(rules: &SyncRules, canonical: &[Option<Value>]) -> (Option<u128>, Vec<Value>) {
    let mut hasher = Xxh3Default::new();
    let mut values = Vec::with_capacity(rules.match_on.len());
    for rule in &rules.match_on {
        let Some(value) = canonical.get(rule.field).and_then(Option::as_ref) else { return (None, Vec::new()) };
        let Some(normal) = normalise_for_match(value, &rule.normaliser) else { return (None, Vec::new()) };
        let bytes = normal.canonical_bytes();
        hasher.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(&bytes);
        values.push(value.clone());
    }
    if values.is_empty() { (None, values) } else { (Some(hasher.digest128()), values) }
}
