//! A member that cannot make a write depend on what a record shows: it looks, and then writes. What a user does in between
//! is written over, and only the feed tells (invariant 3).

use super::{A, B, finds, gate, proven, text, told, world};
use concord_engine::ledger::Entry;
use concord_engine::link::SyncId;
use concord_engine::runtime::command::Request;
use concord_engine::store::LedgerQuery;
use concord_engine::value::Value;
use concord_simulation::checker::Violation;
use concord_simulation::database::Trigger;
use concord_simulation::script::{Script, play, wrong};
use concord_simulation::system::Gate;
use concord_simulation::world::{DeleteRule, EditRule, World};

fn unguarded() -> World {
    let mut world = world(2);
    world.members[B].profile.guarded = false;
    // The answer comes before the feed has told.
    world.members[B].profile.feed_delay_ms_max = 400;
    world
}

/// Our write of a name stands before B, which has been looked at; a user of B edits this; the write takes effect.
async fn between(stage: &Script, (field, value): (&str, Value)) -> Result<(), Violation> {
    stage.pause(1_000).await;
    gate(stage, B, Gate::Between);
    stage.edit(A, "r1", &[("name", text("from a"))]);
    stage.pause(1_000).await;
    stage.edit(B, "r1", &[(field, value)]);
    // Told before the write is made, or only afterwards.
    gate(stage, B, Gate::Open);
    stage.stage.level().await
}

#[test]
fn an_edit_that_a_write_went_over_wins_by_the_rules_all_the_same() {
    let test = || {
        told(unguarded(), async |stage| {
            let steps = between(stage, ("name", text("from b")));
            let mut found = stage.while_it_lives(steps).await;
            found.extend(stage.expect("r1", "name", Some(&text("from b"))));
            found
        })
    };
    finds("unguarded_settled_by_answer", test);
    finds("unseen_cleared", test);
}

#[test]
fn an_edit_that_a_write_went_over_and_that_loses_is_in_the_ledger() {
    let mut world = unguarded();
    world.groups = vec![concord_simulation::world::Decide::Priority(vec![A]); world.groups.len()];
    // The checker looks for what was lost without a record of it.
    proven(world, async |stage| {
        let steps = between(stage, ("name", text("from b")));
        let mut found = stage.while_it_lives(steps).await;
        found.extend(stage.expect("r1", "name", Some(&text("from a"))));
        found
    });
}

#[test]
fn an_edit_of_another_field_between_the_look_and_the_write_arrives() {
    for partial in [false, true] {
        let mut world = unguarded();
        world.members[B].profile.partial_images = partial;
        proven(world, async |stage| {
            let steps = between(stage, ("amount", Value::Int(7)));
            let mut found = stage.while_it_lives(steps).await;
            found.extend(stage.expect("r1", "name", Some(&text("from a"))));
            found.extend(stage.expect("r1", "amount", Some(&Value::Int(7))));
            found
        });
    }
}

/// A trigger puts back what we write, so that the change tells of everything else and nothing of it.
fn put_back_at_once(guarded: bool) -> Vec<Violation> {
    let mut world = unguarded();
    world.members[B].profile.guarded = guarded;
    world.members[B].profile.partial_images = true;
    world.members[B].triggers = vec![Trigger::Uppercase(world.native(B, 1))];
    told(world, async |stage| {
        let mut found = Vec::new();
        // Which images leave something out is left to chance. Fewer rounds than the breaker of loops allows.
        for round in 0..10_i64 {
            let steps = async {
                stage.pause(1_000).await;
                stage.edit(A, "r1", &[("name", text("acme")), ("amount", Value::Int(round))]);
                stage.pause(1_000).await;
                stage.stage.level().await
            };
            found.extend(stage.while_it_lives(steps).await);
            found.extend(stage.expect("r1", "name", Some(&text("ACME"))));
            found.extend(stage.expect("r1", "amount", Some(&Value::Int(round))));
        }
        found
    })
}

