//! Record ids: 15 characters whose case matters, and the form of 18 whose last three say where the capitals are.
//! Never hands out an id twice; reads both forms.

use std::fmt;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const CHECKS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345";

/// An id. Its order is the order in which ids of one object were handed out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id([u8; 15]);

impl Id {
    /// The `number`th id of an object: key prefix, the instance's two characters, a reserved one, nine digits to base 62.
    pub fn new(prefix: &str, number: u64) -> Self {
        let mut bytes = *b"0000fj000000000";
        for (slot, byte) in bytes.iter_mut().zip(prefix.bytes().take(3)) {
            *slot = byte;
        }
        for (slot, byte) in bytes.iter_mut().skip(3).zip(*b"fj0") {
            *slot = byte;
        }
        let mut rest = number;
        for slot in bytes.iter_mut().skip(6).rev() {
            *slot = usize::try_from(rest % 62).ok().and_then(|at| DIGITS.get(at)).copied().unwrap_or(b'0');
            rest /= 62;
        }
        Self(bytes)
    }

    /// Reads an id of 15 or 18 characters. The form of 18 may come in any case: its last three restore it.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if !matches!(bytes.len(), 15 | 18) || !bytes.iter().all(u8::is_ascii_alphanumeric) {
            return None;
        }
        let mut id = [0_u8; 15];
        for (slot, byte) in id.iter_mut().zip(bytes) {
            *slot = *byte;
        }
        for (block, check) in id.chunks_mut(5).zip(bytes.iter().skip(15)) {
            let bits = CHECKS.iter().position(|known| *known == check.to_ascii_uppercase())?;
            for (at, byte) in block.iter_mut().enumerate() {
                if byte.is_ascii_alphabetic() {
                    let upper = bits >> at & 1 == 1;
                    *byte = if upper { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
                } else if bits >> at & 1 == 1 {
                    return None;
                }
            }
        }
        Some(Self(id))
    }

    /// The form of 15.
    pub fn short(&self) -> String {
        self.0.iter().map(|byte| char::from(*byte)).collect()
    }

    /// The three characters that tell the object.
    pub fn prefix(&self) -> String {
        self.0.iter().take(3).map(|byte| char::from(*byte)).collect()
    }
}

impl fmt::Display for Id {
    /// The form of 18.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{}", char::from(byte))?;
        }
        for block in self.0.chunks(5) {
            let bits = block.iter().enumerate().filter(|(_, byte)| byte.is_ascii_uppercase()).map(|(at, _)| 1 << at);
            let check = CHECKS.get(bits.sum::<usize>()).copied().unwrap_or(b'A');
            write!(f, "{}", char::from(check))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_three_characters_say_where_the_capitals_are() {
        // From the vendor's documentation of its id formats.
        assert_eq!(Id::parse("001D000000IqhSL").expect("an id").to_string(), "001D000000IqhSLIAZ");
        assert_eq!(Id::parse("01gD0000002HU6K").expect("an id").to_string(), "01gD0000002HU6KIAW");
    }

    #[test]
    fn the_long_form_is_read_in_any_case() {
        let id = Id::parse("001D000000IqhSL").expect("an id");
        assert_eq!(Id::parse("001d000000iqhsliaz"), Some(id));
        assert_eq!(Id::parse("001D000000IqhSLIAZ"), Some(id));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["", "001", "001D000000IqhSLIA", "001D000000Iqh-L", "001D000000IqhSL!!!"] {
            assert_eq!(Id::parse(text), None, "{text}");
        }
    }

    #[test]
    fn ids_are_ordered_as_they_were_handed_out() {
        let ids: Vec<Id> = (0..5_000).map(|number| Id::new("001", number)).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(ids.iter().all(|id| Id::parse(&id.to_string()) == Some(*id) && id.prefix() == "001"));
    }
}
