//! A simulated org, and an outside user who speaks the little SQL of the cases. Ids are the org's own: the cases' numbers
//! stand for them, translated on the way in and out. Each statement gets seconds of its own, for a second is the finest
//! that the org stamps a record with.

use super::keyed::{Keyed, Numbers};
use crate::driver::{Driver, Holding, Misfit, Shape, TypeCase};
use async_trait::async_trait;
use concord_connectors::salesforce::{self, SalesforceSettings};
use concord_connectors::settings::{Asked, AskedChanges};
use concord_engine::config::{Connection, SecretText};
use concord_engine::connector::Connector;
use concord_engine::record::{ObjectName, SystemName};
use concord_engine::value::{Date, Time, TimestampTz, Value};
use concord_simulators::salesforce::{Id, Options, Simulator};
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

pub struct SalesforceDriver {
    simulator: Simulator,
    folder: tempfile::TempDir,
    numbers: Arc<Mutex<Numbers>>,
    begun: AtomicBool,
}

struct Held(Arc<concord_simulators::salesforce::Org>);

#[async_trait]
impl Holding for Held {
    async fn end(self: Box<Self>) {
        self.0.faults.clear();
    }
}

impl SalesforceDriver {
    fn statement(&self, statement: &str) {
        if self.begun.swap(true, Ordering::SeqCst) {
            self.simulator.org.clock.advance(1_000);
        }
        let words: Vec<&str> = statement.split_whitespace().collect();
        match words[0] {
            "INSERT" => self.insert(statement, true),
            "UPDATE" => self.update(statement),
            "DELETE" => self.delete(statement),
            "ALTER" if words[3] == "ADD" => self.add_field(&name(words[2]), &name(words[5]), &words[6..].join(" ")),
            "ALTER" if words[3] == "DROP" => self.simulator.org.remove_field(&name(words[2]), &name(words[5])).unwrap(),
            _ => panic!("the outside user does not know how to: {statement}"),
        }
        self.simulator.org.clock.advance(1_000);
    }

    fn insert(&self, statement: &str, stays: bool) {
        let (head, rows) = statement.split_once(" VALUES ").unwrap();
        let (table, columns) = head.trim_start_matches("INSERT INTO ").split_once(" (").unwrap();
        let columns: Vec<String> = columns.trim_end_matches(')').split(',').map(|one| name(one.trim())).collect();
        let mut numbers = Vec::new();
        let mut records: Vec<Map<String, Json>> = Vec::new();
        for row in split(rows, ',').iter().filter(|row| !row.trim().is_empty()) {
            let row = row.trim().strip_prefix('(').unwrap().strip_suffix(')').unwrap();
            let mut record = Map::new();
            let mut number = None;
            for (column, literal) in columns.iter().zip(split(row, ',')) {
                match column.as_str() {
                    "id" => number = literal.trim().parse::<i64>().ok(),
                    _ => drop(record.insert(column.clone(), value(literal.trim()))),
                }
            }
            records.push(record);
            numbers.push(number);
        }
        if !stays {
            records.push(json!({"amount": -1}).as_object().unwrap().clone());
            assert!(self.simulator.person().create_all(&name(table), &records).is_err());
            return;
        }
        let made = self.simulator.person().create_all(&name(table), &records).unwrap();
        for (id, number) in made.iter().zip(numbers) {
            self.numbers.lock().unwrap().tie(&id.to_string(), number);
        }
    }

    /// The records of a condition: `id = 3`, `id <= 3`, or all.
    fn chosen(&self, table: &str, condition: Option<&str>) -> Vec<(Id, Map<String, Json>)> {
        let all: Vec<Map<String, Json>> = serde_json::from_str(&self.simulator.org.records(table, false).unwrap()).unwrap();
        let numbers = self.numbers.lock().unwrap();
        let fits = |id: &str| match condition.map(|text| text.split_whitespace().collect::<Vec<_>>()) {
            None => true,
            Some(words) => {
                let (number, bound) = (numbers.number(id), words[2].parse::<i64>().unwrap());
                if words[1] == "=" { number == Some(bound) } else { number.is_some_and(|number| number <= bound) }
            }
        };
        let id = |record: &Map<String, Json>| record["Id"].as_str().unwrap().to_owned();
        all.into_iter().filter(|record| fits(&id(record))).map(|record| (Id::parse(&id(&record)).unwrap(), record)).collect()
    }

