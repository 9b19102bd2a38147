//! Conflicts and authority: strategies with what they need, and names that are members.

use super::fields::known_fields;
use super::{Checker, Subject};
use crate::config::diagnostic::{Diagnostic, did_you_mean, one_of};
use crate::config::model::conflict::{Strategy, Winner};
use crate::config::model::running::Authority;
use crate::error::Code;

pub(super) fn check(checker: &mut Checker<'_>, subject: &Subject<'_>) {
    strategy(checker, subject);
    priority(checker, subject);
    field_rules(checker, subject);
    if let Authority::System(name) = &subject.sync.initial_sync.authority {
        let pointer = format!("{}/initial_sync/authority", subject.at);
        name_is_known(checker, subject, name, "authority", &["policy", "review"], &pointer);
    }
}

/// Says that a name is no member's.
pub(super) fn name_is_known(
    checker: &mut Checker<'_>,
    subject: &Subject<'_>,
    name: &str,
    setting: &str,
    words: &[&str],
    pointer: &str,
) {
    if subject.names.iter().any(|known| known.written == name || known.canonical == name) {
        return;
    }
    let mut known: Vec<&str> = Vec::new();
    for candidate in subject.names.iter().map(|known| known.written.as_str()).chain(words.iter().copied()) {
        if !known.contains(&candidate) {
            known.push(candidate);
        }
    }
    let hint = did_you_mean(name, known.iter().copied());
    let message = format!("`{setting}` names `{name}`, which is no member of the sync{hint}");
    let finding = Diagnostic::error(Code::ConfigUnknownName, message);
    checker.say(pointer, finding.instead(format!("Write {}.", one_of(known))));
}

fn strategy(checker: &mut Checker<'_>, subject: &Subject<'_>) {
    let policy = &subject.sync.conflict_resolution;
    let at = format!("{}/conflict_resolution", subject.at);
    match policy.strategy {
        Strategy::SystemPriority if policy.priority.is_empty() => {
            let names: Vec<String> = canonical_names(subject).iter().map(|name| format!("\"{name}\"")).collect();
            let remedy = format!("Add \"priority\": [{}], the one that wins first.", names.join(", "));
            let finding = Diagnostic::error(Code::ConfigMissing, "`system_priority` needs `priority`").instead(remedy);
            checker.say(&format!("{at}/strategy"), finding);
        }
        Strategy::FieldLevelPriority if policy.field_rules.is_empty() => {
            let remedy = "Add \"field_rules\": [{ \"field\": \"…\", \"priority_system\": \"…\" }].";
            let finding = Diagnostic::error(Code::ConfigMissing, "`field_level_priority` needs `field_rules`").instead(remedy);
            checker.say(&format!("{at}/strategy"), finding);
        }
        Strategy::SystemPriority | Strategy::FieldLevelPriority => {}
        Strategy::LastWriteWins | Strategy::Manual => {
            checker.idle(&format!("{at}/priority"), "`priority` is only used by the strategy `system_priority`");
        }
    }
}

fn canonical_names<'a>(subject: &Subject<'a>) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for name in subject.names {
        if !names.contains(&name.canonical.as_str()) {
            names.push(&name.canonical);
        }
    }
    names
}

fn priority(checker: &mut Checker<'_>, subject: &Subject<'_>) {
    let names = &subject.sync.conflict_resolution.priority;
    for (index, name) in names.iter().enumerate() {
        let pointer = format!("{}/conflict_resolution/priority/{index}", subject.at);
        name_is_known(checker, subject, name, "priority", &[], &pointer);
        if names.iter().take(index).any(|other| other == name) {
            checker.error(Code::ConfigDuplicateName, &pointer, format!("`{name}` stands twice in `priority`"));
        }
    }
}

fn field_rules(checker: &mut Checker<'_>, subject: &Subject<'_>) {
    let rules = &subject.sync.conflict_resolution.field_rules;
    for (index, rule) in rules.iter().enumerate() {
        let at = format!("{}/conflict_resolution/field_rules/{index}", subject.at);
        if let Winner::System(name) = &rule.priority_system {
            let words = ["last_updated", "manual"];
            name_is_known(checker, subject, name, "priority_system", &words, &format!("{at}/priority_system"));
        }
        if rules.iter().take(index).any(|other| other.field == rule.field) {
            let message = format!("two rules speak of the field `{}`", rule.field);
            checker.error(Code::ConfigDuplicateName, &format!("{at}/field"), message);
        }
        let Some(known) = known_fields(subject.sync) else { continue };
        if !known.contains(&rule.field.as_str()) {
            let hint = did_you_mean(&rule.field, known);
            let message = format!("`field_rules` names `{}`, which is neither a mapped field nor a group{hint}", rule.field);
            checker.error(Code::ConfigUnknownField, &format!("{at}/field"), message);
        }
    }
}
