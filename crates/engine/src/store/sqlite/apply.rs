//! A transaction's rows: written in the order of its fields into the SQLite transaction that is open.
//! Never begins, commits or undoes one; never looks at what a record means.

use super::body::{encode, from_sql, to_sql};
use super::counters::Counter;
use super::database::Database;
use crate::clock::Moment;
use crate::error::Result;
use crate::ledger::LedgerRow;
use crate::link::{Life, Link, LinkId, MemberIndex, Pending, Side, Standing, SyncId};
use crate::references::Awaited;
use crate::review::Review;
use crate::store::{Address, Transaction};
use rusqlite::{OptionalExtension, params};
use std::sync::Arc;

/// A transaction with its bodies made: the costly half, done by whoever submits.
pub(super) struct Encoded {
    transaction: Transaction,
    links: Vec<Vec<u8>>,
    pending: Vec<Option<Vec<u8>>>,
    opened: Vec<Vec<u8>>,
    ledger: Vec<Vec<u8>>,
    reviews: Vec<Vec<u8>>,
}

impl Encoded {
    pub(super) fn new(transaction: Transaction) -> Result<Encoded> {
        Ok(Encoded {
            links: transaction.links.iter().map(|link| encode(&**link)).collect::<Result<_>>()?,
            pending: transaction
                .pending
                .iter()
                .map(|(_, pending)| pending.as_ref().map(encode).transpose())
                .collect::<Result<_>>()?,
            opened: transaction.opened.iter().map(|flight| encode(&**flight)).collect::<Result<_>>()?,
            ledger: transaction.ledger.iter().map(ledger_body).collect::<Result<_>>()?,
            reviews: transaction.reviews.iter().map(encode).collect::<Result<_>>()?,
            transaction,
        })
    }
}

/// What of a ledger row is not in columns of its own.
fn ledger_body(row: &LedgerRow) -> Result<Vec<u8>> {
    encode(&(row.member, &row.entry, &row.fields))
}

/// Writes a transaction.
pub(super) fn apply(database: &mut Database, encoded: &Encoded) -> Result<()> {
    let transaction = &encoded.transaction;
    positions(database, transaction)?;
    links(database, &transaction.links, &encoded.links)?;
    for id in &transaction.forgotten {
        forget(database, to_sql(id.0)?)?;
    }
    keys(database, &transaction.keys)?;
    pending(database, &transaction.pending, &encoded.pending)?;
    owed(database, &transaction.owed)?;
    waits(database, &transaction.waits)?;
    reservations(database, &transaction.reservations)?;
    flights(database, transaction, &encoded.opened)?;
    ledger(database, &transaction.ledger, &encoded.ledger)?;
    reviews(database, &transaction.reviews, &encoded.reviews)?;
    closed_reviews(database, transaction)?;
    settings(database, &transaction.settings)
}

/// The number of a sync, given out if there is none.
pub(super) fn sync_id(database: &mut Database, name: &str) -> Result<SyncId> {
    if let Some(id) = super::reads::known_sync(database, name)? {
        return Ok(id);
    }
    let id: i64 = database
        .connection
        .prepare_cached("INSERT INTO syncs (name) VALUES (?1) RETURNING id")?
        .query_row([name], |row| row.get(0))?;
    Ok(SyncId(from_sql(id)?))
}

fn positions(database: &Database, transaction: &Transaction) -> Result<()> {
    if transaction.positions.is_empty() {
        return Ok(());
    }
    let mut put = database.connection.prepare_cached(
        "INSERT INTO positions (system, feed, position) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET position = excluded.position",
    )?;
    for (system, feed, position) in &transaction.positions {
        put.execute(params![system.as_str(), feed.as_str(), position.0])?;
    }
    Ok(())
}

