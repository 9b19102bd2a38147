//! Stage 1: read the feeds, make what they bring durable together with the new position, and only then acknowledge.
//! What arrives is folded, record by record, into what is pending; who it belongs to and what follows is for later stages.
//! Never waits for a target: what cannot be written now is remembered in the store, so no source's log is held back.

mod before;
mod drift;
mod echoes;
mod feeds;
mod gaps;
mod incoming;
mod keys;
mod orphans;
mod readers;
mod told;

pub(crate) use before::Before;
pub(crate) use drift::{Lost, drift};
pub(crate) use echoes::Echoes;
pub(crate) use feeds::{Absence, FeedReport, FeedState, Fence};
pub(crate) use gaps::Life;
pub(crate) use incoming::{Incoming, incoming};
pub(crate) use keys::Owner;
pub(crate) use orphans::Orphans;
pub(crate) use readers::Reader;
pub(crate) use told::Told;

use crate::change::{Observation, Position};
use crate::clock::Moment;
use crate::connector::{Batch, Event as FeedEvent};
use crate::error::{Error, Result};
use crate::identify::MadeUnseen;
use crate::link::{Cells, FlightId, Group, Link, LinkId, MemberIndex, Pending, Shown, Side, Standing};
use crate::reconcile::{Folded, fold, refine_agreed, refine_times};
use crate::record::{FeedName, SystemName};
use crate::rules::SyncRules;
use crate::runtime::bounds::DEFERRED_MAX;
use crate::runtime::core::{Core, Effect};
use crate::runtime::desk::Desk;
use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

impl Core {
    pub(crate) async fn on_captured(
        &mut self,
        system: SystemName,
        feed: FeedName,
        batch: Batch,
        waits: Option<Error>,
        permit: OwnedSemaphorePermit,
    ) -> Result<()> {
        crate::failpoint::pass("captured_before_durable");
        if self.feeds.get(&(system.clone(), feed.clone())).is_some_and(|feed| feed.begins_anew()) {
            // Read before a gap was accepted: it begins anew behind that.
            return Ok(());
        }
        let now = self.now();
        let mut desk = self.desk();
        let Batch { events, position } = batch;
        let quiet = events.is_empty();
        let mut arrived: Vec<Incoming> = Vec::with_capacity(events.len());
        let waiting = self.strangers_waiting();
        let (mut lag, mut tells_whose) = (None, None);
        for event in events {
            match event {
                FeedEvent::Observed(observation) => {
                    lag = Some(now.since(observation.time.at));
                    tells_whose = Some(observation.mark.is_some() || !observation.time.estimated);
                    self.receive(&system, observation, now, false, &mut arrived);
                }
                FeedEvent::Read(observation) => {
                    lag = Some(now.since(observation.time.at));
                    self.receive(&system, observation, now, true, &mut arrived);
                }
                FeedEvent::Truncated { object, version, time } => {
                    // What came before the emptiness is taken in before it.
                    self.take_in_all(&mut desk, std::mem::take(&mut arrived)).await?;
                    self.decide_touched(&mut desk, false).await?;
                    desk.flush(&mut self.transaction);
                    self.commit();
                    desk = self.desk();
                    self.truncated(&system, &object, &version, time).await?;
                }
                FeedEvent::SchemaChanged(schema) => self.schema_changed(&system, &schema),
            }
        }
        self.take_in_all(&mut desk, arrived).await?;
        self.identify_at_once(&mut desk, &waiting).await?;
        self.keep_before_beginning();
        let middle = position.is_none() && !quiet;
        let key = (system.clone(), feed.clone());
        let mut spilled = false;
        let deferred = match self.feeds.get_mut(&key) {
            Some(state) => {
                state.idle = quiet && waits.is_none();
                // It goes on behind its position: what was accepted beforehand is not a gap of later.
                state.gap_accepted = false;
                state.tells_whose = tells_whose.unwrap_or(state.tells_whose);
                state.waits = waits.as_ref().map(|why| why.code);
                state.state = match waits {
                    Some(why) => format!("unreachable for now: {why}"),
                    None if quiet => "idle".to_owned(),
                    None => "reading".to_owned(),
                };
                // A source that was asked and had nothing more is caught up with.
                state.lag = if state.idle { Some(Duration::ZERO) } else { lag };
                spilled = !middle && std::mem::take(&mut state.deferred_spilled);
                if middle { Vec::new() } else { std::mem::take(&mut state.deferred) }
            }
            None => Vec::new(),
        };
        if spilled {
            for sync in 0..self.syncs.len() {
                self.spill(sync);
            }
        }
        desk.load_links(&self.store, deferred.clone()).await?;
        for link in deferred {
            desk.touch(link);
        }
        let left = self.decide_touched(&mut desk, middle).await?;
        if let Some(state) = self.feeds.get_mut(&key) {
            let room = DEFERRED_MAX.saturating_sub(state.deferred.len());
            state.deferred_spilled |= left.len() > room;
            state.deferred.extend(left.into_iter().take(room));
        }
        desk.flush(&mut self.transaction);
        if let Some(position) = position {
            self.advance(&key, position);
        }
        // What follows reads the store, which must know of this batch.
        self.commit();
        self.pass_fence(&system, &feed).await?;
        self.effects.push(Effect::Release(permit));
        Ok(())
    }

