//! Validation rules: each with what it needs, and nothing that it does not use.

use super::fields::{bad_region, field_is_known};
use super::{Checker, Subject, expression_error, is_region};
use crate::config::diagnostic::Diagnostic;
use crate::config::model::sync::SyncConfig;
use crate::config::model::validation::{Limit, OnError, Rule, ValidationRule};
use crate::error::Code;

pub(super) fn check(checker: &mut Checker<'_>, subject: &Subject<'_>) {
    let Subject { sync, at, .. } = subject;
    for (index, rule) in sync.validation_rules.iter().enumerate() {
        let at = format!("{at}/validation_rules/{index}");
        field_is_known(checker, sync, rule.field.as_str(), "validation_rules", &format!("{at}/field"));
        needs(checker, rule, &at);
        patterns(checker, rule, &at);
        limits(checker, rule, &at);
        idle_settings(checker, rule, &at);
        repair(checker, sync, rule, &at);
    }
}

fn needs(checker: &mut Checker<'_>, rule: &ValidationRule, at: &str) {
    let name = rule.rule.name();
    let (is_there, what, example) = match rule.rule {
        Rule::Regex => (rule.pattern.is_some(), "pattern", "\"pattern\": \"^[A-Z]{2}[0-9]+$\""),
        Rule::Length => (rule.min.is_some() || rule.max.is_some(), "min` or `max", "\"min\": 1, \"max\": 40"),
        Rule::Range => (rule.min.is_some() || rule.max.is_some(), "min` or `max", "\"min\": 0, \"max\": 100"),
        Rule::OneOf => (!rule.values.is_empty(), "values", "\"values\": [\"open\", \"closed\"]"),
        Rule::Expression => (rule.expression.is_some(), "expression", "\"expression\": \"value > 0\""),
        Rule::Required | Rule::EmailFormat | Rule::Phone | Rule::Unique => return,
    };
    if !is_there {
        let finding = Diagnostic::error(Code::ConfigMissing, format!("the rule `{name}` needs `{what}`"));
        checker.say(at, finding.instead(format!("Add {example}.")));
    }
}

fn patterns(checker: &mut Checker<'_>, rule: &ValidationRule, at: &str) {
    if let Some(Err(error)) = rule.pattern.as_deref().map(regex::Regex::new) {
        let reason = error.to_string();
        let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
        checker.error(Code::ConfigBadPattern, &format!("{at}/pattern"), format!("the pattern cannot be used: {reason}"));
    }
    if let Some(reason) = rule.expression.as_deref().and_then(expression_error) {
        let message = format!("`expression` cannot be compiled: {reason}");
        checker.error(Code::ConfigBadExpression, &format!("{at}/expression"), message);
    }
    if let Some(region) = rule.region.as_deref().filter(|region| !is_region(region)) {
        checker.say(&format!("{at}/region"), bad_region(region));
    }
}

fn limits(checker: &mut Checker<'_>, rule: &ValidationRule, at: &str) {
    if rule.rule == Rule::Length {
        for (key, limit) in [("min", &rule.min), ("max", &rule.max)] {
            let is_count = matches!(limit, None | Some(Limit::Number(_))) && limit.iter().all(|limit| as_count(limit).is_some());
            if !is_count {
                let message = format!("`{key}` of a length must be a whole number from 0");
                checker.error(Code::ConfigOutOfRange, &format!("{at}/{key}"), message);
            }
        }
    }
    let (Some(min), Some(max)) = (&rule.min, &rule.max) else { return };
    if min_is_greater(min, max) {
        checker.error(Code::ConfigOutOfRange, &format!("{at}/min"), "`min` is greater than `max`");
    }
}

fn as_count(limit: &Limit) -> Option<u64> {
    match limit {
        Limit::Number(number) => number.as_u64(),
        Limit::Text(_) => None,
    }
}

/// Numbers compare as decimals, whichever way they were written; dates in ISO form compare as text.
fn min_is_greater(min: &Limit, max: &Limit) -> bool {
    let text = |limit: &Limit| match limit {
        Limit::Number(number) => number.to_string(),
        Limit::Text(text) => text.clone(),
    };
    let (min, max) = (text(min), text(max));
    match (min.parse::<bigdecimal::BigDecimal>(), max.parse::<bigdecimal::BigDecimal>()) {
        (Ok(min), Ok(max)) => min > max,
        (Err(_), Err(_)) => min > max,
        _ => false,
    }
}

fn idle_settings(checker: &mut Checker<'_>, rule: &ValidationRule, at: &str) {
    let uses: &[&str] = match rule.rule {
        Rule::Regex => &["pattern"],
        Rule::Length | Rule::Range => &["min", "max"],
        Rule::OneOf => &["values"],
        Rule::Expression => &["expression"],
        Rule::Phone => &["region"],
        Rule::Required | Rule::EmailFormat | Rule::Unique => &[],
    };
    for key in ["pattern", "min", "max", "values", "expression", "region"] {
        if !uses.contains(&key) {
            let message = format!("`{key}` is not used by the rule `{}`", rule.rule.name());
            checker.idle(&format!("{at}/{key}"), message);
        }
    }
    if rule.on_error != OnError::UseDefault {
        checker.idle(&format!("{at}/default"), "`default` is only used with \"on_error\": \"use_default\"");
    }
}

fn repair(checker: &mut Checker<'_>, sync: &SyncConfig, rule: &ValidationRule, at: &str) {
    let mapping_default = sync.field_mappings.iter().any(|mapping| {
        mapping.default.is_some() && mapping.source.iter().chain(&mapping.target).any(|field| *field == rule.field)
    });
    let pointer = format!("{at}/on_error");
    match rule.on_error {
        OnError::UseDefault if rule.default.is_none() && !mapping_default => {
            let remedy = "Add \"default\" to the rule or to the field's mapping.";
            let message = format!("`use_default` finds no default for `{}`", rule.field);
            checker.say(&pointer, Diagnostic::error(Code::ConfigMissing, message).instead(remedy));
        }
        OnError::StandardizeFormat if !matches!(rule.rule, Rule::EmailFormat | Rule::Phone) => {
            let message = format!("nothing standardises what breaks the rule `{}`: it goes to review", rule.rule.name());
            checker.idle(&pointer, message);
        }
        OnError::SetNull if rule.rule == Rule::Required => {
            checker.error(Code::ConfigContradiction, &pointer, "a required field cannot be set to null");
        }
        _ => {}
    }
}
