//! Order, duplicates, resumption and limits of a feed.

use crate::driver::Driver;
use crate::world::*;
use concord_engine::change::{Image, Position};
use concord_engine::clock::{Clock, SystemClock};
use concord_engine::connector::{Event, Limits};
use concord_engine::record::Key;
use concord_engine::value::Value;
use std::cmp::Ordering;
use std::time::{Duration, Instant};

fn shown(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| format!("{event:?}")).collect()
}

async fn some_history<D: Driver>(world: &World<D>) {
    for number in 1..=6 {
        world
            .driver
            .run(&[
                &format!("INSERT INTO accounts (id, name, amount) VALUES ({number}, 'n{number}', {number})"),
                &format!("UPDATE accounts SET note = 'x' WHERE id <= {number}"),
            ])
            .await;
    }
    world.driver.run(&["DELETE FROM accounts WHERE id = 3"]).await;
    world.driver.run(&["UPDATE accounts SET id = 40 WHERE id = 4"]).await;
}

pub async fn a_feed_resumes_from_every_position_with_the_same_events<D: Driver>() {
    let world = World::<D>::accounts().await;
    some_history(&world).await;
    let fence = world.connector.fence(&world.feed.name).await.unwrap();
    // The positions, and how many events had been handed out when each was told.
    let mut places: Vec<(Position, usize)> = vec![(world.feed.position.clone(), 0)];
    let mut all = Vec::new();
    let mut changes = world.capture().await;
    while !world.connector.reached(&places.last().unwrap().0, &fence) {
        let batch = next(&mut *changes, Limits { max_events: 2, ..LIMITS }).await;
        all.extend(shown(&batch.events));
        places.extend(batch.position.map(|position| (position, all.len())));
    }
    drop(changes);
    assert_eq!(all.len(), 6 + (1..=6).sum::<usize>() + 2);
    for (position, count) in places {
        // Another reader, begun there as after a kill: it shows what was not handed out yet, perhaps a little more.
        let mut changes = world.capture_from(&position).await;
        let rest = shown(&world.drain_to(&mut *changes, &fence).await);
        assert!(all.ends_with(&rest), "behind {count} events came others: {rest:#?}");
        assert!(rest.len() >= all.len() - count, "behind {count} events some were lost: {rest:#?}");
    }
}

pub async fn nothing_is_lost_or_doubled_behind_an_acknowledged_position<D: Driver>() {
    let world = World::<D>::accounts().await;
    let mut position = world.feed.position.clone();
    for round in 0..4 {
        let statements: Vec<String> =
            (0..700).map(|number| format!("INSERT INTO accounts (name) VALUES ('{round}-{number}')")).collect();
        let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
        world.driver.run(&statements).await;
        let fence = world.connector.fence(&world.feed.name).await.unwrap();
        // A new life of the reader each time, begun at what was acknowledged.
        let connector = world.driver.open().await;
        let known = concord_engine::connector::Feed { position: position.clone(), ..world.feed.clone() };
        let feed = prepare(&*connector, std::slice::from_ref(&world.selection), &[known]).await;
        assert_eq!(feed.position, position);
        let mut changes = capture(&*connector, &feed, &feed.position).await;
        let mut names = Vec::new();
        for batch in world.drain_batches(&mut *changes, &fence).await {
            if let Some(reached) = batch.position {
                position = reached;
            }
            names.extend(observed(batch.events).iter().map(|one| text_of(one, "name")));
            connector.acknowledge(&feed.name, &position).await.unwrap();
        }
        let expected: Vec<String> = (0..700).map(|number| format!("{round}-{number}")).collect();
        assert_eq!(names, expected);
    }
}

pub async fn changes_of_one_record_come_in_their_order<D: Driver>() {
    let world = World::<D>::accounts().await;
    world.driver.run(&["INSERT INTO accounts (id, amount) VALUES (1, 0), (2, 0), (3, 0)"]).await;
    let driver = &world.driver;
    let writers: Vec<_> =
        (0..60).map(|number| format!("UPDATE accounts SET amount = amount + 1 WHERE id = {}", number % 3 + 1)).collect();
    let writes = writers.chunks(20).map(|part| async move {
        for statement in part {
            driver.run(&[statement]).await;
        }
    });
    futures_util::future::join_all(writes).await;
    let mut changes = world.capture().await;
    let seen = observations(&mut *changes, 63).await;
    for id in 1..=3 {
        let of_one: Vec<_> = seen.iter().filter(|one| one.key == key(id)).collect();
        let amounts: Vec<_> = of_one.iter().map(|one| record(one).get("amount").cloned().unwrap()).collect();
        assert_eq!(amounts, (0..=20).map(Value::Int).collect::<Vec<_>>());
        for pair in of_one.windows(2) {
            assert_eq!(world.connector.compare(&pair[0].version, &pair[1].version), Some(Ordering::Less));
        }
    }
}

