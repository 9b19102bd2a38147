//! A subscription to one topic: opened behind a place, asked for more before it runs dry, opened again where it ended in
//! the usual way. Hands out events as they came; knows nothing of their content.

use super::auth::Session;
use super::position::Place;
use super::pubsub::{ConsumerEvent, FetchRequest, FetchResponse, error_of, is_session_over};
use super::shared::Shared;
use concord_engine::error::{Code, Error, Result};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::mpsc;
use tonic::Streaming;

/// Events that are asked for ahead: the most that the vendor allows.
const AHEAD: i32 = 100;
/// More is asked for when no more than so many are still to come.
const ASK_AT: i32 = 50;
/// Signals to the request side; each is one request.
const REQUESTS_MAX: usize = 8;

const LATEST: i32 = 0;
const CUSTOM: i32 = 2;

/// An open subscription.
struct Open {
    answers: Streaming<FetchResponse>,
    requests: mpsc::Sender<FetchRequest>,
    session: Arc<Session>,
    /// Whether anything has come through it.
    proven: bool,
}

/// A subscription to one topic.
pub(super) struct Subscription {
    shared: Arc<Shared>,
    topic: String,
    open: Option<Open>,
    /// Events that have come and were not taken yet.
    events: VecDeque<ConsumerEvent>,
    /// Where the topic is, as the last sign of life said, when nothing is left to take.
    latest: Option<Vec<u8>>,
}

impl Subscription {
    pub fn new(shared: Arc<Shared>, topic: String) -> Subscription {
        Subscription { shared, topic, open: None, events: VecDeque::new(), latest: None }
    }

    /// Opens it behind a place, or at the end of the topic where the place names none.
    pub async fn open(&mut self, place: &Place) -> Result<()> {
        let session = self.shared.client.auth.session().await?;
        let opened = match self.subscribe(&session, place).await {
            Err(status) if is_session_over(&status) => {
                let session = self.shared.client.auth.renew(&session).await?;
                self.subscribe(&session, place).await
            }
            other => other,
        };
        self.open = Some(opened.map_err(|status| error_of(&format!("subscribing to {}", self.topic), &status))?);
        Ok(())
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
        let answers = self.shared.pubsub.subscribe(session, to_send).await?;
        Ok(Open { answers, requests, session: Arc::clone(session), proven: false })
    }

    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The next event, left where it is until it is taken.
    pub fn front(&self) -> Option<&ConsumerEvent> {
        self.events.front()
    }

    /// Takes the event in front.
    pub fn take(&mut self) -> Option<ConsumerEvent> {
        self.events.pop_front()
    }

    /// Where the topic is, once everything has been taken.
    pub fn latest(&mut self) -> Option<Vec<u8>> {
        if self.events.is_empty() { self.latest.take() } else { None }
    }

    /// Waits for the next answer. Opens the stream again where it has ended in the usual way; an error otherwise. Dropping
    /// the call loses nothing.
    pub async fn receive(&mut self, place: &Place) -> Result<()> {
        let Some(open) = &mut self.open else { return self.open(place).await };
        match open.answers.message().await {
            Ok(Some(answer)) => {
                open.proven = true;
                if answer.pending_num_requested <= ASK_AT {
                    let more = AHEAD.saturating_sub(answer.pending_num_requested.max(0));
                    let request = FetchRequest { topic_name: self.topic.clone(), num_requested: more, ..FetchRequest::default() };
                    // Full or closed: the stream is about to end, and is opened again.
                    let _ = open.requests.try_send(request);
                }
                // With events it may name one that is still to come; a sign of life alone says that nothing is.
                self.latest = match answer.events.is_empty() && self.events.is_empty() && !answer.latest_replay_id.is_empty() {
                    true => Some(answer.latest_replay_id),
                    false => None,
                };
                self.events.extend(answer.events);
                Ok(())
            }
            Ok(None) => self.ended(None).await,
            Err(status) => self.ended(Some(status)).await,
        }
    }

    /// The stream has ended. One that had brought something is opened again without a word.
    async fn ended(&mut self, status: Option<tonic::Status>) -> Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        // What has come is behind the place from which the next stream begins: it will come again.
        self.events.clear();
        self.latest = None;
        let Some(status) = status else {
            return match open.proven {
                true => Ok(()),
                false => Err(Error::new(Code::Unreachable, format!("the stream of {} ended", self.topic))),
            };
        };
        if is_session_over(&status) {
            self.shared.client.auth.renew(&open.session).await?;
            if open.proven {
                return Ok(());
            }
        }
        let error = error_of(&format!("reading {}", self.topic), &status);
        match open.proven && error.code == Code::Unreachable {
            true => Ok(()),
            false => Err(error),
        }
    }
}
