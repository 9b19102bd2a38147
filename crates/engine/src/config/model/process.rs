//! Settings of the process: its store, its ports, its logs, and how messages leave it.

use super::monitoring::LogLevel;
use super::secret::{Secret, TextOrSecret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};

/// Settings of the process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessSettings {
    /// Where what must outlive the process is kept.
    pub store: StoreSettings,
    /// Where metrics can be read.
    pub metrics: MetricsSettings,
    /// The path of the control socket; left out, beside the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_socket: Option<String>,
    /// What is logged, how and where.
    pub logging: Logging,
    /// How messages leave the process.
    #[serde(skip_serializing_if = "Notifiers::is_empty")]
    pub notifiers: Notifiers,
}

/// Where what must outlive the process is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSettings {
    /// The store's folder.
    #[schemars(length(min = 1))]
    pub path: String,
}

impl Default for StoreSettings {
    fn default() -> Self {
        StoreSettings { path: "concord-data".to_owned() }
    }
}

/// Where metrics can be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsSettings {
    /// Address and port (`127.0.0.1:9464`); left out, metrics are not served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

impl MetricsSettings {
    /// Where metrics are served that are written to be at this address: `localhost` is 127.0.0.1.
    ///
    /// # Errors
    /// Why they are not served there: no other machine is ever served.
    pub fn listens_at(written: &str) -> Result<SocketAddr, &'static str> {
        let here = written.strip_prefix("localhost:").and_then(|port| port.parse::<u16>().ok());
        match here.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).or_else(|| written.parse().ok()) {
            None => Err("it is no address with a port"),
            Some(address) if !address.ip().is_loopback() => Err("metrics are served on the loopback interface only"),
            Some(address) => Ok(address),
        }
    }
}

/// What is logged, how and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Logging {
    /// The least severity that is logged.
    pub level: LogLevel,
    /// How lines are written.
    pub format: LogFormat,
    /// The folder of log files; left out, logs go to the standard error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// For how many days log files, ledger and the history of metrics are kept.
    #[schemars(range(min = 1))]
    pub retention_days: u32,
}

impl Default for Logging {
    fn default() -> Self {
        Logging { level: LogLevel::Info, format: LogFormat::Text, directory: None, retention_days: 30 }
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// How messages leave the process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Notifiers {
    /// The mail server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smtp: Option<Smtp>,
    /// Slack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slack: Option<SlackTransport>,
    /// PagerDuty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pagerduty: Option<PagerDutyTransport>,
    /// Webhooks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookTransport>,
}

impl Notifiers {
    /// Whether no way was set up.
    pub fn is_empty(&self) -> bool {
        *self == Notifiers::default()
    }
}

/// A mail server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Smtp {
    /// Its host.
    pub host: String,
    /// Its port.
    #[serde(default = "submission_port")]
    #[schemars(range(min = 1))]
    pub port: u16,
    /// The user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// The sender's address.
    pub from: String,
    /// How the connection is protected.
    #[serde(default)]
    pub encryption: SmtpEncryption,
}

fn submission_port() -> u16 {
    587
}

/// How the connection to a mail server is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SmtpEncryption {
    /// TLS after STARTTLS, or nothing is sent.
    #[default]
    Starttls,
    /// TLS from the start.
    Tls,
    /// None.
    None,
}

/// How messages reach Slack: by a token or by a webhook.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SlackTransport {
    /// A bot's token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// The URL of an incoming webhook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<Secret>,
}

/// How messages reach PagerDuty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PagerDutyTransport {
    /// The integration's routing key.
    pub routing_key: Secret,
}

/// How webhooks are called.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookTransport {
    /// The URL for syncs that name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<TextOrSecret>,
    /// The secret that calls are signed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signing_secret: Option<Secret>,
}
