//! The simulator by its own wire: what goes wrong on purpose, allocations, time, the doors that clients do not try. Speaks
//! HTTP by hand, so that a cut connection is seen as one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what is wrong by failing"
)]

mod consent;
mod faults;
mod streaming;
mod wire;
mod writing;
