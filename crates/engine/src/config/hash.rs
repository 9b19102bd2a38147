//! The configuration printed in canonical form, and a fingerprint of what it means: the same whatever form, order of
//! keys, comments or white space it was written with. An approved plan is bound to it.

use super::model::connection::Connection;
use super::model::document::Config;
use super::model::sync::SyncConfig;
use crate::record::SystemName;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// A fingerprint of what a configuration means.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConfigHash(String);

impl fmt::Display for ConfigHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for ConfigHash {
    fn from(text: String) -> Self {
        ConfigHash(text)
    }
}

impl Config {
    /// The canonical form, with every default. References to secrets are printed, never a secret.
    pub fn to_json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// The fingerprint of connections and syncs; settings of the process do not count.
    pub fn hash(&self) -> ConfigHash {
        let connections = serde_json::to_value(&self.connections).unwrap_or_default();
        let syncs = self.syncs.iter().map(meaning).collect();
        fingerprint(&Value::Array(vec![connections, Value::Array(syncs)]))
    }

    /// The fingerprint of one sync and the connections that it uses.
    pub fn sync_hash(&self, sync: &SyncConfig) -> ConfigHash {
        let used: Vec<(&SystemName, Option<&Connection>)> =
            sync.systems().into_iter().map(|system| (system, self.connections.get(system))).collect();
        let connections = serde_json::to_value(used).unwrap_or_default();
        fingerprint(&Value::Array(vec![connections, meaning(sync)]))
    }
}

/// A sync without what changes nothing about its data.
fn meaning(sync: &SyncConfig) -> Value {
    let mut value = serde_json::to_value(sync).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        object.shift_remove("monitoring");
        object.shift_remove("auto_approve");
    }
    value
}

fn fingerprint(value: &Value) -> ConfigHash {
    let mut text = String::new();
    write_sorted(value, &mut text);
    ConfigHash(format!("{:032x}", xxhash_rust::xxh3::xxh3_128(text.as_bytes())))
}

/// JSON with the keys of every object in order.
fn write_sorted(value: &Value, text: &mut String) {
    match value {
        Value::Object(object) => {
            let mut entries: Vec<(&String, &Value)> = object.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            text.push('{');
            for (key, value) in entries {
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                write_sorted(value, text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for item in items {
                write_sorted(item, text);
                text.push(',');
            }
            text.push(']');
        }
        plain => text.push_str(&plain.to_string()),
    }
}
