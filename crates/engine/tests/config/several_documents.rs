//! Documents that are made one, in the order given.

use crate::{KINDS, listed};
use concord_engine::config::{self, Document, Loaded};

fn parse(texts: &[&str]) -> Loaded {
    let names = ["a.json", "b.json", "c.json"];
    let documents: Vec<Document<'_>> = texts.iter().zip(names).map(|(text, name)| Document { name, text }).collect();
    config::parse(&documents, KINDS)
}

const CONNECTIONS: &str =
    r#"{ "connections": { "crm": { "type": "file", "path": "a" }, "erp": { "type": "file", "path": "b" } } }"#;
const SYNC: &str = r#"{ "name": "accounts", "sync_type": "bidirectional", "source": "crm.a", "target": "erp.b" }"#;

#[test]
fn connections_members_and_policies_can_stand_in_files_of_their_own() {
    let loaded = parse(&[CONNECTIONS, SYNC, r#"{ "conflict_resolution": "manual", "guards": { "max_deletes": 7 } }"#]);
    assert_eq!(listed(&loaded), "");
    let config = loaded.config.unwrap();
    assert_eq!(config.syncs.len(), 1);
    assert_eq!(config.syncs[0].guards.max_deletes, 7);
}

#[test]
fn a_file_may_hold_a_sync_each() {
    let other = SYNC.replace("accounts", "contacts").replace("crm.a", "crm.c");
    let loaded = parse(&[CONNECTIONS, SYNC, &other]);
    assert_eq!(listed(&loaded), "");
    let names: Vec<String> = loaded.config.unwrap().syncs.iter().map(|sync| sync.name.to_string()).collect();
    assert_eq!(names, ["accounts", "contacts"]);
}

#[test]
fn settings_of_an_unnamed_sync_among_several_are_refused() {
    let both = format!(r#"{{ "syncs": [{SYNC}, {}] }}"#, SYNC.replace("accounts", "contacts").replace("crm.a", "crm.c"));
    let loaded = parse(&[CONNECTIONS, &both, r#"{ "conflict_resolution": "manual" }"#]);
    assert_eq!(listed(&loaded), "c.json:1:1: error CON-1008: it is not said which of the 2 syncs these settings belong to");
}

#[test]
fn settings_find_their_sync_by_its_name() {
    let both = format!(r#"{{ "syncs": [{SYNC}, {}] }}"#, SYNC.replace("accounts", "contacts").replace("crm.a", "crm.c"));
    let loaded = parse(&[CONNECTIONS, &both, r#"{ "name": "contacts", "on_delete": "detach" }"#]);
    assert_eq!(listed(&loaded), "");
    let config = loaded.config.unwrap();
    assert_eq!(config.syncs[1].on_delete, config::OnDelete::Detach);
    assert_eq!(config.syncs[0].on_delete, config::OnDelete::Propagate);
}

#[test]
fn two_files_that_disagree_are_both_named() {
    let loaded = parse(&[CONNECTIONS, SYNC, r#"{ "sync_type": "one_way" }"#]);
    assert_eq!(
        listed(&loaded),
        "c.json:1:16: error CON-1007: `sync_type` is set twice, to different values: here and at b.json:1:36"
    );
}

#[test]
fn two_syncs_of_one_name_in_a_file_are_refused() {
    let loaded = parse(&[CONNECTIONS, &format!(r#"{{ "syncs": [{SYNC}, {SYNC}] }}"#)]);
    let said = listed(&loaded);
    assert!(said.contains("error CON-1012: two syncs are called `accounts`: here and at b.json:1:13"), "{said}");
}

#[test]
fn two_inline_connections_never_share_a_name_by_chance() {
    let sync = |name: &str, path: &str| {
        format!(
            r#"{{ "name": "{name}", "sync_type": "one_way", "source": {{ "type": "file", "path": "{path}", "table": "t" }}, "target": "crm.{name}" }}"#
        )
    };
    let loaded = parse(&[CONNECTIONS, &sync("one", "x"), &sync("two", "y")]);
    let said = listed(&loaded);
    assert!(
        said.contains(
            "c.json:1:52: error CON-1012: two different connections would both be called `file`: here and at b.json:1:52"
        ),
        "{said}"
    );
}

#[test]
fn a_syntax_error_in_one_file_leaves_the_findings_of_the_others() {
    let loaded = parse(&["{ ", r#"{ "colour": 1 }"#]);
    let said = listed(&loaded);
    assert!(said.contains("a.json:1:") && said.contains("CON-1001"), "{said}");
    assert!(said.contains("b.json:1:3: error CON-1003: there is no key `colour`"), "{said}");
}

#[test]
fn a_folder_is_read_in_the_order_of_names_and_what_cannot_be_read_is_said() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("1.json"), CONNECTIONS).unwrap();
    std::fs::write(folder.path().join("2.yaml"), "name: s\nsync_type: one_way\nsource: crm.a\ntarget: erp.b\n").unwrap();
    std::fs::write(folder.path().join("notes.txt"), "not a configuration").unwrap();
    let loaded = config::load(&[folder.path().to_owned()], KINDS);
    assert_eq!(listed(&loaded), "");
    assert_eq!(loaded.config.unwrap().syncs[0].name.as_str(), "s");
    let missing = config::load(&[folder.path().join("nothing.json")], KINDS);
    assert!(missing.config.is_none());
    assert!(listed(&missing).contains("CON-1002"), "{}", listed(&missing));
}
