//! A subscription: events as long as the client asks for more, a sign of life when there are none, an end when nobody
//! asks any longer. Reads the log by replay id; never sends more than was asked for.

use super::avro;
use super::managed::Active;
use super::proto::{
    CommitReplayRequest, CommitReplayResponse, ConsumerEvent, FetchRequest, FetchResponse, ManagedFetchRequest,
    ManagedFetchResponse, ProducerEvent, ReplayPreset,
};
use super::service::status;
use crate::faults::{Action, Happening};
use crate::salesforce::events::{Channel, Event};
use crate::salesforce::limits::Limit;
use crate::salesforce::org::Org;
use crate::salesforce::state::State;
use std::sync::Arc;
use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

/// Most events that a client can ask for ahead.
const PENDING_MAX: usize = 100;
/// A sign of life comes within this time.
const KEEPALIVE_MS: i64 = 270_000;
/// A client that asks for nothing so long is left.
const IDLE_MS: i64 = 70_000;

/// What a client asks for, whichever way it has subscribed.
pub struct Asked {
    topic: String,
    more: i32,
    commit: Option<CommitReplayRequest>,
}

/// What it is told.
pub struct Said {
    events: Vec<ConsumerEvent>,
    latest_replay_id: Vec<u8>,
    rpc_id: String,
    pending_num_requested: i32,
    commit: Option<CommitReplayResponse>,
}

impl From<FetchRequest> for Asked {
    fn from(request: FetchRequest) -> Self {
        Self { topic: request.topic_name, more: request.num_requested, commit: None }
    }
}

impl From<ManagedFetchRequest> for Asked {
    fn from(request: ManagedFetchRequest) -> Self {
        Self { topic: String::new(), more: request.num_requested, commit: request.commit_replay_id_request }
    }
}

impl From<Said> for FetchResponse {
    fn from(said: Said) -> Self {
        let Said { events, latest_replay_id, rpc_id, pending_num_requested, .. } = said;
        Self { events, latest_replay_id, rpc_id, pending_num_requested }
    }
}

impl From<Said> for ManagedFetchResponse {
    fn from(said: Said) -> Self {
        let Said { events, latest_replay_id, rpc_id, pending_num_requested, commit } = said;
        Self { events, latest_replay_id, rpc_id, pending_num_requested, commit_response: commit }
    }
}

/// What a subscription is to, and who has it.
pub struct Opening {
    pub org: Arc<Org>,
    pub topic: String,
    pub channel: Channel,
    pub rpc_id: String,
    /// Cuts the connection.
    pub cut: Option<CancellationToken>,
    /// The managed subscription that it is.
    pub managed: Option<Active>,
}

impl Opening {
    /// The place behind which the events begin that a client wants.
    pub fn place(&self, preset: ReplayPreset, replay_id: &[u8]) -> Result<u64, Status> {
        let now_ms = self.org.clock.now_ms();
        let state = &mut *self.org.state();
        state.events.forget(now_ms);
        match preset {
            ReplayPreset::Latest => Ok(state.events.latest()),
            ReplayPreset::Earliest => Ok(state.events.earliest()),
            ReplayPreset::Custom => {
                let id = number(replay_id).filter(|id| state.events.knows(*id));
                id.ok_or_else(|| {
                    let words = "The Replay ID validation failed. Ensure that the Replay ID is valid.";
                    let code = "sfdc.platform.eventbus.grpc.subscription.fetch.replayid.corrupted";
                    status(Code::InvalidArgument, code, words, &self.rpc_id)
                })
            }
        }
    }
}

/// A replay id as a number.
pub fn number(replay_id: &[u8]) -> Option<u64> {
    replay_id.try_into().ok().map(u64::from_be_bytes)
}

/// A subscription under way.
pub struct Subscription<A> {
    org: Arc<Org>,
    topic: String,
    channel: Channel,
    rpc_id: String,
    answers: Sender<Result<A, Status>>,
    cut: Option<CancellationToken>,
    managed: Option<Active>,
    /// Everything up to here was sent, or is not of this channel.
    position: u64,
    pending: usize,
    last_said_ms: i64,
    asked_ms: i64,
}

impl<A: From<Said>> Subscription<A> {
    /// A subscription from this place on, as its first request wants it.
    pub fn new(opening: Opening, position: u64, first: Asked, answers: Sender<Result<A, Status>>) -> Result<Self, Status> {
        let Opening { org, topic, channel, rpc_id, cut, managed } = opening;
        let now_ms = org.clock.now_ms();
        if org.state().limits.left(Limit::DailyDeliveredPlatformEvents, now_ms) == 0 {
            return Err(used_up(&rpc_id));
        }
        let (last_said_ms, asked_ms) = (now_ms, now_ms);
        let mut own = Self { org, topic, channel, rpc_id, answers, cut, managed, position, pending: 0, last_said_ms, asked_ms };
        own.ask(&first)?;
        Ok(own)
    }

    fn ask(&mut self, request: &Asked) -> Result<(), Status> {
        let invalid = |words: &str, rpc_id: &str| {
            let code = "sfdc.platform.eventbus.grpc.subscription.fetch.requested.events.invalid";
            status(Code::InvalidArgument, code, words, rpc_id)
        };
        if !request.topic.is_empty() && request.topic != self.topic {
            return Err(invalid("The topic of a subscription cannot change.", &self.rpc_id));
        }
        let more = usize::try_from(request.more).unwrap_or(0);
        if more == 0 && request.commit.is_none() {
            return Err(invalid("The number of requested events must be greater than 0.", &self.rpc_id));
        }
        self.pending = (self.pending + more).min(PENDING_MAX);
        self.asked_ms = self.org.clock.now_ms();
        Ok(())
    }

