//! The Pub/Sub API on the wire: three calls of `eventbus.v1.PubSub` over one HTTP/2 connection, their messages as the
//! vendor publishes them (CC0-1.0), and what its refusals mean. Knows no event's content.
//! <https://github.com/forcedotcom/pub-sub-api>

use super::auth::Session;
use super::config::SalesforceSettings;
use super::http::tls;
use concord_engine::error::{Code, Error, Result};
use futures_util::Stream;
use futures_util::future::BoxFuture;
use http::Uri;
use http::uri::PathAndQuery;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::{IntoRequest, Request, Status, Streaming};
use tonic_prost::ProstCodec;

/// The most bytes of one answer: a hundred events of a megabyte.
const ANSWER_BYTES_MAX: usize = 128 * 1024 * 1024;
/// A sign that the connection still stands, while no event comes.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_WAIT: Duration = Duration::from_secs(15);
/// How long a subscription's head is waited for before it is asked whether the connection stands: the vendor may send it no
/// sooner than the first event or sign of life.
const HEAD_WAIT: Duration = Duration::from_secs(2);
/// How long to wait where a delivery allowance is used up.
const ALLOWANCE_WAIT: Duration = Duration::from_secs(900);

#[derive(Clone, PartialEq, prost::Message)]
struct TopicRequest {
    #[prost(string, tag = "1")]
    topic_name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TopicInfo {
    #[prost(string, tag = "1")]
    pub topic_name: String,
    #[prost(bool, tag = "4")]
    pub can_subscribe: bool,
    #[prost(string, tag = "5")]
    pub schema_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SchemaRequest {
    #[prost(string, tag = "1")]
    schema_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SchemaInfo {
    #[prost(string, tag = "1")]
    schema_json: String,
}

/// Asks for more events; the first one says of which topic and from where.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct FetchRequest {
    #[prost(string, tag = "1")]
    pub topic_name: String,
    /// 0: new events, 1: all that are kept, 2: those behind `replay_id`.
    #[prost(int32, tag = "2")]
    pub replay_preset: i32,
    #[prost(bytes = "vec", tag = "3")]
    pub replay_id: Vec<u8>,
    #[prost(int32, tag = "4")]
    pub num_requested: i32,
}

/// Events, or none: then it is a sign of life.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct FetchResponse {
    #[prost(message, repeated, tag = "1")]
    pub events: Vec<ConsumerEvent>,
    #[prost(bytes = "vec", tag = "2")]
    pub latest_replay_id: Vec<u8>,
    #[prost(int32, tag = "4")]
    pub pending_num_requested: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ConsumerEvent {
    #[prost(message, optional, tag = "1")]
    pub event: Option<ProducerEvent>,
    #[prost(bytes = "vec", tag = "2")]
    pub replay_id: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ProducerEvent {
    #[prost(string, tag = "2")]
    pub schema_id: String,
    #[prost(bytes = "vec", tag = "3")]
    pub payload: Vec<u8>,
}

/// A head under way; nobody ever waits for the lock.
type Head = Mutex<BoxFuture<'static, std::result::Result<Streaming<FetchResponse>, Status>>>;

/// The answers to a subscription.
pub(super) enum Answers {
    /// It was asked for, and nothing was said yet.
    Awaited(Head),
    /// It has begun.
    Begun(Box<Streaming<FetchResponse>>),
}

impl Answers {
    /// The next one; `None` at the end. Dropping the call loses nothing.
    pub async fn next(&mut self) -> std::result::Result<Option<FetchResponse>, Status> {
        if let Answers::Awaited(head) = self {
            let begun = head.get_mut().unwrap_or_else(PoisonError::into_inner).await?;
            *self = Answers::Begun(Box::new(begun));
        }
        match self {
            Answers::Begun(answers) => answers.message().await,
            Answers::Awaited(_) => Ok(None),
        }
    }
}

/// The service.
pub(super) struct PubSub {
    client: Client<HttpsConnector<HttpConnector>, tonic::body::Body>,
    origin: Uri,
    timeout: Duration,
}

impl PubSub {
    pub fn new(settings: &SalesforceSettings) -> Result<PubSub> {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(settings.authorities.as_deref())?)
            .https_or_http()
            .enable_http2()
            .build();
        let client = Client::builder(TokioExecutor::new())
            .http2_only(true)
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_keep_alive_interval(PING_EVERY)
            .http2_keep_alive_timeout(PING_WAIT)
            .build(connector);
        let origin = settings.pubsub_url.parse().map_err(|error: http::uri::InvalidUri| {
            Error::new(Code::ConfigOutOfRange, "options.pubsub_url is no URL").because(error)
        })?;
        Ok(PubSub { client, origin, timeout: settings.timeout })
    }

    /// Whether a topic is there and may be subscribed to, and which schema its events have now.
    pub async fn topic(&self, session: &Session, topic: &str) -> std::result::Result<TopicInfo, Status> {
        self.one(session, "/eventbus.v1.PubSub/GetTopic", TopicRequest { topic_name: topic.to_owned() }).await
    }

    /// A schema's JSON.
    pub async fn schema(&self, session: &Session, id: &str) -> std::result::Result<String, Status> {
        let request = SchemaRequest { schema_id: id.to_owned() };
        let info: SchemaInfo = self.one(session, "/eventbus.v1.PubSub/GetSchema", request).await?;
        Ok(info.schema_json)
    }

    /// Subscribes to a topic; events come as far as `requests` ask for them. Where nothing is said of it the connection stands
    /// all the same: the topic itself is asked about on it.
    pub async fn subscribe(
        &self,
        session: &Session,
        topic: &str,
        requests: impl Stream<Item = FetchRequest> + Send + 'static,
    ) -> std::result::Result<Answers, Status> {
        let mut service = self.service().await?;
        let request = with_session(session, Request::new(requests))?;
        let mut head: BoxFuture<'static, _> = Box::pin(async move {
            let path = PathAndQuery::from_static("/eventbus.v1.PubSub/Subscribe");
            let codec: ProstCodec<FetchRequest, FetchResponse> = ProstCodec::default();
            service.streaming(request, path, codec).await.map(tonic::Response::into_inner)
        });
        match tokio::time::timeout(HEAD_WAIT, &mut head).await {
            Ok(begun) => begun.map(|answers| Answers::Begun(Box::new(answers))),
            Err(_) => self.topic(session, topic).await.map(|_| Answers::Awaited(Mutex::new(head))),
        }
    }