fn links(database: &mut Database, links: &[Arc<Link>], bodies: &[Vec<u8>]) -> Result<()> {
    if links.is_empty() {
        return Ok(());
    }
    let Database { connection, counters, .. } = database;
    // Update or insert rather than an upsert: links, and those that are alive, are counted here, and indexes stay untouched.
    let mut update = connection.prepare_cached("UPDATE links SET expires_from = ?2, body = ?3 WHERE id = ?1 AND live = ?4")?;
    let mut turn = connection.prepare_cached("UPDATE links SET expires_from = ?2, body = ?3, live = ?4 WHERE id = ?1")?;
    let mut insert =
        connection.prepare_cached("INSERT INTO links (id, sync, expires_from, body, live) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for (link, body) in links.iter().zip(bodies) {
        let id = to_sql(link.id.0)?;
        let expires_from = expires_from(link).map(Moment::micros);
        let (sync, live) = (i64::from(link.sync.0), link.life == Life::Live);
        if id <= counters.highest(Counter::LastLink) {
            if update.execute(params![id, expires_from, body, live])? > 0 {
                continue;
            }
            if turn.execute(params![id, expires_from, body, live])? > 0 {
                counters.add(Counter::Live, sync, 0, if live { 1 } else { -1 });
                continue;
            }
        }
        insert.execute(params![id, sync, expires_from, body, live])?;
        counters.add(Counter::Links, sync, 0, 1);
        counters.add(Counter::Live, sync, 0, i64::from(live));
        counters.raise(Counter::LastLink, id);
    }
    Ok(())
}

/// From when on the age of a link counts: a tombstone that owes nothing, flies nowhere, waits for nobody and has no record
/// left. Any other link still has work to do, whatever its age: one whose record is still there, marked as deleted or left
/// where it was, would be a stranger without it and come back to life; a detached one keeps its members' records apart for
/// as long as they are.
pub(super) fn expires_from(link: &Link) -> Option<Moment> {
    let is_there = |side: &Side| matches!(side.standing, Standing::Present | Standing::Marked);
    let is_settled = |side: &Side| !is_there(side) && !side.is_owing() && side.flight.is_none() && side.blocked.is_none();
    match link.life {
        Life::Deleted { at, .. } if link.held.is_none() && link.sides.iter().all(is_settled) => Some(at),
        Life::Deleted { .. } | Life::Live | Life::Detached { .. } => None,
    }
}

/// Removes a link, the keys that point at it and what it owes.
pub(super) fn forget(database: &mut Database, id: i64) -> Result<()> {
    let Database { connection, counters, .. } = database;
    let forgotten: Option<(i64, bool)> = connection
        .prepare_cached("DELETE FROM links WHERE id = ?1 RETURNING sync, live")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let sync = forgotten.map(|(sync, _)| sync);
    if let Some((sync, live)) = forgotten {
        counters.add(Counter::Links, sync, 0, -1);
        counters.add(Counter::Live, sync, 0, -i64::from(live));
    }
    connection.prepare_cached("DELETE FROM keys WHERE link = ?1")?.execute([id])?;
    let mut debts = connection.prepare_cached("DELETE FROM owed WHERE link = ?1 RETURNING sync, member")?;
    let mut rows = debts.query([id])?;
    while let Some(row) = rows.next()? {
        counters.add(Counter::Owed, row.get(0)?, row.get(1)?, -1);
    }
    drop(rows);
    drop(debts);
    sync.map_or(Ok(()), |sync| wait_no_longer(database, sync, id))
}

/// Removes what a link waits for.
fn wait_no_longer(database: &mut Database, sync: i64, link: i64) -> Result<()> {
    let Database { connection, counters, .. } = database;
    let removed = connection.prepare_cached("DELETE FROM waits WHERE sync = ?1 AND link = ?2")?.execute([sync, link])?;
    counters.add(Counter::Waiting, sync, 0, -i64::from(removed > 0));
    Ok(())
}

