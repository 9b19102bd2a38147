//! What waits for a person: conflicts, rejects, ambiguous matches, exhausted retries, guarded mass changes.
//! An item names what it is about and what can be done; resolving it plans from the current state, never from here.

use crate::clock::Moment;
use crate::link::{GroupIndex, LinkId, MemberIndex, ReviewId, SyncId};
use crate::record::Key;
use crate::value::Value;
use serde::{Deserialize, Serialize};

/// One thing that waits for a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Review {
    /// Its number.
    pub id: ReviewId,
    /// The sync.
    pub sync: SyncId,
    /// The link, where there is one.
    pub link: Option<LinkId>,
    /// When it was opened.
    pub opened: Moment,
    /// When it was closed, and how.
    pub closed: Option<(Moment, String)>,
    /// The stable code of why (`CON-3xxx`).
    pub code: String,
    /// One sentence for a person.
    pub message: String,
    /// What it is about.
    pub subject: Subject,
}

/// What a review item is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// Several members changed one field group, and the policy is to ask.
    Conflict {
        /// The group.
        group: GroupIndex,
        /// The group's canonical fields.
        fields: Vec<String>,
        /// The value last agreed, per field.
        base: Option<Vec<Value>>,
        /// The contenders' canonical values, per field.
        values: Vec<(MemberIndex, Vec<Value>)>,
    },
    /// One member deleted the record, another edited it.
    DeleteAgainstEdit {
        /// Who deleted.
        deleted_by: MemberIndex,
        /// Who edited.
        edited_by: Vec<MemberIndex>,
    },
    /// A value failed validation, mapping or does not fit.
    Rejected {
        /// The member whose record it is (validation), or that refuses it (fit, target).
        member: MemberIndex,
        /// The canonical fields concerned.
        fields: Vec<String>,
    },
    /// Several records could be the match.
    Ambiguous {
        /// The member whose record looks for its match.
        member: MemberIndex,
        /// Its key.
        key: Key,
        /// The member searched.
        other: MemberIndex,
        /// The candidates' keys.
        candidates: Vec<Key>,
    },
    /// Another record of the same member already has this match.
    Duplicate {
        /// The member.
        member: MemberIndex,
        /// The record's key.
        key: Key,
        /// The link that holds the match.
        linked: LinkId,
    },
    /// Every attempt failed.
    Exhausted {
        /// The member that could not be written.
        member: MemberIndex,
    },
    /// The group returns to values it had, or changes deeper and deeper, through our own writes.
    Loop {
        /// The group.
        group: GroupIndex,
    },
    /// More records went away than the guard lets through.
    MassChange {
        /// The member.
        member: MemberIndex,
        /// How many deletes wait.
        deletes: u64,
    },
    /// The system cannot read the record, or look for its match.
    Unreadable {
        /// The member.
        member: MemberIndex,
        /// The record's key.
        key: Key,
    },
    /// Many records of a member show an earlier state than they did: it went back in time.
    WentBack {
        /// The member.
        member: MemberIndex,
        /// How many of its records do.
        older: u64,
        /// Of how many.
        records: u64,
        /// What the connector says of it.
        evidence: String,
    },
    /// A record of a mirror sync was refused: by a rule, or by the target.
    Refused {
        /// The member that it is to be put right at: the source (a rule), or the target.
        member: MemberIndex,
        /// The record's key at the source.
        key: Key,
    },
}
