//! What a record must satisfy before it is written, and what happens to one that does not.

use crate::record::FieldName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One rule about one field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ValidationRule {
    /// The field, by either side's name.
    #[schemars(with = "String")]
    pub field: FieldName,
    /// What must hold.
    pub rule: Rule,
    /// The pattern, for `regex`: must match somewhere in the value; `^…$` for the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// The least length or value, for `length` and `range`: a number, or text for dates and large decimals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Limit>,
    /// The greatest length or value, for `length` and `range`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Limit>,
    /// The values, for `one_of`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<serde_json::Value>,
    /// The expression that must be true, for `expression`; `value` is the field's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
    /// The region (ISO 3166, two letters) of numbers without a country code, for `phone`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// What happens to a record that breaks the rule.
    #[serde(default)]
    pub on_error: OnError,
    /// The value for `use_default`; the mapping's `default` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<serde_json::Value>,
}

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// There is a value, and it is not an empty text.
    Required,
    /// The value is an e-mail address.
    EmailFormat,
    /// The value matches `pattern`.
    Regex,
    /// The value is a phone number.
    Phone,
    /// The value has between `min` and `max` characters.
    Length,
    /// The value lies between `min` and `max`.
    Range,
    /// The value is one of `values`.
    OneOf,
    /// No other record of the same side has the value.
    Unique,
    /// `expression` is true.
    Expression,
}

impl Rule {
    /// The name under which it is written.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Required => "required",
            Rule::EmailFormat => "email_format",
            Rule::Regex => "regex",
            Rule::Phone => "phone",
            Rule::Length => "length",
            Rule::Range => "range",
            Rule::OneOf => "one_of",
            Rule::Unique => "unique",
            Rule::Expression => "expression",
        }
    }
}

/// A bound of a range.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Limit {
    /// A number.
    Number(serde_json::Number),
    /// A date, or a decimal with more digits than JSON's numbers keep.
    Text(String),
}

/// What happens to a record that breaks a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The record goes to review.
    #[default]
    RejectRecord,
    /// The field's standardiser repairs the value; what it cannot repair goes to review.
    StandardizeFormat,
    /// The field is written as null.
    SetNull,
    /// The default takes the value's place.
    UseDefault,
    /// The record is written and the ledger says so.
    Warn,
}
