//! What a field can hold, known before anything is written (invariant 8): a value fits exactly, fits in another
//! representation of the same meaning, fits only with a loss that the mapping must have declared, or does not fit.
//! Reasons name limits and lengths, never the value.

mod convert;
mod limit;
mod types;

pub use limit::{Extent, TimesOfDay};
pub use types::{TypeFit, type_fit};

use super::Value;
use crate::schema::Type;

/// Whether and how a field of some type can hold a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Fit {
    /// As it is.
    Exact,
    /// In another representation that means the same to the type: a whole number in a decimal field.
    Lossless(Value),
    /// Only with a change of meaning, which needs a declared rule: otherwise the record goes to review.
    Lossy {
        /// What the field would hold.
        value: Value,
        /// What is lost, in words.
        how: String,
    },
    /// Not at all.
    Impossible(String),
}

impl Fit {
    /// What can be written without any declared rule; `None` where the record must go to review.
    pub fn without_loss(self, value: &Value) -> Option<Value> {
        match self {
            Fit::Exact => Some(value.clone()),
            Fit::Lossless(other) => Some(other),
            Fit::Lossy { .. } | Fit::Impossible(_) => None,
        }
    }

    /// What can be written where the mapping has declared that a loss is meant.
    pub fn with_loss(self, value: &Value) -> Option<Value> {
        match self {
            Fit::Lossy { value: changed, .. } => Some(changed),
            other => other.without_loss(value),
        }
    }

    /// The reason why the value does not fit as it is; empty where it does.
    pub fn reason(&self) -> &str {
        match self {
            Fit::Exact | Fit::Lossless(_) => "",
            Fit::Lossy { how, .. } => how,
            Fit::Impossible(reason) => reason,
        }
    }

    /// This step followed by another one that looked at what this one gave.
    fn then(self, next: impl FnOnce(&Value) -> Fit, value: &Value) -> Fit {
        match self {
            Fit::Exact => next(value),
            Fit::Lossless(converted) => match next(&converted) {
                Fit::Exact => Fit::Lossless(converted),
                other => other,
            },
            Fit::Lossy { value: converted, how } => match next(&converted) {
                Fit::Exact => Fit::Lossy { value: converted, how },
                Fit::Lossless(other) => Fit::Lossy { value: other, how },
                Fit::Lossy { value, how: more } => Fit::Lossy { value, how: format!("{how}; {more}") },
                impossible => impossible,
            },
            impossible => impossible,
        }
    }
}

/// Whether a field of this type can hold the value, in a system whose days and times reach as far as PostgreSQL's.
pub fn fit(value: &Value, ty: &Type) -> Fit {
    fit_within(value, ty, &Extent::WIDE)
}

/// Whether a field of this type can hold the value, in a system whose days and times reach as far as the extent says.
pub fn fit_within(value: &Value, ty: &Type, extent: &Extent) -> Fit {
    match (value, ty) {
        (Value::Null, _) => Fit::Exact,
        (Value::Array(elements), Type::Array(element)) => fit_elements(elements, ty, element, extent),
        _ => convert::convert(value, ty).then(|converted| limit::limit(converted, ty, extent), value),
    }
}

/// A list fits as well as its worst element. A nested list is another dimension of the same type.
fn fit_elements(elements: &[Value], list: &Type, element: &Type, extent: &Extent) -> Fit {
    let mut fitted = Vec::with_capacity(elements.len());
    let mut changed = false;
    let mut losses: Vec<String> = Vec::new();
    for value in elements {
        let nested = matches!(value, Value::Array(_)) && !matches!(element, Type::Array(_));
        match fit_within(value, if nested { list } else { element }, extent) {
            Fit::Exact => fitted.push(value.clone()),
            Fit::Lossless(other) => {
                changed = true;
                fitted.push(other);
            }
            Fit::Lossy { value, how } => {
                fitted.push(value);
                if !losses.contains(&how) {
                    losses.push(how);
                }
            }
            Fit::Impossible(reason) => return Fit::Impossible(format!("an element of the list: {reason}")),
        }
    }
    match (losses.is_empty(), changed) {
        (false, _) => Fit::Lossy { value: Value::Array(fitted), how: losses.join("; ") },
        (true, true) => Fit::Lossless(Value::Array(fitted)),
        (true, false) => Fit::Exact,
    }
}
