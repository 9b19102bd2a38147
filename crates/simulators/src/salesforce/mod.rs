//! Salesforce on loopback: OAuth, REST, Bulk API 2.0, Pub/Sub API and CometD over one org in memory. Start reading at
//! [`org`] (what there is), [`dml`] (what happens when a record is saved) and [`rest`] (how a request is led).
//!
//! Written from the vendor's published behaviour, and held honest by clients that others wrote: see `tests/clients`.

mod admin;
mod auth;
mod bulk;
mod cometd;
mod control;
mod dml;
mod errors;
mod events;
mod formula;
mod front;
mod ids;
mod limits;
mod org;
mod person;
mod pubsub;
mod record;
mod rest;
mod rules;
mod schema;
mod soql;
mod state;
mod store;
mod values;

pub use auth::App;
pub use dml::Refused;
pub use errors::RecordError;
pub use front::{Addresses, Listeners, Simulator, hosts, run};
pub use ids::Id;
pub use limits::Limit;
pub use org::{INTEGRATION_USER, Options, Org, PERSON};
pub use person::Person;
pub use rules::RuleFile;
pub use schema::SchemaFile;
