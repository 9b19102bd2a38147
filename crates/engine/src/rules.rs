//! A sync as the engine runs it: every name resolved, every type known, every transformation compiled.
//! Made by `plan` from a configuration and real schemas (or by a test, by hand); never changed while it runs.

use crate::clock::Moment;
use crate::config::Schedule;
use crate::filter::Condition;
use crate::link::{FieldIndex, GroupIndex, MemberIndex, SyncId};
use crate::map::Mapping;
use crate::record::{FieldName, ObjectName, SyncName, SystemName};
use crate::references::Reference;
use crate::schema::{ForeignKey, ForeignKeys, Schema, Selection, Type};
use crate::transform::MatchKind;
use crate::validate::Rule;
use std::time::Duration;

/// One kind of record kept equal across two or more members.
#[derive(Clone, Debug)]
pub struct SyncRules {
    /// Its number in the store.
    pub id: SyncId,
    /// Its name.
    pub name: SyncName,
    /// The members, in the order of the configuration, which is their rank in a tie.
    pub members: Vec<MemberRules>,
    /// The canonical fields.
    pub fields: Vec<FieldRules>,
    /// The field groups; every field is in exactly one.
    pub groups: Vec<GroupRules>,
    /// Which list of canonical fields this is, in the store's numbering.
    pub layout: u32,
    /// The fields that tell that records of two members are the same one. Empty: only creates make links.
    pub match_on: Vec<MatchRule>,
    /// What every mapped record must pass, in canonical terms.
    pub validation: Vec<Rule>,
    /// Deletes.
    pub deletes: DeleteRules,
    /// The first run.
    pub initial: InitialRules,
    /// The loop breaker.
    pub loops: LoopRules,
    /// The mass-change guard.
    pub guard: GuardRules,
    /// Retries.
    pub retry: RetryRules,
    /// What happens after the last attempt.
    pub fallback: Fallback,
    /// What happens to edits against a one-way field.
    pub target_edits: TargetEdits,
    /// The most writes in one flight.
    pub batch_size: usize,
    /// The most flights under way to one member.
    pub parallelism: usize,
    /// How long a conflict whose time is only estimated waits for the feed to tell the real one.
    pub estimate_wait: Duration,
    /// How long a deleted record's tombstone is kept.
    pub tombstones: Duration,
    /// When changes are carried.
    pub carrying: Carrying,
    /// Which of the source's records take part, where not all do. Mirror mode alone knows of it.
    pub filter: Option<Condition>,
    /// What binds it to other mirrored syncs. Mirror mode alone knows of it.
    pub kin: Kin,
}

/// What binds a mirrored sync to others: foreign keys between their targets' objects, which the source keeps as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kin {
    /// The foreign keys of the target's object, and the others that name its records.
    pub at_target: ForeignKeys,
    /// Those of the source's object by which the source keeps what the target's ask for.
    pub at_source: Vec<ForeignKey>,
    /// The syncs of the objects whose records its own name: what they name is there before they are.
    pub behind: Vec<SyncName>,
    /// The syncs whose records name its own.
    pub ahead_of: Vec<SyncName>,
}

impl Kin {
    /// Whether there is no foreign key.
    pub fn is_alone(&self) -> bool {
        self.at_target.is_empty()
    }

    /// Whether records name others of the same object.
    pub fn names_its_own(&self, object: &ObjectName) -> bool {
        self.at_target.own.iter().any(|key| key.object == *object)
    }
}

/// When changes are carried. They are recorded as they happen in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrying {
    /// As they happen.
    AtOnce,
    /// This long after the last time that everything had been carried.
    Every(Duration),
    /// At these times, until everything has been carried.
    At(Schedule),
}

impl Carrying {
    /// When changes are next carried, once everything has been.
    pub fn next(&self, now: Moment) -> Option<Moment> {
        match self {
            Carrying::AtOnce => None,
            Carrying::Every(interval) => Some(now.plus(*interval)),
            Carrying::At(schedule) => schedule.next(now),
        }
    }
}

/// One member of a sync.
#[derive(Clone, Debug)]
pub struct MemberRules {
    /// The system's name.
    pub system: SystemName,
    /// The object.
    pub object: ObjectName,
    /// The alias that rules may use for it.
    pub role: Option<String>,
    /// What is read of it: every mapped field, the key, the edit-time field, the soft-delete field.
    pub selection: Selection,
    /// Its schema when the plan was made.
    pub schema: Schema,
    /// Whether its creates and deletes flow to the others.
    pub outward: bool,
    /// Whether the others' creates and deletes flow to it.
    pub inward: bool,
    /// The field whose value is the time of an edit, where there is one.
    pub edit_time_field: Option<FieldName>,
    /// The field that says that a record is deleted, under `on_delete: soft_delete`.
    pub soft_delete_field: Option<FieldName>,
}

/// One canonical field.
#[derive(Clone, Debug)]
pub struct FieldRules {
    /// Its canonical name.
    pub name: String,
    /// The group it belongs to.
    pub group: GroupIndex,
    /// The only member whose edits of it flow.
    pub owner: Option<MemberIndex>,
    /// The sync whose records it names, where it does.
    pub reference: Option<Reference>,
    /// How each member shows it; `None` where a member does not have it.
    pub members: Vec<Option<MemberField>>,
}

/// A canonical field as one member has it.
#[derive(Clone, Debug)]
pub struct MemberField {
    /// The member's name of the field.
    pub name: FieldName,
    /// The type there.
    pub ty: Type,
    /// The system's own name of the type, for messages.
    pub native_type: String,
    /// The way from and to canonical terms.
    pub mapping: Mapping,
    /// Whether edits of it here flow to the others.
    pub outward: bool,
    /// Whether it is written here.
    pub inward: bool,
    /// Whether a create may give it.
    pub creatable: bool,
    /// Whether an update may set it.
    pub updatable: bool,
    /// Whether the transformed form is brought back to the member that a value came from.
    pub write_back: bool,
    /// Whether a value that the field cannot hold exactly may be written in its lossy form.
    pub lossy: bool,
}