fn keys(database: &Database, keys: &[(Address, Option<LinkId>)]) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    // A key that stays where it is touches neither table nor index.
    let mut put = database.connection.prepare_cached(
        "INSERT INTO keys (sync, member, key, link) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET link = excluded.link WHERE link <> excluded.link",
    )?;
    let mut take = database.connection.prepare_cached("DELETE FROM keys WHERE sync = ?1 AND member = ?2 AND key = ?3")?;
    for (address, link) in keys {
        let member = to_sql(address.member)?;
        match link {
            Some(link) => put.execute(params![address.sync.0, member, address.key, to_sql(link.0)?])?,
            None => take.execute(params![address.sync.0, member, address.key])?,
        };
    }
    Ok(())
}

fn pending(database: &mut Database, pending: &[(Address, Option<Pending>)], bodies: &[Option<Vec<u8>>]) -> Result<()> {
    if pending.is_empty() {
        return Ok(());
    }
    let Database { connection, counters, .. } = database;
    let mut insert = connection
        .prepare_cached("INSERT INTO pending (sync, member, key, body) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING")?;
    let mut update = connection.prepare_cached("UPDATE pending SET body = ?4 WHERE sync = ?1 AND member = ?2 AND key = ?3")?;
    let mut clear = connection.prepare_cached("DELETE FROM pending WHERE sync = ?1 AND member = ?2 AND key = ?3")?;
    for ((address, _), body) in pending.iter().zip(bodies) {
        let (sync, member, key) = (i64::from(address.sync.0), to_sql(address.member)?, &address.key);
        let more = match body {
            Some(body) if insert.execute(params![sync, member, key, body])? > 0 => 1,
            Some(body) => {
                update.execute(params![sync, member, key, body])?;
                0
            }
            None if clear.execute(params![sync, member, key])? > 0 => -1,
            None => 0,
        };
        counters.add(Counter::Pending, sync, member, more);
    }
    Ok(())
}

fn owed(database: &mut Database, owed: &[(SyncId, MemberIndex, LinkId, Option<Moment>)]) -> Result<()> {
    if owed.is_empty() {
        return Ok(());
    }
    let Database { connection, counters, .. } = database;
    let mut insert =
        connection.prepare_cached("INSERT INTO owed (link, member, sync, due) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING")?;
    let mut update = connection.prepare_cached("UPDATE owed SET due = ?3 WHERE link = ?1 AND member = ?2")?;
    let mut clear = connection.prepare_cached("DELETE FROM owed WHERE link = ?1 AND member = ?2")?;
    for (sync, member, link, due) in owed {
        let (sync, member, link) = (i64::from(sync.0), to_sql(*member)?, to_sql(link.0)?);
        let more = match due {
            Some(due) if insert.execute(params![link, member, sync, due.micros()])? > 0 => 1,
            Some(due) => {
                update.execute(params![link, member, due.micros()])?;
                0
            }
            None if clear.execute(params![link, member])? > 0 => -1,
            None => 0,
        };
        counters.add(Counter::Owed, sync, member, more);
    }
    Ok(())
}

fn waits(database: &mut Database, waits: &[(SyncId, LinkId, Vec<Awaited>)]) -> Result<()> {
    for (sync, link, awaited) in waits {
        let (sync, link) = (i64::from(sync.0), to_sql(link.0)?);
        wait_no_longer(database, sync, link)?;
        let mut put = database.connection.prepare_cached("INSERT INTO waits (awaited, link, sync) VALUES (?1, ?2, ?3)")?;
        for awaited in awaited {
            put.execute(params![awaited.encode(), link, sync])?;
        }
        database.counters.add(Counter::Waiting, sync, 0, i64::from(!awaited.is_empty()));
    }
    Ok(())
}

fn reservations(database: &Database, reservations: &[(SyncId, Vec<u8>, Option<LinkId>)]) -> Result<()> {
    if reservations.is_empty() {
        return Ok(());
    }
    let mut put = database.connection.prepare_cached(
        "INSERT INTO reservations (sync, value, link) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET link = excluded.link",
    )?;
    let mut clear = database.connection.prepare_cached("DELETE FROM reservations WHERE sync = ?1 AND value = ?2")?;
    for (sync, value, link) in reservations {
        match link {
            Some(link) => put.execute(params![sync.0, value, to_sql(link.0)?])?,
            None => clear.execute(params![sync.0, value])?,
        };
    }
    Ok(())
}

