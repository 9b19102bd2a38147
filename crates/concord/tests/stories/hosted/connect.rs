//! `concord connect` with the real binary: a person is asked in a browser, which the story plays, and what comes of it is what
//! the pair runs on.

use super::world::OrgWorld;
use crate::world::{Sides, until};
use concord_engine::store::sqlite::{SqliteStore, StoreOptions};
use concord_engine::store::{Store, Transaction};
use serde_json::{Value as Json, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

/// The example's credentials, and those of a connection for which a person consents.
const BY_CONSENT: (&str, &str) = (
    "\"client_secret\": { \"file\": \"salesforce-accounts/client-secret\" }",
    "\"refresh_token\": { \"secret\": \"crm_token\" }",
);

fn world() -> OrgWorld {
    OrgWorld::with(&[BY_CONSENT])
}

/// `concord connect` as it waits for the browser.
struct Connecting {
    child: Child,
    address: String,
    said: BufReader<std::process::ChildStderr>,
}

/// How it ended: the exit code, and what it said on standard output and on standard error.
type End = (i32, String, String);

impl Connecting {
    fn start(world: &OrgWorld, arguments: &[&str]) -> Connecting {
        Connecting::spawn(command(world, &[&["--no-browser", "--port", "0"], arguments].concat()))
    }

    fn spawn(mut command: Command) -> Connecting {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut address = String::new();
        while !address.trim().starts_with("http") {
            address.clear();
            assert!(said.read_line(&mut address).unwrap() > 0, "no address was said");
        }
        Connecting { child, address: address.trim().to_owned(), said }
    }

    /// The value that the address gives a parameter.
    fn of(&self, name: &str) -> String {
        let query = self.address.split_once('?').unwrap().1;
        query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}="))).unwrap().to_owned()
    }

    /// Where the browser is to come back to.
    fn back(&self) -> String {
        self.of("redirect_uri").replace("%3A", ":").replace("%2F", "/")
    }

    fn end(mut self) -> End {
        let (mut out, mut err) = (String::new(), String::new());
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        self.said.read_to_string(&mut err).unwrap();
        (self.child.wait().unwrap().code().unwrap_or(-1), out, err)
    }
}

fn command(world: &OrgWorld, arguments: &[&str]) -> Command {
    let file = world.home.file().display().to_string();
    let mut command = world.home.command(&["connect", "crm", &file]);
    command.args(arguments).env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
    command
}

/// What an address answers: head and body.
fn get(address: &str) -> (String, String) {
    let (host, path) = address.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host.replace("localhost", "127.0.0.1")).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// Where the vendor's page sends the browser.
fn sent_to(address: &str) -> String {
    let (head, body) = get(address);
    let location = head.lines().find_map(|line| line.to_lowercase().starts_with("location: ").then(|| line[10..].to_owned()));
    location.unwrap_or_else(|| panic!("sent nowhere: {head}\n{body}"))
}

/// The browser opens the address and goes where it is sent: what the person sees last.
fn browse(address: &str) -> (String, String) {
    get(&sent_to(address))
}

/// A person consents; how the command ends.
fn consent(world: &OrgWorld, arguments: &[&str]) -> End {
    let connecting = Connecting::start(world, arguments);
    let (head, page) = browse(&connecting.address);
    let end = connecting.end();
    assert!(head.starts_with("HTTP/1.1 200") && page.contains("You can close this window"), "{head}\n{page}\n{end:?}");
    end
}

/// The refresh tokens that logins have shown, in their order.
fn shown(world: &OrgWorld) -> Vec<String> {
    let token = |body: &String| body.split("refresh_token=").nth(1)?.split('&').next().map(str::to_owned);
    world.logins().iter().filter_map(token).collect()
}

