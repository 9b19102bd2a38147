//! PostgreSQL's types and texts, and the engine's: which type a column has, how a value is read from the text that
//! the server prints, and how it is written as a text that the server reads.
//! Nothing is coerced: a text that does not have the form of its type is carried as the text that it is.

use concord_engine::error::{Code, Error, Result};
use concord_engine::schema::Type;
use concord_engine::value::{Date, Decimal, Float, Interval, Json, Time, Timestamp, TimestampTz, Value};
use std::collections::HashMap;

/// What the catalogue says of one type.
#[derive(Clone, Debug)]
pub struct TypeInfo {
    /// Its name as a cast writes it, without a modifier.
    pub cast: String,
    /// What it is made of.
    pub kind: Kind,
}

/// What a type is made of.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A base type, known by its OID.
    Base,
    /// An enumeration with its labels in order.
    Enum(Vec<String>),
    /// A domain over another type, with that type's modifier.
    Domain(u32, i32),
    /// An array of another type.
    Array(u32),
}

/// Types by OID: those that a table's columns need.
pub type TypeMap = HashMap<u32, TypeInfo>;

/// How deep domains and arrays are followed.
const NESTING_MAX: usize = 16;

/// The engine's type of a column.
pub fn resolve(types: &TypeMap, oid: u32, modifier: i32) -> Type {
    resolve_nested(types, oid, modifier, NESTING_MAX)
}

fn resolve_nested(types: &TypeMap, oid: u32, modifier: i32, depth: usize) -> Type {
    let known = types.get(&oid);
    let opaque = || Type::Opaque { native: known.map_or_else(|| format!("type {oid}"), |info| info.cast.clone()) };
    let Some(depth) = depth.checked_sub(1) else {
        return opaque();
    };
    match known.map(|info| &info.kind) {
        Some(Kind::Enum(labels)) => Type::Enum { labels: labels.clone() },
        Some(Kind::Domain(base, base_modifier)) => resolve_nested(types, *base, *base_modifier, depth),
        Some(Kind::Array(element)) => Type::Array(Box::new(resolve_nested(types, *element, modifier, depth))),
        Some(Kind::Base) | None => base(oid, modifier).unwrap_or_else(opaque),
    }
}

/// A column's type as a statement writes it: the name that a cast has, with what the modifier of a built-in type says.
pub fn named(cast: &str, oid: u32, modifier: i32) -> String {
    let said = match base(oid, modifier) {
        Some(Type::Text { max_chars: Some(most), .. }) => most.to_string(),
        Some(Type::Decimal { precision: Some(precision), scale: Some(scale), .. }) => format!("{precision},{scale}"),
        _ => return cast.to_owned(),
    };
    format!("{cast}({said})")
}

/// Types that are built in, by OID (`pg_type.dat`); `None` for one that is only carried as text.
fn base(oid: u32, modifier: i32) -> Option<Type> {
    Some(match oid {
        16 => Type::Bool,
        17 => Type::Bytes { max_bytes: None },
        21 => Type::Int { bits: 16, unsigned: false },
        23 => Type::Int { bits: 32, unsigned: false },
        20 => Type::Int { bits: 64, unsigned: false },
        1700 => numeric(modifier),
        700 => Type::Float { bits: 32 },
        701 => Type::Float { bits: 64 },
        25 => text(None, false),
        1043 => text(characters(modifier), false),
        1042 => text(characters(modifier), true),
        1082 => Type::Date,
        1083 => Type::Time { fraction_digits: fraction(modifier), zone: false },
        1266 => Type::Time { fraction_digits: fraction(modifier), zone: true },
        1114 => Type::Timestamp { fraction_digits: fraction(modifier) },
        1184 => Type::TimestampTz { fraction_digits: fraction(modifier) },
        1186 => Type::Interval { fraction_digits: fraction(if modifier < 0 { modifier } else { modifier & 0xffff }) },
        2950 => Type::Uuid,
        114 | 3802 => Type::Json,
        _ => return None,
    })
}

fn text(max_chars: Option<u32>, padded: bool) -> Type {
    Type::Text { max_chars, padded, nul: false, empty: true }
}

/// The length of `varchar(n)` and `char(n)`: the modifier counts a header of four.
fn characters(modifier: i32) -> Option<u32> {
    u32::try_from(modifier.checked_sub(4)?).ok()
}

