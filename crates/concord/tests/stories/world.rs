//! The world of a story: two databases with tables of different shape, a configuration, and the binary as people start it.
//! [`Home`] is what is the same in every world.

use crate::postgres::{Database, Server};
use serde_json::{Value, json};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The longest wait for something to come true, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

/// What both sides hold.
pub trait Sides {
    /// Both sides in a form in which they can be compared.
    fn sides(&self) -> (String, String);

    /// Whether both sides hold the same.
    fn is_equal(&self) -> bool {
        let (one, other) = self.sides();
        one == other
    }
}

/// The folder of a story: configuration, store, logs.
pub struct Home {
    folder: TempDir,
}

/// Two databases and a configuration.
pub struct World {
    pub crm: Database,
    pub erp: Database,
    home: Home,
}

impl std::ops::Deref for World {
    type Target = Home;

    fn deref(&self) -> &Home {
        &self.home
    }
}

impl Home {
    pub fn new() -> Home {
        Home { folder: tempfile::tempdir().unwrap() }
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The configuration's file.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("accounts.json")
    }

    /// The store's folder.
    pub fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// The folder of the log files.
    pub fn logs(&self) -> PathBuf {
        self.folder.path().join("logs")
    }

    /// The binary with the story's store.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_concord"));
        command.args(arguments).arg("--store").arg(self.store()).env_remove("CONCORD_LOG").stdin(Stdio::null());
        command
    }

    /// Runs a command to its end. `FILE` stands for the configuration's file.
    pub fn concord(&self, arguments: &[&str]) -> Said {
        let file = self.file().display().to_string();
        let arguments: Vec<&str> =
            arguments.iter().map(|argument| if *argument == "FILE" { file.as_str() } else { *argument }).collect();
        Said::of(self.command(&arguments).output().unwrap())
    }

    /// What one command prints as JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        let said = self.concord(&arguments);
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{arguments:?}: {error}\n{said:?}"))
    }

    /// Starts `concord run` with environment variables of its own, and waits for nothing.
    pub fn start<'a>(&'a self, sides: &'a dyn Sides, arguments: &[&str], environment: &[(&str, &str)]) -> Running<'a> {
        let log = self.folder.path().join("run.log");
        let output = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let file = self.file().display().to_string();
        let mut command = self.command(&["run", &file]);
        command.args(arguments).envs(environment.iter().copied());
        let child = command.stdout(Stdio::null()).stderr(output).spawn().unwrap();
        Running { home: self, sides, child, log }
    }

    /// Starts `concord run` and waits until both sides have been read.
    pub fn run<'a>(&'a self, sides: &'a dyn Sides, arguments: &[&str]) -> Running<'a> {
        let running = self.start(sides, arguments, &[]);
        running.until("the sync is live", || running.status().is_some_and(|sync| sync["stage"] == "live"));
        running
    }
}

impl World {
    /// Empty tables on both sides, and a sync between them with these settings over the usual ones.
    pub fn new(settings: &Value) -> World {
        let server: Arc<Server> = Server::shared();
        World::between(server.database(), server.database(), settings)
    }

    /// The same in databases that the story has made.
    pub fn between(crm: Database, erp: Database, settings: &Value) -> World {
        crm.psql(
            "CREATE TABLE accounts (id serial PRIMARY KEY, name text, email text UNIQUE, phone text, city text, \
             updated_at timestamptz NOT NULL DEFAULT now())",
        );
        erp.psql(
            "CREATE TABLE customers (customer_no bigserial PRIMARY KEY, company text, mail text UNIQUE, tel text, town text)",
        );
        let world = World { crm, erp, home: Home::new() };
        world.configure(settings);
        world
    }

    /// Writes the configuration anew.
    pub fn configure(&self, settings: &Value) {
        let connection = |database: &Database| connection(database, database.server.port());
        let mut config = json!({
            "name": "accounts",
            "connections": { "crm": connection(&self.crm), "erp": connection(&self.erp) },
            "source": { "system": "crm", "object": "accounts" },
            "target": { "system": "erp", "object": "customers" },
            "sync_type": "bidirectional",
            "match_on": ["email"],
            "field_mappings": [
                { "source": "name", "target": "company" }, { "source": "email", "target": "mail" },
                { "source": "phone", "target": "tel" }, { "source": "city", "target": "town" }
            ],
            "process_settings": { "store": { "path": self.store() }, "logging": { "directory": self.logs() } }
        });
        for (key, value) in settings.as_object().expect("settings are an object") {
            config[key] = value.clone();
        }
        std::fs::write(self.file(), serde_json::to_string_pretty(&config).unwrap()).unwrap();
    }

