//! The replication slot: made, looked at, watched and dropped here. A slot that exists is never dropped except where
//! the caller says so: because a gap was accepted, because nobody knows its position, or because of a release.

use super::client::{Lease, column};
use super::position::{ServerIdentity, SlotPosition, SlotState};
use super::version::{lsn_text, parse_lsn};
use super::{MARKER_PREFIX, Shared, errors};
use concord_engine::connector::FeedHealth;
use concord_engine::error::{Code, Error, Result};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// How long a slot may stay in use before dropping it is given up.
const INACTIVE_WAIT_MAX: Duration = Duration::from_secs(15);
/// How often is looked.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long making a slot may wait for the transactions that are open.
const CREATE_WAIT_MAX: Duration = Duration::from_secs(300);
/// The share of the server's limit of retained log at which a person is warned.
const RETAINED_WARNING_PERCENT: u64 = 70;
/// Retained log that is worth a warning where the server has no limit.
const RETAINED_WARNING_BYTES: u64 = 8 << 30;

/// What the server says of our slot; `None`: there is none.
pub async fn state(shared: &Shared) -> Result<Option<SlotState>> {
    let mut lease = shared.readers.lease().await?;
    let state = state_in(&mut lease, &shared.names.slot).await?;
    lease.done();
    Ok(state)
}

/// The same inside a session that is already there.
pub async fn state_in(lease: &mut Lease<'_>, slot: &str) -> Result<Option<SlotState>> {
    let sql = "SELECT coalesce(plugin::text, 'physical'), coalesce(database::text, ''), database IS NOT DISTINCT FROM current_database(), \
        wal_status, confirmed_flush_lsn::text FROM pg_catalog.pg_replication_slots WHERE slot_name = $1";
    let rows = lease.query(sql, &[&slot], "looking at the replication slot").await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let confirmed: Option<String> = column(row, 4)?;
    Ok(Some(SlotState {
        plugin: column(row, 0)?,
        database: column(row, 1)?,
        of_this_database: column(row, 2)?,
        wal_status: column(row, 3)?,
        confirmed_flush_lsn: confirmed.as_deref().and_then(parse_lsn),
    }))
}

/// Makes the slot and writes its marker into the log. Waits for transactions that are open; bounded.
pub async fn create(shared: &Shared, lease: &mut Lease<'_>, server: &ServerIdentity, marker: Uuid) -> Result<SlotPosition> {
    let slot = &shared.names.slot;
    let doing = format!("making the replication slot {slot}");
    lease.execute(&format!("SET statement_timeout = {}", CREATE_WAIT_MAX.as_millis()), &doing).await?;
    let sql = "SELECT lsn::text FROM pg_catalog.pg_create_logical_replication_slot($1, 'pgoutput')";
    let made = lease.query_one(sql, &[slot], &doing).await.map_err(|error| match error.code {
        Code::Busy => Error { message: format!("{}; transactions that stay open delay it", error.message), ..error },
        _ => error,
    })?;
    lease.execute("RESET statement_timeout", &doing).await?;
    let begin: String = column(&made, 0)?;
    let lsn = parse_lsn(&begin).ok_or_else(|| errors::unexpected("the new slot has no position"))?;
    let sql = "SELECT pg_catalog.pg_logical_emit_message(false, $1, $2::text)::text";
    let written = lease.query_one(sql, &[&MARKER_PREFIX, &marker.to_string()], &doing).await?;
    let marker_lsn: String = column(&written, 0)?;
    Ok(SlotPosition {
        lsn,
        system_identifier: server.system_identifier,
        timeline: server.timeline,
        slot: slot.clone(),
        marker,
        marker_lsn: parse_lsn(&marker_lsn).ok_or_else(|| errors::unexpected("the marker has no position"))?,
        marker_seen: false,
    })
}

/// Drops the slot if it is there, after its reader has left it; bounded.
pub async fn drop_if_exists(shared: &Shared, lease: &mut Lease<'_>) -> Result<()> {
    drop_within(lease, &shared.names.slot, INACTIVE_WAIT_MAX).await
}

/// Drops a slot if it is there and nobody reads it.
pub async fn drop_unread(lease: &mut Lease<'_>, slot: &str) -> Result<()> {
    drop_within(lease, slot, Duration::ZERO).await
}

