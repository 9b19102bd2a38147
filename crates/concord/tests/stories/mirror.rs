//! One-way syncs in mirror mode: chosen by the configuration, killed at every point, asked like every other.

use crate::postgres::Database;
use crate::users::{self, Chance};
use crate::world::{Home, Running, Sides, World};
#[cfg(feature = "failpoints")]
use concord_engine::failpoint;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const TABLE: &str = "CREATE TABLE items (id int PRIMARY KEY, name text NOT NULL, tally int)";

/// A one-way sync whose key is the same at both sides.
fn settings() -> Value {
    json!({
        "sync_type": "one_way", "match_on": ["id"], "auto_approve": true, "initial_sync": { "rebuild_indexes": true },
        // Every deletion is meant.
        "guards": { "max_deletes_percent": 100.0 },
        "source": { "system": "crm", "object": "items" }, "target": { "system": "erp", "object": "items" },
        "field_mappings": [
            { "source": "id", "target": "id" }, { "source": "name", "target": "name" }, { "source": "tally", "target": "tally" }
        ]
    })
}

fn world() -> World {
    let world = World::new(&settings());
    world.crm.psql(&format!("{TABLE}; INSERT INTO items SELECT n, 'item ' || n, 0 FROM generate_series(1, 2000) n"));
    world.erp.psql(&format!("{TABLE}; CREATE INDEX by_name ON items (name)"));
    world
}

fn is_equal(world: &World) -> bool {
    let sql = "SELECT id, name, tally FROM items ORDER BY id";
    world.crm.psql(sql) == world.erp.psql(sql)
}

fn until_level(world: &World, running: &Running<'_>) {
    running.until("the target is level", || is_equal(world) && running.status().is_some_and(|sync| sync["level"] == true));
}

fn edit(world: &World, round: usize) {
    // More at once than is carried together, and then this and that.
    world.crm.psql("UPDATE items SET tally = tally + 1; UPDATE items SET tally = tally + 1");
    world.crm.psql(&format!(
        "UPDATE items SET tally = tally + 1 WHERE id % 20 = {round}; DELETE FROM items WHERE id = 100 + {round}; \
         INSERT INTO items VALUES (5000 + {round}, 'new', 0); UPDATE items SET id = id + 10000 WHERE id = 200 + {round}"
    ));
}

#[test]
fn the_configuration_chooses_it_and_every_command_speaks_of_it() {
    let world = world();
    let plan = world.json(&["plan", "FILE"]);
    assert_eq!(plan["modes"][0]["mode"], "mirror");
    assert_eq!(plan["modes"][0]["rebuilt_indexes"], json!(["by_name", "items_pkey"]));
    assert!(world.concord(&["plan", "FILE"]).out.contains("built behind it: by_name, items_pkey"));
    let running = world.run(&[]);
    until_level(&world, &running);
    assert_eq!(running.status().unwrap()["mode"], "mirror");
    assert!(world.concord(&["status"]).out.contains("mode mirror"));

    assert_eq!(world.concord(&["pause"]).exit, 0);
    edit(&world, 1);
    running.until("it is paused", || running.status().is_some_and(|sync| sync["stage"] == "paused"));
    assert!(!is_equal(&world));
    assert_eq!(world.concord(&["resume"]).exit, 0);
    until_level(&world, &running);
    assert_eq!(world.concord(&["verify", "FILE"]).exit, 0);

    // An edit against the flow is found, and written over when the records are read again.
    world.erp.psql("UPDATE items SET name = 'against the flow' WHERE id = 7");
    let verified = world.json(&["verify", "FILE"]);
    assert_eq!(verified["syncs"][0]["differing"], 1, "{verified}");
    assert_eq!(world.concord(&["verify", "FILE", "--repair"]).exit, 0);
    assert!(is_equal(&world));

    let explained = world.concord(&["explain", "accounts", "7"]);
    assert!(explained.err.contains("mirrored"), "{explained:?}");
    running.stop();
    assert_eq!(world.concord(&["release", "FILE"]).exit, 0);
    assert_eq!(world.crm.psql("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"), "0");
    assert_eq!(world.crm.psql("SELECT count(*) FROM pg_publication"), "0");
    assert_eq!(world.erp.psql("SELECT to_regnamespace('concord') IS NULL"), "t");
}

