//! The store in one SQLite file, `concord.db`: which ways there are to open it, and the trait on top of them.
//! Nothing here knows a table (see `apply`, `reads`, `expire`) or a thread (see `writer`). No write ever goes past
//! `Database`, which turns read-only at the first one that fails.

mod apply;
mod body;
mod counters;
mod database;
mod expire;
mod failure;
mod lock;
mod reads;
mod schema;
mod writer;

#[cfg(test)]
mod tests;

use super::{Address, Ages, Counts, Identity, LedgerQuery, LinkState, Lookup, Recalled, Store, Transaction};
use crate::change::Position;
use crate::clock::Moment;
use crate::error::{Code, Error, Result};
use crate::flight::Flight;
use crate::ledger::LedgerRow;
use crate::link::{Link, LinkId, MemberIndex, Pending, ReviewId, SyncId};
use crate::record::{FeedName, SystemName};
use crate::references::Awaited;
use crate::review::Review;
use apply::Encoded;
use async_trait::async_trait;
use database::Database;
use lock::Lock;
pub use lock::make_folder;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use tokio::sync::oneshot;
use writer::Writer;

/// The name of the store's file in its folder.
pub const FILE_NAME: &str = "concord.db";

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Bytes of pages kept in memory: with the queue's bound, all the memory that the store takes.
    pub cache_bytes: u64,
    /// The size in bytes that the write-ahead log is kept below.
    pub wal_bytes_max: u64,
    /// The size in bytes beyond which the file may not grow; `None`: as large as the disk allows.
    pub file_bytes_max: Option<u64>,
    /// The id that a store gets when it is made; `None`: a random one. An existing store keeps its own.
    pub identity: Option<String>,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions { cache_bytes: 48 << 20, wal_bytes_max: 128 << 20, file_bytes_max: None, identity: None }
    }
}

/// The store in one SQLite file.
pub struct SqliteStore {
    // Before the lock, so that the file is closed when the lock is given back.
    backend: Backend,
    /// Syncs that a store opened to be looked at does not know, in the order asked for: each has a number that is nobody's.
    strangers: Mutex<Vec<String>>,
    _lock: Option<Lock>,
}

enum Backend {
    /// One thread owns the connection and commits in groups.
    Writer(Writer),
    /// The caller does the work, one commit per transaction.
    Inline(Box<Mutex<Database>>),
}

impl SqliteStore {
    /// Opens the store in a folder, making both where they are not there, and brings it to the present format. A thread
    /// of its own does the work; dropping the store ends it after the last submitted transaction.
    ///
    /// # Errors
    /// [`Code::StoreInUse`] while another process (or this one) has it open, [`Code::StoreTooNew`],
    /// [`Code::StoreForeign`], [`Code::StoreDenied`], [`Code::StoreFull`], [`Code::StoreDamaged`],
    /// [`Code::StoreFailed`].
    pub fn open(folder: &Path, options: &StoreOptions) -> Result<SqliteStore> {
        let lock = Lock::take(folder)?;
        let path = folder.join(FILE_NAME);
        let database = Database::open(&path, options)?;
        let writer = Writer::start(database, &path, options)?;
        Ok(SqliteStore::over(Backend::Writer(writer), Some(lock)))
    }

