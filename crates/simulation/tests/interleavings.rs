//! Named interleavings, in an order written by hand: the moments at which an engine of this kind goes wrong.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail where it stands")]

use concord_engine::mutants;
use concord_engine::value::Value;
use concord_simulation::checker::Violation;
use concord_simulation::database::Trigger;
use concord_simulation::script::{Script, natural, play, wrong};
use concord_simulation::system::Gate;
use concord_simulation::world::{EditRule, Seeded, World};

#[path = "interleavings/costs.rs"]
mod costs;
#[path = "interleavings/crashes.rs"]
mod crashes;
#[path = "interleavings/deletes.rs"]
mod deletes;
#[path = "interleavings/drifting.rs"]
mod drifting;
#[path = "interleavings/failing.rs"]
mod failing;
#[path = "interleavings/gaps.rs"]
mod gaps;
#[path = "interleavings/marked.rs"]
mod marked;
#[path = "interleavings/people.rs"]
mod people;
#[path = "interleavings/poison.rs"]
mod poison;
#[path = "interleavings/short.rs"]
mod short;
#[path = "interleavings/sights.rs"]
mod sights;
#[path = "interleavings/strangers.rs"]
mod strangers;
#[path = "interleavings/unguarded.rs"]
mod unguarded;
#[path = "interleavings/unknown.rs"]
mod unknown;

const A: usize = 0;
const B: usize = 1;

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn world(members: usize) -> World {
    let mut world = World::plain(members);
    world.contents.push(Seeded { tag: "r1".to_owned(), at: vec![Some(String::new()); members] });
    world
}

/// Plays a script on members that hold the record `r1` alike, and expects nothing to be wrong in the end.
fn proven(world: World, script: impl AsyncFnOnce(&Script) -> Vec<Violation>) {
    let found = play(world, async |stage| {
        let mut found = stage.while_it_lives(stage.stage.level()).await;
        found.extend(script(stage).await);
        if found.is_empty() {
            found.extend(stage.conclude().await);
        }
        found
    });
    assert!(found.is_empty(), "{found:#?}");
}

/// Plays a script without the checker, for what it does not know: people who take deletes back, systems that are restored.
fn told(world: World, script: impl AsyncFnOnce(&Script) -> Vec<Violation>) -> Vec<Violation> {
    play(world, async |stage| {
        let mut found = stage.while_it_lives(stage.stage.level()).await;
        found.extend(script(stage).await);
        found
    })
}

/// The sound engine finds nothing wrong with what the planted bug gets wrong.
fn finds(mutant: &'static str, test: impl Fn() -> Vec<Violation>) {
    let found = test();
    assert!(found.is_empty(), "{found:#?}");
    mutants::activate(Some(mutant));
    let found = test();
    mutants::activate(None);
    assert!(!found.is_empty(), "{mutant} goes unnoticed");
}

/// Level with `r1` showing this value everywhere.
async fn settled(stage: &Script, field: &str, value: Option<&Value>) -> Vec<Violation> {
    let mut found = stage.while_it_lives(stage.stage.level()).await;
    found.extend(stage.expect("r1", field, value));
    found
}

fn gate(stage: &Script, member: usize, gate: Gate) {
    stage.stage.systems[member].hold(gate);
}

fn writes_at_most(stage: &Script, member: usize, most: usize) -> Vec<Violation> {
    let writes = stage.writes(member);
    (writes > most).then(|| wrong(format!("{writes} writes at {member}, at most {most} called for"))).into_iter().collect()
}

