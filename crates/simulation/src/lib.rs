//! The deterministic simulation: the real engine on in-memory systems, on a virtual clock, from a seed.
//!
//! A [`world`] says which systems there are and by which rules they are kept equal; a [`stage`] is a world set up, with
//! its [`system`]s (a [`database`] each, with [`faults`]), a [`store`] that forgets what was not durable, and the engine;
//! [`users`] edit; [`run`] plays a seed to its end; the [`checker`] judges what is left, from the systems' own logs alone.
//! A seed tells the whole story: the same seed is the same [`trace`], line by line.

pub mod checker;
pub mod clock;
mod connector;
pub mod database;
pub mod describe;
pub mod faults;
mod feed;
pub mod hunt;
pub mod random;
mod rules;
pub mod run;
pub mod stage;
pub mod store;
pub mod system;
pub mod timeline;
pub mod trace;
pub mod users;
pub mod world;

/// The planted bugs, by the names under which the engine knows them.
pub const MUTANTS: &[&str] = &[
    "guard_dropped",
    "guard_narrowed",
    "delete_guard_dropped",
    "create_unguarded",
    "ack_before_durable",
    "write_before_durable",
    "stale_version_kept",
    "unknown_order_trusted",
    "base_not_moved",
    "pending_cleared_whole",
    "echo_not_settled",
    "unknown_is_success",
    "unknown_is_failure",
    "create_retried",
    "fence_skipped",
    "reservation_ignored",
    "lookup_skipped",
    "collision_ignored",
    "orphan_delete_forgotten",
    "delete_forgotten",
    "tombstone_ignored",
    "key_change_as_insert",
    "partial_as_full",
    "returned_image_trusted",
    "returned_image_ignored",
    "loser_not_recorded",
    "lww_by_arrival",
    "priority_reversed",
    "group_split",
    "owes_forgotten",
    "owed_value_not_contender",
    "echo_as_edit",
    "lossy_ping_pong",
    "two_flights_per_link",
    "position_inside_transaction",
    "gap_ignored",
    "owner_ignored",
    "key_write_back_forgotten",
    "update_wins_forgotten",
    "review_swallowed",
];
