//! The calls of the Pub/Sub API: who calls, what a topic is, what a schema says. Subscriptions go on beside this file.

use super::Connection;
use super::proto::pub_sub_server::PubSub;
use super::proto::{
    FetchRequest, FetchResponse, ManagedFetchRequest, ManagedFetchResponse, PublishRequest, PublishResponse, SchemaInfo,
    SchemaRequest, TopicInfo, TopicRequest,
};
use super::subscription::Subscription;
use crate::faults::{Action, Happening};
use crate::journal::Entry;
use crate::salesforce::events::Channel;
use crate::salesforce::ids::Id;
use crate::salesforce::org::Org;
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
        let (answers, receiver) = tokio::sync::mpsc::channel(4);
        let mut requests = request.into_inner();
        // Where the subscription begins is settled before its answer does: whoever has the answer's head misses nothing.
        let subscription = match requests.message().await? {
            Some(first) => {
                let channel = self.channel(&first.topic_name, &rpc_id)?;
                Some(Subscription::new(self.org.clone(), channel, first, rpc_id, answers.clone(), cut)?)
            }
            None => None,
        };
        self.org.tasks.spawn(async move {
            let Some(subscription) = subscription else { return };
            if let Err(status) = subscription.run(requests).await {
                // The client may be gone already.
                let _ = answers.send(Err(status)).await;
            }
        });
        let mut receiver = receiver;
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
        // A channel of several objects has a schema per event; the first object's stands here.
        let first = match &channel {
            Channel::Of(objects) => objects.first().cloned(),
            Channel::All => state.data.schema.objects().find(|object| object.change_events).map(|object| object.name.clone()),
        };
        let object = first.and_then(|name| state.data.schema.object(&name).cloned());
        let schema_id = object.map_or_else(String::new, |object| state.events.shape(&object).id.clone());
        let tenant_guid = format!("core/simulated/{}", self.org.id);
        Ok(Response::new(TopicInfo { topic_name, tenant_guid, can_publish: false, can_subscribe: true, schema_id, rpc_id }))
    }

    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        let topic = request.get_ref().topic_name.clone();
        let rpc_id = self.admit(&request, "Publish", &topic)?;
        let words = "Change events cannot be published.";
        Err(status(Code::PermissionDenied, "sfdc.platform.eventbus.grpc.publish.not.allowed", words, &rpc_id))
    }

    async fn publish_stream(&self, _: Request<Streaming<PublishRequest>>) -> Result<Response<Self::PublishStreamStream>, Status> {
        Err(Status::permission_denied("Change events cannot be published."))
    }

    async fn managed_subscribe(
        &self,
        _: Request<Streaming<ManagedFetchRequest>>,
    ) -> Result<Response<Self::ManagedSubscribeStream>, Status> {
        Err(Status::failed_precondition("The org has no managed subscriptions."))
    }
}
