//! `concord verify`: both sides compared. The process that runs does it where one runs; else this one.

use super::Context;
use crate::answers::verified::{self, Verified};
use crate::approval;
use crate::control::{self, Ask};
use crate::exit::Exit;
use crate::setup::{self, LeftOut, Prepared};
use crate::terminal::{Style, Terminal, short};
use clap::Args;
use concord_engine::clock::{Clock, SystemClock};
use concord_engine::error::{Code, Error, Result};
use concord_engine::mirror::{Mode, fleet};
use concord_engine::record::SyncName;
use concord_engine::runtime::command::{Command, Request};
use concord_engine::runtime::status::Status;
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
                        for what is under way in a sync that carries it over; 1 they differ; 2 or 3 a sync could not \
                        be compared, with the reason.")]
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
            let systems = setup::open_some(&written.config, store.clone(), &folder, setup::Keeping::Renewed).await?;
            let mut prepared = setup::prepare(&written, &*store, &systems).await?;
            prepared.leave_out_moved(&*store).await?;
            let is_asked = |name: &str| verify.sync.as_ref().is_none_or(|asked| asked == name);
            let left_out: Vec<&(String, Error)> = prepared.left_out().filter(|(name, _)| is_asked(name)).collect();
            if !left_out.is_empty() {
                context.complain_all(&prepared.notices);
            }
            if !prepared.syncs.iter().any(|sync| is_asked(sync.rules.name.as_str())) {
                return match (left_out.is_empty(), &verify.sync) {
                    (true, Some(name)) => Err(Error::new(Code::UnknownSync, format!("there is no sync `{name}`"))),
                    _ => Ok(context.refuse(left_out.into_iter().map(|(_, error)| error), &[])),
                };
            }
            let not_compared = left_out.into_iter().map(LeftOut::of).collect();
            Verified { not_compared, ..alone(&prepared, store, verify).await? }
        }
    };
    if context.terminal.json {
        context.terminal.document(&report);
    } else {
        context.terminal.line(&render(&report, &context.terminal));
    }
    let found = if report.is_equal() { Exit::Fine } else { Exit::Failure };
    Ok(Exit::worst(report.not_compared.iter().map(|left| Exit::of_code(left.code)).chain([found])))
}

/// Verifies while nothing runs; a repair runs the engine until both sides are level, and looks again.
async fn alone(prepared: &Prepared, store: Arc<dyn Store>, verify: &Verify) -> Result<Verified> {
    let names: Vec<String> = verify.sync.iter().cloned().collect();
    let asked: Vec<_> = prepared
        .syncs
        .iter()
        .filter(|sync| names.is_empty() || names.iter().any(|name| sync.rules.name.as_str() == name))
        .collect();
    let look = async || verified::all(prepared, &*store, &SystemClock, &names, |_| Some("nothing runs".to_owned())).await;
    let before = look().await?;
    if !verify.repair {
        return Ok(before);
    }
    let mut differing: BTreeSet<SyncName> = before.differing().into_iter().map(SyncName::from).collect();
    let mut equal = BTreeSet::new();
    for sync in asked {
        let name = &sync.rules.name;
        let has_begun = approval::has_begun(&*store, sync).await?;
        if !has_begun && differing.contains(name) {
            let message = format!("`{name}` has not begun (it never ran, or it was released): a repair cannot begin it");
            return Err(Error::new(Code::PlanNotApproved, message));
        }
        if !has_begun {
            continue;
        }
        approval::has_not_moved(&*store, sync).await?;
        approval::may_be_remapped(&*store, sync, None, SystemClock.now()).await?;
        if !differing.contains(name) {
            equal.insert(name.clone());
        }
    }
    // A sync that stopped at a gap goes on by being read again, equal or not; that it did shows when it runs.
    if !equal.is_empty() {
        let (_, status) = run_once(prepared, Arc::clone(&store), &equal, false).await?;
        differing.extend(equal.into_iter().filter(|name| verified::is_at_a_gap(&status, name.as_str())));
    }
    if differing.is_empty() {
        return Ok(before);
    }
    let (repairs, _) = run_once(prepared, Arc::clone(&store), &differing, true).await?;
    Ok(Verified { repairs, ..look().await? })
}

/// Runs some syncs until they are level, having them read again where that is asked for. Gives back what was said about that, and
/// how they did at the end.
async fn run_once(
    prepared: &Prepared,
    store: Arc<dyn Store>,
    concerned: &BTreeSet<SyncName>,
    again: bool,
) -> Result<(Vec<String>, Status)> {
    let ids = prepared.syncs.iter().filter(|sync| again && concerned.contains(&sync.rules.name)).map(|sync| sync.rules.id);
    let ids: Vec<_> = ids.collect();
    let concerned = with_those_before(prepared, concerned);
    let concerned: Vec<_> = prepared.syncs.iter().filter(|sync| concerned.contains(&sync.rules.name)).collect();
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
    let status = handle.status.clone();
    fleet.run(CancellationToken::new()).await?;
    let mut said = Vec::new();
    for answer in answers {
        said.push(answer.await.unwrap_or_else(|_| Err(Error::new(Code::Internal, "the engine did not answer")))?);
    }
    let status = status.borrow().clone();
    Ok((said, status))
}

/// Some syncs, and those that carry what the records of these name: it has to be there before they are.
fn with_those_before(prepared: &Prepared, concerned: &BTreeSet<SyncName>) -> BTreeSet<SyncName> {
    let mut all = concerned.clone();
    loop {
        let of = prepared.syncs.iter().filter(|sync| all.contains(&sync.rules.name));
        let before: BTreeSet<SyncName> = of.flat_map(|sync| sync.rules.kin.behind.iter().cloned()).collect();
        if before.is_subset(&all) {
            return all;
        }
        all.extend(before);
    }
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
        lines.extend(report.why_not_carried(sync).map(|why| format!("  what is under way is not carried over now: {why}")));
        lines.extend(sync.differences.iter().map(difference));
    }
    lines.extend(report.not_compared.iter().map(|left| {
        let (name, verdict) = (terminal.paint(Style::Strong, &left.sync), terminal.paint(Style::Bad, "not compared"));
        format!("{name} {verdict}: {} {}", left.code, left.message)
    }));
    lines.extend(report.repairs.iter().map(|said| format!("repair: {said}")));
    lines.join("\n")
}

fn difference(difference: &Difference) -> String {
    let shown = |value: &Option<String>| value.as_deref().map_or_else(|| "?".to_owned(), short);
    let fields: Vec<String> =
        difference.fields.iter().map(|(field, first, other)| format!("{field}: {} ≠ {}", shown(first), shown(other))).collect();
    let fields = if fields.is_empty() { String::new() } else { format!(" ({})", fields.join(", ")) };
    let missing = difference.missing_in.as_ref().map(|system| format!(" in {system}")).unwrap_or_default();
    format!("  {}{missing} {} {}{fields}", difference.kind, difference.system, difference.key)
}
