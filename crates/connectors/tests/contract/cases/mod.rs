//! The sentences of the contract, by subject.

pub mod drift;
pub mod feed;
pub mod lifecycle;
pub mod reads;
pub mod types;
pub mod writes;
