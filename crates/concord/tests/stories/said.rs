//! What commands say is what is so: a plan of records that are known, a verification of what nobody carries over, a
//! release that leaves nothing, and complaints that name everything at once.

use crate::world::World;
use serde_json::{Value, json};

fn level_pair() -> World {
    let world = World::new(&json!({}));
    world.crm.psql(
        "INSERT INTO accounts (name, email, city) VALUES ('Alder', 'a@x.example', 'Leeds'), ('Blue', 'b@x.example', 'Graz'), \
         ('Cedar', 'c@x.example', 'Rome')",
    );
    assert_eq!(world.concord(&["run", "FILE", "--once", "--auto-approve"]).exit, 0);
    world
}

fn counts(run: &Value) -> Value {
    let of = |member: &Value| json!([member["creates"], member["updates"], member["deletes"], member["gone"]]);
    json!([of(&run["members"][0]), of(&run["members"][1]), run["matched"], run["equal"], run["review"]])
}

#[test]
fn a_plan_after_a_release_says_what_becomes_of_the_records_that_are_known() {
    let world = level_pair();
    assert_eq!(world.concord(&["release", "FILE"]).exit, 0);
    world.crm.psql("UPDATE accounts SET city = 'Lyon' WHERE name = 'Alder'; DELETE FROM accounts WHERE name = 'Blue'");
    world.erp.psql("INSERT INTO customers (company, mail) VALUES ('Dune', 'd@x.example')");
    let plan = world.json(&["plan", "FILE"]);
    let run = &plan["plan"]["runs"][0];
    assert_eq!((&run["begun"], &run["linked"]), (&json!(false), &json!(3)), "{run:#}");
    assert_eq!(counts(run), json!([[1, 0, 0, 1], [0, 1, 1, 0], 2, 1, 0]), "{run:#}");
    assert_eq!((&run["members"][0]["records"], &run["members"][1]["records"]), (&json!(2), &json!(4)), "{run:#}");
    let samples = run["samples"].as_array().unwrap();
    let has =
        |kind: &str, key: &str| samples.iter().any(|one| one["kind"] == kind && one["system"] == "erp" && one["key"] == key);
    assert!(has("deleted", "2") && has("differs", "1"), "{run:#}");
    assert!(world.concord(&["plan", "FILE"]).out.contains("3 records are known from before it was released"));

    // More deletes than were approved are not carried out.
    let id = plan["plan"]["id"].as_str().unwrap().to_string();
    world.crm.psql("DELETE FROM accounts WHERE name = 'Cedar'");
    let moved = world.concord(&["run", "FILE", "--once", "--approve", &id]);
    assert!(moved.exit == 2 && moved.err.contains("CON-5004") && moved.err.contains("2 to delete"), "{moved:?}");
    let id = world.json(&["plan", "FILE"])["plan"]["id"].as_str().unwrap().to_string();
    let done = world.concord(&["run", "FILE", "--once", "--approve", &id]);
    assert_eq!(done.exit, 0, "{done:?}");
    assert!(world.is_equal(), "{:?}", world.sides());
    assert_eq!(
        world.erp.psql("SELECT string_agg(company || ' ' || coalesce(town, '-'), ', ' ORDER BY company) FROM customers"),
        "Alder Lyon, Dune -"
    );
}

#[test]
fn a_plan_of_a_sync_that_has_begun_says_so_and_counts_what_the_run_then_does() {
    let world = level_pair();
    world.crm.psql("DELETE FROM accounts WHERE name = 'Blue'");
    world.erp.psql("UPDATE customers SET town = 'Porto' WHERE company = 'Cedar'");
    let plan = world.json(&["plan", "FILE"]);
    let run = &plan["plan"]["runs"][0];
    assert_eq!((&run["begun"], counts(run)), (&json!(true), json!([[0, 1, 0, 1], [0, 0, 1, 0], 2, 1, 0])), "{run:#}");
    let text = world.concord(&["plan", "FILE"]).out;
    assert!(text.contains("it has begun") && text.contains("goes on without an approval"), "{text}");
    assert_eq!(world.concord(&["run", "FILE", "--once"]).exit, 0);
    assert!(world.is_equal() && world.erp.psql("SELECT count(*) FROM customers") == "2");

    // While it runs it is looked at with the same eyes.
    let running = world.run(&[]);
    let shown = world.json(&["plan", "FILE"]);
    let run = &shown["plan"]["runs"][0];
    assert_eq!((&shown["kept"], &run["begun"], &run["linked"]), (&json!(false), &json!(true), &json!(2)), "{run:#}");
    assert_eq!(counts(run), json!([[0, 0, 0, 0], [0, 0, 0, 0], 2, 2, 0]), "{run:#}");
    running.stop();
}

