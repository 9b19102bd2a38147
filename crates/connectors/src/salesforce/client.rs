//! Calls to the org's REST API under a session: renewed once where it has run out, counted against the day's allowance,
//! with every refusal turned into an error of ours. Retries nothing else.

use super::auth::{Auth, Session};
use super::config::SalesforceSettings;
use super::errors::{CONCURRENCY_WAIT, of_request};
use super::http::{Answer, Failure, Http};
use super::ingest::OwnJobs;
use super::usage::{Usage, said_of};
use bytes::Bytes;
use concord_engine::clock::{Clock, Moment, SystemClock};
use concord_engine::error::{Class, Code, Error, Result};
use http::{Method, Request};
use http_body_util::Full;
use serde::de::DeserializeOwned;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::task::TaskTracker;

/// How long we wait at least, and at most, where the org says how long.
const TOLD_WAIT_MIN: Duration = Duration::from_secs(1);
const TOLD_WAIT_MAX: Duration = Duration::from_secs(86_400);

/// What a call is for, where the allowance gets short: people's edits come before what can be read later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Somebody waits for it, or it goes on with what was begun.
    Now,
    /// It begins what can wait: a chunk or a batch of a first load.
    Backfill,
}

/// One call.
pub(super) struct Call {
    pub method: Method,
    /// From the host on: `/services/data/v65.0/limits`.
    pub path: String,
    pub body: Option<Bytes>,
    pub content_type: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub need: Need,
}

impl Call {
    pub fn get(path: impl Into<String>) -> Call {
        Call {
            method: Method::GET,
            path: path.into(),
            body: None,
            content_type: "application/json; charset=UTF-8",
            headers: Vec::new(),
            need: Need::Now,
        }
    }

    pub fn with_body(method: Method, path: impl Into<String>, body: impl Into<Bytes>) -> Call {
        Call { method, body: Some(body.into()), ..Call::get(path) }
    }

    pub fn needed(self, need: Need) -> Call {
        Call { need, ..self }
    }
}

/// The org's REST API.
pub(super) struct Client {
    pub settings: Arc<SalesforceSettings>,
    pub auth: Auth,
    http: Http,
    usage: Mutex<Usage>,
    /// Held while it is kept what is used; whether it is known what earlier runs have used.
    counted: tokio::sync::Mutex<bool>,
    /// Writes that are under way, whether or not their caller still waits.
    pub writing: TaskTracker,
    /// Jobs of Bulk API that this process has made.
    pub jobs: OwnJobs,
    /// By how much the org's clock is ahead of ours.
    ahead_seconds: AtomicI64,
}

impl Client {
    pub fn new(settings: Arc<SalesforceSettings>) -> Result<Client> {
        let http = Http::new(settings.authorities.as_deref(), settings.timeout)?;
        let usage = Mutex::new(Usage::new(settings.daily_quota_share));
        let auth = Auth::new(Arc::clone(&settings), http.clone());
        let (writing, jobs) = (TaskTracker::new(), OwnJobs::default());
        let counted = tokio::sync::Mutex::new(false);
        Ok(Client { auth, settings, http, usage, counted, writing, jobs, ahead_seconds: AtomicI64::new(0) })
    }

    /// How much of the day's allowance is used.
    pub fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether work of several calls may begin now: it is asked once, and the calls then go through.
    pub fn admit(&self, need: Need) -> Result<()> {
        self.usage().admit(need)
    }

    /// Makes a call whose answer is JSON.
    pub async fn json<T: DeserializeOwned>(&self, doing: &str, call: Call) -> Result<T> {
        let answer = self.call(doing, &call).await?;
        read(doing, &answer.body)
    }

    /// Makes a call; any answer but success is an error.
    pub async fn call(&self, doing: &str, call: &Call) -> std::result::Result<Answer, Failure> {
        self.count().await;
        self.usage().admit(call.need)?;
        let session = self.auth.session().await?;
        let mut answer = self.under(&session, call).await?;
        if answer.status == 401 {
            // Refused before anything was done: asked once more under a new session.
            let session = self.auth.renew(&session).await?;
            answer = self.under(&session, call).await?;
        }
        if (200..300).contains(&answer.status) {
            return Ok(answer);
        }
        let mut error = of_request(doing, answer.status, &answer.body);
        let calls_are_left = answer.header("sforce-limit-info").and_then(said_of).is_some_and(|(used, all)| used < all);
        if error.code == Code::HostedAllowanceUsed && calls_are_left {
            // The same refusal is given where too many long calls run at once: that is soon over.
            error = Error { code: Code::Throttled, retry_after: Some(CONCURRENCY_WAIT), ..error };
        }
        if error.class() == Class::Throttled {
            error.retry_after = self.told_to_wait(&answer).or(error.retry_after);
        }
        Err(Failure { error: error.at(self.settings.system.clone()), sent: !nothing_happened(answer.status) })
    }

