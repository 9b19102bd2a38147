//! From transformations, null handling and rules as they were written to the catalogue's own terms, compiled. Decides
//! nothing about directions: a way back that is not there is said so.

use super::notes::Notes;
use crate::config::{
    CastType, FieldMapping, HandleNulls, Limit, OnError, Rest, SyncConfig, TimestampFormat, Transformation, ValidationRule,
};
use crate::error::Code;
use crate::schema::Type;
use crate::transform::{Context, Inverse, NullPolicy, Pipeline, TransformSpec};
use crate::validate::{self, RuleSpec};
use crate::value::{Value, fit};
use serde_json::{Value as Json, json};

/// One way of a value.
#[derive(Debug)]
pub(super) enum Way {
    /// Nothing happens to it.
    AsItIs,
    /// Through these steps.
    Through(Pipeline),
    /// There is none.
    None,
}

/// The way of a value from the source to the target, and back.
#[derive(Debug)]
pub(super) struct Steps {
    pub forth: Way,
    pub back: Way,
    /// Whether canonical terms are the target's, so that the source converts.
    pub at_source: bool,
    /// Whether a loss at the target is declared.
    pub lossy: bool,
    /// Why there is no way back.
    pub one_way: Option<String>,
}

/// One field to one field.
pub(super) fn single(written: &[Transformation], from: &Type, to: &Type, format: &TimestampFormat) -> Result<Steps, String> {
    let mut specs: Vec<TransformSpec> = written.iter().map(spec).collect::<Result<_, _>>()?;
    if written.is_empty() {
        specs.extend(timestamp_step(from, to, format));
    }
    let context = Context { source: Some(from.clone()), target: Some(to.clone()), region: None };
    let pipeline = Pipeline::compile(&specs, &context).map_err(|error| error.message)?;
    let lossy = pipeline.allows_lossy_fit();
    let (back, one_way) = match pipeline.inverse() {
        Inverse::Exact(back) if !back.is_identity() => (Way::Through(back), None),
        Inverse::Exact(_) | Inverse::Normaliser => (Way::AsItIs, None),
        Inverse::None(reason) => (Way::None, Some(reason)),
    };
    let forth = if pipeline.is_identity() { Way::AsItIs } else { Way::Through(pipeline) };
    Ok(Steps { forth, back, at_source: false, lossy, one_way })
}

/// Several source fields to one target field. Each of them shows the whole at the target, and takes its own part of it on
/// the way back. `fields` are their canonical names.
pub(super) fn joined(written: &[Transformation], fields: &[String], part: usize) -> Result<Steps, String> {
    let specs = written
        .iter()
        .map(|step| match step {
            Transformation::Join { separator, .. } => Ok(joining(separator, fields)),
            other => spec(other),
        })
        .collect::<Result<Vec<_>, String>>()?;
    let forth = several(&specs)?;
    let (separator, rest, behind) = match written {
        [Transformation::Join { separator, rest }, behind @ ..] if !separator.is_empty() => (separator, rest, behind),
        [Transformation::Join { .. }, ..] => {
            return Ok(without_way_back(forth, false, "`join` without a separator cannot be split"));
        }
        _ => return Ok(without_way_back(forth, false, "only what begins with `join` can be told apart again")),
    };
    let behind = several(&behind.iter().map(spec).collect::<Result<Vec<_>, _>>()?)?;
    let Some(undone) = undone(&behind) else { return Ok(without_way_back(forth, false, "a step behind `join` has no way back")) };
    let back = undone.then(several(&[part_of(separator, part, fields.len(), *rest)])?);
    Ok(Steps {
        lossy: forth.allows_lossy_fit(),
        forth: Way::Through(forth),
        back: Way::Through(back),
        at_source: false,
        one_way: None,
    })
}

/// One source field to several target fields: each takes its part, and the parts make the whole on the way back. `fields`
/// are the canonical names of the parts.
pub(super) fn split(written: &[Transformation], fields: &[String], part: usize) -> Result<Steps, String> {
    let specs = written
        .iter()
        .map(|step| match step {
            Transformation::Split { separator, index: None, rest } => {
                Ok(part_of(separator, part, fields.len(), Some(rest.unwrap_or(Rest::Last))))
            }
            other => spec(other),
        })
        .collect::<Result<Vec<_>, String>>()?;
    let forth = several(&specs)?;
    let Some((Transformation::Split { separator, index: None, .. }, before)) = written.split_last() else {
        return Ok(without_way_back(forth, true, "only what ends with `split` can be put together again"));
    };
    let before = several(&before.iter().map(spec).collect::<Result<Vec<_>, _>>()?)?;
    let Some(undone) = undone(&before) else { return Ok(without_way_back(forth, true, "a step before `split` has no way back")) };
    let back = several(&[joining(separator, fields)])?.then(undone);
    Ok(Steps {
        lossy: forth.allows_lossy_fit(),
        forth: Way::Through(forth),
        back: Way::Through(back),
        at_source: true,
        one_way: None,
    })
}

