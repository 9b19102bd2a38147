//! What goes by age: ledger rows, closed reviews and settled tombstones. Numbers given out are never given out again.

use super::apply;
use super::counters::Counter;
use super::database::Database;
use super::reads::one_body;
use crate::clock::Moment;
use crate::error::Result;
use crate::link::Link;
use rusqlite::params;

/// The most rows of each kind that one step removes.
pub(super) const STEP_ROWS_MAX: i64 = 1000;

/// Removes some of what is older; returns how many rows, 0 when nothing is left.
pub(super) fn step(database: &mut Database, before: Moment, tombstones_before: Moment) -> Result<u64> {
    Ok(ledger(database, before)? + closed_reviews(database, before)? + tombstones(database, tombstones_before)?)
}

fn ledger(database: &mut Database, before: Moment) -> Result<u64> {
    let Database { connection, counters, .. } = database;
    let mut remove = connection.prepare_cached(
        "DELETE FROM ledger WHERE id IN (SELECT id FROM ledger WHERE at < ?1 ORDER BY at LIMIT ?2) RETURNING sync",
    )?;
    let mut rows = remove.query(params![before.micros(), STEP_ROWS_MAX])?;
    let mut removed = 0;
    while let Some(row) = rows.next()? {
        counters.add(Counter::Ledger, row.get(0)?, 0, -1);
        removed += 1;
    }
    Ok(removed)
}

fn closed_reviews(database: &Database, before: Moment) -> Result<u64> {
    let removed = database
        .connection
        .prepare_cached("DELETE FROM reviews WHERE id IN (SELECT id FROM reviews WHERE closed < ?1 LIMIT ?2)")?
        .execute(params![before.micros(), STEP_ROWS_MAX])?;
    Ok(u64::try_from(removed).unwrap_or(u64::MAX))
}

/// A tombstone stays while an observation under one of its keys waits, or a debt: they are of this record.
fn tombstones(database: &mut Database, before: Moment) -> Result<u64> {
    let expired = {
        let mut find = database.connection.prepare_cached(
            "SELECT id FROM links WHERE expires_from < ?1
             AND NOT EXISTS (SELECT 1 FROM owed WHERE owed.link = links.id)
             AND NOT EXISTS (SELECT 1 FROM keys JOIN pending USING (sync, member, key) WHERE keys.link = links.id)
             ORDER BY expires_from LIMIT ?2",
        )?;
        let rows = find.query_map(params![before.micros(), STEP_ROWS_MAX], |row| row.get(0))?;
        rows.collect::<rusqlite::Result<Vec<i64>>>()?
    };
    let mut forgotten = 0;
    for id in expired {
        let mut body = database.connection.prepare_cached("SELECT body FROM links WHERE id = ?1")?;
        let link: Option<Link> = one_body(&mut body, [id])?;
        drop(body);
        if link.as_ref().is_some_and(|link| apply::expires_from(link).is_none()) {
            // An earlier version let tombstones age whose record is still there.
            database.connection.prepare_cached("UPDATE links SET expires_from = NULL WHERE id = ?1")?.execute([id])?;
            continue;
        }
        apply::forget(database, id)?;
        forgotten += 1;
    }
    Ok(forgotten)
}
