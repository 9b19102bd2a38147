//! Chunks, searches and counts.

use crate::support::*;
use concord_connectors::postgres::open;
use concord_engine::connector::{ChunkCursor, Connector};
use concord_engine::error::Code;
use concord_engine::record::{FieldName, Key};
use concord_engine::value::Value;

#[tokio::test]
async fn chunks_cover_a_table_in_the_order_of_a_composite_key_and_can_be_resumed() {
    let system = system("CREATE TABLE t (a text, b int, c uuid, v int, PRIMARY KEY (b, a, c))");
    system.psql(
        "INSERT INTO t SELECT (ARRAY['ä', 'Z', 'a b', 'it''s', E'tab\\t'])[1 + i % 5], i / 7, md5(i::text)::uuid, i FROM generate_series(0, 99) AS i",
    );
    let expected = system.psql("SELECT string_agg(v::text, ',' ORDER BY b, a, c) FROM t");
    let mut cursor = ChunkCursor::default();
    let mut seen: Vec<String> = Vec::new();
    loop {
        // A connector of another process continues each time.
        let chunk = system.restarted().snapshot(&selection("t"), &cursor, 7).await.unwrap();
        assert!(chunk.records.len() <= 7);
        seen.extend(chunk.records.iter().map(|record| record.image.record().unwrap().get("v").unwrap().to_string()));
        assert!(chunk.records.iter().all(|record| record.key.0.len() == 3 && record.time.estimated));
        match chunk.next {
            Some(next) => cursor = next,
            None => break,
        }
    }
    assert_eq!(seen.join(","), expected);
}

#[tokio::test]
async fn a_search_by_several_fields_takes_null_for_null_and_stops_at_the_limit() {
    let system = system(
        "CREATE TABLE t (id int PRIMARY KEY, a text, b date, j json); \
         INSERT INTO t VALUES (1, 'x', '2024-01-01', '{\"k\": 1}'), (2, 'x', NULL, NULL), (3, 'x', NULL, '{\"k\":1.0}'), (4, NULL, NULL, NULL), (5, 'x', NULL, NULL)",
    );
    let find = async |by: &[&str], values: &[Vec<Value>]| {
        let by: Vec<FieldName> = by.iter().map(|name| FieldName::from(*name)).collect();
        let found = system.connector.find(&selection("t"), &by, values, 2).await.unwrap();
        found.iter().map(|list| list.iter().map(|seen| seen.key.to_string()).collect::<Vec<_>>().join("+")).collect::<Vec<_>>()
    };
    let date = || Value::Date(concord_engine::value::Date::new(2024, 1, 1).unwrap());
    let asked = [vec![text("x"), date()], vec![text("x"), Value::Null], vec![Value::Null, Value::Null], vec![text("y"), date()]];
    assert_eq!(find(&["a", "b"], &asked).await, ["1", "2+3", "4", ""]);
    let json = Value::Json(concord_engine::value::Json::parse("{ \"k\" : 1 }").unwrap());
    assert_eq!(find(&["j"], &[vec![json]]).await, ["1+3"]);
}

#[tokio::test]
async fn a_small_table_is_counted_exactly_and_a_read_shows_only_the_selected_fields() {
    let system = system(
        "CREATE TABLE t (id int PRIMARY KEY, a int, b int); INSERT INTO t SELECT i, i, i FROM generate_series(1, 321) AS i",
    );
    assert_eq!(system.connector.count(&"t".into()).await.unwrap(), 321);
    let mut selected = selection("t");
    selected.fields.push("b".into());
    let presence = system.connector.read(&selected, &[Key(vec![int(7)])]).await.unwrap();
    let concord_engine::connector::Presence::Present(seen) = &presence[0] else { panic!() };
    assert_eq!(seen.image, full(&[("id", int(7)), ("b", int(7))]));
}

#[tokio::test]
async fn a_read_by_keys_that_is_refused_names_what_grants_it_also_where_records_may_be_large() {
    let system = system("CREATE TABLE t (id int PRIMARY KEY, a text); INSERT INTO t VALUES (1, 'x')");
    let name = format!("blind_{}", system.database.name);
    system.psql(&format!("CREATE ROLE {name} LOGIN"));
    let mut config = config(&system.database);
    config.username.clone_from(&name);
    let blind = open(config).unwrap();
    let (selected, keys) = (selection("t"), [key(1)]);
    let few = blind.read(&selected, &keys).await;
    let large = blind.read_within(&selected, &keys, 1 << 20).await;
    for refused in [few, large] {
        let error = refused.unwrap_err();
        assert_eq!(error.code, Code::PrivilegeMissing);
        let grant = format!("run: GRANT SELECT ON \"public\".\"t\" TO \"{name}\";");
        assert!(error.message.contains(&grant), "{error}");
    }
    drop(blind);
    system.psql(&format!("DROP ROLE {name}"));
}
