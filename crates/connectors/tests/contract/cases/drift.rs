//! Tables that are altered while they are captured.

use crate::driver::Driver;
use crate::world::*;
use concord_engine::change::{Image, Observation};
use concord_engine::connector::{Event, Feed, Presence};
use concord_engine::schema::Schema;

/// What stands before the announcement, the announced schema, and what stands behind it.
fn split(events: Vec<Event>) -> (Vec<Observation>, Schema, Vec<Observation>) {
    let mut schema = None;
    let (mut before, mut behind) = (Vec::new(), Vec::new());
    for event in events {
        match event {
            Event::SchemaChanged(announced) => schema = Some(announced),
            Event::Observed(one) | Event::Read(one) if schema.is_none() => before.push(one),
            Event::Observed(one) | Event::Read(one) => behind.push(one),
            Event::Truncated { .. } => panic!("nothing was emptied"),
        }
    }
    (before, schema.expect("the schema change is announced"), behind)
}

/// Runs the alteration with an edit before and behind it, the feed being open.
async fn altered<D: Driver>(world: &World<D>, alteration: &str) -> (Vec<Observation>, Schema, Vec<Observation>) {
    world.driver.run(&["INSERT INTO accounts (id, name, note) VALUES (1, 'before', 'n')"]).await;
    let mut changes = world.capture().await;
    let mut events = world.drain(&mut *changes).await;
    world.driver.run(&[alteration]).await;
    events.extend(world.drain(&mut *changes).await);
    world.driver.run(&["INSERT INTO accounts (id, name) VALUES (2, 'behind')"]).await;
    events.extend(world.drain(&mut *changes).await);
    split(events)
}

async fn slim<D: Driver>() -> World<D> {
    let world = World::<D>::accounts().await;
    let known = world.feed.clone();
    let slim = selection(&world.selection.object, &["name", "email"]);
    let feed = prepare(&*world.connector, std::slice::from_ref(&slim), &[known]).await;
    World { selection: slim, feed: Feed { complete_from: vec![], ..feed }, ..world }
}

pub async fn an_added_column_is_announced_and_changes_go_on<D: Driver>() {
    let world = slim::<D>().await;
    let (before, schema, behind) = altered(&world, "ALTER TABLE accounts ADD COLUMN extra TEXT").await;
    assert!(schema.field("extra").is_some());
    assert_eq!(schema, world.connector.schema(&world.selection.object).await.unwrap());
    assert_eq!((before.len(), behind.len()), (1, 1));
    assert_eq!(text_of(&behind[0], "name"), "behind");
    let mut wider = world.selection.clone();
    wider.fields.push("extra".into());
    let feed = prepare(&*world.connector, std::slice::from_ref(&wider), std::slice::from_ref(&world.feed)).await;
    let fence = world.connector.fence(&feed.name).await.unwrap();
    let mut changes = capture(&*world.connector, &feed, &feed.position).await;
    world.drain_to(&mut *changes, &fence).await;
    world.driver.run(&["UPDATE accounts SET extra = 'e' WHERE id = 2"]).await;
    assert_eq!(text_of(&observations(&mut *changes, 1).await[0], "extra"), "e");
}

pub async fn dropping_an_unmapped_column_is_announced_and_changes_go_on<D: Driver>() {
    let world = slim::<D>().await;
    let (before, schema, behind) = altered(&world, "ALTER TABLE accounts DROP COLUMN note").await;
    assert!(schema.field("note").is_none() && schema.field("name").is_some());
    assert_eq!((before.len(), behind.len()), (1, 1));
    assert_eq!(text_of(&behind[0], "name"), "behind");
    let Presence::Present(read) = world.read(key(2)).await else { panic!("not there") };
    assert_eq!(text_of(&read, "name"), "behind");
}

pub async fn renaming_a_mapped_column_is_announced_before_images_that_lack_it<D: Driver>() {
    let world = slim::<D>().await;
    let (before, schema, behind) = altered(&world, "ALTER TABLE accounts RENAME COLUMN email TO mail").await;
    assert!(schema.field("mail").is_some() && schema.field("email").is_none());
    assert_eq!((before.len(), behind.len()), (1, 1));
    assert!(matches!(&before[0].image, Image::Full(record) if record.has("email")));
    let shown = behind[0].image.record().expect("an image");
    assert!(!shown.has("email"), "a field that is no longer there is never shown as null");
    assert!(shown.has("name"));
}
