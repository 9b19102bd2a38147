//! What is a file's own as a target: one writer for all that is loaded, other programs beside it, definitions that stand in the
//! way, indexes of its schema, and copies that are put back.

use crate::rules;
use crate::support::{File, Target, WorldOf};
use concord_engine::connector::Connector;
use concord_engine::error::{Code, Error, Result};
use concord_engine::mirror::batch::Step;
use concord_engine::mirror::bulk::{Helper, MirrorSession, Taken};
use concord_engine::record::{FieldName, Key, Record};
use concord_engine::value::Value;
use futures_util::future::join_all;
use futures_util::stream::{self, BoxStream, StreamExt};
use std::sync::{Arc, Mutex};
use std::time::Duration;

type World = WorldOf<File>;

const TABLE: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE, tally INTEGER)";
const LEFT: &str = "CREATE TABLE t (id int PRIMARY KEY, name text UNIQUE, tally int)";
const FILLED: &str = "INSERT INTO t SELECT n, 'name ' || n, n FROM generate_series(1, 10000) n; ANALYZE t";
const FIELDS: &[&str] = &["id", "name", "tally"];

/// A file with a connector of its own.
struct Lite {
    file: File,
    connector: Arc<dyn Connector>,
}

/// What a session asked for, and what it gets.
#[derive(Default)]
struct Desk {
    whole: Vec<Step>,
    refused: Mutex<Vec<(Step, Error)>>,
}

#[async_trait::async_trait]
impl Helper for Desk {
    async fn whole(&self, keys: &[Key]) -> Result<(Vec<Step>, usize)> {
        let steps = self.whole.iter().filter(|step| step.key().is_some_and(|key| keys.contains(key))).cloned().collect();
        Ok((steps, keys.len()))
    }

    async fn refused(&self, refused: Vec<(Step, Error)>) -> Result<()> {
        self.refused.lock().unwrap().extend(refused);
        Ok(())
    }
}

impl Desk {
    /// Keys and codes of what was refused.
    fn told(&self) -> Vec<(String, Code)> {
        let refused = self.refused.lock().unwrap();
        refused.iter().map(|(step, error)| (step.key().unwrap().to_string(), error.code)).collect()
    }
}

impl Lite {
    fn with(tables: &str) -> Lite {
        let file = File::make();
        file.psql(&format!("{tables};"));
        let connector = file.connector();
        Lite { file, connector }
    }

    async fn take_over(&self, sync: &str) -> Taken {
        self.connector.mirror_target().unwrap().take_over(sync, &"t".into()).await.unwrap()
    }

    /// A session that has begun.
    async fn session(&self, sync: &str) -> Arc<dyn MirrorSession> {
        let session = self.take_over(sync).await.session;
        session.keep(b"begun", true).await.unwrap();
        session
    }

    async fn objection(&self) -> Option<String> {
        self.connector.mirror_target().unwrap().objection(&"t".into()).await.unwrap()
    }

    /// All that the file's schema says.
    fn schema(&self) -> String {
        self.file.psql("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY 1, 2")
    }

    fn rows(&self) -> String {
        self.file.psql("SELECT * FROM t ORDER BY 1").replace('\n', ", ")
    }
}

fn key(number: i64) -> Key {
    Key(vec![Value::Int(number)])
}

fn shown(fields: &[(&str, Value)]) -> Record {
    fields.iter().map(|(name, value)| (FieldName::from(*name), value.clone())).collect()
}

fn put(number: i64, name: &str) -> Step {
    let record = shown(&[("id", Value::Int(number)), ("name", Value::text(name)), ("tally", Value::Int(number))]);
    Step::Put { key: key(number), record, made: false }
}

fn rekey(from: i64, to: i64) -> Step {
    Step::Rekey { from: key(from), to: key(to), set: shown(&[("id", Value::Int(to))]), whole: false }
}

