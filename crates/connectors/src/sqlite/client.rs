//! One connection to the file on a thread of its own, fed through a bounded channel: SQLite's calls block, and no
//! async thread may wait for a disk or a lock. The thread ends, and is joined, when the client is dropped.

use super::config::SqliteSettings;
use super::errors::classify;
use concord_engine::error::{Code, Error, Result};
use rusqlite::{Connection, InterruptHandle, OpenFlags};
use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Calls that may wait for one connection; a caller beyond it waits for room.
const WAITING_CALLS_MAX: usize = 16;
/// Compiled statements that a connection keeps.
const STATEMENTS_MAX: usize = 256;
/// The longest sleep between two attempts to get a lock.
const LOCK_SLEEP_MAX: Duration = Duration::from_millis(10);

thread_local! {
    static SESSION: Cell<u64> = const { Cell::new(0) };
}

/// The number of the connection that the present job runs on: counted up whenever the file is opened anew, so that what
/// was seen through an earlier connection is not taken for what this one sees.
pub(super) fn session_number() -> u64 {
    SESSION.get()
}

/// How a commit waits for the disk: with it, and with what removes a rollback journal.
pub(super) const DURABLE: &str = "EXTRA";

/// Sets how the commits to come wait for the disk.
pub(super) fn set_synchronous(connection: &Connection, level: &str) -> Result<()> {
    connection.pragma_update(None, "synchronous", level).map_err(|error| classify(error, "setting how commits wait for the disk"))
}

type Job = Box<dyn FnOnce(Result<&mut Connection>) + Send>;

/// A connection that any task may ask to do something; what is asked is done in the order of asking.
pub(super) struct Client {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    stopping: Arc<Stopping>,
}

/// How the owner of a connection's thread tells it to end soon.
#[derive(Default)]
struct Stopping {
    asked: AtomicBool,
    running: Mutex<Option<InterruptHandle>>,
}

impl Client {
    /// Starts the thread; the file is opened by the first call.
    pub fn start(settings: Arc<SqliteSettings>, role: &str) -> Result<Client> {
        let (jobs, waiting) = mpsc::channel(WAITING_CALLS_MAX);
        let stopping = Arc::new(Stopping::default());
        let theirs = Arc::clone(&stopping);
        let thread = std::thread::Builder::new()
            .name(format!("sqlite-{role}"))
            .spawn(move || work(&settings, waiting, &theirs))
            .map_err(|error| Error::new(Code::Internal, "no thread could be started for a SQLite connection").because(error))?;
        Ok(Client { jobs: Some(jobs), thread: Some(thread), stopping })
    }

    /// Runs `work` on the connection. When the future is dropped, work that has begun runs to its end.
    pub async fn run<T, W>(&self, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // Nobody listens any more when the caller was dropped: that is not a failure.
            let _ = answer.send(connection.and_then(work));
        });
        let gone = || Error::new(Code::Internal, "the thread of a SQLite connection has ended");
        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        jobs.send(job).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stopping.asked.store(true, Ordering::Release);
        self.jobs = None;
        if let Some(running) = self.stopping.running.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            running.interrupt();
        }
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has nothing left to end.
            let _ = thread.join();
        }
    }
}

fn work(settings: &SqliteSettings, mut waiting: mpsc::Receiver<Job>, stopping: &Arc<Stopping>) {
    let mut session: Option<Session> = None;
    while let Some(job) = waiting.blocking_recv() {
        if stopping.asked.load(Ordering::Acquire) {
            return;
        }
        if session.as_ref().is_some_and(|session| session.file != FileIdentity::of(&settings.path)) {
            session = None;
        }
        if session.is_none() {
            match Session::open(settings, stopping) {
                Ok(opened) => session = Some(opened),
                Err(error) => {
                    job(Err(error));
                    continue;
                }
            }
        }
        if let Some(session) = session.as_mut() {
            job(Ok(&mut session.connection));
        }
        // A transaction that was left open would hold the lock for ever: closing the connection undoes it.
        if session.as_ref().is_some_and(|session| !session.connection.is_autocommit()) {
            session = None;
        }
    }
}

struct Session {
    connection: Connection,
    file: Option<FileIdentity>,
}

impl Session {
    fn open(settings: &SqliteSettings, stopping: &Arc<Stopping>) -> Result<Session> {
        let doing = format!("opening {}", settings.path.display());
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let file = FileIdentity::of(&settings.path);
        let mut connection = Connection::open_with_flags(&settings.path, flags).map_err(|error| classify(error, &doing))?;
        wait_for_locks(&mut connection, settings.busy_timeout, Arc::clone(stopping)).map_err(|error| classify(error, &doing))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        // A write counts as durable once it is reported: no weaker setting of the build may stand.
        connection
            .execute_batch(&format!("PRAGMA synchronous = {DURABLE}; PRAGMA foreign_keys = ON;"))
            .and_then(|()| connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())))
            .map_err(|error| classify(error, &doing))?;
        *stopping.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection.get_interrupt_handle());
        SESSION.set(SESSION.get().saturating_add(1));
        Ok(Session { connection, file })
    }
}

/// Waits in small steps, so that a stop need not wait for somebody else's lock.
fn wait_for_locks(connection: &mut Connection, timeout: Duration, stopping: Arc<Stopping>) -> rusqlite::Result<()> {
    let mut since = Instant::now();
    connection.busy_handler(Some(move |attempts: i32| {
        if attempts == 0 {
            since = Instant::now();
        }
        if stopping.asked.load(Ordering::Acquire) || since.elapsed() >= timeout {
            return false;
        }
        let step = u64::try_from(attempts).unwrap_or(0).saturating_add(1);
        std::thread::sleep(Duration::from_millis(step).min(LOCK_SLEEP_MAX));
        true
    }))
}

/// What file stands behind a path: an open connection goes on with the old file when another takes its place, and
/// what it writes there is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileIdentity {
    #[cfg(unix)]
    numbers: (u64, u64),
}

impl FileIdentity {
    #[cfg(unix)]
    fn of(path: &Path) -> Option<FileIdentity> {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(path).ok().map(|data| FileIdentity { numbers: (data.dev(), data.ino()) })
    }

    #[cfg(not(unix))]
    fn of(path: &Path) -> Option<FileIdentity> {
        std::fs::metadata(path).ok().map(|_| FileIdentity {})
    }
}
