//! Avro's binary encoding, as far as change events use it: a schema from its JSON, a datum from its bytes. Every length
//! is checked against what is there; nothing is trusted for having come from the vendor.
//! <https://avro.apache.org/docs/1.12.0/specification/>

use serde_json::Value as Json;
use std::collections::HashMap;

/// Records within records within records: more than any event has.
const DEPTH_MAX: usize = 16;

/// A type. Records are held beside and referred to by their place, so that one can be named before it is known.
#[derive(Clone, Debug, PartialEq)]
enum Type {
    Null,
    Bool,
    Number,
    Float,
    Double,
    Bytes,
    Text,
    Enum(Vec<String>),
    Array(Box<Type>),
    Union(Vec<Type>),
    Record(usize),
}

/// A field of a record.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Field {
    pub name: String,
    ty: Type,
}

/// A schema: the records that it defines, the outermost by its place.
#[derive(Clone, Debug)]
pub(super) struct Schema {
    records: Vec<Vec<Field>>,
    root: usize,
}

/// A datum.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Datum {
    Null,
    Bool(bool),
    Number(i64),
    Double(f64),
    Bytes(Vec<u8>),
    Text(String),
    Array(Vec<Datum>),
    /// Which record, and its fields in the schema's order.
    Record(usize, Vec<Datum>),
}

/// What is wrong with a schema or a datum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Odd {
    #[error("the schema uses a type that change events do not have")]
    Schema,
    #[error("the datum ends too early")]
    Short,
    #[error("the datum does not follow its schema")]
    Malformed,
}

impl Schema {
    /// Reads a schema whose outermost type is a record.
    pub fn parse(json: &str) -> Result<Schema, Odd> {
        let json: Json = serde_json::from_str(json).map_err(|_| Odd::Schema)?;
        let mut reader = SchemaReader { records: Vec::new(), named: HashMap::new() };
        match reader.read(&json, 0)? {
            Type::Record(root) => Ok(Schema { records: reader.records, root }),
            _ => Err(Odd::Schema),
        }
    }

    /// The fields of the outermost record.
    pub fn fields(&self) -> &[Field] {
        self.fields_of(self.root)
    }

    /// The fields of a record.
    pub fn fields_of(&self, record: usize) -> &[Field] {
        self.records.get(record).map_or(&[], Vec::as_slice)
    }

    /// The record that a field of the outermost one is or can be.
    pub fn record_in(&self, field: &Field) -> Option<usize> {
        match &field.ty {
            Type::Record(record) => Some(*record),
            Type::Union(branches) => branches.iter().find_map(|branch| match branch {
                Type::Record(record) => Some(*record),
                _ => None,
            }),
            _ => None,
        }
    }

    /// Reads a datum; every byte must be used.
    pub fn decode(&self, bytes: &[u8]) -> Result<Vec<Datum>, Odd> {
        let mut reader = Reader { schema: self, rest: bytes };
        match reader.read(&Type::Record(self.root), 0)? {
            Datum::Record(_, fields) if reader.rest.is_empty() => Ok(fields),
            _ => Err(Odd::Malformed),
        }
    }
}

struct SchemaReader {
    records: Vec<Vec<Field>>,
    named: HashMap<String, Type>,
}

impl SchemaReader {
    fn read(&mut self, json: &Json, depth: usize) -> Result<Type, Odd> {
        if depth > DEPTH_MAX {
            return Err(Odd::Schema);
        }
        match json {
            Json::String(name) => self.by_name(name),
            Json::Array(branches) => {
                branches.iter().map(|branch| self.read(branch, depth + 1)).collect::<Result<_, _>>().map(Type::Union)
            }
            Json::Object(object) => match object.get("type") {
                Some(Json::String(kind)) => match kind.as_str() {
                    "record" => self.record(json, depth),
                    "enum" => {
                        let symbols = json.get("symbols").and_then(Json::as_array).ok_or(Odd::Schema)?;
                        let symbols = symbols.iter().filter_map(Json::as_str).map(str::to_owned).collect();
                        self.name(json, Type::Enum(symbols))
                    }
                    "array" => Ok(Type::Array(Box::new(self.read(json.get("items").ok_or(Odd::Schema)?, depth + 1)?))),
                    other => self.by_name(other),
                },
                Some(inner) => self.read(inner, depth + 1),
                None => Err(Odd::Schema),
            },
            _ => Err(Odd::Schema),
        }
    }

