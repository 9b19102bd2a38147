//! Fields that an object has gained since a person last wrote the mapping, and that the mapping does not name: nothing of them is
//! carried, and both sides are equal without them. They are offered, with what is to be written so that they are carried.
//! Changes no mapping by itself.

use crate::error::{Code, Error, Result};
use crate::link::{MemberIndex, SyncId};
use crate::rules::SyncRules;
use crate::schema::{Field, Schema};
use crate::store::{Store, Transaction};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use xxhash_rust::xxh3::xxh3_64;

/// A new field that no mapping names.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// Whose it is.
    pub member: MemberIndex,
    /// The field.
    pub field: Field,
}

/// The fields that each member had when the mapping was last written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// A print of the mapping: with another one, a person has looked at the fields.
    mapping: u64,
    members: Vec<BTreeSet<String>>,
}

/// The setting that holds them.
pub fn setting(sync: SyncId) -> String {
    format!("fields/{}", sync.0)
}

impl Known {
    /// As the rules have them.
    pub fn of(rules: &SyncRules) -> Known {
        let names = |schema: &Schema| schema.fields.iter().map(|field| field.name.to_string()).collect();
        Known { mapping: print(rules), members: rules.members.iter().map(|member| names(&member.schema)).collect() }
    }

    /// As they were kept, if they were for this mapping; else as the rules have them.
    ///
    /// # Errors
    /// What the store says.
    pub async fn load(store: &dyn Store, rules: &SyncRules) -> Result<Known> {
        let kept = store.setting(&setting(rules.id)).await?;
        let kept = kept.and_then(|bytes| postcard::from_bytes::<Known>(&bytes).ok());
        Ok(kept.filter(|known| known.mapping == print(rules)).unwrap_or_else(|| Known::of(rules)))
    }

    /// With fields that a person has named as left out: those are known, whenever they came.
    #[must_use]
    pub fn leaving(mut self, fields: &[String]) -> Known {
        self.members.iter_mut().for_each(|names| names.extend(fields.iter().cloned()));
        self
    }

    /// Keeps them.
    ///
    /// # Errors
    /// What the store says.
    pub async fn keep(self, store: &dyn Store, rules: &SyncRules) -> Result<Known> {
        let bytes = postcard::to_stdvec(&self).ok();
        if store.setting(&setting(rules.id)).await? != bytes {
            let settings = vec![(setting(rules.id), bytes)];
            let gone = |_| Error::new(Code::StoreFailed, "the store stopped before it answered");
            store.submit(Transaction { settings, ..Transaction::default() }).await.map_err(gone)??;
        }
        Ok(self)
    }

    /// What is offered of a member with this schema.
    pub fn offers(&self, rules: &SyncRules, member: MemberIndex, schema: &Schema) -> Vec<Offer> {
        let Some(known) = self.members.get(member) else { return Vec::new() };
        if rules.members.get(member).is_none_or(|rules| !rules.outward) {
            return Vec::new();
        }
        let is_mapped = |name: &str| {
            let mut mapped = rules.fields.iter().filter_map(|field| field.members.get(member)?.as_ref());
            mapped.any(|at| at.name.as_str() == name)
        };
        let is_new = |field: &&Field| !known.contains(field.name.as_str()) && !is_mapped(field.name.as_str());
        schema.fields.iter().filter(is_new).map(|field| Offer { member, field: field.clone() }).collect()
    }
}

/// What is mapped to what, and how.
fn print(rules: &SyncRules) -> u64 {
    let mut text = String::new();
    for at in rules.fields.iter().flat_map(|field| field.members.iter().map(Option::as_ref).chain([None])) {
        let (name, meaning) = at.map_or(("", String::new()), |at| (at.name.as_str(), at.mapping.meaning()));
        text.push_str(&format!("{name}\n{meaning}\n"));
    }
    xxh3_64(text.as_bytes())
}

/// The member that a new field of another one would be carried to.
pub fn receiver(rules: &SyncRules, offer: &Offer) -> Option<MemberIndex> {
    (0..rules.members.len()).find(|member| *member != offer.member)
}

/// An offer in words. `statement`: what gives the other member such a field, where it lacks one.
pub fn describe(rules: &SyncRules, offer: &Offer, statement: Option<&str>) -> String {
    let Offer { member, field } = offer;
    let other = receiver(rules, offer).and_then(|other| rules.members.get(other));
    let (Some(own), Some(other)) = (rules.members.get(*member), other) else { return String::new() };
    let name = field.name.as_str();
    let there = other.schema.fields.iter().find(|there| there.name.as_str().eq_ignore_ascii_case(name));
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let (here, there_name) = (quoted(name), quoted(there.map_or(name, |there| there.name.as_str())));
    let (source, target) = if *member == 0 { (here, there_name) } else { (there_name, here) };
    let statement = statement.map(|statement| statement.trim_end_matches(';'));
    let lacks = match (there, statement) {
        (Some(_), _) => String::new(),
        (None, Some(statement)) => format!(", and give it to `{}` of `{}` before: {statement}", other.object, other.system),
        (None, None) => format!(", and give `{}` of `{}` such a field before", other.object, other.system),
    };
    format!(
        "`{}` of `{}` has a new field `{name}` ({}) that no mapping names: it is not carried. To carry it, add \
         {{ \"source\": {source}, \"target\": {target} }} to `field_mappings`{lacks}; to leave it, add it to `exclude_fields`",
        own.object, own.system, field.native_type
    )
}

