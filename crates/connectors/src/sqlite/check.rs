//! What stands in the way of a sync with this file, found before anything is changed. Only looks.

use super::config::SqliteSettings;
use super::errors::classify;
use super::schema::{Table, quoted};
use concord_engine::connector::{Finding, Severity};
use concord_engine::error::{Code, Result};
use concord_engine::record::ObjectName;
use rusqlite::Connection;

/// Every finding about the file and these objects.
pub(super) fn check(connection: &Connection, settings: &SqliteSettings, objects: &[ObjectName]) -> Result<Vec<Finding>> {
    let mut findings = vec![file(connection, settings)?];
    findings.extend(journal(connection)?);
    for object in objects {
        match Table::load(connection, object.as_str())? {
            Some(table) => findings.extend(self::table(connection, &table)?),
            None => findings.push(problem(
                object.as_str(),
                Code::ObjectMissing,
                format!("there is no table {object} in the file; views and virtual tables cannot take part"),
                "Correct the table's name: it is compared letter by letter.".to_owned(),
            )),
        }
    }
    Ok(findings)
}

fn file(connection: &Connection, settings: &SqliteSettings) -> Result<Finding> {
    let about = settings.path.display().to_string();
    let read_only = connection.is_readonly("main").map_err(|error| classify(error, "looking at the file"))?;
    if read_only || std::fs::metadata(&settings.path).is_ok_and(|data| data.permissions().readonly()) {
        let remedy = format!("chmod u+w {about}");
        return Ok(problem(&about, Code::FileReadOnly, "the file may be read but not written".to_owned(), remedy));
    }
    let version = rusqlite::version();
    Ok(finding(&about, None, format!("the file can be read and written (SQLite {version})"), String::new(), Severity::Fine))
}

fn journal(connection: &Connection) -> Result<Option<Finding>> {
    let mode: String = connection
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .map_err(|error| classify(error, "reading the journal mode"))?;
    Ok((!mode.eq_ignore_ascii_case("wal")).then(|| {
        finding(
            "journal_mode",
            None,
            format!("journal_mode is {mode}: readers and writers of the file wait for each other"),
            "PRAGMA journal_mode = WAL;".to_owned(),
            Severity::Advice,
        )
    }))
}

fn table(connection: &Connection, table: &Table) -> Result<Vec<Finding>> {
    let name = table.name.as_str();
    if table.key.is_empty() {
        let remedy = format!("CREATE UNIQUE INDEX concord_key ON {} (…) over columns that are NOT NULL", quoted(name));
        let message = format!(
            "the table {name} has no key: a table without one can be mirrored into it, one way, by appending what is inserted; it can take \
             part in nothing else"
        );
        return Ok(vec![finding(name, Some(Code::KeyMissing), message, remedy, Severity::Warning)]);
    }
    let mut findings = Vec::new();
    for column in table.key_columns().filter(|column| column.nullable) {
        let text = format!("SELECT EXISTS (SELECT 1 FROM {} WHERE {} IS NULL)", quoted(name), quoted(&column.name));
        let there: bool =
            connection.query_row(&text, [], |row| row.get(0)).map_err(|error| classify(error, "looking for empty keys"))?;
        findings.push(finding(
            &format!("{name}.{}", column.name),
            None,
            if there {
                "there are rows whose key is NULL: they are no records, and are left out".to_owned()
            } else {
                "SQLite allows NULL in this key; a row with it would be left out".to_owned()
            },
            "Declare the column NOT NULL.".to_owned(),
            if there { Severity::Warning } else { Severity::Advice },
        ));
    }
    if table.has_odd_unique {
        findings.push(finding(
            name,
            None,
            "a unique index stands over an expression or over part of the rows: a row that INSERT OR REPLACE removes through it is not noticed"
                .to_owned(),
            "Use INSERT … ON CONFLICT DO UPDATE on this table rather than REPLACE.".to_owned(),
            Severity::Warning,
        ));
    }
    if findings.is_empty() {
        let key: Vec<&str> = table.key_columns().map(|column| column.name.as_str()).collect();
        findings.push(finding(name, None, format!("the key is {}", key.join(", ")), String::new(), Severity::Fine));
    }
    Ok(findings)
}

fn problem(about: &str, code: Code, message: String, remedy: String) -> Finding {
    finding(about, Some(code), message, remedy, Severity::Problem)
}

fn finding(about: &str, code: Option<Code>, message: String, remedy: String, severity: Severity) -> Finding {
    Finding { code, about: about.to_owned(), message, remedy, severity }
}
