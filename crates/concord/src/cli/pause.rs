//! `concord pause` and `concord resume`: by the process that runs, or in the store for the next start.

use super::Context;
use crate::answers::Said;
use crate::control::Ask;
use crate::exit::Exit;
use clap::Args;
use concord_engine::error::Result;

/// Which syncs.
#[derive(Debug, Args)]
pub struct Chosen {
    /// The sync; all of them when left out.
    #[arg(value_name = "SYNC")]
    sync: Option<String>,
}

/// Stop writing for a sync.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  concord pause accounts")]
pub struct Pause {
    /// Which syncs.
    #[command(flatten)]
    pub chosen: Chosen,
}

/// Let a paused or stopped sync go on.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  concord resume accounts")]
pub struct Resume {
    /// Which syncs.
    #[command(flatten)]
    pub chosen: Chosen,
}

/// Runs either command.
pub async fn run(chosen: &Chosen, pause: bool, context: &Context) -> Result<Exit> {
    let sync = chosen.sync.clone();
    let said: Said = context.ask(&if pause { Ask::Pause { sync } } else { Ask::Resume { sync } }).await?;
    if context.terminal.json {
        context.terminal.document(&said)
    } else {
        context.terminal.line(&said.said)
    }
    Ok(Exit::Fine)
}
