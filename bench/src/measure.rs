//! One run of one contender on fresh servers, from the seed to the last figure. The steps and their order are the same for
//! all contenders.

use crate::Result;
use crate::contender::{Contender, Running};
use crate::latency::{self, Latencies, Series};
use crate::server::Server;
use crate::usage;
use crate::workload::{Edits, LEFT, PROBES, Pair, RIGHT, edit_everything, edit_steadily};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How much is measured.
#[derive(Clone, Debug, Serialize)]
pub struct Size {
    /// Records beside the probes, in all.
    pub rows: i32,
    /// Edits of the idle series.
    pub idle_edits: usize,
    /// How long the steady load lasts.
    pub load_seconds: u64,
    /// Edits per second asked for, over both sides.
    pub load_per_second: u32,
}

/// Where the parts are.
#[derive(Clone, Debug)]
pub struct Places {
    /// Concord's binary.
    pub concord: PathBuf,
    /// Below it are the servers' data and Concord's store.
    pub directory: PathBuf,
}

/// How a backlog was caught up with.
#[derive(Clone, Debug, Serialize)]
pub struct CatchUp {
    /// Records in one transaction of the backlog.
    pub per_transaction: i32,
    /// Records edited while the contender was away, over both sides.
    pub rows: u64,
    /// From the contender's start until both sides showed the same.
    pub seconds: f64,
    /// Records per second.
    pub rows_per_second: f64,
    /// Processor seconds of Concord's process; nothing for a contender that lives in the servers.
    pub own_cpu_seconds: Option<f64>,
    /// Processor seconds of both servers, replication workers included.
    pub servers_cpu_seconds: f64,
    /// The most memory of Concord's process.
    pub peak_memory_mb: Option<f64>,
}

/// The figures of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Whose.
    pub contender: Contender,
    /// The machine's load over the last minute, when the run began and when it was over.
    pub machine_load: [f64; 2],
    /// What the commit and the measuring take by themselves: edits seen at their own side.
    pub floor: Latencies,
    /// One edit at a time.
    pub idle: Latencies,
    /// Probes while the steady load ran.
    pub loaded: Latencies,
    /// Edits per second that the writers of the steady load really committed.
    pub load_reached: f64,
    /// From the last edit of the steady load until both sides showed the same.
    pub load_drained_seconds: f64,
    /// Backlogs of different shapes.
    pub catch_ups: Vec<CatchUp>,
}

/// Carries out one run.
pub async fn run(contender: Contender, size: &Size, places: &Places) -> Result<Run> {
    let load_before = usage::machine_load()?;
    let directory: &Path = &places.directory;
    let servers = tokio::try_join!(Server::start(directory), Server::start(directory))?;
    let pair = Pair { servers: servers.into(), rows: size.rows + PROBES };
    pair.seed().await?;
    let mut running = Running::begin(contender, &pair, &places.concord, directory).await?;
    let figures = figures(&mut running, &pair, size).await;
    let figures = figures.inspect_err(|_| eprintln!("{} failed; the end of its log:\n{}", contender.name(), running.log()))?;
    // It must be gone before the servers stop.
    running.leave(&pair).await?;
    let (floor, idle, (loaded, load_reached, load_drained_seconds), catch_ups) = figures;
    let machine_load = [load_before, usage::machine_load()?];
    Ok(Run { contender, machine_load, floor, idle, loaded, load_reached, load_drained_seconds, catch_ups })
}

type Figures = (Latencies, Latencies, (Latencies, f64, f64), Vec<CatchUp>);

async fn figures(running: &mut Running, pair: &Pair, size: &Size) -> Result<Figures> {
    let series = Series {
        ports: [pair.server(LEFT).port(), pair.server(RIGHT).port()],
        count: size.idle_edits,
        until: None,
        pause: Duration::from_millis(10),
        at_its_own_side: false,
    };
    // The first edits fill caches and prepare statements; they are not counted.
    latency::measure(Series { count: size.idle_edits.div_ceil(10).max(4), ..series }).await?;
    let floor = latency::measure(Series { at_its_own_side: true, ..series }).await?;
    pair.wait_until_level().await?;
    let idle = latency::measure(series).await?;
    let loaded = under_load(pair, size, series).await?;
    let mut catch_ups = Vec::new();
    for per_transaction in [1, 100] {
        catch_ups.push(catch_up(running, pair, per_transaction).await?);
    }
    Ok((floor, idle, loaded, catch_ups))
}

