//! How fields of the two sides correspond.

use super::member::Direction;
use super::transformation::Transformation;
use crate::record::FieldName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One correspondence of fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldMapping {
    /// The source's field; several for `join`.
    #[schemars(with = "Vec<String>", length(min = 1))]
    pub source: Vec<FieldName>,
    /// The target's field; several for `split`.
    #[schemars(with = "Vec<String>", length(min = 1))]
    pub target: Vec<FieldName>,
    /// What happens to a value on its way from source to target, step by step; the inverse applies on the way back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transformation: Vec<Transformation>,
    /// Which way this field flows: narrower than the sync's own directions.
    #[serde(default)]
    pub direction: Direction,
    /// Whether a record without a value here is refused.
    #[serde(default)]
    pub required: bool,
    /// The value that takes the place of a missing one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<serde_json::Value>,
    /// The authoritative system: only its edits of this field flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The group of fields that are decided together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The sync whose records this field refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Whether the transformed form is brought back to the side that the value came from.
    #[serde(default)]
    pub write_back: bool,
}

/// Whether only the named fields take part or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FieldSelection {
    /// The mapped fields and `include_fields`.
    Explicit,
    /// The mapped fields, and every other field that both sides have under one name.
    All,
}

/// How nulls and timestamps in text are carried.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MappingOptions {
    /// What a null does to the other side.
    pub handle_nulls: HandleNulls,
    /// The form of timestamps in text fields: `iso8601`, `epoch_seconds`, `epoch_millis` or a strftime pattern.
    pub timestamp_format: TimestampFormat,
}

/// What a null does to the other side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HandleNulls {
    /// It is carried as a null.
    #[default]
    Preserve,
    /// It never overwrites a value.
    Skip,
    /// The mapping's `default` takes its place.
    Default,
    /// An empty text takes its place.
    Empty,
}

/// The form of timestamps in text fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum TimestampFormat {
    /// `2026-01-31T12:00:00Z`.
    #[default]
    Iso8601,
    /// Seconds since 1970.
    EpochSeconds,
    /// Milliseconds since 1970.
    EpochMillis,
    /// A strftime pattern.
    Pattern(String),
}

impl From<String> for TimestampFormat {
    fn from(text: String) -> Self {
        match text.as_str() {
            "iso8601" => TimestampFormat::Iso8601,
            "epoch_seconds" => TimestampFormat::EpochSeconds,
            "epoch_millis" => TimestampFormat::EpochMillis,
            _ => TimestampFormat::Pattern(text),
        }
    }
}

impl From<TimestampFormat> for String {
    fn from(format: TimestampFormat) -> String {
        match format {
            TimestampFormat::Iso8601 => "iso8601".to_owned(),
            TimestampFormat::EpochSeconds => "epoch_seconds".to_owned(),
            TimestampFormat::EpochMillis => "epoch_millis".to_owned(),
            TimestampFormat::Pattern(pattern) => pattern,
        }
    }
}

impl JsonSchema for TimestampFormat {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TimestampFormat".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "`iso8601`, `epoch_seconds`, `epoch_millis` or a strftime pattern.",
            "type": "string",
            "minLength": 1
        })
    }
}
