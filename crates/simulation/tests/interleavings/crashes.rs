//! Crashes between what is durable and what is only known: counters, wishes, progress.

use super::{A, B, finds, gate, text, told, world};
use concord_engine::link::SyncId;
use concord_engine::review::Subject;
use concord_engine::runtime::command::{Request, Resolution};
use concord_engine::value::Value;
use concord_simulation::checker::Violation;
use concord_simulation::database::KeyKind;
use concord_simulation::script::{Script, natural, play, wrong};
use concord_simulation::system::Gate;
use concord_simulation::world::{Seeded, World};

const PEOPLE: SyncId = SyncId(1);
const RECORDS: [&str; 6] = ["r1", "r2", "r3", "r4", "r5", "r6"];

fn with_records(mut world: World) -> World {
    world.contents = RECORDS.map(|tag| Seeded { tag: tag.to_owned(), at: vec![Some(String::new()); 2] }).to_vec();
    world
}

/// What is wrong where nobody is asked about a mass delete.
async fn unless_asked(stage: &Script) -> Option<Violation> {
    let asked = stage.reviews().await;
    let is_asked = asked.iter().any(|review| matches!(review.subject, Subject::MassChange { .. }));
    (!is_asked).then(|| wrong(format!("nobody is asked: {asked:?}")))
}

#[test]
fn a_mass_delete_that_a_crash_cuts_in_two_is_still_a_mass_delete() {
    let test = || {
        let mut world = with_records(world(2));
        world.max_deletes = 2;
        told(world, async |stage| {
            let steps = async {
                stage.pause(1_000).await;
                stage.delete(A, "r1");
                stage.delete(A, "r2");
                stage.stage.level().await
            };
            let mut found = stage.while_it_lives(steps).await;
            let steps = async {
                stage.pause(1_000).await;
                stage.delete(A, "r3");
                stage.delete(A, "r4");
                stage.stage.level().await
            };
            found.extend(stage.while_it_lives(steps).await);
            found.extend(unless_asked(stage).await);
            if stage.count(B, "r4") != 1 {
                found.push(wrong("deleted behind the guard".to_owned()));
            }
            found
        })
    };
    finds("guard_forgets", test);
}

#[test]
fn what_goes_away_after_a_mass_delete_was_let_through_is_asked_about_anew() {
    let test = || {
        let mut world = with_records(world(2));
        world.max_deletes = 2;
        told(world, async |stage| {
            let steps = async {
                stage.pause(1_000).await;
                stage.ask(Request::Pause(PEOPLE)).await?;
                RECORDS[..3].iter().for_each(|tag| assert!(stage.delete(A, tag)));
                stage.pause(1_000).await;
                stage.resolve(Resolution::Retry).await?;
                RECORDS[3..5].iter().for_each(|tag| assert!(stage.delete(A, tag)));
                stage.pause(1_000).await;
                Ok(())
            };
            let mut found = stage.while_it_lives(steps).await;
            // The last one too many comes after a crash.
            let steps = async {
                assert!(stage.delete(A, "r6"));
                stage.pause(1_000).await;
                stage.ask(Request::Resume(PEOPLE)).await?;
                stage.pause(5_000).await;
                Ok(())
            };
            found.extend(stage.while_it_lives(steps).await);
            found.extend(unless_asked(stage).await);
            let gone = RECORDS.iter().filter(|tag| stage.count(B, tag) == 0);
            found.extend(gone.map(|tag| wrong(format!("{tag} was deleted unasked"))));
            found
        })
    };
    finds("verdict_without_end", test);
}

/// What is wrong after a kill between the two halves of a swap of keys, the first of them being durable.
fn killed_within_a_swap() -> Vec<Violation> {
    let mut world = natural(with_records(world(2)));
    world.members[B].keys = KeyKind::Serial;
    world.members[A].profile.feed_batch_max = 1;
    told(world, async |stage| {
        let steps = async {
            stage.pause(1_000).await;
            gate(stage, A, Gate::Middle);
            stage.swap(A, "r1", "r2");
            stage.pause(1_000).await;
            Ok(())
        };
        let mut found = stage.while_it_lives(steps).await;
        gate(stage, A, Gate::Open);
        let steps = async {
            stage.edit(A, "r1", &[("name", text("the first"))]);
            stage.edit(A, "r2", &[("name", text("the second"))]);
            stage.stage.level().await
        };
        found.extend(stage.while_it_lives(steps).await);
        found.extend(stage.expect("r1", "name", Some(&text("the first"))));
        found.extend(stage.expect("r2", "name", Some(&text("the second"))));
        found
    })
}

#[test]
fn an_edit_that_the_read_shows_which_verifies_a_write_is_as_old_as_the_feed_told() {
    let test = || {
        let mut world = world(2);
        world.members[B].profile.marks = false;
        told(world, async |stage| {
            let steps = async {
                stage.pause(1_000).await;
                gate(stage, B, Gate::After);
                stage.edit(A, "r1", &[("name", text("in doubt"))]);
                stage.until_shown(B, "r1", "name", &text("in doubt")).await
            };
            let mut found = stage.while_it_lives(steps).await;
            gate(stage, B, Gate::Reads);
            stage.edit(B, "r1", &[("amount", Value::Int(40))]);
            stage.pause(100).await;
            stage.edit(A, "r1", &[("amount", Value::Int(50))]);
            let steps = async {
                stage.pause(5_000).await;
                gate(stage, B, Gate::Open);
                stage.stage.level().await
            };
            found.extend(stage.while_it_lives(steps).await);
            found.extend(stage.expect("r1", "name", Some(&text("in doubt"))));
            found.extend(stage.expect("r1", "amount", Some(&Value::Int(50))));
            found
        })
    };
    finds("verified_edit_is_new", test);
}

