//! What the store answers. Every read goes by a primary key or an index, and is bounded by what was asked.
//! Changes nothing.

use super::body::{decode, from_sql, limit, to_sql};
use super::counters::{Counter, Counters};
use super::database::Database;
use crate::change::Position;
use crate::clock::Moment;
use crate::error::Result;
use crate::flight::Flight;
use crate::ledger::LedgerRow;
use crate::link::{Link, LinkId, MemberIndex, Pending, ReviewId, SyncId};
use crate::record::{FeedName, SystemName};
use crate::references::Awaited;
use crate::review::Review;
use crate::store::{Address, Counts, Identity, LedgerQuery, LinkState, Lookup, Recalled};
use rusqlite::{CachedStatement, OptionalExtension, Params, Row, params};
use serde::de::DeserializeOwned;
use std::cmp::Ordering;
use std::sync::Arc;

pub(super) fn identity(database: &mut Database) -> Result<Identity> {
    let store =
        database.connection.prepare_cached("SELECT value FROM meta WHERE name = 'store'")?.query_row([], |row| row.get(0))?;
    Ok(Identity {
        store,
        last_link: from_sql(database.counters.highest(Counter::LastLink))?,
        last_flight: from_sql(database.counters.highest(Counter::LastFlight))?,
        last_review: from_sql(database.counters.highest(Counter::LastReview))?,
    })
}

