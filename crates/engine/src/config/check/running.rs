//! Beginning, schedules, retries, messages: what is needed is there, and ranges do not run backwards.

use super::{Checker, Subject};
use crate::config::cron;
use crate::config::diagnostic::Diagnostic;
use crate::config::kinds;
use crate::config::model::failures::Channel;
use crate::config::model::process::MetricsSettings;
use crate::config::model::running::{ChangeDetection, InitialStrategy, OngoingMode, RolloutStage};
use crate::config::model::sync::{Filter, SyncConfig, SyncType, TargetEdits};
use crate::error::Code;
use crate::filter;

/// Settings of the process.
pub(super) fn check_process(checker: &mut Checker<'_>) {
    let address = checker.config.process_settings.metrics.address.as_deref();
    if let Some((address, why)) = address.and_then(|address| Some((address, MetricsSettings::listens_at(address).err()?))) {
        let finding = Diagnostic::error(Code::ConfigWrongType, format!("`{address}` as the address of `metrics`: {why}"));
        checker.say("/process_settings/metrics/address", finding.instead("Write \"127.0.0.1:9464\", for example."));
    }
}

pub(super) fn check(checker: &mut Checker<'_>, subject: &Subject<'_>) {
    let Subject { sync, at, .. } = subject;
    beginning(checker, sync, at);
    schedule(checker, sync, at);
    retries(checker, sync, at);
    rollout(checker, sync, at);
    filters(checker, sync, at);
    messages(checker, sync, at);
}

fn beginning(checker: &mut Checker<'_>, sync: &SyncConfig, at: &str) {
    let overwrites = sync.sync_type == SyncType::OneWay && sync.target_edits == TargetEdits::Overwrite;
    if sync.initial_sync.rebuild_indexes && !(overwrites && sync.initial_sync.strategy == InitialStrategy::FullLoad) {
        let message = "`rebuild_indexes` is only used by the full load of a one-way sync that is mirrored";
        checker.idle(&format!("{at}/initial_sync/rebuild_indexes"), message);
    }
    let pointer = format!("{at}/initial_sync/since");
    match (sync.initial_sync.strategy, &sync.initial_sync.since) {
        (InitialStrategy::Since, None) => {
            let remedy = "Add \"since\": \"2026-01-01T00:00:00Z\", for example.";
            let finding = Diagnostic::error(Code::ConfigMissing, "the strategy `since` needs `since`: a time").instead(remedy);
            checker.say(&format!("{at}/initial_sync/strategy"), finding);
        }
        (InitialStrategy::Since, Some(since)) => {
            let is_time = since.parse::<jiff::Timestamp>().is_ok() || since.parse::<jiff::civil::Date>().is_ok();
            if !is_time {
                let message = format!("`{since}` is no time: a day (2026-01-31) or a time with a zone (2026-01-31T12:00:00Z)");
                checker.error(Code::ConfigBadPattern, &pointer, message);
            }
        }
        (_, Some(_)) => checker.idle(&pointer, "`since` is only used by the strategy `since`"),
        (_, None) => {}
    }
}

fn schedule(checker: &mut Checker<'_>, sync: &SyncConfig, at: &str) {
    let interval = sync.ongoing_sync.polling_interval_seconds;
    let polls = sync.systems().into_iter().any(|system| {
        let connection = checker.config.connections.get(system);
        let kind = connection.and_then(|connection| kinds::find(checker.kinds, &connection.kind));
        kind.is_some_and(|kind| kind.change_detection.contains(&ChangeDetection::Polling))
    });
    if sync.ongoing_sync.mode != OngoingMode::Polling && !polls && interval.is_some() {
        let pointer = format!("{at}/ongoing_sync/polling_interval_seconds");
        checker.idle(
            &pointer,
            "`polling_interval_seconds` is only used by the mode `polling`, and for systems that are polled: changes are told as \
             they happen",
        );
    }
    let pointer = format!("{at}/ongoing_sync/schedule");
    match (sync.ongoing_sync.mode, &sync.ongoing_sync.schedule) {
        (OngoingMode::Scheduled, None) => {
            let remedy = "Add \"schedule\": \"0 2 * * *\" (every night at two), for example.";
            let finding = Diagnostic::error(Code::ConfigMissing, "the mode `scheduled` needs `schedule`").instead(remedy);
            checker.say(&format!("{at}/ongoing_sync/mode"), finding);
        }
        (mode, Some(schedule)) => {
            if let Err(reason) = cron::check(schedule) {
                checker.error(Code::ConfigBadPattern, &pointer, format!("the schedule cannot be understood: {reason}"));
            }
            if mode != OngoingMode::Scheduled {
                checker.idle(&pointer, "`schedule` is only used by the mode `scheduled`");
            }
        }
        (_, None) => {}
    }
}

