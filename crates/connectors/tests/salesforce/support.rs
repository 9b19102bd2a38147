//! A simulated org of one test, its people, and a connector to it. Nothing here knows a particular test.
#![allow(dead_code, reason = "not every binary uses every helper")]

use concord_connectors::keeping::{Acting, BoxFuture, Calls, Keep};
use concord_connectors::salesforce::{self, SalesforceConnector, SalesforceSettings};
use concord_connectors::settings::{Asked, AskedChanges};
use concord_engine::change::{Image, Mark, Observation};
use concord_engine::config::{ChangeDetection, Connection, SecretText};
use concord_engine::connector::{Changes, Connector, Event, Feed, Limits, Operation, Outcome, Write};
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::{Key, Record, SystemName};
use concord_engine::schema::Selection;
use concord_engine::value::Value;
use concord_simulators::faults::Fault;
use concord_simulators::salesforce::{Options, Simulator};
use serde_json::{Value as Json, json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const LIMITS: Limits = Limits { max_events: 500, max_bytes: 8_000_000, max_wait: Duration::from_millis(100) };
/// How long anything may take on a machine that has other things to do.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Org {
    pub simulator: Simulator,
    folder: tempfile::TempDir,
}

impl Org {
    pub async fn new() -> Org {
        Org::with(Options::default()).await
    }

