//! Sessions: how one is got, kept and renewed. One login at a time; a login that was refused is not tried again until a
//! while has passed, for a person must act; a rotated refresh token is durable before anything is done with it, and never
//! takes the place of one that a person has given meanwhile. A login for another org than the one that is known is none.

use super::config::{Grant, SalesforceSettings, TokenKeeper, is_guarded};
use super::errors::{login_may_recover, refusals};
use super::http::{Answer, Http};
use super::ids::{full, is_id};
use super::jwt;
use crate::keeping::Acting;
use crate::percent;
use bytes::Bytes;
use concord_engine::clock::{Clock, Moment, SystemClock};
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
/// How often in a row a login begins anew with a token that somebody has kept in the middle of it.
const ANEW_MAX: usize = 4;

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
    /// The token that `refresh` succeeds, while that is not durable yet: nothing is done before it is.
    unkept_after: Option<SecretText>,
    /// What the keeper's number was when its token was last looked at.
    given: u64,
    refused: Option<Refused>,
    /// In whose name we have acted.
    acting: Option<Acting>,
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
        let state = Mutex::new(State { session: None, refresh, unkept_after: None, given: 0, refused: None, acting: None });
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

    /// Everybody as whom we have acted since a moment, the present one last; `None` where that is not known.
    pub async fn users_since(&self, since: Moment) -> Result<Option<Vec<String>>> {
        self.session().await?;
        Ok(self.0.state.lock().await.acting.as_ref().and_then(|acting| acting.users_since(since)))
    }

    /// How many consents were given when somebody begins to wait for another one.
    pub fn consents(&self) -> u64 {
        self.0.settings.keeper.as_ref().map_or(0, TokenKeeper::given)
    }

    /// Waits for a consent beyond those that were seen, and logs in by it: also where nothing happens that would need a call.
    /// Never ends where nobody is asked to consent. Dropping the call loses nothing.
    pub async fn consented_anew(&self, seen: &mut u64) -> Result<()> {
        let Some(keeper) = &self.0.settings.keeper else { return std::future::pending().await };
        keeper.given_other_than(*seen).await;
        *seen = keeper.given();
        self.session().await.map(drop)
    }

    async fn other_than(&self, dead: Option<SecretText>) -> Result<Arc<Session>> {
        let logins = Arc::clone(&self.0);
        let task = self.0.running.spawn(async move {
            let mut state = logins.state.lock().await;
            if logins.was_given(&state) {
                match logins.take_up(&mut state).await {
                    Ok(true) => state.session = None,
                    Ok(false) => {}
                    // What was given cannot be read, perhaps: a session that still works goes on.
                    Err(error) if dead.is_none() && state.session.is_some() => {
                        tracing::warn!(system = %logins.settings.system, error = error.chain(), "a new consent cannot be used");
                    }
                    Err(error) => return Err(error),
                }
            }
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
        for _ in 0..ANEW_MAX {
            if let Some(session) = self.try_login(state).await? {
                return Ok(session);
            }
        }
        let message = "the refresh token was replaced again and again while it was used";
        Err(Error::new(Code::Busy, message).at(self.settings.system.clone()))
    }

    /// One login; `None` where somebody has kept another token meanwhile, which is then the one to use.
    async fn try_login(&self, state: &mut State) -> Result<Option<Arc<Session>>> {
        if state.refresh.is_some() && self.settings.keeper.is_none() {
            let message = "the refresh token is good for one use, and `concord run` uses it: nothing was asked";
            return Err(Error::new(Code::HostedTokenInUse, message).at(self.settings.system.clone()));
        }
        if !self.keep(state).await? {
            return Ok(None);
        }
        self.take_up(state).await?;
        if let Some(refused) = state.refused.as_ref().filter(|refused| Instant::now() < refused.until) {
            return Err(refused.error.clone());
        }
        let began = SystemClock.now();
        let answer = self.ask(state).await?;
        let granted = match self.read(&answer) {
            Ok(granted) => granted,
            Err(error) if error.code != Code::AuthenticationFailed => return Err(error),
            // Somebody who has the same token in mind has used it up, and kept its successor.
            Err(_) if self.take_up(state).await? => return Ok(None),
            Err(error) => {
                state.refuse(&error);
                return Err(error);
            }
        };
        if let (Some(token), Some(old)) = (granted.refresh_token, state.refresh.clone()) {
            state.refresh = Some(SecretText::new(token));
            state.unkept_after = Some(old);
        }
        let instance_url =
            granted.instance_url.map_or_else(|| self.settings.instance_url.clone(), |url| url.trim_end_matches('/').to_owned());
        // Not used before the token is durable; where that fails the next call tries to keep it first.
        if !self.keep(state).await? {
            return Ok(None);
        }
        if !is_guarded(&instance_url) {
            let message = "the login sends us to an address where what is sent could be read on the way";
            return Err(Error::new(Code::TlsFailed, message).at(self.settings.system.clone()));
        }
        let Some(org) = organisation(&granted.access_token, granted.id.as_deref()) else {
            let message = "the answer to the login does not say for which org it is";
            return Err(Error::new(Code::ProtocolViolation, message).at(self.settings.system.clone()));
        };
        let session = Arc::new(Session {
            org,
            user: granted.id.as_deref().and_then(|address| address.rsplit('/').next()).filter(|id| is_id(id)).map(full),
            instance_url,
            token: SecretText::new(granted.access_token),
        });
        if let Err(error) = self.recognise(state, &session, began).await {
            if error.code == Code::HostedOtherAccount {
                state.refuse(&error);
            }
            return Err(error);
        }
        state.refused = None;
        state.session = Some(Arc::clone(&session));
        Ok(Some(session))
    }

    /// Whether the session is for the org that is known: the one of the first login, which was of the configured instance. An
    /// instance may get another address later. As whom we act from now on is durable before anything is done.
    async fn recognise(&self, state: &mut State, session: &Session, began: Moment) -> Result<()> {
        let settings = &self.settings;
        let known = match &settings.keep {
            Some(keep) => keep.acting(&settings.system).await?,
            None => state.acting.clone(),
        };
        let other = |message: String| Err(Error::new(Code::HostedOtherAccount, message).at(settings.system.clone()));
        let (given, org) = (&session.instance_url, &session.org);
        let mut acting = match known {
            Some(known) if known.account != *org => {
                let message = format!("the login is for the org {org} ({given}), and this store works with the org");
                return other(format!("{message} {}: nothing was asked of it", known.account));
            }
            None if !given.eq_ignore_ascii_case(&settings.instance_url) => {
                let message = format!("the login is for {given}, and the configuration names {}", settings.instance_url);
                return other(format!("{message}: nothing was asked of it"));
            }
            Some(known) => known,
            None => Acting::new(org.clone()),
        };
        if acting.act_as(session.user.as_deref(), began)
            && let Some(keep) = settings.keep.as_ref().filter(|keep| keep.can_keep())
        {
            keep.keep_acting(&settings.system, &acting).await?;
        }
        state.acting = Some(acting);
        Ok(())
    }

    /// Makes a rotated token durable. `false` where somebody has kept another one meanwhile: that one is ours from now on.
    async fn keep(&self, state: &mut State) -> Result<bool> {
        let (Some(old), Some(new), Some(keeper)) = (&state.unkept_after, &state.refresh, &self.settings.keeper) else {
            return Ok(true);
        };
        let other = keeper.succeed(old, new).await?;
        state.unkept_after = None;
        let was_kept = other.is_none();
        if let Some(other) = other {
            state.use_from_now_on(other);
        }
        Ok(was_kept)
    }

    /// Whether somebody has kept a secret since we last looked.
    fn was_given(&self, state: &State) -> bool {
        self.settings.keeper.as_ref().is_some_and(|keeper| keeper.given() != state.given)
    }

    /// Takes up the token that is kept, where it is another one than ours; whether it is.
    async fn take_up(&self, state: &mut State) -> Result<bool> {
        // What is ours and not durable yet is kept first, or gives way.
        if state.unkept_after.is_some() {
            return self.keep(state).await.map(|was_kept| !was_kept);
        }
        let Some(keeper) = &self.settings.keeper else { return Ok(false) };
        let given = keeper.given();
        let kept = keeper.newest().await?.filter(|kept| state.refresh.as_ref() != Some(kept));
        state.given = given;
        let is_another = kept.is_some();
        if let Some(kept) = kept {
            state.use_from_now_on(kept);
        }
        Ok(is_another)
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

impl State {
    /// Another token than the one that we had in mind: what was refused says nothing of it.
    fn use_from_now_on(&mut self, token: SecretText) {
        self.refresh = Some(token);
        self.refused = None;
    }

    /// The login is left alone for a while.
    fn refuse(&mut self, error: &Error) {
        let last = self.refused.as_ref().map(|refused| refused.wait.saturating_mul(2));
        let wait = last.unwrap_or(REFUSED_WAIT).min(REFUSED_WAIT_MAX);
        self.refused = Some(Refused { until: Instant::now() + wait, wait, error: error.clone() });
    }
}

/// The org's id: from the identity's address, else from the token, which begins with its short form.
pub(super) fn organisation(token: &str, identity: Option<&str>) -> Option<String> {
    let from_identity = identity.and_then(|address| address.split("/id/").nth(1)?.split('/').next());
    let short = token.split('!').next();
    [from_identity, short].into_iter().flatten().find(|id| is_id(id)).map(full)
}
