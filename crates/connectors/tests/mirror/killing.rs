//! Killed at random moments, again and again.

use super::World;
use std::time::Duration;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, name text, tally int)";
const FIELDS: &[&str] = &["id", "name", "tally"];

/// A step of a generator of numbers: moments that differ from kill to kill.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

#[tokio::test]
async fn killed_again_and_again_while_loading_and_streaming_it_ends_equal() {
    let filled = "INSERT INTO t SELECT n, 'name ' || n, 0 FROM generate_series(1, 20000) n; ANALYZE t";
    let mut world = World::new(TABLE, filled, FIELDS).await.with(|rules| rules.parallelism = 8);
    let writer = world.left.session().await;
    let mut seed = 42;
    for round in 0..15_u32 {
        world.start().await;
        for _ in 0..4 {
            let at = next(&mut seed) % 20_000;
            let sql = format!(
                "UPDATE t SET tally = tally + 1 WHERE id BETWEEN {at} AND {at} + 50; \
                 UPDATE t SET id = id + 100000 WHERE id = {at} + 60 AND id < 100000; \
                 DELETE FROM t WHERE id = {at} + 70; INSERT INTO t VALUES ({round} * 1000 + 200000 + {at} % 1000, 'new', 1) ON CONFLICT DO NOTHING"
            );
            writer.batch_execute(&sql).await.unwrap();
            tokio::time::sleep(Duration::from_millis(next(&mut seed) % 60)).await;
        }
        world.crash().await;
    }
    world.start().await;
    world.until_equal().await;
    let found = world.verify().await;
    assert!(found.is_equal(), "{found:?}");
    assert!(world.reviews().await.is_empty());
}
