//! Fields: mappings that can work, transformations whose arguments make sense, selections that agree.

use super::{Checker, Subject, expression_error, is_region, time_pattern_error};
use crate::config::diagnostic::{Diagnostic, did_you_mean};
use crate::config::model::mapping::{FieldMapping, FieldSelection, TimestampFormat};
use crate::config::model::sync::{MatchField, Normalizer, SyncConfig};
use crate::config::model::transformation::Transformation;
use crate::error::Code;

pub(super) fn check(checker: &mut Checker<'_>, subject: &Subject<'_>) {
    let Subject { sync, at, .. } = subject;
    selections_agree(checker, sync, at);
    targets_differ(checker, sync, at);
    for (index, mapping) in sync.field_mappings.iter().enumerate() {
        check_mapping(checker, subject, mapping, &format!("{at}/field_mappings/{index}"));
    }
    for (entity_index, entity) in sync.entities.iter().enumerate() {
        for (system, mappings) in &entity.field_mappings {
            for (index, mapping) in mappings.iter().enumerate() {
                let pointer = format!("{at}/entities/{entity_index}/field_mappings/{system}/{index}");
                check_mapping(checker, subject, mapping, &pointer);
            }
        }
    }
    format_is_usable(checker, &sync.mapping_options.timestamp_format, &format!("{at}/mapping_options/timestamp_format"));
    for (index, field) in sync.match_on.iter().enumerate() {
        field_is_known(checker, sync, field.field.as_str(), "match_on", &format!("{at}/match_on/{index}/field"));
        region_is_of_use(checker, field, &format!("{at}/match_on/{index}/region"));
    }
}

fn region_is_of_use(checker: &mut Checker<'_>, field: &MatchField, at: &str) {
    let Some(region) = &field.region else { return };
    if !is_region(region) {
        checker.say(at, bad_region(region));
    } else if field.normalizer != Normalizer::Phone {
        checker.error(
            Code::ConfigContradiction,
            at,
            "`region` is for the normalizer `phone`: write `\"normalizer\": \"phone\"`, or leave the region out",
        );
    }
}

/// Every field and group that the configuration names, where it names all that take part.
pub(super) fn known_fields(sync: &SyncConfig) -> Option<Vec<&str>> {
    let is_explicit = sync.field_selection == Some(FieldSelection::Explicit);
    if !is_explicit || sync.sync_hub.is_some() {
        return None;
    }
    let mapped = sync.field_mappings.iter().flat_map(|mapping| {
        let fields = mapping.source.iter().chain(&mapping.target).map(|field| field.as_str());
        fields.chain(mapping.group.as_deref())
    });
    Some(mapped.chain(sync.include_fields.iter().map(String::as_str)).collect())
}

/// Says that a setting names a field that takes no part.
pub(super) fn field_is_known(checker: &mut Checker<'_>, sync: &SyncConfig, field: &str, setting: &str, pointer: &str) {
    let Some(known) = known_fields(sync) else { return };
    if !known.contains(&field) {
        let hint = did_you_mean(field, known);
        let message = format!("`{setting}` names the field `{field}`, which no mapping names{hint}");
        checker.error(Code::ConfigUnknownField, pointer, message);
    }
}

fn selections_agree(checker: &mut Checker<'_>, sync: &SyncConfig, at: &str) {
    for (index, field) in sync.exclude_fields.iter().enumerate() {
        let pointer = format!("{at}/exclude_fields/{index}");
        let mapped = sync
            .field_mappings
            .iter()
            .any(|mapping| mapping.source.iter().chain(&mapping.target).any(|name| name.as_str() == field));
        if sync.include_fields.contains(field) {
            let message = format!("the field `{field}` is in `include_fields` and in `exclude_fields`");
            checker.error(Code::ConfigContradiction, &pointer, message);
        } else if mapped {
            checker.error(Code::ConfigContradiction, &pointer, format!("the field `{field}` is mapped and in `exclude_fields`"));
        }
    }
    let names_none = sync.field_mappings.is_empty() && sync.include_fields.is_empty() && sync.sync_hub.is_none();
    if sync.field_selection == Some(FieldSelection::Explicit) && names_none {
        let message = "`field_selection` is `explicit`, but neither `field_mappings` nor `include_fields` name a field";
        checker.error(Code::ConfigMissing, &format!("{at}/field_selection"), message);
    }
}

