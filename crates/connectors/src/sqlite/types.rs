//! Values between SQLite's five storage classes and the engine's types. The class that a row really holds is respected:
//! a text in an INTEGER column is a text. Nothing is coerced: a value that SQLite would give back as another one is a
//! misfit, and so is refused before it is written.

use concord_engine::schema::Type;
use concord_engine::value::{Date, Decimal, Float, Json, Time, Timestamp, TimestampTz, Value};
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use serde::{Deserialize, Serialize};

/// Digits of a decimal number that SQLite keeps when it stores the number as a 64-bit float.
const DECIMAL_DIGITS_KEPT: u32 = 15;
/// Above this, a float may stand for several whole numbers.
const WHOLE_FLOAT_MAX: f64 = 9_007_199_254_740_992.0;

/// One stored value, exactly as SQLite holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Cell {
    Null,
    Integer(i64),
    /// The bits of a 64-bit float.
    Real(u64),
    /// Text in UTF-8, or what somebody stored as such.
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl Cell {
    pub fn of(stored: ValueRef<'_>) -> Cell {
        match stored {
            ValueRef::Null => Cell::Null,
            ValueRef::Integer(number) => Cell::Integer(number),
            ValueRef::Real(number) => Cell::Real(number.to_bits()),
            ValueRef::Text(text) => Cell::Text(text.to_vec()),
            ValueRef::Blob(bytes) => Cell::Blob(bytes.to_vec()),
        }
    }

    /// About how much memory it takes.
    pub fn size(&self) -> usize {
        match self {
            Cell::Null | Cell::Integer(_) | Cell::Real(_) => 16,
            Cell::Text(bytes) | Cell::Blob(bytes) => bytes.len().saturating_add(32),
        }
    }

    fn real(number: f64) -> Cell {
        Cell::Real(number.to_bits())
    }

    fn text(text: impl Into<String>) -> Cell {
        Cell::Text(text.into().into_bytes())
    }
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Cell::Null => ValueRef::Null,
            Cell::Integer(number) => ValueRef::Integer(*number),
            Cell::Real(bits) => ValueRef::Real(f64::from_bits(*bits)),
            Cell::Text(text) => ValueRef::Text(text),
            Cell::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// What SQLite does to a value that is stored in a column; <https://www.sqlite.org/datatype3.html#determination_of_column_affinity>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Affinity {
    Text,
    Numeric,
    Real,
    None,
}

/// What a column's declared type means to Concord.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Bool,
    Integer,
    Decimal {
        precision: Option<u32>,
        scale: Option<i32>,
    },
    Real,
    Text {
        max_chars: Option<u32>,
    },
    Bytes,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Uuid,
    Json,
    /// Whatever class the row holds.
    Any,
}

/// The type of a column: what was declared, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ColumnType {
    pub declared: String,
    pub strict: bool,
    affinity: Affinity,
    meaning: Meaning,
}

/// A value that the column cannot hold exactly; the text says why, never what the value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Misfit(pub &'static str);

impl ColumnType {
    pub fn new(declared: &str, strict: bool) -> ColumnType {
        let upper = declared.trim().to_ascii_uppercase();
        let affinity = affinity(&upper, strict);
        ColumnType { declared: declared.to_owned(), strict, affinity, meaning: meaning(&upper, affinity) }
    }

    /// What the column can hold, in the engine's terms.
    pub fn engine_type(&self) -> Type {
        match self.meaning {
            Meaning::Bool => Type::Bool,
            Meaning::Integer => Type::Int { bits: 64, unsigned: false },
            Meaning::Decimal { precision, scale } => {
                let precision = precision.map_or(DECIMAL_DIGITS_KEPT, |digits| digits.min(DECIMAL_DIGITS_KEPT));
                Type::Decimal { precision: Some(precision), scale, special: false }
            }
            Meaning::Real => Type::Float { bits: 64 },
            Meaning::Text { max_chars } => Type::Text { max_chars, padded: false, nul: true, empty: true },
            Meaning::Bytes => Type::Bytes { max_bytes: None },
            Meaning::Date => Type::Date,
            Meaning::Time => Type::Time { fraction_digits: 9, zone: false },
            Meaning::Timestamp => Type::Timestamp { fraction_digits: 9 },
            Meaning::TimestampTz => Type::TimestampTz { fraction_digits: 9 },
            Meaning::Uuid => Type::Uuid,
            Meaning::Json => Type::Json,
            Meaning::Any => {
                Type::Opaque { native: if self.declared.is_empty() { "ANY".to_owned() } else { self.declared.clone() } }
            }
        }
    }

