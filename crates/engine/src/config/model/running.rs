//! How a sync begins, goes on and is brought into service.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a sync begins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InitialSync {
    /// What is done with the records that are already there.
    pub strategy: InitialStrategy,
    /// The time from which on records count, for `since` (ISO 8601).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Who wins where matched records differ: a system, `policy` (the conflict rules) or `review`.
    pub authority: Authority,
    /// Whether the first load of an empty table does without its secondary indexes and builds them behind it.
    pub rebuild_indexes: bool,
}

/// What is done with the records that are already there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InitialStrategy {
    /// Matched records are linked, records of one side only are created on the other.
    #[default]
    FullLoad,
    /// Matched records are linked, nothing is created.
    MatchOnly,
    /// Nothing is read: only changes from now on count.
    FromNow,
    /// As `full_load`, for records changed since a time.
    Since,
}

/// Who wins where matched records differ and nothing is known of their past.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Authority {
    /// A person.
    #[default]
    Review,
    /// The conflict rules.
    Policy,
    /// A system.
    System(String),
}

impl From<String> for Authority {
    fn from(text: String) -> Self {
        match text.as_str() {
            "review" => Authority::Review,
            "policy" => Authority::Policy,
            _ => Authority::System(text),
        }
    }
}

impl From<Authority> for String {
    fn from(authority: Authority) -> String {
        match authority {
            Authority::Review => "review".to_owned(),
            Authority::Policy => "policy".to_owned(),
            Authority::System(name) => name,
        }
    }
}

impl JsonSchema for Authority {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Authority".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A system, a role, `policy` or `review`.",
            "type": "string",
            "minLength": 1
        })
    }
}

/// How changes are noticed after the beginning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OngoingSync {
    /// When changes are carried.
    pub mode: OngoingMode,
    /// How often changes are carried, in the mode `polling` (60 where nothing is said); how often a system is asked for changes
    /// that it cannot tell of, and whether it has told of all.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub polling_interval_seconds: Option<u64>,
    /// When a scheduled sync runs (cron: minute, hour, day of month, month, day of week; UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
}

impl Default for OngoingSync {
    fn default() -> Self {
        OngoingSync { mode: OngoingMode::RealTime, polling_interval_seconds: None, schedule: None }
    }
}

impl OngoingSync {
    /// How often changes are carried in the mode `polling` where nothing is said, in seconds.
    pub const POLLING_INTERVAL_SECONDS: u64 = 60;
}

/// When changes are carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OngoingMode {
    /// As they happen.
    #[default]
    RealTime,
    /// Every `polling_interval_seconds`.
    Polling,
    /// When `schedule` says.
    Scheduled,
}

/// Batches, parallel work, capture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PerformanceSettings {
    /// The most records in one write.
    #[schemars(range(min = 1, max = 100_000))]
    pub batch_size: u32,
    /// The most writes under way at a time, per system.
    #[schemars(range(min = 1, max = 256))]
    pub parallelism: u32,
    /// How changes are captured.
    pub change_detection: ChangeDetection,
    /// Whether the plan names missing indexes, with the statements that create them.
    pub index_recommendation: bool,
}

impl Default for PerformanceSettings {
    fn default() -> Self {
        PerformanceSettings {
            batch_size: 500,
            parallelism: 4,
            change_detection: ChangeDetection::Auto,
            index_recommendation: true,
        }
    }
}

/// How changes are captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeDetection {
    /// The best way that the system offers.
    #[default]
    Auto,
    /// From the system's own log or event stream.
    LogBased,
    /// By triggers that note changed keys.
    DatabaseTriggers,
    /// By asking for what changed since the last time.
    Polling,
}

impl ChangeDetection {
    /// The name under which it is written.
    pub fn name(self) -> &'static str {
        match self {
            ChangeDetection::Auto => "auto",
            ChangeDetection::LogBased => "log_based",
            ChangeDetection::DatabaseTriggers => "database_triggers",
            ChangeDetection::Polling => "polling",
        }
    }
}

/// How much of a system's allowance may be used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// The most requests in `per_seconds`.
    #[schemars(range(min = 1))]
    pub requests: u32,
    /// The span in which they are counted.
    #[serde(default = "one_second")]
    #[schemars(range(min = 1))]
    pub per_seconds: u32,
    /// The share (0 to 1) of the system's daily quota that may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub daily_quota_share: Option<f64>,
}

fn one_second() -> u32 {
    1
}

/// When a mass of deletions pauses the object and asks. Whichever limit is passed first counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Guards {
    /// The most deletions in the window.
    pub max_deletes: u64,
    /// The greatest share of the object's records, in percent, deleted in the window.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub max_deletes_percent: f64,
    /// The window.
    #[schemars(range(min = 1))]
    pub window_seconds: u64,
}

impl Default for Guards {
    fn default() -> Self {
        Guards { max_deletes: 1000, max_deletes_percent: 20.0, window_seconds: 60 }
    }
}

/// How a sync is brought into service step by step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    /// Where it stands.
    pub stage: RolloutStage,
    /// What must hold before the next stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gates: Option<Gates>,
}

/// A step of bringing a sync into service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RolloutStage {
    /// Read, map and decide, but write nothing.
    Shadow,
    /// Write to the target only.
    OneWay,
    /// Both ways, for the records that `filter` lets in.
    Subset,
    /// Everything.
    Full,
}

impl RolloutStage {
    /// The name under which it is written.
    pub fn name(self) -> &'static str {
        match self {
            RolloutStage::Shadow => "shadow",
            RolloutStage::OneWay => "one_way",
            RolloutStage::Subset => "subset",
            RolloutStage::Full => "full",
        }
    }
}

/// What must hold before the next stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gates {
    /// Whether both sides must have been compared and found equal.
    pub verified: bool,
    /// The greatest share (0 to 1) of changes that fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_error_rate: Option<f64>,
    /// The greatest latency, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_latency_ms: Option<u64>,
}
