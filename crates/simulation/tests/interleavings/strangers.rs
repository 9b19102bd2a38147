//! Records that come while their match is on its way: made by us and not yet answered for, about to be deleted, or gone
//! from a key that is taken anew before its feed tells of it.

use super::{A, B, finds, gate, text, told, world, writes_at_most};
use concord_engine::review::{Review, Subject};
use concord_engine::runtime::command::Resolution;
use concord_engine::value::Value;
use concord_simulation::checker::Violation;
use concord_simulation::database::KeyKind;
use concord_simulation::script::{Script, natural, wrong};
use concord_simulation::system::Gate;
use concord_simulation::world::DeleteRule;

async fn nothing_waits(stage: &Script) -> Vec<Violation> {
    stage.reviews().await.into_iter().map(|review| wrong(format!("waits for a person: {review:?}"))).collect()
}

fn one_each(stage: &Script, tag: &str) -> Vec<Violation> {
    let counts = [A, B].map(|member| stage.count(member, tag));
    (counts != [1, 1]).then(|| wrong(format!("records of {tag}: {counts:?}"))).into_iter().collect()
}

#[test]
fn a_record_that_our_unanswered_create_has_made_is_not_bound_as_a_strangers_match() {
    let test = || {
        let mut world = world(2);
        world.members[B].profile.marks = false;
        told(world, async |stage| {
            let steps = async {
                stage.pause(1_000).await;
                gate(stage, B, Gate::After);
                // Deleted at B and edited at A: it is made anew at B, and the answer is kept from us.
                stage.delete(B, "r1");
                stage.edit(A, "r1", &[("name", text("from a"))]);
                stage.until_shown(B, "r1", "name", &text("from a")).await?;
                stage.delete(A, "r1");
                stage.insert(A, "r1", &[("name", text("made anew"))]);
                stage.pause(2_000).await;
                gate(stage, B, Gate::Open);
                stage.stage.level().await
            };
            let mut found = stage.while_it_lives(steps).await;
            found.extend(stage.expect("r1", "name", Some(&text("made anew"))));
            found.extend(one_each(stage, "r1"));
            // What the user of A made is written over by nobody, and is not made once more.
            found.extend(writes_at_most(stage, A, 1));
            found.extend(nothing_waits(stage).await);
            found
        })
    };
    finds("own_create_taken_for_match", test);
}

#[test]
fn a_record_made_anew_before_its_delete_is_let_through_waits_with_it_and_not_in_a_circle() {
    let test = || {
        let mut world = world(2);
        world.max_deletes = 0;
        told(world, async |stage| {
            let steps = async {
                stage.pause(1_000).await;
                stage.delete(A, "r1");
                stage.pause(1_000).await;
                stage.insert(A, "r1", &[("name", text("made anew"))]);
                // Level though a person has yet to speak.
                stage.stage.level().await?;
                stage.resolve(Resolution::Retry).await?;
                stage.stage.level().await
            };
            let mut found = stage.while_it_lives(steps).await;
            found.extend(stage.expect("r1", "name", Some(&text("made anew"))));
            found.extend(one_each(stage, "r1"));
            found.extend(nothing_waits(stage).await);
            found
        })
    };
    finds("stranger_asks_on", test);
}

#[test]
fn a_create_under_the_key_of_a_record_that_is_gone_unseen_is_not_taken_for_that_record() {
    let test = || {
        let mut world = natural(world(2));
        world.members[B].keys = KeyKind::Serial;
        world.members[A].profile.feed_delay_ms_max = 20_000;
        told(world, async |stage| {
            let steps = async {
                stage.pause(21_000).await;
                gate(stage, A, Gate::Before);
                stage.delete(B, "r1");
                stage.insert(B, "r1", &[("name", text("made anew"))]);
                stage.pause(1_000).await;
                stage.delete(A, "r1");
                gate(stage, A, Gate::Open);
                stage.stage.level().await
            };
            let mut found = stage.while_it_lives(steps).await;
            found.extend(stage.expect("r1", "name", Some(&text("made anew"))));
            found.extend(one_each(stage, "r1"));
            found.extend(nothing_waits(stage).await);
            found.extend(stage.conclude().await);
            found
        })
    };
    finds("key_taken_unnoticed", test);
}

