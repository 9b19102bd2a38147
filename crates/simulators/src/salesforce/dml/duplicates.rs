//! Duplicate rules: records that look like the one that is saved, and how the client is told of them.

use super::{Refused, Writer};
use crate::salesforce::errors::RecordError;
use crate::salesforce::record::{Record, Shared};
use crate::salesforce::rules::DuplicateRule;
use crate::salesforce::schema::Object;
use crate::salesforce::soql::rows::{Plan, Versioned};
use serde_json::{Value as Json, json};
use std::sync::Arc;

/// What is said where the administrator has not said otherwise.
const WORDS: &str = "Use one of these records?";
/// Most records that are told of.
const TOLD_MAX: usize = 100;

impl Writer<'_> {
    /// Refuses a record that looks like others, unless the rule only warns and the client has been warned.
    pub(super) fn duplicates(&self, object: &Arc<Object>, old: Option<&Record>, record: &Record) -> Result<(), Refused> {
        let mine = self.rules.duplicates.iter().filter(|rule| rule.object.eq_ignore_ascii_case(&object.name));
        for rule in mine.filter(|rule| rule.block || !self.on_duplicates.allow_save) {
            let alike = self.alike(object, old, record, rule);
            if !alike.is_empty() {
                let words = rule.message.as_deref().unwrap_or(WORDS);
                let told = self.told(object, rule, words, &alike);
                return Err(vec![RecordError { duplicates: told, ..RecordError::new("DUPLICATES_DETECTED", words) }]);
            }
        }
        Ok(())
    }

    /// The records that a rule takes for the same; none where what it looks at has not changed.
    fn alike(&self, object: &Object, old: Option<&Record>, record: &Record, rule: &DuplicateRule) -> Vec<Shared> {
        let Some(table) = self.data.store.table(&object.name) else { return Vec::new() };
        let places: Vec<usize> = rule.fields.iter().filter_map(|name| object.field(name).map(|(at, _)| at)).collect();
        let changed = old.is_none_or(|old| places.iter().any(|at| old.get(*at) != record.get(*at)));
        if !changed || places.is_empty() || places.iter().any(|at| record.get(*at).is_null()) {
            return Vec::new();
        }
        let alike = |other: &&Shared| places.iter().all(|at| other.get(*at).order(record.get(*at)).is_eq());
        let others = table.all().filter(|other| other.id != record.id && !other.is_deleted());
        others.filter(alike).take(TOLD_MAX).cloned().collect()
    }

    /// The `duplicateResult` of an answer.
    fn told(&self, object: &Arc<Object>, rule: &DuplicateRule, words: &str, alike: &[Shared]) -> Option<Box<Json>> {
        if self.on_duplicates.version.is_empty() {
            return None;
        }
        let plan = match self.on_duplicates.all_fields {
            true => Plan::of_all(object),
            false => Plan::of_fields(self.data, object, &["Id"]).ok()?,
        };
        let matched = |record: &Shared| {
            let row = plan.row(self.data, record, self.now_ms);
            let shown = serde_json::to_value(Versioned(&row, &self.on_duplicates.version)).unwrap_or_default();
            json!({"additionalInformation": [], "fieldDiffs": [], "matchConfidence": 100.0, "record": shown})
        };
        let name = rule.name.clone().unwrap_or_else(|| format!("{}_Duplicate_Rule", object.name));
        Some(Box::new(json!({
            "allowSave": !rule.block, "duplicateRule": name, "duplicateRuleEntityType": object.name, "errorMessage": words,
            "matchResults": [{
                "entityType": object.name, "errors": [], "matchEngine": "ExactMatchEngine",
                "matchRecords": alike.iter().map(matched).collect::<Vec<_>>(),
                "rule": format!("{}_Match_Rule", object.name), "size": alike.len(), "success": true
            }]
        })))
    }
}
