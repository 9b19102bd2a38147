//! What a person must say to reach a SQLite file, as plain data. It opens nothing and reads no environment.

use crate::settings::Asked;
use concord_engine::error::Result;
use std::path::PathBuf;
use std::time::Duration;

/// How long a statement waits for another connection's lock, unless the configuration says otherwise.
pub const BUSY_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// How long an idle feed sleeps between two looks at the file, unless the configuration says otherwise.
pub const POLL_INTERVAL_DEFAULT: Duration = Duration::from_millis(10);

/// Where a SQLite database is and how patient its connector shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqliteSettings {
    /// The database file. It must exist: the connector never makes one.
    pub path: PathBuf,
    /// The longest wait for a lock that another connection holds; behind it the call fails as busy.
    pub busy_timeout: Duration,
    /// The sleep between two looks at an idle file; a feed that has just seen changes looks more often.
    pub poll_interval: Duration,
}

impl SqliteSettings {
    /// Settings for this file, everything else as by default.
    pub fn new(path: impl Into<PathBuf>) -> SqliteSettings {
        SqliteSettings { path: path.into(), busy_timeout: BUSY_TIMEOUT_DEFAULT, poll_interval: POLL_INTERVAL_DEFAULT }
    }

    /// Settings from a configured connection: `credentials.path`, `options.busy_timeout_ms`, `options.poll_interval_ms`.
    pub fn read(asked: &Asked<'_>) -> Result<SqliteSettings> {
        asked.only_options(&["busy_timeout_ms", "poll_interval_ms"])?;
        let path = asked.required("path", &asked.connection.credentials.path)?;
        Ok(SqliteSettings {
            path: PathBuf::from(path),
            busy_timeout: asked.milliseconds("busy_timeout_ms", 0..=3_600_000, BUSY_TIMEOUT_DEFAULT)?,
            poll_interval: asked.milliseconds("poll_interval_ms", 1..=60_000, POLL_INTERVAL_DEFAULT)?,
        })
    }
}
