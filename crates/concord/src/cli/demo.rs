//! `concord demo`: two systems being kept equal, live. Leaves nothing behind.

use super::Context;
use crate::demo::{self, Pair, Wanted};
use crate::exit::Exit;
use crate::logging::{self, LogFormat, LogSettings};
use clap::Args;
use concord_engine::error::Result;
use std::time::Duration;

/// Show two systems being kept equal, live: a simulated Salesforce org and PostgreSQL, or two databases.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  concord demo\n  concord demo --pair postgres\n  concord demo --sqlite --seconds 20")]
pub struct Demo {
    /// What is kept equal.
    #[arg(long, value_enum, value_name = "PAIR", default_value_t = Pair::Salesforce)]
    pair: Pair,
    /// Stop after so many seconds; 0 goes on until Ctrl-C.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    seconds: u64,
    /// Use SQLite in PostgreSQL's place, even where PostgreSQL's server is installed.
    #[arg(long)]
    sqlite: bool,
}

/// Runs the command.
pub async fn run(demo: &Demo, context: &Context) -> Result<Exit> {
    logging::start(&LogSettings {
        level: context.global.log_level.clone().unwrap_or_else(|| "error".into()),
        format: context.global.log_format.unwrap_or(LogFormat::Text),
        folder: None,
        retention_days: 1,
    })?;
    let lasts = (demo.seconds > 0).then(|| Duration::from_secs(demo.seconds));
    demo::run(Wanted { pair: demo.pair, sqlite: demo.sqlite, lasts }, context).await
}
