//! Vendors' systems on loopback, for tests and demos of connectors to hosted products: one folder each, with faults that
//! a test can ask for. Shares no code with the connectors that it is there to try, and uses nothing of ours. Databases
//! are not simulated: tests run the real ones.
//!
//! A simulator is started with `run(listeners, shutdown)`, or for a test with `Simulator::start`. What all of them share:
//! a [`clock`] that can be moved, [`faults`] that can be scripted, a [`journal`] of every request, the ends of the
//! network in [`net`].

#![allow(missing_docs, reason = "fields and variants of plain data say by their names what they hold")]

pub mod chance;
pub mod clock;
pub mod faults;
pub mod journal;
pub mod net;
pub mod salesforce;
