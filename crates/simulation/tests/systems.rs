//! The simulated systems keep the contract of a connector: otherwise what they find would be found in vain.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail where it stands")]

use concord_engine::change::{Image, Mark};
use concord_engine::connector::{Connector, Event, Feed, Limits, Operation, Outcome, Write};
use concord_engine::error::Code;
use concord_engine::record::{ObjectName, Record};
use concord_engine::schema::Selection;
use concord_engine::value::Value;
use concord_simulation::checker::Violation;
use concord_simulation::script::{Script, play};
use concord_simulation::system::Gate;
use concord_simulation::world::{OBJECT, World};
use std::time::Duration;

fn selection() -> Selection {
    Selection { object: ObjectName::from(OBJECT), fields: Vec::new() }
}

fn limits() -> Limits {
    Limits { max_events: 100, max_bytes: 1 << 20, max_wait: Duration::from_secs(5) }
}

fn mark(intent: u64) -> Mark {
    Mark { store: "test".to_owned(), sync: "people".to_owned(), intent, hops: 0 }
}

fn on_a_system(mut world: World, script: impl AsyncFnOnce(&Script)) {
    world.members.truncate(1);
    play(world, async |stage| {
        script(stage).await;
        Vec::<Violation>::new()
    });
}

/// Every event from a position on, as tags of what was shown.
async fn events(stage: &Script, feed: &Feed) -> Vec<Event> {
    let system = &stage.stage.systems[0];
    let mut changes = system.capture(feed, &feed.position).await.unwrap();
    let mut events = Vec::new();
    loop {
        let batch = changes.next(limits()).await.unwrap();
        if batch.events.is_empty() {
            return events;
        }
        events.extend(batch.events);
    }
}

#[test]
fn a_feed_gives_every_commit_in_order_and_again_until_it_is_acknowledged() {
    let mut world = World::plain(2);
    world.members[0].profile.feed_batch_max = 2;
    world.members[0].profile.feed_delay_ms_max = 500;
    on_a_system(world, async |stage| {
        let system = &stage.stage.systems[0];
        let feed = system.prepare(&[selection()], &[]).await.unwrap().remove(0);
        for number in 0..20 {
            stage.insert(0, &format!("r{number}"), &[]);
        }
        for _ in 0..3 {
            assert_eq!(events(stage, &feed).await.len(), 20);
        }
        let position = system.fence(&feed.name).await.unwrap();
        system.acknowledge(&feed.name, &position).await.unwrap();
        let gap = system.capture(&feed, &feed.position).await.map(|_| ()).unwrap_err();
        assert_eq!(gap.code, Code::FeedGap);
        let known = Feed { position, ..feed };
        assert!(system.prepare(&[selection()], std::slice::from_ref(&known)).await.is_ok());
        assert!(events(stage, &known).await.is_empty());
    });
}

#[test]
fn a_guarded_write_happens_only_if_the_row_shows_the_guard() {
    on_a_system(World::plain(2), async |stage| {
        let system = &stage.stage.systems[0];
        stage.insert(0, "r1", &[("name", Value::Text("now".to_owned()))]);
        let key = system.look(|database| database.rows().next().unwrap().key.clone());
        let field = stage.stage.world.native(0, 1);
        let record = |text: &str| -> Record { [(field.clone(), Value::Text(text.to_owned()))].into_iter().collect() };
        let update = |guard: &str| {
            let operation = Operation::Update { key: key.clone(), set: record("new"), guard: record(guard) };
            vec![Write { id: 1, operation }]
        };
        let missed = system.apply(&selection(), &mark(1), &update("before")).await.unwrap();
        assert!(matches!(missed[0].outcome, Outcome::Missed));
        let written = system.apply(&selection(), &mark(2), &update("now")).await.unwrap();
        assert!(matches!(written[0].outcome, Outcome::Written { .. }));
        assert_eq!(stage.shows(0, "r1", "name"), Some(Value::Text("new".to_owned())));
    });
}

