//! Proofs of the value types: generators of every kind of value, tables of examples, and the laws that hold for all.

mod examples;
mod fitting;
pub(crate) mod generators;
mod laws;
