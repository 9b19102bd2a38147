//! Every type, with ordinary and odd values: shown alike by chunk, read and feed, written back unchanged, and held by
//! a guard over all fields.

use crate::support::*;
use concord_engine::change::Image;
use concord_engine::connector::{Connector, Operation, Presence};
use concord_engine::record::Record;
use concord_engine::value::Value;

/// Column types, each with values of its own.
const COLUMNS: &[(&str, &[&str])] = &[
    ("boolean", &["true", "false"]),
    ("smallint", &["-32768", "32767"]),
    ("integer", &["-2147483648", "2147483647"]),
    ("bigint", &["-9223372036854775808", "9223372036854775807"]),
    ("numeric", &["0.00", "-1e-30", "123456789012345678901234567890.123456789", "'NaN'", "'Infinity'", "'-Infinity'"]),
    ("numeric(10,2)", &["1.50", "-99999999.99", "'NaN'"]),
    ("real", &["0.1", "1e-45", "3.4028235e38", "'NaN'", "'-Infinity'", "'-0'"]),
    ("double precision", &["0.1", "5e-324", "1.7976931348623157e308", "'NaN'", "'Infinity'", "'-0'"]),
    ("text", &["''", "'NULL'", "' padded '", "'it''s'", "E'line\\nbreak\\ttab\\\\'", "'😀 ünï'", "repeat('long ', 5000)"]),
    ("varchar(5)", &["''", "'12345'", "'a    '"]),
    ("char(5)", &["'abc'", "''", "'12345'"]),
    ("bytea", &["''", "'\\x00ff5c27'"]),
    ("date", &["'2024-02-29'", "'0044-03-15 BC'", "'infinity'", "'-infinity'", "'5874897-12-31'"]),
    ("time", &["'00:00'", "'24:00'", "'23:59:59.999999'"]),
    ("time(3)", &["'12:34:56.789'"]),
    ("timetz", &["'04:05:06.5+05:30'", "'04:05:06-15:59'"]),
    ("timestamp", &["'2024-12-31 23:59:59.999999'", "'infinity'", "'0044-03-15 12:00 BC'"]),
    ("timestamp(0)", &["'2024-12-31 23:59:59'"]),
    (
        "timestamptz",
        &["'2024-03-10 02:30:00.123456+01'", "'-infinity'", "'0001-01-01 00:00+00'", "'294276-12-31 23:59:59.999999+00'"],
    ),
    ("interval", &["'1 year -2 mons 3 days -04:05:06.7'", "'0'", "'-1 mons +1 day'", "'178000000 years'"]),
    ("uuid", &["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"]),
    ("json", &["'{\"b\": 1,  \"a\": [1.0, null]}'", "'\"text\"'", "'12345678901234567890.5'"]),
    ("jsonb", &["'{\"b\": 1, \"a\": [1.0, null]}'", "'null'", "'1e400'"]),
    ("integer[]", &["'{}'", "'{1,NULL,-3}'", "'{{1,2},{3,4}}'", "'[0:1]={1,2}'"]),
    ("text[]", &["ARRAY['a,b', 'q\"q', 'back\\slash', 'NULL', NULL, '', '{}', ' ']"]),
    ("numeric(6,1)[]", &["'{1.5,-2.0}'"]),
    ("timestamptz[]", &["'{2024-01-01 00:00:00+00,infinity}'"]),
    ("bytea[]", &["ARRAY['\\x00ff'::bytea]"]),
    ("mood", &["'it''s ok'", "'SAD, really'"]),
    ("mood[]", &["ARRAY['it''s ok', 'SAD, really']::mood[]"]),
    ("price", &["12.34"]),
    ("price[]", &["ARRAY[1.10, 2]::price[]"]),
    // One with a null in it is not null itself, whatever IS NOT NULL says of it.
    ("pair", &["ROW(1, 'a \"b\", c')", "ROW(NULL, 'x')", "ROW(NULL, NULL)"]),
    ("pair[]", &["ARRAY[ROW(1, 'x')]::pair[]", "ARRAY[ROW(NULL, NULL)]::pair[]"]),
    ("inet", &["'10.0.0.1'", "'10.0.0.0/8'", "'::1'"]),
    ("cidr", &["'10.0.0.0/8'"]),
    ("inet[]", &["'{10.0.0.1}'"]),
    ("macaddr", &["'08:00:2b:01:02:03'"]),
    ("point", &["'(1.5,-2)'"]),
    ("polygon", &["'((0,0),(1,1),(1,0))'"]),
    ("int4range", &["'[1,5)'", "'empty'"]),
    ("tsvector", &["'a:1 b:2'"]),
    ("bit(5)", &["B'10101'"]),
    ("varbit", &["B'101'", "B''"]),
    ("money", &["'12.34'"]),
    ("name", &["'a name'"]),
    ("\"char\"", &["'x'"]),
    ("oid", &["4294967295"]),
    ("pg_lsn", &["'16/B374D848'"]),
    ("int2vector", &["'1 2 3'"]),
];

