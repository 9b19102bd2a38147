//! Connections that were written inside a member, moved among the connections, and members that were written as text.
//! The name of such a connection is the member's `system`, else its `role`, else its connector (or `source` and
//! `target`, where both sides use the same one), so that it never depends on what other documents say.

use super::assemble::take_from;
use super::canonical::bring;
use super::diagnostic::{Diagnostic, Findings};
use super::forms::other_keys;
use super::merge::insert;
use super::node::{Entry, Kind, Node, Table};
use super::vocabulary::Scope;
use crate::error::Code;

const SIDES: [&str; 2] = ["source", "target"];

/// Moves every inline connection of every sync among the connections.
pub(crate) fn extract_connections(root: &mut Table, syncs: &mut [Node], findings: &mut Findings) {
    let mut implied: Vec<String> = Vec::new();
    for sync in syncs.iter_mut() {
        let kinds =
            SIDES.map(|side| sync.get(side).and_then(|member| member.get("type")).and_then(Node::as_text).map(str::to_owned));
        let same_kind = kinds.iter().all(Option::is_some) && kinds.first() == kinds.last();
        for side in SIDES {
            let Some(member) = sync.as_table_mut().and_then(|table| table.iter_mut().find(|entry| entry.key == side)) else {
                continue;
            };
            if let Some(connection) = inline_connection(&mut member.value, findings) {
                let (name, is_implied) = name_for(&member.value, &connection, side, same_kind);
                set_system(&mut member.value, &name);
                add(root, &mut implied, name, is_implied, connection, findings);
            }
        }
    }
    for sync in syncs {
        for side in SIDES {
            if let Some(member) = sync.as_table_mut().and_then(|table| table.iter_mut().find(|entry| entry.key == side)) {
                from_text(root, &mut member.value);
            }
        }
    }
}

/// What belongs to the connection among a member's keys, if any of it says that there is one.
fn inline_connection(member: &mut Node, findings: &mut Findings) -> Option<Node> {
    let place = member.place.clone();
    let connection_keys: Vec<&str> = Scope::Connection
        .keys()
        .chain(Scope::Credentials.keys())
        .chain(other_keys(Scope::Credentials))
        .filter(|key| !Scope::Member.has(key))
        .collect();
    let is_inline = member.as_table()?.iter().any(|entry| connection_keys.contains(&entry.key.as_str()));
    if !is_inline {
        return None;
    }
    let mut table: Table = connection_keys.iter().filter_map(|key| take_from(member, key)).collect();
    // An inline member has no other place for its connector's settings, and its database is the connection's.
    table.extend(["options", "database"].iter().filter_map(|key| take_from(member, key)));
    bring(Scope::Connection, &mut table, "connection", findings);
    Some(Node::table(table, place))
}

fn name_for(member: &Node, connection: &Node, side: &str, same_kind: bool) -> (String, bool) {
    let text = |node: &Node, key: &str| node.get(key).and_then(Node::as_text).map(str::to_owned);
    if let Some(name) = text(member, "system") {
        return (name, false);
    }
    let kind = if same_kind { None } else { text(connection, "type") };
    (text(member, "role").or(kind).unwrap_or_else(|| side.to_owned()), true)
}

fn set_system(member: &mut Node, name: &str) {
    let place = member.place.clone();
    if let Some(table) = member.as_table_mut()
        && !table.iter().any(|entry| entry.key == "system")
    {
        table.push(Entry { key: "system".to_owned(), place: place.clone(), value: Node::text(name, place) });
    }
}

fn add(root: &mut Table, implied: &mut Vec<String>, name: String, is_implied: bool, connection: Node, findings: &mut Findings) {
    let place = connection.place.clone();
    if !root.iter().any(|entry| entry.key == "connections") {
        let value = Node::table(Table::new(), place.clone());
        root.push(Entry { key: "connections".to_owned(), place: place.clone(), value });
    }
    let connections = root.iter_mut().find(|entry| entry.key == "connections").and_then(|entry| entry.value.as_table_mut());
    let Some(connections) = connections else { return };
    let known = connections.iter().find(|entry| entry.key == name);
    if let Some(known) = known {
        let differs = !known.value.says_the_same_as(&connection);
        if differs && (is_implied || implied.contains(&name)) {
            let message = format!("two different connections would both be called `{name}`: here and at {}", known.value.place);
            let remedy = "Name this one: add \"system\": \"NAME\" to the member, or define it once in `connections`.";
            return findings.add(&place, Diagnostic::error(Code::ConfigDuplicateName, message).instead(remedy));
        }
    }
    if is_implied {
        implied.push(name.clone());
    }
    insert(connections, Entry { key: name, place, value: connection }, "connections", findings);
}

/// `"crm.accounts"`: the longest name of a connection in front of a dot, and the object behind it.
fn from_text(root: &Table, member: &mut Node) {
    let Some(text) = member.as_text().map(str::to_owned) else { return };
    let connections = root.iter().find(|entry| entry.key == "connections").and_then(|entry| entry.value.as_table());
    let names = connections.into_iter().flatten().map(|entry| entry.key.as_str());
    let known = names.filter(|name| text == **name || text.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')));
    let system = match known.max_by_key(|name| name.len()) {
        Some(name) => name,
        None => text.split('.').next().unwrap_or(&text),
    };
    let object = text.get(system.len()..).and_then(|rest| rest.strip_prefix('.')).filter(|object| !object.is_empty());
    let entry = |key: &str, value: &str| Entry {
        key: key.to_owned(),
        place: member.place.clone(),
        value: Node::text(value, member.place.clone()),
    };
    let entries = std::iter::once(entry("system", system)).chain(object.map(|object| entry("object", object))).collect();
    member.kind = Kind::Table(entries);
}
