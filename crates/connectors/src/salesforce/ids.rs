//! Record ids: 15 characters that tell upper from lower case, or 18 with three more that make the case good. Held and
//! compared in the long form.

use concord_engine::record::Key;
use concord_engine::value::Value;

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345";

/// The long form. What is no id comes back as it is.
pub(super) fn full(id: &str) -> String {
    let short = match id.len() {
        15 => id,
        18 => id.get(..15).unwrap_or(id),
        _ => return id.to_owned(),
    };
    let mut long = short.to_owned();
    for block in short.as_bytes().chunks(5) {
        let place = block.iter().rev().fold(0_usize, |bits, letter| (bits << 1) | usize::from(letter.is_ascii_uppercase()));
        long.push(ALPHABET.get(place).copied().map_or('A', char::from));
    }
    long
}

/// Whether a text can be an id at all.
pub(super) fn is_id(text: &str) -> bool {
    matches!(text.len(), 15 | 18) && text.bytes().all(|letter| letter.is_ascii_alphanumeric())
}

/// The characters that tell ids apart, without room of their own: for memories of very many.
pub(super) type Short = [u8; 15];

/// The short form; `None` for what is no id.
pub(super) fn short(id: &str) -> Option<Short> {
    if is_id(id) { id.as_bytes().first_chunk().copied() } else { None }
}

/// A record's key.
pub(super) fn key(id: &str) -> Key {
    Key(vec![Value::Text(full(id))])
}

/// The id in a key; `None` for a key that no record here can have.
pub(super) fn of(key: &Key) -> Option<String> {
    match key.0.as_slice() {
        [value] => value.as_text().filter(|text| is_id(text)).map(full),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_characters_follow_from_the_case_of_the_others() {
        for long in ["001xx000003DGb0AAG", "0011T00002J4kniQAB", "005Rj000005UEfQIAW"] {
            assert_eq!(full(&long[..15]), long);
            assert_eq!(full(long), long);
            assert_eq!(full(&format!("{}xxx", &long[..15])), long, "the short form alone decides");
        }
        assert_eq!(of(&Key(vec![Value::text("not an id")])), None);
    }
}
