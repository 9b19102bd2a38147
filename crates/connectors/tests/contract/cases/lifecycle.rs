//! What is made at the source, what is found there again, and what is left behind.

use crate::driver::{Driver, Shape};
use crate::world::*;
use concord_engine::change::Position;
use concord_engine::connector::{Feed, Operation, Outcome, Presence, Severity};
use concord_engine::error::{Class, Code};
use concord_engine::record::FieldName;
use concord_engine::value::Value;
use std::cmp::Ordering;

pub async fn prepare_is_idempotent<D: Driver>() {
    let world = World::<D>::accounts().await;
    let before = world.driver.catalogue().await;
    let selections = [world.selection.clone()];
    let again = prepare(&*world.connector, &selections, std::slice::from_ref(&world.feed)).await;
    assert_eq!(again, world.feed);
    assert_eq!(world.driver.catalogue().await, before);
    world.driver.run(&["INSERT INTO accounts (name) VALUES ('a')"]).await;
    let from_elsewhere = world.driver.open().await;
    let again = prepare(&*from_elsewhere, &selections, std::slice::from_ref(&world.feed)).await;
    assert_eq!(again, world.feed, "a known feed goes on at its stored position");
    let mut changes = capture(&*from_elsewhere, &again, &again.position).await;
    assert_eq!(text_of(&observations(&mut *changes, 1).await[0], "name"), "a");
}

pub async fn objects_join_and_leave_a_running_feed<D: Driver>() {
    let world = World::<D>::accounts().await;
    let second = world.driver.table(Shape::Accounts, "others").await;
    world.driver.run(&["INSERT INTO accounts (name) VALUES ('first')", "INSERT INTO others (name) VALUES ('unseen')"]).await;
    let others = selection(&second, &["name"]);
    let joined = prepare(&*world.connector, &[world.selection.clone(), others.clone()], std::slice::from_ref(&world.feed)).await;
    assert_eq!(joined.position, world.feed.position, "the running feed keeps its position");
    let (object, complete_from) = joined.complete_from.first().expect("an object that joined says from where it is complete");
    assert_eq!(*object, second);
    assert!(!world.connector.reached(&joined.position, complete_from));
    world.driver.run(&["INSERT INTO others (name) VALUES ('seen')"]).await;
    let mut changes = capture(&*world.connector, &joined, &joined.position).await;
    let seen = observed(world.drain(&mut *changes).await);
    assert_eq!(seen.iter().map(|one| text_of(one, "name")).collect::<Vec<_>>(), ["first", "seen"]);
    drop(changes);

    let known = Feed { complete_from: vec![], ..joined };
    let left = prepare(&*world.connector, &[others], &[known]).await;
    assert_eq!(left.objects, [second]);
    let fence = world.connector.fence(&left.name).await.unwrap();
    let mut changes = capture(&*world.connector, &left, &left.position).await;
    world.drain_to(&mut *changes, &fence).await;
    world.driver.run(&["INSERT INTO accounts (name) VALUES ('no longer')", "INSERT INTO others (name) VALUES ('still')"]).await;
    assert_eq!(text_of(&observations(&mut *changes, 1).await[0], "name"), "still");
}

pub async fn a_table_without_a_key_is_refused<D: Driver>() {
    let driver = D::fresh().await;
    let object = driver.table(Shape::Keyless, "keyless").await;
    let connector = driver.open().await;
    let before = driver.catalogue().await;
    let error = connector.prepare(&[selection(&object, &["label"])], &[]).await.unwrap_err();
    assert_eq!(error.code, Code::KeyMissing);
    assert!(error.message.contains("keyless"), "{error}");
    assert_eq!(driver.catalogue().await, before, "a refused prepare leaves nothing behind");
    let findings = connector.check(std::slice::from_ref(&object)).await.unwrap();
    assert!(findings.iter().any(|finding| finding.code == Some(Code::KeyMissing) && !finding.remedy.is_empty()));
}

pub async fn a_missing_object_and_a_missing_field_are_named<D: Driver>() {
    let driver = D::fresh().await;
    let object = driver.table(Shape::Accounts, "accounts").await;
    let missing = object.as_str().replace("accounts", "nowhere").as_str().into();
    let connector = driver.open().await;
    let error = connector.schema(&missing).await.unwrap_err();
    assert_eq!((error.code, error.class()), (Code::ObjectMissing, Class::Stop));
    assert!(error.message.contains("nowhere"), "{error}");
    let error = connector.prepare(&[selection(&object, &["name", "nofield"])], &[]).await.unwrap_err();
    assert_eq!(error.code, Code::FieldMissing);
    assert!(error.message.contains("nofield"), "{error}");
}

pub async fn a_feed_whose_storage_was_removed_is_a_gap_and_never_begun_anew<D: Driver>() {
    let world = World::<D>::accounts().await;
    world.driver.run(&["INSERT INTO accounts (name) VALUES ('a')"]).await;
    world.driver.lose_feed().await;
    let selections = [world.selection.clone()];
    for _ in 0..2 {
        let error = world.connector.prepare(&selections, std::slice::from_ref(&world.feed)).await.unwrap_err();
        assert_eq!((error.code, error.class()), (Code::FeedGap, Class::Stop));
        let error = world.connector.capture(&world.feed, &world.feed.position).await.err().expect("a gap");
        assert_eq!(error.code, Code::FeedGap);
    }
}

