//! Indexes that the first load of an empty table does without: dropped when their definitions are kept, in one transaction, and
//! built again behind the load, each in the transaction that forgets its definition. Whatever happens in between, a definition
//! is either in the schema or in our table. Those of constraints are never touched: they cannot be made by themselves.

use super::capture::writing;
use super::errors::{classify, is_not_understood};
use super::mirror::{Whose, with_room};
use super::schema::{Table, quoted};
use concord_engine::error::{Class, Code, Error, Result};
use concord_engine::record::FieldName;
use rusqlite::{Connection, params};
use std::collections::BTreeSet;

/// Indexes that somebody made by a statement of its own.
const MADE: &str = "SELECT s.name, s.sql, l.\"unique\", l.partial FROM sqlite_schema AS s JOIN pragma_index_list(?1) AS l ON l.name = s.name \
     WHERE s.type = 'index' AND s.sql IS NOT NULL ORDER BY s.name";
/// Those of a sync, and those of a table, whichever sync set them aside: it may have another name by now, or another store.
const KEPT: &str = "SELECT name, on_table, definition FROM _concord_indexes WHERE sync = ?1 OR on_table = ?2 ORDER BY name";

/// An index that a load can do without.
struct Spare {
    name: String,
    definition: String,
}

/// Those of a table. A unique one is among them only where the source keeps the same fields unique, and the table has another key.
fn spare(connection: &Connection, table: &Table, unique: &[Vec<FieldName>]) -> Result<Vec<Spare>> {
    let doing = format!("looking at the indexes of {}", table.name);
    let at_source: Vec<BTreeSet<&str>> = unique.iter().map(|set| set.iter().map(FieldName::as_str).collect()).collect();
    let key: BTreeSet<&str> = table.key_columns().map(|column| column.name.as_str()).collect();
    (|| {
        let mut statement = connection.prepare_cached(MADE)?;
        let mut rows = statement.query([&table.name])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let spare = Spare { name: row.get(0)?, definition: row.get(1)? };
            let (is_unique, is_partial): (bool, bool) = (row.get(2)?, row.get(3)?);
            if is_unique {
                let columns = plain_columns(connection, &spare.name)?.filter(|_| !is_partial);
                let set: Option<BTreeSet<&str>> = columns.as_ref().map(|names| names.iter().map(String::as_str).collect());
                if !set.is_some_and(|set| set != key && at_source.contains(&set)) {
                    continue;
                }
            }
            found.push(spare);
        }
        Ok(found)
    })()
    .map_err(|error| classify(error, &doing))
}

/// The columns of an index that compares nothing but them, byte by byte.
fn plain_columns(connection: &Connection, index: &str) -> rusqlite::Result<Option<Vec<String>>> {
    let mut statement =
        connection.prepare_cached("SELECT name, coll FROM pragma_index_xinfo(?1) WHERE key = 1 ORDER BY seqno")?;
    let columns = statement.query_map([index], |row| Ok((row.get::<_, Option<String>>(0)?, row.get::<_, String>(1)?)))?;
    let columns = columns.collect::<rusqlite::Result<Vec<_>>>()?;
    let plain = |(name, collation): (Option<String>, String)| name.filter(|_| collation.eq_ignore_ascii_case("BINARY"));
    Ok(columns.into_iter().map(plain).collect())
}

/// Whether a table holds no record.
pub(super) fn is_empty(connection: &Connection, table: &Table) -> Result<bool> {
    connection
        .query_row(&format!("SELECT NOT EXISTS (SELECT 1 FROM {})", quoted(&table.name)), [], |row| row.get(0))
        .map_err(|error| classify(error, &format!("looking whether {} is empty", table.name)))
}

/// How many records a table holds.
pub(super) fn count(connection: &Connection, table: &Table) -> Result<u64> {
    connection
        .query_row(&format!("SELECT count(*) FROM {}", quoted(&table.name)), [], |row| row.get::<_, i64>(0))
        .map(|count| u64::try_from(count).unwrap_or(0))
        .map_err(|error| classify(error, &format!("counting {}", table.name)))
}

