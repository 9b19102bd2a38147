//! One folder per connector, the same file names in each; and [`kinds`], the list of every kind there is.

pub mod kinds;
pub mod sqlite;
