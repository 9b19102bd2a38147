//! The many ways to write a transformation, brought into one: a list of objects with `name` and named arguments.
//! `"trim"`, `"format_phone(\"US\")"`, `{"split": ","}`, `{"name": "cast", "arguments": ["integer"]}` and lists of
//! these are all understood. Unknown names and arguments are left for the shape check to name.

use super::node::{Entry, Kind, Node, Table, take};

/// The names of a transformation's arguments in the order in which a call gives them.
fn argument_names(name: &str) -> &'static [&'static str] {
    match name {
        "format_phone" => &["region"],
        "split" => &["separator", "index", "rest"],
        "join" => &["separator", "rest"],
        "map" => &["values", "default"],
        "cast" => &["to"],
        "date_format" => &["to", "from"],
        "expression" => &["expression", "inverse"],
        _ => &[],
    }
}

/// Brings the value of `transformation` into canonical form.
pub(crate) fn bring(node: &mut Node) {
    let place = node.place.clone();
    let written = std::mem::replace(&mut node.kind, Kind::Null);
    node.kind = match written {
        Kind::List(items) => Kind::List(items.into_iter().map(step).collect()),
        Kind::Null => Kind::Null,
        kind => Kind::List(vec![step(Node { kind, place })]),
    };
}

fn step(node: Node) -> Node {
    let Node { kind, place } = node;
    match kind {
        Kind::Text(text) => {
            let (name, arguments) = call(&text);
            let arguments = arguments.into_iter().map(|kind| Node { kind, place: place.clone() }).collect();
            named(Node::text(name, place), arguments)
        }
        Kind::Table(entries) => from_table(entries, Node { kind: Kind::Null, place }),
        kind => Node { kind, place },
    }
}

fn from_table(mut entries: Table, mut around: Node) -> Node {
    if let Some(mut entry) = take(&mut entries, "type") {
        "name".clone_into(&mut entry.key);
        entries.push(entry);
    }
    if !entries.iter().any(|entry| entry.key == "name")
        && entries.len() == 1
        && let Some(entry) = entries.pop()
    {
        return from_single_key(entry);
    }
    for wrapper in ["arguments", "args"] {
        match take(&mut entries, wrapper) {
            Some(Entry { value: Node { kind: Kind::Table(more), .. }, .. }) => entries.extend(more),
            Some(Entry { value: Node { kind: Kind::List(positional), .. }, .. }) => {
                let name = entries.iter().find(|entry| entry.key == "name").and_then(|entry| entry.value.as_text());
                let names = argument_names(name.unwrap_or_default());
                entries.extend(with_names(names, positional));
            }
            Some(other) => entries.push(other),
            None => {}
        }
    }
    around.kind = Kind::Table(entries);
    around
}

/// `{"split": ","}`, `{"map": {"a": "b"}}`, `{"date_format": {"to": "%d.%m.%Y"}}`.
fn from_single_key(entry: Entry) -> Node {
    let Entry { key, place, value } = entry;
    let name = Node::text(&key, place);
    match value.kind {
        Kind::Table(arguments) if key != "map" || arguments.iter().any(|argument| argument.key == "values") => {
            let mut node = named(name, Vec::new());
            node.as_table_mut().into_iter().for_each(|table| table.extend(arguments.clone()));
            node
        }
        Kind::List(positional) => named(name, positional),
        Kind::Null | Kind::Bool(true) => named(name, Vec::new()),
        kind => named(name, vec![Node { kind, place: value.place }]),
    }
}

fn named(name: Node, positional: Vec<Node>) -> Node {
    let place = name.place.clone();
    let names = argument_names(name.as_text().unwrap_or_default());
    let mut entries = vec![Entry { key: "name".to_owned(), place: place.clone(), value: name }];
    entries.extend(with_names(names, positional));
    Node::table(entries, place)
}

