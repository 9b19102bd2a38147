//! Reads by key and by value, and snapshots in chunks.

use crate::driver::{Driver, Shape, quoted};
use crate::world::*;
use concord_engine::change::{Image, Observation};
use concord_engine::connector::{ChunkCursor, Operation, Outcome, Presence};
use concord_engine::record::Key;
use concord_engine::value::Value;
use std::cmp::Ordering;
use std::collections::BTreeMap;

pub async fn a_read_answers_in_the_order_asked<D: Driver>() {
    let world = World::<D>::accounts().await;
    world.driver.run(&["INSERT INTO accounts (id, name) VALUES (1, 'a'), (2, 'b'), (9, 'c')"]).await;
    // Of one that never was nothing tells a hosted product's user that he just may not see it.
    world.driver.run(&["DELETE FROM accounts WHERE id = 9"]).await;
    let answers = world.connector.read(&world.selection, &[key(2), key(9), key(1), key(2)]).await.unwrap();
    let names: Vec<Option<String>> = answers
        .iter()
        .map(|answer| match answer {
            Presence::Present(one) => Some(text_of(one, "name")),
            Presence::Absent { .. } => None,
            Presence::Forbidden(error) => panic!("{error}"),
        })
        .collect();
    assert_eq!(names, [Some("b".to_owned()), None, Some("a".to_owned()), Some("b".to_owned())]);
}

pub async fn a_read_stands_in_order_with_the_stream<D: Driver>() {
    let world = World::<D>::accounts().await;
    world.driver.run(&["INSERT INTO accounts (id, name) VALUES (1, 'a')"]).await;
    let Presence::Present(read) = world.read(key(1)).await else { panic!("not there") };
    let Presence::Absent { version: absent } = world.read(key(2)).await else { panic!("there") };
    assert!(read.time.estimated, "a time learnt by a read is an estimate");
    world.driver.run(&["UPDATE accounts SET name = 'b' WHERE id = 1", "INSERT INTO accounts (id) VALUES (2)"]).await;
    let mut changes = world.capture().await;
    let seen = observations(&mut *changes, 3).await;
    let compare = |place: usize, version| world.connector.compare(&seen[place].version, version);
    assert_ne!(compare(0, &read.version), Some(Ordering::Greater), "the read saw the first change");
    assert_eq!(compare(1, &read.version), Some(Ordering::Greater));
    assert_eq!(compare(2, &absent), Some(Ordering::Greater));
}

pub async fn find_answers_with_none_one_or_many<D: Driver>() {
    let world = World::<D>::accounts().await;
    world
        .driver
        .run(&["INSERT INTO accounts (id, name, amount) VALUES (1, 'one', 1), (2, 'many', 2), (3, 'many', 2), (4, 'many', 3), (5, 'Many', 2)"])
        .await;
    let rows = [
        vec![Value::text("many"), Value::Int(2)],
        vec![Value::text("none"), Value::Int(2)],
        vec![Value::text("one"), Value::Int(1)],
        vec![Value::text("one"), Value::Int(2)],
    ];
    let found = world.connector.find(&world.selection, &["name".into(), "amount".into()], &rows, 5).await.unwrap();
    let keys: Vec<Vec<Key>> = found.iter().map(|row| row.iter().map(|one| one.key.clone()).collect()).collect();
    let mut many = keys[0].clone();
    many.sort_by_key(Key::encode);
    assert_eq!(many, [key(2), key(3)]);
    assert_eq!(keys[1..], [vec![], vec![key(1)], vec![]]);
    assert!(matches!(&found[2][0].image, Image::Full(record) if record.has("note")));
    let limited = world.connector.find(&world.selection, &["name".into()], &[vec![Value::text("many")]], 2).await.unwrap();
    assert_eq!(limited[0].len(), 2);
}

