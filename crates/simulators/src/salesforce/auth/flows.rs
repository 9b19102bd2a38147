//! The endpoints under /services/oauth2: token, authorize, revoke, introspect, userinfo, and the identity page.

use super::{App, CODE_MS, Code, Grant, jwt};
use crate::net::http::{Answer, Request, encode, parameters};
use crate::salesforce::ids::Id;
use crate::salesforce::org::Org;
use crate::salesforce::state::State;
use crate::salesforce::values::Value;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value as Json, json};

/// Longest time that a JWT may still be valid.
const JWT_MS_MAX: i64 = 5 * 60_000;

struct Form(Vec<(String, String)>);

impl Form {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

struct Refusal(&'static str, &'static str);

/// Answers a request under /services/oauth2 or /id.
pub fn handle(org: &Org, request: &Request) -> Answer {
    let state = &mut *org.state();
    let form = Form(if request.method == "POST" {
        parameters(&String::from_utf8_lossy(&request.body)).into_iter().chain(parameters(&request.query)).collect()
    } else {
        parameters(&request.query)
    });
    match request.path.trim_end_matches('/') {
        "/services/oauth2/token" if request.method == "POST" => match token(org, state, request, &form) {
            Ok(body) => Answer::json(200, &body),
            Err(Refusal(error, words)) => Answer::json(400, &json!({"error": error, "error_description": words})),
        },
        "/services/oauth2/authorize" => authorize(org, state, &form),
        "/services/oauth2/revoke" => {
            let token = form.get("token").unwrap_or("");
            state.auth.refresh.remove(token);
            state.auth.end_session(token);
            Answer::empty(200)
        }
        "/services/oauth2/introspect" => {
            let token = form.get("token").unwrap_or("").to_string();
            match state.auth.session(&token, org.clock.now_ms()) {
                Some(caller) => Answer::json(
                    200,
                    &json!({"active": true, "client_id": caller.app, "token_type": "access_token",
                    "sub": format!("https://login.salesforce.com/id/{}/{}", org.id, caller.user)}),
                ),
                None => Answer::json(200, &json!({"active": false})),
            }
        }
        _ => userinfo(org, state, request),
    }
}

/// A session of a user without any flow, for tests.
pub fn token_for_test(org: &Org, username: &str) -> Option<String> {
    let state = &mut *org.state();
    let user = user(state, username)?;
    let now_ms = org.clock.now_ms();
    Some(state.auth.open_session(&org.id, user, "test", now_ms, &mut state.chance))
}

fn userinfo(org: &Org, state: &mut State, request: &Request) -> Answer {
    let token = request.header("authorization").and_then(|header| header.split_once(' ')).map_or("", |(_, token)| token);
    let Some(caller) = state.auth.session(token, org.clock.now_ms()) else {
        return Answer::of(403, "text/plain", "Bad_OAuth_Token");
    };
    let record = state.data.store.get("User", &caller.user).cloned();
    let text = |name: &str| {
        let place = state.data.schema.object("User").and_then(|object| object.field(name)).map(|(at, _)| at);
        place.and_then(|at| record.as_ref()?.get(at).as_text().map(String::from)).unwrap_or_default()
    };
    let url = instance_url(org, request);
    Answer::json(
        200,
        &json!({
            "sub": format!("{url}/id/{}/{}", org.id, caller.user), "id": format!("{url}/id/{}/{}", org.id, caller.user),
            "user_id": caller.user.to_string(), "organization_id": org.id.to_string(), "preferred_username": text("Username"),
            "username": text("Username"), "name": text("Name"), "display_name": text("Name"), "email": text("Email"),
            "active": true, "user_type": "STANDARD", "language": "en_US", "locale": "en_US",
            "urls": {"rest": format!("{url}/services/data/v{{version}}/"), "query": format!("{url}/services/data/v{{version}}/query/"),
                "sobjects": format!("{url}/services/data/v{{version}}/sobjects/")}
        }),
    )
}

/// Where data calls go: the My Domain host for the vendor's own hosts, the same address for loopback.
fn instance_url(org: &Org, request: &Request) -> String {
    if request.host.ends_with("salesforce.com") {
        return format!("https://{}", org.options.my_domain);
    }
    format!("{}://{}", if request.secure { "https" } else { "http" }, request.host)
}

fn token(org: &Org, state: &mut State, request: &Request, form: &Form) -> Result<Map<String, Json>, Refusal> {
    match form.get("grant_type").unwrap_or("") {
        "urn:ietf:params:oauth:grant-type:jwt-bearer" => jwt_bearer(org, state, request, form),
        "client_credentials" => {
            let app = known_app(state, request, form)?;
            if matches!(request.host.as_str(), "login.salesforce.com" | "test.salesforce.com") {
                return Err(Refusal("invalid_grant", "request not supported on this domain"));
            }
            let user = user(state, &app.username).ok_or(Refusal("invalid_grant", "no client credentials user enabled"))?;
            Ok(granted(org, state, request, user, &app, "api"))
        }
        "password" => {
            let app = known_app(state, request, form)?;
            let user = form.get("username").and_then(|name| user(state, name));
            let user = user.ok_or(Refusal("invalid_grant", "authentication failure"))?;
            Ok(granted(org, state, request, user, &app, "api"))
        }
        "refresh_token" => refresh(org, state, request, form),
        "authorization_code" => code(org, state, request, form),
        _ => Err(Refusal("unsupported_grant_type", "grant type not supported")),
    }
}

fn refresh(org: &Org, state: &mut State, request: &Request, form: &Form) -> Result<Map<String, Json>, Refusal> {
    let app = known_app_without_secret(state, form)?;
    let token = form.get("refresh_token").unwrap_or("");
    let grant = state.auth.refresh.get(token).filter(|grant| grant.app == app.client_id).cloned();
    let grant = grant.ok_or(Refusal("invalid_grant", "expired access/refresh token"))?;
    let mut body = granted(org, state, request, grant.user, &app, &grant.scope);
    if app.rotate {
        state.auth.refresh.remove(token);
        let new = state.auth.new_refresh(grant, &mut state.chance);
        body.insert("refresh_token".into(), json!(new));
    }
    Ok(body)
}

fn code(org: &Org, state: &mut State, request: &Request, form: &Form) -> Result<Map<String, Json>, Refusal> {
    let app = known_app_without_secret(state, form)?;
    let code = state.auth.codes.remove(form.get("code").unwrap_or(""));
    let code = code.ok_or(Refusal("invalid_grant", "invalid authorization code"))?;
    if org.clock.now_ms() - code.made_ms > CODE_MS {
        return Err(Refusal("invalid_grant", "expired authorization code"));
    }
    if form.get("redirect_uri") != Some(&code.redirect_uri) {
        return Err(Refusal("redirect_uri_mismatch", "redirect_uri must match configuration"));
    }
    if let Some(challenge) = &code.challenge {
        let verifier = form.get("code_verifier").unwrap_or("");
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
        if URL_SAFE_NO_PAD.encode(digest) != *challenge {
            return Err(Refusal("invalid_grant", "invalid code verifier"));
        }
    } else if form.get("client_secret") != Some(&app.client_secret) {
        return Err(Refusal("invalid_client", "invalid client credentials"));
    }
    let mut body = granted(org, state, request, code.grant.user, &app, &code.grant.scope);
    if code.grant.scope.split(' ').any(|scope| scope == "refresh_token" || scope == "offline_access") {
        let token = state.auth.new_refresh(code.grant, &mut state.chance);
        body.insert("refresh_token".into(), json!(token));
    }
    Ok(body)
}

fn jwt_bearer(org: &Org, state: &mut State, request: &Request, form: &Form) -> Result<Map<String, Json>, Refusal> {
    let assertion = form.get("assertion").unwrap_or("");
    let claims = jwt::claims(assertion).ok_or(Refusal("invalid_grant", "invalid assertion"))?;
    let app = state.auth.app(&claims.issuer).ok_or(Refusal("invalid_client_id", "client identifier invalid"))?;
    let known = |audience: &String| {
        let host = audience.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
        ["login.salesforce.com", "test.salesforce.com", &org.options.my_domain, &request.host].contains(&host)
    };
    if !claims.audience.iter().any(known) {
        return Err(Refusal("invalid_grant", "audience is invalid"));
    }
    let left_ms = claims.expires_s.saturating_mul(1_000) - org.clock.now_ms();
    if !(0..=JWT_MS_MAX).contains(&left_ms) {
        return Err(Refusal("invalid_grant", "expired authorization code"));
    }
    if !app.public_key.as_ref().is_some_and(|key| jwt::signed(assertion, key)) {
        return Err(Refusal("invalid_grant", "invalid assertion"));
    }
    let user = user(state, &claims.subject).ok_or(Refusal("invalid_grant", "user hasn't approved this consumer"))?;
    if app.unapproved {
        return Err(Refusal("invalid_grant", "user hasn't approved this consumer"));
    }
    Ok(granted(org, state, request, user, &app, "api"))
}

fn granted(org: &Org, state: &mut State, request: &Request, user: Id, app: &App, scope: &str) -> Map<String, Json> {
    let now_ms = org.clock.now_ms();
    let token = state.auth.open_session(&org.id, user, &app.client_id, now_ms, &mut state.chance);
    let identity_host = if request.host.ends_with("salesforce.com") {
        "https://login.salesforce.com".to_string()
    } else {
        instance_url(org, request)
    };
    let identity = format!("{identity_host}/id/{}/{user}", org.id);
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, app.client_secret.as_bytes());
    let signature = aws_lc_rs::hmac::sign(&key, format!("{identity}{now_ms}").as_bytes());
    let body = json!({
        "access_token": token, "instance_url": instance_url(org, request), "id": identity, "token_type": "Bearer",
        "scope": scope, "issued_at": now_ms.to_string(), "signature": STANDARD.encode(signature.as_ref())
    });
    match body {
        Json::Object(body) => body,
        _ => Map::new(),
    }
}