/// Arguments beyond those that have a name get a number, which the shape check then calls unknown.
fn with_names(names: &[&str], positional: Vec<Node>) -> Vec<Entry> {
    let entry = |(index, value): (usize, Node)| {
        let key = names.get(index).map_or_else(|| format!("argument {}", index + 1), |name| (*name).to_owned());
        Entry { key, place: value.place.clone(), value }
    };
    positional.into_iter().enumerate().map(entry).collect()
}

/// `name` or `name(argument, …)`. What is neither is taken for a name, and then called unknown.
fn call(text: &str) -> (&str, Vec<Kind>) {
    let text = text.trim();
    let Some((name, rest)) = text.split_once('(') else { return (text, Vec::new()) };
    let Some(inside) = rest.strip_suffix(')') else { return (text, Vec::new()) };
    let name = name.trim();
    if inside.trim().is_empty() {
        return (name, Vec::new());
    }
    (name, split_arguments(inside).into_iter().map(literal).collect())
}

/// Splits at commas outside quotes.
fn split_arguments(inside: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut quote, mut escaped) = (0, None, false);
    for (at, character) in inside.char_indices() {
        match (quote, character) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if character == open => quote = None,
            (None, '"' | '\'') => quote = Some(character),
            (None, ',') => {
                parts.extend(inside.get(start..at));
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.extend(inside.get(start..));
    parts
}

/// A JSON literal, a text in single quotes, or a bare word.
fn literal(text: &str) -> Kind {
    let text = text.trim();
    if let Some(inside) = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        return Kind::Text(inside.replace("\\'", "'"));
    }
    match serde_json::from_str(text) {
        Ok(serde_json::Value::Number(number)) => Kind::Number(number),
        Ok(serde_json::Value::Bool(value)) => Kind::Bool(value),
        Ok(serde_json::Value::Null) => Kind::Null,
        Ok(serde_json::Value::String(text)) => Kind::Text(text),
        _ => Kind::Text(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    fn canonical(written: serde_json::Value) -> serde_json::Value {
        let mut node = super::super::json::parse(&Arc::from("a.json"), &written.to_string()).unwrap().unwrap();
        bring(&mut node);
        node.to_json()
    }

    #[test]
    fn every_way_to_write_an_argument_means_the_same() {
        let expected = json!([{"name": "format_phone", "region": "US"}]);
        for written in [
            json!("format_phone(\"US\")"),
            json!("format_phone('US')"),
            json!(" format_phone( US ) "),
            json!({"name": "format_phone", "region": "US"}),
            json!({"type": "format_phone", "region": "US"}),
            json!({"name": "format_phone", "arguments": {"region": "US"}}),
            json!({"name": "format_phone", "args": ["US"]}),
            json!({"format_phone": "US"}),
            json!({"format_phone": {"region": "US"}}),
            json!(["format_phone(\"US\")"]),
        ] {
            assert_eq!(canonical(written.clone()), expected, "{written}");
        }
    }

    #[test]
    fn a_list_is_a_chain() {
        assert_eq!(canonical(json!(["trim", {"cast": "integer"}])), json!([{"name": "trim"}, {"name": "cast", "to": "integer"}]));
    }

    #[test]
    fn a_comma_in_quotes_separates_nothing() {
        assert_eq!(canonical(json!("split(\",\", 0)")), json!([{"name": "split", "separator": ",", "index": 0}]));
    }

    #[test]
    fn a_table_of_values_can_stand_by_itself() {
        let expected = json!([{"name": "map", "values": {"a": "b"}}]);
        assert_eq!(canonical(json!({"map": {"a": "b"}})), expected);
        assert_eq!(canonical(json!({"map": {"values": {"a": "b"}}})), expected);
    }

    #[test]
    fn an_argument_too_many_is_kept_to_be_named() {
        assert_eq!(canonical(json!("trim(1)")), json!([{"name": "trim", "argument 1": 1}]));
    }
}
