//! Syncs that cannot run, beside others that can: what is wrong with one ends no other, each command says what it went on
//! without, and a failure is told in one form, with one exit, by every command.

use crate::shared::two_files;
use crate::world::{World, connection};
use serde_json::{Value, json};

/// What the table of the second sync loses, and what puts it right.
const LOSE_KEY: &str = "ALTER TABLE contacts DROP CONSTRAINT contacts_pkey";
const GAIN_KEY: &str = "ALTER TABLE contacts ADD PRIMARY KEY (id)";

fn stage(world: &World, name: &str) -> String {
    let told = world.json(&["status"]);
    let found = told["syncs"].as_array().and_then(|all| all.iter().find(|sync| sync["name"] == name).cloned());
    found.map_or_else(String::new, |sync| sync["stage"].as_str().unwrap_or_default().to_string())
}

fn document(said: &crate::world::Said) -> Value {
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

#[test]
fn a_table_that_lost_its_key_keeps_no_other_sync_from_running_after_a_restart() {
    let world = World::new(&json!({}));
    let other = two_files(&world);
    let running = world.run(&[&other, "--auto-approve"]);
    running.until_level();
    running.stop();
    world.crm.psql(LOSE_KEY);

    let mut running = world.run(&[&other]);
    running.until("the one waits with its reason", || stage(&world, "contacts").starts_with("waiting: CON-2006"));
    world.crm.psql("UPDATE accounts SET city = 'Lyon'");
    running.until("the other flows", || world.erp.psql("SELECT town FROM customers") == "Lyon");
    assert!(!running.has_ended());
    assert!(running.said().contains("does not run yet") && running.said().contains("contacts"), "{}", running.said());

    // What happened in its table meanwhile arrives once it is put right, and nobody starts anything anew for that.
    world.crm.psql("INSERT INTO contacts (name, email, city) VALUES ('Bea', 'bea@x.example', 'Riga')");
    world.crm.psql(GAIN_KEY);
    running.until("it goes on", || world.erp.psql("SELECT town FROM people WHERE mail = 'bea@x.example'") == "Riga");
    running.until("it is live", || stage(&world, "contacts") == "live");
    running.stop();
}

#[test]
fn a_secret_that_is_missing_keeps_no_other_sync_from_running_and_is_taken_up_when_it_is_there() {
    let world = World::new(&json!({}));
    let other = two_files(&world);
    let secret = world.folder().join("secret");
    std::fs::write(&secret, "whatever").unwrap();
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&other).unwrap()).unwrap();
    let mut far = connection(&world.erp, world.erp.server.port());
    far["credentials"]["password"] = json!({ "file": secret });
    config["connections"] = json!({ "crm": connection(&world.crm, world.crm.server.port()), "far": far });
    config["target"]["system"] = json!("far");
    std::fs::write(&other, config.to_string()).unwrap();
    assert_eq!(world.concord(&["run", "FILE", &other, "--once", "--auto-approve"]).exit, 0);
    std::fs::remove_file(&secret).unwrap();
    let alone = world.concord(&["run", &other, "--json"]);
    assert_eq!((alone.exit, &document(&alone)["error"]["place"]), (3, &json!("far")), "{alone:?}");

    let running = world.run(&[&other]);
    running.until("the one waits with its reason", || stage(&world, "contacts").starts_with("waiting: CON-101"));
    world.crm.psql("UPDATE accounts SET city = 'Lyon'; UPDATE contacts SET city = 'Riga'");
    running.until("the other flows", || world.erp.psql("SELECT town FROM customers") == "Lyon");
    std::fs::write(&secret, "whatever").unwrap();
    running.until("it goes on", || world.erp.psql("SELECT town FROM people") == "Riga");
    running.stop();
}