impl MemberField {
    /// The type's name for messages.
    pub fn native(&self) -> &str {
        &self.native_type
    }
}

/// A group of fields that change hands together.
#[derive(Clone, Debug)]
pub struct GroupRules {
    /// Its name: the field's own, for a group of one.
    pub name: String,
    /// Its fields.
    pub fields: Vec<FieldIndex>,
    /// How a conflict is decided.
    pub policy: Policy,
}

/// How a conflict over a group is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The latest edit of the group; a tie goes to the member of lower rank.
    LastWriteWins,
    /// The first of these that contends; if none does, the latest edit.
    Priority(Vec<MemberIndex>),
    /// A person decides.
    Manual,
}

/// A field that tells that two records are the same one.
#[derive(Clone, Debug)]
pub struct MatchRule {
    /// The canonical field.
    pub field: FieldIndex,
    /// What is smoothed out before comparing.
    pub normaliser: MatchKind,
}

/// What a delete does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRules {
    /// When nobody edited the record.
    pub on_delete: OnDelete,
    /// When somebody did.
    pub against_edit: DeleteAgainstEdit,
}

/// What a delete does where nobody edited the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDelete {
    /// The record is deleted everywhere.
    Propagate,
    /// The others' soft-delete field is set.
    SoftDelete,
    /// The records go their own ways.
    Detach,
    /// Nothing; the record stays gone where it was deleted.
    Ignore,
}

/// What a delete does where somebody edited the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteAgainstEdit {
    /// The record is made anew where it was deleted.
    UpdateWins,
    /// The record is deleted everywhere.
    DeleteWins,
    /// A person decides.
    Manual,
}

/// The first run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialRules {
    /// What the first run reads and makes.
    pub strategy: InitialStrategy,
    /// Who wins where matched records differ and there is no base yet.
    pub authority: Authority,
    /// Whether an empty target is loaded without its secondary indexes, which are built behind the load.
    pub rebuild_indexes: bool,
}

/// What the first run reads and makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InitialStrategy {
    /// Both sides are read; what is missing is made.
    FullLoad,
    /// Both sides are read and matched; nothing is made.
    MatchOnly,
    /// Nothing is read: only changes from now on.
    FromNow,
    /// What changed since then is read, by the field that tells the time of an edit; a member without one is not.
    Since(Moment),
}

impl InitialStrategy {
    /// Whether a record that is only read, and has no match, is made nowhere.
    pub fn makes_nothing(&self) -> bool {
        matches!(self, InitialStrategy::MatchOnly | InitialStrategy::FromNow)
    }
}

/// Who wins where matched records differ and there is no base yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// This member.
    Member(MemberIndex),
    /// The conflict rules.
    Policy,
    /// A person decides.
    Review,
}

/// The loop breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopRules {
    /// Whether it watches.
    pub enabled: bool,
    /// How far it looks back.
    pub window: Duration,
    /// The most returns to a value, or causal hops.
    pub max: u32,
}

/// The mass-change guard.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GuardRules {
    /// The most deletes of one member within the window.
    pub max_deletes: u64,
    /// The most of a member's records deleted within the window, in percent; counts from 20 records on.
    pub max_deletes_percent: f64,
    /// The window.
    pub window: Duration,
}

/// Retries with full jitter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryRules {
    /// Attempts of one record before it goes to review. An unreachable system costs none.
    pub max_attempts: u32,
    /// The wait before the second attempt.
    pub initial_delay: Duration,
    /// What each further wait is longer by.
    pub backoff_factor: f64,
    /// The longest wait.
    pub max_delay: Duration,
}

impl RetryRules {
    /// The longest wait after `attempts` failures; the caller takes a random part of it (full jitter).
    pub fn delay(&self, attempts: u32) -> Duration {
        let exponent = i32::try_from(attempts.saturating_sub(1).min(64)).unwrap_or(64);
        let seconds = self.initial_delay.as_secs_f64() * self.backoff_factor.max(1.0).powi(exponent);
        Duration::try_from_secs_f64(seconds).map_or(self.max_delay, |delay| delay.min(self.max_delay))
    }
}

/// What happens after the last attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// The record waits for a person.
    Review,
    /// The change is dropped, with a ledger row.
    Skip,
    /// The sync stops.
    Stop,
}

/// What happens to edits of a field against its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetEdits {
    /// They are written over at once.
    Overwrite,
    /// They stay until the source next changes that field.
    Keep,
    /// A person decides.
    Review,
}

impl SyncRules {
    /// The canonical field of this name.
    pub fn field(&self, name: &str) -> Option<FieldIndex> {
        self.fields.iter().position(|field| field.name == name)
    }

    /// How a member shows a field.
    pub fn at(&self, member: MemberIndex, field: FieldIndex) -> Option<&MemberField> {
        self.fields.get(field)?.members.get(member)?.as_ref()
    }

    /// The fields of a group.
    pub fn group_fields(&self, group: GroupIndex) -> &[FieldIndex] {
        self.groups.get(group).map_or(&[], |group| group.fields.as_slice())
    }

    /// Whether edits of a field at this member flow to the others.
    pub fn flows_from(&self, member: MemberIndex, field: FieldIndex) -> bool {
        let Some(rules) = self.fields.get(field) else { return false };
        if crate::mutants::active("flow_ignored") {
            return self.at(member, field).is_some();
        }
        rules.owner.is_none_or(|owner| owner == member) && self.at(member, field).is_some_and(|at| at.outward)
    }
}
