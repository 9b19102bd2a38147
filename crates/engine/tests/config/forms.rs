//! The same thing written in different ways means the same, down to the hash.

use crate::{KINDS, clean, listed, pair_with};
use concord_engine::config::{self, Authority, Config, Document, FieldSelection, Metric, Strategy, SyncType, Winner};

#[track_caller]
fn mean_the_same(one: &str, other: &str) {
    let (one, other) = (clean(&pair_with(one)), clean(&pair_with(other)));
    assert_eq!(one, other);
    assert_eq!(one.hash(), other.hash());
}

#[test]
fn settings_can_stand_in_their_wrapper_or_outside() {
    mean_the_same(
        r#""sync_settings": {"initial_sync": {"strategy": "match_only"}, "conflict_resolution": "manual"}"#,
        r#""initial_sync": "match_only", "sync_settings": {"conflict_resolution": {"strategy": "manual"}}, "conflict_resolution": "manual""#,
    );
}

#[test]
fn metrics_have_two_names_and_latency_two_spellings() {
    let expected = vec![Metric::SyncLatency, Metric::ErrorRate];
    for settings in [
        r#""metric_collection": ["latency", "error_rate"]"#,
        r#""monitoring": {"metric_collection": ["latency", "error_rate"]}"#,
        r#""monitoring": {"metrics": ["sync_latency", "error_rate"]}, "metric_collection": ["latency", "error_rate"]"#,
    ] {
        assert_eq!(clean(&pair_with(settings)).syncs[0].monitoring.metrics, expected, "{settings}");
    }
}

#[test]
fn the_log_level_can_stand_in_either_place() {
    mean_the_same(r#""monitoring": {"log_level": "warning"}"#, r#""monitoring": {"logging": {"level": "warn"}}"#);
}

#[test]
fn one_value_stands_for_a_list_of_it() {
    mean_the_same(r#""match_on": "email""#, r#""match_on": [{"field": "email", "normalizer": "exact"}]"#);
    mean_the_same(
        r#""field_mappings": [{"source": "a", "target": "b", "transformation": "trim"}]"#,
        r#""field_mappings": [{"source": ["a"], "target": ["b"], "transformation": [{"name": "trim"}]}]"#,
    );
}

#[test]
fn a_field_selection_can_hold_its_fields() {
    mean_the_same(
        r#""field_selection": {"mode": "explicit", "include_fields": ["a"]}"#,
        r#""field_selection": "explicit", "include_fields": "a""#,
    );
}

#[test]
fn a_member_is_called_by_system_role_connector_or_side() {
    let with = |name: &str| {
        clean(&format!(
            r#"{{ "name": "s", "sync_type": "bidirectional",
            "source": {{ "type": "file", "role": "crm", "path": "a", "object": "x" }},
            "target": {{ "type": "server", "role": "erp", "credentials": {{ "database": "d", "user": "u" }}, "table": "y" }},
            "initial_sync": {{ "authority": "{name}" }},
            "conflict_resolution": {{ "field_rules": [{{ "field": "a", "priority_system": "{name}" }}] }} }}"#
        ))
    };
    let hash = with("erp").hash();
    for name in ["server", "target"] {
        let config = with(name);
        assert_eq!(config.syncs[0].initial_sync.authority, Authority::System("erp".into()));
        assert_eq!(config.syncs[0].conflict_resolution.field_rules[0].priority_system, Winner::System("erp".into()));
        assert_eq!(config.hash(), hash, "{name}");
    }
}

#[test]
fn an_inline_connection_means_the_same_as_a_named_one() {
    let named = clean(&pair_with(""));
    let inline = clean(
        r#"{ "name": "accounts", "sync_type": "bidirectional",
        "source": { "type": "file", "role": "crm", "credentials": { "path": "crm.db" }, "table": "accounts" },
        "target": { "system": "erp", "type": "file", "path": "erp.db", "object": "customers" } }"#,
    );
    assert_eq!(inline.connections, named.connections);
    assert_eq!(inline.syncs[0].source.as_ref().unwrap().system.as_str(), "crm");
}

