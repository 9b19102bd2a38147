//! Creates of which nothing can tell whether they were made: no feed told of them, and no match field would find them. A
//! stranger at that member that shows just what such a create gave may be its record; only a person can say so.

use crate::connector::Operation;
use crate::error::Result;
use crate::link::{LinkId, MemberIndex, Pending, Shown, Standing, SyncId};
use crate::reconcile::{Patch, patch_knowing};
use crate::record::Key;
use crate::rules::SyncRules;
use crate::runtime::core::Core;
use crate::runtime::desk::Desk;
use std::collections::BTreeSet;

/// Settings of this prefix name one such create each.
const PREFIX: &str = "unproven/";

/// Links with the members at which their records may or may not have been made.
pub(crate) type Unproven = BTreeSet<(SyncId, MemberIndex, LinkId)>;

fn setting((sync, member, link): (SyncId, MemberIndex, LinkId)) -> String {
    format!("{PREFIX}{}/{member}/{}", sync.0, link.0)
}

impl Core {
    /// Remembers such a create until it is decided.
    pub(crate) fn note_unproven(&mut self, sync: SyncId, member: MemberIndex, link: LinkId) {
        let create = (sync, member, link);
        if self.unproven.insert(create) {
            self.transaction.settings.push((setting(create), Some(Vec::new())));
        }
    }

    /// Those that an earlier run came to.
    pub(crate) async fn restore_unproven(&mut self) -> Result<()> {
        for (name, _) in self.store.settings(PREFIX).await? {
            let mut parts = name.strip_prefix(PREFIX).unwrap_or_default().split('/');
            let mut next = || parts.next().and_then(|part| part.parse::<u64>().ok());
            if let (Some(sync), Some(member), Some(link)) = (next(), next(), next())
                && let (Ok(sync), Ok(member)) = (u32::try_from(sync), usize::try_from(member))
            {
                self.unproven.insert((SyncId(sync), member, LinkId(link)));
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
        let creates: Vec<LinkId> = self.unproven.range(range).map(|(_, _, link)| *link).collect();
        let Shown::Present { cells, .. } = &stranger.shown else { return Ok(None) };
        let shown = crate::map::member_record(rules, member, cells);
        desk.load_links(&self.store, creates.clone()).await?;
        self.load_references(desk, &creates).await?;
        for id in creates {
            let open = desk.link(id).filter(|link| {
                let side = link.sides.get(member);
                side.is_some_and(|side| side.blocked.is_some() && side.owes_life && side.standing == Standing::Absent)
            });
            let Some(link) = open else {
                self.unproven.remove(&(rules.id, member, id));
                self.transaction.settings.push((setting((rules.id, member, id)), None));
                continue;
            };
            let references = self.references(desk, rules, link, &[]);
            let Patch::Write(Operation::Create { image, .. }) = patch_knowing(rules, link, member, &references) else { continue };
            let same = image.iter().all(|(field, value)| shown.get(field.as_str()).is_some_and(|shown| shown.equivalent(value)));
            let known = link.sides.iter().enumerate().find_map(|(other, side)| Some((other, side.key.clone()?)));
            if same && known.is_some() {
                return Ok(known);
            }
        }
        Ok(None)
    }
}
