//! Feeds whose gap a person has accepted: each begins anew, and everything is read again. What was known of the system
//! before tells nothing about it now, for it may have been restored from a copy, or be another one: its versions cannot be
//! compared with those of the old life, the echo of a write under way may lie in the gap, and answers that were asked for
//! before are asked for again. Decides about no record: the re-read goes the way of every observation.

use crate::change::Version;
use crate::error::{Code, Result};
use crate::link::{FlightId, LinkId, MemberIndex};
use crate::record::{ObjectName, SystemName};
use crate::rules::MemberRules;
use crate::runtime::bounds::STEP;
use crate::runtime::core::{Core, SyncState};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What is known of a system's present life.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Life {
    /// How many gaps were accepted.
    number: u64,
    /// Flights below this one may have taken effect in a gap: the feed proves nothing about them.
    proven_from: u64,
    /// Answers to what was asked up to here are of an earlier life. Not durable: no question outlives the engine.
    stale_to: u64,
}

fn life_setting(system: &SystemName) -> String {
    format!("life/{system}")
}

fn proven_setting(sync: u32) -> String {
    format!("proven-from/{sync}")
}

/// The life of its system that a member's versions are of.
fn known_life_setting(sync: u32, member: MemberIndex) -> String {
    format!("known-life/{sync}/{member}")
}

impl Core {
    /// Which lives the systems are in, before anything else is looked at.
    pub(crate) async fn restore_lives(&mut self) -> Result<()> {
        let systems: Vec<SystemName> = self.systems.keys().cloned().collect();
        for system in systems {
            let stored = self.store.setting(&life_setting(&system)).await?;
            if let Some((number, proven_from)) = stored.and_then(|bytes| postcard::from_bytes(&bytes).ok()) {
                self.lives.insert(system, Life { number, proven_from, stale_to: 0 });
            }
        }
        Ok(())
    }

    /// Whether the feed can prove that a flight never took effect.
    pub(crate) fn is_provable(&self, sync: usize, member: MemberIndex, flight: FlightId) -> bool {
        let life = self.member_rules(sync, member).and_then(|rules| self.lives.get(&rules.system));
        let recorded = self.syncs.get(sync).is_none_or(|state| flight.0 >= state.proven_from);
        (recorded && life.is_none_or(|life| flight.0 >= life.proven_from)) || crate::mutants::active("gap_proves_absence")
    }

    /// The feeds have gone on without this sync: of its flights until now they prove nothing.
    pub(crate) fn missed_its_feeds(&mut self, sync: usize) {
        let next = self.next_flight;
        let Some(state) = self.syncs.get_mut(sync) else { return };
        state.proven_from = next;
        let name = proven_setting(state.rules.id.0);
        self.transaction.settings.push((name, Some(next.to_be_bytes().to_vec())));
    }

    /// From which flight on a sync's feeds prove anything.
    pub(crate) async fn restore_proven(&mut self, sync: usize) -> Result<()> {
        let Some(id) = self.rules(sync).map(|rules| rules.id.0) else { return Ok(()) };
        let stored = self.store.setting(&proven_setting(id)).await?;
        let stored = stored.and_then(|bytes| <[u8; 8]>::try_from(bytes.as_slice()).ok());
        if let (Some(state), Some(bytes)) = (self.syncs.get_mut(sync), stored) {
            state.proven_from = u64::from_be_bytes(bytes);
        }
        Ok(())
    }

    /// Whether an answer was asked for in an earlier life of a member's system, or so long ago that it is of no use.
    pub(crate) fn is_stale(&self, sync: usize, member: MemberIndex, generation: u64) -> bool {
        let life = self.member_rules(sync, member).and_then(|rules| self.lives.get(&rules.system));
        self.orphans.is_void(generation) || life.is_some_and(|life| generation <= life.stale_to)
    }

