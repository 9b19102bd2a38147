//! A process that is asked to end does so within seconds, whatever is under way.

use crate::gateway::Gateway;
use crate::monitoring::metrics;
use crate::world::{World, connection};
use serde_json::{Value, json};
use std::io::Write;
use std::net::TcpStream;

/// So many records that loading them takes a while.
const MANY: u32 = 40_000;
/// So many that reading them does.
const VERY_MANY: u32 = 120_000;

fn fill(world: &World, many: u32) {
    let rows = format!("SELECT 'Name ' || n, n || '@x.example' FROM generate_series(1, {many}) n");
    world.crm.psql(&format!("INSERT INTO accounts (name, email) {rows}"));
}

/// Both systems, with the source behind a gateway where one is given, else the target.
fn connections(world: &World, to_source: Option<&Gateway>, to_target: Option<&Gateway>) -> Value {
    let port = |gateway: Option<&Gateway>, own: u16| gateway.map_or(own, Gateway::port);
    json!({
        "crm": connection(&world.crm, port(to_source, world.crm.server.port())),
        "erp": connection(&world.erp, port(to_target, world.erp.server.port()))
    })
}

#[test]
fn a_stop_waits_for_no_peer_that_has_asked_half_a_question() {
    let world = World::new(&json!({}));
    let running = world.run(&["--auto-approve", "--metrics-port", "0"]);
    let said = running.said();
    let address = said.split("address=").nth(1).unwrap().split_whitespace().next().unwrap();
    let mut peer = TcpStream::connect(address).unwrap();
    peer.write_all(b"GET /metrics HTTP/1.1\r\nHost: loc").unwrap();
    // Who comes later has been answered: the first one has been let in.
    assert!(!metrics(address).is_empty());
    running.stop();
}

#[test]
fn a_stop_waits_for_no_reading_that_tells_whether_a_plan_still_holds() {
    let settings = json!({ "initial_sync": { "authority": "crm" } });
    let world = World::new(&settings);
    fill(&world, VERY_MANY);
    let gateway = Gateway::to(world.crm.server.port());
    let mut settings = settings.clone();
    settings["connections"] = connections(&world, Some(&gateway), None);
    world.configure(&settings);
    let id = world.json(&["plan", "FILE"])["plan"]["id"].as_str().unwrap().to_string();
    let running = world.start(&["--approve", &id], &[]);
    // It has read both sides once; the engine, that they are read once more for, is not there yet.
    running.until("it runs", || running.said().contains("running syncs="));
    gateway.hold();
    assert_eq!(running.status(), None);
    running.stop();
}

#[test]
fn a_stop_waits_for_no_load_that_is_under_way() {
    let world = World::new(&json!({}));
    fill(&world, MANY);
    let running = world.start(&["--auto-approve"], &[]);
    let loaded = || world.erp.psql("SELECT count(*) FROM customers").parse::<u32>().unwrap();
    running.until("some is loaded", || loaded() > 0);
    running.stop();
    let before = loaded();
    assert!(before < MANY, "the load was over before anything was stopped");
    // What it left is carried on where it was.
    let done = world.concord(&["run", "FILE", "--once"]);
    assert_eq!((done.exit, loaded()), (0, MANY), "{done:?}");
}

#[test]
fn a_stop_waits_for_no_load_of_a_mirrored_sync_whose_target_does_not_answer() {
    let settings = json!({
        "sync_type": "one_way", "match_on": [],
        "field_mappings": [{ "source": "id", "target": "customer_no" }, { "source": "name", "target": "company" }]
    });
    let world = World::new(&settings);
    fill(&world, MANY);
    let gateway = Gateway::to(world.erp.server.port());
    let mut settings = settings.clone();
    settings["connections"] = connections(&world, None, Some(&gateway));
    world.configure(&settings);
    let running = world.start(&["--auto-approve"], &[]);
    running.until("it runs", || running.said().contains("running syncs="));
    gateway.hold();
    running.until("its load is under way", || running.status().is_some_and(|sync| sync["mode"] == "mirror"));
    running.stop();
}
