//! Two places that speak of the same setting made one: the same value twice is fine, different values are an error that
//! names both places. Objects merge key by key; lists and plain values are one setting each.

use super::diagnostic::{Diagnostic, Findings};
use super::node::{Entry, Kind, Node, Table};
use crate::error::Code;

/// Puts an entry into a table that may have its key already. `label` is the way to the table in words, for messages.
pub(crate) fn insert(table: &mut Table, entry: Entry, label: &str, findings: &mut Findings) {
    match table.iter_mut().find(|known| known.key == entry.key) {
        None => table.push(entry),
        Some(known) => {
            let label = join(label, &entry.key);
            merge(&mut known.value, entry, &label, findings);
        }
    }
}

fn merge(into: &mut Node, entry: Entry, label: &str, findings: &mut Findings) {
    let Node { kind, place } = entry.value;
    match (&mut into.kind, kind) {
        (Kind::Table(known), Kind::Table(more)) => {
            for entry in more {
                insert(known, entry, label, findings);
            }
        }
        (_, kind) => {
            let other = Node { kind, place };
            if !into.says_the_same_as(&other) {
                let message = format!("`{label}` is set twice, to different values: here and at {}", into.place);
                findings.add(&other.place, Diagnostic::error(Code::ConfigSetTwice, message));
            }
        }
    }
}

/// Makes one of keys that stand twice in an object, all the way down.
pub(crate) fn dedupe(node: Node, label: &str, findings: &mut Findings) -> Node {
    let kind = match node.kind {
        Kind::Table(entries) => {
            let mut table = Table::with_capacity(entries.len());
            for Entry { key, place, value } in entries {
                let value = dedupe(value, &join(label, &key), findings);
                insert(&mut table, Entry { key, place, value }, label, findings);
            }
            Kind::Table(table)
        }
        Kind::List(items) => Kind::List(items.into_iter().map(|item| dedupe(item, label, findings)).collect()),
        plain => plain,
    };
    Node { kind, place: node.place }
}

/// Puts a value at a path below a table, making the objects on the way.
pub(crate) fn put(table: &mut Table, path: &[&str], entry: Entry, label: &str, findings: &mut Findings) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        return insert(table, Entry { key: (*first).to_owned(), ..entry }, label, findings);
    }
    let missing = !table.iter().any(|known| known.key == *first);
    if missing {
        let value = Node::table(Table::new(), entry.place.clone());
        table.push(Entry { key: (*first).to_owned(), place: entry.place.clone(), value });
    }
    let known = table.iter_mut().find(|known| known.key == *first).and_then(|known| known.value.as_table_mut());
    match known {
        Some(known) => put(known, rest, entry, &join(label, first), findings),
        None => {
            let message = format!("`{}` must be an object, for `{}` belongs into it", join(label, first), entry.key);
            findings.add(&entry.place, Diagnostic::error(Code::ConfigWrongType, message));
        }
    }
}

fn join(label: &str, key: &str) -> String {
    if label.is_empty() { key.to_owned() } else { format!("{label}.{key}") }
}
