//! `concord schema`: the JSON Schema of the configuration language, for editors.

use super::Context;
use crate::exit::Exit;
use clap::Args;
use concord_engine::error::Result;

/// Print the JSON Schema of the configuration language.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  concord schema > concord.schema.json")]
pub struct Schema {}

/// Runs the command.
pub fn run(_: &Schema, context: &Context) -> Result<Exit> {
    context.terminal.document(&concord_engine::config::json_schema());
    Ok(Exit::Fine)
}