    /// What earlier runs have used is known, and what this one is about to use is kept, before a call is made. Where that fails
    /// the call is made all the same.
    async fn count(&self) {
        let Some(keep) = self.settings.keep.as_ref().filter(|_| self.usage().is_to_be_kept()) else { return };
        let system = &self.settings.system;
        let mut is_known = self.counted.lock().await;
        if !*is_known {
            match keep.calls(system).await {
                Ok(calls) => self.usage().recall(&calls.unwrap_or_default(), SystemClock.now()),
                Err(error) => {
                    tracing::warn!(%system, error = error.chain(), "it is not known how many calls earlier runs have made");
                }
            }
            *is_known = true;
        }
        if !self.usage().is_to_be_kept() {
            return;
        }
        let calls = self.usage().reserve(SystemClock.now());
        if keep.can_keep()
            && let Err(error) = keep.keep_calls(system, &calls).await
        {
            tracing::warn!(%system, error = error.chain(), "how many calls were made could not be kept");
        }
    }

    /// The org's own time, in seconds since 1970: ours, as far as it has told none.
    pub fn org_seconds(&self) -> i64 {
        self.at_the_org(SystemClock.now())
    }

    /// A moment of our clock as the org's clock shows it, in seconds since 1970.
    pub fn at_the_org(&self, moment: Moment) -> i64 {
        moment.micros().div_euclid(1_000_000).saturating_add(self.ahead_seconds.load(Ordering::Relaxed))
    }

    /// How long the org says that we shall wait: in seconds, or until a moment of its own clock.
    fn told_to_wait(&self, answer: &Answer) -> Option<Duration> {
        let told = answer.header("retry-after")?.trim();
        let seconds = match told.parse::<i64>() {
            Ok(seconds) => seconds,
            Err(_) => jiff::fmt::rfc2822::parse(told).ok()?.timestamp().as_second().saturating_sub(self.org_seconds()),
        };
        Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).clamp(TOLD_WAIT_MIN, TOLD_WAIT_MAX))
    }

    /// An answer of the org says what time it is there.
    pub fn dated(&self, date: Option<&str>) {
        let told = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map(|date| date.timestamp().as_second());
        if let Some(told) = told {
            let ours = SystemClock.now().micros().div_euclid(1_000_000);
            self.ahead_seconds.store(told.saturating_sub(ours), Ordering::Relaxed);
        }
    }

    async fn under(&self, session: &Session, call: &Call) -> std::result::Result<Answer, Failure> {
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(format!("{}{}", session.instance_url, call.path))
            .header("authorization", format!("Bearer {}", session.token.expose()))
            .header("accept", "application/json")
            .header("accept-encoding", "gzip");
        if call.body.is_some() {
            request = request.header("content-type", call.content_type);
        }
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        let request = request
            .body(Full::new(call.body.clone().unwrap_or_default()))
            .map_err(|error| Error::new(Code::Internal, "a request could not be written").because(error))?;
        let answer = self.http.exchange(request).await.inspect_err(|failure| {
            // The org counts what reached it, whether or not its answer reached us.
            if failure.sent {
                self.usage().made(None);
            }
        })?;
        self.usage().made(answer.header("sforce-limit-info"));
        self.dated(answer.header("date"));
        Ok(answer)
    }
}

/// Whether the vendor says of answers with this status that the request was refused and nothing was done. Of any other (a
/// server that failed or was shut down in the middle, an edge in front of it that gave up) nobody knows.
pub(super) fn nothing_happened(status: u16) -> bool {
    matches!(status, 300 | 304 | 400 | 401 | 403 | 404 | 405 | 409 | 410 | 412 | 414 | 415 | 428 | 429 | 431)
}

/// An answer's body as what it should be.
pub(super) fn read<T: DeserializeOwned>(doing: &str, body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        Error::new(Code::ProtocolViolation, format!("{doing}: the answer is not what the API promises ({place})"))
    })
}
