//! A configured connection as connectors read it: credentials and options, with errors that name the connection. It
//! follows references to secrets through the engine and keeps none.

use crate::keeping::Keep;
use crate::kinds::KINDS;
use concord_engine::config::{ChangeDetection, Config, Connection, OngoingMode, Secret, SecretText, SyncConfig};
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::SystemName;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// What a connector is to be opened for.
pub struct Asked<'a> {
    /// The name that the user gave the system.
    pub name: &'a SystemName,
    /// How it is reached.
    pub connection: &'a Connection,
    /// The random id of the store: names what is made at the source, so that two installations do not meet.
    pub installation: &'a str,
    /// Looks up a secret that the store keeps; `None` for a name that is not there.
    pub stored: &'a (dyn Fn(&str) -> Result<Option<SecretText>> + Sync),
    /// Where secrets that a system renews are kept; `None` where nothing is, nor was before.
    pub keep: Option<Arc<dyn Keep>>,
    /// How changes shall be learnt.
    pub changes: AskedChanges,
}

/// How the syncs that use a connection want its changes to be learnt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AskedChanges {
    /// The way, where all agree on one.
    pub how: ChangeDetection,
    /// How often a system is asked for changes that it cannot tell of, and whether it has told of all; the shortest interval of
    /// all syncs that say one.
    pub every: Option<Duration>,
}

impl AskedChanges {
    /// What the syncs of a configuration ask of a connection.
    pub fn of(config: &Config, system: &SystemName) -> AskedChanges {
        let syncs = || config.syncs.iter().filter(|sync| sync.systems().contains(&system));
        let asked = |sync: &SyncConfig| sync.performance_settings.change_detection;
        let how = syncs().map(asked).find(|how| *how != ChangeDetection::Auto).unwrap_or_default();
        let agreed = syncs().all(|sync| matches!(asked(sync), ChangeDetection::Auto) || asked(sync) == how);
        // Who carries changes every so often has no use for being told of each: where all do, they are asked for.
        let all_poll = || syncs().next().is_some() && syncs().all(|sync| sync.ongoing_sync.mode == OngoingMode::Polling);
        let how = if how == ChangeDetection::Auto && all_poll() { ChangeDetection::Polling } else { how };
        let every = syncs().filter_map(|sync| sync.ongoing_sync.polling_interval_seconds).min().map(Duration::from_secs);
        AskedChanges { how: if agreed { how } else { ChangeDetection::Auto }, every }
    }
}

impl Asked<'_> {
    /// The kind under its own name, whatever alias was written.
    pub fn kind(&self) -> &str {
        let written = self.connection.kind.as_str();
        KINDS.iter().find(|kind| kind.name == written || kind.aliases.contains(&written)).map_or(written, |kind| kind.name)
    }

    /// A credential that must be there.
    pub fn required<'a, T>(&self, key: &str, value: &'a Option<T>) -> Result<&'a T> {
        value.as_ref().ok_or_else(|| self.error(Code::ConfigMissing, format!("credentials.{key} is missing")))
    }

    /// A secret's value, if one is configured.
    pub fn secret(&self, secret: Option<&Secret>) -> Result<Option<SecretText>> {
        secret.map(|secret| secret.resolve(&self.stored)).transpose()
    }

    /// Refuses options that the connector does not have.
    pub fn only_options(&self, known: &[&str]) -> Result<()> {
        match self.connection.options.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => {
                let known = known.join(", ");
                Err(self.error(Code::ConfigUnknownKey, format!("options.{key} is no option of this connector; it has {known}")))
            }
            None => Ok(()),
        }
    }

    /// An option in whole milliseconds, or the default.
    pub fn milliseconds(&self, key: &str, range: RangeInclusive<u64>, default: Duration) -> Result<Duration> {
        let Some(value) = self.connection.options.get(key) else { return Ok(default) };
        let number = value
            .as_u64()
            .ok_or_else(|| self.error(Code::ConfigWrongType, format!("options.{key} must be a whole number of milliseconds")))?;
        if !range.contains(&number) {
            let (least, most) = (range.start(), range.end());
            return Err(self.error(Code::ConfigOutOfRange, format!("options.{key} must lie between {least} and {most}")));
        }
        Ok(Duration::from_millis(number))
    }

    /// An option that is true or false, or the default.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.connection.options.get(key) {
            None => Ok(default),
            Some(value) => {
                value.as_bool().ok_or_else(|| self.error(Code::ConfigWrongType, format!("options.{key} must be true or false")))
            }
        }
    }

    /// An error about this connection.
    pub fn error(&self, code: Code, message: String) -> Error {
        Error::new(code, message).at(self.name.to_string())
    }
}
