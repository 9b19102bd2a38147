//! Tables of every shape: names, keys, large values, identities, and schemas that change under way.

use crate::support::*;
use concord_engine::change::Image;
use concord_engine::connector::{Connector, Event, Limits, Presence};
use concord_engine::error::Code;
use concord_engine::record::Key;
use concord_engine::schema::Type;
use concord_engine::value::Value;

#[tokio::test]
async fn quoted_names_and_other_schemas_work_everywhere() {
    let object = "\"Odd \"\"schema\"\"\".\"x.y\"";
    let system = system(&format!(
        "CREATE SCHEMA \"Odd \"\"schema\"\"\"; CREATE TABLE {object} (\"The Key\" text PRIMARY KEY, \"sel'ect\" int, \"Ü\" text)"
    ));
    let feed = system.prepare(&[object]).await;
    let mut reader = system.capture(&feed).await;
    let image = [("The Key", text("k'\"\\")), ("sel'ect", int(1)), ("Ü", text("ü"))];
    let outcomes = system.apply(object, vec![create(&image, &["sel'ect"])]).await;
    assert!(said(&outcomes[0]).starts_with("written"), "{outcomes:?}");
    let seen = reader.observations(1).await;
    assert_eq!((seen[0].object.as_str(), &seen[0].image), (object, &full(&image)));
    let Presence::Present(read) = system.read(object, "k'\"\\").await else { panic!() };
    assert_eq!(read.image, full(&image));
    assert!(system.connector.objects().await.unwrap().iter().any(|known| known.as_str() == object));
    assert_eq!(system.connector.schema(&object.into()).await.unwrap().object.as_str(), object);
}

#[tokio::test]
async fn an_update_that_leaves_a_large_value_alone_shows_it_as_unknown_and_never_as_null() {
    let system = system(
        "CREATE TABLE t (id int PRIMARY KEY, big text, n int); ALTER TABLE t ALTER big SET STORAGE EXTERNAL; INSERT INTO t VALUES (1, repeat('x', 100000), 1)",
    );
    let feed = system.prepare(&["t"]).await;
    let mut reader = system.capture(&feed).await;
    system.psql("UPDATE t SET n = 2");
    system.psql("ALTER TABLE t REPLICA IDENTITY FULL; UPDATE t SET n = 3");
    let seen = reader.observations(2).await;
    assert_eq!(seen[0].image, Image::Partial(record(&[("id", int(1)), ("n", int(2))])));
    assert_eq!(seen[1].image, full(&[("id", int(1)), ("n", int(3)), ("big", text(&"x".repeat(100_000)))]));
}

#[tokio::test]
async fn a_changed_key_is_one_change_that_names_both_keys() {
    let system = system("CREATE TABLE t (a int, b text, v int, PRIMARY KEY (b, a)); INSERT INTO t VALUES (1, 'x', 5)");
    let feed = system.prepare(&["t"]).await;
    let mut reader = system.capture(&feed).await;
    system.psql("UPDATE t SET a = 2");
    system.psql("ALTER TABLE t REPLICA IDENTITY FULL; UPDATE t SET b = 'y'");
    system.psql("UPDATE t SET v = 6; DELETE FROM t");
    let seen = reader.observations(4).await;
    let key = |b: &str, a| Key(vec![text(b), int(a)]);
    assert_eq!((&seen[0].key, &seen[0].old_key), (&key("x", 2), &Some(key("x", 1))));
    assert_eq!((&seen[1].key, &seen[1].old_key), (&key("y", 2), &Some(key("x", 2))));
    assert_eq!((&seen[2].key, &seen[2].old_key), (&key("y", 2), &None));
    assert_eq!((&seen[3].key, &seen[3].image), (&key("y", 2), &Image::Deleted));
}

#[tokio::test]
async fn generated_columns_are_read_but_never_written_and_make_an_event_partial() {
    let system = system(
        "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int, twice int GENERATED ALWAYS AS (a * 2) STORED)",
    );
    let schema = system.connector.schema(&"t".into()).await.unwrap();
    let may = |name: &str| schema.field(name).map(|field| (field.creatable, field.updatable, field.has_default)).unwrap();
    assert_eq!((may("id"), may("a"), may("twice")), ((false, false, true), (true, true, false), (false, false, true)));
    let feed = system.prepare(&["t"]).await;
    let mut reader = system.capture(&feed).await;
    let outcomes = system.apply("t", vec![create(&[("a", int(4))], &[]), create(&[("a", int(4)), ("twice", int(9))], &[])]).await;
    assert_eq!(all_said(&outcomes), ["written 1: a=4 id=1 twice=8", "failed CON-3001"]);
    let seen = reader.observations(1).await;
    let carried = record(&[("id", int(1)), ("a", int(4))]);
    assert!(
        seen[0].image == Image::Partial(carried) || seen[0].image == full(&[("id", int(1)), ("a", int(4)), ("twice", int(8))])
    );
    let outcomes = system.apply("t", vec![update(1, &[("a", int(5))], &[("twice", int(8))])]).await;
    assert_eq!(all_said(&outcomes), ["written 1: a=5 id=1 twice=10"]);
}

