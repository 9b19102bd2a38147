//! What is peculiar to SQLite files, beyond the contract that every connector passes: conflicts that replace rows,
//! tables that are rebuilt, files that are put back, locked, missing or damaged.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by panicking"
)]

use concord_connectors::sqlite::{self, SqliteSettings};
use concord_engine::change::{Image, Mark, Observation};
use concord_engine::connector::{Changes, Connector, Event, Feed, Limits, Operation, Outcome, Severity, Write};
use concord_engine::error::{Class, Code};
use concord_engine::record::{Key, ObjectName, Record};
use concord_engine::schema::Selection;
use concord_engine::value::Value;
use rusqlite::Connection;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

struct File {
    folder: TempDir,
}

impl File {
    fn with(tables: &str) -> File {
        let file = File { folder: tempfile::tempdir().unwrap() };
        file.run(tables);
        file
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("file.db")
    }

    fn connect(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }

    fn run(&self, text: &str) {
        self.connect().execute_batch(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    }

    fn open(&self) -> Arc<dyn Connector> {
        let settings = SqliteSettings { busy_timeout: Duration::from_millis(100), ..SqliteSettings::new(self.path()) };
        Arc::new(sqlite::open(settings).unwrap())
    }
}

fn selection(table: &str, fields: &[&str]) -> Selection {
    Selection { object: table.into(), fields: fields.iter().map(|field| (*field).into()).collect() }
}

async fn prepare(connector: &dyn Connector, selections: &[Selection]) -> Feed {
    connector.prepare(selections, &[]).await.unwrap().remove(0)
}

/// Everything that the feed shows from its beginning up to now, as (key, image or what became of it).
async fn shown(connector: &dyn Connector, feed: &Feed) -> Vec<Observation> {
    let mut changes = connector.capture(feed, &feed.position).await.unwrap();
    drain(connector, feed, &mut *changes).await
}

async fn drain(connector: &dyn Connector, feed: &Feed, changes: &mut dyn Changes) -> Vec<Observation> {
    let fence = connector.fence(&feed.name).await.unwrap();
    let limits = Limits { max_events: 100, max_bytes: 1 << 20, max_wait: Duration::from_millis(100) };
    let mut found = Vec::new();
    loop {
        let batch = changes.next(limits).await.unwrap();
        found.extend(batch.events.into_iter().filter_map(|event| match event {
            Event::Observed(one) => Some(one),
            _ => None,
        }));
        if batch.position.is_some_and(|position| connector.reached(&position, &fence)) {
            return found;
        }
    }
}

/// What the feed says is there in the end, in the order of the keys' texts: `key=field`.
fn folded(seen: &[Observation], field: &str) -> Vec<String> {
    let mut there: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();
    for one in seen {
        if let Some(old) = &one.old_key {
            there.remove(&old.to_string());
        }
        match &one.image {
            Image::Full(record) | Image::Partial(record) => {
                there.insert(one.key.to_string(), record.get(field).map_or_else(String::new, Value::to_string));
            }
            Image::Deleted => {
                there.remove(&one.key.to_string());
            }
        }
    }
    there.into_iter().map(|(key, value)| format!("{key}={value}")).collect()
}

/// What the table holds, in the same form.
fn held(file: &File, table: &str, key: &str, field: &str) -> Vec<String> {
    let connection = file.connect();
    let mut statement =
        connection.prepare(&format!("SELECT {key} || '=' || {field} FROM {table} ORDER BY CAST({key} AS TEXT)")).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn mark() -> Mark {
    Mark { store: "s".to_owned(), sync: "y".to_owned(), intent: 1, hops: 0 }
}

fn record<const N: usize>(fields: [(&str, Value); N]) -> Record {
    fields.into_iter().map(|(name, value)| (name.into(), value)).collect()
}

async fn apply(connector: &dyn Connector, selection: &Selection, operations: Vec<Operation>) -> Vec<Outcome> {
    let writes: Vec<Write> = operations.into_iter().zip(0..).map(|(operation, id)| Write { id, operation }).collect();
    connector.apply(selection, &mark(), &writes).await.unwrap().into_iter().map(|result| result.outcome).collect()
}

fn create(number: i64, name: &str) -> Operation {
    Operation::Create { image: record([("id", Value::Int(number)), ("name", Value::text(name))]), absent_by: vec![] }
}

#[tokio::test]
async fn rows_that_replace_takes_away_are_shown_as_deleted() {
    for recursive in ["OFF", "ON"] {
        for table in [
            "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, email TEXT COLLATE NOCASE UNIQUE, a INT, b INT, UNIQUE (a, b))",
            "CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, name TEXT, email TEXT COLLATE NOCASE UNIQUE, a INT, b INT, UNIQUE (a, b)) WITHOUT ROWID",
            "CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, name TEXT, email TEXT COLLATE NOCASE UNIQUE, a INT, b INT, UNIQUE (a, b))",
        ] {
            let file = File::with(table);
            let connector = file.open();
            let feed = prepare(&*connector, &[selection("t", &["name"])]).await;
            for statement in [
                "INSERT INTO t VALUES (1, 'a', 'x@y', 1, 1), (2, 'b', 'b@y', 2, 2), (3, 'c', NULL, 3, NULL), (4, 'd', 'd@y', 4, 4)",
                // The same key: shown as the new image.
                "INSERT OR REPLACE INTO t VALUES (1, 'a2', 'x@y', 1, 1)",
                // Another key, an equal unique set: 1 is gone, without any trigger of its own.
                "INSERT OR REPLACE INTO t VALUES (5, 'e', 'X@Y', 5, 5)",
                // Two rows are gone at once.
                "INSERT OR REPLACE INTO t VALUES (6, 'f', 'b@y', 4, 4)",
                // Nulls are never equal: nothing is gone.
                "INSERT OR REPLACE INTO t VALUES (7, 'g', NULL, 3, NULL)",
                // An update that replaces by a unique set, and one that replaces by the key.
                "UPDATE OR REPLACE t SET email = 'x@y', name = 'g2' WHERE id = 7",
                "INSERT OR IGNORE INTO t VALUES (8, 'ignored', 'x@y', 8, 8)",
                "INSERT INTO t VALUES (9, 'i', 'i@y', 9, 9)",
                "UPDATE OR REPLACE t SET id = 9, name = 'moved' WHERE id = 3",
                "INSERT INTO t VALUES (10, 'n', 'x@y', 10, 10) ON CONFLICT (email) DO UPDATE SET name = 'upserted'",
            ] {
                file.run(&format!("PRAGMA recursive_triggers = {recursive}; {statement}"));
                let seen = shown(&*connector, &feed).await;
                assert_eq!(
                    folded(&seen, "name"),
                    held(&file, "t", "id", "name"),
                    "{table}, recursive {recursive}, behind {statement}"
                );
            }
        }
    }
}

#[tokio::test]
async fn triggers_of_the_application_made_later_do_not_hide_what_they_did() {
    let file = File::with("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)");
    let connector = file.open();
    let feed = prepare(&*connector, &[selection("t", &["name"])]).await;
    // The newest trigger fires first: these run before those of the capture.
    file.run(
        "CREATE TRIGGER later_1 AFTER INSERT ON t BEGIN UPDATE t SET name = upper(NEW.name) WHERE id = NEW.id; END;
         CREATE TRIGGER later_2 AFTER UPDATE ON t WHEN NEW.name = 'GONE' BEGIN DELETE FROM t WHERE id = NEW.id; END;
         CREATE TRIGGER later_3 AFTER DELETE ON t WHEN OLD.name = 'back' BEGIN INSERT INTO t VALUES (OLD.id, 'again'); END;
         INSERT INTO t VALUES (1, 'a'), (2, 'gone'), (3, 'c');
         UPDATE t SET name = 'back' WHERE id = 3;
         DELETE FROM t WHERE id = 3;",
    );
    let seen = shown(&*connector, &feed).await;
    assert_eq!(folded(&seen, "name"), held(&file, "t", "id", "name"));
}

#[tokio::test]
async fn cascades_are_shown_with_our_mark() {
    let file = File::with(
        "CREATE TABLE parents (id INTEGER PRIMARY KEY, name TEXT);
         CREATE TABLE children (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parents ON DELETE CASCADE);
         INSERT INTO parents VALUES (1, 'p'); INSERT INTO children VALUES (10, 1), (11, 1);",
    );
    let connector = file.open();
    let parents = selection("parents", &["name"]);
    let feed = prepare(&*connector, &[parents.clone(), selection("children", &["parent"])]).await;
    apply(&*connector, &parents, vec![Operation::Delete { key: Key(vec![Value::Int(1)]), guard: record([]) }]).await;
    let seen = shown(&*connector, &feed).await;
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|one| one.image == Image::Deleted && one.mark == Some(mark())));
}