    /// Starts `concord run` and waits until both sides have been read.
    pub fn run(&self, arguments: &[&str]) -> Running<'_> {
        self.home.run(self, arguments)
    }

    /// Starts `concord run` with environment variables of its own, and waits for nothing.
    pub fn start(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Running<'_> {
        self.home.start(self, arguments, environment)
    }
}

impl Sides for World {
    fn sides(&self) -> (String, String) {
        World::sides(self)
    }
}

impl World {
    /// Whether both sides hold the same.
    pub fn is_equal(&self) -> bool {
        Sides::is_equal(self)
    }

    /// Both sides as sorted lines of name, e-mail, phone and city.
    pub fn sides(&self) -> (String, String) {
        let crm = self.crm.psql("SELECT name, email, phone, city FROM accounts ORDER BY email, id");
        let erp = self.erp.psql("SELECT company, mail, tel, town FROM customers ORDER BY mail, customer_no");
        (crm, erp)
    }
}

/// How a database is reached, through this port.
pub fn connection(database: &Database, port: u16) -> Value {
    json!({ "type": "postgres", "credentials": {
        "host": "127.0.0.1", "port": port, "database": database.name, "username": "postgres", "sslmode": "disable" } })
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub exit: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    fn of(output: Output) -> Said {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { exit: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// `concord run` as it runs; killed with the value.
pub struct Running<'a> {
    home: &'a Home,
    sides: &'a dyn Sides,
    child: Child,
    log: PathBuf,
}

impl Running<'_> {
    /// The sync's status, as soon as the process answers.
    pub fn status(&self) -> Option<Value> {
        let said = self.home.concord(&["status", "--json"]);
        let status: Value = serde_json::from_str(&said.out).ok()?;
        status["syncs"].get(0).cloned().filter(|sync| !sync["stage"].as_str().unwrap_or_default().starts_with("not running"))
    }

    /// Waits until something is so.
    pub fn until(&self, what: &str, so: impl Fn() -> bool) {
        self.until_within(PATIENCE, what, so);
    }

    /// Waits so long until something is so.
    pub fn until_within(&self, patience: Duration, what: &str, so: impl Fn() -> bool) {
        let otherwise = || {
            let reviews = self.home.concord(&["review", "list", "--json"]).out;
            format!("{}\n{}\n{:#?}\n{reviews}", difference(&self.sides.sides()), tail(&self.log), self.status())
        };
        wait(patience, what, so, otherwise);
    }

    /// Waits until both sides hold the same and nothing is left to do.
    pub fn until_level(&self) {
        self.until("both sides are equal", || self.sides.is_equal() && self.status().is_some_and(|sync| sync["level"] == true));
    }

    /// What the process has said on its standard error.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until the process ends by itself, and returns its exit code.
    pub fn end(mut self) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < deadline, "the process does not end\n{}", tail(&self.log));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the process dies at the point that it was armed with, and of nothing else.
    pub fn until_killed(mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert_eq!(status.signal(), Some(9), "{status}\n{}", tail(&self.log));
                return;
            }
            assert!(Instant::now() < deadline, "the point is not met\n{}\n{:#?}", tail(&self.log), self.status());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether the process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Ends the process as a power cut would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks the process to stop, as a service manager does; it must do so within seconds and without complaint.
    pub fn stop(mut self) {
        let asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(asked.success());
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "{status}\n{}", tail(&self.log));
                return;
            }
            assert!(Instant::now() < deadline, "the process does not stop\n{}", tail(&self.log));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines that are on one side alone.
fn difference((one, other): &(String, String)) -> String {
    let only = |here: &str, there: &str| {
        let there: std::collections::BTreeSet<&str> = there.lines().collect();
        here.lines().filter(|line| !there.contains(line)).collect::<Vec<_>>().join("\n")
    };
    format!("only at the source:\n{}\nonly at the target:\n{}", only(one, other), only(other, one))
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// Waits until something is so; fails with what `otherwise` has to say.
pub fn until(what: &str, so: impl Fn() -> bool, otherwise: impl Fn() -> String) {
    wait(PATIENCE, what, so, otherwise);
}

fn wait(patience: Duration, what: &str, so: impl Fn() -> bool, otherwise: impl Fn() -> String) {
    let deadline = Instant::now() + patience;
    while !so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}\n{}", otherwise());
        std::thread::sleep(Duration::from_millis(25));
    }
}
