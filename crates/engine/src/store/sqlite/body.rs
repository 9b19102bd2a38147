//! Bodies: a format byte, then the record in postcard; and the numbers that SQLite can hold.
//! A body of an unknown format is an error, never a guess.

use crate::error::{Code, Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Room for most bodies, so that they are not moved while they are made.
const BODY_BYTES: usize = 768;

/// The format of every body written today.
const FORMAT: u8 = 1;

/// A record as a body.
pub(super) fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>> {
    let mut body = Vec::with_capacity(BODY_BYTES);
    body.push(FORMAT);
    postcard::to_extend(record, body)
        .map_err(|error| Error::new(Code::Internal, "a record could not be encoded for the store").because(error))
}

/// The record in a body.
pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    match body.split_first() {
        Some((&FORMAT, rest)) => postcard::from_bytes(rest)
            .map_err(|error| Error::new(Code::StoreDamaged, "a row of the store cannot be decoded").because(error)),
        Some((format, _)) => {
            Err(Error::new(Code::StoreDamaged, format!("a row of the store has the unknown body format {format}")))
        }
        None => Err(Error::new(Code::StoreDamaged, "a row of the store is empty")),
    }
}

/// A number as SQLite keeps it.
pub(super) fn to_sql<N: TryInto<i64>>(number: N) -> Result<i64> {
    number.try_into().map_err(|_| Error::new(Code::Internal, "a number is too large for the store"))
}

/// A number that came from SQLite.
pub(super) fn from_sql<N: TryFrom<i64>>(number: i64) -> Result<N> {
    N::try_from(number).map_err(|_| Error::new(Code::StoreDamaged, "a row of the store holds a number out of range"))
}

/// The most rows that a caller wants, as SQLite takes it.
pub(super) fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
