//! The seam between the engine and one connected system: the whole contract on one page.
//!
//! **Ordering.** Events of one feed come in the order in which the source committed them; events of one record
//! never overtake each other (invariant 9), and the versions of two events of one feed always compare, whichever
//! records they are of. **Duplicates** are allowed: after a restart anything behind the last
//! acknowledged position may come again, with equal versions. **Durability.** A connector never moves the
//! source's own position on its own: only [`Connector::acknowledge`] does, and it is called only with positions
//! whose events are durable (invariant 1). **Concurrency.** Every method may be called from several tasks at once;
//! [`Changes::next`] has one caller. **Cancellation.** Dropping a future leaves nothing half done that a later call
//! does not find out: a write that may have happened is the caller's to verify. **Retries.** A connector does not
//! retry on its own what the engine would not know of; it reconnects on the next call. **Errors** are classified
//! where they are born, by the system's codes and never by their text.

pub use crate::allowance::Allowance;
use crate::change::{EditTime, Mark, Observation, Position, Version, stamp};
use crate::clock::Moment;
use crate::error::{Code, Error, Result};
use crate::mirror::bulk::{BulkSource, MirrorTarget};
use crate::record::{FeedName, FieldName, Key, ObjectName, Record};
use crate::schema::{Field, Schema, Selection};
use crate::value::Value;
use async_trait::async_trait;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

/// What a connector can do, and its limits: a value, known before anything is asked of the system.
#[derive(Clone, Debug)]
pub struct Capabilities {
    /// The connector's kind, as `type` in the configuration names it.
    pub kind: &'static str,
    /// How changes are learnt.
    pub change_detection: ChangeDetection,
    /// Whether a write happens only if its guard holds, atomically. A connector without that reads right before it writes;
    /// what somebody does in between is written over, and the engine finds it in the feed: see `settle`.
    pub guarded_writes: bool,
    /// Whether our writes carry a mark that the feed gives back.
    pub marks: bool,
    /// Whether a feed that has passed a fence without a mark proves that the write never happened. Without it the records are
    /// read, and what was to be made is looked up.
    pub fences_prove: bool,
    /// Whether a create may give the record's key (natural keys, or an old key after a delete).
    pub keys_can_be_given: bool,
    /// The most writes in one call of `apply`.
    pub max_batch: usize,
    /// How many writes of a first load are best made by one call, where that is worth more than the sync's `batch_size` says.
    pub load_batch: Option<usize>,
    /// How long a call of `apply` may take, where that is longer than usual.
    pub writes_take: Option<Duration>,
    /// How long after a call that was not answered the system may still carry it out; `None`: what a fence behind the call
    /// does not show never happens.
    pub writes_settle: Option<Duration>,
    /// Granularity of the feed's edit times, in microseconds.
    pub time_granularity_micros: u32,
    /// Whether its feeds have nothing to do with each other: one that was lost is then prepared and opened again by itself, while
    /// the others are read. Elsewhere they are one stream, or one connection, and are opened together.
    pub feeds_apart: bool,
}

/// How a connector learns of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeDetection {
    /// From the system's own log of commits.
    Log,
    /// From a change table that triggers fill.
    Triggers,
    /// By asking for what was modified.
    Polling,
}

/// One thing that `check` found, good or bad.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// The code; `None` for a plain statement of fact.
    pub code: Option<crate::error::Code>,
    /// What it is about: the system, an object, a field.
    pub about: String,
    /// What was found.
    pub message: String,
    /// What to do: the very statement where there is one. Empty for a fact.
    pub remedy: String,
    /// How bad it is.
    pub severity: Severity,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// As it should be.
    Fine,
    /// Works, but better otherwise (a missing index).
    Advice,
    /// Works now; may stop working.
    Warning,
    /// A sync cannot run.
    Problem,
}

/// What a sync may do to the records of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writes {
    /// Whether it makes records.
    pub creates: bool,
    /// Whether it changes fields of records.
    pub updates: bool,
    /// Whether it removes records.
    pub deletes: bool,
}

impl Writes {
    /// Whether it does anything at all.
    pub fn any(self) -> bool {
        self.creates || self.updates || self.deletes
    }

    /// What either of two does.
    #[must_use]
    pub fn or(self, other: Writes) -> Writes {
        Writes {
            creates: self.creates || other.creates,
            updates: self.updates || other.updates,
            deletes: self.deletes || other.deletes,
        }
    }
}

