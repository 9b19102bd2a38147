//! What the engine may never name, and what its pure stages may never do.

use super::{files, none};

/// Names of vendors, in lower case. The engine must work the same for a vendor that nobody has thought of yet.
const VENDORS: &[&str] = &[
    "postgres",
    "mysql",
    "mariadb",
    "sqlite",
    "mssql",
    "oracle",
    "snowflake",
    "bigquery",
    "redshift",
    "salesforce",
    "netsuite",
    "zendesk",
    "hubspot",
    "dynamics",
    "mongodb",
    "pgoutput",
    "soql",
];

/// Where a vendor may be named in the engine, whole files or folders, each with its reason: nothing in them may behave
/// differently for one. Everywhere else neither code nor comments name one.
const MAY_NAME_VENDORS: &[(&str, &str)] = &[
    ("crates/engine/src/store/", "the embedded store is a SQLite file; nothing outside of this folder knows"),
    (
        "crates/engine/src/value/",
        "text forms are called by the name of the system that prints them, and ranges explained by those that need them",
    ),
    ("crates/engine/src/runtime/memory/tests.rs", "what is remembered is held against the embedded store"),
    ("crates/engine/src/schema.rs", "comments name the systems whose formats are the reason for a type's limits"),
];

/// The stages that are plain functions over plain data (invariant: deterministic, replayable, testable without a system).
const PURE: &[&str] = &[
    "crates/engine/src/map",
    "crates/engine/src/validate",
    "crates/engine/src/reconcile",
    "crates/engine/src/transform",
    "crates/engine/src/value",
    "crates/engine/src/rules",
    "crates/engine/src/overlap",
    "crates/engine/src/link",
    "crates/engine/src/record",
    "crates/engine/src/schema",
    "crates/engine/src/change",
];

/// What a pure stage may not use: files, network, tasks, clocks, chance.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "tokio",
    "SystemTime",
    "Instant",
    "now()",
    "rand::",
    "async fn",
    "Mutex",
    "rusqlite",
];

#[test]
fn the_engine_names_no_vendor() {
    let mut findings = Vec::new();
    for (path, text) in files("crates/engine/src", ".rs") {
        if MAY_NAME_VENDORS.iter().any(|(allowed, _)| path.starts_with(allowed)) {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let lower = line.to_lowercase();
            for vendor in VENDORS.iter().filter(|vendor| lower.contains(**vendor)) {
                // The crate root lists the store's modules like all others.
                if !line.trim_start().starts_with("pub mod ") {
                    findings.push(format!("{path}:{}: names {vendor}: {}", number + 1, line.trim()));
                }
            }
        }
    }
    none(findings);
}

#[test]
fn the_pure_stages_do_no_input_no_output_and_ask_no_clock() {
    let mut findings = Vec::new();
    let mut seen = 0;
    for (path, text) in files("crates/engine/src", ".rs") {
        if !PURE.iter().any(|stage| path.starts_with(&format!("{stage}/")) || path == format!("{stage}.rs")) {
            continue;
        }
        seen += 1;
        findings.extend(impure(&text).into_iter().map(|(line, used)| format!("{path}:{line}: uses {used}")));
    }
    assert!(seen >= PURE.len(), "only {seen} files of pure stages were found: the list of stages is stale");
    none(findings);
}

/// What a pure stage's file uses and may not: the line, counted from 1, and the word.
fn impure(text: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    for (number, line) in without_tests(text).iter().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        found.extend(IMPURE.iter().filter(|used| code.contains(**used)).map(|used| (number + 1, *used)));
    }
    found
}

/// The lines of a file, those of items that only tests see left empty. The formatter sets an item's last line as far in as its
/// first, so that the item ends where a line closes it there.
pub(super) fn without_tests(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    let mut number = 0;
    while number < lines.len() {
        let line = lines[number];
        number += 1;
        if line.trim() != "#[cfg(test)]" {
            continue;
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        let attribute = format!("{indent}#[");
        while number < lines.len() && lines[number].starts_with(&attribute) {
            lines[number] = "";
            number += 1;
        }
        let closes = |line: &str| line.strip_prefix(indent).is_some_and(|rest| rest.starts_with(['}', ')', ']']));
        let is_short = lines.get(number).is_none_or(|line| line.trim_end().ends_with([';', '}', ',']));
        let end = match is_short {
            true => number,
            false => (number..lines.len()).find(|place| closes(lines[*place])).unwrap_or(lines.len() - 1),
        };
        lines.iter_mut().take(end + 1).skip(number).for_each(|line| *line = "");
        number = end + 1;
    }
    lines
}

#[test]
fn what_stands_behind_a_test_module_is_looked_at_like_everything_else() {
    let text = "//! A stage: std::fs stands in a comment only.\n\
        #[cfg(test)]\n\
        mod tests;\n\
        \n\
        #[cfg(test)]\n\
        #[allow(clippy::unwrap_used)]\n\
        mod more {\n    \
            use std::fs;\n    \
            fn one() {\n        \
                std::thread::yield_now()\n    \
            }\n\
        }\n\
        \n\
        impl Stage {\n    \
            #[cfg(test)]\n    \
            fn two() {\n        \
                tokio::spawn(three());\n    \
            }\n    \
            #[cfg(test)]\n    \
            use std::env;\n    \
            fn four() -> SystemTime {\n        \
                std::time::SystemTime::UNIX_EPOCH // not now()\n    \
            }\n\
        }\n\
        async fn five() {}\n";
    assert_eq!(impure(text), [(21, "SystemTime"), (22, "SystemTime"), (25, "async fn")]);
    assert_eq!(impure("#[cfg(test)]\nmod tests;\nuse std::fs;"), [(3, "std::fs")]);
    assert!(impure("#[cfg(test)]\nmod tests {\n    use std::fs;\n}").is_empty());
}

#[test]
fn error_codes_stand_in_the_order_of_their_numbers_and_none_twice() {
    let numbers: Vec<u16> = concord_engine::error::Code::ALL.iter().map(|code| code.number()).collect();
    let mut findings = Vec::new();
    for pair in numbers.windows(2) {
        if pair[0] >= pair[1] {
            findings.push(format!("CON-{:04} stands before CON-{:04}", pair[0], pair[1]));
        }
    }
    none(findings);
}
