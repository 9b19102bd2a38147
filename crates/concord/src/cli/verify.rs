//! `concord verify`: both sides compared. The process that runs does it where one runs; else this one.

use super::Context;
use crate::answers::verified::{self, Verified};
use crate::approval;
use crate::control::{self, Ask};
use crate::exit::Exit;
use crate::setup::{self, Prepared};
use crate::terminal::{Style, Terminal};
use clap::Args;
use concord_engine::clock::{Clock, SystemClock};
use concord_engine::error::{Code, Error, Result};
use concord_engine::mirror::{Mode, fleet};
use concord_engine::record::SyncName;
use concord_engine::runtime::command::{Command, Request};
use concord_engine::runtime::{Approvals, Options, ReviewNumbers, Setup};
use concord_engine::store::Store;
use concord_engine::verify::Difference;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Compare both sides.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  concord verify accounts.json\n  concord verify accounts.json --repair\n\n\
                        Exit codes: 0 both sides are equal, save for what waits in review and, while `concord run` runs, \
                        for what is under way; 1 they differ.")]
pub struct Verify {
    /// Files, or folders of files; several merge in the order given.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// This sync alone.
    #[arg(long)]
    sync: Option<String>,
    /// Have what differs read and planned again.
    #[arg(long)]
    repair: bool,
}

/// Runs the command.
pub async fn run(verify: &Verify, context: &Context) -> Result<Exit> {
    let Some(written) = context.read(&verify.files) else { return Ok(Exit::BadInput) };
    let folder = context.folder(Some(&written.config));
    let syncs = written.config.syncs.iter().map(|sync| sync.name.to_string()).collect();
    let ask = Ask::Verify { sync: verify.sync.clone(), syncs, repair: verify.repair };
    let report: Verified = match control::ask(&folder, &ask).await? {
        Some(answer) => serde_json::from_value(answer).map_err(|error| {
            Error::new(Code::ControlFailed, "the running process gave an answer that cannot be read").because(error)
        })?,
        None => {
            let store = setup::open_store(&folder)?;
            let systems = setup::open_systems(&written.config, store.clone(), &folder, setup::Keeping::Renewed).await?;
            let prepared = setup::prepare(&written, &*store, &systems).await?;
            if let Some((_, error)) = prepared.refused.first().or(prepared.waiting.first()) {
                context.complain_all(&prepared.notices);
                return Ok(Exit::of(error));
            }
            let is_known = |name: &String| prepared.syncs.iter().any(|sync| sync.rules.name.as_str() == name);
            if let Some(name) = verify.sync.as_ref().filter(|name| !is_known(name)) {
                return Err(Error::new(Code::UnknownSync, format!("there is no sync `{name}`")));
            }
            alone(&prepared, store, verify).await?
        }
    };
    if context.terminal.json {
        context.terminal.document(&report);
    } else {
        context.terminal.line(&render(&report, &context.terminal));
    }
    Ok(if report.is_equal() { Exit::Fine } else { Exit::Failure })
}

/// Verifies while nothing runs; a repair runs the engine until both sides are level, and looks again.
async fn alone(prepared: &Prepared, store: Arc<dyn Store>, verify: &Verify) -> Result<Verified> {
    let names: Vec<String> = verify.sync.iter().cloned().collect();
    let look = async || verified::all(prepared, &*store, &SystemClock, &names, true).await;
    let before = look().await?;
    let differing: BTreeSet<SyncName> = before.differing().into_iter().map(SyncName::from).collect();
    if !verify.repair || differing.is_empty() {
        return Ok(before);
    }
    for sync in prepared.syncs.iter().filter(|sync| differing.contains(&sync.rules.name)) {
        if !approval::has_begun(&*store, sync).await? {
            let message = format!("`{}` has never run: a repair cannot begin it", sync.rules.name);
            return Err(Error::new(Code::PlanNotApproved, message));
        }
        approval::has_not_moved(&*store, sync).await?;
        approval::may_be_remapped(&*store, sync, None, SystemClock.now()).await?;
    }
    let repairs = repair(prepared, Arc::clone(&store), &differing).await?;
    Ok(Verified { repairs, ..look().await? })
}

async fn repair(prepared: &Prepared, store: Arc<dyn Store>, differing: &BTreeSet<SyncName>) -> Result<Vec<String>> {
    let concerned: Vec<_> = prepared.syncs.iter().filter(|sync| differing.contains(&sync.rules.name)).collect();
    let ids: Vec<_> = concerned.iter().map(|sync| sync.rules.id).collect();
    let order = concerned.iter().map(|sync| sync.rules.name.clone()).collect();
    let (mirrored, reconciled): (Vec<_>, Vec<_>) = concerned.into_iter().partition(|sync| sync.mode == Mode::Mirror);
    let mirrored = mirrored.into_iter().map(|sync| Arc::new(sync.rules.clone())).collect();
    let setup = Setup {
        syncs: reconciled.into_iter().map(|sync| sync.rules.clone()).collect(),
        systems: prepared.systems.clone(),
        store,
        clock: Arc::new(SystemClock),
        options: Options { once: true, ..Options::default() },
        // A sync whose first run was never approved is not begun by a repair.
        approvals: Approvals::Only(BTreeSet::new()),
        reviews: ReviewNumbers::default(),
    };
    let (handle, fleet) = fleet(setup, mirrored, order).await?;
    let mut answers = Vec::new();
    for id in ids {
        let (answer, answered) = oneshot::channel();
        let gone = |_| Error::new(Code::Internal, "the engine takes no requests");
        handle.commands.send(Command { request: Request::Reread(id), answer }).await.map_err(gone)?;
        answers.push(answered);
    }
    fleet.run(CancellationToken::new()).await?;
    let mut said = Vec::new();
    for answer in answers {
        said.push(answer.await.unwrap_or_else(|_| Err(Error::new(Code::Internal, "the engine did not answer")))?);
    }
    Ok(said)
}

/// The report as text.
fn render(report: &Verified, terminal: &Terminal) -> String {
    let mut lines = Vec::new();
    for sync in &report.syncs {
        let verdict =
            if report.is_level(sync) { terminal.paint(Style::Good, "equal") } else { terminal.paint(Style::Bad, "differs") };
        let unlinked: u64 = sync.unlinked.iter().sum();
        lines.push(format!(
            "{} {verdict}: {} records, {} equal, {} differ, {unlinked} without a counterpart, {} in review, {} under way, as of {}",
            terminal.paint(Style::Strong, &sync.name),
            sync.links,
            sync.equal,
            sync.differing,
            sync.in_review,
            sync.under_way,
            sync.through
        ));
        lines.extend(sync.differences.iter().map(difference));
    }
    lines.extend(report.repairs.iter().map(|said| format!("repair: {said}")));
    lines.join("\n")
}

fn difference(difference: &Difference) -> String {
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "?".into());
    let fields: Vec<String> =
        difference.fields.iter().map(|(field, first, other)| format!("{field}: {} ≠ {}", shown(first), shown(other))).collect();
    let fields = if fields.is_empty() { String::new() } else { format!(" ({})", fields.join(", ")) };
    format!("  {} {} {}{fields}", difference.kind, difference.system, difference.key)
}