/// The names of those of a table that holds no record.
pub(super) fn names(connection: &Connection, table: &Table, unique: &[Vec<FieldName>]) -> Result<Vec<String>> {
    match is_empty(connection, table)? {
        true => Ok(spare(connection, table, unique)?.into_iter().map(|index| index.name).collect()),
        false => Ok(Vec::new()),
    }
}

/// Keeps the definitions and drops the indexes.
pub(super) fn set_aside(connection: &Connection, whose: &Whose, table: &Table, unique: &[Vec<FieldName>]) -> Result<()> {
    let failed = |error| classify(error, &format!("setting the indexes of {} aside", table.name));
    writing(connection, |connection| {
        whose.check(connection)?;
        // Nobody writes between the look and the drop.
        if !is_empty(connection, table)? {
            return Ok(());
        }
        for Spare { name, definition } in spare(connection, table, unique)? {
            connection
                .execute(
                    "INSERT INTO _concord_indexes (name, sync, on_table, definition) VALUES (?1, ?2, ?3, ?4) \
                     ON CONFLICT (name) DO UPDATE SET sync = excluded.sync, on_table = excluded.on_table, \
                     definition = excluded.definition",
                    params![name, whose.sync, table.name, definition],
                )
                .map_err(failed)?;
            connection.execute_batch(&format!("DROP INDEX {}", quoted(&name))).map_err(failed)?;
            tracing::info!(sync = whose.sync, index = name, "an index is set aside while the table is loaded");
        }
        Ok(())
    })
}

/// Builds what was set aside for a sync, or of its table. Without `whose`: whoever has the sync, for it is let go of.
pub(super) fn build(connection: &Connection, sync: &str, table: Option<&Table>, whose: Option<&Whose>) -> Result<()> {
    let on = table.map(|table| table.name.as_str());
    let kept = (|| {
        let mut statement = connection.prepare_cached(KEPT)?;
        let kept = statement.query_map(params![sync, on], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        kept.collect::<rusqlite::Result<Vec<(String, String, String)>>>()
    })();
    let kept = match kept {
        // Nothing of ours is in the file: nothing was set aside.
        Err(error) if is_not_understood(&error) => Vec::new(),
        kept => kept.map_err(|error| classify(error, "looking which indexes were set aside"))?,
    };
    for (name, on_table, definition) in kept {
        let built = with_room(connection, |connection| {
            writing(connection, |connection| {
                whose.map_or(Ok(()), |whose| whose.check(connection))?;
                build_one(connection, &name, &on_table, &definition)
            })
        });
        built.map_err(|error| match error.class() {
            Class::Transient if error.code != Code::ProtocolViolation => error,
            _ => {
                let message = format!(
                    "the index {name} cannot be built again: {}. It is kept in _concord_indexes: {definition}",
                    error.message
                );
                Error { code: Code::IndexNotBuilt, message, ..error }
            }
        })?;
    }
    Ok(())
}

fn build_one(connection: &Connection, name: &str, on_table: &str, definition: &str) -> Result<()> {
    let failed = |error| classify(error, &format!("building the index {name}"));
    let is_there = |kind: &str, name: &str| {
        let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = ?1 AND name = ?2 COLLATE NOCASE)";
        connection.query_row(sql, [kind, name], |row| row.get::<_, bool>(0)).map_err(failed)
    };
    // Where the table has gone, or somebody has built it, nothing is left to do.
    if is_there("table", on_table)? && !is_there("index", name)? {
        connection.execute_batch(definition).map_err(failed)?;
        tracing::info!(index = name, "an index that was set aside is built");
    }
    connection.execute("DELETE FROM _concord_indexes WHERE name = ?1", [name]).map(drop).map_err(failed)
}
