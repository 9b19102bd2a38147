//! How far first reads have got, while `concord run` runs: bars where standard error is a terminal, lines of the log now and then
//! where it is not. Shows what the status says and asks the systems for nothing but how many records there are, once.

use concord_engine::connector::Connector;
use concord_engine::record::{ObjectName, SystemName};
use concord_engine::runtime::status::{LoadStatus, Status, amount};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How often it is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How often a line is logged of a read that goes on, and after how long the first one.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
const LINE_FIRST: Duration = Duration::from_secs(1);
/// How long a system may take to say how many records there are.
const COUNT_WAIT_MAX: Duration = Duration::from_secs(30);

/// The bars on the terminal, which lines are written above.
static BARS: OnceLock<MultiProgress> = OnceLock::new();

/// Standard error, for those who write lines to it while there may be bars.
#[derive(Clone, Copy, Debug, Default)]
pub struct AboveBars;

impl Write for AboveBars {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match BARS.get() {
            Some(bars) => bars.suspend(|| std::io::stderr().write(bytes)),
            None => std::io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// A first read of one member of a sync.
type Of = (String, String, String);

/// A read that is shown.
struct Read {
    begun: Instant,
    /// How many records there were when it was met first.
    before: u64,
    /// About how many there are, where only the system knows.
    of: Option<u64>,
    last: LoadStatus,
    line_at: Instant,
    bar: Option<ProgressBar>,
}

/// Shows them until the status ends.
pub async fn show(mut status: watch::Receiver<Status>, systems: Vec<(SystemName, Arc<dyn Connector>)>) {
    let bars = std::io::stderr().is_terminal().then(|| BARS.get_or_init(MultiProgress::new));
    let mut reads: BTreeMap<Of, Read> = BTreeMap::new();
    loop {
        let told = status.borrow_and_update().clone();
        let present = loads(&told);
        for (of, load) in &present {
            if !reads.contains_key(of) {
                let about = if load.of.is_some() { None } else { count(&systems, of).await };
                reads.insert(of.clone(), Read::begin(load, about, bars, of));
            }
            if let Some(read) = reads.get_mut(of) {
                read.go_on(load, of);
            }
        }
        reads.retain(|of, read| {
            let goes_on = present.contains_key(of);
            if !goes_on {
                read.end(of, is_done(&told, of));
            }
            goes_on
        });
        tokio::time::sleep(LOOK_INTERVAL).await;
        if status.changed().await.is_err() {
            return;
        }
    }
}

/// The first reads that are under way.
fn loads(status: &Status) -> BTreeMap<Of, LoadStatus> {
    let mut present = BTreeMap::new();
    for sync in &status.syncs {
        for member in &sync.members {
            if let Some(load) = &member.progress {
                present.insert((sync.name.clone(), member.system.clone(), member.object.clone()), load.clone());
            }
        }
    }
    present
}

/// Whether a first read is over; else it was broken off with its engine, and is shown anew when it goes on.
fn is_done(status: &Status, (sync, system, object): &Of) -> bool {
    // Before that, nobody has looked how far it got.
    let has_looked = |stage: &str| ["loading", "live"].iter().any(|known| stage.starts_with(known));
    let syncs = status.syncs.iter().filter(|known| known.name == *sync && has_looked(&known.stage));
    let of_sync = syncs.flat_map(|known| &known.members);
    of_sync
        .filter(|member| member.system == *system && member.object == *object)
        .any(|member| member.load.starts_with("done") || member.load.starts_with("asking after"))
}

/// About how many records there are.
async fn count(systems: &[(SystemName, Arc<dyn Connector>)], (_, system, object): &Of) -> Option<u64> {
    let (_, connector) = systems.iter().find(|(name, _)| name.as_str() == system)?;
    let object = ObjectName::from(object.as_str());
    tokio::time::timeout(COUNT_WAIT_MAX, connector.count(&object)).await.ok()?.ok()
}

impl Read {
    fn begin(load: &LoadStatus, of: Option<u64>, bars: Option<&MultiProgress>, (sync, system, object): &Of) -> Read {
        let now = Instant::now();
        let bar = bars.map(|bars| {
            let bar = bars.add(ProgressBar::new(0));
            // A template that is none shows the plain bar.
            if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:30}] {percent:>3} % {msg}") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(format!("{sync}: {system} {object}"));
            bar
        });
        Read { begun: now, before: load.records, of, last: load.clone(), line_at: now + LINE_FIRST, bar }
    }

    fn go_on(&mut self, load: &LoadStatus, of: &Of) {
        let seconds = self.begun.elapsed().as_secs_f64();
        self.last = completed(load, self.of, self.before, seconds);
        if let Some(bar) = &self.bar {
            bar.set_length(self.last.of.unwrap_or(0).max(self.last.records));
            bar.set_position(self.last.records);
            bar.set_message(self.last.describe());
        } else if Instant::now() >= self.line_at {
            self.line_at = Instant::now() + LINE_INTERVAL;
            let (sync, system, object) = of;
            tracing::info!(sync, system, object, "first read: {}", self.last.describe());
        }
    }

    fn end(&self, of: &Of, is_done: bool) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if !is_done {
            return;
        }
        let (sync, system, object) = of;
        let bytes = if self.last.bytes > 0 { format!(", {}", amount(self.last.bytes)) } else { String::new() };
        let seconds = self.begun.elapsed().as_secs();
        tracing::info!(sync, system, object, "first read: over after {} records{bytes} in about {seconds} s", self.last.records);
    }
}

/// What is known of a read whose status does not tell all of it: how many records there are, and how fast it goes.
fn completed(load: &LoadStatus, of: Option<u64>, before: u64, seconds: f64) -> LoadStatus {
    let mut load = load.clone();
    load.of = load.of.or(of);
    if load.records_per_second == 0 && load.phase == "reading" && seconds >= 1.0 {
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate is shown"
        )]
        let rate = (load.records.saturating_sub(before) as f64 / seconds) as u64;
        load.records_per_second = rate;
        load.seconds_left = load.of.and_then(|of| of.saturating_sub(load.records).checked_div(rate));
    }
    load
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_status_does_not_know_of_a_read_is_put_in() {
        let reading = LoadStatus { phase: "reading".into(), records: 3_000, ..LoadStatus::default() };
        let known = completed(&reading, Some(9_000), 1_000, 2.0);
        assert_eq!(known.describe(), "reading: 3000 of about 9000 records, 1000 a second, about 6 s left");
        assert_eq!(completed(&reading, None, 1_000, 2.0).describe(), "reading: 3000 records, 1000 a second");
        let told = LoadStatus { of: Some(4_000), records_per_second: 10, seconds_left: Some(100), ..reading };
        assert_eq!(completed(&told, Some(9_000), 0, 2.0), told);
        let building = LoadStatus { phase: "building indexes".into(), seconds: 7, ..told };
        assert_eq!(completed(&building, None, 0, 2.0).describe(), "building indexes for 7 s");
    }
}
