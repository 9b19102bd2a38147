//! The feed of a [`System`]: commits in their order, as soon as they show, in pieces of the seed's choosing.
//! A position moves only behind a whole commit; an open feed may be cut at any call.

use crate::database::{Author, Change, Commit};
use crate::random::Random;
use crate::system::{Gate, State, System, coarse, encode_version, project};
use async_trait::async_trait;
use concord_engine::change::{EditTime, Image, Observation, Position};
use concord_engine::clock::{Clock, Moment};
use concord_engine::connector::{Batch, Changes, Event, Limits};
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::{Key, Record};
use concord_engine::schema::Selection;
use concord_engine::value::Value;
use std::sync::Arc;

/// A position: which slot, and behind which commit.
pub(crate) fn encode_position(incarnation: u64, commit: u64) -> Position {
    let mut bytes = incarnation.to_be_bytes().to_vec();
    bytes.extend_from_slice(&commit.to_be_bytes());
    Position(bytes)
}

/// What a position says.
pub(crate) fn decode_position(position: &Position) -> Option<(u64, u64)> {
    let (incarnation, rest) = position.0.split_first_chunk::<8>()?;
    let (commit, _) = rest.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*incarnation), u64::from_be_bytes(*commit)))
}

/// An open feed.
pub(crate) struct Stream {
    system: Arc<System>,
    selection: Option<Selection>,
    incarnation: u64,
    /// Everything up to this commit has been handed out,
    commit: u64,
    /// and so many events of the next one.
    inside: usize,
}

/// What there is to hand out.
enum Ready {
    Now(Batch),
    NotBefore(Moment),
    Nothing,
}

impl Stream {
    pub(crate) fn new(system: Arc<System>, selection: Option<Selection>, incarnation: u64, commit: u64) -> Stream {
        Stream { system, selection, incarnation, commit, inside: 0 }
    }

    fn lost(&self) -> Error {
        Error::new(Code::Unreachable, "the feed was cut").at(self.system.name.as_str())
    }

    /// Takes the next piece: the place moves on in the same step, so that a dropped call loses nothing.
    fn take(&mut self, limits: Limits) -> Result<Ready> {
        let system = Arc::clone(&self.system);
        let now = system.clock.now();
        let mut state = system.state();
        let slot = state.slot.ok_or_else(|| self.lost())?;
        if slot.incarnation != self.incarnation {
            return Err(self.lost());
        }
        if state.gate == Gate::Middle && self.inside > 0 {
            return Ok(Ready::Nothing);
        }
        let State { faults, random, .. } = &mut *state;
        if faults.is_out(now) || faults.strikes(random, now, faults.cut) {
            system.note("the feed is cut");
            return Err(self.lost());
        }
        let most = 1 + random.place(system.profile.feed_batch_max.min(limits.max_events).max(1));
        let mut batch = Batch::default();
        let mut not_before = None;
        while batch.events.len() < most {
            let place = usize::try_from(self.commit).unwrap_or(usize::MAX);
            let (Some(commit), Some(shown)) = (state.database.log().get(place), state.shown_at.get(place)) else { break };
            if *shown > now {
                not_before = Some(*shown);
                break;
            }
            let events = self.events(&system, &state, commit);
            let total = events.len();
            let room = most - batch.events.len();
            batch.events.extend(events.into_iter().skip(self.inside).take(room));
            self.inside += room;
            if self.inside >= total {
                self.commit += 1;
                self.inside = 0;
            }
        }
        if self.inside == 0 {
            batch.position = Some(encode_position(self.incarnation, self.commit));
        }
        state.handed_out = state.handed_out.max(self.commit);
        if batch.events.is_empty() {
            return Ok(not_before.map_or(Ready::Nothing, Ready::NotBefore));
        }
        let inside = if self.inside > 0 { " and a part" } else { "" };
        system.note(&format!("feed: {} events, up to {}{inside}", batch.events.len(), self.commit));
        Ok(Ready::Now(batch))
    }

