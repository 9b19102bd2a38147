//! What is measured: Concord's release binary, and pglogical in both directions. Both know how to begin on a seeded pair,
//! to be away for a while, and to come back. Nothing about the work itself is decided here.

use crate::Result;
use crate::process::{Kept, Start};
use crate::workload::{DATABASE, LEFT, Pair, RIGHT};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The longest wait until a contender is ready.
const READY_WAIT_MAX: Duration = Duration::from_secs(300);
/// How often is asked meanwhile.
const READY_POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Which contender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Contender {
    /// `concord run`.
    Concord,
    /// pglogical, one subscription in each direction.
    Pglogical,
}

impl Contender {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Contender::Concord => "Concord",
            Contender::Pglogical => "pglogical",
        }
    }
}

/// A contender at work on a pair.
pub enum Running {
    /// A child process of ours.
    Concord(Concord),
    /// Workers of both servers.
    Pglogical,
}

/// Concord's process and what it works with.
pub struct Concord {
    program: PathBuf,
    /// Holds configuration, store and log.
    directory: tempfile::TempDir,
    process: Option<Kept>,
}

impl Running {
    /// Begins on a seeded pair; answers when both directions are ready.
    pub async fn begin(contender: Contender, pair: &Pair, program: &Path, parent: &Path) -> Result<Running> {
        match contender {
            Contender::Concord => {
                let [left, right] = [pair.server(LEFT).port(), pair.server(RIGHT).port()];
                let mut concord = Concord::with(program, parent, &configuration(left, right))?;
                concord.start()?;
                concord.wait_until_level().await?;
                Ok(Running::Concord(concord))
            }
            Contender::Pglogical => {
                for side in [LEFT, RIGHT] {
                    provide(pair, side).await?;
                }
                for side in [LEFT, RIGHT] {
                    subscribe(pair, side).await?;
                }
                replicating(pair).await?;
                Ok(Running::Pglogical)
            }
        }
    }

    /// Goes away; what is edited meanwhile waits in the servers' logs.
    pub async fn leave(&mut self, pair: &Pair) -> Result<()> {
        match self {
            Running::Concord(concord) => drop(concord.process.take()),
            Running::Pglogical => {
                for side in [LEFT, RIGHT] {
                    let session = pair.server(side).session().await?;
                    session.batch_execute("SELECT pglogical.alter_subscription_disable('bench', true)").await?;
                }
            }
        }
        let deadline = Instant::now() + READY_WAIT_MAX;
        while slots_in_use(pair).await? > 0 {
            wait_a_little(deadline, "the contender does not go away").await?;
        }
        Ok(())
    }

    /// Comes back.
    pub async fn come_back(&mut self, pair: &Pair) -> Result<()> {
        match self {
            Running::Concord(concord) => concord.start(),
            Running::Pglogical => {
                for side in [LEFT, RIGHT] {
                    let session = pair.server(side).session().await?;
                    session.batch_execute("SELECT pglogical.alter_subscription_enable('bench', true)").await?;
                }
                Ok(())
            }
        }
    }

    /// The number of its own process, if it has one.
    pub fn pid(&self) -> Option<u32> {
        match self {
            Running::Concord(concord) => concord.process.as_ref().map(Kept::pid),
            Running::Pglogical => None,
        }
    }

    /// What its store takes on the disk, in megabytes; 0 for a contender without one.
    pub fn store_mb(&self) -> f64 {
        let Running::Concord(concord) = self else { return 0.0 };
        let files = std::fs::read_dir(concord.directory.path().join("store")).into_iter().flatten().flatten();
        let bytes: u64 = files.filter_map(|file| Some(file.metadata().ok()?.len())).sum();
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let megabytes = bytes as f64 / f64::from(1 << 20);
        megabytes
    }

    /// The end of its log, for a failure's message.
    pub fn log(&self) -> String {
        match self {
            Running::Concord(concord) => {
                let log = std::fs::read_to_string(concord.directory.path().join("log")).unwrap_or_default();
                let lines: Vec<&str> = log.lines().rev().take(20).collect();
                lines.into_iter().rev().collect::<Vec<_>>().join("\n")
            }
            Running::Pglogical => String::new(),
        }
    }
}

impl Concord {
    /// A store and this configuration in a folder of their own; nothing runs yet.
    pub fn with(program: &Path, parent: &Path, configuration: &str) -> Result<Concord> {
        let directory = tempfile::Builder::new().prefix("concord-bench-").tempdir_in(parent)?;
        std::fs::write(directory.path().join("sync.json"), configuration)?;
        Ok(Concord { program: program.to_path_buf(), directory, process: None })
    }