fn schema() -> String {
    let columns: Vec<String> = COLUMNS.iter().enumerate().map(|(place, (ty, _))| format!("c{place} {ty}")).collect();
    let table = |name: &str| format!("CREATE TABLE {name} (id int PRIMARY KEY, {})", columns.join(", "));
    format!(
        "CREATE TYPE mood AS ENUM ('it''s ok', 'SAD, really'); CREATE DOMAIN price AS numeric(8,2) CHECK (VALUE > 0); \
         CREATE TYPE pair AS (n int, t text); {}; {}",
        table("t"),
        table("u")
    )
}

/// One row for each place among the values; a column with fewer shows null.
fn inserts() -> (i64, String) {
    let rows = COLUMNS.iter().map(|(_, values)| values.len()).max().unwrap();
    let mut sql = String::new();
    for row in 0..rows {
        let values: Vec<&str> = COLUMNS.iter().map(|(_, values)| values.get(row).copied().unwrap_or("NULL")).collect();
        sql.push_str(&format!("INSERT INTO t VALUES ({row}, {});", values.join(", ")));
    }
    (i64::try_from(rows).unwrap(), sql)
}

#[tokio::test]
async fn every_type_is_shown_alike_everywhere_and_comes_back_unchanged() {
    let system = system(&schema());
    let feed = prepare(&system.connector, &["t", "u"], &[]).await;
    let mut reader = system.capture(&feed).await;
    let (rows, sql) = inserts();
    system.psql(&sql);
    let streamed = reader.observations(usize::try_from(rows).unwrap()).await;
    let chunk = system.connector.snapshot(&selection("t"), &Default::default(), 100).await.unwrap();
    let keys: Vec<_> = (0..rows).map(key).collect();
    let read = system.connector.read(&selection("t"), &keys).await.unwrap();
    let mut images: Vec<Record> = Vec::new();
    for ((streamed, chunked), read) in streamed.iter().zip(&chunk.records).zip(&read) {
        let Presence::Present(read) = read else { panic!() };
        let Image::Full(record) = &streamed.image else { panic!("{:?}", streamed.image) };
        for (name, value) in record.iter() {
            for other in [&chunked.image, &read.image] {
                assert_eq!(other.record().unwrap().get(name.as_str()), Some(value), "{name} of {}", streamed.key);
            }
        }
        images.push(record.clone());
    }
    let creates = images.iter().map(|image| Operation::Create { image: image.clone(), absent_by: vec![] }).collect();
    for outcome in system.apply("u", creates).await {
        assert!(said(&outcome).starts_with("written"), "{outcome:?}");
    }
    let differing = "SELECT count(*) FROM t FULL JOIN u USING (id) WHERE row_to_json(t)::text IS DISTINCT FROM row_to_json(u)::text OR t::text IS DISTINCT FROM u::text";
    assert_eq!(system.psql(differing), "0");
    held_by_its_guard(&system, &images).await;
}

