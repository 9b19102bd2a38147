//! Everything a sync decides by: groups and who wins, how records are matched, rules, deletes, limits. Names of members
//! and fields become numbers here; one that nothing has is a finding.

use super::compile::Subject;
use super::fields::{Draft, Drafts, canonical_type};
use super::notes::Notes;
use super::steps;
use crate::clock::Moment;
use crate::config::{self, MatchField, Normalizer, Schedule, Strategy, SyncConfig, Winner, nearest};
use crate::error::Code;
use crate::link::{FieldIndex, GroupIndex};
use crate::record::FieldName;
use crate::rules::{
    Authority, Carrying, DeleteAgainstEdit, DeleteRules, Fallback, GroupRules, GuardRules, InitialRules, InitialStrategy,
    LoopRules, MatchRule, MemberRules, OnDelete, Policy, RetryRules, TargetEdits,
};
use crate::schema::Type;
use crate::transform::{MatchKind, parse_region};
use crate::validate::Rule;
use std::time::Duration;

/// The groups, and which of them each canonical field is in.
pub(super) struct Groups {
    pub rules: Vec<GroupRules>,
    pub of_field: Vec<GroupIndex>,
}

/// Puts every field in its group, and finds each group's policy.
pub(super) fn groups(subject: &Subject<'_>, drafts: &Drafts, notes: &mut Notes<'_>) -> Groups {
    let standard = standard_policy(subject, notes);
    let mut groups = Groups { rules: Vec::new(), of_field: Vec::with_capacity(drafts.all.len()) };
    let mut named: Vec<(&str, GroupIndex)> = Vec::new();
    for (field, draft) in drafts.all.iter().enumerate() {
        let known = draft.group.as_deref().and_then(|name| named.iter().find(|(other, _)| *other == name));
        let group = match known {
            Some((_, group)) => *group,
            None => {
                let group = groups.rules.len();
                named.extend(draft.group.as_deref().map(|name| (name, group)));
                let name = draft.group.clone().unwrap_or_else(|| draft.name.clone());
                groups.rules.push(GroupRules { name, fields: Vec::new(), policy: standard.clone() });
                group
            }
        };
        groups.of_field.push(group);
        if let Some(rules) = groups.rules.get_mut(group) {
            rules.fields.push(field);
        }
    }
    field_rules(subject, drafts, &mut groups, notes);
    groups
}

fn standard_policy(subject: &Subject<'_>, notes: &mut Notes<'_>) -> Policy {
    let written = &subject.sync.conflict_resolution;
    match written.strategy {
        Strategy::LastWriteWins | Strategy::FieldLevelPriority => Policy::LastWriteWins,
        Strategy::Manual => Policy::Manual,
        Strategy::SystemPriority => {
            let mut order = Vec::new();
            for (index, name) in written.priority.iter().enumerate() {
                match subject.member_called(name) {
                    Some(member) => order.push(member),
                    None => unknown(&format!("/conflict_resolution/priority/{index}"), name, notes),
                }
            }
            Policy::Priority(order)
        }
    }
}

fn unknown(path: &str, name: &str, notes: &mut Notes<'_>) {
    let message = format!("`{name}` is neither member of the sync");
    notes.error(path, Code::PlanNameUnknown, message, Code::PlanNameUnknown.remedy());
}

/// Rules for one field or group each; the last that speaks of a group counts.
fn field_rules(subject: &Subject<'_>, drafts: &Drafts, groups: &mut Groups, notes: &mut Notes<'_>) {
    for (index, rule) in subject.sync.conflict_resolution.field_rules.iter().enumerate() {
        let path = format!("/conflict_resolution/field_rules/{index}");
        let by_group = drafts.all.iter().position(|draft| draft.group.as_deref() == Some(rule.field.as_str()));
        let Some(field) = by_group.or_else(|| drafts.called(&rule.field)) else {
            field_unknown(&format!("{path}/field"), &rule.field, drafts, notes);
            continue;
        };
        let policy = match &rule.priority_system {
            Winner::LastUpdated => Policy::LastWriteWins,
            Winner::Manual => Policy::Manual,
            Winner::System(name) => match subject.member_called(name) {
                Some(member) => Policy::Priority(vec![member]),
                None => {
                    unknown(&format!("{path}/priority_system"), name, notes);
                    continue;
                }
            },
        };
        let group = groups.of_field.get(field).copied().and_then(|group| groups.rules.get_mut(group));
        if let Some(group) = group {
            group.policy = policy;
        }
    }
}