fn joining(separator: &str, fields: &[String]) -> TransformSpec {
    TransformSpec::with("join", json!({ "separator": separator, "fields": fields }))
}

fn part_of(separator: &str, part: usize, of: usize, rest: Option<Rest>) -> TransformSpec {
    let rest = rest.map(|rest| match rest {
        Rest::First => "first",
        Rest::Last => "last",
    });
    TransformSpec::with("split", json!({ "separator": separator, "index": part, "of": of, "rest": rest }))
}

fn several(specs: &[TransformSpec]) -> Result<Pipeline, String> {
    Pipeline::compile(specs, &Context::default()).map_err(|error| error.message)
}

/// What undoes a pipeline; nothing, for one whose results are taken as they are.
fn undone(pipeline: &Pipeline) -> Option<Pipeline> {
    match pipeline.inverse() {
        Inverse::Exact(back) => Some(back),
        Inverse::Normaliser => Some(Pipeline::default()),
        Inverse::None(_) => None,
    }
}

fn without_way_back(forth: Pipeline, at_source: bool, why: &str) -> Steps {
    Steps {
        lossy: forth.allows_lossy_fit(),
        forth: Way::Through(forth),
        back: Way::None,
        at_source,
        one_way: Some(why.to_owned()),
    }
}

/// A transformation in the catalogue's terms.
fn spec(step: &Transformation) -> Result<TransformSpec, String> {
    let arguments = match step {
        Transformation::None {}
        | Transformation::Trim {}
        | Transformation::Lowercase {}
        | Transformation::Uppercase {}
        | Transformation::TitleCase {} => Json::Null,
        Transformation::FormatPhone { region } => named([("region", region.clone().map(Json::from))]),
        Transformation::Split { separator, index, .. } => {
            named([("separator", Some(separator.clone().into())), ("index", index.map(Json::from))])
        }
        Transformation::Join { separator, .. } => named([("separator", Some(separator.clone().into()))]),
        Transformation::Map { values, default } => {
            named([("table", Some(Json::Object(values.clone()))), ("otherwise", default.clone())])
        }
        Transformation::Cast { to } => named([("type", Some(type_name(*to).into()))]),
        Transformation::DateFormat { to, from } => match (pattern(to), pattern(from)) {
            // Dates stand in texts as in ISO 8601 anyway.
            (None, None) => return Ok(TransformSpec::new("none")),
            (to, from) => named([("to", to.map(Json::from)), ("from", from.map(Json::from))]),
        },
        Transformation::Expression { expression, inverse } => {
            named([("expression", Some(expression.clone().into())), ("inverse", inverse.clone().map(Json::from))])
        }
    };
    Ok(TransformSpec::with(step.name(), arguments))
}

fn named<const N: usize>(arguments: [(&str, Option<Json>); N]) -> Json {
    let given = arguments.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?)));
    Json::Object(given.collect())
}

fn type_name(ty: CastType) -> &'static str {
    match ty {
        CastType::Text => "text",
        CastType::Integer => "bigint",
        CastType::Decimal => "decimal",
        CastType::Float => "float",
        CastType::Boolean => "boolean",
        CastType::Date => "date",
        CastType::Time => "time",
        CastType::Timestamp => "timestamp",
        CastType::TimestampTz => "timestamptz",
        CastType::Uuid => "uuid",
        CastType::Json => "json",
    }
}

/// The pattern of a timestamp format; `None` for ISO 8601, which every text form of a timestamp is in anyway.
fn pattern(format: &TimestampFormat) -> Option<String> {
    match format {
        TimestampFormat::Iso8601 => None,
        TimestampFormat::EpochSeconds => Some("epoch_seconds".into()),
        TimestampFormat::EpochMillis => Some("epoch_millis".into()),
        TimestampFormat::Pattern(pattern) => Some(pattern.clone()),
    }
}

