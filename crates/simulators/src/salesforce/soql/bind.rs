//! A condition proven against an object: names become places, literals become values of the field's type. What does not
//! fit is refused here, before any record is looked at.

use super::parse::{Condition, Literal, Operator, Query};
use crate::salesforce::errors::ApiError;
use crate::salesforce::schema::{Field, Kind, Object, Schema};
use crate::salesforce::values::{Value, read, time};
use std::collections::HashSet;
use std::sync::Arc;

/// The way to a field: over references, if dotted.
#[derive(Clone, Debug)]
pub struct Path {
    /// Reference fields on the way: (place, object it leads to).
    pub steps: Vec<(usize, Arc<Object>)>,
    pub place: usize,
    pub field: Arc<Field>,
}

/// A condition with everything resolved.
#[derive(Clone, Debug)]
pub enum Bound {
    And(Vec<Bound>),
    Or(Vec<Bound>),
    Not(Box<Bound>),
    Compare {
        path: Path,
        operator: Operator,
        value: Value,
    },
    /// At or after the first, before the second: what a date literal stands for.
    Between {
        path: Path,
        from: Value,
        to: Value,
        negated: bool,
    },
    Like {
        path: Path,
        pattern: String,
    },
    In {
        path: Path,
        keys: HashSet<String>,
        null: bool,
        negated: bool,
    },
    Includes {
        path: Path,
        groups: Vec<Vec<String>>,
        negated: bool,
    },
}

/// What binding needs: the schema, the time, and how to run a query inside a condition.
pub struct Binder<'a> {
    pub schema: &'a Schema,
    pub now_ms: i64,
    pub inner: &'a dyn Fn(&Query) -> Result<Vec<Value>, ApiError>,
}

/// The way to a field by its (dotted) name.
pub fn path(schema: &Schema, object: &Arc<Object>, name: &str) -> Result<Path, ApiError> {
    let mut steps = Vec::new();
    let mut at = object.clone();
    let mut parts = name.split('.').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            let (place, field) = at.field(part).ok_or_else(|| no_column(part, &at.name))?;
            return Ok(Path { steps, place, field: field.clone() });
        }
        let (place, reference) = at.relationship(part).ok_or_else(|| no_relationship(part, &at.name))?;
        let target = reference.reference_to.first().and_then(|to| schema.object(to));
        let target = target.ok_or_else(|| no_relationship(part, &at.name))?.clone();
        steps.push((place, target.clone()));
        at = target;
    }
    Err(no_column(name, &object.name))
}

/// The refusal of a field that is not there.
pub fn no_column(name: &str, object: &str) -> ApiError {
    ApiError::bad(
        "INVALID_FIELD",
        format!(
            "No such column '{name}' on entity '{object}'. If you are attempting to use a custom field, be sure to append the \
             '__c' after the custom field name. Please reference your WSDL or the describe call for the appropriate names."
        ),
    )
}

fn no_relationship(name: &str, object: &str) -> ApiError {
    ApiError::bad(
        "INVALID_FIELD",
        format!(
            "Didn't understand relationship '{name}' in field path. If you are attempting to use a custom relationship, be sure \
             to append the '__r' after the custom relationship name. Please reference your WSDL or the describe call for the \
             appropriate names. ({object})"
        ),
    )
}

