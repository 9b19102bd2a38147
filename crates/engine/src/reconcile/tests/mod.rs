//! What the merge promises, as examples (a script in, text out), as laws over generated worlds, and as planted bugs that
//! must not pass. Knows only the public functions of the merge.

mod against;
mod arbitrary;
mod conflicts;
mod deletes;
mod first_sight;
mod flow;
mod folding;
mod generated;
mod laws;
mod loops;
mod losses;
#[cfg(feature = "failpoints")]
mod planted;
mod references;
mod rejects;
mod remapping;
mod returns;
mod rulings;
mod script;
pub(crate) mod support;
mod unguarded;
mod unique;
mod world;