    fn by_name(&self, name: &str) -> Result<Type, Odd> {
        Ok(match name {
            "null" => Type::Null,
            "boolean" => Type::Bool,
            "int" | "long" => Type::Number,
            "float" => Type::Float,
            "double" => Type::Double,
            "bytes" => Type::Bytes,
            "string" => Type::Text,
            // A namespace in front does not tell two names of one event apart.
            other => self.named.get(other.rsplit('.').next().unwrap_or(other)).cloned().ok_or(Odd::Schema)?,
        })
    }

    fn record(&mut self, json: &Json, depth: usize) -> Result<Type, Odd> {
        let place = self.records.len();
        self.records.push(Vec::new());
        let ty = self.name(json, Type::Record(place))?;
        let described = json.get("fields").and_then(Json::as_array).ok_or(Odd::Schema)?;
        let mut fields = Vec::with_capacity(described.len());
        for field in described {
            let name = field.get("name").and_then(Json::as_str).ok_or(Odd::Schema)?.to_owned();
            fields.push(Field { name, ty: self.read(field.get("type").ok_or(Odd::Schema)?, depth + 1)? });
        }
        *self.records.get_mut(place).ok_or(Odd::Schema)? = fields;
        Ok(ty)
    }

    fn name(&mut self, json: &Json, ty: Type) -> Result<Type, Odd> {
        let name = json.get("name").and_then(Json::as_str).ok_or(Odd::Schema)?;
        self.named.insert(name.rsplit('.').next().unwrap_or(name).to_owned(), ty.clone());
        Ok(ty)
    }
}

struct Reader<'a> {
    schema: &'a Schema,
    rest: &'a [u8],
}

