//! What the catalogue says of a table: its columns and types, its key, what may be written, how it is replicated.
//! Only reads the catalogue; a table is never looked at by its data.

use super::client::{Lease, column};
use super::names::{TableName, quote};
use super::types::{self, Kind, TypeInfo, TypeMap};
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::{FieldName, ObjectName};
use concord_engine::schema::{Field, Schema, Selection, Type};
use std::sync::Arc;
use tokio_postgres::Row;

/// A table as the catalogue shows it, with all that statements and decoding need.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its OID: the same through renames.
    pub oid: u32,
    /// Its name.
    pub name: TableName,
    /// Its columns in their order.
    pub columns: Vec<Column>,
    /// Places of the key's columns in `columns`, in the key's order.
    pub key: Vec<usize>,
    /// What the engine is told.
    pub schema: Arc<Schema>,
    /// How it is stored and replicated.
    pub storage: Storage,
}

/// One column.
#[derive(Clone, Debug)]
pub struct Column {
    /// What the engine is told.
    pub field: Field,
    /// The quoted name.
    pub sql: String,
    /// The type's name as a cast writes it.
    pub cast: String,
    /// How two values are compared exactly.
    pub comparison: Comparison,
    /// Computed by the server: absent from the feed before PostgreSQL 18.
    pub generated: bool,
}

/// How a column's value is compared with a given one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// By the type's own equality.
    Value,
    /// Text, byte by byte: a collation may call different texts equal.
    Bytewise,
    /// `json`, which has no equality: as `jsonb`.
    AsJsonb,
    /// By the text that the server prints.
    Printed,
    /// By the label: one that was renamed is no value of the type any more, and cannot be cast to it.
    Label,
}

/// How a table is stored and replicated.
#[derive(Clone, Debug)]
pub struct Storage {
    /// `pg_class.relkind`: `r`, or `p` for a partitioned table.
    pub kind: char,
    /// `pg_class.relpersistence`: `p`, `u` for an unlogged table.
    pub persistence: char,
    /// `pg_class.relreplident`: `d`, `n`, `f` or `i`.
    pub replica_identity: char,
    /// Columns of the index that serves as replica identity, if one does.
    pub identity_index: Option<Vec<String>>,
    /// Whether row level security hides rows from us.
    pub rows_hidden: bool,
    /// Whether it has children by inheritance.
    pub inherited: bool,
    /// Whether triggers fire after a row was written: it may not be there any more.
    pub reacts: bool,
    /// Whether triggers see rows before they are written, and may throw them away.
    pub decides: bool,
}

impl Column {
    /// The value as the server prints it, as an expression of type text over the row `alias`.
    pub fn printed(&self, alias: &str) -> String {
        self.print(&format!("{alias}.{}", self.sql))
    }

    /// An expression of the column's type as the server prints it.
    fn print(&self, place: &str) -> String {
        match self.field.ty {
            // The cast to text of some types is not what the type prints (inet adds a mask): ask for the print. A composite value
            // with a null in it is not null.
            Type::Opaque { .. } => format!("CASE WHEN {place} IS DISTINCT FROM NULL THEN pg_catalog.format('%s', {place}) END"),
            _ => format!("{place}::text"),
        }
    }

    /// A parameter of type text as the server will print it once it is stored here, modifiers included.
    pub fn printed_as_stored(&self, parameter: &str) -> String {
        self.print(&format!("{}::{}", self.given(parameter), self.field.native_type))
    }

    /// A parameter of type text as a value of this column.
    pub fn given(&self, parameter: &str) -> String {
        format!("{parameter}::{}", self.cast)
    }

    /// Whether the row `alias` shows exactly the value in `parameter` (text), null included.
    pub fn shows(&self, alias: &str, parameter: &str) -> String {
        let place = format!("{alias}.{}", self.sql);
        match self.comparison {
            Comparison::Value => format!("{place} IS NOT DISTINCT FROM {}", self.given(parameter)),
            Comparison::Bytewise => format!("{place} COLLATE \"C\" IS NOT DISTINCT FROM {} COLLATE \"C\"", self.given(parameter)),
            Comparison::AsJsonb => format!("{place}::jsonb IS NOT DISTINCT FROM {parameter}::jsonb"),
            Comparison::Label => format!("{place}::text IS NOT DISTINCT FROM {parameter}"),
            Comparison::Printed => {
                format!("({}) IS NOT DISTINCT FROM ({})", self.print(&place), self.print(&self.given(parameter)))
            }
        }
    }

