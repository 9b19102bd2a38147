//! The catalogue of transformations, as it is written: names and arguments. What each does to a value, and its
//! inverse, is the mapping stage's business.

use super::mapping::TimestampFormat;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One step that a value goes through on its way from source to target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum Transformation {
    /// The value as it is.
    None {},
    /// A phone number in E.164.
    FormatPhone {
        /// The region (ISO 3166, two letters) of numbers without a country code.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        region: Option<String>,
    },
    /// Text without blanks at its ends.
    Trim {},
    /// Text in lower case.
    Lowercase {},
    /// Text in upper case.
    Uppercase {},
    /// Text with each word's first letter in upper case.
    TitleCase {},
    /// One text into parts: to several targets in their order, or one part to one target.
    Split {
        /// What stands between the parts.
        #[serde(default = "blank")]
        #[schemars(length(min = 1))]
        separator: String,
        /// Which part goes to the one target: 0 is the first, -1 the last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        index: Option<i64>,
        /// Which of several targets takes what is left over: the last, unless it is said otherwise.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rest: Option<Rest>,
    },
    /// Several source fields into one text.
    Join {
        /// What stands between the parts.
        #[serde(default = "blank")]
        separator: String,
        /// Which of the source fields takes what is left over on the way back; without it, a text that has not as many parts
        /// as there are fields goes to review on the way back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rest: Option<Rest>,
    },
    /// A table of values.
    Map {
        /// The target's value for each of the source's, the source's written as text.
        values: serde_json::Map<String, serde_json::Value>,
        /// The target's value for every other; without it, a value that is not in the table goes to review.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        default: Option<serde_json::Value>,
    },
    /// A value as another type; what does not fit exactly goes to review.
    Cast {
        /// The type.
        to: CastType,
    },
    /// A date or timestamp as text, or text of one form as text of another.
    DateFormat {
        /// The form on the target's side.
        to: TimestampFormat,
        /// The form of text on the source's side.
        #[serde(default)]
        from: TimestampFormat,
    },
    /// An expression over the record's fields; `value` is the field's own.
    Expression {
        /// The expression.
        #[schemars(length(min = 1))]
        expression: String,
        /// The expression for the way back; without it the field flows one way.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inverse: Option<String>,
    },
}

impl Transformation {
    /// The name under which it is written.
    pub fn name(&self) -> &'static str {
        match self {
            Transformation::None {} => "none",
            Transformation::FormatPhone { .. } => "format_phone",
            Transformation::Trim {} => "trim",
            Transformation::Lowercase {} => "lowercase",
            Transformation::Uppercase {} => "uppercase",
            Transformation::TitleCase {} => "title_case",
            Transformation::Split { .. } => "split",
            Transformation::Join { .. } => "join",
            Transformation::Map { .. } => "map",
            Transformation::Cast { .. } => "cast",
            Transformation::DateFormat { .. } => "date_format",
            Transformation::Expression { .. } => "expression",
        }
    }
}

/// Which of several fields takes what is left over of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rest {
    /// The first: `Ada Marie King` is `Ada Marie` and `King`.
    First,
    /// The last: `Ada van Dyke` is `Ada` and `van Dyke`.
    Last,
}

/// A type that a value can be cast to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CastType {
    /// Text.
    Text,
    /// A whole number.
    Integer,
    /// A decimal number.
    Decimal,
    /// A binary floating-point number.
    Float,
    /// True or false.
    Boolean,
    /// A day.
    Date,
    /// A time of day.
    Time,
    /// A day and time without a zone.
    Timestamp,
    /// A point in time.
    TimestampTz,
    /// A UUID.
    Uuid,
    /// A JSON document.
    Json,
}

fn blank() -> String {
    " ".to_owned()
}
