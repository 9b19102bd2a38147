//! What commands print with `--json` has the shape that docs/commands.md shows: programs are built on it.

use crate::world::{Said, World};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The document that docs/commands.md shows under a command's heading.
fn documented(command: &str) -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/commands.md");
    let text = std::fs::read_to_string(path).unwrap();
    let section = text.split(&format!("## `concord {command}")).nth(1).unwrap_or_else(|| panic!("no section for {command}"));
    let section = section.split("\n## ").next().unwrap();
    let block = section.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    serde_json::from_str(block).unwrap_or_else(|error| panic!("{command}: {error}\n{block}"))
}

/// Every path in a document with the kind of value at its end; elements of a list are one.
fn paths(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| paths(value, &format!("{at}.{name}"), found)),
        Value::Array(elements) => elements.iter().for_each(|value| paths(value, &format!("{at}[]"), found)),
        // A value that may be absent is shown with and without.
        Value::Null => {}
        Value::Bool(_) => drop(found.insert(format!("{at}: bool"))),
        Value::Number(_) => drop(found.insert(format!("{at}: number"))),
        Value::String(_) => drop(found.insert(format!("{at}: text"))),
    }
}

/// Nothing is printed that is not documented, and (given `whole`) nothing is documented that is not printed.
fn has_the_documented_shape(command: &str, said: &Said, whole: bool) {
    let printed: Value = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{command}: {error}\n{said:?}"));
    let (mut expected, mut actual) = (BTreeSet::new(), BTreeSet::new());
    paths(&documented(command), "", &mut expected);
    paths(&printed, "", &mut actual);
    let unknown: Vec<_> = actual.difference(&expected).collect();
    assert_eq!(unknown, Vec::<&String>::new(), "{command} prints what docs/commands.md does not show");
    if whole {
        let missing: Vec<_> = expected.difference(&actual).collect();
        assert_eq!(missing, Vec::<&String>::new(), "docs/commands.md shows what {command} does not print: {printed:#}");
    }
}

#[test]
fn what_commands_print_as_json_has_the_documented_shape() {
    let world = World::new(&json!({}));
    world.crm.psql("INSERT INTO accounts (name, email) VALUES ('Alder', 'a@x.example'), ('Blue', 'b@x.example')");
    world.erp.psql("INSERT INTO customers (company, mail) VALUES ('Blue Ltd', 'b@x.example')");
    let json = |arguments: &[&str]| world.concord(&[arguments, &["--json"]].concat());

    has_the_documented_shape("check", &json(&["check", "--connect", "FILE"]), true);
    has_the_documented_shape("plan", &json(&["plan", "FILE"]), true);
    let differs = json(&["verify", "FILE"]);
    assert_eq!(differs.exit, 1, "{differs:?}");
    has_the_documented_shape("verify", &differs, false);
    let running = world.run(&["--auto-approve"]);
    world.crm.psql("UPDATE accounts SET city = 'Lyon' WHERE email = 'a@x.example'");
    running.until("nothing is left but what waits for a person", || {
        let told: Value = serde_json::from_str(&json(&["status"]).out).unwrap();
        told["syncs"][0]["level"] == true && told["syncs"][0]["review"] == 1
    });
    has_the_documented_shape("verify", &json(&["verify", "FILE"]), false);
    running.until("the slots have been asked after", || {
        let told: Value = serde_json::from_str(&json(&["status"]).out).unwrap();
        told["feeds"][0]["retained_bytes"].is_number() && told["feeds"][0]["lag_ms"].is_number()
    });
    has_the_documented_shape("status", &json(&["status"]), false);
    has_the_documented_shape("review list", &json(&["review", "list"]), false);
    has_the_documented_shape("review show", &json(&["review", "show", "1"]), false);
    has_the_documented_shape("explain", &json(&["explain", "accounts", "1"]), false);
    has_the_documented_shape("review resolve", &json(&["review", "resolve", "1", "--take", "crm"]), true);
    has_the_documented_shape("pause", &json(&["pause"]), true);
    has_the_documented_shape("release", &json(&["release", "FILE"]), false);
    let wrong = json(&["explain", "nobody", "1"]);
    assert_eq!(wrong.exit, 2);
    let error: Value = serde_json::from_str(&wrong.out).unwrap();
    assert_eq!((&error["error"]["code"], &error["error"]["severity"]), (&json!("CON-3021"), &json!("error")));
}