    /// What a stored value of a plain column says.
    pub fn decode(&self, cell: &Cell) -> Value {
        match cell {
            Cell::Null => Value::Null,
            Cell::Integer(number) => self.decode_integer(*number),
            Cell::Real(bits) => self.decode_real(f64::from_bits(*bits)),
            Cell::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => self.decode_text(text),
                Err(_) => Value::Bytes(bytes.clone()),
            },
            Cell::Blob(bytes) => Value::Bytes(bytes.clone()),
        }
    }

    /// What a stored value of a key's column says: only readings that lead back to the very same stored value, so that
    /// the row is found by them.
    pub fn decode_key(&self, cell: &Cell) -> Value {
        let value = self.decode(cell);
        match self.encode(&value) {
            Ok(back) if back == *cell => value,
            _ => ColumnType { meaning: Meaning::Any, ..self.clone() }.decode(cell),
        }
    }

    /// What to store for a value: something that comes back as an equivalent value, or nothing.
    pub fn encode(&self, value: &Value) -> std::result::Result<Cell, Misfit> {
        if let Some(stored) = self.as_it_is(value) {
            return Ok(Cell::of(stored));
        }
        let given = self.represent(value)?;
        let stored = self.as_stored(given)?;
        if self.comes_back(value, &stored) || self.decode(&stored).equivalent(value) {
            Ok(stored)
        } else {
            Err(Misfit("the column's declared type would turn the value into another one"))
        }
    }

    /// The value itself, where the column stores it as it is.
    pub fn as_it_is<'v>(&self, value: &'v Value) -> Option<ValueRef<'v>> {
        match (value, self.meaning, self.affinity) {
            (Value::Null, ..) => Some(ValueRef::Null),
            (Value::Int(number), Meaning::Integer, Affinity::Numeric) => Some(ValueRef::Integer(*number)),
            (Value::Text(text), Meaning::Text { .. }, Affinity::Text) => Some(ValueRef::Text(text.as_bytes())),
            (Value::Bytes(bytes), Meaning::Bytes, Affinity::None) => Some(ValueRef::Blob(bytes)),
            _ => None,
        }
    }

    /// Whether it is known without a look that what is stored is read as the value again. A decimal of so few digits comes
    /// back from a float that is neither very large nor very small.
    fn comes_back(&self, value: &Value, stored: &Cell) -> bool {
        match (self.meaning, value, stored) {
            (Meaning::Bool, Value::Bool(_), Cell::Integer(_))
            | (Meaning::Uuid, Value::Uuid(_), Cell::Text(_))
            | (Meaning::Decimal { .. }, Value::Decimal(_), Cell::Integer(_)) => true,
            (Meaning::Decimal { .. }, Value::Decimal(_), Cell::Real(bits)) => {
                let size = f64::from_bits(*bits).abs();
                size > 1e-200 && size < 1e200
            }
            _ => false,
        }
    }

    fn represent(&self, value: &Value) -> std::result::Result<Cell, Misfit> {
        Ok(match value {
            Value::Null => Cell::Null,
            Value::Bool(flag) => Cell::Integer(i64::from(*flag)),
            Value::Int(number) => Cell::Integer(*number),
            Value::UInt(_) => return Err(Misfit("whole numbers above 9223372036854775807 cannot be held")),
            Value::Decimal(decimal) => represent_decimal(decimal)?,
            Value::Float(float) if float.to_f64().is_nan() => return Err(Misfit("SQLite turns NaN into NULL")),
            Value::Float(float) => Cell::real(float.to_f64()),
            Value::Text(text) | Value::Enum(text) | Value::Reference(text) => Cell::text(text.as_str()),
            Value::Bytes(bytes) => Cell::Blob(bytes.clone()),
            Value::Date(date) => Cell::text(date.to_string()),
            Value::Time(time) => Cell::text(time.to_string()),
            Value::Timestamp(timestamp) => Cell::text(with_blank(timestamp.to_string())),
            Value::TimestampTz(timestamp) => Cell::text(with_blank(timestamp.to_string())),
            Value::Interval(interval) => Cell::text(interval.to_string()),
            Value::Uuid(uuid) => Cell::text(&*uuid.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer())),
            Value::Json(json) => Cell::text(json.as_str()),
            Value::Array(_) => return Err(Misfit("SQLite has no arrays")),
        })
    }

    /// What the column's affinity makes of a value that is stored in it.
    fn as_stored(&self, cell: Cell) -> std::result::Result<Cell, Misfit> {
        const NUMBER_AS_TEXT: Misfit = Misfit("the column's declared type turns numbers into text");
        const TEXT_AS_NUMBER: Misfit = Misfit("the column's declared type turns text that looks like a number into a number");
        match (self.affinity, &cell) {
            (Affinity::Text, Cell::Integer(_) | Cell::Real(_)) => Err(NUMBER_AS_TEXT),
            (Affinity::Numeric | Affinity::Real, Cell::Text(text)) if looks_numeric(text) => match self.meaning {
                Meaning::Json => json_number(text).ok_or(TEXT_AS_NUMBER),
                _ => Err(TEXT_AS_NUMBER),
            },
            (Affinity::Numeric, Cell::Real(bits)) => Ok(whole(f64::from_bits(*bits)).map_or(cell, Cell::Integer)),
            (Affinity::Real, Cell::Integer(number)) => {
                exact_float(*number).map(Cell::real).ok_or(Misfit("the whole number has more digits than a float keeps"))
            }
            _ => Ok(cell),
        }
    }

    fn decode_integer(&self, number: i64) -> Value {
        match (self.meaning, number) {
            (Meaning::Bool, 0) => Value::Bool(false),
            (Meaning::Bool, 1) => Value::Bool(true),
            (Meaning::Decimal { .. }, _) => Value::Decimal(Decimal::from(number)),
            (Meaning::Json, _) => json(&number.to_string()).unwrap_or(Value::Int(number)),
            _ => Value::Int(number),
        }
    }

    fn decode_real(&self, number: f64) -> Value {
        let float = Value::Float(Float::from_f64(number));
        match self.meaning {
            Meaning::Decimal { .. } if number.is_finite() => Decimal::parse(&shortest(number)).map_or(float, Value::Decimal),
            Meaning::Json if number.is_finite() => json(&shortest(number)).unwrap_or(float),
            _ => float,
        }
    }

    fn decode_text(&self, text: &str) -> Value {
        let read = match self.meaning {
            Meaning::Date => Date::parse(text).ok().map(Value::Date),
            Meaning::Time => Time::parse(text).ok().map(Value::Time),
            Meaning::Timestamp | Meaning::TimestampTz => timestamp(text),
            Meaning::Uuid => canonical_uuid(text).map(Value::Uuid),
            Meaning::Json => json(text),
            _ => None,
        };
        read.unwrap_or_else(|| Value::Text(text.to_owned()))
    }
}

