//! One folder per connector, the same file names in each.

pub mod sqlite;
