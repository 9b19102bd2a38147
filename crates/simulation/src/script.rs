//! A run whose order is written by hand instead of drawn from a seed: single steps of users, gates that hold writes, and
//! looks at what the systems show. Used by the tests of named interleavings.

use crate::checker::Violation;
use crate::database::{Author, KeyKind};
use crate::stage::{End, Kill, Stage, returned};
use crate::users::{identity, is_marked_gone, tag_of};
use crate::world::World;
use concord_engine::record::{Key, Record};
use concord_engine::review::Review;
use concord_engine::runtime::command::{Request, Resolution};
use concord_engine::value::Value;
use std::cell::Cell;
use std::time::Duration;

/// Plays a script on a plain stage and gives back everything that the checker, the replay or the script found wrong.
pub fn play(world: World, script: impl AsyncFnOnce(&Script) -> Vec<Violation>) -> Vec<Violation> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let Ok(runtime) = runtime else { return vec![wrong("no runtime".to_owned())] };
    runtime.block_on(async {
        let script_of = Script { stage: Stage::new(world), operation: Cell::new(0) };
        let found = tokio::select! {
            biased;
            found = script(&script_of) => found,
            () = script_of.stage.drive() => Vec::new(),
        };
        if !found.is_empty() {
            for line in script_of.stage.trace.lines() {
                println!("{line}");
            }
        }
        found
    })
}

/// A violation of what a script expects.
pub fn wrong(what: String) -> Violation {
    Violation { invariant: "as the script says", record: "all".to_owned(), what }
}

/// A stage and the steps that users take on it.
pub struct Script {
    /// The stage.
    pub stage: Stage,
    operation: Cell<u64>,
}

impl Script {
    fn author(&self) -> Author {
        self.operation.set(self.operation.get() + 1);
        Author::User(self.operation.get())
    }

    fn record(&self, member: usize, tag: &str, fields: &[(&str, Value)]) -> Record {
        let key = Key(vec![Value::Text(tag.to_owned())]);
        let mut record = identity(&self.stage.world, member, tag, &key);
        record.overlay(&self.native(member, fields));
        record
    }

    fn native(&self, member: usize, fields: &[(&str, Value)]) -> Record {
        let world = &self.stage.world;
        let place = |name: &str| world.field(name).unwrap_or(usize::MAX);
        fields.iter().map(|(name, value)| (world.native(member, place(name)), value.clone())).collect()
    }

    /// Whether a row is of a tag; one that is marked as deleted is gone to users.
    fn is_of(&self, member: usize, fields: &Record, tag: &str) -> bool {
        !is_marked_gone(fields) && tag_of(&self.stage.world, member, fields).as_deref() == Some(tag)
    }

    fn key(&self, member: usize, tag: &str) -> Option<Key> {
        let tagged = |fields: &Record| self.is_of(member, fields, tag);
        self.stage.system(member)?.look(|database| database.rows().find(|row| tagged(&row.fields)).map(|row| row.key.clone()))
    }

    /// A user inserts a record; false: refused.
    pub fn insert(&self, member: usize, tag: &str, fields: &[(&str, Value)]) -> bool {
        let (author, record) = (self.author(), self.record(member, tag, fields));
        let Some(system) = self.stage.system(member) else { return false };
        let done = system.transact(author.clone(), |database, draft| database.insert(draft, &author, record).map(|_| ()));
        done.is_ok()
    }

    /// A user edits a record; false: there is none.
    pub fn edit(&self, member: usize, tag: &str, fields: &[(&str, Value)]) -> bool {
        let (author, set) = (self.author(), self.native(member, fields));
        let (Some(system), Some(key)) = (self.stage.system(member), self.key(member, tag)) else { return false };
        let done = system.transact(author.clone(), |database, draft| database.update(draft, &author, &key, &set).map(|_| ()));
        done.is_ok()
    }

    /// A user deletes a record; false: there is none.
    pub fn delete(&self, member: usize, tag: &str) -> bool {
        let (Some(system), Some(key)) = (self.stage.system(member), self.key(member, tag)) else { return false };
        system.transact(self.author(), |database, draft| database.delete(draft, &key)).is_ok()
    }

    /// The review items that wait for a person, the oldest first.
    pub async fn reviews(&self) -> Vec<Review> {
        let mut open = self.stage.store.reviews(None, true, usize::MAX).await.unwrap_or_default();
        open.reverse();
        open
    }

    /// What a person asks of the engine; an error when it is refused.
    pub async fn ask(&self, request: Request) -> Result<(), Violation> {
        self.stage.ask(request).await.map(|_| ()).map_err(|error| wrong(error.to_string()))
    }

    /// A person decides the oldest review item.
    pub async fn resolve(&self, resolution: Resolution) -> Result<(), Violation> {
        let review = self.reviews().await.first().map(|review| review.id);
        let review = review.ok_or_else(|| wrong("nothing waits for a person".to_owned()))?;
        self.ask(Request::Resolve(review, resolution)).await
    }