fn field_unknown(path: &str, name: &str, drafts: &Drafts, notes: &mut Notes<'_>) {
    let names: Vec<&str> = drafts.all.iter().map(|draft| draft.name.as_str()).collect();
    let remedy = match nearest(name, names.iter().copied()) {
        Some(near) => format!("Write `{near}`, or map a field of that name."),
        None => format!("Write one of the fields that take part: {}.", names.join(", ")),
    };
    notes.error(path, Code::PlanNameUnknown, format!("no field of the sync is called `{name}`"), remedy);
}

/// The fields by which records are matched: those named; else a key that one side has as a field of its own.
pub(super) fn match_on(subject: &Subject<'_>, drafts: &Drafts, notes: &mut Notes<'_>) -> Vec<MatchRule> {
    let mut rules = Vec::new();
    for (index, written) in subject.sync.match_on.iter().enumerate() {
        let path = format!("/match_on/{index}/field");
        let Some(field) = drafts.called(written.field.as_str()) else {
            field_unknown(&path, written.field.as_str(), drafts, notes);
            continue;
        };
        let on_both = drafts.all.get(field).is_some_and(|draft| !draft.is_part && draft.members.iter().all(Option::is_some));
        if !on_both {
            let message = format!("`{}` is not a field of both sides, so records cannot be matched by it", written.field);
            notes.error(&path, Code::PlanMatchUnusable, message, Code::PlanMatchUnusable.remedy());
            continue;
        }
        rules.push(MatchRule { field, normaliser: kind(written, || phone_region(subject, drafts, field)) });
    }
    if subject.sync.match_on.is_empty() {
        rules = implicit_match(subject, drafts);
    }
    if rules.is_empty() && !notes.has_errors() {
        needs_match(subject, drafts, notes);
    }
    rules
}

fn kind(written: &MatchField, region_of_field: impl Fn() -> Option<String>) -> MatchKind {
    match written.normalizer {
        Normalizer::Exact => MatchKind::Exact,
        Normalizer::Case => MatchKind::Case,
        Normalizer::Email => MatchKind::Email,
        Normalizer::Phone => {
            let region = written.region.clone().or_else(region_of_field);
            MatchKind::Phone { region: region.and_then(|region| parse_region(&region).ok()) }
        }
    }
}

/// The region in which the sync reads a field's numbers elsewhere: as they are written, or as they are checked.
fn phone_region(subject: &Subject<'_>, drafts: &Drafts, field: FieldIndex) -> Option<String> {
    let is_it = |name: &FieldName| drafts.called(name.as_str()) == Some(field);
    let mappings = subject.sync.field_mappings.iter().filter(|mapping| mapping.source.iter().chain(&mapping.target).any(is_it));
    let written = mappings.flat_map(|mapping| &mapping.transformation).find_map(|step| match step {
        config::Transformation::FormatPhone { region, .. } => region.clone(),
        _ => None,
    });
    let checked = || subject.sync.validation_rules.iter().filter(|rule| is_it(&rule.field)).find_map(|rule| rule.region.clone());
    written.or_else(checked)
}

/// Where the whole key of one side is carried to the other, the fields that it is carried in tell records apart.
fn implicit_match(subject: &Subject<'_>, drafts: &Drafts) -> Vec<MatchRule> {
    for member in 0..2 {
        let key = &subject.schema(member).key;
        let carried = |draft: &Draft| !draft.is_part && draft.reference.is_none() && draft.members.iter().all(Option::is_some);
        let fields: Option<Vec<FieldIndex>> = key
            .iter()
            .map(|name| {
                drafts.all.iter().position(|draft| {
                    carried(draft) && draft.members.get(member).and_then(Option::as_ref).is_some_and(|at| at.name == *name)
                })
            })
            .collect();
        if let Some(fields) = fields.filter(|fields| !fields.is_empty()) {
            return fields.into_iter().map(|field| MatchRule { field, normaliser: MatchKind::Exact }).collect();
        }
    }
    Vec::new()
}

/// Both sides hold records and nothing tells which are the same: refused, with the fields that would do.
fn needs_match(subject: &Subject<'_>, drafts: &Drafts, notes: &mut Notes<'_>) {
    let holds_records = |count: Option<u64>| count.is_none_or(|count| count > 0);
    // However little is read at first: an edit of a record that was not makes a second one of it elsewhere.
    if !(holds_records(subject.facts.0.count) && holds_records(subject.facts.1.count)) {
        return;
    }
    let proposals = match_proposals(subject, drafts);
    let remedy = match proposals.first() {
        Some(best) if proposals.len() > 1 => {
            format!(
                "Write \"match_on\": [\"{best}\"]. Other fields that could do: {}.",
                proposals.get(1..).unwrap_or(&[]).join(", ")
            )
        }
        Some(only) => format!("Write \"match_on\": [\"{only}\"]."),
        None => "Name the fields in `match_on`; none of those mapped is unique on either side.".to_string(),
    };
    let message = format!(
        "`{}` and `{}` both hold records, and nothing tells which of them are the same",
        subject.facts.0.schema.object, subject.facts.1.schema.object
    );
    notes.error("", Code::PlanMatchNeeded, message, remedy);
}