    /// Whether the row `alias` equals the value in `parameter`, which is not null: a form that an index serves.
    pub fn equals(&self, alias: &str, parameter: &str) -> String {
        let place = format!("{alias}.{}", self.sql);
        match self.comparison {
            Comparison::Value | Comparison::Bytewise | Comparison::Label => format!("{place} = {}", self.given(parameter)),
            Comparison::AsJsonb => format!("{place}::jsonb = {parameter}::jsonb"),
            Comparison::Printed => format!("({}) = ({})", self.print(&place), self.print(&self.given(parameter))),
        }
    }
}

impl Table {
    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.field.name.as_str() == name)
    }

    /// The column of this name, or an error that names it.
    pub fn require(&self, name: &FieldName) -> Result<&Column> {
        self.column(name.as_str())
            .ok_or_else(|| Error::new(Code::FieldMissing, format!("{} has no column {name}", self.schema.object)))
    }

    /// The key's columns; an error when there is none.
    pub fn key_columns(&self) -> Result<Vec<&Column>> {
        let columns: Vec<&Column> = self.key.iter().filter_map(|place| self.columns.get(*place)).collect();
        if columns.is_empty() {
            return Err(Error::new(Code::KeyMissing, format!("{} has no key", self.schema.object)));
        }
        Ok(columns)
    }

    /// The columns that a selection shows, those named and those of the key, in the order of their names: a record's.
    pub fn selected(&self, selection: &Selection) -> Result<Vec<&Column>> {
        for field in &selection.fields {
            self.require(field)?;
        }
        let wanted = |place: usize, column: &Column| {
            selection.fields.is_empty() || self.key.contains(&place) || selection.fields.contains(&column.field.name)
        };
        let selected = self.columns.iter().enumerate().filter(|(place, column)| wanted(*place, column));
        let mut selected: Vec<&Column> = selected.map(|(_, column)| column).collect();
        selected.sort_unstable_by(|a, b| a.field.name.cmp(&b.field.name));
        Ok(selected)
    }
}

const TABLE: &str = "SELECT c.oid, c.relkind::text, c.relpersistence::text, c.relreplident::text, row_security_active(c.oid), \
     EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhparent = c.oid), \
     EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled IN ('O', 'A') \
       AND g.tgtype & 66 = 0), \
     EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled IN ('O', 'A') \
       AND g.tgtype & 3 = 3) \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')";

const COLUMNS: &str = "SELECT a.attname::text, a.atttypid, a.atttypmod, pg_catalog.format_type(a.atttypid, a.atttypmod), \
     a.attnotnull, a.attgenerated::text, a.attidentity::text, \
     a.atthasdef OR EXISTS (SELECT FROM pg_catalog.pg_type t WHERE t.oid = a.atttypid AND t.typdefault IS NOT NULL), a.attnum \
     FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

const INDEXES: &str = "SELECT i.indisprimary, i.indisunique, i.indisreplident, i.indimmediate, i.indpred IS NULL AND i.indexprs IS NULL, \
     ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY AS k(attnum, place) \
       JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
       WHERE k.place <= i.indnkeyatts ORDER BY k.place) \
     FROM pg_catalog.pg_index i WHERE i.indrelid = $1 AND i.indisvalid ORDER BY i.indexrelid";

const TYPES: &str = "WITH RECURSIVE needed AS ( \
       SELECT t.oid, t.typelem, t.typbasetype FROM pg_catalog.pg_type t WHERE t.oid = ANY($1) \
       UNION SELECT t.oid, t.typelem, t.typbasetype FROM needed n \
         JOIN pg_catalog.pg_type t ON t.oid IN (n.typelem, n.typbasetype)) \
     SELECT t.oid, t.typtype::text, t.typbasetype, t.typtypmod, t.typelem, \
       t.typcategory = 'A' AND t.typelem <> 0 AND t.oid NOT IN (22, 30), pg_catalog.format_type(t.oid, -1), \
       ARRAY(SELECT e.enumlabel::text FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder) \
     FROM needed JOIN pg_catalog.pg_type t USING (oid)";

