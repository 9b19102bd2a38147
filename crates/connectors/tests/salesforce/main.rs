//! The Salesforce connector against the simulated org: sessions, reading, writing and change events, each with what can go
//! wrong on the way. What every connector promises is in the contract suite; here is what only this one meets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected fails"
)]

mod allowances;
mod behind;
mod capturing;
mod deliveries;
mod enduring;
mod jobs;
mod long_polling;
mod matching;
mod picklists;
mod polling;
mod reading;
mod refusals;
mod sessions;
mod support;
mod writing;