fn lots(numbers: std::ops::Range<i64>) -> BoxStream<'static, Result<Vec<Step>>> {
    let steps: Vec<Step> = numbers.map(|number| put(number, &format!("name {number}"))).collect();
    let lots: Vec<Result<Vec<Step>>> = steps.chunks(100).map(|lot| Ok(lot.to_vec())).collect();
    stream::iter(lots).boxed()
}

/// Comes to its end only by being dropped.
fn without_end(numbers: std::ops::Range<i64>) -> BoxStream<'static, Result<Vec<Step>>> {
    lots(numbers).chain(stream::pending()).boxed()
}

#[tokio::test]
async fn a_file_is_filled_with_every_type_that_fits_and_verifies_equal() {
    let left = "CREATE TABLE t (id bigint PRIMARY KEY, name text, amount numeric(12,2), at timestamptz, on_day date, code uuid, more jsonb, \
        raw bytea, ok bool, ratio float8)";
    let right = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, amount NUMERIC(12,2), at TIMESTAMPTZ, on_day DATE, code UUID, more JSON, \
        raw BLOB, ok BOOLEAN, ratio REAL, own TEXT DEFAULT 'mine')";
    let filled = "INSERT INTO t SELECT n, CASE WHEN n % 3 > 0 THEN 'name ' || n END, n / 7.0, '2026-01-01'::timestamptz + n * interval '1 minute', \
        '2026-01-01'::date + n, gen_random_uuid(), jsonb_build_object('n', n), decode('00ff', 'hex'), n % 2 = 0, n / 3.0 FROM generate_series(1, 5000) n";
    let fields = ["id", "name", "amount", "at", "on_day", "code", "more", "raw", "ok", "ratio"];
    let mut world = World::of(left, right, filled, &fields).await;
    world.start().await;
    world.until("it is level", async || world.status().level).await;
    let found = world.verify().await;
    assert!(found.is_equal() && found.equal == 5000, "{found:?}");
    assert_eq!(world.status().mode, "mirror");
    world.left.psql(
        "UPDATE t SET amount = 0.1, ok = NULL, more = '[1, 2.50]', raw = '' WHERE id % 2 = 0; DELETE FROM t WHERE id % 5 = 0",
    );
    let arrived = async || world.right.psql("SELECT count(*) FROM t WHERE own = 'mine'") == "4000" && world.status().level;
    world.until("the changes are there", arrived).await;
    let found = world.verify().await;
    assert!(found.is_equal() && found.equal == 4000, "{found:?}");
}

#[tokio::test]
async fn what_does_not_fit_is_refused_before_it_is_written_and_everything_else_flows() {
    let left = "CREATE TABLE t (id int PRIMARY KEY, name text, amount numeric)";
    let right = "CREATE TABLE t (id INTEGER PRIMARY KEY, name STRING, amount NUMERIC)";
    let filled = "INSERT INTO t SELECT n, CASE n WHEN 5 THEN '007' ELSE 'name' END, n FROM generate_series(1, 100) n";
    let mut world = World::of(left, right, filled, &["id", "name", "amount"]).await;
    world.start().await;
    let review = world.until_review().await;
    assert_eq!(review.code, "CON-3002", "{review:?}");
    world.left.psql("UPDATE t SET amount = 1234567890.12345678901 WHERE id = 7; UPDATE t SET amount = -1 WHERE id = 8");
    world.until("both wait", async || world.reviews().await.len() == 2).await;
    let rest = "SELECT count(*), sum(id = 5), sum(amount = 7), sum(amount = -1) FROM t";
    world.until("the rest is there", async || world.right.psql(rest) == "99|0|1|1").await;
    world.left.psql("UPDATE t SET name = 'seven', amount = 1 WHERE id IN (5, 7)");
    world.until_equal().await;
    world.until("nothing waits", async || world.reviews().await.is_empty()).await;
}

