//! A sweep: every record of an object that was touched since a moment, the deleted ones included, page by page. It stands
//! in for events that cannot be had: an overflow, a wildcard, a topic whose place was never known.

use super::client::{Client, Need};
use super::records::{Columns, Look, PAGE_MAX, rows};
use super::schema::{FieldInfo, ID, Object, SYSTEM_MODSTAMP};
use super::soql::{moment, quoted, select};
use concord_engine::change::{Mark, Observation};
use concord_engine::error::{Code, Error, Result};

/// A sweep under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sweep {
    /// Records touched in this second or later; `None`: all of them.
    since: Option<i64>,
    /// The last record that was read: its second and its id.
    last: Option<(i64, String)>,
}

impl Sweep {
    pub fn since(second: Option<i64>) -> Sweep {
        Sweep { since: second, last: None }
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
            Some(last) if shown.len() >= PAGE_MAX => {
                Some(Sweep { since: self.since, last: Some((last.second, last.id.clone())) })
            }
            _ => None,
        };
        Ok((
            shown
                .into_iter()
                .map(|shown| (shown.second, shown))
                .map(|(second, shown)| (look.observe(object, shown), second))
                .collect(),
            next,
        ))
    }
}

/// The mark of an event on what was read in its place.
pub(super) fn marked(observation: Observation, mark: Option<Mark>) -> Observation {
    Observation { mark, ..observation }
}