    /// Accepts the gaps in the feeds of a sync. Every sync that shares such a feed has missed the same changes, and is read
    /// again. Gives back the syncs that go on.
    pub(crate) async fn accept_gap(&mut self, sync: usize) -> Result<Vec<usize>> {
        let Some(rules) = self.rules(sync) else { return Ok(Vec::new()) };
        let of_sync: BTreeSet<SystemName> = rules.members.iter().map(|member| member.system.clone()).collect();
        let systems: Vec<SystemName> = of_sync
            .into_iter()
            .filter(|system| self.feeds.iter().any(|((of, _), feed)| of == system && feed.gap().is_some()))
            .collect();
        for system in &systems {
            let mut of_system = self.feeds.iter().filter(|((of, _), _)| of == system);
            let evidence = of_system.find(|(_, feed)| feed.gap() == Some(Code::FeedRewound)).map(|(_, feed)| feed.state.clone());
            self.begin_life(system);
            if let Some(evidence) = evidence {
                self.suspect(system, &evidence);
            }
        }
        let shares = |state: &SyncState| state.rules.members.iter().any(|member| systems.contains(&member.system));
        let sharing: Vec<usize> =
            self.syncs.iter().enumerate().filter(|(_, state)| shares(state)).map(|(other, _)| other).collect();
        // In the transaction in which the feeds begin anew: a crash must not leave the one without the other.
        for &other in &sharing {
            self.reread(other);
        }
        self.commit();
        let mut going_on = Vec::new();
        for other in sharing {
            self.forget_versions(other).await?;
            let in_gap = |system: &SystemName| self.feeds.iter().any(|((of, _), feed)| of == system && feed.gap().is_some());
            let still = self.rules(other).is_some_and(|rules| rules.members.iter().any(|member| in_gap(&member.system)));
            if let Some(state) = self.syncs.get_mut(other)
                && state.stopped.as_ref().is_some_and(|error| error.code.is_gap())
                && !still
            {
                state.stopped = None;
                going_on.push(other);
            }
        }
        Ok(going_on)
    }

    /// A gap that a person has accepted before it was found stops nobody.
    pub(super) async fn accept_if_asked(&mut self, system: &SystemName) -> Result<()> {
        let is_asked = self.feeds.iter().any(|((of, _), state)| of == system && state.gap_accepted);
        let concerned = |state: &SyncState| state.rules.members.iter().any(|member| member.system == *system);
        match self.syncs.iter().position(concerned) {
            Some(sync) if is_asked => self.go_on_behind_gap(sync).await,
            _ => Ok(()),
        }
    }

    /// A feed of these objects begins anew, and nobody was asked: it was let go of with another sync that shared it, or the system
    /// is called otherwise now, and may be another one. Syncs that have begun do not know what came before it: they are read
    /// again, in the transaction that makes its first position durable.
    pub(super) async fn begun_before(&mut self, system: &SystemName, objects: &[ObjectName]) -> Result<()> {
        let is_of_feed = |member: &MemberRules| member.system == *system && objects.contains(&member.object);
        let concerned = |state: &SyncState| state.begun && state.rules.members.iter().any(is_of_feed);
        let syncs: Vec<usize> = (0..self.syncs.len()).filter(|sync| self.syncs.get(*sync).is_some_and(concerned)).collect();
        if syncs.is_empty() || crate::mutants::active("anew_unnoticed") {
            return Ok(());
        }
        tracing::warn!(%system, "its feed begins anew, and what came before is not known: everything is read again");
        self.enter_life(system);
        for sync in &syncs {
            self.reread(*sync);
        }
        self.commit();
        for sync in syncs {
            self.forget_versions(sync).await?;
        }
        Ok(())
    }

    /// What was known of a system before tells nothing about it from now on.
    fn enter_life(&mut self, system: &SystemName) {
        let number = self.lives.get(system).map_or(1, |life| life.number.saturating_add(1));
        self.forget_origins(system);
        let life = Life { number, proven_from: self.next_flight, stale_to: self.orphans.generation() };
        self.lives.insert(system.clone(), life);
        let bytes = postcard::to_stdvec(&(life.number, life.proven_from)).ok();
        self.transaction.settings.push((life_setting(system), bytes));
    }