#[test]
fn our_writes_carry_their_mark_and_their_version_is_not_behind_later_changes() {
    for echo_is_newer in [false, true] {
        let mut world = World::plain(2);
        world.members[0].profile.echo_is_newer = echo_is_newer;
        on_a_system(world, async |stage| {
            let system = &stage.stage.systems[0];
            let feed = system.prepare(&[selection()], &[]).await.unwrap().remove(0);
            let create = Operation::Create { image: Record::new(), absent_by: Vec::new() };
            let results = system.apply(&selection(), &mark(7), &[Write { id: 1, operation: create }]).await.unwrap();
            let Outcome::Written { key, version, .. } = results[0].outcome.clone() else { panic!("not written") };
            let set = [(stage.stage.world.native(0, 1), Value::Text("later".to_owned()))].into_iter().collect();
            let author = concord_simulation::database::Author::User(1);
            system.transact(author.clone(), |database, draft| database.update(draft, &author, &key, &set).map(|_| ())).unwrap();
            let seen = events(stage, &feed).await;
            let [Event::Observed(echo), Event::Observed(edit)] = seen.as_slice() else { panic!("{seen:?}") };
            assert_eq!(echo.mark, Some(mark(7)));
            assert_eq!(edit.mark, None);
            assert_eq!(system.compare(&echo.version, &version).unwrap().is_gt(), echo_is_newer);
            assert!(system.compare(&edit.version, &version).unwrap().is_gt());
        });
    }
}

#[test]
fn partial_images_leave_out_only_what_did_not_change() {
    let mut world = World::plain(2);
    world.members[0].profile.partial_images = true;
    on_a_system(world, async |stage| {
        let system = &stage.stage.systems[0];
        let feed = system.prepare(&[selection()], &[]).await.unwrap().remove(0);
        stage.insert(0, "r1", &[]);
        for number in 0..30 {
            stage.edit(0, "r1", &[("amount", Value::Int(number))]);
        }
        let amount = stage.stage.world.native(0, 2);
        let mut partial = 0;
        for event in events(stage, &feed).await {
            let Event::Observed(observation) = event else { panic!("not observed") };
            assert!(observation.image.record().unwrap().has(amount.as_str()));
            partial += usize::from(matches!(observation.image, Image::Partial(_)));
        }
        assert!(partial > 3, "{partial} partial images");
    });
}

#[test]
fn a_write_whose_client_is_gone_is_over_when_the_fence_has_answered() {
    on_a_system(World::plain(2), async |stage| {
        let system = &stage.stage.systems[0];
        let feed = system.prepare(&[selection()], &[]).await.unwrap().remove(0);
        for number in 0..10 {
            system.hold(Gate::Before);
            let create = Operation::Create { image: Record::new(), absent_by: Vec::new() };
            let writes = [Write { id: 1, operation: create }];
            let mark = mark(number);
            let selection = selection();
            let gone = tokio::time::timeout(Duration::from_millis(100), system.apply(&selection, &mark, &writes)).await;
            assert!(gone.is_err());
            system.hold(Gate::Open);
            let fence = system.fence(&feed.name).await.unwrap();
            let rows = system.look(|database| database.rows().count());
            stage.pause(10_000).await;
            assert_eq!(system.look(|database| database.rows().count()), rows);
            assert!(system.reached(&system.fence(&feed.name).await.unwrap(), &fence));
        }
    });
}

#[test]
fn an_emptied_object_is_one_event() {
    on_a_system(World::plain(2), async |stage| {
        let system = &stage.stage.systems[0];
        let feed = system.prepare(&[selection()], &[]).await.unwrap().remove(0);
        stage.insert(0, "r1", &[]);
        stage.insert(0, "r2", &[]);
        let author = concord_simulation::database::Author::User(9);
        system
            .transact(author, |database, draft| {
                database.truncate(draft);
                Ok(())
            })
            .unwrap();
        let seen = events(stage, &feed).await;
        assert!(matches!(seen.as_slice(), [Event::Observed(_), Event::Observed(_), Event::Truncated { .. }]));
        assert_eq!(system.look(|database| database.rows().count()), 0);
    });
}
