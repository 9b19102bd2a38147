//! A subscription to one topic, whichever way it takes: opened behind a place, asked for more before it runs dry, opened
//! again where it ended in the usual way. Hands out events as they came; knows nothing of their content.

use super::auth::Session;
use super::cometd::{Channel, From, Refused, Told};
use super::position::Place;
use super::pubsub::{Answers, ConsumerEvent, FetchRequest, error_of, is_session_over};
use super::shared::Shared;
use super::transport::Way;
use concord_engine::error::{Code, Error, Result};
use serde_json::value::RawValue;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Events that are asked for ahead: the most that the vendor allows.
const AHEAD: i32 = 100;
/// More is asked for when no more than so many are still to come.
const ASK_AT: i32 = 50;
/// Signals to the request side; each is one request.
const REQUESTS_MAX: usize = 8;
/// Polls in a row that brought nothing before we take it that nothing is on its way: the first is answered at once, also where
/// the vendor has still to look for what was missed.
const QUIET_POLLS: u32 = 2;
/// Events are kept for 72 hours at least. What we know to be no older than this is among them.
const SURELY_KEPT_MS: i64 = 71 * 3_600_000;

/// A stream says something within 270 seconds, the vendor promises: one that is silent for longer is dead, whatever its connection
/// says.
pub(super) const SILENT_MAX: Duration = Duration::from_secs(300);

const LATEST: i32 = 0;
const CUSTOM: i32 = 2;

/// An event as it came.
#[derive(Clone)]
pub(super) struct Arrived {
    pub replay: Vec<u8>,
    /// The id of the schema that it has.
    pub schema: String,
    pub payload: Payload,
}

/// Its content.
#[derive(Clone)]
pub(super) enum Payload {
    /// Avro, of that schema.
    Avro(Vec<u8>),
    /// Fields by their names.
    Named(HashMap<String, Box<RawValue>>),
}

/// What a sign of life without events says.
pub(super) enum Alive {
    /// The topic is here.
    At(Vec<u8>),
    /// Nothing is on its way.
    Quiet,
}

/// An open subscription.
struct Open {
    source: Source,
    session: Arc<Session>,
    /// Whether anything has come through it.
    proven: bool,
    /// When it was opened, or something came last.
    heard: Instant,
}

enum Source {
    Grpc {
        answers: Answers,
        requests: mpsc::Sender<FetchRequest>,
    },
    /// With the number of polls in a row that brought nothing.
    Polled {
        channel: Box<Channel>,
        quiet: u32,
    },
}

/// A subscription to one topic.
pub(super) struct Subscription {
    shared: Arc<Shared>,
    topic: String,
    open: Option<Open>,
    /// Events that have come and were not taken yet.
    events: VecDeque<Arrived>,
    /// What the last sign of life said, when nothing is left to take.
    alive: Option<Alive>,
}

/// Why a stream ended.
enum Ended {
    /// The vendor closed it.
    Closed,
    /// Nothing has come for longer than the vendor lets pass.
    Silent,
    Status(tonic::Status),
    Refused(Refused),
}

/// A client of its own for a channel of the Streaming API.
pub(super) async fn channel(shared: &Shared, topic: &str, from: From) -> Result<(Channel, Arc<Session>)> {
    let session = shared.client.auth.session().await?;
    match Channel::open(&shared.held, &shared.client, &session, topic, from).await {
        Err(refused) if refused.session_over => {
            let session = shared.client.auth.renew(&session).await?;
            let opened = Channel::open(&shared.held, &shared.client, &session, topic, from).await;
            opened.map(|channel| (channel, session)).map_err(|refused| refused.error)
        }
        opened => opened.map(|channel| (channel, session)).map_err(|refused| refused.error),
    }
}

impl Subscription {
    pub fn new(shared: Arc<Shared>, topic: String) -> Subscription {
        Subscription { shared, topic, open: None, events: VecDeque::new(), alive: None }
    }

    /// Opens it behind a place, or at the end of the topic where the place names none.
    pub async fn open(&mut self, place: &Place) -> Result<()> {
        self.open_at(place, From::New).await
    }

    /// Opens it again, where it has been open in this life: nothing since then may be missed.
    async fn open_again(&mut self, place: &Place) -> Result<()> {
        self.open_at(place, From::Kept).await
    }

