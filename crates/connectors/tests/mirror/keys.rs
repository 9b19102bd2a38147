//! Keys that have another type in the target: what comes back from there is looked for as the source knows it, or not at all.

use crate::support::World;
use concord_engine::runtime::command::{Request, Resolution};

const FIELDS: &[&str] = &["id", "name"];

async fn world(left: &str, right: &str, key: &str) -> World {
    let table = |key: &str, more: &str| format!("CREATE TABLE t (id {key} PRIMARY KEY, name text {more})");
    let filled = format!("INSERT INTO t SELECT {key}, 'name ' || n FROM generate_series(1, 100) n");
    World::of(&table(left, ""), &table(right, "CHECK (name <> 'refused')"), &filled, FIELDS).await.started().await
}

#[tokio::test]
async fn a_record_that_no_record_of_the_source_can_be_is_a_stranger_and_nothing_else() {
    for (left, right, key, own) in
        [("uuid", "text", "gen_random_uuid()", "manual-1"), ("int", "text", "n", "007"), ("int", "bigint", "n", "5000000000")]
    {
        let mut world = world(left, right, key).await;
        world.right.psql(&format!("INSERT INTO t VALUES ('{own}', 'own')"));
        let found = world.verify().await;
        assert_eq!((found.equal, found.unlinked[1], found.differing), (100, 1, 0), "{found:?}");
        assert_eq!((found.differences[0].kind.as_str(), found.differences[0].key.as_str()), ("unlinked", own));
        let feed = world.statuses().feeds[0].feed.clone();
        world.stop().await;
        world.lose_slot(&feed).await;
        world.left.psql("DELETE FROM t WHERE name = 'name 1'");
        world.start().await;
        world.until_stage("stopped: CON-2008").await;
        world.ask(Request::Reread(world.rules.id)).await.unwrap();
        let review = world.until_review().await;
        assert!(review.message.starts_with("2 records"), "{review:?}");
        world.until_stage("live").await;
        world.decide(&review, Resolution::Retry).await.unwrap();
        world.until_equal().await;
    }
}

#[tokio::test]
async fn a_record_that_was_refused_under_a_key_of_another_type_is_known_again() {
    let world = world("uuid", "text", "gen_random_uuid()").await;
    world.left.psql("UPDATE t SET name = 'refused' WHERE name = 'name 1'");
    world.until_review().await;
    let found = world.verify().await;
    assert_eq!((found.equal, found.in_review, found.is_equal()), (99, 1, true), "{found:?}");
    world.left.psql("UPDATE t SET name = 'fine' WHERE name = 'refused'");
    world.until_equal().await;
    world.until("nothing waits any more", async || world.reviews().await.is_empty()).await;
}

#[tokio::test]
async fn a_key_that_does_not_fit_hides_none_of_its_neighbours() {
    let mut world = world("text", "int", "n::text").await;
    world.left.psql("INSERT INTO t VALUES ('none', 'does not fit')");
    let review = world.until_review().await;
    let found = world.verify().await;
    assert_eq!((found.equal, found.in_review, found.differing), (100, 1, 0), "{found:?}");
    // Not waited for any more.
    world.decide(&review, Resolution::Ignore).await.unwrap();
    world.until("nothing waits any more", async || world.reviews().await.is_empty()).await;
    let found = world.verify().await;
    assert_eq!((found.equal, found.differing, found.differences[0].key.as_str()), (100, 1, "none"), "{found:?}");
    world.stop().await;
}
