//! Holds an expression against the fields of an object: names are resolved, constants read as values of the type that they are
//! compared with. Nothing is converted on the quiet: what would be is a mistake that says what to write.

use super::syntax::{Expression, Mistake, Operand, Operator, Place, What};
use super::{Condition, Pattern, Term, Test};
use crate::config::nearest;
use crate::record::FieldName;
use crate::schema::{Field, Schema, Type};
use crate::value::{Float, Value};

/// What does not fit.
#[derive(Clone, Debug, PartialEq)]
pub struct Unfit {
    /// Where, and what.
    pub mistake: Mistake,
    /// What to write instead, where that can be told.
    pub remedy: Option<String>,
}

/// How values of a type are compared with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
    Bool,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    /// For equality alone.
    Uuid,
    /// The same.
    Label,
    /// Only whether there is one.
    Other,
}

fn kind(ty: &Type) -> Kind {
    match ty {
        Type::Int { .. } | Type::Decimal { .. } | Type::Float { .. } => Kind::Number,
        Type::Text { .. } => Kind::Text,
        Type::Bool => Kind::Bool,
        Type::Date => Kind::Date,
        Type::Time { .. } => Kind::Time,
        Type::Timestamp { .. } => Kind::Timestamp,
        Type::TimestampTz { .. } => Kind::TimestampTz,
        Type::Uuid => Kind::Uuid,
        Type::Enum { .. } => Kind::Label,
        Type::Bytes { .. }
        | Type::Interval { .. }
        | Type::Json
        | Type::Array(_)
        | Type::Reference { .. }
        | Type::Opaque { .. } => Kind::Other,
    }
}

pub(super) fn bind(expression: Expression, schema: &Schema) -> Result<Condition, Vec<Unfit>> {
    let mut binder = Binder { schema, fields: Vec::new(), unfit: Vec::new() };
    let test = binder.test(&expression);
    match (test, binder.unfit.is_empty()) {
        (Some(test), true) => {
            let mut expression = expression;
            resolve(&mut expression, schema);
            Ok(Condition { expression, test, fields: binder.fields })
        }
        _ => Err(binder.unfit),
    }
}

struct Binder<'a> {
    schema: &'a Schema,
    fields: Vec<FieldName>,
    unfit: Vec<Unfit>,
}

/// The field that a name means: the one that is called so, or the only one but for the case of its letters.
fn find<'a>(schema: &'a Schema, name: &str) -> Option<&'a Field> {
    let alike = || {
        let is_alike = |field: &&Field| field.name.as_str().to_lowercase() == name.to_lowercase();
        let mut alike = schema.fields.iter().filter(is_alike);
        alike.next().filter(|_| alike.next().is_none())
    };
    schema.field(name).or_else(alike)
}

/// Names as the object has them, so that what means the same is written alike.
fn resolve(expression: &mut Expression, schema: &Schema) {
    let own = |operand: &mut Operand| {
        if let What::Field(name) = &mut operand.what
            && let Some(field) = find(schema, name)
        {
            *name = field.name.to_string();
        }
    };
    match expression {
        Expression::Or(all) | Expression::And(all) => all.iter_mut().for_each(|one| resolve(one, schema)),
        Expression::Not(inner) => resolve(inner, schema),
        Expression::Compare(left, _, right) => [left, right].into_iter().for_each(own),
        Expression::In(operand, _, list) => std::iter::once(operand).chain(list).for_each(own),
        Expression::Between(operand, _, low, high) => [operand, low, high].into_iter().for_each(own),
        Expression::Like(operand, ..) | Expression::IsNull(operand, _) | Expression::Holds(operand) => own(operand),
    }
}

impl<'a> Binder<'a> {
    fn say(&mut self, place: Place, what: String, remedy: Option<String>) {
        self.unfit.push(Unfit { mistake: Mistake { place, what }, remedy });
    }

