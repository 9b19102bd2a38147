//! A person's decisions at moments at which nothing can follow them: they are kept, and followed when it can.

use super::{A, B, finds, gate, proven, text, told, world};
use concord_engine::link::SyncId;
use concord_engine::runtime::command::{Request, Resolution};
use concord_engine::value::Value;
use concord_simulation::checker::Violation;
use concord_simulation::script::{Script, wrong};
use concord_simulation::system::Gate;
use concord_simulation::world::{Decide, Seeded, World};

const PEOPLE: SyncId = SyncId(1);

/// A world in which conflicts are for a person.
fn asking() -> World {
    let mut world = world(2);
    world.groups = vec![Decide::Person; world.groups.len()];
    world
}

/// Both members edit the name; a person is asked.
async fn conflict(stage: &Script) -> Result<(), Violation> {
    stage.pause(1_000).await;
    stage.edit(A, "r1", &[("name", text("from a"))]);
    stage.edit(B, "r1", &[("name", text("from b"))]);
    stage.stage.level().await
}

/// A write of another field of the record stands before B.
async fn a_write_is_under_way(stage: &Script) {
    gate(stage, B, Gate::Before);
    stage.edit(A, "r1", &[("amount", Value::Int(7))]);
    stage.pause(1_000).await;
}

async fn nothing_waits(stage: &Script) -> Vec<Violation> {
    stage.reviews().await.into_iter().map(|review| wrong(format!("still waits for a person: {review:?}"))).collect()
}

