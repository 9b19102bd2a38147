//! What a feed tells of before a sync begins is not taken in: the first reading shows what came of it. How far that went
//! is remembered, so that it is no news when it is told again (invariant 6): a record that went before the reading would
//! otherwise be made at the other members, only to go once more. Holds one version for each member, never a record.

use crate::change::Version;
use crate::error::Result;
use crate::link::MemberIndex;
use crate::record::{ObjectName, SystemName};
use crate::runtime::core::Core;
use std::cmp::Ordering;

/// How far a feed had told of a member's object when its sync began.
#[derive(Default)]
pub(crate) struct Before {
    /// The newest version told of; empty: nothing was told.
    upto: Version,
    /// Whether it is newer than what is durable.
    moved: bool,
}

fn setting(sync: u32, member: MemberIndex) -> String {
    format!("before/{sync}/{member}")
}

impl Core {
    /// Whether a feed tells again of what was over before the sync began.
    pub(super) fn is_from_before(&self, sync: usize, member: MemberIndex, version: &Version) -> bool {
        let Some(before) = self.syncs.get(sync).and_then(|state| state.members.get(member)).map(|state| &state.before) else {
            return false;
        };
        if before.upto.0.is_empty() || crate::mutants::active("before_the_beginning_is_news") {
            return false;
        }
        let order = self.connector(sync, member).and_then(|connector| connector.compare(version, &before.upto));
        matches!(order, Some(Ordering::Less | Ordering::Equal))
    }

    /// Notes an event for the syncs that have not begun.
    pub(super) fn note_before_beginning(&mut self, system: &SystemName, object: &ObjectName, version: &Version) {
        for sync in self.syncs.iter_mut().filter(|sync| !sync.begun) {
            for (rules, state) in sync.rules.members.iter().zip(&mut sync.members) {
                if rules.system == *system && rules.object == *object {
                    // Feeds tell in order: the last is the newest.
                    state.before = Before { upto: version.clone(), moved: true };
                }
            }
        }
    }

    /// Makes durable, with the position that it belongs to, how far the syncs have been told that have not begun.
    pub(super) fn keep_before_beginning(&mut self) {
        for sync in self.syncs.iter_mut().filter(|sync| !sync.begun) {
            for (member, state) in sync.members.iter_mut().enumerate() {
                if std::mem::take(&mut state.before.moved) {
                    let name = setting(sync.rules.id.0, member);
                    self.transaction.settings.push((name, Some(state.before.upto.0.clone())));
                }
            }
        }
    }

    /// A system in a new life numbers its changes anew.
    pub(super) fn forget_before_beginning(&mut self, system: &SystemName) {
        for sync in &mut self.syncs {
            for (member, state) in sync.members.iter_mut().enumerate() {
                let of_system = sync.rules.members.get(member).is_some_and(|rules| rules.system == *system);
                if of_system && !state.before.upto.0.is_empty() {
                    state.before = Before::default();
                    self.transaction.settings.push((setting(sync.rules.id.0, member), None));
                }
            }
        }
    }

    pub(crate) async fn restore_before_beginning(&mut self, sync: usize) -> Result<()> {
        let Some(rules) = self.rules(sync) else { return Ok(()) };
        for member in 0..rules.members.len() {
            let stored = self.store.setting(&setting(rules.id.0, member)).await?;
            if let (Some(state), Some(bytes)) = (self.member(sync, member), stored) {
                state.before = Before { upto: Version(bytes), moved: false };
            }
        }
        Ok(())
    }
}
