//! A client by hand: one request per connection, the answer as it came, or nothing where the connection was cut.

use concord_simulators::clock::Clock;
use concord_simulators::salesforce::{Options, Simulator};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A simulator with a session.
pub struct World {
    pub simulator: Simulator,
    pub token: String,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The code of the first error.
    pub fn code(&self) -> String {
        self.json()[0]["errorCode"].as_str().expect("a code").to_string()
    }

    pub fn header(&self, name: &str) -> Option<String> {
        let line = self.head.lines().find(|line| line.to_lowercase().starts_with(&format!("{}:", name.to_lowercase())))?;
        line.split_once(':').map(|(_, value)| value.trim().to_string())
    }
}

impl World {
    pub async fn new() -> Self {
        let clock = Clock::new();
        clock.freeze();
        let simulator = Simulator::start_with(Options::default(), clock).await.expect("the simulator starts");
        let mut world = Self { simulator, token: String::new() };
        world.login().await;
        world
    }

    /// Opens a session.
    pub async fn login(&mut self) {
        let answer = self.control("POST", "/session", json!({})).await;
        self.token = answer["access_token"].as_str().expect("a token").to_string();
    }

    /// Asks the simulator about itself.
    pub async fn control(&self, method: &str, path: &str, body: Json) -> Json {
        let answer = self.send(method, &format!("/_sim{path}"), &[], &body.to_string()).await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    /// A call of the REST API with the session's token.
    pub async fn call(&self, method: &str, path: &str, body: Json) -> Option<Answer> {
        self.call_with(method, path, &[], body).await
    }

    pub async fn call_with(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Json) -> Option<Answer> {
        let bearer = format!("Bearer {}", self.token);
        let mut all = vec![("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        all.extend(headers);
        let text = if body.is_null() { String::new() } else { body.to_string() };
        self.send(method, &format!("/services/data/v65.0{path}"), &all, &text).await
    }

    /// None: the connection ended before the whole answer came.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Option<Answer> {
        let mut socket = TcpStream::connect(self.simulator.addresses.http).await.expect("a connection");
        let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| *name == "Host") {
            request.push_str("Host: localhost\r\n");
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        request.push_str(body);
        socket.write_all(request.as_bytes()).await.expect("sent");
        let mut bytes = Vec::new();
        // A reset shows as an error here; what came before it is judged below.
        let _ = socket.read_to_end(&mut bytes).await;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let answer = Answer { status: head.split(' ').nth(1)?.parse().ok()?, head: head.to_string(), body: body.to_string() };
        let length = answer.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        (answer.body.len() >= length).then_some(answer)
    }

    /// Creates an account by the API: its id.
    pub async fn account(&self, name: &str) -> String {
        let answer = self.call("POST", "/sobjects/Account", json!({"Name": name})).await.expect("an answer");
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.json()["id"].as_str().expect("an id").to_string()
    }

    /// How many accounts there are, by the simulator's own state.
    pub async fn accounts(&self) -> usize {
        self.control("GET", "/records/Account", json!(null)).await.as_array().expect("records").len()
    }
}
