//! The shape of a canonical tree checked against the schema of the types: unknown keys, wrong kinds of values, values
//! that a key does not take, missing keys. Every finding of one run, each at its place. What is wrong is left out of
//! the value that is handed on, so that the remaining checks can still speak.

use super::diagnostic::{Diagnostic, Findings, did_you_mean, one_of};
use super::forms::other_keys;
use super::node::{Entry, Kind, Node, step};
use super::schema_reading::{
    all_enumerated, alternatives, alternatives_in_words, enumerated, expected_kinds, fits, in_words, kinds_of, required, resolve,
    tag_of,
};
use super::vocabulary::{CANONICAL, Scope, properties};
use crate::error::Code;
use serde_json::{Map, Value};

/// What came of the check.
pub(crate) struct Checked {
    /// The value without what was wrong; `None` where nothing usable is left.
    pub(crate) value: Option<Value>,
    /// The objects from which something was left out, by pointer.
    pub(crate) pruned: Vec<String>,
    /// The lists from which an element was left out, by pointer: the places of those behind it are no longer theirs.
    pub(crate) shortened: Vec<String>,
}

/// Checks a canonical tree.
pub(crate) fn check(root: &Node, findings: &mut Findings) -> Checked {
    let mut checker = Checker { findings, pruned: Vec::new(), shortened: Vec::new() };
    let value = checker.value(root, &CANONICAL, "", "");
    let Checker { pruned, shortened, .. } = checker;
    Checked { value, pruned, shortened }
}

struct Checker<'a> {
    findings: &'a mut Findings,
    pruned: Vec<String>,
    shortened: Vec<String>,
}