#[tokio::test]
async fn a_row_that_makes_the_database_undo_everything_fails_alone() {
    let file = File::with(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT);
         CREATE TRIGGER refuse BEFORE INSERT ON t WHEN NEW.name = 'bad' BEGIN SELECT RAISE(ROLLBACK, 'refused by a rule'); END;
         CREATE TRIGGER skip BEFORE INSERT ON t WHEN NEW.name = 'skip' BEGIN SELECT RAISE(IGNORE); END;",
    );
    let connector = file.open();
    let table = selection("t", &["name"]);
    let feed = prepare(&*connector, std::slice::from_ref(&table)).await;
    let names = ["good", "bad", "fine", "skip", "bad", "well"];
    let outcomes = apply(&*connector, &table, names.iter().zip(1..).map(|(name, id)| create(id, name)).collect()).await;
    for (outcome, name) in outcomes.iter().zip(names) {
        match outcome {
            Outcome::Written { .. } => assert!(!["bad", "skip"].contains(&name)),
            Outcome::Failed(error) => {
                assert!(["bad", "skip"].contains(&name), "{name}: {error}");
                assert_eq!(error.class(), Class::Rejected);
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    assert_eq!(held(&file, "t", "id", "name"), ["1=good", "3=fine", "6=well"]);
    let seen = shown(&*connector, &feed).await;
    assert!(seen.iter().all(|one| one.mark == Some(mark())), "a transaction begun anew is marked anew");
    file.run("INSERT INTO t VALUES (20, 'theirs')");
    assert_eq!(shown(&*connector, &feed).await.last().unwrap().mark, None, "no mark is left behind");
}

#[tokio::test]
async fn deferred_references_fail_the_row_that_breaks_them_and_no_other() {
    let file = File::with(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, parent INTEGER REFERENCES t DEFERRABLE INITIALLY DEFERRED)",
    );
    let connector = file.open();
    let table = selection("t", &["name", "parent"]);
    prepare(&*connector, std::slice::from_ref(&table)).await;
    let make = |id: i64, parent: Value| Operation::Create {
        image: record([("id", Value::Int(id)), ("parent", parent)]),
        absent_by: vec![],
    };
    // The child stands before its parent: together they hold.
    let outcomes = apply(&*connector, &table, vec![make(2, Value::Int(1)), make(1, Value::Null)]).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Written { .. })), "{outcomes:?}");
    let outcomes = apply(&*connector, &table, vec![make(3, Value::Null), make(4, Value::Int(99)), make(5, Value::Int(1))]).await;
    assert!(matches!(&outcomes[0], Outcome::Written { .. }));
    assert!(matches!(&outcomes[1], Outcome::Failed(error) if error.class() == Class::Rejected), "{outcomes:?}");
    assert!(matches!(&outcomes[2], Outcome::Written { .. }));
}

