//! The PostgreSQL connector.
pub mod client;
pub mod config;
pub mod errors;
pub mod names;
pub mod tls;
pub mod types;
pub mod version;
pub mod pgoutput;
pub mod position;
pub mod schema;
pub mod stream;
