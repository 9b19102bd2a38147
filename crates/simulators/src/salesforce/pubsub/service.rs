//! The calls of the Pub/Sub API: who calls, what a topic is, what a schema says. Subscriptions go on beside this file.

use super::Connection;
use super::avro;
use super::managed::Active;
use super::proto::pub_sub_server::PubSub;
use super::proto::{
    Error, ErrorCode, FetchRequest, FetchResponse, ManagedFetchRequest, ManagedFetchResponse, PublishRequest, PublishResponse,
    PublishResult, SchemaInfo, SchemaRequest, TopicInfo, TopicRequest,
};
use super::subscription::{Asked, Opening, Said, Subscription};
use crate::faults::{Action, Happening};
use crate::journal::Entry;
use crate::salesforce::events::{Channel, Published};
use crate::salesforce::ids::Id;
use crate::salesforce::org::Org;
use crate::salesforce::state::State;
use futures_util::stream::BoxStream;
use std::sync::Arc;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Request, Response, Status, Streaming};

/// The service.
#[derive(Clone, Debug)]
pub struct Service {
    pub org: Arc<Org>,
}

type Answers<T> = BoxStream<'static, Result<T, Status>>;

/// A status with the vendor's own code.
pub fn status(code: Code, error_code: &str, words: &str, rpc_id: &str) -> Status {
    let mut trailers = MetadataMap::new();
    for (name, value) in [("error-code", error_code), ("rpc-id", rpc_id)] {
        if let Ok(value) = MetadataValue::try_from(value) {
            trailers.insert(name, value);
        }
    }
    Status::with_metadata(code, format!("{words} rpcId: {rpc_id}"), trailers)
}

impl Service {
    /// Writes the call down, lets a fault befall it, and says who calls: the id of the call.
    fn admit<T>(&self, request: &Request<T>, method: &str, topic: &str) -> Result<String, Status> {
        let text = |name: &str| request.metadata().get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_string();
        let rpc_id = {
            let state = &mut *self.org.state();
            state.chance.token(24)
        };
        let headers = ["instanceurl", "tenantid"].map(|name| (name.to_string(), text(name)));
        self.org.journal.write(Entry {
            at_ms: self.org.clock.now_ms(),
            transport: "grpc",
            method: method.to_string(),
            path: topic.to_string(),
            headers: headers.to_vec(),
            ..Entry::default()
        });
        let unauthenticated = || {
            let words = "Authentication exception occurred.";
            status(Code::Unauthenticated, "sfdc.platform.eventbus.grpc.service.auth.error", words, &rpc_id)
        };
        let token = text("accesstoken");
        match self.org.faults.befalls(&Happening::Request { method, path: topic, body: "" }) {
            Some(Action::SessionExpired) => self.org.state().auth.end_session(&token),
            Some(Action::Unavailable) => {
                let words = "The service is unavailable.";
                return Err(status(Code::Unavailable, "sfdc.platform.eventbus.grpc.service.unavailable", words, &rpc_id));
            }
            Some(Action::Cut | Action::AnswerLost) => {
                if let Some(Connection(cut)) = request.extensions().get::<Connection>() {
                    cut.cancel();
                }
            }
            _ => {}
        }
        let tenant = Id::parse(&text("tenantid"));
        let now_ms = self.org.clock.now_ms();
        let known = self.org.state().auth.session(&token, now_ms).is_some();
        if !known || tenant != Some(self.org.id) || text("instanceurl").is_empty() {
            return Err(unauthenticated());
        }
        Ok(rpc_id)
    }

    /// Publishes events, each with a result of its own.
    fn published(&self, request: &PublishRequest, rpc_id: &str) -> Result<PublishResponse, Status> {
        let topic = request.topic_name.as_str();
        self.channel(topic, rpc_id)?;
        let now_ms = self.org.clock.now_ms();
        let State { events, chance, .. } = &mut *self.org.state();
        let schema_id = events.platform(topic).map(|made| made.shape.id.clone()).ok_or_else(|| {
            let words = "Change events cannot be published.";
            status(Code::PermissionDenied, "sfdc.platform.eventbus.grpc.publish.not.allowed", words, rpc_id)
        })?;
        let mut results = Vec::new();
        for event in &request.events {
            let known = events.platform(topic).filter(|made| made.shape.id == event.schema_id);
            let fields = known.and_then(|made| avro::decode(&event.payload, &made.fields));
            let published = fields.map(|fields| Published { bytes: event.payload.clone(), fields });
            let replay_id = published.and_then(|published| events.publish_made(topic, &event.id, published, now_ms, chance));
            let error = || Error { code: ErrorCode::Publish.into(), msg: "The event does not have the schema.".to_string() };
            results.push(PublishResult {
                error: if replay_id.is_none() { Some(error()) } else { None },
                replay_id: replay_id.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default(),
                correlation_key: event.id.clone(),
            });
        }
        self.org.wake_streams();
        Ok(PublishResponse { results, schema_id, rpc_id: rpc_id.to_string() })
    }

