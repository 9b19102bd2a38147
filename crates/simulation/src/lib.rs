//! The deterministic simulation: the real engine on in-memory systems, on a virtual clock, from a seed.
//!
//! A [`world`] says which systems there are and by which rules they are kept equal; a [`stage`] is a world set up, with
//! its [`system`]s (a [`database`] each, with [`faults`]), a [`store`] that forgets what was not durable, and the engine;
//! [`users`] edit; schemas [`drift`]; [`run`] plays a seed to its end; the [`checker`] judges what is left, from the systems'
//! own logs alone.
//! A seed tells the whole story: the same seed is the same [`trace`], line by line.

pub mod checker;
pub mod clock;
mod connector;
pub mod database;
pub mod describe;
mod draw;
pub mod drift;
pub mod faults;
mod feed;
pub mod file;
pub mod further;
pub mod hunt;
pub mod person;
pub mod random;
mod rules;
pub mod run;
pub mod script;
pub mod scripted;
pub mod stage;
pub mod store;
pub mod system;
pub mod timeline;
pub mod trace;
pub mod users;
pub mod world;
