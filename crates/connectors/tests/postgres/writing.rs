//! Guarded writes in batches: one outcome for each record.

use crate::support::*;
use concord_engine::connector::{Connector, Outcome, Presence};
use concord_engine::value::Value;

const PEOPLE: &str = "CREATE TABLE t (id int PRIMARY KEY, name text, email text UNIQUE, n numeric(6,2) CHECK (n >= 0)); \
    INSERT INTO t SELECT i, 'name ' || i, 'e' || i, i FROM generate_series(1, 9) AS i";

#[tokio::test]
async fn a_write_whose_guard_does_not_hold_is_missed_and_writes_nothing() {
    let system = system(PEOPLE);
    let outcomes = system
        .apply(
            "t",
            vec![
                update(1, &[("name", text("x"))], &[("name", text("another"))]),
                update(
                    2,
                    &[("name", text("x"))],
                    &[
                        ("name", text("name 2")),
                        ("email", text("e2")),
                        ("n", Value::Decimal(concord_engine::value::Decimal::parse("2").unwrap())),
                    ],
                ),
                update(99, &[("name", text("x"))], &[]),
                delete(3, &[("name", text("another"))]),
                delete(4, &[("name", text("name 4"))]),
                delete(98, &[]),
            ],
        )
        .await;
    assert_eq!(
        all_said(&outcomes),
        ["missed", "written 2: email=e2 id=2 n=2.00 name=x", "missed", "missed", "written 4", "missed"]
    );
    assert_eq!(system.psql("SELECT string_agg(id || name, ',' ORDER BY id) FROM t WHERE id < 5"), "1name 1,2x,3name 3");
}

#[tokio::test]
async fn one_bad_row_in_a_batch_fails_alone_and_every_other_is_written_once() {
    let system = system(
        "CREATE TABLE t (id int PRIMARY KEY, n int CHECK (n < 100), writes int DEFAULT 0); \
         INSERT INTO t SELECT i, 0 FROM generate_series(1, 20) AS i; \
         CREATE FUNCTION count_writes() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.writes := OLD.writes + 1; RETURN NEW; END'; \
         CREATE TRIGGER c BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION count_writes()",
    );
    let value = |id: i64| if id == 13 { 100 } else { id };
    let outcomes = system.apply("t", (1..=20).map(|id| update(id, &[("n", int(value(id)))], &[("n", int(0))])).collect()).await;
    for (id, outcome) in (1..).zip(&outcomes) {
        let expected = if id == 13 { "failed CON-3001".to_owned() } else { format!("written {id}: id={id} n={id} writes=1") };
        assert_eq!(said(outcome), expected);
    }
    assert_eq!(system.psql("SELECT sum(writes), sum(n) FROM t"), format!("19|{}", 210 - 13));
}

// A trigger looks at one record more closely than at the others, and may not do what it would.
#[tokio::test]
async fn a_record_whose_trigger_lacks_something_fails_alone() {
    let wanting = ["SELECT 1 FROM nowhere", "PERFORM missing FROM t", "EXECUTE 'SET ROLE nobody'; PERFORM 1 FROM hidden"];
    for (place, body) in wanting.into_iter().enumerate() {
        let system = system(&format!(
            "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT i, 0 FROM generate_series(1, 9) AS i; \
             CREATE TABLE hidden (id int); \
             DO $$ BEGIN CREATE ROLE nobody; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$; \
             CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF NEW.n = 5 THEN {}; END IF; RETURN NEW; END'; \
             CREATE TRIGGER l AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION look()",
            body.replace("SELECT 1", "PERFORM 1").replace('\'', "''"),
        ));
        let outcomes = system.apply("t", (1..=9).map(|id| update(id, &[("n", int(id))], &[("n", int(0))])).collect()).await;
        let failed: Vec<_> = outcomes.iter().map(said).filter(|said| !said.starts_with("written")).collect();
        assert_eq!(failed, ["failed CON-3001"], "case {place}: {outcomes:?}");
        assert_eq!(system.psql("SELECT sum(n) FROM t"), (45 - 5).to_string());
    }
}

// Months, days and hours are equal to the server, and are not the same value; a label that was renamed is none any more.
#[tokio::test]
async fn a_guard_sees_edits_that_the_server_calls_equal_and_values_that_are_none_any_more() {
    let system = system(
        "CREATE TYPE mood AS ENUM ('ok', 'sad'); CREATE TABLE t (id int PRIMARY KEY, span interval, mood mood, n int); \
         INSERT INTO t VALUES (1, '1 mon', 'ok', 0), (2, '1 mon', 'ok', 0)",
    );
    let shown = |presence| match presence {
        Presence::Present(observation) => observation.image.record().cloned().unwrap(),
        other => panic!("{other:?}"),
    };
    let before = shown(system.read("t", 1).await);
    let guard = |name: &'static str| (name, before.get(name).cloned().unwrap());
    system.psql("UPDATE t SET span = '30 days' WHERE id = 1; ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'");
    let outcomes = system
        .apply("t", vec![update(1, &[("n", int(5))], &[guard("span")]), update(2, &[("n", int(5))], &[guard("mood")])])
        .await;
    assert_eq!(all_said(&outcomes), ["missed", "missed"]);
    assert_eq!(system.psql("SELECT sum(n) FROM t"), "0");
}