/// Every table that could take part: those of user schemas, partitioned tables as one, partitions not by themselves.
pub async fn objects(lease: &mut Lease<'_>) -> Result<Vec<ObjectName>> {
    let sql = "SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c \
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't' \
        AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%' ORDER BY 1, 2";
    let rows = lease.query(sql, &[], "listing tables").await?;
    rows.iter().map(|row| Ok(TableName { schema: column(row, 0)?, table: column(row, 1)? }.object())).collect()
}

/// Reads a table from the catalogue.
pub async fn table(lease: &mut Lease<'_>, name: &TableName) -> Result<Table> {
    let doing = format!("reading the catalogue about {}", name.object());
    let rows = lease.query(TABLE, &[&name.schema, &name.table], &doing).await?;
    let missing = || Error::new(Code::ObjectMissing, format!("there is no table {} that we can see", name.object()));
    let found = rows.first().ok_or_else(missing)?;
    let oid: u32 = column(found, 0)?;
    let columns = lease.query(COLUMNS, &[&oid], &doing).await?;
    let mut indexes = read_indexes(&lease.query(INDEXES, &[&oid], &doing).await?)?;
    for (columns, primary) in super::indexes::unique_set_aside(lease, name, &doing).await? {
        indexes.push(Index { primary, unique: true, replica_identity: false, plain: true, immediate: true, columns });
    }
    let oids = columns.iter().map(|row| column(row, 1)).collect::<Result<Vec<u32>>>()?;
    let types = type_map(lease, &oids).await?;
    let columns = columns.iter().map(|row| read_column(row, &types)).collect::<Result<Vec<Column>>>()?;
    let storage = Storage {
        kind: letter(found, 1)?,
        persistence: letter(found, 2)?,
        replica_identity: letter(found, 3)?,
        identity_index: indexes.iter().find(|index| index.replica_identity).map(|index| index.columns.clone()),
        rows_hidden: column(found, 4)?,
        inherited: column(found, 5)?,
        reacts: column(found, 6)?,
        decides: column(found, 7)?,
    };
    Ok(assemble(oid, name, columns, &indexes, storage))
}

/// What the catalogue says of some types and of those they are made of.
pub async fn type_map(lease: &mut Lease<'_>, oids: &[u32]) -> Result<TypeMap> {
    let rows = lease.query(TYPES, &[&oids], "reading the catalogue about types").await?;
    rows.iter().map(|row| Ok((column(row, 0)?, read_type(row)?))).collect()
}

fn read_type(row: &Row) -> Result<TypeInfo> {
    let is_array: bool = column(row, 5)?;
    let kind = match letter(row, 1)? {
        'd' => Kind::Domain(column(row, 2)?, column(row, 3)?),
        'e' => Kind::Enum(column(row, 7)?),
        _ if is_array => Kind::Array(column(row, 4)?),
        _ => Kind::Base,
    };
    Ok(TypeInfo { cast: column(row, 6)?, kind })
}

fn letter(row: &Row, place: usize) -> Result<char> {
    let text: &str = column(row, place)?;
    Ok(text.chars().next().unwrap_or(' '))
}

fn read_column(row: &Row, types: &TypeMap) -> Result<Column> {
    let name: String = column(row, 0)?;
    let oid: u32 = column(row, 1)?;
    let ty = types::resolve(types, oid, column(row, 2)?);
    let not_null: bool = column(row, 4)?;
    let generated = letter(row, 5)? != ' ';
    let identity = letter(row, 6)?;
    let has_default: bool = column(row, 7)?;
    let writable = !generated && identity != 'a';
    Ok(Column {
        sql: quote(&name),
        cast: types.get(&oid).map_or_else(|| "text".to_owned(), |info| info.cast.clone()),
        comparison: comparison(types, oid, &ty),
        generated,
        field: Field {
            name: FieldName::from(name),
            ty,
            native_type: column(row, 3)?,
            nullable: !not_null,
            creatable: writable,
            updatable: writable,
            has_default: has_default || identity != ' ' || generated,
            origin: u32::try_from(column::<i16>(row, 8)?).ok(),
        },
    })
}

