//! An org and a database: how long an edit takes either way, how fast both are loaded, and how many of the org's calls that
//! takes. The org is the simulator, in a process of its own; everything is measured by what the target shows: a listener in
//! the database, the time that the org notes for a commit. No peer does the same.

use crate::Result;
use crate::contender::Concord;
use crate::latency::{percentile, wall_micros};
use crate::measure::Places;
use crate::process::{Kept, Start};
use crate::server::{Server, connect};
use crate::usage;
use crate::workload::DATABASE;
use serde_json::{Value as Json, json};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client};
use tokio_util::task::TaskTracker;

/// The longest wait for anything to arrive.
const WAIT_MAX: Duration = Duration::from_secs(900);
/// How often the database is asked how far a load has got.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Records that are edited to measure latency, in turn: the org stamps edits in whole seconds, and a record is edited again
/// only some seconds later.
const PROBES: usize = 200;
/// Changes whose calls are counted.
const COUNTED: usize = 1_000;
/// Records that people make in one go.
const MADE_AT_ONCE: usize = 5_000;

const TABLE: &str = "CREATE TABLE accounts (id serial PRIMARY KEY, sf_id varchar(18) UNIQUE, account_name varchar(255) NOT NULL,
        industry_type varchar(255), annual_revenue decimal(18,2), last_modified timestamptz, last_sync timestamptz);
    CREATE FUNCTION bench_tell() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_notify('bench_probe', NEW.account_name || '|' || (NEW.last_modified IS NOT DISTINCT FROM OLD.last_modified));
        RETURN NULL; END $$;
    CREATE TRIGGER bench_tell AFTER UPDATE ON accounts FOR EACH ROW WHEN (NEW.account_name LIKE 'probe %')
        EXECUTE FUNCTION bench_tell();
    ALTER TABLE accounts ENABLE ALWAYS TRIGGER bench_tell";

/// How a load went.
pub struct Load {
    /// From Concord's start until the target showed everything, its id written back where it made it.
    pub seconds: f64,
    /// Processor seconds of Concord.
    pub cpu_seconds: f64,
    /// Calls of the org's daily allowance.
    pub calls: u64,
}

/// What was measured.
pub struct Hosted {
    /// Records of each load.
    pub rows: usize,
    /// The org's accounts into an empty table.
    pub into_database: Load,
    /// The table's rows into an empty org.
    pub into_org: Load,
    /// From a commit in the database until the org has committed it, and the other way, in milliseconds.
    pub to_org_ms: Vec<f64>,
    /// See above.
    pub to_database_ms: Vec<f64>,
    /// Calls for a thousand rows that were changed, made and deleted, and for a thousand accounts that people edited.
    pub calls: [u64; 4],
}

/// A simulated org.
struct Org {
    host: String,
    pubsub: String,
    folder: tempfile::TempDir,
    _kept: Kept,
}