/// The app, its secret proven: in the body or as HTTP Basic.
fn known_app(state: &State, request: &Request, form: &Form) -> Result<App, Refusal> {
    let basic = request.header("authorization").and_then(|header| header.strip_prefix("Basic "));
    let basic = basic.and_then(|text| String::from_utf8(STANDARD.decode(text.trim()).ok()?).ok());
    let (client_id, secret) = match &basic {
        Some(pair) => pair.split_once(':').unwrap_or((pair, "")),
        None => (form.get("client_id").unwrap_or(""), form.get("client_secret").unwrap_or("")),
    };
    let app = state.auth.app(client_id).ok_or(Refusal("invalid_client_id", "client identifier invalid"))?;
    if app.client_secret != secret {
        return Err(Refusal("invalid_client", "invalid client credentials"));
    }
    Ok(app)
}

/// The app; a secret that is given must be right.
fn known_app_without_secret(state: &State, form: &Form) -> Result<App, Refusal> {
    let app = state.auth.app(form.get("client_id").unwrap_or(""));
    let app = app.ok_or(Refusal("invalid_client_id", "client identifier invalid"))?;
    match form.get("client_secret") {
        Some(secret) if secret != app.client_secret => Err(Refusal("invalid_client", "invalid client credentials")),
        _ => Ok(app),
    }
}

