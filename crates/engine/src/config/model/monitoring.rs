//! What is measured, alerted and logged for a sync.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is measured, alerted and logged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Monitoring {
    /// Which measures a monitor is told.
    pub metrics: Vec<Metric>,
    /// When people are told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alerting: Option<Alerting>,
    /// How much is logged and for how long it is kept; left out, as the process logs.
    pub logging: SyncLogging,
    /// Whether the sync is shown on the dashboard.
    pub dashboard_enabled: bool,
}

impl Default for Monitoring {
    fn default() -> Self {
        Monitoring {
            metrics: vec![Metric::SyncLatency, Metric::ErrorRate, Metric::Throughput],
            alerting: None,
            logging: SyncLogging::default(),
            dashboard_enabled: false,
        }
    }
}

/// Something that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The time from a commit to its effect on the other side.
    SyncLatency,
    /// The share of changes that fail.
    ErrorRate,
    /// Changes a second.
    Throughput,
}

/// When people are told. An alert is sent once, and once more when it is over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Alerting {
    /// The latency from which on people are told, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub latency_threshold_ms: Option<u64>,
    /// The share (0 to 1) of failed changes from which on people are told.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub error_rate_threshold: Option<f64>,
    /// How many failures in a row people are told of.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub consecutive_failures_threshold: Option<u32>,
}

/// How much is logged and for how long it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SyncLogging {
    /// The least severity that is logged, where that is less than the process's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<LogLevel>,
    /// For how many days the ledger and closed review items of the sync are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub retention_days: Option<u32>,
}

/// The least severity that is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Everything, step by step.
    Trace,
    /// What a developer looks at.
    Debug,
    /// What an operator looks at.
    #[default]
    Info,
    /// What may need attention.
    Warn,
    /// What failed.
    Error,
}

impl LogLevel {
    /// The name under which it is written.
    pub fn name(self) -> &'static str {
        match self {
            LogLevel::Trace => "trace",
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
        }
    }
}
