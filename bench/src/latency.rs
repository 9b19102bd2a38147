//! Latency from commit to visible, seen from outside: it begins with the time that the source's server noted for the commit
//! (`pg_xact_commit_timestamp`, taken just before the commit goes to the disk) and ends when the target's server tells of
//! the edit. A trigger on the probe records alone tells a listener (`pg_notify`, which is delivered after the commit); no
//! polling, so the measuring takes no processor from the measured. All clocks are the one of this machine.

use crate::Result;
use crate::server::connect;
use crate::workload::{DATABASE, LEFT, PROBES, RIGHT};
use serde::Serialize;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::{AsyncMessage, Client, Statement};
use tokio_util::task::TaskTracker;

/// The longest wait for one edit to arrive.
const ARRIVAL_WAIT_MAX: Duration = Duration::from_secs(60);

/// A series of edits, one at a time, from either side in turn.
#[derive(Clone, Copy, Debug)]
pub struct Series {
    /// The ports of both servers.
    pub ports: [u16; 2],
    /// How many edits; a series also ends at `until`.
    pub count: usize,
    /// When it ends at the latest.
    pub until: Option<Instant>,
    /// The pause between an arrival and the next edit, varied by half.
    pub pause: Duration,
    /// Whether the edit's own side is watched: what the measuring itself takes.
    pub at_its_own_side: bool,
}

/// What a series showed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Latencies {
    /// In milliseconds, in the order of the edits; those from left to right and from right to left.
    pub rightwards_ms: Vec<f64>,
    /// See above.
    pub leftwards_ms: Vec<f64>,
}

impl Latencies {
    /// The latency below which this part of all edits stayed, in milliseconds.
    pub fn percentile(&self, part: f64) -> f64 {
        let mut all: Vec<f64> = self.rightwards_ms.iter().chain(&self.leftwards_ms).copied().collect();
        percentile(&mut all, part)
    }
}

/// The value below which this part of all values lies; not a number where there are none.
pub fn percentile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let below = values.iter().enumerate().take_while(|(place, _)| count(*place) < part * count(values.len())).last();
    below.or(values.iter().enumerate().next()).map_or(f64::NAN, |(_, value)| *value)
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}

/// Measures a series on a thread of its own, so that whatever else the benchmark does delays no time stamp.
pub async fn measure(series: Series) -> Result<Latencies> {
    let (answer, answered) = oneshot::channel();
    std::thread::Builder::new().name("prober".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let result = match runtime {
            Ok(runtime) => runtime.block_on(run(series)),
            Err(error) => Err(error.into()),
        };
        // Nobody waits any more where the benchmark was stopped.
        let _ = answer.send(result);
    })?;
    answered.await.map_err(|_| "the measuring thread ended without an answer")?
}

struct Side {
    session: Client,
    edit: Statement,
    commit_time: Statement,
    arrivals: mpsc::UnboundedReceiver<(String, i64)>,
    _listener: Client,
}

async fn run(series: Series) -> Result<Latencies> {
    let [left, right] = series.ports;
    let mut sides = [open(left).await?, open(right).await?];
    let mut latencies = Latencies::default();
    let mut serial: u32 = 0;
    let started = Instant::now();
    for number in 0..series.count {
        if series.until.is_some_and(|until| Instant::now() >= until) {
            break;
        }
        let from = if number % 2 == 0 { LEFT } else { RIGHT };
        let to = if series.at_its_own_side { from } else { 1 - from };
        serial += 1;
        // Unlike any earlier one, also of another series.
        let name = format!("probe {} {serial}", started.elapsed().as_nanos());
        let record = i32::try_from(number)? % PROBES + 1;
        let took = one(&mut sides, from, to, record, &name).await?;
        let into = if from == LEFT { &mut latencies.rightwards_ms } else { &mut latencies.leftwards_ms };
        into.push(took);
        // A pause that falls into step with nothing.
        let varied = 50 + (serial.wrapping_mul(2_654_435_761) >> 16) % 100;
        tokio::time::sleep(series.pause * varied / 100).await;
    }
    Ok(latencies)
}

async fn open(port: u16) -> Result<Side> {
    let (session, connection) = connect(port, DATABASE).await?;
    let tasks = TaskTracker::new();
    tasks.spawn(connection);
    let (listener, mut connection) = connect(port, DATABASE).await?;
    let (tell, arrivals) = mpsc::unbounded_channel();
    tasks.spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(notification) = message
                && tell.send((notification.payload().to_owned(), wall_micros())).is_err()
            {
                return;
            }
        }
    });
    listener.batch_execute("LISTEN bench_probe").await?;
    let edit = session.prepare("UPDATE accounts SET name = $1, updated = clock_timestamp() WHERE id = $2").await?;
    let commit_time = session
        .prepare("SELECT (extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000000)::bigint FROM accounts WHERE id = $1")
        .await?;
    Ok(Side { session, edit, commit_time, arrivals, _listener: listener })
}

/// The machine's clock, which the servers note commits by too: microseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "latency is measured against times that the servers noted")]
pub fn wall_micros() -> i64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX)
}

/// Commits one edit and waits for it; answers milliseconds.
async fn one(sides: &mut [Side; 2], from: usize, to: usize, record: i32, name: &str) -> Result<f64> {
    let source = sides.get(from).ok_or("no such side")?;
    source.session.execute(&source.edit, &[&name, &record]).await?;
    let target = sides.get_mut(to).ok_or("no such side")?;
    let arrival = async {
        while let Some((shown, at)) = target.arrivals.recv().await {
            if shown == name {
                return Some(at);
            }
        }
        None
    };
    let waited = tokio::time::timeout(ARRIVAL_WAIT_MAX, arrival).await;
    let arrived = waited.map_err(|_| format!("`{name}` did not arrive"))?.ok_or("the listener was cut off")?;
    // Asked only now: the question takes nothing from the edit while it is under way.
    let source = sides.get(from).ok_or("no such side")?;
    let committed: i64 = source.session.query_one(&source.commit_time, &[&record]).await?.try_get(0)?;
    Ok(f64::from(i32::try_from(arrived - committed)?) / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn a_percentile_is_the_smallest_value_that_covers_its_part() {
        let mut values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&mut values, 0.5), 50.0);
        assert_eq!(percentile(&mut values, 0.99), 99.0);
        assert_eq!(percentile(&mut values, 1.0), 100.0);
        assert_eq!(percentile(&mut [7.0], 0.5), 7.0);
        assert!(percentile(&mut [], 0.5).is_nan());
    }
}
