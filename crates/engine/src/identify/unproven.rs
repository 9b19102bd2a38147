//! Creates of which nothing can tell whether they were made: no feed told of them, and no match field would find them. A
//! stranger at that member that shows most of what such a create gave may be its record; only a person can say so.

use crate::connector::Operation;
use crate::error::{Code, Error, Result};
use crate::link::{Link, LinkId, MemberIndex, Pending, ReviewId, Shown, Standing, SyncId};
use crate::record::{Key, Record};
use crate::rules::SyncRules;
use crate::runtime::core::Core;
use crate::runtime::desk::Desk;
use std::collections::BTreeMap;

/// Settings of this prefix name one such create each, and hold what it gave.
const PREFIX: &str = "unproven/";

/// Links with the members at which their records may or may not have been made, and what those records would show.
pub(crate) type Unproven = BTreeMap<(SyncId, MemberIndex, LinkId), Record>;

fn setting((sync, member, link): (SyncId, MemberIndex, LinkId)) -> String {
    format!("{PREFIX}{}/{member}/{}", sync.0, link.0)
}

impl Core {
    /// Remembers such a create until it is decided.
    pub(crate) fn note_unproven(&mut self, create: (SyncId, MemberIndex, LinkId), image: &Record) -> Result<()> {
        let bytes = postcard::to_stdvec(image)
            .map_err(|error| Error::new(Code::Internal, "what a create gave cannot be kept").because(error))?;
        self.transaction.settings.push((setting(create), Some(bytes)));
        self.unproven.insert(create, image.clone());
        Ok(())
    }

    /// A person has looked, or the record was found.
    pub(crate) fn proven(&mut self, create: (SyncId, MemberIndex, LinkId)) {
        if self.unproven.remove(&create).is_some() {
            self.transaction.settings.push((setting(create), None));
        }
    }

    /// New contents are a new attempt at a write that was refused. They tell nothing about a create that may have happened:
    /// it stays with the person who was asked.
    pub(crate) fn keep_in_doubt(&self, before: &Link, link: &mut Link, closed: &mut Vec<(ReviewId, String)>) {
        for (member, (side, old)) in link.sides.iter_mut().zip(&before.sides).enumerate() {
            let Some(review) = old.blocked.filter(|_| side.blocked.is_none() && side.standing == Standing::Absent) else {
                continue;
            };
            let unproven = self.unproven.contains_key(&(before.sync, member, before.id));
            if side.owes_life && unproven && !crate::mutants::active("doubt_superseded") {
                side.blocked = Some(review);
                closed.retain(|(other, _)| *other != review);
            }
        }
    }

    /// Those that an earlier run came to.
    pub(crate) async fn restore_unproven(&mut self) -> Result<()> {
        for (name, bytes) in self.store.settings(PREFIX).await? {
            let mut parts = name.strip_prefix(PREFIX).unwrap_or_default().split('/');
            let mut next = || parts.next().and_then(|part| part.parse::<u64>().ok());
            if let (Some(sync), Some(member), Some(link)) = (next(), next(), next())
                && let (Ok(sync), Ok(member)) = (u32::try_from(sync), usize::try_from(member))
            {
                // One that an earlier release noted down: without what it gave.
                let image = postcard::from_bytes(&bytes).unwrap_or_default();
                self.unproven.insert((SyncId(sync), member, LinkId(link)), image);
            }
        }
        Ok(())
    }

    /// Whether a create at this member is under way of which the feed will tell nothing: its outcome comes first.
    pub(super) fn may_come_of_doubt(&self, sync: usize, member: MemberIndex) -> bool {
        let marks = self.connector(sync, member).is_some_and(|connector| connector.capabilities().marks);
        self.flights.iter().any(|(id, airborne)| {
            airborne.sync == sync
                && airborne.flight.member == member
                && !(marks && self.is_provable(sync, member, *id))
                && airborne.flight.intents.iter().any(|intent| matches!(intent.write.operation, Operation::Create { .. }))
        })
    }

    /// The record, at another member, whose create may have made this stranger.
    pub(super) async fn perhaps_made(
        &mut self,
        desk: &mut Desk,
        rules: &SyncRules,
        member: MemberIndex,
        stranger: &Pending,
    ) -> Result<Option<(MemberIndex, Key)>> {
        let range = (rules.id, member, LinkId(0))..=(rules.id, member, LinkId(u64::MAX));
        let creates: Vec<(LinkId, Record)> =
            self.unproven.range(range).map(|((_, _, link), image)| (*link, image.clone())).collect();
        let Shown::Present { cells, .. } = &stranger.shown else { return Ok(None) };
        let shown = crate::map::member_record(rules, member, cells);
        desk.load_links(&self.store, creates.iter().map(|(link, _)| *link).collect()).await?;
        for (id, image) in creates {
            let open = desk.link(id).filter(|link| {
                let side = link.sides.get(member);
                side.is_some_and(|side| side.blocked.is_some() && side.owes_life && side.standing == Standing::Absent)
            });
            let Some(link) = open else {
                self.proven((rules.id, member, id));
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
