//! Writes whose outcome is unknown: a call that was cut off, or intents that an earlier run left open. Nothing about such
//! a record is decided before its write is settled: by its mark in the feed, by a fence that the feed has passed without
//! it, or, where that proves nothing, by a read, and for a create by a look-up.

use crate::capture::{Absence, Fence};
use crate::change::{Mark, Position};
use crate::connector::{Connector, Made, Operation, Presence, Write};
use crate::error::{Code, Error, Result};
use crate::link::{FlightId, LinkId, MemberIndex, Shown};
use crate::reconcile::Written;
use crate::record::{FeedName, FieldName, ObjectName, Record, SystemName};
use crate::runtime::airborne::Airborne;
use crate::runtime::core::{Core, Event};
use crate::runtime::desk::{Desk, address};
use crate::runtime::reads::Unread;
use crate::value::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What was found of a flight in doubt.
pub(crate) struct LookedUp {
    /// What was to be changed or deleted, as it is.
    pub shown: BTreeMap<LinkId, Presence>,
    /// What was to be made.
    pub made: BTreeMap<LinkId, Made>,
}

impl Core {
    /// Takes over what an earlier run left in flight.
    pub(crate) async fn restore_flights(&mut self) -> Result<()> {
        for flight in self.store.flights().await? {
            let Some(sync) = self.sync_of(flight.sync) else { continue };
            self.flights.insert(flight.id, Airborne::new(Arc::new(flight), sync, true));
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
        let now = self.now();
        let doubtful: Vec<(FlightId, ObjectName)> = self
            .flights
            .iter()
            .filter(|(_, airborne)| airborne.in_doubt && !airborne.fenced && !airborne.verifying)
            .filter(|(_, airborne)| airborne.again_at.is_none_or(|at| at <= now))
            .filter_map(|(id, airborne)| {
                let rules = self.member_rules(airborne.sync, airborne.flight.member)?;
                (rules.system == *system).then(|| (*id, rules.object.clone()))
            })
            .collect();
        let feeds: Vec<FeedName> = self
            .feeds
            .iter()
            .filter(|((of, name), state)| {
                of == system && !name.as_str().is_empty() && state.fence == Fence::None && state.is_open()
            })
            .filter(|(_, state)| {
                doubtful.iter().any(|(_, object)| state.objects.contains(object))
                    || state.absences.iter().any(|absence| !absence.fenced)
                    || state.unheard.iter().any(|unheard| !unheard.fenced)
                    || (self.options.once && state.fences_passed == 0)
            })
            .map(|((_, name), _)| name.clone())
            .collect();
        for feed in feeds {
            let Some(state) = self.feeds.get_mut(&(system.clone(), feed.clone())) else { continue };
            state.fence = Fence::Asked;
            state.absences.iter_mut().for_each(|absence| absence.fenced = true);
            state.unheard.iter_mut().for_each(|unheard| unheard.fenced = true);
            // A feed tells of its own objects alone: the fence in another one proves nothing.
            for (id, _) in doubtful.iter().filter(|(_, object)| state.objects.contains(object)) {
                if let Some(airborne) = self.flights.get_mut(id) {
                    airborne.fenced = true;
                }
            }
            let (connector, system, timeout) = (Arc::clone(&connector), system.clone(), self.write_limit(&*connector));
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
                state.absences.iter_mut().for_each(|absence| absence.fenced = false);
                state.unheard.iter_mut().for_each(|unheard| unheard.fenced = false);
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
    pub(crate) fn drop_fences(&mut self, system: &SystemName, lost: Option<&FeedName>) {
        for ((of, feed), state) in &mut self.feeds {
            if of == system && lost.is_none_or(|lost| lost == feed) && state.fence != Fence::None {
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
        let carried = state.objects.clone();
        let settled: Vec<FlightId> = self
            .flights
            .iter()
            .filter(|(_, airborne)| airborne.in_doubt && airborne.fenced && !airborne.verifying)
            .filter(|(_, airborne)| {
                self.member_rules(airborne.sync, airborne.flight.member)
                    .is_some_and(|rules| rules.system == *system && carried.contains(&rules.object))
            })
            .map(|(id, _)| *id)
            .collect();
        for id in settled {
            self.end_doubt(id, &connector).await?;
        }
        self.listen_no_longer(system, feed, false);
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
        for absence in &passed {
            self.wish_is_met(absence.sight.sync, absence.sight.pending.member, Unread::Link(absence.link));
        }
        self.commit();
        let mut desk = self.desk();
        desk.load_links(&self.store, links.clone()).await?;
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
        self.settle_answered(id).await?;
        let Some(airborne) = self.flights.get(&id) else { return Ok(()) };
        let (sync, member, hops) = (airborne.sync, airborne.flight.member, airborne.flight.hops);
        let taken = crate::mutants::active("unknown_taken_for_success");
        let proves =
            connector.capabilities().marks && connector.capabilities().fences_prove && self.is_provable(sync, member, id);
        if !taken && !proves {
            return self.verify_by_read(id, connector).await;
        }
        let intents = airborne.flight.intents.clone();
        self.commit();
        let mut desk = self.desk();
        desk.load_links(&self.store, intents.iter().map(|intent| intent.link).collect()).await?;
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
                        times: Vec::new(),
                        version: version.unwrap_or_default(),
                        hops,
                        planned: intent.decision,
                    };
                    self.settle_written(&mut desk, sync, member, &intent, &written).await?;
                    continue;
                }
            }
            // The feed is past the fence and showed no mark: the write never happened.
            self.try_again(&mut desk, sync, member, intent.link, None);
        }
        self.decide_touched(&mut desk, false).await?;
        desk.flush(&mut self.transaction);
        self.land(id);
        Ok(())
    }

    /// The feed proves nothing of a flight: it carries no marks, its fences are no proof, or the flight lies before a gap. What
    /// was changed or deleted is read, what was to be made is looked up. The links stay in flight until the answer is in, so
    /// that nothing is decided about them meanwhile.
    async fn verify_by_read(&mut self, id: FlightId, connector: &Arc<dyn Connector>) -> Result<()> {
        let Some(airborne) = self.flights.get_mut(&id) else { return Ok(()) };
        airborne.verifying = true;
        let (sync, member, opened) = (airborne.sync, airborne.flight.member, airborne.flight.opened);
        let hops = airborne.flight.hops;
        let intents = airborne.flight.intents.clone();
        let Some(rules) = self.rules(sync) else { return Ok(()) };
        let Some(selection) = rules.members.get(member).map(|rules| rules.selection.clone()) else { return Ok(()) };
        let mark = Mark { store: self.store_id.clone(), sync: rules.name.to_string(), intent: id.0, hops };
        self.commit();
        let mut desk = self.desk();
        desk.load_links(&self.store, intents.iter().map(|intent| intent.link).collect()).await?;
        let open = intents.into_iter().filter(|intent| is_open(&desk, intent.link, member, id));
        let (mut asked, mut keys, mut creates) = (Vec::new(), Vec::new(), Vec::new());
        for intent in open {
            match &intent.write.operation {
                Operation::Update { key, .. } | Operation::Delete { key, .. } => {
                    asked.push(intent.link);
                    keys.push(key.clone());
                }
                Operation::Create { .. } => creates.push((intent.link, intent.write)),
            }
        }
        let (connector, timeout) = (Arc::clone(connector), self.options.read_timeout);
        self.jobs.spawn(async move {
            let look = async {
                let shown = if keys.is_empty() { Vec::new() } else { connector.read(&selection, &keys).await? };
                let (links, writes): (Vec<LinkId>, Vec<Write>) = creates.into_iter().unzip();
                let made =
                    if writes.is_empty() { Vec::new() } else { connector.made(&selection, &mark, opened, &writes).await? };
                Ok(LookedUp { shown: asked.into_iter().zip(shown).collect(), made: links.into_iter().zip(made).collect() })
            };
            let result = match tokio::time::timeout(timeout, look).await {
                Ok(result) => result,
                Err(_) => Err(Error::new(Code::Unreachable, "a read was not answered in time")),
            };
            Event::Verified { flight: id, result }
        });
        Ok(())
    }

    pub(crate) async fn on_verified(&mut self, id: FlightId, result: Result<LookedUp>) -> Result<()> {
        let now = self.now();
        let flown = self.flights.get(&id).map(|airborne| (airborne.sync, airborne.flight.member));
        let settles = flown.and_then(|(sync, member)| self.connector(sync, member)?.capabilities().writes_settle);
        let Some(airborne) = self.flights.get_mut(&id).filter(|airborne| airborne.verifying) else { return Ok(()) };
        airborne.verifying = false;
        let since = *airborne.read_since.get_or_insert(now);
        let settles_in = settles.unwrap_or_default().saturating_sub(now.since(since));
        let (sync, member, hops) = (airborne.sync, airborne.flight.member, airborne.flight.hops);
        let intents = airborne.flight.intents.clone();
        let LookedUp { mut shown, mut made } = match result {
            Ok(looked_up) => looked_up,
            // One of them cannot be read: each is read by itself, what was to be made is looked up by its match.
            Err(error) if error.may_be_one_records() && settles_in.is_zero() => return self.verify_one_by_one(id).await,
            Err(error) if error.may_be_one_records() => {
                (airborne.fenced, airborne.again_at) = (false, Some(now.plus(settles_in)));
                return Ok(());
            }
            Err(error) => {
                // As doubtful as before: asked again behind another fence.
                airborne.fenced = false;
                self.member_failed(sync, member, error);
                return Ok(());
            }
        };
        let Some(sync_id) = self.rules(sync).map(|rules| rules.id) else { return Ok(()) };
        let mut desk = self.desk();
        desk.load_links(&self.store, intents.iter().map(|intent| intent.link).collect()).await?;
        let found = made.values().filter_map(|made| if let Made::Yes(record) = made { Some(&record.key) } else { None });
        let found = found.map(|key| address(sync_id, member, key)).collect();
        desk.load(&self.store, found).await?;
        let mut again_in = None;
        for intent in intents.into_iter().filter(|intent| is_open(&desk, intent.link, member, id)).collect::<Vec<_>>() {
            let presence = match made.remove(&intent.link) {
                None => shown.remove(&intent.link),
                Some(Made::Yes(record)) => {
                    let there = address(sync_id, member, &record.key);
                    let holder = desk.slot(&there).and_then(|slot| slot.link);
                    // Found by what it shows, it can be another record that shows the same.
                    holder.is_none_or(|holder| holder == intent.link).then_some(Presence::Present(*record))
                }
                Some(Made::No) => {
                    self.try_again(&mut desk, sync, member, intent.link, None);
                    continue;
                }
                Some(Made::NotYet(wait)) => {
                    again_in = Some(again_in.map_or(wait, |other: Duration| other.max(wait)));
                    continue;
                }
                Some(Made::Unsure) => None,
            };
            let written = presence.and_then(|presence| self.shows_the_write(sync, member, &intent, presence, hops));
            match (written, &intent.write.operation) {
                (Some(written), _) => self.settle_written(&mut desk, sync, member, &intent, &written).await?,
                (None, Operation::Create { image, absent_by }) => {
                    self.doubt_create(&mut desk, sync, member, intent.link, image, absent_by)?;
                }
                // It may still come, and would go over whatever was written there meanwhile.
                (None, _) if !settles_in.is_zero() => again_in = Some(again_in.map_or(settles_in, |other| other.max(settles_in))),
                (None, _) => self.try_again(&mut desk, sync, member, intent.link, None),
            }
        }
        self.decide_touched(&mut desk, false).await?;
        desk.flush(&mut self.transaction);
        match again_in {
            Some(wait) => {
                let again_at = self.now().plus(wait);
                if let Some(airborne) = self.flights.get_mut(&id) {
                    airborne.fenced = false;
                    airborne.again_at = Some(again_at);
                }
            }
            None => self.land(id),
        }
        Ok(())
    }

    /// The records of a flight in doubt cannot be read together. The link of each is free again: what it owes is written once
    /// it has been read, by a write that is guarded as ever, and one that cannot be read is for a person.
    async fn verify_one_by_one(&mut self, id: FlightId) -> Result<()> {
        let Some(airborne) = self.flights.get(&id) else { return Ok(()) };
        let (sync, member, intents) = (airborne.sync, airborne.flight.member, airborne.flight.intents.clone());
        let mut desk = self.desk();
        desk.load_links(&self.store, intents.iter().map(|intent| intent.link).collect()).await?;
        for intent in intents.into_iter().filter(|intent| is_open(&desk, intent.link, member, id)).collect::<Vec<_>>() {
            match &intent.write.operation {
                Operation::Create { image, absent_by } => {
                    self.doubt_create(&mut desk, sync, member, intent.link, image, absent_by)?;
                }
                Operation::Update { .. } | Operation::Delete { .. } => self.missed(&mut desk, sync, member, intent.link),
            }
        }
        self.decide_touched(&mut desk, false).await?;
        desk.flush(&mut self.transaction);
        self.land(id);
        Ok(())
    }

    /// A create without a mark is answered by a look-up, never by a second create: where it would meet its own record, it
    /// is tried, and collides; where nothing could tell that record, a person looks.
    fn doubt_create(
        &mut self,
        desk: &mut Desk,
        sync: usize,
        member: MemberIndex,
        link: LinkId,
        image: &Record,
        absent_by: &[FieldName],
    ) -> Result<()> {
        let key = self.member_rules(sync, member).map(|rules| rules.schema.key.as_slice()).unwrap_or_default();
        if crate::identify::gives_key(key, image) || !absent_by.is_empty() {
            if let Some(of) = self.rules(sync).map(|rules| rules.id) {
                self.sent.note((of, member, link), image, &mut self.transaction)?;
            }
            self.want_match(sync, member, link);
            self.try_again(desk, sync, member, link, None);
            return Ok(());
        }
        let Some(mut doubted) = desk.link(link).cloned() else { return Ok(()) };
        let error = Error::new(
            Code::CreateUnproven,
            "it cannot be told whether the record was made: no feed tells of it, and no match field would find it",
        );
        self.block(sync, &mut doubted, member, &error);
        self.unproven.note((doubted.sync, member, link), image, &mut self.transaction)?;
        desk.save(doubted);
        desk.touch(link);
        Ok(())
    }

    /// A record that shows what was planned was written.
    fn shows_the_write<'a>(
        &self,
        sync: usize,
        member: MemberIndex,
        intent: &'a crate::flight::Intent,
        presence: Presence,
        hops: u32,
    ) -> Option<Written<'a>> {
        let rules = self.rules(sync)?;
        let operation = &intent.write.operation;
        match (presence, operation) {
            (Presence::Absent { version }, Operation::Delete { key, .. }) => Some(Written {
                operation,
                key: key.clone(),
                image: None,
                times: Vec::new(),
                version,
                hops,
                planned: intent.decision,
            }),
            (Presence::Present(observation), Operation::Update { .. } | Operation::Create { .. }) => {
                // As the member shows it: a mark of deletion is no mapped field.
                let shown = observation.image.record().cloned().unwrap_or_default();
                let one = crate::capture::incoming(&rules, sync, member, observation, self.now(), &self.store_id, true);
                let Shown::Present { cells, times, .. } = &one.pending.shown else { return None };
                let image = crate::map::member_record(&rules, member, cells);
                // A record that was looked up is the one that was made, whatever has become of it since.
                let holds = match operation {
                    Operation::Update { set, guard, .. } => shows_update(&shown, set, guard),
                    _ => true,
                };
                holds.then(|| Written {
                    operation,
                    key: one.pending.key.clone(),
                    image: Some(image.clone()),
                    times: if crate::mutants::active("verified_edit_is_new") { Vec::new() } else { times.clone() },
                    version: one.pending.version.clone(),
                    hops,
                    planned: intent.decision,
                })
            }
            _ => None,
        }
    }

    /// Whether a link's write is in doubt.
    pub(crate) fn doubtful_flights(&self, sync: usize) -> usize {
        self.flights.values().filter(|airborne| airborne.sync == sync).count()
    }
}

/// Whether a link still waits for what became of its write in a flight.
fn is_open(desk: &Desk, link: LinkId, member: MemberIndex, flight: FlightId) -> bool {
    desk.link(link).and_then(|link| link.sides.get(member)).is_some_and(|side| side.flight == Some(flight))
}

/// Whether a record shows what an update set: all of it, or, where a trigger or a user has made something else of a part, at least
/// one field, and nothing as it was before.
fn shows_update(shown: &Record, set: &Record, guard: &Record) -> bool {
    let equal = |field: &FieldName, value: &Value| shown.get(field.as_str()).is_some_and(|shown| shown.equivalent(value));
    if set.iter().all(|(field, value)| equal(field, value)) {
        return true;
    }
    let changes =
        || set.iter().filter(|(field, value)| guard.get(field.as_str()).is_some_and(|before| !before.equivalent(value)));
    let as_it_was = |field: &FieldName| guard.get(field.as_str()).is_some_and(|before| equal(field, before));
    changes().any(|(field, value)| equal(field, value))
        && set.iter().all(|(field, value)| equal(field, value) || !as_it_was(field))
        && !crate::mutants::active("half_a_write_is_none")
}
