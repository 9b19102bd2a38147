//! Private servers for drivers that need one.

pub mod postgres;
