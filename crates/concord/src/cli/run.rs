//! `concord run`: reads, checks, asks for the approval of a first run, and keeps records equal until stopped.

use super::Context;
use crate::ageing::Retention;
use crate::answers::verified;
use crate::approval;
use crate::control;
use crate::exit::Exit;
use crate::files;
use crate::logging::{self, LogFormat, LogSettings};
use crate::metrics;
use crate::patience;
use crate::setup;
use crate::signals;
use crate::supervise::{self, Supervision};
use crate::waiting;
use clap::Args;
use concord_engine::clock::SystemClock;
use concord_engine::config::{self, Config, LogLevel};
use concord_engine::error::{Code, Error, Result};
use concord_engine::runtime::status::Status;
use concord_engine::store::Store;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Keep records equal until stopped.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  concord run accounts.json --approve 3f9a12c4\n  concord run accounts.json --once\n  \
                        concord run /etc/concord --metrics-port 9464")]
pub struct Run {
    /// Files, or folders of files; several merge in the order given.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Carry out the first run as this plan shows it.
    #[arg(long, value_name = "PLAN", conflicts_with = "auto_approve")]
    approve: Option<String>,
    /// Carry out any first run without asking.
    #[arg(long)]
    auto_approve: bool,
    /// Stop when both sides are level.
    #[arg(long)]
    once: bool,
    /// With --once: how many seconds to wait for systems that cannot be reached, once the other syncs have been level.
    #[arg(long, value_name = "SECONDS", default_value_t = patience::USUAL_SECS, requires = "once")]
    timeout: u64,
    /// Serve metrics for Prometheus on this port of the loopback interface; 0 takes a free one.
    #[arg(long, value_name = "PORT")]
    metrics_port: Option<u16>,
}

/// Runs the command.
pub async fn run(run: &Run, context: &Context) -> Result<Exit> {
    let Some(written) = context.read(&run.files) else { return Ok(Exit::BadInput) };
    start_logging(&written.config, context)?;
    let folder = context.folder(Some(&written.config));
    let store = setup::open_store(&folder)?;
    let systems = setup::open_some(&written.config, store.clone(), &folder, setup::Keeping::Renewed).await?;
    // A lack that a person can put right is said with its statement before the first attempt fails on it.
    let (mut notices, prepared) =
        tokio::join!(setup::ask_systems(&written.config, &systems.open), setup::prepare(&written, &*store, &systems));
    let prepared = prepared?;
    notices.retain(|notice| notice.severity == "error");
    setup::add_unknown(&mut notices, prepared.notices.clone());
    context.complain_all(&notices);
    // What is wrong with one sync keeps no other from running.
    if prepared.syncs.is_empty() && prepared.waiting.is_empty() && !prepared.refused.is_empty() {
        return Ok(context.refuse(prepared.refused.iter().map(|(_, error)| error), &notices));
    }
    // Refused before anything is made in any system.
    approval::may_start(&prepared, &*store, &SystemClock, run.approve.as_deref(), run.auto_approve).await?;
    files::remember(&*store, &run.files).await?;
    let metrics = match metrics_address(run, &written.config)? {
        Some(asked) => {
            let (listener, address) = metrics::open(asked).await?;
            tracing::info!(%address, "metrics are served at /metrics");
            Some(listener)
        }
        None => None,
    };
    let wanted = written.config.process_settings.control_socket.clone();
    let door = control::open(&folder, wanted.as_deref().map(Path::new))?;
    let shutdown = CancellationToken::new();
    let retention = Retention::of(&written.config, &*store).await?;
    let names: Vec<String> = prepared.syncs.iter().map(|sync| sync.rules.name.to_string()).collect();
    tracing::info!(syncs = names.join(", "), store = %folder.display(), "running");
    let supervision = Supervision {
        written,
        store: Arc::clone(&store) as Arc<dyn Store>,
        folder: folder.clone(),
        prepared,
        approve_all: run.auto_approve,
        plan: run.approve.clone(),
        once: run.once,
        patience: Duration::from_secs(run.timeout),
        door: Some(door),
        metrics,
        retention,
        shows_progress: !context.terminal.json,
        let_alone: waiting::LET_ALONE,
    };
    let mut status = tokio::select! {
        status = supervise::run(supervision, shutdown.clone()) => status?,
        error = signals::on_signal(shutdown.clone()) => return error.map(|()| Exit::Failure),
    };
    tracing::info!("stopped");
    verified::add_to(&mut status, &*store).await?;
    if context.terminal.json {
        context.terminal.document(&status);
    } else if run.once {
        context.terminal.line(&super::status::render(&status, &context.terminal));
    }
    Ok(if run.once { exit_of(&status) } else { Exit::Fine })
}

/// How a run until everything is level ended: fine where it is, else as the reasons why it is not.
fn exit_of(status: &Status) -> Exit {
    let unfinished = status.syncs.iter().filter(|sync| !sync.level);
    Exit::worst(unfinished.map(|sync| sync.reason().map_or(Exit::Failure, Exit::of_code)))
}

