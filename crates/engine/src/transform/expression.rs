//! Expressions in Jinja's language over a record: bounded in steps, strict about names, exact in decimals.
//! `value` is the field's own value, `record` the record; fields stand by their names. Decimals come and go exactly;
//! `==`, `<`, `in` and the like compare numbers by value, and the filters `add`, `subtract`, `multiply`, `divide`,
//! `round` and `compare` compute with them. Messages name what went wrong, never a value.

use super::step::failed;
use super::{CATALOGUE, Context, Pipeline, TransformSpec};
use crate::error::{Code, Error, Result};
use crate::record::Record;
use crate::value::{Decimal, Float, Json, Value};
use minijinja::value::{DynObject, Enumerator, Kwargs, Object, ObjectRepr, Rest, Value as Jinja, ValueKind};
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

/// The most instructions of one evaluation (invariant 10).
const FUEL: u64 = 20_000;
/// The most digits of an operand of exact arithmetic.
const OPERAND_DIGITS_MAX: usize = 2_000;
/// How deep lists and JSON documents are followed.
const DEPTH_MAX: usize = 64;

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(environment);

/// A compiled expression.
#[derive(Clone)]
pub struct Expression {
    source: Arc<str>,
    compiled: Arc<minijinja::Expression<'static, 'static>>,
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Expression").field(&self.source).finish()
    }
}

impl Expression {
    /// Reads an expression.
    pub fn compile(source: &str) -> Result<Expression> {
        let unreadable = |what| Error::new(Code::ExpressionInvalid, format!("the expression cannot be read: {what}"));
        let rewritten = super::comparison::rewrite(source).map_err(unreadable)?;
        let compiled = ENVIRONMENT.compile_expression_owned(rewritten).map_err(|error| {
            let detail = error.detail().map(str::to_owned).unwrap_or_else(|| error.kind().to_string());
            unreadable(detail)
        })?;
        Ok(Expression { source: source.into(), compiled: Arc::new(compiled) })
    }

    /// The value for this value and record.
    pub fn evaluate(&self, value: &Value, record: &Record) -> Result<Value> {
        let scope = Jinja::from_object(Scope { value: value.clone(), record: Arc::new(Fields(record.clone())) });
        let result = self.compiled.eval(scope).map_err(|error| explain(&error))?;
        from_jinja(&result, 0)
    }

    /// Whether the expression holds: it must give true or false.
    pub fn holds(&self, value: &Value, record: &Record) -> Result<bool> {
        match self.evaluate(value, record)? {
            Value::Bool(truth) => Ok(truth),
            other => Err(failed(format!("the expression must give true or false; it gave {}", other.kind()))),
        }
    }

    /// The names that it reads besides `value` and `record`.
    pub fn fields_read(&self) -> Vec<String> {
        let names = self.compiled.undeclared_variables(false);
        names.into_iter().filter(|name| name != "value" && name != "record" && name != "range" && name != "dict").collect()
    }
}

/// What went wrong, by the kind of the error: its detail may hold a record's values.
fn explain(error: &minijinja::Error) -> Error {
    failed(match error.kind() {
        ErrorKind::UndefinedError => "the expression reads a field that the record does not show".to_owned(),
        ErrorKind::OutOfFuel => format!("the expression takes more than {FUEL} steps"),
        kind => format!("the expression cannot be computed: {kind}"),
    })
}

#[derive(Debug)]
struct Fields(Record);

impl Object for Fields {
    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        self.0.get(key.as_str()?).map(|value| to_jinja(value, 0))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.iter().map(|(name, _)| Jinja::from(name.as_str())).collect())
    }
}

#[derive(Debug)]
struct Scope {
    value: Value,
    record: Arc<Fields>,
}

impl Object for Scope {
    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        match key.as_str()? {
            "value" => Some(to_jinja(&self.value, 0)),
            "record" => Some(Jinja::from_dyn_object(Arc::clone(&self.record))),
            field => self.record.0.get(field).map(|value| to_jinja(value, 0)),
        }
    }
}

/// A value that Jinja has no type for, carried through untouched: decimals, dates, UUIDs.
#[derive(Debug)]
struct Exact(Value);

impl Object for Exact {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn is_true(self: &Arc<Self>) -> bool {
        !self.0.equivalent(&Value::Int(0))
    }

    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<Ordering> {
        let other = &other.downcast_ref::<Exact>()?.0;
        match (self.0.number(), other.number()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => Some(self.0.canonical_bytes().cmp(&other.canonical_bytes())),
        }
    }

