//! Writes that fail for good, and what is to become of them: what the configuration says, or a person.

use super::{A, B, finds, text, told, world};
use concord_engine::ledger::Entry;
use concord_engine::link::SyncId;
use concord_engine::review::Subject;
use concord_engine::rules::Fallback;
use concord_engine::runtime::command::{Request, Resolution};
use concord_engine::value::Value;
use concord_simulation::checker::Violation;
use concord_simulation::script::{Script, wrong};
use concord_simulation::world::{Flow, World};

const PEOPLE: SyncId = SyncId(1);

/// A world in which a write is tried three times.
fn impatient(fallback: Fallback) -> World {
    let mut world = world(2);
    world.attempts = 3;
    world.fallback = fallback;
    world
}

/// Every write at B fails when a user of A edits `r1`, until the attempts are used up.
async fn used_up(stage: &Script) -> Result<(), Violation> {
    stage.pause(1_000).await;
    stage.stage.systems[B].stick();
    stage.edit(A, "r1", &[("name", text("refused"))]);
    stage.pause(60_000).await;
    stage.stage.systems[B].heal();
    Ok(())
}

async fn exhausted(stage: &Script) -> Vec<Violation> {
    let reviews = stage.reviews().await;
    let sound = reviews.len() == 1
        && reviews.iter().all(|review| review.code == "CON-3015" && matches!(review.subject, Subject::Exhausted { member: B }));
    (!sound).then(|| wrong(format!("one write waits for a person: {reviews:?}"))).into_iter().collect()
}

