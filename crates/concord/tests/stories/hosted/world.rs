//! An org of a story's own, a database, and the example's configuration between them.

use crate::postgres::{Database, Server};
use crate::world::{Home, Running, Sides};
use concord_simulators::faults::Fault;
use concord_simulators::salesforce::{Id, Limit, Options, Simulator};
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

const TABLE: &str = "CREATE TABLE accounts (id serial PRIMARY KEY, sf_id varchar(18) UNIQUE, account_name varchar(255) NOT NULL, \
    industry_type varchar(255), annual_revenue decimal(18,2), last_modified timestamptz, last_sync timestamptz)";
/// How long the org may still be at a call that was not answered.
const SETTLE_MS: u64 = 1_000;

/// The longest wait for a large load, on a machine that does much else.
const LOAD_PATIENCE: Duration = Duration::from_secs(400);

/// A record as the org shows it.
pub type Account = Map<String, Json>;

/// A simulated org and a database of a real server.
pub struct OrgWorld {
    pub erp: Database,
    pub home: Home,
    simulator: Simulator,
    /// Drives the simulator; behind it, so that it ends last.
    _runtime: tokio::runtime::Runtime,
}

impl OrgWorld {
    /// An empty org, an empty table, and the example between them.
    pub fn new() -> OrgWorld {
        OrgWorld::with(&[])
    }

    /// The same, with some of the example's text replaced.
    pub fn with(changes: &[(&str, &str)]) -> OrgWorld {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let simulator = runtime.block_on(Simulator::start(Options::default())).unwrap();
        let erp = Server::shared().database();
        erp.psql(TABLE);
        let world = OrgWorld { erp, home: Home::new(), simulator, _runtime: runtime };
        world.configure(changes);
        world
    }

    /// The example as it stands, with the addresses of this world in place of the usual ones.
    fn configure(&self, changes: &[(&str, &str)]) {
        let folder = self.home.folder();
        std::fs::write(folder.join("ca.pem"), &self.simulator.authority_pem).unwrap();
        std::fs::write(folder.join("client-secret"), "simulated-secret").unwrap();
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/salesforce-accounts.json");
        let mut text = std::fs::read_to_string(example).unwrap();
        let at = self.simulator.addresses;
        let addresses = [
            ("127.0.0.1:7440", at.http.to_string()),
            ("localhost:7443\"", format!("localhost:{}\", \"settle_ms\": {SETTLE_MS}", at.pubsub.port())),
            ("7433", self.erp.server.port().to_string()),
            ("\"database\": \"erp\"", format!("\"database\": \"{}\"", self.erp.name)),
            ("\"salesforce-accounts/", format!("\"{}/", folder.display())),
        ];
        let changes = changes.iter().map(|(usual, wanted)| (*usual, (*wanted).to_owned()));
        for (usual, here) in changes.chain(addresses) {
            assert!(text.contains(usual), "the example has no {usual}");
            text = text.replace(usual, &here);
        }
        std::fs::write(self.home.file(), text).unwrap();
    }

    /// Sets a fault.
    pub fn fault(&self, fault: Json) {
        let fault: Fault = serde_json::from_value(fault).unwrap();
        self.simulator.org.faults.add(fault);
    }

    /// The sales team makes accounts, in one go; their ids.
    pub fn create(&self, accounts: &[Json]) -> Vec<String> {
        let accounts: Vec<Account> = accounts.iter().map(|one| one.as_object().unwrap().clone()).collect();
        let made = self.simulator.person().create_all("Account", &accounts).unwrap();
        made.iter().map(ToString::to_string).collect()
    }

    /// It edits one.
    pub fn update(&self, id: &str, fields: Json) {
        self.simulator.person().update("Account", Id::parse(id).unwrap(), fields.as_object().unwrap()).unwrap();
    }

    /// It deletes one.
    pub fn delete(&self, id: &str) {
        self.simulator.person().delete("Account", Id::parse(id).unwrap()).unwrap();
    }

