//! Guarded writes: what happens, what does not, and what is told of it.

use crate::driver::Driver;
use crate::world::*;
use concord_engine::change::{Image, Version};
use concord_engine::connector::{Operation, Outcome, Presence, Write};
use concord_engine::error::Class;
use concord_engine::record::{Key, Record};
use concord_engine::value::Value;
use std::cmp::Ordering;

fn named(name: &str) -> Record {
    fields([("name", Value::text(name))])
}

fn create(image: Record) -> Operation {
    Operation::Create { image, absent_by: vec![] }
}

fn update(number: i64, set: Record, guard: Record) -> Operation {
    Operation::Update { key: key(number), set, guard }
}

fn written(outcome: Outcome) -> (Key, Option<Record>, Version) {
    match outcome {
        Outcome::Written { key, image, version } => (key, image, version),
        other => panic!("not written: {other:?}"),
    }
}

pub async fn an_echo_carries_its_mark_and_an_outside_edit_does_not<D: Driver>() {
    let world = World::<D>::accounts().await;
    world.driver.run(&["INSERT INTO accounts (id, name) VALUES (1, 'theirs')"]).await;
    let results = world.apply(vec![update(1, named("ours"), named("theirs")), create(fields([("id", Value::Int(2))]))]).await;
    results.into_iter().for_each(|result| drop(written(result.outcome)));
    world.driver.run(&["UPDATE accounts SET name = 'theirs again' WHERE id = 1"]).await;
    world.apply(vec![Operation::Delete { key: key(2), guard: fields([]) }]).await;
    let mut changes = world.capture().await;
    let marks: Vec<_> = observations(&mut *changes, 5).await.into_iter().map(|one| one.mark).collect();
    assert_eq!(marks, [None, Some(mark(7)), Some(mark(7)), None, Some(mark(7))]);
}

pub async fn an_update_is_written_when_its_guard_holds<D: Driver>() {
    let world = World::<D>::accounts().await;
    world.driver.run(&["INSERT INTO accounts (id, name, amount) VALUES (1, 'a', 5)"]).await;
    let guard = fields([("name", Value::text("a")), ("amount", Value::Int(5)), ("note", Value::Null)]);
    let (written_key, image, _) = written(world.apply_one(update(1, named("b"), guard)).await);
    assert_eq!(written_key, key(1));
    let expected = fields([
        ("id", Value::Int(1)),
        ("name", Value::text("b")),
        ("email", Value::Null),
        ("amount", Value::Int(5)),
        ("note", Value::Null),
    ]);
    assert_means(&image.expect("the image as the system returned it"), &expected);
    assert_means(&world.read_record(key(1)).await, &expected);
}

pub async fn an_update_is_missed_when_its_guard_does_not_hold<D: Driver>() {
    let world = World::<D>::accounts().await;
    world.driver.run(&["INSERT INTO accounts (id, name, amount) VALUES (1, 'a', 5)"]).await;
    world.driver.run(&["UPDATE accounts SET amount = 6 WHERE id = 1"]).await;
    let guard = fields([("name", Value::text("a")), ("amount", Value::Int(5))]);
    assert!(matches!(world.apply_one(update(1, named("b"), guard)).await, Outcome::Missed));
    assert_means(&world.read_record(key(1)).await, &fields([("name", Value::text("a")), ("amount", Value::Int(6))]));
}

pub async fn a_guard_of_null_holds_for_null_only<D: Driver>() {
    let world = World::<D>::accounts().await;
    world.driver.run(&["INSERT INTO accounts (id, note) VALUES (1, ''), (2, NULL)"]).await;
    let guard = || fields([("note", Value::Null)]);
    assert!(matches!(world.apply_one(update(1, named("b"), guard())).await, Outcome::Missed));
    written(world.apply_one(update(2, named("b"), guard())).await);
    let empty = fields([("note", Value::text(""))]);
    assert!(matches!(world.apply_one(update(2, named("c"), empty.clone())).await, Outcome::Missed));
    written(world.apply_one(update(1, named("c"), empty)).await);
}

pub async fn a_delete_is_guarded_alike<D: Driver>() {
    let world = World::<D>::accounts().await;
    world.driver.run(&["INSERT INTO accounts (id, name) VALUES (1, 'a')"]).await;
    let delete = |guard| Operation::Delete { key: key(1), guard };
    assert!(matches!(world.apply_one(delete(named("b"))).await, Outcome::Missed));
    let (_, image, _) = written(world.apply_one(delete(named("a"))).await);
    assert_eq!(image, None);
    assert!(matches!(world.read(key(1)).await, Presence::Absent { .. }));
}

