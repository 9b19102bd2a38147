//! Where a feed has got to, with all that is needed to notice at the next start that it cannot be resumed there.
//! Invariant 1: whatever does not fit is a [`Code::FeedGap`] (or [`Code::FeedRewound`], where the server itself is not where
//! it was) in words, never a feed silently begun anew.

use super::version::lsn_text;
use concord_engine::change::Position;
use concord_engine::error::{Code, Error, Result};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A place in the log, and whose log it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotPosition {
    /// Everything committed before here has been handed out.
    pub lsn: u64,
    /// The cluster: a restored copy keeps it, another cluster has another.
    pub system_identifier: u64,
    /// The timeline on which the place was read.
    pub timeline: u32,
    /// The slot.
    pub slot: String,
    /// The marker written when the slot was made.
    pub marker: Uuid,
    /// Where the marker stands in the log.
    pub marker_lsn: u64,
    /// Whether the feed has shown the marker yet.
    pub marker_seen: bool,
}

/// What the server says of the slot now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotState {
    /// The output plugin.
    pub plugin: String,
    /// The database.
    pub database: String,
    /// Whether it belongs to the database we are connected to.
    pub of_this_database: bool,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// Where the server believes that we are.
    pub confirmed_flush_lsn: Option<u64>,
}

/// What the server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerIdentity {
    /// The cluster.
    pub system_identifier: u64,
    /// Its timeline now.
    pub timeline: u32,
    /// Where its log ends on disk.
    pub flushed_lsn: u64,
    /// Where earlier timelines ended: (timeline, place).
    pub forks: Vec<(u32, u64)>,
}

impl SlotPosition {
    /// As the engine keeps it.
    pub fn encode(&self) -> Position {
        Position(postcard::to_stdvec(self).unwrap_or_default())
    }

    /// Back from the engine.
    pub fn decode(position: &Position) -> Result<SlotPosition> {
        postcard::from_bytes(&position.0).map_err(|error| gap("the stored position cannot be read").because(error))
    }

    /// Whether the feed can be resumed here.
    pub fn verify(&self, server: &ServerIdentity, slot: Option<&SlotState>) -> Result<()> {
        if self.system_identifier != server.system_identifier {
            return Err(rewound(format!(
                "this is another database cluster (system identifier {}, before {})",
                server.system_identifier, self.system_identifier
            )));
        }
        self.verify_timeline(server)?;
        if server.flushed_lsn < self.lsn {
            return Err(rewound(format!(
                "the server's log ends at {}, before our position {}: it was restored from an earlier state",
                lsn_text(server.flushed_lsn),
                lsn_text(self.lsn)
            )));
        }
        let Some(slot) = slot else {
            return Err(gap(format!("the replication slot {} is gone: it was dropped, or a failover lost it", self.slot)));
        };
        self.verify_slot(slot)
    }

    fn verify_timeline(&self, server: &ServerIdentity) -> Result<()> {
        if self.timeline == server.timeline {
            return Ok(());
        }
        let fork = server.forks.iter().find(|(timeline, _)| *timeline == self.timeline);
        match fork {
            Some((_, end)) if *end >= self.lsn => Ok(()),
            Some((_, end)) => Err(rewound(format!(
                "the server was promoted at {} of timeline {}, but changes up to {} had been read from it: some of them are lost there",
                lsn_text(*end),
                self.timeline,
                lsn_text(self.lsn)
            ))),
            None => Err(rewound(format!("timeline {} is not in the history of timeline {}", self.timeline, server.timeline))),
        }
    }

    fn verify_slot(&self, slot: &SlotState) -> Result<()> {
        if slot.plugin != "pgoutput" || !slot.of_this_database {
            return Err(gap(format!(
                "the replication slot {} is another one now (plugin {}, database {})",
                self.slot, slot.plugin, slot.database
            )));
        }
        if slot.wal_status.as_deref() == Some("lost") {
            return Err(gap(format!("the server removed log that the replication slot {} still needed", self.slot)));
        }
        match slot.confirmed_flush_lsn {
            // A slot that was dropped and made anew begins behind everything that we had read.
            Some(confirmed) if confirmed > self.lsn => Err(gap(format!(
                "the replication slot {} stands at {}, behind our position {}: it was advanced, or dropped and made anew",
                self.slot,
                lsn_text(confirmed),
                lsn_text(self.lsn)
            ))),
            Some(_) => Ok(()),
            None => Err(gap(format!("the replication slot {} has no position", self.slot))),
        }
    }
}

