//! A connected system: which connector speaks to it, and how it is reached.
//! The engine knows no vendor: the kind is a text that the connectors' own list explains (see `kinds`).

use super::Options;
use super::running::RateLimit;
use super::secret::{Secret, TextOrSecret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A connected system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Connection {
    /// The connector that speaks to this system.
    #[serde(rename = "type")]
    pub kind: String,
    /// How the system is reached and who we are there.
    #[serde(default)]
    pub credentials: Credentials,
    /// The connector's own settings: free JSON, kept as it is.
    #[serde(default, skip_serializing_if = "Options::is_empty")]
    pub options: Options,
    /// How much of the system's allowance may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
}

/// How a system is reached and who we are there. Each connector uses the fields that it needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Credentials {
    /// How we prove who we are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_type: Option<AuthType>,
    /// Host name, address, or the folder of a Unix socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Port; the system's usual one when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// The database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The schema of objects whose names give none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// The user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// Whether TLS is used and how much of the certificate is checked; left out, `prefer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sslmode: Option<SslMode>,
    /// A file with the certificates of the authorities that are trusted (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sslrootcert: Option<String>,
    /// A file with our certificate (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sslcert: Option<String>,
    /// A file with the private key of our certificate (PEM).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sslkey: Option<String>,
    /// The database file, for databases that are a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The URL of our instance of a hosted product.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_url: Option<String>,
    /// The URL at which tokens are asked for, where it is not the usual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login_url: Option<String>,
    /// Our account with a hosted product.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The warehouse that runs statements.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warehouse: Option<String>,
    /// The role that statements run under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_role: Option<String>,
    /// The e-mail address of the user, where products name users so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The client id of an OAuth application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<TextOrSecret>,
    /// The client secret of an OAuth application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Secret>,
    /// The refresh token of an OAuth application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<Secret>,
    /// A token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// The id of a token that has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_id: Option<TextOrSecret>,
    /// The secret half of a token that has two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_secret: Option<Secret>,
    /// The key of the application that a token belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer_key: Option<TextOrSecret>,
    /// The secret of the application that a token belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer_secret: Option<Secret>,
    /// A private key (PEM), for `key_pair`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key: Option<Secret>,
    /// The passphrase of the private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key_passphrase: Option<Secret>,
    /// The id of the certificate that belongs to the private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_id: Option<String>,
    /// What a token is asked to allow.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
}

/// How we prove who we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthType {
    /// OAuth 2.
    #[serde(rename = "oauth2")]
    OAuth2,
    /// User name and password.
    Password,
    /// A private key whose public half the system knows.
    KeyPair,
    /// A token.
    Token,
}

impl AuthType {
    /// The name under which it is written.
    pub fn name(self) -> &'static str {
        match self {
            AuthType::OAuth2 => "oauth2",
            AuthType::Password => "password",
            AuthType::KeyPair => "key_pair",
            AuthType::Token => "token",
        }
    }
}

/// TLS as libpq names its modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// Without TLS first, with it if the server insists.
    Allow,
    /// With TLS first, without it if the server has none.
    Prefer,
    /// TLS or nothing; the certificate is not checked.
    Require,
    /// TLS, and the certificate must come from a trusted authority.
    VerifyCa,
    /// TLS, the certificate must come from a trusted authority and name the host.
    VerifyFull,
}
