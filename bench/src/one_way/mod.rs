//! One way: a full load, catching up after an outage, and latency, for Concord's mirror mode beside others; who they are is in
//! `contender.rs`, what each does in `running.rs`. All do the same work on the same servers, in turns; the last change of each work
//! is one of a record of its own, and the work is over when the target shows it.

mod contender;
mod latency;
mod programs;
mod report;
mod running;
mod upsert;
mod watch;

use crate::Result;
use crate::latency::percentile;
use crate::measure::Places;
use crate::server::{Server, binaries, release};
use crate::usage;
use contender::{Contender, Work};
use report::{Figure, Kind, Sample};
pub use report::{Results, markdown};
use running::Running;
use serde::Serialize;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio_postgres::Client;
use watch::Watch;

/// The database that is measured.
const DATABASE: &str = "bench";
/// About 250 bytes a record; a unique index over a value that is in no order.
const BARE: &str = "CREATE TABLE items (id int NOT NULL, code uuid NOT NULL, name text NOT NULL, note text NOT NULL, \
    amount numeric(12,2), tally int NOT NULL, updated timestamptz NOT NULL)";
/// Its columns.
const COLUMNS: &str = "id, code, name, note, amount, tally, updated";
/// Its indexes.
const INDEXES: [&str; 2] = ["ALTER TABLE items ADD PRIMARY KEY (id)", "CREATE UNIQUE INDEX items_code_key ON items (code)"];
/// How many records are looked up to see whether all may be there.
const SAMPLES: i32 = 200;
/// The record by whose change a work is known to be over, and the one that probes latency.
const LAST: i32 = 0;
const PROBE: i32 = -1;
/// The longest that a work may take.
const WORK_WAIT_MAX: Duration = Duration::from_secs(900);
/// How often is looked whether it is over.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// How much is measured.
#[derive(Clone, Debug, Serialize)]
pub struct Size {
    /// Records.
    pub rows: i32,
    /// Changes in transactions of a thousand.
    pub many: i32,
    /// Changes in transactions of one.
    pub single: i32,
    /// How long the steady load of 1,000 changes a second lasts.
    pub load_seconds: u64,
    /// Concord's `parallelism`.
    pub parallelism: u32,
}

/// How it is measured.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Runs of each contender.
    pub runs: u32,
    /// Only contenders that have one of these in their names; nothing: all.
    pub only: Vec<String>,
    /// Where it is noted when each work began and ended, and whose processes did it.
    pub marks: Option<PathBuf>,
}

/// Where it is measured: two servers of one release.
struct Pair {
    left: Server,
    right: Server,
}

impl Pair {
    /// Makes them, and fills the source.
    async fn start(programs: &Path, directory: &Path, rows: i32) -> Result<Pair> {
        let (left, right) = tokio::try_join!(Server::start_of(programs, directory), Server::start_of(programs, directory))?;
        for server in [&left, &right] {
            server.connect_to("postgres").await?.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await?;
        }
        let source = left.session().await?;
        source.batch_execute(&format!("{BARE}; {}; CREATE PUBLICATION native FOR TABLE items", INDEXES.join("; "))).await?;
        let fill = format!(
            "INSERT INTO items SELECT n, gen_random_uuid(), 'item ' || n, repeat(md5(n::text), 5), n * 1.25, 0, now() \
             FROM generate_series({PROBE}, {rows}) n"
        );
        source.batch_execute(&fill).await?;
        source.batch_execute("VACUUM ANALYZE items").await?;
        source.batch_execute("CHECKPOINT").await?;
        Ok(Pair { left, right })
    }

    fn servers(&self) -> [&Server; 2] {
        [&self.left, &self.right]
    }
}

