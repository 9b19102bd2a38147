//! Mirror syncs between real servers: loaded, streamed, killed at any moment, asked about. Each story has two databases, a
//! store and a fleet of its own; what is told of every target has a file as target besides.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected fails"
)]
#![allow(clippy::duplicate_mod, reason = "stories that are told of every target")]

#[path = "../engine/support/rules.rs"]
#[allow(dead_code, reason = "not every helper is used here")]
mod rules;
#[path = "../contract/servers/postgres.rs"]
mod server;
mod support;

mod changing;
mod conditions;
mod copying;
mod crashing;
mod families;
mod indexes;
mod keyless;
mod keys;
mod kindred;
mod lanes;
mod limits;
mod lite;
mod loading;
mod moving;
mod watching;

/// What is told of every target, with a database of a server.
#[path = "."]
mod into_postgres {
    use crate::support::World;

    #[path = "asking.rs"]
    mod asking;
    #[path = "filters.rs"]
    pub mod filters;
    #[path = "killing.rs"]
    mod killing;
    #[path = "streaming.rs"]
    mod streaming;
    #[path = "unique.rs"]
    mod unique;
}

/// The same with a file.
#[path = "."]
mod into_sqlite {
    type World = crate::support::WorldOf<crate::support::File>;

    #[path = "asking.rs"]
    mod asking;
    #[path = "filters.rs"]
    mod filters;
    #[path = "killing.rs"]
    mod killing;
    #[path = "streaming.rs"]
    mod streaming;
    #[path = "unique.rs"]
    mod unique;
}