pub async fn a_null_is_found_by_null_alone<D: Driver>() {
    let world = World::<D>::accounts().await;
    world.driver.run(&["INSERT INTO accounts (id, name, note) VALUES (1, 'a', NULL), (2, 'a', ''), (3, 'b', NULL)"]).await;
    let rows = [vec![Value::text("a"), Value::Null], vec![Value::text("a"), Value::text("")], vec![Value::Null, Value::Null]];
    let found = world.connector.find(&world.selection, &["name".into(), "note".into()], &rows, 2).await.unwrap();
    let keys: Vec<Vec<Key>> = found.iter().map(|row| row.iter().map(|one| one.key.clone()).collect()).collect();
    assert_eq!(keys, [vec![key(1)], vec![key(2)], vec![]]);
}

async fn whole_snapshot<D: Driver>(world: &World<D>, limit: usize) -> Vec<Observation> {
    let mut cursor = ChunkCursor::default();
    let mut all = Vec::new();
    loop {
        let chunk = world.connector.snapshot(&world.selection, &cursor, limit).await.unwrap();
        assert!(chunk.records.len() <= limit);
        all.extend(chunk.records);
        match chunk.next {
            Some(next) => cursor = next,
            None => return all,
        }
    }
}

pub async fn a_snapshot_resumes_and_covers_each_record_once<D: Driver>() {
    let world = World::<D>::accounts().await;
    assert!(whole_snapshot(&world, 10).await.is_empty());
    for number in (1..=25).rev() {
        world.driver.run(&[&format!("INSERT INTO accounts (id, name) VALUES ({number}, 'n{number}')")]).await;
    }
    for limit in [1, 4, 25, 26] {
        let keys: Vec<Key> = whole_snapshot(&world, limit).await.into_iter().map(|one| one.key).collect();
        assert_eq!(keys, (1..=25).map(key).collect::<Vec<_>>(), "in chunks of {limit}");
    }
    // A restart between two chunks.
    let first = world.connector.snapshot(&world.selection, &ChunkCursor::default(), 10).await.unwrap();
    let other = world.driver.open().await;
    let second = other.snapshot(&world.selection, &first.next.unwrap(), 100).await.unwrap();
    assert_eq!(second.records.iter().map(|one| one.key.clone()).collect::<Vec<_>>(), (11..=25).map(key).collect::<Vec<_>>());
    let versions: Vec<_> = second.records.iter().map(|one| one.version.clone()).collect();
    assert!(versions.windows(2).all(|pair| pair[0] == pair[1]), "all records of a chunk are seen at one version");
}

/// Chunks and feed, merged by version, must give exactly what the table holds in the end.
pub async fn a_snapshot_under_writers_and_the_feed_together_are_complete<D: Driver>() {
    let world = World::<D>::accounts().await;
    for number in 1..=60 {
        world.driver.run(&[&format!("INSERT INTO accounts (id, name, amount) VALUES ({number}, 'n', 0)")]).await;
    }
    let edits = async {
        for round in 1..=40_i64 {
            let (a, b) = (round * 7 % 60 + 1, round * 13 % 60 + 1);
            world
                .driver
                .run(&[
                    &format!("UPDATE accounts SET amount = {round} WHERE id = {a}"),
                    &format!("DELETE FROM accounts WHERE id = {b}"),
                    &format!("INSERT INTO accounts (id, name, amount) VALUES ({}, 'new', {round})", 100 + round),
                ])
                .await;
        }
    };
    let (chunks, ()) = tokio::join!(whole_snapshot(&world, 5), edits);
    let mut keys: Vec<Vec<u8>> = chunks.iter().map(|one| one.key.encode()).collect();
    let count = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), count, "no record twice in one pass");

    let mut changes = world.capture().await;
    let stream = observed(world.drain(&mut *changes).await);
    let mut merged: BTreeMap<Vec<u8>, Observation> = BTreeMap::new();
    for one in stream.into_iter().chain(chunks) {
        let place = one.key.encode();
        let newer = match merged.get(&place) {
            Some(held) => {
                let order = world.connector.compare(&one.version, &held.version);
                order.expect("chunk and stream can be told apart") == Ordering::Greater
            }
            None => true,
        };
        if newer {
            merged.insert(place, one);
        }
    }
    merged.retain(|_, one| one.image != Image::Deleted);
    let table = whole_snapshot(&world, 1_000).await;
    assert_eq!(merged.len(), table.len());
    for one in table {
        assert_means(record(&merged[&one.key.encode()]), record(&one));
    }
}