    /// Like [`SqliteStore::open`], without a thread and without looking at any clock: every call does its work before it
    /// returns, and every transaction is a commit of its own. For the simulation, and for commands that change little.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub fn inline(folder: &Path, options: &StoreOptions) -> Result<SqliteStore> {
        let lock = Lock::take(folder)?;
        let database = Database::open(&folder.join(FILE_NAME), options)?;
        Ok(SqliteStore::over(Backend::Inline(Box::new(Mutex::new(database))), Some(lock)))
    }

    /// A store that lives in memory and goes with this value; inline.
    ///
    /// # Errors
    /// [`Code::StoreFailed`] when there is no memory for it.
    pub fn in_memory(options: &StoreOptions) -> Result<SqliteStore> {
        let database = Database::in_memory(options)?;
        Ok(SqliteStore::over(Backend::Inline(Box::new(Mutex::new(database))), None))
    }

    /// Opens a store to look at it, also while another process runs on it: takes no lock, sees what is committed, and
    /// answers every write with [`Code::StoreReadOnly`].
    ///
    /// # Errors
    /// [`Code::StoreMissing`] when there is none, [`Code::StoreTooOld`] when it has not been brought to the present
    /// format yet, otherwise as [`SqliteStore::open`].
    pub fn open_read_only(folder: &Path) -> Result<SqliteStore> {
        let database = Database::open_read_only(&folder.join(FILE_NAME))?;
        Ok(SqliteStore::over(Backend::Inline(Box::new(Mutex::new(database))), None))
    }

    fn over(backend: Backend, lock: Option<Lock>) -> SqliteStore {
        SqliteStore { backend, strangers: Mutex::default(), _lock: lock }
    }

    /// The number of a sync that a store opened to be looked at does not know.
    fn stranger(&self, name: &str) -> Result<SyncId> {
        let mut strangers = self.strangers.lock().map_err(interrupted)?;
        let place = strangers.iter().position(|known| known == name).unwrap_or_else(|| {
            strangers.push(name.to_owned());
            strangers.len() - 1
        });
        Ok(SyncId(u32::try_from(place).map_or(0, |place| u32::MAX - place)))
    }

    async fn read<T: Send + 'static>(&self, work: impl FnOnce(&mut Database) -> Result<T> + Send + 'static) -> Result<T> {
        match &self.backend {
            Backend::Writer(writer) => writer.read(work).await.unwrap_or_else(|_| Err(ended())),
            Backend::Inline(database) => database.lock().map_err(interrupted)?.read(work),
        }
    }

    fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Database) -> Result<T> + Send + 'static,
    ) -> oneshot::Receiver<Result<T>> {
        match &self.backend {
            Backend::Writer(writer) => writer.write(work),
            Backend::Inline(database) => {
                let (sender, receiver) = oneshot::channel();
                let outcome = database.lock().map_err(interrupted).and_then(|mut database| database.write_alone(work));
                // Whoever asked may have gone; the work is done all the same.
                let _ = sender.send(outcome);
                receiver
            }
        }
    }
}

fn ended() -> Error {
    Error::new(Code::StoreFailed, "the store's thread has ended")
}

fn interrupted<T>(_: PoisonError<T>) -> Error {
    Error::new(Code::StoreFailed, "an earlier call to the store broke off in the middle")
}

#[async_trait]
impl Store for SqliteStore {
    /// Blocks the caller, without awaiting, while 256 calls are waiting: the one back-pressure
    /// that keeps the order of submission.
    fn submit(&self, transaction: Transaction) -> oneshot::Receiver<Result<()>> {
        let encoded = Encoded::new(transaction);
        self.write(move |database| apply::apply(database, &encoded?))
    }

    async fn identity(&self) -> Result<Identity> {
        self.read(reads::identity).await
    }

    async fn sync_id(&self, name: &str) -> Result<SyncId> {
        let name = name.to_owned();
        let known = name.clone();
        if let Some(id) = self.read(move |database| reads::known_sync(database, &known)).await? {
            return Ok(id);
        }
        let asked = name.clone();
        match self.write(move |database| apply::sync_id(database, &name)).await.unwrap_or_else(|_| Err(ended())) {
            Err(error) if error.code == Code::StoreReadOnly => self.stranger(&asked),
            answer => answer,
        }
    }

    async fn positions(&self) -> Result<Vec<(SystemName, FeedName, Position)>> {
        self.read(reads::positions).await
    }

    async fn lookup(&self, addresses: Vec<Address>) -> Result<Vec<Lookup>> {
        self.read(move |database| reads::lookup(database, &addresses)).await
    }

