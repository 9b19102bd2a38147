//! Creates of which nothing can tell whether they were made: no feed told of them, and no match field would find them. A
//! stranger at that member that shows most of what such a create gave may be its record; only a person can say so.

use crate::error::Result;
use crate::link::{Link, LinkId, MemberIndex, Pending, ReviewId, Shown, Standing};
use crate::record::{Key, Record};
use crate::rules::SyncRules;
use crate::runtime::core::Core;
use crate::runtime::desk::Desk;

impl Core {
    /// New contents are a new attempt at a write that was refused. They tell nothing about a create that may have happened:
    /// it stays with the person who was asked.
    pub(crate) fn keep_in_doubt(&self, before: &Link, link: &mut Link, closed: &mut Vec<(ReviewId, String)>) {
        for (member, (side, old)) in link.sides.iter_mut().zip(&before.sides).enumerate() {
            let Some(review) = old.blocked.filter(|_| side.blocked.is_none() && side.standing == Standing::Absent) else {
                continue;
            };
            let unproven = self.unproven.get((before.sync, member, before.id)).is_some();
            if side.owes_life && unproven && !crate::mutants::active("doubt_superseded") {
                side.blocked = Some(review);
                closed.retain(|(other, _)| *other != review);
            }
        }
    }

    /// Whether a create at this member is under way of which the feed will tell nothing: its outcome comes first.
    pub(super) fn may_come_of_doubt(&self, sync: usize, member: MemberIndex) -> bool {
        let mut creates = self
            .flights
            .iter()
            .filter(|(_, airborne)| airborne.sync == sync && airborne.flight.member == member && airborne.creates());
        creates.any(|(id, _)| !(self.tells_whose(sync, member) && self.is_provable(sync, member, *id)))
    }

    /// The record, at another member, whose create may have made this stranger.
    pub(super) async fn perhaps_made(
        &mut self,
        desk: &mut Desk,
        rules: &SyncRules,
        member: MemberIndex,
        stranger: &Pending,
    ) -> Result<Option<(MemberIndex, Key)>> {
        let of_member = self.unproven.of_member(rules.id, member);
        let creates: Vec<(LinkId, Record)> = of_member.map(|(link, image)| (link, image.clone())).collect();
        let Shown::Present { cells, .. } = &stranger.shown else { return Ok(None) };
        if creates.is_empty() {
            return Ok(None);
        }
        let shown = crate::map::member_record(rules, member, cells);
        desk.load_links(&self.store, creates.iter().map(|(link, _)| *link).collect()).await?;
        for (id, image) in creates {
            let open = desk.link(id).filter(|link| {
                let side = link.sides.get(member);
                side.is_some_and(|side| side.blocked.is_some() && side.owes_life && side.standing == Standing::Absent)
            });
            let Some(link) = open else {
                self.unproven.forget((rules.id, member, id), &mut self.transaction);
                continue;
            };
            let said = || image.iter().filter(|(_, value)| !value.is_null());
            let kept = said().filter(|(field, value)| shown.get(field.as_str()).is_some_and(|shown| shown.equivalent(value)));
            // A trigger, or a user since, may have made something else of a part of it.
            let kept = kept.count();
            let same = kept > 0 && kept.saturating_mul(2) >= said().count();
            let known = link.sides.iter().enumerate().find_map(|(other, side)| Some((other, side.key.clone()?)));
            if same && known.is_some() {
                return Ok(known);
            }
        }
        Ok(None)
    }
}
