//! What capture keeps inside the user's file: its tables, the triggers that fill them, and the layouts by which a
//! change row is read. The triggers run in the user's own program, so they use nothing that an old SQLite lacks, store
//! values in plain untyped columns (every storage class survives, nothing is encoded), and name no other object.

use super::errors::classify;
use super::position::Place;
use super::schema::{Table, quoted};
use super::types::ColumnType;
use concord_engine::error::{Code, Error, Result};
use concord_engine::schema::Schema;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Milliseconds since 1970, from functions that every SQLite has.
pub(super) const NOW_MILLIS: &str =
    "(CAST(strftime('%s', 'now') AS INTEGER) * 1000 + CAST(substr(strftime('%f', 'now'), 4) AS INTEGER))";

const TABLES: &str = "
CREATE TABLE _concord_meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE _concord_mark (mark TEXT);
CREATE TABLE _concord_objects (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, fields TEXT NOT NULL, layout INTEGER NOT NULL);
CREATE TABLE _concord_layouts (id INTEGER PRIMARY KEY, layout TEXT NOT NULL);
CREATE TABLE _concord_replaced (object INTEGER NOT NULL);
CREATE TABLE _concord_changes (seq INTEGER PRIMARY KEY, layout INTEGER NOT NULL, operation TEXT NOT NULL,
                               at INTEGER NOT NULL, mark TEXT);
INSERT INTO _concord_mark VALUES (NULL);
";

const DROP_TABLES: &str = "
DROP TABLE IF EXISTS _concord_changes;
DROP TABLE IF EXISTS _concord_replaced;
DROP TABLE IF EXISTS _concord_layouts;
DROP TABLE IF EXISTS _concord_objects;
DROP TABLE IF EXISTS _concord_mark;
DROP TABLE IF EXISTS _concord_meta;
";

const TRIGGERS: [&str; 5] = ["insert", "update", "delete", "before_insert", "before_update"];

/// How the value columns of a change row are to be read, and what the table looked like then.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Layout {
    /// The table; its schema when the layout was made. A schema without fields: the table is gone.
    pub schema: Schema,
    /// The columns in `v0`, `v1`, …; behind them stand the key's columns as they were before the change.
    pub columns: Vec<LayoutColumn>,
    /// Places of the key's columns among `columns`, in the key's order.
    pub key: Vec<usize>,
}

/// One column of a layout.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LayoutColumn {
    pub name: String,
    declared: String,
    strict: bool,
}

impl LayoutColumn {
    pub fn ty(&self) -> ColumnType {
        ColumnType::new(&self.declared, self.strict)
    }
}

/// A captured object as the file knows it.
#[derive(Clone, Debug)]
pub(super) struct Captured {
    pub id: i64,
    pub name: String,
    /// The fields selected.
    pub fields: Vec<String>,
    pub layout: i64,
}

impl Layout {
    /// The layout of a table for these fields; the key's columns are part of it in any case.
    pub fn of(table: &Table, fields: &[String]) -> Layout {
        let wanted = |place: usize, name: &str| table.key.contains(&place) || fields.iter().any(|field| field == name);
        let places: Vec<usize> = table
            .columns
            .iter()
            .enumerate()
            .filter(|(place, column)| wanted(*place, &column.name))
            .map(|(place, _)| place)
            .collect();
        let columns = places
            .iter()
            .filter_map(|place| table.columns.get(*place))
            .map(|column| LayoutColumn {
                name: column.name.clone(),
                declared: column.ty.declared.clone(),
                strict: column.ty.strict,
            })
            .collect();
        let key = table.key.iter().filter_map(|key| places.iter().position(|place| place == key)).collect();
        Layout { schema: table.schema(), columns, key }
    }

    /// The layout of a table that is no longer there.
    pub fn gone(object: &str) -> Layout {
        let schema =
            Schema { object: object.into(), fields: Vec::new(), key: Vec::new(), unique: Vec::new(), indexes: Vec::new() };
        Layout { schema, columns: Vec::new(), key: Vec::new() }
    }

    fn width(&self) -> usize {
        self.columns.len().saturating_add(self.key.len())
    }
}

