//! The feed: what a change of a table becomes.

use crate::support::*;
use concord_engine::change::Image;
use concord_engine::connector::{Connector, Event};
use concord_engine::value::Value;

#[tokio::test]
async fn inserts_updates_and_deletes_are_seen_in_the_order_of_their_commits() {
    let system = system("CREATE TABLE t (id int PRIMARY KEY, name text)");
    let feed = system.prepare(&["t"]).await;
    let mut reader = system.capture(&feed).await;
    system.psql("INSERT INTO t VALUES (1, 'a'); ");
    system.psql("UPDATE t SET name = NULL WHERE id = 1");
    system.psql("DELETE FROM t");
    let seen = reader.observations(3).await;
    assert_eq!(seen[0].image, full(&[("id", int(1)), ("name", text("a"))]));
    assert_eq!(seen[1].image, full(&[("id", int(1)), ("name", Value::Null)]));
    assert_eq!(seen[2].image, Image::Deleted);
    assert!(seen.iter().all(|seen| seen.key == key(1) && seen.mark.is_none() && seen.object.as_str() == "t"));
    assert_eq!(seen.iter().map(|seen| seen.made).collect::<Vec<_>>(), [true, false, false]);
    for pair in seen.windows(2) {
        assert_eq!(system.connector.compare(&pair[0].version, &pair[1].version), Some(std::cmp::Ordering::Less));
    }
}

#[tokio::test]
async fn an_echo_of_our_own_write_carries_its_mark_and_is_newer_than_the_write() {
    let system = system("CREATE TABLE t (id int PRIMARY KEY, name text); INSERT INTO t VALUES (1, 'a')");
    let feed = system.prepare(&["t"]).await;
    let mut reader = system.capture(&feed).await;
    let outcomes = system.apply("t", vec![update(1, &[("name", text("b"))], &[("name", text("a"))])]).await;
    assert_eq!(all_said(&outcomes), ["written 1: id=1 name=b"]);
    let seen = reader.observations(1).await;
    assert_eq!(seen[0].mark, Some(mark()));
    let concord_engine::connector::Outcome::Written { version, .. } = &outcomes[0] else { panic!() };
    assert_eq!(system.connector.compare(&seen[0].version, version), Some(std::cmp::Ordering::Greater));
}

#[tokio::test]
async fn a_truncate_is_one_event() {
    let system = system("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)");
    let feed = system.prepare(&["t"]).await;
    let mut reader = system.capture(&feed).await;
    system.psql("TRUNCATE t");
    let events = reader.events(1).await;
    assert!(matches!(&events[0], Event::Truncated { object, .. } if object.as_str() == "t"));
}