/// Measures.
pub async fn run(size: &Size, asked: &Asked, places: &Places) -> Result<Results> {
    let Asked { runs, only, .. } = asked;
    let before = usage::machine_load()?;
    let mut here: Vec<Contender> = Vec::new();
    let mut absent = Vec::new();
    for contender in Contender::ALL.into_iter().filter(|contender| is_asked_for(*contender, only)) {
        match contender.absence() {
            None => here.push(contender),
            Some(why) => {
                eprintln!("left out: {}: {why}", contender.name());
                absent.push((contender.name(), why));
            }
        }
    }
    if here.is_empty() {
        return Err("nobody is left to be measured".into());
    }
    let programs = binaries();
    let pair = Pair::start(&programs, &places.directory, size.rows).await?;
    let mut servers = vec![release(&programs)?];
    let newer = match programs::peer(programs::NEWER).filter(|_| here.contains(&Contender::NativeNewer)) {
        Some(programs) => {
            servers.push(release(&programs)?);
            Some(Pair::start(&programs, &places.directory, size.rows).await?)
        }
        None => None,
    };
    let mut results = Results {
        size: size.clone(),
        runs: *runs,
        processors: std::thread::available_parallelism()?.get(),
        servers,
        machine_load: [before; 2],
        absent,
        samples: Vec::new(),
        figures: Vec::new(),
    };
    for number in 1..=*runs {
        let first = usize::try_from(number - 1)? % here.len();
        let mut order = here.clone();
        order.rotate_left(first);
        for contender in order {
            eprintln!("run {number}: {}", contender.name());
            let servers = match (contender, &newer) {
                (Contender::NativeNewer, Some(newer)) => newer.servers(),
                _ => pair.servers(),
            };
            let mut turn = Turn { contender, size, places, servers, run: number, asked, results: &mut results };
            turn.take().await.map_err(|error| format!("{}: {error}", contender.name()))?;
        }
    }
    results.machine_load[1] = usage::machine_load()?;
    Ok(results)
}

/// Whether a contender is one of those that were named, by a part of its name.
fn is_asked_for(contender: Contender, only: &[String]) -> bool {
    only.is_empty() || only.iter().any(|part| contender.name().to_lowercase().contains(&part.to_lowercase()))
}

/// One contender's turn of one run.
struct Turn<'a> {
    contender: Contender,
    size: &'a Size,
    places: &'a Places,
    servers: [&'a Server; 2],
    run: u32,
    asked: &'a Asked,
    results: &'a mut Results,
}

impl Turn<'_> {
    async fn take(&mut self) -> Result<()> {
        let [left, right] = self.servers;
        let (source, target) = (left.session().await?, right.session().await?);
        target.batch_execute("DROP TABLE IF EXISTS items; DROP SCHEMA IF EXISTS concord CASCADE").await?;
        let mut running = Running::prepare(self.contender, self.places, self.servers).await?;
        self.works(&mut running, &source, &target).await.map_err(|error| format!("{error}\n{}", running.log()))?;
        running.end(self.servers).await
    }

    async fn works(&mut self, running: &mut Running, source: &Client, target: &Client) -> Result<()> {
        tokio::try_join!(source.batch_execute("CHECKPOINT"), target.batch_execute("CHECKPOINT"))?;
        let watch = Watch::begin(self.servers, None)?;
        running.load(self.places, self.servers, self.size).await?;
        wait(async || is_loaded(target, self.size.rows).await, "the load").await?;
        if let Some(work) = self.contender.load() {
            self.note(work, &watch, running.pid())?;
        }
        running.settled(target).await?;
        for work in self.contender.catch_ups() {
            self.catch_up(running, *work).await?;
        }
        if self.contender.streams() {
            let watch = Watch::begin(self.servers, running.pid())?;
            let latencies = latency::latency(self.servers, self.size).await?;
            self.note(Work::Steady, &watch, running.pid())?;
            for (kind, part) in [(Kind::P50, 0.5), (Kind::P99, 0.99)] {
                self.figure(kind, percentile(&mut latencies.clone(), part));
            }
        }
        match self.contender.applies() {
            true => equal(source, target).await,
            false => Ok(()),
        }
    }

    async fn catch_up(&mut self, running: &mut Running, work: Work) -> Result<()> {
        let (changes, each) = if work == Work::Many { (self.size.many, 1_000) } else { (self.size.single, 1) };
        running.leave(self.servers).await?;
        let mark = edit(self.servers[0], self.size.rows, changes, each).await?;
        if work == Work::Many && !self.contender.catch_ups().is_empty() {
            let sql =
                "SELECT max(pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn))::float8 / 1e6 FROM pg_replication_slots";
            let behind: Option<f64> = self.servers[0].session().await?.query_one(sql, &[]).await?.try_get(0)?;
            if let Some(behind) = behind {
                self.figure(Kind::Behind, behind);
            }
        }
        running.make_ready(self.servers, changes, self.size.rows).await?;
        let watch = Watch::begin(self.servers, None)?;
        running.come_back(self.servers, self.places).await?;
        if self.contender.applies() {
            arrived(self.servers[1], mark).await?;
        }
        self.note(work, &watch, running.pid())?;
        if let Some(pid) = running.pid() {
            self.figure(Kind::Memory, usage::peak_memory_mb(pid)?);
        }
        Ok(())
    }

    fn note(&mut self, work: Work, watch: &Watch<'_>, pid: Option<u32>) -> Result<()> {
        let took = watch.end(pid)?;
        if let Some(marks) = &self.asked.marks {
            let mut file = std::fs::OpenOptions::new().append(true).create(true).open(marks)?;
            let own = pid.map(|pid| pid.to_string()).unwrap_or_default();
            let [source, target] = self.servers.map(Server::pid);
            let (name, begun, ended) = (work.name(), watch.uptime, usage::uptime_seconds()?);
            writeln!(file, "{name}: {}\t{begun}\t{ended}\t{own}\t{source}\t{target}", self.contender.name())?;
        }
        eprintln!(
            "  {}: {:.2} s; processor: own {:.2} s, source's {:.2} s, target's {:.2} s",
            work.name(),
            took.seconds,
            took.own_cpu,
            took.source_cpu,
            took.target_cpu
        );
        self.results.samples.push(Sample { run: self.run, work, contender: self.contender, took });
        Ok(())
    }

    fn figure(&mut self, kind: Kind, value: f64) {
        self.results.figures.push(Figure { run: self.run, kind, contender: self.contender, value });
    }
}

