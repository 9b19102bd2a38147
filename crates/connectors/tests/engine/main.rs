//! The real engine on real connectors, without the binary around it: what it survives, told as stories. Each has its own
//! databases (or files), its own store and its own engine, which it starts, stops and kills.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected fails"
)]

#[path = "../salesforce/support.rs"]
mod org;
#[path = "../contract/servers/postgres.rs"]
mod server;
mod support;

mod beginnings;
mod conflicts;
mod crashes;
mod deletes;
mod echoes;
mod gaps;
mod hosted;
mod keys;
mod mappings;
mod matches;
mod pairs;
mod references;
mod restores;
mod rights;
mod schemas;
mod unique;
mod values;
mod verified;
