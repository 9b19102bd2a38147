//! `concord release`: removes what Concord made in the systems. What the store knows of records is kept; a later run begins
//! with a plan, for changes in between were not seen. The process that runs does it where one runs, and runs those
//! syncs no longer; else this one.

use super::Context;
use crate::answers::Released;
use crate::control::{self, Ask};
use crate::exit::Exit;
use crate::release;
use crate::setup;
use crate::terminal::{Notice, Style};
use clap::Args;
use concord_engine::error::{Code, Error, Result};
use concord_engine::record::SystemName;
use std::path::PathBuf;

/// Remove what Concord made in the systems.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  concord release accounts.json")]
pub struct Release {
    /// Files, or folders of files; several merge in the order given.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Also remove what was made for syncs that these files do not have. Give every file that shares the store.
    #[arg(long)]
    leftovers: bool,
}

/// Runs the command.
pub async fn run(release: &Release, context: &Context) -> Result<Exit> {
    let Some(written) = context.read(&release.files) else { return Ok(Exit::BadInput) };
    let folder = context.folder(Some(&written.config));
    let mut asked: Vec<SystemName> = written.config.syncs.iter().flat_map(|sync| sync.systems()).cloned().collect();
    asked.sort();
    asked.dedup();
    let systems = asked.iter().map(ToString::to_string).collect();
    let syncs = written.config.syncs.iter().map(|sync| sync.name.to_string()).collect();
    let released: Released = match control::ask(&folder, &Ask::Release { systems, syncs, leftovers: release.leftovers }).await? {
        Some(answer) => serde_json::from_value(answer).map_err(|error| {
            Error::new(Code::ControlFailed, "the running process gave an answer that cannot be read").because(error)
        })?,
        None => {
            let store = setup::open_store(&folder)?;
            let open = setup::open_systems(&written.config, store.clone(), &folder, setup::Keeping::Renewed).await?;
            release::release(&written, &*store, &open.open, &asked, release.leftovers).await?
        }
    };
    Ok(tell(&released, context))
}

/// Prints what became of it.
fn tell(released: &Released, context: &Context) -> Exit {
    if context.terminal.json {
        let Released { released, failed, leftovers } = released;
        let ok = failed.is_empty();
        context
            .terminal
            .document(&serde_json::json!({ "released": released, "failed": failed, "leftovers": leftovers, "ok": ok }));
    } else {
        for name in &released.released {
            context.terminal.line(&format!("{} {name}", context.terminal.paint(Style::Good, "released")));
        }
        for feed in &released.leftovers {
            let removed = context.terminal.paint(Style::Good, "removed");
            context.terminal.line(&format!("{removed} the feed {feed}, which belonged to no sync any more"));
        }
    }
    let errors: Vec<Error> =
        released.failed.iter().map(|failed| Error::new(failed.code, failed.message.clone()).at(failed.system.clone())).collect();
    errors.iter().for_each(|error| context.terminal.complain(&Notice::of(error)));
    Exit::worst(errors.iter().map(Exit::of))
}
