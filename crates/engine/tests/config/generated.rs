//! Configurations that make sense, over everything that the language can say of a pair.

use concord_engine::config::Strategy as ConflictStrategy;
use concord_engine::config::model::process;
use concord_engine::config::*;
use concord_engine::record::{FieldName, SystemName};
use proptest::prelude::*;
use proptest::strategy::Strategy;
use serde_json::{Value, json};

fn words() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9_ äß\"\\\\/~.-]{0,10}"
}

fn secrets() -> impl Strategy<Value = Secret> {
    (words(), 0..3).prop_map(|(name, kind)| match kind {
        0 => Secret::Env(name),
        1 => Secret::File(name),
        _ => Secret::Stored(name),
    })
}

fn values() -> impl Strategy<Value = Value> {
    prop_oneof![any::<bool>().prop_map(Value::from), any::<i64>().prop_map(Value::from), words().prop_map(Value::from)]
}

fn connections() -> impl Strategy<Value = Connection> {
    let ssl = prop::option::of(prop::sample::select(vec![SslMode::Disable, SslMode::VerifyCa, SslMode::VerifyFull]));
    (words(), prop::option::of(secrets()), ssl, prop::option::of(1..u16::MAX), prop::option::of(values())).prop_map(
        |(database, password, sslmode, port, option)| Connection {
            kind: "server".into(),
            credentials: Credentials {
                database: Some(database.clone()),
                username: Some(database),
                password,
                sslmode,
                port,
                ..Credentials::default()
            },
            options: option.into_iter().map(|value| ("a_setting".to_owned(), json!({"deep": [value]}))).collect(),
            rate_limit: None,
        },
    )
}

fn transformations() -> impl Strategy<Value = Transformation> {
    prop_oneof![
        Just(Transformation::None {}),
        Just(Transformation::Trim {}),
        Just(Transformation::TitleCase {}),
        prop::option::of("[A-Z]{2}").prop_map(|region| Transformation::FormatPhone { region }),
        (words(), -3..3_i64).prop_map(|(separator, index)| Transformation::Split { separator, index: Some(index), rest: None }),
        (words(), values(), prop::option::of(values()))
            .prop_map(|(key, value, default)| Transformation::Map { values: [(key, value)].into_iter().collect(), default }),
        Just(Transformation::Cast { to: CastType::TimestampTz }),
        Just(Transformation::DateFormat { to: TimestampFormat::Pattern("%d.%m.%Y".into()), from: TimestampFormat::EpochMillis }),
        prop::option::of(Just("value|lower".to_owned()))
            .prop_map(|inverse| Transformation::Expression { expression: "value ~ '!'".into(), inverse }),
    ]
}

/// How many fields a mapping has on either side, and the step by which several become one or one becomes several; what else
/// is done to the value stands before the parting or behind the joining.
#[derive(Clone, Debug)]
enum Shape {
    One(Vec<Transformation>),
    Joined(Transformation),
    Parted(Transformation),
}

fn shapes() -> impl Strategy<Value = Shape> {
    let rest = || prop::option::of(prop::sample::select(vec![Rest::First, Rest::Last]));
    prop_oneof![
        3 => prop::collection::vec(transformations(), 0..3).prop_map(Shape::One),
        1 => (words(), rest()).prop_map(|(separator, rest)| Shape::Joined(Transformation::Join { separator, rest })),
        1 => (words(), rest()).prop_map(|(separator, rest)| Shape::Parted(Transformation::Split { separator, index: None, rest })),
    ]
}

impl Shape {
    /// The source's fields, the target's, and the steps between them.
    fn between(self, source: String, target: String) -> (Vec<FieldName>, Vec<FieldName>, Vec<Transformation>) {
        let several = |name: &str| vec![FieldName::from(name), FieldName::from(format!("{name} and more"))];
        match self {
            Shape::One(steps) => (vec![source.into()], vec![target.into()], steps),
            Shape::Joined(step) => (several(&source), vec![target.into()], vec![step, Transformation::Trim {}]),
            Shape::Parted(step) => (vec![source.into()], several(&target), vec![Transformation::Trim {}, step]),
        }
    }
}