fn flights(database: &mut Database, transaction: &Transaction, bodies: &[Vec<u8>]) -> Result<()> {
    if transaction.opened.is_empty() && transaction.closed.is_empty() {
        return Ok(());
    }
    let Database { connection, counters, .. } = database;
    let mut put = connection
        .prepare_cached("INSERT INTO flights (id, body) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET body = excluded.body")?;
    for (flight, body) in transaction.opened.iter().zip(bodies) {
        let id = to_sql(flight.id.0)?;
        put.execute(params![id, body])?;
        counters.raise(Counter::LastFlight, id);
    }
    let mut close = connection.prepare_cached("DELETE FROM flights WHERE id = ?1")?;
    for id in &transaction.closed {
        close.execute([to_sql(id.0)?])?;
    }
    Ok(())
}

fn ledger(database: &mut Database, ledger: &[LedgerRow], bodies: &[Vec<u8>]) -> Result<()> {
    if ledger.is_empty() {
        return Ok(());
    }
    let Database { connection, counters, .. } = database;
    let mut insert = connection.prepare_cached("INSERT INTO ledger (at, sync, link, key, body) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for (row, body) in ledger.iter().zip(bodies) {
        let link = row.link.map(|link| to_sql(link.0)).transpose()?;
        insert.execute(params![row.at.micros(), row.sync.0, link, row.key, body])?;
        counters.add(Counter::Ledger, i64::from(row.sync.0), 0, 1);
    }
    Ok(())
}

fn reviews(database: &mut Database, reviews: &[Review], bodies: &[Vec<u8>]) -> Result<()> {
    if reviews.is_empty() {
        return Ok(());
    }
    let Database { connection, counters, .. } = database;
    let mut was_open = connection.prepare_cached("SELECT sync FROM reviews WHERE id = ?1 AND closed IS NULL")?;
    let mut put = connection.prepare_cached(
        "INSERT INTO reviews (id, sync, link, opened, closed, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT DO UPDATE SET sync = excluded.sync, link = excluded.link, opened = excluded.opened,
             closed = excluded.closed, body = excluded.body",
    )?;
    for (review, body) in reviews.iter().zip(bodies) {
        let (id, sync) = (to_sql(review.id.0)?, i64::from(review.sync.0));
        let closed = review.closed.as_ref().map(|(at, _)| at.micros());
        let link = review.link.map(|link| to_sql(link.0)).transpose()?;
        if let Some(sync) = was_open.query_row([id], |row| row.get(0)).optional()? {
            counters.add(Counter::OpenReviews, sync, 0, -1);
        }
        put.execute(params![id, sync, link, review.opened.micros(), closed, body])?;
        if closed.is_none() {
            counters.add(Counter::OpenReviews, sync, 0, 1);
        }
        counters.raise(Counter::LastReview, id);
    }
    Ok(())
}

/// Adds its end to what a review item says.
fn closed_reviews(database: &mut Database, transaction: &Transaction) -> Result<()> {
    for (id, at, how) in &transaction.closed_reviews {
        let Some(mut review) = super::reads::review(database, *id)? else { continue };
        review.closed = Some((*at, how.clone()));
        let body = encode(&review)?;
        reviews(database, std::slice::from_ref(&review), std::slice::from_ref(&body))?;
    }
    Ok(())
}

fn settings(database: &Database, settings: &[(String, Option<Vec<u8>>)]) -> Result<()> {
    if settings.is_empty() {
        return Ok(());
    }
    let mut put = database
        .connection
        .prepare_cached("INSERT INTO settings (name, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value")?;
    let mut clear = database.connection.prepare_cached("DELETE FROM settings WHERE name = ?1")?;
    for (name, value) in settings {
        match value {
            Some(value) => put.execute(params![name, value])?,
            None => clear.execute([name])?,
        };
    }
    Ok(())
}
