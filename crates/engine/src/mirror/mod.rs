//! Mirror mode: the bulk path of one-way syncs whose source owns the fields. No memory of single records: the progress is
//! kept in the target, in the transaction of the data, so that everything takes effect once.
//!
//! [`choose`] says which syncs are mirrored, [`family`] which of those whose objects are bound by foreign keys; [`kin`] keeps these in
//! their order. [`run`] is the life of one, [`load`] its first read, [`stream`] all that
//! follows; [`carry`] turns what was seen into steps, [`batch`] many steps into few statements, [`lanes`] carries
//! many out side by side; [`portions`] is what is read again meanwhile; [`keyless`] is what is different where records have no key; [`shapes`] is what
//! a feed tells that is older than its source is now; [`deletes`] is where many records go at once, [`people`] is what waits for a person and what people ask, [`sweep`] what only
//! the target has; [`bulk`] is the seam to the systems.

pub mod batch;
pub mod bulk;
mod carry;
mod choose;
mod deletes;
mod family;
mod fleet;
mod keyless;
mod kin;
mod lanes;
mod load;
mod people;
mod portions;
mod progress;
mod run;
mod settle;
mod shapes;
mod stream;
mod sweep;
mod totals;
mod verify;
mod view;

pub use choose::{
    Candidate, Choice, Mode, Neighbour, choose, choose_all, has_begun, name_of, names_of_all, settings, spare_indexes,
};
pub use fleet::{Fleet, fleet};
pub use lanes::{Ahead, Lane};
pub use run::feed_of;
pub use verify::verify;
