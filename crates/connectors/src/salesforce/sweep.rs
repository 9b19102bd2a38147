//! A sweep: every record of an object that was touched since a moment, the deleted ones included, page by page. It stands
//! in for events that cannot be had: an overflow, a wildcard, a topic whose place was never known.

use super::client::{Call, Client, Need};
use super::records::{Columns, Look, PAGE_MAX, retrieve, rows};
use super::schema::{FieldInfo, ID, Object, SYSTEM_MODSTAMP};
use super::soql::{moment, quoted, select};
use super::{ids, types};
use crate::percent::encoded;
use concord_engine::change::{Mark, Observation};
use concord_engine::error::{Class, Code, Error, Result};
use serde::Deserialize;
use std::time::Duration;
use tokio::time::Instant;

const MINUTE: i64 = 60;
/// How far behind a moment a sweep begins: records become visible a while after their stamp.
pub(super) const OVERLAP_SECONDS: i64 = 600;
/// The first wait behind a call that failed; each further one is twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Calls that may fail in a row before the feed is given up: about three minutes.
const FAILURES_MAX: u32 = 10;
/// Calls that may fail in a row before it is said.
const FAILURES_UNSAID: u32 = 3;

/// A sweep under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sweep {
    /// Records touched in this second or later; `None`: all of them.
    since: Option<i64>,
    /// Records deleted in this second or later are asked for as well: one that is not in the bin any more shows in no query.
    deleted_since: Option<i64>,
    /// Whether everything that was touched has been read, and it goes on with what was deleted.
    deletes: bool,
    /// The last record that was read: its second and its id.
    last: Option<(i64, String)>,
}

/// What a page of a sweep shows, with the second of each record's last change; and the sweep that goes on behind it, if it does.
type Step = (Vec<(Observation, i64)>, Option<Sweep>);

impl Sweep {
    pub fn since(second: Option<i64>, deleted_since: Option<i64>) -> Sweep {
        Sweep { since: second, deleted_since, deletes: false, last: None }
    }

    /// The next page. Somebody waits for it as for the events that it stands in for.
    pub async fn step(&self, client: &Client, object: &Object, fields: &[&FieldInfo], behind: u64) -> Result<Step> {
        if object.field(SYSTEM_MODSTAMP).is_none() {
            return Err(Error::new(
                Code::FeedGap,
                format!("the object {} does not say when its records were changed", object.name),
            ));
        }
        match self.deleted_since.filter(|_| self.deletes) {
            Some(since) => self.deleted(client, object, since, behind).await,
            None => self.touched(client, object, fields, behind).await,
        }
    }

    async fn touched(&self, client: &Client, object: &Object, fields: &[&FieldInfo], behind: u64) -> Result<Step> {
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
        let rows = rows(client, &format!("sweeping {}", object.name), &soql, true, Need::Now).await?;
        let shown = rows.iter().map(|row| columns.read(row)).collect::<Result<Vec<_>>>()?;
        let next = match shown.last() {
            Some(last) if shown.len() >= PAGE_MAX => Some(Sweep { last: Some((last.second, last.id.clone())), ..self.clone() }),
            _ => self.deleted_since.map(|_| Sweep { deletes: true, last: None, ..self.clone() }),
        };
        let found = shown.into_iter().map(|shown| (shown.second, look.observe(object, shown))).map(|(at, one)| (one, at));
        Ok((found.collect(), next))
    }

    async fn deleted(&self, client: &Client, object: &Object, since: i64, behind: u64) -> Result<Step> {
        let (gone, last) = deleted(client, object, since, self.last.as_ref()).await?;
        let ids: Vec<String> = gone.iter().map(|(_, id)| id.clone()).collect();
        let look = Look::new(behind);
        let columns = Columns::new(object, object.field(ID).into_iter().collect());
        let there = retrieve(client, &columns, &ids).await?;
        // What was taken out of the bin again is there.
        let gone = gone.into_iter().zip(there).filter(|(_, there)| there.is_none());
        let found = gone.map(|((second, id), _)| (look.told(object, &id, None), second)).collect();
        Ok((found, last.map(|last| Sweep { last: Some(last), ..self.clone() })))
    }
}

/// A wait behind calls that failed in a way that passes: what is under way is gone on with, not begun again.
#[derive(Default)]
pub(super) struct Pause {
    until: Option<Instant>,
    failures: u32,
    /// What is waited for, where that takes longer than a moment.
    why: Option<Error>,
}

impl Pause {
    /// A call has failed. An error that does not pass by itself, or has not for long, is given back.
    pub fn after(&mut self, error: Error) -> Result<()> {
        let is_throttled = error.class() == Class::Throttled;
        if !is_throttled && (error.class() != Class::Transient || self.failures >= FAILURES_MAX) {
            return Err(error);
        }
        let wait = PAUSE_FIRST.saturating_mul(1 << self.failures.min(16)).min(PAUSE_MAX);
        // While calls are short nothing is lost by waiting, however long.
        self.failures = if is_throttled { self.failures } else { self.failures.saturating_add(1) };
        self.why = (is_throttled || self.failures > FAILURES_UNSAID).then(|| error.clone());
        self.until = Some(Instant::now() + error.retry_after.unwrap_or(wait));
        Ok(())
    }

