//! `concord release`: removes what Concord made in the systems. What the store knows of records is kept; a later run begins
//! with a plan, for changes in between were not seen.

use super::Context;
use crate::answers::description::commit;
use crate::exit::Exit;
use crate::setup;
use crate::terminal::Style;
use clap::Args;
use concord_engine::change::Position;
use concord_engine::error::{Class, Error, Result};
use concord_engine::store::{Store, Transaction};
use std::path::PathBuf;

/// Remove what Concord made in the systems.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  concord release accounts.json")]
pub struct Release {
    /// Files, or folders of files; several merge in the order given.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Runs the command.
pub async fn run(release: &Release, context: &Context) -> Result<Exit> {
    let Some(written) = context.read(&release.files) else { return Ok(Exit::BadInput) };
    let folder = context.folder(Some(&written.config));
    let store = setup::open_store(&folder)?;
    let systems = setup::open_systems(&written.config, &*store, &folder).await?;
    let mut failed: Option<Error> = None;
    let mut released = Vec::new();
    for (name, connector) in &systems {
        let members = written.config.syncs.iter().flat_map(|sync| sync.source.iter().chain(&sync.target));
        let mut objects: Vec<_> = members.filter(|member| member.system == *name).map(|member| member.object_name()).collect();
        objects.sort();
        objects.dedup();
        match connector.release(&objects).await {
            Ok(()) => released.push(name.clone()),
            Err(error) => {
                let error = if error.at.is_some() { error } else { error.at(name.as_str()) };
                context.terminal.complain(&crate::terminal::Notice::of(&error));
                // What can be put right by a person is reported before what may pass on its own.
                if failed.as_ref().is_none_or(|known| known.class() == Class::Transient) {
                    failed = Some(error);
                }
            }
        }
    }
    forget(&*store, &written, &released).await?;
    if context.terminal.json {
        let released: Vec<&str> = released.iter().map(|name| name.as_str()).collect();
        context.terminal.document(&serde_json::json!({ "released": released, "ok": failed.is_none() }));
    } else {
        for name in &released {
            context.terminal.line(&format!("{} {name}", context.terminal.paint(Style::Good, "released")));
        }
    }
    Ok(failed.map_or(Exit::Fine, |error| Exit::of(&error)))
}

/// The feeds that are gone begin anew one day, and their syncs with a first run.
async fn forget(store: &dyn Store, written: &setup::Written, released: &[concord_engine::record::SystemName]) -> Result<()> {
    let mut transaction = Transaction::default();
    for (system, feed, _) in store.positions().await? {
        if released.contains(&system) {
            transaction.positions.push((system, feed, Position::default()));
        }
    }
    for sync in &written.config.syncs {
        if sync.systems().iter().any(|system| released.contains(system)) {
            let id = store.sync_id(sync.name.as_str()).await?;
            transaction.settings.push((format!("begun/{}", id.0), None));
            let loads = store.settings(&format!("load/{}/", id.0)).await?;
            transaction.settings.extend(loads.into_iter().map(|(name, _)| (name, None)));
        }
    }
    commit(store, transaction).await
}
