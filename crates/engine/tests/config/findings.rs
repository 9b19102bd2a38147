//! What is wrong with a document, said with its place: one small document per finding.

use crate::{listed, pair_with, parse};
use concord_engine::config::MetricsSettings;

/// The findings of a pair with these settings, which stand on the document's fourth line.
#[track_caller]
fn says(settings: &str, expected: &str) {
    assert_eq!(listed(&parse(&pair_with(settings))), expected, "for {settings}");
}

#[track_caller]
fn whole_says(text: &str, expected: &str) {
    assert_eq!(listed(&parse(text)), expected, "for {text}");
}

fn remedy(settings: &str) -> String {
    parse(&pair_with(settings)).diagnostics[0].remedy.clone()
}

#[test]
fn an_unknown_key_is_named_with_the_nearest_one() {
    says(
        r#""fild_mappings": []"#,
        "a.json:4:1: error CON-1003: there is no key `fild_mappings` here; did you mean `field_mappings`?",
    );
    says(
        r#""conflict_resolution": {"stratgy": "manual"}"#,
        "a.json:4:25: error CON-1003: there is no key `stratgy` here; did you mean `strategy`?",
    );
    says(
        r#""field_mappings": [{"source": "a", "target": "b", "transfrom": "trim"}]"#,
        "a.json:4:51: error CON-1003: there is no key `transfrom` here; did you mean `transformation`?",
    );
}

#[test]
fn a_mapping_that_cannot_be_used_hides_no_mistake_that_has_nothing_to_do_with_it() {
    let text = r#"{
"connections": { "crm": { "type": "postgrez", "credentials": { "host": "a", "database": "a", "username": "a" } } },
"name": "accounts", "sync_type": "bidirectional", "match_on": ["email"],
"source": { "system": "crm", "object": "a" }, "target": { "system": "epr", "object": "b" },
"field_mappings": [{ "source": "email", "target": "email", "transformation": "upercase" }, { "source": "a", "target": "b" }]
}"#;
    let found = listed(&parse(text));
    for mistake in ["no connector `postgrez`", "no connection `epr`", "not `upercase`"] {
        assert!(found.contains(mistake), "{mistake}: {found}");
    }
    assert!(!found.contains("which no mapping names"), "what follows from the mapping that was left out: {found}");
}

