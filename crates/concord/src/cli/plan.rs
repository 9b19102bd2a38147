//! `concord plan`: what the first run would do. Reads both sides, writes to none, and keeps the plan under an id.

use super::Context;
use crate::approval::{self, KeptPlan};
use crate::exit::Exit;
use crate::rights;
use crate::setup::{self, LeftOut, Prepared, PreparedSync};
use crate::terminal::{Notice, Style, Terminal, short};
use clap::Args;
use concord_engine::clock::SystemClock;
use concord_engine::error::{Code, Result};
use concord_engine::mirror::{self, Mode};
use concord_engine::plan::Remapping;
use concord_engine::plan::first_run::{FirstRun, Sample};
use concord_engine::store::Store;
use concord_engine::store::sqlite::SqliteStore;
use std::path::PathBuf;
use std::sync::Arc;

/// Show what the first run would do.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  concord plan accounts.json\n  concord run accounts.json --approve 3f9a12c4")]
pub struct Plan {
    /// Files, or folders of files; several merge in the order given.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Runs the command.
pub async fn run(plan: &Plan, context: &Context) -> Result<Exit> {
    let Some(written) = context.read(&plan.files) else { return Ok(Exit::BadInput) };
    let folder = context.folder(Some(&written.config));
    let (store, is_kept): (Arc<dyn Store>, bool) = match setup::open_store(&folder) {
        Ok(store) => (store, true),
        // While something runs there, the plan can be looked at but not kept: what runs needs none.
        Err(error) if error.code == Code::StoreInUse => (Arc::new(SqliteStore::open_read_only(&folder)?), false),
        Err(error) => return Err(error),
    };
    let keeping = if is_kept { setup::Keeping::Renewed } else { setup::Keeping::Nothing };
    let systems = setup::open_some(&written.config, store.clone(), &folder, keeping).await?;
    let mut prepared = match is_kept {
        true => setup::prepare(&written, &*store, &systems).await?,
        false => setup::prove(&written, &*store, &systems).await?,
    };
    prepared.leave_out_moved(&*store).await?;
    let not_planned: Vec<LeftOut> = prepared.left_out().map(LeftOut::of).collect();
    if !not_planned.is_empty() {
        // Why, with the statement that puts it right where a system can tell.
        let mut notices = setup::ask_systems(&written.config, &systems.open).await;
        let no_key = Code::KeyMissing.to_string();
        notices.retain(|notice| notice.severity == "error" || notice.code == no_key);
        setup::add_unknown(&mut notices, std::mem::take(&mut prepared.notices));
        prepared.notices = notices;
    }
    context.complain_all(&prepared.notices);
    // The others are planned all the same.
    if prepared.syncs.is_empty() && !not_planned.is_empty() {
        return Ok(context.refuse(prepared.left_out().map(|(_, error)| error), &prepared.notices));
    }
    let lacks = say_what_is_missing(&mut prepared, context).await?;
    let made = approval::make(&prepared, &*store, &SystemClock).await?;
    if is_kept {
        approval::keep(&*store, &made).await?;
    }
    let spare = spare_indexes(&prepared, &*store).await?;
    if context.terminal.json {
        let indexes: Vec<_> = prepared.syncs.iter().flat_map(|sync| &sync.indexes).collect();
        let mode = |(sync, spare): (&PreparedSync, &Vec<String>)| {
            let (name, mode) = (sync.rules.name.to_string(), sync.mode.describe());
            serde_json::json!({ "sync": name, "mode": mode, "rebuilt_indexes": spare })
        };
        let modes: Vec<_> = prepared.syncs.iter().zip(&spare).map(mode).collect();
        let findings = [written.notices, prepared.notices].concat();
        let shown = serde_json::json!({ "id": made.id, "made": made.made.to_string(), "runs": made.runs });
        context.terminal.document(&serde_json::json!({
            "plan": shown, "modes": modes, "kept": is_kept, "indexes": indexes, "findings": findings, "not_planned": not_planned
        }));
    } else {
        context.terminal.line(&render(&made, &context.terminal));
        context.terminal.line("");
        for (sync, spare) in prepared.syncs.iter().zip(&spare) {
            context.terminal.line(&format!("{} runs in mode {}", sync.rules.name, sync.mode.describe()));
            if sync.rules.members.first().is_some_and(|source| source.schema.key.is_empty()) {
                context.terminal.line(
                    "  the source's table has no key: what is inserted is appended, each record once; while the sync is there, the source \
                     refuses to change or delete its records, or, with REPLICA IDENTITY FULL, the first that is changed or deleted stops the sync",
                );
            }
            if !spare.is_empty() {
                context
                    .terminal
                    .line(&format!("  indexes that are dropped for the load and built behind it: {}", spare.join(", ")));
            }
        }
        for left in &not_planned {
            let (name, verdict) =
                (context.terminal.paint(Style::Strong, &left.sync), context.terminal.paint(Style::Bad, "is not planned"));
            context.terminal.line(&format!("{name} {verdict}: {} {}", left.code, left.message));
        }
        let files: Vec<String> = plan.files.iter().map(|file| file.display().to_string()).collect();
        context.terminal.line("");
        context.terminal.line(&match is_kept {
            true => what_next(&made, &files.join(" "), lacks),
            false => "Nothing has been written. The plan is not kept: these syncs run already.".to_string(),
        });
    }
    let missing = lacks.then(|| Exit::of_code(Code::PrivilegeMissing));
    Ok(Exit::worst(not_planned.iter().map(|left| Exit::of_code(left.code)).chain(missing)))
}

/// Says what the systems lack for what the syncs write, with what grants it. Whether anything of it stands in the way.
async fn say_what_is_missing(prepared: &mut Prepared, context: &Context) -> Result<bool> {
    let mut lacking: Vec<Notice> = Vec::new();
    for sync in &prepared.syncs {
        match rights::lacking(&*prepared, sync).await {
            Ok(more) => lacking.extend(more),
            // Asked again before anything is written.
            Err(error) => lacking.push(Notice { severity: "warning", ..Notice::of(&error) }),
        }
    }
    let stands_in_the_way = lacking.iter().any(|notice| notice.severity == "error");
    for notice in lacking {
        let is_same = |known: &Notice| known.place == notice.place && known.message == notice.message;
        if !prepared.notices.iter().any(is_same) {
            context.terminal.complain(&notice);
            prepared.notices.push(notice);
        }
    }
    Ok(stands_in_the_way)
}

/// What a person does next with a plan that is kept. `lacks`: something is missing that it needs.
fn what_next(plan: &KeptPlan, files: &str, lacks: bool) -> String {
    let carry_out = format!("  concord run {files} --approve {}", plan.id);
    match plan.runs.iter().all(|run| run.begun) {
        false if lacks => format!(
            "Nothing has been written. It cannot be carried out as things are: the statements that grant what is missing stand above. \
             Once they have been run:\n{carry_out}"
        ),
        false => format!("Nothing has been written. To carry it out:\n{carry_out}"),
        true => format!(
            "Nothing has been written. A sync that has begun goes on without an approval:\n  concord run {files}\n\
             unless it stopped at a gap ({}) or its changed mapping rewrites much; then:\n{carry_out}",
            Code::FeedGap
        ),
    }
}

/// The indexes, for each sync, that its first load does without.
async fn spare_indexes(prepared: &Prepared, store: &dyn Store) -> Result<Vec<Vec<String>>> {
    let mut spare = Vec::new();
    for sync in &prepared.syncs {
        let rules = Arc::new(sync.rules.clone());
        let begins = sync.mode == Mode::Mirror && !mirror::has_begun(store, rules.id).await?;
        spare.push(match prepared.connectors_of(&rules)?.as_slice() {
            [_, target] if begins => mirror::spare_indexes(&rules, target.as_ref()).await?,
            _ => Vec::new(),
        });
    }
    Ok(spare)
}

/// A plan as text.
pub fn render(plan: &KeptPlan, terminal: &Terminal) -> String {
    let mut lines = vec![format!("{} made {}", terminal.paint(Style::Strong, &format!("plan {}", plan.id)), plan.made)];
    for run in &plan.runs {
        lines.push(String::new());
        lines.extend(render_run(run, terminal));
    }
    lines.join("\n")
}

fn render_run(run: &FirstRun, terminal: &Terminal) -> Vec<String> {
    let mut lines = vec![terminal.paint(Style::Strong, &run.sync)];
    let rows = run.members.iter().map(|member| {
        vec![
            format!("  {}", member.system),
            member.object.clone(),
            member.records.to_string(),
            member.only_here.to_string(),
            member.creates.to_string(),
            member.updates.to_string(),
            member.deletes.to_string(),
            member.calls.to_string(),
        ]
    });
    lines.push(terminal.table(&["  system", "object", "records", "only here", "create", "update", "delete", "calls"], rows));
    if run.begun {
        let told = match run.linked {
            0 => "what is listed is a comparison of both sides, and a run goes on where it stopped".to_owned(),
            known => format!("what would become of the {known} records that it knows is counted from what was agreed on them"),
        };
        lines.push(format!("  it has begun: {told}"));
    } else if run.linked > 0 {
        let known = run.linked;
        lines.push(format!(
            "  {known} records are known from before it was released: they are not matched again, and deletes are followed"
        ));
    }
    lines.push(format!("  on both sides: {} matched, {} of them equal, {} ambiguous", run.matched, run.equal, run.ambiguous));
    for member in &run.members {
        if let Some(allowance) = &member.allowance {
            let (system, calls, left) = (&member.system, member.calls, allowance.left());
            lines.push(format!(
                "  {system}: about {calls} calls are needed; {left} of {} a day are left for Concord",
                allowance.share
            ));
            if calls > left {
                let line = format!("  {system}: that is more than are left: the first run goes on as the allowance comes back");
                lines.push(terminal.paint(Style::Careful, &line));
            }
        }
        for (sync, count) in &member.referring {
            let system = &member.system;
            lines.push(format!("  {system}: {count} of those that are only here refer to records of {sync}, which come first"));
        }
        if member.left_alone > 0 {
            let (system, count) = (&member.system, member.left_alone);
            lines.push(format!("  {system}: {count} records are left alone; each is linked when it is first seen to change"));
        }
        if member.gone > 0 {
            lines.push(format!("  {}: {} of the records that are known are gone", member.system, member.gone));
        }
        if member.unmatchable > 0 {
            lines.push(format!("  {}: {} records have no value to be matched by", member.system, member.unmatchable));
        }
        if member.unfit > 0 {
            lines.push(format!(
                "  {}: {} records hold values that cannot be carried over as they are",
                member.system, member.unfit
            ));
        }
    }
    for (field, count) in &run.differing {
        lines.push(format!("  {field} differs in {count}"));
    }
    if run.by_policy > 0 {
        lines.push(format!("  {} records that differ are decided by the conflict rules", run.by_policy));
    }
    if run.review > 0 {
        lines.push(terminal.paint(Style::Careful, &format!("  {} will wait for a person (concord review list)", run.review)));
    }
    lines.extend(samples(run));
    lines.extend(run.remapping.iter().flat_map(|remapping| render_remapping(remapping, terminal)));
    lines
}

/// What a changed mapping would do to a sync that has been running.
fn render_remapping(remapping: &Remapping, terminal: &Terminal) -> Vec<String> {
    let updates: Vec<String> = remapping.updates.iter().map(|(system, count)| format!("{count} in {system}")).collect();
    let fields = remapping.fields.join(", ");
    let of = remapping.records;
    let line = format!("  the mapping of {fields} has changed: of {of} records it would rewrite {}", updates.join(", "));
    let mut lines = vec![terminal.paint(Style::Strong, &line)];
    if remapping.review > 0 {
        let line =
            format!("  {} records hold values that the new mapping refuses; they will wait for a person", remapping.review);
        lines.push(terminal.paint(Style::Careful, &line));
    }
    lines.extend(remapping.samples.iter().map(|sample| {
        let fields: Vec<String> =
            sample.fields.iter().map(|(field, now, then)| format!("{field}: {} → {}", short(now), short(then))).collect();
        format!("    for example, rewritten: {} {} ({})", sample.system, sample.key, fields.join(", "))
    }));
    lines
}

/// Samples of one kind that a person is shown; the JSON has them all.
const SAMPLES_SHOWN: usize = 3;

/// The samples, kind by kind in the order in which the kinds first occur.
fn samples(run: &FirstRun) -> Vec<String> {
    let mut kinds: Vec<&str> = Vec::new();
    for sample in &run.samples {
        if !kinds.contains(&sample.kind.as_str()) {
            kinds.push(&sample.kind);
        }
    }
    let of_kind = |kind: &str| run.samples.iter().filter(|sample| sample.kind == kind).take(SAMPLES_SHOWN).map(shown).collect();
    let lines = kinds.into_iter().map(|kind| {
        let shown: Vec<String> = of_kind(kind);
        format!("    for example {}: {}", kind.replace('_', " "), shown.join(" · "))
    });
    lines.collect()
}

fn shown(sample: &Sample) -> String {
    let values: Vec<String> = sample
        .fields
        .iter()
        .map(|(field, here, there)| match there {
            Some(there) => format!("{field}: {} ≠ {}", short(here), short(there)),
            None => format!("{field}: {}", short(here)),
        })
        .collect();
    let values = if values.is_empty() { String::new() } else { format!(" ({})", values.join(", ")) };
    format!("{} {}{values}", sample.system, sample.key)
}