#[test]
fn after_a_person_has_consented_the_pair_runs_and_each_start_goes_on_with_the_newest_token() {
    let world = world();
    let too_early = world.home.concord(&["run", "FILE", "--once", "--auto-approve"]);
    assert_eq!(too_early.exit, 3, "{too_early:?}");
    assert!(too_early.err.contains("CON-1018") && too_early.err.contains("concord connect crm"), "{too_early:?}");

    let (exit, out, err) = consent(&world, &[]);
    assert_eq!(exit, 0, "{out}{err}");
    assert!(out.contains("crm_token") && !out.contains("5Aep") && !err.contains("5Aep"), "{out}{err}");
    let checked = world.home.concord(&["check", "--connect", "FILE"]);
    assert_eq!(checked.exit, 0, "{checked:?}");
    for lives in 1..=3 {
        let running = world.home.run(&world, &["--auto-approve"]);
        world.erp.psql(&format!("INSERT INTO accounts (account_name) VALUES ('row {lives}')"));
        world.create(&[json!({ "Name": format!("account {lives}") })]);
        running.until("both are on both sides", || world.accounts().len() == 2 * lives && world.is_equal());
        running.stop();
    }
    // Each life has shown a token that no life before it had: the successor was kept before it was used.
    let shown = shown(&world);
    let different: std::collections::BTreeSet<&String> = shown.iter().collect();
    assert!(shown.len() >= 4 && different.len() == shown.len(), "{} logins, {} tokens", shown.len(), different.len());
    let store =
        std::fs::read_dir(world.home.store()).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap_or_default());
    let kept: Vec<u8> = store.flatten().collect();
    assert!(!kept.windows(7).any(|bytes| bytes == b"5Aep861"), "no token lies open in the store");
}

#[test]
fn a_consent_that_was_taken_back_is_given_again_and_what_happened_meanwhile_flows_without_a_restart() {
    let world = world();
    assert_eq!(consent(&world, &[]).0, 0);
    let running = world.home.run(&world, &["--auto-approve"]);
    world.create(&[json!({ "Name": "before" })]);
    running.until_level();
    world.takes_consent_back();
    world.erp.psql("INSERT INTO accounts (account_name) VALUES ('meanwhile')");
    running.until("what to do is said", || {
        running.status().is_some_and(|sync| sync["members"].to_string().contains("concord connect crm"))
    });
    let (exit, out, err) = consent(&world, &["--json"]);
    assert_eq!(exit, 0, "{out}{err}");
    let told: Json = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&told["connected"], &told["kept_as"], &told["running"]),
        (&json!("crm"), &json!("crm_token"), &json!(true)),
        "{told:#}"
    );
    running.until("the row has its account", || world.accounts().len() == 2 && world.is_equal());
    running.stop();
}

#[test]
fn while_the_pair_runs_its_token_is_left_to_it_and_a_new_consent_is_used_at_once() {
    let world = world();
    assert_eq!(consent(&world, &[]).0, 0);
    let running = world.home.run(&world, &["--auto-approve"]);
    running.until_level();
    let before = shown(&world);
    let checked = world.home.concord(&["check", "--connect", "FILE", "--json"]);
    assert_eq!(checked.exit, 0, "{checked:?}");
    let told: Json = serde_json::from_str(&checked.out).unwrap();
    let findings = told["findings"].as_array().unwrap();
    let not_asked: Vec<&Json> = findings.iter().filter(|finding| finding["code"] == "CON-2310").collect();
    assert!(not_asked.len() == 1 && not_asked[0]["severity"] == "warning" && not_asked[0]["place"] == "crm", "{told:#}");
    let reached = |finding: &Json| finding["place"] == "crm" && finding["message"].as_str().unwrap().contains("reached");
    assert!(findings.iter().any(reached), "the process that runs has looked: {told:#}");
    assert_eq!(shown(&world), before, "no token was used up");

    assert_eq!(consent(&world, &[]).0, 0);
    running.until("the new consent is used though nothing happens", || shown(&world).len() > before.len());
    world.erp.psql("INSERT INTO accounts (account_name) VALUES ('after')");
    running.until("it goes on", || world.accounts().len() == 1 && world.is_equal());
    running.stop();
    let running = world.home.run(&world, &[]);
    world.create(&[json!({ "Name": "later" })]);
    running.until("the next life has the newest token", || world.accounts().len() == 2 && world.is_equal());
    running.stop();
    let shown = shown(&world);
    let different: std::collections::BTreeSet<&String> = shown.iter().collect();
    assert_eq!(different.len(), shown.len(), "each token was used once");
}

