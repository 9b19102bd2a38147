//! The durable history of outcomes: what was written where, what lost to it, and which rule decided.
//! Rows are only ever added, and removed by age. Never holds a secret; holds values, as the records do.

use crate::clock::Moment;
use crate::link::{LinkId, MemberIndex, SyncId};
use crate::value::Value;
use serde::{Deserialize, Serialize};

/// One outcome for one record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LedgerRow {
    /// When it became known.
    pub at: Moment,
    /// The sync.
    pub sync: SyncId,
    /// The link; `None` when the record never got one (a rejected stranger).
    pub link: Option<LinkId>,
    /// The member that it is about: the one written to, or the one whose value lost.
    pub member: MemberIndex,
    /// The record's key there, as people read it.
    pub key: String,
    /// What became of it.
    pub entry: Entry,
    /// Field by field.
    pub fields: Vec<FieldEntry>,
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// A record was made.
    Created,
    /// Fields were written.
    Updated,
    /// A record was removed.
    Deleted,
    /// Two records were found to be the same one.
    Linked,
    /// A value lost a conflict.
    Lost,
    /// Not carried over, and why.
    Skipped(String),
    /// Waits for a person.
    Held(String),
    /// Failed validation or was refused by the target.
    Rejected(String),
    /// Failed, with the code.
    Failed(String),
    /// Let through although a validation rule speaks against it, and what the rule says.
    Warned(String),
}

/// One field of an outcome, in canonical terms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FieldEntry {
    /// The canonical field.
    pub field: String,
    /// What the member showed before; `None` = not known.
    pub old: Option<Value>,
    /// What was written; for a lost value, what won.
    pub new: Option<Value>,
    /// The member that the new value came from.
    pub from: MemberIndex,
    /// When it was edited there.
    pub edited: Moment,
    /// The rule that decided.
    pub rule: Rule,
}

/// What decided about a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Nobody else had changed it.
    OnlyChange,
    /// It was the first value seen, or the only one that was not null.
    FirstSeen,
    /// `initial_sync.authority`.
    Authority,
    /// The latest edit.
    LastWriteWins,
    /// `system_priority` or a field rule that names a system.
    Priority,
    /// A person.
    Manual,
    /// A person: the members may differ until the next change.
    LeftAsItIs,
    /// The contenders came to agree.
    NoLongerInConflict,
    /// `delete_vs_update: delete_wins`.
    DeleteWins,
    /// Under a mapping that has been changed since: it is to be decided again before it counts.
    OldMapping,
    /// The mapping was changed: what was decided last went through the new one.
    NewMapping,
    /// A person: what validation refuses stays where it is, and is written nowhere, until the next change.
    LeftRefused,
}

impl Rule {
    /// Whether a person let the members differ.
    pub fn is_left(self) -> bool {
        matches!(self, Rule::LeftAsItIs | Rule::LeftRefused)
    }
}
