//! `concord check`: every mistake at once. Without `--connect` nothing but the files is touched.

use super::Context;
use crate::answers::Looked;
use crate::control::{self, Ask};
use crate::exit::Exit;
use crate::leftovers;
use crate::setup;
use crate::terminal::{Notice, Style};
use clap::Args;
use concord_engine::error::{Code, Result};
use concord_engine::record::SystemName;
use concord_engine::store::Store;
use concord_engine::store::sqlite::{SqliteStore, StoreOptions};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Look for mistakes in a configuration.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  concord check accounts.json\n  concord check --connect connections.json mappings.json")]
pub struct Check {
    /// Files, or folders of files; several merge in the order given.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Ask the systems, too: reach, privileges, settings, keys, types, indexes.
    #[arg(long)]
    connect: bool,
}

/// Runs the command.
pub async fn run(check: &Check, context: &Context) -> Result<Exit> {
    let Some(written) = context.read(&check.files) else { return Ok(Exit::BadInput) };
    let mut notices = written.notices.clone();
    let mut exit = Exit::Fine;
    if check.connect {
        let (found, worst) = ask_systems(&written, context).await?;
        context.complain_all(&found);
        notices.extend(found);
        exit = worst;
    }
    if context.terminal.json {
        context.terminal.document(&serde_json::json!({ "ok": exit == Exit::Fine, "findings": notices }));
    } else if exit == Exit::Fine {
        let warnings = notices.iter().filter(|notice| notice.severity == "warning").count();
        let syncs: Vec<&str> = written.config.syncs.iter().map(|sync| sync.name.as_str()).collect();
        let fine = context.terminal.paint(Style::Good, "fine");
        context.terminal.line(&format!("{fine}: {} ({} warnings)", syncs.join(", "), warnings));
    }
    Ok(exit)
}

/// What the systems say, and how bad it is.
async fn ask_systems(written: &setup::Written, context: &Context) -> Result<(Vec<Notice>, Exit)> {
    let folder = context.folder(Some(&written.config));
    // What is known of the syncs, the installation's id and its secrets come from the store, where there is one; nothing is
    // written to it. Where a system may renew a secret it is held meanwhile: whoever uses such a secret keeps its successor.
    let nothing = || SqliteStore::in_memory(&StoreOptions::default());
    let memory = SqliteStore::open_read_only(&folder).or_else(|_| nothing())?;
    let renews = written.config.connections.values().any(|connection| connection.credentials.refresh_token.is_some());
    let (kept, keeping): (Arc<dyn Store>, setup::Keeping) = match SqliteStore::open_read_only(&folder) {
        Ok(store) if renews => {
            drop(store);
            match setup::open_store(&folder) {
                Ok(store) => (store, setup::Keeping::Renewed),
                Err(error) if error.code == Code::StoreInUse => {
                    (Arc::new(SqliteStore::open_read_only(&folder)?), setup::Keeping::Nothing)
                }
                Err(error) => return Err(error),
            }
        }
        Ok(store) => (Arc::new(store), setup::Keeping::Nothing),
        Err(_) => (Arc::new(nothing()?), setup::Keeping::Nothing),
    };
    let looked = match renews && keeping == setup::Keeping::Nothing {
        true => ask_running(written, &folder).await,
        false => Looked::new(),
    };
    let opened = setup::open_each(&written.config, Arc::clone(&kept), &folder, keeping).await?;
    let systems = &opened.open;
    let own: Vec<_> = systems.iter().filter(|(name, _)| !looked.contains_key(name.as_str())).cloned().collect();
    let (mut notices, prepared) =
        tokio::join!(setup::ask_systems(&written.config, &own), setup::prove(written, &memory, &opened));
    notices.extend(looked.iter().flat_map(|(name, found)| found.iter().map(|one| setup::of_finding(name, one))));
    let known = leftovers::known(&written.config, &*kept, systems).await;
    let left = leftovers::find(systems, &known).await;
    notices.extend(left.iter().map(|(system, leftover)| leftovers::notice(system, leftover)));
    let unused = leftovers::unused(&*kept, systems).await?;
    notices.extend(unused.iter().map(|(system, leftover)| leftovers::notice_unused(system, leftover)));
    notices.extend(leftovers::kept(&*kept, &own, &written.config).await?);
    let prepared = prepared?;
    setup::add_unknown(&mut notices, prepared.notices);
    // What could not be asked because the process that runs has the token is not wrong; that it was not asked is said, once.
    let not_asked = Code::HostedTokenInUse.to_string();
    let mut said = BTreeSet::new();
    notices.retain(|notice| notice.code != not_asked || said.insert(notice.place.clone()));
    for notice in notices.iter_mut().filter(|notice| notice.code == not_asked) {
        notice.severity = "warning";
    }
    let left_out = prepared.refused.iter().chain(&prepared.waiting).map(|(_, error)| error.code);
    let left_out = left_out.filter(|code| *code != Code::HostedTokenInUse).map(Exit::of_code);
    // What a system is found to lack is the environment's, whatever the finding is called.
    let found = notices.iter().any(|notice| notice.severity == "error").then_some(Exit::Environment);
    let exit = Exit::worst(left_out.chain(found));
    Ok((notices, exit))
}

/// What the systems say in the sessions of the process that runs; nothing where it cannot be asked.
async fn ask_running(written: &setup::Written, folder: &Path) -> Looked {
    let of = |name: &SystemName| (name.to_string(), setup::objects_of(&written.config, name));
    let question = Ask::Look { objects: written.config.connections.keys().map(of).collect() };
    match control::ask(folder, &question).await {
        Ok(Some(answer)) => serde_json::from_value(answer).unwrap_or_default(),
        Ok(None) => Looked::new(),
        Err(error) => {
            tracing::debug!(error = error.chain(), "the running process does not look at its systems");
            Looked::new()
        }
    }
}
