//! Records that the source has just made, many at a time: copied where that does the same, and carried like all others where not.

use crate::rules;
use crate::support::World;
use std::time::Duration;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, name text UNIQUE, tally int)";
const FIELDS: &[&str] = &["id", "name", "tally"];
const FILLED: &str = "INSERT INTO t SELECT n, 'name ' || n, 0 FROM generate_series(1, 50) n";
/// Notes how each row is written.
const NOTED: &str = "CREATE TABLE how (id int, word text); \
    CREATE FUNCTION noted(id int) RETURNS bool LANGUAGE plpgsql AS \
    $$ BEGIN INSERT INTO how VALUES (id, split_part(current_query(), ' ', 1)); RETURN true; END $$; \
    ALTER TABLE t ADD CHECK (noted(id))";

/// A sync that is level and away.
async fn away(right: &str, parallelism: usize) -> World {
    let world = World::of(TABLE, right, FILLED, FIELDS).await.with(|rules| {
        rules.parallelism = parallelism;
        // Of the few that are there before.
        rules.guard.max_deletes_percent = 1_000.0;
    });
    let mut world = world.started().await;
    world.stop().await;
    world
}

/// How the records of these ids were written: how many by a word each.
fn how(world: &World, ids: &str) -> Vec<String> {
    let sql = format!("SELECT word, count(DISTINCT id) FROM how WHERE id {ids} GROUP BY 1 ORDER BY 1");
    world.right.psql(&sql).lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn many_that_are_new_are_copied_and_few_are_not() {
    let mut world = away(&format!("{TABLE}; {NOTED}"), 1).await;
    world
        .left
        .psql("INSERT INTO t SELECT n, 'new ' || n, 1 FROM generate_series(1001, 1500) n; UPDATE t SET tally = 2 WHERE id < 10");
    world.start().await;
    world.until_equal().await;
    assert_eq!(how(&world, "> 1000"), ["COPY|500"]);
    assert_eq!(how(&world, "< 10 AND word <> 'COPY'"), ["INSERT|9"]);
    world.left.psql("INSERT INTO t SELECT n, 'few ' || n, 1 FROM generate_series(2001, 2020) n");
    world.until_equal().await;
    assert_eq!(how(&world, "> 2000"), ["INSERT|20"]);
    assert!(world.reviews().await.is_empty());
}

#[tokio::test]
async fn a_trigger_or_a_cast_of_somebodys_own_sees_statements() {
    let trigger = "CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$; \
        CREATE TRIGGER look BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION look()";
    let cast = "CREATE TYPE own AS (name text); CREATE FUNCTION owned(text) RETURNS own LANGUAGE sql AS $$ SELECT row($1)::own $$; \
        CREATE CAST (text AS own) WITH FUNCTION owned(text); ALTER TABLE t ADD own own";
    for instead in [trigger, cast] {
        let mut world = away(&format!("{TABLE}; {NOTED}; {instead}"), 1).await;
        world.left.psql("INSERT INTO t SELECT n, 'new ' || n, 1 FROM generate_series(1001, 1500) n");
        world.start().await;
        world.until_equal().await;
        assert_eq!(how(&world, "> 1000"), ["INSERT|500"]);
    }
}

#[tokio::test]
async fn one_that_is_there_already_shows_what_the_source_does() {
    for parallelism in [1, 4] {
        let mut world = away(TABLE, parallelism).await;
        // By its key, and in the way of another one by a value that goes with it.
        world.right.psql("INSERT INTO t VALUES (1500, 'own', 7)");
        world.left.psql("INSERT INTO t SELECT n, 'new ' || n, 1 FROM generate_series(1001, 6000) n");
        world.start().await;
        world.until_equal().await;
        assert!(world.reviews().await.is_empty());
        assert!(world.verify().await.is_equal());
    }
}

#[tokio::test]
async fn one_that_the_target_refuses_waits_and_everything_else_is_there() {
    for parallelism in [1, 4] {
        let mut world = away(&format!("{TABLE}; ALTER TABLE t ADD CHECK (tally < 100)"), parallelism).await;
        world.left.psql(
            "INSERT INTO t SELECT n, 'new ' || n, CASE WHEN n = 3000 THEN 100 ELSE 1 END FROM generate_series(1001, 6000) n",
        );
        world.start().await;
        let review = world.until_review().await;
        assert!(review.message.contains("check"), "{review:?}");
        let count = async || world.status().level && world.right.psql("SELECT count(*) FROM t") == "5049";
        world.until("everything else is there", count).await;
        assert_eq!(world.reviews().await.len(), 1);
        world.left.psql("UPDATE t SET tally = 5 WHERE id = 3000");
        world.until_equal().await;
        world.until("nothing waits", async || world.reviews().await.is_empty()).await;
    }
}

#[tokio::test]
async fn a_value_that_another_record_of_the_target_keeps_is_a_refusal_of_one() {
    let mut world = away(TABLE, 1).await;
    world.right.psql("INSERT INTO t VALUES (-1, 'new 1200', 7)");
    world.left.psql("INSERT INTO t SELECT n, 'new ' || n, 1 FROM generate_series(1001, 1500) n");
    world.start().await;
    let review = world.until_review().await;
    assert_eq!(review.code, "CON-3030");
    let count = async || world.status().level && world.right.psql("SELECT count(*) FROM t WHERE id > 1000") == "499";
    world.until("everything else is there", count).await;
}

#[tokio::test]
async fn what_is_made_changed_and_removed_at_once_ends_as_it_does_at_the_source() {
    let mut world = away(TABLE, 1).await;
    world.left.psql(
        "BEGIN; INSERT INTO t SELECT n, 'new ' || n, 1 FROM generate_series(1001, 1500) n; \
         UPDATE t SET tally = 2 WHERE id % 5 = 0; DELETE FROM t WHERE id % 5 = 1; UPDATE t SET id = id + 10000 WHERE id % 50 = 2; COMMIT; \
         INSERT INTO t SELECT n, 'again ' || n, 3 FROM generate_series(1001, 1500) n WHERE n % 5 = 1; \
         UPDATE t SET name = 'free ' || id WHERE id <= 20; INSERT INTO t SELECT n + 3000, 'name ' || n, 4 FROM generate_series(3, 20) n WHERE n % 5 <> 1; \
         INSERT INTO t SELECT n, 'more ' || n, 5 FROM generate_series(5001, 5200) n; UPDATE t SET tally = tally + 1 WHERE id BETWEEN 5001 AND 5100; \
         DELETE FROM t WHERE id BETWEEN 5001 AND 5010",
    );
    world.start().await;
    world.until_equal().await;
    assert!(world.reviews().await.is_empty());
    assert!(world.verify().await.is_equal());
}

#[tokio::test]
async fn every_type_and_every_character_arrives() {
    let table = "CREATE DOMAIN short AS varchar(12) CHECK (value <> ''); CREATE TYPE mood AS ENUM ('well', 'so-so, \"really\"'); \
        CREATE TABLE t (id bigint PRIMARY KEY, text text, bytes bytea, list text[], json jsonb, amount numeric(12,2), real float4, \
        double float8, at timestamptz, day date, span interval, uuid uuid, flag bool, fixed char(5), short short, mood mood, net inet, bits bit(4), range int4range)";
    let fields = &[
        "id", "text", "bytes", "list", "json", "amount", "real", "double", "at", "day", "span", "uuid", "flag", "fixed", "short",
        "mood", "net", "bits", "range",
    ];
    let mut world = World::new(table, "", fields).await.started().await;
    world.stop().await;
    world.left.psql(
        r#"INSERT INTO t SELECT n, E'tab\tline\nreturn\rback\\slash\\N\\.' || chr(n + 8) || 'é€😀', decode('00ff5c4e0a', 'hex'),
            ARRAY[E'a\tb', NULL, 'c"\', '{}'], '{"a": "\\\t\u00e9", "b": null}', n / 7.0, n / 3.0, 'NaN', '2026-01-01 10:00:00.123456+00', 'infinity',
            '1 mon -2 days 00:00:01.5', gen_random_uuid(), n % 2 = 0, 'ab', 'short', 'so-so, "really"', '10.0.0.1/8', B'1010', '[1,5)'
            FROM generate_series(1, 300) n;
        INSERT INTO t (id) SELECT n FROM generate_series(1001, 1200) n; INSERT INTO t (id, text) SELECT n, '' FROM generate_series(2001, 2150) n;
        INSERT INTO t (id, text) SELECT n, '\N' FROM generate_series(3001, 3150) n; INSERT INTO t (id, text) SELECT n, repeat('long ', 20000) FROM generate_series(4001, 4005) n"#,
    );
    world.start().await;
    world.until_equal().await;
    assert!(world.reviews().await.is_empty());
    assert!(world.verify().await.is_equal());
}

#[tokio::test]
async fn a_first_read_whose_values_are_transformed_is_copied_too() {
    let filled = "INSERT INTO t SELECT n, ' name ' || n, 0 FROM generate_series(1, 3000) n";
    let mut world = World::of(TABLE, &format!("{TABLE}; {NOTED}"), filled, FIELDS).await;
    rules::transformed(&mut world.rules, 0, "name", "trim");
    world.start().await;
    let arrived = async || world.right.psql("SELECT count(*) FROM t WHERE name = 'name ' || id") == "3000";
    world.until("every record is there, trimmed", arrived).await;
    assert_eq!(how(&world, "> 0"), ["COPY|3000"]);
}

/// Killed while it copies: what is made is made once.
#[tokio::test]
async fn killed_again_and_again_while_it_copies_it_ends_equal() {
    let mut world = away(TABLE, 4).await;
    for round in 0..12_u64 {
        world.left.psql(&format!(
            "INSERT INTO t SELECT {round} * 10000 + n, 'round {round} ' || n, 0 FROM generate_series(1001, 4000) n; \
             UPDATE t SET tally = tally + 1 WHERE id % 7 = {round} % 7; DELETE FROM t WHERE id % 500 = {round}"
        ));
        world.start().await;
        tokio::time::sleep(Duration::from_millis(round * 29 % 120)).await;
        world.crash().await;
    }
    world.start().await;
    world.until_equal().await;
    assert!(world.verify().await.is_equal());
    assert!(world.reviews().await.is_empty());
}
