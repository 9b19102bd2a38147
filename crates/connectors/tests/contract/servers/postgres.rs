//! A private PostgreSQL server for tests: made in a temporary directory, on loopback only, stopped and removed when
//! its last user lets go of it, also when a test panics or its process is killed. Each test takes a database of its own.
#![allow(dead_code, reason = "each test binary uses a part of it")]

#[path = "ports.rs"]
pub mod ports;

use ports::Port;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

/// Where the binaries are, newest first: `PG_BIN`, or Debian's places.
pub fn binaries() -> PathBuf {
    if let Ok(place) = std::env::var("PG_BIN") {
        return place.into();
    }
    let newest = (14..=30).rev().map(|major| PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")));
    newest.into_iter().find(|place| place.join("initdb").exists()).expect("PostgreSQL's server is not installed")
}

/// The client, which a bundle of server binaries may lack; any release of it will do.
fn psql() -> PathBuf {
    let beside = binaries().join("psql");
    if beside.exists() { beside } else { "psql".into() }
}

/// How a server is set up.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether commits reach the disk.
    pub fsync: bool,
    /// Further settings, over the defaults.
    pub settings: Vec<(String, String)>,
    /// Lines in front of `pg_hba.conf`, which otherwise trusts everybody on loopback.
    pub hba: Vec<String>,
    /// Certificate and key in PEM, to serve TLS with.
    pub tls: Option<(String, String)>,
}

/// A running server.
pub struct Server {
    directory: tempfile::TempDir,
    port: Port,
    keeper: Child,
    databases: AtomicU32,
    /// Whether it was started by other hands than the keeper's since.
    restarted: std::sync::atomic::AtomicBool,
}

/// A database of one test.
pub struct Database {
    pub server: Arc<Server>,
    pub name: String,
}

static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());

impl Server {
    /// The server that the tests of one binary share while any of them runs.
    pub fn shared() -> Arc<Server> {
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(server) = shared.upgrade() {
            return server;
        }
        let server = Arc::new(Server::start(&Options::default()));
        *shared = Arc::downgrade(&server);
        server
    }