/// The error of a feed that cannot be resumed.
pub fn gap(reason: impl Into<String>) -> Error {
    Error::new(Code::FeedGap, reason)
}

/// The error of a feed whose server shows an earlier state, or another, than the one that it was read from.
fn rewound(reason: impl Into<String>) -> Error {
    Error::new(Code::FeedRewound, reason)
}

/// Reads a timeline's history file: `timeline, place, reason` on each line.
pub fn parse_history(text: &str) -> Vec<(u32, u64)> {
    text.lines()
        .filter_map(|line| {
            let mut parts = line.split_whitespace();
            let timeline = parts.next()?.parse().ok()?;
            Some((timeline, super::version::parse_lsn(parts.next()?)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position() -> SlotPosition {
        SlotPosition {
            lsn: 1000,
            system_identifier: 7,
            timeline: 2,
            slot: "concord_x".into(),
            marker: Uuid::nil(),
            marker_lsn: 10,
            marker_seen: true,
        }
    }

    fn server() -> ServerIdentity {
        ServerIdentity { system_identifier: 7, timeline: 2, flushed_lsn: 2000, forks: vec![] }
    }

    fn slot(confirmed: u64) -> SlotState {
        SlotState {
            plugin: "pgoutput".into(),
            database: "db".into(),
            of_this_database: true,
            wal_status: Some("reserved".into()),
            confirmed_flush_lsn: Some(confirmed),
        }
    }

    fn code(result: Result<()>) -> Option<Code> {
        result.err().map(|error| error.code)
    }

    #[test]
    fn a_slot_that_stands_at_or_before_our_position_is_resumed() {
        assert_eq!(code(position().verify(&server(), Some(&slot(1000)))), None);
        assert_eq!(code(position().verify(&server(), Some(&slot(10)))), None);
    }

    #[test]
    fn every_mismatch_is_a_gap() {
        let ours = position();
        let gap = Some(Code::FeedGap);
        assert_eq!(code(ours.verify(&server(), None)), gap);
        assert_eq!(code(ours.verify(&server(), Some(&slot(1001)))), gap);
        assert_eq!(code(ours.verify(&server(), Some(&SlotState { wal_status: Some("lost".into()), ..slot(10) }))), gap);
        assert_eq!(code(ours.verify(&server(), Some(&SlotState { plugin: "test_decoding".into(), ..slot(10) }))), gap);
        assert_eq!(code(ours.verify(&server(), Some(&SlotState { of_this_database: false, ..slot(10) }))), gap);
        let rewound = Some(Code::FeedRewound);
        assert_eq!(code(ours.verify(&ServerIdentity { system_identifier: 8, ..server() }, Some(&slot(10)))), rewound);
        assert_eq!(code(ours.verify(&ServerIdentity { flushed_lsn: 999, ..server() }, Some(&slot(10)))), rewound);
    }

    #[test]
    fn a_promotion_is_survived_exactly_if_it_kept_all_that_we_had_read() {
        let promoted = |end| ServerIdentity { timeline: 3, forks: vec![(1, 500), (2, end)], ..server() };
        assert_eq!(code(position().verify(&promoted(1000), Some(&slot(10)))), None);
        assert_eq!(code(position().verify(&promoted(999), Some(&slot(10)))), Some(Code::FeedRewound));
        let foreign = ServerIdentity { timeline: 9, ..server() };
        assert_eq!(code(position().verify(&foreign, Some(&slot(10)))), Some(Code::FeedRewound));
    }

    #[test]
    fn positions_and_histories_read_back() {
        assert_eq!(SlotPosition::decode(&position().encode()).unwrap(), position());
        assert_eq!(SlotPosition::decode(&Position::default()).unwrap_err().code, Code::FeedGap);
        assert_eq!(parse_history("1\t0/3000148\tno recovery target\n\n2\t1/0\tx\n"), [(1, 0x300_0148), (2, 1 << 32)]);
    }
}