#[test]
fn what_is_under_way_in_a_sync_that_is_paused_is_not_called_equal() {
    let world = level_pair();
    let running = world.run(&[]);
    assert_eq!(world.concord(&["pause", "accounts"]).exit, 0);
    running.until("the sync is paused", || running.status().is_some_and(|sync| sync["stage"] == "paused"));
    world.crm.psql("UPDATE accounts SET city = 'Oslo'");
    running.until("the changes have been seen", || running.status().is_some_and(|sync| sync["members"][0]["pending"] == 3));
    let said = world.concord(&["verify", "FILE"]);
    assert!(
        said.exit == 1 && said.out.contains("accounts differs") && said.out.contains("not carried over now: paused"),
        "{said:?}"
    );
    let told = world.json(&["verify", "FILE"]);
    assert_eq!((&told["syncs"][0]["under_way"], &told["not_carried"]), (&json!(3), &json!([["accounts", "paused"]])), "{told:#}");
    let verified = running.status().unwrap()["verified"].clone();
    assert_eq!((&verified["equal"], &verified["differing"]), (&json!(false), &json!(3)), "{verified:#}");
    assert_eq!(world.concord(&["resume", "accounts"]).exit, 0);
    running.until_level();
    assert_eq!(world.json(&["verify", "FILE"])["not_carried"], json!([]));
    running.stop();
}

#[test]
fn a_repair_lets_a_sync_go_on_that_stopped_at_a_gap_though_nothing_differs() {
    let world = level_pair();
    world.crm.psql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()");
    let stopped = world.concord(&["run", "FILE", "--once"]);
    assert!(stopped.exit == 3 && stopped.err.contains("CON-2008"), "{stopped:?}");
    assert_eq!(world.concord(&["verify", "FILE"]).exit, 0);
    let repaired = world.json(&["verify", "FILE", "--repair"]);
    assert_eq!(repaired["repairs"].as_array().map(Vec::len), Some(1), "{repaired:#}");
    let ended = world.concord(&["run", "FILE", "--once", "--json"]);
    assert_eq!(ended.exit, 0, "{ended:?}");
    let status: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(status["syncs"][0]["verified"]["equal"], true, "a run tells at its end what was verified: {status:#}");
    assert_eq!(world.json(&["status"])["syncs"][0]["mode"], status["syncs"][0]["mode"]);
    // Nothing is read again where nothing stopped.
    assert_eq!(world.json(&["verify", "FILE", "--repair"])["repairs"], json!([]));
}

#[test]
fn what_is_missing_is_named_where_it_is() {
    let world = level_pair();
    world.erp.psql("DELETE FROM customers WHERE company = 'Blue'; UPDATE customers SET customer_no = 70 WHERE company = 'Cedar'");
    world.crm.psql("UPDATE accounts SET id = 50 WHERE name = 'Alder'");
    let told = world.json(&["verify", "FILE"]);
    let found: Vec<Value> = told["syncs"][0]["differences"].as_array().unwrap().clone();
    let missing: Vec<Value> = found
        .iter()
        .filter(|one| one["kind"] == "missing")
        .map(|one| json!([one["system"], one["key"], one["missing_in"]]))
        .collect();
    assert!(missing.contains(&json!(["crm", "2", "erp"])) && missing.contains(&json!(["erp", "1", "crm"])), "{told:#}");
    assert!(world.concord(&["verify", "FILE"]).out.contains("missing in erp crm 2"));
}

#[test]
fn a_release_leaves_no_slot_behind_for_a_table_that_was_renamed() {
    let world = level_pair();
    world.crm.psql("ALTER TABLE accounts RENAME TO accounts_old; CREATE TABLE accounts (LIKE accounts_old INCLUDING ALL)");
    let released = world.json(&["release", "FILE"]);
    assert_eq!((&released["ok"], &released["released"]), (&json!(true), &json!(["crm", "erp"])), "{released:#}");
    let made = "SELECT (SELECT count(*) FROM pg_replication_slots WHERE database = current_database()) + (SELECT count(*) FROM pg_publication)";
    assert_eq!((world.crm.psql(made), world.erp.psql(made)), ("0".to_string(), "0".to_string()));
}