#[tokio::test]
async fn keys_of_any_kind_and_tables_without_row_ids_are_mirrored() {
    for right in [
        "CREATE TABLE t (region TEXT, number INTEGER, value JSON, PRIMARY KEY (region, number)) WITHOUT ROWID",
        "CREATE TABLE t (region TEXT NOT NULL, number INTEGER NOT NULL, value TEXT); CREATE UNIQUE INDEX k ON t (region, number)",
        "CREATE TABLE t (region TEXT NOT NULL, number INTEGER NOT NULL, value TEXT, PRIMARY KEY (number, region)) STRICT",
    ] {
        let left = "CREATE TABLE t (region text, number int, value text, PRIMARY KEY (region, number))";
        let filled = "INSERT INTO t SELECT 'r' || n % 7, n, '{}' FROM generate_series(1, 2000) n";
        let world = World::of(left, right, filled, &["region", "number", "value"]).await.started().await;
        world.left.psql("DELETE FROM t WHERE number <= 5; UPDATE t SET value = '1' WHERE number = 6; UPDATE t SET region = 'z' WHERE number = 7");
        world.until_equal().await;
        assert!(world.verify().await.is_equal());
    }
}

#[tokio::test]
async fn a_file_with_a_rollback_journal_serves_as_well() {
    let left = crate::server::Server::shared().database();
    let world = World::between(left, File::of("delete"), LEFT, TABLE, FILLED, FIELDS).await.started().await;
    world.left.psql("UPDATE t SET tally = 0; DELETE FROM t WHERE id < 100; INSERT INTO t VALUES (-1, 'new', 1)");
    world.until_equal().await;
    assert!(world.verify().await.is_equal());
}

