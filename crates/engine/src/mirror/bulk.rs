//! What mirror mode asks of two systems beyond the ordinary seam: views of an object frozen at a place of its feed, and a
//! target that keeps a sync's progress beside the data, in the data's own transaction. Behind `Connector`, not beside it:
//! a connector that has neither runs every sync in reconcile mode.
//!
//! **Exactly once.** Whatever a session writes and the progress that it is told to keep take effect together or not at all.
//! **Durable.** What `write` did may go with a crash of the target, progress and all, until `settle` says that it is safe; what
//! `keep` and the loads did is safe at once. The source is told only what is safe.
//! **One writer.** Taking a sync over ends what an earlier session could still do: its transactions stand before the
//! progress is read, or never will. **Order.** Steps take effect as if one after the other in the order given.
//! **Behind others.** A session that stands behind others commits nothing that could be seen without what those have committed.

use super::batch::Step;
use super::lanes::{Ahead, Lane};
use crate::change::{Observation, Position, Version};
use crate::error::{Code, Error, Result};
use crate::filter::Condition;
use crate::record::{FieldName, Key, ObjectName};
use crate::schema::{ForeignKey, ForeignKeys, Selection};
use crate::value::Value;
use async_trait::async_trait;
use futures_util::stream::BoxStream;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A system whose objects can be read as they were at one place of its feed.
#[async_trait]
pub trait BulkSource: Send + Sync {
    /// Freezes a view of an object. Every change committed before [`Frozen::position`] is in it, none behind.
    async fn freeze(&self, selection: &Selection) -> Result<Arc<dyn Frozen>>;

    /// The foreign keys of an object.
    async fn keeps(&self, object: &ObjectName) -> Result<Vec<ForeignKey>> {
        let _ = object;
        Ok(Vec::new())
    }
}

/// The foreign keys of a target's object.
#[derive(Clone, Debug, Default)]
pub struct Bonds {
    /// Which.
    pub keys: ForeignKeys,
    /// Why they cannot be left to the source, where that is so.
    pub hindrance: Option<String>,
}

/// What a session has committed, as others find it in the target: the session's own bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing(pub Vec<u8>);

/// A view of an object that stays as it is for as long as this value lives.
#[async_trait]
pub trait Frozen: Send + Sync {
    /// The view's version: an event that is not newer is in the view.
    fn version(&self) -> &Version;

    /// A place that the feed passes behind everything that is in the view.
    fn position(&self) -> &Position;

    /// Splits the view into about so many ranges of about the same size.
    async fn ranges(&self, count: usize) -> Result<Vec<Range>>;

    /// How many records the view holds, counted one by one.
    async fn count(&self) -> Result<u64>;

    /// Whether the system itself can ask a condition of its records, and finds it true of exactly those of which the engine does.
    fn can_ask(&self, filter: &Condition) -> bool {
        let _ = filter;
        false
    }

    /// The records of a range as the system's own bulk format, for a target that reads it; those of which a condition is true, where
    /// one is given that can be asked.
    async fn raw(
        &self,
        range: &Range,
        fields: &[RawField],
        filter: Option<&Condition>,
    ) -> Result<BoxStream<'static, Result<Piece>>>;

    /// Records by their keys; one that is not in the view is left out.
    async fn read(&self, keys: &[Key]) -> Result<Vec<Observation>>;

    /// The records of a range, some at a time: so many that few of them are held at once, however large they are.
    async fn records(&self, range: &Range) -> Result<BoxStream<'static, Result<Vec<Observation>>>>;
}

/// A field as the bulk format is to give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawField {
    /// Its name.
    pub name: FieldName,
    /// The system's type that its values are given in; `None`: its own.
    pub given_as: Option<String>,
}

/// A piece of the bulk format.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The bytes; a piece may end anywhere.
    pub bytes: bytes::Bytes,
    /// How many records end in it.
    pub records: u64,
}

/// Records whose first key field lies from one value on and below another; no value: no bound.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Range {
    /// The first value.
    pub from: Option<Value>,
    /// The first value behind it.
    pub below: Option<Value>,
}

impl Range {
    /// Whether a record lies in it.
    pub fn contains(&self, key: &Key) -> bool {
        let Some(first) = key.0.first() else { return false };
        let is_from = self.from.as_ref().is_none_or(|from| order(first, from).is_some_and(Ordering::is_ge));
        is_from && self.below.as_ref().is_none_or(|below| order(first, below).is_some_and(Ordering::is_lt))
    }
}

/// The order that ranges follow: of numbers, and of UUIDs byte by byte, as every server has them.
fn order(one: &Value, other: &Value) -> Option<Ordering> {
    match (one, other) {
        (Value::Uuid(one), Value::Uuid(other)) => Some(one.as_bytes().cmp(other.as_bytes())),
        _ => one.compare(other),
    }
}

/// A system that records can be carried into with the progress kept beside them.
#[async_trait]
pub trait MirrorTarget: Send + Sync {
    /// Why an object cannot be mirrored into, if it cannot. Changes nothing.
    async fn objection(&self, object: &ObjectName) -> Result<Option<String>>;

    /// The foreign keys of an object, where records can be carried into it with those left to the source. Changes nothing.
    async fn bonds(&self, object: &ObjectName) -> Result<Bonds> {
        let _ = object;
        Ok(Bonds::default())
    }

    /// Whether records without a key can be appended here, and all of an object be read as a whole.
    fn appends(&self) -> bool {
        false
    }

    /// Takes a sync over.
    async fn take_over(&self, sync: &str, object: &ObjectName) -> Result<Taken>;

