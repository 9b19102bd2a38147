//! Sessions: opened when they are first needed, made anew after a loss, handed out one user at a time.
//! A session goes back into the pool only when its user says that it is clean; a user that was cancelled in the
//! middle leaves none behind. Nothing here retries: the next call connects again.

use super::config::{Config, SslMode};
use super::{errors, tls};
use concord_engine::error::{Code, Error, Result};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::TaskTracker;

/// The most prepared statements that a session keeps; beyond it, all are dropped and prepared again when needed.
const STATEMENTS_MAX: usize = 200;
/// After so many uses a statement is prepared anew, and eight times as many after that, up to the last: it may have been
/// planned for a table that was empty then.
const FIRST_USES_MAX: u32 = 16;
/// See above.
const USES_MAX: u32 = 1024;

/// How long a peer that does not answer at all counts as alive.
const PEER_SILENCE_MAX: Duration = Duration::from_secs(30);

/// How every session, the replication session too, prints values: what the decoder of values reads.
pub const OUTPUT_SETTINGS: &[(&str, &str)] = &[
    ("DateStyle", "ISO"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("xmloption", "content"),
];

/// The settings as the `options` of a startup packet.
pub fn startup_options(extra: &[(&str, &str)]) -> String {
    let all = OUTPUT_SETTINGS.iter().chain(extra);
    all.map(|(name, value)| format!("-c {name}={value}")).collect::<Vec<_>>().join(" ")
}

/// Opens sessions of one kind and keeps the idle ones.
pub struct Pool {
    config: Arc<Config>,
    application_name: String,
    options: String,
    idle: Mutex<Vec<Session>>,
    room: Arc<Semaphore>,
    tasks: TaskTracker,
}

/// One session with its prepared statements.
pub struct Session {
    client: Client,
    statements: HashMap<String, Known>,
}

/// A prepared statement, and for how many uses it is good.
struct Known {
    statement: Statement,
    uses: u32,
    uses_max: u32,
}

/// A session in use. Dropping it closes the session; [`Lease::done`] gives it back.
pub struct Lease<'a> {
    session: Option<Session>,
    pool: &'a Pool,
    _room: OwnedSemaphorePermit,
}

impl Pool {
    /// A pool without any session yet.
    pub fn new(config: Arc<Config>, application_name: String, settings: &[(&str, &str)]) -> Pool {
        let room = Arc::new(Semaphore::new(config.pool_size.max(1)));
        let options = startup_options(settings);
        Pool { config, application_name, options, idle: Mutex::default(), room, tasks: TaskTracker::new() }
    }

    /// A session, waiting while all are in use.
    pub async fn lease(&self) -> Result<Lease<'_>> {
        let room = Arc::clone(&self.room).acquire_owned().await.map_err(|_| errors::unexpected("the pool is closed"))?;
        let idle = self.take_idle();
        let session = match idle {
            Some(session) => session,
            None => self.connect().await?,
        };
        Ok(Lease { session: Some(session), pool: self, _room: room })
    }

    fn take_idle(&self) -> Option<Session> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|session| !session.client.is_closed());
        idle.pop()
    }

    /// Where we connect to, for messages.
    pub fn place(&self) -> String {
        let config = &self.config;
        format!("{} at {}:{} as {}", config.database, config.host, config.port, config.username)
    }

    async fn connect(&self) -> Result<Session> {
        match tokio::time::timeout(self.config.connect_timeout, self.connect_as_configured()).await {
            Ok(session) => session,
            Err(_) => Err(Error::new(Code::Unreachable, format!("connecting to {}: no answer in time", self.place()))),
        }
    }

    /// `allow` and `prefer` are two attempts, as in libpq: the second when the first was refused.
    async fn connect_as_configured(&self) -> Result<Session> {
        use tokio_postgres::config::SslMode as Wire;
        let attempts: &[Wire] = match self.config.sslmode {
            _ if self.config.is_socket() => &[Wire::Disable],
            SslMode::Disable => &[Wire::Disable],
            SslMode::Allow => &[Wire::Disable, Wire::Require],
            SslMode::Prefer => &[Wire::Prefer, Wire::Disable],
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[Wire::Require],
        };
        let mut failure = None;
        for &mode in attempts {
            match self.attempt(mode).await {
                Ok(session) => return Ok(session),
                Err(error) => {
                    let refused = matches!(error.code, Code::AuthenticationFailed | Code::TlsFailed);
                    let first = failure.get_or_insert(error);
                    if !refused {
                        return Err(first.clone());
                    }
                }
            }
        }
        Err(failure.unwrap_or_else(|| errors::unexpected("no way to connect")))
    }

    async fn attempt(&self, mode: tokio_postgres::config::SslMode) -> Result<Session> {
        use tokio_postgres::config::SslMode as Wire;
        let mut settings = tokio_postgres::Config::new();
        let config = &self.config;
        settings.host(&config.host).port(config.port).dbname(&config.database).user(&config.username).ssl_mode(mode);
        settings.password(config.password.reveal());
        settings.application_name(&self.application_name).options(&self.options);
        settings.connect_timeout(config.connect_timeout);
        settings.keepalives_idle(PEER_SILENCE_MAX).tcp_user_timeout(PEER_SILENCE_MAX);
        let failed = |error| errors::connecting(&error, &self.place(), mode == Wire::Require);
        let client = if mode == Wire::Disable {
            let (client, connection) = settings.connect(NoTls).await.map_err(failed)?;
            self.tasks.spawn(drive(connection));
            client
        } else {
            let tls = MakeRustlsConnect::new(tls::client(config)?);
            let (client, connection) = settings.connect(tls).await.map_err(failed)?;
            self.tasks.spawn(drive(connection));
            client
        };
        Ok(Session { client, statements: HashMap::new() })
    }
}

