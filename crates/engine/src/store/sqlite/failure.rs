//! What SQLite's failures mean to a person: result code → our code, decided here and nowhere else.
//! Never puts a record's values into a message: SQLite's own texts name tables and columns at most.

use crate::error::{Code, Error};
use rusqlite::ErrorCode;

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        let (code, message) = meaning(&error);
        Error::new(code, message).because(error)
    }
}

fn meaning(error: &rusqlite::Error) -> (Code, &'static str) {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => (Code::StoreFull, "the disk that holds the store is full"),
        Some(ErrorCode::DatabaseCorrupt) => (Code::StoreDamaged, "the store's file is damaged"),
        Some(ErrorCode::NotADatabase) => (Code::StoreForeign, "the file is not a store of Concord"),
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            (Code::StoreDenied, "the store's file cannot be opened for writing")
        }
        Some(ErrorCode::SystemIoFailure) => (Code::StoreFailed, "the store's file could not be written or read"),
        _ => (Code::StoreFailed, "the store refused a step"),
    }
}