fn affinity(upper: &str, strict: bool) -> Affinity {
    let has = |word: &str| upper.contains(word);
    if strict && upper == "ANY" {
        Affinity::None
    } else if has("INT") {
        Affinity::Numeric
    } else if has("CHAR") || has("CLOB") || has("TEXT") {
        Affinity::Text
    } else if has("BLOB") || upper.is_empty() {
        Affinity::None
    } else if has("REAL") || has("FLOA") || has("DOUB") {
        Affinity::Real
    } else {
        Affinity::Numeric
    }
}

fn meaning(upper: &str, affinity: Affinity) -> Meaning {
    let (word, rest) = upper.split_once('(').unwrap_or((upper, ""));
    let mut sizes = rest.split(')').next().unwrap_or("").split(',').map(|size| size.trim().parse::<u32>().ok());
    let (first, second) = (sizes.next().flatten(), sizes.next().flatten());
    match word.trim() {
        "BOOL" | "BOOLEAN" => Meaning::Bool,
        "DECIMAL" | "NUMERIC" | "NUMBER" => {
            let scale = second.or(first.map(|_| 0)).and_then(|scale| i32::try_from(scale).ok());
            Meaning::Decimal { precision: first, scale }
        }
        "DATE" => Meaning::Date,
        "TIME" => Meaning::Time,
        "TIMESTAMPTZ" | "DATETIMETZ" | "TIMESTAMP WITH TIME ZONE" => Meaning::TimestampTz,
        "DATETIME" | "TIMESTAMP" | "TIMESTAMP WITHOUT TIME ZONE" => Meaning::Timestamp,
        "UUID" | "GUID" | "UNIQUEIDENTIFIER" => Meaning::Uuid,
        "JSON" | "JSONB" => Meaning::Json,
        other => match affinity {
            Affinity::Numeric if other.contains("INT") => Meaning::Integer,
            Affinity::Numeric => Meaning::Any,
            Affinity::Text => Meaning::Text { max_chars: first },
            Affinity::Real => Meaning::Real,
            Affinity::None if other.contains("BLOB") => Meaning::Bytes,
            Affinity::None => Meaning::Any,
        },
    }
}