pub async fn a_write_to_an_absent_record_is_missed<D: Driver>() {
    let world = World::<D>::accounts().await;
    assert!(matches!(world.apply_one(update(1, named("b"), fields([]))).await, Outcome::Missed));
    assert!(matches!(world.apply_one(Operation::Delete { key: key(1), guard: fields([]) }).await, Outcome::Missed));
}

pub async fn a_create_collides_by_its_key<D: Driver>() {
    let world = World::<D>::accounts().await;
    world.driver.run(&["INSERT INTO accounts (id, name) VALUES (1, 'theirs')"]).await;
    let ours = fields([("id", Value::Int(1)), ("name", Value::text("ours"))]);
    assert!(matches!(world.apply_one(create(ours)).await, Outcome::Collision));
    assert_means(&world.read_record(key(1)).await, &named("theirs"));
}

pub async fn a_create_collides_by_its_match_fields<D: Driver>() {
    let world = World::<D>::accounts().await;
    world.driver.run(&["INSERT INTO accounts (id, name, note) VALUES (1, 'a', 'x')"]).await;
    let absent_by = vec!["name".into(), "note".into()];
    let make = |name: &str, note: Value| Operation::Create {
        image: fields([("name", Value::text(name)), ("note", note)]),
        absent_by: absent_by.clone(),
    };
    assert!(matches!(world.apply_one(make("a", Value::text("x"))).await, Outcome::Collision));
    written(world.apply_one(make("a", Value::text("y"))).await);
    written(world.apply_one(make("b", Value::text("x"))).await);
    assert!(matches!(world.apply_one(make("b", Value::text("x"))).await, Outcome::Collision));
    // What is left out is null, and equal to null alone.
    let bare = |name: &str| Operation::Create { image: named(name), absent_by: absent_by.clone() };
    written(world.apply_one(bare("a")).await);
    assert!(matches!(world.apply_one(bare("a")).await, Outcome::Collision));
}

pub async fn a_create_returns_the_generated_key<D: Driver>() {
    let world = World::<D>::accounts().await;
    let (made, image, _) = written(world.apply_one(create(named("a"))).await);
    let image = image.expect("an image");
    assert_eq!(image.get("id"), made.0.first());
    assert_means(&world.read_record(made.clone()).await, &named("a"));
    let (other, _, _) = written(world.apply_one(create(named("b"))).await);
    assert_ne!(made, other);
}

pub async fn one_bad_row_fails_alone<D: Driver>() {
    let world = World::<D>::accounts().await;
    world.driver.run(&["INSERT INTO accounts (id, email, amount) VALUES (1, 'taken@x', 1)"]).await;
    let operations = vec![
        create(fields([("id", Value::Int(10)), ("name", Value::text("good"))])),
        create(fields([("id", Value::Int(11)), ("amount", Value::Int(-1))])),
        create(fields([("id", Value::Int(12)), ("email", Value::text("taken@x"))])),
        update(1, fields([("amount", Value::Int(-5))]), fields([])),
        update(1, fields([("amount", Value::Int(5))]), fields([])),
        create(fields([("id", Value::Int(13)), ("name", Value::text("good too"))])),
    ];
    let results = world.apply(operations).await;
    for (result, good) in results.iter().zip([true, false, false, false, true, true]) {
        match &result.outcome {
            Outcome::Written { .. } => assert!(good, "write {} was bad", result.id),
            Outcome::Failed(error) => {
                assert!(!good, "write {} was good: {error}", result.id);
                assert_eq!(error.class(), Class::Rejected, "{error}");
                assert!(!error.to_string().contains("taken@x"), "no record's values in an error: {error}");
            }
            // A unique set that is neither key nor match field may be told of either way; it is not written.
            Outcome::Collision => assert_eq!(result.id, 3),
            other => panic!("write {}: {other:?}", result.id),
        }
    }
    assert_means(&world.read_record(key(1)).await, &fields([("amount", Value::Int(5))]));
    let mut changes = world.capture().await;
    assert_eq!(observed(world.drain(&mut *changes).await).len(), 4, "what failed is not in the feed");
}

pub async fn results_are_tied_to_ids_whatever_the_order<D: Driver>() {
    let world = World::<D>::accounts().await;
    let writes: Vec<Write> = [50, 3, 20, 4]
        .into_iter()
        .map(|id| {
            let number = i64::try_from(id).unwrap();
            let image = fields([("id", Value::Int(number)), ("name", Value::text(format!("n{id}")))]);
            Write { id, operation: create(image) }
        })
        .collect();
    let results = world.connector.apply(&world.selection, &mark(1), &writes).await.unwrap();
    let mut ids: Vec<u64> = results.iter().map(|result| result.id).collect();
    ids.sort_unstable();
    assert_eq!(ids, [3, 4, 20, 50]);
    for result in results {
        let id = result.id;
        let (made, image, _) = written(result.outcome);
        assert_eq!(made, key(i64::try_from(id).unwrap()));
        assert_means(&image.unwrap(), &named(&format!("n{id}")));
    }
}

