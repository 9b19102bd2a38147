//! How syncs begin, go on, are measured and fail.

use super::{formats, limits, secrets};
use concord_engine::config::*;
use concord_engine::record::SystemName;
use proptest::prelude::*;
use proptest::strategy::Strategy;

fn beginnings() -> impl Strategy<Value = InitialSync> {
    let strategies = prop::sample::select(vec![
        (InitialStrategy::FullLoad, None),
        (InitialStrategy::MatchOnly, None),
        (InitialStrategy::FromNow, None),
        (InitialStrategy::Since, Some("2026-01-31")),
        (InitialStrategy::Since, Some("2026-01-31T12:00:00+02:00")),
    ]);
    let authorities = prop::sample::select(vec![Authority::Review, Authority::Policy, Authority::System("crm".into())]);
    (strategies, authorities, any::<bool>()).prop_map(|((strategy, since), authority, rebuild_indexes)| InitialSync {
        strategy,
        since: since.map(str::to_owned),
        authority,
        rebuild_indexes,
    })
}

fn modes() -> impl Strategy<Value = OngoingSync> {
    let modes = prop::sample::select(vec![OngoingMode::RealTime, OngoingMode::Polling, OngoingMode::Scheduled]);
    (modes, prop::option::of(1..u64::MAX)).prop_map(|(mode, polling_interval_seconds)| OngoingSync {
        mode,
        polling_interval_seconds,
        schedule: (mode == OngoingMode::Scheduled).then(|| "0 2 * * mon".to_owned()),
    })
}

fn monitoring() -> impl Strategy<Value = Monitoring> {
    let level = vec![LogLevel::Trace, LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error];
    let levels = prop::option::of(prop::sample::select(level));
    let metrics = prop::sample::subsequence(vec![Metric::SyncLatency, Metric::ErrorRate, Metric::Throughput], 0..=3);
    let alerts = (prop::option::of(1..9_u64), prop::option::of(0.0..1.0_f64), prop::option::of(1..9_u32));
    let alerts = prop::option::of(alerts.prop_map(|(latency, errors, failures)| Alerting {
        latency_threshold_ms: latency,
        error_rate_threshold: errors,
        consecutive_failures_threshold: failures,
    }));
    (levels, prop::option::of(1..400_u32), any::<bool>(), metrics, alerts).prop_map(
        |(level, retention_days, dashboard_enabled, metrics, alerting)| Monitoring {
            metrics,
            alerting,
            logging: SyncLogging { level, retention_days },
            dashboard_enabled,
        },
    )
}

fn failures() -> impl Strategy<Value = ErrorHandling> {
    let all = vec![Channel::Slack, Channel::Email, Channel::Webhook, Channel::PagerDuty];
    let thresholds = prop::sample::select(vec![Threshold::Info, Threshold::Warning, Threshold::Error, Threshold::Critical]);
    let told = (prop::sample::subsequence(all, 0..=4), thresholds)
        .prop_map(|(channels, threshold)| Notification { channels, threshold });
    let to = (any::<bool>(), any::<bool>(), prop::option::of(secrets())).prop_map(|(mail, slack, webhook)| Notifications {
        email: if mail { vec!["ops@example.com".into(), "boss@example.com".into()] } else { Vec::new() },
        slack: slack.then(|| "#ops".to_owned()),
        webhook: webhook.map(TextOrSecret::Secret),
    });
    let actions =
        prop::sample::select(vec![FallbackAction::QueueForManualReview, FallbackAction::Skip, FallbackAction::StopSync]);
    let retries = (1..1000_u32, 1.0..100.0_f64, 0.0..10.0_f64, 10.0..86400.0_f64);
    (prop::option::of(told), prop::option::of(to), actions, retries).prop_map(|(notification, notifications, action, retry)| {
        ErrorHandling {
            retry_strategy: RetryStrategy {
                max_attempts: retry.0,
                backoff_factor: retry.1,
                initial_delay_seconds: retry.2,
                max_delay_seconds: retry.3,
            },
            notification,
            notifications,
            fallback: Fallback { action },
        }
    })
}

fn performance() -> impl Strategy<Value = PerformanceSettings> {
    let ways = prop::sample::select(vec![
        ChangeDetection::Auto,
        ChangeDetection::LogBased,
        ChangeDetection::DatabaseTriggers,
        ChangeDetection::Polling,
    ]);
    (1..5000_u32, 1..256_u32, ways, any::<bool>()).prop_map(
        |(batch_size, parallelism, change_detection, index_recommendation)| PerformanceSettings {
            batch_size,
            parallelism,
            change_detection,
            index_recommendation,
        },
    )
}

fn options() -> impl Strategy<Value = MappingOptions> {
    let nulls = prop::sample::select(vec![HandleNulls::Preserve, HandleNulls::Skip, HandleNulls::Default, HandleNulls::Empty]);
    (nulls, formats()).prop_map(|(handle_nulls, timestamp_format)| MappingOptions { handle_nulls, timestamp_format })
}

/// A sync called `accounts` between nobody: with everything that says how it runs, and nothing that says what it is about.
pub fn runnings() -> impl Strategy<Value = SyncConfig> {
    let numbers = (1..100_000_u64, 0.0..100.0_f64, 1..5000_u64, 1..50_u32);
    let beginning = (beginnings(), modes(), performance(), options());
    (beginning, monitoring(), failures(), limits(), numbers, any::<bool>(), any::<bool>()).prop_map(
        |(beginning, monitoring, error_handling, rate_limit, numbers, flag, is_gated)| {
            let (initial_sync, ongoing_sync, performance_settings, mapping_options) = beginning;
            let (max_deletes, max_deletes_percent, seconds, count) = numbers;
            let gates = Gates { verified: flag, max_error_rate: Some(0.25), max_latency_ms: Some(seconds) };
            SyncConfig {
                name: "accounts".into(),
                source: None,
                target: None,
                sync_type: SyncType::Bidirectional,
                source_to_target: Some(true),
                target_to_source: Some(true),
                sync_hub: None::<SystemName>,
                connected_systems: Vec::new(),
                entities: Vec::new(),
                match_on: Vec::new(),
                target_edits: TargetEdits::Overwrite,
                on_delete: OnDelete::Propagate,
                soft_delete_field: None,
                filter: None,
                rollout: flag.then(|| Rollout { stage: RolloutStage::Full, gates: is_gated.then_some(gates) }),
                field_mappings: Vec::new(),
                mapping_options,
                field_selection: Some(FieldSelection::All),
                include_fields: Vec::new(),
                exclude_fields: Vec::new(),
                validation_rules: Vec::new(),
                conflict_resolution: ConflictResolution::default(),
                loop_prevention: LoopPrevention { enabled: flag, detection_window_seconds: seconds, max_update_count: count },
                initial_sync,
                ongoing_sync,
                performance_settings,
                rate_limit,
                guards: Guards { max_deletes, max_deletes_percent, window_seconds: seconds },
                error_handling,
                monitoring,
                auto_approve: flag,
            }
        },
    )
}
