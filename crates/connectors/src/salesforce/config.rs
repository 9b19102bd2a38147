//! What a Salesforce connection needs to know, read from the configuration; secrets stay in their keeping. Decides which
//! OAuth flow is used from what is given, and asks nothing of the system.

use super::behind::LOOK_EVERY;
use super::stream::SILENT_MAX;
use super::undelivered::TRY_AGAIN;
use crate::keeping::Keep;
use crate::settings::Asked;
use concord_engine::config::{ChangeDetection, Secret, SecretText};
use concord_engine::error::{Code, Result};
use concord_engine::value::to_hex;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The version of the API that is spoken where the configuration names none.
pub const API_VERSION_DEFAULT: &str = "65.0";
/// Where change events are subscribed to.
pub const PUBSUB_URL_DEFAULT: &str = "https://api.pubsub.salesforce.com:7443";
/// How long one call may take.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// Objects with more records than this are first read through Bulk API.
pub const BULK_ABOVE_DEFAULT: u64 = 2_000;
/// How often an object is polled where no sync says so.
pub const POLL_EVERY_DEFAULT: Duration = Duration::from_secs(60);
/// How long the org may still be at a call whose answer was lost.
pub const SETTLE_DEFAULT: Duration = Duration::from_secs(120);
const OPTIONS: &[&str] = &["api_version", "events", "pubsub_url", "timeout_ms", "bulk_above", "settle_ms", "external_ids"];

/// How a session is got.
#[derive(Clone)]
pub enum Grant {
    /// A signed assertion of who we are, without a secret that could be sent.
    JwtBearer {
        /// The user that we act as.
        username: String,
        /// The private key (PEM) whose certificate the connected app has.
        key: SecretText,
    },
    /// The connected app acts as the user that it is bound to.
    ClientCredentials {
        /// The app's secret.
        secret: SecretText,
    },
    /// A person has approved once; every use may bring a new token.
    Refresh {
        /// The newest token.
        token: SecretText,
        /// The app's secret, where it has one.
        secret: Option<SecretText>,
    },
}

/// Keeps a rotated token, so that the next run has it.
#[derive(Clone)]
pub struct TokenKeeper {
    keep: Arc<dyn Keep>,
    name: String,
    /// What stands before the token in keeping: which configured token it descends from.
    prefix: String,
}

impl TokenKeeper {
    /// Another number than before when somebody has kept a token since, which may be this one.
    pub fn given(&self) -> u64 {
        self.keep.given()
    }

    /// Ends when that is another number than this one.
    pub async fn given_other_than(&self, seen: u64) {
        self.keep.given_other_than(seen).await;
    }

    /// The token that is kept, where it descends from the configured one.
    pub async fn newest(&self) -> Result<Option<SecretText>> {
        Ok(self.keep.secret(&self.name).await?.and_then(|kept| self.token(&kept)))
    }

    /// Makes a token durable in place of the one that it succeeds. Where another one is kept by now (somebody has consented
    /// anew) that one stays, and is given back.
    pub async fn succeed(&self, old: &SecretText, new: &SecretText) -> Result<Option<SecretText>> {
        let kept = SecretText::new(format!("{}{}", self.prefix, new.expose()));
        loop {
            let seen = self.keep.secret(&self.name).await?;
            match seen.as_ref().and_then(|seen| self.token(seen)) {
                Some(other) if other == *new => return Ok(None),
                Some(other) if other != *old => return Ok(Some(other)),
                _ if self.keep.succeed(&self.name, seen.as_ref(), &kept).await? => return Ok(None),
                // Somebody has kept another one in this moment.
                _ => {}
            }
        }
    }

    fn token(&self, kept: &SecretText) -> Option<SecretText> {
        kept.expose().strip_prefix(self.prefix.as_str()).map(SecretText::new)
    }
}

/// Which way change events take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Events {
    /// gRPC; long polling where that is closed.
    Auto,
    /// gRPC alone: the Pub/Sub API.
    Grpc,
    /// Long polling alone: the Streaming API, by CometD.
    LongPolling,
}

/// A connection's settings.
#[derive(Clone)]
pub struct SalesforceSettings {
    /// The name that the user gave the system, for messages.
    pub system: String,
    /// Where the org is, without a slash at its end.
    pub instance_url: String,
    /// Where tokens are asked for.
    pub login_url: String,
    /// Where change events are subscribed to.
    pub pubsub_url: String,
    /// Which way they take.
    pub events: Events,
    /// The API's version, as `65.0`.
    pub api_version: String,
    /// The connected app's consumer key.
    pub client_id: SecretText,
    /// How a session is got.
    pub grant: Grant,
    /// Keeps rotated refresh tokens.
    pub keeper: Option<TokenKeeper>,
    /// Where it is remembered in whose name we act.
    pub keep: Option<Arc<dyn Keep>>,
    /// A file with further authorities to trust (PEM).
    pub authorities: Option<PathBuf>,
    /// How long one call may take.
    pub timeout: Duration,
    /// Objects with more records than this are first read through Bulk API.
    pub bulk_above: u64,
    /// The share of the org's daily calls that we may use.
    pub daily_quota_share: Option<f64>,
    /// How changes are learnt, where a sync says so.
    pub change_detection: ChangeDetection,
    /// How often it is looked whether events have told of everything.
    pub look_every: Duration,
    /// How long a stream of change events may say nothing before it is opened again.
    pub silent_max: Duration,
    /// How long to wait, where no change events are delivered any more, before it is tried again.
    pub deliveries_again: Duration,
    /// How often an object is asked for changes of which no change events come.
    pub poll_every: Duration,
    /// How long the org may still be at a call whose answer was lost.
    pub settle: Duration,
    /// For an object, the unique external id that is filled in when a record is made.
    pub external_ids: BTreeMap<String, String>,
}

