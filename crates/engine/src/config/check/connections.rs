//! Connections: known connectors, credentials that are complete, and nothing secret in plain sight.

use super::Checker;
use crate::config::diagnostic::{Diagnostic, did_you_mean, one_of};
use crate::config::kinds::{self, ConnectorKind};
use crate::config::model::connection::{AuthType, Connection};
use crate::config::node::step;
use crate::error::Code;
use serde_json::Value;

pub(super) fn check(checker: &mut Checker<'_>) {
    for (name, connection) in &checker.config.connections {
        let at = step("/connections", name.as_str());
        match kinds::find(checker.kinds, &connection.kind) {
            Some(kind) => {
                complete(checker, &at, name.as_str(), connection, kind);
                if kind.built {
                    used(checker, &at, connection, kind);
                }
            }
            None => {
                let names: Vec<&str> = checker.kinds.iter().map(|kind| kind.name).collect();
                let hint = did_you_mean(&connection.kind, names.iter().copied());
                let message = format!("there is no connector `{}`{hint}", connection.kind);
                let finding = Diagnostic::error(Code::ConfigUnknownValue, message);
                checker.say(&format!("{at}/type"), finding.instead(format!("Write {}.", one_of(names))));
            }
        }
        halves(checker, &at, connection);
        no_password_in_url(checker, &at, connection);
        no_secret_in_options(checker, &format!("{at}/options"), &connection.options);
        let is_used = checker.config.syncs.iter().any(|sync| sync.systems().contains(&name));
        if !is_used && !checker.config.syncs.is_empty() {
            checker.idle(&at, format!("the connection `{name}` is used by no sync"));
        }
    }
}

/// Whether what the connector needs was given.
fn complete(checker: &mut Checker<'_>, at: &str, name: &str, connection: &Connection, kind: &ConnectorKind) {
    let given = serde_json::to_value(&connection.credentials).unwrap_or_default();
    let missing: Vec<&str> = kind.required.iter().copied().filter(|field| given.get(*field).is_none()).collect();
    if missing.is_empty() {
        return;
    }
    let proposal: Vec<String> = missing.iter().map(|field| format!("\"{field}\": {}", example(field, name))).collect();
    let message = format!("the connection `{name}` does not say {}", missing.join(", "));
    let remedy = format!("Add \"credentials\": {{ {} }}.", proposal.join(", "));
    let pointer = format!("{at}/credentials");
    checker.say(&pointer, Diagnostic::error(Code::ConfigMissing, message).instead(remedy));
}

/// Whether the connector does something with what was given.
fn used(checker: &mut Checker<'_>, at: &str, connection: &Connection, kind: &ConnectorKind) {
    if let Some(asked) = connection.credentials.auth_type.filter(|asked| !kind.auth.contains(asked) && !kind.auth.is_empty()) {
        let message = format!("`{}` does not log in by `{}`", kind.name, asked.name());
        let ways = one_of(kind.auth.iter().map(|way| way.name()));
        let finding = Diagnostic::error(Code::ConfigUnknownValue, message).instead(format!("Write {ways}, or leave it out."));
        checker.say(&format!("{at}/credentials/auth_type"), finding);
    }
    let given = serde_json::to_value(&connection.credentials).unwrap_or_default();
    let is_read = |field: &str| kind.credentials.contains(&field) || (field == "auth_type" && !kind.auth.is_empty());
    for field in given.as_object().into_iter().flat_map(|given| given.keys()).filter(|field| !is_read(field)) {
        checker.idle(&format!("{at}/credentials/{field}"), format!("`{field}` is not used by `{}`", kind.name));
    }
}

fn example(field: &str, connection: &str) -> String {
    let secret = ["password", "token", "client_secret", "private_key", "token_secret", "consumer_secret"].contains(&field);
    match field {
        _ if secret => format!("{{\"env\": \"{}_{}\"}}", connection.to_uppercase(), field.to_uppercase()),
        "host" => "\"localhost\"".to_owned(),
        "path" => format!("\"{connection}.db\""),
        _ => "\"…\"".to_owned(),
    }
}

/// Settings that mean nothing without another.
fn halves(checker: &mut Checker<'_>, at: &str, connection: &Connection) {
    let credentials = &connection.credentials;
    let needs = [
        ("sslcert", credentials.sslcert.is_some(), "sslkey", credentials.sslkey.is_some()),
        ("sslkey", credentials.sslkey.is_some(), "sslcert", credentials.sslcert.is_some()),
        (
            "client_id",
            credentials.client_id.is_some(),
            "client_secret, private_key or refresh_token",
            credentials.client_secret.is_some() || credentials.private_key.is_some() || credentials.refresh_token.is_some(),
        ),
        (
            "private_key_passphrase",
            credentials.private_key_passphrase.is_some(),
            "private_key",
            credentials.private_key.is_some(),
        ),
        ("auth_type", credentials.auth_type == Some(AuthType::KeyPair), "private_key", credentials.private_key.is_some()),
        (
            "auth_type",
            credentials.auth_type == Some(AuthType::Token),
            "token",
            credentials.token.is_some() || credentials.token_secret.is_some(),
        ),
    ];
    for (given, is_given, needed, is_there) in needs {
        if is_given && !is_there {
            let message = format!("`{given}` needs `{needed}` beside it");
            checker.error(Code::ConfigMissing, &format!("{at}/credentials/{given}"), message);
        }
    }
}

fn no_password_in_url(checker: &mut Checker<'_>, at: &str, connection: &Connection) {
    let credentials = &connection.credentials;
    for (key, url) in
        [("instance_url", &credentials.instance_url), ("login_url", &credentials.login_url), ("host", &credentials.host)]
    {
        let authority =
            url.as_deref().and_then(|url| url.split_once("://")).map(|(_, rest)| rest.split('/').next().unwrap_or(rest));
        if authority.and_then(|authority| authority.rsplit_once('@')).is_some_and(|(user, _)| user.contains(':')) {
            let message = format!("`{key}` holds a password, and a secret must not be written plainly");
            let remedy = "Take user and password out of the URL: \"username\": \"…\", \"password\": {\"env\": \"NAME\"}.";
            let finding = Diagnostic::error(Code::ConfigPlainSecret, message).instead(remedy);
            checker.say(&format!("{at}/credentials/{key}"), finding);
        }
    }
}

/// Options are free, but a text under a key that speaks of secrets is one.
fn no_secret_in_options(checker: &mut Checker<'_>, at: &str, options: &serde_json::Map<String, Value>) {
    const SECRETS: [&str; 7] = ["password", "passwd", "passphrase", "secret", "token", "api_key", "private_key"];
    for (key, value) in options {
        let pointer = step(at, key);
        let speaks_of_secrets = SECRETS.iter().any(|secret| key.to_lowercase().ends_with(secret));
        match value {
            Value::String(_) if speaks_of_secrets => {
                let message = format!("`{key}` looks like a secret and must not be written plainly");
                let remedy = format!("Write where it is to be found: \"{key}\": {{\"env\": \"{}\"}}.", key.to_uppercase());
                checker.say(&pointer, Diagnostic::error(Code::ConfigPlainSecret, message).instead(remedy));
            }
            Value::Object(inner) => no_secret_in_options(checker, &pointer, inner),
            _ => {}
        }
    }
}
