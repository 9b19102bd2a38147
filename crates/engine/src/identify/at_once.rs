//! Strangers of which no search could find a match, for they show nothing to search by: they are identified by the event that
//! brings them, so that what they show need not be stored first and read again. Judges nothing itself: what becomes of such a
//! stranger is decided as of any other whose search found nothing.

use super::ours::Making;
use super::search::Stranger;
use super::values::shown_match_value;
use crate::change::Observation;
use crate::error::Result;
use crate::link::{MemberIndex, Shown};
use crate::rules::{FieldRules, SyncRules};
use crate::runtime::bounds::PARKED_STRANGERS_MAX;
use crate::runtime::core::Core;
use crate::runtime::desk::Desk;
use crate::store::Address;
use std::collections::BTreeMap;

impl Core {
    /// How many strangers of each sync wait to be looked for.
    pub(crate) fn strangers_waiting(&self) -> Vec<usize> {
        self.syncs.iter().map(|state| state.unidentified.queue.len()).collect()
    }

    /// Identifies those that have come to wait since, as far as they lie on the desk and need no search.
    pub(crate) async fn identify_at_once(&mut self, desk: &mut Desk, waiting_before: &[usize]) -> Result<()> {
        for (sync, before) in waiting_before.iter().enumerate() {
            self.identify_these_at_once(desk, sync, *before).await?;
        }
        Ok(())
    }

    async fn identify_these_at_once(&mut self, desk: &mut Desk, sync: usize, before: usize) -> Result<()> {
        let may_ask = self.parked.len() < PARKED_STRANGERS_MAX;
        let Some(rules) = self.rules(sync) else { return Ok(()) };
        let Some(state) = self.syncs.get_mut(sync).filter(|state| may_ask && state.active() && state.begun) else {
            return Ok(());
        };
        let waiting = &mut state.unidentified;
        let came = waiting.queue.split_off(before.min(waiting.queue.len()));
        let (at_once, others): (Vec<Address>, Vec<Address>) =
            came.into_iter().partition(|address| shows_nothing_to_search_by(desk, &rules, address));
        waiting.queue.extend(others);
        for address in &at_once {
            waiting.queued.remove(address);
        }
        let (mut reservations, making) = (BTreeMap::new(), Making::none());
        for address in at_once {
            let member = address.member;
            let others: Vec<_> = (0..rules.members.len()).filter(|other| *other != member).collect();
            let found = vec![Vec::new(); others.len()];
            let item = Stranger { address, rows: 0..0, value: None, of_load: false };
            self.identify(desk, &rules, sync, member, &others, item, found, &mut reservations, &making).await?;
        }
        Ok(())
    }

    /// Whether nothing could be searched by what a member shows here.
    pub(crate) fn needs_no_search(&self, sync: usize, member: MemberIndex, shows: &Observation) -> bool {
        let Some(rules) = self.rules(sync) else { return false };
        let one = crate::capture::incoming(&rules, sync, member, shows.clone(), self.now(), &self.store_id, true);
        match &one.pending.shown {
            Shown::Present { cells, .. } => shown_match_value(&rules, member, cells).is_none(),
            Shown::Gone { .. } => false,
        }
    }
}

/// Whether everything is known of a stranger, and nothing of it tells which record of another member it is.
fn shows_nothing_to_search_by(desk: &Desk, rules: &SyncRules, address: &Address) -> bool {
    let slot = desk.slot(address).filter(|slot| slot.link.is_none());
    let Some(Shown::Present { cells, .. }) = slot.and_then(|slot| slot.pending.as_ref()).map(|pending| &pending.shown) else {
        return false;
    };
    let lacks = |field: &FieldRules| field.members.get(address.member).is_none_or(Option::is_none);
    let is_complete = rules.fields.iter().zip(cells).all(|(field, cell)| cell.is_some() || lacks(field));
    is_complete && shown_match_value(rules, address.member, cells).is_none()
}
