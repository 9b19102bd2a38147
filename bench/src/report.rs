//! From runs to a table: medians with the least and the most of all runs, and the ratio between the contenders.
//! Pure text out of plain data; what is compared and what is not is said beside the figures.

use crate::contender::Contender;
use crate::latency::percentile;
use crate::measure::{Run, Size};
use serde::Serialize;
use std::fmt::Write as _;

/// Everything that a benchmark found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// How much was measured.
    pub size: Size,
    /// Processors of the machine.
    pub processors: usize,
    /// The server's release.
    pub server: String,
    /// All runs, in the order in which they were made.
    pub runs: Vec<Run>,
}

/// A line of the table.
struct Line {
    what: &'static str,
    unit: &'static str,
    value: fn(&Run) -> Option<f64>,
    /// Whether a ratio between the contenders says something.
    compared: bool,
}

const fn compared(what: &'static str, unit: &'static str, value: fn(&Run) -> Option<f64>) -> Line {
    Line { what, unit, value, compared: true }
}

const fn alone(what: &'static str, unit: &'static str, value: fn(&Run) -> Option<f64>) -> Line {
    Line { what, unit, value, compared: false }
}

const LINES: &[Line] = &[
    compared("latency, idle, p50", "ms", |run| Some(run.idle.percentile(0.5))),
    compared("latency, idle, p99", "ms", |run| Some(run.idle.percentile(0.99))),
    compared("latency under load, p50", "ms", |run| Some(run.loaded.percentile(0.5))),
    compared("latency under load, p99", "ms", |run| Some(run.loaded.percentile(0.99))),
    alone("the same edit seen at its own side, p50", "ms", |run| Some(run.floor.percentile(0.5))),
    alone("load reached", "edits/s", |run| Some(run.load_reached)),
    alone("level after the load's end", "s", |run| Some(run.load_drained_seconds)),
    compared("catch-up, 1 row a transaction", "rows/s", |run| Some(run.catch_ups.first()?.rows_per_second)),
    compared("catch-up, 100 rows a transaction", "rows/s", |run| Some(run.catch_ups.get(1)?.rows_per_second)),
    alone("Concord's memory at most, catch-up", "MB", |run| {
        run.catch_ups.iter().filter_map(|one| one.peak_memory_mb).max_by(f64::total_cmp)
    }),
    alone("Concord's processor, catch-up, 1 row", "s", |run| run.catch_ups.first()?.own_cpu_seconds),
    alone("Concord's processor, catch-up, 100 rows", "s", |run| run.catch_ups.get(1)?.own_cpu_seconds),
    compared("servers' processor, catch-up, 1 row", "s", |run| Some(run.catch_ups.first()?.servers_cpu_seconds)),
    compared("servers' processor, catch-up, 100 rows", "s", |run| Some(run.catch_ups.get(1)?.servers_cpu_seconds)),
    alone("machine's load, run's begin", "", |run| run.machine_load.first().copied()),
    alone("machine's load, run's end", "", |run| run.machine_load.last().copied()),
];

/// Median, least and most over the runs of one contender.
fn spread(runs: &[Run], contender: Contender, value: fn(&Run) -> Option<f64>) -> Option<(f64, f64, f64)> {
    let mut values: Vec<f64> = runs.iter().filter(|run| run.contender == contender).filter_map(value).collect();
    let (least, most) = (values.iter().copied().reduce(f64::min)?, values.iter().copied().reduce(f64::max)?);
    Some((percentile(&mut values, 0.5), least, most))
}

fn digits(value: f64) -> String {
    match value {
        large if large.abs() >= 100.0 => format!("{large:.0}"),
        middle if middle.abs() >= 10.0 => format!("{middle:.1}"),
        small => format!("{small:.2}"),
    }
}

fn cell(spread: Option<(f64, f64, f64)>) -> String {
    spread.map_or_else(
        || "–".to_owned(),
        |(median, least, most)| format!("{} ({}..{})", digits(median), digits(least), digits(most)),
    )
}

/// The report as Markdown, which is also what is printed.
pub fn markdown(report: &Report) -> String {
    let runs = report.runs.iter().filter(|run| run.contender == Contender::Concord).count();
    let size = &report.size;
    let mut text = format!(
        "# Concord beside pglogical, both ways\n\n\
         {runs} runs of each, in turn, on fresh servers; median (least..most). {}, fsync on, loopback, {} processors.\n\
         {} records and {} idle edits a run; load of {} edits/s asked for over both sides, {} s; every record edited once for\n\
         each catch-up, half of them at each side.\n\n\
         | what | unit | Concord | pglogical | Concord : pglogical |\n|---|---|---|---|---|\n",
        report.server, report.processors, size.rows, size.idle_edits, size.load_per_second, size.load_seconds
    );
    for line in LINES {
        let [ours, theirs] =
            [Contender::Concord, Contender::Pglogical].map(|contender| spread(&report.runs, contender, line.value));
        let ratio = match (line.compared, ours, theirs) {
            (true, Some((ours, ..)), Some((theirs, ..))) if theirs > 0.0 => format!("{:.2}", ours / theirs),
            _ => String::new(),
        };
        // Writing into a string cannot fail.
        let _ = writeln!(text, "| {} | {} | {} | {} | {ratio} |", line.what, line.unit, cell(ours), cell(theirs));
    }
    text.push_str(
        "\nLatency and processor: less is better; rows/s: more is better. What each line means, and what is not compared:\n\
         README.md of this folder.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Latencies;
    use crate::measure::CatchUp;

    fn run(contender: Contender, milliseconds: f64, rows_per_second: f64) -> Run {
        let latencies = Latencies { rightwards_ms: vec![milliseconds], leftwards_ms: vec![milliseconds] };
        let catch_up = CatchUp {
            per_transaction: 1,
            rows: 10,
            seconds: 1.0,
            rows_per_second,
            own_cpu_seconds: (contender == Contender::Concord).then_some(1.0),
            servers_cpu_seconds: 2.0,
            peak_memory_mb: (contender == Contender::Concord).then_some(50.0),
        };
        Run {
            contender,
            machine_load: [0.5, 1.0],
            floor: latencies.clone(),
            idle: latencies.clone(),
            loaded: latencies,
            load_reached: 1_000.0,
            load_drained_seconds: 0.0,
            catch_ups: vec![catch_up.clone(), catch_up],
        }
    }

    fn report(runs: Vec<Run>) -> Report {
        let size = Size { rows: 10, idle_edits: 1, load_seconds: 1, load_per_second: 1_000 };
        Report { size, processors: 2, server: "PostgreSQL 15".into(), runs }
    }

    #[test]
    fn a_line_shows_medians_their_spread_and_the_ratio_of_the_medians() {
        let ours = [3.0, 1.0, 2.0].map(|latency| run(Contender::Concord, latency, 10_000.0));
        let theirs = [0.5, 0.5, 1.5].map(|latency| run(Contender::Pglogical, latency, 40_000.0));
        let text = markdown(&report(ours.into_iter().chain(theirs).collect()));
        assert!(text.contains("| latency, idle, p50 | ms | 2.00 (1.00..3.00) | 0.50 (0.50..1.50) | 4.00 |"), "{text}");
        assert!(text.contains("| rows/s | 10000 (10000..10000) | 40000 (40000..40000) | 0.25 |"), "{text}");
    }

    #[test]
    fn without_the_peer_its_cells_stay_empty() {
        let text = markdown(&report(vec![run(Contender::Concord, 1.0, 10.0)]));
        assert!(text.contains("| latency, idle, p50 | ms | 1.00 (1.00..1.00) | – |  |"), "{text}");
    }
}
