//! `concord connect`: asks a person to let Concord act in their name. The browser shows the vendor's page and brings the
//! answer to a port of loopback; what comes of it is kept, encrypted, in the store, where the connection looks for it. No
//! part of it is ever printed.

use super::Context;
use crate::control::{self, Ask};
use crate::exit::Exit;
use crate::keeping;
use crate::redirect::{self, Door};
use crate::secrets::Others;
use crate::terminal::Style;
use crate::{secrets, setup};
use clap::Args;
use concord_connectors::consent::{Consent, Granted};
use concord_connectors::settings::{Asked, AskedChanges};
use concord_engine::config::{Config, Connection, SecretText};
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::SystemName;
use concord_engine::store::sqlite::SqliteStore;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The port that the browser comes back to where none is asked for.
const PORT_DEFAULT: u16 = 7480;
/// How long a person may take, in seconds, where nothing is asked for.
const TIMEOUT_DEFAULT: u64 = 300;
/// How long a consent waits for whoever holds the store, once a person has given it: a start, a plan, a stop.
const STORE_WAIT_MAX: Duration = Duration::from_secs(600);
/// How often is looked.
const STORE_LOOK: Duration = Duration::from_millis(200);

/// Ask a person, in a browser, to let Concord act in their name.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  concord connect crm accounts.json\n\n\
                        The application has to allow the address http://localhost:7480/callback, with the port of --port.")]
pub struct Connect {
    /// The connection, by the name that the configuration gives it.
    #[arg(value_name = "CONNECTION")]
    connection: String,
    /// Files, or folders of files; several merge in the order given.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The port of this machine that the browser comes back to; 0: any.
    #[arg(long, default_value_t = PORT_DEFAULT)]
    port: u16,
    /// Print the address and open no browser.
    #[arg(long)]
    no_browser: bool,
    /// How many seconds the person may take.
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT_DEFAULT, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
}

/// Runs the command.
pub async fn run(connect: &Connect, context: &Context) -> Result<Exit> {
    let Some(written) = context.read(&connect.files) else { return Ok(Exit::BadInput) };
    let (name, connection) = find(&written.config, &connect.connection)?;
    let folder = context.folder(Some(&written.config));
    let door = Door::open(connect.port).await?;
    let consent = ask(name, connection, &folder, &door.url()).await?;
    // A consent that could not be kept would be lost.
    is_ready_to_keep(&folder, &consent.keep_as).await?;
    let here = "on this machine";
    context
        .terminal
        .remark(&format!("open this address {here} and consent there, as a user that may see and change the records:"));
    context.terminal.remark(&format!("  {}", consent.url));
    if !connect.no_browser {
        redirect::open_browser(&consent.url);
    }
    let (granted, runs) = door
        .answer(
            Duration::from_secs(connect.timeout),
            |query| consent.is_answer(query),
            async |query| {
                let granted = consent.answered(&query).await?;
                is_of_the_org(name, connection.credentials.instance_url.as_deref(), granted.instance_url.as_deref())?;
                is_of_the_account(name, &folder, granted.account.as_deref()).await?;
                let runs = keep(&folder, &consent.keep_as, &granted.refresh_token, context).await?;
                Ok((granted, runs))
            },
        )
        .await?;
    tell(name, &consent.keep_as, &granted, runs, context);
    Ok(Exit::Fine)
}

fn find<'a>(config: &'a Config, asked: &str) -> Result<(&'a SystemName, &'a Connection)> {
    config.connections.iter().find(|(name, _)| name.as_str() == asked).ok_or_else(|| {
        let known: Vec<&str> = config.connections.keys().map(SystemName::as_str).collect();
        let message = format!("the configuration has no connection `{asked}`; it has {}", known.join(", "));
        Error::new(Code::ConfigUnknownName, message)
    })
}

/// The question to the person. Secrets that it needs (an application's own) may be in the store.
async fn ask(name: &SystemName, connection: &Connection, folder: &Path, redirect: &str) -> Result<Consent> {
    let kept = match SqliteStore::open_read_only(folder) {
        Ok(store) => secrets::load(&store, folder).await?,
        Err(error) if error.code == Code::StoreMissing => BTreeMap::new(),
        Err(error) => return Err(error),
    };
    let stored = |name: &str| secrets::loaded(&kept, name);
    let changes = AskedChanges::default();
    let asked = Asked { name, connection, installation: "", stored: &stored, keep: None, changes };
    Consent::ask(concord_connectors::consent(&asked)?, redirect)
}

