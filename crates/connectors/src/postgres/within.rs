//! Records by key that may be large: no more of them than are to be held at once. The server's answer is read as it comes, and
//! what is left of it is passed over; who asked, asks again for the others.

use super::client::Lease;
use super::read::Asked;
use super::schema::Table;
use super::{Shared, errors};
use concord_engine::connector::Presence;
use concord_engine::error::Result;
use concord_engine::record::Key;
use concord_engine::schema::Selection;
use futures_util::StreamExt;

/// One answer for each of the first of these keys, in their order: at least one, and none behind so many bytes.
pub async fn by_key(shared: &Shared, selection: &Selection, keys: &[Key], max_bytes: usize) -> Result<Vec<Presence>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let table = shared.table(&selection.object).await?;
    let asked = Asked::of(&table, selection, keys)?;
    let mut lease = shared.readers.lease().await?;
    let answers = answers(&mut lease, &table, selection, &asked, max_bytes).await?;
    // What is left of the answer is passed over before the session's next one.
    lease.done();
    match answers.is_empty() {
        true => Err(errors::unexpected(format!("no answer for {} keys of {}", keys.len(), selection.object))),
        false => Ok(answers),
    }
}

async fn answers(
    lease: &mut Lease<'_>,
    table: &Table,
    selection: &Selection,
    asked: &Asked<'_>,
    max_bytes: usize,
) -> Result<Vec<Presence>> {
    let doing = format!("reading {}", selection.object);
    let statement = lease.prepare(&asked.sql, &doing).await?;
    let failed = |error| errors::statement(&error, &doing);
    let rows = lease.client()?.query_raw(&statement, &asked.parameters).await.map_err(failed)?;
    futures_util::pin_mut!(rows);
    let (mut answers, mut bytes) = (Vec::new(), 0_usize);
    while let Some(row) = rows.next().await {
        let row = row.map_err(failed)?;
        bytes = bytes.saturating_add(row.raw_size_bytes());
        answers.push(asked.presence(table, selection, &row)?);
        if bytes >= max_bytes {
            break;
        }
    }
    Ok(answers)
}
