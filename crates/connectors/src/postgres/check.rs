//! Findings.
use super::Shared;
use concord_engine::connector::Finding;
use concord_engine::error::Result;
use concord_engine::record::ObjectName;

/// Looks at everything.
pub async fn check(_shared: &Shared, _objects: &[ObjectName]) -> Result<Vec<Finding>> {
    Ok(Vec::new())
}