#[test]
fn a_write_whose_attempts_are_used_up_waits_for_a_person_and_is_made_when_it_is_tried_again() {
    let found = told(impatient(Fallback::Review), async |stage| {
        let steps = async {
            used_up(stage).await?;
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        found.extend(exhausted(stage).await);
        if stage.shows(B, "r1", "name") == Some(text("refused")) {
            found.push(wrong("it was written although it waits for a person".to_owned()));
        }
        // Also what an earlier run held for a person.
        let steps = async {
            stage.pause(1_000).await;
            stage.resolve(Resolution::Retry).await?;
            stage.stage.level().await
        };
        found.extend(stage.while_it_lives(steps).await);
        found.extend(stage.expect("r1", "name", Some(&text("refused"))));
        found
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_write_that_is_to_be_skipped_is_in_the_ledger_and_the_next_edit_flows() {
    let found = told(impatient(Fallback::Skip), async |stage| {
        let steps = async {
            used_up(stage).await?;
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        let ledger = stage.stage.ledger().await;
        let failed = ledger.iter().filter(|row| matches!(&row.entry, Entry::Failed(why) if why.contains("CON-3015"))).count();
        if failed != 1 || !stage.reviews().await.is_empty() {
            found.push(wrong(format!("{failed} rows tell of the write that was skipped")));
        }
        if stage.shows(B, "r1", "name") == Some(text("refused")) {
            found.push(wrong("what was skipped was written".to_owned()));
        }
        let steps = async {
            stage.pause(1_000).await;
            stage.edit(A, "r1", &[("name", text("flows"))]);
            stage.stage.level().await
        };
        found.extend(stage.while_it_lives(steps).await);
        found.extend(stage.expect("r1", "name", Some(&text("flows"))));
        found
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_sync_that_a_failed_write_stopped_stands_still_until_a_person_lets_it_go_on() {
    let test = || {
        told(impatient(Fallback::Stop), async |stage| {
            let steps = async {
                used_up(stage).await?;
                stage.until_stopped().await
            };
            let mut found = stage.while_it_lives(steps).await;
            let steps = async {
                stage.until_stopped().await?;
                stage.edit(A, "r1", &[("amount", Value::Int(9))]);
                stage.pause(5_000).await;
                Ok(())
            };
            found.extend(stage.while_it_lives(steps).await);
            if stage.writes(B) > 0 {
                found.push(wrong("a restart let it go on".to_owned()));
            }
            let steps = async {
                stage.until_stopped().await?;
                // What was refused is tried again because the record has changed since.
                stage.ask(Request::Resume(PEOPLE)).await?;
                stage.stage.level().await
            };
            found.extend(stage.while_it_lives(steps).await);
            found.extend(stage.expect("r1", "name", Some(&text("refused"))));
            found.extend(stage.expect("r1", "amount", Some(&Value::Int(9))));
            // A person let it go on, for this start and the next.
            let steps = async {
                stage.edit(A, "r1", &[("name", text("goes on"))]);
                stage.until_shown(B, "r1", "name", &text("goes on")).await
            };
            found.extend(stage.while_it_lives(steps).await);
            found
        })
    };
    finds("standstill_forgotten", test);
}

/// A person repairs the one item; the record shows what they gave everywhere, also where it was refused, and nothing waits.
async fn repaired(stage: &Script, refused: &str) -> Vec<Violation> {
    let steps = async {
        stage.pause(1_000).await;
        stage.edit(A, "r1", &[("name", text(refused)), ("amount", Value::Int(5))]);
        stage.stage.level().await?;
        if stage.shows(B, "r1", "name") == Some(text(refused)) {
            return Err(wrong("what is refused was written".to_owned()));
        }
        let given = |name: &str, value: &str| Resolution::Repair(vec![(name.to_owned(), Some(value.to_owned()))]);
        for bad in [given("colour", "red"), given("amount", "many")] {
            if stage.resolve(bad.clone()).await.is_ok() {
                return Err(wrong(format!("{bad:?} was accepted")));
            }
        }
        stage.resolve(given("name", "repaired")).await?;
        stage.stage.level().await
    };
    let mut found = stage.while_it_lives(steps).await;
    found.extend(stage.expect("r1", "name", Some(&text("repaired"))));
    found.extend(stage.expect("r1", "amount", Some(&Value::Int(5))));
    found.extend(stage.reviews().await.into_iter().map(|review| wrong(format!("still waits for a person: {review:?}"))));
    found
}

#[test]
fn what_validation_refuses_is_repaired_by_a_person() {
    let mut world = world(2);
    world.further.rejects = true;
    let found = told(world, async |stage| repaired(stage, &format!("a {} in it", concord_simulation::users::REJECTED)).await);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn what_a_system_refuses_is_repaired_by_a_person() {
    let mut world = world(2);
    world.members[B].profile.poison = Some("refused".to_owned());
    let found = told(world, async |stage| repaired(stage, "refused").await);
    assert!(found.is_empty(), "{found:#?}");
}

/// A field that flows from A alone is repaired where it is written, and stays as it is where nobody but its own people writes it.
async fn repaired_at_one_end(stage: &Script, refused: &str) -> Vec<Violation> {
    let shows = |a: &str, b: &str| {
        let shown = [A, B].map(|member| stage.shows(member, "r1", "name"));
        (shown != [Some(text(a)), Some(text(b))]).then(|| wrong(format!("{a} and {b} are to be shown: {shown:?}")))
    };
    let steps = async {
        stage.pause(1_000).await;
        stage.edit(A, "r1", &[("name", text(refused)), ("amount", Value::Int(5))]);
        stage.stage.level().await?;
        stage.resolve(in_place("repaired")).await?;
        stage.stage.level().await
    };
    let mut found = stage.while_it_lives(steps).await;
    found.extend(shows(refused, "repaired"));
    found.extend(stage.expect("r1", "amount", Some(&Value::Int(5))));
    found.extend(stage.reviews().await.into_iter().map(|review| wrong(format!("still waits for a person: {review:?}"))));
    // Neither a restart nor another edit at the other end takes it back; what is corrected at its own end flows.
    let steps = async {
        stage.pause(1_000).await;
        stage.edit(B, "r1", &[("amount", Value::Int(6))]);
        stage.stage.level().await
    };
    found.extend(stage.while_it_lives(steps).await);
    found.extend(shows(refused, "repaired"));
    found.extend(stage.expect("r1", "amount", Some(&Value::Int(6))));
    let steps = async {
        stage.pause(1_000).await;
        stage.edit(A, "r1", &[("name", text("corrected"))]);
        stage.stage.level().await
    };
    found.extend(stage.while_it_lives(steps).await);
    found.extend(shows("corrected", "corrected"));
    found
}

/// A world in which names flow from A alone.
fn names_of_a() -> World {
    let mut world = world(2);
    let name = world.field("name").unwrap();
    world.fields[name].flow = Flow::From(A);
    world
}

#[test]
fn a_field_that_flows_one_way_is_repaired_at_the_end_that_takes_it() {
    let invalid = format!("a {} in it", concord_simulation::users::REJECTED);
    let mut world = names_of_a();
    world.further.rejects = true;
    let found = told(world, async |stage| repaired_at_one_end(stage, &invalid).await);
    assert!(found.is_empty(), "{found:#?}");
    let mut world = names_of_a();
    world.members[B].profile.poison = Some("refused".to_owned());
    let found = told(world, async |stage| repaired_at_one_end(stage, "refused").await);
    assert!(found.is_empty(), "{found:#?}");
}

fn in_place(name: &str) -> Resolution {
    Resolution::Repair(vec![("name".to_owned(), Some(name.to_owned()))])
}

/// What is refused as well changes nothing: neither is what B shows taken for an edit, nor is the item closed.
fn judged_as_well(refused: &str, invalid: &str) {
    let mut world = world(2);
    world.further.rejects = true;
    world.members[B].profile.poison = Some("refused".to_owned());
    let found = told(world, async |stage| {
        let steps = async {
            stage.pause(1_000).await;
            stage.edit(A, "r1", &[("name", text(refused))]);
            stage.stage.level().await?;
            if stage.resolve(in_place(invalid)).await.is_ok() || stage.reviews().await.len() != 1 {
                return Err(wrong("what validation refuses was taken because a person gave it".to_owned()));
            }
            stage.edit(A, "r1", &[("amount", Value::Int(3))]);
            stage.stage.level().await?;
            if stage.shows(A, "r1", "name") != Some(text(refused)) || stage.shows(B, "r1", "name") != Some(text("ir1")) {
                return Err(wrong("a repair that was refused has changed something".to_owned()));
            }
            stage.resolve(in_place("repaired")).await?;
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        found.extend(stage.expect("r1", "name", Some(&text("repaired"))));
        found.extend(stage.expect("r1", "amount", Some(&Value::Int(3))));
        found
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn what_a_person_gives_in_place_of_what_was_refused_is_judged_as_well() {
    let invalid = format!("a {} in it", concord_simulation::users::REJECTED);
    judged_as_well("refused", &invalid);
    judged_as_well(&invalid, &invalid);
}

#[test]
fn a_repair_decides_nothing_that_nobody_asked_about() {
    let mut world = world(2);
    world.further.rejects = true;
    let invalid = format!("a {} in it", concord_simulation::users::REJECTED);
    let found = told(world, async |stage| {
        let steps = async {
            stage.pause(1_000).await;
            stage.edit(A, "r1", &[("name", text(&invalid)), ("amount", Value::Int(5))]);
            stage.stage.level().await?;
            stage.edit(B, "r1", &[("amount", Value::Int(7))]);
            stage.stage.level().await?;
            stage.resolve(in_place("repaired")).await?;
            stage.stage.level().await
        };
        let mut found = stage.while_it_lives(steps).await;
        found.extend(stage.expect("r1", "name", Some(&text("repaired"))));
        found.extend(stage.expect("r1", "amount", Some(&Value::Int(7))));
        found.extend(stage.reviews().await.into_iter().map(|review| wrong(format!("still waits for a person: {review:?}"))));
        found
    });
    assert!(found.is_empty(), "{found:#?}");
}
