//! Slots and publications of this installation that no sync has any more: a slot keeps the server's log for ever, so they are
//! found by their names, said, and removed where that is asked for. Never touches what somebody reads, nor what another
//! installation made.

use super::client::column;
use super::names::{literal, quote};
use super::{Shared, slot};
use concord_engine::connector::Leftover;
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::FeedName;

/// Looks for them.
pub async fn find(shared: &Shared, known: &[FeedName]) -> Result<Vec<Leftover>> {
    let known: Vec<&str> = known.iter().map(FeedName::as_str).collect();
    let sql = "SELECT coalesce(slot_name, pubname)::text, (CASE WHEN pg_catalog.pg_is_in_recovery() THEN \
        pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_lsn() END - restart_lsn)::int8, \
        coalesce(active, false), slot_name IS NOT NULL, pubname IS NOT NULL \
        FROM (SELECT slot_name::text, restart_lsn, active FROM pg_catalog.pg_replication_slots \
            WHERE database = current_database() AND NOT temporary) AS s \
        FULL JOIN (SELECT pubname::text FROM pg_catalog.pg_publication) AS p ON pubname = slot_name \
        WHERE starts_with(coalesce(slot_name, pubname), $1) AND coalesce(slot_name, pubname) <> ALL ($2::text[]) ORDER BY 1";
    let mut lease = shared.readers.lease().await?;
    let rows = lease.query(sql, &[&shared.names.of_installation(), &known], "looking for what is left over").await?;
    lease.done();
    let leftover = |row: &tokio_postgres::Row| {
        let name: String = column(row, 0)?;
        let retained: Option<i64> = column(row, 1)?;
        let mut removal = Vec::new();
        if column(row, 3)? {
            removal.push(format!("SELECT pg_drop_replication_slot({});", literal(&name)));
        }
        if column(row, 4)? {
            removal.push(format!("DROP PUBLICATION {};", quote(&name)));
        }
        Ok(Leftover {
            feed: FeedName::from(name.as_str()),
            retained_bytes: retained.and_then(|bytes| u64::try_from(bytes).ok()),
            is_read: column(row, 2)?,
            removal: removal.join(" "),
        })
    };
    rows.iter().map(leftover).collect()
}

/// Removes one.
pub async fn remove(shared: &Shared, feed: &FeedName) -> Result<()> {
    let name = feed.as_str();
    if !name.starts_with(&shared.names.of_installation()) {
        return Err(Error::new(Code::Internal, format!("{name} is none of ours")));
    }
    let mut lease = shared.readers.lease().await?;
    match name == shared.names.slot {
        // Our own reader may need a moment to let go of it.
        true => slot::drop_if_exists(shared, &mut lease).await?,
        false => slot::drop_unread(&mut lease, name).await?,
    }
    let drop = format!("DROP PUBLICATION IF EXISTS {}", quote(name));
    if !shared.config.allow_ddl {
        // Whoever made the publication may want it for longer than the slot.
        lease.done();
        return Ok(());
    }
    lease.execute(&drop, "removing what is left over").await?;
    lease.done();
    Ok(())
}
