//! The two databases of the demo and the people who edit them.

use super::accounts::{self, Chance, Side};
use super::announce;
use super::server::{Programs, Server};
use super::view::View;
use concord_engine::error::{Code, Error, Result};
use serde_json::json;
use std::path::{Path, PathBuf};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_postgres::NoTls;

const USER: &str = "concord";
/// The file in the demo's folder that holds the password of its servers.
const PASSWORD_FILE: &str = "password";

/// Two databases.
pub struct Sides {
    kind: Kind,
    chance: Mutex<Chance>,
}

enum Kind {
    Postgres { crm: Box<Database>, erp: Box<Database> },
    Sqlite { crm: PathBuf, erp: PathBuf },
}

/// A server, and a connection as its users have one.
struct Database {
    client: tokio_postgres::Client,
    /// Drives the connection.
    _connection: JoinSet<()>,
    // Behind the connection, so that it ends last.
    server: Server,
}

impl Sides {
    /// Starts what is needed and fills it.
    pub async fn open(sqlite: bool, folder: &Path, view: &View<'_>) -> Result<Sides> {
        let kind = match Programs::find().filter(|_| !sqlite) {
            Some(programs) => {
                announce(view, "Two private PostgreSQL servers are started.");
                let password = uuid::Uuid::new_v4().simple().to_string();
                let file = folder.join(PASSWORD_FILE);
                std::fs::write(&file, &password)
                    .map_err(|error| Error::new(Code::FileUnusable, "the password cannot be kept").because(error))?;
                let open = |name: &'static str| database(programs.clone(), folder.to_path_buf(), name, password.clone());
                let (crm, erp) = tokio::try_join!(open("crm"), open("erp"))?;
                run_sql(&crm.client, accounts::CRM_TABLE).await?;
                run_sql(&erp.client, accounts::ERP_TABLE).await?;
                Kind::Postgres { crm: Box::new(crm), erp: Box::new(erp) }
            }
            None => {
                let why = if sqlite { "as asked" } else { "PostgreSQL's server is not installed" };
                announce(view, &format!("Two SQLite files are used ({why})."));
                let (crm, erp) = (folder.join("crm.db"), folder.join("erp.db"));
                on_file(crm.clone(), format!("PRAGMA journal_mode = WAL; {};", accounts::CRM_TABLE_SQLITE)).await?;
                on_file(erp.clone(), format!("PRAGMA journal_mode = WAL; {};", accounts::ERP_TABLE_SQLITE)).await?;
                Kind::Sqlite { crm, erp }
            }
        };
        let sides = Sides { kind, chance: Mutex::new(Chance::of(42)) };
        sides.run(Side::Crm, accounts::beginning(Side::Crm)).await?;
        sides.run(Side::Erp, accounts::beginning(Side::Erp)).await?;
        Ok(sides)
    }

    /// People edit both sides.
    pub async fn edit(&self, turn: u64) -> Result<()> {
        let now = if matches!(self.kind, Kind::Postgres { .. }) { "now()" } else { "CURRENT_TIMESTAMP" };
        let mut chance = self.chance.lock().await;
        let crm = accounts::edits(Side::Crm, turn, &mut chance, now);
        let erp = accounts::edits(Side::Erp, turn, &mut chance, now);
        drop(chance);
        tokio::try_join!(self.run(Side::Crm, crm), self.run(Side::Erp, erp)).map(|_| ())
    }

    async fn run(&self, side: Side, sql: String) -> Result<()> {
        match (&self.kind, side) {
            (Kind::Postgres { crm, .. }, Side::Crm) => run_sql(&crm.client, &sql).await,
            (Kind::Postgres { erp, .. }, Side::Erp) => run_sql(&erp.client, &sql).await,
            (Kind::Sqlite { crm, .. }, Side::Crm) => on_file(crm.clone(), sql).await,
            (Kind::Sqlite { erp, .. }, Side::Erp) => on_file(erp.clone(), sql).await,
        }
    }

    /// The connections as a configuration names them.
    pub fn connections(&self, folder: &Path) -> (serde_json::Value, serde_json::Value) {
        let postgres = |database: &Database| {
            json!({ "type": "postgres", "credentials": {
                "host": "127.0.0.1", "port": database.server.port, "database": "postgres", "username": USER,
                "password": { "file": folder.join(PASSWORD_FILE) }, "sslmode": "disable"
            } })
        };
        let sqlite = |path: &PathBuf| json!({ "type": "sqlite", "credentials": { "path": path } });
        match &self.kind {
            Kind::Postgres { crm, erp } => (postgres(crm), postgres(erp)),
            Kind::Sqlite { crm, erp } => (sqlite(crm), sqlite(erp)),
        }
    }
}

async fn database(programs: Programs, folder: PathBuf, name: &'static str, password: String) -> Result<Database> {
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
    Ok(Database { client, _connection: tasks, server })
}

async fn run_sql(client: &tokio_postgres::Client, sql: &str) -> Result<()> {
    client.batch_execute(sql).await.map_err(refused)
}

async fn on_file(path: PathBuf, sql: String) -> Result<()> {
    let work = move || {
        let connection = rusqlite::Connection::open(path).map_err(refused)?;
        connection.busy_timeout(std::time::Duration::from_secs(10)).map_err(refused)?;
        connection.execute_batch(&sql).map_err(refused)
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::new(Code::Internal, "a task ended abnormally").because(error))?
}

fn refused(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Code::DemoServerFailed, "a database of the demo refused a statement").because(error)
}