/// An object that takes part, and what is written to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Involved {
    /// The object.
    pub object: ObjectName,
    /// What the syncs that it takes part in do there.
    pub writes: Writes,
}

/// A feed that `prepare` made or found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Feed {
    /// Its name, unique within the system and stable across restarts.
    pub name: FeedName,
    /// The objects whose changes it carries.
    pub objects: Vec<ObjectName>,
    /// Where to read from: the stored position for a known feed, the beginning of a new one.
    pub position: Position,
    /// Objects that have just joined a running feed: their changes are complete only behind these positions, and a
    /// read of them counts only after the feed has passed there.
    pub complete_from: Vec<(ObjectName, Position)>,
}

/// How much one call may bring; each is a bound, none a wish (invariant 10).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most events in one batch.
    pub max_events: usize,
    /// About the most bytes in one batch; one larger record comes alone.
    pub max_bytes: usize,
    /// The longest wait for a first event. Whatever has arrived is returned at once: a batch is never waited full.
    pub max_wait: Duration,
}

/// From when on records count, by a field of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Since {
    /// The field that says when a record was last changed.
    pub field: FieldName,
    /// The first moment that counts.
    pub at: Moment,
}

impl Since {
    /// Whether a record counts. One that does not say when it was changed does.
    pub fn includes(&self, observation: &Observation) -> bool {
        let value = observation.image.record().and_then(|record| record.get(self.field.as_str()));
        value.and_then(|value| stamp(value, None)).is_none_or(|(changed, _)| changed >= self.at)
    }
}

/// One event of a feed.
#[derive(Clone, Debug)]
pub enum Event {
    /// A record was seen to change.
    Observed(Observation),
    /// A record was read in the feed's place, where the feed did not tell what it shows. It shows the record as of now,
    /// which may be newer than what the feed has yet to tell: it is taken as a read is. Of a feed that tells of each change;
    /// one that only asks what is new has nothing to tell behind what it asked, and gives [`Event::Observed`].
    /// One that is not there counts as deleted only where keys cannot be given: elsewhere it may have another key by now.
    Read(Observation),
    /// The whole object was emptied at once.
    Truncated {
        /// The object.
        object: ObjectName,
        /// The version of the emptiness.
        version: Version,
        /// When.
        time: EditTime,
    },
    /// The object has another schema from here on; events behind it are decoded with it.
    SchemaChanged(Schema),
}

/// What one step of a feed brought.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Events in commit order.
    pub events: Vec<Event>,
    /// The new position, once everything before it has been handed out. `None` in the middle of a source
    /// transaction: the events may be made durable, the position may not move.
    pub position: Option<Position>,
}

/// An open feed. Dropping it closes it.
#[async_trait]
pub trait Changes: Send {
    /// The next events, waiting at most `limits.max_wait`; an empty batch when there are none (its position may
    /// still have moved: other traffic of the system). Cancel-safe: a dropped call loses nothing.
    async fn next(&mut self, limits: Limits) -> Result<Batch>;

    /// A part of a record will do: where the system tells what a record was before an edit, the edit shows the fields that it has
    /// changed, and the key. To be said before the first events.
    fn may_show_parts(&mut self) {}

    /// A position that other traffic of the system has moved is given as soon as it is known: somebody waits for it.
    fn tell_when_idle(&mut self) {}

    /// Why nothing can be read for a while, where the feed goes on by itself later: an empty batch does not say then that there
    /// is nothing new.
    fn waits_for(&self) -> Option<Error> {
        None
    }

    /// Whether what it tells of a write of ours carries our mark, where [`Capabilities::marks`] says so of the system: a feed
    /// that only asks what is new cannot tell whose it is.
    fn tells_whose(&self) -> bool {
        true
    }
}

/// Where a snapshot has got to: the connector's own bytes; resumable after a restart. Empty: the beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ChunkCursor(pub Vec<u8>);

/// Some records of an object in the order of the key, all seen at one version.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// The records, each a full image whose version is the chunk's.
    pub records: Vec<Observation>,
    /// Where the next chunk begins; `None` when this was the last.
    pub next: Option<ChunkCursor>,
}