/// A decimal is stored as a whole number where it is one, and as a float while that keeps every digit.
fn represent_decimal(decimal: &Decimal) -> std::result::Result<Cell, Misfit> {
    if !decimal.is_finite() {
        return Err(Misfit("SQLite has no decimal NaN or infinity"));
    }
    if let Some(number) = decimal.to_i64() {
        return Ok(Cell::Integer(number));
    }
    let digits_kept = usize::try_from(DECIMAL_DIGITS_KEPT).unwrap_or(usize::MAX);
    match decimal.to_shortest().parse::<f64>() {
        Ok(number) if number.is_finite() && decimal.significant_digits() <= digits_kept => Ok(Cell::real(number)),
        _ => Err(Misfit("SQLite keeps 15 digits of a decimal number")),
    }
}

/// Whether SQLite would take the text for a number. Wider than SQLite's own rule, never narrower.
fn looks_numeric(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    let starts = text.iter().find(|byte| !matches!(byte, b'+' | b'-' | b'.')).is_some_and(u8::is_ascii_digit);
    starts && text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')) && is_number(text)
}

fn is_number(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<f64>().is_ok())
}

/// What SQLite makes of a JSON document that is a bare number; `None` when digits would be lost.
fn json_number(text: &[u8]) -> Option<Cell> {
    let decimal = Decimal::parse(std::str::from_utf8(text).ok()?.trim()).ok()?;
    match represent_decimal(&decimal).ok()? {
        Cell::Real(bits) => Some(whole(f64::from_bits(bits)).map_or(Cell::Real(bits), Cell::Integer)),
        other => Some(other),
    }
}

/// The whole number that a float stands for, where SQLite stores it as one.
fn whole(number: f64) -> Option<i64> {
    if number.fract() == 0.0 && number.abs() <= WHOLE_FLOAT_MAX { format!("{number:.0}").parse().ok() } else { None }
}

fn exact_float(number: i64) -> Option<f64> {
    let float: f64 = number.to_string().parse().ok()?;
    (float.abs() <= WHOLE_FLOAT_MAX).then_some(float)
}

/// The fewest digits that lead back to the same float.
fn shortest(number: f64) -> String {
    format!("{number:e}")
}

/// SQLite's own functions write a blank between day and time.
fn with_blank(mut iso: String) -> String {
    if let Some(at) = iso.find('T') {
        iso.replace_range(at..=at, " ");
    }
    iso
}