    /// The number of its process, while it runs.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.process.as_ref().map(Kept::pid).ok_or("Concord does not run")?)
    }

    fn words(&self, rest: &[&str]) -> Vec<String> {
        let store = self.directory.path().join("store");
        let mut words = vec![self.program.to_string_lossy().into_owned()];
        words.extend(rest.iter().map(|word| (*word).to_owned()));
        words.extend(["--store".to_owned(), store.to_string_lossy().into_owned()]);
        words
    }

    /// Starts it.
    pub fn start(&mut self) -> Result<()> {
        let file = self.directory.path().join("sync.json");
        let words = self.words(&["run", &file.to_string_lossy(), "--auto-approve"]);
        let log = self.directory.path().join("log");
        let start = Start { words: &words, log: &log, signal: "TERM", rubbish: None, as_server: false };
        self.process = Some(Kept::start(&start)?);
        Ok(())
    }

    /// Waits until the first load is over, as `concord status` tells.
    pub async fn wait_until_level(&self) -> Result<()> {
        let deadline = Instant::now() + READY_WAIT_MAX;
        while !self.is_level().await {
            let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            wait_a_little(deadline, &format!("Concord does not become level:\n{log}")).await?;
        }
        Ok(())
    }

    async fn is_level(&self) -> bool {
        let words = self.words(&["status", "--json"]);
        let Some((program, arguments)) = words.split_first() else { return false };
        let Ok(output) = tokio::process::Command::new(program).args(arguments).output().await else { return false };
        let Ok(status) = serde_json::from_slice::<serde_json::Value>(&output.stdout) else { return false };
        let sync = status.pointer("/syncs/0");
        let says = |name: &str| sync.and_then(|sync| sync.get(name)).cloned().unwrap_or_default();
        says("stage") == "live" && says("level") == true && says("links").as_u64().is_some_and(|links| links > 0)
    }
}

async fn wait_a_little(deadline: Instant, failure: &str) -> Result<()> {
    if Instant::now() >= deadline {
        return Err(failure.to_owned().into());
    }
    tokio::time::sleep(READY_POLL_INTERVAL).await;
    Ok(())
}

/// One two-way sync of the table; everything that is not said stays as it is out of the box.
fn configuration(left: u16, right: u16) -> String {
    let connection = |port: u16| {
        serde_json::json!({
            "type": "postgres",
            "credentials": { "host": "127.0.0.1", "port": port, "database": DATABASE, "username": "postgres", "sslmode": "disable" },
        })
    };
    let mappings: Vec<serde_json::Value> = ["email", "name", "phone", "revenue", "updated"]
        .iter()
        .map(|field| serde_json::json!({ "source": field, "target": field }))
        .collect();
    let written = serde_json::json!({
        "connection_name": "accounts",
        "connections": { "left": connection(left), "right": connection(right) },
        "source": { "system": "left", "table": "accounts" },
        "target": { "system": "right", "table": "accounts" },
        "sync_type": "bidirectional",
        "match_on": ["email"],
        "field_mappings": mappings,
        "initial_sync": { "strategy": "full_load", "authority": "policy" },
        "conflict_resolution": { "strategy": "last_write_wins", "timestamp_field": "updated" },
    });
    format!("{written:#}")
}

fn address(pair: &Pair, side: usize) -> String {
    format!("host=127.0.0.1 port={} dbname={DATABASE} user=postgres", pair.server(side).port())
}

async fn provide(pair: &Pair, side: usize) -> Result<()> {
    let session = pair.server(side).session().await?;
    let address = address(pair, side);
    session
        .batch_execute(&format!(
            "CREATE EXTENSION pglogical;
             SELECT pglogical.create_node('side{side}', '{address}');
             SELECT pglogical.replication_set_add_table('default', 'accounts')"
        ))
        .await?;
    Ok(())
}

/// Empty forward origins: what came from the other side is not sent back to it.
async fn subscribe(pair: &Pair, side: usize) -> Result<()> {
    let session = pair.server(side).session().await?;
    let provider = address(pair, 1 - side);
    session
        .batch_execute(&format!(
            "SELECT pglogical.create_subscription('bench', '{provider}', ARRAY['default'], false, false, '{{}}')"
        ))
        .await?;
    Ok(())
}

async fn replicating(pair: &Pair) -> Result<()> {
    let deadline = Instant::now() + READY_WAIT_MAX;
    for side in [LEFT, RIGHT] {
        let session = pair.server(side).session().await?;
        loop {
            let row = session.query_one("SELECT status FROM pglogical.show_subscription_status('bench')", &[]).await?;
            let status: String = row.try_get(0)?;
            if status == "replicating" {
                break;
            }
            wait_a_little(deadline, &format!("pglogical is not ready: {status}")).await?;
        }
    }
    Ok(())
}

async fn slots_in_use(pair: &Pair) -> Result<i64> {
    let mut all = 0;
    for side in [LEFT, RIGHT] {
        let session = pair.server(side).session().await?;
        let row = session.query_one("SELECT count(*) FROM pg_replication_slots WHERE active", &[]).await?;
        all += row.try_get::<_, i64>(0)?;
    }
    Ok(all)
}