    async fn one<Q, A>(&self, session: &Session, path: &'static str, message: Q) -> std::result::Result<A, Status>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let mut service = self.service().await?;
        let request = with_session(session, message.into_request())?;
        let codec: ProstCodec<Q, A> = ProstCodec::default();
        let call = service.unary(request, PathAndQuery::from_static(path), codec);
        match tokio::time::timeout(self.timeout, call).await {
            Ok(result) => result.map(tonic::Response::into_inner),
            Err(_) => Err(Status::unavailable("no answer in time")),
        }
    }

    async fn service(&self) -> std::result::Result<Grpc<Client<HttpsConnector<HttpConnector>, tonic::body::Body>>, Status> {
        let mut service = Grpc::with_origin(self.client.clone(), self.origin.clone()).max_decoding_message_size(ANSWER_BYTES_MAX);
        service.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(service)
    }
}

fn with_session<T>(session: &Session, mut request: Request<T>) -> std::result::Result<Request<T>, Status> {
    let unfit = |_| Status::unauthenticated("the session cannot stand in a header");
    let pairs = [
        ("accesstoken", session.token.expose()),
        ("instanceurl", session.instance_url.as_str()),
        ("tenantid", session.org.as_str()),
    ];
    for (name, text) in pairs {
        let mut value = MetadataValue::try_from(text).map_err(unfit)?;
        value.set_sensitive(name == "accesstoken");
        request.metadata_mut().insert(name, value);
    }
    Ok(request)
}

/// Whether the session ran out.
pub(super) fn is_session_over(status: &Status) -> bool {
    status.code() == tonic::Code::Unauthenticated
}

/// Whether the status is about a topic that is not there.
pub(super) fn is_unknown_topic(status: &Status) -> bool {
    status.code() == tonic::Code::NotFound
}

/// What a refusal means: by the vendor's own code in the trailers where there is one, else by the gRPC status.
pub(super) fn error_of(doing: &str, status: &Status) -> Error {
    let vendor = status.metadata().get("error-code").and_then(|value| value.to_str().ok()).unwrap_or("");
    let told = if vendor.is_empty() { status.code().to_string() } else { vendor.to_owned() };
    let message = format!("{doing}: {told}");
    if vendor.contains("replayid") {
        let expired = "the events behind the stored position are no longer kept, or the position is of another org";
        return Error::new(Code::FeedGap, format!("{doing}: {expired} ({told})"));
    }
    if vendor.ends_with("subscription.limit.exceeded") || vendor.ends_with("client.limit.exceeded") {
        return Error { retry_after: Some(ALLOWANCE_WAIT), ..Error::new(Code::HostedAllowanceUsed, message) };
    }
    match status.code() {
        tonic::Code::NotFound => Error::new(Code::HostedEventsOff, message),
        tonic::Code::PermissionDenied => Error::new(Code::PrivilegeMissing, message),
        tonic::Code::ResourceExhausted => {
            Error { retry_after: Some(ALLOWANCE_WAIT), ..Error::new(Code::HostedAllowanceUsed, message) }
        }
        tonic::Code::InvalidArgument | tonic::Code::Unimplemented => Error::new(Code::ProtocolViolation, message),
        _ => Error::new(Code::Unreachable, message),
    }
}
