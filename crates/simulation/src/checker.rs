//! The independent checker: a simple sequential model over the systems' own commit logs. It shares no code with the
//! engine's deciding stages; of the engine it reads only what a person could read: the ledger and the reviews.
//! It proves invariants 2 to 5 after quiescence; idempotence is proven by `run`, which replays the feeds.

use crate::database::{Author, Database};
use crate::describe;
use crate::timeline::{Lives, Step, lives};
use crate::world::{Decide, DeleteRule, EditRule, Flow, Purpose, Start, World};
use concord_engine::ledger::{Entry, LedgerRow};
use concord_engine::link::Link;
use concord_engine::record::{Key, Record};
use concord_engine::review::{Review, Subject};
use concord_engine::value::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What a run leaves to be judged.
pub struct Evidence<'a> {
    /// The world.
    pub world: &'a World,
    /// The databases, in the order of the members.
    pub databases: Vec<Database>,
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
    let mut checker = Checker { evidence, lives, excused: BTreeMap::new(), in_question: BTreeSet::new(), found: Vec::new() };
    checker.excuse();
    checker.reviews_are_called_for();
    let tags: Vec<String> = checker.lives.keys().cloned().collect();
    for tag in tags {
        let Some(life) = checker.lives.get(&tag).cloned() else { continue };
        checker.one_record_once(&tag);
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
    found: Vec<Violation>,
}