    /// A call has succeeded.
    pub fn over(&mut self) {
        *self = Pause::default();
    }

    /// What is waited for, where that takes longer than a moment.
    pub fn why(&self) -> Option<Error> {
        self.until().and(self.why.clone())
    }

    /// Until when is waited; `None` where nothing is waited for.
    pub fn until(&self) -> Option<Instant> {
        self.until.filter(|until| *until > Instant::now())
    }
}

/// Records that are gone: the second of each one's delete, and its id.
type Gone = Vec<(i64, String)>;

/// A page of the records that were deleted in this second or later, behind the last of the page before, in the order of their
/// deletes; and the last of this one where it is not the last page.
pub(super) async fn deleted(
    client: &Client,
    object: &Object,
    since: i64,
    behind: Option<&(i64, String)>,
) -> Result<(Gone, Option<(i64, String)>)> {
    let all = all_deleted(client, object, since).await?;
    Ok(page_of(all, behind))
}

fn page_of(mut gone: Gone, behind: Option<&(i64, String)>) -> (Gone, Option<(i64, String)>) {
    gone.retain(|one| behind.is_none_or(|last| one > last));
    gone.sort();
    let is_cut = gone.len() > PAGE_MAX;
    gone.truncate(PAGE_MAX);
    gone.shrink_to_fit();
    let last = gone.last().filter(|_| is_cut).cloned();
    (gone, last)
}

/// The ids of records that were deleted in this second or later, those that were purged from the bin included, with the
/// second of the delete. The org counts by the minute, and keeps them for 30 days at most: behind that is a gap.
async fn all_deleted(client: &Client, object: &Object, since: i64) -> Result<Gone> {
    let (gone, earliest) = listed_as_deleted(client, object, since).await?;
    if earliest.is_some_and(|earliest| earliest >= from_minute(since) + MINUTE) {
        return Err(Error::new(Code::FeedGap, format!("what was deleted of {} is not known so far back", object.name)));
    }
    Ok(gone)
}

/// The second in which the minute of this one begins.
fn from_minute(second: i64) -> i64 {
    second.saturating_sub(second.rem_euclid(MINUTE))
}

/// What the org lists as deleted since a second, and from which second on its list is whole, where it says so.
pub(super) async fn listed_as_deleted(client: &Client, object: &Object, since: i64) -> Result<(Gone, Option<i64>)> {
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
    let start = from_minute(since);
    // At least a minute has to lie between the two; the future brings nothing.
    let end = client.org_seconds().max(start).saturating_add(2 * MINUTE);
    let path = format!("sobjects/{}/deleted/?start={}&end={}", object.name, encoded(&moment(start)), encoded(&moment(end)));
    let call = Call::get(client.settings.path(&path));
    let found: Deleted = client.json(&format!("looking for what was deleted of {}", object.name), call).await?;
    let second =
        |text: &str| types::moment(text).and_then(concord_engine::value::TimestampTz::to_micros).map(|at| at / 1_000_000);
    let earliest = found.earliest_date_available.as_deref().and_then(second);
    let gone = found.deleted_records.iter().map(|one| (second(&one.deleted_date).unwrap_or(since), ids::full(&one.id)));
    Ok((gone.collect(), earliest))
}

/// The mark of an event on what was read in its place.
pub(super) fn marked(observation: Observation, mark: Option<Mark>) -> Observation {
    Observation { mark, ..observation }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_waited_out_and_what_does_not_is_given_back() {
        let error = |code| Error::new(code, "no");
        let mut pause = Pause::default();
        assert!(pause.until().is_none());
        for _ in 0..FAILURES_MAX {
            pause.after(error(Code::Unreachable)).unwrap();
            assert!(pause.until().is_some_and(|until| until <= Instant::now() + PAUSE_MAX));
        }
        for _ in 0..100 {
            let throttled = Error { retry_after: Some(Duration::from_secs(900)), ..error(Code::HostedAllowanceUsed) };
            pause.after(throttled).unwrap();
            assert!(pause.until().is_some_and(|until| until > Instant::now() + PAUSE_MAX));
        }
        assert!(pause.after(error(Code::Unreachable)).is_err(), "it has not passed for long");
        pause.over();
        assert!(pause.until().is_none() && pause.after(error(Code::Unreachable)).is_ok());
        assert!(pause.after(error(Code::FeedGap)).is_err());
    }

    #[test]
    fn deletes_come_in_pages_and_each_once() {
        let all: Gone = (0..5_000_i64).rev().map(|number| (number / 1_500, format!("{number:05}"))).collect();
        let (mut seen, mut last) = (Gone::new(), None);
        loop {
            let (page, next) = page_of(all.clone(), last.as_ref());
            assert!(page.len() <= PAGE_MAX);
            seen.extend(page);
            last = next;
            if last.is_none() {
                break;
            }
        }
        let mut expected = all;
        expected.sort();
        assert_eq!(seen, expected);
    }
}
