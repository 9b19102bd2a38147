//! Whether a record meets a bound condition. Pure; the only lookup is that of a parent record.

use super::bind::{Bound, Path};
use super::parse::Operator;
use crate::salesforce::formula;
use crate::salesforce::record::Record;
use crate::salesforce::schema::Object;
use crate::salesforce::store::Store;
use crate::salesforce::values::Value;
use std::cmp::Ordering;

/// The value at the end of a path; null where a reference on the way is null.
pub fn value(store: &Store, object: &Object, record: &Record, path: &Path) -> Value {
    let mut at = record;
    let mut last = object;
    for (place, target) in &path.steps {
        let Some(parent) = at.get(*place).as_id().and_then(|id| store.get(&target.name, &id)) else { return Value::Null };
        at = parent;
        last = target;
    }
    match &path.field.formula {
        Some(text) => formula::evaluate(last, at, &path.field, text),
        None => at.get(path.place).clone(),
    }
}

/// Whether the record meets the condition.
pub fn meets(store: &Store, object: &Object, record: &Record, condition: &Bound) -> bool {
    let of = |path: &Path| value(store, object, record, path);
    match condition {
        Bound::And(all) => all.iter().all(|one| meets(store, object, record, one)),
        Bound::Or(all) => all.iter().any(|one| meets(store, object, record, one)),
        Bound::Not(inner) => !meets(store, object, record, inner),
        Bound::Compare { path, operator, value } => compare(&of(path), *operator, value),
        Bound::Between { path, from, to, negated } => {
            let own = of(path);
            let inside = !own.is_null() && own.order(from) != Ordering::Less && own.order(to) == Ordering::Less;
            inside != *negated
        }
        Bound::Like { path, pattern } => of(path).as_text().is_some_and(|text| like(text, pattern)),
        Bound::In { path, keys, null, negated } => {
            let found = of(path).index_key(false).map_or(*null, |key| keys.contains(&key));
            found != *negated
        }
        Bound::Includes { path, groups, negated } => {
            let own = of(path);
            let chosen: Vec<String> = own.as_text().unwrap_or("").split(';').map(str::to_lowercase).collect();
            let found = groups.iter().any(|group| group.iter().all(|value| chosen.contains(value)));
            found != *negated
        }
    }
}

/// Null equals null alone, and is neither less nor greater than anything.
fn compare(own: &Value, operator: Operator, other: &Value) -> bool {
    let order = own.order(other);
    let known = !own.is_null() && !other.is_null();
    match operator {
        Operator::Equal | Operator::Like => order == Ordering::Equal,
        Operator::NotEqual => order != Ordering::Equal,
        Operator::Less => known && order == Ordering::Less,
        Operator::LessOrEqual => known && order != Ordering::Greater,
        Operator::Greater => known && order == Ordering::Greater,
        Operator::GreaterOrEqual => known && order != Ordering::Less,
    }
}

/// `%` is any text, `_` any character, a backslash takes away the meaning of either.
fn like(text: &str, pattern: &str) -> bool {
    #[derive(PartialEq)]
    enum Part {
        Any,
        One,
        Letter(char),
    }
    let mut parts = Vec::new();
    let lower = pattern.to_lowercase();
    let mut letters = lower.chars();
    while let Some(letter) = letters.next() {
        parts.push(match letter {
            '%' => Part::Any,
            '_' => Part::One,
            '\\' => Part::Letter(letters.next().unwrap_or('\\')),
            other => Part::Letter(other),
        });
    }
    // Which beginnings of the pattern match what was read of the text so far.
    let mut reach = vec![false; parts.len() + 1];
    let spread = |reach: &mut Vec<bool>| {
        for (at, part) in parts.iter().enumerate() {
            if *part == Part::Any && reach.get(at) == Some(&true) {
                set(reach, at + 1);
            }
        }
    };
    set(&mut reach, 0);
    spread(&mut reach);
    for letter in text.to_lowercase().chars() {
        let mut next = vec![false; parts.len() + 1];
        for (at, part) in parts.iter().enumerate() {
            if reach.get(at) != Some(&true) {
                continue;
            }
            match part {
                Part::Any => set(&mut next, at),
                Part::One => set(&mut next, at + 1),
                Part::Letter(own) if *own == letter => set(&mut next, at + 1),
                Part::Letter(_) => {}
            }
        }
        spread(&mut next);
        reach = next;
    }
    reach.last() == Some(&true)
}

fn set(reach: &mut [bool], at: usize) {
    if let Some(slot) = reach.get_mut(at) {
        *slot = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_the_vendors_examples() {
        for (text, pattern, expected) in [
            ("Acme Corp", "acme%", true),
            ("Acme Corp", "%CORP", true),
            ("Acme", "A_me", true),
            ("Acme", "A_e", false),
            ("100%", "100\\%", true),
            ("1000", "100\\%", false),
            ("", "%", true),
            ("abcabd", "%abd", true),
        ] {
            assert_eq!(like(text, pattern), expected, "{text} LIKE {pattern}");
        }
    }

    #[test]
    fn null_is_equal_to_null_and_different_from_everything_else() {
        assert!(compare(&Value::Null, Operator::Equal, &Value::Null));
        assert!(compare(&Value::Null, Operator::NotEqual, &Value::text("x")));
        assert!(!compare(&Value::Null, Operator::Less, &Value::Int(1)));
        assert!(!compare(&Value::Int(1), Operator::Greater, &Value::Null));
    }
}
