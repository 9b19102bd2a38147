//! The connectors: one folder each, the same file names in each. This list is the only place that names them all.

pub mod postgres;
