//! What the first run of a sync would do: both sides are read once, records are matched, and what differs is counted.
//! Of records that are known from an earlier run it says what would become of them, by the very decision that the engine
//! makes. Writes nothing anywhere. Holds fingerprints of the smaller side alone, never its values; what does not fit in
//! memory at once is read in several passes.

mod linked;
mod tally;

use super::remapping::Remapping;
use crate::change::Observation;
use crate::clock::Moment;
use crate::config::ConfigHash;
use crate::connector::{Allowance, ChunkCursor, Connector};
use crate::error::{Code, Error, Result};
use crate::link::MemberIndex;
use crate::rules::SyncRules;
use crate::store::{Address, Store};
use futures_util::StreamExt as _;
use linked::Linked;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use tally::{Sampled, Tally};

/// Records of the smaller side held as fingerprints at once: about 80 bytes and 5 for each field, each.
const RECORDS_HELD_MAX: u64 = 1_000_000;
/// Records read at a time.
const CHUNK: usize = 5_000;
/// Samples of each kind.
const SAMPLES_MAX: usize = 5;

/// What the first run of a sync would do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FirstRun {
    /// The sync.
    pub sync: String,
    /// The fingerprint of its configuration.
    pub config: String,
    /// Whether the sync has begun: then it goes on without an approval.
    #[serde(default)]
    pub begun: bool,
    /// Records that are known to be the same from an earlier run: what becomes of them is counted from what was agreed then.
    #[serde(default)]
    pub linked: u64,
    /// One per member.
    pub members: Vec<MemberPlan>,
    /// Records that are on both sides.
    pub matched: u64,
    /// Of these, how many are equal in every field.
    pub equal: u64,
    /// Groups of records that could be each other's match in several ways.
    pub ambiguous: u64,
    /// How many matched records differ, per canonical field.
    pub differing: BTreeMap<String, u64>,
    /// Matched records that differ and that the conflict rules will decide.
    pub by_policy: u64,
    /// What will wait for a person: ambiguous matches, differences without an authority, values that do not fit.
    pub review: u64,
    /// Samples of what was found.
    pub samples: Vec<Sample>,
    /// What a mapping that has changed since the sync first ran would do to the records that are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remapping: Option<Remapping>,
}

/// What the first run would do to one member.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemberPlan {
    /// The system.
    pub system: String,
    /// The object.
    pub object: String,
    /// Its records.
    pub records: u64,
    /// Records that are only here.
    pub only_here: u64,
    /// Records that the first run does not read, nor any record that it reads matches: they are linked when they change.
    #[serde(default)]
    pub left_alone: u64,
    /// Of these, how many name a record of another sync, by the name of that: they are made after the record that they name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub referring: BTreeMap<String, u64>,
    /// Records that have no value to be matched by.
    pub unmatchable: u64,
    /// Records whose values cannot be carried over as they are.
    pub unfit: u64,
    /// Records that would be made here.
    pub creates: u64,
    /// Records that would be changed here, those left to the conflict rules not counted.
    pub updates: u64,
    /// Linked records that are gone here.
    #[serde(default)]
    pub gone: u64,
    /// Records that would be deleted here: the first run of a sync that knows no records deletes nothing.
    pub deletes: u64,
    /// Calls of the system that this takes.
    pub calls: u64,
    /// The calls that the system allows, where it counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowance: Option<Allowance>,
}

/// An example of what was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// `only_here`, `differs`, `deleted`, `ambiguous` or `unfit`.
    pub kind: String,
    /// The system whose record it is.
    pub system: String,
    /// The record's key there.
    pub key: String,
    /// The canonical fields that differ, with this side's value and, where it could be read, the other's.
    pub fields: Vec<(String, String, Option<String>)>,
}