/// The id of the change table; `None` when there is no capture in this file.
pub(super) fn database(connection: &Connection) -> Result<Option<Uuid>> {
    let text = (|| {
        let there = connection
            .prepare_cached("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '_concord_meta'")?
            .exists([])?;
        if !there {
            return Ok(None);
        }
        connection
            .prepare_cached("SELECT value FROM _concord_meta WHERE name = 'database'")?
            .query_row([], |row| row.get::<_, String>(0))
            .optional()
    })()
    .map_err(|error| classify(error, "reading the capture's id"))?;
    Ok(text.and_then(|text| Uuid::try_parse(&text).ok()))
}

/// The number of the last change; zero without capture, which is before every change.
pub(super) fn last_seq(connection: &Connection) -> Result<i64> {
    if database(connection)?.is_none() {
        return Ok(0);
    }
    connection
        .prepare_cached("SELECT coalesce(max(seq), 0) FROM _concord_changes")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(|error| classify(error, "reading the last change"))
}

/// The position behind the last change.
pub(super) fn last_place(connection: &Connection, database: Uuid) -> Result<Place> {
    connection
        .prepare_cached("SELECT seq, at FROM _concord_changes ORDER BY seq DESC LIMIT 1")
        .and_then(|mut statement| {
            statement.query_row([], |row| Ok(Place { database, seq: row.get(0)?, stamp: row.get(1)? })).optional()
        })
        .map_err(|error| classify(error, "reading the last change"))?
        .ok_or_else(|| Error::new(Code::FeedGap, "the change table is empty: its rows were removed"))
}

/// Proves that the feed can go on behind `place`: the row that it names must be there and be the same.
pub(super) fn prove_resumable(connection: &Connection, place: Place) -> Result<()> {
    let gap = |message: &str| Err(Error::new(Code::FeedGap, message));
    let rewound = |message: &str| Err(Error::new(Code::FeedRewound, message));
    match database(connection)? {
        None => return gap("the change table is not in the file: it was removed, or the file is another one"),
        Some(database) if database != place.database => {
            return gap("the change table was made anew since the position was stored");
        }
        Some(_) => {}
    }
    let stamp: Option<i64> = connection
        .prepare_cached("SELECT at FROM _concord_changes WHERE seq = ?1")
        .and_then(|mut statement| statement.query_row([place.seq], |row| row.get(0)).optional())
        .map_err(|error| classify(error, "looking for the stored position"))?;
    match stamp {
        Some(stamp) if stamp == place.stamp => Ok(()),
        Some(_) => rewound("the change at the stored position is another one: the file was put back from a copy"),
        None if last_seq(connection)? < place.seq => {
            rewound("the change at the stored position is not there yet: the file was put back from a copy")
        }
        None => gap("the change at the stored position is not there: it was removed"),
    }
}

/// Makes the tables of a capture that begins now. Numbers begin at the present time in microseconds, so that those of a
/// later capture stand behind those of every earlier one.
pub(super) fn create(connection: &Connection) -> Result<Uuid> {
    let database = Uuid::new_v4();
    (|| {
        connection.execute_batch(TABLES)?;
        connection.execute("INSERT INTO _concord_meta VALUES ('format', '1'), ('database', ?1)", [database.to_string()])?;
        connection.execute(
            &format!(
                "INSERT INTO _concord_changes (seq, layout, operation, at) VALUES ({NOW_MILLIS} * 1000, 0, 'B', {NOW_MILLIS})"
            ),
            [],
        )
    })()
    .map_err(|error| classify(error, "making the change table"))?;
    Ok(database)
}

/// Removes every table and trigger of the capture.
pub(super) fn drop_all(connection: &Connection) -> Result<()> {
    let names: Vec<String> = own_triggers(connection)?.into_keys().collect();
    let drop: String = names.iter().map(|name| format!("DROP TRIGGER {};", quoted(name))).collect();
    connection.execute_batch(&format!("{drop}{DROP_TABLES}")).map_err(|error| classify(error, "removing the change table"))
}

