//! Feeds that are lost with something under way, and begin anew: what lies in the gap is told by reads alone.

use super::{A, B, finds, gate, text, told, world};
use concord_engine::link::SyncId;
use concord_engine::review::Subject;
use concord_engine::runtime::command::{Request, Resolution};
use concord_engine::value::Value;
use concord_simulation::checker::Violation;
use concord_simulation::database::Trigger;
use concord_simulation::script::{Script, wrong};
use concord_simulation::system::Gate;
use concord_simulation::world::World;

const PEOPLE: SyncId = SyncId(1);

/// A world in which B's feed is slow: what has just been written there, it does not tell before the engine is killed.
fn slow_to_tell() -> World {
    let mut world = world(2);
    world.members[B].profile.feed_delay_ms_max = 60_000;
    world
}

/// The engine starts, stops at the gap, is told to read again, and becomes level.
async fn read_again(stage: &Script) -> Vec<Violation> {
    let steps = async {
        stage.until_stopped().await?;
        stage.ask(Request::Reread(PEOPLE)).await?;
        stage.stage.level().await
    };
    stage.while_it_lives(steps).await
}

#[test]
fn a_write_that_lies_in_an_accepted_gap_is_not_taken_for_an_edit() {
    let test = || {
        told(slow_to_tell(), async |stage| {
            let steps = async {
                stage.pause(1_000).await;
                gate(stage, B, Gate::After);
                stage.edit(A, "r1", &[("name", text("for a moment"))]);
                stage.until_shown(B, "r1", "name", &text("for a moment")).await
            };
            let mut found = stage.while_it_lives(steps).await;
            stage.stage.systems[B].lose_feed();
            stage.edit(A, "r1", &[("name", text("ir1"))]);
            gate(stage, B, Gate::Open);
            found.extend(read_again(stage).await);
            found.extend(stage.expect("r1", "name", Some(&text("ir1"))));
            if stage.writes(A) > 0 {
                found.push(wrong("our own write came back as an edit of b".to_owned()));
            }
            found
        })
    };
    finds("gap_proves_absence", test);
}

