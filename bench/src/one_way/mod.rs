//! One way: a full load, catching up after an outage, and latency, for Concord's mirror mode beside others; who they are and what
//! each does is in `contender.rs`. All do the same work on the same servers, in turns; the last change of each work is one of a
//! record of its own, and the work is over when the target shows it.

mod contender;
mod programs;

use crate::latency::percentile;
use crate::measure::Places;
use crate::server::{Server, connect};
use crate::usage;
use crate::{Failure, Result};
use contender::{Contender, Running};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio_postgres::{AsyncMessage, Client};
use tokio_util::task::TaskTracker;

/// The database that is measured.
const DATABASE: &str = "bench";
/// About 250 bytes a record; a unique index over a value that is in no order.
const BARE: &str = "CREATE TABLE items (id int NOT NULL, code uuid NOT NULL, name text NOT NULL, note text NOT NULL, \
    amount numeric(12,2), tally int NOT NULL, updated timestamptz NOT NULL)";
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

/// What one work took.
#[derive(Clone, Copy, Default)]
struct Took {
    seconds: f64,
    /// Of Concord's process, or of the pipe's.
    own_cpu: f64,
    servers_cpu: f64,
}

/// The works, and what else is measured, with its unit.
const MANY: &str = "catch-up, 1000 rows a transaction";
const SINGLE: &str = "catch-up, 1 row a transaction";
const BEHIND: &str = "log behind before the first catch-up, MB";
const MEMORY: &str = "memory at most, catching up, MB";
const P50: &str = "latency p50 at 1,000 changes a second, ms";
const P99: &str = "latency p99 at 1,000 changes a second, ms";