/// How far the first read has got is said where there is no terminal to draw a bar on, and not in the way of a program.
#[test]
fn the_first_read_tells_how_far_it_has_got() {
    let slow = "CREATE FUNCTION slow() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.01); RETURN true; END $$; \
        ALTER TABLE items ADD CHECK (slow())";
    let world = world();
    world.erp.psql(slow);
    let running = world.run(&[]);
    until_level(&world, &running);
    let said = running.said();
    let line = said.lines().find(|line| line.contains("first read: reading: ")).unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains(" of about 2000 records") && line.contains(" kB") && line.contains("items"), "{line}");
    assert!(said.contains("first read: over after 2000 records"), "{said}");
    running.stop();
    let world = self::world();
    world.erp.psql(slow);
    let said = world.concord(&["run", "FILE", "--once", "--json"]);
    assert!(said.exit == 0 && !said.err.contains("first read"), "{said:?}");
}

#[test]
fn settings_that_say_nothing_of_a_mirrored_sync_are_named() {
    let mut settings = settings();
    settings["performance_settings"] = json!({ "batch_size": 100, "parallelism": 2 });
    settings["error_handling"] = json!({ "retry_strategy": { "max_attempts": 3 } });
    let world = World::new(&settings);
    world.crm.psql(TABLE);
    world.erp.psql(TABLE);
    let told = |world: &World| {
        let findings = world.json(&["plan", "FILE"])["findings"].as_array().cloned().unwrap_or_default();
        let messages =
            findings.iter().filter(|finding| finding["severity"] == "warning").filter_map(|one| one["message"].as_str());
        messages.filter(|message| message.contains("says nothing of")).map(str::to_owned).collect::<Vec<_>>()
    };
    let named = told(&world);
    assert!(named.len() == 2 && named[0].starts_with("`performance_settings.batch_size` says nothing"), "{named:?}");
    assert!(named[1].starts_with("`error_handling.retry_strategy` says nothing"), "{named:?}");
    settings["sync_type"] = json!("bidirectional");
    world.configure(&settings);
    assert_eq!(told(&world), Vec::<String>::new());
}

/// A log of events: what is inserted is appended, and what the source then refuses is said before.
#[test]
fn a_filter_is_planned_carried_and_verified_and_refused_where_it_would_be_ignored() {
    let mut filtered = settings();
    filtered["source"]["filter"] = json!("tally = 0 AND id <= 500");
    let world = World::new(&filtered);
    world.crm.psql(&format!("{TABLE}; INSERT INTO items SELECT n, 'item ' || n, 0 FROM generate_series(1, 2000) n"));
    world.erp.psql(TABLE);
    let plan = world.json(&["plan", "FILE"]);
    let members = &plan["plan"]["runs"][0]["members"];
    assert_eq!((&members[0]["records"], &members[1]["creates"]), (&json!(500), &json!(500)), "{plan:#}");
    let running = world.run(&[]);
    let shows = |count: &str| running.until("what takes part is there", || world.erp.psql("SELECT count(*) FROM items") == count);
    shows("500");
    world.crm.psql("UPDATE items SET tally = 1, name = 'left' WHERE id <= 10; INSERT INTO items VALUES (0, 'new', 0)");
    shows("501");
    assert_eq!(world.erp.psql("SELECT count(*) FROM items WHERE name = 'left'"), "0");
    running.stop();
    assert_eq!(world.concord(&["verify", "FILE"]).exit, 0);

    for (key, value) in [("on_delete", "ignore"), ("target_edits", "keep")] {
        let mut ignoring = filtered.clone();
        ignoring[key] = json!(value);
        let world = World::new(&ignoring);
        world.crm.psql(&format!("{TABLE}; INSERT INTO items VALUES (1, 'one', 5)"));
        world.erp.psql(TABLE);
        let refused = world.concord(&["run", "FILE", "--once"]);
        assert!(refused.exit != 0 && refused.err.contains("CON-1021"), "{refused:?}");
        assert_eq!(world.erp.psql("SELECT count(*) FROM items"), "0");
    }
}

