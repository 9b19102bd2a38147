//! The Streaming API on the wire: change events by long polling (Bayeux 1.0, as CometD speaks it), for networks that let no
//! gRPC through. One client for each channel: a handshake, a subscription behind a place, then one held request after another.
//! Knows no event's content. <https://docs.cometd.org/current/reference/#_bayeux>

use super::auth::Session;
use super::client::Client;
use super::http::{Answer, Failure, Http};
use bytes::Bytes;
use concord_engine::error::{Code, Error, Result};
use futures_util::future::BoxFuture;
use http::Request;
use http_body_util::Full;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a request may be held: the vendor answers after 110 seconds, with or without an event.
pub(super) const HELD_MAX: Duration = Duration::from_secs(150);
/// How long a handshake or a subscription may take.
const SAY_MAX: Duration = Duration::from_secs(60);
/// The longest pause between two requests that is heeded.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long to wait where an allowance is used up.
const ALLOWANCE_WAIT: Duration = Duration::from_secs(900);
/// The most bytes of the vendor's words that are passed on.
const WORDS_MAX: usize = 200;

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// With what comes from now on.
    New,
    /// With all that is kept.
    Kept,
    /// Behind this one.
    Behind(i64),
}

/// An event as it came.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub replay: i64,
    /// The id of the schema that it has on the other transport.
    pub schema: String,
    pub payload: HashMap<String, Box<RawValue>>,
}

/// Why nothing came.
pub(super) struct Refused {
    pub error: Error,
    /// Whether a new session may help.
    pub session_over: bool,
}

/// A request under way; nobody ever waits for the lock.
type Held = Mutex<BoxFuture<'static, std::result::Result<Answer, Failure>>>;

/// A subscription to one channel.
pub(super) struct Channel {
    http: Http,
    org: Arc<Client>,
    session: Arc<Session>,
    url: String,
    topic: String,
    client: String,
    cookies: BTreeMap<String, String>,
    pause: Duration,
    /// The request that is held at the vendor. It outlives whoever waits: an answer that nobody takes is lost.
    held: Option<Held>,
}

#[derive(Deserialize)]
struct Message {
    channel: String,
    #[serde(default)]
    successful: bool,
    #[serde(default, rename = "clientId")]
    client: Option<String>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    advice: Option<Advice>,
    #[serde(default)]
    data: Option<Box<RawValue>>,
}

#[derive(Default, Deserialize)]
struct Advice {
    #[serde(default)]
    interval: Option<u64>,
    #[serde(default)]
    reconnect: Option<String>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(default)]
    schema: String,
    payload: HashMap<String, Box<RawValue>>,
    event: Place,
}

#[derive(Deserialize)]
struct Place {
    #[serde(rename = "replayId")]
    replay: i64,
}

impl Channel {
    /// Shakes hands and subscribes.
    pub async fn open(
        http: &Http,
        org: &Arc<Client>,
        session: &Arc<Session>,
        topic: &str,
        from: From,
    ) -> std::result::Result<Channel, Refused> {
        let mut channel = Channel {
            http: http.clone(),
            org: Arc::clone(org),
            session: Arc::clone(session),
            url: format!("{}/cometd/{}", session.instance_url, org.settings.api_version),
            topic: topic.to_owned(),
            client: String::new(),
            cookies: BTreeMap::new(),
            pause: Duration::ZERO,
            held: None,
        };
        channel.handshake().await?;
        match (channel.subscribe(from).await, from) {
            (Err(refused), From::Behind(_)) if refused.error.code == Code::HostedEventsOff => {
                // A channel that is not there and a place that is not there are told apart by asking without a place.
                channel.subscribe(From::New).await?;
                let message = format!("subscribing to {topic}: the events behind the stored position are no longer kept");
                Err(Error::new(Code::FeedGap, message).into())
            }
            (result, _) => result.map(|()| channel),
        }
    }

    async fn handshake(&mut self) -> std::result::Result<(), Refused> {
        let message = json!([{
            "channel": "/meta/handshake", "version": "1.0", "minimumVersion": "1.0", "supportedConnectionTypes": ["long-polling"],
            "ext": {"replay": true}, "id": "1"
        }]);
        let said = self.say(message, "/meta/handshake").await?;
        self.client = said.client.ok_or_else(|| odd("a handshake without a client"))?;
        Ok(())
    }

    async fn subscribe(&mut self, from: From) -> std::result::Result<(), Refused> {
        let replay = match from {
            From::New => -1,
            From::Kept => -2,
            From::Behind(replay) => replay,
        };
        let (client, topic) = (&self.client, &self.topic);
        let message = json!([{
            "channel": "/meta/subscribe", "clientId": client, "subscription": topic, "ext": {"replay": {topic: replay}}, "id": "2"
        }]);
        self.say(message, "/meta/subscribe").await.map(drop)
    }