#[test]
fn a_kill_between_the_halves_of_a_swap_of_keys_confuses_nobody() {
    finds("displaced_forgotten", killed_within_a_swap);
}

#[test]
fn more_strangers_than_there_is_room_for_all_come_through() {
    let test = || {
        let mut world = world(2);
        world.max_unidentified = 2;
        told(world, async |stage| {
            let tags: Vec<String> = (0..30).map(|number| format!("new {number}")).collect();
            let steps = async {
                stage.pause(1_000).await;
                for tag in &tags {
                    stage.insert(A, tag, &[("name", text(tag))]);
                }
                stage.stage.level().await
            };
            let mut found = stage.while_it_lives(steps).await;
            let missing = tags.iter().filter(|tag| stage.count(B, tag) != 1);
            found.extend(missing.map(|tag| wrong(format!("{tag} did not come through"))));
            found
        })
    };
    finds("spill_forgotten", test);
}

/// Everything that some kill of the engine while it asks after its records gets wrong.
fn killed_while_sweeping() -> Vec<Violation> {
    let kills = (0..400).step_by(4);
    let one = |millis: u64| {
        let mut world = with_records(world(2));
        world.members[A].profile.call_ms_max = 60;
        told(world, async |stage| {
            stage.stage.systems[A].lose_feed();
            stage.delete(A, "r2");
            let steps = async {
                stage.until_stopped().await?;
                stage.ask(Request::Reread(PEOPLE)).await?;
                stage.pause(millis).await;
                Ok(())
            };
            let mut found = stage.while_it_lives(steps).await;
            found.extend(stage.while_it_lives(stage.stage.level()).await);
            if stage.count(B, "r2") != 0 {
                found.push(wrong(format!("a delete in the gap was overlooked, with a kill after {millis} ms")));
            }
            found
        })
    };
    kills.flat_map(one).collect()
}

#[test]
fn a_kill_while_linked_records_are_asked_after_overlooks_none() {
    finds("sweep_runs_ahead", killed_while_sweeping);
}

/// What is wrong after a kill between an observation of unknown order, which was let go of, and the answer of the read that
/// is made in its place: the first edit after a read is such a one.
fn killed_before_the_read() -> Vec<Violation> {
    let mut world = world(2);
    world.members[A].profile.vague_reads = true;
    told(world, async |stage| {
        let steps = async {
            stage.pause(1_000).await;
            stage.ask(Request::Reread(PEOPLE)).await?;
            stage.stage.level().await?;
            gate(stage, A, Gate::Reads);
            stage.edit(A, "r1", &[("amount", Value::Int(7)), ("name", text("edited"))]);
            stage.pause(2_000).await;
            Ok(())
        };
        let mut found = stage.while_it_lives(steps).await;
        gate(stage, A, Gate::Open);
        found.extend(stage.while_it_lives(stage.stage.level()).await);
        found.extend(stage.expect("r1", "name", Some(&text("edited"))));
        found.extend(stage.expect("r1", "amount", Some(&Value::Int(7))));
        found
    })
}

#[test]
fn what_cannot_be_ordered_is_read_although_a_kill_comes_first() {
    finds("unordered_forgotten", killed_before_the_read);
}

/// What is wrong after a kill that comes when a read has been answered which was asked for before the last observation was
/// let go of in favour of another one.
fn killed_between_two_reads() -> Vec<Violation> {
    let mut world = world(2);
    world.members[A].profile.vague_reads = true;
    world.members[A].profile.vague_by = 4;
    told(world, async |stage| {
        let steps = async {
            stage.pause(1_000).await;
            stage.ask(Request::Reread(PEOPLE)).await?;
            stage.stage.level().await?;
            gate(stage, A, Gate::Answers);
            stage.edit(A, "r1", &[("name", text("first"))]);
            stage.pause(2_000).await;
            stage.edit(A, "r1", &[("name", text("second"))]);
            stage.pause(2_000).await;
            gate(stage, A, Gate::Reads);
            stage.pause(2_000).await;
            Ok(())
        };
        let mut found = stage.while_it_lives(steps).await;
        gate(stage, A, Gate::Open);
        found.extend(stage.while_it_lives(stage.stage.level()).await);
        found.extend(stage.expect("r1", "name", Some(&text("second"))));
        found
    })
}

#[test]
fn a_read_from_before_an_observation_of_unknown_order_does_not_stand_in_for_the_one_after_it() {
    finds("older_read_meets_wish", killed_between_two_reads);
}

/// What is wrong when a feed tells again what it told before the sync began, of a record that was gone by then.
fn told_again_from_before_the_beginning() -> Vec<Violation> {
    let mut world = world(2);
    world.members[A].profile.feed_batch_max = 1;
    world.fsync_ms_max = 80;
    play(world, async |stage| {
        gate(stage, B, Gate::Prepares);
        let steps = async {
            stage.pause(1_000).await;
            stage.insert(A, "short-lived", &[("name", text("hardly seen"))]);
            // So that the feed, given again, tells of the insert long before it tells of the delete.
            for edit in 0..40 {
                stage.edit(A, "r1", &[("amount", Value::Int(edit))]);
            }
            stage.delete(A, "short-lived");
            stage.pause(20_000).await;
            gate(stage, B, Gate::Open);
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        found.extend(stage.conclude().await);
        found
    })
}

#[test]
fn what_was_over_before_the_sync_began_is_no_news_when_it_is_told_again() {
    finds("before_the_beginning_is_news", told_again_from_before_the_beginning);
}
