//! A little world around the merge: members that hold one record, feeds that tell of its changes, and the loop that
//! observes, decides, writes and settles, as the runtime does. Checks at every step what must hold at every step.

use crate::change::{EditTime, Version};
use crate::clock::Moment;
use crate::connector::Operation;
use crate::ledger::LedgerRow;
use crate::link::{Cells, Link, LinkId, Pending, ReviewId, Shown, Standing};
use crate::map::{member_record, wanted};
use crate::reconcile::{
    Decision, Folded, Known, Need, Outcome, Patch, Ruling, Uniqueness, Written, decide_knowing, fold, patch, refine_times, settle,
};
use crate::record::{Key, Record};
use crate::review::Review;
use crate::rules::SyncRules;
use crate::value::Value;
use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};

/// What a system makes of a record that it has just been given.
pub type Trigger = fn(&mut Cells);

pub struct World {
    pub rules: SyncRules,
    pub link: Link,
    /// What each member really holds.
    pub records: Vec<Option<Cells>>,
    pub versions: Vec<u64>,
    /// What each member's feed has not told yet.
    pub feeds: Vec<VecDeque<Pending>>,
    pub pending: Vec<Option<Pending>>,
    pub triggers: Vec<Option<Trigger>>,
    /// Whether the echo of a write carries a later version than the write's answer did.
    pub late_echoes: bool,
    pub now: i64,
    pub clock: u64,
    pub next_review: u64,
    pub ledger: Vec<LedgerRow>,
    pub open: BTreeMap<ReviewId, Review>,
    pub writes: Vec<String>,
    /// Which values other records are known to have, or not to have.
    pub unique: Vec<(usize, Value, bool)>,
}

impl World {
    pub fn new(rules: SyncRules) -> World {
        let members = rules.members.len();
        let link = Link::new(LinkId(1), rules.id, rules.layout, members, rules.fields.len(), rules.groups.len());
        World {
            link,
            records: vec![None; members],
            versions: vec![0; members],
            feeds: vec![VecDeque::new(); members],
            pending: vec![None; members],
            triggers: vec![None; members],
            late_echoes: false,
            now: 0,
            clock: 0,
            next_review: 1,
            ledger: Vec::new(),
            open: BTreeMap::new(),
            writes: Vec::new(),
            unique: Vec::new(),
            rules,
        }
    }

    /// A user gives these fields new values, or makes the record; the feed will tell, of these fields only if `partial`.
    pub fn edit(&mut self, member: usize, fields: &[(usize, Value)], time: EditTime, partial: bool) {
        let partial = partial && self.records[member].is_some();
        let mut cells = self.records[member].clone().unwrap_or_else(|| self.blank(member));
        for (field, value) in fields {
            if let Some(at) = self.rules.at(member, *field) {
                // Nobody can put more into a field than it holds.
                let held = wanted(at, value, Record::new).ok().flatten();
                cells[*field] = Some(held.unwrap_or_else(|| value.clone()));
            }
        }
        self.put(member, Some(cells.clone()));
        let shown = (0..cells.len())
            .map(|field| if !partial || fields.iter().any(|(edited, _)| *edited == field) { cells[field].clone() } else { None })
            .collect();
        let event = self.event(member, Some(shown), time, partial);
        self.feeds[member].push_back(event);
    }

    /// A user deletes the record.
    pub fn delete(&mut self, member: usize, time: EditTime) {
        self.put(member, None);
        let event = self.event(member, None, time, false);
        self.feeds[member].push_back(event);
    }

    fn blank(&self, member: usize) -> Cells {
        (0..self.rules.fields.len()).map(|field| self.rules.at(member, field).map(|_| Value::Null)).collect()
    }

    fn put(&mut self, member: usize, cells: Option<Cells>) {
        self.clock += 1;
        self.versions[member] = self.clock;
        self.records[member] = cells;
    }

    pub fn event(&self, member: usize, shown: Option<Cells>, time: EditTime, partial: bool) -> Pending {
        // A time is never later than its arrival.
        let time = EditTime { at: time.at.min(Moment(self.now)), ..time };
        let shown = match shown {
            None => Shown::Gone { time },
            Some(cells) => {
                let times = cells.iter().map(|cell| cell.as_ref().map(|_| time)).collect();
                Shown::Present { cells, times, full: !partial, anew: false }
            }
        };
        Pending {
            sync: self.rules.id,
            member,
            key: key(member),
            old_key: None,
            shown,
            version: version(self.versions[member]),
            hops: 0,
            echo: false,
            arrived: Moment(self.now),
            layout: self.rules.layout,
        }
    }