#[test]
fn a_slot_that_no_sync_has_begun_with_is_named() {
    let world = level_pair();
    let slot = world.crm.psql("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()");
    let named = || world.json(&["check", "--connect", "FILE"])["findings"].to_string().contains("CON-2017");
    assert!(!named(), "its sync has begun");
    assert_eq!(world.concord(&["release", "FILE"]).exit, 0);
    assert!(!named(), "it is gone");
    world.crm.psql(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"));
    let said = world.concord(&["check", "--connect", "FILE"]);
    assert!(said.exit == 0 && said.err.contains(&format!("pg_drop_replication_slot('{slot}')")), "{said:?}");
    assert!(said.err.contains("CON-2017") && said.err.contains("no sync has begun with the feed"), "{said:?}");
}

#[test]
fn an_object_that_was_exchanged_is_refused_by_every_command_that_would_look_at_it() {
    let world = level_pair();
    world.erp.psql("CREATE TABLE clients (LIKE customers INCLUDING ALL)");
    world.configure(&json!({ "target": { "system": "erp", "object": "clients" } }));
    for command in [&["plan", "FILE"][..], &["verify", "FILE"], &["verify", "FILE", "--repair"], &["run", "FILE", "--once"]] {
        let said = world.concord(command);
        assert!(said.exit == 2 && said.err.contains("CON-5013"), "{command:?}: {said:?}");
        assert!(!said.err.contains("running"), "{command:?}: {said:?}");
    }
}

#[test]
fn a_run_for_once_gives_a_system_up_that_cannot_be_reached() {
    let world = level_pair();
    let text = std::fs::read_to_string(world.file()).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    // A port that nobody listens at.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    config["connections"]["erp"]["credentials"]["port"] = json!(closed);
    std::fs::write(world.file(), config.to_string()).unwrap();
    let said = world.concord(&["run", "FILE", "--once", "--timeout", "1"]);
    assert!(said.exit == 3 && said.err.contains("CON-2001") && said.err.contains("given up after 1 seconds"), "{said:?}");
    assert!(!said.err.contains("Nothing to do"), "{said:?}");
    assert_eq!(world.concord(&["run", "FILE", "--timeout", "1"]).exit, 2, "without --once it is tried for ever");
}

#[test]
fn a_program_that_asks_for_a_document_gets_one_whatever_is_wrong() {
    let world = World::new(&json!({}));
    let wrong = world.concord(&["check", "FILE", "--nonsense", "--json"]);
    let told: Value = serde_json::from_str(&wrong.out).unwrap_or_else(|error| panic!("{error}: {wrong:?}"));
    assert_eq!((wrong.exit, &told["error"]["code"]), (2, &json!("CON-5010")), "{wrong:?}");
    assert!(told["error"]["message"].as_str().unwrap().contains("--nonsense"), "{told:#}");
    assert_eq!(world.concord(&["--help", "--json"]).exit, 0);

    // Secrets that are missing are named together, each with its connection.
    let text = std::fs::read_to_string(world.file()).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    for system in ["crm", "erp"] {
        config["connections"][system]["credentials"]["password"] = json!({ "env": format!("CONCORD_NO_{system}") });
    }
    std::fs::write(world.file(), config.to_string()).unwrap();
    let missing = world.concord(&["check", "FILE", "--connect", "--json"]);
    let told: Value = serde_json::from_str(&missing.out).unwrap();
    let places: Vec<&Value> = told["findings"].as_array().unwrap().iter().map(|finding| &finding["place"]).collect();
    assert_eq!((missing.exit, &told["ok"], places), (3, &json!(false), vec![&json!("crm"), &json!("erp")]), "{told:#}");
    let refused = world.concord(&["plan", "FILE"]);
    assert!(refused.err.contains("CONCORD_NO_crm") && refused.err.contains("CONCORD_NO_erp"), "{refused:?}");

    // So are mistakes of different kinds.
    config["connections"]["crm"]["type"] = json!("postgrez");
    config["target"]["system"] = json!("epr");
    config["match_on"] = json!(["emial"]);
    std::fs::write(world.file(), config.to_string()).unwrap();
    let mistakes = world.concord(&["check", "FILE", "--json"]);
    let told: Value = serde_json::from_str(&mistakes.out).unwrap();
    assert_eq!((mistakes.exit, &told["ok"]), (2, &json!(false)), "{told:#}");
    for named in ["postgrez", "epr", "emial"] {
        assert!(mistakes.out.contains(named), "{named}: {told:#}");
    }
}