/// What every login needs.
#[derive(Clone)]
pub(super) struct Login {
    /// Where tokens are asked for, without a slash at its end.
    pub url: String,
    /// The connected app's consumer key.
    pub client_id: SecretText,
    /// A file with further authorities to trust (PEM).
    pub authorities: Option<PathBuf>,
    /// How long one call may take.
    pub timeout: Duration,
}

impl Login {
    /// Reads what the credentials say of it.
    pub fn read(asked: &Asked<'_>) -> Result<Login> {
        let credentials = &asked.connection.credentials;
        let url = match &credentials.login_url {
            Some(given) => url(asked, "credentials.login_url", given)?,
            None => instance_url(asked)?,
        };
        Ok(Login {
            url,
            client_id: asked.required("client_id", &credentials.client_id)?.resolve(&asked.stored)?,
            authorities: credentials.sslrootcert.as_ref().map(PathBuf::from),
            timeout: asked.milliseconds("timeout_ms", 1_000..=600_000, TIMEOUT_DEFAULT)?,
        })
    }
}

/// Which flow the credentials speak for: the one that needs no secret to travel comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// A signed assertion.
    PrivateKey,
    /// A person's consent.
    Refresh,
    /// The app itself.
    ClientSecret,
    /// Nothing that a login could be made with.
    Nothing,
}

impl Way {
    /// What is written decides, whatever it is worth.
    pub fn of(asked: &Asked<'_>) -> Way {
        let credentials = &asked.connection.credentials;
        if credentials.private_key.is_some() {
            Way::PrivateKey
        } else if credentials.refresh_token.is_some() {
            Way::Refresh
        } else if credentials.client_secret.is_some() {
            Way::ClientSecret
        } else {
            Way::Nothing
        }
    }
}

fn instance_url(asked: &Asked<'_>) -> Result<String> {
    let given = asked.required("instance_url", &asked.connection.credentials.instance_url)?;
    url(asked, "credentials.instance_url", given)
}

impl SalesforceSettings {
    /// Reads the settings of a connection.
    pub fn read(asked: &Asked<'_>) -> Result<SalesforceSettings> {
        asked.only_options(OPTIONS)?;
        let instance_url = instance_url(asked)?;
        let Login { url: login_url, client_id, authorities, timeout } = Login::read(asked)?;
        let (grant, keeper) = grant(asked)?;
        Ok(SalesforceSettings {
            system: asked.name.to_string(),
            instance_url,
            login_url,
            pubsub_url: url(asked, "options.pubsub_url", &text(asked, "pubsub_url", PUBSUB_URL_DEFAULT)?)?,
            events: match text(asked, "events", "auto")?.as_str() {
                "auto" => Events::Auto,
                "grpc" => Events::Grpc,
                "long_polling" => Events::LongPolling,
                _ => {
                    let message = "options.events must be \"auto\", \"grpc\" or \"long_polling\"".to_owned();
                    return Err(asked.error(Code::ConfigUnknownValue, message));
                }
            },
            api_version: version(asked)?,
            client_id,
            grant,
            keeper,
            keep: asked.keep.clone(),
            authorities,
            timeout,
            bulk_above: whole(asked, "bulk_above", BULK_ABOVE_DEFAULT)?,
            daily_quota_share: asked.connection.rate_limit.as_ref().and_then(|limit| limit.daily_quota_share),
            change_detection: asked.changes.how,
            look_every: asked.changes.every.unwrap_or(LOOK_EVERY),
            silent_max: SILENT_MAX,
            deliveries_again: TRY_AGAIN,
            poll_every: asked.changes.every.unwrap_or(POLL_EVERY_DEFAULT),
            settle: asked.milliseconds("settle_ms", 1..=3_600_000, SETTLE_DEFAULT)?,
            external_ids: names(asked, "external_ids")?,
        })
    }

    /// The path of a resource of this version.
    pub fn path(&self, rest: &str) -> String {
        format!("/services/data/v{}/{rest}", self.api_version)
    }
}

