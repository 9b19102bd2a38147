//! How a person lets Concord act in their name: the vendor's web server flow, in its form with a proof key. Asks for what a
//! code is worth; keeps and uses no token. <https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_web_server_flow.htm>

use super::auth::organisation;
use super::config::{Login, Way};
use super::errors::{login_may_recover, refusals};
use super::http::{Answer, Http};
use super::ids::{full, is_id};
use crate::consent::{Application, Exchange, Granted, Proof, told};
use crate::percent;
use crate::settings::Asked;
use bytes::Bytes;
use concord_engine::config::{Secret, SecretText};
use concord_engine::error::{Code, Error, Result};
use futures_util::future::BoxFuture;
use http::Request;
use http_body_util::Full;
use serde::Deserialize;

/// What is asked for where the configuration does not say: calls of the API, and a token that outlives the browser.
const SCOPES: [&str; 2] = ["api", "refresh_token"];

/// What a person is asked for this connection; an error where its credentials need nobody's consent.
pub fn application(asked: &Asked<'_>) -> Result<Application> {
    let credentials = &asked.connection.credentials;
    let keep_as = match (Way::of(asked), &credentials.refresh_token) {
        (Way::Refresh, Some(Secret::Stored(name))) => name.clone(),
        (Way::Refresh, Some(elsewhere)) => {
            let message = format!("credentials.refresh_token is in the {elsewhere}, where nothing can be kept: {}", write(asked));
            return Err(asked.error(Code::ConfigContradiction, message));
        }
        (Way::Nothing, _) | (Way::Refresh, None) => {
            return Err(asked.error(Code::ConfigMissing, format!("credentials.refresh_token is missing: {}", write(asked))));
        }
        (way @ (Way::PrivateKey | Way::ClientSecret), _) => {
            let by = if way == Way::PrivateKey { "private key" } else { "client secret" };
            let message = format!("`{}` logs in by its {by}: nobody has to consent", asked.name);
            return Err(Error::new(Code::NothingToConnect, message).at(asked.name.to_string()));
        }
    };
    let login = Login::read(asked)?;
    let http = Http::new(login.authorities.as_deref(), login.timeout)?;
    let scopes = match credentials.scopes.as_slice() {
        [] => SCOPES.map(str::to_owned).to_vec(),
        written => written.to_vec(),
    };
    let secret = asked.secret(credentials.client_secret.as_ref())?;
    Ok(Application {
        page: format!("{}/services/oauth2/authorize", login.url),
        client_id: login.client_id.clone(),
        scopes,
        keep_as,
        exchange: Box::new(Codes { system: asked.name.to_string(), login, http, secret }),
    })
}

/// What to write.
fn write(asked: &Asked<'_>) -> String {
    format!("write {{\"secret\": \"{}_refresh_token\"}}, or another name", asked.name)
}

/// Makes tokens of codes.
struct Codes {
    system: String,
    login: Login,
    http: Http,
    secret: Option<SecretText>,
}

#[derive(Deserialize)]
struct Tokens {
    access_token: Option<String>,
    refresh_token: Option<String>,
    instance_url: Option<String>,
    id: Option<String>,
}

impl Exchange for Codes {
    fn exchange<'a>(&'a self, proof: &'a Proof) -> BoxFuture<'a, Result<Granted>> {
        Box::pin(async move {
            let mut form = vec![
                ("grant_type", "authorization_code"),
                ("code", proof.code.expose()),
                ("client_id", self.login.client_id.expose()),
                ("redirect_uri", &proof.redirect),
                ("code_verifier", proof.verifier.expose()),
            ];
            form.extend(self.secret.as_ref().map(|secret| ("client_secret", secret.expose())));
            let request = Request::post(format!("{}/services/oauth2/token", self.login.url))
                .header("content-type", "application/x-www-form-urlencoded")
                .header("accept", "application/json")
                .body(Full::new(Bytes::from(percent::form(&form))))
                .map_err(|error| Error::new(Code::Internal, "the exchange of a code could not be written").because(error))?;
            let answer = self.http.exchange(request).await.map_err(|failure| failure.error.at(self.system.clone()))?;
            read(&answer).map_err(|error| error.at(self.system.clone()))
        })
    }
}

fn read(answer: &Answer) -> Result<Granted> {
    if answer.status != 200 {
        return Err(refused(answer));
    }
    let tokens: Tokens = serde_json::from_slice(&answer.body)
        .map_err(|_| Error::new(Code::ProtocolViolation, "the answer to the code is none that the flow has"))?;
    let Some(refresh_token) = tokens.refresh_token.filter(|token| !token.is_empty()) else {
        let message = "no refresh token came with the consent: the connected app needs the scope refresh_token";
        return Err(Error::new(Code::ConsentRefused, message));
    };
    let user = tokens.id.as_deref().and_then(|address| address.rsplit('/').next()).filter(|id| is_id(id)).map(full);
    let instance_url = tokens.instance_url.map(|url| url.trim_end_matches('/').to_owned());
    let account = organisation(tokens.access_token.as_deref().unwrap_or_default(), tokens.id.as_deref());
    Ok(Granted { refresh_token: SecretText::new(refresh_token), instance_url, account, user })
}

fn refused(answer: &Answer) -> Error {
    let refusal = refusals(&answer.body).into_iter().next().unwrap_or_default();
    if login_may_recover(answer.status, &refusal.code) {
        return Error::new(Code::Unreachable, format!("the code was not taken: HTTP {}", answer.status));
    }
    let told = told(&refusal.code, &refusal.message);
    match refusal.code.as_str() {
        "invalid_client" | "invalid_client_id" => Error::new(Code::AuthenticationFailed, format!("the app is not known: {told}")),
        _ => Error::new(Code::ConsentRefused, format!("the code was not taken: {told}")),
    }
}
