//! `concord-sim`: runs seeds, replays one with its trace, and hunts planted bugs.

use clap::Parser;
use concord_engine::mutants;
use concord_simulation::drift::DRIFTS_FROM;
use concord_simulation::further::FURTHER_FROM;
use concord_simulation::hunt;
use concord_simulation::run::{Report, run};
use concord_simulation::scripted::{self, Finder};
use std::process::ExitCode;

/// Runs the engine on simulated systems, one world per seed.
#[derive(Parser)]
#[command(name = "concord-sim", after_help = "Example: concord-sim --from 0 --count 2000 --jobs 2")]
struct Arguments {
    /// Replays one seed and prints its trace.
    #[arg(long)]
    seed: Option<u64>,
    /// The seeds to run, as A..B (B not among them).
    #[arg(long)]
    seeds: Option<String>,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 1_000)]
    count: u64,
    /// Plants this bug. One that takes a script: plays the seed that shows it, or names the test that does.
    #[arg(long)]
    mutant: Option<String>,
    /// Hunts every planted bug (or the one named by --mutant), in worlds of the first dimensions, of further ones, and of
    /// schemas that change, and tells how many seeds each took; of those that take a script, which test shows each.
    #[arg(long)]
    mutants: bool,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    jobs: u64,
    /// Goes on after a failure, and prints one line for each.
    #[arg(long)]
    keep_going: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mutant = match arguments.mutant.as_deref().map(scripted::mutant) {
        Some(None) => {
            let names: Vec<&str> = mutants::ALL.iter().chain(mutants::SCRIPTED).map(|(name, _)| *name).collect();
            eprintln!("no such mutant; there are: {}", names.join(", "));
            return ExitCode::from(2);
        }
        found => found.flatten(),
    };
    if arguments.mutants {
        return hunt_all(&arguments);
    }
    mutants::activate(mutant);
    let mut seed = arguments.seed;
    if let (Some(name), None, None) = (mutant, seed, &arguments.seeds) {
        match scripted::finder(name) {
            Some(Finder::Seed(shows)) => seed = Some(shows),
            Some(Finder::Test(test)) => eprintln!("{name} is shown by {}: seeds may never show it", described(test)),
            None => {}
        }
    }
    if let Some(seed) = seed {
        let report = run(seed);
        for line in &report.trace {
            println!("{line}");
        }
        println!("hash {:016x}", report.hash);
        return tell(&report, mutant);
    }
    let Some((from, to)) = range(&arguments) else {
        eprintln!("--seeds wants A..B");
        return ExitCode::from(2);
    };
    eprintln!("seeds {from}..{to}, every one of them from its beginning, on {} threads", arguments.jobs);
    match hunt::sweep(from, to, arguments.jobs, mutant, arguments.keep_going) {
        failures if failures.is_empty() => {
            println!("{} seeds: every invariant held", to - from);
            ExitCode::SUCCESS
        }
        failures => {
            for report in &failures {
                tell(report, mutant);
            }
            println!("{} of {} seeds failed", failures.len(), to - from);
            ExitCode::FAILURE
        }
    }
}

fn range(arguments: &Arguments) -> Option<(u64, u64)> {
    let Some(seeds) = &arguments.seeds else { return Some((arguments.from, arguments.from + arguments.count)) };
    let (from, to) = seeds.split_once("..")?;
    Some((from.parse().ok()?, to.parse().ok()?))
}

/// Prints what was wrong and how to see it again.
fn tell(report: &Report, mutant: Option<&str>) -> ExitCode {
    for violation in &report.violations {
        println!("seed {}: {}: record {}: {}", report.seed, violation.invariant, violation.record, violation.what);
    }
    if report.violations.is_empty() {
        println!("seed {}: every invariant held", report.seed);
        return ExitCode::SUCCESS;
    }
    let mutant = mutant.map(|name| format!(" --mutant {name}")).unwrap_or_default();
    println!("replay: concord-sim --seed {}{mutant}", report.seed);
    ExitCode::FAILURE
}

/// A test, and how it is run.
fn described(test: &str) -> String {
    format!("the test {test} (cargo nextest run --workspace --all-features {test})")
}

fn hunt_all(arguments: &Arguments) -> ExitCode {
    let mut missed = 0;
    let wanted = |name: &str| arguments.mutant.as_deref().is_none_or(|only| only == name);
    for (mutant, _) in mutants::ALL.iter().filter(|(name, _)| wanted(name)) {
        match hunt::hunt_everywhere(mutant, arguments.from, arguments.count, arguments.jobs) {
            Some((seeds, report)) => {
                let first = report.violations.first();
                let invariant = first.map_or("", |violation| violation.invariant);
                println!("{mutant:<28} found after {seeds:>6} seeds (seed {}): {invariant}", report.seed);
            }
            None => {
                missed += 1;
                let starts = [arguments.from, FURTHER_FROM, DRIFTS_FROM];
                println!("{mutant:<28} NOT FOUND in {} seeds from each of {starts:?}", arguments.count);
            }
        }
    }
    for (mutant, finder) in scripted::FOUND_BY.iter().filter(|(name, _)| wanted(name)) {
        match finder {
            Finder::Test(test) => println!("{mutant:<28} found by {}", described(test)),
            Finder::Seed(seed) => {
                let found = hunt::sweep(*seed, seed + 1, 1, Some(mutant), false);
                missed += usize::from(found.is_empty());
                let verdict = if found.is_empty() { "NOT FOUND" } else { "found" };
                println!("{mutant:<28} {verdict} in the seed written for it ({seed})");
            }
        }
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
