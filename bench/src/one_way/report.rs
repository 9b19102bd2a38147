//! From samples to tables: medians with the least and the most of all runs, each beside the named peer of its work, and what the
//! goals come to. Pure text out of plain data.

use super::Size;
use super::contender::{Contender, Work};
use super::watch::Took;
use crate::latency::percentile;
use serde::Serialize;
use std::fmt::Write as _;

/// Everything that was found.
#[derive(Debug, Serialize)]
pub struct Results {
    pub size: Size,
    /// Runs of each contender.
    pub runs: u32,
    /// Processors of the machine.
    pub processors: usize,
    /// The servers' releases.
    pub servers: Vec<String>,
    /// The machine's load over the last minute, at the beginning and at the end.
    pub machine_load: [f64; 2],
    /// Who could not be measured, and why.
    pub absent: Vec<(&'static str, String)>,
    /// What every work of every run took, in the order in which they were done.
    pub samples: Vec<Sample>,
    /// What else was measured.
    pub figures: Vec<Figure>,
}

/// What one work of one run took.
#[derive(Debug, Serialize)]
pub struct Sample {
    pub run: u32,
    pub work: Work,
    pub contender: Contender,
    #[serde(flatten)]
    pub took: Took,
}

/// One figure of one run.
#[derive(Debug, Serialize)]
pub struct Figure {
    pub run: u32,
    pub kind: Kind,
    pub contender: Contender,
    pub value: f64,
}

/// What else is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Latency at 1,000 changes a second, in milliseconds.
    P50,
    /// See above.
    P99,
    /// The most memory of a process that catches up, in megabytes.
    Memory,
    /// The source's log that a contender had not got before the first catch-up, in megabytes.
    Behind,
}

/// Median, least and most.
#[derive(Clone, Copy, Debug)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Spread> {
        let (least, most) = (values.iter().copied().reduce(f64::min)?, values.iter().copied().reduce(f64::max)?);
        Some(Spread { median: percentile(&mut values, 0.5), least, most })
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Spread { median, least, most } = *self;
        match least == most {
            true => f.write_str(&digits(median)),
            false => write!(f, "{} ({}..{})", digits(median), digits(least), digits(most)),
        }
    }
}

fn digits(value: f64) -> String {
    match value {
        huge if huge >= 10_000.0 => {
            let plain = format!("{huge:.0}");
            let grouped = plain.char_indices().map(|(place, digit)| match (plain.len() - place) % 3 {
                0 if place > 0 => format!(",{digit}"),
                _ => digit.to_string(),
            });
            grouped.collect()
        }
        large if large.abs() >= 100.0 => format!("{large:.0}"),
        middle if middle.abs() >= 10.0 => format!("{middle:.1}"),
        small => format!("{small:.2}"),
    }
}

impl Results {
    fn spread(&self, work: Work, contender: Contender, value: impl Fn(&Took) -> f64) -> Option<Spread> {
        let own = self.samples.iter().filter(|sample| sample.work == work && sample.contender == contender);
        Spread::of(own.map(|sample| value(&sample.took)).collect())
    }

    fn rates(&self, work: Work, contender: Contender) -> Option<Spread> {
        let rows = f64::from(self.rows(work)?);
        self.spread(work, contender, |took| rows / took.seconds)
    }

    fn rows(&self, work: Work) -> Option<i32> {
        match work {
            Work::Load | Work::LoadThenIndex => Some(self.size.rows),
            Work::Many => Some(self.size.many),
            Work::Single => Some(self.size.single),
            Work::Steady => None,
        }
    }

    fn figure(&self, kind: Kind, contender: Contender) -> Option<Spread> {
        let own = self.figures.iter().filter(|figure| figure.kind == kind && figure.contender == contender);
        Spread::of(own.map(|figure| figure.value).collect())
    }

    /// How a contender's speed compares with another's, by the medians of both.
    fn ratio(&self, work: Work, contender: Contender, other: Contender) -> Option<f64> {
        Some(self.rates(work, contender)?.median / self.rates(work, other)?.median)
    }
}

fn cell(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "–".to_owned(), |spread| spread.to_string())
}

fn name(contender: Contender) -> String {
    match contender.is_ours() {
        true => format!("**{}**", contender.name()),
        false => contender.name().to_owned(),
    }
}

