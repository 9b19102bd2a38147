//! Columns that go and come back, of a sync that has to stop for them.

use super::{A, B, finds, settled, text, told, world};
use concord_engine::link::SyncId;
use concord_engine::runtime::command::Request;
use concord_engine::schema::Field;
use concord_engine::value::Value;
use concord_simulation::checker::Violation;
use concord_simulation::database::Alteration;
use concord_simulation::drift::Drifts;
use concord_simulation::script::{Script, wrong};
use concord_simulation::world::World;

/// A world whose columns are numbered, and are changed by the script alone.
fn drifting() -> World {
    let mut world = world(2);
    world.further.drifts = Some(Drifts { member: A, field: 1, kinds: Vec::new() });
    world
}

fn column(stage: &Script) -> Field {
    let name = stage.stage.world.native(A, 1);
    stage.stage.systems[A].look(|database| database.schema.field(name.as_str()).cloned()).unwrap()
}

async fn until_stopped_by_the_drop(stage: &Script) -> Result<Field, Violation> {
    stage.pause(1_000).await;
    let column = column(stage);
    stage.stage.systems[A].alter(Alteration::Drop(column.name.clone()));
    stage.until_stopped().await?;
    Ok(column)
}

#[test]
fn what_stands_in_a_column_made_anew_is_nobodys_edit() {
    let test = || {
        told(drifting(), async |stage| {
            let steps = async {
                let column = until_stopped_by_the_drop(stage).await?;
                stage.edit(B, "r1", &[("amount", Value::Int(7))]);
                stage.pause(1_000).await;
                stage.stage.systems[A].alter(Alteration::Add(Field { origin: Some(99), ..column }));
                stage.pause(1_000).await;
                stage.ask(Request::Resume(SyncId(1))).await?;
                stage.stage.level().await
            };
            let mut found = stage.while_it_lives(steps).await;
            found.extend(settled(stage, "name", Some(&text("ir1"))).await);
            found.extend(stage.expect("r1", "amount", Some(&Value::Int(7))));
            found
        })
    };
    finds("emptiness_is_an_edit", test);
}

#[test]
fn while_a_column_is_gone_nothing_is_written_and_nobody_can_let_the_sync_go_on() {
    let found = told(drifting(), async |stage| {
        let steps = async {
            until_stopped_by_the_drop(stage).await?;
            let writes = stage.writes(A) + stage.writes(B);
            stage.edit(A, "r1", &[("amount", Value::Int(7))]);
            stage.edit(B, "r1", &[("name", text("from b"))]);
            stage.pause(5_000).await;
            if stage.ask(Request::Resume(SyncId(1))).await.is_ok() {
                return Err(wrong("it goes on without the column".to_owned()));
            }
            stage.pause(5_000).await;
            match stage.writes(A) + stage.writes(B) == writes {
                true => Ok(()),
                false => Err(wrong("something was written".to_owned())),
            }
        };
        stage.while_it_lives(steps).await
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn what_was_edited_while_a_column_had_another_name_reaches_both_sides() {
    let found = told(drifting(), async |stage| {
        let steps = async {
            stage.pause(1_000).await;
            let name = column(stage).name;
            stage.stage.systems[A].alter(Alteration::Rename(name.clone(), "former".into()));
            stage.until_stopped().await?;
            stage.edit(A, "r1", &[("amount", Value::Int(7))]);
            stage.edit(B, "r1", &[("name", text("from b"))]);
            stage.pause(1_000).await;
            stage.stage.systems[A].alter(Alteration::Rename("former".into(), name));
            stage.pause(1_000).await;
            stage.ask(Request::Resume(SyncId(1))).await?;
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        found.extend(settled(stage, "name", Some(&text("from b"))).await);
        found.extend(stage.expect("r1", "amount", Some(&Value::Int(7))));
        found
    });
    assert!(found.is_empty(), "{found:#?}");
}
