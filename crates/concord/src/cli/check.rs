//! `concord check`: every mistake at once. Without `--connect` nothing but the files is touched.

use super::Context;
use crate::control::{self, Ask};
use crate::exit::Exit;
use crate::leftovers;
use crate::setup;
use crate::terminal::{Notice, Style};
use clap::Args;
use concord_engine::error::{Class, Error, Result};
use concord_engine::store::Store;
use concord_engine::store::sqlite::{SqliteStore, StoreOptions};
use std::path::PathBuf;
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
    // Numbers and layouts go to a store in memory, the installation's id and its secrets come from the real one, where there
    // is one. Only a secret that a system renews is kept there, unless a process runs that uses it.
    let scratch = SqliteStore::in_memory(&StoreOptions::default())?;
    let (kept, keeping): (Arc<dyn Store>, setup::Keeping) = match SqliteStore::open_read_only(&folder) {
        Ok(store) if control::ask(&folder, &Ask::Status).await?.is_none() => (Arc::new(store), setup::Keeping::Briefly),
        Ok(store) => (Arc::new(store), setup::Keeping::Nothing),
        Err(_) => (Arc::new(SqliteStore::in_memory(&StoreOptions::default())?), setup::Keeping::Nothing),
    };
    let systems = setup::open_systems(&written.config, Arc::clone(&kept), &folder, keeping).await?;
    let (mut notices, prepared) =
        tokio::join!(setup::ask_systems(&written.config, &systems), setup::prepare(written, &scratch, &systems));
    let known = leftovers::known(&written.config, &*kept, &systems).await;
    let left = leftovers::find(&systems, &known).await;
    notices.extend(left.iter().map(|(system, leftover)| leftovers::notice(system, leftover)));
    let mut exit = Exit::Fine;
    if notices.iter().any(|notice| notice.severity == "error") {
        exit = Exit::Environment;
    }
    let prepared = prepared?;
    setup::add_unknown(&mut notices, prepared.notices);
    let is_mistake = |error: &Error| error.class() == Class::BadInput;
    if prepared.refused.iter().any(|(_, error)| is_mistake(error)) {
        exit = Exit::BadInput;
    } else if !prepared.refused.is_empty() || !prepared.waiting.is_empty() {
        exit = Exit::Environment;
    }
    Ok((notices, exit))
}