/// The page on which a person approves or denies. What is wrong with the app's question is shown there; everything else goes
/// back to the app by way of the browser.
fn authorize(org: &Org, state: &mut State, form: &Form) -> Answer {
    let refuse = |error: &str, words: &str| Answer::json(400, &json!({"error": error, "error_description": words}));
    let Some(app) = state.auth.app(form.get("client_id").unwrap_or("")) else {
        return refuse("invalid_client_id", "client identifier invalid");
    };
    if form.get("response_type") != Some("code") {
        return refuse("unsupported_response_type", "response type not supported");
    }
    let Some(redirect_uri) = form.get("redirect_uri") else {
        return refuse("redirect_uri_missing", "redirect_uri not provided");
    };
    if !app.callbacks.is_empty() && !app.callbacks.iter().any(|allowed| allowed == redirect_uri) {
        return refuse("redirect_uri_mismatch", "redirect_uri must match configuration");
    }
    if form.get("code_challenge").is_some() && form.get("code_challenge_method").is_some_and(|method| method != "S256") {
        return refuse("invalid_request", "code challenge method must be S256");
    }
    let back = |answer: &[(&str, &str)]| {
        let answer: Vec<String> = answer.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let joint = if redirect_uri.contains('?') { '&' } else { '?' };
        Answer::empty(302).with("Location", format!("{redirect_uri}{joint}{}", answer.join("&")))
    };
    let echoed = form.get("state").map(|state| ("state", state));
    let user = if state.auth.denies { None } else { user(state, &app.username) };
    let Some(user) = user else {
        let denied = [("error", "access_denied"), ("error_description", "end-user denied authorization")];
        return back(&denied.into_iter().chain(echoed).collect::<Vec<_>>());
    };
    let scope = form.get("scope").unwrap_or("api").to_string();
    let code = format!("aPrx{}", state.chance.token(60));
    state.auth.codes.insert(
        code.clone(),
        Code {
            grant: Grant { user, app: app.client_id, scope },
            redirect_uri: redirect_uri.to_string(),
            challenge: form.get("code_challenge").map(String::from),
            made_ms: org.clock.now_ms(),
        },
    );
    back(&[("code", code.as_str())].into_iter().chain(echoed).collect::<Vec<_>>())
}

/// An active user by name.
fn user(state: &State, username: &str) -> Option<Id> {
    let object = state.data.schema.object("User")?;
    let (at, _) = object.field("Username")?;
    let (active, _) = object.field("IsActive")?;
    let table = state.data.store.table("User")?;
    let id = *table.find(at, &username.to_lowercase()).first()?;
    (*table.get(&id)?.get(active) == Value::Bool(true)).then_some(id)
}