#[test]
fn a_lost_key_of_the_secrets_keeps_no_sync_from_running_that_needs_none_of_them() {
    let world = World::new(&json!({}));
    let other = two_files(&world);
    let mut set = world.command(&["secret", "set", "far_password"]);
    let mut child = set.stdin(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"hunter2\n").unwrap();
    assert!(child.wait().unwrap().success());
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&other).unwrap()).unwrap();
    let mut far = connection(&world.erp, world.erp.server.port());
    far["credentials"]["password"] = json!({ "secret": "far_password" });
    config["connections"] = json!({ "crm": connection(&world.crm, world.crm.server.port()), "far": far });
    config["target"]["system"] = json!("far");
    std::fs::write(&other, config.to_string()).unwrap();
    assert_eq!(world.concord(&["run", "FILE", &other, "--once", "--auto-approve"]).exit, 0);

    let (key, lost) = (world.store().join("secret.key"), world.folder().join("lost.key"));
    std::fs::rename(&key, &lost).unwrap();
    assert_eq!(world.concord(&["run", "FILE", "--once"]).exit, 0, "it needs no secret");
    let alone = world.concord(&["run", &other, "--json"]);
    assert_eq!((alone.exit, &document(&alone)["error"]["code"]), (3, &json!("CON-1019")), "{alone:?}");
    let running = world.run(&[&other]);
    running.until("the one waits with its reason", || stage(&world, "contacts").starts_with("waiting: CON-1019"));
    world.crm.psql("UPDATE accounts SET city = 'Lyon'; UPDATE contacts SET city = 'Riga'");
    running.until("the other flows", || world.erp.psql("SELECT town FROM customers") == "Lyon");
    assert!(running.said().contains("contacts"), "{}", running.said());
    std::fs::rename(&lost, &key).unwrap();
    running.until("it goes on", || world.erp.psql("SELECT town FROM people") == "Riga");
    running.stop();
}

#[test]
fn a_run_for_once_carries_what_it_can_and_names_what_it_went_on_without() {
    let world = World::new(&json!({}));
    let other = two_files(&world);
    assert_eq!(world.concord(&["run", "FILE", &other, "--once", "--auto-approve"]).exit, 0);
    world.crm.psql(LOSE_KEY);
    world.crm.psql("UPDATE accounts SET city = 'Lyon'");
    let ended = world.concord(&["run", "FILE", &other, "--once", "--json"]);
    assert!(ended.exit == 3 && ended.err.contains("contacts") && ended.err.contains("CON-2006"), "{ended:?}");
    assert_eq!(world.erp.psql("SELECT town FROM customers"), "Lyon");
    let told = document(&ended);
    let of = |name: &str| told["syncs"].as_array().unwrap().iter().find(|sync| sync["name"] == name).cloned().unwrap();
    assert_eq!(of("accounts")["level"], true, "{told:#}");
    assert!(of("contacts")["stage"].as_str().unwrap().starts_with("stopped: CON-2006"), "{told:#}");
}