type Samples = BTreeMap<(&'static str, Contender), Vec<Took>>;
type Figures = BTreeMap<(&'static str, Contender), Vec<f64>>;

/// Measures, and says what it saw as a table.
pub async fn run(size: &Size, runs: u32, places: &Places) -> Result<String> {
    let before = usage::machine_load()?;
    let directory = places.directory.as_path();
    let (left, right) = tokio::try_join!(Server::start(directory), Server::start(directory))?;
    for server in [&left, &right] {
        server.connect_to("postgres").await?.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await?;
    }
    let source = left.session().await?;
    source.batch_execute(&format!("{BARE}; {}; CREATE PUBLICATION native FOR TABLE items", INDEXES.join("; "))).await?;
    let fill = format!(
        "INSERT INTO items SELECT n, gen_random_uuid(), 'item ' || n, repeat(md5(n::text), 5), n * 1.25, 0, now() \
         FROM generate_series({PROBE}, {}) n",
        size.rows
    );
    source.batch_execute(&fill).await?;
    source.batch_execute("VACUUM ANALYZE items").await?;
    source.batch_execute("CHECKPOINT").await?;
    let (mut samples, mut figures) = (Samples::new(), Figures::new());
    for number in 0..runs {
        let mut order = Contender::here();
        let first = usize::try_from(number)? % order.len();
        order.rotate_left(first);
        for contender in order {
            eprintln!("run {}: {}", number + 1, contender.name());
            one(contender, size, places, [&left, &right], &mut samples, &mut figures).await?;
        }
    }
    Ok(markdown(size, runs, &samples, &figures, [before, usage::machine_load()?]))
}

async fn one(
    contender: Contender,
    size: &Size,
    places: &Places,
    servers: [&Server; 2],
    samples: &mut Samples,
    figures: &mut Figures,
) -> Result<()> {
    let [left, right] = servers;
    let (source, target) = (left.session().await?, right.session().await?);
    target.batch_execute("DROP TABLE IF EXISTS items; DROP SCHEMA IF EXISTS concord CASCADE").await?;
    let mut running = Running::prepare(contender, places, servers).await?;
    tokio::try_join!(source.batch_execute("CHECKPOINT"), target.batch_execute("CHECKPOINT"))?;
    let watch = Watch::begin(servers, None)?;
    running.load(places, servers, size).await?;
    wait(async || is_loaded(&target, size.rows).await, "the load").await?;
    note(samples, contender.load(), contender, watch.end(running.pid())?);
    running.settled(&target).await?;
    if contender.streams() {
        catch_ups(&mut running, size, places, servers, samples, figures).await?;
        let latencies = latency(servers, size).await?;
        for (name, part) in [(P50, 0.5), (P99, 0.99)] {
            figures.entry((name, contender)).or_default().push(percentile(&mut latencies.clone(), part));
        }
    }
    equal(&source, &target).await?;
    running.end(servers).await
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
    let seen = target.query_one("SELECT count(*) FROM items WHERE id = ANY ($1)", &[&few]).await?.try_get::<_, i64>(0)?;
    Ok(seen == i64::from(SAMPLES) && count(target).await? == i64::from(rows) + 2)
}

async fn catch_ups(
    running: &mut Running,
    size: &Size,
    places: &Places,
    servers: [&Server; 2],
    samples: &mut Samples,
    figures: &mut Figures,
) -> Result<()> {
    let contender = running.contender;
    for (work, changes, each) in [(MANY, size.many, 1_000), (SINGLE, size.single, 1)] {
        running.away(servers, true, places).await?;
        let mark = edit(servers[0], size.rows, changes, each).await?;
        let sql =
            "SELECT max(pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn))::float8 / 1e6 FROM pg_replication_slots";
        let behind: f64 = servers[0].session().await?.query_one(sql, &[]).await?.try_get(0)?;
        if work == MANY {
            figures.entry((BEHIND, contender)).or_default().push(behind);
        }
        let watch = Watch::begin(servers, None)?;
        running.away(servers, false, places).await?;
        arrived(servers[1], mark).await?;
        note(samples, work, contender, watch.end(running.pid())?);
        if let Some(pid) = running.pid() {
            figures.entry((MEMORY, contender)).or_default().push(usage::peak_memory_mb(pid)?);
        }
    }
    Ok(())
}

async fn count(session: &Client) -> Result<i64> {
    Ok(session.query_one("SELECT count(*) FROM items", &[]).await?.try_get(0)?)
}

async fn equal(source: &Client, target: &Client) -> Result<()> {
    let sql = "SELECT sum(hashtextextended(items::text, 0)::numeric)::text FROM items";
    let (here, there) = tokio::try_join!(source.query_one(sql, &[]), target.query_one(sql, &[]))?;
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

fn note(samples: &mut Samples, work: &'static str, contender: Contender, took: Took) {
    eprintln!("  {work}: {:.2} s, own {:.2} s, servers {:.2} s", took.seconds, took.own_cpu, took.servers_cpu);
    samples.entry((work, contender)).or_default().push(took);
}

/// What is used from a beginning to an end.
struct Watch<'a> {
    servers: [&'a Server; 2],
    begun: Instant,
    own: f64,
    used: f64,
}

impl<'a> Watch<'a> {
    fn begin(servers: [&'a Server; 2], pid: Option<u32>) -> Result<Watch<'a>> {
        let own = own_cpu(pid)?;
        Ok(Watch { servers, begun: Instant::now(), own, used: cpu(servers)? })
    }

    fn end(&self, pid: Option<u32>) -> Result<Took> {
        let seconds = self.begun.elapsed().as_secs_f64();
        // A process that was started meanwhile began with nothing.
        let before = if pid.is_some() { 0.0 } else { self.own };
        Ok(Took { seconds, own_cpu: own_cpu(pid)? - before, servers_cpu: cpu(self.servers)? - self.used })
    }
}

/// Of Concord's process, or of this one and its children, which are the pipe.
fn own_cpu(pid: Option<u32>) -> Result<f64> {
    pid.map_or_else(|| usage::cpu_seconds_of_family(std::process::id()), usage::cpu_seconds)
}

fn cpu(servers: [&Server; 2]) -> Result<f64> {
    servers.iter().map(|server| usage::cpu_seconds_of_family(server.pid())).sum()
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

/// From a commit's return at the source until a listener at the target is told, in milliseconds, while another session
/// commits 1,000 changes a second.
async fn latency([left, right]: [&Server; 2], size: &Size) -> Result<Vec<f64>> {
    let target = right.session().await?;
    target
        .batch_execute(&format!(
            "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_notify('probe', NEW.tally::text); RETURN NULL; END $$; \
             CREATE TRIGGER tell AFTER INSERT OR UPDATE ON items FOR EACH ROW WHEN (NEW.id = {PROBE}) EXECUTE FUNCTION tell(); \
             ALTER TABLE items ENABLE ALWAYS TRIGGER tell"
        ))
        .await?;
    let (listener, mut connection) = connect(right.port(), DATABASE).await?;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    TaskTracker::new().spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(notification) = message {
                let tally: i32 = notification.payload().parse().unwrap_or_default();
                if tell.send((tally, Instant::now())).is_err() {
                    return;
                }
            }
        }
    });
    listener.batch_execute("LISTEN probe").await?;
    let until = Instant::now() + Duration::from_secs(size.load_seconds);
    let writing = load(left, size.rows, until);
    let probing = async {
        let prober = left.session().await?;
        let probe = prober.prepare("UPDATE items SET tally = tally + 1 WHERE id = $1 RETURNING tally").await?;
        let mut latencies = Vec::new();
        while Instant::now() < until {
            let mark: i32 = prober.query_one(&probe, &[&PROBE]).await?.try_get(0)?;
            let committed = Instant::now();
            loop {
                let (tally, at) = tokio::time::timeout(WORK_WAIT_MAX, told.recv()).await?.ok_or("the listener is gone")?;
                if tally >= mark {
                    latencies.push(at.saturating_duration_since(committed).as_secs_f64() * 1_000.0);
                    break;
                }
            }
            tokio::time::sleep(Duration::from_millis(13)).await;
        }
        Ok::<_, Failure>(latencies)
    };
    let ((), latencies) = tokio::try_join!(writing, probing)?;
    let mark: i32 = target.query_one("SELECT tally + 1 FROM items WHERE id = $1", &[&LAST]).await?.try_get(0)?;
    left.session().await?.execute("UPDATE items SET tally = $1 WHERE id = $2", &[&mark, &LAST]).await?;
    arrived(right, mark).await?;
    target.batch_execute("DROP FUNCTION tell CASCADE").await?;
    Ok(latencies)
}

async fn load(left: &Server, rows: i32, until: Instant) -> Result<()> {
    let writer = left.session().await?;
    let update = writer.prepare("UPDATE items SET amount = amount + 1, tally = tally + 1 WHERE id = $1").await?;
    let mut due = Instant::now();
    for number in 0.. {
        if Instant::now() >= until {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        writer.execute(&update, &[&(number % rows + 1)]).await?;
        due += Duration::from_millis(1);
    }
    Ok(())
}

fn markdown(size: &Size, runs: u32, samples: &Samples, figures: &Figures, load: [f64; 2]) -> String {
    let mut lines = vec![
        format!(
            "{runs} runs, {} records; medians; machine's load {:.1} at the beginning, {:.1} at the end",
            size.rows, load[0], load[1]
        ),
        String::new(),
        "| work | contender | rows/s | seconds, least .. most | Concord : this one | own processor s | servers' processor s |"
            .into(),
        "|---|---|---|---|---|---|---|".into(),
    ];
    let median = |values: &[f64]| percentile(&mut values.to_vec(), 0.5);
    let seconds = |took: &[Took]| took.iter().map(|took| took.seconds).collect::<Vec<f64>>();
    for ((work, contender), took) in samples {
        let rows = match *work {
            MANY => size.many,
            SINGLE => size.single,
            _ => size.rows,
        };
        let all = seconds(took);
        let ours = Contender::OURS.iter().find_map(|ours| samples.get(&(*work, *ours)));
        let ours = ours.map_or(f64::NAN, |took| median(&seconds(took)));
        let own = median(&took.iter().map(|took| took.own_cpu).collect::<Vec<f64>>());
        let own = if contender.is_inside() { "in the servers".to_owned() } else { format!("{own:.2}") };
        lines.push(format!(
            "| {work} | {} | {:.0} | {:.2} .. {:.2} | {:.2} | {own} | {:.2} |",
            contender.name(),
            f64::from(rows) / median(&all),
            all.iter().copied().fold(f64::INFINITY, f64::min),
            all.iter().copied().fold(0.0, f64::max),
            median(&all) / ours,
            median(&took.iter().map(|took| took.servers_cpu).collect::<Vec<f64>>()),
        ));
    }
    lines.extend([String::new(), "| what | contender | median | least .. most |".into(), "|---|---|---|---|".into()]);
    for ((what, contender), values) in figures {
        lines.push(format!(
            "| {what} | {} | {:.2} | {:.2} .. {:.2} |",
            contender.name(),
            median(values),
            values.iter().copied().fold(f64::INFINITY, f64::min),
            values.iter().copied().fold(0.0, f64::max),
        ));
    }
    lines.join("\n")
}
