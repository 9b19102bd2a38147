//! Formula fields, and the texts that flows write: merge fields `{!Name}` in a text, or arithmetic over numbers
//! (`Amount * Probability / 100`). A formula is computed when it is read and announces nothing when it changes.

use super::record::Record;
use super::schema::{Field, Object};
use super::soql::lexer::{Token, tokens};
use super::values::{Value, time};

/// The value of a formula field of a record; null where the formula cannot be computed.
pub fn evaluate(object: &Object, record: &Record, field: &Field, text: &str) -> Value {
    if field.kind.is_text() {
        return Value::text(&merge(object, record, text));
    }
    let Ok(words) = tokens(text) else { return Value::Null };
    let mut sum = Sum { object, record, words: &words };
    let number = sum.terms();
    match number {
        Some(number) if sum.words.is_empty() && number.is_finite() => {
            let scale = usize::try_from(field.scale).unwrap_or(2);
            format!("{number:.scale$}").parse().map_or(Value::Null, Value::Double)
        }
        _ => Value::Null,
    }
}

/// A text with its merge fields filled in; a null or unknown field is empty.
pub fn merge(object: &Object, record: &Record, text: &str) -> String {
    let mut merged = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{!") {
        merged.push_str(before);
        let Some((expression, tail)) = after.split_once('}') else {
            merged.push_str("{!");
            rest = after;
            continue;
        };
        merged.push_str(&merged_field(object, record, expression.trim()));
        rest = tail;
    }
    merged.push_str(rest);
    merged
}

fn merged_field(object: &Object, record: &Record, expression: &str) -> String {
    let (function, name) = match expression.strip_suffix(')').and_then(|call| call.split_once('(')) {
        Some((function, name)) => (function.trim().to_ascii_uppercase(), name.trim()),
        None => (String::new(), expression),
    };
    let value = object.field(name).map_or(&Value::Null, |(place, _)| record.get(place));
    let plain = match value {
        Value::DateTime(ms) => time::datetime_z(*ms),
        other => other.csv(),
    };
    match function.as_str() {
        "UPPER" => plain.to_uppercase(),
        "LOWER" => plain.to_lowercase(),
        _ => plain,
    }
}

struct Sum<'a> {
    object: &'a Object,
    record: &'a Record,
    words: &'a [Token],
}

impl Sum<'_> {
    fn sign(&mut self, signs: &[&'static str]) -> Option<&'static str> {
        match self.words.split_first() {
            Some((Token::Sign(sign), rest)) if signs.contains(sign) => {
                self.words = rest;
                Some(sign)
            }
            _ => None,
        }
    }

    fn terms(&mut self) -> Option<f64> {
        let mut total = self.factors()?;
        while let Some(sign) = self.sign(&["+", "-"]) {
            let next = self.factors()?;
            total = if sign == "+" { total + next } else { total - next };
        }
        Some(total)
    }

    fn factors(&mut self) -> Option<f64> {
        let mut product = self.atom()?;
        while let Some(sign) = self.sign(&["*", "/"]) {
            let next = self.atom()?;
            product = if sign == "*" { product * next } else { product / next };
        }
        Some(product)
    }

    fn atom(&mut self) -> Option<f64> {
        if self.sign(&["("]).is_some() {
            let inner = self.terms()?;
            self.sign(&[")"])?;
            return Some(inner);
        }
        let (word, rest) = self.words.split_first()?;
        self.words = rest;
        match word {
            Token::Number(text) => text.parse().ok(),
            Token::Name(name) => self.record.get(self.object.field(name)?.0).as_number(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ids::Id;
    use super::super::schema::Schema;
    use super::*;

    #[test]
    fn a_formula_is_computed_from_the_other_fields() {
        let schema = Schema::standard().expect("the standard objects");
        let object = schema.object("Opportunity").expect("Opportunity");
        let mut record = Record::new(Id::new("006", 1), object.width());
        let revenue = object.field("ExpectedRevenue").expect("a formula").1.clone();
        let text = revenue.formula.clone().expect("a formula");
        assert_eq!(evaluate(object, &record, &revenue, &text), Value::Null);
        record.set(object.field("Amount").expect("a field").0, Value::Double(2_000.0));
        record.set(object.field("Probability").expect("a field").0, Value::Double(25.0));
        assert_eq!(evaluate(object, &record, &revenue, &text), Value::Double(500.0));
    }

    #[test]
    fn merge_fields_are_filled_in() {
        let schema = Schema::standard().expect("the standard objects");
        let object = schema.object("Account").expect("Account");
        let mut record = Record::new(Id::new("001", 1), object.width());
        record.set(object.field("Name").expect("a field").0, Value::text("Acme"));
        assert_eq!(merge(object, &record, "{!UPPER(Name)} ({!Industry})"), "ACME ()");
    }
}
