//! A connector with gates around the real one: a story closes a gate, waits until the engine stands before it, does what
//! its users do just then, and opens it. Nothing that passes is changed, but for marks where a story takes them away.

use async_trait::async_trait;
use concord_engine::change::{Mark, Observation, Position, Version};
use concord_engine::clock::Moment;
use concord_engine::connector::*;
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::{FeedName, FieldName, Key, ObjectName};
use concord_engine::schema::{Schema, Selection};
use concord_engine::value::Value;
use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering as Memory};
use tokio::sync::watch;

/// A place that can be closed.
pub struct Gate {
    closed: watch::Sender<bool>,
    waiting: AtomicUsize,
}

impl Default for Gate {
    fn default() -> Gate {
        Gate { closed: watch::Sender::new(false), waiting: AtomicUsize::new(0) }
    }
}

/// One who stands before a gate; counted off when he passes or is killed.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Memory::SeqCst);
    }
}

impl Gate {
    /// Nobody passes from now on.
    pub fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Whoever waits passes.
    pub fn open(&self) {
        self.closed.send_replace(false);
    }

    /// Waits until somebody stands before the gate.
    pub async fn reached(&self) {
        super::wait_until("somebody before the gate", || async { self.waiting.load(Memory::SeqCst) > 0 }).await;
    }

    /// Waits until nobody stands before the gate any more.
    pub async fn passed(&self) {
        super::wait_until("nobody before the gate", || async { self.waiting.load(Memory::SeqCst) == 0 }).await;
    }

    async fn pass(&self) {
        self.waiting.fetch_add(1, Memory::SeqCst);
        let _waiting = Waiting(&self.waiting);
        let mut closed = self.closed.subscribe();
        let _ = closed.wait_for(|closed| !closed).await;
    }
}

/// The gates of one side.
#[derive(Default)]
pub struct Tap {
    /// Before a write is sent.
    pub before_apply: Gate,
    /// After a write has happened, before its answer arrives.
    pub after_apply: Gate,
    /// Before what a feed brought arrives.
    pub before_batch: Gate,
    /// Before an acknowledgement is sent.
    pub before_acknowledge: Gate,
    /// After a chunk was read, before it arrives.
    pub after_chunk: Gate,
    /// Whether our writes come back without their marks.
    pub strips_marks: AtomicBool,
    /// What shows this value comes back without its mark.
    pub strips_mark_of: std::sync::Mutex<Option<Value>>,
    /// Whether each write of a batch is a transaction of its own.
    pub splits: AtomicBool,
    /// Whether the answers of writes are lost: the outcome is unknown.
    pub loses_answers: AtomicBool,
    /// A value that cannot be looked for: whatever search it is part of is refused as a whole.
    pub cannot_find: std::sync::Mutex<Option<Value>>,
    /// A record that nobody may see.
    pub forbids: std::sync::Mutex<Option<Key>>,
    /// A record that cannot be read: whatever read it is part of is refused as a whole, and any chunk that shows more than keys.
    pub cannot_read: std::sync::Mutex<Option<Key>>,
}

/// The real connector, behind gates. What keeps the beat of the feeds passes freely.
pub struct Gated {
    pub inner: Arc<dyn Connector>,
    pub tap: Arc<Tap>,
}

/// Whether this is the table that only shows how far the feeds have been read; a connector may put a schema before it.
fn keeps_the_beat(selection: &Selection) -> bool {
    selection.object.as_str().rsplit('.').next() == Some(super::story::BEAT)
}

struct GatedChanges {
    inner: Box<dyn Changes>,
    tap: Arc<Tap>,
    held: Option<Batch>,
}

#[async_trait]
impl Changes for GatedChanges {
    async fn next(&mut self, limits: Limits) -> Result<Batch> {
        if self.held.is_none() {
            self.held = Some(self.inner.next(limits).await?);
        }
        self.tap.before_batch.pass().await;
        let mut batch = self.held.take().unwrap_or_default();
        let (all, one) = (self.tap.strips_marks.load(Memory::SeqCst), self.tap.strips_mark_of.lock().unwrap().clone());
        for event in &mut batch.events {
            if let Event::Observed(observation) | Event::Read(observation) = event {
                let shows = |value: &Value| {
                    observation.image.record().is_some_and(|record| record.iter().any(|(_, shown)| shown == value))
                };
                if all || one.as_ref().is_some_and(shows) {
                    observation.mark = None;
                }
            }
        }
        Ok(batch)
    }

    fn waits_for(&self) -> Option<Error> {
        self.inner.waits_for()
    }

    fn tells_whose(&self) -> bool {
        self.inner.tells_whose()
    }
}