/// How values of a type compare. Arrays and domains compare as what they are made of.
fn comparison(types: &TypeMap, oid: u32, ty: &Type) -> Comparison {
    let info = types.get(&oid);
    match (ty, info.map(|info| &info.kind)) {
        (Type::Json, Some(Kind::Domain(base, _))) => comparison(types, *base, ty),
        (Type::Json, _) if oid == 114 => Comparison::AsJsonb,
        (Type::Text { padded: false, .. }, _) => Comparison::Bytewise,
        // One month, thirty days and 720 hours are equal to the server, and different values to whoever wrote them.
        (Type::Opaque { .. } | Type::Interval { .. }, _) => Comparison::Printed,
        (Type::Enum { .. }, _) => Comparison::Label,
        (Type::Array(element), Some(Kind::Array(inner))) => match comparison(types, *inner, element) {
            Comparison::Value => Comparison::Value,
            _ => Comparison::Printed,
        },
        (Type::Array(_), Some(Kind::Domain(base, _))) => comparison(types, *base, ty),
        _ => Comparison::Value,
    }
}

/// The statement that makes an index for [`Column::equals`], without keeping anybody from writing meanwhile. None for
/// types that are compared by what the server prints: no index serves that.
pub fn index_statement(name: &TableName, schema: &Schema, fields: &[FieldName]) -> Option<String> {
    let column = |field: &FieldName| {
        let found = schema.field(field.as_str())?;
        match (&found.ty, found.native_type.as_str()) {
            (Type::Opaque { .. } | Type::Array(_), _) => None,
            (Type::Json, "json") => Some(format!("({}::jsonb)", quote(field.as_str()))),
            _ => Some(quote(field.as_str())),
        }
    };
    let columns: Vec<String> = fields.iter().map(column).collect::<Option<_>>()?;
    (!columns.is_empty()).then(|| format!("CREATE INDEX CONCURRENTLY ON {} ({});", name.sql(), columns.join(", ")))
}

/// The statement that adds a column like this one; `ours`: of a database of our own kind, whose types have their names here.
pub fn field_statement(name: &TableName, field: &Field, ours: bool) -> String {
    format!("ALTER TABLE {} ADD COLUMN {} {};", name.sql(), quote(field.name.as_str()), column_type(field, ours))
}

/// The statement that makes a table like this one.
pub fn object_statement(name: &TableName, wanted: &Schema, ours: bool) -> String {
    let column = |field: &Field| {
        let fills_itself = if field.has_default { " GENERATED BY DEFAULT AS IDENTITY" } else { "" };
        let not_null = if field.nullable || wanted.key.contains(&field.name) { "" } else { " NOT NULL" };
        format!("{} {}{fills_itself}{not_null}", quote(field.name.as_str()), column_type(field, ours))
    };
    let list = |names: &[FieldName]| names.iter().map(|name| quote(name.as_str())).collect::<Vec<_>>().join(", ");
    let mut parts: Vec<String> = wanted.fields.iter().map(column).collect();
    parts.extend((!wanted.key.is_empty()).then(|| format!("PRIMARY KEY ({})", list(&wanted.key))));
    parts.extend(wanted.unique.iter().map(|set| format!("UNIQUE ({})", list(set))));
    format!("CREATE TABLE {} ({});", name.sql(), parts.join(", "))
}

/// Types that somebody has made (domains, labels, an extension's) may be missing in the other database: what holds their values is
/// taken instead.
fn column_type(field: &Field, ours: bool) -> String {
    let is_known = ours && is_own(&field.native_type);
    if is_known { field.native_type.clone() } else { type_for(&field.ty) }
}

/// Whether a type's name is one of the server's own, a list of them included.
pub fn is_own(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "bigint",
        "bit",
        "bit varying",
        "boolean",
        "box",
        "bytea",
        "character",
        "character varying",
        "cidr",
        "circle",
        "date",
        "double precision",
        "inet",
        "integer",
        "interval",
        "json",
        "jsonb",
        "line",
        "lseg",
        "macaddr",
        "macaddr8",
        "money",
        "numeric",
        "oid",
        "path",
        "point",
        "polygon",
        "real",
        "smallint",
        "text",
        "time with time zone",
        "time without time zone",
        "timestamp with time zone",
        "timestamp without time zone",
        "tsquery",
        "tsvector",
        "uuid",
        "xml",
    ];
    // Without length and precision, which may stand in the middle.
    let mut bare = String::with_capacity(name.len());
    let mut depth = 0_u32;
    for letter in name.trim_end_matches("[]").chars() {
        match letter {
            '(' => depth = depth.saturating_add(1),
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 => bare.push(letter),
            _ => {}
        }
    }
    NAMES.contains(&bare.trim_end())
}