#[tokio::test]
async fn a_file_that_another_program_keeps_locked_gets_its_changes_once_it_lets_go() {
    let world = World::of(LEFT, TABLE, FILLED, FIELDS).await.started().await;
    let other = world.right.connect();
    other.execute_batch("BEGIN IMMEDIATE; UPDATE t SET tally = -1 WHERE id = 5").unwrap();
    world.left.psql("UPDATE t SET tally = 7 WHERE id <= 10");
    world.until("it is said that the file is locked", async || world.status().members[1].reach.contains("CON-2014")).await;
    other.execute_batch("COMMIT").unwrap();
    world.until_equal().await;
    assert!(world.reviews().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_that_are_loaded_side_by_side_wait_for_each_other_and_other_programs_get_their_turn() {
    let lite = Lite::with(&format!("{TABLE}; CREATE TABLE other (n INTEGER)"));
    let (session, desk) = (lite.session("one").await, Desk::default());
    let other = lite.file.connect();
    let writing = std::thread::spawn(move || {
        for n in 0..50 {
            other.execute("INSERT INTO other VALUES (?1)", [n]).unwrap();
        }
    });
    let loading = (0..16_u32).map(|range| {
        let from = i64::from(range) * 1_000;
        session.load(range, lots(from..from + 1_000), &desk)
    });
    join_all(loading).await.into_iter().collect::<Result<Vec<()>>>().unwrap();
    writing.join().unwrap();
    assert_eq!(lite.file.psql("SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM other)"), "16000|50");
    assert_eq!(session.loaded().await.unwrap(), (0..16).collect());
    assert!(desk.told().is_empty());
}

#[tokio::test]
async fn a_range_is_there_with_the_note_that_it_is_or_not_at_all() {
    let lite = Lite::with(TABLE);
    let (session, desk) = (lite.session("one").await, Desk::default());
    session.load(0, lots(0..500), &desk).await.unwrap();
    let cut_short = tokio::time::timeout(Duration::from_millis(300), session.load(1, without_end(500..1_000), &desk)).await;
    assert!(cut_short.is_err(), "it was still waiting for rows");
    let failing = lots(500..1_000).chain(stream::once(async { Err(Error::new(Code::Unreachable, "the source is gone")) }));
    assert_eq!(session.load(1, failing.boxed(), &desk).await.unwrap_err().code, Code::Unreachable);
    // Nobody holds the lock any more.
    lite.file.psql("INSERT INTO t VALUES (-1, 'of another program', 0)");
    assert_eq!(lite.file.psql("SELECT count(*) FROM t"), "501");
    assert_eq!(session.loaded().await.unwrap(), [0].into());
    session.load(1, lots(500..1_000), &desk).await.unwrap();
    assert_eq!(lite.file.psql("SELECT count(*) FROM t"), "1001");
}

#[tokio::test]
async fn only_whoever_took_a_sync_over_last_writes_and_only_into_the_file_that_it_left() {
    let lite = Lite::with(TABLE);
    let desk = Desk::default();
    let first = lite.session("one").await;
    first.write(&[put(1, "a")], b"first", &desk).await.unwrap();
    first.settle().await.unwrap();
    // By another process, as it were.
    let second = Lite { connector: lite.file.connector(), ..lite };
    let Taken { session, progress, .. } = second.take_over("one").await;
    assert_eq!(progress.as_deref(), Some(&b"first"[..]));
    let busy = |done: Result<()>| assert_eq!(done.unwrap_err().code, Code::Busy);
    busy(first.write(&[put(2, "b")], b"late", &desk).await);
    busy(first.keep(b"late", true).await);
    busy(first.settle().await);
    busy(first.load(0, lots(5..6), &desk).await);
    busy(first.set_indexes_aside(&[]).await);
    session.write(&[put(3, "c")], b"second", &desk).await.unwrap();
    assert_eq!(second.rows(), "1|a|1, 3|c|3");

    second.file.psql("PRAGMA wal_checkpoint(TRUNCATE)");
    let copy = std::fs::read(second.file.path()).unwrap();
    session.write(&[put(4, "d")], b"third", &desk).await.unwrap();
    session.settle().await.unwrap();
    second.file.replace(&copy);
    busy(session.write(&[put(5, "e")], b"fourth", &desk).await);
    busy(session.settle().await);
    assert_eq!(second.rows(), "1|a|1, 3|c|3");
    assert_eq!(second.take_over("one").await.progress.as_deref(), Some(&b"second"[..]));
}

#[tokio::test]
async fn steps_take_effect_one_after_the_other_and_one_that_is_refused_costs_the_others_nothing() {
    let strict = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE CHECK (name <> 'bad'), tally INTEGER, own TEXT DEFAULT 'mine'); \
        CREATE TABLE seen (id INTEGER); \
        CREATE TRIGGER sees AFTER INSERT ON t BEGIN INSERT INTO seen VALUES (NEW.id); SELECT RAISE(ABORT, 'no') WHERE NEW.name = 'no'; END; \
        CREATE TRIGGER ignores BEFORE INSERT ON t WHEN NEW.name = 'ignored' BEGIN SELECT RAISE(IGNORE); END";
    let lite = Lite::with(strict);
    let (session, desk) = (lite.session("one").await, Desk::default());
    let change = |number, name: &str| Step::Change { key: key(number), set: shown(&[("name", Value::text(name))]) };
    let steps = [
        put(1, "a"),
        put(2, "bad"),
        put(3, "no"),
        put(4, "ignored"),
        change(1, "b"),
        Step::Remove { key: key(9) },
        put(5, "a"),
        // A chain of keys, from its end, and then a record that is gone and made anew.
        rekey(5, 6),
        rekey(1, 5),
        Step::Remove { key: key(6) },
        put(6, "e"),
        Step::Put {
            key: key(7),
            record: shown(&[("id", Value::Int(7)), ("name", Value::UInt(u64::MAX)), ("tally", Value::Null)]),
            made: false,
        },
    ];
    session.write(&steps, b"here", &desk).await.unwrap();
    assert_eq!(lite.rows(), "5|b|1|mine, 6|e|6|mine");
    assert_eq!(lite.file.psql("SELECT group_concat(id) FROM seen"), "1,5,6", "what is refused takes its traces along");
    let mut told = desk.told();
    told.sort_by(|(one, _), (other, _)| one.cmp(other));
    let expected =
        [("2", Code::TargetRejected), ("3", Code::TargetRejected), ("4", Code::TargetRejected), ("7", Code::ValueDoesNotFit)];
    assert_eq!(told, expected.map(|(key, code)| (key.to_owned(), code)));
    assert_eq!(lite.take_over("one").await.progress.as_deref(), Some(&b"here"[..]));
}

#[tokio::test]
async fn a_partial_change_that_meets_nothing_brings_the_whole_record_and_an_emptied_table_is_empty() {
    let lite = Lite::with(TABLE);
    let (session, desk) = (lite.session("one").await, Desk { whole: vec![put(2, "whole")], ..Desk::default() });
    let change = |number| Step::Change { key: key(number), set: shown(&[("tally", Value::Int(0))]) };
    let moved = Step::Rekey {
        from: key(8),
        to: key(9),
        set: shown(&[("id", Value::Int(9)), ("name", Value::text("moved"))]),
        whole: true,
    };
    session.write(&[put(1, "a"), change(2), change(3), moved, change(1)], b"1", &desk).await.unwrap();
    assert_eq!(lite.rows(), "1|a|0, 2|whole|2, 9|moved|");
    session.write(&[Step::Empty, put(4, "a")], b"2", &desk).await.unwrap();
    assert_eq!(lite.rows(), "4|a|4");
    assert!(desk.told().is_empty());
}

#[tokio::test]
async fn records_in_each_others_way_find_their_places_and_those_in_a_strangers_way_wait() {
    let own = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, tally INTEGER, own TEXT DEFAULT 'mine')";
    let lite = Lite::with(own);
    let (session, desk) = (lite.session("one").await, Desk::default());
    let name = |number: i64| format!("n{number}");
    session.write(&(1..=400).map(|n| put(n, &name(n))).collect::<Vec<_>>(), b"1", &desk).await.unwrap();
    lite.file.psql("UPDATE t SET own = 'own ' || id; INSERT INTO t VALUES (1000, 'strange', 0, '')");
    // A ring, and two chains behind the stranger's value, told in either direction.
    let ring = (1..=100).map(|n| put(n, &name(n % 100 + 1)));
    let forwards = (101..=200).map(|n| put(n, &if n == 101 { "strange".to_owned() } else { name(n - 1) }));
    let backwards = (201..=300).rev().map(|n| put(n, &if n == 201 { "strange".to_owned() } else { name(n - 1) }));
    let fine = (301..=400).map(|n| put(n, &name(n + 100)));
    session.write(&ring.chain(forwards).chain(backwards).chain(fine).collect::<Vec<_>>(), b"2", &desk).await.unwrap();
    assert_eq!(lite.file.psql("SELECT count(*), sum(own = 'own ' || id) FROM t"), "401|400");
    let placed = "SELECT sum(name = 'n' || (id % 100 + 1)) FROM t WHERE id <= 100";
    assert_eq!(lite.file.psql(placed), "100");
    assert_eq!(lite.file.psql("SELECT count(*) FROM t WHERE id BETWEEN 101 AND 300 AND name = 'n' || id"), "200", "as they were");
    assert_eq!(lite.file.psql("SELECT count(*) FROM t WHERE id BETWEEN 301 AND 400 AND name = 'n' || (id + 100)"), "100");
    let told = desk.told();
    assert!(told.len() == 200 && told.iter().all(|(_, code)| *code == Code::ValueTaken), "{told:?}");
}