#[test]
fn a_plan_and_a_verification_go_on_without_a_sync_and_say_so() {
    let world = World::new(&json!({}));
    let other = two_files(&world);
    let left_out = |told: &Value, key: &str| json!([told[key][0]["sync"], told[key][0]["code"], told[key][1]]);
    let both = |code: &str| {
        let planned = world.concord(&["plan", "FILE", &other, "--json"]);
        let told = document(&planned);
        assert_eq!((planned.exit, left_out(&told, "not_planned")), (3, json!(["contacts", code, null])), "{planned:?}");
        assert_eq!(
            (&told["plan"]["runs"][0]["sync"], told["plan"]["runs"].as_array().map(Vec::len)),
            (&json!("accounts"), Some(1))
        );
        let text = world.concord(&["plan", "FILE", &other]);
        assert!(text.exit == 3 && text.out.contains("contacts is not planned: CON-"), "{text:?}");

        let verified = world.concord(&["verify", "FILE", &other, "--json"]);
        let told = document(&verified);
        assert_eq!((verified.exit, left_out(&told, "not_compared")), (3, json!(["contacts", code, null])), "{verified:?}");
        assert_eq!((&told["syncs"][0]["name"], told["syncs"].as_array().map(Vec::len)), (&json!("accounts"), Some(1)));
        let text = world.concord(&["verify", "FILE", &other]);
        assert!(text.exit == 3 && text.out.contains("contacts not compared: CON-"), "{text:?}");
        assert_eq!(world.concord(&["verify", "FILE", &other, "--sync", "accounts"]).exit, 0);
    };
    assert_eq!(world.concord(&["run", "FILE", &other, "--once", "--auto-approve"]).exit, 0);
    world.crm.psql(LOSE_KEY);
    both("CON-2006");
    world.crm.psql(GAIN_KEY);

    // A system that nobody listens for.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&other).unwrap()).unwrap();
    config["connections"] =
        json!({ "crm": connection(&world.crm, world.crm.server.port()), "far": connection(&world.erp, closed) });
    config["target"]["system"] = json!("far");
    std::fs::write(&other, config.to_string()).unwrap();
    both("CON-2001");

    // The same where the process that runs is asked.
    let running = world.run(&[&other]);
    let verified = world.concord(&["verify", "FILE", &other, "--json"]);
    let told = document(&verified);
    assert_eq!((verified.exit, left_out(&told, "not_compared")), (3, json!(["contacts", "CON-2001", null])), "{verified:?}");
    assert_eq!(told["syncs"][0]["name"], "accounts", "{told:#}");
    let alone = world.concord(&["verify", &other, "--json"]);
    assert_eq!((alone.exit, &document(&alone)["error"]["code"]), (3, &json!("CON-2001")), "{alone:?}");
    running.stop();
}

#[test]
fn a_sync_that_nobody_has_approved_keeps_none_waiting_that_has_begun() {
    let world = World::new(&json!({}));
    let other = two_files(&world);
    // Where nothing has begun, everything has to be approved.
    let refused = world.concord(&["run", "FILE", &other, "--once"]);
    assert!(refused.exit == 2 && refused.err.contains("accounts, contacts"), "{refused:?}");
    assert_eq!(world.concord(&["run", "FILE", "--once", "--auto-approve"]).exit, 0);
    world.crm.psql("UPDATE accounts SET city = 'Lyon'");
    let ended = world.concord(&["run", "FILE", &other, "--once"]);
    assert!(ended.exit == 2 && ended.err.contains("contacts") && ended.err.contains("CON-5002"), "{ended:?}");
    assert_eq!(
        (world.erp.psql("SELECT town FROM customers"), world.erp.psql("SELECT count(*) FROM people")),
        ("Lyon".into(), "0".into())
    );
    let running = world.run(&[&other]);
    running.until("the other is held", || stage(&world, "contacts").starts_with("stopped: CON-5002"));
    running.stop();
}

#[test]
fn syncs_that_pass_fields_round_by_their_equal_names_are_said_where_schemas_are_known() {
    let world = World::new(&json!({}));
    world.erp.psql("CREATE TABLE accounts (id serial PRIMARY KEY, name text, email text UNIQUE, phone text, city text)");
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(world.file()).unwrap()).unwrap();
    for key in ["name", "source", "target", "sync_type", "match_on", "field_mappings"] {
        config.as_object_mut().unwrap().remove(key);
    }
    let one_way = |name: &str, source: &str, target: &str| json!({ "name": name, "source": source, "target": target, "sync_type": "one_way" });
    config["syncs"] = json!([one_way("there", "crm.accounts", "erp.accounts"), one_way("back", "erp.accounts", "crm.accounts")]);
    std::fs::write(world.file(), config.to_string()).unwrap();

    assert!(!world.concord(&["check", "FILE"]).err.contains("CON-1820"), "no file names a field");
    for command in [&["check", "--connect", "FILE"][..], &["plan", "FILE"]] {
        let told = world.json(command);
        let rings: Vec<&Value> = told["findings"].as_array().unwrap().iter().filter(|one| one["code"] == "CON-1820").collect();
        assert_eq!(rings.len(), 1, "{command:?}: {told:#}");
        let (message, place) = (rings[0]["message"].as_str().unwrap(), rings[0]["place"].as_str().unwrap());
        assert!(message.contains("`back` and `there`") && message.contains("crm.public.accounts."), "{message}");
        assert!(message.contains("more fields") && place.contains("accounts.json:"), "{message} at {place}");
    }
}

