//! Words for the trace: values, keys, rows, commits and writes on one short line each.

use crate::database::{Author, Change, Commit};
use crate::world::World;
use concord_engine::connector::{Operation, Outcome};
use concord_engine::record::{Key, Record};
use concord_engine::schema::Field;
use concord_engine::value::Value;

/// A value.
pub fn value(value: &Value) -> String {
    match value {
        Value::Null => "∅".to_owned(),
        Value::Text(text) => format!("{text:?}"),
        Value::Int(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        other => format!("{other:?}"),
    }
}

/// A key.
pub fn key(key: &Key) -> String {
    key.0.iter().map(value).collect::<Vec<_>>().join("/")
}

/// The fields of a record.
pub fn record(record: &Record) -> String {
    let fields: Vec<String> = record.iter().map(|(name, shown)| format!("{name}={}", value(shown))).collect();
    fields.join(" ")
}

/// Who committed.
pub fn author(author: &Author) -> String {
    match author {
        Author::Initial => "initial".to_owned(),
        Author::User(number) => format!("user #{number}"),
        Author::Engine(mark) => format!("ENGINE flight {}", mark.intent),
        Author::Workflow => "workflow".to_owned(),
        Author::Administrator => "administrator".to_owned(),
    }
}

fn change(change: &Change) -> String {
    let how = if change.reaction { " (trigger)" } else { "" };
    match (&change.before, &change.after) {
        (None, Some(after)) => format!("insert {}: {}{how}", key(&after.key), record(&after.fields)),
        (Some(before), None) => format!("delete {}{how}", key(&before.key)),
        (Some(before), Some(after)) => {
            let changed: Record = after
                .fields
                .iter()
                .filter(|(name, value)| before.fields.get(name.as_str()) != Some(value))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            format!("update {}: {}{how}", key(&before.key), record(&changed))
        }
        (None, None) => "nothing".to_owned(),
    }
}

/// A commit.
pub fn commit(commit: &Commit) -> String {
    let column = |field: &Field| format!("{} {:?} ({:?})", field.name, field.ty, field.origin);
    let columns = commit.altered.iter().flat_map(|schema| schema.fields.iter().map(column));
    let changes: Vec<String> = commit.changes.iter().map(change).chain(columns).collect();
    format!("commit {} by {}: {}", commit.number, author(&commit.author), changes.join("; "))
}

/// A write of the engine.
pub fn operation(operation: &Operation) -> String {
    match operation {
        Operation::Create { image, absent_by } => format!("create {} absent by {absent_by:?}", record(image)),
        Operation::Update { key: of, set, guard } => format!("update {} set {} if {}", key(of), record(set), record(guard)),
        Operation::Delete { key: of, guard } => format!("delete {} if {}", key(of), record(guard)),
    }
}

/// What became of a write.
pub fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Written { key: of, .. } => format!("written {}", key(of)),
        Outcome::Missed => "missed".to_owned(),
        Outcome::Collision => "collision".to_owned(),
        Outcome::Locked => "locked".to_owned(),
        Outcome::Failed(error) => format!("failed: {error}"),
        Outcome::Unknown => "unknown".to_owned(),
    }
}

/// A world's rules, a line each.
pub fn world(world: &World) -> Vec<String> {
    let mut lines = vec![format!(
        "on delete {:?}, against edit {:?}, start {:?}, matched {}, batch {}, parallel {}, kills {}, faults {}, users wait {}",
        world.on_delete,
        world.against_edit,
        world.start,
        world.matched,
        world.batch_size,
        world.parallelism,
        world.kills,
        world.faults,
        world.users_wait
    )];
    lines.push(format!("{:?}", world.further));
    for member in &world.members {
        lines.push(format!(
            "{}: {:?}, unique {}, {:?}, {:?}",
            member.name, member.keys, member.unique, member.triggers, member.profile
        ));
    }
    for field in &world.fields {
        let decide = world.groups.get(field.group);
        lines.push(format!(
            "{}: group {} {decide:?} {:?} {:?} {:?}",
            field.name, field.group, field.flow, field.purpose, field.short_at
        ));
    }
    lines
}
