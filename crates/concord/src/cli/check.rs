//! `concord check`: every mistake at once. Without `--connect` nothing but the files is touched.

use super::Context;
use crate::exit::Exit;
use crate::setup;
use crate::terminal::{Notice, Style};
use clap::Args;
use concord_engine::connector::{Finding, Severity};
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
    // Nothing is kept: numbers and layouts go to a store in memory, the installation's id and its secrets come from the
    // real one, where there is one.
    let scratch = SqliteStore::in_memory(&StoreOptions::default())?;
    let kept: Arc<dyn Store> = match SqliteStore::open_read_only(&folder) {
        Ok(store) => Arc::new(store),
        Err(_) => Arc::new(SqliteStore::in_memory(&StoreOptions::default())?),
    };
    let systems = setup::open_systems(&written.config, &*kept, &folder).await?;
    let mut notices = Vec::new();
    let mut exit = Exit::Fine;
    for (name, connector) in &systems {
        let objects: Vec<_> = written
            .config
            .syncs
            .iter()
            .flat_map(|sync| sync.source.iter().chain(&sync.target))
            .filter(|member| member.system == *name)
            .map(|member| member.object_name())
            .collect();
        match connector.check(&objects).await {
            Ok(findings) => notices.extend(findings.iter().map(|finding| of_finding(name.as_str(), finding))),
            Err(error) => notices.push(Notice::of(&if error.at.is_some() { error } else { error.at(name.as_str()) })),
        }
    }
    if notices.iter().any(|notice| notice.severity == "error") {
        exit = Exit::Environment;
    }
    let prepared = setup::prepare(written, &scratch, &systems).await?;
    // A system that cannot be asked has been named already.
    let named: Vec<Notice> = notices.clone();
    notices.extend(prepared.notices.into_iter().filter(|notice| !named.iter().any(|known| known.message == notice.message)));
    let is_mistake = |error: &Error| error.class() == Class::BadInput;
    if prepared.refused.iter().any(|(_, error)| is_mistake(error)) {
        exit = Exit::BadInput;
    } else if !prepared.refused.is_empty() || !prepared.waiting.is_empty() {
        exit = Exit::Environment;
    }
    Ok((notices, exit))
}

/// A connector's finding as people see it.
fn of_finding(system: &str, finding: &Finding) -> Notice {
    let about = if finding.about == system { system.to_string() } else { format!("{system}, {}", finding.about) };
    Notice {
        code: finding.code.map_or(String::new(), |code| code.to_string()),
        severity: match finding.severity {
            Severity::Fine => "fine",
            Severity::Advice => "advice",
            Severity::Warning => "warning",
            Severity::Problem => "error",
        },
        message: finding.message.clone(),
        place: Some(about),
        remedy: finding.remedy.clone(),
    }
}
