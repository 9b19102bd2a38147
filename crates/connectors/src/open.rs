//! From a connection as it was configured to a connector that speaks to it: the one place that calls them all by name.
//! Resolves secrets and hands them on; keeps none.

use crate::sqlite;
use concord_engine::config::{Connection, SecretText};
use concord_engine::connector::Connector;
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::SystemName;
use std::sync::Arc;
use std::time::Duration;

/// Opens a connection. `installation` is the store's random id, by which what a connector makes in a system is known as
/// ours; `stored` looks up the store's encrypted secrets.
///
/// # Errors
/// `ConfigMissing` and its kin for what the configuration says, `SecretMissing` where a secret cannot be had,
/// `Unsupported` for a kind that is not built yet.
pub fn open(
    name: &SystemName,
    connection: &Connection,
    _installation: &str,
    _stored: &dyn Fn(&str) -> Result<Option<SecretText>>,
) -> Result<Arc<dyn Connector>> {
    match connection.kind.as_str() {
        "sqlite" => open_sqlite(name, connection),
        other => Err(Error::new(Code::Unsupported, format!("the connector `{other}` is not built yet")).at(name.as_str())),
    }
}

fn missing(name: &SystemName, what: &str) -> Error {
    Error::new(Code::ConfigMissing, format!("the connection `{name}` has no `{what}`")).at(name.as_str())
}

/// A number of an option in milliseconds.
fn millis(name: &SystemName, connection: &Connection, option: &str) -> Result<Option<Duration>> {
    match connection.options.get(option) {
        None => Ok(None),
        Some(value) => match value.as_u64() {
            Some(number) => Ok(Some(Duration::from_millis(number))),
            None => {
                let message = format!("the option `{option}` of `{name}` must be a whole number of milliseconds");
                Err(Error::new(Code::ConfigWrongType, message).at(name.as_str()))
            }
        },
    }
}

fn open_sqlite(name: &SystemName, connection: &Connection) -> Result<Arc<dyn Connector>> {
    let path = connection.credentials.path.as_deref().ok_or_else(|| missing(name, "path"))?;
    let mut settings = sqlite::SqliteSettings::new(path);
    if let Some(timeout) = millis(name, connection, "busy_timeout_ms")? {
        settings.busy_timeout = timeout;
    }
    if let Some(interval) = millis(name, connection, "poll_interval_ms")? {
        settings.poll_interval = interval;
    }
    Ok(Arc::new(sqlite::open(settings)?))
}