#[async_trait]
impl Connector for Gated {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    async fn check(&self, objects: &[ObjectName]) -> Result<Vec<Finding>> {
        self.inner.check(objects).await
    }

    async fn objects(&self) -> Result<Vec<ObjectName>> {
        self.inner.objects().await
    }

    async fn schema(&self, object: &ObjectName) -> Result<Schema> {
        self.inner.schema(object).await
    }

    async fn count(&self, object: &ObjectName) -> Result<u64> {
        self.inner.count(object).await
    }

    async fn prepare(&self, selections: &[Selection], known: &[Feed]) -> Result<Vec<Feed>> {
        self.inner.prepare(selections, known).await
    }

    async fn capture(&self, feed: &Feed, from: &Position) -> Result<Box<dyn Changes>> {
        let inner = self.inner.capture(feed, from).await?;
        Ok(Box::new(GatedChanges { inner, tap: Arc::clone(&self.tap), held: None }))
    }

    async fn acknowledge(&self, feed: &FeedName, upto: &Position) -> Result<()> {
        self.tap.before_acknowledge.pass().await;
        self.inner.acknowledge(feed, upto).await
    }

    fn reached(&self, position: &Position, goal: &Position) -> bool {
        self.inner.reached(position, goal)
    }

    async fn fence(&self, feed: &FeedName) -> Result<Position> {
        self.inner.fence(feed).await
    }

    async fn health(&self, feed: &FeedName) -> Result<FeedHealth> {
        self.inner.health(feed).await
    }

    async fn snapshot(&self, selection: &Selection, from: &ChunkCursor, limit: usize) -> Result<Chunk> {
        let refuses = self.tap.cannot_read.lock().unwrap().is_some();
        if refuses && !keeps_the_beat(selection) && selection.fields.len() > 1 {
            return Err(Error::new(Code::TargetRejected, "a record of the chunk cannot be read"));
        }
        let chunk = self.inner.snapshot(selection, from, limit).await;
        if !keeps_the_beat(selection) {
            self.tap.after_chunk.pass().await;
        }
        chunk
    }

    async fn read(&self, selection: &Selection, keys: &[Key]) -> Result<Vec<Presence>> {
        let refused = self.tap.cannot_read.lock().unwrap().clone();
        if refused.is_some_and(|refused| keys.contains(&refused)) && !keeps_the_beat(selection) {
            return Err(Error::new(Code::TargetRejected, "a record cannot be read"));
        }
        let mut found = self.inner.read(selection, keys).await?;
        let forbidden = self.tap.forbids.lock().unwrap().clone();
        for (_, presence) in keys.iter().zip(&mut found).filter(|(key, _)| forbidden.as_ref() == Some(*key)) {
            *presence = Presence::Forbidden(Error::new(Code::Forbidden, "a record may not be seen"));
        }
        Ok(found)
    }

    async fn find(
        &self,
        selection: &Selection,
        by: &[FieldName],
        values: &[Vec<Value>],
        limit: usize,
    ) -> Result<Vec<Vec<Observation>>> {
        let refused = self.tap.cannot_find.lock().unwrap().clone();
        if refused.is_some_and(|refused| values.iter().flatten().any(|value| *value == refused)) {
            return Err(Error::new(Code::TargetRejected, "such a value cannot be looked for"));
        }
        self.inner.find(selection, by, values, limit).await
    }

    async fn apply(&self, selection: &Selection, mark: &Mark, writes: &[Write]) -> Result<Vec<WriteResult>> {
        if keeps_the_beat(selection) {
            return self.inner.apply(selection, mark, writes).await;
        }
        self.tap.before_apply.pass().await;
        let at_once = if self.tap.splits.load(Memory::SeqCst) { 1 } else { writes.len().max(1) };
        let mut results = Vec::with_capacity(writes.len());
        for some in writes.chunks(at_once) {
            results.extend(self.inner.apply(selection, mark, some).await?);
        }
        self.tap.after_apply.pass().await;
        if self.tap.loses_answers.load(Memory::SeqCst) {
            for result in &mut results {
                result.outcome = Outcome::Unknown;
            }
        }
        Ok(results)
    }

    async fn made(&self, selection: &Selection, mark: &Mark, since: Moment, creates: &[Write]) -> Result<Vec<Made>> {
        self.inner.made(selection, mark, since, creates).await
    }

    async fn release(&self, objects: &[ObjectName]) -> Result<()> {
        self.inner.release(objects).await
    }

    fn compare(&self, a: &Version, b: &Version) -> Option<Ordering> {
        self.inner.compare(a, b)
    }
}
