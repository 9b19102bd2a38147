//! Configurations that make sense, over everything that the language can say and that is no error in this version: a share of
//! the records, and a rollout that is not in full, are.

mod hubs;
mod running;
mod systems;

use concord_engine::config::Strategy as ConflictStrategy;
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

fn texts() -> impl Strategy<Value = TextOrSecret> {
    prop_oneof![words().prop_map(TextOrSecret::Text), secrets().prop_map(TextOrSecret::Secret)]
}

fn limits() -> impl Strategy<Value = Option<RateLimit>> {
    let limit = (1..u32::MAX, 1..u32::MAX, prop::option::of(0.0..1.0_f64));
    let limit =
        limit.prop_map(|(requests, per_seconds, daily_quota_share)| RateLimit { requests, per_seconds, daily_quota_share });
    prop::option::of(limit)
}

fn transformations() -> impl Strategy<Value = Transformation> {
    prop_oneof![
        Just(Transformation::None {}),
        Just(Transformation::Trim {}),
        Just(Transformation::Lowercase {}),
        Just(Transformation::Uppercase {}),
        Just(Transformation::TitleCase {}),
        prop::option::of("[A-Z]{2}").prop_map(|region| Transformation::FormatPhone { region }),
        (words(), -3..3_i64).prop_map(|(separator, index)| Transformation::Split { separator, index: Some(index), rest: None }),
        (words(), values(), prop::option::of(values()))
            .prop_map(|(key, value, default)| Transformation::Map { values: [(key, value)].into_iter().collect(), default }),
        casts().prop_map(|to| Transformation::Cast { to }),
        (formats(), formats()).prop_map(|(to, from)| Transformation::DateFormat { to, from }),
        prop::option::of(Just("value|lower".to_owned()))
            .prop_map(|inverse| Transformation::Expression { expression: "value ~ '!'".into(), inverse }),
    ]
}

fn casts() -> impl Strategy<Value = CastType> {
    prop::sample::select(vec![
        CastType::Text,
        CastType::Integer,
        CastType::Decimal,
        CastType::Float,
        CastType::Boolean,
        CastType::Date,
        CastType::Time,
        CastType::Timestamp,
        CastType::TimestampTz,
        CastType::Uuid,
        CastType::Json,
    ])
}

fn formats() -> impl Strategy<Value = TimestampFormat> {
    prop::sample::select(vec![
        TimestampFormat::Iso8601,
        TimestampFormat::EpochSeconds,
        TimestampFormat::EpochMillis,
        TimestampFormat::Pattern("%d.%m.%Y".into()),
    ])
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
    let kinds = prop::sample::select(vec![
        Rule::Required,
        Rule::EmailFormat,
        Rule::Regex,
        Rule::Phone,
        Rule::Length,
        Rule::Range,
        Rule::OneOf,
        Rule::Unique,
        Rule::Expression,
    ]);
    let repairs = prop::sample::select(vec![
        OnError::RejectRecord,
        OnError::StandardizeFormat,
        OnError::SetNull,
        OnError::UseDefault,
        OnError::Warn,
    ]);
    (kinds, repairs, any::<i32>(), prop::collection::vec(values(), 1..3)).prop_map(|(rule, repair, bound, values)| {
        let (min, max) = match rule {
            Rule::Range => (Some(Limit::Number(bound.into())), Some(Limit::Text("99999999999999999999.5".into()))),
            Rule::Length => (Some(Limit::Number(1.into())), None),
            _ => (None, None),
        };
        // What has to be there is not taken away.
        let on_error = if rule == Rule::Required && repair == OnError::SetNull { OnError::Warn } else { repair };
        ValidationRule {
            field: "target 0".into(),
            rule,
            pattern: (rule == Rule::Regex).then(|| "^[a-z]+$".to_owned()),
            min,
            max,
            values: if rule == Rule::OneOf { values } else { Vec::new() },
            expression: (rule == Rule::Expression).then(|| "value > 0".to_owned()),
            region: (rule == Rule::Phone).then(|| "AT".to_owned()),
            on_error,
            default: (on_error == OnError::UseDefault).then(|| json!("d")),
        }
    })
}

fn matches() -> impl Strategy<Value = MatchField> {
    let ways = vec![Normalizer::Exact, Normalizer::Case, Normalizer::Email, Normalizer::Phone];
    (prop::sample::select(ways), any::<bool>()).prop_map(|(normalizer, flag)| MatchField {
        field: "target 0".into(),
        normalizer,
        region: (flag && normalizer == Normalizer::Phone).then(|| "DE".to_owned()),
    })
}

