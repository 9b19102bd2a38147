//! What work costs: rows of the store and looks into it, counted. A first load into a system that gives keys of its own, which are
//! written back, touches every record more than once, and nothing more often than it must; and it leaves room for what is news.

use super::{A, B, finds, gate, text, world};
use concord_engine::link::SyncId;
use concord_engine::runtime::command::Request;
use concord_engine::value::Value;
use concord_simulation::checker::Violation;
use concord_simulation::script::{Script, play, wrong};
use concord_simulation::store::Effort;
use concord_simulation::system::Gate;
use concord_simulation::world::{Decide, FieldKind, Flow, Purpose, Seeded, World, WorldField};

/// The sync of every scripted world.
const PEOPLE: SyncId = SyncId(1);

/// So many records of B that A, which is read first, has never seen, and nothing to match them by. A gives keys, and B is told of
/// them. Whatever a feed hands out at once, what follows from it can fly.
fn to_be_loaded(records: usize) -> World {
    let mut world = World::plain(2);
    world.matched = false;
    world.fields.push(WorldField {
        name: "a_id",
        kind: FieldKind::Number,
        flow: Flow::From(A),
        purpose: Purpose::KeyOf(A),
        group: 3,
        short_at: None,
    });
    world.groups.push(Decide::Latest);
    world.contents = (0..records).map(|n| Seeded { tag: format!("r{n}"), at: vec![None, Some(String::new())] }).collect();
    (world.batch_size, world.parallelism) = (records, 8);
    world
}

fn unless(holds: bool, what: impl FnOnce() -> String) -> Vec<Violation> {
    if holds { Vec::new() } else { vec![wrong(what())] }
}

/// Every record is there, and its key is written back.
fn all_are_back(stage: &Script) -> Vec<Violation> {
    let missing = |seeded: &&Seeded| {
        !matches!(stage.shows(B, &seeded.tag, "a_id"), Some(Value::Int(_))) || stage.count(A, &seeded.tag) != 1
    };
    let missing: Vec<&Seeded> = stage.stage.world.contents.iter().filter(missing).collect();
    unless(missing.is_empty(), || format!("not loaded, or without a key: {missing:?}"))
}

/// What loading so many costs.
fn effort_of(world: World) -> Effort {
    let mut effort = Effort::default();
    let found = play(world, async |stage| {
        let mut found = stage.while_it_lives(stage.stage.level()).await;
        effort = stage.stage.store.effort();
        found.extend(all_are_back(stage));
        found.extend(stage.conclude().await);
        found
    });
    assert!(found.is_empty(), "{found:#?}");
    effort
}

#[test]
fn a_record_that_nothing_could_be_searched_by_is_made_by_the_event_that_brings_it() {
    let effort = effort_of(to_be_loaded(60));
    assert_eq!(effort.pending, 0, "what is decided about at once is not put down first: {effort:?}");
    assert_eq!(effort.owed, 0, "{effort:?}");
}

#[test]
fn a_load_looks_into_the_store_by_the_batch_and_writes_each_link_three_times() {
    let (few, many) = (effort_of(to_be_loaded(20)), effort_of(to_be_loaded(120)));
    assert!(many.looks < few.looks + 60, "{few:?}, {many:?}");
    // Made and flying; settled, its key flying back; settled.
    assert!(many.links <= 3 * 120, "{many:?}");
}