pub async fn a_batch_never_exceeds_its_limits<D: Driver>() {
    let world = World::<D>::accounts().await;
    let long = "x".repeat(20_000);
    let statements: Vec<String> =
        (0..30).map(|number| format!("INSERT INTO accounts (id, note) VALUES ({number}, '{long}')")).collect();
    world.driver.run(&statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let fence = world.connector.fence(&world.feed.name).await.unwrap();
    for (limits, most) in [
        (Limits { max_events: 7, ..LIMITS }, 7),
        (Limits { max_bytes: 50_000, ..LIMITS }, 3),
        (Limits { max_bytes: 1, ..LIMITS }, 1),
    ] {
        let mut changes = world.capture().await;
        let mut count = 0;
        loop {
            let batch = next(&mut *changes, limits).await;
            assert!(batch.events.len() <= most, "{} events where {most} were allowed", batch.events.len());
            count += batch.events.len();
            if batch.position.is_some_and(|position| world.connector.reached(&position, &fence)) {
                break;
            }
        }
        assert_eq!(count, 30, "a record larger than the limit comes alone, and none is left out");
    }
}

pub async fn an_idle_feed_answers_with_an_empty_batch_in_time<D: Driver>() {
    let world = World::<D>::accounts().await;
    let mut changes = world.capture().await;
    let before = Instant::now();
    let batch = next(&mut *changes, Limits { max_wait: Duration::from_millis(50), ..LIMITS }).await;
    assert!(batch.events.is_empty());
    assert!(before.elapsed() < Duration::from_secs(5), "{:?}", before.elapsed());
    world.driver.run(&["INSERT INTO accounts (name) VALUES ('a')"]).await;
    let before = Instant::now();
    let mut batch = next(&mut *changes, Limits { max_wait: Duration::from_secs(15), ..LIMITS }).await;
    while batch.events.is_empty() {
        batch = next(&mut *changes, Limits { max_wait: Duration::from_secs(15), ..LIMITS }).await;
    }
    assert!(before.elapsed() < Duration::from_secs(10), "what has arrived is returned at once, not at the end of the wait");
}

pub async fn an_edit_and_its_revert_are_both_shown<D: Driver>() {
    let world = World::<D>::accounts().await;
    world.driver.run(&["INSERT INTO accounts (id, name) VALUES (1, 'before')"]).await;
    world.driver.run(&["UPDATE accounts SET name = 'edited' WHERE id = 1"]).await;
    world.driver.run(&["UPDATE accounts SET name = 'before' WHERE id = 1"]).await;
    world.driver.run(&["UPDATE accounts SET name = 'a' WHERE id = 1", "UPDATE accounts SET name = 'b' WHERE id = 1"]).await;
    let mut changes = world.capture().await;
    let names: Vec<_> = observations(&mut *changes, 5).await.iter().map(|one| text_of(one, "name")).collect();
    assert_eq!(names, ["before", "edited", "before", "a", "b"]);
}

pub async fn a_key_change_shows_the_old_key<D: Driver>() {
    let world = World::<D>::accounts().await;
    world.driver.run(&["INSERT INTO accounts (id, name) VALUES (1, 'a')"]).await;
    world.driver.run(&["UPDATE accounts SET id = 9, name = 'b' WHERE id = 1"]).await;
    world.driver.run(&["UPDATE accounts SET name = 'c' WHERE id = 9"]).await;
    let mut changes = world.capture().await;
    let seen = observations(&mut *changes, 3).await;
    assert_eq!((&seen[0].key, &seen[0].old_key), (&key(1), &None));
    assert_eq!((&seen[1].key, &seen[1].old_key), (&key(9), &Some(key(1))));
    assert_eq!(text_of(&seen[1], "name"), "b");
    assert_eq!((&seen[2].key, &seen[2].old_key), (&key(9), &None));
}

pub async fn a_making_is_told_only_of_what_was_made<D: Driver>() {
    let world = World::<D>::accounts().await;
    world.driver.run(&["INSERT INTO accounts (id, name) VALUES (1, 'a')"]).await;
    world.driver.run(&["UPDATE accounts SET name = 'b' WHERE id = 1"]).await;
    world.driver.run(&["UPDATE accounts SET id = 9 WHERE id = 1"]).await;
    world.driver.run(&["DELETE FROM accounts WHERE id = 9"]).await;
    let mut changes = world.capture().await;
    let seen = observations(&mut *changes, 4).await;
    let made: Vec<bool> = seen.iter().map(|one| one.made).collect();
    assert!(matches!(made[..], [_, false, false, false]), "{made:?}");
}

pub async fn a_delete_is_shown_by_its_key<D: Driver>() {
    let world = World::<D>::accounts().await;
    world.driver.run(&["INSERT INTO accounts (id, name) VALUES (1, 'a'), (2, 'b')"]).await;
    world.driver.run(&["DELETE FROM accounts WHERE id = 2"]).await;
    let mut changes = world.capture().await;
    let seen = observations(&mut *changes, 3).await;
    assert_eq!((&seen[2].key, &seen[2].image), (&key(2), &Image::Deleted));
}

pub async fn emptying_a_table_is_shown<D: Driver>() {
    let world = World::<D>::accounts().await;
    world.driver.run(&["INSERT INTO accounts (id, name) VALUES (1, 'a'), (2, 'b')"]).await;
    world.driver.run(&[&world.driver.emptying("accounts")]).await;
    world.driver.run(&["INSERT INTO accounts (id, name) VALUES (3, 'c')"]).await;
    let mut changes = world.capture().await;
    let mut there: Vec<Key> = Vec::new();
    for event in world.drain(&mut *changes).await {
        match event {
            Event::Observed(one) | Event::Read(one) if one.image == Image::Deleted => there.retain(|key| *key != one.key),
            Event::Observed(one) | Event::Read(one) => there.push(one.key),
            Event::Truncated { object, .. } => {
                assert_eq!(object, world.selection.object);
                there.clear();
            }
            Event::SchemaChanged(_) => {}
        }
    }
    assert_eq!(there, [key(3)]);
}

pub async fn a_rolled_back_change_is_never_shown<D: Driver>() {
    let world = World::<D>::accounts().await;
    world.driver.run_and_roll_back("INSERT INTO accounts (id, name) VALUES (1, 'never')").await;
    world.driver.run(&["INSERT INTO accounts (id, name) VALUES (2, 'real')"]).await;
    let mut changes = world.capture().await;
    let seen = observed(world.drain(&mut *changes).await);
    assert_eq!(seen.iter().map(|one| text_of(one, "name")).collect::<Vec<_>>(), ["real"]);
}

pub async fn a_dropped_call_of_next_loses_nothing<D: Driver>() {
    let world = World::<D>::accounts().await;
    let mut changes = world.capture().await;
    let mut names = Vec::new();
    for number in 0..40 {
        world.driver.run(&[&format!("INSERT INTO accounts (name) VALUES ('{number}')")]).await;
        // Cut off at ever other moments of the call: before, while and after the system was asked.
        let cut_off = Duration::from_micros(number * 137);
        if let Ok(batch) = tokio::time::timeout(cut_off, changes.next(LIMITS)).await {
            names.extend(observed(batch.unwrap().events).iter().map(|one| text_of(one, "name")));
        }
    }
    names.extend(observed(world.drain(&mut *changes).await).iter().map(|one| text_of(one, "name")));
    assert_eq!(names, (0..40).map(|number| number.to_string()).collect::<Vec<_>>());
}

pub async fn a_cut_connection_is_made_anew_and_loses_nothing<D: Driver>() {
    let world = World::<D>::accounts().await;
    world.driver.run(&["INSERT INTO accounts (id, name) VALUES (1, 'before')"]).await;
    let mut changes = world.capture().await;
    let fence = world.connector.fence(&world.feed.name).await.unwrap();
    let batches = world.drain_batches(&mut *changes, &fence).await;
    let position = batches.last().unwrap().position.clone().unwrap();
    assert_eq!(observed(batches.into_iter().flat_map(|batch| batch.events)).len(), 1);
    world.driver.cut().await;
    world.driver.run(&["INSERT INTO accounts (id, name) VALUES (2, 'after')"]).await;
    drop(changes);
    // The first call may tell of the cut; one of the next must work, for a connector reconnects on the next call.
    let mut attempts = 0;
    let mut changes = loop {
        match world.connector.capture(&world.feed, &position).await {
            Ok(changes) => break changes,
            Err(error) if attempts < 50 => {
                assert_eq!(error.class(), concord_engine::error::Class::Transient, "{error}");
                attempts += 1;
            }
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(text_of(&observations(&mut *changes, 1).await[0], "name"), "after");
    let mut attempts = 0;
    loop {
        match world.connector.read(&world.selection, &[key(2)]).await {
            Ok(found) => break assert_eq!(found.len(), 1),
            Err(error) => assert_eq!(error.class(), concord_engine::error::Class::Transient, "{error}"),
        }
        attempts += 1;
        assert!(attempts < 50);
    }
}

pub async fn edit_times_lie_between_before_and_after<D: Driver>() {
    let world = World::<D>::accounts().await;
    let before = SystemClock.now();
    world.driver.run(&["INSERT INTO accounts (id, name) VALUES (1, 'a')"]).await;
    let after = SystemClock.now();
    let mut changes = world.capture().await;
    let time = observations(&mut *changes, 1).await[0].time;
    let granularity = i64::from(world.connector.capabilities().time_granularity_micros);
    assert_eq!(i64::from(time.granularity_micros), granularity);
    assert!(!time.estimated, "a time from the feed is known");
    assert!(time.at.micros() > before.micros() - granularity && time.at <= after, "{before} {} {after}", time.at);
}

pub async fn health_tells_the_position<D: Driver>() {
    let world = World::<D>::accounts().await;
    world.driver.run(&["INSERT INTO accounts (id, name) VALUES (1, 'a')"]).await;
    let health = world.connector.health(&world.feed.name).await.unwrap();
    assert!(!health.position.is_empty());
    assert!(health.retained_bytes.is_some());
    assert_eq!(health.warning, None);
}
