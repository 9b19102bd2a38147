//! The format of the file: how a store is told from another SQLite file, and how an older format becomes the present
//! one. A migration is never changed once released; a newer format is never touched.

use super::body::decode;
use crate::error::{Code, Error, Result};
use crate::link::{Life, Link};
use rusqlite::Connection;

/// "CNRD" in the file's header.
const APPLICATION_ID: i32 = 0x434e_5244;

/// The steps from each format to the next: the first makes format 1 of an empty file.
const MIGRATIONS: &[&str] =
    &[include_str!("../migrations/0001.sql"), include_str!("../migrations/0002.sql"), include_str!("../migrations/0003.sql")];

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing is in it yet.
    Empty,
    /// A store of an older format, by its number.
    Older(usize),
    /// A store of the present format.
    Present,
}

/// Finds out what a file is, without changing it.
pub(super) fn examine(connection: &Connection) -> Result<Standing> {
    let application: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let format: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application == 0 && format == 0 && tables == 0 {
        return Ok(Standing::Empty);
    }
    if application != APPLICATION_ID {
        return Err(Error::new(Code::StoreForeign, "the file is not a store of Concord"));
    }
    match usize::try_from(format) {
        Ok(format) if format == MIGRATIONS.len() => Ok(Standing::Present),
        Ok(format) if format < MIGRATIONS.len() => Ok(Standing::Older(format)),
        _ => Err(Error::new(
            Code::StoreTooNew,
            format!("the store has the format {format}; this version knows formats up to {}", MIGRATIONS.len()),
        )),
    }
}

/// The format that tells which links are of a record that is alive.
const FORMAT_WITH_LIVE: usize = 3;

/// Notes which links are alive, as their bodies say, and how many each sync has.
fn count_the_living(connection: &Connection) -> Result<()> {
    let mut dead: Vec<i64> = Vec::new();
    {
        let mut select = connection.prepare("SELECT id, body FROM links")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let link: Link = decode(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?)?;
            dead.extend((link.life != Life::Live).then_some(row.get::<_, i64>(0)?));
        }
    }
    let mut turn = connection.prepare("UPDATE links SET live = 0 WHERE id = ?1")?;
    for id in dead {
        turn.execute([id])?;
    }
    connection.execute_batch(
        "INSERT INTO counters (name, sync, member, value) SELECT 'live', sync, 0, count(*) FROM links WHERE live = 1 GROUP BY sync",
    )?;
    Ok(())
}

/// Brings a file to the present format, each step a transaction.
pub(super) fn migrate(connection: &mut Connection, standing: Standing, identity: Option<&str>) -> Result<()> {
    let from = match standing {
        Standing::Empty => 0,
        Standing::Older(format) => format,
        Standing::Present => return Ok(()),
    };
    for (place, migration) in MIGRATIONS.iter().enumerate().skip(from) {
        let step = connection.transaction()?;
        step.execute_batch(migration)?;
        if place == 0 {
            let identity = identity.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
            step.execute("INSERT INTO meta (name, value) VALUES ('store', ?1)", [identity])?;
            step.pragma_update(None, "application_id", APPLICATION_ID)?;
        }
        if place + 1 == FORMAT_WITH_LIVE {
            count_the_living(&step)?;
        }
        step.pragma_update(None, "user_version", i64::try_from(place + 1).unwrap_or(i64::MAX))?;
        step.commit()?;
    }
    Ok(())
}
