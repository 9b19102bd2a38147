//! Deletes that meet edits: what was owed to the member that deletes, and marks that are taken off again.

use super::{A, B, gate, proven, text, world};
use concord_engine::runtime::command::Resolution;
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