#[test]
fn a_ruling_on_a_record_that_is_being_written_is_followed_when_it_is_free() {
    proven(asking(), async |stage| {
        let steps = async {
            conflict(stage).await?;
            a_write_is_under_way(stage).await;
            stage.resolve(Resolution::Take(A)).await?;
            gate(stage, B, Gate::Open);
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        found.extend(stage.expect("r1", "name", Some(&text("from a"))));
        found.extend(stage.expect("r1", "amount", Some(&Value::Int(7))));
        found.extend(nothing_waits(stage).await);
        found
    });
}

#[test]
fn a_ruling_on_a_record_that_is_being_written_outlives_a_kill() {
    let test = || {
        told(asking(), async |stage| {
            let steps = async {
                conflict(stage).await?;
                a_write_is_under_way(stage).await;
                stage.resolve(Resolution::Give(vec![text("from a person")])).await
            };
            let mut found = stage.while_it_lives(steps).await;
            gate(stage, B, Gate::Open);
            found.extend(stage.while_it_lives(stage.stage.level()).await);
            found.extend(stage.expect("r1", "name", Some(&text("from a person"))));
            found.extend(stage.expect("r1", "amount", Some(&Value::Int(7))));
            found.extend(nothing_waits(stage).await);
            found
        })
    };
    finds("ruling_forgotten", test);
}

#[test]
fn two_rulings_on_one_record_right_after_each_other_are_both_followed() {
    proven(asking(), async |stage| {
        let steps = async {
            stage.pause(1_000).await;
            stage.edit(A, "r1", &[("name", text("from a")), ("amount", Value::Int(1))]);
            stage.edit(B, "r1", &[("name", text("from b")), ("amount", Value::Int(2))]);
            stage.stage.level().await?;
            let reviews = stage.reviews().await;
            for review in &reviews {
                stage.ask(Request::Resolve(review.id, Resolution::Take(A))).await?;
            }
            if reviews.len() != 2 {
                return Err(wrong(format!("two conflicts, not {reviews:?}")));
            }
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        found.extend(stage.expect("r1", "name", Some(&text("from a"))));
        found.extend(stage.expect("r1", "amount", Some(&Value::Int(1))));
        found.extend(nothing_waits(stage).await);
        found
    });
}

#[test]
fn a_ruling_while_the_sync_is_paused_is_followed_when_it_goes_on() {
    proven(asking(), async |stage| {
        let steps = async {
            conflict(stage).await?;
            stage.ask(Request::Pause(PEOPLE)).await?;
            stage.resolve(Resolution::Take(B)).await
        };
        let mut found = stage.while_it_lives(steps).await;
        let steps = async {
            stage.pause(1_000).await;
            stage.ask(Request::Resume(PEOPLE)).await?;
            stage.stage.level().await
        };
        found.extend(stage.while_it_lives(steps).await);
        found.extend(stage.expect("r1", "name", Some(&text("from b"))));
        found.extend(nothing_waits(stage).await);
        found
    });
}

const RECORDS: [&str; 6] = ["r1", "r2", "r3", "r4", "r5", "r6"];

/// Six records, of which none may go without asking.
fn guarded() -> World {
    let mut world = world(2);
    world.contents = RECORDS.map(|tag| Seeded { tag: tag.to_owned(), at: vec![Some(String::new()); 2] }).to_vec();
    world.max_deletes = 0;
    world
}

fn quiet(world: World, script: impl AsyncFnOnce(&Script) -> Vec<Violation>) {
    let found = told(world, script);
    assert!(found.is_empty(), "{found:#?}");
}

fn all_stand(stage: &Script) -> Vec<Violation> {
    let gone = |member: usize| RECORDS.into_iter().filter(move |tag| stage.shows(member, tag, "name").is_none());
    [A, B].into_iter().flat_map(|member| gone(member).map(move |tag| wrong(format!("{tag} is gone at {member}")))).collect()
}

async fn most_are_deleted(stage: &Script) {
    for tag in &RECORDS[..4] {
        stage.delete(A, tag);
    }
    stage.pause(1_000).await;
}

#[test]
fn a_mass_delete_is_undone_for_a_record_that_is_being_written_too() {
    for kill in [false, true] {
        quiet(guarded(), async |stage| {
            let steps = async {
                stage.pause(1_000).await;
                a_write_is_under_way(stage).await;
                most_are_deleted(stage).await;
                stage.resolve(Resolution::Ignore).await?;
                if !kill {
                    gate(stage, B, Gate::Open);
                    stage.stage.level().await?;
                }
                Ok(())
            };
            let mut found = stage.while_it_lives(steps).await;
            gate(stage, B, Gate::Open);
            found.extend(stage.while_it_lives(stage.stage.level()).await);
            found.extend(all_stand(stage));
            found.extend(nothing_waits(stage).await);
            found
        });
    }
}

#[test]
fn what_is_said_about_a_mass_delete_while_the_sync_is_paused_outlives_a_kill() {
    quiet(guarded(), async |stage| {
        let steps = async {
            stage.pause(1_000).await;
            most_are_deleted(stage).await;
            stage.ask(Request::Pause(PEOPLE)).await?;
            stage.resolve(Resolution::Ignore).await
        };
        let mut found = stage.while_it_lives(steps).await;
        let steps = async {
            stage.pause(1_000).await;
            stage.ask(Request::Resume(PEOPLE)).await?;
            stage.stage.level().await
        };
        found.extend(stage.while_it_lives(steps).await);
        found.extend(all_stand(stage));
        found.extend(nothing_waits(stage).await);
        found
    });
}

#[test]
fn what_is_owed_of_records_whose_delete_is_in_question_stands_in_nobodys_way() {
    let test = || {
        let mut world = guarded();
        world.batch_size = 1;
        world.parallelism = 1;
        told(world, async |stage| {
            let steps = async {
                stage.pause(1_000).await;
                gate(stage, B, Gate::Before);
                // Two are being written; the others wait for room, those that are then deleted before the last one.
                for tag in RECORDS {
                    stage.edit(A, tag, &[("name", text("from a"))]);
                    stage.pause(1_500).await;
                }
                for tag in &RECORDS[2..5] {
                    stage.delete(A, tag);
                }
                stage.pause(1_000).await;
                gate(stage, B, Gate::Open);
                stage.until_shown(B, "r6", "name", &text("from a")).await?;
                stage.stage.level().await
            };
            stage.while_it_lives(steps).await
        })
    };
    finds("debts_of_the_held_stay", test);
}
