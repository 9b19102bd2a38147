//! The two sides of a pair as the people see them who work there: SQL in, rows out. They know nothing of the engine.

use crate::server;
use concord_connectors::postgres;
use concord_connectors::sqlite::{self, SqliteSettings};
use concord_engine::connector::Connector;
use rusqlite::Connection;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A row as text, column by column.
pub type Row = Vec<Option<String>>;

/// One side of a pair, as its user sees it.
#[async_trait::async_trait]
pub trait Side: Send + Sync {
    /// The real connector to it, as a process that has just started opens it.
    fn open(&self) -> Arc<dyn Connector>;
    /// Runs statements.
    async fn run(&self, sql: &str);
    /// Runs a query.
    async fn rows(&self, sql: &str) -> Vec<Row>;
    /// A further session; `None` where the system has only one at a time.
    async fn session(&self) -> tokio_postgres::Client;
    /// Runs statements in the system's first database, as its administrator.
    fn administer(&self, sql: &str) -> String;
}

/// An SQLite file.
pub struct File(pub PathBuf);

impl File {
    /// A new file in write-ahead mode.
    pub fn make(path: PathBuf) -> File {
        Connection::open(&path).unwrap().execute_batch("PRAGMA journal_mode = WAL;").unwrap();
        File(path)
    }

    fn connection(&self) -> Connection {
        let connection = Connection::open(&self.0).unwrap();
        connection.busy_timeout(Duration::from_secs(5)).unwrap();
        connection
    }
}

#[async_trait::async_trait]
impl Side for File {
    fn open(&self) -> Arc<dyn Connector> {
        Arc::new(sqlite::open(SqliteSettings::new(&self.0)).unwrap())
    }

    async fn run(&self, sql: &str) {
        self.connection().execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    async fn rows(&self, sql: &str) -> Vec<Row> {
        let connection = self.connection();
        let mut statement = connection.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        let mut all = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            all.push((0..columns).map(|column| text(row.get_ref(column).unwrap())).collect());
        }
        all
    }

    async fn session(&self) -> tokio_postgres::Client {
        panic!("a file has no sessions")
    }

    fn administer(&self, _sql: &str) -> String {
        panic!("a file has no administrator")
    }
}

fn text(value: rusqlite::types::ValueRef<'_>) -> Option<String> {
    use rusqlite::types::ValueRef;
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Some(format!("{bytes:02x?}")),
    }
}

/// A database of a PostgreSQL server.
pub struct Server {
    pub database: server::Database,
    session: tokio_postgres::Client,
    name: &'static str,
    /// Whom the engine logs in as.
    role: String,
}

impl Server {
    /// A new database of the server that all stories share.
    pub async fn make(name: &'static str) -> Server {
        Server::on(&server::Server::shared(), name).await
    }

    /// A new database of this server.
    pub async fn on(server: &Arc<server::Server>, name: &'static str) -> Server {
        let database = server.database();
        let session = database.session().await;
        Server { database, session, name, role: "postgres".to_owned() }
    }

    /// The same, where the engine logs in as a role of its own, which has what the tables' owner has and is no superuser.
    pub async fn with_role(name: &'static str) -> (Server, String) {
        let server = Server::make(name).await;
        let role = format!("engine_{}", server.database.name);
        server.run(&format!("CREATE ROLE {role} LOGIN REPLICATION IN ROLE postgres")).await;
        (Server { role: role.clone(), ..server }, role)
    }

    /// The same database, after its server was started again.
    pub async fn again(server: &Arc<server::Server>, database: &str, name: &'static str) -> Server {
        let database = server::Database { server: Arc::clone(server), name: database.to_owned() };
        let session = database.session().await;
        Server { database, session, name, role: "postgres".to_owned() }
    }
}

#[async_trait::async_trait]
impl Side for Server {
    fn open(&self) -> Arc<dyn Connector> {
        let mut config = postgres::Config::new("127.0.0.1", self.database.name.clone(), self.role.clone());
        config.port = self.database.server.port();
        config.installation = format!("i{}", self.database.name);
        config.connection = self.name.into();
        Arc::new(postgres::open(config).unwrap())
    }

    async fn run(&self, sql: &str) {
        self.session.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    async fn rows(&self, sql: &str) -> Vec<Row> {
        let messages = self.session.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let rows = messages.iter().filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
            }
            _ => None,
        });
        rows.collect()
    }

    async fn session(&self) -> tokio_postgres::Client {
        self.database.session().await
    }

    fn administer(&self, sql: &str) -> String {
        self.database.server.psql(sql)
    }
}