/// Every command, as the binary lists them.
fn commands(world: &World) -> Vec<String> {
    let help = world.concord(&["--help"]).out;
    let listed = help.split("Commands:").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = listed.lines().filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    names.map(str::to_owned).collect()
}

#[test]
fn every_command_tells_a_failure_in_one_document_and_with_the_exit_of_its_code() {
    let world = World::new(&json!({}));
    let fails = |arguments: &[&str], code: &str, exit: i32| {
        let said = world.concord(&[arguments, &["--json"]].concat());
        let told = document(&said);
        assert_eq!(
            (said.exit, &told["error"]["code"], &told["error"]["severity"]),
            (exit, &json!(code), &json!("error")),
            "{arguments:?}: {said:?}"
        );
        assert!(!told["error"]["remedy"].as_str().unwrap_or_default().is_empty(), "{arguments:?}: {told:#}");
    };
    let commands = commands(&world);
    assert!(commands.len() >= 15, "{commands:?}");
    for command in &commands {
        fails(&[command, "--nonsense"], "CON-5010", 2);
    }

    // Nothing is there to be looked at.
    let of_store: [&[&str]; 8] = [
        &["status"],
        &["review", "list"],
        &["review", "show", "1"],
        &["review", "ignore", "1"],
        &["review", "retry", "1"],
        &["explain", "accounts", "1"],
        &["pause"],
        &["resume", "accounts"],
    ];
    of_store.iter().for_each(|arguments| fails(arguments, "CON-4008", 3));

    // What is asked for is not there.
    assert_eq!(world.concord(&["run", "FILE", "--once", "--auto-approve"]).exit, 0);
    fails(&["review", "show", "99"], "CON-3019", 2);
    fails(&["explain", "nobody", "1"], "CON-3021", 2);
    fails(&["explain", "accounts", "99"], "CON-5005", 2);
    fails(&["pause", "nobody"], "CON-3021", 2);
    fails(&["verify", "FILE", "--sync", "nobody"], "CON-3021", 2);
    fails(&["run", "FILE", "--approve", "nonesuch"], "CON-5003", 2);
    fails(&["connect", "crm", "FILE"], "CON-5024", 2);

    // The one sync cannot run.
    world.erp.psql("ALTER TABLE customers RENAME TO away");
    for arguments in [
        &["run", "FILE"][..],
        &["run", "FILE", "--once"],
        &["plan", "FILE"],
        &["verify", "FILE"],
        &["verify", "FILE", "--repair"],
    ] {
        fails(arguments, "CON-2005", 3);
    }
    let checked = world.concord(&["check", "--connect", "FILE", "--json"]);
    assert_eq!((checked.exit, &document(&checked)["ok"]), (3, &json!(false)), "{checked:?}");
    world.erp.psql("ALTER TABLE away RENAME TO customers");

    // The files are wrong.
    world.configure(&json!({ "match_on": ["emial"] }));
    let of_files: [&[&str]; 6] = [
        &["check", "FILE"],
        &["plan", "FILE"],
        &["run", "FILE"],
        &["verify", "FILE"],
        &["release", "FILE"],
        &["connect", "crm", "FILE"],
    ];
    for arguments in of_files {
        let said = world.concord(&[arguments, &["--json"]].concat());
        let told = document(&said);
        assert_eq!(
            (said.exit, &told["ok"], &told["findings"][0]["code"]),
            (2, &json!(false), &json!("CON-1011")),
            "{arguments:?}"
        );
    }
}
