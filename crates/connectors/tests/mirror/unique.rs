//! Unique values that change hands where nobody could watch: all at once, or while no feed was read.

use super::World;
use concord_engine::runtime::command::{Request, Resolution};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, name text NOT NULL UNIQUE, rank int UNIQUE)";
const OWN: &str = "CREATE TABLE t (id int PRIMARY KEY, name text NOT NULL UNIQUE, rank int UNIQUE, \
    own text NOT NULL DEFAULT 'mine', no NUMBER, long int GENERATED ALWAYS AS (length(name)) STORED)";
const FILLED: &str = "INSERT INTO t SELECT n, 'name ' || n, n FROM generate_series(1, 4000) n; ANALYZE t";
const FIELDS: &[&str] = &["id", "name", "rank"];

/// Reads everything again after this was done while nobody read the feed.
async fn after_a_gap(meanwhile: &str) -> World {
    let own = OWN.replace("NUMBER", World::NUMBER);
    let mut world = World::of(TABLE, &own, FILLED, FIELDS).await.with(|rules| rules.parallelism = 4).started().await;
    world.right.psql("UPDATE t SET own = 'own ' || id");
    let feed = world.statuses().feeds[0].feed.clone();
    world.stop().await;
    world.lose_slot(&feed).await;
    world.left.psql(meanwhile);
    world.start().await;
    world.until_stage("stopped: CON-2008").await;
    world.ask(Request::Reread(world.rules.id)).await.unwrap();
    world
}

/// Gives a unique value of one record to another.
fn passed(from: &str, to: &str) -> String {
    format!("UPDATE t SET name = 'free' || {from} WHERE id = {from}; UPDATE t SET name = 'name ' || {from} WHERE id = {to};")
}

/// Exchanges the unique values of two records.
fn exchanged(one: &str, other: &str) -> String {
    format!("{} UPDATE t SET name = 'name ' || {other} WHERE id = {one};", passed(one, other))
}

#[tokio::test]
async fn records_that_exchanged_unique_values_during_a_gap_end_with_them() {
    // Close to each other, far from each other, in a ring of three, and by two values at once.
    let mut meanwhile = exchanged("1", "2") + &exchanged("3", "3999") + &passed("10", "2010") + &passed("20", "21");
    meanwhile += "UPDATE t SET name = 'ring' WHERE id = 5; UPDATE t SET name = 'name 5' WHERE id = 3005; \
        UPDATE t SET name = 'name 3005' WHERE id = 1005; UPDATE t SET name = 'name 1005' WHERE id = 5; \
        UPDATE t SET rank = NULL WHERE id = 1; UPDATE t SET rank = 1 WHERE id = 3999; UPDATE t SET rank = 3999 WHERE id = 1; \
        UPDATE t SET name = 'free' WHERE id = 30; INSERT INTO t VALUES (-7, 'name 30', -7)";
    let world = after_a_gap(&meanwhile).await;
    world.until_equal().await;
    assert!(world.verify().await.is_equal());
    world.until("nothing waits", async || world.reviews().await.is_empty()).await;
    let own = "SELECT count(*) FILTER (WHERE own = 'own ' || id), count(DISTINCT no), max(own) FILTER (WHERE id = -7) FROM t";
    assert_eq!(world.right.psql(own), "4000|4001|mine", "columns that no mapping names stay as they were");
}

#[tokio::test]
async fn a_value_of_a_record_that_went_during_a_gap_is_free_once_it_is_removed() {
    let meanwhile = format!(
        "DELETE FROM t WHERE id = 7; UPDATE t SET name = 'name 7' WHERE id = 8; UPDATE t SET name = 'name 8' WHERE id = 9; {}",
        exchanged("1", "4000")
    );
    let world = after_a_gap(&meanwhile).await;
    let strangers = async || {
        let reviews = world.reviews().await;
        reviews.into_iter().find(|review| review.code == "CON-3017")
    };
    world.until("it is asked about the record that went", async || strangers().await.is_some()).await;
    world.until_stage("live").await;
    let names = "SELECT string_agg(name, ', ' ORDER BY id) FROM t WHERE id IN (1, 7, 8, 9, 4000)";
    assert_eq!(world.right.psql(names), "name 4000, name 7, name 8, name 9, name 1", "those in its way wait, the others do not");
    let waiting = world.reviews().await.into_iter().filter(|review| review.code == "CON-3030").count();
    assert_eq!(waiting, 2);
    world.decide(&strangers().await.unwrap(), Resolution::Retry).await.unwrap();
    world.until_equal().await;
    assert!(world.reviews().await.is_empty());
}

#[tokio::test]
async fn records_that_exchange_unique_values_in_one_statement_do_so_in_the_target() {
    let left = "CREATE TABLE t (id int PRIMARY KEY, name text NOT NULL UNIQUE DEFERRABLE, rank int)";
    let world = World::of(left, TABLE, FILLED, FIELDS).await.started().await;
    world.left.psql("UPDATE t SET name = CASE id WHEN 1 THEN 'name 2' ELSE 'name 1' END WHERE id IN (1, 2)");
    world.until_equal().await;
    world.left.psql("UPDATE t SET name = 'name ' || id % 50 + 1 WHERE id <= 50; INSERT INTO t VALUES (5000, 'behind', 5000)");
    world.until("what came behind is there", async || world.right.psql("SELECT count(*) FROM t WHERE id = 5000") == "1").await;
    world.until_equal().await;
    assert!(world.reviews().await.is_empty());
}

/// Each takes the value of the next one, over more than is carried together: those before the last find no place at first.
#[tokio::test]
async fn values_that_many_passed_on_find_their_places_once_the_feed_is_quiet() {
    let left = "CREATE TABLE t (id int PRIMARY KEY, rank int UNIQUE DEFERRABLE, note text)";
    let right = "CREATE TABLE t (id int PRIMARY KEY, rank int UNIQUE, note text)";
    let filled = "INSERT INTO t SELECT n, n, repeat('much', 25000) FROM generate_series(1, 60) n";
    let world = World::of(left, right, filled, &["id", "rank", "note"]).await.started().await;
    world.left.psql("UPDATE t SET rank = rank + 1, note = note || '.'");
    world.until_equal().await;
    world.until("nothing waits", async || world.reviews().await.is_empty()).await;
    assert!(world.verify().await.is_equal());
    let closed = world.all_reviews().await;
    assert!(!closed.is_empty(), "some waited for others");
}