/// What is offered of a sync that runs.
#[derive(Default)]
pub(crate) struct Offers {
    known: Known,
    present: Vec<(MemberIndex, String, String)>,
    /// What was said already.
    said: BTreeSet<(MemberIndex, String)>,
}

impl Offers {
    /// Begins with what was known.
    pub fn begin(&mut self, known: Known) {
        self.known = known;
    }

    /// A member has this schema. `statement`: what gives the other member such a field. What is offered anew is said.
    pub fn look(
        &mut self,
        rules: &SyncRules,
        member: MemberIndex,
        schema: &Schema,
        statement: impl Fn(MemberIndex, &Field) -> Option<String>,
    ) {
        self.present.retain(|(of, ..)| *of != member);
        for offer in self.known.offers(rules, member, schema) {
            let statement = receiver(rules, &offer).and_then(|other| statement(other, &offer.field));
            let (name, text) = (offer.field.name.to_string(), describe(rules, &offer, statement.as_deref()));
            if self.said.insert((member, name.clone())) {
                tracing::warn!(sync = rules.name.as_str(), field = name, "{text}");
            }
            self.present.push((member, name, text));
        }
    }

    /// In words, for the status.
    pub fn told(&self) -> Vec<String> {
        self.present.iter().map(|(.., text)| text.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::tests::support;

    fn with(mut schema: Schema, name: &str) -> Schema {
        let mut field = schema.fields.first().cloned().unwrap();
        field.name = name.into();
        schema.fields.push(field);
        schema
    }

    fn names(offers: Vec<Offer>) -> Vec<String> {
        offers.into_iter().map(|offer| offer.field.name.to_string()).collect()
    }

    #[test]
    fn a_field_that_came_and_is_neither_mapped_nor_left_out_is_offered() {
        let rules = support::rules(2, &["name"]);
        let known = Known::of(&rules);
        let now = with(with(rules.members[0].schema.clone(), "extra"), "other");
        assert_eq!(names(known.offers(&rules, 0, &rules.members[0].schema)), Vec::<String>::new());
        assert_eq!(names(known.offers(&rules, 0, &now)), ["extra", "other"]);
        assert_eq!(names(known.clone().leaving(&["other".into()]).offers(&rules, 0, &now)), ["extra"]);
        let mut inward = rules.clone();
        inward.members[0].outward = false;
        assert_eq!(names(known.offers(&inward, 0, &now)), Vec::<String>::new(), "nothing flows from there");
        let mut mapped = rules.clone();
        mapped.fields[0].members[0].as_mut().unwrap().name = "extra".into();
        assert_eq!(names(known.offers(&mapped, 0, &now)), ["other"]);
    }

    #[test]
    fn an_offer_says_what_to_write_and_what_the_other_side_lacks() {
        let mut rules = support::rules(2, &["name"]);
        let now = with(rules.members[1].schema.clone(), "extra");
        let offer = Known::of(&rules).offers(&rules, 1, &now).swap_remove(0);
        let text = describe(&rules, &offer, Some("ALTER TABLE accounts ADD COLUMN extra text;"));
        assert_eq!(
            text,
            "`accounts` of `b` has a new field `extra` (text) that no mapping names: it is not carried. To carry it, add \
             { \"source\": \"extra\", \"target\": \"extra\" } to `field_mappings`, and give it to `accounts` of `a` before: \
             ALTER TABLE accounts ADD COLUMN extra text; to leave it, add it to `exclude_fields`"
        );
        rules.members[0].schema = with(rules.members[0].schema.clone(), "Extra");
        let text = describe(&rules, &offer, None);
        assert!(text.contains("{ \"source\": \"Extra\", \"target\": \"extra\" } to `field_mappings`; to leave"), "{text}");
    }

    #[test]
    fn another_mapping_has_a_person_look_at_the_fields() {
        let one = support::rules(2, &["name"]);
        assert_eq!(print(&one), print(&one.clone()));
        let mut other = one.clone();
        other.fields[0].members[0].as_mut().unwrap().name = "extra".into();
        assert_ne!(print(&one), print(&other));
    }
}
