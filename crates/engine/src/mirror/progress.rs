//! How far a mirror sync has got: kept in the target, in the transaction of the data that it speaks of.

use super::bulk::Range;
use crate::change::{Position, Version};
use crate::error::{Code, Error, Result};
use serde::{Deserialize, Serialize};

/// The format of the bytes, in front of them.
const FORMAT: u8 = 1;

/// How far a sync has got.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Where the feed goes on.
    pub position: Position,
    /// The last event that was carried out: with it and before it, nothing is carried out again.
    pub applied: Option<Version>,
    /// The view that the records were loaded from: events in it are carried out already.
    pub view: Option<Version>,
    /// Where the feed leaves that view behind.
    pub view_at: Option<Position>,
    /// The ranges of the load.
    pub ranges: Vec<Range>,
    /// Whether all of them are loaded.
    pub complete: bool,
    /// Whether the target held no record when the load began.
    pub into_empty: bool,
    /// About how many records there are.
    pub records: u64,
    /// The mapping that the records were carried under.
    pub mapping: u64,
    /// Whether the records that are there are to be carried again, under another mapping.
    pub again: bool,
    /// Whether it is still to be looked for records that only the target has.
    pub sweep: bool,
    /// Deletes within the guard's window: when a part of it began, and how many.
    pub deletes: Vec<(i64, u64)>,
}

impl Progress {
    /// As the target keeps it.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        bytes.extend(postcard::to_stdvec(self).unwrap_or_default());
        bytes
    }

    /// Back from the target.
    pub fn decode(bytes: &[u8]) -> Result<Progress> {
        let unreadable = || Error::new(Code::StoreTooNew, "the progress kept in the target was written by another version");
        match bytes.split_first() {
            Some((&FORMAT, body)) => postcard::from_bytes(body).map_err(|_| unreadable()),
            _ => Err(unreadable()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_again_and_what_is_foreign_is_refused() {
        let progress =
            Progress { position: Position(vec![1]), applied: Some(Version(vec![2])), records: 3, ..Progress::default() };
        assert_eq!(Progress::decode(&progress.encode()).unwrap(), progress);
        for bytes in [&b""[..], b"\x02", b"\x01\xff"] {
            assert_eq!(Progress::decode(bytes).unwrap_err().code, Code::StoreTooNew);
        }
    }
}
