//! What a mapping does with nulls: `handle_nulls`.

use crate::schema::Type;
use crate::value::Value;

/// What becomes of a null on its way to the target.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum NullPolicy {
    /// It stays null.
    #[default]
    Preserve,
    /// It is not sent: a null never overwrites.
    Skip,
    /// It becomes this value.
    Default(Value),
    /// It becomes the empty value of the target's type: `''`, an empty list. Types without one keep null.
    Empty,
}

impl NullPolicy {
    /// The policy as a text that is the same for policies that mean the same; empty for the usual one.
    pub fn meaning(&self) -> String {
        match self {
            NullPolicy::Preserve => String::new(),
            NullPolicy::Skip => "skip".to_owned(),
            NullPolicy::Default(value) => format!("default {}", serde_json::to_string(value).unwrap_or_default()),
            NullPolicy::Empty => "empty".to_owned(),
        }
    }
}

/// The value under the policy; `None` when the field is to be left out.
pub fn apply_null_policy(value: Value, policy: &NullPolicy, target: &Type) -> Option<Value> {
    match (value, policy) {
        (Value::Null, NullPolicy::Skip) => None,
        (Value::Null, NullPolicy::Default(default)) => Some(default.clone()),
        (Value::Null, NullPolicy::Empty) => Some(match target {
            Type::Text { empty: true, .. } => Value::text(""),
            Type::Array(_) => Value::Array(Vec::new()),
            Type::Bytes { .. } => Value::Bytes(Vec::new()),
            _ => Value::Null,
        }),
        (value, _) => Some(value),
    }
}
