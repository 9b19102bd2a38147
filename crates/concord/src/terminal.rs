//! What a person sees: colours only where a terminal shows them, findings with the line they are about, tables.
//! Decides nothing. Never prints a line of a configuration that could hold a secret.

use comfy_table::{ContentArrangement, Table, presets};
use concord_engine::error::Error;
use serde::Serialize;
use std::io::{IsTerminal, Write};

/// Where output goes, and in which form.
#[derive(Clone, Copy, Debug)]
pub struct Terminal {
    /// One JSON document on standard output instead of text.
    pub json: bool,
    out_colour: bool,
    err_colour: bool,
}

/// The few ways in which text stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// An error.
    Bad,
    /// A warning.
    Careful,
    /// As it should be.
    Good,
    /// What a line is about.
    Strong,
    /// Of less weight.
    Dim,
}

impl Style {
    fn sequence(self) -> &'static str {
        match self {
            Style::Bad => "\x1b[1;31m",
            Style::Careful => "\x1b[1;33m",
            Style::Good => "\x1b[32m",
            Style::Strong => "\x1b[1m",
            Style::Dim => "\x1b[2m",
        }
    }
}

/// One thing found wrong or worth knowing, however it was found.
#[derive(Clone, Debug, Serialize)]
pub struct Notice {
    /// The stable code, `CON-1003`; empty for a statement of fact.
    pub code: String,
    /// `error`, `warning`, `advice` or `fine`.
    pub severity: &'static str,
    /// One sentence.
    pub message: String,
    /// `file:line:column`, or the system or object.
    pub place: Option<String>,
    /// The failure behind it, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// What to do.
    pub remedy: String,
}

impl Notice {
    /// An error as a notice.
    pub fn of(error: &Error) -> Notice {
        Notice {
            code: error.code.to_string(),
            severity: "error",
            message: error.message.clone(),
            place: error.at.clone(),
            because: because(error),
            remedy: error.code.remedy().to_string(),
        }
    }

    fn style(&self) -> Style {
        match self.severity {
            "error" => Style::Bad,
            "warning" => Style::Careful,
            "fine" => Style::Good,
            _ => Style::Strong,
        }
    }
}

/// Characters of a value that a line shows.
const VALUE_SHOWN_MAX: usize = 80;

/// A value for a line of text; the JSON has all of it.
pub fn short(value: &str) -> String {
    match value.char_indices().nth(VALUE_SHOWN_MAX).and_then(|(end, _)| value.get(..end)) {
        Some(begins) => format!("{begins}… ({} characters)", value.chars().count()),
        None => value.to_owned(),
    }
}

impl Terminal {
    /// Looks at where standard output and standard error go. `NO_COLOR` is honoured.
    pub fn detect(json: bool) -> Terminal {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Terminal {
            json,
            out_colour: wanted && !json && std::io::stdout().is_terminal(),
            err_colour: wanted && std::io::stderr().is_terminal(),
        }
    }

    /// Whether standard output is a terminal that shows colours.
    pub fn is_live(&self) -> bool {
        self.out_colour
    }

    /// Text in a style, for standard output.
    pub fn paint(&self, style: Style, text: &str) -> String {
        painted(self.out_colour, style, text)
    }

    /// A line on standard output. A reader that went away (`| head`) ends the output, not the command.
    pub fn line(&self, text: &str) {
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }

    /// A JSON document on standard output.
    pub fn document(&self, value: &impl Serialize) {
        match serde_json::to_string_pretty(value) {
            Ok(text) => self.line(&text),
            Err(error) => self.complain(&Notice::of(&Error::new(concord_engine::error::Code::Internal, error.to_string()))),
        }
    }

    /// A notice on standard error, as good compilers print theirs.
    pub fn complain(&self, notice: &Notice) {
        let _ = write!(std::io::stderr().lock(), "{}", render(notice, self.err_colour));
    }

    /// A remark on standard error.
    pub fn remark(&self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// A table with a heading line, as wide as the terminal.
    pub fn table(&self, heading: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(heading.iter().map(|name| name.to_uppercase()));
        for row in rows {
            table.add_row(row);
        }
        let text = table.to_string();
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        lines.join("\n")
    }
}

fn painted(colour: bool, style: Style, text: &str) -> String {
    if colour { format!("{}{text}\x1b[0m", style.sequence()) } else { text.to_string() }
}

/// What stands behind an error, from the nearest to the first; each said once.
fn because(error: &Error) -> Option<String> {
    let mut source = std::error::Error::source(error)?;
    let mut text = source.to_string();
    while let Some(next) = source.source() {
        let more = next.to_string();
        if more.ends_with(&text) {
            text = more;
        } else if !text.contains(&more) {
            text.push_str(&format!(": {more}"));
        }
        source = next;
    }
    Some(text)
}

/// A notice as text: code and message, place, the line with a caret below it, what is behind it, remedy. What is as it
/// should be takes one line.
fn render(notice: &Notice, colour: bool) -> String {
    let mut text = String::new();
    if let ("fine", Some(place)) = (notice.severity, &notice.place) {
        return format!("{}: {place}: {}\n", painted(colour, Style::Good, "fine"), notice.message);
    }
    let label =
        if notice.code.is_empty() { notice.severity.to_string() } else { format!("{}[{}]", notice.severity, notice.code) };
    text.push_str(&format!("{}: {}\n", painted(colour, notice.style(), &label), painted(colour, Style::Strong, &notice.message)));
    if let Some(place) = &notice.place {
        let bar = |text: &str| painted(colour, Style::Dim, text);
        let excerpt = Excerpt::read(place);
        let width = excerpt.as_ref().map_or(2, |excerpt| excerpt.number.len());
        text.push_str(&format!("{:width$}{} {place}\n", "", bar("-->")));
        if let Some(excerpt) = excerpt {
            text.push_str(&format!("{:width$} {}\n", "", bar("|")));
            text.push_str(&format!("{} {} {}\n", bar(&excerpt.number), bar("|"), excerpt.line));
            text.push_str(&format!(
                "{:width$} {} {}{}\n",
                "",
                bar("|"),
                excerpt.indent,
                painted(colour, notice.style(), &"^".repeat(excerpt.length))
            ));
        }
    }
    if let Some(because) = &notice.because {
        text.push_str(&format!("{}because: {because}\n", painted(colour, Style::Dim, "  = ")));
    }
    if !notice.remedy.is_empty() {
        for (number, line) in notice.remedy.lines().enumerate() {
            let lead = if number == 0 { "  = " } else { "    " };
            text.push_str(&format!("{}{line}\n", painted(colour, Style::Dim, lead)));
        }
    }
    text
}

/// The line that a notice is about.
struct Excerpt {
    number: String,
    line: String,
    indent: String,
    length: usize,
}

/// The longest line shown; longer ones (a file without line breaks) are shown around the place.
const EXCERPT_CHARS_MAX: usize = 160;

impl Excerpt {
    /// Reads the line from the file that the place names; nothing when that is not possible.
    fn read(place: &str) -> Option<Excerpt> {
        let (rest, column) = place.rsplit_once(':')?;
        let (file, line) = rest.rsplit_once(':')?;
        let (line, column): (usize, usize) = (line.parse().ok()?, column.parse().ok()?);
        let text = std::fs::read_to_string(file).ok()?;
        Excerpt::of(&text, line, column)
    }

