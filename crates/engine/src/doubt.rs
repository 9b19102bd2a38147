//! Writes whose outcome is unknown: a call that was cut off, or intents that an earlier run left open. Nothing about such
//! a record is decided before its write is settled: by its mark in the feed, by a fence that the feed has passed without
//! it, or, where there are no marks, by a read.

use crate::capture::{Absence, Fence};
use crate::change::Position;
use crate::connector::{Connector, Operation, Presence};
use crate::error::{Code, Error, Result};
use crate::link::{FlightId, LinkId, MemberIndex, Shown};
use crate::record::{FeedName, SystemName};
use crate::runtime::core::{Airborne, Core, Event};
use std::sync::Arc;

impl Core {
    /// Takes over what an earlier run left in flight.
    pub(crate) async fn restore_flights(&mut self) -> Result<()> {
        for flight in self.store.flights().await? {
            let Some(sync) = self.sync_of(flight.sync) else { continue };
            self.flights.insert(flight.id, Airborne { flight, sync, in_doubt: true, fenced: false });
        }
        Ok(())
    }

    /// Sets about settling what is in doubt at a member.
    pub(crate) fn ask_fence(&mut self, sync: usize, member: MemberIndex) {
        let Some(system) = self.member_rules(sync, member).map(|rules| rules.system.clone()) else { return };
        self.ask_fences_of(&system);
    }

    /// Asks for whatever fences are needed and not yet asked for.
    pub(crate) fn ask_fences(&mut self) {
        let systems: Vec<SystemName> = self.systems.keys().cloned().collect();
        for system in systems {
            self.ask_fences_of(&system);
        }
    }

    fn ask_fences_of(&mut self, system: &SystemName) {
        let Some(connector) = self.systems.get(system).cloned() else { return };
        let doubtful: Vec<FlightId> = self
            .flights
            .iter()
            .filter(|(_, airborne)| airborne.in_doubt && !airborne.fenced)
            .filter(|(_, airborne)| {
                self.member_rules(airborne.sync, airborne.flight.member).is_some_and(|rules| rules.system == *system)
            })
            .map(|(id, _)| *id)
            .collect();
        let feeds: Vec<FeedName> = self
            .feeds
            .iter()
            .filter(|((of, name), state)| {
                of == system && !name.as_str().is_empty() && state.fence == Fence::None && state.is_open()
            })
            .filter(|(_, state)| {
                !doubtful.is_empty()
                    || state.absences.iter().any(|absence| !absence.fenced)
                    || (self.options.once && state.fences_passed == 0)
            })
            .map(|((_, name), _)| name.clone())
            .collect();
        for feed in feeds {
            if let Some(state) = self.feeds.get_mut(&(system.clone(), feed.clone())) {
                state.fence = Fence::Asked;
                for absence in &mut state.absences {
                    absence.fenced = true;
                }
            }
            for id in &doubtful {
                if let Some(airborne) = self.flights.get_mut(id) {
                    airborne.fenced = true;
                }
            }
            let (connector, system, timeout) = (Arc::clone(&connector), system.clone(), self.options.apply_timeout);
            self.jobs.spawn(async move {
                let result = match tokio::time::timeout(timeout, connector.fence(&feed)).await {
                    Ok(result) => result,
                    Err(_) => Err(Error::new(Code::Unreachable, "a fence was not set in time")),
                };
                Event::Fenced { system, feed, result }
            });
        }
    }

    pub(crate) async fn on_fenced(&mut self, system: SystemName, feed: FeedName, result: Result<Position>) -> Result<()> {
        let Some(state) = self.feeds.get_mut(&(system.clone(), feed.clone())) else { return Ok(()) };
        match result {
            Ok(position) => {
                state.fence = Fence::At(position);
                self.pass_fence(&system, &feed).await
            }
            Err(error) => {
                tracing::warn!(%system, error = error.chain(), "no fence");
                state.fence = Fence::None;
                self.unfence(&system);
                Ok(())
            }
        }
    }

