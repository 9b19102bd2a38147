//! Shim until the catalogue lands.
use crate::error::Result;
use crate::record::Record;
use crate::value::Value;
/// x
#[derive(Clone, Debug)]
pub struct Pipeline;
impl Pipeline {
    /// x
    pub fn apply(&self, value: &Value, _record: &Record) -> Result<Value> {
        Ok(value.clone())
    }
}
/// x
#[derive(Clone, Debug, Default)]
pub struct NullHandling;
impl NullHandling {
    /// x
    pub fn apply(&self, value: &Value) -> Option<Value> {
        Some(value.clone())
    }
}
/// x
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MatchNormaliser {
    /// x
    #[default]
    Exact,
}
/// x
pub fn normalise_for_match(value: &Value, _kind: MatchNormaliser) -> Value {
    value.clone()
}