/// Mapped fields that could tell records apart: unique on both sides first, then on one, then by their names.
fn match_proposals(subject: &Subject<'_>, drafts: &Drafts) -> Vec<String> {
    let unique_at = |draft: &Draft, member: usize| {
        let schema = subject.schema(member);
        let name = draft.members.get(member).and_then(Option::as_ref).map(|at| &at.name);
        schema.unique.iter().chain(std::iter::once(&schema.key)).any(|set| match set.as_slice() {
            [only] => Some(only) == name,
            _ => false,
        })
    };
    let mut ranked: Vec<(u8, &str)> = Vec::new();
    for draft in drafts.all.iter().filter(|draft| !draft.is_part && draft.members.iter().all(Option::is_some)) {
        let is_telling =
            ["mail", "code", "number", "external", "uuid"].iter().any(|word| draft.name.to_lowercase().contains(word));
        let rank = match (unique_at(draft, 0), unique_at(draft, 1)) {
            (true, true) => 0,
            (true, false) | (false, true) => 1,
            _ if is_telling && canonical_type(draft).is_some() => 2,
            _ => continue,
        };
        ranked.push((rank, &draft.name));
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, name)| name.to_string()).collect()
}

/// The validation rules, fields that must have a value first.
pub(super) fn validation(subject: &Subject<'_>, drafts: &Drafts, notes: &mut Notes<'_>) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut take = |rule: Result<Rule, String>, path: &str, notes: &mut Notes<'_>| match rule {
        Ok(rule) => rules.push(rule),
        Err(reason) => notes.error(path, Code::PlanRuleUnusable, reason, Code::PlanRuleUnusable.remedy()),
    };
    for draft in drafts.all.iter().filter(|draft| draft.required) {
        take(steps::required(&draft.name), &format!("{}/required", draft.path), notes);
    }
    for (index, written) in subject.sync.validation_rules.iter().enumerate() {
        let path = format!("/validation_rules/{index}");
        match drafts.called(written.field.as_str()).and_then(|field| drafts.all.get(field)) {
            Some(draft) => {
                let mut mappings = subject.sync.field_mappings.iter().filter(|mapping| mapping.default.is_some());
                let of_field =
                    mappings.find(|mapping| mapping.source.iter().chain(&mapping.target).any(|name| *name == written.field));
                let default = of_field.and_then(|mapping| mapping.default.as_ref());
                take(steps::rule(written, &draft.name, default), &path, notes);
            }
            None => field_unknown(&format!("{path}/field"), written.field.as_str(), drafts, notes),
        }
    }
    rules
}

pub(super) fn deletes(sync: &SyncConfig) -> DeleteRules {
    DeleteRules {
        on_delete: match sync.on_delete {
            config::OnDelete::Propagate => OnDelete::Propagate,
            config::OnDelete::SoftDelete => OnDelete::SoftDelete,
            config::OnDelete::Detach => OnDelete::Detach,
            config::OnDelete::Ignore => OnDelete::Ignore,
        },
        against_edit: match sync.conflict_resolution.delete_vs_update {
            Some(config::DeleteVsUpdate::UpdateWins) => DeleteAgainstEdit::UpdateWins,
            Some(config::DeleteVsUpdate::DeleteWins) => DeleteAgainstEdit::DeleteWins,
            Some(config::DeleteVsUpdate::Manual) | None => DeleteAgainstEdit::Manual,
        },
    }
}

pub(super) fn initial(subject: &Subject<'_>, notes: &mut Notes<'_>) -> Option<InitialRules> {
    let written = &subject.sync.initial_sync;
    let authority = match &written.authority {
        config::Authority::Policy => Authority::Policy,
        config::Authority::Review => Authority::Review,
        config::Authority::System(name) => match subject.member_called(name) {
            Some(member) => Authority::Member(member),
            None => {
                unknown("/initial_sync/authority", name, notes);
                return None;
            }
        },
    };
    let strategy = match written.strategy {
        config::InitialStrategy::FullLoad => InitialStrategy::FullLoad,
        config::InitialStrategy::MatchOnly => InitialStrategy::MatchOnly,
        config::InitialStrategy::FromNow => InitialStrategy::FromNow,
        config::InitialStrategy::Since => InitialStrategy::Since(since(subject)?),
    };
    Some(InitialRules { strategy, authority, rebuild_indexes: written.rebuild_indexes })
}

