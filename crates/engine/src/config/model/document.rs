//! The whole of a configuration in its one canonical form.

use super::connection::Connection;
use super::process::ProcessSettings;
use super::sync::SyncConfig;
use crate::record::SystemName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything that was written, whatever form it was written in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Settings of the process.
    pub process_settings: ProcessSettings,
    /// The connected systems, by the names that the user gave them.
    #[schemars(with = "BTreeMap<String, Connection>")]
    pub connections: BTreeMap<SystemName, Connection>,
    /// The syncs, in the order in which they were written.
    pub syncs: Vec<SyncConfig>,
}
