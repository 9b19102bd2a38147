//! Merging records that are one thing: the losers go into the bin with the winner's id, and what hung on them hangs on
//! the winner.

use super::{Fields, Refused, Writer, refused};
use crate::salesforce::ids::Id;
use crate::salesforce::schema::Object;
use crate::salesforce::values::Value;
use std::sync::Arc;

/// Most losers of one merge.
const LOSERS_MAX: usize = 2;

impl Writer<'_> {
    /// Merges up to two losers into the winner, whose fields can be set in the same step.
    pub fn merge(&mut self, object: &Arc<Object>, winner: Id, losers: &[Id], fields: &Fields) -> Result<Id, Refused> {
        if !object.mergeable || losers.is_empty() || losers.len() > LOSERS_MAX {
            return Err(refused("INVALID_OPERATION", "cannot merge: one or two records of an object that can be merged"));
        }
        self.whole(|writer| {
            for loser in losers {
                let record = writer.live(object, *loser)?;
                for (child, field) in writer.referring(object, |name, _, _| name != "MasterRecordId") {
                    for hanging in writer.hanging(&child, field, *loser, false) {
                        let mut moved = hanging.as_ref().clone();
                        moved.set(field, Value::Id(winner));
                        writer.stamp(&mut moved);
                        writer.put(&child, moved);
                    }
                }
                writer.bin(object, &record, Some(winner));
            }
            writer.update(object, winner, fields)
        })
    }
}