    /// Two records swap their keys; false: there are not both.
    pub fn swap(&self, member: usize, one: &str, other: &str) -> bool {
        let keys = (self.key(member, one), self.key(member, other));
        let (Some(system), (Some(one), Some(other))) = (self.stage.system(member), keys) else { return false };
        system.transact(self.author(), |database, draft| database.swap(draft, &one, &other)).is_ok()
    }

    /// What a member shows in a field of a record; `None` when there is no such record.
    pub fn shows(&self, member: usize, tag: &str, field: &str) -> Option<Value> {
        let world = &self.stage.world;
        let name = world.native(member, world.field(field)?);
        let key = self.key(member, tag)?;
        self.stage.system(member)?.look(|database| database.row(&key)?.fields.get(name.as_str()).cloned())
    }

    /// How many commits the engine has made at a member.
    pub fn writes(&self, member: usize) -> usize {
        let ours = |author: &Author| matches!(author, Author::Engine(_));
        let count = |system: &std::sync::Arc<crate::system::System>| {
            system.look(|database| database.log().iter().filter(|commit| ours(&commit.author)).count())
        };
        self.stage.system(member).map_or(0, count)
    }

    /// Holds until the sync has stopped; an error after a minute.
    pub async fn until_stopped(&self) -> Result<(), Violation> {
        for _ in 0..60_000 {
            let status = self.stage.status();
            if status.is_some_and(|status| status.syncs.iter().any(|sync| sync.stage.starts_with("stopped"))) {
                return Ok(());
            }
            self.pause(1).await;
        }
        Err(wrong("the sync never stopped".to_owned()))
    }

    /// How many records of a tag a member holds.
    pub fn count(&self, member: usize, tag: &str) -> usize {
        let tagged = |fields: &Record| self.is_of(member, fields, tag);
        let count = |system: &std::sync::Arc<crate::system::System>| {
            system.look(|database| database.rows().filter(|row| tagged(&row.fields)).count())
        };
        self.stage.system(member).map_or(0, count)
    }

    /// Holds until a member shows a value; an error after a minute.
    pub async fn until_shown(&self, member: usize, tag: &str, field: &str, value: &Value) -> Result<(), Violation> {
        for _ in 0..60_000 {
            if self.shows(member, tag, field).as_ref() == Some(value) {
                return Ok(());
            }
            self.pause(1).await;
        }
        Err(wrong(format!("{field} of {tag} at {member} never became {value:?}")))
    }

    /// Lets so many milliseconds pass.
    pub async fn pause(&self, millis: u64) {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    /// Runs the steps while the engine lives; the engine is killed when they end.
    pub async fn while_it_lives(&self, steps: impl Future<Output = Result<(), Violation>>) -> Vec<Violation> {
        let done = tokio::select! {
            biased;
            end = self.stage.live(None) => Err(returned(&end)),
            done = steps => done,
        };
        self.stage.store.crash();
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        done.err().into_iter().collect()
    }

    /// Runs the steps beside an engine that is killed after so many milliseconds, in the middle of whatever it does.
    pub async fn killed_after(&self, millis: u64, steps: impl Future<Output = Result<(), Violation>>) -> Vec<Violation> {
        let (end, done) =
            tokio::join!(self.stage.live(Some(Kill { after: Duration::from_millis(millis), at_write: false, polls: 0 })), steps);
        let mut found: Vec<Violation> = done.err().into_iter().collect();
        if !matches!(end, End::Killed) {
            found.push(returned(&end));
        }
        found
    }

    /// Level, judgement and replay.
    pub async fn conclude(&self) -> Vec<Violation> {
        let mut found = self.while_it_lives(self.stage.level()).await;
        found.extend(self.stage.judge().await);
        if found.is_empty() {
            found.extend(self.stage.replay().await);
        }
        found
    }

    /// Blames every member that does not show this value.
    pub fn expect(&self, tag: &str, field: &str, value: Option<&Value>) -> Vec<Violation> {
        let members = 0..self.stage.world.members.len();
        let differs = members.filter(|member| self.shows(*member, tag, field).as_ref() != value);
        differs
            .map(|member| wrong(format!("{field} of {tag} at {member}: {:?}, not {value:?}", self.shows(member, tag, field))))
            .collect()
    }
}

/// A world in which every member's keys are given by its users, and flow.
pub fn natural(mut world: World) -> World {
    for member in &mut world.members {
        member.keys = KeyKind::Natural;
    }
    let group = world.groups.len();
    world.fields.push(crate::world::WorldField {
        name: "code",
        kind: crate::world::FieldKind::Text,
        flow: crate::world::Flow::Both,
        purpose: crate::world::Purpose::Code,
        group,
        short_at: None,
    });
    world.groups.push(crate::world::Decide::Latest);
    world
}