/// Digits of the second's fraction; six when nothing is said.
fn fraction(modifier: i32) -> u8 {
    u8::try_from(modifier).ok().filter(|digits| *digits <= 6).unwrap_or(6)
}

/// `numeric(p, s)`: the modifier holds the precision above sixteen bits, the scale as eleven signed ones.
fn numeric(modifier: i32) -> Type {
    let Some(packed) = modifier.checked_sub(4).filter(|packed| *packed >= 0) else {
        return Type::Decimal { precision: None, scale: None, special: true };
    };
    let precision = u32::try_from((packed >> 16) & 0xffff).ok();
    Type::Decimal { precision, scale: Some(((packed & 0x7ff) ^ 0x400) - 0x400), special: true }
}

/// Reads what the server printed. A text that is not of the type's form comes back as text.
pub fn decode(ty: &Type, text: &str) -> Value {
    strict(ty, text).unwrap_or_else(|| Value::Text(text.to_owned()))
}

fn strict(ty: &Type, text: &str) -> Option<Value> {
    Some(match ty {
        Type::Bool => Value::Bool(match text {
            "t" | "true" => true,
            "f" | "false" => false,
            _ => return None,
        }),
        Type::Int { .. } => match text.parse() {
            Ok(number) => Value::Int(number),
            Err(_) => Value::UInt(text.parse().ok()?),
        },
        Type::Decimal { .. } => Value::Decimal(Decimal::parse(text).ok()?),
        Type::Float { bits: 32 } => Value::Float(Float::from_f32(float(text)?)),
        Type::Float { .. } => Value::Float(Float::parse(text).ok()?),
        Type::Text { padded: true, .. } => Value::Text(text.trim_end_matches(' ').to_owned()),
        Type::Text { .. } | Type::Opaque { .. } => Value::Text(text.to_owned()),
        Type::Bytes { .. } => Value::Bytes(unhex(text.strip_prefix("\\x")?)?),
        Type::Date => Value::Date(Date::parse_postgres(text).ok()?),
        Type::Time { .. } => Value::Time(Time::parse(text).ok()?),
        Type::Timestamp { .. } => Value::Timestamp(Timestamp::parse_postgres(text).ok()?),
        Type::TimestampTz { .. } => Value::TimestampTz(TimestampTz::parse_postgres(text).ok()?),
        Type::Interval { .. } => Value::Interval(Interval::parse_postgres(text).ok()?),
        Type::Uuid => Value::Uuid(text.parse().ok()?),
        Type::Json => Value::Json(Json::parse(text).ok()?),
        Type::Array(element) => array(element, text)?,
        Type::Enum { .. } => Value::Enum(text.to_owned()),
        Type::Reference { .. } => Value::Reference(text.to_owned()),
    })
}

/// A 32-bit float is read as one: its shortest text means the nearest of 32 bits, not of 64.
fn float(text: &str) -> Option<f32> {
    text.parse().ok()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = Vec::with_capacity(text.len() / 2);
    for pair in text.as_bytes().chunks(2) {
        let [high, low] = pair else { return None };
        bytes.push(digit(high)? << 4 | digit(low)?);
    }
    Some(bytes)
}

/// Writes a value as a text that the server's input function reads; `None` is null.
pub fn encode(ty: &Type, value: &Value) -> Result<Option<String>> {
    Ok(Some(match (value, ty) {
        (Value::Null, _) => return Ok(None),
        (Value::Bool(flag), _) => (if *flag { "t" } else { "f" }).to_owned(),
        (Value::Int(number), _) => number.to_string(),
        (Value::UInt(number), _) => number.to_string(),
        (Value::Decimal(decimal), _) => decimal.as_str().to_owned(),
        (Value::Float(float), Type::Float { bits: 32 }) if float.fits_f32() => float_text(f64::from(float.nearest_f32()), true),
        (Value::Float(float), _) => float_text(float.to_f64(), false),
        (Value::Text(text) | Value::Enum(text) | Value::Reference(text), _) => {
            if text.contains('\0') {
                return Err(Error::new(Code::ValueDoesNotFit, "a text holds a NUL character, which PostgreSQL cannot hold"));
            }
            text.clone()
        }
        (Value::Bytes(bytes), _) => hex(bytes),
        (Value::Date(date), _) => date.to_postgres(),
        (Value::Time(time), _) => time.to_postgres(),
        (Value::Timestamp(timestamp), _) => timestamp.to_postgres(),
        (Value::TimestampTz(timestamp), _) => timestamp.to_postgres(),
        (Value::Interval(interval), _) => interval.to_postgres(),
        (Value::Uuid(uuid), _) => uuid.to_string(),
        (Value::Json(json), _) => json.as_str().to_owned(),
        (Value::Array(items), Type::Array(element)) => array_text(element, items)?,
        (Value::Array(items), _) => array_text(ty, items)?,
    }))
}