/// Two mappings that write the same target field would overwrite each other for ever.
fn targets_differ(checker: &mut Checker<'_>, sync: &SyncConfig, at: &str) {
    let writes = |mapping: &FieldMapping| sync.flows_to_target() && mapping.direction.to_target();
    for (index, mapping) in sync.field_mappings.iter().enumerate().filter(|(_, mapping)| writes(mapping)) {
        let earlier: Vec<&FieldMapping> = sync.field_mappings.iter().take(index).filter(|other| writes(other)).collect();
        for field in mapping.target.iter().filter(|field| earlier.iter().any(|other| other.target.contains(field))) {
            let message = format!("two mappings write the target's field `{field}`");
            checker.error(Code::ConfigContradiction, &format!("{at}/field_mappings/{index}/target"), message);
        }
    }
}

fn check_mapping(checker: &mut Checker<'_>, subject: &Subject<'_>, mapping: &FieldMapping, at: &str) {
    field_counts(checker, mapping, at);
    for (index, step) in mapping.transformation.iter().enumerate() {
        check_transformation(checker, step, mapping, &format!("{at}/transformation/{index}"));
    }
    if let Some(owner) = &mapping.owner {
        super::policies::name_is_known(checker, subject, owner, "owner", &[], &format!("{at}/owner"));
    }
    super::references::check(checker, subject, mapping, at);
}

/// Several fields on one side need a transformation that joins or splits them.
fn field_counts(checker: &mut Checker<'_>, mapping: &FieldMapping, at: &str) {
    let has = |name: &str| mapping.transformation.iter().any(|step| step.name() == name);
    let (sources, targets) = (mapping.source.len(), mapping.target.len());
    let message = match (sources, targets) {
        (2.., 2..) => "a mapping has several fields on one side only: write one mapping for each pair of fields",
        (2.., _) if !has("join") && !has("expression") => "several source fields need `join` or `expression`",
        (_, 2..) if !has("split") => "several target fields need `split`",
        _ => return,
    };
    checker.error(Code::ConfigContradiction, at, message);
}

fn check_transformation(checker: &mut Checker<'_>, step: &Transformation, mapping: &FieldMapping, at: &str) {
    match step {
        Transformation::FormatPhone { region: Some(region) } if !is_region(region) => {
            checker.say(&format!("{at}/region"), bad_region(region));
        }
        Transformation::Split { index, .. } => match (index, mapping.target.len()) {
            (Some(_), 2..) => {
                let message = "`index` names one part, but the mapping has several targets";
                checker.error(Code::ConfigContradiction, &format!("{at}/index"), message);
            }
            (None, 1) => {
                let remedy = "Add \"index\": 0 for the first part (-1 for the last), or list several fields in `target`.";
                let finding =
                    Diagnostic::error(Code::ConfigMissing, "`split` with one target does not say which part goes there");
                checker.say(at, finding.instead(remedy));
            }
            _ => {}
        },
        Transformation::Join { .. } if mapping.source.len() < 2 => {
            let message = "`join` needs several fields in `source`";
            checker.error(Code::ConfigContradiction, at, message);
        }
        Transformation::Map { values, .. } if values.is_empty() => {
            checker.error(Code::ConfigMissing, &format!("{at}/values"), "`map` needs at least one value");
        }
        Transformation::DateFormat { to, from } => {
            format_is_usable(checker, to, &format!("{at}/to"));
            format_is_usable(checker, from, &format!("{at}/from"));
        }
        Transformation::Expression { expression, inverse } => {
            let both = [("expression", Some(expression)), ("inverse", inverse.as_ref())];
            for (key, text) in both {
                if let Some(reason) = text.and_then(|text| expression_error(text)) {
                    let message = format!("`{key}` cannot be compiled: {reason}");
                    checker.error(Code::ConfigBadExpression, &format!("{at}/{key}"), message);
                }
            }
        }
        _ => {}
    }
}

/// What is wrong with a region.
pub(super) fn bad_region(region: &str) -> Diagnostic {
    let message = format!("`{region}` is no region: two capital letters such as `US` or `DE`");
    Diagnostic::error(Code::ConfigUnknownValue, message)
}

fn format_is_usable(checker: &mut Checker<'_>, format: &TimestampFormat, pointer: &str) {
    let TimestampFormat::Pattern(pattern) = format else { return };
    if let Some(reason) = time_pattern_error(pattern) {
        checker.error(Code::ConfigBadPattern, pointer, format!("the time format cannot be used: {reason}"));
    }
}