    /// Opens it behind a place, or at `otherwise` where the place names none.
    async fn open_at(&mut self, place: &Place, otherwise: From) -> Result<()> {
        let transport = &self.shared.transport;
        let opened = match transport.first() {
            Way::LongPolling => self.polled(place, otherwise).await,
            Way::Grpc => match self.streamed(place).await {
                // What long polling cannot say is known to gRPC still.
                Err(error) if transport.has_another(&error) && behind(place, otherwise).is_none() => Err(error),
                Err(error) if transport.has_another(&error) => match self.polled(place, otherwise).await {
                    Err(other) if !matches!(other.code, Code::FeedGap | Code::HostedEventsOff) => Err(error),
                    answered => {
                        transport.is_closed(&error);
                        answered
                    }
                },
                opened => opened.inspect(|_| transport.is_open()),
            },
        };
        self.open = Some(opened?);
        Ok(())
    }

    async fn streamed(&self, place: &Place) -> Result<Open> {
        let session = self.shared.client.auth.session().await?;
        let opened = match self.subscribe(&session, place).await {
            Err(status) if is_session_over(&status) => {
                let session = self.shared.client.auth.renew(&session).await?;
                self.subscribe(&session, place).await
            }
            other => other,
        };
        opened.map_err(|status| error_of(&format!("subscribing to {}", self.topic), &status))
    }

    /// By long polling. No sign of life tells a place there, so that of a topic on which nothing has happened for days grows
    /// old: what is known to be kept is asked for as a whole then.
    async fn polled(&self, place: &Place, otherwise: From) -> Result<Open> {
        let is_kept = || {
            let now_ms = self.shared.client.org_seconds().saturating_mul(1_000);
            place.floor_ms.max(place.begun_ms).max(place.quiet_ms) > now_ms.saturating_sub(SURELY_KEPT_MS)
        };
        let Some(from) = behind(place, otherwise) else {
            let message = format!("{}: the stored position is none that long polling has", self.topic);
            return Err(Error::new(Code::FeedGap, message));
        };
        let opened = match from {
            From::Kept if !is_kept() => Err(Error::new(Code::FeedGap, format!("{}: too much time has passed", self.topic))),
            From::Behind(_) => match channel(&self.shared, &self.topic, from).await {
                Err(error) if error.code == Code::FeedGap && is_kept() => channel(&self.shared, &self.topic, From::Kept).await,
                opened => opened,
            },
            _ => channel(&self.shared, &self.topic, from).await,
        };
        let (channel, session) = opened?;
        Ok(Open {
            source: Source::Polled { channel: Box::new(channel), quiet: 0 },
            session,
            proven: false,
            heard: Instant::now(),
        })
    }

    async fn subscribe(&self, session: &Arc<Session>, place: &Place) -> std::result::Result<Open, tonic::Status> {
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        let first = FetchRequest {
            topic_name: self.topic.clone(),
            replay_preset: if place.replay.is_empty() { LATEST } else { CUSTOM },
            replay_id: place.replay.clone(),
            num_requested: AHEAD,
        };
        let to_send = futures_util::stream::unfold((Some(first), receiver), |(first, mut receiver)| async move {
            match first {
                Some(first) => Some((first, (None, receiver))),
                None => receiver.recv().await.map(|next| (next, (None, receiver))),
            }
        });
        let answers = self.shared.pubsub.subscribe(session, &self.topic, to_send).await?;
        let session = Arc::clone(session);
        Ok(Open { source: Source::Grpc { answers, requests }, session, proven: false, heard: Instant::now() })
    }

    /// Whether it is open, by long polling.
    pub fn is_polled(&self) -> bool {
        self.open.as_ref().is_some_and(|open| matches!(open.source, Source::Polled { .. }))
    }

    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether it has certainly begun: what is published from now on comes through it.
    pub fn has_begun(&self) -> bool {
        self.open.as_ref().is_some_and(|open| !matches!(open.source, Source::Grpc { answers: Answers::Awaited(_), .. }))
    }

    /// The next event, left where it is until it is taken.
    pub fn front(&self) -> Option<&Arrived> {
        self.events.front()
    }

    /// Takes the event in front.
    pub fn take(&mut self) -> Option<Arrived> {
        self.events.pop_front()
    }

