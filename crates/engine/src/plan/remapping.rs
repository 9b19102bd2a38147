//! What a changed mapping would make of the records that are known: counted from the store alone, by the very decision
//! that the engine will make. Writes nothing and reads nothing from the systems.

use super::layout::{Layout, layouts};
use crate::clock::Moment;
use crate::connector::Operation;
use crate::error::{Code, Error, Result};
use crate::link::{Link, LinkId, MemberIndex};
use crate::reconcile::{Known, Outcome, Patch, Uniqueness, decide_knowing, patch_knowing};
use crate::references::{References, referred};
use crate::rules::{GuardRules, SyncRules};
use crate::store::{self, Store};
use serde::{Deserialize, Serialize};

/// Records read at a time.
const STEP: usize = 1_000;
/// Samples shown.
const SAMPLES_MAX: usize = 5;
/// Percentages mean little of a handful: they count from so many records on.
const PERCENT_FROM: u64 = 20;

/// What a changed mapping would do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Remapping {
    /// The canonical fields that are carried another way.
    pub fields: Vec<String>,
    /// Records known.
    pub records: u64,
    /// Records that would be written again, per member, with the system's name.
    pub updates: Vec<(String, u64)>,
    /// Records whose values the new mapping refuses, and that would wait for a person.
    pub review: u64,
    /// Samples: system, key, and for each field the value now and the value then.
    pub samples: Vec<Rewritten>,
}

/// A record that would be written again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rewritten {
    /// The system.
    pub system: String,
    /// The record's key there.
    pub key: String,
    /// The member's fields, with what they show and what they would be made to show.
    pub fields: Vec<(String, String, String)>,
}

impl Remapping {
    /// Whether so much would be written that a person must have seen it first: the same numbers as for deletions.
    pub fn exceeds(&self, guard: &GuardRules) -> bool {
        let most = self.updates.iter().map(|(_, count)| *count).max().unwrap_or(0).max(self.review);
        #[allow(clippy::cast_precision_loss, reason = "a percentage of a count is compared, nothing is carried")]
        let share = most as f64 * 100.0 / self.records.max(1) as f64;
        most > guard.max_deletes || (self.records >= PERCENT_FROM && share > guard.max_deletes_percent)
    }

    /// Whether another count says about the same: edits come and go meanwhile.
    pub fn is_like(&self, other: &Remapping) -> bool {
        let near = |a: u64, b: u64| a.abs_diff(b) <= (a.max(b) / 10).max(50);
        self.fields == other.fields
            && near(self.review, other.review)
            && self.updates.len() == other.updates.len()
            && self.updates.iter().zip(&other.updates).all(|(a, b)| near(a.1, b.1))
    }
}

/// Counts what a sync's mapping, which has changed since its records were decided, would do to them. `None`: it has not,
/// or the change is being carried out already.
///
/// # Errors
/// What the store says.
pub async fn remapping(store: &dyn Store, rules: &SyncRules, now: Moment) -> Result<Option<Remapping>> {
    let stored = store.setting(&format!("layout/{}", rules.id.0)).await?;
    let Some(number) = stored.and_then(|bytes| Some(u32::from_be_bytes(bytes.try_into().ok()?))) else { return Ok(None) };
    let known = layouts(store, rules.id).await?;
    let at = |number: u32| known.get(usize::try_from(number).ok()?);
    let present = Layout::of(rules);
    let Some(then) = at(number).filter(|then| present.remaps(then)) else { return Ok(None) };
    let mut counted = Remapping {
        fields: present.remapped_fields(then),
        updates: rules.members.iter().map(|member| (member.system.to_string(), 0)).collect(),
        ..Remapping::default()
    };
    let mut after = LinkId(0);
    loop {
        let links = store.scan_links(rules.id, after, STEP).await?;
        let Some(last) = links.last().map(|link| link.id) else { return Ok(Some(counted)) };
        after = last;
        let mut adopted = Vec::with_capacity(links.len());
        for link in &links {
            let old = at(link.layout).ok_or_else(|| Error::new(Code::StoreDamaged, "a record has an unknown layout"))?;
            adopted.push(present.adopt(old, link, rules.layout));
        }
        let references = references_of(store, rules, &adopted).await?;
        for link in &adopted {
            counted.see(rules, link, &references, now);
        }
    }
}

/// What is known of the records that these links refer to.
async fn references_of(store: &dyn Store, rules: &SyncRules, links: &[Link]) -> Result<References> {
    let (mut addresses, mut records) = (Vec::new(), Vec::new());
    for (field, reference) in rules.references() {
        for link in links {
            let shown =
                link.sides.iter().enumerate().filter_map(|(member, side)| Some((member, side.base.get(field)?.as_ref()?)));
            let named =
                shown.filter(|(_, value)| !value.is_null()).filter_map(|(member, value)| reference.named(member, value).ok());
            addresses.extend(named.map(|unknown| unknown.address));
            records.extend(rules.agreed(link, field).and_then(referred));
        }
    }
    store::references(store, addresses, records).await
}

impl Remapping {
    fn see(&mut self, rules: &SyncRules, link: &Link, references: &References, now: Moment) {
        self.records += 1;
        if !link.is_of_old_mapping() {
            return;
        }
        let nothing = vec![None; link.sides.len()];
        let known = Known { unique: &Uniqueness::Known(Vec::new()), references };
        let Outcome::Decided(decision) = decide_knowing(rules, link, &nothing, None, known, now, &mut 1) else { return };
        let mut refused = !decision.reviews.is_empty();
        for (member, before) in link.sides.iter().enumerate() {
            match patch_knowing(rules, &decision.link, member, references) {
                Patch::Write(Operation::Update { set, .. }) if before.owes.is_empty() => {
                    self.count(rules, link, member, &set);
                }
                Patch::Rejected(_) => refused = true,
                _ => {}
            }
        }
        self.review += u64::from(refused);
    }

    fn count(&mut self, rules: &SyncRules, link: &Link, member: MemberIndex, set: &crate::record::Record) {
        let Some((system, count)) = self.updates.get_mut(member) else { return };
        *count += 1;
        if self.samples.len() >= SAMPLES_MAX {
            return;
        }
        let shown = link.sides.get(member).map(|side| crate::map::member_record(rules, member, &side.base)).unwrap_or_default();
        let text = |value: Option<&crate::value::Value>| value.map_or_else(String::new, ToString::to_string);
        let key = link.sides.get(member).and_then(|side| side.key.as_ref()).map_or_else(String::new, ToString::to_string);
        let fields = set.iter().map(|(name, new)| (name.to_string(), text(shown.get(name.as_str())), new.to_string())).collect();
        self.samples.push(Rewritten { system: system.clone(), key, fields });
    }
}