    /// Moves a feed's position, in the transaction that makes everything before it durable, or in a later one: a position
    /// by itself (an echo, a feed without news) is not worth a durable step of its own, and waits for the next that there
    /// is, or for housekeeping.
    fn advance(&mut self, key: &(SystemName, FeedName), position: Position) {
        let Some(state) = self.feeds.get_mut(key) else { return };
        if state.position == position {
            return;
        }
        state.position = position;
        self.advanced.insert(key.clone());
    }

    /// Puts the positions that have moved into the present transaction; the sources are told when it is durable. What ended
    /// with what the feeds told on the way goes with them.
    pub(crate) fn take_positions(&mut self) {
        self.end_reservations();
        for (system, feed) in std::mem::take(&mut self.advanced) {
            let Some(state) = self.feeds.get(&(system.clone(), feed.clone())) else { continue };
            let position = state.position.clone();
            if position.0.is_empty() {
                // Its gap was accepted meanwhile, and it begins anew.
                continue;
            }
            self.transaction.positions.push((system.clone(), feed.clone(), position.clone()));
            self.effects.push(Effect::Acknowledge { system, feed, position });
        }
    }

    /// Hands what a feed tells, or has read where it could not tell (`ahead`), to every sync that it concerns.
    fn receive(&mut self, system: &SystemName, observation: Observation, now: Moment, ahead: bool, arrived: &mut Vec<Incoming>) {
        if self.syncs.iter().any(|sync| !sync.begun) {
            self.note_before_beginning(system, &observation.object, &observation.version);
        }
        let mut takers = Vec::with_capacity(1);
        for (index, sync) in self.syncs.iter_mut().enumerate().filter(|(_, sync)| sync.begun) {
            for (member, rules) in sync.rules.members.iter().enumerate() {
                if rules.system == *system && rules.object == observation.object {
                    sync.meters.observed();
                    takers.push((index, member, Arc::clone(&sync.rules)));
                }
            }
        }
        takers.retain(|(index, member, _)| !self.is_from_before(*index, *member, &observation.version));
        // Most observations concern one sync, which takes them whole.
        let last = takers.pop();
        for (index, member, rules) in takers {
            let one = incoming(&rules, index, member, observation.clone(), now, &self.store_id, false);
            arrived.push(Incoming { ahead, ..one });
        }
        if let Some((index, member, rules)) = last {
            let one = incoming(&rules, index, member, observation, now, &self.store_id, false);
            arrived.push(Incoming { ahead, ..one });
        }
    }

    /// Folds what arrived into what is pending, in the order of arrival.
    pub(crate) async fn take_in_all(&mut self, desk: &mut Desk, arrived: Vec<Incoming>) -> Result<()> {
        self.hear_of_made(desk, &arrived).await?;
        let arrived = self.without_known_echoes(arrived);
        let addresses =
            arrived.iter().flat_map(|one| std::iter::once(one.address.clone()).chain(one.old_address.clone())).collect();
        desk.load(&self.store, addresses).await?;
        for one in arrived {
            self.take_in(desk, one).await?;
        }
        Ok(())
    }

    async fn take_in(&mut self, desk: &mut Desk, one: Incoming) -> Result<()> {
        let one = self.of_displaced(desk, one).await?;
        if !self.follow_key_change(desk, &one).await? || self.was_deleted_meanwhile(&one) {
            return Ok(());
        }
        if let Some((flight, id)) = self.made_by_us(desk, &one).await? {
            return self.settle_echo(desk, id, flight, one).await;
        }
        match self.owner(desk, &one) {
            Owner::Link(link) => self.take_in_known(desk, link, one).await,
            Owner::Nobody => match self.made_unseen(desk, &one).await? {
                Some(MadeUnseen::By(flight, link)) => self.settle_echo(desk, link, flight, one).await,
                Some(MadeUnseen::Before(link)) => self.settle_unseen_create(desk, link, one).await,
                None => self.take_in_stranger(desk, one).await,
            },
            Owner::Past => Ok(()),
            Owner::Unclear => {
                self.want_stranger_instead(one.sync, one.address, one.pending.key);
                Ok(())
            }
        }
    }