/// Logging as the command line says, else as the configuration does.
fn start_logging(config: &Config, context: &Context) -> Result<()> {
    let written = &config.process_settings.logging;
    let format = match written.format {
        config::LogFormat::Text => LogFormat::Text,
        config::LogFormat::Json => LogFormat::Json,
    };
    logging::start(&LogSettings {
        level: context.global.log_level.clone().unwrap_or_else(|| level(config).name().to_owned()),
        format: context.global.log_format.unwrap_or(format),
        folder: written.directory.as_ref().map(PathBuf::from),
        retention_days: usize::try_from(written.retention_days).unwrap_or(usize::MAX),
    })
}

/// The level that shows the most among those of the process and of its syncs: none of them silences another.
fn level(config: &Config) -> LogLevel {
    let of_process = config.process_settings.logging.level;
    let of_syncs = config.syncs.iter().filter_map(|sync| sync.monitoring.logging.level);
    of_syncs.fold(of_process, |most, level| if verbosity(level) > verbosity(most) { level } else { most })
}

/// How much a level shows.
fn verbosity(level: LogLevel) -> u8 {
    match level {
        LogLevel::Error => 0,
        LogLevel::Warn => 1,
        LogLevel::Info => 2,
        LogLevel::Debug => 3,
        LogLevel::Trace => 4,
    }
}

/// Where metrics are served: at the port of the command line, else where the configuration says.
fn metrics_address(run: &Run, config: &Config) -> Result<Option<SocketAddr>> {
    if let Some(port) = run.metrics_port {
        return Ok(Some((Ipv4Addr::LOCALHOST, port).into()));
    }
    let Some(written) = &config.process_settings.metrics.address else { return Ok(None) };
    let wrong = |why| Error::new(Code::ArgumentWrong, format!("`process_settings.metrics.address` is `{written}`: {why}"));
    config::MetricsSettings::listens_at(written).map(Some).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use concord_engine::config::{ProcessSettings, SyncConfig};
    use concord_engine::runtime::status::SyncStatus;

    fn sync(level: Option<&str>) -> SyncConfig {
        let written = serde_json::json!({
            "name": "s", "sync_type": "one_way", "monitoring": { "logging": level.map_or(serde_json::json!({}), |level| serde_json::json!({ "level": level })) }
        });
        serde_json::from_value(written).unwrap()
    }

    #[test]
    fn a_sync_can_only_show_more_than_the_process_does() {
        let of = |process: LogLevel, syncs: &[Option<&str>]| {
            let mut process_settings = ProcessSettings::default();
            process_settings.logging.level = process;
            level(&Config { process_settings, syncs: syncs.iter().copied().map(sync).collect(), ..Config::default() })
        };
        assert_eq!(of(LogLevel::Info, &[Some("error"), None]), LogLevel::Info);
        assert_eq!(of(LogLevel::Info, &[Some("error"), Some("debug")]), LogLevel::Debug);
        assert_eq!(of(LogLevel::Error, &[Some("warn"), Some("error")]), LogLevel::Warn);
        assert_eq!(of(LogLevel::Trace, &[]), LogLevel::Trace);
    }

    #[test]
    fn metrics_are_served_where_it_is_written() {
        let run = |metrics_port| Run {
            files: Vec::new(),
            approve: None,
            auto_approve: false,
            once: false,
            timeout: patience::USUAL_SECS,
            metrics_port,
        };
        let of = |written: Option<&str>, port| {
            let mut process_settings = ProcessSettings::default();
            process_settings.metrics.address = written.map(str::to_owned);
            let config = Config { process_settings, ..Config::default() };
            metrics_address(&run(port), &config).map(|address| address.map(|address| address.to_string()))
        };
        assert_eq!(of(None, None).unwrap(), None);
        assert_eq!(of(Some("localhost:9464"), None).unwrap().as_deref(), Some("127.0.0.1:9464"));
        assert_eq!(of(Some("[::1]:9464"), None).unwrap().as_deref(), Some("[::1]:9464"));
        assert_eq!(of(Some("[::1]:9464"), Some(7)).unwrap().as_deref(), Some("127.0.0.1:7"), "the command line has its say");
        assert_eq!(of(Some("0.0.0.0:9464"), None).unwrap_err().code, Code::ArgumentWrong);
    }

    #[test]
    fn a_run_for_once_ends_as_the_reasons_say_why_a_sync_is_not_level() {
        let of = |stages: &[(&str, Option<Code>)]| {
            let sync = |(stage, code): &(&str, Option<Code>)| SyncStatus {
                stage: (*stage).into(),
                code: *code,
                level: *stage == "live",
                ..SyncStatus::default()
            };
            exit_of(&Status { syncs: stages.iter().map(sync).collect(), ..Status::default() })
        };
        let (live, paused) = (("live", None), ("paused", None));
        let stopped = |code| ("stopped: why", Some(code));
        assert_eq!(of(&[live, live]), Exit::Fine);
        assert_eq!(of(&[live, paused]), Exit::Failure);
        assert_eq!(of(&[paused, stopped(Code::SettingWrong), live]), Exit::Environment);
        assert_eq!(of(&[stopped(Code::SettingWrong), stopped(Code::PlanNotApproved)]), Exit::BadInput);
        assert_eq!(of(&[stopped(Code::MassDelete)]), Exit::Failure);
    }
}
