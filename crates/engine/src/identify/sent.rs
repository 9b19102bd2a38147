//! Creates of which it is not known whether they took effect, and whose records a search would find: they are tried again,
//! and meet their own records. Such a record shows what we said at the time, which is nobody's edit: taken for a stranger's,
//! it would contend with what has been edited elsewhere since (invariant 3). Where it is seen before it is met, it is known by
//! showing just what was given: what then becomes of it (a delete, above all) is news about its link, and a record that has
//! been deleted elsewhere meanwhile is not brought back by it.

use crate::capture::Incoming;
use crate::connector::{Operation, Write};
use crate::error::Result;
use crate::flight::Intent;
use crate::link::{Cells, FlightId, Life, Link, LinkId, MemberIndex, Pending, Shown, Side, Standing};
use crate::reconcile::Written;
use crate::record::{FieldName, Record};
use crate::rules::{OnDelete, SyncRules};
use crate::runtime::core::Core;
use crate::runtime::desk::Desk;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::time::Duration;

/// How long after its record was deleted elsewhere what a create made unseen is known by what it was given. Later, somebody else
/// may have entered the same, and a record that comes back does less harm than one that is wrongly deleted.
const SEEN_WITHIN: Duration = Duration::from_secs(600);

/// A create in doubt that has been found to have made a record.
pub(crate) enum MadeUnseen {
    /// It is still under way.
    By(FlightId, LinkId),
    /// It was given up, to be tried again.
    Before(LinkId),
}

