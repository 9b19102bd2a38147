//! What is done about failures, and who is told.

use super::secret::TextOrSecret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is done about failures, and who is told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ErrorHandling {
    /// How often and when a failed write is tried again.
    pub retry_strategy: RetryStrategy,
    /// Through which channels people are told, and from which severity on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notification: Option<Notification>,
    /// Where messages go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notifications: Option<Notifications>,
    /// What happens after the last attempt.
    pub fallback: Fallback,
}

/// How often and when a failed write is tried again, with full jitter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryStrategy {
    /// Attempts in all, the first included.
    #[schemars(range(min = 1, max = 1000))]
    pub max_attempts: u32,
    /// How much longer each delay is than the one before.
    #[schemars(range(min = 1.0, max = 100.0))]
    pub backoff_factor: f64,
    /// The delay after the first attempt.
    #[schemars(range(min = 0.0, max = 86400.0))]
    pub initial_delay_seconds: f64,
    /// The longest delay.
    #[schemars(range(min = 0.0, max = 86400.0))]
    pub max_delay_seconds: f64,
}

impl Default for RetryStrategy {
    fn default() -> Self {
        RetryStrategy { max_attempts: 5, backoff_factor: 2.0, initial_delay_seconds: 1.0, max_delay_seconds: 300.0 }
    }
}

/// Through which channels people are told, and from which severity on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Notification {
    /// The channels.
    pub channels: Vec<Channel>,
    /// The least severity that is told.
    pub threshold: Threshold,
}

/// A way to tell people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// A Slack channel.
    Slack,
    /// E-mail.
    Email,
    /// A POST to a URL.
    Webhook,
    /// PagerDuty.
    #[serde(rename = "pagerduty")]
    PagerDuty,
}

/// A severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Threshold {
    /// Everything.
    Info,
    /// What may need attention.
    Warning,
    /// What failed.
    #[default]
    Error,
    /// What stopped.
    Critical,
}

/// Where messages go. How they are carried is said in `notifiers`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Notifications {
    /// E-mail addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub email: Vec<String>,
    /// A Slack channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slack: Option<String>,
    /// A URL that messages are posted to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<TextOrSecret>,
}

/// What happens after the last attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fallback {
    /// What is done.
    pub action: FallbackAction,
}

/// What is done after the last attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FallbackAction {
    /// The record waits in review for a person.
    #[default]
    QueueForManualReview,
    /// The change is skipped, and the ledger says so.
    Skip,
    /// The sync stops.
    StopSync,
}
