//! The first read: every record once, in bulk or one by one, beside writers that do not stop.

use crate::rules;
use crate::support::World;
use concord_engine::error::Code;
use concord_engine::mirror::Mode;
use concord_engine::mirror::bulk::{Range, RawField};
use concord_engine::record::{FieldName, Key};
use concord_engine::runtime::command::Resolution;
use concord_engine::value::Value;
use futures_util::StreamExt;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, name text NOT NULL, note text, amount numeric(12,2), at timestamptz)";
const FILLED: &str = "INSERT INTO t SELECT n, 'name ' || n, CASE WHEN n % 3 = 0 THEN NULL ELSE repeat('x', n % 50) END, n / 7.0, \
    '2026-01-01'::timestamptz + n * interval '1 minute' FROM generate_series(1, 5000) n; ANALYZE t";
const FIELDS: &[&str] = &["id", "name", "note", "amount", "at"];

#[tokio::test]
async fn an_empty_target_is_filled_and_verifies_equal() {
    let world = World::new(TABLE, FILLED, FIELDS).await.started().await;
    let found = world.verify().await;
    assert!(found.is_equal() && found.links == 5000 && found.equal == 5000, "{found:?}");
    assert_eq!(world.status().mode, "mirror");
    assert_eq!(world.status().members[0].load, "done");
}

/// Notes how each record is written: by a copy in binary form, by one of text, or by another statement.
const HOW: &str = "CREATE TABLE how (word text); CREATE FUNCTION noted() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN \
    INSERT INTO how VALUES (split_part(current_query(), ' ', 1) || CASE WHEN current_query() LIKE '%binary%' THEN ' binary' ELSE '' END); \
    RETURN true; END $$";

fn how(world: &World) -> String {
    world.right.psql("SELECT string_agg(word || ' ' || records, ', ' ORDER BY word) FROM (SELECT word, count(*) AS records FROM how GROUP BY 1) w")
}

#[tokio::test]
async fn what_is_carried_as_it_is_passes_in_binary_form() {
    let right = format!("{TABLE}; {HOW}; ALTER TABLE t ADD CHECK (noted())");
    let world = World::of(TABLE, &right, FILLED, FIELDS).await.started().await;
    assert_eq!(how(&world), "COPY binary 5000");
}

#[tokio::test]
async fn wider_types_take_the_values_in_binary_form_as_they_are() {
    let left = "CREATE TABLE t (id smallint PRIMARY KEY, small smallint, whole int, large bigint, name varchar(40), loose varchar(10), \
        free text, exact numeric(10,2), digits numeric(10,2), flag bool)";
    let right = format!(
        "CREATE TABLE t (id bigint PRIMARY KEY, small int, whole numeric, large numeric(24,3), name text, loose varchar(20), \
         free varchar, exact numeric(14,4), digits numeric, flag bool); {HOW}; ALTER TABLE t ADD CHECK (noted())"
    );
    let filled = "INSERT INTO t VALUES (-32768, -32768, -2147483648, -9223372036854775808, 'é€😀' || repeat('x', 37), '', '', -99999999.99, -99999999.99, true), \
        (32767, 32767, 2147483647, 9223372036854775807, E'tab\\t\\\\', '1234567890', 'free', 99999999.99, 'NaN', false), \
        (0, 0, 0, 0, '', NULL, NULL, 0.10, 0.10, NULL); INSERT INTO t (id) VALUES (7); \
        INSERT INTO t SELECT n, n % 100, n * 1000, n * 1000000000::bigint, 'name ' || n, n, n, n / 7.0, n / 7.0, n % 2 = 0 FROM generate_series(1000, 3000) n";
    let fields = &["id", "small", "whole", "large", "name", "loose", "free", "exact", "digits", "flag"];
    let mut world = World::of(left, &right, filled, fields).await;
    world.start().await;
    world.until("it is level", async || world.status().level).await;
    assert_eq!(how(&world), "COPY binary 2005");
    assert!(world.verify().await.is_equal());
    let sums = "SELECT sum(id), sum(small), sum(whole), sum(large)::numeric(40,0), md5(string_agg(concat_ws('|', name, loose, free, flag), ',' ORDER BY id)), \
        sum(exact)::numeric(20,2), min(digits), count(digits) FROM t";
    assert_eq!(world.left.psql(sums), world.right.psql(sums));
    // What follows is carried like what was read.
    world
        .left
        .psql("UPDATE t SET whole = whole - 1, name = name || '!' WHERE id > 2990; INSERT INTO t (id, whole) VALUES (9, 5)");
    world.until("it is there", async || world.right.psql("SELECT count(*) FROM t WHERE id = 9 OR name LIKE '%!'") == "12").await;
    world.until("it is level", async || world.status().level).await;
    assert!(world.verify().await.is_equal());
}