#[test]
fn a_record_that_was_just_given_another_key_is_not_bound_to_a_double_of_its_counterpart() {
    let test = || {
        let mut world = natural(world(2));
        world.members[B].keys = KeyKind::Serial;
        world.members[A].profile.feed_delay_ms_max = 20_000;
        told(world, async |stage| {
            let steps = async {
                stage.pause(21_000).await;
                // Typed in twice at B, which a person is asked about.
                stage.insert(B, "r1", &[("name", text("typed twice"))]);
                stage.pause(1_000).await;
                stage.edit(A, "r1", &[("code", text("another key"))]);
                stage.resolve(Resolution::Retry).await?;
                stage.stage.level().await
            };
            let mut found = stage.while_it_lives(steps).await;
            let reviews = stage.reviews().await;
            if reviews.len() != 1 || stage.count(B, "r1") != 2 {
                found.push(wrong(format!("{} records at B, asked about: {reviews:?}", stage.count(B, "r1"))));
            }
            found
        })
    };
    finds("unheard_bound", test);
}

#[test]
fn a_record_typed_in_again_while_it_is_being_made_is_known_for_a_double_before_it_is_written() {
    let test = || {
        told(world(2), async |stage| {
            let steps = async {
                stage.pause(1_000).await;
                gate(stage, B, Gate::Before);
                stage.insert(A, "new", &[("name", text("typed"))]);
                stage.pause(500).await;
                stage.insert(A, "new", &[("name", text("typed again"))]);
                stage.pause(500).await;
                gate(stage, B, Gate::Open);
                stage.stage.level().await
            };
            let mut found = stage.while_it_lives(steps).await;
            let reviews = stage.reviews().await;
            let is_double = |review: &Review| matches!(review.subject, Subject::Duplicate { member: A, .. });
            if stage.count(B, "new") != 1 || reviews.len() != 1 || !reviews.iter().all(is_double) {
                found.push(wrong(format!("{} made at B, asked about: {reviews:?}", stage.count(B, "new"))));
            }
            found
        })
    };
    finds("reservation_ignored", test);
}

#[test]
fn a_record_that_is_given_another_key_before_its_create_is_answered_is_known_as_ours() {
    let test = || {
        let mut world = natural(world(2));
        world.members[B].profile.marks = false;
        world.members[B].profile.partial_inserts = true;
        told(world, async |stage| {
            let steps = async {
                stage.pause(1_000).await;
                gate(stage, B, Gate::After);
                // Its name is empty.
                stage.insert(A, "new", &[("amount", Value::Int(5))]);
                stage.until_shown(B, "new", "amount", &Value::Int(5)).await?;
                stage.edit(B, "new", &[("code", text("another key"))]);
                stage.pause(1_000).await;
                gate(stage, B, Gate::Open);
                stage.stage.level().await
            };
            let mut found = stage.while_it_lives(steps).await;
            found.extend(stage.expect("new", "code", Some(&text("another key"))));
            found.extend(one_each(stage, "new"));
            found.extend(nothing_waits(stage).await);
            found.extend(stage.conclude().await);
            found
        })
    };
    finds("part_is_measured_by_the_whole", test);
}

#[test]
fn two_who_type_in_the_same_and_take_it_back_leave_no_two_records_where_deletes_are_told_late() {
    for in_one_life in [true, false] {
        let test = || {
            let mut world = world(2);
            world.on_delete = DeleteRule::Ignore;
            world.members[A].profile.feed_delay_ms_max = 5_000;
            world.members[B].profile.feed_delay_ms_max = 5_000;
            told(world, async |stage| {
                let made = async {
                    stage.pause(6_000).await;
                    // Both are told of, and no search has been answered.
                    gate(stage, B, Gate::Looks);
                    stage.insert(A, "new", &[("name", text("typed at a"))]);
                    stage.pause(6_000).await;
                    stage.insert(B, "new", &[("name", text("typed at b"))]);
                    stage.pause(6_000).await;
                    stage.delete(A, "new");
                    stage.delete(B, "new");
                    gate(stage, B, Gate::Open);
                    let shown = stage.until_shown(B, "new", "name", &text("typed at a")).await;
                    // The create is answered.
                    stage.pause(10).await;
                    shown
                };
                let mut found = Vec::new();
                if in_one_life {
                    let steps = async {
                        made.await?;
                        stage.stage.level().await
                    };
                    found.extend(stage.while_it_lives(steps).await);
                } else {
                    found.extend(stage.while_it_lives(made).await);
                }
                found.extend(nothing_waits(stage).await);
                found.extend(stage.conclude().await);
                found
            })
        };
        finds("reservation_ends_untold", test);
    }
}
