//! A person beside the engine: answers what waits for one at moments of its own, also while writes are under way and
//! around kills, pauses and resumes, and accepts gaps. Decides by chance, never by what the engine is thought to do next.

use crate::database::Author;
use crate::random::Random;
use crate::stage::Stage;
use crate::users::{Numbers, POISON, REJECTED, fresh, tag_of};
use crate::world::{FieldKind, Purpose};
use concord_engine::clock::{Clock, Moment};
use concord_engine::error::{Code, Error};
use concord_engine::link::{MemberIndex, ReviewId, SyncId};
use concord_engine::record::{Key, Record};
use concord_engine::review::{Review, Subject};
use concord_engine::runtime::command::{Request, Resolution};
use concord_engine::value::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// The most rounds of answers at the end: an engine that asks on and on has not become level.
const ROUNDS_MAX: usize = 60;
/// How long an answer may take before the person gives up on it.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a person said about a review item.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The item.
    pub review: Review,
    /// What was said.
    pub resolution: Resolution,
    /// When.
    pub at: Moment,
}

/// The person.
pub struct Person<'a> {
    stage: &'a Stage,
    random: Random,
    numbers: &'a Numbers,
}

impl<'a> Person<'a> {
    /// The person of a stage.
    pub fn new(stage: &'a Stage, numbers: &'a Numbers) -> Person<'a> {
        Person { stage, random: Random::fork(stage.world.seed, "person"), numbers }
    }

    /// Looks in now and then for as long as users work.
    pub async fn work(&mut self) {
        let span = stage_millis(self.stage);
        let mut paused = false;
        loop {
            let wait = self.random.millis(0, span / 4 + 50);
            tokio::time::sleep(wait).await;
            self.accept_gap().await;
            crate::drift::let_go_on(self.stage).await;
            if self.stage.world.further.pauses && self.random.percent(30) {
                paused = !paused;
                let request = if paused { Request::Pause } else { Request::Resume };
                self.ask(request(sync())).await.ok();
            }
            let open = if self.stage.world.further.answers() { self.open().await } else { Vec::new() };
            if let Some(review) = self.random.pick(&open).cloned()
                && let Some(resolution) = self.choose(&review, false)
            {
                self.answer(review, resolution).await;
            }
        }
    }

    /// At the end everything is decided, until nothing waits any more. Says what waits still.
    pub async fn close(&mut self) -> Result<(), crate::checker::Violation> {
        if !self.stage.world.further.pauses && !self.stage.world.further.person {
            return self.level().await;
        }
        for _ in 0..200 {
            self.accept_gap().await;
            if self.ask(Request::Resume(sync())).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let closes = self.random.percent(60);
        for _ in 0..ROUNDS_MAX {
            self.level().await?;
            let open = self.open().await;
            if open.is_empty() || !closes {
                return Ok(());
            }
            for review in open {
                let mended = self.clean_up(&review).await;
                let refused = review.code == Code::TargetRejected.to_string();
                // Nothing is left to be put right where it came from: to try again for ever is no answer.
                let resolution = if refused && !mended && self.random.percent(50) {
                    Some(Resolution::Ignore)
                } else {
                    self.choose(&review, true)
                };
                if let Some(resolution) = resolution {
                    self.answer(review, resolution).await;
                }
            }
        }
        let open = self.open().await;
        let what = format!("{ROUNDS_MAX} rounds of answers, and still asked: {open:?}");
        Err(crate::checker::Violation { invariant: "2 convergence (reviews)", record: "all".to_owned(), what })
    }

    /// Level, with gaps accepted as they come to light.
    async fn level(&self) -> Result<(), crate::checker::Violation> {
        tokio::select! {
            biased;
            level = self.stage.level() => level,
            () = self.accept_gaps(), if self.stage.world.further.gaps => Ok(()),
            () = crate::drift::keep_going(self.stage), if self.stage.world.further.drifts.is_some() => Ok(()),
        }
    }

    /// Accepts gaps as they come to light. Never ends.
    async fn accept_gaps(&self) {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            self.accept_gap().await;
        }
    }

    /// A feed that cannot be resumed is accepted as it is: everything is read again.
    async fn accept_gap(&self) {
        let Some(status) = self.stage.status() else { return };
        let gap = Code::FeedGap.to_string();
        if status.syncs.iter().any(|sync| sync.stage.starts_with("stopped") && sync.stage.contains(&gap)) {
            self.stage.trace.note("person", "accepts a gap");
            self.ask(Request::Reread(sync())).await.ok();
        }
    }

    async fn ask(&self, request: Request) -> Result<(), Code> {
        let what = format!("{request:?}");
        let answer = match tokio::time::timeout(PATIENCE, self.stage.ask(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::new(Code::OutcomeUnknown, "no answer")),
        };
        self.stage.trace.note("person", &format!("{what}: {:?}", answer.as_ref().map_err(ToString::to_string)));
        answer.map(|_| ()).map_err(|error| error.code)
    }

    async fn open(&self) -> Vec<Review> {
        let mut open = self.stage.store.reviews(None, true, usize::MAX).await.unwrap_or_default();
        open.reverse();
        open
    }

    async fn answer(&self, review: Review, resolution: Resolution) {
        let (id, at): (ReviewId, Moment) = (review.id, self.stage.clock.now());
        // Noted first: the answer may be lost with the engine, and what was said followed all the same.
        self.stage.answers.borrow_mut().push(Answer { review: review.clone(), resolution: resolution.clone(), at });
        let is_bind = matches!(resolution, Resolution::Bind(_));
        let answer = self.ask(Request::Resolve(id, resolution)).await;
        if answer == Err(Code::ControlFailed) {
            // Said to nobody.
            self.stage.answers.borrow_mut().pop();
        }
        if is_bind && answer == Err(Code::BadResolution) {
            // The item is older than what has become of the record or its candidates: have it looked at again.
            self.stage.answers.borrow_mut().push(Answer { review, resolution: Resolution::Retry, at });
            self.ask(Request::Resolve(id, Resolution::Retry)).await.ok();
        }
    }

    /// An answer that fits; `None`: this one is left alone.
    fn choose(&mut self, review: &Review, decisive: bool) -> Option<Resolution> {
        let leave = !decisive && self.random.percent(20);
        let resolution = match &review.subject {
            _ if leave && !matches!(review.subject, Subject::DeleteAgainstEdit { .. }) => Resolution::Ignore,
            Subject::Conflict { fields, values, .. } => {
                let give = self.give(fields).filter(|_| self.random.percent(25));
                match give {
                    Some(values) => Resolution::Give(values),
                    None => {
                        let there = values.iter().map(|(member, _)| *member).filter(|it| *it < self.stage.systems.len());
                        Resolution::Take(self.random.pick(&there.collect::<Vec<_>>()).copied()?)
                    }
                }
            }
            Subject::DeleteAgainstEdit { edited_by, .. } if edited_by.is_empty() => {
                Resolution::Take(self.random.place(self.stage.systems.len()))
            }
            Subject::Rejected { .. } if review.code == Code::EditAgainstFlow.to_string() => Resolution::Take(0),
            // There, but another record's: this one is not made as well.
            Subject::Rejected { .. } if review.code == Code::MatchDuplicate.to_string() && self.random.percent(50) => {
                Resolution::Ignore
            }
            Subject::DeleteAgainstEdit { deleted_by, edited_by } => {
                let other = self.random.pick(edited_by).copied();
                let keep = self.random.percent(50);
                Resolution::Take(other.filter(|_| keep).unwrap_or(*deleted_by))
            }
            Subject::Ambiguous { candidates, .. } => Resolution::Bind(self.random.place(candidates.len())),
            Subject::MassChange { .. } if self.random.percent(50) => Resolution::Ignore,
            _ => Resolution::Retry,
        };
        Some(resolution)
    }

    /// Values of a person's own, where all of the fields are ones that people give.
    fn give(&mut self, fields: &[String]) -> Option<Vec<Value>> {
        let operation = self.numbers.operation();
        let world = &self.stage.world;
        let value = |name: &String| {
            let field = world.fields.get(world.field(name)?)?;
            let most = field.short_at.map(|(_, most)| most);
            (field.purpose == Purpose::Plain).then(|| fresh(field.kind, operation, most))
        };
        fields.iter().map(value).collect()
    }

    /// What is wrong at its source is put right there: refused values become good ones, a record typed in twice goes. Says
    /// whether there was anything of the kind.
    async fn clean_up(&mut self, review: &Review) -> bool {
        match &review.subject {
            Subject::Rejected { .. } | Subject::Conflict { .. } => {
                let repaired = self.repair(review).await;
                return self.take_away_the_double(review).await || repaired;
            }
            Subject::Duplicate { member, key, .. } => self.delete(*member, key),
            // Every candidate has its own counterpart by now, or would have to be one of two that are the same.
            Subject::Ambiguous { member, key, other, candidates } if self.is_double(*other, &candidates[..]) => {
                self.delete(*member, key);
            }
            _ => return false,
        }
        true
    }

    fn delete(&self, member: MemberIndex, key: &Key) {
        let author = Author::User(self.numbers.operation());
        if let Some(system) = self.stage.system(member) {
            system.transact(author, |database, draft| database.delete(draft, key)).ok();
        }
    }

    /// Whether several of a member's records are one typed in more than once.
    fn is_double(&self, member: MemberIndex, keys: &[Key]) -> bool {
        let tags = keys.iter().filter_map(|key| self.tag(member, key));
        keys.len() > 1 && tags.collect::<BTreeSet<_>>().len() == 1
    }

    fn tag(&self, member: MemberIndex, key: &Key) -> Option<String> {
        self.stage.system(member)?.look(|database| tag_of(&self.stage.world, member, &database.row(key)?.fields))
    }

    /// A record that cannot be made at a member because the same one is there already, typed in twice, goes everywhere.
    async fn take_away_the_double(&mut self, review: &Review) -> bool {
        let taken = [Code::MatchDuplicate, Code::MatchAmbiguous, Code::TargetRejected].map(|code| code.to_string());
        if !matches!(review.subject, Subject::Rejected { .. }) || !taken.contains(&review.code) {
            return false;
        }
        let links = self.stage.store.links(review.link.into_iter().collect()).await.unwrap_or_default();
        let sides = || links.iter().flat_map(|state| state.link.sides.iter().enumerate());
        let rows: Vec<(MemberIndex, Key)> = sides().filter_map(|(member, side)| Some((member, side.key.clone()?))).collect();
        let twice = |member: MemberIndex, tag: &str| {
            let Some(system) = self.stage.system(member) else { return false };
            let tagged = |fields: &Record| tag_of(&self.stage.world, member, fields).as_deref() == Some(tag);
            system.look(|database| database.rows().filter(|row| tagged(&row.fields)).count() > 1)
        };
        let double = rows.iter().any(|(member, key)| self.tag(*member, key).is_some_and(|tag| twice(*member, &tag)));
        if double {
            rows.iter().for_each(|(member, key)| self.delete(*member, key));
        }
        double
    }

    async fn repair(&mut self, review: &Review) -> bool {
        let mut repaired = false;
        let links = self.stage.store.links(review.link.into_iter().collect()).await.unwrap_or_default();
        let sides = links.iter().flat_map(|state| state.link.sides.iter().enumerate());
        for (member, side) in sides {
            let (Some(key), Some(system)) = (&side.key, self.stage.system(member)) else { continue };
            let operation = self.numbers.operation();
            let set = self.good_values(member, key, operation);
            if !set.is_empty() {
                repaired = true;
                let author = Author::User(operation);
                system.transact(author.clone(), |database, draft| database.update(draft, &author, key, &set).map(|_| ())).ok();
            }
        }
        repaired
    }

    fn good_values(&self, member: MemberIndex, key: &Key, operation: u64) -> Record {
        let bad = |value: &Value| matches!(value, Value::Text(text) if text.contains(POISON) || text.contains(REJECTED));
        let row = self.stage.system(member).and_then(|system| system.look(|database| database.row(key).cloned()));
        let fields = row.iter().flat_map(|row| row.fields.iter());
        let good = || fresh(FieldKind::Text, operation, Some(6));
        fields.filter(|(_, value)| bad(value)).map(|(name, _)| (name.clone(), good())).collect()
    }
}

fn sync() -> SyncId {
    SyncId(1)
}

fn stage_millis(stage: &Stage) -> u64 {
    u64::try_from(stage.world.span.as_millis()).unwrap_or(1_000)
}