    pub async fn with(options: Options) -> Org {
        let simulator = Simulator::start(options).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), &simulator.authority_pem).unwrap();
        Org { simulator, folder }
    }

    /// An org whose app knows the public half of a new key; with the private half, as PEM.
    pub async fn with_key() -> (Org, String) {
        use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
        use aws_lc_rs::rsa::KeySize;
        use aws_lc_rs::signature::{KeyPair, RsaKeyPair};
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let private: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let mut options = Options::default();
        options.apps[0].public_key = Some(pem("PUBLIC KEY", public.as_ref()));
        (Org::with(options).await, pem("PRIVATE KEY", private.as_ref()))
    }

    /// A refresh token, as a person gets one who has approved.
    pub async fn refresh_token(&self) -> String {
        let page = "/services/oauth2/authorize?response_type=code&client_id=3MVG9simulated.app&redirect_uri=http://localhost/cb\
                    &scope=api%20refresh_token";
        let answer = self.send(&format!("GET {page} HTTP/1.1")).await;
        let code = answer.split("code=").nth(1).unwrap().split(['&', '\r']).next().unwrap().to_owned();
        let form = format!(
            "grant_type=authorization_code&client_id=3MVG9simulated.app&client_secret=simulated-secret\
             &redirect_uri=http://localhost/cb&code={code}"
        );
        let head = "POST /services/oauth2/token HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded";
        let answer = self.send(&format!("{head}\r\nContent-Length: {}\r\n\r\n{form}", form.len())).await;
        let body: Json = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        body["refresh_token"].as_str().unwrap().to_owned()
    }

    /// Another program makes a record, as the user that we act as.
    pub async fn create_as_the_integration(&self, object: &str, fields: Json) -> String {
        let made = self.post_as_the_integration(&format!("sobjects/{object}"), fields).await;
        made["id"].as_str().unwrap().to_owned()
    }

    /// Another program asks for something, as the user that we act as.
    pub async fn post_as_the_integration(&self, path: &str, body: Json) -> Json {
        let post = |path: &str, head: &str, body: Json| {
            let body = body.to_string();
            let length = body.len();
            format!("POST {path} HTTP/1.1\r\nContent-Type: application/json\r\n{head}Content-Length: {length}\r\n\r\n{body}")
        };
        let json = |answer: String| -> Json { serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap() };
        let session = post("/_sim/session", "", json!({"username": "integration@acme.example"}));
        let token = json(self.send(&session).await)["access_token"].as_str().unwrap().to_owned();
        let head = format!("Authorization: Bearer {token}\r\n");
        json(self.send(&post(&format!("/services/data/v65.0/{path}"), &head, body)).await)
    }

    async fn send(&self, request: &str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(self.simulator.addresses.http).await.unwrap();
        let (first, rest) = request.split_once("\r\n").unwrap_or((request, "\r\n"));
        let request = format!("{first}\r\nHost: {}\r\nConnection: close\r\n{rest}", self.simulator.addresses.http);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// The settings of a connection, with what a test adds to its credentials and options.
    pub fn connection(&self, credentials: Json, options: Json) -> Json {
        let mut connection = json!({
            "type": "salesforce",
            "credentials": {
                "auth_type": "oauth2",
                "instance_url": format!("http://{}", self.simulator.addresses.http),
                "client_id": "3MVG9simulated.app",
                "sslrootcert": self.folder.path().join("ca.pem"),
            },
            "options": {"pubsub_url": format!("https://localhost:{}", self.simulator.addresses.pubsub.port())},
        });
        for (room, given) in [("credentials", credentials), ("options", options)] {
            for (key, value) in given.as_object().unwrap() {
                connection[room][key] = value.clone();
            }
        }
        connection
    }

    /// A file that holds a secret.
    pub fn secret(&self, name: &str, value: &str) -> Json {
        let path = self.folder.path().join(name);
        std::fs::write(&path, value).unwrap();
        json!({"file": path})
    }

    pub fn connect(&self) -> SalesforceConnector {
        let secret = self.secret("client_secret", "simulated-secret");
        open(&self.connection(json!({"client_secret": secret}), json!({})), None).unwrap()
    }

    /// A connector that learns of changes so, and polls so often.
    pub fn connect_asking(&self, how: ChangeDetection, every_ms: u64) -> SalesforceConnector {
        let secret = self.secret("client_secret", "simulated-secret");
        let connection = self.connection(json!({"client_secret": secret}), json!({}));
        let changes = AskedChanges { how, every: Some(Duration::from_millis(every_ms)) };
        open_asked(&connection, &|_: &str| Ok(None::<SecretText>), None, changes).unwrap()
    }

    pub fn fault(&self, fault: Json) {
        let fault: Fault = serde_json::from_value(fault).unwrap();
        self.simulator.org.faults.add(fault);
    }

    /// A person makes a record.
    pub fn create(&self, object: &str, fields: Json) -> String {
        self.simulator.person().create(object, fields.as_object().unwrap()).unwrap().to_string()
    }

    pub fn update(&self, object: &str, id: &str, fields: Json) {
        self.simulator.person().update(object, self.id(id), fields.as_object().unwrap()).unwrap();
    }

    pub fn delete(&self, object: &str, id: &str) {
        self.simulator.person().delete(object, self.id(id)).unwrap();
    }

    /// Every record that is not in the bin.
    pub fn records(&self, object: &str) -> Vec<serde_json::Map<String, Json>> {
        serde_json::from_str(&self.simulator.org.records(object, false).unwrap()).unwrap()
    }

    pub fn id(&self, id: &str) -> concord_simulators::salesforce::Id {
        concord_simulators::salesforce::Id::parse(id).unwrap()
    }

    /// Requests of the journal whose path holds a text.
    pub fn requests(&self, part: &str) -> usize {
        self.simulator.org.journal.since(0).iter().filter(|entry| entry.path.contains(part)).count()
    }
}

/// How a test reaches the org.
pub type Connect = fn(&Org) -> SalesforceConnector;

/// Events come by gRPC.
pub fn by_grpc(org: &Org) -> SalesforceConnector {
    org.connect_with(json!({"events": "grpc"}))
}

/// Events come by long polling.
pub fn by_long_polling(org: &Org) -> SalesforceConnector {
    org.connect_with(json!({"events": "long_polling"}))
}

impl Org {
    /// A connector with these options.
    pub fn connect_with(&self, options: Json) -> SalesforceConnector {
        let secret = self.secret("client_secret", "simulated-secret");
        open(&self.connection(json!({"client_secret": secret}), options), None).unwrap()
    }

