//! One transformation, ready to run: what it does to a value, and how it is undone.

use super::expression::Expression;
use super::{dates, phone, text};
use crate::error::{Code, Error, Result};
use crate::record::Record;
use crate::schema::Type;
use crate::value::{Fit, Value, fit};
use rlibphonenumber::Region;
use std::sync::Arc;

/// One step of a pipeline.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    FormatPhone { region: Option<Region>, drop_extension: bool },
    Trim,
    Lowercase,
    Uppercase,
    TitleCase,
    Split { separator: String, index: Option<i64> },
    SplitPart { separator: String, part: usize, of: usize, rest: text::Rest },
    Join { separator: String },
    JoinFields { separator: String, fields: Vec<String> },
    Map(Arc<MapTable>),
    Cast { ty: Type, back: Option<Type> },
    DateFormat { from: Option<String>, to: Option<String>, source: Option<Type> },
    Expression { forth: Expression, back: Option<Expression> },
}

/// A table of values.
#[derive(Debug)]
pub(crate) struct MapTable {
    pub(crate) pairs: Vec<(Value, Value)>,
    pub(crate) otherwise: Option<Value>,
    pub(crate) keep_unknown: bool,
}

/// How one step is undone.
pub(super) enum StepInverse {
    Exact(Step),
    Normaliser,
    None(String),
}

/// A failure of a transformation on one value; the sentence never holds the value.
pub(super) fn failed(what: impl Into<String>) -> Error {
    Error::new(Code::TransformFailed, what)
}

impl Step {
    pub(super) fn apply(&self, value: &Value, record: &Record) -> Result<Value> {
        match (self, value) {
            (Step::Expression { forth, .. }, _) => forth.evaluate(value, record),
            (Step::Map(table), _) => table.look_up(value),
            (Step::JoinFields { separator, fields }, _) => text::join_fields(record, fields, separator),
            (_, Value::Null) => Ok(Value::Null),
            (Step::FormatPhone { region, drop_extension }, _) => phone::format(value, *region, *drop_extension),
            (Step::Trim, _) => Ok(text::on_text(value, |text| text.trim().to_owned())),
            (Step::Lowercase, _) => Ok(text::on_text(value, str::to_lowercase)),
            (Step::Uppercase, _) => Ok(text::on_text(value, str::to_uppercase)),
            (Step::TitleCase, _) => Ok(text::on_text(value, text::title_case)),
            (Step::Split { separator, index }, _) => text::split(value, separator, *index),
            (Step::SplitPart { separator, part, of, rest }, _) => text::split_part(value, separator, *part, *of, *rest),
            (Step::Join { separator }, _) => text::join(value, separator),
            (Step::Cast { ty, .. }, _) => cast(value, ty),
            (Step::DateFormat { from, to, .. }, _) => dates::date_format(value, from.as_deref(), to.as_deref()),
        }
    }

    pub(super) fn inverse(&self) -> StepInverse {
        match self {
            Step::FormatPhone { .. } | Step::Trim | Step::Lowercase | Step::Uppercase | Step::TitleCase => {
                StepInverse::Normaliser
            }
            Step::Split { separator, index: None } => StepInverse::Exact(Step::Join { separator: separator.clone() }),
            Step::Split { .. } => none("`split` with `index` keeps one part only; the others are unknown on the way back"),
            Step::SplitPart { .. } => none("one part of a text does not tell the whole of it"),
            Step::Join { separator } => StepInverse::Exact(Step::Split { separator: separator.clone(), index: None }),
            Step::JoinFields { .. } => none("`join` of several fields cannot tell them apart again"),
            Step::Map(table) => table.inverse(),
            Step::Cast { ty, back: Some(source) } => {
                StepInverse::Exact(Step::Cast { ty: source.clone(), back: Some(ty.clone()) })
            }
            Step::Cast { back: None, .. } => none("`cast` does not know the type that the value came from"),
            Step::DateFormat { from, to, source } => dates::inverse(from.as_deref(), to.as_deref(), source.as_ref()),
            Step::Expression { forth, back: Some(back) } => {
                StepInverse::Exact(Step::Expression { forth: back.clone(), back: Some(forth.clone()) })
            }
            Step::Expression { back: None, .. } => none("`expression` has no `inverse`"),
        }
    }

    pub(super) fn is_lossy(&self) -> bool {
        match self {
            Step::FormatPhone { .. } | Step::Trim | Step::Lowercase | Step::Uppercase | Step::TitleCase => true,
            Step::Cast { .. } | Step::JoinFields { .. } | Step::SplitPart { .. } | Step::Split { index: Some(_), .. } => true,
            Step::Split { .. } | Step::Join { .. } => false,
            Step::Map(_) | Step::DateFormat { .. } | Step::Expression { .. } => matches!(self.inverse(), StepInverse::None(_)),
        }
    }

    pub(super) fn fields_read(&self) -> Vec<String> {
        match self {
            Step::JoinFields { fields, .. } => fields.clone(),
            Step::Expression { forth, .. } => forth.fields_read(),
            _ => Vec::new(),
        }
    }
}

pub(super) fn none(reason: &str) -> StepInverse {
    StepInverse::None(reason.to_owned())
}

fn cast(value: &Value, ty: &Type) -> Result<Value> {
    match fit(value, ty) {
        Fit::Exact => Ok(value.clone()),
        Fit::Lossless(other) | Fit::Lossy { value: other, .. } => Ok(other),
        Fit::Impossible(reason) => Err(failed(format!("`cast` cannot change the value: {reason}"))),
    }
}

impl MapTable {
    fn look_up(&self, value: &Value) -> Result<Value> {
        let plain = value.to_plain_text();
        let matches = |from: &Value| match from {
            Value::Text(text) => plain.as_deref() == Some(text),
            other => other.equivalent(value),
        };
        let found = self.pairs.iter().find(|(from, _)| matches(from)).map(|(_, to)| to.clone());
        match (found, &self.otherwise) {
            (Some(to), _) => Ok(to),
            (None, _) if value.is_null() => Ok(Value::Null),
            (None, Some(otherwise)) => Ok(otherwise.clone()),
            (None, None) if self.keep_unknown => Ok(value.clone()),
            (None, None) => Err(failed("`map` has no entry for the value")),
        }
    }

    fn inverse(&self) -> StepInverse {
        if self.otherwise.is_some() || self.keep_unknown {
            return none("`map` with `otherwise` or `keep_unknown` gives one value for several");
        }
        let keys = |value: &Value| value.to_plain_text().map_or_else(|| value.canonical_bytes(), String::into_bytes);
        let mut targets: Vec<Vec<u8>> = self.pairs.iter().map(|(_, to)| keys(to)).collect();
        targets.sort();
        let all = targets.len();
        targets.dedup();
        let nulls = self.pairs.iter().any(|(from, to)| from.is_null() != to.is_null());
        if targets.len() < all || nulls {
            return none("`map` gives the same value for several entries, or for null");
        }
        let pairs = self.pairs.iter().map(|(from, to)| (to.clone(), from.clone())).collect();
        StepInverse::Exact(Step::Map(Arc::new(MapTable { pairs, otherwise: None, keep_unknown: false })))
    }
}
