//! Records that are marked as deleted: made anew beside their mark, and left over with it.

use super::{A, B, finds, gate, text, told, world};
use concord_simulation::checker::Violation;
use concord_simulation::script::{Script, wrong};
use concord_simulation::system::Gate;
use concord_simulation::world::{DeleteRule, EditRule, World};

const C: usize = 2;

fn marking(members: usize) -> World {
    let mut world = world(members);
    world.on_delete = DeleteRule::Soft;
    world.against_edit = EditRule::UpdateWins;
    world
}

fn one_each(stage: &Script, members: &[usize]) -> Vec<Violation> {
    let counts: Vec<usize> = members.iter().map(|member| stage.count(*member, "r1")).collect();
    counts.iter().any(|count| *count != 1).then(|| wrong(format!("records of r1: {counts:?}"))).into_iter().collect()
}

#[test]
fn a_mark_is_not_taken_off_where_the_record_was_made_anew_beside_it() {
    let test = || {
        told(marking(3), async |stage| {
            let steps = async {
                stage.pause(1_000).await;
                gate(stage, C, Gate::Before);
                stage.delete(B, "r1");
                stage.pause(1_000).await;
                // Marked at A and not yet at C. Its user makes it anew, and nobody can be asked about that for a while.
                gate(stage, B, Gate::Looks);
                stage.insert(A, "r1", &[("name", text("made anew"))]);
                stage.pause(500).await;
                stage.edit(C, "r1", &[("name", text("lives on"))]);
                gate(stage, C, Gate::Open);
                stage.pause(2_000).await;
                gate(stage, B, Gate::Open);
                stage.stage.level().await
            };
            let mut found = stage.while_it_lives(steps).await;
            found.extend(one_each(stage, &[A, B, C]));
            found
        })
    };
    finds("unmarked_unseen", test);
}

#[test]
fn what_is_left_of_a_record_with_its_mark_is_no_match_of_one_made_anew() {
    let test = || {
        told(marking(2), async |stage| {
            let steps = async {
                stage.pause(1_000).await;
                stage.delete(B, "r1");
                stage.pause(1_000).await;
                stage.insert(B, "r1", &[("name", text("made anew"))]);
                stage.stage.level().await
            };
            let mut found = stage.while_it_lives(steps).await;
            found.extend(stage.expect("r1", "name", Some(&text("made anew"))));
            found.extend(one_each(stage, &[A, B]));
            found.extend(stage.reviews().await.into_iter().map(|review| wrong(format!("waits for a person: {review:?}"))));
            found
        })
    };
    finds("left_over_is_a_match", test);
}
