//! The transport of the feed: steps come out of a replication session, acknowledgements go in.
//! The trait is all that the capture sees. A task of the feed's own keeps answering the server while the consumer is
//! slow; what waits in between is bounded in bytes. The server is told only what was acknowledged, never more.

use super::errors;
use super::pgoutput;
use super::position::{ServerIdentity, parse_history};
use super::session::{Received, Session};
use super::version::{lsn_text, parse_lsn};
use async_trait::async_trait;
use bytes::Bytes;
use concord_engine::error::{Code, Error, Result};
use futures_util::FutureExt;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// About the most bytes of steps that wait for the consumer; one larger step waits alone.
const WAITING_BYTES_MAX: u32 = 16 << 20;
/// The most parcels of steps that wait for the consumer.
const WAITING_PARCELS_MAX: usize = 256;
/// The most steps in one parcel: those that arrived together.
const PARCEL_STEPS_MAX: usize = 64;
/// About the most bytes of one parcel.
const PARCEL_BYTES_MAX: usize = 128 << 10;
/// How often the server hears from us at least.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);
/// How long an acknowledgement waits for others at most.
const ACKNOWLEDGE_DELAY: Duration = Duration::from_millis(200);
/// After so long a silence the server is asked for a sign of life.
const SILENCE_ASK: Duration = Duration::from_secs(30);
/// After so long a silence the connection counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(90);
/// What a step costs beside its bytes.
const STEP_OVERHEAD: usize = 64;
/// How long a reader that steps crowd in upon lets them gather. A server hands out each step by itself, and waking somebody for each
/// costs its sender more than the step does.
const GATHER: Duration = Duration::from_millis(1);
/// Steps crowd in where so many have come one after the other within [`CROWD_TIME`], each waited for: some ten thousand a second.
const CROWD_WAKES: u32 = 64;
/// The time in which so many wakes are a crowd.
const CROWD_TIME: Duration = Duration::from_millis(6);
/// They do so no longer where fewer than these have gathered.
const CROWD_STEPS: usize = 10;

/// One step of the feed, in the order of commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A transaction begins.
    Begin {
        /// Where its commit stands.
        commit_lsn: u64,
        /// When it was committed: microseconds since 2000-01-01.
        commit_time: i64,
        /// Its number's lower 32 bits.
        xid: u32,
    },
    /// A `pgoutput` message inside a transaction.
    Change(Bytes),
    /// A message that somebody wrote into the log.
    Message {
        /// Whether it belongs to the transaction around it.
        transactional: bool,
        /// Its prefix.
        prefix: String,
        /// Its content.
        content: Bytes,
    },
    /// The transaction ends.
    Commit {
        /// Where the feed resumes behind it.
        end_lsn: u64,
    },
    /// Nothing for us up to here.
    Idle {
        /// Where the feed resumes.
        wal_end: u64,
    },
}

/// A feed that is being read.
#[async_trait]
pub trait Replication: Send + Sync {
    /// The next step. Cancel-safe.
    async fn next(&mut self) -> Result<Step>;
    /// The next step, if it is already there.
    fn ready(&mut self) -> Option<Result<Step>>;
}

/// Steps that arrived together, and the room that they take.
type Parcel = (Vec<Result<Step>>, OwnedSemaphorePermit);

/// A session that streams.
struct Stream {
    parcels: mpsc::Receiver<Parcel>,
    /// What is left of the parcel that was opened last; its room is given back with the last step of it.
    opened: VecDeque<Result<Step>>,
    room: Option<OwnedSemaphorePermit>,
    _reader: AbortOnDropHandle<()>,
}

/// Which server a session speaks to: what is true of the stream that is begun on it, too.
pub async fn identity(session: &mut Session) -> Result<ServerIdentity> {
    let malformed = || errors::unexpected("the server's identification is malformed");
    let rows = session.query("IDENTIFY_SYSTEM").await?;
    let row = rows.first().ok_or_else(malformed)?;
    let text = |place: usize| row.get(place).and_then(Option::as_deref).ok_or_else(malformed);
    let system_identifier = text(0)?.parse().map_err(|_| malformed())?;
    let timeline: u32 = text(1)?.parse().map_err(|_| malformed())?;
    let flushed_lsn = parse_lsn(text(2)?).ok_or_else(malformed)?;
    let mut forks = Vec::new();
    if timeline > 1 {
        let history = session.query(&format!("TIMELINE_HISTORY {timeline}")).await?;
        let content = history.first().and_then(|row| row.get(1)).and_then(Option::as_deref).ok_or_else(malformed)?;
        forks = parse_history(content);
    }
    Ok(ServerIdentity { system_identifier, timeline, flushed_lsn, forks })
}