impl FirstRun {
    /// Whether another report says the same of everything that would be done. Records may have come and gone
    /// meanwhile, within a tenth or fifty of each count: every record is planned again when it is applied. Of deletes a
    /// tenth alone: one that nobody was shown cannot be taken back.
    pub fn is_like(&self, other: &FirstRun) -> bool {
        let near = |a: u64, b: u64| a.abs_diff(b) <= (a.max(b) / 10).max(50);
        let as_many = |a: u64, b: u64| a.abs_diff(b) <= a.max(b) / 10;
        let same_members = self.members.len() == other.members.len()
            && self.members.iter().zip(&other.members).all(|(a, b)| {
                let same = a.system == b.system && a.object == b.object;
                same && near(a.creates, b.creates) && near(a.updates, b.updates) && as_many(a.deletes, b.deletes)
            });
        let decided = [(self.by_policy, other.by_policy), (self.review, other.review), (self.ambiguous, other.ambiguous)];
        self.config == other.config && same_members && decided.into_iter().all(|(a, b)| near(a, b))
    }
}

/// Reads both sides of a sync and tells what its first run would do. `connectors` stand in the order of the members. Of a
/// sync that may know records from an earlier run, `known` has the store, which is read only, and the time.
///
/// # Errors
/// What the connectors and the store say; nothing is kept of a run that fails.
pub async fn first_run(
    rules: &SyncRules,
    config: &ConfigHash,
    connectors: &[Arc<dyn Connector>],
    known: Option<(&dyn Store, Moment)>,
) -> Result<FirstRun> {
    let [left, right] = connectors else {
        return Err(Error::new(Code::PlanNotAPair, format!("the sync `{}` does not have two members", rules.name)));
    };
    let (count_left, count_right) = (left.count(&object(rules, 0)?).await?, right.count(&object(rules, 1)?).await?);
    if rules.members.iter().any(|member| member.schema.key.is_empty()) {
        return Ok(appended(rules, config, (counted(rules, left.as_ref(), count_left).await?, count_right)));
    }
    let mut linked = None;
    if let Some((store, now)) = known
        && store.counts(rules.id).await?.links > 0
    {
        linked = Some((linked::count(rules, store, connectors, now).await?, store));
    }
    let linked = linked.as_ref().map(|(linked, store)| (linked, *store));
    // The smaller side is held, the larger one streams past it.
    let held: MemberIndex = usize::from(count_right < count_left);
    let passes = count_left.min(count_right).div_ceil(RECORDS_HELD_MAX).max(1);
    let mut tally = Tally::new(rules, held, config, connectors);
    for pass in 0..passes {
        tally.begin(pass, passes);
        for member in [held, 1 - held] {
            let connector = if member == 0 { left } else { right };
            read_all(rules, member, connector.as_ref(), linked, &mut tally).await?;
        }
        tally.end();
    }
    let sampled = std::mem::take(&mut tally.sampled);
    let linked = linked.map(|(linked, _)| linked);
    let mut report = tally.report(connectors, linked);
    report.samples.extend(linked.map(|linked| linked.samples.clone()).unwrap_or_default());
    for sample in sampled {
        let other = connectors.get(1 - sample.member).map(|connector| connector.as_ref());
        report.samples.push(shown(rules, sample, other).await?);
    }
    Ok(report)
}

/// Whether a record is one of those that the filter lets in.
fn takes_part(rules: &SyncRules, member: MemberIndex, observation: &Observation) -> Result<bool> {
    match (rules.filter.as_ref().filter(|_| member == 0), observation.image.record()) {
        (Some(filter), Some(record)) => filter.admits(record),
        _ => Ok(true),
    }
}

/// How many records without a key take part.
async fn counted(rules: &SyncRules, source: &dyn Connector, all: u64) -> Result<u64> {
    let Some(member) = rules.members.first().filter(|_| rules.filter.is_some()) else { return Ok(all) };
    let (mut records, mut count) = (source.whole(&member.selection).await?, 0_u64);
    while let Some(some) = records.next().await {
        for observation in some? {
            count = count.saturating_add(u64::from(takes_part(rules, 0, &observation)?));
        }
    }
    Ok(count)
}

/// Records without a key are not compared: all of them are appended.
fn appended(rules: &SyncRules, config: &ConfigHash, (here, there): (u64, u64)) -> FirstRun {
    let plan = |member: MemberIndex, records: u64| {
        let rules = rules.members.get(member);
        let (system, object) = (rules.map(|rules| rules.system.to_string()), rules.map(|rules| rules.object.to_string()));
        MemberPlan { system: system.unwrap_or_default(), object: object.unwrap_or_default(), records, ..MemberPlan::default() }
    };
    let source = MemberPlan { only_here: here, ..plan(0, here) };
    let target = MemberPlan { creates: here, only_here: there, ..plan(1, there) };
    FirstRun { sync: rules.name.to_string(), config: config.to_string(), members: vec![source, target], ..FirstRun::default() }
}