/// The capture's triggers: name → (table, text).
pub(super) fn own_triggers(connection: &Connection) -> Result<BTreeMap<String, (String, String)>> {
    (|| {
        connection
            .prepare_cached(
                "SELECT name, tbl_name, sql FROM sqlite_schema WHERE type = 'trigger' AND name LIKE '\\_concord\\_%' ESCAPE '\\'",
            )?
            .query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?
            .collect::<rusqlite::Result<BTreeMap<_, _>>>()
    })()
    .map_err(|error| classify(error, "listing the capture's triggers"))
}

/// Every captured object, in the order of the names.
pub(super) fn captured(connection: &Connection) -> Result<Vec<Captured>> {
    (|| {
        connection
            .prepare_cached("SELECT id, name, fields, layout FROM _concord_objects ORDER BY name")?
            .query_map([], |row| {
                Ok((
                    row.get::<_, String>(2)?,
                    Captured { id: row.get(0)?, name: row.get(1)?, fields: Vec::new(), layout: row.get(3)? },
                ))
            })?
            .collect::<rusqlite::Result<Vec<_>>>()
    })()
    .map_err(|error| classify(error, "listing the captured tables"))?
    .into_iter()
    .map(|(fields, object)| Ok(Captured { fields: from_json(&fields)?, ..object }))
    .collect()
}

/// A stored layout; `None` when the row is not there.
pub(super) fn layout(connection: &Connection, id: i64) -> Result<Option<Layout>> {
    connection
        .prepare_cached("SELECT layout FROM _concord_layouts WHERE id = ?1")
        .and_then(|mut statement| statement.query_row([id], |row| row.get::<_, String>(0)).optional())
        .map_err(|error| classify(error, "reading a layout"))?
        .map(|text| from_json(&text))
        .transpose()
}

/// Stores a layout and widens the change table to hold it.
fn store_layout(connection: &Connection, layout: &Layout) -> Result<i64> {
    let text = to_json(layout)?;
    (|| {
        widen(connection, "_concord_changes", layout.width())?;
        widen(connection, "_concord_replaced", layout.key.len())?;
        connection.execute("INSERT INTO _concord_layouts (layout) VALUES (?1)", [text])?;
        Ok(connection.last_insert_rowid())
    })()
    .map_err(|error| classify(error, "storing a layout"))
}

fn widen(connection: &Connection, table: &str, width: usize) -> rusqlite::Result<()> {
    let there: i64 =
        connection
            .query_row("SELECT count(*) FROM pragma_table_info(?1) WHERE name GLOB 'v[0-9]*'", [table], |row| row.get(0))?;
    let added: String = (usize::try_from(there).unwrap_or(width)..width)
        .map(|place| format!("ALTER TABLE {table} ADD COLUMN v{place};"))
        .collect();
    connection.execute_batch(&added)
}

/// Makes the object's layout and triggers as the table and the fields are now. `announce` adds the row by which the
/// feed tells of a changed schema. Nothing is touched when everything stands as it should.
pub(super) fn install(connection: &Connection, table: &Table, fields: &[String], before: Option<&Captured>) -> Result<()> {
    let wanted = Layout::of(table, fields);
    let old = before.map(|object| layout(connection, object.layout)).transpose()?.flatten();
    let same_schema = old.as_ref().is_some_and(|old| old.schema == wanted.schema);
    let fields_text = to_json(&fields)?;
    let failed = |error| classify(error, &format!("capturing {}", table.name));
    if let (Some(object), true) = (before, same_schema) {
        let triggers = trigger_texts(table, object.id, object.layout, &wanted);
        if object.fields == fields && stands(connection, table, &triggers)? {
            return Ok(());
        }
    }
    let layout = store_layout(connection, &wanted)?;
    let id = match before {
        Some(object) => {
            connection
                .execute(
                    "UPDATE _concord_objects SET fields = ?2, layout = ?3 WHERE id = ?1",
                    params![object.id, fields_text, layout],
                )
                .map_err(failed)?;
            object.id
        }
        None => {
            connection
                .execute(
                    "INSERT INTO _concord_objects (name, fields, layout) VALUES (?1, ?2, ?3)",
                    params![table.name, fields_text, layout],
                )
                .map_err(failed)?;
            connection.last_insert_rowid()
        }
    };
    drop_triggers(connection, id)?;
    for (_, text) in trigger_texts(table, id, layout, &wanted) {
        connection.execute_batch(&text).map_err(failed)?;
    }
    if before.is_some() && !same_schema { announce(connection, layout) } else { Ok(()) }
}

