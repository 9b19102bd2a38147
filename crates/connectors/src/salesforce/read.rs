//! Reads: by key, in chunks by ascending id. Each chunk of a snapshot is one page.

use super::absence::{self, Sight};
use super::bulk;
use super::client::{Client, Need};
use super::ids;
use super::records::{Columns, Look, PAGE_MAX, page, rows};
use super::schema::{ID, Object};
use super::soql::{moment, quoted, select};
use concord_engine::connector::{Chunk, ChunkCursor, Presence, Since};
use concord_engine::error::{Code, Result};
use concord_engine::record::Key;
use concord_engine::schema::Selection;

/// How many records an object has.
pub(super) async fn count(client: &Client, object: &Object) -> Result<u64> {
    let soql = format!("SELECT COUNT() FROM {}", object.name);
    Ok(page(client, &format!("counting {}", object.name), &soql, false, Need::Now).await?.total_size)
}

/// Records by key.
pub(super) async fn read(
    client: &Client,
    object: &Object,
    selection: &Selection,
    keys: &[Key],
    behind: u64,
) -> Result<Vec<Presence>> {
    let columns = Columns::new(object, object.selected(selection)?);
    let wanted: Vec<Option<String>> = keys.iter().map(|key| ids::of(key).filter(|id| belongs(object, id))).collect();
    let asked: Vec<String> = wanted.iter().flatten().cloned().collect();
    let look = Look::new(behind);
    let mut sights = absence::look(client, &columns, &asked).await?.into_iter();
    let told = |sight: Option<Sight>| match sight {
        Some(Sight::Shown(shown)) => Presence::Present(look.observe(object, *shown)),
        Some(Sight::Unseen) => Presence::Forbidden(absence::unseen(client, object)),
        // What is no id of such a record names none.
        Some(Sight::Gone) | None => Presence::Absent { version: look.version(None, None) },
    };
    Ok(wanted.iter().map(|id| told(id.as_ref().and_then(|_| sights.next()))).collect())
}

/// Whether an id is of this object's records at all: others would make the whole request fail.
fn belongs(object: &Object, id: &str) -> bool {
    object.key_prefix.as_ref().is_none_or(|prefix| id.starts_with(prefix.as_str()))
}

/// Whether an object has so many records that a job reads them. What cannot be counted in the time of a call has.
async fn is_large(client: &Client, object: &Object) -> Result<bool> {
    match count(client, object).await {
        Ok(records) => Ok(records > client.settings.bulk_above),
        Err(error) if error.code == Code::Unreachable => {
            tracing::info!(
                object = object.name,
                error = error.chain(),
                "the records could not be counted: they are read by a job"
            );
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

/// A chunk behind the id in the cursor; large objects are read by a job.
pub(super) async fn chunk(
    client: &Client,
    object: &Object,
    selection: &Selection,
    from: &ChunkCursor,
    limit: usize,
    since: Option<&Since>,
    behind: u64,
) -> Result<Chunk> {
    let columns = Columns::new(object, object.selected(selection)?);
    if let Some(chunk) = bulk::go_on(client, &columns, from, limit).await {
        return chunk;
    }
    if from.0.is_empty() && since.is_none() && is_large(client, object).await? {
        return bulk::begin(client, &columns, behind).await;
    }
    let after = std::str::from_utf8(&from.0).ok().filter(|id| ids::is_id(id));
    let limit = limit.clamp(1, PAGE_MAX);
    let mut terms: Vec<String> = after.map(|id| format!("{ID} > {}", quoted(id))).into_iter().collect();
    if let Some(since) = since.filter(|since| object.field(since.field.as_str()).is_some_and(|field| field.filterable)) {
        // Records that do not say when they were changed count.
        let from = moment(since.at.micros().div_euclid(1_000_000));
        terms.push(format!("({0} >= {from} OR {0} = null)", since.field));
    }
    let condition = if terms.is_empty() { String::new() } else { format!("WHERE {} ", terms.join(" AND ")) };
    let soql = select(&columns.names(), &object.name, &format!("{condition}ORDER BY {ID} LIMIT {limit}"));
    let look = Look::new(behind);
    let rows = rows(client, &format!("reading {}", object.name), &soql, false, Need::Backfill).await?;
    let shown = rows.iter().map(|row| columns.read(row)).collect::<Result<Vec<_>>>()?;
    let next = match shown.last() {
        Some(last) if shown.len() >= limit => Some(ChunkCursor(last.id.clone().into_bytes())),
        _ => None,
    };
    Ok(Chunk { records: shown.into_iter().map(|shown| look.observe(object, shown)).collect(), next })
}
