//! The configuration language from outside: documents in, findings or a canonical form out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

mod documentation;
mod findings;
mod forms;
mod generated;
mod overlaps;
mod properties;
mod schema;
mod several_documents;
mod systems;

use concord_engine::config::{self, AuthType, ChangeDetection, Config, ConnectorKind, Document, Loaded};

/// Connectors as a configuration sees them: two that are built, one that is not.
pub const KINDS: &[ConnectorKind] = &[
    ConnectorKind {
        name: "server",
        aliases: &["srv"],
        built: true,
        required: &["database", "username"],
        credentials: &["host", "port", "database", "schema", "username", "password", "sslmode"],
        auth: &[AuthType::Password, AuthType::KeyPair],
        change_detection: &[ChangeDetection::LogBased],
    },
    ConnectorKind {
        name: "file",
        aliases: &[],
        built: true,
        required: &["path"],
        credentials: &["path"],
        auth: &[],
        change_detection: &[ChangeDetection::DatabaseTriggers],
    },
    ConnectorKind {
        name: "later",
        aliases: &[],
        built: false,
        required: &["instance_url"],
        credentials: &[],
        auth: &[],
        change_detection: &[],
    },
];

/// What comes of one JSON document.
pub fn parse(text: &str) -> Loaded {
    config::parse(&[Document { name: "a.json", text }], KINDS)
}

/// The configuration of a document without findings.
pub fn clean(text: &str) -> Config {
    let loaded = parse(text);
    assert_eq!(listed(&loaded), "", "in {text}");
    loaded.config.unwrap()
}

/// Every finding of a run, one a line: place, severity, code, message.
pub fn listed(loaded: &Loaded) -> String {
    let line = |finding: &config::Diagnostic| {
        let whole = finding.to_string();
        whole.lines().next().unwrap().to_owned()
    };
    loaded.diagnostics.iter().map(line).collect::<Vec<String>>().join("\n")
}

/// Two connections and a pair, with more settings of the sync in the place of `$`.
pub fn pair_with(settings: &str) -> String {
    format!(
        r#"{{ "name": "accounts", "sync_type": "bidirectional",
"connections": {{ "crm": {{ "type": "file", "path": "crm.db" }}, "erp": {{ "type": "file", "path": "erp.db" }} }},
"source": {{ "system": "crm", "object": "accounts" }}, "target": {{ "system": "erp", "object": "customers" }},
{settings} }}"#
    )
}
