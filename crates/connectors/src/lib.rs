//! One folder per connector, the same file names in each; and [`kinds`], the list of every kind there is.

pub mod kinds;
mod open;
pub mod sqlite;

pub use kinds::KINDS;
pub use open::open;