impl Binder<'_> {
    /// Resolves a condition on an object.
    pub fn bind(&self, object: &Arc<Object>, condition: &Condition) -> Result<Bound, ApiError> {
        let all = |conditions: &[Condition]| conditions.iter().map(|one| self.bind(object, one)).collect::<Result<Vec<_>, _>>();
        match condition {
            Condition::And(conditions) => Ok(Bound::And(all(conditions)?)),
            Condition::Or(conditions) => Ok(Bound::Or(all(conditions)?)),
            Condition::Not(inner) => Ok(Bound::Not(Box::new(self.bind(object, inner)?))),
            Condition::Compare { field, operator, value } => self.compare(self.filterable(object, field)?, *operator, value),
            Condition::In { field, negated, values } => {
                let path = self.filterable(object, field)?;
                let values = values.iter().map(|value| self.value(&path.field, value)).collect::<Result<Vec<_>, _>>()?;
                Ok(in_values(path, &values, *negated))
            }
            Condition::InQuery { field, negated, query } => {
                let path = self.filterable(object, field)?;
                Ok(in_values(path, &(self.inner)(query)?, *negated))
            }
            Condition::Includes { field, negated, values } => {
                let path = self.filterable(object, field)?;
                if path.field.kind != Kind::Multipicklist {
                    return Err(ApiError::bad("INVALID_FIELD", format!("includes/excludes is not valid on field {field}")));
                }
                let groups = values.iter().map(|value| match value {
                    Literal::Text(text) => text.split(';').map(str::to_lowercase).collect(),
                    _ => Vec::new(),
                });
                Ok(Bound::Includes { groups: groups.collect(), path, negated: *negated })
            }
        }
    }

    fn filterable(&self, object: &Arc<Object>, name: &str) -> Result<Path, ApiError> {
        let path = path(self.schema, object, name)?;
        if !path.field.filterable() {
            let message = format!("field '{}' can not be filtered in a query call", path.field.name);
            return Err(ApiError::bad("INVALID_FIELD", message));
        }
        Ok(path)
    }

    fn compare(&self, path: Path, operator: Operator, literal: &Literal) -> Result<Bound, ApiError> {
        if operator == Operator::Like {
            return match literal {
                Literal::Text(pattern) if path.field.kind.is_text() => Ok(Bound::Like { path, pattern: pattern.clone() }),
                _ => Err(ApiError::bad("INVALID_FIELD", format!("invalid operator on {} field", path.field.kind.name()))),
            };
        }
        if let Literal::Range(name, count) = literal {
            return self.range(path, operator, name, *count);
        }
        let value = self.value(&path.field, literal)?;
        let ordered = !matches!(operator, Operator::Equal | Operator::NotEqual);
        if ordered && matches!(path.field.kind, Kind::Boolean | Kind::Multipicklist) {
            return Err(ApiError::bad("INVALID_FIELD", format!("invalid operator on {} field", path.field.kind.name())));
        }
        Ok(Bound::Compare { path, operator, value })
    }

    fn range(&self, path: Path, operator: Operator, name: &str, count: Option<i64>) -> Result<Bound, ApiError> {
        let (from, to) = days(name, count, time::day_of(self.now_ms))
            .ok_or_else(|| ApiError::bad("MALFORMED_QUERY", format!("Bind variables only allowed in Apex code: {name}")))?;
        let at = |day: i32| match path.field.kind {
            Kind::Date => Ok(Value::Date(day)),
            Kind::Datetime => Ok(Value::DateTime(time::start_of(day))),
            _ => Err(wrong_type(&path.field)),
        };
        let (from, to) = (at(from)?, at(to)?);
        Ok(match operator {
            Operator::Equal | Operator::Like => Bound::Between { path, from, to, negated: false },
            Operator::NotEqual => Bound::Between { path, from, to, negated: true },
            Operator::Less => Bound::Compare { path, operator: Operator::Less, value: from },
            Operator::LessOrEqual => Bound::Compare { path, operator: Operator::Less, value: to },
            Operator::Greater => Bound::Compare { path, operator: Operator::GreaterOrEqual, value: to },
            Operator::GreaterOrEqual => Bound::Compare { path, operator: Operator::GreaterOrEqual, value: from },
        })
    }

    /// A literal as a value of the field's type: texts want quotes, numbers and dates want none.
    fn value(&self, field: &Arc<Field>, literal: &Literal) -> Result<Value, ApiError> {
        let quoted = field.kind.is_text() || matches!(field.kind, Kind::Id | Kind::Reference);
        let given = match literal {
            Literal::Null => return Ok(Value::Null),
            Literal::Bool(flag) if field.kind == Kind::Boolean => return Ok(Value::Bool(*flag)),
            Literal::Text(text) if field.kind.is_text() => return Ok(Value::text(text)),
            Literal::Text(text) if quoted => text.clone(),
            Literal::Number(text) if !quoted && field.kind != Kind::Boolean => text.clone(),
            _ => return Err(wrong_type(field)),
        };
        match field.kind {
            Kind::Date => time::parse_date(&given).map(Value::Date).ok_or_else(|| wrong_type(field)),
            Kind::Datetime => time::parse_datetime(&given).map(Value::DateTime).ok_or_else(|| wrong_type(field)),
            kind if kind.is_decimal() || kind == Kind::Int => given.parse().map(Value::Double).map_err(|_| wrong_type(field)),
            Kind::Id | Kind::Reference => read::read(field, &read::Given::Cell(given.clone()))
                .map_err(|_| ApiError::bad("INVALID_QUERY_FILTER_OPERATOR", format!("invalid ID field: {given}"))),
            _ => read::read(field, &read::Given::Cell(given)).map_err(|_| wrong_type(field)),
        }
    }
}

fn in_values(path: Path, values: &[Value], negated: bool) -> Bound {
    let keys = values.iter().filter_map(|value| value.index_key(false)).collect();
    Bound::In { path, keys, null: values.iter().any(Value::is_null), negated }
}

fn wrong_type(field: &Field) -> ApiError {
    let quotes = if field.kind.is_text() || matches!(field.kind, Kind::Id | Kind::Reference) {
        "should be enclosed in quotes"
    } else {
        "should not be enclosed in quotes"
    };
    ApiError::bad(
        "INVALID_FIELD",
        format!("value of filter criterion for field '{}' must be of type {} and {quotes}", field.name, field.kind.name()),
    )
}

/// The days that a date literal covers: first, and the first that is no longer covered.
fn days(name: &str, count: Option<i64>, today: i32) -> Option<(i32, i32)> {
    let count = i32::try_from(count.unwrap_or(0)).ok()?;
    // 1970-01-01 was a Thursday; weeks begin on Sunday.
    let sunday = today - (today + 4).rem_euclid(7);
    match name {
        "TODAY" => Some((today, today + 1)),
        "YESTERDAY" => Some((today - 1, today)),
        "TOMORROW" => Some((today + 1, today + 2)),
        "LAST_N_DAYS" => Some((today - count, today + 1)),
        "NEXT_N_DAYS" => Some((today + 1, today + 1 + count)),
        "LAST_90_DAYS" => Some((today - 90, today + 1)),
        "THIS_WEEK" => Some((sunday, sunday + 7)),
        "LAST_WEEK" => Some((sunday - 7, sunday)),
        "NEXT_WEEK" => Some((sunday + 7, sunday + 14)),
        _ => None,
    }
}
