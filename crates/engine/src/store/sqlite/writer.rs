//! The thread that owns the connection: takes calls in the order submitted, commits transactions in groups, answers
//! each after the commit that holds it. A second thread brings the log into the file meanwhile.
//! Never waits for company: a group is committed as soon as nothing else is queued.

use super::StoreOptions;
use super::database::{self, Database, PAGE_BYTES};
use crate::error::{Code, Error, Result};
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Calls that may wait for the thread; one more makes its caller wait.
pub(super) const QUEUE_LENGTH_MAX: usize = 256;
/// Transactions in one commit.
const GROUP_LENGTH_MAX: usize = 256;
/// How long a group may grow while calls keep coming, unless a commit takes longer than that by itself.
const GROUP_TIME_MAX: Duration = Duration::from_millis(2);

/// Which part of its bound the log reaches before it is brought into the file. Each time the disk has that much to write at
/// once, and commits wait behind it: the less, the shorter.
const CHECKPOINT_PART: u64 = 32;

/// How many commits go by between two looks at a log that is far from that.
const COMMITS_A_LOOK: u32 = 8;

/// Tells one caller what became of the commit that holds its step.
type Answer = Box<dyn FnOnce(Result<()>) + Send>;

/// A step, and whom to tell of its commit.
type Step = Box<dyn FnOnce(&mut Database) -> (Result<()>, Answer) + Send>;

enum Job {
    Read(Box<dyn FnOnce(&mut Database) + Send>),
    Write(Step),
}

/// The thread and the way to it. Dropping it ends the thread after everything that was submitted.
pub(super) struct Writer {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(database: Database, path: &Path, options: &StoreOptions) -> Result<Writer> {
        let checkpointer = Checkpointer::start(path, options)?;
        let (jobs, queue) = sync_channel(QUEUE_LENGTH_MAX);
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || work(database, &queue, checkpointer))
            .map_err(no_thread)?;
        Ok(Writer { jobs: Some(jobs), thread: Some(thread) })
    }

    pub(super) fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Database) -> Result<T> + Send + 'static,
    ) -> oneshot::Receiver<Result<T>> {
        let (sender, receiver) = oneshot::channel();
        self.queue(Job::Read(Box::new(move |database| {
            // Whoever asked may have gone.
            let _ = sender.send(database.read(work));
        })));
        receiver
    }

    pub(super) fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Database) -> Result<T> + Send + 'static,
    ) -> oneshot::Receiver<Result<T>> {
        let (sender, receiver) = oneshot::channel();
        self.queue(Job::Write(Box::new(move |database| {
            let (value, outcome) = match database.write(work) {
                Ok(value) => (Some(value), Ok(())),
                Err(error) => (None, Err(error)),
            };
            let answer = move |outcome: Result<()>| {
                let answer =
                    outcome.and_then(|()| value.ok_or_else(|| Error::new(Code::Internal, "a failed step was committed")));
                let _ = sender.send(answer);
            };
            (outcome, Box::new(answer))
        })));
        receiver
    }

    /// A job that cannot be queued is dropped with its answer's sender, which its caller notices.
    fn queue(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was reported by the panic hook, and every caller got an error.
            let _ = thread.join();
        }
    }
}

fn no_thread(error: std::io::Error) -> Error {
    Error::new(Code::StoreFailed, "no thread could be started for the store").because(error)
}

fn work(mut database: Database, queue: &Receiver<Job>, mut checkpointer: Checkpointer) {
    let mut commit_time = Duration::ZERO;
    while let Ok(first) = queue.recv() {
        let mut group = Vec::new();
        let begun = Instant::now();
        let mut next = Some(first);
        while let Some(job) = next {
            take(&mut database, job, &mut group);
            let may_grow = group.len() < GROUP_LENGTH_MAX && begun.elapsed() < GROUP_TIME_MAX.max(commit_time);
            next = if may_grow { queue.try_recv().ok() } else { None };
        }
        if group.is_empty() {
            continue;
        }
        let committing = Instant::now();
        let outcome = database.commit();
        commit_time = committing.elapsed();
        answer(&mut group, &outcome);
        checkpointer.keep_the_log_short(&mut database);
    }
}

/// Does one job. A failed write fails the whole group: its SQLite transaction is undone.
fn take(database: &mut Database, job: Job, group: &mut Vec<Answer>) {
    match job {
        Job::Read(read) => read(database),
        Job::Write(write) => {
            let (outcome, waiter) = write(database);
            group.push(waiter);
            if outcome.is_err() {
                answer(group, &outcome);
            }
        }
    }
}

fn answer(group: &mut Vec<Answer>, outcome: &Result<()>) {
    for waiter in group.drain(..) {
        waiter(outcome.clone());
    }
}

/// Brings the log into the file on a thread and a connection of its own, so that commits go on meanwhile.
struct Checkpointer {
    requests: Option<SyncSender<()>>,
    outcomes: Receiver<Result<()>>,
    is_running: bool,
    pages_wanted: u64,
    pages_max: u64,
    commits_to_skip: u32,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    fn start(path: &Path, options: &StoreOptions) -> Result<Checkpointer> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let (requests, asked) = sync_channel::<()>(1);
        let (done, outcomes) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".to_owned())
            .spawn(move || {
                while asked.recv().is_ok() {
                    if done.send(database::checkpoint(&connection)).is_err() {
                        break;
                    }
                }
            })
            .map_err(no_thread)?;
        let pages_max = options.wal_bytes_max / PAGE_BYTES;
        Ok(Checkpointer {
            requests: Some(requests),
            outcomes,
            is_running: false,
            pages_wanted: pages_max / CHECKPOINT_PART,
            pages_max,
            commits_to_skip: 0,
            thread: Some(thread),
        })
    }

    /// Called after each commit. A log that reaches its part is brought into the file beside the commits; what these
    /// added meanwhile is a small rest, done here, after which the log begins anew. A log at its bound is waited for.
    fn keep_the_log_short(&mut self, database: &mut Database) {
        if self.is_running {
            match self.outcomes.try_recv() {
                Ok(outcome) => self.finish(database, outcome),
                Err(TryRecvError::Empty) if self.log_reaches(database, self.pages_max) => {
                    let outcome = self.outcomes.recv();
                    self.finish(database, outcome.unwrap_or_else(|_| Err(gone())));
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => self.finish(database, Err(gone())),
            }
        } else if self.is_time_to_look() && self.log_reaches(database, self.pages_wanted) {
            self.is_running = self.requests.as_ref().is_some_and(|requests| requests.send(()).is_ok());
        }
    }

    /// A look at the log takes locks: while it is far from its part, not every commit is worth one.
    fn is_time_to_look(&mut self) -> bool {
        self.commits_to_skip = self.commits_to_skip.saturating_sub(1);
        self.commits_to_skip == 0
    }

    fn log_reaches(&mut self, database: &Database, pages: u64) -> bool {
        let Ok(now) = database.wal_pages() else { return false };
        self.commits_to_skip = if now < self.pages_wanted / 2 { COMMITS_A_LOOK } else { 0 };
        now >= pages
    }

    fn finish(&mut self, database: &mut Database, outcome: Result<()>) {
        self.is_running = false;
        match outcome {
            // A failure ends all writing, which the next submit is told.
            Ok(()) => drop(database.checkpoint()),
            Err(error) => drop(database.fail(error)),
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // The outcome of a last checkpoint is of no interest: closing the file does one more.
            let _ = thread.join();
        }
    }
}

fn gone() -> Error {
    Error::new(Code::StoreFailed, "the store's checkpoint thread has ended")
}
