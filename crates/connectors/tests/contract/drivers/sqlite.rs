//! A SQLite file in a folder of its own, and an outside user with a connection of their own.

use crate::driver::{Driver, Holding, Misfit, Shape, TypeCase, quoted};
use async_trait::async_trait;
use concord_connectors::sqlite::{self, SqliteSettings};
use concord_engine::connector::Connector;
use concord_engine::record::ObjectName;
use concord_engine::value::{Date, Time, Timestamp, TimestampTz, Value};
use rusqlite::Connection;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

pub struct SqliteDriver {
    folder: TempDir,
}

impl SqliteDriver {
    fn path(&self) -> PathBuf {
        self.folder.path().join("system.db")
    }

    fn connect(&self) -> Connection {
        let connection = Connection::open(self.path()).unwrap();
        connection.busy_timeout(Duration::from_secs(10)).unwrap();
        connection
    }
}

struct Held(Connection);

#[async_trait]
impl Holding for Held {
    async fn end(self: Box<Self>) {
        self.0.execute_batch("ROLLBACK").unwrap();
    }
}

#[async_trait]
impl Driver for SqliteDriver {
    async fn fresh() -> Self {
        let driver = SqliteDriver { folder: tempfile::tempdir().unwrap() };
        driver.connect().execute_batch("PRAGMA journal_mode = WAL").unwrap();
        driver
    }