#[test]
fn a_table_without_a_key_is_mirrored_and_every_command_says_what_that_means() {
    let world = World::new(&settings());
    let table = "CREATE TABLE items (id int, name text, tally int)";
    world.crm.psql(&format!("{table}; INSERT INTO items SELECT n % 100, 'item', 0 FROM generate_series(1, 2000) n"));
    world.erp.psql(table);
    let checked = world.json(&["check", "--connect", "FILE"]);
    let findings = checked["findings"].as_array().unwrap();
    let said = findings.iter().find(|finding| finding["code"] == "CON-2006").unwrap_or_else(|| panic!("{checked:#}"));
    assert!(said["severity"] == "warning" && said["message"].as_str().unwrap().contains("UPDATE and DELETE"), "{said}");
    let plan = world.json(&["plan", "FILE"]);
    assert_eq!((&plan["modes"][0]["mode"], &plan["plan"]["runs"][0]["members"][1]["creates"]), (&json!("mirror"), &json!(2000)));
    assert!(world.concord(&["plan", "FILE"]).out.contains("has no key"));
    let running = world.run(&[]);
    until_level(&world, &running);
    world.crm.psql("INSERT INTO items VALUES (1, 'item', 0), (1, 'item', 0)");
    until_level(&world, &running);
    assert_eq!(world.concord(&["verify", "FILE"]).exit, 0);
    // Something that nobody can tell from the rest.
    world.erp.psql("INSERT INTO items VALUES (1, 'item', 0)");
    let verified = world.json(&["verify", "FILE"]);
    assert_eq!(verified["syncs"][0]["differing"], 1, "{verified}");
    assert_eq!(world.concord(&["verify", "FILE", "--repair"]).exit, 0);
    until_level(&world, &running);
    running.stop();
    assert_eq!(world.concord(&["release", "FILE"]).exit, 0);
    world.crm.psql("DELETE FROM items");

    let mut both_ways = settings();
    both_ways["sync_type"] = json!("bidirectional");
    let world = World::new(&both_ways);
    world.crm.psql(table);
    world.erp.psql(table);
    let refused = world.concord(&["plan", "FILE"]);
    assert!(refused.exit != 0 && refused.err.contains("CON-2006") && refused.err.contains("ADD COLUMN id"), "{refused:?}");
}

/// A renamed sync is another one. What was made for it before would keep the source's log until its disk is full.
#[test]
fn what_was_made_for_a_sync_that_was_renamed_is_found_and_named_and_released() {
    let world = world();
    let running = world.run(&[]);
    until_level(&world, &running);
    running.stop();
    let slot = world.crm.psql("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()");
    let mut renamed = settings();
    renamed["name"] = json!("renamed");
    world.configure(&renamed);
    let checked = world.json(&["check", "--connect", "FILE"]);
    let findings = checked["findings"].as_array().unwrap();
    let found = findings.iter().find(|finding| finding["code"] == "CON-2017").unwrap_or_else(|| panic!("{checked:#}"));
    assert!(found["message"].as_str().unwrap().contains(&slot), "{found}");
    assert!(found["remedy"].as_str().unwrap().contains(&format!("pg_drop_replication_slot('{slot}')")), "{found}");
    let running = world.run(&[]);
    until_level(&world, &running);
    let is_shown = || {
        let status = world.json(&["status"]);
        let feeds = status["feeds"].as_array().cloned().unwrap_or_default();
        feeds.iter().any(|feed| feed["feed"] == slot && feed["state"] == "left over" && feed["retained_bytes"].is_u64())
    };
    running.until("the status shows it", is_shown);
    assert!(world.concord(&["status"]).out.contains("belongs to no sync"));
    running.stop();
    // Another configuration of the same store may need it: it goes only where that is asked for.
    assert_eq!(world.json(&["release", "FILE"])["leftovers"], json!([]));
    assert_eq!(world.crm.psql("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()"), slot);
    assert_eq!(world.json(&["release", "FILE", "--leftovers"])["leftovers"], json!([slot]));
    assert_eq!(world.crm.psql("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"), "0");
    assert_eq!(world.crm.psql("SELECT count(*) FROM pg_publication"), "0");
    assert_eq!(world.erp.psql("SELECT to_regnamespace('concord') IS NULL"), "t");
}

