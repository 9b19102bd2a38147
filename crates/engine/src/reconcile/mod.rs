//! The three-way merge with a base per member: what is agreed about a record, and who still owes a write of it.
//! Pure, total and deterministic: no clock, no I/O, no randomness; time and review numbers are arguments.
//!
//! [`decide`] takes a link and what its members were seen to show since, and gives the link as it stands after the
//! decision. Each member is compared only with what that same member last showed (its base), so a lossy mapping never
//! ping-pongs. A decision moves the bases of the members it was read from at once; whoever does not show the agreed
//! value then *owes* a write, which [`patch`] derives and [`settle`] closes.

mod contend;
mod fold;
mod follow;
mod groups;
mod life;
mod patch;
mod refer;
mod remap;
mod ruled;
mod settle;
mod verdict;
mod work;

#[cfg(test)]
pub(crate) mod tests;

pub use fold::{Folded, fold, refine_agreed, refine_times};
pub use patch::{Patch, patch, patch_knowing};
pub(crate) use patch::{can_do_without, deletion_mark};
pub(crate) use settle::takes_everything;
pub use settle::{Written, cover_pending, settle};
pub(crate) use work::held_by;

use crate::clock::Moment;
use crate::ledger::LedgerRow;
use crate::link::{FieldIndex, GroupIndex, Link, MemberIndex, Pending, ReviewId};
use crate::references::{self, References, Unknown};
use crate::review::Review;
use crate::rules::SyncRules;
use crate::value::Value;
use work::Work;
pub(crate) use work::overlay;

/// What a person decided; planned from the current state like everything else.
#[derive(Clone, Debug, PartialEq)]
pub enum Ruling {
    /// About one field group.
    Group(GroupIndex, Choice),
    /// About delete against edit: whether the record lives.
    Life {
        /// Whether it does.
        keep: bool,
    },
    /// What was refused is put right: the record as this member shows it where validation refuses that, as it was agreed
    /// otherwise, but for these fields.
    Amend {
        /// The member whose record it is, or that refuses it.
        member: MemberIndex,
        /// The fields, with the canonical values that they are to have.
        given: Vec<(FieldIndex, Value)>,
    },
    /// Whatever holds the link as a whole is over.
    Release,
}

/// What a person chose for a field group.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// What this member shows.
    Take(MemberIndex),
    /// These canonical values, in the order of the group's fields.
    Give(Vec<Value>),
    /// Let the members differ until the group next changes.
    Leave,
}

/// Why an amendment cannot be made: it is refused as well, or leaves something out that nobody knows. `None` where it can, or where
/// more must be known first.
pub fn refusal(
    rules: &SyncRules,
    link: &Link,
    pending: &[Option<Pending>],
    ruling: &Ruling,
    known: Known<'_>,
    now: Moment,
) -> Option<String> {
    let mut no_review = 0;
    let work = Work::new(rules, link, pending, Some(ruling), known.references, now, &mut no_review).ok()?;
    work.amendment_refused(known.unique)
}

/// What came of looking at a link.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A decision; what was pending is taken into account.
    Decided(Box<Decision>),
    /// Nothing was decided, and what is pending stays so.
    Needs(Need),
}

/// What is needed before a decision.
#[derive(Clone, Debug, PartialEq)]
pub enum Need {
    /// These members' records must be read in full.
    Read(Vec<MemberIndex>),
    /// The feed may yet tell a time that is only estimated.
    Wait(Moment),
    /// The record that this member shows is a new one under an old key.
    NewLink(MemberIndex),
    /// Whether other records have these values of these fields, which must be unique.
    Look(Vec<(FieldIndex, Value)>),
    /// Links of these records, which the link refers to.
    Referred(Vec<Unknown>),
    /// A person.
    Person,
}

/// What is known about values that must be unique.
#[derive(Clone, Debug, PartialEq)]
pub enum Uniqueness {
    /// For these values of these fields it is known whether another record has them.
    Known(Vec<(FieldIndex, Value, bool)>),
    /// A person has spoken: nobody is asked.
    Waived,
}

/// A link after a decision, and what is to be remembered of how it came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The link.
    pub link: Link,
    /// Whether anything about the link changed (its versions included); if not, nothing need be written.
    pub changed: bool,
    /// Whether anything but versions changed.
    pub substantive: bool,
    /// Values that lost, edits that were not carried over.
    pub ledger: Vec<LedgerRow>,
    /// Review items opened, or held ones with new contents.
    pub reviews: Vec<Review>,
    /// Review items that are over, and why.
    pub closed: Vec<(ReviewId, String)>,
}

/// What a decision is made from besides the link and what was seen of it.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// What is known about values that must be unique.
    pub unique: &'a Uniqueness,
    /// What is known of the records that the link refers to.
    pub references: &'a References,
}

/// As [`decide_knowing`], of a link about whose unique values nothing is known yet, and that refers to nothing.
pub fn decide(
    rules: &SyncRules,
    link: &Link,
    pending: &[Option<Pending>],
    ruling: Option<&Ruling>,
    now: Moment,
    next_review: &mut u64,
) -> Outcome {
    let known = Known { unique: &Uniqueness::Known(Vec::new()), references: &references::NONE };
    decide_knowing(rules, link, pending, ruling, known, now, next_review)
}

/// Decides about a link from what its members were seen to show (`pending`, one per member, each newer than that
/// member's base). `next_review` is the number that the next review item gets; it grows.
pub fn decide_knowing(
    rules: &SyncRules,
    link: &Link,
    pending: &[Option<Pending>],
    ruling: Option<&Ruling>,
    known: Known<'_>,
    now: Moment,
    next_review: &mut u64,
) -> Outcome {
    if link.held.is_some_and(|hold| hold.sticky) && !life::ends_hold(link, ruling) {
        return Outcome::Needs(Need::Person);
    }
    let remapped = link.is_of_old_mapping().then(|| remap::remapped(rules, link, known.references));
    let link = remapped.as_ref().unwrap_or(link);
    let mut work = match Work::new(rules, link, pending, ruling, known.references, now, next_review) {
        Ok(work) => work,
        Err(need) => return Outcome::Needs(need),
    };
    match work.decide_life() {
        life::Next::Groups => {}
        life::Next::Done => return Outcome::Decided(Box::new(work.finish())),
        life::Next::Needs(need) => return Outcome::Needs(need),
    }
    if let Err(need) = work.decide_groups(known.unique) {
        return Outcome::Needs(need);
    }
    Outcome::Decided(Box::new(work.finish()))
}