#[test]
fn what_is_put_back_at_once_is_not_taken_to_be_as_we_wrote_it() {
    finds("unsaid_taken_for_written", || put_back_at_once(false));
    // Where writes are guarded the answer settles them, unless the feed is faster.
    let found = put_back_at_once(true);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_record_that_was_edited_between_the_look_and_its_delete_lives_on_where_updates_win() {
    let mut world = unguarded();
    world.against_edit = EditRule::UpdateWins;
    proven(world, async |stage| {
        let steps = async {
            stage.pause(1_000).await;
            gate(stage, B, Gate::Between);
            stage.delete(A, "r1");
            stage.pause(1_000).await;
            stage.edit(B, "r1", &[("name", text("from b"))]);
            gate(stage, B, Gate::Open);
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        found.extend(stage.expect("r1", "name", Some(&text("from b"))));
        found
    });
}

#[test]
fn an_edit_that_a_write_went_over_outlives_a_kill_before_the_echo() {
    proven(unguarded(), async |stage| {
        let steps = async {
            stage.pause(1_000).await;
            gate(stage, B, Gate::Between);
            stage.edit(A, "r1", &[("name", text("from a"))]);
            stage.pause(1_000).await;
            stage.edit(B, "r1", &[("name", text("from b"))]);
            gate(stage, B, Gate::After);
            stage.until_shown(B, "r1", "name", &text("from a")).await
        };
        let mut found = stage.while_it_lives(steps).await;
        gate(stage, B, Gate::Open);
        found.extend(stage.while_it_lives(stage.stage.level()).await);
        found.extend(stage.expect("r1", "name", Some(&text("from b"))));
        found
    });
}

#[test]
fn a_reading_that_is_newer_than_a_write_does_not_hide_the_edit_that_the_write_went_over() {
    let test = || {
        let mut world = unguarded();
        world.members[B].profile.feed_delay_ms_max = 20_000;
        told(world, async |stage| {
            let steps = async {
                stage.pause(1_000).await;
                gate(stage, B, Gate::Between);
                stage.edit(A, "r1", &[("name", text("from a"))]);
                stage.pause(1_000).await;
                stage.edit(B, "r1", &[("name", text("from b"))]);
                gate(stage, B, Gate::Open);
                stage.until_shown(B, "r1", "name", &text("from a")).await?;
                stage.ask(Request::Reread(SyncId(1))).await?;
                stage.stage.level().await
            };
            let mut found = stage.while_it_lives(steps).await;
            found.extend(stage.expect("r1", "name", Some(&text("from b"))));
            found
        })
    };
    finds("read_hides_unseen", test);
}

#[test]
fn what_a_feed_reads_ahead_of_what_it_tells_does_not_hide_the_edit_that_a_write_went_over() {
    let test = || {
        let mut world = unguarded();
        world.members[B].profile.looks_ahead = 100;
        told(world, async |stage| {
            let steps = between(stage, ("name", text("from b")));
            let mut found = stage.while_it_lives(steps).await;
            found.extend(stage.expect("r1", "name", Some(&text("from b"))));
            found
        })
    };
    finds("read_hides_unseen", test);
}

/// What is wrong when a record lives on for an edit that a delete went over, and has been made anew by then.
fn made_anew_and_edited() -> Vec<Violation> {
    let mut world = unguarded();
    world.against_edit = EditRule::UpdateWins;
    play(world, async |stage| {
        let mut found = stage.while_it_lives(stage.stage.level()).await;
        let steps = async {
            stage.pause(1_000).await;
            gate(stage, B, Gate::Between);
            stage.delete(A, "r1");
            stage.pause(1_000).await;
            stage.edit(B, "r1", &[("name", text("from b"))]);
            stage.insert(A, "r1", &[("name", text("anew"))]);
            gate(stage, B, Gate::Open);
            stage.stage.level().await
        };
        found.extend(stage.while_it_lives(steps).await);
        found.extend(stage.expect("r1", "name", Some(&text("anew"))));
        // That a delete took it away is one thing, that it is not to come back another.
        found.extend(is_lost(stage, "from b").await);
        found.extend(stage.conclude().await);
        found
    })
}

/// Whether the ledger says that a value has lost; a violation if it does not.
async fn is_lost(stage: &Script, value: &str) -> Option<Violation> {
    let rows = stage.stage.store.ledger(LedgerQuery { limit: 100, ..LedgerQuery::default() }).await.unwrap();
    let mut lost = rows.iter().filter(|row| row.entry == Entry::Lost).flat_map(|row| &row.fields);
    let said = lost.any(|entry| entry.old == Some(text(value)));
    (!said).then(|| wrong(format!("nothing says that {value} has lost")))
}

#[test]
fn two_links_of_one_record_become_one_and_what_is_given_up_is_in_the_ledger() {
    finds("halves_stay_apart", made_anew_and_edited);
    finds("given_up_unsaid", made_anew_and_edited);
}

#[test]
fn an_edit_that_a_mark_of_deletion_went_over_is_in_the_ledger() {
    let test = || {
        let mut world = unguarded();
        world.on_delete = DeleteRule::Soft;
        world.against_edit = EditRule::DeleteWins;
        play(world, async |stage| {
            let mut found = stage.while_it_lives(stage.stage.level()).await;
            let steps = async {
                stage.pause(1_000).await;
                gate(stage, B, Gate::Between);
                stage.delete(A, "r1");
                stage.pause(1_000).await;
                stage.edit(B, "r1", &[("name", text("from b"))]);
                // Told before the write is made.
                stage.pause(2_000).await;
                gate(stage, B, Gate::Open);
                stage.stage.level().await
            };
            found.extend(stage.while_it_lives(steps).await);
            found.extend(is_lost(stage, "from b").await);
            found
        })
    };
    finds("mark_hides_edit", test);
}
