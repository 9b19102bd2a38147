//! Private PostgreSQL servers: made in temporary directories, on loopback only, with commits that reach the disk; stopped
//! and removed when let go. Both contenders run on servers with the same settings.

use crate::Result;
use crate::process::{Kept, Start, as_server, is_root};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, Connection, NoTls, Socket, tls::NoTlsStream};
use tokio_util::task::TaskTracker;

/// The longest a server may take to start.
const START_WAIT_MAX: Duration = Duration::from_secs(60);

/// Settings beside PostgreSQL's own defaults.
const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", "'127.0.0.1'"),
    ("fsync", "on"),
    ("wal_level", "logical"),
    ("max_connections", "100"),
    ("shared_buffers", "'256MB'"),
    ("max_wal_size", "'4GB'"),
    // PostgreSQL's own replication waits so long before it begins again: five seconds, unless this is said.
    ("wal_retrieve_retry_interval", "'100ms'"),
    // The peer's conflict rule needs it; on for both.
    ("track_commit_timestamp", "on"),
];

/// Where the server's programs are: `PG_BIN`, or Debian's place of release 15.
pub fn binaries() -> PathBuf {
    std::env::var_os("PG_BIN").map_or_else(|| PathBuf::from("/usr/lib/postgresql/15/bin"), PathBuf::from)
}

/// Whether the peer is installed for the release that is measured.
pub fn has_pglogical() -> bool {
    takes_pglogical(&binaries())
}

fn takes_pglogical(programs: &Path) -> bool {
    programs.parent().is_some_and(|release| release.join("lib/pglogical.so").exists())
}

/// What a release calls itself.
pub fn release(programs: &Path) -> Result<String> {
    let output = std::process::Command::new(programs.join("postgres")).arg("--version").output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// A running server.
pub struct Server {
    kept: Kept,
    port: u16,
    /// Removed after the server has stopped.
    directory: tempfile::TempDir,
}

impl Server {
    /// Makes and starts a server below `parent`.
    pub async fn start(parent: &Path) -> Result<Server> {
        Server::start_of(&binaries(), parent).await
    }

    /// The same of another release, by where its programs are.
    pub async fn start_of(programs: &Path, parent: &Path) -> Result<Server> {
        let directory = tempfile::Builder::new().prefix("concord-bench-pg-").tempdir_in(parent)?;
        let data = directory.path().join("data");
        if is_root() {
            let owner = std::process::Command::new("chown").arg("postgres:postgres").arg(directory.path()).status()?;
            if !owner.success() {
                return Err("the data directory cannot be given to the user postgres".into());
            }
        }
        let initdb = programs.join("initdb");
        let made = as_server(&initdb.to_string_lossy())
            .args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8", "-D"])
            .arg(&data)
            .output()
            .map_err(|error| format!("{}: {error}", initdb.display()))?;
        if !made.status.success() {
            return Err(format!("initdb: {}", String::from_utf8_lossy(&made.stderr)).into());
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        configure(directory.path(), &data, port, takes_pglogical(programs))?;
        let words = [programs.join("postgres").to_string_lossy().into_owned(), "-D".into(), data.to_string_lossy().into_owned()];
        let log = directory.path().join("log");
        let start = Start { words: &words, log: &log, signal: "QUIT", rubbish: Some(directory.path()), as_server: true };
        let server = Server { kept: Kept::start(&start)?, port, directory };
        server.wait_until_ready().await?;
        Ok(server)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process number of the server's first process.
    pub fn pid(&self) -> u32 {
        self.kept.pid()
    }

    async fn wait_until_ready(&self) -> Result<()> {
        let deadline = Instant::now() + START_WAIT_MAX;
        loop {
            match self.connect_to("postgres").await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= deadline => {
                    let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
                    return Err(format!("the server does not start: {error}\n{log}").into());
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// A session in a database.
    pub async fn connect_to(&self, database: &str) -> Result<Client> {
        let (client, connection) = connect(self.port, database).await?;
        // Ends when the client is dropped.
        TaskTracker::new().spawn(connection);
        Ok(client)
    }

    /// A session in the database that is measured.
    pub async fn session(&self) -> Result<Client> {
        self.connect_to(crate::workload::DATABASE).await
    }
}

/// A session whose messages the caller reads.
pub async fn connect(port: u16, database: &str) -> Result<(Client, Connection<Socket, NoTlsStream>)> {
    let settings = format!("host=127.0.0.1 port={port} user=postgres dbname={database} application_name=bench");
    Ok(tokio_postgres::connect(&settings, NoTls).await?)
}

fn configure(directory: &Path, data: &Path, port: u16, pglogical: bool) -> Result<()> {
    let mut file = std::fs::OpenOptions::new().append(true).open(data.join("postgresql.conf"))?;
    for (name, value) in SETTINGS {
        writeln!(file, "{name} = {value}")?;
    }
    writeln!(file, "port = {port}\nunix_socket_directories = '{}'", directory.display())?;
    if pglogical {
        // Its every first write to a row that the seed wrote counts as a conflict, and would be a line in the log.
        writeln!(file, "shared_preload_libraries = 'pglogical'")?;
        writeln!(file, "pglogical.conflict_resolution = 'last_update_wins'\npglogical.conflict_log_level = 'debug1'")?;
    }
    Ok(())
}
