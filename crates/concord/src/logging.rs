//! Where the process writes what it does: structured lines on standard error, and in files that are kept for as many
//! days as the configuration says. Standard output belongs to the commands' results.

use crate::progress::AboveBars;
use concord_engine::error::{Code, Error, Result};
use std::path::PathBuf;
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// What is logged, how, and where to.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter in the form that `RUST_LOG` takes.
    pub level: String,
    /// The form of the lines.
    pub format: LogFormat,
    /// The folder for log files, one a day; `None`: standard error only.
    pub folder: Option<PathBuf>,
    /// How many days a file is kept.
    pub retention_days: usize,
}

/// Starts logging for the rest of the process. Files are written in place, line by line: a kill loses none.
pub fn start(settings: &LogSettings) -> Result<()> {
    let filter = || {
        EnvFilter::try_new(&settings.level)
            .map_err(|error| Error::new(Code::ArgumentWrong, format!("the log level `{}` is not one: {error}", settings.level)))
    };
    let console = tracing_subscriber::fmt::layer().with_writer(AboveBars::default).with_ansi(false).with_target(false);
    let console = match settings.format {
        LogFormat::Text => console.boxed(),
        LogFormat::Json => console.json().boxed(),
    };
    let file = match &settings.folder {
        None => None,
        Some(folder) => {
            let appender = RollingFileAppender::builder()
                .rotation(Rotation::DAILY)
                .filename_prefix("concord")
                .filename_suffix("log")
                .max_log_files(settings.retention_days.max(1))
                .build(folder)
                .map_err(|error| {
                    Error::new(Code::FileUnusable, "the log file cannot be opened")
                        .at(folder.display().to_string())
                        .because(error)
                })?;
            let layer = tracing_subscriber::fmt::layer().with_writer(std::sync::Mutex::new(appender)).with_ansi(false);
            Some(layer.json().with_filter(filter()?))
        }
    };
    tracing_subscriber::registry()
        .with(file)
        .with(console.with_filter(filter()?))
        .try_init()
        .map_err(|error| Error::new(Code::Internal, "logging was started twice").because(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_is_none_is_refused_by_name() {
        let settings = LogSettings { level: "loud=very=".into(), format: LogFormat::Text, folder: None, retention_days: 1 };
        let error = start(&settings).unwrap_err();
        assert_eq!(error.code, Code::ArgumentWrong);
        assert!(error.message.contains("loud=very="));
    }
}
