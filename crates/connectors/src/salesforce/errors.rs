//! What the vendor's refusals mean: each of its codes gets a code of ours, whose class says what follows. Decided by the
//! code, never by the text; the vendor's words are passed on only where an administrator of the org wrote them, for the
//! others can hold a record's values.

use concord_engine::error::{Code, Error};
use serde::Deserialize;
use std::time::Duration;

/// How long to wait for a daily allowance, which is counted over the last 24 hours.
const ALLOWANCE_WAIT: Duration = Duration::from_secs(900);
/// How long to wait where too many calls run at once.
pub(super) const CONCURRENCY_WAIT: Duration = Duration::from_secs(15);

/// One error of a REST answer. REST calls the code `errorCode`, Collections `statusCode`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Refusal {
    #[serde(rename = "statusCode", alias = "errorCode")]
    pub code: String,
    pub message: String,
    pub fields: Vec<String>,
}

/// The fields of whose values a record was refused because another one has the same. The vendor names them in the list or in the
/// words alone; empty where it names none, `None` where that is not why it was refused.
pub(super) fn duplicated(errors: &[Refusal]) -> Option<Vec<&str>> {
    let mut duplicates = errors.iter().filter(|error| error.code == "DUPLICATE_VALUE").peekable();
    duplicates.peek()?;
    let named = duplicates.flat_map(|error| {
        let told =
            error.message.strip_prefix("duplicate value found: ").and_then(|rest| rest.split_once(" duplicates value on "));
        // In a job's result the id of the other record may stand where the fields do.
        let listed = error.fields.iter().map(String::as_str).filter(|name| !super::ids::is_id(name));
        told.map(|(name, _)| name).filter(|name| super::schema::is_name(name)).into_iter().chain(listed)
    });
    Some(named.collect())
}

/// The errors of an answer's body: a list, or the object that OAuth and some edges send.
pub(super) fn refusals(body: &[u8]) -> Vec<Refusal> {
    if let Ok(list) = serde_json::from_slice::<Vec<Refusal>>(body) {
        return list;
    }
    #[derive(Deserialize)]
    struct OAuth {
        error: String,
        #[serde(default)]
        error_description: String,
    }
    match serde_json::from_slice::<OAuth>(body) {
        Ok(one) => vec![Refusal { code: one.error, message: one.error_description, fields: Vec::new() }],
        Err(_) => Vec::new(),
    }
}

/// What became of one record, by its first error.
pub(super) fn of_record(object: &str, errors: &[Refusal]) -> Error {
    let Some(first) = errors.first() else {
        return Error::new(Code::ProtocolViolation, format!("{object}: a record was refused without a reason"));
    };
    let fields = if first.fields.is_empty() { String::new() } else { format!(" [{}]", first.fields.join(", ")) };
    let said = match words_are_the_administrators(&first.code) {
        true => format!(": {}", first.message),
        false => String::new(),
    };
    let error = Error::new(record_code(&first.code), format!("{object}{fields}: {}{said}", first.code));
    match first.code.as_str() {
        "REQUEST_LIMIT_EXCEEDED" => Error { retry_after: Some(ALLOWANCE_WAIT), ..error },
        _ => error,
    }
}

/// Whether an administrator of the org wrote the message: a rule's, a trigger's, a flow's.
fn words_are_the_administrators(code: &str) -> bool {
    matches!(
        code,
        "FIELD_CUSTOM_VALIDATION_EXCEPTION"
            | "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY"
            | "CANNOT_EXECUTE_FLOW_TRIGGER"
            | "DUPLICATES_DETECTED"
    )
}

fn record_code(code: &str) -> Code {
    match code {
        "UNABLE_TO_LOCK_ROW" => Code::Busy,
        "DUPLICATES_DETECTED" => Code::HostedDuplicateRule,
        "STRING_TOO_LONG"
        | "NUMBER_OUTSIDE_VALID_RANGE"
        | "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"
        | "INVALID_EMAIL_ADDRESS"
        | "JSON_PARSER_ERROR"
        | "FIELD_INTEGRITY_EXCEPTION" => Code::ValueDoesNotFit,
        "INVALID_FIELD_FOR_INSERT_UPDATE" | "INVALID_FIELD" => Code::HostedFieldRefused,
        "INVALID_CROSS_REFERENCE_KEY" | "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY" | "MALFORMED_ID" => {
            Code::HostedReferenceUnknown
        }
        "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY" | "CANNOT_EXECUTE_FLOW_TRIGGER" => Code::HostedAutomationFailed,
        "STORAGE_LIMIT_EXCEEDED" => Code::HostedStorageFull,
        "INSUFFICIENT_ACCESS" | "INSUFFICIENT_ACCESS_OR_READONLY" | "CANNOT_DELETE_NOT_UNDELETABLE" => Code::HostedRecordDenied,
        "REQUEST_LIMIT_EXCEEDED" | "TXN_SECURITY_METERING_ERROR" => Code::HostedAllowanceUsed,
        "UNKNOWN_EXCEPTION" => Code::OutcomeUnknown,
        "SERVER_UNAVAILABLE" | "QUERY_TIMEOUT" => Code::Unreachable,
        "ALL_OR_NONE_OPERATION_ROLLED_BACK" | "PROCESSING_HALTED" => Code::StatementRefused,
        _ => Code::TargetRejected,
    }
}

