//! The target of mirror syncs: their progress in tables of ours, in the transaction of the data. A fence number makes sure
//! that only who took a sync over last can still commit, and only behind what it committed before: its upper half rises
//! with every taking over, its lower half with every commit, so that a file put back from a copy is noticed.
//!
//! A file has one writer. Everything here is done by the one connection of ours that writes, one thing after the other:
//! loads that are called side by side wait for each other there, and never for a lock.
//!
//! Commits of changes do not wait for the disk where the file has a write-ahead log: in it they reach the disk in their
//! order, the progress with them. Everything else waits.

use super::asking::{Asking, Rows, asking, rows};
use super::capture::writing;
use super::client::{self, Client};
use super::errors::{classify, is_not_understood};
use super::schema::Table;
use super::steps::Writer;
use super::{indexes, shape};
use async_trait::async_trait;
use concord_engine::error::{Code, Error, Result};
use concord_engine::mirror::batch::Step;
use concord_engine::mirror::bulk::{Helper, MirrorSession, Piece, Taken};
use concord_engine::record::{FieldName, ObjectName};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

const MAKE: &str = "\
CREATE TABLE IF NOT EXISTS _concord_mirrors (sync TEXT PRIMARY KEY, object TEXT NOT NULL, fence INTEGER NOT NULL, progress BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _concord_loaded (sync TEXT, part INTEGER, PRIMARY KEY (sync, part)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _concord_indexes (name TEXT PRIMARY KEY, sync TEXT NOT NULL, on_table TEXT NOT NULL,
                                             definition TEXT NOT NULL) WITHOUT ROWID;
";
const DROP: &str = "\
DROP TABLE IF EXISTS _concord_mirrors;
DROP TABLE IF EXISTS _concord_loaded;
DROP TABLE IF EXISTS _concord_indexes;
";
const TAKE_OVER: &str = "INSERT INTO _concord_mirrors (sync, object, fence) VALUES (?1, ?2, 1 << 32) \
    ON CONFLICT (sync) DO UPDATE SET fence = ((fence >> 32) + 1) << 32, object = excluded.object RETURNING fence, progress";
const CHECK: &str = "SELECT 1 FROM _concord_mirrors WHERE sync = ?1 AND fence = ?2";
const KEEP: &str = "UPDATE _concord_mirrors SET progress = ?3, fence = fence + 1 WHERE sync = ?1 AND fence = ?2";
/// What stands before it in the log reaches the disk with it; what changes nothing would not be written there.
const SETTLE: &str = "UPDATE _concord_mirrors SET fence = fence + 1 WHERE sync = ?1 AND fence = ?2";
/// Pages in memory while much is written at once, in KiB; negative, as SQLite has it. A load into an index in no order would
/// write each page many times over otherwise.
const ROOM: i64 = -65_536;
/// Tables whose foreign keys make records wait for others: those of this table, and those of others that name it.
const REFERS: &str = "SELECT EXISTS (SELECT 1 FROM pragma_foreign_key_list(?1)) OR EXISTS (SELECT 1 FROM sqlite_schema AS s \
    JOIN pragma_foreign_key_list(s.name) AS f WHERE s.type = 'table' AND f.\"table\" = ?1 COLLATE NOCASE)";
/// Columns of unique indexes, with how these compare them.
const COMPARED: &str = "SELECT x.name, x.coll FROM pragma_index_list(?1) AS l JOIN pragma_index_xinfo(l.name) AS x \
    WHERE l.\"unique\" AND x.key = 1 AND x.name IS NOT NULL AND x.coll <> 'BINARY' COLLATE NOCASE";

/// Why a table cannot be mirrored into, if it cannot.
pub(super) fn objection(connection: &Connection, object: &ObjectName) -> Result<Option<String>> {
    let table = shape::any_table(connection, object)?;
    let doing = format!("looking whether {object} can be mirrored into");
    let failed = |error| classify(error, &doing);
    let refers: bool = connection.query_row(REFERS, [&table.name], |row| row.get(0)).map_err(failed)?;
    if refers {
        return Ok(Some(format!(
            "records of {object} refer to others, or others to them: foreign keys give an order that one table's log has not"
        )));
    }
    if let Some(column) = compared_loosely(connection, &table).map_err(failed)? {
        return Ok(Some(format!(
            "the key's column `{column}` of {object} is compared by another collation than BINARY, by which two records can have one key"
        )));
    }
    definitions(connection, &table).map_err(failed)
}

