//! The simulator as a whole: its listeners, what happens to a request before and after it is answered, start and stop.

use super::errors::ApiError;
use super::org::{Options, Org};
use super::{Person, auth, bulk, cometd, control, pubsub, rest};
use crate::clock::Clock;
use crate::faults::{Action, Happening};
use crate::journal::Entry;
use crate::net::coding::Coding;
use crate::net::http::{Answer, Handler, Outcome, Request};
use crate::net::tls::Identity;
use crate::net::{http, listen, proxy};
use futures_util::future::BoxFuture;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Where the simulator listens.
#[derive(Debug)]
pub struct Listeners {
    pub http: TcpListener,
    pub https: TcpListener,
    pub pubsub: TcpListener,
    pub proxy: TcpListener,
    pub addresses: Addresses,
}

/// The listeners' addresses.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub http: SocketAddr,
    pub https: SocketAddr,
    /// gRPC over TLS.
    pub pubsub: SocketAddr,
    /// A CONNECT proxy that leads every host to `https`.
    pub proxy: SocketAddr,
}

impl Listeners {
    /// Listens at these addresses; port 0 takes a free one.
    pub async fn bind(http: &str, https: &str, pubsub: &str, proxy: &str) -> Result<Self, String> {
        let (http, http_address) = listen(http).await?;
        let (https, https_address) = listen(https).await?;
        let (pubsub, pubsub_address) = listen(pubsub).await?;
        let (proxy, proxy_address) = listen(proxy).await?;
        let addresses = Addresses { http: http_address, https: https_address, pubsub: pubsub_address, proxy: proxy_address };
        Ok(Self { http, https, pubsub, proxy, addresses })
    }
}

/// What answers HTTP.
#[derive(Debug)]
pub struct Front {
    pub org: Arc<Org>,
    pub addresses: Addresses,
    pub authority_pem: String,
}

/// Serves until `shutdown`.
pub async fn run(org: Arc<Org>, identity: Identity, listeners: Listeners, shutdown: CancellationToken) {
    let front =
        Arc::new(Front { org: org.clone(), addresses: listeners.addresses, authority_pem: identity.authority_pem.clone() });
    let tasks = &org.tasks;
    tasks.spawn(http::serve(listeners.http, None, front.clone(), tasks.clone(), shutdown.clone()));
    tasks.spawn(http::serve(listeners.https, Some(identity.http1()), front, tasks.clone(), shutdown.clone()));
    tasks.spawn(pubsub::serve(listeners.pubsub, identity.http2(), org.clone(), shutdown.clone()));
    tasks.spawn(proxy::serve(listeners.proxy, listeners.addresses.https, tasks.clone(), shutdown.clone()));
    shutdown.cancelled().await;
    org.shutdown.cancel();
    tasks.close();
    tasks.wait().await;
}

impl Handler for Front {
    fn handle(self: Arc<Self>, request: Request) -> BoxFuture<'static, Outcome> {
        Box::pin(async move {
            if request.path == "/_sim" || request.path.starts_with("/_sim/") {
                let answer = control::handle(&self, &request);
                self.start_jobs();
                return Outcome::Answer(answer);
            }
            self.answer(request).await
        })
    }
}

