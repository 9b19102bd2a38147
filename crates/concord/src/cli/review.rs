//! `concord review`: what waits for a person, and the person's decisions. Whatever is decided is planned from the records
//! as they are by then.

use super::Context;
use crate::answers::Said;
use crate::answers::review::Item;
use crate::control::{Ask, Decision};
use crate::exit::Exit;
use crate::terminal::Style;
use clap::{Args, Subcommand};
use concord_engine::error::{Code, Error, Result};

/// Look at what waits for a person, and decide it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  concord review list\n  concord review show 12\n  concord review resolve 12 --take crm")]
pub struct Review {
    #[command(subcommand)]
    command: ReviewCommand,
}

#[derive(Debug, Subcommand)]
enum ReviewCommand {
    /// List what waits.
    #[command(after_help = "Example:\n  concord review list --sync accounts")]
    List(List),
    /// Show one item, with what can be done about it.
    #[command(after_help = "Example:\n  concord review show 12")]
    Show(Number),
    /// Decide an item.
    #[command(
        after_help = "Example:\n  concord review resolve 12 --take crm\n  concord review resolve 12 --set phone=+16502530000"
    )]
    Resolve(Resolve),
    /// Try again; for a mass delete, let the deletes through.
    #[command(after_help = "Example:\n  concord review retry 12")]
    Retry(Number),
    /// Leave the record as it is; for a mass delete, make the records anew.
    #[command(after_help = "Example:\n  concord review ignore 12")]
    Ignore(Number),
}

#[derive(Debug, Args)]
struct List {
    /// Of this sync alone.
    #[arg(long)]
    sync: Option<String>,
    /// Closed items, too.
    #[arg(long)]
    all: bool,
    /// The newest so many.
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

#[derive(Debug, Args)]
struct Number {
    /// The item's number.
    id: u64,
}

#[derive(Debug, Args)]
struct Resolve {
    /// The item's number.
    id: u64,
    #[command(flatten)]
    way: Way,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Way {
    /// The value, or the view, of this system.
    #[arg(long, value_name = "SYSTEM")]
    take: Option<String>,
    /// A value of your own, for each field of the group; an empty one is no value.
    #[arg(long, value_name = "FIELD=VALUE")]
    set: Vec<String>,
    /// The candidate of this number.
    #[arg(long, value_name = "NUMBER")]
    bind: Option<usize>,
    /// A record of its own.
    #[arg(long)]
    create: bool,
}

/// Runs the command.
pub async fn run(review: &Review, context: &Context) -> Result<Exit> {
    match &review.command {
        ReviewCommand::List(list) => {
            let ask = Ask::ReviewList { sync: list.sync.clone(), all: list.all, limit: list.limit };
            show_list(&context.ask::<Vec<Item>>(&ask).await?, context);
            Ok(Exit::Fine)
        }
        ReviewCommand::Show(number) => {
            show_item(&context.ask::<Item>(&Ask::ReviewShow { id: number.id }).await?, context);
            Ok(Exit::Fine)
        }
        ReviewCommand::Resolve(resolve) => decide(resolve.id, decision(&resolve.way)?, context).await,
        ReviewCommand::Retry(number) => decide(number.id, Decision::Retry, context).await,
        ReviewCommand::Ignore(number) => decide(number.id, Decision::Ignore, context).await,
    }
}

async fn decide(id: u64, decision: Decision, context: &Context) -> Result<Exit> {
    let said: Said = context.ask(&Ask::ReviewDecide { id, decision }).await?;
    if context.terminal.json {
        context.terminal.document(&said)
    } else {
        context.terminal.line(&said.said)
    }
    Ok(Exit::Fine)
}

fn decision(way: &Way) -> Result<Decision> {
    if let Some(system) = &way.take {
        return Ok(Decision::Take { system: system.clone() });
    }
    if let Some(candidate) = way.bind {
        return Ok(Decision::Bind { candidate });
    }
    if way.create {
        return Ok(Decision::Create);
    }
    let value = |text: &String| {
        let (field, value) = text
            .split_once('=')
            .ok_or_else(|| Error::new(Code::ArgumentWrong, format!("--set takes FIELD=VALUE, and `{text}` has no `=`")))?;
        let value = if value.is_empty() { serde_json::Value::Null } else { value.into() };
        Ok((field.to_string(), value))
    };
    Ok(Decision::Give { values: way.set.iter().map(value).collect::<Result<_>>()? })
}

fn show_list(items: &[Item], context: &Context) {
    let terminal = &context.terminal;
    if terminal.json {
        terminal.document(&items);
    } else if items.is_empty() {
        terminal.line("nothing waits for a decision");
    } else {
        let rows = items.iter().map(|item| {
            vec![
                item.id.to_string(),
                item.sync.clone(),
                if item.closed.is_some() { "closed".into() } else { "open".into() },
                item.kind.clone(),
                item.code.clone(),
                item.opened.clone(),
                item.message.clone(),
            ]
        });
        terminal.line(&terminal.table(&["id", "sync", "state", "kind", "code", "opened", "what"], rows));
    }
}

fn show_item(item: &Item, context: &Context) {
    let terminal = &context.terminal;
    if terminal.json {
        terminal.document(item);
        return;
    }
    terminal.line(&format!("{} {} [{}]", terminal.paint(Style::Strong, &format!("review {}", item.id)), item.message, item.code));
    let mut lines = vec![("sync", item.sync.as_str()), ("opened", item.opened.as_str())];
    lines.extend(item.closed.as_ref().map(|closed| ("closed", closed.as_str())));
    lines.extend(item.details.iter().map(|(label, value)| (label.as_str(), value.as_str())));
    let width = lines.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    for (label, value) in lines {
        terminal.line(&format!("  {label:<width$}  {value}"));
    }
    if !item.ways.is_empty() {
        terminal.line("what you can do:");
    }
    for way in &item.ways {
        terminal.line(&format!("  concord review {way}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(set: &[&str]) -> Way {
        Way { take: None, set: set.iter().map(ToString::to_string).collect(), bind: None, create: false }
    }

    #[test]
    fn values_are_given_field_by_field() {
        let given = decision(&way(&["phone=+1 650=x", "city="])).unwrap();
        let values = vec![("phone".to_string(), "+1 650=x".into()), ("city".to_string(), serde_json::Value::Null)];
        assert_eq!(given, Decision::Give { values });
    }

    #[test]
    fn a_value_without_a_field_is_refused() {
        assert_eq!(decision(&way(&["phone"])).unwrap_err().code, Code::ArgumentWrong);
    }
}
