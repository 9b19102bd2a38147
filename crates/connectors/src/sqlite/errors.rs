//! SQLite's result codes as errors with a stable code and class. Decides by the numbers, never by the text.

use concord_engine::error::{Code, Error};
use rusqlite::ErrorCode;
use rusqlite::ffi;

/// What a failure of SQLite means to the engine. `doing` says what was tried, for the message.
pub(super) fn classify(error: rusqlite::Error, doing: &str) -> Error {
    let (code, what) = match error.sqlite_error() {
        Some(failure) => (code_of(failure), reason_of(&error, failure)),
        None => (Code::Internal, None),
    };
    let message = match what {
        Some(reason) => format!("{doing}: {reason}"),
        None => format!("{doing} failed"),
    };
    Error::new(code, message).because(error)
}

/// The same for a statement that writes one record: what SQLite will not run is that record's failure.
pub(super) fn classify_write(error: rusqlite::Error, doing: &str) -> Error {
    let refused = error.sqlite_error_code() == Some(ErrorCode::Unknown);
    let classified = classify(error, doing);
    if refused { Error { code: Code::WriteRefused, ..classified } } else { classified }
}

/// Whether the failure is one of the record alone: the same file takes other records.
pub(super) fn is_the_records_own(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error().map(|failure| failure.code),
        Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch | ErrorCode::Unknown)
    )
}

/// Whether a create met a record that has its key already.
pub(super) fn is_key_taken(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error().map(|failure| failure.extended_code),
        Some(ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_ROWID)
    )
}

/// Whether a record has a value, or a key, that another one has already.
pub(super) fn is_value_taken(error: &rusqlite::Error) -> bool {
    is_key_taken(error) || error.sqlite_error().is_some_and(|failure| failure.extended_code == ffi::SQLITE_CONSTRAINT_UNIQUE)
}

/// Whether a statement cannot even be put together: something that it names is not there.
pub(super) fn is_not_understood(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::Unknown)
}

fn code_of(failure: &ffi::Error) -> Code {
    match failure.code {
        ErrorCode::DatabaseBusy
        | ErrorCode::DatabaseLocked
        | ErrorCode::OperationInterrupted
        | ErrorCode::FileLockingProtocolFailed
        | ErrorCode::SchemaChanged => Code::Busy,
        ErrorCode::CannotOpen | ErrorCode::NotFound => Code::FileUnavailable,
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied => Code::FileReadOnly,
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Code::FileCorrupt,
        ErrorCode::DiskFull => Code::DiskFull,
        ErrorCode::SystemIoFailure | ErrorCode::OutOfMemory | ErrorCode::NoLargeFileSupport => Code::FileFailed,
        // Of a delete. Of any other write it is the record's own fault: see `apply`.
        ErrorCode::ConstraintViolation if failure.extended_code == ffi::SQLITE_CONSTRAINT_FOREIGNKEY => Code::StillReferred,
        ErrorCode::ConstraintViolation => Code::TargetRejected,
        ErrorCode::TooBig | ErrorCode::TypeMismatch => Code::ValueDoesNotFit,
        // A table that another connection dropped or altered between two statements: found out at the next call.
        ErrorCode::Unknown => Code::ProtocolViolation,
        _ => Code::Internal,
    }
}

/// SQLite's own sentence where it names constraints and columns only, or what a trigger of the application raised.
fn reason_of(error: &rusqlite::Error, failure: &ffi::Error) -> Option<String> {
    match (failure.code, error) {
        (ErrorCode::ConstraintViolation | ErrorCode::Unknown, rusqlite::Error::SqliteFailure(_, Some(text))) => {
            Some(text.clone())
        }
        (ErrorCode::Unknown, rusqlite::Error::SqlInputError { msg, .. }) => Some(msg.clone()),
        (ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked, _) => Some("the file is locked by another connection".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use concord_engine::error::Class;

    #[test]
    fn classes_follow_the_result_code_and_not_the_text() {
        let of = |number: i32| code_of(&ffi::Error::new(number)).class();
        assert_eq!(of(ffi::SQLITE_BUSY), Class::Transient);
        assert_eq!(of(ffi::SQLITE_CANTOPEN), Class::Transient);
        assert_eq!(of(ffi::SQLITE_FULL), Class::Transient);
        assert_eq!(of(ffi::SQLITE_CORRUPT), Class::Stop);
        assert_eq!(of(ffi::SQLITE_NOTADB), Class::Stop);
        assert_eq!(of(ffi::SQLITE_READONLY), Class::Stop);
        assert_eq!(of(ffi::SQLITE_CONSTRAINT_UNIQUE), Class::Rejected);
        assert_eq!(of(ffi::SQLITE_TOOBIG), Class::Rejected);
    }
}