/// A list names the type of what it holds by a number, which is another one in each database for a type that somebody has made.
#[tokio::test]
async fn lists_of_a_domain_are_decoded_and_lists_of_the_servers_own_types_are_not() {
    for (element, is_binary) in [("d", false), ("int", true), ("varchar(20)", true)] {
        let left = format!("CREATE DOMAIN d AS int; CREATE TABLE t (id int PRIMARY KEY, tags {element}[])");
        let right = format!("CREATE TYPE another AS ENUM ('one'); {left}; {HOW}; ALTER TABLE t ADD CHECK (noted())");
        let filled = "INSERT INTO t VALUES (1, '{1,2,NULL}'), (2, '{}'), (3, NULL)";
        let world = World::of(&left, &right, filled, &["id", "tags"]).await;
        let number = "SELECT 'd'::regtype::oid::text";
        assert_ne!(world.left.psql(number), world.right.psql(number));
        let world = world.started().await;
        let how = how(&world);
        assert_eq!(how == "COPY binary 3", is_binary, "{element}: {how}");
        let tags = "SELECT string_agg(coalesce(tags::text, 'none'), ' ' ORDER BY id) FROM t";
        assert_eq!(world.right.psql(tags), "{1,2,NULL} {} none");
        world.left.psql("UPDATE t SET tags = '{7}' WHERE id = 3");
        world.until_equal().await;
    }
}

#[tokio::test]
async fn what_may_not_fit_is_looked_at_one_by_one() {
    let left = "CREATE TABLE t (id int PRIMARY KEY, amount bigint)";
    let right = format!("CREATE TABLE t (id int PRIMARY KEY, amount int); {HOW}; ALTER TABLE t ADD CHECK (noted())");
    let filled = "INSERT INTO t SELECT n, CASE WHEN n = 7 THEN 5000000000 ELSE n END FROM generate_series(1, 300) n";
    let mut world = World::of(left, &right, filled, &["id", "amount"]).await;
    world.start().await;
    world.until_review().await;
    world.until("it is level", async || world.status().level).await;
    assert_eq!(world.right.psql("SELECT count(*) FROM t"), "299");
    let how = how(&world);
    assert!(how.ends_with("299") && !how.contains("binary"), "{how}");
}

#[tokio::test]
async fn writers_who_do_not_stop_while_it_is_loaded_lose_and_double_nothing() {
    let mut world = World::new(TABLE, FILLED, FIELDS).await;
    let writer = world.left.session().await;
    world.start().await;
    for round in 0..40 {
        let sql = format!(
            "UPDATE t SET note = 'round {round}' WHERE id % 40 = {round}; DELETE FROM t WHERE id = 1000 + {round}; \
             INSERT INTO t VALUES (10000 + {round}, 'new', NULL, {round}, now()); \
             UPDATE t SET id = id + 20000 WHERE id = 3000 + {round}"
        );
        writer.batch_execute(&sql).await.unwrap();
    }
    world.until_equal().await;
    assert!(world.verify().await.is_equal());
}

#[tokio::test]
async fn a_table_that_is_rewritten_while_it_is_read_is_not_taken_for_empty() {
    let world = World::new(TABLE, FILLED, FIELDS).await;
    let source = world.systems()[0].1.for_one_sync("rewritten").unwrap();
    let frozen = source.bulk_source().unwrap().freeze(&world.rules.members[0].selection).await.unwrap();
    assert_eq!(frozen.count().await.unwrap(), 5000);
    // Under the view that was frozen before the server shows a table without records now.
    world.left.psql("ALTER TABLE t ADD COLUMN own uuid DEFAULT gen_random_uuid()");
    let names: Vec<RawField> = FIELDS.iter().map(|name| RawField { name: FieldName::from(*name), given_as: None }).collect();
    let raw: Vec<_> = frozen.raw(&Range::default(), &names, None).await.unwrap().collect().await;
    let records: Vec<_> = frozen.records(&Range::default()).await.unwrap().collect().await;
    let errors = [
        raw.into_iter().find_map(Result::err),
        records.into_iter().find_map(Result::err),
        frozen.read(&[Key(vec![Value::Int(1)])]).await.err(),
        frozen.count().await.err(),
    ];
    assert_eq!(errors.map(|error| error.map(|error| error.code)), [Some(Code::Busy); 4]);
}

