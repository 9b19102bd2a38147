//! What each rule demands of one value, and the standard form that it can bring a value into.

use super::{RULES, RuleSpec};
use crate::error::{Code, Error, Result};
use crate::schema::Type;
use crate::transform::arguments::Arguments;
use crate::transform::{Expression, parse_region, to_e164};
use crate::value::Value;
use regex::Regex;
use rlibphonenumber::Region;
use std::cmp::Ordering;

/// The demand of a rule.
#[derive(Clone, Debug)]
pub(super) enum Check {
    Required,
    Email,
    Regex(Regex),
    Phone(Option<Region>),
    Length { min: Option<usize>, max: Option<usize> },
    Range { min: Option<Value>, max: Option<Value> },
    OneOf(Vec<Value>),
    Unique,
    Expression(Expression),
}

/// Reads a rule's arguments: its demand, and the default for `use_default`.
pub(super) fn compile(spec: &RuleSpec, region: Option<&str>) -> Result<(Check, Option<Value>)> {
    let Some(kind) = RULES.iter().find(|kind| kind.name == spec.rule) else {
        let known: Vec<&str> = RULES.iter().map(|kind| kind.name).collect();
        let message = format!("there is no validation rule `{}`; there are: {}", spec.rule, known.join(", "));
        return Err(Error::new(Code::RuleInvalid, message));
    };
    let known: Vec<&str> = kind.arguments.iter().copied().chain(["default"]).collect();
    let arguments = Arguments::read(kind.name, &spec.arguments, &known, Code::RuleInvalid)?;
    Ok((compile_check(kind.name, &arguments, region)?, arguments.value("default")?))
}

fn compile_check(name: &str, arguments: &Arguments<'_>, region: Option<&str>) -> Result<Check> {
    match name {
        "required" => Ok(Check::Required),
        "email_format" => Ok(Check::Email),
        "unique" => Ok(Check::Unique),
        "regex" => match Regex::new(arguments.required_text("pattern")?) {
            Ok(pattern) => Ok(Check::Regex(pattern)),
            Err(error) => Err(arguments.error("has a `pattern` that is no regular expression").because(error)),
        },
        "phone" => {
            let region = arguments.text("region")?.or(region);
            region.map(parse_region).transpose().map(Check::Phone).map_err(|reason| arguments.error(&reason))
        }
        "length" => {
            let bound = |name| match arguments.whole(name)?.map(usize::try_from) {
                None => Ok(None),
                Some(Ok(bound)) => Ok(Some(bound)),
                Some(Err(_)) => Err(arguments.error("has a length below zero")),
            };
            bounds(bound("min")?, bound("max")?, arguments, |min, max| min <= max).map(|(min, max)| Check::Length { min, max })
        }
        "range" => {
            let (min, max) = (arguments.value("min")?, arguments.value("max")?);
            bounds(min, max, arguments, |min, max| min.compare(max).is_some_and(Ordering::is_le))
                .map(|(min, max)| Check::Range { min, max })
        }
        "one_of" => match arguments.get("values").and_then(serde_json::Value::as_array) {
            Some(values) if !values.is_empty() => {
                values.iter().map(|value| arguments.to_value(value)).collect::<Result<_>>().map(Check::OneOf)
            }
            _ => Err(arguments.error("needs a list in `values`")),
        },
        _ => Expression::compile(arguments.required_text("expression")?).map(Check::Expression),
    }
}

type Bounds<T> = (Option<T>, Option<T>);

fn bounds<T>(min: Option<T>, max: Option<T>, arguments: &Arguments<'_>, ordered: fn(&T, &T) -> bool) -> Result<Bounds<T>> {
    match (&min, &max) {
        (None, None) => Err(arguments.error("needs `min`, `max` or both")),
        (Some(low), Some(high)) if !ordered(low, high) => Err(arguments.error("has a `min` that is not below its `max`")),
        _ => Ok((min, max)),
    }
}

