//! Stories: the real binary on real PostgreSQL servers. Each test has two databases of its own, edits them with SQL as
//! people do, and waits for what must come true; a wait has a deadline, and nothing sleeps for a fixed time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what is wrong by failing"
)]

mod absent;
mod command_line;
mod conflict;
mod demo;
mod disk;
mod example;
mod fields;
mod first_run;
mod gateway;
mod hosted;
mod kill;
mod kindred;
mod ledger;
mod mapping;
mod mirror;
mod monitoring;
mod one_way;
mod outage;
#[path = "../../../connectors/tests/contract/servers/postgres.rs"]
mod postgres;
mod references;
mod refused;
mod rights;
mod said;
mod settings;
mod shapes;
mod shared;
mod stopping;
mod tour;
mod two_way;
mod users;
mod world;