#[tokio::test]
async fn a_file_put_back_from_a_copy_is_a_gap_even_when_it_has_grown_again() {
    let file = File::with("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)");
    let connector = file.open();
    let table = selection("t", &["name"]);
    let feed = prepare(&*connector, std::slice::from_ref(&table)).await;
    file.run("INSERT INTO t VALUES (1, 'a')");
    let copy = file.folder.path().join("copy.db");
    std::fs::copy(file.path(), &copy).unwrap();
    file.run("INSERT INTO t VALUES (2, 'lost'), (3, 'lost')");
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    drain(&*connector, &feed, &mut *changes).await;
    let position = connector.fence(&feed.name).await.unwrap();
    std::fs::rename(&copy, file.path()).unwrap();
    let limits = Limits { max_events: 10, max_bytes: 1 << 20, max_wait: Duration::from_millis(50) };
    assert_eq!(changes.next(limits).await.unwrap_err().code, Code::FeedRewound, "an open feed notices");
    let known = Feed { position: position.clone(), ..feed.clone() };
    assert_eq!(
        connector.prepare(std::slice::from_ref(&table), std::slice::from_ref(&known)).await.unwrap_err().code,
        Code::FeedRewound
    );
    // Numbers have caught up, and mean other changes.
    file.run("INSERT INTO t VALUES (4, 'x'); INSERT INTO t VALUES (5, 'y'); INSERT INTO t VALUES (6, 'z')");
    file.run("UPDATE _concord_changes SET at = at + 7 WHERE seq > (SELECT min(seq) + 1 FROM _concord_changes)");
    assert_eq!(connector.prepare(std::slice::from_ref(&table), &[known]).await.unwrap_err().code, Code::FeedRewound);
    assert_eq!(connector.capture(&feed, &position).await.err().unwrap().code, Code::FeedRewound);
}

