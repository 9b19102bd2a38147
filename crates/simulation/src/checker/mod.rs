//! The independent checker: a simple sequential model over the systems' own commit logs. It shares no code with the
//! engine's deciding stages; of the engine it reads only what a person could read: the ledger and the reviews.
//! It proves invariants 2 to 5 after quiescence; idempotence is proven by `run`, which replays the feeds.

mod drifts;
mod lives;
mod losses;
mod one_way;
mod reviews;
mod values;
mod writes;

use crate::database::{Author, Database};
use crate::person::Answer;
use crate::timeline::{Lives, Step, lives};
use crate::users::is_marked_gone;
use crate::world::World;
use concord_engine::ledger::LedgerRow;
use concord_engine::link::Link;
use concord_engine::record::{Key, Record};
use concord_engine::review::Review;
use concord_engine::value::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What a run leaves to be judged.
pub struct Evidence<'a> {
    /// The world.
    pub world: &'a World,
    /// What a person said about review items.
    pub answers: Vec<Answer>,
    /// The databases, in the order of the members.
    pub databases: Vec<Database>,
    /// For each member the commits that no feed may have told of: behind the first, up to the second.
    pub gaps: Vec<Vec<(u64, u64)>>,
    /// Every ledger row.
    pub ledger: Vec<LedgerRow>,
    /// Every review item, closed ones too.
    pub reviews: Vec<Review>,
    /// Every link.
    pub links: Vec<Link>,
}

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// The record concerned.
    pub record: String,
    /// What is wrong.
    pub what: String,
}

/// Everything that is wrong.
pub fn check(evidence: &Evidence<'_>) -> Vec<Violation> {
    let lives = lives(evidence.world, &evidence.databases);
    let mut checker = Checker {
        evidence,
        lives,
        excused: BTreeMap::new(),
        in_question: BTreeSet::new(),
        answered: BTreeMap::new(),
        given: BTreeMap::new(),
        told_apart: BTreeSet::new(),
        unproven: BTreeSet::new(),
        undone: BTreeSet::new(),
        found: Vec::new(),
    };
    checker.excuse();
    checker.reviews_are_called_for();
    checker.policies_are_followed();
    let tags: Vec<String> = checker.lives.keys().cloned().collect();
    let ends_stopped = checker.world().further.drifts.as_ref().is_some_and(crate::drift::Drifts::leave_it_dropped);
    for tag in tags {
        let Some(life) = checker.lives.get(&tag).cloned() else { continue };
        checker.nothing_is_emptied(&tag, &life);
        if ends_stopped {
            // What the sync had yet to do when the column went for good was not done, and may not be.
            continue;
        }
        checker.one_record_once(&tag);
        if checker.is_doubled(&tag) {
            checker.doubles(&tag);
            continue;
        }
        if checker.world().further.one_way.is_some() {
            checker.one_way(&tag, &life);
            checker.quiescence(&tag, &life);
            continue;
        }
        checker.existence(&tag, &life);
        checker.convergence(&tag);
        checker.no_lost_update(&tag, &life);
        checker.winners(&tag, &life);
        checker.quiescence(&tag, &life);
    }
    checker.found
}

/// What of a record waits for a person.
#[derive(Clone, Debug, Default)]
struct Excuse {
    whole: bool,
    groups: BTreeSet<usize>,
}

struct Checker<'a> {
    evidence: &'a Evidence<'a>,
    lives: BTreeMap<String, Lives>,
    excused: BTreeMap<String, Excuse>,
    /// Records of which a group's value was ever put before a person, whether that was decided since or not.
    in_question: BTreeSet<String>,
    /// How often a person said something about a record.
    answered: BTreeMap<String, usize>,
    /// How often a person gave values of their own for a record.
    given: BTreeMap<String, usize>,
    /// Records of which a person said which of several belong together.
    told_apart: BTreeSet<String>,
    /// Records of which a person was asked whether a create had made them: nobody can tell but they.
    unproven: BTreeSet<String>,
    /// Records of a mass change that a person has undone.
    undone: BTreeSet<String>,
    found: Vec<Violation>,
}

impl Checker<'_> {
    pub(super) fn world(&self) -> &World {
        self.evidence.world
    }

    pub(super) fn members(&self) -> usize {
        self.world().members.len()
    }

    pub(super) fn blame(&mut self, invariant: &'static str, record: &str, what: String) {
        self.found.push(Violation { invariant, record: record.to_owned(), what });
    }

    /// The tags that rows of this key have shown.
    pub(super) fn tags_of(&self, member: usize, key: &Key) -> BTreeSet<String> {
        let shown = |lives: &Lives| lives.get(member).is_some_and(|steps| steps.iter().any(|step| step.has_key(key)));
        self.lives.iter().filter(|(_, lives)| shown(lives)).map(|(tag, _)| tag.clone()).collect()
    }

    pub(super) fn is_excused(&self, tag: &str) -> bool {
        self.excused.get(tag).is_some_and(|excuse| excuse.whole)
    }

    pub(super) fn is_excused_field(&self, tag: &str, field: usize) -> bool {
        let Some(excuse) = self.excused.get(tag) else { return false };
        excuse.whole || self.world().fields.get(field).is_some_and(|field| excuse.groups.contains(&field.group))
    }

    /// The rows of a tag at a member, now.
    pub(super) fn rows(&self, tag: &str, member: usize) -> Vec<&Record> {
        let Some(database) = self.evidence.databases.get(member) else { return Vec::new() };
        let tagged = |fields: &Record| crate::users::tag_of(self.world(), member, fields).as_deref() == Some(tag);
        database.rows().map(|row| &row.fields).filter(|fields| tagged(fields) && !is_marked_gone(fields)).collect()
    }

    pub(super) fn name(&self, member: usize) -> &'static str {
        self.world().members.get(member).map_or("?", |member| member.name)
    }

    pub(super) fn has_triggers(&self) -> bool {
        self.world().members.iter().any(|member| !member.triggers.is_empty())
    }

    pub(super) fn was_deleted(&self, tag: &str) -> bool {
        self.lives.get(tag).is_some_and(|life| user_steps(life).any(|(_, step)| step.after.is_none()))
    }

    pub(super) fn shown(&self, tag: &str, member: usize, field: usize) -> Option<Value> {
        let rows = self.rows(tag, member);
        rows.first()?.get(self.world().native(member, field).as_str()).cloned()
    }

    /// A value as a member can hold it.
    pub(super) fn fitted(&self, member: usize, field: usize, value: &Value) -> Value {
        let short = self.world().fields.get(field).and_then(|field| field.short_at);
        match (short, value) {
            (Some((at, most)), Value::Text(text)) if at == member => Value::Text(text.chars().take(most).collect()),
            _ => value.clone(),
        }
    }
}

fn user_steps(life: &Lives) -> impl Iterator<Item = (usize, &Step)> {
    let all = life.iter().enumerate().flat_map(|(member, steps)| steps.iter().map(move |step| (member, step)));
    all.filter(|(_, step)| matches!(step.author, Author::User(_)))
}
