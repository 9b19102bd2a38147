//! What an administrator of the org has set up: validation rules, triggers and flows, duplicate rules. Conditions are
//! written as in a query. Owns the rules and when each applies; what happens then is in `dml`.

use super::soql::parse::{Condition, condition};
use serde::Deserialize;
use serde_json::{Map, Value as Json};

/// Rules as they are written down.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuleFile {
    pub validation: Vec<ValidationSpec>,
    pub triggers: Vec<TriggerSpec>,
    pub duplicates: Vec<DuplicateRule>,
}

/// A rule that refuses a record of which its condition is true.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidationSpec {
    pub object: String,
    pub when: String,
    pub message: String,
    /// The field at which the message is shown; none: the top of the page.
    pub field: Option<String>,
}

/// A trigger or a record-triggered flow: sets fields in the transaction in which the record is saved.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TriggerSpec {
    pub object: String,
    /// `insert`, `update`; none: both.
    #[serde(default)]
    pub on: Vec<Event>,
    /// Fires only where one of these fields changed; none: always.
    #[serde(default)]
    pub changed: Vec<String>,
    pub when: Option<String>,
    /// Field → value; merge fields in texts are filled in.
    #[serde(default)]
    pub set: Map<String, Json>,
    /// Throws instead: the record is refused with these words.
    pub fail: Option<String>,
}

/// A rule that finds records that look like the one that is saved.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DuplicateRule {
    pub object: String,
    /// Its API name; none: made of the object's.
    pub name: Option<String>,
    /// What the administrator wants said; none: what the vendor says.
    pub message: Option<String>,
    /// All of them equal, none of them null.
    pub fields: Vec<String>,
    /// True: cannot be overruled by `allowSave`.
    #[serde(default)]
    pub block: bool,
}

/// How a client takes records that look alike: its `Sforce-Duplicate-Rule-Header`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnDuplicates {
    /// It has been warned, and wants the record saved, where a rule only warns.
    pub allow_save: bool,
    /// It is to be shown all fields of the other records, not their ids alone.
    pub all_fields: bool,
    /// The version of the API in which it is told of them; empty: it is told in words alone.
    pub version: String,
}

impl OnDuplicates {
    /// As the header has it: `allowSave=true; includeRecordDetails=true`.
    pub fn of(header: &str, version: &str) -> Self {
        let is_set = |option: &str| {
            let mut pairs = header.split([';', ',']).filter_map(|pair| pair.split_once('='));
            let same = |one: &str, other: &str| one.trim().eq_ignore_ascii_case(other);
            pairs.any(|(name, value)| same(name, option) && same(value, "true"))
        };
        Self { allow_save: is_set("allowSave"), all_fields: is_set("includeRecordDetails"), version: version.to_string() }
    }

    /// Takes what a rule only warns of.
    pub fn saved() -> Self {
        Self { allow_save: true, ..Self::default() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    Insert,
    Update,
}

/// Rules, their conditions read.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub validation: Vec<(ValidationSpec, Condition)>,
    pub triggers: Vec<(TriggerSpec, Option<Condition>)>,
    pub duplicates: Vec<DuplicateRule>,
}

impl Rules {
    /// Adds rules.
    pub fn add(&mut self, file: RuleFile) -> Result<(), String> {
        for spec in file.validation {
            let read = condition(&spec.when).map_err(|error| format!("{}: {error}", spec.when))?;
            self.validation.push((spec, read));
        }
        for spec in file.triggers {
            let read = spec.when.as_deref().map(condition).transpose().map_err(|error| format!("{}: {error}", spec.object))?;
            self.triggers.push((spec, read));
        }
        self.duplicates.extend(file.duplicates);
        Ok(())
    }

    /// Takes all rules away.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}