    /// The create under way of which this is the echo: its record may have the key of another one, which is gone.
    async fn made_by_us(&mut self, desk: &mut Desk, one: &Incoming) -> Result<Option<(FlightId, LinkId)>> {
        let Some(flight) = one.echo_of else { return Ok(None) };
        let known = desk.slot(&one.address).and_then(|slot| slot.link).and_then(|id| desk.link(id));
        let stands = known.and_then(|link| link.sides.get(one.pending.member)).is_some_and(|side| {
            let written = side.flight == Some(flight);
            written || side.standing == Standing::Present
        });
        if stands {
            return Ok(None);
        }
        Ok(self.created_by(desk, flight, one).await?.map(|id| (flight, id)))
    }

    /// Whether a record that a feed looked for in vain may stand under another key. One whose key its system made does not.
    fn may_have_moved(&self, sync: usize, member: MemberIndex) -> bool {
        let moves = self.connector(sync, member).is_some_and(|it| it.capabilities().keys_can_be_given);
        moves && !crate::mutants::active("absence_ahead_trusted")
    }

    fn was_deleted_meanwhile(&self, one: &Incoming) -> bool {
        one.read && self.is_orphaned(one)
    }

    async fn take_in_known(&mut self, desk: &mut Desk, id: LinkId, mut one: Incoming) -> Result<()> {
        let member = one.pending.member;
        let Some(link) = desk.link(id) else { return Ok(()) };
        let Some(side) = link.sides.get(member) else { return Ok(()) };
        if let Some(flight) = one.echo_of.filter(|flight| side.flight == Some(*flight))
            && !crate::mutants::active("echo_not_settled")
        {
            return self.settle_echo(desk, id, flight, one).await;
        }
        let waits = desk.slot(&one.address).is_some_and(|slot| slot.pending.is_some());
        if one.ahead && !waits && self.rules(one.sync).is_some_and(|rules| shows_nothing_new(&rules, link, side, &one)) {
            return Ok(());
        }
        let hides = (one.read || one.ahead) && self.is_to_be_settled_by_its_echo(one.sync, member, link);
        if hides && !crate::mutants::active("read_hides_unseen") {
            self.read_after_flight(one.sync, member, id);
            return Ok(());
        }
        if one.ahead && matches!(one.pending.shown, Shown::Gone { .. }) && self.may_have_moved(one.sync, member) {
            // Not there as of now, and perhaps because of a new key that the feed has yet to tell.
            self.want_read_instead(one.sync, member, id);
            return Ok(());
        }
        let was_read = one.read;
        let (standing, base_version) = (side.standing, side.version.clone());
        let Some(rules) = self.rules(one.sync) else { return Ok(()) };
        if was_read {
            self.told.refine(&rules, id, &mut one.pending);
        } else {
            self.told.date(&rules, id, &mut one.pending);
        }
        let incomplete = rules
            .fields
            .iter()
            .zip(&side.base)
            .any(|(field, cell)| cell.is_none() && field.members.get(member).is_some_and(Option::is_some));
        let older = desk.slot(&one.address).and_then(|slot| slot.pending.clone());
        let shows_it = older.as_ref().is_some_and(|older| matches!(older.shown, Shown::Present { .. }));
        let is_gone = matches!(one.pending.shown, Shown::Gone { .. });
        if is_gone && shows_it && !one.read && self.is_gone_by_our_delete(one.sync, member, link) {
            return Ok(());
        }
        let order = self.version_order(&one, older.as_ref().map_or(&base_version, |older| &older.version));
        if !one.read && !matches!(self.version_order(&one, &base_version), Some(Ordering::Greater) | None) {
            let is_estimated =
                |group: &Group| group.agreed.as_ref().is_some_and(|agreed| agreed.from == member && agreed.time.estimated);
            if link.groups.iter().any(is_estimated) {
                let mut refined = link.clone();
                if refine_agreed(&rules, &mut refined, &one.pending) {
                    desk.save(refined);
                    desk.touch(id);
                }
            }
        }
        let newly_gone = matches!(one.pending.shown, Shown::Gone { .. })
            && standing == Standing::Present
            && one.echo_of.is_none()
            && !older.as_ref().is_some_and(|older| matches!(older.shown, Shown::Gone { .. }));
        match older {
            None => match order {
                Some(Ordering::Greater) => desk.set_pending(&one.address, Some(one.pending)),
                // The same state, read in full where not all of it was known.
                Some(Ordering::Equal) if one.read && incomplete => desk.set_pending(&one.address, Some(one.pending)),
                Some(_) => return Ok(()),
                None => {
                    if !was_read {
                        self.told.keep(&rules, id, one.pending);
                    }
                    self.want_read_instead(one.sync, member, id);
                    return Ok(());
                }
            },
            Some(mut older) => match fold(&rules, Some(older.clone()), one.pending.clone(), order) {
                Folded::Into(folded) => desk.set_pending(&one.address, Some(*folded)),
                Folded::Dropped => {
                    if refine_times(&rules, &mut older, &one.pending) {
                        desk.set_pending(&one.address, Some(older));
                    }
                }
                Folded::Unordered => {
                    // Whichever is newer: the feed says when what both show was edited.
                    if !was_read && refine_times(&rules, &mut older, &one.pending) {
                        desk.set_pending(&one.address, Some(older));
                    }
                    if !was_read {
                        self.told.keep(&rules, id, one.pending);
                    }
                    self.want_read_instead(one.sync, member, id);
                    return Ok(());
                }
            },
        }
        if !was_read {
            self.unreadable_links.remove(&(id, member));
        }
        if newly_gone {
            self.count_delete(one.sync, member);
        }
        desk.touch(id);
        Ok(())
    }