impl Check {
    /// What is wrong with the value; `None` when nothing is. Null satisfies everything but `required`.
    pub(super) fn problem(&self, value: &Value) -> Option<String> {
        if value.is_null() {
            return matches!(self, Check::Required).then(|| "there is no value".to_owned());
        }
        match self {
            Check::Required => value.as_text().filter(|text| text.trim().is_empty()).map(|_| "the text is blank".to_owned()),
            Check::Email => text_problem(value, is_email, "the text is no e-mail address"),
            Check::Regex(pattern) => text_problem(value, |text| pattern.is_match(text), "the text does not match the pattern"),
            Check::Phone(region) => {
                text_problem(value, |text| to_e164(text, *region, true).is_ok(), "the text is no valid phone number")
            }
            Check::Length { min, max } => length_problem(value, *min, *max),
            Check::Range { min, max } => range_problem(value, min.as_ref(), max.as_ref()),
            Check::OneOf(values) => {
                let among = values.iter().any(|allowed| same(allowed, value));
                (!among).then(|| format!("the value is none of the {} that are allowed", values.len()))
            }
            Check::Unique | Check::Expression(_) => None,
        }
    }

    /// The value in the standard form of the rule; the value itself where it has none. `None` where a rule has a
    /// standard form that the value cannot be brought into.
    pub(super) fn standardised(&self, value: &Value) -> Option<Value> {
        let Some(text) = value.as_text() else { return Some(value.clone()) };
        let standard = match self {
            Check::Phone(region) => to_e164(text, *region, false).ok()?,
            Check::Email => standard_email(text),
            _ => text.trim().to_owned(),
        };
        Some(if standard == text { value.clone() } else { Value::Text(standard) })
    }
}

/// Blanks taken off, the domain in lower case. What stands before the `@` belongs to its server and is left alone.
fn standard_email(text: &str) -> String {
    match text.trim().rsplit_once('@') {
        Some((local, domain)) => format!("{local}@{}", domain.to_lowercase()),
        None => text.trim().to_owned(),
    }
}

fn is_email(text: &str) -> bool {
    let options = email_address::Options::default().with_required_tld().without_display_text().without_domain_literal();
    email_address::EmailAddress::parse_with_options(text, options).is_ok()
}

fn text_problem(value: &Value, holds: impl Fn(&str) -> bool, message: &str) -> Option<String> {
    let text = value.to_plain_text();
    (!text.is_some_and(|text| holds(&text))).then(|| message.to_owned())
}

fn length_problem(value: &Value, min: Option<usize>, max: Option<usize>) -> Option<String> {
    let (length, unit) = match value {
        Value::Array(elements) => (elements.len(), "elements"),
        Value::Bytes(bytes) => (bytes.len(), "bytes"),
        other => (other.to_plain_text().unwrap_or_default().chars().count(), "characters"),
    };
    match (min, max) {
        (Some(min), _) if length < min => Some(format!("{length} {unit}; at least {min} are needed")),
        (_, Some(max)) if length > max => Some(format!("{length} {unit}; at most {max} are allowed")),
        _ => None,
    }
}

fn range_problem(value: &Value, min: Option<&Value>, max: Option<&Value>) -> Option<String> {
    let against = |bound: &Value| value.compare(&in_kind_of(bound, value));
    match (min.map(against), max.map(against)) {
        (Some(None), _) | (_, Some(None)) => Some(format!("{} cannot be compared with the bounds", value.kind())),
        (Some(Some(Ordering::Less)), _) => Some("the value is below the least that is allowed".to_owned()),
        (_, Some(Some(Ordering::Greater))) => Some("the value is above the most that is allowed".to_owned()),
        _ => None,
    }
}

/// A bound that was written as text, read as a day or time where the value is one.
fn in_kind_of(bound: &Value, value: &Value) -> Value {
    let ty = match value {
        Value::Date(_) => Type::Date,
        Value::Time(time) => Type::Time { fraction_digits: 9, zone: time.offset_seconds.is_some() },
        Value::Timestamp(_) => Type::Timestamp { fraction_digits: 9 },
        Value::TimestampTz(_) => Type::TimestampTz { fraction_digits: 9 },
        _ => return bound.clone(),
    };
    bound.as_text().and_then(|text| Value::parse_as(text, &ty)).unwrap_or_else(|| bound.clone())
}

fn same(allowed: &Value, value: &Value) -> bool {
    match allowed {
        Value::Text(text) => value.to_plain_text().as_deref() == Some(text),
        other => other.equivalent(value),
    }
}
