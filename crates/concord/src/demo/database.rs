//! One database of the demo, and the people who work in it: a private PostgreSQL server, or a SQLite file.

use super::server::{Programs, Server};
use super::write_secret;
use concord_engine::error::{Code, Error, Result};
use serde_json::json;
use std::path::{Path, PathBuf};
use tokio::task::JoinSet;
use tokio_postgres::{NoTls, SimpleQueryMessage};

const USER: &str = "concord";
/// The file in the demo's folder that holds the password of its servers.
const PASSWORD_FILE: &str = "password";

/// How the databases of a demo are made.
pub struct Maker {
    programs: Option<Programs>,
    folder: PathBuf,
    password: String,
    /// What kind they are, in words, and why where that is not the usual one.
    pub kind: &'static str,
}

impl Maker {
    /// PostgreSQL servers where there are its programs and nothing else is asked for.
    pub fn new(sqlite: bool, folder: &Path) -> Result<Maker> {
        let programs = Programs::find().filter(|_| !sqlite);
        let kind = match (&programs, sqlite) {
            (Some(_), _) => "PostgreSQL",
            (None, true) => "SQLite, as asked",
            (None, false) => "SQLite, for PostgreSQL's server is not installed",
        };
        let password = uuid::Uuid::new_v4().simple().to_string();
        if programs.is_some() {
            write_secret(&folder.join(PASSWORD_FILE), &password)?;
        }
        Ok(Maker { programs, folder: folder.to_path_buf(), password, kind })
    }

    /// Makes a database with the table that suits its kind.
    pub async fn make(&self, name: &'static str, table: &str, table_sqlite: &str) -> Result<Database> {
        let database = match self.programs.clone() {
            Some(programs) => {
                let made = session(programs, self.folder.clone(), name, self.password.clone()).await?;
                Database::Postgres(Box::new(made))
            }
            None => Database::Sqlite(self.folder.join(format!("{name}.db"))),
        };
        let table = match database {
            Database::Postgres(_) => table.to_owned(),
            Database::Sqlite(_) => format!("PRAGMA journal_mode = WAL; {table_sqlite}"),
        };
        database.run(table).await?;
        Ok(database)
    }
}

/// A database.
pub enum Database {
    /// On a server of its own.
    Postgres(Box<Session>),
    /// A file.
    Sqlite(PathBuf),
}

/// A server, and a connection as its users have one.
pub struct Session {
    client: tokio_postgres::Client,
    /// Drives the connection.
    _connection: JoinSet<()>,
    // Behind the connection, so that it ends last.
    server: Server,
}

impl Database {
    /// What its language calls the present.
    pub fn now(&self) -> &'static str {
        match self {
            Database::Postgres(_) => "now()",
            Database::Sqlite(_) => "CURRENT_TIMESTAMP",
        }
    }

    /// What people call it.
    pub fn name(&self) -> &'static str {
        match self {
            Database::Postgres(_) => "PostgreSQL",
            Database::Sqlite(_) => "SQLite",
        }
    }

    /// Runs statements, each in a transaction of its own where the language has it so.
    pub async fn run(&self, sql: String) -> Result<()> {
        match self {
            Database::Postgres(session) => session.client.batch_execute(&sql).await.map_err(refused),
            Database::Sqlite(path) => {
                on_file(path.clone(), move |connection| connection.execute_batch(&sql).map_err(refused)).await
            }
        }
    }

    /// The first column of the first row that a query finds; `None` where there is no row, or no value.
    pub async fn value(&self, sql: String) -> Result<Option<String>> {
        match self {
            Database::Postgres(session) => {
                let found = session.client.simple_query(&sql).await.map_err(refused)?;
                Ok(found.iter().find_map(|message| match message {
                    SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                    _ => None,
                }))
            }
            Database::Sqlite(path) => {
                let first = move |connection: &rusqlite::Connection| {
                    use rusqlite::OptionalExtension;
                    let found = connection.query_row(&sql, [], |row| row.get::<_, Option<String>>(0)).optional();
                    found.map(Option::flatten).map_err(refused)
                };
                on_file(path.clone(), first).await
            }
        }
    }

    /// The connection as a configuration names it.
    pub fn connection(&self, folder: &Path) -> serde_json::Value {
        match self {
            Database::Postgres(session) => json!({ "type": "postgres", "credentials": {
                "host": "127.0.0.1", "port": session.server.port, "database": "postgres", "username": USER,
                "password": { "file": folder.join(PASSWORD_FILE) }, "sslmode": "disable"
            } }),
            Database::Sqlite(path) => json!({ "type": "sqlite", "credentials": { "path": path } }),
        }
    }
}

async fn session(programs: Programs, folder: PathBuf, name: &'static str, password: String) -> Result<Session> {
    let key = password.clone();
    let started = tokio::task::spawn_blocking(move || Server::start(&programs, &folder, name, USER, &key)).await;
    let server = started.map_err(|error| Error::new(Code::Internal, "a task ended abnormally").because(error))??;
    let unreachable = |error| Error::new(Code::DemoServerFailed, format!("`{name}` cannot be reached")).because(error);
    let mut settings = tokio_postgres::Config::new();
    settings.host("127.0.0.1").port(server.port).user(USER).password(password).dbname("postgres");
    let (client, connection) = settings.connect(NoTls).await.map_err(unreachable)?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let _ = connection.await;
    });
    Ok(Session { client, _connection: tasks, server })
}

async fn on_file<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce(&rusqlite::Connection) -> Result<T> + Send + 'static,
) -> Result<T> {
    let work = move || {
        let connection = rusqlite::Connection::open(path).map_err(refused)?;
        connection.busy_timeout(std::time::Duration::from_secs(10)).map_err(refused)?;
        work(&connection)
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::new(Code::Internal, "a task ended abnormally").because(error))?
}

fn refused(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Code::DemoServerFailed, "a database of the demo refused a statement").because(error)
}