#[tokio::test]
async fn an_enum_label_added_while_streaming_is_learnt_before_it_is_shown() {
    let system = system("CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE t (id int PRIMARY KEY, m mood)");
    let feed = system.prepare(&["t"]).await;
    let mut reader = system.capture(&feed).await;
    system.psql("INSERT INTO t VALUES (1, 'ok')");
    assert_eq!(reader.observations(1).await[0].image, full(&[("id", int(1)), ("m", Value::Enum("ok".into()))]));
    system.psql("ALTER TYPE mood ADD VALUE 'great'");
    system.psql("INSERT INTO t VALUES (2, 'great')");
    let events = reader.events(2).await;
    let Event::SchemaChanged(schema) = &events[0] else { panic!("{events:?}") };
    assert!(matches!(&schema.field("m").unwrap().ty, Type::Enum { labels } if labels.len() == 3));
    let Event::Observed(seen) = &events[1] else { panic!() };
    assert_eq!(seen.image, full(&[("id", int(2)), ("m", Value::Enum("great".into()))]));
}

#[tokio::test]
async fn changes_queued_before_columns_were_added_renamed_and_dropped_are_shown_as_they_were() {
    let system = system("CREATE TABLE t (id int PRIMARY KEY, a text, b int)");
    let feed = system.prepare(&["t"]).await;
    system.psql("INSERT INTO t VALUES (1, 'x', 1)");
    system.psql("ALTER TABLE t RENAME a TO c");
    system.psql("INSERT INTO t VALUES (2, 'y', 2)");
    system.psql("ALTER TABLE t DROP b, ADD d date");
    system.psql("INSERT INTO t VALUES (3, 'z', '2024-02-29')");
    let mut reader = system.capture(&feed).await;
    let events = reader.events(6).await;
    let names = |event: &Event| match event {
        Event::SchemaChanged(schema) => schema.fields.iter().map(|field| field.name.to_string()).collect::<Vec<_>>().join(" "),
        Event::Observed(seen) | Event::Read(seen) => {
            seen.image.record().unwrap().iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        }
        Event::Truncated { .. } => "truncated".into(),
    };
    let told: Vec<String> = events.iter().map(names).collect();
    assert_eq!(told, ["id a b", "a=x b=1 id=1", "id c b", "b=2 c=y id=2", "id c d", "c=z d=2024-02-29 id=3"]);
}

#[tokio::test]
async fn a_dropped_or_renamed_table_is_told_as_a_schema_without_fields() {
    let system = system("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)");
    let feed = prepare(&system.connector, &["t", "u"], &[]).await;
    let mut reader = system.capture(&feed).await;
    system.psql("ALTER TABLE t RENAME TO t2");
    system.psql("INSERT INTO t2 VALUES (1)");
    system.psql("INSERT INTO u VALUES (1)");
    let events = reader.events(2).await;
    assert!(
        matches!(&events[0], Event::SchemaChanged(schema) if schema.object.as_str() == "t" && schema.fields.is_empty()),
        "{events:?}"
    );
    assert!(matches!(&events[1], Event::Observed(seen) if seen.object.as_str() == "u"));
}

#[tokio::test]
async fn a_large_transaction_comes_in_bounded_batches_and_its_position_only_at_the_end() {
    let system = system("CREATE TABLE t (id int PRIMARY KEY, pad text)");
    let feed = system.prepare(&["t"]).await;
    let mut reader = system.capture(&feed).await;
    system.psql("INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 20000) AS i");
    let limits = Limits { max_events: 700, ..LIMITS };
    let mut seen = 0;
    while seen < 20_000 {
        let batch = reader.batch_of(limits).await;
        assert!(batch.events.len() <= 700);
        seen += batch.events.len();
        let inside = !batch.events.is_empty() && seen < 20_000;
        assert!(!inside || batch.position.is_none(), "a position inside the transaction, after {seen}");
    }
    let limits = Limits { max_bytes: 1000, ..LIMITS };
    system.psql("UPDATE t SET pad = repeat('y', 600) WHERE id < 10");
    while seen < 20_009 {
        let batch = reader.batch_of(limits).await;
        assert!(batch.events.len() <= 2);
        seen += batch.events.len();
    }
}