#[test]
fn a_consent_that_the_process_could_not_read_is_refused_before_anybody_is_asked() {
    let world = world();
    assert_eq!(consent(&world, &[]).0, 0);
    let running = world.home.run(&world, &["--auto-approve"]);
    running.until_level();
    let before = shown(&world);
    let elsewhere = "ab".repeat(32);
    let file = world.home.file().display().to_string();
    let refused = |arguments: &[&str]| {
        let mut command = world.home.command(arguments);
        command.env("CONCORD_SECRET_KEY", &elsewhere).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"hunter2").unwrap();
        let said = child.wait_with_output().unwrap();
        let words = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.status.code() == Some(3) && words.contains("CON-1020") && words.contains("nothing was kept"), "{words}");
        assert!(!words.contains("https://") && !words.contains("open this address"), "nobody is asked: {words}");
    };
    let consent = ["connect", "crm", &file, "--no-browser", "--port", "0"];
    let secrets: [&[&str]; 2] = [&["secret", "set", "crm_token"], &["secret", "set", "crm_token", "--new-key"]];
    refused(&consent);
    for secret in secrets {
        refused(secret);
    }
    running.stop();
    // Nor while nothing runs: one store has one key.
    refused(&["secret", "set", "another"]);
    let running = world.home.run(&world, &[]);
    world.create(&[json!({ "Name": "goes on" })]);
    running.until("what was kept is as it was", || world.accounts().len() == 1 && world.is_equal());
    running.stop();
    assert!(shown(&world).len() > before.len());
}

#[test]
fn a_consent_is_not_lost_because_somebody_holds_the_store() {
    let world = world();
    let mut connecting = Connecting::start(&world, &[]);
    let held = SqliteStore::open(&world.home.store(), &StoreOptions::default()).unwrap();
    let back = sent_to(&connecting.address);
    let browser = std::thread::spawn(move || get(&back));
    let mut said = String::new();
    while !said.contains("the consent waits") {
        assert!(connecting.said.read_line(&mut said).unwrap() > 0, "{said}");
    }
    drop(held);
    let (head, page) = browser.join().unwrap();
    let (exit, out, err) = connecting.end();
    assert!(exit == 0 && head.starts_with("HTTP/1.1 200"), "{head}\n{page}\n{out}{err}");
    assert_eq!(world.home.concord(&["check", "--connect", "FILE"]).exit, 0);
}

#[test]
fn a_consent_for_another_account_than_the_stores_is_not_kept() {
    let world = world();
    assert_eq!(consent(&world, &[]).0, 0);
    let running = world.home.run(&world, &["--auto-approve"]);
    running.until_level();
    running.stop();
    let before = shown(&world);
    let store = SqliteStore::open(&world.home.store(), &StoreOptions::default()).unwrap();
    let other = serde_json::to_vec(&concord_connectors::keeping::Acting::new("00D000000000000AAA")).unwrap();
    let settings = vec![("acting/crm".to_owned(), Some(other))];
    store.submit(Transaction { settings, ..Transaction::default() }).blocking_recv().unwrap().unwrap();
    drop(store);
    let connecting = Connecting::start(&world, &[]);
    let (head, page) = browse(&connecting.address);
    assert!(head.starts_with("HTTP/1.1 400") && page.contains("CON-2309"), "{head}\n{page}");
    let (exit, _, err) = connecting.end();
    assert!(exit != 0 && err.contains("CON-2309") && err.contains("nothing was kept"), "{exit} {err}");
    // What was kept before is there; it is no better for that org.
    let said = world.home.concord(&["run", "FILE", "--once"]);
    assert!(said.exit != 0 && said.err.contains("CON-2309"), "{said:?}");
    assert!(shown(&world).len() > before.len());
}

#[test]
fn what_is_no_answer_to_the_question_is_turned_away_and_the_wait_goes_on() {
    let world = world();
    let foreign = Connecting::start(&world, &[]);
    let (head, page) = get(&format!("{}?code=somebody-elses&state={}x", foreign.back(), foreign.of("state")));
    assert!(head.starts_with("HTTP/1.1 400") && page.contains("CON-5022"), "{head}\n{page}");
    assert!(world.logins().is_empty(), "no code was exchanged");
    let (head, _) = browse(&foreign.address);
    assert!(head.starts_with("HTTP/1.1 200"), "whoever else knocks ends nothing: {head}");
    assert_eq!(foreign.end().0, 0);
}