impl Checker<'_> {
    fn value(&mut self, node: &Node, schema: &'static Value, pointer: &str, key: &str) -> Option<Value> {
        let (schema, type_name) = resolve(schema);
        if type_name == "Secret" && !matches!(node.kind, Kind::Table(_)) {
            self.plain_secret(node, pointer, key);
            return None;
        }
        if let Some(alternatives) = alternatives(schema) {
            if let [only] = alternatives.as_slice() {
                return self.value(node, only, pointer, key);
            }
            return self.any_of(node, &alternatives, pointer, key);
        }
        match expected_kinds(schema) {
            kinds if !kinds.is_empty() && !kinds.iter().any(|kind| fits(node, kind)) => {
                let words: Vec<&str> = kinds.iter().map(|kind| in_words(kind)).collect();
                self.wrong_kind(node, pointer, key, &words.join(" or "));
                None
            }
            _ => self.fitting(node, schema, type_name, pointer, key),
        }
    }

    /// A value whose kind is right.
    fn fitting(&mut self, node: &Node, schema: &'static Value, type_name: &str, pointer: &str, key: &str) -> Option<Value> {
        match &node.kind {
            Kind::Table(entries) => self.object(node, entries, schema, type_name, pointer),
            Kind::List(items) => self.list(node, items, schema, pointer, key),
            Kind::Number(number) => self.in_range(node, number.as_f64(), schema, pointer, key).then(|| node.to_json()),
            Kind::Text(text) => self.text(node, text, schema, pointer, key).then(|| node.to_json()),
            Kind::Bool(_) | Kind::Null => Some(node.to_json()),
        }
    }

    fn object(&mut self, node: &Node, entries: &[Entry], schema: &'static Value, name: &str, pointer: &str) -> Option<Value> {
        let known = schema.get("properties").and_then(Value::as_object);
        let others = schema.get("additionalProperties").filter(|others| **others != Value::Bool(false));
        let is_free = known.is_none() && others.is_none_or(|others| *others == Value::Bool(true));
        if is_free {
            return Some(node.to_json());
        }
        let mut value = Map::new();
        for entry in entries {
            let pointer_of_entry = step(pointer, &entry.key);
            let expected = known.and_then(|known| known.get(&entry.key)).or(others.filter(|_| !entry.key.is_empty()));
            let checked = match expected {
                Some(expected) => self.value(&entry.value, expected, &pointer_of_entry, &entry.key),
                None => {
                    self.unknown_key(entry, schema, name, pointer, &pointer_of_entry);
                    None
                }
            };
            match checked {
                Some(checked) => drop(value.insert(entry.key.clone(), checked)),
                None => self.pruned.push(pointer.to_owned()),
            }
        }
        let all_there = self.required(node, entries, schema, name, pointer);
        let lost = required(schema).any(|key| !value.contains_key(key));
        (all_there && !lost).then_some(Value::Object(value))
    }

    fn required(&mut self, node: &Node, entries: &[Entry], schema: &'static Value, name: &str, pointer: &str) -> bool {
        let missing: Vec<&str> = required(schema).filter(|key| !entries.iter().any(|entry| entry.key == *key)).collect();
        for key in &missing {
            let (message, remedy) = missing_in_words(name, key, schema, pointer);
            let finding = Diagnostic::error(Code::ConfigMissing, message).about(step(pointer, key)).instead(remedy);
            self.findings.add(&node.place, finding);
        }
        missing.is_empty()
    }

    fn list(&mut self, node: &Node, items: &[Node], schema: &'static Value, pointer: &str, key: &str) -> Option<Value> {
        if items.is_empty() && schema.get("minItems").is_some_and(|least| *least != 0) {
            let finding = Diagnostic::error(Code::ConfigOutOfRange, format!("`{key}` must not be an empty list"));
            self.findings.add(&node.place, finding.about(pointer));
            return None;
        }
        let expected = schema.get("items").unwrap_or(&Value::Bool(true));
        let mut values = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match self.value(item, expected, &format!("{pointer}/{index}"), key) {
                Some(value) => values.push(value),
                None => self.shortened.push(pointer.to_owned()),
            }
        }
        Some(Value::Array(values))
    }

    fn text(&mut self, node: &Node, text: &str, schema: &'static Value, pointer: &str, key: &str) -> bool {
        if let Some(values) = enumerated(schema)
            && !values.contains(&text)
        {
            let hint = did_you_mean(text, values.iter().copied());
            let message = format!("`{key}` takes {}, not `{text}`{hint}", one_of(values));
            self.findings.add(&node.place, Diagnostic::error(Code::ConfigUnknownValue, message).about(pointer));
            return false;
        }
        if text.is_empty() && schema.get("minLength").is_some() {
            let finding = Diagnostic::error(Code::ConfigOutOfRange, format!("`{key}` must not be empty"));
            self.findings.add(&node.place, finding.about(pointer));
            return false;
        }
        true
    }

    fn in_range(&mut self, node: &Node, number: Option<f64>, schema: &'static Value, pointer: &str, key: &str) -> bool {
        let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
        let (least, most) = (bound("minimum"), bound("maximum"));
        let number = number.unwrap_or(f64::NAN);
        if least.is_none_or(|least| number >= least) && most.is_none_or(|most| number <= most) {
            return true;
        }
        let range = match (least, most) {
            (Some(least), Some(most)) => format!("between {least} and {most}"),
            (Some(least), None) => format!("at least {least}"),
            (None, Some(most)) => format!("at most {most}"),
            (None, None) => "a number".to_owned(),
        };
        let finding = Diagnostic::error(Code::ConfigOutOfRange, format!("`{key}` must be {range}"));
        self.findings.add(&node.place, finding.about(pointer));
        false
    }

    /// Several kinds of value are possible: the one that is meant is told by the value's kind, and among objects by the
    /// key that names the alternative.
    fn any_of(&mut self, node: &Node, alternatives: &[&'static Value], pointer: &str, key: &str) -> Option<Value> {
        if let (Some(values), Kind::Text(text)) = (all_enumerated(alternatives), &node.kind) {
            if values.contains(&text.as_str()) {
                return Some(node.to_json());
            }
            let hint = did_you_mean(text, values.iter().copied());
            let message = format!("`{key}` takes {}, not `{text}`{hint}", one_of(values));
            self.findings.add(&node.place, Diagnostic::error(Code::ConfigUnknownValue, message).about(pointer));
            return None;
        }
        let fitting: Vec<&'static Value> = alternatives
            .iter()
            .copied()
            .filter(|alternative| {
                let kinds = kinds_of(alternative);
                kinds.is_empty() || kinds.iter().any(|kind| fits(node, kind))
            })
            .collect();
        match (fitting.as_slice(), &node.kind) {
            ([], _) => {
                let words = match all_enumerated(alternatives) {
                    Some(values) => one_of(values),
                    None => alternatives_in_words(alternatives),
                };
                self.wrong_kind(node, pointer, key, &words);
                None
            }
            ([only], _) => self.value(node, only, pointer, key),
            ([first, ..], Kind::Table(_)) => match self.tagged(node, &fitting, pointer, key) {
                Some(chosen) => self.value(node, chosen, pointer, key),
                None if tag_of(first).is_some() => None,
                None => self.by_key(node, &fitting, pointer, key),
            },
            ([first, ..], _) => self.value(node, first, pointer, key),
        }
    }

    /// The alternative that the object's tag names.
    fn tagged(&mut self, node: &Node, alternatives: &[&'static Value], pointer: &str, key: &str) -> Option<&'static Value> {
        let (tag, _) = tag_of(alternatives.first()?)?;
        let names: Vec<&'static str> =
            alternatives.iter().filter_map(|alternative| tag_of(alternative)).map(|(_, name)| name).collect();
        let Some(named) = node.get(tag) else {
            let message = format!("`{key}` needs `{tag}`: {}", one_of(names));
            self.findings.add(&node.place, Diagnostic::error(Code::ConfigMissing, message).about(step(pointer, tag)));
            return None;
        };
        let Some(text) = named.as_text() else {
            self.wrong_kind(named, &step(pointer, tag), tag, "text");
            return None;
        };
        let chosen = alternatives.iter().copied().find(|alternative| tag_of(alternative).is_some_and(|(_, name)| name == text));
        if chosen.is_none() {
            let hint = did_you_mean(text, names.iter().copied());
            let message = format!("`{key}` takes {}, not `{text}`{hint}", one_of(names));
            let finding = Diagnostic::error(Code::ConfigUnknownValue, message);
            self.findings.add(&named.place, finding.about(step(pointer, tag)));
        }
        chosen
    }

    /// The alternative whose required key the object has.
    fn by_key(&mut self, node: &Node, alternatives: &[&'static Value], pointer: &str, key: &str) -> Option<Value> {
        let has = |alternative: &&'static Value| required(resolve(alternative).0).all(|key| node.get(key).is_some());
        match alternatives.iter().copied().find(has) {
            Some(chosen) => self.value(node, chosen, pointer, key),
            None => {
                self.wrong_kind(node, pointer, key, &alternatives_in_words(alternatives));
                None
            }
        }
    }

    fn unknown_key(&mut self, entry: &Entry, schema: &'static Value, name: &str, around: &str, pointer: &str) {
        let mut candidates: Vec<&str> = properties(schema).collect();
        candidates.extend(scopes_at(name, around).iter().flat_map(|scope| scope.keys().chain(other_keys(*scope))));
        let hint = did_you_mean(&entry.key, candidates.iter().copied());
        let message = format!("there is no key `{}` here{hint}", entry.key);
        let finding = Diagnostic::error(Code::ConfigUnknownKey, message).about(pointer);
        let finding = if hint.is_empty() && candidates.len() <= 12 {
            finding.instead(format!("The keys here are {}.", one_of(candidates)))
        } else {
            finding
        };
        self.findings.add(&entry.place, finding);
    }

    fn wrong_kind(&mut self, node: &Node, pointer: &str, key: &str, expected: &str) {
        let message = format!("`{key}` must be {expected}, not {}", node.kind_in_words());
        self.findings.add(&node.place, Diagnostic::error(Code::ConfigWrongType, message).about(pointer));
    }

    fn plain_secret(&mut self, node: &Node, pointer: &str, key: &str) {
        let name = key.to_uppercase();
        let remedy = format!(
            "Write where it is to be found: \"{key}\": {{\"env\": \"{name}\"}}, \"{key}\": {{\"file\": \"/run/secrets/{key}\"}}, \
             or `concord secret set {name}` and \"{key}\": {{\"secret\": \"{name}\"}}."
        );
        let finding = Diagnostic::error(Code::ConfigPlainSecret, format!("`{key}` is a secret and must not be written plainly"));
        self.findings.add(&node.place, finding.about(pointer).instead(remedy));
    }
}

/// What can also be written where this object stands, besides the keys of its canonical form.
fn scopes_at(type_name: &str, pointer: &str) -> Vec<Scope> {
    match type_name {
        _ if pointer.is_empty() => vec![Scope::Root, Scope::Sync, Scope::Process],
        "SyncConfig" => vec![Scope::Sync],
        "Member" => vec![Scope::Member, Scope::Connection, Scope::Credentials],
        "ConnectedSystem" => vec![Scope::Spoke],
        "Connection" => vec![Scope::Connection, Scope::Credentials],
        "Credentials" => vec![Scope::Credentials],
        _ => Vec::new(),
    }
}

/// What is missing, and what to write.
fn missing_in_words(type_name: &str, key: &str, schema: &'static Value, pointer: &str) -> (String, String) {
    let side = pointer.rsplit('/').next().unwrap_or_default();
    match (type_name, key) {
        ("SyncConfig", "name") => ("the sync has no `name`".into(), "Add \"name\": a unique name for the sync.".into()),
        ("SyncConfig", "sync_type") => (
            "it is not said whether the sync flows one way or both: `sync_type` is missing".into(),
            "Add \"sync_type\": \"bidirectional\" (both ways) or \"one_way\" (from source to target).".into(),
        ),
        ("Member", "system") => (
            format!("the {side} does not say which system it is in"),
            "Add \"system\": the name of one of the `connections`, or \"type\" and \"credentials\" to connect here.".into(),
        ),
        ("Member", "object") => (
            format!("the {side} does not say what it holds records in"),
            "Add \"object\" (or \"table\"): the name of a table or object.".into(),
        ),
        ("Connection", "type") => {
            ("the connection does not say which connector speaks to it".into(), "Add \"type\": the name of a connector.".into())
        }
        _ => {
            let meaning = schema.get("properties").and_then(|known| known.get(key)).and_then(|known| known.get("description"));
            let meaning =
                meaning.and_then(Value::as_str).map(|text| format!(" ({})", text.trim_end_matches('.'))).unwrap_or_default();
            (format!("`{key}` is missing{meaning}"), format!("Add \"{key}\"."))
        }
    }
}
