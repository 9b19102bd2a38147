//! Tables as the file's catalogue describes them: columns, keys, unique sets. Read from pragmas, never guessed from
//! rows; tables of SQLite's own and of this connector are not shown.

use super::errors::classify;
use super::types::ColumnType;
use concord_engine::error::Result;
use concord_engine::record::{FieldName, ObjectName};
use concord_engine::schema::{Field, Schema, Type};
use rusqlite::Connection;

/// One table of the file.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub name: String,
    pub columns: Vec<Column>,
    /// Places of the key's columns, in the key's order.
    pub key: Vec<usize>,
    /// Unique sets behind which another row can be replaced, the key's own left out.
    pub unique: Vec<Vec<Unique>>,
    /// Whether a unique index stands over an expression or a part of the rows.
    pub has_odd_unique: bool,
    /// A name under which the hidden row id can be reached; `None` without one.
    pub rowid: Option<&'static str>,
    indexes: Vec<Vec<String>>,
}

/// One column of a table.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub name: String,
    pub ty: ColumnType,
    pub nullable: bool,
    pub generated: bool,
    pub has_default: bool,
}

/// A column of a unique index, with the collation by which the index compares it.
#[derive(Clone, Debug)]
pub(super) struct Unique {
    pub column: usize,
    pub collation: String,
}

struct Index {
    unique: bool,
    origin: String,
    partial: bool,
    /// `None` for an expression.
    columns: Vec<(Option<String>, String)>,
}

/// The names of all tables that can take part, in their order.
pub(super) fn tables(connection: &Connection) -> Result<Vec<String>> {
    names(connection).map_err(|error| classify(error, "listing the tables"))
}

fn names(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare_cached(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table'
         AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE '\\_concord\\_%' ESCAPE '\\' ORDER BY name",
    )?;
    statement.query_map([], |row| row.get(0))?.collect()
}

impl Table {
    /// The table of exactly this name; `None` when there is none.
    pub fn load(connection: &Connection, name: &str) -> Result<Option<Table>> {
        load(connection, name).map_err(|error| classify(error, &format!("reading the definition of {name}")))
    }

    /// The place of a column.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The columns of the key, in the key's order.
    pub fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.key.iter().filter_map(|place| self.columns.get(*place))
    }

    /// The table as the engine knows it.
    pub fn schema(&self) -> Schema {
        let name_of = |place: &usize| self.columns.get(*place).map(|column| FieldName::from(column.name.as_str()));
        Schema {
            object: ObjectName::from(self.name.as_str()),
            fields: self.columns.iter().map(Column::field).collect(),
            key: self.key.iter().filter_map(name_of).collect(),
            unique: self.unique.iter().map(|set| set.iter().filter_map(|member| name_of(&member.column)).collect()).collect(),
            indexes: self
                .indexes
                .iter()
                .map(|columns| columns.iter().map(|column| FieldName::from(column.as_str())).collect())
                .collect(),
        }
    }
}

impl Column {
    fn field(&self) -> Field {
        Field {
            name: FieldName::from(self.name.as_str()),
            ty: self.ty.engine_type(),
            native_type: self.ty.declared.clone(),
            nullable: self.nullable,
            creatable: !self.generated,
            updatable: !self.generated,
            has_default: self.has_default,
            origin: None,
        }
    }
}

fn load(connection: &Connection, name: &str) -> rusqlite::Result<Option<Table>> {
    use rusqlite::OptionalExtension;
    let found = connection
        .prepare_cached(
            "SELECT wr, strict FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name = ?1 COLLATE BINARY",
        )?
        .query_row([name], |row| Ok((row.get::<_, bool>(0)?, row.get::<_, bool>(1)?)))
        .optional()?;
    let Some((without_rowid, strict)) = found else { return Ok(None) };
    let mut columns = Vec::new();
    let mut primary: Vec<(i64, usize)> = Vec::new();
    let mut statement = connection
        .prepare_cached("SELECT name, type, \"notnull\", dflt_value IS NOT NULL, pk, hidden FROM pragma_table_xinfo(?1)")?;
    let mut rows = statement.query([name])?;
    while let Some(row) = rows.next()? {
        let (place_in_key, hidden): (i64, i64) = (row.get(4)?, row.get(5)?);
        if hidden == 1 {
            continue;
        }
        if place_in_key > 0 {
            primary.push((place_in_key, columns.len()));
        }
        columns.push(Column {
            name: row.get(0)?,
            ty: ColumnType::new(&row.get::<_, Option<String>>(1)?.unwrap_or_default(), strict),
            nullable: !(row.get::<_, bool>(2)? || (without_rowid && place_in_key > 0)),
            generated: hidden == 2 || hidden == 3,
            has_default: row.get(3)?,
        });
    }
    primary.sort_unstable();
    let indexes = indexes(connection, name)?;
    Ok(Some(assemble(name, columns, primary.into_iter().map(|(_, place)| place).collect(), indexes, without_rowid)))
}