fn object(rules: &SyncRules, member: MemberIndex) -> Result<crate::record::ObjectName> {
    let found = rules.members.get(member).map(|member| member.object.clone());
    found.ok_or_else(|| Error::new(Code::PlanNotAPair, format!("the sync `{}` does not have two members", rules.name)))
}

async fn read_all(
    rules: &SyncRules,
    member: MemberIndex,
    connector: &dyn Connector,
    known: Option<(&Linked, &dyn Store)>,
    tally: &mut Tally<'_>,
) -> Result<()> {
    let Some(selection) = rules.members.get(member).map(|member| &member.selection) else { return Ok(()) };
    let mut cursor = ChunkCursor::default();
    loop {
        let chunk = connector.snapshot(selection, &cursor, CHUNK).await?;
        let records = match known {
            Some(known) => strangers(rules, member, chunk.records, known).await?,
            None => chunk.records,
        };
        for observation in &records {
            if takes_part(rules, member, observation)? {
                tally.see(member, observation);
            }
        }
        match chunk.next {
            Some(next) => cursor = next,
            None => return Ok(()),
        }
    }
}

/// Those that no link has, or will have once it is decided.
async fn strangers(
    rules: &SyncRules,
    member: MemberIndex,
    records: Vec<Observation>,
    (linked, store): (&Linked, &dyn Store),
) -> Result<Vec<Observation>> {
    let address = |one: &Observation| Address { sync: rules.id, member, key: one.key.encode() };
    let addresses: Vec<Address> = records.iter().map(address).collect();
    let known = store.lookup(addresses.clone()).await?;
    let is_stranger =
        addresses.iter().zip(known).map(|(address, known)| known.link.is_none() || linked.parting.contains(address));
    Ok(records.into_iter().zip(is_stranger.collect::<Vec<_>>()).filter(|(_, stranger)| *stranger).map(|(one, _)| one).collect())
}

/// A sample with the other side's values, where the other record can be found by its match fields as they are.
async fn shown(rules: &SyncRules, sampled: Sampled, other: Option<&dyn Connector>) -> Result<Sample> {
    let there = 1 - sampled.member;
    let mut found = None;
    let by: Vec<_> = rules.match_on.iter().filter_map(|rule| rules.at(there, rule.field)).map(|at| at.name.clone()).collect();
    let is_findable = sampled.kind == "differs" && by.len() == rules.match_on.len() && by.len() == sampled.match_values.len();
    if let (true, Some(other), Some(member)) = (is_findable, other, rules.members.get(there)) {
        let values = [sampled.match_values.clone()];
        found = other.find(&member.selection, &by, &values, 2).await?.into_iter().next().and_then(|mut rows| match rows.len() {
            1 => rows.pop(),
            _ => None,
        });
    }
    let other_value = |field: usize| {
        let record = found.as_ref()?.image.record()?;
        let at = rules.at(there, field)?;
        record.get(at.name.as_str()).map(ToString::to_string)
    };
    let name = |field: usize| rules.fields.get(field).map_or(String::new(), |field| field.name.clone());
    Ok(Sample {
        kind: sampled.kind.to_string(),
        system: rules.members.get(sampled.member).map_or(String::new(), |member| member.system.to_string()),
        key: sampled.key,
        fields: sampled.fields.into_iter().map(|(field, value)| (name(field), value, other_value(field))).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(updates: u64, deletes: u64) -> FirstRun {
        let member = MemberPlan { updates, deletes, ..MemberPlan::default() };
        FirstRun { members: vec![member], ..FirstRun::default() }
    }

    #[test]
    fn an_approval_holds_while_about_as_much_is_written_and_no_more_is_deleted() {
        assert!(run(100, 0).is_like(&run(150, 0)));
        assert!(!run(100, 0).is_like(&run(151, 0)));
        assert!(!run(0, 0).is_like(&run(0, 1)));
        assert!(run(0, 100).is_like(&run(0, 110)));
        assert!(!run(0, 100).is_like(&run(0, 112)));
    }
}
