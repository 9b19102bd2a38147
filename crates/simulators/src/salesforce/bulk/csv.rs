//! CSV as Bulk API reads and writes it: delimiters by name, line ends by name, every written cell between quotes.

use serde_json::Value as Json;

/// Delimiter and line end of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    pub delimiter: u8,
    pub crlf: bool,
}

impl Format {
    /// Names: COMMA, TAB, PIPE, SEMICOLON, CARET, BACKQUOTE; LF, CRLF.
    pub fn of(delimiter: &str, line_end: &str) -> Option<Self> {
        let delimiter = match delimiter {
            "COMMA" => b',',
            "TAB" => b'\t',
            "PIPE" => b'|',
            "SEMICOLON" => b';',
            "CARET" => b'^',
            "BACKQUOTE" => b'`',
            _ => return None,
        };
        matches!(line_end, "LF" | "CRLF").then_some(Self { delimiter, crlf: line_end == "CRLF" })
    }

    /// As a job's body asks for it; none where a name is unknown.
    pub fn asked(body: &Json) -> Option<Self> {
        let text = |key: &str, default: &'static str| body.get(key).and_then(Json::as_str).unwrap_or(default).to_string();
        Self::of(&text("columnDelimiter", "COMMA"), &text("lineEnding", "LF"))
    }

    pub fn delimiter_name(self) -> &'static str {
        match self.delimiter {
            b'\t' => "TAB",
            b'|' => "PIPE",
            b';' => "SEMICOLON",
            b'^' => "CARET",
            b'`' => "BACKQUOTE",
            _ => "COMMA",
        }
    }

    pub fn line_end_name(self) -> &'static str {
        if self.crlf { "CRLF" } else { "LF" }
    }

    /// Header and rows; an error where a row has another width.
    pub fn read(self, bytes: &[u8]) -> Result<(Vec<String>, Vec<Vec<String>>), String> {
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let mut reader = csv::ReaderBuilder::new().delimiter(self.delimiter).flexible(true).from_reader(bytes);
        let text = |record: &csv::StringRecord| record.iter().map(String::from).collect::<Vec<_>>();
        let header = text(reader.headers().map_err(|error| error.to_string())?);
        let mut rows = Vec::new();
        for row in reader.records() {
            rows.push(text(&row.map_err(|error| error.to_string())?));
        }
        Ok((header, rows))
    }

    /// Every cell between quotes.
    pub fn write<'a>(self, rows: impl IntoIterator<Item = &'a Vec<String>>) -> Vec<u8> {
        let mut text = Vec::new();
        for row in rows {
            for (at, cell) in row.iter().enumerate() {
                if at > 0 {
                    text.push(self.delimiter);
                }
                text.push(b'"');
                text.extend(cell.replace('"', "\"\"").bytes());
                text.push(b'"');
            }
            text.extend(if self.crlf { &b"\r\n"[..] } else { b"\n" });
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let format = Format::of("PIPE", "CRLF").expect("a format");
        let rows = vec![vec!["Name".to_string(), "Note".to_string()], vec!["A \"B\"|C".to_string(), "two\nlines".to_string()]];
        let (header, read) = format.read(&format.write(&rows)).expect("CSV");
        assert_eq!(header, rows[0]);
        assert_eq!(read, [rows[1].clone()]);
    }

    #[test]
    fn unknown_names_are_refused() {
        assert_eq!(Format::of("COLON", "LF"), None);
        assert_eq!(Format::of("COMMA", "CR"), None);
    }
}