impl Checker<'_> {
    fn world(&self) -> &World {
        self.evidence.world
    }

    fn members(&self) -> usize {
        self.world().members.len()
    }

    fn blame(&mut self, invariant: &'static str, record: &str, what: String) {
        self.found.push(Violation { invariant, record: record.to_owned(), what });
    }

    /// Finds which records wait for a person.
    fn excuse(&mut self) {
        let reviews: Vec<&Review> = self.evidence.reviews.iter().collect();
        for review in reviews {
            let mut tags = BTreeSet::new();
            if let Some(link) = self.evidence.links.iter().find(|link| Some(link.id) == review.link) {
                for (member, side) in link.sides.iter().enumerate() {
                    tags.extend(side.key.iter().flat_map(|key| self.tags_of(member, key)));
                }
            }
            if matches!(review.subject, Subject::Conflict { .. }) {
                self.in_question.extend(tags.iter().cloned());
            }
            if review.closed.is_some() {
                continue;
            }
            match &review.subject {
                Subject::Ambiguous { member, key, other, candidates } => {
                    tags.extend(self.tags_of(*member, key));
                    tags.extend(candidates.iter().flat_map(|key| self.tags_of(*other, key)));
                }
                Subject::Duplicate { member, key, .. } => tags.extend(self.tags_of(*member, key)),
                _ => {}
            }
            for tag in tags {
                let excuse = self.excused.entry(tag).or_default();
                match &review.subject {
                    Subject::Conflict { group, .. } | Subject::Loop { group } => {
                        excuse.groups.insert(*group);
                    }
                    _ => excuse.whole = true,
                }
            }
        }
    }

    /// The tags that rows of this key have shown.
    fn tags_of(&self, member: usize, key: &Key) -> BTreeSet<String> {
        let shown = |lives: &Lives| lives.get(member).is_some_and(|steps| steps.iter().any(|step| step.has_key(key)));
        self.lives.iter().filter(|(_, lives)| shown(lives)).map(|(tag, _)| tag.clone()).collect()
    }

    fn is_excused(&self, tag: &str) -> bool {
        self.excused.get(tag).is_some_and(|excuse| excuse.whole)
    }

    fn is_excused_field(&self, tag: &str, field: usize) -> bool {
        let Some(excuse) = self.excused.get(tag) else { return false };
        excuse.whole || self.world().fields.get(field).is_some_and(|field| excuse.groups.contains(&field.group))
    }

    /// An engine that puts everything into review would pass every other check.
    fn reviews_are_called_for(&mut self) {
        let world = self.world();
        let deletes = world.against_edit == EditRule::Person;
        let poison = world.members.iter().any(|member| member.profile.poison.is_some());
        let triggered = world.members.iter().any(|member| !member.triggers.is_empty());
        let blamed: Vec<(String, String)> = self
            .evidence
            .reviews
            .iter()
            .filter(|review| match &review.subject {
                Subject::Conflict { group, .. } => {
                    let manual = world.groups.get(*group) == Some(&Decide::Person);
                    !(manual || world.start == Start::Person)
                }
                Subject::DeleteAgainstEdit { .. } => !deletes,
                Subject::Rejected { .. } => !poison && !world.members.iter().any(|member| member.unique),
                Subject::Loop { .. } => !triggered,
                Subject::Ambiguous { .. } | Subject::Duplicate { .. } => false,
                Subject::Exhausted { .. } => !review.code.ends_with("3022"),
                Subject::MassChange { .. } | Subject::Unreadable { .. } | Subject::WentBack { .. } => true,
            })
            .map(|review| (format!("review {}", review.id.0), format!("{} ({:?})", review.message, review.subject)))
            .collect();
        for (record, what) in blamed {
            self.blame("reviews are called for", &record, format!("nothing in this world asks for it: {what}"));
        }
    }

    /// The rows of a tag at a member, now.
    fn rows(&self, tag: &str, member: usize) -> Vec<&Record> {
        let Some(database) = self.evidence.databases.get(member) else { return Vec::new() };
        let tagged = |fields: &Record| crate::users::tag_of(self.world(), member, fields).as_deref() == Some(tag);
        database.rows().map(|row| &row.fields).filter(|fields| tagged(fields)).collect()
    }

    /// Invariant 4: at most one live native record per link and member.
    fn one_record_once(&mut self, tag: &str) {
        for member in 0..self.members() {
            let rows = self.rows(tag, member).len();
            if rows > 1 {
                self.blame("4 one record, once", tag, format!("{rows} records of it at {}", self.name(member)));
            }
        }
    }

    fn name(&self, member: usize) -> &'static str {
        self.world().members.get(member).map_or("?", |member| member.name)
    }

    /// Invariants 2 and 4: a record that users made and nobody deleted is everywhere; a deleted one follows its rule.
    fn existence(&mut self, tag: &str, life: &Lives) {
        if self.is_excused(tag) {
            return;
        }
        let present: Vec<bool> = (0..self.members()).map(|member| !self.rows(tag, member).is_empty()).collect();
        let shown = || {
            let places = (0..self.members()).filter(|member| present.get(*member) == Some(&true));
            places.map(|member| self.name(member)).collect::<Vec<_>>().join(", ")
        };
        let everywhere = present.iter().all(|here| *here);
        let nowhere = present.iter().all(|here| !*here);
        let deletes = user_steps(life).filter(|(_, step)| step.after.is_none()).count();
        if deletes == 0 {
            // A record of which some group waits for a person is made elsewhere when that is decided.
            if !everywhere && !self.excused.contains_key(tag) {
                let what = format!("never deleted, but only at: {}", shown());
                self.blame("2 convergence (existence)", tag, what);
            }
            return;
        }
        if self.world().on_delete != DeleteRule::Propagate {
            return;
        }
        if !everywhere && !nowhere {
            if self.excused.contains_key(tag) {
                return;
            }
            let what = format!("deleted at times, and now only at: {}", shown());
            self.blame("2 convergence (existence)", tag, what);
            return;
        }
        if let Some((must_exist, why)) = self.must_exist(tag, life)
            && must_exist != everywhere
        {
            let what = format!("{why}, but it is {}", if everywhere { "everywhere" } else { "nowhere" });
            self.blame("4 one record, once (deletes)", tag, what);
        }
    }

    /// Whether the sequential model can tell that a record, deleted at some time, is to exist.
    fn must_exist(&self, tag: &str, life: &Lives) -> Option<(bool, &'static str)> {
        let deletes: Vec<(usize, &Step)> = user_steps(life).filter(|(_, step)| step.after.is_none()).collect();
        let made: Vec<(usize, &Step)> =
            user_steps(life).filter(|(_, step)| step.before.is_none() && step.after.is_some()).collect();
        let (deleter, delete) = deletes.first().copied()?;
        // A record that was gone before the engine ever wrote to its counterparts may not have been known to be one.
        let ours = |step: &Step| matches!(step.author, Author::Engine(_)) && step.at < delete.at;
        if !self.world().users_wait && !life.iter().flatten().any(ours) {
            return None;
        }
        let edits = || user_steps(life).filter(|(_, step)| step.before.is_some() && step.after.is_some());
        let made_anew = made.iter().any(|(_, step)| step.at >= delete.at);
        if deletes.iter().all(|(member, _)| *member == deleter) && made_anew {
            let last = made.iter().filter(|(member, _)| *member == deleter).map(|(_, step)| step.order()).max();
            let last_delete = deletes.iter().map(|(_, step)| step.order()).max();
            let others_made = made.iter().any(|(member, _)| *member != deleter);
            return (!others_made && last > last_delete).then_some((true, "made anew by the user who had deleted it"));
        }
        let quiet = edits().all(|(member, _)| member == deleter) && made.iter().all(|(member, _)| *member == deleter);
        // Values that a person was asked about (a first sight without a base, say) are edits that a delete stands against.
        if quiet && !self.in_question.contains(tag) && !made_anew && !self.has_triggers() && self.world().users_wait {
            return Some((false, "deleted where alone it was ever edited"));
        }
        let after = edits().any(|(member, step)| member != deleter && step.at > delete.at && self.lasting(life, member, step));
        if deletes.len() == 1 && after && !made_anew && made.iter().all(|(_, step)| step.at < delete.at) {
            return match self.world().against_edit {
                EditRule::UpdateWins => Some((true, "deleted, and edited elsewhere after that, and the edit wins")),
                EditRule::DeleteWins => Some((false, "deleted, and edited elsewhere after that, and the delete wins")),
                EditRule::Person => None,
            };
        }
        None
    }

    fn has_triggers(&self) -> bool {
        self.world().members.iter().any(|member| !member.triggers.is_empty())
    }

    /// Whether an edit is one that flows, and is never taken back by the same member.
    fn lasting(&self, life: &Lives, member: usize, edit: &Step) -> bool {
        let Some(steps) = life.get(member) else { return false };
        self.world().fields.iter().enumerate().any(|(place, field)| {
            let name = self.world().native(member, place);
            let old = edit.before.as_ref().and_then(|row| row.fields.get(name.as_str()));
            let new = edit.after.as_ref().and_then(|row| row.fields.get(name.as_str()));
            let later = steps.iter().filter(|step| step.order() > edit.order());
            let taken_back = later
                .filter(|step| !matches!(step.author, Author::Engine(_)))
                .any(|step| step.after.as_ref().and_then(|row| row.fields.get(name.as_str())) == old);
            let seen_before = steps.iter().filter(|step| step.order() < edit.order());
            let reverts =
                seen_before.into_iter().any(|step| step.after.as_ref().and_then(|row| row.fields.get(name.as_str())) == new);
            field.flow == Flow::Both && new != old && !taken_back && !reverts
        })
    }

    /// Invariant 2: fields agree wherever they flow.
    fn convergence(&mut self, tag: &str) {
        if self.world().on_delete != DeleteRule::Propagate && self.was_deleted(tag) {
            return;
        }
        for field in 0..self.world().fields.len() {
            if self.is_excused_field(tag, field) {
                continue;
            }
            let shown: Vec<(usize, Value)> =
                (0..self.members()).filter_map(|member| Some((member, self.shown(tag, member, field)?))).collect();
            let wanted = self.reference(&shown, field);
            let Some((_, wanted)) = wanted else { continue };
            for (member, value) in &shown {
                if *value != self.fitted(*member, field, &wanted) {
                    let name = self.world().fields.get(field).map_or("?", |field| field.name);
                    let what = format!(
                        "{name} is {} at {} where {} is wanted (shown: {})",
                        describe::value(value),
                        self.name(*member),
                        describe::value(&wanted),
                        shown
                            .iter()
                            .map(|(m, v)| format!("{}={}", self.name(*m), describe::value(v)))
                            .collect::<Vec<_>>()
                            .join(" ")
                    );
                    self.blame("2 convergence", tag, what);
                    break;
                }
            }
        }
    }

    fn was_deleted(&self, tag: &str) -> bool {
        self.lives.get(tag).is_some_and(|life| user_steps(life).any(|(_, step)| step.after.is_none()))
    }

    fn shown(&self, tag: &str, member: usize, field: usize) -> Option<Value> {
        let rows = self.rows(tag, member);
        rows.first()?.get(self.world().native(member, field).as_str()).cloned()
    }

    /// The member whose value the others are to show: the owner, or one that holds the value in full.
    fn reference(&self, shown: &[(usize, Value)], field: usize) -> Option<(usize, Value)> {
        let rules = self.world().fields.get(field)?;
        let short = rules.short_at.map(|(member, _)| member);
        match rules.flow {
            Flow::From(owner) => shown.iter().find(|(member, _)| *member == owner).cloned(),
            Flow::Both => shown.iter().find(|(member, _)| Some(*member) != short).cloned(),
        }
    }

    /// A value as a member can hold it.
    fn fitted(&self, member: usize, field: usize, value: &Value) -> Value {
        let short = self.world().fields.get(field).and_then(|field| field.short_at);
        match (short, value) {
            (Some((at, most)), Value::Text(text)) if at == member => Value::Text(text.chars().take(most).collect()),
            _ => value.clone(),
        }
    }

    /// Invariant 3: what a user wrote stands, was replaced by somebody who had seen it, or lost to a recorded decision.
    fn no_lost_update(&mut self, tag: &str, life: &Lives) {
        for member in 0..self.members() {
            let guarded = self.world().members.get(member).is_some_and(|member| member.profile.guarded);
            for field in 0..self.world().fields.len() {
                let plain =
                    self.world().fields.get(field).is_some_and(|field| matches!(field.purpose, Purpose::Plain | Purpose::Code));
                if guarded && plain && self.world().flows_from(member, field) {
                    self.no_lost_value(tag, life, member, field);
                }
            }
        }
    }

    fn no_lost_value(&mut self, tag: &str, life: &Lives, member: usize, field: usize) {
        let name = self.world().native(member, field);
        let steps = life.get(member).cloned().unwrap_or_default();
        let value_of = |row: &Option<crate::database::Row>| row.as_ref().and_then(|row| row.fields.get(name.as_str()).cloned());
        for (place, step) in steps.iter().enumerate() {
            let written = value_of(&step.after).filter(|value| *value != Value::Null);
            let by_user = matches!(step.author, Author::User(_) | Author::Workflow);
            let Some(value) = written.filter(|value| by_user && value_of(&step.before).as_ref() != Some(value)) else { continue };
            let next = steps.iter().skip(place + 1).find(|next| value_of(&next.after).as_ref() != Some(&value));
            let Some(next) = next else { continue };
            if !matches!(next.author, Author::Engine(_)) || next.reaction {
                continue;
            }
            // What a trigger made of a write of ours that asked for something else is the trigger's doing.
            if next.after.is_some() && next.asked.get(name.as_str()) != value_of(&next.after).as_ref() {
                continue;
            }
            if self.seen_elsewhere(life, member, field, &value, next) || self.recorded(field, &value) {
                continue;
            }
            let became = value_of(&next.after).map_or_else(|| "a delete".to_owned(), |value| describe::value(&value));
            let what = format!(
                "{} = {} written at {} in commit {} by {} was overwritten with {became} in commit {} without a record of it",
                name,
                describe::value(&value),
                self.name(member),
                step.commit,
                describe::author(&step.author),
                next.commit
            );
            self.blame("3 no lost update", tag, what);
        }
    }

    /// Whether what replaced a value was made where the value had been seen before: by a user, a workflow or a trigger.
    fn seen_elsewhere(&self, life: &Lives, member: usize, field: usize, value: &Value, overwritten: &Step) -> bool {
        (0..self.members()).filter(|other| *other != member).any(|other| {
            let name = self.world().native(other, field);
            let fitted = self.fitted(other, field, value);
            let mut seen = false;
            let steps = life.get(other).into_iter().flatten().filter(|step| step.at <= overwritten.at);
            for step in steps {
                let ours = matches!(step.author, Author::Engine(_)) && !step.reaction;
                let shown = step.after.as_ref().and_then(|row| row.fields.get(name.as_str()));
                let asked = step.asked.get(name.as_str());
                // A trigger that makes something else of what was asked for has seen it.
                seen |= ours && asked == Some(&fitted);
                let made = !ours || asked.is_some_and(|asked| Some(asked) != shown) || (asked.is_none() && step.after.is_some());
                if seen && made && shown.is_none_or(|shown| *shown != fitted && self.fitted(member, field, shown) != *value) {
                    return true;
                }
                // A short form says the same as the long one that it was cut from.
                seen |= shown == Some(&fitted) || shown.is_some_and(|shown| self.fitted(member, field, shown) == *value);
            }
            false
        })
    }

    /// Whether the ledger or a review holds a value as one that lost.
    fn recorded(&self, field: usize, value: &Value) -> bool {
        let Some(name) = self.world().fields.get(field).map(|field| field.name) else { return false };
        let lost = self.evidence.ledger.iter().any(|row| {
            matches!(row.entry, Entry::Lost | Entry::Deleted | Entry::Held(_))
                && row.fields.iter().any(|entry| entry.field == name && entry.old.as_ref() == Some(value))
        });
        let held = self.evidence.reviews.iter().any(|review| match &review.subject {
            Subject::Conflict { values, .. } => values.iter().any(|(_, values)| values.contains(value)),
            _ => false,
        });
        lost || held
    }

    /// Where the policy alone tells the winner, the winner is the one that stands.
    fn winners(&mut self, tag: &str, life: &Lives) {
        let simple = self.world().users_wait && !self.is_excused(tag);
        let lifecycle = user_steps(life).any(|(_, step)| step.before.is_none() || step.after.is_none());
        if !simple || lifecycle {
            return;
        }
        for field in 0..self.world().fields.len() {
            if let Some(wanted) = self.winner(life, field)
                && !self.is_excused_field(tag, field)
            {
                for member in 0..self.members() {
                    let Some(shown) = self.shown(tag, member, field) else { continue };
                    if shown != self.fitted(member, field, &wanted) {
                        let name = self.world().fields.get(field).map_or("?", |field| field.name);
                        let what = format!(
                            "{name}: {} should have won, {} shows {}",
                            describe::value(&wanted),
                            self.name(member),
                            describe::value(&shown)
                        );
                        self.blame("policy's winner", tag, what);
                        break;
                    }
                }
            }
        }
    }

    fn winner(&self, life: &Lives, field: usize) -> Option<Value> {
        let world = self.world();
        let rules = world.fields.get(field)?;
        let alone = world.fields.iter().filter(|other| other.group == rules.group).count() == 1;
        let latest = world.groups.get(rules.group) == Some(&Decide::Latest);
        if !alone || rules.flow != Flow::Both || rules.purpose != Purpose::Plain || world.is_triggered(field) {
            return None;
        }
        let mut values = Vec::new();
        let mut edits: Vec<(i64, usize, Value)> = Vec::new();
        let coarsest = world.members.iter().map(|member| member.profile.granularity_micros).max().unwrap_or(1).max(1);
        for (member, step) in user_steps(life) {
            let name = world.native(member, field);
            let value = |row: &Option<crate::database::Row>| row.as_ref().and_then(|row| row.fields.get(name.as_str()).cloned());
            let new = value(&step.after)?;
            if value(&step.before).as_ref() != Some(&new) {
                edits.push((step.at.micros().div_euclid(i64::from(coarsest)), member, new.clone()));
                // What the narrowest member can hold of it: a short form that comes back is a revert, too.
                let narrowest = rules.short_at.map_or(member, |(at, _)| at);
                values.push(describe::value(&self.fitted(narrowest, field, &new)));
            }
        }
        // A value that comes again is a revert: whether it counts as an edit depends on what was seen in between.
        let distinct: BTreeSet<&String> = values.iter().collect();
        let initial = life.iter().flatten().filter(|step| step.author == Author::Initial);
        let reverted = initial.into_iter().any(|step| {
            step.after.as_ref().is_some_and(|row| row.fields.iter().any(|(_, value)| values.contains(&describe::value(value))))
        });
        if distinct.len() != values.len() || reverted {
            return None;
        }
        let one_editor = edits.iter().map(|(_, member, _)| *member).collect::<BTreeSet<_>>().len() == 1;
        if one_editor {
            return edits.last().map(|(_, _, value)| value.clone());
        }
        let top = edits.iter().map(|(at, _, _)| *at).max()?;
        let tops: Vec<&(i64, usize, Value)> = edits.iter().filter(|(at, _, _)| *at == top).collect();
        match tops.as_slice() {
            [(_, _, value)] if latest => Some(value.clone()),
            _ => None,
        }
    }

    /// Invariant 5: the engine writes no more than the edits call for, and nothing that changes nothing.
    fn quiescence(&mut self, tag: &str, life: &Lives) {
        let others = self.members().saturating_sub(1);
        let mut causes = 0_usize;
        let mut writes = 0_usize;
        // A create brings fields into being that flow out of where it was made, generated keys among them.
        let one_way = self.world().fields.iter().filter(|field| field.flow != Flow::Both).count();
        for step in life.iter().flatten() {
            let ours = matches!(step.author, Author::Engine(_));
            if ours && !step.reaction {
                writes += 1;
            } else {
                causes += 1;
            }
            // A trigger that changes what we wrote is an edit of its own.
            if ours && !step.reaction && self.has_triggers() {
                causes += 1;
            }
            if ours && !step.reaction && step.before.is_none() {
                causes += one_way;
            }
            let shown = |field: &str| step.before.as_ref().and_then(|row| row.fields.get(field));
            let asked_for_nothing = step.asked.iter().all(|(field, value)| shown(field.as_str()) == Some(value));
            let idle = step.before.is_some() && step.after.is_some() && asked_for_nothing;
            if ours && !step.reaction && idle && self.evidence.world.members.iter().all(|member| member.profile.guarded) {
                self.blame("5 quiescence", tag, format!("the engine's write in commit {} changed nothing", step.commit));
            }
        }
        let most = causes * others.max(1);
        if writes > most {
            self.blame("5 quiescence", tag, format!("{writes} writes of ours for {causes} causes: at most {most}"));
        }
    }
}

fn user_steps(life: &Lives) -> impl Iterator<Item = (usize, &Step)> {
    let all = life.iter().enumerate().flat_map(|(member, steps)| steps.iter().map(move |step| (member, step)));
    all.filter(|(_, step)| matches!(step.author, Author::User(_)))
}