    /// The indexes, by name, that a first load of the object could do without, where it holds no record. Of unique ones those over
    /// fields that are unique at the source, too.
    async fn spare_indexes(&self, object: &ObjectName, unique: &[Vec<FieldName>]) -> Result<Vec<String>> {
        let _ = (object, unique);
        Ok(Vec::new())
    }

    /// The syncs whose progress is kept and whose names begin so.
    async fn kept(&self, prefix: &str) -> Result<Vec<String>>;

    /// Forgets a sync's progress, once indexes that were set aside for it are built again; what was made for it goes with the last one.
    async fn forget(&self, sync: &str) -> Result<()>;
}

/// A sync that was taken over.
pub struct Taken {
    /// What writes.
    pub session: Arc<dyn MirrorSession>,
    /// The progress as it was last kept; `None`: there is none.
    pub progress: Option<Vec<u8>>,
    /// What was kept of lanes last, those that are not ahead of the progress any more as well.
    pub lanes: Vec<Ahead>,
}

/// Who writes into the target of one sync. Calls of [`MirrorSession::load`] may be made side by side, and
/// those of [`MirrorSession::write_lane`] for different lanes; the others one at a time.
#[async_trait]
pub trait MirrorSession: Send + Sync {
    /// Leaves these foreign keys to the source, which keeps the same: what is written from now on is not held against them, and nothing
    /// else is changed because of them; the source tells of what was. An error where there are others by now, or where something of
    /// somebody's would not be done then.
    async fn leave_foreign_keys(&self, keys: &ForeignKeys) -> Result<()> {
        let _ = keys;
        Err(Error::new(Code::Unsupported, "foreign keys cannot be left to the source here"))
    }

    /// What has been committed here until now.
    fn standing(&self) -> Standing {
        Standing::default()
    }

    /// From the next transaction on nothing is committed but where what others have committed stands.
    fn stand_behind(&self, others: Vec<Standing>) {
        let _ = others;
    }

    /// Whether what others have committed stands; an error where it does not. May be asked while something is being written.
    async fn require(&self, others: &[Standing]) -> Result<()> {
        let _ = others;
        Ok(())
    }

    /// The ranges that are loaded.
    async fn loaded(&self) -> Result<BTreeSet<u32>>;

    /// Whether the object holds no record.
    async fn is_empty(&self) -> Result<bool>;

    /// How many records the object holds, counted one by one.
    async fn count(&self) -> Result<u64>;

    /// Sets the spare indexes of an object without a record aside, of unique ones (the key's is one) those over these sets of fields:
    /// nothing of them is lost, whatever happens.
    async fn set_indexes_aside(&self, unique: &[Vec<FieldName>]) -> Result<()> {
        let _ = unique;
        Ok(())
    }

    /// Builds the indexes that were set aside, if any were.
    async fn build_indexes(&self) -> Result<()> {
        Ok(())
    }

    /// Builds that of the key, if it was set aside: without it no record is found.
    async fn build_key(&self) -> Result<()> {
        Ok(())
    }

    /// Keeps the progress; `anew`: no range is loaded, and no lane has got anywhere.
    async fn keep(&self, progress: &[u8], anew: bool) -> Result<()>;

    /// Makes safe what was written until now. May be called while something is being written.
    async fn settle(&self) -> Result<()>;

    /// Carries steps out, and keeps the progress. It can be seen when this answers, and is safe when it is settled.
    async fn write(&self, steps: &[Step], progress: &[u8], helper: &dyn Helper) -> Result<()>;

    /// How many lanes may be carried out side by side: one, where what is done to a record may bear on others.
    fn lanes_max(&self) -> usize {
        1
    }

    /// Carries the steps of one lane out and keeps that it has got up to this event, before [`MirrorSession::write`] keeps the
    /// progress of all. `false`: nothing of it was done, for other lanes stand in its way or a record is refused.
    async fn write_lane(&self, lane: Lane, steps: &[Step], applied: &Version, helper: &dyn Helper) -> Result<bool> {
        let _ = (lane, steps, applied, helper);
        Ok(false)
    }

    /// Whether records of the source's bulk format can be taken: these fields of ours, in this order, whose types are called so at
    /// the source. For each the source's type that it has to be given in, if that is another one; `None`: they cannot.
    async fn takes_raw(&self, kind: &str, fields: &[(FieldName, String)]) -> Result<Option<Vec<Option<String>>>>;

    /// Loads a range from the source's bulk format, all or nothing. Gives back how many records.
    async fn load_raw(&self, range: u32, fields: &[FieldName], rows: BoxStream<'static, Result<Piece>>) -> Result<u64>;

    /// Loads a range from steps, all or nothing.
    async fn load(&self, range: u32, rows: BoxStream<'_, Result<Vec<Step>>>, helper: &dyn Helper) -> Result<()>;
}

/// What a session asks for before it commits.
#[async_trait]
pub trait Helper: Send + Sync {
    /// Whole records for the first of those whose partial change met nothing, as steps that make them: as many as may be held at
    /// once; one that is gone is left out. Gives back how many were looked for, at least one.
    async fn whole(&self, keys: &[Key]) -> Result<(Vec<Step>, usize)>;

    /// Whether there is something to be carried out behind the steps.
    fn has_more(&self) -> bool {
        false
    }

    /// What is to be carried out behind the steps, in the same transaction: as much as may be held at once; `None`: that was all.
    async fn more(&self) -> Result<Option<Vec<Step>>> {
        Ok(None)
    }

    /// Makes durable that these steps were refused, and why: the session goes on without them.
    async fn refused(&self, refused: Vec<(Step, Error)>) -> Result<()>;
}
