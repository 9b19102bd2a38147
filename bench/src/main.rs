//! Measures Concord and a peer on the same work, by what the target shows: the steps of a run are in `measure.rs`, the edits
//! in `workload.rs`, and who is measured in `contender.rs`. Whatever it starts, it stops.

mod contender;
mod hosted;
mod latency;
mod measure;
mod one_way;
mod outage;
mod process;
mod report;
mod server;
mod usage;
mod workload;

use clap::Parser;
use contender::Contender;
use measure::{Places, Size};
use report::Report;
use std::path::PathBuf;
use std::process::ExitCode;

/// Any failure: the benchmark has nobody to classify errors for.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// Measure Concord beside pglogical: latency, throughput and memory of a two-way sync.
#[derive(Debug, Parser)]
#[command(name = "concord-bench", after_help = "Example:\n  concord-bench --runs 5\n  concord-bench --quick")]
struct Arguments {
    /// A smoke run: seconds, one run, figures that say nothing; no results are written.
    #[arg(long)]
    quick: bool,
    /// Runs of each contender; else 3, and 5 in --one-way.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: Option<u32>,
    /// Measure Concord alone.
    #[arg(long)]
    alone: bool,
    /// Concord's binary; else the one beside this one.
    #[arg(long, value_name = "FILE")]
    concord: Option<PathBuf>,
    /// Where the servers' data and Concord's store go: the disk that is measured.
    #[arg(long, value_name = "FOLDER", default_value = "/tmp")]
    directory: PathBuf,
    /// Where latest.md and latest.json are written, with --one-way one-way.md and one-way.json; with --quick nowhere unless given.
    #[arg(long, value_name = "FOLDER")]
    results: Option<PathBuf>,
    /// Measure memory instead: so many changes at one side while the other cannot be reached, then its return.
    #[arg(long, value_name = "CHANGES")]
    outage: Option<u64>,
    /// Measure a simulated org and a database instead: latency both ways, loads both ways, calls.
    #[arg(long)]
    hosted: bool,
    /// Measure one way instead: mirror mode beside COPY pipes, loaders, PostgreSQL's own replication, pglogical and Debezium.
    #[arg(long)]
    one_way: bool,
    /// In --one-way only those whose names have one of these in them; may be said several times.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// In --one-way: a file that notes when each work began and ended, and whose processes did it, for a profile.
    #[arg(long, value_name = "FILE")]
    marks: Option<PathBuf>,
    /// Concord's `parallelism` in --one-way.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=256))]
    parallelism: u32,
    /// Changes of the first catch-up in --one-way; else half as many as records. Six millions leave some 5 GB of log behind.
    #[arg(long, value_parser = clap::value_parser!(i32).range(1_000..=100_000_000))]
    changes: Option<i32>,
    /// Records in the table; each is edited once for a catch-up.
    #[arg(long, value_parser = clap::value_parser!(i32).range(1_000..=10_000_000))]
    rows: Option<i32>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("concord-bench: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        tokio::select! {
            result = bench(&arguments) => result.map(|()| ExitCode::SUCCESS),
            stopped = stopped() => stopped.map(|()| ExitCode::from(130)),
        }
    });
    // Dropping the benchmark has stopped what it had started; a measuring thread may still hold a lost session.
    result.unwrap_or_else(|error| {
        eprintln!("concord-bench: {error}");
        let mut cause = error.source();
        while let Some(error) = cause {
            eprintln!("  because: {error}");
            cause = error.source();
        }
        ExitCode::FAILURE
    })
}

async fn stopped() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
        _ = terminate.recv() => Ok(()),
    }
}