#[tokio::test]
async fn a_target_that_holds_records_already_ends_with_the_sources_values() {
    let world = World::new(TABLE, FILLED, FIELDS).await;
    world.right.psql("INSERT INTO t SELECT n, 'other', 'other', 0, NULL FROM generate_series(1, 100) n");
    let world = world.started().await;
    assert_eq!(world.right.psql("SELECT count(*), count(*) FILTER (WHERE name = 'other') FROM t"), "5000|0");
}

#[tokio::test]
async fn a_record_that_only_the_target_has_is_left_alone_and_named_by_verify() {
    let mut world = World::new(TABLE, FILLED, FIELDS).await;
    world.right.psql("INSERT INTO t VALUES (999999, 'own', NULL, 0, NULL)");
    world.start().await;
    world.until_stage("live").await;
    world.until("it is level", async || world.status().level).await;
    let found = world.verify().await;
    assert_eq!((found.equal, found.unlinked[1], found.differences[0].kind.as_str()), (5000, 1, "unlinked"));
}

#[tokio::test]
async fn other_types_names_and_columns_go_one_by_one() {
    let left = "CREATE TABLE t (id int PRIMARY KEY, name varchar(40), note text)";
    let right = "CREATE TABLE t (id bigint PRIMARY KEY, name text, note text, own text DEFAULT 'mine')";
    let filled = "INSERT INTO t SELECT n, ' name ' || n, 'note' FROM generate_series(1, 3000) n";
    let mut world = World::of(left, right, filled, &["id", "name", "note"]).await;
    rules::transformed(&mut world.rules, 0, "name", "trim");
    world.start().await;
    let arrived = async || world.right.psql("SELECT count(*) FROM t WHERE name = 'name ' || id AND own = 'mine'") == "3000";
    world.until("every record is there, trimmed", arrived).await;
    world.right.psql("UPDATE t SET own = 'changed'");
    world.left.psql("UPDATE t SET note = 'another' WHERE id <= 10");
    let arrived = async || world.right.psql("SELECT count(*) FROM t WHERE note = 'another' AND own = 'changed'") == "10";
    world.until("a change leaves what is not mapped alone", arrived).await;
    assert!(world.verify().await.is_equal());
}

#[tokio::test]
async fn a_key_of_text_or_of_several_columns_is_loaded_in_one_go() {
    let table = "CREATE TABLE t (region text, number int, value jsonb, PRIMARY KEY (region, number))";
    let filled = "INSERT INTO t SELECT 'r' || n % 7, n, jsonb_build_object('n', n) FROM generate_series(1, 2000) n";
    let world = World::new(table, filled, &["region", "number", "value"]).await.started().await;
    world.left.psql(
        "DELETE FROM t WHERE number <= 5; UPDATE t SET value = '{}' WHERE number = 6; UPDATE t SET region = 'z' WHERE number = 7",
    );
    world.until_equal().await;
}

#[tokio::test]
async fn what_mirror_mode_cannot_do_yet_is_said() {
    let why = async |world: &World| match world.mode().await {
        Mode::Reconcile(Some(why)) => why,
        other => panic!("{other:?}"),
    };
    let world = World::of(TABLE, "CREATE TABLE t (own serial PRIMARY KEY, id int, name text)", "", &["id", "name"]).await;
    assert!(why(&world).await.contains("`own`"));
    let parent = "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY, name text, p int REFERENCES p)";
    let world = World::new(parent, "", &["id", "name", "p"]).await;
    assert!(why(&world).await.contains("foreign keys"));
    let referred = "CREATE TABLE t (id int PRIMARY KEY, name text); CREATE TABLE c (id int PRIMARY KEY, t int REFERENCES t)";
    assert!(why(&World::new(referred, "", &["id", "name"]).await).await.contains("foreign keys"));
    let late = "CREATE TABLE t (id int PRIMARY KEY, name text UNIQUE DEFERRABLE)";
    assert!(why(&World::new(late, "", &["id", "name"]).await).await.contains("DEFERRABLE"));
    let made = "CREATE TABLE t (id int PRIMARY KEY, name text, long int GENERATED ALWAYS AS (length(name)) STORED)";
    let plain = "CREATE TABLE t (id int PRIMARY KEY, name text, long int)";
    assert!(why(&World::of(made, plain, "", &["id", "name", "long"]).await).await.contains("made by the source"));
    let world = world.with(|rules| rules.deletes.on_delete = concord_engine::rules::OnDelete::Ignore);
    assert!(why(&world).await.contains("deletes"));
    let both_ways = world.with(|rules| rules.members[1].outward = true);
    assert_eq!(both_ways.mode().await, Mode::Reconcile(None));
}

