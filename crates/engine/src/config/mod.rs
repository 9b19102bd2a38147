//! What a person wrote: JSON or YAML, in any of the forms that docs/config.md lists, made into one typed [`Config`] in
//! canonical form, or into findings that each point at a line. Nothing here touches a connected system, and nothing
//! but [`load`] and [`model::secret::Secret::resolve`] touches the machine at all.
//!
//! The way of a document: text → a tree with places (`json`, `yaml`) → one canonical tree (`canonical` brings other
//! forms into the canonical one by the table in `forms`; `merge` and `assemble` make one of several documents;
//! `inline` moves connections out of members) → checked against the schema of the types (`shape`) → typed (`model`) →
//! names resolved (`resolve`) → settings checked against each other (`check`) and against what is built (`unbuilt`).

mod assemble;
mod canonical;
mod check;
mod cron;
mod diagnostic;
mod forms;
mod hash;
mod inline;
mod json;
mod kinds;
mod load;
mod merge;
pub mod model;
mod node;
mod resolve;
mod schema;
mod schema_reading;
mod shape;
mod transformation_forms;
mod unbuilt;
mod vocabulary;
mod yaml;

pub use check::overlaps::of_config as overlaps;
pub use cron::Schedule;
pub use diagnostic::{Diagnostic, Severity, nearest};
pub use hash::ConfigHash;
pub use kinds::ConnectorKind;
pub use load::{Document, Loaded, load, parse};
pub use model::conflict::{ConflictResolution, DeleteVsUpdate, FieldRule, LoopPrevention, Strategy, Winner};
pub use model::connection::{AuthType, Connection, Credentials, SslMode};
pub use model::document::Config;
pub use model::failures::{
    Channel, ErrorHandling, Fallback, FallbackAction, Notification, Notifications, RetryStrategy, Threshold,
};
pub use model::mapping::{FieldMapping, FieldSelection, HandleNulls, MappingOptions, TimestampFormat};
pub use model::member::{ConnectedSystem, Direction, Entity, Member};
pub use model::monitoring::{Alerting, LogLevel, Metric, Monitoring, SyncLogging};
pub use model::process::{LogFormat, Logging, MetricsSettings, Notifiers, ProcessSettings, StoreSettings};
pub use model::running::{
    Authority, ChangeDetection, Gates, Guards, InitialStrategy, InitialSync, OngoingMode, OngoingSync, PerformanceSettings,
    RateLimit, Rollout, RolloutStage,
};
pub use model::secret::{Secret, SecretText, TextOrSecret};
pub use model::sync::{Filter, FilterShare, MatchField, Normalizer, OnDelete, SyncConfig, SyncType, TargetEdits};
pub use model::transformation::{CastType, Rest, Transformation};
pub use model::validation::{Limit, OnError, Rule, ValidationRule};
pub use node::Places;
pub use schema::json_schema;