/// The tables, as they are printed, and put into docs/performance.md.
pub fn markdown(results: &Results) -> String {
    let Results { size, runs, processors, servers, machine_load: [before, after], .. } = results;
    let mut text = format!(
        "# One way: mirror mode beside its peers\n\n{runs} runs of each, in turns; median (least..most). {}, fsync on, loopback, {processors} \
         processors; the machine's\nload {before:.1} at the beginning and {after:.1} at the end. {} records; {} changes in transactions of 1,000, \
         {} in transactions of one;\n`parallelism` {}. The ratio is that of the medians to the named peer's: above 1, who is named in the line is faster.\n\n\
         | work | contender | rows/s | ratio to the named peer | own processor, s | source's server, s | target's server, s |\n\
         |---|---|---|---|---|---|---|\n",
        servers.join(" and "),
        size.rows,
        size.many,
        size.single,
        size.parallelism
    );
    for work in Work::ALL.into_iter().filter(|work| *work != Work::Steady) {
        rates(&mut text, results, work);
    }
    steady(&mut text, results);
    goals(&mut text, results);
    for (contender, why) in &results.absent {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "\nLeft out: {contender}: {why}.");
    }
    text.push_str("\nWhat each line means, and what is not compared: README.md of this folder.\n");
    text
}

fn rates(text: &mut String, results: &Results, work: Work) {
    let peer = work.named_peer();
    let mut title = format!("{} (named peer: {})", work.name(), peer.name());
    for contender in Contender::ALL {
        let Some(rates) = results.rates(work, contender) else { continue };
        let ratio = match results.ratio(work, contender, peer) {
            Some(_) if contender == peer => "1".to_owned(),
            Some(ratio) => format!("{ratio:.2}"),
            None => "–".to_owned(),
        };
        let line = processors(results, work, contender);
        let _ = writeln!(text, "| {title} | {} | {rates} | {ratio} | {line} |", name(contender));
        title.clear();
    }
}

fn processors(results: &Results, work: Work, contender: Contender) -> String {
    let own = match contender.is_inside() {
        true => "in the servers".to_owned(),
        false => cell(results.spread(work, contender, |took| took.own_cpu)),
    };
    let source = cell(results.spread(work, contender, |took| took.source_cpu));
    let target = cell(results.spread(work, contender, |took| took.target_cpu));
    format!("{own} | {source} | {target}")
}

fn steady(text: &mut String, results: &Results) {
    let seconds = results.size.load_seconds;
    let _ = write!(
        text,
        "\n| at 1,000 changes a second for {seconds} s (named peer: {}) | p50, ms | p99, ms | ratio of p50, p99 | own processor, s | source's server, s | \
         target's server, s | memory at most while catching up, MB | log behind before, MB |\n|---|---|---|---|---|---|---|---|---|\n",
        Work::Steady.named_peer().name()
    );
    let peer = Work::Steady.named_peer();
    for contender in Contender::ALL.into_iter().filter(|contender| contender.streams()) {
        let (Some(p50), Some(p99)) = (results.figure(Kind::P50, contender), results.figure(Kind::P99, contender)) else {
            continue;
        };
        let to = |kind: Kind, own: Spread| results.figure(kind, peer).map(|peer| own.median / peer.median);
        let ratio = match (to(Kind::P50, p50), to(Kind::P99, p99)) {
            (Some(p50), Some(p99)) if contender != peer => format!("{p50:.2}, {p99:.2}"),
            (Some(_), Some(_)) => "1, 1".to_owned(),
            _ => "–".to_owned(),
        };
        let memory = match contender.is_inside() {
            true => "in the servers".to_owned(),
            false => cell(results.figure(Kind::Memory, contender)),
        };
        let line = processors(results, Work::Steady, contender);
        let behind = cell(results.figure(Kind::Behind, contender));
        let _ = writeln!(text, "| {} | {p50} | {p99} | {ratio} | {line} | {memory} | {behind} |", name(contender));
    }
}

