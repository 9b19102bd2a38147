//! JSON documents: the text as it came, and its meaning in canonical bytes.
//! Equal in meaning: key order, white space, escapes and the form of numbers (1.0, 1.00 and 1e0) do not count; of a
//! key that stands twice the last counts. Numbers are compared exactly, as decimals; no digit is ever dropped.
//! Grammar: RFC 8259.

use super::number::Number;
use super::scan::{Malformed, Scanner};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How deep arrays and objects may nest: the reader recurses, and the stack has an end (invariant 10).
const DEPTH_MAX: usize = 256;

const EXPECTED: Malformed = Malformed { expected: "a JSON document, nested at most 256 deep" };

/// A JSON document as the text in which it came; compared by meaning.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Json(Box<str>);

impl Json {
    /// Checks the text and keeps it as it is.
    pub fn parse(text: &str) -> Result<Json, Malformed> {
        let mut reader = Reader { scanner: Scanner::new(text), quiet: true };
        reader.document(&mut Vec::new()).ok_or(EXPECTED)?;
        Ok(Json(text.into()))
    }

    /// The document that `serde_json` holds; its numbers are what serde_json made of them.
    pub fn from_serde(document: &serde_json::Value) -> Result<Json, Malformed> {
        Json::parse(&document.to_string())
    }

    /// The text as it came.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether two documents mean the same.
    pub fn same_meaning(&self, other: &Json) -> bool {
        self.0 == other.0 || self.meaning() == other.meaning()
    }

    /// Bytes that are equal exactly for documents of the same meaning.
    pub fn meaning(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len());
        let mut reader = Reader { scanner: Scanner::new(&self.0), quiet: false };
        if reader.document(&mut bytes).is_none() {
            // Only a text that no constructor checked comes here; it then means itself.
            bytes.clear();
            bytes.push(b'!');
            bytes.extend_from_slice(self.0.as_bytes());
        }
        bytes
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

struct Reader<'a> {
    scanner: Scanner<'a>,
    /// Only checks; writes nothing.
    quiet: bool,
}