async fn drop_within(lease: &mut Lease<'_>, slot: &str, wait: Duration) -> Result<()> {
    let doing = format!("dropping the replication slot {slot}");
    let deadline = Instant::now() + wait;
    loop {
        let sql = "SELECT active_pid FROM pg_catalog.pg_replication_slots WHERE slot_name = $1";
        let rows = lease.query(sql, &[&slot], &doing).await?;
        let Some(row) = rows.first() else {
            return Ok(());
        };
        let reader: Option<i32> = column(row, 0)?;
        if reader.is_none() {
            match lease.query("SELECT pg_catalog.pg_drop_replication_slot($1)", &[&slot], &doing).await {
                Ok(_) => return Ok(()),
                // Somebody took it, or dropped it, in between: look again.
                Err(error) if matches!(error.code, Code::Busy | Code::StatementRefused) => {}
                Err(error) => return Err(error),
            }
        }
        if Instant::now() >= deadline {
            let holder = reader.map_or_else(|| "another session".to_owned(), |pid| format!("the session with process id {pid}"));
            return Err(Error::new(Code::Busy, format!("{doing}: {holder} is using it")));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// How the slot does.
pub async fn health(shared: &Shared) -> Result<FeedHealth> {
    let sql = "SELECT (pg_catalog.pg_current_wal_lsn() - restart_lsn)::int8, confirmed_flush_lsn::text, wal_status, safe_wal_size, \
        (SELECT setting::int8 FROM pg_catalog.pg_settings WHERE name = 'max_slot_wal_keep_size') \
        FROM pg_catalog.pg_replication_slots WHERE slot_name = $1";
    let slot = &shared.names.slot;
    let mut lease = shared.readers.lease().await?;
    let rows = lease.query(sql, &[slot], "looking at the replication slot").await?;
    shared.carried.compare(&mut lease, slot, |object| shared.name(object)).await?;
    lease.done();
    let Some(row) = rows.first() else {
        let warning = Some(format!("the replication slot {slot} does not exist: changes are not kept for us"));
        return Ok(FeedHealth { warning, ..FeedHealth::default() });
    };
    let retained: Option<i64> = column(row, 0)?;
    let position: Option<String> = column(row, 1)?;
    let status: Option<String> = column(row, 2)?;
    let safe: Option<i64> = column(row, 3)?;
    let limit_megabytes: Option<i64> = column(row, 4)?;
    let retained_bytes = retained.and_then(|bytes| u64::try_from(bytes).ok());
    let retained_bytes_max = limit_megabytes.and_then(|limit| u64::try_from(limit).ok()).map(|limit| limit << 20);
    let warning = warning(slot, status.as_deref(), safe, retained_bytes, retained_bytes_max);
    Ok(FeedHealth { retained_bytes, retained_bytes_max, position: position.unwrap_or_default(), warning })
}

/// The number, with its epoch, of the next transaction.
pub async fn next_transaction(shared: &Shared) -> Result<u64> {
    let sql = "SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text";
    let mut lease = shared.readers.lease().await?;
    let row = lease.query_one(sql, &[], "asking for the next transaction's number").await?;
    lease.done();
    let text: String = column(&row, 0)?;
    text.parse().map_err(|_| super::errors::unexpected(format!("`{text}` is no transaction's number")))
}

/// What a person should act on before it is too late.
fn warning(slot: &str, status: Option<&str>, safe: Option<i64>, retained: Option<u64>, limit: Option<u64>) -> Option<String> {
    let raise = "let the sync catch up, or raise max_slot_wal_keep_size";
    match status {
        Some("lost") => {
            return Some(format!("the server removed log that the replication slot {slot} still needed: changes are lost"));
        }
        Some("unreserved") => {
            let left = safe.unwrap_or(0).max(0);
            return Some(format!(
                "the replication slot {slot} holds more log than the server keeps for it ({left} bytes left): {raise}"
            ));
        }
        _ => {}
    }
    match (retained?, limit) {
        (retained, Some(limit)) if retained.saturating_mul(100) >= limit.saturating_mul(RETAINED_WARNING_PERCENT) => {
            Some(format!("the replication slot {slot} holds back {retained} of at most {limit} bytes of log: {raise}"))
        }
        (retained, None) if retained >= RETAINED_WARNING_BYTES => Some(format!(
            "the replication slot {slot} holds back {retained} bytes of log and the server has no limit: let the sync catch up before its disk is full"
        )),
        _ => None,
    }
}

/// A position for a fence: only its place in the log counts.
pub fn place(shared: &Shared, lsn: u64) -> SlotPosition {
    SlotPosition {
        lsn,
        system_identifier: 0,
        timeline: 0,
        slot: shared.names.slot.clone(),
        marker: Uuid::nil(),
        marker_lsn: 0,
        marker_seen: true,
    }
}

/// The end of the log now.
pub async fn log_end(lease: &mut Lease<'_>, doing: &str) -> Result<u64> {
    let row = lease.query_one("SELECT pg_catalog.pg_current_wal_insert_lsn()::text", &[], doing).await?;
    let text: String = column(&row, 0)?;
    parse_lsn(&text).ok_or_else(|| errors::unexpected(format!("{} is no place in the log", lsn_text(0))))
}

#[cfg(test)]
mod tests {
    use super::warning;

    #[test]
    fn a_slot_is_warned_of_before_it_is_lost() {
        let say = |status, retained, limit| warning("s", Some(status), None, Some(retained), limit);
        assert_eq!(say("reserved", 10, Some(1000)), None);
        assert!(say("reserved", 700, Some(1000)).is_some_and(|text| text.contains("max_slot_wal_keep_size")));
        assert!(say("unreserved", 10, Some(1000)).is_some_and(|text| text.contains("holds more log")));
        assert!(say("lost", 10, None).is_some_and(|text| text.contains("lost")));
        assert_eq!(say("reserved", 1 << 30, None), None);
        assert!(say("extended", 9 << 30, None).is_some());
    }
}
