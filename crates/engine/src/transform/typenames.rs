//! The names of types as people write them in a `cast`: `text(40)`, `decimal(10,2)`, `timestamptz(3)`, `integer[]`.

use crate::schema::Type;

/// Reads a type's name. The error says which names there are.
pub fn parse_type(name: &str) -> Result<Type, String> {
    let name = name.trim().to_ascii_lowercase();
    if let Some(element) = name.strip_suffix("[]") {
        return if element.ends_with("[]") {
            Err(unknown(&name))
        } else {
            parse_type(element).map(|ty| Type::Array(Box::new(ty)))
        };
    }
    let (word, numbers) = match name.strip_suffix(')').and_then(|open| open.split_once('(')) {
        Some((word, numbers)) => {
            let numbers: Option<Vec<i32>> = numbers.split(',').map(|number| number.trim().parse().ok()).collect();
            (word.trim(), numbers.ok_or_else(|| unknown(&name))?)
        }
        None => (name.as_str(), Vec::new()),
    };
    from_parts(word, &numbers).ok_or_else(|| unknown(&name))
}

fn from_parts(word: &str, numbers: &[i32]) -> Option<Type> {
    let int = |bits, unsigned| numbers.is_empty().then_some(Type::Int { bits, unsigned });
    let plain = |ty| numbers.is_empty().then_some(ty);
    let limit = || match numbers {
        [] => Some(None),
        [limit] => u32::try_from(*limit).ok().map(Some),
        _ => None,
    };
    match word {
        "boolean" | "bool" => plain(Type::Bool),
        "smallint" => int(16, false),
        "integer" | "int" => int(32, false),
        "bigint" => int(64, false),
        "unsigned bigint" => int(64, true),
        "decimal" | "numeric" => decimal(numbers),
        "real" => plain(Type::Float { bits: 32 }),
        "float" | "double" => plain(Type::Float { bits: 64 }),
        "text" | "varchar" => limit().map(|max_chars| Type::Text { max_chars, padded: false, nul: false, empty: true }),
        "bytes" => limit().map(|max_bytes| Type::Bytes { max_bytes }),
        "date" => plain(Type::Date),
        "time" => Some(Type::Time { fraction_digits: digits(numbers)?, zone: false }),
        "timetz" => Some(Type::Time { fraction_digits: digits(numbers)?, zone: true }),
        "timestamp" => Some(Type::Timestamp { fraction_digits: digits(numbers)? }),
        "timestamptz" => Some(Type::TimestampTz { fraction_digits: digits(numbers)? }),
        "interval" => Some(Type::Interval { fraction_digits: digits(numbers)? }),
        "uuid" => plain(Type::Uuid),
        "json" => plain(Type::Json),
        _ => None,
    }
}

fn decimal(numbers: &[i32]) -> Option<Type> {
    match numbers {
        [] => Some(Type::Decimal { precision: None, scale: None, special: true }),
        [precision] => Some(Type::Decimal { precision: positive(*precision), scale: Some(0), special: false }),
        [precision, scale @ -1000..=1000] => {
            Some(Type::Decimal { precision: positive(*precision), scale: Some(*scale), special: false })
        }
        _ => None,
    }
    .filter(|ty| !matches!(ty, Type::Decimal { precision: None, scale: Some(_), .. }))
}

fn positive(number: i32) -> Option<u32> {
    u32::try_from(number).ok().filter(|number| (1..=100_000).contains(number))
}

fn digits(numbers: &[i32]) -> Option<u8> {
    match numbers {
        [] => Some(6),
        [digits @ 0..=9] => u8::try_from(*digits).ok(),
        _ => None,
    }
}

fn unknown(name: &str) -> String {
    format!(
        "knows no type `{name}`; it knows boolean, smallint, integer, bigint, unsigned bigint, decimal(p,s), real, float, \
         text(n), bytes(n), date, time(f), timetz(f), timestamp(f), timestamptz(f), interval(f), uuid, json, and lists of them such as text[]"
    )
}
