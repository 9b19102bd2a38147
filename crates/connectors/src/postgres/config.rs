//! What the connector must be told: where the server is, who we are there, and how far we may go.
//! Plain data, already resolved: no file is read and no environment asked here, and nothing prints the password.

use crate::settings::Asked;
use concord_engine::config::SslMode as Written;
use concord_engine::error::Result;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A resolved password. Its `Debug` hides it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Wraps a password.
    pub fn new(text: impl Into<String>) -> Password {
        Password(text.into())
    }

    /// The password itself, for the one place that sends it.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "(none)" } else { "(hidden)" })
    }
}

/// Whether and how a connection is encrypted: libpq's names and meanings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SslMode {
    /// Never.
    Disable,
    /// Only if the server insists.
    Allow,
    /// If the server can.
    #[default]
    Prefer,
    /// Always; the certificate is not verified (but is, as for `VerifyCa`, when a root certificate is given).
    Require,
    /// Always; the certificate must come from a trusted authority.
    VerifyCa,
    /// Always; the certificate must come from a trusted authority and name the host.
    VerifyFull,
}

impl std::str::FromStr for SslMode {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<SslMode, String> {
        Ok(match text {
            "disable" => SslMode::Disable,
            "allow" => SslMode::Allow,
            "prefer" => SslMode::Prefer,
            "require" => SslMode::Require,
            "verify-ca" => SslMode::VerifyCa,
            "verify-full" => SslMode::VerifyFull,
            other => {
                return Err(format!(
                    "{other:?} is not an sslmode; write disable, allow, prefer, require, verify-ca or verify-full"
                ));
            }
        })
    }
}

impl From<Written> for SslMode {
    fn from(written: Written) -> SslMode {
        match written {
            Written::Disable => SslMode::Disable,
            Written::Allow => SslMode::Allow,
            Written::Prefer => SslMode::Prefer,
            Written::Require => SslMode::Require,
            Written::VerifyCa => SslMode::VerifyCa,
            Written::VerifyFull => SslMode::VerifyFull,
        }
    }
}

/// One connection to a PostgreSQL database.
#[derive(Clone, Debug)]
pub struct Config {
    /// Host name, address, or the directory of a Unix socket (begins with `/`).
    pub host: String,
    /// TCP port (5432).
    pub port: u16,
    /// Database.
    pub database: String,
    /// The schema of tables that are named without one (`public`).
    pub schema: String,
    /// Role.
    pub username: String,
    /// Its password.
    pub password: Password,
    /// Whether and how to encrypt.
    pub sslmode: SslMode,
    /// PEM file of trusted authorities; without it, those that Mozilla trusts.
    pub sslrootcert: Option<PathBuf>,
    /// PEM file of our own certificate.
    pub sslcert: Option<PathBuf>,
    /// PEM file of its key.
    pub sslkey: Option<PathBuf>,
    /// The longest wait for a connection.
    pub connect_timeout: Duration,
    /// What sessions that only read are called in `pg_stat_activity`; `None`: a name made of the installation and
    /// the connection. Sessions that write keep a name of their own in any case: the fence knows them by it.
    pub application_name: Option<String>,
    /// The most sessions that read at once, and the most that write at once.
    pub pool_size: usize,
    /// The installation: the store's random id. It names the slot, the publication and our sessions.
    pub installation: String,
    /// The name that the user gave this connection; with the installation it makes the slot's name unique.
    pub connection: String,
    /// Whether Concord may create and change its publication. When not, `prepare` names the statement that an
    /// administrator must run.
    pub allow_ddl: bool,
    /// Whether one sync has this connection's feed for itself: only such a one may be told of tables without a key.
    pub one_sync: bool,
}

impl Config {
    /// A configuration with every setting at its default.
    pub fn new(host: impl Into<String>, database: impl Into<String>, username: impl Into<String>) -> Config {
        Config {
            host: host.into(),
            port: 5432,
            database: database.into(),
            schema: "public".to_owned(),
            username: username.into(),
            password: Password::default(),
            sslmode: SslMode::default(),
            sslrootcert: None,
            sslcert: None,
            sslkey: None,
            connect_timeout: Duration::from_secs(10),
            application_name: None,
            pool_size: 4,
            installation: String::new(),
            connection: String::new(),
            allow_ddl: true,
            one_sync: false,
        }
    }

    /// A configuration from a configured connection: its credentials, `options.connect_timeout_ms` and
    /// `options.allow_ddl`.
    pub fn read(asked: &Asked<'_>) -> Result<Config> {
        asked.only_options(&["allow_ddl", "connect_timeout_ms"])?;
        let given = &asked.connection.credentials;
        let host = given.host.clone().unwrap_or_else(|| "localhost".to_owned());
        let database = asked.required("database", &given.database)?;
        let mut config = Config::new(host, database, asked.required("username", &given.username)?);
        config.port = given.port.unwrap_or(config.port);
        config.schema = given.schema.clone().unwrap_or(config.schema);
        if let Some(password) = asked.secret(given.password.as_ref())? {
            config.password = Password::new(password.expose());
        }
        config.sslmode = given.sslmode.map_or(config.sslmode, SslMode::from);
        config.sslrootcert = given.sslrootcert.as_ref().map(PathBuf::from);
        config.sslcert = given.sslcert.as_ref().map(PathBuf::from);
        config.sslkey = given.sslkey.as_ref().map(PathBuf::from);
        config.connect_timeout = asked.milliseconds("connect_timeout_ms", 1..=600_000, config.connect_timeout)?;
        config.allow_ddl = asked.flag("allow_ddl", config.allow_ddl)?;
        config.installation = asked.installation.to_owned();
        config.connection = asked.name.to_string();
        Ok(config)
    }

    /// Whether the server is reached through a Unix socket.
    pub(super) fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_never_printed() {
        let mut config = Config::new("localhost", "db", "me");
        config.password = Password::new("hunter2");
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn sslmodes_are_read_by_the_names_libpq_gives_them() {
        let all = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
        let read: Vec<SslMode> = all.iter().map(|name| name.parse().unwrap()).collect();
        assert_eq!(
            read,
            [SslMode::Disable, SslMode::Allow, SslMode::Prefer, SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull]
        );
        assert!("Require".parse::<SslMode>().is_err());
    }
}
