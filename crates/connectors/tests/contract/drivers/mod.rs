//! One driver per connector.

pub mod sqlite;
