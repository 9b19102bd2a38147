//! Matches of which no feed has told and no reading has shown: a record that a search finds under a key that nobody knows may
//! be one of ours that has just been given another key. The feed says so, once it has passed what was committed before the
//! search; until then such a match is not bound (invariant 4).

use crate::link::LinkId;
use crate::record::{FeedName, SystemName};
use crate::runtime::core::Core;
use crate::runtime::desk::Desk;
use crate::store::Address;

/// Who waits for the feed of a match.
#[derive(Clone)]
pub(super) enum Waiter {
    /// A stranger.
    Stranger(Address),
    /// A create, in whose way the match stands.
    Create(LinkId),
}

/// A match whose feed is to be heard.
pub(crate) struct Unheard {
    sync: usize,
    waiter: Waiter,
    found: Address,
    /// Whether the fence that is being waited for was set after the search.
    pub fenced: bool,
}

/// Matches whose feeds have had their say are remembered up to so many.
const HEARD_MAX: usize = 10_000;

impl Core {
    /// Whether a feed may yet tell whose a record is that a search found. While everything is being read, and where a sync
    /// leaves alone what it has read, most records have never been heard of.
    pub(super) fn is_unheard_of(&mut self, desk: &Desk, sync: usize, found: &Address) -> bool {
        // What it has said counts once: the next record under this key is another one.
        let heard = self.syncs.get_mut(sync).is_some_and(|state| state.unidentified.heard.remove(found));
        let Some(state) = self.syncs.get(sync) else { return false };
        let loaded = state.members.get(found.member).is_some_and(|member| member.load.is_done());
        let seen = desk.slot(found).is_some_and(|slot| slot.pending.is_some());
        let has_feed = self.feeds_of(sync, found.member).next().is_some();
        let planted = crate::mutants::active("unheard_bound") || crate::mutants::active("own_create_taken_for_match");
        loaded && !seen && has_feed && !heard && !state.rules.initial.strategy.makes_nothing() && !planted
    }

    /// Puts a stranger or a create off until its match's feed has passed what was committed before the search.
    pub(super) fn wait_to_hear_of(&mut self, sync: usize, waiter: Waiter, found: Address) {
        let Some(rules) = self.member_rules(sync, found.member) else { return };
        let (system, object) = (rules.system.clone(), rules.object.clone());
        let carries = |state: &crate::capture::FeedState| state.objects.contains(&object);
        let feed = self.feeds.iter_mut().find(|((of, _), state)| *of == system && carries(state)).map(|(_, state)| state);
        let Some(feed) = feed else {
            if let Waiter::Stranger(stranger) = waiter {
                self.identify_later(sync, stranger);
            }
            return;
        };
        feed.unheard.push(Unheard { sync, waiter: waiter.clone(), found, fenced: false });
        if let (Waiter::Stranger(stranger), Some(state)) = (waiter, self.syncs.get_mut(sync)) {
            state.unidentified.listening.insert(stranger);
        }
        self.ask_fences();
    }

    /// A feed has passed its fence: who waited for it is looked at again. `all`: it will tell nothing any more of
    /// what it was asked about.
    pub(crate) fn listen_no_longer(&mut self, system: &SystemName, feed: &FeedName, all: bool) {
        let Some(state) = self.feeds.get_mut(&(system.clone(), feed.clone())) else { return };
        let (passed, waiting): (Vec<Unheard>, Vec<Unheard>) =
            std::mem::take(&mut state.unheard).into_iter().partition(|unheard| all || unheard.fenced);
        state.unheard = waiting;
        for Unheard { sync, waiter, found, fenced } in passed {
            let Some(state) = self.syncs.get_mut(sync) else { continue };
            // A feed that begins anew has not passed what it was asked about.
            if fenced && !all {
                if state.unidentified.heard.len() >= HEARD_MAX {
                    state.unidentified.heard.clear();
                }
                state.unidentified.heard.insert(found.clone());
            }
            match waiter {
                Waiter::Stranger(stranger) if state.unidentified.listening.remove(&stranger) => self.unidentified(sync, stranger),
                Waiter::Stranger(_) => {}
                Waiter::Create(link) => self.want_match(sync, found.member, link),
            }
        }
    }
}