    fn update(&self, statement: &str) {
        let (head, condition) = parts(statement, " WHERE ");
        let (table, settings) = head.trim_start_matches("UPDATE ").split_once(" SET ").unwrap();
        for (id, record) in self.chosen(&name(table), condition) {
            let mut fields = Map::new();
            for setting in split(settings, ',') {
                let (field, to) = setting.split_once('=').unwrap();
                let (field, to) = (name(field.trim()), to.trim());
                let new = match to.strip_prefix(&format!("{field} + ")) {
                    Some(more) => json!(record[&field].as_i64().unwrap_or(0) + more.parse::<i64>().unwrap()),
                    None => value(to),
                };
                fields.insert(field, new);
            }
            self.simulator.person().update(&name(table), id, &fields).unwrap();
        }
    }

    fn delete(&self, statement: &str) {
        let (head, condition) = parts(statement, " WHERE ");
        let table = name(head.trim_start_matches("DELETE FROM ").trim());
        for (id, _) in self.chosen(&table, condition) {
            self.simulator.person().delete(&table, id).unwrap();
        }
    }

    /// A field of a type in the words of a schema file: `currency 18 2`, `string 40`.
    fn add_field(&self, object: &str, field: &str, ty: &str) {
        let words: Vec<&str> = ty.split_whitespace().collect();
        let kind = if words[0] == "TEXT" { "string" } else { words[0] };
        let mut spec = json!({"name": field, "type": kind});
        let number = |place: usize| words.get(place).map(|word| json!(word.parse::<u32>().unwrap()));
        match kind {
            "currency" | "double" | "percent" => {
                spec["precision"] = number(1).unwrap();
                spec["scale"] = number(2).unwrap();
            }
            _ => {
                if let Some(length) = number(1) {
                    spec["length"] = length;
                }
            }
        }
        let file = json!({"objects": [{"name": object, "fields": [spec]}]});
        self.simulator.org.add_schema(&serde_json::from_value(file).unwrap()).unwrap();
    }
}

fn parts<'a>(statement: &'a str, between: &str) -> (&'a str, Option<&'a str>) {
    statement.split_once(between).map_or((statement, None), |(head, tail)| (head, Some(tail)))
}

/// Splits where a character stands outside of quotes and parentheses.
fn split(text: &str, at: char) -> Vec<String> {
    let (mut found, mut quoted, mut depth) = (vec![String::new()], false, 0);
    for letter in text.chars() {
        match letter {
            '\'' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            _ => {}
        }
        if letter == at && !quoted && depth == 0 {
            found.push(String::new());
        } else {
            found.last_mut().unwrap().push(letter);
        }
    }
    found
}

fn name(text: &str) -> String {
    text.trim_matches('"').to_owned()
}

fn value(literal: &str) -> Json {
    match literal.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
        Some(text) => json!(text.replace("''", "'")),
        None if literal == "NULL" => Json::Null,
        None => serde_json::from_str(literal).unwrap_or_else(|error| panic!("{literal}: {error}")),
    }
}