    /// `None`: something is unfit, and has been said. What stands beside it is looked at all the same.
    fn test(&mut self, expression: &Expression) -> Option<Test> {
        let negate = |test: Test, negated: bool| if negated { Test::Not(Box::new(test)) } else { test };
        match expression {
            Expression::Or(all) => self.several(all).map(Test::Or),
            Expression::And(all) => self.several(all).map(Test::And),
            Expression::Not(inner) => self.test(inner).map(|test| Test::Not(Box::new(test))),
            Expression::Compare(left, operator, right) => self.compare(left, *operator, right),
            Expression::In(operand, negated, list) => {
                let list: Vec<Option<Test>> = list.iter().map(|one| self.compare(operand, Operator::Equal, one)).collect();
                Some(negate(Test::Or(list.into_iter().collect::<Option<_>>()?), *negated))
            }
            Expression::Between(operand, negated, low, high) => {
                let low = self.compare(operand, Operator::GreaterOrEqual, low);
                let high = self.compare(operand, Operator::LessOrEqual, high);
                Some(negate(Test::And(vec![low?, high?]), *negated))
            }
            Expression::Like(operand, negated, pattern, place) => {
                let field = self.field(operand)?;
                if kind(&field.ty) != Kind::Text {
                    let what = format!("`{}` is no text but {}: LIKE is for texts", field.name, field.native_type);
                    self.say(operand.place, what, None);
                    return None;
                }
                let Some(pattern) = Pattern::new(pattern) else {
                    let what = "the pattern ends with a lone backslash".to_owned();
                    self.say(*place, what, Some("Write `\\\\` for a backslash.".to_owned()));
                    return None;
                };
                Some(negate(Test::Like { term: term(field), pattern }, *negated))
            }
            Expression::IsNull(operand, negated) => {
                let field = self.field(operand)?;
                Some(negate(Test::IsNull(term(field)), *negated))
            }
            Expression::Holds(operand) => {
                let field = self.field(operand)?;
                if kind(&field.ty) != Kind::Bool {
                    let what = format!("`{}` is not true or false but {}: it must be compared", field.name, field.native_type);
                    self.say(operand.place, what, Some(format!("Write `{} = …`, for example.", field.name)));
                    return None;
                }
                Some(Test::Holds(term(field)))
            }
        }
    }

    fn several(&mut self, all: &[Expression]) -> Option<Vec<Test>> {
        let tests: Vec<Option<Test>> = all.iter().map(|one| self.test(one)).collect();
        tests.into_iter().collect()
    }

