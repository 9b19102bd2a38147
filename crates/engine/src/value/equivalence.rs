//! When two values mean the same: in general, and under the declared equivalence of a type.
//! A type's equivalence is defined by one function that brings every value to the type's normal form; so it is an
//! equivalence relation by construction, and never merges what the type can keep apart.

use super::Value;
use super::json::Json;
use crate::schema::Type;
use std::borrow::Cow;

impl Value {
    /// Whether two values mean the same whatever their type: numbers by value, JSON by meaning, floats with -0 equal
    /// to 0 and NaN equal to itself, everything else exactly and only within its own kind. Equal exactly when
    /// [`canonical_bytes`](Value::canonical_bytes) are.
    pub fn equivalent(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Float(a), Value::Float(b)) => a.same_number(*b),
            (Value::Json(a), Value::Json(b)) => a.same_meaning(b),
            (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.equivalent(b)),
            (a, b) if a == b => true,
            (
                Value::Int(_) | Value::UInt(_) | Value::Decimal(_) | Value::Float(_),
                Value::Int(_) | Value::UInt(_) | Value::Decimal(_) | Value::Float(_),
            ) => self.number() == other.number(),
            _ => false,
        }
    }

    /// Whether two values mean the same to a field of this type.
    pub fn equivalent_as(&self, other: &Value, ty: &Type) -> bool {
        self == other || self.normal_as(ty).equivalent(&other.normal_as(ty))
    }

    /// Whether values of two fields of two types mean the same, at the coarser of both: `10:00:00.123456` in
    /// microseconds is `10:00:00.123` in milliseconds.
    pub fn equivalent_between(&self, own: &Type, other: &Value, other_type: &Type) -> bool {
        let coarser = coarser_type(own, other_type);
        self.normal_as(own).normal_as(&coarser).equivalent(&other.normal_as(other_type).normal_as(&coarser))
    }

    /// The normal form of a value under a type's equivalence. Values that the type knows nothing of stay as they are.
    pub fn normal_as(&self, ty: &Type) -> Cow<'_, Value> {
        match (ty, self) {
            (_, Value::Null) => Cow::Borrowed(self),
            (Type::Text { padded, empty, .. }, _) => self.normal_text(*padded, *empty),
            (Type::Timestamp { fraction_digits }, Value::Timestamp(timestamp)) => {
                Cow::Owned(Value::Timestamp(timestamp.truncated(*fraction_digits)))
            }
            (Type::TimestampTz { fraction_digits }, Value::TimestampTz(timestamp)) => {
                Cow::Owned(Value::TimestampTz(timestamp.truncated(*fraction_digits)))
            }
            (Type::Time { fraction_digits, .. }, Value::Time(time)) => Cow::Owned(Value::Time(time.truncated(*fraction_digits))),
            (Type::Interval { fraction_digits }, Value::Interval(interval)) => {
                Cow::Owned(Value::Interval(interval.truncated(*fraction_digits)))
            }
            (Type::Array(element), Value::Array(values)) => Cow::Owned(Value::Array(
                values.iter().map(|value| value.normal_as(ty_of_element(ty, element, value)).into_owned()).collect(),
            )),
            (Type::Bool, Value::Int(0)) => Cow::Owned(Value::Bool(false)),
            (Type::Bool, Value::Int(1)) => Cow::Owned(Value::Bool(true)),
            (Type::Int { .. } | Type::Decimal { .. } | Type::Float { .. }, Value::Bool(truth)) => {
                Cow::Owned(Value::Int(i64::from(*truth)))
            }
            (Type::Enum { .. }, Value::Text(label)) => Cow::Owned(Value::Enum(label.clone())),
            (Type::Reference { .. }, Value::Int(_) | Value::UInt(_) | Value::Uuid(_) | Value::Text(_) | Value::Enum(_)) => {
                self.to_plain_text().map_or(Cow::Borrowed(self), |key| Cow::Owned(Value::Reference(key)))
            }
            (_, Value::Text(text)) => read_back(text, ty).map_or(Cow::Borrowed(self), |value| {
                let normal = value.normal_as(ty).into_owned();
                Cow::Owned(normal)
            }),
            _ => Cow::Borrowed(self),
        }
    }

    fn normal_text(&self, padded: bool, empty: bool) -> Cow<'_, Value> {
        let text = match self {
            Value::Text(text) => Cow::Borrowed(text.as_str()),
            _ => match self.to_plain_text() {
                Some(text) => Cow::Owned(text),
                None => return Cow::Borrowed(self),
            },
        };
        let trimmed = if padded { text.trim_end_matches(' ') } else { &*text };
        if trimmed.is_empty() && !empty {
            return Cow::Owned(Value::Null);
        }
        match self {
            Value::Text(_) if trimmed.len() == text.len() => Cow::Borrowed(self),
            _ => Cow::Owned(Value::Text(trimmed.to_owned())),
        }
    }
}

/// Reads a text as a value of another type where nothing of the text would be lost: where the value's plain text is
/// the text again (`12`, not `012`), or where the type itself says that spellings do not matter (UUID, JSON).
pub(crate) fn read_back(text: &str, ty: &Type) -> Option<Value> {
    match ty {
        Type::Uuid => uuid::Uuid::try_parse(text).ok().map(Value::Uuid),
        Type::Json => Json::parse(text).ok().map(Value::Json),
        Type::Text { .. } | Type::Opaque { .. } => None,
        _ => Value::parse_as(text, ty).filter(|value| value.to_plain_text().as_deref() == Some(text)),
    }
}

/// A nested list is another dimension of the same type.
fn ty_of_element<'a>(list: &'a Type, element: &'a Type, value: &Value) -> &'a Type {
    if matches!(value, Value::Array(_)) && !matches!(element, Type::Array(_)) { list } else { element }
}

/// The type at whose precision values of both are compared: the coarser fraction, text that trims or loses emptiness
/// if one of both does. Otherwise the first.
fn coarser_type(own: &Type, other: &Type) -> Type {
    match (own, other) {
        (Type::Timestamp { fraction_digits: a }, Type::Timestamp { fraction_digits: b }) => {
            Type::Timestamp { fraction_digits: *a.min(b) }
        }
        (Type::TimestampTz { fraction_digits: a }, Type::TimestampTz { fraction_digits: b }) => {
            Type::TimestampTz { fraction_digits: *a.min(b) }
        }
        (Type::Time { fraction_digits: a, zone }, Type::Time { fraction_digits: b, .. }) => {
            Type::Time { fraction_digits: *a.min(b), zone: *zone }
        }
        (Type::Interval { fraction_digits: a }, Type::Interval { fraction_digits: b }) => {
            Type::Interval { fraction_digits: *a.min(b) }
        }
        (Type::Text { max_chars, padded, nul, empty }, Type::Text { padded: other_padded, empty: other_empty, .. }) => {
            Type::Text { max_chars: *max_chars, padded: *padded || *other_padded, nul: *nul, empty: *empty && *other_empty }
        }
        (Type::Array(a), Type::Array(b)) => Type::Array(Box::new(coarser_type(a, b))),
        _ => own.clone(),
    }
}