    fn events(&self, system: &System, state: &State, commit: &Commit) -> Vec<Event> {
        let time = EditTime {
            at: coarse(system.stamp(commit.at), system.profile.granularity_micros),
            granularity_micros: system.profile.granularity_micros,
            estimated: false,
        };
        if let Some(schema) = &commit.altered {
            return vec![Event::SchemaChanged(schema.clone())];
        }
        let object = state.database.schema.object.clone();
        if commit.changes.first().is_some_and(|change| change.truncated) {
            return vec![Event::Truncated { object, version: encode_version(commit.number, 1, false), time }];
        }
        let mark = match &commit.author {
            Author::Engine(mark) if system.profile.marks => Some(mark.clone()),
            _ => None,
        };
        let mut ordinal = 0_u32;
        let mut events = Vec::new();
        for change in &commit.changes {
            ordinal += 1;
            events.extend(self.look(system, state, commit.number, ordinal, change));
            let Some((key, old_key, image)) = self.image(system, state, commit.number, ordinal, change) else { continue };
            let version = encode_version(commit.number, ordinal, false);
            let mark = mark.clone();
            let made = false;
            events.push(Event::Observed(Observation { object: object.clone(), key, old_key, image, made, version, time, mark }));
        }
        events
    }

    /// What the feed has read of a record before it tells of its change, as one does that doubts whether it was told of all.
    fn look(&self, system: &System, state: &State, number: u64, ordinal: u32, change: &Change) -> Option<Event> {
        let mut random = Random::fork(number.wrapping_mul(37).wrapping_add(u64::from(ordinal)), system.name.as_str());
        // A look that shows the columns of now would come before the word of them.
        let is_torn = state.database.torn_at() > number;
        if is_torn || !state.looks || system.profile.looks_ahead == 0 || !random.percent(system.profile.looks_ahead) {
            return None;
        }
        let key = &change.after.as_ref().or(change.before.as_ref())?.key;
        let whole = Selection { object: state.database.schema.object.clone(), fields: Vec::new() };
        let selection = self.selection.as_ref().unwrap_or(&whole);
        let nothing = Record::default();
        let row = state.database.row(key);
        let seen = system.seen(state, selection, key, row.map_or(&nothing, |row| &row.fields));
        let image = if row.is_some() { seen.image } else { Image::Deleted };
        Some(Event::Read(Observation { image, ..seen }))
    }

    fn image(
        &self,
        system: &System,
        state: &State,
        number: u64,
        ordinal: u32,
        change: &Change,
    ) -> Option<(Key, Option<Key>, Image)> {
        let Some(after) = &change.after else {
            return change.before.as_ref().map(|before| (before.key.clone(), None, Image::Deleted));
        };
        let whole = Selection { object: state.database.schema.object.clone(), fields: Vec::new() };
        let selection = self.selection.as_ref().unwrap_or(&whole);
        let shown = project(selection, &state.database.key_field, &after.fields);
        let old_key = change.before.as_ref().map(|before| before.key.clone()).filter(|old| *old != after.key);
        if system.profile.partial_inserts && change.before.is_none() {
            let given = shown.into_iter().filter(|(name, value)| *name == state.database.key_field || *value != Value::Null);
            return Some((after.key.clone(), old_key, Image::Partial(given.collect())));
        }
        let mut random = Random::fork(number.wrapping_mul(31).wrapping_add(u64::from(ordinal)), system.name.as_str());
        let (true, Some(before), true) = (system.profile.partial_images, &change.before, random.percent(40)) else {
            return Some((after.key.clone(), old_key, Image::Full(shown)));
        };
        let kept: Record = shown
            .into_iter()
            .filter(|(name, value)| {
                *name == state.database.key_field || before.fields.get(name.as_str()) != Some(value) || random.percent(50)
            })
            .collect();
        Some((after.key.clone(), old_key, Image::Partial(kept)))
    }
}

#[async_trait]
impl Changes for Stream {
    async fn next(&mut self, limits: Limits) -> Result<Batch> {
        let deadline = self.system.clock.now().plus(limits.max_wait);
        let system = Arc::clone(&self.system);
        loop {
            let notified = system.wake.notified();
            let until = match self.take(limits)? {
                Ready::Now(batch) => return Ok(batch),
                Ready::NotBefore(shown) => shown.min(deadline),
                Ready::Nothing => deadline,
            };
            if system.clock.now() >= deadline {
                let position = (self.inside == 0).then(|| encode_position(self.incarnation, self.commit));
                return Ok(Batch { events: Vec::new(), position });
            }
            tokio::select! { biased; () = notified => {}, () = system.clock.sleep_until(until) => {} }
        }
    }
}
