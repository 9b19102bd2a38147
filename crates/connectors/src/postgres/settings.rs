//! The connector's settings, read from a configured connection. Follows references to secrets; keeps none.

use super::config::{Config, Password, SslMode};
use crate::settings::Asked;
use concord_engine::config::SslMode as Written;
use concord_engine::error::{Code, Result};
use std::path::PathBuf;
use std::time::Duration;

/// The kind, as `type` in the configuration names it.
pub const KIND: &str = "postgres";

const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

impl Config {
    /// Settings from a configured connection: `credentials` in libpq's terms; `options.connect_timeout_ms`,
    /// `options.pool_size`, `options.application_name`, `options.allow_ddl`.
    pub fn read(asked: &Asked<'_>) -> Result<Config> {
        asked.only_options(&["connect_timeout_ms", "pool_size", "application_name", "allow_ddl"])?;
        let credentials = &asked.connection.credentials;
        let database = asked.required("database", &credentials.database)?;
        let username = asked.required("username", &credentials.username)?;
        let host = credentials.host.clone().unwrap_or_else(|| "localhost".to_owned());
        let mut config = Config::new(host, database.clone(), username.clone());
        config.port = credentials.port.unwrap_or(config.port);
        config.schema = credentials.schema.clone().unwrap_or(config.schema);
        if let Some(password) = asked.secret(credentials.password.as_ref())? {
            config.password = Password::new(password.expose());
        }
        config.sslmode = credentials.sslmode.map_or(config.sslmode, sslmode);
        config.sslrootcert = credentials.sslrootcert.as_ref().map(PathBuf::from);
        config.sslcert = credentials.sslcert.as_ref().map(PathBuf::from);
        config.sslkey = credentials.sslkey.as_ref().map(PathBuf::from);
        config.connect_timeout = asked.milliseconds("connect_timeout_ms", 1..=600_000, CONNECT_TIMEOUT_DEFAULT)?;
        config.installation = asked.installation.to_owned();
        config.connection = asked.name.to_string();
        let options = &asked.connection.options;
        if let Some(name) = options.get("application_name") {
            let name = name
                .as_str()
                .ok_or_else(|| asked.error(Code::ConfigWrongType, "options.application_name must be text".to_owned()))?;
            config.application_name = Some(name.to_owned());
        }
        if let Some(size) = options.get("pool_size") {
            let size = size.as_u64().and_then(|size| usize::try_from(size).ok()).filter(|size| (1..=64).contains(size));
            config.pool_size = size.ok_or_else(|| {
                asked.error(Code::ConfigOutOfRange, "options.pool_size must be a whole number from 1 to 64".to_owned())
            })?;
        }
        if let Some(allow) = options.get("allow_ddl") {
            config.allow_ddl = allow
                .as_bool()
                .ok_or_else(|| asked.error(Code::ConfigWrongType, "options.allow_ddl must be true or false".to_owned()))?;
        }
        Ok(config)
    }
}

fn sslmode(written: Written) -> SslMode {
    match written {
        Written::Disable => SslMode::Disable,
        Written::Allow => SslMode::Allow,
        Written::Prefer => SslMode::Prefer,
        Written::Require => SslMode::Require,
        Written::VerifyCa => SslMode::VerifyCa,
        Written::VerifyFull => SslMode::VerifyFull,
    }
}
