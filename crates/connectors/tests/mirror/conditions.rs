//! What the server is asked itself: it finds a condition true of exactly those rows of which the engine does, or is not asked.

use crate::into_postgres::filters::filtered;
use crate::support::World;
use concord_engine::filter::{Condition, parse};
use concord_engine::mirror::bulk::{Range, RawField};
use concord_engine::record::FieldName;
use concord_engine::value::Value;
use futures_util::StreamExt;
use std::collections::BTreeSet;

const TABLE: &str = "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN short AS text; \
    CREATE TYPE pair AS (n int, t text); CREATE TABLE t (id int PRIMARY KEY, name text, code varchar(8), fixed char(4), amount numeric, narrow numeric(6,2), big bigint, \
    flag bool, born date, made timestamp(3), seen timestamptz, token uuid, ratio float8, mood mood, own short COLLATE \"C\", extra jsonb, \
    parts pair)";
const FILLED: &str = r"INSERT INTO t (id) SELECT n FROM generate_series(-3, 60) n;
    UPDATE t SET name = (ARRAY['a', 'A', 'b', 'B', 'ä', 'Z', 'z', '', ' a', 'a_b', 'axb', '100%', 'back\slash', 'O''Neil', 'é', 'ß', NULL])[id % 17 + 1],
        code = (ARRAY['a', 'a ', 'A', '10', '9', NULL])[id % 6 + 1], fixed = (ARRAY['a', 'ab', '', NULL])[id % 4 + 1],
        amount = (ARRAY['NaN', 'Infinity', '-Infinity', '0', '-0.5', '12.50', '1e20', NULL])[id % 8 + 1]::numeric,
        narrow = (ARRAY[-1.5, 0, 12.5, 12.55, NULL])[id % 5 + 1], big = (ARRAY[9223372036854775807, -9223372036854775808, 0, NULL])[id % 4 + 1],
        flag = (ARRAY[true, false, NULL])[id % 3 + 1],
        born = (ARRAY['infinity', '-infinity', '2026-01-31', '0044-03-15 BC', NULL])[id % 5 + 1]::date,
        made = (ARRAY['infinity', '2026-01-31 12:00:00.123', '2026-01-31', NULL])[id % 4 + 1]::timestamp,
        seen = (ARRAY['infinity', '2026-01-31 12:00:00+02', '2026-01-31 10:00:00Z', NULL])[id % 4 + 1]::timestamptz,
        token = (ARRAY['6f2c1a34-0000-4000-8000-000000000000', NULL])[id % 2 + 1]::uuid,
        ratio = (ARRAY[0.1, 'NaN', NULL])[id % 3 + 1]::float8, mood = (ARRAY['sad', 'ok', NULL])[id % 3 + 1]::mood, own = 'x',
        parts = (ARRAY[ROW(1, 'a'), ROW(1, NULL), ROW(NULL, NULL), NULL]::pair[])[id % 4 + 1]
        WHERE id >= 0";

/// Whether the server may be asked.
const CONDITIONS: &[(&str, bool)] = &[
    ("name = 'a'", true),
    ("name <> 'a'", true),
    ("name > 'Z'", true),
    ("name >= 'a' AND name < 'b'", true),
    ("name BETWEEN 'A' AND 'b'", true),
    ("name LIKE 'a%'", true),
    ("name LIKE 'a\\_b'", true),
    ("name LIKE 'a_b'", true),
    ("name LIKE '%\\%'", true),
    ("name LIKE 'back\\\\slash'", true),
    ("name NOT LIKE '%a%'", true),
    ("name LIKE '_'", true),
    ("name = 'O''Neil' OR name = 'back\\slash'", true),
    ("name = ''", true),
    ("name IN ('a', 'ä', NULL)", true),
    ("name NOT IN ('a', 'ä', NULL)", true),
    ("NOT (name = 'a' OR flag)", true),
    ("name IS NULL", true),
    ("name IS NOT NULL AND NOT flag", true),
    ("name = code", true),
    ("code > '10'", true),
    ("code = 'a '", true),
    ("fixed = 'a'", false),
    ("fixed IS NULL", true),
    ("amount > 12.4", true),
    ("amount >= 1e20", true),
    ("amount < 0", true),
    ("amount <> 0", true),
    ("narrow = 12.5", true),
    ("narrow > 12.549999", true),
    ("narrow < 99999999999", true),
    ("amount = narrow", true),
    ("big = 9223372036854775807", true),
    ("big < 99999999999999999999999", true),
    ("big > -0.5", true),
    ("id >= 10 AND id < 20.5", true),
    ("5 > id", true),
    ("flag", true),
    ("flag = FALSE", true),
    ("flag <> TRUE", true),
    ("flag = NULL", true),
    ("born > '2026-01-30'", true),
    ("born <= '2026-01-31'", true),
    ("made = '2026-01-31 12:00:00.123'", true),
    ("made >= '2026-01-31'", true),
    ("made > '2026-01-31 12:00:00.122999'", true),
    ("made > '2026-01-31 12:00:00.1229999'", false),
    ("seen = '2026-01-31 10:00:00+00'", true),
    ("seen > '2026-01-31 09:59:59.999999Z'", true),
    ("token = '6F2C1A34-0000-4000-8000-000000000000'", true),
    ("ratio = 0.1", false),
    ("ratio IS NOT NULL", true),
    ("mood = 'ok'", false),
    ("own = 'x'", false),
    ("extra IS NULL AND id > 3", true),
    ("parts IS NULL", true),
    ("parts IS NOT NULL", true),
    ("name = 'a' OR ratio = 0.1", false),
];

