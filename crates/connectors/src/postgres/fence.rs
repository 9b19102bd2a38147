//! The fence: a place in the log behind every write of this installation that was begun before, so that a feed which
//! has passed it without a mark proves that the write never happened.
//! Only sessions of this connection's own writers are ever ended; they are known by their application name.

use super::client::{Lease, column};
use super::{FENCE_PREFIX, Shared, slot};
use concord_engine::change::Position;
use concord_engine::error::{Code, Error, Result};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long batches of this process may take to end.
const OWN_WAIT_MAX: Duration = Duration::from_secs(60);
/// How long sessions that nobody here uses any more may take to end by themselves.
const LEFTOVER_GRACE: Duration = Duration::from_millis(500);
/// How long they may take to end when told to.
const TERMINATE_WAIT_MAX: Duration = Duration::from_secs(30);
/// How often is looked.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Raises a fence.
pub async fn fence(shared: &Shared) -> Result<Position> {
    let alone = timeout(OWN_WAIT_MAX, shared.writing.write()).await;
    let _alone = alone.map_err(|_| Error::new(Code::Busy, "a batch of ours is still being written"))?;
    let mut lease = shared.readers.lease().await?;
    end_leftovers(shared, &mut lease).await?;
    let end = slot::log_end(&mut lease, "raising a fence").await?;
    // A small transaction behind the fence: its commit flushes the log and makes the feed pass.
    let sql = "SELECT pg_catalog.pg_logical_emit_message(true, $1, 'fence')::text";
    lease.query_one(sql, &[&FENCE_PREFIX], "raising a fence").await?;
    lease.done();
    Ok(slot::place(shared, end).encode())
}

/// Waits until no writing session of ours is in a transaction any more: those of earlier processes, and those of this
/// one that were given up in the middle. Those that do not end by themselves are ended.
async fn end_leftovers(shared: &Shared, lease: &mut Lease<'_>) -> Result<()> {
    let doing = "waiting for earlier writing sessions of ours";
    let prefix = shared.names.writers_prefix();
    let own = shared.names.writers(&shared.process);
    let sql = "SELECT pid FROM pg_catalog.pg_stat_activity WHERE pid <> pg_catalog.pg_backend_pid() \
        AND starts_with(application_name, $1) AND (application_name <> $2 OR state IS DISTINCT FROM 'idle')";
    let begun = Instant::now();
    let mut told = false;
    loop {
        let rows = lease.query(sql, &[&prefix, &own], doing).await?;
        let pids = rows.iter().map(|row| column(row, 0)).collect::<Result<Vec<i32>>>()?;
        if pids.is_empty() {
            return Ok(());
        }
        if begun.elapsed() >= LEFTOVER_GRACE && !told {
            told = true;
            lease.query("SELECT pg_catalog.pg_terminate_backend(pid) FROM unnest($1::int4[]) AS pid", &[&pids], doing).await?;
        }
        if begun.elapsed() >= TERMINATE_WAIT_MAX {
            return Err(Error::new(Code::Busy, format!("{doing}: process ids {pids:?} are still there")));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
