//! Versions of records, and how two of them stand to each other.
//! A stream event is ordered by its commit's place in the log, a write by the log's end at the time it was made,
//! a read by the set of transactions it could see. Where these do not decide, the answer is "unknown", never a guess.

use concord_engine::change::Version;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// What a PostgreSQL version is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RowVersion {
    /// Seen in the feed.
    Stream {
        /// Where the commit stands in the log.
        commit_lsn: u64,
        /// The event's number inside its transaction.
        ordinal: u64,
        /// The transaction, without its epoch: the feed carries 32 bits.
        xid: u32,
    },
    /// Returned by a write of ours.
    Write {
        /// The end of the log after the rows were written and before the commit. The row's lock makes it an exact
        /// separator between the changes before and behind ours.
        lsn: u64,
        /// Our transaction.
        xid: u64,
    },
    /// Read under a snapshot.
    Snapshot(Snapshot),
}

/// The transactions that a read could see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Every transaction below is visible (if it committed).
    xmin: u64,
    /// No transaction from here on is.
    xmax: u64,
    /// Between the two, those in progress: invisible. Sorted.
    in_progress: Vec<u64>,
}

impl Snapshot {
    /// Reads `pg_current_snapshot()::text`: `xmin:xmax:xip,…`.
    pub fn parse(text: &str) -> Option<Snapshot> {
        let mut parts = text.splitn(3, ':');
        let xmin = parts.next()?.parse().ok()?;
        let xmax = parts.next()?.parse().ok()?;
        let list = parts.next()?;
        let mut in_progress = Vec::new();
        for xid in list.split(',').filter(|xid| !xid.is_empty()) {
            in_progress.push(xid.parse().ok()?);
        }
        in_progress.sort_unstable();
        Some(Snapshot { xmin, xmax, in_progress })
    }

    /// Whether a committed transaction is visible.
    fn sees(&self, xid: u64) -> bool {
        xid < self.xmin || (xid < self.xmax && self.in_progress.binary_search(&xid).is_err())
    }

    /// Whether a committed transaction known by its lower 32 bits is visible. The full number is the one nearest to
    /// this snapshot: two billion transactions away, the server itself could not tell them apart.
    fn sees_short(&self, xid: u32) -> bool {
        const EPOCH: u64 = 1 << 32;
        let same_epoch = (self.xmax & !(EPOCH - 1)) | u64::from(xid);
        let full = if same_epoch > self.xmax.saturating_add(EPOCH / 2) {
            same_epoch.saturating_sub(EPOCH)
        } else if same_epoch.saturating_add(EPOCH / 2) < self.xmax {
            same_epoch.saturating_add(EPOCH)
        } else {
            same_epoch
        };
        self.sees(full)
    }

    /// Whether everything visible here is visible there.
    fn is_within(&self, other: &Snapshot) -> bool {
        let hidden_there = other.in_progress.iter().all(|&xid| !self.sees(xid));
        // Transactions from `other.xmax` on are hidden there; they must be hidden here too.
        let span = self.xmax.saturating_sub(other.xmax);
        let newer_hidden = span <= u64::try_from(self.in_progress.len()).unwrap_or(u64::MAX)
            && (other.xmax..self.xmax).all(|xid| !self.sees(xid));
        hidden_there && (self.xmax <= other.xmax || newer_hidden)
    }

    fn compare(&self, other: &Snapshot) -> Option<Ordering> {
        match (self.is_within(other), other.is_within(self)) {
            (true, true) => Some(Ordering::Equal),
            (true, false) => Some(Ordering::Less),
            (false, true) => Some(Ordering::Greater),
            (false, false) => None,
        }
    }
}

impl RowVersion {
    /// As the engine keeps it.
    pub fn encode(&self) -> Version {
        Version(postcard::to_stdvec(self).unwrap_or_default())
    }

    /// Back from the engine; `None` when these are not our bytes.
    pub fn decode(version: &Version) -> Option<RowVersion> {
        postcard::from_bytes(&version.0).ok()
    }

    /// How this version stands to another.
    pub fn compare(&self, other: &RowVersion) -> Option<Ordering> {
        use RowVersion::{Snapshot, Stream, Write};
        match (self, other) {
            (Stream { commit_lsn: a, ordinal: i, .. }, Stream { commit_lsn: b, ordinal: j, .. }) => Some((a, i).cmp(&(b, j))),
            (Write { lsn: a, xid: x }, Write { lsn: b, xid: y }) => Some((a, x).cmp(&(b, y))),
            // Our commit stands behind the place that was read before it, so an equal place is the later event.
            (Stream { commit_lsn, .. }, Write { lsn, .. }) => {
                Some(if commit_lsn >= lsn { Ordering::Greater } else { Ordering::Less })
            }
            (Snapshot(seen), Stream { xid, .. }) => Some(visibility(seen.sees_short(*xid))),
            (Snapshot(seen), Write { xid, .. }) => Some(visibility(seen.sees(*xid))),
            (Snapshot(a), Snapshot(b)) => a.compare(b),
            (Write { .. }, Stream { .. } | Snapshot(_)) | (Stream { .. }, Snapshot(_)) => {
                other.compare(self).map(Ordering::reverse)
            }
        }
    }
}

