//! The memory of a long outage: one side cannot be reached while the other is edited many times over, and comes back.
//! For Concord alone: what the peer keeps, it keeps in the source's log.

use crate::Result;
use crate::contender::{Contender, Running};
use crate::measure::Places;
use crate::server::Server;
use crate::usage;
use crate::workload::{DATABASE, Edits, LEFT, PROBES, Pair, RIGHT, edit_everything_at};
use std::time::{Duration, Instant};

/// The longest until everything has been taken in.
const TAKEN_IN_WAIT_MAX: Duration = Duration::from_secs(1_800);

/// What an outage took.
pub struct Outage {
    /// Changes committed at the left side while the right one was away.
    pub changes: u64,
    /// Records that they were of.
    pub records: i32,
    /// From the first change until the source was told that the last one is durable with us.
    pub taken_in_seconds: f64,
    /// The most memory until then.
    pub memory_mb: f64,
    /// Bytes of the store then, in megabytes.
    pub store_mb: f64,
    /// From the right side's return until both sides showed the same.
    pub level_seconds: f64,
    /// The most memory at the end.
    pub memory_at_the_end_mb: f64,
}

/// Carries out one outage.
pub async fn run(rows: i32, changes: u64, places: &Places) -> Result<Outage> {
    let directory = places.directory.as_path();
    let servers = tokio::try_join!(Server::start(directory), Server::start(directory))?;
    let pair = Pair { servers: servers.into(), rows: rows + PROBES };
    pair.seed().await?;
    let mut running = Running::begin(Contender::Concord, &pair, &places.concord, directory).await?;
    let outage = outage(&running, &pair, rows / 2, changes).await;
    let outage = outage.inspect_err(|_| eprintln!("the end of Concord's log:\n{}", running.log()));
    running.leave(&pair).await?;
    outage
}

async fn outage(running: &Running, pair: &Pair, records: i32, wanted: u64) -> Result<Outage> {
    let pid = running.pid().ok_or("only Concord is measured")?;
    shut(pair, true).await?;
    let began = Instant::now();
    let mut changes = 0;
    while changes < wanted {
        changes += edit_everything_at(pair, LEFT, Edits { per_transaction: 100, durable: false }).await?;
    }
    taken_in(pair).await?;
    let taken_in_seconds = began.elapsed().as_secs_f64();
    let (memory_mb, store_mb) = (usage::peak_memory_mb(pid)?, running.store_mb());
    shut(pair, false).await?;
    let back = Instant::now();
    let level = pair.wait_until_level().await?;
    Ok(Outage {
        changes,
        records,
        taken_in_seconds,
        memory_mb,
        store_mb,
        level_seconds: level.saturating_duration_since(back).as_secs_f64(),
        memory_at_the_end_mb: usage::peak_memory_mb(pid)?,
    })
}

/// The right database lets nobody in, and throws out who is there; or lets everybody in again.
async fn shut(pair: &Pair, shut: bool) -> Result<()> {
    let session = pair.server(RIGHT).connect_to("postgres").await?;
    session.batch_execute(&format!("ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS {}", !shut)).await?;
    if shut {
        let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
        session.query(all, &[&DATABASE]).await?;
    }
    Ok(())
}

/// Waits until the source has been told that everything committed by now is durable with us.
async fn taken_in(pair: &Pair) -> Result<()> {
    let session = pair.server(LEFT).session().await?;
    let end: String = session.query_one("SELECT pg_current_wal_lsn()::text", &[]).await?.try_get(0)?;
    let told = "SELECT coalesce(bool_and(confirmed_flush_lsn >= $1::text::pg_lsn), false) FROM pg_replication_slots";
    let deadline = Instant::now() + TAKEN_IN_WAIT_MAX;
    while !session.query_one(told, &[&end]).await?.try_get::<_, bool>(0)? {
        if Instant::now() >= deadline {
            return Err("the changes are not taken in while the other side is away".into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// The outage as a table.
pub fn markdown(outage: &Outage, machine_load: [f64; 2]) -> String {
    let rate = |count: f64, seconds: f64| if seconds > 0.0 { count / seconds } else { f64::NAN };
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let changes = outage.changes as f64;
    format!(
        "| what | unit | Concord |\n|---|---|---|\n\
         | changes while the other side was away | | {} of {} records |\n\
         | until all were durable and the source was told | s | {:.1} ({:.0} changes/s, the writers' own time included) |\n\
         | memory at most until then | MB | {:.0} |\n\
         | the store then | MB | {:.0} |\n\
         | from the other side's return until level | s | {:.1} ({:.0} records/s) |\n\
         | memory at most until then | MB | {:.0} |\n\
         | machine's load, begin and end | | {:.2}, {:.2} |\n",
        outage.changes,
        outage.records,
        outage.taken_in_seconds,
        rate(changes, outage.taken_in_seconds),
        outage.memory_mb,
        outage.store_mb,
        outage.level_seconds,
        rate(f64::from(outage.records), outage.level_seconds),
        outage.memory_at_the_end_mb,
        machine_load[0],
        machine_load[1],
    )
}