/// Begins to stream. `acknowledged` is what the server is told, whenever it rises: what was read before a connection was
/// lost may be on its way to be durable, and is not before that.
pub async fn start(
    mut session: Session,
    slot: &str,
    from: u64,
    acknowledged: watch::Receiver<u64>,
    tasks: &TaskTracker,
) -> Result<Box<dyn Replication>> {
    session.start(slot, slot, &lsn_text(from)).await?;
    let (queue, parcels) = mpsc::channel(WAITING_PARCELS_MAX);
    let room = Arc::new(Semaphore::new(usize::try_from(WAITING_BYTES_MAX).unwrap_or(usize::MAX)));
    let durable = *acknowledged.borrow();
    let (due, heard, crowd) = (Instant::now(), Instant::now(), Crowd::default());
    let reader = Reader { session, room, queue, acknowledged, durable, due, heard, crowd };
    let reader = AbortOnDropHandle::new(tasks.spawn(reader.run()));
    Ok(Box::new(Stream { parcels, opened: VecDeque::new(), room: None, _reader: reader }))
}

#[async_trait]
impl Replication for Stream {
    async fn next(&mut self) -> Result<Step> {
        loop {
            if let Some(step) = self.take() {
                return step;
            }
            match self.parcels.recv().await {
                Some(parcel) => self.open(parcel),
                None => return Err(Error::new(Code::Unreachable, "the feed was closed")),
            }
        }
    }

    fn ready(&mut self) -> Option<Result<Step>> {
        if self.opened.is_empty()
            && let Ok(parcel) = self.parcels.try_recv()
        {
            self.open(parcel);
        }
        self.take()
    }
}

impl Stream {
    fn open(&mut self, (steps, room): Parcel) {
        self.opened = steps.into();
        self.room = Some(room);
    }

    fn take(&mut self) -> Option<Result<Step>> {
        let step = self.opened.pop_front();
        if self.opened.is_empty() {
            self.room = None;
        }
        step
    }
}

/// Moves steps from the session into the queue, and acknowledgements back.
struct Reader {
    session: Session,
    room: Arc<Semaphore>,
    queue: mpsc::Sender<Parcel>,
    acknowledged: watch::Receiver<u64>,
    /// What the server may be told.
    durable: u64,
    /// When it is told next.
    due: Instant,
    /// When it was last heard of.
    heard: Instant,
    crowd: Crowd,
}

impl Reader {
    /// Until either side ends; the last step is the error.
    async fn run(mut self) {
        while let Some(first) = self.step().await.transpose() {
            let (steps, is_all) = self.with_what_is_there(first).await;
            let count = steps.len();
            let ended = steps.last().is_some_and(Result::is_err);
            if !self.deliver(steps).await || ended {
                return;
            }
            if is_all && self.crowd.is_there(count, Instant::now()) {
                sleep(GATHER).await;
            }
        }
    }

    /// A step and those that have arrived with it, and whether these are all; an error is the last.
    async fn with_what_is_there(&mut self, first: Result<Step>) -> (Vec<Result<Step>>, bool) {
        let mut bytes = weight(&first);
        let mut steps = vec![first];
        while steps.len() < PARCEL_STEPS_MAX && bytes < PARCEL_BYTES_MAX && steps.last().is_some_and(Result::is_ok) {
            let Some(received) = self.session.receive().now_or_never() else { return (steps, true) };
            let step = match received {
                Ok(received) => self.hear(received).await.transpose(),
                Err(error) => Some(Err(error)),
            };
            bytes += step.as_ref().map_or(0, weight);
            steps.extend(step);
        }
        (steps, false)
    }

    /// The next step; `None`: nobody acknowledges any more, so nobody reads.
    async fn step(&mut self) -> Result<Option<Step>> {
        loop {
            let received = tokio::select! {
                received = self.session.receive() => received?,
                () = sleep_until(self.due) => {
                    if self.heard.elapsed() >= SILENCE_MAX {
                        return Err(Error::new(Code::Unreachable, "the feed's server has fallen silent"));
                    }
                    self.tell().await?;
                    continue;
                }
                changed = self.acknowledged.changed() => {
                    if changed.is_err() {
                        return Ok(None);
                    }
                    self.learn();
                    continue;
                }
            };
            return self.hear(received).await;
        }
    }

    /// What was received, as a step.
    async fn hear(&mut self, received: Received) -> Result<Option<Step>> {
        self.heard = Instant::now();
        match received {
            Received::Data(data) => step(data).map(Some),
            Received::KeepAlive { wal_end, reply } => {
                if reply {
                    self.tell().await?;
                }
                Ok(Some(Step::Idle { wal_end }))
            }
        }
    }

