//! What a change is and what happens to it. The modules, in the order in which a change meets them:
//!
//! pure stages: [`transform`], [`validate`]; nouns: [`value`], [`record`], [`schema`], [`change`], [`connector`].

pub mod change;
pub mod clock;
pub mod connector;
pub mod error;
pub mod record;
pub mod schema;
pub mod transform;
pub mod validate;
pub mod value;
