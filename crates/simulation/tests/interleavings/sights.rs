//! Sights that tell less than they seem to: reads from around a write of ours, and feeds that show only a part.

use super::{A, B, finds, gate, proven, text, told, world, writes_at_most};
use concord_engine::ledger::Entry;
use concord_engine::link::SyncId;
use concord_engine::runtime::command::Request;
use concord_engine::value::Value;
use concord_simulation::script::{natural, wrong};
use concord_simulation::system::Gate;
use concord_simulation::world::Flow;

#[test]
fn a_read_that_may_be_older_than_our_write_is_no_edit_that_takes_it_back() {
    let mut world = world(2);
    world.members[B].profile.vague_reads = true;
    proven(world, async |stage| {
        let steps = async {
            stage.pause(1_000).await;
            gate(stage, B, Gate::Before);
            stage.edit(A, "r1", &[("name", text("from a"))]);
            stage.pause(1_000).await;
            stage.ask(Request::Reread(SyncId(1))).await?;
            stage.pause(2_000).await;
            gate(stage, B, Gate::Open);
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        found.extend(stage.expect("r1", "name", Some(&text("from a"))));
        found.extend(writes_at_most(stage, A, 0));
        found
    });
}

#[test]
fn a_create_that_the_feed_shows_only_in_part_is_read_before_its_other_fields_are_believed() {
    let mut world = world(2);
    world.fields[2].flow = Flow::From(B);
    world.members[B].profile.partial_inserts = true;
    proven(world, async |stage| {
        let steps = async {
            stage.pause(1_000).await;
            gate(stage, B, Gate::After);
            stage.insert(A, "new", &[("amount", Value::Int(5))]);
            stage.pause(2_000).await;
            gate(stage, B, Gate::Open);
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        found.extend(stage.expect("new", "amount", Some(&Value::Null)));
        found
    });
}

#[test]
fn a_record_that_a_feed_looked_for_under_the_key_that_it_had_is_not_gone() {
    let test = || {
        let mut world = natural(world(2));
        world.members[A].profile.looks_ahead = 100;
        world.members[A].profile.feed_delay_ms_max = 200;
        world.members[A].profile.feed_batch_max = 1;
        told(world, async |stage| {
            let steps = async {
                stage.pause(1_000).await;
                stage.edit(A, "r1", &[("name", text("edited"))]);
                stage.edit(A, "r1", &[("code", text("moved"))]);
                stage.stage.level().await
            };
            let mut found = stage.while_it_lives(steps).await;
            found.extend(stage.expect("r1", "name", Some(&text("edited"))));
            found.extend(stage.expect("r1", "code", Some(&text("moved"))));
            if stage.stage.ledger().await.iter().any(|row| row.entry == Entry::Deleted) {
                found.push(wrong("the record was deleted at b and made anew".to_owned()));
            }
            found
        })
    };
    finds("absence_ahead_trusted", test);
}