/// The number of a sync, if one was given out.
pub(super) fn known_sync(database: &mut Database, name: &str) -> Result<Option<SyncId>> {
    let id: Option<i64> = database
        .connection
        .prepare_cached("SELECT id FROM syncs WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    id.map(|id| Ok(SyncId(from_sql(id)?))).transpose()
}

pub(super) fn positions(database: &mut Database) -> Result<Vec<(SystemName, FeedName, Position)>> {
    let mut select = database.connection.prepare_cached("SELECT system, feed, position FROM positions ORDER BY system, feed")?;
    collect(&mut select, [], |row| {
        let (system, feed): (String, String) = (row.get(0)?, row.get(1)?);
        Ok((SystemName::from(system), FeedName::from(feed), Position(row.get(2)?)))
    })
}

pub(super) fn lookup(database: &mut Database, addresses: &[Address]) -> Result<Vec<Lookup>> {
    let mut owner = owner_by_address(database)?;
    let mut pending = pending_by_address(database)?;
    addresses.iter().map(|address| look_up(&database.counters, &mut owner, &mut pending, address)).collect()
}

pub(super) fn links(database: &mut Database, ids: &[LinkId]) -> Result<Vec<LinkState>> {
    let mut select = database.connection.prepare_cached("SELECT body FROM links WHERE id = ?1")?;
    let mut pending = pending_by_address(database)?;
    let mut states = Vec::with_capacity(ids.len());
    for id in ids {
        let Some(link) = one_body::<Link>(&mut select, [to_sql(id.0)?])? else { continue };
        let mut shown = Vec::with_capacity(link.sides.len());
        for (member, side) in link.sides.iter().enumerate() {
            shown.push(match &side.key {
                Some(key) => one_body(&mut pending, params![link.sync.0, to_sql(member)?, key.encode()])?,
                None => None,
            });
        }
        states.push(LinkState { link, pending: shown });
    }
    Ok(states)
}

pub(super) fn recall(database: &mut Database, addresses: Vec<Address>, ids: Vec<LinkId>) -> Result<Recalled> {
    let mut owner = owner_by_address(database)?;
    let mut pending = pending_by_address(database)?;
    let mut link_body = database.connection.prepare_cached("SELECT body FROM links WHERE id = ?1")?;
    let mut recalled = Recalled::default();
    let (mut addresses, mut ids) = (addresses, ids);
    // Keys lead to links and links to keys: at most two turns, but for a key that is another link's.
    while !addresses.is_empty() || !ids.is_empty() {
        for address in std::mem::take(&mut addresses) {
            if recalled.slots.contains_key(&address) {
                continue;
            }
            let lookup = look_up(&database.counters, &mut owner, &mut pending, &address)?;
            ids.extend(lookup.link);
            recalled.slots.insert(address, lookup);
        }
        for id in std::mem::take(&mut ids) {
            if recalled.links.contains_key(&id) {
                continue;
            }
            let Some(link) = one_body::<Link>(&mut link_body, [to_sql(id.0)?])? else { continue };
            for (member, side) in link.sides.iter().enumerate() {
                addresses.extend(side.key.as_ref().map(|key| Address { sync: link.sync, member, key: key.encode() }));
            }
            recalled.links.insert(id, Arc::new(link));
        }
    }
    Ok(recalled)
}

/// Where nothing at all is pending of a member, as mostly, its table is not asked.
fn look_up(
    counters: &Counters,
    owner: &mut CachedStatement<'_>,
    pending: &mut CachedStatement<'_>,
    address: &Address,
) -> Result<Lookup> {
    let place = params![address.sync.0, to_sql(address.member)?, address.key];
    let link: Option<i64> = owner.query_row(place, |row| row.get(0)).optional()?;
    let nothing = counters.has_none(Counter::Pending, address.sync, address.member)?;
    Ok(Lookup {
        link: link.map(|link| from_sql(link).map(LinkId)).transpose()?,
        pending: if nothing { None } else { one_body(pending, place)? },
    })
}

pub(super) fn scan_links(database: &mut Database, sync: SyncId, after: LinkId, rows: usize) -> Result<Vec<Link>> {
    let mut select = database
        .connection
        .prepare_cached("SELECT body FROM links INDEXED BY links_by_sync WHERE sync = ?1 AND id > ?2 ORDER BY id LIMIT ?3")?;
    bodies(&mut select, params![sync.0, to_sql(after.0)?, limit(rows)])
}

pub(super) fn scan_pending(
    database: &mut Database,
    sync: SyncId,
    after: Option<&Address>,
    rows: usize,
) -> Result<Vec<(Address, Pending)>> {
    // Addresses of one sync lie together: one behind all of them ends the scan, one before them begins it.
    let (member, key): (i64, &[u8]) = match after.map(|after| (after.sync.cmp(&sync), after)) {
        Some((Ordering::Greater, _)) => return Ok(Vec::new()),
        Some((Ordering::Equal, after)) => (to_sql(after.member)?, &after.key),
        Some((Ordering::Less, _)) | None => (-1, &[]),
    };
    let mut select = database.connection.prepare_cached(
        "SELECT member, key, body FROM pending WHERE sync = ?1 AND (member, key) > (?2, ?3) ORDER BY member, key LIMIT ?4",
    )?;
    collect(&mut select, params![sync.0, member, key, limit(rows)], |row| {
        let address = Address { sync, member: from_sql(row.get(0)?)?, key: row.get(1)? };
        Ok((address, body(row, 2)?))
    })
}

pub(super) fn owed(database: &mut Database, sync: SyncId, member: MemberIndex, due: Moment, rows: usize) -> Result<Vec<LinkId>> {
    let mut select = database
        .connection
        .prepare_cached("SELECT link FROM owed WHERE sync = ?1 AND member = ?2 AND due <= ?3 ORDER BY due, link LIMIT ?4")?;
    let place = params![sync.0, to_sql(member)?, due.micros(), limit(rows)];
    collect(&mut select, place, |row| Ok(LinkId(from_sql(row.get(0)?)?)))
}

pub(super) fn next_owed(database: &mut Database, sync: SyncId, member: MemberIndex) -> Result<Option<Moment>> {
    let due: Option<i64> = database
        .connection
        .prepare_cached("SELECT min(due) FROM owed WHERE sync = ?1 AND member = ?2")?
        .query_row(params![sync.0, to_sql(member)?], |row| row.get(0))?;
    Ok(due.map(Moment))
}

pub(super) fn waiting(database: &mut Database, awaited: &Awaited, after: LinkId, rows: usize) -> Result<Vec<LinkId>> {
    let mut select =
        database.connection.prepare_cached("SELECT link FROM waits WHERE awaited = ?1 AND link > ?2 ORDER BY link LIMIT ?3")?;
    let place = params![awaited.encode(), to_sql(after.0)?, limit(rows)];
    collect(&mut select, place, |row| Ok(LinkId(from_sql(row.get(0)?)?)))
}

pub(super) fn scan_waiting(database: &mut Database, sync: SyncId, after: LinkId, rows: usize) -> Result<Vec<LinkId>> {
    let mut select = database
        .connection
        .prepare_cached("SELECT DISTINCT link FROM waits WHERE sync = ?1 AND link > ?2 ORDER BY link LIMIT ?3")?;
    let place = params![sync.0, to_sql(after.0)?, limit(rows)];
    collect(&mut select, place, |row| Ok(LinkId(from_sql(row.get(0)?)?)))
}

pub(super) fn waits_of(database: &mut Database, sync: SyncId, link: LinkId) -> Result<Vec<Awaited>> {
    let mut select =
        database.connection.prepare_cached("SELECT awaited FROM waits WHERE sync = ?1 AND link = ?2 ORDER BY awaited")?;
    let found = collect(&mut select, params![sync.0, to_sql(link.0)?], |row| {
        let bytes: Vec<u8> = row.get(0)?;
        Ok(Awaited::decode(&bytes))
    })?;
    Ok(found.into_iter().flatten().collect())
}

pub(super) fn reserved(database: &mut Database, sync: SyncId, values: &[Vec<u8>]) -> Result<Vec<Option<LinkId>>> {
    let mut select = database.connection.prepare_cached("SELECT link FROM reservations WHERE sync = ?1 AND value = ?2")?;
    let mut holders = Vec::with_capacity(values.len());
    for value in values {
        let link: Option<i64> = select.query_row(params![sync.0, value], |row| row.get(0)).optional()?;
        holders.push(link.map(|link| from_sql(link).map(LinkId)).transpose()?);
    }
    Ok(holders)
}

pub(super) fn flights(database: &mut Database) -> Result<Vec<Flight>> {
    bodies(&mut database.connection.prepare_cached("SELECT body FROM flights ORDER BY id")?, [])
}

pub(super) fn setting(database: &mut Database, name: &str) -> Result<Option<Vec<u8>>> {
    let mut select = database.connection.prepare_cached("SELECT value FROM settings WHERE name = ?1")?;
    Ok(select.query_row([name], |row| row.get(0)).optional()?)
}

pub(super) fn settings(database: &mut Database, prefix: &str) -> Result<Vec<(String, Vec<u8>)>> {
    settings_after(database, prefix, None, usize::MAX)
}

pub(super) fn settings_after(
    database: &mut Database,
    prefix: &str,
    after: Option<&str>,
    most: usize,
) -> Result<Vec<(String, Vec<u8>)>> {
    let mut select = database
        .connection
        .prepare_cached("SELECT name, value FROM settings WHERE name >= ?1 AND name IS NOT ?2 ORDER BY name LIMIT ?3")?;
    let mut rows = select.query(params![after.unwrap_or(prefix), after, limit(most)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        // Names that begin alike lie together.
        if !name.starts_with(prefix) {
            break;
        }
        found.push((name, row.get(1)?));
    }
    Ok(found)
}

pub(super) fn reviews(database: &mut Database, sync: Option<SyncId>, open_only: bool, rows: usize) -> Result<Vec<Review>> {
    let mut query = String::from("SELECT body FROM reviews WHERE TRUE");
    if sync.is_some() {
        query.push_str(" AND sync = ?1");
    }
    if open_only {
        query.push_str(" AND closed IS NULL");
    }
    query.push_str(" ORDER BY id DESC LIMIT ?2");
    let mut select = database.connection.prepare_cached(&query)?;
    bodies(&mut select, params![sync.map(|sync| sync.0), limit(rows)])
}

pub(super) fn open_reviews(database: &mut Database, sync: SyncId, after: ReviewId, rows: usize) -> Result<Vec<Review>> {
    let mut select = database.connection.prepare_cached(
        "SELECT body FROM reviews INDEXED BY reviews_open WHERE sync = ?1 AND closed IS NULL AND id > ?2 ORDER BY id LIMIT ?3",
    )?;
    bodies(&mut select, params![sync.0, to_sql(after.0)?, limit(rows)])
}

pub(super) fn review(database: &mut Database, id: ReviewId) -> Result<Option<Review>> {
    one_body(&mut database.connection.prepare_cached("SELECT body FROM reviews WHERE id = ?1")?, [to_sql(id.0)?])
}

pub(super) fn ledger(database: &mut Database, asked: &LedgerQuery) -> Result<Vec<LedgerRow>> {
    let mut query = String::from("SELECT at, sync, link, key, body FROM ledger WHERE TRUE");
    if asked.sync.is_some() {
        query.push_str(" AND sync = ?1");
    }
    if asked.link.is_some() {
        query.push_str(" AND link = ?2");
    }
    if asked.key.is_some() {
        query.push_str(" AND key = ?3");
    }
    query.push_str(" ORDER BY id DESC LIMIT ?4");
    let link = asked.link.map(|link| to_sql(link.0)).transpose()?;
    let mut select = database.connection.prepare_cached(&query)?;
    collect(&mut select, params![asked.sync.map(|sync| sync.0), link, asked.key, limit(asked.limit)], ledger_row)
}

fn ledger_row(row: &Row<'_>) -> Result<LedgerRow> {
    let link: Option<i64> = row.get(2)?;
    let (member, entry, fields) = body(row, 4)?;
    Ok(LedgerRow {
        at: Moment(row.get(0)?),
        sync: SyncId(from_sql(row.get(1)?)?),
        link: link.map(|link| from_sql(link).map(LinkId)).transpose()?,
        member,
        key: row.get(3)?,
        entry,
        fields,
    })
}

pub(super) fn counts(database: &mut Database, sync: SyncId) -> Result<Counts> {
    let counters = &database.counters;
    Ok(Counts {
        links: counters.of_sync(Counter::Links, sync)?,
        live: counters.of_sync(Counter::Live, sync)?,
        pending: counters.of_members(Counter::Pending, sync)?,
        owed: counters.of_members(Counter::Owed, sync)?,
        waiting: counters.of_sync(Counter::Waiting, sync)?,
        reviews: counters.of_sync(Counter::OpenReviews, sync)?,
        ledger: counters.of_sync(Counter::Ledger, sync)?,
    })
}

fn owner_by_address(database: &Database) -> Result<CachedStatement<'_>> {
    let statement = "SELECT link FROM keys WHERE sync = ?1 AND member = ?2 AND key = ?3";
    Ok(database.connection.prepare_cached(statement)?)
}

fn pending_by_address(database: &Database) -> Result<CachedStatement<'_>> {
    let statement = "SELECT body FROM pending WHERE sync = ?1 AND member = ?2 AND key = ?3";
    Ok(database.connection.prepare_cached(statement)?)
}

fn body<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<T> {
    decode(row.get_ref(column)?.as_blob().map_err(rusqlite::Error::from)?)
}

pub(super) fn one_body<T: DeserializeOwned>(select: &mut CachedStatement<'_>, place: impl Params) -> Result<Option<T>> {
    let mut rows = select.query(place)?;
    rows.next()?.map(|row| body(row, 0)).transpose()
}

fn bodies<T: DeserializeOwned>(select: &mut CachedStatement<'_>, place: impl Params) -> Result<Vec<T>> {
    collect(select, place, |row| body(row, 0))
}

fn collect<T>(select: &mut CachedStatement<'_>, place: impl Params, make: impl Fn(&Row<'_>) -> Result<T>) -> Result<Vec<T>> {
    let mut rows = select.query(place)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(make(row)?);
    }
    Ok(found)
}
