//! Asks one record: true, false, or unknown where a value is missing.

use super::{Operator, Part, Pattern, Term, Test};
use crate::error::{Code, Error, Result};
use crate::record::Record;
use crate::schema::Type;
use crate::value::Value;
use std::borrow::Cow;
use std::cmp::Ordering;

/// What is true of a record; `None`: unknown.
pub(super) fn truth(test: &Test, record: &Record) -> Result<Option<bool>> {
    Ok(match test {
        Test::And(all) => of_several(all, record, false)?,
        Test::Or(all) => of_several(all, record, true)?,
        Test::Not(inner) => truth(inner, record)?.map(|truth| !truth),
        Test::IsNull(term) => Some(shown(term, record)?.is_null()),
        Test::Holds(term) => match &*shown(term, record)? {
            Value::Bool(truth) => Some(*truth),
            _ => None,
        },
        Test::Like { term, pattern } => shown(term, record)?.as_text().map(|text| looks_like(text, pattern)),
        Test::Compare { left, operator, right } => compare(&*shown(left, record)?, *operator, &*shown(right, record)?),
    })
}

/// All, or one of several: what decides is `decisive`; else it is unknown if one of them is.
fn of_several(all: &[Test], record: &Record, decisive: bool) -> Result<Option<bool>> {
    let mut so_far = Some(!decisive);
    for test in all {
        match truth(test, record)? {
            Some(truth) if truth == decisive => return Ok(Some(decisive)),
            Some(_) => {}
            None => so_far = None,
        }
    }
    Ok(so_far)
}

fn shown<'a>(term: &'a Term, record: &'a Record) -> Result<Cow<'a, Value>> {
    match term {
        Term::Constant(value) => Ok(Cow::Borrowed(value)),
        Term::Field { name, ty } => {
            let value = record.get(name.as_str());
            let value = value.ok_or_else(|| Error::new(Code::SchemaDrift, format!("the filter's field {name} is not shown")))?;
            Ok(match ty {
                // Blanks that mean nothing; a label; the same number in another form.
                Type::Text { .. } | Type::Bool => value.normal_as(ty),
                _ => Cow::Borrowed(value),
            })
        }
    }
}

fn compare(left: &Value, operator: Operator, right: &Value) -> Option<bool> {
    if left.is_null() || right.is_null() {
        return None;
    }
    let is_equal = || match (left.as_text(), right.as_text()) {
        (Some(left), Some(right)) => left == right,
        // Days and times by when they are; what has no order by what it is.
        _ => left.compare(right).map_or_else(|| left.equivalent(right), Ordering::is_eq),
    };
    match operator {
        Operator::Equal => Some(is_equal()),
        Operator::Unequal => Some(!is_equal()),
        Operator::Less => left.compare(right).map(Ordering::is_lt),
        Operator::LessOrEqual => left.compare(right).map(Ordering::is_le),
        Operator::Greater => left.compare(right).map(Ordering::is_gt),
        Operator::GreaterOrEqual => left.compare(right).map(Ordering::is_ge),
    }
}

/// Tries the last `%` again with one sign more wherever what follows does not fit: no text takes longer than its length times the
/// pattern's.
fn looks_like(text: &str, pattern: &Pattern) -> bool {
    let signs: Vec<char> = text.chars().collect();
    let (mut at, mut part) = (0_usize, 0_usize);
    let mut again: Option<(usize, usize)> = None;
    loop {
        let fits = match (pattern.parts.get(part), signs.get(at)) {
            (None, None) => return true,
            (Some(Part::Any), _) => {
                again = Some((part.saturating_add(1), at));
                part = part.saturating_add(1);
                continue;
            }
            (Some(Part::One), Some(_)) => true,
            (Some(Part::Sign(wanted)), Some(sign)) => wanted == sign,
            _ => false,
        };
        if fits {
            (at, part) = (at.saturating_add(1), part.saturating_add(1));
            continue;
        }
        match again {
            Some((behind, from)) if from < signs.len() => {
                again = Some((behind, from.saturating_add(1)));
                (at, part) = (from.saturating_add(1), behind);
            }
            _ => return false,
        }
    }
}
