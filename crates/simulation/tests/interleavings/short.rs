//! Writes that have to be made with little: with the few calls that a system still lets us make, and with the few flights to it
//! while a first load fills them.

use super::{A, B, finds, gate, proven, text, told, world, writes_at_most};
use concord_engine::connector::Allowance;
use concord_engine::value::Value;
use concord_simulation::checker::Violation;
use concord_simulation::script::{play, wrong};
use concord_simulation::system::Gate;
use concord_simulation::world::{Seeded, World};

/// So few calls are left that a batch is written each minute, and so many are made.
const SHORT: Allowance = Allowance { used: 90, allowed: 100, own: 60, share: 100, forecast: 200 };

#[test]
fn edits_are_gathered_where_the_calls_of_a_day_would_not_do() {
    let mut world = world(2);
    world.members[B].profile.allowance = Some(SHORT);
    proven(world, async |stage| {
        let steps = async {
            stage.pause(1_000).await;
            for number in 0..30 {
                stage.edit(A, "r1", &[("amount", Value::Int(number))]);
                stage.pause(1_000).await;
            }
            // Where calls are not short, nothing waits: an edit of B is at A long before.
            stage.edit(B, "r1", &[("name", text("from b"))]);
            stage.pause(1_000).await;
            if stage.shows(A, "r1", "name") != Some(text("from b")) {
                return Err(wrong("an edit of b waits for calls of b".to_owned()));
            }
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        found.extend(stage.expect("r1", "amount", Some(&Value::Int(29))));
        found.extend(writes_at_most(stage, B, 2));
        found
    });
}

/// What is wrong where two syncs write to a system that is short of calls, each a field of the same record, edited all the while.
fn two_syncs_of_a_system_that_is_short_of_calls() -> Vec<Violation> {
    let mut world = world(2);
    world.members[B].profile.allowance = Some(SHORT);
    world.further.apart = Some("amount");
    told(world, async |stage| {
        let steps = async {
            stage.pause(1_000).await;
            for number in 0..100 {
                stage.edit(A, "r1", &[("amount", Value::Int(number)), ("name", text(&format!("name {number}")))]);
                stage.pause(1_000).await;
            }
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        found.extend(stage.expect("r1", "amount", Some(&Value::Int(99))));
        found.extend(stage.expect("r1", "name", Some(&text("name 99"))));
        // Each at the beginning, and two minutes later: one a minute of both together.
        found.extend(writes_at_most(stage, B, 4));
        found
    })
}

#[test]
fn syncs_that_write_to_one_system_share_the_calls_that_it_has_left() {
    finds("calls_unshared", two_syncs_of_a_system_that_is_short_of_calls);
}

/// How many records a first load brings.
const LOADED: usize = 120;

/// A world whose first load has many records to bring to B, where two are already.
fn to_be_loaded() -> World {
    let mut world = world(2);
    world.contents.push(Seeded { tag: "r2".to_owned(), at: vec![Some(String::new()); 2] });
    world.contents.extend((0..LOADED).map(|number| Seeded { tag: format!("n{number}"), at: vec![Some(String::new()), None] }));
    world.batch_size = 5;
    world
}

/// What is wrong where people edit while a first load has filled its flights and the list of what is to be written.
fn edited_while_it_is_loaded() -> Vec<Violation> {
    let mut world = to_be_loaded();
    world.parallelism = 1;
    play(world, async |stage| {
        gate(stage, B, Gate::Before);
        let at_b = || (0..LOADED).filter(|number| stage.count(B, &format!("n{number}")) > 0).count();
        let steps = async {
            stage.pause(5_000).await;
            // The first edit takes the flight that a load leaves free, the second finds none.
            stage.edit(A, "r1", &[("name", text("first"))]);
            stage.pause(1_000).await;
            stage.edit(A, "r2", &[("name", text("second"))]);
            stage.pause(1_000).await;
            gate(stage, B, Gate::Open);
            stage.until_shown(B, "r2", "name", &text("second")).await?;
            let before = at_b();
            if before > LOADED / 4 {
                return Err(wrong(format!("an edit waited for {before} records of a first load")));
            }
            stage.stage.level().await?;
            if at_b() != LOADED {
                return Err(wrong(format!("{} of {LOADED} records are there", at_b())));
            }
            Ok(())
        };
        stage.while_it_lives(steps).await
    })
}

#[test]
fn what_people_do_is_written_before_what_a_first_load_has_put_on_the_list() {
    finds("people_behind_loads", edited_while_it_is_loaded);
}

/// What is wrong where edits are gathered while a first load goes on.
fn loaded_while_edits_are_gathered() -> Vec<Violation> {
    let mut world = to_be_loaded();
    world.members[B].profile.allowance = Some(SHORT);
    play(world, async |stage| {
        gate(stage, B, Gate::Before);
        let at_b = || (0..LOADED).filter(|number| stage.count(B, &format!("n{number}")) > 0).count();
        let steps = async {
            stage.pause(5_000).await;
            stage.edit(A, "r1", &[("name", text("first"))]);
            stage.pause(1_000).await;
            gate(stage, B, Gate::Open);
            stage.until_shown(B, "r1", "name", &text("first")).await?;
            stage.edit(A, "r1", &[("name", text("second"))]);
            stage.pause(20_000).await;
            if stage.shows(B, "r1", "name") != Some(text("first")) {
                return Err(wrong("the next edit was not gathered".to_owned()));
            }
            if at_b() != LOADED {
                return Err(wrong(format!("a first load waits with {} of {LOADED} records", at_b())));
            }
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        found.extend(stage.expect("r1", "name", Some(&text("second"))));
        found
    })
}

#[test]
fn a_first_load_goes_on_while_edits_are_gathered() {
    finds("loads_wait_with_edits", loaded_while_edits_are_gathered);
}
