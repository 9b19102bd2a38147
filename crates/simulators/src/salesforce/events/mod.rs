//! Change events: what each transaction did, as Change Data Capture tells it, and what clients publish, kept for three days. Owns the log, replay
//! ids and the script of what goes wrong with events; how an event looks on the wire is the transports' business.

mod build;
mod log;
mod platform;
mod shape;

pub use build::{Author, Body, ChangeType, Event, Part};
pub use log::{Channel, EventLog};
pub use platform::{PlatformEvent, PlatformField, Published};
pub use shape::{ShapeField, Wire};

#[cfg(test)]
mod tests;