#[tokio::test]
async fn another_mapping_carries_every_record_again() {
    let mut world = World::new(TABLE, FILLED, FIELDS).await.started().await;
    world.stop().await;
    world.left.psql("DELETE FROM t WHERE id <= 3; UPDATE t SET note = 'meanwhile' WHERE id = 4");
    rules::transformed(&mut world.rules, 0, "name", "uppercase");
    world.start().await;
    let arrived = async || world.right.psql("SELECT count(*) FROM t WHERE name = 'NAME ' || id") == "4997";
    world.until("every record is carried as the mapping says now", arrived).await;
    world.until("it is level", async || world.status().level).await;
    assert_eq!(world.right.psql("SELECT count(*), min(id), max(note) FILTER (WHERE id = 4) FROM t"), "4997|4|meanwhile");
    assert!(world.verify().await.is_equal());
}

#[tokio::test]
async fn the_ranges_of_a_load_are_not_kept_any_longer_than_it_lasts() {
    let world = World::new(TABLE, FILLED, FIELDS).await.with(|rules| rules.parallelism = 100).started().await;
    world.left.psql("UPDATE t SET note = 'behind the load' WHERE id = 1");
    world.until_equal().await;
    let bytes: usize = world.right.psql("SELECT length(progress) FROM concord.mirrors").parse().unwrap();
    assert!(bytes < 250, "each transaction writes the progress, and it has {bytes} bytes");
}

/// Triggers may throw records away before they are written. One that only keeps what changes nothing from being written throws none
/// away.
#[tokio::test]
async fn a_record_that_a_trigger_of_the_target_throws_away_waits_for_a_person() {
    let table = "CREATE TABLE t (id int PRIMARY KEY, name text)";
    let right = format!(
        "{table}; CREATE FUNCTION picky() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN IF NEW.name LIKE 'no%' THEN RETURN NULL; END IF; RETURN NEW; END $$; \
         CREATE TRIGGER picky BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION picky(); \
         CREATE TRIGGER same BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()"
    );
    let filled =
        "INSERT INTO t SELECT n, CASE n WHEN 70 THEN 'no' ELSE 'yes' END || n FROM generate_series(1, 3000) n; ANALYZE t";
    let mut world = World::of(table, &right, filled, &["id", "name"]).await;
    world.start().await;
    let count = "SELECT count(*), count(*) FILTER (WHERE name LIKE 'no%') FROM t";
    world.until("the others are loaded", async || world.status().level && world.right.psql(count) == "2999|0").await;
    assert_eq!(world.reviews().await.len(), 1);
    world.left.psql("INSERT INTO t VALUES (5000, 'no'), (5001, 'yes'); UPDATE t SET name = name WHERE id < 10; UPDATE t SET name = 'x' WHERE id = 11");
    world.until("the others are there", async || world.status().level && world.right.psql(count) == "3000|0").await;
    assert_eq!(world.right.psql("SELECT name FROM t WHERE id = 11"), "x");
    assert_eq!(world.reviews().await.len(), 2);
    let found = world.verify().await;
    assert!(found.is_equal() && found.in_review == 2, "{found:?}");
}

