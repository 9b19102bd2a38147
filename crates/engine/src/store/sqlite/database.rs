//! One connection and what goes with it: the open SQLite transaction, the counters, and the failure that ends all
//! writing. Knows no thread and no clock. Promises: what was not committed is never answered as done; after a failure
//! nothing more is written, and reads show what is committed.

use super::StoreOptions;
use super::counters::Counters;
use super::schema::{self, Standing};
use crate::error::{Code, Error, Result};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::time::Duration;

/// Bytes of a page; fixed when the file is made.
pub(super) const PAGE_BYTES: u64 = 4096;
/// Compiled statements kept: more than there are in the source.
const STATEMENTS_MAX: usize = 96;
/// How long to wait for another process that is just recovering or closing the file.
const BUSY_WAIT: Duration = Duration::from_secs(10);

/// One connection to the store's file.
pub(super) struct Database {
    pub(super) connection: Connection,
    pub(super) counters: Counters,
    failure: Option<Error>,
    in_transaction: bool,
    read_only: bool,
    wal_pages_max: u64,
    at: String,
}

impl Database {
    /// Opens or makes the file, and brings it to the present format.
    pub(super) fn open(path: &Path, options: &StoreOptions) -> Result<Database> {
        let at = path.display().to_string();
        Database::open_file(path, options, at.clone()).map_err(|error| error.at(at))
    }

