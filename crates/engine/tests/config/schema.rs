//! The JSON Schema accepts what the parser accepts, in whatever form, and refuses what it refuses.

use crate::{pair_with, parse};
use concord_engine::config;
use serde_json::{Value, json};

fn validator() -> jsonschema::Validator {
    jsonschema::validator_for(&config::json_schema()).unwrap()
}

#[track_caller]
fn accepts(document: &str) {
    assert!(parse(document).config.is_some(), "the parser refuses {document}: {:?}", parse(document).diagnostics);
    let value: Value = serde_json::from_str(document).unwrap();
    let errors: Vec<String> =
        validator().iter_errors(&value).map(|error| format!("{error} at {}", error.instance_path())).collect();
    assert_eq!(errors, Vec::<String>::new(), "the schema refuses {document}");
}

#[track_caller]
fn refuses(document: &str) {
    assert!(parse(document).config.is_none(), "the parser accepts {document}");
    let value: Value = serde_json::from_str(document).unwrap();
    assert!(!validator().is_valid(&value), "the schema accepts {document}");
}

#[test]
fn every_form_of_a_setting_is_accepted() {
    for settings in [
        r#""sync_settings": {"conflict_resolution": "manual", "initial_sync": "match_only"}"#,
        r#""conflict_resolution": {"strategy": "manual"}"#,
        r#""connection_name": "accounts""#,
        r#""metric_collection": ["latency"], "monitoring": {"log_level": "warning"}"#,
        r#""monitoring": {"metric_collection": "latency", "logging": {"level": "debug"}}"#,
        r#""match_on": "email""#,
        r#""match_on": ["email", {"field": "phone", "normalizer": "phone"}]"#,
        r#""field_selection": {"mode": "explicit", "include_fields": "a"}"#,
        r#""field_mappings": [{"source": ["a", "b"], "target": "c", "transformation": "join(' ')"}]"#,
        r#""field_mappings": [{"source": "a", "target": "b", "transformation": ["trim", {"map": {"x": 1}}, {"name": "cast", "to": "text"}]}]"#,
        r#""loop_prevention": false, "rollout": "full""#,
        r#""store": "x.db", "process_settings": {"metrics": "127.0.0.1:1"}"#,
        r#""error_handling": {"fallback": "skip", "notification": {"channels": "email"}, "notifications": {"email": "a@example.com", "webhook": {"env": "URL"}}}"#,
        r#""$schema": "./concord.schema.json""#,
    ] {
        accepts(&pair_with(settings));
    }
}

#[test]
fn a_filter_is_accepted_at_a_sync_that_flows_one_way() {
    let one_way = |filter: &str| pair_with(filter).replace("bidirectional", "one_way");
    accepts(&one_way(r#""filter": "country = 'DE' AND active""#));
    refuses(&one_way(r#""filter": 5"#));
    let of_the_source =
        |filter: &str| one_way("").replace(r#""object": "accounts""#, &format!(r#""object": "accounts", "filter": {filter}"#));
    accepts(&of_the_source(r#""country IN ('DE', 'AT')""#).replace(",\n }", " }"));
}

#[test]
fn members_and_connections_are_accepted_in_every_form() {
    accepts(
        r#"{ "name": "s", "sync_type": "one_way",
        "source": { "type": "file", "role": "crm", "path": "a", "table": "t" },
        "target": { "type": "server", "host": "h", "object": "t", "schema": "public",
            "credentials": { "user": "u", "dbname": "d", "password": { "env": "X" } } } }"#,
    );
    accepts(
        r#"{ "connections": { "a": { "type": "file", "path": "a" } },
        "syncs": [ { "name": "s", "sync_type": "one_way", "source": "a.x", "target": { "connection": "a", "table": "y" } } ] }"#,
    );
}

#[test]
fn what_the_parser_refuses_the_schema_refuses() {
    for settings in [
        r#""fild_mappings": []"#,
        r#""on_delete": "propogate""#,
        r#""guards": {"max_deletes": "many"}"#,
        r#""performance_settings": {"batch_size": 0}"#,
        r#""sync_settings": {"colour": 1}"#,
        r#""monitoring": {"metrics": ["speed"]}"#,
    ] {
        refuses(&pair_with(settings));
    }
    refuses(r#"{ "connections": { "a": { "type": "file", "path": "a", "password": "hunter2" } } }"#);
}

#[test]
fn the_examples_are_accepted_once_their_comments_are_gone() {
    for name in ["accounts.json", "accounts-sqlite.json"] {
        let path = format!("{}/../../examples/{name}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let without_comments: String =
            text.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect();
        let without_commas = without_trailing_commas(&without_comments);
        let value: Value = serde_json::from_str(&without_commas).unwrap();
        let errors: Vec<String> = validator().iter_errors(&value).map(|error| error.to_string()).collect();
        assert_eq!(errors, Vec::<String>::new(), "{name}");
    }
}

fn without_trailing_commas(text: &str) -> String {
    let mut kept = String::new();
    for (at, character) in text.char_indices() {
        let next = text[at + 1..].trim_start().chars().next();
        if !(character == ',' && matches!(next, Some('}' | ']'))) {
            kept.push(character);
        }
    }
    kept
}

#[test]
fn every_setting_has_a_description() {
    let schema = config::json_schema();
    let mut silent = Vec::new();
    let definitions = schema["$defs"].as_object().unwrap();
    for (name, definition) in definitions {
        for (key, property) in definition.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let is_tag = property.get("const").is_some();
            if property.get("description").is_none() && !is_tag && *property != json!({}) {
                silent.push(format!("{name}.{key}"));
            }
        }
    }
    assert_eq!(silent, Vec::<String>::new());
}
