//! Sessions: how one is got, kept and renewed. One login at a time; a login that was refused is not tried again until a
//! while has passed, for a person must act; a rotated refresh token is durable before anything is done with it.

use super::config::{Grant, SalesforceSettings, is_guarded};
use super::errors::{login_may_recover, refusals};
use super::http::{Answer, Http};
use super::ids::{full, is_id};
use super::jwt;
use crate::percent;
use bytes::Bytes;
use concord_engine::clock::{Clock, SystemClock};
use concord_engine::config::SecretText;
use concord_engine::error::{Code, Error, Result};
use http::Request;
use http_body_util::Full;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

/// How long a refused login is left alone at first, and at most.
const REFUSED_WAIT: Duration = Duration::from_secs(60);
const REFUSED_WAIT_MAX: Duration = Duration::from_secs(3_600);

/// A session in the org.
pub(super) struct Session {
    pub token: SecretText,
    /// Where data calls go, without a slash at its end.
    pub instance_url: String,
    /// The org's id, 18 characters.
    pub org: String,
    /// The id of the user that we act as, where the login told it.
    pub user: Option<String>,
}

struct State {
    session: Option<Arc<Session>>,
    /// The refresh token to use next.
    refresh: Option<SecretText>,
    /// A rotated token that is not durable yet: nothing is done before it is.
    unkept: Option<SecretText>,
    refused: Option<Refused>,
}

struct Refused {
    until: Instant,
    wait: Duration,
    error: Error,
}

/// Gets sessions. A login is a task of its own: it comes to its end also when nobody waits for it any more, for the answer
/// may carry the only refresh token that is good from then on.
pub(super) struct Auth(Arc<Logins>);

struct Logins {
    settings: Arc<SalesforceSettings>,
    http: Http,
    state: Mutex<State>,
    /// Owns the logins that nobody may wait for any more.
    running: TaskTracker,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    instance_url: Option<String>,
    id: Option<String>,
    refresh_token: Option<String>,
}

impl Auth {
    pub fn new(settings: Arc<SalesforceSettings>, http: Http) -> Auth {
        let refresh = match &settings.grant {
            Grant::Refresh { token, .. } => Some(token.clone()),
            _ => None,
        };
        let state = Mutex::new(State { session: None, refresh, unkept: None, refused: None });
        Auth(Arc::new(Logins { settings, http, state, running: TaskTracker::new() }))
    }

    /// The present session, or a new one.
    pub async fn session(&self) -> Result<Arc<Session>> {
        self.other_than(None).await
    }

    /// A session in place of one that the org no longer takes.
    pub async fn renew(&self, dead: &Session) -> Result<Arc<Session>> {
        self.other_than(Some(dead.token.clone())).await
    }

    async fn other_than(&self, dead: Option<SecretText>) -> Result<Arc<Session>> {
        let logins = Arc::clone(&self.0);
        let task = self.0.running.spawn(async move {
            let mut state = logins.state.lock().await;
            match &state.session {
                Some(session) if dead.as_ref() != Some(&session.token) => Ok(Arc::clone(session)),
                _ => {
                    state.session = None;
                    logins.login(&mut state).await
                }
            }
        });
        task.await.map_err(|error| Error::new(Code::Internal, "a login came to no end").because(error))?
    }
}

