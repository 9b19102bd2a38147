//! A configuration proven against real schemas. [`compile`] is pure: it takes what was written and what the systems said
//! of their objects, and gives [`SyncRules`](crate::rules::SyncRules) or findings that each point at a line. [`first_run`]
//! reads both sides of a sync and tells what its first run would do. Neither writes to any system.

mod absent;
pub mod compile;
mod fields;
mod filters;
pub mod first_run;
mod indexes;
mod layout;
mod notes;
mod pairing;
mod policies;
mod remapping;
mod steps;
#[cfg(test)]
mod tests;
mod writes;

pub use absent::absent_target;
pub use compile::{Compiled, MemberFacts, Referred, Subject, compile};
pub use indexes::{MissingIndex, index_advice};
pub use layout::{Layout, layout_of, layouts};
pub use remapping::{Remapping, Rewritten, remapping};
pub use writes::writes;