/// A read that saw a change is as new as it or newer; one that did not is older.
fn visibility(seen: bool) -> Ordering {
    if seen { Ordering::Greater } else { Ordering::Less }
}

/// `pg_lsn` text (`16/B374D848`) as a number.
pub fn parse_lsn(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    let high = u32::from_str_radix(high, 16).ok()?;
    let low = u32::from_str_radix(low, 16).ok()?;
    Some((u64::from(high) << 32) | u64::from(low))
}

/// A place in the log as PostgreSQL writes it.
pub fn lsn_text(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Ordering::{Equal, Greater, Less};

    fn snapshot(text: &str) -> RowVersion {
        RowVersion::Snapshot(Snapshot::parse(text).unwrap())
    }

    fn stream(commit_lsn: u64, ordinal: u64, xid: u32) -> RowVersion {
        RowVersion::Stream { commit_lsn, ordinal, xid }
    }

    fn write(lsn: u64, xid: u64) -> RowVersion {
        RowVersion::Write { lsn, xid }
    }

    fn check(a: &RowVersion, b: &RowVersion, expected: Option<Ordering>) {
        assert_eq!(a.compare(b), expected, "{a:?} against {b:?}");
        assert_eq!(b.compare(a), expected.map(Ordering::reverse), "{b:?} against {a:?}");
        assert_eq!(RowVersion::decode(&a.encode()).as_ref(), Some(a));
    }

    #[test]
    fn events_of_the_feed_follow_the_log_and_then_their_order_inside_the_transaction() {
        check(&stream(10, 1, 5), &stream(20, 0, 4), Some(Less));
        check(&stream(10, 1, 5), &stream(10, 2, 5), Some(Less));
        check(&stream(10, 1, 5), &stream(10, 1, 5), Some(Equal));
    }

    #[test]
    fn a_write_stands_behind_what_was_committed_before_it_and_before_its_own_event() {
        check(&stream(99, 0, 4), &write(100, 7), Some(Less));
        check(&stream(100, 0, 7), &write(100, 7), Some(Greater));
        check(&stream(140, 0, 8), &write(100, 7), Some(Greater));
    }

    #[test]
    fn a_read_is_newer_exactly_than_the_transactions_it_could_see() {
        let read = snapshot("10:20:12,15");
        check(&read, &stream(1, 0, 9), Some(Greater));
        check(&read, &stream(1, 0, 13), Some(Greater));
        check(&read, &stream(1, 0, 12), Some(Less));
        check(&read, &stream(1, 0, 20), Some(Less));
        check(&read, &write(1, 15), Some(Less));
        check(&read, &write(1, 14), Some(Greater));
    }

    #[test]
    fn a_short_transaction_number_is_widened_by_the_snapshots_epoch() {
        let epoch = 1u64 << 32;
        let just_wrapped = snapshot(&format!("{}:{}:", epoch + 3, epoch + 3));
        check(&just_wrapped, &stream(1, 0, u32::MAX), Some(Greater));
        check(&just_wrapped, &stream(1, 0, 2), Some(Greater));
        check(&just_wrapped, &stream(1, 0, 4), Some(Less));
        let about_to_wrap = snapshot(&format!("{}:{}:", epoch - 2, epoch - 2));
        check(&about_to_wrap, &stream(1, 0, 1), Some(Less));
    }

    #[test]
    fn two_reads_compare_only_when_one_saw_all_that_the_other_saw() {
        check(&snapshot("10:20:12,15"), &snapshot("10:20:12,15"), Some(Equal));
        check(&snapshot("10:20:12,15"), &snapshot("10:20:12"), Some(Less));
        check(&snapshot("10:20:12"), &snapshot("13:25:22"), Some(Less));
        check(&snapshot("10:20:12"), &snapshot("10:20:15"), None);
        check(&snapshot("10:20:"), &snapshot("10:22:20,21"), Some(Equal));
        check(&snapshot("10:20:12"), &snapshot("10:22:20"), Some(Less));
        check(&snapshot("10:20:15"), &snapshot("10:22:12"), None);
    }

    #[test]
    fn places_in_the_log_read_back_as_they_were_written() {
        for lsn in [0, 1, 0x16_B374_D848, u64::MAX] {
            assert_eq!(parse_lsn(&lsn_text(lsn)), Some(lsn));
        }
        assert_eq!(lsn_text(0x16_B374_D848), "16/B374D848");
        for text in ["", "1", "x/1", "1/100000000"] {
            assert_eq!(parse_lsn(text), None, "{text}");
        }
    }
}