/// A column of the key by which two keys that differ may be one.
fn compared_loosely(connection: &Connection, table: &Table) -> rusqlite::Result<Option<String>> {
    let mut statement = connection.prepare_cached(COMPARED)?;
    let mut rows = statement.query([&table.name])?;
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        if table.key_columns().any(|column| column.name == name) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// What definitions say that cannot be gone along with: a record that is refused must leave everything else as it is.
fn definitions(connection: &Connection, table: &Table) -> rusqlite::Result<Option<String>> {
    let mut statement = connection
        .prepare_cached("SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema WHERE type IN ('table', 'trigger')")?;
    let mut rows = statement.query([])?;
    let (mut has_triggers, mut deferred, mut undoes) = (false, None, None);
    while let Some(row) = rows.next()? {
        let (kind, name, on, text): (String, String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        let is_its = on.eq_ignore_ascii_case(&table.name);
        let words = words(&text);
        match kind.as_str() {
            "trigger" if name.starts_with("_concord_") && is_its => {
                return Ok(Some(format!(
                    "changes of {} are captured by triggers of ours, for another sync or one that was not released",
                    table.name
                )));
            }
            "trigger" if name.starts_with("_concord_") => {}
            "trigger" => {
                has_triggers |= is_its;
                let tells = [["RAISE", "ROLLBACK"], ["RAISE", "FAIL"], ["OR", "ROLLBACK"], ["OR", "FAIL"]];
                if tells.iter().any(|pair| says(&words, pair)) {
                    undoes = Some(name);
                }
            }
            _ if is_its && says(&words, &["ON", "CONFLICT"]) => {
                return Ok(Some(format!("{} says in its definition what is done about conflicts (ON CONFLICT)", table.name)));
            }
            _ if says(&words, &["INITIALLY", "DEFERRED"]) => deferred = Some(name),
            _ => {}
        }
    }
    Ok(match (has_triggers, undoes, deferred) {
        (true, Some(trigger), _) => Some(format!(
            "{} has triggers, and `{trigger}` may undo more than the record that it is fired for (ROLLBACK, FAIL)",
            table.name
        )),
        (true, None, Some(other)) => Some(format!(
            "{} has triggers, and foreign keys of {other} are checked at the end of transactions only (DEFERRED)",
            table.name
        )),
        _ => None,
    })
}

fn words(text: &str) -> Vec<String> {
    let apart = |letter: char| !letter.is_ascii_alphanumeric() && letter != '_';
    text.split(apart).filter(|word| !word.is_empty()).map(str::to_ascii_uppercase).collect()
}

fn says(words: &[String], pair: &[&str; 2]) -> bool {
    words.windows(2).any(|two| two.iter().eq(pair.iter()))
}

/// Takes a sync over.
pub(super) async fn take_over(writer: &Arc<Client>, sync: &str, object: &ObjectName) -> Result<Taken> {
    let (sync, object) = (sync.to_owned(), object.clone());
    let (whose, table, progress) = writer
        .run(move |connection| {
            let table = shape::any_table(connection, &object)?;
            let (fence, progress) = writing(connection, |connection| {
                connection
                    .execute_batch(MAKE)
                    .and_then(|()| {
                        connection.query_row(TAKE_OVER, params![sync, object.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
                    })
                    .map_err(|error| classify(error, "taking a sync over in its target"))
            })?;
            Ok((Whose { sync, fence: AtomicI64::new(fence) }, table, progress))
        })
        .await?;
    let session = Session { writer: Arc::clone(writer), whose: Arc::new(whose), table: Arc::new(table) };
    Ok(Taken { session: Arc::new(session), progress, lanes: Vec::new() })
}

/// The syncs whose progress is kept and whose names begin so.
pub(super) fn kept(connection: &Connection, prefix: &str) -> Result<Vec<String>> {
    let kept = (|| {
        let sql = "SELECT sync FROM _concord_mirrors WHERE substr(sync, 1, length(?1)) = ?1 ORDER BY sync";
        connection.prepare_cached(sql)?.query_map([prefix], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
    })();
    match kept {
        Err(error) if is_not_understood(&error) => Ok(Vec::new()),
        kept => kept.map_err(|error| classify(error, "looking which syncs are kept in their target")),
    }
}

/// Forgets a sync; with the last one, our tables go.
pub(super) fn forget(connection: &Connection, sync: &str) -> Result<()> {
    indexes::build(connection, sync, None, None)?;
    writing(connection, |connection| {
        (|| {
            let is_there = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '_concord_mirrors')";
            if !connection.query_row(is_there, [], |row| row.get::<_, bool>(0))? {
                return Ok(());
            }
            connection.execute("DELETE FROM _concord_loaded WHERE sync = ?1", [sync])?;
            connection.execute("DELETE FROM _concord_mirrors WHERE sync = ?1", [sync])?;
            let others = "SELECT EXISTS (SELECT 1 FROM _concord_mirrors) OR EXISTS (SELECT 1 FROM _concord_indexes)";
            match connection.query_row(others, [], |row| row.get::<_, bool>(0))? {
                true => Ok(()),
                false => connection.execute_batch(DROP),
            }
        })()
        .map_err(|error| classify(error, "forgetting a sync in its target"))
    })
}

/// Who writes for a sync: its name, and the fence as our last commit has left it.
pub(super) struct Whose {
    pub sync: String,
    fence: AtomicI64,
}

impl Whose {
    fn fence(&self) -> i64 {
        self.fence.load(Ordering::SeqCst)
    }

    /// Refuses where somebody else took the sync over, or the file is not what we left; inside a transaction that writes.
    pub fn check(&self, connection: &Connection) -> Result<()> {
        let found = connection
            .prepare_cached(CHECK)
            .and_then(|mut statement| statement.query_row(params![self.sync, self.fence()], |_| Ok(())).optional());
        fenced(found.map(|found| usize::from(found.is_some())))
    }

    /// Keeps the progress, which raises the fence of the file.
    fn keep(&self, connection: &Connection, progress: &[u8]) -> Result<()> {
        fenced(
            connection
                .prepare_cached(KEEP)
                .and_then(|mut statement| statement.execute(params![self.sync, self.fence(), progress])),
        )
    }

    /// A commit that has raised the fence stands.
    fn raised(&self) {
        self.fence.fetch_add(1, Ordering::SeqCst);
    }
}

/// Whether the row of the sync was met.
fn fenced(met: rusqlite::Result<usize>) -> Result<()> {
    let lost = || Error::new(Code::Busy, "another process has taken the sync over, or the file was put back from a copy");
    match met {
        Ok(0) => Err(lost()),
        Ok(_) => Ok(()),
        Err(error) if is_not_understood(&error) => Err(lost().because(error)),
        Err(error) => Err(classify(error, "keeping the progress of a sync")),
    }
}

/// Does something with more room for pages in memory, which is given back.
pub(super) fn with_room<T>(connection: &Connection, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
    let failed = |error| classify(error, "making room in memory");
    let before: i64 = connection.query_row("PRAGMA cache_size", [], |row| row.get(0)).map_err(failed)?;
    connection.pragma_update(None, "cache_size", ROOM).map_err(failed)?;
    let done = work(connection);
    let back = connection.pragma_update(None, "cache_size", before).map_err(failed);
    done.and_then(|done| back.map(|()| done))
}

/// Commits without waiting for the disk, where the file has a log in which nothing gets there before what was committed earlier.
fn unhurried<T>(connection: &Connection, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
    if !has_log(connection)? {
        return work(connection);
    }
    client::set_synchronous(connection, "NORMAL")?;
    let done = work(connection);
    // A transaction that could not even be undone is closed with its connection.
    let back = client::set_synchronous(connection, client::DURABLE);
    done.and_then(|done| back.map(|()| done))
}

fn has_log(connection: &Connection) -> Result<bool> {
    let mode = connection.query_row("PRAGMA journal_mode", [], |row| row.get::<_, String>(0));
    mode.map(|mode| mode.eq_ignore_ascii_case("wal")).map_err(|error| classify(error, "reading the journal mode"))
}

/// Who writes for one sync.
struct Session {
    writer: Arc<Client>,
    whose: Arc<Whose>,
    table: Arc<Table>,
}

impl Session {
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, &Whose, &Table) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (whose, table) = (Arc::clone(&self.whose), Arc::clone(&self.table));
        self.writer.run(move |connection| work(connection, &whose, &table)).await
    }
}

fn write(
    connection: &Connection,
    whose: &Whose,
    table: &Table,
    (steps, has_more): (Vec<Step>, bool),
    progress: &[u8],
    asking: &Asking,
) -> Result<()> {
    unhurried(connection, |connection| {
        writing(connection, |connection| {
            whose.keep(connection, progress)?;
            let mut writer = Writer::new(connection, table);
            asking.refused(writer.carefully(steps, asking)?)?;
            while let Some(steps) = has_more.then(|| asking.more()).transpose()?.flatten() {
                asking.refused(writer.carefully(steps, asking)?)?;
            }
            Ok(())
        })
    })?;
    whose.raised();
    Ok(())
}

fn load(connection: &Connection, whose: &Whose, table: &Table, part: u32, mut rows: Rows, asking: &Asking) -> Result<()> {
    with_room(connection, |connection| {
        writing(connection, |connection| {
            whose.check(connection)?;
            let mut writer = Writer::new(connection, table);
            while let Some(steps) = rows.next()? {
                asking.refused(writer.carefully(steps, asking)?)?;
            }
            connection
                .execute(
                    "INSERT INTO _concord_loaded (sync, part) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                    params![whose.sync, part],
                )
                .map(drop)
                .map_err(|error| classify(error, "keeping which ranges are loaded"))
        })
    })
}

#[async_trait]
impl MirrorSession for Session {
    async fn loaded(&self) -> Result<BTreeSet<u32>> {
        self.run(|connection, whose, _| {
            connection
                .prepare_cached("SELECT part FROM _concord_loaded WHERE sync = ?1")
                .and_then(|mut statement| statement.query_map([&whose.sync], |row| row.get(0))?.collect())
                .map_err(|error| classify(error, "looking which ranges are loaded"))
        })
        .await
    }

    async fn is_empty(&self) -> Result<bool> {
        self.run(|connection, _, table| indexes::is_empty(connection, table)).await
    }

    async fn count(&self) -> Result<u64> {
        self.run(|connection, _, table| indexes::count(connection, table)).await
    }

    async fn set_indexes_aside(&self, unique: &[Vec<FieldName>]) -> Result<()> {
        let unique = unique.to_vec();
        self.run(move |connection, whose, table| indexes::set_aside(connection, whose, table, &unique)).await
    }

    async fn build_indexes(&self) -> Result<()> {
        self.run(|connection, whose, table| indexes::build(connection, &whose.sync, Some(table), Some(whose))).await
    }

    async fn keep(&self, progress: &[u8], anew: bool) -> Result<()> {
        let progress = progress.to_vec();
        self.run(move |connection, whose, _| {
            writing(connection, |connection| {
                whose.keep(connection, &progress)?;
                if anew {
                    connection
                        .execute("DELETE FROM _concord_loaded WHERE sync = ?1", [&whose.sync])
                        .map_err(|error| classify(error, "forgetting which ranges are loaded"))?;
                }
                Ok(())
            })?;
            whose.raised();
            Ok(())
        })
        .await
    }

    async fn settle(&self) -> Result<()> {
        self.run(|connection, whose, _| {
            // Without a log every commit has waited for the disk.
            if !has_log(connection)? {
                return whose.check(connection);
            }
            writing(connection, |connection| {
                let settled = connection.prepare_cached(SETTLE);
                fenced(settled.and_then(|mut statement| statement.execute(params![whose.sync, whose.fence()])))
            })?;
            whose.raised();
            Ok(())
        })
        .await
    }

    async fn write(&self, steps: &[Step], progress: &[u8], helper: &dyn Helper) -> Result<()> {
        let (ask, answering) = asking();
        let (steps, progress) = ((steps.to_vec(), helper.has_more()), progress.to_vec());
        let writing = self.run(move |connection, whose, table| write(connection, whose, table, steps, &progress, &ask));
        answering.until(writing, std::future::ready(()), helper).await
    }

    async fn takes_raw(&self, _kind: &str, _fields: &[(FieldName, String)]) -> Result<Option<Vec<Option<String>>>> {
        Ok(None)
    }

    async fn load_raw(&self, _range: u32, _fields: &[FieldName], _rows: BoxStream<'static, Result<Piece>>) -> Result<u64> {
        Err(Error::new(Code::Unsupported, "a SQLite file takes no other system's bulk format"))
    }

    async fn load(&self, range: u32, mut rows: BoxStream<'_, Result<Vec<Step>>>, helper: &dyn Helper) -> Result<()> {
        let first = rows.next().await.transpose()?;
        let ((ask, answering), (feeder, fed)) = (asking(), self::rows());
        let loading = self.run(move |connection, whose, table| load(connection, whose, table, range, fed, &ask));
        answering.until(loading, feeder.feed(first, rows), helper).await
    }
}
