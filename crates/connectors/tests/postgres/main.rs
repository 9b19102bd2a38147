//! The PostgreSQL connector against a real server. Each test has a database and an installation of its own.

#[path = "../contract/servers/postgres.rs"]
mod server;
mod support;

mod reading;
mod streaming;
mod writing;
