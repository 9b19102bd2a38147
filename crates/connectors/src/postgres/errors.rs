//! What the server, the network or TLS reports, as the engine's one error with its stable code.
//! The class is decided by SQLSTATE and by the error's type, never by its text; no record's value gets into a message
//! (the texts of data errors quote them, so those are left out).

use concord_engine::error::{Code, Error};
use std::error::Error as StdError;
use tokio_postgres::error::DbError;

/// The error of a statement; `doing` says what it was for ("reading public.accounts").
pub fn statement(error: &tokio_postgres::Error, doing: &str) -> Error {
    match error.as_db_error() {
        Some(refused) => refusal(refused, doing),
        None if is_tls(error) => Error::new(Code::TlsFailed, format!("{doing}: TLS failed")).because(describe(error)),
        None => Error::new(Code::Unreachable, format!("{doing}: the connection was lost")).because(describe(error)),
    }
}

/// The error of an attempt to connect. `tls_required`: what is neither the server's refusal nor the network's failure
/// is then the handshake's.
pub fn connecting(error: &tokio_postgres::Error, place: &str, tls_required: bool) -> Error {
    let doing = format!("connecting to {place}");
    match error.as_db_error() {
        Some(refused) => refusal(refused, &doing),
        None if is_tls(error) || (tls_required && !is_network(error) && !error.is_closed()) => {
            Error::new(Code::TlsFailed, format!("{doing}: TLS could not be set up")).because(describe(error))
        }
        None => Error::new(Code::Unreachable, format!("{doing}: no answer")).because(describe(error)),
    }
}

/// The server's own refusal.
fn refusal(refused: &DbError, doing: &str) -> Error {
    let state = refused.code().code();
    let code = code_of(state);
    let mut message = format!("{doing}: ");
    if quotes_values(state) {
        message.push_str(&data_error(refused, state));
    } else {
        message.push_str(refused.message());
        message.push_str(&format!(" (SQLSTATE {state})"));
    }
    let error = Error::new(code, message);
    match refused.where_().filter(|place| place.contains("function")) {
        Some(place) => error.because(InFunction(place.lines().next().unwrap_or_default().to_owned())),
        None => error,
    }
}

/// Where in the database's own code a statement was refused.
#[derive(Debug)]
struct InFunction(String);

impl std::fmt::Display for InFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for InFunction {}

/// Whether a function of the database's refused, which a trigger calls for some records, and not the statement as such.
pub fn is_in_function(error: &Error) -> bool {
    StdError::source(error).is_some_and(|source| source.is::<InFunction>())
}

/// The code of a SQLSTATE.
pub fn code_of(state: &str) -> Code {
    match state {
        "42501" => Code::PrivilegeMissing,
        "42P01" | "3F000" | "3D000" => Code::ObjectMissing,
        "42703" => Code::FieldMissing,
        // Another session has the slot, the lock or the last connection; or an administrator cancelled.
        "55006" | "55P03" | "57014" | "53300" => Code::Busy,
        "57P01" | "57P02" | "57P03" | "57P05" => Code::Unreachable,
        // Read-only: the server is a standby, or the database is set so.
        "25006" => Code::SettingWrong,
        "53400" => Code::SettingWrong,
        "23505" => Code::AlreadyThere,
        // Of a delete. Of any other write it is the record's own fault: see `apply`.
        "23503" => Code::StillReferred,
        // Raised by a trigger or function, or refused by a rule of a view.
        "P0001" | "44000" | "27000" | "09000" => Code::TargetRejected,
        _ => match state.get(..2) {
            Some("08") => Code::Unreachable,
            Some("28") => Code::AuthenticationFailed,
            Some("40") => Code::Busy,
            Some("22") => Code::ValueDoesNotFit,
            Some("23") => Code::TargetRejected,
            Some("53" | "58") => Code::Busy,
            _ => Code::StatementRefused,
        },
    }
}

/// Whether the message of this SQLSTATE may quote a value of the record.
fn quotes_values(state: &str) -> bool {
    matches!(state.get(..2), Some("22" | "23"))
}

/// A data error in words that name the constraint and column, not the value.
fn data_error(refused: &DbError, state: &str) -> String {
    let what = match state {
        "22001" => "a text is too long",
        "22003" => "a number is out of range",
        "22007" | "22008" => "a date or time does not fit",
        "22021" => "a character cannot be held",
        "22P02" | "22P03" => "a value does not have the form of the column's type",
        "23502" => "a value is missing",
        "23503" => "a referenced record is missing, or this one is still referenced",
        "23505" => "the values are already there",
        "23514" => "a check forbids the values",
        "23P01" => "an exclusion constraint forbids the values",
        _ => "a value does not fit",
    };
    let mut text = format!("{what} (SQLSTATE {state}");
    for (label, name) in [("constraint", refused.constraint()), ("column", refused.column()), ("type", refused.datatype())] {
        if let Some(name) = name {
            text.push_str(&format!(", {label} {name}"));
        }
    }
    text.push(')');
    text
}

/// Whether TLS is at the bottom of it.
fn is_tls(error: &tokio_postgres::Error) -> bool {
    chain(error).any(|cause| {
        cause.is::<rustls::Error>()
            || cause
                .downcast_ref::<std::io::Error>()
                .and_then(std::io::Error::get_ref)
                .is_some_and(|inner| inner.is::<rustls::Error>())
    })
}

/// Whether the network is at the bottom of it.
fn is_network(error: &tokio_postgres::Error) -> bool {
    chain(error).any(|cause| cause.is::<std::io::Error>())
}

fn chain(error: &tokio_postgres::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(StdError::source(error), |cause| (*cause).source())
}

/// The causes in one line: the client's error type is not shareable, its text is.
fn describe(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    for cause in chain(error) {
        text.push_str(": ");
        text.push_str(&cause.to_string());
    }
    text
}

/// A connection that says something the protocol or the catalogue does not allow.
pub fn unexpected(what: impl Into<String>) -> Error {
    Error::new(Code::ProtocolViolation, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use concord_engine::error::Class;

    #[test]
    fn a_failure_is_classified_by_its_sqlstate() {
        for (state, class) in [
            ("23502", Class::Rejected),
            ("23503", Class::Transient),
            ("22001", Class::Rejected),
            ("P0001", Class::Rejected),
            ("40001", Class::Transient),
            ("40P01", Class::Transient),
            ("55P03", Class::Transient),
            ("55006", Class::Transient),
            ("57P01", Class::Transient),
            ("08006", Class::Transient),
            ("42501", Class::Stop),
            ("28P01", Class::Stop),
            ("42P01", Class::Stop),
            ("23505", Class::Stale),
        ] {
            assert_eq!(code_of(state).class(), class, "{state}");
        }
    }
}