    fn render(self: &Arc<Self>, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

fn to_jinja(value: &Value, depth: usize) -> Jinja {
    match value {
        Value::Null => Jinja::from(()),
        Value::Bool(truth) => Jinja::from(*truth),
        Value::Int(number) => Jinja::from(*number),
        Value::UInt(number) => Jinja::from(*number),
        Value::Float(float) => Jinja::from(float.to_f64()),
        Value::Text(text) | Value::Enum(text) | Value::Reference(text) => Jinja::from(text.as_str()),
        Value::Bytes(bytes) => Jinja::from_bytes(bytes.clone()),
        Value::Uuid(uuid) => Jinja::from(uuid.to_string()),
        Value::Json(json) => json_to_jinja(json.as_str(), depth),
        Value::Array(elements) if depth < DEPTH_MAX => elements.iter().map(|element| to_jinja(element, depth + 1)).collect(),
        other => Jinja::from_object(Exact(other.clone())),
    }
}

/// A JSON document as what its parts are; numbers with a point or beyond 64 bits stay exact decimals.
fn json_to_jinja(text: &str, depth: usize) -> Jinja {
    let text = text.trim_ascii();
    let opaque = || Jinja::from_object(Exact(Json::parse(text).map_or(Value::Null, Value::Json)));
    if depth >= DEPTH_MAX {
        return opaque();
    }
    match text.as_bytes().first() {
        Some(b'{') => match serde_json::from_str::<BTreeMap<String, &serde_json::value::RawValue>>(text) {
            Ok(entries) => {
                let entries = entries.into_iter().map(|(key, raw)| (key, json_to_jinja(raw.get(), depth + 1)));
                Jinja::from_object(entries.collect::<BTreeMap<String, Jinja>>())
            }
            Err(_) => opaque(),
        },
        Some(b'[') => match serde_json::from_str::<Vec<&serde_json::value::RawValue>>(text) {
            Ok(elements) => elements.into_iter().map(|raw| json_to_jinja(raw.get(), depth + 1)).collect(),
            Err(_) => opaque(),
        },
        Some(b'"') => serde_json::from_str::<String>(text).map_or_else(|_| opaque(), Jinja::from),
        Some(b't') => Jinja::from(true),
        Some(b'f') => Jinja::from(false),
        Some(b'n') => Jinja::from(()),
        _ => match (text.parse::<i64>(), Decimal::parse(text)) {
            (Ok(number), _) => Jinja::from(number),
            (_, Ok(decimal)) => Jinja::from_object(Exact(Value::Decimal(decimal))),
            _ => opaque(),
        },
    }
}

fn from_jinja(value: &Jinja, depth: usize) -> Result<Value> {
    if depth > DEPTH_MAX {
        return Err(failed("the expression's result is nested too deep"));
    }
    if let Some(Exact(exact)) = value.downcast_object_ref::<Exact>() {
        return Ok(exact.clone());
    }
    match value.kind() {
        ValueKind::None => Ok(Value::Null),
        ValueKind::Bool => Ok(Value::Bool(value.is_true())),
        ValueKind::Number => number_from_jinja(value),
        ValueKind::String => Ok(Value::text(value.as_str().unwrap_or_default())),
        ValueKind::Bytes => Ok(Value::Bytes(value.as_bytes().unwrap_or_default().to_vec())),
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter().map_err(|error| explain(&error))?;
            items.map(|item| from_jinja(&item, depth + 1)).collect::<Result<_>>().map(Value::Array)
        }
        ValueKind::Map => Ok(Value::json(&json_text(value, depth)?)?),
        ValueKind::Undefined => Err(failed("the expression reads a field that the record does not show")),
        _ => Err(failed("the expression's result is no value")),
    }
}

fn number_from_jinja(value: &Jinja) -> Result<Value> {
    if !value.is_integer() {
        let float = f64::try_from(value.clone()).map_err(|error| explain(&error))?;
        return Ok(Value::Float(Float::from_f64(float)));
    }
    let decimal = Decimal::parse(&value.to_string())?;
    Ok(Value::whole(&decimal).unwrap_or(Value::Decimal(decimal)))
}

fn json_text(value: &Jinja, depth: usize) -> Result<String> {
    if value.kind() != ValueKind::Map {
        let part = from_jinja(value, depth)?;
        return match crate::value::fit(&part, &crate::schema::Type::Json) {
            _ if part.is_null() => Ok("null".to_owned()),
            // A text is a JSON string here, whatever it looks like.
            _ if part.as_text().is_some() => Ok(serde_json::Value::from(part.as_text()).to_string()),
            fitted => match fitted.with_loss(&part) {
                Some(Value::Json(json)) => Ok(json.to_string()),
                _ => Err(failed("the expression's result holds what JSON cannot")),
            },
        };
    }
    let mut entries = Vec::new();
    for key in value.try_iter().map_err(|error| explain(&error))? {
        let item = value.get_item(&key).map_err(|error| explain(&error))?;
        entries.push(format!("{}:{}", serde_json::Value::from(key.to_string()), json_text(&item, depth + 1)?));
    }
    Ok(format!("{{{}}}", entries.join(",")))
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    for entry in CATALOGUE.iter().filter(|entry| entry.name != "none" && entry.name != "expression") {
        environment.add_filter(entry.name, move |value: Jinja, arguments: Rest<Jinja>, named: Kwargs| {
            transform_filter(entry.name, &value, &arguments, &named)
        });
    }
    for (name, holds) in COMPARISONS {
        environment.add_filter(*name, move |a: Jinja, b: Jinja| order(&a, &b).map(holds));
    }
    environment.add_filter("__exact", |digits: &str| {
        let decimal = Decimal::parse(digits).map_err(|_| invalid("no number"))?;
        Ok::<Jinja, minijinja::Error>(Jinja::from_object(Exact(Value::Decimal(decimal))))
    });
    environment.add_filter("__eq", |a: Jinja, b: Jinja| same(&a, &b));
    environment.add_filter("__ne", |a: Jinja, b: Jinja| !same(&a, &b));
    environment.add_filter("__in", |a: Jinja, b: Jinja| contains(&b, &a));
    environment.add_filter("__nin", |a: Jinja, b: Jinja| contains(&b, &a).map(|contained| !contained));
    environment.add_filter("add", |a: Jinja, b: Jinja| arithmetic(&a, &b, |a, b| Some(a + b)));
    environment.add_filter("subtract", |a: Jinja, b: Jinja| arithmetic(&a, &b, |a, b| Some(a - b)));
    environment.add_filter("multiply", |a: Jinja, b: Jinja| arithmetic(&a, &b, |a, b| Some(a * b)));
    environment.add_filter("divide", |a: Jinja, b: Jinja, digits: u8| arithmetic(&a, &b, |a, b| quotient(a, b, digits)));
    environment.add_filter("round", |a: Jinja, digits: Option<i8>| {
        decimal(&a).map(|decimal| Jinja::from_object(Exact(Value::Decimal(decimal.rounded(i64::from(digits.unwrap_or(0)))))))
    });
    environment
        .add_filter("compare", |a: Jinja, b: Jinja| Ok::<i64, minijinja::Error>(decimal(&a)?.compare(&decimal(&b)?) as i64));
    environment
}

/// The quotient to so many digits behind the point, halves away from zero; computed in whole numbers, so exactly
/// rounded. `None` for a division by zero.
fn quotient(a: Big, b: Big, digits: u8) -> Option<Big> {
    use bigdecimal::num_bigint::{BigInt, Sign};
    let ((dividend, dividend_scale), (divisor, divisor_scale)) = (a.into_bigint_and_exponent(), b.into_bigint_and_exponent());
    if divisor.sign() == Sign::NoSign {
        return None;
    }
    let shift = divisor_scale.checked_sub(dividend_scale)?.checked_add(i64::from(digits))?;
    let power = BigInt::from(10).pow(u32::try_from(shift.unsigned_abs()).ok()?);
    let (dividend, divisor) = if shift >= 0 { (dividend * power, divisor) } else { (dividend, divisor * power) };
    let negative = (dividend.sign() == Sign::Minus) != (divisor.sign() == Sign::Minus);
    let (dividend, divisor) = (dividend.magnitude(), divisor.magnitude());
    let rounded = (dividend * 2_u8 + divisor) / (divisor * 2_u8);
    let sign = if negative { Sign::Minus } else { Sign::Plus };
    Some(Big::from_bigint(BigInt::from_biguint(sign, rounded), i64::from(digits)))
}

type Holds = fn(Ordering) -> bool;

const COMPARISONS: &[(&str, Holds)] =
    &[("__lt", Ordering::is_lt), ("__le", Ordering::is_le), ("__gt", Ordering::is_gt), ("__ge", Ordering::is_ge)];

/// Numbers by value, days and times by when they are, text by its characters; what has no order is refused.
fn order(a: &Jinja, b: &Jinja) -> std::result::Result<Ordering, minijinja::Error> {
    let plain = |value| from_jinja(value, 0).map_err(|_| invalid("what is compared is no value"));
    plain(a)?.compare(&plain(b)?).ok_or_else(|| invalid("the two sides of a comparison have no order"))
}

fn same(a: &Jinja, b: &Jinja) -> bool {
    match (from_jinja(a, 0), from_jinja(b, 0)) {
        (Ok(a), Ok(b)) => a.equivalent(&b),
        _ => a == b,
    }
}

fn contains(whole: &Jinja, part: &Jinja) -> std::result::Result<bool, minijinja::Error> {
    match (whole.as_str(), part.as_str()) {
        (Some(whole), Some(part)) => Ok(whole.contains(part)),
        (Some(_), None) => Ok(false),
        _ => Ok(whole.try_iter()?.any(|element| same(&element, part))),
    }
}

fn invalid(what: &str) -> minijinja::Error {
    minijinja::Error::new(ErrorKind::InvalidOperation, what.to_owned())
}

/// The exact decimal of a number, of a decimal, or of the text of one.
fn decimal(value: &Jinja) -> std::result::Result<Decimal, minijinja::Error> {
    let value = from_jinja(value, 0).map_err(|_| invalid("no number"))?;
    let decimal = match value.number() {
        Some(number) => Decimal::of_number(&number),
        None => value.as_text().and_then(|text| Decimal::parse(text).ok()).ok_or_else(|| invalid("no number"))?,
    };
    let short = decimal.is_finite() && decimal.to_shortest().len() <= OPERAND_DIGITS_MAX;
    if short { Ok(decimal) } else { Err(invalid("NaN, an infinity, or a number of too many digits")) }
}

type Big = bigdecimal::BigDecimal;

fn arithmetic(a: &Jinja, b: &Jinja, operation: impl Fn(Big, Big) -> Option<Big>) -> std::result::Result<Jinja, minijinja::Error> {
    let big = |value| decimal(value).and_then(|decimal| Big::from_str(decimal.as_str()).map_err(|_| invalid("no number")));
    let result = operation(big(a)?, big(b)?).ok_or_else(|| invalid("division by zero"))?;
    let decimal = Decimal::parse(&result.to_plain_string()).map_err(|_| invalid("no number"))?;
    Ok(Jinja::from_object(Exact(Value::Decimal(decimal))))
}

/// Any transformation of the catalogue as a filter: positional arguments in the catalogue's order, or named ones.
fn transform_filter(
    name: &str,
    value: &Jinja,
    arguments: &[Jinja],
    given: &Kwargs,
) -> std::result::Result<Jinja, minijinja::Error> {
    let entry = CATALOGUE.iter().find(|entry| entry.name == name).ok_or_else(|| invalid("no such transformation"))?;
    let mut named = serde_json::Map::new();
    let as_json = |argument: &Jinja| match from_jinja(argument, 0).map_err(|_| invalid("an argument cannot be read"))? {
        Value::Json(json) => serde_json::from_str(json.as_str()).map_err(|_| invalid("an argument cannot be read")),
        value => Ok(value.to_json()),
    };
    for (place, argument) in arguments.iter().enumerate() {
        let known = entry.arguments.get(place).ok_or_else(|| invalid("too many arguments"))?;
        named.insert(known.name.to_owned(), as_json(argument)?);
    }
    for key in given.args() {
        named.insert(key.to_owned(), as_json(&given.get::<Jinja>(key)?)?);
    }
    let spec = TransformSpec::with(name, serde_json::Value::Object(named));
    let pipeline = Pipeline::compile(&[spec], &Context::default()).map_err(|error| invalid(&error.message))?;
    let value = from_jinja(value, 0).map_err(|error| invalid(&error.message))?;
    let result = pipeline.apply(&value, &Record::new()).map_err(|error| invalid(&error.message))?;
    Ok(to_jinja(&result, 0))
}
