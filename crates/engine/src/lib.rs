//! What a change is and what happens to it. The modules, in the order in which a change meets them:
//!
//! nouns: [`value`], [`record`], [`schema`], [`change`], [`connector`].
//!
//! what a person wrote: [`config`].

pub mod change;
pub mod clock;
pub mod config;
pub mod connector;
pub mod error;
pub mod record;
pub mod schema;
pub mod value;