    /// The refresh tokens that logins have shown, in their order.
    pub fn tokens_shown(&self) -> Vec<String> {
        let logins = self.simulator.org.journal.since(0).into_iter().filter(|entry| entry.path == "/services/oauth2/token");
        let token = |body: String| body.split("&refresh_token=").nth(1)?.split('&').next().map(str::to_owned);
        logins.filter_map(|entry| token(entry.body)).collect()
    }

    /// How many requests were answered with this status.
    pub fn refused_with(&self, status: u16) -> usize {
        self.simulator.org.journal.since(0).iter().filter(|entry| entry.status == status).count()
    }
}

/// What is kept from one connector to the next, in memory.
#[derive(Default)]
pub struct Shelf {
    pub secrets: Mutex<HashMap<String, SecretText>>,
    pub acting: Mutex<HashMap<String, Acting>>,
    pub calls: Mutex<HashMap<String, Calls>>,
    pub is_full: AtomicBool,
    /// Whether it is somebody else's, and can only be looked at.
    pub is_locked: AtomicBool,
    /// A person gives this one in the middle of the next keeping.
    pub given_meanwhile: Mutex<Option<(String, SecretText)>>,
    given: tokio::sync::watch::Sender<u64>,
}

impl Shelf {
    /// A person gives a secret.
    pub fn give(&self, name: &str, secret: &str) {
        self.secrets.lock().unwrap().insert(name.to_owned(), SecretText::new(secret));
        self.given.send_modify(|given| *given += 1);
    }

    pub fn kept(&self, name: &str) -> Option<SecretText> {
        self.secrets.lock().unwrap().get(name).cloned()
    }

    /// A connector that keeps things here, and finds here what was kept before.
    pub fn open(self: &Arc<Shelf>, connection: &Json) -> Result<SalesforceConnector> {
        open_stored(connection, &|name: &str| Ok(self.kept(name)), Some(Arc::clone(self) as Arc<dyn Keep>))
    }
}

impl Keep for Shelf {
    fn can_keep(&self) -> bool {
        !self.is_locked.load(Ordering::SeqCst)
    }

    fn secret<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<SecretText>>> {
        Box::pin(async move { Ok(self.kept(name)) })
    }

    fn succeed<'a>(&'a self, name: &'a str, seen: Option<&'a SecretText>, secret: &'a SecretText) -> BoxFuture<'a, Result<bool>> {
        Box::pin(async move {
            if self.is_full.load(Ordering::SeqCst) {
                return Err(Error::new(Code::StoreFull, "no room"));
            }
            if let Some((name, secret)) = self.given_meanwhile.lock().unwrap().take() {
                self.give(&name, secret.expose());
            }
            let mut secrets = self.secrets.lock().unwrap();
            let is_as_seen = secrets.get(name) == seen;
            if is_as_seen {
                secrets.insert(name.to_owned(), secret.clone());
            }
            Ok(is_as_seen)
        })
    }

    fn given(&self) -> u64 {
        *self.given.borrow()
    }

    fn given_other_than(&self, seen: u64) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let _ = self.given.subscribe().wait_for(|given| *given != seen).await;
        })
    }

    fn acting<'a>(&'a self, system: &'a str) -> BoxFuture<'a, Result<Option<Acting>>> {
        Box::pin(async move { Ok(self.acting.lock().unwrap().get(system).cloned()) })
    }

    fn keep_acting<'a>(&'a self, system: &'a str, acting: &'a Acting) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.acting.lock().unwrap().insert(system.to_owned(), acting.clone());
            Ok(())
        })
    }

    fn calls<'a>(&'a self, system: &'a str) -> BoxFuture<'a, Result<Option<Calls>>> {
        Box::pin(async move { Ok(self.calls.lock().unwrap().get(system).cloned()) })
    }

    fn keep_calls<'a>(&'a self, system: &'a str, calls: &'a Calls) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.calls.lock().unwrap().insert(system.to_owned(), calls.clone());
            Ok(())
        })
    }
}

