//! One driver per connector.

mod keyed;
pub mod postgres;
pub mod salesforce;
pub mod sqlite;