impl Reader<'_> {
    fn document(&mut self, out: &mut Vec<u8>) -> Option<()> {
        self.value(0, out)?;
        self.blanks();
        self.scanner.at_end().then_some(())
    }

    fn value(&mut self, depth: usize, out: &mut Vec<u8>) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        self.blanks();
        match self.scanner.peek()? {
            b'{' => self.object(depth, out),
            b'[' => self.array(depth, out),
            b'"' => self.tagged_string(out),
            b't' => self.word("true", b't', out),
            b'f' => self.word("false", b'f', out),
            b'n' => self.word("null", b'n', out),
            _ => self.number(out),
        }
    }

    fn object(&mut self, depth: usize, out: &mut Vec<u8>) -> Option<()> {
        self.scanner.take();
        let mut entries: std::collections::BTreeMap<Vec<u8>, Vec<u8>> = std::collections::BTreeMap::new();
        self.blanks();
        if !self.scanner.eat(b'}') {
            loop {
                let (mut key, mut value) = (Vec::new(), Vec::new());
                self.blanks();
                self.string(&mut key)?;
                self.blanks();
                self.expect(b':')?;
                self.value(depth + 1, &mut value)?;
                if !self.quiet {
                    entries.insert(key, value);
                }
                if !self.more(b'}')? {
                    break;
                }
            }
        }
        self.emit(out, b"{", entries.len());
        for (key, value) in entries {
            self.emit(out, b"", key.len());
            out.extend_from_slice(&key);
            out.extend_from_slice(&value);
        }
        Some(())
    }

    fn array(&mut self, depth: usize, out: &mut Vec<u8>) -> Option<()> {
        self.scanner.take();
        let mut elements = Vec::new();
        let mut count = 0_usize;
        self.blanks();
        if !self.scanner.eat(b']') {
            loop {
                self.value(depth + 1, &mut elements)?;
                count += 1;
                if !self.more(b']')? {
                    break;
                }
            }
        }
        self.emit(out, b"[", count);
        out.append(&mut elements);
        Some(())
    }

    /// Behind an element: whether another one follows. `None` where neither a comma nor the end stands.
    fn more(&mut self, end: u8) -> Option<bool> {
        self.blanks();
        if self.scanner.eat(b',') {
            return Some(true);
        }
        self.expect(end).map(|()| false)
    }

    fn tagged_string(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let mut text = Vec::new();
        self.string(&mut text)?;
        self.emit(out, b"\"", text.len());
        out.append(&mut text);
        Some(())
    }

    /// Takes a string and writes its characters. A lone surrogate, which no Unicode text can hold, is written in the
    /// bytes that UTF-8 would give it, so that it stays different from everything else.
    fn string(&mut self, out: &mut Vec<u8>) -> Option<()> {
        self.expect(b'"')?;
        loop {
            let plain = self.scanner.take_while(|byte| byte != b'"' && byte != b'\\' && byte >= 0x20);
            if !self.quiet {
                out.extend_from_slice(plain);
            }
            match self.scanner.take()? {
                b'"' => return Some(()),
                b'\\' => self.escape(out)?,
                _ => return None,
            }
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let byte = match self.scanner.take()? {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'b' => 8,
            b'f' => 12,
            byte @ (b'"' | b'\\' | b'/') => byte,
            b'u' => {
                let first = self.hex()?;
                return self.unicode(first, out);
            }
            _ => return None,
        };
        if !self.quiet {
            out.push(byte);
        }
        Some(())
    }

    fn unicode(&mut self, first: u32, out: &mut Vec<u8>) -> Option<()> {
        let mut code = first;
        if (0xD800..0xDC00).contains(&first) {
            let mut ahead = Reader { scanner: self.scanner, quiet: true };
            if ahead.scanner.eat(b'\\') && ahead.scanner.eat(b'u') {
                let second = ahead.hex()?;
                if (0xDC00..0xE000).contains(&second) {
                    code = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
                    self.scanner = ahead.scanner;
                }
            }
        }
        if self.quiet {
            return Some(());
        }
        match char::from_u32(code) {
            Some(character) => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            None => {
                let units = [0xE0 | (code >> 12), 0x80 | ((code >> 6) & 0x3F), 0x80 | (code & 0x3F)];
                out.extend(units.into_iter().filter_map(|unit| u8::try_from(unit).ok()));
            }
        }
        Some(())
    }

    fn hex(&mut self) -> Option<u32> {
        (0..4).try_fold(0, |code, _| Some(code * 16 + char::from(self.scanner.take()?).to_digit(16)?))
    }

    fn number(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let literal = self.scanner.take_while(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E'));
        let literal = std::str::from_utf8(literal).ok()?;
        if !is_json_number(literal) {
            return None;
        }
        let number = Number::parse(literal)?;
        if !self.quiet {
            let mut bytes = Vec::with_capacity(literal.len() + 9);
            number.write_canonical(&mut bytes);
            self.emit(out, b"0", bytes.len());
            out.append(&mut bytes);
        }
        Some(())
    }

    fn word(&mut self, word: &str, tag: u8, out: &mut Vec<u8>) -> Option<()> {
        for byte in word.bytes() {
            self.expect(byte)?;
        }
        if !self.quiet {
            out.push(tag);
        }
        Some(())
    }

    fn emit(&self, out: &mut Vec<u8>, tag: &[u8], length: usize) {
        if !self.quiet {
            out.extend_from_slice(tag);
            out.extend_from_slice(&u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes());
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.scanner.eat(byte).then_some(())
    }

    fn blanks(&mut self) {
        self.scanner.take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    }
}

/// `-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?`
fn is_json_number(literal: &str) -> bool {
    let mut scanner = Scanner::new(literal);
    scanner.eat(b'-');
    let digits = |scanner: &mut Scanner<'_>| !scanner.take_while(|byte| byte.is_ascii_digit()).is_empty();
    if !scanner.eat(b'0') && !digits(&mut scanner) {
        return false;
    }
    if scanner.eat(b'.') && !digits(&mut scanner) {
        return false;
    }
    if scanner.eat(b'e') || scanner.eat(b'E') {
        if !scanner.eat(b'-') {
            scanner.eat(b'+');
        }
        if !digits(&mut scanner) {
            return false;
        }
    }
    scanner.at_end()
}