    fn of(text: &str, line: usize, column: usize) -> Option<Excerpt> {
        let written = text.lines().nth(line.checked_sub(1)?)?.trim_end();
        if may_hold_secret(written) {
            return None;
        }
        let column = column.checked_sub(1)?;
        let from = if column >= EXCERPT_CHARS_MAX { column.saturating_sub(20) } else { 0 };
        let shown: String = written.chars().skip(from).take(EXCERPT_CHARS_MAX).collect();
        let indent: String =
            shown.chars().take(column.saturating_sub(from)).map(|letter| if letter == '\t' { '\t' } else { ' ' }).collect();
        let length = token_length(shown.chars().skip(column.saturating_sub(from)));
        Some(Excerpt { number: line.to_string(), line: shown, indent, length })
    }
}

/// Whether a line could hold a secret: it is not shown then, only its place.
fn may_hold_secret(line: &str) -> bool {
    let lower = line.to_lowercase();
    ["password", "passwd", "secret", "token", "private_key", "api_key", "apikey", "passphrase", "://"]
        .iter()
        .any(|word| lower.contains(word))
}

/// How long the word is that begins here: text in quotes as a whole.
fn token_length(mut rest: impl Iterator<Item = char>) -> usize {
    let Some(first) = rest.next() else { return 1 };
    if first != '"' && first != '\'' {
        return 1 + rest.take_while(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '-' | '.' | '+')).count();
    }
    let mut length = 1;
    let mut escaped = false;
    for letter in rest {
        length += 1;
        if letter == first && !escaped {
            return length;
        }
        escaped = letter == '\\' && !escaped;
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_is_shown_by_its_beginning() {
        assert_eq!(short("Leeds"), "Leeds");
        assert_eq!(short(&"ü".repeat(80)), "ü".repeat(80));
        assert_eq!(short(&"ü".repeat(1_000)), format!("{}… (1000 characters)", "ü".repeat(80)));
    }

    #[test]
    fn a_notice_shows_the_line_and_points_at_the_word() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("accounts.json");
        std::fs::write(&path, "{\n  \"name\": \"accounts\",\n  \"sync_typ\": \"bidirectional\"\n}\n").unwrap();
        let notice = Notice {
            code: "CON-1003".into(),
            severity: "error",
            message: "unknown key `sync_typ`".into(),
            place: Some(format!("{}:3:3", path.display())),
            because: None,
            remedy: "Write `sync_type`.".into(),
        };
        let expected = format!(
            "error[CON-1003]: unknown key `sync_typ`\n --> {}:3:3\n  |\n3 |   \"sync_typ\": \"bidirectional\"\n  |   ^^^^^^^^^^\n  = Write `sync_type`.\n",
            path.display()
        );
        assert_eq!(render(&notice, false), expected);
    }

    #[test]
    fn a_line_that_could_hold_a_secret_is_never_shown() {
        let text = "{\n  \"password\": \"hunter2\"\n}\n";
        assert!(Excerpt::of(text, 2, 15).is_none());
        assert!(Excerpt::of("url: postgres://me:hunter2@host/db\n", 1, 1).is_none());
    }

    #[test]
    fn a_very_long_line_is_shown_around_the_place() {
        let text = format!("{}\"wrong\"{}", " ".repeat(5000), "x".repeat(5000));
        let excerpt = Excerpt::of(&text, 1, 5001).unwrap();
        assert!(excerpt.line.chars().count() <= EXCERPT_CHARS_MAX);
        assert_eq!((excerpt.indent.len(), excerpt.length), (20, 7));
    }

    #[test]
    fn a_place_that_is_no_file_is_printed_alone() {
        let error = Error::new(concord_engine::error::Code::Unreachable, "connection refused").at("crm");
        let text = render(&Notice::of(&error), false);
        assert!(text.starts_with("error[CON-2001]: connection refused\n  --> crm\n  = "), "{text}");
    }

    #[test]
    fn colours_appear_only_when_asked_for() {
        assert_eq!(painted(false, Style::Bad, "x"), "x");
        assert_eq!(painted(true, Style::Bad, "x"), "\x1b[1;31mx\x1b[0m");
    }
}