impl Org {
    async fn start(places: &Places) -> Result<Org> {
        let folder = tempfile::Builder::new().prefix("concord-bench-org-").tempdir_in(&places.directory)?;
        let program = places.concord.with_file_name("concord-sim-salesforce");
        if !program.is_file() {
            return Err(format!("{} is not built: cargo build --release --package concord-simulators", program.display()).into());
        }
        let authority = folder.path().join("ca.pem").to_string_lossy().into_owned();
        let words = [program.to_string_lossy().into_owned(), "--ca-out".to_owned(), authority];
        let log = folder.path().join("log");
        std::fs::write(folder.path().join("client-secret"), "simulated-secret")?;
        let kept = Kept::start(&Start { words: &words, log: &log, signal: "INT", rubbish: None, as_server: false })?;
        let deadline = Instant::now() + Duration::from_secs(30);
        let at: Json = loop {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            match text.lines().find_map(|line| serde_json::from_str(line).ok()) {
                Some(at) => break at,
                None if Instant::now() > deadline => return Err(format!("the simulator does not start: {text}").into()),
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        let text = |key: &str| at.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
        let host = text("http").trim_start_matches("http://").to_owned();
        Ok(Org { host, pubsub: text("pubsub"), folder, _kept: kept })
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> Result<Json> {
        let mut stream = TcpStream::connect(&self.host).await?;
        stream.set_nodelay(true)?;
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}", self.host, body.len());
        stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("the simulator gave no answer")?;
        if !head.starts_with("HTTP/1.1 200") {
            return Err(format!("{method} {path}: {body}").into());
        }
        Ok(serde_json::from_str(body)?)
    }

    /// Somebody makes accounts.
    async fn create(&self, names: impl Iterator<Item = String>) -> Result<Vec<String>> {
        let records: Vec<Json> = names.enumerate().map(|(n, name)| json!({"Name": name, "AnnualRevenue": n})).collect();
        let mut ids = Vec::with_capacity(records.len());
        for some in records.chunks(MADE_AT_ONCE) {
            let body = json!({"do": "create", "object": "Account", "records": some}).to_string();
            let answer = self.ask("POST", "/_sim/person", &body).await?;
            ids.extend(
                answer.get("ids").and_then(Json::as_array).into_iter().flatten().filter_map(|id| Some(id.as_str()?.to_owned())),
            );
        }
        Ok(ids)
    }

    /// Somebody renames one.
    async fn rename(&self, id: &str, name: &str) -> Result<()> {
        let body = json!({"do": "update", "object": "Account", "id": id, "fields": {"Name": name}}).to_string();
        self.ask("POST", "/_sim/person", &body).await.map(|_| ())
    }

    /// Calls that have counted so far.
    async fn calls(&self) -> Result<u64> {
        Ok(self.ask("GET", "/_sim", "").await?.get("api_calls").and_then(Json::as_u64).ok_or("the simulator counts no calls")?)
    }

    /// Events behind a replay id.
    async fn events(&self, since: u64) -> Result<Vec<Json>> {
        let events = self.ask("GET", &format!("/_sim/events?since={since}"), "").await?;
        Ok(events.as_array().cloned().unwrap_or_default())
    }

    /// How many accounts there are.
    async fn count(&self) -> Result<usize> {
        let accounts = self.ask("GET", "/_sim/records/Account", "").await?;
        Ok(accounts.as_array().map_or(0, Vec::len))
    }
}

fn replay_id(event: &Json) -> u64 {
    event.get("replay_id").and_then(Json::as_u64).unwrap_or(0)
}

/// An org, a database and Concord between them.
struct World {
    org: Org,
    server: Server,
    concord: Concord,
    session: Client,
}

impl World {
    async fn new(places: &Places, batch_size: u32) -> Result<World> {
        let (org, server) = tokio::try_join!(Org::start(places), Server::start(&places.directory))?;
        server.connect_to("postgres").await?.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await?;
        let session = server.session().await?;
        session.batch_execute(TABLE).await?;
        let concord = Concord::with(&places.concord, &places.directory, &configuration(&org, &server, batch_size))?;
        Ok(World { org, server, concord, session })
    }

    /// Starts Concord and waits until so many rows have an id.
    async fn load(&mut self, rows: usize) -> Result<Load> {
        let wanted = i64::try_from(rows)?;
        let calls = self.org.calls().await?;
        let began = Instant::now();
        self.concord.start()?;
        let counting = self.session.prepare("SELECT count(sf_id) FROM accounts").await?;
        loop {
            let shown: i64 = self.session.query_one(&counting, &[]).await?.try_get(0)?;
            if shown == wanted {
                break;
            }
            if began.elapsed() > WAIT_MAX {
                return Err(format!("only {shown} of {rows} records have been loaded").into());
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        let seconds = began.elapsed().as_secs_f64();
        self.concord.wait_until_level().await?;
        let cpu_seconds = usage::cpu_seconds(self.concord.pid()?)?;
        let calls = self.org.calls().await? - calls;
        let made = self.org.count().await?;
        if made != rows {
            return Err(format!("{made} accounts where {rows} were expected").into());
        }
        Ok(Load { seconds, cpu_seconds, calls })
    }

    /// Calls that a thousand changes of this kind take, until the org has committed all of them and nothing is left to do.
    async fn calls_of(&self, sql: &str, kind: &str) -> Result<u64> {
        let mut since = self.newest_event(0).await?;
        let before = self.org.calls().await?;
        self.session.batch_execute(sql).await?;
        let deadline = Instant::now() + WAIT_MAX;
        let mut committed = 0;
        while committed < COUNTED {
            let events = self.org.events(since).await?;
            since = events.last().map_or(since, replay_id);
            let of_kind = events.iter().filter(|event| event.get("change").and_then(Json::as_str) == Some(kind));
            committed += of_kind.filter_map(|event| Some(event.get("ids")?.as_array()?.len())).sum::<usize>();
            if Instant::now() > deadline {
                return Err(format!("only {committed} of {COUNTED} changes have reached the org").into());
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        self.concord.wait_until_level().await?;
        Ok(self.org.calls().await? - before)
    }

    /// The replay id of the newest event.
    async fn newest_event(&self, since: u64) -> Result<u64> {
        let mut since = since;
        while let Some(last) = self.org.events(since).await?.last() {
            since = replay_id(last);
        }
        Ok(since)
    }

    /// Waits until a query answers true, and Concord says that both sides are level.
    async fn shows(&self, query: &str) -> Result<()> {
        let deadline = Instant::now() + WAIT_MAX;
        while !self.session.query_one(query, &[]).await?.try_get::<_, bool>(0)? {
            if Instant::now() > deadline {
                return Err(format!("waited in vain for: {query}").into());
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        self.concord.wait_until_level().await
    }
}

fn configuration(org: &Org, server: &Server, batch_size: u32) -> String {
    json!({
        "name": "accounts",
        "connections": {
            "crm": { "type": "salesforce",
                "credentials": {
                    "auth_type": "oauth2", "instance_url": format!("http://{}", org.host), "client_id": "3MVG9simulated.app",
                    "client_secret": { "file": org.folder.path().join("client-secret") },
                    "sslrootcert": org.folder.path().join("ca.pem")
                },
                "options": { "pubsub_url": format!("https://{}", org.pubsub) } },
            "erp": { "type": "postgres", "credentials": {
                "host": "127.0.0.1", "port": server.port(), "database": DATABASE, "username": "postgres", "sslmode": "disable" } }
        },
        "source": { "system": "crm", "object": "Account" },
        "target": { "system": "erp", "object": "accounts" },
        "sync_type": "bidirectional",
        "ongoing_sync": { "mode": "real_time", "polling_interval_seconds": 30 },
        "conflict_resolution": { "strategy": "last_write_wins", "timestamp_field": "LastModifiedDate" },
        "field_mappings": [
            { "source": "Id", "target": "sf_id" },
            { "source": "Name", "target": "account_name", "required": true },
            { "source": "Industry", "target": "industry_type" },
            { "source": "AnnualRevenue", "target": "annual_revenue" },
            { "source": "LastModifiedDate", "target": "last_modified" }
        ],
        "guards": { "max_deletes": 100_000, "max_deletes_percent": 100 },
        "performance_settings": { "batch_size": batch_size }
    })
    .to_string()
}

/// Carries out everything once.
pub async fn run(rows: usize, edits: usize, places: &Places) -> Result<Hosted> {
    let mut world = World::new(places, 1_000).await?;
    let ids = world.org.create((0..rows).map(|n| format!("Account {n} of the North"))).await?;
    let into_database = world.load(rows).await?;
    let probes = ids.get(..PROBES.min(rows)).unwrap_or_default();
    let (to_org_ms, to_database_ms) = latencies(&world, probes, edits).await?;
    let calls = calls(&world, &ids).await?;
    drop(world);
    let mut world = World::new(places, 10_000).await?;
    let fill = format!(
        "INSERT INTO accounts (account_name, annual_revenue) SELECT 'Account ' || n || ' of the South', n FROM generate_series(1, {rows}) n"
    );
    world.session.batch_execute(&fill).await?;
    let into_org = world.load(rows).await?;
    Ok(Hosted { rows, into_database, into_org, to_org_ms, to_database_ms, calls })
}

/// What a thousand changes of each kind cost.
async fn calls(world: &World, ids: &[String]) -> Result<[u64; 4]> {
    let updated =
        world.calls_of(&format!("UPDATE accounts SET industry_type = 'Energy' WHERE id <= {COUNTED}"), "UPDATE").await?;
    let insert = format!("INSERT INTO accounts (account_name) SELECT 'made ' || n FROM generate_series(1, {COUNTED}) n");
    let made = world.calls_of(&insert, "CREATE").await?;
    let ids_are_back = format!("SELECT count(sf_id) = {COUNTED} FROM accounts WHERE account_name LIKE 'made %'");
    world.shows(&ids_are_back).await?;
    let deleted = world.calls_of("DELETE FROM accounts WHERE account_name LIKE 'made %'", "DELETE").await?;
    let before = world.org.calls().await?;
    for id in ids.iter().take(COUNTED) {
        world.org.rename(id, "Renamed by a person").await?;
    }
    let all = ids.len().min(COUNTED);
    world.shows(&format!("SELECT count(*) = {all} FROM accounts WHERE account_name = 'Renamed by a person'")).await?;
    let echoes = world.org.calls().await? - before;
    Ok([updated, made, deleted, echoes])
}

/// One edit at a time, from both sides in turn.
async fn latencies(world: &World, ids: &[String], edits: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    let (listener, mut connection) = connect(world.server.port(), DATABASE).await?;
    let (tell, mut told) = mpsc::unbounded_channel();
    TaskTracker::new().spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(notification) = message
                && tell.send((notification.payload().to_owned(), wall_micros())).is_err()
            {
                return;
            }
        }
    });
    listener.batch_execute("LISTEN bench_probe").await?;
    let edit = world
        .session
        .prepare("UPDATE accounts SET account_name = $1 WHERE sf_id = $2 RETURNING pg_current_xact_id()::text")
        .await?;
    let committed_at =
        world.session.prepare("SELECT (extract(epoch FROM pg_xact_commit_timestamp($1::text::xid)) * 1000000)::bigint").await?;
    let (mut to_org, mut to_database) = (Vec::new(), Vec::new());
    let mut since = world.newest_event(0).await?;
    // The first edits fill caches and prepare statements; they are not counted.
    let unmeasured = edits.div_ceil(10).max(4);
    for (number, id) in (0..edits + unmeasured).zip(ids.iter().cycle()) {
        let name = format!("probe {number}");
        let took = if number % 2 == 0 {
            let transaction: String = world.session.query_one(&edit, &[&name, id]).await?.try_get(0)?;
            // The org's stamp of our write comes back: so the org has it, and has noted when. (What a listener is told ends
            // with whether the stamp is the old one.)
            arrival(&mut told, &format!("{name}|false")).await?;
            let committed: i64 = world.session.query_one(&committed_at, &[&transaction]).await?.try_get(0)?;
            let shown = commit_of(world, &mut since, id).await?;
            shown - committed
        } else {
            world.org.rename(id, &name).await?;
            let at = arrival(&mut told, &format!("{name}|false")).await?;
            at - commit_of(world, &mut since, id).await?
        };
        if number >= unmeasured {
            let into = if number % 2 == 0 { &mut to_org } else { &mut to_database };
            into.push(f64::from(i32::try_from(took)?) / 1_000.0);
        }
        // A pause that falls into step with nothing.
        let varied = u64::try_from(number)?.wrapping_mul(2_654_435_761) >> 16;
        tokio::time::sleep(Duration::from_millis(10 + varied % 20)).await;
    }
    Ok((to_org, to_database))
}

/// When the org committed the newest change of an account, in microseconds since 1970.
async fn commit_of(world: &World, since: &mut u64, id: &str) -> Result<i64> {
    let events = world.org.events(*since).await?;
    let of_it = |event: &&Json| event.get("ids").and_then(Json::as_array).is_some_and(|ids| ids.iter().any(|one| one == id));
    let commit = events.iter().rfind(of_it).and_then(|event| event.get("commit_ms")?.as_i64());
    *since = events.last().map_or(*since, replay_id);
    Ok(commit.ok_or("the org tells of no commit")? * 1_000)
}

/// When the database told of this.
async fn arrival(told: &mut mpsc::UnboundedReceiver<(String, i64)>, wanted: &str) -> Result<i64> {
    let arrived = async {
        while let Some((shown, at)) = told.recv().await {
            if shown == wanted {
                return Some(at);
            }
        }
        None
    };
    let waited = tokio::time::timeout(WAIT_MAX, arrived).await.map_err(|_| format!("`{wanted}` did not arrive"))?;
    Ok(waited.ok_or("the listener was cut off")?)
}

/// The figures as a table.
pub fn markdown(hosted: &Hosted, load: [f64; 2]) -> String {
    let at = |values: &[f64], part| percentile(&mut values.to_vec(), part);
    let mut rows = String::from("| what | unit | figure |\n|---|---|---|\n");
    let mut row = |what: &str, unit: &str, figure: String| rows.push_str(&format!("| {what} | {unit} | {figure} |\n"));
    for (what, values) in [("database to org", &hosted.to_org_ms), ("org to database", &hosted.to_database_ms)] {
        row(&format!("latency, idle, {what}, p50"), "ms", format!("{:.1}", at(values, 0.5)));
        row(&format!("latency, idle, {what}, p99"), "ms", format!("{:.1}", at(values, 0.99)));
    }
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let count = hosted.rows as f64;
    for (what, load) in [("org into an empty table", &hosted.into_database), ("table into an empty org", &hosted.into_org)] {
        row(&format!("load, {what}"), "records/s", format!("{:.0}", count / load.seconds));
        row("the same, Concord's processor", "s", format!("{:.1}", load.cpu_seconds));
        row("the same, calls", "", load.calls.to_string());
    }
    for (what, calls) in ["1,000 rows changed", "1,000 rows made", "1,000 rows deleted", "1,000 accounts edited in the org"]
        .iter()
        .zip(hosted.calls)
    {
        row(&format!("calls for {what}"), "", calls.to_string());
    }
    row("machine's load, before and after", "", format!("{:.1}, {:.1}", load[0], load[1]));
    rows
}
