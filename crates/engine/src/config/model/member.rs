//! Members of a sync: a system, an object, a direction; and the members of a hub.

use super::Options;
use super::mapping::FieldMapping;
use super::sync::{Filter, MatchField};
use crate::record::{ObjectName, SystemName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One side of a pair. A connection written in its place stands among the connections in the canonical form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The system: the name of a connection.
    #[schemars(with = "String")]
    pub system: SystemName,
    /// What the system holds the records in: a table, an object.
    pub object: String,
    /// The schema of the object; the connection's when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// The database of the object, where one connection reaches several; a connection that reaches one has it already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Another name for the member in rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Which way records flow at this member: narrower than the sync's own directions.
    #[serde(default)]
    pub direction: Direction,
    /// Which of the member's records take part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// The connector's own settings, of a connection that the member brings: free JSON, kept as it is.
    #[serde(default, skip_serializing_if = "Options::is_empty")]
    pub options: Options,
}

impl Member {
    /// The object's name as its connector spells it: with its schema in front where one was given apart from it.
    pub fn object_name(&self) -> ObjectName {
        match &self.schema {
            Some(schema) => ObjectName::from(format!("{schema}.{}", self.object)),
            None => ObjectName::from(self.object.as_str()),
        }
    }
}

/// Which way something flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Whichever way the sync flows.
    #[default]
    Both,
    /// From the source to the target only.
    ToTarget,
    /// From the target to the source only.
    ToSource,
}

impl Direction {
    /// Whether this lets records flow to the target.
    pub fn to_target(self) -> bool {
        matches!(self, Direction::Both | Direction::ToTarget)
    }

    /// Whether this lets records flow to the source.
    pub fn to_source(self) -> bool {
        matches!(self, Direction::Both | Direction::ToSource)
    }
}

/// A spoke of a hub.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectedSystem {
    /// The system: the name of a connection.
    #[schemars(with = "String")]
    pub system: SystemName,
    /// Its objects that take part.
    #[serde(default)]
    pub objects: Vec<String>,
    /// Another name for the spoke in rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Which way records flow at this spoke (the hub is the target).
    #[serde(default)]
    pub direction: Direction,
    /// The connector's own settings: free JSON, kept as it is.
    #[serde(default, skip_serializing_if = "Options::is_empty")]
    pub options: Options,
}

/// Which objects of which systems are the same kind of record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Entity {
    /// The name of the kind of record.
    pub name: String,
    /// The hub's object.
    pub hub: String,
    /// The object of each spoke, by system.
    pub members: BTreeMap<String, String>,
    /// How the fields of each spoke correspond to the hub's, by system.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub field_mappings: BTreeMap<String, Vec<FieldMapping>>,
    /// Fields that tell that records of several systems are the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_on: Vec<MatchField>,
}