fn indexes(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Index>> {
    let mut list =
        connection.prepare_cached("SELECT name, \"unique\", origin, partial FROM pragma_index_list(?1) ORDER BY seq DESC")?;
    let mut columns = connection.prepare_cached("SELECT name, coll FROM pragma_index_xinfo(?1) WHERE key = 1 ORDER BY seqno")?;
    let mut found = Vec::new();
    let mut rows = list.query([table])?;
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        let columns = columns.query_map([name], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
        found.push(Index { unique: row.get(1)?, origin: row.get(2)?, partial: row.get(3)?, columns });
    }
    Ok(found)
}

fn assemble(name: &str, mut columns: Vec<Column>, mut key: Vec<usize>, indexes: Vec<Index>, without_rowid: bool) -> Table {
    let place = |columns: &[Column], name: &str| columns.iter().position(|column| column.name == name);
    // An INTEGER PRIMARY KEY is the row id itself: it has no index, is never null and fills itself.
    let rowid_key = (!key.is_empty() && !without_rowid && !indexes.iter().any(|index| index.origin == "pk")).then_some(&key);
    if let Some(column) = rowid_key.and_then(|key| key.first()).and_then(|only| columns.get_mut(*only)) {
        column.nullable = false;
        column.has_default = true;
    }
    let plain = |index: &Index| -> Option<Vec<Unique>> {
        let member = |(name, collation): &(Option<String>, String)| {
            Some(Unique { column: place(&columns, name.as_deref()?)?, collation: collation.clone() })
        };
        if index.partial { None } else { index.columns.iter().map(member).collect() }
    };
    let mut unique: Vec<Vec<Unique>> = Vec::new();
    let mut has_odd_unique = false;
    for index in indexes.iter().filter(|index| index.unique && index.origin != "pk") {
        match plain(index) {
            Some(set) => unique.push(set),
            None => has_odd_unique = true,
        }
    }
    if key.is_empty() {
        let sure = |set: &Vec<Unique>| set.iter().all(|member| columns.get(member.column).is_some_and(|column| !column.nullable));
        if let Some(first) = unique.iter().position(sure) {
            key = unique.remove(first).into_iter().map(|member| member.column).collect();
        }
    }
    let rowid = (!without_rowid)
        .then(|| {
            let taken = |word: &&&str| columns.iter().any(|column| column.name.eq_ignore_ascii_case(word));
            ["rowid", "_rowid_", "oid"].iter().find(|word| !taken(word)).copied()
        })
        .flatten();
    let indexes = indexes
        .iter()
        .filter(|index| !index.partial)
        .map(|index| index.columns.iter().map_while(|(name, _)| name.clone()).collect::<Vec<String>>())
        .filter(|columns| !columns.is_empty())
        .collect();
    Table { name: name.to_owned(), columns, key, unique, has_odd_unique, rowid, indexes }
}

/// The statement that adds a column like this one.
pub(super) fn field_statement(table: &str, field: &Field) -> String {
    format!("ALTER TABLE {} ADD COLUMN {} {};", quoted(table), quoted(field.name.as_str()), column_type(&field.ty))
}

/// The statement that makes a table like this one. A key that fills itself is the row's own number.
pub(super) fn object_statement(wanted: &Schema) -> String {
    let list = |names: &[FieldName]| names.iter().map(|name| quoted(name.as_str())).collect::<Vec<_>>().join(", ");
    let mut key = (!wanted.key.is_empty()).then(|| format!("PRIMARY KEY ({})", list(&wanted.key)));
    let mut parts: Vec<String> = Vec::new();
    for field in &wanted.fields {
        let name = quoted(field.name.as_str());
        if field.has_default && wanted.key == [field.name.clone()] {
            key = None;
            parts.push(format!("{name} INTEGER PRIMARY KEY"));
            continue;
        }
        let not_null = if field.nullable { "" } else { " NOT NULL" };
        parts.push(format!("{name} {}{not_null}", column_type(&field.ty)));
    }
    parts.extend(key);
    parts.extend(wanted.unique.iter().map(|set| format!("UNIQUE ({})", list(set))));
    format!("CREATE TABLE {} ({});", quoted(wanted.object.as_str()), parts.join(", "))
}

/// The name of a type that holds the values of an engine's type, as the types of declared columns are read.
fn column_type(ty: &Type) -> String {
    match ty {
        Type::Bool => "BOOLEAN".to_owned(),
        Type::Int { .. } => "INTEGER".to_owned(),
        Type::Decimal { precision: Some(precision), scale, .. } => format!("DECIMAL({precision},{})", scale.unwrap_or(0)),
        Type::Decimal { .. } => "DECIMAL".to_owned(),
        Type::Float { .. } => "REAL".to_owned(),
        Type::Bytes { .. } => "BLOB".to_owned(),
        Type::Date => "DATE".to_owned(),
        Type::Timestamp { .. } => "TIMESTAMP".to_owned(),
        Type::TimestampTz { .. } => "TIMESTAMPTZ".to_owned(),
        Type::Uuid => "UUID".to_owned(),
        Type::Json => "JSON".to_owned(),
        _ => "TEXT".to_owned(),
    }
}

/// A name as SQL text.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
