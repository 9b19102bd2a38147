//! The ceiling of catching up: the changed rows are at hand before the clock starts, and are written by one statement for a
//! thousand of them, as fast as one connection can or two. Nobody who has to learn of the changes first can be faster.

use super::LAST;
use crate::server::Server;
use crate::{Failure, Result};
use tokio_postgres::Client;

/// Rows of one statement, which is a transaction.
const ROWS: usize = 1_000;
/// The values of each row as the statement takes them.
const UPSERT: &str = "INSERT INTO items (id, code, name, note, amount, tally, updated) \
    SELECT * FROM unnest($1::int[], $2::text[]::uuid[], $3::text[], $4::text[], $5::text[]::numeric[], $6::int[], \
        $7::text[]::timestamptz[]) \
    ON CONFLICT (id) DO UPDATE SET (code, name, note, amount, tally, updated) \
        = (excluded.code, excluded.name, excluded.note, excluded.amount, excluded.tally, excluded.updated)";

/// Rows of one statement, by columns.
#[derive(Default)]
pub struct Batch {
    ids: Vec<i32>,
    codes: Vec<String>,
    names: Vec<String>,
    notes: Vec<String>,
    amounts: Vec<Option<String>>,
    tallies: Vec<i32>,
    updated: Vec<String>,
}

/// As many rows as there were changes, those of the records that were changed over and over, and the last one.
pub async fn at_hand(source: &Client, changes: i32, rows: i32) -> Result<Vec<Batch>> {
    let sql =
        "SELECT id, code::text, name, note, amount::text, tally, updated::text FROM items WHERE id BETWEEN 1 AND $1 ORDER BY id";
    let changed = source.query(sql, &[&changes.min(rows)]).await?;
    let last = source.query(&sql.replace("id BETWEEN 1 AND $1", "id = $1"), &[&LAST]).await?;
    let mut batches = Vec::new();
    let mut left = usize::try_from(changes)?;
    while left > 0 {
        for some in changed.chunks(ROWS) {
            batches.push(batch(some.iter().take(left))?);
            left = left.saturating_sub(some.len());
            if left == 0 {
                break;
            }
        }
    }
    batches.push(batch(last.iter())?);
    Ok(batches)
}

fn batch<'a>(rows: impl Iterator<Item = &'a tokio_postgres::Row>) -> Result<Batch> {
    let mut batch = Batch::default();
    for row in rows {
        batch.ids.push(row.try_get(0)?);
        batch.codes.push(row.try_get(1)?);
        batch.names.push(row.try_get(2)?);
        batch.notes.push(row.try_get(3)?);
        batch.amounts.push(row.try_get(4)?);
        batch.tallies.push(row.try_get(5)?);
        batch.updated.push(row.try_get(6)?);
    }
    Ok(batch)
}

/// Writes them on so many connections, of which each takes its turn; the last row comes behind all others.
pub async fn write(target: &Server, batches: &[Batch], connections: usize) -> Result<()> {
    let Some((last, batches)) = batches.split_last() else { return Ok(()) };
    let written = (0..connections).map(|first| some(target, batches.iter().skip(first).step_by(connections)));
    futures_util::future::try_join_all(written).await?;
    some(target, std::iter::once(last)).await
}

async fn some(target: &Server, batches: impl Iterator<Item = &Batch>) -> std::result::Result<(), Failure> {
    let session = target.session().await?;
    // Concord's commits of changes do not wait for the disk either.
    session.batch_execute("SET synchronous_commit = off").await?;
    let upsert = session.prepare(UPSERT).await?;
    for batch in batches {
        let Batch { ids, codes, names, notes, amounts, tallies, updated } = batch;
        session.execute(&upsert, &[ids, codes, names, notes, amounts, tallies, updated]).await?;
    }
    Ok(())
}