/// What a read by key showed.
#[derive(Clone, Debug)]
pub enum Presence {
    /// The record, in full.
    Present(Observation),
    /// It is not there.
    Absent {
        /// The version at which it was not there.
        version: Version,
    },
    /// It may be there; we may not see it. Never taken for a delete.
    Forbidden(Error),
}

/// One write of a batch. `id` ties the result to it; it is the caller's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Write {
    /// The caller's id of this write.
    pub id: u64,
    /// What to do.
    pub operation: Operation,
}

/// What a write does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Operation {
    /// Makes a record. Guarded by absence: a record with the given key, or with equal values in all of
    /// `absent_by`, makes it a [`Outcome::Collision`]. What the image leaves out of them is equal to null.
    Create {
        /// Every field that has a value to give, key fields included where the key is given.
        image: Record,
        /// The match fields; empty when nothing but the key tells records apart.
        absent_by: Vec<FieldName>,
    },
    /// Changes fields of a record, if it shows the guard.
    Update {
        /// The record.
        key: Key,
        /// Fields to set; may name key fields (a key change).
        set: Record,
        /// What the record must show, field by field, for the write to happen.
        guard: Record,
    },
    /// Removes a record, if it shows the guard.
    Delete {
        /// The record.
        key: Key,
        /// What it must show.
        guard: Record,
    },
}

/// What became of one write.
#[derive(Clone, Debug)]
pub struct WriteResult {
    /// The caller's id.
    pub id: u64,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of one write.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It happened, and is durable in the system.
    Written {
        /// The record's key now (generated ones included).
        key: Key,
        /// Every selected field as the system returned it; `None` after a delete.
        image: Option<Record>,
        /// A version that stands behind every change of the record before our write and before every later one.
        version: Version,
    },
    /// The record is there but shows something else than the guard, or is not there: read and plan again.
    Missed,
    /// A create met a record that is already there.
    Collision,
    /// The record is locked by somebody else: try again.
    Locked,
    /// Failed for this record alone; the class of the error says what follows.
    Failed(Error),
    /// It may have happened: to be verified.
    Unknown,
}

/// What a look-up says of a create whose outcome is unknown.
#[derive(Clone, Debug)]
pub enum Made {
    /// It happened: this is its record, in full.
    Yes(Box<Observation>),
    /// It did not happen, and what is still under way cannot make a second record beside one that is made now.
    No,
    /// It has not happened yet and may still: to be asked again after so long.
    NotYet(Duration),
    /// Nothing can tell it: several records could be it, or none can be asked for.
    Unsure,
}

/// Work of which it is asked how many calls it takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Workload {
    /// Records read in chunks of so many.
    pub records: u64,
    /// The size of a chunk.
    pub chunk: u64,
    /// Records made.
    pub creates: u64,
    /// Records changed.
    pub updates: u64,
    /// The most writes in one batch.
    pub batch: u64,
    /// Records of the other systems that are looked for here.
    pub searches: u64,
    /// The most of them that are looked for at once.
    pub search_batch: u64,
    /// By how many fields that is done, and what is made is looked for once more; none: nothing is looked for.
    pub searched_by: u64,
}

/// What is left in a system of a feed that belongs to no sync any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// The feed.
    pub feed: FeedName,
    /// Bytes of log that the system keeps for it; `None`: it keeps none.
    pub retained_bytes: Option<u64>,
    /// Whether somebody reads it.
    pub is_read: bool,
    /// What removes it, in the system's own words.
    pub removal: String,
}

/// How a feed does at the source.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FeedHealth {
    /// Bytes of log that the source keeps because of us.
    pub retained_bytes: Option<u64>,
    /// The most the source is ready to keep, if there is a limit.
    pub retained_bytes_max: Option<u64>,
    /// The position in the source's own notation, for people.
    pub position: String,
    /// Something a person should act on before it is too late.
    pub warning: Option<String>,
}

/// One connected system: everything the engine needs of it, nothing more.
#[async_trait]
pub trait Connector: Send + Sync {
    /// What this connector can do.
    fn capabilities(&self) -> &Capabilities;

    /// Looks at reach, privileges, settings and limits for these objects. Findings rather than errors: all of them in
    /// one go, each with its remedy. Changes nothing.
    async fn check(&self, objects: &[ObjectName]) -> Result<Vec<Finding>>;