    /// The next event of a member's feed arrives.
    pub fn deliver(&mut self, member: usize) {
        if let Some(mut event) = self.feeds[member].pop_front() {
            event.arrived = Moment(self.now);
            self.take_in(event);
        }
    }

    /// The record is read: when what it shows was edited is then only guessed.
    pub fn read(&mut self, member: usize) {
        let guess = EditTime { at: Moment(self.now), granularity_micros: 1, estimated: true };
        let event = self.event(member, self.records[member].clone(), guess, false);
        self.take_in(event);
    }

    fn take_in(&mut self, event: Pending) {
        let member = event.member;
        let known = self.pending[member].as_ref().map_or(&self.link.sides[member].version, |pending| &pending.version);
        let order = compare(&event.version, known);
        let Some(older) = self.pending[member].take() else {
            if order == Ordering::Greater {
                self.pending[member] = Some(event);
            }
            return;
        };
        let mut kept = older.clone();
        self.pending[member] = Some(match fold(&self.rules, Some(older), event.clone(), Some(order)) {
            Folded::Into(folded) => *folded,
            _ => {
                refine_times(&self.rules, &mut kept, &event);
                kept
            }
        });
    }

    /// Decides, reading whatever must be read. Twice, for it must come out the same; and once more with nothing pending,
    /// for nothing may come of that.
    pub fn decide(&mut self, ruling: Option<&Ruling>) -> Result<Decision, Need> {
        for _ in 0..4 {
            let decided = self.decide_twice(ruling);
            match decided {
                Outcome::Needs(Need::Read(members)) => {
                    for member in members {
                        self.pending[member] = None;
                        // What a read shows counts even where the feed has told of that version in part.
                        self.link.sides[member].version = Version::default();
                        self.read(member);
                    }
                }
                Outcome::Needs(need) => return Err(need),
                Outcome::Decided(decision) => {
                    self.take(&decision);
                    self.assert_nothing_comes_of_nothing();
                    return Ok(*decision);
                }
            }
        }
        panic!("a record that was read in full must be read again");
    }

    fn decide_twice(&mut self, ruling: Option<&Ruling>) -> Outcome {
        let mut again = self.next_review;
        let unique = if ruling.is_some() { Uniqueness::Waived } else { Uniqueness::Known(self.unique.clone()) };
        let now = Moment(self.now);
        let (rules, link, pending) = (&self.rules, &self.link, &self.pending);
        let first = decide_knowing(rules, link, pending, ruling, known(&unique), now, &mut self.next_review);
        let second = decide_knowing(rules, link, pending, ruling, known(&unique), now, &mut again);
        assert_eq!((&first, self.next_review), (&second, again), "the same input decided differently");
        first
    }

    fn take(&mut self, decision: &Decision) {
        self.link = decision.link.clone();
        self.pending.fill(None);
        self.ledger.extend(decision.ledger.iter().cloned());
        for review in &decision.reviews {
            self.open.insert(review.id, review.clone());
        }
        for (review, _) in &decision.closed {
            assert!(self.open.remove(review).is_some(), "review {review:?} was closed and not open");
        }
        self.assert_reviews_hold_something();
    }

    fn assert_nothing_comes_of_nothing(&self) {
        let none = vec![None; self.records.len()];
        let mut next = self.next_review;
        let unique = Uniqueness::Known(self.unique.clone());
        match decide_knowing(&self.rules, &self.link, &none, None, known(&unique), Moment(self.now), &mut next) {
            Outcome::Decided(again) => {
                assert!(!again.changed, "deciding again with nothing pending changed\n{:?}\nto\n{:?}", self.link, again.link);
                assert!(again.ledger.is_empty() && again.closed.is_empty());
                assert_eq!(next, self.next_review, "a review was opened out of nothing");
            }
            Outcome::Needs(need) => assert_eq!(need, Need::Person),
        }
    }

