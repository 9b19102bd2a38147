//! After a mapping has changed: every record that was decided under the old one is looked at again, some hundred at a
//! time, and what the new one makes of it is written like any other decision. How far that has got is durable, so that a
//! restart goes on where it was. Reads nothing from the systems: what each member shows is known.

use crate::error::Result;
use crate::link::LinkId;
use crate::runtime::core::{Core, Event};
use crate::runtime::desk::address;

/// Records looked at in one step.
const STEP: usize = 500;

impl Core {
    /// Where a look at every record was left off when the engine stopped.
    pub(crate) async fn restore_remapping(&mut self, sync: usize) -> Result<()> {
        let Some(id) = self.rules(sync).map(|rules| rules.id.0) else { return Ok(()) };
        let stored = self.store.setting(&setting(id)).await?;
        let after = stored.and_then(|bytes| Some(LinkId(u64::from_be_bytes(bytes.try_into().ok()?))));
        if let Some(state) = self.syncs.get_mut(sync) {
            state.remapping = after;
        }
        Ok(())
    }

    /// Looks at every record again, from the first.
    pub(crate) fn begin_remapping(&mut self, sync: usize) {
        self.remapped_up_to(sync, Some(LinkId(0)));
    }

    fn remapped_up_to(&mut self, sync: usize, after: Option<LinkId>) {
        let Some(state) = self.syncs.get_mut(sync) else { return };
        state.remapping = after;
        let bytes = after.map(|after| after.0.to_be_bytes().to_vec());
        self.transaction.settings.push((setting(state.rules.id.0), bytes));
    }

    /// Each step is an event of its own, so that everything else goes on between them.
    pub(crate) fn start_remapping(&mut self) {
        let full = |state: &crate::runtime::core::SyncState| {
            state.members.iter().any(|member| member.down.is_none() && member.flying >= state.rules.parallelism)
        };
        for (sync, state) in self.syncs.iter_mut().enumerate() {
            let waits = state.remapping.is_some() && !state.remapping_runs;
            if waits && state.active() && state.begun && !full(state) {
                state.remapping_runs = true;
                self.jobs.spawn(async move { Event::Remap { sync } });
            }
        }
    }

    pub(crate) async fn on_remap(&mut self, sync: usize) -> Result<()> {
        let Some(state) = self.syncs.get_mut(sync) else { return Ok(()) };
        state.remapping_runs = false;
        let (Some(after), true) = (state.remapping, state.active()) else { return Ok(()) };
        let id = state.rules.id;
        let links = self.store.scan_links(id, after, STEP).await?;
        let Some(last) = links.last().map(|link| link.id) else {
            self.remapped_up_to(sync, None);
            return Ok(());
        };
        let mut desk = self.desk();
        let addresses = links.iter().flat_map(|link| {
            let keys = link.sides.iter().enumerate();
            keys.filter_map(|(member, side)| Some(address(id, member, side.key.as_ref()?))).collect::<Vec<_>>()
        });
        desk.load(&self.store, addresses.collect()).await?;
        desk.load_links(&self.store, links.iter().map(|link| link.id).collect()).await?;
        for link in links {
            desk.touch(link.id);
        }
        self.decide_touched(&mut desk, false).await?;
        desk.flush(&mut self.transaction);
        self.remapped_up_to(sync, Some(last));
        Ok(())
    }
}

fn setting(sync: u32) -> String {
    format!("remapping/{sync}")
}