#[test]
fn a_create_that_lies_in_an_accepted_gap_is_bound_and_not_repeated() {
    let found = told(slow_to_tell(), async |stage| {
        let steps = async {
            stage.pause(1_000).await;
            gate(stage, B, Gate::After);
            stage.insert(A, "new", &[("name", text("made once"))]);
            stage.until_shown(B, "new", "name", &text("made once")).await
        };
        let mut found = stage.while_it_lives(steps).await;
        stage.stage.systems[B].lose_feed();
        gate(stage, B, Gate::Open);
        found.extend(read_again(stage).await);
        found.extend(stage.expect("new", "name", Some(&text("made once"))));
        let doubled = [A, B].into_iter().filter(|member| stage.count(*member, "new") != 1);
        found.extend(doubled.map(|member| wrong(format!("{} records of it at {member}", stage.count(member, "new")))));
        found
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_create_in_a_gap_that_nothing_would_find_is_for_a_person() {
    let mut world = slow_to_tell();
    world.matched = false;
    let found = told(world, async |stage| {
        let steps = async {
            stage.pause(1_000).await;
            gate(stage, B, Gate::After);
            stage.insert(A, "new", &[("name", text("made once"))]);
            stage.until_shown(B, "new", "name", &text("made once")).await
        };
        let mut found = stage.while_it_lives(steps).await;
        stage.stage.systems[B].lose_feed();
        gate(stage, B, Gate::Open);
        found.extend(read_again(stage).await);
        let doubled = |when: &str| {
            let wrongly = [A, B].into_iter().filter(|member| stage.count(*member, "new") != 1);
            let say = |member| wrong(format!("{} records of it at {member} {when}", stage.count(member, "new")));
            wrongly.map(say).collect::<Vec<_>>()
        };
        found.extend(doubled("before a person spoke"));
        let steps = async {
            stage.pause(1_000).await;
            let reviews = stage.reviews().await;
            let asked = reviews.iter().find(|review| matches!(review.subject, Subject::Ambiguous { .. }));
            let asked = asked.ok_or_else(|| wrong(format!("nobody is asked: {reviews:?}")))?;
            stage.ask(Request::Resolve(asked.id, Resolution::Bind(0))).await?;
            stage.stage.level().await?;
            stage.edit(A, "new", &[("name", text("kept equal"))]);
            stage.stage.level().await
        };
        found.extend(stage.while_it_lives(steps).await);
        found.extend(doubled("after a person spoke"));
        found.extend(stage.expect("new", "name", Some(&text("kept equal"))));
        found.extend(stage.reviews().await.into_iter().map(|review| wrong(format!("still waits: {review:?}"))));
        found
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_system_restored_from_an_older_copy_has_its_say_again() {
    let test = || {
        told(world(2), async |stage| {
            let steps = async {
                for turn in 0..5 {
                    stage.pause(1_000).await;
                    stage.edit(A, "r1", &[("name", text(&format!("turn {turn}")))]);
                }
                stage.stage.level().await
            };
            let mut found = stage.while_it_lives(steps).await;
            stage.stage.systems[A].restore(1);
            stage.edit(A, "r1", &[("name", text("after the restore"))]);
            found.extend(read_again(stage).await);
            found.extend(stage.expect("r1", "name", Some(&text("after the restore"))));
            let steps = async {
                stage.edit(A, "r1", &[("name", text("and later"))]);
                stage.stage.level().await
            };
            found.extend(stage.while_it_lives(steps).await);
            found.extend(stage.expect("r1", "name", Some(&text("and later"))));
            found
        })
    };
    finds("old_life_versions_kept", test);
}

#[test]
fn what_came_while_a_gap_stopped_the_sync_is_decided_when_it_goes_on() {
    let test = || {
        let mut world = world(2);
        world.members[B].profile.feed_delay_ms_max = 5_000;
        told(world, async |stage| {
            let steps = async {
                stage.pause(1_000).await;
                gate(stage, B, Gate::Before);
                stage.delete(A, "r1");
                stage.pause(1_000).await;
                stage.stage.systems[A].lose_feed();
                stage.until_stopped().await?;
                // Our delete, and its echo.
                gate(stage, B, Gate::Open);
                stage.pause(6_000).await;
                stage.ask(Request::Reread(PEOPLE)).await?;
                stage.stage.level().await
            };
            let mut found = stage.while_it_lives(steps).await;
            found.extend(stage.expect("r1", "name", None));
            found
        })
    };
    finds("gap_leaves_pending", test);
}

#[test]
fn a_stranger_that_went_in_a_gap_is_made_nowhere() {
    let test = || {
        told(world(2), async |stage| {
            gate(stage, B, Gate::Looks);
            let steps = async {
                stage.pause(1_000).await;
                stage.insert(A, "new", &[("name", text("not for long"))]);
                stage.pause(1_000).await;
                Ok(())
            };
            let mut found = stage.while_it_lives(steps).await;
            stage.delete(A, "new");
            stage.stage.systems[A].lose_feed();
            let steps = async {
                stage.until_stopped().await?;
                stage.ask(Request::Reread(PEOPLE)).await?;
                // Everything at A has been read before its match is looked for.
                stage.pause(5_000).await;
                gate(stage, B, Gate::Open);
                stage.stage.level().await
            };
            found.extend(stage.while_it_lives(steps).await);
            found.extend(stage.expect("new", "name", None));
            found
        })
    };
    finds("old_life_strangers_kept", test);
}

#[test]
fn a_write_in_a_gap_of_which_a_trigger_made_something_else_is_no_edit() {
    let test = || {
        let mut world = slow_to_tell();
        let name = world.native(B, 1);
        world.members[B].triggers.push(Trigger::Truncate(name, 8));
        told(world, async |stage| {
            let steps = async {
                stage.pause(1_000).await;
                gate(stage, B, Gate::After);
                stage.edit(A, "r1", &[("name", text("longer than that")), ("amount", Value::Int(5))]);
                stage.until_shown(B, "r1", "amount", &Value::Int(5)).await
            };
            let mut found = stage.while_it_lives(steps).await;
            stage.stage.systems[B].lose_feed();
            stage.edit(A, "r1", &[("amount", Value::Int(6))]);
            gate(stage, B, Gate::Open);
            found.extend(read_again(stage).await);
            found.extend(stage.expect("r1", "amount", Some(&Value::Int(6))));
            found
        })
    };
    finds("half_a_write_is_none", test);
}

#[test]
fn a_feed_that_begins_anew_and_nobody_was_asked_has_what_came_before_read() {
    let test = || {
        told(world(2), async |stage| {
            stage.stage.forget_feed(B);
            stage.edit(B, "r1", &[("name", text("unseen"))]);
            let mut found = stage.while_it_lives(stage.stage.level()).await;
            found.extend(stage.expect("r1", "name", Some(&text("unseen"))));
            found
        })
    };
    finds("anew_unnoticed", test);
}