pub fn open(connection: &Json, keep: Option<Arc<dyn Keep>>) -> Result<SalesforceConnector> {
    open_stored(connection, &|_: &str| Ok(None::<SecretText>), keep)
}

pub fn open_stored(
    connection: &Json,
    stored: &(dyn Fn(&str) -> Result<Option<SecretText>> + Sync),
    keep: Option<Arc<dyn Keep>>,
) -> Result<SalesforceConnector> {
    open_asked(connection, stored, keep, AskedChanges::default())
}

pub fn open_asked(
    connection: &Json,
    stored: &(dyn Fn(&str) -> Result<Option<SecretText>> + Sync),
    keep: Option<Arc<dyn Keep>>,
    changes: AskedChanges,
) -> Result<SalesforceConnector> {
    salesforce::open(settings(connection, stored, keep, changes)?)
}

/// The settings of a connection, as they are read.
pub fn settings(
    connection: &Json,
    stored: &(dyn Fn(&str) -> Result<Option<SecretText>> + Sync),
    keep: Option<Arc<dyn Keep>>,
    changes: AskedChanges,
) -> Result<SalesforceSettings> {
    let connection: Connection = serde_json::from_value(connection.clone()).unwrap();
    let name = SystemName::from("crm");
    let asked = Asked { name: &name, connection: &connection, installation: "i", stored: &stored, keep, changes };
    SalesforceSettings::read(&asked)
}

fn pem(kind: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
}

pub fn accounts(fields: &[&str]) -> Selection {
    Selection { object: "Account".into(), fields: fields.iter().map(|field| (*field).into()).collect() }
}

pub fn mark(intent: u64) -> Mark {
    Mark { store: "a-store".into(), sync: "accounts".into(), intent, hops: 0 }
}

pub fn key(id: &str) -> Key {
    Key(vec![Value::text(id)])
}

pub fn fields<const N: usize>(fields: [(&str, Value); N]) -> Record {
    fields.into_iter().map(|(name, value)| (name.into(), value)).collect()
}

pub fn create(image: Record) -> Operation {
    Operation::Create { image, absent_by: vec![] }
}

pub async fn apply(connector: &dyn Connector, selection: &Selection, operations: Vec<Operation>) -> Vec<Outcome> {
    let writes: Vec<Write> = (0..).zip(operations).map(|(id, operation)| Write { id, operation }).collect();
    let results = connector.apply(selection, &mark(7), &writes).await.unwrap();
    assert!(results.iter().map(|result| result.id).eq(writes.iter().map(|write| write.id)), "one result for each write");
    results.into_iter().map(|result| result.outcome).collect()
}

pub async fn prepared(connector: &dyn Connector, selection: &Selection) -> Feed {
    let feeds = connector.prepare(std::slice::from_ref(selection), &[]).await.unwrap();
    feeds.into_iter().next().unwrap()
}

/// Exactly the next so many observations.
pub async fn observations(changes: &mut dyn Changes, count: usize) -> Vec<Observation> {
    let mut found = Vec::new();
    let wait = async {
        while found.len() < count {
            found.extend(changes.next(LIMITS).await.unwrap().events.into_iter().filter_map(observed));
        }
    };
    let waited = tokio::time::timeout(PATIENCE, wait).await;
    assert!(waited.is_ok() && found.len() == count, "{count} were expected: {found:#?}");
    found
}

pub fn observed(event: Event) -> Option<Observation> {
    match event {
        Event::Observed(observation) | Event::Read(observation) => Some(observation),
        _ => None,
    }
}

/// The id of the record.
pub fn id_of(observation: &Observation) -> String {
    observation.key.0[0].as_text().unwrap().to_owned()
}

/// The value of a field, as text.
pub fn text(observation: &Observation, field: &str) -> String {
    match &observation.image {
        Image::Full(record) | Image::Partial(record) => record.get(field).map(|value| value.to_string()).unwrap_or_default(),
        Image::Deleted => "deleted".to_owned(),
    }
}