    /// What the vendor says to one message of ours.
    async fn say(&mut self, messages: serde_json::Value, channel: &str) -> std::result::Result<Message, Refused> {
        let exchange = tokio::time::timeout(SAY_MAX, self.http.exchange(self.request(&messages)?)).await;
        let late = |_| Error::new(Code::Unreachable, format!("polling {}: no answer in time", self.topic));
        let answer = exchange.map_err(late)?.map_err(|failure| Refused::from(failure.error))?;
        let said = self.read(&answer)?.into_iter().find(|message| message.channel == channel);
        let said = said.ok_or_else(|| odd("no answer to what was said"))?;
        if said.successful { Ok(said) } else { Err(refused(&self.topic, &said)) }
    }

    /// Says good-bye, so that the vendor need not wait for us. Whether it hears it does not matter.
    pub async fn close(mut self) {
        let message = json!([{"channel": "/meta/disconnect", "clientId": self.client, "id": "4"}]);
        drop(self.say(message, "/meta/disconnect").await);
    }

    /// Waits for what comes next: events, or none, then nothing has happened up to now. Dropping the call loses nothing.
    pub async fn poll(&mut self) -> std::result::Result<Vec<Told>, Refused> {
        if self.held.is_none() {
            let message = json!([{
                "channel": "/meta/connect", "clientId": self.client, "connectionType": "long-polling", "id": "3"
            }]);
            let (request, http, pause) = (self.request(&message)?, self.http.clone(), self.pause);
            self.held = Some(Mutex::new(Box::pin(async move {
                tokio::time::sleep(pause).await;
                http.exchange(request).await
            })));
        }
        let Some(held) = &mut self.held else { return Ok(Vec::new()) };
        let answer = held.get_mut().unwrap_or_else(PoisonError::into_inner).await;
        self.held = None;
        let messages = self.read(&answer.map_err(|failure| Refused::from(failure.error))?)?;
        let mut events = Vec::new();
        for message in messages {
            if message.channel == "/meta/connect" {
                if !message.successful {
                    return Err(refused(&self.topic, &message));
                }
                let pause = message.advice.and_then(|advice| advice.interval).unwrap_or(0);
                self.pause = Duration::from_millis(pause).min(PAUSE_MAX);
            } else if message.channel == self.topic
                && let Some(data) = &message.data
            {
                let data: Data = serde_json::from_str(data.get()).map_err(|_| odd("an event that is none"))?;
                events.push(Told { replay: data.event.replay, schema: data.schema, payload: data.payload });
            }
        }
        Ok(events)
    }

    fn request(&self, messages: &serde_json::Value) -> Result<Request<Full<Bytes>>> {
        let mut request = Request::post(&self.url)
            .header("authorization", format!("OAuth {}", self.session.token.expose()))
            .header("content-type", "application/json;charset=UTF-8")
            .header("accept", "application/json");
        if !self.cookies.is_empty() {
            let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header("cookie", cookies.join("; "));
        }
        request
            .body(Full::new(Bytes::from(messages.to_string())))
            .map_err(|error| Error::new(Code::Internal, "a message could not be written").because(error))
    }

    /// The messages of an answer, and the cookies that it sets: they say which of the vendor's servers knows us.
    fn read(&mut self, answer: &Answer) -> std::result::Result<Vec<Message>, Refused> {
        self.org.dated(answer.header("date"));
        for cookie in answer.headers.get_all("set-cookie").iter().filter_map(|value| value.to_str().ok()) {
            if let Some((name, value)) = cookie.split(';').next().and_then(|pair| pair.split_once('=')) {
                self.cookies.insert(name.trim().to_owned(), value.trim().to_owned());
            }
        }
        if answer.status != 200 {
            let error = Error::new(Code::Unreachable, format!("polling {}: HTTP {}", self.topic, answer.status));
            return Err(Refused { error, session_over: answer.status == 401 });
        }
        serde_json::from_slice(&answer.body).map_err(|_| odd("an answer that is no list of messages"))
    }
}

impl std::convert::From<Error> for Refused {
    fn from(error: Error) -> Refused {
        Refused { error, session_over: false }
    }
}

fn odd(what: &str) -> Refused {
    Error::new(Code::ProtocolViolation, format!("the Streaming API gave {what}")).into()
}

/// What a refusal means, by the number in front of its words and by what we are advised to do.
fn refused(topic: &str, message: &Message) -> Refused {
    let (number, words) = message.error.as_deref().and_then(|error| error.split_once(':')).unwrap_or(("", ""));
    let words: String = words.trim_matches(':').chars().filter(|letter| !letter.is_control()).take(WORDS_MAX).collect();
    let told = |code: Code| Error::new(code, format!("polling {topic}: {number} {words}"));
    let shakes_hands_anew = message.advice.as_ref().and_then(|advice| advice.reconnect.as_deref()) == Some("handshake");
    let error = match number {
        // The vendor has forgotten us: whoever polls begins behind what was taken.
        _ if shakes_hands_anew => told(Code::Unreachable),
        "400" | "404" => told(Code::HostedEventsOff),
        "403" => Error { retry_after: Some(ALLOWANCE_WAIT), ..told(Code::HostedAllowanceUsed) },
        _ => told(Code::Unreachable),
    };
    Refused { error, session_over: number == "401" }
}
