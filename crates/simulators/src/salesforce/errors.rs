//! What the API says when it refuses: one record's errors, and a request's. Owns codes and their HTTP statuses; each
//! place that refuses owns its words.

use serde::Serialize;
use serde_json::{Value as Json, json};

const DUPLICATE_VALUE: &str = "DUPLICATE_VALUE";

/// One error about one record. REST calls the code `errorCode`, Collections `statusCode`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RecordError {
    #[serde(rename = "statusCode")]
    pub code: String,
    pub message: String,
    pub fields: Vec<String>,
    /// Which records look alike, where that is why.
    #[serde(rename = "duplicateResult", skip_serializing_if = "Option::is_none")]
    pub duplicates: Option<Box<Json>>,
}

impl RecordError {
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_string(), message: message.into(), fields: Vec::new(), duplicates: None }
    }

    pub fn on(code: &str, message: impl Into<String>, field: &str) -> Self {
        Self { fields: vec![field.to_string()], ..Self::new(code, message) }
    }

    /// As Bulk API writes it into `sf__Error`: code, words, fields, a dash for none.
    pub fn bulk(&self) -> String {
        let fields = if self.fields.is_empty() { String::new() } else { self.fields.join(", ") };
        format!("{}:{}:{} --", self.code, self.message, fields)
    }
}

/// A request that is refused.
#[derive(Clone, Debug)]
pub struct ApiError {
    pub status: u16,
    pub errors: Vec<RecordError>,
    /// A body of another form than the usual list.
    pub body: Option<Json>,
}

impl ApiError {
    pub fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self { status, errors: vec![RecordError::new(code, message)], body: None }
    }

    pub fn bad(code: &str, message: impl Into<String>) -> Self {
        Self::new(400, code, message)
    }

    pub fn not_found() -> Self {
        Self::new(404, "NOT_FOUND", "The requested resource does not exist")
    }

    pub fn session() -> Self {
        Self::new(401, "INVALID_SESSION_ID", "Session expired or invalid")
    }

    pub fn method() -> Self {
        Self::new(405, "METHOD_NOT_ALLOWED", "HTTP Method not allowed. Allowed are GET,HEAD,POST,PATCH,DELETE")
    }

    /// The body: the usual list, the code called `errorCode`.
    pub fn json(&self) -> Json {
        if let Some(body) = &self.body {
            return body.clone();
        }
        let list = self.errors.iter().map(|error| {
            let mut entry = json!({"message": error.message, "errorCode": error.code});
            if (!error.fields.is_empty() || error.code == DUPLICATE_VALUE)
                && let Some(entry) = entry.as_object_mut()
            {
                entry.insert("fields".into(), json!(error.fields));
            }
            if let (Some(duplicates), Some(entry)) = (&error.duplicates, entry.as_object_mut()) {
                entry.insert("duplicateResult".into(), duplicates.as_ref().clone());
            }
            entry
        });
        Json::Array(list.collect())
    }
}

/// What a record was refused for, as the answer to a request about that record alone: there a value that is not unique is named in
/// the words only.
impl From<Vec<RecordError>> for ApiError {
    fn from(mut errors: Vec<RecordError>) -> Self {
        for error in errors.iter_mut().filter(|error| error.code == DUPLICATE_VALUE) {
            error.fields.clear();
        }
        let status = match errors.first().map(|error| error.code.as_str()) {
            Some("ENTITY_IS_DELETED" | "NOT_FOUND") => 404,
            Some("INVALID_CROSS_REFERENCE_KEY") if errors.iter().all(|error| error.fields.is_empty()) => 404,
            Some("CONFLICT") => 409,
            Some("INSUFFICIENT_ACCESS_OR_READONLY" | "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY") => 403,
            _ => 400,
        };
        Self { status, errors, body: None }
    }
}

impl From<RecordError> for ApiError {
    fn from(error: RecordError) -> Self {
        vec![error].into()
    }
}