pub async fn an_accepted_gap_begins_anew<D: Driver>() {
    let world = World::<D>::accounts().await;
    world.driver.lose_feed().await;
    world.driver.run(&[]).await;
    let accepted = Feed { position: Position::default(), ..world.feed.clone() };
    let begun = prepare(&*world.connector, std::slice::from_ref(&world.selection), &[accepted]).await;
    assert_eq!((&begun.name, &begun.objects), (&world.feed.name, &world.feed.objects));
    assert_ne!(begun.position, world.feed.position);
    world.driver.run(&["INSERT INTO accounts (name) VALUES ('anew')"]).await;
    let mut changes = capture(&*world.connector, &begun, &begun.position).await;
    assert_eq!(text_of(&observations(&mut *changes, 1).await[0], "name"), "anew");
    let old = world.connector.capture(&begun, &world.feed.position).await.err().expect("the old position stays a gap");
    assert_eq!(old.code, Code::FeedGap);
}

pub async fn release_leaves_nothing_behind<D: Driver>() {
    let driver = D::fresh().await;
    let first = driver.table(Shape::Accounts, "accounts").await;
    let second = driver.table(Shape::Composite, "regions").await;
    let before = driver.catalogue().await;
    let selections = [selection(&first, &["name", "email"]), selection(&second, &["label"])];
    let connector = driver.open().await;
    let feed = prepare(&*connector, &selections, &[]).await;
    assert_ne!(driver.catalogue().await, before, "capture makes something");
    driver.run(&["INSERT INTO accounts (name) VALUES ('a')"]).await;
    let mut changes = capture(&*connector, &feed, &feed.position).await;
    observations(&mut *changes, 1).await;
    drop(changes);
    connector.release(&[first.clone(), second.clone()]).await.unwrap();
    assert_eq!(driver.catalogue().await, before);
    connector.release(&[first, second]).await.expect("releasing twice is releasing once");
    assert_eq!(driver.catalogue().await, before);
}

pub async fn release_of_one_object_leaves_the_others_captured<D: Driver>() {
    let driver = D::fresh().await;
    let first = driver.table(Shape::Accounts, "accounts").await;
    let second = driver.table(Shape::Accounts, "others").await;
    let connector = driver.open().await;
    let feed = prepare(&*connector, &[selection(&first, &["name"]), selection(&second, &["name"])], &[]).await;
    connector.release(std::slice::from_ref(&first)).await.unwrap();
    driver.run(&["INSERT INTO accounts (name) VALUES ('gone')", "INSERT INTO others (name) VALUES ('here')"]).await;
    let feed = Feed { objects: vec![second], ..feed };
    let mut changes = capture(&*connector, &feed, &feed.position).await;
    assert_eq!(text_of(&observations(&mut *changes, 1).await[0], "name"), "here");
}

pub async fn check_changes_nothing_and_finds_what_is_missing<D: Driver>() {
    let driver = D::fresh().await;
    let object = driver.table(Shape::Accounts, "accounts").await;
    let missing = object.as_str().replace("accounts", "nowhere").as_str().into();
    let before = driver.catalogue().await;
    let connector = driver.open().await;
    let findings = connector.check(&[object.clone(), missing]).await.unwrap();
    assert_eq!(driver.catalogue().await, before);
    let problems: Vec<_> = findings.iter().filter(|finding| finding.severity == Severity::Problem).collect();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].code, Some(Code::ObjectMissing));
    assert!(!problems[0].remedy.is_empty());
    assert!(connector.objects().await.unwrap().contains(&object));
    let schema = connector.schema(&object).await.unwrap();
    assert_eq!(schema.key, [FieldName::from("id")]);
    assert!(schema.unique.contains(&vec![FieldName::from("email")]));
    assert!(schema.field("id").unwrap().has_default);
}

pub async fn every_version_of_a_later_life_stands_behind_those_of_an_earlier_one<D: Driver>() {
    let world = World::<D>::accounts().await;
    let create =
        |name: &str| Operation::Create { image: fields([("id", Value::Int(1)), ("name", Value::text(name))]), absent_by: vec![] };
    let Outcome::Written { version: earlier, .. } = world.apply_one(create("a")).await else { panic!("not written") };
    world.connector.release(std::slice::from_ref(&world.selection.object)).await.unwrap();
    prepare(&*world.connector, std::slice::from_ref(&world.selection), &[]).await;
    let Presence::Present(read) = world.read(key(1)).await else { panic!("not there") };
    let order = world.connector.compare(&earlier, &read.version);
    assert!(matches!(order, Some(Ordering::Less | Ordering::Equal) | None), "{order:?}");
    let set = Operation::Update { key: key(1), set: fields([("name", Value::text("b"))]), guard: fields([]) };
    let Outcome::Written { version: later, .. } = world.apply_one(set).await else { panic!("not written") };
    assert_ne!(world.connector.compare(&earlier, &later), Some(Ordering::Greater));
}
