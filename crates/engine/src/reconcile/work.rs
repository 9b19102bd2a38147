//! The desk on which one link is decided: the link as it was, what every member shows now, and what has been decided
//! so far. Life and groups are decided upon it in turn; `finish` moves the bases.

use super::{Decision, Need, Ruling};
use crate::change::{EditTime, Version};
use crate::clock::Moment;
use crate::ledger::{Entry, FieldEntry, LedgerRow, Rule};
use crate::link::{Cells, FieldIndex, GroupIndex, Link, LinkHold, MemberIndex, Pending, ReviewId, Shown, Side, Standing};
use crate::map::cell;
use crate::references::References;
use crate::review::{Review, Subject};
use crate::rules::SyncRules;
use crate::value::Value;
use std::borrow::Cow;

pub(super) struct Work<'a> {
    pub rules: &'a SyncRules,
    /// The link as it was.
    pub before: &'a Link,
    /// The link as it will be.
    pub link: Link,
    pub pending: &'a [Option<Pending>],
    /// What each member shows now: pending over base.
    pub shown: Vec<Cow<'a, Cells>>,
    /// The fields in which each member now shows something else than it last did: asked for again and again.
    changed: Vec<Vec<bool>>,
    pub ruling: Option<&'a Ruling>,
    pub references: &'a References,
    pub now: Moment,
    pub next_review: &'a mut u64,
    pub ledger: Vec<LedgerRow>,
    pub reviews: Vec<Review>,
    pub closed: Vec<(ReviewId, String)>,
    /// Whether the record was taken to be going and lives on after all: every debt is looked at afresh.
    pub revived: bool,
    /// Whether a delete that was held has come to nothing, for the record is back.
    pub is_back: bool,
}

