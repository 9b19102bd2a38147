//! Positions and versions of a SQLite file as bytes. A position names one row of the change table so closely that a
//! file put back from a copy, a cleared table or another file is noticed; a version is the sequence number alone.

use concord_engine::change::{Position, Version};
use concord_engine::error::{Code, Error, Result};
use uuid::Uuid;

const FORMAT: u8 = 1;
const LENGTH: usize = 1 + 16 + 8 + 8;

/// A row of the change table: the position behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The id that the change table got when it was made.
    pub database: Uuid,
    /// The row's sequence number.
    pub seq: i64,
    /// The row's time in milliseconds: after a restore another row may carry the same number.
    pub stamp: i64,
}

impl Place {
    pub fn encode(self) -> Position {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.push(FORMAT);
        bytes.extend_from_slice(self.database.as_bytes());
        bytes.extend_from_slice(&self.seq.to_be_bytes());
        bytes.extend_from_slice(&self.stamp.to_be_bytes());
        Position(bytes)
    }

    pub fn decode(position: &Position) -> Result<Place> {
        Place::read(&position.0).ok_or_else(|| Error::new(Code::FeedGap, "the stored position is not one of a SQLite file"))
    }

    fn read(bytes: &[u8]) -> Option<Place> {
        let (format, rest) = bytes.split_first()?;
        let (database, rest) = rest.split_first_chunk::<16>()?;
        let (seq, rest) = rest.split_first_chunk::<8>()?;
        let (stamp, rest) = rest.split_first_chunk::<8>()?;
        (*format == FORMAT && rest.is_empty()).then(|| Place {
            database: Uuid::from_bytes(*database),
            seq: i64::from_be_bytes(*seq),
            stamp: i64::from_be_bytes(*stamp),
        })
    }
}

/// The version of whatever stands at or before this sequence number.
pub(super) fn version(seq: i64) -> Version {
    Version(seq.to_be_bytes().to_vec())
}

/// The sequence number of a version; `None` when the bytes are not ours.
pub(super) fn sequence(version: &Version) -> Option<i64> {
    <[u8; 8]>::try_from(version.0.as_slice()).ok().map(i64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_from_its_bytes() {
        let place = Place { database: Uuid::from_u128(7), seq: 1_800_000_000_000_001, stamp: -5 };
        assert_eq!(Place::decode(&place.encode()).unwrap(), place);
    }

    #[test]
    fn bytes_of_another_kind_are_a_gap() {
        let mut longer = Place { database: Uuid::nil(), seq: 1, stamp: 1 }.encode();
        longer.0.push(0);
        for bytes in [vec![], vec![2; LENGTH], vec![FORMAT; LENGTH - 1], longer.0] {
            assert_eq!(Place::decode(&Position(bytes)).unwrap_err().code, Code::FeedGap);
        }
        assert_eq!(sequence(&Version(vec![1])), None);
    }
}
