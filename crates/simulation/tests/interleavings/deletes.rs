//! Deletes that meet edits: what was owed to the member that deletes, and marks that are taken off again.

use super::{A, B, finds, gate, proven, text, told, world};
use concord_engine::runtime::command::Resolution;
use concord_simulation::script::wrong;
use concord_simulation::system::Gate;
use concord_simulation::world::{DeleteRule, EditRule};

const C: usize = 2;

#[test]
fn an_edit_that_was_on_its_way_to_the_member_that_deleted_is_in_the_ledger_when_a_person_lets_the_delete_win() {
    let mut world = world(2);
    world.against_edit = EditRule::Person;
    proven(world, async |stage| {
        let steps = async {
            stage.pause(1_000).await;
            gate(stage, A, Gate::Before);
            stage.edit(B, "r1", &[("name", text("from b"))]);
            stage.pause(1_000).await;
            stage.delete(A, "r1");
            gate(stage, A, Gate::Open);
            stage.stage.level().await?;
            stage.resolve(Resolution::Take(A)).await?;
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        found.extend(stage.expect("r1", "name", None));
        found
    });
}

#[test]
fn a_mark_of_deletion_is_taken_off_where_an_edit_wins_against_the_delete() {
    let mut world = world(3);
    world.on_delete = DeleteRule::Soft;
    world.against_edit = EditRule::UpdateWins;
    proven(world, async |stage| {
        let steps = async {
            stage.pause(1_000).await;
            gate(stage, C, Gate::Before);
            stage.delete(A, "r1");
            stage.pause(1_000).await;
            // B is marked by now; the mark for C is on its way.
            stage.edit(C, "r1", &[("name", text("still needed"))]);
            gate(stage, C, Gate::Open);
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        found.extend(stage.expect("r1", "name", Some(&text("still needed"))));
        found
    });
}

#[test]
fn a_double_of_a_record_that_goes_is_a_record_of_its_own() {
    for in_one_life in [true, false] {
        let test = || {
            told(world(2), async |stage| {
                let doubled = async {
                    stage.pause(1_000).await;
                    stage.insert(A, "r1", &[("name", text("the double"))]);
                    stage.stage.level().await?;
                    let asked = stage.reviews().await.len();
                    if asked == 1 {
                        Ok(())
                    } else {
                        Err(wrong(format!("a person is asked about a double, once, not {asked} times")))
                    }
                };
                let gone = async {
                    stage.pause(1_000).await;
                    stage.delete(B, "r1");
                    stage.stage.level().await
                };
                let mut found = Vec::new();
                if in_one_life {
                    found.extend(stage.while_it_lives(async { doubled.await.and(gone.await) }).await);
                } else {
                    found.extend(stage.while_it_lives(doubled).await);
                    found.extend(stage.while_it_lives(gone).await);
                }
                found.extend(stage.expect("r1", "name", Some(&text("the double"))));
                found.extend(stage.reviews().await.into_iter().map(|review| wrong(format!("still asked: {review:?}"))));
                found
            })
        };
        finds("doubles_stay", test);
    }
}
