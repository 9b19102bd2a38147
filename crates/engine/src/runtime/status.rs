//! What the engine tells of itself while it runs: a plain value, published whenever it changes enough to matter.

use crate::connector::Allowance;
use crate::error::Code;
use serde::{Deserialize, Serialize};

/// Everything a person or a monitor wants to see at a glance.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// One per sync, in the order of the configuration.
    pub syncs: Vec<SyncStatus>,
    /// One per feed.
    pub feeds: Vec<FeedStatus>,
    /// One per system that counts our calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowances: Vec<AllowanceStatus>,
}

/// The calls that a system lets us make in a day.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct AllowanceStatus {
    /// The system.
    pub system: String,
    /// How many are allowed, used and forecast.
    #[serde(flatten)]
    pub calls: Allowance,
    /// Those that are left for Concord now.
    pub left: u64,
}

/// How a sync does.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SyncStatus {
    /// Its name.
    pub name: String,
    /// `mirror`, or `reconcile`, where need be with the reason: `reconcile: why`.
    #[serde(default)]
    pub mode: String,
    /// `preparing`, `loading`, `live`, `paused`, `stopped: …`.
    pub stage: String,
    /// The code of why it is stopped or waits, where that has one: what is said in `stage` is for people.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known_code")]
    pub code: Option<Code>,
    /// Whether nothing is left to do: every feed has been read to its end as of the last look, nothing is pending,
    /// owed, in flight or being looked up. What waits in review does not count.
    pub level: bool,
    /// Records known.
    pub links: u64,
    /// Changes seen since the start.
    pub observed: u64,
    /// Records written since the start.
    pub written: u64,
    /// Writes that failed since the start.
    pub failed: u64,
    /// Records written in the last ten seconds, per second.
    pub rate: f64,
    /// The share of writes that failed in the last five minutes, from 0 to 1.
    pub error_rate: f64,
    /// Records that wait for records of other syncs, which they refer to.
    #[serde(default)]
    pub waiting: u64,
    /// Why those may wait for long: syncs that carry nothing now, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<String>,
    /// Open review items.
    pub review: u64,
    /// Latency from the edit's commit to our write's, in milliseconds, since the start.
    pub latency_ms: Percentiles,
    /// The same latencies as a histogram.
    pub latency_histogram: LatencyHistogram,
    /// What the last verification found, if there was one.
    pub verified: Option<LastVerified>,
    /// New fields of its objects that no mapping names, each with what is to be written to carry it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offers: Vec<String>,
    /// One per member.
    pub members: Vec<MemberStatus>,
}

impl SyncStatus {
    /// The code of why it is stopped or waits, or else why a member cannot be reached, where that has one.
    pub fn reason(&self) -> Option<Code> {
        self.code.or_else(|| self.members.iter().find_map(|member| member.code))
    }
}

/// A code as it is written; none where another version writes one that is not known here.
fn known_code<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<Code>, D::Error> {
    let written = Option::<String>::deserialize(deserializer)?;
    Ok(written.and_then(|written| Code::ALL.iter().copied().find(|code| code.to_string() == written)))
}

/// How a member does.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MemberStatus {
    /// The system.
    pub system: String,
    /// The object.
    pub object: String,
    /// Observations not yet taken into account.
    pub pending: u64,
    /// Writes owed to it.
    pub owed: u64,
    /// Writes under way.
    pub in_flight: u64,
    /// `up`, or since when and why it cannot be reached.
    pub reach: String,
    /// The code of why it cannot be reached.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "known_code")]
    pub code: Option<Code>,
    /// How far its first read has got: `none`, `reading: …`, `building indexes …`, `done`.
    pub load: String,
    /// The same in numbers, while it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<LoadStatus>,
}

/// How far a first read has got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadStatus {
    /// What is being done: `reading`, `building indexes`.
    pub phase: String,
    /// Records that were read, those of an earlier start included.
    pub records: u64,
    /// About how many there are, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
    /// Bytes that were read since the start.
    pub bytes: u64,
    /// Seconds since the phase began.
    pub seconds: u64,
    /// Records read in a second.
    pub records_per_second: u64,
    /// Bytes read in a second.
    pub bytes_per_second: u64,
    /// About how many seconds are left, where that can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
}