    /// What the last sign of life said, once everything has been taken.
    pub fn alive(&mut self) -> Option<Alive> {
        if self.events.is_empty() { self.alive.take() } else { None }
    }

    /// Waits for the next answer. Opens the stream again where it has ended in the usual way; an error otherwise. Dropping
    /// the call loses nothing.
    pub async fn receive(&mut self, place: &Place) -> Result<()> {
        let silent_max = self.shared.client.settings.silent_max;
        let Some(open) = &mut self.open else { return self.open_again(place).await };
        let ended = match &mut open.source {
            Source::Grpc { answers, requests } => match tokio::time::timeout_at(open.heard + silent_max, answers.next()).await {
                Err(_) => Ended::Silent,
                Ok(Ok(Some(answer))) => {
                    open.proven = true;
                    open.heard = Instant::now();
                    if answer.pending_num_requested <= ASK_AT {
                        let more = AHEAD.saturating_sub(answer.pending_num_requested.max(0));
                        let topic_name = self.topic.clone();
                        // Full or closed: the stream is about to end, and is opened again.
                        let _ = requests.try_send(FetchRequest { topic_name, num_requested: more, ..FetchRequest::default() });
                    }
                    // With events it may name one that is still to come; a sign of life alone says that nothing is.
                    let is_alone = answer.events.is_empty() && self.events.is_empty() && !answer.latest_replay_id.is_empty();
                    self.alive = is_alone.then_some(Alive::At(answer.latest_replay_id));
                    self.events.extend(answer.events.into_iter().filter_map(arrived));
                    return Ok(());
                }
                Ok(Ok(None)) => Ended::Closed,
                Ok(Err(status)) => Ended::Status(status),
            },
            Source::Polled { channel, quiet } => match channel.poll().await {
                Ok(events) => {
                    open.proven = true;
                    *quiet = if events.is_empty() { quiet.saturating_add(1) } else { 0 };
                    self.alive = (*quiet >= QUIET_POLLS && self.events.is_empty()).then_some(Alive::Quiet);
                    self.events.extend(events.into_iter().map(polled));
                    return Ok(());
                }
                Err(refused) => Ended::Refused(refused),
            },
        };
        self.ended(ended, place).await
    }

    /// The stream has ended. One that had brought something is opened again without a word. Where gRPC opens a stream and
    /// lets nothing through it, the other way is tried.
    async fn ended(&mut self, ended: Ended, place: &Place) -> Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        // What has come is behind the place from which the next stream begins: it will come again.
        self.events.clear();
        self.alive = None;
        let (session_over, error) = match ended {
            Ended::Closed => (false, Error::new(Code::Unreachable, format!("the stream of {} ended", self.topic))),
            Ended::Silent => {
                tracing::warn!(topic = self.topic, "the stream of events has gone silent: it is opened again");
                (false, Error::new(Code::Unreachable, format!("the stream of {} has gone silent", self.topic)))
            }
            Ended::Status(status) => (is_session_over(&status), error_of(&format!("reading {}", self.topic), &status)),
            Ended::Refused(Refused { error, session_over }) => (session_over, error),
        };
        if session_over {
            self.shared.client.auth.renew(&open.session).await?;
        }
        if open.proven && (session_over || error.code == Code::Unreachable) {
            return Ok(());
        }
        if matches!(open.source, Source::Grpc { .. })
            && self.shared.transport.has_another(&error)
            && let Ok(opened) = self.polled(place, From::Kept).await
        {
            self.shared.transport.is_closed(&error);
            self.open = Some(opened);
            return Ok(());
        }
        Err(error)
    }
}

fn arrived(event: ConsumerEvent) -> Option<Arrived> {
    let told = event.event?;
    Some(Arrived { replay: event.replay_id, schema: told.schema_id, payload: Payload::Avro(told.payload) })
}

fn polled(told: Told) -> Arrived {
    Arrived { replay: told.replay.to_be_bytes().to_vec(), schema: told.schema, payload: Payload::Named(told.payload) }
}

/// A place as the Streaming API writes it: the same number; `otherwise` where there is none yet, and `None` for one that is no
/// number: what came behind it must not be passed over.
fn behind(place: &Place, otherwise: From) -> Option<From> {
    match place.replay.as_slice() {
        [] => Some(otherwise),
        replay => replay.try_into().ok().map(|number| From::Behind(i64::from_be_bytes(number))),
    }
}