fn policies() -> impl Strategy<Value = ConflictResolution> {
    let strategies = prop::sample::select(vec![
        ConflictStrategy::LastWriteWins,
        ConflictStrategy::SystemPriority,
        ConflictStrategy::FieldLevelPriority,
        ConflictStrategy::Manual,
    ]);
    let deletes = prop::sample::select(vec![DeleteVsUpdate::UpdateWins, DeleteVsUpdate::DeleteWins, DeleteVsUpdate::Manual]);
    let winners = prop::sample::select(vec![Winner::LastUpdated, Winner::Manual, Winner::System("erp".into())]);
    let rule = (prop::option::of(winners), prop::option::of(words()));
    (strategies, deletes, rule).prop_map(|(strategy, deletes, (winner, field))| {
        let is_by_field = strategy == ConflictStrategy::FieldLevelPriority;
        let winner = winner.or(is_by_field.then_some(Winner::Manual));
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

/// A pair, as far as its members and fields go; how it runs is told in `running`.
fn pairs() -> impl Strategy<Value = SyncConfig> {
    let deletes = prop::sample::select(vec![OnDelete::Propagate, OnDelete::SoftDelete, OnDelete::Detach, OnDelete::Ignore]);
    let edits = prop::sample::select(vec![TargetEdits::Overwrite, TargetEdits::Keep, TargetEdits::Review]);
    let ways = prop::sample::select(vec![(true, true), (true, false), (false, true)]);
    let fields = (mappings(), rules(), policies(), matches());
    (fields, deletes, edits, ways, running::runnings(), any::<bool>()).prop_map(
        |(
            (field_mappings, rule, mut conflict_resolution, match_field),
            on_delete,
            target_edits,
            (forth, back),
            running,
            flag,
        )| {
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
            if !names_fields && conflict_resolution.strategy != ConflictStrategy::FieldLevelPriority {
                conflict_resolution.field_rules.clear();
            }
            SyncConfig {
                source: Some(member("crm")),
                target: Some(member("erp")),
                sync_type: if forth && back { SyncType::Bidirectional } else { SyncType::OneWay },
                source_to_target: Some(forth),
                target_to_source: Some(back),
                match_on: names_fields.then_some(match_field).into_iter().collect(),
                target_edits: if is_filtered { TargetEdits::Overwrite } else { target_edits },
                on_delete,
                soft_delete_field: (on_delete == OnDelete::SoftDelete).then(|| "gone".into()),
                filter: is_filtered.then(|| condition("name <> 'x'")),
                field_mappings,
                field_selection: Some(if names_fields { FieldSelection::Explicit } else { FieldSelection::All }),
                exclude_fields: if flag { vec!["secret notes".into()] } else { Vec::new() },
                validation_rules: names_fields.then_some(rule).into_iter().collect(),
                conflict_resolution,
                ..running
            }
        },
    )
}

/// Another pair, of which a field names records of the first, or of its own.
fn referring() -> impl Strategy<Value = SyncConfig> {
    let whom = prop::sample::select(vec!["accounts", "contacts"]);
    (pairs(), whom, any::<bool>(), any::<bool>()).prop_map(|(mut pair, reference, required, flag)| {
        for member in pair.source.iter_mut().chain(&mut pair.target) {
            member.object = "contacts".into();
        }
        pair.field_mappings.push(FieldMapping {
            source: vec!["account id".into()],
            target: vec!["account".into()],
            transformation: if flag { vec![Transformation::None {}] } else { Vec::new() },
            direction: Direction::Both,
            required,
            default: None,
            owner: flag.then(|| "erp".to_owned()),
            group: flag.then(|| "belongs to".to_owned()),
            reference: Some(reference.into()),
            write_back: false,
        });
        let include_fields = if flag { vec!["more".to_owned()] } else { Vec::new() };
        SyncConfig { name: "contacts".into(), include_fields, ..pair }
    })
}

/// Configurations in canonical form that check without errors.
pub fn configs() -> impl Strategy<Value = Config> {
    let syncs = (pairs(), prop::option::of(referring()), prop::option::of(hubs::hubs()));
    (syncs, systems::processes(), systems::built(), systems::built(), systems::later()).prop_map(
        |((pair, referring, hub), process_settings, crm, erp, later)| {
            let systems = [("crm", crm), ("erp", erp), (hubs::HUB, later)];
            let connections = systems.map(|(name, connection)| (SystemName::from(name), connection));
            let syncs = std::iter::once(pair).chain(referring).chain(hub).collect();
            Config { process_settings, connections: connections.into_iter().collect(), syncs }
        },
    )
}
