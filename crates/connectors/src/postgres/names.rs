//! Names as PostgreSQL spells them: identifiers, quoting, `schema.table`, and the names of what Concord makes.
//! Everything that ends up inside a statement as a name goes through [`quote`]; nothing else may build one.

use concord_engine::error::{Code, Error, Result};
use concord_engine::record::ObjectName;
use std::fmt::Write as _;

/// The most bytes in an identifier of a server built as usual (`NAMEDATALEN - 1`).
const IDENTIFIER_BYTES_MAX: usize = 63;

/// A table's name in its two parts, unquoted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TableName {
    /// The schema.
    pub schema: String,
    /// The table.
    pub table: String,
}

impl TableName {
    /// Reads what a person writes: `accounts`, `Sales.Accounts` (folded to lower case, as SQL does) or
    /// `"Odd name"."x.y"` (kept as it is). Without a schema, `default_schema` is meant.
    pub fn parse(text: &str, default_schema: &str) -> Result<TableName> {
        let mut parts = Vec::new();
        let mut rest = text.trim();
        loop {
            let (part, behind) = identifier(rest).ok_or_else(|| malformed(text))?;
            parts.push(part);
            match behind.strip_prefix('.') {
                Some(next) => rest = next,
                None if behind.is_empty() => break,
                None => return Err(malformed(text)),
            }
        }
        let mut parts = parts.into_iter();
        match (parts.next(), parts.next(), parts.next()) {
            (Some(table), None, _) => Ok(TableName { schema: default_schema.to_owned(), table }),
            (Some(schema), Some(table), None) => Ok(TableName { schema, table }),
            _ => Err(malformed(text)),
        }
    }

    /// The spelling that the engine uses for the object: quotes only where an identifier needs them.
    pub fn object(&self) -> ObjectName {
        ObjectName::from(format!("{}.{}", spell(&self.schema), spell(&self.table)))
    }

    /// The spelling for a statement: always quoted.
    pub fn sql(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.table))
    }
}

fn malformed(text: &str) -> Error {
    Error::new(
        Code::ObjectMissing,
        format!("{text:?} is not a table's name; write `table`, `schema.table` or `\"Schema\".\"Table\"`"),
    )
}

/// Takes one identifier off the front, and what stands behind it.
fn identifier(text: &str) -> Option<(String, &str)> {
    match text.strip_prefix('"') {
        Some(quoted) => quoted_identifier(quoted),
        None => {
            let end = text.find('.').unwrap_or(text.len());
            let (name, behind) = text.split_at_checked(end)?;
            let plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '$');
            plain.then(|| (name.to_lowercase(), behind))
        }
    }
}

/// Reads up to the closing quote; a doubled quote is one.
fn quoted_identifier(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let (before, behind) = rest.split_once('"')?;
        name.push_str(before);
        match behind.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return (!name.is_empty()).then_some((name, behind)),
        }
    }
}

/// An identifier as a person would write it: quoted only if it would otherwise mean something else.
fn spell(name: &str) -> String {
    let mut characters = name.chars();
    let begins = characters.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_');
    let goes_on = characters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '$');
    if begins && goes_on { name.to_owned() } else { quote(name) }
}

/// An identifier for a statement.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text literal for a statement: only for what cannot be a parameter, and only for names of our own.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The names of what one connection of one installation makes at the server, and of its sessions.
/// A slot's name is unique in the whole cluster, so it names the connection too: two databases of one
/// server may both be connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnNames {
    /// The replication slot, the publication and the feed.
    pub slot: String,
    /// What the application names of our sessions begin with.
    pub sessions: String,
    /// What the names of all slots and publications of the installation begin with.
    of_installation: String,
}

impl OwnNames {
    /// The names for an installation's connection.
    pub fn new(installation: &str, connection: &str) -> OwnNames {
        let installation = shorten(installation, 16);
        let connection = shorten(connection, 20);
        let mut slot = format!("concord_{installation}");
        if !connection.is_empty() {
            let _ = write!(slot, "_{connection}");
        }
        slot.truncate(IDENTIFIER_BYTES_MAX);
        let of_installation = format!("concord_{installation}_");
        OwnNames { slot, sessions: format!("concord:{installation}:{connection}"), of_installation }
    }

    /// What the names of all slots and publications of the installation begin with.
    pub fn of_installation(&self) -> String {
        self.of_installation.clone()
    }

    /// The application name of one process's writing sessions; `process` tells processes apart.
    pub fn writers(&self, process: &str) -> String {
        format!("{}{process}", self.writers_prefix())
    }

    /// What the application names of all our writing sessions begin with, whichever process they belong to.
    pub fn writers_prefix(&self) -> String {
        format!("{}:apply:", self.sessions)
    }
}

/// A name made of `a-z 0-9 _` and at most `length_max` long. One that had to be changed ends in a hash of what it
/// was, so that two names stay two.
fn shorten(name: &str, length_max: usize) -> String {
    let kept: String = name.chars().map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '_' }).collect();
    if kept == name && kept.len() <= length_max {
        return kept;
    }
    let head: String = kept.chars().take(length_max.saturating_sub(9)).collect();
    format!("{head}_{:08x}", hash(name))
}

/// FNV-1a, 32 bits: stable for ever, which the standard library's hasher does not promise.
fn hash(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        TableName::parse(text, "public").map_or_else(|error| error.code.to_string(), |name| name.object().to_string())
    }

    #[test]
    fn names_are_read_as_sql_reads_them_and_spelt_with_quotes_only_where_needed() {
        assert_eq!(read("accounts"), "public.accounts");
        assert_eq!(read("Sales.Accounts"), "sales.accounts");
        assert_eq!(read("\"odd name\".\"x.y\""), "\"odd name\".\"x.y\"");
        assert_eq!(read("\"plain\".t"), "plain.t");
        assert_eq!(read("\"a\"\"b\""), "public.\"a\"\"b\"");
        assert_eq!(read("größe"), "public.\"größe\"");
    }

    #[test]
    fn what_is_not_a_name_is_refused() {
        for text in ["", ".", "a.", ".a", "a.b.c", "a b", "\"a", "\"\"", "a;drop table b", "\"a\"b"] {
            assert_eq!(read(text), "CON-2005", "{text}");
        }
    }

    #[test]
    fn a_spelling_reads_back_as_the_same_name() {
        for (schema, table) in [("public", "t"), ("Odd", "a.b"), ("q\"q", "ü"), ("1st", "select")] {
            let name = TableName { schema: schema.into(), table: table.into() };
            assert_eq!(TableName::parse(name.object().as_str(), "other").unwrap(), name);
        }
    }

    #[test]
    fn names_of_our_own_are_legal_and_stay_distinct() {
        let long = "7b0f0a50-93f4-4b0e-8a8e-2f4f8c1d2e3f";
        let a = OwnNames::new(long, "crm-a");
        let b = OwnNames::new(long, "crm_a");
        assert_ne!(a.slot, b.slot);
        for names in [a, b, OwnNames::new("X", "A very long name of a connection, with blanks")] {
            assert!(
                names.slot.len() <= 63 && names.slot.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            );
            assert!(names.writers("01234567").len() <= 63);
        }
    }
}