    /// A review is open exactly as long as something is held by it: nothing is held that nobody can release.
    fn assert_reviews_hold_something(&self) {
        let mut held: Vec<ReviewId> = self.link.groups.iter().filter_map(|group| Some(group.held.as_ref()?.review)).collect();
        held.extend(self.link.held.map(|hold| hold.review));
        held.extend(self.link.sides.iter().filter_map(|side| side.blocked));
        held.sort_unstable();
        held.dedup();
        assert_eq!(held, self.open.keys().copied().collect::<Vec<_>>(), "open reviews and what is held differ");
    }

    /// Writes what every member is owed, and says how many writes were tried.
    pub fn pay(&mut self) -> usize {
        let mut tried = 0;
        for member in 0..self.records.len() {
            if self.link.sides[member].blocked.is_some() || !self.link.sides[member].is_owing() {
                continue;
            }
            match patch(&self.rules, &self.link, member) {
                Patch::Awaits => panic!("refers to nothing"),
                Patch::Waits => {}
                Patch::Nothing => {
                    self.link.sides[member].owes.clear();
                    self.link.sides[member].owes_life = false;
                }
                Patch::Rejected(error) => {
                    let review = ReviewId(self.next_review);
                    self.next_review += 1;
                    self.link.sides[member].blocked = Some(review);
                    self.writes.push(format!("{} refused {}", letter(member), error.code));
                    self.open.insert(review, blocked(&self.link, review, member));
                }
                Patch::Write(operation) => {
                    tried += 1;
                    self.write(member, &operation);
                }
            }
        }
        tried
    }

    fn write(&mut self, member: usize, operation: &Operation) {
        self.assert_patch_is_smallest(member, operation);
        let image = self.records[member].clone().map(|cells| member_record(&self.rules, member, &cells));
        let holds = match (operation, &image) {
            (Operation::Create { .. }, image) => image.is_none(),
            (Operation::Update { guard, .. } | Operation::Delete { guard, .. }, Some(image)) => {
                self.guard_holds(member, guard, image)
            }
            (Operation::Update { .. } | Operation::Delete { .. }, None) => false,
        };
        if !holds {
            self.writes.push(format!("{} missed", letter(member)));
            self.read(member);
            return;
        }
        let after = self.carry_out(member, operation);
        self.writes.push(format!("{} {}", letter(member), describe(operation)));
        self.put(member, after.clone());
        let written = Written {
            operation,
            key: key(member),
            image: after.as_ref().map(|cells| member_record(&self.rules, member, cells)),
            times: Vec::new(),
            version: version(self.versions[member]),
            hops: self.hops(member),
            planned: self.link.decision,
        };
        let (link, row, returned) = settle(&self.rules, &self.link, member, &written, Moment(self.now));
        self.link = link;
        self.ledger.push(row);
        self.forget_what_is_older(member, &written.version, returned);
        if self.late_echoes {
            self.clock += 1;
            self.versions[member] = self.clock;
        }
        let time = EditTime { at: Moment(self.now), granularity_micros: 1, estimated: false };
        let echo = Pending { echo: true, hops: written.hops + 1, ..self.event(member, after, time, false) };
        self.feeds[member].push_back(echo);
    }

    fn forget_what_is_older(&mut self, member: usize, version: &Version, returned: Option<Pending>) {
        if self.pending[member].as_ref().is_some_and(|pending| compare(&pending.version, version) != Ordering::Greater) {
            self.pending[member] = None;
        }
        if let Some(returned) = returned {
            self.pending[member] = Some(returned);
        }
    }

    fn hops(&self, member: usize) -> u32 {
        let agreed = |group: &usize| self.link.groups[*group].agreed.as_ref().map_or(0, |agreed| agreed.hops);
        self.link.sides[member].owes.iter().map(agreed).max().unwrap_or(0)
    }

    fn carry_out(&self, member: usize, operation: &Operation) -> Option<Cells> {
        let (mut cells, set) = match operation {
            Operation::Delete { .. } => return None,
            Operation::Create { image, .. } => (self.blank(member), image),
            Operation::Update { set, .. } => (self.records[member].clone().unwrap(), set),
        };
        for (field, cell) in cells.iter_mut().enumerate() {
            let Some(at) = self.rules.at(member, field) else { continue };
            if let Some(value) = set.get(at.name.as_str()) {
                *cell = Some(value.clone());
            }
        }
        if let Some(trigger) = self.triggers[member] {
            trigger(&mut cells);
        }
        Some(cells)
    }

