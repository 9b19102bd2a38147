//! The PostgreSQL connector against a real server. Each test has a database and an installation of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that meets the unexpected fails"
)]

#[path = "../contract/servers/postgres.rs"]
mod server;
mod support;

mod checking;
mod encryption;
mod losses;
mod proxy;
mod reading;
mod resuming;
mod shapes;
mod streaming;
mod values;
mod writing;