impl Logins {
    async fn login(&self, state: &mut State) -> Result<Arc<Session>> {
        if let Some(refused) = state.refused.as_ref().filter(|refused| Instant::now() < refused.until) {
            return Err(refused.error.clone());
        }
        if state.refresh.is_some() && self.settings.keeper.is_none() {
            let message = "a refresh token is not used where its successor cannot be kept: ask through `concord run`";
            return Err(Error::new(Code::Unsupported, message).at(self.settings.system.clone()));
        }
        self.keep(state).await?;
        let answer = self.ask(state).await?;
        let granted = match self.read(&answer) {
            Ok(granted) => granted,
            Err(error) => {
                if error.code == Code::AuthenticationFailed {
                    let last = state.refused.as_ref().map(|refused| refused.wait.saturating_mul(2));
                    let wait = last.unwrap_or(REFUSED_WAIT).min(REFUSED_WAIT_MAX);
                    state.refused = Some(Refused { until: Instant::now() + wait, wait, error: error.clone() });
                }
                return Err(error);
            }
        };
        state.refused = None;
        if let Some(token) = granted.refresh_token.filter(|_| state.refresh.is_some()) {
            let token = SecretText::new(token);
            state.refresh = Some(token.clone());
            state.unkept = Some(token);
        }
        let instance_url =
            granted.instance_url.map_or_else(|| self.settings.instance_url.clone(), |url| url.trim_end_matches('/').to_owned());
        if !is_guarded(&instance_url) {
            let message = "the login sends us to an address where what is sent could be read on the way";
            return Err(Error::new(Code::TlsFailed, message).at(self.settings.system.clone()));
        }
        let session = Arc::new(Session {
            org: organisation(&granted.access_token, granted.id.as_deref()),
            user: granted.id.as_deref().and_then(|address| address.rsplit('/').next()).filter(|id| is_id(id)).map(full),
            instance_url,
            token: SecretText::new(granted.access_token),
        });
        // Not used before the token is durable; where that fails the next call tries to keep it first.
        self.keep(state).await?;
        state.session = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Makes a rotated token durable.
    async fn keep(&self, state: &mut State) -> Result<()> {
        let Some(token) = &state.unkept else { return Ok(()) };
        if let Some(keeper) = &self.settings.keeper {
            keeper.keep(token).await?;
        }
        state.unkept = None;
        Ok(())
    }

    async fn ask(&self, state: &State) -> Result<Answer> {
        let settings = &self.settings;
        let mut form = vec![("client_id", settings.client_id.clone())];
        match &settings.grant {
            Grant::JwtBearer { username, key } => {
                let now_seconds = SystemClock.now().micros().div_euclid(1_000_000);
                let signed = jwt::assertion(settings.client_id.expose(), username, &settings.login_url, now_seconds, key)?;
                form =
                    vec![("grant_type", SecretText::new("urn:ietf:params:oauth:grant-type:jwt-bearer")), ("assertion", signed)];
            }
            Grant::ClientCredentials { secret } => {
                form.push(("grant_type", SecretText::new("client_credentials")));
                form.push(("client_secret", secret.clone()));
            }
            Grant::Refresh { token, secret } => {
                form.push(("grant_type", SecretText::new("refresh_token")));
                form.push(("refresh_token", state.refresh.clone().unwrap_or_else(|| token.clone())));
                form.extend(secret.clone().map(|secret| ("client_secret", secret)));
            }
        }
        let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.expose())).collect();
        let request = Request::post(format!("{}/services/oauth2/token", settings.login_url))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .body(Full::new(Bytes::from(percent::form(&form))))
            .map_err(|error| Error::new(Code::Internal, "a login could not be written").because(error))?;
        Ok(self.http.exchange(request).await?)
    }

    fn read(&self, answer: &Answer) -> Result<Granted> {
        let at = self.settings.system.clone();
        if answer.status == 200 {
            return serde_json::from_slice(&answer.body)
                .map_err(|_| Error::new(Code::ProtocolViolation, "the answer to the login is none that the flow has").at(at));
        }
        let refusal = refusals(&answer.body).into_iter().next().unwrap_or_default();
        if login_may_recover(answer.status, &refusal.code) {
            return Err(Error::new(Code::Unreachable, format!("the login was not answered: HTTP {}", answer.status)).at(at));
        }
        let mut told = format!("the login was refused: {} ({})", refusal.code, refusal.message);
        if matches!(self.settings.grant, Grant::Refresh { .. }) && refusal.code == "invalid_grant" {
            told.push_str(&format!("; `concord connect {} FILE` asks a person to consent again", self.settings.system));
        }
        Err(Error::new(Code::AuthenticationFailed, told).at(at))
    }
}

/// The org's id: from the identity's address, else from the token, which begins with its short form.
fn organisation(token: &str, identity: Option<&str>) -> String {
    let from_identity = identity.and_then(|address| address.split("/id/").nth(1)?.split('/').next());
    let short = token.split('!').next().unwrap_or_default();
    full(from_identity.unwrap_or(short))
}
