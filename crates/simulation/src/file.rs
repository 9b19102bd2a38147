//! The real store in real files under the simulation's clock: what is visible in one, what is durable in another. A crash
//! puts the durable one in the visible one's place, as if every transaction whose fsync was still to come had never been.

use crate::random::Random;
use crate::store::Durable;
use async_trait::async_trait;
use concord_engine::change::Position;
use concord_engine::clock::Moment;
use concord_engine::error::{Code, Error, Result};
use concord_engine::flight::Flight;
use concord_engine::ledger::LedgerRow;
use concord_engine::link::{Link, LinkId, MemberIndex, Pending, ReviewId, SyncId};
use concord_engine::record::{FeedName, SystemName};
use concord_engine::references::Awaited;
use concord_engine::review::Review;
use concord_engine::store::sqlite::{SqliteStore, StoreOptions};
use concord_engine::store::{Address, Ages, Counts, Identity, LedgerQuery, LinkState, Lookup, Recalled, Store, Transaction};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};

/// A transaction that waits for its fsync.
struct Waiting {
    transaction: Transaction,
    answer: oneshot::Sender<Result<()>>,
}

struct State {
    visible: Option<Arc<SqliteStore>>,
    durable: Option<Arc<SqliteStore>>,
    waiting: Vec<Waiting>,
    /// Grows with every crash: an fsync under way then ends without effect.
    life: u64,
    random: Random,
}

/// The store in two files of a folder.
pub struct FileStore {
    folder: PathBuf,
    state: Mutex<State>,
    wake: Notify,
    fsync_ms_max: u64,
}

fn open(folder: &Path) -> Result<Arc<SqliteStore>> {
    let options = StoreOptions { identity: Some("simulation".to_owned()), ..StoreOptions::default() };
    Ok(Arc::new(SqliteStore::inline(folder, &options)?))
}

impl FileStore {
    /// An empty store in a folder of its own, whose fsync takes up to so many milliseconds.
    ///
    /// # Errors
    /// What the store says.
    pub fn new(folder: &Path, random: Random, fsync_ms_max: u64) -> Result<FileStore> {
        let visible = Some(open(&folder.join("visible"))?);
        let durable = Some(open(&folder.join("durable"))?);
        let state = State { visible, durable, waiting: Vec::new(), life: 0, random };
        Ok(FileStore { folder: folder.to_owned(), state: Mutex::new(state), wake: Notify::new(), fsync_ms_max })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn visible(&self) -> Result<Arc<SqliteStore>> {
        self.state().visible.clone().ok_or_else(closed)
    }

    fn durable(&self) -> Result<Arc<SqliteStore>> {
        self.state().durable.clone().ok_or_else(closed)
    }

    /// Closes both files, which SQLite brings to rest, and opens what is durable as both.
    fn reopen(&self, state: &mut State) -> Result<()> {
        state.visible = None;
        state.durable = None;
        let (from, to) = (self.folder.join("durable"), self.folder.join("visible"));
        let copied = || -> std::io::Result<()> {
            std::fs::remove_dir_all(&to)?;
            std::fs::create_dir_all(&to)?;
            for entry in std::fs::read_dir(&from)? {
                let entry = entry?;
                std::fs::copy(entry.path(), to.join(entry.file_name()))?;
            }
            Ok(())
        };
        copied().map_err(|error| Error::new(Code::StoreFailed, "the store's files cannot be copied").because(error))?;
        state.visible = Some(open(&to)?);
        state.durable = Some(open(&from)?);
        Ok(())
    }
}

fn closed() -> Error {
    Error::new(Code::StoreFailed, "the store could not be opened again after a crash")
}

#[async_trait]
impl Durable for FileStore {
    async fn drive(&self) {
        loop {
            let notified = self.wake.notified();
            let (group, life, wait) = {
                let mut state = self.state();
                let wait = state.random.millis(0, self.fsync_ms_max);
                (state.waiting.len(), state.life, wait)
            };
            if group == 0 {
                notified.await;
                continue;
            }
            tokio::time::sleep(wait).await;
            let mut state = self.state();
            if state.life != life {
                continue;
            }
            let done: Vec<Waiting> = state.waiting.drain(..group).collect();
            for Waiting { transaction, answer } in done {
                // Done before it returns: this store has no thread.
                let outcome = state.durable.as_ref().map(|store| store.submit(transaction).try_recv());
                let outcome = outcome.ok_or_else(closed).and_then(|done| done.unwrap_or_else(|_| Err(closed())));
                // Whoever asked may be gone; the transaction is durable all the same.
                answer.send(outcome).ok();
            }
        }
    }

    fn crash(&self) {
        let mut state = self.state();
        state.life += 1;
        state.waiting.clear();
        // A store that does not open again answers every call with an error, which ends the run.
        if self.reopen(&mut state).is_err() {
            state.visible = None;
        }
    }

