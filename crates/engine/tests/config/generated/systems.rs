//! Connected systems, and the process around them: every credential, limits, the ways in which messages leave.

use super::{limits, secrets, texts, values, words};
use concord_engine::config::model::process::{PagerDutyTransport, SlackTransport, Smtp, SmtpEncryption, WebhookTransport};
use concord_engine::config::*;
use proptest::prelude::*;
use proptest::strategy::Strategy;
use serde_json::json;

fn ssl_modes() -> impl Strategy<Value = Option<SslMode>> {
    prop::option::of(prop::sample::select(vec![
        SslMode::Disable,
        SslMode::Allow,
        SslMode::Prefer,
        SslMode::Require,
        SslMode::VerifyCa,
        SslMode::VerifyFull,
    ]))
}

/// A connection of a connector that is built, with what that one makes use of.
pub fn built() -> impl Strategy<Value = Connection> {
    let (password, option) = (prop::option::of(secrets()), prop::option::of(values()));
    let port = prop::option::of(1..u16::MAX);
    (words(), password, ssl_modes(), port, option, limits(), any::<bool>()).prop_map(
        |(database, password, sslmode, port, option, rate_limit, flag)| Connection {
            kind: "server".into(),
            credentials: Credentials {
                auth_type: flag.then_some(AuthType::Password),
                host: flag.then(|| database.clone()),
                schema: flag.then(|| database.clone()),
                database: Some(database.clone()),
                username: Some(database),
                password,
                sslmode,
                port,
                ..Credentials::default()
            },
            options: option.into_iter().map(|value| ("a_setting".to_owned(), json!({"deep": [value]}))).collect(),
            rate_limit,
        },
    )
}

/// A connection of a connector that is not built: nobody knows yet what it will make use of.
pub fn later() -> impl Strategy<Value = Connection> {
    let said = prop::collection::vec(prop::option::of(words()), 13);
    let kept = prop::collection::vec(prop::option::of(secrets()), 8);
    let either = prop::collection::vec(prop::option::of(texts()), 3);
    let ways = vec![AuthType::OAuth2, AuthType::Password, AuthType::KeyPair, AuthType::Token];
    let rest = (prop::option::of(prop::sample::select(ways)), ssl_modes(), prop::collection::vec(words(), 0..3), limits());
    (said, kept, either, rest).prop_map(|(mut said, mut kept, mut either, (auth_type, sslmode, scopes, rate_limit))| {
        let mut text = || said.pop().flatten();
        let mut secret = || kept.pop().flatten();
        let mut either = || either.pop().flatten();
        let certificate = text();
        let mut credentials = Credentials {
            auth_type,
            host: text(),
            port: None,
            database: text(),
            schema: text(),
            username: text(),
            password: secret(),
            sslmode,
            sslrootcert: text(),
            sslcert: certificate.clone(),
            sslkey: certificate,
            path: text(),
            instance_url: Some("https://a.example/".to_owned()),
            login_url: text(),
            account: text(),
            warehouse: text(),
            database_role: text(),
            email: text(),
            client_id: either(),
            client_secret: secret(),
            refresh_token: secret(),
            token: secret(),
            token_id: either(),
            token_secret: secret(),
            consumer_key: either(),
            consumer_secret: secret(),
            private_key: secret(),
            private_key_passphrase: secret(),
            certificate_id: text(),
            scopes,
        };
        whole(&mut credentials);
        Connection { kind: "later".into(), credentials, options: serde_json::Map::new(), rate_limit }
    })
}

/// Takes out what is refused without something else beside it.
fn whole(credentials: &mut Credentials) {
    let has_key = credentials.private_key.is_some();
    if !has_key && credentials.client_secret.is_none() && credentials.refresh_token.is_none() {
        credentials.client_id = None;
    }
    credentials.private_key_passphrase.take_if(|_| !has_key);
    let has_token = credentials.token.is_some() || credentials.token_secret.is_some();
    credentials.auth_type.take_if(|way| match way {
        AuthType::KeyPair => !has_key,
        AuthType::Token => !has_token,
        AuthType::OAuth2 | AuthType::Password => false,
    });
}

fn notifiers() -> impl Strategy<Value = Notifiers> {
    let protected = prop::sample::select(vec![SmtpEncryption::Starttls, SmtpEncryption::Tls, SmtpEncryption::None]);
    let mail = (words(), 1..u16::MAX, prop::option::of(words()), prop::option::of(secrets()), words(), protected)
        .prop_map(|(host, port, username, password, from, encryption)| Smtp { host, port, username, password, from, encryption });
    let slack = (prop::option::of(secrets()), prop::option::of(secrets()))
        .prop_map(|(token, webhook_url)| SlackTransport { token, webhook_url });
    let pagers = secrets().prop_map(|routing_key| PagerDutyTransport { routing_key });
    let webhooks = (prop::option::of(texts()), prop::option::of(secrets()))
        .prop_map(|(url, signing_secret)| WebhookTransport { url, signing_secret });
    (prop::option::of(mail), prop::option::of(slack), prop::option::of(pagers), prop::option::of(webhooks))
        .prop_map(|(smtp, slack, pagerduty, webhook)| Notifiers { smtp, slack, pagerduty, webhook })
}

/// Settings of the process.
pub fn processes() -> impl Strategy<Value = ProcessSettings> {
    let address = prop::option::of(prop::sample::select(vec!["127.0.0.1:9464", "localhost:0", "[::1]:9464"]));
    let level = prop::sample::select(vec![LogLevel::Trace, LogLevel::Info, LogLevel::Error]);
    let format = prop::sample::select(vec![LogFormat::Text, LogFormat::Json]);
    let logging = (level, format, prop::option::of(words()), 1..5000_u32)
        .prop_map(|(level, format, directory, retention_days)| Logging { level, format, directory, retention_days });
    (words(), address, prop::option::of(words()), logging, notifiers()).prop_map(
        |(path, address, control_socket, logging, notifiers)| ProcessSettings {
            store: StoreSettings { path },
            metrics: MetricsSettings { address: address.map(str::to_owned) },
            control_socket,
            logging,
            notifiers,
        },
    )
}
