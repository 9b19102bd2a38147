//! Mirror syncs between real servers: loaded, streamed, killed at any moment, asked about. Each story has two databases, a
//! store and a fleet of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected fails"
)]

#[path = "../engine/support/rules.rs"]
#[allow(dead_code, reason = "not every helper is used here")]
mod rules;
#[path = "../contract/servers/postgres.rs"]
mod server;
mod support;

mod asking;
mod copying;
mod crashing;
mod indexes;
mod lanes;
mod loading;
mod streaming;
mod unique;