impl Reader<'_> {
    fn read(&mut self, ty: &Type, depth: usize) -> Result<Datum, Odd> {
        if depth > DEPTH_MAX {
            return Err(Odd::Malformed);
        }
        Ok(match ty {
            Type::Null => Datum::Null,
            Type::Bool => match self.take(1)? {
                [0] => Datum::Bool(false),
                [1] => Datum::Bool(true),
                _ => return Err(Odd::Malformed),
            },
            Type::Number => Datum::Number(self.long()?),
            Type::Float => Datum::Double(f64::from(f32::from_le_bytes(self.take(4)?.try_into().map_err(|_| Odd::Short)?))),
            Type::Double => Datum::Double(f64::from_le_bytes(self.take(8)?.try_into().map_err(|_| Odd::Short)?)),
            Type::Bytes => {
                let length = self.length()?;
                Datum::Bytes(self.take(length)?.to_vec())
            }
            Type::Text => {
                let length = self.length()?;
                Datum::Text(String::from_utf8(self.take(length)?.to_vec()).map_err(|_| Odd::Malformed)?)
            }
            Type::Enum(symbols) => Datum::Text(symbols.get(self.length()?).cloned().ok_or(Odd::Malformed)?),
            Type::Array(items) => self.array(items, depth)?,
            Type::Union(branches) => {
                let branch = self.length()?;
                self.read(branches.get(branch).ok_or(Odd::Malformed)?, depth + 1)?
            }
            Type::Record(place) => {
                let fields = self.schema.fields_of(*place);
                Datum::Record(*place, fields.iter().map(|field| self.read(&field.ty, depth + 1)).collect::<Result<_, _>>()?)
            }
        })
    }

    fn array(&mut self, items: &Type, depth: usize) -> Result<Datum, Odd> {
        let mut found = Vec::new();
        loop {
            let mut count = self.long()?;
            if count < 0 {
                // A block that says its size in bytes too.
                self.long()?;
                count = count.checked_neg().ok_or(Odd::Malformed)?;
            }
            if count == 0 {
                return Ok(Datum::Array(found));
            }
            // Every item takes a byte at least, but for nulls, which no list of an event holds.
            if usize::try_from(count).map_err(|_| Odd::Malformed)? > self.rest.len() {
                return Err(Odd::Short);
            }
            for _ in 0..count {
                found.push(self.read(items, depth + 1)?);
            }
        }
    }

    fn take(&mut self, count: usize) -> Result<&[u8], Odd> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Odd::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn length(&mut self) -> Result<usize, Odd> {
        usize::try_from(self.long()?).map_err(|_| Odd::Malformed)
    }

    /// A number of variable length, its sign in the lowest bit.
    fn long(&mut self) -> Result<i64, Odd> {
        let mut bits = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.take(1)? else { return Err(Odd::Short) };
            let byte = *byte;
            bits |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let magnitude = i64::try_from(bits >> 1).map_err(|_| Odd::Malformed)?;
                return Ok(if bits & 1 == 0 { magnitude } else { -1 - magnitude });
            }
        }
        Err(Odd::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = r#"{"name":"E","namespace":"n","type":"record","fields":[
        {"name":"H","type":{"type":"record","name":"Head","fields":[
            {"name":"ids","type":{"type":"array","items":"string"}},
            {"name":"kind","type":{"type":"enum","name":"Kind","symbols":["A","B"]}}]}},
        {"name":"N","type":["null","double"]},
        {"name":"Again","type":["null","n.Head"]}]}"#;

    #[test]
    fn a_datum_is_read_as_its_schema_says_and_a_name_is_known_again() {
        let schema = Schema::parse(SCHEMA).unwrap();
        let mut bytes = vec![2, 4, b'h', b'i', 0, 2]; // ["hi"], B
        bytes.push(2);
        bytes.extend(1.5_f64.to_le_bytes());
        bytes.extend([2, 0, 0]); // the named record: [], A
        let fields = schema.decode(&bytes).unwrap();
        assert_eq!(fields[0], Datum::Record(1, vec![Datum::Array(vec![Datum::Text("hi".into())]), Datum::Text("B".into())]));
        assert_eq!(fields[1], Datum::Double(1.5));
        assert_eq!(fields[2], Datum::Record(1, vec![Datum::Array(vec![]), Datum::Text("A".into())]));
        assert_eq!(schema.record_in(&schema.fields()[2]), Some(1));
    }

    #[test]
    fn what_is_cut_off_or_too_long_is_refused_and_never_a_panic() {
        let schema = Schema::parse(SCHEMA).unwrap();
        let whole = [2, 4, b'h', b'i', 0, 2, 0, 0];
        assert!(schema.decode(&whole).is_ok());
        for cut in 0..whole.len() {
            assert!(schema.decode(&whole[..cut]).is_err(), "cut at {cut}");
        }
        assert_eq!(schema.decode(&[2, 4, b'h', b'i', 0, 2, 0, 0, 9]), Err(Odd::Malformed));
        assert!(schema.decode(&[0xff; 32]).is_err());
        assert!(schema.decode(&[0xfe, 0xff, 0xff, 0xff, 0x0f]).is_err(), "a list longer than what is there");
    }

    #[test]
    fn numbers_are_zigzag() {
        let schema = Schema::parse(r#"{"name":"E","type":"record","fields":[{"name":"n","type":"long"}]}"#).unwrap();
        for (bytes, number) in [(vec![0], 0), (vec![1], -1), (vec![2], 1), (vec![0x80, 1], 64)] {
            assert_eq!(schema.decode(&bytes), Ok(vec![Datum::Number(number)]));
        }
        let least = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(schema.decode(&least), Ok(vec![Datum::Number(i64::MIN)]));
    }
}