fn mappings() -> impl Strategy<Value = Vec<FieldMapping>> {
    let directions = prop::sample::select(vec![Direction::Both, Direction::ToTarget, Direction::ToSource]);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let one = (words(), shapes(), directions, flags, prop::option::of(values()), prop::option::of(words()));
    prop::collection::vec(one, 0..4).prop_map(|list| {
        let numbered = list.into_iter().enumerate();
        numbered
            .map(|(index, (source, shape, direction, (required, write_back, owned), default, group))| {
                let (source, target, transformation) = shape.between(source, format!("target {index}"));
                FieldMapping {
                    source,
                    target,
                    transformation,
                    direction,
                    required,
                    default,
                    owner: owned.then(|| "crm".to_owned()),
                    group,
                    reference: None,
                    write_back,
                }
            })
            .collect()
    })
}

fn rules() -> impl Strategy<Value = ValidationRule> {
    let kinds =
        prop::sample::select(vec![Rule::Required, Rule::EmailFormat, Rule::Regex, Rule::Range, Rule::OneOf, Rule::Expression]);
    let repairs = prop::sample::select(vec![OnError::RejectRecord, OnError::UseDefault, OnError::Warn]);
    (kinds, repairs, any::<i32>(), prop::collection::vec(values(), 1..3)).prop_map(|(rule, on_error, bound, values)| {
        let is_range = rule == Rule::Range;
        ValidationRule {
            field: "target 0".into(),
            rule,
            pattern: (rule == Rule::Regex).then(|| "^[a-z]+$".to_owned()),
            min: is_range.then(|| Limit::Number(bound.into())),
            max: is_range.then(|| Limit::Text("99999999999999999999.5".into())),
            values: if rule == Rule::OneOf { values } else { Vec::new() },
            expression: (rule == Rule::Expression).then(|| "value > 0".to_owned()),
            region: None,
            on_error,
            default: (on_error == OnError::UseDefault).then(|| json!("d")),
        }
    })
}

fn policies() -> impl Strategy<Value = ConflictResolution> {
    let strategies =
        prop::sample::select(vec![ConflictStrategy::LastWriteWins, ConflictStrategy::SystemPriority, ConflictStrategy::Manual]);
    let deletes = prop::sample::select(vec![DeleteVsUpdate::UpdateWins, DeleteVsUpdate::DeleteWins, DeleteVsUpdate::Manual]);
    let winners = prop::sample::select(vec![Winner::LastUpdated, Winner::Manual, Winner::System("erp".into())]);
    (strategies, deletes, prop::option::of(winners), prop::option::of(words())).prop_map(|(strategy, deletes, winner, field)| {
        ConflictResolution {
            strategy,
            priority: if strategy == ConflictStrategy::SystemPriority { vec!["erp".into(), "crm".into()] } else { Vec::new() },
            timestamp_field: field.map(FieldName::from),
            field_rules: winner
                .into_iter()
                .map(|priority_system| FieldRule { field: "target 0".into(), priority_system })
                .collect(),
            delete_vs_update: Some(deletes),
        }
    })
}

fn monitoring() -> impl Strategy<Value = Monitoring> {
    let levels = prop::option::of(prop::sample::select(vec![LogLevel::Trace, LogLevel::Warn, LogLevel::Error]));
    (levels, prop::option::of(1..400_u32), any::<bool>(), prop::option::of(1..9_u32)).prop_map(
        |(level, retention_days, dashboard_enabled, failures)| Monitoring {
            metrics: vec![Metric::SyncLatency],
            alerting: failures.map(|count| Alerting { consecutive_failures_threshold: Some(count), ..Alerting::default() }),
            logging: SyncLogging { level, retention_days },
            dashboard_enabled,
        },
    )
}