    fn rewind(&self, system: &SystemName, feed: &FeedName, position: &Position) {
        let state = self.state();
        for store in [&state.visible, &state.durable].into_iter().flatten() {
            let positions = vec![(system.clone(), feed.clone(), position.clone())];
            drop(store.submit(Transaction { positions, ..Transaction::default() }));
        }
    }
}

#[async_trait]
impl Store for FileStore {
    fn submit(&self, transaction: Transaction) -> oneshot::Receiver<Result<()>> {
        let (answer, receiver) = oneshot::channel();
        let mut state = self.state();
        let outcome = state.visible.as_ref().map(|store| store.submit(transaction.clone()).try_recv());
        match outcome {
            Some(Ok(Ok(()))) => state.waiting.push(Waiting { transaction, answer }),
            Some(Ok(Err(error))) => drop(answer.send(Err(error))),
            _ => drop(answer.send(Err(closed()))),
        }
        self.wake.notify_waiters();
        receiver
    }

    async fn identity(&self) -> Result<Identity> {
        self.visible()?.identity().await
    }

    async fn sync_id(&self, name: &str) -> Result<SyncId> {
        self.durable()?.sync_id(name).await?;
        self.visible()?.sync_id(name).await
    }

    async fn positions(&self) -> Result<Vec<(SystemName, FeedName, Position)>> {
        self.visible()?.positions().await
    }

    async fn lookup(&self, addresses: Vec<Address>) -> Result<Vec<Lookup>> {
        self.visible()?.lookup(addresses).await
    }

    async fn links(&self, ids: Vec<LinkId>) -> Result<Vec<LinkState>> {
        self.visible()?.links(ids).await
    }

    async fn recall(&self, addresses: Vec<Address>, ids: Vec<LinkId>) -> Result<Recalled> {
        self.visible()?.recall(addresses, ids).await
    }

    async fn scan_links(&self, sync: SyncId, after: LinkId, limit: usize) -> Result<Vec<Link>> {
        self.visible()?.scan_links(sync, after, limit).await
    }

    async fn scan_pending(&self, sync: SyncId, after: Option<Address>, limit: usize) -> Result<Vec<(Address, Pending)>> {
        self.visible()?.scan_pending(sync, after, limit).await
    }

    async fn owed(&self, sync: SyncId, member: MemberIndex, due: Moment, limit: usize) -> Result<Vec<LinkId>> {
        self.visible()?.owed(sync, member, due, limit).await
    }

    async fn next_owed(&self, sync: SyncId, member: MemberIndex) -> Result<Option<Moment>> {
        self.visible()?.next_owed(sync, member).await
    }

    async fn waiting(&self, awaited: &Awaited, after: LinkId, limit: usize) -> Result<Vec<LinkId>> {
        self.visible()?.waiting(awaited, after, limit).await
    }

    async fn scan_waiting(&self, sync: SyncId, after: LinkId, limit: usize) -> Result<Vec<LinkId>> {
        self.visible()?.scan_waiting(sync, after, limit).await
    }

    async fn waits_of(&self, sync: SyncId, link: LinkId) -> Result<Vec<Awaited>> {
        self.visible()?.waits_of(sync, link).await
    }

    async fn reserved(&self, sync: SyncId, values: Vec<Vec<u8>>) -> Result<Vec<Option<LinkId>>> {
        self.visible()?.reserved(sync, values).await
    }

    async fn flights(&self) -> Result<Vec<Flight>> {
        self.visible()?.flights().await
    }

    async fn setting(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.visible()?.setting(name).await
    }

    async fn settings(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>> {
        self.visible()?.settings(prefix).await
    }

    async fn settings_after(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Vec<u8>)>> {
        self.visible()?.settings_after(prefix, after, limit).await
    }

    async fn reviews(&self, sync: Option<SyncId>, open_only: bool, limit: usize) -> Result<Vec<Review>> {
        self.visible()?.reviews(sync, open_only, limit).await
    }

    async fn open_reviews(&self, sync: SyncId, after: ReviewId, limit: usize) -> Result<Vec<Review>> {
        self.visible()?.open_reviews(sync, after, limit).await
    }

    async fn review(&self, id: ReviewId) -> Result<Option<Review>> {
        self.visible()?.review(id).await
    }

    async fn ledger(&self, query: LedgerQuery) -> Result<Vec<LedgerRow>> {
        self.visible()?.ledger(query).await
    }

    async fn counts(&self, sync: SyncId) -> Result<Counts> {
        self.visible()?.counts(sync).await
    }

    async fn expire(&self, ages: &Ages) -> Result<u64> {
        self.durable()?.expire(ages).await?;
        self.visible()?.expire(ages).await
    }
}
