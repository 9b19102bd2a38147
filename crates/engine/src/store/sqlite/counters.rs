//! Numbers that must be had without counting rows: the highest ids given out, and how many rows there are.
//! Kept in memory and written once before each commit, so that a row more costs no write more.

use super::body::{from_sql, to_sql};
use crate::error::Result;
use crate::link::{MemberIndex, SyncId};
use rusqlite::{Connection, params};
use std::collections::{BTreeMap, BTreeSet};

/// What is counted. The names are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Counter {
    LastLink,
    LastFlight,
    LastReview,
    Links,
    Live,
    Pending,
    Owed,
    OpenReviews,
    Ledger,
    Waiting,
}

impl Counter {
    const ALL: [Counter; 10] = [
        Counter::LastLink,
        Counter::LastFlight,
        Counter::LastReview,
        Counter::Links,
        Counter::Live,
        Counter::Pending,
        Counter::Owed,
        Counter::OpenReviews,
        Counter::Ledger,
        Counter::Waiting,
    ];

    fn name(self) -> &'static str {
        match self {
            Counter::LastLink => "last_link",
            Counter::LastFlight => "last_flight",
            Counter::LastReview => "last_review",
            Counter::Links => "links",
            Counter::Live => "live",
            Counter::Pending => "pending",
            Counter::Owed => "owed",
            Counter::OpenReviews => "open_reviews",
            Counter::Ledger => "ledger",
            Counter::Waiting => "waiting",
        }
    }
}

/// One number: what, of which sync, of which member (0 where that has no meaning).
type Place = (Counter, i64, i64);

#[derive(Default)]
pub(super) struct Counters {
    values: BTreeMap<Place, i64>,
    changed: BTreeSet<Place>,
}

impl Counters {
    /// Every number, as stored.
    pub(super) fn load(connection: &Connection) -> Result<Counters> {
        let mut counters = Counters::default();
        let mut statement = connection.prepare_cached("SELECT name, sync, member, value FROM counters")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let name = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
            if let Some(counter) = Counter::ALL.into_iter().find(|counter| counter.name() == name) {
                counters.values.insert((counter, row.get(1)?, row.get(2)?), row.get(3)?);
            }
        }
        Ok(counters)
    }

    /// Writes what has changed.
    pub(super) fn flush(&mut self, connection: &Connection) -> Result<()> {
        if self.changed.is_empty() {
            return Ok(());
        }
        let mut statement = connection.prepare_cached(
            "INSERT INTO counters (name, sync, member, value) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET value = excluded.value",
        )?;
        for place in &self.changed {
            let (counter, sync, member) = place;
            statement.execute(params![counter.name(), sync, member, self.values.get(place)])?;
        }
        self.changed.clear();
        Ok(())
    }

    /// Adds to a number.
    pub(super) fn add(&mut self, counter: Counter, sync: i64, member: i64, rows: i64) {
        if rows != 0 {
            *self.values.entry((counter, sync, member)).or_default() += rows;
            self.changed.insert((counter, sync, member));
        }
    }

    /// Raises a number of the whole store to at least this.
    pub(super) fn raise(&mut self, counter: Counter, number: i64) {
        if self.highest(counter) < number {
            self.values.insert((counter, 0, 0), number);
            self.changed.insert((counter, 0, 0));
        }
    }

    /// A number of the whole store.
    pub(super) fn highest(&self, counter: Counter) -> i64 {
        self.values.get(&(counter, 0, 0)).copied().unwrap_or(0)
    }

    /// Whether there is no such row of a sync's member.
    pub(super) fn has_none(&self, counter: Counter, sync: SyncId, member: MemberIndex) -> Result<bool> {
        Ok(self.values.get(&(counter, i64::from(sync.0), to_sql(member)?)).is_none_or(|rows| *rows == 0))
    }

    /// A number of a sync.
    pub(super) fn of_sync(&self, counter: Counter, sync: SyncId) -> Result<u64> {
        from_sql(self.values.get(&(counter, i64::from(sync.0), 0)).copied().unwrap_or(0))
    }

    /// The numbers of a sync's members, those without rows left out.
    pub(super) fn of_members(&self, counter: Counter, sync: SyncId) -> Result<Vec<(MemberIndex, u64)>> {
        let sync = to_sql(sync.0)?;
        self.values
            .range((counter, sync, 0)..=(counter, sync, i64::MAX))
            .filter(|(_, value)| **value != 0)
            .map(|((_, _, member), value)| Ok((from_sql(*member)?, from_sql(*value)?)))
            .collect()
    }
}
