//! Reads: by key, by the values of fields, in chunks by ascending id. Each chunk of a snapshot is one page.

use super::bulk;
use super::client::{Client, Need};
use super::ids;
use super::records::{Columns, Look, PAGE_MAX, page, retrieve, rows};
use super::schema::{ID, Object};
use super::soql::{literal, moment, quoted, select};
use concord_engine::change::Observation;
use concord_engine::connector::{Chunk, ChunkCursor, Presence, Since};
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::{FieldName, Key};
use concord_engine::schema::Selection;
use concord_engine::value::Value;

/// The most pages of one search (invariant 10).
const FIND_PAGES_MAX: usize = 50;
/// The most characters of a condition: an address may have 16,384 bytes, and each blank and quote takes three.
const CONDITION_CHARS_MAX: usize = 4_000;

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
    let mut found = retrieve(client, &columns, &asked).await?.into_iter();
    let absent = || Presence::Absent { version: look.version(None, None) };
    Ok(wanted
        .iter()
        .map(|id| match id.as_ref().and_then(|_| found.next().flatten()) {
            Some(shown) => Presence::Present(look.observe(object, shown)),
            None => absent(),
        })
        .collect())
}

/// Whether an id is of this object's records at all: others would make the whole request fail.
fn belongs(object: &Object, id: &str) -> bool {
    object.key_prefix.as_ref().is_none_or(|prefix| id.starts_with(prefix.as_str()))
}

/// What is looked for.
#[derive(Clone, Copy)]
pub(super) struct Search<'a> {
    /// The fields.
    pub by: &'a [FieldName],
    /// Their values, in rows.
    pub values: &'a [Vec<Value>],
    /// The most records for each row.
    pub limit: usize,
}

/// Records by the values of fields.
pub(super) async fn find(
    client: &Client,
    object: &Object,
    selection: &Selection,
    search: &Search<'_>,
    behind: u64,
) -> Result<Vec<Vec<Observation>>> {
    let Search { by, values, limit } = *search;
    let mut fields = object.selected(selection)?;
    for name in by {
        let field = object
            .field(name.as_str())
            .ok_or_else(|| Error::new(Code::FieldMissing, format!("the object {} has no field {name}", object.name)))?;
        if !field.filterable {
            return Err(Error::new(
                Code::Unsupported,
                format!("records of {} cannot be looked for by {name}: it cannot stand in a condition", object.name),
            ));
        }
        if !fields.iter().any(|known| known.name == field.name) {
            fields.push(field);
        }
    }
    let mut found: Vec<Vec<Observation>> = vec![Vec::new(); values.len()];
    let conditions: Vec<Option<String>> = values.iter().map(|row| condition(by, row)).collect::<Result<_>>()?;
    let columns = Columns::new(object, fields);
    let mut begin = 0;
    while begin < conditions.len() {
        let end = fitting(&conditions, begin);
        let part: Vec<&str> =
            conditions.iter().skip(begin).take(end.saturating_sub(begin)).flatten().map(String::as_str).collect();
        if !part.is_empty() {
            let condition = part.join(" OR ");
            let mut after = String::new();
            // The answer has no end of its own: a text may be in any case, and a value be shared by everything there is.
            for _ in 0..FIND_PAGES_MAX {
                let look = Look::new(behind);
                let soql =
                    select(&columns.names(), &object.name, &format!("WHERE ({condition}){after} ORDER BY {ID} LIMIT {PAGE_MAX}"));
                let page = rows(client, &format!("searching {}", object.name), &soql, false, Need::Now).await?;
                let shown = page.iter().map(|row| columns.read(row)).collect::<Result<Vec<_>>>()?;
                let last = shown.last().filter(|_| shown.len() >= PAGE_MAX).map(|last| last.id.clone());
                for shown in shown {
                    // Conditions compare texts without regard to case: here it counts.
                    let matches = |wanted: &[Value]| {
                        by.iter()
                            .zip(wanted)
                            .all(|(name, value)| shown.record.get(name.as_str()).is_some_and(|held| held.equivalent(value)))
                    };
                    for (place, wanted) in values.iter().enumerate().skip(begin).take(end.saturating_sub(begin)) {
                        if matches(wanted)
                            && let Some(list) = found.get_mut(place).filter(|list| list.len() < limit)
                        {
                            list.push(look.observe(object, shown.clone()));
                        }
                    }
                }
                let is_full = found.iter().skip(begin).take(end.saturating_sub(begin)).all(|list| list.len() >= limit);
                let Some(last) = last.filter(|_| !is_full) else {
                    after.clear();
                    break;
                };
                after = format!(" AND {ID} > {}", quoted(&last));
            }
            if !after.is_empty() {
                let message = format!("more than {} records of {} match", FIND_PAGES_MAX * PAGE_MAX, object.name);
                return Err(Error::new(Code::Unsupported, message));
            }
        }
        begin = end;
    }
    Ok(found)
}

/// The end of the run of conditions, from `begin` on, that fits into one address.
fn fitting(conditions: &[Option<String>], begin: usize) -> usize {
    let mut chars = 0_usize;
    let mut end = begin;
    for condition in conditions.iter().skip(begin) {
        chars = chars.saturating_add(condition.as_ref().map_or(0, |text| text.len().saturating_add(4)));
        if end > begin && chars > CONDITION_CHARS_MAX {
            break;
        }
        end = end.saturating_add(1);
    }
    end
}

/// `(A = 'x' AND B = 1)`; `None` where no record can match.
fn condition(by: &[FieldName], row: &[Value]) -> Result<Option<String>> {
    if by.is_empty() || by.len() != row.len() {
        return Ok(None);
    }
    let mut terms = Vec::with_capacity(by.len());
    for (name, value) in by.iter().zip(row) {
        if name.as_str() == ID && !value.as_text().is_some_and(ids::is_id) {
            return Ok(None);
        }
        terms.push(format!("{name} = {}", literal(value)?));
    }
    Ok(Some(format!("({})", terms.join(" AND "))))
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