fn timestamp(text: &str) -> Option<Value> {
    match Timestamp::parse(text) {
        Ok(timestamp) => Some(Value::Timestamp(timestamp)),
        Err(_) => TimestampTz::parse(text).ok().map(Value::TimestampTz),
    }
}

/// Only the form in which it would be written again: any other spelling is a text, for SQL compares it as one.
fn canonical_uuid(text: &str) -> Option<uuid::Uuid> {
    uuid::Uuid::try_parse(text).ok().filter(|uuid| uuid.hyphenated().to_string() == text)
}

fn json(text: &str) -> Option<Value> {
    Json::parse(text).ok().map(Value::Json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(declared: &str) -> ColumnType {
        ColumnType::new(declared, false)
    }

    #[test]
    fn declared_types_mean_what_sqlite_and_people_mean_by_them() {
        assert_eq!(column("INTEGER").engine_type(), Type::Int { bits: 64, unsigned: false });
        assert_eq!(column("unsigned big int").engine_type(), Type::Int { bits: 64, unsigned: false });
        assert_eq!(
            column("VARCHAR(40)").engine_type(),
            Type::Text { max_chars: Some(40), padded: false, nul: true, empty: true }
        );
        assert_eq!(column("decimal(10,2)").engine_type(), Type::Decimal { precision: Some(10), scale: Some(2), special: false });
        assert_eq!(column("NUMERIC").engine_type(), Type::Decimal { precision: Some(15), scale: None, special: false });
        assert_eq!(column("double precision").engine_type(), Type::Float { bits: 64 });
        assert_eq!(column("timestamp with time zone").engine_type(), Type::TimestampTz { fraction_digits: 9 });
        assert_eq!(column("").engine_type(), Type::Opaque { native: "ANY".to_owned() });
        assert_eq!(column("STRING").engine_type(), Type::Opaque { native: "STRING".to_owned() });
    }

    #[test]
    fn the_class_that_a_row_holds_is_respected() {
        assert_eq!(column("INTEGER").decode(&Cell::text("seven")), Value::text("seven"));
        assert_eq!(column("BOOLEAN").decode(&Cell::Integer(2)), Value::Int(2));
        assert_eq!(column("DATETIME").decode(&Cell::Integer(1_700_000_000)), Value::Int(1_700_000_000));
        assert_eq!(column("DATE").decode(&Cell::text("soon")), Value::text("soon"));
        assert_eq!(column("TEXT").decode(&Cell::Text(vec![0xff])), Value::Bytes(vec![0xff]));
    }

    #[test]
    fn what_sqlite_would_change_is_a_misfit() {
        assert!(column("STRING").encode(&Value::text("007")).is_err());
        assert!(column("INTEGER").encode(&Value::text(" 1e3 ")).is_err());
        assert!(column("TEXT").encode(&Value::Int(5)).is_err());
        assert!(column("REAL").encode(&Value::Int(i64::MAX)).is_err());
        assert!(column("REAL").encode(&Value::float(f64::NAN)).is_err());
        assert!(column("INTEGER").encode(&Value::UInt(u64::MAX)).is_err());
        assert!(column("DECIMAL(30,10)").encode(&Value::decimal("12345678901234567.89").unwrap()).is_err());
        assert!(column("JSON").encode(&Value::json("12345678901234567890.5").unwrap()).is_err());
        assert!(column("TEXT").encode(&Value::Array(vec![])).is_err());
    }

    #[test]
    fn keys_are_read_only_so_that_they_are_found_again() {
        let upper = Cell::text("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11");
        assert_eq!(column("UUID").decode_key(&upper), Value::text("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"));
        let with_t = Cell::text("2024-01-01T10:00:00");
        assert!(matches!(column("DATETIME").decode(&with_t), Value::Timestamp(_)));
        assert_eq!(column("DATETIME").decode_key(&with_t), Value::text("2024-01-01T10:00:00"));
    }
}