#[tokio::test]
async fn a_change_that_a_reader_could_not_see_yet_is_newer_than_what_it_read() {
    let system = system("CREATE TABLE t (id int PRIMARY KEY, name text); INSERT INTO t VALUES (1, 'old')");
    let feed = system.prepare(&["t"]).await;
    let mut reader = system.capture(&feed).await;
    let slow = system.database.session().await;
    slow.batch_execute("BEGIN; UPDATE t SET name = 'new'").await.unwrap();
    // Later transactions end before the slow one: a position in time would order them wrongly.
    system.psql("INSERT INTO t VALUES (2, 'other')");
    let chunk = system.connector.snapshot(&selection("t"), &Default::default(), 10).await.unwrap();
    slow.batch_execute("COMMIT").await.unwrap();
    let seen = reader.observations(2).await;
    let (other, new) = (&seen[0], &seen[1]);
    assert_eq!(chunk.records[0].image.record().unwrap().get("name"), Some(&text("old")));
    let version = &chunk.records[0].version;
    assert_eq!(system.connector.compare(version, &new.version), Some(std::cmp::Ordering::Less));
    assert_eq!(system.connector.compare(version, &other.version), Some(std::cmp::Ordering::Greater));
    let Presence::Present(read) = system.read("t", 1).await else { panic!() };
    assert_eq!(system.connector.compare(&read.version, &new.version), Some(std::cmp::Ordering::Greater));
    assert_eq!(system.connector.compare(&read.version, version), Some(std::cmp::Ordering::Greater));
}

#[tokio::test]
async fn a_partitioned_table_is_one_object() {
    let system = system(
        "CREATE TABLE t (id int, region text, v int, PRIMARY KEY (id, region)) PARTITION BY LIST (region); \
         CREATE TABLE t_eu PARTITION OF t FOR VALUES IN ('eu'); CREATE TABLE t_us PARTITION OF t FOR VALUES IN ('us')",
    );
    let names: Vec<String> = system.connector.objects().await.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["public.t"]);
    let feed = system.prepare(&["t"]).await;
    let mut reader = system.capture(&feed).await;
    system.psql("INSERT INTO t_eu VALUES (1, 'eu', 1)");
    let seen = reader.observations(1).await;
    assert_eq!((seen[0].object.as_str(), &seen[0].key), ("t", &Key(vec![int(1), text("eu")])));
    let key = Key(vec![int(1), text("eu")]);
    let change =
        concord_engine::connector::Operation::Update { key, set: record(&[("v", int(2))]), guard: record(&[("v", int(1))]) };
    assert_eq!(all_said(&system.apply("t", vec![change]).await), ["written (1,eu): id=1 region=eu v=2"]);
    assert_eq!(system.connector.count(&"t".into()).await.unwrap(), 1);
}

#[tokio::test]
async fn a_table_whose_changes_could_not_be_told_apart_is_refused_before_it_is_published() {
    let system = system(
        "CREATE TABLE keyless (a int); CREATE TABLE nothing (a int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING; CREATE UNLOGGED TABLE unlogged (a int PRIMARY KEY); CREATE TABLE by_index (a int NOT NULL, b int); CREATE UNIQUE INDEX i ON by_index (a); ALTER TABLE by_index REPLICA IDENTITY USING INDEX i",
    );
    for (object, code) in [
        ("keyless", Code::KeyMissing),
        ("nothing", Code::SettingWrong),
        ("unlogged", Code::SettingWrong),
        ("absent", Code::ObjectMissing),
    ] {
        let error = system.connector.prepare(&[selection(object)], &[]).await.unwrap_err();
        assert_eq!(error.code, code, "{object}: {error}");
        assert_eq!(system.psql("SELECT count(*) FROM pg_publication"), "0");
    }
    let feed = system.prepare(&["by_index"]).await;
    let mut reader = system.capture(&feed).await;
    system.psql("INSERT INTO by_index VALUES (1, 2); DELETE FROM by_index");
    assert!(reader.observations(2).await.iter().all(|seen| seen.key == key(1)));
}