#[test]
fn what_is_read_while_a_load_has_all_its_flights_waits_in_memory_and_makes_no_debts() {
    let mut world = to_be_loaded(60);
    (world.chunk, world.batch_size, world.parallelism) = (10, 10, 1);
    let found = play(world, async |stage| {
        gate(stage, A, Gate::Before);
        let steps = async {
            stage.pause(2_000).await;
            let effort = stage.stage.store.effort();
            if let Some(found) = unless(effort.owed == 0, || format!("debts while nothing can fly: {effort:?}")).pop() {
                return Err(found);
            }
            gate(stage, A, Gate::Open);
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        found.extend(all_are_back(stage));
        found.extend(stage.conclude().await);
        found
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn what_has_to_be_searched_for_is_read_on_while_a_load_has_all_its_flights() {
    let mut world = to_be_loaded(60);
    world.matched = true;
    (world.chunk, world.batch_size, world.parallelism) = (10, 10, 1);
    let found = play(world, async |stage| {
        gate(stage, A, Gate::Before);
        let steps = async {
            stage.pause(5_000).await;
            let effort = stage.stage.store.effort();
            if let Some(found) = unless(effort.owed >= 50, || format!("not all are on the list: {effort:?}")).pop() {
                return Err(found);
            }
            gate(stage, A, Gate::Open);
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        found.extend(all_are_back(stage));
        found.extend(stage.conclude().await);
        found
    });
    assert!(found.is_empty(), "{found:#?}");
}

/// What is wrong where a user of B deletes one record of a chunk that waits and edits another, and the sync is paused meanwhile.
fn worked_on_while_a_chunk_waits() -> Vec<Violation> {
    let mut world = to_be_loaded(40);
    (world.chunk, world.batch_size, world.parallelism) = (10, 10, 1);
    play(world, async |stage| {
        gate(stage, A, Gate::Before);
        let steps = async {
            stage.pause(2_000).await;
            stage.delete(B, "r12");
            stage.edit(B, "r13", &[("name", text("edited"))]);
            stage.pause(1_000).await;
            stage.ask(Request::Pause(PEOPLE)).await?;
            gate(stage, A, Gate::Open);
            stage.pause(2_000).await;
            if let Some(found) = unless(stage.count(A, "r15") == 0, || "written while paused".to_owned()).pop() {
                return Err(found);
            }
            // No key comes back for now: what is made stays for long enough to be seen.
            gate(stage, B, Gate::Before);
            stage.ask(Request::Resume(PEOPLE)).await?;
            stage.until_shown(A, "r15", "name", &stage.shows(B, "r15", "name").unwrap()).await?;
            if let Some(found) = unless(stage.count(A, "r12") == 0, || "made after it had gone".to_owned()).pop() {
                return Err(found);
            }
            gate(stage, B, Gate::Open);
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        found.extend(stage.expect("r13", "name", Some(&text("edited"))));
        found.extend(stage.conclude().await);
        found
    })
}

#[test]
fn what_goes_or_changes_while_its_chunk_waits_is_taken_as_it_is_by_then() {
    finds("orphan_delete_forgotten", worked_on_while_a_chunk_waits);
}

#[test]
fn a_load_that_is_killed_while_a_chunk_waits_reads_it_again() {
    let mut world = to_be_loaded(40);
    (world.chunk, world.batch_size, world.parallelism) = (10, 10, 1);
    let found = play(world, async |stage| {
        gate(stage, A, Gate::Before);
        let mut found = stage.killed_after(1_500, async { Ok(()) }).await;
        gate(stage, A, Gate::Open);
        found.extend(stage.while_it_lives(stage.stage.level()).await);
        found.extend(all_are_back(stage));
        found.extend(stage.conclude().await);
        found
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn what_a_feed_has_only_read_is_of_no_load_once_everything_had_been_read() {
    let mut world = to_be_loaded(10);
    world.parallelism = 1;
    world.members[B].profile.looks_ahead = 100;
    world.members[B].profile.feed_batch_max = 1;
    let found = play(world, async |stage| {
        gate(stage, A, Gate::Before);
        let flying = || stage.stage.status().map(|status| status.syncs[0].members[A].in_flight);
        let steps = async {
            stage.pause(2_000).await;
            if let Some(found) = unless(flying() == Some(10), || format!("{:?} fly of a load of 10", flying())).pop() {
                return Err(found);
            }
            // Its feed says what it has read, and not when that was edited.
            gate(stage, B, Gate::Middle);
            stage.insert(B, "new", &[("name", text("made later"))]);
            stage.pause(2_000).await;
            if let Some(found) = unless(flying() == Some(11), || format!("{:?} fly, news among them", flying())).pop() {
                return Err(found);
            }
            gate(stage, B, Gate::Open);
            gate(stage, A, Gate::Open);
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        found.extend(all_are_back(stage));
        found.extend(stage.conclude().await);
        found
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn what_a_feed_has_only_read_is_searched_for_as_news_while_calls_are_short() {
    let mut world = world(2);
    world.members[B].profile.looks_ahead = 100;
    world.members[B].profile.feed_batch_max = 1;
    let found = play(world, async |stage| {
        let steps = async {
            stage.stage.level().await?;
            stage.stage.systems[A].spare(true);
            gate(stage, B, Gate::Middle);
            stage.insert(B, "new", &[("name", text("made later"))]);
            stage.pause(5_000).await;
            if let Some(found) = unless(stage.count(A, "new") == 1, || "news waits with a first load".to_owned()).pop() {
                return Err(found);
            }
            gate(stage, B, Gate::Open);
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        found.extend(stage.conclude().await);
        found
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_first_load_waits_while_calls_are_short_and_flies_in_batches_of_its_own() {
    let mut world = to_be_loaded(60);
    world.batch_size = 5;
    world.members[A].profile.load_batch = Some(25);
    let found = play(world, async |stage| {
        stage.stage.systems[A].spare(true);
        let steps = async {
            stage.pause(5_000).await;
            let (loads, others) = stage.stage.systems[A].largest_calls();
            if let Some(found) = unless((loads, others) == (0, 0), || format!("{loads} and {others} written")).pop() {
                return Err(found);
            }
            stage.insert(B, "new", &[("name", text("made meanwhile"))]);
            stage.until_shown(A, "new", "name", &text("made meanwhile")).await?;
            stage.stage.systems[A].spare(false);
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        found.extend(all_are_back(stage));
        let (loads, others) = stage.stage.systems[A].largest_calls();
        found.extend(unless(loads == 25, || format!("the largest call of the load brought {loads}")));
        found.extend(unless((1..=5).contains(&others), || format!("the largest other call brought {others}")));
        found.extend(stage.conclude().await);
        found
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn what_finds_no_room_stays_on_the_list_of_debts_as_it_is() {
    // A takes 50 at once, of the 200 that the sync would have, and one flight of a load.
    let mut world = to_be_loaded(400);
    (world.batch_size, world.parallelism) = (200, 1);
    let effort = effort_of(world);
    assert!(effort.owed > 0, "{effort:?}");
    // Once for what is to be made, and once for the key that comes back.
    assert!(effort.owed <= 2 * 400, "{effort:?}");
}
