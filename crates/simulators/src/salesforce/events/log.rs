//! The event bus: events in the order in which they were published, kept for three days, read by channel from a replay
//! id on.

use super::build::{Author, ChangeType, Event, events};
use super::platform::{PlatformEvent, Published};
use super::shape::Shape;
use crate::chance::Chance;
use crate::faults::{Action, Faults, Happening};
use crate::salesforce::schema::{Object, Schema};
use crate::salesforce::store::Change;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// How long an event is kept.
pub const RETENTION_MS: i64 = 72 * 3_600_000;
/// Most events kept, whatever their age.
const EVENTS_MAX: usize = 2_000_000;
/// How many characters of an id say what object it is of.
const PREFIX_CHARS: usize = 3;
/// The id that an overflow event names.
const NO_RECORD: &str = "000000000000000AAA";

/// What a subscription is to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Every object.
    All,
    /// Some objects, by name.
    Of(Vec<String>),
}

/// The bus.
#[derive(Debug)]
pub struct EventLog {
    events: VecDeque<(i64, Arc<Event>)>,
    last_replay_id: u64,
    /// The newest replay id that is no longer kept.
    forgotten: u64,
    commit_number: i64,
    late: Vec<(i64, Event)>,
    shapes: HashMap<String, Arc<Shape>>,
    current: HashMap<String, Arc<Shape>>,
    /// Custom channels: `/data/X__chn` → objects.
    pub channels: HashMap<String, Vec<String>>,
    /// Platform events, by name.
    platform: HashMap<String, PlatformEvent>,
}

impl Default for EventLog {
    fn default() -> Self {
        Self {
            events: VecDeque::new(),
            last_replay_id: 1_000,
            forgotten: 1_000,
            commit_number: 10_000_000_000,
            late: Vec::new(),
            shapes: HashMap::new(),
            current: HashMap::new(),
            channels: HashMap::new(),
            platform: HashMap::new(),
        }
    }
}

impl EventLog {
    /// The shape of an object's events now.
    pub fn shape(&mut self, object: &Object) -> Arc<Shape> {
        if let Some(shape) = self.current.get(&object.name) {
            return shape.clone();
        }
        let shape = Arc::new(Shape::of(object));
        self.shapes.insert(shape.id.clone(), shape.clone());
        self.current.insert(object.name.clone(), shape.clone());
        shape
    }

    /// The org is moved to another database: commits are numbered from the beginning.
    pub fn renumber(&mut self) {
        self.commit_number = 0;
    }

    /// Forgets the current shape of an object whose fields changed; events that exist keep theirs.
    pub fn reshape(&mut self, object: &str) {
        self.current.remove(object);
    }

    /// A shape by its schema id.
    pub fn shape_by_id(&self, id: &str) -> Option<&Arc<Shape>> {
        self.shapes.get(id)
    }

    /// Defines a platform event.
    pub fn define(&mut self, event: PlatformEvent) {
        self.shapes.insert(event.shape.id.clone(), event.shape.clone());
        self.platform.insert(event.shape.name.clone(), event);
    }

    /// The platform event of a topic.
    pub fn platform(&self, topic: &str) -> Option<&PlatformEvent> {
        self.platform.get(topic.strip_prefix("/event/")?)
    }

    /// A channel of all platform events.
    pub fn all_published(&self) -> Channel {
        Channel::Of(self.platform.keys().cloned().collect())
    }

    /// Publishes what a client has made: the replay id.
    pub fn publish_made(&mut self, topic: &str, id: &str, published: Published, now_ms: i64, chance: &mut Chance) -> Option<u64> {
        let event = self.platform(topic)?.event(id, published, now_ms);
        self.append(event, now_ms, chance);
        Some(self.last_replay_id)
    }

    /// Publishes what a transaction did.
    pub fn publish(
        &mut self,
        schema: &Schema,
        author: &Author,
        changes: &[Change],
        now_ms: i64,
        chance: &mut Chance,
        faults: &Faults,
    ) {
        let mut shape = |object: &Object| self.shape(object);
        let built = events(schema, &mut shape, author, changes);
        if built.is_empty() {
            return;
        }
        let key = uuid_like(chance);
        self.commit_number += i64::try_from(1 + chance.below(9)).unwrap_or(1);
        for (at, mut event) in built.into_iter().enumerate() {
            event.transaction_key.clone_from(&key);
            event.sequence = i32::try_from(at + 1).unwrap_or(i32::MAX);
            event.commit_ms = now_ms;
            event.commit_number = self.commit_number;
            event.event_id = uuid_like(chance);
            match faults.befalls(&Happening::Event { object: &event.entity, change: event.change.name() }) {
                Some(Action::Duplicate) => {
                    self.append(event.clone(), now_ms, chance);
                    self.append(event, now_ms, chance);
                }
                Some(Action::Late { ms }) => self.late.push((now_ms + ms, event)),
                Some(Action::Gap) => {
                    let change = event.change.gap();
                    self.append(without_body(event, change), now_ms, chance);
                }
                Some(Action::Overflow) => {
                    let mut event = without_body(event, ChangeType::GapOverflow);
                    event.record_ids = vec![NO_RECORD.to_string()];
                    self.append(event, now_ms, chance);
                }
                Some(Action::Wildcard) => self.append(of_all(event), now_ms, chance),
                _ => self.append(event, now_ms, chance),
            }
        }
    }