#[tokio::test]
async fn a_table_that_lost_a_column_stops_the_sync_and_no_record_is_blamed() {
    let lite = Lite::with(TABLE);
    let (session, desk) = (lite.session("one").await, Desk::default());
    session.write(&[put(1, "a")], b"1", &desk).await.unwrap();
    lite.file.psql("ALTER TABLE t DROP COLUMN tally");
    assert_eq!(session.write(&[put(2, "b")], b"2", &desk).await.unwrap_err().code, Code::FieldMissing);
    lite.file.psql("DROP TABLE t");
    assert_eq!(session.write(&[put(2, "b")], b"2", &desk).await.unwrap_err().code, Code::ObjectMissing);
    assert!(desk.told().is_empty());
}

#[tokio::test]
async fn what_stands_in_the_way_of_mirroring_into_a_file_is_said() {
    let plain = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, conflict TEXT DEFAULT 'on hold')";
    let told = "CREATE TABLE log (id INTEGER); CREATE TRIGGER l AFTER INSERT ON t BEGIN INSERT OR IGNORE INTO log VALUES (NEW.id); \
        SELECT RAISE(ABORT, 'no rollback') WHERE NEW.id < 0; END";
    for fine in [plain.to_owned(), format!("{plain}; {told}"), format!("{plain}; CREATE VIEW v AS SELECT * FROM t")] {
        assert_eq!(Lite::with(&fine).objection().await, None, "{fine}");
    }
    for (tables, why) in [
        (
            "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE t (id INTEGER PRIMARY KEY, p INTEGER REFERENCES p)",
            "foreign keys",
        ),
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY); CREATE TABLE c (id INTEGER PRIMARY KEY, t INTEGER REFERENCES \"T\")",
            "foreign keys",
        ),
        ("CREATE TABLE t (id TEXT PRIMARY KEY COLLATE NOCASE, name TEXT)", "collation"),
        ("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE on\nconflict REPLACE)", "ON CONFLICT"),
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY); CREATE TABLE log (id INTEGER); \
             CREATE TRIGGER a AFTER INSERT ON t BEGIN INSERT INTO log VALUES (1); END; \
             CREATE TRIGGER b AFTER INSERT ON log BEGIN SELECT raise (rollback, 'no'); END",
            "`b` may undo",
        ),
    ] {
        let objection = Lite::with(tables).objection().await;
        assert!(objection.as_ref().is_some_and(|said| said.contains(why)), "{objection:?}");
    }
    let lite = Lite::with(plain);
    let selection = concord_engine::schema::Selection { object: "t".into(), fields: vec!["name".into()] };
    lite.connector.prepare(&[selection], &[]).await.unwrap();
    assert!(lite.objection().await.unwrap().contains("captured"));
    lite.connector.release(&["t".into()]).await.unwrap();
    assert_eq!(lite.objection().await, None);
    let view = Lite::with("CREATE VIEW t AS SELECT 1 AS id");
    let missing = view.connector.mirror_target().unwrap().objection(&"t".into()).await.unwrap_err();
    assert_eq!(missing.code, Code::ObjectMissing);
}