    fn open_file(path: &Path, options: &StoreOptions, at: String) -> Result<Database> {
        make_private_file(path)?;
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(BUSY_WAIT)?;
        let standing = schema::examine(&connection)?;
        // Only now, for this changes the file.
        connection.pragma_update(None, "page_size", to_pragma(PAGE_BYTES))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "journal_size_limit", to_pragma(options.wal_bytes_max))?;
        Database::finish(connection, standing, options, at)
    }

    /// A database in memory: nothing to sync, nothing to recover.
    pub(super) fn in_memory(options: &StoreOptions) -> Result<Database> {
        let connection = Connection::open_in_memory()?;
        connection.pragma_update(None, "synchronous", "OFF")?;
        Database::finish(connection, Standing::Empty, options, ":memory:".to_owned())
    }

    fn finish(mut connection: Connection, standing: Standing, options: &StoreOptions, at: String) -> Result<Database> {
        set_up(&connection, options.cache_bytes)?;
        schema::migrate(&mut connection, standing, options.identity.as_deref())?;
        if let Some(bytes) = options.file_bytes_max {
            connection.pragma_update(None, "max_page_count", to_pragma((bytes / PAGE_BYTES).max(1)))?;
        }
        let counters = Counters::load(&connection)?;
        let wal_pages_max = options.wal_bytes_max / PAGE_BYTES;
        Ok(Database { connection, counters, failure: None, in_transaction: false, read_only: false, wal_pages_max, at })
    }

    /// Opens the file to look at it.
    pub(super) fn open_read_only(path: &Path) -> Result<Database> {
        let at = path.display().to_string();
        if !path.exists() {
            return Err(Error::new(Code::StoreMissing, "there is no store").at(at));
        }
        Database::open_to_look(path, at.clone()).map_err(|error| error.at(at))
    }

    fn open_to_look(path: &Path, at: String) -> Result<Database> {
        // Opened for writing where that is allowed, for the log's index beside the file is shared by readers too.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_WAIT)?;
        connection.pragma_update(None, "query_only", true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        match schema::examine(&connection)? {
            Standing::Present => {}
            Standing::Older(format) => {
                return Err(Error::new(Code::StoreTooOld, format!("the store has the older format {format}")));
            }
            Standing::Empty => return Err(Error::new(Code::StoreMissing, "the store's file is empty")),
        }
        set_up(&connection, 0)?;
        let counters = Counters::default();
        Ok(Database { connection, counters, failure: None, in_transaction: false, read_only: true, wal_pages_max: 0, at })
    }

    /// Looks at the store, at what is in the open transaction too.
    pub(super) fn read<T>(&mut self, work: impl FnOnce(&mut Database) -> Result<T>) -> Result<T> {
        if self.in_transaction {
            return work(self).map_err(|error| error.at(self.at.clone()));
        }
        if !self.read_only {
            // One transaction for all that the answer is made of: each would take and give back the file's locks.
            self.run("BEGIN")?;
            let outcome = work(self);
            self.run("COMMIT")?;
            return outcome.map_err(|error| error.at(self.at.clone()));
        }
        // Another process writes: one transaction, so that every part of the answer is of one moment.
        self.run("BEGIN")?;
        let outcome = Counters::load(&self.connection).and_then(|counters| {
            self.counters = counters;
            work(self)
        });
        self.run("ROLLBACK")?;
        outcome.map_err(|error| error.at(self.at.clone()))
    }

    /// Does one step inside the open transaction, opening one first. A failure undoes the whole transaction and ends all
    /// writing.
    pub(super) fn write<T>(&mut self, work: impl FnOnce(&mut Database) -> Result<T>) -> Result<T> {
        self.check_writable()?;
        let outcome = self.begin().and_then(|()| work(self));
        outcome.map_err(|error| self.fail(error))
    }

    /// Commits the open transaction, if there is one. After this, and not before, what it did is durable.
    pub(super) fn commit(&mut self) -> Result<()> {
        if !self.in_transaction {
            return Ok(());
        }
        let outcome = self.counters.flush(&self.connection).and_then(|()| self.run("COMMIT"));
        match outcome {
            Ok(()) => {
                self.in_transaction = false;
                Ok(())
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    /// One step and its commit, then a checkpoint when one is due.
    pub(super) fn write_alone<T>(&mut self, work: impl FnOnce(&mut Database) -> Result<T>) -> Result<T> {
        let value = self.write(work)?;
        self.commit()?;
        if self.wal_pages()? >= self.wal_pages_max {
            // What was asked is durable; a failure here is the next writer's to hear of.
            let _ = self.checkpoint();
        }
        Ok(value)
    }

    /// Pages in the write-ahead log now.
    pub(super) fn wal_pages(&self) -> Result<u64> {
        let mut statement = self.connection.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?;
        let pages: i64 = statement.query_row([], |row| row.get(1))?;
        Ok(u64::try_from(pages).unwrap_or(0))
    }

    /// Brings what the log holds into the file. A failure ends all writing: a page that was not synced once must not be
    /// believed to be later on.
    pub(super) fn checkpoint(&mut self) -> Result<()> {
        checkpoint(&self.connection).map_err(|error| self.fail(error))
    }

    /// Undoes what is open and keeps the reason for every later write.
    pub(super) fn fail(&mut self, error: Error) -> Error {
        if let Some(first) = &self.failure {
            return first.clone();
        }
        let error = if error.at.is_none() { error.at(self.at.clone()) } else { error };
        tracing::error!(error = %error.chain(), "the store takes no more writes until it is opened anew");
        self.failure = Some(error.clone());
        self.in_transaction = false;
        if !self.connection.is_autocommit()
            && let Err(rollback) = self.run("ROLLBACK")
        {
            tracing::warn!(error = %rollback.chain(), "rolling back after the failure failed too");
        }
        match Counters::load(&self.connection) {
            Ok(counters) => self.counters = counters,
            Err(unread) => tracing::warn!(error = %unread.chain(), "the counters could not be read after the failure"),
        }
        error
    }

    fn check_writable(&self) -> Result<()> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if self.read_only {
            return Err(Error::new(Code::StoreReadOnly, "the store was opened to look at it only").at(self.at.clone()));
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<()> {
        if !self.in_transaction {
            self.run("BEGIN IMMEDIATE")?;
            self.in_transaction = true;
        }
        Ok(())
    }

    fn run(&self, statement: &str) -> Result<()> {
        self.connection.prepare_cached(statement)?.execute([])?;
        Ok(())
    }
}

/// Brings what the log holds into the file, as far as no reader still needs it; never waits for one.
pub(super) fn checkpoint(connection: &Connection) -> Result<()> {
    connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?.query_row([], |_| Ok(()))?;
    Ok(())
}

fn set_up(connection: &Connection, cache_bytes: u64) -> Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    if cache_bytes > 0 {
        // Negative: in KiB.
        connection.pragma_update(None, "cache_size", -to_pragma(cache_bytes / 1024))?;
    }
    Ok(())
}

fn to_pragma(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Makes the file where there is none, readable by its owner alone: it holds records. The files that SQLite puts beside
/// it take the same rights. An existing file is not opened here, for closing it would give back SQLite's locks on it.
fn make_private_file(path: &Path) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Error::new(Code::StoreDenied, "the store's file cannot be made").because(error)),
    }
}
