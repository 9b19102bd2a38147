//! What a record must satisfy before it is written: rules that pass, repair, warn or reject.
//! Pure: whether a value is unique needs a look-up, and is handed back as one. A rule looks only at fields that the
//! record shows; an unknown field is neither right nor wrong.

mod check;
#[cfg(test)]
mod tests;

use crate::error::{Code, Error, Result};
use crate::record::{FieldName, Record};
use crate::transform::Expression;
use crate::value::Value;
use check::Check;
use serde::{Deserialize, Serialize};

/// What happens to a record that does not satisfy a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// It goes to review.
    #[default]
    RejectRecord,
    /// The value is brought into its standard form; what cannot be goes to review.
    StandardizeFormat,
    /// The field becomes null.
    SetNull,
    /// The field takes the rule's `default`.
    UseDefault,
    /// It is written as it is, and the fact is noted.
    Warn,
}

/// One rule as a configuration names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleSpec {
    /// The field that it is about.
    pub field: String,
    /// The rule's name: one of [`RULES`].
    pub rule: String,
    /// What follows when it does not hold.
    #[serde(default)]
    pub on_error: OnError,
    /// Named arguments: `pattern`, `min`, `max`, `values`, `region`, `expression`, `default`.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub arguments: serde_json::Value,
}

/// A rule and the arguments that it takes, besides `default`.
#[derive(Debug)]
pub struct RuleKind {
    /// Its name.
    pub name: &'static str,
    /// What it demands, in one sentence.
    pub summary: &'static str,
    /// Its arguments; the first may be given alone.
    pub arguments: &'static [&'static str],
}

/// Every rule.
pub const RULES: &[RuleKind] = &[
    RuleKind { name: "required", summary: "The field has a value that is not blank.", arguments: &[] },
    RuleKind { name: "email_format", summary: "The text is an e-mail address with a domain that has a dot.", arguments: &[] },
    RuleKind {
        name: "regex",
        summary: "The pattern is found in the text; `^` and `$` make it the whole.",
        arguments: &["pattern"],
    },
    RuleKind { name: "phone", summary: "The text is a valid phone number.", arguments: &["region"] },
    RuleKind {
        name: "length",
        summary: "Characters of a text, bytes, or elements of a list lie within bounds.",
        arguments: &["max", "min"],
    },
    RuleKind { name: "range", summary: "A number, day or time lies within bounds, both included.", arguments: &["max", "min"] },
    RuleKind { name: "one_of", summary: "The value is one of a list.", arguments: &["values"] },
    RuleKind { name: "unique", summary: "No other record of the object has the value; needs a look-up.", arguments: &[] },
    RuleKind { name: "expression", summary: "An expression over the record is true.", arguments: &["expression"] },
];

/// A compiled rule.
#[derive(Clone, Debug)]
pub struct Rule {
    field: FieldName,
    name: String,
    check: Check,
    on_error: OnError,
    default: Option<Value>,
}

/// A change that a rule made.
#[derive(Clone, Debug, PartialEq)]
pub struct Repair {
    /// The field.
    pub field: FieldName,
    /// The value before.
    pub from: Value,
    /// The value after.
    pub to: Value,
    /// The rule.
    pub rule: String,
}

/// A rule that a record does not satisfy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// The field.
    pub field: FieldName,
    /// The rule.
    pub rule: String,
    /// What is wrong, without the value.
    pub message: String,
}

impl Reject {
    /// The rejection as an error that sends the record to review.
    pub fn to_error(&self) -> Error {
        Error::new(
            Code::ValidationFailed,
            format!("the field `{}` breaks the rule `{}`: {}", self.field, self.rule, self.message),
        )
    }
}

/// A question that only the system can answer: does another record have this value?
#[derive(Clone, Debug, PartialEq)]
pub struct NeedsLookup {
    /// The field.
    pub field: FieldName,
    /// The value that must be there at most once.
    pub value: Value,
    /// The rule.
    pub rule: String,
    /// What follows if there is another one.
    pub on_error: OnError,
}

/// What the rules made of a record.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Validation {
    /// The record, repaired where a rule says so.
    pub record: Record,
    /// What was repaired.
    pub repairs: Vec<Repair>,
    /// What does not hold but is let through.
    pub warnings: Vec<Reject>,
    /// Why the record goes to review; empty when it may be written.
    pub rejects: Vec<Reject>,
    /// What must be looked up before it may be written.
    pub lookups: Vec<NeedsLookup>,
}