/// Whether [`encode`] has a text for the value, found out without making it where that can be told.
pub fn encodes(ty: &Type, value: &Value) -> Result<()> {
    match value {
        Value::Text(text) | Value::Enum(text) | Value::Reference(text) if !text.contains('\0') => Ok(()),
        Value::Text(_) | Value::Enum(_) | Value::Reference(_) | Value::Array(_) => encode(ty, value).map(drop),
        _ => Ok(()),
    }
}

/// The shortest digits that mean this float again.
fn float_text(float: f64, narrow: bool) -> String {
    if float.is_nan() {
        return "NaN".to_owned();
    }
    if float.is_infinite() {
        return (if float > 0.0 { "Infinity" } else { "-Infinity" }).to_owned();
    }
    #[allow(clippy::cast_possible_truncation, reason = "the caller has found that it fits exactly")]
    if narrow { format!("{:e}", float as f32) } else { format!("{float:e}") }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 + bytes.len() * 2);
    text.push_str("\\x");
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// `{1,NULL,"a b",{…}}`. An array with lower bounds of its own (`[0:1]={…}`) has no value here and stays text.
fn array(element: &Type, text: &str) -> Option<Value> {
    let mut reader = ArrayReader { rest: text };
    let value = reader.list(element, NESTING_MAX)?;
    reader.rest.is_empty().then_some(value)
}

struct ArrayReader<'a> {
    rest: &'a str,
}

