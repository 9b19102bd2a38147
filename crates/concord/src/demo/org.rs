//! The simulated org of the demo: the simulator's program as a child of ours, and what its people do in the browser. It
//! ends with the value that stands for it, and also where this process ends without a chance to say so.

use super::server::last_lines;
use super::write_secret;
use concord_engine::error::{Code, Error, Result};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The simulator's program.
const PROGRAM: &str = "concord-sim-salesforce";
/// The secret of the app that the simulator knows.
const APP: (&str, &str) = ("3MVG9simulated.app", "simulated-secret");
/// Files in the demo's folder: the app's secret, the authority that vouches for the simulator, its rules.
const SECRET_FILE: &str = "client-secret";
const AUTHORITY_FILE: &str = "ca.pem";
const RULES_FILE: &str = "rules.json";
/// The longest line in which the simulator may say where it listens.
const GREETING_BYTES_MAX: u64 = 64 << 10;
/// How long an answer may take, and how large it may be.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(20);
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// The longest wait for the simulator to end before it is killed.
const STOP_MAX: Duration = Duration::from_secs(5);

/// A running simulator.
pub struct SimulatedOrg {
    process: Child,
    log: PathBuf,
    at: Addresses,
    host: String,
}

/// Where the simulator says that it listens.
#[derive(Debug, Deserialize)]
struct Addresses {
    http: String,
    pubsub: String,
}

/// Where the program is: beside ours, else on the path.
fn program() -> Result<PathBuf> {
    let own = std::env::current_exe().ok();
    let beside = own.as_deref().and_then(Path::parent).map(|folder| folder.join(PROGRAM));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = beside.clone().into_iter().chain(std::env::split_paths(&path).map(|folder| folder.join(PROGRAM)));
    found.into_iter().find(|place| place.is_file()).ok_or_else(|| {
        let error = Error::new(Code::DemoSimulatorMissing, format!("the simulator `{PROGRAM}` is not there"));
        match beside {
            Some(place) => error.at(place.display().to_string()),
            None => error,
        }
    })
}

impl SimulatedOrg {
    /// Starts a simulator whose administrator has set these rules.
    pub async fn start(folder: &Path, rules: &Json) -> Result<SimulatedOrg> {
        let program = program()?;
        write_secret(&folder.join(SECRET_FILE), APP.1)?;
        std::fs::write(folder.join(RULES_FILE), rules.to_string())
            .map_err(|error| Error::new(Code::FileUnusable, "the simulator's rules cannot be written").because(error))?;
        let folder = folder.to_path_buf();
        let started = tokio::task::spawn_blocking(move || SimulatedOrg::spawn(&program, &folder)).await;
        started.map_err(|error| Error::new(Code::Internal, "a task ended abnormally").because(error))?
    }

    fn spawn(program: &Path, folder: &Path) -> Result<SimulatedOrg> {
        let log = folder.join("simulator.log");
        let unable = |error: std::io::Error| failed("the simulator cannot be started", &log).because(error);
        let mut command = Command::new(program);
        command.arg("--until-input-ends").arg("--ca-out").arg(folder.join(AUTHORITY_FILE));
        command.arg("--rules").arg(folder.join(RULES_FILE));
        // A group of its own: Ctrl-C at the terminal reaches us alone, and we end the simulator in good order.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(File::create(&log).map_err(unable)?);
        let mut process = command.spawn().map_err(unable)?;
        let mut line = String::new();
        if let Some(output) = process.stdout.take() {
            BufReader::new(output.take(GREETING_BYTES_MAX)).read_line(&mut line).map_err(unable)?;
        }
        match serde_json::from_str::<Addresses>(&line) {
            Ok(at) => {
                let host = at.http.trim_start_matches("http://").to_owned();
                Ok(SimulatedOrg { process, log, at, host })
            }
            Err(_) => {
                let _ = process.kill();
                let _ = process.wait();
                Err(failed("the simulator did not start", &log))
            }
        }
    }

    /// The connection as a configuration names it.
    pub fn connection(&self, folder: &Path) -> Json {
        json!({
            "type": "salesforce",
            "credentials": {
                "auth_type": "oauth2",
                "instance_url": self.at.http,
                "client_id": APP.0,
                "client_secret": { "file": folder.join(SECRET_FILE) },
                "sslrootcert": folder.join(AUTHORITY_FILE)
            },
            "options": { "pubsub_url": format!("https://{}", self.at.pubsub) }
        })
    }

    /// Somebody makes accounts in the browser; their ids.
    pub async fn create(&self, records: &[Json]) -> Result<Vec<String>> {
        let answer = self.person(json!({ "do": "create", "object": "Account", "records": records })).await?;
        serde_json::from_value(answer.get("ids").cloned().unwrap_or_default())
            .map_err(|error| self.failed("the simulator gave an answer that cannot be read").because(error))
    }

    /// Somebody edits an account in the browser.
    pub async fn update(&self, id: &str, fields: &Json) -> Result<()> {
        self.person(json!({ "do": "update", "object": "Account", "id": id, "fields": fields })).await.map(|_| ())
    }

    /// Somebody deletes an account in the browser.
    pub async fn delete(&self, id: &str) -> Result<()> {
        self.person(json!({ "do": "delete", "object": "Account", "id": id })).await.map(|_| ())
    }

    /// An account as it is; `None` where it is in the bin.
    pub async fn account(&self, id: &str) -> Result<Option<Json>> {
        let accounts = self.ask("GET", "/_sim/records/Account", "").await?;
        Ok(accounts.as_array().and_then(|all| all.iter().find(|one| one.get("Id") == Some(&json!(id)))).cloned())
    }

    async fn person(&self, what: Json) -> Result<Json> {
        self.ask("POST", "/_sim/person", &what.to_string()).await
    }

    /// One request, one connection.
    async fn ask(&self, method: &str, path: &str, body: &str) -> Result<Json> {
        let exchange = async {
            let mut stream = TcpStream::connect(&self.host).await?;
            let head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.host);
            let request = format!("{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
        };
        let late = |_| self.failed("the simulator does not answer");
        let answer = tokio::time::timeout(ANSWER_WAIT_MAX, exchange).await.map_err(late)?;
        let answer = answer.map_err(|error| self.failed("the simulator cannot be reached").because(error))?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        if !head.starts_with("HTTP/1.1 200") {
            return Err(self.failed(&format!("the simulator refused what a person did: {body}")));
        }
        serde_json::from_str(body).map_err(|error| self.failed("the simulator gave an answer that cannot be read").because(error))
    }

    fn failed(&self, message: &str) -> Error {
        failed(message, &self.log)
    }
}

fn failed(message: &str, log: &Path) -> Error {
    let said = last_lines(log);
    let message = if said.is_empty() { message.to_owned() } else { format!("{message}; it said: {said}") };
    Error::new(Code::DemoServerFailed, message)
}

impl Drop for SimulatedOrg {
    /// The end of its input is the end of the simulator.
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let begun = Instant::now();
        while begun.elapsed() < STOP_MAX {
            match self.process.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(10)),
                Ok(Some(_)) | Err(_) => return,
            }
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