pub async fn composite_keys_are_snapshot_read_and_written<D: Driver>() {
    let world = World::<D>::with(Shape::Composite, "regions", &["label"]).await;
    let schema = world.connector.schema(&world.selection.object).await.unwrap();
    assert_eq!(schema.key, ["region".into(), "number".into()], "the key's own order, not the table's");
    let key = |region: &str, number: i64| Key(vec![Value::text(region), Value::Int(number)]);
    for (region, number) in [("b", 1), ("a", 2), ("a", 10), ("a:1", 0)] {
        let image = fields([("region", Value::text(region)), ("number", Value::Int(number)), ("label", Value::text("x"))]);
        let outcome = world.apply_one(Operation::Create { image, absent_by: vec![] }).await;
        let Outcome::Written { key: made, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(made, key(region, number));
    }
    for limit in [1, 3] {
        let keys: Vec<Key> = whole_snapshot(&world, limit).await.into_iter().map(|one| one.key).collect();
        assert_eq!(keys, [key("a", 2), key("a", 10), key("a:1", 0), key("b", 1)]);
    }
    assert!(matches!(world.read(key("a", 1)).await, Presence::Absent { .. }));
    assert_eq!(world.read_record(key("a", 10)).await.get("label"), Some(&Value::text("x")));
    let set = fields([("number", Value::Int(11))]);
    let outcome = world.apply_one(Operation::Update { key: key("a", 10), set, guard: fields([]) }).await;
    assert!(matches!(&outcome, Outcome::Written { key: moved, .. } if *moved == key("a", 11)), "{outcome:?}");
    let mut changes = world.capture().await;
    let seen = observed(world.drain(&mut *changes).await);
    let last = seen.last().unwrap();
    assert_eq!((&last.key, &last.old_key), (&key("a", 11), &Some(key("a", 10))));
}

pub async fn odd_names_are_no_obstacle<D: Driver>() {
    let driver = D::fresh().await;
    let odd = driver.odd_name();
    let object = driver.table(Shape::Odd, odd).await;
    let before = driver.catalogue().await;
    let world = World::prepared(driver, selection(&object, &[odd, "label"])).await;
    assert!(world.connector.objects().await.unwrap().contains(&object));
    let table = quoted(odd);
    world.driver.run(&[&format!("INSERT INTO {table} ({table}, label) VALUES ('k''1', 'outside')")]).await;
    let outcome = world
        .apply_one(Operation::Update {
            key: Key(vec![Value::text("k'1")]),
            set: fields([("label", Value::text("ours"))]),
            guard: fields([("label", Value::text("outside"))]),
        })
        .await;
    assert!(matches!(outcome, Outcome::Written { .. }), "{outcome:?}");
    let found = world.connector.find(&world.selection, &[odd.into()], &[vec![Value::text("k'1")]], 2).await.unwrap();
    assert_eq!(text_of(&found[0][0], "label"), "ours");
    let mut changes = world.capture().await;
    let labels: Vec<_> = observations(&mut *changes, 2).await.iter().map(|one| text_of(one, "label")).collect();
    assert_eq!(labels, ["outside", "ours"]);
    drop(changes);
    world.connector.release(&[object]).await.unwrap();
    assert_eq!(world.driver.catalogue().await, before);
}

pub async fn count_is_about_right<D: Driver>() {
    let world = World::<D>::accounts().await;
    let values: Vec<String> = (1..=200).map(|number| format!("({number})")).collect();
    world.driver.run(&[&format!("INSERT INTO accounts (id) VALUES {}", values.join(", "))]).await;
    let count = world.connector.count(&world.selection.object).await.unwrap();
    assert!((100..=400).contains(&count), "{count}");
}
