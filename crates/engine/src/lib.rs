//! What a change is and what happens to it. The modules, in the order in which a change meets them:
//!
//! nouns: [`value`], [`record`], [`schema`], [`change`], [`link`], [`flight`], [`ledger`], [`review`], [`connector`].
//!
//! what a person wrote: [`config`]; proven against real schemas: [`plan`]; what the engine runs: [`rules`], [`references`].
//!
//! stages: capture, identify, [`map`], [`filter`], [`validate`], [`reconcile`], apply, settle; [`runtime`] drives them over [`store`].

mod allowance;
mod apply;
mod backfill;
mod capture;
pub mod change;
pub mod clock;
pub mod config;
pub mod connector;
mod doubt;
pub mod error;
pub mod failpoint;
pub mod filter;
pub mod flight;
mod guard;
mod identify;
pub mod ledger;
pub mod link;
pub mod map;
pub mod mirror;
mod monitor;
pub mod mutants;
pub mod offer;
pub mod overlap;
pub mod plan;
pub mod reconcile;
pub mod record;
pub mod references;
mod remapping;
pub mod review;
mod rewound;
pub mod rules;
pub mod runtime;
pub mod schema;
mod settle;
pub mod store;
pub mod transform;
mod unique;
pub mod validate;
pub mod value;
pub mod verify;
