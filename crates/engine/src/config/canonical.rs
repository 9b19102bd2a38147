//! Every form of every setting brought into the canonical one, by the table in `forms`. Works on trees with places and
//! keeps each value's place; does not judge values.

use super::diagnostic::Findings;
use super::forms::{Form, forms_of};
use super::merge::{insert, put};
use super::node::{Entry, Kind, Node, Table, take};
use super::transformation_forms;
use super::vocabulary::Scope;

/// Brings the object of a scope, and what lies below it, into canonical form.
pub(crate) fn bring(scope: Scope, table: &mut Table, label: &str, findings: &mut Findings) {
    let moved = take_out(scope, table);
    for form in forms_of(scope) {
        apply(form, table, label, findings);
    }
    for (path, mut content) in moved {
        // A wrapper's content is brought into canonical form on its own first, so that two forms of one value are equal.
        if path.is_empty() {
            if let Some(inner) = content.value.as_table_mut() {
                bring(scope, inner, label, findings);
            }
            if let Kind::Table(entries) = content.value.kind {
                entries.into_iter().for_each(|entry| insert(table, entry, label, findings));
            }
        } else {
            put(table, &path, content, label, findings);
        }
    }
    descend(scope, table, label, findings);
}

/// Takes wrappers, spread objects and gathered keys out, each with the path at which it is put back (empty: here).
fn take_out(scope: Scope, table: &mut Table) -> Vec<(Vec<&'static str>, Entry)> {
    let mut moved = Vec::new();
    for form in forms_of(scope) {
        match form {
            Form::Wrapper { key } => {
                // A wrapper that is no object stays, for the shape check to name.
                let is_object = table.iter().any(|entry| entry.key == key && entry.value.as_table().is_some());
                let content = if is_object { take(table, key) } else { None };
                moved.extend(content.map(|entry| (Vec::new(), entry)));
            }
            Form::Spread { key, own } => {
                if let Some(entries) =
                    table.iter_mut().find(|entry| entry.key == key).and_then(|entry| entry.value.as_table_mut())
                {
                    let mut entries = std::mem::take(entries);
                    let whole = take(table, key);
                    if let Some(mut entry) = take(&mut entries, own) {
                        key.clone_into(&mut entry.key);
                        entries.push(entry);
                    }
                    moved.extend(whole.map(|entry| {
                        let value = Node::table(entries, entry.value.place);
                        (Vec::new(), Entry { key: entry.key, place: entry.place, value })
                    }));
                }
            }
            Form::Gather { into, keys_of } => {
                let names: Vec<&'static str> =
                    keys_of.keys().chain(super::forms::other_keys(keys_of)).filter(|key| !scope.has(key)).collect();
                for name in names {
                    moved.extend(take(table, name).map(|entry| (vec![into, name], entry)));
                }
            }
            _ => {}
        }
    }
    moved
}

fn apply(form: Form, table: &mut Table, label: &str, findings: &mut Findings) {
    match form {
        Form::Alias { from, to } => {
            if let Some(entry) = remove(table, from) {
                put(table, to, entry, label, findings);
            }
        }
        Form::Short { at, inner } => at_path(table, at, &mut |node| wrap(node, inner)),
        Form::One { at } => at_path(table, at, &mut |node| {
            if !matches!(node.kind, Kind::List(_) | Kind::Null) {
                let item = node.clone();
                node.kind = Kind::List(vec![item]);
            }
        }),
        Form::Items { at, inner } => at_path(table, at, &mut |node| {
            node.as_list_mut().into_iter().flatten().for_each(|item| wrap(item, inner));
        }),
        Form::Spelling { at, from, to } => at_path(table, at, &mut |node| {
            respell(node, from, to);
            node.as_list_mut().into_iter().flatten().for_each(|item| respell(item, from, to));
        }),
        Form::Wrapper { .. } | Form::Spread { .. } | Form::Gather { .. } => {}
    }
}

