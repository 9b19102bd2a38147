//! The examples that people start from: each must check clean, and an editor must accept it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]

use concord_connectors::kinds::KINDS;
use concord_connectors::settings::AskedChanges;
use concord_engine::config::{self, ChangeDetection, Config, Loaded, OngoingMode};
use std::path::PathBuf;

fn load(name: &str) -> Loaded {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
    config::load(&[path], KINDS)
}

fn clean(name: &str) -> Config {
    let loaded = load(name);
    let said: Vec<String> = loaded.diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(said, Vec::<String>::new());
    loaded.config.unwrap()
}

#[test]
fn the_example_on_two_servers_checks_clean() {
    let config = clean("accounts.json");
    assert_eq!(config.syncs[0].pair().unwrap().0.object_name().as_str(), "public.accounts");
}

#[test]
fn the_example_on_two_files_checks_clean() {
    let config = clean("accounts-sqlite.json");
    assert_eq!(config.connections["crm"].credentials.path.as_deref(), Some("crm.db"));
}

#[test]
fn the_example_on_salesforce_checks_but_for_what_is_told_to_nobody_yet() {
    let loaded = load("salesforce-accounts.json");
    let said: Vec<String> = loaded.diagnostics.iter().map(|finding| finding.message.clone()).collect();
    let told = [
        "`notification` is not built yet: nobody is told",
        "the channel `slack` reaches nobody",
        "the channel `email` reaches nobody",
        "`notifications` is not built yet: nobody is told",
    ];
    assert_eq!(said, told);
    let config = loaded.config.unwrap();
    assert_eq!(config.syncs[0].pair().unwrap().0.object_name().as_str(), "Account");
}

#[test]
fn the_example_of_contacts_and_their_accounts_checks_clean() {
    let config = clean("salesforce-contacts.json");
    assert_eq!(config.syncs[1].field_mappings[4].reference.as_deref(), Some("accounts"));
}

#[test]
fn both_examples_say_the_same_about_fields() {
    let (servers, files) = (clean("accounts.json"), clean("accounts-sqlite.json"));
    assert_eq!(servers.syncs[0].field_mappings, files.syncs[0].field_mappings);
    assert_eq!(servers.syncs[0].validation_rules, files.syncs[0].validation_rules);
    assert_ne!(servers.hash(), files.hash());
}

#[test]
fn a_connector_that_is_not_built_yet_is_a_warning_that_names_it() {
    let text = r#"{
        "name": "accounts",
        "source": {"type": "zendesk", "object": "organizations", "credentials": {"instance_url": "https://a.example"}},
        "target": {"type": "postgresql", "table": "accounts", "credentials": {"database": "d", "username": "u"}},
        "sync_type": "bidirectional"
    }"#;
    let loaded = config::parse(&[config::Document { name: "a.json", text }], KINDS);
    let said: Vec<String> = loaded.diagnostics.iter().map(|finding| finding.message.clone()).collect();
    assert_eq!(said, ["the connector `zendesk` is not built yet: syncs of `zendesk` do not run"]);
    assert_eq!(loaded.config.unwrap().connections["postgresql"].kind, "postgres");
}

#[test]
fn an_org_is_polled_where_every_sync_of_it_carries_changes_every_so_often() {
    let example = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/salesforce-accounts.json");
    let text = std::fs::read_to_string(example).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let asked = |mode: &str, detection: &str| {
        let text = text.replace("\"mode\": \"real_time\"", &format!("\"mode\": \"{mode}\""));
        let text = text.replace("\"batch_size\": 1000", &format!("\"batch_size\": 1000, \"change_detection\": \"{detection}\""));
        let path = folder.path().join("c.json");
        std::fs::write(&path, text).unwrap();
        let config = config::load(&[path], KINDS).config.unwrap();
        assert_eq!(AskedChanges::of(&config, &"nobody's".into()).how, ChangeDetection::Auto);
        AskedChanges::of(&config, &"crm".into()).how
    };
    assert_eq!(asked("real_time", "auto"), ChangeDetection::Auto);
    assert_eq!(asked("polling", "auto"), ChangeDetection::Polling);
    assert_eq!(asked("polling", "log_based"), ChangeDetection::LogBased, "what is said counts");
    let config = clean("salesforce-contacts.json");
    assert!(config.syncs.len() > 1);
    let mut one_polls = config.clone();
    one_polls.syncs[0].ongoing_sync.mode = OngoingMode::Polling;
    assert_eq!(AskedChanges::of(&one_polls, &"crm".into()).how, ChangeDetection::Auto, "the other one wants to be told");
}
