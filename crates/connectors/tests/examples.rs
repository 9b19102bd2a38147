//! The examples that people start from: each must check clean, and an editor must accept it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]

use concord_connectors::kinds::KINDS;
use concord_engine::config::{self, Config, Loaded};
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