/// Records that the object's table is gone.
pub(super) fn mark_gone(connection: &Connection, object: &Captured) -> Result<()> {
    drop_triggers(connection, object.id)?;
    let layout = store_layout(connection, &Layout::gone(&object.name))?;
    connection
        .execute("UPDATE _concord_objects SET layout = ?2 WHERE id = ?1", params![object.id, layout])
        .map_err(|error| classify(error, &format!("recording that {} is gone", object.name)))?;
    announce(connection, layout)
}

fn announce(connection: &Connection, layout: i64) -> Result<()> {
    connection
        .execute(&format!("INSERT INTO _concord_changes (layout, operation, at) VALUES (?1, 'S', {NOW_MILLIS})"), [layout])
        .map(|_| ())
        .map_err(|error| classify(error, "recording a changed schema"))
}

/// Takes an object out of the capture.
pub(super) fn forget(connection: &Connection, object: &Captured) -> Result<()> {
    drop_triggers(connection, object.id)?;
    connection
        .execute("DELETE FROM _concord_objects WHERE id = ?1", [object.id])
        .map(|_| ())
        .map_err(|error| classify(error, &format!("releasing {}", object.name)))
}

fn drop_triggers(connection: &Connection, id: i64) -> Result<()> {
    let text: String = TRIGGERS.iter().map(|what| format!("DROP TRIGGER IF EXISTS {};", trigger_name(id, what))).collect();
    connection.execute_batch(&text).map_err(|error| classify(error, "removing triggers"))
}

fn trigger_name(id: i64, what: &str) -> String {
    format!("_concord_{id}_{what}")
}

/// Whether every trigger stands as it should: with its own text, on its own table.
fn stands(connection: &Connection, table: &Table, wanted: &[(String, String)]) -> Result<bool> {
    let there = own_triggers(connection)?;
    Ok(wanted.iter().all(|(name, text)| there.get(name).is_some_and(|(on, sql)| *on == table.name && sql == text)))
}

/// Whether the object's table still has the triggers without which changes are lost, in whatever spelling a rename of
/// a column has given them. A table that was dropped and made anew has none.
pub(super) fn is_unbroken(connection: &Connection, object: &Captured) -> Result<bool> {
    let there = own_triggers(connection)?;
    Ok(["insert", "update", "delete"]
        .iter()
        .all(|what| there.get(&trigger_name(object.id, what)).is_some_and(|(on, _)| *on == object.name)))
}