/// Whether every record is there, and both indexes.
async fn is_loaded(target: &Client, rows: i32) -> Result<bool> {
    let indexes = "SELECT count(*) = 2 FROM pg_index WHERE indrelid = to_regclass('items') AND indisvalid";
    if !target.query_one(indexes, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(false);
    }
    // A few first: counting all of them again and again would take the time that is measured.
    let few: Vec<i32> = (0..SAMPLES)
        .map(|n| i32::try_from(i64::from(rows) * i64::from(n) / i64::from(SAMPLES - 1)))
        .collect::<std::result::Result<_, _>>()?;
    let seen = target.query_one("SELECT count(*) FROM items WHERE id = ANY ($1::int[])", &[&few]).await?.try_get::<_, i64>(0)?;
    Ok(seen == i64::from(SAMPLES) && count(target).await? == i64::from(rows) + 2)
}

async fn count(session: &Client) -> Result<i64> {
    Ok(session.query_one("SELECT count(*) FROM items", &[]).await?.try_get(0)?)
}

async fn equal(source: &Client, target: &Client) -> Result<()> {
    let sql = format!("SELECT sum(hashtextextended(ROW({COLUMNS})::text, 0)::numeric)::text FROM items");
    let (here, there) = tokio::try_join!(source.query_one(&sql, &[]), target.query_one(&sql, &[]))?;
    let (here, there): (String, String) = (here.try_get(0)?, there.try_get(0)?);
    if here == there { Ok(()) } else { Err("source and target differ at the end".into()) }
}

async fn wait(done: impl AsyncFn() -> Result<bool>, what: &str) -> Result<()> {
    let deadline = Instant::now() + WORK_WAIT_MAX;
    while !done().await? {
        if Instant::now() >= deadline {
            return Err(format!("{what} does not end").into());
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}

/// Changes records one after the other, so many in each transaction, and at the end the last one. Answers its mark.
async fn edit(source: &Server, rows: i32, changes: i32, each: i32) -> Result<i32> {
    let session = source.session().await?;
    session.batch_execute("SET synchronous_commit = off").await?;
    let sql = "UPDATE items SET amount = amount + 1, tally = tally + 1, updated = clock_timestamp() WHERE id >= $1 AND id < $2";
    let update = session.prepare(sql).await?;
    for first in (0..changes).step_by(usize::try_from(each)?) {
        let first = first % rows + 1;
        session.execute(&update, &[&first, &(first + each)]).await?;
    }
    session.batch_execute("SET synchronous_commit = on").await?;
    let last = session.query_one("UPDATE items SET tally = tally + 1 WHERE id = $1 RETURNING tally", &[&LAST]).await?;
    Ok(last.try_get(0)?)
}

async fn arrived(target: &Server, mark: i32) -> Result<()> {
    let session = target.session().await?;
    let look = session.prepare("SELECT tally >= $1 FROM items WHERE id = $2").await?;
    wait(async || Ok(session.query_one(&look, &[&mark, &LAST]).await?.try_get(0)?), "catching up").await
}