/// The numbers that a binary COPY of one `int` column holds.
fn ids(copied: &[u8]) -> BTreeSet<i64> {
    let mut rest = &copied[19..];
    let mut all = BTreeSet::new();
    while let Some((_, behind)) = rest.split_first_chunk::<2>().filter(|(width, _)| i16::from_be_bytes(**width) == 1) {
        let id = i32::from_be_bytes(behind[4..8].try_into().unwrap());
        assert!(all.insert(i64::from(id)));
        rest = &behind[8..];
    }
    all
}

#[tokio::test]
async fn the_server_finds_true_what_the_engine_does_or_is_not_asked() {
    let all = [
        "id", "name", "code", "fixed", "amount", "narrow", "big", "flag", "born", "made", "seen", "token", "ratio", "mood",
        "own", "extra", "parts",
    ];
    let world = World::of(TABLE, "CREATE TABLE t (id int PRIMARY KEY)", FILLED, &["id"]).await.with(|rules| {
        rules.members[0].selection.fields = all.iter().map(|name| FieldName::from(*name)).collect();
    });
    let source = world.systems()[0].1.for_one_sync("conditions").unwrap();
    let frozen = source.bulk_source().unwrap().freeze(&world.rules.members[0].selection).await.unwrap();
    let mut records = Vec::new();
    let mut shown = frozen.records(&Range::default()).await.unwrap();
    while let Some(some) = shown.next().await {
        records.extend(some.unwrap());
    }
    assert_eq!(records.len(), 64);
    let mut true_of_some = 0;
    for (text, can_be_asked) in CONDITIONS {
        let condition =
            Condition::new(parse(text).unwrap(), &world.rules.members[0].schema).unwrap_or_else(|why| panic!("{text}: {why:?}"));
        assert_eq!(frozen.can_ask(&condition), *can_be_asked, "{text}");
        let admitted = records.iter().filter(|record| condition.admits(record.image.record().unwrap()).unwrap());
        let of_engine: BTreeSet<i64> = admitted
            .map(|record| match record.key.0[0] {
                Value::Int(id) => id,
                ref other => panic!("{other:?}"),
            })
            .collect();
        true_of_some += usize::from(!of_engine.is_empty() && of_engine.len() < records.len());
        if *can_be_asked {
            let mut copied = Vec::new();
            let ids_alone = [RawField { name: "id".into(), given_as: None }];
            let mut pieces = frozen.raw(&Range::default(), &ids_alone, Some(&condition)).await.unwrap();
            while let Some(piece) = pieces.next().await {
                copied.extend_from_slice(&piece.unwrap_or_else(|error| panic!("{text}: {error}")).bytes);
            }
            assert_eq!(ids(&copied), of_engine, "{text}");
        }
    }
    assert!(true_of_some > 45, "conditions that tell nothing apart prove nothing: {true_of_some}");
}

/// In Windows' code page 1252 the byte of the euro sign comes before those of letters with accents; among characters it is behind them.
#[tokio::test]
async fn texts_are_ordered_alike_in_a_database_of_another_encoding() {
    let server = crate::server::Server::shared();
    let right = server.database();
    let name = format!("{}_of_windows", right.name);
    server.psql(&format!("CREATE DATABASE {name} ENCODING 'WIN1252' LOCALE 'C' TEMPLATE template0"));
    let left = crate::server::Database { server: std::sync::Arc::clone(&server), name };
    let table = "CREATE TABLE t (id int PRIMARY KEY, name text)";
    let filled = r"INSERT INTO t VALUES (1, U&'\20AC'), (2, U&'\00E4'), (3, 'a'), (4, U&'\20ACuro')";
    let mut world = World::between(left, right, table, table, filled, &["id", "name"]).await;
    world = world.with(|rules| filtered(rules, "name > 'ä'"));
    world.start().await;
    let there = "SELECT string_agg(id::text, ',' ORDER BY id) FROM t";
    world.until("what takes part is there", async || world.status().level && world.right.psql(there) == "1,4").await;
    world.left.psql(r"INSERT INTO t VALUES (5, U&'\20AC 5'), (6, 'b')");
    world.until("what is new takes part alike", async || world.status().level && world.right.psql(there) == "1,4,5").await;
}

#[tokio::test]
async fn a_keyless_table_is_filtered_record_by_record_and_a_changed_filter_replaces_it() {
    let table = "CREATE TABLE t (line text, number int)";
    let filled =
        "INSERT INTO t SELECT 'line ' || n % 10, n % 7 FROM generate_series(1, 700) n; INSERT INTO t VALUES ('none', NULL)";
    let mut world = World::new(table, filled, &["line", "number"]).await.with(|rules| filtered(rules, "number < 3"));
    let count = "SELECT count(*), count(*) FILTER (WHERE number = 1) FROM t";
    world.start().await;
    world.until("what takes part is there", async || world.status().level && world.right.psql(count) == "300|100").await;
    world.left.psql("INSERT INTO t VALUES ('more', 1), ('more', 5), ('more', NULL), ('last', 0)");
    world.until("what takes part is appended", async || world.right.psql(count) == "302|101").await;
    let found = world.verify().await;
    assert!(found.is_equal() && found.links == 302, "{found:?}");
    world.stop().await;
    filtered(&mut world.rules, "number < 2");
    world.start().await;
    world.until("it shows what takes part now", async || world.status().level && world.right.psql(count) == "202|101").await;
    assert!(world.verify().await.is_equal());
    world.stop().await;
    // What replaces is counted as it is filtered.
    filtered(&mut world.rules, "number > 100");
    world.start().await;
    world.until_stage("stopped: CON-3017").await;
    assert_eq!(world.right.psql(count), "202|101");
}