impl ArrayReader<'_> {
    fn eat(&mut self, expected: char) -> bool {
        match self.rest.strip_prefix(expected) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn list(&mut self, element: &Type, depth: usize) -> Option<Value> {
        let depth = depth.checked_sub(1)?;
        if !self.eat('{') {
            return None;
        }
        let mut items = Vec::new();
        if self.eat('}') {
            return Some(Value::Array(items));
        }
        loop {
            items.push(if self.rest.starts_with('{') { self.list(element, depth)? } else { self.item(element)? });
            if self.eat('}') {
                return Some(Value::Array(items));
            }
            if !self.eat(',') {
                return None;
            }
        }
    }

    fn item(&mut self, element: &Type) -> Option<Value> {
        if self.eat('"') {
            return strict(element, &self.quoted()?);
        }
        let end = self.rest.find([',', '}'])?;
        let (item, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        if item.eq_ignore_ascii_case("null") {
            return Some(Value::Null);
        }
        // An unquoted item may still hold escapes.
        if item.contains('\\') { None } else { strict(element, item) }
    }

    fn quoted(&mut self) -> Option<String> {
        let mut item = String::new();
        let mut characters = self.rest.chars();
        loop {
            match characters.next()? {
                '"' => {
                    self.rest = characters.as_str();
                    return Some(item);
                }
                '\\' => item.push(characters.next()?),
                other => item.push(other),
            }
        }
    }
}

fn array_text(element: &Type, items: &[Value]) -> Result<String> {
    let mut text = String::from("{");
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            text.push(',');
        }
        match item {
            Value::Array(nested) => text.push_str(&array_text(element, nested)?),
            _ => match encode(element, item)? {
                None => text.push_str("NULL"),
                Some(item) => {
                    text.push('"');
                    text.push_str(&item.replace('\\', "\\\\").replace('"', "\\\""));
                    text.push('"');
                }
            },
        }
    }
    text.push('}');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_written_with_what_its_modifier_says() {
        assert_eq!(named("character varying", 1043, 24), "character varying(20)");
        assert_eq!(named("character", 1042, 6), "character(2)");
        assert_eq!(named("numeric", 1700, ((12 << 16) | 2) + 4), "numeric(12,2)");
        for (name, oid, modifier) in
            [("character varying", 1043, -1), ("numeric", 1700, -1), ("text", 25, -1), ("integer", 23, -1)]
        {
            assert_eq!(named(name, oid, modifier), name);
        }
    }

    fn types() -> TypeMap {
        let info = |cast: &str, kind| TypeInfo { cast: cast.into(), kind };
        TypeMap::from([
            (1, info("mood", Kind::Enum(vec!["sad".into(), "ok".into()]))),
            (2, info("money_like", Kind::Domain(1700, (10 << 16 | 2) + 4))),
            (3, info("money_like[]", Kind::Array(2))),
            (4, info("circular", Kind::Array(4))),
        ])
    }

    #[test]
    fn modifiers_are_read_as_the_catalogue_packs_them() {
        let types = types();
        let decimal = |precision, scale| Type::Decimal { precision, scale, special: true };
        assert_eq!(resolve(&types, 1700, -1), decimal(None, None));
        assert_eq!(resolve(&types, 1700, (10 << 16 | 2) + 4), decimal(Some(10), Some(2)));
        assert_eq!(resolve(&types, 1700, (3 << 16 | (0x7ff & -2)) + 4), decimal(Some(3), Some(-2)));
        assert_eq!(resolve(&types, 1043, 44), text(Some(40), false));
        assert_eq!(resolve(&types, 1042, 7), text(Some(3), true));
        assert_eq!(resolve(&types, 1184, 3), Type::TimestampTz { fraction_digits: 3 });
        assert_eq!(resolve(&types, 1186, (0x7fff << 16) | 0xffff), Type::Interval { fraction_digits: 6 });
    }

    #[test]
    fn domains_and_arrays_are_followed_and_end() {
        let types = types();
        let money = Type::Decimal { precision: Some(10), scale: Some(2), special: true };
        assert_eq!(resolve(&types, 2, -1), money);
        assert_eq!(resolve(&types, 3, -1), Type::Array(Box::new(money)));
        assert_eq!(resolve(&types, 600, -1), Type::Opaque { native: "type 600".into() });
        let mut ty = resolve(&types, 4, -1);
        while let Type::Array(inner) = ty {
            ty = *inner;
        }
        assert!(matches!(ty, Type::Opaque { .. }));
    }

    #[test]
    fn arrays_read_back_as_they_were_written() {
        let element = text(None, false);
        let ty = Type::Array(Box::new(element));
        for text in ["{}", "{a,NULL,\"NULL\",\"\"}", "{\"a,b\",\"q\\\"q\",\"back\\\\slash\",\"{}\"}", "{{a,b},{c,d}}"] {
            let value = strict(&ty, text).unwrap();
            let written = encode(&ty, &value).unwrap().unwrap();
            assert_eq!(strict(&ty, &written).unwrap(), value, "{text}");
        }
        assert_eq!(strict(&ty, "{a,NULL}").unwrap(), Value::Array(vec![Value::Text("a".into()), Value::Null]));
        for text in ["[0:1]={a,b}", "{a", "{a}}", "a", "{\"a}"] {
            assert_eq!(decode(&ty, text), Value::Text(text.into()));
        }
    }

    #[test]
    fn bytes_and_floats_keep_every_bit() {
        let bytes = Type::Bytes { max_bytes: None };
        assert_eq!(decode(&bytes, "\\x00ff10"), Value::Bytes(vec![0, 255, 16]));
        assert_eq!(encode(&bytes, &Value::Bytes(vec![0, 255, 16])).unwrap().unwrap(), "\\x00ff10");
        assert_eq!(decode(&bytes, "\\x0"), Value::Text("\\x0".into()));
        let (narrow, wide) = (Type::Float { bits: 32 }, Type::Float { bits: 64 });
        for text in ["0.1", "-0", "1e-45", "3.4028235e+38", "NaN", "-Infinity"] {
            for ty in [&narrow, &wide] {
                let value = decode(ty, text);
                assert_eq!(decode(ty, &encode(ty, &value).unwrap().unwrap()), value, "{text}");
            }
        }
    }

    #[test]
    fn a_nul_character_is_refused_before_it_is_sent() {
        let error = encode(&text(None, false), &Value::Text("a\0b".into())).unwrap_err();
        assert_eq!(error.code, Code::ValueDoesNotFit);
    }
}