    /// What stands in the way of these writes, beyond what [`Connector::check`] finds, which asks for no more than reading
    /// needs: findings with their remedies. Changes nothing.
    async fn check_writes(&self, _objects: &[Involved]) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }

    /// Every object that could take part.
    async fn objects(&self) -> Result<Vec<ObjectName>>;

    /// The schema of an object now.
    async fn schema(&self, object: &ObjectName) -> Result<Schema>;

    /// About how many records the object holds (an estimate from the system's statistics is enough).
    async fn count(&self, object: &ObjectName) -> Result<u64>;

    /// Makes what capture needs (slot, publication, triggers) and says where each feed begins. Idempotent; objects may
    /// join or leave between calls. `known` are the feeds of an earlier run with their stored positions: one that
    /// cannot be resumed there is [`Code::FeedGap`](crate::error::Code::FeedGap), or
    /// [`Code::FeedRewound`](crate::error::Code::FeedRewound) where the system shows an earlier state than the one that was
    /// read from it; never silently begun anew.
    /// A known feed with an empty position is one whose gap was accepted by a person: it begins anew.
    /// Where [`Capabilities::feeds_apart`] says so, also asked for the objects of one feed alone: the others stay as they are.
    async fn prepare(&self, selections: &[Selection], known: &[Feed]) -> Result<Vec<Feed>>;

    /// Opens a feed behind `from`, after checking that it can be resumed there.
    async fn capture(&self, feed: &Feed, from: &Position) -> Result<Box<dyn Changes>>;

    /// Tells the source that everything up to here is durable with us. Cumulative; may be called while
    /// [`Changes::next`] waits.
    async fn acknowledge(&self, feed: &FeedName, upto: &Position) -> Result<()>;

    /// Whether `position` is at or behind (later than) `goal` in a feed.
    fn reached(&self, position: &Position, goal: &Position) -> bool;

    /// A place that every feed of the system passes behind the transaction of the change of this version, told or not; `None`: none is
    /// known.
    fn place_behind(&self, version: &Version) -> Option<Position> {
        let _ = version;
        None
    }

    /// A position such that every write of this installation that will ever take effect and was begun before this
    /// call is at or before it. Waits for, or ends, sessions of ours that are still about. A feed that has passed the
    /// fence without a mark proves that the write never happened, where [`Capabilities::fences_prove`] says so; elsewhere it
    /// has told of everything that was visible.
    async fn fence(&self, feed: &FeedName) -> Result<Position>;

    /// How the feed does at the source.
    async fn health(&self, feed: &FeedName) -> Result<FeedHealth>;

    /// Up to `limit` records in the order of the key, behind `from`.
    async fn snapshot(&self, selection: &Selection, from: &ChunkCursor, limit: usize) -> Result<Chunk>;

    /// As [`Connector::snapshot`], but only records that changed since a time. A connector that can ask its system for
    /// these alone does so.
    async fn snapshot_since(&self, selection: &Selection, from: &ChunkCursor, limit: usize, since: &Since) -> Result<Chunk> {
        let mut chunk = self.snapshot(selection, from, limit).await?;
        chunk.records.retain(|observation| since.includes(observation));
        Ok(chunk)
    }

    /// Every record of an object as it is at one moment, some at a time and in no order: for objects without a key, of which
    /// nothing else can be read.
    async fn whole(&self, selection: &Selection) -> Result<BoxStream<'static, Result<Vec<Observation>>>> {
        Err(Error::new(Code::Unsupported, format!("{} is not read as a whole", selection.object)))
    }

    /// Records by key; one answer per key, in the order asked.
    async fn read(&self, selection: &Selection, keys: &[Key]) -> Result<Vec<Presence>>;

    /// The same of the first of these records: no more of them than hold about so many bytes, and at least one.
    async fn read_within(&self, selection: &Selection, keys: &[Key], max_bytes: usize) -> Result<Vec<Presence>> {
        let _ = max_bytes;
        self.read(selection, keys).await
    }

    /// Records whose fields `by` equal a row of `values`; one list per row, in the order asked. At most `limit` records
    /// per row: more than one is already ambiguous.
    async fn find(
        &self,
        selection: &Selection,
        by: &[FieldName],
        values: &[Vec<Value>],
        limit: usize,
    ) -> Result<Vec<Vec<Observation>>>;

    /// As [`Connector::find`], for records that a first load brings. Where calls are short they wait, as in [`Connector::load`].
    async fn find_for_load(
        &self,
        selection: &Selection,
        by: &[FieldName],
        values: &[Vec<Value>],
        limit: usize,
    ) -> Result<Vec<Vec<Observation>>> {
        self.find(selection, by, values, limit).await
    }

    /// Writes a batch under one mark. One result per write. `Err` means that nothing at all was written and nothing
    /// will be; where that is not sure, the writes concerned are [`Outcome::Unknown`].
    async fn apply(&self, selection: &Selection, mark: &Mark, writes: &[Write]) -> Result<Vec<WriteResult>>;

    /// As [`Connector::apply`], for records that a first load brings and nobody has touched since. Where calls are short they wait,
    /// and what people do meanwhile goes before them: refused with [`Class::Throttled`](crate::error::Class::Throttled), which
    /// holds back nothing else.
    async fn load(&self, selection: &Selection, mark: &Mark, writes: &[Write]) -> Result<Vec<WriteResult>> {
        self.apply(selection, mark, writes).await
    }

    /// What became of creates of a batch whose outcome is unknown: by the external id or the idempotency key that they carried,
    /// else by what was made in our name since `since`, when the batch was about to be sent. One answer per write, in
    /// the order asked. Asked where no fence proves it.
    async fn made(&self, _selection: &Selection, _mark: &Mark, _since: Moment, creates: &[Write]) -> Result<Vec<Made>> {
        Ok(creates.iter().map(|_| Made::Unsure).collect())
    }

    /// What is known of the calls that the system lets us make; `None` where it counts none, or has not said yet.
    fn allowance(&self) -> Option<Allowance> {
        None
    }

    /// About how many calls of the system some work takes.
    fn calls_for(&self, work: &Workload) -> u64 {
        work.records
            .div_ceil(work.chunk.max(1))
            .saturating_add(work.creates.saturating_add(work.updates).div_ceil(work.batch.max(1)))
    }

    /// Whether a field would take a value that its type can hold, as far as is known without asking: a system may keep a list of
    /// those that it takes. A plan counts what would wait for a person; a write of such a value is refused.
    fn takes(&self, _object: &ObjectName, _field: &FieldName, _value: &Value) -> bool {
        true
    }

    /// The statement that makes an index by which records are found by these fields as [`Connector::find`] asks for them;
    /// `None` where there is no such statement, or no index would serve.
    fn index_statement(&self, _schema: &Schema, _fields: &[FieldName]) -> Option<String> {
        None
    }

    /// The statement that gives an object a field like this one, which is of a system of some kind; `None` where there is no such
    /// statement.
    fn field_statement(&self, _object: &ObjectName, _field: &Field, _kind: &str) -> Option<String> {
        None
    }

    /// The statement that makes an object with these fields and this key, the native types being those of a system of some kind;
    /// `None` where objects are not made by statements.
    fn object_statement(&self, _wanted: &Schema, _kind: &str) -> Option<String> {
        None
    }

    /// This system with a feed that one sync has for itself, so that a slow target of it holds nobody else back; `None`
    /// where it cannot have several. Stable: the same name is the same feed after a restart.
    fn for_one_sync(&self, _feed: &str) -> Option<Arc<dyn Connector>> {
        None
    }

    /// The name of its feed, where it has one and the name is known without asking.
    fn own_feed(&self) -> Option<FeedName> {
        None
    }

    /// What there is of this installation's feeds other than these: made for syncs or connections that are gone.
    async fn leftovers(&self, _known: &[FeedName]) -> Result<Vec<Leftover>> {
        Ok(Vec::new())
    }

    /// Removes what is left of a feed, unless somebody reads it.
    async fn remove_leftover(&self, _leftover: &Leftover) -> Result<()> {
        Ok(())
    }

    /// Its objects in bulk, frozen at a place of its feed, where it can show them so.
    fn bulk_source(&self) -> Option<&dyn BulkSource> {
        None
    }

    /// Its side as the target of mirrored syncs, where it can keep their progress beside the data.
    fn mirror_target(&self) -> Option<&dyn MirrorTarget> {
        None
    }

    /// Removes whatever `prepare` made for these objects; with the last object, whatever it made at all.
    async fn release(&self, objects: &[ObjectName]) -> Result<()>;

    /// How version `a` stands to version `b`; `None` when that cannot be told.
    fn compare(&self, a: &Version, b: &Version) -> Option<Ordering>;
}