#[async_trait]
impl Driver for SalesforceDriver {
    async fn fresh() -> Self {
        let simulator = Simulator::start(Options::default()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), &simulator.authority_pem).unwrap();
        std::fs::write(folder.path().join("secret"), "simulated-secret").unwrap();
        SalesforceDriver { simulator, folder, numbers: Arc::default(), begun: AtomicBool::new(false) }
    }

    async fn table(&self, shape: Shape, name: &str) -> ObjectName {
        assert!(matches!(shape, Shape::Accounts), "every object of an org has the same kind of key");
        let fields = json!([
            {"name": "name", "type": "string", "length": 255, "nameField": true},
            {"name": "email", "type": "string", "length": 255, "unique": true},
            {"name": "amount", "type": "int"},
            {"name": "note", "type": "string", "length": 32_000},
        ]);
        let file = json!({"objects": [{"name": name, "keyPrefix": format!("z{:02}", name.len()), "fields": fields}]});
        self.simulator.org.add_schema(&serde_json::from_value(file).unwrap()).unwrap();
        let rules =
            json!({"validation": [{"object": name, "when": "amount < 0", "message": "at least zero", "field": "amount"}]});
        self.simulator.org.state().rules.add(serde_json::from_value(rules).unwrap()).unwrap();
        ObjectName::from(name)
    }

    async fn run(&self, statements: &[&str]) {
        for statement in statements {
            self.statement(statement);
        }
    }

    async fn run_and_roll_back(&self, statement: &str) {
        self.insert(statement, false);
    }

    async fn hold(&self, _: &str) -> Box<dyn Holding> {
        let fault = json!({"on": {"object": "accounts"}, "times": null, "do": "lock_row"});
        self.simulator.org.faults.add(serde_json::from_value(fault).unwrap());
        Box::new(Held(Arc::clone(&self.simulator.org)))
    }

    async fn open(&self) -> Arc<dyn Connector> {
        let connection = json!({
            "type": "salesforce",
            "credentials": {
                "instance_url": format!("http://{}", self.simulator.addresses.http),
                "client_id": "3MVG9simulated.app",
                "client_secret": {"file": self.folder.path().join("secret")},
                "sslrootcert": self.folder.path().join("ca.pem"),
            },
            "options": {"pubsub_url": format!("https://localhost:{}", self.simulator.addresses.pubsub.port())},
        });
        let connection: Connection = serde_json::from_value(connection).unwrap();
        let stored = |_: &str| Ok(None::<SecretText>);
        let name = SystemName::from("crm");
        let asked = Asked {
            name: &name,
            connection: &connection,
            installation: "i",
            stored: &stored,
            keep: None,
            changes: AskedChanges::default(),
        };
        let inner = Arc::new(salesforce::open(SalesforceSettings::read(&asked).unwrap()).unwrap());
        Arc::new(Keyed { inner, numbers: Arc::clone(&self.numbers) })
    }

    async fn catalogue(&self) -> BTreeSet<String> {
        let state = self.simulator.org.state();
        state
            .data
            .schema
            .objects()
            .flat_map(|object| object.fields().map(|(_, field)| format!("{}.{}", object.name, field.name)).collect::<Vec<_>>())
            .collect()
    }

    async fn lose_feed(&self) {
        self.simulator.org.clock.advance(4 * 86_400_000);
    }

    async fn cut(&self) {
        self.simulator.org.faults.add(serde_json::from_value(json!({"do": "stream_cut"})).unwrap());
    }

    fn emptying(&self, table: &str) -> String {
        format!("DELETE FROM {table}")
    }

    fn upper_case_trigger(&self, _: &str) -> Vec<String> {
        panic!("the simulated org's triggers set fields to fixed values")
    }

    fn type_cases(&self) -> Vec<TypeCase> {
        let case = |column, literal: &str, value| TypeCase { column, literal: literal.to_owned(), value };
        let stamp = TimestampTz::parse("2024-02-29T23:59:59Z").unwrap();
        vec![
            case("string 40", "NULL", Value::Null),
            case("string 40", "'Zoë 🦀 ''q'' \"d\" \\ back'", Value::text("Zoë 🦀 'q' \"d\" \\ back")),
            case("string 40", "'007'", Value::text("007")),
            case("textarea 32000", "'two\nlines, \tone tab'", Value::text("two\nlines, \tone tab")),
            case("phone", "'+49 228 1'", Value::text("+49 228 1")),
            case("url", "'https://x.example/?a=b&c'", Value::text("https://x.example/?a=b&c")),
            case("boolean", "true", Value::Bool(true)),
            case("boolean", "false", Value::Bool(false)),
            case("int", "-12345678", Value::Int(-12_345_678)),
            case("int", "0", Value::Int(0)),
            case("currency 18 2", "1234567890.12", Value::decimal("1234567890.12").unwrap()),
            case("currency 18 2", "350000000", Value::decimal("350000000").unwrap()),
            case("double 18 6", "-0.000001", Value::decimal("-0.000001").unwrap()),
            case("percent 5 2", "12.5", Value::decimal("12.5").unwrap()),
            case("date", "'2024-02-29'", Value::Date(Date::new(2024, 2, 29).unwrap())),
            case("datetime", "'2024-02-29T23:59:59Z'", Value::TimestampTz(stamp)),
            case("time", "'23:59:59.000Z'", Value::Time(Time::parse("23:59:59").unwrap())),
        ]
    }

    fn misfits(&self) -> Vec<Misfit> {
        let decimal = |digits: &str| Value::decimal(digits).unwrap();
        vec![
            Misfit { column: "string 5", value: Value::text("longer") },
            Misfit { column: "string 5", value: Value::text("") },
            Misfit { column: "string 5", value: Value::Bytes(vec![1]) },
            Misfit { column: "int", value: Value::Int(3_000_000_000) },
            Misfit { column: "int", value: decimal("1.5") },
            Misfit { column: "currency 5 2", value: decimal("1234.5") },
            Misfit { column: "currency 5 2", value: decimal("1.234") },
            Misfit { column: "boolean", value: Value::Null },
            Misfit { column: "date", value: Value::text("2024-02-29") },
            Misfit { column: "datetime", value: Value::TimestampTz(TimestampTz::parse("2024-02-29T23:59:59.5Z").unwrap()) },
        ]
    }
}