/// Latency of probes while the other records are edited at a steady rate; the rate reached; the time until level.
async fn under_load(pair: &Pair, size: &Size, series: Series) -> Result<(Latencies, f64, f64)> {
    let began = Instant::now();
    let until = began + Duration::from_secs(size.load_seconds);
    let load = async {
        let edits = edit_steadily(pair, size.load_per_second, until).await?;
        Ok::<_, crate::Failure>((edits, Instant::now()))
    };
    let probes = latency::measure(Series { count: usize::MAX, until: Some(until), ..series });
    let ((edits, ended), latencies) = tokio::try_join!(load, probes)?;
    let level = pair.wait_until_level().await?;
    let reached = number(edits)? / ended.duration_since(began).as_secs_f64();
    Ok((latencies, reached, level.saturating_duration_since(ended).as_secs_f64()))
}

/// The contender is away while every record is edited once, half of them at each side; then it comes back.
async fn catch_up(running: &mut Running, pair: &Pair, per_transaction: i32) -> Result<CatchUp> {
    running.leave(pair).await?;
    let rows = edit_everything(pair, Edits { per_transaction, durable: false }).await?;
    for server in &pair.servers {
        // Else the servers would clean up after these edits, and those of the catch-up before, while it is measured.
        server.session().await?.batch_execute("VACUUM ANALYZE accounts").await?;
        server.session().await?.batch_execute("CHECKPOINT").await?;
    }
    let servers_before = servers_cpu(pair)?;
    let began = Instant::now();
    running.come_back(pair).await?;
    // The looks at both sides cost as much for every contender; the first one waits for most of the work to be done.
    wait_for_the_last(pair, running).await?;
    let level = pair.wait_until_level().await?;
    let seconds = level.duration_since(began).as_secs_f64();
    let own = running.pid();
    Ok(CatchUp {
        per_transaction,
        rows,
        seconds,
        rows_per_second: number(rows)? / seconds,
        own_cpu_seconds: own.map(usage::cpu_seconds).transpose()?,
        servers_cpu_seconds: servers_cpu(pair)? - servers_before,
        peak_memory_mb: own.map(usage::peak_memory_mb).transpose()?,
    })
}

/// Waits until the last records of the backlog have arrived at the other side, by a look at two records: the whole tables
/// are compared only then.
async fn wait_for_the_last(pair: &Pair, running: &Running) -> Result<()> {
    const SHOWN: &str = "SELECT updated::text FROM accounts WHERE id = $1";
    const PATIENCE: Duration = Duration::from_secs(600);
    for side in [LEFT, RIGHT] {
        let (source, target) = (pair.server(side).session().await?, pair.server(1 - side).session().await?);
        let (of_source, of_target) = (source.prepare(SHOWN).await?, target.prepare(SHOWN).await?);
        // The greatest record of this side.
        let last = if (pair.rows % 2 == 1) == (side == LEFT) { pair.rows } else { pair.rows - 1 };
        let wanted: String = source.query_one(&of_source, &[&last]).await?.try_get(0)?;
        let deadline = Instant::now() + PATIENCE;
        while target.query_one(&of_target, &[&last]).await?.try_get::<_, String>(0)? != wanted {
            if Instant::now() >= deadline {
                return Err(format!("the last edit does not arrive\n{}", running.log()).into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    Ok(())
}

fn servers_cpu(pair: &Pair) -> Result<f64> {
    pair.servers.iter().map(|server| usage::cpu_seconds_of_family(server.pid())).sum()
}

fn number(count: u64) -> Result<f64> {
    Ok(f64::from(u32::try_from(count)?))
}
