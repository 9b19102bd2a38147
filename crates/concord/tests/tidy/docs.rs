//! That documentation and code tell the same: error codes, configuration keys, links.

use super::{file, files, none, root};
use concord_engine::error::{Class, Code};
use std::collections::BTreeSet;
use std::path::Path;

/// What Concord does with a failure of this class, in the words of docs/errors.md.
fn does(class: Class) -> &'static str {
    match class {
        Class::Transient => "tries again",
        Class::Throttled => "waits, then tries again",
        Class::Stale => "reads and plans again",
        Class::Rejected => "sends the record to review",
        Class::UnknownOutcome => "verifies what happened",
        Class::Stop => "stops and waits for you",
        Class::BadInput => "refuses; nothing was touched",
    }
}

/// One section of docs/errors.md per thousand.
fn section(number: u16) -> &'static str {
    match number / 1000 {
        1 => "## 1xxx: the configuration",
        2 => "## 2xxx: systems and connectors",
        3 => "## 3xxx: what happens to a record",
        4 => "## 4xxx: the store",
        _ => "## 5xxx: running",
    }
}

/// The tables of docs/errors.md as the code has them.
fn expected_tables() -> String {
    let mut text = String::new();
    let mut last = "";
    for code in Code::ALL {
        let section = section(code.number());
        if section != last {
            text.push_str(&format!(
                "\n{section}\n\n| code | what happened | what Concord does | what you do |\n|---|---|---|---|\n"
            ));
            last = section;
        }
        let meaning = code.meaning().replace('|', "\\|");
        let remedy = code.remedy().replace('|', "\\|");
        text.push_str(&format!(
            "| <a id=\"con-{:04}\"></a>{code} | {meaning} | {} | {remedy} |\n",
            code.number(),
            does(code.class())
        ));
    }
    text
}

/// Set `CONCORD_BLESS=1` to write the tables instead of comparing them.
#[test]
fn the_error_codes_in_the_code_are_those_in_the_documentation() {
    let text = file("docs/errors.md");
    let start = text.find("\n## 1xxx").expect("docs/errors.md has its first table");
    let expected = expected_tables();
    if std::env::var_os("CONCORD_BLESS").is_some() {
        std::fs::write(root().join("docs/errors.md"), format!("{}{expected}", &text[..start]))
            .expect("docs/errors.md is writable");
        return;
    }
    assert!(
        text[start..] == expected,
        "docs/errors.md differs from the code. Run with CONCORD_BLESS=1, or put this behind its introduction:\n{expected}"
    );
}

#[test]
fn every_code_says_what_happened_and_what_to_do() {
    let mut findings = Vec::new();
    for code in Code::ALL {
        for text in [code.meaning(), code.remedy()] {
            if text.split_whitespace().count() < 2 || !text.ends_with('.') {
                findings.push(format!("{code}: not a sentence: {text:?}"));
            }
        }
    }
    none(findings);
}

#[test]
fn every_link_in_the_documentation_leads_somewhere() {
    let mut pages: Vec<(String, String)> = files("docs", ".md");
    for page in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        pages.push((page.to_string(), file(page)));
    }
    let mut findings = Vec::new();
    for (page, text) in &pages {
        let folder = root().join(page).parent().map(Path::to_path_buf).unwrap_or_default();
        for target in link_targets(text) {
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            if path.starts_with("http://") || path.starts_with("https://") || path.starts_with("mailto:") {
                continue;
            }
            let linked = if path.is_empty() { root().join(page) } else { folder.join(path) };
            if !linked.exists() {
                findings.push(format!("{page}: {target} leads nowhere"));
            } else if !anchor.is_empty() {
                let linked_text = std::fs::read_to_string(&linked).unwrap_or_default();
                if !anchors(&linked_text).contains(&anchor.to_string()) {
                    findings.push(format!("{page}: {target}: no such heading"));
                }
            }
        }
    }
    none(findings);
}

/// What stands in the parentheses of every `[text](target)`, code blocks left out.
fn link_targets(text: &str) -> Vec<String> {
    let mut targets = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for piece in line.split("](").skip(1) {
            if let Some(end) = piece.find(')') {
                targets.push(piece[..end].to_string());
            }
        }
    }
    targets
}

/// The anchors that a page offers: its headings as GitHub writes them, and ids written by hand.
fn anchors(text: &str) -> Vec<String> {
    let mut anchors = Vec::new();
    for line in text.lines() {
        if line.starts_with('#') {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            anchors.push(
                heading
                    .chars()
                    .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                    .map(|c| if c == ' ' { '-' } else { c })
                    .collect(),
            );
        }
        for piece in line.split("id=\"").skip(1) {
            if let Some(end) = piece.find('"') {
                anchors.push(piece[..end].to_string());
            }
        }
    }
    anchors
}

