//! Versions of records, and how two of them stand to each other.
//! A stream event is ordered by its commit's place in the log, a write by the log's end at the time it was made,
//! a read by the set of transactions it could see. Where these do not decide, the answer is "unknown", never a guess.

use concord_engine::change::Version;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// What a PostgreSQL version is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RowVersion {
    /// Seen in the feed by a version of Concord that kept no more of the transaction than the feed shows.
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
    /// Seen in the feed.
    Logged {
        /// Where the commit stands in the log.
        commit_lsn: u64,
        /// The event's number inside its transaction.
        ordinal: u64,
        /// The transaction, with its epoch.
        xid: u64,
    },
}

/// A transaction's number with its epoch, from the 32 bits that the feed carries: the one nearest to a number of about the
/// same time. A feed lags less than two billion transactions, for the server itself could not tell them apart then.
pub fn widen(short: u32, near: u64) -> u64 {
    const EPOCH: u64 = 1 << 32;
    let same_epoch = (near & !(EPOCH - 1)) | u64::from(short);
    if same_epoch > near.saturating_add(EPOCH / 2) {
        // In its first epoch a server has no earlier one.
        same_epoch.checked_sub(EPOCH).unwrap_or(same_epoch)
    } else if same_epoch.saturating_add(EPOCH / 2) < near {
        same_epoch.saturating_add(EPOCH)
    } else {
        same_epoch
    }
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

    /// Whether a committed transaction known by its lower 32 bits is visible. `None` where those may be of another epoch: a
    /// version is kept for as long as its record, and the server counts on.
    fn sees_short(&self, xid: u32) -> Option<bool> {
        const NEAR: u64 = 1 << 30;
        let full = widen(xid, self.xmax);
        (full.abs_diff(self.xmax) < NEAR).then(|| self.sees(full))
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
        use RowVersion::{Logged, Snapshot, Stream, Write};
        match (self, other) {
            (
                Stream { commit_lsn: a, ordinal: i, .. } | Logged { commit_lsn: a, ordinal: i, .. },
                Stream { commit_lsn: b, ordinal: j, .. } | Logged { commit_lsn: b, ordinal: j, .. },
            ) => Some((a, i).cmp(&(b, j))),
            (Write { lsn: a, xid: x }, Write { lsn: b, xid: y }) => Some((a, x).cmp(&(b, y))),
            // Our commit stands behind the place that was read before it, so an equal place is the later event.
            (Stream { commit_lsn, .. } | Logged { commit_lsn, .. }, Write { lsn, .. }) => {
                Some(if commit_lsn >= lsn { Ordering::Greater } else { Ordering::Less })
            }
            (Snapshot(seen), Stream { xid, .. }) => seen.sees_short(*xid).map(visibility),
            (Snapshot(seen), Write { xid, .. } | Logged { xid, .. }) => Some(visibility(seen.sees(*xid))),
            (Snapshot(a), Snapshot(b)) => a.compare(b),
            (Write { .. }, Stream { .. } | Logged { .. } | Snapshot(_)) | (Stream { .. } | Logged { .. }, Snapshot(_)) => {
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

    fn stream(commit_lsn: u64, ordinal: u64, xid: u64) -> RowVersion {
        RowVersion::Logged { commit_lsn, ordinal, xid }
    }

    fn short(xid: u32) -> RowVersion {
        RowVersion::Stream { commit_lsn: 1, ordinal: 0, xid }
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
    fn a_short_transaction_number_is_widened_by_one_of_its_time() {
        let epoch = 1u64 << 32;
        for (near, xid) in [(epoch + 3, epoch - 1), (epoch + 3, epoch + 4), (epoch - 2, epoch + 1), (7 * epoch, 7 * epoch - 5)] {
            let short = u32::try_from(xid % epoch).unwrap();
            assert_eq!(widen(short, near), xid, "{short} near {near}");
        }
    }

    // The record was read once and never touched since, while the server went through three billion transactions.
    #[test]
    fn an_edit_is_newer_than_a_read_of_long_ago() {
        let read = snapshot("1000:1000:");
        check(&stream(1, 0, 3_000_001_000), &read, Some(Greater));
        check(&short(3_000_001_000), &read, None);
        check(&short(1_001), &read, Some(Less.reverse()));
        check(&short(999), &read, Some(Less));
        check(&short(7), &stream(1, 0, 7), Some(Equal));
        check(&short(7), &write(2, 9), Some(Less));
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