#[tokio::test]
async fn a_table_made_anew_without_its_triggers_is_a_gap() {
    let file =
        File::with("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE other (id INTEGER PRIMARY KEY, name TEXT)");
    let connector = file.open();
    let selections = [selection("t", &["name"]), selection("other", &["name"])];
    let feed = prepare(&*connector, &selections).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    file.run(
        "BEGIN; CREATE TABLE made (id INTEGER PRIMARY KEY, name TEXT, more TEXT); INSERT INTO made SELECT id, name, '' FROM t;
         DROP TABLE t; ALTER TABLE made RENAME TO t; COMMIT; INSERT INTO t VALUES (1, 'unseen', '')",
    );
    let limits = Limits { max_events: 10, max_bytes: 1 << 20, max_wait: Duration::from_millis(50) };
    let error = changes.next(limits).await.unwrap_err();
    assert_eq!(error.code, Code::FeedGap);
    assert!(error.message.contains("table t "), "{error}");
    assert_eq!(connector.prepare(&selections, &[feed]).await.unwrap_err().code, Code::FeedGap);
}

#[tokio::test]
async fn a_dropped_table_is_announced_and_the_others_go_on() {
    let file =
        File::with("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE other (id INTEGER PRIMARY KEY, name TEXT)");
    let connector = file.open();
    let feed = prepare(&*connector, &[selection("t", &["name"]), selection("other", &["name"])]).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    file.run("INSERT INTO t VALUES (1, 'a'); DROP TABLE t; INSERT INTO other VALUES (1, 'b')");
    let limits = Limits { max_events: 10, max_bytes: 1 << 20, max_wait: Duration::from_secs(1) };
    let mut told = Vec::new();
    while told.len() < 3 {
        for event in changes.next(limits).await.unwrap().events {
            told.push(match event {
                Event::Observed(one) | Event::Read(one) => format!("{} {}", one.object, one.key),
                Event::SchemaChanged(schema) => format!("{} has {} fields", schema.object, schema.fields.len()),
                Event::Truncated { .. } => panic!("nothing was truncated"),
            });
        }
    }
    told.sort();
    assert_eq!(told, ["other 1", "t 1", "t has 0 fields"]);
}

#[tokio::test]
async fn acknowledged_changes_leave_the_file_and_the_position_stays_provable() {
    let file = File::with("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)");
    let connector = file.open();
    let table = selection("t", &["name"]);
    let feed = prepare(&*connector, std::slice::from_ref(&table)).await;
    file.run(
        "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 12000) INSERT INTO t SELECT i, 'x' FROM n",
    );
    let position = connector.fence(&feed.name).await.unwrap();
    connector.acknowledge(&feed.name, &position).await.unwrap();
    let rows = || -> i64 { file.connect().query_row("SELECT count(*) FROM _concord_changes", [], |row| row.get(0)).unwrap() };
    assert_eq!(rows(), 1, "the row that proves the position stays");
    let known = Feed { position: position.clone(), ..feed.clone() };
    assert_eq!(connector.prepare(std::slice::from_ref(&table), &[known]).await.unwrap()[0].position, position);
    assert!(shown(&*connector, &Feed { position, ..feed.clone() }).await.is_empty());
    assert_eq!(
        connector.capture(&feed, &feed.position).await.err().unwrap().code,
        Code::FeedGap,
        "what is gone cannot be resumed"
    );
    file.run("INSERT INTO t VALUES (20000, 'y')");
    assert_eq!(rows(), 2, "numbers go on behind the row that stayed");
}