#[test]
fn an_unknown_key_that_is_like_none_lists_those_that_there_are() {
    says(r#""guards": {"colour": 1}"#, "a.json:4:12: error CON-1003: there is no key `colour` here");
    assert_eq!(
        remedy(r#""guards": {"colour": 1}"#),
        "The keys here are `max_deletes`, `max_deletes_percent` or `window_seconds`."
    );
}

#[test]
fn every_error_of_a_document_is_said_in_one_run() {
    says(
        r#""on_delete": "propogate",
"guards": {"max_deletes": "many"},
"colour": "blue",
"conflict_resolution": {"priority_sytem": 1, "strategy": "system_priority"},
"include_fields": ["a"], "exclude_fields": ["a"]"#,
        "a.json:4:14: error CON-1005: `on_delete` takes `propagate`, `soft_delete`, `detach` or `ignore`, not `propogate`; did you mean `propagate`?\n\
         a.json:5:27: error CON-1004: `max_deletes` must be a whole number, not text\n\
         a.json:6:1: error CON-1003: there is no key `colour` here\n\
         a.json:7:25: error CON-1003: there is no key `priority_sytem` here; did you mean `priority`?\n\
         a.json:8:45: error CON-1009: the field `a` is in `include_fields` and in `exclude_fields`",
    );
}

#[test]
fn a_value_of_the_wrong_kind_is_told_what_was_expected() {
    says(r#""match_on": 5"#, "a.json:4:13: error CON-1004: `field` must be text, not a number");
    says(r#""field_mappings": "all""#, "a.json:4:19: error CON-1004: `field_mappings` must be a list, not text");
    says(r#""monitoring": true"#, "a.json:4:15: error CON-1004: `monitoring` must be an object, not true or false");
    says(
        r#""on_delete": null"#,
        "a.json:4:14: error CON-1004: `on_delete` must be `propagate`, `soft_delete`, `detach` or `ignore`, not null",
    );
}

#[test]
fn a_value_outside_its_range_is_refused() {
    says(
        r#""performance_settings": {"batch_size": 0}"#,
        "a.json:4:40: error CON-1006: `batch_size` must be between 1 and 100000",
    );
    says(
        r#""guards": {"max_deletes_percent": 101}"#,
        "a.json:4:35: error CON-1006: `max_deletes_percent` must be between 0 and 100",
    );
    says(r#""guards": {"max_deletes": -1}"#, "a.json:4:27: error CON-1006: `max_deletes` must be at least 0");
    says(
        r#""error_handling": {"retry_strategy": {"initial_delay_seconds": 9, "max_delay_seconds": 3}}"#,
        "a.json:4:64: error CON-1006: `initial_delay_seconds` (9) is greater than `max_delay_seconds` (3)",
    );
}

#[test]
fn one_setting_in_two_places_with_different_values_names_both() {
    says(
        r#""sync_settings": {"sync_type": "one_way"}"#,
        "a.json:4:32: error CON-1007: `sync_type` is set twice, to different values: here and at a.json:1:36",
    );
    says(
        r#""connection_name": "other""#,
        "a.json:4:20: error CON-1007: `name` is set twice, to different values: here and at a.json:1:11",
    );
    says(
        r#""monitoring": {"log_level": "debug", "logging": {"level": "info"}}"#,
        "a.json:4:29: error CON-1007: `monitoring.logging.level` is set twice, to different values: here and at a.json:4:59",
    );
    says(
        r#""on_delete": "ignore", "on_delete": "detach""#,
        "a.json:4:37: error CON-1007: `on_delete` is set twice, to different values: here and at a.json:4:14",
    );
    says(
        r#""metric_collection": ["latency"], "monitoring": {"metrics": ["throughput"]}"#,
        "a.json:4:22: error CON-1007: `monitoring.metrics` is set twice, to different values: here and at a.json:4:61",
    );
}

#[test]
fn a_secret_in_plain_sight_is_refused_with_what_to_write() {
    let text = r#"{ "name": "s", "sync_type": "one_way",
"source": { "type": "server", "table": "a", "credentials": { "database": "d", "username": "u", "password": "hunter2" } },
"target": { "type": "file", "path": "b.db", "table": "a", "options": { "api_token": "hunter2" } } }"#;
    whole_says(
        text,
        "a.json:2:108: error CON-1013: `password` is a secret and must not be written plainly\n\
         a.json:3:85: error CON-1013: `api_token` looks like a secret and must not be written plainly",
    );
    let loaded = parse(text);
    assert!(loaded.diagnostics[0].remedy.contains(r#""password": {"env": "PASSWORD"}"#), "{}", loaded.diagnostics[0].remedy);
    assert!(!format!("{loaded:?}").contains("hunter2"), "a finding shows the secret");
}

#[test]
fn a_reference_to_a_secret_that_is_none_is_told_its_forms() {
    let text = r#"{ "connections": { "a": { "type": "file", "path": "x", "password": { "environment": "X" } } } }"#;
    let said = listed(&parse(text));
    assert!(said.contains(r#"`password` must be {"env": …} or {"file": …} or {"secret": …}, not an object"#), "{said}");
}

#[test]
fn a_password_in_a_url_is_refused() {
    let text = r#"{ "name": "s", "sync_type": "one_way", "target": { "type": "file", "path": "b.db", "object": "A" },
"source": { "type": "later", "object": "A", "instance_url": "https://me:hunter2@example.com/x" } }"#;
    let said = listed(&parse(text));
    assert!(said.contains("2:61: error CON-1013: `instance_url` holds a password"), "{said}");
}

#[test]
fn a_connection_written_as_a_url_is_refused_and_not_repeated() {
    let text = r#"{ "name": "s", "sync_type": "one_way", "target": { "type": "file", "path": "b.db", "object": "A" },
"source": { "system": "server://me:hunter2@example.com/x", "object": "A" } }"#;
    whole_says(text, "a.json:2:23: error CON-1004: a connection is not written as a URL");
    assert!(!format!("{:?}", parse(text).diagnostics).contains("hunter2"), "a finding shows the secret");
    let text = text
        .replace(r#"{ "system": "server://me:hunter2@example.com/x", "object": "A" }"#, r#""server://me:hunter2@example.com/x""#);
    assert!(!format!("{:?}", parse(&text).diagnostics).contains("hunter2"), "a finding shows the secret");
}

#[test]
fn a_name_that_nothing_has_is_answered_with_the_nearest() {
    whole_says(
        r#"{ "name": "s", "sync_type": "one_way", "connections": { "crm": { "type": "file", "path": "a" } },
"source": "crm.accounts",
"target": { "system": "cmr", "object": "customers" } }"#,
        "a.json:3:23: error CON-1010: there is no connection `cmr`; did you mean `crm`?",
    );
    says(
        r#""conflict_resolution": {"strategy": "system_priority", "priority": ["crn", "erp"]}"#,
        "a.json:4:69: error CON-1010: `priority` names `crn`, which is no member of the sync; did you mean `crm`?",
    );
    says(
        r#""initial_sync": {"authority": "polcy"}"#,
        "a.json:4:31: error CON-1010: `authority` names `polcy`, which is no member of the sync; did you mean `policy`?",
    );
}

#[test]
fn an_unknown_connector_is_answered_with_the_nearest() {
    whole_says(
        r#"{ "name": "s", "sync_type": "one_way", "target": { "type": "file", "path": "b.db", "object": "A" },
"source": { "type": "servr", "object": "A" } }"#,
        "a.json:2:21: error CON-1005: there is no connector `servr`; did you mean `server`?",
    );
}

#[test]
fn what_is_missing_is_said_and_proposed() {
    whole_says("{}", "a.json:1:1: error CON-1008: no sync is configured");
    whole_says("", "error CON-1008: nothing is configured: the documents are empty");
    whole_says(
        r#"{ "source": { "type": "server" }, "target": { "object": "b" } }"#,
        "a.json:1:1: error CON-1008: the sync has no `name`\n\
         a.json:1:1: error CON-1008: it is not said whether the sync flows one way or both: `sync_type` is missing\n\
         a.json:1:13: error CON-1008: the source does not say what it holds records in\n\
         a.json:1:13: error CON-1008: the connection `server` does not say database, username\n\
         a.json:1:45: error CON-1008: the target does not say which system it is in",
    );
}

#[test]
fn credentials_that_are_missing_are_proposed() {
    let text = r#"{ "name": "s", "sync_type": "one_way", "source": { "type": "server", "object": "A" },
"target": { "type": "file", "object": "A" } }"#;
    whole_says(
        text,
        "a.json:1:50: error CON-1008: the connection `server` does not say database, username\n\
         a.json:2:11: error CON-1008: the connection `file` does not say path",
    );
    assert_eq!(parse(text).diagnostics[1].remedy, r#"Add "credentials": { "path": "file.db" }."#);
}

#[test]
fn directions_that_contradict_the_type_are_refused() {
    says(
        r#""target_to_source": false"#,
        "a.json:4:21: error CON-1009: `sync_type` is `bidirectional`, but source_to_target is true and target_to_source is false",
    );
    says(
        r#""source_to_target": false, "target_to_source": false"#,
        "a.json:4:21: error CON-1009: `sync_type` is `bidirectional`, but source_to_target is false and target_to_source is false",
    );
}

#[test]
fn a_pair_is_of_two_different_objects() {
    whole_says(
        r#"{ "name": "s", "sync_type": "one_way", "connections": { "crm": { "type": "file", "path": "a" } },
"source": "crm.accounts", "target": "crm.accounts" }"#,
        "a.json:2:37: error CON-1009: source and target are the same: `accounts` of `crm`",
    );
}

#[test]
fn a_field_that_no_mapping_names_is_said() {
    let mappings = r#""field_mappings": [{"source": "Email", "target": "email_address", "group": "contact"}]"#;
    says(
        &format!("{mappings},\n\"match_on\": [\"emial\"]"),
        "a.json:5:14: error CON-1011: `match_on` names the field `emial`, which no mapping names; did you mean `Email`?",
    );
    says(
        &format!("{mappings},\n\"validation_rules\": [{{\"field\": \"phone\", \"rule\": \"phone\"}}]"),
        "a.json:5:32: error CON-1011: `validation_rules` names the field `phone`, which no mapping names",
    );
    says(
        &format!(
            "{mappings},\n\"conflict_resolution\": {{\"field_rules\": [{{\"field\": \"contacts\", \"priority_system\": \"crm\"}}]}}"
        ),
        "a.json:5:51: error CON-1011: `field_rules` names `contacts`, which is neither a mapped field nor a group; did you mean `contact`?",
    );
    says(
        &format!(
            "{mappings}, \"conflict_resolution\": {{\"field_rules\": [{{\"field\": \"contact\", \"priority_system\": \"crm\"}}]}}"
        ),
        "",
    );
}

#[test]
fn without_mappings_every_field_may_be_there() {
    says(r#""match_on": "email", "validation_rules": [{"field": "phone", "rule": "phone"}]"#, "");
}

#[test]
fn a_strategy_needs_what_it_decides_by() {
    says(r#""conflict_resolution": "system_priority""#, "a.json:4:24: error CON-1008: `system_priority` needs `priority`");
    assert_eq!(
        remedy(r#""conflict_resolution": "system_priority""#),
        r#"Add "priority": ["crm", "erp"], the one that wins first."#
    );
    says(
        r#""conflict_resolution": "field_level_priority""#,
        "a.json:4:24: error CON-1008: `field_level_priority` needs `field_rules`",
    );
    says(
        r#""conflict_resolution": {"strategy": "manual", "priority": ["crm"]}"#,
        "a.json:4:59: warning CON-1017: `priority` is only used by the strategy `system_priority`",
    );
}

#[test]
fn deletions_beginnings_and_schedules_need_what_they_work_with() {
    says(r#""on_delete": "soft_delete""#, "a.json:4:14: error CON-1008: `soft_delete` needs `soft_delete_field`");
    says(r#""initial_sync": "since""#, "a.json:4:17: error CON-1008: the strategy `since` needs `since`: a time");
    says(
        r#""initial_sync": {"strategy": "since", "since": "yesterday"}"#,
        "a.json:4:48: error CON-1014: `yesterday` is no time: a day (2026-01-31) or a time with a zone (2026-01-31T12:00:00Z)",
    );
    says(
        r#""ongoing_sync": {"mode": "scheduled", "schedule": "0 25 * * *"}"#,
        "a.json:4:51: error CON-1014: the schedule cannot be understood: `25` is no hour (0 to 23)",
    );
}

#[test]
fn a_validation_rule_needs_what_it_checks_by() {
    says(
        r#""validation_rules": [{"field": "a", "rule": "regex"}]"#,
        "a.json:4:22: error CON-1008: the rule `regex` needs `pattern`",
    );
    says(
        r#""validation_rules": [{"field": "a", "rule": "regex", "pattern": "(["}]"#,
        "a.json:4:65: error CON-1014: the pattern cannot be used: unclosed character class",
    );
    says(
        r#""validation_rules": [{"field": "a", "rule": "range", "min": 10, "max": 9}]"#,
        "a.json:4:61: error CON-1006: `min` is greater than `max`",
    );
    says(
        r#""validation_rules": [{"field": "a", "rule": "length", "min": 1.5}]"#,
        "a.json:4:62: error CON-1006: `min` of a length must be a whole number from 0",
    );
    says(
        r#""validation_rules": [{"field": "a", "rule": "required", "on_error": "use_default"}]"#,
        "a.json:4:69: error CON-1008: `use_default` finds no default for `a`",
    );
    says(
        r#""validation_rules": [{"field": "a", "rule": "phone", "min": 1}]"#,
        "a.json:4:61: warning CON-1017: `min` is not used by the rule `phone`",
    );
}

#[test]
fn an_expression_that_cannot_be_compiled_is_said() {
    let said = listed(&parse(&pair_with(
        r#""field_mappings": [{"source": "a", "target": "b", "transformation": "expression('a ~ ')"}]"#,
    )));
    assert!(said.starts_with("a.json:4:69: error CON-1015: `expression` cannot be compiled: "), "{said}");
}

#[test]
fn transformations_are_checked_by_name_and_argument() {
    let mapping = |transformation: &str| {
        format!(r#""field_mappings": [{{"source": "a", "target": "b", "transformation": {transformation}}}]"#)
    };
    says(
        &mapping(r#""format_fone""#),
        "a.json:4:69: error CON-1005: `transformation` takes `none`, `format_phone`, `trim`, `lowercase`, `uppercase`, `title_case`, \
         `split`, `join`, `map`, `cast`, `date_format` or `expression`, not `format_fone`; did you mean `format_phone`?",
    );
    says(
        &mapping(r#"{"name": "format_phone", "regoin": "US"}"#),
        "a.json:4:94: error CON-1003: there is no key `regoin` here; did you mean `region`?",
    );
    says(
        &mapping(r#""format_phone('usa')""#),
        "a.json:4:69: error CON-1005: `usa` is no region: two capital letters such as `US` or `DE`",
    );
    says(
        &mapping(r#""cast('number')""#),
        "a.json:4:69: error CON-1005: `to` takes `text`, `integer`, `decimal`, `float`, `boolean`, `date`, `time`, `timestamp`, \
         `timestamp_tz`, `uuid` or `json`, not `number`",
    );
    says(&mapping(r#""split(',')""#), "a.json:4:69: error CON-1008: `split` with one target does not say which part goes there");
    says(&mapping(r#""join""#), "a.json:4:69: error CON-1009: `join` needs several fields in `source`");
    says(
        &mapping(r#"{"date_format": "%!"}"#),
        "a.json:4:85: error CON-1014: the time format cannot be used: strftime formatting failed: found unrecognized specifier directive `!`",
    );
    says(&mapping("5"), "a.json:4:69: error CON-1004: `transformation` must be {\"name\": …}, not a number");
}

#[test]
fn two_mappings_never_write_the_same_field() {
    says(
        r#""field_mappings": [{"source": "a", "target": "x"}, {"source": "b", "target": "x"}]"#,
        "a.json:4:78: error CON-1009: two mappings write the target's field `x`",
    );
}

#[test]
fn what_is_not_built_yet_is_a_warning_and_not_an_error() {
    let settings = r#""rollout": {"stage": "full", "gates": {"verified": true}},
"performance_settings": {"change_detection": "log_based"},
"monitoring": {"alerting": {"latency_threshold_ms": 5}, "dashboard_enabled": false},
"rate_limit": {"requests": 5}"#;
    says(
        settings,
        "a.json:4:39: warning CON-1016: `gates` is not built yet: the sync runs in full at once\n\
         a.json:5:46: warning CON-1016: `log_based` as `change_detection` is not built yet for `file`: the best way that it offers is taken\n\
         a.json:6:28: warning CON-1016: `alerting` is not built yet: nobody is told\n\
         a.json:7:15: warning CON-1016: `rate_limit` is not built yet: requests are not limited",
    );
    assert!(parse(&pair_with(settings)).config.is_some());
}

#[test]
fn a_filter_that_would_be_ignored_is_an_error() {
    says(
        r#""filter": "country = 'DE'""#,
        "a.json:4:11: error CON-1021: a filter is not built yet but for one-way syncs from source to target: the sync does not run, \
         for every record would take part",
    );
    says(
        r#""filter": {"percent": 5}"#,
        "a.json:4:11: error CON-1021: a share of the records (`percent`) cannot be chosen yet: the sync does not run, for every \
         record would take part",
    );
}

#[test]
fn a_stage_of_a_rollout_that_would_be_ignored_is_an_error() {
    for stage in ["shadow", "one_way", "subset"] {
        let refused = format!(
            "a.json:4:12: error CON-1022: the stage `{stage}` of a rollout is not built yet: the sync does not run, for it would \
             write everything"
        );
        says(&format!(r#""rollout": "{stage}""#), &refused);
    }
    // What happens anyway is nothing to speak of.
    says(r#""rollout": "full""#, "");
}

#[test]
fn metrics_are_served_on_this_machine_alone_and_under_each_of_its_names() {
    for here in ["127.0.0.1:9464", "localhost:9464", "[::1]:9464", "127.0.0.2:0"] {
        says(&format!(r#""metrics": "{here}""#), "");
    }
    for (wrong, why) in [
        ("9464", "it is no address with a port"),
        ("localhost", "it is no address with a port"),
        ("mylocalhost:9464", "it is no address with a port"),
        ("0.0.0.0:9464", "metrics are served on the loopback interface only"),
        ("[::]:9464", "metrics are served on the loopback interface only"),
    ] {
        let refused = format!("a.json:4:12: error CON-1004: `{wrong}` as the address of `metrics`: {why}");
        says(&format!(r#""metrics": "{wrong}""#), &refused);
    }
    let served = |written: &str| MetricsSettings::listens_at(written).unwrap().to_string();
    assert_eq!(["localhost:7", "[::1]:7"].map(served), ["127.0.0.1:7", "[::1]:7"]);
}

#[test]
fn a_hub_is_parsed_checked_and_said_to_come_later() {
    let text = r#"{ "name": "star", "sync_type": "bidirectional", "sync_hub": "hub",
"connections": { "hub": { "type": "file", "path": "h" }, "a": { "type": "file", "path": "a" } },
"connected_systems": [{ "system": "a", "objects": ["Account"] }, { "system": "b", "objects": "Customer" }] }"#;
    whole_says(
        text,
        "a.json:1:61: warning CON-1016: `sync_hub` is not built yet: the sync does not run\n\
         a.json:1:61: warning CON-1008: it is not said which objects of the systems around `hub` are the same kind of record\n\
         a.json:3:22: warning CON-1016: `connected_systems` is not built yet: the sync does not run\n\
         a.json:3:78: error CON-1010: there is no connection `b`",
    );
    // No command proposes them: a hub is refused by all that look at systems.
    assert_eq!(
        parse(text).diagnostics[1].remedy,
        r#"Add "entities": [{ "name": "Account", "hub": "Account", "members": { "a": "Account", "b": "Customer" } }]."#
    );
}

#[test]
fn a_setting_without_effect_is_a_warning() {
    says(
        r#""target_edits": "keep""#,
        "a.json:4:17: warning CON-1017: `target_edits` is for one-way syncs: here edits flow both ways",
    );
    says(
        r#""soft_delete_field": "gone""#,
        "a.json:4:22: warning CON-1017: `soft_delete_field` is only used with \"on_delete\": \"soft_delete\"",
    );
}

#[test]
fn a_place_of_the_canonical_form_is_found_whatever_form_was_written() {
    let places = parse(&pair_with(r#""metric_collection": ["latency"]"#)).places;
    assert_eq!(places.at("/syncs/0/monitoring/metrics/0").as_deref(), Some("a.json:4:23"));
    assert_eq!(places.at("/connections/crm/credentials/path").as_deref(), Some("a.json:2:51"));
    assert_eq!(places.at("/syncs/0/source/direction").as_deref(), Some("a.json:3:11"));
}

/// Accounts and, on the fourth line, contacts with this mapping and these further settings.
fn contacts(mapping: &str, settings: &str) -> String {
    format!(
        r#"{{ "connections": {{ "crm": {{ "type": "file", "path": "c" }}, "erp": {{ "type": "file", "path": "e" }} }},
"syncs": [
{{ "name": "accounts", "sync_type": "bidirectional", "source": "crm.accounts", "target": "erp.accounts" }},
{{ "name": "contacts", "sync_type": "bidirectional", "source": "crm.contacts", "target": "erp.contacts", "field_mappings": [{{ "source": "email", "target": "mail" }},
{mapping}], {settings} }} ] }}"#
    )
}

#[test]
fn a_reference_names_a_sync_that_keeps_records_in_the_same_systems() {
    let refers = |to: &str| format!(r#"{{ "source": "AccountId", "target": "account_id", "reference": "{to}" }}"#);
    whole_says(&contacts(&refers("accounts"), ""), "");
    // A sync may refer to itself.
    whole_says(&contacts(&refers("contacts"), ""), "");
    whole_says(
        &contacts(&refers("acounts"), ""),
        "a.json:5:63: error CON-1010: there is no sync `acounts`; did you mean `accounts`?",
    );
    whole_says(
        &contacts(&refers("accounts"), "")
            .replace("erp.contacts", "pay.contacts")
            .replace(r#""erp": {"#, r#""pay": { "type": "file", "path": "pay.db" }, "erp": {"#),
        "a.json:5:63: error CON-1009: `accounts` keeps no records in `pay`, so a field there cannot name one of them",
    );
}

#[test]
fn nothing_is_asked_of_a_reference_that_it_cannot_answer() {
    let mapping = |more: &str| format!(r#"{{ "source": "AccountId", "target": "account_id", "reference": "accounts"{more} }}"#);
    whole_says(
        &contacts(&mapping(r#", "transformation": "trim""#), ""),
        "a.json:5:93: error CON-1009: a reference is translated through the records that it names: it takes no transformation",
    );
    whole_says(
        &contacts(&mapping(r#", "default": "1""#), ""),
        "a.json:5:86: error CON-1009: a reference takes no `default`: the record that it would name has another key on each side",
    );
    whole_says(
        &contacts(&mapping(""), r#""match_on": ["mail", "account_id"]"#),
        "a.json:5:99: error CON-1009: records cannot be matched by the reference `account_id`: it has another value on each side",
    );
    let rules =
        r#""validation_rules": [{ "field": "AccountId", "rule": "required" }, { "field": "AccountId", "rule": "unique" }]"#;
    whole_says(
        &contacts(&mapping(""), rules),
        "a.json:5:177: error CON-1009: `unique` cannot be asked of the reference `AccountId`: only `required` can",
    );
}