    async fn take_in_stranger(&mut self, desk: &mut Desk, one: Incoming) -> Result<()> {
        let older = desk.slot(&one.address).and_then(|slot| slot.pending.clone());
        if matches!(one.pending.shown, Shown::Gone { .. }) {
            let order = older.as_ref().map(|older| self.version_order(&one, &older.version));
            if order == Some(None) && (one.read || one.ahead) {
                // Looked for in vain, perhaps before it came back.
                self.want_stranger_instead(one.sync, one.address, one.pending.key);
                return Ok(());
            }
            if order != Some(Some(Ordering::Less)) {
                self.orphans.remember(one.address.clone(), one.pending.version.clone());
                self.forget_stranger(desk, one.sync, &one.address).await?;
                if let Some(older) = older {
                    self.bury_stranger(desk, one.sync, &one.address, older.key, &one.pending.version);
                }
            }
            return Ok(());
        }
        // Also where a reading has shown as much already: the feed says that somebody works on it.
        if let Some(state) = self.syncs.get_mut(one.sync).filter(|_| !one.read) {
            let loading = state.members.iter().any(|member| !member.load.is_done());
            let matters = loading && state.rules.initial.strategy.makes_nothing();
            state.unidentified.tell(one.address.clone(), matters);
        }
        let order = older.as_ref().map_or(Some(Ordering::Greater), |older| self.version_order(&one, &older.version));
        let Some(rules) = self.rules(one.sync) else { return Ok(()) };
        let says_the_same = |older: &Pending| match (&older.shown, &one.pending.shown) {
            (Shown::Present { cells: known, .. }, Shown::Present { cells, .. }) => {
                older.layout == one.pending.layout && shows_the_same(&rules, one.pending.member, known, cells)
            }
            _ => false,
        };
        if one.ahead && older.as_ref().is_some_and(says_the_same) {
            // It waits for its match, or for a person, as it is.
            return Ok(());
        }
        let key = older.as_ref().map(|_| one.pending.key.clone()).unwrap_or_default();
        let folded = match fold(&rules, older, one.pending, order) {
            Folded::Into(folded) => *folded,
            Folded::Dropped => return Ok(()),
            Folded::Unordered => {
                self.want_stranger_instead(one.sync, one.address, key);
                return Ok(());
            }
        };
        desk.set_pending(&one.address, Some(folded));
        let tells_ours = self.connector(one.sync, one.address.member).is_some_and(|it| it.capabilities().marks);
        if tells_ours && one.tells_whose {
            // The feed says whose it is: had we made it, it would carry our mark.
            self.unidentified(one.sync, one.address);
        } else {
            self.unidentified_unless_ours(one.sync, one.address);
        }
        Ok(())
    }
}

/// Whether a feed has read in a record what is known of it, and nothing else: then not even its version is worth a write.
fn shows_nothing_new(rules: &SyncRules, link: &Link, side: &Side, one: &Incoming) -> bool {
    if side.flight.is_some() || one.old_address.is_some() || link.layout != one.pending.layout {
        return false;
    }
    match &one.pending.shown {
        Shown::Gone { .. } => matches!(side.standing, Standing::Gone | Standing::LeftAlone),
        Shown::Present { cells, .. } => {
            side.standing == Standing::Present && shows_the_same(rules, one.pending.member, &side.base, cells)
        }
    }
}

/// Whether every value that is shown is known.
fn shows_the_same(rules: &SyncRules, member: MemberIndex, known: &Cells, shown: &Cells) -> bool {
    let mut fields = shown.iter().enumerate().filter_map(|(field, cell)| Some((field, cell.as_ref()?)));
    fields.all(|(field, shown)| match (known.get(field).and_then(Option::as_ref), rules.at(member, field)) {
        (Some(known), Some(at)) => known.equivalent_as(shown, &at.ty),
        _ => false,
    })
}
