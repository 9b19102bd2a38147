//! What holds for every document: no input stops the parser, and what is printed is read back as it was.

use crate::generated::configs;
use crate::{KINDS, clean, pair_with, parse};
use concord_engine::config::{self, Config, Document, Filter, FilterShare, Rollout, RolloutStage, Severity};
use concord_engine::error::Code;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Keys of the language and others, so that arbitrary documents get past the first look.
fn keys() -> impl Strategy<Value = String> {
    let known = [
        "name",
        "connection_name",
        "source",
        "target",
        "sync_type",
        "syncs",
        "connections",
        "sync_settings",
        "type",
        "object",
        "table",
        "system",
        "credentials",
        "password",
        "path",
        "field_mappings",
        "transformation",
        "field_selection",
        "mode",
        "include_fields",
        "conflict_resolution",
        "strategy",
        "priority",
        "field_rules",
        "monitoring",
        "metrics",
        "metric_collection",
        "log_level",
        "logging",
        "entities",
        "members",
        "match_on",
        "filter",
        "percent",
        "rollout",
        "initial_sync",
        "error_handling",
        "fallback",
        "map",
        "values",
        "arguments",
        "process_settings",
        "store",
        "notifiers",
        "validation_rules",
        "rule",
        "connected_systems",
        "sync_hub",
        "options",
    ];
    prop_oneof![4 => prop::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => ".{0,8}"]
}

fn documents() -> impl Strategy<Value = Value> {
    let words = ["bidirectional", "one_way", "file", "server", "crm.accounts", "trim", "split(',', 0)", "latency", "manual"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        prop::sample::select(words.to_vec()).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 80, 8, |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            4 => prop::collection::vec((keys(), inner), 0..8)
                .prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<String, Value>>())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_document_stops_the_parser(document in documents()) {
        let loaded = parse(&document.to_string());
        prop_assert!(loaded.config.is_some() || loaded.has_errors(), "refused without a reason");
    }

    #[test]
    fn no_settings_of_a_good_pair_stop_the_parser(key in keys(), value in documents()) {
        let settings = format!("{}: {value}", Value::from(key));
        let loaded = parse(&pair_with(&settings));
        prop_assert!(loaded.config.is_some() || loaded.has_errors(), "refused without a reason");
    }

    #[test]
    fn no_text_stops_the_parser(text in ".{0,200}", name in prop::sample::select(vec!["a.json", "a.yaml"])) {
        let loaded = config::parse(&[Document { name, text: &text }], KINDS);
        prop_assert!(loaded.config.is_some() || loaded.has_errors(), "refused without a reason");
    }

    #[test]
    fn what_is_printed_is_read_back_as_it_was(config in configs()) {
        let printed = serde_json::to_string_pretty(&config.to_json()).unwrap();
        let loaded = parse(&printed);
        prop_assert!(!loaded.has_errors(), "{:?} in {printed}", loaded.diagnostics);
        let again = loaded.config.unwrap();
        prop_assert_eq!(again.hash(), config.hash());
        prop_assert_eq!(again, config);
    }

    #[test]
    fn what_is_printed_as_yaml_is_read_back_as_it_was(config in configs()) {
        // JSON is YAML: the other reader sees the same document.
        let printed = config.to_json().to_string();
        let loaded = config::parse(&[Document { name: "a.yaml", text: &printed }], KINDS);
        prop_assert!(!loaded.has_errors(), "{:?} in {printed}", loaded.diagnostics);
        prop_assert_eq!(loaded.config.unwrap(), config);
    }
}

proptest! {
    #[test]
    fn what_this_version_refuses_is_printed_and_read_by_the_types_all_the_same(
        mut config in configs(),
        percent in 0.0..100.0_f64,
        stage in prop::sample::select(vec![RolloutStage::Shadow, RolloutStage::OneWay, RolloutStage::Subset]),
    ) {
        for sync in &mut config.syncs {
            sync.filter = Some(Filter::Share(FilterShare { percent }));
            sync.rollout = Some(Rollout { stage, gates: None });
        }
        prop_assert_eq!(&serde_json::from_value::<Config>(config.to_json()).unwrap(), &config);
        let loaded = parse(&config.to_json().to_string());
        let errors = loaded.diagnostics.iter().filter(|finding| finding.severity == Severity::Error);
        let codes: Vec<Code> = errors.map(|finding| finding.code).collect();
        let refused = [Code::FilterNotBuilt, Code::RolloutNotBuilt];
        prop_assert!(refused.iter().all(|code| codes.contains(code)), "{:?}", loaded.diagnostics);
        prop_assert!(codes.iter().all(|code| refused.contains(code)), "{:?}", loaded.diagnostics);
    }
}

#[test]
fn a_document_that_nests_as_deeply_as_it_may_does_not_stop_the_parser() {
    let deep = format!("{}1{}", "{\"options\":".repeat(60), "}".repeat(60));
    assert!(parse(&pair_with(&format!("\"sync_settings\": {deep}"))).has_errors());
}

#[test]
fn options_are_kept_as_they_are() {
    let text = pair_with("").replace(r#""path": "crm.db""#, r#""path": "crm.db", "options": {"b": [1, {"a": null}], "a": 1.5}"#);
    let config = clean(&text);
    assert_eq!(json!(config.connections["crm"].options).to_string(), r#"{"b":[1,{"a":null}],"a":1.5}"#);
}