pub async fn a_write_may_change_the_key<D: Driver>() {
    let world = World::<D>::accounts().await;
    world.driver.run(&["INSERT INTO accounts (id, name) VALUES (1, 'a'), (2, 'b')"]).await;
    let (moved, image, _) = written(world.apply_one(update(1, fields([("id", Value::Int(5))]), named("a"))).await);
    assert_eq!(moved, key(5));
    assert_means(&image.unwrap(), &named("a"));
    match world.apply_one(update(5, fields([("id", Value::Int(2))]), fields([]))).await {
        Outcome::Failed(_) | Outcome::Collision => {}
        other => panic!("another record has this key: {other:?}"),
    }
    let mut changes = world.capture().await;
    let seen = observations(&mut *changes, 3).await;
    assert_eq!((&seen[2].key, &seen[2].old_key, &seen[2].mark), (&key(5), &Some(key(1)), &Some(mark(7))));
}

pub async fn a_locked_record_is_locked_and_not_written<D: Driver>() {
    let world = World::<D>::accounts().await;
    world.driver.run(&["INSERT INTO accounts (id, name) VALUES (1, 'a')"]).await;
    let held = world.driver.hold("UPDATE accounts SET name = 'held' WHERE id = 1").await;
    assert!(matches!(world.apply_one(update(1, named("b"), named("a"))).await, Outcome::Locked));
    held.end().await;
    written(world.apply_one(update(1, named("b"), named("a"))).await);
}

pub async fn a_written_version_stands_between_earlier_and_later_changes<D: Driver>() {
    let world = World::<D>::accounts().await;
    world.driver.run(&["INSERT INTO accounts (id, name) VALUES (1, 'earlier')"]).await;
    let (_, _, ours) = written(world.apply_one(update(1, named("ours"), fields([]))).await);
    world.driver.run(&["UPDATE accounts SET name = 'later' WHERE id = 1"]).await;
    let mut changes = world.capture().await;
    let seen = observations(&mut *changes, 3).await;
    let compare = |place: usize| world.connector.compare(&seen[place].version, &ours);
    assert_eq!(compare(0), Some(Ordering::Less));
    assert_eq!(compare(2), Some(Ordering::Greater));
}

pub async fn what_a_trigger_makes_of_our_write_is_returned_and_marked<D: Driver>() {
    let world = World::<D>::accounts().await;
    let triggers = world.driver.upper_case_trigger("accounts");
    world.driver.run(&triggers.iter().map(String::as_str).collect::<Vec<_>>()).await;
    world.driver.run(&["INSERT INTO accounts (id, name) VALUES (1, 'A')"]).await;
    let (_, image, _) = written(world.apply_one(update(1, named("ours"), named("A"))).await);
    assert_means(&image.unwrap(), &named("OURS"));
    let mut changes = world.capture().await;
    let seen = observed(world.drain(&mut *changes).await);
    let last = seen.last().unwrap();
    assert_eq!(text_of(last, "name"), "OURS", "the last that is shown is how the record is");
    assert_eq!(last.mark, Some(mark(7)), "what happens inside our transaction carries our mark");
}

pub async fn a_fence_is_behind_every_earlier_write<D: Driver>() {
    let world = World::<D>::accounts().await;
    for number in 1..=20 {
        // The caller of this write is gone before it learns the outcome.
        let image = fields([("id", Value::Int(number)), ("name", Value::text("x"))]);
        let writes = [Write { id: 1, operation: create(image) }];
        let wait = std::time::Duration::from_micros(u64::try_from(number).unwrap() * 100);
        let _ = tokio::time::timeout(wait, world.connector.apply(&world.selection, &mark(1), &writes)).await;
        let fence = world.connector.fence(&world.feed.name).await.unwrap();
        let there_now = matches!(world.read(key(number)).await, Presence::Present(_));
        let mut changes = world.capture().await;
        let seen = observed(world.drain_to(&mut *changes, &fence).await);
        let in_feed = seen.iter().any(|one| one.key == key(number) && matches!(one.image, Image::Full(_)));
        assert_eq!(in_feed, there_now, "the feed up to the fence tells whether write {number} happened");
    }
}