#[test]
fn two_sides_of_one_connector_are_called_by_their_side() {
    let config = clean(
        r#"{ "name": "s", "sync_type": "bidirectional",
        "source": { "type": "file", "path": "a", "table": "t" }, "target": { "type": "file", "path": "b", "table": "t" } }"#,
    );
    let names: Vec<&str> = config.connections.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["source", "target"]);
}

#[test]
fn two_objects_of_one_system_are_called_by_their_side() {
    let config = clean(
        r#"{ "name": "s", "sync_type": "bidirectional", "connections": { "db": { "type": "file", "path": "a" } },
        "source": "db.a", "target": "db.b", "conflict_resolution": { "strategy": "system_priority", "priority": ["target", "source"] } }"#,
    );
    assert_eq!(config.syncs[0].conflict_resolution.priority, ["target", "source"]);
}

#[test]
fn one_way_in_reverse_is_said_by_the_two_directions() {
    let config = clean(
        r#"{ "name": "s", "connections": { "db": { "type": "file", "path": "a" } },
        "source": "db.a", "target": "db.b", "source_to_target": false, "target_to_source": true }"#,
    );
    let sync = &config.syncs[0];
    assert_eq!((sync.sync_type, sync.flows_to_target(), sync.flows_to_source()), (SyncType::OneWay, false, true));
}

#[test]
fn defaults_are_filled_in() {
    let config = clean(&pair_with(""));
    let sync = &config.syncs[0];
    assert_eq!(sync.performance_settings.batch_size, 500);
    assert_eq!(sync.error_handling.retry_strategy.max_attempts, 5);
    assert_eq!(sync.conflict_resolution.strategy, Strategy::LastWriteWins);
    assert_eq!(sync.field_selection, Some(FieldSelection::All));
    assert_eq!((sync.source_to_target, sync.target_to_source), (Some(true), Some(true)));
    assert_eq!(config.process_settings.store.path, "concord-data");
}

#[test]
fn settings_of_the_process_need_no_wrapper() {
    let outside = clean(&pair_with(r#""store": "x.db", "metrics": "127.0.0.1:9464", "logging": {"level": "debug"}"#));
    let inside = clean(&pair_with(
        r#""process_settings": {"store": {"path": "x.db"}, "metrics": {"address": "127.0.0.1:9464"}, "logging": {"level": "debug"}}"#,
    ));
    assert_eq!(outside, inside);
}

#[test]
fn the_hash_is_the_same_over_comments_order_and_white_space_and_differs_with_the_meaning() {
    let written = clean(&pair_with(r#""on_delete": "detach", "guards": {"max_deletes": 5, "window_seconds": 9}"#));
    let otherwise = clean(&pair_with(
        "\"guards\": {\"window_seconds\":\u{a0}9, /* few */ \"max_deletes\": 5,},\n\n\"on_delete\": \"detach\",",
    ));
    assert_eq!(written.hash(), otherwise.hash());
    let changed = clean(&pair_with(r#""on_delete": "ignore", "guards": {"max_deletes": 5, "window_seconds": 9}"#));
    assert_ne!(written.hash(), changed.hash());
    let louder = clean(&pair_with(
        r#""on_delete": "detach", "guards": {"max_deletes": 5, "window_seconds": 9}, "logging": {"level": "debug"}"#,
    ));
    assert_eq!(written.hash(), louder.hash(), "what the process logs changes nothing about the data");
}

#[test]
fn yaml_has_the_same_keys() {
    let text = "name: accounts\nsync_type: bidirectional\nconnections:\n  crm: {type: file, path: crm.db}\n  erp:\n    type: file\n    path: erp.db\nsource: {system: crm, object: accounts}\ntarget:\n  system: erp\n  object: customers\n";
    let loaded = config::parse(&[Document { name: "a.yaml", text }], KINDS);
    assert_eq!(listed(&loaded), "");
    assert_eq!(loaded.config.unwrap(), clean(&pair_with("")));
}

#[test]
fn the_canonical_form_is_read_back_as_it_was() {
    let config = clean(&pair_with(
        r#""field_mappings": [{"source": "a", "target": "b", "transformation": ["trim", {"map": {"x": 1}}]}], "conflict_resolution": "manual""#,
    ));
    let again: Config = clean(&config.to_json().to_string());
    assert_eq!(again, config);
}