#[test]
fn a_no_silence_and_a_code_that_was_used_each_end_with_their_code_and_keep_nothing() {
    let world = world();
    let ends = |connecting: Connecting, code: &str| {
        let (exit, out, err) = connecting.end();
        assert!(exit == 1 && out.is_empty() && err.contains(&format!("error[{code}]")), "{code}: {exit} {out}{err}");
    };

    world.consents(false);
    let denied = Connecting::start(&world, &[]);
    let (head, page) = browse(&denied.address);
    assert!(head.starts_with("HTTP/1.1 400") && page.contains("CON-5020"), "{head}\n{page}");
    ends(denied, "CON-5020");
    world.consents(true);

    ends(Connecting::start(&world, &["--timeout", "1"]), "CON-5021");

    // Whoever saw the code on its way has tried it, without the verifier: it is worth nothing to them, nor to us.
    let used = Connecting::start(&world, &[]);
    let back = sent_to(&used.address);
    let code = back.split("code=").nth(1).unwrap().split('&').next().unwrap();
    assert!(world.exchanges(code, &used.back()).contains("invalid_grant"));
    let (head, page) = get(&back);
    assert!(head.starts_with("HTTP/1.1 400") && page.contains("CON-5023"), "{head}\n{page}");
    ends(used, "CON-5023");

    let said = world.home.concord(&["run", "FILE", "--once", "--auto-approve"]);
    assert!(said.exit == 3 && said.err.contains("CON-1018"), "nothing was kept: {said:?}");
}

#[test]
fn what_cannot_be_asked_is_said_before_anybody_is() {
    let by_secret = OrgWorld::new();
    let by_variable = OrgWorld::with(&[(BY_CONSENT.0, "\"refresh_token\": { \"env\": \"NO_SUCH_TOKEN\" }")]);
    let world = world();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (world, connection, arguments, exit, code, words) in [
        (&world, "crn", &[][..], 2, "CON-1010", "it has crm, erp"),
        (&world, "erp", &[], 2, "CON-5024", "postgres"),
        (&by_secret, "crm", &[], 2, "CON-5024", "client secret"),
        (&by_variable, "crm", &[], 2, "CON-1009", "NO_SUCH_TOKEN"),
        (&world, "crm", &["--port", &port], 3, "CON-5008", "port"),
    ] {
        let arguments = [&["connect", connection, "FILE", "--no-browser", "--json"], arguments].concat();
        let said = world.home.concord(&arguments);
        assert_eq!(said.exit, exit, "{arguments:?}: {said:?}");
        let told: Json = serde_json::from_str(&said.out).unwrap();
        assert_eq!(told["error"]["code"], code, "{told:#}");
        assert!(told["error"]["message"].as_str().unwrap().contains(words) && told["error"]["remedy"].is_string(), "{told:#}");
    }
    assert_eq!(world.home.concord(&["connect", "crm", "FILE", "--timeout", "0"]).exit, 2);
}

#[test]
fn the_browser_is_opened_where_there_is_a_screen_and_a_callback_that_the_app_lacks_is_refused_by_the_vendor() {
    use std::os::unix::fs::PermissionsExt;
    let world = world();
    let (tools, opened) = (world.home.folder().join("tools"), world.home.folder().join("opened"));
    std::fs::create_dir(&tools).unwrap();
    let browser = tools.join("xdg-open");
    std::fs::write(&browser, format!("#!/bin/sh\nprintf %s \"$1\" > '{}.new' && mv '{0}.new' '{0}'\n", opened.display()))
        .unwrap();
    std::fs::set_permissions(&browser, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut connect = command(&world, &["--port", "0"]);
    let path = std::env::var("PATH").unwrap();
    connect.env("PATH", format!("{}:{path}", tools.display())).env("DISPLAY", ":77");
    let connecting = Connecting::spawn(connect);
    until("the browser is opened", || opened.exists(), String::new);
    assert_eq!(std::fs::read_to_string(&opened).unwrap(), connecting.address);

    world.is_sent_back_only_to("http://localhost:1/callback");
    let (head, page) = get(&connecting.address);
    assert!(head.starts_with("HTTP/1.1 400") && page.contains("redirect_uri_mismatch"), "{head}\n{page}");
    world.is_sent_back_only_to(&connecting.back());
    let (head, _) = browse(&connecting.address);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(connecting.end().0, 0);
}
