//! The commands, one file each. What a command finds out goes to standard output, as text or with `--json` as one JSON
//! document; what it complains of goes to standard error.

mod check;
mod completions;
mod connect;
mod demo;
mod explain;
mod pause;
mod plan;
mod release;
mod review;
pub mod run;
mod schema;
mod secret;
pub mod status;
mod verify;

pub use self::plan::render as render_plan;
use crate::answers::Answerer;
use crate::answers::description;
use crate::control::{self, Ask};
use crate::exit::Exit;
use crate::logging::LogFormat;
use crate::setup;
use crate::terminal::{Notice, Terminal};
use clap::{Args, Parser, Subcommand};
use concord_engine::clock::SystemClock;
use concord_engine::config::Config;
use concord_engine::error::{Code, Error, Result};
use concord_engine::store::Store;
use concord_engine::store::sqlite::SqliteStore;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::sync::Arc;

/// Keeps records equal across systems, both ways, in real time.
#[derive(Debug, Parser)]
#[command(
    name = "concord",
    version,
    about,
    after_help = "Example:\n  concord check accounts.json\n  concord plan accounts.json\n  concord run accounts.json --approve PLAN\n\n\
                  Exit codes: 0 all is well, 1 failure, 2 bad input, 3 the environment."
)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Print one JSON document instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    /// The store's folder; else the one that the configuration names, else `concord-data`.
    #[arg(long, global = true, env = "CONCORD_STORE", value_name = "FOLDER")]
    pub store: Option<PathBuf>,
    /// What is logged: error, warn, info, debug, trace, or a filter as RUST_LOG takes it.
    #[arg(long, global = true, env = "CONCORD_LOG", value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// The form of log lines on standard error.
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Look for mistakes in a configuration; with --connect, ask the systems too.
    Check(check::Check),
    /// Ask a person, in a browser, to let Concord act in their name.
    Connect(connect::Connect),
    /// Show what the first run would do. Writes nothing to any system.
    Plan(plan::Plan),
    /// Keep records equal until stopped.
    Run(run::Run),
    /// Show how everything does.
    Status(status::StatusArgs),
    /// Look at what waits for a person, and decide it.
    Review(review::Review),
    /// Tell the life of a record: who wrote what when, what lost to it, which rule decided.
    Explain(explain::Explain),
    /// Compare both sides, and have what differs repaired.
    Verify(verify::Verify),
    /// Stop writing for a sync; its changes go on being recorded.
    Pause(pause::Pause),
    /// Let a paused or stopped sync go on.
    Resume(pause::Resume),
    /// Remove what Concord made in the systems: slots, publications, triggers.
    Release(release::Release),
    /// Print the JSON Schema of the configuration language.
    Schema(schema::Schema),
    /// Keep a secret, encrypted, in the store.
    Secret(secret::Secret),
    /// Print a completion script for a shell.
    Completions(completions::Completions),
    /// Show two systems being kept equal, live.
    Demo(demo::Demo),
}

/// What a command works with.
pub struct Context {
    /// What every command takes.
    pub global: Global,
    /// Where output goes.
    pub terminal: Terminal,
}

/// What the command line says. A program that asked for a document gets one also where it was called wrongly.
pub fn parse() -> std::result::Result<Cli, Exit> {
    Cli::try_parse().map_err(|error| {
        // Help and the version come this way, too, and are no errors.
        if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
            let message = error.to_string();
            let message = message.lines().next().unwrap_or_default();
            let notice = Notice::of(&Error::new(Code::ArgumentWrong, message.strip_prefix("error: ").unwrap_or(message)));
            Terminal::detect(true).document(&serde_json::json!({ "error": notice }));
        }
        let _ = error.print();
        if error.use_stderr() { Exit::BadInput } else { Exit::Fine }
    })
}