/// What runs already is chosen with those in mind that wait for their systems: a choice made without them would not hold.
#[test]
fn a_sync_that_waits_for_its_system_has_its_say_in_how_the_others_run() {
    let world = World::new(&settings());
    world.crm.psql(&format!("{TABLE}; INSERT INTO items VALUES (1, 'one', 1)"));
    world.erp.psql(TABLE);
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(world.file()).unwrap()).unwrap();
    let (mut first, mut second) = (settings(), settings());
    first["name"] = json!("items");
    second["name"] = json!("more");
    second["source"] = json!({ "system": "away", "object": "items" });
    config["connections"]["away"] = crate::world::connection(&world.crm, 1);
    let config = json!({
        "connections": config["connections"], "syncs": [first, second], "process_settings": config["process_settings"]
    });
    std::fs::write(world.file(), config.to_string()).unwrap();
    let running = world.run(&[]);
    let sync = running.status().unwrap();
    assert_eq!(sync["name"], "items");
    assert!(sync["mode"].as_str().unwrap().contains("`more` takes part in the same object"), "{sync:#}");
    running.stop();
}

/// The source's database, and a target: the other database, or a file.
struct Pair {
    world: World,
    file: Option<std::path::PathBuf>,
}

impl Pair {
    fn of_databases() -> Pair {
        Pair { world: world(), file: None }
    }

    /// The other database takes no part.
    fn into_a_file() -> Pair {
        let world = world();
        let file = world.folder().join("erp.db");
        let table = "CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL, tally INTEGER); CREATE INDEX by_name ON items (name)";
        let made = rusqlite::Connection::open(&file).unwrap();
        made.execute_batch(&format!("PRAGMA journal_mode = wal; {table}")).unwrap();
        let mut config: Value = serde_json::from_str(&std::fs::read_to_string(world.file()).unwrap()).unwrap();
        config["connections"]["erp"] = json!({ "type": "sqlite", "credentials": { "path": file } });
        std::fs::write(world.file(), config.to_string()).unwrap();
        Pair { world, file: Some(file) }
    }

    /// Rows of the target, as `psql` shows them.
    fn erp(&self, sql: &str) -> String {
        let Some(file) = &self.file else { return self.world.erp.psql(sql) };
        let connection = rusqlite::Connection::open(file).unwrap();
        connection.busy_timeout(Duration::from_secs(30)).unwrap();
        let mut statement = connection.prepare(sql).unwrap();
        let width = statement.column_count();
        let shown = |row: &rusqlite::Row<'_>| {
            let value = |at| row.get::<_, rusqlite::types::Value>(at).unwrap();
            let text = |value| match value {
                rusqlite::types::Value::Integer(number) => number.to_string(),
                rusqlite::types::Value::Text(text) => text,
                other => format!("{other:?}"),
            };
            Ok((0..width).map(|at| text(value(at))).collect::<Vec<_>>().join("|"))
        };
        let rows: Vec<String> = statement.query_map([], shown).unwrap().map(Result::unwrap).collect();
        rows.join("\n")
    }

    fn has_its_index(&self) -> bool {
        match self.file {
            None => {
                let key = "EXISTS (SELECT FROM pg_constraint WHERE conname = 'items_pkey' AND contype = 'p')";
                self.erp(&format!("SELECT to_regclass('by_name') IS NOT NULL AND {key}")) == "t"
            }
            Some(_) => self.erp("SELECT count(*) FROM sqlite_schema WHERE name = 'by_name'") == "1",
        }
    }

    fn start(&self, environment: &[(&str, &str)]) -> Running<'_> {
        Home::start(&self.world, self, &[], environment)
    }

    fn ends_equal(&self) {
        let running = Home::run(&self.world, self, &[]);
        running.until_level();
        assert_eq!(self.world.concord(&["verify", "FILE"]).exit, 0);
        assert!(self.has_its_index());
        running.stop();
    }
}

