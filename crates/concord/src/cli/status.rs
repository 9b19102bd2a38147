//! `concord status`: how everything does, once or again and again.

use super::Context;
use crate::answers::AT_REST;
use crate::control::Ask;
use crate::exit::Exit;
use crate::files;
use crate::kept_log;
use crate::setup;
use crate::terminal::{Notice, Style, Terminal};
use clap::Args;
use concord_engine::error::{Code, Error, Result};
use concord_engine::runtime::status::{AllowanceStatus, FeedStatus, Status, SyncStatus};
use concord_engine::store::Store;
use concord_engine::store::sqlite::SqliteStore;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Show how everything does.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  concord status\n  concord status --watch")]
pub struct StatusArgs {
    /// Go on showing it, once a second, until Ctrl-C.
    #[arg(long, short)]
    watch: bool,
    /// While nothing runs: the files whose systems are asked how much log they keep; else those of the last run.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Runs the command.
pub async fn run(arguments: &StatusArgs, context: &Context) -> Result<Exit> {
    let mut sources = Sources::default();
    let mut has_shown = false;
    let mut failed: Option<String> = None;
    let stopped = tokio::signal::ctrl_c();
    tokio::pin!(stopped);
    loop {
        match context.ask::<Status>(&Ask::Status).await {
            Ok(mut status) => {
                sources.show(&mut status, &arguments.files, &context.folder(None)).await;
                show(&status, arguments.watch, context);
                (has_shown, failed) = (true, None);
            }
            // The process that runs may be about to start anew. That it does not answer is said, and the same once.
            Err(error) if has_shown => {
                if failed.as_ref() != Some(&error.message) {
                    complain(&error, context);
                }
                failed = Some(error.message);
            }
            Err(error) => return Err(error),
        }
        if !arguments.watch {
            return Ok(Exit::Fine);
        }
        tokio::select! {
            _ = &mut stopped => return Ok(Exit::Fine),
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

fn show(status: &Status, is_watched: bool, context: &Context) {
    if context.terminal.json {
        return context.terminal.document(status);
    }
    let clear = if is_watched && context.terminal.is_live() { "\x1b[H\x1b[2J" } else { "" };
    context.terminal.line(&format!("{clear}{}", render(status, &context.terminal)));
}

fn complain(error: &Error, context: &Context) {
    let notice = Notice::of(error);
    if context.terminal.json {
        context.terminal.document(&serde_json::json!({ "error": notice }));
    }
    context.terminal.complain(&notice);
}

/// What the sources of feeds tell while nothing runs, asked now and then.
#[derive(Default)]
struct Sources {
    looked: Option<(Instant, Vec<FeedStatus>)>,
}

impl Sources {
    /// Completes the feeds of a status with it. What stands in the way is said with the feeds, and fails nothing.
    async fn show(&mut self, status: &mut Status, files: &[PathBuf], folder: &Path) {
        let at_rest = |feed: &FeedStatus| feed.state == AT_REST;
        if !status.feeds.iter().any(at_rest) {
            self.looked = None;
            return;
        }
        let known = self.looked.as_ref().filter(|(at, _)| at.elapsed() < kept_log::LOOK_INTERVAL);
        if let Some((_, feeds)) = known {
            status.feeds.clone_from(feeds);
            return;
        }
        if let Err(error) = ask_sources(&mut status.feeds, files, folder).await {
            status
                .feeds
                .iter_mut()
                .filter(|feed| at_rest(feed))
                .for_each(|feed| feed.warning = Some(kept_log::not_known(&error)));
        }
        self.looked = Some((Instant::now(), status.feeds.clone()));
    }
}

/// Asks the systems of these files, or of those of the last run, how much log they keep. Where no files are known nothing is asked.
async fn ask_sources(feeds: &mut [FeedStatus], files: &[PathBuf], folder: &Path) -> Result<()> {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open_read_only(folder)?);
    let files = if files.is_empty() { files::remembered(&*store).await? } else { files.to_vec() };
    if files.is_empty() {
        return Ok(());
    }
    let written = setup::read(&files).map_err(|notices| {
        let first = notices.into_iter().find(|notice| notice.severity == "error");
        let why = first.map_or_else(String::new, |notice| format!("{}: {}", notice.place.unwrap_or_default(), notice.message));
        Error::new(
            Code::FileUnusable,
            format!("the files that it was run with cannot be read ({why}); name them: concord status FILE"),
        )
    })?;
    let systems = setup::open_each(&written.config, Arc::clone(&store), folder, setup::Keeping::Nothing).await?;
    kept_log::at_rest(feeds, &written.config, &*store, &systems).await
}

/// The status as text.
pub fn render(status: &Status, terminal: &Terminal) -> String {
    let mut text = Vec::new();
    for sync in &status.syncs {
        text.push(render_sync(sync, terminal));
    }
    if !status.feeds.is_empty() {
        text.push(render_feeds(&status.feeds, terminal));
    }
    text.extend((!status.allowances.is_empty()).then(|| render_allowances(&status.allowances, terminal)));
    if text.is_empty() {
        text.push("no sync has run yet".to_string());
    }
    text.join("\n\n")
}

fn render_sync(sync: &SyncStatus, terminal: &Terminal) -> String {
    let (stage, reason) = split(&sync.stage);
    let style = match stage {
        "stopped" => Style::Bad,
        _ if sync.level => Style::Good,
        _ => Style::Careful,
    };
    let level = if sync.level { ", level" } else { "" };
    let mut lines = vec![format!(
        "{} {}{level}: {} records, {} seen, {} written, {} failed, {} in review",
        terminal.paint(Style::Strong, &sync.name),
        terminal.paint(style, stage),
        sync.links,
        sync.observed,
        sync.written,
        sync.failed,
        sync.review
    )];
    lines.extend(reason.map(|reason| format!("  {reason}")));
    lines.extend((!sync.mode.is_empty()).then(|| format!("  mode {}", sync.mode)));
    lines.extend(sync.offers.iter().map(|offer| format!("  {} {offer}", terminal.paint(Style::Careful, "new field:"))));
    if sync.waiting > 0 {
        let whom = match sync.waits_for.as_slice() {
            [] => String::new(),
            hindered => format!(", of {}", hindered.join(", and of ")),
        };
        lines.push(format!("  {} wait for records that they refer to{whom} ({})", sync.waiting, Code::ReferenceWaits));
    } else {
        lines.extend(sync.waits_for.iter().map(|whom| format!("  waits for {whom}: its records name records of that one")));
    }
    let latency = sync.latency_ms;
    if latency.count > 0 {
        lines.push(format!(
            "  {:.1}/s · {:.1} % failed · latency p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms, most {:.1} ms",
            sync.rate,
            sync.error_rate * 100.0,
            latency.p50,
            latency.p95,
            latency.p99,
            latency.max
        ));
    }
    lines.push(match &sync.verified {
        Some(last) if last.equal => format!("  verified through {}: {} records equal", last.through, last.records),
        Some(last) => format!("  verified through {}: {} of {} differ", last.through, last.differing, last.records),
        None => "  not verified yet (concord verify)".to_string(),
    });
    let rows = sync.members.iter().map(|member| {
        vec![
            format!("  {}", member.system),
            member.object.clone(),
            split(&member.reach).0.to_string(),
            if member.load.is_empty() { "-".to_string() } else { member.load.clone() },
            member.pending.to_string(),
            member.owed.to_string(),
            member.in_flight.to_string(),
        ]
    });
    lines.push(terminal.table(&["  system", "object", "reach", "first read", "pending", "owed", "in flight"], rows));
    let troubles = sync.members.iter().filter_map(|member| {
        let (what, why) = split(&member.reach);
        let why = why.filter(|why| Some(*why) != reason)?;
        Some(format!("  {} {} {what}: {why}", terminal.paint(Style::Careful, "trouble"), member.system))
    });
    lines.extend(troubles);
    lines.join("\n")
}

fn render_feeds(feeds: &[FeedStatus], terminal: &Terminal) -> String {
    let or_none = |text: &str| if text.is_empty() { "-".to_string() } else { text.to_string() };
    let rows = feeds.iter().map(|feed| {
        let retained = match (feed.retained_bytes, feed.retained_bytes_max) {
            (Some(bytes), Some(most)) => format!("{} of {}", size(bytes), size(most)),
            (Some(bytes), None) => size(bytes),
            (None, _) => "-".to_string(),
        };
        let lag = feed.lag_ms.map_or("-".to_string(), |lag| format!("{lag} ms"));
        let state = split(&feed.state).0.to_string();
        vec![format!("  {}", feed.system), or_none(&feed.feed), state, lag, retained, or_none(&feed.position)]
    });
    let mut lines = vec![terminal.table(&["  system", "feed", "state", "lag", "log kept", "position"], rows)];
    let is_untold = |feed: &FeedStatus| feed.state == AT_REST && feed.retained_bytes.is_none() && feed.warning.is_none();
    if feeds.iter().any(is_untold) {
        lines.push("  a dash: the source keeps no log for it, or has not been asked (concord status FILE)".to_owned());
    }
    for feed in feeds {
        if let Some(warning) = &feed.warning {
            lines.push(format!("  {} {}: {warning}", terminal.paint(Style::Careful, "warning"), feed.system));
        }
    }
    lines.join("\n")
}

fn render_allowances(allowances: &[AllowanceStatus], terminal: &Terminal) -> String {
    let rows = allowances.iter().map(|one| {
        let calls = one.calls;
        let used = format!("{} of {}", calls.used, calls.allowed);
        let own = format!("{} of {}", calls.own, calls.share);
        vec![format!("  {}", one.system), used, own, one.left.to_string(), format!("{} a day", calls.forecast)]
    });
    let mut lines = vec![terminal.table(&["  system", "calls used", "by Concord", "left", "forecast"], rows)];
    for one in allowances.iter().filter(|one| one.calls.forecast > one.calls.share) {
        lines.push(format!(
            "  {} {}: at the rate of the last hour the calls of a day will not do{}",
            terminal.paint(Style::Careful, "warning"),
            one.system,
            match one.calls.spacing().as_secs() {
                0 => String::new(),
                seconds => format!(": what is written there is gathered, a batch every {seconds} s"),
            }
        ));
    }
    lines.join("\n")
}

/// What is wrong in one word for a table, and the reason for a line of its own: `stopped: why` or `unreachable since
/// then: why`.
fn split(text: &str) -> (&str, Option<&str>) {
    match text.split_once(": ") {
        Some((what, why)) => (what, Some(why)),
        None => (text, None),
    }
}

/// Bytes for people.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut shown = bytes;
    let mut rest = 0;
    let mut unit = 0;
    while shown >= 1024 && unit + 1 < UNITS.len() {
        rest = shown % 1024 * 10 / 1024;
        shown /= 1024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or("");
    if unit == 0 { format!("{shown} {name}") } else { format!("{shown}.{rest} {name}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use concord_engine::connector::Allowance;
    use concord_engine::runtime::status::{MemberStatus, Percentiles};

    #[test]
    fn sizes_are_read_at_a_glance() {
        assert_eq!([size(512), size(1536), size(5 << 30)], ["512 B", "1.5 KiB", "5.0 GiB"]);
    }

    #[test]
    fn a_feed_at_rest_shows_the_log_that_is_kept_or_why_that_is_not_known() {
        let feed = |system: &str| FeedStatus { system: system.into(), state: AT_REST.into(), ..FeedStatus::default() };
        let kept = FeedStatus { retained_bytes: Some(2048), ..feed("crm") };
        let away = FeedStatus { warning: Some("how much log is kept is not known: CON-2001 no answer".into()), ..feed("erp") };
        let of = |feeds: &[FeedStatus]| render_feeds(feeds, &Terminal::detect(true));
        let text = of(&[kept.clone(), away]);
        assert!(text.contains("2.0 KiB") && text.contains("warning erp: how much log is kept is not known: CON-2001"), "{text}");
        assert!(!text.contains("concord status FILE"), "{text}");
        assert!(of(&[kept, feed("erp")]).contains("concord status FILE"));
    }

    #[test]
    fn a_reason_stands_on_a_line_of_its_own_and_once() {
        let stopped = "stopped: CON-2008 the slot is gone".to_string();
        let status = Status {
            syncs: vec![SyncStatus {
                name: "accounts".into(),
                stage: stopped.clone(),
                members: vec![
                    MemberStatus { system: "crm".into(), reach: stopped.clone(), ..MemberStatus::default() },
                    MemberStatus { system: "erp".into(), reach: "down since 9:00: no answer".into(), ..MemberStatus::default() },
                ],
                ..SyncStatus::default()
            }],
            feeds: vec![FeedStatus { system: "crm".into(), state: stopped, ..FeedStatus::default() }],
            ..Status::default()
        };
        let text = render(&status, &Terminal::detect(true));
        assert_eq!(text.matches("the slot is gone").count(), 1, "{text}");
        assert!(
            text.contains("accounts stopped: 0 records") && text.contains("  trouble erp down since 9:00: no answer"),
            "{text}"
        );
    }

    #[test]
    fn a_status_shows_syncs_members_feeds_and_warnings() {
        let status = Status {
            syncs: vec![SyncStatus {
                name: "accounts".into(),
                stage: "live".into(),
                level: true,
                review: 2,
                waiting: 4,
                waits_for: vec!["companies, which is paused".into()],
                latency_ms: Percentiles { count: 1, p50: 2.5, ..Percentiles::default() },
                members: vec![MemberStatus { system: "crm".into(), owed: 3, ..MemberStatus::default() }],
                ..SyncStatus::default()
            }],
            feeds: vec![FeedStatus {
                system: "crm".into(),
                warning: Some("the slot will soon be lost".into()),
                ..FeedStatus::default()
            }],
            allowances: vec![AllowanceStatus {
                system: "crm".into(),
                calls: Allowance { used: 900, allowed: 1_000, own: 50, share: 500, forecast: 501 },
                left: 100,
            }],
        };
        let text = render(&status, &Terminal::detect(true));
        for expected in [
            "accounts live, level",
            "2 in review",
            "4 wait for records that they refer to, of companies, which is paused (CON-3025)",
            "p50 2.5 ms",
            "crm",
            "the slot will soon be lost",
            "900 of 1000",
            "50 of 500",
            "will not do: what is written there is gathered, a batch every 60 s",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
    }
}
