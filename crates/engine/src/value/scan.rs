//! Reading text byte by byte: the one scanner that every parser of this folder uses.
//! It never panics and never looks behind the end; numbers that do not fit are `None`.

/// What was wrong with a text that was to become a value. It names what was expected, never the text itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct Malformed {
    /// What the text should have been (`a date such as 2024-12-31`).
    pub expected: &'static str,
}

impl From<Malformed> for crate::error::Error {
    fn from(malformed: Malformed) -> crate::error::Error {
        crate::error::Error::new(crate::error::Code::ValueMalformed, malformed.to_string())
    }
}

/// A place in a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scanner<'a> {
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    /// At the beginning of the text.
    pub(crate) fn new(text: &'a str) -> Scanner<'a> {
        Scanner { rest: text.as_bytes() }
    }

    /// The next byte, left where it is.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next byte, taken.
    pub(crate) fn take(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// Takes the byte if it is next.
    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        if self.peek() == Some(byte) {
            self.take();
            return true;
        }
        false
    }

    /// Takes the word if it is next, in any case of ASCII letters.
    pub(crate) fn eat_word(&mut self, word: &str) -> bool {
        match self.rest.split_at_checked(word.len()) {
            Some((head, rest)) if head.eq_ignore_ascii_case(word.as_bytes()) => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Takes blanks.
    pub(crate) fn skip_blanks(&mut self) {
        while self.eat(b' ') {}
    }

    /// Whether nothing is left.
    pub(crate) fn at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes as many bytes as satisfy the condition.
    pub(crate) fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let length = self.rest.iter().position(|byte| !wanted(*byte)).unwrap_or(self.rest.len());
        let (head, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, &[]));
        self.rest = rest;
        head
    }

    /// Takes a run of digits of a length within the bounds and gives the number.
    pub(crate) fn number(&mut self, digits_min: usize, digits_max: usize) -> Option<i64> {
        let digits = self.take_while(|byte| byte.is_ascii_digit());
        if digits.len() < digits_min || digits.len() > digits_max {
            return None;
        }
        digits.iter().try_fold(0_i64, |number, digit| number.checked_mul(10)?.checked_add(i64::from(digit - b'0')))
    }

    /// Takes exactly this many digits.
    pub(crate) fn exact_digits(&mut self, count: usize) -> Option<i64> {
        let (head, rest) = self.rest.split_at_checked(count)?;
        if !head.iter().all(u8::is_ascii_digit) {
            return None;
        }
        self.rest = rest;
        Some(head.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')))
    }

    /// Takes `.` and the digits of a second's fraction, if they are next, and gives nanoseconds.
    pub(crate) fn fraction_nanos(&mut self) -> Option<i64> {
        if !self.eat(b'.') {
            return Some(0);
        }
        let digits = self.take_while(|byte| byte.is_ascii_digit());
        if digits.is_empty() || digits.iter().skip(9).any(|digit| *digit != b'0') {
            return None;
        }
        let padded = digits.iter().copied().chain(std::iter::repeat(b'0')).take(9);
        Some(padded.fold(0, |number, digit| number * 10 + i64::from(digit - b'0')))
    }
}
