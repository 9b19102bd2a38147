//! That every setting of the configuration does something: it is read by the code that does what it says, or is on the list of
//! what is not built yet, of which a warning tells whoever writes it.

use super::code::without_tests;
use super::{file, files, none};
use std::collections::BTreeMap;

/// Where the settings' types are.
const MODEL: &str = "crates/engine/src/config/model";

/// Settings that share their last name with others, so that a use of the name proves nothing: the use that is this one's.
const USED_AS: &[(&str, &str)] = &[
    ("/connections/*/options", "connection.options"),
    ("/process_settings/logging/level", "process_settings.logging.level"),
    ("/process_settings/logging/retention_days", "process_settings.logging.retention_days"),
    ("/process_settings/metrics/address", "process_settings.metrics.address"),
    ("/process_settings/store/path", "process_settings.store.path"),
    ("/syncs/*/conflict_resolution/field_rules/*/field", "rule.field"),
    ("/syncs/*/conflict_resolution/strategy", "written.strategy"),
    ("/syncs/*/field_mappings/*/default", "mapping.default"),
    ("/syncs/*/field_mappings/*/direction", "mapping.direction"),
    ("/syncs/*/field_mappings/*/source", "mapping.source"),
    ("/syncs/*/field_mappings/*/target", "mapping.target"),
    ("/syncs/*/filter", "subject.sync.filter"),
    ("/syncs/*/initial_sync/strategy", "initial_sync.strategy"),
    ("/syncs/*/match_on/*/field", "written.field"),
    ("/syncs/*/match_on/*/region", "written.region.clone().or_else"),
    ("/syncs/*/monitoring/logging/level", "monitoring.logging.level"),
    ("/syncs/*/monitoring/logging/retention_days", "monitoring.logging.retention_days"),
    ("/syncs/*/monitoring/metrics", "monitoring.metrics"),
    ("/syncs/*/name", "sync.name"),
    ("/syncs/*/validation_rules/*/default", "written.default"),
    ("/syncs/*/validation_rules/*/field", "written.field"),
    ("/syncs/*/validation_rules/*/region", "written.region.clone().map"),
];

/// Settings that only the configuration itself makes use of, each with what it does there.
const DONE_IN_CONFIG: &[(&str, &str)] = &[
    ("/syncs/*/source/database", "an error, unless it says what the connection says"),
    ("/syncs/*/source/options", "an error: of a connection that the member brings, it has become the connection's"),
    ("/syncs/*/target/database", "as the source's"),
    ("/syncs/*/target/options", "as the source's"),
    ("/syncs/*/rollout/stage", "an error, unless it is `full`: then it says what is done anyway"),
    ("/syncs/*/source_to_target", "`flows_to_target` answers with it"),
    ("/syncs/*/target_to_source", "`flows_to_source` answers with it"),
    ("/syncs/*/sync_type", "`flows_to_target` and `flows_to_source` answer with it"),
];

/// Every setting that holds no others, by its place in the canonical form.
fn leaves() -> Vec<String> {
    let mut types: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for (_, text) in files(MODEL, ".rs") {
        let mut current = None;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("pub struct ").and_then(|rest| rest.strip_suffix(" {")) {
                types.entry(name.to_owned()).or_default();
                current = Some(name.to_owned());
            } else if line.starts_with('}') {
                current = None;
            } else if let Some((field, of)) = line.strip_prefix("    pub ").and_then(|rest| rest.split_once(": "))
                && let Some(fields) = current.as_ref().and_then(|name| types.get_mut(name))
            {
                fields.push((field.to_owned(), of.trim_end_matches(',').to_owned()));
            }
        }
    }
    let mut found = Vec::new();
    descend(&types, "Config", "", &mut found);
    found
}

fn descend(types: &BTreeMap<String, Vec<(String, String)>>, name: &str, at: &str, found: &mut Vec<String>) {
    for (field, of) in &types[name] {
        let inner = of.rsplit([' ', '<', ':']).next().unwrap_or_default().trim_end_matches('>');
        let several = if of.contains("Vec<") || of.contains("BTreeMap<") { "/*" } else { "" };
        match types.contains_key(inner) {
            true => descend(types, inner, &format!("{at}/{field}{several}"), found),
            false => found.push(format!("{at}/{field}")),
        }
    }
}

