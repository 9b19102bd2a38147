//! Who may talk to the org: connected apps, sessions, refresh tokens, codes. Owns the tokens; the flows are beside this
//! file. Sessions end two hours after their last use.

mod flows;
mod jwt;

pub use flows::{handle, token_for_test};

use super::ids::Id;
use crate::chance::Chance;
use serde::Deserialize;
use std::collections::HashMap;

/// A session ends so long after its last use.
const SESSION_IDLE_MS: i64 = 2 * 3_600_000;
/// A code can be exchanged for so long.
const CODE_MS: i64 = 15 * 60_000;

/// A connected app.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    pub client_id: String,
    pub client_secret: String,
    /// The user of client credentials, and of approvals.
    pub username: String,
    /// Public key or certificate that signs JWTs, as PEM.
    #[serde(default)]
    pub public_key: Option<String>,
    /// Every refresh gives a new refresh token and ends the old one.
    #[serde(default)]
    pub rotate: bool,
    /// Users who have not approved the app cannot use JWTs.
    #[serde(default)]
    pub unapproved: bool,
    /// Where browsers may be sent back to, letter by letter; none given: anywhere.
    #[serde(default)]
    pub callbacks: Vec<String>,
}

/// Apps, sessions, tokens.
#[derive(Debug, Default)]
pub struct Auth {
    pub apps: Vec<App>,
    /// What the person answers who is asked to approve an app.
    pub denies: bool,
    sessions: HashMap<String, Session>,
    refresh: HashMap<String, Grant>,
    codes: HashMap<String, Code>,
}

#[derive(Clone, Debug)]
struct Session {
    user: Id,
    app: String,
    used_ms: i64,
}

#[derive(Clone, Debug)]
struct Grant {
    user: Id,
    app: String,
    scope: String,
}

#[derive(Clone, Debug)]
struct Code {
    grant: Grant,
    redirect_uri: String,
    challenge: Option<String>,
    made_ms: i64,
}

/// Who is calling.
#[derive(Clone, Debug)]
pub struct Caller {
    pub user: Id,
    pub app: String,
}

impl Auth {
    /// Apps without sessions.
    pub fn new(apps: Vec<App>) -> Self {
        Self { apps, ..Self::default() }
    }

    /// A new session of a user: its access token.
    pub fn open_session(&mut self, org: &Id, user: Id, app: &str, now_ms: i64, chance: &mut Chance) -> String {
        let token = format!("{}!AQ{}.{}", org.short(), chance.token(70), chance.token(20));
        self.sessions.insert(token.clone(), Session { user, app: app.to_string(), used_ms: now_ms });
        token
    }

    /// Whose session this is; using it keeps it alive.
    pub fn session(&mut self, token: &str, now_ms: i64) -> Option<Caller> {
        let session = self.sessions.get_mut(token)?;
        if now_ms - session.used_ms > SESSION_IDLE_MS {
            self.sessions.remove(token);
            return None;
        }
        session.used_ms = now_ms;
        Some(Caller { user: session.user, app: session.app.clone() })
    }

    /// Ends a session.
    pub fn end_session(&mut self, token: &str) {
        self.sessions.remove(token);
    }

    /// Ends every session.
    pub fn end_all_sessions(&mut self) {
        self.sessions.clear();
    }

    fn new_refresh(&mut self, grant: Grant, chance: &mut Chance) -> String {
        let token = format!("5Aep861{}", chance.token(80));
        self.refresh.insert(token.clone(), grant);
        token
    }

    /// Ends every refresh token: the user took the approval back.
    pub fn end_all_grants(&mut self) {
        self.refresh.clear();
        self.end_all_sessions();
    }

    fn app(&self, client_id: &str) -> Option<App> {
        self.apps.iter().find(|app| app.client_id == client_id).cloned()
    }
}