    /// The answers to a subscription; none where nothing was asked for.
    async fn stream<R, A>(
        &self,
        opened: Option<(Opening, u64, Asked)>,
        requests: Streaming<R>,
    ) -> Result<Response<Answers<A>>, Status>
    where
        R: Into<Asked> + Send + 'static,
        A: From<Said> + Send + 'static,
    {
        let (answers, mut receiver) = tokio::sync::mpsc::channel(4);
        let subscription = match opened {
            Some((opening, place, first)) => Some(Subscription::new(opening, place, first, answers.clone())?),
            None => None,
        };
        self.org.tasks.spawn(async move {
            let Some(subscription) = subscription else { return };
            if let Err(status) = subscription.run(requests).await {
                // The client may be gone already.
                let _ = answers.send(Err(status)).await;
            }
        });
        let first = if self.org.options.late_heads { Some(receiver.recv().await) } else { None };
        let stream = futures_util::stream::unfold((first, receiver), |(first, mut receiver)| async move {
            let next = match first {
                Some(first) => first?,
                None => receiver.recv().await?,
            };
            Some((next, (None, receiver)))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    fn channel(&self, topic: &str, rpc_id: &str) -> Result<Channel, Status> {
        let state = self.org.state();
        state.events.channel(&state.data.schema, topic).ok_or_else(|| {
            let words = format!("Unable to find topic {topic}.");
            status(Code::NotFound, "sfdc.platform.eventbus.grpc.topic.not.found", &words, rpc_id)
        })
    }
}

#[tonic::async_trait]
impl PubSub for Service {
    type SubscribeStream = Answers<FetchResponse>;
    type PublishStreamStream = Answers<PublishResponse>;
    type ManagedSubscribeStream = Answers<ManagedFetchResponse>;

    async fn subscribe(&self, request: Request<Streaming<FetchRequest>>) -> Result<Response<Self::SubscribeStream>, Status> {
        let rpc_id = self.admit(&request, "Subscribe", "")?;
        let cut = request.extensions().get::<Connection>().map(|connection| connection.0.clone());
        let mut requests = request.into_inner();
        // Where the subscription begins is settled before its answer does: whoever has the answer's head misses nothing.
        let opened = match requests.message().await? {
            Some(first) => {
                let channel = self.channel(&first.topic_name, &rpc_id)?;
                let (org, topic, managed) = (self.org.clone(), first.topic_name.clone(), None);
                let opening = Opening { org, topic, channel, rpc_id, cut, managed };
                let place = opening.place(first.replay_preset(), &first.replay_id)?;
                Some((opening, place, first.into()))
            }
            None => None,
        };
        self.stream(opened, requests).await
    }

    async fn get_schema(&self, request: Request<SchemaRequest>) -> Result<Response<SchemaInfo>, Status> {
        let id = request.get_ref().schema_id.clone();
        let rpc_id = self.admit(&request, "GetSchema", &id)?;
        let state = self.org.state();
        let shape = state.events.shape_by_id(&id).ok_or_else(|| {
            status(Code::NotFound, "sfdc.platform.eventbus.grpc.schema.not.found", "Unable to find the schema.", &rpc_id)
        })?;
        Ok(Response::new(SchemaInfo { schema_json: shape.json.clone(), schema_id: shape.id.clone(), rpc_id }))
    }

    async fn get_topic(&self, request: Request<TopicRequest>) -> Result<Response<TopicInfo>, Status> {
        let topic_name = request.get_ref().topic_name.clone();
        let rpc_id = self.admit(&request, "GetTopic", &topic_name)?;
        let channel = self.channel(&topic_name, &rpc_id)?;
        let state = &mut *self.org.state();
        let tenant_guid = format!("core/simulated/{}", self.org.id);
        if let Some(made) = state.events.platform(&topic_name) {
            let schema_id = made.shape.id.clone();
            return Ok(Response::new(TopicInfo {
                topic_name,
                tenant_guid,
                can_publish: true,
                can_subscribe: true,
                schema_id,
                rpc_id,
            }));
        }
        // A channel of several objects has a schema per event; the first object's stands here.
        let first = match &channel {
            Channel::Of(objects) => objects.first().cloned(),
            Channel::All => state.data.schema.objects().find(|object| object.change_events).map(|object| object.name.clone()),
        };
        let object = first.and_then(|name| state.data.schema.object(&name).cloned());
        let schema_id = object.map_or_else(String::new, |object| state.events.shape(&object).id.clone());
        Ok(Response::new(TopicInfo { topic_name, tenant_guid, can_publish: false, can_subscribe: true, schema_id, rpc_id }))
    }

    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        let topic = request.get_ref().topic_name.clone();
        let rpc_id = self.admit(&request, "Publish", &topic)?;
        self.published(request.get_ref(), &rpc_id).map(Response::new)
    }

    async fn publish_stream(
        &self,
        request: Request<Streaming<PublishRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        let rpc_id = self.admit(&request, "PublishStream", "")?;
        let (answers, receiver) = tokio::sync::mpsc::channel(4);
        let (service, mut requests) = (self.clone(), request.into_inner());
        self.org.tasks.spawn(async move {
            loop {
                let request = tokio::select! {
                    request = requests.message() => request,
                    () = service.org.shutdown.cancelled() => return,
                };
                let Ok(Some(request)) = request else { return };
                let answer = service.published(&request, &rpc_id);
                let is_over = answer.is_err();
                if answers.send(answer).await.is_err() || is_over {
                    return;
                }
            }
        });
        let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
            let next = receiver.recv().await?;
            Some((next, receiver))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn managed_subscribe(
        &self,
        request: Request<Streaming<ManagedFetchRequest>>,
    ) -> Result<Response<Self::ManagedSubscribeStream>, Status> {
        let rpc_id = self.admit(&request, "ManagedSubscribe", "")?;
        let cut = request.extensions().get::<Connection>().map(|connection| connection.0.clone());
        let mut requests = request.into_inner();
        let opened = match requests.message().await? {
            Some(first) => {
                let (managed, topic, place) = Active::take(&self.org, &first.subscription_id, &first.developer_name, &rpc_id)?;
                let channel = self.channel(&topic, &rpc_id)?;
                let opening = Opening { org: self.org.clone(), topic, channel, rpc_id, cut, managed: Some(managed) };
                Some((opening, place, first.into()))
            }
            None => None,
        };
        self.stream(opened, requests).await
    }
}