/// The places of the list of what is not built.
fn unbuilt() -> Vec<String> {
    let text = file("crates/engine/src/config/unbuilt.rs");
    let listed = text.split("const UNBUILT: ").nth(1).and_then(|rest| rest.split("];").next()).expect("the list");
    let places = listed.split(['"']).skip(1).step_by(2).filter(|text| text.starts_with('/'));
    places.map(str::to_owned).collect()
}

fn is_at_or_below(leaf: &str, place: &str) -> bool {
    leaf.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether code has this field of something: `.name`, and no call, nor the beginning of a longer name.
fn has_field(code: &str, field: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_' || next == '(');
    code.split(&format!(".{field}")).skip(1).any(ends)
}

/// Code outside of the configuration, tests and comments left out.
fn code_of(folders: &[&str]) -> String {
    let mut code = String::new();
    for (path, text) in folders.iter().flat_map(|folder| files(folder, ".rs")) {
        if !path.starts_with("crates/engine/src/config/") && !path.contains("/tests") {
            for line in without_tests(&text).iter().map(|line| line.split("//").next().unwrap_or_default().trim()) {
                // A call chain that the formatter has broken is one.
                code.push_str(if line.starts_with('.') { "" } else { "\n" });
                code.push_str(line);
            }
        }
    }
    code
}

#[test]
fn every_setting_does_something_or_is_said_not_to() {
    let code = code_of(&["crates/engine/src", "crates/connectors/src", "crates/concord/src"]);
    let (leaves, unbuilt) = (leaves(), unbuilt());
    assert!(leaves.len() > 120 && unbuilt.len() > 10, "{leaves:#?}\n{unbuilt:#?}");
    let last = |leaf: &str| leaf.rsplit('/').find(|part| *part != "*").unwrap_or_default().to_owned();
    let mut findings = Vec::new();
    for leaf in leaves.iter().filter(|leaf| !leaf.starts_with("/connections/*/credentials/")) {
        let name = last(leaf);
        let shared = leaves
            .iter()
            .filter(|other| last(other) == name && !unbuilt.iter().any(|place| is_at_or_below(other, place)))
            .count()
            > 1;
        let used_as = USED_AS.iter().find(|(place, _)| place == leaf);
        if unbuilt.iter().any(|place| is_at_or_below(leaf, place)) || DONE_IN_CONFIG.iter().any(|(place, _)| place == leaf) {
            continue;
        }
        match used_as {
            Some((_, used)) if code.contains(used) => {}
            Some((_, used)) => findings.push(format!("{leaf}: nothing says `{used}`")),
            None if shared && !is_side(leaf) => {
                findings.push(format!("{leaf}: other settings are called `{name}`: say in this test where this one is used"))
            }
            None if !has_field(&code, &name) => {
                findings.push(format!("{leaf} is read nowhere, and is not on the list of what is not built"))
            }
            None => {}
        }
    }
    for (place, _) in USED_AS.iter().chain(DONE_IN_CONFIG) {
        if !leaves.iter().any(|leaf| leaf == place) {
            findings.push(format!("{place}: there is no such setting"));
        }
    }
    none(findings);
}

/// What source and target have alike is one setting of two members.
fn is_side(leaf: &str) -> bool {
    leaf.starts_with("/syncs/*/source/") || leaf.starts_with("/syncs/*/target/")
}

#[test]
fn every_credential_that_a_connector_is_said_to_read_it_reads() {
    let leaves = leaves();
    let of_credentials: Vec<&str> = leaves
        .iter()
        .filter_map(|leaf| leaf.strip_prefix("/connections/*/credentials/"))
        .filter(|name| *name != "auth_type")
        .collect();
    assert!(of_credentials.len() > 20, "{of_credentials:?}");
    let mut findings = Vec::new();
    for kind in concord_connectors::kinds::KINDS.iter().filter(|kind| kind.built) {
        let code = code_of(&[&format!("crates/connectors/src/{}", kind.name)]);
        for name in &of_credentials {
            let (said, read) = (
                kind.credentials.contains(name),
                has_field(&code, name)
                    && (code.contains(&format!("given.{name}")) || code.contains(&format!("credentials.{name}"))),
            );
            if said != read {
                findings.push(format!(
                    "{}: `{name}` is {}said to be read, and is {}",
                    kind.name,
                    if said { "" } else { "not " },
                    if read { "read" } else { "not" }
                ));
            }
        }
        for name in kind.credentials.iter().filter(|name| !of_credentials.contains(name)) {
            findings.push(format!("{}: there is no credential `{name}`", kind.name));
        }
    }
    none(findings);
}
