//! One run from its seed: users at work, an engine that is killed at times, peace, judgement, replay. The same seed is
//! the same run, step for step: no real time, no threads, no order that a hash map decides.

use crate::checker::Violation;
use crate::drift::Drifts;
use crate::file::FileStore;
use crate::person::Person;
use crate::random::Random;
use crate::stage::{End, Kill, Stage, returned};
use crate::users::{Numbers, User};
use crate::world::World;
use futures_util::future::join_all;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The hash over its trace.
    pub hash: u64,
    /// Its trace.
    pub trace: Vec<String>,
    /// What was wrong; empty: nothing.
    pub violations: Vec<Violation>,
}

/// Runs the world of a seed.
pub fn run(seed: u64) -> Report {
    run_world(World::from_seed(seed))
}

/// Runs a world with a store in memory.
pub fn run_world(world: World) -> Report {
    enact(world.seed, async { perform(Stage::new(world)).await })
}

/// Runs the world of a seed with a store in real files of a folder.
pub fn run_on_files(seed: u64, folder: &Path) -> Report {
    let world = World::from_seed(seed);
    match FileStore::new(folder, Random::fork(seed, "store"), world.fsync_ms_max) {
        Ok(store) => enact(seed, async { perform(Stage::with_store(world, Arc::new(store))).await }),
        Err(error) => failed(seed, format!("no store: {error}")),
    }
}

/// Plays on a runtime of its own, whose clock stands still while anything is left to do.
fn enact(seed: u64, play: impl Future<Output = Report>) -> Report {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(seed, format!("no runtime: {error}")),
    };
    catch_unwind(AssertUnwindSafe(|| runtime.block_on(play))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        failed(seed, format!("panic: {}", text.unwrap_or_default()))
    })
}

fn failed(seed: u64, what: String) -> Report {
    let violation = Violation { invariant: "running", record: "all".to_owned(), what };
    Report { seed, hash: 0, trace: Vec::new(), violations: vec![violation] }
}

async fn perform(stage: Stage) -> Report {
    let violations = tokio::select! {
        biased;
        violations = play(&stage) => violations,
        () = stage.drive() => Vec::new(),
    };
    Report { seed: stage.world.seed, hash: stage.trace.hash(), trace: stage.trace.lines(), violations }
}

/// The play: users and engine until it is level, then judgement, then replay.
async fn play(stage: &Stage) -> Vec<Violation> {
    let loaded = Cell::new(false);
    let level = tokio::select! {
        biased;
        end = lives(stage, &loaded) => Err(returned(&end)),
        level = peace(stage, &loaded) => level,
    };
    stage.store.crash();
    if let Err(violation) = level {
        return vec![violation];
    }
    let mut violations = stage.wrong.take();
    violations.extend(stage.judge().await);
    let stands_still = stage.world.further.drifts.as_ref().is_some_and(Drifts::leave_it_dropped);
    if violations.is_empty() && !stands_still {
        violations = stage.replay().await;
    }
    violations
}

/// The engine's lives: killed now and then, and started again on what is durable.
async fn lives(stage: &Stage, loaded: &Cell<bool>) -> End {
    let mut random = Random::fork(stage.world.seed, "kills");
    let span = u64::try_from(stage.world.span.as_millis()).unwrap_or(1_000);
    if stage.world.users_wait {
        // Half the time the first load is killed as well.
        if stage.world.kills > 0 && random.percent(50) {
            let kill = Kill { after: random.millis(0, 200), at_write: false, polls: random.below(40) };
            stage.live(Some(kill)).await;
        }
    } else {
        loaded.set(true);
    }
    for _ in 0..stage.world.kills {
        let after = random.millis(0, span / stage.world.kills.max(1) * 3 / 2);
        let at_write = stage.world.further.kills_at_writes;
        let kill = Kill { after, at_write, polls: if at_write { random.below(3) } else { random.below(30) } };
        if let end @ End::Returned(_) = stage.live(Some(kill)).await {
            return end;
        }
        let down = if random.percent(50) { Duration::ZERO } else { random.millis(0, 2_000) };
        tokio::time::sleep(down).await;
    }
    stage.live(None).await
}

/// Users do their work; then everything heals, and the engine has to become level.
async fn peace(stage: &Stage, loaded: &Cell<bool>) -> Result<(), Violation> {
    if !loaded.get() {
        stage.level().await?;
        stage.trace.note("stage", "loaded; users begin");
    }
    let numbers = Numbers::default();
    let mut users = Vec::new();
    for (member, rules) in stage.world.members.iter().enumerate() {
        for user in 0..rules.users {
            let random = Random::fork(stage.world.seed, &format!("user {user} of {}", rules.name));
            users.push(User { world: &stage.world, systems: &stage.systems, member, random, numbers: &numbers }.work());
        }
    }
    let mut person = Person::new(stage, &numbers);
    {
        let work = async { tokio::join!(join_all(users), lose_feeds(stage), crate::drift::alter(stage)) };
        let further = &stage.world.further;
        let person = async {
            match further.answers() || further.drifts.is_some() {
                true => person.work().await,
                false => std::future::pending().await,
            }
        };
        tokio::select! { biased; _ = work => {}, () = person => {} }
    }
    for system in &stage.systems {
        system.heal();
    }
    stage.trace.note("stage", "users are done; nothing goes wrong any more");
    match stage.world.further.drifts.as_ref().is_some_and(Drifts::leave_it_dropped) {
        true => crate::drift::end_stopped(stage).await,
        false => person.close().await,
    }
}

/// Administrators drop slots while users work.
async fn lose_feeds(stage: &Stage) {
    if !stage.world.further.gaps {
        return;
    }
    let mut random = Random::fork(stage.world.seed, "lost feeds");
    let span = u64::try_from(stage.world.span.as_millis()).unwrap_or(1_000);
    for _ in 0..random.between(1, 2) {
        let wait = random.millis(0, span);
        tokio::time::sleep(wait).await;
        if let Some(system) = random.pick(&stage.systems) {
            stage.trace.note(system.name.as_str(), "the slot is dropped");
            system.lose_feed();
        }
    }
}