    /// What a later request asks for; a commit is answered at once.
    async fn heed(&mut self, request: Asked) -> Result<(), Status> {
        self.ask(&request)?;
        if let (Some(commit), Some(managed)) = (request.commit, &self.managed) {
            let committed = managed.commit(&commit);
            self.say(Vec::new(), Some(committed)).await;
        }
        Ok(())
    }

    /// Runs until the client, the server or a fault ends it.
    pub async fn run<R: Into<Asked>>(mut self, mut requests: Streaming<R>) -> Result<(), Status> {
        let org = self.org.clone();
        let mut published = org.published.subscribe();
        loop {
            published.mark_unchanged();
            if let Some(managed) = &self.managed {
                managed.runs(&self.rpc_id)?;
            }
            if self.suffer()? {
                tokio::select! {
                    () = self.answers.closed() => {}
                    () = org.shutdown.cancelled() => {}
                }
                return Ok(());
            }
            let late_ms = self.deliver().await?;
            let idle_ms = if self.pending == 0 { self.asked_ms + IDLE_MS } else { i64::MAX };
            let wake_ms = idle_ms.min(self.last_said_ms + KEEPALIVE_MS).min(late_ms.unwrap_or(i64::MAX));
            tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => self.heed(request.into()).await?,
                    // The client is done, or gone.
                    _ => return Ok(()),
                },
                _ = published.changed() => {}
                () = org.clock.sleep_until(wake_ms) => {
                    let now_ms = org.clock.now_ms();
                    if now_ms >= idle_ms {
                        return Ok(());
                    }
                    if now_ms >= self.last_said_ms + KEEPALIVE_MS {
                        self.keep_alive().await;
                    }
                }
                () = org.shutdown.cancelled() => {
                    let words = "The server is shutting down.";
                    return Err(status(Code::Unavailable, "sfdc.platform.eventbus.grpc.service.unavailable", words, &self.rpc_id));
                }
                () = self.answers.closed() => return Ok(()),
            }
        }
    }

    /// What a test wants to go wrong with the stream. True: it says nothing any more.
    fn suffer(&self) -> Result<bool, Status> {
        match self.org.faults.befalls(&Happening::Stream { topic: &self.topic }) {
            Some(Action::StreamEnd { status: code, error_code, message }) => {
                Err(status(Code::from_i32(code), &error_code, &message, &self.rpc_id))
            }
            Some(Action::StreamCut) => {
                if let Some(cut) = &self.cut {
                    cut.cancel();
                }
                Ok(false)
            }
            Some(Action::StreamSilent) => Ok(true),
            _ => Ok(false),
        }
    }

    /// Sends what there is, as far as it was asked for; when the next late event is due.
    async fn deliver(&mut self) -> Result<Option<i64>, Status> {
        loop {
            let (batch, late_ms) = {
                let now_ms = self.org.clock.now_ms();
                let State { events, limits, chance, .. } = &mut *self.org.state();
                let late_ms = events.release_late(now_ms, chance);
                let left = usize::try_from(limits.left(Limit::DailyDeliveredPlatformEvents, now_ms)).unwrap_or(usize::MAX);
                let batch = events.after(&self.channel, self.position, self.pending.min(left));
                let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
                limits.take(Limit::DailyDeliveredPlatformEvents, count, now_ms);
                // Whoever subscribes is refused as well, and whoever has subscribed, also where there is nothing to deliver.
                if left == 0 {
                    return Err(used_up(&self.rpc_id));
                }
                (batch, late_ms)
            };
            let Some(last) = batch.last() else { return Ok(late_ms) };
            self.position = last.replay_id;
            self.pending -= batch.len();
            self.asked_ms = self.org.clock.now_ms();
            let events = batch.iter().map(|event| consumer_event(event)).collect();
            if !self.say(events, None).await {
                return Ok(late_ms);
            }
        }
    }

    async fn keep_alive(&mut self) {
        {
            // What has been published in the meantime is still to be delivered: a sign of life never passes it.
            let events = &self.org.state().events;
            if events.after(&self.channel, self.position, 1).is_empty() {
                self.position = events.latest().max(self.position);
            }
        }
        self.say(Vec::new(), None).await;
    }

    /// False: the client is gone.
    async fn say(&mut self, events: Vec<ConsumerEvent>, commit: Option<CommitReplayResponse>) -> bool {
        self.last_said_ms = self.org.clock.now_ms();
        // The topic's, which can be ahead of the events that were asked for.
        let latest = if events.is_empty() { self.position } else { self.org.state().events.latest().max(self.position) };
        let said = Said {
            events,
            latest_replay_id: latest.to_be_bytes().to_vec(),
            rpc_id: self.rpc_id.clone(),
            pending_num_requested: i32::try_from(self.pending).unwrap_or(i32::MAX),
            commit,
        };
        self.answers.send(Ok(said.into())).await.is_ok()
    }
}

/// The allocation of deliveries is used up.
fn used_up(rpc_id: &str) -> Status {
    let words = "You have exceeded the event delivery limit for your org.";
    status(Code::ResourceExhausted, "sfdc.platform.eventbus.grpc.subscription.limit.exceeded", words, rpc_id)
}

fn consumer_event(event: &Event) -> ConsumerEvent {
    let producer = ProducerEvent {
        id: event.event_id.clone(),
        schema_id: event.shape.id.clone(),
        payload: avro::encode(event),
        headers: Vec::new(),
    };
    ConsumerEvent { event: Some(producer), replay_id: event.replay_id.to_be_bytes().to_vec() }
}
