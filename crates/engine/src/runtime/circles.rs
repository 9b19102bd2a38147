//! Records that wait for each other: how a circle of references is seen, and who in it is made first.

use super::core::Core;
use super::desk::Desk;
use crate::link::{Life, Link, LinkId, MemberIndex, Side, Standing};
use crate::reconcile::can_do_without;
use crate::references::{Reference, References, is_given, referred};
use crate::rules::SyncRules;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The most records that are followed from one to the next. Whoever has more before it is taken to be in a circle: it is made
/// without its reference first, or shown to a person, and waits for nothing unsaid.
pub(super) const CIRCLE_MAX: usize = 1_000;

/// One step on the way along references: a record that is to be made at a member of its sync, and the field that names the
/// next.
#[derive(Clone, Copy)]
pub(super) struct Step {
    link: LinkId,
    member: MemberIndex,
    field: usize,
}

/// Where references lead from a record that is not there yet.
pub(super) enum Way {
    /// Back to where they were followed from, by these steps.
    Back(Vec<Step>),
    /// To records that wait for none of these.
    Elsewhere,
    /// Further than they are followed.
    TooFar,
}

impl Core {
    /// Follows what a record that is not there yet waits for at a member of its sync: whether the way leads back to `start`.
    /// What of it is not on the desk is added to `missing`.
    pub(super) fn follow(
        &self,
        desk: &Desk,
        start: LinkId,
        record: LinkId,
        member: MemberIndex,
        missing: &mut BTreeSet<LinkId>,
    ) -> Way {
        if record == start {
            return Way::Back(Vec::new());
        }
        // How each record on the way was come to.
        let mut come: BTreeMap<(LinkId, MemberIndex), Option<Step>> = BTreeMap::from([((record, member), None)]);
        let mut queue = VecDeque::from([(record, member)]);
        let mut goes_on = false;
        while let Some((id, member)) = queue.pop_front() {
            let Some(link) = desk.link(id) else {
                missing.insert(id);
                continue;
            };
            let Some(rules) = self.sync_of(link.sync).and_then(|sync| self.rules(sync)) else { continue };
            let Some(side) = link.sides.get(member).filter(|_| is_to_be_made(link, member)) else { continue };
            for (field, reference) in rules.references() {
                let is_given = rules.at(member, field).is_some_and(|at| at.creatable && is_given(at, side));
                let there = reference.members.get(member).and_then(Option::as_ref).filter(|_| is_given);
                let next = rules.agreed(link, field).and_then(referred);
                let (Some(there), Some(next)) = (there, next) else { continue };
                let step = Step { link: id, member, field };
                if next == start {
                    let mut way = vec![step];
                    while let Some(Some(before)) = way.last().and_then(|step| come.get(&(step.link, step.member))) {
                        way.push(*before);
                    }
                    return Way::Back(way);
                }
                let room = come.len() < CIRCLE_MAX;
                match come.entry((next, there.member)) {
                    Entry::Vacant(new) if room => {
                        new.insert(Some(step));
                        queue.push_back((next, there.member));
                    }
                    Entry::Vacant(_) => goes_on = true,
                    Entry::Occupied(_) => {}
                }
            }
        }
        if goes_on { Way::TooFar } else { Way::Elsewhere }
    }

    /// Whether a link waits for a record that waits for it, and who of them can be made first.
    pub(super) fn see_circles(
        &self,
        desk: &Desk,
        rules: &SyncRules,
        link: &Link,
        (field, reference): (usize, &Reference),
        record: LinkId,
        known: &mut References,
    ) {
        for (member, there) in reference.members.iter().enumerate() {
            let Some(there) = there.as_ref().filter(|_| is_to_be_made(link, member)) else { continue };
            let others = match self.follow(desk, link.id, record, there.member, &mut BTreeSet::new()) {
                Way::Elsewhere => continue,
                Way::Back(way) => way.iter().any(|step| self.can_go_first(desk, step)),
                Way::TooFar => false,
            };
            known.close_circle(member, record);
            if !can_do_without(rules, member, field) && !others {
                known.tie_knot(member, record);
            }
        }
    }

    /// Whether a record on a circle can be made without what it refers to.
    fn can_go_first(&self, desk: &Desk, step: &Step) -> bool {
        let rules = desk.link(step.link).and_then(|link| self.sync_of(link.sync)).and_then(|sync| self.rules(sync));
        rules.is_some_and(|rules| can_do_without(&rules, step.member, step.field))
    }

    /// Those on a circle that can go first are looked at: what closed it may be news to them.
    pub(super) fn wake_circle(&mut self, desk: &Desk, rules: &SyncRules, link: &Link) {
        let mut others = Vec::new();
        for (field, reference) in rules.references() {
            let Some(record) = rules.agreed(link, field).and_then(referred) else { continue };
            for (member, there) in reference.members.iter().enumerate() {
                let Some(there) = there.as_ref().filter(|_| is_to_be_made(link, member)) else { continue };
                if can_do_without(rules, member, field) {
                    continue;
                }
                if let Way::Back(way) = self.follow(desk, link.id, record, there.member, &mut BTreeSet::new()) {
                    others.extend(way.into_iter().filter(|step| self.can_go_first(desk, step)));
                }
            }
        }
        self.wake(others.into_iter().map(|step| step.link));
    }
}

/// Whether a record is owed to a member, and nothing is under way there.
pub(super) fn is_to_be_made(link: &Link, member: MemberIndex) -> bool {
    let absent = |side: &Side| matches!(side.standing, Standing::Absent | Standing::Gone);
    let side = link.sides.get(member);
    link.life == Life::Live && side.is_some_and(|side| side.owes_life && absent(side) && side.flight.is_none())
}
