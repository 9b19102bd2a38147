//! One record that makes whatever is about it fail as a whole: it waits for a person, and no other record does.

use super::{A, B, finds, text, told, world};
use concord_engine::link::SyncId;
use concord_engine::review::Subject;
use concord_engine::runtime::command::Request;
use concord_simulation::checker::Violation;
use concord_simulation::script::{Script, wrong};
use concord_simulation::world::{Seeded, World};

const RECORDS: [&str; 9] = ["r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9"];

/// Nine records, all of them at A, and at B as well or not.
fn nine(everywhere: bool) -> World {
    let mut world = world(2);
    let at = vec![Some(String::new()), everywhere.then(String::new)];
    world.contents = RECORDS.map(|tag| Seeded { tag: tag.to_owned(), at: at.clone() }).to_vec();
    world
}

async fn is_asked_about_one(stage: &Script) -> Vec<Violation> {
    let reviews = stage.reviews().await;
    let unreadable = reviews.iter().filter(|review| matches!(review.subject, Subject::Unreadable { .. })).count();
    let sound = unreadable == 1 && reviews.len() == 1;
    (!sound).then(|| wrong(format!("one record is for a person: {reviews:?}"))).into_iter().collect()
}

fn all_but(stage: &Script, tag: &str) -> Vec<Violation> {
    let missing = RECORDS.into_iter().filter(|other| *other != tag && stage.count(B, other) != 1);
    missing.map(|other| wrong(format!("{} records {other} at b", stage.count(B, other)))).collect()
}

#[test]
fn a_record_that_cannot_be_read_keeps_no_other_from_being_loaded() {
    let test = || {
        let mut world = nine(false);
        world.members[A].profile.unreadable = Some("ir5".to_owned());
        told(world, async |stage| {
            let mut found = all_but(stage, "r5");
            found.extend(is_asked_about_one(stage).await);
            found
        })
    };
    finds("poison_stops_all", test);
}

#[test]
fn a_record_whose_match_cannot_be_looked_for_keeps_no_other_from_being_matched() {
    let test = || {
        let mut world = nine(false);
        world.members[B].profile.unreadable = Some("r5".to_owned());
        told(world, async |stage| {
            let mut found = all_but(stage, "r5");
            found.extend(is_asked_about_one(stage).await);
            found
        })
    };
    finds("poison_stops_all", test);
}

#[test]
fn a_linked_record_that_cannot_be_read_again_keeps_no_other_from_being_read() {
    let test = || {
        let mut world = nine(true);
        world.members[A].profile.unreadable = Some("cannot be read".to_owned());
        told(world, async |stage| {
            let steps = async {
                stage.pause(1_000).await;
                stage.edit(A, "r5", &[("name", text("cannot be read"))]);
                stage.stage.level().await?;
                stage.ask(Request::Reread(SyncId(1))).await?;
                stage.stage.level().await?;
                stage.edit(A, "r7", &[("name", text("goes on"))]);
                stage.stage.level().await
            };
            let mut found = stage.while_it_lives(steps).await;
            found.extend(stage.expect("r7", "name", Some(&text("goes on"))));
            found.extend(is_asked_about_one(stage).await);
            found
        })
    };
    finds("poison_stops_all", test);
}
