//! One run from its seed: users at work, an engine that is killed at times, peace, judgement, replay. The same seed is
//! the same run, step for step: no real time, no threads, no order that a hash map decides.

use crate::checker::Violation;
use crate::random::Random;
use crate::stage::{End, Kill, Stage, returned};
use crate::users::{Numbers, User};
use crate::world::World;
use futures_util::future::join_all;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
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

/// Runs a world.
pub fn run_world(world: World) -> Report {
    let seed = world.seed;
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(seed, format!("no runtime: {error}")),
    };
    catch_unwind(AssertUnwindSafe(|| runtime.block_on(perform(world)))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        failed(seed, format!("panic: {}", text.unwrap_or_default()))
    })
}

fn failed(seed: u64, what: String) -> Report {
    let violation = Violation { invariant: "running", record: "all".to_owned(), what };
    Report { seed, hash: 0, trace: Vec::new(), violations: vec![violation] }
}

async fn perform(world: World) -> Report {
    let stage = Stage::new(world);
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
    let mut violations = stage.judge().await;
    if violations.is_empty() {
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
    join_all(users).await;
    for system in &stage.systems {
        system.heal();
    }
    stage.trace.note("stage", "users are done; nothing goes wrong any more");
    stage.level().await
}