fn syncs() -> impl Strategy<Value = SyncConfig> {
    let deletes = prop::sample::select(vec![OnDelete::Propagate, OnDelete::SoftDelete, OnDelete::Detach]);
    let authorities = prop::sample::select(vec![Authority::Review, Authority::Policy, Authority::System("crm".into())]);
    let ways = prop::sample::select(vec![(true, true), (true, false), (false, true)]);
    let numbers = (1..5000_u32, 1..256_u32, 1..100_000_u64, 0.0..100.0_f64);
    ((mappings(), rules(), policies(), monitoring()), deletes, authorities, ways, numbers, any::<bool>(), secrets()).prop_map(
        |(
            (field_mappings, rule, conflict_resolution, monitoring),
            on_delete,
            authority,
            (forth, back),
            numbers,
            flag,
            secret,
        )| {
            let (batch_size, parallelism, max_deletes, max_deletes_percent) = numbers;
            let names_fields = !field_mappings.is_empty();
            // Elsewhere a filter is refused.
            let is_filtered = flag && forth && !back;
            let condition = |text: &str| Filter::Condition(text.to_owned());
            let member = |system: &str| Member {
                system: SystemName::from(system),
                object: "accounts".into(),
                schema: flag.then(|| "public".to_owned()),
                database: None,
                role: flag.then(|| format!("{system} role")),
                direction: Direction::Both,
                filter: (is_filtered && system == "crm").then(|| condition("country IN ('DE', 'AT') AND NOT \"a b\"")),
                options: serde_json::Map::new(),
            };
            SyncConfig {
                name: "accounts".into(),
                source: Some(member("crm")),
                target: Some(member("erp")),
                sync_type: if forth && back { SyncType::Bidirectional } else { SyncType::OneWay },
                source_to_target: Some(forth),
                target_to_source: Some(back),
                sync_hub: None,
                connected_systems: Vec::new(),
                entities: Vec::new(),
                match_on: if names_fields {
                    vec![MatchField { field: "target 0".into(), normalizer: Normalizer::Phone, region: Some("DE".to_owned()) }]
                } else {
                    Vec::new()
                },
                target_edits: if is_filtered { TargetEdits::Overwrite } else { TargetEdits::Review },
                on_delete,
                soft_delete_field: (on_delete == OnDelete::SoftDelete).then(|| "gone".into()),
                filter: is_filtered.then(|| condition("name <> 'x'")),
                rollout: flag.then_some(Rollout {
                    stage: RolloutStage::Full,
                    gates: Some(Gates { verified: true, max_error_rate: Some(0.25), max_latency_ms: None }),
                }),
                field_mappings,
                mapping_options: MappingOptions {
                    handle_nulls: HandleNulls::Skip,
                    timestamp_format: TimestampFormat::EpochSeconds,
                },
                field_selection: Some(if names_fields { FieldSelection::Explicit } else { FieldSelection::All }),
                include_fields: Vec::new(),
                exclude_fields: if flag { vec!["secret notes".into()] } else { Vec::new() },
                validation_rules: if names_fields { vec![rule] } else { Vec::new() },
                conflict_resolution: if names_fields {
                    conflict_resolution
                } else {
                    ConflictResolution { field_rules: Vec::new(), ..conflict_resolution }
                },
                loop_prevention: LoopPrevention { enabled: flag, ..LoopPrevention::default() },
                initial_sync: InitialSync {
                    strategy: InitialStrategy::Since,
                    since: Some("2026-01-31".into()),
                    authority,
                    rebuild_indexes: flag,
                },
                ongoing_sync: OngoingSync {
                    mode: OngoingMode::Scheduled,
                    schedule: Some("0 2 * * mon".into()),
                    polling_interval_seconds: Some(5),
                },
                performance_settings: PerformanceSettings {
                    batch_size,
                    parallelism,
                    change_detection: ChangeDetection::LogBased,
                    index_recommendation: flag,
                },
                rate_limit: flag.then_some(RateLimit { requests: parallelism, per_seconds: 60, daily_quota_share: Some(0.5) }),
                guards: Guards { max_deletes, max_deletes_percent, window_seconds: 1 },
                error_handling: ErrorHandling {
                    retry_strategy: RetryStrategy { max_attempts: parallelism, ..RetryStrategy::default() },
                    notification: flag
                        .then(|| Notification { channels: vec![Channel::PagerDuty], threshold: Threshold::Critical }),
                    notifications: flag.then(|| Notifications {
                        email: vec!["ops@example.com".into()],
                        slack: None,
                        webhook: Some(TextOrSecret::Secret(secret)),
                    }),
                    fallback: Fallback { action: FallbackAction::StopSync },
                },
                monitoring,
                auto_approve: flag,
            }
        },
    )
}

/// Configurations in canonical form that check without errors.
pub fn configs() -> impl Strategy<Value = Config> {
    let store = words().prop_map(|path| StoreSettings { path });
    let webhook = prop::option::of(secrets());
    (syncs(), connections(), connections(), store, webhook).prop_map(|(sync, crm, erp, store, signing_secret)| Config {
        process_settings: ProcessSettings {
            store,
            metrics: MetricsSettings { address: Some("127.0.0.1:9464".into()) },
            control_socket: Some("concord.sock".into()),
            logging: Logging {
                level: LogLevel::Debug,
                format: LogFormat::Json,
                directory: Some("logs".into()),
                retention_days: 7,
            },
            notifiers: Notifiers {
                webhook: signing_secret.map(|secret| process::WebhookTransport { url: None, signing_secret: Some(secret) }),
                ..Notifiers::default()
            },
        },
        connections: [(SystemName::from("crm"), crm), (SystemName::from("erp"), erp)].into_iter().collect(),
        syncs: vec![sync],
    })
}
