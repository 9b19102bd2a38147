//! Syncs that get in each other's way on one field, as far as the documents tell.

use crate::{listed, parse};

/// Syncs between three files; each line is one sync's name, source, target and further settings.
fn said(syncs: &[[&str; 4]]) -> String {
    let written = syncs.iter().map(|[name, source, target, more]| {
        format!(r#"{{ "name": "{name}", "source": "{source}", "target": "{target}", {more} }}"#)
    });
    let text = format!(
        "{{ \"connections\": {{ \"a\": {{ \"type\": \"file\", \"path\": \"a\" }}, \"b\": {{ \"type\": \"file\", \"path\": \"b\" }}, \
         \"c\": {{ \"type\": \"file\", \"path\": \"c\" }} }},\n\"syncs\": [\n{}\n] }}",
        written.collect::<Vec<_>>().join(",\n")
    );
    let loaded = parse(&text);
    assert!(!loaded.has_errors(), "{}", listed(&loaded));
    listed(&loaded).lines().filter(|line| !line.contains("is used by no sync")).collect::<Vec<_>>().join("\n")
}

const ONE_WAY: &str = r#""sync_type": "one_way", "field_mappings": [{ "source": "name", "target": "name" }]"#;
const BOTH_WAYS: &str = r#""sync_type": "bidirectional", "field_mappings": [{ "source": "name", "target": "name" }]"#;

#[test]
fn a_field_that_three_syncs_pass_round_is_said_at_the_last_of_them() {
    let ring = "a.json:5:1: warning CON-1820: the syncs `first`, `second` and `third` pass a field round: \
                a.x.name → b.x.name (`first`) → c.x.name (`second`) → a.x.name (`third`)";
    for way in [ONE_WAY, BOTH_WAYS] {
        assert_eq!(
            said(&[["first", "a.x", "b.x", way], ["second", "b.x", "c.x", way], ["third", "c.x", "a.x", way]]),
            ring,
            "{way}"
        );
    }
    // Two syncs of the same pair pass a field to and fro.
    let two = said(&[["first", "a.x", "b.x", ONE_WAY], ["second", "b.x", "a.x", ONE_WAY]]);
    assert!(two.contains("a.json:4:1: warning CON-1820: the syncs `first` and `second`"), "{two}");
}

#[test]
fn a_ring_that_one_sync_leaves_open_is_none() {
    let first = ["first", "a.x", "b.x", ONE_WAY];
    let second = ["second", "b.x", "c.x", ONE_WAY];
    for third in [
        r#""sync_type": "one_way", "field_mappings": [{ "source": "other", "target": "name" }]"#,
        r#""sync_type": "bidirectional", "field_mappings": [{ "source": "name", "target": "name", "direction": "to_source" }, { "source": "other", "target": "other" }]"#,
        r#""sync_type": "one_way", "exclude_fields": ["name"], "field_mappings": [{ "source": "other", "target": "other" }]"#,
    ] {
        let found = said(&[first, second, ["third", "c.x", "a.x", third]]);
        assert!(!found.contains("CON-1820"), "{third}: {found}");
    }
    // It is closed by a field that is only included, and by a sync in reverse.
    let included = r#""sync_type": "one_way", "include_fields": ["name"]"#;
    assert!(said(&[first, second, ["third", "c.x", "a.x", included]]).contains("CON-1820"));
    let reverse =
        r#""source_to_target": false, "target_to_source": true, "field_mappings": [{ "source": "name", "target": "name" }]"#;
    assert!(said(&[first, second, ["third", "a.x", "c.x", reverse]]).contains("CON-1820"));
}

#[test]
fn a_field_that_two_syncs_own_is_said() {
    assert_eq!(
        said(&[["first", "a.x", "c.x", ONE_WAY], ["second", "b.x", "c.x", ONE_WAY]]),
        "a.json:4:1: warning CON-1821: the syncs `first` and `second` all write c.x.name, each over what the other wrote: \
         from a.x.name (`first`) and b.x.name (`second`)"
    );
    // One that only its own edits flow from takes none of the other's.
    let owned = r#""sync_type": "bidirectional", "field_mappings": [{ "source": "name", "target": "name", "owner": "b" }]"#;
    assert!(said(&[["first", "a.x", "c.x", BOTH_WAYS], ["second", "b.x", "c.x", owned]]).contains("CON-1821"));
    // In a star both ways edits of all go to all.
    assert_eq!(said(&[["first", "a.x", "c.x", BOTH_WAYS], ["second", "b.x", "c.x", BOTH_WAYS]]), "");
    // Other objects are others.
    assert_eq!(said(&[["first", "a.x", "c.x", ONE_WAY], ["second", "b.x", "c.y", ONE_WAY]]), "");
}