    /// Waits until both sides hold so many records, each once, and nothing is left to do.
    pub fn is_loaded(&self, running: &Running<'_>, count: usize) {
        let level = || running.status().is_some_and(|sync| sync["level"] == true && sync["links"] == count);
        running.until_within(LOAD_PATIENCE, "everything is loaded", level);
        let (accounts, rows) = self.sides();
        assert!(accounts == rows, "both sides differ");
        assert_eq!(accounts.lines().count(), count);
        let named = self.erp.psql("SELECT count(DISTINCT account_name), count(DISTINCT sf_id) FROM accounts");
        assert_eq!(named, format!("{count}|{count}"), "every record once");
        assert_eq!(self.home.json(&["review", "list"]), Json::Array(vec![]), "nothing waits for a person");
    }

    /// So many events are delivered in a day.
    pub fn delivers(&self, events: u64) {
        self.simulator.org.state().limits.set_max(Limit::DailyDeliveredPlatformEvents, events);
    }

    /// Time passes for the org.
    pub fn passes_ms(&self, by_ms: i64) {
        self.simulator.org.clock.advance(by_ms);
    }

    /// How many calls of the vendor's interface were made whose path holds this.
    pub fn calls(&self, part: &str) -> usize {
        self.simulator.org.journal.since(0).iter().filter(|entry| entry.counted && entry.path.contains(part)).count()
    }

    /// How often each path was called.
    pub fn paths(&self) -> BTreeMap<String, usize> {
        let mut paths = BTreeMap::new();
        for entry in self.simulator.org.journal.since(0) {
            let words = entry.path.split('/').map(|word| if word.len() >= 15 { "…" } else { word }).collect::<Vec<_>>();
            *paths.entry(format!("{} {}", entry.method, words.join("/"))).or_default() += 1;
        }
        paths
    }

    /// The bodies of all logins and exchanges of codes, in their order.
    pub fn logins(&self) -> Vec<String> {
        let entries = self.simulator.org.journal.since(0);
        entries.into_iter().filter(|entry| entry.path == "/services/oauth2/token").map(|entry| entry.body).collect()
    }

    /// What the person answers who is asked to let us act in their name.
    pub fn consents(&self, given: bool) {
        self.simulator.org.state().auth.denies = !given;
    }

    /// The person takes the consent back.
    pub fn takes_consent_back(&self) {
        self.simulator.org.state().auth.end_all_grants();
    }

    /// Where an administrator lets browsers be sent back to.
    pub fn is_sent_back_only_to(&self, callback: &str) {
        self.simulator.org.state().auth.apps[0].callbacks = vec![callback.to_owned()];
    }

    /// What the org answers to somebody who has a code, and nothing else.
    pub fn exchanges(&self, code: &str, redirect: &str) -> String {
        use std::io::{Read, Write};
        let form = format!("grant_type=authorization_code&client_id=3MVG9simulated.app&code={code}&redirect_uri={redirect}");
        let mut stream = std::net::TcpStream::connect(self.simulator.addresses.http).unwrap();
        let head = format!("Host: localhost\r\nConnection: close\r\nContent-Length: {}", form.len());
        write!(stream, "POST /services/oauth2/token HTTP/1.1\r\n{head}\r\n\r\n{form}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Every account that is not in the bin.
    pub fn accounts(&self) -> Vec<Account> {
        serde_json::from_str(&self.simulator.org.records("Account", false).unwrap()).unwrap()
    }

    /// Every account, the bin's, too.
    pub fn all_accounts(&self) -> Vec<Account> {
        serde_json::from_str(&self.simulator.org.records("Account", true).unwrap()).unwrap()
    }
}

impl Sides for OrgWorld {
    /// Sorted lines of id, name, industry and revenue.
    fn sides(&self) -> (String, String) {
        let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
        let line = |one: &Account| {
            let revenue = one["AnnualRevenue"].as_f64().map(|amount| format!("{amount:.2}")).unwrap_or_default();
            format!("{}|{}|{}|{revenue}", text(&one["Id"]), text(&one["Name"]), text(&one["Industry"]))
        };
        let mut accounts: Vec<String> = self.accounts().iter().map(line).collect();
        accounts.sort();
        let rows = self.erp.psql("SELECT sf_id, account_name, industry_type, annual_revenue FROM accounts");
        let mut rows: Vec<&str> = rows.lines().collect();
        rows.sort_unstable();
        (accounts.join("\n"), rows.join("\n"))
    }
}