impl<'a> Work<'a> {
    /// Lays pending over base. A partial image over an unknown base must be read in full first.
    pub fn new(
        rules: &'a SyncRules,
        before: &'a Link,
        pending: &'a [Option<Pending>],
        ruling: Option<&'a Ruling>,
        references: &'a References,
        now: Moment,
        next_review: &'a mut u64,
    ) -> Result<Work<'a>, Need> {
        let mut shown = Vec::with_capacity(before.sides.len());
        let mut unread = Vec::new();
        for (member, side) in before.sides.iter().enumerate() {
            let mut cells = Cow::Borrowed(&side.base);
            let newer = pending_of(pending, member);
            if let Some(Pending { shown: Shown::Present { cells: newer, anew, .. }, .. }) = newer {
                // A record made anew shows nothing of the one that was deleted under its key.
                if *anew || matches!(side.standing, Standing::Gone | Standing::LeftAlone) {
                    cells.to_mut().fill(None);
                }
                overlay(cells.to_mut(), newer);
            }
            // A member of which a mapped field is not known has a say that has not been heard.
            let gone = newer.is_some_and(|newer| matches!(newer.shown, Shown::Gone { .. }));
            // Bound by a person, and not seen yet: what it shows has a say, and it must not be made a second time.
            let unseen =
                side.key.is_some() && side.standing == Standing::Absent && side.version == Version::default() && newer.is_none();
            if unseen || newer.is_some_and(|_| !gone) || (side.standing == Standing::Present && !gone) {
                let complete = rules
                    .fields
                    .iter()
                    .zip(cells.iter())
                    .all(|(field, cell)| cell.is_some() || field.members.get(member).is_none_or(Option::is_none));
                if !complete {
                    unread.push(member);
                }
            }
            shown.push(cells);
        }
        if !unread.is_empty() {
            return Err(Need::Read(unread));
        }
        let link = before.clone();
        let changed = changes(rules, before, pending, &shown);
        Ok(Work {
            rules,
            before,
            link,
            pending,
            shown,
            changed,
            ruling,
            references,
            now,
            next_review,
            ledger: Vec::new(),
            reviews: Vec::new(),
            closed: Vec::new(),
            revived: false,
            is_back: false,
        })
    }

    pub fn pending(&self, member: MemberIndex) -> Option<&'a Pending> {
        pending_of(self.pending, member)
    }

    pub fn is_gone(&self, member: MemberIndex) -> bool {
        matches!(self.pending(member), Some(Pending { shown: Shown::Gone { .. }, .. }))
    }

    pub fn is_shown(&self, member: MemberIndex) -> bool {
        matches!(self.pending(member), Some(Pending { shown: Shown::Present { .. }, .. }))
    }

    pub fn side(&mut self, member: MemberIndex) -> Option<&mut Side> {
        self.link.sides.get_mut(member)
    }

    pub fn standing(&self, member: MemberIndex) -> Standing {
        self.link.sides.get(member).map_or(Standing::Absent, |side| side.standing)
    }

    pub fn members(&self) -> std::ops::Range<MemberIndex> {
        0..self.link.sides.len()
    }

    /// What a member shows for a field now.
    pub fn value(&self, member: MemberIndex, field: FieldIndex) -> Option<&Value> {
        self.shown.get(member).and_then(|cells| cell(cells, field))
    }

    /// What a member last showed for a field.
    pub fn base(&self, member: MemberIndex, field: FieldIndex) -> Option<&Value> {
        self.before.sides.get(member).and_then(|side| cell(&side.base, field))
    }

    /// Whether a member now shows something else for a field than it last did, under the declared equivalence of its
    /// type. An unknown base counts as changed: there is nothing to compare with.
    pub fn field_changed(&self, member: MemberIndex, field: FieldIndex) -> bool {
        self.changed.get(member).and_then(|changed| changed.get(field)).copied().unwrap_or(false)
    }

    /// Whether a member changed a group in a field whose edits flow.
    pub fn group_changed(&self, member: MemberIndex, group: GroupIndex) -> bool {
        self.rules
            .group_fields(group)
            .iter()
            .any(|&field| self.rules.flows_from(member, field) && self.field_changed(member, field))
    }

    /// Whether a member changed anything whose edits flow.
    pub fn any_flowing_change(&self, member: MemberIndex) -> bool {
        (0..self.rules.groups.len()).any(|group| self.group_changed(member, group))
    }

    /// Whether a member changed anything that somebody can have edited: a generated key comes into being with its record,
    /// perhaps with one that we made, and the stamp of an edit with the edit; neither is anybody's edit. Nor is a reference
    /// that its system has cleared because the record that it named was deleted.
    pub fn any_edit(&self, member: MemberIndex) -> bool {
        let edited = |group| self.group_changed(member, group) && self.can_be_edited(member, group);
        (0..self.rules.groups.len()).any(|group| edited(group) && !self.follows_a_delete(member, group))
    }

    /// Whether a group of a member holds anything but its generated key and the stamp that it puts on edits.
    pub fn can_be_edited(&self, member: MemberIndex, group: GroupIndex) -> bool {
        let generated = |field: FieldIndex| {
            let (Some(at), Some(rules)) = (self.rules.at(member, field), self.rules.members.get(member)) else { return false };
            let is_stamp = rules.edit_time_field.as_ref() == Some(&at.name);
            !at.creatable && !at.updatable && (is_stamp || rules.schema.key.contains(&at.name))
        };
        self.rules.group_fields(group).iter().any(|&field| !generated(field))
    }

    /// When a member's group took its present value: the latest of its changed fields.
    pub fn edit_time(&self, member: MemberIndex, group: GroupIndex) -> EditTime {
        let arrived = self.pending(member).map_or(self.now, |pending| pending.arrived);
        let unknown = EditTime { at: arrived, granularity_micros: 1, estimated: true };
        let Some(Pending { shown: Shown::Present { times, .. }, .. }) = self.pending(member) else { return unknown };
        let latest = self
            .rules
            .group_fields(group)
            .iter()
            .filter(|&&field| self.field_changed(member, field))
            .filter_map(|&field| times.get(field).copied().flatten())
            .max_by_key(|time| time.at);
        // Clamped: an edit cannot have been made after we saw it, whatever the system's clock says. `arrived` is when the
        // first of the folded observations came, and says nothing about the later ones.
        latest.map_or(unknown, |time| EditTime { at: time.at.min(self.now), ..time })
    }

    pub fn hops(&self, member: MemberIndex) -> u32 {
        self.pending(member).map_or(0, |pending| pending.hops)
    }

    /// Opens a review item, or renews the one that is already open under `known`.
    pub fn review(&mut self, known: Option<ReviewId>, code: crate::error::Code, message: String, subject: Subject) -> ReviewId {
        let id = known.unwrap_or_else(|| {
            let id = ReviewId(*self.next_review);
            *self.next_review = self.next_review.saturating_add(1);
            id
        });
        let review = Review {
            id,
            sync: self.link.sync,
            link: Some(self.link.id),
            opened: self.now,
            closed: None,
            code: code.to_string(),
            message,
            subject,
        };
        self.reviews.retain(|other| other.id != id);
        self.reviews.push(review);
        id
    }

    /// Holds the link as a whole.
    pub fn hold(&mut self, sticky: bool, code: crate::error::Code, message: String, subject: Subject) {
        let known = self.before.held.filter(|hold| hold.sticky == sticky).map(|hold| hold.review);
        let review = self.review(known, code, message, subject);
        self.link.held = Some(LinkHold { review, sticky });
    }

    /// A line in the ledger about a member.
    pub fn note(&mut self, member: MemberIndex, entry: Entry, fields: Vec<FieldEntry>) {
        let key = self.link.sides.get(member).and_then(|side| side.key.as_ref()).map(ToString::to_string).unwrap_or_default();
        self.ledger.push(LedgerRow { at: self.now, sync: self.link.sync, link: Some(self.link.id), member, key, entry, fields });
    }

    /// Whether a member's edit of a field is still undecided or undelivered: it is seen only now, it is held, the member that
    /// deleted the record never showed it, or the members were left to differ.
    fn unsettled_edit(&self, member: MemberIndex, field: FieldIndex, deleted_by: MemberIndex) -> bool {
        let Some(group) = self.rules.fields.get(field).map(|field| field.group) else { return false };
        if !self.can_be_edited(member, group) {
            return false;
        }
        let state = self.before.groups.get(group);
        let held = state.and_then(|state| state.held.as_ref());
        let agreed = state.and_then(|state| state.agreed.as_ref());
        let owed = self.before.sides.get(deleted_by).is_some_and(|side| side.owes.contains(&group));
        self.field_changed(member, field)
            || held.is_some_and(|held| held.contenders.iter().any(|(other, ..)| *other == member))
            || (owed && agreed.is_some_and(|agreed| agreed.from == member))
            || agreed.is_some_and(|agreed| agreed.rule.is_left())
    }

    /// A line about every edit of a member that is not going to be carried over, because `by` deleted the record.
    pub fn note_lost_edits(&mut self, member: MemberIndex, by: MemberIndex, rule: Rule) {
        let fields: Vec<FieldEntry> = (0..self.rules.fields.len())
            .filter(|&field| self.rules.flows_from(member, field) && self.unsettled_edit(member, field, by))
            .map(|field| FieldEntry {
                field: self.rules.fields.get(field).map(|field| field.name.clone()).unwrap_or_default(),
                old: self.value(member, field).cloned(),
                new: None,
                from: by,
                edited: self.now,
                rule,
            })
            .collect();
        if !fields.is_empty() {
            self.note(member, Entry::Lost, fields);
        }
    }

    /// Whether a member's group has no base at all: it was bound to the link after something had been agreed.
    pub fn base_unknown(&self, member: MemberIndex, group: GroupIndex) -> bool {
        self.rules
            .group_fields(group)
            .iter()
            .filter(|&&field| self.rules.at(member, field).is_some())
            .all(|&field| self.base(member, field).is_none())
    }

    /// The end of a review item, unless something else turns out to be held by it still.
    pub fn close(&mut self, review: ReviewId, how: &str) {
        if !self.closed.iter().any(|(other, _)| *other == review) {
            self.closed.push((review, how.to_owned()));
        }
    }

    /// One item may hold several groups, and a group may change hands from one item to another: an item is open exactly as
    /// long as something of the link is held by it.
    fn balance_reviews(&mut self) {
        let open = held_by(&self.link);
        for review in held_by(self.before) {
            if !open.contains(&review) {
                self.close(review, "decided");
            }
        }
        self.closed.retain(|(review, _)| !open.contains(review));
        self.reviews.retain(|review| open.contains(&review.id));
    }

    /// Moves the bases of the members that were seen, and hands the decision over.
    pub fn finish(mut self) -> Decision {
        self.balance_reviews();
        for member in self.members() {
            let Some(pending) = self.pending(member) else { continue };
            let shown = self.shown.get_mut(member).map(std::mem::take).unwrap_or_default();
            let Some(side) = self.link.sides.get_mut(member) else { continue };
            side.version = pending.version.clone();
            if side.key.as_ref() != Some(&pending.key) {
                side.key = Some(pending.key.clone());
            }
            side.attempts = 0;
            match &pending.shown {
                Shown::Present { .. } => {
                    if side.base != *shown {
                        side.misses = 0;
                    }
                    side.base = shown.into_owned();
                    side.standing = match side.standing {
                        Standing::Absent | Standing::Gone => Standing::Present,
                        standing => standing,
                    };
                }
                Shown::Gone { .. } => {
                    side.owes.clear();
                    if matches!(side.standing, Standing::Present | Standing::Marked) {
                        side.standing = Standing::Gone;
                    }
                }
            }
        }
        let changed = self.link != *self.before;
        let substantive = changed && self.differs_beyond_versions();
        if substantive {
            self.link.decision = self.before.decision.saturating_add(1);
        }
        Decision { link: self.link, changed, substantive, ledger: self.ledger, reviews: self.reviews, closed: self.closed }
    }
}

