//! What a monitor sees: metrics on a loopback port, log files with a level and an age, and what was last verified.

use crate::world::{World, connection};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixListener;
use std::process::Child;

/// The metrics of a process that serves them, by name and labels.
pub fn metrics(address: &str) -> Vec<(String, f64)> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/plain; version=0.0.4"), "{head}");
    let samples = body.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    samples.filter_map(|(name, value)| Some((name.to_string(), value.parse().ok()?))).collect()
}

fn value(metrics: &[(String, f64)], name: &str) -> f64 {
    let found = metrics.iter().find(|(known, _)| known == name);
    found.unwrap_or_else(|| panic!("{name} is not among {metrics:#?}")).1
}

#[test]
fn metrics_tell_of_latency_errors_throughput_queues_and_retained_log() {
    let world = World::new(&json!({ "error_handling": { "retry_strategy": { "max_attempts": 1 } } }));
    world.erp.psql("ALTER TABLE customers ADD CHECK (town <> 'Nowhere')");
    let running = world.run(&["--auto-approve", "--metrics-port", "0"]);
    world.crm.psql(
        "INSERT INTO accounts (name, email, city) VALUES ('Alder', 'a@x.example', 'Leeds'), ('Bad', 'b@x.example', 'Nowhere')",
    );
    running.until("one is carried over and one waits", || {
        running.status().is_some_and(|sync| sync["written"] == 1 && sync["review"] == 1)
    });
    assert_eq!(world.concord(&["verify", "FILE"]).exit, 0);
    let said = running.said();
    let address = said.split("address=").nth(1).unwrap().split_whitespace().next().unwrap();
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    running.until("the slot has been asked after", || {
        metrics(address).iter().any(|(name, _)| name.starts_with("concord_feed_retained_bytes{system=\"erp\""))
    });

    let metrics = metrics(address);
    let of = |name: &str| value(&metrics, &format!("{name}{{sync=\"accounts\"}}"));
    assert_eq!((of("concord_written_total"), of("concord_failed_total"), of("concord_review_open")), (1.0, 1.0, 1.0));
    assert_eq!((of("concord_error_rate"), of("concord_latency_seconds_count")), (0.5, 1.0));
    assert!(of("concord_latency_seconds_sum") > 0.0);
    assert_eq!(value(&metrics, "concord_latency_seconds_bucket{sync=\"accounts\",le=\"3600\"}"), 1.0);
    assert_eq!(of("concord_verified_equal"), 1.0);
    let pending = metrics.iter().find(|(name, _)| name.starts_with("concord_pending{sync=\"accounts\",system=\"crm\""));
    assert_eq!(pending.map(|(_, value)| *value), Some(0.0));
    running.stop();
}

#[test]
fn a_status_tells_through_when_both_sides_are_verified_whether_something_runs_or_not() {
    let world = World::new(&json!({}));
    world.crm.psql("INSERT INTO accounts (name, email) VALUES ('Alder', 'a@x.example')");
    assert_eq!(world.concord(&["run", "FILE", "--once", "--auto-approve"]).exit, 0);
    let before = world.json(&["status"]);
    assert_eq!(before["syncs"][0]["verified"], Value::Null, "{before:#}");
    assert_eq!(world.concord(&["verify", "FILE"]).exit, 0);
    let told = world.json(&["status"])["syncs"][0]["verified"].clone();
    assert_eq!((&told["equal"], &told["records"]), (&json!(true), &json!(1)), "{told:#}");

    let running = world.run(&[]);
    world.crm.psql("INSERT INTO accounts (name, email) VALUES ('Blue', 'b@x.example')");
    running.until_level();
    assert_eq!(running.status().unwrap()["verified"], told, "a new start remembers");
    assert_eq!(world.concord(&["verify", "FILE"]).exit, 0);
    let again = running.status().unwrap()["verified"].clone();
    assert!(again["records"] == 2 && again["through"].as_str() > told["through"].as_str(), "{again:#}");
    running.stop();
}

