//! Systems and the members in them: what a connector makes no use of is said, and what would be taken for something else is
//! refused.

use crate::{listed, parse};

/// What is said of a pair between a server and a file, whose connections and members say more in the places of the words.
fn said(server: &str, file: &str, source: &str, target: &str) -> String {
    let text = format!(
        r#"{{ "name": "s", "sync_type": "one_way", "connections": {{
"crm": {{ "type": "server", "database": "d", "username": "u"{server} }},
"erp": {{ "type": "file", "path": "b.db"{file} }} }},
"source": {{ "system": "crm", "object": "a"{source} }},
"target": {{ "system": "erp", "object": "a"{target} }} }}"#
    );
    listed(&parse(&text))
}

fn remedy(source: &str) -> String {
    let text = format!(
        r#"{{ "name": "s", "sync_type": "one_way", "connections": {{
        "crm": {{ "type": "server", "database": "d", "username": "u" }}, "erp": {{ "type": "file", "path": "b.db" }} }},
        "source": {{ "system": "crm", "object": "a"{source} }}, "target": "erp.a" }}"#
    );
    parse(&text).diagnostics[0].remedy.clone()
}

#[test]
fn a_way_to_log_in_that_a_connector_does_not_have_is_refused() {
    assert_eq!(
        said(r#", "auth_type": "oauth2""#, "", "", ""),
        "a.json:2:75: error CON-1005: `server` does not log in by `oauth2`"
    );
    assert_eq!(said(r#", "auth_type": "password""#, "", "", ""), "");
    // Where nobody asks who we are it merely does nothing.
    assert_eq!(
        said("", r#", "auth_type": "password""#, "", ""),
        "a.json:3:55: warning CON-1017: `auth_type` is not used by `file`"
    );
}

#[test]
fn what_a_connector_makes_no_use_of_is_said() {
    let leftovers = r#", "warehouse": "w", "client_secret": { "env": "X" }"#;
    assert_eq!(
        said(leftovers, r#", "host": "h""#, "", ""),
        "a.json:2:75: warning CON-1017: `warehouse` is not used by `server`\n\
         a.json:2:97: warning CON-1017: `client_secret` is not used by `server`\n\
         a.json:3:50: warning CON-1017: `host` is not used by `file`"
    );
    // Nobody knows yet what a connector will use that is not built.
    let later = r#"{ "name": "s", "sync_type": "one_way", "target": { "type": "file", "path": "b.db", "object": "A" },
"source": { "type": "later", "object": "A", "instance_url": "https://a.example", "warehouse": "w", "auth_type": "password" } }"#;
    assert_eq!(listed(&parse(later)).matches("CON-").count(), 1, "{}", listed(&parse(later)));
}

#[test]
fn another_database_than_the_connections_is_refused_beside_its_name() {
    assert_eq!(
        said("", "", r#", "database": "other""#, ""),
        "a.json:4:57: error CON-1009: `crm` reaches the database `d`, and the source names `other`"
    );
    assert!(remedy(r#", "database": "other""#).contains("define a connection of its own for `other`"));
    assert_eq!(
        said("", "", "", r#", "database": "other""#),
        "a.json:5:57: error CON-1009: `erp` reaches no database by name, and the target names `other`"
    );
    assert_eq!(said("", "", r#", "database": "d""#, ""), "");
}

#[test]
fn a_table_is_not_synced_with_itself_by_naming_its_database_twice() {
    let text = r#"{ "name": "s", "sync_type": "one_way", "connections": { "crm": { "type": "server", "database": "d", "username": "u" } },
"source": { "system": "crm", "object": "a" }, "target": { "system": "crm", "object": "a", "database": "d" } }"#;
    assert_eq!(listed(&parse(text)), "a.json:2:57: error CON-1009: source and target are the same: `a` of `crm`");
}

#[test]
fn settings_of_a_connector_stand_with_the_connection() {
    assert_eq!(
        said("", "", r#", "options": { "allow_ddl": false }"#, ""),
        "a.json:4:56: error CON-1009: the source names the connection `crm`, and `options` belong to a connection"
    );
    assert!(remedy(r#", "options": { "allow_ddl": false }"#).contains(r#""connections": { "crm": { "options""#));
    assert_eq!(said(r#", "options": { "allow_ddl": false }"#, "", "", ""), "");
}