#[test]
fn a_user_of_b_edits_the_field_just_before_our_guarded_write() {
    proven(world(2), async |stage| {
        let steps = async {
            stage.pause(1_000).await;
            gate(stage, B, Gate::Before);
            stage.edit(A, "r1", &[("name", text("from a"))]);
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
fn a_user_of_b_edits_another_field_just_before_our_guarded_write() {
    proven(world(2), async |stage| {
        let steps = async {
            stage.pause(1_000).await;
            gate(stage, B, Gate::Before);
            stage.edit(A, "r1", &[("name", text("from a"))]);
            stage.pause(1_000).await;
            stage.edit(B, "r1", &[("amount", Value::Int(7))]);
            gate(stage, B, Gate::Open);
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        found.extend(stage.expect("r1", "name", Some(&text("from a"))));
        found.extend(stage.expect("r1", "amount", Some(&Value::Int(7))));
        found
    });
}

#[test]
fn a_user_of_b_edits_the_field_just_after_our_guarded_write() {
    proven(world(2), async |stage| {
        let steps = async {
            stage.pause(1_000).await;
            gate(stage, B, Gate::After);
            stage.edit(A, "r1", &[("name", text("from a"))]);
            stage.until_shown(B, "r1", "name", &text("from a")).await?;
            stage.edit(B, "r1", &[("name", text("from b"))]);
            stage.pause(1_000).await;
            gate(stage, B, Gate::Open);
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        found.extend(stage.expect("r1", "name", Some(&text("from b"))));
        found
    });
}

/// What is wrong when the feed tells of an edit made behind our write before that write has been answered, and does not say
/// which of the two is ours.
fn edited_behind_a_write_without_marks() -> Vec<Violation> {
    let mut world = world(2);
    world.members[B].profile.marks = false;
    told(world, async |stage| {
        let steps = async {
            stage.pause(1_000).await;
            gate(stage, B, Gate::After);
            stage.edit(A, "r1", &[("name", text("from a"))]);
            stage.until_shown(B, "r1", "name", &text("from a")).await?;
            stage.edit(B, "r1", &[("name", text("from b"))]);
            stage.pause(1_000).await;
            gate(stage, B, Gate::Open);
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        found.extend(stage.expect("r1", "name", Some(&text("from b"))));
        found
    })
}

#[test]
fn an_edit_behind_our_write_that_is_told_of_before_the_answer_is_not_cleared_away_with_it() {
    finds("pending_cleared_beyond_plan", edited_behind_a_write_without_marks);
}

#[test]
fn two_quick_edits_on_a_with_the_echo_of_the_first_still_under_way() {
    let mut world = world(2);
    world.members[B].profile.feed_delay_ms_max = 5_000;
    proven(world, async |stage| {
        let steps = async {
            stage.pause(1_000).await;
            stage.edit(A, "r1", &[("name", text("first"))]);
            stage.until_shown(B, "r1", "name", &text("first")).await?;
            stage.edit(A, "r1", &[("name", text("second"))]);
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        found.extend(stage.expect("r1", "name", Some(&text("second"))));
        found.extend(writes_at_most(stage, A, 0));
        found.extend(writes_at_most(stage, B, 2));
        found
    });
}

#[test]
fn an_edit_and_its_revert_around_a_crash_between_apply_and_settle() {
    proven(world(2), async |stage| {
        let steps = async {
            stage.pause(1_000).await;
            gate(stage, B, Gate::After);
            stage.edit(A, "r1", &[("name", text("for a moment"))]);
            stage.until_shown(B, "r1", "name", &text("for a moment")).await?;
            Ok(())
        };
        let mut found = stage.killed_after(3_000, steps).await;
        stage.edit(A, "r1", &[("name", text("ir1"))]);
        gate(stage, B, Gate::Open);
        found.extend(settled(stage, "name", Some(&text("ir1"))).await);
        found.extend(writes_at_most(stage, A, 0));
        found.extend(writes_at_most(stage, B, 2));
        found
    });
}

#[test]
fn an_edit_and_its_revert_around_a_crash_without_marks_in_the_feed() {
    let mut world = world(2);
    world.members[B].profile.marks = false;
    proven(world, async |stage| {
        let steps = async {
            stage.pause(1_000).await;
            gate(stage, B, Gate::After);
            stage.edit(A, "r1", &[("name", text("for a moment"))]);
            stage.until_shown(B, "r1", "name", &text("for a moment")).await
        };
        let mut found = stage.killed_after(3_000, steps).await;
        stage.edit(A, "r1", &[("name", text("ir1"))]);
        gate(stage, B, Gate::Open);
        found.extend(settled(stage, "name", Some(&text("ir1"))).await);
        found.extend(writes_at_most(stage, A, 0));
        found
    });
}

#[test]
fn a_trigger_of_b_that_rewrites_what_we_wrote_is_an_edit_of_b() {
    let mut world = world(2);
    let name = world.native(B, 1);
    world.members[B].triggers.push(Trigger::Uppercase(name));
    proven(world, async |stage| {
        let steps = async {
            stage.pause(1_000).await;
            stage.edit(A, "r1", &[("name", text("quiet"))]);
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        found.extend(stage.expect("r1", "name", Some(&text("QUIET"))));
        found.extend(writes_at_most(stage, A, 1));
        found.extend(writes_at_most(stage, B, 1));
        found
    });
}

#[test]
fn a_trigger_of_b_that_rewrites_in_a_second_step_of_our_transaction_is_an_edit_of_b() {
    let mut world = world(2);
    world.fields[2].kind = concord_simulation::world::FieldKind::Text;
    let (source, target) = (world.native(B, 1), world.native(B, 2));
    world.members[B].triggers.push(Trigger::Follow { source, target });
    proven(world, async |stage| {
        let steps = async {
            stage.pause(1_000).await;
            stage.edit(A, "r1", &[("name", text("leader"))]);
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        found.extend(stage.expect("r1", "name", Some(&text("leader"))));
        found.extend(stage.expect("r1", "amount", Some(&text("f:leader"))));
        found
    });
}

#[test]
fn both_sides_insert_the_same_match_value_at_once() {
    for members in [2, 3] {
        proven(world(members), async |stage| {
            let steps = async {
                stage.pause(1_000).await;
                stage.insert(A, "new", &[("name", text("typed at a"))]);
                stage.insert(B, "new", &[("name", text("typed at b")), ("amount", Value::Int(5))]);
                stage.stage.level().await
            };
            let mut found = stage.while_it_lives(steps).await;
            found.extend(stage.expect("new", "amount", Some(&Value::Int(5))));
            found
        });
    }
}

#[test]
fn the_other_side_inserts_the_same_match_value_while_our_create_is_on_its_way() {
    proven(world(2), async |stage| {
        let steps = async {
            stage.pause(1_000).await;
            gate(stage, B, Gate::Before);
            stage.insert(A, "new", &[("name", text("typed at a"))]);
            stage.pause(2_000).await;
            stage.insert(B, "new", &[("amount", Value::Int(5))]);
            gate(stage, B, Gate::Open);
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        found.extend(stage.expect("new", "name", Some(&text("typed at a"))));
        found.extend(stage.expect("new", "amount", Some(&Value::Int(5))));
        found
    });
}

#[test]
fn a_record_is_deleted_and_made_anew_at_b_with_the_same_key_while_an_edit_of_the_old_one_is_in_flight() {
    let mut world = natural(world(2));
    world.against_edit = EditRule::UpdateWins;
    proven(world, async |stage| {
        let steps = async {
            stage.pause(1_000).await;
            gate(stage, B, Gate::Before);
            stage.edit(A, "r1", &[("name", text("edit of the old one"))]);
            stage.pause(1_000).await;
            stage.delete(B, "r1");
            stage.insert(B, "r1", &[("name", text("the new one"))]);
            gate(stage, B, Gate::Open);
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        found.extend(stage.expect("r1", "name", Some(&text("the new one"))));
        found
    });
}

#[test]
fn a_record_is_deleted_and_made_anew_at_a_with_the_same_key_while_its_own_edit_is_in_flight() {
    proven(natural(world(2)), async |stage| {
        let steps = async {
            stage.pause(1_000).await;
            gate(stage, B, Gate::Before);
            stage.edit(A, "r1", &[("name", text("edit of the old one"))]);
            stage.pause(1_000).await;
            stage.delete(A, "r1");
            stage.insert(A, "r1", &[("name", text("the new one"))]);
            gate(stage, B, Gate::Open);
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        found.extend(stage.expect("r1", "name", Some(&text("the new one"))));
        found
    });
}

#[test]
fn a_changed_key_that_cannot_be_ordered_against_the_first_read_is_followed() {
    let mut world = natural(world(2));
    world.members[A].profile.vague_reads = true;
    proven(world, async |stage| {
        let steps = async {
            stage.edit(A, "r1", &[("code", text("another key"))]);
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        found.extend(stage.expect("r1", "code", Some(&text("another key"))));
        found
    });
}

#[test]
fn a_create_that_meets_a_record_made_anew_under_the_key_of_a_tombstone_is_bound_to_it() {
    let mut world = natural(world(2));
    world.members[A].profile.feed_delay_ms_max = 30_000;
    proven(world, async |stage| {
        let steps = async {
            stage.delete(B, "r1");
            stage.stage.level().await?;
            gate(stage, A, Gate::Before);
            stage.insert(B, "r1", &[("name", text("made anew at b"))]);
            stage.pause(1_000).await;
            // The create is on its way, and the feed of A is slow to tell of this one.
            stage.insert(A, "r1", &[("amount", Value::Int(5))]);
            gate(stage, A, Gate::Open);
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        found.extend(stage.expect("r1", "name", Some(&text("made anew at b"))));
        found.extend(stage.expect("r1", "amount", Some(&Value::Int(5))));
        found
    });
}
