//! Records that nobody knew: gone before they were identified, or made by a write of ours that has not been answered yet.

use super::{A, B, finds, gate, text, told, world, writes_at_most};
use concord_engine::value::Value;
use concord_simulation::checker::Violation;
use concord_simulation::script::{natural, play, wrong};
use concord_simulation::system::Gate;
use concord_simulation::world::{Seeded, Start, World};

/// What is wrong when a feed tells again of a record that went while its match was being looked for.
fn gone_before_it_was_known() -> Vec<Violation> {
    let mut world = world(2);
    world.members[A].profile.feed_batch_max = 1;
    world.fsync_ms_max = 80;
    play(world, async |stage| {
        let mut found = stage.while_it_lives(stage.stage.level()).await;
        let steps = async {
            stage.pause(1_000).await;
            gate(stage, B, Gate::Looks);
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
        found.extend(stage.while_it_lives(steps).await);
        found.extend(stage.expect("short-lived", "name", None));
        found.extend(stage.conclude().await);
        found
    })
}

#[test]
fn a_record_that_went_before_its_match_was_found_stays_away_when_the_feed_is_given_again() {
    finds("stranger_without_tombstone", gone_before_it_was_known);
}

/// What is wrong when a snapshot shows a record that our create under way has made.
fn own_create_in_a_snapshot() -> Vec<Violation> {
    let mut world = World::plain(2);
    world.matched = false;
    world.contents.push(Seeded { tag: "r1".to_owned(), at: vec![Some(String::new()), None] });
    world.members[B].profile.call_ms_max = 1_000;
    world.members[B].profile.feed_delay_ms_max = 60_000;
    play(world, async |stage| {
        gate(stage, B, Gate::Looks);
        // Killed as soon as the create has taken effect, while its answer is on its way.
        let mut found = stage.while_it_lives(stage.until_shown(B, "r1", "name", &text("ir1"))).await;
        gate(stage, B, Gate::Open);
        found.extend(stage.conclude().await);
        found.extend(writes_at_most(stage, A, 0));
        found.extend(writes_at_most(stage, B, 1));
        found
    })
}

#[test]
fn a_snapshot_that_shows_our_own_create_before_its_outcome_is_known_makes_no_second_record() {
    finds("own_create_taken_for_stranger", own_create_in_a_snapshot);
}

/// What is wrong when a record changes its key while it is being read as a stranger, and is known when the answer comes.
fn known_by_the_time_it_is_missing() -> Vec<Violation> {
    let mut world = natural(world(2));
    world.members[A].profile.partial_inserts = true;
    world.members[A].profile.feed_delay_ms_max = 20_000;
    told(world, async |stage| {
        let mut found = stage.while_it_lives(stage.stage.level()).await;
        let steps = async {
            gate(stage, A, Gate::Reads);
            // The insert is told of in part, and the rest is to be read; the edit is told of in full.
            stage.insert(A, "new", &[("name", text("typed at a"))]);
            stage.pause(30_000).await;
            stage.edit(A, "new", &[("amount", Value::Int(5))]);
            stage.until_shown(B, "new", "amount", &Value::Int(5)).await?;
            stage.edit(A, "new", &[("code", text("another key"))]);
            gate(stage, A, Gate::Open);
            stage.stage.level().await
        };
        found.extend(stage.while_it_lives(steps).await);
        found.extend(stage.expect("new", "code", Some(&text("another key"))));
        found.extend(writes_at_most(stage, B, 2));
        found
    })
}

#[test]
fn a_record_that_was_asked_after_as_a_stranger_and_is_known_by_now_has_not_gone_because_its_key_has() {
    finds("absence_of_a_stranger_trusted", known_by_the_time_it_is_missing);
}

/// A world in which `r1` is made at B, which says nothing of who made what, and the engine is killed before the answer.
fn unanswered() -> World {
    let mut world = World::plain(2);
    world.contents.push(Seeded { tag: "r1".to_owned(), at: vec![Some(String::new()), None] });
    world.members[B].profile.marks = false;
    world.members[B].profile.call_ms_max = 1_000;
    world.members[B].profile.feed_delay_ms_max = 5_000;
    world
}

/// What is wrong when a create that was not answered meets its own record, and the record was edited elsewhere meanwhile.
fn own_record_found_after_an_edit() -> Vec<Violation> {
    let mut world = unanswered();
    world.start = Start::Member(B);
    play(world, async |stage| {
        let mut found = stage.while_it_lives(stage.until_shown(B, "r1", "name", &text("ir1"))).await;
        stage.edit(A, "r1", &[("name", text("edited since"))]);
        found.extend(stage.while_it_lives(stage.stage.level()).await);
        found.extend(stage.expect("r1", "name", Some(&text("edited since"))));
        found.extend(stage.conclude().await);
        found
    })
}

#[test]
fn what_an_unanswered_create_gave_overwrites_no_edit() {
    finds("sent_forgotten", own_record_found_after_an_edit);
}

/// What is wrong when nothing can tell whether a create happened, and the record changes before a person has looked.
fn edited_while_a_person_is_asked() -> Vec<Violation> {
    let mut world = unanswered();
    world.matched = false;
    play(world, async |stage| {
        let mut found = stage.while_it_lives(stage.until_shown(B, "r1", "name", &text("ir1"))).await;
        found.extend(stage.while_it_lives(stage.stage.level()).await);
        stage.edit(A, "r1", &[("name", text("edited since"))]);
        found.extend(stage.while_it_lives(stage.stage.level()).await);
        found.extend(stage.conclude().await);
        found.extend(writes_at_most(stage, A, 0));
        found.extend(writes_at_most(stage, B, 1));
        found
    })
}

#[test]
fn a_create_that_may_have_happened_is_not_made_again_because_the_record_changes() {
    finds("doubt_superseded", edited_while_a_person_is_asked);
}

/// What is wrong when a user deletes what a create has made before anybody knows that it was made.
fn deleted_before_it_was_known() -> Vec<Violation> {
    let mut world = unanswered();
    world.start = Start::Member(B);
    play(world, async |stage| {
        let mut found = stage.while_it_lives(stage.until_shown(B, "r1", "name", &text("ir1"))).await;
        stage.delete(B, "r1");
        found.extend(stage.while_it_lives(stage.stage.level()).await);
        found.extend(stage.expect("r1", "name", None));
        found
    })
}

#[test]
fn a_record_that_is_deleted_before_its_create_was_answered_stays_away() {
    finds("unmarked_create_is_a_stranger", deleted_before_it_was_known);
}

/// What is wrong when the feed tells only the filled fields of records that a create of many has made, and nothing else would find
/// them.
fn told_of_in_part() -> Vec<Violation> {
    let mut world = world(2);
    world.matched = false;
    world.members[B].profile.partial_inserts = true;
    world.members[B].profile.call_ms_max = 1_000;
    told(world, async |stage| {
        gate(stage, B, Gate::After);
        stage.insert(A, "one", &[]);
        stage.insert(A, "another", &[]);
        let shown = async {
            stage.until_shown(B, "one", "tag", &text("one")).await?;
            stage.until_shown(B, "another", "tag", &text("another")).await
        };
        let mut found = stage.while_it_lives(shown).await;
        gate(stage, B, Gate::Open);
        found.extend(stage.while_it_lives(stage.stage.level()).await);
        for (member, tag) in [(A, "one"), (A, "another"), (B, "one"), (B, "another")] {
            let count = stage.count(member, tag);
            found.extend((count != 1).then(|| wrong(format!("{count} records of {tag} at {member}"))));
        }
        found
    })
}

#[test]
fn records_that_are_told_of_in_part_are_known_as_those_that_a_lost_answer_made() {
    finds("part_is_measured_by_the_whole", told_of_in_part);
}