    /// Whatever is remembered of a system's old life is let go of; its feeds begin anew.
    fn begin_life(&mut self, system: &SystemName) {
        let now = self.now();
        self.enter_life(system);
        for ((of, feed), state) in &mut self.feeds {
            if of != system {
                continue;
            }
            state.position = crate::change::Position::default();
            // Nothing is read before the feed carries changes again.
            state.state = "connecting".to_owned();
            state.lost = None;
            state.gap_accepted = false;
            state.is_made_up_for = true;
            state.retry_at = Some(now);
            for absence in state.absences.drain(..) {
                self.reading.remove(&absence.link);
            }
            self.transaction.positions.push((system.clone(), feed.clone(), state.position.clone()));
        }
        let members: BTreeSet<_> = self
            .syncs
            .iter()
            .flat_map(|state| state.rules.members.iter().enumerate().map(move |(member, rules)| (state.rules.id, member, rules)))
            .filter(|(_, _, rules)| rules.system == *system)
            .map(|(sync, member, _)| (sync, member))
            .collect();
        let feeds: Vec<_> = self.feeds.keys().filter(|(of, _)| of == system).cloned().collect();
        for (system, feed) in feeds {
            self.listen_no_longer(&system, &feed, true);
        }
        self.forget_made(system);
        for airborne in self.flights.values_mut() {
            let of_sync = self.syncs.get(airborne.sync).map(|state| state.rules.id);
            if of_sync.is_some_and(|sync| members.contains(&(sync, airborne.flight.member))) {
                // Whatever is being read of it is of the old life.
                airborne.verifying = false;
                airborne.fenced = false;
            }
        }
        self.forget_before_beginning(system);
        self.forget_displaced(|address| members.contains(&(address.sync, address.member)));
        self.orphans.forget(|address| members.contains(&(address.sync, address.member)));
    }

    /// Takes the versions of a system's old life away from a sync's links and pending observations, if that has not been
    /// done: whatever is seen now is newer. A stranger that nobody was bound to may have gone in the gap, and nothing would
    /// say so: it is met anew when everything is read. Begun again from the start after a crash.
    pub(crate) async fn forget_versions(&mut self, sync: usize) -> Result<()> {
        let Some(rules) = self.rules(sync) else { return Ok(()) };
        let mut old: BTreeSet<MemberIndex> = BTreeSet::new();
        let mut done = Vec::new();
        for (member, member_rules) in rules.members.iter().enumerate() {
            let Some(life) = self.lives.get(&member_rules.system).map(|life| life.number) else { continue };
            let name = known_life_setting(rules.id.0, member);
            let known = self.store.setting(&name).await?.and_then(|bytes| postcard::from_bytes::<u64>(&bytes).ok());
            if known != Some(life) && !crate::mutants::active("old_life_versions_kept") {
                old.insert(member);
                done.push((name, postcard::to_stdvec(&life).ok()));
            }
        }
        if old.is_empty() {
            return Ok(());
        }
        self.commit();
        let mut after = LinkId(0);
        loop {
            let links = self.store.scan_links(rules.id, after, STEP).await?;
            let Some(last) = links.last() else { break };
            after = last.id;
            for mut link in links {
                for member in &old {
                    if let Some(side) = link.sides.get_mut(*member) {
                        side.version = Version::default();
                    }
                }
                self.transaction.links.push(Arc::new(link));
            }
            self.commit();
        }
        let mut after = None;
        loop {
            let rows = self.store.scan_pending(rules.id, after.clone(), STEP).await?;
            let Some((last, _)) = rows.last() else { break };
            after = Some(last.clone());
            let seen = rows.into_iter().filter(|(address, _)| old.contains(&address.member)).collect::<Vec<_>>();
            let mut desk = self.desk();
            desk.load(&self.store, seen.iter().map(|(address, _)| address.clone()).collect()).await?;
            for (address, mut pending) in seen {
                let is_stranger = desk.slot(&address).is_some_and(|slot| slot.link.is_none());
                if is_stranger && !crate::mutants::active("old_life_strangers_kept") {
                    self.meet_anew(sync, &address);
                    self.transaction.pending.push((address, None));
                    continue;
                }
                pending.version = Version::default();
                self.transaction.pending.push((address, Some(pending)));
            }
            self.commit();
        }
        self.transaction.settings.extend(done);
        self.commit();
        Ok(())
    }
}