const INDEXED: &str = "CREATE TABLE t (id INTEGER NOT NULL, name TEXT, tally INTEGER, UNIQUE (tally, name)); CREATE UNIQUE INDEX own_key ON t (id); \
    CREATE UNIQUE INDEX by_name ON t (name); CREATE UNIQUE INDEX stricter ON t (tally); CREATE INDEX \"Some \"\"of\"\" them\" ON t (lower(name)) WHERE tally > 3; \
    CREATE INDEX plain ON t (tally DESC, name COLLATE NOCASE)";

#[tokio::test]
async fn spare_indexes_are_set_aside_and_come_back_whatever_happens() {
    let lite = Lite::with(INDEXED);
    let before = lite.schema();
    let names = "SELECT group_concat(name, ',') FROM (SELECT name FROM sqlite_schema WHERE type = 'index' AND name NOT LIKE 'sqlite%' \
        AND tbl_name = 't' ORDER BY name)";
    let unique = [vec!["name".into()], vec!["id".into()]];
    let mirror = lite.connector.mirror_target().unwrap();
    assert_eq!(mirror.spare_indexes(&"t".into(), &unique).await.unwrap(), ["Some \"of\" them", "by_name", "plain"]);
    let (session, desk) = (lite.session("one").await, Desk::default());
    session.set_indexes_aside(&unique).await.unwrap();
    assert_eq!(lite.file.psql(names), "own_key,stricter", "the key, and what is unique here alone");
    session.load(0, lots(1..100), &desk).await.unwrap();
    // Everything ended; another one begins, by another name.
    let after = Lite { connector: lite.file.connector(), ..lite };
    let session = after.session("other").await;
    session.build_indexes().await.unwrap();
    session.build_indexes().await.unwrap();
    let mirror = after.connector.mirror_target().unwrap();
    assert!(mirror.spare_indexes(&"t".into(), &unique).await.unwrap().is_empty(), "it holds records");
    assert_eq!(mirror.kept("o").await.unwrap(), ["one", "other"]);
    mirror.forget("one").await.unwrap();
    mirror.forget("other").await.unwrap();
    mirror.forget("other").await.unwrap();
    assert_eq!(after.schema(), before, "as it was, and nothing of ours");
    assert!(mirror.kept("").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_sync_that_is_let_go_of_in_the_middle_of_its_load_leaves_the_file_its_indexes() {
    let lite = Lite::with(INDEXED);
    let before = lite.schema();
    let session = lite.session("one").await;
    session.set_indexes_aside(&[]).await.unwrap();
    assert_ne!(lite.schema(), before);
    lite.connector.mirror_target().unwrap().forget("one").await.unwrap();
    assert_eq!(lite.schema(), before);
}

#[tokio::test]
async fn an_index_that_cannot_be_built_is_kept_until_a_person_has_put_it_right() {
    let lite = Lite::with(INDEXED);
    let session = lite.session("one").await;
    session.set_indexes_aside(&[vec!["name".into()]]).await.unwrap();
    lite.file.psql("INSERT INTO t VALUES (1, 'same', 1), (2, 'same', 2)");
    let error = session.build_indexes().await.unwrap_err();
    assert_eq!(error.code, Code::IndexNotBuilt);
    assert!(error.message.contains("CREATE UNIQUE INDEX by_name ON t (name)"), "{error}");
    assert_eq!(lite.connector.mirror_target().unwrap().forget("one").await.unwrap_err().code, Code::IndexNotBuilt);
    lite.file.psql("DELETE FROM t WHERE id = 2");
    session.build_indexes().await.unwrap();
    assert_eq!(lite.file.psql("SELECT count(*) FROM sqlite_schema WHERE sql LIKE '% INDEX %'"), "5");
    assert_eq!(lite.file.psql("SELECT count(*) FROM _concord_indexes"), "0");
}

#[tokio::test]
async fn a_load_without_indexes_that_is_killed_again_and_again_ends_with_them() {
    let right = format!("{TABLE}; CREATE INDEX plain ON t (tally); CREATE INDEX lower ON t (lower(name)) WHERE tally > 10");
    let mut world = World::of(LEFT, &right, FILLED, FIELDS).await.with(|rules| {
        rules.parallelism = 8;
        rules.initial.rebuild_indexes = true;
    });
    let schema = "SELECT group_concat(sql) FROM (SELECT sql FROM sqlite_schema WHERE tbl_name = 't' ORDER BY name)";
    let before = world.right.psql(schema);
    for round in 0..8_u64 {
        world.start().await;
        tokio::time::sleep(Duration::from_millis(40 + round * 23)).await;
        world.crash().await;
        world.left.psql(&format!(
            "UPDATE t SET tally = tally + 1 WHERE id % 8 = {round}; UPDATE t SET id = 20000 + id WHERE id = {round} + 1"
        ));
    }
    world.start().await;
    world.until_equal().await;
    assert_eq!(world.right.psql(schema), before);
    assert!(world.verify().await.is_equal());
    assert!(world.reviews().await.is_empty());
}

#[tokio::test]
async fn another_mapping_carries_every_record_again_into_a_file() {
    let mut world = World::of(LEFT, TABLE, FILLED, FIELDS).await.started().await;
    world.stop().await;
    world.left.psql("DELETE FROM t WHERE id <= 3");
    rules::transformed(&mut world.rules, 0, "name", "uppercase");
    world.start().await;
    let arrived = async || world.right.psql("SELECT count(*) FROM t WHERE name = 'NAME ' || id") == "9997";
    world.until("every record is carried as the mapping says now", arrived).await;
    world.until("it is level", async || world.status().level).await;
    assert_eq!(world.right.psql("SELECT count(*), min(id) FROM t"), "9997|4");
    assert!(world.verify().await.is_equal());
}