/// What was promised, and what came of it.
fn goals(text: &mut String, results: &Results) {
    use Contender::{CopyThenIndexes, CopyTwo, Mirror, MirrorThenIndex, Native, Restore};
    let times = |ratio: Option<f64>| ratio.map(|ratio| format!("{ratio:.2} ×"));
    let most = |figure: Option<Spread>| figure.map(|spread| digits(spread.most));
    let median = |figure: Option<Spread>| figure.map(|spread| digits(spread.median));
    let own = |work: Work, per: f64| {
        let rows = f64::from(results.rows(work)?);
        results.spread(work, Mirror, |took| took.own_cpu * per / rows).map(|spread| digits(spread.median))
    };
    let lines = [
        ("full load, of the COPY pipe in two ranges", "≥ 1.0 ×", times(results.ratio(Work::Load, Mirror, CopyTwo))),
        (
            "full load into an empty target, of COPY, then indexes",
            "≥ 0.9 ×",
            times(results.ratio(Work::LoadThenIndex, MirrorThenIndex, CopyThenIndexes)),
        ),
        ("the same, of `pg_restore`", "> 1 ×", times(results.ratio(Work::LoadThenIndex, MirrorThenIndex, Restore))),
        ("catch-up, 1,000 a transaction, of PostgreSQL's own", "≥ 1.5 ×", times(results.ratio(Work::Many, Mirror, Native))),
        ("catch-up, 1 a transaction, of PostgreSQL's own", "≥ 1.3 ×", times(results.ratio(Work::Single, Mirror, Native))),
        ("latency, p50", "≤ 1.5 ms", median(results.figure(Kind::P50, Mirror))),
        ("latency, p99", "≤ 6 ms", median(results.figure(Kind::P99, Mirror))),
        ("memory at most, the most of all runs", "≤ 150 MB", most(results.figure(Kind::Memory, Mirror))),
        ("own processor for a million records loaded", "≤ 2 s", own(Work::Load, 1e6)),
        ("own processor for 500,000 changes", "≤ 3.5 s", own(Work::Many, 5e5)),
    ];
    text.push_str("\n| goal of Concord's | wanted | measured |\n|---|---|---|\n");
    for (what, wanted, measured) in lines {
        let _ = writeln!(text, "| {what} | {wanted} | {} |", measured.unwrap_or_else(|| "–".to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(seconds: f64) -> Took {
        Took { seconds, own_cpu: 0.5, source_cpu: 1.5, target_cpu: 2.5 }
    }

    fn results() -> Results {
        let mut samples = Vec::new();
        let mut figures = Vec::new();
        for (run, ours, theirs) in [(1, 2.0, 1.0), (2, 1.0, 2.0), (3, 4.0, 4.0)] {
            for (contender, seconds) in [(Contender::Mirror, ours), (Contender::Native, theirs)] {
                for work in [Work::Many, Work::Steady] {
                    samples.push(Sample { run, work, contender, took: took(seconds) });
                }
                figures.push(Figure { run, kind: Kind::P50, contender, value: seconds });
                figures.push(Figure { run, kind: Kind::P99, contender, value: seconds * 10.0 });
            }
            figures.push(Figure { run, kind: Kind::Memory, contender: Contender::Mirror, value: 60.0 + f64::from(run) });
        }
        let size = Size { rows: 100_000, many: 50_000, single: 10_000, load_seconds: 2, parallelism: 2 };
        let absent = vec![(Contender::Sling.name(), "not installed".to_owned())];
        let servers = vec!["PostgreSQL 15".to_owned()];
        Results { size, runs: 3, processors: 2, servers, machine_load: [0.0, 1.0], absent, samples, figures }
    }

    #[test]
    fn a_line_shows_medians_their_spread_the_ratio_to_the_named_peer_and_the_processors_apart() {
        let text = markdown(&results());
        assert!(text.contains("| **Concord, mirror mode** | 25,000 (12,500..50,000) | 1.00 | 0.50 | 1.50 | 2.50 |"), "{text}");
        assert!(text.contains("| PostgreSQL's own | 25,000 (12,500..50,000) | 1 | in the servers | 1.50 | 2.50 |"), "{text}");
        assert!(text.contains("| **Concord, mirror mode** | 2.00 (1.00..4.00) | 20.0 (10.0..40.0) | 1.00, 1.00 | 0.50 | 1.50 | 2.50 | 62.0 (61.0..63.0) | – |"), "{text}");
    }

    #[test]
    fn a_goal_is_held_against_what_was_measured_and_who_is_missing_is_named() {
        let text = markdown(&results());
        assert!(text.contains("| catch-up, 1,000 a transaction, of PostgreSQL's own | ≥ 1.5 × | 1.00 × |"), "{text}");
        assert!(text.contains("| memory at most, the most of all runs | ≤ 150 MB | 63.0 |"), "{text}");
        assert!(text.contains("| own processor for 500,000 changes | ≤ 3.5 s | 5.00 |"), "{text}");
        assert!(text.contains("| full load, of the COPY pipe in two ranges | ≥ 1.0 × | – |"), "{text}");
        assert!(text.contains("Left out: sling: not installed."), "{text}");
    }

    #[test]
    fn thousands_are_told_apart() {
        assert_eq!([9.994, 12.34, 999.6, 12_005.0, 1_234_567.0].map(digits), ["9.99", "12.3", "1000", "12,005", "1,234,567"]);
    }
}