    async fn table(&self, shape: Shape, name: &str) -> ObjectName {
        let table = quoted(name);
        let odd = quoted(self.odd_name());
        self.connect()
            .execute_batch(&match shape {
                Shape::Accounts => format!(
                    "CREATE TABLE {table} (id INTEGER PRIMARY KEY, name TEXT, email TEXT UNIQUE,
                                           amount INTEGER CHECK (amount >= 0), note TEXT)"
                ),
                Shape::Composite => format!(
                    "CREATE TABLE {table} (label TEXT, number INTEGER NOT NULL, region TEXT NOT NULL, PRIMARY KEY (region, number))"
                ),
                Shape::Odd => format!("CREATE TABLE {table} ({odd} TEXT PRIMARY KEY NOT NULL, label TEXT) WITHOUT ROWID"),
                Shape::Keyless => format!("CREATE TABLE {table} (label TEXT)"),
            })
            .unwrap();
        ObjectName::from(name)
    }

    async fn run(&self, statements: &[&str]) {
        let mut connection = self.connect();
        let transaction = connection.transaction().unwrap();
        for statement in statements {
            transaction.execute_batch(statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
        transaction.commit().unwrap();
    }

    async fn run_and_roll_back(&self, statement: &str) {
        self.connect().execute_batch(&format!("BEGIN; {statement}; ROLLBACK")).unwrap();
    }

    async fn hold(&self, statement: &str) -> Box<dyn Holding> {
        let connection = self.connect();
        connection.execute_batch(&format!("BEGIN IMMEDIATE; {statement}")).unwrap();
        Box::new(Held(connection))
    }

    async fn open(&self) -> Arc<dyn Connector> {
        let settings = SqliteSettings { busy_timeout: Duration::from_millis(300), ..SqliteSettings::new(self.path()) };
        Arc::new(sqlite::open(settings).unwrap())
    }

    async fn catalogue(&self) -> BTreeSet<String> {
        let connection = self.connect();
        let mut statement =
            connection.prepare("SELECT type || ' ' || name || ': ' || coalesce(sql, '') FROM sqlite_schema").unwrap();
        let mut found: BTreeSet<String> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        for setting in ["user_version", "application_id", "journal_mode"] {
            let value: String = connection
                .query_row(&format!("SELECT CAST({setting} AS TEXT) FROM pragma_{setting}"), [], |row| row.get(0))
                .unwrap();
            found.insert(format!("{setting} = {value}"));
        }
        found
    }

    async fn lose_feed(&self) {
        self.connect().execute_batch("DROP TABLE _concord_changes; DROP TABLE _concord_meta").unwrap();
    }

    /// There is no connection to cut: the file is put in another file's place, so that every open handle is stale.
    async fn cut(&self) {
        let connection = self.connect();
        connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        drop(connection);
        let (path, copy) = (self.path(), self.folder.path().join("copy.db"));
        std::fs::copy(&path, &copy).unwrap();
        for left in ["system.db-wal", "system.db-shm"] {
            let _ = std::fs::remove_file(self.folder.path().join(left));
        }
        std::fs::rename(copy, path).unwrap();
    }

    fn emptying(&self, table: &str) -> String {
        format!("DELETE FROM {}", quoted(table))
    }

    fn upper_case_trigger(&self, table: &str) -> Vec<String> {
        ["INSERT", "UPDATE OF name"]
            .iter()
            .enumerate()
            .map(|(number, event)| {
                format!(
                    "CREATE TRIGGER upper_{number} AFTER {event} ON {table} WHEN NEW.name <> upper(NEW.name)
                     BEGIN UPDATE {table} SET name = upper(NEW.name) WHERE id = NEW.id; END"
                )
            })
            .collect()
    }

    fn type_cases(&self) -> Vec<TypeCase> {
        let case = |column, literal: &str, value| TypeCase { column, literal: literal.to_owned(), value };
        let decimal = |digits: &str| Value::decimal(digits).unwrap();
        let day = Date::new(2024, 2, 29).unwrap();
        let uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        vec![
            case("INTEGER", "NULL", Value::Null),
            case("INTEGER", "9223372036854775807", Value::Int(i64::MAX)),
            case("BIGINT", "-9223372036854775808", Value::Int(i64::MIN)),
            case("INTEGER", "'seven'", Value::text("seven")),
            case("INTEGER", "x'00ff'", Value::Bytes(vec![0, 255])),
            case("BOOLEAN", "1", Value::Bool(true)),
            case("BOOLEAN", "0", Value::Bool(false)),
            case("REAL", "0.1", Value::float(0.1)),
            case("REAL", "5e-324", Value::float(5e-324)),
            case("DOUBLE", "1.7976931348623157e308", Value::float(f64::MAX)),
            case("REAL", "9e999", Value::float(f64::INFINITY)),
            case("REAL", "0.30000000000000004", Value::float(0.1 + 0.2)),
            case("TEXT", "''", Value::text("")),
            case("TEXT", "'007'", Value::text("007")),
            case("TEXT", "CAST(x'610062' AS TEXT)", Value::text("a\0b")),
            case("TEXT", "'Zoë 🦀 ''q'' \"d\"'", Value::text("Zoë 🦀 'q' \"d\"")),
            case("VARCHAR(3)", "'longer than three'", Value::text("longer than three")),
            case("BLOB", "x''", Value::Bytes(vec![])),
            case("BLOB", "x'00ff10'", Value::Bytes(vec![0, 255, 16])),
            case("BLOB", "'text in a blob column'", Value::text("text in a blob column")),
            case("DECIMAL(10,2)", "12345678.90", decimal("12345678.9")),
            case("DECIMAL(10,2)", "'0.10'", decimal("0.1")),
            case("DECIMAL(10,2)", "-5", decimal("-5")),
            case("NUMERIC", "9007199254740993", decimal("9007199254740993")),
            case("NUMERIC", "'not a number'", Value::text("not a number")),
            case("DATE", "'2024-02-29'", Value::Date(day)),
            case("DATE", "'some day'", Value::text("some day")),
            case("TIME", "'23:59:59.5'", Value::Time(Time::parse("23:59:59.5").unwrap())),
            case("DATETIME", "'2024-02-29 12:00:00.123'", Value::Timestamp(Timestamp::parse("2024-02-29T12:00:00.123").unwrap())),
            case(
                "TIMESTAMP",
                "'2024-02-29 12:00:00+02:00'",
                Value::TimestampTz(TimestampTz::parse("2024-02-29T10:00:00Z").unwrap()),
            ),
            case("DATETIME", "1700000000", Value::Int(1_700_000_000)),
            case("UUID", &format!("'{uuid}'"), Value::Uuid(uuid.parse().unwrap())),
            case("UUID", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", Value::text("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11")),
            case("JSON", "'{\"b\": 1, \"a\": [1.50, null]}'", Value::json("{\"b\": 1, \"a\": [1.50, null]}").unwrap()),
            case("JSON", "'17'", Value::json("17").unwrap()),
            case("", "5", Value::Int(5)),
            case("", "'5'", Value::text("5")),
            case("STRING", "'text'", Value::text("text")),
        ]
    }

    fn misfits(&self) -> Vec<Misfit> {
        let misfit = |column, value| Misfit { column, value };
        vec![
            misfit("INTEGER", Value::UInt(u64::MAX)),
            misfit("REAL", Value::float(f64::NAN)),
            misfit("DECIMAL(30,10)", Value::decimal("12345678901234567.89").unwrap()),
            misfit("STRING", Value::text("007")),
            misfit("TEXT", Value::Int(5)),
            misfit("TEXT", Value::Array(vec![Value::Int(1)])),
        ]
    }
}