impl Sides for Pair {
    fn sides(&self) -> (String, String) {
        let sql = "SELECT id, name, tally FROM items ORDER BY id";
        (self.world.crm.psql(sql), self.erp(sql))
    }
}

#[test]
fn a_file_is_mirrored_into_and_nothing_of_it_stays_when_it_is_released() {
    let pair = Pair::into_a_file();
    let world = &pair.world;
    let schema = "SELECT group_concat(sql) FROM sqlite_schema";
    let before = pair.erp(schema);
    let plan = world.json(&["plan", "FILE"]);
    assert_eq!(plan["modes"][0]["mode"], "mirror", "{plan:#}");
    assert_eq!(plan["modes"][0]["rebuilt_indexes"], json!(["by_name"]));
    assert_eq!(world.concord(&["check", "--connect", "FILE"]).exit, 0);
    let running = Home::run(world, &pair, &[]);
    running.until_level();
    assert_eq!(running.status().unwrap()["mode"], "mirror");
    edit(world, 1);
    running.until_level();
    pair.erp("UPDATE items SET name = 'against the flow' WHERE id = 7");
    assert_eq!(world.json(&["verify", "FILE"])["syncs"][0]["differing"], 1);
    assert_eq!(world.concord(&["verify", "FILE", "--repair"]).exit, 0);
    assert!(Sides::is_equal(&pair));
    running.stop();
    assert_eq!(world.concord(&["release", "FILE"]).exit, 0);
    assert_eq!(pair.erp(schema), before);
    assert_eq!(world.crm.psql("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"), "0");
}

/// A person who writes at the source until told to stop: one record after the other, and many at once. What both sides must then
/// hold, as lines of [`Sides::sides`].
fn write(database: &Database, mut chance: Chance, stop: &AtomicBool) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut held: BTreeMap<i64, (String, i64)> = (1..=2000).map(|id| (id, (format!("item {id}"), 0))).collect();
    runtime.block_on(async {
        let session = database.session().await;
        let mut turn: i64 = 0;
        while !stop.load(Ordering::SeqCst) {
            turn += 1;
            let place = usize::try_from(chance.below(u64::try_from(held.len()).unwrap())).unwrap();
            let one = *held.keys().nth(place).unwrap();
            let (sql, records) = match chance.below(20) {
                0..6 => {
                    held.insert(10_000 + turn, (format!("new {turn}"), 0));
                    (format!("INSERT INTO items VALUES (10000 + {turn}, 'new {turn}', 0)"), 1)
                }
                6..13 => {
                    held.get_mut(&one).unwrap().1 += 1;
                    (format!("UPDATE items SET tally = tally + 1 WHERE id = {one}"), 1)
                }
                13..15 => {
                    held.remove(&one);
                    (format!("DELETE FROM items WHERE id = {one}"), 1)
                }
                15..18 => {
                    let record = held.remove(&one).unwrap();
                    held.insert(1_000_000 + turn, record);
                    (format!("UPDATE items SET id = 1000000 + {turn} WHERE id = {one}"), 1)
                }
                18 => {
                    let some = held.iter_mut().filter(|(id, _)| *id % 20 == turn % 20);
                    let many = some.map(|(_, record)| record.1 += 1).count();
                    (format!("UPDATE items SET tally = tally + 1 WHERE id % 20 = {turn} % 20"), many)
                }
                _ => {
                    let ids = 2_000_000 + turn * 100..2_000_100 + turn * 100;
                    held.extend(ids.map(|id| (id, (format!("one of {turn}"), 0))));
                    (format!("INSERT INTO items SELECT 2000000 + {turn} * 100 + n, 'one of {turn}', 0 FROM generate_series(0, 99) n"), 100)
                }
            };
            assert_eq!(session.execute(&sql, &[]).await.unwrap(), u64::try_from(records).unwrap(), "{sql}");
            tokio::time::sleep(users::PACE).await;
        }
    });
    held.iter().map(|(id, (name, tally))| format!("{id}|{name}|{tally}")).collect()
}