async fn bench(arguments: &Arguments) -> Result<()> {
    let size = size(arguments);
    let places = Places { concord: binary(arguments)?, directory: arguments.directory.clone() };
    if let Some(changes) = arguments.outage {
        let before = usage::machine_load()?;
        let outage = outage::run(size.rows, changes, &places).await?;
        println!("{}", outage::markdown(&outage, [before, usage::machine_load()?]));
        return Ok(());
    }
    if arguments.hosted {
        let before = usage::machine_load()?;
        let (rows, edits) = if arguments.quick { (2_000, 40) } else { (50_000, 400) };
        let rows = arguments.rows.map_or(Ok(rows), usize::try_from)?;
        let hosted = hosted::run(rows, edits, &places).await?;
        println!("{}", hosted::markdown(&hosted, [before, usage::machine_load()?]));
        return Ok(());
    }
    if arguments.one_way {
        let rows = arguments.rows.unwrap_or(if arguments.quick { 20_000 } else { 1_000_000 });
        let load_seconds = if arguments.quick { 2 } else { 15 };
        let size = one_way::Size {
            rows,
            many: arguments.changes.unwrap_or(rows / 2),
            single: rows / 10,
            load_seconds,
            parallelism: arguments.parallelism,
        };
        let asked = one_way::Asked { runs: runs(arguments, 5), only: arguments.only.clone(), marks: arguments.marks.clone() };
        let results = one_way::run(&size, &asked, &places).await?;
        return keep(arguments, "one-way", &one_way::markdown(&results), &results);
    }
    let mut contenders = vec![Contender::Concord];
    if !arguments.alone {
        if server::has_pglogical() {
            contenders.push(Contender::Pglogical);
        } else {
            eprintln!("pglogical is not installed (Debian's package is postgresql-15-pglogical): Concord is measured alone");
        }
    }
    let mut all = Vec::new();
    for number in 1..=runs(arguments, 3) {
        for contender in &contenders {
            eprintln!("run {number}: {}", contender.name());
            let run = measure::run(*contender, &size, &places).await?;
            eprintln!("{}", brief(&run));
            all.push(run);
        }
        // Who comes first changes from run to run.
        contenders.reverse();
    }
    let processors = std::thread::available_parallelism()?.get();
    let report = Report { size, processors, server: server::release(&server::binaries())?, runs: all };
    keep(arguments, "latest", &report::markdown(&report), &report)
}

/// How often each contender runs; a smoke run does once.
fn runs(arguments: &Arguments, usual: u32) -> u32 {
    arguments.runs.unwrap_or(if arguments.quick { 1 } else { usual })
}

/// Prints the tables, and writes them into the folder of results with every sample.
fn keep(arguments: &Arguments, name: &str, text: &str, all: &impl serde::Serialize) -> Result<()> {
    println!("{text}");
    let folder = arguments.results.clone().or_else(|| (!arguments.quick).then(|| PathBuf::from("bench/results")));
    if let Some(folder) = folder {
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(format!("{name}.md")), text)?;
        std::fs::write(folder.join(format!("{name}.json")), serde_json::to_string(all)? + "\n")?;
        eprintln!("written: {}/{name}.md and {name}.json", folder.display());
    }
    Ok(())
}

fn size(arguments: &Arguments) -> Size {
    let (rows, idle_edits, load_seconds) = if arguments.quick { (2_000, 40, 2) } else { (100_000, 400, 15) };
    Size { rows: arguments.rows.unwrap_or(rows), idle_edits, load_seconds, load_per_second: 1_000 }
}

fn binary(arguments: &Arguments) -> Result<PathBuf> {
    let beside = || Ok::<_, Failure>(std::env::current_exe()?.with_file_name("concord"));
    let found = arguments.concord.clone().map_or_else(beside, Ok)?;
    let found = found.canonicalize().map_err(|error| format!("{}: {error}; build it first", found.display()))?;
    Ok(found)
}

/// A run in one line, while one waits for the others.
fn brief(run: &measure::Run) -> String {
    let catch_ups: Vec<String> = run.catch_ups.iter().map(|one| format!("{:.0}", one.rows_per_second)).collect();
    format!(
        "  idle p50 {:.2} p99 {:.2} ms, loaded p50 {:.2} p99 {:.2} ms at {:.0}/s, catch-up {} rows/s, machine's load {:.1}",
        run.idle.percentile(0.5),
        run.idle.percentile(0.99),
        run.loaded.percentile(0.5),
        run.loaded.percentile(0.99),
        run.load_reached,
        catch_ups.join(" and "),
        run.machine_load.first().copied().unwrap_or(f64::NAN)
    )
}
