//! The language as types: what a person can write, in its one canonical form, with every default.
//! These types are what is parsed, what the JSON Schema is generated from and what [`Config::to_json`](super::Config)
//! prints. They hold no behaviour beyond small look-ups, and never a secret's value.

pub mod conflict;
pub mod connection;
pub mod document;
pub mod failures;
pub mod mapping;
pub mod member;
pub mod monitoring;
pub mod process;
pub mod running;
pub mod secret;
pub mod sync;
pub mod transformation;
pub mod validation;

/// Free JSON of a connector: kept as it is, in the order in which it was written.
pub type Options = serde_json::Map<String, serde_json::Value>;