/// Words in a row's first cell of a `key` table that are no keys of the schema: `NAME` placeholders and the like.
const NOT_KEYS: &[&str] = &[];

#[test]
fn the_configuration_keys_in_the_code_are_those_in_the_documentation() {
    let mut in_code = BTreeSet::new();
    properties(&concord_engine::config::json_schema(), &mut in_code);
    assert!(in_code.len() > 100, "the schema names only {} keys", in_code.len());
    let text = file("docs/config.md");
    let quoted: BTreeSet<String> =
        in_quotes(&text).flat_map(|words| words.split('.').map(String::from).collect::<Vec<_>>()).collect();
    let mut findings: Vec<String> = in_code
        .iter()
        .filter(|key| !quoted.contains(*key) && !text.contains(&format!("\"{key}\"")))
        .map(|key| format!("docs/config.md does not speak of `{key}`"))
        .collect();

    let mut in_key_table = false;
    for line in text.lines() {
        if !line.starts_with('|') {
            in_key_table = false;
        } else if line.starts_with("| key ") {
            in_key_table = true;
        } else if in_key_table {
            let first_cell = line.trim_start_matches('|').split('|').next().unwrap_or_default();
            for key in in_quotes(first_cell) {
                let last = key.trim_end_matches("[]").rsplit('.').next().unwrap_or_default();
                if !in_code.contains(last) && !NOT_KEYS.contains(&last) {
                    findings.push(format!("docs/config.md speaks of `{key}`, which the schema does not know"));
                }
            }
        }
    }
    none(findings);
}

/// The names of every property in a JSON Schema, however deep.
fn properties(schema: &serde_json::Value, names: &mut BTreeSet<String>) {
    match schema {
        serde_json::Value::Object(object) => {
            if let Some(serde_json::Value::Object(properties)) = object.get("properties") {
                names.extend(properties.keys().cloned());
            }
            object.values().for_each(|inner| properties(inner, names));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|inner| properties(inner, names)),
        _ => {}
    }
}

/// Everything between backticks.
fn in_quotes(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The folder of each group of tests that docs/survives.md names.
const TESTS: [(&str, &str); 7] = [
    ("interleavings", "crates/simulation/tests/interleavings"),
    ("engine", "crates/connectors/tests/engine"),
    ("stories", "crates/concord/tests/stories"),
    ("mirror", "crates/connectors/tests/mirror"),
    ("postgres", "crates/connectors/tests/postgres"),
    ("contract", "crates/connectors/tests/contract"),
    ("salesforce", "crates/connectors/tests/salesforce"),
];

#[test]
fn every_test_that_the_documentation_names_is_there() {
    let text = file("docs/survives.md");
    let mut findings = Vec::new();
    let mut named = 0;
    for (group, folder) in TESTS {
        let code: String = files(folder, ".rs").into_iter().map(|(_, text)| text).collect();
        for piece in text.split(&format!("`{group}::")).skip(1) {
            let name = piece.split('`').next().unwrap_or_default();
            if name.is_empty() {
                continue;
            }
            named += 1;
            if !code.contains(&format!("fn {name}(")) {
                findings.push(format!("docs/survives.md: there is no test {group}::{name}"));
            }
        }
    }
    assert!(named > 40, "only {named} tests are named");
    none(findings);
}

/// How many scenarios Concord is to survive.
const SCENARIOS: u32 = 28;

#[test]
fn every_scenario_has_a_line_with_a_test_or_is_said_to_come_later() {
    let text = file("docs/survives.md");
    let (lines, later) = text.split_once("\n## Later\n").expect("docs/survives.md says what comes later");
    let mut findings = Vec::new();
    let mut covered = BTreeSet::new();
    for cells in rows(lines).filter(|cells| cells[0] != "situation") {
        let (tests, numbers) = (cells.get(2).copied().unwrap_or_default(), cells.get(3).copied().unwrap_or_default());
        for number in numbers.split(", ").filter(|number| !number.is_empty()) {
            match number.parse::<u32>() {
                Ok(number) if (1..=SCENARIOS).contains(&number) && tests.contains("::") => drop(covered.insert(number)),
                _ => findings.push(format!("docs/survives.md: `{}`: {number} is no scenario that its tests cover", cells[0])),
            }
        }
    }
    let waiting: BTreeSet<u32> = rows(later).filter_map(|cells| cells[0].parse().ok()).collect();
    for number in 1..=SCENARIOS {
        match (covered.contains(&number), waiting.contains(&number)) {
            (false, false) => findings.push(format!("docs/survives.md says nothing of scenario {number}")),
            (true, true) => findings.push(format!("docs/survives.md: scenario {number} is covered, and said to come later")),
            _ => {}
        }
    }
    none(findings);
}

/// The cells of each row of the tables in a text, but for the lines under their heads.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().filter(|line| line.starts_with("| ")).map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
}
