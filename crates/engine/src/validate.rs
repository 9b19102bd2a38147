//! Shim until the rules land.
use crate::record::{FieldName, Record};
use crate::value::Value;
/// x
#[derive(Clone, Debug)]
pub struct Rule;
/// x
#[derive(Clone, Debug, Default)]
pub struct Validation {
    /// x
    pub repairs: Vec<Repair>,
    /// x
    pub rejects: Vec<Reject>,
}
/// x
#[derive(Clone, Debug)]
pub struct Repair {
    /// x
    pub field: FieldName,
    /// x
    pub to: Value,
}
/// x
#[derive(Clone, Debug)]
pub struct Reject {
    /// x
    pub field: FieldName,
    /// x
    pub message: String,
}
/// x
pub fn validate(_rules: &[Rule], _record: &Record) -> Validation {
    Validation::default()
}
