//! Everything that the org knows at a moment, behind one lock. Each area owns its part; this file only puts them
//! together.

use super::auth::Auth;
use super::bulk::Jobs;
use super::cometd::Clients;
use super::events::EventLog;
use super::limits::Limits;
use super::pubsub::managed::ManagedSubscriptions;
use super::rest::query::Cursors;
use super::rules::Rules;
use super::schema::Schema;
use super::store::Store;
use crate::chance::Chance;

/// Metadata and records.
#[derive(Debug, Default)]
pub struct Data {
    pub schema: Schema,
    pub store: Store,
}

/// The org.
#[derive(Debug)]
pub struct State {
    pub data: Data,
    pub rules: Rules,
    pub events: EventLog,
    pub auth: Auth,
    pub limits: Limits,
    pub cursors: Cursors,
    pub jobs: Jobs,
    pub streaming: Clients,
    pub managed: ManagedSubscriptions,
    pub chance: Chance,
    /// When the bin was last looked through.
    pub bin_looked_at_ms: i64,
}
