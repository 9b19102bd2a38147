//! What the vendor itself fills in or derives: defaults, names of persons, what a stage implies.

use crate::salesforce::ids::Id;
use crate::salesforce::record::Record;
use crate::salesforce::schema::{Kind, Object};
use crate::salesforce::values::Value;
use crate::salesforce::values::read::{Given, read};

/// Defaults of a new record.
pub fn defaults(object: &Object, record: &mut Record, author: Id) {
    for (at, field) in object.fields().skip(7) {
        match (&field.default, field.kind) {
            (Some(text), _) if !text.is_empty() => {
                if let Ok(value) = read(field, &Given::Cell(text.clone())) {
                    record.set(at, value);
                }
            }
            (_, Kind::Boolean) => record.set(at, Value::Bool(false)),
            _ if field.name == "OwnerId" => record.set(at, Value::Id(author)),
            _ => {}
        }
    }
}

/// Fields that follow from others.
pub fn derive(object: &Object, old: Option<&Record>, record: &mut Record) {
    if let (Some((name, _)), Some((last, _))) = (object.field("Name"), object.field("LastName")) {
        let part = |field: &str| object.field(field).and_then(|(at, _)| record.get(at).as_text()).unwrap_or("").to_string();
        let full = format!("{} {}", part("FirstName"), record.get(last).as_text().unwrap_or(""));
        record.set(name, Value::text(full.trim()));
    }
    if object.name == "Opportunity" {
        opportunity(object, old, record);
    }
}

/// A stage says whether the deal is closed and won; a new stage brings its probability, unless the client set one.
fn opportunity(object: &Object, old: Option<&Record>, record: &mut Record) {
    let place = |name: &str| object.field(name).map(|(at, _)| at);
    let (Some(stage), Some(probability)) = (place("StageName"), place("Probability")) else { return };
    let stage_name = record.get(stage).as_text().unwrap_or("").to_string();
    let stage_is_new = old.is_none_or(|old| old.get(stage) != record.get(stage));
    let untouched = old.map_or(record.get(probability).is_null(), |old| old.get(probability) == record.get(probability));
    if stage_is_new && untouched {
        let percent = match stage_name.as_str() {
            "Prospecting" => 10.0,
            "Qualification" => 10.0,
            "Needs Analysis" => 20.0,
            "Value Proposition" => 50.0,
            "Id. Decision Makers" => 60.0,
            "Perception Analysis" => 70.0,
            "Proposal/Price Quote" => 75.0,
            "Negotiation/Review" => 90.0,
            "Closed Won" => 100.0,
            _ => 0.0,
        };
        record.set(probability, Value::Double(percent));
    }
    if let Some(closed) = place("IsClosed") {
        record.set(closed, Value::Bool(stage_name.starts_with("Closed")));
    }
    if let Some(won) = place("IsWon") {
        record.set(won, Value::Bool(stage_name == "Closed Won"));
    }
}

/// `A-{0000}` and 7 → `A-0007`.
pub fn auto_number(pattern: &str, number: u64) -> String {
    match (pattern.split_once('{'), pattern.split_once('}')) {
        (Some((front, zeros)), Some((_, end))) => {
            let width = zeros.find('}').unwrap_or(1);
            format!("{front}{number:0width$}{end}")
        }
        _ => format!("{pattern}{number}"),
    }
}