    async fn links(&self, ids: Vec<LinkId>) -> Result<Vec<LinkState>> {
        self.read(move |database| reads::links(database, &ids)).await
    }

    async fn recall(&self, addresses: Vec<Address>, ids: Vec<LinkId>) -> Result<Recalled> {
        self.read(move |database| reads::recall(database, addresses, ids)).await
    }

    async fn scan_links(&self, sync: SyncId, after: LinkId, limit: usize) -> Result<Vec<Link>> {
        self.read(move |database| reads::scan_links(database, sync, after, limit)).await
    }

    async fn scan_pending(&self, sync: SyncId, after: Option<Address>, limit: usize) -> Result<Vec<(Address, Pending)>> {
        self.read(move |database| reads::scan_pending(database, sync, after.as_ref(), limit)).await
    }

    async fn owed(&self, sync: SyncId, member: MemberIndex, due: Moment, limit: usize) -> Result<Vec<LinkId>> {
        self.read(move |database| reads::owed(database, sync, member, due, limit)).await
    }

    async fn next_owed(&self, sync: SyncId, member: MemberIndex) -> Result<Option<Moment>> {
        self.read(move |database| reads::next_owed(database, sync, member)).await
    }

    async fn waiting(&self, awaited: &Awaited, after: LinkId, limit: usize) -> Result<Vec<LinkId>> {
        let awaited = awaited.clone();
        self.read(move |database| reads::waiting(database, &awaited, after, limit)).await
    }

    async fn scan_waiting(&self, sync: SyncId, after: LinkId, limit: usize) -> Result<Vec<LinkId>> {
        self.read(move |database| reads::scan_waiting(database, sync, after, limit)).await
    }

    async fn waits_of(&self, sync: SyncId, link: LinkId) -> Result<Vec<Awaited>> {
        self.read(move |database| reads::waits_of(database, sync, link)).await
    }

    async fn reserved(&self, sync: SyncId, values: Vec<Vec<u8>>) -> Result<Vec<Option<LinkId>>> {
        self.read(move |database| reads::reserved(database, sync, &values)).await
    }

    async fn flights(&self) -> Result<Vec<Flight>> {
        self.read(reads::flights).await
    }

    async fn setting(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let name = name.to_owned();
        self.read(move |database| reads::setting(database, &name)).await
    }

    async fn settings(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let prefix = prefix.to_owned();
        self.read(move |database| reads::settings(database, &prefix)).await
    }

    async fn settings_after(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Vec<u8>)>> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.read(move |database| reads::settings_after(database, &prefix, after.as_deref(), limit)).await
    }

    async fn reviews(&self, sync: Option<SyncId>, open_only: bool, limit: usize) -> Result<Vec<Review>> {
        self.read(move |database| reads::reviews(database, sync, open_only, limit)).await
    }

    async fn open_reviews(&self, sync: SyncId, after: ReviewId, limit: usize) -> Result<Vec<Review>> {
        self.read(move |database| reads::open_reviews(database, sync, after, limit)).await
    }

    async fn review(&self, id: ReviewId) -> Result<Option<Review>> {
        self.read(move |database| reads::review(database, id)).await
    }

    async fn ledger(&self, query: LedgerQuery) -> Result<Vec<LedgerRow>> {
        self.read(move |database| reads::ledger(database, &query)).await
    }

    async fn counts(&self, sync: SyncId) -> Result<Counts> {
        self.read(move |database| reads::counts(database, sync)).await
    }

    /// Works in steps of a thousand rows, so that nothing else waits long.
    async fn expire(&self, ages: &Ages) -> Result<u64> {
        let (mut removed, mut sought) = (0, expire::Sought::everything());
        while !sought.is_over() {
            let ages = ages.clone();
            let step = self.write(move |database| expire::step(database, &ages, sought));
            let (rows, next) = step.await.unwrap_or_else(|_| Err(ended()))?;
            (removed, sought) = (removed + rows, next);
        }
        Ok(removed)
    }
}
