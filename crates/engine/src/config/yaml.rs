//! YAML into the same tree as JSON, with places. Plain scalars are read as YAML 1.2's core schema says, so `no` and
//! `on` are texts. Aliases are followed within a limit, so that a small document cannot grow without end.

use super::diagnostic::Diagnostic;
use super::json::{self, DEPTH_MAX};
use super::node::{Entry, Kind, Node, Place, Table};
use crate::error::Code;
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// How many values a document may hold, those that aliases repeat included.
const VALUES_MAX: usize = 1_000_000;

/// Reads a document; `None` where it holds nothing.
pub(crate) fn parse(file: &Arc<str>, text: &str) -> Result<Option<Node>, Diagnostic> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder { file, open: Vec::new(), anchors: HashMap::new(), root: None, values: 0 };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let place = builder.place(error.marker());
            Diagnostic::error(Code::ConfigSyntax, format!("the document is not YAML: {}", error.info())).at(place)
        })?;
        let place = builder.place(&span.start);
        builder.take(event, &place)?;
    }
    Ok(builder.root)
}

/// A list or table whose end has not been met yet.
struct Open {
    anchor: usize,
    place: Place,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    /// The entries, and the key that waits for its value.
    Table(Table, Option<(String, Place)>),
}

/// A value that an alias can repeat, with the number of values in it and the levels that it nests.
#[derive(Clone)]
struct Anchored {
    node: Node,
    size: usize,
    height: usize,
}

struct Builder<'a> {
    file: &'a Arc<str>,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    root: Option<Node>,
    values: usize,
}

impl Builder<'_> {
    fn place(&self, marker: &Marker) -> Place {
        Place { file: self.file.clone(), line: marker.line().max(1), column: marker.col() + 1 }
    }

    fn take(&mut self, event: Event<'_>, place: &Place) -> Result<(), Diagnostic> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let kind = scalar(&text, style, tag.as_ref()).map_err(|error| error.at(place))?;
                self.put(Node { kind, place: place.clone() }, anchor, 1)
            }
            Event::SequenceStart(anchor, _) => self.begin(anchor, place, Content::List(Vec::new())),
            Event::MappingStart(anchor, _) => self.begin(anchor, place, Content::Table(Table::new(), None)),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => {
                let Some(Anchored { node, size, height }) = self.anchors.get(&anchor).cloned() else {
                    return Err(wrong("an alias refers to a value that contains it", place));
                };
                self.stays_flat(height, place)?;
                self.put(node, 0, size)
            }
            Event::DocumentStart(_) if self.root.is_some() => {
                Err(wrong("the file holds more than one document; write each into a file of its own", place))
            }
            _ => Ok(()),
        }
    }

    fn stays_flat(&self, height: usize, place: &Place) -> Result<(), Diagnostic> {
        if self.open.len() + height > DEPTH_MAX {
            return Err(wrong(&format!("the document nests deeper than {DEPTH_MAX} levels"), place));
        }
        Ok(())
    }

    fn begin(&mut self, anchor: usize, place: &Place, content: Content) -> Result<(), Diagnostic> {
        self.stays_flat(0, place)?;
        self.open.push(Open { anchor, place: place.clone(), content });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Diagnostic> {
        let Some(Open { anchor, place, content }) = self.open.pop() else { return Ok(()) };
        let kind = match content {
            Content::List(items) => Kind::List(items),
            Content::Table(entries, _) => Kind::Table(entries),
        };
        let node = Node { kind, place };
        let size = if anchor == 0 { 1 } else { count(&node) };
        self.put(node, anchor, size)
    }

    fn put(&mut self, node: Node, anchor: usize, size: usize) -> Result<(), Diagnostic> {
        self.values = self.values.saturating_add(size);
        if self.values > VALUES_MAX {
            return Err(wrong(&format!("the document holds more than {VALUES_MAX} values"), &node.place));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, Anchored { node: node.clone(), size, height: height(&node) });
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Table(entries, waiting)) => match waiting.take() {
                Some((key, place)) => entries.push(Entry { key, place, value: node }),
                None => *waiting = Some((key_text(&node)?, node.place)),
            },
        }
        Ok(())
    }
}

