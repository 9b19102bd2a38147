//! JSON as people write it: with comments, trailing commas and any white space, into a tree with places.

use super::diagnostic::Diagnostic;
use super::node::{Entry, Kind, Node, Place, Table};
use crate::error::Code;
use jsonc_parser::ast;
use jsonc_parser::{CollectOptions, ParseOptions};
use std::sync::Arc;

/// How deep a document may nest.
pub(crate) const DEPTH_MAX: usize = 64;

/// Reads a document; `None` where it holds nothing but white space and comments.
pub(crate) fn parse(file: &Arc<str>, text: &str) -> Result<Option<Node>, Diagnostic> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = Lines::new(file, text);
    let options = ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    let parsed = jsonc_parser::parse_to_ast(text, &CollectOptions::default(), &options).map_err(|error| {
        let place = lines.place(error.range().start);
        Diagnostic::error(Code::ConfigSyntax, format!("the document is not JSON: {}", in_words(error.kind()))).at(place)
    })?;
    parsed.value.map(|value| node(&lines, value, 0)).transpose()
}

fn in_words(kind: &jsonc_parser::errors::ParseErrorKind) -> String {
    let text = kind.to_string();
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => text,
    }
}

fn node(lines: &Lines, value: ast::Value<'_>, depth: usize) -> Result<Node, Diagnostic> {
    use jsonc_parser::common::Ranged;
    let place = lines.place(value.range().start);
    if depth > DEPTH_MAX {
        let message = format!("the document nests deeper than {DEPTH_MAX} levels");
        return Err(Diagnostic::error(Code::ConfigSyntax, message).at(place));
    }
    let kind = match value {
        ast::Value::NullKeyword(_) => Kind::Null,
        ast::Value::BooleanLit(literal) => Kind::Bool(literal.value),
        ast::Value::StringLit(literal) => Kind::Text(literal.value.into_owned()),
        ast::Value::NumberLit(literal) => Kind::Number(number(literal.value).map_err(|error| error.at(&place))?),
        ast::Value::Array(array) => {
            let items: Result<Vec<Node>, Diagnostic> =
                array.elements.into_iter().map(|item| node(lines, item, depth + 1)).collect();
            Kind::List(items?)
        }
        ast::Value::Object(object) => {
            let mut table = Table::new();
            for property in object.properties {
                let place = lines.place(property.range().start);
                let value = node(lines, property.value, depth + 1)?;
                table.push(Entry { key: property.name.into_string(), place, value });
            }
            Kind::Table(table)
        }
    };
    Ok(Node { kind, place })
}

/// A number, if JSON's numbers can keep every digit of it: nothing is rounded in silence.
pub(crate) fn number(text: &str) -> Result<serde_json::Number, Diagnostic> {
    let number: serde_json::Number =
        serde_json::from_str(text).map_err(|_| Diagnostic::error(Code::ConfigSyntax, "this is not a number"))?;
    if number.is_f64() && digits(text) > 15 && number.to_string() != text {
        // The number is not repeated: it might be a secret that somebody wrote plainly.
        let message = "the number has more digits than a number here keeps";
        return Err(Diagnostic::error(Code::ConfigSyntax, message).instead("Write it as text, in quotes."));
    }
    Ok(number)
}

fn digits(text: &str) -> usize {
    let mantissa = text.split(['e', 'E']).next().unwrap_or(text);
    mantissa.chars().filter(char::is_ascii_digit).skip_while(|digit| *digit == '0').count()
}

/// Turns byte offsets into lines and columns (both from 1, columns in characters).
struct Lines<'a> {
    file: &'a Arc<str>,
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(file: &'a Arc<str>, text: &'a str) -> Lines<'a> {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Lines { file, text, starts: std::iter::once(0).chain(ends).collect() }
    }

    fn place(&self, offset: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let column = self.text.get(start..offset).map_or(0, |before| before.chars().count()) + 1;
        Place { file: self.file.clone(), line, column }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Node>, Diagnostic> {
        parse(&Arc::from("a.json"), text)
    }

    #[test]
    fn comments_trailing_commas_and_pasted_blanks_are_fine() {
        let text = "\u{feff}// accounts\n{\u{a0}\"a\":\u{2003}[1, /* two */ 2,],\u{a0}}\n";
        let node = read(text).unwrap().unwrap();
        assert_eq!(node.to_json(), serde_json::json!({"a": [1, 2]}));
    }

    #[test]
    fn a_place_counts_lines_and_characters_from_one() {
        let node = read("{\n  \"ä\": true, \"b\": null\n}").unwrap().unwrap();
        assert_eq!(node.get("b").unwrap().place.to_string(), "a.json:2:19");
    }

    #[test]
    fn what_is_not_json_is_said_with_its_place() {
        let error = read("{\n  \"a\": ,\n}").unwrap_err();
        assert_eq!(error.code, Code::ConfigSyntax);
        assert_eq!(error.place.as_deref(), Some("a.json:2:8"));
    }

    #[test]
    fn a_number_that_would_be_rounded_is_refused() {
        let error = read("{\"a\": 0.1234567890123456789}").unwrap_err();
        assert_eq!(error.remedy, "Write it as text, in quotes.");
        assert_eq!(read("18446744073709551615").unwrap().unwrap().to_json(), serde_json::json!(u64::MAX));
    }

    #[test]
    fn a_document_that_nests_without_end_is_refused() {
        assert!(read(&"[".repeat(100_000)).is_err());
        let error = read(&format!("{}{}", "[".repeat(80), "]".repeat(80))).unwrap_err();
        assert!(error.message.contains("64 levels"));
    }

    #[test]
    fn an_empty_document_holds_nothing() {
        assert!(read(" // nothing yet\n").unwrap().is_none());
    }
}
