//! docs/config.md names every key and value of the language, and no example in it is wrong.

use concord_engine::config;
use serde_json::Value;
use std::collections::BTreeSet;

fn documentation() -> String {
    std::fs::read_to_string(format!("{}/../../docs/config.md", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Every key of every object, and every text out of a list, anywhere in the schema.
fn words(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(object) => {
            for (key, value) in object {
                match (key.as_str(), value) {
                    ("properties", Value::Object(properties)) => {
                        found.extend(properties.keys().cloned());
                        properties.values().for_each(|property| words(property, found));
                    }
                    ("const", Value::String(text)) => drop(found.insert(text.clone())),
                    ("enum", Value::Array(texts)) => found.extend(texts.iter().filter_map(Value::as_str).map(str::to_owned)),
                    ("default" | "description", _) => {}
                    _ => words(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| words(item, found)),
        _ => {}
    }
}

#[test]
fn every_key_and_value_is_documented() {
    let documentation = documentation();
    let mut all = BTreeSet::new();
    words(&config::json_schema(), &mut all);
    assert!(all.len() > 200, "the schema lost its keys");
    // The levels' other spelling and the three forms of a secret stand in examples.
    let documented = |word: &&String| {
        [format!("`{word}`"), format!(".{word}`"), format!("\"{word}\"")].iter().any(|form| documentation.contains(form.as_str()))
    };
    let missing: Vec<&String> = all.iter().filter(|word| !documented(word)).collect();
    assert_eq!(missing, Vec::<&String>::new());
}

#[test]
fn every_json_example_parses() {
    let documentation = documentation();
    let blocks: Vec<&str> = documentation.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 4);
    let kinds = [config::ConnectorKind {
        name: "postgres",
        aliases: &[],
        built: true,
        required: &[],
        credentials: &["host", "port", "database", "username", "password"],
        auth: &[],
        change_detection: &[],
    }];
    for block in blocks {
        let is_whole = block.starts_with('{');
        let text = if is_whole {
            block.to_owned()
        } else {
            let pair = r#""name": "s", "sync_type": "one_way", "connections": {"a": {"type": "postgres"}}, "source": "a.x", "target": "a.y""#;
            format!("{{ {pair}, {block} }}")
        };
        let loaded = config::parse(&[config::Document { name: "docs/config.md", text: &text }], &kinds);
        assert_eq!(crate::listed(&loaded), "", "{block}");
    }
}
