//! Records by key that may be large: no more of them than are to be held at once. The server's answer is read as it comes, and
//! what is left of it is passed over; who asked, asks again for the others.

use super::client::{Lease, column};
use super::read::{SEEN, SEEN_COLUMNS, Seen, columns_of, observation, record, unnest};
use super::schema::{Column, Table};
use super::version::{RowVersion, Snapshot};
use super::{Shared, errors};
use concord_engine::connector::Presence;
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::Key;
use concord_engine::schema::Selection;
use concord_engine::value::Value;
use futures_util::StreamExt;
use tokio_postgres::Row;

/// One answer for each of the first of these keys, in their order: at least one, and none behind so many bytes.
pub async fn by_key(shared: &Shared, selection: &Selection, keys: &[Key], max_bytes: usize) -> Result<Vec<Presence>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let table = shared.table(&selection.object).await?;
    let (shown, key) = (table.selected(selection)?, table.key_columns()?);
    let rows: Vec<&[Value]> = keys.iter().map(|key| key.0.as_slice()).collect();
    let parameters = columns_of(&key, &rows)?;
    let join: Vec<String> = key.iter().enumerate().map(|(place, column)| column.equals("t", &format!("x.c{place}"))).collect();
    let printed: Vec<String> = shown.iter().map(|column| column.printed("t")).collect();
    let present = key.first().map(|column| format!("t.{} IS NOT NULL", column.sql)).unwrap_or_default();
    let sql = format!(
        "SELECT {SEEN}, {present}, {} FROM {} LEFT JOIN {} AS t ON {} ORDER BY x.n",
        printed.join(", "),
        unnest(key.len(), 1, "x"),
        table.name.sql(),
        join.join(" AND ")
    );
    let mut lease = shared.readers.lease().await?;
    let answers = answers(&mut lease, (&table, selection, &shown), (&sql, &parameters), max_bytes).await;
    let answers = match answers {
        // Not to be seen is not the same as not there.
        Err(error) if error.code == Code::PrivilegeMissing => {
            return Ok(keys.iter().map(|_| Presence::Forbidden(error.clone())).collect());
        }
        answers => answers?,
    };
    // What is left of the answer is passed over before the session's next one.
    lease.done();
    match answers.is_empty() {
        true => Err(errors::unexpected(format!("no answer for {} keys of {}", keys.len(), selection.object))),
        false => Ok(answers),
    }
}

async fn answers(
    lease: &mut Lease<'_>,
    (table, selection, shown): (&Table, &Selection, &[&Column]),
    (sql, parameters): (&str, &[Vec<Option<String>>]),
    max_bytes: usize,
) -> Result<Vec<Presence>> {
    let doing = format!("reading {}", selection.object);
    let statement = lease.prepare(sql, &doing).await?;
    let failed = |error| errors::statement(&error, &doing);
    let rows = lease.client()?.query_raw(&statement, parameters).await.map_err(failed)?;
    futures_util::pin_mut!(rows);
    let (mut answers, mut bytes) = (Vec::new(), 0_usize);
    while let Some(row) = rows.next().await {
        let row = row.map_err(failed)?;
        bytes = bytes.saturating_add(row.raw_size_bytes());
        answers.push(presence(table, selection, shown, &row)?);
        if bytes >= max_bytes {
            break;
        }
    }
    Ok(answers)
}

fn presence(table: &Table, selection: &Selection, shown: &[&Column], row: &Row) -> Result<Presence> {
    if column(row, SEEN_COLUMNS)? {
        let seen = Seen::from_row(row)?;
        let record = record(shown, row, SEEN_COLUMNS + 1)?;
        return Ok(Presence::Present(observation(table, &selection.object, record, &seen)?));
    }
    if table.storage.rows_hidden {
        let message = format!("row level security of {} may hide the record", selection.object);
        return Ok(Presence::Forbidden(Error::new(Code::PrivilegeMissing, message)));
    }
    let text: &str = column(row, 0)?;
    let snapshot = Snapshot::parse(text).ok_or_else(|| errors::unexpected(format!("{text} is no snapshot")))?;
    Ok(Presence::Absent { version: RowVersion::Snapshot(snapshot).encode() })
}