    fn unfence(&mut self, system: &SystemName) {
        for ((of, _), state) in &mut self.feeds {
            if of == system {
                for absence in &mut state.absences {
                    absence.fenced = false;
                }
            }
        }
        let of_system: Vec<FlightId> = self
            .flights
            .iter()
            .filter(|(_, airborne)| {
                self.member_rules(airborne.sync, airborne.flight.member).is_some_and(|rules| rules.system == *system)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in of_system {
            if let Some(airborne) = self.flights.get_mut(&id) {
                airborne.fenced = false;
            }
        }
    }

    /// Forgets the fences of a feed that was lost: they are asked for anew.
    pub(crate) fn drop_fences(&mut self, system: &SystemName) {
        for ((of, _), state) in &mut self.feeds {
            if of == system && state.fence != Fence::None {
                state.fence = Fence::None;
            }
        }
        self.unfence(system);
    }

    /// If the feed has passed its fence, what is still open of the flights before it never happened, or is read.
    pub(crate) async fn pass_fence(&mut self, system: &SystemName, feed: &FeedName) -> Result<()> {
        let Some(connector) = self.systems.get(system).cloned() else { return Ok(()) };
        let Some(state) = self.feeds.get_mut(&(system.clone(), feed.clone())) else { return Ok(()) };
        let Fence::At(goal) = &state.fence else { return Ok(()) };
        if !connector.reached(&state.position, goal) {
            return Ok(());
        }
        state.fence = Fence::None;
        state.fences_passed = state.fences_passed.saturating_add(1);
        let settled: Vec<FlightId> = self
            .flights
            .iter()
            .filter(|(_, airborne)| airborne.in_doubt && airborne.fenced)
            .filter(|(_, airborne)| {
                self.member_rules(airborne.sync, airborne.flight.member).is_some_and(|rules| rules.system == *system)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in settled {
            self.end_doubt(id, &connector).await?;
        }
        self.take_in_absences(system, feed).await
    }

    /// What was not found and what the feed has not explained otherwise is gone.
    async fn take_in_absences(&mut self, system: &SystemName, feed: &FeedName) -> Result<()> {
        let Some(state) = self.feeds.get_mut(&(system.clone(), feed.clone())) else { return Ok(()) };
        let (passed, waiting): (Vec<Absence>, Vec<Absence>) =
            std::mem::take(&mut state.absences).into_iter().partition(|absence| absence.fenced);
        state.absences = waiting;
        if passed.is_empty() {
            return Ok(());
        }
        let links: Vec<LinkId> = passed.iter().map(|absence| absence.link).collect();
        self.commit();
        let mut desk = self.desk();
        desk.load_links(&*self.store, links.clone()).await?;
        let sights = passed.into_iter().map(|absence| absence.sight).collect();
        self.take_in_all(&mut desk, sights).await?;
        for link in links {
            self.reading.remove(&link);
            desk.touch(link);
        }
        self.decide_touched(&mut desk, false).await?;
        desk.flush(&mut self.transaction);
        Ok(())
    }

    async fn end_doubt(&mut self, id: FlightId, connector: &Arc<dyn Connector>) -> Result<()> {
        let Some(airborne) = self.flights.get(&id) else { return Ok(()) };
        let (sync, member, hops) = (airborne.sync, airborne.flight.member, airborne.flight.hops);
        let intents = airborne.flight.intents.clone();
        self.commit();
        let mut desk = self.desk();
        desk.load_links(&*self.store, intents.iter().map(|intent| intent.link).collect()).await?;
        let open: Vec<_> = intents
            .into_iter()
            .filter(|intent| {
                desk.link(intent.link).and_then(|link| link.sides.get(member)).is_some_and(|side| side.flight == Some(id))
            })
            .collect();
        for intent in open {
            if crate::mutants::active("unknown_taken_for_success") {
                let key = desk.link(intent.link).and_then(|link| link.sides.get(member)).and_then(|side| side.key.clone());
                if let Some(key) = key {
                    let version = desk.link(intent.link).and_then(|link| link.sides.get(member)).map(|side| side.version.clone());
                    let written = crate::reconcile::Written {
                        operation: &intent.write.operation,
                        key,
                        image: None,
                        version: version.unwrap_or_default(),
                        hops,
                    };
                    self.settle_written(&mut desk, sync, member, &intent, &written).await?;
                    continue;
                }
            }
            if connector.capabilities().marks {
                // The feed is past the fence and showed no mark: the write never happened.
                self.try_again(&mut desk, sync, member, intent.link, None);
            } else if !self.settle_by_read(&mut desk, sync, member, &intent, hops, connector).await? {
                self.try_again(&mut desk, sync, member, intent.link, None);
            }
        }
        self.decide_touched(&mut desk, false).await?;
        desk.flush(&mut self.transaction);
        self.land(id);
        Ok(())
    }

    /// Without marks: a record that shows what was planned was written. Says whether that settled it.
    async fn settle_by_read(
        &mut self,
        desk: &mut crate::runtime::desk::Desk,
        sync: usize,
        member: MemberIndex,
        intent: &crate::flight::Intent,
        hops: u32,
        connector: &Arc<dyn Connector>,
    ) -> Result<bool> {
        let Some(rules) = self.rules(sync) else { return Ok(false) };
        let Some(selection) = rules.members.get(member).map(|member| member.selection.clone()) else { return Ok(false) };
        let (key, set) = match &intent.write.operation {
            Operation::Update { key, set, .. } => (key.clone(), Some(set)),
            Operation::Delete { key, .. } => (key.clone(), None),
            // A create without a mark is answered by a look-up, never by a second create.
            Operation::Create { .. } => {
                self.want_match(sync, member, intent.link);
                return Ok(false);
            }
        };
        let Ok(Ok(mut found)) =
            tokio::time::timeout(self.options.read_timeout, connector.read(&selection, std::slice::from_ref(&key))).await
        else {
            return Ok(false);
        };
        let now = self.now();
        let written = match (found.pop(), set) {
            (Some(Presence::Absent { version }), None) => {
                Some(crate::reconcile::Written { operation: &intent.write.operation, key, image: None, version, hops })
            }
            (Some(Presence::Present(observation)), Some(set)) => {
                let one = crate::capture::incoming(&rules, sync, member, observation, now, &self.store_id, true);
                let Shown::Present { cells, .. } = &one.pending.shown else { return Ok(false) };
                let image = crate::map::member_record(&rules, member, cells);
                let shown =
                    set.iter().all(|(field, value)| image.get(field.as_str()).is_some_and(|shown| shown.equivalent(value)));
                shown.then(|| crate::reconcile::Written {
                    operation: &intent.write.operation,
                    key: one.pending.key.clone(),
                    image: Some(image),
                    version: one.pending.version.clone(),
                    hops,
                })
            }
            _ => None,
        };
        match written {
            Some(written) => {
                self.settle_written(desk, sync, member, intent, &written).await?;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Whether a link's write is in doubt.
    pub(crate) fn doubtful_flights(&self, sync: usize) -> usize {
        self.flights.values().filter(|airborne| airborne.sync == sync).count()
    }

    /// What is pending and has a link is looked at again after a start; what has none is identified again.
    pub(crate) async fn restore_pending(&mut self, sync: usize) -> Result<()> {
        let Some(id) = self.rules(sync).map(|rules| rules.id) else { return Ok(()) };
        let mut after = None;
        loop {
            let rows = self.store.scan_pending(id, after.clone(), 500).await?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after = Some(last.clone());
            let mut desk = self.desk();
            desk.load(&*self.store, rows.iter().map(|(address, _)| address.clone()).collect()).await?;
            for (address, _) in rows {
                let link: Option<LinkId> = desk.slot(&address).and_then(|slot| slot.link);
                match link {
                    Some(link) => desk.touch(link),
                    None if self.parked.contains_key(&address) => {}
                    None => self.unidentified_unless_ours(sync, address),
                }
            }
            self.decide_touched(&mut desk, false).await?;
            desk.flush(&mut self.transaction);
            self.commit();
        }
    }
}
