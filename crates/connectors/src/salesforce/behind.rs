//! A look behind the events of a feed, now and then: whether each record that was touched has been told of. Where the vendor
//! has lost an event, or an administrator had switched them off for a while, nothing else would ever say so (invariant 1).
//! Asks for ids and stamps alone, a call for thousands of records; reads only what no event has told of.

use super::capture::SalesforceChanges;
use super::client::{Client, Need};
use super::records::{Columns, rows};
use super::schema::{ID, LAST_MODIFIED_DATE, Object, SYSTEM_MODSTAMP};
use super::soql;
use concord_engine::error::{Class, Result};
use std::time::Duration;
use tokio::time::Instant;

/// How often is looked.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(300);
/// What was touched less than so many seconds ago may still be told of.
const TOLD_WITHIN_SECONDS: i64 = 60;
/// The most records of one look; it goes on behind them at the next.
const LOOK_MAX: usize = 20_000;

/// A record that was touched.
pub(super) struct Touched {
    pub id: String,
    /// The second of its last edit, or of its delete: an event tells of that.
    pub edited: i64,
    /// The second in which anything last touched it, the org itself, too.
    pub stamped: i64,
}

/// The records that were touched, as a condition says; deletes count.
pub(super) async fn touched(client: &Client, object: &Object, rest: &str, need: Need) -> Result<Vec<Touched>> {
    let mut names = vec![ID, SYSTEM_MODSTAMP];
    names.extend([LAST_MODIFIED_DATE, "IsDeleted"].iter().filter(|name| object.field(name).is_some()));
    let text = soql::select(&names, &object.name, rest);
    let found = rows(client, &format!("looking at {}", object.name), &text, true, need).await?;
    let columns = Columns::new(object, object.field(ID).into_iter().collect());
    let mut all = Vec::with_capacity(found.len());
    for row in &found {
        let shown = columns.read(row)?;
        let edited = if shown.deleted { shown.second } else { shown.edited.micros().div_euclid(1_000_000) };
        all.push(Touched { id: shown.id, edited, stamped: shown.second });
    }
    Ok(all)
}

/// How far a feed has been looked behind, and when the next look is due.
pub(super) struct Behind {
    /// What was touched before this second of the org has been looked at.
    upto: i64,
    pub at: Instant,
    every: Duration,
}

impl Behind {
    /// Everything behind this second is to be looked at.
    pub fn from(second: i64, every: Duration) -> Behind {
        Behind { upto: second, at: Instant::now() + every, every }
    }
}

impl SalesforceChanges {
    /// Looks, and reads what no event has told of. A look that fails is made again at the next turn: the feed goes on.
    pub(super) async fn look_behind(&mut self) {
        self.behind.at = Instant::now() + self.behind.every;
        match self.untold().await {
            Ok(0) => {}
            Ok(records) => {
                tracing::warn!(feed = %self.feed, records, "records had changed and no event told of them: they were read");
            }
            // While calls are short the look waits, and passes nothing over.
            Err(error) if error.class() == Class::Throttled => {
                tracing::debug!(feed = %self.feed, error = error.chain(), "the look behind the events waits");
            }
            Err(error) => {
                tracing::warn!(feed = %self.feed, error = error.chain(), "what no event told of could not be looked for")
            }
        }
    }

    /// How many records no event had told of.
    async fn untold(&mut self) -> Result<usize> {
        let (from, now) = (self.behind.upto, self.shared.client.org_seconds());
        let mut upto = now.saturating_sub(TOLD_WITHIN_SECONDS);
        let object = self.shared.object(&self.object).await?;
        if upto <= from || !object.field(SYSTEM_MODSTAMP).is_some_and(|stamp| stamp.filterable) {
            return Ok(0);
        }
        let within = format!("WHERE {SYSTEM_MODSTAMP} >= {} AND {SYSTEM_MODSTAMP} < {}", soql::moment(from), soql::moment(upto));
        let rest = format!("{within} ORDER BY {SYSTEM_MODSTAMP} LIMIT {LOOK_MAX}");
        let found = touched(&self.shared.client, &object, &rest, Need::Backfill).await;
        let found = self.shared.forget_after(&self.object, found)?;
        if let Some(last) = found.last().filter(|_| found.len() >= LOOK_MAX) {
            upto = last.stamped.max(from.saturating_add(1));
        }
        // What only the org itself has touched (a recalculation) was edited before, and no event tells of it.
        let edited = found.into_iter().filter(|one| one.edited >= from).map(|one| (one.id, one.edited));
        let untold: Vec<(String, i64)> = edited.filter(|(id, second)| !self.shared.has_shown(&self.feed, id, *second)).collect();
        let records = untold.len();
        if records > 0 {
            self.read_untold(untold).await?;
        }
        self.shared.found_untold(&self.feed, records);
        self.behind.upto = upto;
        Ok(records)
    }
}
