//! Every kind of connector that a configuration can name, whether it is built or not. A line here is all that the
//! configuration language needs to know of a vendor.

use concord_engine::config::{AuthType, ChangeDetection, ConnectorKind};

/// Every kind of connector, in the order in which documentation lists them.
pub const KINDS: &[ConnectorKind] = &[
    ConnectorKind {
        name: "postgres",
        aliases: &["postgresql"],
        built: true,
        required: &["database", "username"],
        credentials: &[
            "host",
            "port",
            "database",
            "schema",
            "username",
            "password",
            "sslmode",
            "sslrootcert",
            "sslcert",
            "sslkey",
        ],
        auth: &[AuthType::Password],
        change_detection: &[ChangeDetection::LogBased],
    },
    ConnectorKind {
        name: "sqlite",
        aliases: &["sqlite3"],
        built: true,
        required: &["path"],
        credentials: &["path"],
        auth: &[],
        change_detection: &[ChangeDetection::DatabaseTriggers],
    },
    ConnectorKind {
        name: "salesforce",
        aliases: &[],
        built: true,
        required: &["instance_url", "client_id"],
        credentials: &[
            "instance_url",
            "login_url",
            "client_id",
            "client_secret",
            "refresh_token",
            "private_key",
            "username",
            "scopes",
            "sslrootcert",
        ],
        auth: &[AuthType::OAuth2, AuthType::KeyPair],
        change_detection: &[ChangeDetection::LogBased, ChangeDetection::Polling],
    },
    not_built("mysql", &["mariadb"], &["database", "username"]),
    not_built("snowflake", &[], &["account", "username"]),
    not_built("netsuite", &[], &["account"]),
    not_built("zendesk", &[], &["instance_url"]),
    not_built("hubspot", &[], &["token"]),
];

const fn not_built(name: &'static str, aliases: &'static [&'static str], required: &'static [&'static str]) -> ConnectorKind {
    ConnectorKind { name, aliases, built: false, required, credentials: &[], auth: &[], change_detection: &[] }
}