/// The type that holds the values of an engine's type.
fn type_for(ty: &Type) -> String {
    match ty {
        Type::Bool => "boolean".to_owned(),
        Type::Int { bits: 0..=16, unsigned: false } | Type::Int { bits: 0..=8, .. } => "smallint".to_owned(),
        Type::Int { bits: 0..=32, unsigned: false } | Type::Int { bits: 0..=24, .. } => "integer".to_owned(),
        Type::Int { unsigned: false, .. } | Type::Int { bits: 0..=32, .. } => "bigint".to_owned(),
        Type::Decimal { precision: Some(precision), scale, .. } => format!("numeric({precision}, {})", scale.unwrap_or(0)),
        Type::Int { .. } | Type::Decimal { .. } => "numeric".to_owned(),
        Type::Float { bits: 0..=32 } => "real".to_owned(),
        Type::Float { .. } => "double precision".to_owned(),
        Type::Text { max_chars: Some(most), .. } => format!("varchar({most})"),
        Type::Bytes { .. } => "bytea".to_owned(),
        Type::Date => "date".to_owned(),
        Type::Time { zone, .. } => if *zone { "timetz" } else { "time" }.to_owned(),
        Type::Timestamp { .. } => "timestamp".to_owned(),
        Type::TimestampTz { .. } => "timestamptz".to_owned(),
        Type::Interval { .. } => "interval".to_owned(),
        Type::Uuid => "uuid".to_owned(),
        Type::Json => "jsonb".to_owned(),
        Type::Array(element) => format!("{}[]", type_for(element)),
        _ => "text".to_owned(),
    }
}

/// A table of which nothing matters but its key.
#[cfg(test)]
pub fn table_of_key(key: &[&str]) -> Table {
    let names: Vec<FieldName> = key.iter().map(|name| FieldName::from(*name)).collect();
    let name = TableName { schema: "public".into(), table: "t".into() };
    let schema = Schema { object: name.object(), fields: vec![], key: names, unique: vec![], indexes: vec![] };
    let storage = Storage {
        kind: 'r',
        persistence: 'p',
        replica_identity: 'i',
        identity_index: None,
        rows_hidden: false,
        inherited: false,
        reacts: false,
        decides: false,
    };
    Table { oid: 1, name, columns: vec![], key: vec![], schema: Arc::new(schema), storage }
}

struct Index {
    primary: bool,
    unique: bool,
    replica_identity: bool,
    /// Over plain columns and all rows.
    plain: bool,
    immediate: bool,
    columns: Vec<String>,
}

fn read_indexes(rows: &[Row]) -> Result<Vec<Index>> {
    let read = |row: &Row| {
        Ok(Index {
            primary: column(row, 0)?,
            unique: column(row, 1)?,
            replica_identity: column(row, 2)?,
            immediate: column(row, 3)?,
            plain: column(row, 4)?,
            columns: column(row, 5)?,
        })
    };
    rows.iter().map(read).collect()
}

fn assemble(oid: u32, name: &TableName, columns: Vec<Column>, indexes: &[Index], storage: Storage) -> Table {
    let key_index = indexes
        .iter()
        .find(|index| index.primary)
        .or_else(|| indexes.iter().find(|index| index.replica_identity && index.unique && index.immediate));
    let place = |name: &String| columns.iter().position(|column| column.field.name.as_str() == name);
    let key: Vec<usize> = key_index.map(|index| index.columns.iter().filter_map(place).collect()).unwrap_or_default();
    let names = |index: &Index| index.columns.iter().map(|name| FieldName::from(name.as_str())).collect::<Vec<_>>();
    let key_names: Vec<FieldName> = key_index.map(names).unwrap_or_default();
    let unique = indexes.iter().filter(|index| index.unique && index.plain).map(names).filter(|set| *set != key_names);
    let schema = Schema {
        object: name.object(),
        fields: columns.iter().map(|column| column.field.clone()).collect(),
        unique: unique.collect(),
        indexes: indexes.iter().filter(|index| index.plain).map(names).collect(),
        key: key_names,
    };
    Table { oid, name: name.clone(), columns, key, schema: Arc::new(schema), storage }
}
