//! One driver per connector.

pub mod postgres;
pub mod sqlite;