#[tokio::test]
async fn rows_without_a_key_are_no_records() {
    let file =
        File::with("CREATE TABLE t (id TEXT PRIMARY KEY, name TEXT); INSERT INTO t VALUES (NULL, 'nobody'), ('k', 'somebody')");
    let connector = file.open();
    let table = selection("t", &["name"]);
    let findings = connector.check(std::slice::from_ref(&table.object)).await.unwrap();
    assert!(findings.iter().any(|finding| finding.about == "t.id" && finding.severity == Severity::Warning));
    let feed = prepare(&*connector, std::slice::from_ref(&table)).await;
    let chunk = connector.snapshot(&table, &Default::default(), 10).await.unwrap();
    assert_eq!(chunk.records.len(), 1);
    file.run("UPDATE t SET name = 'still nobody' WHERE id IS NULL; UPDATE t SET id = NULL WHERE id = 'k'; UPDATE t SET id = 'n' WHERE name = 'somebody'");
    let seen = shown(&*connector, &feed).await;
    let told: Vec<_> = seen.iter().map(|one| (one.key.to_string(), one.old_key.clone(), one.image == Image::Deleted)).collect();
    assert_eq!(told, [("k".to_owned(), None, true), ("n".to_owned(), None, false)]);
}

#[tokio::test]
async fn generated_columns_are_shown_and_never_written() {
    let file = File::with(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, loud TEXT AS (upper(name)) VIRTUAL, kept INT AS (length(name)) STORED)",
    );
    let connector = file.open();
    let table = selection("t", &["name", "loud", "kept"]);
    let schema = connector.schema(&table.object).await.unwrap();
    assert!(["loud", "kept"].iter().all(|name| schema.field(name).is_some_and(|field| !field.creatable && !field.updatable)));
    let feed = prepare(&*connector, std::slice::from_ref(&table)).await;
    file.run("INSERT INTO t (id, name) VALUES (1, 'ab')");
    let outcomes = apply(&*connector, &table, vec![create(2, "xyz")]).await;
    assert!(
        matches!(&outcomes[0], Outcome::Written { image: Some(image), .. } if image.get("loud") == Some(&Value::text("XYZ")))
    );
    let seen = shown(&*connector, &feed).await;
    assert_eq!(folded(&seen, "loud"), ["1=AB", "2=XYZ"]);
    let set = record([("loud", Value::text("Q"))]);
    let outcomes = apply(
        &*connector,
        &table,
        vec![Operation::Update { key: Key(vec![Value::Int(1)]), set, guard: record([]) }, create(3, "c")],
    )
    .await;
    assert!(matches!(&outcomes[0], Outcome::Failed(error) if error.class() == Class::Rejected), "{outcomes:?}");
    assert!(matches!(&outcomes[1], Outcome::Written { .. }));
}

#[tokio::test]
async fn a_missing_file_is_tried_again_and_never_made() {
    let file = File { folder: tempfile::tempdir().unwrap() };
    let connector = file.open();
    let error = connector.objects().await.unwrap_err();
    assert_eq!((error.code, error.class()), (Code::FileUnavailable, Class::Transient));
    assert!(!file.path().exists());
    file.run("CREATE TABLE t (id INTEGER PRIMARY KEY)");
    assert_eq!(connector.objects().await.unwrap(), [ObjectName::from("t")], "the next call connects");
}

#[tokio::test]
async fn a_file_that_is_no_database_stops() {
    let file = File { folder: tempfile::tempdir().unwrap() };
    std::fs::write(file.path(), "this is a letter to somebody and no database at all, long enough to have a header ".repeat(20))
        .unwrap();
    let error = file.open().objects().await.unwrap_err();
    assert_eq!((error.code, error.class()), (Code::FileCorrupt, Class::Stop));
}

#[tokio::test]
async fn a_locked_file_is_busy_and_dropping_the_connector_does_not_wait_for_the_lock() {
    let file = File::with("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)");
    let settings = SqliteSettings { busy_timeout: Duration::from_secs(3600), ..SqliteSettings::new(file.path()) };
    let patient = Arc::new(sqlite::open(settings).unwrap());
    let connector = file.open();
    let table = selection("t", &["name"]);
    let feed = prepare(&*connector, std::slice::from_ref(&table)).await;
    let user = file.connect();
    user.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = connector.fence(&feed.name).await.unwrap_err();
    assert_eq!((error.code, error.class()), (Code::Busy, Class::Transient));
    let outcomes = apply(&*connector, &table, vec![create(1, "a"), create(2, "b")]).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Locked)), "{outcomes:?}");
    let waiting = tokio::time::timeout(Duration::from_millis(20), patient.fence(&feed.name)).await;
    assert!(waiting.is_err(), "an hour's patience is not over yet");
    drop(patient);
    user.execute_batch("ROLLBACK").unwrap();
    assert!(matches!(apply(&*connector, &table, vec![create(1, "a")]).await[0], Outcome::Written { .. }));
}