/// The moment that `since` names, where some member can tell what changed since then.
fn since(subject: &Subject<'_>) -> Option<Moment> {
    let written = subject.sync.initial_sync.since.as_deref()?;
    let day = || written.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
    let at = written.parse::<jiff::Timestamp>().ok().or_else(|| day().map(|day| day.timestamp()))?;
    Some(Moment(at.as_microsecond()))
}

/// Which members can tell what changed `since`: those with a field that holds the time of an edit.
pub(super) fn tells_since(subject: &Subject<'_>, members: &[MemberRules], notes: &mut Notes<'_>) {
    if subject.sync.initial_sync.strategy != config::InitialStrategy::Since {
        return;
    }
    let is_time = |member: &MemberRules| {
        let field = member.edit_time_field.as_ref().and_then(|field| member.schema.field(field.as_str()));
        field.is_some_and(|field| matches!(field.ty, Type::Timestamp { .. } | Type::TimestampTz { .. }))
    };
    let told: Vec<&MemberRules> = members.iter().filter(|member| is_time(member)).collect();
    let remedy = "Name the field that holds the time of an edit in `conflict_resolution.timestamp_field`: a timestamp.";
    if told.is_empty() {
        let message = "`since` needs a field that tells when a record was changed, and neither side has one";
        notes.error("/initial_sync/strategy", Code::ConfigMissing, message, remedy);
        return;
    }
    for (place, member) in members.iter().enumerate().filter(|(_, member)| member.outward && !is_time(member)) {
        let system = subject.system_name(place);
        let message = format!("`{}` of `{system}` cannot tell what changed since: nothing of it is read at first", member.object);
        notes.warning("/initial_sync/since", Code::PlanNotRead, message, Code::PlanNotRead.remedy());
    }
}

pub(super) fn loops(sync: &SyncConfig) -> LoopRules {
    let written = &sync.loop_prevention;
    LoopRules {
        enabled: written.enabled,
        window: Duration::from_secs(written.detection_window_seconds),
        max: written.max_update_count,
    }
}

/// When changes are carried. A schedule that cannot be understood was refused before.
pub(super) fn carrying(sync: &SyncConfig) -> Carrying {
    let written = &sync.ongoing_sync;
    let schedule = written.schedule.as_deref().and_then(|schedule| Schedule::parse(schedule).ok());
    match (written.mode, schedule) {
        (config::OngoingMode::Polling, _) => {
            let seconds = written.polling_interval_seconds.unwrap_or(config::OngoingSync::POLLING_INTERVAL_SECONDS);
            Carrying::Every(Duration::from_secs(seconds))
        }
        (config::OngoingMode::Scheduled, Some(schedule)) => Carrying::At(schedule),
        (config::OngoingMode::RealTime | config::OngoingMode::Scheduled, _) => Carrying::AtOnce,
    }
}

pub(super) fn guard(sync: &SyncConfig) -> GuardRules {
    GuardRules {
        max_deletes: sync.guards.max_deletes,
        max_deletes_percent: sync.guards.max_deletes_percent,
        window: Duration::from_secs(sync.guards.window_seconds),
    }
}

pub(super) fn retry(sync: &SyncConfig) -> RetryRules {
    let written = &sync.error_handling.retry_strategy;
    let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or_default();
    RetryRules {
        max_attempts: written.max_attempts,
        initial_delay: seconds(written.initial_delay_seconds),
        backoff_factor: written.backoff_factor,
        max_delay: seconds(written.max_delay_seconds),
    }
}

pub(super) fn fallback(sync: &SyncConfig) -> Fallback {
    match sync.error_handling.fallback.action {
        config::FallbackAction::QueueForManualReview => Fallback::Review,
        config::FallbackAction::Skip => Fallback::Skip,
        config::FallbackAction::StopSync => Fallback::Stop,
    }
}

pub(super) fn target_edits(sync: &SyncConfig) -> TargetEdits {
    match sync.target_edits {
        config::TargetEdits::Overwrite => TargetEdits::Overwrite,
        config::TargetEdits::Keep => TargetEdits::Keep,
        config::TargetEdits::Review => TargetEdits::Review,
    }
}
