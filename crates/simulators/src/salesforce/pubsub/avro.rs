//! A change event as Avro writes it: no schema in front, a union's branch before each value. Written by hand, so that
//! nobody decodes with the very code that encoded; the vendor's schema says what stands where.

use crate::salesforce::events::{Body, Event, Part, PlatformField, ShapeField, Wire};
use crate::salesforce::values::Value;
use crate::salesforce::values::time;
use serde_json::{Map, Value as Json, json};

/// The bytes of an event.
pub fn encode(event: &Event) -> Vec<u8> {
    if let Some(published) = &event.published {
        return published.bytes.clone();
    }
    let mut bytes = Vec::with_capacity(256);
    text(&mut bytes, &event.entity);
    texts(&mut bytes, &event.record_ids);
    long(&mut bytes, i64::from(event.change.symbol()));
    text(&mut bytes, &event.origin);
    text(&mut bytes, &event.transaction_key);
    long(&mut bytes, i64::from(event.sequence));
    long(&mut bytes, event.commit_ms);
    long(&mut bytes, event.commit_number);
    text(&mut bytes, &event.user);
    texts(&mut bytes, &bitmaps(&event.nulled));
    texts(&mut bytes, &bitmaps(&event.differing));
    texts(&mut bytes, &bitmaps(&event.changed));
    for (at, field) in event.shape.fields.iter().enumerate() {
        let own = event.body.iter().find(|body| matches!(body, Body::Plain(own, _) | Body::Parts(own, _) if *own == at));
        match own {
            None => long(&mut bytes, 0),
            Some(Body::Plain(_, own)) => branch(&mut bytes, field.wire, own),
            Some(Body::Parts(_, parts)) => compound(&mut bytes, field, parts),
        }
    }
    bytes
}

/// What a client has written; none where it is not of these fields to the last byte.
pub fn decode(bytes: &[u8], fields: &[PlatformField]) -> Option<Map<String, Json>> {
    let mut rest = bytes;
    let mut decoded = Map::new();
    for field in fields {
        let is_there = !field.nullable || matches!(read_long(&mut rest).filter(|branch| (0..=1).contains(branch))?, 1);
        let value = match field.wire {
            _ if !is_there => Json::Null,
            Wire::Text => {
                let length = usize::try_from(read_long(&mut rest)?).ok()?;
                json!(std::str::from_utf8(take(&mut rest, length)?).ok()?)
            }
            Wire::Bool => json!(take(&mut rest, 1)? == [1]),
            Wire::Int | Wire::Long => json!(read_long(&mut rest)?),
            Wire::Double => json!(f64::from_le_bytes(take(&mut rest, 8)?.try_into().ok()?)),
        };
        decoded.insert(field.name.clone(), value);
    }
    rest.is_empty().then_some(decoded)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn read_long(rest: &mut &[u8]) -> Option<i64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *take(rest, 1)?.first()?;
        number |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
        }
    }
    None
}

fn compound(bytes: &mut Vec<u8>, field: &ShapeField, parts: &[(usize, Value)]) {
    long(bytes, 1);
    for (at, (_, _, wire)) in field.parts.iter().enumerate() {
        match parts.iter().find(|(own, _)| *own == at) {
            None => long(bytes, 0),
            Some((_, own)) => branch(bytes, *wire, own),
        }
    }
}

/// A value in a union with null.
fn branch(bytes: &mut Vec<u8>, wire: Wire, own: &Value) {
    if own.is_null() {
        return long(bytes, 0);
    }
    long(bytes, 1);
    match (wire, own) {
        (Wire::Bool, own) => bytes.push(u8::from(*own == Value::Bool(true))),
        (Wire::Int, Value::Int(number)) => long(bytes, *number),
        (Wire::Double, own) => bytes.extend(own.as_number().unwrap_or(0.0).to_le_bytes()),
        (Wire::Long, Value::Date(days)) => long(bytes, time::start_of(*days)),
        (Wire::Long | Wire::Int, Value::DateTime(ms) | Value::Time(ms)) => long(bytes, *ms),
        (_, own) => text(bytes, &own.csv()),
    }
}

/// Zigzag, seven bits a byte.
fn long(bytes: &mut Vec<u8>, number: i64) {
    let mut rest = (number.cast_unsigned() << 1) ^ (number >> 63).cast_unsigned();
    loop {
        let low = rest.to_le_bytes().first().copied().unwrap_or(0) & 0x7F;
        rest >>= 7;
        if rest == 0 {
            return bytes.push(low);
        }
        bytes.push(low | 0x80);
    }
}

fn text(bytes: &mut Vec<u8>, own: &str) {
    long(bytes, i64::try_from(own.len()).unwrap_or(i64::MAX));
    bytes.extend(own.bytes());
}

fn texts(bytes: &mut Vec<u8>, own: &[String]) {
    if !own.is_empty() {
        long(bytes, i64::try_from(own.len()).unwrap_or(i64::MAX));
        own.iter().for_each(|own| text(bytes, own));
    }
    long(bytes, 0);
}

/// Fields as bitmaps: first those of the event itself, then `parent-bitmap` for parts. The header is position 0.
fn bitmaps(parts: &[Part]) -> Vec<String> {
    let mut all = Vec::new();
    let top: Vec<usize> = parts.iter().filter(|(_, part)| part.is_none()).map(|(field, _)| field + 1).collect();
    if !top.is_empty() {
        all.push(bitmap(&top));
    }
    let mut parents: Vec<usize> = parts.iter().filter(|(_, part)| part.is_some()).map(|(field, _)| *field).collect();
    parents.dedup();
    for parent in parents {
        let places: Vec<usize> = parts.iter().filter(|(field, _)| *field == parent).filter_map(|(_, part)| *part).collect();
        all.push(format!("{}-{}", parent + 1, bitmap(&places)));
    }
    all
}

/// `0x…`, the highest position first, two digits a byte.
fn bitmap(places: &[usize]) -> String {
    let highest = places.iter().max().copied().unwrap_or(0);
    let mut bytes = vec![0_u8; highest / 8 + 1];
    for place in places {
        if let Some(byte) = bytes.get_mut(place / 8) {
            *byte |= 1 << (place % 8);
        }
    }
    let digits: String = bytes.iter().rev().map(|byte| format!("{byte:02X}")).collect();
    format!("0x{digits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_zigzag_with_seven_bits_a_byte() {
        let bytes = |number| {
            let mut bytes = Vec::new();
            long(&mut bytes, number);
            bytes
        };
        // From the specification of Avro.
        assert_eq!(bytes(0), [0]);
        assert_eq!(bytes(-1), [1]);
        assert_eq!(bytes(1), [2]);
        assert_eq!(bytes(-64), [0x7F]);
        assert_eq!(bytes(64), [0x80, 0x01]);
        assert_eq!(bytes(i64::MIN), [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]);
        for number in [0, -1, 1, -64, 64, i64::MIN, i64::MAX] {
            assert_eq!(read_long(&mut bytes(number).as_slice()), Some(number));
        }
    }

    #[test]
    fn bitmaps_name_fields_and_parts_of_compounds() {
        assert_eq!(bitmaps(&[(4, None), (5, None), (6, None), (2, Some(2))]), ["0xE0", "3-0x04"]);
        assert_eq!(bitmaps(&[(8, None)]), ["0x0200"]);
        assert!(bitmaps(&[]).is_empty());
    }
}