/// Whether something can be kept, before anybody is asked: the store, its key, the process that runs.
async fn is_ready_to_keep(folder: &Path, name: &str) -> Result<()> {
    concord_engine::store::sqlite::make_folder(folder).map_err(|error| {
        Error::new(Code::FileUnusable, "the store's folder cannot be made").at(folder.display().to_string()).because(error)
    })?;
    let sealed = secrets::seal_for(folder, name, &SecretText::new("nothing yet"))?;
    let question = Ask::TrySecret { name: name.to_owned(), sealed: sealed.clone() };
    match control::ask(folder, &question).await? {
        Some(_) => Ok(()),
        None => secrets::can_be_kept(&*setup::open_store(folder)?, folder, name, &sealed, Others::Readable).await,
    }
}

/// A browser that is signed in elsewhere consents there: what would come of it is records made and changed in the wrong place.
fn is_of_the_org(name: &SystemName, configured: Option<&str>, given: Option<&str>) -> Result<()> {
    let configured = configured.map(|url| url.trim().trim_end_matches('/'));
    match given.map(|url| url.trim_end_matches('/')).zip(configured).filter(|(given, here)| !given.eq_ignore_ascii_case(here)) {
        Some((given, configured)) => {
            let message = format!("the person consented for {given}, and the configuration names {configured}: nothing was kept");
            Err(Error::new(Code::ConfigContradiction, message).at(name.to_string()))
        }
        None => Ok(()),
    }
}

/// A store that has worked with one account works with no other.
async fn is_of_the_account(name: &SystemName, folder: &Path, given: Option<&str>) -> Result<()> {
    let known = match SqliteStore::open_read_only(folder) {
        Ok(store) => keeping::acting(&store, name.as_str()).await?,
        Err(error) if error.code == Code::StoreMissing => None,
        Err(error) => return Err(error),
    };
    match known.zip(given).filter(|(known, given)| known.account != *given) {
        Some((known, given)) => {
            let message = format!("the person consented for the account {given}, and this store works with {}", known.account);
            Err(Error::new(Code::HostedOtherAccount, format!("{message}: nothing was kept")).at(name.to_string()))
        }
        None => Ok(()),
    }
}

/// Keeps the token, through the process that runs where one does; says whether one does. What a person has given is not lost
/// because somebody holds the store for a moment, or lets go of it just then.
async fn keep(folder: &Path, name: &str, token: &SecretText, context: &Context) -> Result<bool> {
    let sealed = secrets::seal_for(folder, name, token)?;
    let question = Ask::KeepSecret { name: name.to_owned(), sealed: sealed.clone(), new_key: false };
    let until = Instant::now() + STORE_WAIT_MAX;
    let mut was_said = false;
    loop {
        let error = match control::ask(folder, &question).await {
            Ok(Some(_)) => return Ok(true),
            Ok(None) => match setup::open_store(folder) {
                Ok(store) => return secrets::keep(&*store, folder, name, sealed, Others::Readable).await.map(|()| false),
                Err(error) => error,
            },
            Err(error) => error,
        };
        if !matches!(error.code, Code::StoreInUse | Code::ControlFailed) || Instant::now() >= until {
            return Err(error);
        }
        if !was_said {
            was_said = true;
            context.terminal.remark(&format!("the consent waits until it can be kept: {}", error.message));
        }
        tokio::time::sleep(STORE_LOOK).await;
    }
}

fn tell(name: &SystemName, kept_as: &str, granted: &Granted, runs: bool, context: &Context) {
    if context.terminal.json {
        context.terminal.document(&serde_json::json!({
            "connected": name.as_str(), "kept_as": kept_as, "instance_url": granted.instance_url, "user": granted.user,
            "running": runs,
        }));
        return;
    }
    let by = granted.user.as_ref().map_or_else(String::new, |user| format!(" as the user {user}"));
    let connected = context.terminal.paint(Style::Good, "connected");
    context.terminal.line(&format!("{connected}: {name}{by}; the consent is kept, encrypted, as `{kept_as}`"));
    if runs {
        context.terminal.line("the `concord run` that runs uses it from now on");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consent_of_another_org_is_not_kept() {
        let of = |configured, given| is_of_the_org(&"crm".into(), configured, given);
        let here = Some("https://acme.my.salesforce.com/");
        assert!(of(here, Some("https://ACME.my.salesforce.com")).is_ok());
        assert!(of(here, None).is_ok() && of(None, Some("https://acme.my.salesforce.com")).is_ok());
        let error = of(here, Some("https://acme--test.sandbox.my.salesforce.com")).unwrap_err();
        assert_eq!(error.code, Code::ConfigContradiction);
        assert!(error.message.contains("sandbox") && error.message.contains("nothing was kept"), "{error}");
    }
}