fn wrap(node: &mut Node, inner: &str) {
    if !matches!(node.kind, Kind::Table(_) | Kind::Null) {
        let entry = Entry { key: inner.to_owned(), place: node.place.clone(), value: node.clone() };
        node.kind = Kind::Table(vec![entry]);
    }
}

fn respell(node: &mut Node, from: &str, to: &str) {
    if node.as_text() == Some(from) {
        node.kind = Kind::Text(to.to_owned());
    }
}

fn at_path(table: &mut Table, path: &[&str], change: &mut dyn FnMut(&mut Node)) {
    let Some((first, rest)) = path.split_first() else { return };
    let Some(entry) = table.iter_mut().find(|entry| entry.key == *first) else { return };
    match entry.value.as_table_mut() {
        _ if rest.is_empty() => change(&mut entry.value),
        Some(inner) => at_path(inner, rest, change),
        None => {}
    }
}

fn remove(table: &mut Table, path: &[&str]) -> Option<Entry> {
    match path.split_first()? {
        (last, []) => take(table, last),
        (first, rest) => {
            let inner = table.iter_mut().find(|entry| entry.key == *first)?.value.as_table_mut()?;
            remove(inner, rest)
        }
    }
}

/// Brings what lies below into canonical form.
fn descend(scope: Scope, table: &mut Table, label: &str, findings: &mut Findings) {
    match scope {
        Scope::Root => {
            below(Scope::Process, table, "process_settings", findings);
            for entry in entries_of(table, "connections") {
                let label = format!("connections.{}", entry.key);
                if let Some(inner) = entry.value.as_table_mut() {
                    bring(Scope::Connection, inner, &label, findings);
                }
            }
        }
        Scope::Connection => below(Scope::Credentials, table, "credentials", findings),
        Scope::Sync => {
            below(Scope::Member, table, "source", findings);
            below(Scope::Member, table, "target", findings);
            each(Scope::Spoke, table, "connected_systems", findings);
            each(Scope::Mapping, table, "field_mappings", findings);
            for entity in items_of(table, "entities").iter_mut().filter_map(Node::as_table_mut) {
                apply(Form::One { at: &["match_on"] }, entity, label, findings);
                apply(Form::Items { at: &["match_on"], inner: "field" }, entity, label, findings);
                for entry in entries_of(entity, "field_mappings") {
                    for mapping in entry.value.as_list_mut().into_iter().flatten().filter_map(Node::as_table_mut) {
                        bring(Scope::Mapping, mapping, "field_mappings", findings);
                    }
                }
            }
        }
        Scope::Mapping => {
            if let Some(entry) = table.iter_mut().find(|entry| entry.key == "transformation") {
                transformation_forms::bring(&mut entry.value);
            }
        }
        Scope::Process | Scope::Credentials | Scope::Member | Scope::Spoke => {}
    }
}

fn below(scope: Scope, table: &mut Table, key: &str, findings: &mut Findings) {
    if let Some(inner) = table.iter_mut().find(|entry| entry.key == key).and_then(|entry| entry.value.as_table_mut()) {
        bring(scope, inner, key, findings);
    }
}

fn each(scope: Scope, table: &mut Table, key: &str, findings: &mut Findings) {
    for (index, item) in items_of(table, key).iter_mut().enumerate() {
        if let Some(inner) = item.as_table_mut() {
            bring(scope, inner, &format!("{key}[{index}]"), findings);
        }
    }
}

fn items_of<'a>(table: &'a mut Table, key: &str) -> &'a mut [Node] {
    let items = table.iter_mut().find(|entry| entry.key == key).and_then(|entry| entry.value.as_list_mut());
    items.map_or(&mut [], Vec::as_mut_slice)
}

fn entries_of<'a>(table: &'a mut Table, key: &str) -> &'a mut [Entry] {
    let entries = table.iter_mut().find(|entry| entry.key == key).and_then(|entry| entry.value.as_table_mut());
    entries.map_or(&mut [], Vec::as_mut_slice)
}
