//! What goes by age: ledger rows, closed reviews and settled tombstones. Numbers given out are never given out again.

use super::apply;
use super::counters::Counter;
use super::database::Database;
use super::reads::one_body;
use crate::clock::Moment;
use crate::error::Result;
use crate::link::{Link, SyncId};
use crate::store::Ages;
use rusqlite::params;

/// The most rows of each kind that one step looks at.
pub(super) const STEP_ROWS_MAX: i64 = 1000;

/// A row by the moment that it ages from, and its number: rows are gone through in this order.
type Place = (i64, i64);

/// Where the next step goes on, kind by kind; `None` where nothing is left to be looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sought {
    ledger: Option<Place>,
    reviews: Option<Place>,
    tombstones: bool,
}

impl Sought {
    /// Before the first step.
    pub(super) fn everything() -> Sought {
        let first = Some((i64::MIN, i64::MIN));
        Sought { ledger: first, reviews: first, tombstones: true }
    }

    /// Whether nothing is left to be looked at.
    pub(super) fn is_over(&self) -> bool {
        self.ledger.is_none() && self.reviews.is_none() && !self.tombstones
    }
}

/// Removes some of what is too old; returns how many rows, and where to go on.
pub(super) fn step(database: &mut Database, ages: &Ages, sought: Sought) -> Result<(u64, Sought)> {
    let mut removed = 0;
    let mut next = Sought { ledger: None, reviews: None, tombstones: false };
    if let Some(from) = sought.ledger {
        let (rows, further) = ledger(database, ages, from)?;
        (removed, next.ledger) = (removed + rows, further);
    }
    if let Some(from) = sought.reviews {
        let (rows, further) = closed_reviews(database, ages, from)?;
        (removed, next.reviews) = (removed + rows, further);
    }
    if sought.tombstones {
        let (rows, more) = tombstones(database, ages.tombstones)?;
        (removed, next.tombstones) = (removed + rows, more);
    }
    Ok((removed, next))
}

/// A row that may be too old: its number and its sync.
type Old = (i64, u32);

/// Some rows from before the latest moment that any sync's rows go before: those that their own sync lets go of, and where
/// to go on. Rows that stay are passed over by the place, so that no step meets them twice.
fn old(select: &mut rusqlite::CachedStatement<'_>, ages: &Ages, from: Place) -> Result<(Vec<Old>, Option<Place>)> {
    let (mut old, mut last, mut seen) = (Vec::new(), from, 0);
    let mut rows = select.query(params![from.0, from.1, ages.latest().micros(), STEP_ROWS_MAX])?;
    while let Some(row) = rows.next()? {
        let (id, at, sync): (i64, i64, u32) = (row.get(0)?, row.get(1)?, row.get(2)?);
        (last, seen) = ((at, id), seen + 1);
        if Moment(at) < ages.of(SyncId(sync)) {
            old.push((id, sync));
        }
    }
    Ok((old, (seen == STEP_ROWS_MAX).then_some(last)))
}

fn ledger(database: &mut Database, ages: &Ages, from: Place) -> Result<(u64, Option<Place>)> {
    let Database { connection, counters, .. } = database;
    let mut select = connection.prepare_cached(
        "SELECT id, at, sync FROM ledger WHERE at >= ?1 AND (at > ?1 OR id > ?2) AND at < ?3 ORDER BY at, id LIMIT ?4",
    )?;
    let (old, further) = old(&mut select, ages, from)?;
    let mut remove = connection.prepare_cached("DELETE FROM ledger WHERE id = ?1")?;
    for (id, sync) in &old {
        remove.execute([id])?;
        counters.add(Counter::Ledger, i64::from(*sync), 0, -1);
    }
    Ok((u64::try_from(old.len()).unwrap_or(u64::MAX), further))
}

fn closed_reviews(database: &Database, ages: &Ages, from: Place) -> Result<(u64, Option<Place>)> {
    let mut select = database.connection.prepare_cached(
        "SELECT id, closed, sync FROM reviews WHERE closed >= ?1 AND (closed > ?1 OR id > ?2) AND closed < ?3
         ORDER BY closed, id LIMIT ?4",
    )?;
    let (old, further) = old(&mut select, ages, from)?;
    let mut remove = database.connection.prepare_cached("DELETE FROM reviews WHERE id = ?1")?;
    for (id, _) in &old {
        remove.execute([id])?;
    }
    Ok((u64::try_from(old.len()).unwrap_or(u64::MAX), further))
}

/// A tombstone stays while an observation under one of its keys waits, or a debt: they are of this record.
/// Says how many went, and whether there may be more.
fn tombstones(database: &mut Database, before: Moment) -> Result<(u64, bool)> {
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
    let more = i64::try_from(expired.len()).is_ok_and(|found| found == STEP_ROWS_MAX);
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
    Ok((forgotten, more))
}