#[tokio::test]
async fn a_file_that_may_only_be_read_is_found_by_check() {
    let file = File::with("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)");
    let mut rights = std::fs::metadata(file.path()).unwrap().permissions();
    rights.set_readonly(true);
    std::fs::set_permissions(file.path(), rights).unwrap();
    let findings = file.open().check(&[]).await.unwrap();
    assert!(findings.iter().any(|finding| finding.code == Some(Code::FileReadOnly) && finding.remedy.contains("chmod")));
}

#[tokio::test]
async fn a_rollback_journal_serves_as_well_as_a_write_ahead_log() {
    let file = File::with("PRAGMA journal_mode = DELETE; CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)");
    let connector = file.open();
    let table = selection("t", &["name"]);
    let findings = connector.check(std::slice::from_ref(&table.object)).await.unwrap();
    assert!(findings.iter().any(|finding| finding.severity == Severity::Advice && finding.remedy.contains("WAL")));
    let feed = prepare(&*connector, std::slice::from_ref(&table)).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    for id in 1..=20 {
        let outcomes = apply(&*connector, &table, vec![create(id, "ours")]).await;
        assert!(matches!(outcomes[0], Outcome::Written { .. }), "{outcomes:?}");
        file.connect().execute("UPDATE t SET name = 'theirs' WHERE id = ?1", [id]).unwrap();
    }
    assert_eq!(drain(&*connector, &feed, &mut *changes).await.len(), 40);
    let mode: String = file.connect().query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "delete", "the file's settings are the owner's");
}

#[tokio::test]
async fn a_trigger_that_only_the_application_can_run_fails_the_record_with_its_reason() {
    let file = File::with(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT);
         CREATE TRIGGER theirs AFTER UPDATE ON t BEGIN SELECT only_in_the_application(NEW.name); END;",
    );
    let connector = file.open();
    let table = selection("t", &["name"]);
    prepare(&*connector, std::slice::from_ref(&table)).await;
    file.run("INSERT INTO t VALUES (1, 'a')");
    let set = record([("name", Value::text("b"))]);
    let outcomes = apply(
        &*connector,
        &table,
        vec![Operation::Update { key: Key(vec![Value::Int(1)]), set, guard: record([]) }, create(2, "c")],
    )
    .await;
    assert!(
        matches!(&outcomes[0], Outcome::Failed(error) if error.code == Code::WriteRefused && error.message.contains("only_in_the_application")),
        "{outcomes:?}"
    );
    assert!(matches!(&outcomes[1], Outcome::Written { .. }));
}

#[tokio::test]
async fn an_emptied_change_table_is_a_gap_and_acknowledging_ends() {
    let file = File::with("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)");
    let connector = file.open();
    let table = selection("t", &["name"]);
    let feed = prepare(&*connector, std::slice::from_ref(&table)).await;
    file.run("DELETE FROM _concord_changes");
    connector.acknowledge(&feed.name, &feed.position).await.unwrap();
    // An emptied table and one put back from an older copy look alike: in both the feed cannot be resumed.
    let code = connector.capture(&feed, &feed.position).await.err().unwrap().code;
    assert!(code.is_gap(), "{code}");
}

// Somebody sees a large table, and empties it: what is written then is numbered from the beginning.
#[tokio::test]
async fn a_change_table_that_is_emptied_under_an_open_feed_is_a_gap() {
    let file = File::with("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)");
    let connector = file.open();
    let feed = prepare(&*connector, &[selection("t", &["name"])]).await;
    let mut changes = connector.capture(&feed, &feed.position).await.unwrap();
    file.run("INSERT INTO t VALUES (1, 'a')");
    assert_eq!(drain(&*connector, &feed, &mut *changes).await.len(), 1);
    file.run("DELETE FROM _concord_changes; INSERT INTO t VALUES (2, 'b')");
    let limits = Limits { max_events: 10, max_bytes: 1 << 20, max_wait: Duration::from_millis(50) };
    let code = changes.next(limits).await.unwrap_err().code;
    assert!(code.is_gap(), "{code}");
}
