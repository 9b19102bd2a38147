//! Which crate may use which, and the shape of every file.

use super::{files, none};
use std::collections::BTreeMap;
use std::process::Command;

/// What each of our crates may use of ours: `concord → connectors → engine`; the simulators share nothing with us, and
/// the simulation drives the engine alone.
const MAY_USE: &[(&str, &[&str])] = &[
    ("concord", &["concord-connectors", "concord-engine", "concord-simulators"]),
    ("concord-connectors", &["concord-engine", "concord-simulators"]),
    ("concord-engine", &[]),
    ("concord-simulators", &[]),
    ("concord-simulation", &["concord-engine"]),
    ("concord-bench", &[]),
];

/// Files that may be longer than the limit, each with the reason.
const MAY_BE_LONG: &[(&str, &str)] = &[];

/// The most lines of a file.
const LINES_MAX: usize = 600;

#[test]
fn crates_use_each_other_in_one_direction_only() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(super::root())
        .output()
        .expect("cargo metadata");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo's metadata is JSON");
    let allowed: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();

    let mut findings = Vec::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name");
        let Some(allowed) = allowed.get(name) else {
            findings.push(format!("{name}: a new crate; say in this test what it may use"));
            continue;
        };
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let used = dependency["name"].as_str().expect("a name");
            let ours = dependency["path"].is_string();
            if ours && !allowed.contains(&used) {
                findings.push(format!("{name} uses {used}"));
            }
            if used == "concord-simulators" && dependency["kind"] != "dev" {
                findings.push(format!("{name} uses {used} outside of its tests"));
            }
        }
    }
    none(findings);
}

#[test]
fn connector_folders_do_not_use_each_other() {
    let mut findings = Vec::new();
    let sources = files("crates/connectors/src", ".rs");
    let folders: Vec<String> = sources
        .iter()
        .filter_map(|(path, _)| path.split('/').nth(3))
        .filter(|name| !name.ends_with(".rs"))
        .map(String::from)
        .collect();
    for (path, text) in &sources {
        let own = path.split('/').nth(3).unwrap_or_default();
        for other in folders.iter().filter(|other| other.as_str() != own && !own.ends_with(".rs")) {
            if text.contains(&format!("crate::{other}::")) {
                findings.push(format!("{path} uses {other}"));
            }
        }
    }
    findings.dedup();
    none(findings);
}

#[test]
fn every_file_opens_by_saying_what_it_owns() {
    let mut findings = Vec::new();
    for (path, text) in files("crates", ".rs") {
        let sentence = text.lines().next().unwrap_or_default().strip_prefix("//! ").unwrap_or_default();
        if sentence.split_whitespace().count() < 3 {
            findings.push(format!("{path}:1: opens without a `//!` paragraph"));
        }
    }
    none(findings);
}

#[test]
fn no_file_is_too_long_to_be_read() {
    let mut findings = Vec::new();
    for (path, text) in files("crates", ".rs") {
        let lines = text.lines().count();
        if lines > LINES_MAX && !MAY_BE_LONG.iter().any(|(long, _)| *long == path) {
            findings.push(format!("{path}: {lines} lines, more than {LINES_MAX}"));
        }
    }
    for (long, _) in MAY_BE_LONG {
        if super::file(long).lines().count() <= LINES_MAX {
            findings.push(format!("{long} is short enough now: take it from the list"));
        }
    }
    none(findings);
}

#[test]
fn no_test_is_switched_off_and_no_code_is_left_open() {
    let marks = [
        concat!("#[ign", "ore"),
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
    ];
    let mut findings = Vec::new();
    for (path, text) in files("crates", ".rs") {
        for (number, line) in text.lines().enumerate() {
            if let Some(mark) = marks.iter().find(|mark| line.contains(**mark)) {
                findings.push(format!("{path}:{}: {mark}", number + 1));
            }
        }
    }
    none(findings);
}
