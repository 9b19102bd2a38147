//! Removes what `prepare` made: tables leave the publication; with the last of them go publication and slot.

use super::{Shared, publication, slot};
use concord_engine::error::Result;
use concord_engine::record::ObjectName;

/// Releases these objects. Those that are not published are none of our making and stay as they are.
pub async fn release(shared: &Shared, objects: &[ObjectName]) -> Result<()> {
    let names = objects.iter().map(|object| shared.name(object)).collect::<Result<Vec<_>>>()?;
    let mut lease = shared.readers.lease().await?;
    if publication::release(shared, &mut lease, &names).await? {
        slot::drop_if_exists(shared, &mut lease).await?;
    }
    lease.done();
    Ok(())
}