    /// A server of its own.
    pub fn start(options: &Options) -> Server {
        let directory = tempfile::Builder::new().prefix("concord-pg-").tempdir().unwrap();
        let port = Port::take();
        let data = directory.path().join("data");
        prepare_directory(directory.path());
        let made = as_server(&binaries().join("initdb"))
            .args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8", "-D"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        configure(directory.path(), &data, port.number(), options);
        let keeper = keep(&data, directory.path());
        let restarted = std::sync::atomic::AtomicBool::new(false);
        let server = Server { directory, port, keeper, databases: AtomicU32::new(0), restarted };
        server.wait_until_ready();
        server
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The directory of its Unix socket.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Runs statements in the database `postgres`.
    pub fn psql(&self, sql: &str) -> String {
        self.psql_in("postgres", sql)
    }

    /// Runs statements in a database; rows come back unaligned.
    pub fn psql_in(&self, database: &str, sql: &str) -> String {
        let output = self.try_psql(database, sql);
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    fn try_psql(&self, database: &str, sql: &str) -> std::process::Output {
        Command::new(psql())
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"])
            .arg(self.directory.path())
            .args(["-p", &self.port.to_string(), "-d", database, "-c", sql])
            .output()
            .unwrap()
    }

    fn wait_until_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.try_psql("postgres", "SELECT 1").status.success() {
            let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "the server does not start: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops the server, copies its files, and starts it again.
    pub fn back_up(&self) {
        self.while_stopped("rm -rf \"$1.copy\" && cp -a \"$1\" \"$1.copy\"");
    }

    /// Stops the server, puts its files back as they were copied, and starts it again.
    pub fn restore(&self) {
        self.while_stopped("rm -rf \"$1\" && cp -a \"$1.copy\" \"$1\"");
    }

    fn while_stopped(&self, script: &str) {
        let data = self.directory.path().join("data");
        self.control(&["stop", "-m", "fast", "-w"]);
        let done = as_server(Path::new("sh")).args(["-c", script, "sh"]).arg(&data).status().unwrap();
        assert!(done.success());
        self.restarted.store(true, Ordering::SeqCst);
        let log = self.directory.path().join("log.again").display().to_string();
        self.control(&["start", "-w", "-l", &log]);
        self.wait_until_ready();
    }

    /// Ends the server as a power cut would, and starts it again: what it had not written down is gone.
    pub fn crash(&self) {
        self.control(&["stop", "-m", "immediate", "-w"]);
        self.restarted.store(true, Ordering::SeqCst);
        let log = self.directory.path().join("log.again").display().to_string();
        self.control(&["start", "-w", "-l", &log]);
        self.wait_until_ready();
    }

    fn control(&self, arguments: &[&str]) {
        let mut command = as_server(&binaries().join("pg_ctl"));
        let done = command.args(arguments).arg("-D").arg(self.directory.path().join("data")).stdout(Stdio::null()).status();
        assert!(done.unwrap().success(), "pg_ctl {arguments:?}");
    }

    /// A new database.
    pub fn database(self: &Arc<Self>) -> Database {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql(&format!("CREATE DATABASE {name}"));
        Database { server: Arc::clone(self), name }
    }
}

impl Drop for Server {
    /// Closing the keeper's input makes it stop the server; the directory goes after it.
    fn drop(&mut self) {
        if self.restarted.load(Ordering::SeqCst) {
            let data = self.directory.path().join("data");
            let mut stop = as_server(&binaries().join("pg_ctl"));
            let _ = stop.args(["stop", "-m", "immediate", "-D"]).arg(data).stdout(Stdio::null()).status();
        }
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

impl Database {
    /// Runs statements here.
    pub fn psql(&self, sql: &str) -> String {
        self.server.psql_in(&self.name, sql)
    }

    /// A session of a user of the database.
    pub async fn session(&self) -> tokio_postgres::Client {
        let settings = format!("host=127.0.0.1 port={} user=postgres dbname={}", self.server.port, self.name);
        let (client, connection) = tokio_postgres::connect(&settings, tokio_postgres::NoTls).await.unwrap();
        tokio_util::task::TaskTracker::new().spawn(connection);
        client
    }
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim() == "0"
}

/// A command that runs as a user the server accepts: it refuses to run as root.
fn as_server(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(program).current_dir("/");
    command
}

fn prepare_directory(directory: &Path) {
    if is_root() {
        let done = Command::new("chown").arg("postgres:postgres").arg(directory).status().unwrap();
        assert!(done.success());
    }
}

fn configure(directory: &Path, data: &Path, port: u16, options: &Options) {
    let mut settings = vec![
        ("listen_addresses", "'127.0.0.1'".to_owned()),
        ("port", port.to_string()),
        ("unix_socket_directories", format!("'{}'", directory.display())),
        ("fsync", if options.fsync { "on" } else { "off" }.to_owned()),
        ("full_page_writes", if options.fsync { "on" } else { "off" }.to_owned()),
        ("wal_level", "logical".to_owned()),
        ("max_replication_slots", "200".to_owned()),
        ("max_wal_senders", "200".to_owned()),
        ("max_connections", "400".to_owned()),
        ("shared_buffers", "'64MB'".to_owned()),
        ("max_wal_size", "'4GB'".to_owned()),
        ("autovacuum_naptime", "'5min'".to_owned()),
    ];
    if let Some((certificate, key)) = &options.tls {
        write_as_server(&data.join("server.crt"), certificate);
        write_as_server(&data.join("server.key"), key);
        settings.push(("ssl", "on".to_owned()));
    }
    let mut file = std::fs::OpenOptions::new().append(true).open(data.join("postgresql.conf")).unwrap();
    for (name, value) in settings {
        writeln!(file, "{name} = {value}").unwrap();
    }
    for (name, value) in &options.settings {
        writeln!(file, "{name} = {value}").unwrap();
    }
    let hba = data.join("pg_hba.conf");
    let rest = std::fs::read_to_string(&hba).unwrap();
    std::fs::write(&hba, format!("{}\n{rest}", options.hba.join("\n"))).unwrap();
}

/// Writes a file that only the server may read.
fn write_as_server(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    prepare_directory(path);
}

/// Starts the server under a shell that stops it when its input closes: when this process lets go, or is gone.
fn keep(data: &Path, directory: &Path) -> Child {
    let script = "\"$1\" -D \"$2\" >\"$3/log\" 2>&1 & server=$!; read -r _; kill -QUIT $server; wait $server; rm -rf \"$2\"";
    let mut command = as_server(Path::new("sh"));
    command.args(["-c", script, "sh"]).arg(binaries().join("postgres")).arg(data).arg(directory);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}