fn wrong(message: &str, place: &Place) -> Diagnostic {
    Diagnostic::error(Code::ConfigSyntax, message).at(place)
}

fn count(node: &Node) -> usize {
    match &node.kind {
        Kind::List(items) => 1 + items.iter().map(count).sum::<usize>(),
        Kind::Table(entries) => 1 + entries.iter().map(|entry| count(&entry.value)).sum::<usize>(),
        _ => 1,
    }
}

fn height(node: &Node) -> usize {
    match &node.kind {
        Kind::List(items) => 1 + items.iter().map(height).max().unwrap_or(0),
        Kind::Table(entries) => 1 + entries.iter().map(|entry| height(&entry.value)).max().unwrap_or(0),
        _ => 0,
    }
}

/// A key is text; a number or a word like `true` counts as the text it was written as.
fn key_text(node: &Node) -> Result<String, Diagnostic> {
    match &node.kind {
        Kind::Text(text) => Ok(text.clone()),
        Kind::Number(number) => Ok(number.to_string()),
        Kind::Bool(value) => Ok(value.to_string()),
        Kind::Null => Ok("null".to_owned()),
        Kind::List(_) | Kind::Table(_) => Err(wrong("a key must be text", &node.place)),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Cow<'_, Tag>>) -> Result<Kind, Diagnostic> {
    let as_text = style != ScalarStyle::Plain || tag.is_some_and(|tag| tag.suffix == "str" || tag.handle == "!");
    if as_text {
        return Ok(Kind::Text(text.to_owned()));
    }
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Kind::Null,
        "true" | "True" | "TRUE" => Kind::Bool(true),
        "false" | "False" | "FALSE" => Kind::Bool(false),
        _ if serde_json::from_str::<serde_json::Number>(text).is_ok() => Kind::Number(json::number(text)?),
        _ => Kind::Text(text.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Node>, Diagnostic> {
        parse(&Arc::from("a.yaml"), text)
    }

    #[test]
    fn scalars_mean_what_the_core_schema_says() {
        let node = read("a: no\nb: true\nc: 12\nd: '12'\ne: ~\nf: 1.5\ng: 007\n").unwrap().unwrap();
        let expected = serde_json::json!({"a": "no", "b": true, "c": 12, "d": "12", "e": null, "f": 1.5, "g": "007"});
        assert_eq!(node.to_json(), expected);
    }

    #[test]
    fn a_place_counts_lines_and_characters_from_one() {
        let node = read("a:\n  b: [1, x]\n").unwrap().unwrap();
        assert_eq!(node.get("a").unwrap().get("b").unwrap().place.to_string(), "a.yaml:2:6");
    }

    #[test]
    fn an_alias_repeats_its_anchor() {
        let node = read("a: &x {p: 1}\nb: *x\n").unwrap().unwrap();
        assert_eq!(node.to_json(), serde_json::json!({"a": {"p": 1}, "b": {"p": 1}}));
    }

    #[test]
    fn aliases_cannot_make_a_document_grow_without_end() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let before = level - 1;
            let items = vec![format!("*a{before}"); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{items}]\n"));
        }
        assert!(read(&text).unwrap_err().message.contains("1000000 values"));
    }

    #[test]
    fn what_is_not_yaml_is_said_with_its_place() {
        let error = read("a: [1\nb: 2\n").unwrap_err();
        assert_eq!(error.code, Code::ConfigSyntax);
        assert!(error.place.unwrap().starts_with("a.yaml:"));
    }

    #[test]
    fn two_documents_in_a_file_are_refused() {
        assert!(read("a: 1\n---\nb: 2\n").unwrap_err().message.contains("more than one document"));
    }
}