/// The triggers of one table. Every image is read back from the table rather than taken from `NEW`: whatever other
/// triggers have done to the row by then, a later change row never shows an earlier state.
fn trigger_texts(table: &Table, id: i64, layout: i64, shape: &Layout) -> Vec<(String, String)> {
    let on = quoted(&table.name);
    let columns: Vec<String> = shape.columns.iter().map(|column| quoted(&column.name)).collect();
    let keys: Vec<String> = table.key_columns().map(|column| quoted(&column.name)).collect();
    let slots = |from: usize, to: usize| (from..to).map(|place| format!("v{place}")).collect::<Vec<_>>();
    let of = |row: &str| keys.iter().map(|key| format!("{row}.{key}")).collect::<Vec<_>>();
    let matches = |row: &str| match table.rowid {
        Some(rowid) => format!("{rowid} = {row}.{rowid}"),
        None => keys.iter().map(|key| format!("{key} = {row}.{key}")).collect::<Vec<_>>().join(" AND "),
    };
    let same_key = |values: &[String]| {
        keys.iter().zip(values).map(|(key, value)| format!("{key} = {value}")).collect::<Vec<_>>().join(" AND ")
    };
    let head = |operation: &str| format!("{layout}, '{operation}', {NOW_MILLIS}, (SELECT mark FROM _concord_mark)");
    let into = |slots: &[String]| format!("INSERT INTO _concord_changes (layout, operation, at, mark, {})", slots.join(", "));
    let width = columns.len();
    let image = |operation: &str, slots: &[String], values: &[String]| {
        format!("{} SELECT {}, {} FROM {on} WHERE {};", into(slots), head(operation), values.join(", "), matches("NEW"))
    };
    let key_slots: Vec<String> = shape.key.iter().map(|place| format!("v{place}")).collect();
    let deleted = |values: &[String], from: &str| {
        format!(
            "{} SELECT {}, {} {from} NOT EXISTS (SELECT 1 FROM {on} WHERE {});",
            into(&key_slots),
            head("D"),
            values.join(", "),
            same_key(values)
        )
    };
    let suspects = suspects(table, id, &on, &keys);
    // A row that REPLACE took away fires no trigger of its own: those that could be hit are noted before, and told of
    // when they are gone.
    let replaced = if suspects.is_some() {
        let noted: Vec<String> = slots(0, keys.len()).iter().map(|slot| format!("r.{slot}")).collect();
        let gone = deleted(&noted, &format!("FROM _concord_replaced AS r WHERE r.object = {id} AND"));
        format!("{gone} DELETE FROM _concord_replaced WHERE object = {id};")
    } else {
        String::new()
    };
    let mut changed = columns.clone();
    changed.extend(of("OLD"));
    let mut triggers = vec![
        ("insert", format!("AFTER INSERT ON {on} BEGIN {replaced} {} END", image("I", &slots(0, width), &columns))),
        ("update", format!("AFTER UPDATE ON {on} BEGIN {replaced} {} END", image("U", &slots(0, shape.width()), &changed))),
        ("delete", format!("AFTER DELETE ON {on} BEGIN {} END", deleted(&of("OLD"), "WHERE"))),
    ];
    if let Some((insert, update)) = suspects {
        triggers.push(("before_insert", format!("BEFORE INSERT ON {on} BEGIN {insert} END")));
        triggers.push(("before_update", format!("BEFORE UPDATE ON {on} BEGIN {update} END")));
    }
    triggers
        .into_iter()
        .map(|(what, body)| {
            let name = trigger_name(id, what);
            let text = format!("CREATE TRIGGER {name} {body}");
            (name, text)
        })
        .collect()
}

/// The statements that note which rows a REPLACE could take away: those with another key and an equal unique set.
fn suspects(table: &Table, id: i64, on: &str, keys: &[String]) -> Option<(String, String)> {
    if table.unique.is_empty() {
        return None;
    }
    let set_matches = |set: &Vec<super::schema::Unique>| {
        let members: Vec<String> = set
            .iter()
            .filter_map(|member| {
                let name = quoted(&table.columns.get(member.column)?.name);
                Some(format!("t.{name} = NEW.{name} COLLATE {}", quoted(&member.collation)))
            })
            .collect();
        format!("({})", members.join(" AND "))
    };
    let hit = table.unique.iter().map(set_matches).collect::<Vec<_>>().join(" OR ");
    let slots: Vec<String> = (0..keys.len()).map(|place| format!("v{place}")).collect();
    let key_values = keys.iter().map(|key| format!("t.{key}")).collect::<Vec<_>>().join(", ");
    let note = |other: &str| {
        let other_row = keys.iter().map(|key| format!("t.{key} = {other}.{key}")).collect::<Vec<_>>().join(" AND ");
        format!(
            "DELETE FROM _concord_replaced WHERE object = {id}; INSERT INTO _concord_replaced (object, {}) SELECT {id}, {key_values} FROM {on} AS t WHERE ({hit}) AND NOT ({other_row});",
            slots.join(", ")
        )
    };
    Some((note("NEW"), note("OLD")))
}

fn to_json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::new(Code::Internal, "a layout could not be written").because(error))
}

fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|error| Error::new(Code::FeedGap, "the capture's own tables were changed by somebody").because(error))
}
