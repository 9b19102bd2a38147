//! `concord completions`: a completion script for a shell.

use super::Cli;
use crate::exit::Exit;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use concord_engine::error::{Code, Error, Result};
use std::io::Write;

/// Print a completion script for a shell.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  concord completions bash > /etc/bash_completion.d/concord")]
pub struct Completions {
    /// The shell.
    shell: Shell,
}

/// Runs the command.
pub fn run(completions: &Completions) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(completions.shell, &mut Cli::command(), "concord", &mut script);
    let unusable = |error| Error::new(Code::FileUnusable, "standard output cannot be written").because(error);
    std::io::stdout().lock().write_all(&script).map_err(unusable)?;
    Ok(Exit::Fine)
}