impl Rule {
    /// Checks a rule's name and arguments and prepares it. `region` is for phone numbers that name none.
    pub fn compile(spec: &RuleSpec, region: Option<&str>) -> Result<Rule> {
        let (check, default) = check::compile(spec, region)?;
        let rule = Rule { field: spec.field.as_str().into(), name: spec.rule.clone(), check, on_error: spec.on_error, default };
        rule.is_consistent().map(|()| rule)
    }

    fn is_consistent(&self) -> Result<()> {
        let wrong =
            |what: &str| Err(Error::new(Code::RuleInvalid, format!("the rule `{}` of `{}` {what}", self.name, self.field)));
        match (&self.check, self.on_error, &self.default) {
            (_, OnError::UseDefault, None) => wrong("needs a `default` for `use_default`"),
            (_, on_error, Some(_)) if on_error != OnError::UseDefault => wrong("has a `default` that only `use_default` uses"),
            (Check::Required, OnError::SetNull, _) => wrong("cannot be met by `set_null`"),
            (Check::Unique, OnError::StandardizeFormat | OnError::UseDefault, _) => {
                wrong("takes reject_record, set_null or warn")
            }
            (Check::Expression(_), ..) => Ok(()),
            (check, _, Some(default)) if check.problem(default).is_some() => wrong("has a `default` that breaks the rule itself"),
            _ => Ok(()),
        }
    }

    /// The field that the rule is about.
    pub fn field(&self) -> &FieldName {
        &self.field
    }

    /// Whether the rule needs a look-up in the system.
    pub fn needs_lookup(&self) -> bool {
        matches!(self.check, Check::Unique)
    }

    fn problem(&self, value: &Value, record: &Record) -> Option<String> {
        match &self.check {
            Check::Expression(expression) => breaks(expression, value, record),
            check => check.problem(value),
        }
    }

    fn reject(&self, message: String) -> Reject {
        Reject { field: self.field.clone(), rule: self.name.clone(), message }
    }

    fn apply(&self, validation: &mut Validation) {
        let Some(value) = validation.record.get(self.field.as_str()).cloned() else { return };
        if self.needs_lookup() {
            if !value.is_null() {
                let (field, rule) = (self.field.clone(), self.name.clone());
                validation.lookups.push(NeedsLookup { field, value, rule, on_error: self.on_error });
            }
            return;
        }
        let mut candidate = value.clone();
        if self.on_error == OnError::StandardizeFormat {
            match self.check.standardised(&value) {
                Some(standard) => candidate = standard,
                None => {
                    validation.rejects.push(self.reject("the value cannot be brought into its standard form".to_owned()));
                    return;
                }
            }
        }
        let problem = self.problem(&candidate, &validation.record);
        match (problem, self.on_error) {
            (None, _) => self.repair(validation, value, candidate),
            (Some(message), OnError::RejectRecord | OnError::StandardizeFormat) => validation.rejects.push(self.reject(message)),
            (Some(message), OnError::Warn) => validation.warnings.push(self.reject(message)),
            (Some(_), OnError::SetNull) => self.repair(validation, value, Value::Null),
            (Some(_), OnError::UseDefault) => {
                let default = self.default.clone().unwrap_or(Value::Null);
                self.repair(validation, value, default);
            }
        }
    }

    fn repair(&self, validation: &mut Validation, from: Value, to: Value) {
        if from == to {
            return;
        }
        validation.record.set(self.field.clone(), to.clone());
        validation.repairs.push(Repair { field: self.field.clone(), from, to, rule: self.name.clone() });
    }
}

/// An expression is asked only where every field that it reads is shown.
fn breaks(expression: &Expression, value: &Value, record: &Record) -> Option<String> {
    if expression.fields_read().iter().any(|field| !record.has(field)) {
        return None;
    }
    match expression.holds(value, record) {
        Ok(true) => None,
        Ok(false) => Some("the expression is false".to_owned()),
        Err(error) => Some(error.message),
    }
}

/// Applies the rules in their order; each sees what the ones before it repaired.
pub fn validate(rules: &[Rule], record: &Record) -> Validation {
    let mut validation = Validation { record: record.clone(), ..Validation::default() };
    for rule in rules {
        rule.apply(&mut validation);
    }
    validation
}
