//! Who wins where both sides changed the same field, and when a loop is broken.

use crate::record::FieldName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who wins where both sides changed the same field.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConflictResolution {
    /// How conflicts are decided where no field rule says otherwise.
    pub strategy: Strategy,
    /// Systems or roles, the first wins before the second, for `system_priority`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub priority: Vec<String>,
    /// The field (of either side) that holds the time of an edit, where the feed has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub timestamp_field: Option<FieldName>,
    /// Who wins for single fields or groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub field_rules: Vec<FieldRule>,
    /// Who wins where one side deleted what the other edited; left out, `manual`, and `delete_wins` for a one-way
    /// sync that overwrites edits against its flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delete_vs_update: Option<DeleteVsUpdate>,
}

/// How conflicts are decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The latest edit of the field.
    #[default]
    LastWriteWins,
    /// The system that stands first in `priority`, if it changed the field; the latest edit otherwise.
    SystemPriority,
    /// As `field_rules` say; the latest edit for other fields.
    FieldLevelPriority,
    /// A person.
    Manual,
}

/// Who wins for one field or group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldRule {
    /// The field, by either side's name, or a group of fields.
    pub field: String,
    /// A system, a role, `last_updated` or `manual`.
    pub priority_system: Winner,
}

/// Who wins for one field or group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Winner {
    /// The latest edit.
    LastUpdated,
    /// A person.
    Manual,
    /// A system; the latest edit where it did not change the field.
    System(String),
}

impl From<String> for Winner {
    fn from(text: String) -> Self {
        match text.as_str() {
            "last_updated" => Winner::LastUpdated,
            "manual" => Winner::Manual,
            _ => Winner::System(text),
        }
    }
}

impl From<Winner> for String {
    fn from(winner: Winner) -> String {
        match winner {
            Winner::LastUpdated => "last_updated".to_owned(),
            Winner::Manual => "manual".to_owned(),
            Winner::System(name) => name,
        }
    }
}

impl JsonSchema for Winner {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Winner".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A system, a role, `last_updated` or `manual`.",
            "type": "string",
            "minLength": 1
        })
    }
}

/// Who wins where one side deleted what the other edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeleteVsUpdate {
    /// The edit: the record is created anew where it was deleted.
    UpdateWins,
    /// The deletion.
    DeleteWins,
    /// A person.
    Manual,
}

/// The breaker for loops that run through our writes. It parks a record in review and never drops a change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoopPrevention {
    /// Whether loops are looked for.
    pub enabled: bool,
    /// How far back returns to an earlier value are counted.
    #[schemars(range(min = 1))]
    pub detection_window_seconds: u64,
    /// How many returns of a field to an earlier value, or causal hops, are let through.
    #[schemars(range(min = 1))]
    pub max_update_count: u32,
}

impl Default for LoopPrevention {
    fn default() -> Self {
        LoopPrevention { enabled: true, detection_window_seconds: 60, max_update_count: 5 }
    }
}