/// Where one side holds timestamps and the other text, the text is in the format that `timestamp_format` names.
fn timestamp_step(from: &Type, to: &Type, format: &TimestampFormat) -> Option<TransformSpec> {
    let is_time = |ty: &Type| matches!(ty, Type::Date | Type::Timestamp { .. } | Type::TimestampTz { .. });
    let is_text = |ty: &Type| matches!(ty, Type::Text { .. });
    let argument = match (is_time(from) && is_text(to), is_text(from) && is_time(to)) {
        (true, _) => "to",
        (_, true) => "from",
        _ => return None,
    };
    let pattern = pattern(format)?;
    Some(TransformSpec::with("date_format", named([(argument, Some(pattern.into()))])))
}

/// What a null of one side means to the other.
pub(super) fn nulls(
    sync: &SyncConfig,
    mapping: Option<&FieldMapping>,
    ty: &Type,
    path: &str,
    notes: &mut Notes<'_>,
) -> NullPolicy {
    let default = mapping.and_then(|mapping| mapping.default.as_ref());
    match (sync.mapping_options.handle_nulls, default) {
        // A default that is written for a field is meant, whatever is said of all fields.
        (_, Some(json)) => match value_of(json, ty) {
            Some(value) => NullPolicy::Default(value),
            None => {
                let message = "the `default` is not a value of the field's type";
                notes.error(path, Code::PlanRuleUnusable, message, Code::PlanRuleUnusable.remedy());
                NullPolicy::Preserve
            }
        },
        (HandleNulls::Preserve | HandleNulls::Default, None) => NullPolicy::Preserve,
        (HandleNulls::Skip, None) => NullPolicy::Skip,
        (HandleNulls::Empty, None) => match ty {
            Type::Text { .. } => NullPolicy::Default(Value::text("")),
            Type::Array(_) => NullPolicy::Default(Value::Array(Vec::new())),
            Type::Bytes { .. } => NullPolicy::Default(Value::Bytes(Vec::new())),
            _ => NullPolicy::Preserve,
        },
    }
}

/// A value as it was written in the configuration, as one of the type; `None` where it is none.
fn value_of(json: &Json, ty: &Type) -> Option<Value> {
    let text = match json {
        Json::Null => return Some(Value::Null),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    let value = Value::parse_as(&text, ty).or_else(|| Value::from_json(json).ok())?;
    fit(&value, ty).without_loss(&value)
}

/// A rule in the validation stage's terms, compiled for the canonical field of this name. `default` is that of the field's
/// mapping, for a rule that has none of its own.
pub(super) fn rule(written: &ValidationRule, field: &str, default: Option<&Json>) -> Result<validate::Rule, String> {
    let limit = |limit: &Option<Limit>| {
        limit.as_ref().map(|limit| match limit {
            Limit::Number(number) => Json::Number(number.clone()),
            Limit::Text(text) => Json::String(text.clone()),
        })
    };
    let values = (!written.values.is_empty()).then(|| Json::Array(written.values.clone()));
    let arguments = named([
        ("pattern", written.pattern.clone().map(Json::from)),
        ("min", limit(&written.min)),
        ("max", limit(&written.max)),
        ("values", values),
        ("expression", written.expression.clone().map(Json::from)),
        ("region", written.region.clone().map(Json::from)),
        ("default", written.default.clone().or_else(|| default.filter(|_| written.on_error == OnError::UseDefault).cloned())),
    ]);
    let on_error = match written.on_error {
        OnError::RejectRecord => validate::OnError::RejectRecord,
        OnError::StandardizeFormat => validate::OnError::StandardizeFormat,
        OnError::SetNull => validate::OnError::SetNull,
        OnError::UseDefault => validate::OnError::UseDefault,
        OnError::Warn => validate::OnError::Warn,
    };
    compiled(RuleSpec { field: field.to_string(), rule: written.rule.name().to_string(), on_error, arguments })
}

/// The rule that a field has a value.
pub(super) fn required(field: &str) -> Result<validate::Rule, String> {
    let on_error = validate::OnError::RejectRecord;
    compiled(RuleSpec { field: field.to_string(), rule: "required".into(), on_error, arguments: Json::Null })
}

fn compiled(spec: RuleSpec) -> Result<validate::Rule, String> {
    validate::Rule::compile(&spec, None).map_err(|error| error.message)
}