    fn guard_holds(&self, member: usize, guard: &Record, image: &Record) -> bool {
        (0..self.rules.fields.len()).filter_map(|field| self.rules.at(member, field)).all(|at| {
            let (believed, shown) = (guard.get(at.name.as_str()), image.get(at.name.as_str()));
            believed.is_none_or(|believed| shown.is_some_and(|shown| believed.equivalent_as(shown, &at.ty)))
        })
    }

    /// A patch sets nothing that the member shows already, and its guard holds every mapped field that is known.
    fn assert_patch_is_smallest(&self, member: usize, operation: &Operation) {
        let base = &self.link.sides[member].base;
        let (set, guard) = match operation {
            Operation::Create { .. } => return,
            Operation::Update { set, guard, .. } => (set.clone(), guard),
            Operation::Delete { guard, .. } => (Record::new(), guard),
        };
        for (field, known) in base.iter().enumerate() {
            let Some(at) = self.rules.at(member, field) else { continue };
            let known = known.as_ref();
            assert_eq!(guard.get(at.name.as_str()), known, "the guard of {} is not the base", at.name);
            if let (Some(set), Some(known)) = (set.get(at.name.as_str()), known) {
                assert!(!set.equivalent_as(known, &at.ty), "{} is set to what it shows", at.name);
            }
        }
    }

    /// Delivers, decides and writes until nothing moves; gives the number of rounds.
    pub fn come_to_rest(&mut self, most: usize) -> usize {
        for round in 0..most {
            let quiet = self.feeds.iter().all(VecDeque::is_empty);
            for member in 0..self.records.len() {
                while !self.feeds[member].is_empty() {
                    self.deliver(member);
                }
            }
            self.now += 1000;
            let pending = self.pending.iter().any(Option::is_some);
            if pending {
                match self.decide(None) {
                    Ok(_) => {}
                    Err(Need::NewLink(member)) => self.part(member),
                    Err(Need::Person) => return round,
                    Err(need) => panic!("cannot come to rest: {need:?}"),
                }
            }
            if self.pay() == 0 && quiet && !pending {
                return round;
            }
        }
        panic!("did not come to rest in {most} rounds: {:?}\n{:?}", self.link, self.writes);
    }

    /// The record that a member shows is a new one, no longer of this world.
    pub fn part(&mut self, member: usize) {
        self.pending[member] = None;
        self.feeds[member].clear();
        self.records[member] = None;
        self.link.sides[member].version = version(self.versions[member]);
    }

    pub fn standing(&self, member: usize) -> Standing {
        self.link.sides[member].standing
    }
}

pub fn letter(member: usize) -> &'static str {
    ["a", "b", "c"].get(member).copied().unwrap_or("person")
}

pub fn key(member: usize) -> Key {
    Key(vec![Value::Int(i64::try_from(member).unwrap())])
}

pub fn version(number: u64) -> Version {
    Version(number.to_be_bytes().to_vec())
}

fn compare(one: &Version, other: &Version) -> Ordering {
    one.0.cmp(&other.0)
}

fn blocked(link: &Link, id: ReviewId, member: usize) -> Review {
    Review {
        id,
        sync: link.sync,
        link: Some(link.id),
        opened: Moment(0),
        closed: None,
        code: String::new(),
        message: String::new(),
        subject: crate::review::Subject::Rejected { member, fields: Vec::new() },
    }
}

fn describe(operation: &Operation) -> String {
    let list = |record: &Record| record.iter().map(|(name, value)| format!(" {name}={}", show(value))).collect::<String>();
    match operation {
        Operation::Create { image, .. } => format!("create{}", list(image)),
        Operation::Update { set, .. } => format!("update{}", list(set)),
        Operation::Delete { .. } => "delete".to_owned(),
    }
}

pub fn show(value: &Value) -> String {
    value.to_plain_text().unwrap_or_else(|| "null".to_owned())
}

/// Nothing refers to anything in these worlds.
fn known(unique: &Uniqueness) -> Known<'_> {
    Known { unique, references: &crate::references::NONE }
}
