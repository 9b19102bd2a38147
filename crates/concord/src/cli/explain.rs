//! `concord explain`: the life of a record, or of one value in it.

use super::Context;
use crate::answers::explain::{Explanation, Happened};
use crate::control::Ask;
use crate::exit::Exit;
use crate::terminal::{Style, Terminal};
use clap::Args;
use concord_engine::error::Result;

/// Tell the life of a record.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  concord explain accounts 4711\n  concord explain accounts 4711 phone\n  concord explain accounts erp:17"
)]
pub struct Explain {
    /// The sync.
    sync: String,
    /// The record's key, in any of the systems, or as SYSTEM:KEY; several columns as (a,b).
    key: String,
    /// One field alone, by its canonical name.
    field: Option<String>,
    /// The newest so many events.
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

/// Runs the command.
pub async fn run(explain: &Explain, context: &Context) -> Result<Exit> {
    let (sync, key, field, limit) = (explain.sync.clone(), explain.key.clone(), explain.field.clone(), explain.limit);
    let found: Explanation = context.ask(&Ask::Explain { sync, key, field, limit }).await?;
    if context.terminal.json {
        context.terminal.document(&found);
    } else {
        context.terminal.line(&render(&found, &context.terminal));
    }
    Ok(Exit::Fine)
}

fn render(found: &Explanation, terminal: &Terminal) -> String {
    let mut lines = Vec::new();
    if let Some(link) = found.link {
        lines.push(format!("{} record {link}: {}", terminal.paint(Style::Strong, &found.sync), found.life));
    }
    let unknown = || "?".to_string();
    for member in &found.members {
        let key = member.key.clone().unwrap_or_else(|| "-".into());
        let waiting = if member.waiting.is_empty() { String::new() } else { format!(" ({})", member.waiting.join(", ")) };
        lines.push(format!("  {} {key} {}{waiting}", terminal.paint(Style::Strong, &member.member), member.standing));
        for (field, value) in &member.values {
            lines.push(format!("    {field} = {}", value.clone().unwrap_or_else(unknown)));
        }
    }
    lines.extend(found.waits_for.iter().map(|waited| format!("  waits for {waited}")));
    if !found.agreed.is_empty() {
        lines.push("  agreed".to_string());
    }
    for field in &found.agreed {
        let held = field.held.map_or(String::new(), |review| format!(", held by review {review}"));
        lines.push(format!("    {} = {} (from {}, edited {}{held})", field.field, field.value, field.from, field.edited));
    }
    if !found.history.is_empty() {
        lines.push("  history, newest first".to_string());
    }
    for happened in &found.history {
        lines.push(format!("    {} {} {} {}", happened.at, happened.what, happened.member, happened.key));
        lines.extend(fields(happened));
    }
    for other in &found.others {
        lines.push(format!("another record has this key: concord explain {} {other}", found.sync));
    }
    lines.join("\n")
}

fn fields(happened: &Happened) -> Vec<String> {
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "?".into());
    happened
        .fields
        .iter()
        .map(|field| {
            let values = format!("{} → {}", shown(&field.old), shown(&field.new));
            format!("      {}: {values} (from {}, edited {}, {})", field.field, field.from, field.edited, field.rule)
        })
        .collect()
}