fn retries(checker: &mut Checker<'_>, sync: &SyncConfig, at: &str) {
    let retry = &sync.error_handling.retry_strategy;
    if retry.initial_delay_seconds > retry.max_delay_seconds {
        let pointer = format!("{at}/error_handling/retry_strategy/initial_delay_seconds");
        let message = format!(
            "`initial_delay_seconds` ({}) is greater than `max_delay_seconds` ({})",
            retry.initial_delay_seconds, retry.max_delay_seconds
        );
        checker.error(Code::ConfigOutOfRange, &pointer, message);
    }
}

/// A stage that would be ignored writes what was to be held back: what is not built is an error here, not a warning.
fn rollout(checker: &mut Checker<'_>, sync: &SyncConfig, at: &str) {
    let Some(rollout) = sync.rollout.as_ref().filter(|rollout| rollout.stage != RolloutStage::Full) else { return };
    let message = format!(
        "the stage `{}` of a rollout is not built yet: the sync does not run, for it would write everything",
        rollout.stage.name()
    );
    checker.error(Code::RolloutNotBuilt, &format!("{at}/rollout/stage"), message);
}

/// A filter that would be ignored lets records through that were left out: what is not built is an error here, not a warning.
fn filters(checker: &mut Checker<'_>, sync: &SyncConfig, at: &str) {
    let of_members = [("source/filter", &sync.source), ("target/filter", &sync.target)]
        .map(|(key, member)| (key, member.as_ref().and_then(|member| member.filter.as_ref())));
    let is_one_way = sync.pair().is_some() && sync.flows_to_target() && !sync.flows_to_source();
    for (key, filter) in of_members.into_iter().chain([("filter", sync.filter.as_ref())]) {
        let Some(filter) = filter else { continue };
        let why = match filter {
            Filter::Share(_) => Some("a share of the records (`percent`) cannot be chosen yet"),
            Filter::Condition(_) if key == "target/filter" => Some("a filter of the target is not built yet"),
            Filter::Condition(_) if !is_one_way => Some("a filter is not built yet but for one-way syncs from source to target"),
            Filter::Condition(_) if sync.target_edits != TargetEdits::Overwrite => {
                Some("a filter is not built yet but for `target_edits: overwrite`")
            }
            Filter::Condition(_) => None,
        };
        let pointer = format!("{at}/{key}");
        if let Some(why) = why {
            checker.error(
                Code::FilterNotBuilt,
                &pointer,
                format!("{why}: the sync does not run, for every record would take part"),
            );
        }
        if let Filter::Condition(condition) = filter
            && let Err(mistake) = filter::parse(condition)
        {
            checker.error(Code::ConfigBadExpression, &pointer, format!("the condition cannot be understood, at {mistake}"));
        }
    }
}

/// A channel needs somebody at its end.
fn messages(checker: &mut Checker<'_>, sync: &SyncConfig, at: &str) {
    let Some(notification) = &sync.error_handling.notification else { return };
    let to = sync.error_handling.notifications.clone().unwrap_or_default();
    let notifiers = &checker.config.process_settings.notifiers;
    let webhook_of_slack = notifiers.slack.as_ref().is_some_and(|slack| slack.webhook_url.is_some());
    let url_of_webhooks = notifiers.webhook.as_ref().is_some_and(|webhook| webhook.url.is_some());
    let mut missing: Vec<(usize, &str, &str)> = Vec::new();
    for (index, channel) in notification.channels.iter().enumerate() {
        match channel {
            Channel::Email if to.email.is_empty() => {
                missing.push((index, "email", "`error_handling.notifications.email`: addresses"))
            }
            Channel::Email if notifiers.smtp.is_none() => missing.push((index, "email", "`notifiers.smtp`: the mail server")),
            Channel::Slack if notifiers.slack.is_none() => {
                missing.push((index, "slack", "`notifiers.slack`: a token or webhook_url"))
            }
            Channel::Slack if to.slack.is_none() && !webhook_of_slack => {
                missing.push((index, "slack", "`error_handling.notifications.slack`: the channel"));
            }
            Channel::Webhook if to.webhook.is_none() && !url_of_webhooks => {
                missing.push((index, "webhook", "`error_handling.notifications.webhook`: the URL"));
            }
            Channel::PagerDuty if notifiers.pagerduty.is_none() => {
                missing.push((index, "pagerduty", "`notifiers.pagerduty`: the routing key"));
            }
            _ => {}
        }
    }
    for (index, channel, needed) in missing {
        let message = format!("the channel `{channel}` reaches nobody");
        let finding = Diagnostic::warning(Code::ConfigMissing, message).instead(format!("Add {needed}."));
        checker.say(&format!("{at}/error_handling/notification/channels/{index}"), finding);
    }
}