    /// Puts steps into the queue; meanwhile the server goes on hearing from us. `false`: nobody reads any more.
    async fn deliver(&mut self, steps: Vec<Result<Step>>) -> bool {
        let weight = steps.iter().map(weight).fold(0, usize::saturating_add);
        let weight = u32::try_from(weight).unwrap_or(u32::MAX).min(WAITING_BYTES_MAX);
        let (room, queue) = (Arc::clone(&self.room), self.queue.clone());
        let enter = async move {
            let permit = room.acquire_many_owned(weight).await.ok()?;
            queue.send((steps, permit)).await.ok()
        };
        tokio::pin!(enter);
        loop {
            tokio::select! {
                biased;
                entered = &mut enter => {
                    // Nothing was read meanwhile: that silence was ours.
                    self.heard = Instant::now();
                    return entered.is_some();
                }
                () = sleep_until(self.due) => {
                    if self.tell().await.is_err() {
                        // What was read before is still worth handing out; the next read meets the error.
                        self.due = Instant::now() + STATUS_INTERVAL;
                    }
                }
                changed = self.acknowledged.changed() => {
                    if changed.is_err() {
                        return false;
                    }
                    self.learn();
                }
            }
        }
    }

    /// Takes an acknowledgement: the server is told soon, together with those that follow at once.
    fn learn(&mut self) {
        let acknowledged = *self.acknowledged.borrow_and_update();
        if acknowledged > self.durable {
            self.durable = acknowledged;
            self.due = self.due.min(Instant::now() + ACKNOWLEDGE_DELAY);
        }
    }

    async fn tell(&mut self) -> Result<()> {
        self.due = Instant::now() + STATUS_INTERVAL;
        let ask = self.heard.elapsed() >= SILENCE_ASK;
        self.session.status(self.durable, ask).await
    }
}

/// Whether steps come faster than they are worth being woken for one by one.
#[derive(Default)]
struct Crowd {
    is_there: bool,
    /// How many wakes there were since when.
    wakes: u32,
    since: Option<Instant>,
}

impl Crowd {
    /// Whether steps crowd in, after a wake that brought `count` of them, which were all.
    fn is_there(&mut self, count: usize, now: Instant) -> bool {
        if self.is_there {
            self.is_there = count >= CROWD_STEPS;
            return self.is_there;
        }
        let since = *self.since.get_or_insert(now);
        self.wakes += 1;
        if self.wakes >= CROWD_WAKES || now.saturating_duration_since(since) > CROWD_TIME {
            self.is_there = self.wakes >= CROWD_WAKES && now.saturating_duration_since(since) <= CROWD_TIME;
            (self.wakes, self.since) = (0, None);
        }
        self.is_there
    }
}

fn weight(step: &Result<Step>) -> usize {
    STEP_OVERHEAD
        + match step {
            Ok(Step::Change(bytes)) => bytes.len(),
            Ok(Step::Message { prefix, content, .. }) => prefix.len() + content.len(),
            _ => 0,
        }
}

/// What frames transactions is read here; the changes inside them where they are decoded.
fn step(data: Bytes) -> Result<Step> {
    Ok(match pgoutput::frame(&data)? {
        Some(pgoutput::Frame::Begin { commit_lsn, commit_time, xid }) => Step::Begin { commit_lsn, commit_time, xid },
        Some(pgoutput::Frame::Commit { end_lsn }) => Step::Commit { end_lsn },
        Some(pgoutput::Frame::Message { transactional, prefix, content }) => Step::Message { transactional, prefix, content },
        None => Step::Change(data),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many wakes, each so long after the one before it; whether steps crowded in at the end.
    fn wakes(crowd: &mut Crowd, count: u32, apart: Duration, steps: usize) -> bool {
        let begun = Instant::now();
        (0..count).map(|n| crowd.is_there(steps, begun + apart * n)).last().unwrap_or_default()
    }

    #[test]
    fn steps_crowd_in_where_each_wakes_the_reader_at_once_and_no_longer_where_few_have_gathered() {
        let mut crowd = Crowd::default();
        assert!(wakes(&mut crowd, CROWD_WAKES, Duration::from_micros(50), 2));
        assert!(crowd.is_there(200, Instant::now()), "they gather");
        assert!(!crowd.is_there(CROWD_STEPS - 1, Instant::now()));
        assert!(!wakes(&mut crowd, CROWD_WAKES - 1, Duration::from_micros(50), 2), "it is counted anew");
    }

    /// A thousand transactions a second are three thousand steps: nobody waits for company there.
    #[test]
    fn steps_that_come_as_people_make_them_are_handed_on_at_once() {
        let mut crowd = Crowd::default();
        assert!(!wakes(&mut crowd, 100_000, Duration::from_micros(300), 1));
    }
}