/// How often the process is killed at random moments.
const KILLS: usize = 8;
/// The longest that it runs in between, in milliseconds.
const RUN_MAX_MS: u64 = 1_500;

/// The source is written all the while; where the kills strike follows from a seed, which is printed.
fn killed_at_random_moments(pair: &Pair) {
    let mut chance = Chance::new();
    let of_writer = chance.fork();
    let (written, (behind, carried)) = users::beside(
        |stop| write(&pair.world.crm, of_writer, stop),
        || {
            let (mut behind, mut carried) = (0, 0);
            for _ in 0..KILLS {
                let before = pair.sides().1;
                let running = pair.start(&[]);
                // Some kills strike while it starts.
                if chance.below(3) > 0 {
                    running.until("the process answers", || running.status().is_some());
                }
                std::thread::sleep(Duration::from_millis(chance.below(RUN_MAX_MS)));
                running.kill();
                let (source, target) = pair.sides();
                behind += usize::from(source != target);
                carried += usize::from(target != before);
            }
            (behind, carried)
        },
    );
    // Changes were under way when it was killed, and it had carried some before.
    assert!(behind >= KILLS / 2 && carried >= KILLS / 4, "{behind} kills with changes under way, {carried} behind others");
    pair.ends_equal();
    assert_eq!(pair.sides().0, written.join("\n"), "what was written");
}

#[test]
fn a_mirrored_sync_killed_at_random_moments_loses_and_doubles_nothing() {
    killed_at_random_moments(&Pair::of_databases());
}

#[test]
fn a_sync_mirrored_into_a_file_killed_at_random_moments_loses_and_doubles_nothing() {
    killed_at_random_moments(&Pair::into_a_file());
}

/// The points are compiled in only with the feature.
#[cfg(feature = "failpoints")]
fn killed_at_every_point(pair: &Pair, points: &[&str]) {
    let mut died = Vec::new();
    for (round, name) in points.iter().enumerate() {
        let mut running = pair.start(&[("CONCORD_FAILPOINT", &format!("{name}:1"))]);
        edit(&pair.world, round);
        let patience = std::time::Instant::now() + Duration::from_secs(20);
        let mut has_died = false;
        // The points of a first read are passed by the first lives only: such a run goes on and is killed.
        while std::time::Instant::now() < patience
            && !has_died
            && !(running.status().is_some_and(|sync| sync["level"] == true) && Sides::is_equal(pair))
        {
            has_died = running.has_ended();
            std::thread::sleep(Duration::from_millis(25));
        }
        if has_died {
            died.push(*name);
        }
        running.kill();
    }
    assert_eq!(died, points, "every point is met");
    pair.ends_equal();
}

#[cfg(feature = "failpoints")]
#[test]
fn a_mirrored_sync_killed_at_every_named_point_loses_and_doubles_nothing() {
    killed_at_every_point(&Pair::of_databases(), failpoint::MIRROR);
}

/// A file has one writer, and so no lanes.
#[cfg(feature = "failpoints")]
#[test]
fn a_sync_mirrored_into_a_file_killed_at_every_named_point_loses_and_doubles_nothing() {
    let points: Vec<&str> = failpoint::MIRROR.iter().copied().filter(|point| *point != "mirror_lanes_written").collect();
    killed_at_every_point(&Pair::into_a_file(), &points);
}