fn grant(asked: &Asked<'_>) -> Result<(Grant, Option<TokenKeeper>)> {
    let credentials = &asked.connection.credentials;
    let secret = |given: &Option<Secret>| asked.secret(given.as_ref());
    let missing = |message: &str| asked.error(Code::ConfigMissing, message.to_owned());
    match (Way::of(asked), &credentials.refresh_token) {
        (Way::PrivateKey, _) => {
            let key = secret(&credentials.private_key)?.ok_or_else(|| missing("credentials.private_key is missing"))?;
            let username = asked.required("username", &credentials.username)?.clone();
            Ok((Grant::JwtBearer { username, key }, None))
        }
        (Way::Refresh, Some(reference)) => {
            let (token, keeper) = refresh_token(asked, reference)?;
            Ok((Grant::Refresh { token, secret: secret(&credentials.client_secret)? }, keeper))
        }
        _ => match secret(&credentials.client_secret)? {
            Some(secret) => Ok((Grant::ClientCredentials { secret }, None)),
            None => Err(missing("credentials need a private_key with username, a refresh_token, or a client_secret")),
        },
    }
}

/// The newest token that descends from the configured one, and where its successors are kept.
fn refresh_token(asked: &Asked<'_>, reference: &Secret) -> Result<(SecretText, Option<TokenKeeper>)> {
    let configured = reference.resolve(&asked.stored).map_err(|error| match (error.code, reference) {
        (Code::SecretMissing, Secret::Stored(_)) => {
            let message = format!("nobody has consented yet: `concord connect {} FILE` asks a person", asked.name);
            asked.error(Code::SecretMissing, message)
        }
        _ => error,
    })?;
    let (name, prefix) = match reference {
        Secret::Stored(name) => (name.clone(), String::new()),
        _ => {
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, configured.expose().as_bytes());
            (format!("{}/refresh_token", asked.name), format!("{}:", to_hex(digest.as_ref())))
        }
    };
    let newest = match prefix.is_empty() {
        true => None,
        false => (asked.stored)(&name)?.and_then(|kept| kept.expose().strip_prefix(prefix.as_str()).map(SecretText::new)),
    };
    let keeper = asked.keep.clone().filter(|keep| keep.can_keep()).map(|keep| TokenKeeper { keep, name, prefix });
    Ok((newest.unwrap_or(configured), keeper))
}

fn text(asked: &Asked<'_>, key: &str, default: &str) -> Result<String> {
    match asked.connection.options.get(key) {
        None => Ok(default.to_owned()),
        Some(value) => value
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| asked.error(Code::ConfigWrongType, format!("options.{key} must be a text"))),
    }
}

fn whole(asked: &Asked<'_>, key: &str, default: u64) -> Result<u64> {
    match asked.connection.options.get(key) {
        None => Ok(default),
        Some(value) => {
            value.as_u64().ok_or_else(|| asked.error(Code::ConfigWrongType, format!("options.{key} must be a whole number")))
        }
    }
}

/// An object of names: `{"Account": "Concord_Key__c"}`.
fn names(asked: &Asked<'_>, key: &str) -> Result<BTreeMap<String, String>> {
    let Some(given) = asked.connection.options.get(key) else { return Ok(BTreeMap::new()) };
    let wrong = || asked.error(Code::ConfigWrongType, format!("options.{key} must name a field for each object"));
    let pairs = given.as_object().ok_or_else(wrong)?.iter();
    pairs.map(|(object, field)| Ok((object.clone(), field.as_str().ok_or_else(wrong)?.to_owned()))).collect()
}

fn version(asked: &Asked<'_>) -> Result<String> {
    let version = text(asked, "api_version", API_VERSION_DEFAULT)?;
    let version = version.trim_start_matches('v').to_owned();
    let good = version.split_once('.').is_some_and(|(major, minor)| major.parse::<u32>().is_ok() && minor == "0");
    match good {
        true => Ok(version),
        false => {
            Err(asked
                .error(Code::ConfigOutOfRange, "options.api_version must be a version of the API such as \"65.0\"".to_owned()))
        }
    }
}

fn url(asked: &Asked<'_>, key: &str, given: &str) -> Result<String> {
    let trimmed = given.trim().trim_end_matches('/');
    let host = trimmed.strip_prefix("https://").or_else(|| trimmed.strip_prefix("http://")).unwrap_or("");
    if host.is_empty() || host.contains('/') {
        return Err(asked.error(Code::ConfigOutOfRange, format!("{key} must be a URL such as https://acme.my.salesforce.com")));
    }
    if !is_guarded(trimmed) {
        return Err(
            asked.error(Code::ConfigOutOfRange, format!("{key} must begin with https:// (http:// goes to loopback alone)"))
        );
    }
    Ok(trimmed.to_owned())
}

/// Whether what is sent to this address cannot be read on the way: over TLS, or within this machine.
pub(super) fn is_guarded(url: &str) -> bool {
    let Some(plain) = url.strip_prefix("http://") else { return url.starts_with("https://") };
    let Ok(address) = plain.split('/').next().unwrap_or_default().parse::<http::uri::Authority>() else { return false };
    let host = address.host().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
