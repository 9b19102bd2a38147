//! Documents made into one canonical tree: settings of the process, connections by name, syncs in the order in which
//! they were written. Partial documents merge in the order given; connections written inside a member move among the
//! connections, under a name that does not depend on other documents.

use super::canonical::bring;
use super::diagnostic::{Diagnostic, Findings};
use super::forms::other_keys;
use super::inline;
use super::merge::{dedupe, insert};
use super::node::{Entry, Kind, Node, Place, Table, take};
use super::vocabulary::Scope;
use crate::error::Code;

/// The canonical tree of all documents together.
pub(crate) fn assemble(documents: Vec<Node>, findings: &mut Findings) -> Option<Node> {
    let start = documents.first()?.place.clone();
    let mut root = Table::new();
    let mut partials = Vec::new();
    for document in documents {
        let place = document.place.clone();
        match dedupe(document, "", findings).kind {
            Kind::Table(entries) => split(entries, place, &mut root, &mut partials, findings),
            _ => findings.add(&place, Diagnostic::error(Code::ConfigWrongType, "the document must be an object: `{ … }`")),
        }
    }
    let mut syncs = join_partials(partials, findings);
    inline::extract_connections(&mut root, &mut syncs, findings);
    syncs.iter_mut().for_each(infer_sync_type);
    let place = syncs.first().map_or(&start, |sync| &sync.place).clone();
    let list = Node::list(syncs, place.clone());
    root.push(Entry { key: "syncs".to_owned(), place, value: list });
    Some(Node::table(root, start))
}

/// Divides a document into what all syncs share and the syncs, whole or partial.
fn split(entries: Table, place: Place, root: &mut Table, partials: &mut Vec<Node>, findings: &mut Findings) {
    let mut shared = Table::new();
    let mut own = Table::new();
    for entry in entries {
        match entry.key.as_str() {
            "$schema" => {}
            "syncs" => take_list(entry, partials, &mut shared),
            key if Scope::Sync.has(key) || other_keys(Scope::Sync).any(|other| other == key) => own.push(entry),
            _ => shared.push(entry),
        }
    }
    bring(Scope::Root, &mut shared, "", findings);
    shared.into_iter().for_each(|entry| insert(root, entry, "", findings));
    if !own.is_empty() {
        partials.push(Node::table(own, place));
    }
}

/// A `syncs` that is no list stays where it is, for the shape check to name.
fn take_list(entry: Entry, partials: &mut Vec<Node>, shared: &mut Table) {
    match entry.value.kind {
        Kind::List(items) => partials.extend(items),
        Kind::Table(_) => partials.push(entry.value),
        _ => shared.push(entry),
    }
}

/// Joins the partial syncs of one name; one without a name belongs to the only sync that there is.
fn join_partials(partials: Vec<Node>, findings: &mut Findings) -> Vec<Node> {
    let mut syncs: Vec<Node> = Vec::new();
    let mut nameless: Vec<Node> = Vec::new();
    for mut partial in partials {
        match partial.as_table_mut() {
            Some(table) => bring(Scope::Sync, table, "", findings),
            None => {
                syncs.push(partial);
                continue;
            }
        }
        match name_of(&partial).map(str::to_owned) {
            None => nameless.push(partial),
            Some(name) => match syncs.iter_mut().find(|sync| name_of(sync) == Some(name.as_str())) {
                Some(known) if known.place.file != partial.place.file => join(known, partial, findings),
                Some(known) => {
                    let message = format!("two syncs are called `{name}`: here and at {}", known.place);
                    findings.add(&partial.place, Diagnostic::error(Code::ConfigDuplicateName, message));
                }
                None => syncs.push(partial),
            },
        }
    }
    for partial in nameless {
        match syncs.as_mut_slice() {
            [only] => join(only, partial, findings),
            [] => syncs.push(partial),
            [..] => {
                let message = format!("it is not said which of the {} syncs these settings belong to", syncs.len());
                let remedy = "Add the sync's `name` beside them.";
                findings.add(&partial.place, Diagnostic::error(Code::ConfigMissing, message).instead(remedy));
            }
        }
    }
    syncs
}

fn join(known: &mut Node, partial: Node, findings: &mut Findings) {
    if let (Some(table), Kind::Table(entries)) = (known.as_table_mut(), partial.kind) {
        entries.into_iter().for_each(|entry| insert(table, entry, "", findings));
    }
}

fn name_of(sync: &Node) -> Option<&str> {
    sync.get("name").and_then(Node::as_text)
}

/// `source_to_target` and `target_to_source` say the type of a sync that does not say it itself.
fn infer_sync_type(sync: &mut Node) {
    let flag = |key: &str| match sync.get(key) {
        Some(Node { kind: Kind::Bool(value), place }) => Some((*value, place.clone())),
        _ => None,
    };
    let (forth, back) = (flag("source_to_target"), flag("target_to_source"));
    let Some(place) = forth.as_ref().or(back.as_ref()).map(|(_, place)| place.clone()) else { return };
    let inferred = match (forth.map(|(value, _)| value), back.map(|(value, _)| value)) {
        (Some(true), Some(true)) => "bidirectional",
        (Some(true), Some(false)) | (Some(false), Some(true)) => "one_way",
        _ => return,
    };
    let Some(table) = sync.as_table_mut() else { return };
    if !table.iter().any(|entry| entry.key == "sync_type") {
        let value = Node::text(inferred, place.clone());
        table.push(Entry { key: "sync_type".to_owned(), place, value });
    }
}

/// Takes the entry of a key out of a tree that should be an object.
pub(crate) fn take_from(node: &mut Node, key: &str) -> Option<Entry> {
    take(node.as_table_mut()?, key)
}