/// A guard over every field holds for what was shown, and fails for anything else.
async fn held_by_its_guard(system: &System, images: &[Record]) {
    let guarded = |image: &Record| Operation::Update {
        key: concord_engine::record::Key(vec![image.get("id").unwrap().clone()]),
        set: record(&[("c1", int(7))]),
        guard: image.clone(),
    };
    for image in images {
        for (name, value) in image.iter().filter(|(_, value)| **value != Value::Null) {
            let outcomes = system
                .apply(
                    "u",
                    vec![Operation::Update {
                        key: concord_engine::record::Key(vec![image.get("id").unwrap().clone()]),
                        set: record(&[("c2", image.get("c2").unwrap().clone())]),
                        guard: record(&[(name.as_str(), value.clone())]),
                    }],
                )
                .await;
            assert!(said(&outcomes[0]).starts_with("written"), "{name} {value:?}: {}", said(&outcomes[0]));
        }
    }
    for outcome in system.apply("u", images.iter().map(guarded).collect()).await {
        assert!(said(&outcome).starts_with("written"), "{}", said(&outcome));
    }
    let stale: Vec<Operation> = images.iter().filter(|image| image.get("c1") != Some(&int(7))).map(guarded).collect();
    for outcome in system.apply("u", stale).await {
        assert_eq!(said(&outcome), "missed");
    }
    // Each field alone: the guard sees that it is another than in the next row.
    let differs = |name: &str| (images[0].get(name) != images[1].get(name)).then(|| images[1].get(name).cloned());
    for name in (2..COLUMNS.len()).map(|place| format!("c{place}")) {
        let Some(Some(other)) = differs(&name) else { continue };
        let outcomes = system.apply("u", vec![delete(0, &[(name.as_str(), other)])]).await;
        assert_eq!(said(&outcomes[0]), "missed", "{name}");
    }
}

#[tokio::test]
async fn a_value_that_does_not_fit_fails_its_record_and_nothing_is_cut_or_rounded() {
    let system = system("CREATE TABLE t (id int PRIMARY KEY, v varchar(3), c char(3), n smallint, u uuid)");
    let outcomes = system
        .apply(
            "t",
            vec![
                create(&[("id", int(1)), ("v", text("abcd"))], &[]),
                create(&[("id", int(2)), ("c", text("abcd"))], &[]),
                create(&[("id", int(3)), ("n", int(40_000))], &[]),
                create(&[("id", int(4)), ("u", text("no uuid"))], &[]),
                create(&[("id", int(5)), ("v", text("a\0"))], &[]),
                create(&[("id", int(6)), ("v", text("abc"))], &[]),
            ],
        )
        .await;
    let words: Vec<String> = all_said(&outcomes).iter().map(|said| said.split(':').next().unwrap().to_owned()).collect();
    assert_eq!(
        words,
        ["failed CON-3002", "failed CON-3002", "failed CON-3002", "failed CON-3002", "failed CON-3002", "written 6"]
    );
    assert_eq!(system.psql("SELECT string_agg(id::text, ',') FROM t"), "6");
}

#[tokio::test]
async fn keys_of_every_usual_type_are_read_back_by_what_they_show() {
    for (ty, sql) in [
        ("text", "'ä ''\"\\'"),
        ("uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"),
        ("char(6)", "'ab'"),
        ("numeric", "1.50"),
        ("timestamptz", "'2024-03-10 02:30:00.123456+01'"),
        ("bytea", "'\\x00ff'"),
        ("date", "'0044-03-15 BC'"),
        ("boolean", "false"),
        ("inet", "'10.0.0.1'"),
    ] {
        let system = system(&format!("CREATE TABLE t (k {ty} PRIMARY KEY, v int); INSERT INTO t VALUES ({sql}, 1)"));
        let chunk = system.connector.snapshot(&selection("t"), &Default::default(), 1).await.unwrap();
        let key = chunk.records[0].key.clone();
        let read = system.connector.read(&selection("t"), std::slice::from_ref(&key)).await.unwrap();
        assert!(matches!(&read[0], Presence::Present(seen) if seen.key == key), "{ty}: {read:?}");
        let change = Operation::Update {
            key: key.clone(),
            set: record(&[("v", int(2))]),
            guard: record(&[("v", int(1)), ("k", key.0[0].clone())]),
        };
        assert!(said(&system.apply("t", vec![change]).await[0]).starts_with("written"), "{ty}");
        let rest = system.connector.snapshot(&selection("t"), &chunk.next.unwrap(), 1).await.unwrap();
        assert!(rest.records.is_empty() && rest.next.is_none(), "{ty}");
        assert_ne!(key.0[0], Value::Null);
    }
}