/// Runs a command to its end.
pub async fn run(cli: Cli) -> Exit {
    let context = Context { terminal: Terminal::detect(cli.global.json), global: cli.global };
    let result = match &cli.command {
        Command::Check(command) => check::run(command, &context).await,
        Command::Connect(command) => connect::run(command, &context).await,
        Command::Plan(command) => plan::run(command, &context).await,
        Command::Run(command) => run::run(command, &context).await,
        Command::Status(command) => status::run(command, &context).await,
        Command::Review(command) => review::run(command, &context).await,
        Command::Explain(command) => explain::run(command, &context).await,
        Command::Verify(command) => verify::run(command, &context).await,
        Command::Pause(command) => pause::run(&command.chosen, true, &context).await,
        Command::Resume(command) => pause::run(&command.chosen, false, &context).await,
        Command::Release(command) => release::run(command, &context).await,
        Command::Schema(command) => schema::run(command, &context),
        Command::Secret(command) => secret::run(command, &context).await,
        Command::Completions(command) => completions::run(command),
        Command::Demo(command) => demo::run(command, &context).await,
    };
    result.unwrap_or_else(|error| {
        tracing::debug!(error = %error.chain(), "the command failed");
        let notice = Notice::of(&error);
        if context.terminal.json {
            context.terminal.document(&serde_json::json!({ "error": notice }));
        }
        context.terminal.complain(&notice);
        Exit::of(&error)
    })
}

impl Context {
    /// The store's folder for a command that has read a configuration, or has none.
    pub fn folder(&self, config: Option<&Config>) -> PathBuf {
        setup::store_folder(self.global.store.as_deref(), config)
    }

    /// Reads a configuration and prints what was found. `None` when something is an error.
    pub fn read(&self, files: &[PathBuf]) -> Option<setup::Written> {
        match setup::read(files) {
            Ok(written) => {
                self.complain_all(&written.notices);
                Some(written)
            }
            Err(notices) => {
                if self.terminal.json {
                    self.terminal.document(&serde_json::json!({ "ok": false, "findings": notices }));
                }
                self.complain_all(&notices);
                None
            }
        }
    }

    /// Ends a command that cannot do anything of what it was asked, and whose notices have said why: a program gets the
    /// document that it gets of every failure, as the notice says it.
    pub fn refuse<'a>(&self, errors: impl IntoIterator<Item = &'a Error>, said: &[Notice]) -> Exit {
        let errors: Vec<&Error> = errors.into_iter().collect();
        if let Some(first) = errors.first().filter(|_| self.terminal.json) {
            let notice = Notice::of(first);
            let known = said.iter().find(|known| known.code == notice.code && known.place == notice.place);
            self.terminal.document(&serde_json::json!({ "error": known.unwrap_or(&notice) }));
        }
        Exit::worst(errors.into_iter().map(Exit::of))
    }

    /// Prints notices.
    pub fn complain_all(&self, notices: &[Notice]) {
        for notice in notices {
            self.terminal.complain(notice);
        }
    }

    /// Asks the process that runs; when nothing runs, the store itself.
    pub async fn ask<T: DeserializeOwned>(&self, question: &Ask) -> Result<T> {
        let folder = self.folder(None);
        let answer = match control::ask(&folder, question).await? {
            Some(answer) => answer,
            None => {
                let changes = matches!(
                    question,
                    Ask::Pause { .. } | Ask::Resume { .. } | Ask::ReviewDecide { .. } | Ask::KeepSecret { .. }
                );
                let looked_at = match question {
                    // A first secret makes the store; whatever else is said is said about what is there.
                    Ask::KeepSecret { .. } => None,
                    _ => Some(SqliteStore::open_read_only(&folder)?),
                };
                let store: Arc<dyn Store> = match looked_at {
                    Some(store) if !changes => Arc::new(store),
                    _ => setup::open_store(&folder)?,
                };
                answerer(store, folder).await?.answer(question.clone()).await?
            }
        };
        serde_json::from_value(answer).map_err(|error| {
            Error::new(Code::ControlFailed, "the running process gave an answer that cannot be read").because(error)
        })
    }
}

/// An answerer over a store on which nothing runs.
pub async fn answerer(store: Arc<dyn Store>, folder: PathBuf) -> Result<Answerer> {
    let syncs = Arc::new(description::load(&*store).await?);
    Ok(Answerer { store, folder, syncs, running: None, clock: Arc::new(SystemClock) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "concord {} --help shows no example", command.get_name());
            for inner in command.get_subcommands() {
                let help = inner.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Example"), "concord {} {} --help shows no example", command.get_name(), inner.get_name());
            }
        }
    }
}
