//! What a change is and what happens to it. The modules, in the order in which a change meets them:
//!
//! nouns: [`value`], [`record`], [`schema`], [`change`], [`link`], [`flight`], [`ledger`], [`review`], [`connector`].
//!
//! what a person wrote: [`config`].

pub mod change;
pub mod clock;
pub mod config;
pub mod connector;
pub mod error;
pub mod flight;
pub mod ledger;
pub mod link;
pub mod record;
pub mod review;
pub mod schema;
pub mod store;
pub mod value;