impl LoadStatus {
    /// In words.
    pub fn describe(&self) -> String {
        if self.phase != "reading" {
            return format!("{} for {} s", self.phase, self.seconds);
        }
        let of = self.of.map(|of| format!(" of about {of}")).unwrap_or_default();
        let bytes = if self.bytes > 0 { format!(", {}", amount(self.bytes)) } else { String::new() };
        let rate = if self.records_per_second > 0 { format!(", {} a second", self.records_per_second) } else { String::new() };
        let flow = if self.bytes_per_second > 0 { format!(", {}/s", amount(self.bytes_per_second)) } else { String::new() };
        let left = self.seconds_left.map(|seconds| format!(", about {seconds} s left")).unwrap_or_default();
        format!("reading: {}{of} records{bytes}{rate}{flow}{left}", self.records)
    }
}

/// Bytes for people, in decimal units.
pub fn amount(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{}.{} kB", bytes / 1_000, bytes % 1_000 / 100),
        1_000_000..1_000_000_000 => format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
        _ => format!("{}.{} GB", bytes / 1_000_000_000, bytes % 1_000_000_000 / 100_000_000),
    }
}

/// How a feed does.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FeedStatus {
    /// The system.
    pub system: String,
    /// The feed.
    pub feed: String,
    /// `connecting`, `reading`, `idle`, `gap: …`, `unreachable since …`.
    pub state: String,
    /// The durable position in the source's own notation.
    pub position: String,
    /// Bytes of log that the source keeps because of us.
    pub retained_bytes: Option<u64>,
    /// The most it is ready to keep.
    pub retained_bytes_max: Option<u64>,
    /// Something a person should act on.
    pub warning: Option<String>,
    /// How far behind the source the newest event was when it arrived, in milliseconds; 0 once the source had nothing more.
    pub lag_ms: Option<u64>,
}

/// The bounds of the latency histogram, in milliseconds.
pub const LATENCY_BOUNDS_MS: [u64; 14] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 5_000, 30_000, 300_000, 3_600_000];

/// Latencies by how long they took at most.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LatencyHistogram {
    /// A bound in milliseconds, and how many took no longer.
    pub at_most_ms: Vec<(u64, u64)>,
    /// The sum of all latencies, in milliseconds.
    pub sum_ms: f64,
}

/// What the last verification of a sync found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LastVerified {
    /// When it began: both sides were equal as of then, or differed.
    pub through: String,
    /// Whether they were equal, save for what waits in review or was under way.
    pub equal: bool,
    /// Records looked at.
    pub records: u64,
    /// How many differed, or stood on one side only.
    pub differing: u64,
}

/// Percentiles of a distribution.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many were measured.
    pub count: u64,
    /// The median.
    pub p50: f64,
    /// 95 %.
    pub p95: f64,
    /// 99 %.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_is_held_up_by_its_own_reason_or_else_by_a_members_and_never_by_what_a_text_quotes() {
        let away = MemberStatus { code: Some(Code::SettingWrong), ..MemberStatus::default() };
        let preparing = SyncStatus { members: vec![MemberStatus::default(), away], ..SyncStatus::default() };
        assert_eq!(preparing.reason(), Some(Code::SettingWrong));
        let stopped = SyncStatus { code: Some(Code::KeyMissing), ..preparing };
        assert_eq!(stopped.reason(), Some(Code::KeyMissing));
        let quoting = SyncStatus { stage: format!("stopped: {} no key", Code::KeyMissing), ..SyncStatus::default() };
        assert_eq!(quoting.reason(), None);
    }

    #[test]
    fn a_status_carries_codes_and_one_of_another_version_does_no_harm() {
        let member = MemberStatus { code: Some(Code::Unreachable), ..MemberStatus::default() };
        let mut written = serde_json::to_value(&member).unwrap();
        assert_eq!(written["code"], Code::Unreachable.to_string());
        let read = |written: &serde_json::Value| serde_json::from_value::<MemberStatus>(written.clone()).unwrap().code;
        assert_eq!(read(&written), Some(Code::Unreachable));
        written["code"] = "CON-0000".into();
        assert_eq!(read(&written), None);
        assert!(serde_json::to_value(MemberStatus::default()).unwrap().get("code").is_none());
    }
}
