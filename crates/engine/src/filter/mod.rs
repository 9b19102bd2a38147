//! Which records take part in a sync: a condition over a member's fields in the manner of SQL's WHERE, with SQL's three truths.
//! Pure. [`syntax`] reads what a person wrote and writes it again, [`bind`] holds it against the fields' types, [`evaluate`] asks
//! one record. A condition that is not true of a record, be it false or unknown, leaves the record out.

mod bind;
mod evaluate;
mod syntax;
#[cfg(test)]
mod tests;

pub use bind::Unfit;
pub use syntax::{Expression, Mistake, Operator, Place, parse};

use crate::record::{FieldName, Record};
use crate::schema::{Schema, Type};
use crate::value::Value;
use std::fmt;

/// A condition that has been held against the fields of an object.
#[derive(Clone, Debug)]
pub struct Condition {
    expression: Expression,
    test: Test,
    fields: Vec<FieldName>,
}

/// What is asked of a record, as a system that asks it itself is told: every name resolved, every constant of its field's type.
/// `IN` and `BETWEEN` are spelled out.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// All of them.
    And(Vec<Test>),
    /// One of them.
    Or(Vec<Test>),
    /// The contrary; of what is unknown, unknown.
    Not(Box<Test>),
    /// Two values, at least one of which is a field's.
    Compare {
        /// Left of the sign.
        left: Term,
        /// The sign.
        operator: Operator,
        /// Right of it.
        right: Term,
    },
    /// A text that looks so.
    Like {
        /// The field.
        term: Term,
        /// What it looks like.
        pattern: Pattern,
    },
    /// No value.
    IsNull(Term),
    /// A field that is true or false.
    Holds(Term),
}

/// A value of a [`Test`].
#[derive(Clone, Debug, PartialEq)]
pub enum Term {
    /// A field's.
    Field {
        /// Its name.
        name: FieldName,
        /// Its type.
        ty: Type,
    },
    /// This one, or none.
    Constant(Value),
}

/// What a text looks like: `%` stands for any text, `_` for any sign, and the sign behind a backslash for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Any,
    One,
    Sign(char),
}

impl Pattern {
    /// Reads one; `None`: it ends with a lone backslash.
    fn new(text: &str) -> Option<Pattern> {
        let mut parts = Vec::new();
        let mut signs = text.chars();
        while let Some(sign) = signs.next() {
            parts.push(match sign {
                '%' => Part::Any,
                '_' => Part::One,
                '\\' => Part::Sign(signs.next()?),
                sign => Part::Sign(sign),
            });
        }
        Some(Pattern { text: text.to_owned(), parts })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl Condition {
    /// Holds an expression against an object.
    ///
    /// # Errors
    /// Everything that does not fit, with its place in the text.
    pub fn new(expression: Expression, schema: &Schema) -> Result<Condition, Vec<Unfit>> {
        bind::bind(expression, schema)
    }

    /// Both.
    #[must_use]
    pub fn and(self, other: Condition) -> Condition {
        let mut fields = self.fields;
        fields.extend(other.fields.into_iter().filter(|name| !fields.contains(name)).collect::<Vec<_>>());
        Condition {
            expression: Expression::And(vec![self.expression, other.expression]),
            test: Test::And(vec![self.test, other.test]),
            fields,
        }
    }

    /// The fields that it looks at.
    pub fn fields(&self) -> &[FieldName] {
        &self.fields
    }

    /// What it asks.
    pub fn test(&self) -> &Test {
        &self.test
    }

    /// Whether a record takes part.
    ///
    /// # Errors
    /// `SchemaDrift` where the record does not show a field that is looked at.
    pub fn admits(&self, record: &Record) -> crate::error::Result<bool> {
        Ok(evaluate::truth(&self.test, record)? == Some(true))
    }
}

impl fmt::Display for Condition {
    /// The same for whatever means the same but for white space, the case of words and parentheses that add nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.expression)
    }
}