#[test]
fn a_status_tells_where_each_feed_is_while_nothing_runs() {
    let world = World::new(&json!({}));
    world.crm.psql("INSERT INTO accounts (name, email) VALUES ('Alder', 'a@x.example')");
    assert_eq!(world.concord(&["run", "FILE", "--once", "--auto-approve"]).exit, 0);
    let told = world.json(&["status"]);
    let feeds = told["feeds"].as_array().unwrap();
    let systems: Vec<&str> = feeds.iter().map(|feed| feed["system"].as_str().unwrap()).collect();
    assert_eq!(systems, ["crm", "erp"], "{told:#}");
    for (feed, database) in feeds.iter().zip([&world.crm, &world.erp]) {
        let slot = database.psql("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()");
        assert_eq!((&feed["feed"], &feed["state"]), (&json!(slot), &json!("not running")));
        // The files of the last run tell whom to ask.
        assert!(feed["retained_bytes"].is_u64(), "{told:#}");
        // As the server writes its places, and not behind the end of its log.
        let position = feed["position"].as_str().unwrap();
        let is_before = database.psql(&format!("SELECT '{position}'::pg_lsn BETWEEN '0/1' AND pg_current_wal_lsn()"));
        assert_eq!(is_before, "t", "{position}");
    }
    let text = world.concord(&["status"]).out;
    assert!(text.contains("not running") && !text.contains("concord status FILE"), "{text}");
    let checked = world.json(&["check", "--connect", "FILE"])["findings"].to_string();
    assert_eq!(checked.matches("bytes of log are kept for the feed").count(), 2, "{checked}");
    assert_eq!(world.concord(&["release", "FILE"]).exit, 0);
    assert_eq!(world.json(&["status"])["feeds"], json!([]));
}

#[test]
fn a_status_tells_how_much_log_is_kept_while_nothing_runs_and_what_cannot_be_asked() {
    let world = World::new(&json!({}));
    world.crm.psql("INSERT INTO accounts (name, email) VALUES ('Alder', 'a@x.example')");
    assert_eq!(world.concord(&["run", "FILE", "--once", "--auto-approve"]).exit, 0);
    world.crm.psql("SELECT count(pg_logical_emit_message(false, 'other', repeat('x', 1000000))) FROM generate_series(1, 8)");
    let told = world.json(&["status"]);
    assert!(told["feeds"][0]["retained_bytes"].as_u64().is_some_and(|bytes| bytes > 7_000_000), "{told:#}");

    // One that cannot be reached keeps the other from nothing.
    let (crm, erp) = (connection(&world.crm, world.crm.server.port()), connection(&world.erp, 1));
    world.configure(&json!({ "connections": { "crm": crm, "erp": erp } }));
    let said = world.concord(&["status"]);
    assert!(said.exit == 0 && said.out.contains("how much log is kept is not known: CON-2001"), "{said:?}");
    let told = world.json(&["status"]);
    assert!(told["feeds"][0]["retained_bytes"].as_u64().is_some_and(|bytes| bytes > 7_000_000), "{told:#}");
    assert_eq!((&told["feeds"][1]["system"], &told["feeds"][1]["retained_bytes"]), (&json!("erp"), &Value::Null), "{told:#}");

    let elsewhere = world.folder().join("elsewhere.json").display().to_string();
    std::fs::rename(world.file(), &elsewhere).unwrap();
    let said = world.concord(&["status"]);
    assert!(said.exit == 0 && said.out.contains("accounts.json") && said.out.contains("concord status FILE"), "{said:?}");
    let told = world.json(&["status", &elsewhere]);
    assert!(told["feeds"][0]["retained_bytes"].is_u64(), "{told:#}");
}

#[test]
fn a_status_tells_where_a_mirrored_sync_keeps_its_place() {
    let one_way = json!({
        "sync_type": "one_way", "match_on": [],
        "field_mappings": [{ "source": "id", "target": "customer_no" }, { "source": "name", "target": "company" }]
    });
    let world = World::new(&one_way);
    world.crm.psql("INSERT INTO accounts (name, email) VALUES ('Alder', 'a@x.example')");
    assert_eq!(world.concord(&["run", "FILE", "--once", "--auto-approve"]).exit, 0);
    let told = world.json(&["status"]);
    assert_eq!(told["syncs"][0]["mode"], "mirror", "{told:#}");
    let feeds = &told["feeds"];
    assert_eq!(
        (&feeds[0]["system"], &feeds[0]["state"], &feeds[0]["position"]),
        (&json!("crm"), &json!("not running"), &json!("kept in erp")),
        "{told:#}"
    );
    assert!(feeds[0]["retained_bytes"].is_u64(), "{told:#}");
    let checked = world.json(&["check", "--connect", "FILE"])["findings"].to_string();
    assert_eq!(checked.matches("bytes of log are kept for the feed").count(), 1, "{checked}");
}