    fn field(&mut self, operand: &Operand) -> Option<&'a Field> {
        let What::Field(name) = &operand.what else {
            self.say(operand.place, "a field should stand here, not a value".to_owned(), None);
            return None;
        };
        if let Some(field) = find(self.schema, name) {
            if !self.fields.contains(&field.name) {
                self.fields.push(field.name.clone());
            }
            return Some(field);
        }
        let names = || self.schema.fields.iter().map(|field| field.name.as_str());
        let remedy = match nearest(name, names()) {
            Some(near) => format!("Write `{near}`."),
            None => format!("Write one of its fields: {}.", names().collect::<Vec<_>>().join(", ")),
        };
        let what = format!("`{}` has no field `{name}`", self.schema.object);
        self.say(operand.place, what, Some(remedy));
        None
    }

    fn compare(&mut self, left: &Operand, operator: Operator, right: &Operand) -> Option<Test> {
        let is_field = |operand: &Operand| matches!(operand.what, What::Field(_));
        let (left, right) = match (is_field(left), is_field(right)) {
            (true, true) => {
                let (one, other) = (self.field(left), self.field(right));
                let (one, other) = (one?, other?);
                self.may_be_compared(one, operator, left.place)?;
                if kind(&one.ty) != kind(&other.ty) || kind(&one.ty) == Kind::Label {
                    let what = format!(
                        "`{}` ({}) and `{}` ({}) cannot be compared",
                        one.name, one.native_type, other.name, other.native_type
                    );
                    self.say(left.place, what, None);
                    return None;
                }
                (term(one), term(other))
            }
            (true, false) => {
                let field = self.field(left)?;
                self.may_be_compared(field, operator, left.place)?;
                (term(field), Term::Constant(self.constant(right, field)?))
            }
            (false, true) => {
                let field = self.field(right)?;
                self.may_be_compared(field, operator, right.place)?;
                (Term::Constant(self.constant(left, field)?), term(field))
            }
            (false, false) => {
                self.say(left.place, "a field should stand on one side at least".to_owned(), None);
                return None;
            }
        };
        Some(Test::Compare { left, operator, right })
    }

    fn may_be_compared(&mut self, field: &Field, operator: Operator, place: Place) -> Option<()> {
        let is_equality = matches!(operator, Operator::Equal | Operator::Unequal);
        let why = match kind(&field.ty) {
            Kind::Other => "has values that cannot be compared here: only IS NULL and IS NOT NULL can be asked",
            Kind::Uuid | Kind::Label | Kind::Bool if !is_equality => "has values without an order: only = and <> can be asked",
            _ => return Some(()),
        };
        self.say(place, format!("`{}` ({}) {why}", field.name, field.native_type), None);
        None
    }

    /// A constant as a value of a field's type.
    fn constant(&mut self, operand: &Operand, field: &Field) -> Option<Value> {
        let kind = kind(&field.ty);
        let read = match (&operand.what, kind) {
            (What::Null, _) => Some(Value::Null),
            (What::Bool(truth), Kind::Bool) => Some(Value::Bool(*truth)),
            // The nearest that the field can hold, as it is with what the field itself holds.
            (What::Number(digits), Kind::Number) => match &field.ty {
                Type::Float { bits } => Float::parse(digits).ok().map(|float| match bits {
                    32 => Value::float(f64::from(float.nearest_f32())),
                    _ => Value::Float(float),
                }),
                _ => Value::decimal(digits).ok(),
            },
            (What::Text(text), Kind::Text) => Some(Value::text(text).normal_as(&field.ty).into_owned()),
            // One that has a zone and one that has none cannot be compared.
            (What::Text(text), Kind::Time) => Value::parse_as(text, &field.ty).filter(|read| {
                let has_zone = matches!(read, Value::Time(time) if time.offset_seconds.is_some());
                has_zone == matches!(field.ty, Type::Time { zone: true, .. })
            }),
            (What::Text(text), Kind::Date | Kind::Timestamp | Kind::TimestampTz | Kind::Uuid) => Value::parse_as(text, &field.ty),
            (What::Text(text), Kind::Label) => match &field.ty {
                Type::Enum { labels } => labels.contains(text).then(|| Value::Enum(text.clone())),
                _ => None,
            },
            _ => None,
        };
        if read.is_none() {
            let what = format!("{operand} is nothing that `{}` ({}) could hold", field.name, field.native_type);
            self.say(operand.place, what, Some(hint(operand, field, kind)));
        }
        read
    }
}

fn term(field: &Field) -> Term {
    Term::Field { name: field.name.clone(), ty: field.ty.clone() }
}

/// What to write instead.
fn hint(operand: &Operand, field: &Field, kind: Kind) -> String {
    match (kind, &operand.what) {
        (Kind::Text | Kind::Label, What::Number(digits)) => format!("Write it as a text: '{digits}'."),
        (Kind::Number, _) => "Write a number without quotes.".to_owned(),
        (Kind::Bool, _) => "Write TRUE or FALSE without quotes.".to_owned(),
        (Kind::Date, _) => "Write a day: '2026-01-31'.".to_owned(),
        (Kind::Time, _) => "Write a time of day: '12:30:00'.".to_owned(),
        (Kind::Timestamp, _) => "Write a day and a time without a zone: '2026-01-31 12:30:00'.".to_owned(),
        (Kind::TimestampTz, _) => "Write a day and a time with its zone: '2026-01-31 12:30:00+00'.".to_owned(),
        (Kind::Uuid, _) => "Write a UUID: '6f2c1a34-0000-4000-8000-000000000000'.".to_owned(),
        (Kind::Label, _) => match &field.ty {
            Type::Enum { labels } => format!("Write one of its labels: {}.", labels.join(", ")),
            _ => "Write one of its labels.".to_owned(),
        },
        _ => "Write a text in single quotes.".to_owned(),
    }
}
