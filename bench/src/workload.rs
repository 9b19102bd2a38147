//! The table, its rows and the edits: the same for every contender. Which side edits which record is fixed, so that no two
//! edits ever meet: conflicts are not what is measured here.

use crate::Result;
use crate::server::Server;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, Statement};

/// The database that is measured.
pub const DATABASE: &str = "bench";

/// The first records are edited one at a time to measure latency, and by nothing else. Odd ones at the left side.
pub const PROBES: i32 = 200;

/// How many sessions edit at each side.
pub const WRITERS_PER_SIDE: usize = 2;

const TABLE: &str = "CREATE TABLE accounts (
    id serial PRIMARY KEY,
    email text NOT NULL UNIQUE,
    name text NOT NULL,
    phone text,
    revenue numeric(14, 2),
    updated timestamptz NOT NULL)";

/// A trigger that tells of an edit of a probe when it has been committed, also when replication made it.
const TELL: &str = "
    CREATE FUNCTION bench_tell() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_notify('bench_probe', NEW.name); RETURN NULL; END $$;
    CREATE TRIGGER bench_tell AFTER UPDATE ON accounts FOR EACH ROW WHEN (NEW.name LIKE 'probe %')
        EXECUTE FUNCTION bench_tell();
    ALTER TABLE accounts ENABLE ALWAYS TRIGGER bench_tell";

/// What both sides must agree on, in one number.
const CHECKSUM: &str = "SELECT count(*), coalesce(sum(hashtextextended(concat_ws('|', email, name, phone, revenue,
    extract(epoch FROM updated)), 0)::numeric), 0)::text FROM accounts";

/// The longest that both sides may take to become level.
const LEVEL_WAIT_MAX: Duration = Duration::from_secs(600);

/// The two sides of a measurement.
pub struct Pair {
    /// Left and right.
    pub servers: [Server; 2],
    /// Records in the table.
    pub rows: i32,
}

/// The left side.
pub const LEFT: usize = 0;
/// The right side.
pub const RIGHT: usize = 1;

impl Pair {
    /// The server of a side.
    pub fn server(&self, side: usize) -> &Server {
        let [left, right] = &self.servers;
        if side == LEFT { left } else { right }
    }

    /// Makes the table on both sides and fills it alike.
    pub async fn seed(&self) -> Result<()> {
        for server in &self.servers {
            server.connect_to("postgres").await?.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await?;
            let session = server.session().await?;
            session.batch_execute(TABLE).await?;
            let fill = format!(
                "INSERT INTO accounts (email, name, phone, revenue, updated)
                 SELECT 'account' || n || '@example.com', 'Account ' || n || ' of the North', '+1 555 ' || lpad(n::text, 7, '0'),
                        n * 1.25, '2024-01-01 00:00:00+00'
                 FROM generate_series(1, {}) AS n",
                self.rows
            );
            session.batch_execute(&fill).await?;
            session.batch_execute(TELL).await?;
            session.batch_execute("VACUUM ANALYZE accounts").await?;
            session.batch_execute("CHECKPOINT").await?;
        }
        Ok(())
    }

    /// Waits until both sides show the same; says when the look began that saw it.
    pub async fn wait_until_level(&self) -> Result<Instant> {
        let (left, right) = (self.server(LEFT).session().await?, self.server(RIGHT).session().await?);
        let (of_left, of_right) = (left.prepare(CHECKSUM).await?, right.prepare(CHECKSUM).await?);
        let deadline = Instant::now() + LEVEL_WAIT_MAX;
        loop {
            let looked = Instant::now();
            let (left, right) = tokio::try_join!(checksum(&left, &of_left), checksum(&right, &of_right))?;
            if left == right {
                return Ok(looked);
            }
            if looked >= deadline {
                return Err(format!("the sides do not become level: {left:?} and {right:?}").into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn checksum(session: &Client, statement: &Statement) -> Result<(i64, String)> {
    let row = session.query_one(statement, &[]).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// How edits come.
#[derive(Clone, Copy, Debug)]
pub struct Edits {
    /// Records in one transaction.
    pub per_transaction: i32,
    /// Whether the writer waits for its commits to reach the disk.
    pub durable: bool,
}

/// The records of one writer, in the order in which it edits them: every one once.
fn share(pair: &Pair, side: usize, writer: usize) -> Result<Vec<i32>> {
    // Odd records belong to the left side, even ones to the right; each side's are dealt out among its writers.
    let first = PROBES + i32::try_from(side + 2 * writer)? + 1;
    Ok((first..=pair.rows).step_by(2 * WRITERS_PER_SIDE).collect())
}

/// Edits every record but the probes once, each at its side. Answers how many were edited.
pub async fn edit_everything(pair: &Pair, edits: Edits) -> Result<u64> {
    let (left, right) = tokio::try_join!(edit_everything_at(pair, LEFT, edits), edit_everything_at(pair, RIGHT, edits))?;
    Ok(left + right)
}

/// Edits every record of one side but the probes once. Answers how many were edited.
pub async fn edit_everything_at(pair: &Pair, side: usize, edits: Edits) -> Result<u64> {
    let mut writers = Vec::new();
    for writer in 0..WRITERS_PER_SIDE {
        writers.push(edit_share(pair, side, share(pair, side, writer)?, edits));
    }
    Ok(futures_util::future::try_join_all(writers).await?.into_iter().sum())
}

async fn edit_share(pair: &Pair, side: usize, records: Vec<i32>, edits: Edits) -> Result<u64> {
    let session = pair.server(side).session().await?;
    if !edits.durable {
        session.batch_execute("SET synchronous_commit = off").await?;
    }
    let edit = session.prepare(EDIT_MANY).await?;
    let mut edited = 0;
    for records in records.chunks(usize::try_from(edits.per_transaction)?) {
        edited += session.execute(&edit, &[&records]).await?;
    }
    Ok(edited)
}

const EDIT_MANY: &str = "UPDATE accounts SET revenue = revenue + 1, phone = '+1 556 ' || lpad(id::text, 7, '0'),
    updated = clock_timestamp() WHERE id = ANY($1)";
const EDIT_ONE: &str = "UPDATE accounts SET revenue = revenue + 1, updated = clock_timestamp() WHERE id = $1";

/// Edits single records at a steady rate over both sides until `until`; answers how many edits were committed. A writer
/// that falls behind its timetable catches up as fast as it can.
pub async fn edit_steadily(pair: &Pair, per_second: u32, until: Instant) -> Result<u64> {
    let done = AtomicU64::new(0);
    let writers = u32::try_from(2 * WRITERS_PER_SIDE)?;
    let pace = Duration::from_secs(1) * writers / per_second;
    let mut all = Vec::new();
    for side in [LEFT, RIGHT] {
        for writer in 0..WRITERS_PER_SIDE {
            all.push(edit_at_pace(pair, side, share(pair, side, writer)?, pace, until, &done));
        }
    }
    futures_util::future::try_join_all(all).await?;
    Ok(done.load(Ordering::Relaxed))
}

async fn edit_at_pace(
    pair: &Pair,
    side: usize,
    records: Vec<i32>,
    pace: Duration,
    until: Instant,
    done: &AtomicU64,
) -> Result<()> {
    let session = pair.server(side).session().await?;
    let edit = session.prepare(EDIT_ONE).await?;
    let mut due = Instant::now();
    for record in records.iter().cycle() {
        if Instant::now() >= until {
            return Ok(());
        }
        tokio::time::sleep_until(due.into()).await;
        session.execute(&edit, &[record]).await?;
        done.fetch_add(1, Ordering::Relaxed);
        due += pace;
    }
    Ok(())
}