impl Work<'_> {
    fn differs_beyond_versions(&mut self) -> bool {
        let swap = |link: &mut Link, versions: Vec<Version>| -> Vec<Version> {
            let sides = link.sides.iter_mut().zip(versions);
            sides.map(|(side, version)| std::mem::replace(&mut side.version, version)).collect()
        };
        let before = self.before.sides.iter().map(|side| side.version.clone()).collect();
        let now = swap(&mut self.link, before);
        let differs = self.link != *self.before;
        swap(&mut self.link, now);
        differs
    }
}

/// For each member, which fields it shows otherwise than it last did; nothing for one that was not seen.
fn changes(rules: &SyncRules, before: &Link, pending: &[Option<Pending>], shown: &[Cow<'_, Cells>]) -> Vec<Vec<bool>> {
    let of_member = |(member, cells): (MemberIndex, &Cow<'_, Cells>)| {
        if !matches!(pending_of(pending, member), Some(Pending { shown: Shown::Present { .. }, .. })) {
            return Vec::new();
        }
        let changed = |field: FieldIndex| {
            let (Some(at), Some(shown)) = (rules.at(member, field), cell(cells, field)) else { return false };
            let base = before.sides.get(member).and_then(|side| cell(&side.base, field));
            !base.is_some_and(|base| base.equivalent_as(shown, &at.ty))
        };
        (0..rules.fields.len()).map(changed).collect()
    };
    shown.iter().enumerate().map(of_member).collect()
}

/// Every review item that holds something of a link.
pub(crate) fn held_by(link: &Link) -> Vec<ReviewId> {
    let groups = link.groups.iter().filter_map(|group| group.held.as_ref()).map(|held| held.review);
    let sides = link.sides.iter().filter_map(|side| side.blocked);
    link.held.iter().map(|hold| hold.review).chain(groups).chain(sides).collect()
}

pub(super) fn pending_of(pending: &[Option<Pending>], member: MemberIndex) -> Option<&Pending> {
    pending.get(member).and_then(Option::as_ref)
}

/// Puts every known cell of `newer` over `cells`.
pub(crate) fn overlay(cells: &mut Cells, newer: &Cells) {
    if cells.len() < newer.len() {
        cells.resize(newer.len(), None);
    }
    for (cell, newer) in cells.iter_mut().zip(newer) {
        if newer.is_some() {
            cell.clone_from(newer);
        }
    }
}