#[tokio::test]
async fn a_locked_row_is_told_apart_and_does_not_stall_the_batch() {
    let system = system(PEOPLE);
    let session = system.database.session().await;
    session.batch_execute("BEGIN; UPDATE t SET name = 'held' WHERE id = 1").await.unwrap();
    let begun = std::time::Instant::now();
    let outcomes = system
        .apply("t", vec![update(1, &[("name", text("x"))], &[]), update(2, &[("name", text("x"))], &[]), delete(1, &[])])
        .await;
    assert_eq!(all_said(&outcomes), ["locked", "written 2: email=e2 id=2 n=2.00 name=x", "locked"]);
    assert!(begun.elapsed() < std::time::Duration::from_secs(1));
    session.batch_execute("COMMIT").await.unwrap();
    assert_eq!(
        all_said(&system.apply("t", vec![update(1, &[("name", text("x"))], &[("name", text("name 1"))])]).await),
        ["missed"]
    );
}

#[tokio::test]
async fn creates_with_given_keys_collide_by_key_by_match_fields_and_by_any_unique_column() {
    let system = system(PEOPLE);
    let outcomes = system
        .apply(
            "t",
            vec![
                create(&[("id", int(20)), ("name", text("new"))], &[]),
                create(&[("id", int(1)), ("name", text("new"))], &[]),
                create(&[("id", int(21)), ("name", text("name 5"))], &["name"]),
                create(&[("id", int(22)), ("name", text("free")), ("email", text("e7"))], &[]),
                create(&[("id", int(23)), ("name", text("twin"))], &["name"]),
                create(&[("id", int(24)), ("name", text("twin"))], &["name"]),
                create(&[("id", int(25)), ("name", Value::Null)], &["name"]),
                create(&[("id", int(26)), ("name", Value::Null)], &["name"]),
            ],
        )
        .await;
    let words: Vec<String> = all_said(&outcomes).iter().map(|said| said.split(':').next().unwrap().to_owned()).collect();
    assert_eq!(
        words,
        ["written 20", "collision", "collision", "collision", "written 23", "collision", "written 25", "collision"]
    );
}

#[tokio::test]
async fn generated_keys_come_back_with_the_write_they_belong_to_in_spite_of_triggers() {
    let system = system(
        "CREATE TABLE t (id bigint GENERATED BY DEFAULT AS IDENTITY (START 100 INCREMENT -7 MAXVALUE 1000) PRIMARY KEY, name text, up text GENERATED ALWAYS AS (upper(name)) STORED); \
         CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF NEW.name = ''skip'' THEN RETURN NULL; END IF; NEW.name := NEW.name || ''!''; RETURN NEW; END'; \
         CREATE TRIGGER s BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION skip()",
    );
    let names = ["a", "skip", "b", "c"];
    let outcomes = system.apply("t", names.iter().map(|name| create(&[("name", text(name))], &[])).collect()).await;
    for (name, outcome) in names.iter().zip(&outcomes) {
        match outcome {
            Outcome::Written { image: Some(image), .. } => {
                assert_eq!(image.get("name"), Some(&text(&format!("{name}!"))));
                assert_eq!(image.get("up"), Some(&text(&format!("{}!", name.to_uppercase()))));
            }
            other => assert_eq!((*name, said(other)), ("skip", "failed CON-3001".to_owned())),
        }
    }
    let given = system
        .apply(
            "t",
            vec![create(&[("id", int(5)), ("name", text("given"))], &[]), create(&[("id", int(6)), ("name", text("skip"))], &[])],
        )
        .await;
    assert_eq!(all_said(&given), ["written 5: id=5 name=given! up=GIVEN!", "failed CON-3001"]);
}

#[tokio::test]
async fn a_key_can_be_changed_by_a_write() {
    let system = system(PEOPLE);
    let outcomes = system.apply("t", vec![update(1, &[("id", int(50))], &[("id", int(1))])]).await;
    assert_eq!(all_said(&outcomes), ["written 50: email=e1 id=50 n=1.00 name=name 1"]);
    assert!(matches!(system.read("t", 1).await, Presence::Absent { .. }));
    assert!(matches!(system.read("t", 50).await, Presence::Present(_)));
}

#[tokio::test]
async fn an_update_to_a_value_that_must_be_unique_is_rejected_for_its_record() {
    let system = system(PEOPLE);
    let outcomes =
        system.apply("t", vec![update(1, &[("email", text("e2"))], &[]), update(3, &[("email", text("free"))], &[])]).await;
    assert_eq!(all_said(&outcomes), ["failed CON-3001", "written 3: email=free id=3 n=3.00 name=name 3"]);
}

#[tokio::test]
async fn a_read_tells_absent_from_present_and_a_version_that_stands_behind_the_write() {
    let system = system(PEOPLE);
    let written = system.apply("t", vec![update(1, &[("name", text("x"))], &[])]).await;
    let Outcome::Written { version: of_write, .. } = &written[0] else { panic!() };
    let Presence::Present(seen) = system.read("t", 1).await else { panic!() };
    assert_eq!(seen.image.record().unwrap().get("name"), Some(&text("x")));
    assert_eq!(system.connector.compare(&seen.version, of_write), Some(std::cmp::Ordering::Greater));
    assert!(matches!(system.read("t", 77).await, Presence::Absent { .. }));
}
