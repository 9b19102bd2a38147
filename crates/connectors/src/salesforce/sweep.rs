//! A sweep: every record of an object that was touched since a moment, the deleted ones included, page by page. It stands
//! in for events that cannot be had: an overflow, a wildcard, a topic whose place was never known.

use super::client::{Call, Client, Need};
use super::records::{Columns, Look, PAGE_MAX, retrieve, rows};
use super::schema::{FieldInfo, ID, Object, SYSTEM_MODSTAMP};
use super::soql::{moment, quoted, select};
use super::{ids, types};
use crate::percent::encoded;
use concord_engine::change::{Mark, Observation};
use concord_engine::error::{Code, Error, Result};
use serde::Deserialize;

const MINUTE: i64 = 60;
/// How far behind a moment a sweep begins: records become visible a while after their stamp.
pub(super) const OVERLAP_SECONDS: i64 = 600;

/// A sweep under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sweep {
    /// Records touched in this second or later; `None`: all of them.
    since: Option<i64>,
    /// Records deleted in this second or later are asked for as well: one that is not in the bin any more shows in no query.
    deleted_since: Option<i64>,
    /// The last record that was read: its second and its id.
    last: Option<(i64, String)>,
}

impl Sweep {
    pub fn since(second: Option<i64>, deleted_since: Option<i64>) -> Sweep {
        Sweep { since: second, deleted_since, last: None }
    }

    /// The next page, with the second of each record's last change; and the sweep that goes on behind it, if it does.
    pub async fn step(
        &self,
        client: &Client,
        object: &Object,
        fields: &[&FieldInfo],
        behind: u64,
    ) -> Result<(Vec<(Observation, i64)>, Option<Sweep>)> {
        if object.field(SYSTEM_MODSTAMP).is_none() {
            return Err(Error::new(
                Code::FeedGap,
                format!("the object {} does not say when its records were changed", object.name),
            ));
        }
        let columns = Columns::new(object, fields.to_vec());
        let mut names = columns.names();
        if object.field("IsDeleted").is_some() && !names.contains(&"IsDeleted") {
            names.push("IsDeleted");
        }
        let condition = match (&self.last, self.since) {
            (Some((second, id)), _) => {
                let (at, id) = (moment(*second), quoted(id));
                format!("WHERE {SYSTEM_MODSTAMP} > {at} OR ({SYSTEM_MODSTAMP} = {at} AND {ID} > {id}) ")
            }
            (None, Some(second)) => format!("WHERE {SYSTEM_MODSTAMP} >= {} ", moment(second)),
            (None, None) => String::new(),
        };
        let soql = select(&names, &object.name, &format!("{condition}ORDER BY {SYSTEM_MODSTAMP}, {ID} LIMIT {PAGE_MAX}"));
        let look = Look::new(behind);
        let rows = rows(client, &format!("sweeping {}", object.name), &soql, true, Need::Backfill).await?;
        let shown = rows.iter().map(|row| columns.read(row)).collect::<Result<Vec<_>>>()?;
        let next = match shown.last() {
            Some(last) if shown.len() >= PAGE_MAX => Some(Sweep { last: Some((last.second, last.id.clone())), ..self.clone() }),
            _ => None,
        };
        let mut found: Vec<(Observation, i64)> =
            shown.into_iter().map(|shown| (shown.second, look.observe(object, shown))).map(|(at, one)| (one, at)).collect();
        if let Some(since) = self.deleted_since.filter(|_| next.is_none()) {
            let gone = deleted(client, object, since).await?;
            let ids: Vec<String> = gone.iter().map(|(id, _)| id.clone()).collect();
            let look = Look::new(behind);
            let columns = Columns::new(object, object.field(ID).into_iter().collect());
            let there = retrieve(client, &columns, &ids, Need::Backfill).await?;
            // What was taken out of the bin again is there.
            let gone = gone.into_iter().zip(there).filter(|(_, there)| there.is_none());
            found.extend(gone.map(|((id, second), _)| (look.told(object, &id, None), second)));
        }
        Ok((found, next))
    }
}

/// The ids of records that were deleted in this second or later, those that were purged from the bin included, with the
/// second of the delete. The org counts by the minute, and keeps them for 30 days at most: behind that is a gap.
pub(super) async fn deleted(client: &Client, object: &Object, since: i64) -> Result<Vec<(String, i64)>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Deleted {
        deleted_records: Vec<One>,
        earliest_date_available: Option<String>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct One {
        id: String,
        deleted_date: String,
    }
    let start = since.saturating_sub(since.rem_euclid(MINUTE));
    // At least a minute has to lie between the two; the future brings nothing.
    let end = client.org_seconds().max(start).saturating_add(2 * MINUTE);
    let path = format!("sobjects/{}/deleted/?start={}&end={}", object.name, encoded(&moment(start)), encoded(&moment(end)));
    let call = Call::get(client.settings.path(&path)).needed(Need::Backfill);
    let found: Deleted = client.json(&format!("looking for what was deleted of {}", object.name), call).await?;
    let second =
        |text: &str| types::moment(text).and_then(concord_engine::value::TimestampTz::to_micros).map(|at| at / 1_000_000);
    if found.earliest_date_available.as_deref().and_then(second).is_some_and(|earliest| earliest >= start + MINUTE) {
        return Err(Error::new(Code::FeedGap, format!("what was deleted of {} is not known so far back", object.name)));
    }
    Ok(found.deleted_records.iter().map(|one| (ids::full(&one.id), second(&one.deleted_date).unwrap_or(since))).collect())
}

/// The mark of an event on what was read in its place.
pub(super) fn marked(observation: Observation, mark: Option<Mark>) -> Observation {
    Observation { mark, ..observation }
}
