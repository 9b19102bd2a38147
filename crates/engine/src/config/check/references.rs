//! Fields that name records of another sync: the sync must be there and keep records in the same systems, and nothing may be
//! asked of the field that a reference cannot answer. Types and keys are the plan's business.

use super::{Checker, Subject};
use crate::config::diagnostic::did_you_mean;
use crate::config::model::mapping::FieldMapping;
use crate::config::model::transformation::Transformation;
use crate::config::model::validation::Rule;
use crate::error::Code;

pub(super) fn check(checker: &mut Checker<'_>, subject: &Subject<'_>, mapping: &FieldMapping, at: &str) {
    let Some(reference) = &mapping.reference else { return };
    let pointer = format!("{at}/reference");
    let known: Vec<&str> = checker.config.syncs.iter().map(|sync| sync.name.as_str()).collect();
    let config = checker.config;
    let Some(referred) = config.syncs.iter().find(|sync| sync.name.as_str() == reference.as_str()) else {
        let message = format!("there is no sync `{reference}`{}", did_you_mean(reference, known));
        checker.error(Code::ConfigUnknownName, &pointer, message);
        return;
    };
    let theirs = referred.systems();
    for system in subject.sync.systems().into_iter().filter(|system| !theirs.contains(system)) {
        let message = format!("`{reference}` keeps no records in `{system}`, so a field there cannot name one of them");
        checker.error(Code::ConfigContradiction, &pointer, message);
    }
    answers_only_what_it_can(checker, subject, mapping, at);
}

/// A reference is translated through the records that it names, and by nothing else.
fn answers_only_what_it_can(checker: &mut Checker<'_>, subject: &Subject<'_>, mapping: &FieldMapping, at: &str) {
    if mapping.source.len() > 1 || mapping.target.len() > 1 {
        checker.error(Code::ConfigContradiction, at, "a reference is one field on each side");
    }
    let changes = |step: &&Transformation| !matches!(step, Transformation::None {});
    if mapping.transformation.iter().find(changes).is_some() {
        let message = "a reference is translated through the records that it names: it takes no transformation";
        checker.error(Code::ConfigContradiction, &format!("{at}/transformation"), message);
    }
    if mapping.default.is_some() {
        let message = "a reference takes no `default`: the record that it would name has another key on each side";
        checker.error(Code::ConfigContradiction, &format!("{at}/default"), message);
    }
    let is_field = |name: &str| mapping.source.iter().chain(&mapping.target).any(|field| field.as_str() == name);
    for (index, field) in subject.sync.match_on.iter().enumerate().filter(|(_, field)| is_field(field.field.as_str())) {
        let message = format!("records cannot be matched by the reference `{}`: it has another value on each side", field.field);
        checker.error(Code::ConfigContradiction, &format!("{}/match_on/{index}/field", subject.at), message);
    }
    let rules = subject.sync.validation_rules.iter().enumerate();
    for (index, rule) in rules.filter(|(_, rule)| is_field(rule.field.as_str()) && rule.rule != Rule::Required) {
        let message = format!("`{}` cannot be asked of the reference `{}`: only `required` can", rule.rule.name(), rule.field);
        checker.error(Code::ConfigContradiction, &format!("{}/validation_rules/{index}/rule", subject.at), message);
    }
}
