//! A sync: one kind of record kept equal across its members, with every setting that decides how.

use super::conflict::{ConflictResolution, LoopPrevention};
use super::failures::ErrorHandling;
use super::mapping::{FieldMapping, FieldSelection, MappingOptions};
use super::member::{ConnectedSystem, Entity, Member};
use super::monitoring::Monitoring;
use super::running::{Guards, InitialSync, OngoingSync, PerformanceSettings, RateLimit, Rollout};
use super::validation::ValidationRule;
use crate::record::{FieldName, SyncName, SystemName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One kind of record kept equal across its members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SyncConfig {
    /// The sync's unique name.
    #[schemars(with = "String")]
    pub name: SyncName,
    /// The first member of a pair; its field names are the canonical ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Member>,
    /// The second member of a pair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Member>,
    /// One way or both.
    pub sync_type: SyncType,
    /// Whether edits flow from the source to the target; must agree with `sync_type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_to_target: Option<bool>,
    /// Whether edits flow from the target to the source; must agree with `sync_type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_to_source: Option<bool>,
    /// The hub of a star: every spoke speaks with it only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub sync_hub: Option<SystemName>,
    /// The spokes of the hub.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connected_systems: Vec<ConnectedSystem>,
    /// Which objects of which systems are the same kind of record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entities: Vec<Entity>,
    /// Fields (of either side) that tell that a record of each side is the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_on: Vec<MatchField>,
    /// One-way only: what happens to edits against the flow.
    #[serde(default)]
    pub target_edits: TargetEdits,
    /// What a deletion on one side does to the other.
    #[serde(default)]
    pub on_delete: OnDelete,
    /// The field that marks a record as deleted, for `soft_delete`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub soft_delete_field: Option<FieldName>,
    /// Which records take part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// How the sync is brought into service step by step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// Which fields correspond, and how values change on the way. Left out: fields of equal name, ignoring case and
    /// punctuation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub field_mappings: Vec<FieldMapping>,
    /// How nulls and timestamps in text are carried.
    #[serde(default)]
    pub mapping_options: MappingOptions,
    /// Whether only the named fields take part or all; left out, `explicit` where mappings or `include_fields` name
    /// some and `all` otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_selection: Option<FieldSelection>,
    /// Fields that take part besides the mapped ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include_fields: Vec<String>,
    /// Fields that take no part; they may still be read as cursors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_fields: Vec<String>,
    /// What a record must satisfy before it is written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validation_rules: Vec<ValidationRule>,
    /// Who wins where both sides changed the same field.
    #[serde(default)]
    pub conflict_resolution: ConflictResolution,
    /// The breaker for loops that run through our writes.
    #[serde(default)]
    pub loop_prevention: LoopPrevention,
    /// How a sync begins.
    #[serde(default)]
    pub initial_sync: InitialSync,
    /// How changes are noticed afterwards.
    #[serde(default)]
    pub ongoing_sync: OngoingSync,
    /// Batches, parallel work, capture.
    #[serde(default)]
    pub performance_settings: PerformanceSettings,
    /// How much of the systems' allowances may be used, for connections without a limit of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// When a mass of deletions pauses the object and asks.
    #[serde(default)]
    pub guards: Guards,
    /// What is done about failures, and who is told.
    #[serde(default)]
    pub error_handling: ErrorHandling,
    /// What is measured, alerted and logged.
    #[serde(default)]
    pub monitoring: Monitoring,
    /// Whether the first plan is carried out without being approved by a person.
    #[serde(default)]
    pub auto_approve: bool,
}

impl SyncConfig {
    /// Source and target, where the sync is a pair.
    pub fn pair(&self) -> Option<(&Member, &Member)> {
        self.source.as_ref().zip(self.target.as_ref())
    }

    /// Whether edits flow from the source to the target. A one-way sync flows that way unless it is told to flow in
    /// reverse.
    pub fn flows_to_target(&self) -> bool {
        self.source_to_target.unwrap_or(match self.sync_type {
            SyncType::Bidirectional => true,
            SyncType::OneWay => !self.target_to_source.unwrap_or(false),
        })
    }

    /// Whether edits flow from the target to the source.
    pub fn flows_to_source(&self) -> bool {
        self.target_to_source.unwrap_or(match self.sync_type {
            SyncType::Bidirectional => true,
            SyncType::OneWay => !self.source_to_target.unwrap_or(true),
        })
    }

    /// Every system that takes part, the source or hub first: the order in which ties are decided.
    pub fn systems(&self) -> Vec<&SystemName> {
        let pair = self.source.iter().chain(&self.target).map(|member| &member.system);
        pair.chain(&self.sync_hub).chain(self.connected_systems.iter().map(|spoke| &spoke.system)).collect()
    }
}

/// One way or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SyncType {
    /// Edits flow one way.
    OneWay,
    /// Edits flow both ways.
    Bidirectional,
}

/// What happens to edits against the flow of a one-way sync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TargetEdits {
    /// The source's value is put back.
    #[default]
    Overwrite,
    /// The edit stays until the source next changes that field.
    Keep,
    /// The edit goes to review.
    Review,
}

/// What a deletion on one side does to the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnDelete {
    /// The other record is deleted too.
    #[default]
    Propagate,
    /// The other record is marked as deleted in `soft_delete_field`.
    SoftDelete,
    /// The other record stays and is no longer kept equal.
    Detach,
    /// Nothing.
    Ignore,
}

/// Which records take part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Filter {
    /// A condition over the member's fields, in the manner of SQL's WHERE.
    Condition(String),
    /// A share of the records, chosen by their keys.
    Share(FilterShare),
}

/// A share of the records, chosen by their keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilterShare {
    /// How many of a hundred records take part.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub percent: f64,
}

/// A field that tells that a record of each side is the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MatchField {
    /// The field, by either side's name.
    #[schemars(with = "String")]
    pub field: FieldName,
    /// What is overlooked when values are compared.
    #[serde(default)]
    pub normalizer: Normalizer,
    /// The region (ISO 3166, two letters) of numbers without a country code, for `phone`; that of the field's own
    /// transformation or rule when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

/// What is overlooked when match values are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Normalizer {
    /// Nothing: values are equal or not.
    #[default]
    Exact,
    /// Upper and lower case, and blanks at the ends.
    Case,
    /// What two spellings of one e-mail address may differ in.
    Email,
    /// What two spellings of one phone number may differ in.
    Phone,
}