/// A trigger may keep what is to go: that is told, not believed. A record that is not there need not go.
#[tokio::test]
async fn a_delete_that_a_trigger_of_the_target_throws_away_waits_for_a_person() {
    let table = "CREATE TABLE t (id int PRIMARY KEY, name text)";
    let right = format!(
        "{table}; CREATE FUNCTION keeps() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN IF OLD.name LIKE 'keep%' THEN RETURN NULL; END IF; RETURN OLD; END $$; \
         CREATE TRIGGER keeps BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION keeps()"
    );
    let filled =
        "INSERT INTO t SELECT n, CASE n WHEN 70 THEN 'keep' ELSE 'go' END || n FROM generate_series(1, 3000) n; ANALYZE t";
    let mut world = World::of(table, &right, filled, &["id", "name"]).await;
    world.start().await;
    world.until("it is loaded", async || world.status().level).await;
    // Only the target lacks this one.
    world.right.psql("DELETE FROM t WHERE id = 65");
    world.left.psql("DELETE FROM t WHERE id BETWEEN 61 AND 80");
    let review = world.until_review().await;
    assert!(review.code == "CON-3001" && review.message.contains("ignored the delete"), "{review:?}");
    let there = "SELECT count(*), string_agg(name, ',') FILTER (WHERE id BETWEEN 61 AND 80) FROM t";
    world.until("the others are gone", async || world.right.psql(there) == "2981|keep70").await;
    assert_eq!(world.reviews().await.len(), 1);
    // Tried again it is refused again, and what a person ends is ended.
    assert_eq!(world.decide(&review, Resolution::Retry).await.unwrap_err().code, Code::TargetRejected);
    world.right.psql("UPDATE t SET name = 'go' WHERE id = 70");
    world.decide(&review, Resolution::Retry).await.unwrap();
    world.until_equal().await;
    world.until("nothing waits any more", async || world.reviews().await.is_empty()).await;
}

/// What comes behind an emptied table is not carried out among what was to be gone.
#[tokio::test]
async fn a_truncation_that_a_trigger_of_the_target_throws_away_is_tried_until_it_is_done() {
    let table = "CREATE TABLE t (id int PRIMARY KEY, name text)";
    // What a sequence has given stays so, whatever becomes of the transaction.
    let right = format!(
        "{table}; CREATE SEQUENCE met; CREATE SEQUENCE may_go; CREATE FUNCTION keeps() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN IF OLD.id = 7 AND NOT (SELECT is_called FROM may_go) THEN PERFORM nextval('met'); RETURN NULL; END IF; \
         RETURN OLD; END $$; CREATE TRIGGER keeps BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION keeps()"
    );
    let filled = "INSERT INTO t SELECT n, 'name ' || n FROM generate_series(1, 200) n; ANALYZE t";
    let world = World::of(table, &right, filled, &["id", "name"]).await.started().await;
    world.left.psql("TRUNCATE t; INSERT INTO t VALUES (1, 'anew')");
    let review = world.until_review().await;
    world.until_stage("stopped: CON-3017").await;
    world.decide(&review, Resolution::Retry).await.unwrap();
    world.until("it was kept from being emptied", async || world.right.psql("SELECT is_called FROM met") == "t").await;
    assert_eq!(world.right.psql("SELECT count(*) FROM t WHERE name = 'anew'"), "0");
    world.right.psql("SELECT nextval('may_go')");
    world.until_equal().await;
}

/// Types of one name are not one type: a copy in the source's form would be rounded by the target's, and nobody would know.
#[tokio::test]
async fn what_a_domain_of_the_same_name_would_round_at_the_target_waits_for_a_person() {
    let table = |base: &str| format!("CREATE DOMAIN price AS {base}; CREATE TABLE t (id int PRIMARY KEY, price price)");
    let filled = "INSERT INTO t SELECT n, CASE WHEN n = 7 THEN 1.25 ELSE 1.5 END FROM generate_series(1, 50) n";
    let right = format!("{}; {HOW}; ALTER TABLE t ADD CHECK (noted())", table("numeric(10,1)"));
    let mut world = World::of(&table("numeric"), &right, filled, &["id", "price"]).await;
    world.start().await;
    let review = world.until_review().await;
    assert_eq!(review.code, "CON-3002", "{review:?}");
    let there = "SELECT count(*), sum(price), count(*) FILTER (WHERE id = 7) FROM t";
    world.until("all others are there", async || world.status().level && world.right.psql(there) == "49|73.5|0").await;
    assert!(!how(&world).contains("binary"), "{}", how(&world));
    // A domain that is the same is taken as it is.
    let right = format!("{}; {HOW}; ALTER TABLE t ADD CHECK (noted())", table("numeric"));
    let same = World::of(&table("numeric"), &right, filled, &["id", "price"]).await.started().await;
    assert_eq!(how(&same), "COPY binary 50");
}
