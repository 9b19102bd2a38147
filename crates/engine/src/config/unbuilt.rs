//! What the language has and this version does not do yet. Each such setting is parsed, checked and typed like every
//! other, and a warning names it: nothing is silently ignored. Building a subject means removing its line here.

use super::diagnostic::{Diagnostic, Findings};
use super::kinds::{self, ConnectorKind};
use super::node::{Kind, Node, step};
use crate::error::Code;

/// A setting that is not built yet.
struct Unbuilt {
    /// Its place in the canonical form; `*` stands for any one step.
    at: &'static str,
    /// The value that is not built, where others are.
    value: Option<&'static str>,
    /// What happens instead.
    instead: &'static str,
}

const fn key(at: &'static str, instead: &'static str) -> Unbuilt {
    Unbuilt { at, value: None, instead }
}

const fn value(at: &'static str, value: &'static str, instead: &'static str) -> Unbuilt {
    Unbuilt { at, value: Some(value), instead }
}

/// The one list of what is not built yet, with what happens instead.
const UNBUILT: &[Unbuilt] = &[
    key("/connections/*/rate_limit", "requests are not limited, but by `daily_quota_share` where a product counts them"),
    key("/syncs/*/rate_limit", "requests are not limited"),
    key("/syncs/*/rollout/gates", "the sync runs in full at once"),
    key("/syncs/*/sync_hub", "the sync does not run"),
    key("/syncs/*/connected_systems", "the sync does not run"),
    key("/syncs/*/entities", "the sync does not run"),
    key("/syncs/*/error_handling/notification", "nobody is told"),
    key("/syncs/*/error_handling/notifications", "nobody is told"),
    key("/syncs/*/monitoring/alerting", "nobody is told"),
    value("/syncs/*/monitoring/dashboard_enabled", "true", "there is no dashboard"),
    key("/process_settings/notifiers", "nobody is told"),
];

/// Warns of every setting of a canonical tree that is not built yet.
pub(crate) fn warn(root: &Node, kinds: &[ConnectorKind], findings: &mut Findings) {
    visit(root, String::new(), findings);
    let connections = root.get("connections").and_then(Node::as_table);
    for entry in connections.into_iter().flatten() {
        let Some(written) = entry.value.get("type") else { continue };
        let Some(kind) = written.as_text().and_then(|name| kinds::find(kinds, name)) else { continue };
        if !kind.built {
            let message = format!("the connector `{}` is not built yet: syncs of `{}` do not run", kind.name, entry.key);
            let pointer = format!("{}/type", step("/connections", &entry.key));
            findings.add(&written.place, Diagnostic::warning(Code::ConfigNotBuilt, message).about(pointer));
        }
    }
}

fn visit(node: &Node, pointer: String, findings: &mut Findings) {
    if let Some(unbuilt) = UNBUILT.iter().find(|unbuilt| concerns(unbuilt, node, &pointer)) {
        let key = pointer.rsplit('/').next().unwrap_or_default();
        let what = match unbuilt.value {
            Some("true") | None => format!("`{key}`"),
            Some(value) => format!("`{value}` as `{key}`"),
        };
        let message = format!("{what} is not built yet: {}", unbuilt.instead);
        findings.add(&node.place, Diagnostic::warning(Code::ConfigNotBuilt, message).about(pointer));
        return;
    }
    match &node.kind {
        Kind::Table(entries) => {
            for entry in entries {
                visit(&entry.value, step(&pointer, &entry.key), findings);
            }
        }
        Kind::List(items) => {
            for (index, item) in items.iter().enumerate() {
                visit(item, format!("{pointer}/{index}"), findings);
            }
        }
        _ => {}
    }
}

fn concerns(unbuilt: &Unbuilt, node: &Node, pointer: &str) -> bool {
    let value_fits = match (unbuilt.value, &node.kind) {
        (None, _) => true,
        (Some(value), Kind::Text(text)) => value == text,
        (Some(value), Kind::Bool(flag)) => (value == "true") == *flag,
        (Some(_), _) => false,
    };
    let mut asked = unbuilt.at.split('/');
    let mut given = pointer.split('/');
    value_fits
        && loop {
            match (asked.next(), given.next()) {
                (None, None) => break true,
                (Some(asked), Some(given)) if asked == "*" || asked == given => {}
                _ => break false,
            }
        }
}

#[cfg(test)]
mod tests {
    use super::super::vocabulary::{CANONICAL, definition};
    use super::*;
    use serde_json::Value;

    /// Follows a place of the table through the schema of the types.
    fn leads_somewhere(at: &str) -> bool {
        let mut schema: &'static Value = &CANONICAL;
        for part in at.split('/').skip(1) {
            while let Some(reference) = reference_of(schema) {
                schema = definition(reference);
            }
            let next = match part {
                "*" => schema.get("items").or_else(|| schema.get("additionalProperties")),
                key => schema.get("properties").and_then(|properties| properties.get(key)),
            };
            match next {
                Some(next) => schema = next,
                None => return false,
            }
        }
        true
    }

    fn reference_of(schema: &'static Value) -> Option<&'static str> {
        let first = schema.get("anyOf").and_then(|alternatives| alternatives.get(0)).unwrap_or(schema);
        first.get("$ref").and_then(Value::as_str).and_then(|reference| reference.rsplit('/').next())
    }

    #[test]
    fn every_line_of_the_table_names_a_setting_that_exists() {
        for unbuilt in UNBUILT {
            assert!(leads_somewhere(unbuilt.at), "{}", unbuilt.at);
        }
    }
}
