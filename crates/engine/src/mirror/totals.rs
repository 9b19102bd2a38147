//! Whether the target of a mirror sync shows what its source does where records have no key: how many there are at either side, and
//! the sum of a print of each, which does not depend on their order. Reads only. A difference is looked at again before it
//! counts, for a change may be on its way.

use super::batch::Step;
use super::carry::{Carried, Carrier};
use crate::change::Observation;
use crate::connector::Connector;
use crate::error::Result;
use crate::record::{Key, Record};
use crate::rules::MemberRules;
use crate::value::Value;
use crate::verify::{Difference, SyncVerification};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_128;

/// How often a difference is looked at again, and the pause before. Each look reads both tables.
const LOOKS_MAX: usize = 4;
const LOOK_PAUSE: Duration = Duration::from_millis(500);

/// Compares the two. `refused`: what is known to wait for a person.
pub(super) async fn verify(
    carrier: &Carrier,
    [(source, from), (target, to)]: [(&dyn Connector, &MemberRules); 2],
    refused: &[Key],
    mut found: SyncVerification,
) -> Result<SyncVerification> {
    for look in 0..=LOOKS_MAX {
        if look > 0 {
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        let mut wanted = Total::wanted(carrier, source.whole(&from.selection).await?).await?;
        let shown = Total::shown(carrier, target.whole(&to.selection).await?).await?;
        (found.links, found.in_review) = (wanted.records.saturating_add(wanted.refused), wanted.refused);
        for record in refused.iter().filter_map(|key| carrier.shown(key)) {
            // One that cannot even be carried is not counted in.
            if let Ok(record) = carrier.as_appended(record) {
                wanted.without(carrier, &record);
                found.in_review = found.in_review.saturating_add(1);
            }
        }
        if wanted.is_like(&shown) {
            found.equal = shown.records;
            return Ok(found);
        }
        if look == LOOKS_MAX {
            found.equal = wanted.records.min(shown.records);
            found.differing = wanted.records.abs_diff(shown.records).max(1);
            let (records, sums) = ((wanted.records, shown.records), (wanted.sum, shown.sum));
            let print = |sum: Option<u128>| sum.map(|sum| format!("{sum:032x}"));
            let count = ("number of records".to_owned(), Some(records.0.to_string()), Some(records.1.to_string()));
            let sum = ("sum of their prints".to_owned(), print(sums.0), print(sums.1));
            let (system, key) = (to.system.to_string(), to.object.to_string());
            found.differences.push(Difference::new("differs", system, key, vec![count, sum]));
        }
    }
    Ok(found)
}

/// What some records come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Total {
    records: u64,
    /// The sum of their prints; `None`: one of them leaves fields to the target.
    sum: Option<u128>,
    /// Records that cannot be carried.
    refused: u64,
}

impl Total {
    fn none() -> Total {
        Total { sum: Some(0), ..Total::default() }
    }

    fn add(&mut self, print: Option<u128>) {
        self.records = self.records.saturating_add(1);
        self.sum = self.sum.zip(print).map(|(sum, print)| sum.wrapping_add(print));
    }

    /// What the source's records come to at the target.
    async fn wanted(carrier: &Carrier, mut records: BoxStream<'_, Result<Vec<Observation>>>) -> Result<Total> {
        let mut total = Total::none();
        while let Some(some) = records.next().await {
            for observation in some? {
                match carrier.carry(observation).0 {
                    Carried::Step(Step::Append { record, .. }) => total.add(print(carrier, &record)),
                    Carried::Dormant { .. } => {}
                    _ => total.refused = total.refused.saturating_add(1),
                }
            }
        }
        Ok(total)
    }

    /// What the target's records come to.
    async fn shown(carrier: &Carrier, mut records: BoxStream<'_, Result<Vec<Observation>>>) -> Result<Total> {
        let mut total = Total::none();
        while let Some(some) = records.next().await {
            for observation in some? {
                total.add(observation.image.record().and_then(|record| print(carrier, record)));
            }
        }
        Ok(total)
    }

    /// Without a record that is known not to be among them.
    fn without(&mut self, carrier: &Carrier, record: &Record) {
        self.records = self.records.saturating_sub(1);
        self.sum = self.sum.zip(print(carrier, record)).map(|(sum, print)| sum.wrapping_sub(print));
    }

    /// Whether both come to the same, as far as that can be told.
    fn is_like(&self, other: &Total) -> bool {
        self.records == other.records && self.sum.zip(other.sum).is_none_or(|(one, other)| one == other)
    }
}

/// A print of what a record shows in the fields that are carried and that every record is given: equal for values that mean the same.
fn print(carrier: &Carrier, record: &Record) -> Option<u128> {
    let values = carrier.always_given().map(|name| record.get(name.as_str()).cloned()).collect::<Option<Vec<Value>>>()?;
    Some(xxh3_128(&Key(values).encode()))
}