impl Front {
    async fn answer(&self, request: Request) -> Outcome {
        let request = match decoded(request) {
            Ok(request) => request,
            Err(refused) => return Outcome::Answer(refused),
        };
        let body = String::from_utf8_lossy(&request.body);
        let path = if request.query.is_empty() { request.path.clone() } else { format!("{}?{}", request.path, request.query) };
        let fault = self.org.faults.befalls(&Happening::Request { method: &request.method, path: &path, body: &body });
        let made = match &fault {
            Some(Action::Cut) => None,
            Some(Action::Unavailable) => {
                let words = "The server is unavailable, try again later";
                Some((rest::refusal(&ApiError::new(503, "SERVER_UNAVAILABLE", words)), false))
            }
            Some(Action::RequestLimit) => Some((rest::refusal(&rest::over_limit()), false)),
            Some(Action::Answer { status, body, headers }) => {
                let plain = Answer::of(*status, "application/json;charset=UTF-8", body.clone());
                Some((headers.iter().fold(plain, |answer, (name, value)| answer.with(name, value)), false))
            }
            other => {
                if let Some(Action::Slow { ms }) = other {
                    tokio::time::sleep(Duration::from_millis(*ms)).await;
                }
                if *other == Some(Action::SessionExpired) {
                    let token = request.header("authorization").and_then(|header| header.split_once(' '));
                    self.org.state().auth.end_session(token.map_or("", |(_, token)| token));
                }
                Some(self.dispatch(&request).await)
            }
        };
        // What is cut is counted in bytes of what the answer says.
        let is_whole = !matches!(fault, Some(Action::Truncated { .. }));
        let made = made.map(|(answer, counted)| (if is_whole { encoded(answer, &request) } else { answer }, counted));
        self.start_jobs();
        self.note(&request, &body, made.as_ref());
        if let Some(Action::AnswerLate { ms }) = fault {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        match (made, fault) {
            (None, _) | (_, Some(Action::AnswerLost)) => Outcome::Cut,
            (Some((answer, _)), Some(Action::Truncated { bytes })) => Outcome::Truncated(answer, bytes),
            (Some((answer, _)), _) => Outcome::Answer(answer),
        }
    }

    async fn dispatch(&self, request: &Request) -> (Answer, bool) {
        let path = request.path.as_str();
        if path.starts_with("/services/oauth2/") || path.starts_with("/id/") {
            (auth::handle(&self.org, request), false)
        } else if path.starts_with("/services/data") {
            rest::handle(&self.org, request)
        } else if path.starts_with("/cometd/") {
            (cometd::handle(&self.org, request).await, false)
        } else {
            (Answer::empty(404), false)
        }
    }

    fn start_jobs(&self) {
        let waiting = {
            let state = self.org.state();
            !state.jobs.held && !state.jobs.waiting.is_empty()
        };
        if waiting {
            self.org.tasks.spawn(bulk::process(self.org.clone()));
        }
    }

    fn note(&self, request: &Request, body: &str, made: Option<&(Answer, bool)>) {
        let headers = request.headers.iter();
        let headers = headers.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        self.org.journal.write(Entry {
            number: 0,
            at_ms: self.org.clock.now_ms(),
            transport: if request.secure { "https" } else { "http" },
            host: request.host.clone(),
            method: request.method.clone(),
            path: request.path.clone(),
            query: request.query.clone(),
            headers: headers.collect(),
            body: body.to_string(),
            status: made.map_or(0, |(answer, _)| answer.status),
            answer_bytes: made.map_or(0, |(answer, _)| answer.body.len()),
            answer_coding: made.and_then(|(answer, _)| answer.header("Content-Encoding")).unwrap_or_default().to_string(),
            counted: made.is_some_and(|(_, counted)| *counted),
        });
    }
}

/// Where bodies may be compressed.
fn is_compressible(path: &str) -> bool {
    path.starts_with("/services/data")
}

/// The request as it was before it was compressed.
fn decoded(request: Request) -> Result<Request, Answer> {
    let Some(coding) = request.header("content-encoding").filter(|coding| !coding.eq_ignore_ascii_case("identity")) else {
        return Ok(request);
    };
    let Some(coding) = Coding::of(coding).filter(|_| is_compressible(&request.path)) else {
        let words = format!("The content encoding {coding} is not supported");
        return Err(rest::refusal(&ApiError::new(415, "UNSUPPORTED_MEDIA_TYPE", words)));
    };
    let body = coding.decode(&request.body, http::BODY_BYTES_MAX);
    let broken =
        || ApiError::bad("INVALID_CONTENT", format!("The body is not what its content encoding, {}, says", coding.name()));
    Ok(Request { body: body.ok_or_else(|| rest::refusal(&broken()))?, ..request })
}

/// The answer as the client wants it: jobs know gzip alone, the rest of the API deflate, too.
fn encoded(answer: Answer, request: &Request) -> Answer {
    let offered: &[Coding] = if request.path.contains("/jobs/") { &[Coding::Gzip] } else { &[Coding::Gzip, Coding::Deflate] };
    let accepted = request.header("accept-encoding").filter(|_| is_compressible(&request.path) && !answer.body.is_empty());
    match accepted.and_then(|accepted| Coding::wanted(accepted, offered)) {
        Some(coding) => Answer { body: coding.encode(&answer.body), ..answer }.with("Content-Encoding", coding.name()),
        None => answer,
    }
}

/// A simulator that a test started; it stops when it is dropped.
#[derive(Debug)]
pub struct Simulator {
    pub org: Arc<Org>,
    pub addresses: Addresses,
    pub authority_pem: String,
    shutdown: CancellationToken,
    running: Option<tokio::task::JoinHandle<()>>,
}

impl Simulator {
    /// Starts one on free ports of loopback.
    pub async fn start(options: Options) -> Result<Self, String> {
        Self::start_with(options, Clock::new()).await
    }

    /// Starts one with a clock of its own.
    pub async fn start_with(options: Options, clock: Clock) -> Result<Self, String> {
        let free = "127.0.0.1:0";
        let listeners = Listeners::bind(free, free, free, free).await?;
        let identity = Identity::new(&hosts(&options))?;
        let org = Arc::new(Org::new(options, clock)?);
        let (addresses, authority_pem) = (listeners.addresses, identity.authority_pem.clone());
        let shutdown = CancellationToken::new();
        let task = run(org.clone(), identity, listeners, shutdown.clone());
        // `run` ends last, so it is no task of its own tracker.
        let running = Some(tokio_util::task::TaskTracker::new().spawn(task));
        Ok(Self { org, addresses, authority_pem, shutdown, running })
    }

    /// `http://127.0.0.1:…`
    pub fn http_url(&self) -> String {
        format!("http://{}", self.addresses.http)
    }

    /// `https://localhost:…`
    pub fn https_url(&self) -> String {
        format!("https://localhost:{}", self.addresses.https.port())
    }

    /// Opens a session without any login: its access token.
    pub fn session(&self, username: &str) -> Option<String> {
        auth::token_for_test(&self.org, username)
    }

    /// A person at the browser.
    pub fn person(&self) -> Person<'_> {
        Person { org: &self.org }
    }

    /// Stops and waits until nothing is left.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        if let Some(running) = self.running.take() {
            // A task that was cancelled has stopped too.
            let _ = running.await;
        }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// The hosts for which the simulator has a certificate.
pub fn hosts(options: &Options) -> Vec<String> {
    let fixed = ["localhost", "127.0.0.1", "login.salesforce.com", "test.salesforce.com", "api.pubsub.salesforce.com"];
    let wild = ["*.salesforce.com", "*.my.salesforce.com", "*.pubsub.salesforce.com"];
    fixed.iter().chain(&wild).map(|host| host.to_string()).chain([options.my_domain.clone()]).collect()
}