impl Core {
    /// The link, with what we gave as the base of a record that shows just that.
    pub(crate) fn with_what_was_sent<'a>(&self, rules: &SyncRules, link: &'a Link, pending: &[Option<Pending>]) -> Cow<'a, Link> {
        let mut known = Cow::Borrowed(link);
        if self.sent.is_empty() || crate::mutants::active("sent_forgotten") {
            return known;
        }
        for (member, (side, seen)) in link.sides.iter().zip(pending).enumerate() {
            let Some(Pending { shown: Shown::Present { cells, .. }, .. }) = seen else { continue };
            let is_new = side.standing == Standing::Absent && side.base.iter().all(Option::is_none);
            let Some(image) = self.sent.get((link.sync, member, link.id)).filter(|_| is_new) else { continue };
            if let (Some(base), Some(side)) = (as_given(rules, member, cells, image, false), known.to_mut().sides.get_mut(member))
            {
                side.base = base;
            }
        }
        known
    }

    /// The create in doubt that has made this stranger, if it shows just what one gave. Where a mark would say so, it is asked
    /// instead.
    pub(crate) async fn made_unseen(&mut self, desk: &mut Desk, one: &Incoming) -> Result<Option<MadeUnseen>> {
        let member = one.pending.member;
        let Shown::Present { cells, full, .. } = &one.pending.shown else { return Ok(None) };
        let marks = self.tells_whose(one.sync, member);
        let older = desk.slot(&one.address).and_then(|slot| slot.pending.as_ref());
        // The first that is told of a record may leave out what is empty; what is told later leaves out what has not changed.
        let first = !full && older.is_none() && !crate::mutants::active("part_is_measured_by_the_whole");
        // A part of it, told before, adds nothing to the whole; where a mark would have been told with it, it is nobody's of ours.
        let fresh = older.is_none_or(|older| {
            !marks && matches!(self.version_order(one, &older.version), Some(Ordering::Greater | Ordering::Equal))
        });
        let fresh = fresh && one.echo_of.is_none();
        let told_otherwise = one.tells_whose && self.connector(one.sync, member).is_some_and(|it| it.capabilities().marks);
        let forgotten = ["unmarked_create_is_a_stranger", "sent_forgotten", "own_create_taken_for_match"]
            .iter()
            .any(|it| crate::mutants::active(it));
        if !fresh || told_otherwise || forgotten {
            return Ok(None);
        }
        let Some(rules) = self.rules(one.sync) else { return Ok(None) };
        let key = rules.members.get(member).map(|rules| rules.schema.key.as_slice()).unwrap_or_default();
        let mut found: Vec<MadeUnseen> = Vec::new();
        let mut links = Vec::new();
        for (flight, airborne) in &self.flights {
            if airborne.sync != one.sync
                || airborne.flight.member != member
                || (marks && self.is_provable(one.sync, member, *flight))
            {
                continue;
            }
            for intent in &airborne.flight.intents {
                let Operation::Create { image, absent_by } = &intent.write.operation else { continue };
                let would_be_met = !absent_by.is_empty() || gives_key(key, image);
                if would_be_met && as_given(&rules, member, cells, image, first).is_some() {
                    found.push(MadeUnseen::By(*flight, intent.link));
                    links.push(intent.link);
                }
            }
        }
        for (link, image) in self.sent.of_member(rules.id, member) {
            if as_given(&rules, member, cells, image, first).is_some() {
                found.push(MadeUnseen::Before(link));
                links.push(link);
            }
        }
        if found.is_empty() {
            return Ok(None);
        }
        desk.load_links(&self.store, links).await?;
        found.retain(|made| match made {
            MadeUnseen::By(flight, link) => {
                desk.link(*link).and_then(|link| link.sides.get(member)).is_some_and(|side| side.flight == Some(*flight))
            }
            MadeUnseen::Before(link) => desk.link(*link).is_some_and(|link| {
                let recent = match link.life {
                    Life::Deleted { at, .. } => self.now().since(at) < SEEN_WITHIN,
                    Life::Live => true,
                    Life::Detached { .. } => false,
                };
                let is_new = |side: &Side| side.standing == Standing::Absent && side.key.is_none() && side.flight.is_none();
                recent && link.sides.get(member).is_some_and(is_new)
            }),
        });
        // Of two that gave the same, either may have.
        let made = if found.len() == 1 { found.pop() } else { None };
        if made.is_some() {
            desk.set_pending(&one.address, None);
            if let Some(review) = self.parked.remove(&one.address) {
                self.close_review(one.sync, review, "the record belongs to another one by now".to_owned());
            }
        }
        Ok(made)
    }

    /// Settles a create that was given up, to be tried again, and that had taken effect.
    pub(crate) async fn settle_unseen_create(&mut self, desk: &mut Desk, id: LinkId, one: Incoming) -> Result<()> {
        let (sync, member) = (one.sync, one.pending.member);
        let (Some(rules), Some(mut link)) = (self.rules(sync), desk.link(id).cloned()) else { return Ok(()) };
        let Some(image) = self.sent.get((rules.id, member, id)).cloned() else { return Ok(()) };
        let is_to_go = matches!(link.life, Life::Deleted { .. })
            && matches!(rules.deletes.on_delete, OnDelete::Propagate | OnDelete::SoftDelete);
        let blocked = link.sides.get_mut(member).and_then(|side| side.blocked.take());
        if let Some(review) = blocked {
            self.close_review(sync, review, "the record was found".to_owned());
        }
        if let Some(side) = link.sides.get_mut(member) {
            side.owes_life = is_to_go && rules.members.get(member).is_some_and(|member| member.inward);
        }
        desk.save(link);
        let Shown::Present { cells, times, .. } = &one.pending.shown else { return Ok(()) };
        let shown = crate::map::member_record(&rules, member, cells);
        let operation = Operation::Create { image, absent_by: Vec::new() };
        // Whatever has been decided about it is newer than what it was given.
        let intent =
            Intent { link: id, write: Write { id: id.0, operation }, decision: 0, edited: crate::clock::Moment::default() };
        let written = Written {
            operation: &intent.write.operation,
            key: one.pending.key.clone(),
            image: Some(shown),
            times: if one.read { times.clone() } else { Vec::new() },
            version: one.pending.version.clone(),
            hops: one.pending.hops,
            planned: 0,
        };
        self.settle_written(desk, sync, member, &intent, &written).await
    }

    /// What becomes of the records of a link is known.
    pub(crate) fn forget_what_was_sent(&mut self, link: &Link) {
        if self.sent.is_empty() {
            return;
        }
        for (member, side) in link.sides.iter().enumerate() {
            // What was made of a record that has been deleted since may yet be seen.
            let may_show = matches!(link.life, Life::Deleted { .. }) && side.key.is_none();
            if !may_show && (side.standing != Standing::Absent || !side.owes_life) {
                self.sent.forget((link.sync, member, link.id), &mut self.transaction);
            }
        }
    }

    /// Everything of a member has been read: what was made there of records that have gone since would have been seen.
    pub(crate) async fn forget_what_was_not_seen(&mut self, rules: &SyncRules, member: MemberIndex) -> Result<()> {
        let links: Vec<LinkId> = self.sent.of_member(rules.id, member).map(|(link, _)| link).collect();
        if links.is_empty() {
            return Ok(());
        }
        let mut desk = self.desk();
        desk.load_links(&self.store, links.clone()).await?;
        for id in links {
            if desk.link(id).is_none_or(|link| link.life != Life::Live) {
                self.sent.forget((rules.id, member, id), &mut self.transaction);
            }
        }
        Ok(())
    }
}

/// Whether a create says which key its record has.
pub(crate) fn gives_key(key: &[FieldName], image: &Record) -> bool {
    !key.is_empty() && key.iter().all(|field| image.has(field.as_str()))
}

/// The fields that a create gave, where a record shows every one of them as it was given. `first`: what is left unsaid is empty.
fn as_given(rules: &SyncRules, member: MemberIndex, cells: &Cells, image: &Record, first: bool) -> Option<Cells> {
    let mut base = vec![None; rules.fields.len()];
    let mut says_something = false;
    for (field, (base, shown)) in base.iter_mut().zip(cells).enumerate() {
        let Some(at) = rules.at(member, field) else { continue };
        let Some(given) = image.get(at.name.as_str()) else { continue };
        if first && shown.is_none() && given.is_null() {
            continue;
        }
        let shown = shown.as_ref().filter(|shown| given.equivalent_as(shown, &at.ty))?;
        *base = Some(shown.clone());
        says_something |= !given.is_null();
    }
    says_something.then_some(base)
}