#[test]
fn log_files_have_the_level_asked_for_one_document_a_line_and_go_when_they_are_old() {
    let world = World::new(&json!({}));
    let logs = world.logs();
    std::fs::create_dir_all(&logs).unwrap();
    for day in 1..=9 {
        std::fs::write(logs.join(format!("concord.2020-01-0{day}.log")), "{}\n").unwrap();
    }
    let text = std::fs::read_to_string(world.file()).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["process_settings"]["logging"] = json!({ "directory": logs, "level": "warn", "format": "json", "retention_days": 3 });
    std::fs::write(world.file(), config.to_string()).unwrap();
    let quiet = world.concord(&["run", "FILE", "--once", "--auto-approve"]);
    assert_eq!((quiet.exit, quiet.err.as_str()), (0, ""), "nothing to warn of");
    let files = || -> Vec<String> {
        let names = std::fs::read_dir(&logs).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    };
    assert_eq!(files().len(), 3, "{:?}", files());

    let loud = world.concord(&["run", "FILE", "--once", "--log-level", "info"]);
    assert_eq!(loud.exit, 0, "{loud:?}");
    let newest = files().pop().unwrap();
    let written = std::fs::read_to_string(logs.join(newest)).unwrap();
    for text in [&loud.err, &written] {
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let running = lines.iter().find(|line| line["fields"]["message"] == "running").expect(text);
        assert_eq!((&running["level"], &running["fields"]["syncs"]), (&json!("INFO"), &json!("accounts")));
    }
}

/// A command that goes on until it is told to stop; killed with the value.
struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_watched_status_goes_on_where_it_is_not_answered_for_once() {
    let world = World::new(&json!({}));
    assert_eq!(world.concord(&["status", "--watch"]).exit, 3, "nothing has ever run");
    assert_eq!(world.concord(&["run", "FILE", "--once", "--auto-approve"]).exit, 0);
    let [shown, complained] = ["shown", "complained"].map(|name| world.folder().join(name));
    let mut command = world.command(&["status", "--watch"]);
    let [out, err] = [&shown, &complained].map(|path| std::fs::File::create(path).unwrap());
    let mut watching = Watching(command.stdout(out).stderr(err).spawn().unwrap());
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
    let until = |what: &str, so: &dyn Fn() -> bool| {
        crate::world::until(what, so, || format!("{}\n{}", read(&shown), read(&complained)));
    };
    until("it is shown", &|| read(&shown).contains("not running"));

    // A process that runs, and ends in the middle of the question.
    let socket = world.folder().join("ends.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let pointer = world.store().join("control");
    std::fs::write(&pointer, socket.to_str().unwrap()).unwrap();
    drop(listener.accept().unwrap());
    until("it is said", &|| read(&complained).contains("CON-50"));
    std::fs::remove_file(&pointer).unwrap();
    drop(listener);
    let before = read(&shown).len();
    until("it goes on", &|| read(&shown).len() > before);

    // What comes up meanwhile is shown as well.
    let running = world.run(&[]);
    until("the run is shown", &|| read(&shown).contains("live"));
    running.stop();
    let asked = std::process::Command::new("kill").args(["-INT", &watching.0.id().to_string()]).status().unwrap();
    assert!(asked.success());
    assert!(watching.0.wait().unwrap().success());
}

/// Both sides are equal without a column that no mapping names, so nothing else would say that it is not carried.
#[test]
fn a_new_column_is_offered_by_the_log_the_status_and_the_plan_until_somebody_decides() {
    let world = World::new(&json!({}));
    world.crm.psql("INSERT INTO accounts (name, email) VALUES ('Alder', 'a@x.example')");
    let running = world.run(&["--auto-approve"]);
    running.until_level();
    world.crm.psql("ALTER TABLE accounts ADD vat varchar(20); UPDATE accounts SET city = 'Lyon'");
    let is_offered = |sync: &serde_json::Value| {
        sync["offers"][0].as_str().is_some_and(|offer| {
            offer.contains("new field `vat`")
                && offer.contains(r#"{ "source": "vat", "target": "vat" }"#)
                && offer.contains(r#"ALTER TABLE "public"."customers" ADD COLUMN "vat" character varying(20);"#)
        })
    };
    running.until("the status offers it", || running.status().is_some_and(|sync| is_offered(&sync)));
    assert!(running.said().contains("has a new field `vat`"), "{}", running.said());
    assert!(world.concord(&["status"]).out.contains("new field:"));
    running.stop();
    let planned = world.concord(&["plan", "FILE"]);
    assert!(planned.err.contains("new field `vat`") && planned.err.contains("ADD COLUMN"), "{planned:?}");
    let running = world.run(&[]);
    running.until("the status offers it after a start", || running.status().is_some_and(|sync| is_offered(&sync)));
    running.stop();
    world.configure(&json!({ "exclude_fields": ["vat"] }));
    let planned = world.concord(&["plan", "FILE"]);
    assert!(planned.exit == 0 && !planned.err.contains("vat"), "{planned:?}");
}