    /// Publishes late events that are due; when the next one is.
    pub fn release_late(&mut self, now_ms: i64, chance: &mut Chance) -> Option<i64> {
        let (due, late): (Vec<_>, Vec<_>) = std::mem::take(&mut self.late).into_iter().partition(|(at, _)| *at <= now_ms);
        self.late = late;
        for (_, event) in due {
            self.append(event, now_ms, chance);
        }
        self.late.iter().map(|(at, _)| *at).min()
    }

    fn append(&mut self, mut event: Event, now_ms: i64, chance: &mut Chance) {
        // Replay ids rise, with holes.
        self.last_replay_id += 1 + if chance.percent(20) { chance.below(5) } else { 0 };
        event.replay_id = self.last_replay_id;
        self.events.push_back((now_ms, Arc::new(event)));
        self.forget(now_ms);
    }

    /// Drops what is too old.
    pub fn forget(&mut self, now_ms: i64) {
        while let Some((at, event)) = self.events.front() {
            if *at >= now_ms - RETENTION_MS && self.events.len() <= EVENTS_MAX {
                return;
            }
            self.forgotten = event.replay_id;
            self.events.pop_front();
        }
        // With nothing kept, whatever was given out before is too old to be known.
    }

    /// The newest replay id.
    pub fn latest(&self) -> u64 {
        self.last_replay_id
    }

    /// Before the oldest event that is kept.
    pub fn earliest(&self) -> u64 {
        self.forgotten
    }

    /// Whether reading can go on after this replay id: nothing behind it was forgotten, and it was given out.
    pub fn knows(&self, replay_id: u64) -> bool {
        replay_id >= self.forgotten && replay_id <= self.last_replay_id
    }

    /// What a topic's name stands for; none where there is no such topic.
    pub fn channel(&self, schema: &Schema, topic: &str) -> Option<Channel> {
        if let Some(made) = self.platform(topic) {
            return Some(Channel::Of(vec![made.shape.name.clone()]));
        }
        let name = topic.strip_prefix("/data/")?;
        if name == "ChangeEvents" {
            return Some(Channel::All);
        }
        if let Some(objects) = self.channels.get(topic) {
            return Some(Channel::Of(objects.clone()));
        }
        let object = match name.strip_suffix("__ChangeEvent") {
            Some(stem) => format!("{stem}__c"),
            None => name.strip_suffix("ChangeEvent")?.to_string(),
        };
        let object = schema.object(&object).filter(|object| object.change_events)?;
        Some(Channel::Of(vec![object.name.clone()]))
    }

    /// Events of a channel after a replay id, oldest first.
    pub fn after(&self, channel: &Channel, replay_id: u64, limit: usize) -> Vec<Arc<Event>> {
        let start = self.events.partition_point(|(_, event)| event.replay_id <= replay_id);
        let wanted = |event: &&Arc<Event>| match channel {
            Channel::All => event.published.is_none(),
            Channel::Of(objects) => objects.contains(&event.entity),
        };
        self.events.iter().skip(start).map(|(_, event)| event).filter(wanted).take(limit).cloned().collect()
    }
}

fn without_body(mut event: Event, change: ChangeType) -> Event {
    event.change = change;
    event.body.clear();
    event.changed.clear();
    event.nulled.clear();
    event.differing.clear();
    event
}

/// The event of a field whose type has changed: it names no record, and says that the field is null in all of them.
fn of_all(mut event: Event) -> Event {
    for id in &mut event.record_ids {
        *id = format!("{}*", id.chars().take(PREFIX_CHARS).collect::<String>());
    }
    event.record_ids.dedup();
    event.body.clear();
    event.differing.clear();
    event.nulled.clone_from(&event.changed);
    event
}

/// In the form of a UUID.
fn uuid_like(chance: &mut Chance) -> String {
    let (a, b) = (chance.bits(), chance.bits());
    format!("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", a >> 32, a >> 16 & 0xffff, a & 0xffff, b >> 48, b & 0xffff_ffff_ffff)
}
