//! x x x
use super::Context;
use crate::exit::Exit;
use clap::Args;
use concord_engine::error::Result;
/// Show.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  concord demo")]
pub struct Demo {}
/// Runs the command.
pub async fn run(_: &Demo, _: &Context) -> Result<Exit> {
    Ok(Exit::Fine)
}
