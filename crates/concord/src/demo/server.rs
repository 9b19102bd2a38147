//! A private PostgreSQL server: in a temporary folder, on a free port of the loopback interface, under a password that
//! nobody else knows. It ends with the value that stands for it. As root it runs as the user `postgres`.

use concord_engine::error::{Code, Error, Result};
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The longest wait for a server to take connections.
const START_MAX: Duration = Duration::from_secs(60);
/// The longest wait for a server to end before it is killed.
const STOP_MAX: Duration = Duration::from_secs(20);

/// How often a server is started, each time on another port.
const TRIES_MAX: usize = 3;

/// How much of a log an error repeats.
const LAST_LINES: usize = 3;

/// A running server.
pub struct Server {
    process: Child,
    programs: Programs,
    data: PathBuf,
    /// The port on the loopback interface.
    pub port: u16,
}

/// Where the server's programs are, and as whom they run.
#[derive(Clone, Debug)]
pub struct Programs {
    folder: PathBuf,
    user: Option<(u32, u32)>,
}

impl Programs {
    /// Looks for the programs; `None` when PostgreSQL's server is not installed, or may not run here.
    pub fn find() -> Option<Programs> {
        let on_path = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
        let mut installed: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
            .map(|versions| versions.flatten().map(|version| version.path().join("bin")).collect())
            .unwrap_or_default();
        installed.sort();
        installed.reverse();
        let is_complete = |folder: &PathBuf| ["initdb", "postgres", "pg_ctl"].iter().all(|name| folder.join(name).is_file());
        let folder = installed.into_iter().chain(on_path).find(is_complete)?;
        if !is_root() {
            return Some(Programs { folder, user: None });
        }
        // PostgreSQL refuses to run as root.
        Some(Programs { folder, user: Some(postgres_user()?) })
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.folder.join(name));
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        // A group of its own: Ctrl-C at the terminal reaches us alone, and we stop the server in good order.
        command.process_group(0).current_dir("/").stdin(Stdio::null());
        command
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// User and group of `postgres`.
fn postgres_user() -> Option<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find(|line| line.starts_with("postgres:"))?;
    let mut parts = line.split(':').skip(2);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The folder goes with the demo, so what the server said last is in the error itself.
fn failed(message: impl Into<String>, log: &Path) -> Error {
    let said = last_lines(log);
    let message = message.into();
    Error::new(Code::DemoServerFailed, if said.is_empty() { message } else { format!("{message}; it said: {said}") })
}

/// The last lines of a log, in one.
pub fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.iter().skip(lines.len().saturating_sub(LAST_LINES));
    last.copied().collect::<Vec<_>>().join(" / ")
}

impl Server {
    /// Makes a cluster below `folder` and starts a server on it.
    pub fn start(programs: &Programs, folder: &Path, name: &str, user: &str, password: &str) -> Result<Server> {
        let home = folder.join(name);
        let log = home.join("log");
        let unusable = |error: std::io::Error| failed(format!("the folder of `{name}` cannot be used"), &home).because(error);
        std::fs::create_dir(&home).map_err(unusable)?;
        let passwords = home.join("password");
        std::fs::write(&passwords, password).map_err(unusable)?;
        std::fs::set_permissions(&passwords, std::fs::Permissions::from_mode(0o600)).map_err(unusable)?;
        let output = File::create(&log).map_err(unusable)?;
        if let Some((owner, group)) = programs.user {
            for path in [&home, &passwords, &log] {
                chown(path, Some(owner), Some(group)).map_err(unusable)?;
            }
        }
        let data = home.join("data");
        let mut initdb = programs.command("initdb");
        initdb.arg("-D").arg(&data).args(["-U", user, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync"]);
        initdb.arg(format!("--pwfile={}", passwords.display()));
        initdb.stdout(output.try_clone().map_err(unusable)?).stderr(output.try_clone().map_err(unusable)?);
        let made = initdb.status().map_err(|error| failed("initdb cannot be started", &log).because(error))?;
        if !made.success() {
            return Err(failed(format!("initdb failed ({made})"), &log));
        }
        let mut tries = 1;
        loop {
            let port = free_port().map_err(|error| failed("there is no free port", &log).because(error))?;
            let output = output.try_clone().map_err(unusable)?;
            let process = spawn(programs, &data, port, output)
                .map_err(|error| failed("the server cannot be started", &log).because(error))?;
            let mut server = Server { process, programs: programs.clone(), data: data.clone(), port };
            match server.wait(&log) {
                // Somebody else may have taken the port since it was free.
                Err(_) if tries < TRIES_MAX && server.process.try_wait().is_ok_and(|ended| ended.is_some()) => tries += 1,
                Err(error) => return Err(error),
                Ok(()) => return Ok(server),
            }
        }
    }

    fn wait(&mut self, log: &Path) -> Result<()> {
        let begun = Instant::now();
        let pid_file = self.data.join("postmaster.pid");
        loop {
            // The server writes its state into the last line when it takes connections.
            let is_ready = std::fs::read_to_string(&pid_file).is_ok_and(|text| text.lines().any(|line| line.trim() == "ready"));
            if is_ready {
                return Ok(());
            }
            if let Ok(Some(ended)) = self.process.try_wait() {
                return Err(failed(format!("the server ended at once ({ended})"), log));
            }
            if begun.elapsed() > START_MAX {
                return Err(failed("the server did not start in time", log));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn spawn(programs: &Programs, data: &Path, port: u16, output: File) -> std::io::Result<Child> {
    let mut postgres = programs.command("postgres");
    postgres.arg("-D").arg(data);
    let port = port.to_string();
    for (name, value) in [
        ("port", port.as_str()),
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", ""),
        ("wal_level", "logical"),
        ("max_wal_senders", "10"),
        ("max_replication_slots", "10"),
        ("shared_buffers", "32MB"),
    ] {
        postgres.arg("-c").arg(format!("{name}={value}"));
    }
    postgres.stdout(output.try_clone()?).stderr(output).spawn()
}

/// A port that was free a moment ago.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut stop = self.programs.command("pg_ctl");
        stop.arg("stop").arg("-D").arg(&self.data).args(["-m", "fast", "-W", "-s"]).stdout(Stdio::null()).stderr(Stdio::null());
        let _ = stop.status();
        let begun = Instant::now();
        while begun.elapsed() < STOP_MAX {
            match self.process.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
                Ok(Some(_)) | Err(_) => return,
            }
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