/// Moves a session's bytes until its client is dropped or the connection ends; its users learn of the end themselves.
async fn drive<F, E>(connection: F)
where
    F: Future<Output = std::result::Result<(), E>>,
    E: std::fmt::Display,
{
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a session ended");
    }
}

impl Lease<'_> {
    /// Gives the session back, clean: no transaction is open in it.
    pub fn done(mut self) {
        if let Some(session) = self.session.take() {
            let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push(session);
        }
    }

    fn session(&mut self) -> Result<&mut Session> {
        self.session.as_mut().ok_or_else(|| errors::unexpected("the session was given back"))
    }

    /// The client itself, for several statements at once.
    pub fn client(&mut self) -> Result<&Client> {
        Ok(&self.session()?.client)
    }

    /// A prepared statement, from this session's own if it was prepared before.
    pub async fn prepare(&mut self, sql: &str, doing: &str) -> Result<Statement> {
        let session = self.session()?;
        let mut uses_max = FIRST_USES_MAX;
        if let Some(known) = session.statements.get_mut(sql) {
            known.uses += 1;
            if known.uses <= known.uses_max {
                return Ok(known.statement.clone());
            }
            uses_max = known.uses_max.saturating_mul(8).min(USES_MAX);
        }
        let statement = session.client.prepare(sql).await.map_err(|error| errors::statement(&error, doing))?;
        if session.statements.len() >= STATEMENTS_MAX {
            session.statements.clear();
        }
        session.statements.insert(sql.to_owned(), Known { statement: statement.clone(), uses: 0, uses_max });
        Ok(statement)
    }

    /// Rows of a prepared statement.
    pub async fn query(&mut self, sql: &str, parameters: &[&(dyn ToSql + Sync)], doing: &str) -> Result<Vec<Row>> {
        let statement = self.prepare(sql, doing).await?;
        let client = self.client()?;
        client.query(&statement, parameters).await.map_err(|error| errors::statement(&error, doing))
    }

    /// The only row of a prepared statement.
    pub async fn query_one(&mut self, sql: &str, parameters: &[&(dyn ToSql + Sync)], doing: &str) -> Result<Row> {
        let rows = self.query(sql, parameters, doing).await?;
        rows.into_iter().next().ok_or_else(|| errors::unexpected(format!("{doing}: no row came back")))
    }

    /// One or several statements without parameters or result.
    pub async fn execute(&mut self, sql: &str, doing: &str) -> Result<()> {
        self.client()?.batch_execute(sql).await.map_err(|error| errors::statement(&error, doing))
    }
}

/// A column of a row, checked.
pub fn column<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, place: usize) -> Result<T> {
    row.try_get(place).map_err(|error| errors::unexpected(format!("column {place} is not as expected: {error}")))
}