/// What a request that was refused as a whole means.
pub(super) fn of_request(doing: &str, status: u16, body: &[u8]) -> Error {
    let errors = refusals(body);
    let code = errors.first().map_or("", |error| error.code.as_str());
    let told = if code.is_empty() { format!("HTTP {status}") } else { format!("{code} (HTTP {status})") };
    let error = Error::new(request_code(status, code), format!("{doing}: {told}"));
    match error.code {
        Code::HostedAllowanceUsed => Error { retry_after: Some(ALLOWANCE_WAIT), ..error },
        Code::Throttled => Error { retry_after: Some(CONCURRENCY_WAIT), ..error },
        _ => error,
    }
}

fn request_code(status: u16, code: &str) -> Code {
    match code {
        "INVALID_SESSION_ID" => Code::Unreachable,
        "REQUEST_LIMIT_EXCEEDED" | "TXN_SECURITY_METERING_ERROR" => Code::HostedAllowanceUsed,
        "LIMIT_EXCEEDED" => Code::Throttled,
        "INVALID_REPLICATION_DATE" => Code::FeedGap,
        "API_DISABLED_FOR_ORG" | "API_CURRENTLY_DISABLED" | "INSUFFICIENT_ACCESS" => Code::PrivilegeMissing,
        "INVALID_TYPE" | "INVALIDENTITY" => Code::ObjectMissing,
        "INVALID_FIELD" => Code::FieldMissing,
        "NOT_FOUND" => Code::ObjectMissing,
        "STORAGE_LIMIT_EXCEEDED" => Code::HostedStorageFull,
        "UNABLE_TO_LOCK_ROW" => Code::Busy,
        "QUERY_TIMEOUT" | "SERVER_UNAVAILABLE" | "UNKNOWN_EXCEPTION" | "INVALID_QUERY_LOCATOR" => Code::Unreachable,
        _ => match status {
            429 => Code::Throttled,
            406 | 408 | 420 | 500..=599 => Code::Unreachable,
            401 => Code::Unreachable,
            403 => Code::PrivilegeMissing,
            404 => Code::ObjectMissing,
            _ => Code::StatementRefused,
        },
    }
}

/// Whether a login that was refused so may work later without anybody doing anything. The vendor says `unknown_error` (HTTP 400)
/// where it asks for another try.
pub(super) fn login_may_recover(status: u16, code: &str) -> bool {
    status >= 500 || status == 429 || matches!(code, "server_error" | "temporarily_unavailable" | "unknown_error")
}

#[cfg(test)]
mod tests {
    use super::*;
    use concord_engine::error::Class;

    fn record(code: &str, message: &str) -> Error {
        of_record("Account", &[Refusal { code: code.into(), message: message.into(), fields: vec!["Name".into()] }])
    }

    #[test]
    fn a_validation_rules_words_are_passed_on_and_a_records_values_are_not() {
        let rule = record("FIELD_CUSTOM_VALIDATION_EXCEPTION", "Not below zero");
        assert_eq!((rule.class(), rule.code), (Class::Rejected, Code::TargetRejected));
        assert!(rule.message.contains("Not below zero") && rule.message.contains("Name"), "{}", rule.message);
        let long = record("STRING_TOO_LONG", "Name: data value too large: a secret of the customer (max length=255)");
        assert_eq!(long.code, Code::ValueDoesNotFit);
        assert!(!long.message.contains("customer"), "{}", long.message);
    }

    #[test]
    fn the_field_of_a_duplicate_is_known_by_the_list_or_by_the_words() {
        let of = |message: &str, fields: &[&str]| {
            let fields = fields.iter().map(|name| (*name).to_owned()).collect();
            let errors = [Refusal { code: "DUPLICATE_VALUE".into(), message: message.into(), fields }];
            duplicated(&errors).unwrap().into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let words = "duplicate value found: uuid__c duplicates value on record with id: 001xx000003DGb0";
        assert_eq!(of(words, &[]), ["uuid__c"]);
        assert_eq!(of("duplicate value found: <unknown> duplicates value on record with id: <unknown>", &[]), [""; 0]);
        assert_eq!(of("Duplicate external id specified: X", &["Ext__c"]), ["Ext__c"]);
        assert_eq!(of("", &["001xx000003DGb0"]), [""; 0]);
        assert_eq!(duplicated(&[Refusal { code: "STRING_TOO_LONG".into(), ..Refusal::default() }]), None);
    }

    #[test]
    fn each_code_has_the_class_that_its_cause_asks_for() {
        for (code, class) in [
            ("UNABLE_TO_LOCK_ROW", Class::Transient),
            ("REQUEST_LIMIT_EXCEEDED", Class::Throttled),
            ("UNKNOWN_EXCEPTION", Class::UnknownOutcome),
            ("DUPLICATE_VALUE", Class::Rejected),
            ("STORAGE_LIMIT_EXCEEDED", Class::Stop),
            ("A_CODE_OF_NEXT_YEAR", Class::Rejected),
        ] {
            assert_eq!(record(code, "").class(), class, "{code}");
        }
        let body = br#"[{"message":"TotalRequests Limit exceeded.","errorCode":"REQUEST_LIMIT_EXCEEDED"}]"#;
        let error = of_request("reading", 403, body);
        assert_eq!((error.class(), error.retry_after), (Class::Throttled, Some(ALLOWANCE_WAIT)));
        assert_eq!(of_request("reading", 503, b"<html>").class(), Class::Transient);
        let oauth = br#"{"error":"invalid_grant","error_description":"expired access/refresh token"}"#;
        assert_eq!(refusals(oauth).first().unwrap().code, "invalid_grant");
    }
}
